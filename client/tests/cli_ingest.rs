//! `isthmus ingest` against a scripted node.

mod common;
#[path = "common/run.rs"]
mod run;
#[path = "common/sending.rs"]
mod sending;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{Fake, Step, dead_endpoint, refusal};
use isthmus_client::proto::{IngestItem, ItemOutcome, ingest_item::Body, value::Kind};
use run::{Run, command, run};
use sending::{counts, folder, ingest, lines, text, write};
use tokio::sync::Notify;
use tonic::{Code, Status};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/");

#[test]
fn a_file_goes_in_once_however_often_it_is_sent() {
    let (fake, folder) = (Fake::start(), folder());
    // Equal lines are real repeats.
    let file = write(folder.path(), "events.jsonl", format!("{}{}", lines(2_000), lines(2_000)));
    let first = ingest(&fake, &[text(&file), "--batch-items", "300"]);
    assert_eq!((first.code, counts(&first)), (Some(0), [4_000, 0, 0, 0]), "{}", first.stderr);
    assert!(fake.state().batches.iter().all(|batch| batch.items.len() <= 300));
    let again = ingest(&fake, &[text(&file)]);
    assert_eq!((again.code, counts(&again)), (Some(0), [0, 4_000, 0, 0]));
    let grown = format!("{}{}{}", lines(2_000), lines(2_000), lines(1));
    fs::write(&file, grown).expect("writes");
    assert_eq!(counts(&ingest(&fake, &[text(&file)])), [1, 4_000, 0, 0]);
    let renamed = write(folder.path(), "other.jsonl", lines(1));
    assert_eq!(counts(&ingest(&fake, &[text(&renamed)])), [1, 0, 0, 0]);
    assert_eq!(counts(&ingest(&fake, &[text(&renamed), "--dataset", "events.jsonl"])), [0, 1, 0, 0]);
}

#[test]
fn broken_lines_are_quarantined_with_their_numbers_and_the_others_go_in() {
    let (fake, folder) = (Fake::start(), folder());
    let mut content = lines(3).into_bytes();
    content.extend(b"{\"type\":\n\n\xff\xfe\n{\"type\":\"track\",\"event\":\"e\"}\n");
    content.extend(lines(1).bytes());
    let file = write(folder.path(), "mixed.ndjson", content);
    let run = ingest(&fake, &[text(&file)]);
    assert_eq!((run.code, counts(&run)), (Some(3), [4, 0, 3, 0]), "{}", run.stderr);
    for place in ["mixed.ndjson:4: quarantined", "mixed.ndjson:6: quarantined", "mixed.ndjson:7: quarantined"]
    {
        assert!(run.stderr.contains(place), "{place}: {}", run.stderr);
    }
    let state = fake.state();
    let origins: Vec<&str> = state.batches[0].items.iter().map(|item| item.origin.as_str()).collect();
    assert_eq!(origins[3], "mixed.ndjson:4");
}

#[test]
fn the_purchase_history_goes_in_by_its_mapping() {
    let fake = Fake::start();
    let (file, mapping) = (format!("{DATA}cdnow_sample.txt"), format!("{DATA}cdnow.toml"));
    let run = ingest(&fake, &[&file, "--mapping", &mapping, "--source", "shop"]);
    assert_eq!((run.code, counts(&run)), (Some(0), [6_919, 0, 0, 0]), "{}", run.stderr);
    assert_eq!(counts(&ingest(&fake, &[&file, "--mapping", &mapping])), [0, 6_919, 0, 0]);
    let state = fake.state();
    assert!(state.batches[..10].iter().all(|batch| batch.source == "shop" && batch.sent_at.is_none()));
    let cents = |item: &IngestItem| match &item.body {
        Some(Body::Event(event)) => match &event.properties["revenue"].kind {
            Some(Kind::StringValue(revenue)) => {
                revenue.replace('.', "").parse::<i64>().expect("two digits of cents")
            }
            other => panic!("not a decimal: {other:?}"),
        },
        other => panic!("not an event: {other:?}"),
    };
    let all: i64 = state.batches.iter().flat_map(|batch| &batch.items).map(cents).sum();
    assert_eq!(all, 2 * 24_409_194);
}

