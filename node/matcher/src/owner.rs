//! A shard's own profiles, brought to where their blocks lie: all when a leader begins or a holder has lost its blocks,
//! and each again when it has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Profile, Stamp};
use isthmus_matching::{Prepared, RecordId};
use isthmus_proto::internal::v1::{
    CompareCall, CompareReply, ComparedRecord, DecidePair, DropPair, MatchingChange, MatchingStatusReply,
    PairKey, PairRow, PairState, matching_change::Change,
};
use isthmus_router::{Error, ProfileParts, ReadLevel};
use isthmus_shard::ShardHandle;
use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    blocks::{Held, slot_of},
    hosted::Matching,
    link,
    model::InForce,
    record,
};

/// Profiles that are brought at a time.
const PAGE: u32 = 500;
/// How long one step may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page may take to be compared: holders take turns.
const COMPARING: Duration = Duration::from_secs(60);
/// The pause after a step that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How often holders are asked whether they still have their blocks; more often while a pass is under way.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_IN_PASS: Duration = Duration::from_millis(100);

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
}

/// What became of a profile.
enum Seen {
    /// It is one of this shard's.
    Own(Box<Profile>),
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
                    self.progress.note(|it| (it.complete, it.profiles) = (is_whole, profiles));
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
        // What changes from here on is looked at again, whatever this sees of it.
        self.handle.take_touched();
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
            for (id, parts) in &page.profiles {
                if let Some(profile) = self.fold(parts.as_ref(), page.stamp).filter(|it| it.profile_id == *id)
                {
                    names.insert(*id);
                    seen.insert(*id, Seen::Own(Box::new(profile)));
                }
            }
            self.bring(seen, &lacking, Instant::now() + COMPARING).await?;
            if !page.more || after.is_none() {
                break;
            }
        }
        let gone: Vec<FacetId> = self.brought.keys().filter(|id| !names.contains(id)).copied().collect();
        self.bring(gone.into_iter().map(|id| (id, Seen::Gone)).collect(), &lacking, Instant::now() + TIMEOUT)
            .await?;
        // Only a holder that had the same blocks all the while has everything.
        let now = self.look().await?;
        let whole = now == before;
        self.incarnations = before;
        if whole {
            self.finish_links().await?;
        }
        Ok(whole)
    }

    /// The incarnations of all holders. Drops what only older models found, once all shards have brought everything.
    async fn look(&mut self) -> Result<BTreeMap<u64, u64>, Error> {
        let deadline = Instant::now() + TIMEOUT;
        let router = &self.matching.router;
        let asked = router.shards().into_iter().map(|shard| async move {
            Ok::<_, Error>((shard, router.matching_status(shard, deadline).await?))
        });
        let known = try_join_all(asked).await?;
        let version = self.model.version;
        let done = known.iter().all(|(_, status)| status.complete && status.model_version == version);
        if done && !self.swept {
            self.sweep().await?;
            self.swept = true;
            self.progress.note(|it| it.swept = true);
        }
        Ok(known.into_iter().map(|(shard, status)| (shard, status.incarnation)).collect())
    }

    /// Drops the pairs of this shard that nothing was decided about and that this model has not found.
    async fn sweep(&self) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let (router, version) = (&self.matching.router, self.model.version);
        loop {
            let rows = router.older_pairs(self.handle.shard(), version, deadline).await?;
            let drops: Vec<MatchingChange> = rows
                .into_iter()
                .map(|row| {
                    let drop = DropPair { key: row.key, before_model: version };
                    MatchingChange { change: Some(Change::Drop(drop)) }
                })
                .collect();
            if drops.is_empty() {
                return Ok(());
            }
            router.change_matching(&drops, deadline).await?;
        }
    }

    /// Waits for changes and brings them; false when everything is to be brought again.
    async fn changed(&mut self, since: &mut Instant) -> Result<bool, Error> {
        let waited = tokio::select! {
            () = self.handle.until_touched() => true,
            () = tokio::time::sleep(if self.swept { LOOK } else { LOOK_IN_PASS }) => false,
        };
        if !waited {
            *since = Instant::now();
            return Ok(self.look().await? == self.incarnations);
        }
        if self.handle.touched() == 0 {
            *since = Instant::now();
            return Ok(true);
        }
        let begun = Instant::now();
        self.progress.note(|it| it.pending = self.handle.touched() as u64);
        let Some(touched) = self.handle.take_touched() else { return Ok(false) };
        let ids: Vec<FacetId> = touched.into_iter().collect();
        for ids in ids.chunks(PAGE as usize) {
            if let Err(error) = self.again(ids).await {
                self.handle.touch(ids.iter().copied());
                return Err(error);
            }
        }
        // What came while the last ones were brought waited from then on, at most.
        let longest = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        *since = begun;
        self.progress.note(|it| {
            it.pending = 0;
            it.longest_micros = it.longest_micros.max(longest);
        });
        if self.handle.touched() == 0 {
            *since = Instant::now();
        }
        Ok(true)
    }

    /// Looks at facets that have changed.
    async fn again(&mut self, ids: &[FacetId]) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let router = self.matching.router.clone();
        let (parts, stamp) = router.read_profiles(ids, ReadLevel::Linearizable, deadline).await?;
        let mut seen: BTreeMap<FacetId, Seen> = BTreeMap::new();
        let mut elsewhere: BTreeMap<u64, BTreeSet<FacetId>> = BTreeMap::new();
        for (id, parts) in ids.iter().zip(&parts) {
            let Some(profile) = self.fold(parts.as_ref(), stamp) else {
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
                _ => _ = seen.insert(name, Seen::Own(Box::new(profile))),
            }
        }
        self.bring(seen, &BTreeSet::new(), deadline).await?;
        let told = elsewhere.into_iter().map(|(owner, names)| router.touch(owner, names, deadline));
        try_join_all(told).await.map(|_| ())
    }

    fn fold(&self, parts: Option<&ProfileParts>, stamp: Stamp) -> Option<Profile> {
        let folded = parts?.fold(&self.matching.key, &self.matching.currency, stamp);
        folded
            .inspect_err(|error| tracing::error!(%error, "a profile can't be read and is not compared"))
            .ok()
            .flatten()
    }

    /// Brings profiles to the holders of their blocks, and again to those that lack them; keeps what is found.
    async fn bring(
        &mut self,
        seen: BTreeMap<FacetId, Seen>,
        lacking: &BTreeSet<u64>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut calls: BTreeMap<u64, Vec<ComparedRecord>> = BTreeMap::new();
        let mut after: BTreeMap<FacetId, Option<Brought>> = BTreeMap::new();
        let looked_at = seen.len() as u64;
        for (id, seen) in seen {
            let before = self.brought.get(&id);
            let old: &[u64] = before.map_or(&[], |before| &before.holders);
            let record = match &seen {
                Seen::Own(profile) => self.record(id, profile)?,
                Seen::Gone => None,
            };
            let now: &[u64] = record.as_ref().map_or(&[], |(_, _, holders)| holders);
            for shard in old.iter().filter(|shard| !now.contains(shard)) {
                let gone = ComparedRecord { id: copied(&id), ..ComparedRecord::default() };
                calls.entry(*shard).or_default().push(gone);
            }
            if let Some((record, hash, holders)) = &record {
                let same = before.is_some_and(|before| before.hash == *hash && before.holders == *holders);
                for shard in holders.iter().filter(|shard| !same || lacking.contains(shard)) {
                    calls.entry(*shard).or_default().push(record.clone());
                }
            }
            after.insert(id, record.map(|(_, hash, holders)| Brought { hash, holders }));
        }
        let model_version = self.model.version;
        let router = &self.matching.router;
        let asked = calls.into_iter().map(|(shard, records)| async move {
            let reply = router.compare(shard, CompareCall { model_version, records }, deadline).await?;
            if reply.model_version != model_version {
                return Err(Error::Invalid { message: "another model is in force".to_owned() });
            }
            Ok((shard, reply))
        });
        let replies: Vec<(u64, CompareReply)> = try_join_all(asked).await?;
        for (shard, reply) in &replies {
            // A holder that began anew while it was brought something lacks the rest.
            self.incarnations.entry(*shard).and_modify(|known| {
                if *known != reply.incarnation {
                    *known = 0;
                }
            });
        }
        self.keep(replies.into_iter().map(|(_, reply)| reply).collect(), deadline).await?;
        for (id, brought) in after {
            match brought {
                Some(brought) => _ = self.brought.insert(id, brought),
                None => _ = self.brought.remove(&id),
            }
        }
        self.progress.note(|it| it.looked_at += looked_at);
        Ok(())
    }

    /// A profile as its holders take it, with a hash of that, and the holders; `None` when it has no block.
    fn record(
        &self,
        id: FacetId,
        profile: &Profile,
    ) -> Result<Option<(ComparedRecord, u64, Vec<u64>)>, Error> {
        let model = &self.model.model;
        let traits = record::traits(profile);
        let texts = traits.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let prepared = Prepared::new(model.plan(), RecordId(u128::from_be_bytes(*id.as_bytes())), texts);
        let placed = model.place(prepared);
        let mut holders = BTreeSet::new();
        for slot in placed.keys().iter().filter_map(|key| slot_of(*key)) {
            let owner = self.matching.router.owner(slot);
            let owner = owner
                .ok_or_else(|| Error::Invalid { message: "a slot's owner is not known yet".to_owned() })?;
            holders.insert(owner);
        }
        if holders.is_empty() {
            return Ok(None);
        }
        let key = &self.matching.key;
        let identifiers = record::identifiers(profile, |identifier| FacetId::of(key, identifier) == id);
        let record = ComparedRecord { id: copied(&id), placed: placed.to_bytes().into(), identifiers };
        let hash = xxh3_64(&prost::Message::encode_to_vec(&record));
        Ok(Some((record, hash, holders.into_iter().collect())))
    }

    /// Keeps pairs that were found, drops those that are none any more, and links what is to link by itself.
    async fn keep(&self, replies: Vec<CompareReply>, deadline: Instant) -> Result<(), Error> {
        let mut found: BTreeMap<(Bytes, Bytes), PairRow> = BTreeMap::new();
        let mut gone: BTreeSet<(Bytes, Bytes)> = BTreeSet::new();
        let named = |key: &PairKey| (key.a.clone(), key.b.clone());
        for reply in replies {
            gone.extend(reply.gone.iter().map(named));
            for row in reply.found {
                found.extend(row.key.as_ref().map(named).map(|key| (key, row)));
            }
        }
        let dropped = gone
            .into_iter()
            .filter(|key| !found.contains_key(key))
            .map(|(a, b)| Change::Drop(DropPair { key: Some(PairKey { a, b }), before_model: 0 }));
        let changes: Vec<MatchingChange> = dropped
            .chain(found.values().cloned().map(Change::Put))
            .map(|change| MatchingChange { change: Some(change) })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let router = &self.matching.router;
        let outcomes = router.change_matching(&changes, deadline).await?;
        let config = self.model.model.plan().config();
        if !config.links {
            return Ok(());
        }
        let sure = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.row)
            .filter(|row| row.state() == PairState::Unspecified && row.probability >= config.link_at);
        let decisions: Vec<MatchingChange> = sure
            .map(|row| {
                let decide = DecidePair {
                    key: row.key,
                    state: PairState::Accepted.into(),
                    by: link::SOURCE.to_owned(),
                    note: String::new(),
                };
                MatchingChange { change: Some(Change::Decide(decide)) }
            })
            .collect();
        if decisions.is_empty() {
            return Ok(());
        }
        let decided = router.change_matching(&decisions, deadline).await?;
        let rows = decided.into_iter().filter(|outcome| outcome.changed).filter_map(|outcome| outcome.row);
        let rows: Vec<PairRow> = rows.collect();
        // Beside: a link is in force only when both sides have gone to one home, and the next profile need not wait.
        let (router, key) = (router.clone(), self.matching.key.clone());
        self.matching.tracker.spawn(async move {
            if let Err(error) = link::bring(&router, &key, &rows, Instant::now() + TIMEOUT).await {
                tracing::debug!(%error, "a link is brought again by whoever leads the pair's shard next");
            }
        });
        Ok(())
    }

    /// Brings what a decision left without its link: whoever decided may have failed in between.
    async fn finish_links(&self) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let router = &self.matching.router;
        let rows = router.unlinked_pairs(self.handle.shard(), deadline).await?;
        if rows.is_empty() {
            return Ok(());
        }
        link::bring(router, &self.matching.key, &rows, deadline).await
    }
}
