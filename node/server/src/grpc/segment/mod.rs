//! `SegmentService`: definitions of segments and computed traits as one document with versions, and who is in them.

mod verify;
mod watch;

use std::sync::Arc;

use isthmus_domain::{FacetId, FacetSummary};
use isthmus_proto::{
    internal::v1::{DocumentKind, DocumentRecord, SegmentCountAsk, SegmentReply, segment_call::Ask},
    v1::{
        ComputedTrait, DeleteDefinitionRequest, DeleteDefinitionResponse, GetMembershipsRequest,
        GetMembershipsResponse, Identifier, ListDefinitionsRequest, ListDefinitionsResponse, PreviewRequest,
        PreviewResponse, ProfileKey, PutComputedTraitRequest, PutComputedTraitResponse, PutSegmentRequest,
        PutSegmentResponse, Segment, SegmentMember, SegmentServiceCountRequest, SegmentServiceCountResponse,
        SegmentServiceListMembersRequest, SegmentServiceListMembersResponse, SegmentServiceWatchRequest,
        VerifyRequest, VerifyResponse, profile_key::Key, segment_service_server::SegmentService,
    },
};
use isthmus_router::{ReadLevel, SegmentAnswers};
use isthmus_segment::{Document, Plan, definition, term::Term};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit},
    profile::{damaged, nothing_known, segments::standing},
    status::{Refusal, status},
    value::timestamp,
};

/// How often a change is made anew when others are faster.
const TRIES: usize = 4;
/// Members that a preview shows, when the client doesn't say, and at most.
const SAMPLE: u32 = 10;
const SAMPLE_MAX: u32 = 100;
/// What a preview's segment is called: nobody else can be.
const PREVIEW: &str = "preview-of-a-segment";

/// The service.
pub struct Segments {
    hub: Arc<Hub>,
}

/// A document and its version.
struct InForce {
    version: u64,
    document: Document,
    created_at_micros: u64,
}

fn invalid(field: &'static str, what: impl Into<String>) -> Refusal {
    Refusal::field("INVALID_SEGMENT", field, what.into())
}

/// What a shard says of an expression is about the request.
fn asked(error: &isthmus_router::Error, field: &'static str) -> Status {
    match error {
        isthmus_router::Error::Invalid { message } => invalid(field, message.clone()).into(),
        other => status(other),
    }
}

