//! The quality of a shard's events is the same wherever they lie and however small the parts are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Replica, item, track};
use isthmus_domain::quality::{Partial, Report, ReservedRules, Settings};
use isthmus_shard::read;

fn settings() -> Settings {
    Settings { source: String::new(), updated_since: 0 }
}

fn report(replica: &Replica) -> (Report, usize) {
    let (mut whole, mut after, mut parts) = (Partial::new(settings()), None, 0);
    loop {
        let part = read::quality(&replica.shared(), after, 16_384, settings()).unwrap();
        let sent = part.sums.to_bytes().unwrap();
        whole.merge(Partial::from_bytes(settings(), &sent).unwrap());
        parts += 1;
        after = part.next;
        if after.is_none() {
            return (whole.report(&ReservedRules), parts);
        }
    }
}

fn identify(user: usize, message: &str, second: usize, traits: &str) -> String {
    let time = format!("2025-06-01T00:{:02}:{:02}Z", second / 60, second % 60);
    format!(
        r#"{{"type":"identify","userId":"u{user}","messageId":"{message}","timestamp":"{time}","traits":{traits}}}"#
    )
}

#[tokio::test]
async fn events_count_once_in_memory_frozen_on_disk_and_after_a_crash() {
    let mut replica = Replica::alone().await;
    // 1,200 customers, of which each third changes its e-mail and each tenth takes it back.
    let mut attempt = 0;
    for round in 0..3 {
        let mut items = Vec::new();
        for user in 0..1_200 {
            let traits = match round {
                0 => format!(r#"{{"email":"u{user}@example.org","first_name":"N{}"}}"#, user % 7),
                1 if user % 3 == 0 => r#"{"email":"wrong"}"#.to_owned(),
                2 if user % 10 == 0 => r#"{"email":null}"#.to_owned(),
                _ => continue,
            };
            attempt += 1;
            items.push(item(attempt, &identify(user, &format!("m{round}-{user}"), round * 60 + 1, &traits)));
        }
        attempt += 1;
        items.push(item(attempt, &track("u1", &format!("t{round}"), 9, "1.00")));
        replica.ingest(items).await;
        if round == 0 {
            replica.write_out().await;
        }
    }
    let (told, parts) = report(&replica);
    assert!(parts > 1, "one part: the test tests too little");
    let email = told.traits.iter().find(|of| of.name == "email").unwrap();
    // Of 1,200, 120 took it back; of the other 1,080, 360 of 400 thirds are wrong.
    assert_eq!((email.customers, email.values, email.checked, email.valid), (1_200, 1_080, 1_080, 720));
    assert_eq!((email.distinct, email.distinct_exact, email.events), (721, true, 1_600));
    let first = told.traits.iter().find(|of| of.name == "firstName").unwrap();
    assert_eq!((first.values, first.distinct, first.valid), (1_200, 7, 1_200));
    assert_eq!(told.sources.iter().map(|of| (of.customers, of.events)).collect::<Vec<_>>(), [(1_200, 1_720)]);
    replica.write_out().await;
    assert_eq!(report(&replica).0, told);
    replica.crash().await;
    assert_eq!(report(&replica).0, told);
    // Only the slots that are asked for.
    let half = read::quality(&replica.shared(), None, 1, settings()).unwrap();
    assert!(half.next.is_none() && half.sums.report(&ReservedRules).sources.len() <= 1);
}
