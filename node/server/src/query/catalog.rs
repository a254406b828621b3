//! What is registered, as columns: traits and properties with their types.
//!
//! The rules for traits name traits, and the schemas of events say which types traits and properties have. Where schemas of
//! several events differ about a property, it is text, as is what a schema leaves open. What a column means is the
//! `description` that a schema has of it; of several, the first by the names of the schemas. Columns are found again whenever
//! a document changes, and not for each query.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_coordinator::View;
use isthmus_proto::internal::v1::{DocumentKind, DocumentRecord};
use isthmus_query::{Column, ColumnType, Meanings};
use parking_lot::Mutex;
use serde_json::Value;

/// The most columns of either sort; those that come last by name are left to the functions on JSON.
const COLUMNS_MAX: usize = 1_000;

/// The longest text of what a column means, in characters; the rest is left out and said to be.
const MEANING_MAX: usize = 300;

/// Columns by name.
type Types = BTreeMap<String, Option<ColumnType>>;

/// Traits and properties.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Of profiles.
    pub traits: Vec<Column>,
    /// Of events.
    pub properties: Vec<Column>,
    /// What they mean.
    pub meanings: Arc<Meanings>,
}

/// The columns of the documents in force, found once for each version.
#[derive(Debug, Default)]
pub struct Registered(Mutex<(u64, Arc<Columns>)>);

impl Registered {
    /// The columns of a view, or of a newer one.
    pub fn of(&self, view: &View) -> Arc<Columns> {
        let mut current = self.0.lock();
        if view.documents_version() > current.0 {
            *current = (view.documents_version(), Arc::new(columns(view.documents())));
        }
        current.1.clone()
    }
}

fn columns<'a>(documents: impl Iterator<Item = &'a DocumentRecord>) -> Columns {
    let (mut traits, mut properties) = (Types::new(), Types::new());
    let mut meanings = Meanings::default();
    for document in documents {
        // What can't be read has no columns: events are refused meanwhile, by `grpc::registry`.
        let Ok(content) = serde_json::from_slice::<Value>(&document.content) else { continue };
        match document.kind() {
            DocumentKind::TraitRules => of_rules(&content, &mut traits),
            DocumentKind::Schema if document.name == "identify" => {
                of_schema(&content, &mut traits, &mut meanings.traits);
            }
            // Traits of groups are in no table.
            DocumentKind::Schema if document.name == "group" => {}
            DocumentKind::Schema => of_schema(&content, &mut properties, &mut meanings.properties),
            _ => {}
        }
    }
    Columns { traits: listed(traits), properties: listed(properties), meanings: Arc::new(meanings) }
}

fn listed(types: Types) -> Vec<Column> {
    let columns = types.into_iter().take(COLUMNS_MAX);
    columns.map(|(name, ty)| Column { name, ty: ty.unwrap_or(ColumnType::Text) }).collect()
}

/// Notes what is said of a name; `None`: nothing is known of its type. Who differ make it text.
fn note(types: &mut Types, name: &str, ty: Option<ColumnType>) {
    let known = types.entry(name.to_owned()).or_insert(ty);
    match (&known, ty) {
        (None, Some(_)) => *known = ty,
        (Some(one), Some(other)) if *one != other => *known = Some(ColumnType::Text),
        _ => {}
    }
}

/// Traits that rules are about. A name with a dot leads into an object, which is no column.
fn of_rules(content: &Value, traits: &mut Types) {
    let Some(rules) = content.get("traits").and_then(Value::as_object) else { return };
    for (name, rules) in rules.iter().filter(|(name, _)| !name.contains('.')) {
        let names = rules.as_array().into_iter().flatten();
        let names = names.filter_map(|rule| rule.as_str().or_else(|| rule.get("rule")?.as_str()));
        let mut ty = names.filter_map(|rule| match rule {
            "number" => Some(ColumnType::Number),
            "date" => Some(ColumnType::Time),
            "trim" => None,
            _ => Some(ColumnType::Text),
        });
        note(traits, name, ty.next_back());
    }
}

