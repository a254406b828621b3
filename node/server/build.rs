//! Names the commit that the binary is built from, as `ISTHMUS_COMMIT`.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=ISTHMUS_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // `logs/HEAD` changes with every commit and checkout; `HEAD` only with the branch. A path that doesn't exist
    // would make every build run this again.
    for path in ["../../.git/logs/HEAD", "../../.git/HEAD"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = env::var("ISTHMUS_COMMIT").ok().filter(|given| !given.is_empty());
    let commit = commit.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ISTHMUS_COMMIT={commit}");
}

/// The commit checked out here; nothing when this isn't a git tree or there is no git.
fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !commit.trim().is_empty()).then(|| commit.trim().to_owned())
}
