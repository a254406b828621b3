//! Identity rules: configuration, versioned, the same at every replica that applied the same commands.
//!
//! They say which of a profile's identifiers leads, how many of a namespace it may have, which values stand for
//! nobody, whose word counts, and when an identifier is shared. Facts are kept whatever the rules say, so a change of
//! rules is a refold, and changing them back gives back what was.
//!
//! Two things rules never change: which identifier of an event is its primary, and how an identifier is spelled. Both
//! decide where data lies.
//!
//! A rule set is built with [`IdentityRules::default`] and the `with_…` methods or read by
//! [`IdentityRules::decode`]; [`IdentityRules::validate`] checks it once, before it is proposed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::pattern::Pattern;
use super::verdict::Refusal;
use crate::identifier::{Identifier, Namespace, VALUE_BYTES_MAX, is_blocked_everywhere};
use crate::link::{LinkFact, LinkKind};

/// Most identifiers of a namespace that a limit may allow a profile.
pub const LIMIT_MAX: u32 = 100_000;
/// Most namespaces, sources, and blocked values and patterns of a rule set.
pub const ENTRIES_MAX: usize = 10_000;

/// How far a source's word counts when it says that two identifiers are one customer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SourceTrust {
    /// Its facts are followed, as those of any source that isn't named.
    #[default]
    Full,
    /// None of its facts is followed.
    Nothing,
    /// A fact of its is followed when both ends are of these namespaces.
    Only(BTreeSet<Namespace>),
}

/// The rules under which facts are followed. `Debug` shows no blocked value.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityRules {
    pub(super) version: u64,
    pub(super) priority: Vec<Namespace>,
    pub(super) limits: BTreeMap<Namespace, u32>,
    pub(super) other_limit: u32,
    /// By namespace; `None` is for all. In lower case.
    pub(super) blocked_values: BTreeMap<Option<Namespace>, BTreeSet<String>>,
    pub(super) blocked_patterns: BTreeMap<Option<Namespace>, BTreeSet<Pattern>>,
    pub(super) sources: BTreeMap<String, SourceTrust>,
    pub(super) shared_above: u32,
}

/// What is wrong with a rule set. Names namespaces and sources, never a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RulesError {
    /// Bytes are no rule set.
    #[error("cannot decode identity rules: {0}")]
    Decode(prost::DecodeError),
    /// A text that should be a namespace is none.
    #[error("{field}: a namespace is 1 to 64 characters of a-z, 0-9 and _")]
    BadNamespace {
        /// Which part of the rules.
        field: &'static str,
    },
    /// A namespace or a source is named twice in one list.
    #[error("{field}: {name} is named twice")]
    Twice {
        /// Which part of the rules.
        field: &'static str,
        /// The namespace or source.
        name: String,
    },
    /// A limit is out of bounds.
    #[error(
        "limits: the limit of {namespace} is {limit}; it must be 1 to {LIMIT_MAX} (to keep a namespace out of profiles, trust no source with it)"
    )]
    BadLimit {
        /// The namespace, or `other` for those not named.
        namespace: String,
        /// What was asked for.
        limit: u32,
    },
    /// The bound above which an identifier is shared is out of bounds.
    #[error("shared_above is {0}; it must be 2 to {LIMIT_MAX}")]
    BadSharedAbove(u32),
    /// A blocked value is blank or longer than an identifier can be.
    #[error("blocked: value {index} of {namespace} is blank or longer than 256 bytes")]
    BadValue {
        /// The namespace, or `all`.
        namespace: String,
        /// Which value of it, from 0.
        index: usize,
    },
    /// A pattern can't be read or would block every value.
    #[error(
        "blocked: pattern {index} of {namespace} is blank, too long, ends in a backslash or would block every value"
    )]
    BadPattern {
        /// The namespace, or `all`.
        namespace: String,
        /// Which pattern of it, from 0.
        index: usize,
    },
    /// A source's name is blank, or a trust is unknown.
    #[error("sources: entry {index} has no name or an unknown trust")]
    BadSource {
        /// Which source, from 0.
        index: usize,
    },
    /// A source is trusted with some namespaces only, and none is named.
    #[error(
        "sources: {source_name} is trusted with no namespace: name some, or say that nothing of it is trusted"
    )]
    NoNamespaces {
        /// The source.
        source_name: String,
    },
    /// A list is longer than anyone needs.
    #[error("{field}: more than {ENTRIES_MAX} entries")]
    TooMany {
        /// Which part of the rules.
        field: &'static str,
    },
}

