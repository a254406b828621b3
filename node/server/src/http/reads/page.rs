//! Pages of what is a part of a profile: cut from an ordered list behind a name.

use serde::Serialize;
use utoipa::ToSchema;

use crate::fault::Refusal;

const VERSION: u8 = 1;
/// The items of a page when nobody says.
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// What is paged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Traits, by name.
    Traits = 1,
    /// Identifiers, as `namespace:value`.
    Identifiers = 2,
    /// Segments, by name.
    Segments = 3,
}

/// Where a page ends, and how to get the next one.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page {
    /// Whether there is more behind it.
    pub has_more: bool,
    /// What to hand back as `cursor` for the page behind it; null when there is none.
    pub next: Option<String>,
    /// How many items a page has at most.
    pub limit: u32,
}

impl Page {
    /// Of a cursor, which is empty at the end, and of the limit that was asked for, 0 being none.
    pub fn new(next: String, limit: u32) -> Self {
        let limit = if limit == 0 { LIMIT_DEFAULT } else { limit };
        Self { has_more: !next.is_empty(), next: Some(next).filter(|next| !next.is_empty()), limit }
    }
}

/// A page that is to be cut.
#[derive(Debug)]
pub struct Cut {
    kind: Kind,
    limit: u32,
    after: Option<String>,
}

impl Cut {
    /// From what was asked for; a limit of 0 is none.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `INVALID_LIMIT`, `INVALID_CURSOR`.
    pub fn of(kind: Kind, limit: u32, cursor: Option<&str>) -> Result<Self, Refusal> {
        let limit = match limit {
            0 => LIMIT_DEFAULT,
            1..=LIMIT_MAX => limit,
            _ => return Err(Refusal::field("INVALID_LIMIT", "limit", format!("must be 1 to {LIMIT_MAX}"))),
        };
        let after = match cursor.filter(|cursor| !cursor.is_empty()) {
            None => None,
            Some(cursor) => {
                let what =
                    "it is not a cursor of this list: hand back `next` as it was given, or leave it out";
                let name = decoded(kind, cursor);
                Some(name.ok_or_else(|| Refusal::field("INVALID_CURSOR", "cursor", what))?)
            }
        };
        Ok(Self { kind, limit, after })
    }

    /// The page of a list in the order of its names.
    pub fn page<T>(&self, all: impl Iterator<Item = (String, T)>) -> (Page, Vec<T>) {
        let behind = |name: &String| self.after.as_ref().is_none_or(|after| name > after);
        let mut rest = all.filter(|(name, _)| behind(name));
        let (names, data): (Vec<_>, Vec<_>) = rest.by_ref().take(self.limit as usize).unzip();
        let more = rest.next().is_some();
        let next = names.last().filter(|_| more).map(|name| encoded(self.kind, name));
        (Page::new(next.unwrap_or_default(), self.limit), data)
    }
}

/// Hexadecimal digits of a version, the kind of list, and the name: nothing has to be escaped in a URL.
fn encoded(kind: Kind, name: &str) -> String {
    [VERSION, kind as u8].into_iter().chain(name.bytes()).map(|byte| format!("{byte:02x}")).collect()
}

fn decoded(kind: Kind, cursor: &str) -> Option<String> {
    if !cursor.len().is_multiple_of(2) || !cursor.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = (0..cursor.len()).step_by(2).map(|at| u8::from_str_radix(cursor.get(at..at + 2)?, 16).ok());
    let bytes: Vec<u8> = digits.collect::<Option<_>>()?;
    match bytes.as_slice() {
        [VERSION, found, name @ ..] if *found == kind as u8 => String::from_utf8(name.to_vec()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_show_everything_once_in_order() {
        let all: Vec<String> = (0..10).map(|n| format!("näme{n}")).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let cut = Cut::of(Kind::Traits, 3, cursor.as_deref()).unwrap();
            let (page, data) = cut.page(all.iter().map(|name| (name.clone(), name.clone())));
            assert_eq!((page.limit, page.has_more), (3, page.next.is_some()));
            seen.extend(data);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
        let (page, data) = Cut::of(Kind::Traits, 10, None).unwrap().page(all.iter().map(|n| (n.clone(), ())));
        assert_eq!((page.has_more, data.len()), (false, 10));
    }

    #[test]
    fn limits_are_bounded() {
        assert!(Cut::of(Kind::Traits, 1_001, None).is_err());
        assert_eq!(Page::new(String::new(), 0).limit, 100);
    }

    proptest! {
        #[test]
        fn a_cursor_is_its_lists_alone(name in ".*") {
            let cursor = encoded(Kind::Traits, &name);
            prop_assert_eq!(decoded(Kind::Traits, &cursor), Some(name));
            prop_assert_eq!(decoded(Kind::Identifiers, &cursor), None);
        }

        #[test]
        fn what_is_made_up_is_refused_and_never_a_panic(text in "\\PC{1,40}") {
            prop_assert!(Cut::of(Kind::Traits, 0, Some(&text)).is_err() || text.starts_with("0101"));
        }
    }
}
