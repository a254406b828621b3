//! What the engines of the Raft log and of the control store promise, checked on each of them: scenarios, random
//! operations against a model, files that were cut, damaged or left behind. Nothing here uses fail points.

#![expect(clippy::unwrap_used, reason = "tests: a failure has to be loud")]

mod control;
mod control_files;
mod directory;
mod log_damage;
mod log_model;
mod log_random;
mod log_scenarios;

/// The number of random cases, unless `PROPTEST_CASES` says another.
fn cases(usual: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { usual };
    proptest::test_runner::Config { cases, ..config }
}
