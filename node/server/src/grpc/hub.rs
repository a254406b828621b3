//! What the services share: the ways into the cluster, and how a call's common parts are read.

use std::{sync::Arc, time::Duration};

use isthmus_coordinator::{Coordinator, View};
use isthmus_domain::{FacetId, Identifier, IdentityKey, Namespace, Stamp};
use isthmus_proto::v1::{Consistency, ProfileKey, consistency::Level, profile_key::Key};
use isthmus_router::{ReadLevel, Router};
use isthmus_shard::Clock;
use tokio::{sync::watch, time::Instant};
use tonic::metadata::MetadataMap;

use super::{
    deadline::deadline, ingest::OpenStreams, profile::watch::Watchers, registry::Registries, status::Refusal,
};
use crate::{activity::Activity, metrics::Metrics, query::Queries};

/// The most items of a page.
pub(super) const PAGE_MAX: u32 = 1_000;
/// The items of a page when the client doesn't say.
const PAGE_DEFAULT: u32 = 100;
/// The longest staleness that a read may ask for, in milliseconds.
const STALENESS_MS_MAX: u32 = 3_600_000;

/// What the services of a node share. Read-only.
pub struct Hub {
    /// This node.
    pub node: u32,
    /// The way to shards.
    pub router: Router,
    /// The way to the metadata group.
    pub coordinator: Coordinator,
    /// The cluster as this node knows it.
    pub view: watch::Receiver<Arc<View>>,
    /// The key that identifiers are hashed with.
    pub identity_key: IdentityKey,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who watches through this node.
    pub watchers: Watchers,
    /// Ingest streams that are open at this node.
    pub ingest_streams: OpenStreams,
    /// Rules and schemas, compiled.
    pub registries: Registries,
    /// Held while this node learns a model to compare profiles by.
    pub learning: tokio::sync::Mutex<()>,
    /// SQL.
    pub queries: Queries,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What came in through this node lately.
    pub activity: Activity,
    /// The deadline of calls that bring none.
    pub deadline: Duration,
    /// When this node started: part of message ids that it makes.
    pub started_micros: i64,
}

impl Hub {
    /// The view of this moment.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Until when a call has to be answered.
    pub(super) fn deadline(&self, metadata: &MetadataMap) -> Instant {
        deadline(metadata, self.deadline)
    }

    /// The facet that the field `key` of a request means.
    pub(super) fn facet(&self, key: Option<&ProfileKey>) -> Result<FacetId, Refusal> {
        const FIELDS: [&str; 4] =
            ["key", "key.identifier.namespace", "key.identifier.value", "key.profile_id"];
        self.facet_named(key, FIELDS)
    }

    /// The facet that the field `other` of a request means.
    pub(super) fn other_facet(&self, key: &ProfileKey) -> Result<FacetId, Refusal> {
        const FIELDS: [&str; 4] =
            ["other", "other.identifier.namespace", "other.identifier.value", "other.profile_id"];
        self.facet_named(Some(key), FIELDS)
    }

    /// The facets that the fields `a` and `b` of a request mean.
    pub(super) fn facets_of_pair(
        &self,
        a: Option<&ProfileKey>,
        b: Option<&ProfileKey>,
    ) -> Result<[FacetId; 2], Refusal> {
        const A: [&str; 4] = ["a", "a.identifier.namespace", "a.identifier.value", "a.profile_id"];
        const B: [&str; 4] = ["b", "b.identifier.namespace", "b.identifier.value", "b.profile_id"];
        Ok([self.facet_named(a, A)?, self.facet_named(b, B)?])
    }

    /// The facet that a key means; `fields` is what it and its parts are called in the request.
    pub(super) fn facet_named(
        &self,
        key: Option<&ProfileKey>,
        fields: [&'static str; 4],
    ) -> Result<FacetId, Refusal> {
        let [whole, namespace_field, value_field, profile_id_field] = fields;
        match key.and_then(|key| key.key.as_ref()) {
            Some(Key::Identifier(given)) => {
                let namespace = Namespace::parse(&given.namespace).map_err(|error| {
                    Refusal::field("INVALID_IDENTIFIER", namespace_field, error.to_string())
                })?;
                let identifier = Identifier::normalise(namespace, &given.value)
                    .map_err(|error| Refusal::field("INVALID_IDENTIFIER", value_field, error.to_string()))?;
                Ok(FacetId::of(&self.identity_key, &identifier))
            }
            Some(Key::ProfileId(text)) => text.parse().map_err(|_| {
                Refusal::field("INVALID_PROFILE_ID", profile_id_field, "must be 32 hexadecimal digits")
            }),
            None => {
                Err(Refusal::field("INVALID_KEY", whole, "is missing: name an identifier or a profile id"))
            }
        }
    }
}

/// How fresh a read has to be.
pub(crate) fn read_level(consistency: Option<&Consistency>) -> Result<ReadLevel, Refusal> {
    match consistency.and_then(|consistency| consistency.level.as_ref()) {
        None | Some(Level::Linearizable(_)) => Ok(ReadLevel::Linearizable),
        Some(Level::MinVersion(token)) => token.parse::<Stamp>().map(ReadLevel::AtLeast).map_err(|_| {
            let what = "must be a version token: sixteen hexadecimal digits, as Ingest returned it";
            Refusal::field("INVALID_VERSION", "consistency.min_version", what)
        }),
        Some(Level::MaxStalenessMs(ms @ 1..=STALENESS_MS_MAX)) => {
            Ok(ReadLevel::Stale(Duration::from_millis(u64::from(*ms))))
        }
        Some(Level::MaxStalenessMs(_)) => {
            let what = format!("must be 1 to {STALENESS_MS_MAX}");
            Err(Refusal::field("INVALID_STALENESS", "consistency.max_staleness_ms", what))
        }
    }
}

/// How many items a page is to have.
pub(super) fn page_limit(limit: u32) -> Result<u32, Refusal> {
    match limit {
        0 => Ok(PAGE_DEFAULT),
        1..=PAGE_MAX => Ok(limit),
        _ => Err(Refusal::field(
            "INVALID_LIMIT",
            "limit",
            format!("must be 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::Linearizable;

    use super::*;

    fn level(level: Level) -> Result<ReadLevel, Refusal> {
        read_level(Some(&Consistency { level: Some(level) }))
    }

    #[test]
    fn a_read_is_linearizable_unless_it_asks_for_less() {
        assert_eq!(read_level(None), Ok(ReadLevel::Linearizable));
        assert_eq!(level(Level::Linearizable(Linearizable {})), Ok(ReadLevel::Linearizable));
        assert_eq!(level(Level::MinVersion("00000000000000ff".into())), Ok(ReadLevel::AtLeast(Stamp(255))));
        assert_eq!(level(Level::MaxStalenessMs(5)), Ok(ReadLevel::Stale(Duration::from_millis(5))));
        for bad in
            [Level::MinVersion("ff".into()), Level::MaxStalenessMs(0), Level::MaxStalenessMs(3_600_001)]
        {
            assert!(level(bad).is_err());
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!((page_limit(0), page_limit(1_000)), (Ok(100), Ok(1_000)));
        assert!(page_limit(1_001).is_err());
    }
}
