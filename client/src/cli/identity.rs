//! `isthmus identity …`

use crate::Client;
use clap::Subcommand;

use crate::cli::{
    document,
    failure::{Done, Failure},
    matching::{self, MatchingVerb},
    output::Output,
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus identity rules get > rules.toml
  isthmus identity rules put rules.toml
  isthmus identity match --full --wait
  isthmus identity candidates
  isthmus identity accept user_id:17 crm_id:A-4
  isthmus identity pairs --min-score 0.9 --output json";

#[derive(Debug, Subcommand)]
pub enum IdentityVerb {
    /// Which identifiers lead, how many a customer may have, which values count for nobody, whose word counts
    Rules {
        #[command(subcommand)]
        verb: RulesVerb,
    },
    #[command(flatten)]
    Matching(MatchingVerb),
}

#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// Print the rules in force as a document that `put` takes
    Get {
        /// A version that was in force earlier
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// Put rules in force: TOML or JSON. If they name the version that they were made from, it has to be in force
    Put {
        /// The file; `-` is standard input
        file: String,
    },
}

pub async fn run(verb: IdentityVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    let verb = match verb {
        IdentityVerb::Rules { verb } => verb,
        IdentityVerb::Matching(verb) => return matching::run(verb, client, output).await,
    };
    match verb {
        RulesVerb::Get { version } => document::show(&client.identity_rules(version).await?, output),
        RulesVerb::Put { file } => {
            let (rules, changed) = client.put_identity_rules(document::json(&file)?).await?;
            document::put(&rules, changed, output)
        }
    }
}
