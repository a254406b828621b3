//! What one merge costs: hops between shards, messages, looks at rows. Each hop is a command in a shard's log.

use std::collections::{BTreeMap, VecDeque};

use isthmus_domain::identity::{IdentityRules, RowKey};
use isthmus_domain::{FacetId, Identifier, IdentityKey, LinkFact, LinkKind};
use isthmus_identity::{Served, keys, source_and_kind, stored::SmallRoot, stored::StoredRow};
use isthmus_proto::internal::v1::identity_message::Body;
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
    let identifier = |namespace: &str, value: String| Identifier::from_stored(namespace, &value).unwrap();
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
                cost.messages.push(format!(
                    "{}>{} {}",
                    stream.0,
                    stream.1,
                    name(message.body.as_ref().unwrap())
                ));
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
        assert_eq!(cost.hops, 4);
        assert!(cost.hops_in_all <= 5 && cost.messages.len() <= 6 && cost.rows <= 10);
    }
    assert_eq!(seen.len(), 2);
}

/// An earlier version stored each piece of a root as a row, however few there were.
#[test]
fn a_root_that_was_stored_piece_by_piece_goes_on() {
    for number in 0..20 {
        let [u, c, d] = ["user_id", "anonymous_id", "email"]
            .map(|namespace| Identifier::from_stored(namespace, &format!("x{number}@example.com")).unwrap());
        let facets = [&u, &c, &d].map(|id| FacetId::of(&KEY, id));
        let fact = |b: &Identifier, timestamp: i64| LinkFact {
            a: u.clone(),
            b: b.clone(),
            timestamp,
            source: "web".into(),
            message_id: format!("m{timestamp}"),
            position: 0,
            kind: LinkKind::Plain,
        };
        let mut world = World::new(3, &IdentityRules::default().into());
        world.owner.extend((0..3).map(|n| (facets[n], n)));
        let settle = |world: &mut World| {
            while let Some((stream, _)) = world.streams.iter().find(|(_, queue)| !queue.is_empty()) {
                world.deliver(*stream);
            }
        };
        world.at(0, |resolver| resolver.links(facets[0], [(facets[1], fact(&c, 1_000))]));
        settle(&mut world);
        let mut roots = 0;
        for shard in &mut world.shards {
            shard.roots.clear();
            let is_small = |key: &Vec<u8>| key[0] == keys::table::ROOT && key[19..] == [6];
            let small: Vec<_> = shard.rows.extract_if(.., |key, _| is_small(key)).collect();
            for (key, value) in small {
                roots += 1;
                let facet = keys::facet(&key).unwrap();
                for piece in SmallRoot::decode(value).unwrap().pieces {
                    shard.rows.insert(keys::root(&facet, &piece.key), piece.value);
                }
            }
        }
        assert_eq!(roots, 1);
        world.at(0, |resolver| resolver.links(facets[0], [(facets[2], fact(&d, 2_000))]));
        settle(&mut world);
        for facet in facets {
            let record = world.record(facet);
            assert_eq!(record.home(facet), facets[0]);
            let served = world.at(0, |resolver| resolver.serve(&facets[0], &facet, record.epoch));
            assert!(matches!(served, Served::Members(members, _) if members.len() == 3));
        }
    }
}

/// What one more link of a customer of many identifiers costs.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    messages: usize,
    /// The largest of the messages, and all of them.
    largest: usize,
    bytes: usize,
    looks: Looks,
}

/// A customer whose cookies are linked one after the other, each to be in force before the next. They come in an order
/// that is not the one in which they are folded.
fn grow(cookies: usize) -> Vec<Growth> {
    let user = Identifier::from_stored("user_id", "giant").unwrap();
    let u = FacetId::of(&KEY, &user);
    let mut world = World::new(8, &IdentityRules::default().into());
    let mut costs = Vec::new();
    for n in 0..cookies {
        let b = Identifier::from_stored("anonymous_id", &format!("giant-{n}")).unwrap();
        let c = FacetId::of(&KEY, &b);
        let fact = LinkFact {
            a: user.clone(),
            b,
            timestamp: 1_000,
            source: "web".into(),
            message_id: format!("l-{n}"),
            position: 0,
            kind: LinkKind::Plain,
        };
        let shard = world.shard_of(u);
        let (before, mut cost) = (world.looks, Growth::default());
        world.at(shard, |resolver| resolver.links(u, [(c, fact)]));
        while let Some((stream, queue)) = world.streams.iter().find(|(_, queue)| !queue.is_empty()) {
            let (stream, bytes) = (*stream, queue.front().map_or(0, |message| message.encoded_len()));
            cost.messages += 1;
            cost.bytes += bytes;
            cost.largest = cost.largest.max(bytes);
            world.deliver(stream);
        }
        cost.looks = Looks {
            gets: world.looks.gets - before.gets,
            scans: world.looks.scans - before.scans,
            puts: world.looks.puts - before.puts,
            put_bytes: world.looks.put_bytes - before.put_bytes,
            deletes: world.looks.deletes - before.deletes,
        };
        costs.push(cost);
    }
    let record = world.record(u);
    let shard = world.shard_of(u);
    let served = world.at(shard, |resolver| resolver.serve(&u, &u, record.epoch));
    assert!(matches!(served, Served::Members(members, _) if members.len() == cookies + 1));
    costs
}

