//! Writing canonical JSON. The rules are in the parent module.

use std::fmt::Debug;
use std::io::Write;

use serde_json::ser::{CompactFormatter, Formatter};

use super::{Map, Value};

/// The result of writing into a `Vec`, which only grows.
fn written<E: Debug>(result: Result<(), E>) {
    result.expect("writing to a Vec cannot fail");
}

pub(super) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => written(CompactFormatter.write_i64(out, *n)),
        Value::UInt(n) => written(CompactFormatter.write_u64(out, *n)),
        Value::Float(f) => write_float(*f, out),
        Value::String(s) => write_string(s, out),
        Value::Timestamp(micros) => write_timestamp(*micros, out),
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => write_map(map, out),
    }
}

pub(super) fn write_map(map: &Map, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

/// The common text needs no escape and is copied as it is; the rest is left to `serde_json`.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    // Without an early exit the compiler makes this a loop over 32 bytes at a time.
    let special = |b: u8| (b < 0x20) | (b == b'"') | (b == b'\\');
    if text.bytes().fold(false, |found, b| found | special(b)) {
        written(serde_json::to_writer(out, text));
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

/// Shortest text that reads back to the same number. What is not finite has no JSON; [`Value::check`] refuses it,
/// and here it becomes `null`, as in JavaScript.
fn write_float(f: f64, out: &mut Vec<u8>) {
    if f.is_finite() {
        // Minus zero equals zero, so it must not be other bytes.
        let f = if f == 0.0 { 0.0 } else { f };
        written(CompactFormatter.write_f64(out, f));
    } else {
        out.extend_from_slice(b"null");
    }
}

/// RFC 3339 in UTC. A time beyond the year 9999 has none; [`Value::check`] refuses it, and here it stays a number.
fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    written(match timestamp(micros) {
        Some(t) => write!(out, "\"{t}\""),
        None => write!(out, "{micros}"),
    });
}

pub(super) fn timestamp(micros: i64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(micros).ok()
}
