//! Shards as ordered rows, and streams between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_domain::identity::{IdentityRules, Retractions};
use isthmus_identity::{Error, Resolver, Roots, Store, keys, stored};
use isthmus_proto::internal::v1::IdentityMessage;
use prost::Message as _;

#[derive(Default)]
pub struct Shard {
    pub rows: BTreeMap<Vec<u8>, Bytes>,
    pub roots: Roots,
    pub sources: Retractions,
    pub rules: Arc<IdentityRules>,
    local: VecDeque<IdentityMessage>,
}

pub struct World {
    pub shards: Vec<Shard>,
    pub owner: BTreeMap<FacetId, usize>,
    pub streams: BTreeMap<(usize, usize), VecDeque<IdentityMessage>>,
    pub messages: usize,
    pub looks: Looks,
    stamp: u64,
}

/// How often rows were looked at and changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    pub gets: usize,
    pub scans: usize,
    pub puts: usize,
    /// Of the values that were put.
    pub put_bytes: usize,
    pub deletes: usize,
}

pub struct View<'a> {
    rows: &'a mut BTreeMap<Vec<u8>, Bytes>,
    looks: &'a mut Looks,
    out: Vec<(IdentityMessage, bool)>,
}

impl Store for View<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.looks.gets += 1;
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        self.looks.scans += 1;
        let from = after.unwrap_or(prefix).to_vec();
        let rows =
            self.rows.range(from..).filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn put(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), Error> {
        match value {
            Some(value) => {
                self.looks.puts += 1;
                self.looks.put_bytes += value.len();
                self.rows.insert(key, value);
            }
            None => {
                self.looks.deletes += 1;
                self.rows.remove(&key);
            }
        }
        Ok(())
    }

    fn send(&mut self, message: IdentityMessage) {
        self.out.push((message, false));
    }

    fn send_later(&mut self, message: IdentityMessage) {
        self.out.push((message, true));
    }
}

impl World {
    pub fn new(shards: usize, rules: &Arc<IdentityRules>) -> Self {
        let shard = |_| Shard { rules: rules.clone(), ..Shard::default() };
        Self {
            shards: (0..shards).map(shard).collect(),
            owner: BTreeMap::new(),
            streams: BTreeMap::new(),
            messages: 0,
            looks: Looks::default(),
            stamp: 0,
        }
    }

    pub fn shard_of(&mut self, facet: FacetId) -> usize {
        let shards = self.shards.len();
        *self.owner.entry(facet).or_insert(usize::from(facet.as_bytes()[15]) % shards)
    }

    /// Does something at a shard, as one command.
    pub fn at<T>(
        &mut self,
        shard: usize,
        work: impl FnOnce(&mut Resolver<'_, View<'_>>) -> Result<T, Error>,
    ) -> T {
        let done = self.once(shard, work);
        while let Some(message) = self.shards[shard].local.pop_front() {
            self.take(shard, message);
        }
        done
    }

    fn once<T>(
        &mut self,
        shard: usize,
        work: impl FnOnce(&mut Resolver<'_, View<'_>>) -> Result<T, Error>,
    ) -> T {
        self.stamp += 1;
        let at = &mut self.shards[shard];
        let mut view = View { rows: &mut at.rows, looks: &mut self.looks, out: Vec::new() };
        let mut resolver = Resolver::new(&mut view, &mut at.roots, &at.rules, &at.sources, self.stamp);
        let done = work(&mut resolver).unwrap();
        for (message, later) in view.out {
            let to = self.shard_of(FacetId::from_slice(&message.to).unwrap());
            if to == shard && !later {
                self.shards[shard].local.push_back(message);
            } else {
                self.messages += 1;
                self.streams.entry((shard, to)).or_default().push_back(message);
            }
        }
        done
    }

    fn take(&mut self, shard: usize, message: IdentityMessage) {
        let to = self.shard_of(FacetId::from_slice(&message.to).unwrap());
        if to == shard {
            self.once(shard, |resolver| resolver.handle(message));
        } else {
            self.streams.entry((shard, to)).or_default().push_back(message);
        }
    }

    /// Delivers the next message of a stream.
    pub fn deliver(&mut self, stream: (usize, usize)) {
        let Some(message) = self.streams.get_mut(&stream).and_then(VecDeque::pop_front) else { return };
        self.take(stream.1, message);
        while let Some(message) = self.shards[stream.1].local.pop_front() {
            self.take(stream.1, message);
        }
    }

    /// Moves an identifier's rows to another shard.
    pub fn relocate(&mut self, facet: FacetId, to: usize) {
        let from = self.shard_of(facet);
        self.shards.iter_mut().for_each(|shard| shard.roots.clear());
        let of_facet = |key: &Vec<u8>| keys::facet(key) == Some(facet);
        let moved: Vec<_> = self.shards[from].rows.extract_if(.., |key, _| of_facet(key)).collect();
        self.shards[to].rows.extend(moved);
        self.owner.insert(facet, to);
    }

    pub fn record(&mut self, facet: FacetId) -> stored::Record {
        let shard = self.shard_of(facet);
        let row = self.shards[shard].rows.get(&keys::record(&facet));
        row.map(|row| stored::Record::decode(row.clone()).unwrap()).unwrap_or_default()
    }

    pub fn home(&mut self, facet: FacetId) -> stored::Home {
        let shard = self.shard_of(facet);
        let row = self.shards[shard].rows.get(&keys::home(&facet));
        row.map(|row| stored::Home::decode(row.clone()).unwrap()).unwrap_or_default()
    }
}
