//! What the shell understands beside SQL: commands that begin with a backslash, as in psql.

/// A command of the shell.
#[derive(Debug, PartialEq, Eq)]
pub enum Meta<'a> {
    /// `\d`: the tables.
    Tables,
    /// `\d TABLE`: a table's columns.
    Columns(&'a str),
    /// `\timing`: whether to tell how long statements take; `None`: the other of both.
    Timing(Option<bool>),
    /// `\?`: help.
    Help,
    /// `\q`: the end.
    Quit,
    /// None that is known.
    Unknown(&'a str),
}

pub const HELP: &str = "\
A statement may take several lines and ends with ;

  \\d          the tables
  \\d TABLE    a table's columns
  \\timing     tell how long statements take, or don't (\\timing on, \\timing off)
  \\?          this help
  \\q          the end, as Ctrl-D

Ctrl-C takes back what was typed, and stops a statement under way on all nodes.";

/// Reads a line that begins with a backslash. `None`: it doesn't.
pub fn read(line: &str) -> Option<Meta<'_>> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let command = line.strip_prefix('\\')?;
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    Some(match (name, rest) {
        ("d" | "dt", "") => Meta::Tables,
        ("d", table) => Meta::Columns(table),
        ("timing", "") => Meta::Timing(None),
        ("timing", "on") => Meta::Timing(Some(true)),
        ("timing", "off") => Meta::Timing(Some(false)),
        ("?" | "h" | "help", _) => Meta::Help,
        ("q" | "quit", "") => Meta::Quit,
        _ => Meta::Unknown(line),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_what_people_put_around_them() {
        for (line, meta) in [
            (" \\d ; ", Some(Meta::Tables)),
            ("\\d  system.nodes", Some(Meta::Columns("system.nodes"))),
            ("\\timing", Some(Meta::Timing(None))),
            ("\\timing off", Some(Meta::Timing(Some(false)))),
            ("\\?", Some(Meta::Help)),
            ("\\q", Some(Meta::Quit)),
            ("\\x on", Some(Meta::Unknown("\\x on"))),
            ("SELECT '\\d'", None),
        ] {
            assert_eq!(read(line), meta, "{line}");
        }
    }
}
