//! What a row holds, whatever it was read from: cells by the number of their column.
//!
//! A cell of CSV is text. One of JSON or Parquet has a type, and is taken as it is where the mapping names no other.

use std::borrow::Cow;

use crate::proto::{self, value::Kind};

/// What stands in a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Nothing: absent, null or empty text.
    Empty,
    /// Text.
    Text(Cow<'a, str>),
    /// A value with a type of its own, and how it is written; lists and objects aren't written as text.
    Typed(proto::Value, Option<Cow<'a, str>>),
}

/// A row.
pub(crate) trait Record {
    /// What keeps the row as a whole from being read, if anything does.
    fn problem(&self, columns: usize) -> Option<String>;
    /// What stands in a column.
    fn cell(&self, column: usize) -> Result<Cell<'_>, &'static str>;
}

impl<'a> Cell<'a> {
    /// Text; none when it is empty.
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Empty } else { Self::Text(text) }
    }

    /// The cell as text, empty when there is nothing.
    pub(crate) fn into_text(self) -> Result<Cow<'a, str>, &'static str> {
        match self {
            Self::Empty => Ok(Cow::Borrowed("")),
            Self::Text(text) | Self::Typed(_, Some(text)) => Ok(text),
            Self::Typed(_, None) => Err("holds a list or an object, and one value is asked for"),
        }
    }

    /// The cell as it is; nothing when it is empty.
    pub(crate) fn into_value(self) -> Option<proto::Value> {
        match self {
            Self::Empty => None,
            Self::Text(text) => Some(value(Kind::StringValue(text.into_owned()))),
            Self::Typed(value, _) => Some(value),
        }
    }
}

/// A value of a kind.
pub(crate) fn value(kind: Kind) -> proto::Value {
    proto::Value { kind: Some(kind) }
}
