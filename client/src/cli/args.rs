//! The command line's grammar. Names are pinned by the interface's description; options that all commands share
//! stand before or after the verb.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;

use crate::{Client, Tls};

use crate::cli::{
    cluster::ClusterVerb, failure::Failure, group::GroupVerb, identity::IdentityVerb, ingest::IngestCommand,
    output::Format, profile::ProfileVerb, quality::QualityVerb, quarantine::QuarantineVerb,
    schema::SchemaVerb, segment::SegmentVerb, source::SourceVerb, sql::SqlCommand, watch::WatchCommand,
};

/// The version, and the commit that this was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ISTHMUS_COMMIT"), ")");

const EXAMPLES: &str = "\
Examples:
  isthmus cluster status --wait 60s
  isthmus ingest events.jsonl --write-key dev-write-key
  isthmus ingest --infer orders.csv > orders.toml
  isthmus profile get user_id:42 --output json
  isthmus profile timeline email:a@b.de --limit 20
  isthmus watch --from now
  isthmus sql 'SELECT count(*) FROM events'
  isthmus quarantine list
  isthmus cluster status --endpoint https://hub.example:7400 --ca ca.pem --cert me.pem --key me.key

Each command has examples of its own: isthmus ingest --help, isthmus cluster status --help, and so on. Errors and progress
go to standard error; with --output json there is nothing but JSON on standard output, one object a line.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 done with quarantined or rejected items, 130 stopped by Ctrl-C.";

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
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// Nodes to talk to, as [http://|https://]HOST[:PORT]; one that can't be reached is skipped. May be repeated
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_delimiter = ',',
        env = "ISTHMUS_ENDPOINT",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7400"
    )]
    pub endpoint: Vec<String>,
    /// Tables for people, or one JSON object a line; csv and parquet are for `isthmus sql`
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// How long a call may take, retries included [default: 10s; of `isthmus sql` what the hub allows]
    #[arg(long, global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Trust nodes whose certificates are signed by the authorities in this file (PEM), and no others; endpoints are https://
    /// then [default: the system's authorities]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this certificate (PEM) to nodes that ask for one
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long = "key", global = true, value_name = "FILE")]
    pub certificate_key: Option<PathBuf>,
}

impl Global {
    /// A client as it was asked for; `timeout` for calls when nobody said.
    ///
    /// # Errors
    /// [`Failure::Usage`] when a certificate comes without its key; the client's, when an endpoint is no address, a file
    /// can't be read, or what is to be encrypted would go in the clear.
    pub fn client(self, timeout: Duration) -> Result<Client, Failure> {
        let mut builder = Client::builder().deadline(self.timeout.unwrap_or(timeout));
        let identity = match (self.cert, self.certificate_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            // Looked at here: they may stand before and after the verb, and the grammar sees one place at a time.
            (Some(_), None) => {
                return Err(Failure::Usage("--cert needs --key, the certificate's key".into()));
            }
            (None, Some(_)) => {
                return Err(Failure::Usage("--key needs --cert, the key's certificate".into()));
            }
        };
        if self.ca.is_some() || identity.is_some() {
            let mut tls = Tls::new();
            if let Some(ca) = self.ca {
                tls = tls.ca_file(ca)?;
            }
            if let Some((certificate, key)) = identity {
                tls = tls.client_certificate_files(certificate, key)?;
            }
            builder = builder.tls(tls);
        }
        Ok(builder.endpoints(self.endpoint).connect_lazy()?)
    }
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
    /// Read groups, such as companies, and who belongs to them
    #[command(after_help = crate::cli::group::EXAMPLES)]
    Group {
        #[command(subcommand)]
        verb: GroupVerb,
    },
    /// Say which sets of customers there are, and see who is in them
    #[command(after_help = crate::cli::segment::EXAMPLES)]
    Segment {
        #[command(subcommand)]
        verb: SegmentVerb,
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
    /// Ask anything of all profiles and events, in SQL
    #[command(after_help = crate::cli::sql::EXAMPLES)]
    Sql(SqlCommand),
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
    #[command(
        after_help = "Examples:\n  isthmus completions bash > /etc/bash_completion.d/isthmus\n  isthmus completions zsh > \"${fpath[1]}/_isthmus\"\n  isthmus completions fish > ~/.config/fish/completions/isthmus.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[cfg(test)]
mod tests;
