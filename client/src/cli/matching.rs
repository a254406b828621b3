//! `isthmus identity match|pairs|candidates|accept|refuse`: profiles that may be one person.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json as object};

use crate::cli::{
    document,
    failure::{Done, Failure},
    output::{Output, complain},
};
use crate::{Client, json, key::ProfileKey, proto};

/// How long learning may take: as long as the hub allows.
const LEARNING: Duration = Duration::from_secs(300);
/// Pairs of a page.
const PAGE: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub enum MatchingVerb {
    /// Find profiles that may be one person though they share no identifier; without --full, show how far that is
    #[command(
        after_help = "Examples:\n  isthmus identity match\n  isthmus identity match --full --wait\n  isthmus identity match --full --config matching.toml"
    )]
    Match {
        /// Learn what matching pairs look like from all profiles, and compare them all anew
        #[arg(long)]
        full: bool,
        /// Return when every profile that was sent before has been compared
        #[arg(long)]
        wait: bool,
        /// What is compared, and how: TOML or JSON; `-` is standard input. Kept for later passes
        #[arg(long, value_name = "FILE", requires = "full")]
        config: Option<String>,
    },
    /// All pairs from a score on
    #[command(after_help = "Example:\n  isthmus identity pairs --min-score 0.9 --only open --output json")]
    Pairs {
        /// The least probability that the two are one person, 0 to 1
        #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = score)]
        min_score: f64,
        /// Only those: open, accepted or refused
        #[arg(long, value_enum)]
        only: Option<Decision>,
    },
    /// The pairs that wait for a decision, the surest first
    #[command(after_help = "Example:\n  isthmus identity candidates --limit 20")]
    Candidates {
        /// The least probability that the two are one person, 0 to 1
        #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = score)]
        min_score: f64,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Take a pair for one person: they are linked, which `isthmus profile split` can take back
    #[command(after_help = "Example:\n  isthmus identity accept user_id:17 crm_id:A-4 --note 'called both'")]
    Accept(Decide),
    /// Take a pair for two people: it is not proposed again
    #[command(after_help = "Example:\n  isthmus identity refuse user_id:17 crm_id:A-4")]
    Refuse(Decide),
}

/// Which pair, and who decides.
#[derive(Debug, clap::Args)]
pub struct Decide {
    /// One, by any identifier as NAMESPACE:VALUE or by its profile id
    #[arg(value_name = "PROFILE")]
    a: ProfileKey,
    /// The other
    #[arg(value_name = "OTHER")]
    b: ProfileKey,
    /// Who decides, for the history
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "")]
    by: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

/// What was decided.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Decision {
    Open,
    Accepted,
    Refused,
}

fn score(text: &str) -> Result<f64, String> {
    let score: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..=1.0).contains(&score) { Ok(score) } else { Err("must be 0 to 1".to_owned()) }
}

pub async fn run(verb: MatchingVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        MatchingVerb::Match { full, wait, config } => {
            if full {
                let config = config.as_deref().map(document::json).transpose()?.unwrap_or_default();
                client.with_deadline(LEARNING).with_long_tries().match_profiles(config).await?;
            }
            let patient = client.with_deadline(LEARNING).with_long_tries();
            status(&until(wait, if wait { &patient } else { &client }).await?, output)
        }
        MatchingVerb::Pairs { min_score, only } => {
            let filter = match only {
                None => proto::PairFilter::Unspecified,
                Some(Decision::Open) => proto::PairFilter::Open,
                Some(Decision::Accepted) => proto::PairFilter::Accepted,
                Some(Decision::Refused) => proto::PairFilter::Refused,
            };
            if output.is_json() {
                each(&client, min_score, filter, |pair| Ok(output.json(&shown(pair))?)).await?;
                return Ok(Done::Well);
            }
            let mut rows = Vec::new();
            each(&client, min_score, filter, |pair| {
                rows.push(row(pair));
                Ok(())
            })
            .await?;
            output.table(&HEADINGS, rows)?;
            Ok(Done::Well)
        }
        MatchingVerb::Candidates { min_score, limit } => {
            let mut open = Vec::new();
            each(&client, min_score, proto::PairFilter::Open, |pair| {
                open.push(pair.clone());
                // The surest are kept, in bounded memory.
                if open.len() >= 2 * limit.max(PAGE as usize) {
                    surest(&mut open, limit);
                }
                Ok(())
            })
            .await?;
            surest(&mut open, limit);
            match output.is_json() {
                true => open.iter().try_for_each(|pair| output.json(&shown(pair)))?,
                false => output.table(&HEADINGS, open.iter().map(row))?,
            }
            Ok(Done::Well)
        }
        MatchingVerb::Accept(pair) => decide(pair, proto::PairDecision::Accepted, &client, output).await,
        MatchingVerb::Refuse(pair) => decide(pair, proto::PairDecision::Refused, &client, output).await,
    }
}

fn surest(pairs: &mut Vec<proto::Pair>, limit: usize) {
    pairs.sort_by(|a, b| b.score.total_cmp(&a.score));
    pairs.truncate(limit);
}

