//! What a fold stores, in pieces small enough for rows of a control store.
//!
//! | key | value |
//! | --- | --- |
//! | `0` | head: how far the fold is |
//! | `1`, [`RowKey`] (48 bytes) | a row |
//! | `2`, facet (16 bytes) | the flag that an identifier is shared |
//! | `3`, number of facts folded (8 bytes, big endian) | a saved state |
//!
//! Values are protobuf messages. Tags never change their meaning.
//!
//! - *head*: `uint64` version of the rules = 1; `uint64` number of facts folded = 2; the last of them = 3, a link fact,
//!   absent when there is none; `bool` whether there are changes that nobody has taken = 4; `bool` whether the fold
//!   goes on from the newest saved state = 5.
//! - *row*: a [`LinkRow`] = 1; of a row without a fact, the last that it had = 2 (so that its ends stay known).
//! - *flag*: `uint64` version = 1; `bool` shared = 2.
//! - *saved state*: `uint64` number of facts folded = 1; the last of them = 2; repeated group = 3: `bytes` facets of its
//!   members, 16 each, sorted = 1; packed repeated `sint64` time of the oldest fact followed about each = 2. Groups are
//!   sorted by their first facet. Identifiers that stand alone are in none. `bool` whether no fact has met a limit so far
//!   = 4.
//!
//! The largest piece is a saved state, of about 24 bytes an identifier. Whoever keeps rows small splits it.

use std::sync::Arc;

use prost::Message;

use super::members::Members;
use super::partition::Group;
use crate::error::Error;
use crate::hash::FacetId;
use crate::link::{LinkFact, LinkRow};

/// Names a row: the facets of both ends, and what tells rows of one pair apart. Nothing else is known of a row whose
/// fact was retracted before anybody heard of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RowKey {
    /// The facet of the primary identifier.
    pub a: FacetId,
    /// The facet of the counterpart.
    pub b: FacetId,
    /// A hash of source and kind; which one is the caller's choice.
    pub source_and_kind: [u8; 16],
}

/// A piece to put, or to delete when it has no value. Keys are relative to whatever the fold belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// See the module's table.
    pub key: Vec<u8>,
    /// What to store; `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// The name of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum PieceKey {
    Head,
    Row(RowKey),
    Flag(FacetId),
    Saved(u64),
}

const BAD_KEY: Error = Error::Invalid { what: "piece of a fold", why: "its key is none" };

impl RowKey {
    /// 48 bytes: the primary's facet, the counterpart's, the hash.
    pub fn to_bytes(self) -> [u8; 48] {
        let mut out = [0; 48];
        out[..16].copy_from_slice(self.a.as_bytes());
        out[16..32].copy_from_slice(self.b.as_bytes());
        out[32..].copy_from_slice(&self.source_and_kind);
        out
    }

    /// Reads [`Self::to_bytes`] back; `None` unless there are exactly 48 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (a, rest) = bytes.split_at_checked(16)?;
        let (b, hash) = rest.split_at_checked(16)?;
        Some(Self {
            a: FacetId::from_slice(a)?,
            b: FacetId::from_slice(b)?,
            source_and_kind: hash.try_into().ok()?,
        })
    }
}

impl PieceKey {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Head => vec![0],
            Self::Row(key) => [&[1][..], &key.to_bytes()].concat(),
            Self::Flag(facet) => [&[2][..], facet.as_bytes()].concat(),
            Self::Saved(folded) => [&[3][..], &folded.to_be_bytes()].concat(),
        }
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        match bytes {
            [0] => Some(Self::Head),
            [1, key @ ..] => RowKey::from_slice(key).map(Self::Row),
            [2, facet @ ..] => FacetId::from_slice(facet).map(Self::Flag),
            [3, folded @ ..] => folded.try_into().ok().map(u64::from_be_bytes).map(Self::Saved),
            _ => None,
        }
        .ok_or(BAD_KEY)
    }
}

/// The row that a piece holds, to be shipped to another root; `None` for a piece of another sort.
pub fn fold_row(key: &[u8], value: &[u8]) -> Result<Option<(RowKey, LinkRow)>, Error> {
    match PieceKey::from_slice(key)? {
        PieceKey::Row(key) => {
            let row = StoredRow::decode(value)?;
            Ok(Some((key, LinkRow::of(row.fact.as_deref().cloned(), row.version))))
        }
        PieceKey::Head | PieceKey::Flag(_) | PieceKey::Saved(_) => Ok(None),
    }
}

/// How far a fold is.
#[derive(Clone, PartialEq)]
pub(super) struct Head {
    pub(super) rules_version: u64,
    pub(super) folded: u64,
    pub(super) last: Option<Arc<LinkFact>>,
    pub(super) untaken: bool,
    pub(super) stale: bool,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let last = self.last.as_ref().map(|fact| fact.encode());
        let Self { rules_version, folded, untaken, stale, .. } = *self;
        wire::Head { rules_version, folded, last, untaken, stale }.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let sent = wire::Head::decode(bytes).map_err(Error::decode("head of a fold"))?;
        let last = sent.last.map(|fact| LinkFact::decode(&fact).map(Arc::new)).transpose()?;
        let wire::Head { rules_version, folded, untaken, stale, .. } = sent;
        Ok(Self { rules_version, folded, last, untaken, stale })
    }
}

