//! Protobuf read in place and written piece by piece, for what is too hot for owned messages.
//!
//! [`Fields`] goes over the fields of a message and hands out slices of it; nothing is copied. It takes what `prost`
//! takes but for groups, which nobody writes: a field that is a group is refused, known or not. Writers are `prost`'s
//! own; here are those of `&str` and `&[u8]`, which it has for owned types only. Each `…_bytes` function is the length
//! of what its `put_…` writes.

use prost::DecodeError;
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
};

const VARINT: u8 = WireType::Varint as u8;
const SIXTY_FOUR_BIT: u8 = WireType::SixtyFourBit as u8;
const LENGTH_DELIMITED: u8 = WireType::LengthDelimited as u8;
const THIRTY_TWO_BIT: u8 = WireType::ThirtyTwoBit as u8;

/// The fields of a message.
#[derive(Clone)]
pub(crate) struct Fields<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// A number, as it was written.
    Number(u64),
    /// A text, a blob or a message.
    Bytes(&'a [u8]),
    /// A number of fixed width: none of our fields.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field and its tag.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Content<'a>)>, DecodeError> {
        let (tag, wire_type) = match self.0 {
            [] => return Ok(None),
            // Keys of the tags up to 15 are one byte.
            [key @ 0x08..0x80, rest @ ..] => {
                self.0 = rest;
                (u32::from(*key >> 3), *key & 7)
            }
            _ => {
                let (tag, wire_type) = decode_key(&mut self.0)?;
                (tag, wire_type as u8)
            }
        };
        let content = match wire_type {
            VARINT => Content::Number(self.varint()?),
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                Content::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            SIXTY_FOUR_BIT => self.take(8).map(|_| Content::Fixed)?,
            THIRTY_TWO_BIT => self.take(4).map(|_| Content::Fixed)?,
            _ => return Err(bad("a group, or nothing that protobuf knows")),
        };
        Ok(Some((tag, content)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.0 {
            [one @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*one))
            }
            [low, high @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => decode_varint(&mut self.0),
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| bad("a field is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Content<'a> {
    #[inline]
    pub(crate) fn number(self) -> Result<u64, DecodeError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(bad("not a number")),
        }
    }

    #[inline]
    pub(crate) fn signed(self) -> Result<i64, DecodeError> {
        self.number().map(u64::cast_signed)
    }

    /// An `int32` or an enumeration: what is beyond 32 bits is cut off, as everywhere in protobuf.
    #[inline]
    pub(crate) fn int32(self) -> Result<i32, DecodeError> {
        self.number().map(|number| number as i32)
    }

    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(bad("not a blob or a message")),
        }
    }

    #[inline]
    pub(crate) fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| bad("a text that is not UTF-8"))
    }
}

#[cold]
#[expect(deprecated, reason = "prost offers no other way to make an error of one's own")]
pub(crate) fn bad(why: &'static str) -> DecodeError {
    DecodeError::new(why)
}

/// Length of a field that holds `length` bytes.
pub(crate) fn field_bytes(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

/// The head of a field of `length` bytes, which the caller writes behind it.
pub(crate) fn put_head(tag: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Length of a text or blob; nothing when it is empty.
pub(crate) fn blob_bytes(tag: u32, blob: &[u8]) -> usize {
    if blob.is_empty() { 0 } else { field_bytes(tag, blob.len()) }
}

pub(crate) fn put_blob(tag: u32, blob: &[u8], out: &mut Vec<u8>) {
    if !blob.is_empty() {
        put_head(tag, blob.len(), out);
        out.extend_from_slice(blob);
    }
}

/// Length of a number; nothing when it is zero.
pub(crate) fn number_bytes(tag: u32, number: u64) -> usize {
    if number == 0 { 0 } else { key_len(tag) + encoded_len_varint(number) }
}

pub(crate) fn put_number(tag: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number, out);
    }
}
