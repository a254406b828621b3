//! The options of each part, with their bounds.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

/// A number of bytes, written `64MiB`, `1GiB`, `512KiB` or as a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bits, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= bits {
                return write!(f, "{}{unit}", self.0 >> bits);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(u64),
            Text(String),
        }
        let given = Given::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a size is written as 64MiB, 1GiB or a number of bytes"))?;
        match given {
            Given::Number(bytes) => Ok(Self(bytes)),
            Given::Text(text) => Self::parse(&text)
                .ok_or_else(|| de::Error::custom("a size is written as 64MiB, 1GiB or a number of bytes")),
        }
    }
}

/// A list, or one text with commas in it, as it comes from the environment.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::Many(list) => list,
        Given::One(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    })
}

pub(super) fn within<T: PartialOrd + fmt::Display>(key: &str, value: T, low: T, high: T) -> Result<()> {
    if value < low || value > high {
        return Err(Error::setting(key, format!("must be {low} to {high}")));
    }
    Ok(())
}

pub(super) fn within_time(key: &str, value: Duration, low: Duration, high: Duration) -> Result<()> {
    if value < low || value > high {
        let (low, high) = (humantime::format_duration(low), humantime::format_duration(high));
        return Err(Error::setting(key, format!("must be {low} to {high}")));
    }
    Ok(())
}

/// `[storage]`: what a node may keep in memory, and how much log a restart may have to replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageOptions {
    /// sled's page cache: control rows.
    pub control_cache: ByteSize,
    /// The cache of decoded pages of runs, of all shards together.
    pub run_cache: ByteSize,
    /// Facets as they lie in runs, of all shards together.
    pub facet_cache: ByteSize,
    /// Decoded rows that are not written out yet, of all shards together. Twice as much at worst.
    pub memtables: ByteSize,
    /// Log that a restart may have to replay.
    pub replay: ByteSize,
    /// Free space of the file system below which this node takes no more events: what was taken needs room to be
    /// written out.
    pub disk_reserve: ByteSize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            control_cache: ByteSize::mib(32),
            run_cache: ByteSize::mib(64),
            facet_cache: ByteSize::mib(64),
            memtables: ByteSize::mib(128),
            replay: ByteSize::mib(256),
            disk_reserve: ByteSize::mib(256),
        }
    }
}

impl StorageOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        let low = ByteSize::mib(1);
        let high = ByteSize(1 << 40);
        within("storage.disk_reserve", self.disk_reserve, low, ByteSize(1 << 60))?;
        within("storage.control_cache", self.control_cache, low, high)?;
        within("storage.run_cache", self.run_cache, low, high)?;
        within("storage.facet_cache", self.facet_cache, low, high)?;
        within("storage.memtables", self.memtables, low, high)?;
        within("storage.replay", self.replay, low, high)
    }
}

/// `[quarantine]`: what could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuarantineOptions {
    /// How long an entry is kept, resolved or not. All nodes of a cluster should have the same.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for QuarantineOptions {
    /// 90 days.
    fn default() -> Self {
        Self { retention: Duration::from_secs(90 * 24 * 60 * 60) }
    }
}

impl QuarantineOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        let high = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        within_time("quarantine.retention", self.retention, Duration::from_secs(1), high)
    }
}

/// `[feed]`: the change feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedOptions {
    /// How long changes are kept to be watched from a cursor. All nodes of a cluster should have the same.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Bytes on this node's disk that changes may take, of all shards together: when there are more, the oldest go
    /// whatever their age. A change takes 64, as the event that it names is kept anyway.
    pub bytes: ByteSize,
    /// Streams of changes that clients may have open at this node.
    pub watchers: u32,
}

impl Default for FeedOptions {
    /// 7 days, 4 GiB, 64 streams.
    fn default() -> Self {
        Self { retention: Duration::from_secs(7 * 24 * 60 * 60), bytes: ByteSize::mib(4_096), watchers: 64 }
    }
}

