//! What can go wrong with a call, by what the caller can do about it.
//!
//! The hub names the cause of every refusal with a stable reason (`google.rpc.ErrorInfo`, domain `isthmus.v1`).
//! [`Refusal`] carries it typed, beside the gRPC code, the hub's own sentence and the time to come back
//! (`google.rpc.RetryInfo`). The other variants of [`Error`] never come from the hub: nothing could be reached, the
//! deadline passed, an answer made no sense. [`Error::advice`] says in one sentence what to do.
//!
//! No variant carries what was sent, so errors can be logged.

use std::{collections::BTreeMap, error::Error as _, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub use crate::reason::Reason;

/// Why a call did not end well.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client was built or asked wrongly; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// No endpoint could be connected to before the deadline; nothing was sent.
    #[error("none of the endpoints can be reached: {0}")]
    Unreachable(String),
    /// The deadline passed, or the connection broke, after a write was sent: it may have happened or not.
    #[error("the outcome is not known: {0}")]
    OutcomeUnknown(String),
    /// The deadline passed before a read was answered.
    #[error("no answer within the deadline: {0}")]
    Deadline(String),
    /// The hub answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The hub's answer lacks something that the interface promises.
    #[error("the answer makes no sense: {0}")]
    BadAnswer(&'static str),
}

/// An error that the hub answered with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{message}", reason.as_prefix())]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason.
    pub reason: Reason,
    /// The hub's own sentence, for people; without personal data.
    pub message: String,
    /// The `ErrorInfo`'s further facts, such as the `leader` of NOT_LEADER.
    pub metadata: BTreeMap<String, String>,
    /// Fields of the request that are wrong, each with what is wrong with it (`google.rpc.BadRequest`).
    pub fields: Vec<(String, String)>,
    /// When to come back, where the hub said so.
    pub retry_after: Option<Duration>,
    /// The id that the call carried, to be found in the hub's logs.
    pub request_id: String,
}

impl Refusal {
    /// Reads a status with its details.
    pub(crate) fn of(status: &Status, request_id: &str) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.filter(|info| info.domain == isthmus_proto::ERROR_DOMAIN);
        Self {
            code: status.code(),
            reason: Reason::of(reason.map_or("", |info| info.reason.as_str())),
            message: match (cause(status), status.message()) {
                (Some(cause), _) => cause,
                (None, "") => status.code().description().to_owned(),
                (None, message) => message.to_owned(),
            },
            metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| {
                    bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect()
                })
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            request_id: request_id.to_owned(),
        }
    }
}

/// What lies at the bottom of a failure on this side: of a connection that was refused, of a certificate that is not
/// trusted. Nothing when the hub answered.
fn cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

impl Error {
    /// The hub's reason, where it answered.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let endpoint = hub.endpoint();
    /// use isthmus_client::{Client, Reason};
    ///
    /// let client = Client::builder().endpoints([endpoint]).write_key("made up").connect_lazy()?;
    /// let event = serde_json::json!({"type": "track", "event": "Seen", "userId": "42"});
    /// let refused = client.ingest_one(event).await.unwrap_err();
    /// assert_eq!(refused.reason(), Some(&Reason::WriteKeyInvalid));
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused(refusal) => Some(&refusal.reason),
            _ => None,
        }
    }

    /// The gRPC code of the hub's answer, where it answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// When the hub said to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether there is no such thing (profile, entry, source, node).
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// What to do about it, in one sentence for people. Nothing where the message already says it.
    pub fn advice(&self) -> Option<String> {
        let refusal = match self {
            Self::Usage(_) => return None,
            Self::Unreachable(_) => {
                return Some(
                    "check that a node runs, and name it with --endpoint or ISTHMUS_ENDPOINT".into(),
                );
            }
            Self::OutcomeUnknown(_) => {
                return Some(
                    "look at what is there; events may be sent again with the same message ids".into(),
                );
            }
            Self::Deadline(_) => return Some("try again, or allow more time".into()),
            Self::BadAnswer(_) => return Some("use a client of the cluster's version".into()),
            Self::Refused(refusal) => refusal,
        };
        let text = match (&refusal.reason, refusal.code) {
            (Reason::QuorumAtRisk, _) => "add a node first, or bring back those that are down",
            (Reason::NotFound | Reason::Erased, _) | (_, Code::NotFound) => return None,
            (_, Code::Unauthenticated) => {
                "give a write key that is in force; `isthmus source rotate` makes a new one"
            }
            (_, Code::PermissionDenied) => "ask for the right to do this",
            (_, Code::AlreadyExists) => "choose another name",
            (_, Code::ResourceExhausted) => match refusal.retry_after {
                Some(after) => return Some(format!("come back in {after:?}, or send less at a time")),
                None => "come back later, or send less at a time",
            },
            (_, Code::Unavailable) => "try again; `isthmus cluster status` says what is amiss",
            (_, Code::OutOfRange) => "send smaller batches",
            (_, Code::Unimplemented) => "use a client of the cluster's version",
            (_, Code::Internal | Code::Unknown | Code::DataLoss) => {
                return Some(format!("look for request {} in the nodes' logs", refusal.request_id));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_carries_reason_metadata_and_time_to_come_back() {
        let mut details = ErrorDetails::with_error_info(
            "NOT_LEADER",
            "isthmus.v1",
            [("leader".to_owned(), "2".to_owned())],
        );
        details.set_retry_info(Some(Duration::from_millis(40)));
        details.add_bad_request_violation("limit", "is 5,000; at most 1,000");
        let status = Status::with_error_details(Code::FailedPrecondition, "not here", details);
        let refusal = Refusal::of(&status, "r1");
        assert_eq!(refusal.reason, Reason::NotLeader);
        assert_eq!(refusal.metadata["leader"], "2");
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(40)));
        assert_eq!(refusal.fields, [("limit".to_owned(), "is 5,000; at most 1,000".to_owned())]);
        assert_eq!(refusal.to_string(), "NOT_LEADER: not here");
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let details =
            ErrorDetails::with_error_info("NO_LEADER", "proxy.example", [] as [(String, String); 0]);
        let status = Status::with_error_details(Code::Unavailable, "", details);
        assert_eq!(Refusal::of(&status, "").reason, Reason::Unsaid);
    }
}
