//! What is called compatible is: cases by hand, and random schemas with random values.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::cell::Cell;

use isthmus_quality::{Compatibility, Schema, compat::compare};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

fn schema(schema: &Value) -> Schema {
    Schema::read(schema.to_string().as_bytes()).unwrap_or_else(|fault| panic!("{schema}: {fault}"))
}

/// Places of the problems with a change.
fn problems(old: &Value, new: &Value) -> Vec<String> {
    let found = compare(&schema(old), &schema(new), Compatibility::Backward);
    found.into_iter().map(|problem| problem.at).collect()
}

#[test]
fn what_accepts_all_that_was_accepted_is_compatible() {
    let closed = json!({"type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"enum":["x","y"]}},
                        "required":["a"],"additionalProperties":false});
    let with = |path: &str, value: Value| {
        let mut changed = closed.clone();
        *changed.pointer_mut(path).unwrap() = value;
        changed
    };
    for new in [
        closed.clone(),
        json!(true),
        json!({}),
        with("/required", json!([])),
        with("/additionalProperties", json!(true)),
        with("/properties/a", json!({"type":["integer","null"],"minimum":0})),
        with("/properties/a", json!({"type":"number"})),
        with("/properties/a", json!({"anyOf":[{"type":"integer"},{"type":"string"}]})),
        with("/properties/b", json!({"enum":["z","x","y"]})),
        with("/properties/b", json!({"type":"string","maxLength":1})),
        with("/properties", json!({"a":{"type":"integer"},"b":{"enum":["x","y"]},"new":{"type":"string"}})),
        json!({"$defs":{"all":closed.clone()},"$ref":"#/$defs/all"}),
        json!({"title":"the same","type":"object","properties":{"a":{"type":"integer","minimum":1}},
               "patternProperties":{"^b$":{"type":"string"}},"required":["a"],"additionalProperties":false}),
    ] {
        assert_eq!(problems(&closed, &new), Vec::<String>::new(), "{new}");
    }
    let either = json!({"anyOf":[{"type":"string","maxLength":3},{"type":"integer"}]});
    assert!(problems(&either, &json!({"type":["string","integer"]})).is_empty());
    assert!(
        problems(
            &json!({"type":["string","integer"]}),
            &json!({"anyOf":[{"type":"string"},{"type":"integer"}]})
        )
        .is_empty()
    );
}

#[test]
fn what_may_refuse_what_was_accepted_is_named_with_its_place() {
    let old = json!({"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":9},
                     "b":{"enum":["x","y"]},"c":{"type":["string","null"],"maxLength":9},"d":{"type":"array","items":{"type":"number"}}},
                     "required":["a"]});
    let with = |path: &str, value: Value| {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let mut changed = old.clone();
        changed.pointer_mut(parent).unwrap()[key] = value;
        changed
    };
    for (new, at) in [
        (with("/required", json!(["a", "b"])), "/required"),
        (with("/additionalProperties", json!(false)), "/additionalProperties"),
        (with("/properties/a/minimum", json!(2)), "/properties/a/minimum"),
        (with("/properties/a/exclusiveMaximum", json!(9)), "/properties/a/exclusiveMaximum"),
        (with("/properties/a/multipleOf", json!(2)), "/properties/a/multipleOf"),
        (with("/properties/b/enum", json!(["x"])), "/properties/b"),
        (with("/properties/c/type", json!("string")), "/properties/c/type"),
        (with("/properties/c/maxLength", json!(8)), "/properties/c/maxLength"),
        (with("/properties/c/pattern", json!("^a")), "/properties/c/pattern"),
        (with("/properties/c/format", json!("email")), "/properties/c/format"),
        (with("/properties/d/items", json!({"type":"integer"})), "/properties/d/items/type"),
        (with("/properties/d/minItems", json!(1)), "/properties/d/minItems"),
        (with("/patternProperties", json!({"^a":{"type":"string"}})), "/patternProperties/^a/type"),
        (with("/propertyNames", json!({"maxLength":3})), "/propertyNames/maxLength"),
        (with("/minProperties", json!(2)), "/minProperties"),
        (with("/not", json!({"required":["z"]})), "/not"),
        (with("/if", json!({"required":["z"]})), "/if"),
        (with("/dependentRequired", json!({"a":["b"]})), "/dependentRequired/a"),
        (json!(false), ""),
    ] {
        assert!(problems(&old, &new).iter().any(|found| found == at), "{new}: {:?}", problems(&old, &new));
    }
}

