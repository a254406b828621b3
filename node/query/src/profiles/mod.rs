//! Profiles out of facets.
//!
//! A profile is what the facets of a home come to ([`isthmus_domain::Profile`] says how). A facet that is a profile by
//! itself is one where it lies ([`Alone`]); of the others each column that is asked for is put together of what each facet
//! brings to it ([`parts`]), by aggregates of the engine.
//!
//! The name of a profile is the facet id of its founding identifier: [`founder_key`] orders identifiers as the domain does.

mod alone;
mod parts;
mod rows;

pub(crate) use alone::{Alone, read};
use isthmus_domain::{FacetId, Namespace};
pub(crate) use parts::{Whole, identifiers, latest, money, parts};
pub(crate) use rows::{Builder, Person, text};

/// A key whose byte order is the order of (first event, identifier), followed by the facet: the least is the founder.
pub(crate) fn founder_key(first_seen: Option<i64>, namespace: &str, value: &str, facet: FacetId) -> Vec<u8> {
    // Times before 1970 are negative: the sign turned round makes their bytes come first.
    let time = (first_seen.unwrap_or(i64::MAX) as u64) ^ (1 << 63);
    let mut key = Vec::with_capacity(27 + namespace.len() + value.len());
    key.extend_from_slice(&time.to_be_bytes());
    key.push(class(namespace));
    key.extend_from_slice(namespace.as_bytes());
    // Neither part can hold a NUL.
    key.push(0);
    key.extend_from_slice(value.as_bytes());
    key.push(0);
    key.extend_from_slice(facet.as_bytes());
    key
}

/// The key of a facet whose identifier isn't known: behind all that are.
pub(crate) fn unknown_founder_key(facet: &[u8]) -> Vec<u8> {
    [&[u8::MAX; 9], facet].concat()
}

/// The facet of a key.
pub(crate) fn founder_of(key: &[u8]) -> Option<FacetId> {
    key.last_chunk::<16>().map(|id| FacetId::from_bytes(*id))
}

/// As namespaces are ordered.
fn class(namespace: &str) -> u8 {
    let is = |known: &Namespace| known.as_str() == namespace;
    if is(&Namespace::USER_ID) {
        0
    } else if is(&Namespace::EMAIL) {
        1
    } else if is(&Namespace::PHONE) {
        2
    } else if is(&Namespace::ANONYMOUS_ID) {
        4
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::Identifier;

    use super::*;

    #[test]
    fn keys_are_ordered_as_founders_are() {
        let mut known = Vec::new();
        for time in [None, Some(-5), Some(0), Some(7), Some(i64::MIN)] {
            for namespace in ["user_id", "email", "phone", "anonymous_id", "crm", "crm_2", "zz"] {
                for value in ["a", "a b", "b", "ä", "aa"] {
                    known
                        .push((time.unwrap_or(i64::MAX), Identifier::from_stored(namespace, value).unwrap()));
                }
            }
        }
        let key = |(time, id): &(i64, Identifier)| {
            let time = Some(*time).filter(|time| *time != i64::MAX);
            founder_key(time, id.namespace().as_str(), id.value(), FacetId::from_bytes([7; 16]))
        };
        for a in &known {
            for b in &known {
                assert_eq!(a.cmp(b), key(a).cmp(&key(b)), "{} {} {} {}", a.0, a.1, b.0, b.1);
                assert!(key(a) < unknown_founder_key(&[0; 16]));
            }
            assert_eq!(founder_of(&key(a)), Some(FacetId::from_bytes([7; 16])));
        }
    }
}
