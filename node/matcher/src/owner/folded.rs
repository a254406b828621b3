//! Profiles of a page, each folded once.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_domain::{FacetId, Profile, Stamp};
use isthmus_router::ProfileParts;

use super::Owner;

/// Profiles that are folded before others find a processor.
const FOLDS: usize = 32;

/// Profiles of a page, each folded once: one of many identifiers comes with each of them.
#[derive(Default)]
pub(super) struct Folded {
    by_home: BTreeMap<FacetId, Option<Arc<Profile>>>,
    folds: usize,
}

impl Folded {
    /// The profile of a facet's parts.
    pub(super) async fn of(
        &mut self,
        owner: &Owner,
        parts: Option<&ProfileParts>,
        stamp: Stamp,
    ) -> Option<Arc<Profile>> {
        let parts = parts?;
        let among = |known: &&Option<Arc<Profile>>| {
            known.as_ref().is_some_and(|known| known.identifiers.len() == parts.members.len())
        };
        if let Some(known) = self.by_home.get(&parts.home).filter(among) {
            return known.clone();
        }
        self.folds += 1;
        if self.folds.is_multiple_of(FOLDS) {
            // Others find a processor in between.
            tokio::task::yield_now().await;
        }
        let profile = owner.fold(parts, stamp).map(Arc::new);
        if parts.rules_version.is_some() {
            self.by_home.insert(parts.home, profile.clone());
        }
        profile
    }
}
