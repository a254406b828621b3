//! The command line's grammar. Names are pinned by the interface's description; options that all commands share
//! stand before or after the verb.

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::{
    cluster::ClusterVerb, identity::IdentityVerb, ingest::IngestCommand, output::Format,
    profile::ProfileVerb, quality::QualityVerb, quarantine::QuarantineVerb, schema::SchemaVerb,
    source::SourceVerb, watch::WatchCommand,
};

/// The version, and the commit that this was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ISTHMUS_COMMIT"), ")");

const EXAMPLES: &str = "\
Examples:
  isthmus cluster status --wait 60s
  isthmus ingest events.jsonl --write-key dev-write-key
  isthmus profile get user_id:42 --output json
  isthmus profile timeline email:a@b.de --limit 20
  isthmus watch --from now
  isthmus quarantine list

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 done with quarantined or rejected items.";

/// Talks to an Isthmus cluster: sends events, reads profiles, looks after nodes and shards.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version = VERSION, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

/// What all commands share.
#[derive(Debug, ClapArgs)]
pub struct Global {
    /// Nodes to talk to, as [http://]HOST[:PORT]; one that can't be reached is skipped. May be repeated
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_delimiter = ',',
        env = "ISTHMUS_ENDPOINT",
        default_value = "http://127.0.0.1:7400"
    )]
    pub endpoint: Vec<String>,
    /// Tables for people, or one JSON object a line
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// How long a call may take, retries included
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Send the events in files
    Ingest(IngestCommand),
    /// Read customers' profiles
    #[command(after_help = crate::cli::profile::EXAMPLES)]
    Profile {
        #[command(subcommand)]
        verb: ProfileVerb,
    },
    /// Follow changes of profiles, as they come about or from a cursor on
    #[command(after_help = crate::cli::watch::EXAMPLES)]
    Watch(WatchCommand),
    /// Look after the cluster
    #[command(after_help = crate::cli::cluster::EXAMPLES)]
    Cluster {
        #[command(subcommand)]
        verb: ClusterVerb,
    },
    /// Manage the systems that send, and their write keys
    #[command(after_help = crate::cli::source::EXAMPLES)]
    Source {
        #[command(subcommand)]
        verb: SourceVerb,
    },
    /// Report on how good the data are
    #[command(after_help = crate::cli::quality::EXAMPLES)]
    Quality {
        #[command(subcommand)]
        verb: QualityVerb,
    },
    /// Say what events look like, and how traits are standardised
    #[command(after_help = crate::cli::schema::EXAMPLES)]
    Schema {
        #[command(subcommand)]
        verb: SchemaVerb,
    },
    /// Say how identifiers become one customer
    #[command(after_help = crate::cli::identity::EXAMPLES)]
    Identity {
        #[command(subcommand)]
        verb: IdentityVerb,
    },
    /// Look at what was kept and not applied, mend it and take it in
    #[command(after_help = crate::cli::quarantine::EXAMPLES)]
    Quarantine {
        #[command(subcommand)]
        verb: QuarantineVerb,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  isthmus completions bash > /etc/bash_completion.d/isthmus")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }
}
