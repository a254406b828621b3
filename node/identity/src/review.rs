//! Bringing changed rules, and retractions of whole sources, to an identifier; also rows that no resolution has seen.

use isthmus_domain::FacetId;

use crate::{Error, Resolver, Store, keys};

impl<S: Store> Resolver<'_, S> {
    /// Looks at an identifier anew: which of its facts count, whether it is shared, and, if it is a root, which facts
    /// are followed. Again and again changes nothing more.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn review(&mut self, own: FacetId) -> Result<(), Error> {
        let mut record = self.record(&own)?;
        for (key, _) in self.store.scan(&keys::link_rows(&own, None), None, usize::MAX)? {
            let Some(key) = keys::link_row_key(&key) else { continue };
            // Read anew: a row before may have changed the flag, and with it all of them.
            let mut stored = self.row(&key)?;
            let row = stored.link_row()?;
            let Some(fact) = row.fact() else { continue };
            if record.namespace.is_empty() {
                record = self.record_of(&own, &fact.a)?;
            }
            let tells = self.rules.refuses(fact).is_none();
            if stored.news == 0 || tells != stored.told {
                self.row_changed(&own, &mut record, &key, &mut stored, &row)?;
            }
        }
        self.withdraw(&own, &mut record, None)?;
        self.recount(&own, &mut record)?;
        self.reflag(own, &mut record)?;
        self.save(&own, &record)?;
        if record.is_root && record.parent().is_none() {
            let mut root = self.root(own)?;
            self.refold_under_rules(own, &mut root)?;
            self.keep_root(own, root)?;
        }
        Ok(())
    }
}
