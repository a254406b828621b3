//! Configuration: four layers, one result, checked before anything starts.
//!
//! **What it promises.**
//! 1. What counts is, in this order: the command line, the environment (`ISTHMUS_NODE_ID`, of a part
//!    `ISTHMUS_STORAGE__RUN_CACHE`), the TOML file, the defaults.
//! 2. A key that nobody knows is refused wherever it stands, never passed over.
//! 3. Every value is checked for its bounds before a socket is bound or a file opened.
//! 4. A complaint names the key and the place where it was set: the file's line, the variable, the option.
//!
//! **How.** The layers are merged by `figment`; the file is parsed here too, since only the parser knows lines. Each
//! part of a node owns its options with their bounds (`options`); [`Config::validate`] asks them all.
//!
//! **What it leaves out.** Nothing is read again while the node runs. Whether a port is free or a directory another
//! cluster's shows when the node starts; those complaints are located by [`Loaded::locate`] too.

mod options;
mod query;
mod sources;

use std::path::PathBuf;

use figment::{Figment, providers::Serialized};
use serde::{Deserialize, Serialize};

pub use self::options::{
    ByteSize, FeedOptions, GrpcOptions, QuarantineOptions, RaftOptions, StorageOptions, TracesOptions,
};
pub use self::query::QueryOptions;
use self::sources::Sources;
use crate::{Error, Result, args::ServeArgs, logging};

/// The most shards of a new cluster.
pub const SHARDS_MAX: u32 = 4_096;
/// The most replicas of a shard.
pub const REPLICAS_MAX: u32 = 9;

/// All settings of `serve`. Keys of the file are the names of the fields; see [`ServeArgs`] for their meaning.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's id. Required.
    pub node_id: Option<u32>,
    /// `HOST:PORT`. Required.
    pub grpc_listen: Option<String>,
    /// `HOST:PORT`. Required.
    pub http_listen: Option<String>,
    /// `HOST:PORT`. Required.
    pub peer_listen: Option<String>,
    /// The host that others reach this node under.
    pub advertise_host: Option<String>,
    /// Where the data is kept. Required.
    pub data_dir: Option<PathBuf>,
    /// Whether a node without data makes a new cluster.
    pub bootstrap: bool,
    /// The nodes whose cluster a node without data joins.
    #[serde(deserialize_with = "options::one_or_many")]
    pub join: Vec<String>,
    /// Shards of a new cluster.
    pub shards: u32,
    /// Replicas of each shard.
    pub replicas: u32,
    /// The file of the identity key, for a new cluster.
    pub identity_key_file: Option<PathBuf>,
    /// Whether plaintext is allowed off loopback.
    pub insecure_plaintext: bool,
    /// The filter of the log.
    pub log_level: Option<String>,
    /// About storage and memory.
    pub storage: StorageOptions,
    /// About replication.
    pub raft: RaftOptions,
    /// About clients' calls.
    pub grpc: GrpcOptions,
    /// About what could not be applied.
    pub quarantine: QuarantineOptions,
    /// About the change feed.
    pub feed: FeedOptions,
    /// About queries in SQL.
    pub query: QueryOptions,
    /// About traces.
    pub traces: TracesOptions,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: None,
            grpc_listen: None,
            http_listen: None,
            peer_listen: None,
            advertise_host: None,
            data_dir: None,
            bootstrap: false,
            join: Vec::new(),
            shards: 16,
            replicas: 3,
            identity_key_file: None,
            insecure_plaintext: false,
            log_level: None,
            storage: StorageOptions::default(),
            raft: RaftOptions::default(),
            grpc: GrpcOptions::default(),
            quarantine: QuarantineOptions::default(),
            feed: FeedOptions::default(),
            query: QueryOptions::default(),
            traces: TracesOptions::default(),
        }
    }
}

/// Settings that were read, with where each was made.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    sources: Sources,
}

impl Loaded {
    /// Says where a setting was made, in an error that lacks it; other errors pass.
    pub fn locate(&self, error: Error) -> Error {
        self.sources.locate(error)
    }

    /// The first required setting that nobody made, by its option's name (`--node-id`).
    pub fn missing(&self) -> Option<&'static str> {
        let config = &self.config;
        let required = [
            (config.node_id.is_none(), "--node-id <ID>"),
            (config.grpc_listen.is_none(), "--grpc-listen <HOST:PORT>"),
            (config.http_listen.is_none(), "--http-listen <HOST:PORT>"),
            (config.peer_listen.is_none(), "--peer-listen <HOST:PORT>"),
            (config.data_dir.is_none(), "--data-dir <DIR>"),
        ];
        required.into_iter().find(|(missing, _)| *missing).map(|(_, name)| name)
    }
}

/// Reads and merges all layers, and checks the result.
///
/// # Errors
/// [`Error::Located`] for the first thing that is wrong.
pub fn load(args: &ServeArgs, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded> {
    let sources = Sources::read(args, env)?;
    let figment = Figment::from(Serialized::defaults(Config::default()))
        .merge(Serialized::defaults(&sources.file))
        .merge(Serialized::defaults(&sources.env))
        .merge(Serialized::defaults(args));
    let config: Config = figment.extract().map_err(|error| sources.refused(error))?;
    config.validate().map_err(|error| sources.locate(error))?;
    Ok(Loaded { config, sources })
}

impl Config {
    /// Checks all bounds.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first value that is out of bounds.
    pub fn validate(&self) -> Result<()> {
        if self.node_id == Some(0) {
            return Err(Error::setting("node_id", "must be 1 or more"));
        }
        if self.shards == 0 || self.shards > SHARDS_MAX {
            return Err(Error::setting("shards", format!("must be 1 to {SHARDS_MAX}")));
        }
        check_replicas(self.replicas)?;
        if self.bootstrap && !self.join.is_empty() {
            let problem = "a node joins a cluster or makes one: give bootstrap or join, not both";
            return Err(Error::setting("bootstrap", problem));
        }
        let empty = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if empty(&self.advertise_host) {
            return Err(Error::setting("advertise_host", "must not be empty"));
        }
        for peer in &self.join {
            check_peer(peer)?;
        }
        if let Some(filter) = &self.log_level {
            logging::parse(filter)?;
        }
        self.storage.validate()?;
        self.raft.validate()?;
        self.grpc.validate()?;
        self.quarantine.validate()?;
        self.feed.validate()?;
        self.query.validate()?;
        self.traces.validate()
    }
}

/// Checks a number of replicas: odd, since an even number survives no more failures than the odd one below it.
///
/// # Errors
/// [`Error::Setting`] of `replicas`.
pub fn check_replicas(replicas: u32) -> Result<()> {
    if replicas == 0 || replicas > REPLICAS_MAX || replicas.is_multiple_of(2) {
        let problem = format!("must be odd, 1 to {REPLICAS_MAX}: an even number survives no more failures");
        return Err(Error::setting("replicas", problem));
    }
    Ok(())
}

fn check_peer(peer: &str) -> Result<()> {
    let bare = peer.strip_prefix("http://").unwrap_or(peer);
    let port = bare.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Ok(());
    }
    Err(Error::setting("join", "each peer is HOST:PORT, the --peer-listen of a running node"))
}

#[cfg(test)]
mod tests;
