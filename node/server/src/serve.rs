//! `isthmus-node serve`: one node of a cluster, until it is told to stop.

use std::{path::Path, sync::Arc, time::Duration};

use clap::CommandFactory as _;
use isthmus_coordinator::FoundOptions;
use isthmus_domain::IdentityKey;
use isthmus_shard::SystemClock;
use isthmus_storage::format::check_secret_file;
use tokio::time::Instant;

use crate::{
    Error, Node, NodeOptions, Origin, Result,
    args::Cli,
    config::{Config, Loaded},
    signals,
};

/// After this long without being able to serve, the node says so, and goes on trying.
const READY_SOON: Duration = Duration::from_secs(10);

/// A usage error for a required option that nobody gave.
pub fn missing(option: &str) -> clap::Error {
    let mut command = Cli::command();
    command.build();
    let message = format!("{option} is missing (or its ISTHMUS_… variable, or a file with --config)");
    match command.find_subcommand_mut("serve") {
        Some(serve) => serve.error(clap::error::ErrorKind::MissingRequiredArgument, message),
        None => command.error(clap::error::ErrorKind::MissingRequiredArgument, message),
    }
}

/// Runs the node.
///
/// # Errors
/// [`Error::Located`] for settings that can't be used; others for what failed.
pub async fn run(loaded: Loaded) -> Result<()> {
    let stop = signals::stop_token()?;
    let options = options(&loaded.config).map_err(|error| loaded.locate(error))?;
    let node_id = options.node_id;
    let node = match Node::start(options, &stop).await {
        Ok(node) => node,
        // Told to stop while it waited to join.
        Err(_) if stop.is_cancelled() => return Ok(()),
        Err(error) => return Err(loaded.locate(error)),
    };
    let waiting = async {
        while let Err(error) = node.ready(Instant::now() + READY_SOON).await {
            tracing::warn!(%error, "still waiting");
        }
        println!("isthmus-node {node_id} is ready: clients connect to http://{}", node.addresses().grpc);
        node.removed().await;
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = waiting => tracing::warn!(node = node_id, "this node was removed from its cluster and stops"),
    }
    node.stop().await;
    Ok(())
}

/// A node's options from the settings.
///
/// # Errors
/// [`Error::Setting`] for a setting that is missing or can't be used.
pub fn options(config: &Config) -> Result<NodeOptions> {
    fn required<T: Clone>(key: &str, value: &Option<T>) -> Result<T> {
        value.clone().ok_or_else(|| Error::setting(key, "is missing"))
    }
    let identity_key = config.identity_key_file.as_deref().map(identity_key).transpose()?;
    let origin = if config.bootstrap {
        let (shards, replicas) = (config.shards, config.replicas);
        Origin::Found(FoundOptions { shards, replicas, identity_key, dev_source: false })
    } else if config.join.is_empty() {
        Origin::Resume
    } else {
        Origin::Join(config.join.clone())
    };
    Ok(NodeOptions {
        node_id: required("node_id", &config.node_id)?,
        grpc_listen: required("grpc_listen", &config.grpc_listen)?,
        http_listen: required("http_listen", &config.http_listen)?,
        peer_listen: required("peer_listen", &config.peer_listen)?,
        advertise_host: config.advertise_host.clone(),
        data_dir: required("data_dir", &config.data_dir)?,
        origin,
        insecure_plaintext: config.insecure_plaintext,
        storage: config.storage.clone(),
        raft: config.raft.clone(),
        grpc: config.grpc.clone(),
        quarantine: config.quarantine.clone(),
        feed: config.feed.clone(),
        query: config.query.clone(),
        clock: Arc::new(SystemClock),
    })
}

/// Reads the identity key: 32 bytes, or 64 hexadecimal digits.
fn identity_key(path: &Path) -> Result<IdentityKey> {
    let wrong = |problem: String| Error::setting("identity_key_file", problem);
    check_secret_file(path).map_err(|error| wrong(error.to_string()))?;
    let content =
        std::fs::read(path).map_err(|error| wrong(format!("{} can't be read: {error}", path.display())))?;
    if let Ok(key) = <[u8; 32]>::try_from(content.as_slice()) {
        return Ok(IdentityKey::new(key));
    }
    let digits = std::str::from_utf8(&content).map(str::trim).unwrap_or_default();
    let mut key = [0; 32];
    let fits = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    for (index, byte) in key.iter_mut().enumerate() {
        let pair = digits.get(2 * index..2 * index + 2).filter(|_| fits);
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(|| {
            wrong(format!("{} must hold 32 bytes, or 64 hexadecimal digits", path.display()))
        })?;
    }
    Ok(IdentityKey::new(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_key_is_read_in_both_its_forms() {
        let digits = format!("{}\n", "0f".repeat(32));
        for content in [[0x0f; 32].as_slice(), digits.as_bytes()] {
            assert_eq!(identity_key(file(content, 0o600).path()).unwrap(), IdentityKey::new([0x0f; 32]));
        }
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        for (content, mode, why) in [
            ([7; 32].as_slice(), 0o640, "others"),
            (b"short", 0o600, "32 bytes"),
            ("zz".repeat(32).as_bytes(), 0o600, "32 bytes"),
        ] {
            let error = identity_key(file(content, mode).path()).unwrap_err().to_string();
            assert!(error.starts_with("identity_key_file: ") && error.contains(why), "{error}");
        }
    }
}
