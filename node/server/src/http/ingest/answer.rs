//! What a sender is told of its events.
//!
//! | status | when |
//! | --- | --- |
//! | 200 | every event was accepted, is a duplicate or is kept in quarantine; or its schema's policy rejects it, while others of the batch were taken |
//! | 400 | there are events, and policies reject all of them: nothing was stored |
//! | 429 | some were refused because too much was waiting, and nothing worse |
//! | 503 | some are not known to be stored, or a disk is full |
//! | 504 | none is known to be stored by the deadline |
//!
//! Each answer lists the events that were not simply taken, by their place in the batch; those that it doesn't list are
//! stored. SDKs send all of it again on 429 and 5xx, with the same message ids, and what is stored counts once.
//!
//! A batch of which some were rejected by policy and others taken is a 200, as `rejected` in it says: a 4xx would say of
//! stored events that they aren't, and sending the rest again can't help.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use isthmus_proto::v1::{ItemOutcome, ItemResult};
use serde::Serialize;
use tonic::Code;
use utoipa::ToSchema;

use crate::{
    http::errors::{ErrorDetail, answer, name},
    intake::Outcome,
};

/// When to come back if some events were not taken.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of events.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct IngestAnswer {
    /// Whether all is well, and nothing is to be sent again.
    pub success: bool,
    /// How many were stored by this request.
    pub accepted: u64,
    /// How many were stored before.
    pub duplicate: u64,
    /// Those that are kept in quarantine.
    pub quarantined: Vec<EventProblem>,
    /// Those that are kept nowhere.
    pub rejected: Vec<EventProblem>,
    /// Those of which it is not known whether they are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<EventProblem>,
    /// A read with this as `min_version` sees all that was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The canonical code, when it was no success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// For people, when it was no success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The same, with the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// An event that was not simply taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventProblem {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The stable reason.
    pub reason: String,
    /// For people: what is wrong and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Given or made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_id: String,
    /// Whether sending it again as it is can help.
    pub retryable: bool,
}

/// The answer for a batch that was brought on its way.
pub fn of(outcome: Outcome) -> Response {
    let (status, body) = told(outcome);
    answer(status, body.retry_after(), body)
}

impl IngestAnswer {
    fn retry_after(&self) -> Option<Duration> {
        self.rejected.iter().chain(&self.unknown).any(|problem| problem.retryable).then_some(AGAIN)
    }
}

fn told(outcome: Outcome) -> (StatusCode, IngestAnswer) {
    let count = outcome.results.len();
    let mut answer =
        IngestAnswer { version: outcome.stamp.map(|stamp| stamp.to_string()), ..IngestAnswer::default() };
    for (index, result) in outcome.results.into_iter().enumerate() {
        match result.outcome() {
            ItemOutcome::Accepted => answer.accepted += 1,
            ItemOutcome::Duplicate => answer.duplicate += 1,
            ItemOutcome::Quarantined => answer.quarantined.push(problem(index, result)),
            ItemOutcome::Rejected => answer.rejected.push(problem(index, result)),
            ItemOutcome::OutcomeUnknown | ItemOutcome::Unspecified => {
                answer.unknown.push(problem(index, result));
            }
        }
    }
    let waiting: Vec<&EventProblem> = answer.rejected.iter().filter(|problem| problem.retryable).collect();
    let overloaded = waiting.iter().all(|problem| problem.reason == "OVERLOADED");
    let (status, code, reason, message) = match (answer.unknown.len(), waiting.len()) {
        (0, 0) if count > 0 && answer.rejected.len() == count => {
            let first = answer.rejected.first().map(|first| first.reason.clone()).unwrap_or_default();
            (StatusCode::BAD_REQUEST, Code::InvalidArgument, first, "nothing was stored: `rejected` says why")
        }
        (0, 0) => {
            answer.success = true;
            return (StatusCode::OK, answer);
        }
        (0, _) if overloaded => (
            StatusCode::TOO_MANY_REQUESTS,
            Code::ResourceExhausted,
            "OVERLOADED".to_owned(),
            "too much is waiting: send the batch again a little later; what is stored counts once",
        ),
        (0, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            waiting
                .iter()
                .map(|problem| problem.reason.clone())
                .find(|r| r != "OVERLOADED")
                .unwrap_or_default(),
            "some events were not stored: send the batch again a little later; what is stored counts once",
        ),
        (unknown, _) if unknown == count => (
            StatusCode::GATEWAY_TIMEOUT,
            Code::DeadlineExceeded,
            "OUTCOME_UNKNOWN".to_owned(),
            "nothing is known to be stored by the deadline: send the batch again with the same message ids",
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            "OUTCOME_UNKNOWN".to_owned(),
            "some events are not known to be stored: send the batch again with the same message ids",
        ),
    };
    answer.code = Some(name(code));
    answer.message = Some(message.to_owned());
    answer.error = Some(ErrorDetail::new(code, reason, message));
    (status, answer)
}