#[test]
fn what_is_wrong_with_files_and_mappings_exits_with_two_before_anything_is_sent() {
    let (fake, folder) = (Fake::start(), folder());
    let at = folder.path();
    let csv = write(at, "orders.csv", "id,sum\n1,2\n");
    let good = "type = \"track\"\nevent = \"e\"\n[identifiers]\nuser_id = \"id\"\n";
    let mapping = write(at, "good.toml", good);
    let column = write(at, "column.toml", format!("{good}[properties]\nrevenue = \"total\"\n"));
    let broken = write(at, "broken.toml", "type = \"track\"\nevent = ?\n");
    let odd = write(at, "events.xyz", "");
    let jsonl = write(at, "events.jsonl", "{}\n");
    fs::create_dir(at.join("sub")).expect("a folder");
    let twin = write(&at.join("sub"), "events.jsonl", "{}\n");
    let empty = at.join("empty");
    fs::create_dir(&empty).expect("a folder");
    let gz = write(at, "plain.jsonl.gz", "{}\n");
    let parquet = write(at, "text.parquet", "{}\n");
    let packed = write(at, "x.parquet.gz", "");
    let table: [(&[&Path], &[&str], &str); 13] = [
        (&[&at.join("none.jsonl")], &[], "No such file"),
        (&[&empty], &[], "holds no file"),
        (&[&at.join("*.tsv")], &[], "holds no file"),
        (&[&gz], &[], "isn't gzip"),
        (&[&parquet], &[], "isn't a whole Parquet file"),
        (&[&packed], &[], "compressed in itself"),
        (&[Path::new("-")], &["--format", "parquet"], "can't be read from standard input"),
        (&[&csv], &[], "--mapping"),
        (&[&odd], &[], "--format"),
        (
            &[&csv],
            &["--mapping", text(&column)],
            "column.toml: line 6: there is no column `total`; there are: id, sum",
        ),
        (&[&csv], &["--mapping", text(&broken)], "broken.toml: line 2:"),
        (&[&jsonl, &twin], &[], "two files are named events.jsonl"),
        (&[&jsonl, &csv], &["--dataset", "d"], "--dataset"),
    ];
    for (files, options, part) in table {
        let mut args: Vec<&str> = files.iter().map(|file| text(file)).collect();
        args.extend(options);
        let run = ingest(&fake, &args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(fake.state().calls.is_empty());
    let run = ingest(&fake, &[text(&csv), "--mapping", text(&mapping)]);
    assert_eq!((run.code, counts(&run)), (Some(0), [1, 0, 0, 0]), "{}", run.stderr);
}

#[test]
fn standard_input_is_read_too() {
    let fake = Fake::start();
    let endpoint = fake.endpoint();
    let mut child =
        command(&["ingest", "-", "--endpoint", &endpoint]).stdin(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(lines(10).as_bytes()).expect("taken");
    let run = Run::from(child.wait_with_output().expect("ends"));
    assert_eq!((run.code, counts(&run)), (Some(0), [10, 0, 0, 0]), "{}", run.stderr);
    assert_eq!(fake.state().batches[0].items[0].origin, "stdin:1");
}

#[test]
fn a_wrong_key_stops_at_once_with_the_counts() {
    let (fake, folder) = (Fake::start(), folder());
    let file = write(folder.path(), "events.jsonl", lines(5_000));
    let run = ingest(&fake, &[text(&file), "--write-key", "wrong", "--batch-items", "10", "--parallel", "2"]);
    assert_eq!((run.code, counts(&run)), (Some(1), [0; 4]));
    assert!(run.stderr.contains("WRITE_KEY_UNKNOWN") && !run.stderr.contains("wrong"), "{}", run.stderr);
    assert!(fake.state().calls.len() < 10, "it stopped");
}

#[test]
fn what_fails_for_the_moment_is_repeated_until_it_is_stored() {
    let (fake, folder) = (Fake::start(), folder());
    let file = write(folder.path(), "events.jsonl", lines(100));
    fake.script([
        Step::Fail(refusal(Code::Unavailable, "NO_LEADER", "an election is under way")),
        Step::LoseAnswer(Status::unavailable("the connection broke")),
        Step::Outcomes(
            (0..100)
                .map(|n| (if n == 7 { ItemOutcome::OutcomeUnknown } else { ItemOutcome::Accepted }, true))
                .collect(),
        ),
    ]);
    let run = ingest(&fake, &[text(&file), "--retry-for", "5m"]);
    assert_eq!((run.code, counts(&run)), (Some(0), [99, 1, 0, 0]), "{}", run.stderr);
    let state = fake.state();
    assert_eq!(state.message_ids.len(), 100);
    let sizes: Vec<usize> = state.batches.iter().map(|batch| batch.items.len()).collect();
    assert_eq!(sizes, [100, 100, 1], "only the unknown one is sent again");
}

#[test]
fn what_can_not_be_sent_in_time_exits_with_one() {
    let folder = folder();
    let file = write(folder.path(), "events.jsonl", lines(10));
    let dead = dead_endpoint();
    let run = run(&["ingest", text(&file), "--endpoint", &dead, "--retry-for", "300ms"]);
    assert_eq!((run.code, counts(&run)), (Some(1), [0; 4]));
    assert!(run.stderr.contains("can be reached") && run.stderr.contains("again is safe"), "{}", run.stderr);
    let fake = Fake::start();
    fake.script((0..1_000).map(|_| Step::Outcomes(vec![(ItemOutcome::OutcomeUnknown, true); 10])));
    let run = ingest(&fake, &[text(&file), "--retry-for", "300ms"]);
    assert_eq!((run.code, run.object()["unknown"].as_u64()), (Some(1), Some(10)), "{}", run.stderr);
}

#[test]
fn an_interrupt_lets_what_is_under_way_end_and_says_how_far_it_came() {
    let (fake, folder) = (Fake::start(), folder());
    // The first line of each of the two batches under way is broken, so that its end can be seen.
    let text_of_file = lines(1_000).replace("\"userId\":\"1\"}", "?").replace("\"userId\":\"11\"}", "?");
    let file = write(folder.path(), "events.jsonl", text_of_file);
    let releases = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    fake.script(releases.clone().map(Step::Hold));
    let endpoint = fake.endpoint();
    let args = ["ingest", text(&file), "--endpoint", &endpoint, "--batch-items", "10", "--parallel", "2"];
    let mut child = command(&args).spawn().expect("runs");
    let sent = || fake.state().calls.iter().filter(|call| *call == "ingest").count();
    while sent() < 2 {
        std::thread::yield_now();
    }
    let killed =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is everywhere");
    assert!(killed.success());
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    let mut wait_for = |what: &str| {
        while !said.contains(what) {
            assert_ne!(stderr.read_line(&mut said).expect("reads"), 0, "{said}");
        }
    };
    wait_for("stopping");
    releases[0].notify_one();
    // One has come back: its place must stay empty while the other is under way.
    wait_for("quarantined");
    releases[1].notify_one();
    for line in stderr.lines() {
        said.push_str(&line.expect("reads"));
    }
    let run = Run::from(child.wait_with_output().expect("ends"));
    assert_eq!((run.code, counts(&run)), (Some(130), [18, 0, 2, 0]), "{said}");
    assert!(said.contains("up to events.jsonl:20"), "{said}");
    assert_eq!(sent(), 2, "nothing more was sent");
}

#[test]
fn a_write_key_need_not_stand_among_the_arguments() {
    let (fake, folder) = (Fake::start(), folder());
    let events = write(folder.path(), "e.jsonl", lines(1));
    let key = write(folder.path(), "shop.key", "of-the-file\n");
    let two = write(folder.path(), "two.key", "one two\n");
    let endpoint = fake.endpoint();
    let base = ["ingest", text(&events), "--endpoint", &endpoint, "--from-start"];
    let sent_as = |environment: &str, args: &[&str]| {
        let ended = command(&[&base[..], args].concat()).env("ISTHMUS_WRITE_KEY", environment).output();
        let ended = Run::from(ended.expect("runs"));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        let batch = fake.state().batches.pop().expect("a batch");
        (batch.write_key, batch.source)
    };
    let key_of = |key: &str| (key.to_owned(), String::new());
    assert_eq!(sent_as("of-the-environment", &[]), key_of("of-the-environment"));
    assert_eq!(sent_as("", &[]), key_of(""));
    // What is said on the command line counts.
    assert_eq!(sent_as("of-the-environment", &["--write-key-file", text(&key)]), key_of("of-the-file"));
    assert_eq!(sent_as("of-the-environment", &["--write-key", "typed"]), key_of("typed"));
    assert_eq!(sent_as("of-the-environment", &["--source", "shop"]), (String::new(), "shop".to_owned()));
    for (wrong, word) in [
        (&["--write-key", "a", "--write-key-file", text(&key)][..], "cannot be used with"),
        (&["--source", "a", "--write-key-file", text(&key)], "cannot be used with"),
        (&["--write-key-file", "none.key"], "none.key"),
        (&["--write-key-file", text(&two)], "a write key and nothing else"),
    ] {
        let ended = run(&[&base[..], wrong].concat());
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
}
