//! Applying commands: one command, one file. Pure: state and command in, outcome out.
//!
//! Nothing here reads a clock, draws randomness, waits, or iterates over a hash table. A command that makes no sense
//! has an outcome that says so; only storage that contradicts itself breaks a replica.

mod advance;
mod deliver;
mod expire_feed;
mod expire_quarantine;
pub(crate) mod group;
pub(crate) mod identity;
mod ingest;
pub(crate) mod matching;
mod resolve_quarantine;
pub(crate) mod segments;
mod set_config;
mod trim;

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{MatchingOutcome, ShardCommand, VerdictReply, shard_command::Command};
use isthmus_raft::Broken;

pub use ingest::{Event, Item, STALE_SHARD_MAP};
pub use resolve_quarantine::Verdict;

use crate::segments::Through;
use crate::state::{Needs, State};
use crate::waits::Awaited;

/// A command, decoded once: the parts that fetching and applying both need.
pub enum Decoded {
    /// Take events in.
    Ingest {
        /// The leader's proposal for the stamp.
        stamp: u64,
        /// The items.
        items: Vec<Item>,
    },
    /// Set what apply depends on.
    SetConfig(u64, isthmus_proto::internal::v1::SetConfigCommand),
    /// Receive messages.
    Deliver(u64, isthmus_proto::internal::v1::DeliverCommand),
    /// Forget messages.
    Trim(u64, isthmus_proto::internal::v1::TrimCommand),
    /// Forget and receive messages, of many streams.
    Exchange(u64, isthmus_proto::internal::v1::ExchangeCommand),
    /// Bring changed rules to some more identifiers.
    Sweep(u64, isthmus_proto::internal::v1::SweepCommand),
    /// Take facts that were searched.
    Found(u64, isthmus_proto::internal::v1::FoundCommand),
    /// Take link facts back.
    Retract(u64, isthmus_proto::internal::v1::RetractCommand),
    /// Note what became of quarantine entries.
    ResolveQuarantine(u64, Vec<Verdict>),
    /// Delete quarantine entries.
    ExpireQuarantine(u64, isthmus_proto::internal::v1::ExpireQuarantineCommand),
    /// Keep, decide and drop pairs of profiles that may be one person.
    Matching(u64, isthmus_proto::internal::v1::MatchingCommand),
    /// Delete changes of the feed.
    ExpireFeed(u64, isthmus_proto::internal::v1::ExpireFeedCommand),
    /// Raise the stamp to this one at least.
    Advance(u64),
    /// Note who has entered segments and left them.
    Segments(u64, isthmus_proto::internal::v1::SegmentsCommand),
    /// No command that this version knows.
    Unknown,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of `Ingest`.
    Ingested(Ingested),
    /// Of `SetConfig`: the version in force.
    Configured(u64),
    /// Of `Deliver`: how far the stream has been received, and the stamp.
    Delivered(u64, Stamp),
    /// Of `Trim`.
    Trimmed,
    /// Of `Exchange`: how far each parcel's stream has been received, and the stamp.
    Exchanged(Vec<u64>, Stamp),
    /// Of `Sweep` and `Found`.
    Tended,
    /// Of `Retract`: taken, at this stamp.
    Retracted(Stamp),
    /// The shard doesn't own the slot; nothing was done.
    NotOwned,
    /// Of `ResolveQuarantine`: one for each verdict.
    Resolved(Vec<VerdictReply>),
    /// Of `ExpireQuarantine`: how many entries went.
    Expired(u64),
    /// Of `Matching`: one for each change.
    Matching(Vec<MatchingOutcome>),
    /// Of `ExpireFeed`: the floor.
    FeedExpired(Stamp),
    /// Of `Advance`: the stamp.
    Advanced(Stamp),
    /// Of `Segments`: taken, at this stamp.
    Segmented(Stamp),
    /// Of `Segments`: nothing was done, since segments have been worked out up to elsewhere.
    NotThere(Through),
    /// The command made no sense; the state is as it was.
    Refused(&'static str),
}

/// What came of the items of an ingest command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingested {
    /// The command's stamp.
    pub stamp: Stamp,
    /// One for each item: the number of `isthmus.v1.ItemOutcome`, or [`STALE_SHARD_MAP`].
    pub outcomes: Vec<u8>,
    /// Reasons of the items that have one, by index.
    pub reasons: Vec<(u32, String)>,
    /// Version of the shard map in force.
    pub shard_map_version: u64,
    /// What is not done yet, by the index of the item that waits for it.
    pub open: Vec<(u32, Awaited)>,
}

