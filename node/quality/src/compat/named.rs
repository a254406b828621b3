//! Which properties a schema says anything of, under whatever condition.
//!
//! *Parts in place* of a schema are those that may apply to the same value: itself, and what is in its `allOf`, `anyOf`,
//! `oneOf`, `not`, `if`, `then`, `else` and `dependentSchemas`. A property is left open when none of them names it, lists
//! it, has a pattern for it, or says something of all other properties.

use serde_json::{Map, Value};

type Part = Map<String, Value>;

/// Keywords whose value is a schema, or a list or an object of schemas, for the same value.
const IN_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
/// Keywords that say something of properties which are not named.
const OF_OTHERS: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
/// Keywords whose schemas are of items.
const OF_ITEMS: [&str; 5] = ["items", "prefixItems", "additionalItems", "contains", "unevaluatedItems"];

/// The schemas in a keyword's value: itself, or those that it lists.
fn schemas<'a>(part: &'a Part, keyword: &str) -> Vec<&'a Value> {
    match part.get(keyword) {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) if keyword.starts_with("dependen") => map.values().collect(),
        Some(schema) => vec![schema],
    }
}

/// The parts in place of schemas, each once for every way that leads to it.
pub(super) fn in_place<'a>(schemas_here: &[&'a Value]) -> Vec<&'a Part> {
    let mut open = schemas_here.to_vec();
    let mut found = Vec::new();
    while let Some(schema) = open.pop() {
        if let Value::Object(part) = schema {
            found.push(part);
            open.extend(IN_PLACE.iter().flat_map(|keyword| schemas(part, keyword)));
        }
    }
    found
}

/// Whether a part says anything of a property, patterns aside.
pub(super) fn names(part: &Part, name: &str) -> bool {
    let lists = |value: &Value| match value {
        Value::Array(names) => names.iter().any(|one| one.as_str() == Some(name)),
        _ => false,
    };
    let has_key = |value: &Value| value.as_object().is_some_and(|map| map.contains_key(name));
    let depends = |value: &Value| {
        has_key(value) || value.as_object().into_iter().flatten().any(|(_, list)| lists(list))
    };
    let is = |keyword: &str, holds: &dyn Fn(&Value) -> bool| part.get(keyword).is_some_and(holds);
    is("properties", &has_key)
        || is("required", &lists)
        || ["dependentRequired", "dependentSchemas", "dependencies"].iter().any(|one| is(one, &depends))
        || is("const", &has_key)
        || is("enum", &|values| values.as_array().into_iter().flatten().any(has_key))
        || OF_OTHERS.iter().chain(&["propertyNames"]).any(|keyword| is(keyword, &says_something))
}

/// Whether there may be a value that a schema refuses.
fn says_something(schema: &Value) -> bool {
    match schema {
        Value::Object(part) => !part.is_empty(),
        other => *other != Value::Bool(true),
    }
}

/// What a part says of properties that it doesn't name.
pub(super) fn of_others(part: &Part) -> impl Iterator<Item = &Value> {
    OF_OTHERS.iter().filter_map(|keyword| part.get(*keyword))
}

/// What schemas say of any property.
pub(super) fn of_all<'a>(schemas_here: &[&'a Value]) -> Vec<&'a Value> {
    let all = in_place(schemas_here).into_iter().flat_map(|part| {
        let named = ["properties", "patternProperties"].into_iter().filter_map(|keyword| part.get(keyword));
        named.filter_map(Value::as_object).flat_map(Map::values).chain(of_others(part))
    });
    all.collect()
}

/// What schemas say of any item.
pub(super) fn of_items<'a>(schemas_here: &[&'a Value]) -> Vec<&'a Value> {
    let parts = in_place(schemas_here).into_iter();
    parts.flat_map(|part| OF_ITEMS.iter().flat_map(|keyword| schemas(part, keyword))).collect()
}
