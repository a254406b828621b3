//! Identity resolution within a command: the rows and the messages of [`isthmus_identity`] are this shard's.
//!
//! A message to an identifier of this shard is handled in the same apply, after what is under way; to one of another
//! shard it goes by the outbox. What takes long is put off to a command of its own by a message to oneself, which goes
//! by the outbox too.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::identity::RowKey;
use isthmus_domain::{FacetId, LinkFact, RecordView, Stamp};
use isthmus_identity::{
    Error, Resolver, Store, keys,
    stored::{Home, Record, StoredRow},
};
use isthmus_proto::internal::v1::{
    CourierMessage, FoundCommand, IdentityMessage, RetractCommand, SweepCommand, courier_message::Body,
};
use isthmus_raft::Broken;
use prost::Message as _;

use super::Outcome;
use super::deliver::emit;
use crate::below::Below;
use crate::error::broken;
use crate::feed::What;
use crate::outbox::put_large;
use crate::state::{Needs, State};
use crate::waits::Awaited;

/// The rows of this shard's identifiers.
pub(super) struct Rows<'a>(&'a mut State);

impl Store for Rows<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.0.identity_row(key).map_err(store)
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        self.0.identity_rows(prefix, after, limit).map_err(store)
    }

    fn put(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), Error> {
        let before = self.get(&key)?;
        if before == value {
            return Ok(());
        }
        self.0.note(&key, value.as_ref());
        note_members(self.0, &key, before.as_ref(), value.as_ref())?;
        note_home(self.0, &key, before.as_ref(), value.as_ref())?;
        put_large(&mut self.0.active, &mut self.0.meta.hash, key, before.as_ref(), value.as_ref());
        Ok(())
    }

    fn send(&mut self, message: IdentityMessage) {
        self.0.meta.made += 1;
        self.0.local.push_back(message);
    }

    fn send_later(&mut self, message: IdentityMessage) {
        self.0.meta.made += 1;
        let slot = FacetId::from_slice(&message.to).map_or(0, |facet| facet.slot().number());
        let (to, stamp) = (self.0.shard, self.0.meta.stamp.0);
        emit(self.0, to, CourierMessage { slot: slot.into(), stamp, body: Some(Body::Identity(message)) });
    }
}

/// Takes note, for the feed, of a home that serves another list than before, if that changes who belongs to the profile.
fn note_members(
    state: &mut State,
    key: &[u8],
    before: Option<&Bytes>,
    value: Option<&Bytes>,
) -> Result<(), Error> {
    let (Some(facet), Some(value)) = (keys::facet(key), value) else { return Ok(()) };
    if key != keys::home(&facet) {
        return Ok(());
    }
    let active = |row: &Bytes| Home::decode(row.clone()).map(|home| home.active);
    let damaged = |_| Error::Damaged("a home");
    let epoch = active(value).map_err(damaged)?;
    let before = before.map_or(Ok(0), active).map_err(damaged)?;
    if epoch <= before {
        return Ok(());
    }
    let served = keys::history(&facet, Some(before));
    let changes = state.identity_rows(&keys::history(&facet, None), Some(&served), 1).map_err(store)?;
    if changes.first().is_some_and(|(key, _)| *key <= keys::history(&facet, Some(epoch))) {
        state.active.push_change(state.meta.stamp, facet, What::Members { before, epoch });
    }
    Ok(())
}

/// Takes note, for segments, of an identifier that has another home than before.
fn note_home(
    state: &mut State,
    key: &[u8],
    before: Option<&Bytes>,
    value: Option<&Bytes>,
) -> Result<(), Error> {
    if key.first() != Some(&keys::table::RECORD) {
        return Ok(());
    }
    let Some(facet) = keys::facet(key) else { return Ok(()) };
    let home = |row: Option<&Bytes>| {
        let record = row.map(|row| Record::decode(row.clone())).transpose();
        record.map(|record| record.map_or(facet, |record| record.home(facet)))
    };
    let damaged = |_| Error::Damaged("a record");
    let (before, now) = (home(before).map_err(damaged)?, home(value).map_err(damaged)?);
    if before != now {
        let stamp = state.meta.stamp;
        state.active.push_change(stamp, facet, What::LeftHome(before));
        state.active.push_change(stamp, facet, What::Home(now));
    }
    Ok(())
}

