//! `isthmus sql` against a scripted node: what it prints in each format, and how it ends.

mod common;
#[path = "common/run.rs"]
mod run;

use std::{fs::File, io::Write as _, process::Stdio};

use common::{Fake, Step, query::Answer, refusal};
use isthmus_client::proto::{QueryFormat, value::Kind};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use run::{Run, command, run};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Runs against a fake that answers as told.
fn sql(answers: impl IntoIterator<Item = Answer>, args: &[&str]) -> (Fake, Run) {
    let fake = Fake::start();
    fake.state().answers.extend(answers);
    let endpoint = fake.endpoint();
    let printed = run(&[&["sql", "--endpoint", &endpoint], args].concat());
    (fake, printed)
}

#[test]
fn a_table_is_for_people_and_the_cut_goes_to_standard_error() {
    let (_fake, printed) = sql([Answer::difficult()], &["SELECT 1"]);
    let table = "\
name                          seen                   big  at
Müller, \"A\"   9223372036854775807  18446744073709551615  1997-01-01T00:00:00.000500Z
                                -5                     0  NULL
NULL                          NULL                  NULL  1970-01-01T00:00:00Z
(3 rows)
";
    let words = |text: &str| {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(words(&printed.stdout), words(table), "{}", printed.stdout);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), "cut: 000000000000001f\n"));
}

#[test]
fn csv_and_json_are_for_programs() {
    let (_fake, printed) = sql([Answer::difficult()], &["SELECT 1", "--output", "csv"]);
    let expected = "\
name,seen,big,at
\"Müller, \"\"A\"\"\",9223372036854775807,18446744073709551615,1997-01-01T00:00:00.000500Z
\"\",-5,0,
,,,1970-01-01T00:00:00Z
";
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), expected));
    let (fake, printed) = sql([Answer::difficult()], &["SELECT 1", "--output", "json"]);
    assert_eq!(printed.stdout.lines().collect::<Vec<_>>(), Answer::difficult().rows);
    assert_eq!(fake.state().queries[0].format(), QueryFormat::Json);
}

#[test]
fn parquet_goes_to_a_file_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let to = path.to_str().unwrap();
    let args = ["SELECT 1", "--output", "parquet", "--to", to];
    let cut = refusal(Code::ResourceExhausted, "QUERY_LIMIT", "too many rows");
    let (_fake, printed) = sql([Answer { end: Some(cut), ..Answer::difficult() }], &args);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(printed.stderr.contains("QUERY_LIMIT"), "{}", printed.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing that is half stays");
    let (_fake, printed) = sql([Answer::difficult()], &args);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), ""));
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(batches, [Answer::difficult().batch]);
}

#[test]
fn what_makes_no_sense_is_shown_with_its_place() {
    let fake = Fake::start();
    let place = [("line", "2"), ("column", "8")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let details = ErrorDetails::with_error_info("BAD_QUERY", "isthmus.v1", place);
    fake.script([Step::Fail(Status::with_error_details(Code::InvalidArgument, "no column emial", details))]);
    let printed =
        run(&["sql", "\n-- the customers\nSELECT emial FROM profiles", "--endpoint", &fake.endpoint()]);
    let shown = "\
error: BAD_QUERY: no column emial
  line 2: SELECT emial FROM profiles
                 ^
";
    assert_eq!((printed.code, printed.stdout.as_str(), printed.stderr.as_str()), (Some(1), "", shown));
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    let gone = || Some(refusal(Code::Unavailable, "UNAVAILABLE", "a node has gone"));
    let (_fake, printed) =
        sql([Answer { end: gone(), ..Answer::difficult() }], &["SELECT 1", "--output", "json"]);
    assert_eq!((printed.code, printed.stdout.lines().count()), (Some(1), 3));
    assert!(printed.stderr.contains("UNAVAILABLE"), "{}", printed.stderr);
}

#[test]
fn a_plan_is_printed_over_its_lines() {
    let (_fake, printed) = sql([Answer::plan()], &["EXPLAIN ANALYZE SELECT 1"]);
    let shown = "\
logical_plan
  Projection: 1
    Empty
Plan with Metrics
  Scan, metrics=[rows=1]\\u{1b}
(2 rows)
";
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), shown));
}

#[test]
fn statements_come_from_files_and_standard_input_and_parameters_have_their_kinds() {
    let fake = Fake::start();
    fake.state().answers.extend([Answer::plan(), Answer::plan()]);
    let endpoint = fake.endpoint();
    let args = ["sql", "--endpoint", &endpoint, "--parameter", "Seen", "-p", "-5", "--timeout", "7s"];
    let mut child = command(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT ';'; -- none\nSELECT $1, $2").unwrap();
    let printed = Run::from(child.wait_with_output().unwrap());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let state = fake.state();
    let asked: Vec<&str> = state.queries.iter().map(|query| query.sql.as_str()).collect();
    assert_eq!(asked, ["SELECT ';'", "-- none\nSELECT $1, $2"]);
    let kinds = state.queries[1].parameters.iter().map(|one| one.value.clone().unwrap().kind.unwrap());
    assert_eq!(kinds.collect::<Vec<_>>(), [Kind::StringValue("Seen".into()), Kind::IntValue(-5)]);
}

#[test]
fn what_can_not_be_meant_is_a_usage_error() {
    for args in [
        &["SELECT 1", "--output", "parquet"][..],
        &["SELECT 1", "--to", "a.parquet"],
        &["SELECT 1; SELECT 2", "--output", "parquet", "--to", "a.parquet"],
        &[" -- nothing\n"],
        &["SELECT 1", "--file", "a.sql"],
    ] {
        let (fake, printed) = sql([], args);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(fake.state().calls.is_empty(), "{args:?}");
    }
    let printed = run(&["cluster", "status", "--output", "csv"]);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
}
