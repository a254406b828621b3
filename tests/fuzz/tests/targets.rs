//! The fuzz targets over what is known: their seeds, and what was found (`found/<target>/`). What was found once was a
//! panic, or took too long; it stays here, so that it is seen when it comes back.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{collections::BTreeSet, fs, path::Path};

use isthmus_fuzz::{TARGETS, target};

#[test]
fn every_seed_holds() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has none", target.name);
        for seed in seeds {
            (target.run)(&seed);
        }
    }
}

#[test]
fn what_was_found_once_holds_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for entry in fs::read_dir(folder).unwrap() {
        let of = entry.unwrap().path();
        let name = of.file_name().unwrap().to_string_lossy().into_owned();
        let target = target(&name).unwrap_or_else(|| panic!("there is no target {name}"));
        for input in fs::read_dir(of).unwrap() {
            let input = input.unwrap().path();
            eprintln!("{}", input.display());
            (target.run)(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn targets_have_names_of_their_own() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert!(target("none").is_none());
}

/// Bytes that nobody has sent: what a fuzzer begins with, too.
#[test]
fn short_and_odd_inputs_hold() {
    for target in TARGETS {
        for length in [0, 1, 2, 3, 40, 4096] {
            for byte in [0, 1, 0x20, 0x7b, 0x80, 0xff] {
                (target.run)(&vec![byte; length]);
            }
        }
    }
}
