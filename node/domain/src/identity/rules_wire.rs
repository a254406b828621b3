//! Identity rules as bytes: a protobuf message in one canonical form, so that equal rules are equal bytes.
//!
//! | tag | field |
//! | --- | --- |
//! | 1 | `uint64` version |
//! | 2 | repeated `string` priority: namespaces that lead, in order |
//! | 3 | repeated limit: `string` namespace = 1, `uint32` limit = 2; sorted |
//! | 4 | `uint32` limit of the other namespaces |
//! | 5 | repeated block: `string` namespace = 1 (empty: all), repeated `string` values = 2, patterns = 3; sorted |
//! | 6 | repeated source: `string` name = 1, trust = 2 (0 full, 1 nothing, 2 only), repeated `string` namespaces = 3 |
//! | 7 | `uint32` shared above |
//!
//! Tags never change their meaning. Decoding validates: what comes out is a rule set that may be applied.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::pattern::Pattern;
use super::rules::{IdentityRules, RulesError, SourceTrust, named_or_all};
use crate::identifier::Namespace;

#[derive(Clone, PartialEq, Message)]
struct Rules {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(string, repeated, tag = "2")]
    priority: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    limits: Vec<Limit>,
    #[prost(uint32, tag = "4")]
    other_limit: u32,
    #[prost(message, repeated, tag = "5")]
    blocked: Vec<Block>,
    #[prost(message, repeated, tag = "6")]
    sources: Vec<Source>,
    #[prost(uint32, tag = "7")]
    shared_above: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Limit {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(uint32, tag = "2")]
    limit: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Block {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, repeated, tag = "2")]
    values: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    patterns: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Source {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    trust: u32,
    #[prost(string, repeated, tag = "3")]
    namespaces: Vec<String>,
}

fn namespace(text: &str, field: &'static str) -> Result<Namespace, RulesError> {
    Namespace::stored(text).map_err(|_| RulesError::BadNamespace { field })
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

impl IdentityRules {
    /// The canonical encoding: see the module's table.
    pub fn encode(&self) -> Vec<u8> {
        let namespaces: BTreeSet<&Option<Namespace>> =
            self.blocked_values.keys().chain(self.blocked_patterns.keys()).collect();
        let block = |n: &Option<Namespace>| Block {
            namespace: n.as_ref().map(Namespace::to_string).unwrap_or_default(),
            values: texts(self.blocked_values.get(n).into_iter().flatten()),
            patterns: texts(self.blocked_patterns.get(n).into_iter().flatten().map(Pattern::as_str)),
        };
        let source = |(name, trust): (&String, &SourceTrust)| {
            let (trust, namespaces) = match trust {
                SourceTrust::Full => (0, vec![]),
                SourceTrust::Nothing => (1, vec![]),
                SourceTrust::Only(namespaces) => (2, texts(namespaces)),
            };
            Source { name: name.clone(), trust, namespaces }
        };
        let limit = |(n, limit): (&Namespace, &u32)| Limit { namespace: n.to_string(), limit: *limit };
        Rules {
            version: self.version,
            priority: texts(&self.priority),
            limits: self.limits.iter().map(limit).collect(),
            other_limit: self.other_limit,
            blocked: namespaces.into_iter().map(block).collect(),
            sources: self.sources.iter().map(source).collect(),
            shared_above: self.shared_above,
        }
        .encode_to_vec()
    }

    /// Reads [`Self::encode`] back and validates it.
    pub fn decode(bytes: &[u8]) -> Result<Self, RulesError> {
        let sent = Rules::decode(bytes).map_err(RulesError::Decode)?;
        let twice = |field, name: &str| RulesError::Twice { field, name: name.to_owned() };
        let priority = sent.priority.iter().map(|n| namespace(n, "priority")).collect::<Result<_, _>>()?;
        let mut limits = BTreeMap::new();
        for entry in &sent.limits {
            if limits.insert(namespace(&entry.namespace, "limits")?, entry.limit).is_some() {
                return Err(twice("limits", &entry.namespace));
            }
        }
        let mut rules = Self {
            version: sent.version,
            priority,
            limits,
            other_limit: sent.other_limit,
            blocked_values: BTreeMap::new(),
            blocked_patterns: BTreeMap::new(),
            sources: BTreeMap::new(),
            shared_above: sent.shared_above,
        };
        for entry in &sent.blocked {
            let of = match entry.namespace.as_str() {
                "" => None,
                named => Some(namespace(named, "blocked")?),
            };
            if rules.blocked_values.contains_key(&of) || rules.blocked_patterns.contains_key(&of) {
                return Err(twice("blocked", &named_or_all(&of)));
            }
            for (index, value) in entry.values.iter().enumerate() {
                if value.trim().is_empty() {
                    return Err(RulesError::BadValue { namespace: named_or_all(&of), index });
                }
                rules = rules.with_blocked_value(of.clone(), value);
            }
            for (index, pattern) in entry.patterns.iter().enumerate() {
                let bad = || RulesError::BadPattern { namespace: named_or_all(&of), index };
                rules = rules.with_blocked_pattern(of.clone(), Pattern::parse(pattern).ok_or_else(bad)?);
            }
        }
        for (index, entry) in sent.sources.iter().enumerate() {
            let trust = match entry.trust {
                0 => SourceTrust::Full,
                1 => SourceTrust::Nothing,
                2 => SourceTrust::Only(
                    entry.namespaces.iter().map(|n| namespace(n, "sources")).collect::<Result<_, _>>()?,
                ),
                _ => return Err(RulesError::BadSource { index }),
            };
            if rules.sources.insert(entry.name.clone(), trust).is_some() {
                return Err(twice("sources", &entry.name));
            }
        }
        rules.validate()?;
        Ok(rules)
    }
}
