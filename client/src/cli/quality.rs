//! `isthmus quality …`

use std::time::Duration;

use crate::{Client, json};
use clap::Subcommand;
use serde_json::json as object;

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain},
};
use crate::proto;

pub const EXAMPLES: &str = "\
Examples:
  isthmus quality report
  isthmus quality report --source shop --updated-within 7d --output json

With --output json there is a line for each source and trait (\"kind\":\"trait\"), for each source, and for each trait
that several sources speak of (\"kind\":\"overlap\"). Shares are 0 to 1, null where there is nothing to have a share of.";

#[derive(Debug, Subcommand)]
pub enum QualityVerb {
    /// How complete, valid, unique, consistent and timely each trait of each source is
    #[command(
        after_help = "Examples:\n  isthmus quality report\n  isthmus quality report --source shop --updated-within 7d --output json"
    )]
    Report {
        /// Only this source
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Values set within this time are up to date
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration)]
        updated_within: Duration,
    },
}

pub async fn run(verb: QualityVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    let QualityVerb::Report { source, updated_within } = verb;
    let within = prost_types::Duration::try_from(updated_within)
        .map_err(|_| Failure::Usage("--updated-within is too long".to_owned()))?;
    let request = proto::ReportRequest { source: source.unwrap_or_default(), updated_within: Some(within) };
    let report = client.quality_report(request).await?;
    match output.is_json() {
        true => lines(&report, output)?,
        false => table(&report, output)?,
    }
    if report.cut {
        complain(
            "there are over 2,000 traits: those that come last by name are left out; --source narrows it down",
        );
    }
    Ok(Done::Well)
}

fn lines(report: &proto::ReportResponse, output: &mut Output) -> Result<(), Failure> {
    for of in &report.sources {
        output.json(&object!({
            "kind": "source", "source": of.source, "customers": of.customers, "events": of.events,
            "updated_since": json::time(report.updated_since.as_ref()),
        }))?;
    }
    for of in &report.traits {
        output.json(&object!({
            "kind": "trait", "source": of.source, "trait": of.r#trait,
            "values": of.values, "completeness": of.completeness,
            "checked": of.checked, "valid": of.valid, "validity": of.validity,
            "distinct": of.distinct, "distinct_exact": of.distinct_exact, "uniqueness": of.uniqueness,
            "shared": of.shared, "agreeing": of.agreeing, "consistency": of.consistency,
            "updated": of.updated, "timeliness": of.timeliness, "events": of.events,
            "lag_p50_seconds": seconds(of.lag_p50), "lag_p95_seconds": seconds(of.lag_p95),
            "lag_p99_seconds": seconds(of.lag_p99),
        }))?;
    }
    for of in &report.overlaps {
        output.json(&object!({
            "kind": "overlap", "trait": of.r#trait, "shared": of.shared, "agreeing": of.agreeing,
            "consistency": of.consistency,
        }))?;
    }
    Ok(())
}

fn table(report: &proto::ReportResponse, output: &mut Output) -> Result<(), Failure> {
    let rows = report.traits.iter().map(|of| {
        let about = if of.distinct_exact { "" } else { "~" };
        let lag = seconds(of.lag_p95).unwrap_or(0.0);
        vec![
            of.source.clone(),
            of.r#trait.clone(),
            of.values.to_string(),
            share(of.completeness),
            share(of.validity),
            format!("{about}{}", share(of.uniqueness)),
            share(of.consistency),
            share(of.timeliness),
            format!("{lag:.3} s"),
        ]
    });
    let headings =
        ["SOURCE", "TRAIT", "VALUES", "COMPLETE", "VALID", "UNIQUE", "CONSISTENT", "UPDATED", "LAG P95"];
    output.table(&headings, rows)?;
    Ok(())
}

/// A share in per cent; a dash where there is nothing to have a share of.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn seconds(span: Option<prost_types::Duration>) -> Option<f64> {
    span.map(|span| span.seconds as f64 + f64::from(span.nanos) / 1e9)
}
