//! Bounds of what commands may hold. Replicated behaviour: a rule is never tightened for stored commands.

use isthmus_proto::internal::v1::{DocumentKind, DocumentRecord, NodeInfo, SourceRecord};

use super::refusal::{Code, Refusal};

/// The most nodes of a cluster.
pub const NODES_MAX: usize = 1_000;
/// The most node ids that are remembered after their nodes were removed.
pub const RETIRED_MAX: usize = 65_536;
/// The most shards.
pub const SHARDS_MAX: u32 = 4_096;
/// The most replicas of a shard.
pub const REPLICAS_MAX: u32 = 9;
/// The most peers that a placement lists: all old ones and all new ones of a move.
pub const PLACED_MAX: usize = 2 * REPLICAS_MAX as usize;
/// The most sources.
pub const SOURCES_MAX: usize = 4_096;
/// The most namespaces in a source's primary order.
pub const PRIMARY_ORDER_MAX: usize = 32;
/// The most characters of a name or a namespace.
pub const NAME_CHARS_MAX: usize = 64;
/// The most bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// The most bytes of a software version.
pub const VERSION_BYTES_MAX: usize = 128;
/// The most bytes of a sealed identity key (80 for 32 bytes).
pub const SEALED_BYTES_MAX: usize = 256;
/// The most characters of a write key's prefix.
pub const KEY_PREFIX_CHARS_MAX: usize = 16;
/// The most configuration documents.
pub const DOCUMENTS_MAX: usize = 2_000;
/// The most bytes of a document.
pub const DOCUMENT_BYTES_MAX: usize = 512 << 10;
/// The most bytes of all kept versions of all documents: every node has them in its view.
pub const DOCUMENTS_BYTES_MAX: usize = 8 << 20;
/// The most kept versions of a document.
pub const DOCUMENT_VERSIONS_MAX: usize = 32;
/// The most bytes of a document's name.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 300;

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Code::Invalid, message))
}

/// Checks a node's description.
///
/// # Errors
/// [`Code::Invalid`], naming the field.
pub fn node(node: &NodeInfo) -> Result<[u8; 32], Refusal> {
    if node.node_id == 0 {
        return invalid("a node's id is 1 or more");
    }
    let addresses = [&node.grpc_address, &node.http_address, &node.peer_address];
    if addresses.iter().any(|address| address.is_empty() || address.len() > ADDRESS_BYTES_MAX) {
        return invalid(format!("a node's addresses have 1 to {ADDRESS_BYTES_MAX} bytes"));
    }
    if node.version.len() > VERSION_BYTES_MAX {
        return invalid(format!("a node's software version has at most {VERSION_BYTES_MAX} bytes"));
    }
    match <[u8; 32]>::try_from(node.public_key.as_ref()) {
        Ok(key) => Ok(key),
        Err(_) => invalid("a node's public key has 32 bytes"),
    }
}

/// Checks a sealed identity key's length: nobody but the node can look inside.
///
/// # Errors
/// [`Code::Invalid`].
pub fn sealed_key(sealed: &[u8]) -> Result<(), Refusal> {
    if sealed.is_empty() || sealed.len() > SEALED_BYTES_MAX {
        return invalid("the sealed identity key is missing or too long");
    }
    Ok(())
}

/// Checks a source's name: 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`.
///
/// # Errors
/// [`Code::Invalid`].
pub fn source_name(name: &str) -> Result<(), Refusal> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(good) {
        return invalid(
            "a source's name has 1 to 64 characters: lower-case letters, digits, '-', '_' and '.'",
        );
    }
    Ok(())
}

/// Checks a write key's hash and prefix.
///
/// # Errors
/// [`Code::Invalid`].
pub fn key(hash: &[u8], prefix: &str) -> Result<(), Refusal> {
    if hash.len() != 32 {
        return invalid("the hash of a write key has 32 bytes");
    }
    if prefix.len() > KEY_PREFIX_CHARS_MAX {
        return invalid(format!("the prefix of a write key has at most {KEY_PREFIX_CHARS_MAX} bytes"));
    }
    Ok(())
}

/// Checks a source as it is to be stored.
///
/// # Errors
/// [`Code::Invalid`], naming the field.
pub fn source(source: &SourceRecord) -> Result<(), Refusal> {
    source_name(&source.name)?;
    for hash in &source.key_hashes {
        key(hash, &source.key_prefix)?;
    }
    if source.key_hashes.len() > 1 {
        return invalid("a source begins with at most one write key");
    }
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let namespace = |n: &String| !n.is_empty() && n.len() <= NAME_CHARS_MAX && n.bytes().all(good);
    let order = &source.primary_order;
    if order.len() > PRIMARY_ORDER_MAX || !order.iter().all(namespace) {
        return invalid(format!(
            "primary_order has at most {PRIMARY_ORDER_MAX} namespaces of 1 to 64 characters: a-z, 0-9, '_'"
        ));
    }
    if order.iter().enumerate().any(|(i, n)| order[..i].contains(n)) {
        return invalid("primary_order names a namespace twice");
    }
    let currency = source.default_currency.as_bytes();
    if currency.len() != 3 || !currency.iter().all(u8::is_ascii_uppercase) {
        return invalid("default_currency has three capital letters, as in ISO 4217");
    }
    Ok(())
}

/// Checks a configuration document's bounds. What it says is for those to check who know its kind.
///
/// # Errors
/// [`Code::Invalid`], naming the field.
pub fn document(document: &DocumentRecord) -> Result<(), Refusal> {
    let named = match document.kind() {
        DocumentKind::Unspecified => return invalid("the document is of no kind that this version knows"),
        DocumentKind::IdentityRules
        | DocumentKind::TraitRules
        | DocumentKind::Matching
        | DocumentKind::Segments => false,
        DocumentKind::Schema => true,
    };
    if named == document.name.is_empty() || document.name.len() > DOCUMENT_NAME_BYTES_MAX {
        return invalid(format!(
            "a schema's name has 1 to {DOCUMENT_NAME_BYTES_MAX} bytes, and rules have no name"
        ));
    }
    if document.content.is_empty() || document.content.len() > DOCUMENT_BYTES_MAX {
        return invalid(format!("a document has 1 to {DOCUMENT_BYTES_MAX} bytes"));
    }
    if [&document.policy, &document.compatibility].iter().any(|text| text.len() > NAME_CHARS_MAX) {
        return invalid("policy and compatibility are single words");
    }
    Ok(())
}
