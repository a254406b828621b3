//! `SegmentService`: definitions of segments and computed traits as one document with versions, and who is in them.

mod definitions;
mod faults;
mod members;
mod verify;
mod watch;
mod wire;

use std::sync::Arc;

use isthmus_domain::FacetId;
use isthmus_proto::{
    internal::v1::{DocumentKind, SegmentCountAsk, segment_call::Ask},
    v1::{
        ComputedTrait, DeleteDefinitionRequest, DeleteDefinitionResponse, GetMembershipsRequest,
        GetMembershipsResponse, ListDefinitionsRequest, ListDefinitionsResponse, PreviewRequest,
        PreviewResponse, ProfileKey, PutComputedTraitRequest, PutComputedTraitResponse, PutSegmentRequest,
        PutSegmentResponse, Segment, SegmentServiceCountRequest, SegmentServiceCountResponse,
        SegmentServiceListMembersRequest, SegmentServiceListMembersResponse, SegmentServiceWatchRequest,
        VerifyRequest, VerifyResponse, profile_key::Key, segment_service_server::SegmentService,
    },
};
use isthmus_router::{ReadLevel, SegmentAnswers};
use isthmus_segment::{Document, Plan, definition, term::Term};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use self::{
    definitions::InForce,
    faults::{Sent, asked, invalid},
    members::{homes, sum},
    wire::{read_trait, shown, shown_trait},
};
use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit},
    profile::{nothing_known, segments::standing},
    status::{Refusal, status},
    value::timestamp,
};

/// Members that a preview shows, when the client doesn't say, and at most.
const SAMPLE: u32 = 10;
const SAMPLE_MAX: u32 = 100;

/// The service.
pub struct Segments {
    hub: Arc<Hub>,
}

/// What a segment can be called for a preview: nothing in force is called so, and the expression doesn't mean it.
fn free_name(document: &Document, expression: &str) -> String {
    let is_free = |name: &String| {
        !expression.contains(name.as_str()) && document.segments.iter().all(|segment| segment.name != *name)
    };
    (1_u64..).map(|number| format!("preview-{number}")).find(is_free).unwrap_or_default()
}

impl Segments {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
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
        let put = self.change(Sent::Segment(&name), deadline, |document, version| {
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
        let put = self.change(Sent::ComputedTrait(&put.name), deadline, |document, _| {
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
            .change(Sent::Name, deadline, |document, _| {
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
        let name = free_name(&document, &expression);
        document.segments.push(definition::Segment {
            name: name.clone(),
            expression,
            ..definition::Segment::default()
        });
        self.check(&document, Sent::Preview(&name), true, deadline).await?;
        let document = document.to_json().into();
        let answers = self.hub.router.preview_segment(document, &name, limit, deadline).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_called_like_nothing_that_is_in_force_or_meant() {
        let mut document = Document::default();
        assert_eq!(free_name(&document, "vip"), "preview-1");
        let mine = definition::Segment { name: "preview-1".to_owned(), ..definition::Segment::default() };
        document.segments.push(mine);
        assert_eq!(free_name(&document, "segment('preview-1') OR segment('preview-2')"), "preview-3");
    }
}
