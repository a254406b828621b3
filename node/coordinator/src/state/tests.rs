//! Tests of the metadata state: refusals one by one, and invariants over random commands.

use bytes::Bytes;
use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::{
    DisableSourceCommand, DocumentKind, DocumentRecord, ForgetNodeCommand, InitCommand, LeaveNodeCommand,
    MetaCommand, MetaOutcome, NodeInfo, PlaceMetadataCommand, PlaceShardCommand, PutDocumentCommand,
    PutNodeCommand, PutSourceCommand, RotateSourceCommand, SourceRecord, meta_command::Command,
};
use proptest::prelude::*;

use super::{MetaState, NotUnderstood};

mod documents;

fn node(id: u32, key: u8) -> NodeInfo {
    NodeInfo {
        node_id: id,
        grpc_address: format!("n{id}:1"),
        http_address: format!("n{id}:2"),
        peer_address: format!("n{id}:3"),
        public_key: Bytes::from(vec![key; 32]),
        version: "1".into(),
        leaving: false,
    }
}

fn source(name: &str, key: u8) -> SourceRecord {
    SourceRecord {
        name: name.into(),
        key_hashes: vec![Bytes::from(vec![key; 32])],
        key_prefix: "iswk_a".into(),
        default_currency: "USD".into(),
        ..SourceRecord::default()
    }
}

fn init() -> Command {
    let built_in = SourceRecord { key_hashes: vec![], built_in: true, ..source("default", 0) };
    Command::Init(InitCommand {
        cluster_id: Bytes::from(vec![1; 16]),
        node: Some(node(1, 1)),
        shards: 4,
        replicas: 3,
        sealed_identity_key: Bytes::from(vec![5; 80]),
        sources: vec![built_in],
    })
}

fn put(id: u32, key: u8) -> Command {
    Command::PutNode(PutNodeCommand {
        node: Some(node(id, key)),
        sealed_identity_key: Bytes::from(vec![id as u8; 80]),
    })
}

fn put_source(name: &str, key: u8) -> Command {
    Command::PutSource(PutSourceCommand { source: Some(source(name, key)) })
}

fn rotate(name: &str, key: u8) -> Command {
    Command::RotateSource(RotateSourceCommand {
        name: name.into(),
        key_hash: Bytes::from(vec![key; 32]),
        key_prefix: "iswk_b".into(),
    })
}

fn place(shard: u64, based_on_version: u64, peers: &[ReplicaId]) -> Command {
    let peers = peers.iter().map(|peer| peer.0).collect();
    Command::PlaceShard(PlaceShardCommand { shard, based_on_version, peers })
}

fn peer(node: u32, generation: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), generation)
}

fn run(state: &mut MetaState, command: Command) -> MetaOutcome {
    let before = state.clone();
    let outcome = state.apply(&MetaCommand { now_micros: 77, command: Some(command) }).unwrap();
    if outcome.refused.is_empty() {
        assert!(
            state.version == before.version + u64::from(*state != before),
            "the version tells of a change"
        );
    } else {
        assert_eq!(*state, before, "a refusal changes nothing");
        assert!(!outcome.message.is_empty());
    }
    assert_eq!(outcome.version, state.version);
    if state.version != before.version {
        state.check().unwrap();
    }
    outcome
}

fn made() -> MetaState {
    let mut state = MetaState::new();
    assert_eq!(run(&mut state, init()).refused, "");
    state
}

#[test]
fn init_makes_shards_with_even_slots_on_the_first_node() {
    let state = made();
    assert_eq!(state.shard_map.shards.iter().map(|s| s.id.0).collect::<Vec<_>>(), [16, 17, 18, 19]);
    assert!(state.shard_map.shards.iter().all(|s| s.replicas == [peer(1, 1)] && s.ranges.len() == 4096));
    assert_eq!(state.metadata_peers, [peer(1, 1)]);
    assert_eq!(state.sources["default"].created_at_micros, 77);
}

#[test]
fn nothing_is_done_before_init_and_init_is_done_once() {
    let mut state = MetaState::new();
    assert_eq!(run(&mut state, put(1, 1)).refused, "NOT_INITIALISED");
    let mut state = made();
    assert_eq!(run(&mut state, init()).refused, "", "the same again is answered the same");
    let Command::Init(mut other) = init() else { unreachable!() };
    other.cluster_id = Bytes::from(vec![2; 16]);
    assert_eq!(run(&mut state, Command::Init(other)).refused, "ALREADY_EXISTS");
}

#[test]
fn a_command_of_an_unknown_kind_stops_the_replica() {
    assert_eq!(made().apply(&MetaCommand { now_micros: 1, command: None }), Err(NotUnderstood));
}

