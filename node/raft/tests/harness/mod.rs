//! A cluster of pure cores under the thumb of a script: every message, sync and apply happens when the script says
//! so, and after every step the invariants are checked.

#![allow(dead_code, clippy::unwrap_used, reason = "a test's helper: each binary uses its own part of it")]

pub mod text;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use isthmus_raft::{
    Error, MembershipChange, Options, PeerId, Position, Role,
    core::{Apply, Core, Effects, Open, Tokens, Write},
};
use isthmus_storage::log::{GroupWrite, Log as _, MemoryLog};
use raft::eraftpb::{Message, MessageType, Snapshot};
pub use text::{conf_text, message_text, node_of, write_text};

pub const GROUP: u64 = 7;

/// Requests are known by name.
pub struct Names;

impl Tokens for Names {
    type Proposal = String;
    type Read = String;
    type Change = String;
}

pub fn peer(node: u32) -> PeerId {
    PeerId::new(node, 1)
}

/// What a replica applied, entry by entry: its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub entries: Vec<(u64, u64, String)>,
    pub position: Position,
}

pub struct Node {
    pub core: Core<Names>,
    pub log: Arc<MemoryLog>,
    pub writes: VecDeque<Write>,
    pub to_apply: VecDeque<Apply<Names>>,
    pub install: Option<Snapshot>,
    pub wants_snapshot: bool,
    pub states: Vec<State>,
    pub durable: u64,
    pub reads: Vec<(u64, String)>,
    role: (Role, u64),
}

impl Node {
    pub fn state(&self) -> &State {
        self.states.last().unwrap()
    }
}

pub struct Cluster {
    pub nodes: BTreeMap<u32, Node>,
    pub network: VecDeque<Message>,
    pub cut: BTreeSet<(u32, u32)>,
    pub out: String,
    pub quiet: bool,
    pub violations: Vec<String>,
    pub answers: BTreeMap<String, String>,
    pub options: Box<dyn Fn(u32) -> Options>,
    snapshots: BTreeMap<(u64, u64), State>,
    leaders: BTreeMap<u64, u32>,
    applied: BTreeMap<u64, (u64, String)>,
    incarnation: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            out: String::new(),
            quiet: false,
            violations: Vec::new(),
            answers: BTreeMap::new(),
            options: Box::new(|node| {
                let mut options = Options::new(node, "unused");
                options.election_ticks_fixed = Some(10 + 2 * node as usize);
                options.log_keep_bytes = 0;
                options.compact_entries_min = 1;
                options
            }),
            snapshots: BTreeMap::new(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            incarnation: 0,
        }
    }
}

impl Cluster {
    pub fn start(&mut self, node: u32, first: Option<&[u32]>) {
        let log = Arc::new(MemoryLog::new());
        self.open(node, log, vec![State::default()], first);
    }

    /// A new group, its first members applied.
    pub fn bootstrap(&mut self, nodes: &[u32]) {
        let quiet = std::mem::replace(&mut self.quiet, true);
        nodes.iter().for_each(|node| self.start(*node, Some(nodes)));
        self.stabilize();
        self.quiet = quiet;
        self.out.clear();
    }

    pub fn campaign(&mut self, id: u32) {
        self.node(id).core.campaign();
        self.collect(id);
    }

    fn open(&mut self, id: u32, log: Arc<MemoryLog>, states: Vec<State>, first: Option<&[u32]>) {
        self.incarnation += 1;
        let options = (self.options)(id);
        let position = states.last().unwrap().position.clone();
        let core = Core::open(Open {
            options: &options,
            group: GROUP,
            peer: peer(id),
            log: log.clone(),
            position: position.clone(),
            first_voters: first.map(|nodes| nodes.iter().map(|node| peer(*node)).collect()),
            seeded: false,
            incarnation: self.incarnation,
        })
        .unwrap();
        let node = Node {
            core,
            log,
            writes: VecDeque::new(),
            to_apply: VecDeque::new(),
            install: None,
            wants_snapshot: false,
            states,
            durable: position.index,
            reads: Vec::new(),
            role: (Role::Follower, 0),
        };
        self.nodes.insert(id, node);
        self.collect(id);
    }

    /// The process ends: what was not synced, and what was applied after the durable index, is lost.
    pub fn crash(&mut self, id: u32) {
        let mut node = self.nodes.remove(&id).unwrap();
        node.log.crash();
        let durable = node.durable;
        node.states.retain(|state| state.position.index <= durable);
        self.open(id, node.log, node.states, None);
    }

