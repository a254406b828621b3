//! The control store without its sync, and a file whose replacement is interrupted.

use std::fs;

use bytes::Bytes;
use fail::FailScenario;
use isthmus_storage::control::{ControlStore, ControlWrite, MemoryControl};
use isthmus_storage::format::write_file_durably;

#[test]
fn flushed_rows_survive_and_without_the_flush_they_do_not() {
    let scenario = FailScenario::setup();
    let store = MemoryControl::new();
    store.apply(&[ControlWrite::put("a", "1")]).unwrap();
    store.flush_durable().unwrap();
    fail::cfg("storage::control::flush", "return").unwrap();
    store.apply(&[ControlWrite::put("a", "2"), ControlWrite::put("b", "2")]).unwrap();
    store.flush_durable().unwrap();
    store.crash(0);
    assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(store.get(b"b").unwrap(), None);
    scenario.teardown();
}

#[test]
fn an_interrupted_replacement_leaves_the_old_content() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    write_file_durably(&file, b"old").unwrap();
    fail::cfg("storage::format::renaming", "return").unwrap();
    assert!(write_file_durably(&file, b"new, and longer").is_err());
    assert_eq!(fs::read(&file).unwrap(), b"old");
    fail::remove("storage::format::renaming");
    write_file_durably(&file, b"new").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    scenario.teardown();
}
