//! Link facts at both ends: rows that hold the oldest fact of a pair, source and kind.
//!
//! Browsers repeat both ids on every event. Only a fact older than the oldest known of its pair and source is news;
//! the slot of the primary knows which, and tells the counterpart's slot with a version.

use bytes::Bytes;
use isthmus_domain::{FacetId, LinkFact, LinkKind, LinkRow, Stamp};
use isthmus_proto::internal::v1::{CourierMessage, LinkRowMessage, courier_message::Body};
use isthmus_raft::Broken;
use xxhash_rust::xxh3::Xxh3;

use super::deliver::dispatch;
use crate::{
    error::broken,
    keys,
    state::{Needs, State},
};

/// Which rows a link of an event needs, at both ends: the other may be owned here too.
pub(super) fn needs(
    primary: &FacetId,
    counterpart: &FacetId,
    source: &str,
    kind: LinkKind,
    needs: &mut Needs,
) {
    let hash = source_and_kind(source, kind);
    needs.rows.push(keys::link_row(primary, counterpart, &hash));
    needs.rows.push(keys::half_row(counterpart, primary, &hash));
}

/// Records a fact at its primary; tells the counterpart when it is news.
pub(super) fn record(
    state: &mut State,
    primary: &FacetId,
    counterpart: &FacetId,
    fact: LinkFact,
    stamp: Stamp,
) -> Result<(), Broken> {
    let row_key = source_and_kind(&fact.source, fact.kind);
    let key = keys::link_row(primary, counterpart, &row_key);
    let before = state.row(&key);
    let mut row = match &before {
        Some(bytes) => LinkRow::decode(bytes).map_err(broken)?,
        None => LinkRow::default(),
    };
    if !row.offer(fact) {
        return Ok(());
    }
    let bytes = Bytes::from(row.encode());
    state.put_row(key, before.as_deref(), bytes.clone());
    let link = LinkRowMessage {
        facet: Bytes::copy_from_slice(counterpart.as_bytes()),
        primary: Bytes::copy_from_slice(primary.as_bytes()),
        row: bytes,
        row_key: Bytes::copy_from_slice(&row_key),
    };
    let slot = u32::from(counterpart.slot().number());
    dispatch(state, CourierMessage { slot, stamp: stamp.0, body: Some(Body::LinkRow(link)) }, stamp)
}

/// The key of the counterpart's copy; `None` for a message that can't be read.
pub(super) fn key(link: &LinkRowMessage) -> Option<Vec<u8>> {
    let (facet, primary) = (FacetId::from_slice(&link.facet)?, FacetId::from_slice(&link.primary)?);
    Some(keys::half_row(&facet, &primary, link.row_key.as_ref().try_into().ok()?))
}

/// Keeps the counterpart's copy: of two versions the larger.
pub(super) fn apply(state: &mut State, link: LinkRowMessage) -> Result<(), Broken> {
    let key = key(&link).ok_or_else(|| Broken::new("a link row's message can't be read"))?;
    let version = LinkRow::decode(&link.row).map_err(broken)?.version();
    let before = state.row(&key);
    if let Some(bytes) = &before
        && LinkRow::decode(bytes).map_err(broken)?.version() >= version
    {
        return Ok(());
    }
    // A copy: a slice would keep the whole command in memory.
    state.put_row(key, before.as_deref(), Bytes::copy_from_slice(&link.row));
    Ok(())
}

/// Tells rows of one pair apart. Not keyed: neither the source's name nor the kind is anybody's secret.
fn source_and_kind(source: &str, kind: LinkKind) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(&[kind as u8]);
    hasher.update(source.as_bytes());
    hasher.digest128().to_be_bytes()
}
