//! `isthmus identity rules …`, and what `isthmus schema rules …` has in common with it.

use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::{
    Client, Error,
    cli::{
        document,
        failure::{Done, Failure},
        output::{Output, complain},
    },
    json, proto,
};

/// How often progress is asked for.
const POLL: Duration = Duration::from_millis(250);
const BAR: &str = "{bar:30} {percent}%  {msg}";

#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// Print the rules in force as a document that `put` takes
    #[command(after_help = "Example:\n  isthmus schema rules get > rules.toml")]
    Get {
        /// A version that was in force earlier
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// Put rules in force: TOML or JSON. If they name the version that they were made from, it has to be in force
    #[command(after_help = "Example:\n  isthmus schema rules put rules.toml")]
    Put {
        /// The file; `-` is standard input
        file: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum IdentityRulesVerb {
    /// Print the rules in force as a document that `put` takes
    #[command(after_help = "Example:\n  isthmus identity rules get > identity.toml")]
    Get {
        /// A version that was in force earlier
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// Put rules in force: TOML or JSON. If they name the version that they were made from, it has to be in force
    #[command(after_help = "Example:\n  isthmus identity rules put identity.toml --wait 60s")]
    Put {
        /// The file; `-` is standard input
        file: String,
        /// Wait so long for all customers to be as the rules say; exits 1 when shards are not done by then
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
    /// Say how far the rules in force have come in each shard; exits 1 when some are not done
    #[command(after_help = "Example:\n  isthmus identity rules status --wait 60s")]
    Status {
        /// Wait so long for all customers to be as the rules say
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
}

pub async fn run(verb: IdentityRulesVerb, client: &Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        IdentityRulesVerb::Get { version } => document::show(&client.identity_rules(version).await?, output),
        IdentityRulesVerb::Put { file, wait } => {
            let (rules, changed) = client.put_identity_rules(document::json(&file)?).await?;
            let done = document::put(&rules, changed, output)?;
            match wait {
                Some(_) => status(client, rules.version, wait, output).await,
                None => Ok(done),
            }
        }
        IdentityRulesVerb::Status { wait } => status(client, 0, wait, output).await,
    }
}

/// Whether all customers are as some version of the rules, or a later one, says.
fn is_settled(status: &proto::GetIdentityRulesStatusResponse, version: u64) -> bool {
    status.done && status.version >= version && status.messages_under_way == 0
}

async fn status(
    client: &Client,
    version: u64,
    wait: Option<Duration>,
    output: &mut Output,
) -> Result<Done, Failure> {
    let deadline = wait.map(|wait| Instant::now() + wait);
    // Hidden by itself when standard error isn't a terminal.
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    let status = loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // While waiting, no single question may use up all the time.
        let asked = match left {
            Some(left) => client.with_deadline(left.clamp(POLL, Duration::from_secs(5))),
            None => client.clone(),
        };
        let may_wait = left.is_some_and(|left| left > POLL);
        match asked.identity_rules_status().await {
            Ok(status) if is_settled(&status, version) || !may_wait => break status,
            Ok(status) => progress(&bar, &status),
            Err(error) if !may_wait || matches!(error, Error::Usage(_)) => return Err(error.into()),
            Err(_) => {}
        }
        sleep(POLL).await;
    };
    bar.finish_and_clear();
    show(&status, output)?;
    let done = status.done && status.version >= version;
    if done && wait.is_some() && status.messages_under_way > 0 {
        complain("all shards are done, and messages were under way to the end: new links always make some");
    }
    Ok(if done { Done::Well } else { Done::NotWell })
}

fn progress(bar: &ProgressBar, status: &proto::GetIdentityRulesStatusResponse) {
    let slots = status.shards.iter().map(|shard| u64::from(shard.slots)).sum::<u64>();
    // What a shard has swept under rules of before is no progress of these.
    let current = status.shards.iter().filter(|shard| shard.version >= status.version);
    bar.set_length(slots.max(1));
    bar.set_position(current.map(|shard| u64::from(shard.swept_slots)).sum());
    bar.set_message(format!("{} messages under way", status.messages_under_way));
}

fn show(status: &proto::GetIdentityRulesStatusResponse, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&json::RulesStatus::from(status))?;
        return Ok(());
    }
    output.facts(&[
        ("version", status.version.to_string()),
        ("done", if status.done { "yes" } else { "no" }.to_owned()),
        ("messages under way", status.messages_under_way.to_string()),
    ])?;
    let rows = status.shards.iter().map(|shard| {
        let swept = format!("{} of {}", shard.swept_slots, shard.slots);
        let done = if shard.done { "yes" } else { "no" }.to_owned();
        vec![shard.shard.to_string(), shard.version.to_string(), swept, done]
    });
    output.table(&["SHARD", "VERSION", "SLOTS", "DONE"], rows)?;
    Ok(())
}
