//! # The data directory: whose it is, in which format, and who uses it
//!
//! A node owns one directory:
//!
//! ```text
//! format.toml   versions of the parts, cluster and node once they are known
//! lock          locked while a process uses the directory
//! log/          the Raft log
//! control/      control rows
//! runs/         sorted runs and redo files
//! ```
//!
//! ## What it promises
//!
//! 1. One process at a time: the lock belongs to the process and goes with it, however it ends.
//! 2. Nothing is read before the versions are known to be readable. A directory written by a newer program is refused
//!    whole, as is one that has data but no format file.
//! 3. A directory never changes its owner: identity is set once, and another one is refused.
//! 4. The format file is replaced atomically and durably ([`write_file_durably`]).
//!
//! ## What it leaves out
//!
//! Migrations: there is one version of each part so far. The lock keeps honest processes apart; a network file system
//! may not honour it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The version of the directory's layout.
pub const FORMAT_VERSION: u32 = 1;
/// The version of what is in the Raft log.
pub const LOG_VERSION: u32 = 1;
/// The version of control rows.
pub const CONTROL_VERSION: u32 = 1;
/// The version of runs and redo files.
pub const RUNS_VERSION: u32 = 1;

const FORMAT_FILE: &str = "format.toml";
const LOCK_FILE: &str = "lock";
const PARTS: [&str; 3] = ["log", "control", "runs"];
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The cluster's id, made at bootstrap.
    pub cluster: String,
    /// The node's number in the cluster.
    pub node: u32,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cluster {}, node {}", self.cluster, self.node)
    }
}

/// The format file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    format_version: u32,
    parts: Parts,
    identity: Option<Identity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    log: u32,
    control: u32,
    runs: u32,
}

/// Only what tells whether the rest can be understood.
#[derive(Deserialize)]
struct Versions {
    format_version: u32,
    #[serde(default)]
    parts: std::collections::BTreeMap<String, u32>,
}

/// Free and total space of the file system that a directory is on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
}

/// A locked, checked data directory. The lock is held as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    format: Mutex<Format>,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Locks and checks a directory; creates it when missing.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process uses it, [`Error::NewerFormat`] when a newer program wrote it,
    /// [`Error::Corrupt`] when the format file is damaged, or missing beside data.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let lock = lock(path)?;
        let file = path.join(FORMAT_FILE);
        let format = match fs::read_to_string(&file) {
            Ok(text) => parse(&file, &text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => create(path, &file)?,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(Error::corrupt(file.display().to_string(), "it is not text"));
            }
            Err(error) => return Err(Error::io("read", &file)(error)),
        };
        Ok(Self { path: path.to_path_buf(), format: Mutex::new(format), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log lives.
    pub fn log_dir(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the control rows live.
    pub fn control_dir(&self) -> PathBuf {
        self.path.join("control")
    }

    /// Where runs and redo files live.
    pub fn runs_dir(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Whose data it holds; `None` until it was set.
    pub fn identity(&self) -> Option<Identity> {
        self.format.lock().identity.clone()
    }

    /// Makes the directory this node's, durably; does nothing when it already is.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] when it belongs to another cluster or node.
    pub fn set_identity(&self, identity: &Identity) -> Result<()> {
        let mut format = self.format.lock();
        match &format.identity {
            Some(found) if found == identity => Ok(()),
            Some(found) => Err(Error::OtherCluster {
                path: self.path.clone(),
                found: found.to_string(),
                expected: identity.to_string(),
            }),
            None => {
                let next = Format { identity: Some(identity.clone()), ..format.clone() };
                save(&self.path.join(FORMAT_FILE), &next)?;
                *format = next;
                Ok(())
            }
        }
    }

    /// The space left on the file system, for whoever refuses writes before the disk is full.
    pub fn space(&self) -> Result<Space> {
        let stats = fs4::statvfs(&self.path).map_err(Error::io("measure", &self.path))?;
        Ok(Space { free_bytes: stats.available_space(), total_bytes: stats.total_space() })
    }
}

fn lock(path: &Path) -> Result<File> {
    let name = path.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(Error::io("open", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &name)(error)),
    }
}

fn create(path: &Path, file: &Path) -> Result<Format> {
    if let Some(part) = PARTS.iter().find(|part| path.join(part).exists()) {
        return Err(Error::corrupt(file.display().to_string(), format!("it is missing beside {part}/")));
    }
    let parts = Parts { log: LOG_VERSION, control: CONTROL_VERSION, runs: RUNS_VERSION };
    let format = Format { format_version: FORMAT_VERSION, parts, identity: None };
    save(file, &format)?;
    // The directory itself may be new.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    Ok(format)
}

fn parse(file: &Path, text: &str) -> Result<Format> {
    let corrupt = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Error::corrupt(format!("{}, line {line}", file.display()), error.message().to_owned())
    };
    let versions: Versions = toml::from_str(text).map_err(corrupt)?;
    let known = [("log", LOG_VERSION), ("control", CONTROL_VERSION), ("runs", RUNS_VERSION)];
    let newer = |part: &str, found: u32, known: u32| Error::NewerFormat {
        path: file.to_path_buf(),
        part: part.to_owned(),
        found,
        known,
    };
    if versions.format_version > FORMAT_VERSION {
        return Err(newer("the directory", versions.format_version, FORMAT_VERSION));
    }
    for (part, known) in known {
        if let Some(found) = versions.parts.get(part).filter(|found| **found > known) {
            return Err(newer(part, *found, known));
        }
    }
    toml::from_str(text).map_err(corrupt)
}

fn save(file: &Path, format: &Format) -> Result<()> {
    let text = toml::to_string(format).map_err(|error| Error::Engine {
        engine: "toml",
        action: "write the format file",
        reason: error.to_string(),
    })?;
    write_file_durably(file, text.as_bytes())
}

/// Replaces a file: after a crash it holds the old content or the new, and the new once this has returned.
///
/// Writes `.<name>.tmp` beside it, syncs, renames, and syncs the directory. Fail point `storage::format::renaming`.
pub fn write_file_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Refused(format!("{} names no file", path.display())));
    };
    let temporary = dir.join(format!(".{}.tmp", name.to_string_lossy()));
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    drop(file);
    fail::fail_point!("storage::format::renaming", |_| Err(Error::Refused("injected".into())));
    fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    sync_dir(dir)
}

/// Makes what was created, renamed or deleted in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

/// Refuses a secret file that others than its owner may use: its mode must be 0600 or stricter.
pub fn check_secret_file(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).map_err(Error::io("look at", path))?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(Error::Exposed { path: path.to_path_buf(), mode });
    }
    Ok(())
}
