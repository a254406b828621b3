//! `ExpireQuarantine`: entries that are as old as the leader says go, with what they said.
//!
//! The leader names them, with their numbers of parts, since apply only sees rows that were named beforehand. Whether
//! one is old enough is decided here: an entry that is younger than the command's stamp says stays.

use isthmus_domain::{QuarantineEntry, Slot, Stamp};
use isthmus_proto::internal::v1::{ExpireQuarantineCommand, ExpiringEntry};
use isthmus_raft::Broken;

use super::Outcome;
use crate::{
    error::broken,
    keys,
    state::{Needs, State},
};

/// The rows of an entry's parts.
fn parts(id: &[u8; 16], entry: &ExpiringEntry) -> impl Iterator<Item = Vec<u8>> {
    let count = u16::try_from(entry.parts).unwrap_or(u16::MAX);
    (0..count).map(|part| keys::quarantine_part(id, part))
}

fn id(entry: &ExpiringEntry) -> Option<[u8; 16]> {
    entry.id.as_ref().try_into().ok()
}

/// Which rows the entries have.
pub(super) fn needs(expire: &ExpireQuarantineCommand, needs: &mut Needs) {
    for entry in &expire.entries {
        if let Some(id) = id(entry) {
            needs.rows.push(keys::quarantine(&id));
            needs.rows.extend(parts(&id, entry));
        }
    }
}

/// Deletes what is old enough; saying it again changes nothing but the stamp.
pub(super) fn apply(
    state: &mut State,
    stamp: u64,
    expire: &ExpireQuarantineCommand,
) -> Result<Outcome, Broken> {
    state.next_stamp(stamp, Stamp::ZERO);
    let mut gone = 0;
    for entry in &expire.entries {
        let Some(id) = id(entry) else { return Ok(Outcome::Refused("an entry's id is not 16 bytes")) };
        if !state.meta.owned.contains(Slot::of_hash(&id)) {
            continue;
        }
        let key = keys::quarantine(&id);
        let Some(head) = state.row(&key) else { continue };
        let known = QuarantineEntry::from_bytes(head.clone()).map_err(broken)?;
        if known.received > expire.through_stamp {
            continue;
        }
        for key in parts(&id, entry) {
            if let Some(part) = state.row(&key) {
                state.delete_row(key, &part);
            }
        }
        state.delete_row(key, &head);
        gone += 1;
    }
    Ok(Outcome::Expired(gone))
}
