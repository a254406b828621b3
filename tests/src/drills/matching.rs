//! People who share no identifier are found, and whoever comes later is found as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{ask, cli::Cli, cluster::Cluster};

/// Where the records are: see the README beside them.
const FEBRL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/febrl");
/// A pair is a link from this probability on.
const LINK_AT: f64 = 0.9;

/// People's records, with the answers: who is who.
#[derive(Clone, Debug, Default)]
pub struct People {
    /// The id of each record, and its traits that are not empty.
    records: Vec<(String, Vec<(String, String)>)>,
}

/// A pair of records, the smaller id first.
pub type Pair = (String, String);

/// How right links are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// The share of pairs that are right.
    pub precision: f64,
    /// The share of right pairs that were found.
    pub recall: f64,
}

impl Accuracy {
    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        match self.precision + self.recall {
            sum if sum > 0.0 => 2.0 * self.precision * self.recall / sum,
            _ => 0.0,
        }
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "precision {:.5}, recall {:.5}, F1 {:.5}", self.precision, self.recall, self.f1())
    }
}

/// What a pass found and took.
#[derive(Debug)]
pub struct Pass {
    /// From the command to its end: reading, learning, comparing all.
    pub took: Duration,
    /// The pairs from a probability of 0.9 on.
    pub links: BTreeSet<Pair>,
}

/// What was seen of people who came later.
#[derive(Debug)]
pub struct Live {
    /// The pairs from a probability of 0.9 on, when all had come.
    pub links: BTreeSet<Pair>,
    /// The longest that a new profile waited until its pairs were kept, in milliseconds.
    pub longest_ms: f64,
}

impl People {
    /// Reads one of the files.
    ///
    /// # Panics
    /// When it isn't there, or isn't one.
    pub fn of(file: &str) -> Self {
        let text = std::fs::read_to_string(Path::new(FEBRL).join(file)).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').map(|field| field.trim().to_owned()));
        let names: Vec<String> = lines.next().expect("a header").skip(1).collect();
        let records = lines.map(|mut fields| {
            let id = fields.next().expect("an id");
            (id, names.iter().cloned().zip(fields).filter(|(_, value)| !value.is_empty()).collect())
        });
        Self { records: records.collect() }
    }

    /// Those whose person's number is below this.
    #[must_use]
    pub fn below(mut self, number: u32) -> Self {
        self.records.retain(|(id, _)| person(id).parse::<u32>().is_ok_and(|person| person < number));
        self
    }

    /// Copies of so many of them, each the same person under an id of its own.
    #[must_use]
    pub fn copies(&self, count: usize) -> Self {
        let copy = |(id, traits): &(String, Vec<(String, String)>)| {
            (format!("rec-{}-copy", person(id)), traits.clone())
        };
        let originals = self.records.iter().filter(|(id, _)| id.ends_with("org"));
        Self { records: originals.take(count).map(copy).collect() }
    }

