//! The machine over a real keeper: write-outs, restarts, snapshots.

use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::{
    InitCommand, NodeInfo, PutSourceCommand, SourceRecord, meta_command::Command,
};
use isthmus_storage::{
    control::{ControlStore, MemoryControl},
    keeper::KeeperOptions,
    runs::{FileRuns, RunOptions},
};

use super::*;

struct Node {
    dir: tempfile::TempDir,
    control: Arc<MemoryControl>,
    tracker: TaskTracker,
}

impl Node {
    fn new() -> Self {
        let (control, tracker) = (Arc::new(MemoryControl::new()), TaskTracker::new());
        Self { dir: tempfile::tempdir().unwrap(), control, tracker }
    }

    fn open(&self, node: u32) -> Machine {
        let runs = FileRuns::open(&self.dir.path().join("runs"), RunOptions::default()).unwrap();
        let control: Arc<dyn ControlStore> = self.control.clone();
        let options = KeeperOptions::default();
        let keeper =
            Keeper::open(&self.dir.path().join("keeper"), control, runs, Vec::new(), options).unwrap();
        let (feed, ..) = ViewFeed::new(Arc::default(), self.dir.path().join("view"));
        let snapshots = self.dir.path().join("snapshots");
        std::fs::create_dir_all(&snapshots).unwrap();
        let peer = ReplicaId::new(NodeId(node), 1);
        Machine::open(Arc::new(keeper), peer, feed, snapshots, self.tracker.clone()).unwrap()
    }

    async fn quiet(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

fn entry(index: u64, command: Command) -> Committed {
    let command = MetaCommand { now_micros: index, command: Some(command) };
    Committed { index, term: 1, data: command.encode_to_vec().into() }
}

fn init() -> Command {
    let node = NodeInfo {
        node_id: 1,
        grpc_address: "a:1".into(),
        http_address: "a:2".into(),
        peer_address: "a:3".into(),
        public_key: Bytes::from(vec![1; 32]),
        ..NodeInfo::default()
    };
    Command::Init(InitCommand {
        cluster_id: Bytes::from(vec![1; 16]),
        node: Some(node),
        shards: 4,
        replicas: 3,
        sealed_identity_key: Bytes::from(vec![2; 80]),
        sources: Vec::new(),
    })
}

fn put_source(number: u64) -> Command {
    let hash = blake3::hash(&number.to_be_bytes());
    Command::PutSource(PutSourceCommand {
        source: Some(SourceRecord {
            name: format!("source-{number}"),
            key_hashes: vec![Bytes::copy_from_slice(hash.as_bytes())],
            default_currency: "USD".into(),
            ..SourceRecord::default()
        }),
    })
}

fn conf() -> ConfState {
    ConfState { voters: vec![ReplicaId::new(NodeId(1), 1).0], ..ConfState::default() }
}

/// Applies entries `from..=to`, each a batch of its own; the first two make the group and the cluster.
fn run(machine: &mut Machine, from: u64, to: u64) {
    for index in from..=to {
        match index {
            1 => machine.reconfigured(1, 1, conf()),
            2 => assert_eq!(machine.apply(entry(2, init())).unwrap().refused, ""),
            _ => assert_eq!(machine.apply(entry(index, put_source(index))).unwrap().refused, ""),
        }
        machine.batch_end();
    }
}

#[tokio::test]
async fn a_restart_loads_what_was_written_and_the_replay_gives_the_same_state() {
    let node = Node::new();
    let mut machine = node.open(1);
    machine.write_out_entries = 10;
    run(&mut machine, 1, 10);
    node.quiet().await;
    assert_eq!(machine.durable_index(), 10);
    run(&mut machine, 11, 15);
    let state = machine.state.clone();
    drop(machine);

    let mut again = node.open(1);
    assert_eq!(again.position(), Position { index: 10, term: 1, conf: conf() });
    run(&mut again, 11, 15);
    assert_eq!(again.state, state);
}

#[tokio::test]
async fn the_durable_index_stays_behind_until_something_is_written() {
    let node = Node::new();
    let mut machine = node.open(1);
    run(&mut machine, 1, 20);
    node.quiet().await;
    assert_eq!(machine.durable_index(), 0);
}

#[tokio::test]
async fn a_snapshot_gives_another_node_the_state_at_its_index() {
    let (sender, receiver) = (Node::new(), Node::new());
    let mut from = sender.open(1);
    run(&mut from, 1, 30);
    let made = from.snapshot().await.unwrap();
    assert_eq!((made.position.index, from.durable_index()), (30, 30));
    let state = from.state.clone();
    run(&mut from, 31, 35);

    let mut to = receiver.open(2);
    let staged = StagedSnapshot {
        from: isthmus_raft::PeerId::new(1, 1),
        position: made.position.clone(),
        manifest: made.manifest,
        dir: made.dir,
        files: made.files,
    };
    assert_eq!(to.install(staged).await.unwrap(), made.position);
    assert_eq!((&to.state, to.durable_index()), (&state, 30));
    drop(to);
    let mut to = receiver.open(2);
    assert_eq!(to.state, state, "it is on disk");
    run(&mut to, 31, 35);
    assert_eq!(to.state, from.state);
}

#[tokio::test]
async fn a_command_that_is_not_understood_breaks_the_replica() {
    let node = Node::new();
    let mut machine = node.open(1);
    let nothing = Committed { index: 1, term: 1, data: MetaCommand::default().encode_to_vec().into() };
    assert!(machine.apply(nothing).is_err());
    let garbage = Committed { index: 1, term: 1, data: Bytes::from_static(&[0xff; 9]) };
    assert!(machine.apply(garbage).is_err());
}

#[tokio::test]
async fn another_peers_state_is_not_opened() {
    let node = Node::new();
    drop(node.open(1));
    let runs = FileRuns::open(&node.dir.path().join("runs"), RunOptions::default()).unwrap();
    let control: Arc<dyn ControlStore> = node.control.clone();
    let keeper =
        Keeper::open(&node.dir.path().join("keeper"), control, runs, Vec::new(), KeeperOptions::default())
            .unwrap();
    let (feed, ..) = ViewFeed::new(Arc::default(), node.dir.path().join("view"));
    let opened = Machine::open(
        Arc::new(keeper),
        ReplicaId::new(NodeId(1), 2),
        feed,
        node.dir.path().join("snapshots"),
        node.tracker.clone(),
    );
    assert!(matches!(opened, Err(Error::Membership { .. })));
}
