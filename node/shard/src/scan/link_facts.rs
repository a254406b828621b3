//! Scanning link facts, as they stand at their primaries.

use std::sync::Arc;

use arrow::array::RecordBatch;
use isthmus_domain::{LinkFact, LinkKind};
use isthmus_identity::{keys, stored::StoredRow};
use isthmus_raft::Broken;

use super::{
    Part, Request, Snapshot,
    columns::Columns,
    control::Cursor,
    homes::Homes,
    schema::link_fact,
    slots::{Owned, spans},
};
use crate::{error::broken, keys::table};

/// Parts of a scan: how many rows there are isn't known beforehand.
const PARTS: usize = 4;

/// The parts of a scan of link facts.
pub(super) fn parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    let part = |cursors: Vec<Cursor>| {
        let (snapshot, request) = (snapshot.clone(), request.clone());
        Part::of(OfLinks { snapshot, request, homes: None, cursors })
    };
    match &request.filters.facets {
        Some(facets) => {
            let of_one = |facet| Cursor::of_prefix(snapshot.clone(), &keys::link_rows(facet, None));
            vec![part(facets.iter().rev().map(of_one).collect())]
        }
        None => {
            let spans = spans(snapshot.owned(), PARTS).into_iter();
            spans.map(|span| part(vec![Cursor::of_slots(snapshot.clone(), table::LINK_ROW, span)])).collect()
        }
    }
}

struct OfLinks {
    snapshot: Arc<Snapshot>,
    request: Arc<Request>,
    homes: Option<Arc<Homes>>,
    /// The next one last.
    cursors: Vec<Cursor>,
}

impl OfLinks {
    fn homes(&mut self) -> Result<Arc<Homes>, Broken> {
        if let Some(homes) = &self.homes {
            return Ok(homes.clone());
        }
        let homes = match self.request.columns.contains(&link_fact::HOME) {
            true => self.snapshot.homes()?,
            false => Arc::default(),
        };
        self.homes = Some(homes.clone());
        Ok(homes)
    }

    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let homes = self.homes()?;
        let snapshot = self.snapshot.clone();
        let mut owned = Owned::of(snapshot.owned());
        let mut columns = Columns::new(&self.request.schema());
        while columns.rows() < self.request.batch_rows {
            let Some(cursor) = self.cursors.last_mut() else { break };
            let Some(row) = cursor.next() else {
                self.cursors.pop();
                continue;
            };
            let (key, value) = row?;
            let row = StoredRow::read(&value).map_err(broken)?;
            // A row whose facts were all retracted.
            let Some(fact) = &row.fact else { continue };
            let fact = LinkFact::decode(fact).map_err(broken)?;
            let facet = keys::facet(&key).ok_or_else(|| broken("a link row's key is damaged"))?;
            if !owned.has(facet.as_bytes()) {
                continue;
            }
            for (place, column) in self.request.columns.iter().enumerate() {
                match *column {
                    link_fact::FACET => columns.id(place, facet.as_bytes()),
                    link_fact::HOME => columns.id(place, homes.of(facet).as_bytes()),
                    link_fact::NAMESPACE => columns.text(place, Some(fact.a.namespace().as_str())),
                    link_fact::VALUE => columns.text(place, Some(fact.a.value())),
                    link_fact::COUNTERPART_NAMESPACE => {
                        columns.text(place, Some(fact.b.namespace().as_str()));
                    }
                    link_fact::COUNTERPART_VALUE => columns.text(place, Some(fact.b.value())),
                    link_fact::SOURCE => columns.text(place, Some(&fact.source)),
                    link_fact::KIND => columns.text(place, Some(kind(fact.kind))),
                    link_fact::TIMESTAMP => columns.time(place, Some(fact.timestamp)),
                    link_fact::MESSAGE_ID => columns.text(place, Some(&fact.message_id)),
                    // What was told is for the root to judge.
                    link_fact::FOLLOWED => columns.flag(place, (!row.told).then_some(false)),
                    _ => {}
                }
            }
            columns.end_row();
        }
        columns.finish_some()
    }
}

fn kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Plain => "plain",
        LinkKind::Alias => "alias",
    }
}

impl Iterator for OfLinks {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}
