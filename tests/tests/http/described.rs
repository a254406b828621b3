//! The description of the port: every path that answers is in it, and every path in it answers.

use std::collections::BTreeSet;

use crate::{
    Hub,
    client::{get, send},
};

/// All paths of the API, with a customer or a key where one stands in the path.
const PATHS: [(&str, &str); 27] = [
    ("POST", "/v1/batch"),
    ("POST", "/v1/import"),
    ("POST", "/v1/b"),
    ("POST", "/v1/identify"),
    ("POST", "/v1/i"),
    ("POST", "/v1/track"),
    ("POST", "/v1/t"),
    ("POST", "/v1/page"),
    ("POST", "/v1/p"),
    ("POST", "/v1/screen"),
    ("POST", "/v1/s"),
    ("POST", "/v1/group"),
    ("POST", "/v1/g"),
    ("POST", "/v1/alias"),
    ("POST", "/v1/a"),
    ("POST", "/v1/m"),
    ("GET", "/v1/projects/{key}/settings"),
    ("GET", "/v1/profiles/{key}"),
    ("GET", "/v1/profiles/{key}/traits"),
    ("GET", "/v1/profiles/{key}/identifiers"),
    ("GET", "/v1/profiles/{key}/events"),
    ("GET", "/v1/profiles/{key}/groups"),
    ("GET", "/v1/profiles/{key}/segments"),
    ("GET", "/v1/groups"),
    ("GET", "/v1/groups/{group}"),
    ("GET", "/v1/groups/{group}/members"),
    ("GET", "/v1/openapi.json"),
];

pub async fn every_path_is_in_the_description(hub: &Hub) {
    let answer = get(hub.http(), "/v1/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let known = PATHS.into_iter().map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(described, known.collect());
    for (method, path) in PATHS {
        let path = path.replace("{key}", "user_id:path").replace("{group}", "g1");
        let answer = send(hub.http(), method, &path, &[], "{}");
        let unknown = String::from_utf8_lossy(&answer.body).contains("UNKNOWN_");
        assert!(!unknown, "{method} {path} is described and not there");
        // It says which methods a path has.
        let other = send(hub.http(), "DELETE", &path, &[], "");
        other.refused(405, "UNKNOWN_METHOD");
        assert!(other.header("allow").is_some_and(|allow| allow.contains(method)), "{path}");
    }
    // What an answer says is described: each of its fields has a schema.
    let answer = send(hub.http(), "POST", "/v1/track", &[], "{}").json();
    let schema = &document["components"]["schemas"]["ErrorBody"]["properties"];
    for field in answer.as_object().unwrap().keys() {
        assert!(schema[field].is_object(), "{field} is not described");
    }
}
