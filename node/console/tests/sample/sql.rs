//! A statement with its rows, one that makes no sense, and none yet.

use isthmus_console::sql::{Column, Outcome, Refused, Rows, Sort, Sql, Table};

pub fn sql_unasked() -> Sql<'static> {
    let column = |name: &str, of: &str| (name.to_owned(), of.to_owned());
    let events = Table {
        name: "events".to_owned(),
        columns: vec![
            column("profile_id", "Utf8"),
            column("timestamp", "Timestamp(Microsecond, Some(\"UTC\"))"),
        ],
    };
    let nodes = Table { name: "system.nodes".to_owned(), columns: vec![column("node", "UInt32")] };
    Sql { tables: vec![events, nodes], ..Sql::default() }
}

pub fn sql_answered() -> Sql<'static> {
    let column = |name: &str, sort, values: &[Option<f64>]| Column {
        name: name.to_owned(),
        sort,
        values: values.to_vec(),
    };
    let row = |day: &str, seen: Option<&str>, note: Option<&str>| {
        vec![Some(day.to_owned()), seen.map(str::to_owned), note.map(str::to_owned)]
    };
    let rows = Rows {
        columns: vec![
            column("day", Sort::Time, &[Some(172_800.0), Some(86_400.0), Some(259_200.0)]),
            column("seen", Sort::Number, &[Some(7.0), Some(3.0), None]),
            column("note", Sort::Text, &[]),
        ],
        rows: vec![
            row("1970-01-03T00:00:00Z", Some("7"), Some("two\nlines")),
            row("1970-01-02T00:00:00Z", Some("3"), Some("")),
            row("1970-01-04T00:00:00Z", None, None),
        ],
        more: true,
        version: "000000000000001f".to_owned(),
        millis: 1_234,
    };
    let statement = "SELECT date_trunc('day', timestamp) AS day, count(*) AS seen\nFROM events GROUP BY day";
    Sql { statement, outcome: Some(Outcome::Rows(rows)), tables: Vec::new() }
}

pub fn sql_refused() -> Sql<'static> {
    let refused = Refused {
        message: "there is no column emial".to_owned(),
        reason: "BAD_QUERY".to_owned(),
        place: Some((2, 3)),
    };
    Sql {
        statement: "SELECT\n  emial FROM profiles",
        outcome: Some(Outcome::Refused(refused)),
        tables: Vec::new(),
    }
}
