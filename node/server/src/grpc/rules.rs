//! `RulesService`: rules for traits and identity rules, as documents with versions.

use std::sync::Arc;

use isthmus_domain::identity::IdentityRules;
use isthmus_proto::{
    internal::v1::{DocumentKind, DocumentRecord},
    v1::{
        GetIdentityRulesStatusRequest, GetIdentityRulesStatusResponse, GetRulesRequest, GetRulesResponse,
        PutRulesRequest, PutRulesResponse, Rules, ShardRules, rules_service_server::RulesService,
    },
};
use isthmus_quality::{
    Document, Fault, RULES_BYTES_MAX, TraitRules,
    identity_rules::{self, IDENTITY_RULES_BYTES_MAX},
    read_document,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::{
    hub::Hub,
    status::{Refusal, status},
    value::timestamp,
};

/// How often a change is made anew when others are faster.
const TRIES: usize = 4;

/// The service.
pub struct RuleBooks {
    hub: Arc<Hub>,
}

/// What was put was made from a version that is not in force.
pub(super) fn overtaken(based_on: u64, in_force: u64) -> Refusal {
    let message = format!(
        "made from version {based_on}, and version {in_force} is in force: get that one and make the change anew, or \
         leave the version out to put this all the same"
    );
    Refusal::new(Code::Aborted, "STALE_VIEW", message).with("version", in_force)
}

fn invalid(fault: &Fault) -> Refusal {
    Refusal::field("INVALID_RULES", "rules_json", fault.to_string())
}

/// What one kind of rules is stored and shown as.
struct Book {
    kind: DocumentKind,
    bytes_max: usize,
    /// What is stored for a document that becomes a version.
    store: fn(&Document, u64) -> Result<Vec<u8>, Fault>,
    /// The document of what is stored; of nothing: the defaults.
    show: fn(Option<&DocumentRecord>) -> Result<Vec<u8>, Fault>,
}

const TRAITS: Book = Book {
    kind: DocumentKind::TraitRules,
    bytes_max: RULES_BYTES_MAX,
    store: |document, _| TraitRules::read(document).map(|_| document.to_json()),
    show: |stored| {
        let mut document = match stored {
            Some(stored) => read_document(&stored.content, RULES_BYTES_MAX)?,
            None => read_document(br#"{"traits":{},"unknown_events":"accept"}"#, RULES_BYTES_MAX)?,
        };
        let version = stored.map_or(0, |stored| stored.version);
        document.body.insert("version".to_owned(), isthmus_domain::Value::from_u64(version));
        Ok(document.to_json())
    },
};

const IDENTITY: Book = Book {
    kind: DocumentKind::IdentityRules,
    bytes_max: IDENTITY_RULES_BYTES_MAX,
    store: |document, version| Ok(identity_rules::read(document)?.with_version(version).encode()),
    show: |stored| {
        let rules = match stored {
            Some(stored) => {
                IdentityRules::decode(&stored.content).map_err(|error| Fault::new("", error.to_string()))?
            }
            None => IdentityRules::default(),
        };
        Ok(identity_rules::written(&rules).to_json())
    },
};

impl RuleBooks {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn get(&self, book: &Book, version: u64, deadline: Instant) -> Result<GetRulesResponse, Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let versions = view.document_versions(book.kind, "");
        let found = match version {
            0 => versions.last(),
            version => Some(
                versions
                    .iter()
                    .find(|document| document.version == version)
                    .ok_or_else(|| Refusal::not_found("there is no such version: the last 32 are kept"))?,
            ),
        };
        let broken = |fault: Fault| Refusal::new(Code::Internal, "INTERNAL", fault.to_string());
        let rules_json = String::from_utf8_lossy(&(book.show)(found).map_err(broken)?).into_owned();
        let rules = match found {
            Some(document) => Rules { rules_json, ..shown(document) },
            None => Rules { rules_json, ..Rules::default() },
        };
        Ok(GetRulesResponse { rules: Some(rules) })
    }

    async fn put(&self, book: &Book, text: &str, deadline: Instant) -> Result<PutRulesResponse, Status> {
        let document = read_document(text.as_bytes(), book.bytes_max).map_err(|fault| invalid(&fault))?;
        // What is wrong is told first, whatever it was made from.
        (book.store)(&document, 0).map_err(|fault| invalid(&fault))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
            let in_force = view.document(book.kind, "");
            let version = in_force.map_or(0, |document| document.version);
            if let Some(in_force) = in_force
                && (book.store)(&document, version).is_ok_and(|content| content == in_force.content)
            {
                return Ok(PutRulesResponse { rules: Some(shown(in_force)), changed: false });
            }
            if let Some(based_on) = document.version.filter(|based_on| *based_on != version) {
                return Err(overtaken(based_on, version).into());
            }
            let content = (book.store)(&document, version + 1).map_err(|fault| invalid(&fault))?;
            let put = DocumentRecord {
                kind: book.kind.into(),
                content: content.into(),
                ..DocumentRecord::default()
            };
            match self.hub.coordinator.put_document(put, version, deadline).await {
                Ok(put) => return Ok(PutRulesResponse { rules: Some(shown(&put)), changed: true }),
                Err(isthmus_coordinator::Error::Refused { code, .. })
                    if code == "STALE_VIEW" && tries < TRIES => {}
                Err(error) => return Err(status(&error)),
            }
        }
    }

    /// How far identity rules have come.
    async fn identity_status(&self, deadline: Instant) -> Result<GetIdentityRulesStatusResponse, Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let version = view.document(IDENTITY.kind, "").map_or(0, |document| document.version);
        let ask = async || self.hub.router.rules_progress(deadline).await.map_err(|error| status(&error));
        // Every message that was handled by the first answers was made by the second ones. If no more were made by then,
        // none was under way in between (F. Mattern, Algorithms for distributed termination detection, 1987: the
        // four-counter method).
        let handled: u64 = ask().await?.iter().map(|(_, shard)| shard.messages_handled).sum();
        let shards = ask().await?;
        let made: u64 = shards.iter().map(|(_, shard)| shard.messages_made).sum();
        let shards: Vec<ShardRules> = shards
            .into_iter()
            .map(|(shard, told)| ShardRules {
                shard,
                version: told.rules_version,
                slots: told.owned_slots,
                swept_slots: told.swept_slots,
                done: told.swept && told.rules_version >= version,
            })
            .collect();
        Ok(GetIdentityRulesStatusResponse {
            version,
            done: shards.iter().all(|shard| shard.done),
            messages_under_way: made.saturating_sub(handled),
            shards,
        })
    }
}

