//! Taking link facts back, and telling beforehand what that would do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use isthmus_domain::identity::{Component, Retraction, RowKey, Scope, Until, WhatIf};
use isthmus_domain::{EventRecord, FacetId, Identifier, LinkFact, Namespace};
use isthmus_proto::internal::v1::{DecidePair, MatchingChange, PairKey, PairState, matching_change::Change};
use isthmus_proto::v1::{
    self, ChangedFact, IdentifierGroup, SplitRequest, SplitResponse, split_scope::Scope as Wire,
};
use isthmus_router::ReadLevel;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{Profiles, damaged, explain};
use crate::grpc::{
    status::{Refusal, status},
    value::micros,
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 1_000;
/// The longest name of who gave a retraction, in bytes.
const BY_MAX: usize = 256;
/// The longest id, in bytes.
const ID_MAX: usize = 100;
/// Events that one call asks for in a preview.
const PAGE: u32 = 1_000;

impl Profiles {
    pub(super) async fn split_up(&self, request: Request<SplitRequest>) -> Result<SplitResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let preview = request.preview;
        let retraction = self.retraction(request)?;
        if preview {
            return self.preview(&retraction, deadline).await;
        }
        let retracted = self.hub.router.retract(&self.hub.identity_key, &retraction, deadline).await;
        retracted.map_err(|error| status(&error))?;
        if let Scope::Pair(a, b) = &retraction.scope {
            self.refuse(a, b, &retraction, deadline).await?;
        }
        Ok(SplitResponse { id: retraction.id, ..SplitResponse::default() })
    }

    /// Whoever says that two identifiers are not one customer says so to matching, too: it must not link them again.
    async fn refuse(
        &self,
        a: &Identifier,
        b: &Identifier,
        retraction: &Retraction,
        deadline: Instant,
    ) -> Result<(), Status> {
        let key = &self.hub.identity_key;
        let ids = [FacetId::of(key, a), FacetId::of(key, b)];
        let read = self.hub.router.read_profiles(&ids, ReadLevel::Linearizable, deadline).await;
        let (parts, stamp) = read.map_err(|error| status(&error))?;
        let mut names = Vec::with_capacity(2);
        for (id, parts) in ids.iter().zip(&parts) {
            let profile = self.fold(parts.as_ref(), stamp)?;
            names.push(profile.map_or(*id, |profile| profile.profile_id));
        }
        let (Some(x), Some(y)) = (names.first(), names.last()) else { return Ok(()) };
        if x == y {
            // Other facts keep them together.
            return Ok(());
        }
        let copied = |id: &FacetId| Bytes::copy_from_slice(id.as_bytes());
        let decide = DecidePair {
            key: Some(PairKey { a: copied(x.min(y)), b: copied(x.max(y)) }),
            state: PairState::Refused.into(),
            by: retraction.by.clone(),
            note: retraction.reason.clone(),
            apart: true,
            even_if_none: true,
        };
        let change = MatchingChange { change: Some(Change::Decide(decide)) };
        let decided = self.hub.router.change_matching(&[change], deadline).await;
        decided.map(|_| ()).map_err(|error| status(&error))
    }

    fn retraction(&self, request: SplitRequest) -> Result<Retraction, Refusal> {
        let now = self.hub.clock.now_micros();
        let scope = request.scope.and_then(|scope| scope.scope);
        let scope = match scope {
            Some(Wire::Fact(fact)) => {
                let (a, b) = pair("scope.fact", fact.a, fact.b)?;
                required("scope.fact.source", &fact.source)?;
                required("scope.fact.message_id", &fact.message_id)?;
                Scope::Fact { a, b, source: fact.source, message_id: fact.message_id }
            }
            Some(Wire::Pair(both)) => {
                let (a, b) = pair("scope.pair", both.a, both.b)?;
                Scope::pair(a, b)
            }
            Some(Wire::Identifier(one)) => Scope::Identifier(identifier("scope.identifier", Some(one))?),
            Some(Wire::Source(source)) => {
                required("scope.source", &source)?;
                Scope::Source(source)
            }
            None => {
                let what = "is missing: name a fact, a pair, an identifier or a source";
                return Err(Refusal::field("INVALID_SCOPE", "scope", what));
            }
        };
        for (field, text, max) in [
            ("reason", &request.reason, REASON_MAX),
            ("by", &request.by, BY_MAX),
            ("id", &request.id, ID_MAX),
        ] {
            if text.len() > max {
                return Err(Refusal::field("TOO_LONG", field, format!("has more than {max} bytes")));
            }
        }
        let until = match (request.never, request.until) {
            (true, None) => Until::Ever,
            (false, until) => Until::Time(until.as_ref().map_or(now, micros)),
            (true, Some(_)) => {
                let what = "says up to when, and `never` says for ever: leave one of them out";
                return Err(Refusal::field("INVALID_UNTIL", "until", what));
            }
        };
        let id = match request.id.is_empty() {
            true => format!("{:016x}-{:016x}", now, self.hub.router.next_attempt()),
            false => request.id,
        };
        Ok(Retraction { given_at: now, id, scope, until, by: request.by, reason: request.reason })
    }

    /// What a retraction would do to the bundle that it is about. Whether an identifier would stop being shared is not
    /// worked out.
    async fn preview(&self, retraction: &Retraction, deadline: Instant) -> Result<SplitResponse, Status> {
        let about = match &retraction.scope {
            Scope::Fact { a, .. } | Scope::Pair(a, _) | Scope::Identifier(a) => a,
            Scope::Source(_) => {
                let what = "a whole source is about all customers: preview a pair or an identifier of it";
                return Err(Refusal::field("INVALID_SCOPE", "preview", what).into());
            }
        };
        let about = FacetId::of(&self.hub.identity_key, about);
        let links = self.links(about, deadline).await?;
        let mut concerned: BTreeMap<RowKey, Option<LinkFact>> = BTreeMap::new();
        for (key, row) in links.fold.rows() {
            if row.fact().is_some_and(|fact| retraction.suppresses(fact)) {
                concerned.insert(key, None);
            }
        }
        let primaries: BTreeSet<FacetId> = concerned.keys().map(|key| key.a).collect();
        for primary in primaries {
            self.next_facts(primary, retraction, &mut concerned, deadline).await?;
        }
        let what_if = WhatIf { rows: concerned.into_iter().collect(), shared: Vec::new() };
        let preview = links.fold.preview(&what_if).map_err(|_| damaged("a bundle's rows"))?;
        let group = |component: &Component| IdentifierGroup {
            identifiers: component.members().iter().map(|m| explain::named(&m.identifier)).collect(),
        };
        Ok(SplitResponse {
            id: retraction.id.clone(),
            before: preview.before.iter().map(group).collect(),
            after: preview.after.iter().map(group).collect(),
            facts: preview
                .facts
                .iter()
                .map(|changed| ChangedFact {
                    now: Some(explain::verdict(&changed.fact, changed.before.as_ref())),
                    then: Some(explain::verdict(&changed.fact, changed.after.as_ref())),
                })
                .collect(),
        })
    }

    /// Looks among a primary's events for the facts that would take the place of suppressed ones.
    async fn next_facts(
        &self,
        primary: FacetId,
        retraction: &Retraction,
        concerned: &mut BTreeMap<RowKey, Option<LinkFact>>,
        deadline: Instant,
    ) -> Result<(), Status> {
        let router = &self.hub.router;
        let (own, _) = router.read_links(primary, deadline).await.map_err(|error| status(&error))?;
        let mut standing = isthmus_domain::identity::Retractions::default();
        standing.add(retraction.clone());
        for bytes in &own.retractions {
            standing.add(Retraction::decode(bytes).map_err(|_| damaged("a retraction"))?);
        }
        let mut before = None;
        loop {
            let read = router.read_events(primary, before, PAGE, ReadLevel::Linearizable, deadline).await;
            let page = read.map_err(|error| status(&error))?;
            for event in page.events {
                let mut record = EventRecord::decode(event.record).map_err(|_| damaged("an event"))?;
                let mut place = [0; 24];
                place[..8].copy_from_slice(&(record.timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes());
                place[8..].copy_from_slice(&record.dedup_key());
                before = Some(place);
                if let (true, Some((namespace, value))) = (record.namespace.is_empty(), &page.identifier) {
                    (record.namespace, record.value) = (namespace.clone(), value.clone());
                }
                for (link, fact) in record.links.iter().zip(record.link_facts()) {
                    let fact = fact.map_err(|_| damaged("a link fact"))?;
                    let Some(b) = FacetId::from_slice(&link.facet) else { continue };
                    let source_and_kind = isthmus_identity::source_and_kind(&fact.source, fact.kind);
                    let Some(next) = concerned.get_mut(&RowKey { a: primary, b, source_and_kind }) else {
                        continue;
                    };
                    let older = next.as_ref().is_none_or(|next| fact < *next);
                    if older && standing.suppressing(&fact).is_none() {
                        *next = Some(fact);
                    }
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}

fn required(field: &'static str, text: &str) -> Result<(), Refusal> {
    match text.is_empty() {
        true => Err(Refusal::field("INVALID_SCOPE", field, "is missing")),
        false => Ok(()),
    }
}

fn identifier(field: &'static str, given: Option<v1::Identifier>) -> Result<Identifier, Refusal> {
    let given = given.ok_or_else(|| Refusal::field("INVALID_SCOPE", field, "an identifier is missing"))?;
    let namespace = Namespace::parse(&given.namespace);
    let named = namespace.and_then(|namespace| Identifier::normalise(namespace, &given.value));
    named.map_err(|error| Refusal::field("INVALID_IDENTIFIER", field, error.to_string()))
}

fn pair(
    field: &'static str,
    a: Option<v1::Identifier>,
    b: Option<v1::Identifier>,
) -> Result<(Identifier, Identifier), Refusal> {
    let (a, b) = (identifier(field, a)?, identifier(field, b)?);
    if a == b {
        return Err(Refusal::field("INVALID_SCOPE", field, "both are the same identifier"));
    }
    Ok((a, b))
}
