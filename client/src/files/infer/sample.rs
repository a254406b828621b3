//! The first rows of a file, column by column.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use super::{
    super::{
        ITEM_BYTES_MAX, Lines,
        columnar::Table,
        objects::Object,
        record::{Cell, Record as _},
        split::{Delimiter, Progress, Splitter},
        text::{is_blank, problem_of},
    },
    InferError, SAMPLE_ROWS_MAX,
};

/// So much text is looked at.
const SAMPLE_BYTES_MAX: u64 = 16 << 20;
/// So many lines tell how fields are separated.
const DELIMITER_LINES: usize = 100;
/// So many columns are looked at.
const COLUMNS_MAX: usize = 512;
/// How deep keys in JSON objects are looked at.
const DEPTH_MAX: usize = 4;

/// What CSV is like.
#[derive(Debug, Clone)]
pub(super) struct CsvShape {
    pub(super) delimiter: &'static str,
    pub(super) has_header: bool,
    /// Whether the mapping has to name the columns, because the header doesn't do so clearly.
    pub(super) names_needed: bool,
    pub(super) quoted_newlines: bool,
    /// Rows with another number of columns.
    pub(super) ragged: usize,
}

/// A column's values.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) name: String,
    /// Empty text where there is nothing.
    pub(super) values: Vec<String>,
    /// Whether values have types of their own: not in CSV.
    pub(super) typed: bool,
    /// Whether it lies within an object.
    pub(super) inner: bool,
    /// Whether it holds lists or objects.
    pub(super) nested: bool,
    /// Why it can't be read, if it can't.
    pub(super) refused: Option<&'static str>,
}

/// The first rows of a file.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) csv: Option<CsvShape>,
    pub(super) columns: Vec<Values>,
    pub(super) rows: usize,
    /// Whether there are more rows.
    pub(super) more: bool,
}

impl Sample {
    fn of(csv: Option<CsvShape>, columns: Vec<Values>, rows: usize, more: bool) -> Self {
        Self { csv, columns, rows, more }
    }

    /// Whether the rows are events in Segment's shape.
    pub(super) fn is_events(&self) -> bool {
        let column = |name: &str| self.columns.iter().find(|column| column.name == name);
        let types = ["identify", "track", "page", "screen", "group", "alias"];
        let has_types = column("type").is_some_and(|column| {
            column.values.iter().filter(|value| types.contains(&value.as_str())).count() * 10 >= self.rows * 9
        });
        let named =
            ["userId", "anonymousId", "user_id", "anonymous_id"].iter().any(|name| column(name).is_some());
        self.csv.is_none() && has_types && named
    }
}

/// What is read of a file, so that no sample grows beyond bounds.
fn bounded(input: impl Read) -> Lines<impl Read> {
    Lines::new(input.take(SAMPLE_BYTES_MAX))
}

/// Reads CSV: finds the delimiter, then whether there is a header.
pub(super) fn csv(input: impl Read) -> Result<Sample, InferError> {
    let (lines, mut more) = all_lines(input)?;
    let head: Vec<&[u8]> = lines.iter().take(DELIMITER_LINES).map(Vec::as_slice).collect();
    let (delimiter, written) = delimiter(&head);
    let (mut records, quoted_newlines) = records(&lines, delimiter);
    more |= records.len() > SAMPLE_ROWS_MAX;
    records.truncate(SAMPLE_ROWS_MAX + 1);
    let Some(first) = records.first().cloned() else { return Err(InferError::Empty("it has no rows")) };
    let has_header = is_header(&first, &records[1..]);
    let (names, names_needed) = names(&first, has_header);
    let body = &records[usize::from(has_header)..];
    let whole: Vec<&Vec<String>> = body.iter().filter(|record| record.len() == names.len()).collect();
    let column = |(index, name): (usize, &String)| Values {
        name: name.clone(),
        values: whole.iter().map(|record| record[index].clone()).collect(),
        typed: false,
        inner: false,
        nested: false,
        refused: None,
    };
    let columns = names.iter().enumerate().map(column).collect();
    let ragged = body.len() - whole.len();
    let csv = CsvShape { delimiter: written, has_header, names_needed, quoted_newlines, ragged };
    Ok(Sample::of(Some(csv), columns, whole.len(), more))
}

