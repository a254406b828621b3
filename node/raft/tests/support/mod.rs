//! Whole nodes in one process: a state machine that counts, a disk that survives its node, and helpers that wait
//! for conditions instead of sleeping.

#![allow(dead_code, clippy::unwrap_used, reason = "a test's helper: each binary uses its own part of it")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use isthmus_raft::{
    Broken, Committed, ConfState, Error, GroupHandle, GroupView, OpenGroup, Options, PeerId, Position,
    RaftNode, Role, SnapshotFile, SnapshotSource, StagedSnapshot, Start, StateMachine, Transport,
    transport::channel::ChannelNetwork,
};
use isthmus_storage::log::{Log, MemoryLog};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

pub const GROUP: u64 = 5;
/// Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn peer(node: u32) -> PeerId {
    PeerId::new(node, 1)
}

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// The counter's state: how many commands, their sum, and a hash of all of them in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    pub position: Position,
    pub count: u64,
    pub sum: u64,
    pub hash: u64,
    /// How often each command was applied.
    pub seen: BTreeMap<Bytes, u32>,
}

impl Counter {
    fn mix(&mut self, data: &[u8]) {
        for byte in data {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn to_text(&self) -> String {
        let seen: Vec<String> = self
            .seen
            .iter()
            .map(|(command, times)| format!("{}={times}", String::from_utf8_lossy(command)))
            .collect();
        format!("{} {} {}\n{}", self.count, self.sum, self.hash, seen.join("\n"))
    }

    fn from_text(text: &str, position: Position) -> Self {
        let mut lines = text.lines();
        let numbers: Vec<u64> =
            lines.next().unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
        let seen = lines.map(|line| {
            let (command, times) = line.rsplit_once('=').unwrap();
            (Bytes::from(command.to_owned()), times.parse().unwrap())
        });
        Self { position, count: numbers[0], sum: numbers[1], hash: numbers[2], seen: seen.collect() }
    }
}

/// What survives of a node's state machine.
#[derive(Default)]
pub struct Disk {
    /// What was written out last.
    pub saved: Counter,
    /// What readers see.
    pub published: Counter,
    /// Commands between write-outs; 0: none.
    pub save_every: u64,
    pub break_at: Option<Bytes>,
    pub snapshots_made: u32,
    pub snapshots_installed: u32,
}

pub struct Machine {
    state: Counter,
    disk: Arc<Mutex<Disk>>,
    dir: PathBuf,
}

impl StateMachine for Machine {
    type Outcome = u64;

    fn position(&self) -> Position {
        self.state.position.clone()
    }

    async fn prepare(&mut self, _: &[Committed]) -> Result<(), Broken> {
        Ok(())
    }

    /// A command is `name:number`; the outcome is the sum so far.
    fn apply(&mut self, entry: Committed) -> Result<u64, Broken> {
        if self.disk.lock().break_at.as_ref() == Some(&entry.data) {
            return Err(Broken::new("told to break"));
        }
        let text = std::str::from_utf8(&entry.data).map_err(|_| Broken::new("not text"))?;
        let number: u64 = text.rsplit(':').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        self.state.count += 1;
        self.state.sum += number;
        self.state.mix(&entry.data);
        *self.state.seen.entry(entry.data).or_default() += 1;
        self.state.position.index = entry.index;
        self.state.position.term = entry.term;
        Ok(self.state.sum)
    }

    fn reconfigured(&mut self, index: u64, term: u64, conf: ConfState) {
        self.state.position = Position { index, term, conf };
    }

    fn empty(&mut self, index: u64, term: u64) {
        self.state.position.index = index;
        self.state.position.term = term;
    }

    fn batch_end(&mut self) {
        let mut disk = self.disk.lock();
        disk.published = self.state.clone();
        if disk.save_every > 0 && self.state.position.index >= disk.saved.position.index + disk.save_every {
            disk.saved = self.state.clone();
        }
    }

    fn durable_index(&self) -> u64 {
        self.disk.lock().saved.position.index
    }

    async fn snapshot(&mut self) -> Result<SnapshotSource, Broken> {
        self.disk.lock().snapshots_made += 1;
        let dir = self.dir.join(format!(
            "frozen-{}-{}",
            self.state.position.index,
            self.disk.lock().snapshots_made
        ));
        std::fs::create_dir_all(&dir).unwrap();
        let text = self.state.to_text();
        std::fs::write(dir.join("counter"), &text).unwrap();
        std::fs::write(dir.join("empty"), "").unwrap();
        let file = |name: &str, bytes: usize| SnapshotFile { name: name.to_owned(), bytes: bytes as u64 };
        Ok(SnapshotSource {
            position: self.state.position.clone(),
            manifest: Bytes::from_static(b"a counter"),
            dir,
            files: vec![file("empty", 0), file("counter", text.len())],
        })
    }

    async fn install(&mut self, staged: StagedSnapshot) -> Result<Position, Broken> {
        assert_eq!(staged.manifest, Bytes::from_static(b"a counter"));
        assert_eq!(staged.files.len(), 2);
        let text = std::fs::read_to_string(staged.dir.join("counter")).unwrap();
        self.state = Counter::from_text(&text, staged.position);
        let mut disk = self.disk.lock();
        disk.snapshots_installed += 1;
        disk.saved = self.state.clone();
        Ok(self.state.position.clone())
    }
}

/// A node with one replica, and what survives it.
pub struct Member {
    pub node: u32,
    pub disk: Arc<Mutex<Disk>>,
    pub log: Arc<dyn Log>,
    pub memory: Option<Arc<MemoryLog>>,
    pub raft: Option<RaftNode>,
    pub handle: Option<GroupHandle<u64>>,
    dir: PathBuf,
}

impl Member {
    pub fn handle(&self) -> GroupHandle<u64> {
        self.handle.clone().unwrap()
    }

    pub fn published(&self) -> Counter {
        self.disk.lock().published.clone()
    }
}

pub struct Nodes {
    pub network: ChannelNetwork,
    pub members: BTreeMap<u32, Member>,
    pub tune: fn(&mut Options),
    pub save_every: u64,
    pub dir: tempfile::TempDir,
}

impl Nodes {
    pub fn new(seed: u64) -> Self {
        Self {
            network: ChannelNetwork::new(seed),
            members: BTreeMap::new(),
            tune: |_| {},
            save_every: 0,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub async fn bootstrap(&mut self, nodes: &[u32]) {
        let voters: Vec<PeerId> = nodes.iter().map(|node| peer(*node)).collect();
        for node in nodes {
            self.add(*node, Start::Bootstrap(voters.clone())).await;
        }
    }

    /// A new node, with an empty log in memory.
    pub async fn add(&mut self, node: u32, start: Start) {
        let memory = Arc::new(MemoryLog::new());
        self.add_with(node, start, memory.clone(), Some(memory)).await;
    }

    pub async fn add_with(
        &mut self,
        node: u32,
        start: Start,
        log: Arc<dyn Log>,
        memory: Option<Arc<MemoryLog>>,
    ) {
        self.prepare(node, log, memory);
        self.start(node, start).await;
    }

    /// A node that isn't started yet.
    pub fn prepare(&mut self, node: u32, log: Arc<dyn Log>, memory: Option<Arc<MemoryLog>>) {
        let dir = self.dir.path().join(format!("node-{node}"));
        let disk = Arc::new(Mutex::new(Disk { save_every: self.save_every, ..Disk::default() }));
        self.members.insert(node, Member { node, disk, log, memory, raft: None, handle: None, dir });
    }

    pub fn options(&self, node: u32) -> Options {
        let mut options = Options::new(node, self.members[&node].dir.join("staging"));
        options.tick = Duration::from_millis(20);
        (self.tune)(&mut options);
        options
    }

    pub async fn start(&mut self, node: u32, start: Start) {
        let transport = self.network.transport(node);
        self.start_on(node, start, transport).await;
    }

    pub async fn start_on(&mut self, node: u32, start: Start, transport: Arc<dyn Transport>) {
        let options = self.options(node);
        let member = self.members.get_mut(&node).unwrap();
        let raft = RaftNode::start(member.log.clone(), transport, options).unwrap();
        let saved = member.disk.lock().saved.clone();
        member.disk.lock().published = saved.clone();
        let machine = Machine { state: saved, disk: member.disk.clone(), dir: member.dir.clone() };
        let open = OpenGroup { group: GROUP, peer: peer(node), start, machine };
        let handle = raft.open_group(open).await.unwrap();
        member.raft = Some(raft);
        member.handle = Some(handle);
    }

    /// Takes a node away and lets it lose what was not synced or saved.
    pub async fn kill(&mut self, node: u32) {
        self.network.remove(node);
        let member = self.members.get_mut(&node).unwrap();
        member.handle = None;
        member.raft.take().unwrap().stop().await;
        if let Some(memory) = &member.memory {
            memory.crash();
        }
    }

    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.handle.is_some())
    }

    pub fn views(&self) -> Vec<GroupView> {
        self.up().map(|member| member.handle().view()).collect()
    }

    /// Waits until one of the nodes that are up leads and serves, and says which.
    pub async fn leader(&self) -> u32 {
        wait("a leader", || {
            let leading = self.views().into_iter().filter(|view| view.role == Role::Leader && view.serving);
            leading.max_by_key(|view| view.term).map(|view| view.peer.node())
        })
        .await
    }

    /// Proposes at whoever leads until it is applied; a command whose outcome is unknown is not repeated.
    pub async fn propose(&self, command: &str) -> Result<u64, Error> {
        let until = deadline();
        loop {
            let leader = self.leader().await;
            let data = Bytes::from(command.to_owned());
            match self.members[&leader].handle().propose(data, until).await {
                Ok(proposed) => return Ok(proposed.outcome),
                Err(error @ Error::OutcomeUnknown) => return Err(error),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Waits until all nodes that are up have applied the same, and returns it.
    pub async fn converged(&self) -> Counter {
        let all = || {
            let states: Vec<Counter> = self.up().map(Member::published).collect();
            let same = states.windows(2).all(|pair| pair[0] == pair[1]);
            let commits: Vec<u64> = self.views().iter().map(|view| view.commit).collect();
            let done = commits.iter().all(|commit| *commit == states[0].position.index);
            (same && done).then(|| states[0].clone())
        };
        wait("all replicas to be equal", all).await
    }

    pub async fn stop(&mut self) {
        for member in self.members.values_mut() {
            member.handle = None;
            if let Some(raft) = member.raft.take() {
                raft.stop().await;
            }
        }
    }
}

/// Looks again and again until there is an answer.
pub async fn wait<A>(what: &str, mut look: impl FnMut() -> Option<A>) -> A {
    let looking = async {
        loop {
            if let Some(answer) = look() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
