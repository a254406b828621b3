//! Changed identity rules: taken once, brought to all identifiers in steps, and how far that is, is told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Replica, item, map};
use isthmus_domain::{Namespace, identity::IdentityRules};
use isthmus_proto::internal::v1::{SetConfigCommand, SweepCommand, shard_command::Command};
use isthmus_shard::apply::Outcome;
use serde_json::json;

async fn configure(replica: &mut Replica, version: u64, rules: &IdentityRules) -> Outcome {
    let identity_rules = rules.encode().into();
    let set = SetConfigCommand { version, shard_map: map(2).encode().into(), identity_rules };
    replica.propose(Command::SetConfig(set)).await
}

/// One step of the sweep that is wanted.
async fn step(replica: &mut Replica, limit: u32) {
    let sweep = replica.shared().state.read().meta.sweep.wanted;
    replica.propose(Command::Sweep(SweepCommand { sweep, limit })).await;
}

/// Version of the rules, whether all was swept, and how many slots were.
fn progress(replica: &Replica) -> (u64, bool, u16) {
    let shared = replica.shared();
    let state = shared.state.read();
    (state.meta.rules.version(), state.meta.is_swept(), state.meta.swept_slots())
}

#[tokio::test]
async fn a_sweep_passes_the_owned_slots_in_steps_goes_on_after_a_crash_and_begins_anew_with_new_rules() {
    let mut replica = Replica::new(2);
    let rules = |version| IdentityRules::default().with_limit(Namespace::USER_ID, 2).with_version(version);
    configure(&mut replica, 1, &IdentityRules::default()).await;
    // Before the first sweep nothing was brought to anyone.
    assert_eq!(progress(&replica), (0, false, 0));
    step(&mut replica, 1).await;
    step(&mut replica, 1).await;
    assert_eq!(progress(&replica), (0, true, 8_192));
    for n in 0..60 {
        let ids = json!([{"type": "card", "id": format!("card-{n}")}, {"type": "badge", "id": format!("badge-{n}")}]);
        let page = json!({"type": "page", "messageId": format!("m-{n}"), "timestamp": "2025-01-01T00:00:00Z",
            "context": {"externalIds": ids}});
        replica.ingest(vec![item(n + 1, &page.to_string())]).await;
    }

    assert_eq!(configure(&mut replica, 2, &rules(1)).await, Outcome::Configured(2));
    assert_eq!(progress(&replica), (1, false, 0));
    let mut passed = vec![0];
    while !progress(&replica).1 {
        step(&mut replica, 8).await;
        if passed.len() == 3 {
            replica.write_out().await;
            replica.crash().await;
        }
        passed.push(progress(&replica).2);
        assert!(passed.len() < 100, "it never ends: {passed:?}");
    }
    assert!(passed.is_sorted() && passed.len() > 4, "{passed:?}");
    // The shard owns the upper half of the slots: the ones before are not counted.
    assert!(passed[1] > 0 && passed[1] < 8_192, "{passed:?}");
    assert_eq!(passed.last(), Some(&8_192));

    // The same rules again, and older configuration, begin nothing; new rules begin anew, also in the middle.
    assert_eq!(configure(&mut replica, 3, &rules(1)).await, Outcome::Configured(3));
    assert_eq!(configure(&mut replica, 2, &rules(9)).await, Outcome::Configured(3));
    assert_eq!(progress(&replica), (1, true, 8_192));
    configure(&mut replica, 4, &rules(2)).await;
    step(&mut replica, 8).await;
    assert!(progress(&replica).2 > 0);
    configure(&mut replica, 5, &rules(3)).await;
    assert_eq!(progress(&replica), (3, false, 0));
    replica.hash();
}
