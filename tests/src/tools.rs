//! Programs of others that tests run, where `tests/sdks/install` put them.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Where `tests/sdks/install` puts what it installs.
pub fn folder() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("SDKS_UNDER_TEST").map_or_else(|| root.join("../target/sdks"), PathBuf::from)
}

/// Says something that people have to see: the test harness keeps what tests print, but for what goes to standard error
/// by itself.
pub fn say(text: &str) {
    let _nobody_reads = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Says why a test is not run.
///
/// # Panics
/// Where it has to be: `SDKS_REQUIRED` is set.
pub fn skipped(what: &str) {
    let told = format!("{what} is missing: tests/sdks/install gets it; this test is SKIPPED");
    assert!(std::env::var_os("SDKS_REQUIRED").is_none(), "{told}");
    say(&told);
}

/// A program: from the path, else from a place in [`folder`]. Nothing where it can't tell its version; then [`skipped`]
/// has said so.
pub fn program(name: &str, installed: impl AsRef<Path>) -> Option<PathBuf> {
    let found = [PathBuf::from(name), folder().join(installed)].into_iter().find(|program| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        skipped(name);
    }
    found
}
