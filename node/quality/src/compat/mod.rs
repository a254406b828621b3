//! Whether one version of a schema accepts all that another does.
//!
//! **What it promises.** [`contained`] says "compatible" only when every value that the one accepts is accepted by the
//! other, with one exception. The question is undecidable at bearable cost for all of JSON Schema, so it errs on the other
//! side: what it can't prove it reports, with the place in the schema and the reason. `tests/compat.rs` holds that up over
//! random schemas and values.
//!
//! **The exception.** A property that the one schema leaves open may get a type in the other: adding an optional property
//! is the most common change there is. Read strictly it could refuse something, as a sender may have sent a property of
//! that name that no schema spoke of. So the promise is about values whose properties are all spoken of. A property is
//! left open only if no part of the schema says anything of it, by name, by pattern, as one of all others, or in a branch
//! that may not apply (`named`). It has to stay optional; a new pattern for names, and closing the schema to others, are
//! judged strictly. Looking forward the same holds of a property that the new version speaks of no more.
//!
//! **How.** Both schemas have their references put in place. What is known of a value (*facts*) is a list of schemas
//! that it is valid under: the accepting schema, the members of its `allOf`, later one branch of its `anyOf`. Each keyword
//! of the other schema has to follow from a fact. Objects are compared property by property, with `patternProperties` and
//! `additionalProperties` taken into account; where a fact lists the possible values, they are simply tried. Keywords
//! whose meaning hangs on everything around them (`oneOf`, `not`, `if`, `contains`, `unevaluatedProperties`, …) follow from
//! the same keyword alone.

mod facts;
mod named;
mod objects;
mod scalars;

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value};

use crate::{
    fault::{Fault, join},
    schema::{Compatibility, Schema, compiled},
};
use facts::{Facts, Types};

/// Comparisons of one pair of schemas: after so many it is called incomparable.
const STEPS_MAX: usize = 20_000;
/// What compiling a schema counts for.
const COMPILE_STEPS: usize = 20;
/// Problems that are told of.
const PROBLEMS_MAX: usize = 20;

/// What keeps a new version from being compatible with an old one: where in the new one, and why. Empty: nothing.
pub fn compare(old: &Schema, new: &Schema, wanted: Compatibility) -> Vec<Fault> {
    let mut problems = Vec::new();
    if matches!(wanted, Compatibility::Backward | Compatibility::Full) {
        problems.extend(contained(old, new));
    }
    if matches!(wanted, Compatibility::Forward | Compatibility::Full) {
        let forward = contained(new, old).into_iter().map(|problem| {
            Fault::new(
                problem.at,
                format!("the old version does not accept what this one does: {}", problem.what),
            )
        });
        problems.extend(forward);
    }
    problems
}

/// Why a value that `inner` accepts may be refused by `outer`, and where in `outer`. Empty: all are accepted.
pub fn contained(inner: &Schema, outer: &Schema) -> Vec<Fault> {
    if inner.draft() != outer.draft() {
        return vec![Fault::new("/$schema", "schemas of different drafts can't be compared: keep the draft")];
    }
    let mut compare =
        Compare { draft: outer.draft(), problems: Vec::new(), steps: 0, quiet: 0, patterns: BTreeMap::new() };
    compare.schema(&Facts::of(inner.expanded()), outer.expanded(), "");
    let mut seen = BTreeSet::new();
    compare.problems.retain(|problem| seen.insert((problem.at.clone(), problem.what.clone())));
    compare.problems
}

/// One comparison.
struct Compare {
    draft: Draft,
    problems: Vec<Fault>,
    steps: usize,
    /// How many attempts are open whose failure is no problem yet.
    quiet: usize,
    /// Patterns of names, compiled.
    patterns: BTreeMap<String, Option<Validator>>,
}

