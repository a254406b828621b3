//! Messages to other shards that are not yet known to be received, and how far others' streams have come.
//!
//! A *stream* leads from one shard to another; its messages are numbered from 1. All of it is replicated: the rows
//! lie among the control rows, and this is their resident copy, since apply and the courier need them all the time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use isthmus_proto::internal::v1::CourierMessage;
use prost::Message as _;

use crate::{StateHash, hash::Kind, keys, large, memtable::Memtable, meta::COUNT_MAX};

/// The messages to one shard.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// The last number given out.
    last: u64,
    /// What is not yet known to be received: all up to the last.
    waiting: VecDeque<Bytes>,
}

/// All streams of a shard, both ways.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    out: BTreeMap<u64, Stream>,
    received: BTreeMap<u64, u64>,
    waiting: usize,
    emitted: u64,
    /// Streams that got numbers in the command under way: the last ones before it.
    numbered: BTreeMap<u64, u64>,
}

impl Stream {
    /// The number of the first message that waits, or would.
    fn first(&self) -> u64 {
        self.last + 1 - self.waiting.len() as u64
    }
}

/// A part of a stream, on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The receiver.
    pub to_shard: u64,
    /// Number of the first message.
    pub first_sequence: u64,
    /// The messages, as stored.
    pub messages: Vec<Bytes>,
}

impl Streams {
    /// Takes in the stored rows of a shard.
    ///
    /// # Errors
    /// A row that can't be one, for people.
    pub fn load(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, String> {
        let mut streams = Self::default();
        let (rows, parts): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(key, _)| key.first() != Some(&keys::table::PART));
        let parts: BTreeMap<Bytes, Bytes> = parts.into_iter().collect();
        for (key, value) in rows {
            let part = |key: &[u8]| Ok::<_, String>(parts.get(key).cloned());
            let value = match key.first() {
                Some(&keys::table::OUTBOX) => {
                    large::join(&key, value, part)?.ok_or("a part of a message is missing")?
                }
                _ => value,
            };
            let number = || {
                let number = value.as_ref().try_into().ok().map(u64::from_be_bytes);
                number.filter(|number| *number <= COUNT_MAX).ok_or("a stream's row is damaged")
            };
            match key.first() {
                Some(&keys::table::OUTBOX) => {
                    let (receiver, sequence) = keys::outbox_parts(&key)
                        .filter(|(_, sequence)| *sequence <= COUNT_MAX)
                        .ok_or("an outbox key is damaged")?;
                    let stream = streams.out.entry(receiver).or_default();
                    // Rows come by rising numbers, without a gap: what is forgotten is so from the first on.
                    if !stream.waiting.is_empty() && sequence != stream.last + 1 {
                        return Err(format!(
                            "message {sequence} to shard {receiver} follows {}",
                            stream.last
                        ));
                    }
                    stream.waiting.push_back(value);
                    stream.last = sequence;
                    streams.waiting += 1;
                }
                Some(&keys::table::OUTBOX_LAST) => {
                    let receiver = keys::numbered_part(&key).ok_or("an outbox key is damaged")?;
                    let (last, stream) = (number()?, streams.out.entry(receiver).or_default());
                    if !stream.waiting.is_empty() && stream.last != last {
                        return Err(format!(
                            "messages {} to {last} to shard {receiver} are missing",
                            stream.last + 1
                        ));
                    }
                    stream.last = last;
                }
                Some(&keys::table::INBOX) => {
                    let sender = keys::numbered_part(&key).ok_or("an inbox key is damaged")?;
                    streams.received.insert(sender, number()?);
                }
                _ => return Err("a row of an unknown stream table".to_owned()),
            }
        }
        Ok(streams)
    }

    /// Gives a message its number and keeps it.
    pub(crate) fn emit(
        &mut self,
        to_shard: u64,
        message: &CourierMessage,
        into: &mut Memtable,
        hash: &mut StateHash,
    ) {
        let stream = self.out.entry(to_shard).or_default();
        self.numbered.entry(to_shard).or_insert(stream.last);
        stream.last += 1;
        let value = Bytes::from(message.encode_to_vec());
        put_large(into, hash, keys::outbox(to_shard, stream.last), None, Some(&value));
        stream.waiting.push_back(value);
        self.waiting += 1;
        self.emitted += 1;
    }

    /// Notes the last numbers that a command gave out, at its end.
    pub(crate) fn note_numbers(&mut self, into: &mut Memtable, hash: &mut StateHash) {
        for (to_shard, before) in std::mem::take(&mut self.numbered) {
            let last = self.out.get(&to_shard).map_or(before, |stream| stream.last);
            put_number(into, hash, keys::outbox_last(to_shard), before, last);
        }
    }

    /// Forgets what a receiver has up to and including `through`.
    pub(crate) fn trim(&mut self, to_shard: u64, through: u64, into: &mut Memtable, hash: &mut StateHash) {
        let Some(stream) = self.out.get_mut(&to_shard) else { return };
        let first = stream.first();
        let count = through.saturating_add(1).saturating_sub(first);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(stream.waiting.len());
        for (sequence, value) in (first..).zip(stream.waiting.drain(..count)) {
            self.waiting -= 1;
            put_large(into, hash, keys::outbox(to_shard, sequence), Some(&value), None);
        }
    }

    /// How far a sender's stream has been received.
    pub fn received(&self, from_shard: u64) -> u64 {
        self.received.get(&from_shard).copied().unwrap_or(0)
    }

