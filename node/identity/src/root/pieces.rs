//! What a root stores, in pieces.
//!
//! | key | what |
//! | --- | --- |
//! | `0` | head |
//! | `1`, … | a piece of the fold: see `isthmus_domain::identity` |
//! | `2`, facet | a member: its home, and since when |
//! | `3`, facet | a home: its list's epoch, the one that it serves, and whether this root has told it of that list |
//! | `4`, row | a row of which an end has not agreed: its version, its fact |
//! | `5`, facet | a flag: its version, whether it is raised |
//! | `6` | all of a small root: its pieces, by key |
//!
//! Most bundles are of two or three identifiers, and stay so. Such a root is one row, until it has too many pieces or is
//! too large for that; from then on, and if an earlier version has stored it, each piece is a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_domain::identity::{Fold, IdentityRules, RowKey};
use isthmus_proto::internal::v1::{LinkVersion, Piece as WirePiece};
use prost::Message;

use super::pend::{Pending, What};
use super::{Root, Told};
use crate::resolver::{bytes, facet, link_key, named, row_key};
use crate::stored::SmallRoot;
use crate::{Error, Resolver, Store, keys};

/// Names a piece that is the root's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Head,
    Member(FacetId),
    Home(FacetId),
    Waiting(RowKey),
    Flag(FacetId),
}

/// The first byte of the pieces of the fold.
pub(super) const FOLD: u8 = 1;
/// The key of all pieces of a small root.
const SMALL: &[u8] = &[6];
/// The most pieces of a small root, and their bytes.
const SMALL_PIECES: usize = 24;
const SMALL_BYTES: usize = 4 << 10;

/// The pieces of a root, by key.
pub(super) type Pieces = BTreeMap<Vec<u8>, Bytes>;

impl Piece {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Head => vec![0],
            Self::Member(facet) => [&[2][..], facet.as_bytes()].concat(),
            Self::Home(facet) => [&[3][..], facet.as_bytes()].concat(),
            Self::Waiting(key) => [&[4][..], &key.to_bytes()].concat(),
            Self::Flag(facet) => [&[5][..], facet.as_bytes()].concat(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::Head),
            [2, id @ ..] => FacetId::from_slice(id).map(Self::Member),
            [3, id @ ..] => FacetId::from_slice(id).map(Self::Home),
            [4, key @ ..] => RowKey::from_slice(key).map(Self::Waiting),
            [5, id @ ..] => FacetId::from_slice(id).map(Self::Flag),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Head {
    #[prost(uint64, tag = "1")]
    pub(super) epoch: u64,
    #[prost(bool, tag = "2")]
    pub(super) stepping: bool,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) asked: Vec<Bytes>,
    #[prost(message, repeated, tag = "4")]
    pub(super) pending: Vec<StoredPending>,
    #[prost(message, repeated, tag = "5")]
    pub(super) awaited: Vec<Awaited>,
    #[prost(message, repeated, tag = "6")]
    pub(super) arriving: Vec<Arriving>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(super) unsure: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredPending {
    #[prost(message, optional, tag = "1")]
    row: Option<LinkVersion>,
    #[prost(bytes = "bytes", tag = "2")]
    flag: Bytes,
    #[prost(uint64, tag = "3")]
    version: u64,
    #[prost(bytes = "bytes", tag = "4")]
    by: Bytes,
    #[prost(uint64, tag = "5")]
    by_flag_version: u64,
    #[prost(bool, tag = "6")]
    placed: bool,
    #[prost(message, repeated, tag = "7")]
    homes: Vec<AtHome>,
    // 8 was whether some home was told, without which one: such an entry is answered by the root.
    #[prost(message, optional, tag = "9")]
    told: Option<AtHome>,
}

/// A facet and an epoch or a version of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AtHome {
    #[prost(bytes = "bytes", tag = "1")]
    facet: Bytes,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(uint64, tag = "3")]
    active: u64,
    /// Of a home: whether this root has told it of its newest list.
    #[prost(bool, tag = "4")]
    by_us: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Awaited {
    #[prost(bytes = "bytes", tag = "1")]
    facet: Bytes,
    #[prost(message, repeated, tag = "2")]
    rows: Vec<LinkVersion>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Arriving {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) from: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) came: u64,
    #[prost(uint64, tag = "3")]
    pub(super) parts: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredFlag {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(bool, tag = "2")]
    shared: bool,
}

