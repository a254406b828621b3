//! Which runs to merge: tiers.
//!
//! Level 0 holds what was written out. As soon as a level of a table has as many runs as allowed, all of them become
//! one run of the next level. So every row is rewritten once for each level it passes, about log(rows)/log(fan-out)
//! times, and a table has at most the allowed number of runs a level: that is what a look-up pays, in filters. Merging
//! whole levels keeps runs in the order of their age: all rows of a level are newer than all rows of higher ones.

use std::sync::Arc;

use super::KeeperOptions;
use crate::runs::Run;

/// The most runs that one step merges: what bounds its memory.
const INPUTS_MAX: usize = 16;

/// A step of merging: these runs, newest first, into one of this level.
#[derive(Debug)]
pub(super) struct Plan {
    pub inputs: Vec<Arc<Run>>,
    pub level: u32,
}

/// What to merge of a table's runs, which come newest first; the lowest level first, since it is what reads pay most
/// for.
pub(super) fn plan(runs: &[Arc<Run>], options: &KeeperOptions) -> Option<Plan> {
    let levels: Vec<u32> = runs.iter().map(|run| run.meta().level).collect();
    let (inputs, level) = choose(&levels, options)?;
    Some(Plan { inputs: runs[inputs].to_vec(), level })
}

/// What to merge of a sequence's runs: those of one level that lie beside each other and are small. Larger ones stay as
/// they are, since reading a sequence costs no more for many runs, and what is old goes by whole runs.
pub(super) fn plan_sequence(runs: &[Arc<Run>], options: &KeeperOptions) -> Option<Plan> {
    let mut ordered: Vec<_> = runs.iter().filter_map(|run| Some((run.bounds()?.0, run))).collect();
    ordered.sort_unstable_by_key(|(first, _)| *first);
    let shapes: Vec<(u32, u64)> =
        ordered.iter().map(|(_, run)| (run.meta().level, run.meta().bytes)).collect();
    let inputs = choose_beside(&shapes, options)?;
    let level = shapes[inputs.start].0 + 1;
    Some(Plan { inputs: ordered[inputs].iter().rev().map(|(_, run)| Arc::clone(run)).collect(), level })
}

/// Runs from this size on are not merged any more, of a sequence.
const SEQUENCE_BYTES_MAX: u64 = 8 << 20;

/// The same on levels and bytes, in the order of keys.
fn choose_beside(runs: &[(u32, u64)], options: &KeeperOptions) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for streak in runs.chunk_by(|a, b| a.0 == b.0 && a.1.max(b.1) < SEQUENCE_BYTES_MAX) {
        let allowed = if streak[0].0 == 0 { options.first_level_runs } else { options.fan_out };
        if streak.len() >= allowed {
            return Some(start..start + allowed);
        }
        start += streak.len();
    }
    None
}

/// The same on levels alone, rising.
fn choose(levels: &[u32], options: &KeeperOptions) -> Option<(std::ops::Range<usize>, u32)> {
    let mut start = 0;
    while start < levels.len() {
        let level = levels[start];
        let end = levels.partition_point(|other| *other <= level);
        let allowed = if level == 0 { options.first_level_runs } else { options.fan_out };
        if end - start >= allowed {
            // More than one step can take: the oldest, so that age still decides.
            return Some((start.max(end.saturating_sub(INPUTS_MAX))..end, level + 1));
        }
        start = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_many_runs_as_allowed_become_one() {
        let options = KeeperOptions { first_level_runs: 4, fan_out: 8 };
        assert_eq!(choose(&[0, 0, 0, 1, 1], &options), None);
        assert_eq!(choose(&[0, 0, 0, 0, 1, 1], &options), Some((0..4, 1)));
        assert_eq!(choose(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 2], &options), Some((1..9, 2)));
    }

    #[test]
    fn of_a_sequence_small_runs_beside_each_other_are_merged() {
        let options = KeeperOptions { first_level_runs: 3, fan_out: 2 };
        let (small, large) = (SEQUENCE_BYTES_MAX - 1, SEQUENCE_BYTES_MAX);
        assert_eq!(choose_beside(&[(0, small), (0, small), (0, large), (0, small)], &options), None);
        assert_eq!(choose_beside(&[(0, large), (0, small), (0, small), (0, small)], &options), Some(1..4));
        assert_eq!(choose_beside(&[(1, small), (0, small), (1, small), (1, small)], &options), Some(2..4));
        assert_eq!(choose_beside(&[(0, large); 9], &options), None);
        assert_eq!(choose_beside(&[], &options), None);
    }

    #[test]
    fn of_too_many_runs_the_oldest_are_merged() {
        assert_eq!(choose(&[0; 20], &KeeperOptions::default()), Some((4..20, 1)));
    }

    proptest! {
        #[test]
        fn runs_stay_few_and_rewrites_grow_like_a_logarithm(write_outs in 1_usize..3000) {
            let options = KeeperOptions::default();
            let (mut runs, mut rewritten): (Vec<(u32, u64)>, u64) = (Vec::new(), 0);
            for _ in 0..write_outs {
                runs.insert(0, (0, 1));
                while let Some((inputs, level)) = choose(&runs.iter().map(|run| run.0).collect::<Vec<_>>(), &options) {
                    let rows = runs.drain(inputs.clone()).map(|run| run.1).sum();
                    runs.insert(inputs.start, (level, rows));
                    rewritten += rows;
                }
            }
            prop_assert!(runs.is_sorted_by_key(|run| run.0));
            prop_assert!(runs.len() <= 5 * 7);
            prop_assert!(rewritten <= write_outs as u64 * 4);
        }
    }
}
