//! Rows and flags that somebody waits for: in force when the homes that they touched serve the lists that they led to.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_domain::identity::RowKey;
use isthmus_proto::internal::v1::{Settled, identity_message::Body};

use super::fold::List;
use super::{Piece, Root, Told};
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
    /// The one home that it waits for, if that was asked to answer by itself: with every list from this epoch on.
    pub(super) told: Option<(FacetId, u64)>,
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
        Self { what: What::Row(key), version, by: Some((by, flag_version)), homes: None, told: None }
    }

    pub(super) fn flag(facet: FacetId, version: u64) -> Self {
        Self { what: What::Flag(facet), version, by: None, homes: None, told: None }
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.what == other.what && self.version == other.version
    }
}

impl Root {
    /// Finds out which homes each pending row or flag has to wait for, now that all is folded. Those that are not in
    /// the fold yet stay as they are.
    ///
    /// That are the homes that somebody comes to, for whoever has come there was let go by the home before; and those of
    /// a row's ends. One that waits for a home whose list has changed since waits for what that led to as well: a list
    /// may come to be served because a member has been sent on that never arrived.
    pub(super) fn place(&mut self, lists: &BTreeMap<FacetId, List>) {
        let arrivals = lists.iter().filter(|(_, list)| !list.came.is_empty());
        let arrivals: BTreeMap<FacetId, u64> = arrivals.map(|(home, list)| (*home, list.epoch)).collect();
        let mut pending = std::mem::take(&mut self.pending);
        for entry in &mut pending {
            if let Some(homes) = &mut entry.homes
                && homes.keys().any(|home| lists.contains_key(home))
            {
                homes.extend(&arrivals);
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
            let mut homes = arrivals.clone();
            for (home, _) in ends.iter().filter_map(|end| self.members.get(end)) {
                homes.insert(*home, self.homes.get(home).map_or(0, |told| told.epoch));
            }
            entry.homes = Some(homes);
        }
        self.pending = pending;
        self.unwritten.insert(Piece::Head);
    }

    /// Has a home answer rows by itself that wait for nothing but the list that it is about to be sent. Who was told so
    /// with the list before is told again: that one may never be served.
    pub(super) fn tell_who_settles(&mut self, lists: &mut BTreeMap<FacetId, List>) {
        for entry in &mut self.pending {
            let (What::Row(key), Some(homes)) = (entry.what, &entry.homes) else { continue };
            if !homes.keys().any(|home| lists.contains_key(home)) {
                continue;
            }
            let mut open = homes.iter().filter(|(home, epoch)| !serves(&self.homes, home, **epoch));
            let told = if let (Some((home, epoch)), None) = (open.next(), open.next())
                && let Some(list) = lists.get_mut(home).filter(|list| list.epoch == *epoch)
            {
                list.settles.push(named(&key, entry.version));
                Some((*home, *epoch))
            } else {
                None
            };
            entry.told = match (entry.told, told) {
                (Some((before, since)), Some((home, _))) if before == home => Some((home, since)),
                (_, told) => told,
            };
        }
    }

    /// Forgets what a home has answered by itself, now that it has come to serve the list of an epoch. What was told
    /// with later lists too need not wait for those.
    pub(super) fn forget_told(&mut self, home: &FacetId, epoch: u64) {
        self.pending.retain(|entry| !entry.told.is_some_and(|(told, since)| told == *home && since <= epoch));
        self.unwritten.insert(Piece::Head);
    }
}

/// Whether a home is known to serve an epoch.
fn serves(homes: &BTreeMap<FacetId, Told>, home: &FacetId, epoch: u64) -> bool {
    homes.get(home).map_or(0, |known| known.active) >= epoch
}

impl<S: Store> Resolver<'_, S> {
    /// Answers what is in force.
    pub(super) fn settle(&mut self, root: &mut Root) -> Result<(), Error> {
        let settled: Vec<Pending> =
            root.pending
                .extract_if(.., |entry| {
                    entry.homes.as_ref().is_some_and(|waits| {
                        waits.iter().all(|(home, epoch)| serves(&root.homes, home, *epoch))
                    })
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
