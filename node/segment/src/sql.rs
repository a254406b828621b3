//! A segment as SQL, for counting it anew from all events.
//!
//! [`members`] writes a query that gives the `profile_id` of each member at a cut. Points in time are microseconds since
//! the epoch as `BIGINT`, lengths of time likewise, so that nothing is left to a calendar; numbers are
//! `DECIMAL(76, 20)`.
//!
//! **Tables.** A row of an event has the `profile_id` of its profile at the cut.
//!
//! | column | what |
//! | --- | --- |
//! | `profiles.profile_id` | as everywhere |
//! | `profiles.first_seen`, `last_seen` | timestamps in microseconds; NULL without an event |
//! | `profiles.traits` | text: an object of all traits, as canonical JSON |
//! | `profiles.revenue_by_currency` | text: an object of sums by currency, as decimal texts |
//! | `events.profile_id`, `type`, `name`, `source`, `message_id` | as sent; `type` in lower case |
//! | `events.timestamp` | timestamp in microseconds |
//! | `events.event_key` | 16 bytes: the deduplication key, by which events of one time are ordered |
//! | `events.properties`, `context` | text: canonical JSON as in the event record, or NULL |
//!
//! **Functions** besides those of DataFusion. They read the value under the keys as [`crate::scalar`] says; each is
//! [`read`], whose answers they give in the type named:
//!
//! | function | gives |
//! | --- | --- |
//! | `isthmus_any(json, key, …)` | `BOOLEAN`: true where there is a value that is not null |
//! | `isthmus_boolean(json, key, …)` | `BOOLEAN` |
//! | `isthmus_number(json, key, …)` | `DECIMAL(76, 20)` |
//! | `isthmus_text(json, key, …)` | text |
//! | `isthmus_time(json, key, …)` | `BIGINT` |
//! | `isthmus_texts(json, key, …)` | a list of texts ([`read_texts`]) |
//! | `isthmus_multiply(a, b)`, `isthmus_divide(a, b)` | `DECIMAL(76, 20)`, rounded; the latter NULL by zero |
//!
//! **What differs.** SQL has no bounds: for profiles of which the live answer is `overflow`, the query answers all the
//! same, and they are left out of a comparison. A number with more than 20 digits after its point, or more than 56
//! before, doesn't fit SQL's.

use std::collections::BTreeMap;
use std::fmt::Write;

use isthmus_domain::{Amount, EventType};

use crate::{
    fault::Fault,
    plan::{Definition, Plan},
    scalar::{self, Scalar, Type},
    tree::{Aggregate, Events, Fact, Function, Kind, Node, Operator, Read, Sequence},
};

/// The longest query, in bytes: segments within segments are written out.
const QUERY_BYTES_MAX: usize = 1 << 20;

/// Reads the value under `keys` of a JSON text, as the SQL functions do; `None`: NULL.
pub fn read(json: &str, keys: &[String], ty: Type) -> Option<Scalar<'static>> {
    scalar::scalar_at(json.as_bytes(), keys, ty).map(Scalar::into_owned)
}

/// Reads the texts of the list under `keys` of a JSON text; `None`: it is no list.
pub fn read_texts(json: &str, keys: &[String]) -> Option<Vec<Scalar<'static>>> {
    scalar::texts_at(json.as_bytes(), keys)
}

/// The product as `isthmus_multiply` gives it, rounded.
pub fn multiply(a: &Amount, b: &Amount) -> Option<Amount> {
    scalar::product(a, b)
}

/// The quotient as `isthmus_divide` gives it, rounded; nothing for a divisor of zero.
pub fn divide(a: &Amount, b: &Amount) -> Option<Amount> {
    scalar::quotient(a, b)
}

