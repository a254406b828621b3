//! Rules and schemas in force, and what they make of an accepted event.
//!
//! A [`Registry`] is of one version of the cluster's configuration and immutable; what it costs to compile is paid once
//! for each version. Schemas that didn't change are taken over from the registry before.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_domain::{EventRecord, EventType, Reason, Refused};
use serde_json::{Map, Value};

use crate::{
    fault::Fault,
    note,
    rules::TraitRules,
    schema::{Policy, Schema, SchemaKey, Violation},
};

/// How many violations a refusal tells of, and how many are noted.
const VIOLATIONS_MAX: usize = 3;

/// A schema that is in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Its version.
    pub version: u64,
    /// What becomes of events that break it.
    pub policy: Policy,
    /// The schema.
    pub schema: Arc<Schema>,
}

/// Rules and schemas in force.
#[derive(Clone, Default)]
pub struct Registry {
    rules: Arc<TraitRules>,
    /// By type, then by name: looked up with what an event has, without copying it.
    schemas: BTreeMap<i32, BTreeMap<String, InForce>>,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is taken, maybe with notes.
    Take,
    /// It goes to quarantine.
    Quarantine(Refused),
    /// It is refused and not kept.
    Reject(Refused),
}

impl Registry {
    /// A registry of rules without schemas.
    pub fn new(rules: Arc<TraitRules>) -> Self {
        Self { rules, schemas: BTreeMap::new() }
    }

    /// Puts a schema in force.
    pub fn insert(&mut self, key: &SchemaKey, in_force: InForce) {
        self.schemas.entry(key.kind.into()).or_default().insert(key.name.clone(), in_force);
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<TraitRules> {
        &self.rules
    }

    /// The schema that is in force for exactly these events.
    pub fn get(&self, key: &SchemaKey) -> Option<&InForce> {
        self.schemas.get(&key.kind.into())?.get(&key.name)
    }

    /// The traits that customers may have, where the schema of `identify` lets them have no others; `None`: any.
    pub fn traits(&self) -> Option<impl Iterator<Item = &str>> {
        let in_force = self.get(&SchemaKey::of_type(EventType::Identify))?;
        // What is only noted is taken, whatever it is called.
        if in_force.policy == Policy::Flag { None } else { in_force.schema.names() }
    }

    /// Standardises an accepted event and checks it. What becomes of it is in the verdict; what was done to it, and
    /// what it was accepted in spite of, in its notes.
    pub fn examine(&self, record: &mut EventRecord) -> Verdict {
        if record.kind() == EventType::Identify {
            self.rules.standardise(&mut record.traits, &mut record.notes);
        }
        let of_type = self.schemas.get(&record.kind);
        let found = of_type.and_then(|named| match named.get_key_value(&record.name) {
            None => named.get_key_value(""),
            found => found,
        });
        match found {
            Some((name, in_force)) => self.checked(record, name, in_force),
            None => self.unknown(record),
        }
    }

    fn unknown(&self, record: &mut EventRecord) -> Verdict {
        let Some(policy) = self.rules.unknown_events().filter(|_| record.kind() == EventType::Track) else {
            return Verdict::Take;
        };
        let what = "there is no schema for an event of this name: correct the name, or put a schema for it";
        self.ruled(policy, record, Reason::EventUnknown, "event", what.to_owned(), |_| {
            vec![format!("{} event", note::EVENT_UNKNOWN)]
        })
    }

    fn checked(&self, record: &mut EventRecord, name: &str, in_force: &InForce) -> Verdict {
        let key = SchemaKey { kind: record.kind(), name: name.to_owned() };
        let subject = match said(record) {
            Ok(subject) => subject,
            Err(fault) => {
                let refused = Refused::new(Reason::Malformed, key.subject(), fault.to_string());
                return Verdict::Quarantine(with_id(refused, record));
            }
        };
        if in_force.schema.is_valid(&subject) {
            return Verdict::Take;
        }
        let found = in_force.schema.violations(&subject, VIOLATIONS_MAX);
        let found: Vec<Violation> = found.into_iter().map(|one| one.within(key.subject())).collect();
        let version = in_force.version;
        let told: Vec<String> =
            found.iter().map(|one| format!("{}: {}", one.pointer, one.expected)).collect();
        let what = format!("breaks version {version} of the schema {key}: {}", told.join("; "));
        let field = found.first().map_or("", |one| one.pointer.as_str()).to_owned();
        self.ruled(in_force.policy, record, Reason::SchemaViolation, &field, what, |_| {
            found.iter().map(|one| note::violated(&key, version, one)).collect()
        })
    }

    fn ruled(
        &self,
        policy: Policy,
        record: &mut EventRecord,
        reason: Reason,
        field: &str,
        what: String,
        notes: impl FnOnce(&Self) -> Vec<String>,
    ) -> Verdict {
        match policy {
            Policy::Flag => {
                record.notes.extend(notes(self));
                Verdict::Take
            }
            Policy::Quarantine => Verdict::Quarantine(with_id(Refused::new(reason, field, what), record)),
            Policy::Reject => Verdict::Reject(with_id(Refused::new(reason, field, what), record)),
        }
    }
}

/// With the sender's message id; one that was made for it means nothing to anyone.
fn with_id(mut refused: Refused, record: &EventRecord) -> Refused {
    let made = record.notes.iter().any(|note| note.starts_with("MESSAGE_ID_MADE "));
    refused.message_id = (!made).then(|| record.message_id.clone());
    refused
}

/// What an event says, as its schema sees it; nothing said is an empty object.
fn said(record: &EventRecord) -> Result<Value, Fault> {
    let object = |blob: &[u8]| match blob {
        [] => Ok(Value::Object(Map::new())),
        blob => serde_json::from_slice(blob).map_err(|error| Fault::new("", error.to_string())),
    };
    match record.kind() {
        EventType::Identify => {
            let traits = record.traits.iter().filter(|change| !change.is_removed());
            let traits = traits.map(|change| Ok((change.name.clone(), object(&change.value)?)));
            Ok(Value::Object(traits.collect::<Result<_, _>>()?))
        }
        EventType::Group => {
            let mut said = object(&record.properties)?;
            Ok(said
                .get_mut("traits")
                .map(Value::take)
                .filter(Value::is_object)
                .unwrap_or_else(|| Value::Object(Map::new())))
        }
        _ => object(&record.properties),
    }
}
