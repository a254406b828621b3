//! A segment recounted in SQL from all events, and compared with what is live at the same cut.

use std::time::Duration;

use arrow::{array::AsArray, datatypes::Int64Type, record_batch::RecordBatch};
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::v1::VerifyResponse;
use isthmus_query::Members;
use isthmus_segment::{Plan, sql};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Segments, faults::invalid};
use crate::grpc::status::{Refusal, status};

/// Customers that are named of those whom only one of the two has.
const DIFFERING_MAX: usize = 100;

impl Segments {
    /// Recounts a segment.
    pub(super) async fn recount(&self, name: &str, deadline: Instant) -> Result<VerifyResponse, Status> {
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let queries = &self.hub.queries;
        let wanted = Members { segments: Some(vec![name.to_owned()]), since: false };
        let cut = queries.open_cut(wanted, left()).await.map_err(|error| status(&error))?;
        let at = cut.at();
        let document = match cut.definitions().unwrap_or_default() {
            0 => return Err(unknown(name)),
            version => self.definitions(version, deadline).await?.document,
        };
        let known = isthmus_segmenter::definitions::known(isthmus_coordinator::DEFAULT_CURRENCY);
        let segment = name.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let plan = Plan::compile(&document, &known).map_err(|faults| faults.into_iter().next())?;
            let definition = plan.definitions().iter().find(|it| it.is_segment && it.name == segment);
            definition.map(|it| sql::members(&plan, it, at.as_micros())).transpose().map_err(Some)
        });
        let internal = |what: String| Status::from(Refusal::new(Code::Internal, "INTERNAL", what));
        let recounted = match written.await.map_err(|error| internal(error.to_string()))? {
            Ok(Some(sql)) => sql,
            Ok(None) => return Err(unknown(name)),
            Err(fault) => {
                return Err(invalid("name", fault.map(|fault| fault.to_string()).unwrap_or_default()).into());
            }
        };
        let both = both(name, &recounted);
        let sums = format!(
            "SELECT count(live), count(recounted), count(CASE WHEN live IS NULL OR recounted IS NULL THEN 1 END) FROM ({both})"
        );
        let found = queries.run_over(&cut, &sums, left()).await.map_err(|error| status(&error))?;
        let sum = |column: usize| {
            numbers(&found, column).ok_or_else(|| internal("a recount has no sum".to_owned()))
        };
        let (live, recounted, differ) = (sum(0)?, sum(1)?, sum(2)?);
        let mut differing = Vec::new();
        if differ > 0 {
            let some = format!(
                "SELECT CAST(coalesce(live, recounted) AS VARCHAR) AS profile_id FROM ({both}) WHERE live IS NULL OR \
                 recounted IS NULL ORDER BY 1 LIMIT {DIFFERING_MAX}"
            );
            let found = queries.run_over(&cut, &some, left()).await.map_err(|error| status(&error))?;
            differing = ids(&found);
        }
        drop(cut);
        Ok(VerifyResponse {
            live,
            recounted,
            differing: self.members(&differing, deadline).await?,
            version: Stamp::to_string(&at),
        })
    }
}

fn unknown(name: &str) -> Status {
    invalid("name", format!("there is no segment {name}")).into()
}

/// Who is live and who is recounted, each NULL where only the other one is; without those of whom it can't be said live, as
/// SQL has no bounds.
fn both(name: &str, recounted: &str) -> String {
    let name = format!("'{}'", name.replace('\'', "''"));
    format!(
        "SELECT l.profile_id AS live, r.profile_id AS recounted FROM (SELECT profile_id FROM segment_members WHERE segment = \
         {name}) l FULL OUTER JOIN (SELECT a.profile_id FROM ({recounted}) a LEFT ANTI JOIN (SELECT profile_id FROM \
         segment_overflows WHERE segment = {name}) o ON a.profile_id = o.profile_id) r ON l.profile_id = r.profile_id"
    )
}

fn numbers(found: &[RecordBatch], column: usize) -> Option<u64> {
    let batch = found.iter().find(|batch| batch.num_rows() > 0)?;
    let numbers = batch.columns().get(column)?.as_primitive_opt::<Int64Type>()?;
    u64::try_from(numbers.value(0)).ok()
}

fn ids(found: &[RecordBatch]) -> Vec<FacetId> {
    let texts = found.iter().filter_map(|batch| batch.columns().first()?.as_string_opt::<i32>());
    texts.flat_map(|texts| texts.iter().flatten().filter_map(|id| id.parse().ok())).collect()
}
