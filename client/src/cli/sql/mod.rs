//! `isthmus sql`

mod meta;
mod shell;
mod show;
mod statements;

use std::{
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use tokio::time::Instant;

use crate::{
    Client, Error, Parameter, Query,
    cli::{
        document,
        failure::{Done, Failure},
        output::{Format, Output, complain, harmless},
        place,
        profile::Freshness,
    },
    proto,
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus sql
  isthmus sql \"SELECT name, count(*) AS seen FROM events GROUP BY name ORDER BY seen DESC\"
  isthmus sql 'SELECT * FROM events WHERE name = $1' --parameter \"Order Completed\" --output csv > orders.csv
  isthmus sql --file revenue.sql --output json
  isthmus sql \"SELECT * FROM profiles\" --output parquet --to profiles.parquet
  isthmus sql \"EXPLAIN ANALYZE SELECT count(*) FROM profiles\"

Without a statement, standard input is taken; on a terminal that is a shell, where \\? says what is possible. All rows of an
answer are of one cut through the whole cluster: its version token goes to standard error. With --output json there is an
object a row, in which 64-bit integers are exact numbers. Ctrl-C stops a statement on all nodes.

Exit codes: 0 done, 1 refused or failed, 2 usage, 130 stopped by Ctrl-C.";

/// How long a statement may take when nobody says: the hub's own setting is shorter.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The largest text that is read.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// `isthmus sql`
#[derive(Debug, Args)]
pub struct SqlCommand {
    /// The statement, or several with `;` between them [default: standard input]
    #[arg(value_name = "STATEMENT", conflicts_with = "file")]
    statement: Option<String>,
    /// Take the statements of this file; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    /// The value of the next of `$1`, `$2`, …: a number, true, false or null as JSON has them, else text. May be repeated
    #[arg(long = "parameter", short, value_name = "VALUE", allow_hyphen_values = true)]
    parameters: Vec<String>,
    /// Where the rows go with --output parquet
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    freshness: Freshness,
}

/// What all statements of a run share.
struct Session {
    client: Client,
    parameters: Vec<proto::Value>,
    consistency: Option<proto::Consistency>,
    to: Option<PathBuf>,
    /// Whether to tell how long each took.
    timing: bool,
}

pub async fn run(command: SqlCommand, client: Client, output: &mut Output) -> Result<Done, Failure> {
    let SqlCommand { statement, file, parameters, to, freshness } = command;
    match (output.format(), &to) {
        (Format::Parquet, None) => {
            return Err(Failure::Usage("--output parquet needs --to FILE".to_owned()));
        }
        (Format::Parquet, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Failure::Usage("--to is for --output parquet".to_owned())),
    }
    let parameters = parameters.iter().map(|text| parameter(text)).collect();
    let consistency = freshness.consistency()?;
    let session = Session { client, parameters, consistency, to, timing: false };
    let text = match (statement, file) {
        (Some(statement), _) => statement,
        (None, Some(file)) => document::text(&file)?,
        (None, None) if std::io::stdin().is_terminal() => return shell::run(session, output).await,
        (None, None) => input()?,
    };
    let statements = statements::all(&text);
    if statements.is_empty() {
        return Err(Failure::Usage("there is no statement".to_owned()));
    }
    if session.to.is_some() && statements.len() > 1 {
        return Err(Failure::Usage("--to takes the rows of one statement".to_owned()));
    }
    for statement in statements {
        match session.carry_out(statement, output).await? {
            Done::Well => {}
            other => return Ok(other),
        }
    }
    Ok(Done::Well)
}

fn input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    match read.map_err(|error| Failure::Failed(format!("standard input: {error}")))? as u64 {
        0..=INPUT_BYTES_MAX => Ok(text),
        _ => Err(Failure::Failed(format!("standard input: larger than {INPUT_BYTES_MAX} bytes"))),
    }
}

/// The value of a parameter as it was typed.
fn parameter(text: &str) -> proto::Value {
    use serde_json::Value as Json;
    let Parameter(value) = match serde_json::from_str(text) {
        Ok(Json::Null) => None::<bool>.into(),
        Ok(Json::Bool(value)) => value.into(),
        Ok(Json::String(value)) => value.into(),
        Ok(Json::Number(number)) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => value.into(),
            (None, Some(value), _) => value.into(),
            (None, None, Some(value)) => value.into(),
            (None, None, None) => text.into(),
        },
        _ => text.into(),
    };
    value
}

