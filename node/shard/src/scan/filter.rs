//! Filters of events, made ready to be asked for each row.

use std::ops::RangeInclusive;

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use hashbrown::HashSet;
use isthmus_domain::FacetId;

use super::{Filters, schema::event};

/// What is asked of each row; see [`Filters`].
#[derive(Debug, Default)]
pub(super) struct Rule {
    timestamp: Option<RangeInclusive<i64>>,
    received_at: Option<RangeInclusive<i64>>,
    names: Option<HashSet<String>>,
    sources: Option<HashSet<String>>,
    types: Option<Vec<u8>>,
    /// Rising.
    facets: Option<Vec<FacetId>>,
}

impl Rule {
    pub fn of(filters: &Filters) -> Self {
        let set = |texts: &Option<Vec<String>>| texts.as_ref().map(|texts| texts.iter().cloned().collect());
        Self {
            timestamp: Filters::times(filters.timestamp),
            received_at: Filters::times(filters.received_at),
            names: set(&filters.names),
            sources: set(&filters.sources),
            types: filters.types.clone(),
            facets: filters.facets.clone(),
        }
    }

    /// The columns of events that are asked about, but for facets.
    pub fn columns(&self) -> Vec<usize> {
        let asked = [
            (event::TIMESTAMP, self.timestamp.is_some()),
            (event::RECEIVED_AT, self.received_at.is_some()),
            (event::TYPE, self.types.is_some()),
            (event::SOURCE, self.sources.is_some()),
            (event::NAME, self.names.is_some()),
        ];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(column, _)| column).collect()
    }

    pub fn facets(&self) -> Option<&[FacetId]> {
        self.facets.as_deref()
    }

    pub fn facet(&self, facet: &FacetId) -> bool {
        self.facets.as_ref().is_none_or(|facets| facets.binary_search(facet).is_ok())
    }

    pub fn time(&self, column: usize, time: i64) -> bool {
        let times = if column == event::TIMESTAMP { &self.timestamp } else { &self.received_at };
        times.as_ref().is_none_or(|times| times.contains(&time))
    }

    pub fn kind(&self, kind: u8) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&kind))
    }

    pub fn text(&self, column: usize, text: &str) -> bool {
        let texts = if column == event::NAME { &self.names } else { &self.sources };
        texts.as_ref().is_none_or(|texts| texts.contains(text))
    }
}

/// Which rows of a batch pass all that was asked so far.
pub(super) struct Passes(BooleanBuffer);

impl Passes {
    pub fn all(rows: usize) -> Self {
        Self(BooleanBuffer::new_set(rows))
    }

    /// Keeps the rows that fit.
    pub fn keep(&mut self, fits: impl FnMut(usize) -> bool) {
        self.0 = &self.0 & &BooleanBuffer::collect_bool(self.0.len(), fits);
    }

    /// Keeps the rows that fit; those that are out already aren't looked at.
    pub fn keep_of_rest(&mut self, mut fits: impl FnMut(usize) -> bool) {
        self.0 = BooleanBuffer::collect_bool(self.0.len(), |row| self.0.value(row) && fits(row));
    }

    pub fn finish(self) -> BooleanArray {
        BooleanArray::new(self.0, None)
    }
}