impl Segments {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn definitions(&self, version: u64, deadline: Instant) -> Result<InForce, Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let versions = view.document_versions(DocumentKind::Segments, "");
        let found = match version {
            0 => versions.last(),
            version => Some(
                versions
                    .iter()
                    .find(|document| document.version == version)
                    .ok_or_else(|| Refusal::not_found("there is no such version: the last 32 are kept"))?,
            ),
        };
        let Some(found) = found else {
            return Ok(InForce { version: 0, document: Document::default(), created_at_micros: 0 });
        };
        let document = Document::from_json(&found.content).map_err(|fault| {
            let message = format!("the definitions can't be read ({fault}): this node may be too old");
            Refusal::new(Code::Internal, "INTERNAL", message)
        })?;
        Ok(InForce { version: found.version, document, created_at_micros: found.created_at_micros })
    }

    /// Changes the definitions, as often as others are faster: `change` says whether it changed anything, given the
    /// version that comes to be. The version in force then, the document, and whether it is another one.
    async fn change(
        &self,
        field: &'static str,
        deadline: Instant,
        mut change: impl FnMut(&mut Document, u64) -> Result<bool, Refusal>,
    ) -> Result<(u64, Document, bool), Status> {
        let mut tries = 0;
        loop {
            tries += 1;
            let InForce { version, mut document, .. } = self.definitions(0, deadline).await?;
            if !change(&mut document, version + 1)? {
                return Ok((version, document, false));
            }
            let known = isthmus_segmenter::definitions::known(isthmus_coordinator::DEFAULT_CURRENCY);
            let compiled = document.clone();
            let compiled = tokio::task::spawn_blocking(move || Plan::compile(&compiled, &known)).await;
            let compiled =
                compiled.map_err(|error| Refusal::new(Code::Internal, "INTERNAL", error.to_string()))?;
            if let Err(faults) = compiled {
                let what: Vec<String> = faults.iter().take(5).map(ToString::to_string).collect();
                return Err(invalid(field, what.join("; ")).into());
            }
            let put = DocumentRecord {
                kind: DocumentKind::Segments.into(),
                content: document.to_json().into(),
                ..DocumentRecord::default()
            };
            match self.hub.coordinator.put_document(put, version, deadline).await {
                Ok(put) => return Ok((put.version, document, true)),
                Err(isthmus_coordinator::Error::Refused { code, .. })
                    if code == "STALE_VIEW" && tries < TRIES => {}
                Err(error) => return Err(status(&error)),
            }
        }
    }

    /// Members as clients get them: whose homes these are.
    async fn members(&self, homes: &[FacetId], deadline: Instant) -> Result<Vec<SegmentMember>, Status> {
        let read = self.hub.router.read_profiles(homes, ReadLevel::Linearizable, deadline).await;
        let (profiles, stamp) = read.map_err(|error| status(&error))?;
        let mut members = Vec::with_capacity(homes.len());
        for (home, parts) in homes.iter().zip(&profiles) {
            let Some(parts) = parts else {
                // Merged away since it was listed, and nothing was said under it.
                members.push(SegmentMember { profile_id: home.to_string(), identifier: None });
                continue;
            };
            let folded = parts.fold(&self.hub.identity_key, isthmus_coordinator::DEFAULT_CURRENCY, stamp);
            let profile = folded.map_err(|_| damaged("a facet's summary"))?;
            let profile_id = profile.map_or(*home, |profile| profile.profile_id);
            let own = parts.members.iter().find(|(facet, ..)| facet == home);
            let identifier = match own {
                Some((_, (namespace, value), _)) if !namespace.is_empty() => {
                    Some(Identifier { namespace: namespace.clone(), value: value.clone() })
                }
                Some((_, _, Some(summary))) => {
                    let read = FacetSummary::from_bytes(summary).ok().and_then(|it| it.identifier().ok());
                    let found = read.ok_or_else(|| damaged("a facet's summary"))?;
                    Some(Identifier {
                        namespace: found.namespace().to_string(),
                        value: found.value().to_owned(),
                    })
                }
                _ => None,
            };
            members.push(SegmentMember { profile_id: profile_id.to_string(), identifier });
        }
        Ok(members)
    }

    async fn ask(&self, ask: Ask, field: &'static str, deadline: Instant) -> Result<SegmentAnswers, Status> {
        self.defined(deadline).await?;
        self.hub.router.segments(ask, deadline).await.map_err(|error| asked(&error, field))
    }

    /// Refuses what can't be answered while nothing is defined.
    async fn defined(&self, deadline: Instant) -> Result<(), Status> {
        if self.hub.view().document(DocumentKind::Segments, "").is_some()
            || self.definitions(0, deadline).await?.version > 0
        {
            return Ok(());
        }
        Err(Refusal::new(Code::FailedPrecondition, "NO_SEGMENTS", "no segments are defined: put one first")
            .into())
    }
}

/// What all shards' numbers add up to.
fn sum(answers: &SegmentAnswers, of: impl Fn(&SegmentReply) -> u64) -> u64 {
    answers.replies.iter().map(|(_, reply)| of(reply)).sum()
}

fn homes(answers: &SegmentAnswers, of: impl Fn(&SegmentReply) -> &Vec<bytes::Bytes>) -> Vec<FacetId> {
    answers
        .replies
        .iter()
        .flat_map(|(_, reply)| of(reply))
        .filter_map(|home| FacetId::from_slice(home))
        .collect()
}

fn shown(segment: &definition::Segment) -> Segment {
    Segment {
        name: segment.name.clone(),
        expression: segment.expression.clone(),
        description: segment.description.clone(),
        version: segment.version,
    }
}

fn shown_trait(it: &definition::ComputedTrait) -> ComputedTrait {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ComputedTrait {
        name: it.name.clone(),
        aggregate: it.aggregate.clone(),
        of: text(&it.of),
        r#type: text(&it.of_type),
        events: it.events.clone(),
        event_type: text(&it.event_type),
        filter: text(&it.filter),
        window: text(&it.window),
        limit: it.limit.unwrap_or_default(),
        bound: it.bound.unwrap_or_default(),
        description: it.description.clone(),
    }
}

