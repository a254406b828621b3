//! Membership: how a node comes to belong to a cluster, and what it keeps of that on disk.
//!
//! **What it promises.** A node belongs to one cluster, under one id, for as long as its directory lives. Each way in
//! may be interrupted at any point and tried again with the same command: the answer is the same cluster.
//!
//! **How.** There are three ways, and all end in a [`Membership`]: [`Membership::found`] makes a cluster of one node,
//! [`Membership::join`] asks a member to be let in, [`Membership::resume`] reads what an earlier start left. The
//! directory holds three files, readable by their owner only:
//!
//! | file | what | written |
//! | --- | --- | --- |
//! | `node.key` | the node's X25519 secret key | first of all |
//! | `membership` | cluster, node, the sealed identity key; for a founder also the command that makes the cluster | once |
//! | `view` | the cluster as the node knew it last | with every change |
//!
//! A founder may crash before its command is committed: it is in the file, so the next start proposes it again.
//!
//! **What it leaves out.** Proof that a joining node may join: whoever reaches the peers' port may, until nodes
//! identify themselves by TLS certificates.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use isthmus_domain::{IdentityKey, NodeId};
use isthmus_proto::internal::v1::{ClusterView, InitCommand, JoinRequest, NodeInfo, SourceRecord};
use tokio_util::sync::CancellationToken;

use crate::{
    channels::Channels,
    error::{Error, Result},
    feed::VIEW_FILE,
    files,
    keys::KeyHash,
    seal::{NodeKey, fill_random, seal},
    state::rules,
    view::View,
};

const KEY_FILE: &str = "node.key";
const MEMBERSHIP_FILE: &str = "membership";
/// Ingest without a write key belongs to this source.
pub const DEFAULT_SOURCE: &str = "default";
/// The source of a development cluster.
pub const DEV_SOURCE: &str = "dev";
/// The write key of [`DEV_SOURCE`].
pub const DEV_WRITE_KEY: &str = "dev-write-key";
/// The currency of revenue that names none, unless a source says otherwise.
pub const DEFAULT_CURRENCY: &str = "USD";
/// How long one member is given to let a node in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the next round of asking.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// Which node this is and how others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// Its id, 1 or more, never used before in the cluster.
    pub node: NodeId,
    /// `host:port` for clients' gRPC.
    pub grpc_address: String,
    /// `host:port` for HTTP.
    pub http_address: String,
    /// `host:port` for other nodes.
    pub peer_address: String,
    /// Version of its software, with the commit.
    pub version: String,
}

impl NodeOptions {
    fn info(&self, key: &NodeKey) -> Result<NodeInfo> {
        let info = NodeInfo {
            node_id: self.node.0,
            grpc_address: self.grpc_address.clone(),
            http_address: self.http_address.clone(),
            peer_address: self.peer_address.clone(),
            public_key: Bytes::copy_from_slice(&key.public()),
            version: self.version.clone(),
            leaving: false,
        };
        rules::node(&info).map_err(|refusal| Error::refused(refusal.code, refusal.message))?;
        Ok(info)
    }
}

/// How a new cluster should be.
#[derive(Clone, Debug)]
pub struct FoundOptions {
    /// How many shards, 1 to 4,096. Fixed for now.
    pub shards: u32,
    /// How many replicas a shard should have when there are nodes enough: odd, 1 to 9.
    pub replicas: u32,
    /// The cluster's identity key; made when absent.
    pub identity_key: Option<IdentityKey>,
    /// Whether there should be a source [`DEV_SOURCE`] whose write key everybody knows.
    pub dev_source: bool,
}

/// The membership file. Stored: tags never change their meaning.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "bytes", tag = "1")]
    cluster_id: Bytes,
    #[prost(uint32, tag = "2")]
    node_id: u32,
    #[prost(bytes = "bytes", tag = "3")]
    sealed_identity_key: Bytes,
    #[prost(message, optional, tag = "4")]
    founding: Option<InitCommand>,
}

/// A node's place in a cluster.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The cluster's id.
    pub cluster_id: [u8; 16],
    /// Who this node is and how others reach it.
    pub node: NodeInfo,
    /// The cluster's identity key.
    pub identity_key: IdentityKey,
    pub(crate) dir: PathBuf,
    /// The cluster as last known; of version 0 when nothing is known yet.
    pub(crate) view: Arc<View>,
    /// What makes the cluster, if this node founded it.
    pub(crate) founding: Option<InitCommand>,
}

