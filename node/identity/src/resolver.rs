//! One command's work: what a message makes its receiver do.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_domain::identity::{IdentityRules, Retractions, RowKey};
use isthmus_proto::internal::v1::{
    IdentityMessage, LinkKey, LinkVersion, ToRoot, identity_message::Body, to_root::Body as RootBody,
};
use prost::Message as _;

use crate::{Error, Roots, Store, keys, stored::Record};

/// Handles messages within one command of a shard.
pub struct Resolver<'a, S> {
    pub(crate) store: &'a mut S,
    pub(crate) roots: &'a mut Roots,
    pub(crate) rules: &'a Arc<IdentityRules>,
    /// Retractions of whole sources, which every shard has.
    pub(crate) sources: &'a Retractions,
    /// The command's stamp.
    pub(crate) stamp: u64,
}

impl<'a, S: Store> Resolver<'a, S> {
    /// For a command with this stamp. `roots` is kept from command to command, and may be emptied between them.
    pub fn new(
        store: &'a mut S,
        roots: &'a mut Roots,
        rules: &'a Arc<IdentityRules>,
        sources: &'a Retractions,
        stamp: u64,
    ) -> Self {
        Self { store, roots, rules, sources, stamp }
    }

    /// Handles a message at its receiver.
    ///
    /// # Errors
    /// Storage that fails, and rows or messages that can't be.
    pub fn handle(&mut self, message: IdentityMessage) -> Result<(), Error> {
        let own = facet(&message.to)?;
        let body = message.body.ok_or(Error::Damaged("a message of a newer version"))?;
        match body {
            Body::LinkNews(news) => self.link_news(own, news),
            Body::CounterpartRetraction(told) => self.counterpart_retraction(own, told),
            Body::CounterpartRetractionDone(done) => self.counterpart_retraction_done(own, &done),
            Body::LinkHeld(held) => self.link_held(own, held),
            Body::Settled(settled) => self.settled(own, settled),
            Body::ToRoot(up) => self.pass_up(own, up),
            Body::Unite(unite) => self.unite(own, facet(&unite.with)?),
            Body::Members(members) => self.members(own, members),
            Body::MembersChange(change) => self.members_change(own, change),
            Body::Assign(assign) => self.assign(own, assign),
            Body::Joined(joined) => self.joined(own, joined),
            Body::Continue(_) => self.go_on(own),
        }
    }

    /// What an identifier knows of itself; of one that was never linked nothing.
    pub(crate) fn record(&mut self, own: &FacetId) -> Result<Record, Error> {
        match self.store.get(&keys::record(own))? {
            Some(bytes) => Record::decode(bytes).map_err(|_| Error::Damaged("an identifier's record")),
            None => Ok(Record::default()),
        }
    }

    pub(crate) fn save(&mut self, own: &FacetId, record: &Record) -> Result<(), Error> {
        self.put(keys::record(own), record)
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, row: &impl prost::Message) -> Result<(), Error> {
        self.store.put(key, Some(row.encode_to_vec().into()))
    }

    pub(crate) fn send(&mut self, to: &FacetId, body: Body) {
        self.store.send(IdentityMessage { to: bytes(to), body: Some(body) });
    }

    pub(crate) fn send_later(&mut self, to: &FacetId, body: Body) {
        self.store.send_later(IdentityMessage { to: bytes(to), body: Some(body) });
    }

    /// Sends something to the root of the bundle that an identifier is in: it travels from parent to parent.
    pub(crate) fn up(&mut self, own: &FacetId, record: &Record, body: RootBody) {
        let next = record.parent().unwrap_or(*own);
        self.send(&next, Body::ToRoot(ToRoot { body: Some(body) }));
    }

    fn pass_up(&mut self, own: FacetId, up: ToRoot) -> Result<(), Error> {
        match self.record(&own)?.parent() {
            Some(parent) => {
                self.send(&parent, Body::ToRoot(up));
                Ok(())
            }
            None => self.at_root(own, up.body.ok_or(Error::Damaged("a message to a root"))?),
        }
    }
}

pub(crate) fn facet(bytes: &[u8]) -> Result<FacetId, Error> {
    FacetId::from_slice(bytes).ok_or(Error::Damaged("a facet's id"))
}

pub(crate) fn bytes(facet: &FacetId) -> Bytes {
    Bytes::copy_from_slice(facet.as_bytes())
}

impl<S> Resolver<'_, S> {
    /// The row that a message names; `None` when it can't be read.
    pub fn row_key(key: &LinkKey) -> Option<RowKey> {
        row_key(Some(key)).ok()
    }
}

pub(crate) fn row_key(key: Option<&LinkKey>) -> Result<RowKey, Error> {
    let key = key.ok_or(Error::Damaged("a row's key"))?;
    let hash = key.source_and_kind.as_ref().try_into().map_err(|_| Error::Damaged("a row's key"))?;
    Ok(RowKey { a: facet(&key.primary)?, b: facet(&key.counterpart)?, source_and_kind: hash })
}

pub(crate) fn link_key(key: &RowKey) -> LinkKey {
    LinkKey {
        primary: bytes(&key.a),
        counterpart: bytes(&key.b),
        source_and_kind: Bytes::copy_from_slice(&key.source_and_kind),
    }
}

/// A row in a version, without its fact.
pub(crate) fn named(key: &RowKey, version: u64) -> LinkVersion {
    LinkVersion { key: Some(link_key(key)), version, fact: Bytes::new() }
}
