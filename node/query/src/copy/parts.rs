//! A `COPY` to a URL that ends in `/`: each task of the plan writes the rows that it has, from the node where it runs.
//!
//! A store knows no names that change, so what was written lies under its final name at once; that all of it is there
//! says an object `_SUCCESS`, as Hadoop's writers have it. While parts are written, `_STARTED` is there, which one `COPY` alone
//! can make. What a `COPY` that failed has written is removed again.

use std::{fmt, future::ready, sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch},
    datatypes::Int64Type,
};
use datafusion::{
    common::{Result, internal_err, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        coalesce_partitions::CoalescePartitionsExec,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use datafusion_distributed::DistributedTaskContext;
use futures::{TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use url::Url;

use super::{
    Exports, Format, answer_schema,
    upload::{Object, store_failed, upload},
};
use crate::{
    error::{QueryError, broken, to_datafusion},
    run::plain,
};

/// What says that all parts are there.
const SUCCESS: &str = "_SUCCESS";
/// What says that a `COPY` is at work here.
const STARTED: &str = "_STARTED";
/// After which times parts are removed once more: what a node had on its way when the statement ended comes to lie there by then.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// Where parts are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Ends in `/`.
    url: String,
    format: Format,
    /// Of this run of this statement, in the name of each part.
    number: u64,
}

impl Parts {
    /// Below a URL where nothing is yet.
    ///
    /// # Errors
    /// It isn't allowed, the store can't be reached, or something is there.
    pub(crate) async fn below(
        url: &Url,
        format: Format,
        exports: &Arc<Exports>,
    ) -> Result<(Self, Leftovers), QueryError> {
        let (store, folder) = exports.open(url)?;
        let number = super::number_of(url.as_str());
        let started = folder.clone().join(STARTED);
        // First, so that of two at a time one alone finds nothing; and a store that isn't there says so of a write best.
        let claimed = store.put_opts(&started, PutPayload::new(), PutMode::Create.into()).await;
        claimed.map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => {
                QueryError::invalid(format!("another COPY writes below {url} already"))
            }
            error => store_failed(&started, &error),
        })?;
        let parts = Self { url: url.to_string(), format, number };
        let mark = format!("{number:016x}");
        let mut leftovers = Leftovers { store, folder, mark, is_over: false };
        let others = leftovers.store.list(Some(&leftovers.folder));
        let there = others.try_filter(|object| ready(object.location != started)).try_next().await;
        if there.map_err(|error| store_failed(&leftovers.folder, &error))?.is_some() {
            leftovers.remove().await;
            leftovers.is_over = true;
            return Err(QueryError::invalid(format!("something is below {url} already")));
        }
        Ok((parts, leftovers))
    }

    fn name(&self, task: usize, partition: usize) -> String {
        format!("part-{task:05}-{partition:03}-{:016x}.{}", self.number, self.format.extension())
    }
}

/// What has been written and may have to be removed again.
pub(crate) struct Leftovers {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// In the names of parts.
    mark: String,
    /// All is there, or its removal is seen to.
    is_over: bool,
}

impl Leftovers {
    /// Reads what the tasks say to its end; what all of them wrote.
    pub(crate) async fn complete(mut self, told: SendableRecordBatchStream) -> Result<RecordBatch> {
        let done = self.told(told).await;
        if done.is_err() {
            // Now, so that who tries again finds nothing; and what is on its way, later.
            self.remove().await;
            self.is_over = true;
            self.remove_later();
        }
        done
    }

    async fn told(&mut self, mut told: SendableRecordBatchStream) -> Result<RecordBatch> {
        let (mut rows, mut files) = (0, 0);
        while let Some(batch) = told.try_next().await? {
            let sum = |at: usize| batch.column(at).as_primitive::<Int64Type>().values().iter().sum::<i64>();
            rows += sum(0);
            files += sum(1);
        }
        let success = self.folder.clone().join(SUCCESS);
        let put = self.store.put(&success, PutPayload::new()).await;
        put.map_err(|error| to_datafusion(store_failed(&success, &error)))?;
        self.is_over = true;
        if let Err(error) = self.store.delete(&self.folder.clone().join(STARTED)).await {
            tracing::warn!(%error, folder = %self.folder, "_STARTED of a COPY that is complete stays in the store");
        }
        answer(rows, files)
    }

