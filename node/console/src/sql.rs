//! Questions in SQL: a statement, its rows, and a chart where the first column orders numbers.

use maud::{Markup, html};

use crate::{
    failure::sentence,
    page::{Section, Shell, heading},
    show::{count, number},
    spark,
    time::span,
};

/// The path of the page.
pub const PATH: &str = "/sql";
/// Lines of a chart at most: there are colours for so many.
const LINES_MAX: usize = 6;
/// The longest statement that the page takes, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 256 << 10;

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub struct Sql<'a> {
    /// The statement; empty: none was asked yet.
    pub statement: &'a str,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// The tables that there are.
    pub tables: Vec<Table>,
}

/// A table that can be asked about.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// As a statement names it.
    pub name: String,
    /// The names of its columns, with their types.
    pub columns: Vec<(String, String)>,
}

/// What became of a statement.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It has rows.
    Rows(Rows),
    /// It has none.
    Refused(Refused),
}

/// Why a statement has no rows.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// What is wrong and what to do, for people.
    pub message: String,
    /// The stable reason, such as `BAD_QUERY`.
    pub reason: String,
    /// The line and the column, both from 1, the latter in characters.
    pub place: Option<(usize, usize)>,
}

/// The rows of a statement.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; `None` is null.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there are more than are shown.
    pub more: bool,
    /// The cut, as a version token; empty when no shard was read.
    pub version: String,
    /// How long it took.
    pub millis: u64,
}

/// A column.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub sort: Sort,
    /// Its values as numbers, where it has any: seconds since 1970 of times.
    pub values: Vec<Option<f64>>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Text, and all else.
    #[default]
    Text,
    /// Numbers.
    Number,
    /// Times.
    Time,
}

/// The page.
pub fn page(shell: &Shell<'_>, told: &Sql<'_>) -> String {
    let main = html! {
        div.title {
            h1 { "SQL" }
            p.faint { "over all profiles and events, at one cut through the whole cluster" }
        }
        form.sql action=(PATH) method="post" data-sql {
            (shell.token())
            label.hidden for="statement" { "Statement" }
            textarea #statement name="statement" rows="8" required maxlength=(STATEMENT_BYTES_MAX) spellcheck="false"
                autocapitalize="none" autocomplete="off" aria-keyshortcuts="Control+Enter"
                placeholder="SELECT name, count(*) AS seen FROM events GROUP BY name ORDER BY seen DESC" {
                // A line feed at the beginning would be taken for the element's own.
                @if told.statement.starts_with('\n') { "\n" }
                (told.statement)
            }
            p.actions {
                button.primary type="submit" { "Run" }
                span.faint { kbd { "Ctrl" } " " kbd { "Enter" } " runs it, too" }
            }
        }
        details.earlier data-earlier hidden { summary { "Earlier statements" } ul {} }
        @match &told.outcome {
            None => (tables(&told.tables)),
            Some(Outcome::Refused(refused)) => (refusal(told.statement, refused)),
            Some(Outcome::Rows(rows)) => { (chart(rows)) (result(rows)) }
        }
    };
    shell.page(Section::Sql, "SQL", None, main)
}

/// What is wrong, and the line with the place marked.
fn refusal(statement: &str, refused: &Refused) -> Markup {
    html! {
        div.notice.bad role="alert" {
            p.lead { (sentence(&refused.message)) }
            p.faint { code { (refused.reason) } }
            @if let Some((line, column)) = refused.place && let Some((before, at, behind)) = parts(statement, line, column) {
                p.faint { "line " (line) ", column " (column) }
                pre.place { (before) mark { (at) } (behind) }
            }
        }
    }
}

/// The line of a place: what stands in front of it, the word there, and what is behind.
fn parts(statement: &str, line: usize, column: usize) -> Option<(String, String, String)> {
    let text = statement.lines().nth(line.checked_sub(1)?)?;
    let at = column.checked_sub(1)?;
    let letters: Vec<char> = text.chars().collect();
    let (before, rest) = letters.split_at_checked(at)?;
    let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let (word, behind) = rest.split_at_checked(word.max(1)).unwrap_or((rest, &[]));
    let shown = |letters: &[char]| letters.iter().collect::<String>();
    // At the end something is missing: that is where it belongs.
    let at = if word.is_empty() { " ".to_owned() } else { shown(word) };
    Some((shown(before), at, shown(behind)))
}

/// The columns that make a chart: the first one, by which rows are ordered, and the numbers behind it.
fn axes(told: &Rows) -> Option<(&Column, Vec<&Column>)> {
    let (first, others) = told.columns.split_first()?;
    let lines: Vec<&Column> =
        others.iter().filter(|column| column.sort == Sort::Number).take(LINES_MAX).collect();
    let ordered = first.sort != Sort::Text && first.values.iter().all(Option::is_some);
    (ordered && !lines.is_empty() && first.values.len() > 1).then_some((first, lines))
}