impl Default for IdentityRules {
    /// Priority `user_id`, `email`, `phone`, others by name, `anonymous_id`; one `user_id`, 1,000 `anonymous_id`, 20
    /// of each other namespace; placeholders blocked; every source trusted; shared above 32 counterparts. Version 0.
    fn default() -> Self {
        Self {
            version: 0,
            priority: vec![Namespace::USER_ID, Namespace::EMAIL, Namespace::PHONE],
            limits: BTreeMap::from([(Namespace::USER_ID, 1), (Namespace::ANONYMOUS_ID, 1_000)]),
            other_limit: 20,
            blocked_values: BTreeMap::new(),
            blocked_patterns: BTreeMap::new(),
            sources: BTreeMap::new(),
            shared_above: 32,
        }
    }
}

impl IdentityRules {
    /// The version, which rises with every change; a profile says under which it was formed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same rules under a version.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// The namespaces that lead, in order; the others follow by name, then `anonymous_id` unless it is listed.
    #[must_use]
    pub fn with_priority(mut self, priority: impl IntoIterator<Item = Namespace>) -> Self {
        self.priority = priority.into_iter().collect();
        self
    }

    /// At most this many identifiers of the namespace in a profile.
    #[must_use]
    pub fn with_limit(mut self, namespace: Namespace, limit: u32) -> Self {
        self.limits.insert(namespace, limit);
        self
    }

    /// The limit of each namespace that has none of its own.
    #[must_use]
    pub fn with_other_limit(mut self, limit: u32) -> Self {
        self.other_limit = limit;
        self
    }

    /// Blocks a value, in one namespace or in all; spelled as a sender would, in any case.
    #[must_use]
    pub fn with_blocked_value(mut self, namespace: Option<Namespace>, value: &str) -> Self {
        let spelled = namespace.clone().and_then(|n| Identifier::normalise(n, value).ok());
        let value = spelled.as_ref().map_or(value.trim(), Identifier::value).to_lowercase();
        self.blocked_values.entry(namespace).or_default().insert(value);
        self
    }

    /// Blocks what a pattern matches, in one namespace or in all.
    #[must_use]
    pub fn with_blocked_pattern(mut self, namespace: Option<Namespace>, pattern: Pattern) -> Self {
        self.blocked_patterns.entry(namespace).or_default().insert(pattern);
        self
    }

    /// How far a source's word counts.
    #[must_use]
    pub fn with_source(mut self, source: &str, trust: SourceTrust) -> Self {
        self.sources.insert(source.to_owned(), trust);
        self
    }

    /// An identifier with more distinct counterparts than this in a namespace whose limit is one is shared.
    #[must_use]
    pub fn with_shared_above(mut self, counterparts: u32) -> Self {
        self.shared_above = counterparts;
        self
    }

    /// Checks bounds; what fails here is never proposed.
    pub fn validate(&self) -> Result<(), RulesError> {
        let mut named = BTreeSet::new();
        if let Some(twice) = self.priority.iter().find(|n| !named.insert(*n)) {
            return Err(RulesError::Twice { field: "priority", name: twice.to_string() });
        }
        let limits = self.limits.iter().map(|(n, limit)| (n.to_string(), *limit));
        for (namespace, limit) in limits.chain([("other".to_owned(), self.other_limit)]) {
            if !(1..=LIMIT_MAX).contains(&limit) {
                return Err(RulesError::BadLimit { namespace, limit });
            }
        }
        if !(2..=LIMIT_MAX).contains(&self.shared_above) {
            return Err(RulesError::BadSharedAbove(self.shared_above));
        }
        for (namespace, values) in &self.blocked_values {
            let bad = |v: &String| v.trim().is_empty() || v.len() > VALUE_BYTES_MAX;
            if let Some(index) = values.iter().position(bad) {
                return Err(RulesError::BadValue { namespace: named_or_all(namespace), index });
            }
        }
        for (namespace, patterns) in &self.blocked_patterns {
            if let Some(index) = patterns.iter().position(|p| p.as_str().len() > VALUE_BYTES_MAX) {
                return Err(RulesError::BadPattern { namespace: named_or_all(namespace), index });
            }
        }
        for (index, (source, trust)) in self.sources.iter().enumerate() {
            if source.trim().is_empty() {
                return Err(RulesError::BadSource { index });
            }
            if matches!(trust, SourceTrust::Only(namespaces) if namespaces.is_empty()) {
                return Err(RulesError::NoNamespaces { source_name: source.clone() });
            }
        }
        let blocked = self.blocked_values.values().map(BTreeSet::len).sum::<usize>()
            + self.blocked_patterns.values().map(BTreeSet::len).sum::<usize>();
        for (field, length) in [
            ("priority", self.priority.len()),
            ("limits", self.limits.len()),
            ("blocked", blocked),
            ("sources", self.sources.len()),
        ] {
            if length > ENTRIES_MAX {
                return Err(RulesError::TooMany { field });
            }
        }
        Ok(())
    }

