//! Folding, and what follows from a fold: new lists for homes, and who moves where.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::{Continue, Leave, Member, Members, identity_message::Body};

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
        let mut lists = root.new_lists(own);
        root.place(&lists);
        root.tell_who_settles(&mut lists);
        for (home, list) in lists {
            self.send(&home, Body::Members(list.members));
        }
        self.settle(root)
    }

    /// Folds again under the rules in force.
    pub(crate) fn refold_under_rules(&mut self, own: FacetId, root: &mut Root) -> Result<(), Error> {
        root.fold.set_rules(self.rules.clone());
        self.refold(own, root)
    }
}

/// A list that a home is to be sent.
pub(super) struct List {
    pub(super) members: Members,
    /// Whether somebody is on it who was not before.
    pub(super) somebody_comes: bool,
}

impl Root {
    /// The lists of the homes where they have changed.
    fn new_lists(&mut self, own: FacetId) -> BTreeMap<FacetId, List> {
        let epoch = self.epoch + 1;
        let mut comes: BTreeMap<FacetId, bool> = BTreeMap::new();
        let mut leaves: BTreeMap<FacetId, Vec<Leave>> = BTreeMap::new();
        for (member, home) in self.homes_that_may_be_new() {
            let (old, since) = self.members.get(&member).copied().unwrap_or((member, 0));
            if old != home {
                let leave = Leave { facet: bytes(&member), since, home: bytes(&home), epoch };
                leaves.entry(old).or_default().push(leave);
                self.set_member(member, home, epoch);
                comes.entry(old).or_default();
                comes.insert(home, true);
            }
        }
        if comes.is_empty() {
            return BTreeMap::new();
        }
        self.epoch = epoch;
        self.unwritten.insert(Piece::Head);
        let mut lists = BTreeMap::new();
        for (home, somebody_comes) in comes {
            let members = self.list(&home);
            // One that was never told that it is a home, and is none, never says that it serves anything.
            if !members.is_empty() || self.homes.contains_key(&home) {
                self.homes.entry(home).or_default().0 = epoch;
                self.unwritten.insert(Piece::Home(home));
            }
            let members = Members {
                epoch,
                members,
                leaves: leaves.remove(&home).unwrap_or_default(),
                root: bytes(&own),
                rules_version: self.fold.rules().version(),
                settles: vec![],
            };
            lists.insert(home, List { members, somebody_comes });
        }
        lists
    }

    /// Members with their homes: of all components that may have changed, and of members that another root had.
    fn homes_that_may_be_new(&mut self) -> BTreeMap<FacetId, FacetId> {
        let mut components = self.fold.take_changed().unwrap_or_default();
        let mut found = BTreeMap::new();
        let unsure = std::mem::take(&mut self.unsure);
        if !unsure.is_empty() {
            self.unwritten.insert(Piece::Head);
        }
        // One that no row names any more stands alone.
        found.extend(unsure.iter().map(|member| (*member, *member)));
        components.extend(unsure.iter().filter_map(|member| self.fold.component_of(*member)));
        for component in components {
            found.extend(component.members().iter().map(|member| (member.facet, component.home())));
        }
        found
    }

    /// The members whose home this is, by facet.
    fn list(&self, home: &FacetId) -> Vec<Member> {
        let facets = self.by_home.get(home).into_iter().flatten();
        let member = |facet: &FacetId| {
            let since = self.members.get(facet).map_or(0, |(_, since)| *since);
            let identifier = self.fold.identifier(facet);
            Member {
                facet: bytes(facet),
                since,
                namespace: identifier.map(|i| i.namespace().to_string()).unwrap_or_default(),
                value: identifier.map(|i| i.value().to_owned()).unwrap_or_default(),
            }
        };
        facets.map(member).collect()
    }
}
