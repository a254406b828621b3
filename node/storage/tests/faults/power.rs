//! A file system for raft-engine that knows what would be left after a power cut: of each file what it held at its
//! last sync.

use std::collections::BTreeMap;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};

type Inner = <DefaultFileSystem as FileSystem>::Handle;

#[derive(Default)]
struct Disk {
    durable: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    broken: AtomicBool,
}

#[derive(Default)]
pub struct PowerCutFiles {
    disk: Arc<Disk>,
}

pub struct File {
    path: PathBuf,
    inner: Arc<Inner>,
    disk: Arc<Disk>,
}

impl PowerCutFiles {
    /// From now on each sync fails, or works again.
    pub fn break_syncs(&self, broken: bool) {
        self.disk.broken.store(broken, Ordering::SeqCst);
    }

    /// Fills a fresh directory with what a power cut would leave now.
    pub fn after_power_cut(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in self.disk.durable.lock().iter() {
            std::fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        dir
    }

    fn file(&self, path: &Path, inner: Inner) -> File {
        File { path: path.to_path_buf(), inner: Arc::new(inner), disk: self.disk.clone() }
    }
}

impl FileSystem for PowerCutFiles {
    type Handle = File;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<File> {
        Ok(self.file(path.as_ref(), DefaultFileSystem.create(path.as_ref())?))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<File> {
        Ok(self.file(path.as_ref(), DefaultFileSystem.open(path.as_ref(), permission)?))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.disk.durable.lock().remove(path.as_ref());
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, file: Arc<File>) -> Result<Self::Reader> {
        DefaultFileSystem.new_reader(file.inner.clone())
    }

    fn new_writer(&self, file: Arc<File>) -> Result<Self::Writer> {
        DefaultFileSystem.new_writer(file.inner.clone())
    }
}

impl Handle for File {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.inner.truncate(offset)
    }

    fn file_size(&self) -> Result<usize> {
        self.inner.file_size()
    }

    fn sync(&self) -> Result<()> {
        if self.disk.broken.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("injected: input/output error"));
        }
        self.inner.sync()?;
        let bytes = std::fs::read(&self.path)?;
        self.disk.durable.lock().insert(self.path.clone(), bytes);
        Ok(())
    }
}