fn at(facet: &FacetId, number: u64) -> AtHome {
    AtHome { facet: bytes(facet), number, ..AtHome::default() }
}

/// A piece as it came or lies.
pub(super) enum Read {
    Head(Box<Head>),
    Member(FacetId, FacetId, u64),
    Home(FacetId, Told),
    Waiting(RowKey, u64, Option<isthmus_domain::LinkFact>),
    Flag(FacetId, u64, bool),
}

/// Reads a piece that is not one of the fold.
pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Read, Error> {
    let bad = |_| Error::Damaged("a piece of a root");
    Ok(match Piece::read(key).ok_or(Error::Damaged("the key of a root's piece"))? {
        Piece::Head => Read::Head(Box::new(Head::decode(value).map_err(bad)?)),
        Piece::Member(member) => {
            let at = AtHome::decode(value).map_err(bad)?;
            Read::Member(member, facet(&at.facet)?, at.number)
        }
        Piece::Home(home) => {
            let at = AtHome::decode(value).map_err(bad)?;
            Read::Home(home, Told { epoch: at.number, active: at.active, by_us: at.by_us })
        }
        Piece::Waiting(key) => {
            let row = LinkVersion::decode(value).map_err(bad)?;
            Read::Waiting(key, row.version, crate::stored::fact(Some(&row.fact))?)
        }
        Piece::Flag(about) => {
            let flag = StoredFlag::decode(value).map_err(bad)?;
            Read::Flag(about, flag.version, flag.shared)
        }
    })
}

/// A piece that was put or is gone.
type Change = (Vec<u8>, Option<Bytes>);

/// Applies changes.
pub(super) fn change(pieces: &mut Pieces, changes: Vec<Change>) {
    for (piece, value) in changes {
        match value {
            Some(value) => _ = pieces.insert(piece, value),
            None => _ = pieces.remove(&piece),
        }
    }
}

/// Adds what a row holds: a piece, or all of them.
pub(super) fn add_row(pieces: &mut Pieces, key: &[u8], value: Bytes) -> Result<(), Error> {
    if key != SMALL {
        pieces.insert(key.to_vec(), value);
        return Ok(());
    }
    let small = SmallRoot::decode(value).map_err(|_| Error::Damaged("a small root"))?;
    pieces.extend(small.pieces.into_iter().map(|piece| (piece.key.to_vec(), piece.value)));
    Ok(())
}

impl Root {
    /// What has changed since the last call.
    pub(super) fn take_writes(&mut self) -> Vec<Change> {
        let of_fold = self.fold.take_writes().into_iter();
        let of_fold = of_fold.map(|write| ([&[FOLD][..], &write.key].concat(), write.value.map(Bytes::from)));
        let mut changes: Vec<Change> = of_fold.collect();
        for piece in std::mem::take(&mut self.unwritten) {
            changes.push((piece.to_bytes(), self.piece(piece)));
        }
        changes
    }

    fn piece(&self, piece: Piece) -> Option<Bytes> {
        let encoded = match piece {
            Piece::Head => self.head().encode_to_vec(),
            Piece::Member(member) => {
                let (home, since) = self.members.get(&member)?;
                at(home, *since).encode_to_vec()
            }
            Piece::Home(home) => {
                let Told { epoch, active, by_us } = *self.homes.get(&home)?;
                AtHome { facet: Bytes::new(), number: epoch, active, by_us }.encode_to_vec()
            }
            Piece::Waiting(key) => {
                let (version, fact) = self.waiting.get(&key)?;
                let fact = fact.as_ref().map(|fact| fact.encode().into()).unwrap_or_default();
                LinkVersion { key: None, version: *version, fact }.encode_to_vec()
            }
            Piece::Flag(about) => {
                let (version, shared) = self.flags.get(&about)?;
                StoredFlag { version: *version, shared: *shared }.encode_to_vec()
            }
        };
        Some(encoded.into())
    }