#[test]
fn a_property_that_was_left_open_may_get_a_type() {
    let new = |path: &str, old: &Value| {
        let mut changed = old.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let properties = parent.entry("properties").or_insert(json!({}));
        properties[name] = json!({"type":"string","maxLength":9});
        changed
    };
    // A new optional property, at the top, deeper and in the items of an array.
    for (old, path) in [
        (json!({"type":"object","properties":{"a":{"type":"string"}}}), "/new"),
        (json!({"additionalProperties":true,"anyOf":[{"required":["a"]},{"required":["b"]}]}), "/new"),
        (json!({"properties":{"in":{"type":"object"}}}), "/properties/in/new"),
        (
            json!({"properties":{"list":{"type":"array","items":{"required":["a"]}}}}),
            "/properties/list/items/new",
        ),
        (json!({"patternProperties":{"^x_":{"type":"number"}}}), "/new"),
    ] {
        assert_eq!(problems(&old, &new(path, &old)), Vec::<String>::new(), "{old}");
        // Forward, as well: it is spoken of no more.
        let back = compare(&schema(&new(path, &old)), &schema(&old), Compatibility::Full);
        assert_eq!(back, vec![], "{old}");
        let mut required = new(path, &old);
        let parent = path.rsplit_once('/').unwrap().0;
        required.pointer_mut(parent).unwrap()["required"] = json!(["a", "new"]);
        let at = format!("{parent}/required");
        assert!(problems(&old, &required).contains(&at), "it has to stay optional: {old}");
    }
    // Anything that speaks of it, even under a condition, leaves it open no more.
    for old in [
        json!({"properties":{"new":true}}),
        json!({"required":["new"]}),
        json!({"dependentRequired":{"a":["new"]}}),
        json!({"patternProperties":{"^n":{"type":["string","null"]}}}),
        json!({"additionalProperties":{"type":["string","null"]}}),
        json!({"unevaluatedProperties":{"type":["string","null"]}}),
        json!({"propertyNames":{"enum":["old","new"]}}),
        json!({"anyOf":[{"properties":{"new":{"type":"number"}}},{"required":["a"]}]}),
        json!({"if":{"properties":{"a":{"const":1}}},"then":{"properties":{"new":{"type":"number"}}}}),
        json!({"not":{"required":["new"]}}),
        json!({"anyOf":[{"const":{"new":1}},{"type":"object","maxProperties":9}]}),
    ] {
        assert!(!problems(&old, &new("/new", &old)).is_empty(), "{old}");
    }
    // What a branch says of an object is known within it, whether that branch applies or not.
    let old = json!({"properties":{"in":{"type":"object"}},
                     "anyOf":[{"properties":{"in":{"properties":{"new":{"type":"number"}}}}},{"required":["a"]}]});
    let found = problems(&old, &new("/properties/in/new", &old));
    assert_eq!(found, ["/properties/in/properties/new/maxLength", "/properties/in/properties/new/type"]);
}

#[test]
fn directions_are_kept_apart() {
    let (wide, narrow) = (schema(&json!({"type":["string","null"]})), schema(&json!({"type":"string"})));
    for (old, new, wanted, compatible) in [
        (&narrow, &wide, Compatibility::Backward, true),
        (&wide, &narrow, Compatibility::Backward, false),
        (&wide, &narrow, Compatibility::Forward, true),
        (&narrow, &wide, Compatibility::Forward, false),
        (&narrow, &wide, Compatibility::Full, false),
        (&narrow, &narrow, Compatibility::Full, true),
        (&wide, &narrow, Compatibility::None, true),
    ] {
        assert_eq!(compare(old, new, wanted).is_empty(), compatible, "{wanted:?}");
    }
}