/// Rules as clients get them, without their text.
fn shown(document: &DocumentRecord) -> Rules {
    Rules {
        version: document.version,
        rules_json: String::new(),
        created_at: Some(timestamp(document.created_at_micros.cast_signed())),
    }
}

#[tonic::async_trait]
impl RulesService for RuleBooks {
    async fn get_trait_rules(
        &self,
        request: Request<GetRulesRequest>,
    ) -> Result<Response<GetRulesResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.get(&TRAITS, request.get_ref().version, deadline).await?))
    }

    async fn put_trait_rules(
        &self,
        request: Request<PutRulesRequest>,
    ) -> Result<Response<PutRulesResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.put(&TRAITS, &request.get_ref().rules_json, deadline).await?))
    }

    async fn get_identity_rules(
        &self,
        request: Request<GetRulesRequest>,
    ) -> Result<Response<GetRulesResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.get(&IDENTITY, request.get_ref().version, deadline).await?))
    }

    async fn put_identity_rules(
        &self,
        request: Request<PutRulesRequest>,
    ) -> Result<Response<PutRulesResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        Ok(Response::new(self.put(&IDENTITY, &request.get_ref().rules_json, deadline).await?))
    }

    async fn get_identity_rules_status(
        &self,
        request: Request<GetIdentityRulesStatusRequest>,
    ) -> Result<Response<GetIdentityRulesStatusResponse>, Status> {
        Ok(Response::new(self.identity_status(self.hub.deadline(request.metadata())).await?))
    }
}