    fn head(&self) -> Head {
        let pending = |entry: &Pending| {
            let (row, flag) = match entry.what {
                What::Row(key) => (Some(named(&key, 0)), Bytes::new()),
                What::Flag(facet) => (None, bytes(&facet)),
            };
            let homes = entry.homes.iter().flatten();
            StoredPending {
                row,
                flag,
                version: entry.version,
                by: entry.by.map(|(by, _)| bytes(&by)).unwrap_or_default(),
                by_flag_version: entry.by.map_or(0, |(_, version)| version),
                placed: entry.homes.is_some(),
                told: entry.told.map(|(home, since)| at(&home, since)),
                homes: homes.map(|(home, epoch)| at(home, *epoch)).collect(),
            }
        };
        let awaited = |(facet, rows): (&FacetId, &Vec<(RowKey, u64)>)| Awaited {
            facet: bytes(facet),
            rows: rows
                .iter()
                .map(|(key, version)| LinkVersion {
                    key: Some(link_key(key)),
                    version: *version,
                    fact: Bytes::new(),
                })
                .collect(),
        };
        let arriving = |(from, (came, parts)): (&FacetId, &(u64, u64))| Arriving {
            from: bytes(from),
            came: *came,
            parts: *parts,
        };
        Head {
            epoch: self.epoch,
            stepping: self.stepping,
            asked: self.asked.iter().map(bytes).collect(),
            pending: self.pending.iter().map(pending).collect(),
            awaited: self.awaited.iter().map(awaited).collect(),
            arriving: self.arriving.iter().map(arriving).collect(),
            unsure: self.unsure.iter().map(bytes).collect(),
        }
    }

    /// Takes a head in beside what is known: of a root that was, or the stored one.
    pub(super) fn absorb_head(&mut self, head: Head) -> Result<(), Error> {
        self.epoch = self.epoch.max(head.epoch);
        for asked in &head.asked {
            let asked = facet(asked)?;
            if !self.members.contains_key(&asked) {
                self.asked.insert(asked);
            }
        }
        for unsure in &head.unsure {
            self.unsure.insert(facet(unsure)?);
        }
        for entry in head.pending {
            let what = match entry.row {
                Some(row) => What::Row(row_key(row.key.as_ref())?),
                None => What::Flag(facet(&entry.flag)?),
            };
            let by = match entry.by.is_empty() {
                true => None,
                false => Some((facet(&entry.by)?, entry.by_flag_version)),
            };
            let homes: Result<_, Error> =
                entry.homes.iter().map(|home| Ok((facet(&home.facet)?, home.number))).collect();
            let homes = if entry.placed { Some(homes?) } else { None };
            let told = match entry.told {
                Some(told) => Some((facet(&told.facet)?, told.number)),
                None => None,
            };
            self.pending.push(Pending { what, version: entry.version, by, homes, told });
        }
        for awaited in head.awaited {
            let rows: Result<_, Error> =
                awaited.rows.iter().map(|row| Ok((row_key(row.key.as_ref())?, row.version))).collect();
            self.awaited.insert(facet(&awaited.facet)?, rows?);
        }
        for arriving in head.arriving {
            self.arrived(facet(&arriving.from)?, arriving.came, arriving.parts);
        }
        Ok(())
    }

    /// Takes note of parts that came from a root that ships.
    pub(super) fn arrived(&mut self, from: FacetId, came: u64, parts: u64) {
        let known = self.arriving.entry(from).or_default();
        known.0 = known.0.saturating_add(came);
        known.1 = known.1.max(parts);
        if known.1 > 0 && known.0 >= known.1 {
            self.arriving.remove(&from);
        }
        self.unwritten.insert(Piece::Head);
    }

