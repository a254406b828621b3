//! Why identifiers are one customer, as JSON.

use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::{Identifier, text, time};
use crate::proto::{self, split_scope::Scope};

/// A link fact and what was made of it.
#[derive(Debug, Serialize)]
pub struct JudgedFact<'a> {
    a: Option<Identifier<'a>>,
    b: Option<Identifier<'a>>,
    timestamp: Option<String>,
    source: &'a str,
    message_id: &'a str,
    alias: bool,
    verdict: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

impl<'a> From<&'a proto::JudgedFact> for JudgedFact<'a> {
    fn from(judged: &'a proto::JudgedFact) -> Self {
        let fact = judged.fact.as_ref();
        Self {
            a: fact.and_then(|fact| fact.a.as_ref()).map(Identifier::from),
            b: fact.and_then(|fact| fact.b.as_ref()).map(Identifier::from),
            timestamp: fact.and_then(|fact| time(fact.timestamp.as_ref())),
            source: fact.map(|fact| fact.source.as_str()).unwrap_or_default(),
            message_id: fact.map(|fact| fact.message_id.as_str()).unwrap_or_default(),
            alias: fact.is_some_and(|fact| fact.alias),
            verdict: text(&judged.verdict),
            namespace: text(&judged.namespace),
        }
    }
}

#[derive(Debug, Serialize)]
struct Change<'a> {
    at: Option<String>,
    came: Vec<Identifier<'a>>,
    left: Vec<Identifier<'a>>,
    rules_version: u64,
}

/// What was taken back.
#[derive(Debug, Serialize)]
struct Retraction<'a> {
    id: &'a str,
    scope: ScopeOf<'a>,
    until: Option<String>,
    given_at: Option<String>,
    by: Option<&'a str>,
    reason: Option<&'a str>,
}

#[derive(Debug)]
struct ScopeOf<'a>(Option<&'a Scope>);

impl Serialize for ScopeOf<'_> {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        let named = |identifier: &Option<proto::Identifier>| {
            identifier.as_ref().map(|id| format!("{}:{}", id.namespace, id.value))
        };
        match self.0 {
            Some(Scope::Fact(fact)) => {
                map.serialize_entry("fact", &[named(&fact.a), named(&fact.b)])?;
                map.serialize_entry("source", &fact.source)?;
                map.serialize_entry("message_id", &fact.message_id)?;
            }
            Some(Scope::Pair(pair)) => map.serialize_entry("pair", &[named(&pair.a), named(&pair.b)])?,
            Some(Scope::Identifier(one)) => {
                map.serialize_entry("identifier", &format!("{}:{}", one.namespace, one.value))?;
            }
            Some(Scope::Source(source)) => map.serialize_entry("source", source)?,
            None => {}
        }
        map.end()
    }
}

/// The answer of `isthmus profile explain`.
#[derive(Debug, Serialize)]
pub struct Explanation<'a> {
    together: bool,
    chain: Vec<JudgedFact<'a>>,
    facts: Vec<JudgedFact<'a>>,
    history: Vec<Change<'a>>,
    retractions: Vec<Retraction<'a>>,
    rules_version: u64,
}

impl<'a> From<&'a proto::ExplainResponse> for Explanation<'a> {
    fn from(answer: &'a proto::ExplainResponse) -> Self {
        let identifiers = |all: &'a [proto::Identifier]| all.iter().map(Identifier::from).collect();
        Self {
            together: answer.together,
            chain: answer.chain.iter().map(JudgedFact::from).collect(),
            facts: answer.facts.iter().map(JudgedFact::from).collect(),
            history: answer
                .history
                .iter()
                .map(|change| Change {
                    at: time(change.at.as_ref()),
                    came: identifiers(&change.came),
                    left: identifiers(&change.left),
                    rules_version: change.rules_version,
                })
                .collect(),
            retractions: answer
                .retractions
                .iter()
                .map(|retraction| Retraction {
                    id: &retraction.id,
                    scope: ScopeOf(retraction.scope.as_ref().and_then(|scope| scope.scope.as_ref())),
                    until: time(retraction.until.as_ref()),
                    given_at: time(retraction.given_at.as_ref()),
                    by: text(&retraction.by),
                    reason: text(&retraction.reason),
                })
                .collect(),
            rules_version: answer.rules_version,
        }
    }
}

#[derive(Debug, Serialize)]
struct ChangedFact<'a> {
    now: Option<JudgedFact<'a>>,
    then: Option<JudgedFact<'a>>,
}

/// The answer of `isthmus profile split`.
#[derive(Debug, Serialize)]
pub struct Split<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Preview<'a>>,
}

#[derive(Debug, Serialize)]
struct Preview<'a> {
    before: Vec<Vec<Identifier<'a>>>,
    after: Vec<Vec<Identifier<'a>>>,
    facts: Vec<ChangedFact<'a>>,
}

impl<'a> Split<'a> {
    /// Of an answer to a request that was a preview, or was not.
    pub fn of(answer: &'a proto::SplitResponse, preview: bool) -> Self {
        let groups = |all: &'a [proto::IdentifierGroup]| {
            all.iter().map(|group| group.identifiers.iter().map(Identifier::from).collect()).collect()
        };
        let changed = |fact: &'a proto::ChangedFact| ChangedFact {
            now: fact.now.as_ref().map(JudgedFact::from),
            then: fact.then.as_ref().map(JudgedFact::from),
        };
        let preview = preview.then(|| Preview {
            before: groups(&answer.before),
            after: groups(&answer.after),
            facts: answer.facts.iter().map(changed).collect(),
        });
        Self { id: &answer.id, preview }
    }
}
