//! Small files that only their owner may read, written atomically and checked when read.
//!
//! A message file is the BLAKE3 hash of the message and the message. It is replaced as a whole: what can't be read was
//! damaged, not torn.

use std::{io::Write as _, path::Path};

use prost::Message;

use crate::error::{Error, Result};

/// The longest file that is read: far more than any cluster's view.
const FILE_BYTES_MAX: u64 = 256 << 20;
const HASH_BYTES: usize = 32;

/// Writes a file that only its owner may read: durable on return, and whole or not there.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    // What a crash left behind may have other permissions.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    std::fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    if let Some(dir) = path.parent() {
        isthmus_storage::format::sync_dir(dir)?;
    }
    Ok(())
}

/// Reads a file that only its owner may read; `None` when there is none.
///
/// # Errors
/// [`Error::Io`]; [`Error::Storage`] when others may read it.
pub(crate) fn read_private(path: &Path) -> Result<Option<Vec<u8>>> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("look at", path))?,
    };
    isthmus_storage::format::check_secret_file(path)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(damaged(path, "it is far too long"));
    }
    std::fs::read(path).map(Some).map_err(Error::io("read", path))
}

/// Writes a message as a private file.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_message(path: &Path, message: &impl Message) -> Result<()> {
    let message = message.encode_to_vec();
    write_private(path, &[blake3::hash(&message).as_bytes().as_slice(), &message].concat())
}

/// Reads what [`write_message`] wrote; `None` when there is no file.
///
/// # Errors
/// [`Error::Membership`] when it is damaged; [`Error::Io`]; [`Error::Storage`] when others may read it.
pub(crate) fn read_message<M: Message + Default>(path: &Path) -> Result<Option<M>> {
    let Some(bytes) = read_private(path)? else { return Ok(None) };
    let Some((hash, message)) = bytes.split_first_chunk::<HASH_BYTES>() else {
        return Err(damaged(path, "it is too short"));
    };
    if blake3::hash(message).as_bytes() != hash {
        return Err(damaged(path, "its checksum does not hold"));
    }
    M::decode(message).map(Some).map_err(|_| damaged(path, "it is not what it should be"))
}

fn damaged(path: &Path, what: &str) -> Error {
    let what = format!("{what}; the file is damaged: give the node a new id and an empty data directory");
    Error::Membership { path: path.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::internal::v1::NodeInfo;

    use super::*;

    #[test]
    fn a_message_is_read_back_and_a_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(read_message::<NodeInfo>(&path).unwrap(), None);
        let message = NodeInfo { node_id: 7, ..NodeInfo::default() };
        write_message(&path, &message).unwrap();
        write_message(&path, &message).unwrap();
        assert_eq!(read_message(&path).unwrap(), Some(message));
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&path, flipped).unwrap();
            assert!(matches!(read_message::<NodeInfo>(&path), Err(Error::Membership { .. })), "byte {at}");
        }
        std::fs::write(&path, &bytes[..20]).unwrap();
        assert!(read_message::<NodeInfo>(&path).is_err());
    }
}
