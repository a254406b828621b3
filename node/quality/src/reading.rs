//! Reading documents: strict JSON, known keys only, and each fault with its place.

use isthmus_domain::value::{Map, Value, json};

use crate::fault::{Fault, join};

/// A configuration document as people send it.
#[derive(Clone, PartialEq, Debug)]
pub struct Document {
    /// The version that it was made from, if it names one: `version` at its top. It is replaced only while that one is
    /// in force.
    pub version: Option<u64>,
    /// The rest.
    pub body: Map,
}

impl Document {
    /// The document in its canonical form, without the version.
    pub fn to_json(&self) -> Vec<u8> {
        Value::Map(self.body.clone()).to_json()
    }
}

/// Reads a document of at most `bytes_max` bytes.
///
/// # Errors
/// It is too large, no JSON, no object, or its version is no number.
pub fn read_document(text: &[u8], bytes_max: usize) -> Result<Document, Fault> {
    let Value::Map(mut body) = parse(text, bytes_max)? else {
        return Err(Fault::new("", "the document must be an object"));
    };
    let version = match body.remove("version") {
        None => None,
        Some(Value::Int(version)) if version >= 0 => Some(version.cast_unsigned()),
        Some(_) => {
            return Err(Fault::new("/version", "must be the number of the version that this was made from"));
        }
    };
    Ok(Document { version, body })
}

/// JSON of at most `bytes_max` bytes.
pub(crate) fn parse(text: &[u8], bytes_max: usize) -> Result<Value, Fault> {
    if text.len() > bytes_max {
        let what = format!("the document has {} bytes; {bytes_max} are the most", text.len());
        return Err(Fault::new("", what));
    }
    json::parse(text).map_err(|error| Fault::new("", error.to_string()))
}

/// An object with nothing but these keys.
pub(crate) fn object<'a>(value: &'a Value, at: &str, known: &[&str]) -> Result<&'a Map, Fault> {
    let map = any_object(value, at)?;
    known_keys(map, at, known)?;
    Ok(map)
}

/// An object with keys of the writer's own choice.
pub(crate) fn any_object<'a>(value: &'a Value, at: &str) -> Result<&'a Map, Fault> {
    value.as_map().ok_or_else(|| wrong(at, "an object", value))
}

pub(crate) fn known_keys(map: &Map, at: &str, known: &[&str]) -> Result<(), Fault> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let what = format!("is not known here; known are {}", known.join(", "));
            Err(Fault::new(join(at, key), what))
        }
        None => Ok(()),
    }
}

pub(crate) fn text<'a>(value: &'a Value, at: &str) -> Result<&'a str, Fault> {
    value.as_str().ok_or_else(|| wrong(at, "a text", value))
}

pub(crate) fn list<'a>(value: &'a Value, at: &str) -> Result<&'a [Value], Fault> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(wrong(at, "a list", other)),
    }
}

/// A list of texts, each with its place.
pub(crate) fn texts<'a>(value: &'a Value, at: &str) -> Result<Vec<(&'a str, String)>, Fault> {
    let items = list(value, at)?.iter().enumerate();
    items
        .map(|(index, item)| {
            let at = join(at, index);
            Ok((text(item, &at)?, at))
        })
        .collect()
}

pub(crate) fn number(value: &Value, at: &str) -> Result<u32, Fault> {
    match value {
        Value::Int(number) if u32::try_from(*number).is_ok() => Ok(*number as u32),
        other => Err(wrong(at, "a whole number", other)),
    }
}

pub(crate) fn wrong(at: &str, wanted: &str, got: &Value) -> Fault {
    Fault::new(at, format!("must be {wanted}, not {}", got.kind_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_name_the_version_that_it_was_made_from() {
        let read = read_document(br#"{"version":3,"b":1,"a":2}"#, 100).unwrap();
        assert_eq!((read.version, read.to_json()), (Some(3), br#"{"a":2,"b":1}"#.to_vec()));
        assert_eq!(read_document(b"{}", 100).unwrap().version, None);
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_place() {
        for (text, at, what) in [
            ("[]", "", "must be an object"),
            ("{", "", "malformed JSON"),
            (r#"{"a":1,"a":1}"#, "", "duplicate key"),
            (r#"{"version":"3"}"#, "/version", "must be the number"),
            (r#"{"version":-1}"#, "/version", "must be the number"),
            (r#"{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":1}"#, "", "40 are the most"),
        ] {
            let fault = read_document(text.as_bytes(), 40).unwrap_err();
            assert!(fault.at == at && fault.what.contains(what), "{text}: {fault}");
        }
    }
}
