//! `grpcurl`, as it is: it knows nothing of the protos but what a node's reflection tells. `tests/sdks/install` gets 1.8.6,
//! which knows the first version of reflection only.

use std::{collections::BTreeSet, path::Path};

use isthmus_proto::FILE_DESCRIPTOR_SET;
use isthmus_tests::{ask, program, tools};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::Value;

use crate::{Hub, standard::SERVICES};

/// Services that are no part of the protos.
const STANDARD: [&str; 2] = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"];

pub async fn it_lists_describes_and_calls_by_reflection(hub: &Hub) {
    let Some(grpcurl) = tools::program("grpcurl", "python/bin/grpcurl") else { return };
    ask::accepted(&hub.nodes[0], vec![ask::json(ask::seen("grpcurl-1", "grpcurl-1"))]).await;
    let address = hub.cluster.nodes[1].grpc.to_string();
    // It waits for programs; the connections of this test are served meanwhile.
    tokio::task::spawn_blocking(move || look(&grpcurl, &address)).await.unwrap();
}

fn look(grpcurl: &Path, address: &str) {
    let run = |arguments: &[&str]| {
        let arguments = [&["-plaintext", "-max-time", "60"], arguments].concat();
        let ended = program::run(&grpcurl.display().to_string(), &arguments, &[]);
        assert_eq!(ended.code, 0, "grpcurl {arguments:?}\n{}\n{}", ended.out, ended.err);
        ended.out
    };
    let listed = run(&[address, "list"]);
    let listed: BTreeSet<&str> = listed.lines().collect();
    for service in SERVICES.iter().chain(&STANDARD) {
        assert!(listed.contains(service), "{service} is missing in {listed:?}");
    }

    // What can be reached from the services, as grpcurl describes it, one symbol after the other.
    let mut waiting: Vec<String> = SERVICES.map(str::to_owned).to_vec();
    let mut described = BTreeSet::new();
    while let Some(symbol) = waiting.pop() {
        if !described.insert(symbol.clone()) {
            continue;
        }
        let told = run(&[address, "describe", &symbol]);
        let kind = told.strip_prefix(&format!("{symbol} is a")).unwrap_or_default();
        let kinds = [" service:", " message:", "n enum:"];
        assert!(kinds.iter().any(|known| kind.starts_with(known)), "{symbol}: {told}");
        waiting.extend(mentioned(&told).filter(|other| other.starts_with("isthmus.")));
    }
    let declared = declared();
    let missing: Vec<&String> = declared.difference(&described).collect();
    assert!(missing.is_empty(), "of the protos these were not reached: {missing:?}");

    let asked = r#"{"key":{"identifier":{"namespace":"user_id","value":"grpcurl-1"}}}"#;
    let got: Value =
        serde_json::from_str(&run(&["-d", asked, address, "isthmus.v1.ProfileService/Get"])).unwrap();
    // As JSON, protobuf's 64-bit numbers are texts.
    assert_eq!(got["profile"]["eventCounts"]["Seen"], "1", "{got}");
    assert_eq!(got["profile"]["identifiers"][0]["value"], "grpcurl-1", "{got}");
}

/// The full names in a description: they begin with a dot.
fn mentioned(told: &str) -> impl Iterator<Item = String> {
    let words = told.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
    words.filter_map(|word| Some(word.strip_prefix('.')?.to_owned())).collect::<BTreeSet<_>>().into_iter()
}

/// All services, messages and enums of the public protos, by their full names. Entries of maps are no messages to people.
fn declared() -> BTreeSet<String> {
    fn add(package: &str, message: &DescriptorProto, names: &mut BTreeSet<String>) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{package}.{}", message.name());
        message.nested_type.iter().for_each(|nested| add(&name, nested, names));
        names.extend(message.enum_type.iter().map(|nested| format!("{name}.{}", nested.name())));
        names.insert(name);
    }
    let mut names = BTreeSet::new();
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    for file in files.iter().filter(|file| file.package().starts_with("isthmus.")) {
        let package = file.package();
        file.message_type.iter().for_each(|message| add(package, message, &mut names));
        names.extend(file.enum_type.iter().map(|one| format!("{package}.{}", one.name())));
        names.extend(file.service.iter().map(|one| format!("{package}.{}", one.name())));
    }
    names
}
