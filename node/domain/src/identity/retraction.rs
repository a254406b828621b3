//! Retractions: what was said, and is to count no longer.
//!
//! A retraction is a fact as well. It has a scope and an effective time, and suppresses the link facts in its scope
//! whose timestamp is not after that time, *whenever they arrive*: a file that is sent again brings nothing back, and
//! what is said later counts again. [`Until::Ever`] suppresses those, too. The events and traits stay in their facets,
//! so each profile is then exactly what it would have been without the suppressed facts.
//!
//! A set of retractions has no order and a repetition changes nothing. Taking one back is left out: a younger link
//! fact says that two identifiers belong together after all, unless they never may.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prost::Message;

use crate::error::Error;
use crate::identifier::Identifier;
use crate::link::LinkFact;

/// Which link facts a retraction is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// What one message said about a primary identifier and another. Its effective time doesn't matter.
    Fact {
        /// The event's primary identifier.
        a: Identifier,
        /// The other identifier.
        b: Identifier,
        /// The source that sent the event.
        source: String,
        /// The event's message id.
        message_id: String,
    },
    /// Everything about two identifiers, in either direction. Made by [`Scope::pair`].
    Pair(Identifier, Identifier),
    /// Everything about an identifier.
    Identifier(Identifier),
    /// Everything that a source said.
    Source(String),
}

/// Up to which time facts are suppressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// Facts with a timestamp up to and including this one, microseconds since the epoch.
    Time(i64),
    /// All facts, those to come included.
    Ever,
}

/// A retraction. `Debug` shows no personal data.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retraction {
    /// When it was given, microseconds since the epoch: the stamp of its command.
    pub given_at: i64,
    /// What tells it from others; the same id again is the same retraction.
    pub id: String,
    /// Which facts.
    pub scope: Scope,
    /// Up to which time.
    pub until: Until,
    /// Who gave it.
    pub by: String,
    /// Why, for people.
    pub reason: String,
}

impl Scope {
    /// The pair of two identifiers, in whichever order they are named.
    pub fn pair(x: Identifier, y: Identifier) -> Self {
        if x <= y { Self::Pair(x, y) } else { Self::Pair(y, x) }
    }

    /// The scopes that a fact is in.
    fn of(fact: &LinkFact) -> [Self; 5] {
        let (a, b) = (fact.a.clone(), fact.b.clone());
        [
            Self::Fact {
                a: a.clone(),
                b: b.clone(),
                source: fact.source.clone(),
                message_id: fact.message_id.clone(),
            },
            Self::pair(a.clone(), b.clone()),
            Self::Identifier(a),
            Self::Identifier(b),
            Self::Source(fact.source.clone()),
        ]
    }
}

impl Retraction {
    /// Whether it suppresses the fact.
    pub fn suppresses(&self, fact: &LinkFact) -> bool {
        let in_time = match (&self.scope, self.until) {
            (Scope::Fact { .. }, _) | (_, Until::Ever) => true,
            (_, Until::Time(time)) => fact.timestamp <= time,
        };
        in_time && Scope::of(fact).contains(&self.scope)
    }

