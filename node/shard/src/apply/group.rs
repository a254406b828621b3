//! Groups: an event that names one tells it who belongs to it, and what it is like.
//!
//! Both ends keep the membership at their own slot. The member's end is written with the event, and remembers which
//! messages the group has not confirmed: an event is acknowledged when the group has taken it in, so that a read that
//! begins after the answer sees it at either end. The group folds what it is told; messages come exactly once, so it
//! counts each event once, and their order makes no difference.

use bytes::Bytes;
use isthmus_domain::{EventRecord, FacetId, FacetSummary, RecordView, group::said_of_group};
use isthmus_proto::internal::v1::{
    CourierMessage, GroupKnown, GroupMembershipMessage, GroupRow, GroupSaid, MembershipRow, courier_message,
    group_membership_message::Body,
};
use isthmus_raft::Broken;
use prost::Message as _;

use super::deliver::{dispatch, off};
use crate::{
    below::Below,
    error::broken,
    keys,
    outbox::put_large,
    state::{Needs, State},
    waits::Awaited,
};

/// Which rows an event of a member needs that names a group.
pub(super) fn needs(member: &FacetId, group: &FacetId, needs: &mut Needs) {
    needs.identities.push(keys::member_of(member, Some(group)));
    // Should it lie in this shard, too.
    needs.identities.push(keys::group(group));
    needs.identities.push(keys::group_member(group, Some(member)));
}

/// Which rows a message needs.
pub(super) fn message_needs(message: &GroupMembershipMessage, needs: &mut Needs) {
    let Some((group, member)) = ends(message) else { return };
    match &message.body {
        Some(Body::Said(_)) => {
            needs.identities.push(keys::group(&group));
            needs.identities.push(keys::group_member(&group, Some(&member)));
        }
        Some(Body::Known(_)) => needs.identities.push(keys::member_of(&member, Some(&group))),
        None => {}
    }
}

/// Takes in that a new event names a group; what its answer waits for.
pub(super) fn say(state: &mut State, event: &RecordView<'_>) -> Result<Option<Awaited>, Broken> {
    let Some(record) = said_of_group(event).map_err(broken)? else { return Ok(None) };
    let (group, member) = (record.facet_id(), event.facet);
    let key = keys::member_of(&member, Some(&group));
    let before = state.identity_row(&key)?;
    let mut row = decode(before.clone())?.unwrap_or_default();
    count(&mut row, event.timestamp);
    record.value.clone_into(&mut row.value);
    let number = row.events;
    row.unconfirmed.push(number);
    put(state, key, before.as_ref(), &row);
    let said = GroupSaid {
        record: record.to_bytes(),
        namespace: event.namespace.to_owned(),
        value: event.value.to_owned(),
        number,
    };
    send(state, &group, (&group, &member), Body::Said(said))?;
    let below = state.below();
    let open = is_unconfirmed(state, &member, &group, number, below)?;
    Ok(open.then_some(Awaited::Group { member, group, number }))
}

/// What the answer to a known event waits for: all that its group has not confirmed yet of this member.
pub(super) fn open(state: &State, member: &FacetId, group: &FacetId) -> Result<Vec<Awaited>, Broken> {
    let row = decode(state.identity_row(&keys::member_of(member, Some(group)))?)?.unwrap_or_default();
    let open = |number| Awaited::Group { member: *member, group: *group, number };
    Ok(row.unconfirmed.into_iter().map(open).collect())
}

/// Whether a group has not yet confirmed a message.
pub(crate) fn is_unconfirmed(
    state: &State,
    member: &FacetId,
    group: &FacetId,
    number: u64,
    below: Option<&Below>,
) -> Result<bool, Broken> {
    let row = decode(state.identity_row_over(&keys::member_of(member, Some(group)), below)?)?;
    Ok(row.is_some_and(|row| row.unconfirmed.contains(&number)))
}

