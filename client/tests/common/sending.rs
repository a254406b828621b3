//! What tests of `isthmus ingest` share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    common::Fake,
    run::{Run, run},
};

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

pub fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("writes");
    path
}

pub fn lines(count: usize) -> String {
    (1..=count).map(|n| format!("{{\"type\":\"track\",\"event\":\"e\",\"userId\":\"{n}\"}}\n")).collect()
}

pub fn ingest(fake: &Fake, args: &[&str]) -> Run {
    let endpoint = fake.endpoint();
    let mut all = vec!["ingest", "--endpoint", &endpoint, "--output", "json"];
    all.extend(args);
    run(&all)
}

/// accepted, duplicate, quarantined, rejected
pub fn counts(run: &Run) -> [u64; 4] {
    let object = run.object();
    assert!(object["seconds"].is_f64(), "{object}");
    ["accepted", "duplicate", "quarantined", "rejected"].map(|key| object[key].as_u64().expect("a count"))
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
