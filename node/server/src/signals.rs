//! Being told to stop: SIGTERM or SIGINT asks for a graceful stop, a second one ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// The exit code of a process that was told twice: 128 and the number of SIGINT, as shells have it.
const TOLD_TWICE: i32 = 130;

/// A token that is cancelled at the first signal.
///
/// # Errors
/// When signals can't be listened for.
pub fn stop_token() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("listen for SIGINT"))?;
    let stop = CancellationToken::new();
    let listener = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process")]
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        listener.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(TOLD_TWICE);
    });
    Ok(stop)
}
