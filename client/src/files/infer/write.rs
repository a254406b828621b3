//! A guess as a mapping file, each line with the reason for it.

use super::{
    guess::{Guess, Line, Said},
    sample::Sample,
};

/// The mapping file.
pub(super) fn toml(sample: &Sample, guess: &Guess, file: &str) -> String {
    let mut out = Vec::new();
    let rows = if sample.more {
        format!("the first {} rows", sample.rows)
    } else {
        format!("all {} rows", sample.rows)
    };
    out.push(format!(
        "# A first mapping for {}, guessed from {rows}: look it over before it is used.",
        comment(file)
    ));
    out.push(String::new());
    if let Some(csv) = &sample.csv {
        out.push(format!("delimiter = {}", text(csv.delimiter)));
        out.push(format!("has_header = {}", csv.has_header));
        if csv.names_needed {
            let names: Vec<String> = sample.columns.iter().map(|column| text(&column.name)).collect();
            out.push(format!("columns = [{}]", names.join(", ")));
        }
        if csv.quoted_newlines {
            out.push("quoted_newlines = true".to_owned());
        }
        if csv.ragged > 0 {
            out.push(format!(
                "# {} further rows have another number of columns: such rows are kept in quarantine.",
                csv.ragged
            ));
        }
        out.push(String::new());
    }
    let (kind, why) = &guess.kind;
    out.push(format!("type = {}  # {}", said(kind), comment(why)));
    if let Some((event, why)) = &guess.event {
        out.push(format!("event = {}  # {}", said(event), comment(why)));
    }
    if let Some(line) = &guess.message_id {
        out.push(entry(line));
    }
    match &guess.timestamp {
        Some(line) => out.push(entry(line)),
        None => out.push("# timestamp: none found; events count as of when they come in.".to_owned()),
    }
    for (title, lines) in
        [("identifiers", &guess.identifiers), ("properties", &guess.properties), ("traits", &guess.traits)]
    {
        if !lines.is_empty() {
            out.push(format!("\n[{title}]"));
            out.extend(lines.iter().map(entry));
        }
    }
    if !guess.notes.is_empty() {
        out.push(String::new());
        out.extend(guess.notes.iter().map(|note| format!("# {}", comment(note))));
    }
    out.join("\n") + "\n"
}

fn said(said: &Said) -> String {
    match said {
        Said::Constant(name) => text(name),
        Said::Column(name) => format!("{{ column = {} }}", text(name)),
    }
}

fn entry(line: &Line) -> String {
    let value = match (line.kind, line.format) {
        (None, None) => text(&line.column),
        (kind, format) => {
            let kind = kind.map(|kind| format!(", type = {}", text(kind))).unwrap_or_default();
            let format = format.map(|format| format!(", format = {}", text(format))).unwrap_or_default();
            format!("{{ column = {}{kind}{format} }}", text(&line.column))
        }
    };
    format!("{} = {value}  # {}", key(&line.key), comment(&line.why))
}

/// A string of TOML, on one line.
fn text(text: &str) -> String {
    // JSON's escapes are TOML's, but for the character DEL.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { text(name) }
}

/// Text in a comment: on one line, and without what a comment must not hold.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
