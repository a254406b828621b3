//! Documents that people write: settings, schemas, rules, merge patches, names.
//!
//! A byte chooses which. Each is read or refused with a place and a sentence; what was read is written as text that reads
//! the same; and what it is for is tried with it, within bounds.

use std::{fs, str, sync::LazyLock};

use isthmus_domain::{
    Amount, FacetId, Identifier, Map, Namespace, QuarantineEntry, Stamp, Value,
    identity::{IdentityRules, Pattern},
    quarantine::mend::{Change, try_again},
    record::TraitChange,
    value::{json, merge_patch},
};
use isthmus_matching::Config;
use isthmus_node::{ServeArgs, config};
use isthmus_quality::{
    Compatibility, Schema, SchemaKey, TraitRules,
    compat::{compare, contained},
    identity_rules, read_document,
};
use tempfile::TempDir;

use crate::{
    intake::{NOW, RULES_IN_FORCE},
    pieces::{Pieces, pieces, stable},
};

const BYTES_MAX: usize = 512 << 10;
/// What schemas are tried on.
const VALUES: [&str; 3] = [
    r#"{"revenue":"44.02","url":"http://a/b","n":1,"list":[1,"a",null],"o":{"a":{}}}"#,
    "[]",
    r#""2026-01-01""#,
];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// The target.
pub fn run(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    match input.byte() % 9 {
        0 => settings(input.rest()),
        1 => schema(input.rest()),
        2 => schemas(input),
        3 => trait_rules(input.rest()),
        4 => rules_of_identity(input.rest()),
        5 => patch(input),
        6 => matching(input.rest()),
        7 => variables(input.rest()),
        _ => names(input.rest()),
    }
}

fn settings(text: &[u8]) {
    let path = FOLDER.path().join(format!("{}.toml", std::process::id()));
    fs::write(&path, text).unwrap();
    let args = ServeArgs { config: Some(path), ..ServeArgs::default() };
    loaded(&args, Vec::new());
}

/// The environment: lines of `NAME=VALUE`.
fn variables(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (format!("ISTHMUS_{name}"), value.to_owned())).collect();
    loaded(&ServeArgs::default(), pairs);
}

fn loaded(args: &ServeArgs, environment: Vec<(String, String)>) {
    match config::load(args, environment) {
        Ok(loaded) => assert!(loaded.config.validate().is_ok()),
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && matches!(error, isthmus_node::Error::Located { .. }), "{told}");
        }
    }
}

fn schema(text: &[u8]) {
    let read = |text: &[u8]| Schema::read(text).ok();
    let Some(schema) = stable(text, read, Schema::to_json) else { return };
    for value in VALUES {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        let violations = schema.violations(&value, 3);
        assert_eq!(schema.is_valid(&value), violations.is_empty());
        assert!(violations.len() <= 3 && violations.iter().all(|one| !one.expected.is_empty()));
    }
    let same = Schema::read(&schema.to_json()).unwrap();
    assert!(compare(&schema, &same, Compatibility::Full).is_empty(), "not compatible with itself");
}

/// Two schemas, whether one takes what the other takes. What is found compatible has to be: of our values.
fn schemas(mut input: Pieces<'_>) {
    let (Some(inner), Some(outer)) = (input.next(), input.next()) else { return };
    let (Ok(inner), Ok(outer)) = (Schema::read(inner), Schema::read(outer)) else { return };
    if contained(&inner, &outer).is_empty() {
        for value in VALUES {
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            assert!(!inner.is_valid(&value) || outer.is_valid(&value), "contained, and yet {value}");
        }
    }
    for wanted in [Compatibility::Backward, Compatibility::Forward, Compatibility::Full] {
        for fault in compare(&inner, &outer, wanted) {
            assert!(!fault.to_string().is_empty());
        }
    }
}

fn trait_rules(text: &[u8]) {
    let read = |text: &[u8]| read_document(text, BYTES_MAX).ok();
    let Some(document) = stable(text, read, isthmus_quality::Document::to_json) else { return };
    let Ok(rules) = TraitRules::read(&document) else { return };
    let mut traits: Vec<TraitChange> = ["phone", "email", "name", "createdAt", "address", "age"]
        .into_iter()
        .zip([
            r#""+49 30 901820""#,
            r#"" A@b.DE ""#,
            r#""Ä\u0000x""#,
            r#""31.12.2025""#,
            r#"{"country":"Germany"}"#,
            "7",
        ])
        .map(|(name, value)| TraitChange { name: name.to_owned(), value: value.as_bytes().to_vec().into() })
        .collect();
    let mut notes = Vec::new();
    rules.standardise(&mut traits, &mut notes);
    for change in &traits {
        assert!(json::parse(&change.value).is_ok(), "what is no JSON was made of {}", change.name);
    }
}

fn rules_of_identity(text: &[u8]) {
    let Ok(document) = read_document(text, BYTES_MAX) else { return };
    let Ok(rules) = identity_rules::read(&document) else { return };
    let written = identity_rules::written(&rules).to_json();
    let again = identity_rules::read(&read_document(&written, BYTES_MAX).unwrap()).unwrap();
    assert_eq!(identity_rules::written(&again).to_json(), written);
    assert_eq!(IdentityRules::decode(&rules.encode()).unwrap().encode(), rules.encode());
}

