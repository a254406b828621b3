//! A shard's own profiles, brought to where their blocks lie: all when a leader begins or a holder has lost its blocks,
//! and each again when it has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use isthmus_domain::{FacetId, Identifier, Profile, Stamp};
use isthmus_matching::{Prepared, RecordId};
use isthmus_proto::internal::v1::{
    CompareCall, CompareReply, ComparedRecord, DecidePair, DropPair, MatchingChange, MatchingStatusReply,
    PairIdentifier, PairKey, PairRow, PairState, matching_change::Change,
};
use isthmus_router::{Error, ProfileParts, ReadLevel};
use isthmus_shard::ShardHandle;
use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    blocks::{Held, slot_of},
    holders::{self, Holders, Look},
    hosted::Matching,
    link,
    model::InForce,
    record,
};

/// Profiles that are brought at a time, and records in a call.
const PAGE: u32 = 500;
const RECORDS: usize = 64;
/// Profiles that are folded before others find a processor.
const FOLDS: usize = 32;
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
    /// Whether changes were too many to be noted one by one.
    lost: bool,
    /// Whether a link may be missing that was decided.
    links_open: Arc<AtomicBool>,
}

/// Profiles of a page, each folded once: one of many identifiers comes with each of them.
#[derive(Default)]
struct Folded {
    by_home: BTreeMap<FacetId, Option<Arc<Profile>>>,
    folds: usize,
}