fn store(error: Broken) -> Error {
    Error::Store(error.to_string())
}

/// Does something about identifiers of this shard.
fn resolve<T>(
    state: &mut State,
    work: impl FnOnce(&mut Resolver<'_, Rows<'_>>) -> Result<T, Error>,
) -> Result<T, Broken> {
    let (rules, sources, stamp) = (state.meta.rules.clone(), state.meta.sources.clone(), state.meta.stamp);
    let mut roots = std::mem::take(&mut state.roots);
    let done = {
        let mut rows = Rows(state);
        work(&mut Resolver::new(&mut rows, &mut roots, &rules, &sources, stamp.0))
    };
    state.roots = roots;
    done.map_err(broken)
}

/// Handles what identifiers of this shard told each other, until all is said; the rest goes by the outbox.
pub(super) fn drain(state: &mut State) -> Result<(), Broken> {
    while let Some(message) = state.local.pop_front() {
        let to = FacetId::from_slice(&message.to).ok_or_else(|| Broken::new("a message to nobody"))?;
        let (slot, stamp) = (u32::from(to.slot().number()), state.meta.stamp.0);
        let message = CourierMessage { slot, stamp, body: Some(Body::Identity(message)) };
        super::deliver::dispatch(state, message, Stamp(stamp))?;
    }
    Ok(())
}

/// Handles a message to an identifier whose slot this shard owns.
pub(super) fn handle(state: &mut State, message: IdentityMessage) -> Result<(), Broken> {
    resolve(state, |resolver| resolver.handle(message))
}

