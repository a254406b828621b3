//! Stored forms and what nodes send each other: everything that is decoded from a row, a log entry or a frame.
//!
//! A byte chooses which. What is read is written again as something that reads the same; records are read alike by both
//! of their readers; summaries add up to the same in any order; and what a fold is restored of it is stored as.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_coordinator::View;
use isthmus_domain::{
    EventRecord, FacetId, LinkFact, LinkRow, QuarantineEntry, RecordView, Resolution, ShardMap, Summary,
    identity::{Fold, IdentityRules, Retraction, RowKey, fold_row},
    quality::{Partial, Settings},
    slot::SLOT_COUNT,
};
use isthmus_identity::stored as identity;
use isthmus_matching::Model;
use isthmus_proto::internal::v1 as internal;
use isthmus_shard::{ShardMeta, Streams, feed::Row, keys};
use isthmus_storage::{
    keeper::{Exported, GroupMeta},
    log::GroupState,
    runs::RunMeta,
};
use prost::Message as _;

use crate::{
    intake::{NOW, RULES_IN_FORCE},
    pieces::{Pieces, pieces, stable, stable_message},
};

/// What the first byte chooses from. The order never changes: kept inputs rely on it.
const READERS: [fn(&[u8]); 17] = [
    record,
    summaries,
    link_facts,
    retraction,
    rules,
    shard_map,
    quality,
    quarantine,
    of_identifiers,
    fold,
    feed,
    meta,
    streams,
    view,
    storage,
    frames,
    groups,
];

/// The target.
pub fn run(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    READERS[usize::from(*choice) % READERS.len()](rest);
}

fn record(bytes: &[u8]) {
    let read = |bytes: &[u8]| EventRecord::from_bytes(Bytes::copy_from_slice(bytes)).ok();
    let record = stable(bytes, read, |record| record.to_bytes().to_vec());
    if let Ok(view) = RecordView::read(bytes) {
        let record = record.as_ref().unwrap_or_else(|| panic!("only one reader takes it"));
        let texts = [&record.namespace, &record.value, &record.message_id, &record.source, &record.name];
        assert_eq!(
            [view.namespace, view.value, view.message_id, view.source, view.name],
            texts.map(String::as_str)
        );
        assert_eq!(
            (view.facet, view.kind, view.timestamp),
            (record.facet_id(), record.kind(), record.timestamp)
        );
        assert_eq!((view.body_hash, view.dedup_key), (record.body_hash(), record.dedup_key()));
        assert_eq!((&view.revenue, view.currency), (&record.revenue, record.currency.as_str()));
        assert!(view.properties == record.properties && view.context == record.context);
        assert_eq!(view.sent_at, record.sent_at);
        let group = view.group.map(|group| (group.value.to_owned(), group.facet.as_bytes().to_vec()));
        assert_eq!(group, record.group.as_ref().map(|group| (group.value.clone(), group.facet.to_vec())));
        drop(isthmus_domain::group::said_of_group(&view));
    }
    let Some(record) = record else { return };
    // Written by us there is nothing in it that the other reader would not take.
    let written = record.to_bytes();
    let view = RecordView::read(&written).unwrap_or_else(|error| panic!("only one reader takes it: {error}"));
    assert_eq!(view.facet, record.facet_id());
    let (mut one, mut other) = (Summary::default(), Summary::default());
    one.absorb(&record);
    other.absorb_view(&view);
    assert_eq!(one.to_bytes(), other.to_bytes());
    assert!(isthmus_domain::value::json::parse(&record.to_json()).is_ok() || !record.context.is_empty());
    record.link_facts().for_each(drop);
}

fn summaries(bytes: &[u8]) {
    let read = |bytes: &[u8]| Summary::from_bytes(bytes).ok();
    let mut input = Pieces(bytes);
    let mut part = || stable(input.next()?, read, Summary::to_bytes);
    let (Some(one), Some(other)) = (part(), part()) else { return };
    let mut merged = [one.clone(), other.clone()];
    merged[0].merge(&other);
    merged[1].merge_shared(&one);
    assert_eq!(merged[0].to_bytes(), merged[1].to_bytes(), "the order counts");
}

