//! What a body says: the write key, when it was sent, and the events as items for [`crate::intake`].
//!
//! **What it promises.** A body that is not JSON, or not the JSON that its path takes, is refused as a whole, with the
//! place; nothing of it was taken then. Each event of it is handed on as the bytes that it was sent as, so that it
//! meets the same limits and, where it can't be taken, is kept in the same words as one that came over gRPC.
//!
//! **How.** One pass finds the parts ([`isthmus_domain::value::scan`]); events are slices of the body. They are written
//! anew only where something has to be put in or taken out:
//!
//! - the *type*, by the path, where an event that was sent to a path of its own has none;
//! - what a batch says for all of its events at the top: `context` and `integrations`, under what an event says itself
//!   ([`super::merge`]); a `sentAt` that can't be read, so that each event is kept with what is wrong with it;
//! - `_metadata.retryCount`, with which browser SDKs count their own attempts. It says nothing of the event, and left in
//!   it would make an event that is sent again another one.

use std::ops::Range;

use bytes::Bytes;
use isthmus_domain::{
    EventType, Limits, Map, Reason, Refused, Value,
    event::time_of,
    value::{
        JsonError, json,
        scan::{Parts, Scanned, scan},
    },
};
use isthmus_proto::v1::{IngestItem, ingest_item::Body};
use memchr::memmem;
use tonic::Code;

use super::merge::Shared;
use crate::{fault::Refusal, intake};

/// What a path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// An object with a list `batch` of events.
    Batch,
    /// One event of a type.
    Event(EventType),
}

/// What a body says.
#[derive(Debug)]
pub struct Envelope {
    /// `writeKey`.
    pub write_key: Option<String>,
    /// `sentAt` of a batch, microseconds since 1970.
    pub sent_at: Option<i64>,
    /// Where the events lie, and what is put into all of them.
    body: Bytes,
    events: Vec<Range<usize>>,
    shared: Shared,
}

impl Envelope {
    /// Reads a body.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: `MALFORMED`, `TOO_DEEP` or `NOT_FINITE` with the place, `DUPLICATE_KEY`, `INVALID_BODY`,
    /// `INVALID_BATCH`, `BATCH_TOO_MANY`, `TYPE_MISMATCH`, `WRITE_KEY_INVALID`, `FIELD_INVALID`.
    pub fn read(call: Call, body: Bytes) -> Result<Self, Refusal> {
        let list = (call == Call::Batch).then_some("batch");
        let parts = match scan(&body, list).map_err(|error| misread(&error))? {
            Scanned::Object(parts) => parts,
            Scanned::Other => {
                let message = match call {
                    Call::Batch => "the body has to be an object with a list `batch` of events",
                    Call::Event(_) => "the body has to be an object, the event",
                };
                return Err(Refusal::new(Code::InvalidArgument, "INVALID_BODY", message));
            }
        };
        match call {
            Call::Batch => Self::of_batch(body, parts),
            Call::Event(kind) => Self::of_event(body, &parts, kind),
        }
    }

    fn of_batch(body: Bytes, parts: Parts) -> Result<Self, Refusal> {
        let fields = Fields { body: &body, parts: &parts };
        let write_key = fields.write_key()?;
        let sent_at = fields.one(&["sentAt", "sent_at"], "sentAt")?.filter(|value| !value.is_null());
        let (read, unread) = match sent_at.map(|value| (time_of(&value), value)) {
            Some((None, value)) => (None, Some(value)),
            Some((read, _)) => (read, None),
            None => (None, None),
        };
        let shared = Shared {
            context: fields.object("context")?,
            integrations: fields.object("integrations")?,
            sent_at: unread,
        };
        fields.at_most_once(&["batch"], "batch")?;
        let Some(events) = parts.items else {
            let what = "must be a list of events: one event goes to the path of its type, such as /v1/track";
            return Err(Refusal::field("INVALID_BATCH", "batch", what));
        };
        intake::check_count(events.len())?;
        Ok(Self { write_key, sent_at: read, body, events, shared })
    }

    fn of_event(body: Bytes, parts: &Parts, kind: EventType) -> Result<Self, Refusal> {
        let write_key = Fields { body: &body, parts }.write_key()?;
        let body = match typed(&body, parts, kind)? {
            Some(typed) => Bytes::from(typed),
            None => body,
        };
        let events = std::iter::once(0..body.len()).collect();
        Ok(Self { write_key, sent_at: None, body, events, shared: Shared::default() })
    }

    /// The events, in order.
    pub async fn items(self) -> Vec<IngestItem> {
        let Self { body, events, shared, .. } = self;
        let counts = memmem::Finder::new("\"retryCount\"");
        let mut items = Vec::with_capacity(events.len());
        for range in events {
            if items.len() % intake::PIECE == intake::PIECE - 1 {
                // A large batch doesn't keep a thread from heartbeats.
                tokio::task::yield_now().await;
            }
            let text = &body[range.clone()];
            let counted = counts.find(text).is_some();
            let anew =
                match (counted || !shared.is_empty()) && text.len() <= Limits::default().event_bytes_max {
                    true => rewritten(text, &shared),
                    false => None,
                };
            let text = anew.map_or_else(|| body.slice(range), Bytes::from);
            items.push(IngestItem { body: Some(Body::Json(text)), origin: String::new() });
        }
        items
    }
}

