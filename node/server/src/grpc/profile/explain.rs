//! Why identifiers are one customer: the bundle's facts, folded anew from the first on the reader's side.

use std::sync::Arc;

use isthmus_domain::identity::{
    Fold, IdentityRules, Judged, Refusal as Refused, Retraction, RowKey, Scope, Until, Verdict,
};
use isthmus_domain::{FacetId, Identifier, LinkFact, LinkKind, LinkRow, Stamp};
use isthmus_proto::{
    internal::v1::{LinkVersion, Member, ReadRootReply},
    v1::{
        self, ExplainRequest, ExplainResponse, JudgedFact, ProfileChange, SplitFact, SplitPair, SplitScope,
    },
};
use isthmus_router::ReadLevel;
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{Profiles, damaged, nothing_known};
use crate::grpc::{status::status, value::timestamp};

/// What is known of an identifier's links.
pub(super) struct Links {
    /// What its own slot knows.
    pub own: ReadRootReply,
    /// The fold of its bundle.
    pub fold: Fold,
}

impl Links {
    /// From what the identifier's slot and the root of its bundle say.
    fn of(own: ReadRootReply, root: &ReadRootReply) -> Result<Self, isthmus_domain::Error> {
        let rules = IdentityRules::decode(&root.identity_rules).unwrap_or_default();
        let mut fold = Fold::new(Arc::new(rules));
        for version in &root.rows {
            if let Some(key) = row_key(version) {
                fold.put(key, &LinkRow::of(fact(version)?, version.version.max(1)))?;
            }
        }
        for shared in root.shared.iter().filter_map(|id| FacetId::from_slice(id)) {
            fold.set_shared(shared, 1, true);
        }
        fold.settle();
        Ok(Self { own, fold })
    }

    /// Facts of which the identifier is the primary that never reached the root: the rules refuse them by themselves, or
    /// one end is shared.
    fn held_back(&self) -> Result<Vec<Judged>, isthmus_domain::Error> {
        let mut held = Vec::new();
        for version in &self.own.own_rows {
            let known = row_key(version).is_some_and(|key| self.fold.row_version(&key) > 0);
            if let Some(fact) = fact(version)?.filter(|_| !known) {
                let refusal = self.fold.rules().refuses(&fact).unwrap_or(Refused::Shared);
                held.push(Judged { fact: Arc::new(fact), verdict: Verdict::Refused(refusal) });
            }
        }
        Ok(held)
    }
}

impl Profiles {
    pub(super) async fn explained(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<ExplainResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let x = self.hub.facet(request.key.as_ref())?;
        let y = request.other.as_ref().map(|other| self.hub.other_facet(other)).transpose()?;
        let level = ReadLevel::Linearizable;
        let membership = self.hub.router.membership(x, true, level, deadline).await;
        let Some(membership) = membership.map_err(|error| status(&error))? else {
            return self.alone(x, y, deadline).await;
        };
        let links = self.links(x, deadline).await?;
        let explanation = links.fold.explain(x, y.unwrap_or(x));
        let mut facts = explanation.facts;
        facts.extend(links.held_back().map_err(|_| damaged("a link fact"))?);
        let mut retractions = links.own.retractions.clone();
        if let Some(y) = y.filter(|y| *y != x) {
            let other = self.links(y, deadline).await?;
            if !explanation.together {
                // Another bundle, perhaps: what is said about it there belongs to the answer.
                facts.extend(other.fold.explain(y, y).facts);
            }
            facts.extend(other.held_back().map_err(|_| damaged("a link fact"))?);
            retractions.extend(other.own.retractions);
        }
        facts.sort();
        facts.dedup();
        retractions.sort();
        retractions.dedup();
        let retractions = retractions.iter().map(|bytes| Retraction::decode(bytes));
        let retractions = retractions.collect::<Result<Vec<_>, _>>().map_err(|_| damaged("a retraction"))?;
        let change = |epoch: isthmus_proto::internal::v1::ProfileEpoch| ProfileChange {
            at: Some(timestamp(Stamp(epoch.stamp).as_micros())),
            came: epoch.came.into_iter().map(identifier).collect(),
            left: epoch.left.into_iter().map(identifier).collect(),
            rules_version: epoch.rules_version,
        };
        Ok(ExplainResponse {
            together: explanation.together,
            chain: explanation.chain.iter().map(judged).collect(),
            facts: facts.iter().map(judged).collect(),
            history: membership.history.into_iter().map(change).collect(),
            retractions: retractions.into_iter().map(retraction).collect(),
            rules_version: membership.rules_version,
        })
    }

