//! `SchemaService`: schemas of events and their versions.
//!
//! A change is checked against the version that is in force anywhere, and is put on that one only: if somebody else
//! was faster, it is checked anew.

use std::sync::Arc;

use isthmus_coordinator::View;
use isthmus_proto::{
    internal::v1::{DocumentKind, DocumentRecord},
    v1::{
        CheckSchemaRequest, CheckSchemaResponse, GetSchemaRequest, GetSchemaResponse, ListSchemasRequest,
        ListSchemasResponse, PutSchemaRequest, PutSchemaResponse, Schema as Shown, SchemaCompatibility,
        SchemaPolicy, SchemaProblem, schema_service_server::SchemaService,
    },
};
use isthmus_quality::{Compatibility, Fault, Policy, Schema, SchemaKey, compat::compare};
use tonic::{Code, Request, Response, Status};

use super::{
    hub::Hub,
    rules::overtaken,
    status::{Refusal, status},
    value::timestamp,
};

/// How often a change is checked anew when others are faster.
const TRIES: usize = 4;
/// How many problems a refusal tells of: it travels in headers, of which clients take 16 KiB.
const TOLD_MAX: usize = 3;

/// The service.
pub struct Schemas {
    hub: Arc<Hub>,
}

impl Schemas {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

fn key(name: &str) -> Result<SchemaKey, Refusal> {
    name.parse().map_err(|fault: Fault| Refusal::field("INVALID_NAME", "name", fault.what))
}

fn of_wire_policy(policy: SchemaPolicy) -> Option<Policy> {
    match policy {
        SchemaPolicy::Unspecified => None,
        SchemaPolicy::Reject => Some(Policy::Reject),
        SchemaPolicy::Quarantine => Some(Policy::Quarantine),
        SchemaPolicy::Flag => Some(Policy::Flag),
    }
}

fn to_wire_policy(name: &str) -> SchemaPolicy {
    match Policy::parse(name) {
        None => SchemaPolicy::Unspecified,
        Some(Policy::Reject) => SchemaPolicy::Reject,
        Some(Policy::Quarantine) => SchemaPolicy::Quarantine,
        Some(Policy::Flag) => SchemaPolicy::Flag,
    }
}

fn of_wire_compatibility(compatibility: SchemaCompatibility) -> Option<Compatibility> {
    match compatibility {
        SchemaCompatibility::Unspecified => None,
        SchemaCompatibility::Backward => Some(Compatibility::Backward),
        SchemaCompatibility::Forward => Some(Compatibility::Forward),
        SchemaCompatibility::Full => Some(Compatibility::Full),
        SchemaCompatibility::None => Some(Compatibility::None),
    }
}

fn to_wire_compatibility(compatibility: Option<Compatibility>) -> SchemaCompatibility {
    match compatibility {
        None => SchemaCompatibility::Unspecified,
        Some(Compatibility::Backward) => SchemaCompatibility::Backward,
        Some(Compatibility::Forward) => SchemaCompatibility::Forward,
        Some(Compatibility::Full) => SchemaCompatibility::Full,
        Some(Compatibility::None) => SchemaCompatibility::None,
    }
}

/// A schema as clients get it, without its text.
fn shown(document: &DocumentRecord) -> Shown {
    Shown {
        name: document.name.clone(),
        version: document.version,
        schema_json: String::new(),
        policy: to_wire_policy(&document.policy).into(),
        compatibility: to_wire_compatibility(Compatibility::parse(&document.compatibility)).into(),
        created_at: Some(timestamp(document.created_at_micros.cast_signed())),
    }
}

/// What a schema has to be compared with, and what it comes to.
struct Comparison {
    version: u64,
    wanted: Compatibility,
    problems: Vec<Fault>,
}

/// Compares a schema with the version in force.
///
/// # Errors
/// INTERNAL when what is in force can't be read.
async fn compared(
    schema: &Schema,
    wanted: Option<Compatibility>,
    in_force: Option<&DocumentRecord>,
) -> Result<Comparison, Refusal> {
    let kept = in_force.and_then(|document| Compatibility::parse(&document.compatibility));
    let wanted = wanted.or(kept).unwrap_or(Compatibility::Backward);
    let Some(document) = in_force else {
        return Ok(Comparison { version: 0, wanted, problems: Vec::new() });
    };
    let (schema, content, version) = (schema.clone(), document.content.clone(), document.version);
    // Comparing large schemas takes a while: not on a thread that others wait for.
    let compare =
        tokio::task::spawn_blocking(move || Schema::read(&content).map(|old| compare(&old, &schema, wanted)));
    let broken = |what: String| Refusal::new(Code::Internal, "INTERNAL", what);
    let problems = compare.await.map_err(|error| broken(error.to_string()))?;
    let problems =
        problems.map_err(|fault| broken(format!("the version in force can't be read: {fault}")))?;
    Ok(Comparison { version, wanted, problems })
}

fn read(schema_json: &str) -> Result<Schema, Fault> {
    Schema::read(schema_json.as_bytes())
}

fn refused(reason: &'static str, code: Code, head: &str, problems: &[Fault]) -> Refusal {
    let told: Vec<String> = problems.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    let more = match problems.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!("; and {more} more, which `isthmus schema check` lists"),
    };
    let message = format!("{head}: {}{more}", told.join("; "));
    Refusal::field_problems(code, reason, message, "schema_json", told)
}

