//! Learning a model from records alone.
//!
//! Two kinds of pairs are compared and counted by [`Pattern`]:
//!
//! - *Random pairs*, drawn from all records alike, are nearly all of different people: they give `u`. (Of a small set
//!   all pairs are taken.) The few that match are weighted out by their probability of matching, so that a trait
//!   which only one person has at a time does not seem shared by one in ten thousand.
//! - *Candidate pairs*, those that share a block under any rule, hold nearly all matches: they give `m` and the share
//!   of matches, by expectation maximisation. The expectation of a match is computed with `u` and the share of
//!   matches *of all pairs*, not of the candidates; a pair outside the candidates is taken not to match. So this is
//!   expectation maximisation over all pairs, with the nearly certain zeros left out, and no trait has to be left out
//!   for having been blocked on: each pair that is sure by its other traits tells how that trait behaves, whichever
//!   rule brought the pair up.
//!
//! The defaults of a trait's kind take part as [`EXPECTED_WEIGHT`] matching pairs would. They decide which of the
//! two classes is the matches, and keep a set without any duplicates from making matches of its oddest coincidences.
//!
//! All is counted in whole numbers and summed in the order of patterns, so threads and the order of records leave no
//! trace in the result, to the last bit.

use std::num::{NonZeroU32, NonZeroUsize};

use thiserror::Error;

use crate::blocking::{self, BlockKey, Fences};
use crate::compare::{LEVELS, Level, Pattern};
use crate::model::{Learned, Model, Table, given_state};
use crate::pairs::{Block, in_parallel, pairs_of, visit};
use crate::plan::Plan;
use crate::record::{Prepared, RecordId};

/// How many matching pairs the expectations of a kind weigh as much as.
const EXPECTED_WEIGHT: f64 = 20.0;
/// How many random pairs the table of all pairs weighs as much as, in the table of those that agree on a given trait.
const GIVEN_WEIGHT: f64 = 200.0;
/// What is added to each count of `u`: a level that was never seen is rarer than one in all, and not impossible.
const UNSEEN: f64 = 0.5;
/// The share of the records that the expected number of duplicates weighs as much as.
const DUPLICATES_WEIGHT: f64 = 0.1;
const ROUNDS_MAX: usize = 100;
/// Learning ends when no number moves by more.
const STILL: f64 = 1e-6;

/// Why nothing can be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LearnError {
    /// Fewer than two records, or more than 2^32.
    #[error("a model is learned from 2 to 4,294,967,295 records")]
    Records,
    /// Two records of one id.
    #[error("two records have the id {:032x}", .0.0)]
    Twice(RecordId),
}

/// Learns a model from records that were prepared under `plan`, on so many threads. The order of the records and the
/// number of threads make no difference to the model.
pub fn learn(plan: &Plan, records: &[Prepared], threads: NonZeroUsize) -> Result<Model, LearnError> {
    learn_from_sample(plan, records, NonZeroU32::MIN, threads)
}

/// Learns a model for a set of which `records` are one in so many, drawn independently of what they say. What is a
/// share (of pairs that match, of pairs that agree, of records with a value) is the same in both; blocks and
/// neighbourhoods hold as many times fewer.
pub fn learn_from_sample(
    plan: &Plan,
    records: &[Prepared],
    one_in: NonZeroU32,
    threads: NonZeroUsize,
) -> Result<Model, LearnError> {
    let mut sorted: Vec<&Prepared> = records.iter().collect();
    sorted.sort_unstable_by_key(|record| record.id);
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(LearnError::Twice(twice[0].id));
    }
    if sorted.len() < 2 || u32::try_from(sorted.len()).is_err() {
        return Err(LearnError::Records);
    }
    let fences = Fences::learn(plan, &sorted, one_in);
    let (keys, stopped) = all_keys(plan, &fences, &sorted, one_in, threads);
    let (candidates, stands_for) = candidates(plan, &sorted, &keys, threads);
    let random = random(plan, &sorted, threads);
    let estimate = estimate(plan, &candidates, stands_for, &random, sorted.len(), one_in);
    let traits = (0..plan.traits.len()).map(|at| {
        let (filled, common) = frequencies(&sorted, at);
        let single = |shares: &Shares| shares.by_given.map(|shares| shares.map(|share| share as f32));
        let (m, u) = (&estimate.m[at], &estimate.u[at]);
        Table { m: single(m), u: single(u), u_exact: u.all[0] as f32, filled, common }
    });
    let traits = traits.collect();
    let learned = Learned {
        records: sorted.len() as u64 * u64::from(one_in.get()),
        prior: estimate.prior as f32,
        traits,
        fences,
        stopped,
    };
    Ok(Model::new(plan.clone(), learned))
}

