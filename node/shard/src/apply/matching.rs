//! `Matching`: pairs of profiles that may be one person are kept, decided about and dropped, and so are the models that
//! they are found by. Each change stands for itself, and repeating it changes nothing.
//!
//! What was decided about a pair outlives whatever is found anew: a refused pair is not proposed again, and what was
//! accepted stays a pair though the two are one profile by then.
//!
//! Two owners may bring what one holder saw of a pair in either order. So a pair that was dropped leaves a row that says
//! when it was seen to be none, and goes with the sweep after the next full pass.

use isthmus_domain::{FacetId, Slot, Stamp};
use isthmus_proto::internal::v1::{
    DecidePair, DropPair, MatchingChange, MatchingCommand, MatchingOutcome, ModelPart, PairKey, PairRow,
    PairState, SeenAt, matching_change::Change,
};
use isthmus_raft::Broken;
use prost::Message as _;

use super::Outcome;
use crate::{
    error::broken,
    keys,
    state::{Needs, State},
};

/// The slot and the row that a change is about; `None` of one that makes no sense.
fn place(change: &MatchingChange) -> Option<(Slot, Vec<u8>)> {
    let pair = |key: Option<&PairKey>| {
        let key = key?;
        let (a, b) = (FacetId::from_slice(&key.a)?, FacetId::from_slice(&key.b)?);
        (a < b).then(|| (a.slot(), keys::pair(&a, &b)))
    };
    let part = |part: &ModelPart| {
        let slot = Slot::new(u16::try_from(part.slot).ok()?)?;
        Some((slot, keys::model_part(slot, part.model, part.part)))
    };
    match change.change.as_ref()? {
        Change::Put(row) => pair(row.key.as_ref()),
        Change::Drop(DropPair { key, .. }) | Change::Decide(DecidePair { key, .. }) => pair(key.as_ref()),
        Change::Linked(key) => pair(Some(key)),
        Change::PutPart(it) | Change::DropPart(it) => part(it),
    }
}

/// What is kept of a change, at most: rows are small, and this is what the sum of a pair's parts is bounded to.
const ROW_BYTES_MAX: usize = 48 << 10;

/// Whether every change makes sense.
pub(crate) fn is_sound(command: &MatchingCommand) -> bool {
    command.changes.iter().all(|change| place(change).is_some() && change.encoded_len() <= ROW_BYTES_MAX)
}

/// Which rows the changes are about.
pub(super) fn needs(command: &MatchingCommand, needs: &mut Needs) {
    needs.rows.extend(command.changes.iter().filter_map(place).map(|(_, key)| key));
}

/// Makes the changes.
pub(super) fn apply(state: &mut State, stamp: u64, command: MatchingCommand) -> Result<Outcome, Broken> {
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    let outcomes = command.changes.into_iter().map(|change| one(state, stamp, change));
    outcomes.collect::<Result<_, _>>().map(Outcome::Matching)
}

fn one(state: &mut State, stamp: Stamp, change: MatchingChange) -> Result<MatchingOutcome, Broken> {
    let Some((slot, key)) = place(&change) else { return Ok(MatchingOutcome::default()) };
    if !state.meta.owned.contains(slot) {
        return Ok(MatchingOutcome { not_owned: true, ..MatchingOutcome::default() });
    }
    let before = state.row(&key);
    let row = |before: Option<bytes::Bytes>| before.map(PairRow::decode).transpose().map_err(broken);
    let after = match change.change {
        None => return Ok(MatchingOutcome::default()),
        Some(Change::PutPart(part)) => {
            let changed = before.as_ref() != Some(&part.content);
            if changed {
                // A copy: a slice would keep the whole command in memory.
                let content = bytes::Bytes::copy_from_slice(&part.content);
                state.put_row(key, before.as_deref(), content);
            }
            return Ok(MatchingOutcome { changed, ..MatchingOutcome::default() });
        }
        Some(Change::DropPart(_)) => {
            if let Some(before) = &before {
                state.delete_row(key, before);
            }
            return Ok(MatchingOutcome { changed: before.is_some(), ..MatchingOutcome::default() });
        }
        Some(Change::Put(found)) => Some(put(row(before.clone())?, found, stamp)),
        Some(Change::Drop(drop)) => dropped(row(before.clone())?, drop),
        Some(Change::Decide(decision)) => {
            let gone = row(before.clone())?.filter(|known| known.gone);
            let known = row(before.clone())?.filter(|known| !known.gone);
            let known = known.or_else(|| decision.even_if_none.then(|| unlisted(&decision, stamp)));
            known.map(|known| decide(known, decision, stamp)).or(gone)
        }
        Some(Change::Linked(_)) => row(before.clone())?.map(|mut known| {
            known.linked = known.state() == PairState::Accepted;
            known
        }),
    };
    let bytes = after.as_ref().map(|row| bytes::Bytes::from(row.encode_to_vec()));
    let changed = bytes != before;
    match (bytes, before) {
        (Some(after), before) if changed => state.put_row(key, before.as_deref(), after),
        (None, Some(before)) => state.delete_row(key, &before),
        _ => {}
    }
    Ok(MatchingOutcome { not_owned: false, changed, row: after.filter(|row| !row.gone) })
}

