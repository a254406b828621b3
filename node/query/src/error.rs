//! Why a query has no answer.
//!
//! One type for everything that callers can meet, so that doors turn it into their own codes in one place. What is wrong
//! with a statement is said with its place in the text; values of parameters and rows never appear.

use std::{fmt, time::Duration};

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;

/// A bound that a query ran into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Memory, after spilling what can be spilled.
    Memory,
    /// Room in the folder for what doesn't fit into memory.
    Spill,
    /// Time.
    Time,
    /// Rows of the answer.
    Rows,
    /// Bytes of the answer, or of the files of a `COPY`.
    Bytes,
    /// Length of the statement.
    Statement,
}

impl Limit {
    const ALL: [Self; 6] = [Self::Memory, Self::Spill, Self::Time, Self::Rows, Self::Bytes, Self::Statement];

    /// Its name for programs: `memory`, `rows`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Spill => "spill",
            Self::Time => "time",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Statement => "statement",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement or its parameters are wrong: what, and near what.
    #[error("{message}")]
    Invalid {
        /// What is wrong, near what, and what to do.
        message: String,
        /// The line in the statement, from 1.
        line: Option<u64>,
        /// The column in the line, in characters, from 1.
        column: Option<u64>,
    },
    /// It ran into a bound.
    #[error("the query needs more {what} than it may: {detail}")]
    Limit {
        /// Which.
        what: Limit,
        /// How much it may, and what to do.
        detail: String,
    },
    /// Too many queries run already.
    #[error("too many queries run already: try again")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// A shard, a node, or the store that `COPY` writes to can't be reached.
    #[error("the query can't be run at the moment: {0}")]
    Unavailable(String),
    /// The caller went away, or the engine stops.
    #[error("the query was cancelled")]
    Cancelled,
    /// The time that the caller gave is over.
    #[error("the query was not done in its time")]
    DeadlineExceeded,
    /// A fault of the engine, or of what it reads.
    #[error("the query failed: {0}")]
    Internal(String),
}

impl QueryError {
    /// The reason for programs, as in the table of reasons of the API.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "BAD_QUERY",
            Self::Limit { .. } => "QUERY_LIMIT",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Cancelled => "CANCELLED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Something wrong with the statement, with no place in it.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), line: None, column: None }
    }
}

/// What stands in front of an error of ours inside one of DataFusion's: it survives the way between nodes as text.
const MARK: &str = "[isthmus ";

/// As an error of DataFusion, from which [`from_datafusion`] makes the same again, on this node or another.
pub(crate) fn to_datafusion(error: QueryError) -> DataFusionError {
    let detail = match &error {
        QueryError::Limit { what, detail } => format!("{what} {detail}"),
        QueryError::Unavailable(why) | QueryError::Internal(why) => why.clone(),
        other => other.to_string(),
    };
    DataFusionError::Execution(format!("{MARK}{}] {detail}", error.reason()))
}

/// An error for what can't be, unless there is a fault in here or in what was read.
macro_rules! broken {
    ($($what:tt)*) => {
        $crate::error::to_datafusion($crate::error::QueryError::Internal(format!($($what)*)))
    };
}
pub(crate) use broken;