fn read_trait(it: ComputedTrait) -> definition::ComputedTrait {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let number = |number: u32| Some(number).filter(|number| *number > 0);
    definition::ComputedTrait {
        name: it.name,
        aggregate: it.aggregate,
        of: given(it.of),
        of_type: given(it.r#type),
        events: it.events,
        event_type: given(it.event_type),
        filter: given(it.filter),
        window: given(it.window),
        limit: number(it.limit),
        bound: number(it.bound),
        description: it.description,
    }
}

#[tonic::async_trait]
impl SegmentService for Segments {
    async fn put_segment(
        &self,
        request: Request<PutSegmentRequest>,
    ) -> Result<Response<PutSegmentResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let Some(Segment { name, expression, description, .. }) = request.into_inner().segment else {
            return Err(invalid("segment", "is missing").into());
        };
        let put = self.change("segment", deadline, |document, version| {
            let put = definition::Segment {
                name: name.clone(),
                expression: expression.clone(),
                version,
                description: description.clone(),
            };
            match document.segments.iter_mut().find(|segment| segment.name == name) {
                Some(known) if known.expression == expression && known.description == description => {
                    return Ok(false);
                }
                // Who is in it doesn't change with what people read.
                Some(known) if known.expression == expression => known.description = description.clone(),
                Some(known) => *known = put,
                None => document.segments.push(put),
            }
            Ok(true)
        });
        let (version, document, changed) = put.await?;
        let segment = document.segments.iter().find(|segment| segment.name == name).map(shown);
        Ok(Response::new(PutSegmentResponse { segment, version, changed }))
    }

    async fn put_computed_trait(
        &self,
        request: Request<PutComputedTraitRequest>,
    ) -> Result<Response<PutComputedTraitResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let Some(put) = request.into_inner().computed_trait.map(read_trait) else {
            return Err(invalid("computed_trait", "is missing").into());
        };
        let put = self.change("computed_trait", deadline, |document, _| {
            match document.computed_traits.iter_mut().find(|known| known.name == put.name) {
                Some(known) if *known == put => return Ok(false),
                Some(known) => *known = put.clone(),
                None => document.computed_traits.push(put.clone()),
            }
            Ok(true)
        });
        let (version, _, changed) = put.await?;
        Ok(Response::new(PutComputedTraitResponse { version, changed }))
    }

    async fn delete_definition(
        &self,
        request: Request<DeleteDefinitionRequest>,
    ) -> Result<Response<DeleteDefinitionResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let name = request.into_inner().name;
        let (version, ..) = self
            .change("name", deadline, |document, _| {
                let many = document.segments.len() + document.computed_traits.len();
                document.segments.retain(|segment| segment.name != name);
                document.computed_traits.retain(|it| it.name != name);
                if document.segments.len() + document.computed_traits.len() == many {
                    return Err(Refusal::not_found("no segment and no computed trait has this name"));
                }
                // Who named a computed trait would name a trait of customers from here on.
                let known = isthmus_segmenter::definitions::known(isthmus_coordinator::DEFAULT_CURRENCY);
                let is_it = |term: &Term| matches!(term, Term::Trait(trait_name) if *trait_name == name);
                if Plan::compile(document, &known).is_ok_and(|plan| plan.terms().any(|(_, term)| is_it(term)))
                {
                    let what = format!("segments build on {name}: change or delete those first");
                    return Err(invalid("name", what));
                }
                Ok(true)
            })
            .await?;
        Ok(Response::new(DeleteDefinitionResponse { version }))
    }

    async fn list_definitions(
        &self,
        request: Request<ListDefinitionsRequest>,
    ) -> Result<Response<ListDefinitionsResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let asked = request.get_ref().version;
        let InForce { version, document, created_at_micros } = self.definitions(asked, deadline).await?;
        let live_version = match asked == 0 && version > 0 {
            true => self.hub.router.segments_version(deadline).await.map_err(|error| status(&error))?,
            false => 0,
        };
        let mut segments: Vec<Segment> = document.segments.iter().map(shown).collect();
        segments.sort_by(|a, b| a.name.cmp(&b.name));
        let mut computed_traits: Vec<ComputedTrait> =
            document.computed_traits.iter().map(shown_trait).collect();
        computed_traits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(ListDefinitionsResponse {
            version,
            segments,
            computed_traits,
            created_at: (version > 0).then(|| timestamp(created_at_micros.cast_signed())),
            live_version,
        }))
    }

    async fn preview(&self, request: Request<PreviewRequest>) -> Result<Response<PreviewResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let PreviewRequest { expression, limit } = request.into_inner();
        let limit = match limit {
            0 => SAMPLE,
            1..=SAMPLE_MAX => limit,
            _ => {
                let what = format!("must be 1 to {SAMPLE_MAX}, or 0 for {SAMPLE}");
                return Err(Refusal::field("INVALID_LIMIT", "limit", what).into());
            }
        };
        let mut document = self.definitions(0, deadline).await?.document;
        document.segments.retain(|segment| segment.name != PREVIEW);
        document.segments.push(definition::Segment {
            name: PREVIEW.to_owned(),
            expression,
            ..definition::Segment::default()
        });
        let known = isthmus_segmenter::definitions::known(isthmus_coordinator::DEFAULT_CURRENCY);
        if let Err(faults) = Plan::compile(&document, &known) {
            let fault = faults.into_iter().next();
            let what = fault.map(|fault| match fault.place {
                Some(place) => format!("{place}: {}", fault.what),
                None => fault.what,
            });
            return Err(invalid("expression", what.unwrap_or_default()).into());
        }
        let document = document.to_json().into();
        let answers = self.hub.router.preview_segment(document, PREVIEW, limit, deadline).await;
        let answers = answers.map_err(|error| asked(&error, "expression"))?;
        let mut sample = homes(&answers, |reply| &reply.homes);
        sample.truncate(limit as usize);
        Ok(Response::new(PreviewResponse {
            count: sum(&answers, |reply| reply.count),
            overflows: sum(&answers, |reply| reply.overflows),
            members: self.members(&sample, deadline).await?,
            profiles: sum(&answers, |reply| reply.profiles),
            version: answers.at.to_string(),
        }))
    }

    async fn count(
        &self,
        request: Request<SegmentServiceCountRequest>,
    ) -> Result<Response<SegmentServiceCountResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let expression = request.into_inner().expression;
        let ask = Ask::Count(SegmentCountAsk { expression });
        let answers = self.ask(ask, "expression", deadline).await?;
        Ok(Response::new(SegmentServiceCountResponse {
            count: sum(&answers, |reply| reply.count),
            overflows: sum(&answers, |reply| reply.overflows),
            profiles: sum(&answers, |reply| reply.profiles),
            definitions_version: answers.version,
            version: answers.at.to_string(),
        }))
    }

    async fn list_members(
        &self,
        request: Request<SegmentServiceListMembersRequest>,
    ) -> Result<Response<SegmentServiceListMembersResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let SegmentServiceListMembersRequest { expression, limit, cursor } = request.into_inner();
        let limit = page_limit(limit)?;
        let after = cursor::decode(Kind::SegmentMembers, &cursor)?.map(FacetId::from_bytes);
        self.defined(deadline).await?;
        let read = self.hub.router.segment_members(&expression, after, limit, deadline).await;
        let page = read.map_err(|error| asked(&error, "expression"))?;
        let next = page.next.map(|home| cursor::encode(Kind::SegmentMembers, home.as_bytes()));
        Ok(Response::new(SegmentServiceListMembersResponse {
            members: self.members(&page.homes, deadline).await?,
            next_cursor: next.unwrap_or_default(),
            version: page.at.to_string(),
        }))
    }

    async fn get_memberships(
        &self,
        request: Request<GetMembershipsRequest>,
    ) -> Result<Response<GetMembershipsResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let GetMembershipsRequest { identifier, profile_id } = request.into_inner();
        let key = match (identifier, profile_id.is_empty()) {
            (Some(identifier), true) => Some(Key::Identifier(identifier)),
            (None, false) => Some(Key::ProfileId(profile_id)),
            (None, true) => None,
            (Some(_), false) => {
                let what = "is given beside an identifier: name the customer by one of the two";
                return Err(Refusal::field("INVALID_KEY", "profile_id", what).into());
            }
        };
        const FIELDS: [&str; 4] = ["identifier", "identifier.namespace", "identifier.value", "profile_id"];
        let facet = self.hub.facet_named(Some(&ProfileKey { key }), FIELDS)?;
        let read = standing(&self.hub, &[facet], ReadLevel::Linearizable, deadline).await?;
        let known = read.0.into_iter().next().and_then(|(_, segments)| segments).ok_or_else(nothing_known)?;
        Ok(Response::new(GetMembershipsResponse {
            segments: known.segments,
            overflows: known.overflows,
            computed_traits_json: known.computed_traits_json,
            version: known.version,
            definitions_version: known.definitions_version,
        }))
    }

    type WatchStream = watch::WatchStream;

    async fn watch(
        &self,
        request: Request<SegmentServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(self.watching(request).await?))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        self.defined(deadline).await?;
        self.recount(&request.into_inner().name, deadline).await.map(Response::new)
    }
}