/// A mend: what was sent, and a merge patch.
fn patch(mut input: Pieces<'_>) {
    let (Some(target), Some(patch)) = (input.next(), input.next()) else { return };
    let Ok(patch) = json::parse(patch) else { return };
    if let Ok(target) = json::parse(target) {
        let merged = merge_patch(target, patch.clone());
        let text = merged.to_json();
        assert_eq!(merge_patch(merged, Value::Map(Map::new())).kind_name(), "an object");
        assert!(json::parse(&text).is_ok());
    }
    let entry = QuarantineEntry {
        id: vec![0xab; 16].into(),
        payload: target.to_vec().into(),
        content_type: "application/json".to_owned(),
        received: NOW.cast_unsigned(),
        ..QuarantineEntry::default()
    };
    for change in [Change::Patch(patch), Change::Replacement(target.to_vec().into())] {
        match try_again(&entry, None, change, RULES_IN_FORCE.mend()) {
            Ok(accepted) => assert!(accepted.record.check().is_ok()),
            Err(refused) => assert!(!refused.message.is_empty()),
        }
    }
}

fn matching(text: &[u8]) {
    let read = |text: &[u8]| serde_json::from_slice::<Config>(text).ok();
    let Some(config) = stable(text, read, |config| serde_json::to_vec(config).unwrap()) else { return };
    if let Err(error) = config.plan() {
        assert!(!error.to_string().is_empty());
    }
}

/// Names and numbers as text. What is read is written as text that reads the same.
fn names(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    if let Ok(identifier) = Identifier::parse(text) {
        let again = Identifier::parse(&format!("{}:{}", identifier.namespace(), identifier.value())).unwrap();
        assert!(again == identifier, "normalised twice it is another");
        let stored = Identifier::from_stored(identifier.namespace().as_str(), identifier.value()).unwrap();
        assert!(stored == identifier);
    }
    if let Ok(namespace) = Namespace::parse(text) {
        assert!(Namespace::parse(namespace.as_str()).unwrap() == namespace);
    }
    if let Some(pattern) = Pattern::parse(text) {
        assert!(Pattern::parse(pattern.as_str()).unwrap() == pattern);
    }
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        let mut sum = Amount::zero();
        sum += &amount;
        assert_eq!(sum, amount);
    }
    if let Ok(stamp) = text.parse::<Stamp>() {
        assert_eq!(stamp.to_string().parse::<Stamp>().unwrap(), stamp);
    }
    if let Ok(facet) = text.parse::<FacetId>() {
        assert_eq!(facet.to_string().parse::<FacetId>().unwrap(), facet);
    }
    if let Ok(key) = text.parse::<SchemaKey>() {
        assert_eq!(key.to_string().parse::<SchemaKey>().unwrap(), key);
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let toml = br#"node_id = 1
grpc_listen = "127.0.0.1:7400"
http_listen = "127.0.0.1:7401"
peer_listen = "127.0.0.1:7402"
data_dir = "/var/lib/isthmus"
join = ["a:1"]
shards = 4
log_level = "info,isthmus=debug"
[storage]
run_cache = "64MiB"
[raft]
tick = "50ms"
"#;
    let schema = br##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["revenue"],"$defs":{"m":{"type":["string","number"],"pattern":"^[0-9.]+$"}},
        "properties":{"revenue":{"$ref":"#/$defs/m"},"n":{"type":"integer","minimum":0,"multipleOf":2},"list":{"items":{"enum":[1,"a",null]},"maxItems":9}},"additionalProperties":false,"anyOf":[{"minProperties":1},true]}"##;
    let old = br#"{"type":"object","properties":{"a":{"type":"integer","maximum":5}}}"#;
    let new = br#"{"type":"object","properties":{"a":{"type":"number","maximum":9}}}"#;
    let traits = br#"{"version":3,"traits":{"phone":["trim",{"rule":"phone","region":"DE"}],"email":["trim","email"],"address.country":["country"],
        "createdAt":[{"rule":"date","formats":["%d.%m.%Y"]}],"age":["number"],"name":[{"rule":"case","to":"lower"},{"rule":"pattern","regex":"[^a-z]","replace":""}]},"unknown_events":"flag"}"#;
    let identity = br#"{"priority":["user_id","email","phone"],"limits":{"user_id":1,"anonymous_id":1000},"other_limit":20,"shared_above":32,
        "blocked":{"all":{"values":["test"],"patterns":["test-*"]},"email":{"values":["a@b.de"]}},"sources":{"crm":"full","forum":"nothing","till":["email","phone"]}}"#;
    let matching = br#"{"traits":[{"name":"email","kind":"email"},{"name":"lastName","kind":"name"}],"link_at":0.95,"review_at":0.5}"#;
    let target: &[u8] = br#"{"type":"track","event":"Seen","properties":{"n":"x"}}"#;
    let merge: &[u8] = br#"{"userId":"42","properties":{"n":1,"m":null}}"#;
    let with = |choice: u8, text: &[u8]| [&[choice], text].concat();
    let mut seeds = vec![
        with(0, toml),
        with(1, schema),
        with(2, &pieces([old.as_slice(), new.as_slice()])),
        with(3, traits),
        with(4, identity),
        with(5, &pieces([target, merge])),
        with(6, matching),
        with(7, b"NODE_ID=1\nSTORAGE__RUN_CACHE=64MiB\nJOIN=[\"a:1\",\"b:2\"]\nSHARDS=4"),
    ];
    for name in [
        "email:A@B.de",
        "user_id: 42 ",
        "phone:+49 30 901820",
        "test-*",
        "-1234.50",
        "1e5",
        "track: Seen ",
        "00000000000000ff",
    ] {
        seeds.push(with(8, name.as_bytes()));
    }
    seeds
}
