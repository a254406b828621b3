//! What can go wrong with a call, by what the caller can do about it.
//!
//! The hub names the cause of every refusal with a stable reason (`google.rpc.ErrorInfo`, domain `isthmus.v1`).
//! [`Refusal`] carries it typed, beside the gRPC code, the hub's own sentence and the time to come back
//! (`google.rpc.RetryInfo`). The other variants of [`Error`] never come from the hub: nothing could be reached, the
//! deadline passed, an answer made no sense. [`Error::advice`] says in one sentence what to do.
//!
//! No variant carries what was sent, so errors can be logged.

use std::{collections::BTreeMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

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

/// The stable reasons that callers act on. What isn't listed is [`Reason::Other`], with the hub's word.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The node that answered doesn't lead the shard: `leader` in the metadata does. Retried by this client.
    NotLeader,
    /// A shard has no leader now. Retried by this client.
    NoLeader,
    /// The node's shard map was old. Retried by this client.
    StaleShardMap,
    /// A limit on rate or queues was reached. Retried by this client when the hub said so.
    Overloaded,
    /// The hub itself doesn't know by the deadline. Retried by this client where that is safe.
    OutcomeUnknown,
    /// The nodes that would remain could not hold the data.
    QuorumAtRisk,
    /// There is no such thing.
    NotFound,
    /// The person was erased.
    Erased,
    /// Any other reason, by its stable name.
    Other(String),
    /// The answer carried no reason.
    Unsaid,
}

impl Reason {
    /// The reason of a stable name such as `NO_LEADER`.
    pub fn of(name: &str) -> Self {
        match name {
            "NOT_LEADER" => Self::NotLeader,
            "NO_LEADER" => Self::NoLeader,
            "STALE_SHARD_MAP" => Self::StaleShardMap,
            "OVERLOADED" => Self::Overloaded,
            "OUTCOME_UNKNOWN" => Self::OutcomeUnknown,
            "QUORUM_AT_RISK" => Self::QuorumAtRisk,
            "NOT_FOUND" => Self::NotFound,
            "ERASED" => Self::Erased,
            "" => Self::Unsaid,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its stable name; empty for [`Reason::Unsaid`].
    pub fn as_str(&self) -> &str {
        match self {
            Self::NotLeader => "NOT_LEADER",
            Self::NoLeader => "NO_LEADER",
            Self::StaleShardMap => "STALE_SHARD_MAP",
            Self::Overloaded => "OVERLOADED",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::QuorumAtRisk => "QUORUM_AT_RISK",
            Self::NotFound => "NOT_FOUND",
            Self::Erased => "ERASED",
            Self::Other(name) => name,
            Self::Unsaid => "",
        }
    }

    /// `REASON: `, or nothing.
    fn as_prefix(&self) -> String {
        if *self == Self::Unsaid { String::new() } else { format!("{}: ", self.as_str()) }
    }
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
            message: match status.message() {
                "" => status.code().description().to_owned(),
                message => message.to_owned(),
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

impl Error {
    /// The hub's reason, where it answered.
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

    #[test]
    fn reasons_keep_their_names() {
        for name in
            ["NOT_LEADER", "NO_LEADER", "STALE_SHARD_MAP", "OVERLOADED", "OUTCOME_UNKNOWN", "QUORUM_AT_RISK"]
        {
            assert_eq!(Reason::of(name).as_str(), name);
        }
        assert_eq!(Reason::of("BATCH_TOO_MANY"), Reason::Other("BATCH_TOO_MANY".into()));
    }
}
