//! Quarantined entries, and what became of them, as JSON.

use serde::Serialize;

use super::{text, time};
use crate::proto;

/// A quarantined entry. What was sent is in `content` when it is UTF-8, else in `content_hex`.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineEntry<'a> {
    id: &'a str,
    reason: &'a str,
    message: &'a str,
    source: &'a str,
    origin: Option<&'a str>,
    received_at: Option<String>,
    message_id: Option<&'a str>,
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<Resolution<'a>>,
}

impl<'a> From<&'a proto::QuarantineEntry> for QuarantineEntry<'a> {
    fn from(entry: &'a proto::QuarantineEntry) -> Self {
        let content = std::str::from_utf8(&entry.content);
        Self {
            id: &entry.id,
            reason: &entry.reason,
            message: &entry.message,
            source: &entry.source,
            origin: text(&entry.origin),
            received_at: time(entry.received_at.as_ref()),
            message_id: text(&entry.message_id),
            content_type: text(&entry.content_type),
            content: content.ok().and_then(text),
            content_hex: content
                .is_err()
                .then(|| entry.content.iter().map(|byte| format!("{byte:02x}")).collect()),
            resolution: entry.resolution.as_ref().map(Resolution::from),
        }
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Serialize)]
struct Resolution<'a> {
    kind: &'static str,
    by: Option<&'a str>,
    resolved_at: Option<String>,
    message_id: Option<&'a str>,
    note: Option<&'a str>,
}

/// The name of a kind of resolution.
pub fn resolution_name(kind: proto::QuarantineResolutionKind) -> &'static str {
    match kind {
        proto::QuarantineResolutionKind::Unspecified => "unknown",
        proto::QuarantineResolutionKind::Mended => "mended",
        proto::QuarantineResolutionKind::Replayed => "replayed",
        proto::QuarantineResolutionKind::Dropped => "dropped",
    }
}

impl<'a> From<&'a proto::QuarantineResolution> for Resolution<'a> {
    fn from(known: &'a proto::QuarantineResolution) -> Self {
        Self {
            kind: resolution_name(known.kind()),
            by: text(&known.by),
            resolved_at: time(known.resolved_at.as_ref()),
            message_id: text(&known.message_id),
            note: text(&known.note),
        }
    }
}

/// What came of mending, replaying or dropping an entry. `outcome` is `resolved`, `already_resolved`,
/// `still_quarantined` or `not_found`.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineResult<'a> {
    id: &'a str,
    outcome: &'static str,
    reason: Option<&'a str>,
    field: Option<&'a str>,
    message: Option<&'a str>,
    resolution: Option<Resolution<'a>>,
}

impl<'a> From<&'a proto::QuarantineResult> for QuarantineResult<'a> {
    fn from(result: &'a proto::QuarantineResult) -> Self {
        Self {
            id: &result.id,
            outcome: match result.outcome() {
                proto::QuarantineOutcome::Unspecified => "unknown",
                proto::QuarantineOutcome::Resolved => "resolved",
                proto::QuarantineOutcome::AlreadyResolved => "already_resolved",
                proto::QuarantineOutcome::StillQuarantined => "still_quarantined",
                proto::QuarantineOutcome::NotFound => "not_found",
            },
            reason: text(&result.reason),
            field: text(&result.field),
            message: text(&result.message),
            resolution: result.resolution.as_ref().map(Resolution::from),
        }
    }
}
