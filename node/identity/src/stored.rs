//! What is stored of an identifier. Protobuf messages; tags never change their meaning.

use bytes::Bytes;
use isthmus_domain::identity::Retraction;
use isthmus_domain::{FacetId, Identifier, LinkFact, LinkRow};
use isthmus_proto::internal::v1 as wire;
use prost::Message as _;

use crate::Error;

/// What a linked identifier knows of itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// Its namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether it is shared: see `isthmus_domain::identity::Sharing`.
    #[prost(bool, tag = "3")]
    pub shared: bool,
    /// Rises whenever `shared` changes.
    #[prost(uint64, tag = "4")]
    pub flag_version: u64,
    /// The version of the flag that is known to be in force.
    #[prost(uint64, tag = "5")]
    pub flag_settled: u64,
    /// The next identifier on the way to the root of its bundle. Empty: it is the root, or stands alone.
    #[prost(bytes = "bytes", tag = "6")]
    pub parent: Bytes,
    /// The facet of its home. Empty: itself.
    #[prost(bytes = "bytes", tag = "7")]
    pub home: Bytes,
    /// The epoch since which it has this home.
    #[prost(uint64, tag = "8")]
    pub epoch: u64,
    /// Assignments that came before those that they follow.
    #[prost(message, repeated, tag = "9")]
    pub early: Vec<wire::Assign>,
    /// Whether it has the rows of a root: it folds, or is still shipping them.
    #[prost(bool, tag = "10")]
    pub is_root: bool,
    /// Distinct counterparts by namespace, of namespaces whose limit is one.
    #[prost(message, repeated, tag = "11")]
    pub counterparts: Vec<Counterparts>,
    /// Rows of others that are held back here, and are told so when the flag is in force.
    #[prost(message, repeated, tag = "12")]
    pub held: Vec<Held>,
    /// Counterparts whose retractions wait until the rows here are in force.
    #[prost(message, repeated, tag = "13")]
    pub answers: Vec<Answer>,
    /// Whether there are retractions.
    #[prost(bool, tag = "14")]
    pub retracted: bool,
    /// Not 0: older facts of rows that lost theirs are being looked for; which search it is.
    #[prost(uint64, tag = "15")]
    pub search: u64,
    /// Searches so far.
    #[prost(uint64, tag = "16")]
    pub searches: u64,
    /// As a root that gives up its place: parts shipped so far.
    #[prost(uint64, tag = "17")]
    pub shipped: u64,
}

/// How many distinct counterparts of a namespace there are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counterparts {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub distinct: u64,
}

/// A row that is held back until a flag is in force.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Held {
    /// The flag's version.
    #[prost(uint64, tag = "1")]
    pub flag_version: u64,
    /// The row, without its fact.
    #[prost(message, optional, tag = "2")]
    pub row: Option<wire::LinkVersion>,
}

/// A counterpart that waits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// Its facet.
    #[prost(bytes = "bytes", tag = "1")]
    pub counterpart: Bytes,
    /// The retraction's id.
    #[prost(string, tag = "2")]
    pub id: String,
}

/// A row at its primary. The first two fields are `LinkRow`'s.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredRow {
    /// The oldest fact that counts.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub fact: Option<Bytes>,
    /// How often it has changed.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// How often it was news to others; 0 of a row that no resolution has seen.
    #[prost(uint64, tag = "3")]
    pub news: u64,
    /// Whether the fact was told: the rules don't refuse it by themselves.
    #[prost(bool, tag = "4")]
    pub told: bool,
    /// The news that is known to be in force.
    #[prost(uint64, tag = "5")]
    pub settled: u64,
    /// Whether the primary sends it up itself, since it was shared and is so no more.
    #[prost(bool, tag = "6")]
    pub direct: bool,
    /// Whether a retraction suppresses the fact: it counts until the one that is to take its place is found.
    #[prost(bool, tag = "7")]
    pub searching: bool,
    /// The oldest fact that has come since and that no retraction suppresses.
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub next: Option<Bytes>,
}

/// A row at its counterpart. The first two fields are those that a version without resolution kept.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredHalf {
    /// The fact that counts.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub fact: Option<Bytes>,
    /// Not used any more: the version of the row.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The news that was seen.
    #[prost(uint64, tag = "3")]
    pub seen: u64,
    /// The news that `fact` is of.
    #[prost(uint64, tag = "4")]
    pub news: u64,
    /// Whether it has been sent up: then all further news is.
    #[prost(bool, tag = "5")]
    pub forwarded: bool,
}

/// A retraction that concerns an identifier.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredRetraction {
    /// `isthmus-domain`'s `Retraction`.
    #[prost(bytes = "bytes", tag = "1")]
    pub retraction: Bytes,
    /// Whether it was given here; else a counterpart told of it.
    #[prost(bool, tag = "2")]
    pub given: bool,
    /// Counterparts that have not yet done their part (facets of 16 bytes).
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub waiting: Vec<Bytes>,
}