/// Lines of the sample that are text and not blank, and whether there are more behind it.
fn all_lines(input: impl Read) -> io::Result<(Vec<Vec<u8>>, bool)> {
    let mut lines = bounded(input);
    let mut all = Vec::new();
    while let Some(line) = lines.next_line()? {
        if !is_blank(&line) && problem_of(&line).is_none() {
            all.push(line.bytes.to_vec());
        }
    }
    let cut = lines.consumed() >= SAMPLE_BYTES_MAX;
    if cut {
        // The last one may be cut off in the middle.
        all.pop();
    }
    Ok((all, cut))
}

/// The delimiter under which most lines have the same number of fields, and how the mapping writes it.
fn delimiter(lines: &[&[u8]]) -> (Delimiter, &'static str) {
    let candidates = [(b',', ","), (b';', ";"), (b'\t', "\t"), (b'|', "|")];
    let candidates = candidates.map(|(byte, written)| (Delimiter::Byte(byte), written));
    let fit = |&(delimiter, written): &(Delimiter, &'static str)| {
        let mut counts = BTreeMap::<usize, usize>::new();
        let mut splitter = Splitter::new(delimiter);
        for line in lines {
            splitter.begin();
            if splitter.feed(line) == Ok(Progress::Whole) {
                *counts.entry(splitter.count()).or_default() += 1;
            }
        }
        let (fields, agreeing) = counts.into_iter().max_by_key(|&(_, agreeing)| agreeing).unwrap_or((0, 0));
        (fields > 1).then_some((agreeing, fields, delimiter, written))
    };
    let best = candidates.iter().filter_map(fit).max_by_key(|&(agreeing, fields, ..)| (agreeing, fields));
    match best {
        Some((agreeing, _, delimiter, written)) if agreeing * 2 > lines.len() => (delimiter, written),
        _ => match fit(&(Delimiter::Whitespace, "whitespace")) {
            Some((agreeing, ..)) if agreeing * 10 >= lines.len() * 9 => (Delimiter::Whitespace, "whitespace"),
            _ => (Delimiter::Byte(b','), ","),
        },
    }
}

/// Lines as records, and whether quoted fields go over several lines.
fn records(lines: &[Vec<u8>], delimiter: Delimiter) -> (Vec<Vec<String>>, bool) {
    let mut splitter = Splitter::new(delimiter);
    let (mut records, mut quoted_newlines, mut at) = (Vec::new(), false, 0);
    while let Some(line) = lines.get(at) {
        splitter.begin();
        let (mut bytes, mut progress, mut used) = (line.len(), splitter.feed(line), 1);
        while progress == Ok(Progress::Open)
            && bytes <= ITEM_BYTES_MAX
            && let Some(line) = lines.get(at + used)
        {
            (bytes, progress, used) = (bytes + line.len(), splitter.feed(line), used + 1);
        }
        if progress == Ok(Progress::Whole) {
            records.push(
                (0..splitter.count()).map(|index| splitter.field(index).unwrap_or("").to_owned()).collect(),
            );
            quoted_newlines |= used > 1;
            at += used;
        } else {
            // A quote that is never closed spoils its own line alone.
            at += 1;
        }
    }
    (records, quoted_newlines)
}

/// Whether the first record names the columns: nothing in it looks like a value, unless all columns are text.
fn is_header(first: &[String], others: &[Vec<String>]) -> bool {
    let is_value = |cell: &str| {
        cell.parse::<f64>().is_ok() || cell.contains('@') || cell.starts_with(|c: char| c.is_ascii_digit())
    };
    if first.iter().any(|cell| is_value(cell)) || first.iter().all(String::is_empty) {
        return false;
    }
    // A name stands in no row below.
    let repeated = |(index, cell): (usize, &String)| {
        !cell.is_empty() && others.iter().any(|record| record.get(index) == Some(cell))
    };
    !first.iter().enumerate().any(repeated)
}

