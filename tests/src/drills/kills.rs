//! `isthmus ingest` of a file while nodes are killed and started again.

use std::{
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    cli::{Cli, Ended},
    cluster::Cluster,
    load::{Numbers, event},
    look,
};

/// What was seen.
#[derive(Clone, Debug)]
pub struct KillsReport {
    /// Events in the file.
    pub events: u64,
    /// Kills while the first ingest ran.
    pub kills: usize,
    /// Seconds of the first ingest, with the kills.
    pub first_seconds: f64,
    /// Seconds of the second one, undisturbed: it reports duplicates alone.
    pub second_seconds: f64,
    /// Seconds of an ingest of as many other events, undisturbed.
    pub fresh_seconds: f64,
    /// Replicas whose hashes were compared.
    pub replicas: usize,
}

/// Writes a file of events with message ids of their own.
fn write_events(path: &Path, run: &str, events: u64, profiles: u64) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut numbers = Numbers(1);
    for number in 0..events {
        file.write_all(&event(run, number, profiles, &mut numbers)).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

/// Ingests `events` events while nodes are killed `kills` times, one after the other.
///
/// # Panics
/// When an acknowledged event is lost or counted twice, replicas differ, or something doesn't come back.
pub async fn kills_during_ingest(
    cluster: &mut Cluster,
    cli: &Cli,
    folder: &Path,
    events: u64,
    kills: usize,
) -> KillsReport {
    let profiles = (events / 10).max(1);
    let file = folder.join("kills.jsonl");
    write_events(&file, "kills", events, profiles);
    let endpoints = cluster.endpoints();
    let begin = Instant::now();
    let mut ingest = cli.start_ingest(&endpoints, &file);
    let mut done = 0;
    let mut numbers = Numbers(7);
    while done < kills && ingest.try_wait().unwrap().is_none() {
        let victim = numbers.draw() as usize % cluster.nodes.len();
        cluster.kill(victim);
        cluster.serving().await;
        cluster.launch(victim);
        cluster.healthy().await;
        done += 1;
    }
    let first = Ended::from(ingest.wait_with_output().unwrap());
    let first_seconds = begin.elapsed().as_secs_f64();
    assert_eq!(first.code, 0, "{} {}", first.out, first.err);
    let counts = first.last();
    let number = |field: &str| counts[field].as_u64().unwrap_or_else(|| panic!("{counts}"));
    assert_eq!(number("accepted") + number("duplicate"), events, "{counts}");
    assert_eq!(look::events_counted(cluster.channel(0)).await, events, "lost or counted twice");
    let replicas = look::replicas_agree(cluster.channel(1), cluster.nodes.len()).await;

    let timed = |file: &Path| {
        let begin = Instant::now();
        let ended = cli.json(&endpoints, &["ingest", &file.display().to_string()]);
        (ended, begin.elapsed())
    };
    let (second, second_time): (Ended, Duration) = timed(&file);
    assert_eq!(second.code, 0, "{}", second.err);
    assert_eq!(second.last()["duplicate"].as_u64(), Some(events), "{}", second.out);
    assert_eq!(look::events_counted(cluster.channel(2)).await, events, "the second time counted");

    let fresh = folder.join("fresh.jsonl");
    write_events(&fresh, "fresh", events, profiles);
    let (third, fresh_time) = timed(&fresh);
    assert_eq!(third.last()["accepted"].as_u64(), Some(events), "{} {}", third.out, third.err);
    KillsReport {
        events,
        kills: done,
        first_seconds,
        second_seconds: second_time.as_secs_f64(),
        fresh_seconds: fresh_time.as_secs_f64(),
        replicas,
    }
}
