//! One way from any failure to what an HTTP client sees of it.
//!
//! Every refusal is one JSON object that says the same thing three times, since clients look in different places:
//! `code` and `message` at the top, where Segment's and RudderStack's SDKs read them (RudderStack's for Python retries for
//! ever without), and `error` with `code`, `reason` and `message`, where ours are. `reason` is what programs act on; it
//! is the same word that gRPC has in its `ErrorInfo`. `Retry-After` is whole seconds, rounded up, since SDKs read no
//! other form.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use utoipa::ToSchema;

use crate::fault::{Fault, Refusal};

/// Why nothing was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Always false.
    pub success: bool,
    /// The canonical code of gRPC in upper snake case, such as `INVALID_ARGUMENT`.
    pub code: &'static str,
    /// For people: what is wrong, where, and what to do.
    pub message: String,
    /// The same, with the reason.
    pub error: ErrorDetail,
}

/// What a program needs to know of an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// As at the top.
    pub code: &'static str,
    /// The stable reason in upper snake case, such as `WRITE_KEY_INVALID`.
    pub reason: String,
    /// As at the top.
    pub message: String,
    /// The fields of the request that are to be mended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
    /// What the reason is about, such as the line and column of malformed JSON.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl ErrorDetail {
    /// A reason and a sentence.
    pub fn new(code: Code, reason: String, message: impl Into<String>) -> Self {
        let (fields, metadata) = (Vec::new(), BTreeMap::new());
        Self { code: name(code), reason, message: message.into(), fields, metadata }
    }
}

/// A field of the request and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Its name.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// A failure as an HTTP answer.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// What is said.
    pub body: ErrorBody,
}

impl Failure {
    /// A refusal that has an HTTP status of its own.
    pub fn with_status(status: StatusCode, refusal: &Refusal) -> Self {
        Self { status, ..Self::from_fault(refusal) }
    }

    /// Any failure of a call.
    pub fn from_fault(fault: &impl Fault) -> Self {
        let fields = fault.fields().iter();
        Self::new(
            fault.code(),
            fault.reason().to_owned(),
            fault.message(),
            fields.map(|(field, what)| FieldProblem { field: (*field).to_owned(), message: what.clone() }),
            fault.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)),
            fault.retry_after(),
        )
    }

    /// What a service of gRPC refused that was asked on behalf of an HTTP client.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self::new(
            status.code(),
            info.map(|info| info.reason.clone()).unwrap_or_default(),
            status.message().to_owned(),
            fields
                .iter()
                .map(|field| FieldProblem { field: field.field.clone(), message: field.description.clone() }),
            info.into_iter().flat_map(|info| info.metadata.clone()),
            details.retry_info().and_then(|info| info.retry_delay),
        )
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn new(
        code: Code,
        reason: String,
        message: String,
        fields: impl Iterator<Item = FieldProblem>,
        metadata: impl Iterator<Item = (String, String)>,
        retry_after: Option<Duration>,
    ) -> Self {
        let status = status_of(code, &reason);
        let name = name(code);
        let error = ErrorDetail {
            code: name,
            reason,
            message: message.clone(),
            fields: fields.collect(),
            metadata: metadata.collect(),
        };
        Self { status, retry_after, body: ErrorBody { success: false, code: name, message, error } }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::from_fault(&refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        answer(self.status, self.retry_after, self.body)
    }
}

/// A JSON answer that may say when to come back.
pub fn answer(status: StatusCode, retry_after: Option<Duration>, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    // An SDK takes nought, or none, for "at once": too much that waits is not helped by that.
    let told = retry_after.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(1)));
    if let Some(wait) = told {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
    }
    response
}

