//! Groups: companies, households, teams that customers belong to, as `group` events say.
//!
//! A group is no customer: it lies in a collection of its own, takes part in no identity resolution, and is named by its
//! `groupId` alone. What was said about it is a [`FacetSummary`](crate::FacetSummary) as a customer's identifier has one,
//! with the same commutative fold: of traits the newest wins, events are counted once. Who belongs to it is kept by
//! identifier, as it was said, so that customers who are merged or parted take their memberships with them.
//!
//! Source: the Segment specification, "Group".

use bytes::Bytes;

use crate::error::Error;
use crate::event::{EventType, trait_changes};
use crate::hash::{FacetId, IdentityKey};
use crate::identifier::{Identifier, IdentifierError, Namespace};
use crate::record::{EventRecord, TraitChange};
use crate::record_view::RecordView;
use crate::value::{Value, json};

/// What the namespace of a group's name is called where an identifier has one. It is no namespace of customers: a
/// customer's identifier of this namespace is another thing, in another place.
pub const NAMESPACE: &str = "group_id";

/// The name of a group, normalised as values of identifiers are: trimmed, NFC, at most 256 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(Identifier);

impl GroupId {
    /// The group that a text names.
    ///
    /// # Errors
    /// As [`Identifier::normalise`]: blank, a placeholder such as `null`, too long, or with a control character.
    pub fn normalise(text: &str) -> Result<Self, IdentifierError> {
        Identifier::normalise(Namespace::parse(NAMESPACE)?, text).map(Self)
    }

    /// The name.
    pub fn value(&self) -> &str {
        self.0.value()
    }

    /// Where the group lies: its keyed hash, whose top 14 bits are its slot.
    pub fn facet(&self, key: &IdentityKey) -> FacetId {
        FacetId::of(key, &self.0)
    }
}

impl std::fmt::Debug for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupId([{} bytes])", self.value().len())
    }
}

/// What an event says about the group that it names, as a record of that group; `None` when it names none. It has what
/// the fold needs of it, and no more: neither the customer nor the properties.
///
/// # Errors
/// Properties that can't be read: the record is damaged.
pub fn said_of_group(event: &RecordView<'_>) -> Result<Option<EventRecord>, Error> {
    let Some(group) = event.group else { return Ok(None) };
    Ok(Some(EventRecord {
        facet: Bytes::copy_from_slice(group.facet.as_bytes()),
        namespace: NAMESPACE.to_owned(),
        value: group.value.to_owned(),
        message_id: event.message_id.to_owned(),
        source: event.source.to_owned(),
        kind: EventType::Group.into(),
        timestamp: event.timestamp,
        body_hash: Bytes::copy_from_slice(&event.body_hash),
        dedup_key: Bytes::copy_from_slice(&event.dedup_key),
        traits: traits(event)?,
        ..EventRecord::default()
    }))
}

/// The group's traits: a `group` event's properties are its `groupId` and its `traits`.
fn traits(event: &RecordView<'_>) -> Result<Vec<TraitChange>, Error> {
    const WHAT: &str = "properties of a group event";
    if event.properties.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(Value::Map(properties)) = json::parse(event.properties) else {
        return Err(Error::Invalid { what: WHAT, why: "they are no JSON object" });
    };
    let traits = properties.get("traits").and_then(Value::as_map);
    Ok(traits.map(trait_changes).unwrap_or_default())
}
