//! How right the matcher is on the FEBRL sets, with the defaults and no labels.
//!
//! Everything is deterministic, so these numbers hold or a change made them worse.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod febrl;

use febrl::{People, THREADS, learned};
use isthmus_matching::{Accuracy, Config, Index, Scored};

fn full_pass(files: &[&str], without: &[&str]) -> Accuracy {
    let people = People::of(files);
    let plan = people.plan(without);
    let records = people.records(&plan);
    let index = Index::of(learned(&plan, &records), records);
    people.accuracy(&index.pairs(0.9, THREADS))
}

#[test]
fn every_pair_of_febrl1_is_found_and_no_other() {
    for without in [&[][..], &["soc_sec_id"]] {
        let accuracy = full_pass(&["febrl1.csv"], without);
        assert_eq!(
            accuracy,
            Accuracy { true_pairs: 500, false_pairs: 0, missed_pairs: 0 },
            "without {without:?}"
        );
    }
}

#[test]
fn febrl4_comes_out_at_an_f1_of_999_in_1000_or_better() {
    for without in [&[][..], &["soc_sec_id"]] {
        let accuracy = full_pass(&["febrl4a.csv", "febrl4b.csv"], without);
        assert!(accuracy.f1() >= 0.999, "without {without:?}: {accuracy:?}");
    }
}

/// febrl4a holds no duplicates: what is learned there about matches is what was expected beforehand.
#[test]
fn febrl4b_fed_live_after_febrl4a_finds_what_a_full_pass_finds() {
    let (old, all) = (People::of(&["febrl4a.csv"]), People::of(&["febrl4a.csv", "febrl4b.csv"]));
    let plan = all.plan(&["soc_sec_id"]);
    let mut records = all.records(&plan);
    let fresh = records.split_off(old.rows.len());
    let mut index = Index::of(learned(&plan, &records), records);
    let mut live = index.pairs(0.5, THREADS);
    for record in fresh {
        live.extend(index.insert(record, 0.5));
    }
    live.sort_unstable_by_key(|pair| (pair.a, pair.b));
    let bits = |pairs: &[Scored]| pairs.iter().map(|p| (p.a, p.b, p.bits.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(&live), bits(&index.pairs(0.5, THREADS)));
    assert!(index.is_stale(), "twice the records, and no new model is due");
    let accuracy = all.accuracy(&live);
    assert!(accuracy.f1() >= 0.999, "{accuracy:?}");
}

/// In a large set not every pair is compared to learn.
#[test]
fn learning_from_a_draw_of_pairs_comes_to_much_the_same() {
    let people = People::of(&["febrl4a.csv", "febrl4b.csv"]);
    let plan = people.plan(&["soc_sec_id"]);
    let drawing = Config { training_pairs_max: 50_000, random_pairs: 50_000, ..plan.config().clone() };
    let plan = drawing.plan().unwrap();
    let records = people.records(&plan);
    let model = learned(&plan, &records);
    // 5,000 of 49,995,000 pairs match.
    assert!((0.9e-4..1.1e-4).contains(&model.match_share()), "{}", model.match_share());
    let accuracy = people.accuracy(&Index::of(model, records).pairs(0.9, THREADS));
    assert!(accuracy.f1() >= 0.999, "{accuracy:?}");
}
