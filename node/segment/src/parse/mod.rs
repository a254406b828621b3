//! From the text of an expression to its typed tree.
//!
//! The grammar is SQL's, read by the parser that DataFusion uses; [`expression`] takes what a segment may say of it, and
//! refuses the rest with its place and a word on what to write instead. The language:
//!
//! - traits by name, `"quoted"` where the name is not a word; `address.city` leads into an object; a quoted name is
//!   always a trait, so one called like something below can be reached;
//! - computed traits by name; `first_seen`, `last_seen`, `revenue`, `revenue('EUR')`, `now()`;
//! - `consent('purpose')`: the newest that an event said in `context.consent.categoryPreferences`, as Segment's SDKs send
//!   it; NULL where nothing was said;
//! - `events('Name', 'window', filter)`, how many; `did(…)`, whether any. Window and filter may be left out;
//!   `('A', 'B')` in place of a name is any of them; `type => 'page'` asks for events of another type than `track`;
//! - `sum`, `avg`, `min`, `max`, `first`, `last`, `most_frequent`, `distinct_count` and `distinct_list(property,
//!   'Name', 'window', filter)`;
//! - `sequence('A', 'B', within => '1 day')`; `NOT 'B'`: not followed by; a step with a filter is `event('A', filter)`;
//! - `segment('other')`; `contains(list, value)`, or `value = ANY(list)`; `coalesce(…)`;
//! - AND, OR, NOT, comparisons, BETWEEN, IN, LIKE, ILIKE, IS \[NOT\] NULL, TRUE, FALSE and UNKNOWN, arithmetic, CAST,
//!   INTERVAL, TIMESTAMP and DATE.
//!
//! In a filter names are properties of the event, and nothing is known but the event.
//!
//! **Types.** JSON has no types that could be relied on, so what stands around a trait or a property says as what it
//! is read: `age > 18` reads a number, `plan = 'pro'` a text. Where nothing says it, `CAST` does.
//!
//! **Bounds.** Text, tokens, nesting and nodes are bounded, so that no text can take the stack or much time.

mod calls;
mod lower;
mod typing;

pub(crate) use calls::{TYPES, type_named};
pub(crate) use typing::default_type;

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::{
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, Tokenizer},
};

use crate::{
    fault::{Fault, Place},
    scalar::{Path, Type},
    tree::{Aggregate, Node},
};

/// The longest expression, in bytes.
pub const TEXT_BYTES_MAX: usize = 8 << 10;
/// The most tokens, white space left out.
pub const TOKENS_MAX: usize = 2_000;
/// How deep an expression may be nested. A chain of AND or of OR counts once.
pub const DEPTH_MAX: usize = 32;

/// What names mean, besides traits.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Computed traits.
    pub computed: BTreeMap<String, Computed>,
    /// Segments.
    pub segments: BTreeSet<String>,
    /// The traits that there are, with their types where those are registered; `None`: any name may be a trait.
    pub traits: Option<BTreeMap<String, Type>>,
    /// The currency of `revenue`.
    pub currency: String,
}

/// What a computed trait is.
#[derive(Clone, PartialEq, Debug)]
pub struct Computed {
    /// How it is worked out.
    pub aggregate: Aggregate,
    /// What it gives.
    pub ty: Type,
}

/// Reads a segment's expression.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn expression(text: &str, names: &Names) -> Result<Node, Fault> {
    lower::root(&parsed(text)?, lower::Scope::Profile(names))
}

/// Reads a filter of events.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn filter(text: &str) -> Result<Node, Fault> {
    lower::root(&parsed(text)?, lower::Scope::Event)
}

/// Reads the name of a property, perhaps with a CAST.
///
/// # Errors
/// What is wrong, where, and what to do.
pub(crate) fn property(text: &str) -> Result<(Path, Option<Type>), Fault> {
    calls::property(&parsed(text)?, Place::START, "write its name, such as amount or product.category")
}

fn parsed(text: &str) -> Result<sqlparser::ast::Expr, Fault> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("the text has {} bytes; {TEXT_BYTES_MAX} are the most", text.len());
        return Err(Fault::new(Place::START, what));
    }
    if text.trim().is_empty() {
        return Err(Fault::new(Place::START, "there is no expression: write one, such as plan = 'pro'"));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| Fault::new(place(error.location, Place::START), error.message))?;
    let mut seen = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    if let Some(token) = seen.nth(TOKENS_MAX) {
        let what = format!("more than {TOKENS_MAX} words and signs: split it into several segments");
        return Err(Fault::new(place(token.span.start, Place::START), what));
    }
    let end = Place::of_byte(text, text.trim_end().len());
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(DEPTH_MAX + 8).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|error| of_parser(error, &parser, end))?;
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(expr),
        token => {
            let what = format!("{token} is not expected here: an expression ends in front of it");
            Err(Fault::new(place(next.span.start, end), what))
        }
    }
}

/// The parser's errors end with their place, or with none.
fn of_parser(error: ParserError, parser: &Parser<'_>, end: Place) -> Fault {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            let what = format!("nested too deeply: at most {DEPTH_MAX}");
            return Fault::new(place(parser.peek_token().span.start, end), what);
        }
    };
    let Some((what, at)) = text.rsplit_once(" at Line: ") else {
        return Fault::new(place(parser.peek_token().span.start, end), text);
    };
    let at = at.split_once(", Column: ").and_then(|(line, column)| {
        Some(Place { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    Fault::new(at.filter(|at| at.line > 0).unwrap_or(end), what)
}

/// A location as a place; empty ones are `near`.
fn place(location: Location, near: Place) -> Place {
    match (u32::try_from(location.line), u32::try_from(location.column)) {
        (Ok(line @ 1..), Ok(column)) => Place { line, column: column.max(1) },
        _ => near,
    }
}