/// What an error of DataFusion means to a caller; `sql` is the statement.
pub(crate) fn from_datafusion(error: &DataFusionError, sql: &str) -> QueryError {
    let mut place = None;
    let mut error = error;
    loop {
        error = match error {
            DataFusionError::Diagnostic(diagnostic, inner) => {
                place = place.or(diagnostic.span.map(|span| (span.start.line, span.start.column)));
                inner
            }
            DataFusionError::Context(_, inner) => inner,
            DataFusionError::Shared(inner) => inner,
            // The first is as good as any: the others are told once it is mended.
            DataFusionError::Collection(errors) if !errors.is_empty() => match errors.first() {
                Some(first) => first,
                None => break,
            },
            _ => break,
        };
    }
    let text = error.strip_backtrace();
    if let Some(ours) = marked(&text) {
        return ours;
    }
    match error {
        DataFusionError::SQL(parser, _) => {
            let text = parser.to_string();
            let text = text.trim_start_matches("sql parser error: ");
            let (what, place) = match text.rsplit_once(" at Line: ") {
                Some((what, at)) => (what, place_of(at).or(place)),
                None => (text, place),
            };
            at_place(what.to_owned(), place, sql)
        }
        DataFusionError::Plan(what) | DataFusionError::NotImplemented(what) => {
            at_place(tidy(what), place, sql)
        }
        DataFusionError::SchemaError(..) | DataFusionError::Configuration(_) => {
            at_place(tidy(&text), place, sql)
        }
        DataFusionError::ResourcesExhausted(what) => exhausted(what),
        DataFusionError::ArrowError(arrow, _) => of_arrow(arrow, &text),
        DataFusionError::Execution(_) if text.contains("Resources exhausted") => exhausted(&text),
        // What a row makes an expression do: a division by zero, a text that is no number.
        DataFusionError::Execution(what) if is_of_network(what) => QueryError::Unavailable(what.clone()),
        DataFusionError::Execution(what) => QueryError::invalid(tidy(what)),
        _ if text.contains("Resources exhausted") => exhausted(&text),
        // A nested loop join that has no memory left reads its input again, to spill it. What comes over the network can
        // be read once.
        _ if text.contains("was already consumed") => exhausted("the rows of a join don't fit"),
        _ if is_of_network(&text) => QueryError::Unavailable(text),
        _ => QueryError::Internal(text),
    }
}

fn marked(text: &str) -> Option<QueryError> {
    let (_, rest) = text.split_once(MARK)?;
    let (reason, detail) = rest.split_once("] ")?;
    let detail = detail.to_owned();
    Some(match reason {
        "UNAVAILABLE" => QueryError::Unavailable(detail),
        "CANCELLED" => QueryError::Cancelled,
        "DEADLINE_EXCEEDED" => QueryError::DeadlineExceeded,
        "BAD_QUERY" => QueryError::invalid(detail),
        "OVERLOADED" => QueryError::Overloaded { retry_after: Duration::from_secs(1) },
        "QUERY_LIMIT" => {
            let (name, detail) = detail.split_once(' ').unwrap_or((&detail, ""));
            let what = Limit::ALL.into_iter().find(|limit| limit.name() == name)?;
            QueryError::Limit { what, detail: detail.to_owned() }
        }
        _ => QueryError::Internal(detail),
    })
}

fn of_arrow(error: &ArrowError, text: &str) -> QueryError {
    match error {
        ArrowError::DivideByZero
        | ArrowError::ArithmeticOverflow(_)
        | ArrowError::CastError(_)
        | ArrowError::ParseError(_)
        | ArrowError::InvalidArgumentError(_)
        | ArrowError::ComputeError(_) => QueryError::invalid(tidy(&error.to_string())),
        _ if text.contains("Resources exhausted") => exhausted(text),
        _ => QueryError::Internal(text.to_owned()),
    }
}