/// Drawn here for whoever has no JavaScript; with it, the library draws what `data-chart` holds instead.
fn chart(told: &Rows) -> Markup {
    let Some((first, lines)) = axes(told) else { return html! {} };
    let mut order: Vec<(f64, usize)> = first.values.iter().flatten().copied().zip(0..).collect();
    order.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let of = |column: &Column| -> Vec<Option<f64>> {
        order.iter().map(|(_, row)| column.values.get(*row).copied().flatten()).collect()
    };
    let data = serde_json::json!({
        "times": order.iter().map(|(x, _)| x).collect::<Vec<_>>(),
        "plain": first.sort == Sort::Number,
        "label": first.name,
        "lines": lines.iter().map(|column| serde_json::json!({"name": column.name, "values": of(column)})).collect::<Vec<_>>(),
    });
    let still: Vec<Vec<f64>> = lines
        .iter()
        .map(|column| of(column).into_iter().map(|value| value.unwrap_or(0.0).max(0.0)).collect())
        .collect();
    let still: Vec<&[f64]> = still.iter().map(Vec::as_slice).collect();
    html! {
        section aria-labelledby="chart" {
            (heading("chart", "Chart", html! { "by " (first.name) }))
            figure.chart data-chart=(data.to_string()) {
                (spark::lines(&still))
                figcaption {
                    ul.legend {
                        @for (index, column) in lines.iter().enumerate() {
                            li { span class=(format!("swatch c{}", index + 1)) {} (column.name) }
                        }
                    }
                }
            }
        }
    }
}

fn result(told: &Rows) -> Markup {
    let rows = told.rows.len() as u64;
    let aside = html! {
        (count(rows, "row", "rows")) " in " (span(told.millis))
        @if !told.version.is_empty() { " · cut " code { (told.version) } }
    };
    html! {
        section aria-labelledby="rows" {
            (heading("rows", "Rows", aside))
            @if told.more {
                p.faint { "The first " (number(rows)) " are shown: " code { "isthmus sql" } " gives all, as a table, CSV, JSON or Parquet." }
            }
            @if !told.columns.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Rows" {
                    table.rows {
                        thead { tr { @for column in &told.columns { th.n[column.sort == Sort::Number] scope="col" { (column.name) } } } }
                        tbody { @for row in &told.rows { tr { @for (cell, column) in row.iter().zip(&told.columns) { (value(cell.as_deref(), column)) } } } }
                    }
                }
            }
        }
    }
}

fn value(cell: Option<&str>, column: &Column) -> Markup {
    html! {
        td.n[column.sort == Sort::Number] {
            @match cell {
                // A plan is read over its lines.
                Some(text) if text.contains('\n') => pre { (text) },
                Some(text) => (text),
                None => span.faint { "null" },
            }
        }
    }
}

fn tables(tables: &[Table]) -> Markup {
    html! {
        @if !tables.is_empty() {
            section aria-labelledby="tables" {
                (heading("tables", "Tables", html! { (count(tables.len() as u64, "table", "tables")) }))
                div.cards {
                    @for table in tables {
                        details.card {
                            summary { code { (table.name) } " " span.faint { (count(table.columns.len() as u64, "column", "columns")) } }
                            dl.pairs { @for (name, of) in &table.columns { dt { code { (name) } } dd.faint { (of) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_at_the_place_is_marked() {
        let shown = |sql: &str, line, column| parts(sql, line, column);
        let owned =
            |parts: (&str, &str, &str)| Some((parts.0.to_owned(), parts.1.to_owned(), parts.2.to_owned()));
        assert_eq!(shown("SELECT\n  emial, x", 2, 3), owned(("  ", "emial", ", x")));
        assert_eq!(shown("SELECT (", 1, 8), owned(("SELECT ", "(", "")));
        assert_eq!(shown("SELECT", 1, 7), owned(("SELECT", " ", "")));
        for (line, column) in [(0, 1), (1, 0), (2, 1), (1, 8)] {
            assert_eq!(shown("SELECT", line, column), None);
        }
    }

    #[test]
    fn a_chart_needs_an_order_and_numbers() {
        let column =
            |sort, values: &[Option<f64>]| Column { name: "a".into(), sort, values: values.to_vec() };
        let two = [Some(2.0), Some(1.0)];
        let of =
            |columns: Vec<Column>| axes(&Rows { columns, ..Rows::default() }).map(|(_, lines)| lines.len());
        assert_eq!(of(vec![column(Sort::Time, &two), column(Sort::Number, &two)]), Some(1));
        assert_eq!(of(vec![column(Sort::Text, &[]), column(Sort::Number, &two)]), None);
        assert_eq!(of(vec![column(Sort::Number, &[Some(1.0), None]), column(Sort::Number, &two)]), None);
        assert_eq!(of(vec![column(Sort::Number, &two)]), None);
        assert_eq!(of(Vec::new()), None);
    }
}
