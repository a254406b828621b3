//! The event record: the form in which an accepted event is replicated and stored.
//!
//! It holds what apply needs, already worked out (the facet, the deduplication key, the changes of traits, the
//! links), and what was sent, as canonical JSON blobs that nobody has to open to apply or store them. A record is
//! decoded once, from the `Bytes` of its log entry; blobs share that memory. Whoever keeps something of a record for
//! long copies it, or else a few bytes keep a whole log entry alive.
//!
//! What was sent is split without loss: `properties` (of an `identify`: its traits; of a `group`: `groupId` and
//! `traits`), and `context`, an object of all other fields as they were sent, in camelCase, but for those that the
//! record has in the same form anyway: type, event name, message id, a timestamp that was not corrected, ids that
//! normalisation left alone ([`EventRecord::to_json`] puts them back). `receivedAt` and `writeKey` are dropped: the first is the server's to say, the second
//! a credential.
//!
//! Protobuf tags below never change their meaning; new fields get new tags.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::amount::Amount;
use crate::error::Error;
use crate::event::EventType;
use crate::hash::FacetId;
use crate::identifier::{Identifier, IdentifierError};
use crate::link::{LinkFact, LinkKind};
use crate::slot::Slot;
use crate::value::{Value, json};

/// An accepted event. `Debug` shows no personal data.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct EventRecord {
    /// The facet's id, 16 bytes: the keyed hash of the primary identifier.
    #[prost(bytes = "bytes", tag = "1")]
    pub facet: Bytes,
    /// The primary identifier's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The primary identifier's normalised value.
    #[prost(string, tag = "3")]
    pub value: String,
    /// The sender's message id, or the one that was made for it; 1 to 100 characters.
    #[prost(string, tag = "4")]
    pub message_id: String,
    /// The name of the source that sent it.
    #[prost(string, tag = "5")]
    pub source: String,
    /// Which of the six types it is.
    #[prost(enumeration = "EventType", tag = "6")]
    pub kind: i32,
    /// The event's name (`track`), or the page's or screen's; empty when there is none.
    #[prost(string, tag = "7")]
    pub name: String,
    /// When it happened, microseconds since the epoch, clock skew corrected; never negative.
    #[prost(int64, tag = "8")]
    pub timestamp: i64,
    /// 16 bytes: BLAKE3 of the canonical event without `messageId`, `sentAt` and what the server computes.
    #[prost(bytes = "bytes", tag = "9")]
    pub body_hash: Bytes,
    /// 16 bytes: [`crate::hash128`] of primary identifier, source and message id.
    #[prost(bytes = "bytes", tag = "10")]
    pub dedup_key: Bytes,
    /// `properties.revenue`, a message with its canonical text; absent when there is none.
    #[prost(message, optional, tag = "11")]
    pub revenue: Option<Amount>,
    /// The currency of `revenue`, three upper-case letters; empty when there is no revenue.
    #[prost(string, tag = "12")]
    pub currency: String,
    /// What an `identify` says about traits, sorted by name; empty for all other types.
    #[prost(message, repeated, tag = "13")]
    pub traits: Vec<TraitChange>,
    /// Canonical JSON: see the module. Empty when nothing was sent.
    #[prost(bytes = "bytes", tag = "14")]
    pub properties: Bytes,
    /// Canonical JSON: see the module. Empty when nothing is left.
    #[prost(bytes = "bytes", tag = "15")]
    pub context: Bytes,
    /// The other identifiers on the event, sorted by priority, then value.
    #[prost(message, repeated, tag = "16")]
    pub links: Vec<Link>,
    /// What was left out or filled in: `CODE field`, such as `IDENTIFIER_BLOCKED userId`.
    #[prost(string, repeated, tag = "17")]
    pub notes: Vec<String>,
    /// `sentAt` as the client said it, microseconds since the epoch: the difference to the stamp is its clock skew.
    #[prost(int64, optional, tag = "18")]
    pub sent_at: Option<i64>,
    /// The group that a `group` event names; absent in all others, and where its `groupId` is a placeholder.
    #[prost(message, optional, tag = "19")]
    pub group: Option<GroupRef>,
}

/// The group that an event names.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct GroupRef {
    /// Its normalised name.
    #[prost(string, tag = "1")]
    pub value: String,
    /// Where it lies, 16 bytes: [`crate::group::GroupId::facet`], which apply has no key to work out.
    #[prost(bytes = "bytes", tag = "2")]
    pub facet: Bytes,
}

/// A trait that an event sets or removes.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct TraitChange {
    /// The trait's name; reserved traits in camelCase.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Canonical JSON of the value; empty when the trait is removed (it was sent as `null`).
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A counterpart of the primary identifier.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Link {
    /// Its namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its normalised value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether an alias event said so.
    #[prost(enumeration = "LinkKind", tag = "3")]
    pub kind: i32,
    /// Its facet's id, 16 bytes: the keyed hash, which apply has no key to work out.
    #[prost(bytes = "bytes", tag = "4")]
    pub facet: Bytes,
}

