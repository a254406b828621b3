//! Whose changes are: profile and identifier, as they are when the changes are served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isthmus_domain::{FacetId, FacetSummary, Stamp};
use isthmus_proto::v1::Identifier;
use isthmus_router::{ProfileParts, ReadLevel};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::super::{Profiles, damaged};
use crate::grpc::status::status;

/// A profile of so many members isn't put together anew for each of its changes.
const LARGE: usize = 64;
/// How old the name of a large profile may be.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Names of large profiles' identifiers that are remembered.
const KNOWN_MAX: usize = 10_000;

/// Whose a facet is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name {
    pub profile_id: FacetId,
    /// The facet's identifier; `None` where nothing is known of it.
    pub identifier: Option<Identifier>,
    /// Whether one of the identifiers that are asked for belongs to the profile. True when none are asked for.
    pub is_wanted: bool,
}

/// Names that were found a moment ago.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: BTreeMap<FacetId, (Instant, Name)>,
    /// How often all was forgotten: what was read before is not remembered after.
    forgotten: u64,
}

impl Names {
    /// Forgets what may have changed.
    pub fn forget(&self) {
        let mut known = self.known.lock();
        known.names.clear();
        known.forgotten += 1;
    }

    /// The names of facets of a shard, each at least as it was at the stamp. Where it matters whose they are, as they are now: a
    /// link that was acknowledged before the watch began may have come after the change, and a replica that is behind doesn't
    /// know it. Names that are there already are taken as they are.
    pub async fn complete(
        &self,
        profiles: &Profiles,
        (facets, stamp): (BTreeSet<FacetId>, Stamp),
        wanted: &BTreeSet<FacetId>,
        names: &mut BTreeMap<FacetId, Name>,
        deadline: Instant,
    ) -> Result<(), Status> {
        let now = Instant::now();
        let (open, forgotten) = {
            let mut known = self.known.lock();
            known.names.retain(|_, (found, _)| now.duration_since(*found) < AGE_MAX);
            for id in &facets {
                if let Some((_, name)) = known.names.get(id) {
                    names.entry(*id).or_insert_with(|| name.clone());
                }
            }
            let open: Vec<FacetId> = facets.into_iter().filter(|id| !names.contains_key(id)).collect();
            (open, known.forgotten)
        };
        if open.is_empty() {
            return Ok(());
        }
        let level = if wanted.is_empty() { ReadLevel::AtLeast(stamp) } else { ReadLevel::Linearizable };
        let read = profiles.hub.router.read_profiles(&open, level, deadline).await;
        let (parts, at) = read.map_err(|error| status(&error))?;
        self.add(profiles, (&open, &parts, at), wanted, (names, now, forgotten))
    }

    /// Adds what was read of facets.
    fn add(
        &self,
        profiles: &Profiles,
        (open, parts, at): (&[FacetId], &[Option<ProfileParts>], Stamp),
        wanted: &BTreeSet<FacetId>,
        (names, now, forgotten): (&mut BTreeMap<FacetId, Name>, Instant, u64),
    ) -> Result<(), Status> {
        // Identifiers of one profile share the work.
        let mut of_home: BTreeMap<FacetId, (FacetId, bool)> = BTreeMap::new();
        for (id, parts) in open.iter().copied().zip(parts) {
            let Some(parts) = parts else {
                let is_wanted = wanted.is_empty() || wanted.contains(&id);
                names.insert(id, Name { profile_id: id, identifier: None, is_wanted });
                continue;
            };
            let (profile_id, is_wanted) = match of_home.get(&parts.home) {
                Some(found) => *found,
                None => {
                    let profile = profiles.fold(Some(parts), at)?;
                    let profile_id = profile.map_or(id, |profile| profile.profile_id);
                    let has = |member: &FacetId| parts.members.iter().any(|(facet, ..)| facet == member);
                    let is_wanted = wanted.is_empty() || wanted.iter().any(has);
                    of_home.insert(parts.home, (profile_id, is_wanted));
                    (profile_id, is_wanted)
                }
            };
            let name = Name { profile_id, identifier: identifier(parts, &id)?, is_wanted };
            if parts.members.len() >= LARGE {
                let mut known = self.known.lock();
                if known.names.len() < KNOWN_MAX && known.forgotten == forgotten {
                    known.names.insert(id, (now, name.clone()));
                }
            }
            names.insert(id, name);
        }
        Ok(())
    }
}

/// The identifier of a member; `None` when it is none any more and nothing was said under it.
fn identifier(parts: &ProfileParts, id: &FacetId) -> Result<Option<Identifier>, Status> {
    let Some((_, (namespace, value), summary)) = parts.members.iter().find(|(facet, ..)| facet == id) else {
        return Ok(None);
    };
    if !namespace.is_empty() {
        return Ok(Some(Identifier { namespace: namespace.clone(), value: value.clone() }));
    }
    let Some(summary) = summary else { return Ok(None) };
    let read = FacetSummary::from_bytes(summary).ok().and_then(|summary| summary.identifier().ok());
    let found = read.ok_or_else(|| damaged("a facet's summary"))?;
    Ok(Some(Identifier { namespace: found.namespace().to_string(), value: found.value().to_owned() }))
}
