//! The courier: ships the outbox of a shard that leads here, until it is known to be received.
//!
//! It promises nothing itself: it may send twice or not at all, and the inbox makes exactly once of it. Messages of a
//! stream go in order, one parcel at a time; streams go side by side. What a receiver has is forgotten by and by
//! (`inbox_queue`), and until then skipped. A receiver that can't be reached is tried again, more and more seldom, up to once a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use isthmus_proto::internal::v1::{CallError, CourierMessage, DeliverCommand, DeliverReply};
use isthmus_raft::{GroupHandle, Role};
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{apply::Outcome, inbox_queue::InboxQueue, machine::Shared, outbox::Parcel};

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
    inbox: InboxQueue,
    stop: CancellationToken,
) {
    let mut view = group.watch();
    // One parcel of each stream is under way at a time; one that failed rests before the next.
    let mut under_way: FuturesUnordered<BoxFuture<'_, (u64, Option<Shipped>)>> = FuturesUnordered::new();
    // How far each stream is known to be received.
    let mut received: BTreeMap<u64, u64> = BTreeMap::new();
    let mut busy = BTreeSet::new();
    let mut pauses: BTreeMap<u64, Duration> = BTreeMap::new();
    loop {
        let leads = view.borrow_and_update().role == Role::Leader;
        let parcels = match leads {
            true => {
                let next = |to: u64| (!busy.contains(&to)).then(|| received.get(&to).copied().unwrap_or(0));
                shared.state.read().streams.parcels(PARCEL_MESSAGES, PARCEL_BYTES, next)
            }
            false => Vec::new(),
        };
        for parcel in parcels {
            let to = parcel.to_shard;
            busy.insert(to);
            let pause = pauses.get(&to).copied();
            let (shared, way, inbox) = (&shared, &*way, &inbox);
            under_way.push(Box::pin(async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                (to, ship(shared, way, inbox, parcel).await)
            }));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((to, done)) = under_way.next(), if !under_way.is_empty() => {
                busy.remove(&to);
                if let Some(shipped) = &done {
                    received.insert(to, shipped.through);
                }
                if done.is_some_and(|shipped| shipped.taken) {
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

/// What a receiver has answered.
struct Shipped {
    /// How far it has received the stream.
    through: u64,
    /// Whether it took any of the parcel, or had it.
    taken: bool,
}

/// Ships one parcel and has forgotten what is received; `None` when there was no answer.
async fn ship(shared: &Shared, way: &dyn Deliver, inbox: &InboxQueue, parcel: Parcel) -> Option<Shipped> {
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let mut messages = Vec::with_capacity(parcel.messages.len());
    for bytes in parcel.messages {
        match CourierMessage::decode(bytes) {
            Ok(message) => messages.push(message),
            Err(error) => {
                tracing::error!(shard = shared.shard, %error, "a message in the outbox can't be read");
                return None;
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
            return None;
        }
    };
    let through = reply.through_sequence;
    inbox.forget(parcel.to_shard, reply);
    Some(Shipped { through, taken: through >= parcel.first_sequence })
}
