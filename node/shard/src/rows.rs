//! The control rows of a memtable.
//!
//! Most are rows of identifiers, and most looks are at rows of one identifier after the other. So these lie together:
//! one look finds the identifier among all, by comparing numbers, and another its row among a few.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_storage::control::keys::KeyRange;

use crate::keys::table;

/// What the maps cost for a row besides its content: measured roughly.
const OVERHEAD_BYTES: usize = 120;
/// Bytes of a key up to the end of the facet: table, slot, facet.
const HEAD_BYTES: usize = 19;
/// The tables of identifiers' rows.
const OF_IDENTIFIERS: [u8; 8] = [
    table::LINK_ROW,
    table::HALF_ROW,
    table::RECORD,
    table::HOME,
    table::ROOT,
    table::RETRACTION,
    table::HISTORY,
    table::SEARCH,
];
/// Rows of one identifier that are kept in a vector; more are kept in a tree.
const FEW: usize = 64;

/// Control rows that were put (`Some`) or deleted (`None`) since the last freeze.
///
/// A deleted row is kept, since it hides one that lies below; but one that came and went since the last freeze has
/// nothing to hide, and leaves nothing behind: most messages of an outbox, for example.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Rows of identifiers, by facet.
    identifiers: BTreeMap<u128, Group>,
    /// All others, by key.
    others: BTreeMap<Vec<u8>, Row>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Row {
    value: Option<Bytes>,
    /// Whether no row of this key lies below.
    new: bool,
}

/// The table, then what stands behind the facet.
type Tail = Box<[u8]>;

/// The rows of one identifier, by tail.
#[derive(Clone, Debug)]
enum Group {
    Few(Vec<(Tail, Row)>),
    Many(BTreeMap<Tail, Row>),
}

/// A key of an identifier's row: its facet, its table, what stands behind the facet.
fn split(key: &[u8]) -> Option<(u128, u8, &[u8])> {
    let of_identifiers = OF_IDENTIFIERS.contains(key.first()?);
    let facet = FacetId::from_slice(key.get(3..HEAD_BYTES).filter(|_| of_identifiers)?)?;
    // Others would not lie where the order of facets has them.
    let in_order = facet.slot().number().to_be_bytes() == key[1..3];
    in_order.then(|| (u128::from_be_bytes(*facet.as_bytes()), key[0], &key[HEAD_BYTES..]))
}

/// The key that [`split`] has split.
fn joined(facet: u128, tail: &[u8]) -> Vec<u8> {
    let facet = facet.to_be_bytes();
    let slot = FacetId::from_slice(&facet).map_or(0, |facet| facet.slot().number());
    let mut key = Vec::with_capacity(HEAD_BYTES - 1 + tail.len());
    key.extend_from_slice(&tail[..1]);
    key.extend_from_slice(&slot.to_be_bytes());
    key.extend_from_slice(&facet);
    key.extend_from_slice(&tail[1..]);
    key
}

fn tail(table: u8, rest: &[u8]) -> Tail {
    let mut tail = Vec::with_capacity(1 + rest.len());
    tail.push(table);
    tail.extend_from_slice(rest);
    tail.into_boxed_slice()
}

fn compare(known: &Tail, table: u8, rest: &[u8]) -> Ordering {
    known[0].cmp(&table).then_with(|| known[1..].cmp(rest))
}

impl Group {
    fn get(&self, table: u8, rest: &[u8]) -> Option<&Row> {
        match self {
            Self::Few(rows) => {
                let at = rows.binary_search_by(|(known, _)| compare(known, table, rest)).ok()?;
                Some(&rows[at].1)
            }
            Self::Many(rows) => rows.get(&tail(table, rest)),
        }
    }

    fn get_mut(&mut self, table: u8, rest: &[u8]) -> Option<&mut Row> {
        match self {
            Self::Few(rows) => {
                let at = rows.binary_search_by(|(known, _)| compare(known, table, rest)).ok()?;
                Some(&mut rows[at].1)
            }
            Self::Many(rows) => rows.get_mut(&tail(table, rest)),
        }
    }

    fn insert(&mut self, table: u8, rest: &[u8], row: Row) {
        match self {
            Self::Few(rows) if rows.len() < FEW => {
                let at = rows.partition_point(|(known, _)| compare(known, table, rest).is_lt());
                rows.insert(at, (tail(table, rest), row));
            }
            Self::Few(rows) => {
                let mut many: BTreeMap<Tail, Row> = std::mem::take(rows).into_iter().collect();
                many.insert(tail(table, rest), row);
                *self = Self::Many(many);
            }
            Self::Many(rows) => _ = rows.insert(tail(table, rest), row),
        }
    }