/// The query for the members of a segment at a cut, microseconds since the epoch.
///
/// # Errors
/// The definition is no segment, or the query would be too long.
pub fn members(plan: &Plan, segment: &Definition, cut: i64) -> Result<String, Fault> {
    let at = || format!("segment {}", segment.name);
    if !segment.is_segment {
        return Err(Fault::of_part(at(), "this is a computed trait, not a segment"));
    }
    let mut writer = Writer {
        plan,
        cut,
        alias: String::new(),
        columns: Vec::new(),
        joins: Vec::new(),
        known: BTreeMap::new(),
        bytes: 0,
    };
    let condition = writer
        .node(&segment.tree)
        .ok_or_else(|| Fault::of_part(at(), "as SQL it is too long: let it build on fewer segments"))?;
    let mut out = String::from("SELECT p.profile_id\nFROM profiles p");
    if !writer.columns.is_empty() {
        let columns = writer.columns.join(",\n    ");
        let _ = write!(
            out,
            "\nLEFT JOIN (\n  SELECT profile_id,\n    {columns}\n  FROM events GROUP BY profile_id\n) e ON e.profile_id = \
             p.profile_id"
        );
    }
    for (index, join) in writer.joins.iter().enumerate() {
        let _ = write!(out, "\nLEFT JOIN (\n  {join}\n) j{index} ON j{index}.profile_id = p.profile_id");
    }
    // Of whom nothing was said is in no segment, whatever it asks.
    let _ = write!(out, "\nWHERE p.last_seen IS NOT NULL AND {condition}");
    Ok(out)
}

struct Writer<'a> {
    plan: &'a Plan,
    cut: i64,
    /// What stands in front of the columns of events.
    alias: String,
    /// Aggregates over the events of a profile: columns `e.c0`, `e.c1`, ….
    columns: Vec<String>,
    /// Subqueries with a row for some profiles, and a column `v`: `j0.v`, `j1.v`, ….
    joins: Vec<String>,
    /// What was written for a reading.
    known: BTreeMap<String, String>,
    /// What was written in all.
    bytes: usize,
}

/// A text as a constant.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn function_of(ty: Type) -> &'static str {
    match ty {
        Type::Any => "isthmus_any",
        Type::Boolean => "isthmus_boolean",
        Type::Number => "isthmus_number",
        Type::Time | Type::Interval => "isthmus_time",
        Type::Text => "isthmus_text",
        Type::List => "isthmus_texts",
    }
}

fn reading(ty: Type, json: &str, keys: &[String]) -> String {
    let keys: String = keys.iter().map(|key| format!(", {}", text(key))).collect();
    format!("{}({json}{keys})", function_of(ty))
}