    /// The answer about an identifier that was never linked.
    async fn alone(
        &self,
        x: FacetId,
        y: Option<FacetId>,
        deadline: Instant,
    ) -> Result<ExplainResponse, Status> {
        let read = self.hub.router.read_facets(&[x], ReadLevel::Linearizable, deadline).await;
        let (facets, _) = read.map_err(|error| status(&error))?;
        if facets.iter().all(|facet| facet.summary.is_none()) {
            return Err(nothing_known());
        }
        Ok(ExplainResponse { together: y.is_none_or(|y| y == x), ..ExplainResponse::default() })
    }

    pub(super) async fn links(&self, id: FacetId, deadline: Instant) -> Result<Links, Status> {
        let read = self.hub.router.read_links(id, deadline).await;
        let (own, root) = read.map_err(|error| status(&error))?;
        Links::of(own, &root).map_err(|_| damaged("a bundle's rows"))
    }
}

fn row_key(version: &LinkVersion) -> Option<RowKey> {
    let key = version.key.as_ref()?;
    Some(RowKey {
        a: FacetId::from_slice(&key.primary)?,
        b: FacetId::from_slice(&key.counterpart)?,
        source_and_kind: key.source_and_kind.as_ref().try_into().ok()?,
    })
}

fn fact(version: &LinkVersion) -> Result<Option<LinkFact>, isthmus_domain::Error> {
    let bytes = Some(&version.fact).filter(|bytes| !bytes.is_empty());
    bytes.map(|bytes| LinkFact::decode(bytes)).transpose()
}

fn identifier(member: Member) -> v1::Identifier {
    v1::Identifier { namespace: member.namespace, value: member.value }
}

pub(super) fn named(identifier: &Identifier) -> v1::Identifier {
    v1::Identifier { namespace: identifier.namespace().to_string(), value: identifier.value().to_owned() }
}

pub(super) fn link_fact(fact: &LinkFact) -> v1::LinkFact {
    v1::LinkFact {
        a: Some(named(&fact.a)),
        b: Some(named(&fact.b)),
        timestamp: Some(timestamp(fact.timestamp)),
        source: fact.source.clone(),
        message_id: fact.message_id.clone(),
        alias: fact.kind == LinkKind::Alias,
    }
}

fn judged(judged: &Judged) -> JudgedFact {
    verdict(&judged.fact, Some(&judged.verdict))
}

/// A fact with what is said of it; without a verdict it doesn't count.
pub(super) fn verdict(fact: &LinkFact, verdict: Option<&Verdict>) -> JudgedFact {
    let namespace = match verdict {
        Some(Verdict::Refused(Refused::Limit { namespace })) => namespace.to_string(),
        _ => String::new(),
    };
    JudgedFact {
        fact: Some(link_fact(fact)),
        verdict: verdict.map(|verdict| verdict.code().to_owned()).unwrap_or_default(),
        namespace,
    }
}

fn retraction(retraction: Retraction) -> v1::Retraction {
    use v1::split_scope::Scope as Wire;
    let scope = match &retraction.scope {
        Scope::Fact { a, b, source, message_id } => Wire::Fact(SplitFact {
            a: Some(named(a)),
            b: Some(named(b)),
            source: source.clone(),
            message_id: message_id.clone(),
        }),
        Scope::Pair(a, b) => Wire::Pair(SplitPair { a: Some(named(a)), b: Some(named(b)) }),
        Scope::Identifier(one) => Wire::Identifier(named(one)),
        Scope::Source(source) => Wire::Source(source.clone()),
    };
    v1::Retraction {
        id: retraction.id,
        scope: Some(SplitScope { scope: Some(scope) }),
        until: match retraction.until {
            Until::Time(until) => Some(timestamp(until)),
            Until::Ever => None,
        },
        given_at: Some(timestamp(retraction.given_at)),
        by: retraction.by,
        reason: retraction.reason,
    }
}
