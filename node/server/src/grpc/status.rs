//! One way from any error to what a client sees of it.
//!
//! Every failure of a call is a `google.rpc.Status` with an `ErrorInfo` of the domain `isthmus.v1`: its reason is what
//! programs act on, its message is for people and says what to do. Where coming back helps, `RetryInfo` says when;
//! where fields are to be mended, `BadRequest` names them. No text holds anything that a customer or sender said.

use std::{collections::HashMap, time::Duration};

use isthmus_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Something that a call can fail with.
pub trait Fault {
    /// The canonical code.
    fn code(&self) -> Code;
    /// The stable reason, in upper snake case.
    fn reason(&self) -> &str;
    /// For people: what is wrong and what to do.
    fn message(&self) -> String;
    /// For programs: what the reason is about, such as the shard.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// When to come back; `None` where coming back as it is can't help.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
    /// Fields of the request to be mended, with what is wrong with each.
    fn fields(&self) -> &[(&'static str, String)] {
        &[]
    }
}

/// What a client sees of a failure.
pub fn status(fault: &impl Fault) -> Status {
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> =
        fault.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    details.set_error_info(fault.reason(), ERROR_DOMAIN, metadata);
    if let Some(wait) = fault.retry_after() {
        details.set_retry_info(Some(wait));
    }
    if !fault.fields().is_empty() {
        let fields = fault.fields().iter().map(|(field, what)| FieldViolation::new(*field, what.as_str()));
        details.set_bad_request(fields.collect::<Vec<_>>());
    }
    Status::with_error_details(fault.code(), fault.message(), details)
}

/// A failure that a gateway itself finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A failure with its reason.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, reason, message, metadata: Vec::new(), retry_after: None, fields: Vec::new() }
    }

    /// A field of the request is not what it should be.
    pub fn field(reason: &'static str, field: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        let mut refusal = Self::new(Code::InvalidArgument, reason, format!("{field}: {what}"));
        refusal.fields.push((field, what));
        refusal
    }

    /// Several things are wrong with a field; `message` tells them all.
    pub fn field_problems(
        code: Code,
        reason: &'static str,
        message: impl Into<String>,
        field: &'static str,
        problems: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut refusal = Self::new(code, reason, message);
        refusal.fields = problems.into_iter().map(|problem| (field, problem)).collect();
        refusal
    }

    /// Something that was asked for is not there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", what)
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what it is about, for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }
}

impl Fault for Refusal {
    fn code(&self) -> Code {
        self.code
    }

    fn reason(&self) -> &str {
        self.reason
    }

    fn message(&self) -> String {
        self.message.clone()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.metadata.clone()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status(&refusal)
    }
}

impl Fault for isthmus_router::Error {
    fn code(&self) -> Code {
        match self {
            Self::NoLeader { .. } | Self::Unavailable { .. } | Self::DiskFull { .. } | Self::Stopping => {
                Code::Unavailable
            }
            Self::StaleShardMap { .. } | Self::CursorTooOld => Code::FailedPrecondition,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::OutcomeUnknown { .. } | Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::NoShard { .. } | Self::NoReplica { .. } => Code::NotFound,
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::BadReply { .. } => Code::Internal,
        }
    }

    fn reason(&self) -> &str {
        Self::reason(self)
    }

    fn message(&self) -> String {
        self.to_string()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.shard().map(|shard| ("shard", shard.to_string())).into_iter().collect()
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
}

impl Fault for isthmus_coordinator::Error {
    fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => match code.as_str() {
                "ALREADY_EXISTS" => Code::AlreadyExists,
                "NOT_FOUND" => Code::NotFound,
                "INVALID_ARGUMENT" => Code::InvalidArgument,
                "STALE_VIEW" => Code::Aborted,
                "TOO_MANY" => Code::ResourceExhausted,
                _ => Code::FailedPrecondition,
            },
            Self::NoLeader(_) | Self::Stopped | Self::NotMetadataPeer => Code::Unavailable,
            Self::OutcomeUnknown => Code::DeadlineExceeded,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::WrongCluster => Code::FailedPrecondition,
            _ => Code::Internal,
        }
    }

    fn reason(&self) -> &str {
        Self::reason(self)
    }

    fn message(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::NoLeader(_) | Self::OutcomeUnknown => Some(Duration::from_millis(200)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn shown(fault: &impl Fault) -> (Code, String, bool) {
        let status = status(fault);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "isthmus.v1");
        (status.code(), info.reason.clone(), details.retry_info().is_some())
    }

    #[test]
    fn routers_errors_have_the_codes_of_the_table() {
        use isthmus_router::Error;
        for (error, code, reason, again) in [
            (Error::NoLeader { shard: 16 }, Code::Unavailable, "NO_LEADER", true),
            (Error::StaleShardMap { version: 1 }, Code::FailedPrecondition, "STALE_SHARD_MAP", true),
            (
                Error::Overloaded { retry_after: Duration::from_millis(50) },
                Code::ResourceExhausted,
                "OVERLOADED",
                true,
            ),
            (
                Error::DiskFull { shard: 16, retry_after: Duration::from_secs(5) },
                Code::Unavailable,
                "DISK_FULL",
                true,
            ),
            (Error::OutcomeUnknown { shard: 16 }, Code::DeadlineExceeded, "OUTCOME_UNKNOWN", true),
            (Error::NoShard { shard: 1 }, Code::NotFound, "NOT_FOUND", false),
        ] {
            assert_eq!(shown(&error), (code, reason.to_owned(), again));
        }
    }

    #[test]
    fn a_refused_field_is_named_in_the_details() {
        let refusal = Refusal::field("INVALID_CURSOR", "cursor", "is not one of ours");
        let status = status(&refusal);
        let details = status.get_error_details();
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!((fields.len(), fields[0].field.as_str()), (1, "cursor"));
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_refusal_of_the_metadata_group_keeps_its_code_as_reason() {
        let refused = |code: &str| isthmus_coordinator::Error::Refused {
            code: code.to_owned(),
            message: "why".to_owned(),
        };
        assert_eq!(shown(&refused("ALREADY_EXISTS")), (Code::AlreadyExists, "ALREADY_EXISTS".into(), false));
        assert_eq!(
            shown(&refused("QUORUM_AT_RISK")),
            (Code::FailedPrecondition, "QUORUM_AT_RISK".into(), false)
        );
    }
}
