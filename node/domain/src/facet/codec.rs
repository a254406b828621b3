//! Facet summaries as bytes: a protobuf message whose maps are written in the order of their keys.
//!
//! | tag | field |
//! | --- | --- |
//! | 1, 2 | namespace and value of the identifier |
//! | 3 | number of events |
//! | 4, 5 | first and last seen, microseconds since the epoch |
//! | 6, 7 | maps of events by source and by name: `string` to `uint64` |
//! | 8 | map of events by type: `int32` to `uint64` |
//! | 9 | map of revenue by currency: `string` to [`Amount`] |
//! | 10 | map of traits: `string` to [`TraitState`] |
//!
//! A map is a repeated message of a key (tag 1) and a value (tag 2); as everywhere, what is zero or empty is not
//! written, not even in these. Tags never change their meaning. Fields of a newer version are skipped.

use std::borrow::Cow;

use prost::DecodeError;

use super::{Summary, Texts, TraitState};
use crate::amount::Amount;
use crate::error::Error;
use crate::wire::{
    Content, Fields, bad, blob_bytes, field_bytes, number_bytes, put_blob, put_head, put_number,
};

/// A value of a map: its length and how it is written, nothing when it is zero or empty.
trait Value {
    fn field_bytes(&self) -> usize;
    fn put(&self, out: &mut Vec<u8>);
}

impl Value for u64 {
    fn field_bytes(&self) -> usize {
        number_bytes(2, *self)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_number(2, *self, out);
    }
}

impl Value for Amount {
    fn field_bytes(&self) -> usize {
        if self.is_zero() { 0 } else { field_bytes(2, field_bytes(1, self.text_bytes())) }
    }

    fn put(&self, out: &mut Vec<u8>) {
        if !self.is_zero() {
            self.with_text(|text| {
                put_head(2, field_bytes(1, text.len()), out);
                put_blob(1, text.as_bytes(), out);
            });
        }
    }
}

impl TraitState<'_> {
    fn content_bytes(&self) -> usize {
        number_bytes(1, self.timestamp.cast_unsigned())
            + blob_bytes(2, self.source.as_bytes())
            + blob_bytes(3, self.message_id.as_bytes())
            + blob_bytes(4, &self.value)
    }
}

impl Value for TraitState<'_> {
    fn field_bytes(&self) -> usize {
        match self.content_bytes() {
            0 => 0,
            length => field_bytes(2, length),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let length = self.content_bytes();
        if length > 0 {
            put_head(2, length, out);
            put_number(1, self.timestamp.cast_unsigned(), out);
            put_blob(2, self.source.as_bytes(), out);
            put_blob(3, self.message_id.as_bytes(), out);
            put_blob(4, &self.value, out);
        }
    }
}

fn texts_bytes<V: Value>(tag: u32, map: &Texts<'_, V>) -> usize {
    map.iter().map(|(key, value)| field_bytes(tag, blob_bytes(1, key.as_bytes()) + value.field_bytes())).sum()
}

fn put_texts<V: Value>(tag: u32, map: &Texts<'_, V>, out: &mut Vec<u8>) {
    for (key, value) in map.iter() {
        put_head(tag, blob_bytes(1, key.as_bytes()) + value.field_bytes(), out);
        put_blob(1, key.as_bytes(), out);
        value.put(out);
    }
}

