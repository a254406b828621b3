//! `isthmus identity …`

use crate::Client;
use clap::Subcommand;

use crate::cli::{
    failure::{Done, Failure},
    matching::{self, MatchingVerb},
    output::Output,
    rules::{self, IdentityRulesVerb},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus identity rules get > rules.toml
  isthmus identity rules put rules.toml --wait 60s
  isthmus identity rules status
  isthmus identity match --full --wait
  isthmus identity candidates
  isthmus identity accept user_id:17 crm_id:A-4
  isthmus identity pairs --min-score 0.9 --output json";

#[derive(Debug, Subcommand)]
pub enum IdentityVerb {
    /// Which identifiers lead, how many a customer may have, which values count for nobody, whose word counts
    #[command(
        after_help = "Examples:\n  isthmus identity rules get > identity.toml\n  isthmus identity rules put identity.toml --wait 60s\n  isthmus identity rules status"
    )]
    Rules {
        #[command(subcommand)]
        verb: IdentityRulesVerb,
    },
    #[command(flatten)]
    Matching(MatchingVerb),
}

pub async fn run(verb: IdentityVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        IdentityVerb::Rules { verb } => rules::run(verb, &client, output).await,
        IdentityVerb::Matching(verb) => matching::run(verb, client, output).await,
    }
}
