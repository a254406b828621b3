//! Errors on the wire between nodes: gRPC status with `google.rpc.ErrorInfo`, and back.

use isthmus_proto::ERROR_DOMAIN;
use tonic::{Code, ConnectError, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::Error;

/// An error as it is sent.
pub(crate) fn to_status(error: &Error) -> Status {
    let code = match error {
        Error::Refused { .. } | Error::WrongCluster => Code::FailedPrecondition,
        Error::NoLeader(_) | Error::Stopped | Error::NotMetadataPeer => Code::Unavailable,
        Error::OutcomeUnknown => Code::DeadlineExceeded,
        Error::Overloaded { .. } => Code::ResourceExhausted,
        Error::Malformed { .. } => Code::InvalidArgument,
        _ => Code::Internal,
    };
    let message = match error {
        Error::Refused { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason(), ERROR_DOMAIN, []);
    if let Error::Overloaded { retry_after } = error {
        details.set_retry_info(Some(*retry_after));
    }
    Status::with_error_details(code, message, details)
}

/// What another node's answer means. An answer that isn't one (a broken connection, a passed deadline) may hide that
/// the request was carried out: the outcome is unknown, unless no connection came about at all.
pub(crate) fn from_status(status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    match reason {
        Some("NO_LEADER") => Error::NoLeader("the other node knows none".into()),
        Some("STOPPED") => Error::NoLeader("the other node is stopping".into()),
        Some("OUTCOME_UNKNOWN" | "INTERNAL") => Error::OutcomeUnknown,
        Some("OVERLOADED") => {
            let retry_after = details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
            Error::Overloaded { retry_after }
        }
        Some("NOT_METADATA_PEER") => Error::NotMetadataPeer,
        Some("WRONG_CLUSTER") => Error::WrongCluster,
        Some("MALFORMED") => Error::malformed("request, as the other node sees it"),
        Some(code) => Error::Refused { code: code.to_owned(), message: status.message().to_owned() },
        None if never_connected(status) || status.code() == Code::Unimplemented => {
            Error::NoLeader("the other node can't be reached".into())
        }
        None => Error::OutcomeUnknown,
    }
}

fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Code as Refused;

    #[test]
    fn an_error_means_the_same_at_the_other_end() {
        let refused = Error::refused(Refused::NodeIdTaken, "choose another");
        let back = from_status(&to_status(&refused));
        assert!(back.is_refusal(Refused::NodeIdTaken) && back.to_string().ends_with("choose another"));
        let after = std::time::Duration::from_millis(250);
        let back = from_status(&to_status(&Error::Overloaded { retry_after: after }));
        assert!(matches!(back, Error::Overloaded { retry_after } if retry_after == after));
        assert!(matches!(from_status(&to_status(&Error::WrongCluster)), Error::WrongCluster));
        assert!(matches!(from_status(&to_status(&Error::NoLeader(String::new()))), Error::NoLeader(_)));
        assert!(matches!(from_status(&to_status(&Error::Stopped)), Error::NoLeader(_)));
        assert!(matches!(from_status(&to_status(&Error::NotMetadataPeer)), Error::NotMetadataPeer));
    }

    #[test]
    fn what_is_not_known_to_have_failed_is_unknown() {
        assert!(matches!(from_status(&to_status(&Error::OutcomeUnknown)), Error::OutcomeUnknown));
        assert!(matches!(from_status(&Status::unavailable("broken pipe")), Error::OutcomeUnknown));
        assert!(matches!(from_status(&Status::cancelled("timeout")), Error::OutcomeUnknown));
    }
}