#[test]
fn schemas_that_are_too_complex_or_of_two_drafts_are_not_called_compatible() {
    let nested = (0..7).fold(json!({"type":"string"}), |inner, n| {
        json!({"anyOf":[{"type":"object","properties":{"a":inner},"minProperties":n},{"type":"array","items":{"minimum":n}}]})
    });
    let other = (0..7).fold(json!({"type":"integer"}), |inner, n| {
        json!({"anyOf":[{"type":"object","properties":{"a":inner},"minProperties":n},{"type":"array","items":{"minimum":n + 1}}]})
    });
    assert!(!problems(&nested, &other).is_empty());
    let draft_07 = json!({"$schema":"http://json-schema.org/draft-07/schema#"});
    assert_eq!(problems(&json!({}), &draft_07), ["/$schema"]);
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab"]).prop_map(str::to_owned)
}

fn small_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..5).prop_map(Value::from),
        (-2_i64..5).prop_map(|n| Value::from(n as f64 / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ]
}

fn instance() -> impl Strategy<Value = Value> {
    small_value().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => prop::collection::btree_map(key(), inner.clone(), 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            1 => prop::collection::vec(inner, 0..3).prop_map(Value::Array),
        ]
    })
}

fn type_name() -> impl Strategy<Value = Value> {
    let name =
        prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"]);
    prop_oneof![
        name.clone().prop_map(Value::from),
        prop::collection::btree_set(name, 1..4)
            .prop_map(|names| names.into_iter().map(Value::from).collect()),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["^a", "b$", "^ab?$"]).prop_map(str::to_owned)
}

/// One keyword with its value, whose schemas are of `inner`.
fn keyword(inner: BoxedStrategy<Value>) -> BoxedStrategy<(String, Value)> {
    let named = |name: &'static str, value: BoxedStrategy<Value>| {
        value.prop_map(move |v| (name.to_owned(), v)).boxed()
    };
    let bound = || {
        prop_oneof![(-1_i64..4).prop_map(Value::from), (-2_i64..6).prop_map(|n| json!(n as f64 / 2.0))]
            .boxed()
    };
    let count = || (0_u64..3).prop_map(Value::from).boxed();
    let names = || {
        prop::collection::btree_set(key(), 0..3)
            .prop_map(|k| k.into_iter().map(Value::from).collect::<Value>())
    };
    let schemas = |inner: &BoxedStrategy<Value>| {
        prop::collection::vec(inner.clone(), 1..3).prop_map(Value::Array).boxed()
    };
    let by = |keys: BoxedStrategy<String>, inner: &BoxedStrategy<Value>| {
        prop::collection::btree_map(keys, inner.clone(), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed()
    };
    prop::strategy::Union::new_weighted(vec![
        (6, named("type", type_name().boxed())),
        (2, named("enum", prop::collection::vec(instance(), 1..4).prop_map(Value::Array).boxed())),
        (1, named("const", instance().boxed())),
        (2, named("minimum", bound())),
        (2, named("maximum", bound())),
        (1, named("exclusiveMinimum", bound())),
        (1, named("exclusiveMaximum", bound())),
        (
            1,
            named(
                "multipleOf",
                prop::sample::select(vec![json!(1), json!(2), json!(4), json!(0.5), json!(1.5)]).boxed(),
            ),
        ),
        (1, named("minLength", count())),
        (1, named("maxLength", count())),
        (1, named("pattern", pattern().prop_map(Value::from).boxed())),
        (1, named("minItems", count())),
        (1, named("maxItems", count())),
        (1, named("uniqueItems", any::<bool>().prop_map(Value::from).boxed())),
        (2, named("items", inner.clone())),
        (1, named("prefixItems", schemas(&inner))),
        (1, named("contains", inner.clone())),
        (1, named("minContains", count())),
        (1, named("minProperties", count())),
        (1, named("maxProperties", count())),
        (3, named("required", names().boxed())),
        (
            1,
            named(
                "dependentRequired",
                prop::collection::btree_map(key(), names(), 0..2)
                    .prop_map(|map| Value::Object(map.into_iter().collect()))
                    .boxed(),
            ),
        ),
        (6, named("properties", by(key().boxed(), &inner))),
        (2, named("patternProperties", by(pattern().boxed(), &inner))),
        (3, named("additionalProperties", inner.clone())),
        (1, named("propertyNames", inner.clone())),
        (1, named("unevaluatedProperties", inner.clone())),
        (1, named("unevaluatedItems", inner.clone())),
        (2, named("allOf", schemas(&inner))),
        (2, named("anyOf", schemas(&inner))),
        (1, named("oneOf", schemas(&inner))),
        (1, named("not", inner.clone())),
        (1, named("if", inner.clone())),
        (1, named("then", inner.clone())),
        (1, named("else", inner.clone())),
        (1, named("dependentSchemas", by(key().boxed(), &inner))),
        (1, named("title", Just(json!("x")).boxed())),
    ])
    .boxed()
}

