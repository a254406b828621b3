//! Guards: what stands between a crash, a repetition or a race and wrong data. Each has a fail point that switches it
//! off, and a test that shows what happens then. This file keeps the list whole.
//!
//! Those tests live beside the code that they guard, where a power cut or a lost message can be made to happen at the
//! exact step. From outside, by killing processes, a skipped sync can't even be seen: the page cache outlives the
//! process. What can be seen from outside is that a node whose log can't be written stops at once, and that nothing
//! which it acknowledged before is lost; that is tested here, with a real process.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

use std::{fs, path::Path};

use isthmus_proto::v1::ItemOutcome;
use isthmus_tests::{
    ask,
    cluster::{Cluster, ClusterOptions, PATIENCE},
};

struct Guard {
    name: &'static str,
    /// The fail point that switches it off, and the source file that holds it.
    point: (&'static str, &'static str),
    /// A test that the guard holds what it promises, and where it is.
    holds: (&'static str, &'static str),
    /// A test that fails to hold it without the guard, and where it is.
    without: (&'static str, &'static str),
}

const GUARDS: [Guard; 7] = [
    Guard {
        name: "sync before acknowledgement: the log's",
        point: ("storage::log::sync", "node/storage/src/log/mod.rs"),
        holds: ("nothing_acknowledged_is_lost_in_a_power_cut", "node/storage/tests/faults/log.rs"),
        without: (
            "without_the_sync_a_power_cut_loses_what_was_acknowledged",
            "node/storage/tests/faults/log.rs",
        ),
    },
    Guard {
        name: "sync before acknowledgement: the replica's",
        point: ("raft::ack_before_sync", "node/raft/src/core/ready.rs"),
        holds: ("acknowledging_before_the_sync_is_caught", "node/raft/tests/guards.rs"),
        without: ("acknowledging_before_the_sync_is_caught", "node/raft/tests/guards.rs"),
    },
    Guard {
        name: "deduplication",
        point: ("shard::dedup", "node/shard/src/apply/ingest.rs"),
        holds: (
            "an_event_sent_again_is_a_duplicate_in_memory_frozen_on_disk_and_after_a_crash",
            "node/shard/tests/ingest.rs",
        ),
        without: ("without_deduplication_an_event_counts_twice", "node/shard/tests/courier.rs"),
    },
    Guard {
        name: "inbox sequence",
        point: ("shard::inbox::sequence", "node/shard/src/apply/deliver.rs"),
        holds: ("a_message_is_handled_exactly_once_whatever_happens", "node/shard/tests/courier.rs"),
        without: ("without_the_inbox_sequence_messages_are_handled_twice", "node/shard/tests/courier.rs"),
    },
    Guard {
        name: "ownership check of clients' items",
        point: ("shard::ownership::items", "node/shard/src/apply/ingest.rs"),
        holds: (
            "an_item_whose_slot_is_not_owned_is_sent_back_and_leaves_no_trace",
            "node/shard/tests/ingest.rs",
        ),
        without: (
            "without_the_ownership_check_two_shards_take_the_same_event",
            "node/shard/tests/courier.rs",
        ),
    },
    Guard {
        name: "ownership check of other shards' messages",
        point: ("shard::ownership::messages", "node/shard/src/apply/deliver.rs"),
        holds: ("a_message_for_a_slot_that_moved_is_sent_on_to_its_owner", "node/shard/tests/courier.rs"),
        without: ("a_message_for_a_slot_that_moved_is_sent_on_to_its_owner", "node/shard/tests/courier.rs"),
    },
    Guard {
        name: "redo",
        point: ("storage::redo::skip", "node/storage/src/redo.rs"),
        holds: (
            "a_crash_at_any_step_of_a_write_out_leaves_all_of_it_or_nothing",
            "node/storage/tests/keeper_faults/main.rs",
        ),
        without: (
            "without_the_redo_file_a_crash_between_batches_shows",
            "node/storage/tests/keeper_faults/main.rs",
        ),
    },
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The body of a test in a file, up to the next item at its level; checks that it is one that is run.
fn test_in<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("there is no test {name}"));
    let attributes = text[..at].rsplit("\n\n").next().unwrap();
    assert!(attributes.contains("test]"), "{name} is no test");
    assert!(!attributes.contains(concat!("ign", "ore")), "{name} is not run");
    let rest = &text[at..];
    &rest[..rest.find("\n}\n").map_or(rest.len(), |end| end)]
}

#[test]
fn each_guard_can_be_switched_off_and_its_test_then_fails() {
    for guard in &GUARDS {
        println!("{}", guard.name);
        let (point, source) = guard.point;
        assert!(read(source).contains(&format!("\"{point}\"")), "{source} has no fail point {point}");
        test_in(&read(guard.holds.1), guard.holds.0);
        let text = read(guard.without.1);
        let body = test_in(&text, guard.without.0);
        assert!(
            body.contains(&format!("\"{point}\", \"return\"")),
            "{} doesn't switch {point} off",
            guard.without.0
        );
    }
}

#[test]
fn programs_that_are_shipped_carry_no_fail_points() {
    for package in ["domain", "storage", "raft", "shard", "coordinator", "router", "server"] {
        let manifest = read(&format!("node/{package}/Cargo.toml"));
        let shipped = manifest.split("\n[dev-dependencies]").next().unwrap();
        let features = shipped.lines().filter(|line| line.contains("failpoints"));
        let defined: Vec<_> = features.filter(|line| !line.starts_with("failpoints = [")).collect();
        assert!(defined.is_empty(), "node/{package}: {defined:?}");
        assert!(
            !shipped.contains("default = ["),
            "node/{package} has default features: does one switch them on?"
        );
    }
}

/// A failed write of the log can't be retried (what the disk holds then is unknown), so the process ends; what it
/// acknowledged is there when it comes back, and what it didn't may be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_can_not_be_written_stops_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = |environment: &[(&str, &str)]| {
        let small = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 1);
        ClusterOptions { shards: 2, ..small }.with_environment(environment)
    };
    // Some hundred writes succeed, and from then on none.
    let mut cluster = Cluster::start(options(&[("FAILPOINTS", "storage::log::write=300*off->return")])).await;
    let channel = cluster.channel(0);
    let event = |number: u64| ask::json(ask::seen(&format!("user-{}", number % 7), &format!("m-{number}")));
    let mut taken = 0;
    for number in 0.. {
        match ask::send(&channel, vec![event(number)]).await {
            Ok(response) if response.results[0].outcome() == ItemOutcome::Accepted => taken = number + 1,
            // The answer to the one whose write failed never comes.
            _ => break,
        }
        assert!(number < 10_000, "the log's writes never fail: is the fail point there?");
    }
    assert!(taken > 0, "no load was reached");
    let until = std::time::Instant::now() + PATIENCE;
    while cluster.runs(0) {
        assert!(std::time::Instant::now() < until, "it goes on with a log that can't be written");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(cluster);

    let cluster = Cluster::start(options(&[])).await;
    let channel = cluster.channel(0);
    for number in 0..taken {
        let outcome = ask::send(&channel, vec![event(number)]).await.unwrap().results[0].outcome();
        assert_eq!(outcome, ItemOutcome::Duplicate, "event {number} was acknowledged and is lost");
    }
    let again = ask::send(&channel, vec![event(taken)]).await.unwrap().results[0].outcome();
    assert!(matches!(again, ItemOutcome::Accepted | ItemOutcome::Duplicate));
    assert_eq!(isthmus_tests::look::events_counted(channel).await, taken + 1);
}
