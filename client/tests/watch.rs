//! Watching against scripted nodes: where a stream goes on, and where it ends.

mod common;
#[path = "common/run.rs"]
mod run;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Fake, refusal};
use futures::TryStreamExt as _;
use isthmus_client::{
    Client, Error, Watch, WatchNews, WatchOptions,
    proto::{Change, WatchFrom, WatchRequest, WatchResponse},
};
use tonic::{Code, Status};

fn client(fakes: &[&Fake]) -> Client {
    let endpoints = fakes.iter().map(|fake| fake.endpoint());
    Client::builder()
        .endpoints(endpoints)
        .deadline(Duration::from_secs(20))
        .connect_lazy()
        .expect("addresses")
}

fn response(cursor: &str, ids: &[&str]) -> WatchResponse {
    let change = |id: &&str| Change { id: (*id).to_owned(), ..Change::default() };
    WatchResponse { changes: ids.iter().map(change).collect(), cursor: cursor.to_owned() }
}

fn script(fake: &Fake, watches: Vec<(Vec<WatchResponse>, Option<Status>)>) {
    fake.state().watches.extend(watches);
}

/// What comes until the stream ends.
async fn all(client: &Client, request: WatchRequest) -> (Vec<String>, Option<Error>) {
    until_the_end(client.watch(request)).await
}

async fn until_the_end(mut watch: Watch) -> (Vec<String>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        match watch.try_next().await {
            Ok(Some(response)) => found.extend(response.changes.into_iter().map(|change| change.id)),
            Ok(None) => return (found, None),
            Err(error) => {
                assert!(watch.try_next().await.expect("it is over").is_none());
                return (found, Some(error));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_from_the_last_cursor_whatever_breaks_it() {
    let fake = Fake::start();
    let away = || refusal(Code::Unavailable, "UNAVAILABLE", "this node is stopping");
    let old = || refusal(Code::FailedPrecondition, "CURSOR_TOO_OLD", "too old");
    script(
        &fake,
        vec![
            (vec![], Some(away())),
            (vec![response("c0", &[]), response("c1", &["1", "2"])], Some(away())),
            (vec![response("c2", &["3"])], None),
            (vec![], Some(refusal(Code::Unavailable, "NO_LEADER", "no leader"))),
            (vec![response("c3", &["4"])], Some(old())),
        ],
    );
    let request = WatchRequest { start: WatchFrom::Now.into(), ..WatchRequest::default() };
    let (found, error) = all(&client(&[&fake]), request).await;
    assert_eq!(found, ["1", "2", "3", "4"]);
    assert_eq!(error.expect("the last one").reason().expect("the hub's").as_str(), "CURSOR_TOO_OLD");
    let cursors: Vec<String> = fake.state().watched.iter().map(|request| request.cursor.clone()).collect();
    assert_eq!(cursors, ["", "", "c1", "c2", "c2"]);
}

#[tokio::test]
async fn a_node_that_stops_is_left_for_another() {
    let (first, second) = (Fake::start(), Fake::start());
    let away = || Some(refusal(Code::Unavailable, "UNAVAILABLE", "this node is stopping"));
    let end = || Some(refusal(Code::InvalidArgument, "INVALID_CURSOR", "the end of the test"));
    for fake in [&first, &second] {
        // Whoever is asked first stops; the other one goes on.
        script(fake, vec![(vec![response("c", &["1"])], away()), (vec![response("c", &["2"])], end())]);
    }
    let (found, error) = all(&client(&[&first, &second]), WatchRequest::default()).await;
    assert_eq!(error.expect("the end").code(), Some(Code::InvalidArgument));
    assert!(found.starts_with(&["1".to_owned()]));
    let asked = |fake: &Fake| fake.state().watched.len();
    assert!(asked(&first) > 0 && asked(&second) > 0, "{} and {}", asked(&first), asked(&second));
}

#[tokio::test]
async fn a_hub_that_stays_away_for_long_is_told() {
    let fake = Fake::start();
    let away = || (vec![], Some(refusal(Code::Unavailable, "NO_LEADER", "no leader")));
    script(&fake, (0..1_000).map(|_| away()).collect());
    let options = WatchOptions::new().patience(Duration::from_millis(300));
    let watch = client(&[&fake]).watch_with(WatchRequest::default(), options);
    let (found, error) = until_the_end(watch).await;
    assert!(found.is_empty());
    assert_eq!(error.expect("it gives up").code(), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_hub_that_is_away_for_longer_than_a_call_may_take_is_waited_for_and_that_is_told() {
    let fake = Fake::start();
    let away = || Some(refusal(Code::Unavailable, "NO_LEADER", "no leader"));
    let end = || Some(refusal(Code::InvalidArgument, "INVALID_CURSOR", "the end of the test"));
    // One failure by itself is no news; four in a row wait for longer than the deadline.
    let mut watches = vec![(vec![response("c1", &["1"])], away()), (vec![response("c2", &["2"])], away())];
    watches.extend((0..3).map(|_| (vec![], away())));
    watches.push((vec![response("c3", &["3"])], end()));
    script(&fake, watches);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let options = WatchOptions::new().on_news(move |news| {
        let what = match news {
            WatchNews::Waits(error) => error.reason().expect("the hub's").as_str().to_owned(),
            WatchNews::GoesOn => "goes on".to_owned(),
        };
        tell.lock().expect("no panic").push(what);
    });
    let hasty = client(&[&fake]).with_deadline(Duration::from_nanos(1));
    let (found, error) = until_the_end(hasty.watch_with(WatchRequest::default(), options)).await;
    assert_eq!(found, ["1", "2", "3"]);
    assert_eq!(error.expect("the end").code(), Some(Code::InvalidArgument));
    assert_eq!(*told.lock().expect("no panic"), ["NO_LEADER", "goes on"]);
}

#[test]
fn the_command_line_waits_says_so_and_gives_up_when_it_was_told_to() {
    let fake = Fake::start();
    let away = || (vec![], Some(refusal(Code::Unavailable, "NO_LEADER", "no leader")));
    let (endpoint, hasty) = (fake.endpoint(), ["watch", "--timeout", "1ns", "--endpoint"]);
    script(&fake, vec![away(), away(), away(), (vec![response("c1", &["1"])], None)]);
    let waited = run::run(&[&hasty[..], &[&endpoint, "--limit", "1", "--output", "json"]].concat());
    assert_eq!((waited.code, &waited.object()["cursor"]), (Some(0), &"c1".into()), "{}", waited.stderr);
    let words: Vec<&str> = waited.stderr.lines().collect();
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words[0].contains("is waited for: ") && words[0].contains("NO_LEADER"), "{words:?}");
    assert!(words[1].contains("goes on"), "{words:?}");
    script(&fake, (0..1_000).map(|_| away()).collect());
    let gave_up = run::run(&[&hasty[..], &[&endpoint, "--retry-for", "300ms"]].concat());
    assert_eq!((gave_up.code, gave_up.stdout.as_str()), (Some(1), ""));
    assert!(gave_up.stderr.contains("error: ") && gave_up.stderr.contains("NO_LEADER"), "{}", gave_up.stderr);
}
