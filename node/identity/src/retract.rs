//! Retractions: what they take back at an identifier's slot, and at those of its counterparts.
//!
//! In the place of a suppressed fact comes the oldest of its row that no retraction suppresses. It is searched among the
//! events of the facet, by whoever leads, and brought by [`Resolver::found`]; the suppressed one counts until then, so
//! that nobody sees two identifiers apart who belong together before and after. Facts that come meanwhile are kept
//! beside it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use isthmus_domain::identity::{Retraction, Retractions, RowKey, Scope};
use isthmus_domain::{FacetId, LinkFact};
use isthmus_proto::internal::v1::{CounterpartRetraction, CounterpartRetractionDone, identity_message::Body};
use prost::Message as _;

use crate::resolver::{bytes, facet};
use crate::stored::{Answer, Record, StoredRetraction, StoredRow, fact};
use crate::{Error, Resolver, Store, keys, source_and_kind};

impl<S: Store> Resolver<'_, S> {
    /// Takes a retraction that names this identifier: of a fact at its primary, of a pair at both ends, of an
    /// identifier at itself. One that is known changes nothing.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn retract(&mut self, own: FacetId, retraction: &Retraction) -> Result<(), Error> {
        let key = keys::retraction(&own, &retraction.id);
        if self.store.get(&key)?.is_some_and(|known| stored(&known).is_ok_and(|known| known.given)) {
            return Ok(());
        }
        let mut record = self.record(&own)?;
        record.retracted = true;
        let mut waiting = BTreeSet::new();
        if !matches!(retraction.scope, Scope::Fact { .. }) {
            for (key, value) in self.store.scan(&keys::half_rows(&own, None), None, usize::MAX)? {
                let known = fact(crate::sharing::half(&value)?.fact.as_ref())?;
                let primary = keys::half_row_key(&key).map(|key| key.a);
                // Without a fact nobody knows whose row it is: its primary looks for itself.
                let concerned = known.is_none_or(|fact| match &retraction.scope {
                    Scope::Pair(x, y) => [x, y].contains(&&fact.a),
                    _ => true,
                });
                waiting.extend(primary.filter(|_| concerned));
            }
        }
        let row = StoredRetraction {
            retraction: retraction.encode().into(),
            given: true,
            waiting: waiting.iter().map(bytes).collect(),
        };
        self.put(key, &row)?;
        self.withdraw(&own, &mut record, None)?;
        self.save(&own, &record)?;
        for primary in waiting {
            let told = CounterpartRetraction {
                counterpart: bytes(&own),
                retraction: row.retraction.clone(),
                answer: true,
            };
            self.send(&primary, Body::CounterpartRetraction(told));
        }
        Ok(())
    }

    /// A retraction at a counterpart concerns rows here.
    pub(crate) fn counterpart_retraction(
        &mut self,
        own: FacetId,
        told: CounterpartRetraction,
    ) -> Result<(), Error> {
        let retraction = Retraction::decode(&told.retraction)?;
        let counterpart = facet(&told.counterpart)?;
        let mut record = self.record(&own)?;
        record.retracted = true;
        let key = keys::retraction(&own, &retraction.id);
        if self.store.get(&key)?.is_none() {
            self.put(key, &StoredRetraction { retraction: told.retraction, given: false, waiting: vec![] })?;
        }
        self.withdraw(&own, &mut record, Some(&counterpart))?;
        if told.answer {
            record.answers.push(Answer { counterpart: told.counterpart, id: retraction.id });
        }
        self.save(&own, &record)?;
        self.answer(own, record)
    }

    /// A counterpart has done its part.
    pub(crate) fn counterpart_retraction_done(
        &mut self,
        own: FacetId,
        done: &CounterpartRetractionDone,
    ) -> Result<(), Error> {
        let key = keys::retraction(&own, &done.id);
        if let Some(bytes) = self.store.get(&key)? {
            let mut row = stored(&bytes)?;
            row.waiting.retain(|waiting| *waiting != done.primary);
            self.put(key, &row)?;
        }
        Ok(())
    }

    /// Has others searched in the place of facts that a retraction suppresses. The caller saves the record.
    pub(crate) fn withdraw(
        &mut self,
        own: &FacetId,
        record: &mut Record,
        counterpart: Option<&FacetId>,
    ) -> Result<(), Error> {
        let retractions = self.retractions(own, record)?;
        let mut search = false;
        for (key, value) in self.store.scan(&keys::link_rows(own, counterpart), None, usize::MAX)? {
            let mut row = StoredRow::read(&value)?;
            let [known, next] = [fact(row.fact.as_ref())?, fact(row.next.as_ref())?];
            let suppressed =
                |fact: Option<LinkFact>| fact.is_some_and(|f| self.is_suppressed(&retractions, &f));
            let (known, next) = (!row.searching && suppressed(known), suppressed(next));
            if known || next {
                search = true;
                row.searching = true;
                if next {
                    row.next = None;
                }
                self.put(key, &row)?;
            }
        }
        if search {
            record.searches = record.searches.saturating_add(1);
            record.search = record.searches;
            self.put(keys::search(own), &record.search)?;
        }
        Ok(())
    }

    /// Takes what a search has found: facts of the facet, among them of each row the oldest that is left. A search that
    /// was overtaken by another changes nothing, for the other will find as much.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn found(
        &mut self,
        own: FacetId,
        search: u64,
        facts: impl IntoIterator<Item = (FacetId, LinkFact)>,
    ) -> Result<(), Error> {
        let mut record = self.record(&own)?;
        if record.search != search || search == 0 {
            return Ok(());
        }
        record.search = 0;
        self.store.put(keys::search(&own), None)?;
        let retractions = self.retractions(&own, &record)?;
        let mut oldest: BTreeMap<RowKey, LinkFact> = BTreeMap::new();
        let mut offer = |key: RowKey, fact: LinkFact| match oldest.entry(key) {
            Entry::Vacant(vacant) => _ = vacant.insert(fact),
            Entry::Occupied(mut known) if fact < *known.get() => _ = known.insert(fact),
            Entry::Occupied(_) => {}
        };
        for (counterpart, fact) in facts {
            if !self.is_suppressed(&retractions, &fact) {
                let source_and_kind = source_and_kind(&fact.source, fact.kind);
                offer(RowKey { a: own, b: counterpart, source_and_kind }, fact);
            }
        }
        let rows = self.store.scan(&keys::link_rows(&own, None), None, usize::MAX)?;
        let mut waiting = Vec::new();
        for (key, value) in rows {
            let (key, row) = (keys::link_row_key(&key), StoredRow::read(&value)?);
            if let Some(key) = key.filter(|_| row.searching) {
                if let Some(next) = fact(row.next.as_ref())? {
                    offer(key, next);
                }
                waiting.push(key);
            }
        }
        for key in waiting {
            // Read anew: a row before may have lifted the flag, which changes all of them.
            let mut stored = self.row(&key)?;
            let mut row = stored.link_row()?;
            row.replace(oldest.remove(&key));
            (stored.searching, stored.next) = (false, None);
            self.row_changed(&own, &mut record, &key, &mut stored, &row)?;
        }
        self.save(&own, &record)?;
        self.answer(own, record)
    }

    /// Whether all that a retraction asked for is done at this identifier.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn is_retracted(&mut self, own: FacetId, id: &str) -> Result<bool, Error> {
        let record = self.record(&own)?;
        if record.search > 0 || record.flag_settled < record.flag_version {
            return Ok(false);
        }
        let Some(row) = self.store.get(&keys::retraction(&own, id))? else { return Ok(false) };
        if !stored(&row)?.waiting.is_empty() {
            return Ok(false);
        }
        for (_, row) in self.store.scan(&keys::link_rows(&own, None), None, usize::MAX)? {
            if !StoredRow::read(&row)?.is_settled() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The retractions that stand at an identifier.
    pub(crate) fn retractions(&mut self, own: &FacetId, record: &Record) -> Result<Retractions, Error> {
        let mut all = Retractions::default();
        if record.retracted {
            for (_, row) in self.store.scan(&keys::retraction(own, ""), None, usize::MAX)? {
                all.add(stored(&row)?.retraction()?);
            }
        }
        Ok(all)
    }

    pub(crate) fn is_suppressed(&self, here: &Retractions, fact: &LinkFact) -> bool {
        here.suppressing(fact).is_some() || self.sources.suppressing(fact).is_some()
    }

    /// The retraction given at a counterpart that suppresses a fact, encoded.
    pub(crate) fn suppressing_here(
        &mut self,
        own: &FacetId,
        record: &Record,
        fact: Option<&LinkFact>,
    ) -> Result<Option<Bytes>, Error> {
        let Some(fact) = fact else { return Ok(None) };
        let all = self.retractions(own, record)?;
        Ok(all.suppressing(fact).map(|retraction| retraction.encode().into()))
    }
}

fn stored(bytes: &[u8]) -> Result<StoredRetraction, Error> {
    StoredRetraction::decode(bytes).map_err(|_| Error::Damaged("a retraction"))
}
