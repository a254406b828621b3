//! `EXPLAIN`: plans as text.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{Result, exec_datafusion_err},
    execution::SendableRecordBatchStream,
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter},
};
use datafusion_distributed::display_plan_ascii;
use futures::stream;

/// A plan as it would run, stage by stage.
pub(crate) fn told(
    logical: &LogicalPlan,
    physical: &dyn ExecutionPlan,
    schema: &SchemaRef,
) -> Result<SendableRecordBatchStream> {
    let kinds: ArrayRef = Arc::new(StringArray::from(vec!["logical_plan", "physical_plan"]));
    let texts = vec![logical.display_indent().to_string(), display_plan_ascii(physical, false)];
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![kinds, Arc::new(StringArray::from(texts))])?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream::once(async { Ok(batch) }))))
}

/// A plan with what it took, with a line for each shard under its scans.
pub(crate) fn by_shard(batch: &RecordBatch) -> Result<RecordBatch> {
    let texts = batch.columns().get(1).and_then(|column| column.as_string_opt::<i32>());
    let texts = texts.ok_or_else(|| exec_datafusion_err!("a plan is no text"))?;
    let made: StringArray = texts.iter().map(|text| text.map(lines)).collect();
    let columns = [batch.columns().first().cloned(), Some(Arc::new(made) as ArrayRef)];
    Ok(RecordBatch::try_new(batch.schema(), columns.into_iter().flatten().collect())?)
}

fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    for line in text.lines() {
        let (line, shards) = without_shards(line);
        out.push_str(&line);
        out.push('\n');
        for shard in shards {
            out.push_str(&shard);
            out.push('\n');
        }
    }
    out
}

/// A line without what it counted by shard, and that in lines of its own.
fn without_shards(line: &str) -> (String, Vec<String>) {
    let nothing = || (line.to_owned(), Vec::new());
    if !line.contains("ScanExec: ") {
        return nothing();
    }
    let Some((front, metrics)) = line.split_once("metrics=[") else { return nothing() };
    let metrics = metrics.strip_suffix(']').unwrap_or(metrics);
    let indent: String = front.chars().take_while(|c| !c.is_alphabetic()).collect();
    let mut kept = Vec::new();
    // In the order of numbers, not of texts.
    let mut shards: std::collections::BTreeMap<u64, Vec<String>> = std::collections::BTreeMap::new();
    for metric in apart(metrics) {
        let counted = metric.strip_prefix("shard_").and_then(|rest| rest.split_once('_'));
        match counted.and_then(|(shard, what)| Some((shard.parse().ok()?, what))) {
            Some((shard, what)) => shards.entry(shard).or_default().push(what.to_owned()),
            None => kept.push(metric),
        }
    }
    let told = |(shard, mut counts): (u64, Vec<String>)| {
        counts.sort_unstable();
        format!("{indent}  shard {shard}: {}", counts.join(", "))
    };
    (format!("{front}metrics=[{}]", kept.join(", ")), shards.into_iter().map(told).collect())
}

/// Parts between commas, but not those inside brackets.
fn apart(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(text.get(from..at).map(str::trim));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..).map(str::trim).filter(|rest| !rest.is_empty()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_of_a_scan_has_its_line() {
        let text = "Top: metrics=[]\n  │ ScanExec: events, shards=2, metrics=[output_rows=5, shard_10_rows=3, \
                    shard_9_batches={t0: 1, t1: 2}, shard_9_rows=2]";
        assert_eq!(
            lines(text),
            "Top: metrics=[]\n  │ ScanExec: events, shards=2, metrics=[output_rows=5]\n  │   shard 9: batches={t0: 1, t1: \
             2}, rows=2\n  │   shard 10: rows=3\n"
        );
    }
}
