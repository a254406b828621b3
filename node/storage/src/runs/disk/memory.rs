//! Files in memory, with a power switch.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, DiskWriter};
use crate::{Error, Result};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Names>>);

/// Names and what they stand for: as a running process sees them, and as they are after a power cut.
#[derive(Default)]
struct Names {
    live: BTreeMap<PathBuf, Arc<Contents>>,
    durable: BTreeMap<PathBuf, Arc<Contents>>,
    directories: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct Contents(RwLock<Data>);

#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    /// So many of them are durable.
    synced: usize,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: what was not synced is gone. Returns the disk as it is found afterwards; whoever still holds this
    /// one writes to nowhere.
    pub fn after_power_cut(&self) -> Self {
        let names = self.0.lock();
        let mut files = BTreeMap::new();
        for (path, contents) in &names.durable {
            let data = contents.0.read();
            let bytes = data.bytes[..data.synced].to_vec();
            files.insert(path.clone(), Arc::new(Contents(RwLock::new(Data { synced: bytes.len(), bytes }))));
        }
        let names = Names { live: files.clone(), durable: files, directories: names.directories.clone() };
        Self(Arc::new(Mutex::new(names)))
    }

    /// Changes a byte of a file: damage.
    pub fn flip(&self, path: &Path, offset: u64) -> Result<()> {
        let contents = self.contents("damage", path)?;
        let mut data = contents.0.write();
        match data.bytes.get_mut(offset as usize) {
            Some(byte) => *byte ^= 0x40,
            None => return Err(Error::NotFound(format!("offset {offset} of {}", path.display()))),
        }
        Ok(())
    }

    fn contents(&self, action: &'static str, path: &Path) -> Result<Arc<Contents>> {
        let contents = self.0.lock().live.get(path).cloned();
        contents.ok_or_else(|| Error::io(action, path)(io::ErrorKind::NotFound.into()))
    }
}

struct Writer(Arc<Contents>);

impl DiskWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        fail::fail_point!("storage::disk::write", |_| Err(io::Error::from(io::ErrorKind::StorageFull)));
        self.0.0.write().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        fail::fail_point!("storage::disk::sync", |_| Err(io::Error::other("injected: the sync failed")));
        let mut data = self.0.0.write();
        data.synced = data.bytes.len();
        Ok(())
    }
}

impl DiskFile for Contents {
    fn bytes(&self) -> u64 {
        self.0.read().bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let data = self.0.read();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        buffer.copy_from_slice(data.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskWriter>> {
        let contents = Arc::new(Contents::default());
        let mut names = self.0.lock();
        if names.live.contains_key(path) {
            return Err(Error::io("create", path)(io::ErrorKind::AlreadyExists.into()));
        }
        names.live.insert(path.to_path_buf(), Arc::clone(&contents));
        Ok(Box::new(Writer(contents)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        Ok(self.contents("open", path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let contents = self.contents("rename", from)?;
        let mut names = self.0.lock();
        names.live.remove(from);
        names.live.insert(to.to_path_buf(), contents);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let contents = self.contents("link", from)?;
        let mut names = self.0.lock();
        if names.live.contains_key(to) {
            return Err(Error::io("link", to)(io::ErrorKind::AlreadyExists.into()));
        }
        names.live.insert(to.to_path_buf(), contents);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.0.lock().live.remove(path);
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.0.lock().directories.insert(dir.to_path_buf());
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        let mut names = self.0.lock();
        names.live.retain(|path, _| !path.starts_with(dir));
        names.directories.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut names = self.0.lock();
        let names = &mut *names;
        names.durable.retain(|path, _| path.parent() != Some(dir));
        for (path, contents) in names.live.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            names.durable.insert(path.clone(), Arc::clone(contents));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let names = self.0.lock();
        let found = names.live.keys().chain(&names.directories).filter(|path| path.parent() == Some(dir));
        let found: BTreeSet<_> =
            found.filter_map(|path| path.file_name()?.to_str().map(String::from)).collect();
        Ok(found.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_all, write_all};
    use super::*;

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let disk = MemoryDisk::new();
        let dir = Path::new("/d");
        write_all(&disk, &dir.join("kept"), b"whole").unwrap();
        disk.sync_dir(dir).unwrap();
        write_all(&disk, &dir.join("nameless"), b"synced, but its name is not").unwrap();
        disk.create(&dir.join("empty")).unwrap().write(b"not synced").unwrap();
        disk.remove(&dir.join("kept")).unwrap();
        let found = disk.after_power_cut();
        assert_eq!(found.list(dir).unwrap(), ["kept"], "a removal that was not synced comes back");
        assert_eq!(read_all(&found, &dir.join("kept"), 100).unwrap(), b"whole");
    }
}