impl Writer<'_> {
    /// An expression, in parentheses where it needs them; nothing when it is too long.
    fn node(&mut self, node: &Node) -> Option<String> {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        let written = match &node.kind {
            Kind::Null => "NULL".to_owned(),
            Kind::Literal(scalar) => match scalar {
                Scalar::Boolean(b) => b.to_string().to_uppercase(),
                Scalar::Number(n) => format!("CAST('{n}' AS DECIMAL(76, 20))"),
                Scalar::Time(t) | Scalar::Interval(t) => format!("CAST({t} AS BIGINT)"),
                Scalar::Text(words) => text(words),
            },
            Kind::Now => format!("CAST({} AS BIGINT)", self.cut),
            Kind::Read(read) => self.read(read, node.ty)?,
            Kind::Segment { index, .. } => {
                // The plan has put it in front, so this ends.
                let tree = self.plan.definitions().get(*index).map(|definition| definition.tree.clone())?;
                self.node(&tree)?
            }
            Kind::Not(of) => format!("(NOT {})", self.node(of)?),
            Kind::All(nodes) => format!("({})", self.list(nodes)?.join(" AND ")),
            Kind::AnyOf(nodes) => format!("({})", self.list(nodes)?.join(" OR ")),
            Kind::Compare { op, left, right } => {
                format!("({} {} {})", self.node(left)?, op.sql(), self.node(right)?)
            }
            Kind::Between { of, low, high, negated } => {
                let [of, low, high] = [self.node(of)?, self.node(low)?, self.node(high)?];
                format!("({of} {}BETWEEN {low} AND {high})", not(*negated))
            }
            Kind::In { of, among, negated } => {
                format!("({} {}IN ({}))", self.node(of)?, not(*negated), self.list(among)?.join(", "))
            }
            Kind::Is { of, truth, negated } => {
                let what = truth.map_or("NULL", |truth| if truth { "TRUE" } else { "FALSE" });
                format!("({} IS {}{what})", self.node(of)?, not(*negated))
            }
            Kind::Like { of, pattern, negated } => {
                let fold = if pattern.folds_case() { "I" } else { "" };
                format!("({} {}{fold}LIKE {})", self.node(of)?, not(*negated), text(pattern.text()))
            }
            Kind::Negative(of) => format!("(- {})", self.node(of)?),
            Kind::Arithmetic { op, left, right } => {
                let [left, right] = [self.node(left)?, self.node(right)?];
                match op {
                    Operator::Add => format!("({left} + {right})"),
                    Operator::Subtract => format!("({left} - {right})"),
                    Operator::Multiply => format!("isthmus_multiply({left}, {right})"),
                    Operator::Divide => format!("isthmus_divide({left}, {right})"),
                }
            }
            Kind::Coalesce(nodes) => format!("coalesce({})", self.list(nodes)?.join(", ")),
            Kind::Contains { list, item } => format!("array_has({}, {})", self.node(list)?, self.node(item)?),
        };
        self.bytes += written.len();
        (self.bytes <= QUERY_BYTES_MAX).then_some(written)
    }

    fn list(&mut self, nodes: &[Node]) -> Option<Vec<String>> {
        nodes.iter().map(|node| self.node(node)).collect()
    }

    fn read(&mut self, read: &Read, ty: Type) -> Option<String> {
        let micros = |column: &str| format!("CAST({column} AS BIGINT)");
        Some(match &read.fact {
            Fact::Property(path) => reading(ty, &format!("{}properties", self.alias), path.keys()),
            Fact::Trait { name, keys } => {
                let keys: Vec<String> = [name].into_iter().chain(keys).cloned().collect();
                reading(ty, "p.traits", &keys)
            }
            Fact::FirstSeen => micros("p.first_seen"),
            Fact::LastSeen => micros("p.last_seen"),
            Fact::Revenue(currency) => format!(
                "coalesce({}, CAST('0' AS DECIMAL(76, 20)))",
                reading(Type::Number, "p.revenue_by_currency", std::slice::from_ref(currency))
            ),
            Fact::Consent(purpose) => {
                let keys = ["context", "consent", "categoryPreferences", purpose].map(str::to_owned);
                let said = reading(Type::Boolean, "context", &keys);
                let last = "last_value({said} ORDER BY timestamp, source, message_id) FILTER (WHERE {said} IS NOT NULL)";
                self.column(last.replace("{said}", &said))
            }
            Fact::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Fact::Sequence(sequence) => {
                let join = self.sequence(sequence)?;
                format!("coalesce({}, FALSE)", self.join(join))
            }
        })
    }

    /// A column of the aggregates over events.
    fn column(&mut self, column: String) -> String {
        let index = self.columns.len();
        self.known
            .entry(column.clone())
            .or_insert_with(|| {
                self.columns.push(format!("{column} AS c{index}"));
                format!("e.c{index}")
            })
            .clone()
    }

    /// The column of a subquery.
    fn join(&mut self, join: String) -> String {
        let index = self.joins.len();
        self.known
            .entry(join.clone())
            .or_insert_with(|| {
                self.joins.push(join);
                format!("j{index}.v")
            })
            .clone()
    }

    /// Which events, with the columns of `alias`.
    fn events(&mut self, events: &Events, alias: &str) -> Option<String> {
        let mut all = Vec::new();
        if let Some(kind) = events.kind {
            all.push(format!("{alias}type = {}", text(EventType::name(kind))));
        }
        if !events.names.is_empty() {
            let names: Vec<String> = events.names.iter().map(|name| text(name)).collect();
            all.push(format!("{alias}name IN ({})", names.join(", ")));
        }
        if let Some(filter) = &events.filter {
            let before = std::mem::replace(&mut self.alias, alias.to_owned());
            let filter = self.node(filter);
            self.alias = before;
            all.push(filter?);
        }
        Some(if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") })
    }

    fn inside(&self, window: Option<i64>, alias: &str) -> String {
        window.map_or(String::new(), |window| {
            format!(" AND CAST({alias}timestamp AS BIGINT) > {}", self.cut.saturating_sub(window))
        })
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Option<String> {
        let which = self.events(&aggregate.events, "")? + &self.inside(aggregate.window, "");
        let keys = aggregate.of.as_ref().map_or(&[][..], |path| path.keys());
        let value = reading(aggregate.of_type, "properties", keys);
        let number = |n: String| format!("CAST({n} AS DECIMAL(76, 20))");
        let filter = format!("FILTER (WHERE {which})");
        let present = format!("FILTER (WHERE {which} AND {value} IS NOT NULL)");
        Some(match aggregate.function {
            Function::Count => {
                let count = self.column(format!("count(*) {filter}"));
                number(format!("coalesce({count}, 0)"))
            }
            Function::DistinctCount => {
                let count = self.column(format!("count(DISTINCT {value}) {filter}"));
                number(format!("coalesce({count}, 0)"))
            }
            Function::Sum => number(self.column(format!("sum({value}) {filter}"))),
            Function::Average => {
                let sum = number(self.column(format!("sum({value}) {filter}")));
                let count = number(self.column(format!("count({value}) {filter}")));
                format!("isthmus_divide({sum}, {count})")
            }
            Function::Min => self.column(format!("min({value}) {filter}")),
            Function::Max => self.column(format!("max({value}) {filter}")),
            Function::First => self.column(format!("first_value({value} ORDER BY timestamp, event_key) {present}")),
            Function::Last => self.column(format!("last_value({value} ORDER BY timestamp, event_key) {present}")),
            Function::MostFrequent => self.join(format!(
                "SELECT profile_id, v FROM (SELECT profile_id, v, row_number() OVER (PARTITION BY profile_id ORDER BY n \
                 DESC, v) AS r FROM (SELECT profile_id, {value} AS v, count(*) AS n FROM events WHERE {which} AND \
                 {value} IS NOT NULL GROUP BY profile_id, {value}) counted) ranked WHERE r = 1"
            )),
            Function::DistinctList => {
                let list = self.join(format!(
                    "SELECT profile_id, array_agg(v) AS v FROM (SELECT profile_id, v, row_number() OVER (PARTITION BY \
                     profile_id ORDER BY timestamp, event_key) AS r FROM (SELECT profile_id, {value} AS v, timestamp, \
                     event_key, row_number() OVER (PARTITION BY profile_id, {value} ORDER BY timestamp, event_key) AS \
                     o FROM events WHERE {which} AND {value} IS NOT NULL) firsts WHERE o = 1) ranked WHERE r <= {} \
                     GROUP BY profile_id",
                    aggregate.bound
                ));
                format!("coalesce({list}, make_array())")
            }
        })
    }

    fn sequence(&mut self, sequence: &Sequence) -> Option<String> {
        let time = |step: usize| format!("CAST(e{step}.timestamp AS BIGINT)");
        let mut steps = Vec::new();
        for (step, events) in sequence.steps.iter().enumerate() {
            steps.push(self.events(events, &format!("e{step}."))?);
        }
        let window = self.inside(sequence.window, "e0.");
        let last = steps.len() - 1;
        let end = format!("{} + {}", time(0), sequence.within);
        let mut from = String::from("events e0");
        let join = if sequence.without_last { "LEFT JOIN" } else { "JOIN" };
        for (step, which) in steps.iter().enumerate().skip(1) {
            let _ = write!(
                from,
                " {join} events e{step} ON e{step}.profile_id = e0.profile_id AND {} > {} AND {} <= {end} AND {which}",
                time(step),
                time(step - 1),
                time(step),
            );
        }
        let over = if sequence.without_last {
            format!(" AND {end} <= {} AND e{last}.profile_id IS NULL", self.cut)
        } else {
            String::new()
        };
        let first = steps.first()?;
        Some(format!("SELECT DISTINCT e0.profile_id, TRUE AS v FROM {from} WHERE {first}{window}{over}"))
    }
}