#[test]
fn a_node_id_belongs_to_its_first_key_for_ever() {
    let mut state = made();
    assert_eq!(run(&mut state, put(2, 2)).refused, "");
    let again = run(&mut state, put(2, 2));
    assert_eq!(
        (again.refused.as_str(), again.sealed_identity_key[0]),
        ("", 2),
        "the stored seal is answered"
    );
    assert_eq!(run(&mut state, put(2, 3)).refused, "NODE_ID_TAKEN");
    assert_eq!(run(&mut state, Command::LeaveNode(LeaveNodeCommand { node_id: 2 })).refused, "");
    assert_eq!(run(&mut state, put(2, 2)).refused, "", "a leaving node may still tell its addresses");
    assert!(state.nodes[&2].info.leaving);
    assert_eq!(run(&mut state, Command::ForgetNode(ForgetNodeCommand { node_id: 2 })).refused, "");
    assert_eq!(run(&mut state, put(2, 3)).refused, "NODE_ID_TAKEN");
    assert_eq!(run(&mut state, put(2, 2)).refused, "NODE_REMOVED");
}

#[test]
fn a_node_may_change_its_addresses() {
    let mut state = made();
    let mut moved = node(1, 1);
    moved.grpc_address = "elsewhere:1".into();
    let command = Command::PutNode(PutNodeCommand { node: Some(moved), sealed_identity_key: Bytes::new() });
    assert_eq!(run(&mut state, command).refused, "");
    assert_eq!(state.nodes[&1].info.grpc_address, "elsewhere:1");
}

#[test]
fn a_node_in_use_is_not_forgotten() {
    let mut state = made();
    run(&mut state, put(2, 2));
    let forget = |id| Command::ForgetNode(ForgetNodeCommand { node_id: id });
    assert_eq!(run(&mut state, forget(2)).refused, "NODE_IN_USE", "it is active");
    run(&mut state, Command::LeaveNode(LeaveNodeCommand { node_id: 1 }));
    assert_eq!(run(&mut state, forget(1)).refused, "NODE_IN_USE", "it holds replicas");
    assert_eq!(run(&mut state, forget(3)).refused, "NOT_FOUND");
}

#[test]
fn removal_is_refused_when_too_few_would_remain() {
    let mut state = made();
    let leave = |id| Command::LeaveNode(LeaveNodeCommand { node_id: id });
    assert_eq!(run(&mut state, leave(1)).refused, "QUORUM_AT_RISK");
    run(&mut state, put(2, 2));
    run(&mut state, put(3, 3));
    assert_eq!(run(&mut state, place(16, 1, &[peer(1, 1), peer(2, 0), peer(3, 0)])).refused, "");
    assert_eq!(run(&mut state, leave(2)).refused, "QUORUM_AT_RISK");
    run(&mut state, put(4, 4));
    assert_eq!(run(&mut state, leave(2)).refused, "");
    assert_eq!(run(&mut state, leave(2)).refused, "", "asked again");
    assert_eq!(run(&mut state, leave(3)).refused, "QUORUM_AT_RISK");
}

#[test]
fn a_placement_is_refused_when_the_shard_was_placed_since() {
    let mut state = made();
    run(&mut state, put(2, 2));
    run(&mut state, put(3, 3));
    assert_eq!(run(&mut state, place(16, 1, &[peer(1, 1), peer(2, 0)])).refused, "");
    assert_eq!(state.shard_map.shards[0].replicas, [peer(1, 1), peer(2, 2)]);
    assert_eq!(run(&mut state, place(16, 1, &[peer(1, 1), peer(3, 0)])).refused, "STALE_VIEW");
    assert_eq!(run(&mut state, place(17, 1, &[peer(1, 1), peer(3, 0)])).refused, "", "another shard");
    assert_eq!(state.shard_map.shards[1].replicas, [peer(1, 1), peer(3, 3)]);
    assert_eq!(run(&mut state, place(16, 9, &[peer(1, 1)])).refused, "STALE_VIEW", "of the future");
    let now = state.shard_map.version;
    assert_eq!(run(&mut state, place(16, now, &[peer(2, 9)])).refused, "STALE_VIEW", "never given out");
    assert_eq!(run(&mut state, place(16, now, &[peer(1, 0)])).refused, "INVALID_ARGUMENT", "has one");
    assert_eq!(run(&mut state, place(16, now, &[peer(3, 0)])).refused, "QUORUM_AT_RISK", "none is kept");
    assert_eq!(run(&mut state, place(16, now, &[])).refused, "INVALID_ARGUMENT");
    assert_eq!(run(&mut state, place(16, now, &[peer(1, 1), peer(7, 0)])).refused, "NODE_NOT_ACTIVE");
    assert_eq!(run(&mut state, place(99, now, &[peer(1, 1)])).refused, "NOT_FOUND");
}

#[test]
fn sources_are_made_disabled_and_rotated() {
    let mut state = made();
    assert_eq!(run(&mut state, put_source("shop", 1)).source.unwrap().created_at_micros, 77);
    assert_eq!(run(&mut state, put_source("shop", 1)).refused, "", "the same command again");
    assert_eq!(run(&mut state, put_source("shop", 2)).refused, "ALREADY_EXISTS");
    assert_eq!(run(&mut state, put_source("other", 1)).refused, "KEY_TAKEN");
    assert_eq!(run(&mut state, put_source("No Good", 2)).refused, "INVALID_ARGUMENT");
    assert_eq!(run(&mut state, rotate("shop", 2)).refused, "");
    assert_eq!(state.sources["shop"].key_hashes, [Bytes::from(vec![2; 32])]);
    assert_eq!(run(&mut state, rotate("default", 3)).refused, "BUILT_IN");
    assert_eq!(run(&mut state, rotate("none", 3)).refused, "NOT_FOUND");
    let disable = |name: &str| Command::DisableSource(DisableSourceCommand { name: name.into() });
    assert_eq!(run(&mut state, disable("default")).refused, "BUILT_IN");
    assert_eq!(run(&mut state, disable("none")).refused, "NOT_FOUND");
    assert!(run(&mut state, disable("shop")).source.unwrap().disabled);
    assert_eq!(run(&mut state, rotate("shop", 4)).refused, "SOURCE_DISABLED");
}