/// A pair that was found, with what was known of it.
fn put(known: Option<PairRow>, found: PairRow, stamp: Stamp) -> PairRow {
    if let Some(known) = known.as_ref().filter(|known| seen_before(&found.seen_at, &known.seen_at)) {
        return known.clone();
    }
    let Some(known) = known.filter(|known| !known.gone) else {
        return PairRow {
            state: PairState::Unspecified.into(),
            by: String::new(),
            note: String::new(),
            found_at: stamp.0,
            decided_at: 0,
            linked: false,
            gone: false,
            ..found
        };
    };
    if found.model_version < known.model_version {
        return known;
    }
    // What an accepted pair was when it was decided tells what was joined, and why.
    if known.state() == PairState::Accepted {
        return PairRow { model_version: found.model_version, seen_at: found.seen_at, ..known };
    }
    PairRow {
        a_identifiers: found.a_identifiers,
        b_identifiers: found.b_identifiers,
        probability: found.probability,
        bits: found.bits,
        weights: found.weights,
        model_version: found.model_version,
        seen_at: found.seen_at,
        ..known
    }
}

/// Whether one holder of blocks saw the one before the other; false for what two have seen, and where one is absent.
pub fn seen_before(one: &Option<SeenAt>, other: &Option<SeenAt>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.holder == other.holder && (one.incarnation, one.number) < (other.incarnation, other.number)
}

/// What is left of a pair that is none any more.
fn dropped(known: Option<PairRow>, drop: DropPair) -> Option<PairRow> {
    let decided = known.as_ref().is_some_and(|known| known.state() != PairState::Unspecified);
    let newer = known.as_ref().is_some_and(|known| match drop.before_model {
        0 => seen_before(&drop.seen_at, &known.seen_at),
        model => known.model_version >= model,
    });
    match drop.before_model {
        _ if decided || newer => known,
        0 => {
            let DropPair { key, seen_at, model_version, .. } = drop;
            Some(PairRow { key, seen_at, model_version, gone: true, ..PairRow::default() })
        }
        _ => None,
    }
}

/// A pair that nobody has found, and that is decided about all the same.
fn unlisted(decision: &DecidePair, stamp: Stamp) -> PairRow {
    PairRow { key: decision.key.clone(), found_at: stamp.0, ..PairRow::default() }
}

/// A pair after a decision. What was accepted is undone by taking its link fact back, not here; once that is done, the
/// two are apart, and it is decided anew.
fn decide(known: PairRow, decision: DecidePair, stamp: Stamp) -> PairRow {
    let open = match known.state() {
        PairState::Accepted => decision.apart && known.linked,
        _ => known.state != decision.state,
    };
    if !open || decision.state() == PairState::Unspecified {
        return known;
    }
    PairRow {
        state: decision.state,
        by: decision.by,
        note: decision.note,
        decided_at: stamp.0,
        linked: false,
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp(9);

    fn seen(holder: u64, incarnation: u64, number: u64) -> Option<SeenAt> {
        Some(SeenAt { holder, incarnation, number })
    }

    fn found(seen_at: Option<SeenAt>) -> PairRow {
        PairRow { probability: 0.5, model_version: 3, seen_at, ..PairRow::default() }
    }

    fn none(seen_at: Option<SeenAt>) -> DropPair {
        DropPair { seen_at, model_version: 3, ..DropPair::default() }
    }

    #[test]
    fn of_what_one_holder_saw_the_later_counts_in_whichever_order_it_comes() {
        let gone = dropped(None, none(seen(1, 1, 7)));
        assert!(gone.as_ref().is_some_and(|row| row.gone));
        assert_eq!(Some(put(gone.clone(), found(seen(1, 1, 5)), NOW)), gone, "seen before it was none");
        for later in [seen(1, 1, 8), seen(1, 2, 1), seen(2, 1, 1)] {
            let again = put(gone.clone(), found(later), NOW);
            assert!(!again.gone && again.found_at == NOW.0);
            if later.is_some_and(|later| later.holder == 1) {
                assert_eq!(dropped(Some(again.clone()), none(seen(1, 1, 7))), Some(again), "seen before");
            }
        }
    }

    #[test]
    fn a_sweep_leaves_what_the_model_found_and_what_was_decided() {
        let sweep = |before_model| DropPair { before_model, ..DropPair::default() };
        let gone = dropped(None, none(seen(1, 1, 7)));
        assert_eq!(dropped(gone.clone(), sweep(3)), gone);
        assert_eq!(dropped(gone, sweep(4)), None);
        assert_eq!(dropped(Some(found(None)), sweep(4)), None);
        let refuse = DecidePair { state: PairState::Refused.into(), ..DecidePair::default() };
        let refused = decide(found(None), refuse, NOW);
        for drop in [sweep(4), none(seen(1, 1, 7))] {
            assert_eq!(dropped(Some(refused.clone()), drop), Some(refused.clone()));
        }
        assert_eq!(put(Some(refused), found(seen(1, 1, 9)), NOW).state(), PairState::Refused);
    }
}
