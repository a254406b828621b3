//! `ResolveQuarantine`: what became of quarantine entries is noted beside them, once.
//!
//! The event of a mended or replayed entry is in its shard before this is proposed. So a crash in between leaves an
//! open entry whose event is known, and the next try finds a repetition and ends here.

use bytes::Bytes;
use isthmus_domain::{QuarantineEntry, Resolution, Slot, Stamp};
use isthmus_proto::internal::v1::{QuarantineVerdict, VerdictOutcome, VerdictReply};
use isthmus_raft::Broken;
use prost::Message as _;

use super::Outcome;
use crate::{error::broken, keys, state::State};

/// What became of an entry, decoded.
pub struct Verdict {
    id: [u8; 16],
    resolution: Resolution,
}

impl Verdict {
    /// Decodes a verdict; whoever proposes it has checked it.
    pub(super) fn decode(wire: QuarantineVerdict) -> Result<Self, Broken> {
        let id =
            wire.id.as_ref().try_into().map_err(|_| broken("a quarantine entry's id is not 16 bytes"))?;
        Ok(Self { id, resolution: Resolution::from_bytes(wire.resolution).map_err(broken)? })
    }

    /// The row of its entry.
    pub(super) fn key(&self) -> Vec<u8> {
        keys::quarantine(&self.id)
    }
}

/// Notes the verdicts, each for itself. The first one of an entry counts.
pub(super) fn apply(state: &mut State, stamp: u64, verdicts: Vec<Verdict>) -> Result<Outcome, Broken> {
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    let replies = verdicts.into_iter().map(|verdict| note(state, stamp, verdict));
    replies.collect::<Result<_, _>>().map(Outcome::Resolved)
}

fn note(state: &mut State, stamp: Stamp, verdict: Verdict) -> Result<VerdictReply, Broken> {
    let reply = |outcome: VerdictOutcome, resolution: Option<&Resolution>| VerdictReply {
        outcome: outcome.into(),
        resolution: resolution.map(|known| Bytes::from(known.encode_to_vec())).unwrap_or_default(),
    };
    if !state.meta.owned.contains(Slot::of_hash(&verdict.id)) {
        return Ok(reply(VerdictOutcome::NotOwned, None));
    }
    let key = verdict.key();
    let Some(before) = state.row(&key) else { return Ok(reply(VerdictOutcome::NotFound, None)) };
    let mut entry = QuarantineEntry::from_bytes(before.clone()).map_err(broken)?;
    if let Some(known) = &entry.resolution {
        return Ok(reply(VerdictOutcome::Already, Some(known)));
    }
    let resolution = Resolution { at: stamp.0, ..verdict.resolution };
    let answer = reply(VerdictOutcome::Noted, Some(&resolution));
    entry.resolution = Some(resolution);
    state.put_row(key, Some(&before), entry.encode_to_vec().into());
    Ok(answer)
}
