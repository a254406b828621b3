//! Definitions drawn from a grammar, over real shards: late events, doubled ones, merges, unmerges and killed leaders. At every
//! look, who is live in each segment is who a full evaluation by SQL finds at the same cut.
//!
//! `ISTHMUS_TEST_SEGMENTS_SEED` draws others; a failure prints the seed and the definitions.

use isthmus_tests::cluster::{Cluster, ClusterOptions};
use serde_json::{Value, json};

use crate::{ended, options, reference::Numbers, run};

/// Where the numbers begin.
const SEED: &str = "ISTHMUS_TEST_SEGMENTS_SEED";
/// How many rounds of events.
const ROUNDS: &str = "ISTHMUS_TEST_SEGMENTS_DRAWN_ROUNDS";
const SEGMENTS: u64 = 8;
const USERS: u64 = 30;

impl Numbers {
    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len() as u64) as usize]
    }

    /// Names of events, and a window and a filter at times.
    fn which(&mut self) -> String {
        let mut which = self.of(&["'A'", "'B'", "('A', 'B')"]).to_owned();
        // Some end while the test runs.
        match self.below(3) {
            0 => which += &format!(", '{} seconds'", 2 + self.below(30)),
            1 => which += ", '2 days'",
            _ => {}
        }
        if self.below(3) == 0 {
            let filter = self.of(&["x > 2", "s = 'red'", "x IS NULL OR s <> 'red'", "s LIKE '%e%'"]);
            which += &format!(", filter => {filter}");
        }
        which
    }

    fn amount(&mut self) -> String {
        match self.below(7) {
            0 => format!("sum(x, {})", self.which()),
            1 => format!("count(DISTINCT s, {})", self.which()),
            2 => format!("max(x, {})", self.which()),
            3 => "coalesce(few, 0)".to_owned(),
            4 => "revenue".to_owned(),
            _ => format!("events({})", self.which()),
        }
    }

    fn comparison(&mut self) -> String {
        format!("{} {} {}", self.amount(), self.of(&["=", "<>", "<", ">="]), self.below(6))
    }

    /// An expression that may build on the first so many segments.
    fn expression(&mut self, depth: u64, segments: u64) -> String {
        match self.below(if depth == 0 { 8 } else { 12 }) {
            0 | 1 => self.comparison(),
            2 => format!("plan {} 'pro'", self.of(&["=", "<>"])),
            3 => format!("did({})", self.which()),
            4 => format!(
                "last_seen {} now() - INTERVAL '{} seconds'",
                self.of(&["<", ">"]),
                5 + self.below(60)
            ),
            5 => match self.below(2) {
                0 => format!("sequence('A', 'B', within => '{} seconds')", 1 + self.below(600)),
                _ => format!("sequence('A', NOT 'B', within => '{} seconds')", 1 + self.below(600)),
            },
            6 => format!("last(s, {}) = 'red'", self.which()),
            7 if segments > 0 => format!("segment('s{}')", self.below(segments)),
            7 => "consent('ads')".to_owned(),
            8 => format!("NOT ({})", self.expression(depth - 1, segments)),
            9 => format!(
                "({}) OR ({})",
                self.expression(depth - 1, segments),
                self.expression(depth - 1, segments)
            ),
            _ => format!(
                "({}) AND ({})",
                self.expression(depth - 1, segments),
                self.expression(depth - 1, segments)
            ),
        }
    }

    fn event(&mut self, number: u64, now_s: i64) -> Value {
        let user = self.below(USERS);
        let (field, value) = match self.below(2) {
            0 => ("userId", format!("u{user}")),
            _ => ("anonymousId", format!("c{user}")),
        };
        // Late by up to an hour, which is behind what was worked out.
        let late = if self.below(3) == 0 { self.below(3_600) as i64 } else { self.below(20) as i64 };
        let time = rfc3339(now_s - late);
        let mut event = json!({"messageId": format!("m{number}"), "timestamp": time, field: value});
        match self.below(8) {
            0 => {
                event["type"] = json!("identify");
                event["traits"] = json!({"plan": self.of(&["pro", "free"])});
                event["context"] = json!({"consent": {"categoryPreferences": {"ads": self.below(2) == 0}}});
            }
            1 if self.below(3) == 0 => {
                event = json!({
                    "messageId": format!("m{number}"), "timestamp": time, "type": "identify", "traits": {},
                    "userId": format!("u{user}"), "anonymousId": format!("c{}", self.below(USERS)),
                });
            }
            _ => {
                event["type"] = json!("track");
                event["event"] = json!(self.of(&["A", "B", "C"]));
                event["properties"] = json!({"x": self.below(5), "revenue": self.below(3)});
                if self.below(4) > 0 {
                    event["properties"]["s"] = json!(self.of(&["red", "blue", "green"]));
                }
            }
        }
        event
    }
}

