//! Reads of identity resolution: the same rows that apply works on, as they are, one after the other.
//!
//! Rows may change between two looks. That is all right where the protocol says so: a record and its home are read one
//! after the other anyway, and most of the time on different shards.

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_domain::identity::RowKey;
use isthmus_identity::{Error, Resolver, Roots, Served, Store, keys, stored};
use isthmus_proto::internal::v1::{IdentityMessage, LinkVersion, Member, ProfileEpoch, ReadRootReply};
use isthmus_raft::Broken;
use prost::Message as _;

use crate::{apply::identity::is_open, below::Below, error::broken, machine::Shared};

/// The rows of a replica, to be read only.
struct Rows<'a>(&'a Shared);

impl Store for Rows<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.0.state.read();
        let below = Below::of(self.0, &state);
        state.identity_row_over(key, Some(&below)).map_err(store)
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        let state = self.0.state.read();
        let below = Below::of(self.0, &state);
        state.identity_rows_over(prefix, after, limit, Some(&below)).map_err(store)
    }

    fn put(&mut self, _: Vec<u8>, _: Option<Bytes>) -> Result<(), Error> {
        Err(Error::Store("a reader writes nothing".to_owned()))
    }

    fn send(&mut self, _: IdentityMessage) {}

    fn send_later(&mut self, _: IdentityMessage) {}
}

fn store(error: Broken) -> Error {
    Error::Store(error.to_string())
}

fn resolve<T>(
    shared: &Shared,
    work: impl FnOnce(&mut Resolver<'_, Rows<'_>>) -> Result<T, Error>,
) -> Result<T, Broken> {
    let (rules, sources) = {
        let state = shared.state.read();
        (state.meta.rules.clone(), state.meta.sources.clone())
    };
    let (mut rows, mut roots) = (Rows(shared), Roots::default());
    work(&mut Resolver::new(&mut rows, &mut roots, &rules, &sources, 0)).map_err(broken)
}

/// A row of the state, whole. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub(super) fn stored_row(shared: &Shared, key: &[u8]) -> Result<Option<Bytes>, Broken> {
    let state = shared.state.read();
    let below = Below::of(shared, &state);
    state.identity_row_over(key, Some(&below))
}

/// What an identifier knows of itself; `None` of one that was never linked. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn record(shared: &Shared, facet: &FacetId) -> Result<Option<stored::Record>, Broken> {
    match Rows(shared).get(&keys::record(facet)).map_err(broken)? {
        Some(bytes) => stored::Record::decode(bytes).map(Some).map_err(broken),
        None => Ok(None),
    }
}

/// What a home answers to a read of a member that knows of an epoch. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn members(shared: &Shared, home: &FacetId, member: &FacetId, epoch: u64) -> Result<Served, Broken> {
    let known = resolve(shared, |resolver| resolver.home(home))?;
    if known.epoch > 0 || epoch > 0 {
        return resolve(shared, |resolver| resolver.serve(home, member, epoch));
    }
    // It was linked, and nobody has told it of a list yet: a profile of its own.
    let alone = record(shared, home)?.map(|record| Member {
        facet: Bytes::copy_from_slice(home.as_bytes()),
        since: 0,
        namespace: record.namespace,
        value: record.value,
    });
    Ok(Served::Members(alone.into_iter().collect(), shared.state.read().meta.rules.version()))
}

/// How the profile of a home came to be, by rising epoch. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn history(shared: &Shared, home: &FacetId) -> Result<Vec<ProfileEpoch>, Broken> {
    let prefix = keys::history(home, None);
    let rows = Rows(shared).scan(&prefix, None, usize::MAX).map_err(broken)?;
    let epoch = |(key, row): (Vec<u8>, Bytes)| {
        let number = key.get(prefix.len()..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let stored::Epoch { stamp, rules_version, came, left } =
            stored::Epoch::decode(row).map_err(broken)?;
        Ok(ProfileEpoch { epoch: number.unwrap_or_default(), stamp, rules_version, came, left })
    };
    rows.into_iter().map(epoch).collect()
}

