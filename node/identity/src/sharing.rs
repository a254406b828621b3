//! Whether an identifier is shared, counted at its own slot from its rows, as primary and as counterpart.
//!
//! Only the number of distinct counterparts is kept. When a row comes or goes, a look at the pair's other rows tells
//! whether the counterpart does: they lie side by side.

use isthmus_domain::identity::RowKey;
use isthmus_domain::{FacetId, Namespace};
use isthmus_proto::internal::v1::{RootFlag, to_root::Body as RootBody};
use prost::Message as _;

use crate::resolver::{bytes, named};
use crate::stored::{Counterparts, Record, StoredHalf, StoredRow};
use crate::{Error, Resolver, Store, keys};

/// Rows that one look may find: a pair has one for each source and kind.
const ALL: usize = usize::MAX;

impl<S: Store> Resolver<'_, S> {
    /// Takes note that a row between `own` and `other` counts now, or no longer; the row itself is stored already.
    pub(crate) fn count(
        &mut self,
        own: &FacetId,
        record: &mut Record,
        other: &FacetId,
        namespace: &Namespace,
        row: &RowKey,
        counts: bool,
    ) -> Result<(), Error> {
        if self.rules.limit(namespace) != 1 || self.pair_counts(own, other, row)? {
            return Ok(());
        }
        let found =
            record.counterparts.binary_search_by(|known| known.namespace.as_str().cmp(namespace.as_str()));
        match (found, counts) {
            (Ok(index), true) => {
                let known = &mut record.counterparts[index];
                known.distinct = known.distinct.saturating_add(1);
            }
            (Ok(index), false) => {
                let known = &mut record.counterparts[index];
                known.distinct = known.distinct.saturating_sub(1);
                if known.distinct == 0 {
                    record.counterparts.remove(index);
                }
            }
            (Err(index), true) => {
                record
                    .counterparts
                    .insert(index, Counterparts { namespace: namespace.to_string(), distinct: 1 });
            }
            (Err(_), false) => {}
        }
        Ok(())
    }

    /// Whether any row of the pair but this one counts.
    fn pair_counts(&mut self, own: &FacetId, other: &FacetId, but: &RowKey) -> Result<bool, Error> {
        let (but_row, but_half) = (keys::link_row(but), keys::half_row(but));
        for (key, value) in self.store.scan(&keys::link_rows(own, Some(other)), None, ALL)? {
            if key != but_row && StoredRow::read(&value)?.told {
                return Ok(true);
            }
        }
        for (key, value) in self.store.scan(&keys::half_rows(own, Some(other)), None, ALL)? {
            if key != but_half && half(&value)?.fact.is_some_and(|fact| !fact.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts everything anew: the rules say of other namespaces than before that their limit is one.
    pub(crate) fn recount(&mut self, own: &FacetId, record: &mut Record) -> Result<(), Error> {
        let mut counterparts =
            std::collections::BTreeMap::<Namespace, std::collections::BTreeSet<FacetId>>::new();
        for (key, value) in self.store.scan(&keys::link_rows(own, None), None, ALL)? {
            let (row, key) = (StoredRow::read(&value)?, keys::link_row_key(&key));
            if let (true, Some(fact), Some(key)) = (row.told, crate::stored::fact(row.fact.as_ref())?, key) {
                counterparts.entry(fact.b.namespace().clone()).or_default().insert(key.b);
            }
        }
        for (key, value) in self.store.scan(&keys::half_rows(own, None), None, ALL)? {
            let (row, key) = (half(&value)?, keys::half_row_key(&key));
            if let (Some(fact), Some(key)) = (crate::stored::fact(row.fact.as_ref())?, key) {
                counterparts.entry(fact.a.namespace().clone()).or_default().insert(key.a);
            }
        }
        let limited = counterparts.into_iter().filter(|(namespace, _)| self.rules.limit(namespace) == 1);
        record.counterparts = limited
            .map(|(namespace, facets)| Counterparts {
                namespace: namespace.to_string(),
                distinct: facets.len() as u64,
            })
            .collect();
        Ok(())
    }

    /// Whether the count says otherwise than the flag.
    pub(crate) fn is_flagged_otherwise(&self, record: &Record) -> bool {
        let above = u64::from(self.rules.shared_above());
        let limited = |known: &Counterparts| {
            Namespace::parse(&known.namespace).is_ok_and(|namespace| self.rules.limit(&namespace) == 1)
        };
        record.counterparts.iter().filter(|known| known.distinct > above).any(limited) != record.shared
    }

    /// Raises or lowers the flag, if the count says so.
    pub(crate) fn reflag(&mut self, own: FacetId, record: &mut Record) -> Result<(), Error> {
        if !self.is_flagged_otherwise(record) {
            return Ok(());
        }
        record.shared = !record.shared;
        record.flag_version = record.flag_version.saturating_add(1);
        let (shared, mut awaited) = (record.shared, Vec::new());
        if !shared {
            // It was held back, so its rows may be unknown to the root: it sends all of them up itself.
            for (key, value) in self.store.scan(&keys::link_rows(&own, None), None, ALL)? {
                let mut row = StoredRow::read(&value)?;
                let Some(row_key) = keys::link_row_key(&key) else { continue };
                row.direct = true;
                self.put(key, &row)?;
                if row.settled > 0 {
                    awaited.push(named(&row_key, row.news));
                    self.row_up(&own, record, &row_key, row.news, row.told_fact());
                }
            }
            for (key, value) in self.store.scan(&keys::half_rows(&own, None), None, ALL)? {
                let mut row = half(&value)?;
                let Some(row_key) = keys::half_row_key(&key) else { continue };
                row.forwarded = true;
                self.put(key, &row)?;
                if row.news > 0 {
                    awaited.push(named(&row_key, row.news));
                    self.row_up(&own, record, &row_key, row.news, row.fact.unwrap_or_default());
                }
            }
        }
        let flag = RootFlag { facet: bytes(&own), version: record.flag_version, shared, awaited };
        self.up(&own, record, RootBody::Flag(flag));
        Ok(())
    }
}

pub(crate) fn half(bytes: &[u8]) -> Result<StoredHalf, Error> {
    StoredHalf::decode(bytes).map_err(|_| Error::Damaged("a counterpart's row"))
}
