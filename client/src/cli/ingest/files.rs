//! How each file is to be read: everything that can be found wrong before anything is sent.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::files::{Compression, Mapping, OpenError, Reader, Rows, Shape, is_parquet, unpacked};

use super::{
    FileFormat, IngestCommand,
    find::{Found, find},
};
use crate::cli::{failure::Failure, output::complain};

/// So many files that were left out are named.
const LEFT_OUT_SHOWN_MAX: usize = 20;

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct Input {
    /// Standard input when absent.
    pub path: Option<PathBuf>,
    /// Its name, for people and as the origin of its items.
    pub name: Arc<str>,
    /// What goes into made message ids.
    pub dataset: String,
    kind: Kind,
    compression: Option<Compression>,
    mapping: Option<Arc<MappingFile>>,
    /// Its size, where that is known beforehand.
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone)]
enum Kind {
    Text(Shape),
    Parquet(Option<Mapping>),
}

/// A mapping and the file that it stands in.
#[derive(Debug)]
struct MappingFile {
    path: PathBuf,
    mapping: Mapping,
    digest: String,
}

/// A file under way.
pub struct Opened {
    pub rows: Rows<Reader>,
    read: Arc<AtomicU64>,
    bytes: u64,
    /// How many bytes progress was told of.
    told: u64,
}

impl Opened {
    /// How many bytes of the file, as it lies on disk, have been read since this was asked before.
    pub fn advance(&mut self) -> u64 {
        let read = match self.rows.rows() {
            None => self.read.load(Ordering::Relaxed),
            Some(rows) => {
                let share = u128::from(self.bytes) * u128::from(self.rows.consumed());
                u64::try_from(share / u128::from(rows.max(1))).unwrap_or(self.bytes)
            }
        };
        read - std::mem::replace(&mut self.told, read)
    }
}

/// Counts what is read of a file before it is unpacked.
struct Counting<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(out)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Input {
    /// Begins to read it.
    pub fn open(&self) -> Result<Opened, Failure> {
        let read = Arc::new(AtomicU64::new(0));
        let rows = self.rows(&read).map_err(|error| match (error, &self.mapping) {
            (OpenError::Mapping(error), Some(mapping)) => {
                Failure::Usage(format!("{}: {error} (for {})", mapping.path.display(), self.name))
            }
            (error, _) => Failure::Usage(format!("{}: {error}", self.name)),
        })?;
        Ok(Opened { rows, read, bytes: self.bytes.unwrap_or_default(), told: 0 })
    }

    fn rows(&self, read: &Arc<AtomicU64>) -> Result<Rows<Reader>, OpenError> {
        let shape = match (&self.kind, &self.path) {
            (Kind::Parquet(mapping), Some(path)) => {
                return Rows::open_parquet(File::open(path)?, mapping.as_ref(), &self.name, &self.dataset);
            }
            (Kind::Parquet(_), None) => {
                let what = "Parquet can't be read front to back";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
            }
            (Kind::Text(shape), _) => shape,
        };
        let reader = match &self.path {
            None => unpacked(Counting(io::stdin(), read.clone()), None)?,
            Some(path) => unpacked(Counting(File::open(path)?, read.clone()), self.compression)?,
        };
        Rows::open(reader, shape, &self.name, &self.dataset)
    }

    /// Names the mapping that it is read by; empty without one.
    pub fn mapping_digest(&self) -> &str {
        self.mapping.as_ref().map_or("", |mapping| mapping.digest.as_str())
    }

    /// Whether it can be read again from the beginning.
    pub fn is_regular(&self) -> bool {
        self.bytes.is_some()
    }
}

