//! What browser and mobile SDKs ask before they send: which integrations there are, and where events go.
//!
//! There is one, `Segment.io`, which is what SDKs call the server of events; it is here. The address is the one under
//! which the SDK asked, so that it works through whatever name or port leads to this node. `analytics-next` reads
//! `apiHost` and `protocol` of it; Segment's SDKs for Kotlin and Swift read `apiHost` alone, and always speak TLS.
//!
//! Source: `loadCDNSettings` and `segmentio` in `@segment/analytics-next` 1.84; `Settings` in `analytics-kotlin`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderMap, HeaderValue, Uri,
        header::{CACHE_CONTROL, HOST, VARY},
    },
    response::{IntoResponse as _, Response},
};
use isthmus_coordinator::View;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::source;
use crate::{fault::Refusal, grpc::hub::Hub, http::errors::Failure};

/// The header in which a proxy that ends TLS says how it was asked.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What an SDK is to do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    integrations: Integrations,
    plan: Plan,
    metrics: SdkMetrics,
    /// No code is run at the edge.
    edge_function: BTreeMap<String, String>,
    middleware_settings: BTreeMap<String, String>,
    enabled_middleware: BTreeMap<String, String>,
    remote_plugins: Vec<String>,
    analytics_next_enabled: bool,
    legacy_video_plugins_enabled: bool,
}

/// Where events go: to the hub alone.
#[derive(Debug, Serialize, ToSchema)]
struct Integrations {
    #[serde(rename = "Segment.io")]
    hub: HubIntegration,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HubIntegration {
    api_key: String,
    /// Host, port and the beginning of the path, without a scheme.
    api_host: String,
    protocol: &'static str,
    unbundled_integrations: Vec<String>,
    add_bundled_metadata: bool,
    maybe_bundled_config_ids: BTreeMap<String, String>,
}

/// Which calls an SDK may send: all.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    track: Allowed,
    identify: Allowed,
    group: Allowed,
}

#[derive(Debug, Serialize, ToSchema)]
struct Allowed {
    #[serde(rename = "__default")]
    default: Enabled,
}

#[derive(Debug, Serialize, ToSchema)]
struct Enabled {
    enabled: bool,
    integrations: BTreeMap<String, String>,
}

/// How much an SDK tells of itself: nothing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SdkMetrics {
    sample_rate: u32,
    host: String,
}

/// `GET /v1/projects/{key}/settings`.
pub(super) async fn settings(
    State(hub): State<Arc<Hub>>,
    key: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match answer(&hub, key, &uri, &headers).await {
        Ok(settings) => {
            let mut response = Json(settings).into_response();
            let answered = response.headers_mut();
            // A key that was rotated away is to be noticed.
            answered.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
            answered.append(VARY, HeaderValue::from_static("Host, X-Forwarded-Proto"));
            response
        }
        Err(failure) => failure.into_response(),
    }
}

async fn answer(
    hub: &Hub,
    key: Result<Path<String>, PathRejection>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Settings, Failure> {
    let unknown = || Failure::from(Refusal::not_found("there is no project with this write key"));
    let Ok(Path(key)) = key else { return Err(unknown()) };
    let view = hub.coordinator.view_for_key(&key, Instant::now() + hub.deadline).await;
    let view = view.map_err(|error| Failure::from_fault(&error))?;
    if !is_in_force(&view, &key) {
        return Err(unknown());
    }
    let asked = uri.authority().map(|authority| authority.as_str());
    let host = asked.or_else(|| headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    let forwarded = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    Ok(Settings::of(key, host, forwarded == Some("https")))
}

fn is_in_force(view: &View, key: &str) -> bool {
    source::of_key(view, key).is_some_and(|source| !source.disabled)
}

impl Settings {
    fn of(key: String, host: &str, tls: bool) -> Self {
        let api_host = format!("{host}/v1");
        let allowed = || Allowed { default: Enabled { enabled: true, integrations: BTreeMap::new() } };
        Self {
            integrations: Integrations {
                hub: HubIntegration {
                    api_key: key,
                    api_host: api_host.clone(),
                    protocol: if tls { "https" } else { "http" },
                    unbundled_integrations: Vec::new(),
                    add_bundled_metadata: true,
                    maybe_bundled_config_ids: BTreeMap::new(),
                },
            },
            plan: Plan { track: allowed(), identify: allowed(), group: allowed() },
            metrics: SdkMetrics { sample_rate: 0, host: api_host },
            edge_function: BTreeMap::new(),
            middleware_settings: BTreeMap::new(),
            enabled_middleware: BTreeMap::new(),
            remote_plugins: Vec::new(),
            analytics_next_enabled: true,
            legacy_video_plugins_enabled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_is_sent_to_where_it_asked() {
        let json = serde_json::to_value(Settings::of("k1".into(), "127.0.0.1:7480", false)).unwrap();
        let hub = &json["integrations"]["Segment.io"];
        assert_eq!((&hub["apiKey"], &hub["apiHost"]), (&"k1".into(), &"127.0.0.1:7480/v1".into()));
        assert_eq!((&hub["protocol"], &json["metrics"]["sampleRate"]), (&"http".into(), &0.into()));
        assert_eq!(json["plan"]["track"]["__default"]["enabled"], true);
        let json = serde_json::to_value(Settings::of("k1".into(), "hub.example", true)).unwrap();
        assert_eq!(json["integrations"]["Segment.io"]["protocol"], "https");
    }
}
