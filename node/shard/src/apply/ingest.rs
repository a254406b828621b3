//! `Ingest`: events, each exactly once.

use bytes::Bytes;
use isthmus_domain::identity::RowKey;
use isthmus_domain::{EventRecord, EventType, FacetId, QuarantineEntry, Reason, RecordView, Slot, Stamp};
use isthmus_proto::{
    internal::v1::{CommandItem, command_item::Body},
    v1::ItemOutcome,
};
use isthmus_raft::Broken;
use prost::Message as _;

use super::{Ingested, deliver::off, group, identity};
use crate::{
    error::broken,
    keys,
    memtable::{DedupEntry, DedupKey},
    state::{EventNeed, Needs, State},
    waits::Awaited,
};

/// A quarantined payload is kept in rows of at most this size: the control store holds small rows.
const PART_BYTES: usize = 32 << 10;

/// The outcome of an item whose slot the shard doesn't own: nothing was done, the router asks elsewhere.
pub const STALE_SHARD_MAP: u8 = 100;

/// An item of an ingest command, decoded.
pub enum Item {
    /// An event.
    Event(Event),
    /// Something to be kept in quarantine.
    Quarantine(Box<QuarantineEntry>),
}

/// An event as it stands in a command: still encoded, checked, with what apply needs of it.
pub struct Event {
    /// The attempt that it came with.
    attempt: u64,
    facet: FacetId,
    key: DedupKey,
    body_hash: [u8; 16],
    timestamp: i64,
    /// Whether it has counterparts; most events have none.
    linked: bool,
    /// The group that it names; most name none.
    group: Option<FacetId>,
    /// Where it came from; empty for most.
    origin: String,
    /// Whether it comes out of the quarantine, where it is kept already.
    from_quarantine: bool,
    /// Where in `record` the source's name stands.
    source: (u32, u32),
    record: Bytes,
}

impl Item {
    /// Decodes an item.
    pub(super) fn decode(item: CommandItem) -> Result<Self, Broken> {
        match item.body {
            Some(Body::Record(record)) => {
                let view = RecordView::read(&record).map_err(broken)?;
                let begins = view.source.as_ptr().addr().wrapping_sub(record.as_ptr().addr());
                let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                let source = (place(begins), place(begins.saturating_add(view.source.len())));
                Ok(Self::Event(Event {
                    attempt: item.attempt,
                    facet: view.facet,
                    key: keys::in_slot(view.dedup_key, view.facet.slot()),
                    body_hash: view.body_hash,
                    timestamp: view.timestamp,
                    linked: view.links_len() > 0,
                    group: view.group.map(|group| group.facet),
                    origin: item.origin,
                    from_quarantine: item.from_quarantine,
                    source,
                    record,
                }))
            }
            Some(Body::Quarantine(bytes)) => {
                Ok(Self::Quarantine(Box::new(QuarantineEntry::from_bytes(bytes).map_err(broken)?)))
            }
            None => Err(broken("an item without a body")),
        }
    }

    /// An event's source and time, for those who measure; apply has no use for them.
    pub(crate) fn source_and_time(&self) -> Option<(&[u8], i64)> {
        let Self::Event(Event { source: (begins, ends), record, timestamp, .. }) = self else { return None };
        Some((record.get(*begins as usize..*ends as usize)?, *timestamp))
    }

    /// Which rows below the active memtable it may need.
    pub(super) fn needs(&self, needs: &mut Needs) -> Result<(), Broken> {
        match self {
            Self::Event(event) => {
                let Event { facet, key, body_hash, .. } = event;
                let conflict = conflict_id(*key, body_hash);
                needs.events.push(EventNeed { key: *key, body_hash: *body_hash, conflict });
                if event.linked {
                    let view = RecordView::read(&event.record).map_err(broken)?;
                    for link in view.links() {
                        let source_and_kind = isthmus_identity::source_and_kind(view.source, link.kind);
                        let row = RowKey { a: *facet, b: link.facet, source_and_kind };
                        needs.identities.push(isthmus_identity::keys::link_row(&row));
                    }
                }
                if let Some(group) = &event.group {
                    group::needs(facet, group, needs);
                }
            }
            Self::Quarantine(entry) => needs.rows.push(keys::quarantine(&entry.id())),
        }
        Ok(())
    }
}

/// The id under which a second body for a known message id is kept: the same for the same body.
fn conflict_id(key: DedupKey, body_hash: &[u8; 16]) -> [u8; 16] {
    let mut id = key;
    for (byte, hash) in id.iter_mut().zip(body_hash) {
        *byte ^= *hash;
    }
    keys::in_slot(id, Slot::of_hash(&key))
}

