//! States as bytes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the version of the form: 1 |
//! | then, for each term by rising name: 8 | the term's name, most significant byte first, so that bytes are sorted as names are |
//! | 1 | the kind of state |
//! | varint | length of what follows for this term |
//!
//! Numbers are varints, signed ones zigzag; texts and blobs have their length in front; rising times are written as
//! differences. A kind never changes its meaning, and a new one gets a new number: a reader that doesn't know a kind
//! refuses the whole, as an answer without it would be wrong. Terms that a plan doesn't know are read and kept.

use isthmus_domain::Amount;
use prost::{
    Message,
    encoding::{decode_varint, encode_varint},
};

use super::{Ends, Entry, FacetState, Said, State};
use crate::{scalar::Scalar, term::TermId};

const VERSION: u8 = 1;

/// Bytes that are no state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version: a version of the form or a kind of state that this one doesn't know.
    #[error("the state was written by a newer version: update this node")]
    Newer,
    /// Cut off, out of order, or not what its kind holds.
    #[error("the state is damaged: {0}")]
    Damaged(&'static str),
}

type Decoded<T> = Result<T, DecodeError>;

fn damaged<T>(why: &'static str) -> Decoded<T> {
    Err(DecodeError::Damaged(why))
}

impl FacetState {
    /// The canonical encoding: equal states are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let mut body = Vec::new();
        for (id, state) in self.iter() {
            out.extend_from_slice(&id.0.to_be_bytes());
            body.clear();
            let kind = put_state(state, &mut body);
            out.push(kind);
            encode_varint(body.len() as u64, &mut out);
            out.extend_from_slice(&body);
        }
        out
    }

    /// Reads [`Self::to_bytes`] back. No bytes at all are no state.
    ///
    /// # Errors
    /// They were written by a newer version, or are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut rest = match bytes {
            [] => return Ok(Self::default()),
            [VERSION, rest @ ..] => rest,
            _ => return Err(DecodeError::Newer),
        };
        let mut read = Self::default();
        while let Some((id, after)) = rest.split_first_chunk::<8>() {
            let id = TermId(u64::from_be_bytes(*id));
            let Some((kind, after)) = after.split_first() else { return damaged("a term is cut off") };
            let mut reader = Reader(after);
            let body = reader.blob()?;
            rest = reader.0;
            if read.ids.last().is_some_and(|last| *last >= id) {
                return damaged("its terms are not in order");
            }
            let mut body = Reader(body);
            let state = body.state(*kind)?;
            if !body.0.is_empty() {
                return damaged("a term is longer than what it holds");
            }
            read.ids.push(id);
            read.states.push(state);
        }
        if rest.is_empty() { Ok(read) } else { damaged("a term is cut off") }
    }
}

fn put_signed(n: i64, out: &mut Vec<u8>) {
    encode_varint(((n << 1) ^ (n >> 63)).cast_unsigned(), out);
}

fn put_blob(blob: &[u8], out: &mut Vec<u8>) {
    encode_varint(blob.len() as u64, out);
    out.extend_from_slice(blob);
}

fn put_amount(amount: &Amount, out: &mut Vec<u8>) {
    put_blob(&amount.encode_to_vec(), out);
}

fn put_scalar(scalar: &Scalar<'_>, out: &mut Vec<u8>) {
    match scalar {
        Scalar::Boolean(b) => out.extend_from_slice(&[1, u8::from(*b)]),
        Scalar::Number(n) => {
            out.push(2);
            put_amount(n, out);
        }
        Scalar::Time(t) => {
            out.push(3);
            put_signed(*t, out);
        }
        Scalar::Interval(t) => {
            out.push(4);
            put_signed(*t, out);
        }
        Scalar::Text(text) => {
            out.push(5);
            put_blob(text.as_bytes(), out);
        }
    }
}

/// Entries in order: the first time as it is, then differences.
fn put_entries<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>, out: &mut Vec<u8>) {
    encode_varint(entries.len() as u64, out);
    let mut before = 0_i64;
    for entry in entries {
        put_signed(entry.timestamp.wrapping_sub(before), out);
        before = entry.timestamp;
        out.extend_from_slice(&entry.key);
        put_scalar(&entry.value, out);
    }
}

