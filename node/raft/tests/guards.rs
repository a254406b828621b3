//! Each guard switched off by its fail point, and the check that then fails: proof that the checks see what they are
//! there for. In a binary of its own, since fail points are global to the process.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod harness;
mod support;

use fail::FailScenario;
use harness::Cluster;

/// A group of three with a leader, and two more proposals on their way.
fn replicate(cluster: &mut Cluster) {
    cluster.quiet = true;
    cluster.bootstrap(&[1, 2, 3]);
    cluster.campaign(1);
    cluster.stabilize();
    cluster.quiet = false;
    cluster.propose(1, &["a", "b"]);
    cluster.deliver(|_, _| true);
    cluster.deliver(|_, _| true);
}

#[test]
fn acknowledging_before_the_sync_is_caught() {
    let scenario = FailScenario::setup();
    let mut guarded = Cluster::default();
    replicate(&mut guarded);
    assert_eq!(guarded.violations, Vec::<String>::new());

    fail::cfg("raft::ack_before_sync", "return").unwrap();
    let mut unguarded = Cluster::default();
    replicate(&mut unguarded);
    let caught = unguarded.violations.iter().any(|violation| violation.contains("before its sync"));
    assert!(caught, "{}", unguarded.out);
    scenario.teardown();
}

/// A leader that was cut off is asked for a read after the others have acknowledged a write.
fn stale_read(cluster: &mut Cluster) -> Option<String> {
    replicate(cluster);
    cluster.stabilize();
    cluster.isolate(1);
    cluster.run(25);
    assert_eq!(cluster.leader(), Some(2), "{}", cluster.out);
    cluster.propose(2, &["newer"]);
    cluster.stabilize();
    assert!(cluster.answers["newer"].starts_with("applied"), "{}", cluster.out);
    cluster.read(1, "read");
    cluster.run(20);
    cluster.answers.get("read").cloned()
}

#[test]
fn serving_reads_without_proof_of_leadership_is_caught() {
    let scenario = FailScenario::setup();
    assert_eq!(stale_read(&mut Cluster::default()), None, "a replica that is cut off answers no read");

    fail::cfg("raft::serve_read_before_commit", "return").unwrap();
    let mut unguarded = Cluster::default();
    let answer = stale_read(&mut unguarded).expect("without the guard it answers");
    let newer = unguarded.node(2).state().position.index;
    assert_ne!(answer, format!("read at {newer}"), "the read is stale");
    scenario.teardown();
}

/// A write that fails ends the process: seen from outside, in a child that runs the test below.
#[test]
fn a_log_write_error_ends_the_process() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_whose_log_fails", "--nocapture"])
        .env("ISTHMUS_RAFT_CHILD", "1")
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    const SIGABRT: i32 = 6;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{errors}");
    assert!(errors.contains("the process ends"), "{errors}");
}

/// Ends its process, and so does nothing unless the test above runs it.
#[test]
fn child_whose_log_fails() {
    if std::env::var_os("ISTHMUS_RAFT_CHILD").is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut nodes = support::Nodes::new(1);
        nodes.bootstrap(&[1]).await;
        nodes.propose("a:1").await.unwrap();
        fail::cfg("storage::log::write", "return").unwrap();
        let _ = nodes.propose("b:1").await;
    });
    unreachable!("the process has ended");
}
