//! Keys of the rows, as ordered bytes: `table (1) | slot (2) | facet (16) | …`. Stored; never changed.
//!
//! All rows of an identifier lie in its slot, so that they go with it when the slot moves.

use isthmus_domain::FacetId;
use isthmus_domain::identity::RowKey;

/// Tables of identity resolution among a shard's control rows.
pub mod table {
    /// What an identifier's own slot keeps of link facts from it: `… | counterpart | source and kind`.
    pub const LINK_ROW: u8 = 0x10;
    /// The other end's copy: `… | primary | source and kind`.
    pub const HALF_ROW: u8 = 0x11;
    /// What a linked identifier knows of itself: nothing behind the facet.
    pub const RECORD: u8 = 0x30;
    /// What a home knows of its list, nothing behind the facet; and of each member: `… | member`.
    pub const HOME: u8 = 0x31;
    /// What a root knows: `… | piece`.
    pub const ROOT: u8 = 0x32;
    /// Retractions that concern an identifier: `… | id`.
    pub const RETRACTION: u8 = 0x33;
    /// How a profile came to be: `… | epoch (8)`.
    pub const HISTORY: u8 = 0x34;
    /// Identifiers whose events are to be searched: nothing behind the facet; the value is the search's number.
    pub const SEARCH: u8 = 0x35;
}

fn key(table: u8, facet: &FacetId, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(19 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(table);
    key.extend_from_slice(&facet.slot().number().to_be_bytes());
    key.extend_from_slice(facet.as_bytes());
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The row of a link fact at its primary.
pub fn link_row(row: &RowKey) -> Vec<u8> {
    key(table::LINK_ROW, &row.a, &[row.b.as_bytes(), &row.source_and_kind])
}

/// All rows of a primary, or those of one counterpart.
pub fn link_rows(primary: &FacetId, counterpart: Option<&FacetId>) -> Vec<u8> {
    key(table::LINK_ROW, primary, &[counterpart.map_or(&[], |facet| facet.as_bytes())])
}

/// The row of a link fact at its counterpart.
pub fn half_row(row: &RowKey) -> Vec<u8> {
    key(table::HALF_ROW, &row.b, &[row.a.as_bytes(), &row.source_and_kind])
}

/// All rows at a counterpart, or those of one primary.
pub fn half_rows(counterpart: &FacetId, primary: Option<&FacetId>) -> Vec<u8> {
    key(table::HALF_ROW, counterpart, &[primary.map_or(&[], |facet| facet.as_bytes())])
}

/// What an identifier knows of itself.
pub fn record(facet: &FacetId) -> Vec<u8> {
    key(table::RECORD, facet, &[])
}

/// What a home knows of a member.
pub fn home_member(home: &FacetId, member: &FacetId) -> Vec<u8> {
    key(table::HOME, home, &[member.as_bytes()])
}

/// What a home knows of its list.
pub fn home(facet: &FacetId) -> Vec<u8> {
    key(table::HOME, facet, &[])
}

/// A piece of a root's state; without a piece, the beginning of all.
pub fn root(facet: &FacetId, piece: &[u8]) -> Vec<u8> {
    key(table::ROOT, facet, &[piece])
}

/// A retraction that concerns an identifier; with an empty id, the beginning of all.
pub fn retraction(facet: &FacetId, id: &str) -> Vec<u8> {
    key(table::RETRACTION, facet, &[id.as_bytes()])
}

/// That an identifier's events are to be searched.
pub fn search(facet: &FacetId) -> Vec<u8> {
    key(table::SEARCH, facet, &[])
}

/// An epoch of a profile's history; without one, the beginning of all.
pub fn history(facet: &FacetId, epoch: Option<u64>) -> Vec<u8> {
    match epoch {
        Some(epoch) => key(table::HISTORY, facet, &[&epoch.to_be_bytes()]),
        None => key(table::HISTORY, facet, &[]),
    }
}

/// The facet that a key is of.
pub fn facet(key: &[u8]) -> Option<FacetId> {
    FacetId::from_slice(key.get(3..19)?)
}

/// The row that a key of [`table::LINK_ROW`] names.
pub fn link_row_key(key: &[u8]) -> Option<RowKey> {
    let (a, b) = (facet(key)?, FacetId::from_slice(key.get(19..35)?)?);
    Some(RowKey { a, b, source_and_kind: key.get(35..)?.try_into().ok()? })
}

/// The row that a key of [`table::HALF_ROW`] names.
pub fn half_row_key(key: &[u8]) -> Option<RowKey> {
    let (b, a) = (facet(key)?, FacetId::from_slice(key.get(19..35)?)?);
    Some(RowKey { a, b, source_and_kind: key.get(35..)?.try_into().ok()? })
}