/// Handles a message whose slot this shard owns.
pub(super) fn handle(state: &mut State, message: GroupMembershipMessage) -> Result<(), Broken> {
    let (group, member) = ends(&message).ok_or_else(|| Broken::new("a message about no membership"))?;
    match message.body {
        Some(Body::Said(said)) => take(state, &group, &member, said),
        Some(Body::Known(known)) => confirm(state, &group, &member, known.number),
        // A newer version's message: it must not be lost, so this replica may not go past it.
        None => Err(Broken::new("a message about a group that this version does not know")),
    }
}

/// A group takes in what an event said.
fn take(state: &mut State, group: &FacetId, member: &FacetId, said: GroupSaid) -> Result<(), Broken> {
    let record = EventRecord::from_bytes(said.record).map_err(broken)?;
    let key = keys::group_member(group, Some(member));
    let before = state.identity_row(&key)?;
    let is_new = before.is_none();
    let mut row = decode(before.clone())?.unwrap_or_default();
    count(&mut row, record.timestamp);
    (row.namespace, row.value) = (said.namespace, said.value);
    put(state, key, before.as_ref(), &row);

    let key = keys::group(group);
    let before = state.identity_row(&key)?;
    let mut known = match &before {
        Some(bytes) => GroupRow::decode(bytes.clone()).map_err(broken)?,
        None => GroupRow::default(),
    };
    let mut summary = match known.summary.is_empty() {
        true => FacetSummary::default(),
        false => FacetSummary::from_bytes(&known.summary).map_err(broken)?,
    };
    summary.absorb(&record);
    known.summary = summary.to_bytes().into();
    known.members = known.members.saturating_add(u64::from(is_new));
    put(state, key, before.as_ref(), &known);
    if off("shard::group::confirm") {
        return Ok(());
    }
    send(state, member, (group, member), Body::Known(GroupKnown { number: said.number }))
}

/// A member hears that its group has taken a message in.
fn confirm(state: &mut State, group: &FacetId, member: &FacetId, number: u64) -> Result<(), Broken> {
    let key = keys::member_of(member, Some(group));
    let Some(before) = state.identity_row(&key)? else {
        return Err(Broken::new("a group confirms what nobody has told it"));
    };
    let mut row = decode(Some(before.clone()))?.unwrap_or_default();
    row.unconfirmed.retain(|open| *open != number);
    put(state, key, Some(&before), &row);
    state.done.push(Awaited::Group { member: *member, group: *group, number });
    Ok(())
}

/// Counts an event of a membership.
fn count(row: &mut MembershipRow, timestamp: i64) {
    let first = row.events == 0;
    row.first_seen = if first { timestamp } else { row.first_seen.min(timestamp) };
    row.last_seen = if first { timestamp } else { row.last_seen.max(timestamp) };
    row.events = row.events.saturating_add(1);
}

fn ends(message: &GroupMembershipMessage) -> Option<(FacetId, FacetId)> {
    Some((FacetId::from_slice(&message.group)?, FacetId::from_slice(&message.member)?))
}

fn decode(row: Option<Bytes>) -> Result<Option<MembershipRow>, Broken> {
    row.map(MembershipRow::decode).transpose().map_err(broken)
}

fn put(state: &mut State, key: Vec<u8>, before: Option<&Bytes>, after: &impl prost::Message) {
    let after = Bytes::from(after.encode_to_vec());
    put_large(&mut state.active, &mut state.meta.hash, key, before, Some(&after));
}

/// Sends a message to an identifier or a group.
fn send(
    state: &mut State,
    to: &FacetId,
    (group, member): (&FacetId, &FacetId),
    body: Body,
) -> Result<(), Broken> {
    state.meta.made += 1;
    let copied = |facet: &FacetId| Bytes::copy_from_slice(facet.as_bytes());
    let message = GroupMembershipMessage { group: copied(group), member: copied(member), body: Some(body) };
    let (slot, stamp) = (u32::from(to.slot().number()), state.meta.stamp);
    let body = Some(courier_message::Body::Group(message));
    dispatch(state, CourierMessage { slot, stamp: stamp.0, body }, stamp)
}
