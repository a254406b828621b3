//! `isthmus ingest --infer FILE`: a first mapping, on standard output.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::json;

use super::{
    FileFormat, IngestCommand,
    files::format,
    find::{Found, find},
};
use crate::{
    cli::{
        failure::{Done, Failure},
        output::{Output, complain},
    },
    files::{
        Compression, Mapping, Rows, Shape,
        infer::{self, Inferred},
        unpacked,
    },
    proto::ingest_item::Body,
};

/// Reads a sample, prints the mapping, and says what it would make of the sample.
pub fn run(command: &IngestCommand, output: &mut Output) -> Result<Done, Failure> {
    let mut found = find(&command.files, command.format)?.files;
    let (Some(found), true) = (found.pop(), found.is_empty()) else {
        return Err(Failure::Usage("--infer looks at one file: name one that is like the others".to_owned()));
    };
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", found.name));
    let is_regular = found.path.as_deref().is_some_and(Path::is_file);
    let format = format(command.format, &found, is_regular, false)?;
    let Some(format) = format else {
        let what = "say what it holds: --format jsonl, csv or parquet";
        return Err(Failure::Usage(format!("{}: {what}", found.name)));
    };
    let inferred = match (format, &found.path) {
        (FileFormat::Parquet, Some(path)) => {
            infer::parquet(File::open(path).map_err(|error| failed(&error))?, &found.name)
        }
        (FileFormat::Parquet, None) => {
            return Err(Failure::Usage(
                "Parquet can't be read from standard input, only from a file".to_owned(),
            ));
        }
        (FileFormat::Csv, _) => infer::csv(text(&found).map_err(|error| failed(&error))?, &found.name),
        (FileFormat::Jsonl, _) => {
            infer::json_lines(text(&found).map_err(|error| failed(&error))?, &found.name)
        }
    };
    let inferred = inferred.map_err(|error| failed(&error))?;
    match output.is_json() {
        true => {
            output.json(&json!({ "file": found.name, "rows": inferred.rows, "mapping": inferred.toml }))?
        }
        false => output.line(inferred.toml.trim_end())?,
    }
    output.flush()?;
    if is_regular {
        let fitting = fitting(format, &found, &inferred).map_err(|error| failed(&error))?;
        complain(&format!("{fitting} of the {} rows looked at can be read by it", inferred.rows));
    }
    Ok(Done::Well)
}

fn text(found: &Found) -> io::Result<Box<dyn Read + Send>> {
    let (said, _) = Compression::of_name(&found.name);
    match &found.path {
        None => unpacked(io::stdin(), said),
        Some(path) => unpacked(File::open(path)?, said),
    }
}

/// How many of the rows that were looked at the mapping can read.
fn fitting(format: FileFormat, found: &Found, inferred: &Inferred) -> Result<usize, crate::files::OpenError> {
    let mapping = Mapping::parse(&inferred.toml)?;
    let name = &found.name;
    let mut rows = match (format, &found.path) {
        (FileFormat::Parquet, Some(path)) => {
            Rows::open_parquet(File::open(path)?, Some(&mapping), name, name)?
        }
        (FileFormat::Csv, _) => Rows::open(text(found)?, &Shape::Csv(mapping), name, name)?,
        _ => Rows::open(text(found)?, &Shape::Objects(mapping), name, name)?,
    };
    let mut fitting = 0;
    for _ in 0..inferred.rows {
        match rows.next_row()?.and_then(|row| row.item.body) {
            None => break,
            Some(Body::Unreadable(_)) => {}
            Some(_) => fitting += 1,
        }
    }
    Ok(fitting)
}