    /// From its stored pieces.
    fn restore(rules: Arc<IdentityRules>, rows: &Pieces) -> Result<Self, Error> {
        let of_fold = rows.iter().filter(|(key, _)| key.first() == Some(&FOLD));
        let fold = of_fold.map(|(key, value)| (&key[1..], value.as_ref()));
        let mut root = Self::empty(Fold::restore(rules, fold)?);
        for (key, value) in rows.iter().filter(|(key, _)| key.first() != Some(&FOLD)) {
            match read(key, value)? {
                Read::Head(head) => {
                    root.stepping = head.stepping;
                    root.absorb_head(*head)?;
                }
                Read::Member(member, home, since) => root.set_member(member, home, since),
                Read::Home(home, told) => _ = root.homes.insert(home, told),
                Read::Waiting(key, version, fact) => _ = root.waiting.insert(key, (version, fact)),
                Read::Flag(about, version, shared) => _ = root.flags.insert(about, (version, shared)),
            }
        }
        root.unwritten.clear();
        Ok(root)
    }
}

impl<S: Store> Resolver<'_, S> {
    /// The root that an identifier is: from memory, from its rows, or a new one. To be given back by
    /// [`Self::keep_root`].
    pub(crate) fn root(&mut self, own: FacetId) -> Result<Box<Root>, Error> {
        if let Some(mut root) = self.roots.take(&own) {
            if root.fold.rules().version() != self.rules.version() {
                root.fold.set_rules(self.rules.clone());
            }
            return Ok(root);
        }
        match self.stored_root(&own)? {
            Some(root) => Ok(Box::new(root)),
            None => {
                let mut record = self.record(&own)?;
                record.is_root = true;
                self.save(&own, &record)?;
                Ok(Box::new(Root::new(own, self.rules.clone())))
            }
        }
    }

    /// A root from its rows.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn stored_root(&mut self, own: &FacetId) -> Result<Option<Root>, Error> {
        if !self.record(own)?.is_root {
            return Ok(None);
        }
        let prefix = keys::root(own, &[]);
        let rows = self.store.scan(&prefix, None, usize::MAX)?;
        let is_small = rows.iter().any(|(key, _)| &key[prefix.len()..] == SMALL);
        let mut pieces = Pieces::new();
        for (key, value) in rows {
            add_row(&mut pieces, &key[prefix.len()..], value)?;
        }
        let mut root = Root::restore(self.rules.clone(), &pieces)?;
        root.small = is_small.then_some(pieces);
        Ok(Some(root))
    }

    /// Stores what has changed, and keeps the root for the next command.
    pub(crate) fn keep_root(&mut self, own: FacetId, mut root: Box<Root>) -> Result<(), Error> {
        self.store_root(&own, &mut root)?;
        self.roots.keep(own, root);
        Ok(())
    }

    /// Stores what has changed.
    pub(super) fn store_root(&mut self, own: &FacetId, root: &mut Root) -> Result<(), Error> {
        let changes = root.take_writes();
        let Some(mut small) = root.small.take() else {
            return changes
                .into_iter()
                .try_for_each(|(piece, value)| self.store.put(keys::root(own, &piece), value));
        };
        change(&mut small, changes);
        let bytes: usize = small.iter().map(|(key, value)| key.len() + value.len()).sum();
        if small.len() <= SMALL_PIECES && bytes <= SMALL_BYTES {
            let pieces = small.iter();
            let pieces =
                pieces.map(|(key, value)| WirePiece { key: key.clone().into(), value: value.clone() });
            self.put(keys::root(own, SMALL), &SmallRoot { pieces: pieces.collect() })?;
            root.small = Some(small);
            return Ok(());
        }
        self.store.put(keys::root(own, SMALL), None)?;
        small.into_iter().try_for_each(|(key, value)| self.store.put(keys::root(own, &key), Some(value)))
    }
}
