//! Rules for traits: which rules, in which order, for which trait.
//!
//! The document: `{"traits": {"phone": ["trim", {"rule": "phone", "region": "DE"}], "address.country": ["country"]}}`, and
//! `unknown_events`, what becomes of a `track` event that has no schema: `accept` (the default), `flag`, `quarantine` or
//! `reject`. A trait is named as it is stored (reserved traits in camelCase); a dot leads into an object, unless a trait
//! is called so.
//!
//! **Standardising twice is standardising once**, whatever rules are put together: a value is only replaced by one that
//! the rules leave alone. Where they don't come to rest (a replacement that makes its own pattern match again), the
//! value stays as it was sent, and is flagged.

use std::collections::BTreeMap;

use isthmus_domain::{
    record::TraitChange,
    value::{Map, Value, json},
};

use crate::{
    fault::{Fault, join},
    note,
    reading::{self, Document},
    schema::Policy,
    standard::Rule,
};

/// The largest document, in bytes.
pub const RULES_BYTES_MAX: usize = 256 << 10;
/// The most traits with rules, and the most rules of a trait.
const TRAITS_MAX: usize = 1_000;
const RULES_MAX: usize = 32;
/// The longest name of a trait, in bytes, and how deep into objects it may lead.
const NAME_BYTES_MAX: usize = 256;
const DEPTH_MAX: usize = 16;

/// Rules for traits, ready to be used.
#[derive(Clone, Default)]
pub struct TraitRules {
    /// By a trait's whole name, as the document has it.
    rules: BTreeMap<String, Vec<Rule>>,
    /// The names that lead into an object, by what stands in front of the first dot.
    nested: BTreeMap<String, Vec<String>>,
    unknown_events: Option<Policy>,
}

impl TraitRules {
    /// Reads a document.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(document: &Document) -> Result<Self, Fault> {
        reading::known_keys(&document.body, "", &["traits", "unknown_events"])?;
        let unknown_events = match document.body.get("unknown_events") {
            None => None,
            Some(value) => {
                let (at, name) = ("/unknown_events", reading::text(value, "/unknown_events")?);
                match name {
                    "accept" => None,
                    name => Some(
                        Policy::parse(name)
                            .ok_or_else(|| Fault::new(at, "must be accept, flag, quarantine or reject"))?,
                    ),
                }
            }
        };
        let mut read = Self { unknown_events, ..Self::default() };
        let Some(traits) = document.body.get("traits") else { return Ok(read) };
        let traits = reading::any_object(traits, "/traits")?;
        if traits.len() > TRAITS_MAX {
            return Err(Fault::new("/traits", format!("more than {TRAITS_MAX} traits")));
        }
        for (name, specs) in traits {
            let at = join("/traits", name);
            let parts = name.split('.').count();
            if name.is_empty() || name.len() > NAME_BYTES_MAX || parts > DEPTH_MAX {
                let what =
                    format!("a trait's name has 1 to {NAME_BYTES_MAX} bytes and at most {DEPTH_MAX} parts");
                return Err(Fault::new(at, what));
            }
            let specs = reading::list(specs, &at)?;
            if specs.is_empty() || specs.len() > RULES_MAX {
                return Err(Fault::new(at, format!("name 1 to {RULES_MAX} rules, in their order")));
            }
            let rules = specs.iter().enumerate().map(|(index, spec)| Rule::read(spec, &join(&at, index)));
            read.rules.insert(name.clone(), rules.collect::<Result<_, _>>()?);
            if let Some((first, _)) = name.split_once('.') {
                read.nested.entry(first.to_owned()).or_default().push(name.clone());
            }
        }
        Ok(read)
    }

    /// What becomes of an event that has no schema; `None`: it is accepted.
    pub fn unknown_events(&self) -> Option<Policy> {
        self.unknown_events
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Standardises what an event says about traits, and notes what became of it. What is removed stays removed.
    pub fn standardise(&self, traits: &mut [TraitChange], notes: &mut Vec<String>) {
        if self.rules.is_empty() {
            return;
        }
        for change in traits.iter_mut().filter(|change| !change.is_removed()) {
            let own = self.rules.get(&change.name);
            let inner = self.nested.get(&change.name);
            if own.is_none() && inner.is_none() {
                continue;
            }
            // What accepting wrote can be read.
            let Ok(mut value) = json::parse(&change.value) else { continue };
            let mut changed = false;
            if let Some(rules) = own {
                changed |= applied(rules, &change.name, &mut value, notes);
            }
            for name in inner.into_iter().flatten() {
                let found = match &mut value {
                    Value::Map(map) => found(map, &name[change.name.len() + 1..]),
                    _ => None,
                };
                if let (Some(found), Some(rules)) = (found, self.rules.get(name)) {
                    changed |= applied(rules, name, found, notes);
                }
            }
            if changed {
                change.value = value.to_json().into();
            }
        }
    }
}

/// What a path leads to.
fn found<'a>(map: &'a mut Map, path: &str) -> Option<&'a mut Value> {
    match path.split_once('.') {
        Some((first, rest)) if !map.contains_key(path) => match map.get_mut(first)? {
            Value::Map(inner) => found(inner, rest),
            _ => None,
        },
        _ => map.get_mut(path),
    }
}

/// Applies a trait's rules in their order; true when the value is another one now.
fn applied(rules: &[Rule], name: &str, value: &mut Value, notes: &mut Vec<String>) -> bool {
    if value.is_null() {
        return false;
    }
    let flagged =
        |rule: &str| note::with_detail(note::NOT_STANDARDISED, &format!("traits.{name}"), &Value::from(rule));
    let made = match through(rules, value) {
        Ok(made) => made,
        Err(rule) => {
            notes.push(flagged(rule));
            return false;
        }
    };
    if made == *value {
        return false;
    }
    match through(rules, &made) {
        Ok(again) if again == made => {
            notes.push(note::with_detail(note::STANDARDISED, &format!("traits.{name}"), &made));
            *value = made;
            true
        }
        Ok(_) => {
            let last = rules.last().map_or("", Rule::name);
            notes.push(flagged(last));
            false
        }
        Err(rule) => {
            notes.push(flagged(rule));
            false
        }
    }
}

/// The value after all rules, or the name of the rule that can't take it.
fn through(rules: &[Rule], value: &Value) -> Result<Value, &'static str> {
    rules.iter().try_fold(value.clone(), |value, rule| rule.apply(&value).ok_or(rule.name()))
}
