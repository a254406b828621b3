//! Questions that analysts of customers ask (`node/query/tests/questions`), asked of a hub and of DuckDB over what the hub
//! exports (`tests/questions/compare.py`). `tests/sdks/install` installs what that needs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// The setting of the nodes' that names the folder which they export to.
pub const EXPORT_DIR: &str = "ISTHMUS_QUERY__EXPORT_DIR";

/// A file or folder of this crate.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The interpreter that has what `compare.py` needs; nothing where there is none, and then [`tools::skipped`] has said so.
pub fn python() -> Option<PathBuf> {
    let python = tools::folder().join("python/bin/python");
    let has = Command::new(&python).args(["-c", "import duckdb, google.protobuf, grpc, pyarrow"]).output();
    if !has.is_ok_and(|ended| ended.status.success()) {
        tools::skipped("DuckDB for Python");
        return None;
    }
    Some(python)
}

/// The command that asks all questions on both sides. The nodes export to `exported`, which [`EXPORT_DIR`] has to name.
pub fn compare(python: &Path, endpoints: &str, exported: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(place("questions/compare.py")).arg(endpoints).arg(place("../node/query/tests/questions"));
    command.arg(exported);
    command
}
