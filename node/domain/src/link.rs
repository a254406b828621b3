//! Link facts: what was said about two identifiers belonging to one customer.
//!
//! An event that carries several identifiers says so about its primary and each of the others: a star. Facts have a
//! total order, (timestamp, source, message id, position in the star), so that whoever folds them comes to the same
//! result whatever order they arrived in.
//!
//! Browsers repeat both ids on every event. So the slot of the primary keeps, per counterpart, source and kind, a
//! [`LinkRow`]: the oldest fact that counts, with a version that rises whenever that fact changes. Only a changed row
//! is news to anyone else.
//!
//! A retraction replaces a row's fact by the oldest that it leaves, or none, which is why a row may hold no fact; the
//! facts that are not in rows are in the event records. [`crate::identity`] follows rows.

use std::cmp::Ordering;
use std::fmt;

use prost::Message;

use crate::error::Error;
use crate::identifier::Identifier;

/// What sort of link it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum LinkKind {
    /// Both identifiers stood on one event. Subject to the limits per namespace.
    Plain = 0,
    /// An `alias` event said that one replaces the other: exempt from the limit of one `user_id`.
    Alias = 1,
}

/// One statement that two identifiers are one customer. Ordered as identity resolution goes through facts.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkFact {
    /// The event's primary identifier, at whose slot the fact is kept.
    pub a: Identifier,
    /// The other identifier.
    pub b: Identifier,
    /// The event's time, microseconds since the epoch.
    pub timestamp: i64,
    /// The source that sent the event.
    pub source: String,
    /// The event's message id.
    pub message_id: String,
    /// What sort of link.
    pub kind: LinkKind,
    /// Where `b` stands among the event's counterparts, sorted by priority, then value; from 0.
    pub position: u32,
}