/// Writes what a state holds, and tells its kind.
fn put_state(state: &State, out: &mut Vec<u8>) -> u8 {
    match state {
        State::Said(said) => {
            put_signed(said.timestamp, out);
            put_blob(said.source.as_bytes(), out);
            put_blob(said.message_id.as_bytes(), out);
            put_blob(&said.value, out);
            1
        }
        State::Seen { first, last } => {
            put_signed(*first, out);
            put_signed(*last, out);
            2
        }
        State::Revenue(sum) => {
            put_amount(sum, out);
            3
        }
        State::Count(n) => {
            encode_varint(*n, out);
            4
        }
        State::Sum { sum, values } => {
            put_amount(sum, out);
            encode_varint(*values, out);
            5
        }
        State::Extremes { min, max } => {
            put_scalar(min, out);
            put_scalar(max, out);
            6
        }
        State::Ends(ends) => {
            put_entries([&ends.first, &ends.last].into_iter(), out);
            7
        }
        State::Values { bound, counts } => {
            encode_varint(u64::from(*bound), out);
            match counts {
                None => out.push(0),
                Some(counts) => {
                    out.push(1);
                    encode_varint(counts.len() as u64, out);
                    for (value, n) in counts {
                        put_scalar(value, out);
                        encode_varint(*n, out);
                    }
                }
            }
            8
        }
        State::FirstValues { limit, entries } => {
            encode_varint(u64::from(*limit), out);
            put_entries(entries.iter(), out);
            9
        }
        State::Times { bound, times } => {
            encode_varint(u64::from(*bound), out);
            encode_varint(times.len() as u64, out);
            let mut before = 0_i64;
            for time in times {
                put_signed(time.wrapping_sub(before), out);
                before = *time;
            }
            10
        }
        State::Entries { bound, entries } => {
            encode_varint(u64::from(*bound), out);
            put_entries(entries.iter(), out);
            11
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Decoded<u64> {
        decode_varint(&mut self.0).or(damaged("a number is cut off"))
    }

    fn signed(&mut self) -> Decoded<i64> {
        let n = self.number()?;
        Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
    }

    fn bound(&mut self) -> Decoded<u32> {
        u32::try_from(self.number()?).or(damaged("a bound is too large"))
    }

    fn take(&mut self, length: u64) -> Decoded<&'a [u8]> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            return damaged("a blob is cut off");
        };
        self.0 = rest;
        Ok(taken)
    }

    fn blob(&mut self) -> Decoded<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn byte(&mut self) -> Decoded<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn text(&mut self) -> Decoded<String> {
        String::from_utf8(self.blob()?.to_vec()).or(damaged("a text is not UTF-8"))
    }

    fn amount(&mut self) -> Decoded<Amount> {
        Amount::decode(self.blob()?).or(damaged("an amount is none"))
    }

    fn scalar(&mut self) -> Decoded<Scalar<'static>> {
        Ok(match self.byte()? {
            1 => Scalar::Boolean(self.byte()? != 0),
            2 => Scalar::Number(self.amount()?),
            3 => Scalar::Time(self.signed()?),
            4 => Scalar::Interval(self.signed()?),
            5 => Scalar::Text(self.text()?.into()),
            _ => return Err(DecodeError::Newer),
        })
    }

    /// A number of things, each of at least `bytes` bytes.
    fn many(&mut self, bytes: usize) -> Decoded<usize> {
        let many = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if many > self.0.len() / bytes { damaged("it says more than it holds") } else { Ok(many) }
    }

    fn entries(&mut self) -> Decoded<Vec<Entry>> {
        let many = self.many(18)?;
        let mut entries = Vec::with_capacity(many);
        let mut before = 0_i64;
        for _ in 0..many {
            let timestamp = before.wrapping_add(self.signed()?);
            before = timestamp;
            let mut key = [0; 16];
            key.copy_from_slice(self.take(16)?);
            entries.push(Entry { timestamp, key, value: self.scalar()? });
        }
        if entries.is_sorted() { Ok(entries) } else { damaged("its entries are not in order") }
    }

    fn state(&mut self, kind: u8) -> Decoded<State> {
        Ok(match kind {
            1 => State::Said(Said {
                timestamp: self.signed()?,
                source: self.text()?,
                message_id: self.text()?,
                value: self.blob()?.to_vec(),
            }),
            2 => State::Seen { first: self.signed()?, last: self.signed()? },
            3 => State::Revenue(self.amount()?),
            4 => State::Count(self.number()?),
            5 => State::Sum { sum: self.amount()?, values: self.number()? },
            6 => State::Extremes { min: self.scalar()?, max: self.scalar()? },
            7 => match <[Entry; 2]>::try_from(self.entries()?) {
                Ok([first, last]) => State::Ends(Box::new(Ends { first, last })),
                Err(_) => return damaged("two entries are not two"),
            },
            8 => State::Values { bound: self.bound()?, counts: self.counts()? },
            9 => State::FirstValues { limit: self.bound()?, entries: self.entries()? },
            10 => {
                let bound = self.bound()?;
                let many = self.many(1)?;
                let (mut times, mut before) = (Vec::with_capacity(many), 0_i64);
                for _ in 0..many {
                    before = before.wrapping_add(self.signed()?);
                    times.push(before);
                }
                if !times.is_sorted() {
                    return damaged("its times are not in order");
                }
                State::Times { bound, times }
            }
            11 => State::Entries { bound: self.bound()?, entries: self.entries()? },
            _ => return Err(DecodeError::Newer),
        })
    }

    fn counts(&mut self) -> Decoded<Option<Vec<(Scalar<'static>, u64)>>> {
        if self.byte()? == 0 {
            return Ok(None);
        }
        let many = self.many(3)?;
        let counts = (0..many).map(|_| Ok((self.scalar()?, self.number()?))).collect::<Decoded<Vec<_>>>()?;
        if counts.is_sorted_by(|a, b| a.0 < b.0) {
            Ok(Some(counts))
        } else {
            damaged("its values are not in order")
        }
    }
}