fn link_facts(bytes: &[u8]) {
    if let Some(fact) = stable(bytes, |bytes| LinkFact::decode(bytes).ok(), LinkFact::encode) {
        let mut row = LinkRow::default();
        row.offer(fact.clone());
        assert!(!row.offer(fact), "it is news twice");
        assert!(LinkRow::decode(&row.encode()).is_ok_and(|again| again == row));
    }
    stable(bytes, |bytes| LinkRow::decode(bytes).ok(), LinkRow::encode);
}

fn retraction(bytes: &[u8]) {
    stable(bytes, |bytes| Retraction::decode(bytes).ok(), Retraction::encode);
}

fn rules(bytes: &[u8]) {
    stable(bytes, |bytes| IdentityRules::decode(bytes).ok(), IdentityRules::encode);
}

fn shard_map(bytes: &[u8]) {
    let Some(map) = stable(bytes, |bytes| ShardMap::decode(bytes).ok(), ShardMap::encode) else { return };
    if map.validate().is_ok() {
        let owners = map.owner_table();
        for slot in (0..SLOT_COUNT).step_by(97).filter_map(isthmus_domain::Slot::new) {
            assert_eq!(owners.owner(slot), map.owner(slot).map(|shard| shard.id));
        }
    }
}

fn quality(bytes: &[u8]) {
    let settings = Settings { source: String::new(), updated_since: NOW };
    let read = |bytes: &[u8]| Partial::from_bytes(settings.clone(), bytes).ok();
    let Some(partial) = stable(bytes, read, |partial| partial.to_bytes().unwrap()) else { return };
    let report = partial.report(&isthmus_domain::quality::ReservedRules);
    for of in report.traits {
        for share in [of.completeness(), of.validity(), of.uniqueness(), of.consistency(), of.timeliness()] {
            assert!(share.is_none_or(|share| !share.is_nan()));
        }
    }
}

fn quarantine(bytes: &[u8]) {
    let bytes_of = Bytes::copy_from_slice;
    stable(bytes, |bytes| QuarantineEntry::from_bytes(bytes_of(bytes)).ok(), |entry| entry.encode_to_vec());
    stable(
        bytes,
        |bytes| Resolution::from_bytes(bytes_of(bytes)).ok(),
        |resolution| resolution.encode_to_vec(),
    );
}

fn of_identifiers(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    match input.byte() % 8 {
        0 => {
            if let Some(record) = stable_message::<identity::Record>(input.rest()) {
                drop((record.identifier(), record.parent()));
            }
        }
        1 => {
            if let Some(Ok(row)) =
                stable_message::<identity::StoredRow>(input.rest()).map(|row| row.link_row())
            {
                assert!(LinkRow::decode(&row.encode()).is_ok());
            }
        }
        2 => drop(stable_message::<identity::StoredHalf>(input.rest())),
        3 => drop(stable_message::<identity::StoredRetraction>(input.rest()).map(|row| row.retraction())),
        4 => drop(stable_message::<identity::Home>(input.rest())),
        5 => drop(stable_message::<identity::HomeMember>(input.rest())),
        6 => drop(stable_message::<identity::SmallRoot>(input.rest())),
        _ => drop(stable_message::<identity::Epoch>(input.rest())),
    }
}

