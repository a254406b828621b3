//! Rules and schemas as this node's view has them, compiled once for each version.
//!
//! The first batch after a change compiles what has changed. A document that this version of the program can't read was
//! put by a newer one: events are refused then, as retryable, for taking them unchecked would be wrong and calling them
//! wrong, too.

use std::sync::Arc;

use isthmus_coordinator::View;
use isthmus_proto::internal::v1::{DocumentKind, DocumentRecord};
use isthmus_quality::{
    Fault, InForce, Policy, RULES_BYTES_MAX, Registry, Schema, SchemaKey, TraitRules, read_document,
};
use parking_lot::Mutex;
use tonic::Code;

use super::status::Refusal;

/// What was compiled last.
#[derive(Default)]
struct Current {
    /// [`View::documents_version`] that it is of.
    documents_version: u64,
    rules_version: u64,
    registry: Arc<Registry>,
}

/// The registry of a node.
#[derive(Default)]
pub struct Registries(Mutex<Current>);

impl Registries {
    /// The registry of a view, or a newer one.
    ///
    /// # Errors
    /// UNAVAILABLE `REGISTRY_UNREADABLE`, naming the document that this version of the program can't read.
    pub fn of(&self, view: &View) -> Result<Arc<Registry>, Refusal> {
        let mut current = self.0.lock();
        if view.documents_version() > current.documents_version {
            *current = compiled(&current, view).map_err(|(name, fault)| {
                let message = format!("this node can't read {name} ({fault}): it may need a newer version");
                Refusal::new(Code::Unavailable, "REGISTRY_UNREADABLE", message)
                    .retry_after(std::time::Duration::from_secs(1))
            })?;
        }
        Ok(Arc::clone(&current.registry))
    }
}

fn compiled(before: &Current, view: &View) -> Result<Current, (String, Fault)> {
    let (rules_version, rules) = match view.document(DocumentKind::TraitRules, "") {
        Some(document) if document.version != before.rules_version => {
            let read = read_document(&document.content, RULES_BYTES_MAX);
            let rules = read.and_then(|read| TraitRules::read(&read));
            (document.version, Arc::new(rules.map_err(|fault| ("the rules for traits".to_owned(), fault))?))
        }
        _ => (before.rules_version, Arc::clone(before.registry.rules())),
    };
    let mut registry = Registry::new(rules);
    for document in view.documents().filter(|document| document.kind() == DocumentKind::Schema) {
        let told = |fault| (format!("the schema {}", document.name), fault);
        let key: SchemaKey = document.name.parse().map_err(told)?;
        let kept = before.registry.get(&key).filter(|kept| kept.version == document.version).cloned();
        let in_force = match kept {
            Some(kept) => kept,
            None => in_force(document).map_err(told)?,
        };
        registry.insert(&key, in_force);
    }
    Ok(Current { documents_version: view.documents_version(), rules_version, registry: Arc::new(registry) })
}

fn in_force(document: &DocumentRecord) -> Result<InForce, Fault> {
    let policy = Policy::parse(&document.policy).ok_or_else(|| Fault::new("", "its policy is not known"))?;
    Ok(InForce { version: document.version, policy, schema: Arc::new(Schema::read(&document.content)?) })
}

#[cfg(test)]
mod tests {
    use isthmus_domain::ShardMap;
    use isthmus_proto::internal::v1::ClusterView;

    use super::*;

    fn view(documents: Vec<DocumentRecord>) -> View {
        let wire = ClusterView {
            version: 1,
            cluster_id: vec![1; 16].into(),
            shard_map: ShardMap::even(1).unwrap().encode().into(),
            documents,
            ..ClusterView::default()
        };
        View::from_wire(wire).unwrap()
    }

    fn document(kind: DocumentKind, name: &str, version: u64, content: &str) -> DocumentRecord {
        DocumentRecord {
            kind: kind.into(),
            name: name.to_owned(),
            version,
            content: content.as_bytes().to_vec().into(),
            policy: "reject".to_owned(),
            ..DocumentRecord::default()
        }
    }

    #[test]
    fn what_did_not_change_is_not_compiled_again() {
        let registries = Registries::default();
        let schema = |version, content: &str| document(DocumentKind::Schema, "track:Seen", version, content);
        let other = document(DocumentKind::Schema, "page", 1, "true");
        let rules = document(DocumentKind::TraitRules, "", 1, r#"{"traits":{"a":["trim"]}}"#);
        let first = registries.of(&view(vec![schema(1, "true"), other.clone(), rules.clone()])).ok().unwrap();
        let second = registries.of(&view(vec![schema(2, "false"), other, rules])).ok().unwrap();
        let of = |registry: &Registry, key: &str| registry.get(&key.parse().unwrap()).unwrap().clone();
        assert!(Arc::ptr_eq(&of(&first, "page").schema, &of(&second, "page").schema));
        assert_eq!((of(&first, "track:Seen").version, of(&second, "track:Seen").version), (1, 2));
        assert!(Arc::ptr_eq(first.rules(), second.rules()) && !second.rules().is_empty());
    }

    #[test]
    fn a_document_of_a_newer_version_is_not_passed_over() {
        let unreadable = document(DocumentKind::TraitRules, "", 1, r#"{"later":1}"#);
        let refusal = Registries::default().of(&view(vec![unreadable])).err().unwrap();
        assert!(format!("{refusal:?}").contains("REGISTRY_UNREADABLE"));
    }
}
