//! What a node says of itself: `tracing`, to standard error; standard output is for results.
//!
//! Text on a terminal, one JSON object a line elsewhere. The filter is `--log-level`, else `ISTHMUS_LOG`, else what the
//! subcommand gives: a level (`info`), or directives as in `tracing-subscriber` (`info,isthmus_raft=debug`). No event
//! and no span holds a customer's data or a secret.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt::SubscriberBuilder};

use crate::{Error, Result};

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

/// Starts logging with the first filter that is given, or else `default`. A second call changes nothing: a process
/// logs in one way.
///
/// # Errors
/// [`Error::Setting`] of `log_level`.
pub fn start(log_level: Option<&str>, default: &str) -> Result<()> {
    let env = std::env::var(ENV).ok().filter(|text| !text.is_empty());
    let filter = parse(log_level.or(env.as_deref()).unwrap_or(default))?;
    let terminal = std::io::stderr().is_terminal();
    let builder: SubscriberBuilder<_, _, EnvFilter, _> =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // Fails only when logging has been started before, by a test or by whoever embeds nodes.
    let _started_before =
        if terminal { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    Ok(())
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
