//! `Trim`: messages that another shard has received are forgotten.

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::TrimCommand;

use super::Outcome;
use crate::state::State;

/// Forgets what the receiver has. Saying it again changes nothing but the stamp.
pub(super) fn apply(state: &mut State, stamp: u64, trim: &TrimCommand) -> Outcome {
    state.next_stamp(stamp, Stamp::ZERO);
    state.streams.trim(trim.to_shard, trim.through_sequence, &mut state.active, &mut state.meta.hash);
    Outcome::Trimmed
}