impl Compare {
    fn problem(&mut self, at: &str, what: impl Into<String>) -> bool {
        if self.quiet == 0 && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Fault::new(at, what));
        }
        false
    }

    /// Whether something holds, without reporting why not.
    fn holds(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        self.quiet += 1;
        let holds = attempt(self);
        self.quiet -= 1;
        holds
    }

    /// Whether all values with these facts are valid under a schema.
    fn schema(&mut self, facts: &Facts<'_>, outer: &Value, at: &str) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return self.problem(at, "the schemas are too complex to be compared");
        }
        let outer = match outer {
            Value::Bool(true) => return true,
            Value::Object(map) => map,
            _ => return facts.is_impossible() || self.problem(at, "accepts nothing any more"),
        };
        if facts.is_impossible() || facts.has_equal(outer) {
            return true;
        }
        if let Some(values) = facts.values() {
            return self.values(facts, values, outer, at);
        }
        // A value that has one of several shapes is looked at shape by shape. Only if that fails the whole is told of.
        let holds = self.holds(|this| this.keywords(facts, outer, at) || this.by_cases(facts, outer, at));
        holds || (self.quiet == 0 && self.keywords(facts, outer, at))
    }

    /// The facts list all values that there can be: each is tried.
    fn values(&mut self, facts: &Facts<'_>, values: &[Value], outer: &Map<String, Value>, at: &str) -> bool {
        let draft = self.draft;
        let compile = |part: &Map<String, Value>| compiled(&Value::Object(part.clone()), draft).ok();
        self.steps += COMPILE_STEPS;
        let Some(accepting) = compile(outer) else {
            return self.problem(at, "can't be compiled by itself");
        };
        let known: Vec<_> = facts.all().filter_map(|fact| compile(fact)).collect();
        let possible = values.iter().filter(|value| known.iter().all(|fact| fact.is_valid(value)));
        let refused: Vec<String> =
            possible.filter(|value| !accepting.is_valid(value)).take(5).map(ToString::to_string).collect();
        refused.is_empty() || self.problem(at, format!("no longer accepts {}", refused.join(", ")))
    }

    /// One of the facts leaves a choice: whether each choice is accepted.
    fn by_cases(&mut self, facts: &Facts<'_>, outer: &Map<String, Value>, at: &str) -> bool {
        let outer = Value::Object(outer.clone());
        for (fact, branches) in facts.choices() {
            let rest = facts.having_chosen(fact);
            if branches.iter().all(|branch| self.schema(&rest.and(branch), &outer, at)) {
                return true;
            }
        }
        let types = facts.types();
        if types.count() > 1 && types != Types::ANY {
            let only: Vec<Value> = types.each().map(|name| serde_json::json!({ "type": name })).collect();
            // Each step leaves fewer types, so this ends.
            return only.iter().all(|one| self.schema(&facts.and(one), &outer, at));
        }
        false
    }

    /// Whether all keywords follow from the facts.
    fn keywords(&mut self, facts: &Facts<'_>, outer: &Map<String, Value>, at: &str) -> bool {
        let mut all = true;
        for (keyword, value) in outer {
            all &= self.keyword(facts, outer, keyword, value, &join(at, keyword));
            if !all && self.quiet > 0 {
                return false;
            }
        }
        all
    }

    fn keyword(
        &mut self,
        facts: &Facts<'_>,
        outer: &Map<String, Value>,
        keyword: &str,
        value: &Value,
        at: &str,
    ) -> bool {
        let types = facts.types();
        match keyword {
            "type" => self.types(types, value, at),
            // Facts that list their values were tried before.
            "enum" | "const" => self.problem(at, "accepts only these values, and more were accepted before"),
            "allOf" => {
                let parts = value.as_array().into_iter().flatten().enumerate();
                parts.fold(true, |all, (i, part)| self.schema(facts, part, &join(at, i)) && all)
            }
            "anyOf" => {
                facts.all().any(|fact| fact.get("anyOf") == Some(value)) || self.any_of(facts, value, at)
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                !types.has(Types::NUMBER)
                    || scalars::bound(facts, keyword, value)
                    || self.problem(at, narrower(facts, keyword, value))
            }
            "minLength" | "maxLength" => self.count(facts, types, Types::STRING, keyword, value, at),
            "minItems" | "maxItems" => self.count(facts, types, Types::ARRAY, keyword, value, at),
            "minProperties" | "maxProperties" => self.count(facts, types, Types::OBJECT, keyword, value, at),
            "pattern" | "format" | "contentEncoding" | "contentMediaType" => {
                // `format` may be about numbers, too.
                let about_text = keyword != "format" && !types.has(Types::STRING);
                about_text || self.same(facts, outer, &[keyword], at)
            }
            "uniqueItems" => {
                *value == Value::Bool(false)
                    || !types.has(Types::ARRAY)
                    || self.same(facts, outer, &[keyword], at)
            }
            "items" if objects::plain_items(outer) => {
                !types.has(Types::ARRAY) || self.schema(&facts.items(), value, at)
            }
            "items" | "prefixItems" | "additionalItems" => {
                !types.has(Types::ARRAY)
                    || self.same(facts, outer, &["items", "prefixItems", "additionalItems"], at)
            }
            "contains" | "minContains" | "maxContains" => {
                !types.has(Types::ARRAY)
                    || self.same(facts, outer, &["contains", "minContains", "maxContains"], at)
            }
            "required"
            | "dependentRequired"
            | "properties"
            | "patternProperties"
            | "additionalProperties"
            | "propertyNames" => !types.has(Types::OBJECT) || self.object(facts, outer, keyword, value, at),
            "dependentSchemas" | "dependencies" => {
                !types.has(Types::OBJECT) || self.same(facts, outer, &[keyword], at)
            }
            "oneOf" | "not" => self.same(facts, outer, &[keyword], at),
            "if" | "then" | "else" => {
                // Without `if` the others say nothing.
                !outer.contains_key("if") || self.same(facts, outer, &["if", "then", "else"], at)
            }
            "unevaluatedProperties" | "unevaluatedItems" => {
                let about = if keyword == "unevaluatedItems" { Types::ARRAY } else { Types::OBJECT };
                // Equal schemas as a whole were seen before.
                *value == Value::Bool(true)
                    || !types.has(about)
                    || self
                        .problem(at, "what this accepts hangs on the rest of its schema, which has changed")
            }
            // Annotations, and words that the standard doesn't know: they accept everything.
            _ => true,
        }
    }

    fn any_of(&mut self, facts: &Facts<'_>, value: &Value, at: &str) -> bool {
        let branches = value.as_array().map_or(&[][..], Vec::as_slice);
        branches.iter().any(|branch| self.holds(|this| this.schema(facts, branch, at)))
            || self.problem(at, "none of these is shown to accept all that was accepted before")
    }

    /// A keyword whose meaning hangs on others: a fact has to have all of them alike.
    fn same(&mut self, facts: &Facts<'_>, outer: &Map<String, Value>, group: &[&str], at: &str) -> bool {
        facts.all().any(|fact| group.iter().all(|keyword| fact.get(*keyword) == outer.get(*keyword)))
            || self.problem(at, "is new or not what it was, and may refuse what was accepted before")
    }

    fn count(
        &mut self,
        facts: &Facts<'_>,
        types: Types,
        about: Types,
        keyword: &str,
        value: &Value,
        at: &str,
    ) -> bool {
        !types.has(about)
            || scalars::bound(facts, keyword, value)
            || self.problem(at, narrower(facts, keyword, value))
    }

    fn types(&mut self, types: Types, value: &Value, at: &str) -> bool {
        let accepted = Types::of(value);
        let refused: Vec<&str> = types.minus(accepted).each().collect();
        refused.is_empty() || self.problem(at, format!("no longer accepts type {}", refused.join(", ")))
    }
}

fn narrower(facts: &Facts<'_>, keyword: &str, value: &Value) -> String {
    let before = facts.all().find_map(|fact| fact.get(keyword));
    match before {
        Some(before) => format!("is narrower: {value}, and was {before}"),
        None => format!("is new: {value} may refuse what was accepted before"),
    }
}
