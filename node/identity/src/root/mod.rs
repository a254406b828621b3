//! The root of a bundle: owns its rows, folds them, and says whose home is where.
//!
//! What it knows is stored in small pieces (see [`piece`]), so that a bundle of any size is shipped and written in
//! steps; folds that are in use are kept in memory ([`Roots`]).

mod fold;
mod pend;
mod pieces;
mod unite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isthmus_domain::identity::{Fold, IdentityRules, RowKey};
use isthmus_domain::{FacetId, LinkFact, LinkRow};
use isthmus_proto::internal::v1::{
    LinkVersion, RootFlag, RootRow, identity_message::Body, to_root::Body as RootBody,
};

use crate::resolver::{bytes, facet, row_key};
use crate::{Error, Resolver, Store};
use pend::Pending;
use pieces::{Piece, Pieces};

/// What a root knows.
pub struct Root {
    fold: Fold,
    /// The last epoch that was given out.
    epoch: u64,
    /// The identifiers of the bundle that have agreed to be: each with its home and since when.
    members: BTreeMap<FacetId, (FacetId, u64)>,
    /// The members by home.
    by_home: BTreeMap<FacetId, BTreeSet<FacetId>>,
    /// Homes that were told of a list.
    homes: BTreeMap<FacetId, Told>,
    /// Rows of which one end has not agreed yet.
    waiting: BTreeMap<RowKey, (u64, Option<LinkFact>)>,
    /// Version and flag of identifiers that are, or were, shared.
    flags: BTreeMap<FacetId, (u64, bool)>,
    /// Identifiers that are no longer shared, once these rows are in.
    awaited: BTreeMap<FacetId, Vec<(RowKey, u64)>>,
    /// Rows and flags that somebody waits for.
    pending: Vec<Pending>,
    /// Who was asked to agree.
    asked: BTreeSet<FacetId>,
    /// Roots that are shipping: parts that came, and how many there are, once that is known.
    arriving: BTreeMap<FacetId, (u64, u64)>,
    /// Members that another root had: their homes may not be what this fold says.
    unsure: BTreeSet<FacetId>,
    /// Whether a step that goes on is on its way.
    stepping: bool,
    /// An identifier of another bundle, smaller than this root, whose bundle this one is to be a part of: as soon as the
    /// message under way has been dealt with, so it is never stored.
    gives_up_to: Option<FacetId>,
    /// What is stored, while it is stored as one row.
    small: Option<Pieces>,
    unwritten: BTreeSet<Piece>,
}

/// What a root knows of a home.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The epoch of the newest list that it was told of.
    epoch: u64,
    /// The last epoch that it said it serves.
    active: u64,
    /// Whether this root has told it of that list, so that it can be told of what changes from there on. Another root's
    /// list may be on its way still, and may be overtaken.
    by_us: bool,
}

/// The roots of a shard that are in use. What is in here is stored too, so it may be emptied between commands.
#[derive(Default)]
pub struct Roots {
    /// Those of ordinary bundles.
    known: Kept,
    /// Those that alone weigh more than all of the others may: reading one anew costs a look at each of its facts, which
    /// each of its messages would pay.
    large: Kept,
    uses: u64,
}

/// Roots by what they own, each with when it was used.
#[derive(Default)]
struct Kept {
    roots: BTreeMap<FacetId, (u64, Box<Root>)>,
    /// What all of them weigh.
    weight: usize,
}

/// What may be kept in memory of ordinary bundles, in facts, of some hundred bytes each: a few hundred bundles that are
/// being put together.
const WEIGHT_KEPT: usize = 6_000;
/// The same of large ones.
const WEIGHT_OF_LARGE: usize = 250_000;

impl Roots {
    fn take(&mut self, own: &FacetId) -> Option<Box<Root>> {
        self.known.take(own).or_else(|| self.large.take(own))
    }

    fn keep(&mut self, own: FacetId, root: Box<Root>) {
        self.uses += 1;
        match root.weight() > WEIGHT_KEPT {
            true => self.large.keep(own, self.uses, root, WEIGHT_OF_LARGE),
            false => self.known.keep(own, self.uses, root, WEIGHT_KEPT),
        }
    }

    /// Forgets all: other rows were put in place.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Kept {
    fn take(&mut self, own: &FacetId) -> Option<Box<Root>> {
        let (_, root) = self.roots.remove(own)?;
        self.weight -= root.weight();
        Some(root)
    }

    fn keep(&mut self, own: FacetId, used: u64, root: Box<Root>, weight_max: usize) {
        self.weight += root.weight();
        self.roots.insert(own, (used, root));
        while self.weight > weight_max && !self.roots.is_empty() {
            self.forget_half();
        }
    }