/// Takes the items in, each for itself.
pub(super) fn apply(state: &mut State, stamp: u64, items: Vec<Item>) -> Result<Ingested, Broken> {
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    let mut ingested = Ingested {
        stamp,
        outcomes: Vec::with_capacity(items.len()),
        reasons: Vec::new(),
        shard_map_version: state.meta.map.version,
        open: Vec::new(),
    };
    for (index, item) in (0u32..).zip(items) {
        let (outcome, reason) = match item {
            Item::Event(item) => {
                let (answer, open) = event(state, stamp, &item)?;
                ingested.open.extend(open.into_iter().map(|row| (index, row)));
                answer
            }
            Item::Quarantine(entry) => quarantine(state, stamp, *entry),
        };
        if let Some(reason) = reason {
            ingested.reasons.push((u32::try_from(ingested.outcomes.len()).unwrap_or(u32::MAX), reason));
        }
        ingested.outcomes.push(outcome);
    }
    Ok(ingested)
}

type Answer = (u8, Option<String>);

fn owns(state: &State, slot: Slot) -> bool {
    state.meta.owned.contains(slot) || off("shard::ownership::items")
}

/// Takes an event in; also says what its answer has to wait for.
fn event(state: &mut State, stamp: Stamp, event: &Event) -> Result<(Answer, Vec<Awaited>), Broken> {
    let Event { attempt, facet, key, body_hash, timestamp, .. } = *event;
    if !owns(state, facet.slot()) {
        return Ok(((STALE_SHARD_MAP, None), vec![]));
    }
    if let Some(known) = state.dedup(&key)
        && !off("shard::dedup")
    {
        if known.body_hash != body_hash && event.from_quarantine {
            let reason = Reason::MessageIdConflict.code().to_owned();
            return Ok(((number(ItemOutcome::Rejected), Some(reason)), vec![]));
        }
        if known.body_hash != body_hash {
            return Ok((quarantine(state, stamp, conflict(event)?), vec![]));
        }
        // A duplicate is answered no earlier than its original could be.
        let mut open = match event.linked {
            true => identity::open_links(state, facet, &RecordView::read(&event.record).map_err(broken)?)?,
            false => vec![],
        };
        if let Some(group) = &event.group {
            open.extend(group::open(state, &facet, group)?);
        }
        // A retry of the attempt that was taken gets its answer; anybody else hears that it is known.
        let outcome = if known.attempt == attempt { known.outcome } else { number(ItemOutcome::Duplicate) };
        return Ok(((outcome, None), open));
    }
    let outcome = number(ItemOutcome::Accepted);
    let entry = DedupEntry { stamp, attempt, body_hash, outcome };
    // Before its links: what they lead to comes behind it in the feed.
    state.push_event(facet, key, timestamp, entry, &event.record)?;
    let mut open = match event.linked {
        true => identity::links(state, facet, &RecordView::read(&event.record).map_err(broken)?)?,
        false => vec![],
    };
    if event.group.is_some() {
        open.extend(group::say(state, &RecordView::read(&event.record).map_err(broken)?)?);
    }
    // Only these have traits.
    if state.touched.is_on() && RecordView::read(&event.record).map_err(broken)?.kind == EventType::Identify {
        state.touched.add(facet);
    }
    Ok(((outcome, None), open))
}

/// Keeps an item that can't be applied; once, however often it is sent.
fn quarantine(state: &mut State, stamp: Stamp, mut entry: QuarantineEntry) -> Answer {
    let id = entry.id();
    if !owns(state, Slot::of_hash(&id)) {
        return (STALE_SHARD_MAP, None);
    }
    let reason = entry.reason.clone();
    let key = keys::quarantine(&id);
    if state.row(&key).is_none() {
        entry.received = stamp.0;
        let mut payload = std::mem::take(&mut entry.payload);
        state.put_row(key, None, entry.encode_to_vec().into());
        for part in 0u16.. {
            if payload.is_empty() {
                break;
            }
            let bytes = payload.split_to(payload.len().min(PART_BYTES));
            // A copy: a slice would keep the whole command in memory.
            state.put_row(keys::quarantine_part(&id, part), None, Bytes::copy_from_slice(&bytes));
        }
    }
    (number(ItemOutcome::Quarantined), Some(reason))
}

/// What is kept of an event whose message id came before with another body: the first one wins.
fn conflict(event: &Event) -> Result<QuarantineEntry, Broken> {
    let record = EventRecord::from_bytes(event.record.clone()).map_err(broken)?;
    Ok(QuarantineEntry {
        id: Bytes::copy_from_slice(&conflict_id(event.key, &event.body_hash)),
        reason: Reason::MessageIdConflict.code().to_owned(),
        message: "an event with this message id, source and primary identifier is stored already and says something \
                  else; the first one counts: send this one with a message id of its own"
            .to_owned(),
        field: "messageId".to_owned(),
        origin: event.origin.clone(),
        payload: record.to_json().into(),
        source: record.source,
        content_type: "application/json".to_owned(),
        message_id: record.message_id,
        ..QuarantineEntry::default()
    })
}

const fn number(outcome: ItemOutcome) -> u8 {
    outcome as i32 as u8
}
