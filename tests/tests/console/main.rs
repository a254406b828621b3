//! The console in a headless Chromium, on three real nodes: every page at the widths of a desk and of a phone, light and
//! dark, read and used by mouse and keyboard. `tests/console/pages.cjs` is what the browser does; the pictures that it
//! takes are in `target/tmp/console`.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

mod access;
mod world;

use std::path::PathBuf;

use isthmus_tests::{program, tools};

/// Where a Chromium may be.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Says why a test is not run; fails where it has to be.
fn skipped(what: &str) {
    let told =
        format!("{what} is missing: tests/sdks/install and Debian's `chromium` get it; this test is SKIPPED");
    assert!(std::env::var_os("SDKS_REQUIRED").is_none(), "{told}");
    tools::say(&told);
}

/// The browser, if there is one.
fn chromium() -> Option<String> {
    let given = std::env::var("CHROMIUM_UNDER_TEST").ok();
    let runs = |name: &String| {
        let asked = std::process::Command::new(name).arg("--version").output();
        asked.is_ok_and(|ended| ended.status.success())
    };
    let found = given.into_iter().chain(PROGRAMS.map(str::to_owned)).find(runs);
    if found.is_none() {
        skipped("Chromium");
    }
    found
}

/// Where puppeteer-core is, which drives it.
fn driver() -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder =
        std::env::var_os("SDKS_UNDER_TEST").map_or_else(|| root.join("../target/sdks"), PathBuf::from);
    let modules = folder.join("node_modules");
    if !modules.join("puppeteer-core").exists() {
        skipped("puppeteer-core");
        return None;
    }
    Some(modules.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_or_acts_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let world = world::World::start(folder.path(), 1).await;
    access::pages_are_for_this_machine_alone(&world);
    access::forms_are_taken_from_pages_of_this_node_alone(&world).await;
    access::files_are_kept_by_browsers(&world);
    access::what_is_not_there_is_a_page(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_and_do_everything_in_a_browser() {
    let (Some(chromium), Some(modules)) = (chromium(), driver()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = world::World::start(folder.path(), 3).await;
    world.fill().await;
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&pictures).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("console/pages.cjs");
    let arguments = [
        script.display().to_string(),
        format!("http://{}", world.cluster.nodes[0].http),
        format!("http://{}", world.cluster.nodes[1].http),
        world.key.clone(),
        pictures.display().to_string(),
    ];
    let environment = [("NODE_PATH", modules), ("CHROMIUM", chromium)];
    let ended = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut browser = program::Program::start("node", &arguments, &environment);
        // Each step says that it is done: a step that takes too long is named.
        while !browser.line_with("{").contains("\"done\"") {}
        browser.end()
    });
    let ended = ended.await.unwrap();
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    world.what_was_clicked_is_done().await;
}
