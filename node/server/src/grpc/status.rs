//! One way from any error to what a gRPC client sees of it.
//!
//! Every failure of a call is a `google.rpc.Status` with an `ErrorInfo` of the domain `isthmus.v1`: its reason is what
//! programs act on, its message is for people and says what to do. Where coming back helps, `RetryInfo` says when;
//! where fields are to be mended, `BadRequest` names them. What can fail with what is in [`crate::fault`].

use std::collections::HashMap;

use isthmus_proto::ERROR_DOMAIN;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

pub use crate::fault::{Fault, Refusal};

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

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status(&refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
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
