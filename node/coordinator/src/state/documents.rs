//! Configuration documents: by kind and name, each with the versions that are kept.

use std::collections::BTreeMap;

use isthmus_proto::internal::v1::DocumentRecord;

/// Kind (the number of `DocumentKind`) and name of a document.
pub type DocumentKey = (i32, String);

/// The versions in force, by kind and name.
pub fn in_force(
    documents: &BTreeMap<DocumentKey, Vec<DocumentRecord>>,
) -> impl Iterator<Item = &DocumentRecord> {
    documents.values().filter_map(|versions| versions.last())
}

/// Bytes of all kept versions.
pub(super) fn bytes(documents: &BTreeMap<DocumentKey, Vec<DocumentRecord>>) -> usize {
    documents.values().flatten().map(|document| document.content.len()).sum()
}

/// Lets the oldest version go that is not in force; false when there is none.
pub(super) fn forget_oldest(documents: &mut BTreeMap<DocumentKey, Vec<DocumentRecord>>) -> bool {
    let kept = documents.values_mut().filter(|versions| versions.len() > 1);
    // Of versions put at one time the first by kind and name: the same on all replicas.
    let Some(versions) = kept.min_by_key(|versions| versions.first().map(|oldest| oldest.created_at_micros))
    else {
        return false;
    };
    versions.remove(0);
    true
}