/// A row as a fold keeps it.
#[derive(Clone, PartialEq, Default)]
pub(super) struct StoredRow {
    pub(super) version: u64,
    pub(super) fact: Option<Arc<LinkFact>>,
    /// The last fact of a row that has none now.
    pub(super) withdrawn: Option<Arc<LinkFact>>,
}

impl StoredRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let row = LinkRow::of(self.fact.as_deref().cloned(), self.version).encode();
        wire::Row { row, withdrawn: self.withdrawn.as_ref().map(|fact| fact.encode()) }.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let sent = wire::Row::decode(bytes).map_err(Error::decode("row of a fold"))?;
        let row = LinkRow::decode(&sent.row)?;
        let withdrawn = sent.withdrawn.map(|fact| LinkFact::decode(&fact).map(Arc::new)).transpose()?;
        Ok(Self { version: row.version(), fact: row.fact().cloned().map(Arc::new), withdrawn })
    }
}

/// Whether an identifier is shared, as its own slot says.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Flag {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(bool, tag = "2")]
    pub(super) shared: bool,
}

impl Flag {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes).map_err(Error::decode("flag of a fold"))
    }
}

/// The state of a fold after so and so many facts.
#[derive(Clone)]
pub(super) struct Saved {
    pub(super) folded: u64,
    pub(super) last: Arc<LinkFact>,
    pub(super) groups: Vec<Group>,
    /// Whether any of the facts met a limit, or may have: an earlier version didn't say.
    pub(super) is_contested: bool,
}

impl Saved {
    pub(super) fn encode(&self, members: &Members) -> Vec<u8> {
        let mut groups: Vec<Vec<(FacetId, i64)>> = self
            .groups
            .iter()
            .map(|group| {
                let mut group: Vec<_> =
                    group.iter().map(|(n, first)| (members.get(*n).facet, *first)).collect();
                group.sort_unstable();
                group
            })
            .collect();
        groups.sort_unstable();
        let group = |group: Vec<(FacetId, i64)>| wire::Group {
            facets: group.iter().flat_map(|(facet, _)| *facet.as_bytes()).collect(),
            first: group.iter().map(|(_, first)| *first).collect(),
        };
        wire::Saved {
            folded: self.folded,
            last: self.last.encode(),
            groups: groups.into_iter().map(group).collect(),
            calm: !self.is_contested,
        }
        .encode_to_vec()
    }

    /// Reads [`Self::encode`] back; refuses unknown facets, and groups that are not disjoint or of one member.
    pub(super) fn decode(bytes: &[u8], members: &Members) -> Result<Self, Error> {
        let bad = |why| Error::Invalid { what: "saved state of a fold", why };
        let sent = wire::Saved::decode(bytes).map_err(Error::decode("saved state of a fold"))?;
        let mut taken = vec![false; members.len()];
        let mut groups = Vec::with_capacity(sent.groups.len());
        for group in &sent.groups {
            if group.facets.len() != group.first.len() * 16 || group.first.len() < 2 {
                return Err(bad("a group has no members, or not as many times"));
            }
            let mut numbers = Vec::with_capacity(group.first.len());
            for (facet, first) in group.facets.chunks_exact(16).zip(&group.first) {
                let number = FacetId::from_slice(facet).and_then(|facet| members.number(&facet));
                let number = number.ok_or(bad("it names an identifier that no row does"))?;
                if std::mem::replace(&mut taken[number as usize], true) {
                    return Err(bad("an identifier is in it twice"));
                }
                numbers.push((number, *first));
            }
            groups.push(numbers);
        }
        let last = Arc::new(LinkFact::decode(&sent.last)?);
        Ok(Self { folded: sent.folded, last, groups, is_contested: !sent.calm })
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Head {
        #[prost(uint64, tag = "1")]
        pub(super) rules_version: u64,
        #[prost(uint64, tag = "2")]
        pub(super) folded: u64,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(super) last: Option<Vec<u8>>,
        #[prost(bool, tag = "4")]
        pub(super) untaken: bool,
        #[prost(bool, tag = "5")]
        pub(super) stale: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Row {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) row: Vec<u8>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) withdrawn: Option<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Saved {
        #[prost(uint64, tag = "1")]
        pub(super) folded: u64,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) last: Vec<u8>,
        #[prost(message, repeated, tag = "3")]
        pub(super) groups: Vec<Group>,
        #[prost(bool, tag = "4")]
        pub(super) calm: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Group {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) facets: Vec<u8>,
        #[prost(sint64, repeated, tag = "2")]
        pub(super) first: Vec<i64>,
    }
}
