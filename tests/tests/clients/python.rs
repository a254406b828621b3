//! The Python package, as somebody installs it: into a fresh environment, by pip, from this checkout. Its own tests then
//! run against nodes of this build.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use isthmus_tests::{cli::Ended, tools};

/// Names the Python to use. Where it is set, or `PYTHON_REQUIRED`, there has to be one, and a package index that it gets
/// what it needs from; else the test is left out where there is none.
const PYTHON: &str = "ISTHMUS_TEST_PYTHON";
/// Prints nothing and ends well if it is recent enough and can make environments.
const FITS: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";

fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn well(command: &mut Command) -> Ended {
    let ended = run(command);
    assert_eq!(ended.code, 0, "{command:?}\n{}\n{}", ended.out, ended.err);
    ended
}

/// Says why the test is left out; fails where it must not be.
fn left_out(why: &str) {
    let told = format!("{why}: the test of the Python package is SKIPPED");
    let required = [PYTHON, "PYTHON_REQUIRED"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{told}");
    tools::say(&told);
}

/// A Python that fits; nothing where there is none and none was asked for.
fn python() -> Option<String> {
    if let Ok(named) = std::env::var(PYTHON) {
        well(Command::new(&named).args(["-c", FITS]));
        return Some(named);
    }
    let fits = Command::new("python3").args(["-c", FITS]).output();
    let found = fits.is_ok_and(|output| output.status.success());
    if !found {
        left_out(&format!("there is no python3 from 3.10 on with venv; {PYTHON} names one"));
    }
    found.then(|| "python3".to_owned())
}

/// Whether pip's words are those of one that reaches no index. Where it reaches one that lacks something, that is a failure.
fn reaches_no_index(said: &str) -> bool {
    said.contains("after connection broken by") && said.contains("Could not find a version that satisfies")
}

/// An environment with the package of this checkout in it; nothing where no index can be reached to get what it needs. It
/// stays beside what cargo builds, so that only the package itself is installed anew.
fn installed(python: &str, package: &Path) -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    well(Command::new(python).args(["-m", "venv"]).arg(&environment));
    let program = environment.join("bin/python");
    let quiet = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "5",
        "--timeout",
        "60",
    ];
    let install = run(Command::new(&program).args(quiet).arg(format!("{}[test]", package.display())));
    if install.code != 0 && reaches_no_index(&install.err) {
        left_out("pip reaches no package index");
        return None;
    }
    assert_eq!(install.code, 0, "{}\n{}", install.out, install.err);
    Some(program)
}

#[test]
fn the_python_package_installs_and_passes_its_tests() {
    let Some(python) = python() else { return };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("client/python");
    let Some(program) = installed(&python, &package) else { return };
    // From the folder of the tests, where the package is found only if it was installed.
    let mut tests = Command::new(program);
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).current_dir(package.join("tests"));
    tests.env("ISTHMUS_TEST_NODE", env!("CARGO_BIN_EXE_node-under-test")).env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = well(&mut tests);
    let summary = ended.out.lines().last().unwrap_or_default();
    assert!(summary.contains(" passed") && !summary.contains("skipped"), "{}", ended.out);
}