/// The pieces of a fold, key and value: restored, folded to its end, stored and restored again.
fn fold(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    let mut pieces = Vec::new();
    while let (Some(key), Some(value)) = (input.next(), input.next()) {
        drop(fold_row(key, value));
        pieces.push((key, value));
    }
    let rules = Arc::new(IdentityRules::default());
    let Ok(mut fold) = Fold::restore(rules.clone(), pieces.iter().copied()) else { return };
    for _ in 0..=2 * pieces.len() {
        fold.step(1);
    }
    assert!(fold.is_settled(), "folded and folded, and not at its end");
    let components = fold.components().unwrap();
    let mut stored: std::collections::BTreeMap<Vec<u8>, Vec<u8>> =
        pieces.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    for write in fold.take_writes() {
        match write.value {
            Some(value) => drop(stored.insert(write.key, value)),
            None => drop(stored.remove(&write.key)),
        }
    }
    let pieces = stored.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let mut again = Fold::restore(rules, pieces).unwrap_or_else(|error| panic!("{error}"));
    again.settle();
    let same = again.components().is_some_and(|again| {
        again.iter().map(|one| one.encode()).eq(components.iter().map(|one| one.encode()))
    });
    assert!(same, "stored and restored it joins others");
}

fn feed(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(16));
    if let Some(row) = Row::read(key, value) {
        let written = row.to_bytes();
        assert!(Row::read(&written[..16], &written[16..]) == Some(row));
    }
}

fn meta(bytes: &[u8]) {
    let read = |bytes: &[u8]| ShardMeta::decode(7, &Bytes::copy_from_slice(bytes)).ok();
    stable(bytes, read, |meta| meta.encode().to_vec());
    let read = |bytes: &[u8]| isthmus_raft::decode_conf(&Bytes::copy_from_slice(bytes)).ok();
    stable(bytes, read, |conf| isthmus_raft::encode_conf(conf).to_vec());
    stable(bytes, |bytes| GroupState::decode(7, bytes).ok(), GroupState::encode);
}

/// Rows of outboxes and inboxes: keys and values.
fn streams(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    let mut rows = Vec::new();
    while let (Some(key), Some(value)) = (input.next(), input.next()) {
        let _ = (keys::outbox_parts(key), keys::numbered_part(key), keys::quarantine_id(key));
        let _ = (isthmus_identity::keys::facet(key), isthmus_identity::keys::link_row_key(key));
        let _ = isthmus_identity::keys::half_row_key(key);
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
    }
    if let Ok(streams) = Streams::load(rows) {
        let _ = (streams.waiting(), streams.received(1));
    }
}

fn view(bytes: &[u8]) {
    let Some(wire) = stable_message::<internal::ClusterView>(bytes) else { return };
    let Ok(view) = View::from_wire(wire.clone()) else { return };
    assert_eq!(view.wire().encode_to_vec(), wire.encode_to_vec());
    drop((view.source_by_key("k1").is_some(), view.shard_map.owner_table()));
}

fn storage(bytes: &[u8]) {
    stable_message::<GroupMeta>(bytes);
    stable_message::<RunMeta>(bytes);
    stable_message::<Exported>(bytes);
}

fn frames(bytes: &[u8]) {
    stable_message::<internal::ShardCommand>(bytes);
    stable_message::<internal::ExchangeRequest>(bytes);
    stable_message::<internal::ExchangeResponse>(bytes);
    stable_message::<internal::MetaCommand>(bytes);
    let read = |bytes: &[u8]| serde_json::from_slice::<Model>(bytes).ok();
    stable(bytes, read, |model| serde_json::to_vec(model).unwrap());
}

