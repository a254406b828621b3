//! Going through the pairs of blocks, on several threads, each pair once.
//!
//! Blocks are dealt out to threads in runs of about equal work; what the threads bring back is put together in the
//! order of the runs. What a caller makes of it must not depend on where the runs were cut: sums of whole numbers
//! and sorted lists don't.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::thread;

use crate::blocking::{BlockKey, first_common};

/// A block: its key and the numbers of its members.
pub(crate) type Block<'a> = (BlockKey, &'a [u32]);

/// How many pairs a block of so many members has.
pub(crate) fn pairs_of(members: usize) -> u64 {
    let members = members as u64;
    members * members.saturating_sub(1) / 2
}

/// Splits the blocks' pairs over threads. `each` gets a state of its own a thread, and every pair once: `keys_of`
/// gives the ascending keys of a member, and a pair counts in the block of the smallest key in common.
pub(crate) fn visit<'k, S: Send>(
    threads: NonZeroUsize,
    blocks: &[Block<'_>],
    keys_of: impl Fn(u32) -> &'k [BlockKey] + Sync,
    start: impl Fn() -> S + Sync,
    each: impl Fn(&mut S, u32, u32) + Sync,
) -> Vec<S> {
    let all: u64 = blocks.iter().map(|(_, members)| pairs_of(members.len())).sum();
    let share = all.div_ceil(threads.get() as u64).max(1);
    // Where each run ends: after the block that fills its share.
    let (mut runs, mut first, mut work) = (Vec::new(), 0, 0);
    for (at, (_, members)) in blocks.iter().enumerate() {
        work += pairs_of(members.len());
        if work >= share {
            runs.push(&blocks[first..=at]);
            (first, work) = (at + 1, 0);
        }
    }
    runs.push(&blocks[first..]);
    in_parallel(&runs, |run| {
        let mut state = start();
        for &(key, members) in *run {
            for (at, &a) in members.iter().enumerate() {
                for &b in &members[at + 1..] {
                    if first_common(keys_of(a), keys_of(b)) == Some(key) {
                        each(&mut state, a, b);
                    }
                }
            }
        }
        state
    })
}

/// Does each piece of work on a thread of its own, and brings the results back in the order of the pieces.
pub(crate) fn in_parallel<W: Sync, T: Send>(pieces: &[W], work: impl Fn(&W) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = pieces.iter().map(|piece| scope.spawn(move || work(piece))).collect();
        // A panic of the work is the caller's.
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