fn any_schema() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![1 => any::<bool>().prop_map(Value::from), 4 => type_name().prop_map(|t| json!({ "type": t }))];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::vec(keyword(inner.boxed()), 0..5)
            .prop_map(|keywords| Value::Object(keywords.into_iter().collect()))
    })
    .boxed()
}

/// All places of schemas in a schema.
fn places(schema: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let Value::Object(map) = schema else { return };
    for (key, value) in map {
        let at = format!("{at}/{key}");
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(parts)) => {
                parts.iter().for_each(|(name, part)| places(part, &format!("{at}/{name}"), found));
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(parts)) => {
                parts.iter().enumerate().for_each(|(i, part)| places(part, &format!("{at}/{i}"), found));
            }
            (
                "items"
                | "contains"
                | "additionalProperties"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else",
                part,
            ) => {
                places(part, &at, found);
            }
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Put(String, Value),
    Drop(usize),
    Replace(Value),
    Wrap(&'static str, Value),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => keyword(any_schema()).prop_map(|(key, value)| Mutation::Put(key, value)),
        4 => any::<usize>().prop_map(Mutation::Drop),
        1 => any_schema().prop_map(Mutation::Replace),
        2 => (prop::sample::select(vec!["anyOf", "allOf"]), any_schema()).prop_map(|(k, other)| Mutation::Wrap(k, other)),
    ]
}

fn mutated(schema: &Value, steps: &[(usize, Mutation)]) -> Value {
    let mut schema = schema.clone();
    for (place, mutation) in steps {
        let mut found = Vec::new();
        places(&schema, "", &mut found);
        let part = schema.pointer_mut(&found[place % found.len()]).unwrap();
        match mutation {
            Mutation::Put(key, value) => {
                if let Value::Object(map) = part {
                    map.insert(key.clone(), value.clone());
                }
            }
            Mutation::Drop(n) => {
                if let Value::Object(map) = part
                    && !map.is_empty()
                {
                    let key = map.keys().nth(n % map.len()).unwrap().clone();
                    map.remove(&key);
                }
            }
            Mutation::Replace(other) => *part = other.clone(),
            Mutation::Wrap(key, other) => *part = json!({ *key: [part.clone(), other] }),
        }
    }
    schema
}

/// The parts of schemas that may apply to one value, whatever their conditions.
fn in_place<'a>(schemas: &[&'a Value]) -> Vec<&'a Value> {
    let inner = |schema: &&'a Value| {
        let listed =
            ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
        let single = ["not", "if", "then", "else"].into_iter().filter_map(|key| schema.get(key));
        let dependent =
            schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(|d| d.values());
        in_place(&listed.chain(single).chain(dependent).collect::<Vec<_>>())
    };
    schemas.iter().copied().chain(schemas.iter().flat_map(inner)).collect()
}

