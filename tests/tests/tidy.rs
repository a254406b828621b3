//! The layout rules that a program can check.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file: about 400, and never more than this.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All files of the tree with an extension, but for what builds and people's own environments leave.
fn files(extension: &str) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} file was found: the check checks nothing");
    found
}

/// The part of a source file in front of its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn the_top_level_is_as_agreed() {
    let expected: BTreeSet<&str> = [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "client",
        "clippy.toml",
        "deploy",
        "node",
        "proto",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "tests",
    ]
    .into();
    let found: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn no_source_file_is_over_long() {
    let long = files("rs").into_iter().chain(files("py")).filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{path}: {lines} lines"))
    });
    none("these want a seam", long.collect());
}

#[test]
fn modules_open_with_what_they_are() {
    let bare = files("rs").into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none("these don't say what they are", bare.map(|(path, _)| path).collect());
    let says = |text: &str| text.starts_with("\"\"\"") || text.starts_with("# Written by tools/generate.py");
    let bare = files("py").into_iter().filter(|(_, text)| !says(text));
    none("these don't say what they are", bare.map(|(path, _)| path).collect());
}

#[test]
fn pure_code_has_no_clock_no_chance_and_no_unordered_maps() {
    const BANNED: [&str; 7] =
        ["SystemTime::now", "Instant::now", "rand::", "getrandom", "HashMap", "HashSet", "tokio::"];
    let pure = |path: &str| {
        ["domain/src", "identity/src", "matching/src", "quality/src", "segment/src", "shard/src/apply"]
            .map(|folder| format!("node/{folder}"))
            .iter()
            .any(|folder| path.starts_with(folder.as_str()))
            && !path.contains("/tests/")
    };
    let mut found = Vec::new();
    for (path, text) in files("rs").into_iter().filter(|(path, _)| pure(path)) {
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && BANNED.iter().any(|banned| code.contains(banned)) {
                found.push(format!("{path}:{}: {code}", number + 1));
            }
        }
    }
    none("replicas could come apart here", found);
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file doesn't find itself.
    let marks = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["#[ig", "nore"],
        ["NotImple", "mentedError"],
        ["mark.sk", "ip"],
        ["mark.xf", "ail"],
    ];
    let marks = marks.map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in files("rs").into_iter().chain(files("py")).chain(files("proto")) {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("unfinished, or not run", found);
}

/// What each package may use of the others. `domain` is everybody's but the two's that know nothing of customers.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("isthmus-proto", vec![]),
        ("isthmus-domain", vec![]),
        ("isthmus-identity", vec!["isthmus-domain", "isthmus-proto"]),
        ("isthmus-matching", vec![]),
        ("isthmus-quality", vec!["isthmus-domain"]),
        ("isthmus-segment", vec!["isthmus-domain"]),
        ("isthmus-query", vec!["isthmus-domain", "isthmus-segment"]),
        ("isthmus-storage", vec![]),
        ("isthmus-raft", vec!["isthmus-proto", "isthmus-storage"]),
        (
            "isthmus-shard",
            vec!["isthmus-domain", "isthmus-identity", "isthmus-proto", "isthmus-raft", "isthmus-storage"],
        ),
        ("isthmus-console", vec!["isthmus-proto"]),
        ("isthmus-coordinator", vec!["isthmus-domain", "isthmus-proto", "isthmus-raft", "isthmus-storage"]),
        (
            "isthmus-router",
            vec!["isthmus-coordinator", "isthmus-domain", "isthmus-proto", "isthmus-raft", "isthmus-shard"],
        ),
        (
            "isthmus-matcher",
            vec!["isthmus-domain", "isthmus-matching", "isthmus-proto", "isthmus-router", "isthmus-shard"],
        ),
        (
            "isthmus-segmenter",
            vec!["isthmus-domain", "isthmus-proto", "isthmus-router", "isthmus-segment", "isthmus-shard"],
        ),
        (
            "isthmus-node",
            vec![
                "isthmus-console",
                "isthmus-coordinator",
                "isthmus-domain",
                "isthmus-identity",
                "isthmus-matcher",
                "isthmus-matching",
                "isthmus-proto",
                "isthmus-quality",
                "isthmus-query",
                "isthmus-raft",
                "isthmus-router",
                "isthmus-segment",
                "isthmus-segmenter",
                "isthmus-shard",
                "isthmus-storage",
            ],
        ),
        ("isthmus-client", vec!["isthmus-proto"]),
    ])
}

#[test]
fn imports_point_one_way() {
    let allowed = allowed();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, text) in files("toml").into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let name =
            text.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap().trim_end_matches('"');
        // What looks at all parts from outside.
        if ["isthmus-tests", "isthmus-fuzz"].contains(&name) {
            continue;
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} has no rule in this test"));
        seen.insert(name.to_owned());
        let dependencies = text.split("\n[dependencies]").nth(1).unwrap_or("").split("\n[").next().unwrap();
        for line in dependencies.lines().filter(|line| line.starts_with("isthmus-")) {
            let used = line.split(['.', ' ', '=']).next().unwrap();
            if !allowed.contains(&used) {
                wrong.push(format!("{path}: {used}"));
            }
        }
    }
    assert_eq!(seen.len(), allowed.len(), "a package is missing: {seen:?}");
    none("these point the wrong way", wrong);
}

#[test]
fn versions_stand_in_one_place() {
    let mut found = Vec::new();
    for (path, text) in files("toml").into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let mut dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies");
            } else if dependencies
                && line.contains('=')
                && !line.contains("workspace = true")
                && !line.starts_with('#')
            {
                found.push(format!("{path}: {line}"));
            }
        }
    }
    none("these versions belong into [workspace.dependencies]", found);
}

#[test]
fn unsafe_code_is_forbidden_everywhere() {
    for (path, text) in files("toml").into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        assert!(text.contains("[lints]\nworkspace = true"), "{path} has no [lints] of the workspace");
    }
    assert!(fs::read_to_string(root().join("Cargo.toml")).unwrap().contains("unsafe_code = \"forbid\""));
}

#[test]
fn every_message_and_field_of_the_protocols_is_documented() {
    let mut found = Vec::new();
    for (path, text) in files("proto") {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let declares =
                ["message ", "enum ", "service ", "rpc ", "oneof "].iter().any(|word| line.starts_with(word))
                    || (line.contains(" = ")
                        && line.ends_with(';')
                        && !line.starts_with("//")
                        && !line.starts_with("syntax"));
            if declares && !lines[number.saturating_sub(1)].starts_with("//") {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    none("undocumented", found);
}