    /// Notes that a sender's stream has been received so far.
    pub(crate) fn set_received(
        &mut self,
        from_shard: u64,
        through: u64,
        into: &mut Memtable,
        hash: &mut StateHash,
    ) {
        let before = self.received.insert(from_shard, through).unwrap_or(0);
        put_number(into, hash, keys::inbox(from_shard), before, through);
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many messages were put into the outbox since it was loaded.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// The next messages of each stream that has some: at most `messages_max`, and at least one, in `bytes_max`.
    /// `received` says how far a receiver has come already; `None` leaves its stream out.
    pub fn parcels(
        &self,
        messages_max: usize,
        bytes_max: usize,
        received: impl Fn(u64) -> Option<u64>,
    ) -> Vec<Parcel> {
        let next = self.out.iter().filter_map(|(to_shard, stream)| {
            let first_sequence = stream.first().max(received(*to_shard)?.saturating_add(1));
            let skipped = usize::try_from(first_sequence - stream.first()).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let messages = stream.waiting.iter().skip(skipped).take(messages_max).take_while(|message| {
                let room = bytes == 0 || bytes + message.len() <= bytes_max;
                bytes += message.len().max(1);
                room
            });
            let messages: Vec<Bytes> = messages.cloned().collect();
            (!messages.is_empty()).then_some(Parcel { to_shard: *to_shard, first_sequence, messages })
        });
        next.collect()
    }
}

/// Changes a control row and the hash with it; `before` is what it was.
pub(crate) fn put(
    into: &mut Memtable,
    hash: &mut StateHash,
    key: Vec<u8>,
    before: Option<&[u8]>,
    after: Option<Bytes>,
) {
    if let Some(watch) = &mut into.watch {
        watch.changes(&key, before);
    }
    if into.journal.as_mut().is_some_and(|journal| !journal.changes(&key)) {
        into.journal = None;
    }
    let existed = before.is_some();
    if let Some(before) = before {
        hash.remove(Kind::Row, &key, before);
    }
    if let Some(after) = &after {
        hash.add(Kind::Row, &key, after);
    }
    into.rows.set(key, after, existed);
}

/// The same for a row that may be large: then it lies in parts.
pub(crate) fn put_large(
    into: &mut Memtable,
    hash: &mut StateHash,
    key: Vec<u8>,
    before: Option<&Bytes>,
    after: Option<&Bytes>,
) {
    let small = |value: Option<&Bytes>| value.is_none_or(large::is_one_row);
    if small(before) && small(after) {
        if before != after {
            put(into, hash, key, before.map(Bytes::as_ref), after.cloned());
        }
        return;
    }
    let rows = |value: Option<&Bytes>| value.map(|value| large::split(&key, value)).unwrap_or_default();
    let mut old: BTreeMap<Vec<u8>, Bytes> = rows(before).into_iter().collect();
    for (key, value) in rows(after) {
        let before = old.remove(&key);
        if before.as_ref() != Some(&value) {
            put(into, hash, key, before.as_deref(), Some(value));
        }
    }
    for (key, value) in old {
        put(into, hash, key, Some(&value), None);
    }
}

/// The same for a row that holds a number and is absent while it is 0.
fn put_number(into: &mut Memtable, hash: &mut StateHash, key: Vec<u8>, before: u64, after: u64) {
    let old = before.to_be_bytes();
    let old = (before != 0).then_some(old.as_slice());
    put(into, hash, key, old, Some(Bytes::copy_from_slice(&after.to_be_bytes())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(slot: u32) -> CourierMessage {
        CourierMessage { slot, ..Default::default() }
    }

    #[test]
    fn streams_number_their_messages_from_one_and_forget_what_is_trimmed() {
        let (mut streams, mut table, mut hash) =
            (Streams::default(), Memtable::default(), StateHash::default());
        for slot in 1..=5 {
            streams.emit(7, &message(slot), &mut table, &mut hash);
        }
        streams.emit(8, &message(9), &mut table, &mut hash);
        assert_eq!(streams.waiting(), 6);
        streams.trim(7, 3, &mut table, &mut hash);
        let parcels = streams.parcels(10, 1 << 20, |_| Some(0));
        assert_eq!(
            parcels.iter().map(|p| (p.to_shard, p.first_sequence, p.messages.len())).collect::<Vec<_>>(),
            [(7, 4, 2), (8, 1, 1)]
        );
        streams.trim(7, 99, &mut table, &mut hash);
        streams.emit(7, &message(6), &mut table, &mut hash);
        assert_eq!(streams.parcels(1, 1, |_| Some(0))[0].first_sequence, 6, "numbers go on after a trim");
    }

    #[test]
    fn loading_the_rows_gives_the_same_streams_and_the_hash_counts_them() {
        let (mut streams, mut table, mut hash) =
            (Streams::default(), Memtable::default(), StateHash::default());
        for slot in 1..=3 {
            streams.emit(7, &message(slot), &mut table, &mut hash);
        }
        streams.note_numbers(&mut table, &mut hash);
        streams.trim(7, 1, &mut table, &mut hash);
        streams.set_received(9, 4, &mut table, &mut hash);
        streams.set_received(9, 6, &mut table, &mut hash);
        let rows: Vec<(Bytes, Bytes)> =
            table.rows.iter().filter_map(|(key, value)| Some((Bytes::from(key), value?.clone()))).collect();
        let mut counted = StateHash::default();
        for (key, value) in &rows {
            counted.add(Kind::Row, key, value);
        }
        assert_eq!(counted, hash);
        let loaded = Streams::load(rows).unwrap();
        assert_eq!(loaded.parcels(10, 1 << 20, |_| Some(0)), streams.parcels(10, 1 << 20, |_| Some(0)));
        assert_eq!((loaded.received(9), loaded.received(7)), (6, 0));
    }
}
