//! Objects: properties by name, by pattern, and all others.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Compare, facts::Facts, named};
use crate::{fault::join, schema::compiled};

type Part = Map<String, Value>;

/// How many parts of a schema that are looked through for a name count as a step.
const STATED_A_STEP: usize = 16;

/// Whether `items` is of all items alike: not behind a list of schemas for the first ones.
pub(super) fn plain_items(part: &Part) -> bool {
    !part.contains_key("prefixItems") && !matches!(part.get("items"), Some(Value::Array(_)))
}

fn object<'a>(part: &'a Part, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    part.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

fn names(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

impl Compare {
    pub(super) fn object(
        &mut self,
        facts: &Facts<'_>,
        outer: &Part,
        keyword: &str,
        value: &Value,
        at: &str,
    ) -> bool {
        match keyword {
            "required" => self.required(facts, value, at),
            "dependentRequired" => self.dependent_required(facts, value, at),
            "propertyNames" => {
                let text = json!({ "type": "string" });
                let mut known = Facts::of(&text);
                for part in facts.all() {
                    if let Some(stated) = part.get("propertyNames") {
                        known = known.and(stated);
                    }
                }
                self.schema(&known, value, at)
            }
            "properties" => {
                let each = value.as_object().into_iter().flatten();
                each.fold(true, |all, (name, schema)| {
                    self.declared(facts, name, schema, &join(at, name)) && all
                })
            }
            "patternProperties" => {
                let each = value.as_object().into_iter().flatten();
                each.fold(true, |all, (pattern, schema)| {
                    self.patterned(facts, pattern, schema, &join(at, pattern)) && all
                })
            }
            _ => self.additional(facts, outer, value, at),
        }
    }

    fn required(&mut self, facts: &Facts<'_>, value: &Value, at: &str) -> bool {
        let known: BTreeSet<&str> = facts.all().flat_map(|part| names(part.get("required"))).collect();
        let missing: Vec<&str> = names(Some(value)).filter(|name| !known.contains(name)).collect();
        missing
            .iter()
            .fold(true, |_, name| self.problem(at, format!("{name:?} is required, and was not before")))
    }

    fn dependent_required(&mut self, facts: &Facts<'_>, value: &Value, at: &str) -> bool {
        let always: BTreeSet<&str> = facts.all().flat_map(|part| names(part.get("required"))).collect();
        let each = value.as_object().into_iter().flatten();
        each.fold(true, |all, (name, needed)| {
            let given = facts.all().filter_map(|part| part.get("dependentRequired")?.get(name));
            let known: BTreeSet<&str> = given.flat_map(|given| names(Some(given))).collect();
            let holds = names(Some(needed)).all(|needed| known.contains(needed) || always.contains(needed));
            (holds || self.problem(&join(at, name), "needs properties that it did not need before")) && all
        })
    }

    /// A property that the accepting schema leaves open may get a schema; see the module above for why.
    fn declared(&mut self, facts: &Facts<'_>, name: &str, schema: &Value, at: &str) -> bool {
        let parts = named::in_place(facts.stated());
        self.steps += parts.len() / STATED_A_STEP;
        let open = !parts.iter().any(|part| self.names(part, name));
        open || self.named(facts, name, schema, at)
    }

    /// A property's value was valid under what is known of it; is it valid now?
    fn named(&mut self, facts: &Facts<'_>, name: &str, schema: &Value, at: &str) -> bool {
        let known = self.of_name(facts, name);
        self.schema(&known, schema, at)
    }

    /// Whether a part of a schema says anything of a property.
    fn names(&mut self, part: &Part, name: &str) -> bool {
        named::names(part, name)
            || object(part, "patternProperties")
                .any(|(pattern, _)| self.matches(pattern, name) != Some(false))
    }

    /// What is known of the value of a property.
    fn of_name<'a>(&mut self, facts: &Facts<'a>, name: &str) -> Facts<'a> {
        let mut known = Facts::default();
        for part in facts.all() {
            let mut named = false;
            if let Some(schema) = part.get("properties").and_then(|properties| properties.get(name)) {
                (named, known) = (true, known.and(schema));
            }
            let mut unsure = false;
            for (pattern, schema) in object(part, "patternProperties") {
                match self.matches(pattern, name) {
                    Some(true) => (named, known) = (true, known.and(schema)),
                    Some(false) => {}
                    None => unsure = true,
                }
            }
            if !named
                && !unsure
                && let Some(schema) = part.get("additionalProperties")
            {
                known = known.and(schema);
            }
        }
        let stated = named::in_place(facts.stated()).into_iter().flat_map(|part| {
            let matching = |(pattern, schema): (&String, &'a Value)| {
                (self.matches(pattern, name) != Some(false)).then_some(schema)
            };
            let patterned: Vec<&Value> = object(part, "patternProperties").filter_map(matching).collect();
            let own = part.get("properties").and_then(|properties| properties.get(name));
            own.into_iter().chain(patterned).chain(named::of_others(part))
        });
        let stated = stated.collect();
        known.with_stated(stated)
    }

    /// Names that match a pattern: those that the facts know, those that a fact has the same pattern for, and others.
    fn patterned(&mut self, facts: &Facts<'_>, pattern: &str, schema: &Value, at: &str) -> bool {
        let mut all = true;
        for name in known_names(facts) {
            if self.matches(pattern, &name) != Some(false) {
                all &= self.named(facts, &name, schema, at);
            }
        }
        let mut others = Facts::default();
        for part in facts.all() {
            let same = object(part, "patternProperties").find(|(known, _)| *known == pattern);
            match same {
                Some((_, schema)) => others = others.and(schema),
                // Which other patterns such a name matches isn't known.
                None if part.contains_key("patternProperties") => {}
                None => {
                    if let Some(schema) = part.get("additionalProperties") {
                        others = others.and(schema);
                    }
                }
            }
        }
        let others = others.with_stated(named::of_all(facts.stated()));
        self.schema(&others, schema, at) && all
    }

    /// Properties that the new schema neither names nor has a pattern for.
    fn additional(&mut self, facts: &Facts<'_>, outer: &Part, value: &Value, at: &str) -> bool {
        let mut all = true;
        for name in known_names(facts) {
            let named = object(outer, "properties").any(|(known, _)| *known == name);
            if named || object(outer, "patternProperties").any(|(p, _)| self.matches(p, &name) == Some(true))
            {
                continue;
            }
            let known = self.of_name(facts, &name);
            if !self.holds(|this| this.schema(&known, value, at)) {
                all = self.problem(at, format!("property {name:?} is not accepted any more as it was"));
            }
        }
        let patterns: Vec<(&String, &Value)> =
            facts.all().flat_map(|part| object(part, "patternProperties")).collect();
        for (pattern, schema) in patterns {
            if object(outer, "patternProperties").any(|(known, _)| known == pattern) {
                continue;
            }
            let known = Facts::of(schema).with_stated(named::of_all(facts.stated()));
            if !self.holds(|this| this.schema(&known, value, at)) {
                all = self.problem(
                    at,
                    format!("properties like {pattern:?} are not accepted any more as they were"),
                );
            }
        }
        let mut others = Facts::default();
        for part in facts.all() {
            if let Some(schema) = part.get("additionalProperties") {
                others = others.and(schema);
            }
        }
        let others = others.with_stated(named::of_all(facts.stated()));
        if !self.holds(|this| this.schema(&others, value, at)) {
            all = self.problem(
                at,
                "properties that the schema does not name are not accepted any more as they were",
            );
        }
        all
    }

    /// Whether a name matches a pattern, as the validator sees it.
    fn matches(&mut self, pattern: &str, name: &str) -> Option<bool> {
        if !self.patterns.contains_key(pattern) {
            let compiled = compiled(&json!({ "pattern": pattern }), self.draft).ok();
            self.patterns.insert(pattern.to_owned(), compiled);
        }
        let validator = self.patterns.get(pattern)?.as_ref()?;
        Some(validator.is_valid(&Value::String(name.to_owned())))
    }
}

/// Names of properties that the facts have a schema for.
fn known_names(facts: &Facts<'_>) -> BTreeSet<String> {
    facts.all().flat_map(|part| object(part, "properties")).map(|(name, _)| name.clone()).collect()
}
