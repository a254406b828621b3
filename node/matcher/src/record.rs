//! A profile as the matcher sees it: named texts.

use isthmus_domain::{Profile, Value, value::json};
use isthmus_proto::internal::v1::PairIdentifier;

/// Identifiers that are shown with a pair, at most: a pair has to fit a row.
const IDENTIFIERS_MAX: usize = 16;

/// The traits of a profile as texts, by name; parts of objects by dotted names (`address.city`). Lists are left out.
pub fn traits(profile: &Profile) -> Vec<(String, String)> {
    let mut texts = Vec::with_capacity(profile.traits.len());
    for (name, state) in &profile.traits {
        // What is stored was read once; what can't be read any more is compared with nothing.
        if let Ok(value) = json::parse(&state.value) {
            flatten(name.clone(), &value, &mut texts);
        }
    }
    texts
}

fn flatten(name: String, value: &Value, texts: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => texts.push((name, text.clone())),
        Value::Map(map) => {
            for (part, value) in map.iter() {
                flatten(format!("{name}.{part}"), value, texts);
            }
        }
        Value::Null | Value::List(_) => {}
        // Numbers and booleans as JSON writes them.
        other => texts.push((name, String::from_utf8_lossy(&other.to_json()).into_owned())),
    }
}

/// The identifiers of a profile, the one that names it first, the others by priority.
pub fn identifiers(
    profile: &Profile,
    names_it: impl Fn(&isthmus_domain::Identifier) -> bool,
) -> Vec<PairIdentifier> {
    let (first, rest): (Vec<_>, Vec<_>) = profile.identifiers.iter().partition(|id| names_it(id));
    let shown = first.into_iter().chain(rest).take(IDENTIFIERS_MAX);
    shown
        .map(|identifier| PairIdentifier {
            namespace: identifier.namespace().to_string(),
            value: identifier.value().to_owned(),
        })
        .collect()
}
