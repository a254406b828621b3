//! Patterns of LIKE: `%` for any text, `_` for one character, a backslash in front of what is meant as it stands.

/// A pattern, ready to be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: String,
    folds_case: bool,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Any,
    One,
    Is(char),
}

impl Pattern {
    /// Reads a pattern; of ILIKE with `folds_case`. `None`: there is nothing behind its last backslash.
    pub fn read(text: &str, folds_case: bool) -> Option<Self> {
        let folded = if folds_case { text.to_lowercase() } else { text.to_owned() };
        let mut pieces = Vec::new();
        let mut chars = folded.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '%' => Piece::Any,
                '_' => Piece::One,
                '\\' => Piece::Is(chars.next()?),
                c => Piece::Is(c),
            });
        }
        Some(Self { text: text.to_owned(), folds_case, pieces })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether upper and lower case are the same to it.
    pub fn folds_case(&self) -> bool {
        self.folds_case
    }

    /// Whether a text is as the pattern says. Takes at most the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let folded;
        let text = if self.folds_case {
            folded = text.to_lowercase();
            &folded
        } else {
            text
        };
        let (mut piece, mut rest) = (0, text);
        // Where to go on when it fails: behind the last `%`, with one character more for that.
        let mut again: Option<(usize, &str)> = None;
        loop {
            let next = rest.chars().next();
            match (self.pieces.get(piece), next) {
                (Some(Piece::Any), _) => {
                    piece += 1;
                    again = Some((piece, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(Piece::One), Some(c)) => {
                    rest = &rest[c.len_utf8()..];
                    piece += 1;
                    continue;
                }
                (Some(Piece::Is(wanted)), Some(c)) if *wanted == c => {
                    rest = &rest[c.len_utf8()..];
                    piece += 1;
                    continue;
                }
                _ => {}
            }
            match again {
                Some((from, at)) => match at.chars().next() {
                    Some(c) => {
                        rest = &at[c.len_utf8()..];
                        again = Some((from, rest));
                        piece = from;
                    }
                    None => return false,
                },
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_any_text_and_underscore_one_character() {
        let like = |text: &str, pattern: &str| Pattern::read(pattern, false).unwrap().matches(text);
        assert!(
            like("", "") && like("", "%") && like("abc", "a%") && like("abc", "%c") && like("abc", "a_c")
        );
        assert!(like("äöü", "_ö_") && like("aXbXc", "a%b%c") && like("aab", "%ab") && like("50%", "50\\%"));
        assert!(!like("", "_") && !like("abc", "ab") && !like("ABC", "abc") && !like("500", "50\\%"));
        assert!(!like("abcabd", "%abc") && like("abcabc", "%abc"));
        assert!(Pattern::read("ÄB%", true).unwrap().matches("äbc"));
        assert!(Pattern::read("a\\", false).is_none());
    }
}
