//! Numbers, names and JSON as pages show them.

use isthmus_proto::v1::{EventType, Identifier};
use maud::{Markup, html};

/// A whole number with its thousands apart by a thin space, as ISO 80000-1 asks for.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// A rate a second: with a decimal while it is small.
pub(crate) fn rate(a_second: f64) -> String {
    match a_second {
        slow if slow <= 0.0 => "0".to_owned(),
        slow if slow < 0.1 => "< 0.1".to_owned(),
        some if some < 10.0 => format!("{some:.1}"),
        many => number(many.round() as u64),
    }
}

/// `1 node`, `3 nodes`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// An identifier: namespace small, value in full.
pub(crate) fn identifier(identifier: &Identifier) -> Markup {
    html! {
        span.identifier { span.namespace { (identifier.namespace) } span.value { (identifier.value) } }
    }
}

/// An event's type as Segment's specification spells it.
pub(crate) fn event_type(kind: EventType) -> &'static str {
    match kind {
        EventType::Unspecified => "unknown",
        EventType::Identify => "identify",
        EventType::Track => "track",
        EventType::Page => "page",
        EventType::Screen => "screen",
        EventType::Group => "group",
        EventType::Alias => "alias",
    }
}

/// A value of a trait: a text as it is, anything else as JSON.
pub(crate) fn value(json: &str) -> Markup {
    html! {
        @match serde_json::from_str::<String>(json) {
            Ok(text) if text.is_empty() => span.faint { "(empty text)" },
            Ok(text) => (text),
            Err(_) if json.starts_with(['{', '[']) => pre.json { (indented(json)) },
            Err(_) => code { (json) },
        }
    }
}

/// JSON text over several lines. Only white space is put in and left out: numbers keep their digits, objects their
/// order. What isn't JSON comes out as it came, more or less spaced.
pub(crate) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(64)));
    };
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(number),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!([0.0, 0.04, 3.25, 12.4].map(rate), ["0", "< 0.1", "3.2", "12"]);
        assert_eq!([count(1, "node", "nodes"), count(0, "node", "nodes")], ["1 node", "0 nodes"]);
    }

    #[test]
    fn json_is_only_spaced() {
        let json = r#"{"n":123456789012345678901.50,"t":"a, \"b\": {c}","e":{},"l":[ 1,[ ] ]}"#;
        let shown = indented(json);
        assert_eq!(
            shown,
            "{\n  \"n\": 123456789012345678901.50,\n  \"t\": \"a, \\\"b\\\": {c}\",\n  \"e\": {},\n  \"l\": [\n    1,\n    []\n  ]\n}"
        );
        assert_eq!(indented("\"\\\\\",1"), "\"\\\\\",\n1", "an escaped escape ends with its text");
        assert_eq!(indented(""), "");
        assert!(indented(&"}]".repeat(200)).contains('}'));
    }
}
