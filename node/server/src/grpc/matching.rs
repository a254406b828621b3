//! `MatchingService`: profiles that may be one person, and what was decided about them.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Stamp};
use isthmus_matcher::{PassError, holders, link, pass};
use isthmus_matching::Config;
use isthmus_proto::{
    internal::v1::{
        DecidePair, DocumentKind, DocumentRecord, MatchingChange, MatchingDocument, MatchingStatusReply,
        PairIdentifier, PairKey, PairRow, PairState, matching_change::Change,
    },
    v1::{
        self, DecidePairRequest, DecidePairResponse, Identifier, ListPairsRequest, ListPairsResponse,
        MatchRequest, MatchResponse, MatchingServiceGetStatusRequest, MatchingServiceGetStatusResponse,
        MatchingStatus, Pair, PairDecision, PairWeight, matching_service_server::MatchingService,
    },
};
use isthmus_router::{PairFilter, ReadLevel};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit},
    status::{Refusal, status},
    value::timestamp,
};

/// Threads that learn: beside ingest, which goes on.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");
/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(25);
/// The longest note on a decision, in characters; and the longest name of who decides.
const NOTE_CHARS_MAX: usize = 1_000;
const BY_CHARS_MAX: usize = 100;
/// Pairs of names that a decision is looked for under.
const NAMES_MAX: usize = 500;

/// The service.
pub struct Pairs {
    hub: Arc<Hub>,
}

impl Pairs {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Learns a model and puts it in force.
    async fn learn(&self, config_json: &str, deadline: Instant) -> Result<(), Status> {
        let Ok(_learning) = self.hub.learning.try_lock() else {
            let message = "this node is learning a model: wait until that is done";
            return Err(Refusal::new(Code::FailedPrecondition, "PASS_UNDER_WAY", message).into());
        };
        let hub = &self.hub;
        let view = hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let versions = view.document_versions(DocumentKind::Matching, "");
        let read = |document: &DocumentRecord| MatchingDocument::decode(document.content.clone()).ok();
        let config = match config_json {
            "" => versions.last().and_then(read).map(|document| document.config_json.to_vec()),
            given => Some(given.as_bytes().to_vec()),
        };
        let config = config.map(|json| serde_json::from_slice::<Config>(&json)).transpose();
        let config = config.map_err(|error| invalid(&error))?;
        if let Some(config) = &config {
            config.plan().map_err(|error| invalid(&error))?;
        }
        let number = hub.clock.now_micros().max(0).cast_unsigned();
        let currency = isthmus_coordinator::DEFAULT_CURRENCY;
        let learned = pass::learn(&hub.router, &hub.identity_key, currency, config, number, THREADS);
        let learned = tokio::time::timeout_at(deadline, learned).await.map_err(|_| {
            let message = "reading the profiles and learning from them took longer than the call may take: give it \
                           more time, up to five minutes";
            Refusal::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
        })?;
        let learned = learned.map_err(refused)?;
        let put = DocumentRecord {
            kind: DocumentKind::Matching.into(),
            content: learned.document.encode_to_vec().into(),
            ..DocumentRecord::default()
        };
        let version = versions.last().map_or(0, |document| document.version);
        let put = hub.coordinator.put_document(put, version, deadline).await;
        put.map_err(|error| status(&error))?;
        // The one before may be on its way to a node still; the one before that is not.
        if let Some(older) = versions.iter().rev().nth(1).and_then(read) {
            // The new one is in force all the same.
            if let Err(error) = pass::forget(&hub.router, &older).await {
                tracing::warn!(%error, "parts of an old model for matching stay behind");
            }
        }
        Ok(())
    }