/// An `int32` as protobuf writes it: negative ones in ten bytes.
fn int32(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

impl<'a> Summary<'a> {
    /// Length of the encoding.
    pub fn encoded_len(&self) -> usize {
        let types = self.type_counts.iter();
        blob_bytes(1, self.namespace.as_bytes())
            + blob_bytes(2, self.value.as_bytes())
            + number_bytes(3, self.events)
            + number_bytes(4, self.first_seen.cast_unsigned())
            + number_bytes(5, self.last_seen.cast_unsigned())
            + texts_bytes(6, &self.sources)
            + texts_bytes(7, &self.event_counts)
            + types.map(|(k, n)| field_bytes(8, number_bytes(1, int32(*k)) + n.field_bytes())).sum::<usize>()
            + texts_bytes(9, &self.revenue)
            + texts_bytes(10, &self.traits)
    }

    /// Appends the canonical encoding: equal summaries are equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_blob(1, self.namespace.as_bytes(), out);
        put_blob(2, self.value.as_bytes(), out);
        put_number(3, self.events, out);
        put_number(4, self.first_seen.cast_unsigned(), out);
        put_number(5, self.last_seen.cast_unsigned(), out);
        put_texts(6, &self.sources, out);
        put_texts(7, &self.event_counts, out);
        for (kind, n) in self.type_counts.iter() {
            put_head(8, number_bytes(1, int32(*kind)) + n.field_bytes(), out);
            put_number(1, int32(*kind), out);
            n.put(out);
        }
        put_texts(9, &self.revenue, out);
        put_texts(10, &self.traits, out);
    }

    /// The canonical encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }

    /// Reads an encoding in place: texts stay where they are. Maps that are not in order, which nothing here writes,
    /// are sorted, and of several entries of one key the last counts.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut summary = Self::default();
        summary.take_fields(bytes).map_err(Error::decode("facet summary"))?;
        Ok(summary)
    }

    fn take_fields(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut fields = Fields::of(bytes);
        while let Some((tag, content)) = fields.next()? {
            match tag {
                1 => self.namespace = Cow::Borrowed(content.text()?),
                2 => self.value = Cow::Borrowed(content.text()?),
                3 => self.events = content.number()?,
                4 => self.first_seen = content.signed()?,
                5 => self.last_seen = content.signed()?,
                6 => text_entry(&mut self.sources, content, count)?,
                7 => text_entry(&mut self.event_counts, content, count)?,
                8 => {
                    let (mut kind, mut n) = (0, 0);
                    entry(content, |content| content.int32().map(|k| kind = k), |c| count(&mut n, c))?;
                    self.type_counts.push(kind, n);
                }
                9 => text_entry(&mut self.revenue, content, amount)?,
                10 => text_entry(&mut self.traits, content, state)?,
                _ => {}
            }
        }
        self.sources.settle();
        self.event_counts.settle();
        self.type_counts.settle();
        self.revenue.settle();
        self.traits.settle();
        Ok(())
    }
}

fn entry<'a>(
    content: Content<'a>,
    mut key: impl FnMut(Content<'a>) -> Result<(), DecodeError>,
    mut value: impl FnMut(Content<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        match tag {
            1 => key(content)?,
            2 => value(content)?,
            _ => {}
        }
    }
    Ok(())
}

fn text_entry<'a, V: Default>(
    map: &mut Texts<'a, V>,
    content: Content<'a>,
    read: impl Fn(&mut V, Content<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let (mut name, mut held) = ("", V::default());
    entry(content, |content| content.text().map(|text| name = text), |content| read(&mut held, content))?;
    map.push(Cow::Borrowed(name), held);
    Ok(())
}

fn count(n: &mut u64, content: Content<'_>) -> Result<(), DecodeError> {
    content.number().map(|number| *n = number)
}

/// Reads the message of an amount into it.
pub(crate) fn amount(amount: &mut Amount, content: Content<'_>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        if tag == 1 {
            *amount = Amount::of_stored(content.text()?).ok_or_else(|| bad("not an amount"))?;
        }
    }
    Ok(())
}

fn state<'a>(state: &mut TraitState<'a>, content: Content<'a>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(content.bytes()?);
    while let Some((tag, content)) = fields.next()? {
        match tag {
            1 => state.timestamp = content.signed()?,
            2 => state.source = Cow::Borrowed(content.text()?),
            3 => state.message_id = Cow::Borrowed(content.text()?),
            4 => state.value = Cow::Borrowed(content.bytes()?),
            _ => {}
        }
    }
    Ok(())
}

impl Summary<'static> {
    /// Reads [`Summary::to_bytes`] back, as [`Summary::read`], into memory of its own.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Summary::read(bytes).map(Summary::into_owned)
    }
}
