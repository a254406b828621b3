//! Definitions and events by chance, all from one number.

use isthmus_domain::{Amount, EventType};
use isthmus_segment::{
    Document,
    definition::{ComputedTrait, Segment},
};

use crate::reference::Sent;

/// SplitMix64: small, and the same everywhere.
pub struct Chance(pub u64);

/// Where times lie: everything happens within a few minutes of this, so that times meet.
pub const EPOCH: i64 = 1_700_000_000_000_000;
pub const SECOND: i64 = 1_000_000;

impl Chance {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len() as u64) as usize]
    }

    pub fn time(&mut self) -> i64 {
        EPOCH + self.below(90) as i64 * SECOND
    }

    fn window(&mut self) -> String {
        format!("{} seconds", 1 + self.below(60))
    }

    fn event(&mut self) -> &'static str {
        self.of(&["'A'", "'B'", "'C'", "('A', 'B')"])
    }

    fn filter(&mut self) -> String {
        match self.below(8) {
            0 => "x > 2".to_owned(),
            1 => "s = 'red'".to_owned(),
            2 => "NOT b OR x IS NULL".to_owned(),
            3 => "o.x BETWEEN 1 AND 5 AND s <> 'red'".to_owned(),
            4 => "s LIKE '%e%'".to_owned(),
            5 => "x * 2 - 1 IN (1, 3, 2.5)".to_owned(),
            6 => "t >= TIMESTAMP '2023-11-14T22:13:30Z'".to_owned(),
            _ => "coalesce(s, 'none') IN ('none', 'blue')".to_owned(),
        }
    }

    /// Names, window and filter.
    fn which(&mut self) -> String {
        let mut out = self.event().to_owned();
        let named = self.one_in(3);
        if !self.one_in(4) {
            out += &if named {
                format!(", window => '{}'", self.window())
            } else {
                format!(", '{}'", self.window())
            };
        }
        if self.one_in(3) {
            let filter = self.filter();
            out += &if named { format!(", filter => {filter}") } else { format!(", {filter}") };
        }
        if self.one_in(8) {
            out += ", type => 'any'";
        }
        out
    }

    fn text(&mut self) -> String {
        match self.below(6) {
            0 => "CAST(plan AS TEXT)".to_owned(),
            1 => "CAST(home.city AS TEXT)".to_owned(),
            2 => format!("CAST({}(s, {}) AS TEXT)", self.of(&["first", "last", "min", "max"]), self.which()),
            3 => format!("CAST(most_frequent(s, {}) AS TEXT)", self.which()),
            4 => "text_trait".to_owned(),
            _ => self.of(&["'pro'", "'red'", "'3'", "''"]).to_owned(),
        }
    }

    fn amount(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => self.of(&["0", "1", "2", "2.5", "-1", "10.01"]).to_owned(),
            1 => format!("events({})", self.which()),
            2 => format!("{}(x, {})", self.of(&["sum", "avg", "distinct_count"]), self.which()),
            3 => {
                format!(
                    "CAST({}(o.x, {}) AS NUMERIC)",
                    self.of(&["first", "last", "min", "max", "most_frequent"]),
                    self.which()
                )
            }
            4 => self.of(&["revenue", "revenue('EUR')", "CAST(age AS NUMERIC)"]).to_owned(),
            5 => "number_trait".to_owned(),
            6 => format!("count(DISTINCT s, {})", self.which()),
            7 => format!(
                "({} {} {})",
                self.amount(depth - 1),
                self.of(&["+", "-", "*", "/"]),
                self.amount(depth - 1)
            ),
            _ => format!("coalesce({}, {})", self.amount(depth - 1), self.amount(depth - 1)),
        }
    }

    fn interval(&mut self) -> String {
        format!("INTERVAL '{} seconds'", self.below(60) as i64 - 10)
    }

    fn moment(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 6 } else { 7 }) {
            0 => "now()".to_owned(),
            1 => "last_seen".to_owned(),
            2 => "first_seen".to_owned(),
            3 => format!("TIMESTAMP '2023-11-14T22:13:{:02}Z'", 20 + self.below(40)),
            4 => format!("CAST(last(t, {}) AS TIMESTAMP)", self.which()),
            5 => "CAST(born AS TIMESTAMP)".to_owned(),
            _ => format!("({} {} {})", self.moment(depth - 1), self.of(&["+", "-"]), self.interval()),
        }
    }

    fn length(&mut self) -> String {
        match self.below(4) {
            0 => format!("(now() - {})", self.moment(1)),
            1 => format!("({} - now())", self.moment(0)),
            2 => format!("({} + {})", self.interval(), self.interval()),
            // Twice as fast as the clock, and against it.
            _ => format!(
                "({} + (now() - {}))",
                self.of(&["(now() - last_seen)", "- (now() - first_seen)"]),
                self.moment(0)
            ),
        }
    }

    fn comparison(&mut self) -> &'static str {
        self.of(&["=", "<>", "<", "<=", ">", ">="])
    }

    fn sequence(&mut self) -> String {
        let step = |chance: &mut Self| match chance.below(4) {
            0 => format!("event('A', {})", chance.filter()),
            _ => chance.event().to_owned(),
        };
        let within = 1 + self.below(40);
        let window = if self.one_in(2) {
            format!(", window => '{} seconds'", within + 1 + self.below(40))
        } else {
            String::new()
        };
        let steps = match self.below(3) {
            0 => format!("{}, {}", step(self), step(self)),
            1 => format!("{}, {}, {}", step(self), step(self), step(self)),
            _ => format!("{}, NOT {}", step(self), step(self)),
        };
        format!("sequence({steps}, within => '{within} seconds'{window})")
    }

    /// An expression; it may use the first so many segments.
    pub fn boolean(&mut self, depth: u64, segments: u64) -> String {
        match self.below(if depth == 0 { 13 } else { 18 }) {
            0 | 1 => format!("{} {} {}", self.amount(1), self.comparison(), self.amount(1)),
            2 => format!("{} {} {}", self.text(), self.comparison(), self.text()),
            3 | 4 => format!("{} {} {}", self.moment(2), self.comparison(), self.moment(1)),
            5 => format!("{} {} {}", self.length(), self.comparison(), self.length()),
            6 => format!("did({})", self.which()),
            7 => self.sequence(),
            8 => {
                match (segments, self.of(&["consent('ads')", "CAST(vip AS BOOLEAN)", "contains(tags, 'x')"]))
                {
                    (1.., _) if self.one_in(2) => format!("segment('s{}')", self.below(segments)),
                    (_, other) => other.to_owned(),
                }
            }
            9 => match self.below(3) {
                0 => {
                    format!("{} {}IN ({}, {})", self.text(), self.of(&["", "NOT "]), self.text(), self.text())
                }
                1 => format!(
                    "{} {}IN ({}, {})",
                    self.moment(1),
                    self.of(&["", "NOT "]),
                    self.moment(1),
                    self.moment(1)
                ),
                _ => format!(
                    "{} {}LIKE '{}'",
                    self.text(),
                    self.of(&["", "NOT "]),
                    self.of(&["%r%", "_e%", "pro", "%"])
                ),
            },
            10 => match self.below(2) {
                0 => format!(
                    "{} {}BETWEEN {} AND {}",
                    self.amount(1),
                    self.of(&["", "NOT "]),
                    self.amount(0),
                    self.amount(0)
                ),
                _ => format!(
                    "{} {}BETWEEN {} AND {}",
                    self.moment(1),
                    self.of(&["", "NOT "]),
                    self.moment(1),
                    self.moment(1)
                ),
            },
            11 => match self.below(4) {
                0 => format!("events({}) {} {}", self.which(), self.comparison(), self.below(5)),
                1 => "plan IS NOT NULL".to_owned(),
                2 => format!("last(t, {}) IS NULL", self.which()),
                _ => format!("{} IS NULL", self.amount(1)),
            },
            12 => format!("number_trait {} {}", self.comparison(), self.below(4)),
            13 => format!("NOT ({})", self.boolean(depth - 1, segments)),
            14 => format!(
                "({}) IS {}{}",
                self.boolean(depth - 1, segments),
                self.of(&["", "NOT "]),
                self.of(&["TRUE", "FALSE", "UNKNOWN"])
            ),
            15 | 16 => {
                let parts: Vec<_> = (0..2 + self.below(2))
                    .map(|_| format!("({})", self.boolean(depth - 1, segments)))
                    .collect();
                parts.join(" AND ")
            }
            _ => {
                format!("({}) OR ({})", self.boolean(depth - 1, segments), self.boolean(depth - 1, segments))
            }
        }
    }

    fn computed(&mut self, name: &str, aggregates: &[&str], of: &str, of_type: &str) -> ComputedTrait {
        let aggregate = self.of(aggregates).to_owned();
        let counts = aggregate == "count";
        let list = aggregate == "distinct_list";
        let limit = 1 + self.below(3) as u32;
        ComputedTrait {
            name: name.to_owned(),
            of: (!counts).then(|| of.to_owned()),
            of_type: (!counts).then(|| of_type.to_owned()),
            events: if self.one_in(3) { vec!["A".to_owned(), "C".to_owned()] } else { vec!["A".to_owned()] },
            filter: self.one_in(3).then(|| self.filter()),
            window: self.one_in(2).then(|| self.window()),
            // Small, so that it is passed.
            bound: (!list && !self.one_in(3)).then_some(limit),
            limit: list.then_some(limit),
            aggregate,
            ..ComputedTrait::default()
        }
    }

    pub fn document(&mut self) -> Document {
        let numbers = ["count", "sum", "average", "min", "max", "first", "last", "most_frequent"];
        let computed_traits = vec![
            self.computed("number_trait", &numbers, "x", "number"),
            self.computed("text_trait", &["min", "max", "first", "last", "most_frequent"], "s", "text"),
            self.computed("count_trait", &["distinct_count", "count"], "s", "text"),
            self.computed("list_trait", &["distinct_list"], "s", "text"),
            self.computed("time_trait", &["min", "last", "most_frequent"], "t", "time"),
        ];
        let segment = |(index, expression): (usize, String)| Segment {
            name: format!("s{index}"),
            expression,
            version: 1,
            description: String::new(),
        };
        let mut expressions: Vec<String> = (0..2 + self.below(2)).map(|n| self.boolean(2, n)).collect();
        expressions.push("contains(list_trait, 'red') OR count_trait > 1".to_owned());
        Document { computed_traits, segments: expressions.into_iter().enumerate().map(segment).collect() }
    }

    fn value(&mut self) -> &'static str {
        self.of(&[
            "1",
            "2",
            "3",
            "2.5",
            "10.01",
            "-1",
            "\"3\"",
            "\"2.50\"",
            "\"red\"",
            "\"blue\"",
            "\"\"",
            "true",
            "false",
            "null",
            "[1]",
            "{\"x\":2}",
            "\"2023-11-14T22:13:35Z\"",
            "1000.0",
            "0.1",
        ])
    }

    pub fn sent(&mut self, number: u64) -> Sent {
        let mut properties = Vec::new();
        for (name, usual) in [
            ("b", "true"),
            ("o", "{\"x\":4}"),
            ("s", "\"red\""),
            ("t", "\"2023-11-14T22:13:40Z\""),
            ("x", "2.5"),
        ] {
            match self.below(3) {
                0 => {}
                1 => properties.push(format!("\"{name}\":{usual}")),
                _ => properties.push(format!("\"{name}\":{}", self.value())),
            }
        }
        let kind = match self.below(8) {
            0..3 => EventType::Identify,
            3 => EventType::Page,
            _ => EventType::Track,
        };
        let mut traits = Vec::new();
        if kind == EventType::Identify {
            for (name, usual) in [
                ("age", "3"),
                ("born", "\"2023-11-14T22:13:30Z\""),
                ("home", "{\"city\":\"red\"}"),
                ("plan", "\"pro\""),
                ("tags", "[\"x\",1]"),
                ("vip", "true"),
            ] {
                match self.below(5) {
                    0 => {}
                    1 => traits.push((name.to_owned(), String::new())),
                    2 | 3 => traits.push((name.to_owned(), usual.to_owned())),
                    _ => match self.value() {
                        "null" => traits.push((name.to_owned(), String::new())),
                        value => traits.push((name.to_owned(), value.to_owned())),
                    },
                }
            }
        }
        let consent = match self.below(4) {
            0 => "{\"context\":{\"consent\":{\"categoryPreferences\":{\"ads\":true}}}}",
            1 => "{\"context\":{\"consent\":{\"categoryPreferences\":{\"ads\":false,\"b\":true}}}}",
            2 => "{\"context\":{\"consent\":{\"categoryPreferences\":{\"ads\":\"yes\"}}}}",
            _ => "",
        };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.number().to_be_bytes());
        key[8..].copy_from_slice(&number.to_be_bytes());
        let revenue = self.one_in(4).then(|| self.of(&["1", "2.50", "-3", "0"]).parse::<Amount>().unwrap());
        Sent {
            kind,
            name: if kind == EventType::Identify {
                String::new()
            } else {
                self.of(&["A", "B", "C", "D"]).to_owned()
            },
            timestamp: self.time(),
            key,
            source: self.of(&["web", "app"]).to_owned(),
            message_id: format!("m{number}"),
            properties: if properties.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", properties.join(","))
            },
            context: consent.to_owned(),
            traits,
            currency: if revenue.is_some() { self.of(&["USD", "EUR"]).to_owned() } else { String::new() },
            revenue,
        }
    }
}