/// What a home knows of its list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Home {
    /// The newest list's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The epoch that is served: all members of that list had come.
    #[prost(uint64, tag = "2")]
    pub active: u64,
    /// How many members of the newest list have not come yet.
    #[prost(uint64, tag = "3")]
    pub waiting: u64,
    /// The root of the newest list.
    #[prost(bytes = "bytes", tag = "4")]
    pub root: Bytes,
    /// The version of the rules under which the newest list was found.
    #[prost(uint64, tag = "5")]
    pub rules_version: u64,
    /// Whether some member of the list that is served is not in the newest one.
    #[prost(bool, tag = "6")]
    pub parting: bool,
    /// Rows that are in force once the newest list is served.
    #[prost(message, repeated, tag = "7")]
    pub settles: Vec<wire::LinkVersion>,
    /// Changes that came before the list that they follow.
    #[prost(message, repeated, tag = "8")]
    pub early: Vec<wire::MembersChange>,
}

/// What a home knows of a member: a row of its own, so that a large profile's members come at a small cost each.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HomeMember {
    /// Whether it is in the newest list; else it has come early.
    #[prost(bool, tag = "1")]
    pub listed: bool,
    /// The epoch since which it is a member.
    #[prost(uint64, tag = "2")]
    pub since: u64,
    /// Its identifier's namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Its identifier's value.
    #[prost(string, tag = "4")]
    pub value: String,
    /// The epoch since which it has come, the last that it told.
    #[prost(uint64, optional, tag = "5")]
    pub come: Option<u64>,
}

/// All that a root knows, while it is little.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SmallRoot {
    /// The pieces, by rising keys.
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<wire::Piece>,
}

/// An epoch of a profile's history.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Epoch {
    /// The stamp of the command that brought the list.
    #[prost(uint64, tag = "1")]
    pub stamp: u64,
    /// The version of the rules.
    #[prost(uint64, tag = "2")]
    pub rules_version: u64,
    /// The members that came.
    #[prost(message, repeated, tag = "3")]
    pub came: Vec<wire::Member>,
    /// The members that left.
    #[prost(message, repeated, tag = "4")]
    pub left: Vec<wire::Member>,
}

impl Record {
    /// Of an identifier that has just been linked.
    pub fn of(identifier: &Identifier) -> Self {
        Self {
            namespace: identifier.namespace().to_string(),
            value: identifier.value().to_owned(),
            ..Self::default()
        }
    }

    /// Its identifier.
    ///
    /// # Errors
    /// A record that no identifier has been put into.
    pub fn identifier(&self) -> Result<Identifier, Error> {
        Ok(Identifier::from_stored(&self.namespace, &self.value).map_err(isthmus_domain::Error::from)?)
    }

    /// The next identifier on the way to the root.
    pub fn parent(&self) -> Option<FacetId> {
        FacetId::from_slice(&self.parent)
    }

    /// Its home, given its own facet.
    pub fn home(&self, own: FacetId) -> FacetId {
        FacetId::from_slice(&self.home).unwrap_or(own)
    }
}

impl StoredRow {
    /// Reads a row.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes).map_err(|_| Error::Damaged("a link row"))
    }

    /// As the domain knows it.
    ///
    /// # Errors
    /// A fact that can't be read.
    pub fn link_row(&self) -> Result<LinkRow, Error> {
        Ok(LinkRow::of(fact(self.fact.as_ref())?, self.version))
    }

    /// Takes over what the domain made of it.
    pub fn set(&mut self, row: &LinkRow) {
        (self.fact, self.version) = (row.fact().map(|fact| fact.encode().into()), row.version());
    }

    /// The fact, if it was told.
    pub(crate) fn told_fact(&self) -> Bytes {
        self.fact.as_ref().filter(|_| self.told).cloned().unwrap_or_default()
    }

    /// Whether its newest news is known to be in force.
    pub fn is_settled(&self) -> bool {
        self.settled >= self.news
    }
}

impl HomeMember {
    /// Whether it has come since the newest list says that it is a member.
    pub fn has_come(&self) -> bool {
        self.come.is_some_and(|come| come >= self.since)
    }
}

impl StoredRetraction {
    /// The retraction.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn retraction(&self) -> Result<Retraction, Error> {
        Ok(Retraction::decode(&self.retraction)?)
    }
}

/// A fact from its stored form.
pub(crate) fn fact(bytes: Option<&Bytes>) -> Result<Option<LinkFact>, Error> {
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    Ok(bytes.map(|bytes| LinkFact::decode(bytes)).transpose()?)
}
