//! A path, who answers it and how it is described: one list, of which the router and the OpenAPI description are made,
//! so that neither can have a path that the other lacks.

use axum::{Router, routing::MethodRouter};
use utoipa::openapi::HttpMethod;

/// A path of the port.
pub struct Route {
    /// As axum and OpenAPI write it: `/v1/profiles/{key}`.
    pub path: &'static str,
    /// Who answers.
    pub handler: MethodRouter,
    /// What it does.
    pub operation: Operation,
}

/// What a path does, for the description.
#[derive(Clone)]
pub struct Operation {
    /// The one method that it answers.
    pub method: HttpMethod,
    /// One sentence or two.
    pub summary: &'static str,
    /// What a caller has to show.
    pub auth: Auth,
    /// Name, whether it stands in the path (else in the query), and what it is.
    pub parameters: &'static [(&'static str, bool, &'static str)],
    /// The schema of the body that is sent.
    pub body: Option<&'static str>,
    /// The schema of the answer when all is well; `None`: there is nothing to say.
    pub answer: Option<&'static str>,
    /// The statuses of failures.
    pub statuses: &'static [u16],
}

/// What a caller has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    None,
    /// A write key.
    WriteKey,
}

/// A router of paths.
pub fn router(routes: Vec<Route>) -> Router {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
}
