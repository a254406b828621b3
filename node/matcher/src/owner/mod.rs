//! A shard's own profiles, brought to where their blocks lie: all when a leader begins or a holder has lost its blocks,
//! and each again when it has changed.

mod bring;
mod folded;
mod keep;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Profile, Stamp};
use isthmus_proto::internal::v1::MatchingStatusReply;
use isthmus_router::{Error, ProfileParts, ReadLevel};
use isthmus_shard::ShardHandle;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::folded::Folded;
use crate::{
    blocks::Held,
    holders::{self, Holders, Look},
    hosted::Matching,
    model::InForce,
};

/// Profiles that are brought at a time.
const PAGE: u32 = 500;
/// How long one step may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page may take to be compared: holders take turns.
const COMPARING: Duration = Duration::from_secs(60);
/// The pause after a step that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How far an owner has come, for others to see.
#[derive(Debug, Default)]
pub struct Progress(Mutex<MatchingStatusReply>);

impl Progress {
    /// How far it is under a model.
    pub fn status(&self, model_version: u64) -> MatchingStatusReply {
        let known = *self.0.lock();
        let of_it = known.model_version == model_version;
        let (complete, swept) = (known.complete && of_it, known.swept && of_it);
        MatchingStatusReply { complete, swept, model_version, ..known }
    }

    fn note(&self, change: impl FnOnce(&mut MatchingStatusReply)) {
        change(&mut self.0.lock());
    }
}

/// A profile that was brought.
struct Brought {
    /// Of the record and the identifiers.
    hash: u64,
    /// The shards that hold blocks of it.
    holders: Vec<u64>,
}

/// An owner under one model and one leadership.
struct Owner {
    handle: ShardHandle,
    matching: Matching,
    model: Arc<InForce>,
    progress: Arc<Progress>,
    brought: BTreeMap<FacetId, Brought>,
    /// By holder: which of its incarnations has been brought everything.
    incarnations: BTreeMap<u64, u64>,
    /// Whether pairs that only older models found are dropped.
    swept: bool,
    /// How far all shards are.
    holders: Holders,
    /// The term in which the replica leads, and how many records it has brought.
    term: u64,
    number: u64,
    /// All that holders told about what was brought up to this number is kept.
    kept: u64,
    /// Whether something that a holder told is not known to be kept.
    owes: bool,
    /// Whether changes were too many to be noted one by one.
    lost: bool,
    /// Whether a link may be missing that was decided.
    links_open: Arc<AtomicBool>,
}

/// What became of a profile.
enum Seen {
    /// It is one of this shard's.
    Own(Arc<Profile>),
    /// Nothing bears this name any more: its facet belongs to another profile, or to none.
    Gone,
}