fn problem(index: usize, result: ItemResult) -> EventProblem {
    let ItemResult { reason, message, message_id, retryable, .. } = result;
    EventProblem { index, reason, message, message_id, retryable }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::Stamp;

    use super::*;

    const A: (ItemOutcome, &str) = (ItemOutcome::Accepted, "");
    const D: (ItemOutcome, &str) = (ItemOutcome::Duplicate, "");
    const Q: (ItemOutcome, &str) = (ItemOutcome::Quarantined, "NO_IDENTIFIER");
    const POLICY: (ItemOutcome, &str) = (ItemOutcome::Rejected, "SCHEMA_VIOLATION");
    const BUSY: (ItemOutcome, &str) = (ItemOutcome::Rejected, "OVERLOADED");
    const FULL: (ItemOutcome, &str) = (ItemOutcome::Rejected, "DISK_FULL");
    const UNKNOWN: (ItemOutcome, &str) = (ItemOutcome::OutcomeUnknown, "OUTCOME_UNKNOWN");

    fn of(results: &[(ItemOutcome, &str)]) -> (u16, IngestAnswer) {
        let results = results.iter().map(|(outcome, reason)| ItemResult {
            outcome: (*outcome).into(),
            reason: (*reason).to_owned(),
            retryable: matches!(*reason, "OVERLOADED" | "DISK_FULL" | "OUTCOME_UNKNOWN"),
            ..ItemResult::default()
        });
        let (status, answer) = told(Outcome { results: results.collect(), stamp: Some(Stamp(255)) });
        (status.as_u16(), answer)
    }

    #[test]
    fn it_is_200_only_when_nothing_is_to_be_sent_again() {
        for (results, status, reason) in [
            (&[][..], 200, None),
            (&[A, D, Q], 200, None),
            (&[A, POLICY], 200, None),
            (&[POLICY, POLICY], 400, Some("SCHEMA_VIOLATION")),
            (&[A, BUSY, POLICY], 429, Some("OVERLOADED")),
            (&[A, BUSY, FULL], 503, Some("DISK_FULL")),
            (&[A, UNKNOWN], 503, Some("OUTCOME_UNKNOWN")),
            (&[BUSY, UNKNOWN], 503, Some("OUTCOME_UNKNOWN")),
            (&[UNKNOWN, UNKNOWN], 504, Some("OUTCOME_UNKNOWN")),
        ] {
            let (got, answer) = of(results);
            let said = answer.error.as_ref().map(|error| error.reason.as_str());
            assert_eq!((got, answer.success, said), (status, status == 200, reason), "{results:?}");
            assert_eq!(answer.retry_after().is_some(), status > 400, "{results:?}");
        }
    }

    #[test]
    fn what_was_not_simply_taken_is_listed_by_its_place() {
        let (_, answer) = of(&[A, Q, D, A, UNKNOWN, BUSY]);
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["accepted"], &json["duplicate"]), (&2.into(), &1.into()));
        assert_eq!(json["quarantined"][0]["index"], 1);
        assert_eq!(json["quarantined"][0]["reason"], "NO_IDENTIFIER");
        assert_eq!((&json["unknown"][0]["index"], &json["rejected"][0]["index"]), (&4.into(), &5.into()));
        assert_eq!(json["version"], "00000000000000ff");
        let (_, well) = of(&[A]);
        let json = serde_json::to_value(&well).unwrap();
        assert_eq!(
            json.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["accepted", "duplicate", "quarantined", "rejected", "success", "version"]
        );
    }
}
