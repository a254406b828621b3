//! Where statements end: at a `;` outside of quotes and comments.
//!
//! What SQL knows of both is followed: `'…'` and `"…"` with the quote doubled inside, `$tag$…$tag$`, `--` to the end of the
//! line, and `/* … */`, which nest. Whether a statement makes sense the hub says.

/// What stands between the quotes and comments of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// A character of the statement itself, at this byte.
    Plain(usize, char),
    /// Something quoted, or in a comment. Not `closed`: it runs to the end of the text.
    Covered { comment: bool, closed: bool, text: &'a str },
}

/// The pieces of a text, in order.
struct Pieces<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What begins here and goes on for so many bytes; `None`: to the end.
    fn covered(&mut self, comment: bool, bytes: Option<usize>) -> Piece<'a> {
        let rest = self.rest();
        let text = bytes.and_then(|bytes| rest.get(..bytes)).unwrap_or(rest);
        self.at += text.len();
        Piece::Covered { comment, closed: bytes.is_some(), text }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        let from = |open: usize, close: &str| {
            rest.get(open..).and_then(|inner| inner.find(close)).map(|at| open + at + close.len())
        };
        Some(match first {
            '\'' | '"' => self.covered(false, quoted(rest, first)),
            '-' if rest.starts_with("--") => {
                // The end of the text ends such a comment, too.
                let bytes = rest.find('\n').unwrap_or(rest.len());
                self.covered(true, Some(bytes))
            }
            '/' if rest.starts_with("/*") => self.covered(true, nested(rest)),
            '$' if let Some(tag) = tag(rest) => self.covered(false, from(tag.len(), tag)),
            plain => {
                let at = self.at;
                self.at += plain.len_utf8();
                Piece::Plain(at, plain)
            }
        })
    }
}

/// The bytes of what begins with a quote. One that is doubled is part of it: what follows is quoted anew.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let inner = rest.get(1..)?;
    inner.find(quote).map(|at| at + 2)
}

/// The bytes of a comment in `/* … */`.
fn nested(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        let step = if here.starts_with("/*") {
            depth += 1;
            2
        } else if here.starts_with("*/") {
            depth = depth.saturating_sub(1);
            2
        } else {
            here.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `$$` or `$tag$`; nothing for parameters such as `$1`.
fn tag(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('$')?;
    let end = inner.find('$')?;
    let name = inner.get(..end)?;
    let first = name.chars().next();
    let fits = first.is_none_or(|c| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    rest.get(..end + 2).filter(|_| fits)
}

/// The statements of a text that end, without their `;`, and the rest behind the last one.
pub fn split(text: &str) -> (Vec<&str>, &str) {
    let (mut statements, mut begun) = (Vec::new(), 0);
    for piece in Pieces::of(text) {
        if let Piece::Plain(at, ';') = piece {
            let statement = text.get(begun..at).unwrap_or_default();
            if !is_blank(statement) {
                statements.push(statement);
            }
            begun = at + 1;
        }
    }
    (statements, text.get(begun..).unwrap_or_default())
}

/// All statements of a text: the last one needs no `;`.
pub fn all(text: &str) -> Vec<&str> {
    let (mut statements, rest) = split(text);
    if !is_blank(rest) {
        statements.push(rest);
    }
    statements
}

/// Whether there is nothing in a text but space and comments.
pub fn is_blank(text: &str) -> bool {
    Pieces::of(text).all(|piece| match piece {
        Piece::Plain(_, c) => c.is_whitespace(),
        Piece::Covered { comment, closed, .. } => comment && closed,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_neither_quoted_nor_in_comments() {
        for (text, statements, rest) in [
            ("SELECT 1", vec![], "SELECT 1"),
            ("SELECT 1; SELECT 2;\n", vec!["SELECT 1", " SELECT 2"], "\n"),
            (";; ;-- a;b\n;", vec![], ""),
            ("SELECT ';', 'it''s;', \"a;\"\"b\"; x", vec!["SELECT ';', 'it''s;', \"a;\"\"b\""], " x"),
            ("a /* ; /* ; */ ; */ b; c", vec!["a /* ; /* ; */ ; */ b"], " c"),
            ("a -- ;\n b; c -- ;", vec!["a -- ;\n b"], " c -- ;"),
            ("$$;$$; $t$ ; $$ ; $t$; $1;$2", vec!["$$;$$", " $t$ ; $$ ; $t$", " $1"], "$2"),
            ("SELECT 'open; ;", vec![], "SELECT 'open; ;"),
            ("/* open ;", vec![], "/* open ;"),
            ("Müller; ß", vec!["Müller"], " ß"),
        ] {
            assert_eq!(split(text), (statements, rest), "{text}");
        }
        assert_eq!(all("a; b -- c\n"), ["a", " b -- c\n"]);
        assert!(is_blank(" -- a\n /* ; */\t") && !is_blank("/* open") && !is_blank("''"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_text(text in "[a;'\"$/*\\-\n ß]{0,40}") {
            let mut bytes = 0;
            for piece in Pieces::of(&text) {
                bytes += match piece {
                    Piece::Plain(at, c) => {
                        prop_assert_eq!(at, bytes);
                        c.len_utf8()
                    }
                    Piece::Covered { text, .. } => text.len(),
                };
            }
            prop_assert_eq!(bytes, text.len());
            let (_, rest) = split(&text);
            prop_assert!(text.ends_with(rest));
        }
    }
}
