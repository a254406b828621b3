//! `isthmus-node`: one node of Isthmus, from its command line to its ports.
//!
//! **What it promises.** [`run`] is the whole program: it reads settings, starts what was asked for and ends with an
//! exit code that says how it went: 0 done, 1 failed, 2 a command line that makes no sense, 78 settings that can't be
//! used (with the key and where it was set; nothing was started then). [`Node`] is a node for whoever embeds one:
//! `dev`, the demonstration, and tests.
//!
//! **How.** This crate is where everything meets and the only one that knows all parts: `config` reads settings,
//! `node` puts the parts together, `grpc` and `http` translate, `intake` takes events in. It decides nothing that the parts could decide
//! themselves.
//!
//! **What it leaves out.** TLS and access control; queries.

mod activity;
mod args;
pub mod config;
pub mod demo;
pub mod dev;
mod error;
mod fault;
mod flight;
pub mod fuzzing;
mod grpc;
mod http;
mod intake;
mod logging;
mod metrics;
mod node;
mod query;
mod request_id;
mod serve;
mod signals;
mod traces;
mod version;

use std::{ffi::OsString, process::ExitCode};

use self::{
    args::{Cli, Command},
    traces::Traces,
};
pub use self::{
    args::{DevArgs, ServeArgs},
    error::{Error, Result},
    node::{Addresses, Node, NodeOptions, Origin},
    version::VERSION,
};

/// `EX_USAGE` as clap and most programs have it.
const USAGE: u8 = 2;

/// The program: takes a command line, the program's name first, and runs until it is done or told to stop.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output changes nothing.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        Err(Failure::Error(error)) => {
            eprintln!("isthmus-node: {error}");
            error.exit_code()
        }
    }
}

/// How the program may end other than well.
enum Failure {
    Usage(Box<clap::Error>),
    Error(Box<Error>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => {
            let loaded = config::load(&args, std::env::vars())?;
            if args.config.is_none()
                && let Some(missing) = loaded.missing()
            {
                return Err(Failure::Usage(Box::new(serve::missing(missing))));
            }
            let log_level = cli.log_level.or_else(|| loaded.config.log_level.clone());
            let runtime = runtime()?;
            let traces = {
                let _within = runtime.enter();
                Traces::start(&loaded.config.traces, loaded.config.node_id)
            };
            let traces = traces.map_err(|error| loaded.locate(error))?;
            logging::start(log_level.as_deref(), "info", traces.as_ref())?;
            let served = runtime.block_on(serve::run(loaded));
            // While the runtime still carries the connection to the collector.
            if let Some(traces) = traces {
                traces.stop();
            }
            Ok(served?)
        }
        Command::Dev(args) => {
            logging::start(cli.log_level.as_deref(), "warn", None)?;
            Ok(runtime()?.block_on(dev::run(args))?)
        }
        Command::Demo(args) => {
            logging::start(cli.log_level.as_deref(), "warn", None)?;
            Ok(runtime()?.block_on(demo::run(args.keep))?)
        }
    }
}

/// One runtime for all: a thread for each core, two at least, so that one busy task doesn't hold up heartbeats.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(2))
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime"))
}
