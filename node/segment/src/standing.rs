//! Where a profile stands: which segments it is in, and when that may change by itself.
//!
//! It is the row that is kept with a profile, a few bytes for each segment that the profile is in or may come to be in
//! by time alone. [`Standing::update`] takes answers and tells what has changed; [`Standing::next`] is the profile's one
//! next wake.

use prost::encoding::{decode_varint, encode_varint};

use crate::{
    evaluate::{Evaluated, Membership},
    plan::{DefinitionId, Plan, Touched},
    state::DecodeError,
};

const VERSION: u8 = 1;

/// The segments of a profile. Equal standings are equal bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Sorted; those that it is out of for ever are left out.
    rows: Vec<Row>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    id: DefinitionId,
    membership: Membership,
    until: i64,
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
    /// Whether the profile is in a segment, as of the last update.
    pub fn membership(&self, id: DefinitionId) -> Membership {
        self.rows
            .binary_search_by_key(&id, |row| row.id)
            .map_or(Membership::Out, |at| self.rows[at].membership)
    }

    /// The segments that the profile is in.
    pub fn members(&self) -> impl Iterator<Item = DefinitionId> + '_ {
        self.rows.iter().filter(|row| row.membership == Membership::In).map(|row| row.id)
    }

    /// Segments of which the two say different things: which, what this one says, what the other says.
    pub fn differences(&self, other: &Self) -> Vec<(DefinitionId, Membership, Membership)> {
        let (mut a, mut b) = (self.rows.iter().peekable(), other.rows.iter().peekable());
        let mut found = Vec::new();
        loop {
            let ids = (a.peek().map(|row| row.id), b.peek().map(|row| row.id));
            let id = match ids {
                (None, None) => return found,
                (Some(id), None) | (None, Some(id)) => id,
                (Some(a), Some(b)) => a.min(b),
            };
            let before = a.next_if(|row| row.id == id).map_or(Membership::Out, |row| row.membership);
            let after = b.next_if(|row| row.id == id).map_or(Membership::Out, |row| row.membership);
            if before != after {
                found.push((id, before, after));
            }
        }
    }

    /// When it has to be looked at again if no event comes, microseconds since the epoch.
    pub fn next(&self) -> Option<i64> {
        self.rows.iter().map(|row| row.until).min().filter(|until| *until < i64::MAX)
    }

    /// The plan's segments that have to be looked at, at a time.
    pub fn due(&self, plan: &Plan, now: i64) -> Touched {
        let mut due = Touched::default();
        let rows = self.rows.iter().filter(|row| row.until <= now);
        rows.filter_map(|row| plan.position(row.id)).for_each(|definition| due.insert(definition));
        due
    }

    /// Takes answers in and tells what has changed, in their order. Answers of computed traits are not kept.
    pub fn update(&mut self, plan: &Plan, answers: &[Evaluated]) -> Vec<Transition> {
        let mut changed = Vec::new();
        for answer in answers {
            let Some(definition) = plan.definitions().get(answer.definition).filter(|d| d.is_segment) else {
                continue;
            };
            let (id, to) = (definition.id, answer.held.membership());
            let row = Row { id, membership: to, until: answer.until };
            let stays = to != Membership::Out || answer.until < i64::MAX;
            let from = match self.rows.binary_search_by_key(&id, |row| row.id) {
                Ok(at) => {
                    let from = self.rows[at].membership;
                    if stays {
                        self.rows[at] = row;
                    } else {
                        self.rows.remove(at);
                    }
                    from
                }
                Err(at) => {
                    if stays {
                        self.rows.insert(at, row);
                    }
                    Membership::Out
                }
            };
            if from != to {
                changed.push(Transition { definition: answer.definition, from, to });
            }
        }
        changed
    }

    /// Forgets segments that a plan doesn't have.
    pub fn retain(&mut self, plan: &Plan) {
        self.rows.retain(|row| plan.position(row.id).is_some());
    }

    /// The canonical encoding: a version, then for each row the name (8 bytes), the membership (1 byte), and until when
    /// as a varint, 0 for ever.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for row in &self.rows {
            out.extend_from_slice(&row.id.0.to_be_bytes());
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

    /// Reads [`Self::to_bytes`] back. No bytes at all are no standing.
    ///
    /// # Errors
    /// They were written by a newer version, or are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = match bytes {
            [] => return Ok(Self::default()),
            [VERSION, rest @ ..] => rest,
            _ => return Err(DecodeError::Newer),
        };
        let mut rows: Vec<Row> = Vec::new();
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
            if rows.last().is_some_and(|last| last.id >= id) {
                return Err(DecodeError::Damaged("its rows are not in order"));
            }
            rows.push(Row { id, membership, until });
            rest = after;
        }
        if rest.is_empty() { Ok(Self { rows }) } else { Err(DecodeError::Damaged("a row is cut off")) }
    }
}