    pub fn node(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn say(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    fn chat(&mut self, line: impl AsRef<str>) {
        if !self.quiet {
            self.say(line);
        }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(what());
        }
    }

    pub fn collect(&mut self, id: u32) {
        loop {
            let (effects, more) = self.node(id).core.collect().unwrap();
            self.carry_out(id, effects);
            if !more {
                break;
            }
        }
        let view = self.node(id).core.view();
        let role = (view.role, view.term);
        if self.node(id).role != role {
            self.node(id).role = role;
            self.say(format!("{id} is {:?} in term {}", view.role, view.term));
            if view.role == Role::Leader {
                let other = self.leaders.insert(view.term, id);
                self.check(other.is_none_or(|other| other == id), || {
                    format!("two leaders in term {}", view.term)
                });
            }
        }
    }

    fn carry_out(&mut self, id: u32, effects: Effects<Names>) {
        for message in effects.messages.into_iter().chain(effects.snapshots) {
            self.check_sent(id, &message);
            self.chat(format!("{id} sends {}", message_text(&message)));
            self.network.push_back(message);
        }
        for write in effects.writes {
            self.chat(format!("{id} writes {}", write_text(&write)));
            self.node(id).writes.push_back(write);
        }
        let node = self.node(id);
        node.to_apply.extend(effects.apply);
        node.wants_snapshot |= effects.make_snapshot;
        if let Some(snapshot) = effects.install {
            node.install = Some(snapshot);
        }
        if let Some(base) = effects.compact {
            let durable = self.node(id).durable;
            self.check(base.index <= durable, || {
                format!("{id} cut its log at {}, durable is {durable}", base.index)
            });
            self.node(id).log.compact(GROUP, base).unwrap();
            self.say(format!("{id} cuts its log at {}", base.index));
        }
        for (index, name) in effects.reads {
            self.node(id).reads.push((index, name));
        }
        self.pass_reads(id);
        for (name, error) in effects.failed.into_iter().chain(effects.refused_reads) {
            self.answer(&name, format!("error: {error}"));
        }
        for (name, result) in effects.changes {
            match result {
                Ok(conf) => self.answer(&name, format!("members {}", conf_text(&conf))),
                Err(error) => self.answer(&name, format!("error: {error}")),
            }
        }
    }

    fn answer(&mut self, name: &str, answer: String) {
        self.say(format!("{name}: {answer}"));
        self.answers.insert(name.to_owned(), answer);
    }

    fn pass_reads(&mut self, id: u32) {
        let node = self.node(id);
        let applied = node.state().position.index;
        let (passed, kept) =
            std::mem::take(&mut node.reads).into_iter().partition(|(index, _)| *index <= applied);
        node.reads = kept;
        let passed: Vec<_> = passed;
        for (index, name) in passed {
            self.answer(&name, format!("read at {index}"));
        }
    }

    /// Invariant 1: what a message promises is synced.
    fn check_sent(&mut self, id: u32, message: &Message) {
        let Some(state) = self.nodes[&id].log.state(GROUP).unwrap() else { return };
        let hard_state = &state.hard_state;
        // Several writes may be synced at once: a later term says that the earlier vote was synced before it.
        let voted = |candidate| {
            hard_state.term > message.term
                || (hard_state.term == message.term && hard_state.vote == candidate)
        };
        let promise = match message.get_msg_type() {
            MessageType::MsgAppendResponse if !message.reject => {
                state.last.index >= message.index && hard_state.term >= message.term
            }
            MessageType::MsgHeartbeatResponse => hard_state.term >= message.term,
            MessageType::MsgRequestVoteResponse if !message.reject => voted(message.to),
            MessageType::MsgRequestVote => voted(message.from),
            _ => true,
        };
        self.check(promise, || format!("{id} sent before its sync: {}", message_text(message)));
    }

    pub fn sync(&mut self, id: u32) -> bool {
        let node = self.node(id);
        let Some(last) = node.writes.back().map(|write| write.number) else { return false };
        let writes: Vec<GroupWrite> = node
            .writes
            .drain(..)
            .map(|write| GroupWrite {
                group: GROUP,
                reset: write.reset,
                entries: write.entries,
                hard_state: write.hard_state,
            })
            .collect();
        node.log.write(&writes).unwrap();
        node.core.persisted(last);
        self.collect(id);
        true
    }

    pub fn apply(&mut self, id: u32) -> bool {
        let mut worked = false;
        while let Some(apply) = self.node(id).to_apply.pop_front() {
            worked = true;
            let mut state = self.node(id).state().clone();
            let (index, term, text, name) = match apply {
                Apply::Entry(entry, name) => {
                    (entry.index, entry.term, String::from_utf8_lossy(&entry.data).into_owned(), name)
                }
                Apply::Empty { index, term } => (index, term, "-".to_owned(), None),
                Apply::Conf { index, term, conf } => {
                    let text = conf_text(&conf);
                    state.position.conf = conf;
                    (index, term, text, None)
                }
            };
            self.check(index == state.position.index + 1, || format!("{id} applied {index} out of order"));
            let known = self.applied.entry(index).or_insert_with(|| (term, text.clone())).clone();
            self.check(known == (term, text.clone()), || format!("{id} applied another entry {index}"));
            state.position.index = index;
            state.position.term = term;
            state.entries.push((index, term, text.clone()));
            self.node(id).states.push(state);
            self.say(format!("{id} applies {index}@{term} {text}"));
            if let Some(name) = name {
                self.answer(&name, format!("applied at {index}@{term}"));
            }
        }
        if worked {
            self.applied_to(id);
        }
        if let Some(snapshot) = self.node(id).install.take() {
            worked = true;
            let meta = snapshot.get_metadata();
            let state = self.snapshots[&(meta.index, meta.term)].clone();
            let node = self.node(id);
            node.durable = meta.index;
            node.states.push(state);
            node.core.installed();
            self.say(format!("{id} installs a snapshot at {}", meta.index));
            self.applied_to(id);
        }
        if std::mem::take(&mut self.node(id).wants_snapshot) {
            worked = true;
            let state = self.node(id).state().clone();
            let position = state.position.clone();
            self.say(format!("{id} makes a snapshot at {}", position.index));
            self.snapshots.insert((position.index, position.term), state);
            self.node(id).core.snapshot_made(position, Bytes::from_static(b"snapshot"));
            self.collect(id);
        }
        worked
    }

    pub fn applied_to(&mut self, id: u32) {
        let node = self.node(id);
        let (applied, durable) = (node.state().position.index, node.durable);
        node.core.applied(applied, durable);
        self.pass_reads(id);
        self.collect(id);
    }

    /// Carries what is on the network now, from and to the given nodes; `false` if nothing was.
    pub fn deliver(&mut self, matching: impl Fn(u32, u32) -> bool) -> bool {
        let mut worked = false;
        for message in std::mem::take(&mut self.network) {
            let (from, to) = (node_of(message.from), node_of(message.to));
            if !matching(from, to) {
                self.network.push_back(message);
                continue;
            }
            worked = true;
            let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let arrives = !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to);
            if arrives {
                self.chat(format!("{to} gets {}", message_text(&message)));
                let core = &mut self.node(to).core;
                if snapshot {
                    core.snapshot_arrived(message)
                } else {
                    core.step(message).unwrap()
                }
                self.collect(to);
            }
            if snapshot {
                self.node(from).core.snapshot_reported(peer(to), arrives);
                self.collect(from);
            }
        }
        worked
    }

