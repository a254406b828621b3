//! Changes as shards have them become changes in the words of the interface.
//!
//! Of those who are a profile by themselves, which most are, a shard says itself who they are. Others are read where their
//! profiles are: beside what other shards have answered, so that nobody waits for a change of somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{FeedChange, feed_change::Body};
use isthmus_proto::v1::{Change, Identifier};
use isthmus_router::FeedAnswer;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::super::Profiles;
use super::names::{Name, Names};
use super::wire::{self, Defined};

/// How long one look at whose changes are may take, and how long looks are made in vain before the stream ends: the client
/// hears why, and comes back to where it was. While a client rests nobody works for it: that time doesn't count.
const LOOK: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// The wait before it is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// Changes of one shard, as clients get them.
#[derive(Default)]
pub(super) struct Named {
    /// Those that were asked for.
    pub changes: Vec<Change>,
    /// How many there were, asked for or not, and the newest one's stamp.
    pub seen: usize,
    pub newest: u64,
    /// Why they couldn't be named.
    pub failed: Option<Status>,
}

/// What a watch asks for beside what shards judge, and what it knows.
pub(super) struct Naming {
    profiles: Profiles,
    /// The segments that are asked for; empty: none, or all where others are not asked for either.
    segments: BTreeSet<String>,
    /// Whose changes are wanted; empty: everybody's.
    wanted: BTreeSet<FacetId>,
    names: Names,
    defined: Mutex<Defined>,
    /// Answers that are being named.
    under_way: AtomicUsize,
}

impl Naming {
    pub fn new(profiles: Profiles, segments: BTreeSet<String>, wanted: BTreeSet<FacetId>) -> Self {
        let (names, defined, under_way) = <(Names, Mutex<Defined>, AtomicUsize)>::default();
        Self { profiles, segments, wanted, names, defined, under_way }
    }

    /// Whether shards may say who is a profile alone. One that has another leader by now may not know of a link: that matters
    /// only where others are left out.
    pub fn takes_names(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether changes are there that are not named yet.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Relaxed) > 0
    }

    /// Names a shard's changes, and leaves out those of others than are asked for.
    pub async fn of(&self, part: FeedAnswer) -> Named {
        let newest = part.changes.iter().map(|change| change.stamp).max().unwrap_or_default();
        let seen = part.changes.len();
        self.under_way.fetch_add(1, Relaxed);
        let named = self.try_of(part, Stamp(newest)).await;
        self.under_way.fetch_sub(1, Relaxed);
        match named {
            Ok(changes) => Named { changes, seen, newest, failed: None },
            Err(failed) => Named { changes: Vec::new(), seen, newest, failed: Some(failed) },
        }
    }

    async fn try_of(&self, part: FeedAnswer, newest: Stamp) -> Result<Vec<Change>, Status> {
        let FeedAnswer { changes, alone } = part;
        let any =
            |kind: fn(&Body) -> bool| changes.iter().any(|change| change.body.as_ref().is_some_and(kind));
        if any(|body| matches!(body, Body::Members(_))) {
            self.names.forget();
        }
        let facets: BTreeSet<FacetId> = changes.iter().filter_map(facet).collect();
        let mut names: BTreeMap<FacetId, Name> = alone
            .into_iter()
            .map(|(id, (namespace, value))| {
                (
                    id,
                    Name {
                        profile_id: id,
                        identifier: Some(Identifier { namespace, value }),
                        is_wanted: true,
                    },
                )
            })
            .collect();
        let mut spent = Duration::ZERO;
        loop {
            let asked = (facets.clone(), newest);
            let begun = Instant::now();
            let deadline = begun + LOOK;
            match self.names.complete(&self.profiles, asked, &self.wanted, &mut names, deadline).await {
                Ok(()) => break,
                Err(error) if may_pass(&error) && spent < PATIENCE => sleep(AGAIN).await,
                Err(error) => return Err(error),
            }
            spent += begun.elapsed().min(LOOK) + AGAIN;
        }
        let mut defined = self.defined.lock();
        if any(|body| matches!(body, Body::Segment(_))) {
            defined.learn(&self.profiles.hub.view());
        }
        let mut shown = Vec::with_capacity(changes.len());
        for change in &changes {
            // Shards judge by hashes of names.
            if let Some(Body::Segment(of)) = &change.body
                && let name = defined.name(of.segment)
                && !(name.is_empty() || self.segments.is_empty() || self.segments.contains(name))
            {
                continue;
            }
            if let Some(facet) = facet(change)
                && let Some(name) = names.get(&facet).filter(|name| name.is_wanted)
            {
                shown.extend(wire::change(change, facet.slot(), name, &defined)?);
            }
        }
        Ok(shown)
    }
}

fn facet(change: &FeedChange) -> Option<FacetId> {
    FacetId::from_slice(&change.facet)
}

/// Whether trying again may help.
fn may_pass(error: &Status) -> bool {
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::FailedPrecondition
    )
}
