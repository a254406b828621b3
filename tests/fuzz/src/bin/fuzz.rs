//! One target under libFuzzer: `ISTHMUS_FUZZ_TARGET` names it. Before it begins, its seeds are written into the folder that
//! `ISTHMUS_FUZZ_SEEDS` names, if there is one. `tests/fuzz/run` builds and starts it.

#![no_main]
#![allow(clippy::unwrap_used, reason = "what can't begin says why and ends")]

use std::{fs, path::PathBuf, sync::OnceLock};

use isthmus_fuzz::{TARGETS, Target, target};

static TARGET: OnceLock<Target> = OnceLock::new();

/// The target that was asked for, with its seeds written out.
fn begin() {
    let name = std::env::var("ISTHMUS_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = target(&name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("ISTHMUS_FUZZ_TARGET has to name one of {}", names.join(", "));
        std::process::exit(2);
    };
    if let Some(folder) = std::env::var_os("ISTHMUS_FUZZ_SEEDS").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
    TARGET.get_or_init(|| target);
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
