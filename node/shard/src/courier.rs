//! The courier: ships the outbox of a shard that leads here, until it is known to be received.
//!
//! It promises nothing itself: it may send twice or not at all, and the inbox makes exactly once of it. Messages of a
//! stream go in order, one parcel at a time; streams go side by side. What a receiver has is forgotten by a `Trim`
//! command. A receiver that can't be reached is tried again, more and more seldom, up to once a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use isthmus_proto::internal::v1::{
    CallError, CourierMessage, DeliverCommand, DeliverReply, ShardCommand, TrimCommand,
    shard_command::Command,
};
use isthmus_raft::{GroupHandle, Role};
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Clock, apply::Outcome, machine::Shared, outbox::Parcel};

/// Messages in one parcel.
const PARCEL_MESSAGES: usize = 1_024;
/// Bytes of one parcel.
const PARCEL_BYTES: usize = 256 << 10;
/// How long a parcel may be under way.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed delivery; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The courier's way to other shards.
#[async_trait::async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// Hands messages to the leader of a shard; answered when they are applied there.
    async fn deliver(
        &self,
        to_shard: u64,
        command: DeliverCommand,
        deadline: Instant,
    ) -> Result<DeliverReply, CallError>;
}

/// Ships the outbox for as long as the replica lives; it rests while another replica leads.
pub(crate) async fn run(
    shared: Arc<Shared>,
    group: GroupHandle<Outcome>,
    way: Arc<dyn Deliver>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut view = group.watch();
    // One parcel of each stream is under way at a time; one that failed rests before the next.
    let mut under_way: FuturesUnordered<BoxFuture<'_, (u64, bool)>> = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut pauses: BTreeMap<u64, Duration> = BTreeMap::new();
    loop {
        let leads = view.borrow_and_update().role == Role::Leader;
        let parcels = match leads {
            true => shared.state.read().streams.parcels(PARCEL_MESSAGES, PARCEL_BYTES, &busy),
            false => Vec::new(),
        };
        for parcel in parcels {
            let to = parcel.to_shard;
            busy.insert(to);
            let pause = pauses.get(&to).copied();
            let (shared, group, way, clock) = (&shared, &group, &*way, &*clock);
            under_way.push(Box::pin(async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                (to, ship(shared, group, way, clock, parcel).await)
            }));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((to, done)) = under_way.next(), if !under_way.is_empty() => {
                busy.remove(&to);
                if done {
                    pauses.remove(&to);
                } else {
                    let pause = pauses.get(&to).map_or(PAUSE, |pause| (*pause * 2).min(PAUSE_MAX));
                    pauses.insert(to, pause);
                }
            }
            () = shared.outbox.notified(), if leads => {}
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Ships one parcel and has it forgotten; whether both went well.
async fn ship(
    shared: &Shared,
    group: &GroupHandle<Outcome>,
    way: &dyn Deliver,
    clock: &dyn Clock,
    parcel: Parcel,
) -> bool {
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let mut messages = Vec::with_capacity(parcel.messages.len());
    for bytes in parcel.messages {
        match CourierMessage::decode(bytes) {
            Ok(message) => messages.push(message),
            Err(error) => {
                tracing::error!(shard = shared.shard, %error, "a message in the outbox can't be read");
                return false;
            }
        }
    }
    let command =
        DeliverCommand { from_shard: shared.shard, first_sequence: parcel.first_sequence, messages };
    let reply = match way.deliver(parcel.to_shard, command, deadline).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(
                shard = shared.shard,
                to = parcel.to_shard,
                error = error.message,
                "not delivered"
            );
            return false;
        }
    };
    let trim = TrimCommand { to_shard: parcel.to_shard, through_sequence: reply.through_sequence };
    let stamp = clock.now_micros().max(0).cast_unsigned().max(reply.stamp);
    let command = ShardCommand { stamp, command: Some(Command::Trim(trim)) };
    let trimmed = group.propose(Bytes::from(command.encode_to_vec()), deadline).await;
    trimmed.is_ok() && reply.through_sequence >= parcel.first_sequence
}