/// Names for all columns, and whether the header has others.
fn names(first: &[String], has_header: bool) -> (Vec<String>, bool) {
    let mut names: Vec<String> = Vec::new();
    for (index, cell) in first.iter().enumerate() {
        let name =
            if has_header && !cell.is_empty() { cell.clone() } else { format!("column_{}", index + 1) };
        let unique = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}_{n}") });
        names.extend(unique.into_iter().find(|name| !names.contains(name)));
    }
    let needed = names.iter().ne(first);
    (names, needed)
}

/// Reads JSON lines; keys within objects are columns of their own, named by their path.
pub(super) fn json_lines(input: impl Read) -> Result<Sample, InferError> {
    let (lines, mut more) = all_lines(input)?;
    more |= lines.len() > SAMPLE_ROWS_MAX;
    let mut columns: Vec<Values> = Vec::new();
    let mut places = BTreeMap::<String, usize>::new();
    let mut rows = 0;
    for line in lines.iter().take(SAMPLE_ROWS_MAX) {
        let Ok(tree) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) else {
            continue;
        };
        let mut paths = Vec::new();
        for (key, value) in &tree {
            collect_paths(key, value, 1, &mut paths);
        }
        let names: Vec<String> = paths.iter().map(|(path, ..)| path.clone()).collect();
        // Read as ingest reads it, digits and all.
        let Ok(object) = Object::read(line, &names) else { continue };
        for (number, (path, inner, nested)) in paths.into_iter().enumerate() {
            let place = match places.get(&path) {
                Some(&place) => place,
                None if columns.len() == COLUMNS_MAX => continue,
                None => {
                    places.insert(path.clone(), columns.len());
                    let values = vec![String::new(); rows];
                    columns.push(Values { name: path, values, typed: true, inner, nested, refused: None });
                    columns.len() - 1
                }
            };
            let column = &mut columns[place];
            column.nested |= nested;
            column.values.resize(rows, String::new());
            column.values.push(shown(object.cell(number)));
        }
        rows += 1;
    }
    for column in &mut columns {
        column.values.resize(rows, String::new());
    }
    Ok(Sample::of(None, columns, rows, more))
}

/// The paths to a value and to what is in it: each with whether it lies in an object, and whether it holds more.
fn collect_paths(path: &str, value: &serde_json::Value, depth: usize, paths: &mut Vec<(String, bool, bool)>) {
    let nested = value.is_object() || value.is_array();
    paths.push((path.to_owned(), depth > 1, nested));
    if let Some(fields) = value.as_object().filter(|_| depth < DEPTH_MAX) {
        for (key, value) in fields {
            collect_paths(&format!("{path}.{key}"), value, depth + 1, paths);
        }
    }
}

/// A cell as text; what isn't text is there, and not empty.
fn shown(cell: Result<Cell<'_>, &'static str>) -> String {
    match cell {
        Ok(Cell::Typed(_, None)) => "{}".to_owned(),
        Ok(cell) => cell.into_text().unwrap_or_default().into_owned(),
        Err(_) => String::new(),
    }
}

/// Reads Parquet.
pub(super) fn parquet(input: File) -> Result<Sample, InferError> {
    let mut table = Table::open(input)?;
    let mut named = table.columns();
    named.truncate(COLUMNS_MAX);
    let total = table.rows();
    let is_parent = |name: &str| named.iter().any(|other| other.name.starts_with(&format!("{name}.")));
    let mut columns: Vec<Values> = Vec::new();
    for column in &named {
        columns.push(Values {
            name: column.name.clone(),
            values: Vec::new(),
            typed: true,
            inner: column.is_inner(),
            nested: is_parent(&column.name),
            refused: column.refused,
        });
    }
    let mut rows = 0;
    while rows < SAMPLE_ROWS_MAX
        && let Some(row) = table.next_row()?
    {
        let row = row.of(&named);
        for (number, column) in columns.iter_mut().enumerate() {
            let cell = row.cell(number);
            column.nested |= matches!(cell, Ok(Cell::Typed(_, None)));
            column.values.push(shown(cell));
        }
        rows += 1;
    }
    Ok(Sample::of(None, columns, rows, total > rows as u64))
}
