//! `isthmus`: the command line of the hub.
//!
//! `isthmus <noun> <verb>`, one file a noun. Tables for people; `--output json` prints one JSON object a line on
//! standard output and nothing else there: progress and messages go to standard error. Exit codes: 0 done, 1 refused
//! or failed, 2 usage, 3 done with quarantined or rejected items, 130 stopped by Ctrl-C. An output that nobody reads any
//! more (`| head`) ends the program quietly.

mod args;
mod cluster;
mod document;
mod failure;
mod group;
mod identity;
mod ingest;
mod matching;
mod output;
mod place;
mod profile;
mod quality;
mod quarantine;
mod rules;
mod schema;
mod segment;
mod source;
mod split;
mod sql;
mod watch;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser as _};

use crate::DEADLINE_DEFAULT;
use args::{Args, Noun};
use failure::{Done, Failure};
use output::{Format, Output};

/// Runs the CLI with its arguments, the program's name first. Ends the process itself where arguments are wrong or
/// only help was asked for (exit codes 2 and 0).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = Args::parse_from(args);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Failed(format!("can't start: {error}")).report(),
    };
    let result = runtime.block_on(carry_out(args));
    // A thread that waits for standard input can't be stopped; it isn't waited for.
    runtime.shutdown_background();
    match result {
        Ok(done) => done.code(),
        Err(failure) => failure.report(),
    }
}

async fn carry_out(args: Args) -> Result<Done, Failure> {
    let mut output = Output::new(args.global.output);
    if let Noun::Completions { shell } = args.noun {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "isthmus", &mut script);
        io::stdout().write_all(&script)?;
        return Ok(Done::Well);
    }
    let is_sql = matches!(args.noun, Noun::Sql(_));
    if matches!(args.global.output, Format::Csv | Format::Parquet) && !is_sql {
        let problem = "--output csv and --output parquet are for `isthmus sql`: give table or json";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let timeout = if is_sql { sql::TIMEOUT_DEFAULT } else { DEADLINE_DEFAULT };
    let client = args.global.client(timeout)?;
    let done = match args.noun {
        Noun::Ingest(command) => ingest::run(command, client, &mut output).await?,
        Noun::Watch(command) => watch::run(command, client, &mut output).await?,
        Noun::Profile { verb } => profile::run(verb, client, &mut output).await?,
        Noun::Group { verb } => group::run(verb, client, &mut output).await?,
        Noun::Segment { verb } => segment::run(verb, client, &mut output).await?,
        Noun::Cluster { verb } => cluster::run(verb, client, &mut output).await?,
        Noun::Source { verb } => source::run(verb, client, &mut output).await?,
        Noun::Schema { verb } => schema::run(verb, client, &mut output).await?,
        Noun::Identity { verb } => identity::run(verb, client, &mut output).await?,
        Noun::Quarantine { verb } => quarantine::run(verb, client, &mut output).await?,
        Noun::Sql(command) => sql::run(command, client, &mut output).await?,
        Noun::Quality { verb } => quality::run(verb, client, &mut output).await?,
        Noun::Completions { .. } => Done::Well,
    };
    output.flush()?;
    Ok(done)
}