/// The keys of each record, without those that too many have; and the latter.
fn all_keys(
    plan: &Plan,
    fences: &Fences,
    records: &[&Prepared],
    one_in: NonZeroU32,
    threads: NonZeroUsize,
) -> (Vec<Vec<BlockKey>>, Vec<BlockKey>) {
    let pieces: Vec<_> = records.chunks(records.len().div_ceil(threads.get())).collect();
    let of = |piece: &&[&Prepared]| piece.iter().map(|r| blocking::keys(plan, fences, r)).collect::<Vec<_>>();
    let mut keys: Vec<Vec<BlockKey>> = in_parallel(&pieces, of).concat();
    let mut every: Vec<BlockKey> = keys.iter().flatten().copied().collect();
    every.sort_unstable();
    let most = (plan.config.block_members_max / one_in).max(2) as usize;
    let crowded = every.chunk_by(PartialEq::eq).filter(|same| same.len() > most);
    let stopped: Vec<BlockKey> = crowded.map(|same| same[0]).collect();
    for keys in &mut keys {
        keys.retain(|key| stopped.binary_search(key).is_err());
    }
    (keys, stopped)
}

/// The patterns of the pairs that share a block, and for how many pairs each counted one stands.
fn candidates(
    plan: &Plan,
    records: &[&Prepared],
    keys: &[Vec<BlockKey>],
    threads: NonZeroUsize,
) -> (Vec<(Pattern, u64)>, f64) {
    let mut members: Vec<(BlockKey, u32)> =
        keys.iter().zip(0_u32..).flat_map(|(keys, at)| keys.iter().map(move |&key| (key, at))).collect();
    members.sort_unstable();
    let numbers: Vec<u32> = members.iter().map(|&(_, at)| at).collect();
    let (mut blocks, mut first, mut pairs): (Vec<Block<'_>>, _, _) = (Vec::new(), 0, 0);
    for same in members.chunk_by(|a, b| a.0 == b.0) {
        blocks.push((same[0].0, &numbers[first..first + same.len()]));
        first += same.len();
        pairs += pairs_of(same.len());
    }
    let one_in = pairs.div_ceil(u64::from(plan.config.training_pairs_max)).max(1);
    let drawn = |a: u32, b: u32| {
        // By the records' names, not their numbers: which pairs are drawn changes little as records come.
        let (RecordId(a), RecordId(b)) = (records[a as usize].id, records[b as usize].id);
        let (a, b) = ((a ^ a >> 64) as u64, (b ^ b >> 64) as u64);
        one_in == 1 || mix(mix(a ^ plan.config.seed) ^ b).is_multiple_of(one_in)
    };
    let found = visit(
        threads,
        &blocks,
        |at| keys[at as usize].as_slice(),
        Vec::new,
        |patterns, a, b| {
            if drawn(a, b) {
                patterns.push(Pattern::of(plan, records[a as usize], records[b as usize]));
            }
        },
    );
    (counted(found), one_in as f64)
}

/// The patterns of random pairs: all pairs, when there are few enough.
fn random(plan: &Plan, records: &[&Prepared], threads: NonZeroUsize) -> Vec<(Pattern, u64)> {
    let n = records.len() as u64;
    let wanted = u64::from(plan.config.random_pairs);
    let all = pairs_of(records.len()) <= wanted;
    // Pieces of a fixed number, so that the draws don't depend on the number of threads.
    let rows = if all { n } else { wanted };
    let share = rows.div_ceil(threads.get() as u64).max(1);
    let pieces: Vec<_> =
        (0..threads.get() as u64).map(|i| (i * share).min(rows)..((i + 1) * share).min(rows)).collect();
    let compare = |a: u64, b: u64| Pattern::of(plan, records[a as usize], records[b as usize]);
    let found = in_parallel(&pieces, |piece| {
        let mut patterns = Vec::new();
        for row in piece.clone() {
            if all {
                patterns.extend((row + 1..n).map(|b| compare(row, b)));
            } else {
                // One of n for the first and one of the n - 1 others for the second; the bias of the remainder is
                // below n / 2^64.
                let a = mix(plan.config.seed ^ (2 * row + 1)) % n;
                let b = (a + 1 + mix(plan.config.seed ^ (2 * row + 2)) % (n - 1)) % n;
                patterns.push(compare(a, b));
            }
        }
        patterns
    });
    counted(found)
}

/// Each pattern once, ascending, with how often it was found.
fn counted(found: Vec<Vec<Pattern>>) -> Vec<(Pattern, u64)> {
    let mut patterns = found.concat();
    patterns.sort_unstable();
    patterns.chunk_by(PartialEq::eq).map(|same| (same[0], same.len() as u64)).collect()
}

/// How many records have a value for a trait, and the values that more than two have.
fn frequencies(records: &[&Prepared], at: usize) -> (u64, Vec<(u64, u32)>) {
    let values = records.iter().filter_map(|record| record.values.get(at)?.as_ref());
    let mut hashes: Vec<u64> = values.map(|value| value.hash).collect();
    hashes.sort_unstable();
    let common = hashes.chunk_by(PartialEq::eq).filter(|same| same.len() > 2);
    let common = common.map(|same| (same[0], u32::try_from(same.len()).unwrap_or(u32::MAX))).collect();
    (hashes.len() as u64, common)
}

struct Estimate {
    prior: f64,
    m: Vec<Shares>,
    u: Vec<Shares>,
}

/// The shares of the levels of one trait: of all pairs, and by whether they agree on the given trait.
#[derive(Clone)]
struct Shares {
    all: [f64; LEVELS],
    by_given: [[f64; LEVELS]; 2],
}

impl Shares {
    /// From counts by given state, with `held` added to the counts of all, and the shares of all, `given_weight`
    /// times, to the counts by given state.
    fn new(counts: &[[f64; LEVELS]; 2], held: [f64; LEVELS], depends: bool, given_weight: f64) -> Self {
        let all = normal(std::array::from_fn(|level| counts[0][level] + counts[1][level] + held[level]));
        let mut by_given = [all; 2];
        if depends {
            by_given = [0, 1].map(|given| {
                normal(std::array::from_fn(|level| counts[given][level] + given_weight * all[level]))
            });
        }
        Self { all, by_given }
    }

    fn moved(&self, other: &Self) -> f64 {
        let pairs = self.by_given.iter().flatten().zip(other.by_given.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }
}

fn normal(counts: [f64; LEVELS]) -> [f64; LEVELS] {
    let sum: f64 = counts.iter().sum();
    counts.map(|count| count / sum)
}

type Tally = Vec<[[f64; LEVELS]; 2]>;

/// Expectation maximisation; see the module's documentation.
fn estimate(
    plan: &Plan,
    candidates: &[(Pattern, u64)],
    stands_for: f64,
    random: &[(Pattern, u64)],
    records: usize,
    one_in: NonZeroU32,
) -> Estimate {
    let traits = plan.traits.len();
    let expected: Vec<[f64; LEVELS]> = plan
        .traits
        .iter()
        .map(|compared| {
            let mut expected = compared.kind.expected();
            if !compared.swaps {
                expected[Level::Swapped as usize] = 1e-6;
            }
            normal(expected).map(|share| share * EXPECTED_WEIGHT)
        })
        .collect();
    let depends = |at: usize| plan.traits[at].given.is_some();
    let m_of = |tally: &Tally| -> Vec<Shares> {
        (0..traits).map(|at| Shares::new(&tally[at], expected[at], depends(at), EXPECTED_WEIGHT)).collect()
    };
    let u_of = |tally: &Tally| -> Vec<Shares> {
        (0..traits).map(|at| Shares::new(&tally[at], [UNSEEN; LEVELS], depends(at), GIVEN_WEIGHT)).collect()
    };
    let pairs = pairs_of(records) as f64;
    let prior_of = |matches: f64| {
        // Of a sample's duplicates only those are pairs whose other record was drawn, too.
        let guess =
            plan.config.duplicates_expected * DUPLICATES_WEIGHT * records as f64 / f64::from(one_in.get());
        let share = ((matches + guess) / (1.0 + DUPLICATES_WEIGHT) / pairs).min(0.5);
        (share / (1.0 - share)).ln()
    };

    let zero: Tally = vec![[[0.0; LEVELS]; 2]; traits];
    let mut all_random = zero.clone();
    for &(pattern, count) in random {
        add(plan, &mut all_random, pattern, count as f64);
    }
    let mut now = Estimate { prior: prior_of(0.0), m: m_of(&zero), u: u_of(&all_random) };
    for _ in 0..ROUNDS_MAX {
        let (mut matching, mut other, mut matches) = (zero.clone(), zero.clone(), 0.0);
        for &(pattern, count) in candidates {
            let weight = now.matching(plan, pattern) * count as f64 * stands_for;
            matches += weight;
            add(plan, &mut matching, pattern, weight);
        }
        for &(pattern, count) in random {
            add(plan, &mut other, pattern, (1.0 - now.matching(plan, pattern)) * count as f64);
        }
        let next = Estimate { prior: prior_of(matches), m: m_of(&matching), u: u_of(&other) };
        let moved = now.m.iter().zip(&next.m).map(|(a, b)| a.moved(b)).fold(0.0, f64::max);
        now = next;
        if moved < STILL {
            break;
        }
    }
    now
}

fn add(plan: &Plan, tally: &mut Tally, pattern: Pattern, weight: f64) {
    for (at, tally) in tally.iter_mut().enumerate() {
        if let Some(level) = pattern.level(at) {
            tally[given_state(plan, pattern, at)][level as usize] += weight;
        }
    }
}

impl Estimate {
    /// The probability that a pair of this pattern matches. Term frequencies come later: on average they are even.
    fn matching(&self, plan: &Plan, pattern: Pattern) -> f64 {
        let mut odds = self.prior;
        for at in 0..self.m.len() {
            if let Some(level) = pattern.level(at) {
                let given = given_state(plan, pattern, at);
                let (m, u) = (&self.m[at].by_given[given], &self.u[at].by_given[given]);
                odds += (m[level as usize] / u[level as usize]).ln();
            }
        }
        1.0 / (1.0 + (-odds).exp())
    }
}

/// A good mixture of 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
