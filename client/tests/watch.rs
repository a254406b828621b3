//! Watching against scripted nodes: where a stream goes on, and where it ends.

mod common;

use std::time::Duration;

use common::{Fake, refusal};
use futures::TryStreamExt as _;
use isthmus_client::{
    Client, Error,
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
    let (mut watch, mut found) = (client.watch(request), Vec::new());
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
    let client = client(&[&fake]).with_deadline(Duration::from_millis(300));
    let (found, error) = all(&client, WatchRequest::default()).await;
    assert!(found.is_empty());
    assert_eq!(error.expect("it gives up").code(), Some(Code::Unavailable));
}
