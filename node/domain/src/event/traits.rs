//! What an `identify` event says about traits.
//!
//! The reserved traits of the Segment spec may come in camelCase or snake_case and are one trait each, kept in
//! camelCase; where an event has both, the camelCase one counts and the other is noted. All other names stay as
//! they were sent. `null` removes a trait; an empty text is a value.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::record::TraitChange;
use crate::value::{Map, Value};

/// The reserved traits, in camelCase.
pub const RESERVED_TRAITS: [&str; 17] = [
    "address",
    "age",
    "avatar",
    "birthday",
    "company",
    "createdAt",
    "description",
    "email",
    "firstName",
    "gender",
    "id",
    "lastName",
    "name",
    "phone",
    "title",
    "username",
    "website",
];

/// The trait that a name stands for.
fn canonical(name: &str) -> &str {
    match name {
        "created_at" => "createdAt",
        "first_name" => "firstName",
        "last_name" => "lastName",
        other => other,
    }
}

/// The changes, sorted by name, each name once.
pub(super) fn changes(traits: &Map, notes: &mut Vec<String>) -> Vec<TraitChange> {
    let mut changes: BTreeMap<&str, &Value> = BTreeMap::new();
    // Sorted by bytes, `createdAt` comes before `created_at`: the first one stays.
    for (name, value) in traits {
        if changes.contains_key(canonical(name)) {
            notes.push(format!("TRAIT_SPELLED_TWICE traits.{name}"));
        } else {
            changes.insert(canonical(name), value);
        }
    }
    let change = |(name, value): (&str, &Value)| TraitChange {
        name: name.to_owned(),
        value: if value.is_null() { Bytes::new() } else { value.to_json().into() },
    };
    changes.into_iter().map(change).collect()
}

/// The changes of an event that was accepted; what was noted then is in its notes.
pub(crate) fn of_stored(traits: &Map) -> Vec<TraitChange> {
    changes(traits, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::snake_case;

    #[test]
    fn every_reserved_trait_has_one_name_in_both_spellings() {
        for name in RESERVED_TRAITS {
            assert_eq!(canonical(&snake_case(name)), name);
            assert_eq!(canonical(name), name);
        }
    }

    #[test]
    fn null_removes_and_camel_case_wins() {
        let json = br#"{"first_name":"B","firstName":"A","plan":null,"note":"","z":[1,{"b":1,"a":2}]}"#;
        let Value::Map(traits) = crate::value::json::parse(json).unwrap() else { unreachable!() };
        let mut notes = Vec::new();
        let changes = changes(&traits, &mut notes);
        let texts: Vec<(&str, &[u8])> = changes.iter().map(|c| (c.name.as_str(), &c.value[..])).collect();
        let expected: [(&str, &[u8]); 4] =
            [("firstName", b"\"A\""), ("note", b"\"\""), ("plan", b""), ("z", b"[1,{\"a\":2,\"b\":1}]")];
        assert_eq!(texts, expected);
        assert_eq!(notes, ["TRAIT_SPELLED_TWICE traits.first_name"]);
    }
}
