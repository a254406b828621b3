//! Lists and timelines, page by page. A cursor may be used at another node than the one that gave it.

use std::collections::BTreeSet;

use isthmus_proto::v1::{
    ProfileServiceListRequest, QuarantineServiceListRequest, TimelineEvent, TimelineRequest,
    profile_service_client::ProfileServiceClient, quarantine_service_client::QuarantineServiceClient,
};
use isthmus_tests::ask;
use tonic::Code;

use crate::{Hub, refused};

/// Whatever comes in between two pages, a list holds every profile that was there at its beginning exactly once, in
/// the order of ids over all shards.
pub async fn a_list_shows_every_profile_once_in_order_while_others_come_in(hub: &Hub) {
    let users: BTreeSet<String> = (0..200).map(|number| format!("list-{number:03}")).collect();
    let items = users.iter().map(|user| ask::json(ask::seen(user, user))).collect();
    ask::accepted(&hub.nodes[0], items).await;
    for limit in [13, 1_000] {
        let (mut cursor, mut ids, mut names) = (String::new(), Vec::new(), Vec::new());
        for page in 0.. {
            let request = ProfileServiceListRequest { limit, cursor, ..ProfileServiceListRequest::default() };
            let node = &hub.nodes[page % 3];
            let answer = ProfileServiceClient::new(node.clone()).list(request).await.unwrap().into_inner();
            assert!(answer.profiles.len() <= limit as usize);
            for profile in answer.profiles {
                names.extend(profile.identifiers.into_iter().map(|identifier| identifier.value));
                ids.push(profile.profile_id);
            }
            cursor = answer.next_cursor;
            if cursor.is_empty() {
                break;
            }
            let newcomer = format!("newcomer-{limit}-{page}");
            ask::accepted(&hub.nodes[(page + 1) % 3], vec![ask::json(ask::seen(&newcomer, &newcomer))]).await;
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "out of order, or twice");
        let found: BTreeSet<String> = names.into_iter().filter(|name| name.starts_with("list-")).collect();
        assert_eq!(found, users);
    }
}

/// Time, then message id, of an event.
fn place(event: &TimelineEvent) -> (i64, i32, &str) {
    let time = event.timestamp.as_ref().unwrap();
    (time.seconds, time.nanos, &event.message_id)
}

/// Several events of one time fall into different pages, and none is lost or shown twice for it.
pub async fn a_timeline_shows_every_event_once_newest_first(hub: &Hub) {
    let event = |number: u32| {
        // Sent in another order than that of their times, seven of each time.
        let second = (number * 37 % 210) / 7;
        ask::json(format!(
            r#"{{"type":"track","event":"Step","userId":"timeline","messageId":"t-{number:03}","timestamp":"2024-03-01T00:00:{second:02}.5Z","properties":{{"n":{number}}}}}"#
        ))
    };
    for (batch, numbers) in (0..210).collect::<Vec<u32>>().chunks(40).enumerate() {
        ask::accepted(&hub.nodes[batch % 3], numbers.iter().map(|number| event(*number)).collect()).await;
    }
    let mut wholes = Vec::new();
    for limit in [10, 64, 1_000] {
        let (mut cursor, mut events) = (String::new(), Vec::new());
        for page in 0.. {
            let request =
                TimelineRequest { key: ask::key("user_id", "timeline"), limit, cursor, consistency: None };
            let node = &hub.nodes[page % 3];
            let answer =
                ProfileServiceClient::new(node.clone()).timeline(request).await.unwrap().into_inner();
            assert!(answer.events.len() <= limit as usize);
            events.extend(answer.events);
            cursor = answer.next_cursor;
            if cursor.is_empty() {
                break;
            }
            // What is older than the page before doesn't move it; what is newer doesn't show.
            let newer = ask::json(format!(
                r#"{{"type":"track","event":"Newer","userId":"timeline","messageId":"newer-{limit}-{page}"}}"#
            ));
            ask::accepted(&hub.nodes[(page + 2) % 3], vec![newer]).await;
        }
        let steps: Vec<TimelineEvent> = events.into_iter().filter(|event| event.name == "Step").collect();
        assert!(steps.is_sorted_by(
            |a, b| a.timestamp.as_ref().map(|t| t.seconds) >= b.timestamp.as_ref().map(|t| t.seconds)
        ));
        let ids: BTreeSet<&str> = steps.iter().map(|event| event.message_id.as_str()).collect();
        assert_eq!((steps.len(), ids.len()), (210, 210), "pages of {limit}");
        let first = &steps[0];
        assert_eq!(
            (first.source.as_str(), first.primary.as_ref().unwrap().value.as_str()),
            ("default", "timeline")
        );
        assert!(first.received_at.is_some() && first.properties_json.starts_with(r#"{"n":"#), "{first:?}");
        wholes.push(steps);
    }
    for other in &wholes[1..] {
        let places =
            |events: &[TimelineEvent]| events.iter().map(|e| format!("{:?}", place(e))).collect::<Vec<_>>();
        assert_eq!(places(&wholes[0]), places(other), "the order depends on the pages");
    }
}

pub async fn pages_that_make_no_sense_are_refused(hub: &Hub) {
    let mut profiles = ProfileServiceClient::new(hub.nodes[0].clone());
    let mut quarantine = QuarantineServiceClient::new(hub.nodes[0].clone());
    let list = ProfileServiceListRequest { limit: 1_001, ..ProfileServiceListRequest::default() };
    refused(profiles.list(list).await, Code::InvalidArgument, "INVALID_LIMIT");
    let list = ProfileServiceListRequest { limit: 1, ..ProfileServiceListRequest::default() };
    let cursor = profiles.list(list).await.unwrap().into_inner().next_cursor;
    assert!(!cursor.is_empty());
    for bad in ["x", "????", &format!("{cursor}A"), &cursor[1..]] {
        let list =
            ProfileServiceListRequest { cursor: bad.to_owned(), ..ProfileServiceListRequest::default() };
        refused(profiles.list(list).await, Code::InvalidArgument, "INVALID_CURSOR");
    }
    // A cursor of one list is none of another.
    let list =
        QuarantineServiceListRequest { cursor: cursor.clone(), ..QuarantineServiceListRequest::default() };
    refused(quarantine.list(list).await, Code::InvalidArgument, "INVALID_CURSOR");
    let timeline =
        TimelineRequest { key: ask::key("user_id", "timeline"), cursor, ..TimelineRequest::default() };
    refused(profiles.timeline(timeline).await, Code::InvalidArgument, "INVALID_CURSOR");
    let timeline =
        TimelineRequest { key: ask::key("user_id", "nobody-at-all"), ..TimelineRequest::default() };
    refused(profiles.timeline(timeline).await, Code::NotFound, "NOT_FOUND");
}
