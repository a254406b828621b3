//! The mapping file: which column of a table is what of an event.
//!
//! ```toml
//! delimiter = ","                       # "," (default), ";", "\t", any other character, or "whitespace"
//! has_header = true                     # default; without one, or instead of it, name the columns:
//! # columns = ["customer", "when", "sum"]
//! quoted_newlines = false               # whether quoted fields may hold line ends
//!
//! type = "track"                        # or { column = "kind" }
//! event = "Order Completed"             # or { column = "what" }
//! message_id = "order_no"               # a column; absent: made of the row (see `message_id`)
//! # previous_id = "old"                 # a column, for `alias`
//! # group_id = "team"                   # a column, for `group`
//! timestamp = { column = "when", format = "%d.%m.%Y", timezone = "Europe/Berlin" }  # or just "when": RFC 3339
//!
//! [identifiers]                         # namespace = column; empty cells are left out
//! user_id = "customer"
//! email = "mail"
//!
//! [properties]                          # name = column (text), or with a type
//! revenue = { column = "sum", type = "decimal" }  # string, integer, number, decimal, boolean, date
//! # Without a type a cell is taken as it is: text of CSV, whatever JSON lines and Parquet hold.
//!
//! [traits]
//! email = "mail"
//! ```
//!
//! The first four go with CSV alone. In JSON lines and Parquet a column is a key, with dots on the way into objects.
//!
//! Every mistake is reported with its line: unknown keys and types, formats that are none, columns that aren't there.

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use super::{
    cell::{CellType, TimeFormat},
    split::Delimiter,
};
use crate::proto::EventType;

/// What is wrong with a mapping file, or with it for a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct MappingError {
    /// The line of the mapping file, from 1.
    pub line: usize,
    /// What is wrong there, and what to do.
    pub problem: String,
}

/// A mapping that is sound in itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mapping {
    document: Arc<Document>,
    delimiter: Delimiter,
    /// Where each line of the file begins, for messages.
    line_starts: Arc<[usize]>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    delimiter: Option<Spanned<String>>,
    has_header: Option<bool>,
    columns: Option<Spanned<Vec<String>>>,
    quoted_newlines: Option<bool>,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<Text>,
    pub(super) event: Option<Spanned<Text>>,
    pub(super) message_id: Option<Spanned<String>>,
    pub(super) previous_id: Option<Spanned<String>>,
    pub(super) group_id: Option<Spanned<String>>,
    pub(super) timestamp: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) identifiers: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Spanned<Field>>,
    #[serde(default)]
    pub(super) traits: BTreeMap<String, Spanned<Field>>,
}

/// The same for all rows, or by a column.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "give a text, or { column = \"…\" }")]
pub(super) enum Text {
    Constant(String),
    Column(ColumnText),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnText {
    pub(super) column: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "give a column, or { column = \"…\", format = \"…\", timezone = \"…\" }")]
pub(super) enum Time {
    Column(String),
    Formatted(FormattedTime),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormattedTime {
    column: String,
    format: Option<String>,
    timezone: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "give a column, or { column = \"…\", type = \"string|integer|number|decimal|boolean|date\" }"
)]
pub(super) enum Field {
    Column(String),
    Typed(TypedField),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedField {
    column: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    format: Option<String>,
    timezone: Option<String>,
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect::<Vec<_>>();
        let line = |at: usize| line_starts.partition_point(|&start| start <= at);
        let document: Document = toml::from_str(text).map_err(|error| MappingError {
            line: error.span().map_or(1, |span| line(span.start)),
            problem: error.message().trim().replace('\n', " "),
        })?;
        let delimiter = match &document.delimiter {
            None => Delimiter::Byte(b','),
            Some(given) => match given.get_ref().as_str() {
                "whitespace" => Delimiter::Whitespace,
                text => match text.as_bytes() {
                    [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'"') => {
                        Delimiter::Byte(*byte)
                    }
                    _ => {
                        let problem = "`delimiter` has to be one character, or \"whitespace\"".to_owned();
                        return Err(MappingError { line: line(given.span().start), problem });
                    }
                },
            },
        };
        let mapping = Self { document: Arc::new(document), delimiter, line_starts: line_starts.into() };
        mapping.check()?;
        Ok(mapping)
    }