impl LinkFact {
    /// A protobuf message: `a_namespace = 1; a_value = 2; b_namespace = 3; b_value = 4; timestamp = 5; source = 6;
    /// message_id = 7; kind = 8; position = 9`.
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads [`Self::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_wire(wire::Fact::decode(bytes).map_err(Error::decode("link fact"))?)
    }

    fn to_wire(&self) -> wire::Fact {
        wire::Fact {
            a_namespace: self.a.namespace().to_string(),
            a_value: self.a.value().to_owned(),
            b_namespace: self.b.namespace().to_string(),
            b_value: self.b.value().to_owned(),
            timestamp: self.timestamp,
            source: self.source.clone(),
            message_id: self.message_id.clone(),
            kind: self.kind.into(),
            position: self.position,
        }
    }

    fn from_wire(fact: wire::Fact) -> Result<Self, Error> {
        let kind = LinkKind::try_from(fact.kind)
            .map_err(|_| Error::Invalid { what: "link fact", why: "its kind is unknown" })?;
        Ok(Self {
            a: Identifier::from_stored(&fact.a_namespace, &fact.a_value)?,
            b: Identifier::from_stored(&fact.b_namespace, &fact.b_value)?,
            timestamp: fact.timestamp,
            source: fact.source,
            message_id: fact.message_id,
            kind,
            position: fact.position,
        })
    }

    fn order(&self) -> impl Ord + '_ {
        let event = (self.timestamp, &self.source, &self.message_id);
        (event, self.position, &self.b, &self.a, self.kind)
    }
}

impl Ord for LinkFact {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for LinkFact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for LinkFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkFact({:?} - {:?}, {:?} at {})", self.a, self.b, self.kind, self.timestamp)
    }
}

/// The oldest fact of one (counterpart, source, kind), and how often it has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkRow {
    fact: Option<LinkFact>,
    version: u64,
}

impl LinkRow {
    /// A row as another keeps it, in one of its versions.
    pub fn of(fact: Option<LinkFact>, version: u64) -> Self {
        Self { fact, version }
    }

    /// The oldest fact that counts; none when there never was one or every one was retracted.
    pub fn fact(&self) -> Option<&LinkFact> {
        self.fact.as_ref()
    }

    /// How many times the fact has changed; zero for a row that never held one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes a fact of this row in; true when it is older than what was known, which makes it news.
    pub fn offer(&mut self, fact: LinkFact) -> bool {
        if self.fact.as_ref().is_some_and(|known| *known <= fact) {
            return false;
        }
        self.replace(Some(fact))
    }

    /// Puts another fact, or none, in place; true when that changes anything.
    pub fn replace(&mut self, fact: Option<LinkFact>) -> bool {
        if self.fact == fact {
            return false;
        }
        self.fact = fact;
        self.version = self.version.saturating_add(1);
        true
    }

    /// A protobuf message: `LinkFact fact = 1; uint64 version = 2`.
    pub fn encode(&self) -> Vec<u8> {
        let fact = self.fact.as_ref().map(LinkFact::to_wire);
        wire::Row { fact, version: self.version }.encode_to_vec()
    }

    /// Reads [`Self::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let row = wire::Row::decode(bytes).map_err(Error::decode("link row"))?;
        Ok(Self { fact: row.fact.map(LinkFact::from_wire).transpose()?, version: row.version })
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Fact {
        #[prost(string, tag = "1")]
        pub(super) a_namespace: String,
        #[prost(string, tag = "2")]
        pub(super) a_value: String,
        #[prost(string, tag = "3")]
        pub(super) b_namespace: String,
        #[prost(string, tag = "4")]
        pub(super) b_value: String,
        #[prost(int64, tag = "5")]
        pub(super) timestamp: i64,
        #[prost(string, tag = "6")]
        pub(super) source: String,
        #[prost(string, tag = "7")]
        pub(super) message_id: String,
        #[prost(enumeration = "super::LinkKind", tag = "8")]
        pub(super) kind: i32,
        #[prost(uint32, tag = "9")]
        pub(super) position: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Row {
        #[prost(message, optional, tag = "1")]
        pub(super) fact: Option<Fact>,
        #[prost(uint64, tag = "2")]
        pub(super) version: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(timestamp: i64, message_id: &str, b: &str, position: u32) -> LinkFact {
        LinkFact {
            a: Identifier::parse("user_id:7").unwrap(),
            b: Identifier::parse(b).unwrap(),
            timestamp,
            source: "web".to_owned(),
            message_id: message_id.to_owned(),
            kind: LinkKind::Plain,
            position,
        }
    }

    #[test]
    fn facts_go_by_time_then_message_then_place_in_the_star() {
        let sorted = [
            fact(1, "m9", "email:z@z", 0),
            fact(2, "m1", "email:z@z", 0),
            fact(2, "m1", "anonymous_id:a", 1),
            fact(2, "m2", "email:a@a", 0),
        ];
        assert!(sorted.is_sorted());
    }

    #[test]
    fn only_an_older_fact_is_news() {
        let mut row = LinkRow::default();
        assert!(row.offer(fact(5, "m", "email:a@a", 0)));
        assert!(!row.offer(fact(5, "m", "email:a@a", 0)));
        assert!(!row.offer(fact(6, "m", "email:a@a", 0)));
        assert!(row.offer(fact(4, "m", "email:a@a", 0)));
        assert_eq!((row.version(), row.fact().unwrap().timestamp), (2, 4));
        assert!(row.replace(None));
        assert_eq!(LinkRow::decode(&row.encode()).unwrap(), row);
    }

    #[test]
    fn facts_and_rows_are_read_back() {
        let fact = fact(5, "m", "email:a@a", 3);
        assert_eq!(LinkFact::decode(&fact.encode()).unwrap(), fact);
        let mut row = LinkRow::default();
        row.offer(fact);
        assert_eq!(LinkRow::decode(&row.encode()).unwrap(), row);
        assert!(LinkFact::decode(&[0xff; 3]).is_err());
    }
}
