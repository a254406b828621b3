//! `Advance`: the stamp rises, for a snapshot at one that nothing was done at.

use isthmus_domain::Stamp;

use super::Outcome;
use crate::state::State;

/// Raises the stamp, at least to the one that was proposed, as every command does. Nothing else changes.
pub(super) fn apply(state: &mut State, stamp: u64) -> Outcome {
    Outcome::Advanced(state.next_stamp(stamp, Stamp::ZERO))
}
