//! Rows and flags that somebody waits for: in force when the homes that they touched serve the lists that they led to.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_domain::identity::RowKey;
use isthmus_proto::internal::v1::{Settled, identity_message::Body};

use super::{Piece, Root};
use crate::resolver::named;
use crate::{Error, Resolver, Store};

/// Something that is to be answered.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Pending {
    pub(super) what: What,
    pub(super) version: u64,
    /// Of a row: who sent it up, and the version of the flag that it spoke of.
    pub(super) by: Option<(FacetId, u64)>,
    /// The homes to wait for, with their epochs; `None` until the fold has seen it.
    pub(super) homes: Option<BTreeMap<FacetId, u64>>,
}

/// What is to be answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum What {
    /// A row, to its primary.
    Row(RowKey),
    /// The flag of an identifier.
    Flag(FacetId),
}

impl Pending {
    pub(super) fn row(key: RowKey, version: u64, by: FacetId, flag_version: u64) -> Self {
        Self { what: What::Row(key), version, by: Some((by, flag_version)), homes: None }
    }

    pub(super) fn flag(facet: FacetId, version: u64) -> Self {
        Self { what: What::Flag(facet), version, by: None, homes: None }
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.what == other.what && self.version == other.version
    }
}

impl Root {
    /// Finds out which homes each pending row or flag has to wait for, now that all is folded. Those that are not in
    /// the fold yet stay as they are.
    ///
    /// One that waits for a home whose list has changed since waits for what that led to as well: a list may come to be
    /// served because a member has been sent on that never arrived.
    pub(super) fn place(&mut self, touched: &BTreeMap<FacetId, u64>) {
        let mut pending = std::mem::take(&mut self.pending);
        for homes in pending.iter_mut().filter_map(|entry| entry.homes.as_mut()) {
            if homes.keys().any(|home| touched.contains_key(home)) {
                homes.extend(touched);
            }
        }
        for entry in pending.iter_mut().filter(|entry| entry.homes.is_none()) {
            let ends: Vec<FacetId> = match entry.what {
                What::Row(key) => {
                    let ends =
                        [key.a, key.b].into_iter().filter(|end| self.members.contains_key(end)).collect();
                    let flag_is_in = entry.by.is_none_or(|(by, version)| {
                        version == 0
                            || (self.flags.get(&by).is_some_and(|(known, _)| *known >= version)
                                && !self.awaited.contains_key(&by))
                    });
                    if self.waiting.contains_key(&key) || !flag_is_in {
                        continue;
                    }
                    ends
                }
                What::Flag(facet) => {
                    if self.awaited.contains_key(&facet) || !self.members.contains_key(&facet) {
                        continue;
                    }
                    vec![facet]
                }
            };
            let mut homes = touched.clone();
            for (home, _) in ends.iter().filter_map(|end| self.members.get(end)) {
                homes.insert(*home, self.homes.get(home).map_or(0, |(epoch, _)| *epoch));
            }
            entry.homes = Some(homes);
        }
        self.pending = pending;
        self.unwritten.insert(Piece::Head);
    }
}

impl<S: Store> Resolver<'_, S> {
    /// Answers what is in force.
    pub(super) fn settle(&mut self, root: &mut Root) -> Result<(), Error> {
        let serves = |home: &FacetId, epoch: u64| root.homes.get(home).map_or(0, |known| known.1) >= epoch;
        let settled: Vec<Pending> = root
            .pending
            .extract_if(.., |entry| {
                entry
                    .homes
                    .as_ref()
                    .is_some_and(|homes| homes.iter().all(|(home, epoch)| serves(home, *epoch)))
            })
            .collect();
        if settled.is_empty() {
            return Ok(());
        }
        root.unwritten.insert(Piece::Head);
        for entry in settled {
            let (to, settled) = match entry.what {
                What::Row(key) => (key.a, Settled { row: Some(named(&key, entry.version)), flag_version: 0 }),
                What::Flag(facet) => (facet, Settled { row: None, flag_version: entry.version }),
            };
            self.send(&to, Body::Settled(settled));
        }
        Ok(())
    }
}
