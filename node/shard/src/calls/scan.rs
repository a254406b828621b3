//! Calls about snapshots: a pin, then the snapshot at the stamp that all shards agree on, then its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{
    AdvanceCall, AdvanceCommand, DoneReply, FixCall, FixReply, PinCall, PinReply, ReadLevel, ShardCommand,
    UnpinCall, shard_command::Command,
};
use prost::Message as _;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    Error, ShardHandle,
    machine::blocking,
    scan::{BASE_FOR, Pin, Snapshot, Table},
};

/// How far ahead of its clock a shard may be brought: its stamps never come back.
const AHEAD_MAX_MICROS: u64 = 600_000_000;

impl ShardHandle {
    /// Holds on to this replica's state, once it is as fresh as asked for: a snapshot can be made at any stamp from then
    /// on. It is let go by [`Self::unpin`], or when its lease ends.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there are too many pins; a replica that can't be as fresh by the deadline.
    pub async fn pin(
        &self,
        level: Option<ReadLevel>,
        lease: Duration,
        deadline: Instant,
    ) -> Result<Pin, Error> {
        // Without a level, a leader is asked for.
        if level.is_none() {
            self.must_lead()?;
        }
        self.barrier(level, deadline).await?;
        let mut pin = self.shared.pin(lease)?;
        pin.leads = self.leadership().is_leader;
        self.tracker.spawn(expire(self.clone(), pin.id));
        if self.shared.has_new_base() {
            self.tracker.spawn(tend_base(self.clone()));
        }
        Ok(pin)
    }

    /// The snapshot of a pin at a stamp. A leader brings its shard there, another replica waits until it is.
    ///
    /// # Errors
    /// A pin that is no more, or has another snapshot; a stamp that isn't reached by the deadline.
    pub async fn fix(&self, pin: u64, at: Stamp, deadline: Instant) -> Result<Arc<Snapshot>, Error> {
        let mut stamped = self.shared.stamped.subscribe();
        let reached = || self.shared.state.read().meta.stamp >= at;
        if !reached() && self.leadership().is_leader {
            self.advance(at, deadline).await?;
        }
        while !reached() {
            let stopping = || Error::Unavailable("the replica is stopping".to_owned());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(stopping()),
                changed = timeout_at(deadline, stamped.changed()) => match changed {
                    Ok(changed) => changed.map_err(|_| stopping())?,
                    Err(_) => {
                        return Err(Error::Unavailable("the replica has not come to the stamp".to_owned()));
                    }
                },
            }
        }
        let shared = self.shared.clone();
        blocking(move || Ok(shared.fix(pin, at))).await?
    }

    /// The snapshot of a pin of this replica, if it has one.
    pub fn snapshot(&self, pin: u64) -> Option<Arc<Snapshot>> {
        self.shared.snapshot(pin)
    }

    /// Lets a pin go; who reads its snapshot reads on.
    pub fn unpin(&self, pin: u64) {
        self.shared.unpin(pin);
    }

    /// How many pins there are.
    pub fn pins(&self) -> usize {
        self.shared.pins()
    }

    /// Brings the shard to a stamp, if it isn't there.
    ///
    /// # Errors
    /// A replica that doesn't lead; a stamp far ahead of time.
    pub async fn advance(&self, to: Stamp, deadline: Instant) -> Result<(), Error> {
        self.must_lead()?;
        let now = self.clock.now_micros().max(0).cast_unsigned();
        let known = self.shared.state.read().meta.stamp;
        if to <= known {
            return Ok(());
        }
        if to.0 > now.max(known.0).saturating_add(AHEAD_MAX_MICROS) {
            return Err(Error::Invalid("the stamp is far ahead of this node's clock"));
        }
        // Exactly there, not where the clock is: shards where nothing happens are then all at one stamp, and whoever wants
        // them at one again has nothing to wait for.
        let command = ShardCommand { stamp: to.0, command: Some(Command::Advance(AdvanceCommand {})) };
        self.group.propose(Bytes::from(command.encode_to_vec()), deadline).await?;
        Ok(())
    }

    pub(super) async fn call_pin(&self, call: PinCall, deadline: Instant) -> Result<PinReply, Error> {
        let lease = Duration::from_millis(u64::from(call.lease_ms));
        let pin = self.pin(call.level, lease, deadline).await?;
        Ok(PinReply { pin: pin.id, stamp: pin.stamp.0, peer: self.leadership().peer, leads: pin.leads })
    }

    pub(super) async fn call_fix(&self, call: FixCall, deadline: Instant) -> Result<FixReply, Error> {
        let snapshot = self.fix(call.pin, Stamp(call.stamp), deadline).await?;
        Ok(FixReply {
            owned_bounds: snapshot.owned().to_bounds(),
            events: snapshot.rows(Table::Events),
            facets: snapshot.rows(Table::Facets),
            identities: snapshot.identities(),
        })
    }

    pub(super) fn call_unpin(&self, call: &UnpinCall) -> DoneReply {
        self.unpin(call.pin);
        DoneReply {}
    }

    pub(super) async fn call_advance(
        &self,
        call: AdvanceCall,
        deadline: Instant,
    ) -> Result<DoneReply, Error> {
        self.advance(Stamp(call.stamp), deadline).await?;
        Ok(DoneReply {})
    }
}

/// Gives back what is kept for queries when there were none for a while.
async fn tend_base(handle: ShardHandle) {
    loop {
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            () = sleep(BASE_FOR / 10) => if handle.shared.end_base() { return },
        }
    }
}

/// Ends a pin at its lease's end, unless it is let go before.
async fn expire(handle: ShardHandle, pin: u64) {
    while let Some((until, gone)) = handle.shared.lease(pin) {
        tokio::select! {
            biased;
            () = gone.cancelled() => return,
            () = handle.stop.cancelled() => return handle.shared.end_pins(),
            () = sleep_until(until) => handle.shared.end_leases(),
        }
    }
}