/// Works for as long as the replica lives; rests while it doesn't lead, or no model is in force.
pub(crate) async fn run(handle: ShardHandle, matching: Matching, held: Arc<Held>, progress: Arc<Progress>) {
    let mut view = handle.watch();
    let mut models = matching.models.clone();
    loop {
        let model = models.get();
        let leads = handle.leads();
        if let (true, Some(model)) = (leads, model) {
            handle.note_touched(true);
            progress.note(|it| {
                *it = MatchingStatusReply { model_version: model.version, ..MatchingStatusReply::default() };
            });
            let mut owner = Owner {
                handle: handle.clone(),
                matching: matching.clone(),
                model: model.clone(),
                progress: progress.clone(),
                brought: BTreeMap::new(),
                incarnations: BTreeMap::new(),
                swept: false,
                holders: matching.holders.clone(),
                term: handle.view().term,
                number: 0,
                kept: 0,
                owes: false,
                lost: false,
                links_open: Arc::new(AtomicBool::new(true)),
            };
            let ended = async {
                loop {
                    tokio::select! {
                        () = models.changed() => if models.get().is_none_or(|now| now.version != model.version) {
                            return true;
                        },
                        changed = view.changed() => {
                            if changed.is_err() || handle.is_stopped() {
                                return false;
                            }
                            if !handle.leads() {
                                return true;
                            }
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = matching.stop.cancelled() => return,
                goes_on = ended => if !goes_on { return },
                () = owner.work() => {}
            }
            handle.note_touched(false);
            progress.note(|it| it.complete = false);
            continue;
        }
        // Beside: a comparison may be at work, and there may be much to drop.
        let blocks = held.clone();
        drop(tokio::task::spawn_blocking(move || blocks.clear()));
        tokio::select! {
            biased;
            () = matching.stop.cancelled() => return,
            () = models.changed() => {}
            changed = view.changed() => if changed.is_err() || handle.is_stopped() { return },
        }
    }
}

fn copied(id: &FacetId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

impl Owner {
    /// Brings everything, then what changes; ends only from outside.
    async fn work(&mut self) {
        let mut whole = false;
        // Before this moment nothing can have changed that the next look doesn't see.
        let mut since = Instant::now();
        loop {
            let done = if whole { self.changed(&mut since).await } else { self.all().await };
            match done {
                Ok(is_whole) => {
                    whole = is_whole;
                    let profiles = self.brought.len() as u64;
                    let brought_to =
                        holders::hash(self.incarnations.iter().map(|(shard, now)| (*shard, *now)));
                    self.progress.note(|it| {
                        (it.complete, it.profiles, it.brought_to) = (is_whole, profiles, brought_to);
                        it.pending = 0;
                    });
                }
                Err(error) => {
                    tracing::debug!(shard = self.handle.shard(), %error, "bringing profiles to be compared");
                    whole = false;
                    self.progress.note(|it| it.complete = false);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Brings all profiles to every holder that has not been brought them.
    async fn all(&mut self) -> Result<bool, Error> {
        let before = self.look().await?;
        let lacking: BTreeSet<u64> = before
            .iter()
            .filter(|(shard, now)| self.incarnations.get(shard) != Some(now))
            .map(|(shard, _)| *shard)
            .collect();
        let mut after = None;
        let mut names = BTreeSet::new();
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let router = self.matching.router.clone();
            let page = router.profiles_of(self.handle.shard(), after, PAGE, deadline).await?;
            after = page.profiles.last().map(|(id, _)| *id);
            let mut seen = BTreeMap::new();
            let mut elsewhere: BTreeMap<u64, BTreeSet<FacetId>> = BTreeMap::new();
            let mut folded = Folded::default();
            for (id, parts) in &page.profiles {
                let Some(profile) = folded.of(self, parts.as_ref(), page.stamp).await else { continue };
                if profile.profile_id == *id {
                    names.insert(*id);
                    seen.insert(*id, Seen::Own(profile));
                } else if self.lost
                    && let Some(owner) = router.owner(profile.profile_id.slot())
                {
                    elsewhere.entry(owner).or_default().insert(profile.profile_id);
                }
            }
            let told = elsewhere.into_iter().map(|(owner, names)| router.touch(owner, names, deadline));
            try_join_all(told).await?;
            self.bring(seen, &lacking, Instant::now() + COMPARING).await?;
            if !page.more || after.is_none() {
                break;
            }
        }
        let gone: Vec<FacetId> = self.brought.keys().filter(|id| !names.contains(id)).copied().collect();
        self.bring(gone.into_iter().map(|id| (id, Seen::Gone)).collect(), &lacking, Instant::now() + TIMEOUT)
            .await?;
        self.bring_to_an_end(Instant::now() + COMPARING).await?;
        // Only a holder that had the same blocks all the while has everything.
        let now = self.look().await?;
        let whole = now == before;
        self.incarnations = before;
        self.lost &= !whole;
        Ok(whole)
    }

    /// The incarnations of all holders, from now on. Drops what only older models found, once all shards have brought
    /// everything.
    async fn look(&mut self) -> Result<BTreeMap<u64, u64>, Error> {
        let known = self.holders.fresh().await;
        self.judge(known).await
    }

    /// The incarnations that a look has shown.
    async fn judge(&mut self, known: Look) -> Result<BTreeMap<u64, u64>, Error> {
        let version = self.model.version;
        let is_done = |it: &Option<MatchingStatusReply>| {
            it.is_some_and(|it| it.complete && it.model_version == version)
        };
        let done = known.values().all(is_done);
        if done && !self.swept {
            self.sweep().await?;
            self.swept = true;
            self.progress.note(|it| it.swept = true);
        }
        if self.links_open.swap(false, Relaxed)
            && let Err(error) = self.finish_links().await
        {
            self.links_open.store(true, Relaxed);
            tracing::debug!(shard = self.handle.shard(), %error, "links of pairs are brought again");
        }
        // One that doesn't answer is without a leader just now: whoever comes to lead has another incarnation.
        let known_of = |shard: &u64| self.incarnations.get(shard).copied().unwrap_or_default();
        let incarnation = |(shard, status): (&u64, &Option<MatchingStatusReply>)| {
            (*shard, status.map_or_else(|| known_of(shard), |status| status.incarnation))
        };
        Ok(known.iter().map(incarnation).collect())
    }

    /// Waits for changes and brings them; false when everything is to be brought again.
    async fn changed(&mut self, since: &mut Instant) -> Result<bool, Error> {
        if self.handle.touched() == 0 {
            let looked = tokio::select! {
                () = self.handle.until_touched() => None,
                known = self.holders.next(!self.swept) => Some(known),
            };
            // Nothing was noted before this moment that is not looked at now.
            *since = Instant::now();
            if let Some(known) = looked {
                return Ok(self.judge(known).await? == self.incarnations);
            }
        }
        let begun = Instant::now();
        self.progress.note(|it| it.pending = self.handle.touched() as u64);
        let Some(touched) = self.handle.take_touched() else {
            self.lost = true;
            return Ok(false);
        };
        let all: Vec<FacetId> = touched.into_iter().collect();
        for ids in all.chunks(PAGE as usize) {
            if let Err(error) = self.again(ids).await {
                self.handle.touch(all.iter().copied());
                return Err(error);
            }
        }
        // What came while the last ones were brought waited from then on, at most.
        let longest = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        *since = begun;
        self.progress.note(|it| it.longest_micros = it.longest_micros.max(longest));
        // What keeps changing must not keep holders from being looked at, nor be kept waiting by it.
        match self.holders.newest() {
            Some(known) => Ok(self.judge(known).await? == self.incarnations),
            None => Ok(true),
        }
    }

    /// Looks at facets that have changed.
    async fn again(&mut self, ids: &[FacetId]) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let router = self.matching.router.clone();
        let (parts, stamp) = router.read_profiles(ids, ReadLevel::Linearizable, deadline).await?;
        let mut seen: BTreeMap<FacetId, Seen> = BTreeMap::new();
        let mut elsewhere: BTreeMap<u64, BTreeSet<FacetId>> = BTreeMap::new();
        let mut folded = Folded::default();
        for (id, parts) in ids.iter().zip(&parts) {
            let Some(profile) = folded.of(self, parts.as_ref(), stamp).await else {
                seen.insert(*id, Seen::Gone);
                continue;
            };
            let name = profile.profile_id;
            if name != *id {
                seen.entry(*id).or_insert(Seen::Gone);
            }
            match router.owner(name.slot()) {
                Some(owner) if owner != self.handle.shard() => {
                    elsewhere.entry(owner).or_default().insert(name);
                }
                _ => _ = seen.insert(name, Seen::Own(profile)),
            }
        }
        self.bring(seen, &BTreeSet::new(), deadline).await?;
        let told = elsewhere.into_iter().map(|(owner, names)| router.touch(owner, names, deadline));
        try_join_all(told).await.map(|_| ())
    }

    fn fold(&self, parts: &ProfileParts, stamp: Stamp) -> Option<Profile> {
        let folded = parts.fold(&self.matching.key, &self.matching.currency, stamp);
        folded
            .inspect_err(|error| tracing::error!(%error, "a profile can't be read and is not compared"))
            .ok()
            .flatten()
    }
}
