//! `QualityService`: how good the data are.

use std::{sync::Arc, time::Duration};

use isthmus_domain::quality::{Overlap, ReservedRules, Settings, TraitQuality};
use isthmus_proto::v1::{
    self, ReportRequest, ReportResponse, SourceQuality, TraitOverlap, quality_service_server::QualityService,
};
use tonic::{Code, Request, Response, Status};

use super::{
    hub::Hub,
    status::{Refusal, status},
    value::timestamp,
};

/// How old values may be to be up to date, unless the caller says.
const UPDATED_WITHIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The service.
pub struct Quality {
    hub: Arc<Hub>,
}

impl Quality {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

fn duration(micros: i64) -> Option<prost_types::Duration> {
    let micros = micros.max(0);
    let nanos = i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    Some(prost_types::Duration { seconds: micros / 1_000_000, nanos })
}

fn of_trait(of: TraitQuality) -> v1::TraitQuality {
    let [lag_p50, lag_p95, lag_p99] = of.lag_micros.map(duration);
    v1::TraitQuality {
        completeness: of.completeness(),
        validity: of.validity(),
        uniqueness: of.uniqueness(),
        consistency: of.consistency(),
        timeliness: of.timeliness(),
        source: of.source,
        r#trait: of.name,
        values: of.values,
        checked: of.checked,
        valid: of.valid,
        distinct: of.distinct,
        distinct_exact: of.distinct_exact,
        shared: of.shared,
        agreeing: of.agreeing,
        updated: of.updated,
        events: of.events,
        lag_p50,
        lag_p95,
        lag_p99,
    }
}

fn of_overlap(of: Overlap) -> TraitOverlap {
    TraitOverlap { consistency: of.consistency(), r#trait: of.name, shared: of.shared, agreeing: of.agreeing }
}

#[tonic::async_trait]
impl QualityService for Quality {
    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        if !request.source.is_empty() && !self.hub.view().sources.contains_key(request.source.as_str()) {
            let message = "there is no such source: `isthmus source list` shows them";
            return Err(Refusal::new(Code::NotFound, "SOURCE_NOT_FOUND", message).into());
        }
        let within = match request.updated_within {
            None => UPDATED_WITHIN,
            Some(given) => Duration::try_from(given).map_err(|_| {
                Refusal::field(
                    "INVALID_DURATION",
                    "updated_within",
                    "must be a time span that is not negative",
                )
            })?,
        };
        let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
        let updated_since = self.hub.clock.now_micros().saturating_sub(within).max(0);
        let settings = Settings { source: request.source, updated_since };
        let sums = self.hub.router.quality(settings, deadline).await.map_err(|error| status(&error))?;
        let report = sums.report(&ReservedRules);
        let sources = report.sources.into_iter().map(|of| SourceQuality {
            source: of.source,
            customers: of.customers,
            events: of.events,
        });
        Ok(Response::new(ReportResponse {
            updated_since: Some(timestamp(updated_since)),
            sources: sources.collect(),
            traits: report.traits.into_iter().map(of_trait).collect(),
            overlaps: report.overlaps.into_iter().map(of_overlap).collect(),
            cut: report.cut,
        }))
    }
}