/// Decides how each file is read, and finds what is wrong with the files or the mapping.
pub fn plan(command: &IngestCommand) -> Result<Vec<Input>, Failure> {
    let finds = find(&command.files, command.format)?;
    if command.dataset.is_some() && finds.files.len() > 1 {
        let problem =
            "--dataset names one file's rows: with several files, equal lines would count as the same";
        return Err(Failure::Usage(problem.into()));
    }
    let mapping = command.mapping.as_deref().map(read_mapping).transpose()?;
    let mut names = BTreeSet::new();
    let mut inputs = Vec::new();
    for found in finds.files {
        let (compression, plain) = Compression::of_name(&found.name);
        // What is compressed holds the same rows as when it isn't.
        let dataset = command.dataset.clone().unwrap_or_else(|| plain.to_owned());
        if !names.insert(dataset.clone()) {
            return Err(Failure::Usage(format!(
                "two files are named {dataset}: their rows would get the same message ids; send one at a time, with \
                 --dataset"
            )));
        }
        let bytes = found.path.as_deref().map(check).transpose()?.flatten();
        let input = Input {
            kind: kind(command, &found, plain, bytes.is_some(), mapping.as_deref())?,
            dataset,
            name: found.name.as_str().into(),
            compression,
            mapping: mapping.clone(),
            bytes,
            path: found.path,
        };
        // A pipe can be read only once; a file is opened now, so that a header that doesn't fit stops the whole.
        if input.is_regular() {
            input.open()?;
        }
        inputs.push(input);
    }
    for path in finds.left_out.iter().take(LEFT_OUT_SHOWN_MAX) {
        complain(&format!(
            "{}: left out, not of a known kind; name it with --format to send it",
            path.display()
        ));
    }
    if let Some(more @ 1..) = finds.left_out.len().checked_sub(LEFT_OUT_SHOWN_MAX) {
        complain(&format!("… and {more} more were left out"));
    }
    Ok(inputs)
}

fn read_mapping(path: &Path) -> Result<Arc<MappingFile>, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mapping = Mapping::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let digest = blake3::hash(text.as_bytes()).to_hex()[..32].to_owned();
    Ok(Arc::new(MappingFile { path: path.to_owned(), mapping, digest }))
}

/// The size of a regular file; nothing for a pipe or a device.
fn check(path: &Path) -> Result<Option<u64>, Failure> {
    let metadata = fs::metadata(path);
    let metadata = metadata.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok(metadata.is_file().then_some(metadata.len()))
}

/// What a file holds, by its name.
pub fn format_of_name(name: &str) -> Option<FileFormat> {
    let (compression, plain) = Compression::of_name(name);
    let extension = Path::new(plain).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" | "json" => Some(FileFormat::Jsonl),
        "csv" | "tsv" | "txt" => Some(FileFormat::Csv),
        "parquet" | "pq" if compression.is_none() => Some(FileFormat::Parquet),
        _ => None,
    }
}

/// What a file holds: as told, by its name, or by how it begins.
pub fn format(
    said: Option<FileFormat>,
    found: &Found,
    is_regular: bool,
    has_mapping: bool,
) -> Result<Option<FileFormat>, Failure> {
    if let Some(format) = said.or_else(|| format_of_name(&found.name)) {
        return Ok(Some(format));
    }
    if let (Some(path), true) = (&found.path, is_regular) {
        let mut first = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut first));
        read.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        if is_parquet(&first) {
            return Ok(Some(FileFormat::Parquet));
        }
    }
    Ok(match found.path {
        _ if has_mapping => Some(FileFormat::Csv),
        None => Some(FileFormat::Jsonl),
        Some(_) => None,
    })
}

fn kind(
    command: &IngestCommand,
    found: &Found,
    plain: &str,
    is_regular: bool,
    mapping: Option<&MappingFile>,
) -> Result<Kind, Failure> {
    let wrong = |problem: &str| Failure::Usage(format!("{}: {problem}", found.name));
    let mapping = mapping.map(|file| &file.mapping);
    if plain.ends_with(".parquet") && plain.len() < found.name.len() {
        return Err(wrong("Parquet is compressed in itself: unpack the file first"));
    }
    let format = format(command.format, found, is_regular, mapping.is_some())?;
    let format = format.ok_or_else(|| wrong("say what it holds: --format jsonl, csv or parquet"))?;
    match (format, mapping) {
        (FileFormat::Jsonl, None) => Ok(Kind::Text(Shape::JsonLines)),
        (FileFormat::Jsonl, Some(mapping)) => Ok(Kind::Text(Shape::Objects(mapping.clone()))),
        (FileFormat::Csv, Some(mapping)) => Ok(Kind::Text(Shape::Csv(mapping.clone()))),
        (FileFormat::Csv, None) => Err(wrong(
            "CSV needs a --mapping that says which column is what: `isthmus ingest --infer` writes a first one",
        )),
        (FileFormat::Parquet, _) if !is_regular => {
            Err(wrong("Parquet can't be read from standard input or a pipe, only from a file"))
        }
        (FileFormat::Parquet, mapping) => Ok(Kind::Parquet(mapping.cloned())),
    }
}
