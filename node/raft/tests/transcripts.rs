//! Golden transcripts of the pure core: what a cluster of cores does, message by message.
//!
//! Each `tests/transcripts/*.txt` is a list of blocks: commands, `---`, what came of them. Run with
//! `UPDATE_TRANSCRIPTS=1` to write down what happens now, and read the difference before keeping it. In every
//! transcript, after every step, the harness checks the invariants: sync before acknowledgement, one leader a term,
//! the same entries everywhere.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod harness;

use std::{fs, path::Path};

use harness::{Cluster, conf_text, peer};
use isthmus_raft::{MembershipChange, PeerId};

fn number(word: &str) -> u32 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

fn command(cluster: &mut Cluster, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["nodes", nodes @ ..] => {
            let nodes: Vec<u32> = nodes.iter().map(|node| number(node)).collect();
            cluster.bootstrap(&nodes);
        }
        ["join", node] => cluster.start(number(node), None),
        ["tick", node] => cluster.tick(number(node)),
        ["run", ticks] => cluster.run(number(ticks)),
        ["campaign", node] => cluster.campaign(number(node)),
        ["propose", node, names @ ..] => cluster.propose(number(node), names),
        ["read", node, name] => cluster.read(number(node), name),
        ["transfer", from, to] => match cluster.transfer(number(from), number(to)) {
            Ok(()) => {}
            Err(error) => cluster.say(format!("error: {error}")),
        },
        ["change", node, name, parts @ ..] => {
            let mut change = MembershipChange::default();
            for part in parts.chunks(2) {
                let list: &mut Vec<PeerId> = match part[0] {
                    "add" => &mut change.add_learners,
                    "promote" => &mut change.promote,
                    "remove" => &mut change.remove,
                    other => panic!("unknown change {other}"),
                };
                list.push(peer(number(part[1])));
            }
            cluster.change(number(node), &change, name);
        }
        ["sync", node] => drop(cluster.sync(number(node))),
        ["apply", node] => drop(cluster.apply(number(node))),
        ["deliver"] => drop(cluster.deliver(|_, _| true)),
        ["deliver", from, to] => {
            let (from, to) = (number(from), number(to));
            cluster.deliver(|a, b| (a, b) == (from, to));
        }
        ["lose"] => cluster.network.clear(),
        ["stabilize"] => cluster.stabilize(),
        ["isolate", node] => cluster.isolate(number(node)),
        ["heal"] => cluster.cut.clear(),
        ["crash", node] => cluster.crash(number(node)),
        ["gone", node] => drop(cluster.nodes.remove(&number(node))),
        ["durable", node] => {
            let node = number(node);
            cluster.node(node).durable = cluster.node(node).state().position.index;
            cluster.applied_to(node);
        }
        ["compact", node] => {
            cluster.node(number(node)).core.compact_now();
            cluster.collect(number(node));
        }
        ["status"] => {
            for (id, node) in std::mem::take(&mut cluster.nodes) {
                let view = node.core.view();
                let leader = view.leader.map_or("nobody".to_owned(), |leader| leader.node().to_string());
                cluster.say(format!(
                    "{id}: {:?} term={} leader={leader} log={}..={} commit={} applied={} members {}",
                    view.role,
                    view.term,
                    view.compacted + 1,
                    view.last,
                    view.commit,
                    view.applied,
                    conf_text(&view.conf)
                ));
                cluster.nodes.insert(id, node);
            }
        }
        _ => panic!("unknown command: {line}"),
    }
}

/// Runs a script: the transcript as it happens now.
fn transcript(script: &str) -> String {
    let mut cluster = Cluster::default();
    let mut result = String::new();
    let mut skipping = false;
    let mut pending = false;
    for line in script.lines().chain([""]) {
        if line == "---" {
            skipping = true;
            continue;
        }
        if line.trim().is_empty() {
            if pending {
                result.push_str("---\n");
                result.push_str(if cluster.out.is_empty() { "nothing\n" } else { &cluster.out });
                result.push('\n');
                cluster.out.clear();
            }
            (skipping, pending) = (false, false);
            continue;
        }
        if skipping {
            continue;
        }
        result.push_str(line);
        result.push('\n');
        if !line.starts_with('#') {
            pending = true;
            command(&mut cluster, line);
            assert!(cluster.violations.is_empty(), "after `{line}`: {:?}", cluster.violations);
        }
    }
    result.trim_end().to_owned() + "\n"
}

#[test]
fn the_core_does_what_the_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut differing = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap();
        let actual = transcript(&expected);
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            fs::write(&file, actual).unwrap();
        } else if actual != expected {
            let first = actual.lines().zip(expected.lines()).position(|(a, e)| a != e);
            differing.push(format!("{} from line {}", file.display(), first.unwrap_or(0) + 1));
        }
    }
    assert!(differing.is_empty(), "transcripts differ (UPDATE_TRANSCRIPTS=1 rewrites them): {differing:#?}");
}
