//! What of a text is compared: case, accents and punctuation are folded away; sounds; dates in any spelling.
//!
//! Folding is Unicode's compatibility decomposition with the marks dropped, lower case, and a few letters that
//! Unicode does not take apart (ß, ø, æ). Whatever is no letter and no digit separates words, but for apostrophes,
//! which vanish (O'Brien is obrien). A text is read up to [`CHARS_MAX`] characters, so that no comparison, which is
//! quadratic in the length, can be made slow from outside.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What is read of a value, in characters.
pub(crate) const CHARS_MAX: usize = 128;

/// The words of a text, folded.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars().take(CHARS_MAX).nfkd().flat_map(char::to_lowercase).take(2 * CHARS_MAX) {
        if c.is_alphanumeric() && !is_combining_mark(c) {
            match c {
                'ß' => word.push_str("ss"),
                'ø' => word.push('o'),
                'æ' => word.push_str("ae"),
                'œ' => word.push_str("oe"),
                'ł' => word.push('l'),
                'đ' | 'ð' => word.push('d'),
                'þ' => word.push_str("th"),
                'ı' => word.push('i'),
                c => word.push(c),
            }
        } else if !is_combining_mark(c) && !matches!(c, '\'' | '’' | 'ʼ' | '`') && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A date as `yyyymmdd`, when it is spelled with its year first or last; else its letters and digits as they stand.
///
/// Of `3/4/1990` the day is taken to be first, unless only the other way gives a month: a pair of records that
/// differ in that convention still comes out close, as day and month swapped. That the date exists is not checked:
/// a mistyped date compares well as the digits that it is.
pub(crate) fn date(text: &str) -> String {
    let words = words(text);
    let numeric = |word: &String| word.bytes().all(|b| b.is_ascii_digit());
    if let [a, b, c, ..] = words.as_slice()
        && [a, b].into_iter().all(numeric)
    {
        // RFC 3339 leaves a "t" and the time in the third word: 1990-04-03T00:00:00Z.
        let c = c.split('t').next().unwrap_or(c);
        let short = |word: &str| word.len() <= 2 && !word.is_empty();
        if a.len() == 4 && short(b) && short(c) {
            return format!("{a}{b:0>2}{c:0>2}");
        }
        if short(a) && short(b) && c.len() == 4 && c.bytes().all(|b| b.is_ascii_digit()) {
            let month_first = b.parse::<u8>().is_ok_and(|b| b > 12) && a.parse::<u8>().is_ok_and(|a| a <= 12);
            let (day, month) = if month_first { (b, a) } else { (a, b) };
            return format!("{c}{month:0>2}{day:0>2}");
        }
    }
    words.concat()
}

/// American Soundex, of a folded text: `robert` and `rupert` are both `r163`. The first four characters of a text
/// that doesn't start with an ASCII letter.
///
/// Source: the U.S. National Archives' rules (h and w don't part equal codes, vowels do).
pub(crate) fn soundex(text: &str) -> String {
    const fn code(c: char) -> u8 {
        match c {
            'b' | 'f' | 'p' | 'v' => b'1',
            'c' | 'g' | 'j' | 'k' | 'q' | 's' | 'x' | 'z' => b'2',
            'd' | 't' => b'3',
            'l' => b'4',
            'm' | 'n' => b'5',
            'r' => b'6',
            'h' | 'w' => b'-',
            _ => b'0',
        }
    }
    let mut chars = text.chars();
    let Some(first) = chars.next().filter(char::is_ascii_lowercase) else {
        return text.chars().take(4).collect();
    };
    let mut sound = String::from(first);
    let mut last = code(first);
    for code in chars.map(code).filter(|&code| code != b'-') {
        if code != b'0' && code != last {
            sound.push(char::from(code));
            if sound.len() == 4 {
                break;
            }
        }
        last = code;
    }
    while sound.len() < 4 {
        sound.push('0');
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_punctuation_fold_away() {
        assert_eq!(words("  Müller-Lüdenscheidt "), ["muller", "ludenscheidt"]);
        assert_eq!(words("O'Brien"), ["obrien"]);
        assert_eq!(words("Straße 7b, København"), ["strasse", "7b", "kobenhavn"]);
        assert_eq!(words(" - . "), Vec::<String>::new());
        assert_eq!(words(&"x".repeat(5_000))[0].len(), CHARS_MAX);
    }

    #[test]
    fn dates_come_to_one_spelling() {
        for spelled in
            ["19900403", "1990-04-03", "1990-4-3", "1990-04-03T10:00:00Z", "3.4.1990", "03/04/1990"]
        {
            assert_eq!(date(spelled), "19900403", "{spelled}");
        }
        assert_eq!(date("4/13/1990"), "19900413");
        assert_eq!(date("19901350"), "19901350");
        assert_eq!(date("in May"), "inmay");
    }

    #[test]
    fn soundex_is_as_published() {
        for (name, sound) in [
            ("robert", "r163"),
            ("rupert", "r163"),
            ("rubin", "r150"),
            ("ashcraft", "a261"),
            ("ashcroft", "a261"),
            ("tymczak", "t522"),
            ("pfister", "p236"),
            ("honeyman", "h555"),
            ("lee", "l000"),
            ("иванов", "иван"),
        ] {
            assert_eq!(soundex(name), sound, "{name}");
        }
    }
}
