//! Identity resolution end to end, against real processes: who is one customer, whatever the order in which that is
//! said, whoever dies meanwhile, and after it was taken back.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod doors;
mod people;
mod reference;
mod shuffled;
mod twins;
mod way_in;

use std::path::{Path, PathBuf};

use isthmus_tests::{cli::Cli, cluster::ClusterOptions};

/// Nodes whose clusters all have the same identity key: [`reference::KEY`].
fn options(data: PathBuf, nodes: u32) -> ClusterOptions {
    let mut options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), &data, nodes);
    options.arguments = vec!["--identity-key-file".to_owned(), key_file(&data).display().to_string()];
    options
}

/// A file with the key, which nobody else may read.
fn key_file(folder: &Path) -> PathBuf {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("identity.key");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(&reference::KEY).unwrap();
    path
}

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A number that whoever runs the tests may choose.
fn chosen(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")),
        Err(_) => otherwise,
    }
}
