//! Configuration documents in files: JSON, or TOML where people write by hand.

use std::io::Read as _;

use serde_json::Value;

use crate::{
    cli::{
        failure::{Done, Failure},
        output::{Output, complain},
    },
    proto,
};

/// The largest file that is read: more than the hub takes of any document.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a file, or of standard input for `-`.
pub fn text(path: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{path}: {error}"));
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
        path => {
            std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        }
    };
    if read.map_err(failed)? as u64 > FILE_BYTES_MAX {
        return Err(Failure::Failed(format!("{path}: larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::Failed(format!("{path}: not UTF-8")))
}

/// A document as JSON text: what is TOML, by the file's name or because it does not begin as a JSON object does, becomes
/// JSON. JSON is handed on as it is, for the hub to judge.
pub fn json(path: &str) -> Result<String, Failure> {
    let text = text(path)?;
    if !path.ends_with(".toml") && text.trim_start().starts_with('{') {
        return Ok(text);
    }
    let value: Value = toml::from_str(&text).map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
    Ok(value.to_string())
}

/// Prints rules so that they can be edited and put: TOML for people, one JSON object for scripts.
pub fn show(rules: &proto::Rules, output: &mut Output) -> Result<Done, Failure> {
    if output.is_json() {
        output.line(&rules.rules_json)?;
        return Ok(Done::Well);
    }
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("the rules can't be shown: {error}"));
    let value: Value = serde_json::from_str(&rules.rules_json).map_err(|error| unreadable(&error))?;
    let text = toml::Value::try_from(&value).and_then(|value| toml::to_string_pretty(&value));
    output.line(text.map_err(|error| unreadable(&error))?.trim_end())?;
    Ok(Done::Well)
}

/// Says what came of putting rules.
pub fn put(rules: &proto::Rules, changed: bool, output: &mut Output) -> Result<Done, Failure> {
    match output.is_json() {
        true => output.json(&serde_json::json!({ "version": rules.version, "changed": changed }))?,
        false => output.line(&format!("version {} is in force", rules.version))?,
    }
    if !changed {
        complain("nothing has changed: this was in force before");
    }
    Ok(Done::Well)
}
