//! The FEBRL files as records, with the answers apart; see `tests/data/febrl/README.md`.

#![allow(dead_code, reason = "each program that takes this in uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use isthmus_matching::{
    Accuracy, Config, Model, Plan, Prepared, RecordId, Scored, TraitConfig, accuracy, clusters,
};

/// One file's rows, or those of several.
#[derive(Clone, Default)]
pub struct People {
    /// The traits' names, without the answer.
    pub names: Vec<String>,
    /// The traits' values, in the order of the names.
    pub rows: Vec<Vec<String>>,
    /// The answers: the number of the person behind each row.
    pub people: Vec<String>,
}

impl People {
    /// Reads files into one set.
    pub fn of(files: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/febrl");
        let mut people = Self::default();
        for file in files {
            let text = fs::read_to_string(folder.join(file)).expect("the file is in the repository");
            let mut lines = text.lines().map(|line| line.split(',').map(|field| field.trim().to_owned()));
            people.names = lines.next().expect("a header").skip(1).collect();
            for mut fields in lines {
                let answer = fields.next().expect("a record id");
                people.people.push(answer.split('-').nth(1).expect("a number").to_owned());
                people.rows.push(fields.collect());
            }
        }
        people
    }

    /// The defaults for these traits, but for those named.
    pub fn plan(&self, without: &[&str]) -> Plan {
        let names = self.names.iter().filter(|name| !without.contains(&name.as_str()));
        let traits = names.map(|name| TraitConfig::guess(name).expect("a name that says its kind"));
        Config::of(traits.collect()).plan().expect("defaults are in range")
    }

    /// The rows as records, numbered from 0.
    pub fn records(&self, plan: &Plan) -> Vec<Prepared> {
        let names = || self.names.iter().map(String::as_str);
        let rows = self.rows.iter().zip(0..);
        rows.map(|(row, n)| Prepared::new(plan, RecordId(n), names().zip(row.iter().map(String::as_str))))
            .collect()
    }

    /// How right the pairs from 0.9 on are, after transitive closure.
    pub fn accuracy(&self, pairs: &[Scored]) -> Accuracy {
        let links = pairs.iter().filter(|pair| pair.probability >= 0.9).map(|pair| (pair.a, pair.b));
        let person_of: BTreeMap<RecordId, &str> =
            (0..).map(RecordId).zip(self.people.iter().map(String::as_str)).collect();
        accuracy(&clusters(links), &person_of)
    }
}

/// What the tests run on.
pub const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Learns with two threads.
pub fn learned(plan: &Plan, records: &[Prepared]) -> Model {
    isthmus_matching::learn(plan, records, THREADS).expect("two records or more, of different ids")
}
