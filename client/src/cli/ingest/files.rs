//! Which files are to be read, and how: everything that can be found wrong before anything is sent.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::files::{Mapping, OpenError, Rows, Shape};

use super::{FileFormat, IngestCommand};
use crate::cli::failure::Failure;

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct Input {
    /// Standard input when absent.
    path: Option<PathBuf>,
    /// Its name, for people and as the origin of its items.
    pub name: Arc<str>,
    /// What goes into made message ids.
    dataset: String,
    shape: Shape,
    mapping: Option<PathBuf>,
    /// Its size, where that is known beforehand.
    pub bytes: Option<u64>,
}

/// Any reader.
pub type Reader = Box<dyn Read + Send>;

impl Input {
    /// Begins to read it.
    pub fn open(&self) -> Result<Rows<Reader>, Failure> {
        let reader = match &self.path {
            None => Ok(Box::new(io::stdin()) as Reader),
            Some(path) => File::open(path).map(|file| Box::new(file) as Reader),
        };
        let rows = reader
            .map_err(OpenError::from)
            .and_then(|reader| Rows::open(reader, self.shape.clone(), &self.name, &self.dataset));
        rows.map_err(|error| match (error, &self.mapping) {
            (OpenError::Mapping(error), Some(mapping)) => {
                Failure::Usage(format!("{}: {error} (for {})", mapping.display(), self.name))
            }
            (error, _) => Failure::Usage(format!("{}: {error}", self.name)),
        })
    }
}

/// Decides how each file is read, and finds what is wrong with the files or the mapping.
pub fn plan(command: &IngestCommand) -> Result<Vec<Input>, Failure> {
    if command.dataset.is_some() && command.files.len() > 1 {
        let problem =
            "--dataset names one file's rows: with several files, equal lines would count as the same";
        return Err(Failure::Usage(problem.into()));
    }
    let mapping = command.mapping.as_deref().map(read_mapping).transpose()?;
    let mut names = BTreeSet::new();
    let mut inputs = Vec::new();
    for file in &command.files {
        let from_stdin = file.as_os_str() == "-";
        let name = if from_stdin { "stdin".to_owned() } else { file_name(file)? };
        if !names.insert(name.clone()) {
            return Err(Failure::Usage(format!(
                "two files are named {name}: their rows would get the same message ids; send one at a time, with \
                 --dataset"
            )));
        }
        let bytes = if from_stdin { None } else { check(file)? };
        let input = Input {
            shape: shape(command, file, from_stdin, mapping.as_ref())?,
            dataset: command.dataset.clone().unwrap_or_else(|| name.clone()),
            name: name.into(),
            mapping: command.mapping.clone(),
            bytes,
            path: (!from_stdin).then(|| file.clone()),
        };
        // A pipe can be read only once; a file is opened now, so that a header that doesn't fit stops the whole.
        if input.bytes.is_some() {
            input.open()?;
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn read_mapping(path: &Path) -> Result<Mapping, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Mapping::parse(&text).map_err(|error| wrong(error.to_string()))
}

fn file_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Failure::Usage(format!("{}: not the name of a file", path.display())))
}

/// The size of a regular file; nothing for a pipe or a device.
fn check(path: &Path) -> Result<Option<u64>, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if metadata.is_dir() {
        return Err(wrong("is a directory; name the files in it".into()));
    }
    Ok(metadata.is_file().then_some(metadata.len()))
}

fn shape(
    command: &IngestCommand,
    file: &Path,
    from_stdin: bool,
    mapping: Option<&Mapping>,
) -> Result<Shape, Failure> {
    let wrong = |problem: &str| Failure::Usage(format!("{}: {problem}", file.display()));
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let by_extension = match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" | "json" => Some(FileFormat::Jsonl),
        "csv" | "tsv" | "txt" => Some(FileFormat::Csv),
        _ if mapping.is_some() => Some(FileFormat::Csv),
        _ if from_stdin => Some(FileFormat::Jsonl),
        _ => None,
    };
    let format = command.format.or(by_extension);
    match (format.ok_or_else(|| wrong("say what it holds: --format jsonl or --format csv"))?, mapping) {
        (FileFormat::Jsonl, None) => Ok(Shape::JsonLines),
        (FileFormat::Jsonl, Some(_)) => {
            Err(wrong("JSON lines need no --mapping; if it is CSV, say --format csv"))
        }
        (FileFormat::Csv, Some(mapping)) => Ok(Shape::Csv(mapping.clone())),
        (FileFormat::Csv, None) => {
            Err(wrong("CSV needs a --mapping that says which column is what (see --help)"))
        }
    }
}