/// Whole seconds, rounded up, one at least.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The HTTP status of a code; of some codes the reason decides.
fn status_of(code: Code, reason: &str) -> StatusCode {
    match (code, reason) {
        (Code::InvalidArgument, _) => StatusCode::BAD_REQUEST,
        (Code::OutOfRange | Code::ResourceExhausted, "TOO_LARGE") => StatusCode::PAYLOAD_TOO_LARGE,
        // The same again would need as much again: there is nothing to wait for.
        (Code::ResourceExhausted, "QUERY_LIMIT") => StatusCode::UNPROCESSABLE_ENTITY,
        (Code::ResourceExhausted, _) => StatusCode::TOO_MANY_REQUESTS,
        (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (Code::NotFound, _) | (Code::FailedPrecondition, "SOURCE_DISABLED") => StatusCode::NOT_FOUND,
        (Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition, "VERSION" | "ALREADY_EXISTS") => {
            StatusCode::CONFLICT
        }
        (Code::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (Code::Unimplemented, "UNSUPPORTED_ENCODING" | "UNSUPPORTED_CONTENT_TYPE") => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        // What routers follow by themselves, and what is not there just now: another try helps.
        (Code::FailedPrecondition | Code::Aborted | Code::Unavailable | Code::Cancelled, _) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code's name as gRPC spells it.
pub fn name(code: Code) -> &'static str {
    crate::metrics::code_name(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::status::status;

    #[test]
    fn each_failure_has_the_status_of_the_table() {
        for (code, reason, wanted) in [
            (Code::InvalidArgument, "MALFORMED", 400),
            (Code::InvalidArgument, "BATCH_TOO_MANY", 400),
            (Code::Unauthenticated, "WRITE_KEY_INVALID", 401),
            (Code::PermissionDenied, "NOT_LOCAL", 403),
            (Code::FailedPrecondition, "SOURCE_DISABLED", 404),
            (Code::NotFound, "NOT_FOUND", 404),
            (Code::Aborted, "VERSION", 409),
            (Code::OutOfRange, "TOO_LARGE", 413),
            (Code::ResourceExhausted, "TOO_LARGE", 413),
            (Code::Unimplemented, "UNSUPPORTED_ENCODING", 415),
            (Code::ResourceExhausted, "QUERY_LIMIT", 422),
            (Code::ResourceExhausted, "OVERLOADED", 429),
            (Code::Unavailable, "NO_LEADER", 503),
            (Code::FailedPrecondition, "STALE_SHARD_MAP", 503),
            (Code::DeadlineExceeded, "OUTCOME_UNKNOWN", 504),
            (Code::Internal, "INTERNAL", 500),
        ] {
            assert_eq!(status_of(code, reason).as_u16(), wanted, "{code:?} {reason}");
        }
    }

    #[test]
    fn a_refusal_says_the_same_in_all_places_and_by_both_ways() {
        let refusal = Refusal::field("INVALID_CURSOR", "cursor", "is not one of ours").with("shard", 7);
        for failure in [Failure::from_fault(&refusal), Failure::from_status(&status(&refusal))] {
            let json = serde_json::to_value(&failure.body).unwrap();
            assert_eq!(json["success"], false);
            assert_eq!((&json["code"], &json["error"]["code"]), (&"INVALID_ARGUMENT".into(), &json["code"]));
            assert_eq!(json["message"], json["error"]["message"]);
            assert_eq!(json["error"]["reason"], "INVALID_CURSOR");
            assert_eq!(json["error"]["fields"][0]["field"], "cursor");
            assert_eq!(json["error"]["metadata"]["shard"], "7");
            assert_eq!(failure.into_response().status(), 400);
        }
    }

    #[test]
    fn when_to_come_back_is_told_in_whole_seconds() {
        let told = |wait: Option<u64>| {
            let mut refusal = Refusal::new(Code::ResourceExhausted, "OVERLOADED", "later");
            if let Some(wait) = wait {
                refusal = refusal.retry_after(Duration::from_millis(wait));
            }
            Failure::from(refusal).into_response().headers()[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!([told(None), told(Some(50)), told(Some(1_000)), told(Some(1_001))], ["1", "1", "1", "2"]);
        let limit = Refusal::new(Code::ResourceExhausted, "QUERY_LIMIT", "more memory than it may");
        for plain in [Refusal::not_found("nothing"), limit] {
            assert!(!Failure::from(plain).into_response().headers().contains_key(RETRY_AFTER));
        }
    }
}