fn command() -> impl Strategy<Value = Command> {
    let peers = || prop::collection::vec((1_u32..7, prop_oneof![Just(0_u32), 1_u32..12]), 0..5);
    let ids = |peers: Vec<(u32, u32)>| peers.into_iter().map(|(n, g)| peer(n, g).0).collect();
    prop_oneof![
        1 => Just(init()),
        4 => (0_u32..7, 0_u8..4).prop_map(|(id, key)| put(id, id as u8 * 8 + key / 3)),
        2 => (1_u32..7).prop_map(|node_id| Command::LeaveNode(LeaveNodeCommand { node_id })),
        2 => (1_u32..7).prop_map(|node_id| Command::ForgetNode(ForgetNodeCommand { node_id })),
        4 => (15_u64..21, 0_u64..30, peers()).prop_map(move |(shard, based_on_version, peers)| {
            Command::PlaceShard(PlaceShardCommand { shard, based_on_version, peers: ids(peers) })
        }),
        2 => (0_u64..60, peers()).prop_map(move |(based_on_version, peers)| {
            Command::PlaceMetadata(PlaceMetadataCommand { based_on_version, peers: ids(peers) })
        }),
        3 => ("[a-c]", 0_u8..6).prop_map(|(name, key)| put_source(&name, key)),
        1 => "[a-c]".prop_map(|name| Command::DisableSource(DisableSourceCommand { name })),
        2 => ("[a-c]", 0_u8..6).prop_map(|(name, key)| rotate(&name, key)),
        3 => (0_i32..5, "[a-b]{0,1}", 0_u64..4, 0_u8..3).prop_map(|(kind, name, based_on_version, content)| {
            let content = vec![content].into();
            let document = DocumentRecord { kind, name, content, ..DocumentRecord::default() };
            Command::PutDocument(PutDocumentCommand { document: Some(document), based_on_version })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn random_commands_keep_the_invariants_and_the_rows_hold_the_state(
        commands in prop::collection::vec(command(), 1..80),
    ) {
        let (mut state, mut replay) = (made(), made());
        let mut given_out = std::collections::BTreeSet::new();
        for command in commands {
            // Versions that fit are rare among random ones.
            let command = match command {
                Command::PlaceShard(mut place) if place.based_on_version % 2 == 0 => {
                    place.based_on_version = state.shard_map.version;
                    Command::PlaceShard(place)
                }
                Command::PlaceMetadata(mut place) if place.based_on_version % 2 == 0 => {
                    place.based_on_version = state.version;
                    Command::PlaceMetadata(place)
                }
                other => other,
            };
            let before = state.clone();
            let outcome = run(&mut state, command.clone());
            prop_assert_eq!(run(&mut replay, command), outcome, "deterministic");
            let peers = |s: &MetaState| {
                let shards = s.shard_map.shards.iter().flat_map(|e| e.replicas.iter().map(|p| (e.id.0, *p)));
                shards.chain(s.metadata_peers.iter().map(|p| (1, *p))).collect::<std::collections::BTreeSet<_>>()
            };
            for new in peers(&state).difference(&peers(&before)) {
                prop_assert!(given_out.insert(*new), "{:?} was given out before", new);
            }
        }
        let rows = state.to_rows();
        prop_assert!(rows.iter().all(|(key, value)| key.len() < 256 && value.len() < 60_000));
        let read = MetaState::from_rows(rows.iter().map(|(k, v)| (k.as_slice(), v.clone()))).unwrap();
        prop_assert_eq!(&read, &state);
        prop_assert_eq!(&replay, &state);
        crate::View::of(&state).unwrap();
    }

    #[test]
    fn damaged_rows_are_refused_without_a_panic(table in 0_u8..8, id in prop::collection::vec(any::<u8>(), 0..10),
        value in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut rows = made().to_rows();
        rows.insert([&[table], id.as_slice()].concat(), value.into());
        let _ = MetaState::from_rows(rows.iter().map(|(k, v)| (k.as_slice(), v.clone())));
    }
}

#[test]
fn a_missing_header_row_is_noticed() {
    let mut rows = made().to_rows();
    rows.remove([0x01].as_slice());
    assert!(MetaState::from_rows(rows.iter().map(|(k, v)| (k.as_slice(), v.clone()))).is_err());
    let none = std::iter::empty::<(&[u8], Bytes)>();
    assert_eq!(MetaState::from_rows(none).unwrap(), MetaState::new());
}
