//! The whole of identity resolution in one place: facts and retractions in, profiles with their names out.
//!
//! A cluster spreads this over slots: the primary's slot keeps the facts and decides which of a row counts, each
//! identifier's slot decides whether it is shared, the bundle's root folds, the home names. Here one value plays all
//! of these parts, with the same pieces and no messages between them. So it says what the cluster has to come to, and
//! serves where all facts fit in memory: a review of a file before it is sent, a test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;

use super::component::Component;
use super::explain::{Explanation, Judged, Preview, WhatIf};
use super::fold::{Fold, News};
use super::pieces::RowKey;
use super::retraction::{Retraction, Retractions, oldest_left};
use super::rules::IdentityRules;
use super::sharing::Sharing;
use super::verdict::{Refusal, Verdict};
use crate::error::Error;
use crate::hash::{FacetId, IdentityKey, hash128};
use crate::identifier::Identifier;
use crate::link::{LinkFact, LinkRow};

/// All facts and retractions, and what they come to. `Debug` shows sizes.
#[derive(Clone)]
pub struct Ledger {
    key: IdentityKey,
    /// All accepted facts by row: a retraction may bring a younger one of a row to the front.
    facts: BTreeMap<RowKey, BTreeSet<LinkFact>>,
    rows: BTreeMap<RowKey, LinkRow>,
    retractions: Retractions,
    sharing: BTreeMap<FacetId, Sharing>,
    /// Version and flag of identifiers that are, or were, shared.
    shared: BTreeMap<FacetId, (u64, bool)>,
    first_seen: BTreeMap<FacetId, i64>,
    fold: Fold,
}

/// A component with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedProfile {
    /// The facet of the founding identifier.
    pub profile_id: FacetId,
    /// The founding identifier: see [`Component::founding`].
    pub founding: Identifier,
    /// The members and the home.
    pub component: Component,
}