    /// Forgets those that were used longest ago. Half of them at once: finding them costs a look at all.
    fn forget_half(&mut self) {
        let mut uses: Vec<u64> = self.roots.values().map(|(used, _)| *used).collect();
        uses.sort_unstable();
        let Some(middle) = uses.get(uses.len() / 2).copied() else { return };
        self.roots.retain(|_, (used, _)| *used > middle);
        self.weight = self.roots.values().map(|(_, root)| root.weight()).sum();
    }
}

impl Root {
    /// Of a bundle of one.
    fn new(own: FacetId, rules: Arc<IdentityRules>) -> Self {
        let mut root = Self { small: Some(Pieces::new()), ..Self::empty(Fold::new(rules)) };
        root.set_member(own, own, 0);
        root.unwritten.insert(Piece::Head);
        root
    }

    fn empty(fold: Fold) -> Self {
        Self {
            fold,
            epoch: 0,
            members: BTreeMap::new(),
            by_home: BTreeMap::new(),
            homes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            flags: BTreeMap::new(),
            awaited: BTreeMap::new(),
            pending: Vec::new(),
            asked: BTreeSet::new(),
            arriving: BTreeMap::new(),
            unsure: BTreeSet::new(),
            stepping: false,
            gives_up_to: None,
            small: None,
            unwritten: BTreeSet::new(),
        }
    }

    /// The fold, for explanations.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What it takes, in facts: even the smallest as much as some of them.
    fn weight(&self) -> usize {
        8 + self.fold.progress().facts as usize + self.waiting.len() + self.members.len() / 4
    }

    fn set_member(&mut self, member: FacetId, home: FacetId, since: u64) {
        if let Some((old, _)) = self.members.insert(member, (home, since))
            && let Some(of_old) = self.by_home.get_mut(&old)
        {
            of_old.remove(&member);
            if of_old.is_empty() {
                self.by_home.remove(&old);
            }
        }
        self.by_home.entry(home).or_default().insert(member);
        // It has agreed, which is all that it was asked for.
        if self.asked.remove(&member) {
            self.unwritten.insert(Piece::Head);
        }
        self.unwritten.insert(Piece::Member(member));
    }

    fn version_of(&self, key: &RowKey) -> u64 {
        let waiting = self.waiting.get(key).map_or(0, |(version, _)| *version);
        waiting.max(self.fold.row_version(key))
    }

    /// Puts a row where it belongs: into the fold, or among those that wait for an end to agree.
    fn put_row(&mut self, key: RowKey, version: u64, fact: Option<LinkFact>) -> Result<(), Error> {
        self.unwritten.insert(Piece::Waiting(key));
        let agreed = self.members.contains_key(&key.a) && self.members.contains_key(&key.b);
        if fact.is_some() && !agreed {
            self.waiting.insert(key, (version, fact));
        } else {
            self.waiting.remove(&key);
            self.fold.put(key, &LinkRow::of(fact, version))?;
        }
        Ok(())
    }

    /// Lets the fold have rows that no longer wait.
    fn put_agreed(&mut self) -> Result<(), Error> {
        let ready = |key: &RowKey| self.members.contains_key(&key.a) && self.members.contains_key(&key.b);
        let agreed: Vec<RowKey> = self.waiting.keys().filter(|key| ready(key)).copied().collect();
        for key in agreed {
            if let Some((version, fact)) = self.waiting.remove(&key) {
                self.unwritten.insert(Piece::Waiting(key));
                self.fold.put(key, &LinkRow::of(fact, version))?;
            }
        }
        Ok(())
    }

    fn set_flag(&mut self, facet: FacetId, version: u64, shared: bool, awaited: Vec<(RowKey, u64)>) {
        self.flags.insert(facet, (version, shared));
        self.unwritten.insert(Piece::Flag(facet));
        if !shared && !awaited.is_empty() {
            self.awaited.insert(facet, awaited);
        } else {
            self.awaited.remove(&facet);
        }
        self.unwritten.insert(Piece::Head);
        self.tell_flag(facet);
    }

    /// Tells the fold of a flag. One that is lifted while rows are awaited is so only when they are in: that makes two
    /// versions of it for the fold.
    fn tell_flag(&mut self, facet: FacetId) {
        if let Some((version, shared)) = self.flags.get(&facet) {
            let lifting = self.awaited.contains_key(&facet);
            let of_fold = version.saturating_mul(2).saturating_add(u64::from(!lifting));
            self.fold.set_shared(facet, of_fold, *shared || lifting);
        }
    }

    /// Lifts flags whose rows are in.
    fn lift_flags(&mut self) {
        let is_in = |(key, version): &(RowKey, u64)| {
            *version == 0 || (!self.waiting.contains_key(key) && self.fold.row_version(key) >= *version)
        };
        let lifted: Vec<FacetId> =
            self.awaited.iter().filter(|(_, rows)| rows.iter().all(is_in)).map(|(facet, _)| *facet).collect();
        for facet in lifted {
            self.awaited.remove(&facet);
            self.unwritten.insert(Piece::Head);
            self.tell_flag(facet);
        }
    }
}

