//! Files read whole: what becomes of their lines, and the real purchase history against its known totals.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    message_id,
    proto::{Event, value::Kind},
};

const CDNOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/");

fn rows(text: &[u8], shape: Shape) -> Vec<Row> {
    let mut rows = Rows::open(text, &shape, "f.x", "f.x").expect("opens");
    let mut found = Vec::new();
    while let Some(row) = rows.next_row().expect("reads") {
        found.push(row);
    }
    assert_eq!(rows.consumed(), text.len() as u64);
    found
}

/// Hands out a few bytes at a time.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(self.1).min(out.len());
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn csv(mapping: &str) -> Shape {
    Shape::Csv(Mapping::parse(mapping).expect("a sound mapping"))
}

fn event(row: &Row) -> &Event {
    match &row.item.body {
        Some(Body::Event(event)) => event,
        other => panic!("not an event: {other:?}"),
    }
}

fn problem(row: &Row) -> &str {
    match &row.item.body {
        Some(Body::Unreadable(item)) => &item.problem,
        other => panic!("readable: {other:?}"),
    }
}

fn json(row: &Row) -> &[u8] {
    match &row.item.body {
        Some(Body::Json(text)) => text,
        other => panic!("not JSON: {other:?}"),
    }
}

const PEOPLE: &str = r#"
type = "identify"
timestamp = "seen"
[identifiers]
user_id = "id"
email = "mail"
[traits]
name = "name"
age = { column = "age", type = "integer" }
"#;

#[test]
fn json_lines_go_out_as_they_are_with_an_id() {
    let text = b"{\"a\":1}\n\n \t\r\n{\"messageId\":\"m\"}\r\nnot json\n{\"a\":1}";
    let rows = rows(text, Shape::JsonLines);
    let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [1, 4, 5, 6]);
    assert_eq!(json(&rows[1]), b"{\"messageId\":\"m\"}");
    assert_eq!(json(&rows[2]), b"not json");
    assert_eq!(rows[2].item.origin, "f.x:5");
    let id = message_id::of_row("f.x", 1, b"{\"a\":1}");
    assert_eq!(json(&rows[0]), format!("{{\"messageId\":\"{id}\",\"a\":1}}").as_bytes());
    assert_ne!(json(&rows[0]), json(&rows[3]), "a repeat on another line is an event of its own");
}

#[test]
fn the_same_file_gives_the_same_ids_and_may_grow() {
    let first = rows(b"{\"a\":1}\n{\"a\":1}\n", Shape::JsonLines);
    let grown = rows(b"{\"a\":1}\n{\"a\":1}\n{\"a\":2}\n", Shape::JsonLines);
    assert_eq!(first[..], grown[..2]);
}

#[test]
fn lines_that_are_no_text_or_too_long_are_kept_for_quarantine() {
    let mut text = b"{\"a\":\"\xff\"}\n".to_vec();
    text.extend(vec![b'x'; ITEM_BYTES_MAX + 1]);
    text.push(b'\n');
    text.extend(vec![b'x'; 600_000]);
    text.extend(b"\n{}\n");
    let mut tight = b"{\"a\":\"".to_vec();
    tight.resize(ITEM_BYTES_MAX - 2, b'x');
    tight.extend(b"\"}");
    text.extend(&tight);
    let rows = rows(&text, Shape::JsonLines);
    assert!(problem(&rows[0]).contains("byte 7"));
    for (row, length) in [(&rows[1], "32769"), (&rows[2], "600000")] {
        assert!(problem(row).contains(length));
        let Some(Body::Unreadable(item)) = &row.item.body else { unreachable!("checked above") };
        assert_eq!(item.content.len(), ITEM_BYTES_MAX);
    }
    assert_eq!((rows[3].line, rows[4].line), (4, 5));
    assert!(json(&rows[3]).starts_with(b"{\"messageId\""));
    assert!(problem(&rows[4]).contains("message id"));
}

