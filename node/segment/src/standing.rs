//! Where a profile stands: which segments it is in, and when that may change by itself.
//!
//! It is what is kept with a profile, a few bytes for each segment that the profile is in or may come to be in
//! by time alone. [`Standing::update`] takes answers and tells what has changed; [`Standing::next`] is the profile's one
//! next wake.

use prost::encoding::{decode_varint, encode_varint};

use crate::{
    evaluate::{Judged, Membership},
    plan::{DefinitionId, Plan, Touched},
    state::DecodeError,
};

const VERSION: u8 = 1;

/// The segments of a profile, under one plan: all methods have to be given the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// By rising definition, as answers come; those that it is out of for ever are left out.
    rows: Vec<Row>,
    /// The least `until` of all rows.
    next: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    until: i64,
    /// Which of the plan's definitions.
    definition: u32,
    membership: Membership,
}

impl Default for Standing {
    fn default() -> Self {
        Self { rows: Vec::new(), next: i64::MAX }
    }
}

/// A segment that a profile has entered or left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Which of the plan's definitions.
    pub definition: usize,
    /// Before.
    pub from: Membership,
    /// Now.
    pub to: Membership,
}

impl Standing {
    fn of(rows: Vec<Row>) -> Self {
        let next = soonest(&rows);
        Self { rows, next }
    }

    /// Whether the profile is in a segment, one of the plan's definitions, as of the last update.
    pub fn membership(&self, definition: usize) -> Membership {
        self.rows
            .binary_search_by_key(&definition, Row::index)
            .map_or(Membership::Out, |at| self.rows[at].membership)
    }