    /// How many identifiers of the namespace a profile may have.
    pub fn limit(&self, namespace: &Namespace) -> u32 {
        self.limits.get(namespace).copied().unwrap_or(self.other_limit)
    }

    /// Above how many distinct counterparts of a namespace whose limit is one an identifier is shared.
    pub fn shared_above(&self) -> u32 {
        self.shared_above
    }

    /// Where a namespace stands among others: the smaller leads.
    pub fn priority<'a>(&self, namespace: &'a Namespace) -> (usize, &'a str) {
        match self.priority.iter().position(|n| n == namespace) {
            Some(place) => (place, ""),
            None if *namespace == Namespace::ANONYMOUS_ID => (usize::MAX, ""),
            None => (self.priority.len(), namespace.as_str()),
        }
    }

    /// Whether the identifier's value stands for nobody.
    pub fn blocks(&self, identifier: &Identifier) -> bool {
        if is_blocked_everywhere(identifier.value()) {
            return true;
        }
        if self.blocked_values.is_empty() && self.blocked_patterns.is_empty() {
            return false;
        }
        let value = identifier.value().to_lowercase();
        let own = Some(identifier.namespace().clone());
        [&None, &own].into_iter().any(|namespace| {
            self.blocked_values.get(namespace).is_some_and(|values| values.contains(&value))
                || self
                    .blocked_patterns
                    .get(namespace)
                    .is_some_and(|patterns| patterns.iter().any(|p| p.matches_lower(&value)))
        })
    }

    /// Whether the source's word counts for a link between these namespaces.
    pub fn trusts(&self, source: &str, a: &Namespace, b: &Namespace) -> bool {
        match self.sources.get(source) {
            None | Some(SourceTrust::Full) => true,
            Some(SourceTrust::Nothing) => false,
            Some(SourceTrust::Only(namespaces)) => namespaces.contains(a) && namespaces.contains(b),
        }
    }

    /// Why the fact could never be followed under these rules, whatever other facts there are.
    pub fn refuses(&self, fact: &LinkFact) -> Option<Refusal> {
        if fact.a == fact.b {
            Some(Refusal::SelfLink)
        } else if self.blocks(&fact.a) || self.blocks(&fact.b) {
            Some(Refusal::Blocked)
        } else if !self.trusts(&fact.source, fact.a.namespace(), fact.b.namespace()) {
            Some(Refusal::SourceNotTrusted)
        } else {
            None
        }
    }

    /// Whether a link of this kind is free of the namespace's limit: an alias of that of `user_id`.
    pub fn exempts(kind: LinkKind, namespace: &Namespace) -> bool {
        kind == LinkKind::Alias && *namespace == Namespace::USER_ID
    }
}

pub(super) fn named_or_all(namespace: &Option<Namespace>) -> String {
    namespace.as_ref().map_or_else(|| "all".to_owned(), Namespace::to_string)
}

impl fmt::Debug for IdentityRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityRules")
            .field("version", &self.version)
            .field("priority", &self.priority)
            .field("limits", &self.limits)
            .field("other_limit", &self.other_limit)
            .field("sources", &self.sources)
            .field("shared_above", &self.shared_above)
            .finish_non_exhaustive()
    }
}