/// Whether schemas speak of all properties that a value has, at any depth.
fn speaks_of_all(schemas: &[&Value], value: &Value) -> bool {
    let parts = in_place(schemas);
    match value {
        Value::Object(map) => map.iter().all(|(name, value)| {
            let has = |v: &Value| v.get(name).is_some();
            let lists = |v: &Value| v.as_array().is_some_and(|all| all.contains(&json!(name)));
            let spoken = parts.iter().any(|part| {
                let lists_values = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(has));
                let depends = |v: &Value| has(v) || v.as_object().is_some_and(|map| map.values().any(lists));
                let about_all = |v: &Value| *v != json!(true) && *v != json!({});
                let is = |key: &str, f: &dyn Fn(&Value) -> bool| part.get(key).is_some_and(f);
                is("properties", &has)
                    || is("required", &lists)
                    || is("const", &has)
                    || is("enum", &lists_values)
                    || is("dependentRequired", &depends)
                    || is("dependentSchemas", &has)
                    || is("patternProperties", &|v| v.as_object().unwrap().keys().any(|p| matches(p, name)))
                    || is("propertyNames", &about_all)
                    || is("additionalProperties", &about_all)
                    || is("unevaluatedProperties", &about_all)
            });
            let below = parts.iter().flat_map(|part| {
                let named = part.get("properties").and_then(|p| p.get(name));
                let like = part.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
                let like = like.filter(|(pattern, _)| matches(pattern, name)).map(|(_, schema)| schema);
                let others =
                    ["additionalProperties", "unevaluatedProperties"].into_iter().filter_map(|k| part.get(k));
                named.into_iter().chain(like).chain(others)
            });
            spoken && speaks_of_all(&below.collect::<Vec<_>>(), value)
        }),
        Value::Array(items) => {
            let below = parts.iter().flat_map(|part| {
                let single =
                    ["items", "contains", "unevaluatedItems"].into_iter().filter_map(|k| part.get(k));
                single.chain(part.get("prefixItems").and_then(Value::as_array).into_iter().flatten())
            });
            let below: Vec<&Value> = below.collect();
            items.iter().all(|item| speaks_of_all(&below, item))
        }
        _ => true,
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    schema(&json!({ "pattern": pattern })).is_valid(&json!(name))
}

/// How many random pairs are tried, and how many of them have to differ and be called compatible: about 1,100 are.
const PAIRS: u32 = 3_000;
const COMPATIBLE_MIN: u32 = 600;
/// How many values have to be accepted by the old one of such pairs, each property spoken of: about 10,000 are.
const ACCEPTED_MIN: u32 = 4_000;

#[test]
fn what_is_called_compatible_accepts_all_that_was_accepted() {
    let config = ProptestConfig {
        cases: PAIRS,
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_source_file(file!())
    };
    let (compatible, accepted) = (Cell::new(0), Cell::new(0));
    let steps = prop::collection::vec((any::<usize>(), mutation()), 0..4);
    let tried = (any_schema(), steps, prop::collection::vec(instance(), 40));
    let checked = TestRunner::new(config).run(&tried, |(old, steps, values)| {
        let new = mutated(&old, &steps);
        let (Ok(old_schema), Ok(new_schema)) =
            (Schema::read(old.to_string().as_bytes()), Schema::read(new.to_string().as_bytes()))
        else {
            return Ok(());
        };
        if new == old || !compare(&old_schema, &new_schema, Compatibility::Backward).is_empty() {
            return Ok(());
        }
        compatible.set(compatible.get() + 1);
        for value in values.iter().filter(|value| old_schema.is_valid(value) && speaks_of_all(&[&old], value))
        {
            accepted.set(accepted.get() + 1);
            prop_assert!(new_schema.is_valid(value), "{} accepts {} and {} does not", old, value, new);
        }
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    let (compatible, accepted) = (compatible.get(), accepted.get());
    assert!(compatible >= COMPATIBLE_MIN, "only {compatible} of {PAIRS} pairs were called compatible");
    assert!(accepted >= ACCEPTED_MIN, "only {accepted} values were accepted by the old ones");
    println!("{compatible} of {PAIRS} pairs are compatible and differ; {accepted} values were accepted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn a_schema_is_compatible_with_itself_and_with_a_wider_one(schema in any_schema()) {
        let Ok(read) = Schema::read(schema.to_string().as_bytes()) else { return Ok(()) };
        prop_assert_eq!(compare(&read, &read, Compatibility::Full), vec![]);
        let wider = Schema::read(json!({"anyOf": [{"type": "null"}, schema]}).to_string().as_bytes()).unwrap();
        prop_assert_eq!(compare(&read, &wider, Compatibility::Backward), vec![]);
    }
}
