//! A first mapping, guessed from a sample of a file.
//!
//! What a column is gets guessed by its name and by its values, and every guess says in a comment on what share of the
//! values it rests. A type or a time is only written where every sampled value fits, so that the mapping works as it is
//! written; what fits in part is told and left as text. Identifiers, the time, the event and revenue are looked for;
//! whatever else there is becomes a trait (of `identify`) or a property (of `track`).
//!
//! It is a guess: a number that happens to differ in every row may look like a customer. People are to read it.

mod column;
mod guess;
mod names;
mod sample;
mod write;

use std::{
    fs::File,
    io::{self, Read},
};

use super::{Mapping, OpenError};
use sample::Sample;

/// So many rows are looked at.
pub const SAMPLE_ROWS_MAX: usize = 10_000;

/// A guessed mapping.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// The mapping file.
    pub toml: String,
    /// How many rows it rests on.
    pub rows: usize,
}

/// Why no mapping can be guessed.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The file can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There are no rows to look at.
    #[error("there is nothing in it to guess from: {0}")]
    Empty(&'static str),
    /// It needs no mapping.
    #[error("its rows are events as they are: it can be sent without a mapping")]
    Events,
    /// The guess is no sound mapping.
    #[error("no sound mapping came of it ({0}): write one by hand, see `isthmus ingest --help`")]
    Unsound(#[from] super::MappingError),
}

impl From<OpenError> for InferError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::Io(error),
            OpenError::Mapping(error) => Self::Unsound(error),
        }
    }
}

/// Guesses from CSV.
///
/// # Errors
/// When it can't be read or holds no rows.
pub fn csv(input: impl Read, file: &str) -> Result<Inferred, InferError> {
    from(&sample::csv(input)?, file)
}

/// Guesses from JSON lines.
///
/// # Errors
/// When it can't be read, holds no objects, or events in Segment's shape.
pub fn json_lines(input: impl Read, file: &str) -> Result<Inferred, InferError> {
    from(&sample::json_lines(input)?, file)
}

/// Guesses from a Parquet file.
///
/// # Errors
/// As [`json_lines`].
pub fn parquet(input: File, file: &str) -> Result<Inferred, InferError> {
    from(&sample::parquet(input)?, file)
}

fn from(sample: &Sample, file: &str) -> Result<Inferred, InferError> {
    if sample.rows == 0 || sample.columns.is_empty() {
        return Err(InferError::Empty("it has no rows"));
    }
    if sample.is_events() {
        return Err(InferError::Events);
    }
    let guess = guess::guess(sample, file).ok_or(InferError::Empty("all its columns are empty"))?;
    let toml = write::toml(sample, &guess, file);
    Mapping::parse(&toml)?;
    Ok(Inferred { toml, rows: sample.rows })
}

#[cfg(test)]
mod tests;
