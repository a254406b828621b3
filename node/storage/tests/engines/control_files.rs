//! sled's files: what a crash leaves, and rows that changed under us.

use std::fs;

use bytes::Bytes;
use isthmus_storage::Error;
use isthmus_storage::control::{ControlStore, ControlWrite, KeyRange, Order, SledControl, rows};

use crate::control::SMALL;

#[test]
fn what_an_interrupted_start_has_left_does_not_stop_the_next() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = SledControl::open(dir.path(), SMALL).unwrap();
        store.apply(&[ControlWrite::put("a", "1")]).unwrap();
        store.flush_durable().unwrap();
    }
    fs::write(dir.path().join("snap.00000000000000FF.generating"), b"half a snapsh").unwrap();
    // sled itself does not get over it.
    assert!(sled::Config::new().path(dir.path()).open().is_err());
    let store = SledControl::open(dir.path(), SMALL).unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("1")));
}

#[test]
fn a_row_that_changed_or_strayed_is_found_and_its_place_named_without_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let key =
        isthmus_storage::control::keys::table_key(isthmus_storage::StoreId(3), 9, b"someone@example.org");
    let stray = isthmus_storage::control::keys::table_key(isthmus_storage::StoreId(3), 9, b"stray");
    {
        let store = SledControl::open(dir.path(), SMALL).unwrap();
        store.apply(&[ControlWrite::put(key.clone(), "value"), ControlWrite::put("sound", "1")]).unwrap();
        store.flush_durable().unwrap();
    }
    {
        let db = sled::Config::new().path(dir.path()).open().unwrap();
        let mut stored = db.get(&key).unwrap().unwrap().to_vec();
        db.insert(&stray, stored.clone()).unwrap();
        let last = stored.len() - 1;
        stored[last] ^= 1;
        db.insert(&key, stored).unwrap();
        db.insert("short", vec![1, 2, 3]).unwrap();
        db.flush().unwrap();
    }
    let store = SledControl::open(dir.path(), SMALL).unwrap();
    for damaged in [key.as_slice(), &stray, b"short"] {
        match store.get(damaged) {
            Err(Error::Corrupt { place, what }) => {
                assert!(!format!("{place}{what}").contains("example"), "{place}")
            }
            other => panic!("{other:?}"),
        }
    }
    let place = store.get(&key).unwrap_err().to_string();
    assert!(place.contains("store 3, table 9"), "{place}");
    assert!(rows(&store, &KeyRange::all(), Order::Ascending).any(|row| row.is_err()));
    assert_eq!(store.get(b"sound").unwrap(), Some(Bytes::from("1")));
}

#[test]
fn files_that_sled_cannot_read_are_an_error_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledControl::open(dir.path(), SMALL).unwrap());
    fs::write(dir.path().join("conf"), b"neither this nor that").unwrap();
    assert!(SledControl::open(dir.path(), SMALL).is_err());
}
