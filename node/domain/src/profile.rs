//! Profiles: what the facets of one customer come to.
//!
//! A profile is a view, never stored as a fact: [`Profile::fold`] makes it of the summaries of the facets that
//! identity resolution puts together. The fold takes the members in any order, and a member's summary in any number
//! of disjoint parts; the result is the same to the byte. So merging two profiles doubles no counter, and parting
//! them gives back exactly what was there.
//!
//! The name of a profile is the facet id of its *founding identifier*: the member with the smallest (first
//! timestamp, priority, value). A member without an event of its own (a counterpart that was only linked) founds
//! nothing while another has one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::amount::Amount;
use crate::event::EventType;
use crate::facet::{FacetSummary, TraitState};
use crate::hash::{FacetId, IdentityKey};
use crate::identifier::Identifier;
use crate::stamp::Stamp;
use crate::value::{rfc3339, write_json_string};

/// One customer, as seen at one version. `Debug` shows no personal data.
#[derive(Clone, PartialEq)]
pub struct Profile {
    /// The name: the facet id of the founding identifier.
    pub profile_id: FacetId,
    /// The members, by priority, then value.
    pub identifiers: Vec<Identifier>,
    /// The newest value of each trait with who said it when; removed traits are not among them.
    pub traits: BTreeMap<String, TraitState<'static>>,
    /// `track` events by name.
    pub event_counts: BTreeMap<String, u64>,
    /// All other events by type.
    pub type_counts: BTreeMap<EventType, u64>,
    /// All events.
    pub events: u64,
    /// The sum of revenue in the default currency.
    pub revenue: Amount,
    /// The sums of revenue in all currencies, the default one included when there was any in it.
    pub revenue_by_currency: BTreeMap<String, Amount>,
    /// Microseconds since the epoch; `None` when no member has an event.
    pub first_seen: Option<i64>,
    /// Microseconds since the epoch; `None` when no member has an event.
    pub last_seen: Option<i64>,
    /// The sources that sent something.
    pub sources: BTreeSet<String>,
    /// The stamp up to which everything is in.
    pub version: Stamp,
}

impl Profile {
    /// Folds the summaries of the members; `None` when there is no member.
    ///
    /// The same identifier may come several times, with summaries of disjoint sets of events. Revenue that came
    /// without a currency was filed under its source's default currency when it was accepted.
    pub fn fold<'a>(
        key: &IdentityKey,
        members: impl IntoIterator<Item = (Identifier, &'a FacetSummary)>,
        default_currency: &str,
        version: Stamp,
    ) -> Option<Self> {
        let mut sum = FacetSummary::default();
        let mut identifiers = BTreeSet::new();
        let mut founding: Option<(i64, Identifier)> = None;
        for (identifier, summary) in members {
            let candidate = (summary.first_seen().unwrap_or(i64::MAX), identifier.clone());
            if founding.as_ref().is_none_or(|known| candidate < *known) {
                founding = Some(candidate);
            }
            // Everything but the identifier of a sum over several facets has its meaning there, too.
            sum.merge(summary);
            identifiers.insert(identifier);
        }
        let (_, founding) = founding?;
        let revenue = sum.revenue().get(default_currency).cloned().unwrap_or_default();
        let shown = sum.traits().iter().filter(|(_, state)| !state.is_removed());
        Some(Self {
            profile_id: FacetId::of(key, &founding),
            identifiers: identifiers.into_iter().collect(),
            traits: shown.map(|(name, state)| (name.to_string(), state.clone())).collect(),
            event_counts: sum.event_counts().iter().map(|(name, n)| (name.to_string(), *n)).collect(),
            type_counts: sum.type_counts().collect(),
            events: sum.events(),
            revenue,
            revenue_by_currency: sum
                .revenue()
                .iter()
                .map(|(code, sum)| (code.to_string(), sum.clone()))
                .collect(),
            first_seen: sum.first_seen(),
            last_seen: sum.last_seen(),
            sources: sum.sources().keys().map(|name| name.to_string()).collect(),
            version,
        })
    }

    /// The profile as the one JSON object that `isthmus profile get` prints: decimals as strings, times in RFC 3339,
    /// traits as they were sent. Equal profiles are equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"profile_id\":");
        write_json_string(&self.profile_id.to_string(), &mut out);
        out.extend_from_slice(b",\"identifiers\":");
        list(&mut out, &self.identifiers, |out, identifier| {
            out.extend_from_slice(b"{\"namespace\":");
            write_json_string(identifier.namespace().as_str(), out);
            out.extend_from_slice(b",\"value\":");
            write_json_string(identifier.value(), out);
            out.push(b'}');
        });
        out.extend_from_slice(b",\"traits\":");
        object(&mut out, &self.traits, |out, state| out.extend_from_slice(&state.value));
        out.extend_from_slice(b",\"event_counts\":");
        object(&mut out, &self.event_counts, |out, n| out.extend_from_slice(n.to_string().as_bytes()));
        out.extend_from_slice(b",\"revenue\":");
        write_json_string(&self.revenue.to_string(), &mut out);
        out.extend_from_slice(b",\"revenue_by_currency\":");
        object(&mut out, &self.revenue_by_currency, |out, sum| write_json_string(&sum.to_string(), out));
        out.extend_from_slice(b",\"first_seen\":");
        time(&mut out, self.first_seen);
        out.extend_from_slice(b",\"last_seen\":");
        time(&mut out, self.last_seen);
        out.extend_from_slice(b",\"sources\":");
        list(&mut out, &self.sources, |out, source| write_json_string(source, out));
        out.extend_from_slice(b",\"version\":");
        write_json_string(&self.version.to_string(), &mut out);
        out.push(b'}');
        out
    }
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn object<T>(out: &mut Vec<u8>, map: &BTreeMap<String, T>, mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json_string(key, out);
        out.push(b':');
        write(out, value);
    }
    out.push(b'}');
}

fn time(out: &mut Vec<u8>, micros: Option<i64>) {
    match micros.and_then(rfc3339) {
        Some(text) => write_json_string(&text, out),
        None => out.extend_from_slice(b"null"),
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("profile_id", &self.profile_id)
            .field("identifiers", &self.identifiers)
            .field("events", &self.events)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
