//! Profiles of one facet: each a row of the raw table.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{TimestampMicrosecondType, UInt64Type},
};
use datafusion::common::Result;
use isthmus_domain::{FacetId, Identifier, Summary};

use crate::{
    error::broken,
    profiles::{Builder, Person},
    scan::Raw,
    tables::{Make, ProfileColumn, facet_raw as raw},
};

/// The columns of profiles that a batch of facets has.
#[derive(Default)]
pub(crate) struct Alone {
    made: Vec<(ProfileColumn, ArrayRef)>,
}

impl Alone {
    /// All columns that `makes` ask for, in one pass over the rows.
    pub(crate) fn new<'m>(rows: &Raw<'_>, makes: impl Iterator<Item = &'m Make>) -> Result<Self> {
        let mut wanted: Vec<ProfileColumn> = Vec::new();
        for make in makes {
            if let Make::Profile(column) = make
                && !wanted.contains(column)
            {
                wanted.push(column.clone());
            }
        }
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let ids = if wanted.contains(&ProfileColumn::Id) { Some(rows.ids(raw::FACET)?) } else { None };
        let identifiers = if wanted.contains(&ProfileColumn::Identifiers) {
            Some((rows.texts(raw::NAMESPACE)?, rows.texts(raw::VALUE)?))
        } else {
            None
        };
        let times = |column: &ProfileColumn, place: usize| {
            if !wanted.contains(column) {
                return Ok(None);
            }
            let times = rows.get(place)?.as_primitive_opt::<TimestampMicrosecondType>();
            times.map(Some).ok_or_else(|| broken!("column {place} holds no times"))
        };
        let first = times(&ProfileColumn::FirstSeen, raw::FIRST_SEEN)?;
        let last = times(&ProfileColumn::LastSeen, raw::LAST_SEEN)?;
        let events = if wanted.contains(&ProfileColumn::Events) {
            rows.get(raw::EVENTS)?.as_primitive_opt::<UInt64Type>()
        } else {
            None
        };
        let summaries = if wanted.iter().any(needs_summary) {
            rows.get(raw::SUMMARY)?.as_binary_opt::<i32>()
        } else {
            None
        };
        let mut builder = Builder::new(wanted.iter().cloned(), rows.rows());
        for row in 0..rows.rows() {
            let summary = match summaries {
                None => Summary::default(),
                Some(summaries) => read(summaries.value(row))?,
            };
            let mut known = BTreeSet::new();
            if let Some((namespaces, values)) = identifiers
                && namespaces.is_valid(row)
                && values.is_valid(row)
            {
                known.extend(Identifier::from_stored(namespaces.value(row), values.value(row)).ok());
            }
            builder.push(&Person {
                id: ids.and_then(|ids| FacetId::from_slice(ids.value(row))).unwrap_or_default(),
                identifiers: &known,
                first_seen: first.filter(|times| times.is_valid(row)).map(|times| times.value(row)),
                last_seen: last.filter(|times| times.is_valid(row)).map(|times| times.value(row)),
                events: events.map_or(0, |events| events.value(row)),
                summary: &summary,
            });
        }
        let made = builder.finish();
        Ok(Self { made: wanted.into_iter().zip(made).collect() })
    }

    pub(crate) fn column(&self, column: &ProfileColumn) -> Result<ArrayRef> {
        match self.made.iter().find(|(known, _)| known == column) {
            Some((_, array)) => Ok(array.clone()),
            None => Err(broken!("a column of profiles was not made")),
        }
    }
}

/// Reads a summary where it lies.
pub(crate) fn read(bytes: &[u8]) -> Result<Summary<'_>> {
    Summary::read(bytes).map_err(|error| broken!("the summary of a facet is broken: {error}"))
}

/// Whether a column comes out of the summary, which is large.
fn needs_summary(column: &ProfileColumn) -> bool {
    use ProfileColumn::{Events, FirstSeen, Id, Identifiers, LastSeen};
    !matches!(column, Id | Identifiers | FirstSeen | LastSeen | Events)
}
