//! The file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, DiskWriter};
use crate::{Error, Result};

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct Reader {
    file: File,
    bytes: u64,
}

impl DiskFile for Reader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

struct Writer(File);

impl DiskWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        fail::fail_point!("storage::disk::write", |_| Err(io::Error::from(io::ErrorKind::StorageFull)));
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        fail::fail_point!("storage::disk::sync", |_| Err(io::Error::other("injected: the sync failed")));
        self.0.sync_data()
    }
}

/// Not being there is what the caller wanted.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskWriter>> {
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(Error::io("create", path))?;
        Ok(Box::new(Writer(file)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let bytes = file.metadata().map_err(Error::io("look at", path))?.len();
        Ok(Arc::new(Reader { file, bytes }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(Error::io("rename", from))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        fs::hard_link(from, to).map_err(Error::io("link", from))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        absent_is_fine(fs::remove_file(path)).map_err(Error::io("remove", path))
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir(parent)?;
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create the directory", dir)(error));
                }
                _ => self.sync_dir(parent)?,
            }
            return Ok(());
        }
        fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        absent_is_fine(fs::remove_dir_all(dir)).map_err(Error::io("remove the directory", dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync the directory", dir))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::io("list", dir))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", dir))?;
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }
}
