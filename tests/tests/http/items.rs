//! Bad input: items that are kept, each in the middle of a good batch: 200, with its result.

use isthmus_tests::{bad_input::Checked, cli::Cli};
use serde_json::json;

use crate::{CANARY, Hub, client::post};

fn seen(user: &str, id: &str) -> String {
    json!({"type": "track", "event": "Seen", "userId": user, "messageId": id}).to_string()
}

/// Goes through a case of the table.
pub fn check(hub: &Hub, input: &str) -> Checked {
    let track = |fields: &str| format!(r#"{{"type":"track","event":"Seen",{fields}}}"#);
    let of_user = |fields: &str| track(&format!(r#""userId":"{CANARY}",{fields}"#));
    let forbidden = "IDENTIFIER_FORBIDDEN_CHARACTER";
    let (item, reason) = match input {
        "event over 32 KB" => (of_user(&format!(r#""x":"{}""#, "x".repeat(33 << 10))), "EVENT_TOO_LARGE"),
        "no identifier" => (track(r#""x":1"#), "NO_IDENTIFIER"),
        "blank id" => (track(r#""userId":" ""#), "IDENTIFIER_BLANK"),
        "over-long id" => (track(&format!(r#""userId":"{}""#, CANARY.repeat(60))), "IDENTIFIER_TOO_LONG"),
        "control characters in an id" => (track(r#""userId":"a\u0007""#), forbidden),
        "NUL in an id" => (track(r#""userId":"a\u0000b""#), forbidden),
        "bidi characters in an id" => (track(r#""userId":"a\u202eb""#), forbidden),
        "missing event name" => (format!(r#"{{"type":"track","userId":"{CANARY}"}}"#), "EVENT_NAME_MISSING"),
        "unknown type" => (format!(r#"{{"type":"jump","userId":"{CANARY}"}}"#), "TYPE_UNKNOWN"),
        "schema violation" => {
            let item = breaks_its_schema(hub);
            // Other nodes hear of a schema within moments; this one may be one of them.
            loop {
                let tried = post(hub.http(), &hub.key, "/v1/track", item("before it is known")).json();
                if tried["accepted"] == 0 {
                    break;
                }
                std::thread::yield_now();
            }
            (item("schema"), "SCHEMA_VIOLATION")
        }
        "NaN" | "infinity" => {
            return Checked::ProvedBy("http: rows::malformed (no JSON says them: the body is refused)");
        }
        "integer beyond 64 bits" => {
            (of_user(r#""properties":{"n":18446744073709551616}"#), "INTEGER_TOO_LARGE")
        }
        "duplicate JSON key" => (of_user(r#""properties":{"n":1,"n":2}"#), "DUPLICATE_KEY"),
        "unparsable time" => (of_user(r#""timestamp":"yesterday""#), "TIMESTAMP_INVALID"),
        "more than 24 h in the future" => {
            (of_user(r#""timestamp":"2924-05-31T18:00:00Z""#), "TIMESTAMP_IN_FUTURE")
        }
        "before 1970" => (of_user(r#""timestamp":"1924-05-31T18:00:00Z""#), "TIMESTAMP_BEFORE_1970"),
        "message id over 100 characters" => {
            (of_user(&format!(r#""messageId":"{}""#, "m".repeat(101))), "MESSAGE_ID_TOO_LONG")
        }
        "same message id with another body" => {
            let first = of_user(r#""messageId":"same","properties":{"n":1}"#);
            post(hub.http(), &hub.key, "/v1/track", first).stored(1, 0);
            (of_user(r#""messageId":"same","properties":{"n":2}"#), "MESSAGE_ID_CONFLICT")
        }
        other => panic!("no case for {other}"),
    };
    let good = |side: &str| seen("items", &format!("{input}-{side}"));
    let batch = format!(r#"{{"batch":[{},{item},{}]}}"#, good("before"), good("behind"));
    let answer = post(hub.http(), &hub.key, "/v1/batch", batch).stored(2, 0);
    let kept = &answer["quarantined"][0];
    assert_eq!((&kept["index"], &kept["reason"]), (&1.into(), &reason.into()), "{answer}");
    assert!(answer["rejected"].as_array().unwrap().is_empty(), "{answer}");
    assert!(!answer.to_string().contains(CANARY) && kept["message"].as_str().unwrap().len() > 10, "{answer}");
    Checked::Held
}

/// Puts a schema whose policy is to keep what breaks it; events that do, by message id.
fn breaks_its_schema(hub: &Hub) -> impl Fn(&str) -> String + use<> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, r#"{"properties":{"quantity":{"type":"number"}}}"#).unwrap();
    let path = file.path().display().to_string();
    let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
    let put = ["schema", "put", &path, "--name", "track:Kept", "--policy", "quarantine"];
    let done = cli.json(&hub.cluster.endpoints(), &put);
    assert_eq!(done.code, 0, "{}", done.err);
    |id: &str| {
        json!({"type": "track", "event": "Kept", "userId": CANARY, "messageId": id,
               "properties": {"quantity": CANARY}})
        .to_string()
    }
}
