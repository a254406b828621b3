//! Bringing profiles to the holders of their blocks.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use isthmus_domain::{FacetId, Profile};
use isthmus_matching::{Prepared, RecordId};
use isthmus_proto::internal::v1::{CompareCall, CompareReply, ComparedRecord};
use isthmus_router::Error;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{Brought, Owner, Seen, copied};
use crate::{blocks::slot_of, record};

/// Records of a call.
const RECORDS: usize = 64;

impl Owner {
    /// Brings profiles to the holders of their blocks, and again to those that lack them; keeps what is found.
    pub(super) async fn bring(
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
        let calls = calls.into_iter().flat_map(|(shard, records)| {
            let some: Vec<Vec<ComparedRecord>> = records.chunks(RECORDS).map(<[_]>::to_vec).collect();
            some.into_iter().map(move |records| (shard, records))
        });
        let calls = calls.map(|(shard, records)| (shard, CompareCall { records, ..self.call() })).collect();
        self.compare_and_keep(calls, deadline).await?;
        if !self.owes {
            self.kept = self.number;
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

    /// Tells all holders that everything was brought, so that they drop what only earlier leaders of this shard knew.
    pub(super) async fn bring_to_an_end(&mut self, deadline: Instant) -> Result<(), Error> {
        self.number += 1;
        let last = CompareCall { complete: self.number, ..self.call() };
        let calls = self.matching.router.shards().into_iter().map(|shard| (shard, last.clone())).collect();
        // All was brought again that anybody was ever told about.
        self.owes = false;
        self.compare_and_keep(calls, deadline).await?;
        self.kept = self.number;
        Ok(())
    }

    fn call(&self) -> CompareCall {
        CompareCall {
            model_version: self.model.version,
            owner: self.handle.shard(),
            term: self.term,
            kept: self.kept,
            ..CompareCall::default()
        }
    }

    /// Has holders compare, and keeps what they tell.
    async fn compare_and_keep(
        &mut self,
        calls: Vec<(u64, CompareCall)>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let model_version = self.model.version;
        let router = &self.matching.router;
        let asked = calls.into_iter().map(|(shard, call)| async move {
            let reply = router.compare(shard, call, deadline).await?;
            if reply.model_version != model_version {
                return Err(Error::Invalid { message: "another model is in force".to_owned() });
            }
            Ok((shard, reply))
        });
        // What some have answered is kept also if others fail.
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
        let kept = self.keep(replies, deadline).await;
        let done = kept.and_then(|()| failed.into_iter().find_map(Result::err).map_or(Ok(()), Err));
        self.owes |= done.is_err();
        done
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
}
