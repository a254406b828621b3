//! A transport within one process, for tests and for clusters of one process: with switches for faults.
//!
//! A [`ChannelNetwork`] joins [`ChannelTransport`]s. What one sends is delivered at once, in the sender's task, or,
//! by the switches, dropped, repeated, or kept back and delivered later out of order. Faults are drawn from a seeded
//! generator, so a run with one task repeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{GroupMessage, Inbound, IncomingSnapshot, OutgoingSnapshot, SnapshotLost, Transport};
use crate::machine::SnapshotFile;

/// What goes wrong on the way. Rates are per message, of 1000.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages lost without a trace.
    pub drop_permille: u32,
    /// Messages delivered twice.
    pub duplicate_permille: u32,
    /// Messages kept back until later ones have passed.
    pub reorder_permille: u32,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<u32, Arc<dyn Inbound>>,
    /// One-way: from, to.
    cut: BTreeSet<(u32, u32)>,
    faults: Faults,
    kept_back: Vec<(u32, u32, GroupMessage)>,
    random: u64,
    snapshots_fail: bool,
}

impl State {
    /// xorshift64*: enough to spread faults.
    fn permille(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as u32 % 1000
    }
}

/// Joins the transports of several nodes.
#[derive(Clone)]
pub struct ChannelNetwork {
    state: Arc<Mutex<State>>,
}

impl ChannelNetwork {
    /// A network without nodes or faults; `seed` is for the faults.
    pub fn new(seed: u64) -> Self {
        let state = State { random: seed | 1, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The transport of a node. A node that starts again asks for a new one.
    pub fn transport(&self, node: u32) -> Arc<ChannelTransport> {
        Arc::new(ChannelTransport { node, network: self.clone(), bound: OnceLock::new() })
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// Makes all transfers of snapshots fail, or none.
    pub fn fail_snapshots(&self, fail: bool) {
        self.state.lock().snapshots_fail = fail;
    }

    /// Cuts a node off, both ways.
    pub fn isolate(&self, node: u32) {
        let mut state = self.state.lock();
        let others: Vec<u32> = state.nodes.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            state.cut.insert((node, other));
            state.cut.insert((other, node));
        }
    }

    /// Cuts one direction.
    pub fn cut(&self, from: u32, to: u32) {
        self.state.lock().cut.insert((from, to));
    }

    /// Mends all cuts.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// Takes a node away, as if its process had ended.
    pub fn remove(&self, node: u32) {
        self.state.lock().nodes.remove(&node);
    }

    fn carry(&self, from: u32, to: u32, messages: Vec<GroupMessage>) -> bool {
        let (inbound, now) = {
            let mut state = self.state.lock();
            let Some(inbound) = state.nodes.get(&to).cloned() else { return false };
            if state.cut.contains(&(from, to)) {
                // As on a network: the sender doesn't know.
                return true;
            }
            let faults = state.faults;
            let mut now = Vec::with_capacity(messages.len());
            for message in messages {
                if state.permille() < faults.drop_permille {
                    continue;
                }
                if state.permille() < faults.duplicate_permille {
                    now.push(message.clone());
                }
                if state.permille() < faults.reorder_permille {
                    state.kept_back.push((from, to, message));
                    continue;
                }
                now.push(message);
            }
            const KEPT_BACK_MAX: usize = 16;
            if state.kept_back.len() > KEPT_BACK_MAX || faults.reorder_permille == 0 {
                let (late, kept) = std::mem::take(&mut state.kept_back)
                    .into_iter()
                    .partition(|kept| (kept.0, kept.1) == (from, to));
                state.kept_back = kept;
                let late: Vec<_> = late;
                now.extend(late.into_iter().map(|(_, _, message)| message));
            }
            (inbound, now)
        };
        if !now.is_empty() {
            inbound.deliver(from, now);
        }
        true
    }
}

/// One node's end of a [`ChannelNetwork`].
pub struct ChannelTransport {
    node: u32,
    network: ChannelNetwork,
    bound: OnceLock<()>,
}

impl Transport for ChannelTransport {
    fn bind(&self, inbound: Arc<dyn Inbound>) {
        if self.bound.set(()).is_ok() {
            self.network.state.lock().nodes.insert(self.node, inbound);
        }
    }

    fn send(&self, node: u32, messages: Vec<GroupMessage>) -> bool {
        self.network.carry(self.node, node, messages)
    }

    fn send_snapshot(&self, snapshot: OutgoingSnapshot) -> BoxFuture<'static, Result<(), SnapshotLost>> {
        let (network, from) = (self.network.clone(), self.node);
        Box::pin(async move {
            let to = snapshot.to.node();
            let inbound = {
                let state = network.state.lock();
                if state.snapshots_fail || state.cut.contains(&(from, to)) {
                    return Err(SnapshotLost::new("the connection is cut"));
                }
                state.nodes.get(&to).cloned().ok_or_else(|| SnapshotLost::new("no such node"))?
            };
            let dir = inbound.stage(snapshot.group, snapshot.from, snapshot.to, snapshot.id)?;
            let copied = copy(&snapshot.dir, &dir, &snapshot.files).await;
            if let Err(error) = copied {
                crate::snapshot::remove(dir);
                return Err(SnapshotLost::new(error));
            }
            inbound.snapshot(
                from,
                IncomingSnapshot {
                    group: snapshot.group,
                    from: snapshot.from,
                    to: snapshot.to,
                    message: snapshot.message,
                    dir,
                    files: snapshot.files,
                },
            )
        })
    }
}

async fn copy(from: &Path, to: &Path, files: &[SnapshotFile]) -> std::io::Result<()> {
    for file in files {
        let target: PathBuf = to.join(&file.name);
        tokio::fs::copy(from.join(&file.name), &target).await?;
        tokio::fs::File::open(&target).await?.sync_all().await?;
    }
    Ok(())
}