impl FeedOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        let high = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        within_time("feed.retention", self.retention, Duration::from_secs(1), high)?;
        within("feed.bytes", self.bytes, ByteSize::mib(1), ByteSize(1 << 50))?;
        within("feed.watchers", self.watchers, 1, 100_000)
    }
}

/// `[raft]`: the rhythm of elections. All nodes of a cluster should have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftOptions {
    /// Length of a tick.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before an election; one to two times that are drawn.
    pub election_ticks: u32,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self { tick: Duration::from_millis(50), heartbeat_ticks: 2, election_ticks: 10 }
    }
}

impl RaftOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        within_time("raft.tick", self.tick, Duration::from_millis(5), Duration::from_secs(10))?;
        within("raft.heartbeat_ticks", self.heartbeat_ticks, 1, 1_000)?;
        within("raft.election_ticks", self.election_ticks, 2, 10_000)?;
        if self.election_ticks < 2 * self.heartbeat_ticks {
            return Err(Error::setting("raft.election_ticks", "must be twice raft.heartbeat_ticks at least"));
        }
        Ok(())
    }
}

/// `[traces]`: traces of calls, for a collector that takes OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesOptions {
    /// Where the collector listens: `http://HOST:PORT`. Absent: nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The part of calls without a `traceparent` of their own that is recorded, from 0 to 1. With one, that decides.
    pub sample: f64,
}

impl Default for TracesOptions {
    /// Off; when on, one call of a hundred.
    fn default() -> Self {
        Self { endpoint: None, sample: 0.01 }
    }
}

impl TracesOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(Error::setting("traces.sample", "must be 0 to 1"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let uri = endpoint.parse::<http::Uri>().ok();
        let plain = |uri: &http::Uri| {
            uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|host| !host.is_empty())
                && matches!(uri.path(), "" | "/")
                && uri.query().is_none()
        };
        if !uri.as_ref().is_some_and(plain) {
            let problem = "must be http://HOST:PORT of a collector that takes OTLP over gRPC; for TLS let one run \
                           beside the node";
            return Err(Error::setting("traces.endpoint", problem));
        }
        Ok(())
    }
}

/// `[grpc]`: clients' calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcOptions {
    /// The deadline of a call that comes without one.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Calls under way on one connection.
    pub streams_max: u32,
    /// Ingest streams that clients may have open at this node.
    pub ingest_streams: u32,
    /// Items that may be on their way in each of them.
    pub ingest_stream_items: u32,
    /// Bytes of items that may be on their way in each of them.
    pub ingest_stream_bytes: ByteSize,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            streams_max: 1_024,
            ingest_streams: 256,
            ingest_stream_items: 4_096,
            ingest_stream_bytes: ByteSize::mib(2),
        }
    }
}

impl GrpcOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        within_time("grpc.deadline", self.deadline, Duration::from_millis(10), Duration::from_secs(300))?;
        within("grpc.streams_max", self.streams_max, 1, 65_536)?;
        within("grpc.ingest_streams", self.ingest_streams, 1, 65_536)?;
        within("grpc.ingest_stream_items", self.ingest_stream_items, 1, 1_000_000)?;
        // The largest item has to fit.
        within("grpc.ingest_stream_bytes", self.ingest_stream_bytes, ByteSize::mib(1), ByteSize::mib(64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes) in
            [("64MiB", Some(64 << 20)), ("1 GiB", Some(1 << 30)), ("12", Some(12)), ("3KiB", Some(3072))]
        {
            assert_eq!(ByteSize::parse(text).map(|size| size.0), bytes, "{text}");
        }
        for bad in ["", "MiB", "64MB", "-1", "99999999999GiB"] {
            assert_eq!(ByteSize::parse(bad), None, "{bad}");
        }
        for size in [ByteSize(0), ByteSize(1000), ByteSize::mib(64), ByteSize(1 << 30)] {
            assert_eq!(ByteSize::parse(&size.to_string()), Some(size));
        }
    }
}
