//! The OpenAPI 3.1 description of the port, made of the routes themselves and of the types of the answers.

use axum::{http::header::CONTENT_TYPE, routing::get};
use bytes::Bytes;
use serde_json::json;
use utoipa::{
    OpenApi,
    openapi::{
        Content, HttpMethod, Info, OpenApi as Document, PathItem, PathsBuilder, Ref, RefOr, Required,
        Response, ResponseBuilder,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{Object, ObjectBuilder, Schema, Type},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    errors::{ErrorBody, ErrorDetail, FieldProblem},
    ingest::{EventProblem, IngestAnswer, Settings},
    reads::{
        self, EventPage, GroupBody, GroupPage, IdentifierPage, MemberPage, MembershipPage, ProfileBody,
        SegmentPage, TraitPage,
    },
    routes::{Auth, Operation, Route},
};
use crate::version::VERSION;

/// Where the description is.
const PATH: &str = "/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(components(schemas(
    ErrorBody,
    ErrorDetail,
    FieldProblem,
    IngestAnswer,
    EventProblem,
    Settings,
    ProfileBody,
    TraitPage,
    IdentifierPage,
    EventPage,
    GroupBody,
    GroupPage,
    MemberPage,
    MembershipPage,
    SegmentPage,
    reads::Page
)))]
struct Types;

/// The path of the description, which is itself in it.
pub fn route<'a>(routes: impl Iterator<Item = &'a Route>) -> Route {
    let operation = Operation {
        method: HttpMethod::Get,
        summary: "This description.",
        auth: Auth::None,
        parameters: &[],
        body: None,
        answer: Some("Object"),
        statuses: &[431],
    };
    let routes = routes.map(|route| (route.path, &route.operation));
    let text = serde_json::to_vec(&document(routes.chain([(PATH, &operation)])))
        .inspect_err(|error| tracing::error!(%error, "no OpenAPI description"));
    let text = Bytes::from(text.unwrap_or_default());
    let handler = get(move || async move { ([(CONTENT_TYPE, "application/json")], text) });
    Route { path: PATH, handler, operation }
}

fn document<'a>(routes: impl Iterator<Item = (&'static str, &'a Operation)>) -> Document {
    let mut document = Types::openapi();
    document.info = Info::new("Isthmus", VERSION);
    document.info.description = Some("Events in, as Segment's SDKs send them; profiles out.".to_owned());
    let paths = routes.fold(PathsBuilder::new(), |paths, (path, described)| {
        paths.path(path, PathItem::new(described.method.clone(), operation(path, described)))
    });
    document.paths = paths.build();
    if let Some(components) = &mut document.components {
        for (name, schema) in sent() {
            components.schemas.insert(name.to_owned(), schema.into());
        }
        for (name, scheme) in [("basic", HttpAuthScheme::Basic), ("bearer", HttpAuthScheme::Bearer)] {
            let scheme = SecurityScheme::Http(Http::new(scheme));
            components.security_schemes.insert(name.to_owned(), scheme);
        }
    }
    document
}

/// What is sent. Further fields are kept as they are.
fn sent() -> [(&'static str, Schema); 3] {
    let text = || Object::with_type(Type::String);
    let object = || Object::with_type(Type::Object);
    let event = ObjectBuilder::new()
        .description(Some(
            "An event of the Segment spec. It needs an identifier: userId, anonymousId or an external id. Unknown \
             fields are kept.",
        ))
        .property("type", ObjectBuilder::new().schema_type(Type::String).enum_values(Some([
            "identify", "track", "page", "screen", "group", "alias",
        ])))
        .property("messageId", text())
        .property("userId", text())
        .property("anonymousId", text())
        .property("previousId", text())
        .property("groupId", text())
        .property("event", text())
        .property("name", text())
        .property("category", text())
        .property("properties", object())
        .property("traits", object())
        .property("context", object())
        .property("integrations", object())
        .property("timestamp", text())
        .property("originalTimestamp", text())
        .property("sentAt", text())
        .property("writeKey", text())
        .examples([json!({"userId": "42", "event": "Order Completed", "properties": {"revenue": 44.02}})])
        .build();
    let events = utoipa::openapi::schema::ArrayBuilder::new().items(Ref::from_schema_name("Event"));
    let batch = ObjectBuilder::new()
        .description(Some("Events, and what holds for all of them under what they say themselves."))
        .property("batch", events.max_items(Some(crate::intake::ITEMS_MAX)))
        .required("batch")
        .property("context", object())
        .property("integrations", object())
        .property("sentAt", text())
        .property("writeKey", text())
        .build();
    [("Event", event.into()), ("Batch", batch.into()), ("Object", object().into())]
}

fn operation(path: &str, operation: &Operation) -> utoipa::openapi::path::Operation {
    let name: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut described = OperationBuilder::new()
        .operation_id(Some(name.trim_matches('_').to_owned()))
        .summary(Some(operation.summary));
    for (name, in_path, what) in operation.parameters {
        let (place, required) = match in_path {
            true => (ParameterIn::Path, Required::True),
            false => (ParameterIn::Query, Required::False),
        };
        let parameter = ParameterBuilder::new().name(*name).parameter_in(place).required(required);
        described = described
            .parameter(parameter.description(Some(*what)).schema(Some(Object::with_type(Type::String))));
    }
    if let Some(body) = operation.body {
        let content = Content::new(Some(Ref::from_schema_name(body)));
        let body =
            RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True));
        described = described.request_body(Some(body.build()));
    }
    described = match operation.answer {
        Some(schema) => described.response("200", response("All is well.", schema)),
        None => described.response("204", Response::new("All is well.")),
    };
    for status in operation.statuses {
        // What became of each event is told where some are stored and others aren't.
        let schema = match (operation.answer, status) {
            (Some("IngestAnswer"), 429 | 503 | 504) => "IngestAnswer",
            _ => "ErrorBody",
        };
        described = described.response(status.to_string(), response(meaning(*status), schema));
    }
    if operation.auth == Auth::WriteKey {
        for scheme in ["basic", "bearer"] {
            described = described.security(SecurityRequirement::new(scheme, Vec::<String>::new()));
        }
        // Or as writeKey in the body.
        described = described.security(SecurityRequirement::default());
    }
    described.build()
}

fn response(what: &str, schema: &str) -> RefOr<Response> {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(what).content("application/json", content).build().into()
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "What was sent can't be read, or contradicts itself.",
        401 => "The write key is missing or wrong.",
        403 => "Not from here: profiles are read on the node's own machine.",
        404 => "It is not there, or its source is disabled.",
        408 => "The body did not come in time.",
        413 => "Larger than 4 MiB, as sent or decompressed.",
        415 => "An encoding other than gzip, or no JSON.",
        429 => "Too much is waiting: come back after Retry-After.",
        431 => "Headers over 16 KiB.",
        503 => "Not stored, or not known to be, for now: send it again.",
        504 => "Not known to be stored by the deadline: send it again with the same message ids.",
        _ => "A failure.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_document_of_version_3_1_that_refers_to_nothing_it_lacks() {
        let route = route([].iter());
        let json = serde_json::to_value(document([(route.path, &route.operation)].into_iter())).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
        assert!(json["paths"][PATH]["get"]["responses"]["200"].is_object());
        let text = json.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(json["components"]["schemas"][name].is_object(), "{name} is missing");
        }
    }
}