    /// Syncs, applies and delivers until nothing is left to do.
    pub fn stabilize(&mut self) {
        let quiet = std::mem::replace(&mut self.quiet, true);
        for _ in 0..1000 {
            let mut worked = false;
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                worked |= self.sync(id);
                worked |= self.apply(id);
            }
            worked |= self.deliver(|_, _| true);
            if !worked {
                break;
            }
        }
        self.quiet = quiet;
    }

    pub fn tick(&mut self, id: u32) {
        self.node(id).core.tick();
        self.collect(id);
    }

    /// Ticks of all nodes, each followed by all that it sets off.
    pub fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                let quiet = std::mem::replace(&mut self.quiet, true);
                self.tick(id);
                self.quiet = quiet;
            }
            self.stabilize();
        }
    }

    pub fn propose(&mut self, id: u32, names: &[&str]) {
        let proposals = names.iter().map(|name| (Bytes::from((*name).to_owned()), (*name).to_owned()));
        self.node(id).core.propose(proposals.collect());
        self.collect(id);
    }

    pub fn read(&mut self, id: u32, name: &str) {
        self.node(id).core.read(name.to_owned());
        self.collect(id);
    }

    pub fn change(&mut self, id: u32, change: &MembershipChange, name: &str) {
        self.node(id).core.change_membership(change, name.to_owned());
        self.collect(id);
    }

    pub fn transfer(&mut self, id: u32, to: u32) -> Result<(), Error> {
        let begun = self.node(id).core.transfer_leader(peer(to));
        self.collect(id);
        begun
    }

    pub fn isolate(&mut self, id: u32) {
        for other in self.nodes.keys() {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    pub fn leader(&self) -> Option<u32> {
        let leaders = self.nodes.iter().map(|(id, node)| (node.core.view(), *id));
        leaders
            .filter(|(view, _)| view.role == Role::Leader)
            .max_by_key(|(view, _)| view.term)
            .map(|(_, id)| id)
    }
}