    /// Removes the parts, and then what keeps others out.
    async fn remove(&self) {
        let removed = remove(&self.store, &self.folder, &self.mark).await;
        let left = match removed {
            Ok(()) => self.store.delete(&self.folder.clone().join(STARTED)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            tracing::warn!(%error, folder = %self.folder, "what a COPY that was broken off has written stays in the store");
        }
    }

    fn remove_later(&self) {
        let (store, folder, mark) = (Arc::clone(&self.store), self.folder.clone(), self.mark.clone());
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            for pause in AGAIN {
                tokio::time::sleep(pause).await;
                if let Err(error) = remove(&store, &folder, &mark).await {
                    tracing::warn!(%error, %folder, "parts of a COPY that was broken off may stay in the store");
                }
            }
        });
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let (store, folder, mark) = (Arc::clone(&self.store), self.folder.clone(), self.mark.clone());
        let rest = Self { store, folder, mark, is_over: true };
        runtime.spawn(async move {
            rest.remove().await;
            rest.remove_later();
        });
    }
}

/// Removes the parts of a run; of those that can't be, the last one's error.
async fn remove(store: &Arc<dyn ObjectStore>, folder: &Path, mark: &str) -> object_store::Result<()> {
    let all: Vec<_> = store.list(Some(folder)).try_collect().await?;
    let mut done = Ok(());
    for object in all {
        if object.location.filename().is_some_and(|name| name.contains(mark)) {
            match store.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => done = Err(error),
            }
        }
    }
    done
}

pub(super) fn answer(rows: i64, files: i64) -> Result<RecordBatch> {
    let column = |n: i64| Arc::new(Int64Array::from(vec![n]));
    Ok(RecordBatch::try_new(answer_schema(), vec![column(rows), column(files)])?)
}

/// Puts the writing on top of a plan: where its partitions are made, not where they come together.
#[derive(Debug)]
pub(crate) struct WriteParts {
    pub parts: Parts,
    pub exports: Arc<Exports>,
}

impl PhysicalOptimizerRule for WriteParts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let writing = WriteExec::new(plan, self.parts.clone(), Arc::clone(&self.exports));
        Ok(Arc::new(CoalescePartitionsExec::new(Arc::new(writing))))
    }

    fn name(&self) -> &'static str {
        "WriteParts"
    }

    fn schema_check(&self) -> bool {
        false
    }
}

/// Writes each partition of what is below, and says how many rows and files that were.
#[derive(Debug)]
pub(crate) struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    parts: Parts,
    exports: Arc<Exports>,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, parts: Parts, exports: Arc<Exports>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(answer_schema()),
            datafusion::physical_expr::Partitioning::UnknownPartitioning(
                input.output_partitioning().partition_count(),
            ),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, parts, exports, properties: Arc::new(properties) }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteExec: {}", self.parts.url)
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &'static str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(Self::new(input, self.parts.clone(), Arc::clone(&self.exports))))
            }
            _ => internal_err!("WriteExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let task = DistributedTaskContext::from_ctx(&context).task_index;
        // Each node looks into its own settings.
        let url = Url::parse(&self.parts.url).map_err(|error| broken!("{}: {error}", self.parts.url))?;
        let (store, folder) = self.exports.open(&url).map_err(to_datafusion)?;
        let path = folder.join(self.parts.name(task, partition));
        let rows = plain(self.input.execute(partition, context)?);
        let format = self.parts.format;
        // One says what the columns are where there are no rows at all.
        let object = Object::Part { is_wanted_empty: (task, partition) == (0, 0) };
        let written = async move {
            let rows = upload(&store, &path, rows, format, object).await?;
            let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            answer(number(rows.unwrap_or_default()), number(usize::from(rows.is_some())))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(answer_schema(), stream::once(written))))
    }
}
