//! Accuracy and speed on the FEBRL sets: `cargo run --release -p isthmus-matching --example febrl`.
//!
//! For each set, with all fields and without the social security number: precision, recall and F1 of the links at a
//! probability of 0.9 after transitive closure, and how long reading, learning and a full pass took; then febrl4b fed
//! live, record by record, under a model that was learned from febrl4a. With `-v`, the pairs that came out wrong. Files
//! of the same form that are named are taken for one set instead, less the fields after `without=`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

#[path = "../tests/febrl/mod.rs"]
mod febrl;

use std::time::{Duration, Instant};

use febrl::{People, THREADS, learned};
use isthmus_matching::{Index, Level, Model, RecordId, Scored};

fn main() {
    let wordy = std::env::args().any(|arg| arg == "-v");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "-v").collect();
    let (left_out, named): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with("without="));
    if !named.is_empty() {
        let left_out: Vec<&str> =
            left_out.iter().flat_map(|arg| arg["without=".len()..].split(',')).collect();
        full(&named, &left_out, wordy);
        return;
    }
    for files in [&["febrl1.csv"][..], &["febrl4a.csv", "febrl4b.csv"]] {
        for without in [&[][..], &["soc_sec_id"]] {
            full(files, without, wordy);
        }
    }
    for without in [&[][..], &["soc_sec_id"]] {
        live(without);
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn now() -> Instant {
    Instant::now()
}

fn full(files: &[&str], without: &[&str], wordy: bool) {
    let start = now();
    let people = People::of(files);
    let plan = people.plan(without);
    let records = people.records(&plan);
    let read = start.elapsed();
    let model = learned(&plan, &records);
    let learned = start.elapsed() - read;
    let index = Index::of(model, records);
    let pairs = index.pairs(0.01, THREADS);
    let all = start.elapsed();
    let accuracy = people.accuracy(&pairs);
    let looked_at = index.pairs_in_blocks();
    let matching = all - read - learned;
    println!("{files:?} without {without:?}: {} records", index.len());
    println!(
        "  precision {:.5}, recall {:.5}, F1 {:.5}: {accuracy:?}",
        accuracy.precision(),
        accuracy.recall(),
        accuracy.f1(),
    );
    println!(
        "  read {read:.2?}, learn {learned:.2?}, full pass {matching:.2?} ({looked_at} pairs in blocks, {:.0}/s); all {all:.2?}",
        looked_at as f64 / matching.as_secs_f64()
    );
    let between = pairs.iter().filter(|pair| pair.probability < 0.9).count();
    println!("  {between} pairs from 0.01 to 0.9; share of matches {:.3e}", index.model().match_share());
    if wordy {
        tables(index.model());
        wrong(&people, &index, &pairs);
    }
}

fn tables(model: &Model) {
    for t in &model.plan().config().traits {
        let row = Level::ALL.map(|level| {
            let (m, u) = model.m_and_u(&t.name, level).unwrap();
            format!("{level:?} {m:.4}/{u:.1e}")
        });
        println!("  {:>14} {}", t.name, row.join("  "));
    }
}

fn wrong(people: &People, index: &Index, pairs: &[Scored]) {
    let show = |pair: &Scored, what: &str| {
        println!("  {what} {:.4} ({:.1} bits)", pair.probability, pair.bits);
        for id in [pair.a, pair.b] {
            println!("    {}", people.rows[id.0 as usize].join(" | "));
        }
    };
    for a in 0..people.people.len() {
        for b in a + 1..people.people.len() {
            if people.people[a] == people.people[b] {
                let [x, y] = [a, b].map(|n| index.get(RecordId(n as u128)).unwrap());
                let pair = index.model().score(x, y);
                if x.meeting(y).is_none() {
                    show(&pair, "not looked at:");
                } else if pair.probability < 0.9 {
                    show(&pair, "missed:");
                }
            }
        }
    }
    for pair in pairs.iter().filter(|pair| pair.probability >= 0.9) {
        if people.people[pair.a.0 as usize] != people.people[pair.b.0 as usize] {
            show(pair, "wrong:");
        }
    }
}

fn live(without: &[&str]) {
    let (old, all) = (People::of(&["febrl4a.csv"]), People::of(&["febrl4a.csv", "febrl4b.csv"]));
    let plan = all.plan(without);
    let mut records = all.records(&plan);
    let fresh = records.split_off(old.rows.len());
    let mut index = Index::of(learned(&plan, &records), records.clone());
    let mut found = index.pairs(0.9, THREADS);
    let (mut longest, mut sum) = (Duration::ZERO, Duration::ZERO);
    for record in fresh.clone() {
        let start = now();
        found.extend(index.insert(record, 0.9));
        longest = longest.max(start.elapsed());
        sum += start.elapsed();
    }
    found.sort_unstable_by_key(|pair| (pair.a, pair.b));
    let accuracy = all.accuracy(&found);
    println!("febrl4b live after febrl4a, without {without:?}: F1 {:.5}: {accuracy:?}", accuracy.f1());
    println!(
        "  a record {:.0?} on average, {longest:.1?} at most; stale: {}",
        sum / fresh.len() as u32,
        index.is_stale()
    );
    println!("  as a full pass under the same model: {}", found == index.pairs(0.9, THREADS));
    records.extend(fresh);
    let again = Index::of(learned(&plan, &records), records).pairs(0.9, THREADS);
    let ids = |pairs: &[Scored]| {
        pairs.iter().map(|pair| (pair.a, pair.b)).collect::<std::collections::BTreeSet<_>>()
    };
    let (found, again) = (ids(&found), ids(&again));
    println!(
        "  as a full pass that learns anew: {} pairs in both, {} only live, {} only anew",
        found.intersection(&again).count(),
        found.difference(&again).count(),
        again.difference(&found).count()
    );
}