impl Membership {
    /// Makes a cluster of this node; it comes into being when the [`Coordinator`](crate::Coordinator) starts.
    ///
    /// # Errors
    /// [`Error::Refused`] for options out of bounds; [`Error::Io`].
    pub fn found(dir: &Path, node: &NodeOptions, options: FoundOptions) -> Result<Self> {
        if let Some(earlier) = Self::resume(dir, node)? {
            return Ok(earlier);
        }
        let key = NodeKey::load_or_create(&prepared(dir)?.join(KEY_FILE))?;
        let info = node.info(&key)?;
        let mut cluster_id = [0; 16];
        fill_random(&mut cluster_id)?;
        let identity_key = match options.identity_key {
            Some(key) => key,
            None => {
                let mut bytes = [0; 32];
                fill_random(&mut bytes)?;
                IdentityKey::new(bytes)
            }
        };
        let sealed_identity_key: Bytes = seal(&key.public(), identity_key.as_bytes())?.into();
        let init = InitCommand {
            cluster_id: Bytes::copy_from_slice(&cluster_id),
            node: Some(info.clone()),
            shards: options.shards,
            replicas: options.replicas,
            sealed_identity_key: sealed_identity_key.clone(),
            sources: first_sources(options.dev_source),
        };
        crate::state::try_init(&init).map_err(|refusal| Error::refused(refusal.code, refusal.message))?;
        let stored = Stored {
            cluster_id: init.cluster_id.clone(),
            node_id: info.node_id,
            sealed_identity_key,
            founding: Some(init.clone()),
        };
        files::write_message(&dir.join(MEMBERSHIP_FILE), &stored)?;
        Ok(Self {
            cluster_id,
            node: info,
            identity_key,
            dir: dir.to_owned(),
            view: Arc::default(),
            founding: Some(init),
        })
    }

    /// Asks members (`peers`: addresses for nodes, `host:port`) to be let in, one after the other and again, until one
    /// answers or `stop` is cancelled.
    ///
    /// # Errors
    /// [`Error::Refused`] is final: above all `NODE_ID_TAKEN`. [`Error::Stopped`]; [`Error::Io`].
    pub async fn join(
        dir: &Path,
        node: &NodeOptions,
        peers: &[String],
        stop: &CancellationToken,
    ) -> Result<Self> {
        if let Some(earlier) = Self::resume(dir, node)? {
            return Ok(earlier);
        }
        let key = NodeKey::load_or_create(&prepared(dir)?.join(KEY_FILE))?;
        let info = node.info(&key)?;
        let channels = Channels::new();
        let request = JoinRequest { node: Some(info.clone()) };
        let welcome = loop {
            let mut answer = None;
            for peer in peers {
                let asked = channels.join(peer, request.clone(), JOIN_TIMEOUT);
                let asked = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Err(Error::Stopped),
                    asked = asked => asked,
                };
                match asked {
                    Ok(welcome) => {
                        answer = Some(welcome);
                        break;
                    }
                    Err(error @ Error::Refused { .. }) => return Err(error),
                    Err(error) => tracing::info!(peer, %error, "could not join by this node; trying on"),
                }
            }
            if let Some(welcome) = answer {
                break welcome;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::Stopped),
                () = tokio::time::sleep(JOIN_PAUSE) => {}
            }
        };
        let view = View::from_wire(welcome.view.ok_or_else(|| Error::malformed("welcome"))?)?;
        if view.cluster_id.as_slice() != welcome.cluster_id || !view.has_node(node.node) {
            return Err(Error::malformed("welcome"));
        }
        let identity_key = key.open_identity_key(&welcome.sealed_identity_key)?;
        let stored = Stored {
            cluster_id: welcome.cluster_id,
            node_id: info.node_id,
            sealed_identity_key: welcome.sealed_identity_key,
            founding: None,
        };
        files::write_message(&dir.join(VIEW_FILE), view.wire())?;
        files::write_message(&dir.join(MEMBERSHIP_FILE), &stored)?;
        Ok(Self {
            cluster_id: view.cluster_id,
            node: info,
            identity_key,
            dir: dir.to_owned(),
            view: Arc::new(view),
            founding: None,
        })
    }

    /// The cluster as the node whose membership is kept in `dir` knew it last, without taking its place; `None`: it
    /// belongs to no cluster yet, or knows nothing of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Membership`] for a damaged file.
    pub fn last_view(dir: &Path) -> Result<Option<View>> {
        files::read_message::<ClusterView>(&dir.join(VIEW_FILE))?.map(View::from_wire).transpose()
    }

    /// What an earlier start left in the directory; `None`: the node belongs to no cluster yet.
    ///
    /// # Errors
    /// [`Error::Membership`] when it belongs to another node id, or files are missing or damaged.
    pub fn resume(dir: &Path, node: &NodeOptions) -> Result<Option<Self>> {
        let path = dir.join(MEMBERSHIP_FILE);
        let Some(stored) = files::read_message::<Stored>(&path)? else { return Ok(None) };
        let wrong = |what: String| Error::Membership { path: path.clone(), what };
        if stored.node_id != node.node.0 {
            return Err(wrong(format!("it is that of node {}, not of node {}", stored.node_id, node.node)));
        }
        let cluster_id = stored.cluster_id.as_ref().try_into().map_err(|_| wrong("no cluster id".into()))?;
        let key =
            NodeKey::load(&dir.join(KEY_FILE))?.ok_or_else(|| wrong("the node's key is missing".into()))?;
        let identity_key = key.open_identity_key(&stored.sealed_identity_key)?;
        let view = match files::read_message::<ClusterView>(&dir.join(VIEW_FILE))? {
            Some(wire) => View::from_wire(wire)?,
            None => View::default(),
        };
        if view.version > 0 && view.cluster_id != cluster_id {
            return Err(wrong("the view beside it is of another cluster".into()));
        }
        if view.version == 0 && stored.founding.is_none() {
            return Err(wrong("the view beside it is missing".into()));
        }
        Ok(Some(Self {
            cluster_id,
            node: node.info(&key)?,
            identity_key,
            dir: dir.to_owned(),
            view: Arc::new(view),
            founding: stored.founding,
        }))
    }

    /// The cluster's id as 32 hexadecimal digits.
    pub fn cluster_id_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.cluster_id))
    }
}