#[test]
fn a_table_becomes_events_with_typed_values() {
    let text = "id,mail, name ,age,seen\n7,a@b.de,\"Doe, \"\"J\"\"\",41,2024-01-01T00:00:00Z\n,a@b.de,,,2024-01-02\n";
    let rows = rows(text.as_bytes(), csv(PEOPLE));
    let first = event(&rows[0]);
    assert_eq!((first.user_id.as_str(), first.identifiers[0].value.as_str()), ("7", "a@b.de"));
    assert_eq!(first.traits["name"].kind, Some(Kind::StringValue("Doe, \"J\"".into())));
    assert_eq!(first.traits["age"].kind, Some(Kind::IntValue(41)));
    assert_eq!(first.timestamp.map(|time| time.seconds), Some(1_704_067_200));
    assert_eq!(first.message_id.len(), 32);
    let second = event(&rows[1]);
    assert_eq!((second.user_id.as_str(), second.traits.len()), ("", 0));
    assert_eq!(rows[1].item.origin, "f.x:3");
}

#[test]
fn rows_that_do_not_fit_say_why_and_the_others_go_in() {
    let text = b"id,mail,name,age,seen\n1,,,x,2024-01-01\n2,,,1,soon\n3,,,1\n4,,,1,\n5,\"open,,1,2024-01-01\n6,\xff,,1,2024-01-01\n7,,,1,2024-01-01\n";
    let rows = rows(text, csv(PEOPLE));
    let parts = ["`age`", "`seen`", "4 columns instead of 5", "`seen`", "quoted_newlines", "UTF-8"];
    for (row, part) in rows.iter().zip(parts) {
        assert!(problem(row).contains(part), "{part}: {}", problem(row));
    }
    assert_eq!(event(&rows[6]).user_id, "7");
    assert_eq!(rows[6].line, 8);
}

#[test]
fn quoted_fields_may_hold_line_ends_when_the_mapping_says_so() {
    let mapping = format!("quoted_newlines = true\n{PEOPLE}");
    let text = "id,mail,name,age,seen\n1,,\"a\n\nb\",1,2024-01-01\n2,,c,1,2024-01-01\n3,,\"never closed\n";
    let rows = rows(text.as_bytes(), csv(&mapping));
    assert_eq!(event(&rows[0]).traits["name"].kind, Some(Kind::StringValue("a\n\nb".into())));
    assert_eq!((rows[0].line, rows[1].line), (2, 5));
    assert!(problem(&rows[2]).contains("before the file ends"));
}

#[test]
fn a_mapping_that_does_not_fit_the_header_names_its_line() {
    let shape = csv(PEOPLE);
    let Err(OpenError::Mapping(error)) = Rows::open(&b"id,mail,age,seen\n"[..], &shape, "f", "f") else {
        panic!("opened")
    };
    assert_eq!(error.line, 8);
    assert!(error.problem.contains("`name`") && error.problem.contains("id, mail, age, seen"));
    let Err(OpenError::Mapping(error)) = Rows::open(&b"id,id,mail,name,age,seen\n"[..], &shape, "f", "f")
    else {
        panic!("opened")
    };
    assert_eq!((error.line, error.problem.contains("several")), (5, true));
}