impl Session {
    /// Carries one statement out and prints its rows, until Ctrl-C.
    async fn carry_out(&self, sql: &str, output: &mut Output) -> Result<Done, Failure> {
        let interrupted = tokio::signal::ctrl_c();
        let done = tokio::select! {
            biased;
            // Letting go of the answer stops the work everywhere.
            signal = interrupted => {
                signal?;
                Done::Interrupted
            }
            done = self.print(sql, output) => {
                done?;
                Done::Well
            }
        };
        output.flush()?;
        Ok(done)
    }

    async fn print(&self, sql: &str, output: &mut Output) -> Result<(), Failure> {
        let begun = Instant::now();
        // A statement begins where it begins, and not behind what stood in front of it: lines are counted from there.
        let sql = sql.trim();
        let count = self.rows(sql, output).await.map_err(|failure| match failure {
            Failure::Client(error) => place::marked(error, sql),
            other => other,
        })?;
        if output.format() == Format::Table {
            output.line(&format!("({count} {})", if count == 1 { "row" } else { "rows" }))?;
        }
        output.flush()?;
        if self.timing {
            complain(&format!("time: {:.3} s", begun.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    async fn rows(&self, sql: &str, output: &mut Output) -> Result<u64, Failure> {
        if output.is_json() {
            let rows = self.client.query(self.query(sql)).await?;
            tell_cut(rows.version());
            return show::json(rows, output).await;
        }
        let batches = self.client.query_arrow(self.query(sql)).await?;
        tell_cut(batches.version());
        match (output.format(), &self.to) {
            (Format::Csv, _) => show::csv(batches, output).await,
            (Format::Parquet, Some(to)) => show::parquet(batches, to).await,
            _ => show::table(batches, output).await,
        }
    }

    fn query(&self, sql: &str) -> Query {
        let mut query = Query::new(sql);
        for value in &self.parameters {
            query = query.parameter(value.clone());
        }
        match &self.consistency {
            Some(consistency) => query.consistency(consistency.clone()),
            None => query,
        }
    }

    /// Prints the tables, or one table's columns.
    async fn describe(&self, name: Option<&str>, output: &mut Output) -> Result<(), Failure> {
        let tables = self.client.tables().await?;
        let Some(name) = name else {
            let rows = tables.into_iter().map(|table| vec![full_name(&table), table.description]);
            output.table(&["TABLE", "A ROW IS"], rows)?;
            return Ok(());
        };
        let wanted = name.to_lowercase();
        let found = tables.iter().find(|table| full_name(table) == wanted || table.name == wanted);
        let Some(table) = found else {
            let name = harmless(name);
            return Err(Failure::Failed(format!("there is no table {name}: \\d lists those that there are")));
        };
        if !table.description.is_empty() {
            output.line(&harmless(&table.description))?;
        }
        let rows = table.columns.iter().map(|column| {
            let null = if column.nullable { "may be null" } else { "" };
            vec![column.name.clone(), column.r#type.clone(), null.to_owned(), column.description.clone()]
        });
        output.table(&["COLUMN", "TYPE", "", "MEANING"], rows)?;
        Ok(())
    }
}

/// A table's name, with its schema where it has to be said.
fn full_name(table: &proto::QueryTable) -> String {
    match table.schema.as_str() {
        "public" => table.name.clone(),
        schema => format!("{schema}.{}", table.name),
    }
}

fn tell_cut(version: Option<&str>) {
    if let Some(version) = version {
        complain(&format!("cut: {version}"));
    }
}

/// Whether a failure is one that the shell says and goes on after.
fn is_said(failure: &Failure) -> bool {
    !matches!(failure, Failure::Output(_) | Failure::Client(Error::Usage(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::value::Kind;

    #[test]
    fn parameters_are_what_they_look_like() {
        let kind = |text: &str| parameter(text).kind.unwrap();
        assert_eq!(kind("-5"), Kind::IntValue(-5));
        assert_eq!(kind("18446744073709551615"), Kind::UintValue(u64::MAX));
        assert_eq!(kind("1.5"), Kind::DoubleValue(1.5));
        assert_eq!(kind("null"), Kind::NullValue(proto::Null {}));
        assert_eq!(kind("\"42\""), Kind::StringValue("42".into()));
        for text in ["Order Completed", "2026-01-01", "[1]", ""] {
            assert_eq!(kind(text), Kind::StringValue(text.into()));
        }
    }
}
