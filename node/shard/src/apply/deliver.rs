//! `Exchange` and `Deliver`: messages from other shards, each exactly once and in the order of its stream.
//!
//! A message is never refused for its slot: what this shard doesn't own is sent on, in the same apply, to the shard
//! that owns it by the map in force here. Maps differ for a while when slots move, so a message may travel more than
//! once; since every shard's map grows newer only, it arrives.

use isthmus_domain::{Slot, Stamp};
use isthmus_proto::internal::v1::{CourierMessage, DeliverCommand, ExchangeCommand, courier_message::Body};
use isthmus_raft::Broken;

use super::{Outcome, group, identity};
use crate::state::{Needs, State};

/// Which rows the messages need.
pub(super) fn needs(deliver: &DeliverCommand, needs: &mut Needs) {
    for message in &deliver.messages {
        match &message.body {
            Some(Body::Identity(message)) => identity::needs(message, needs),
            Some(Body::Group(message)) => group::message_needs(message, needs),
            Some(Body::LinkRow(_)) | None => {}
        }
    }
}

/// Takes one parcel: a command of earlier versions.
pub(super) fn apply(state: &mut State, stamp: u64, deliver: DeliverCommand) -> Result<Outcome, Broken> {
    let stamp = state.next_stamp(stamp, brought([&deliver]));
    Ok(Outcome::Delivered(receive(state, stamp, deliver)?, stamp))
}

/// Forgets what others have received, and takes what they have sent, parcel by parcel.
pub(super) fn exchange(state: &mut State, stamp: u64, exchange: ExchangeCommand) -> Result<Outcome, Broken> {
    let stamp = state.next_stamp(stamp, brought(&exchange.parcels));
    for trim in &exchange.trims {
        state.streams.trim(trim.to_shard, trim.through_sequence, &mut state.active, &mut state.meta.hash);
    }
    let received = exchange.parcels.into_iter().map(|parcel| receive(state, stamp, parcel));
    Ok(Outcome::Exchanged(received.collect::<Result<_, _>>()?, stamp))
}

/// The largest stamp that messages bring.
fn brought<'a>(parcels: impl IntoIterator<Item = &'a DeliverCommand>) -> Stamp {
    let messages = parcels.into_iter().flat_map(|parcel| &parcel.messages);
    Stamp(messages.map(|message| message.stamp).max().unwrap_or(0))
}

/// Takes the messages that come next in their stream; those taken before change nothing, those after a gap wait. How
/// far the stream has been received then.
fn receive(state: &mut State, stamp: Stamp, deliver: DeliverCommand) -> Result<u64, Broken> {
    let from = deliver.from_shard;
    let mut through = state.streams.received(from);
    let start = through;
    for (sequence, message) in (deliver.first_sequence..=u64::MAX).zip(deliver.messages) {
        let repeated = sequence <= through && !off("shard::inbox::sequence");
        if repeated {
            continue;
        }
        if sequence > through + 1 && !off("shard::inbox::sequence") {
            break;
        }
        dispatch(state, message, stamp)?;
        identity::drain(state)?;
        through = through.max(sequence);
    }
    if through != start {
        state.streams.set_received(from, through, &mut state.active, &mut state.meta.hash);
    }
    Ok(through)
}

/// Hands a message to its slot: here if this shard owns it, else by the outbox.
///
/// # Errors
/// The map in force names no owner: nobody could ever take the message.
pub(super) fn dispatch(state: &mut State, message: CourierMessage, stamp: Stamp) -> Result<(), Broken> {
    let slot = u16::try_from(message.slot).ok().and_then(Slot::new);
    let slot = slot.ok_or_else(|| Broken::new(format!("a message for slot {}", message.slot)))?;
    if state.meta.owned.contains(slot) || off("shard::ownership::messages") {
        return handle(state, message);
    }
    let owner = state.meta.owners.owner(slot);
    let owner = owner.ok_or_else(|| Broken::new(format!("no shard owns slot {slot} in the map in force")))?;
    emit(state, owner.0, CourierMessage { stamp: stamp.0, ..message });
    Ok(())
}

/// Puts a message into the outbox.
pub(super) fn emit(state: &mut State, to_shard: u64, message: CourierMessage) {
    state.streams.emit(to_shard, &message, &mut state.active, &mut state.meta.hash);
}

fn handle(state: &mut State, message: CourierMessage) -> Result<(), Broken> {
    state.meta.handled += 1;
    match message.body {
        Some(Body::Identity(message)) => identity::handle(state, message),
        Some(Body::Group(message)) => group::handle(state, message),
        // Of a version without identity resolution: the row lies at its primary still, where the first sweep finds it.
        Some(Body::LinkRow(_)) => Ok(()),
        // A newer version's message: it must not be lost, so this replica may not go past it.
        None => Err(Broken::new("a message that this version does not know")),
    }
}

/// Whether a test has switched a guard off. Always false in a build without fail points.
pub(super) fn off(guard: &str) -> bool {
    let _unused_without_fail_points = guard;
    fail::fail_point!(guard, |_| true);
    false
}