impl NamedProfile {
    /// A protobuf message: `bytes` profile id = 1; founding identifier, `string` namespace = 2 and value = 3; the
    /// [component](Component::encode) = 4. Equal profiles are equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::Named {
            profile_id: self.profile_id.as_bytes().to_vec(),
            namespace: self.founding.namespace().to_string(),
            value: self.founding.value().to_owned(),
            component: self.component.encode(),
        }
        .encode_to_vec()
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new(key: IdentityKey, rules: Arc<IdentityRules>) -> Self {
        Self {
            key,
            facts: BTreeMap::new(),
            rows: BTreeMap::new(),
            retractions: Retractions::default(),
            sharing: BTreeMap::new(),
            shared: BTreeMap::new(),
            first_seen: BTreeMap::new(),
            fold: Fold::new(rules),
        }
    }

    /// Takes a fact. It is news only when it is older than the oldest of its pair, source and kind that counts.
    pub fn accept(&mut self, fact: LinkFact) -> Result<News, Error> {
        let source_and_kind = hash128(&self.key, &[b"row", &[fact.kind as u8], fact.source.as_bytes()]);
        let key = RowKey { a: self.facet(&fact.a), b: self.facet(&fact.b), source_and_kind };
        self.seen(&fact.a, fact.timestamp);
        self.facts.entry(key).or_default().insert(fact);
        self.review(key)
    }

    /// Takes an event without links: it may be the first of its identifier, which names the profile.
    pub fn seen(&mut self, identifier: &Identifier, timestamp: i64) {
        let first = self.first_seen.entry(FacetId::of(&self.key, identifier)).or_insert(timestamp);
        *first = timestamp.min(*first);
    }

    /// Takes a retraction; one that is known is no news.
    pub fn retract(&mut self, retraction: Retraction) -> Result<News, Error> {
        if !self.retractions.add(retraction) {
            return Ok(News::Known);
        }
        for key in self.facts.keys().copied().collect::<Vec<_>>() {
            self.review(key)?;
        }
        Ok(News::New)
    }

    /// Takes other rules.
    pub fn set_rules(&mut self, rules: Arc<IdentityRules>) -> Result<News, Error> {
        let news = self.fold.set_rules(rules);
        if news == News::New {
            // What the rules refuse by themselves isn't counted, so the counts are made anew.
            self.sharing.clear();
            let facts: Vec<_> =
                self.rows.iter().filter_map(|(k, row)| Some((*k, row.fact()?.clone()))).collect();
            for (key, fact) in facts {
                self.count(key, &fact, Sharing::add);
            }
            let facets: BTreeSet<FacetId> = self.rows.keys().flat_map(|key| [key.a, key.b]).collect();
            for facet in facets {
                self.flag(facet);
            }
        }
        Ok(news)
    }

    /// Decides anew which fact of a row counts, and what follows from that.
    fn review(&mut self, key: RowKey) -> Result<News, Error> {
        let facts = self.facts.get(&key).into_iter().flatten();
        let fact = oldest_left(facts, &self.retractions).cloned();
        let row = self.rows.entry(key).or_default();
        let before = row.fact().cloned();
        if !row.replace(fact.clone()) {
            return Ok(News::Known);
        }
        let news = self.fold.put(key, row)?;
        if let Some(before) = before {
            self.count(key, &before, Sharing::remove);
        }
        if let Some(fact) = fact {
            self.count(key, &fact, Sharing::add);
        }
        self.flag(key.a);
        self.flag(key.b);
        Ok(news)
    }

    fn count(&mut self, key: RowKey, fact: &LinkFact, how: fn(&mut Sharing, &crate::Namespace, FacetId)) {
        if self.fold.rules().refuses(fact).is_none() {
            how(self.sharing.entry(key.a).or_default(), fact.b.namespace(), key.b);
            how(self.sharing.entry(key.b).or_default(), fact.a.namespace(), key.a);
        }
    }

    fn flag(&mut self, facet: FacetId) {
        let is_shared = self.sharing.get(&facet).is_some_and(|counts| counts.is_shared(self.fold.rules()));
        let (version, was_shared) = self.shared.get(&facet).copied().unwrap_or_default();
        if is_shared != was_shared {
            self.shared.insert(facet, (version + 1, is_shared));
            self.fold.set_shared(facet, version + 1, is_shared);
        }
    }

    /// The fold, to step it or to look at it.
    pub fn fold_mut(&mut self) -> &mut Fold {
        &mut self.fold
    }

    /// The fold.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The facet of an identifier.
    pub fn facet(&self, identifier: &Identifier) -> FacetId {
        FacetId::of(&self.key, identifier)
    }

    /// All profiles of more than one identifier, by home. Folds what is left to fold.
    pub fn profiles(&mut self) -> Vec<NamedProfile> {
        self.fold.settle();
        let components = self.fold.components().unwrap_or_default();
        components.into_iter().map(|component| self.name(component)).collect()
    }

    fn name(&self, component: Component) -> NamedProfile {
        let founding = component.founding(|member| self.first_seen.get(&member.facet).copied());
        NamedProfile { profile_id: founding.facet, founding: founding.identifier.clone(), component }
    }

    /// Why two identifiers are one customer, or are not; the facts that a retraction suppresses are among the refused.
    pub fn explain(&self, x: &Identifier, y: &Identifier) -> Explanation {
        let (x_facet, y_facet) = (self.facet(x), self.facet(y));
        let mut explanation = self.fold.explain(x_facet, y_facet);
        let about: BTreeSet<&Identifier> = explanation
            .facts
            .iter()
            .flat_map(|judged| [&judged.fact.a, &judged.fact.b])
            .chain([x, y])
            .collect();
        let suppressed = self.facts.values().flatten().filter_map(|fact| {
            let by = self.retractions.suppressing(fact)?;
            (about.contains(&fact.a) || about.contains(&fact.b)).then(|| Judged {
                fact: Arc::new(fact.clone()),
                verdict: Verdict::Refused(Refusal::Retracted { by: by.id.clone() }),
            })
        });
        let suppressed: Vec<Judged> = suppressed.collect();
        explanation.facts.extend(suppressed);
        explanation.facts.sort();
        explanation
    }

    /// What a retraction would do, without doing it.
    pub fn propose(&self, retraction: &Retraction) -> Result<Preview, Error> {
        let mut then = self.clone();
        then.retract(retraction.clone())?;
        let rows = then.rows.iter().filter(|(key, row)| self.rows.get(key) != Some(row));
        let shared = then.shared.iter().filter(|(facet, flag)| self.shared.get(facet) != Some(flag));
        self.fold.preview(&WhatIf {
            rows: rows.map(|(key, row)| (*key, row.fact().cloned())).collect(),
            shared: shared.map(|(facet, (_, shared))| (*facet, *shared)).collect(),
        })
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("rows", &self.rows.len())
            .field("retractions", &self.retractions.iter().count())
            .field("fold", &self.fold)
            .finish_non_exhaustive()
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Named {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) profile_id: Vec<u8>,
        #[prost(string, tag = "2")]
        pub(super) namespace: String,
        #[prost(string, tag = "3")]
        pub(super) value: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) component: Vec<u8>,
    }
}