/// An event with what its batch shares and without an SDK's count of attempts; `None` when it is no object that can be
/// read: then it is kept as it was sent.
fn rewritten(text: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let Ok(Value::Map(mut event)) = json::parse(text) else { return None };
    shared.put_into(&mut event);
    if let Some(Value::Map(metadata)) = event.get_mut("_metadata") {
        metadata.remove("retryCount");
    }
    Some(Value::Map(event).to_json())
}

/// The members at the top of a body.
struct Fields<'a> {
    body: &'a [u8],
    parts: &'a Parts,
}

impl Fields<'_> {
    fn values(&self, spellings: &[&str]) -> impl Iterator<Item = &[u8]> {
        let named =
            |key: &Range<usize>| spellings.iter().any(|name| self.body[key.clone()] == *name.as_bytes());
        self.parts.members.iter().filter(move |m| named(&m.key)).map(|m| &self.body[m.value.clone()])
    }

    fn at_most_once(&self, spellings: &[&str], field: &'static str) -> Result<(), Refusal> {
        if self.values(spellings).count() > 1 {
            return Err(Refusal::field("DUPLICATE_KEY", field, "is there more than once: send it once"));
        }
        Ok(())
    }

    /// The value of a field that may be there once.
    fn one(&self, spellings: &[&str], field: &'static str) -> Result<Option<Value>, Refusal> {
        self.at_most_once(spellings, field)?;
        let value = self.values(spellings).next().map(json::parse).transpose();
        value.map_err(|error| {
            let reason = Refused::from(error.clone()).reason.code();
            Refusal::field(reason, field, format!("can't be read: {}", error.kind))
        })
    }

    fn object(&self, field: &'static str) -> Result<Option<Map>, Refusal> {
        match self.one(&[field], field)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Map(map)) => Ok(Some(map)),
            Some(other) => {
                let what = format!("must be an object, not {}", other.kind_name());
                Err(Refusal::field(Reason::FieldInvalid.code(), field, what))
            }
        }
    }

    fn write_key(&self) -> Result<Option<String>, Refusal> {
        match self.one(&["writeKey", "write_key"], "writeKey")? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(key)) => Ok(Some(key).filter(|key| !key.is_empty())),
            Some(other) => {
                let what = format!("must be a string, not {}", other.kind_name());
                Err(Refusal::field("WRITE_KEY_INVALID", "writeKey", what))
            }
        }
    }
}

/// The event with the type that its path says, where it has none; `None` when it says so itself.
///
/// # Errors
/// `TYPE_MISMATCH` when it says another one.
fn typed(body: &[u8], parts: &Parts, kind: EventType) -> Result<Option<Vec<u8>>, Refusal> {
    let name = kind.name();
    let mut types = parts.members.iter().filter(|member| body[member.key.clone()] == *b"type");
    let said = match (types.next(), types.next()) {
        (None, _) => {
            let comma = if parts.members.is_empty() { "" } else { "," };
            let put = format!("\"type\":\"{name}\"{comma}");
            return Ok(Some([&body[..parts.inside], put.as_bytes(), &body[parts.inside..]].concat()));
        }
        (Some(said), None) => said.value.clone(),
        // Twice: the event is kept and told so.
        (Some(_), Some(_)) => return Ok(None),
    };
    match json::parse(&body[said.clone()]) {
        Ok(Value::Null) => {
            let put = format!("\"{name}\"");
            Ok(Some([&body[..said.start], put.as_bytes(), &body[said.end..]].concat()))
        }
        Ok(Value::String(said)) if said == name => Ok(None),
        _ => {
            let what = format!(
                "is not what the path says, which is {name}: send the event to the path of its type, or leave type out"
            );
            Err(Refusal::field("TYPE_MISMATCH", "type", what))
        }
    }
}

