//! The metadata group: any commands, one after the other.
//!
//! After each the state keeps its invariants, and its version tells whether it changed; a refusal says why and changes
//! nothing. At the end it is stored as rows that are read back as the same state, and every node can take in a view of it.

use bytes::Bytes;
use isthmus_coordinator::{View, state::MetaState};
use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::{
    DisableSourceCommand, DocumentKind, DocumentRecord, ForgetNodeCommand, InitCommand, LeaveNodeCommand,
    MetaCommand, NodeInfo, PlaceMetadataCommand, PlaceShardCommand, PutDocumentCommand, PutNodeCommand,
    PutSourceCommand, RotateSourceCommand, SourceRecord, meta_command::Command,
};
use prost::Message as _;

use crate::pieces::{Pieces, pieces};

/// A log of so many commands is long enough.
const COMMANDS_MAX: usize = 32;

/// The target.
pub fn run(bytes: &[u8]) {
    let mut state = MetaState::new();
    for data in Pieces(bytes).take(COMMANDS_MAX) {
        let Ok(command) = MetaCommand::decode(data) else { return };
        let before = state.clone();
        let Ok(outcome) = state.apply(&command) else {
            assert!(state == before, "what was not understood changed something");
            return;
        };
        assert_eq!(outcome.version, state.version);
        if outcome.refused.is_empty() {
            assert_eq!(
                state.version,
                before.version + u64::from(state != before),
                "the version tells of a change"
            );
        } else {
            assert!(state == before && !outcome.message.is_empty(), "{}", outcome.refused);
        }
        if state.version != before.version {
            state.check().unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
    let rows = state.to_rows();
    let stored = rows.iter().map(|(key, value)| (key.as_slice(), value.clone()));
    let again = MetaState::from_rows(stored).unwrap_or_else(|damaged| panic!("{damaged}"));
    assert!(again == state, "stored and loaded it is another");
    assert!(View::of(&state).is_ok());
}

/// Inputs to begin with: a cluster's life.
pub fn seeds() -> Vec<Vec<u8>> {
    let node = |id: u32| NodeInfo {
        node_id: id,
        grpc_address: format!("n{id}:1"),
        http_address: format!("n{id}:2"),
        peer_address: format!("n{id}:3"),
        public_key: Bytes::from(vec![u8::try_from(id).unwrap(); 32]),
        version: "0.1.0".to_owned(),
        ..NodeInfo::default()
    };
    let source = |name: &str, key: u8| SourceRecord {
        name: name.to_owned(),
        key_hashes: vec![Bytes::from(vec![key; 32])],
        default_currency: "EUR".to_owned(),
        primary_order: vec!["user_id".to_owned()],
        ..SourceRecord::default()
    };
    let document = DocumentRecord {
        kind: DocumentKind::TraitRules.into(),
        content: Bytes::from_static(b"{}"),
        ..DocumentRecord::default()
    };
    let sealed = Bytes::from(vec![5; 80]);
    let peers = vec![ReplicaId::new(NodeId(1), 1).0, ReplicaId::new(NodeId(2), 2).0];
    let commands = [
        Command::Init(InitCommand {
            cluster_id: Bytes::from(vec![1; 16]),
            node: Some(node(1)),
            shards: 4,
            replicas: 3,
            sealed_identity_key: sealed.clone(),
            sources: vec![SourceRecord { key_hashes: Vec::new(), built_in: true, ..source("default", 0) }],
        }),
        Command::PutNode(PutNodeCommand { node: Some(node(2)), sealed_identity_key: sealed }),
        Command::PutSource(PutSourceCommand { source: Some(source("shop", 7)) }),
        Command::RotateSource(RotateSourceCommand {
            name: "shop".to_owned(),
            key_hash: Bytes::from(vec![8; 32]),
            key_prefix: "iswk_b".to_owned(),
        }),
        Command::DisableSource(DisableSourceCommand { name: "shop".to_owned() }),
        Command::PutDocument(PutDocumentCommand {
            document: Some(document),
            ..PutDocumentCommand::default()
        }),
        Command::PlaceShard(PlaceShardCommand { shard: 16, based_on_version: 1, peers: peers.clone() }),
        Command::PlaceMetadata(PlaceMetadataCommand { peers, ..PlaceMetadataCommand::default() }),
        Command::LeaveNode(LeaveNodeCommand { node_id: 2 }),
        Command::ForgetNode(ForgetNodeCommand { node_id: 2 }),
    ];
    let commands: Vec<Vec<u8>> = commands
        .into_iter()
        .map(|command| MetaCommand { now_micros: 77, command: Some(command) }.encode_to_vec())
        .collect();
    let first = |count: usize| pieces(commands[..count].iter().map(Vec::as_slice));
    vec![first(1), first(4), first(commands.len())]
}
