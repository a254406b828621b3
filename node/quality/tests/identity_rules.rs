//! Identity rules as documents: they read back, and bad ones say where.

use isthmus_domain::identity::IdentityRules;
use isthmus_quality::{
    Fault,
    identity_rules::{IDENTITY_RULES_BYTES_MAX, read, written},
    read_document,
};

fn rules(text: &str) -> Result<IdentityRules, Fault> {
    read(&read_document(text.as_bytes(), IDENTITY_RULES_BYTES_MAX)?)
}

const FULL: &str = r#"{"priority":["crm_id","user_id"],"limits":{"user_id":2,"device":7},"other_limit":9,"shared_above":5,
    "blocked":{"all":{"values":["Test"],"patterns":["qa-*"]},"email":{"values":["Shop@Example.com"]}},
    "sources":{"crm":"full","forum":"nothing","till":["email","phone"]}}"#;

#[test]
fn what_is_written_reads_back() {
    for text in ["{}", FULL] {
        let read_first = rules(text).unwrap().with_version(4);
        let document = written(&read_first).to_json();
        let again = read_document(&document, IDENTITY_RULES_BYTES_MAX).unwrap();
        assert_eq!(again.version, Some(4));
        assert_eq!(read(&again).unwrap().with_version(4), read_first);
        assert_eq!(IdentityRules::decode(&read_first.encode()).unwrap(), read_first);
    }
    assert_eq!(rules("{}").unwrap(), IdentityRules::default());
}

#[test]
fn bad_rules_are_refused_with_their_place() {
    for (text, at) in [
        (r#"{"priorty":[]}"#, "/priorty"),
        (r#"{"priority":["userId"]}"#, "/priority/0"),
        (r#"{"priority":["a","a"]}"#, "/priority"),
        (r#"{"limits":{"user_id":0}}"#, "/limits"),
        (r#"{"limits":{"user_id":-1}}"#, "/limits/user_id"),
        (r#"{"limits":{"Bad Name!":1}}"#, "/limits/Bad Name!"),
        (r#"{"shared_above":1}"#, "/shared_above"),
        (r#"{"blocked":{"email":["a"]}}"#, "/blocked/email"),
        (r#"{"blocked":{"email":{"values":[" "]}}}"#, "/blocked/email/values/0"),
        (r#"{"blocked":{"all":{"patterns":["*"]}}}"#, "/blocked/all/patterns/0"),
        (r#"{"sources":{"x":"some"}}"#, "/sources/x"),
        (r#"{"sources":{"x":[]}}"#, "/sources"),
    ] {
        assert_eq!(rules(text).unwrap_err().at, at, "{text}");
    }
}