impl Folded {
    /// The profile of a facet's parts.
    async fn of(
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

    /// Drops the pairs of this shard that nothing was decided about and that this model has not found.
    async fn sweep(&self) -> Result<(), Error> {
        let (router, version) = (&self.matching.router, self.model.version);
        let mut after = None;
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let page = router.older_pairs(self.handle.shard(), version, after, deadline).await?;
            let rows = page.rows;
            let drops: Vec<MatchingChange> = rows
                .into_iter()
                .map(|row| {
                    let drop = DropPair { key: row.key, before_model: version };
                    MatchingChange { change: Some(Change::Drop(drop)) }
                })
                .collect();
            router.change_matching(&drops, deadline).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
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
            let mut record = match &seen {
                Seen::Own(profile) => self.record(id, profile)?,
                Seen::Gone => None,
            };
            self.number += 1;
            let now: &[u64] = record.as_ref().map_or(&[], |(_, _, holders)| holders);
            for shard in old.iter().filter(|shard| !now.contains(shard)) {
                let (term, number) = (self.term, self.number);
                let gone = ComparedRecord { id: copied(&id), term, number, ..ComparedRecord::default() };
                calls.entry(*shard).or_default().push(gone);
            }
            if let Some((record, hash, holders)) = &mut record {
                (record.term, record.number) = (self.term, self.number);
                let same = before.is_some_and(|before| before.hash == *hash && before.holders == *holders);
                for shard in holders.iter().filter(|shard| !same || lacking.contains(shard)) {
                    calls.entry(*shard).or_default().push(record.clone());
                }
            }
            after.insert(id, record.map(|(_, hash, holders)| Brought { hash, holders }));
        }
        let model_version = self.model.version;
        let router = &self.matching.router;
        let asked = calls.into_iter().flat_map(|(shard, records)| {
            let some: Vec<Vec<ComparedRecord>> = records.chunks(RECORDS).map(<[_]>::to_vec).collect();
            some.into_iter().map(move |records| async move {
                let reply = router.compare(shard, CompareCall { model_version, records }, deadline).await?;
                if reply.model_version != model_version {
                    return Err(Error::Invalid { message: "another model is in force".to_owned() });
                }
                Ok((shard, reply))
            })
        });
        // What some have answered is kept also if others fail: they tell only once which pairs are none any more.
        let (replies, failed): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
        let replies: Vec<(u64, CompareReply)> = replies.into_iter().flatten().collect();
        for (shard, reply) in &replies {
            // A holder that began anew while it was brought something lacks the rest.
            self.incarnations.entry(*shard).and_modify(|known| {
                if *known != reply.incarnation {
                    *known = 0;
                }
            });
        }
        self.keep(replies.into_iter().map(|(_, reply)| reply).collect(), deadline).await?;
        if let Some(Err(error)) = failed.into_iter().next() {
            return Err(error);
        }
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
        let placed = placed.to_bytes().into();
        let record = ComparedRecord { id: copied(&id), placed, identifiers, ..ComparedRecord::default() };
        // Of what it says, whenever it is brought.
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
        let open: Vec<PairRow> = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.row)
            .filter(|row| row.state() == PairState::Unspecified)
            .collect();
        let refused = self.refused_before(&open, deadline).await?;
        let config = self.model.model.plan().config();
        let sure = |row: &PairRow| config.links && row.probability >= config.link_at;
        let decisions = open.into_iter().zip(refused).filter_map(|(row, refused)| match refused {
            Some(before) => Some((row.key, PairState::Refused, before.by, before.note)),
            None if sure(&row) => {
                Some((row.key, PairState::Accepted, link::SOURCE.to_owned(), String::new()))
            }
            None => None,
        });
        let decisions: Vec<MatchingChange> = decisions
            .map(|(key, state, by, note)| {
                let decide = DecidePair { key, state: state.into(), by, note, ..DecidePair::default() };
                MatchingChange { change: Some(Change::Decide(decide)) }
            })
            .collect();
        let decided = router.change_matching(&decisions, deadline).await?;
        let rows: Vec<PairRow> = decided
            .into_iter()
            .filter_map(|outcome| outcome.row)
            .filter(|row| row.state() == PairState::Accepted && !row.linked)
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        // Beside: a link is in force only when both sides have gone to one home, and the next profile need not wait.
        let (router, key, open) = (router.clone(), self.matching.key.clone(), self.links_open.clone());
        self.matching.tracker.spawn(async move {
            if let Err(error) = link::bring(&router, &key, &rows, Instant::now() + TIMEOUT).await {
                tracing::debug!(%error, "a pair's link is brought again");
                open.store(true, Relaxed);
            }
        });
        Ok(())
    }

    /// Of each pair, whether two of its identifiers were refused under the names that their profiles had then.
    async fn refused_before(
        &self,
        rows: &[PairRow],
        deadline: Instant,
    ) -> Result<Vec<Option<PairRow>>, Error> {
        let facet = |it: &PairIdentifier| {
            let identifier = Identifier::from_stored(&it.namespace, &it.value).ok()?;
            Some(FacetId::of(&self.matching.key, &identifier))
        };
        let (mut asked, mut of) = (Vec::new(), Vec::new());
        for (nth, row) in rows.iter().enumerate() {
            // Under the present names it was found just now.
            if row.a_identifiers.len() + row.b_identifiers.len() <= 2 {
                continue;
            }
            let others: Vec<FacetId> = row.b_identifiers.iter().filter_map(facet).collect();
            for one in row.a_identifiers.iter().filter_map(facet) {
                for other in others.iter().filter(|other| **other != one) {
                    let key = PairKey { a: copied(&one.min(*other)), b: copied(&one.max(*other)) };
                    // A decision that decides nothing: it only tells what is kept.
                    let ask = DecidePair { key: Some(key), ..DecidePair::default() };
                    asked.push(MatchingChange { change: Some(Change::Decide(ask)) });
                    of.push(nth);
                }
            }
        }
        let outcomes = self.matching.router.change_matching(&asked, deadline).await?;
        let mut refused = vec![None; rows.len()];
        for (nth, outcome) in of.into_iter().zip(outcomes) {
            if let Some(row) = outcome.row.filter(|row| row.state() == PairState::Refused)
                && let Some(refused) = refused.get_mut(nth)
            {
                *refused = Some(row);
            }
        }
        Ok(refused)
    }

    /// Brings what a decision left without its link: whoever decided may have failed in between.
    async fn finish_links(&self) -> Result<(), Error> {
        let router = &self.matching.router;
        let mut after = None;
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let page = router.unlinked_pairs(self.handle.shard(), after, deadline).await?;
            link::bring(router, &self.matching.key, &page.rows, deadline).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
