//! What `isthmus ingest` reads, against a scripted node: compressed files, Parquet, folders, patterns, and the mappings
//! that it guesses.

mod common;
#[path = "common/run.rs"]
mod run;
#[path = "common/sending.rs"]
mod sending;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Stdio,
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
    },
    datatypes::{DataType, Field, Int32Type},
    record_batch::RecordBatch,
};
use common::Fake;
use isthmus_client::proto::{Event, IngestItem, ingest_item::Body, value::Kind};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use run::{Run, command, run};
use sending::{counts, folder, ingest, lines, text, write};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/");

fn gzip(plain: &str) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(plain.as_bytes()).expect("packs");
    out.finish().expect("packs")
}

fn zstd(plain: &str) -> Vec<u8> {
    zstd::encode_all(plain.as_bytes(), 1).expect("packs")
}

fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        // Several row groups, as large files have them.
        .set_max_row_group_row_count(Some(2))
        .build();
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
}

fn events(fake: &Fake) -> Vec<Event> {
    let state = fake.state();
    let events = state.batches.iter().flat_map(|batch| &batch.items).filter_map(|item| match &item.body {
        Some(Body::Event(event)) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

#[test]
fn compressed_files_are_the_plain_ones_however_they_come() {
    let (fake, folder) = (Fake::start(), folder());
    let plain = lines(1_000);
    let file = write(folder.path(), "events.jsonl", &plain);
    assert_eq!(counts(&ingest(&fake, &[text(&file)])), [1_000, 0, 0, 0]);
    // By extension, by first bytes, and from standard input: the same events.
    let (gz, zst) = (gzip(&plain), zstd(&plain));
    for (name, content) in [("events.jsonl.gz", &gz), ("events.jsonl.zst", &zst)] {
        let file = write(folder.path(), name, content);
        let run = ingest(&fake, &[text(&file)]);
        assert_eq!((run.code, counts(&run)), (Some(0), [0, 1_000, 0, 0]), "{}", run.stderr);
        let unsaid = write(folder.path(), "unsaid.jsonl", content);
        let run = ingest(&fake, &[text(&unsaid), "--dataset", "events.jsonl"]);
        assert_eq!((run.code, counts(&run)), (Some(0), [0, 1_000, 0, 0]), "{}", run.stderr);
        let endpoint = fake.endpoint();
        let args = ["ingest", "-", "--dataset", "events.jsonl", "--endpoint", &endpoint];
        let mut child = command(&args).stdin(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("piped").write_all(content).expect("taken");
        let run = Run::from(child.wait_with_output().expect("ends"));
        assert_eq!((run.code, counts(&run)), (Some(0), [0, 1_000, 0, 0]), "{}", run.stderr);
    }
    let origin = fake.state().batches.iter().any(|batch| batch.items[0].origin == "events.jsonl.gz:1");
    assert!(origin, "people look for a line in the file that they have");
    for (name, content) in [("cut.jsonl.gz", &gz), ("cut.jsonl.zst", &zst)] {
        let file = write(folder.path(), name, &content[..content.len() - 12]);
        let run = ingest(&fake, &[text(&file)]);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("{name}: behind line ")), "{}", run.stderr);
        assert!(run.stderr.contains("damaged or cut off"), "{}", run.stderr);
    }
}

#[test]
fn folders_and_patterns_are_sent_by_name_and_what_is_unknown_is_told() {
    let (fake, folder) = (Fake::start(), folder());
    let at = folder.path().join("exports");
    fs::create_dir_all(at.join("2024")).expect("folders");
    write(&at, "b.jsonl", lines(10));
    write(&at, "a.jsonl.gz", gzip(&lines(10)));
    write(&at, "2024/b.jsonl", lines(10));
    write(&at, "notes.md", "no data");
    let run = ingest(&fake, &[text(&at)]);
    assert_eq!((run.code, counts(&run)), (Some(0), [30, 0, 0, 0]), "{}", run.stderr);
    assert!(run.stderr.contains("notes.md: left out"), "{}", run.stderr);
    let origins: Vec<String> =
        fake.state().batches.iter().map(|batch| batch.items[0].origin.clone()).collect();
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(origins), ["2024/b.jsonl:1", "a.jsonl.gz:1", "b.jsonl:1"]);
    // The shell hasn't expanded it, and the files are those of before.
    let run = ingest(&fake, &[text(&at.join("*.jsonl*"))]);
    assert_eq!((run.code, counts(&run)), (Some(0), [0, 20, 0, 0]), "{}", run.stderr);
    let run = ingest(&fake, &[text(&at.join("b.jsonl")), text(&at.join("2024"))]);
    assert_eq!(run.code, Some(2), "two data sets of one name: {}", run.stderr);
}

/// Three orders with columns of all kinds.
fn orders(path: &Path) {
    let address = StructArray::from(vec![
        (
            Arc::new(Field::new("city", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("Ulm"), None, Some("Bonn")])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("zip", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(89073), Some(1), None])) as ArrayRef,
        ),
    ]);
    let sizes =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let total = Decimal128Array::from(vec![1_999, -1, 50]).with_precision_and_scale(12, 2).expect("fits");
    let at = TimestampMicrosecondArray::from(vec![1_700_000_000_123_456_i64, 0, 1_700_000_000_000_000]);
    parquet(
        path,
        vec![
            ("customer_id", Arc::new(Float64Array::from(vec![17.0, 18.0, 17.0]))),
            ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
            ("total", Arc::new(total)),
            ("ordered_at", Arc::new(at.clone())),
            ("sent_at", Arc::new(at.with_timezone("UTC"))),
            ("day", Arc::new(Date32Array::from(vec![19_000, -1, 0]))),
            ("gift", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("weight", Arc::new(Float32Array::from(vec![0.1, f32::NAN, f32::INFINITY]))),
            ("address", Arc::new(address)),
            ("sizes", Arc::new(sizes)),
            ("photo", Arc::new(BinaryArray::from_vec(vec![&b"a"[..], b"b", b"c"]))),
        ],
    );
}