/// The status, at once or when all has been compared.
async fn until(wait: bool, client: &Client) -> Result<proto::MatchingStatus, Failure> {
    let mut told = false;
    loop {
        let status = client.matching_status(wait).await?;
        if !wait || status.model_version == 0 || status.complete && status.pending == 0 {
            return Ok(status);
        }
        if !told {
            complain("comparing goes on: waiting for it; Ctrl-C ends the waiting and not the work");
            told = true;
        }
    }
}

async fn decide(
    pair: Decide,
    decision: proto::PairDecision,
    client: &Client,
    output: &mut Output,
) -> Result<Done, Failure> {
    let request = proto::DecidePairRequest {
        a: Some(pair.a.into()),
        b: Some(pair.b.into()),
        decision: decision.into(),
        by: pair.by,
        note: pair.note,
    };
    let answer = client.decide_pair(request).await?;
    let decided = answer.pair.unwrap_or_default();
    match output.is_json() {
        true => output.json(&shown(&decided))?,
        false => output.table(&HEADINGS, [row(&decided)])?,
    }
    if !answer.changed {
        complain("nothing has changed: it was decided so before");
    }
    if decision == proto::PairDecision::Accepted && !answer.one_profile {
        complain("the identity rules keep the two apart: `isthmus profile explain` with both shows why");
    }
    Ok(Done::Well)
}

/// Shows pairs to `take`, page by page.
async fn each(
    client: &Client,
    min_score: f64,
    filter: proto::PairFilter,
    mut take: impl FnMut(&proto::Pair) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = String::new();
    loop {
        let request =
            proto::ListPairsRequest { min_score, filter: filter.into(), limit: PAGE, cursor: cursor.clone() };
        let page = client.pairs(request).await?;
        page.pairs.iter().try_for_each(&mut take)?;
        if page.next_cursor.is_empty() {
            return Ok(());
        }
        cursor = page.next_cursor;
    }
}

fn status(status: &proto::MatchingStatus, output: &mut Output) -> Result<Done, Failure> {
    if output.is_json() {
        let config: Value = serde_json::from_str(&status.config_json).unwrap_or_default();
        output.json(&object!({
            "model_version": status.model_version, "learned_from": status.learned_from,
            "profiles": status.profiles, "complete": status.complete, "pending": status.pending,
            "longest_ms": status.longest_ms, "stale": status.stale, "config": config,
        }))?;
        return Ok(Done::Well);
    }
    if status.model_version == 0 {
        output.line(
            "nothing is compared yet: `isthmus identity match --full` learns from the profiles there are",
        )?;
        return Ok(Done::Well);
    }
    output.facts(&[
        ("model", format!("version {}, learned from {} profiles", status.model_version, status.learned_from)),
        ("compared", format!("{} profiles{}", status.profiles, if status.complete { "" } else { " so far" })),
        ("waiting", format!("{} changed profiles", status.pending)),
        ("longest", format!("{:.1} ms from a change to its pairs", status.longest_ms)),
    ])?;
    if status.stale {
        complain(
            "it is time for `isthmus identity match --full`: much has changed since this model was learned",
        );
    }
    Ok(Done::Well)
}

const HEADINGS: [&str; 5] = ["SCORE", "A", "B", "DECISION", "SPEAKS FOR AND AGAINST"];

const fn decision(pair: &proto::Pair) -> &'static str {
    match pair.decision {
        1 => "accepted",
        2 => "refused",
        _ => "open",
    }
}

fn row(pair: &proto::Pair) -> Vec<String> {
    let names = |of: &[proto::Identifier]| {
        let first = of.first().map(|it| format!("{}:{}", it.namespace, it.value)).unwrap_or_default();
        if of.len() > 1 { format!("{first} (+{})", of.len() - 1) } else { first }
    };
    let mut weights: Vec<&proto::PairWeight> =
        pair.weights.iter().filter(|it| !it.level.is_empty()).collect();
    weights.sort_by(|a, b| b.bits.abs().total_cmp(&a.bits.abs()));
    let said = weights.iter().take(4).map(|it| format!("{} {} {:+.1}", it.r#trait, it.level, it.bits));
    vec![
        format!("{:.4}", pair.score),
        names(&pair.a),
        names(&pair.b),
        decision(pair).to_owned(),
        said.collect::<Vec<_>>().join(", "),
    ]
}

fn shown(pair: &proto::Pair) -> Value {
    let names = |of: &[proto::Identifier]| {
        of.iter().map(|it| format!("{}:{}", it.namespace, it.value)).collect::<Vec<_>>()
    };
    let weights: Vec<Value> = pair
        .weights
        .iter()
        .map(|it| object!({ "trait": it.r#trait, "level": (!it.level.is_empty()).then_some(&it.level), "bits": it.bits }))
        .collect();
    object!({
        "a": names(&pair.a), "b": names(&pair.b), "score": pair.score, "decision": decision(pair),
        "decided_by": (!pair.decided_by.is_empty()).then_some(&pair.decided_by),
        "decided_at": json::time(pair.decided_at.as_ref()),
        "note": (!pair.note.is_empty()).then_some(&pair.note),
        "found_at": json::time(pair.found_at.as_ref()),
        "model_version": pair.model_version, "weights": weights,
    })
}
