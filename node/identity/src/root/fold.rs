//! Folding, and what follows from a fold: new lists for homes, and who moves where.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::{
    Continue, Leave, LinkVersion, Member, Members, MembersChange, identity_message::Body,
};

use super::{Piece, Root};
use crate::resolver::bytes;
use crate::{Error, Resolver, Store};

/// Facts that one command folds: some milliseconds of work.
const STEP_FACTS: usize = 2_000;

impl<S: Store> Resolver<'_, S> {
    /// Folds what there is to fold, a step of it at least, and tells homes what has changed.
    pub(super) fn refold(&mut self, own: FacetId, root: &mut Root) -> Result<(), Error> {
        if !root.arriving.is_empty() || root.gives_up_to.is_some() {
            return Ok(());
        }
        root.put_agreed()?;
        root.lift_flags();
        root.fold.step(STEP_FACTS);
        if !root.fold.is_settled() {
            if !root.stepping {
                root.stepping = true;
                root.unwritten.insert(Piece::Head);
                self.send_later(&own, Body::Continue(Continue {}));
            }
            return Ok(());
        }
        let mut lists = root.new_lists();
        root.place(&lists);
        root.tell_who_settles(&mut lists);
        for (home, list) in lists {
            let told = root.tell(own, &home, list);
            self.send(&home, told);
        }
        self.settle(root)
    }

    /// Folds again under the rules in force.
    pub(crate) fn refold_under_rules(&mut self, own: FacetId, root: &mut Root) -> Result<(), Error> {
        root.fold.set_rules(self.rules.clone());
        self.refold(own, root)
    }
}

/// A home's next list, as it differs from the one before.
#[derive(Default)]
pub(super) struct List {
    pub(super) epoch: u64,
    /// The epoch of the list that the home was told of before by this root; else it is to be told the whole list.
    follows: Option<u64>,
    /// Who is on it that was not before.
    pub(super) came: Vec<FacetId>,
    leaves: Vec<Leave>,
    /// Rows that the home answers by itself.
    pub(super) settles: Vec<LinkVersion>,
}

impl Root {
    /// The lists of the homes where they have changed.
    fn new_lists(&mut self) -> BTreeMap<FacetId, List> {
        let epoch = self.epoch.saturating_add(1);
        let mut lists: BTreeMap<FacetId, List> = BTreeMap::new();
        for (member, home) in self.homes_that_may_be_new() {
            let (old, since) = self.members.get(&member).copied().unwrap_or((member, 0));
            if old != home {
                let leave = Leave { facet: bytes(&member), since, home: bytes(&home), epoch };
                lists.entry(old).or_default().leaves.push(leave);
                self.set_member(member, home, epoch);
                lists.entry(home).or_default().came.push(member);
            }
        }
        if lists.is_empty() {
            return lists;
        }
        self.epoch = epoch;
        self.unwritten.insert(Piece::Head);
        for (home, list) in &mut lists {
            list.epoch = epoch;
            // One that was never told that it is a home, and is none, never says that it serves anything.
            if self.homes.contains_key(home) || self.by_home.contains_key(home) {
                let told = self.homes.entry(*home).or_default();
                list.follows = told.by_us.then_some(told.epoch);
                (told.epoch, told.by_us) = (epoch, true);
                self.unwritten.insert(Piece::Home(*home));
            }
        }
        lists
    }

    /// What a home is told: what has changed, if it knows from this root what was before.
    fn tell(&self, own: FacetId, home: &FacetId, list: List) -> Body {
        let List { epoch, follows, came, leaves, settles } = list;
        let (root, rules_version) = (bytes(&own), self.fold.rules().version());
        match follows {
            Some(follows) => {
                let came = came.iter().map(|facet| self.member(facet)).collect();
                let change = MembersChange { epoch, follows, came, leaves, root, rules_version, settles };
                Body::MembersChange(change)
            }
            None => {
                let members = self.by_home.get(home).into_iter().flatten();
                let members = members.map(|facet| self.member(facet)).collect();
                Body::Members(Members { epoch, members, leaves, root, rules_version, settles })
            }
        }
    }

    /// Members with their homes: all whose home may have changed, and those that another root had.
    fn homes_that_may_be_new(&mut self) -> BTreeMap<FacetId, FacetId> {
        let mut found = BTreeMap::new();
        let unsure = std::mem::take(&mut self.unsure);
        if !unsure.is_empty() {
            self.unwritten.insert(Piece::Head);
        }
        // One that no row names any more stands alone.
        found.extend(unsure.iter().map(|member| (*member, self.fold.home_of(member).unwrap_or(*member))));
        found.extend(self.fold.take_moved().unwrap_or_default());
        found
    }

    /// A member as its home lists it.
    fn member(&self, facet: &FacetId) -> Member {
        let since = self.members.get(facet).map_or(0, |(_, since)| *since);
        let identifier = self.fold.identifier(facet);
        Member {
            facet: bytes(facet),
            since,
            namespace: identifier.map(|i| i.namespace().to_string()).unwrap_or_default(),
            value: identifier.map(|i| i.value().to_owned()).unwrap_or_default(),
        }
    }
}
