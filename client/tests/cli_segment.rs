//! `isthmus segment` against a scripted node: what it waits for, where it marks what is wrong, and what it watches.

mod common;
#[path = "common/run.rs"]
mod run;

use common::{Fake, Step, refusal};
use isthmus_client::proto::{Change, SegmentChange, SegmentState, WatchResponse, change::What};
use run::{Run, run};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn segment(fake: &Fake, args: &[&str]) -> Run {
    run(&[&["segment", "--endpoint", &fake.endpoint()], args].concat())
}

/// A refusal that names a place in a field.
fn misplaced(field: &str, line: u32, column: u32) -> Status {
    let place = [("line", line), ("column", column)].map(|(key, at)| (key.to_owned(), at.to_string()));
    let mut details = ErrorDetails::with_error_info("INVALID_SEGMENT", "isthmus.v1", place);
    details.add_bad_request_violation(field, "something is wrong here");
    Status::with_error_details(Code::InvalidArgument, "something is wrong", details)
}

#[test]
fn what_is_wrong_is_marked_in_the_text_that_it_is_in() {
    let fake = Fake::start();
    for (args, field, text) in [
        (&["put", "vip", "plan = pro AND vip"][..], "segment.expression", "plan = pro AND vip"),
        (&["preview", "plan = pro AND vip"], "expression", "plan = pro AND vip"),
        (&["count", "one and two"], "expression", "one and two"),
        (&["members", "one and two"], "expression", "one and two"),
    ] {
        fake.script([Step::Fail(misplaced(field, 1, 8))]);
        let refused = segment(&fake, args);
        let shown =
            format!("error: INVALID_SEGMENT: something is wrong\n  line 1: {text}\n{}^\n", " ".repeat(17));
        assert_eq!((refused.code, refused.stderr), (Some(1), shown), "{args:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.toml");
    std::fs::write(&file, "name = \"n\"\naggregate = \"count\"\nfilter = \"price > cheap\"\n").unwrap();
    fake.script([Step::Fail(misplaced("computed_trait.filter", 1, 9))]);
    let refused = segment(&fake, &["trait", file.to_str().unwrap()]);
    assert!(refused.stderr.ends_with("  line 1: price > cheap\n                  ^\n"), "{}", refused.stderr);
    // A place in another text is not marked in this one.
    fake.script([Step::Fail(refusal(Code::InvalidArgument, "INVALID_SEGMENT", "segment: another one"))]);
    let refused = segment(&fake, &["put", "vip", "plan"]);
    assert_eq!(refused.stderr, "error: INVALID_SEGMENT: segment: another one\n");
}

#[test]
fn waiting_ends_when_it_is_live_or_when_time_is_over() {
    let fake = Fake::start();
    fake.state().live_versions.extend([1, 1, 2]);
    for wait in ["--wait", "--wait=10s"] {
        let put = segment(&fake, &["put", wait, "vip", "plan"]);
        assert_eq!((put.code, put.stdout.as_str()), (Some(0), "definitions version 2\n"), "{}", put.stderr);
    }
    assert_eq!(fake.state().calls.iter().filter(|call| *call == "list_definitions").count(), 4);
    fake.state().live_versions = [1].into();
    let put = segment(&fake, &["put", "vip", "plan", "--wait=1s"]);
    let told = "definitions version 2 is put, and not live everywhere after 1s: version 1 answers so far";
    assert!(put.code == Some(1) && put.stdout.is_empty() && put.stderr.contains(told), "{}", put.stderr);
    // 0.1 s, then half as much more each time: not ten times a second.
    let asked = fake.state().calls.iter().filter(|call| *call == "list_definitions").count() - 4;
    assert!((3..=6).contains(&asked), "asked {asked} times");
    // One that can't answer is asked again.
    let away = || Step::Fail(refusal(Code::Internal, "INTERNAL", "a defect"));
    fake.state().live_versions = [2].into();
    fake.script([Step::Outcomes(Vec::new()), away(), away()]);
    let put = segment(&fake, &["put", "vip", "plan", "--wait"]);
    assert_eq!(put.code, Some(0), "{}", put.stderr);
}

#[test]
fn of_whom_it_cannot_be_said_is_told_beside_the_count() {
    let counted = segment(&Fake::start(), &["count", "not vip"]);
    assert_eq!((counted.code, counted.stdout.as_str()), (Some(0), "5\n"));
    assert!(counted.stderr.starts_with("of 2 more it can't be said"), "{}", counted.stderr);
}

#[test]
fn a_watch_is_of_segments_that_there_are() {
    let fake = Fake::start();
    let what = What::Segment(SegmentChange {
        name: "vip".to_owned(),
        now: SegmentState::In.into(),
        ..SegmentChange::default()
    });
    let change = Change { id: "1".to_owned(), what: Some(what), ..Change::default() };
    let response = |cursor: &str, changes| WatchResponse { changes, cursor: cursor.to_owned() };
    let away = refusal(Code::Unavailable, "UNAVAILABLE", "this node is stopping");
    fake.state().watches.extend([
        (vec![response("c1", Vec::new())], Some(away)),
        (vec![response("c2", vec![change])], None),
        (Vec::new(), Some(refusal(Code::InvalidArgument, "INVALID_SEGMENT", "there is no segment vpi"))),
    ]);
    let watched = segment(&fake, &["watch", "vip", "--limit", "1", "--output", "json"]);
    let printed = watched.object();
    assert_eq!((&printed["segment"], &printed["cursor"]), (&"vip".into(), &"c2".into()), "{printed}");
    let asked: Vec<_> = fake.state().segments_watched.iter().map(|it| it.cursor.clone()).collect();
    assert_eq!((asked, fake.state().watched.len()), (vec![String::new(), "c1".to_owned()], 0));
    let refused = segment(&fake, &["watch", "vpi"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("no segment vpi"), "{}", refused.stderr);
    for option in ["--event", "--type", "--trait", "--segment"] {
        assert_eq!(segment(&fake, &["watch", "vip", option, "track"]).code, Some(2), "{option}");
    }
}
