//! Cursors: where a page begins, as text that clients hand back unread.
//!
//! Hexadecimal digits of: a version byte, a byte for the kind of list, and the place. So a cursor of another list, of
//! another version or made up is refused, and none has to be escaped in a URL.

use super::status::Refusal;

const VERSION: u8 = 1;
/// The longest cursor's bytes.
const BYTES_MAX: usize = 2 + 40;

/// What is paged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Profiles: the place is a facet's id, 16 bytes.
    Profiles = 1,
    /// A facet's events: the facet's id and a place in its order, 40 bytes.
    Timeline = 2,
    /// Quarantine entries: an entry's id, 16 bytes.
    Quarantine = 3,
    /// Pairs: the place is a profile's id, 16 bytes.
    Pairs = 4,
    /// Groups: the place is a group's facet, 16 bytes.
    Groups = 5,
    /// Members of a group: the place is the facet of one, 16 bytes.
    Members = 6,
    /// Groups of a customer: the place is a group's facet, 16 bytes.
    Memberships = 7,
    /// Members of a set of segments: the place is the home of one, 16 bytes.
    SegmentMembers = 8,
}

/// The cursor of a place.
pub fn encode(kind: Kind, place: &[u8]) -> String {
    let bytes = [VERSION, kind as u8].into_iter().chain(place.iter().copied());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The place that a cursor names; `None` when there is no cursor.
///
/// # Errors
/// INVALID_ARGUMENT `INVALID_CURSOR`.
pub fn decode<const N: usize>(kind: Kind, cursor: &str) -> Result<Option<[u8; N]>, Refusal> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let place = bytes(cursor).and_then(|bytes| match bytes.split_first_chunk() {
        Some((&[VERSION, found], place)) if found == kind as u8 => place.try_into().ok(),
        _ => None,
    });
    let what = "it is not a cursor of this list: hand back next_cursor as it was given, or leave it out";
    place.map(Some).ok_or_else(|| Refusal::field("INVALID_CURSOR", "cursor", what))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * BYTES_MAX
        || !text.len().is_multiple_of(2)
        || !text.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back_by_its_own_list_alone(place: [u8; 16]) {
            let cursor = encode(Kind::Profiles, &place);
            prop_assert_eq!(decode::<16>(Kind::Profiles, &cursor).unwrap(), Some(place));
            prop_assert!(decode::<16>(Kind::Quarantine, &cursor).is_err());
            prop_assert!(decode::<40>(Kind::Profiles, &cursor).is_err());
        }

        #[test]
        fn what_is_made_up_is_refused_and_never_a_panic(text in "\\PC{1,90}") {
            prop_assert!(decode::<16>(Kind::Timeline, &text).is_err());
        }
    }

    #[test]
    fn no_cursor_is_the_first_page() {
        assert_eq!(decode::<16>(Kind::Profiles, "").unwrap(), None);
    }
}
