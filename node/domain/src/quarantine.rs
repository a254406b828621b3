//! Quarantine: items that could not be taken, kept with the reason so that someone can mend and replay them.
//!
//! An entry holds what was sent, byte for byte where it came as bytes. Its id is a keyed hash of where it came from
//! and what was sent, so the same bad line of a file sent twice is one entry; its slot spreads entries over shards.
//!
//! An entry can be as large as a request may be (4 MiB); whoever stores it in small rows splits it.
//!
//! An entry is *open* until it has a [`Resolution`]: it was mended, replayed or dropped. A resolved one stays, for
//! people to see what became of it, until its retention ends. The same item sent again is the same entry, also then.
//! [`mend`] says what an entry becomes when it is tried again.

pub mod mend;

use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::event::Refused;
use crate::hash::{IdentityKey, hash128};
use crate::slot::Slot;
use crate::stamp::Stamp;

/// A refused item. `Debug` shows no personal data. Protobuf tags never change their meaning.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct QuarantineEntry {
    /// 16 bytes: the keyed hash of source, origin and payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// [`crate::Reason::code`]; a code from a newer version is kept as it is.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// What is wrong and what to do, for people; no personal values.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Which field: `traits.email`; empty when it is the item as a whole.
    #[prost(string, tag = "4")]
    pub field: String,
    /// The name of the source that sent it.
    #[prost(string, tag = "5")]
    pub source: String,
    /// Where the item stood, as the sender says: `customers.csv:17`; empty when it did not say.
    #[prost(string, tag = "6")]
    pub origin: String,
    /// What was sent.
    #[prost(bytes = "bytes", tag = "7")]
    pub payload: Bytes,
    /// How to read it: `application/json`, `text/csv`.
    #[prost(string, tag = "8")]
    pub content_type: String,
    /// The stamp of the command that stored it; zero until then.
    #[prost(fixed64, tag = "9")]
    pub received: u64,
    /// The item's message id when it had a usable one, or empty.
    #[prost(string, tag = "10")]
    pub message_id: String,
    /// What became of it; absent while it is open.
    #[prost(message, optional, tag = "11")]
    pub resolution: Option<Resolution>,
    /// `sentAt` of the batch that it came in, microseconds since the epoch; accepting it again needs it.
    #[prost(int64, optional, tag = "12")]
    pub batch_sent_at: Option<i64>,
}

/// How an entry was resolved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ResolutionKind {
    /// Never stored.
    Unspecified = 0,
    /// It was changed and accepted.
    Mended = 1,
    /// It was accepted as it was.
    Replayed = 2,
    /// It was given up.
    Dropped = 3,
}

/// What became of an entry. `Debug` shows no personal data. Protobuf tags never change their meaning.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Resolution {
    /// How.
    #[prost(enumeration = "ResolutionKind", tag = "1")]
    pub kind: i32,
    /// Who asked for it, as the caller said; empty when it did not say.
    #[prost(string, tag = "2")]
    pub by: String,
    /// The stamp of the command that noted it; zero until then.
    #[prost(fixed64, tag = "3")]
    pub at: u64,
    /// The message id that the event was accepted under; empty when it was dropped.
    #[prost(string, tag = "4")]
    pub message_id: String,
    /// Why it was dropped; empty otherwise.
    #[prost(string, tag = "5")]
    pub note: String,
    /// 16 bytes: the accepted event's body hash, which tells a repeated mend from another one; empty when dropped.
    #[prost(bytes = "bytes", tag = "6")]
    pub body_hash: Bytes,
}

impl Resolution {
    /// Decodes a resolution and checks that its kind is known.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let resolution = Self::decode(bytes).map_err(Error::decode("quarantine resolution"))?;
        match ResolutionKind::try_from(resolution.kind) {
            Ok(ResolutionKind::Unspecified) | Err(_) => {
                Err(Error::Invalid { what: "quarantine resolution", why: "its kind is unknown" })
            }
            Ok(_) => Ok(resolution),
        }
    }
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolution({:?} at {})", self.kind(), self.at)
    }
}

impl QuarantineEntry {
    /// The entry for a refused item. `origin` is `file:line` or empty; it tells equal lines of a file apart.
    pub fn new(
        key: &IdentityKey,
        refused: &Refused,
        source: &str,
        origin: &str,
        content_type: &str,
        payload: Bytes,
    ) -> Self {
        let id = hash128(key, &[b"quarantine", source.as_bytes(), origin.as_bytes(), &payload]);
        Self {
            id: Bytes::copy_from_slice(&id),
            reason: refused.reason.code().to_owned(),
            message: refused.message.clone(),
            field: refused.field.clone(),
            source: source.to_owned(),
            origin: origin.to_owned(),
            payload,
            content_type: content_type.to_owned(),
            received: 0,
            message_id: refused.message_id.clone().unwrap_or_default(),
            resolution: None,
            batch_sent_at: None,
        }
    }

    /// Decodes and checks an entry; its payload shares the memory of `bytes`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let entry = Self::decode(bytes).map_err(Error::decode("quarantine entry"))?;
        if entry.id.len() != 16 {
            return Err(Error::Invalid { what: "quarantine entry", why: "its id is not 16 bytes long" });
        }
        Ok(entry)
    }

    /// The id as bytes; its order is the order of slots.
    pub fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let n = self.id.len().min(16);
        id[..n].copy_from_slice(&self.id[..n]);
        id
    }

    /// The slot where it is kept.
    pub fn slot(&self) -> Slot {
        Slot::of_hash(&self.id())
    }

    /// When it was stored.
    pub fn received_stamp(&self) -> Stamp {
        Stamp(self.received)
    }
}

impl fmt::Debug for QuarantineEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuarantineEntry({}, {}, {} bytes)", self.reason, self.source, self.payload.len())
    }
}