    /// The segments that the profile is in, by the plan's definitions.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().filter(|row| row.membership == Membership::In).map(Row::index)
    }

    /// Segments of which two standings say different things: which, what this one says, what the other says. By rising
    /// name, so that whoever compares the same finds the same in the same order, whatever the plans.
    pub fn differences(
        &self,
        plan: &Plan,
        (other, of_other): (&Self, &Plan),
    ) -> Vec<(DefinitionId, Membership, Membership)> {
        let (before, after) = (self.by_name(plan), other.by_name(of_other));
        let (mut a, mut b) = (before.iter().peekable(), after.iter().peekable());
        let mut found = Vec::new();
        loop {
            let id = match (a.peek(), b.peek()) {
                (None, None) => return found,
                (Some((id, _)), None) | (None, Some((id, _))) => *id,
                (Some((a, _)), Some((b, _))) => *a.min(b),
            };
            let before = a.next_if(|row| row.0 == id).map_or(Membership::Out, |row| row.1.membership);
            let after = b.next_if(|row| row.0 == id).map_or(Membership::Out, |row| row.1.membership);
            if before != after {
                found.push((id, before, after));
            }
        }
    }

    fn by_name(&self, plan: &Plan) -> Vec<(DefinitionId, Row)> {
        let named = |row: &Row| Some((plan.definitions().get(row.index())?.id, *row));
        let mut rows: Vec<(DefinitionId, Row)> = self.rows.iter().filter_map(named).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        rows
    }

    /// When it has to be looked at again if no event comes, microseconds since the epoch.
    pub fn next(&self) -> Option<i64> {
        (self.next < i64::MAX).then_some(self.next)
    }

    /// Adds the segments that have to be looked at, at a time, to `which`.
    pub fn due(&self, now: i64, which: &mut Touched) {
        if self.next <= now {
            let rows = self.rows.iter().filter(|row| row.until <= now);
            rows.for_each(|row| which.insert(row.index()));
        }
    }

    /// Takes answers in, by rising definition, and tells what has changed, in their order. Answers of computed traits are
    /// not kept.
    pub fn update<'a, A>(&mut self, plan: &Plan, answers: &'a [A]) -> Vec<Transition>
    where
        Judged: From<&'a A>,
    {
        let mut changed = Vec::new();
        let mut at = 0;
        for answer in answers.iter().map(Judged::from) {
            if !plan.is_segment(answer.definition) {
                continue;
            }
            // There are at most a thousand.
            let Ok(definition) = u32::try_from(answer.definition) else { continue };
            let row = Row { until: answer.until(), definition, membership: answer.membership() };
            let stays = row.membership != Membership::Out || row.until < i64::MAX;
            // Answers and rows rise alike: each row is passed once.
            while self.rows.get(at).is_some_and(|known| known.definition < definition) {
                at += 1;
            }
            let from = match self.rows.get_mut(at).filter(|known| known.definition == definition) {
                Some(known) => {
                    let from = known.membership;
                    if stays {
                        *known = row;
                    } else {
                        self.rows.remove(at);
                    }
                    from
                }
                None => {
                    if stays {
                        self.rows.insert(at, row);
                    }
                    Membership::Out
                }
            };
            if from != row.membership {
                changed.push(Transition { definition: answer.definition, from, to: row.membership });
            }
        }
        self.next = soonest(&self.rows);
        changed
    }

    /// The same under another plan: segments that it doesn't have are forgotten.
    pub fn under(&self, plan: &Plan, other: &Plan) -> Self {
        let there = |row: &Row| {
            let definition = other.position(plan.definitions().get(row.index())?.id)?;
            Some(Row { definition: u32::try_from(definition).ok()?, ..*row })
        };
        let mut rows: Vec<Row> = self.rows.iter().filter_map(there).collect();
        rows.sort_unstable_by_key(Row::index);
        Self::of(rows)
    }

    /// The canonical encoding: a version, then for each row by rising name the name (8 bytes), the membership (1 byte), and
    /// until when as a varint, 0 for ever. Equal standings are equal bytes, whatever the order of the plan.
    pub fn to_bytes(&self, plan: &Plan) -> Vec<u8> {
        let mut out = vec![VERSION];
        for (id, row) in self.by_name(plan) {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.push(match row.membership {
                Membership::Out => 0,
                Membership::In => 1,
                Membership::Overflow => 2,
            });
            // Shifted, so that 0 is free; times before the epoch come out large, which costs bytes and no more.
            let until = if row.until == i64::MAX { 0 } else { row.until.cast_unsigned().wrapping_add(1) };
            encode_varint(until, &mut out);
        }
        out
    }

    /// Reads [`Self::to_bytes`] back, and forgets segments that the plan doesn't have. No bytes at all are no standing.
    ///
    /// # Errors
    /// They were written by a newer version, or are damaged.
    pub fn from_bytes(bytes: &[u8], plan: &Plan) -> Result<Self, DecodeError> {
        let mut rest = match bytes {
            [] => return Ok(Self::default()),
            [VERSION, rest @ ..] => rest,
            _ => return Err(DecodeError::Newer),
        };
        let mut rows: Vec<Row> = Vec::new();
        let mut last = None;
        while let Some((id, after)) = rest.split_first_chunk::<8>() {
            let id = DefinitionId(u64::from_be_bytes(*id));
            let Some((membership, mut after)) = after.split_first() else { break };
            let membership = match membership {
                0 => Membership::Out,
                1 => Membership::In,
                2 => Membership::Overflow,
                _ => return Err(DecodeError::Newer),
            };
            let until =
                match decode_varint(&mut after).or(Err(DecodeError::Damaged("a number is cut off")))? {
                    0 => i64::MAX,
                    until => until.wrapping_sub(1).cast_signed(),
                };
            if last.is_some_and(|last| last >= id) {
                return Err(DecodeError::Damaged("its rows are not in order"));
            }
            last = Some(id);
            let definition = plan.position(id).and_then(|definition| u32::try_from(definition).ok());
            rows.extend(definition.map(|definition| Row { until, definition, membership }));
            rest = after;
        }
        rows.sort_unstable_by_key(Row::index);
        if rest.is_empty() { Ok(Self::of(rows)) } else { Err(DecodeError::Damaged("a row is cut off")) }
    }
}

impl Row {
    fn index(&self) -> usize {
        self.definition as usize
    }
}

fn soonest(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.until).min().unwrap_or(i64::MAX)
}