    /// A protobuf message: `int64` given at = 1, `string` id = 2, scope = 3, optional `int64` until = 4 (absent: ever),
    /// `string` by = 5, `string` reason = 6. A scope: kind = 1 (1 fact, 2 pair, 3 identifier, 4 source), identifiers as
    /// namespace and value = 2 and 3, the second = 4 and 5, `string` source = 6, `string` message id = 7.
    pub fn encode(&self) -> Vec<u8> {
        let mut scope = wire::Scope::default();
        let (kind, first, second) = match &self.scope {
            Scope::Fact { a, b, source, message_id } => {
                (scope.source, scope.message_id) = (source.clone(), message_id.clone());
                (1, Some(a), Some(b))
            }
            Scope::Pair(x, y) => (2, Some(x), Some(y)),
            Scope::Identifier(x) => (3, Some(x), None),
            Scope::Source(source) => {
                scope.source = source.clone();
                (4, None, None)
            }
        };
        let parts = |i: Option<&Identifier>| {
            i.map(|i| (i.namespace().to_string(), i.value().to_owned())).unwrap_or_default()
        };
        scope.kind = kind;
        (scope.a_namespace, scope.a_value) = parts(first);
        (scope.b_namespace, scope.b_value) = parts(second);
        wire::Retraction {
            given_at: self.given_at,
            id: self.id.clone(),
            scope: Some(scope),
            until: if let Until::Time(time) = self.until { Some(time) } else { None },
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
        .encode_to_vec()
    }

    /// Reads [`Self::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let sent = wire::Retraction::decode(bytes).map_err(Error::decode("retraction"))?;
        let scope = sent.scope.unwrap_or_default();
        let a = || Identifier::from_stored(&scope.a_namespace, &scope.a_value);
        let b = || Identifier::from_stored(&scope.b_namespace, &scope.b_value);
        let source = scope.source.clone();
        let scope = match scope.kind {
            1 => Scope::Fact { a: a()?, b: b()?, source, message_id: scope.message_id.clone() },
            2 => Scope::pair(a()?, b()?),
            3 => Scope::Identifier(a()?),
            4 => Scope::Source(source),
            _ => return Err(Error::Invalid { what: "retraction", why: "its scope is unknown" }),
        };
        let until = sent.until.map_or(Until::Ever, Until::Time);
        Ok(Self { given_at: sent.given_at, id: sent.id, scope, until, by: sent.by, reason: sent.reason })
    }
}

/// A set of retractions, looked up by scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retractions(BTreeMap<Scope, BTreeSet<Retraction>>);

impl Retractions {
    /// Adds one; false when it was known.
    pub fn add(&mut self, retraction: Retraction) -> bool {
        self.0.entry(retraction.scope.clone()).or_default().insert(retraction)
    }

    /// All of them, by scope, then by when they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Retraction> {
        self.0.values().flatten()
    }

    /// The retraction that suppresses the fact; of several the one given first.
    pub fn suppressing(&self, fact: &LinkFact) -> Option<&Retraction> {
        if self.0.is_empty() {
            return None;
        }
        let matching = |scope: &Scope| self.0.get(scope)?.iter().find(|r| r.suppresses(fact));
        Scope::of(fact).iter().filter_map(matching).min()
    }
}

/// Of the facts of one row (a pair, source and kind), given in any order, the oldest that no retraction suppresses:
/// the one that counts.
pub fn oldest_left<'a>(
    facts: impl IntoIterator<Item = &'a LinkFact>,
    retractions: &Retractions,
) -> Option<&'a LinkFact> {
    facts.into_iter().filter(|fact| retractions.suppressing(fact).is_none()).min()
}

impl fmt::Debug for Retraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.scope {
            Scope::Fact { .. } => "fact",
            Scope::Pair(..) => "pair",
            Scope::Identifier(_) => "identifier",
            Scope::Source(_) => "source",
        };
        write!(f, "Retraction({kind} until {:?}, given at {})", self.until, self.given_at)
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Scope {
        #[prost(uint32, tag = "1")]
        pub(super) kind: u32,
        #[prost(string, tag = "2")]
        pub(super) a_namespace: String,
        #[prost(string, tag = "3")]
        pub(super) a_value: String,
        #[prost(string, tag = "4")]
        pub(super) b_namespace: String,
        #[prost(string, tag = "5")]
        pub(super) b_value: String,
        #[prost(string, tag = "6")]
        pub(super) source: String,
        #[prost(string, tag = "7")]
        pub(super) message_id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Retraction {
        #[prost(int64, tag = "1")]
        pub(super) given_at: i64,
        #[prost(string, tag = "2")]
        pub(super) id: String,
        #[prost(message, optional, tag = "3")]
        pub(super) scope: Option<Scope>,
        #[prost(int64, optional, tag = "4")]
        pub(super) until: Option<i64>,
        #[prost(string, tag = "5")]
        pub(super) by: String,
        #[prost(string, tag = "6")]
        pub(super) reason: String,
    }
}