    /// What can be wrong before the columns are known.
    fn check(&self) -> Result<(), MappingError> {
        let document = &self.document;
        match &document.columns {
            None if !self.has_header() => return Err(self.error(0, "without a header, name the `columns`")),
            Some(columns) if columns.get_ref().is_empty() => {
                return Err(self.error(columns.span().start, "`columns` is empty"));
            }
            _ => {}
        }
        if let Text::Constant(name) = document.kind.get_ref() {
            let at = document.kind.span().start;
            let kind = event_type(name).ok_or_else(|| {
                self.error(
                    at,
                    "`type` has to be identify, track, page, screen, group or alias, or { column = \"…\" }",
                )
            })?;
            if kind == EventType::Track && document.event.is_none() {
                return Err(self.error(at, "a `track` event needs a name: say `event`"));
            }
        }
        if document.identifiers.is_empty() {
            return Err(self
                .error(0, "no column says who the customer is: add [identifiers], such as user_id = \"…\""));
        }
        self.time()?;
        for field in document.properties.values().chain(document.traits.values()) {
            self.field(field)?;
        }
        Ok(())
    }

    /// An error at a byte of the file.
    pub(super) fn error(&self, at: usize, problem: impl Into<String>) -> MappingError {
        MappingError {
            line: self.line_starts.partition_point(|&start| start <= at).max(1),
            problem: problem.into(),
        }
    }

    /// The error of a file whose header can't be read.
    pub(super) fn header_unreadable(&self, line: u64) -> MappingError {
        self.error(0, format!("line {line} of the file can't be read as a header; does the delimiter fit?"))
    }

    /// What is said that only CSV has, if anything.
    pub(super) fn only_for_csv(&self) -> Option<MappingError> {
        let document = &self.document;
        let said = [
            ("delimiter", document.delimiter.as_ref().map(|it| it.span().start)),
            ("columns", document.columns.as_ref().map(|it| it.span().start)),
            ("has_header", document.has_header.map(|_| 0)),
            ("quoted_newlines", document.quoted_newlines.map(|_| 0)),
        ];
        let (key, at) = said.into_iter().find_map(|(key, at)| Some((key, at?)))?;
        Some(self.error(at, format!("`{key}` goes with CSV alone, and the file isn't CSV: leave it out")))
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    pub(super) fn delimiter(&self) -> Delimiter {
        self.delimiter
    }

    /// Whether the first line names the columns.
    pub fn has_header(&self) -> bool {
        self.document.has_header.unwrap_or(true)
    }

    pub(super) fn quoted_newlines(&self) -> bool {
        self.document.quoted_newlines.unwrap_or(false)
    }

    /// The columns' names, where the mapping gives them.
    pub(super) fn columns(&self) -> Option<&[String]> {
        self.document.columns.as_ref().map(|columns| columns.get_ref().as_slice())
    }

    /// The timestamp's column, where it is named in the file, and its format.
    pub(super) fn time(&self) -> Result<Option<(&str, usize, TimeFormat)>, MappingError> {
        let Some(time) = &self.document.timestamp else { return Ok(None) };
        let at = time.span().start;
        Ok(Some(match time.get_ref() {
            Time::Column(column) => (column.as_str(), at, self.format(at, None, None)?),
            Time::Formatted(time) => {
                let format = self.format(at, time.format.as_deref(), time.timezone.as_deref())?;
                (time.column.as_str(), at, format)
            }
        }))
    }

    /// A property's or trait's column, where it is named in the file, and its type.
    pub(super) fn field<'a>(
        &self,
        field: &'a Spanned<Field>,
    ) -> Result<(&'a str, usize, CellType), MappingError> {
        let at = field.span().start;
        let field = match field.get_ref() {
            Field::Column(column) => return Ok((column.as_str(), at, CellType::AsIs)),
            Field::Typed(field) => field,
        };
        let cell = match field.kind.as_deref().unwrap_or("string") {
            "string" => CellType::String,
            "integer" => CellType::Integer,
            "number" => CellType::Number,
            "decimal" => CellType::Decimal,
            "boolean" => CellType::Boolean,
            "date" => CellType::Date(self.format(at, field.format.as_deref(), field.timezone.as_deref())?),
            _ => {
                let problem = "`type` has to be string, integer, number, decimal, boolean or date";
                return Err(self.error(at, problem));
            }
        };
        if !matches!(cell, CellType::Date(_)) && (field.format.is_some() || field.timezone.is_some()) {
            return Err(self.error(at, "`format` and `timezone` go with `type = \"date\"` alone"));
        }
        Ok((field.column.as_str(), at, cell))
    }