    fn remove(&mut self, table: u8, rest: &[u8]) {
        match self {
            Self::Few(rows) => {
                if let Ok(at) = rows.binary_search_by(|(known, _)| compare(known, table, rest)) {
                    rows.remove(at);
                }
            }
            Self::Many(rows) => _ = rows.remove(&tail(table, rest)),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(rows) => rows.is_empty(),
            Self::Many(rows) => rows.is_empty(),
        }
    }

    /// The rows from a tail on, by rising tails.
    fn from<'a>(&'a self, table: u8, rest: &[u8]) -> Box<dyn Iterator<Item = (&'a Tail, &'a Row)> + 'a> {
        match self {
            Self::Few(rows) => {
                let from = rows.partition_point(|(known, _)| compare(known, table, rest).is_lt());
                Box::new(rows[from..].iter().map(|(tail, row)| (tail, row)))
            }
            Self::Many(rows) => Box::new(rows.range(tail(table, rest)..)),
        }
    }
}

impl Rows {
    /// Puts or deletes a row. `existed`: whether there was one, here or below.
    pub fn set(&mut self, key: Vec<u8>, value: Option<Bytes>, existed: bool) {
        let cost = |value: Option<&Bytes>| key.len() + value.map_or(0, Bytes::len) + OVERHEAD_BYTES;
        let place = split(&key);
        let known = match place {
            Some((facet, table, rest)) => {
                self.identifiers.get_mut(&facet).and_then(|group| group.get_mut(table, rest))
            }
            None => self.others.get_mut(&key),
        };
        let Some(known) = known else {
            if existed || value.is_some() {
                self.bytes += cost(value.as_ref());
                let row = Row { value, new: !existed };
                match place {
                    Some((facet, table, rest)) => {
                        let group = self.identifiers.entry(facet);
                        group.or_insert_with(|| Group::Few(Vec::new())).insert(table, rest, row);
                    }
                    None => _ = self.others.insert(key, row),
                }
            }
            return;
        };
        self.bytes -= cost(known.value.as_ref());
        if value.is_some() || !known.new {
            self.bytes += cost(value.as_ref());
            known.value = value;
            return;
        }
        match place {
            Some((facet, table, rest)) => {
                if let Some(group) = self.identifiers.get_mut(&facet) {
                    group.remove(table, rest);
                    if group.is_empty() {
                        self.identifiers.remove(&facet);
                    }
                }
            }
            None => _ = self.others.remove(&key),
        }
    }

