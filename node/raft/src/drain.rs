//! Carries raft-rs's `slog` records to `tracing`.
//!
//! raft-rs tells the story of elections at `info`, which is right for a cluster of one group and noise with
//! thirty: its `info` becomes our `debug`, and its `debug` our `trace`. Values are formatted only if the level is
//! on. No record of raft-rs's holds an entry's payload at those levels but `trace`, which prints messages whole;
//! those records are dropped.

use std::fmt::Write as _;

use slog::{Drain, KV as _, Level, Logger, Never, OwnedKVList, Record, o};
use tracing::enabled;

use crate::types::{GroupId, PeerId};

/// A logger for one replica.
pub(crate) fn logger(group: GroupId, peer: PeerId) -> Logger {
    Logger::root(ToTracing { group, peer }, o!())
}

struct ToTracing {
    group: GroupId,
    peer: PeerId,
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let on = match record.level() {
            Level::Critical | Level::Error => enabled!(target: "raft", tracing::Level::ERROR),
            Level::Warning => enabled!(target: "raft", tracing::Level::WARN),
            Level::Info => enabled!(target: "raft", tracing::Level::DEBUG),
            // Whole messages, payloads included: never.
            Level::Debug | Level::Trace => false,
        };
        if !on {
            return Ok(());
        }
        let mut fields = Fields(String::new());
        // A formatting error would only shorten a log line.
        let _ = record.kv().serialize(record, &mut fields);
        let (group, peer, message) = (self.group, self.peer, record.msg());
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", group, %peer, "{message}{}", fields.0);
            }
            Level::Warning => tracing::warn!(target: "raft", group, %peer, "{message}{}", fields.0),
            _ => tracing::debug!(target: "raft", group, %peer, "{message}{}", fields.0),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        !matches!(level, Level::Debug | Level::Trace)
    }
}

struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key}: {value}").map_err(slog::Error::from)
    }
}
