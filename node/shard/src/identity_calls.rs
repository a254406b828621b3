//! Calls that are about identity: who waits until links are in force, reads members, takes links back, explains.

use std::collections::BTreeSet;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_domain::identity::{Retraction, Scope};
use isthmus_identity::Served;
use isthmus_proto::internal::v1::{
    IngestReply, ReadMembersCall, ReadMembersReply, ReadRootCall, ReadRootReply, RetractCommand,
    RetractReply, shard_command::Command,
};
use isthmus_raft::Broken;
use tokio::{sync::watch, time::Instant};

use crate::{
    Error, ShardHandle, apply::Outcome, ingest_queue::Taken, machine::blocking, read, waits::Awaited,
};

impl ShardHandle {
    /// Waits until the links of items are in force, and their groups know of them. Not knowing that by the deadline is not
    /// knowing the outcome, of a call whose items are stored.
    pub(crate) async fn in_force(&self, taken: Taken, deadline: Instant) -> Result<IngestReply, Error> {
        let Taken { mut reply, open } = taken;
        let awaited: BTreeSet<Awaited> = open.iter().map(|(_, one)| *one).collect();
        let awaited: Vec<Awaited> = awaited.into_iter().collect();
        if awaited.is_empty() {
            return Ok(reply);
        }
        let wait = self.shared.waits.begin(&awaited);
        let done = self.done_among(&awaited);
        // Whoever waits for what was done in between has been told, or is told here.
        self.shared.waits.settled(done?);
        tokio::select! {
            biased;
            () = wait.done() => {
                // Above the stamps with which other shards did their part: they have told since.
                reply.stamp = reply.stamp.max(self.shared.state.read().meta.stamp.0);
                return Ok(reply);
            }
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
        self.shared.waits.end(&awaited, &wait);
        // Whoever asks again under the same attempts waits on, and hears what came of them.
        Err(Error::OutcomeUnknown)
    }

    /// Which of these things are done.
    fn done_among(&self, awaited: &[Awaited]) -> Result<Vec<Awaited>, Error> {
        let mut done = Vec::new();
        for one in awaited {
            let open = match one {
                Awaited::Link(row) => read::is_unsettled(&self.shared, row)?,
                Awaited::Group { member, group, number } => {
                    read::is_unconfirmed(&self.shared, member, group, *number)?
                }
            };
            if !open {
                done.push(*one);
            }
        }
        Ok(done)
    }

    /// Waits until something has come into force; false when the time is up, or the replica stops.
    async fn changes(&self, settled: &mut watch::Receiver<u64>, deadline: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            changed = tokio::time::timeout_at(deadline, settled.changed()) => matches!(changed, Ok(Ok(()))),
        }
    }

    pub(crate) async fn read_members(
        &self,
        call: ReadMembersCall,
        deadline: Instant,
    ) -> Result<ReadMembersReply, Error> {
        const NO_FACET: Error = Error::Invalid("a facet's id is not 16 bytes");
        let home = FacetId::from_slice(&call.home).ok_or(NO_FACET)?;
        let member = FacetId::from_slice(&call.member).ok_or(NO_FACET)?;
        self.barrier(call.level, deadline).await?;
        let mut settled = self.shared.settled.subscribe();
        loop {
            settled.mark_unchanged();
            let (owned, stamp) = {
                let state = self.shared.state.read();
                (state.meta.owned.contains(home.slot()), state.meta.stamp.0)
            };
            if !owned {
                return Ok(ReadMembersReply { not_owned: true, ..ReadMembersReply::default() });
            }
            let (shared, epoch) = (self.shared.clone(), call.epoch);
            match blocking(move || read::members(&shared, &home, &member, epoch)).await? {
                Served::Members(members, rules_version) => {
                    let shared = self.shared.clone();
                    let history = match call.history {
                        true => blocking(move || read::history(&shared, &home)).await?,
                        false => Vec::new(),
                    };
                    let reply =
                        ReadMembersReply { members, rules_version, stamp, history, ..Default::default() };
                    return Ok(reply);
                }
                Served::Moved => return Ok(ReadMembersReply { moved: true, stamp, ..Default::default() }),
                Served::Wait if self.changes(&mut settled, deadline).await => {}
                Served::Wait => {
                    return Err(Error::Unavailable("the profile is being put together".to_owned()));
                }
            }
        }
    }

    /// Takes links back; answered when that is in force.
    pub(crate) async fn retract(
        &self,
        call: RetractCommand,
        deadline: Instant,
    ) -> Result<RetractReply, Error> {
        self.must_lead()?;
        let retraction = Retraction::decode(&call.retraction)
            .map_err(|_| Error::Invalid("a retraction that can't be read"))?;
        let facet = FacetId::from_slice(&call.facet);
        match self.propose(Command::Retract(call), deadline).await? {
            Outcome::Retracted(_) => {}
            Outcome::NotOwned => return Ok(RetractReply { not_owned: true }),
            Outcome::Refused(why) => return Err(Error::Invalid(why)),
            _ => return Err(Error::Invalid("the log answered a retraction with something else")),
        }
        let mut settled = self.shared.settled.subscribe();
        loop {
            settled.mark_unchanged();
            let (shared, retraction) = (self.shared.clone(), retraction.clone());
            if blocking(move || is_done(&shared, facet, &retraction)).await? {
                return Ok(RetractReply { not_owned: false });
            }
            if !self.changes(&mut settled, deadline).await {
                return Err(Error::OutcomeUnknown);
            }
        }
    }

    pub(crate) async fn read_root(
        &self,
        call: ReadRootCall,
        deadline: Instant,
    ) -> Result<ReadRootReply, Error> {
        let facet = FacetId::from_slice(&call.facet).ok_or(Error::Invalid("a facet's id is not 16 bytes"))?;
        self.barrier(None, deadline).await?;
        if !self.shared.state.read().meta.owned.contains(facet.slot()) {
            return Ok(ReadRootReply { not_owned: true, ..ReadRootReply::default() });
        }
        let shared = self.shared.clone();
        Ok(blocking(move || read::root(&shared, &facet)).await?)
    }
}

fn is_done(shared: &crate::Shared, facet: Option<FacetId>, retraction: &Retraction) -> Result<bool, Broken> {
    match (facet, &retraction.scope) {
        (Some(facet), _) => read::is_retracted(shared, facet, &retraction.id),
        (None, Scope::Source(source)) => {
            let swept = shared.state.read().meta.sweep.is_done();
            Ok(swept && read::is_source_settled(shared, source)?)
        }
        (None, _) => Err(Broken::new("a retraction for no identifier")),
    }
}

/// A facet's id as messages carry it.
pub(crate) fn copied(facet: &FacetId) -> Bytes {
    Bytes::copy_from_slice(facet.as_bytes())
}
