//! Identity resolution over several shards, under random schedules: messages of different streams overtake each other,
//! slots move, folds are forgotten and read again, events come late, twice and with old times, and retractions of all
//! kinds come in between. What it has to come to, [`isthmus_domain::identity::Ledger`] says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cost;
mod lists;
mod run;
mod workload;
mod world;

use run::Run;
use workload::Workload;

/// Runs so many seeds of a workload; `ISTHMUS_SIMULATION_TIMES` times as many where that is set.
fn run(name: &str, seeds: u64, workload: Workload) {
    let times =
        std::env::var("ISTHMUS_SIMULATION_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let (mut failed, mut reads) = (Vec::new(), 0);
    for seed in 0..seeds * times {
        let mut run = Run::new(seed, workload.clone());
        if let Err(why) = run.go() {
            failed.push(format!("{name}, seed {seed}: {why}"));
        }
        reads += run.reads;
    }
    println!("{name}: {reads} reads were checked");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn any_schedule_comes_to_what_the_ledger_says() {
    run("as it comes", 150, Workload::default());
}

#[test]
fn a_few_identifiers_with_many_retractions() {
    let workload =
        Workload { events: 14, retractions: 3, window: 3, few: true, shared_above: 2, ..Workload::default() };
    run("few identifiers", 400, workload);
}

#[test]
fn slots_that_move_meanwhile() {
    run("moves", 150, Workload { moves: true, ..Workload::default() });
}

#[test]
fn streams_of_very_different_speeds() {
    let workload =
        Workload { events: 24, retractions: 4, slow: true, few: true, shards: 12, ..Workload::default() };
    run("slow streams", 150, workload);
}

#[test]
fn all_in_one_shard_and_each_in_its_own() {
    run("one shard", 60, Workload { shards: 1, ..Workload::default() });
    run("many shards", 100, Workload { shards: 25, ..Workload::default() });
}

#[test]
fn chains_and_cycles_without_limits() {
    let workload = Workload { limits: false, retractions: 0, events: 30, ..Workload::default() };
    run("chains", 100, workload);
}

#[test]
fn rules_that_change_meanwhile() {
    run("rules", 100, Workload { rule_changes: 2, ..Workload::default() });
}

/// Replicas restart at different times, and have to hold the same rows all the same.
#[test]
fn what_is_forgotten_and_read_again_makes_no_difference() {
    for seed in 0..150 {
        let rows = |forgets| {
            let workload = Workload { forgets, events: 30, rule_changes: 1, ..Workload::default() };
            let mut run = Run::new(seed, workload);
            run.go().unwrap();
            run.rows()
        };
        assert!(rows(true) == rows(false), "seed {seed}");
    }
}