impl Schemas {
    fn in_force<'a>(view: &'a View, key: &SchemaKey) -> Option<&'a DocumentRecord> {
        view.document(DocumentKind::Schema, &key.to_string())
    }

    async fn put_schema(&self, request: Request<PutSchemaRequest>) -> Result<PutSchemaResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let key = key(&request.name)?;
        let schema = read(&request.schema_json).map_err(|fault| {
            refused("INVALID_SCHEMA", Code::InvalidArgument, "the schema can't be taken", &[fault])
        })?;
        let mut tries = 0;
        loop {
            tries += 1;
            let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
            let in_force = Self::in_force(&view, &key);
            let version = in_force.map_or(0, |document| document.version);
            if request.based_on_version != 0 && request.based_on_version != version {
                return Err(overtaken(request.based_on_version, version).into());
            }
            let wanted = of_wire_compatibility(request.compatibility());
            let compared = compared(&schema, wanted, in_force).await?;
            if !compared.problems.is_empty() {
                let head = format!(
                    "not {} compatible with version {}, which is in force (compatibility none puts it all the same, and \
                     holds for later changes until another is named)",
                    compared.wanted.name(),
                    compared.version
                );
                let refusal =
                    refused("INCOMPATIBLE_SCHEMA", Code::FailedPrecondition, &head, &compared.problems);
                return Err(refusal.with("version", compared.version).into());
            }
            let kept = in_force.and_then(|document| Policy::parse(&document.policy));
            let policy = of_wire_policy(request.policy()).or(kept).unwrap_or(Policy::Quarantine);
            let document = DocumentRecord {
                kind: DocumentKind::Schema.into(),
                name: key.to_string(),
                content: schema.to_json().into(),
                policy: policy.name().to_owned(),
                compatibility: compared.wanted.name().to_owned(),
                ..DocumentRecord::default()
            };
            match self.hub.coordinator.put_document(document, version, deadline).await {
                Ok(put) => {
                    let changed = put.version != version;
                    return Ok(PutSchemaResponse { schema: Some(shown(&put)), changed });
                }
                Err(isthmus_coordinator::Error::Refused { code, .. })
                    if code == "STALE_VIEW" && tries < TRIES => {}
                Err(error) => return Err(status(&error)),
            }
        }
    }

    async fn check_schema(
        &self,
        request: Request<CheckSchemaRequest>,
    ) -> Result<CheckSchemaResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let key = key(&request.name)?;
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let in_force = Self::in_force(&view, &key);
        let problems = |faults: Vec<Fault>| {
            faults.into_iter().map(|fault| SchemaProblem { at: fault.at, what: fault.what }).collect()
        };
        let schema = match read(&request.schema_json) {
            Ok(schema) => schema,
            Err(fault) => {
                let version = in_force.map_or(0, |document| document.version);
                let problems = problems(vec![fault]);
                return Ok(CheckSchemaResponse { version, problems, ..CheckSchemaResponse::default() });
            }
        };
        let compared = compared(&schema, of_wire_compatibility(request.compatibility()), in_force).await?;
        Ok(CheckSchemaResponse {
            valid: true,
            compatible: compared.problems.is_empty(),
            version: compared.version,
            compatibility: to_wire_compatibility(Some(compared.wanted)).into(),
            problems: problems(compared.problems),
        })
    }
}

#[tonic::async_trait]
impl SchemaService for Schemas {
    async fn put(&self, request: Request<PutSchemaRequest>) -> Result<Response<PutSchemaResponse>, Status> {
        Ok(Response::new(self.put_schema(request).await?))
    }

    async fn get(&self, request: Request<GetSchemaRequest>) -> Result<Response<GetSchemaResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let GetSchemaRequest { name, version } = request.into_inner();
        let key = key(&name)?;
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let versions = view.document_versions(DocumentKind::Schema, &key.to_string());
        let found = match version {
            0 => versions.last(),
            version => versions.iter().find(|document| document.version == version),
        };
        let found = found.ok_or_else(|| {
            Refusal::not_found(
                "there is no such schema, or not in this version: `isthmus schema list` shows them",
            )
        })?;
        let schema_json = String::from_utf8_lossy(&found.content).into_owned();
        Ok(Response::new(GetSchemaResponse { schema: Some(Shown { schema_json, ..shown(found) }) }))
    }

    async fn list(
        &self,
        request: Request<ListSchemasRequest>,
    ) -> Result<Response<ListSchemasResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let schemas = view.documents().filter(|document| document.kind() == DocumentKind::Schema);
        Ok(Response::new(ListSchemasResponse { schemas: schemas.map(shown).collect() }))
    }

    async fn check(
        &self,
        request: Request<CheckSchemaRequest>,
    ) -> Result<Response<CheckSchemaResponse>, Status> {
        Ok(Response::new(self.check_schema(request).await?))
    }
}
