//! At the counterpart's slot: a row is counted here first, and goes no further while either end is shared.

use isthmus_domain::identity::RowKey;
use isthmus_domain::{FacetId, LinkFact};
use isthmus_proto::internal::v1::{CounterpartRetraction, LinkHeld, LinkNews, identity_message::Body};

use crate::resolver::{bytes, named, row_key};
use crate::sharing::half;
use crate::stored::{Held, Record, StoredHalf, fact};
use crate::{Error, Resolver, Store, keys};

impl<S: Store> Resolver<'_, S> {
    /// A row has changed at its primary.
    pub(crate) fn link_news(&mut self, own: FacetId, news: LinkNews) -> Result<(), Error> {
        let version = news.row.ok_or(Error::Damaged("news of a row"))?;
        let key = row_key(version.key.as_ref())?;
        let mut row = self.half(&key)?;
        if version.version <= row.seen {
            return Ok(());
        }
        row.seen = version.version;
        let new = fact(Some(&version.fact))?;
        let mut record = match &new {
            Some(fact) => self.record_of(&own, &fact.b)?,
            None => self.record(&own)?,
        };
        if let Some(suppressing) = self.suppressing_here(&own, &record, new.as_ref())? {
            // Held back for good: the primary learns of the retraction and answers with another version.
            self.put(keys::half_row(&key), &row)?;
            let told =
                CounterpartRetraction { counterpart: bytes(&own), retraction: suppressing, answer: false };
            self.send(&key.a, Body::CounterpartRetraction(told));
            return self.save(&own, &record);
        }
        let before = fact(row.fact.as_ref())?;
        (row.fact, row.news) = (new.as_ref().map(|_| version.fact.clone()), version.version);
        self.count_half(&own, &mut record, &key, before.as_ref(), new.as_ref())?;
        if self.is_flagged_otherwise(&record) {
            self.put(keys::half_row(&key), &row)?;
            self.reflag(own, &mut record)?;
            // The flag may have sent all rows up: this one with them.
            row = self.half(&key)?;
        }
        row.forwarded |= new.is_some() && !news.held && !record.shared;
        self.put(keys::half_row(&key), &row)?;
        if row.forwarded {
            self.row_up(&own, &record, &key, version.version, version.fact);
        } else if record.flag_settled >= record.flag_version {
            self.send(&key.a, Body::LinkHeld(LinkHeld { row: Some(named(&key, version.version)) }));
        } else {
            let row = Some(named(&key, version.version));
            record.held.push(Held { flag_version: record.flag_version, row });
        }
        self.save(&own, &record)
    }

    fn half(&mut self, key: &RowKey) -> Result<StoredHalf, Error> {
        match self.store.get(&keys::half_row(key))? {
            Some(bytes) => half(&bytes),
            None => Ok(StoredHalf::default()),
        }
    }

    fn count_half(
        &mut self,
        own: &FacetId,
        record: &mut Record,
        key: &RowKey,
        before: Option<&LinkFact>,
        after: Option<&LinkFact>,
    ) -> Result<(), Error> {
        match (before, after) {
            (None, Some(fact)) => self.count(own, record, &key.a, fact.a.namespace(), key, true),
            (Some(fact), None) => self.count(own, record, &key.a, fact.a.namespace(), key, false),
            _ => Ok(()),
        }
    }
}
