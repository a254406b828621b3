//! `isthmus ingest`, stopped and given again, against a scripted node.

mod common;
#[path = "common/run.rs"]
mod run;
#[path = "common/sending.rs"]
mod sending;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};

use common::{Fake, Step};
use isthmus_client::proto;
use run::{Run, command};
use sending::{counts, folder, lines, text, write};
use tempfile::TempDir;
use tokio::sync::Notify;

/// A node that says which cluster it is of, and a folder with a place for state.
struct Place {
    fake: Fake,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { fake: Fake::start(), folder: folder() };
        place.cluster("one");
        place
    }

    fn cluster(&self, id: &str) {
        self.fake.state().status =
            [proto::StatusResponse { cluster_id: id.into(), ..Default::default() }].into();
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        write(self.folder.path(), name, content)
    }

    fn command(&self, file: &Path, more: &[&str]) -> Command {
        let endpoint = self.fake.endpoint();
        let args = ["ingest", text(file), "--endpoint", &endpoint, "--output", "json"];
        let mut command = command(&[&args[..], more].concat());
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        command
    }

    fn run(&self, file: &Path, more: &[&str]) -> Run {
        self.command(file, more).output().expect("runs").into()
    }

    /// Sends the first three batches of ten lines, and is stopped by Ctrl-C with the fourth under way, which is
    /// answered: forty lines are dealt with.
    fn stop_at_forty(&self, file: &Path, more: &[&str]) -> Run {
        let release = Arc::new(Notify::new());
        // A hold that was released before is none.
        let steps = (0..3).map(|_| {
            let step = Arc::new(Notify::new());
            step.notify_one();
            Step::Hold(step)
        });
        self.fake.state().script.clear();
        self.fake.script(steps.chain([Step::Hold(release.clone())]));
        let before = self.ingests();
        let more = [&["--batch-items", "10", "--parallel", "1"][..], more].concat();
        let mut child = self.command(file, &more).spawn().expect("runs");
        while self.ingests() < before + 4 {
            std::thread::yield_now();
        }
        let mut reader = interrupt(&mut child);
        release.notify_one();
        let mut said = String::new();
        while reader.read_line(&mut said).expect("reads") > 0 {}
        let mut run = Run::from(child.wait_with_output().expect("ends"));
        run.stderr = said;
        run
    }

    fn ingests(&self) -> usize {
        self.fake.state().calls.iter().filter(|call| *call == "ingest").count()
    }

    /// The lines that were sent since there were so many batches.
    fn sent_since(&self, batches: usize) -> Vec<String> {
        let state = self.fake.state();
        let items = state.batches[batches..].iter().flat_map(|batch| &batch.items);
        items.map(|item| item.origin.clone()).collect()
    }

    fn batches(&self) -> usize {
        self.fake.state().batches.len()
    }

    /// The files that hold state.
    fn states(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("state/isthmus")) else { return Vec::new() };
        entries.map(|entry| entry.expect("reads").path()).collect()
    }
}

/// Presses Ctrl-C, and waits until it is heard.
fn interrupt(child: &mut Child) -> BufReader<std::process::ChildStderr> {
    press(child);
    let mut reader = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("stopping") {
        assert_ne!(reader.read_line(&mut said).expect("reads"), 0, "{said}");
    }
    reader
}

fn press(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is everywhere").success());
}

fn resumed(run: &Run) -> u64 {
    run.object()["resumed"].as_u64().unwrap_or(0)
}

