//! Configuration documents: versions, conflicts, bounds, rows.

use super::*;
use crate::state::rules::{DOCUMENT_BYTES_MAX, DOCUMENT_VERSIONS_MAX, DOCUMENTS_BYTES_MAX};

fn put_document(kind: DocumentKind, name: &str, content: &[u8], based_on_version: u64) -> Command {
    let document = DocumentRecord {
        kind: kind.into(),
        name: name.into(),
        content: content.to_vec().into(),
        policy: "reject".into(),
        ..DocumentRecord::default()
    };
    Command::PutDocument(PutDocumentCommand { document: Some(document), based_on_version })
}

fn versions(state: &MetaState, kind: DocumentKind, name: &str) -> Vec<u64> {
    let kept = state.documents.get(&(kind.into(), name.to_owned()));
    kept.into_iter().flatten().map(|document| document.version).collect()
}

#[test]
fn a_document_is_put_on_the_version_that_it_was_made_from() {
    let mut state = made();
    let schema =
        |content: &[u8], based_on| put_document(DocumentKind::Schema, "track:Seen", content, based_on);
    let put = run(&mut state, schema(b"one", 0)).document.unwrap();
    assert_eq!((put.version, put.created_at_micros, put.content.len()), (1, 77, 0));
    assert_eq!(run(&mut state, schema(b"two", 0)).refused, "STALE_VIEW");
    assert_eq!(run(&mut state, schema(b"two", 2)).refused, "STALE_VIEW");
    assert_eq!(run(&mut state, schema(b"two", 1)).document.unwrap().version, 2);
    let before = state.version;
    assert_eq!(run(&mut state, schema(b"two", 1)).document.unwrap().version, 2, "sent again");
    assert_eq!(run(&mut state, schema(b"two", 2)).document.unwrap().version, 2, "nothing new");
    assert_eq!(state.version, before);
    assert_eq!(run(&mut state, schema(b"one", 2)).document.unwrap().version, 3, "back to what was");
    assert_eq!(versions(&state, DocumentKind::Schema, "track:Seen"), [1, 2, 3]);
}

#[test]
fn identity_rules_alone_raise_the_version_of_the_shards_configuration() {
    let mut state = made();
    let before = state.config_version;
    run(&mut state, put_document(DocumentKind::Schema, "page", b"true", 0));
    run(&mut state, put_document(DocumentKind::TraitRules, "", b"{}", 0));
    assert_eq!(state.config_version, before);
    run(&mut state, put_document(DocumentKind::IdentityRules, "", b"rules", 0));
    assert_eq!(state.config_version, before + 1);
}

#[test]
fn bad_documents_are_refused() {
    let mut state = made();
    let large = vec![b'x'; DOCUMENT_BYTES_MAX + 1];
    for command in [
        put_document(DocumentKind::Unspecified, "", b"x", 0),
        put_document(DocumentKind::Schema, "", b"x", 0),
        put_document(DocumentKind::TraitRules, "named", b"x", 0),
        put_document(DocumentKind::Schema, &"x".repeat(301), b"x", 0),
        put_document(DocumentKind::Schema, "page", b"", 0),
        put_document(DocumentKind::Schema, "page", &large, 0),
        Command::PutDocument(PutDocumentCommand { document: None, based_on_version: 0 }),
    ] {
        assert_eq!(run(&mut state, command).refused, "INVALID_ARGUMENT");
    }
}

#[test]
fn old_versions_go_and_those_in_force_stay() {
    let mut state = made();
    let kept = DOCUMENT_VERSIONS_MAX as u64;
    for version in 0..kept + 3 {
        run(&mut state, put_document(DocumentKind::TraitRules, "", &version.to_be_bytes(), version));
    }
    assert_eq!(versions(&state, DocumentKind::TraitRules, ""), (4..=kept + 3).collect::<Vec<_>>());
    // Large documents drive old versions of others out, but no document in force.
    let large = |byte: u8| vec![byte; DOCUMENT_BYTES_MAX];
    let count = DOCUMENTS_BYTES_MAX / DOCUMENT_BYTES_MAX;
    for n in 1..count {
        assert_eq!(
            run(&mut state, put_document(DocumentKind::Schema, &format!("track:{n}"), &large(1), 0)).refused,
            ""
        );
    }
    assert_eq!(run(&mut state, put_document(DocumentKind::Schema, "track:1", &large(2), 1)).refused, "");
    assert_eq!(versions(&state, DocumentKind::TraitRules, "").last(), Some(&(kept + 3)));
    let full = run(&mut state, put_document(DocumentKind::Schema, "track:more", &large(1), 0));
    assert_eq!(full.refused, "TOO_MANY", "{}", full.message);
    assert!(
        state.documents.values().flatten().map(|d| d.content.len()).sum::<usize>() <= DOCUMENTS_BYTES_MAX
    );
    assert_eq!(run(&mut state, put_document(DocumentKind::Schema, "page", b"true", 0)).refused, "");
}

#[test]
fn documents_of_any_size_come_back_from_their_rows() {
    let mut state = made();
    let content = |bytes: usize| (0..bytes).map(|n| (n % 251) as u8).collect::<Vec<u8>>();
    for (n, bytes) in [1, 48 << 10, (48 << 10) + 1, DOCUMENT_BYTES_MAX].into_iter().enumerate() {
        run(&mut state, put_document(DocumentKind::Schema, &format!("track:{n} ä"), &content(bytes), 0));
        run(&mut state, put_document(DocumentKind::Schema, &format!("track:{n} ä"), b"next", 1));
    }
    let rows = state.to_rows();
    assert!(rows.iter().all(|(key, value)| key.len() <= 1024 && value.len() <= 64 << 10));
    let back = |rows: &std::collections::BTreeMap<Vec<u8>, Bytes>| {
        MetaState::from_rows(rows.iter().map(|(key, value)| (key.as_slice(), value.clone())))
    };
    assert_eq!(back(&rows).unwrap(), state);
    let mut torn = rows;
    let piece = torn.keys().find(|key| key[0] == 0x07).unwrap().clone();
    torn.remove(&piece);
    assert!(back(&torn).is_err(), "a document that lacks a piece is not taken");
}