impl Link {
    /// The counterpart's facet.
    pub fn facet_id(&self) -> FacetId {
        FacetId::from_bytes(sixteen(&self.facet))
    }
}

impl EventRecord {
    /// Decodes and checks a record; its blobs share the memory of `bytes`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let record = Self::decode(bytes).map_err(Error::decode("event record"))?;
        record.check()?;
        Ok(record)
    }

    /// The encoded record.
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Checks what the accessors below rely on. [`crate::accept`] makes no record that fails.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |why| Err(Error::Invalid { what: "event record", why });
        if self.facet.len() != 16 || self.body_hash.len() != 16 || self.dedup_key.len() != 16 {
            return bad("a hash in it is not 16 bytes long");
        }
        if self.links.iter().any(|link| link.facet.len() != 16) {
            return bad("a counterpart's facet is not 16 bytes long");
        }
        if self.group.as_ref().is_some_and(|group| group.facet.len() != 16) {
            return bad("a group's facet is not 16 bytes long");
        }
        if !EventType::try_from(self.kind).is_ok_and(|kind| kind != EventType::Unspecified) {
            return bad("its type is unknown");
        }
        if self.namespace.is_empty() || self.value.is_empty() || self.message_id.is_empty() {
            return bad("it has no identifier or message id");
        }
        if self.timestamp < 0 {
            return bad("its time is before 1970");
        }
        // They are stored in columns of texts.
        if [&self.properties, &self.context].iter().any(|json| std::str::from_utf8(json).is_err()) {
            return bad("its properties or its context are no text");
        }
        Ok(())
    }

    /// The record of an event of which a row keeps only what was sent: what follows from its properties is worked out
    /// again, for whoever folds it. Its identifier and the hash of what was said are gone, and stand-ins take their place.
    ///
    /// # Errors
    /// Properties that can't be read: the event is damaged.
    pub fn restored(mut self, dedup_key: [u8; 16], default_currency: &str) -> Result<Self, Error> {
        self.dedup_key = Bytes::copy_from_slice(&dedup_key);
        if !self.value.is_empty() {
            return Ok(self);
        }
        (self.namespace, self.value) = ("-".to_owned(), "-".to_owned());
        self.body_hash = Bytes::from_static(&[0; 16]);
        if self.properties.is_empty() {
            return Ok(self);
        }
        let Ok(Value::Map(properties)) = json::parse(&self.properties) else {
            return Err(Error::Invalid { what: "event record", why: "its properties are not an object" });
        };
        if self.kind() == EventType::Identify {
            self.traits = crate::event::trait_changes(&properties);
        }
        if let Some((revenue, currency)) =
            crate::event::revenue_of_stored(self.kind(), &properties, default_currency)
        {
            (self.revenue, self.currency) = (Some(revenue), currency);
        }
        Ok(self)
    }

    /// The facet that the event belongs to.
    pub fn facet_id(&self) -> FacetId {
        FacetId::from_bytes(sixteen(&self.facet))
    }

    /// The slot of its facet.
    pub fn slot(&self) -> Slot {
        self.facet_id().slot()
    }

    /// Under what a repetition is recognised.
    pub fn dedup_key(&self) -> [u8; 16] {
        sixteen(&self.dedup_key)
    }

    /// What tells a repetition from another event under the same message id.
    pub fn body_hash(&self) -> [u8; 16] {
        sixteen(&self.body_hash)
    }

    /// The primary identifier.
    pub fn identifier(&self) -> Result<Identifier, IdentifierError> {
        Identifier::from_stored(&self.namespace, &self.value)
    }

    /// The link facts of its star, in their order; none for most events.
    pub fn link_facts(&self) -> impl Iterator<Item = Result<LinkFact, IdentifierError>> + '_ {
        self.links.iter().enumerate().map(|(position, link)| {
            Ok(LinkFact {
                a: self.identifier()?,
                b: Identifier::from_stored(&link.namespace, &link.value)?,
                timestamp: self.timestamp,
                source: self.source.clone(),
                message_id: self.message_id.clone(),
                kind: link.kind(),
                position: position as u32,
            })
        })
    }
}

impl TraitChange {
    /// Whether the trait is removed.
    pub fn is_removed(&self) -> bool {
        self.value.is_empty()
    }
}

/// The 16 bytes of a hash. [`EventRecord::check`] has seen that there are as many; shorter ones would be padded.
fn sixteen(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    let n = bytes.len().min(16);
    out[..n].copy_from_slice(&bytes[..n]);
    out
}

impl fmt::Debug for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRecord")
            .field("facet", &self.facet_id())
            .field("kind", &self.kind())
            .field("timestamp", &self.timestamp)
            .field("traits", &self.traits.len())
            .field("links", &self.links.len())
            .field("bytes", &self.encoded_len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TraitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraitChange({}, {} bytes)", self.name, self.value.len())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}:[{} bytes])", self.namespace, self.value.len())
    }
}

impl fmt::Debug for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupRef([{} bytes])", self.value.len())
    }
}
