//! Splitting a record into its fields.
//!
//! With a delimiter, by RFC 4180 as the `csv` crate's engine reads it (a quote inside an unquoted field is just a
//! character); or at runs of spaces and tabs, without quoting. Buffers are kept from record to record. Fields come out
//! without spaces around them.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::{
    ITEM_BYTES_MAX,
    record::{Cell, Record},
};

/// The most columns that a record may have.
const FIELDS_MAX: usize = 1_024;

/// What stands between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delimiter {
    /// One character of ASCII.
    Byte(u8),
    /// Any number of spaces and tabs.
    Whitespace,
}

/// How far a record has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it is there.
    Whole,
    /// A quoted field is still open: the next line belongs to it.
    Open,
}

/// Splits one record after the other.
pub(crate) struct Splitter {
    /// Nothing when fields are separated by white space.
    engine: Option<Box<Reader>>,
    text: Vec<u8>,
    text_len: usize,
    ends: Vec<usize>,
    count: usize,
    refused: Option<String>,
}

impl Splitter {
    pub(crate) fn new(delimiter: Delimiter) -> Self {
        let engine = match delimiter {
            Delimiter::Whitespace => None,
            Delimiter::Byte(byte) => {
                let mut builder = ReaderBuilder::new();
                // Lines are cut already; a stray CR must not end a record.
                Some(Box::new(builder.delimiter(byte).terminator(Terminator::Any(b'\n')).build()))
            }
        };
        // Fields are never longer than what they were cut from.
        let text = vec![0; ITEM_BYTES_MAX + 1];
        Self { engine, text, text_len: 0, ends: vec![0; FIELDS_MAX], count: 0, refused: None }
    }

    /// Begins a record.
    pub(crate) fn begin(&mut self) {
        (self.text_len, self.count, self.refused) = (0, 0, None);
        if let Some(engine) = &mut self.engine {
            engine.reset();
        }
    }

    /// Makes the record begun fail with this problem, if there is one.
    pub(crate) fn refuse(&mut self, problem: Option<String>) {
        self.refused = problem;
    }

    /// Takes a line of the record, without its end.
    pub(crate) fn feed(&mut self, line: &[u8]) -> Result<Progress, String> {
        if let Some(problem) = self.refused.take() {
            return Err(problem);
        }
        if self.engine.is_none() {
            for field in line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()) {
                let end = self.text_len + field.len();
                let room = self.text.get_mut(self.text_len..end).ok_or_else(too_long)?;
                room.copy_from_slice(field);
                *self.ends.get_mut(self.count).ok_or_else(too_many)? = end;
                (self.text_len, self.count) = (end, self.count + 1);
            }
            return Ok(Progress::Whole);
        }
        // Empty input would mean the end of the file to the engine.
        if !line.is_empty() {
            self.pass(line)?;
        }
        self.pass(b"\n")
    }

    /// Hands the engine a piece that holds no line end but possibly at its end: it reads all of it, or fails.
    fn pass(&mut self, piece: &[u8]) -> Result<Progress, String> {
        let Some(engine) = &mut self.engine else { return Ok(Progress::Whole) };
        let (result, _, written, ended) =
            engine.read_record(piece, &mut self.text[self.text_len..], &mut self.ends[self.count..]);
        self.text_len += written;
        self.count += ended;
        match result {
            ReadRecordResult::Record | ReadRecordResult::End => Ok(Progress::Whole),
            ReadRecordResult::InputEmpty => Ok(Progress::Open),
            ReadRecordResult::OutputFull => Err(too_long()),
            ReadRecordResult::OutputEndsFull => Err(too_many()),
        }
    }

    /// How many fields the record has.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// A field, without spaces around it. `None` beyond the last, or where it isn't UTF-8.
    pub(crate) fn field(&self, index: usize) -> Option<&str> {
        let end = *self.ends[..self.count].get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        std::str::from_utf8(&self.text[start..end]).ok().map(str::trim)
    }

    /// All fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.count).filter_map(|index| self.field(index))
    }
}

impl Record for Splitter {
    fn problem(&self, columns: usize) -> Option<String> {
        let count = self.count();
        (count != columns).then(|| format!("the row has {count} columns instead of {columns}"))
    }

    fn cell(&self, column: usize) -> Result<Cell<'_>, &'static str> {
        self.field(column).map(Cell::text).ok_or("isn't UTF-8")
    }
}

fn too_long() -> String {
    format!("the row has more than {ITEM_BYTES_MAX} bytes")
}

fn too_many() -> String {
    format!("the row has more than {FIELDS_MAX} columns")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(delimiter: Delimiter, line: &str) -> Vec<String> {
        let mut splitter = Splitter::new(delimiter);
        splitter.begin();
        assert_eq!(splitter.feed(line.as_bytes()), Ok(Progress::Whole));
        splitter.fields().map(str::to_owned).collect()
    }

    #[test]
    fn fields_are_cut_at_the_delimiter_and_unquoted() {
        let comma = Delimiter::Byte(b',');
        assert_eq!(split(comma, "a, b ,,\"x, \"\"y\"\"\""), ["a", "b", "", "x, \"y\""]);
        assert_eq!(split(comma, "5\" disk,3"), ["5\" disk", "3"]);
        assert_eq!(split(comma, "a\rb,c"), ["a\rb", "c"]);
        assert_eq!(split(Delimiter::Byte(b';'), "a,b;c"), ["a,b", "c"]);
        assert_eq!(split(Delimiter::Byte(b'\t'), "a b\tc"), ["a b", "c"]);
        assert_eq!(split(Delimiter::Whitespace, "  00004  1 \t\"x y"), ["00004", "1", "\"x", "y"]);
    }

    #[test]
    fn an_open_quote_waits_for_further_lines() {
        let mut splitter = Splitter::new(Delimiter::Byte(b','));
        splitter.begin();
        assert_eq!(splitter.feed(b"1,\"a"), Ok(Progress::Open));
        assert_eq!(splitter.feed(b""), Ok(Progress::Open));
        assert_eq!(splitter.feed(b"b\",2"), Ok(Progress::Whole));
        assert_eq!(splitter.fields().collect::<Vec<_>>(), ["1", "a\n\nb", "2"]);
        splitter.begin();
        assert_eq!(splitter.feed(b"next,row"), Ok(Progress::Whole));
        assert_eq!(splitter.fields().collect::<Vec<_>>(), ["next", "row"]);
    }

    #[test]
    fn too_many_columns_are_refused() {
        for delimiter in [Delimiter::Byte(b','), Delimiter::Whitespace] {
            let mut splitter = Splitter::new(delimiter);
            splitter.begin();
            let line =
                if delimiter == Delimiter::Whitespace { "a ".repeat(1_100) } else { "a,".repeat(1_100) };
            assert!(splitter.feed(line.as_bytes()).is_err());
        }
    }
}
