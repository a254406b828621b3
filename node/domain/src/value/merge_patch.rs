//! JSON Merge Patch: a change written as the part that changes.
//!
//! A member of the patch replaces the target's, `null` removes it, an object goes into the object below; anything
//! but an object replaces the whole. Lists are replaced, never merged. Source: RFC 7396.

use super::{Map, Value};

/// The target with the patch applied. Recursion ends with the patch, whose depth its parser bounds.
#[must_use]
pub fn merge_patch(target: Value, patch: Value) -> Value {
    let Value::Map(patch) = patch else { return patch };
    let mut merged = match target {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    for (key, change) in patch {
        if change.is_null() {
            merged.remove(&key);
            continue;
        }
        let before = merged.remove(&key).unwrap_or_default();
        merged.insert(key, merge_patch(before, change));
    }
    Value::Map(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::json;

    /// The examples of RFC 7396, appendix A: target, patch, result.
    const EXAMPLES: [[&str; 3]; 15] = [
        [r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#],
        [r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#],
        [r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"],
        [r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#],
        [r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#],
        [r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#],
        [r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#],
        [r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#],
        [r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#],
        [r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#],
        [r#"{"a":"foo"}"#, "null", "null"],
        [r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#],
        [r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#],
        ["[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#],
        ["{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#],
    ];

    #[test]
    fn the_examples_of_the_rfc_come_out_as_it_says() {
        for [target, patch, result] in EXAMPLES {
            let parse = |text: &str| json::parse(text.as_bytes()).unwrap();
            let merged = merge_patch(parse(target), parse(patch));
            assert_eq!(String::from_utf8(merged.to_json()).unwrap(), result, "{target} with {patch}");
        }
    }
}
