//! Where in a statement or an expression something is wrong, shown with a mark below it.

use crate::{
    Error, Reason,
    cli::{failure::Failure, output::harmless},
};

/// Characters of a line that are shown in front of the place and behind it.
const AROUND: usize = 60;

/// The failure, with the line of the text that it is about, where the hub has named a place in it.
pub fn marked(error: Error, text: &str) -> Failure {
    match line_of(&error, text) {
        Some(line) => Failure::Failed(format!("{error}\n{line}")),
        None => error.into(),
    }
}

fn line_of(error: &Error, text: &str) -> Option<String> {
    let Error::Refused(refusal) = error else { return None };
    if !matches!(refusal.reason, Reason::BadQuery | Reason::InvalidSegment) {
        return None;
    }
    let number = |key: &str| refusal.metadata.get(key).and_then(|text| text.parse::<usize>().ok());
    line(text, number("line")?, number("column")?)
}

/// A line of a text with a caret below a column; both are counted from 1, columns in characters.
fn line(text: &str, line: usize, column: usize) -> Option<String> {
    let text = text.lines().nth(line.checked_sub(1)?)?;
    let before = column.checked_sub(1)?;
    let length = text.chars().count();
    // Just behind the last character is where something is missing.
    if before > length {
        return None;
    }
    let from = before.saturating_sub(AROUND);
    let shown: Vec<String> =
        text.chars().skip(from).take(2 * AROUND).map(|c| harmless(&c.to_string())).map(tab).collect();
    let ahead: usize = shown.iter().take(before - from).map(|c| width(c)).sum();
    let lead = if from > 0 { "… " } else { "" };
    let number = format!("line {line}: {lead}");
    let gap = " ".repeat(number.chars().count() + ahead);
    let tail = if from + 2 * AROUND < length { " …" } else { "" };
    Some(format!("  {number}{}{tail}\n  {gap}^", shown.concat()))
}

/// A tab takes one column here.
fn tab(c: String) -> String {
    if c == "\\t" || c == "\t" { " ".to_owned() } else { c }
}

/// How many columns of a terminal a character takes: what Chinese, Japanese and Korean are written with takes two.
fn width(shown: &str) -> usize {
    let wide = |c: char| {
        matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}')
    };
    shown.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_the_place() {
        for (sql, line, column, shown) in [
            ("SELECT emial FROM profiles", 1, 8, "  line 1: SELECT emial FROM profiles\n                 ^"),
            ("SELECT\n  x", 2, 3, "  line 2:   x\n            ^"),
            ("SELECT", 1, 7, "  line 1: SELECT\n                ^"),
            ("\tSELECT '你', x", 1, 14, "  line 1:  SELECT '你', x\n                        ^"),
            ("a\u{1b}b x", 1, 5, "  line 1: a\\u{1b}b x\n                   ^"),
        ] {
            assert_eq!(super::line(sql, line, column).as_deref(), Some(shown), "{sql}");
        }
        for (line, column) in [(0, 1), (1, 0), (2, 1), (1, 9)] {
            assert_eq!(super::line("SELECT", line, column), None);
        }
    }

    #[test]
    fn of_a_long_line_what_is_around_the_place_is_shown() {
        let sql = format!("{}x{}", "a".repeat(200), "b".repeat(200));
        let shown = line(&sql, 1, 201).unwrap();
        let [text, mark] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        assert!(text.starts_with("  line 1: … aaa") && text.ends_with("bbb …"), "{shown}");
        assert_eq!(text.chars().nth(mark.chars().count() - 1), Some('x'));
    }
}
