//! Identity rules as a document, for people: the domain's rule set in JSON, and back.
//!
//! ```json
//! {"priority": ["user_id", "email", "phone"], "limits": {"user_id": 1, "anonymous_id": 1000}, "other_limit": 20,
//!  "shared_above": 32, "blocked": {"all": {"values": ["test"], "patterns": ["test-*"]}, "email": {"values": ["a@b.de"]}},
//!  "sources": {"crm": "full", "forum": "nothing", "till": ["email", "phone"]}}
//! ```
//!
//! What is left out is as in the default rules. `blocked` names a namespace, or `all`; `sources` says whose word counts
//! when it says that two identifiers are one customer: `full`, `nothing`, or links between certain namespaces only.

use std::collections::BTreeMap;

use isthmus_domain::{
    Namespace,
    identity::{IdentityRules, Pattern, RulesError, SourceTrust},
    value::{Map, Value},
};

use crate::{
    fault::{Fault, join},
    reading::{self, Document},
};

/// The largest document, in bytes.
pub const IDENTITY_RULES_BYTES_MAX: usize = 512 << 10;
/// What stands for all namespaces.
const ALL: &str = "all";

/// The rule set that a document stands for, of version 0.
///
/// # Errors
/// What is wrong, and where.
pub fn read(document: &Document) -> Result<IdentityRules, Fault> {
    const KNOWN: [&str; 6] = ["priority", "limits", "other_limit", "shared_above", "blocked", "sources"];
    let body = &document.body;
    reading::known_keys(body, "", &KNOWN)?;
    let mut rules = IdentityRules::default();
    if let Some(priority) = body.get("priority") {
        let names = reading::texts(priority, "/priority")?;
        let names = names.iter().map(|(name, at)| namespace(name, at));
        rules = rules.with_priority(names.collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(limits) = body.get("limits") {
        for (name, limit) in reading::any_object(limits, "/limits")? {
            let at = join("/limits", name);
            rules = rules.with_limit(namespace(name, &at)?, reading::number(limit, &at)?);
        }
    }
    if let Some(limit) = body.get("other_limit") {
        rules = rules.with_other_limit(reading::number(limit, "/other_limit")?);
    }
    if let Some(shared) = body.get("shared_above") {
        rules = rules.with_shared_above(reading::number(shared, "/shared_above")?);
    }
    if let Some(blocked) = body.get("blocked") {
        for (name, block) in reading::any_object(blocked, "/blocked")? {
            let at = join("/blocked", name);
            let of = if name == ALL { None } else { Some(namespace(name, &at)?) };
            let block = reading::object(block, &at, &["values", "patterns"])?;
            rules = with_blocked(rules, of, block, &at)?;
        }
    }
    if let Some(sources) = body.get("sources") {
        for (name, trust) in reading::any_object(sources, "/sources")? {
            let trust = trusted(trust, &join("/sources", name))?;
            rules = rules.with_source(name, trust);
        }
    }
    rules.validate().map_err(|error| Fault::new(place(&error), error.to_string()))?;
    Ok(rules)
}

fn with_blocked(
    mut rules: IdentityRules,
    of: Option<Namespace>,
    block: &Map,
    at: &str,
) -> Result<IdentityRules, Fault> {
    if let Some(values) = block.get("values") {
        for (value, at) in reading::texts(values, &join(at, "values"))? {
            if value.trim().is_empty() {
                return Err(Fault::new(at, "is blank: blank values are always blocked"));
            }
            rules = rules.with_blocked_value(of.clone(), value);
        }
    }
    if let Some(patterns) = block.get("patterns") {
        for (text, at) in reading::texts(patterns, &join(at, "patterns"))? {
            let pattern = Pattern::parse(text).ok_or_else(|| {
                Fault::new(at, "is blank, ends in a backslash, or would block (nearly) every value")
            })?;
            rules = rules.with_blocked_pattern(of.clone(), pattern);
        }
    }
    Ok(rules)
}

fn trusted(trust: &Value, at: &str) -> Result<SourceTrust, Fault> {
    match trust {
        Value::String(text) if text == "full" => Ok(SourceTrust::Full),
        Value::String(text) if text == "nothing" => Ok(SourceTrust::Nothing),
        Value::List(_) => {
            let names = reading::texts(trust, at)?;
            let names = names.iter().map(|(name, at)| namespace(name, at));
            Ok(SourceTrust::Only(names.collect::<Result<_, _>>()?))
        }
        _ => Err(Fault::new(at, "must be full, nothing, or a list of namespaces")),
    }
}

/// A namespace that is spelled as it is stored: a rule for `userId` would never apply.
fn namespace(text: &str, at: &str) -> Result<Namespace, Fault> {
    match Namespace::parse(text) {
        Ok(namespace) if namespace.as_str() == text => Ok(namespace),
        Ok(namespace) => Err(Fault::new(at, format!("is spelled {namespace}"))),
        Err(_) => Err(Fault::new(at, "a namespace is 1 to 64 characters of a-z, 0-9 and _")),
    }
}

fn place(error: &RulesError) -> &'static str {
    match error {
        RulesError::BadLimit { .. } => "/limits",
        RulesError::BadSharedAbove(_) => "/shared_above",
        RulesError::BadValue { .. } | RulesError::BadPattern { .. } => "/blocked",
        RulesError::BadSource { .. } | RulesError::NoNamespaces { .. } => "/sources",
        RulesError::Twice { .. } => "/priority",
        RulesError::Decode(_) | RulesError::BadNamespace { .. } | RulesError::TooMany { .. } => "",
    }
}

/// The document of a rule set, with its version: [`read`] of it gives the rule set back.
pub fn written(rules: &IdentityRules) -> Value {
    let texts = |all: &mut dyn Iterator<Item = String>| Value::List(all.map(Value::from).collect());
    let limits = rules.limits().iter().map(|(name, limit)| (name.to_string(), Value::Int((*limit).into())));
    let mut blocked: BTreeMap<String, Map> = BTreeMap::new();
    let name = |of: &Option<Namespace>| of.as_ref().map_or_else(|| ALL.to_owned(), Namespace::to_string);
    for (of, values) in rules.blocked_values() {
        let values = texts(&mut values.iter().cloned());
        blocked.entry(name(of)).or_default().insert("values".to_owned(), values);
    }
    for (of, patterns) in rules.blocked_patterns() {
        let patterns = texts(&mut patterns.iter().map(|pattern| pattern.as_str().to_owned()));
        blocked.entry(name(of)).or_default().insert("patterns".to_owned(), patterns);
    }
    let sources = rules.sources().iter().map(|(name, trust)| {
        let trust = match trust {
            SourceTrust::Full => Value::from("full"),
            SourceTrust::Nothing => Value::from("nothing"),
            SourceTrust::Only(names) => texts(&mut names.iter().map(Namespace::to_string)),
        };
        (name.clone(), trust)
    });
    let priority = texts(&mut rules.priority_order().iter().map(Namespace::to_string));
    Value::Map(Map::from([
        ("version".to_owned(), Value::from_u64(rules.version())),
        ("priority".to_owned(), priority),
        ("limits".to_owned(), Value::Map(limits.collect())),
        ("other_limit".to_owned(), Value::Int(rules.other_limit().into())),
        ("shared_above".to_owned(), Value::Int(rules.shared_above().into())),
        (
            "blocked".to_owned(),
            Value::Map(blocked.into_iter().map(|(of, block)| (of, block.into())).collect()),
        ),
        ("sources".to_owned(), Value::Map(sources.collect())),
    ]))
}
