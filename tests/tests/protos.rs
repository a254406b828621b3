//! What `proto/buf.yaml` holds up, seen: changes that break somebody are found, and those that don't are let through.
//! `proto/check` runs the same rules against what the protos were before.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use isthmus_tests::tools;

fn protos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("proto")
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &into);
        } else {
            fs::copy(&path, &into).unwrap();
        }
    }
}

/// What buf says of the protos with one text in place of another.
fn changed(buf: &Path, command: &[&str], file: &str, from: &str, to: &str) -> String {
    let (folder, protos) = (tempfile::tempdir().unwrap(), protos());
    copied(&protos, folder.path());
    let path = folder.path().join("isthmus").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{file} has not one {from:?}");
    fs::write(&path, text.replace(from, to)).unwrap();
    let mut check = Command::new(buf);
    check.args(command).current_dir(folder.path());
    if command == ["breaking"] {
        check.arg(".").arg("--against").arg(&protos).arg("--against-config").arg(protos.join("buf.yaml"));
    }
    let output = check.output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), told.is_empty(), "{told}");
    told
}

#[test]
fn what_breaks_who_speaks_or_has_stored_something_is_found() {
    let Some(buf) = tools::program("buf", "node_modules/.bin/buf") else { return };
    let identifier = "v1/identifier.proto";
    let (namespace, value) = ("  string namespace = 1;\n", "  string value = 2;\n");
    for (file, from, to, found) in [
        // Removed, even where its number and name are kept from others.
        (identifier, value, "", "was deleted"),
        (identifier, value, "  reserved 2;\n  reserved \"value\";\n", "was deleted"),
        (identifier, value, "  bytes value = 2;\n", "changed type"),
        (identifier, value, "  string text = 2;\n", "changed name"),
        (identifier, namespace, "  string namespace = 3;\n", "was deleted"),
        ("v1/profile.proto", "  rpc Get(GetRequest) returns (GetResponse);\n", "", "was deleted"),
        // What nodes store is held up likewise.
        ("internal/v1/shard.proto", "  uint64 through_sequence = 2;\n", "", "was deleted"),
        (
            "internal/v1/shard.proto",
            "  uint64 through_sequence = 2;\n",
            "  string through_sequence = 2;\n",
            "changed type",
        ),
    ] {
        let told = changed(&buf, &["breaking"], file, from, to);
        assert!(told.contains(found) && told.contains(file), "{from:?} to {to:?}: {told:?}");
    }
    let added = "  string value = 2;\n  // More.\n  string more = 3;\n";
    assert_eq!(changed(&buf, &["breaking"], identifier, value, added), "");
}

#[test]
fn names_that_are_not_as_everywhere_are_found() {
    let Some(buf) = tools::program("buf", "node_modules/.bin/buf") else { return };
    let (file, from) = ("v1/identifier.proto", "  string value = 2;\n");
    assert_eq!(changed(&buf, &["lint"], file, from, from), "");
    let told = changed(&buf, &["lint"], file, from, "  string theValue = 2;\n");
    assert!(told.contains("lower_snake_case"), "{told}");
}
