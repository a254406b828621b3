//! What is known of a value: schemas that it is valid under, all at once.

use serde_json::{Map, Value};

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentSchema",
    "$comment",
    "$schema",
    "$id",
    "$defs",
    "definitions",
];

type Part = Map<String, Value>;

/// Schemas that a value is valid under.
#[derive(Clone, Default)]
pub(super) struct Facts<'a> {
    parts: Vec<&'a Part>,
    /// Those of the parts whose choice has been made.
    chosen: Vec<&'a Part>,
    impossible: bool,
    /// The accepting schema's parts for this place, whether they apply to a value or not: see [`super::named`].
    stated: Vec<&'a Value>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(schema: &'a Value) -> Self {
        Self::default().and(schema).with_stated(vec![schema])
    }

    /// The same, with the accepting schema's parts for this place.
    pub(super) fn with_stated(mut self, stated: Vec<&'a Value>) -> Self {
        self.stated = stated;
        self
    }

    /// The accepting schema's parts for this place.
    pub(super) fn stated(&self) -> &[&'a Value] {
        &self.stated
    }

    /// The same and one more: with the members of its `allOf`, which hold as well.
    pub(super) fn and<'b>(&self, schema: &'b Value) -> Facts<'b>
    where
        'a: 'b,
    {
        let mut facts: Facts<'b> = self.clone();
        facts.add(schema);
        facts
    }

    fn add(&mut self, schema: &'a Value) {
        match schema {
            Value::Object(part) => {
                self.parts.push(part);
                for member in part.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                    self.add(member);
                }
                if part.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                    self.impossible = true;
                }
            }
            Value::Bool(true) => {}
            _ => self.impossible = true,
        }
        if self.types() == Types::NONE {
            self.impossible = true;
        }
    }

    /// The same once a part's choice has been made: it is offered no more.
    pub(super) fn having_chosen(&self, part: &'a Part) -> Self {
        let mut facts = self.clone();
        facts.chosen.push(part);
        facts
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &&'a Part> {
        self.parts.iter()
    }

    /// Whether there is no such value.
    pub(super) fn is_impossible(&self) -> bool {
        self.impossible
    }

    /// Whether one of the facts is this schema, annotations aside.
    pub(super) fn has_equal(&self, schema: &Part) -> bool {
        self.parts.iter().any(|part| equal(part, schema))
    }

    /// All values that there can be, if a fact lists them.
    pub(super) fn values(&self) -> Option<&'a [Value]> {
        let listed = |part: &&'a Part| match (part.get("const"), part.get("enum")) {
            (Some(value), _) => Some(std::slice::from_ref(value)),
            (None, Some(Value::Array(values))) => Some(values.as_slice()),
            _ => None,
        };
        self.parts.iter().filter_map(listed).min_by_key(|values| values.len())
    }

    /// The types that a value can have.
    pub(super) fn types(&self) -> Types {
        let stated = self.parts.iter().filter_map(|part| part.get("type"));
        stated.fold(Types::ANY, |types, stated| types.and(Types::of(stated)))
    }

    /// The facts that leave a choice, and the branches of it.
    pub(super) fn choices(&self) -> Vec<(&'a Part, &'a [Value])> {
        let open =
            self.parts.iter().filter(|part| !self.chosen.iter().any(|other| std::ptr::eq(**part, *other)));
        let choice = |part: &&'a Part| {
            let branches = part.get("anyOf").or_else(|| part.get("oneOf"))?.as_array()?;
            Some((*part, branches.as_slice()))
        };
        open.filter_map(choice).collect()
    }

    /// What is known of each item of an array.
    pub(super) fn items(&self) -> Facts<'a> {
        let plain = self.parts.iter().filter(|part| super::objects::plain_items(part));
        let mut facts = Facts::default();
        plain.filter_map(|part| part.get("items")).for_each(|items| facts.add(items));
        facts.with_stated(super::named::of_items(&self.stated))
    }
}

/// Whether two schemas are one, annotations at their top aside.
fn equal(a: &Part, b: &Part) -> bool {
    let says = |part: &&Part| part.keys().filter(|key| !ANNOTATIONS.contains(&key.as_str())).count();
    let same = |key: &String| ANNOTATIONS.contains(&key.as_str()) || a.get(key) == b.get(key);
    says(&a) == says(&b) && b.keys().all(same)
}

/// A set of JSON's types. `integer` is a part of `number`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const STRING: Self = Self(1 << 3);
    /// Whole numbers and others.
    pub(super) const NUMBER: Self = Self(0b11 << 1);
    pub(super) const ARRAY: Self = Self(1 << 4);
    pub(super) const OBJECT: Self = Self(1 << 5);
    pub(super) const ANY: Self = Self(0b111_1111);

    const NAMES: [(&'static str, Self); 7] = [
        ("null", Self(1)),
        ("number", Self::NUMBER),
        ("integer", Self(1 << 1)),
        ("string", Self::STRING),
        ("array", Self::ARRAY),
        ("object", Self::OBJECT),
        ("boolean", Self(1 << 6)),
    ];

    /// Of the keyword `type`; a word that is no type accepts nothing.
    pub(super) fn of(stated: &Value) -> Self {
        let named = |name: &Value| {
            let found = Self::NAMES.iter().find(|(known, _)| name.as_str() == Some(*known));
            found.map_or(Self::NONE, |(_, types)| *types)
        };
        match stated {
            Value::Array(names) => names.iter().map(named).fold(Self::NONE, |all, one| Self(all.0 | one.0)),
            name => named(name),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether any of the others is among these.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn count(self) -> usize {
        self.each().count()
    }

    /// The types' names; `number` stands for `integer` as well.
    pub(super) fn each(self) -> impl Iterator<Item = &'static str> {
        let all_numbers = self.0 & Self::NUMBER.0 == Self::NUMBER.0;
        Self::NAMES.into_iter().filter_map(move |(name, types)| {
            let there = match name {
                // What is left of numbers without the whole ones has no name of its own.
                "number" => self.0 & (1 << 2) != 0,
                "integer" => self.has(types) && !all_numbers,
                _ => self.has(types),
            };
            there.then_some(name)
        })
    }
}
