//! Patterns of blocked values: `*@example.com`, `test-???`.
//!
//! Not regular expressions: replicas of different versions must agree on every match for ever, and the meaning of a
//! regular expression moves with its library's tables. `*` stands for any run of characters, an empty one included,
//! `?` for exactly one, and `\` before one of these three (or itself) for that character. Letters match in any case.
//! A match takes at most (length of pattern) x (length of value) steps.

/// A pattern with `*` and `?`. `Debug` does not show it: it may hold part of somebody's address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Run,
    One,
    Char(char),
}

impl Pattern {
    /// Reads a pattern; `None` when it is blank, ends in a lone `\`, or would match every value.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let (mut parts, mut chars) = (Vec::new(), text.chars());
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Run,
                '?' => Part::One,
                '\\' => Part::Char(chars.next()?),
                c => Part::Char(c),
            });
        }
        parts.dedup_by(|a, b| *a == Part::Run && *b == Part::Run);
        // `*`, `?*` and their like match (nearly) everything: that is no block list but a namespace switched off.
        let says_something = parts.iter().any(|part| matches!(part, Part::Char(_)));
        let bounded = !parts.is_empty() && !parts.contains(&Part::Run);
        (says_something || bounded).then_some(Self { text, parts })
    }

    /// The pattern, lower-cased.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of a value that is in lower case.
    pub(super) fn matches_lower(&self, value: &str) -> bool {
        let value: Vec<char> = value.chars().collect();
        let (mut v, mut p) = (0, 0);
        // Where to go on when a literal fails: behind the last run, which then takes one character more.
        let mut last_run: Option<(usize, usize)> = None;
        while v < value.len() {
            match self.parts.get(p) {
                Some(Part::Run) => {
                    last_run = Some((p, v));
                    p += 1;
                    continue;
                }
                Some(Part::One) => {}
                Some(Part::Char(c)) if *c == value[v] => {}
                _ => {
                    let Some((run, from)) = last_run else { return false };
                    last_run = Some((run, from + 1));
                    (p, v) = (run + 1, from + 1);
                    continue;
                }
            }
            p += 1;
            v += 1;
        }
        self.parts[p..].iter().all(|part| *part == Part::Run)
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({} parts)", self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches_lower(&value.to_lowercase())
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_always_do() {
        for (pattern, value, expected) in [
            ("*@example.com", "A@Example.com", true),
            ("*@example.com", "a@example.com.de", false),
            ("test-???", "test-123", true),
            ("test-???", "test-12", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("a*", "a", true),
            (r"\*\?", "*?", true),
            (r"\*\?", "ab", false),
            ("ÄRGER*", "ärger@b.de", true),
            ("???", "abc", true),
        ] {
            assert_eq!(matches(pattern, value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn a_pattern_that_blocks_everything_is_none() {
        for bad in ["", "  ", "*", "**", "?*", r"a\"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }

    /// The definition, by trying everything.
    fn slow(parts: &[Part], value: &[char]) -> bool {
        match (parts, value) {
            ([], []) => true,
            ([Part::Run, rest @ ..], _) => (0..=value.len()).any(|n| slow(rest, &value[n..])),
            ([Part::One, rest @ ..], [_, tail @ ..]) => slow(rest, tail),
            ([Part::Char(c), rest @ ..], [v, tail @ ..]) => c == v && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn matching_is_what_trying_everything_finds(pattern in "[ab*?]{1,7}", value in "[ab]{0,8}") {
            if let Some(pattern) = Pattern::parse(&pattern) {
                let chars: Vec<char> = value.chars().collect();
                prop_assert_eq!(pattern.matches_lower(&value), slow(&pattern.parts, &chars));
            }
        }
    }
}
