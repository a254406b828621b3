//! Which events touch which terms; and what one plan has to know beyond what is known by another.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::EventType;

use super::{Plan, Touched};
use crate::{
    scalar::Path,
    term::{Term, TermId},
    tree::Events,
};

/// What a plan has to know of events, besides when they were, of which kind, and their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// Changes of traits.
    pub traits: bool,
    /// Their revenue.
    pub revenue: bool,
    /// Their properties.
    pub properties: bool,
    /// Their context.
    pub context: bool,
    /// Their source and message id.
    pub senders: bool,
    /// Their keys.
    pub keys: bool,
}

impl Plan {
    /// Finds which events touch which of some terms.
    pub(super) fn index(&mut self, is_one: impl Fn(TermId) -> bool) {
        for (index, planned) in self.terms.iter().enumerate().filter(|(_, planned)| is_one(planned.id)) {
            match &planned.term {
                Term::Trait(name) => _ = self.traits.insert(name.clone(), index),
                Term::Seen => self.seen = Some(index),
                Term::Revenue(currency) => _ = self.revenue.insert(currency.clone(), index),
                Term::Consent(purpose) => {
                    let keys = ["context", "consent", "categoryPreferences", purpose];
                    self.consent.push((Path::new(keys.map(str::to_owned).to_vec()), index));
                }
                Term::Fold { events, .. } | Term::Times { events, .. } | Term::Entries { events, .. } => {
                    let Events { kind, names, .. } = events;
                    const ALL: [EventType; 6] = [
                        EventType::Identify,
                        EventType::Track,
                        EventType::Page,
                        EventType::Screen,
                        EventType::Group,
                        EventType::Alias,
                    ];
                    for kind in ALL.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one)) {
                        let by_name = self.events.entry(kind).or_default();
                        if names.is_empty() {
                            by_name.any.push(index);
                        }
                        for name in names {
                            by_name.named.entry(name.clone()).or_default().push(index);
                        }
                    }
                }
            }
        }
    }

    /// What has to be known of events.
    pub fn reads(&self) -> Reads {
        let by_name = self.events.values();
        let touched = by_name.flat_map(|by_name| by_name.named.values().flatten().chain(&by_name.any));
        let mut reads = Reads {
            traits: !self.traits.is_empty(),
            revenue: !self.revenue.is_empty(),
            context: !self.consent.is_empty(),
            senders: !self.traits.is_empty() || !self.consent.is_empty(),
            ..Reads::default()
        };
        for planned in touched.filter_map(|index| self.term(*index)) {
            reads.properties |= planned.reads_properties;
            reads.keys |= planned.term.of_property().is_some();
        }
        reads
    }

    /// The same plan for events that states know by another one already: they touch only terms that the other doesn't
    /// have. `None`: there are none.
    pub fn beyond(&self, other: &Self) -> Option<Self> {
        let known: BTreeSet<TermId> = other.terms().map(|(id, _)| id).collect();
        if self.terms().all(|(id, _)| known.contains(&id)) {
            return None;
        }
        let mut plan = Self {
            events: BTreeMap::new(),
            traits: BTreeMap::new(),
            revenue: BTreeMap::new(),
            consent: Vec::new(),
            seen: None,
            ..self.clone()
        };
        plan.index(|id| !known.contains(&id));
        Some(plan)
    }

    /// The definitions that another plan doesn't have, or that mean something else there.
    pub fn unlike(&self, other: &Self) -> Touched {
        let mut unlike = Touched::default();
        for (index, definition) in self.definitions.iter().enumerate() {
            let same = other.position(definition.id).and_then(|at| other.definitions.get(at));
            let is_same = same.is_some_and(|same| same.tree == definition.tree);
            // What they build on comes before them.
            if !is_same || definition.needs.iter().any(|needed| unlike.contains(*needed)) {
                unlike.insert(index);
            }
        }
        unlike
    }
}
