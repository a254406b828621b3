//! The parts of a rule set, for those who show it to people.

use std::collections::{BTreeMap, BTreeSet};

use super::pattern::Pattern;
use super::rules::{IdentityRules, SourceTrust};
use crate::identifier::Namespace;

impl IdentityRules {
    /// The namespaces that lead, in order.
    pub fn priority_order(&self) -> &[Namespace] {
        &self.priority
    }

    /// The limits of namespaces that have their own.
    pub fn limits(&self) -> &BTreeMap<Namespace, u32> {
        &self.limits
    }

    /// The limit of each other namespace.
    pub fn other_limit(&self) -> u32 {
        self.other_limit
    }

    /// Blocked values, in lower case, by namespace; `None` is for all.
    pub fn blocked_values(&self) -> &BTreeMap<Option<Namespace>, BTreeSet<String>> {
        &self.blocked_values
    }

    /// Blocked patterns by namespace; `None` is for all.
    pub fn blocked_patterns(&self) -> &BTreeMap<Option<Namespace>, BTreeSet<Pattern>> {
        &self.blocked_patterns
    }

    /// The sources whose word counts otherwise than fully, and those named although it does.
    pub fn sources(&self) -> &BTreeMap<String, SourceTrust> {
        &self.sources
    }
}