/// Properties of a JSON Schema's object.
fn of_schema(content: &Value, types: &mut Types, meanings: &mut BTreeMap<String, String>) {
    let Some(properties) = content.get("properties").and_then(Value::as_object) else { return };
    for (name, schema) in properties {
        note(types, name, type_of(schema));
        if let Some(meaning) = meaning(schema) {
            meanings.entry(name.clone()).or_insert(meaning);
        }
    }
}

/// What a schema says that it is about, on one line; `None`: nothing.
fn meaning(schema: &Value) -> Option<String> {
    let words: Vec<&str> = schema.get("description")?.as_str()?.split_whitespace().collect();
    let text = Some(words.join(" ")).filter(|text| !text.is_empty())?;
    Some(match text.char_indices().nth(MEANING_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    })
}

/// The type that a schema allows beside null; `None`: several, or it doesn't say.
fn type_of(schema: &Value) -> Option<ColumnType> {
    let named = match schema.get("type")? {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => return None,
    };
    let format = schema.get("format").and_then(Value::as_str);
    match named[..] {
        ["string"] if matches!(format, Some("date-time" | "date")) => Some(ColumnType::Time),
        ["integer"] => Some(ColumnType::Integer),
        ["number"] | ["integer", "number"] | ["number", "integer"] => Some(ColumnType::Number),
        ["boolean"] => Some(ColumnType::Boolean),
        [_, ..] => Some(ColumnType::Text),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: DocumentKind, name: &str, content: &str) -> DocumentRecord {
        let content = content.as_bytes().to_vec().into();
        DocumentRecord { kind: kind.into(), name: name.to_owned(), content, ..DocumentRecord::default() }
    }

    #[test]
    fn types_come_from_rules_and_schemas_and_who_differ_make_text() {
        let documents = [
            document(
                DocumentKind::TraitRules,
                "",
                r#"{"traits":{"phone":["trim",{"rule":"phone"}],"born":["date"],"plan":["trim"],"address.city":["trim"]}}"#,
            ),
            document(
                DocumentKind::Schema,
                "identify",
                r#"{"properties":{"plan":{"type":"string"},"age":{"type":["integer","null"]},"vip":{"type":"boolean"}}}"#,
            ),
            document(
                DocumentKind::Schema,
                "track:Order Completed",
                r#"{"properties":{"total":{"type":"number"},"at":{"type":"string","format":"date-time"},"id":{"type":"integer"},"any":{}}}"#,
            ),
            document(DocumentKind::Schema, "page", r#"{"properties":{"id":{"type":"string"}}}"#),
            document(DocumentKind::Schema, "group", r#"{"properties":{"seats":{"type":"integer"}}}"#),
            document(DocumentKind::Schema, "track:Odd", "true"),
        ];
        let found = columns(documents.iter());
        assert_eq!(*found.meanings, Meanings::default());
        let shown = |columns: &[Column]| {
            columns.iter().map(|column| format!("{} {:?}", column.name, column.ty)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&found.traits),
            ["age Integer", "born Time", "phone Text", "plan Text", "vip Boolean"]
        );
        assert_eq!(shown(&found.properties), ["any Text", "at Time", "id Text", "total Number"]);
    }

    #[test]
    fn what_a_column_means_is_what_the_first_schema_says() {
        let long = "x".repeat(MEANING_MAX + 5);
        let first = format!(
            r#"{{"properties":{{"total":{{"description":" With tax,\n and shipping "}},"id":{{"description":"{long}"}},"n":{{"description":7}}}}}}"#
        );
        let documents = [
            document(
                DocumentKind::Schema,
                "identify",
                r#"{"properties":{"plan":{"description":"What is paid for"}}}"#,
            ),
            document(DocumentKind::Schema, "track:A", &first),
            document(
                DocumentKind::Schema,
                "track:B",
                r#"{"properties":{"total":{"description":"Another"},"n":{"description":" "},"any":true}}"#,
            ),
        ];
        let Meanings { traits, properties } = columns(documents.iter()).meanings.as_ref().clone();
        assert_eq!(traits, [("plan".to_owned(), "What is paid for".to_owned())].into());
        assert_eq!(properties.keys().collect::<Vec<_>>(), ["id", "total"]);
        assert_eq!(properties["total"], "With tax, and shipping");
        assert_eq!(properties["id"].chars().count(), MEANING_MAX + 1);
    }
}