fn is_of_network(text: &str) -> bool {
    [
        "Error connecting to",
        "transport error",
        "tcp connect error",
        "Worker connection",
        "h2 protocol error",
        "waiting for the plan",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

fn exhausted(text: &str) -> QueryError {
    let on_disk = ["disk", "DiskManager", "temp directory", "spill"].iter().any(|word| text.contains(word))
        && !text.contains("Failed to allocate");
    let (what, detail) = if on_disk {
        (Limit::Spill, "the folder for what doesn't fit into memory is full; ask for less at once")
    } else {
        (Limit::Memory, "group or join by less, or filter first")
    };
    // Who asked for more, and who had most: for whoever sets the limits.
    tracing::warn!(why = text, "a query was stopped at its limit");
    QueryError::Limit { what, detail: detail.to_owned() }
}

/// The first sentence or so: without the lists of all functions and columns of all tables.
fn tidy(text: &str) -> String {
    const LONGEST: usize = 600;
    let text = text.trim().trim_start_matches("Error during planning: ");
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

fn place_of(at: &str) -> Option<(u64, u64)> {
    let (line, column) = at.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

fn at_place(message: String, place: Option<(u64, u64)>, sql: &str) -> QueryError {
    let Some((line, column)) = place.filter(|(line, column)| *line > 0 && *column > 0) else {
        return QueryError::invalid(message);
    };
    let near = near(sql, line, column);
    let message =
        if near.is_empty() { format!("{message}, at the end") } else { format!("{message}, near {near:?}") };
    QueryError::Invalid { message, line: Some(line), column: Some(column) }
}

/// The word, or the sign, at a place.
fn near(sql: &str, line: u64, column: u64) -> String {
    let skip = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = sql.lines().nth(skip(line)).unwrap_or_default();
    let rest: Vec<char> = line.chars().skip(skip(column)).collect();
    let is_word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '"' | '.' | '$');
    let word: String = rest.iter().take_while(|c| is_word(c)).take(60).collect();
    if word.is_empty() { rest.first().map(char::to_string).unwrap_or_default() } else { word }
}

#[cfg(test)]
mod tests {
    use datafusion::common::{Diagnostic, Location, Span};

    use super::*;

    #[test]
    fn our_errors_come_back_from_another_node() {
        let told = to_datafusion(QueryError::Unavailable("shard 3".to_owned()));
        let over = DataFusionError::Context(
            "worker".to_owned(),
            Box::new(DataFusionError::Execution(told.to_string())),
        );
        assert!(matches!(from_datafusion(&over, ""), QueryError::Unavailable(why) if why == "shard 3"));
    }

    #[test]
    fn limits_and_refusals_come_back_too() {
        let over = |error| DataFusionError::Execution(to_datafusion(error).to_string());
        let limit = QueryError::Limit { what: Limit::Rows, detail: "ask for less".to_owned() };
        let told = from_datafusion(&over(limit), "");
        assert!(matches!(told, QueryError::Limit { what: Limit::Rows, detail } if detail == "ask for less"));
        let refused = QueryError::Overloaded { retry_after: Duration::ZERO };
        assert!(matches!(from_datafusion(&over(refused), ""), QueryError::Overloaded { .. }));
        let fault = from_datafusion(&broken!("column {} is missing", 3), "");
        assert!(matches!(fault, QueryError::Internal(what) if what == "column 3 is missing"));
    }

    #[test]
    fn a_place_is_told_with_what_is_there() {
        let span = Span::new(Location { line: 2, column: 8 }, Location { line: 2, column: 12 });
        let error = DataFusionError::Plan("there is none".to_owned())
            .with_diagnostic(Diagnostic::new_error("none", Some(span)));
        let QueryError::Invalid { message, line, column } =
            from_datafusion(&error, "SELECT\n     , nmae\nFROM x")
        else {
            panic!("not invalid");
        };
        assert_eq!((message.as_str(), line, column), ("there is none, near \"nmae\"", Some(2), Some(8)));
    }

    #[test]
    fn memory_and_room_on_disk_are_told_apart() {
        let of = |text: &str| match from_datafusion(&DataFusionError::ResourcesExhausted(text.to_owned()), "")
        {
            QueryError::Limit { what, .. } => what,
            other => panic!("{other}"),
        };
        assert_eq!(of("Failed to allocate additional 12 MB for SortExec"), Limit::Memory);
        let again = "WorkerConnections stream for partition 1 was already consumed";
        let again = from_datafusion(&DataFusionError::Internal(again.to_owned()), "");
        assert!(matches!(again, QueryError::Limit { what: Limit::Memory, .. }), "{again}");
        assert_eq!(of("The used disk space during the spilling process has exceeded"), Limit::Spill);
    }
}
