//! At the slot of an event's primary identifier: which fact of a row counts, and whether that is news.

use isthmus_domain::identity::{Retractions, RowKey};
use isthmus_domain::{FacetId, Identifier, LinkFact, LinkRow};
use isthmus_proto::internal::v1::{
    CounterpartRetractionDone, LinkHeld, LinkNews, LinkVersion, RootRow, Settled, identity_message::Body,
    to_root::Body as RootBody,
};

use crate::resolver::{bytes, link_key, row_key};
use crate::stored::{Held, Record, StoredRow};
use crate::{Error, Resolver, Store, keys, source_and_kind};

impl<S: Store> Resolver<'_, S> {
    /// Takes the link facts of an event: a star from its primary. Facts that are known cost a look each. Gives the rows
    /// that are not in force yet.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn links(
        &mut self,
        own: FacetId,
        facts: impl IntoIterator<Item = (FacetId, LinkFact)>,
    ) -> Result<Vec<RowKey>, Error> {
        let mut open = Vec::new();
        let mut loaded: Option<(Record, Retractions)> = None;
        for (counterpart, fact) in facts {
            let key =
                RowKey { a: own, b: counterpart, source_and_kind: source_and_kind(&fact.source, fact.kind) };
            let mut stored = self.row(&key)?;
            let mut row = stored.link_row()?;
            let is_known = row.fact().is_some_and(|known| *known <= fact);
            if stored.news > 0 && is_known && !stored.searching {
                if !stored.is_settled() {
                    open.push(key);
                }
                continue;
            }
            let (record, retractions) = match &mut loaded {
                Some(loaded) => loaded,
                None => {
                    let record = self.record_of(&own, &fact.a)?;
                    let retractions = self.retractions(&own, &record)?;
                    loaded.insert((record, retractions))
                }
            };
            if self.is_suppressed(retractions, &fact) {
                continue;
            }
            if stored.searching {
                let next = crate::stored::fact(stored.next.as_ref())?;
                if next.is_none_or(|next| fact < next) {
                    stored.next = Some(fact.encode().into());
                    self.put(keys::link_row(&key), &stored)?;
                }
                continue;
            }
            // A row of a version without resolution may have had its oldest fact all the time: it was never told.
            if row.offer(fact) || stored.news == 0 {
                self.row_changed(&own, record, &key, &mut stored, &row)?;
                open.push(key);
            }
        }
        if let Some((record, _)) = loaded {
            self.save(&own, &record)?;
        }
        Ok(open)
    }

    /// The record of an identifier whose name is known by a fact.
    pub(crate) fn record_of(&mut self, own: &FacetId, identifier: &Identifier) -> Result<Record, Error> {
        let mut record = self.record(own)?;
        if record.namespace.is_empty() {
            let named = Record::of(identifier);
            (record.namespace, record.value) = (named.namespace, named.value);
        }
        Ok(record)
    }

    pub(crate) fn row(&mut self, key: &RowKey) -> Result<StoredRow, Error> {
        match self.store.get(&keys::link_row(key))? {
            Some(bytes) => StoredRow::read(&bytes),
            None => Ok(StoredRow::default()),
        }
    }

    /// Stores a row whose fact has changed, and tells the counterpart if that is news: if the fact that is told does.
    /// The caller saves the record.
    pub(crate) fn row_changed(
        &mut self,
        own: &FacetId,
        record: &mut Record,
        key: &RowKey,
        stored: &mut StoredRow,
        row: &LinkRow,
    ) -> Result<(), Error> {
        let (before, was_told) = (stored.told_fact(), stored.told);
        let namespace = match (row.fact(), crate::stored::fact(stored.fact.as_ref())?) {
            (Some(fact), _) => Some(fact.b.namespace().clone()),
            (None, known) => known.map(|fact| fact.b.namespace().clone()),
        };
        stored.set(row);
        stored.told = row.fact().is_some_and(|fact| self.rules.refuses(fact).is_none());
        let is_news = stored.told_fact() != before;
        if is_news {
            stored.news = stored.news.saturating_add(1);
        } else if stored.news == 0 {
            // Known, and refused from the first: there is nothing to tell, and nothing to wait for.
            (stored.news, stored.settled) = (1, 1);
        }
        self.put(keys::link_row(key), stored)?;
        if let Some(namespace) = namespace.filter(|_| was_told != stored.told) {
            self.count(own, record, &key.b, &namespace, key, stored.told)?;
        }
        // The flag first: the news says whether it is held back.
        self.reflag(*own, record)?;
        if is_news {
            let version =
                LinkVersion { key: Some(link_key(key)), version: stored.news, fact: stored.told_fact() };
            let news = LinkNews { row: Some(version), held: record.shared };
            self.send(&key.b, Body::LinkNews(news));
        }
        Ok(())
    }

    /// Sends a row up, from either of its ends.
    pub(crate) fn row_up(
        &mut self,
        own: &FacetId,
        record: &Record,
        key: &RowKey,
        version: u64,
        fact: bytes::Bytes,
    ) {
        let row = LinkVersion { key: Some(link_key(key)), version, fact };
        let row = RootRow { row: Some(row), by: bytes(own), flag_version: record.flag_version };
        self.up(own, record, RootBody::Row(row));
    }

    /// The counterpart holds a row back, and its flag is in force: so is the row, unless this end lets it through.
    pub(crate) fn link_held(&mut self, own: FacetId, held: LinkHeld) -> Result<(), Error> {
        let version = held.row.ok_or(Error::Damaged("a row that is held back"))?;
        let key = row_key(version.key.as_ref())?;
        let row = self.row(&key)?;
        if row.direct && version.version == row.news {
            let record = self.record(&own)?;
            self.row_up(&own, &record, &key, row.news, row.told_fact());
            return Ok(());
        }
        self.settled(own, Settled { row: Some(version), flag_version: 0 })
    }

    /// A row or the flag is in force.
    pub(crate) fn settled(&mut self, own: FacetId, settled: Settled) -> Result<(), Error> {
        let mut record = self.record(&own)?;
        match settled.row {
            Some(version) => {
                let key = row_key(version.key.as_ref())?;
                let mut row = self.row(&key)?;
                if version.version > row.settled {
                    row.settled = version.version;
                    self.put(keys::link_row(&key), &row)?;
                }
            }
            None => {
                record.flag_settled = record.flag_settled.max(settled.flag_version);
                let in_force = record.flag_settled;
                let told: Vec<Held> =
                    record.held.extract_if(.., |held| held.flag_version <= in_force).collect();
                self.save(&own, &record)?;
                for held in told {
                    let key = row_key(held.row.as_ref().and_then(|row| row.key.as_ref()))?;
                    self.send(&key.a, Body::LinkHeld(LinkHeld { row: held.row }));
                }
            }
        }
        self.answer(own, record)
    }

    /// Tells the counterparts whose retractions are done here: the rows that they concern are in force.
    pub(crate) fn answer(&mut self, own: FacetId, mut record: Record) -> Result<(), Error> {
        if record.answers.is_empty() || record.flag_settled < record.flag_version || record.search > 0 {
            return Ok(());
        }
        let mut waiting = Vec::new();
        for answer in std::mem::take(&mut record.answers) {
            let counterpart = crate::resolver::facet(&answer.counterpart)?;
            let rows = self.store.scan(&keys::link_rows(&own, Some(&counterpart)), None, usize::MAX)?;
            let mut settled = true;
            for (_, row) in rows {
                settled &= StoredRow::read(&row)?.is_settled();
            }
            if settled {
                let done = CounterpartRetractionDone { primary: bytes(&own), id: answer.id };
                self.send(&counterpart, Body::CounterpartRetractionDone(done));
            } else {
                waiting.push(answer);
            }
        }
        record.answers = waiting;
        self.save(&own, &record)
    }
}
