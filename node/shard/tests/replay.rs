//! Whatever is written out when, and wherever it crashes: the state is that of a replay of the log.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Replica, item, quarantined, track, user};
use isthmus_shard::read;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Ingest(Vec<(u8, u8, u8)>),
    Quarantine(u8),
    WriteOut,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..6u8, 0..12u8, 0..3u8), 1..6).prop_map(Step::Ingest),
        1 => (0..4u8).prop_map(Step::Quarantine),
        2 => Just(Step::WriteOut),
        1 => Just(Step::Crash),
    ]
}

fn json(user: u8, message: u8, kind: u8) -> String {
    match kind {
        0 => track(&format!("u{user}"), &format!("m{message}"), u32::from(message), "1.10"),
        1 => format!(
            r#"{{"type":"identify","userId":"u{user}","anonymousId":"a{}","messageId":"i{message}","timestamp":"2025-01-01T00:00:{message:02}Z","traits":{{"n":{message}}}}}"#,
            message % 3
        ),
        // The same message id as a track event of the same user, with another body.
        _ => track(&format!("u{user}"), &format!("m{message}"), u32::from(message), "2.20"),
    }
}

async fn run(steps: &[Step]) -> Replica {
    let mut replica = Replica::alone().await;
    let mut attempt = 0;
    for step in steps {
        match step {
            Step::Ingest(events) => {
                let items = events.iter().map(|(user, message, kind)| {
                    attempt += 1;
                    item(attempt, &json(*user, *message, *kind))
                });
                let items = items.collect();
                replica.ingest(items).await;
            }
            Step::Quarantine(number) => {
                replica.ingest(vec![quarantined(*number, b"broken")]).await;
            }
            Step::WriteOut => replica.write_out().await,
            Step::Crash => replica.crash().await,
        }
    }
    replica
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_that_of_a_replay(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let replica = run(&steps).await;
            let plain: Vec<Step> = steps
                .iter()
                .filter(|step| matches!(step, Step::Ingest(_) | Step::Quarantine(_)))
                .cloned()
                .collect();
            let replayed = run(&plain).await;
            assert_eq!(replica.hash(), replayed.hash());
            assert_eq!(replica.feed(3), replayed.feed(1_000));
            for number in 0..6u8 {
                let facet = user(&format!("u{number}"));
                let bytes = |replica: &Replica| {
                    read::facet(&replica.shared(), &facet).unwrap().0.map(|summary| summary.to_bytes())
                };
                assert_eq!(bytes(&replica), bytes(&replayed));
                let events = |replica: &Replica| {
                    let page = read::events(&replica.shared(), &facet, None, 1_000).unwrap();
                    let rows = page.events.into_iter();
                    rows.map(|(place, stamp, record)| (place, stamp, record.message_id)).collect::<Vec<_>>()
                };
                assert_eq!(events(&replica), events(&replayed));
            }
        });
    }
}