    /// Both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { records: self.records.iter().chain(&other.records).cloned().collect() }
    }

    /// The events that say so, a line each.
    fn events(&self) -> String {
        let event = |(id, traits): &(String, Vec<(String, String)>)| {
            let traits: serde_json::Map<String, Value> =
                traits.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
            json!({
                "type": "identify", "userId": id, "messageId": format!("m-{id}"),
                "timestamp": "2026-01-01T00:00:00Z", "traits": traits,
            })
            .to_string()
        };
        self.records.iter().map(event).collect::<Vec<_>>().join("\n")
    }

    /// The configuration that compares all traits but these.
    fn without(&self, left_out: &[&str]) -> String {
        let kinds = [
            ("given_name", "name"),
            ("surname", "name"),
            ("street_number", "number"),
            ("address_1", "address"),
            ("address_2", "address"),
            ("suburb", "place"),
            ("postcode", "postcode"),
            ("state", "category"),
            ("date_of_birth", "date"),
            ("soc_sec_id", "code"),
        ];
        let compared = kinds.iter().filter(|(name, _)| !left_out.contains(name));
        let tables =
            compared.map(|(name, kind)| format!("[[traits]]\nname = \"{name}\"\nkind = \"{kind}\"\n"));
        tables.collect()
    }

    /// How right links are, once whoever is linked by others is linked, too.
    pub fn accuracy(&self, links: &BTreeSet<Pair>) -> Accuracy {
        let mut of: BTreeMap<&str, usize> =
            (0..).zip(&self.records).map(|(n, (id, _))| (id.as_str(), n)).collect();
        for (a, b) in links {
            let (from, to) = (of[a.as_str()], of[b.as_str()]);
            of.values_mut().filter(|group| **group == from).for_each(|group| *group = to);
        }
        let pairs = |members: usize| members * members.saturating_sub(1) / 2;
        let sum = |sizes: BTreeMap<String, usize>| sizes.into_values().map(pairs).sum::<usize>();
        let count = |key: &dyn Fn(&str, usize) -> String| {
            let mut sizes = BTreeMap::new();
            of.iter().for_each(|(id, group)| *sizes.entry(key(id, *group)).or_insert(0) += 1);
            sum(sizes)
        };
        let right = count(&|id, group| format!("{} {group}", person(id)));
        let found = count(&|_, group| group.to_string());
        let all = count(&|id, _| person(id).to_owned());
        let share = |of: usize| if of == 0 { 1.0 } else { right as f64 / of as f64 };
        Accuracy { precision: share(found), recall: share(all) }
    }
}

/// `rec-17-org` and `rec-17-dup-0` are person 17.
fn person(id: &str) -> &str {
    id.split('-').nth(1).unwrap_or_default()
}

/// Sends people and waits until they are stored.
///
/// # Panics
/// When one is not accepted.
pub fn send(cluster: &Cluster, cli: &Cli, folder: &Path, people: &People) {
    let file = folder.join("people.jsonl");
    std::fs::write(&file, people.events()).unwrap();
    let ended = cli.json(&cluster.endpoints(), &["ingest", &file.display().to_string(), "--retry-for", "5m"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.last()["accepted"], people.records.len(), "{}", ended.out);
}

/// Learns from all profiles, but for some traits, and compares them all.
///
/// # Panics
/// When it fails.
pub fn full_pass(cluster: &Cluster, cli: &Cli, folder: &Path, people: &People, left_out: &[&str]) -> Pass {
    let config = folder.join("matching.toml");
    std::fs::write(&config, people.without(left_out)).unwrap();
    let begin = Instant::now();
    let ended = cli.json(
        &cluster.endpoints(),
        &["identity", "match", "--full", "--wait", "--config", &config.display().to_string()],
    );
    let took = begin.elapsed();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.last()["complete"], true, "{}", ended.out);
    Pass { took, links: links(cluster, cli) }
}

/// Sends people who come one by one while the hub compares, and waits until each has been compared.
///
/// # Panics
/// When it fails.
pub async fn live(cluster: &Cluster, cli: &Cli, people: &People) -> Live {
    let events = people.events();
    let channels: Vec<_> = (0..cluster.nodes.len()).map(|node| cluster.channel(node)).collect();
    for (event, channel) in events.lines().zip(channels.iter().cycle()) {
        ask::accepted(channel, vec![ask::json(event)]).await;
    }
    let ended = cli.json(&cluster.endpoints(), &["identity", "match", "--wait"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let longest_ms = ended.last()["longest_ms"].as_f64().unwrap();
    Live { links: links(cluster, cli), longest_ms }
}

/// The pairs that are links.
///
/// # Panics
/// When they can't be listed.
pub fn links(cluster: &Cluster, cli: &Cli) -> BTreeSet<Pair> {
    let least = LINK_AT.to_string();
    let ended = cli.json(&cluster.endpoints(), &["identity", "pairs", "--min-score", &least]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let side = |pair: &Value, side: &str| {
        let first = pair[side][0].as_str().expect("an identifier");
        first.strip_prefix("user_id:").expect("a user").to_owned()
    };
    let pair = |pair: Value| {
        let (a, b) = (side(&pair, "a"), side(&pair, "b"));
        assert!(pair["score"].as_f64().unwrap() >= LINK_AT);
        (a.clone().min(b.clone()), a.max(b))
    };
    ended.objects().into_iter().map(pair).collect()
}