    /// How far all shards have come.
    async fn look(&self, deadline: Instant) -> Result<(MatchingStatus, Vec<MatchingStatusReply>), Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let Some(document) = view.document(DocumentKind::Matching, "") else {
            return Ok((MatchingStatus::default(), Vec::new()));
        };
        let version = document.version;
        let document = MatchingDocument::decode(document.content.clone()).map_err(|_| unreadable())?;
        let router = &self.hub.router;
        let ids: BTreeSet<u64> = router.shards().into_iter().collect();
        let shards = try_join_all(ids.iter().map(|it| router.matching_status(*it, deadline)));
        let shards = shards.await.map_err(|error| status(&error))?;
        let profiles = shards.iter().map(|shard| shard.profiles).sum();
        // Everything has been brought to the very blocks that there are now.
        let now = holders::hash(ids.into_iter().zip(shards.iter().map(|shard| shard.incarnation)));
        let complete = shards
            .iter()
            .all(|it| it.complete && it.swept && it.model_version == version && it.brought_to == now);
        let longest = shards.iter().map(|shard| shard.longest_micros).max().unwrap_or_default();
        let (many, few) = (2 * profiles > 3 * document.records, 2 * profiles < document.records);
        let found = MatchingStatus {
            model_version: version,
            learned_from: document.records,
            config_json: String::from_utf8_lossy(&document.config_json).into_owned(),
            profiles,
            complete,
            pending: shards.iter().map(|shard| shard.pending).sum(),
            longest_ms: longest as f64 / 1e3,
            stale: shards.iter().any(|shard| shard.filled_up) || complete && (many || few),
        };
        Ok((found, shards))
    }

    /// The same, when all that was written before has been compared. What one shard hands to another is with neither
    /// for no moment, but may be seen with neither by two looks one after the other; so two rounds have to agree.
    async fn wait(&self, deadline: Instant) -> Result<MatchingStatus, Status> {
        // The last look takes its time, too.
        let end = Instant::now() + deadline.saturating_duration_since(Instant::now()) * 3 / 4;
        let mut before: Option<Vec<u64>> = None;
        loop {
            let (found, shards) = self.look(deadline).await?;
            if found.model_version == 0 {
                return Ok(found);
            }
            let idle = found.complete && found.pending == 0;
            let looked_at: Vec<u64> = shards.iter().map(|shard| shard.looked_at).collect();
            if idle && before.as_ref() == Some(&looked_at) || Instant::now() + LOOK >= end {
                return Ok(found);
            }
            before = idle.then_some(looked_at);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn pairs(&self, request: ListPairsRequest, deadline: Instant) -> Result<ListPairsResponse, Status> {
        let limit = page_limit(request.limit)?;
        if !(0.0..=1.0).contains(&request.min_score) {
            return Err(Refusal::field("INVALID_SCORE", "min_score", "must be 0 to 1").into());
        }
        let state = match request.filter() {
            v1::PairFilter::Unspecified => None,
            v1::PairFilter::Open => Some(PairState::Unspecified),
            v1::PairFilter::Accepted => Some(PairState::Accepted),
            v1::PairFilter::Refused => Some(PairState::Refused),
        };
        let after = cursor::decode(Kind::Pairs, &request.cursor)?.map(FacetId::from_bytes);
        let filter = PairFilter { probability_min: request.min_score, state, before_model: 0 };
        let page = self.hub.router.list_pairs(after, limit, &filter, deadline).await;
        let page = page.map_err(|error| status(&error))?;
        let next_cursor = page.next.map(|next| cursor::encode(Kind::Pairs, next.as_bytes()));
        Ok(ListPairsResponse {
            pairs: page.rows.into_iter().map(shown).collect(),
            next_cursor: next_cursor.unwrap_or_default(),
        })
    }

    /// The names that the profile of a facet has, or may have had: the present one first.
    async fn names_of(
        &self,
        facet: FacetId,
        field: &'static str,
        deadline: Instant,
    ) -> Result<Vec<FacetId>, Status> {
        let read = self.hub.router.read_profiles(&[facet], ReadLevel::Linearizable, deadline).await;
        let (parts, stamp) = read.map_err(|error| status(&error))?;
        let Some(parts) = parts.into_iter().next().flatten() else {
            return Err(Refusal::not_found(format!("nothing is known under {field}")).into());
        };
        let currency = isthmus_coordinator::DEFAULT_CURRENCY;
        let profile = parts.fold(&self.hub.identity_key, currency, stamp).map_err(|_| unreadable())?;
        let name = profile.map(|profile| profile.profile_id);
        let members = parts.members.iter().map(|(facet, ..)| *facet).filter(|facet| Some(*facet) != name);
        Ok(name.into_iter().chain(members).collect())
    }

    async fn decide(
        &self,
        request: DecidePairRequest,
        deadline: Instant,
    ) -> Result<DecidePairResponse, Status> {
        let state = match request.decision() {
            PairDecision::Accepted => PairState::Accepted,
            PairDecision::Refused => PairState::Refused,
            PairDecision::Unspecified => {
                return Err(
                    Refusal::field("INVALID_DECISION", "decision", "must be accepted or refused").into()
                );
            }
        };
        let DecidePairRequest { a, b, by, note, .. } = request;
        if note.chars().count() > NOTE_CHARS_MAX {
            let what = format!("has at most {NOTE_CHARS_MAX} characters");
            return Err(Refusal::field("INVALID_NOTE", "note", what).into());
        }
        if by.chars().count() > BY_CHARS_MAX {
            let what = format!("has at most {BY_CHARS_MAX} characters");
            return Err(Refusal::field("INVALID_BY", "by", what).into());
        }
        let [a, b] = self.hub.facets_of_pair(a.as_ref(), b.as_ref())?;
        let one = self.names_of(a, "a", deadline).await?;
        let two = self.names_of(b, "b", deadline).await?;
        let apart = one.first() != two.first();
        // A pair bears the names that the two had when it was found: each is a member of one of them still.
        let copied = |id: &FacetId| Bytes::copy_from_slice(id.as_bytes());
        let named = |(x, y): (&FacetId, &FacetId)| PairKey { a: copied(x.min(y)), b: copied(x.max(y)) };
        let decisions: Vec<MatchingChange> = one
            .iter()
            .flat_map(|x| two.iter().map(move |y| (x, y)))
            .filter(|(x, y)| x != y)
            .take(NAMES_MAX)
            .map(|pair| {
                let key = Some(named(pair));
                let decide = DecidePair {
                    key,
                    state: state.into(),
                    by: by.clone(),
                    note: note.clone(),
                    apart,
                    even_if_none: false,
                };
                MatchingChange { change: Some(Change::Decide(decide)) }
            })
            .collect();
        let router = &self.hub.router;
        let outcomes = router.change_matching(&decisions, deadline).await.map_err(|error| status(&error))?;
        let changed = outcomes.iter().any(|outcome| outcome.changed);
        let rows: Vec<PairRow> = outcomes.into_iter().filter_map(|outcome| outcome.row).collect();
        let Some(row) = rows.iter().find(|row| row.state() == state).or(rows.first()).cloned() else {
            let message = "the two are not listed as a pair: `isthmus identity pairs` shows those that are";
            return Err(Refusal::not_found(message).into());
        };
        if row.state() != state {
            let message =
                "the two were taken for one person and linked: take that back with `isthmus profile split`";
            return Err(Refusal::new(Code::FailedPrecondition, "ALREADY_LINKED", message).into());
        }
        let unlinked: Vec<PairRow> =
            rows.into_iter().filter(|row| row.state() == PairState::Accepted && !row.linked).collect();
        let mut one_profile = !apart;
        if !unlinked.is_empty() {
            let brought = link::bring(router, &self.hub.identity_key, &unlinked, deadline).await;
            brought.map_err(|error| status(&error))?;
            let now = (self.names_of(a, "a", deadline).await?, self.names_of(b, "b", deadline).await?);
            one_profile = now.0.first() == now.1.first();
        }
        Ok(DecidePairResponse { pair: Some(shown(row)), changed, one_profile })
    }
}

fn unreadable() -> Status {
    let message = "what is stored can't be read: it is damaged, or of a newer version";
    Refusal::new(Code::Internal, "INTERNAL", message).into()
}

fn invalid(error: &dyn std::fmt::Display) -> Status {
    Refusal::field("INVALID_MATCHING", "config_json", error.to_string()).into()
}

fn refused(error: PassError) -> Status {
    match error {
        PassError::Config(error) => invalid(&error),
        PassError::Learn(_) => {
            let message = "fewer than two profiles have any of the traits: send identify events first, or name \
                           other traits in the configuration";
            Refusal::new(Code::FailedPrecondition, "NOTHING_TO_LEARN_FROM", message).into()
        }
        PassError::NoTraits => {
            Refusal::new(Code::FailedPrecondition, "NOTHING_TO_LEARN_FROM", error.to_string()).into()
        }
        PassError::Router(error) => status(&error),
        PassError::Internal(message) => Refusal::new(Code::Internal, "INTERNAL", message).into(),
    }
}

/// A pair as clients get it.
fn shown(row: PairRow) -> Pair {
    let identifiers = |of: Vec<PairIdentifier>| {
        of.into_iter().map(|it| Identifier { namespace: it.namespace, value: it.value }).collect()
    };
    let at = |stamp: u64| (stamp > 0).then(|| timestamp(Stamp(stamp).as_micros()));
    let decision = match row.state() {
        PairState::Unspecified => PairDecision::Unspecified,
        PairState::Accepted => PairDecision::Accepted,
        PairState::Refused => PairDecision::Refused,
    };
    let weights =
        row.weights.into_iter().map(|it| PairWeight { r#trait: it.name, level: it.level, bits: it.bits });
    Pair {
        a: identifiers(row.a_identifiers),
        b: identifiers(row.b_identifiers),
        score: row.probability,
        weights: weights.collect(),
        decision: decision.into(),
        decided_by: row.by,
        note: row.note,
        found_at: at(row.found_at),
        decided_at: at(row.decided_at),
        model_version: row.model_version,
    }
}

#[tonic::async_trait]
impl MatchingService for Pairs {
    async fn r#match(&self, request: Request<MatchRequest>) -> Result<Response<MatchResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        self.learn(&request.get_ref().config_json, deadline).await?;
        let (found, _) = self.look(deadline).await?;
        Ok(Response::new(MatchResponse { status: Some(found) }))
    }

    async fn get_status(
        &self,
        request: Request<MatchingServiceGetStatusRequest>,
    ) -> Result<Response<MatchingServiceGetStatusResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let found = match request.get_ref().wait {
            true => self.wait(deadline).await?,
            false => self.look(deadline).await?.0,
        };
        Ok(Response::new(MatchingServiceGetStatusResponse { status: Some(found) }))
    }

    async fn list_pairs(
        &self,
        request: Request<ListPairsRequest>,
    ) -> Result<Response<ListPairsResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.pairs(request.into_inner(), deadline).await?))
    }

    async fn decide_pair(
        &self,
        request: Request<DecidePairRequest>,
    ) -> Result<Response<DecidePairResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.decide(request.into_inner(), deadline).await?))
    }
}
