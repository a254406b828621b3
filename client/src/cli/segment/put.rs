//! What putting a definition waits for, and which of its texts a refusal is about.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::{Client, Error, cli::failure::Failure, proto};

/// After how long it is asked again whether new definitions are live: at first, and at most.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How long one such question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// Whether to wait for what was put.
#[derive(Debug, Args)]
pub struct Wait {
    /// Return when it is live everywhere, and exit 1 when it is not after so long [default: 10m]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10m"
    )]
    wait: Option<Duration>,
}

impl Wait {
    /// Waits until a version of the definitions is live, if that was asked for.
    ///
    /// # Errors
    /// It isn't after so long.
    pub async fn until_live(self, client: &Client, version: u64) -> Result<(), Failure> {
        let Some(wait) = self.wait else { return Ok(()) };
        let deadline = Instant::now() + wait;
        let (mut pause, mut answering) = (LOOK_MIN, None);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // No single question may use up all the time.
            match client.with_deadline(left.clamp(LOOK_MIN, QUESTION)).definitions(0).await {
                Ok(all) if all.live_version >= version => return Ok(()),
                Ok(all) => answering = Some(all.live_version),
                Err(error @ Error::Usage(_)) => return Err(error.into()),
                // A hub that can't say it now is asked again; only the deadline ends the wait.
                Err(_) => {}
            }
            if left.is_zero() {
                let so_far = match answering {
                    Some(0) => "none answers so far".to_owned(),
                    Some(before) => format!("version {before} answers so far"),
                    None => "the hub did not say which one answers".to_owned(),
                };
                return Err(Failure::Failed(format!(
                    "definitions version {version} is put, and not live everywhere after {}: {so_far}\n  it goes on \
                     being worked out; `isthmus segment list` says so until it is live",
                    humantime::format_duration(wait)
                )));
            }
            sleep(pause.min(left)).await;
            pause = LOOK_MAX.min(pause * 3 / 2);
        }
    }
}

/// The text of a computed trait that a refusal is about.
pub fn text_of<'t>(error: &Error, it: &'t proto::ComputedTrait) -> &'t str {
    let Error::Refused(refusal) = error else { return "" };
    match refusal.fields.first().map(|(field, _)| field.as_str()) {
        Some("computed_trait.filter") => &it.filter,
        Some("computed_trait.of") => &it.of,
        _ => "",
    }
}
