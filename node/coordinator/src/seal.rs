//! Sealing: how a secret of the cluster reaches one node and no other.
//!
//! **What it promises.** What is sealed to a node's public key can be opened with its secret key alone, and a change
//! of one bit is noticed. The secret key lies in the node's data directory, readable by its owner only, and leaves it
//! never. The cluster's identity key travels and is stored sealed; members hold it opened in memory, since they hash
//! identifiers with it, so any member can seal it for a node that joins.
//!
//! **How.** libsodium's sealed boxes (`crypto_box_seal`): X25519 with an ephemeral key, XSalsa20-Poly1305. Source:
//! <https://doc.libsodium.org/public-key_cryptography/sealed_boxes>.
//!
//! **What it leaves out.** A sealed box doesn't say who sealed it. Who may join is decided by who can reach the
//! nodes' port, until nodes prove themselves by TLS certificates.

use std::{fmt, path::Path};

use crypto_box::{PublicKey, SecretKey, aead::OsRng};
use isthmus_domain::IdentityKey;

use crate::{error::Error, files};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// A node's key pair. `Debug` shows the public half only.
#[derive(Clone)]
pub struct NodeKey(SecretKey);

impl NodeKey {
    /// Reads the key from its file, or makes one there, readable by its owner only and durable on return.
    ///
    /// # Errors
    /// [`Error::Secret`] when the file doesn't hold a key; [`Error::Storage`] when others may read it;
    /// [`Error::Io`].
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let mut bytes = [0; KEY_BYTES];
        fill_random(&mut bytes)?;
        files::write_private(path, &bytes)?;
        Ok(Self(SecretKey::from_bytes(bytes)))
    }

    /// Reads the key from its file; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::load_or_create`].
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = files::read_private(path)? else { return Ok(None) };
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| Error::Secret {
            path: path.to_owned(),
            what: "it does not hold a key of 32 bytes",
        })?;
        Ok(Some(Self(SecretKey::from_bytes(bytes))))
    }

    /// The half that others seal with.
    pub fn public(&self) -> [u8; KEY_BYTES] {
        *self.0.public_key().as_bytes()
    }

    /// Opens what was sealed to this node.
    ///
    /// # Errors
    /// [`Error::Unsealable`]: it was sealed to another node, or damaged.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.unseal(sealed).map_err(|_| Error::Unsealable)
    }

    /// Opens the cluster's identity key.
    ///
    /// # Errors
    /// [`Error::Unsealable`]: it was sealed to another node, or damaged.
    pub fn open_identity_key(&self, sealed: &[u8]) -> Result<IdentityKey, Error> {
        let bytes: [u8; KEY_BYTES] = self.open(sealed)?.try_into().map_err(|_| Error::Unsealable)?;
        Ok(IdentityKey::new(bytes))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// Seals a secret to a node's public key.
///
/// # Errors
/// [`Error::Malformed`] when `public` is not a key.
pub fn seal(public: &[u8], secret: &[u8]) -> Result<Vec<u8>, Error> {
    let public = PublicKey::from_slice(public).map_err(|_| Error::malformed("a node's public key"))?;
    public.seal(&mut OsRng, secret).map_err(|_| Error::malformed("a node's public key"))
}

/// Random bytes from the operating system.
///
/// # Errors
/// [`Error::NoRandomness`].
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::NoRandomness(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_to_a_node_is_opened_by_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mine = NodeKey::load_or_create(&dir.path().join("mine")).unwrap();
        let other = NodeKey::load_or_create(&dir.path().join("other")).unwrap();
        let mut sealed = seal(&mine.public(), &[7; 32]).unwrap();
        assert_eq!(mine.open_identity_key(&sealed).unwrap(), IdentityKey::new([7; 32]));
        assert!(matches!(other.open(&sealed), Err(Error::Unsealable)));
        *sealed.last_mut().unwrap() ^= 1;
        assert!(matches!(mine.open(&sealed), Err(Error::Unsealable)));
        assert!(matches!(mine.open(&[]), Err(Error::Unsealable)));
        assert!(seal(&[1; 31], b"secret").is_err());
    }

    #[test]
    fn a_key_is_made_once_and_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let made = NodeKey::load_or_create(&path).unwrap();
        assert_eq!(NodeKey::load_or_create(&path).unwrap().public(), made.public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&format!("{:?}", made.0.to_bytes())));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(NodeKey::load_or_create(&path), Err(Error::Storage(_))));
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        files::write_private(&path, b"short").unwrap();
        assert!(matches!(NodeKey::load_or_create(&path), Err(Error::Secret { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }
}
