//! `Segments`: who has entered segments and left them, as the leader has worked out.
//!
//! A command is taken only behind the one that its leader knew of. So what a leader worked out that is none any more, or
//! proposed twice since it didn't know what became of it, changes nothing.

use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{SegmentTransition, SegmentsCommand};

use super::Outcome;
use crate::{
    feed::{Place, What},
    segments::{Key, Row, Through},
    state::State,
};

/// Transitions that one command brings, at most: so many profiles of some segments each.
pub(crate) const TRANSITIONS_MAX: usize = 20_000;

/// Why a command makes no sense; `None`: it does.
pub(crate) fn fault(command: &SegmentsCommand) -> Option<&'static str> {
    let is_sound =
        |it: &SegmentTransition| it.home.len() == 16 && it.from <= 2 && it.to <= 2 && it.cause_slot < 1 << 14;
    if command.through_stamp <= command.from_stamp {
        return Some("segments that go back");
    }
    if command.transitions.len() > TRANSITIONS_MAX || !command.transitions.iter().all(is_sound) {
        return Some("changes of segments that are too many, or make no sense");
    }
    None
}

pub(super) fn apply(state: &mut State, stamp: u64, command: &SegmentsCommand) -> Outcome {
    let last = state.meta.stamp;
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    if let Some(fault) = fault(command) {
        return Outcome::Refused(fault);
    }
    let through = state.meta.segments;
    if through.stamp.0 != command.from_stamp || command.through_stamp > last.0 {
        return Outcome::NotThere(through);
    }
    for transition in &command.transitions {
        one(state, stamp, transition);
    }
    state.meta.segments = Through { stamp: Stamp(command.through_stamp), version: command.document_version };
    Outcome::Segmented(stamp)
}

fn one(state: &mut State, stamp: Stamp, transition: &SegmentTransition) {
    // The command was checked.
    let Some(home) = FacetId::from_slice(&transition.home) else { return };
    let key = Key { home, segment: transition.segment };
    let membership = |number: u32| u8::try_from(number).unwrap_or_default();
    let told = Row { membership: membership(transition.from), since: Stamp(transition.from_since) };
    let after = Row { membership: membership(transition.to), since: stamp };
    // What an earlier one of this command has made of it: its leader could not know the stamp.
    let before = state.active.put_member(key, after).unwrap_or(told);
    before.discount(&key, &mut state.meta.hash);
    after.count(&key, &mut state.meta.hash);
    if transition.told {
        let place = Place { stamp: Stamp(transition.cause_stamp), number: transition.cause_number };
        let slot = u16::try_from(transition.cause_slot).unwrap_or_default();
        let from_to = [before.membership, after.membership];
        let (segment, name) = (transition.segment, transition.name_hash);
        let what = What::Segment { segment, name, from_to, cause: (place, slot) };
        state.active.push_change(stamp, home, what);
    }
}