/// A body that is no JSON, with the place.
fn misread(error: &JsonError) -> Refusal {
    let reason = Refused::from(error.clone()).reason;
    Refusal::new(Code::InvalidArgument, reason.code(), format!("the body can't be read: {error}"))
        .with("line", error.line)
        .with("column", error.column)
        .with("offset", error.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault as _;

    async fn events(call: Call, body: &str) -> Vec<String> {
        let envelope = Envelope::read(call, Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let text = |item: IngestItem| match item.body {
            Some(Body::Json(text)) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        envelope.items().await.into_iter().map(text).collect()
    }

    fn refused(call: Call, body: &str) -> String {
        let refusal = Envelope::read(call, Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        refusal.reason().to_owned()
    }

    const TRACK: Call = Call::Event(EventType::Track);

    #[tokio::test]
    async fn events_of_a_batch_are_the_bytes_that_were_sent() {
        let body = r#"{"batch":[{"a" : 1}, 7, null,{"b":{"c":1,"c":2}}],"x":1,"writeKey":"k","sentAt":"1970-01-01T00:00:01Z"}"#;
        let envelope = Envelope::read(Call::Batch, body.into()).unwrap();
        assert_eq!((envelope.write_key.as_deref(), envelope.sent_at), (Some("k"), Some(1_000_000)));
        assert_eq!(events(Call::Batch, body).await, [r#"{"a" : 1}"#, "7", "null", r#"{"b":{"c":1,"c":2}}"#]);
        assert_eq!(events(Call::Batch, r#"{"batch":[],"context":null,"writeKey":null}"#).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_the_top_says_goes_under_what_an_event_says() {
        let body = r#"{"context":{"app":{"name":"a","build":1},"ip":"x"},"integrations":{"All":true},"batch":[
            {"type":"page","context":{"app":{"name":"b"},"ip":null}},{"integrations":{"All":false}},"no event",{"a":1,"a":2}]}"#;
        assert_eq!(
            events(Call::Batch, body).await,
            [
                r#"{"context":{"app":{"build":1,"name":"b"},"ip":null},"integrations":{"All":true},"type":"page"}"#,
                r#"{"context":{"app":{"build":1,"name":"a"},"ip":"x"},"integrations":{"All":false}}"#,
                r#""no event""#,
                r#"{"a":1,"a":2}"#,
            ]
        );
        let unread = r#"{"sentAt":"yesterday","batch":[{"a":1},{"sentAt":1}]}"#;
        assert_eq!(events(Call::Batch, unread).await, [r#"{"a":1,"sentAt":"yesterday"}"#, r#"{"sentAt":1}"#]);
    }

    #[tokio::test]
    async fn an_event_that_is_too_large_is_kept_as_it_was_sent() {
        let large = format!(r#"{{"b":1, "a":"{}"}}"#, "x".repeat(33 << 10));
        let body = format!(r#"{{"context":{{"x":1}},"batch":[{large}]}}"#);
        assert_eq!(events(Call::Batch, &body).await, [large]);
    }

    #[tokio::test]
    async fn the_path_says_the_type_where_the_event_does_not() {
        for (sent, taken) in [
            ("{}", r#"{"type":"track"}"#),
            (r#" { "event":"x"}"#, r#" {"type":"track", "event":"x"}"#),
            (r#"{"type": null ,"a":1}"#, r#"{"type": "track" ,"a":1}"#),
            (r#"{"type":"track"}"#, r#"{"type":"track"}"#),
            (r#"{"type":"tr\u0061ck"}"#, r#"{"type":"tr\u0061ck"}"#),
            (r#"{"type":"track","type":"page"}"#, r#"{"type":"track","type":"page"}"#),
        ] {
            assert_eq!(events(TRACK, sent).await, [taken]);
        }
        for other in [r#"{"type":"page"}"#, r#"{"type":1}"#, r#"{"type":""}"#] {
            assert_eq!(refused(TRACK, other), "TYPE_MISMATCH");
        }
    }

    #[tokio::test]
    async fn an_sdks_count_of_attempts_is_no_part_of_the_event() {
        let sent = r#"{"type":"track","_metadata":{"bundled":[],"retryCount":2}}"#;
        assert_eq!(events(TRACK, sent).await, [r#"{"_metadata":{"bundled":[]},"type":"track"}"#]);
        let other = r#"{"type":"track","properties":{"retryCount":2}}"#;
        assert_eq!(events(TRACK, other).await, [r#"{"properties":{"retryCount":2},"type":"track"}"#]);
    }

    #[test]
    fn what_is_no_batch_is_refused_as_a_whole() {
        for (body, reason) in [
            ("{", "MALFORMED"),
            ("", "MALFORMED"),
            (r#"{"batch":[{"a":NaN}]}"#, "NOT_FINITE"),
            (r#"{"batch":[{"a":1e400}]}"#, "NOT_FINITE"),
            ("[]", "INVALID_BODY"),
            ("{}", "INVALID_BATCH"),
            (r#"{"batch":{}}"#, "INVALID_BATCH"),
            (r#"{"batch":[],"batch":[]}"#, "DUPLICATE_KEY"),
            (r#"{"batch":[],"writeKey":1}"#, "WRITE_KEY_INVALID"),
            (r#"{"batch":[],"writeKey":"a","write_key":"b"}"#, "DUPLICATE_KEY"),
            (r#"{"batch":[],"context":[]}"#, "FIELD_INVALID"),
            (r#"{"batch":[],"context":{"a":1,"a":2}}"#, "DUPLICATE_KEY"),
        ] {
            assert_eq!(refused(Call::Batch, body), reason, "{body}");
        }
        assert_eq!(
            refused(Call::Batch, &format!("{{\"batch\":[{}0]}}", "0,".repeat(2_500))),
            "BATCH_TOO_MANY"
        );
        let error = Envelope::read(TRACK, Bytes::from_static(b"{\"a\":1,\n\"b\":x}")).unwrap_err();
        assert_eq!(error.metadata()[..2], [("line", "2".to_owned()), ("column", "5".to_owned())]);
    }
}