fn groups(bytes: &[u8]) {
    stable_message::<internal::GroupRow>(bytes);
    stable_message::<internal::MembershipRow>(bytes);
    stable_message::<internal::GroupMembershipMessage>(bytes);
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let rules_in_force = &*RULES_IN_FORCE;
    let context = rules_in_force.context(None);
    let json = br#"{"type":"identify","userId":"42","messageId":"m","anonymousId":"a-1","traits":{"email":"a@b.de","age":7},"timestamp":"2025-12-31T10:00:00Z","context":{"ip":"x"}}"#;
    let order = br#"{"type":"track","event":"Order Completed","userId":"42","messageId":"n","properties":{"revenue":"44.02","currency":"EUR"}}"#;
    let accepted =
        |json: &[u8]| isthmus_domain::accept(isthmus_domain::RawItem::Json(json), &context).unwrap().record;
    let (record, other) = (accepted(json), accepted(order));
    let of_group = accepted(
        br#"{"type":"group","groupId":"g-1","userId":"42","messageId":"o","traits":{"name":"Acme","plan":"pro"}}"#,
    );
    let group_row = internal::GroupRow { summary: Summary::of(&of_group).to_bytes().into(), members: 1 };
    let said = internal::GroupSaid {
        record: of_group.to_bytes(),
        namespace: of_group.namespace.clone(),
        value: of_group.value.clone(),
        number: 1,
    };
    let membership = internal::GroupMembershipMessage {
        group: of_group.group.as_ref().unwrap().facet.clone(),
        member: of_group.facet.clone(),
        body: Some(internal::group_membership_message::Body::Said(said)),
    };
    let summary = |record: &EventRecord| Summary::of(record).to_bytes();
    let facts: Vec<LinkFact> = record.link_facts().map(Result::unwrap).collect();
    let mut row = LinkRow::default();
    row.offer(facts[0].clone());
    let [a, b] = [&facts[0].a, &facts[0].b].map(|identifier| FacetId::of(context.key, identifier));
    let key = RowKey { a, b, source_and_kind: [1; 16] };
    let mut fold = Fold::new(Arc::new(IdentityRules::default()));
    fold.put(key, &row).unwrap();
    fold.settle();
    let writes = fold.take_writes();
    let strings =
        writes.iter().flat_map(|write| [write.key.as_slice(), write.value.as_deref().unwrap_or_default()]);
    let map = ShardMap::even(3).unwrap();
    let entry = QuarantineEntry {
        id: vec![1; 16].into(),
        reason: "MALFORMED".to_owned(),
        payload: b"{".to_vec().into(),
        ..QuarantineEntry::default()
    };
    let stored =
        identity::StoredRow { fact: Some(facts[0].encode().into()), version: 1, ..Default::default() };
    let view = internal::ClusterView {
        version: 1,
        cluster_id: vec![1; 16].into(),
        shard_map: map.encode().into(),
        ..Default::default()
    };
    let retraction = Retraction {
        given_at: NOW,
        id: "r".to_owned(),
        scope: isthmus_domain::identity::Scope::Identifier(facts[0].a.clone()),
        until: isthmus_domain::identity::Until::Ever,
        by: "me".to_owned(),
        reason: "why".to_owned(),
    };
    let group = GroupMeta { group: 7, replica: 1, store: 2, applied_index: 5, ..GroupMeta::default() };
    let outbox = [keys::outbox_last(3), keys::inbox(4)];
    let streams = [outbox[0].as_slice(), &[0, 0, 0, 0, 0, 0, 0, 9], &outbox[1], &[0, 0, 0, 0, 0, 0, 0, 2]];
    let seeds: [(u8, Vec<u8>); 20] = [
        (0, record.to_bytes().to_vec()),
        (0, other.to_bytes().to_vec()),
        (1, pieces([summary(&record).as_slice(), &summary(&other)])),
        (2, facts[0].encode()),
        (2, row.encode()),
        (3, retraction.encode()),
        (4, IdentityRules::default().encode()),
        (5, map.encode()),
        (7, entry.encode_to_vec()),
        (8, [vec![0], identity::Record::of(&facts[0].a).encode_to_vec()].concat()),
        (8, [vec![1], stored.encode_to_vec()].concat()),
        (9, pieces(strings)),
        (11, ShardMeta::empty().encode().to_vec()),
        (12, pieces(streams)),
        (13, view.encode_to_vec()),
        (14, group.encode_to_vec()),
        (10, vec![1; 64]),
        (0, of_group.to_bytes().to_vec()),
        (16, group_row.encode_to_vec()),
        (16, membership.encode_to_vec()),
    ];
    seeds.into_iter().map(|(choice, bytes)| [vec![choice], bytes].concat()).collect()
}