fn prepared(dir: &Path) -> Result<&Path> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    Ok(dir)
}

fn first_sources(dev: bool) -> Vec<SourceRecord> {
    let built_in = |name: &str| SourceRecord {
        name: name.to_owned(),
        default_currency: DEFAULT_CURRENCY.to_owned(),
        built_in: true,
        ..SourceRecord::default()
    };
    let mut sources = vec![built_in(DEFAULT_SOURCE)];
    if dev {
        let key_hashes = vec![KeyHash::of(DEV_WRITE_KEY).to_bytes()];
        sources.push(SourceRecord { key_hashes, ..built_in(DEV_SOURCE) });
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeOptions {
        NodeOptions {
            node: NodeId(id),
            grpc_address: "127.0.0.1:1".into(),
            http_address: "127.0.0.1:2".into(),
            peer_address: "127.0.0.1:3".into(),
            version: "test".into(),
        }
    }

    fn options() -> FoundOptions {
        FoundOptions { shards: 4, replicas: 3, identity_key: None, dev_source: true }
    }

    #[test]
    fn founding_again_gives_the_same_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Membership::resume(dir.path(), &node(1)).unwrap().is_none());
        let first = Membership::found(dir.path(), &node(1), options()).unwrap();
        let again = Membership::found(dir.path(), &node(1), options()).unwrap();
        assert_eq!((first.cluster_id, &first.identity_key), (again.cluster_id, &again.identity_key));
        assert_eq!(first.founding, again.founding);
        assert!(matches!(Membership::resume(dir.path(), &node(2)), Err(Error::Membership { .. })));
    }

    #[test]
    fn options_out_of_bounds_are_refused_and_leave_no_membership() {
        let dir = tempfile::tempdir().unwrap();
        for (shards, replicas) in [(0, 3), (4097, 3), (4, 2), (4, 0), (4, 11)] {
            let bad = FoundOptions { shards, replicas, ..options() };
            assert!(matches!(Membership::found(dir.path(), &node(1), bad), Err(Error::Refused { .. })));
        }
        assert!(matches!(Membership::found(dir.path(), &node(0), options()), Err(Error::Refused { .. })));
        assert!(Membership::resume(dir.path(), &node(1)).unwrap().is_none());
    }

    #[test]
    fn a_given_identity_key_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let key = IdentityKey::new([3; 32]);
        let given = FoundOptions { identity_key: Some(key.clone()), ..options() };
        Membership::found(dir.path(), &node(1), given).unwrap();
        assert_eq!(Membership::resume(dir.path(), &node(1)).unwrap().unwrap().identity_key, key);
    }

    #[test]
    fn a_lost_key_is_told_apart_from_no_membership() {
        let dir = tempfile::tempdir().unwrap();
        Membership::found(dir.path(), &node(1), options()).unwrap();
        std::fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        assert!(matches!(Membership::resume(dir.path(), &node(1)), Err(Error::Membership { .. })));
    }
}
