//! The link fact of a pair that is taken for one person: an event of the source `matcher`, like any other event, so it
//! is exact, explained, and taken back by a split.
//!
//! Its time and its message id follow from the decision, so saying it again changes nothing.

use isthmus_domain::{
    AcceptContext, Accepted, BlockedValues, IdentityKey, Limits, LinkKind, Map, RawItem, Refused, SourceView,
    Stamp, Value, accept, value::rfc3339,
};
use isthmus_proto::internal::v1::{
    CommandItem, MatchingChange, PairIdentifier, PairKey, PairRow, command_item, matching_change::Change,
};
use isthmus_router::{Error, ItemResult, RoutedItem, Router};
use tokio::time::Instant;

/// The source of links that matching makes. No other source may have this name.
pub const SOURCE: &str = "matcher";

/// The event's name.
const EVENT: &str = "Profiles Matched";

/// The event that says that the two sides of a pair are one person.
///
/// # Errors
/// An identifier that can't be one any more.
pub fn event(key: &IdentityKey, row: &PairRow) -> Result<Accepted, Refused> {
    let decided = Stamp(row.decided_at).as_micros();
    let text = |text: &str| Value::String(text.to_owned());
    let map = |pairs: Vec<(&str, Value)>| {
        Value::Map(
            Map::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                .unwrap_or_default(),
        )
    };
    let id = |identifier: &PairIdentifier| {
        map(vec![("id", text(&identifier.value)), ("type", text(&identifier.namespace))])
    };
    let ids = row.a_identifiers.first().into_iter().chain(row.b_identifiers.first()).map(id).collect();
    let empty = PairKey::default();
    let PairKey { a, b } = row.key.as_ref().unwrap_or(&empty);
    let short = |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    let message_id = format!("match-{:.4}-{}-{}-{:x}", row.probability, short(a), short(b), row.decided_at);
    let properties = vec![
        ("score", Value::Float(row.probability)),
        ("model", Value::from_u64(row.model_version)),
        ("decidedBy", text(&row.by)),
    ];
    let item = vec![
        ("type", text("track")),
        ("event", text(EVENT)),
        ("messageId", text(&message_id)),
        ("timestamp", text(&rfc3339(decided).unwrap_or_default())),
        ("context", map(vec![("externalIds", Value::List(ids))])),
        ("properties", map(properties)),
    ];
    let Value::Map(item) = map(item) else { unreachable!("a map is a map") };
    let source = SourceView::new(SOURCE);
    let context = AcceptContext {
        source: &source,
        key,
        now_micros: decided,
        sent_at: None,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &|| message_id.clone(),
    };
    let mut accepted = accept(RawItem::Typed(item), &context)?;
    // As an alias says: the limit of one `user_id` must not keep two accounts of one person apart.
    for link in &mut accepted.record.links {
        link.kind = LinkKind::Alias.into();
    }
    Ok(accepted)
}

/// Brings the links of accepted pairs into force, and notes that they are. Repeating it changes nothing.
///
/// # Errors
/// When a shard doesn't answer by the deadline: the links may be in force then, or not yet.
pub async fn bring(
    router: &Router,
    key: &IdentityKey,
    rows: &[PairRow],
    deadline: Instant,
) -> Result<(), Error> {
    let (mut items, mut named) = (Vec::new(), Vec::new());
    for row in rows {
        match event(key, row) {
            Ok(accepted) => {
                items.push(RoutedItem {
                    slot: accepted.facet.slot(),
                    item: CommandItem {
                        attempt: router.next_attempt(),
                        body: Some(command_item::Body::Record(accepted.record.to_bytes())),
                        ..CommandItem::default()
                    },
                });
                named.extend(row.key.clone());
            }
            Err(refused) => {
                tracing::warn!(reason = refused.reason.code(), "a pair's identifiers can't be linked");
            }
        }
    }
    let summary = router.ingest(items, deadline).await?;
    let taken = summary.results.into_iter().zip(named).filter_map(|(result, pair)| match result {
        ItemResult::Accepted | ItemResult::Duplicate => Some(pair),
        other => {
            tracing::warn!(?other, "a pair's link was not taken yet");
            None
        }
    });
    let linked: Vec<MatchingChange> =
        taken.map(|pair| MatchingChange { change: Some(Change::Linked(pair)) }).collect();
    if !linked.is_empty() {
        router.change_matching(&linked, deadline).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> PairRow {
        let identifier = |value: &str| PairIdentifier { namespace: "user_id".into(), value: value.into() };
        PairRow {
            key: Some(PairKey { a: vec![1; 16].into(), b: vec![2; 16].into() }),
            a_identifiers: vec![identifier("one"), identifier("more")],
            b_identifiers: vec![identifier("two")],
            probability: 0.987_654,
            decided_at: 1_700_000_000_000_000,
            by: "ann".into(),
            ..PairRow::default()
        }
    }

    #[test]
    fn the_fact_links_the_identifiers_that_name_the_two_and_is_free_of_the_limit_of_one_user() {
        let key = IdentityKey::new([7; 32]);
        let accepted = event(&key, &row()).unwrap();
        let facts: Vec<_> = accepted.record.link_facts().collect::<Result<_, _>>().unwrap();
        assert_eq!(facts.len(), 1);
        let values = std::collections::BTreeSet::from([facts[0].a.value(), facts[0].b.value()]);
        assert_eq!(values, ["one", "two"].into());
        assert_eq!((facts[0].source.as_str(), facts[0].kind), (SOURCE, LinkKind::Alias));
        assert!(facts[0].message_id.starts_with("match-0.9877-"));
        assert_eq!(event(&key, &row()).unwrap(), accepted, "saying it again is a repetition");
    }
}
