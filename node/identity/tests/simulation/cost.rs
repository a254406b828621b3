//! What one merge costs: hops between shards, messages, looks at rows. Each hop is a command in a shard's log.

use std::collections::{BTreeMap, VecDeque};

use isthmus_domain::identity::{IdentityRules, RowKey};
use isthmus_domain::{FacetId, Identifier, IdentityKey, LinkFact, LinkKind};
use isthmus_identity::{keys, source_and_kind, stored::StoredRow};
use isthmus_proto::internal::v1::{identity_message::Body};
use prost::Message as _;

use crate::world::{Looks, World};

const KEY: IdentityKey = IdentityKey::new([5; 32]);

/// The cost of a merge of two identifiers that nobody has heard of.
#[derive(Debug, Default)]
struct Cost {
    /// Deliveries until the link is known to be in force; those that go the same way at the same time are one.
    hops: usize,
    /// The same until nothing is under way any more.
    hops_in_all: usize,
    messages: Vec<String>,
    bytes: usize,
    looks: Looks,
    rows: usize,
    row_bytes: usize,
}

fn merge(number: usize) -> (bool, Cost) {
    let identifier = |namespace: &str, value: String| {
        Identifier::from_stored(namespace, &value).unwrap()
    };
    let (a, b) =
        (identifier("user_id", format!("u{number}")), identifier("anonymous_id", format!("c{number}")));
    let (u, c) = (FacetId::of(&KEY, &a), FacetId::of(&KEY, &b));
    let fact = LinkFact {
        a,
        b,
        timestamp: 1_000,
        source: "web".into(),
        message_id: "m".into(),
        position: 0,
        kind: LinkKind::Plain,
    };
    let row = RowKey { a: u, b: c, source_and_kind: source_and_kind("web", fact.kind) };
    let mut world = World::new(2, &IdentityRules::default().into());
    world.owner.extend([(u, 0), (c, 1)]);
    let mut cost = Cost::default();
    world.at(0, |resolver| resolver.links(u, [(c, fact)]));
    loop {
        let settled = world.shards[0].rows.get(&keys::link_row(&row));
        if cost.hops == 0 && settled.is_some_and(|row| StoredRow::read(row).unwrap().is_settled()) {
            cost.hops = cost.hops_in_all;
        }
        let full: Vec<((usize, usize), usize)> =
            world.streams.iter().map(|(key, queue)| (*key, queue.len())).filter(|(_, n)| *n > 0).collect();
        if full.is_empty() {
            break;
        }
        cost.hops_in_all += 1;
        for (stream, count) in full {
            for message in world.streams.get(&stream).map(VecDeque::iter).into_iter().flatten() {
                cost.messages.push(format!("{}>{} {}", stream.0, stream.1, name(message.body.as_ref().unwrap())));
                cost.bytes += message.encoded_len();
            }
            (0..count).for_each(|_| world.deliver(stream));
        }
    }
    cost.looks = world.looks;
    for (key, value) in world.shards.iter().flat_map(|shard| &shard.rows) {
        cost.rows += 1;
        cost.row_bytes += key.len() + value.len();
    }
    (c < u, cost)
}

fn name(body: &Body) -> String {
    let whole = match body {
        Body::ToRoot(up) => format!("{:?}", up.body.as_ref().unwrap()),
        other => format!("{other:?}"),
    };
    whole.split('(').next().unwrap().to_owned()
}

#[test]
fn a_merge_of_two_identifiers_takes_so_many_hops() {
    let mut seen = BTreeMap::new();
    for number in 0..20 {
        let (counterpart_is_smaller, cost) = merge(number);
        seen.entry(counterpart_is_smaller).or_insert(cost);
    }
    for (counterpart_is_smaller, cost) in &seen {
        println!("the counterpart is the root: {counterpart_is_smaller}; {cost:#?}");
    }
    assert_eq!(seen.len(), 2);
}