/// The fact that a cookie is the customer's, with its primary and its counterpart.
fn cookie(n: usize) -> (FacetId, FacetId, LinkFact) {
    let a = Identifier::from_stored("user_id", "giant").unwrap();
    let b = Identifier::from_stored("anonymous_id", &format!("giant-{n}")).unwrap();
    let (u, c) = (FacetId::of(&KEY, &a), FacetId::of(&KEY, &b));
    let (source, message_id) = ("web".into(), format!("l-{n}"));
    (u, c, LinkFact { a, b, timestamp: 1_000, source, message_id, position: 0, kind: LinkKind::Plain })
}

/// Links under way at a time, and never none: what those cost that are in force already must not come with each.
#[test]
fn links_that_never_stop_cost_no_more_than_those_that_do() {
    let mut world = World::new(8, &IdentityRules::default().into());
    let (mut sent, mut open, mut largest, mut bytes) = (0, Vec::new(), 0, 0);
    while sent < 600 || !open.is_empty() {
        while sent < 600 && open.len() < 16 {
            let (u, c, fact) = cookie(sent);
            let source_and_kind = source_and_kind("web", fact.kind);
            let shard = world.shard_of(u);
            world.at(shard, |resolver| resolver.links(u, [(c, fact)]));
            open.push(RowKey { a: u, b: c, source_and_kind });
            sent += 1;
        }
        let full = world.streams.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key);
        for stream in full.collect::<Vec<_>>() {
            let size = world.streams[&stream].front().map_or(0, |message| message.encoded_len());
            // What a new root is shipped, and the first list that it tells, are as large as what there is.
            let is_whole = world.streams[&stream].front().is_some_and(|message| match &message.body {
                Some(Body::ToRoot(up)) => name_of_up(up) == "Ship",
                Some(Body::Members(_)) => true,
                _ => false,
            });
            if !is_whole {
                largest = largest.max(size);
                bytes += size;
            }
            world.deliver(stream);
        }
        let shard = world.shard_of(cookie(0).0);
        let rows = &world.shards[shard].rows;
        open.retain(|key| !StoredRow::read(&rows[&keys::link_row(key)]).unwrap().is_settled());
    }
    println!("the largest message {largest}, {} a link", bytes / sent);
    assert!(largest <= 4_000 && bytes / sent <= 4_000, "{largest}, {} a link", bytes / sent);
}

fn name_of_up(up: &isthmus_proto::internal::v1::ToRoot) -> String {
    format!("{:?}", up.body.as_ref().unwrap()).split('(').next().unwrap().to_owned()
}

#[test]
fn one_more_identifier_costs_a_large_customer_no_more_than_a_small_one() {
    let costs = grow(1_000);
    for (n, some) in costs.chunks(100).enumerate() {
        let mut some = some.to_vec();
        some.sort_by_key(|cost| cost.bytes);
        let (usual, worst) = (some[some.len() / 2], some[some.len() - 1]);
        println!("{n}: {usual:?}\n   {worst:?}");
        assert!(usual.messages <= 16 && usual.bytes <= 1_300 && usual.largest <= 350, "{usual:?}");
        let Looks { gets, scans, puts, put_bytes, deletes } = usual.looks;
        assert!(gets <= 30 && scans <= 4 && puts <= 22 && put_bytes <= 1_500 && deletes <= 2, "{usual:?}");
    }
    // Whoever becomes the root is sent what there is, which happens once for each time that there is twice as much.
    let all: usize = costs.iter().map(|cost| cost.bytes).sum();
    assert!(all <= 2_000 * costs.len(), "{all} bytes of messages");
}