/// A time in RFC 3339.
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn verify(cluster: &Cluster, definitions: &[String], seed: u64) {
    for (number, definition) in definitions.iter().enumerate() {
        let ended = ended(cluster, &["segment", "verify", &format!("s{number}")]);
        let objects = ended.objects();
        let same = objects.first().is_some_and(|it| it["same"] == true);
        assert!(same, "seed {seed}: {definition}: {objects:?} {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_live_is_who_a_full_evaluation_finds_whatever_is_defined() {
    let seed = std::env::var(SEED).map_or(20_260_202, |seed| seed.parse().unwrap());
    let rounds: u64 = std::env::var(ROUNDS).map_or(3, |rounds| rounds.parse().unwrap());
    let mut numbers = Numbers(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(ClusterOptions { shards: 4, ..options(folder.path(), 3) }).await;
    let file = folder.path().join("few.toml");
    let few = "name = \"few\"\naggregate = \"distinct_count\"\nof = \"x\"\nevents = [\"A\"]\nbound = 3\n";
    std::fs::write(&file, few).unwrap();
    run(&cluster, &["segment", "trait", file.to_str().unwrap()]);
    let mut definitions = Vec::new();
    for number in 0..SEGMENTS {
        let expression = numbers.expression(2, number);
        run(&cluster, &["segment", "put", &format!("s{number}"), &expression]);
        definitions.push(expression);
    }
    let (file, mut sent) = (folder.path().join("events.jsonl"), Vec::new());
    for round in 0..rounds {
        let from = sent.len() as u64;
        let mut events: Vec<Value> = (0..120).map(|n| numbers.event(from + n, now_s())).collect();
        sent.extend(events.iter().cloned());
        // What was sent before comes again.
        events.extend((0..20).map(|_| sent[numbers.below(sent.len() as u64) as usize].clone()));
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let ingested = ended(&cluster, &["ingest", file.to_str().unwrap(), "--timeout", "60s"]);
        assert_eq!(ingested.code, 0, "seed {seed}: {} {}", ingested.out, ingested.err);
        // Some are somebody else's from here on, if they were one.
        for _ in 0..3 {
            let (user, cookie) = (numbers.below(USERS), numbers.below(USERS));
            ended(
                &cluster,
                &["profile", "split", &format!("user_id:u{user}"), &format!("anonymous_id:c{cookie}")],
            );
        }
        verify(&cluster, &definitions, seed);
        let victim = cluster.busiest().await;
        cluster.kill(victim);
        cluster.serving().await;
        verify(&cluster, &definitions, seed);
        cluster.launch(victim);
        cluster.healthy().await;
        // One is edited, while the others answer.
        let which = round % SEGMENTS;
        let expression = numbers.expression(2, which);
        run(&cluster, &["segment", "put", &format!("s{which}"), &expression, "--wait"]);
        definitions[which as usize] = expression;
    }
    verify(&cluster, &definitions, seed);
}
