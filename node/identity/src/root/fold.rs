//! Folding, and what follows from a fold: new lists for homes, and who moves where.

use std::collections::{BTreeMap, BTreeSet};

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
        if !root.arriving.is_empty() {
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
        let touched = self.tell_homes(own, root);
        root.place(&touched);
        self.settle(root)
    }

    /// Folds again under the rules in force.
    pub(crate) fn refold_under_rules(&mut self, own: FacetId, root: &mut Root) -> Result<(), Error> {
        root.fold.set_rules(self.rules.clone());
        self.refold(own, root)
    }

    /// Tells the homes whose lists have changed; gives them back with the epoch of it.
    fn tell_homes(&mut self, own: FacetId, root: &mut Root) -> BTreeMap<FacetId, u64> {
        let epoch = root.epoch + 1;
        let mut homes = BTreeSet::new();
        let mut leaves: BTreeMap<FacetId, Vec<Leave>> = BTreeMap::new();
        for (member, home) in root.homes_that_may_be_new() {
            let (old, since) = root.members.get(&member).copied().unwrap_or((member, 0));
            if old != home {
                let leave = Leave { facet: bytes(&member), since, home: bytes(&home), epoch };
                leaves.entry(old).or_default().push(leave);
                root.set_member(member, home, epoch);
                homes.extend([old, home]);
            }
        }
        if homes.is_empty() {
            return BTreeMap::new();
        }
        root.epoch = epoch;
        root.unwritten.insert(Piece::Head);
        for home in &homes {
            root.homes.entry(*home).or_default().0 = epoch;
            root.unwritten.insert(Piece::Home(*home));
            let members = root.list(home);
            let list = Members {
                epoch,
                members,
                leaves: leaves.remove(home).unwrap_or_default(),
                root: bytes(&own),
                rules_version: root.fold.rules().version(),
            };
            self.send(home, Body::Members(list));
        }
        homes.into_iter().map(|home| (home, epoch)).collect()
    }
}

impl Root {
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
