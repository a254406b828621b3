//! From pairs to people, and how right they are.
//!
//! Pairs that were linked make groups: whoever is linked to a linked one belongs, too (transitive closure). Against
//! known groups, accuracy is counted over pairs of records, the usual way for deduplication: *precision* is the
//! share of found pairs that are true, *recall* the share of true pairs that are found, *F1* their harmonic mean.

use std::collections::BTreeMap;

use crate::record::RecordId;

/// Groups of records that are one person: each record's group is named by its smallest member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    /// Every record that is linked at all, with its group's smallest member.
    pub group_of: BTreeMap<RecordId, RecordId>,
}

/// How a clustering compares to the truth, in pairs of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accuracy {
    /// Found and true.
    pub true_pairs: u64,
    /// Found, not true.
    pub false_pairs: u64,
    /// True, not found.
    pub missed_pairs: u64,
}

/// The transitive closure of links. The order of the links makes no difference.
pub fn clusters(links: impl IntoIterator<Item = (RecordId, RecordId)>) -> Clusters {
    fn top(parents: &mut BTreeMap<RecordId, RecordId>, mut at: RecordId) -> RecordId {
        while let Some(&parent) = parents.get(&at) {
            if parent == at {
                break;
            }
            // Halving the path keeps chains short.
            let above = parents.get(&parent).copied().unwrap_or(parent);
            parents.insert(at, above);
            at = above;
        }
        at
    }
    let mut parents: BTreeMap<RecordId, RecordId> = BTreeMap::new();
    for (a, b) in links {
        parents.entry(a).or_insert(a);
        parents.entry(b).or_insert(b);
        let (a, b) = (top(&mut parents, a), top(&mut parents, b));
        parents.insert(a.max(b), a.min(b));
    }
    let records: Vec<RecordId> = parents.keys().copied().collect();
    Clusters { group_of: records.into_iter().map(|record| (record, top(&mut parents, record))).collect() }
}

/// Compares groups with the truth: `person_of` names the person behind each record that there is.
pub fn accuracy<P: Ord>(found: &Clusters, person_of: &BTreeMap<RecordId, P>) -> Accuracy {
    let pairs =
        |sizes: &mut dyn Iterator<Item = u64>| sizes.map(|n| n * n.saturating_sub(1) / 2).sum::<u64>();
    let mut groups: BTreeMap<RecordId, u64> = BTreeMap::new();
    let mut people: BTreeMap<&P, u64> = BTreeMap::new();
    let mut both: BTreeMap<(RecordId, &P), u64> = BTreeMap::new();
    for (record, person) in person_of {
        let group = found.group_of.get(record).copied().unwrap_or(*record);
        *groups.entry(group).or_default() += 1;
        *people.entry(person).or_default() += 1;
        *both.entry((group, person)).or_default() += 1;
    }
    let true_pairs = pairs(&mut both.values().copied());
    Accuracy {
        true_pairs,
        false_pairs: pairs(&mut groups.values().copied()) - true_pairs,
        missed_pairs: pairs(&mut people.values().copied()) - true_pairs,
    }
}

impl Accuracy {
    /// The share of found pairs that are true; 1 when none was found.
    pub fn precision(&self) -> f64 {
        share(self.true_pairs, self.true_pairs + self.false_pairs)
    }

    /// The share of true pairs that were found; 1 when there is none.
    pub fn recall(&self) -> f64 {
        share(self.true_pairs, self.true_pairs + self.missed_pairs)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        share(2 * self.true_pairs, 2 * self.true_pairs + self.false_pairs + self.missed_pairs)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_close_transitively_in_any_order() {
        let id = RecordId;
        let links = [(id(5), id(4)), (id(1), id(2)), (id(4), id(3)), (id(9), id(8)), (id(3), id(5))];
        let forward = clusters(links);
        assert_eq!(forward, clusters(links.into_iter().rev()));
        let groups: Vec<(u128, u128)> = forward.group_of.iter().map(|(r, g)| (r.0, g.0)).collect();
        assert_eq!(groups, [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (8, 8), (9, 8)]);
    }

    #[test]
    fn accuracy_is_counted_in_pairs() {
        let id = RecordId;
        // Truth: {1, 2, 3}, {4, 5}; found: {1, 2, 4}.
        let person_of =
            BTreeMap::from([(id(1), 'a'), (id(2), 'a'), (id(3), 'a'), (id(4), 'b'), (id(5), 'b')]);
        let found = clusters([(id(1), id(2)), (id(2), id(4))]);
        let accuracy = accuracy(&found, &person_of);
        assert_eq!(accuracy, Accuracy { true_pairs: 1, false_pairs: 2, missed_pairs: 3 });
        assert!((accuracy.precision() - 1.0 / 3.0).abs() < 1e-12);
        assert!((accuracy.recall() - 0.25).abs() < 1e-12);
        assert!((accuracy.f1() - 2.0 / 7.0).abs() < 1e-12);
    }
}