const ORDERS: &str = r#"
type = "track"
event = "Order Completed"
timestamp = { column = "ordered_at", timezone = "Europe/Berlin" }
[identifiers]
user_id = "customer_id"
city = "address.city"
[properties]
revenue = { column = "total", type = "decimal" }
big = "big"
sent_at = "sent_at"
day = "day"
gift = "gift"
weight = "weight"
address = "address"
sizes = "sizes"
"#;

#[test]
fn rows_of_parquet_become_events_by_a_mapping_with_exact_values() {
    let (fake, folder) = (Fake::start(), folder());
    let file = folder.path().join("orders.parquet");
    orders(&file);
    let mapping = write(folder.path(), "orders.toml", ORDERS);
    let run = ingest(&fake, &[text(&file), "--mapping", text(&mapping)]);
    assert_eq!((run.code, counts(&run)), (Some(0), [3, 0, 0, 0]), "{}", run.stderr);
    let all = events(&fake);
    let first = &all[0];
    assert_eq!((first.user_id.as_str(), first.identifiers[0].value.as_str()), ("17", "Ulm"));
    let time = first.timestamp.expect("a time");
    assert_eq!((time.seconds, time.nanos), (1_700_000_000 - 3_600, 123_456_000), "by the clocks of Berlin");
    let property =
        |event: &Event, name: &str| event.properties.get(name).and_then(|value| value.kind.clone());
    assert_eq!(property(first, "revenue"), Some(Kind::StringValue("19.99".into())));
    assert_eq!(property(&all[1], "revenue"), Some(Kind::StringValue("-0.01".into())));
    assert_eq!(property(first, "big"), Some(Kind::UintValue(u64::MAX)));
    assert_eq!(property(first, "weight"), Some(Kind::DoubleValue(0.1)), "0.1 stays 0.1");
    assert_eq!(property(&all[1], "weight"), None, "NaN is nothing");
    assert_eq!(property(first, "day"), Some(Kind::StringValue("2022-01-08".into())));
    assert!(
        matches!(property(first, "sent_at"), Some(Kind::TimestampValue(time)) if time.seconds == 1_700_000_000)
    );
    assert_eq!((property(first, "gift"), property(&all[1], "gift")), (Some(Kind::BoolValue(true)), None));
    let address = |event: &Event| match property(event, "address") {
        Some(Kind::MapValue(map)) => map.fields.keys().cloned().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((address(first), address(&all[1])), (vec!["city".into(), "zip".into()], vec!["zip".into()]));
    assert!(matches!(property(first, "sizes"), Some(Kind::ListValue(list)) if list.values.len() == 2));
    // Again, and by another mapping: the rows are known.
    let other = write(folder.path(), "other.toml", ORDERS.replace("day = \"day\"\n", ""));
    assert_eq!(counts(&ingest(&fake, &[text(&file), "--mapping", text(&other)])), [0, 3, 0, 0]);
}

#[test]
fn what_parquet_can_not_say_is_refused_with_the_column() {
    let (fake, folder) = (Fake::start(), folder());
    let file = folder.path().join("orders.parquet");
    orders(&file);
    let photo = write(folder.path(), "photo.toml", ORDERS.replace("\"day\"", "\"photo\""));
    let none = write(folder.path(), "none.toml", ORDERS.replace("\"address.city\"", "\"address.street\""));
    let comma = write(folder.path(), "comma.toml", format!("delimiter = \",\"\n{ORDERS}"));
    let cut = write(folder.path(), "cut.parquet", &fs::read(&file).expect("reads")[..200]);
    let table: [(&Path, Option<&Path>, &str); 5] = [
        (&file, None, "column `photo` holds binary data"),
        (&file, Some(&photo), "column `photo` holds binary data"),
        (&file, Some(&none), "there is no column `address.street`; there are: customer_id, big"),
        (&file, Some(&comma), "line 1: `delimiter` goes with CSV alone"),
        (&cut, None, "cut.parquet: isn't a whole Parquet file"),
    ];
    for (file, mapping, part) in table {
        let mut args = vec![text(file)];
        args.extend(mapping.iter().flat_map(|mapping| ["--mapping", text(mapping)]));
        let run = ingest(&fake, &args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    // An infinite number in a column of numbers keeps its row back, and no other.
    let number = write(
        folder.path(),
        "number.toml",
        ORDERS.replace("\"weight\"", "{ column = \"weight\", type = \"number\" }"),
    );
    let run = ingest(&fake, &[text(&file), "--mapping", text(&number)]);
    assert_eq!((run.code, counts(&run)), (Some(3), [2, 0, 1, 0]), "{}", run.stderr);
    let state = fake.state();
    let kept = state.batches[0].items.iter().find_map(|item: &IngestItem| match &item.body {
        Some(Body::Unreadable(kept)) => Some((item.origin.as_str(), kept.problem.as_str())),
        _ => None,
    });
    assert_eq!(kept, Some(("orders.parquet:3", "column `weight` isn't a finite number")));
}

#[test]
fn parquet_whose_columns_are_an_events_fields_needs_no_mapping() {
    let (fake, folder) = (Fake::start(), folder());
    let file = folder.path().join("events.parquet");
    let names = |names: [&str; 3]| Arc::new(StringArray::from(names.to_vec())) as ArrayRef;
    let revenue = Decimal128Array::from(vec![1_000, 250, 1]).with_precision_and_scale(9, 3).expect("fits");
    let properties = StructArray::from(vec![(
        Arc::new(Field::new("revenue", DataType::Decimal128(9, 3), true)),
        Arc::new(revenue) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("type", names(["track"; 3])),
        ("event", names(["e", "e", "e"])),
        ("userId", Arc::new(StringArray::from(vec![Some("1"), None, Some("3")]))),
        ("properties", Arc::new(properties)),
    ];
    parquet(&file, columns);
    let run = ingest(&fake, &[text(&file)]);
    assert_eq!((run.code, counts(&run)), (Some(3), [2, 0, 1, 0]), "{}", run.stderr);
    assert!(run.stderr.contains("events.parquet:2: quarantined: NO_IDENTIFIER"), "{}", run.stderr);
    let state = fake.state();
    let Some(Body::Json(first)) = &state.batches[0].items[0].body else { panic!("not JSON") };
    let mut object: serde_json::Value = serde_json::from_slice(first).expect("JSON");
    assert_eq!(object["messageId"].take().as_str().map(str::len), Some(32));
    assert_eq!(object["properties"], serde_json::json!({ "revenue": "1.000" }));
}

/// Guesses a mapping for a file, keeps it, and sends the file by it.
fn inferred(fake: &Fake, folder: &Path, file: &Path) -> (String, Run) {
    let guess = run(&["ingest", "--infer", text(file)]);
    assert_eq!(guess.code, Some(0), "{}", guess.stderr);
    let mapping = write(folder, "guessed.toml", &guess.stdout);
    (guess.stdout, ingest(fake, &[text(file), "--mapping", text(&mapping)]))
}

#[test]
fn guessed_mappings_work_as_they_are_written() {
    let (fake, folder) = (Fake::start(), folder());
    let at = folder.path();
    // A part of the purchases, without a header, set apart by spaces.
    let purchases = fs::read_to_string(format!("{DATA}cdnow_sample.txt")).expect("ships with the tests");
    let purchases: String = purchases.split_inclusive('\n').take(300).collect();
    let file = write(at, "purchases.txt", &purchases);
    let (toml, run) = inferred(&fake, at, &file);
    assert_eq!((run.code, counts(&run)), (Some(0), [300, 0, 0, 0]), "{toml}{}", run.stderr);
    let cents: i64 = events(&fake)
        .iter()
        .map(|event| match &event.properties["revenue"].kind {
            Some(Kind::StringValue(text)) => text.replace('.', "").parse::<i64>().expect("cents"),
            other => panic!("{other:?}"),
        })
        .sum();
    let column = |line: &str| line.split_whitespace().last().map(|text| text.replace('.', ""));
    let expected: i64 =
        purchases.lines().filter_map(column).map(|text| text.parse::<i64>().expect("cents")).sum();
    assert_eq!(cents, expected);

    // People, one row each, with spaces in front of the columns' names, and packed.
    let people = fs::read_to_string(format!("{DATA}febrl/febrl1.csv")).expect("ships with the tests");
    let people: String = people.split_inclusive('\n').take(201).collect();
    let file = write(at, "people.csv.zst", zstd(&people));
    let (toml, run) = inferred(&fake, at, &file);
    assert_eq!((run.code, counts(&run)), (Some(0), [200, 0, 0, 0]), "{toml}{}", run.stderr);
    assert!(toml.contains("type = \"identify\"") && toml.contains("user_id = \"rec_id\""), "{toml}");

    let file = at.join("orders.parquet");
    orders(&file);
    let (toml, run) = inferred(&fake, at, &file);
    assert_eq!((run.code, counts(&run)), (Some(0), [3, 0, 0, 0]), "{toml}{}", run.stderr);
    assert!(toml.contains("left out: `photo` holds binary data"), "{toml}");

    let hooks = "{\"customer\":{\"id\":1,\"email\":\"a@b.de\"},\"order\":{\"sum\":1.10},\"at\":\"2024-01-01T00:00:00Z\"}\n";
    let file = write(at, "hooks.jsonl", hooks.repeat(3));
    let (toml, run) = inferred(&fake, at, &file);
    assert_eq!((run.code, counts(&run)), (Some(0), [3, 0, 0, 0]), "{toml}");
    assert!(toml.contains("user_id = \"customer.id\"") && toml.contains("timestamp = \"at\""), "{toml}");
}

#[test]
fn guesses_are_told_what_they_can_not_be_made_of() {
    let folder = folder();
    let segment = write(folder.path(), "events.jsonl", lines(3));
    let empty = write(folder.path(), "empty.csv", "");
    let odd = write(folder.path(), "odd.xyz", "a,b\n");
    for (file, code, part) in
        [(&segment, 1, "events as they are"), (&empty, 1, "nothing in it"), (&odd, 2, "--format")]
    {
        let run = run(&["ingest", "--infer", text(file)]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{}", run.stderr);
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    let csv = write(folder.path(), "a.csv", "user_id,x\n1,2\n");
    let run = run(&["ingest", "--infer", text(&csv), "--output", "json"]);
    assert!(run.object()["mapping"].as_str().is_some_and(|toml| toml.contains("user_id")), "{}", run.stdout);
}
