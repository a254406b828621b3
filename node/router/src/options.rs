//! What can be set about the router, and within which bounds.

use std::time::Duration;

use crate::error::Error;
use crate::exchange::ExchangeOptions;
use crate::pursuit::Patience;

/// How the router behaves. The defaults suit elections of about a second.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Where attempt ids and jitter begin. It has to differ between any two starts of any nodes, or a new attempt
    /// could be taken for the retry of an old one; the default is random. Tests set it.
    pub seed: u64,
    /// How long a try is waited for before another replica is asked, while the call's deadline has not passed. Doubles
    /// with every try of the same call that was not answered, so that a slow leader isn't asked ever more.
    pub attempt_timeout: Duration,
    /// The first wait before another try.
    pub wait_min: Duration,
    /// The longest wait before another try.
    pub wait_max: Duration,
    /// How often an overloaded shard is asked again before the caller is told.
    pub overloads_max: u32,
    /// Bytes of events on their way at any time; what comes on top is refused as overload.
    pub ingest_bytes_max: usize,
    /// About the streams between nodes.
    pub exchange: ExchangeOptions,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            seed: rand::random(),
            attempt_timeout: Duration::from_secs(1),
            wait_min: Duration::from_millis(5),
            wait_max: Duration::from_millis(100),
            overloads_max: 2,
            ingest_bytes_max: 128 << 20,
            exchange: ExchangeOptions::default(),
        }
    }
}

impl RouterOptions {
    /// Checks the bounds; the message names the option.
    pub fn validate(&self) -> Result<(), Error> {
        let exchange = &self.exchange;
        let checks = [
            (self.attempt_timeout >= Duration::from_millis(10), "attempt_timeout must be 10 ms or more"),
            (self.wait_min >= Duration::from_millis(1), "wait_min must be 1 ms or more"),
            (self.wait_max >= self.wait_min, "wait_max must not be below wait_min"),
            (self.ingest_bytes_max >= 8 << 20, "ingest_bytes_max must be 8 MiB or more"),
            (self.ingest_bytes_max >> 10 <= u32::MAX as usize, "ingest_bytes_max must be below 4 TiB"),
            (exchange.waiting_calls_max >= 1, "exchange.waiting_calls_max must be 1 or more"),
            (exchange.running_calls_max >= 1, "exchange.running_calls_max must be 1 or more"),
            (exchange.frame_calls_max >= 1, "exchange.frame_calls_max must be 1 or more"),
            (exchange.message_bytes_max >= 8 << 20, "exchange.message_bytes_max must be 8 MiB or more"),
            (
                exchange.bytes_max >= exchange.message_bytes_max,
                "exchange.bytes_max must not be below exchange.message_bytes_max",
            ),
            (exchange.bytes_max >> 10 <= u32::MAX as usize, "exchange.bytes_max must be below 4 TiB"),
            (
                exchange.reconnect_max >= exchange.reconnect_min,
                "exchange.reconnect_max must not be below its min",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::Invalid { message: (*message).to_owned() }),
            None => Ok(()),
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience { wait_min: self.wait_min, wait_max: self.wait_max, overloads_max: self.overloads_max }
    }
}
