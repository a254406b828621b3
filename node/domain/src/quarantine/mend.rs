//! An entry tried again: as it is, with a patch, or with another text in its place.
//!
//! It goes through [`accept`] like any item, as if it came when it came: with the original's time of receipt and
//! source. So the outcome depends on the entry, the change and the rules in force alone, and trying twice gives the
//! same record with the same deduplication key. The message id is the item's own; where it has none, the original's;
//! where that had none either, one that follows from the entry's id.

use crate::event::{AcceptContext, Accepted, Limits, RawItem, Reason, Refused, SourceView, accept};
use crate::hash::IdentityKey;
use crate::identifier::BlockedValues;
use crate::quarantine::QuarantineEntry;
use crate::value::{Map, Value, json, merge_patch};

/// The media type of entries that are JSON.
const JSON: &str = "application/json";

/// What is tried in place of what was sent.
#[derive(Clone)]
pub enum Change {
    /// Nothing: the item as it was sent.
    None,
    /// What was sent with this merge patch.
    Patch(Value),
    /// This JSON text.
    Replacement(bytes::Bytes),
}

/// What trying an entry again depends on besides the entry.
#[derive(Clone, Copy)]
pub struct MendContext<'a> {
    /// The entry's source, as it is known now.
    pub source: &'a SourceView,
    /// The cluster's key.
    pub key: &'a IdentityKey,
    /// Identifiers to leave out besides the built-in ones.
    pub blocked: &'a BlockedValues,
}

/// Tries an entry again. `fields` is what was sent where that was no JSON but the typed values of the interface.
///
/// # Errors
/// The first rule that it breaks still, or why the change can't be made.
pub fn try_again(
    entry: &QuarantineEntry,
    fields: Option<Map>,
    change: Change,
    ctx: MendContext<'_>,
) -> Result<Accepted, Refused> {
    let make_message_id = || made_message_id(entry);
    let context = AcceptContext {
        source: ctx.source,
        key: ctx.key,
        now_micros: entry.received_stamp().as_micros(),
        sent_at: entry.batch_sent_at,
        limits: Limits::default(),
        blocked: ctx.blocked,
        make_message_id: &make_message_id,
    };
    match (change, fields) {
        (Change::Replacement(text), _) => accept(RawItem::Json(&text), &context),
        (Change::None, Some(fields)) => accept(RawItem::Typed(fields), &context),
        (Change::None, None) => {
            check_json(entry)?;
            accept(RawItem::Json(&entry.payload), &context)
        }
        (Change::Patch(patch), fields) => {
            let original = match fields {
                Some(fields) => Value::Map(fields),
                None => {
                    check_json(entry)?;
                    json::parse(&entry.payload).map_err(Refused::from).map_err(unpatchable)?
                }
            };
            match merge_patch(original, patch) {
                Value::Map(fields) => accept(RawItem::Typed(fields), &context),
                other => {
                    let what =
                        format!("the patch makes the event {}: it must be an object", other.kind_name());
                    Err(Refused::new(Reason::Malformed, "", what))
                }
            }
        }
    }
}

/// The message id of an entry whose item says none: the same each time.
fn made_message_id(entry: &QuarantineEntry) -> String {
    match entry.message_id.as_str() {
        "" => format!("quarantine-{:032x}", u128::from_be_bytes(entry.id())),
        sent => sent.to_owned(),
    }
}

fn check_json(entry: &QuarantineEntry) -> Result<(), Refused> {
    if entry.content_type == JSON {
        return Ok(());
    }
    let what =
        "what was sent is not a JSON event, so it can't be taken as it is or patched: replace it as a whole";
    Err(Refused::new(Reason::Malformed, "", what))
}

fn unpatchable(refused: Refused) -> Refused {
    let message = format!("what was sent can't be patched: {}; replace it as a whole", refused.message);
    Refused { message, ..refused }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stamp;

    const RECEIVED: u64 = 1_700_000_000_000_000;

    fn entry(payload: &str, message_id: &str) -> QuarantineEntry {
        QuarantineEntry {
            id: vec![0xab; 16].into(),
            payload: payload.as_bytes().to_vec().into(),
            content_type: JSON.to_owned(),
            received: RECEIVED,
            message_id: message_id.to_owned(),
            source: "shop".to_owned(),
            ..QuarantineEntry::default()
        }
    }

    fn tried(entry: &QuarantineEntry, change: Change) -> Result<Accepted, Refused> {
        let (source, key, blocked) =
            (SourceView::new("shop"), IdentityKey::new([7; 32]), BlockedValues::default());
        try_again(entry, None, change, MendContext { source: &source, key: &key, blocked: &blocked })
    }

    fn patch(text: &str) -> Change {
        Change::Patch(json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_mended_item_has_the_originals_time_source_and_message_id() {
        let lost = entry(r#"{"type":"track","event":"Seen","messageId":"m-1"}"#, "m-1");
        let mended = tried(&lost, patch(r#"{"userId":"7"}"#)).unwrap().record;
        assert_eq!(
            (mended.message_id.as_str(), mended.source.as_str(), mended.value.as_str()),
            ("m-1", "shop", "7")
        );
        assert_eq!(mended.timestamp, Stamp(RECEIVED).as_micros());
        // The clock's skew is corrected by what the batch said then.
        let sent = r#"{"type":"track","event":"Seen","originalTimestamp":"2020-01-01T00:00:00Z"}"#;
        let skewed = QuarantineEntry { batch_sent_at: Some(1_577_836_805_000_000), ..entry(sent, "") };
        let mended = tried(&skewed, patch(r#"{"userId":"7"}"#)).unwrap().record;
        assert_eq!(mended.timestamp, Stamp(RECEIVED).as_micros() - 5_000_000);
    }

    #[test]
    fn an_item_without_a_message_id_gets_one_that_stays_the_same() {
        let lost = entry(r#"{"type":"track","event":"Seen"}"#, "");
        let [one, two] =
            ["7", "7"].map(|user| tried(&lost, patch(&format!(r#"{{"userId":"{user}"}}"#))).unwrap());
        assert_eq!(one, two);
        assert_eq!(one.record.message_id, format!("quarantine-{}", "ab".repeat(16)));
        let whole = Change::Replacement(r#"{"type":"track","event":"Seen","userId":"7"}"#.into());
        assert_eq!(tried(&entry("{", "m-2"), whole).unwrap().record.message_id, "m-2");
    }

    #[test]
    fn what_still_breaks_a_rule_names_field_and_reason() {
        let lost = entry(r#"{"type":"track","userId":"7"}"#, "");
        let refused = tried(&lost, patch(r#"{"event":""}"#)).unwrap_err();
        assert_eq!((refused.reason, refused.field.as_str()), (Reason::EventNameMissing, "event"));
        assert_eq!(tried(&lost, patch("[]")).unwrap_err().reason, Reason::Malformed);
        let broken = tried(&entry("{", ""), patch("{}")).unwrap_err();
        assert!(broken.message.contains("replace it as a whole"), "{broken}");
        let csv = QuarantineEntry { content_type: "text/csv".to_owned(), ..entry("a,b", "") };
        assert!(tried(&csv, Change::None).unwrap_err().message.contains("replace it as a whole"));
        assert_eq!(tried(&lost, Change::None).unwrap_err().reason, Reason::EventNameMissing);
    }
}