#[test]
fn the_same_command_goes_on_where_it_was_stopped() {
    let place = Place::new();
    // One line of what is dealt with is no event.
    let file = place.write("events.jsonl", lines(100).replace("\"userId\":\"7\"}", "?"));
    let stopped = place.stop_at_forty(&file, &[]);
    assert_eq!((stopped.code, counts(&stopped)), (Some(130), [39, 0, 1, 0]), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("up to events.jsonl:40"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("the same command goes on from there"), "{}", stopped.stderr);
    let states = place.states();
    assert_eq!(states.len(), 1);
    assert!(!fs::read_to_string(&states[0]).expect("text").contains("key"), "no write key is kept");

    let before = place.batches();
    let run = place.run(&file, &[]);
    assert_eq!((run.code, counts(&run), resumed(&run)), (Some(3), [99, 0, 1, 0], 40), "{}", run.stderr);
    assert!(run.stderr.contains("events.jsonl: going on behind line 40"), "{}", run.stderr);
    let sent = place.sent_since(before);
    assert_eq!((sent.len(), sent[0].as_str()), (60, "events.jsonl:41"));
    assert!(place.states().is_empty(), "all is done");
    // Done is done: then it begins at the beginning.
    let run = place.run(&file, &[]);
    assert_eq!((counts(&run), resumed(&run)), ([0, 99, 1, 0], 0));
}

#[test]
fn a_second_interrupt_stops_at_once_and_loses_nothing() {
    let place = Place::new();
    let file = place.write("events.jsonl", lines(50));
    let never = Arc::new(Notify::new());
    let first = Arc::new(Notify::new());
    first.notify_one();
    place.fake.script([Step::Hold(first), Step::Hold(never.clone())]);
    let args = ["--batch-items", "10", "--parallel", "1"];
    let mut child = place.command(&file, &args).spawn().expect("runs");
    while place.ingests() < 2 {
        std::thread::yield_now();
    }
    let mut stderr = interrupt(&mut child);
    press(&child);
    let mut said = String::new();
    while stderr.read_line(&mut said).expect("reads") > 0 {}
    let run = Run::from(child.wait_with_output().expect("ends"));
    assert_eq!((run.code, counts(&run)), (Some(130), [10, 0, 0, 0]), "{said}");
    assert!(said.contains("1 batches were given up"), "{said}");
    never.notify_one();
    let run = place.run(&file, &args);
    assert_eq!((run.code, resumed(&run)), (Some(0), 10), "{}", run.stderr);
    assert_eq!(counts(&run).iter().sum::<u64>(), 50);
    assert_eq!(place.fake.state().message_ids.len(), 50);
}

#[test]
fn what_is_not_the_same_any_more_is_sent_from_its_beginning() {
    let place = Place::new();
    let whole = lines(100);
    let file = place.write("events.jsonl", &whole);
    let again = |change: &dyn Fn(), options: &[&str], expected: u64, word: &str| {
        let stopped = place.stop_at_forty(&file, &[]);
        assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
        change();
        let before = place.batches();
        let run = place.run(&file, options);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_eq!(resumed(&run), expected, "{word}: {}", run.stderr);
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
        let sent = place.sent_since(before).len() as u64;
        assert_eq!(counts(&run).iter().sum::<u64>(), expected + sent, "every line counts once");
        fs::write(&file, &whole).expect("writes");
        for state in place.states() {
            fs::remove_file(state).expect("removes");
        }
    };
    let rewrite = |text: String| {
        let file = file.clone();
        move || fs::write(&file, &text).expect("writes")
    };
    again(&|| {}, &[], 40, "going on behind line 40");
    again(&rewrite(format!("{whole}{}", lines(5))), &[], 40, "going on behind line 40");
    // CR LF says the same; a changed, a missing and a cut line don't.
    again(&rewrite(whole.replace('\n', "\r\n")), &[], 40, "going on behind line 40");
    again(&rewrite(whole.replacen("\"userId\":\"9\"", "\"userId\":\"x\"", 1)), &[], 0, "has changed");
    again(&rewrite(lines(39)), &[], 0, "has changed");
    again(&|| place.cluster("two"), &[], 0, "of another cluster");
    again(&|| {}, &["--from-start"], 0, "accepted");
    // Another sender is another command.
    again(&|| {}, &["--source", "shop"], 0, "accepted");
    let damage = || place.states().iter().for_each(|state| fs::write(state, "{").expect("writes"));
    again(&damage, &[], 0, "beginning anew");
}

#[test]
fn compressed_files_and_tables_go_on_too() {
    let place = Place::new();
    let gz = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).expect("packs");
        out.finish().expect("packs")
    };
    let file = place.write("events.jsonl.gz", gz(&lines(100)));
    assert_eq!(place.stop_at_forty(&file, &[]).code, Some(130));
    let run = place.run(&file, &[]);
    assert_eq!((run.code, counts(&run), resumed(&run)), (Some(0), [100, 0, 0, 0], 40), "{}", run.stderr);

    let mapping = "type = \"track\"\nevent = \"e\"\n[identifiers]\nuser_id = \"id\"\n";
    let by = place.write("by.toml", mapping);
    let rows: String = (0..100).map(|n| format!("{n},x\n")).collect();
    let file = place.write("people.csv", format!("id,name\n{rows}"));
    let options = ["--mapping", text(&by), "--resume-file", text(&place.folder.path().join("here.json"))]
        .map(str::to_owned);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_eq!(place.stop_at_forty(&file, &options).code, Some(130));
    assert!(place.folder.path().join("here.json").exists() && place.states().is_empty());
    let run = place.run(&file, &options);
    assert_eq!((run.code, counts(&run), resumed(&run)), (Some(0), [100, 0, 0, 0], 40), "{}", run.stderr);
    assert!(!place.folder.path().join("here.json").exists());
    // Another mapping may take what the old one did not.
    assert_eq!(place.stop_at_forty(&file, &options).code, Some(130));
    fs::write(&by, format!("{mapping}[properties]\nname = \"name\"\n")).expect("writes");
    let run = place.run(&file, &options);
    assert_eq!((run.code, resumed(&run)), (Some(0), 0), "{}", run.stderr);
}

#[test]
fn what_was_read_of_a_damaged_file_comes_in_and_the_mended_one_goes_on() {
    let place = Place::new();
    let plain = lines(40_000);
    let packed = {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(plain.as_bytes()).expect("packs");
        out.finish().expect("packs")
    };
    let file = place.write("events.jsonl.gz", &packed[..packed.len() / 2]);
    let cut = place.run(&file, &[]);
    let came = counts(&cut)[0];
    assert!(cut.code == Some(1) && came > 1_000, "{}", cut.stderr);
    assert!(
        cut.stderr.contains("events.jsonl.gz: behind line ") && cut.stderr.contains("cut off"),
        "{}",
        cut.stderr
    );
    fs::write(&file, &packed).expect("writes");
    let run = place.run(&file, &[]);
    assert_eq!((run.code, counts(&run), resumed(&run)), (Some(0), [40_000, 0, 0, 0], came), "{}", run.stderr);
}
