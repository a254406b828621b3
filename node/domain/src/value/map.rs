//! An object: keys in the order of their bytes, in one vector.
//!
//! Objects of events have some ten keys: one block of memory holds them all, instead of a B-tree's large nodes. A
//! look-up is a binary search. Inserting one by one in random order moves what comes behind; whoever reads many keys
//! gathers them first ([`Map::from_pairs`]).

use std::fmt;

use super::Value;

/// An object. `Debug` shows its size, not its content.
#[derive(Clone, PartialEq, Default)]
pub struct Map {
    /// Sorted by key, each key once.
    pairs: Vec<(String, Value)>,
}

impl Map {
    /// An empty object.
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// An object of pairs in any order; `None` when a key appears twice.
    pub fn from_pairs(mut pairs: Vec<(String, Value)>) -> Option<Self> {
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
                return None;
            }
        }
        Some(Self { pairs })
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(other, _)| other.as_str().cmp(key))
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|at| &self.pairs[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.find(key).ok().map(|at| &mut self.pairs[at].1)
    }

    /// Whether it has a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Sets a key; returns what it was before.
    pub fn insert(&mut self, key: String, value: Value) -> Option<Value> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.pairs[at].1, value)),
            Err(at) => {
                self.pairs.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of a key, which is set first if it is missing.
    pub fn get_or_insert_with(&mut self, key: &str, value: impl FnOnce() -> Value) -> &mut Value {
        let at = self.find(key).unwrap_or_else(|at| {
            self.pairs.insert(at, (key.to_owned(), value()));
            at
        });
        &mut self.pairs[at].1
    }

    /// Removes a key; returns what it was.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.find(key).ok().map(|at| self.pairs.remove(at).1)
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.pairs.iter().map(|(key, _)| key)
    }

    /// Keys and values in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.into_iter()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of {}", self.len())
    }
}

impl Extend<(String, Value)> for Map {
    /// Of equal keys the last counts.
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, pairs: I) {
        self.pairs.extend(pairs);
        // Stable, so that equal keys stay in the order in which they came.
        self.pairs.sort_by(|a, b| a.0.cmp(&b.0));
        self.pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        let mut map = Self::new();
        map.extend(pairs);
        map
    }
}

impl<const N: usize> From<[(String, Value); N]> for Map {
    fn from(pairs: [(String, Value); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter =
        std::iter::Map<std::slice::Iter<'a, (String, Value)>, fn(&(String, Value)) -> (&String, &Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.iter().map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_b_tree_does(steps in prop::collection::vec((0_u8..4, "[a-e]{0,2}", any::<i64>()), 0..60)) {
            let (mut map, mut model) = (Map::new(), BTreeMap::new());
            for (step, key, n) in steps {
                match step {
                    0 => prop_assert!(map.remove(&key) == model.remove(&key)),
                    1 => {
                        let pair = [(key.clone(), Value::Int(n)), ("a".to_owned(), Value::Int(n))];
                        map.extend(pair.clone());
                        model.extend(pair);
                    }
                    2 => {
                        let ours = map.get_or_insert_with(&key, || Value::Int(n)).clone();
                        prop_assert!(ours == *model.entry(key).or_insert(Value::Int(n)));
                    }
                    _ => prop_assert!(map.insert(key.clone(), Value::Int(n)) == model.insert(key, Value::Int(n))),
                }
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.keys().all(|key| map.get(key) == model.get(key)));
            }
        }

        #[test]
        fn pairs_make_an_object_unless_a_key_appears_twice(keys in prop::collection::vec("[a-h]{0,2}", 0..12)) {
            let pairs: Vec<_> = keys.iter().map(|key| (key.clone(), Value::Null)).collect();
            let distinct: BTreeMap<_, _> = pairs.iter().cloned().collect();
            match Map::from_pairs(pairs) {
                Some(map) => prop_assert!(map.len() == keys.len() && map.iter().eq(distinct.iter())),
                None => prop_assert!(distinct.len() < keys.len()),
            }
        }
    }
}