/// Decodes a command's content, so that fetching and applying share the work.
///
/// # Errors
/// An item that can't be read: the log is damaged, since gateways encode what they propose.
pub fn decode(command: ShardCommand) -> Result<Decoded, Broken> {
    let stamp = command.stamp;
    Ok(match command.command {
        Some(Command::Ingest(ingest)) => {
            let items = ingest.items.into_iter().map(Item::decode).collect::<Result<_, _>>()?;
            Decoded::Ingest { stamp, items }
        }
        Some(Command::SetConfig(set)) => Decoded::SetConfig(stamp, set),
        Some(Command::Deliver(deliver)) => Decoded::Deliver(stamp, deliver),
        Some(Command::Trim(trim)) => Decoded::Trim(stamp, trim),
        Some(Command::Exchange(exchange)) => Decoded::Exchange(stamp, exchange),
        Some(Command::Sweep(sweep)) => Decoded::Sweep(stamp, sweep),
        Some(Command::Found(found)) => Decoded::Found(stamp, found),
        Some(Command::Retract(retract)) => Decoded::Retract(stamp, retract),
        Some(Command::ResolveQuarantine(resolve)) => {
            let verdicts = resolve.verdicts.into_iter().map(Verdict::decode).collect::<Result<_, _>>()?;
            Decoded::ResolveQuarantine(stamp, verdicts)
        }
        Some(Command::ExpireQuarantine(expire)) => Decoded::ExpireQuarantine(stamp, expire),
        Some(Command::Matching(matching)) => Decoded::Matching(stamp, matching),
        Some(Command::ExpireFeed(expire)) => Decoded::ExpireFeed(stamp, expire),
        Some(Command::Advance(_)) => Decoded::Advance(stamp),
        Some(Command::Segments(segments)) => Decoded::Segments(stamp, segments),
        None => Decoded::Unknown,
    })
}

/// Says which rows below the active memtable a command may need.
///
/// # Errors
/// An item that can't be read, as in [`decode`].
pub fn needs(command: &Decoded, needs: &mut Needs) -> Result<(), Broken> {
    match command {
        Decoded::Ingest { items, .. } => items.iter().try_for_each(|item| item.needs(needs))?,
        Decoded::Deliver(_, deliver) => deliver::needs(deliver, needs),
        Decoded::Exchange(_, exchange) => {
            exchange.parcels.iter().for_each(|parcel| deliver::needs(parcel, needs));
        }
        Decoded::ResolveQuarantine(_, verdicts) => needs.rows.extend(verdicts.iter().map(Verdict::key)),
        Decoded::ExpireQuarantine(_, expire) => expire_quarantine::needs(expire, needs),
        Decoded::Matching(_, matching) => matching::needs(matching, needs),
        Decoded::SetConfig(..)
        | Decoded::Trim(..)
        | Decoded::Sweep(..)
        | Decoded::Found(..)
        | Decoded::Retract(..)
        | Decoded::ExpireFeed(..)
        | Decoded::Advance(_)
        | Decoded::Segments(..)
        | Decoded::Unknown => {}
    }
    Ok(())
}

/// Applies a command.
///
/// # Errors
/// A state that contradicts itself: the replica must stop.
pub fn apply(state: &mut State, command: Decoded) -> Result<Outcome, Broken> {
    let outcome = apply_one(state, command)?;
    state.streams.note_numbers(&mut state.active, &mut state.meta.hash);
    Ok(outcome)
}

fn apply_one(state: &mut State, command: Decoded) -> Result<Outcome, Broken> {
    match command {
        Decoded::Ingest { stamp, items } => ingest::apply(state, stamp, items).map(Outcome::Ingested),
        Decoded::SetConfig(stamp, set) => set_config::apply(state, stamp, &set),
        Decoded::Deliver(stamp, deliver) => deliver::apply(state, stamp, deliver),
        Decoded::Trim(stamp, trim) => Ok(trim::apply(state, stamp, &trim)),
        Decoded::Exchange(stamp, exchange) => deliver::exchange(state, stamp, exchange),
        Decoded::Sweep(stamp, sweep) => identity::sweep(state, stamp, &sweep),
        Decoded::Found(stamp, found) => identity::found(state, stamp, found),
        Decoded::Retract(stamp, retract) => identity::retract(state, stamp, &retract),
        Decoded::ResolveQuarantine(stamp, verdicts) => resolve_quarantine::apply(state, stamp, verdicts),
        Decoded::ExpireQuarantine(stamp, expire) => expire_quarantine::apply(state, stamp, &expire),
        Decoded::Matching(stamp, matching) => matching::apply(state, stamp, matching),
        Decoded::ExpireFeed(stamp, expire) => Ok(expire_feed::apply(state, stamp, &expire)),
        Decoded::Advance(stamp) => Ok(advance::apply(state, stamp)),
        Decoded::Segments(stamp, segments) => Ok(segments::apply(state, stamp, &segments)),
        Decoded::Unknown => Ok(Outcome::Refused("a command that this version does not know")),
    }
}