#[test]
fn the_purchase_history_has_its_known_totals() {
    let text = std::fs::read(format!("{CDNOW}cdnow_sample.txt")).expect("ships with the tests");
    let mapping = std::fs::read_to_string(format!("{CDNOW}cdnow.toml")).expect("ships with the tests");
    let rows = rows(&text, csv(&mapping));
    let (mut cents, mut discs) = (0_i64, 0_i64);
    let (mut orders, mut ids) = (BTreeMap::<&str, u32>::new(), BTreeSet::new());
    for row in &rows {
        let event = event(row);
        assert_eq!(
            (event.r#type(), event.name.as_str()),
            (crate::proto::EventType::Track, "Order Completed")
        );
        let Some(Kind::StringValue(revenue)) = &event.properties["revenue"].kind else {
            panic!("revenue is a decimal")
        };
        let (dollars, fraction) = revenue.split_once('.').expect("has cents");
        assert_eq!(fraction.len(), 2);
        cents += dollars.parse::<i64>().expect("dollars") * 100 + fraction.parse::<i64>().expect("cents");
        let Some(Kind::IntValue(quantity)) = event.properties["quantity"].kind else {
            panic!("quantity is an integer")
        };
        discs += quantity;
        *orders.entry(event.user_id.as_str()).or_default() += 1;
        assert!(ids.insert(event.message_id.clone()), "every row is an event of its own");
    }
    assert_eq!((rows.len(), discs, cents, orders.len()), (6_919, 16_479, 24_409_194, 2_357));
    assert_eq!((orders["1901"], orders["2149"]), (56, 49));
    assert_eq!(orders.values().filter(|&&count| count == 1).count(), 1_205);
    assert_eq!(event(&rows[0]).timestamp.map(|time| time.seconds), Some(852_076_800));
}

proptest! {
    #[test]
    fn every_line_that_is_not_blank_becomes_one_row(
        lines in prop::collection::vec(prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b','), Just(b'"'), Just(b'{'), Just(b'}'), Just(b' '), Just(b'\\'),
        ], 0..40), 0..12),
    ) {
        let lines: Vec<Vec<u8>> =
            lines.into_iter().map(|line| line.into_iter().filter(|&byte| byte != b'\n').collect()).collect();
        let text = lines.join(&b'\n');
        // A byte-order mark before the first line is not part of it.
        prop_assume!(!text.starts_with(b"\xef\xbb\xbf"));
        let expected: Vec<u64> = (1_u64..)
            .zip(&lines)
            .filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace))
            .map(|(number, _)| number)
            .collect();
        let columns = format!("has_header = false\ncolumns = [\"id\", \"mail\", \"name\", \"age\", \"seen\"]\n{PEOPLE}");
        for shape in [Shape::JsonLines, csv(&columns), csv(&format!("delimiter = \"whitespace\"\n{columns}"))] {
            let found: Vec<u64> = rows(&text, shape).iter().map(|row| row.line).collect();
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn any_mapping_is_read_or_refused(text in "(type|event|=|\\[identifiers\\]|\\{|\\}|\"|\n| |.){0,40}") {
        let _ = Mapping::parse(&text);
    }

    #[test]
    fn any_chunking_gives_the_same_rows_and_any_row_can_be_gone_on_behind(
        text in "((\\{\"id\":[0-9],\"mail\":\"[a-z]\"\\}|[0-9],[a-z\"],,1,2024-01-01|\"|,|\\{|é| )?(\n|\r\n)){0,12}[0-9]?",
        step in 1_usize..9,
        stop in 0_usize..12,
    ) {
        let columns = "has_header = false\ncolumns = [\"id\", \"mail\", \"name\", \"age\", \"seen\"]\nquoted_newlines = true\n";
        let by_keys = "type = \"identify\"\n[identifiers]\nuser_id = \"id\"\n[traits]\nmail = \"mail\"\n";
        let mapping = Mapping::parse(by_keys).expect("sound");
        for shape in [Shape::JsonLines, Shape::Objects(mapping.clone()), csv(&format!("{columns}{PEOPLE}"))] {
            let whole = rows(text.as_bytes(), shape.clone());
            let mut dribbled = Rows::open(Dribble(text.as_bytes(), step), &shape, "f.x", "f.x").expect("opens");
            let mut found = Vec::new();
            let mut marks = vec![dribbled.mark()];
            while let Some(row) = dribbled.next_row().expect("reads") {
                found.push(row);
                marks.push(dribbled.mark());
            }
            prop_assert_eq!(&found, &whole);
            let stop = stop.min(found.len());
            let mut on = Rows::open(text.as_bytes(), &shape, "f.x", "f.x").expect("opens");
            prop_assert!(on.skip(&marks[stop]).expect("reads"));
            let mut rest = Vec::new();
            while let Some(row) = on.next_row().expect("reads") {
                rest.push(row);
            }
            prop_assert_eq!(&rest[..], &whole[stop..]);
        }
    }

    #[test]
    fn a_changed_line_is_noticed_by_whoever_goes_on_behind_it(
        count in 1_usize..20,
        at in any::<prop::sample::Index>(),
    ) {
        let text: String = (0..count).map(|n| format!("{{\"a\":{n}}}\n")).collect();
        let mut rows = Rows::open(text.as_bytes(), &Shape::JsonLines, "f", "f").expect("opens");
        while rows.next_row().expect("reads").is_some() {}
        let mark = rows.mark();
        let mut changed = text.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
        let mut rows = Rows::open(&changed[..], &Shape::JsonLines, "f", "f").expect("opens");
        prop_assert!(!rows.skip(&mark).expect("reads"));
        let mut rows = Rows::open(text.as_bytes(), &Shape::JsonLines, "f", "f").expect("opens");
        prop_assert!(rows.skip(&mark).expect("reads"));
    }
}