/// The epochs of a home's history above `before`, up to `through`, rising. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub(crate) fn history_between(
    shared: &Shared,
    home: &FacetId,
    before: u64,
    through: u64,
) -> Result<Vec<stored::Epoch>, Broken> {
    const PAGE: usize = 64;
    let (prefix, last) = (keys::history(home, None), keys::history(home, Some(through)));
    let (mut after, mut epochs) = (keys::history(home, Some(before)), Vec::new());
    loop {
        let rows = Rows(shared).scan(&prefix, Some(&after), PAGE).map_err(broken)?;
        let whole = rows.len() < PAGE || rows.iter().any(|(key, _)| *key > last);
        for (key, row) in rows.into_iter().filter(|(key, _)| *key <= last) {
            epochs.push(stored::Epoch::decode(row).map_err(broken)?);
            after = key;
        }
        if whole {
            return Ok(epochs);
        }
    }
}

/// Whether all that a retraction asked for is done at an identifier. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn is_retracted(shared: &Shared, facet: FacetId, id: &str) -> Result<bool, Broken> {
    resolve(shared, |resolver| resolver.is_retracted(facet, id))
}

/// Whether a row of a link fact is not in force yet.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn is_unsettled(shared: &Shared, row: &RowKey) -> Result<bool, Broken> {
    let state = shared.state.read();
    let below = Below::of(shared, &state);
    is_open(&state, row, Some(&below))
}

/// Whether every row of a source's link facts is in force, and no fact is searched. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn is_source_settled(shared: &Shared, source: &str) -> Result<bool, Broken> {
    if !shared.state.read().searches.is_empty() {
        return Ok(false);
    }
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = Rows(shared).scan(&[keys::table::LINK_ROW], after.as_deref(), 1_000).map_err(broken)?;
        let Some((last, _)) = rows.last() else { return Ok(true) };
        after = Some(last.clone());
        for (key, _) in &rows {
            let Some(key) = keys::link_row_key(key) else { continue };
            let of_source = [isthmus_domain::LinkKind::Plain, isthmus_domain::LinkKind::Alias]
                .into_iter()
                .any(|kind| isthmus_identity::source_and_kind(source, kind) == key.source_and_kind);
            if of_source && is_unsettled(shared, &key)? {
                return Ok(false);
            }
        }
    }
}

/// What an identifier, and the root that it may be, knows of links. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn root(shared: &Shared, facet: &FacetId) -> Result<ReadRootReply, Broken> {
    let copied = |facet: &FacetId| Bytes::copy_from_slice(facet.as_bytes());
    let version = |key: &RowKey, version: u64, fact: Bytes| LinkVersion {
        key: Some(isthmus_proto::internal::v1::LinkKey {
            primary: copied(&key.a),
            counterpart: copied(&key.b),
            source_and_kind: Bytes::copy_from_slice(&key.source_and_kind),
        }),
        version,
        fact,
    };
    let mut reply = ReadRootReply::default();
    {
        let state = shared.state.read();
        reply.identity_rules = state.meta.rules.encode().into();
        reply.swept_slots = state.meta.sweep.slots();
        reply
            .retractions
            .extend(state.meta.sources.iter().map(|retraction| Bytes::from(retraction.encode())));
    }
    let Some(record) = record(shared, facet)? else { return Ok(reply) };
    reply.parent = record.parent;
    resolve(shared, |resolver| {
        if let Some(root) = resolver.stored_root(facet)? {
            for (key, row) in root.fold().rows() {
                let fact = row.fact().map(|fact| fact.encode().into()).unwrap_or_default();
                reply.rows.push(version(&key, row.version(), fact));
            }
            let shared = root.fold().flags().filter(|(_, _, shared)| *shared);
            reply.shared.extend(shared.map(|(facet, ..)| copied(&facet)));
        }
        Ok(())
    })?;
    let mut rows = Rows(shared);
    for (key, row) in rows.scan(&keys::link_rows(facet, None), None, usize::MAX).map_err(broken)? {
        let row = stored::StoredRow::read(&row).map_err(broken)?;
        if let Some(key) = keys::link_row_key(&key) {
            reply.own_rows.push(version(&key, row.version, row.fact.unwrap_or_default()));
        }
    }
    for (_, row) in rows.scan(&keys::retraction(facet, ""), None, usize::MAX).map_err(broken)? {
        reply.retractions.push(stored::StoredRetraction::decode(row).map_err(broken)?.retraction);
    }
    Ok(reply)
}
