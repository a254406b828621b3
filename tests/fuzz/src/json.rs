//! JSON: what reads it agrees with what else reads it.
//!
//! - What was read is written as text that reads the same, and is then written as the same text.
//! - The scanner takes what the reader takes, and the reader what the scanner takes, but for a key that is there twice and
//!   an integer beyond 64 bits; the parts that the scanner finds are those that the reader reads.
//! - What the reader takes `serde_json` takes, too.

use isthmus_domain::{
    Value,
    value::{
        json::{self, JsonErrorKind},
        scan::{Parts, Scanned, scan},
    },
};

/// The target.
pub fn run(bytes: &[u8]) {
    let read = json::parse(bytes);
    let scanned = scan(bytes, None);
    match (&read, &scanned) {
        (Ok(value), Ok(scanned)) => {
            same(value);
            parts(bytes, value, scanned);
            assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok());
        }
        (Err(error), Ok(_)) => {
            let of_one_item =
                matches!(error.kind, JsonErrorKind::DuplicateKey(_) | JsonErrorKind::IntegerTooLarge);
            assert!(of_one_item, "only the scanner takes it: {error}");
        }
        (Ok(_), Err(error)) => panic!("only the reader takes it: {error}"),
        (Err(one), Err(other)) => {
            for error in [one, other] {
                assert!(error.offset <= bytes.len() && error.line >= 1 && error.column >= 1, "{error}");
            }
        }
    }
    // Of a list that was asked for, each item may be what the reader takes alone.
    if let Ok(Scanned::Object(Parts { items: Some(items), .. })) = scan(bytes, Some("batch")) {
        for range in items {
            let read = json::parse(&bytes[range]);
            let told = read.err().map(|error| error.kind);
            assert!(
                matches!(told, None | Some(JsonErrorKind::DuplicateKey(_) | JsonErrorKind::IntegerTooLarge)),
                "an item can't be read: {told:?}"
            );
        }
    }
}

fn same(value: &Value) {
    let text = value.to_json();
    let again =
        json::parse(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
    assert_eq!(String::from_utf8_lossy(&again.to_json()), String::from_utf8_lossy(&text));
    assert!(value.check().is_ok());
}

fn parts(bytes: &[u8], value: &Value, scanned: &Scanned) {
    match (value, scanned) {
        (Value::Map(map), Scanned::Object(parts)) => {
            assert_eq!(map.len(), parts.members.len());
            for member in &parts.members {
                let key = [b"\"", &bytes[member.key.clone()], b"\""].concat();
                let key = json::parse(&key).unwrap();
                let found = map.get(key.as_str().unwrap()).unwrap();
                let lies = json::parse(&bytes[member.value.clone()]).unwrap();
                assert_eq!(lies.to_json(), found.to_json());
            }
        }
        (Value::Map(_), _) | (_, Scanned::Object(_)) => panic!("an object to one of the two"),
        _ => {}
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 10] = [
        br#"{"a":1,"b":[true,false,null,"x\n\u00e4\ud83d\ude00"],"c":{"d":-1.5e-7,"e":18446744073709551615}}"#,
        br#"{"batch":[{"a":1,"a":2},[[]],123456789012345678901234567890,"\"",{}],"batch":1}"#,
        br#" [1e308, -0, 0.1, 1E+2, 9223372036854775808] "#,
        b"\xef\xbb\xbf{}",
        br#""\ud800""#,
        b"NaN",
        b"{\"a\":1,}",
        br#"{"\u0061":1,"b":Infinity}"#,
        b"\"\xff\"",
        b"1e400",
    ];
    let deep = ["[".repeat(33), "]".repeat(33)].concat();
    texts.map(<[u8]>::to_vec).into_iter().chain([deep.into_bytes()]).collect()
}