impl<S: Store> Resolver<'_, S> {
    /// Something for the root of the bundle, which `own` is.
    pub(crate) fn at_root(&mut self, own: FacetId, body: RootBody) -> Result<(), Error> {
        let mut root = self.root(own)?;
        match body {
            RootBody::Row(row) => self.root_row(own, &mut root, row)?,
            RootBody::Flag(flag) => self.root_flag(own, &mut root, flag)?,
            RootBody::Ship(ship) => self.take_in(own, &mut root, ship)?,
            RootBody::Active(active) => {
                let home = facet(&active.home)?;
                let known = root.homes.entry(home).or_default();
                known.active = known.active.max(active.epoch);
                root.unwritten.insert(Piece::Home(home));
                if active.told {
                    root.forget_told(&home, active.epoch);
                }
                self.settle(&mut root)?;
            }
        }
        match root.gives_up_to.take() {
            Some(with) => self.give_up(own, root, with),
            None => self.keep_root(own, root),
        }
    }

    fn root_row(&mut self, own: FacetId, root: &mut Root, row: RootRow) -> Result<(), Error> {
        let version = row.row.ok_or(Error::Damaged("a row for a root"))?;
        let key = row_key(version.key.as_ref())?;
        let known = root.version_of(&key);
        if version.version < known {
            return Ok(());
        }
        let pending = Pending::row(key, version.version, facet(&row.by)?, row.flag_version);
        if version.version == known {
            // Known, but perhaps not by whom: it is answered as if it were new.
            if !root.pending.iter().any(|p| p.is_of(&pending)) {
                root.pending.push(pending);
            }
        } else {
            let LinkVersion { version, fact, .. } = version;
            root.pending.push(pending);
            self.new_row(own, root, key, version, crate::stored::fact(Some(&fact))?)?;
        }
        root.unwritten.insert(Piece::Head);
        self.refold(own, root)
    }

    /// Takes a row that is news, and asks its ends to agree. One that is smaller than this root need not be asked: of the
    /// two roots this is not the smaller one, whatever it answers.
    fn new_row(
        &mut self,
        own: FacetId,
        root: &mut Root,
        key: RowKey,
        version: u64,
        fact: Option<LinkFact>,
    ) -> Result<(), Error> {
        let has_fact = fact.is_some();
        root.put_row(key, version, fact)?;
        let strangers = [key.a, key.b].into_iter().filter(|end| has_fact && !root.members.contains_key(end));
        let strangers: Vec<FacetId> = strangers.filter(|end| !root.asked.contains(end)).collect();
        for end in strangers {
            if end < own {
                root.gives_up_to = root.gives_up_to.into_iter().chain([end]).min();
            } else if root.asked.insert(end) {
                self.send(&end, Body::Unite(isthmus_proto::internal::v1::Unite { with: bytes(&own) }));
            }
        }
        Ok(())
    }

    fn root_flag(&mut self, own: FacetId, root: &mut Root, flag: RootFlag) -> Result<(), Error> {
        let about = facet(&flag.facet)?;
        if flag.version <= root.flags.get(&about).map_or(0, |(version, _)| *version) {
            return Ok(());
        }
        let awaited: Result<Vec<_>, Error> =
            flag.awaited.iter().map(|row| Ok((row_key(row.key.as_ref())?, row.version))).collect();
        root.set_flag(about, flag.version, flag.shared, awaited?);
        root.pending.push(Pending::flag(about, flag.version));
        self.refold(own, root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_roots_are_kept_beside_ordinary_ones_and_the_latter_by_how_long_ago_they_were_used() {
        let id = |n: u32| FacetId::from_slice(&[[0; 12].as_slice(), &n.to_be_bytes()].concat()).unwrap();
        let of_weight = |n: u32, weight: usize| {
            let mut root = Box::new(Root::new(id(n), IdentityRules::default().into()));
            let row = |n: usize| RowKey { a: id(n as u32), ..RowKey::default() };
            root.waiting.extend((8..weight).map(|n| (row(n), (1, None))));
            root
        };
        let mut roots = Roots::default();
        roots.keep(id(u32::MAX), of_weight(u32::MAX, 2 * WEIGHT_KEPT));
        for n in 0..3_000 {
            let root = roots.take(&id(u32::MAX)).unwrap();
            roots.keep(id(u32::MAX), root);
            roots.keep(id(n), of_weight(n, 20));
            assert!(roots.known.weight <= WEIGHT_KEPT + 20 && roots.large.weight <= 3 * WEIGHT_KEPT);
        }
        assert!(roots.take(&id(2_999)).is_some() && roots.take(&id(0)).is_none());
        roots.keep(id(0), of_weight(0, WEIGHT_OF_LARGE + 1));
        assert!(roots.take(&id(0)).is_none(), "larger than what may be kept");
    }
}
