//! `isthmus identity …`

use crate::Client;
use clap::Subcommand;

use crate::cli::{
    failure::{Done, Failure},
    output::Output,
    rules::{self, IdentityRulesVerb},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus identity rules get > rules.toml
  isthmus identity rules put rules.toml --wait 60s
  isthmus identity rules status";

#[derive(Debug, Subcommand)]
pub enum IdentityVerb {
    /// Which identifiers lead, how many a customer may have, which values count for nobody, whose word counts
    Rules {
        #[command(subcommand)]
        verb: IdentityRulesVerb,
    },
}

pub async fn run(verb: IdentityVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    let IdentityVerb::Rules { verb } = verb;
    rules::run(verb, &client, output).await
}
