//! What a cluster has to come to, worked out in one place, one event after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isthmus_domain::identity::{IdentityRules, Ledger};
use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, FacetId, FacetSummary, Identifier, IdentityKey, Limits,
    LinkFact, Namespace, Profile, RawItem, SourceView, Stamp, accept,
};
use serde_json::Value;

use crate::people::{SOURCES, Sent};

/// The identity key of all clusters here.
pub const KEY: [u8; 32] = [0x5a; 32];
/// 2026-02-01T00:00:00Z: after all events.
const NOW: i64 = 1_769_904_000_000_000;

/// All events that were sent, each once.
#[derive(Default)]
pub struct Reference {
    facets: BTreeMap<FacetId, Facet>,
    facts: Vec<LinkFact>,
    known: BTreeSet<[u8; 16]>,
}

struct Facet {
    identifier: Identifier,
    summary: FacetSummary,
    events: Vec<EventRecord>,
}

/// A customer as a cluster is to show it.
#[derive(Debug, PartialEq)]
pub struct Customer {
    /// As `isthmus profile list` prints it, without what depends on when it was asked and by which rules.
    pub shown: Value,
    /// The events, newest first.
    pub timeline: Vec<Seen>,
}

/// An event of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Microseconds since the epoch.
    pub timestamp: i64,
    pub message_id: String,
    pub source: String,
    pub name: String,
    /// Namespace and value of the identifier that it was filed under.
    pub primary: (String, String),
}

impl Reference {
    /// All events of a list.
    pub fn of(all: &[Sent]) -> Self {
        let sources: BTreeMap<&str, SourceView> =
            SOURCES.iter().map(|(name, ..)| (*name, view(name))).collect();
        let mut reference = Self::default();
        for sent in all {
            reference.take(sent, &sources[sent.source]);
        }
        reference
    }

    fn take(&mut self, sent: &Sent, source: &SourceView) {
        let (key, blocked) = (IdentityKey::new(KEY), BlockedValues::default());
        let context = AcceptContext {
            source,
            key: &key,
            now_micros: NOW,
            sent_at: None,
            limits: Limits::default(),
            blocked: &blocked,
            make_message_id: &|| unreachable!("every event has a message id"),
        };
        let accepted = accept(RawItem::Json(sent.json.as_bytes()), &context).unwrap();
        let record = accepted.record;
        if !self.known.insert(record.dedup_key()) {
            return;
        }
        self.facts.extend(record.link_facts().map(Result::unwrap));
        let facet = self.facets.entry(accepted.facet).or_insert_with(|| Facet {
            identifier: record.identifier().unwrap(),
            summary: FacetSummary::default(),
            events: Vec::new(),
        });
        facet.summary.absorb(&record);
        facet.events.push(record);
    }

    /// How many link facts there are, and how many of a source.
    pub fn facts(&self, source: &str) -> (usize, usize) {
        (self.facts.len(), self.facts.iter().filter(|fact| fact.source == source).count())
    }

    /// Who came to be one customer, by name; without the link facts of a source, if one is named.
    pub fn customers(&self, without: Option<&str>) -> BTreeMap<String, Customer> {
        let key = IdentityKey::new(KEY);
        let mut ledger = Ledger::new(key.clone(), Arc::new(IdentityRules::default()));
        for facet in self.facets.values() {
            facet.events.iter().for_each(|event| ledger.seen(&facet.identifier, event.timestamp));
        }
        for fact in self.facts.iter().filter(|fact| Some(fact.source.as_str()) != without) {
            ledger.accept(fact.clone()).unwrap();
        }
        let mut alone: BTreeSet<FacetId> = self.facets.keys().copied().collect();
        let mut customers = BTreeMap::new();
        for named in ledger.profiles() {
            let members = named.component.members();
            members.iter().for_each(|member| _ = alone.remove(&member.facet));
            let members = members.iter().map(|member| (member.facet, member.identifier.clone()));
            let (name, customer) = self.customer(&key, members.collect());
            assert_eq!(name, named.profile_id.to_string());
            customers.insert(name, customer);
        }
        for facet in alone {
            let identifier = self.facets[&facet].identifier.clone();
            customers.extend([self.customer(&key, vec![(facet, identifier)])]);
        }
        customers
    }

    fn customer(&self, key: &IdentityKey, members: Vec<(FacetId, Identifier)>) -> (String, Customer) {
        let nothing = FacetSummary::default();
        let summary = |facet| self.facets.get(facet).map_or(&nothing, |facet| &facet.summary);
        let folded = members.iter().map(|(facet, identifier)| (identifier.clone(), summary(facet)));
        let profile = Profile::fold(key, folded, "USD", Stamp::ZERO).unwrap();
        let mut shown: Value = serde_json::from_slice(&profile.to_json()).unwrap();
        let types = profile.type_counts.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into()));
        shown["type_counts"] = Value::Object(types.collect());
        shown.as_object_mut().unwrap().remove("version");
        let of_members = members.iter().filter_map(|(facet, _)| self.facets.get(facet));
        let mut events: Vec<&EventRecord> = of_members.flat_map(|facet| &facet.events).collect();
        events.sort_by_key(|event| std::cmp::Reverse(place(event)));
        let seen = |event: &EventRecord| Seen {
            timestamp: event.timestamp,
            message_id: event.message_id.clone(),
            source: event.source.clone(),
            name: event.name.clone(),
            primary: (event.namespace.clone(), event.value.clone()),
        };
        let timeline = events.into_iter().map(seen).collect();
        (profile.profile_id.to_string(), Customer { shown, timeline })
    }
}

/// Where an event stands in a timeline: its time, then its identifier's slot (14 bits), then the rest of its key.
fn place(event: &EventRecord) -> (i64, [u8; 16]) {
    let mut key = event.dedup_key();
    let slot = event.slot().number() << 2;
    key[0] = (slot >> 8) as u8;
    key[1] = slot as u8 | key[1] & 3;
    (event.timestamp, key)
}

/// A source as the cluster was told of it.
fn view(name: &str) -> SourceView {
    let mut view = SourceView::new(name);
    if let Some((_, Some(leading), _)) = SOURCES.iter().find(|(known, ..)| *known == name) {
        view.primary_order = vec![Namespace::parse(leading).unwrap()];
    }
    view
}