    fn format(
        &self,
        at: usize,
        pattern: Option<&str>,
        zone: Option<&str>,
    ) -> Result<TimeFormat, MappingError> {
        let zone = match zone {
            None | Some("UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                self.error(at, "`timezone` has to be a name of the IANA database, such as Europe/Berlin")
            })?,
        };
        let format = TimeFormat { pattern: pattern.map(str::to_owned), zone };
        if !format.is_sound() {
            return Err(self.error(at, "`format` isn't a strptime pattern of a date, such as %Y-%m-%d"));
        }
        Ok(format)
    }
}

/// The event type of a name as in Segment's interface.
pub(super) fn event_type(name: &str) -> Option<EventType> {
    Some(match name {
        "identify" => EventType::Identify,
        "track" => EventType::Track,
        "page" => EventType::Page,
        "screen" => EventType::Screen,
        "group" => EventType::Group,
        "alias" => EventType::Alias,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "type = \"track\"\nevent = \"e\"\n\n[identifiers]\nuser_id = \"u\"\n";

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let table = [
            ("type = \"track\"\nevent = ", 2, ""),
            ("colour = 1\ntype = \"track\"", 1, "colour"),
            ("event = \"e\"\n[identifiers]\nuser_id = \"u\"", 1, "type"),
            ("event = \"e\"\ntype = \"tracked\"\n[identifiers]\nuser_id = \"u\"", 2, "identify, track"),
            ("\ntype = \"track\"\n[identifiers]\nuser_id = \"u\"", 2, "`event`"),
            ("type = \"identify\"", 1, "[identifiers]"),
            ("type = \"identify\"\ndelimiter = \"ab\"\n[identifiers]\nuser_id = \"u\"", 2, "one character"),
            ("type = \"identify\"\nhas_header = false\n[identifiers]\nuser_id = \"u\"", 1, "`columns`"),
            (
                "type = \"identify\"\ntimestamp = { column = \"t\", format = \"%H\" }\n[identifiers]\nuser_id = \"u\"",
                2,
                "strptime",
            ),
            (
                "type = \"identify\"\ntimestamp = { column = \"t\", timezone = \"Mars\" }\n[identifiers]\nuser_id = \"u\"",
                2,
                "IANA",
            ),
            (
                "type = \"identify\"\n[identifiers]\nuser_id = \"u\"\n[traits]\na = { column = \"a\", type = \"money\" }",
                5,
                "decimal",
            ),
            (
                "type = \"identify\"\n[identifiers]\nuser_id = \"u\"\n[traits]\na = { column = \"a\", format = \"%Y\" }",
                5,
                "date",
            ),
            (
                "type = \"identify\"\n[identifiers]\nuser_id = \"u\"\n[traits]\na = { colum = \"a\" }",
                5,
                "column",
            ),
        ];
        for (text, line, part) in table {
            let error = Mapping::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(part), "{text}: {error}");
        }
        Mapping::parse(GOOD).unwrap();
    }
}
