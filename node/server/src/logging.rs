//! What a node says of itself: `tracing`, to standard error; standard output is for results.
//!
//! Text on a terminal, one JSON object a line elsewhere. The filter is `--log-level`, else `ISTHMUS_LOG`, else what the
//! subcommand gives: a level (`info`), or directives as in `tracing-subscriber` (`info,isthmus_raft=debug`). No event
//! and no span holds a customer's data or a secret. What is written within a call has the call's request id and trace
//! ([`crate::traces`]).

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{Error, Result, traces::Traces};

/// The environment's name of the filter.
pub const ENV: &str = "ISTHMUS_LOG";

/// Reads a filter.
///
/// # Errors
/// [`Error::Setting`] of `log_level`.
pub fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        let problem = format!("{error}: send a level (error, warn, info, debug, trace) or directives");
        Error::setting("log_level", problem)
    })
}

/// Starts logging with the first filter that is given, or else `default`, and recording, if there are traces. A second
/// call changes nothing: a process logs in one way.
///
/// # Errors
/// [`Error::Setting`] of `log_level`.
pub fn start(log_level: Option<&str>, default: &str, traces: Option<&Traces>) -> Result<()> {
    let env = std::env::var(ENV).ok().filter(|text| !text.is_empty());
    let filter = parse(log_level.or(env.as_deref()).unwrap_or(default))?;
    // Without traces one filter for all: what it leaves out costs nothing then.
    let (all, lines) = match traces {
        None => (Some(filter), None),
        Some(_) => (None, Some(filter)),
    };
    let started = registry().with(all).with(lines_layer().with_filter(lines));
    // Fails only when logging has been started before, by a test or by whoever embeds nodes.
    let _started_before = match traces {
        None => started.try_init(),
        Some(traces) => started.with(traces.layer()).try_init(),
    };
    Ok(())
}

/// Text on a terminal, JSON elsewhere.
fn lines_layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    if terminal { lines.boxed() } else { lines.json().flatten_event(true).boxed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters_and_nonsense_is_not() {
        for good in ["info", "warn,isthmus_raft=debug", "ERROR"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert!(matches!(parse("isthmus=loud"), Err(Error::Setting { key, .. }) if key == "log_level"));
    }
}
