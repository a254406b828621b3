//! The data directory: lock, versions, identity, secret files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use isthmus_storage::Error;
use isthmus_storage::format::{DataDir, Identity, check_secret_file, write_file_durably};

fn identity(cluster: &str, node: u32) -> Identity {
    Identity { cluster: cluster.to_owned(), node }
}

#[test]
fn a_fresh_directory_is_made_and_can_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some").join("where");
    let data = DataDir::open(&path).unwrap();
    assert_eq!(data.identity(), None);
    assert!(data.space().unwrap().free_bytes <= data.space().unwrap().total_bytes);
    drop(data);
    DataDir::open(&path).unwrap();
    let text = fs::read_to_string(path.join("format.toml")).unwrap();
    assert!(text.contains("format_version = 1"), "{text}");
}

#[test]
fn two_cannot_use_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path()).unwrap();
    assert!(matches!(DataDir::open(dir.path()), Err(Error::Locked { .. })));
    drop(first);
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn it_never_changes_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    {
        let data = DataDir::open(dir.path()).unwrap();
        data.set_identity(&identity("one", 3)).unwrap();
        data.set_identity(&identity("one", 3)).unwrap();
    }
    let data = DataDir::open(dir.path()).unwrap();
    assert_eq!(data.identity(), Some(identity("one", 3)));
    for other in [identity("two", 3), identity("one", 4)] {
        assert!(matches!(data.set_identity(&other), Err(Error::OtherCluster { .. })));
    }
    assert_eq!(data.identity(), Some(identity("one", 3)));
}

#[test]
fn what_a_newer_program_wrote_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path()).unwrap());
    let file = dir.path().join("format.toml");
    let newer = [
        ("format_version = 2\nsomething = \"new\"\n[parts]\nlog = 1\n", "the directory"),
        ("format_version = 1\n[parts]\nlog = 1\ncontrol = 7\nruns = 1\n", "control"),
    ];
    for (text, newer) in newer {
        fs::write(&file, text).unwrap();
        match DataDir::open(dir.path()) {
            Err(Error::NewerFormat { part, .. }) => assert_eq!(part, newer),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_damaged_or_missing_format_file_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path()).unwrap());
    let file = dir.path().join("format.toml");
    fs::write(&file, "format_version = 1\nparts = 3\n").unwrap();
    let error = DataDir::open(dir.path()).unwrap_err();
    assert!(error.is_corrupt() && error.to_string().contains("line 2"), "{error}");
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(DataDir::open(dir.path()).unwrap_err().is_corrupt());
    fs::remove_file(&file).unwrap();
    fs::create_dir(dir.path().join("log")).unwrap();
    assert!(DataDir::open(dir.path()).unwrap_err().is_corrupt());
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    write_file_durably(&file, b"secret").unwrap();
    for (mode, allowed) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(check_secret_file(&file).is_ok(), allowed, "{mode:o}");
    }
    assert!(matches!(check_secret_file(&dir.path().join("none")), Err(Error::Io { .. })));
}
