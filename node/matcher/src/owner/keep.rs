//! What becomes of pairs that were found, or are none any more.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use isthmus_domain::{FacetId, Identifier};
use isthmus_proto::internal::v1::{
    CompareReply, DecidePair, DropPair, MatchingChange, PairIdentifier, PairKey, PairRow, PairState, SeenAt,
    matching_change::Change,
};
use isthmus_router::Error;
use isthmus_shard::seen_before;
use tokio::time::Instant;

use super::{Owner, TIMEOUT, copied};
use crate::link;

impl Owner {
    /// Drops the pairs of this shard that nothing was decided about and that this model has not found.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let (router, version) = (&self.matching.router, self.model.version);
        let mut after = None;
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let page = router.older_pairs(self.handle.shard(), version, after, deadline).await?;
            let rows = page.rows;
            let drops: Vec<MatchingChange> = rows
                .into_iter()
                .map(|row| {
                    let drop = DropPair { key: row.key, before_model: version, ..DropPair::default() };
                    MatchingChange { change: Some(Change::Drop(drop)) }
                })
                .collect();
            router.change_matching(&drops, deadline).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Keeps pairs that were found, drops those that are none any more, and links what is to link by itself.
    pub(super) async fn keep(
        &self,
        replies: Vec<(u64, CompareReply)>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let model_version = self.model.version;
        let mut found: BTreeMap<(Bytes, Bytes), PairRow> = BTreeMap::new();
        let mut gone: BTreeMap<(Bytes, Bytes), SeenAt> = BTreeMap::new();
        let named = |key: &PairKey| (key.a.clone(), key.b.clone());
        for (holder, reply) in replies {
            let seen_at = |number| SeenAt { holder, incarnation: reply.incarnation, number };
            for it in &reply.gone {
                gone.extend(it.key.as_ref().map(|key| (named(key), seen_at(it.number))));
            }
            for mut row in reply.found {
                row.seen_at = row.seen_at.map(|seen| seen_at(seen.number));
                found.extend(row.key.as_ref().map(named).map(|key| (key, row)));
            }
        }
        // A pair whose block lies elsewhere now is none to the one and found by the other: it is one.
        gone.retain(|key, gone| match found.get(key) {
            Some(row) => seen_before(&row.seen_at, &Some(*gone)),
            None => true,
        });
        found.retain(|key, _| !gone.contains_key(key));
        let dropped = gone.into_iter().map(|((a, b), seen_at)| {
            let key = Some(PairKey { a, b });
            Change::Drop(DropPair { key, before_model: 0, seen_at: Some(seen_at), model_version })
        });
        let changes: Vec<MatchingChange> = dropped
            .chain(found.values().cloned().map(Change::Put))
            .map(|change| MatchingChange { change: Some(change) })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let router = &self.matching.router;
        let outcomes = router.change_matching(&changes, deadline).await?;
        let open: Vec<PairRow> = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.row)
            .filter(|row| row.state() == PairState::Unspecified)
            .collect();
        let refused = self.refused_before(&open, deadline).await?;
        let config = self.model.model.plan().config();
        let sure = |row: &PairRow| config.links && row.probability >= config.link_at;
        let decisions = open.into_iter().zip(refused).filter_map(|(row, refused)| match refused {
            Some(before) => Some((row.key, PairState::Refused, before.by, before.note)),
            None if sure(&row) => {
                Some((row.key, PairState::Accepted, link::SOURCE.to_owned(), String::new()))
            }
            None => None,
        });
        let decisions: Vec<MatchingChange> = decisions
            .map(|(key, state, by, note)| {
                let decide = DecidePair { key, state: state.into(), by, note, ..DecidePair::default() };
                MatchingChange { change: Some(Change::Decide(decide)) }
            })
            .collect();
        let decided = router.change_matching(&decisions, deadline).await?;
        let rows: Vec<PairRow> = decided
            .into_iter()
            .filter_map(|outcome| outcome.row)
            .filter(|row| row.state() == PairState::Accepted && !row.linked)
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        // Beside: a link is in force only when both sides have gone to one home, and the next profile need not wait.
        let (router, key, open) = (router.clone(), self.matching.key.clone(), self.links_open.clone());
        self.matching.tracker.spawn(async move {
            if let Err(error) = link::bring(&router, &key, &rows, Instant::now() + TIMEOUT).await {
                tracing::debug!(%error, "a pair's link is brought again");
                open.store(true, Relaxed);
            }
        });
        Ok(())
    }

    /// Of each pair, whether two of its identifiers were refused under the names that their profiles had then.
    async fn refused_before(
        &self,
        rows: &[PairRow],
        deadline: Instant,
    ) -> Result<Vec<Option<PairRow>>, Error> {
        let facet = |it: &PairIdentifier| {
            let identifier = Identifier::from_stored(&it.namespace, &it.value).ok()?;
            Some(FacetId::of(&self.matching.key, &identifier))
        };
        let (mut asked, mut of) = (Vec::new(), Vec::new());
        for (nth, row) in rows.iter().enumerate() {
            // Under the present names it was found just now.
            if row.a_identifiers.len() + row.b_identifiers.len() <= 2 {
                continue;
            }
            let others: Vec<FacetId> = row.b_identifiers.iter().filter_map(facet).collect();
            for one in row.a_identifiers.iter().filter_map(facet) {
                for other in others.iter().filter(|other| **other != one) {
                    let key = PairKey { a: copied(&one.min(*other)), b: copied(&one.max(*other)) };
                    // A decision that decides nothing: it only tells what is kept.
                    let ask = DecidePair { key: Some(key), ..DecidePair::default() };
                    asked.push(MatchingChange { change: Some(Change::Decide(ask)) });
                    of.push(nth);
                }
            }
        }
        let outcomes = self.matching.router.change_matching(&asked, deadline).await?;
        let mut refused = vec![None; rows.len()];
        for (nth, outcome) in of.into_iter().zip(outcomes) {
            if let Some(row) = outcome.row.filter(|row| row.state() == PairState::Refused)
                && let Some(refused) = refused.get_mut(nth)
            {
                *refused = Some(row);
            }
        }
        Ok(refused)
    }

    /// Brings what a decision left without its link: whoever decided may have failed in between.
    pub(super) async fn finish_links(&self) -> Result<(), Error> {
        let router = &self.matching.router;
        let mut after = None;
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let page = router.unlinked_pairs(self.handle.shard(), after, deadline).await?;
            link::bring(router, &self.matching.key, &page.rows, deadline).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