/// Which rows a message needs, as far as it names them; what it leads to is read when it comes to it.
pub(super) fn needs(message: &IdentityMessage, needs: &mut Needs) {
    use isthmus_proto::internal::v1::identity_message::Body;
    let Some(to) = FacetId::from_slice(&message.to) else { return };
    needs.identities.push(keys::record(&to));
    match &message.body {
        Some(Body::Members(_) | Body::MembersChange(_) | Body::Joined(_)) => {
            needs.identities.push(keys::home(&to))
        }
        Some(Body::LinkNews(news)) => {
            let key =
                news.row.as_ref().and_then(|row| row.key.as_ref()).and_then(Resolver::<Rows<'_>>::row_key);
            needs.identities.extend(key.map(|key| keys::half_row(&key)));
        }
        _ => {}
    }
}

/// Takes the link facts of an event; the rows among them that are not in force yet.
pub(super) fn links(
    state: &mut State,
    facet: FacetId,
    view: &RecordView<'_>,
) -> Result<Vec<Awaited>, Broken> {
    let facts: Vec<(FacetId, LinkFact)> = view
        .links()
        .zip(view.link_facts())
        .map(|(link, fact)| Ok((link.facet, fact.map_err(broken)?)))
        .collect::<Result<_, Broken>>()?;
    let open = resolve(state, |resolver| resolver.links(facet, facts))?;
    drain(state)?;
    still_open(state, open)
}

/// The rows of a known event that are not in force yet.
pub(super) fn open_links(
    state: &mut State,
    facet: FacetId,
    view: &RecordView<'_>,
) -> Result<Vec<Awaited>, Broken> {
    let rows = view.links().map(|link| RowKey {
        a: facet,
        b: link.facet,
        source_and_kind: isthmus_identity::source_and_kind(view.source, link.kind),
    });
    still_open(state, rows.collect())
}

fn still_open(state: &State, mut rows: Vec<RowKey>) -> Result<Vec<Awaited>, Broken> {
    let mut failed = None;
    let below = state.below();
    rows.retain(|key| is_open(state, key, below).unwrap_or_else(|error| failed.replace(error).is_none()));
    failed.map_or_else(|| Ok(rows.into_iter().map(Awaited::Link).collect()), Err)
}

/// Whether a row, or the flag of its primary, is not in force yet.
pub(crate) fn is_open(state: &State, key: &RowKey, below: Option<&Below>) -> Result<bool, Broken> {
    let Some(row) = state.identity_row_over(&keys::link_row(key), below)? else { return Ok(false) };
    if StoredRow::read(&row).map_err(broken)?.is_settled() {
        return Ok(false);
    }
    Ok(true)
}

/// Looks at the next identifiers of the sweep under way.
pub(super) fn sweep(state: &mut State, stamp: u64, sweep: &SweepCommand) -> Result<Outcome, Broken> {
    state.next_stamp(stamp, Stamp::ZERO);
    if state.meta.sweep.wanted == 0 {
        // Link facts of a version without identity resolution are taken up by the first sweep.
        state.meta.sweep.begin();
        return Ok(Outcome::Tended);
    }
    let under_way = &state.meta.sweep;
    if sweep.sweep != under_way.wanted || under_way.is_done() {
        return Ok(Outcome::Tended);
    }
    for _ in 0..sweep.limit.clamp(1, 1_000) {
        let Some(facet) = next_identifier(state)? else {
            state.meta.sweep.done = state.meta.sweep.wanted;
            state.meta.sweep.after = Bytes::new();
            return Ok(Outcome::Tended);
        };
        if state.meta.owned.contains(facet.slot()) {
            resolve(state, |resolver| resolver.review(facet))?;
            drain(state)?;
        }
        state.meta.sweep.after = Bytes::copy_from_slice(facet.as_bytes());
    }
    Ok(Outcome::Tended)
}

/// The identifier behind the one that was looked at last: with a record, or with link facts that have none yet.
fn next_identifier(state: &State) -> Result<Option<FacetId>, Broken> {
    let after = FacetId::from_slice(&state.meta.sweep.after);
    let mut next: Option<FacetId> = None;
    for table in [keys::table::RECORD, keys::table::LINK_ROW] {
        // Behind all rows of the facet: no key goes on with so many of the largest bytes.
        let from = after.map(|facet| {
            let mut key = keys::record(&facet);
            key[0] = table;
            key.extend([0xff; 33]);
            key
        });
        let found = state.identity_rows(&[table], from.as_deref(), 1)?;
        let facet = found.first().and_then(|(key, _)| keys::facet(key));
        next = [next, facet].into_iter().flatten().min();
    }
    Ok(next)
}

/// Takes what a search has found.
pub(super) fn found(state: &mut State, stamp: u64, found: FoundCommand) -> Result<Outcome, Broken> {
    state.next_stamp(stamp, Stamp::ZERO);
    let Some(facet) =
        FacetId::from_slice(&found.facet).filter(|facet| state.meta.owned.contains(facet.slot()))
    else {
        return Ok(Outcome::Refused("the shard doesn't own the facet"));
    };
    let mut facts = Vec::with_capacity(found.facts.len());
    for fact in found.facts {
        let counterpart = FacetId::from_slice(&fact.counterpart);
        let (Some(counterpart), Ok(fact)) = (counterpart, LinkFact::decode(&fact.fact)) else {
            return Ok(Outcome::Refused("a fact can't be read"));
        };
        facts.push((counterpart, fact));
    }
    resolve(state, |resolver| resolver.found(facet, found.search, facts))?;
    drain(state)?;
    Ok(Outcome::Tended)
}

/// Takes a retraction: at the identifier that it names, or, of a source, for all identifiers of this shard.
pub(super) fn retract(state: &mut State, stamp: u64, retract: &RetractCommand) -> Result<Outcome, Broken> {
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    let Ok(retraction) = isthmus_domain::identity::Retraction::decode(&retract.retraction) else {
        return Ok(Outcome::Refused("the retraction can't be read"));
    };
    if retract.facet.is_empty() {
        if Arc::make_mut(&mut state.meta.sources).add(retraction) {
            state.meta.sweep.begin();
        }
        return Ok(Outcome::Retracted(stamp));
    }
    let Some(facet) = FacetId::from_slice(&retract.facet) else {
        return Ok(Outcome::Refused("the retraction is for no identifier"));
    };
    if !state.meta.owned.contains(facet.slot()) {
        return Ok(Outcome::NotOwned);
    }
    resolve(state, |resolver| resolver.retract(facet, &retraction))?;
    drain(state)?;
    Ok(Outcome::Retracted(stamp))
}
