//! The identifiers of a bundle, numbered in the order in which the fold met them.
//!
//! Numbers are an inner matter: they differ between two folds of the same facts, so nothing that is stored or shown
//! holds one. What the rules say about an identifier alone is worked out once, not once for each of its facts.

use std::collections::BTreeMap;

use super::rules::IdentityRules;
use crate::error::Error;
use crate::hash::FacetId;
use crate::identifier::{Identifier, Namespace};

/// The number of an identifier in its fold.
pub(super) type Number = u32;

/// All identifiers that a fold has met.
#[derive(Clone, Default)]
pub(super) struct Members {
    numbers: BTreeMap<FacetId, Number>,
    all: Vec<Known>,
    namespaces: Vec<Space>,
}

#[derive(Clone)]
pub(super) struct Known {
    pub(super) facet: FacetId,
    pub(super) identifier: Identifier,
    /// Its place among the namespaces met so far.
    pub(super) space: u16,
    pub(super) blocked: bool,
    pub(super) shared: bool,
}

#[derive(Clone)]
struct Space {
    namespace: Namespace,
    limit: u32,
}

const TAKEN: Error = Error::Invalid { what: "link row", why: "its facet is that of another identifier" };
const TOO_MANY: Error = Error::Invalid { what: "link row", why: "its bundle has too many identifiers" };

impl Members {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, number: Number) -> &Known {
        &self.all[number as usize]
    }

    pub(super) fn number(&self, facet: &FacetId) -> Option<Number> {
        self.numbers.get(facet).copied()
    }

    pub(super) fn namespace(&self, space: u16) -> &Namespace {
        &self.namespaces[usize::from(space)].namespace
    }

    pub(super) fn limit(&self, space: u16) -> u32 {
        self.namespaces[usize::from(space)].limit
    }

    /// Whether [`Self::take`] would refuse this pair of facet and identifier.
    pub(super) fn check(&self, facet: FacetId, identifier: &Identifier) -> Result<(), Error> {
        match self.number(&facet) {
            Some(number) if self.get(number).identifier != *identifier => Err(TAKEN),
            Some(_) => Ok(()),
            None if self.all.len() >= u32::MAX as usize || self.namespaces.len() >= usize::from(u16::MAX) => {
                Err(TOO_MANY)
            }
            None => Ok(()),
        }
    }

    /// The number of an identifier, a new one when it wasn't known.
    pub(super) fn take(
        &mut self,
        facet: FacetId,
        identifier: &Identifier,
        rules: &IdentityRules,
        shared: bool,
    ) -> Result<Number, Error> {
        self.check(facet, identifier)?;
        if let Some(number) = self.number(&facet) {
            return Ok(number);
        }
        let namespace = identifier.namespace();
        let space = self.namespaces.iter().position(|s| s.namespace == *namespace).unwrap_or_else(|| {
            self.namespaces.push(Space { namespace: namespace.clone(), limit: rules.limit(namespace) });
            self.namespaces.len() - 1
        });
        let number = self.all.len() as Number;
        self.all.push(Known {
            facet,
            identifier: identifier.clone(),
            space: space as u16,
            blocked: rules.blocks(identifier),
            shared,
        });
        self.numbers.insert(facet, number);
        Ok(number)
    }

    pub(super) fn set_shared(&mut self, number: Number, shared: bool) {
        self.all[number as usize].shared = shared;
    }

    /// Works out anew what the rules say about each identifier.
    pub(super) fn set_rules(&mut self, rules: &IdentityRules) {
        for space in &mut self.namespaces {
            space.limit = rules.limit(&space.namespace);
        }
        for known in &mut self.all {
            known.blocked = rules.blocks(&known.identifier);
        }
    }
}