    /// What is known of a row: its value, or that it was deleted; `None` when what lies below counts.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        let row = match split(key) {
            Some((facet, table, rest)) => self.identifiers.get(&facet)?.get(table, rest),
            None => self.others.get(key),
        };
        row.map(|row| row.value.as_ref())
    }

    /// The rows of one table with keys in a range, rising. The range's keys have to begin with the table.
    pub fn range<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> Box<dyn Iterator<Item = (Vec<u8>, Option<&'a Bytes>)> + 'a> {
        let Some(table) = range.start.first().copied().filter(|_| !range.is_empty()) else {
            return Box::new(std::iter::empty());
        };
        let in_table = move |key: &[u8]| key.first() == Some(&table) && range.contains(key);
        let others = (Bound::Included(range.start.as_slice()), Bound::Unbounded);
        let others = self.others.range::<[u8], _>(others).take_while(move |(key, _)| in_table(key));
        let others = others.map(|(key, row)| (key.clone(), row.value.as_ref()));
        let facet = |key: &[u8]| split(key.get(..HEAD_BYTES)?).map(|(facet, ..)| facet);
        let first = facet(&range.start);
        let end = range.end.as_deref().filter(|end| end.first() == Some(&table)).and_then(facet);
        let groups =
            (first.map_or(Bound::Unbounded, Bound::Included), end.map_or(Bound::Unbounded, Bound::Included));
        let rows = self.identifiers.range(groups).flat_map(move |(facet, group)| {
            let rest = if first == Some(*facet) { &range.start[HEAD_BYTES..] } else { &[] };
            let of_table = group.from(table, rest).take_while(move |(tail, _)| tail[0] == table);
            of_table.map(|(tail, row)| (joined(*facet, tail), row.value.as_ref()))
        });
        let rows = rows.filter(move |(key, _)| key >= &range.start).take_while(move |(key, _)| in_table(key));
        // A table has rows of one sort or of the other.
        let mut others = others.peekable();
        if others.peek().is_none() {
            return Box::new(rows);
        }
        let mut both: Vec<_> = others.chain(rows).collect();
        both.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Box::new(both.into_iter())
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<u8>, Option<&Bytes>)> {
        let of_identifiers = self.identifiers.iter().flat_map(|(facet, group)| {
            group.from(0, &[]).map(|(tail, row)| (joined(*facet, tail), row.value.as_ref()))
        });
        of_identifiers.chain(self.others.iter().map(|(key, row)| (key.clone(), row.value.as_ref())))
    }

    /// The facets that have a row of a table with nothing behind the facet.
    pub fn facets_in(&self, table: u8) -> impl Iterator<Item = FacetId> {
        let groups = self.identifiers.iter().filter(move |(_, group)| group.get(table, &[]).is_some());
        groups.filter_map(|(facet, _)| FacetId::from_slice(&facet.to_be_bytes()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.identifiers.is_empty() && self.others.is_empty()
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_that_came_and_went_leaves_nothing_but_one_from_below_stays_hidden() {
        let value = Some(Bytes::from_static(b"value"));
        let mut rows = Rows::default();
        rows.set(b"new".to_vec(), value.clone(), false);
        rows.set(b"new".to_vec(), None, true);
        assert_eq!((rows.get(b"new"), rows.bytes()), (None, 0));
        rows.set(b"old".to_vec(), None, true);
        assert_eq!(rows.get(b"old"), Some(None));
        rows.set(b"old".to_vec(), value.clone(), false);
        rows.set(b"old".to_vec(), None, true);
        assert_eq!(rows.get(b"old"), Some(None), "what lies below must not come back");
        rows.set(b"changed".to_vec(), value.clone(), true);
        rows.set(b"changed".to_vec(), None, true);
        assert_eq!(rows.get(b"changed"), Some(None));
        rows.set(b"never".to_vec(), None, false);
        assert_eq!(rows.iter().count(), 2);
    }

    /// Keys of several tables, of few facets with few or many rows each, and some that look like an identifier's but
    /// lie in another slot.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let tables =
            [table::LINK_ROW, table::RECORD, table::ROOT, table::QUARANTINE, table::PART, table::OUTBOX];
        let tail =
            prop_oneof![4 => Just(vec![]), 4 => any::<u8>().prop_map(|n| vec![n]), 1 => Just(vec![0xff; 33])];
        (prop::sample::select(tables.to_vec()), 0..6_u8, any::<bool>(), tail).prop_map(
            |(table, facet, elsewhere, tail)| {
                let facet = FacetId::from_slice(&[[0, 1, 0x7f, 0xff][usize::from(facet % 4)]; 16]).unwrap();
                let mut key = vec![table];
                key.extend(
                    (facet.slot().number() ^ u16::from(elsewhere && table == table::ROOT)).to_be_bytes(),
                );
                key.extend(facet.as_bytes());
                key.extend(tail);
                key
            },
        )
    }

    proptest! {
        #[test]
        fn they_are_what_a_plain_map_would_be(
            writes in prop::collection::vec((key(), prop::option::weighted(0.7, any::<u8>())), 0..400),
            ranges in prop::collection::vec((key(), 0..37_usize, any::<bool>()), 8),
        ) {
            let (mut rows, mut plain) = (Rows::default(), BTreeMap::new());
            for (key, value) in writes {
                let value = value.map(|value| Bytes::from(vec![value]));
                // Half of the keys have a row below from the first.
                let below = key.last().is_some_and(|last| last % 2 == 0);
                let existed = plain.get(&key).map_or(below, |known: &Option<Bytes>| known.is_some());
                rows.set(key.clone(), value.clone(), existed);
                if value.is_some() || below {
                    plain.insert(key, value);
                } else {
                    plain.remove(&key);
                }
            }
            let sorted: BTreeMap<Vec<u8>, Option<Bytes>> =
                rows.iter().map(|(key, value)| (key, value.cloned())).collect();
            prop_assert_eq!(&sorted, &plain);
            for (key, value) in &plain {
                prop_assert_eq!(rows.get(key), Some(value.as_ref()));
            }
            for (start, length, behind) in ranges {
                let mut range = KeyRange::prefix(&start[..length.clamp(1, start.len())]);
                if behind {
                    range.start = start;
                    range.start.push(0);
                }
                let found: Vec<_> = rows.range(&range).map(|(key, value)| (key, value.cloned())).collect();
                let expected = plain.iter().filter(|(key, _)| range.contains(key));
                let expected: Vec<_> = expected.map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
