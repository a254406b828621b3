//! Printing: tables for people, one JSON object a line for scripts.
//!
//! What comes from customers' data is made harmless before it goes to a terminal: control characters, which could
//! move the cursor or hide text, are shown as escapes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Stdout, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{cli::failure::Failure, json, proto};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values, with a heading.
    Csv,
    /// A Parquet file.
    Parquet,
}

/// Standard output.
pub struct Output {
    format: Format,
    stdout: BufWriter<Stdout>,
}

impl Output {
    pub fn new(format: Format) -> Self {
        Self { format, stdout: BufWriter::new(io::stdout()) }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One object on one line.
    pub fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, object)?;
        self.stdout.write_all(b"\n")
    }

    /// A line for people.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.write_all(b"\n")
    }

    /// A table for people, with a heading over each column.
    pub fn table(
        &mut self,
        headings: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(headings);
        for row in rows {
            table.add_row(row.iter().map(|cell| harmless(cell)));
        }
        let text = table.to_string();
        for line in text.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Names with their values, one a line, for people.
    pub fn facts(&mut self, facts: &[(&str, String)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in facts {
            self.line(format!("{name:width$}  {}", harmless(value)).trim_end())?;
        }
        Ok(())
    }

    /// Traits with their values, one a line under a heading, for people.
    pub fn traits(&mut self, traits: &BTreeMap<String, proto::Value>) -> Result<(), Failure> {
        if !traits.is_empty() {
            self.line("traits")?;
        }
        for (name, value) in traits {
            let value = serde_json::to_string(&json::Value(value)).map_err(io::Error::from)?;
            self.facts(&[(&format!("  {}", harmless(name)), value)])?;
        }
        Ok(())
    }

    /// Writes out what is still buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// The same, and puts it on disk when it goes into a file: what was printed is there even after a power cut.
    pub fn keep(&mut self) -> io::Result<()> {
        self.stdout.flush()?;
        sync_file(self.stdout.get_ref().as_fd())?;
        Ok(())
    }
}

/// Syncs what was written when it is a regular file; whether it is one.
fn sync_file(out: BorrowedFd<'_>) -> io::Result<bool> {
    let file = File::from(out.try_clone_to_owned()?);
    let regular = file.metadata()?.is_file();
    if regular {
        file.sync_data()?;
    }
    Ok(regular)
}

/// Text without control and formatting characters, shown as escapes instead.
pub fn harmless(text: &str) -> String {
    let unsafe_in_terminals = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(unsafe_in_terminals) {
        return text.to_owned();
    }
    let shown = text
        .chars()
        .map(|c| if unsafe_in_terminals(c) { c.escape_default().to_string() } else { c.to_string() });
    shown.collect()
}

/// A line on standard error. One that can't be written is given up: there is nowhere left to say so.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_synced_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        assert!(sync_file(file.as_fd()).unwrap());
        let (_reader, writer) = io::pipe().unwrap();
        assert!(!sync_file(writer.as_fd()).unwrap());
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(!sync_file(null.as_fd()).unwrap());
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(harmless("Müller 你好"), "Müller 你好");
    }
}
