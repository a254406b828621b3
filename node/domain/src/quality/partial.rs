//! Sums on their way: what some of the events come to.

use std::collections::BTreeMap;

use super::customer::{Customer, Newest, put};
use super::rules::{TraitRules, Verdict};
use super::sums::Sums;
use super::{Overlap, Report, SourceQuality, TraitQuality};
use crate::error::Error;
use crate::hash::FacetId;
use crate::record::TraitChange;
use crate::value::json;

/// What a report is asked for; the same for all partials of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Only groups of this source; empty: of all. Other sources still count for consistency.
    pub source: String,
    /// Values that were set at this time (microseconds since the epoch) or later are up to date.
    pub updated_since: i64,
}

/// An `identify` event.
#[derive(Clone, Copy, Debug)]
pub struct Identified<'a> {
    /// The customer.
    pub facet: FacetId,
    /// Who says so.
    pub source: &'a str,
    /// When it happened, microseconds since the epoch.
    pub timestamp: i64,
    /// What orders events of one time.
    pub key: [u8; 16],
    /// When it was received, microseconds since the epoch.
    pub received: i64,
    /// What it says.
    pub traits: &'a [TraitChange],
}

/// What some of the events come to. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    settings: Settings,
    open: BTreeMap<FacetId, Customer>,
    sums: Sums,
}

impl Partial {
    /// Nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, open: BTreeMap::new(), sums: Sums::default() }
    }

    fn wants(&self, source: &str) -> bool {
        self.settings.source.is_empty() || self.settings.source == source
    }

    /// Adds an event; each one once. Its customer is open until [`Partial::close`].
    pub fn add(&mut self, event: &Identified<'_>) {
        let wanted = self.wants(event.source);
        if wanted {
            self.sums.sources.entry(event.source.to_owned()).or_default().events += 1;
        }
        let customer = self.open.entry(event.facet).or_default();
        let known = customer.source(event.source);
        for change in event.traits {
            let newest = Newest { order: (event.timestamp, event.key), value: change.value.clone() };
            put(known, change.name.clone(), newest);
            if wanted && !change.is_removed() {
                let lag = event.received.saturating_sub(event.timestamp);
                self.sums.group(event.source, &change.name).lag.add(lag);
            }
        }
        self.sums.cut();
    }

    /// How many customers are open.
    pub fn open_customers(&self) -> usize {
        self.open.len()
    }

    /// The customers that are open, rising.
    pub fn open_facets(&self) -> impl Iterator<Item = FacetId> + '_ {
        self.open.keys().copied()
    }

    /// Adds up the customers that are open: all their events are in.
    pub fn close(&mut self, rules: &dyn TraitRules) {
        for customer in std::mem::take(&mut self.open).into_values() {
            self.close_one(&customer, rules);
            self.sums.cut();
        }
    }

    fn close_one(&mut self, customer: &Customer, rules: &dyn TraitRules) {
        for source in customer.sources.keys() {
            if !self.wants(source) {
                continue;
            }
            self.sums.sources.entry(source.clone()).or_default().customers += 1;
        }
        let mut said: BTreeMap<&String, Vec<&[u8]>> = BTreeMap::new();
        for (_, name, newest) in customer.values() {
            said.entry(name).or_default().push(&newest.value);
        }
        let agree = |values: &[&[u8]]| values.windows(2).all(|two| two[0] == two[1]);
        for (source, name, newest) in customer.values() {
            if !self.wants(source) {
                continue;
            }
            let all = said.get(name).map(Vec::as_slice).unwrap_or_default();
            let since = self.settings.updated_since;
            let sums = self.sums.group(source, name);
            sums.values += 1;
            sums.distinct.add(&newest.value);
            sums.updated += u64::from(newest.order.0 >= since);
            if all.len() > 1 {
                sums.shared += 1;
                sums.agreeing += u64::from(agree(all));
            }
            let verdict = match json::parse(&newest.value) {
                Ok(value) => rules.check(source, name, &value),
                Err(_) => Verdict::Invalid,
            };
            sums.checked += u64::from(verdict != Verdict::Unknown);
            sums.valid += u64::from(verdict == Verdict::Valid);
        }
        let asked = |name: &String| {
            let own = customer.sources.get(&self.settings.source).and_then(|traits| traits.get(name));
            self.settings.source.is_empty() || own.is_some_and(|newest| !newest.value.is_empty())
        };
        for (name, values) in said {
            if values.len() > 1 && asked(name) {
                let sums = self.sums.overlaps.entry(name.clone()).or_default();
                sums.shared += 1;
                sums.agreeing += u64::from(agree(&values));
            }
        }
    }

    /// Adds another partial of the same settings; of no event in this one.
    pub fn merge(&mut self, other: Self) {
        for (facet, customer) in other.open {
            self.open.entry(facet).or_default().merge(customer);
        }
        self.sums.merge(other.sums);
    }

    /// The sums alone, as they travel between nodes: no customer may be open.
    ///
    /// # Errors
    /// A customer is open.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        match self.open.is_empty() {
            true => Ok(self.sums.to_bytes()),
            false => Err(Error::Invalid { what: "quality sums", why: "a customer is still open" }),
        }
    }

    /// From what travelled, for the same settings.
    ///
    /// # Errors
    /// Bytes that are no sums.
    pub fn from_bytes(settings: Settings, bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self { settings, open: BTreeMap::new(), sums: Sums::from_bytes(bytes)? })
    }

    /// The report, after closing what is open.
    pub fn report(mut self, rules: &dyn TraitRules) -> Report {
        self.close(rules);
        let sums = self.sums;
        let traits = sums.groups.iter().map(|((source, name), of)| TraitQuality {
            source: source.clone(),
            name: name.clone(),
            customers: sums.sources.get(source).map_or(0, |of| of.customers),
            values: of.values,
            checked: of.checked,
            valid: of.valid,
            distinct: of.distinct.count(),
            distinct_exact: of.distinct.is_exact(),
            shared: of.shared,
            agreeing: of.agreeing,
            updated: of.updated,
            events: of.lag.count(),
            lag_micros: [0.5, 0.95, 0.99].map(|share| of.lag.quantile(share).unwrap_or(0)),
        });
        let sources = sums.sources.iter().map(|(source, of)| SourceQuality {
            source: source.clone(),
            customers: of.customers,
            events: of.events,
        });
        let overlaps = sums.overlaps.iter().map(|(name, of)| Overlap {
            name: name.clone(),
            shared: of.shared,
            agreeing: of.agreeing,
        });
        Report {
            sources: sources.collect(),
            traits: traits.collect(),
            overlaps: overlaps.collect(),
            cut: sums.cut,
        }
    }
}
