//! A small map: a vector of entries, sorted by key.
//!
//! A facet has a handful of entries in each of its maps. A vector takes one allocation, is searched and written in
//! order without following pointers, and two of them are merged side by side.

use std::borrow::Borrow;

/// A map as a vector of entries, sorted by key, each key once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entries<K, V>(Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Entries<K, V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, by rising key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys, rising.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// Changes the value of a key, or else adds an entry.
    pub(super) fn upsert<Q: Ord + ?Sized>(
        &mut self,
        key: &Q,
        known: impl FnOnce(&mut V),
        new: impl FnOnce() -> (K, V),
    ) where
        K: Borrow<Q>,
    {
        match self.find(key) {
            Ok(at) => known(&mut self.0[at].1),
            Err(at) => self.0.insert(at, new()),
        }
    }

    /// Folds the entries of another map in: `known` those whose keys are here, `new` makes entries of the others.
    pub(super) fn merge<'b, Q: Ord + ?Sized + 'b, K2: Borrow<Q> + 'b, W: 'b>(
        &mut self,
        others: &'b Entries<K2, W>,
        mut known: impl FnMut(&mut V, &'b W),
        mut new: impl FnMut(&'b K2, &'b W) -> (K, V),
    ) where
        K: Borrow<Q>,
    {
        let (mut at, before) = (0, self.0.len());
        for (key, value) in &others.0 {
            at += self.0[at..before].partition_point(|(known, _)| known.borrow() < key.borrow());
            match self.0[..before].get_mut(at) {
                Some(entry) if entry.0.borrow() == key.borrow() => known(&mut entry.1, value),
                _ => self.0.push(new(key, value)),
            }
        }
        // Two sorted runs one behind the other, which a stable sort finds and merges.
        if before > 0 && before < self.0.len() && self.0[before - 1].0 > self.0[before].0 {
            self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
    }

    /// Adds an entry without a look at the order: [`Self::settle`] must follow.
    pub(super) fn push(&mut self, key: K, value: V) {
        self.0.push((key, value));
    }

    /// Brings entries into order. Of those with one key the last stays, as protobuf says of maps.
    pub(super) fn settle(&mut self) {
        if self.0.is_sorted_by(|(a, _), (b, _)| a < b) {
            return;
        }
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.reverse();
        self.0.dedup_by(|(a, _), (b, _)| a == b);
        self.0.reverse();
    }

    /// The same with other keys and values; the order of keys must stay.
    pub(super) fn map<K2, V2>(self, f: impl FnMut((K, V)) -> (K2, V2)) -> Entries<K2, V2> {
        let mut entries: Vec<_> = self.0.into_iter().map(f).collect();
        entries.shrink_to_fit();
        Entries(entries)
    }

    /// Forgets all, and keeps the memory for the next.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes on the heap: the vector, and for each entry what `content` says.
    pub(super) fn heap_bytes(&self, content: impl Fn(&K, &V) -> usize) -> usize {
        self.0.capacity() * size_of::<(K, V)>() + self.0.iter().map(|(k, v)| content(k, v)).sum::<usize>()
    }
}
