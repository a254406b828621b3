//! Made-up customers and what is seen of them: the same ones for the same seed.
//!
//! Everything that makes identity resolution hard comes up: people with up to six identifiers of which an event shows
//! some, cookies of kiosks and phones of families, identifiers that got to the wrong person, more of a kind than a
//! profile may have, aliases, times that tie and times from long ago.

use isthmus_tests::load::Numbers;
use serde_json::{Map, Value, json};

/// The sources, each with the namespace that leads in its events, if not the usual one, and how many of ten events it
/// sends.
pub const SOURCES: [(&str, Option<&str>, u64); 4] =
    [("web", None, 4), ("app", None, 3), ("crm", Some("crm_id"), 2), ("till", None, 1)];

/// How many customers, how many events, and which.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub people: u64,
    pub events: u64,
    pub seed: u64,
}

/// An event as a source sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub source: &'static str,
    pub json: String,
}

/// A namespace and a value.
type Id = (&'static str, String);

/// The events of a crowd, in no order of time, each once.
pub fn events(crowd: Crowd) -> Vec<Sent> {
    let mut numbers = Numbers(crowd.seed);
    let people: Vec<Vec<Id>> = (0..crowd.people).map(|person| identifiers(person, &mut numbers)).collect();
    (0..crowd.events).map(|number| event(crowd, &people, number, &mut numbers)).collect()
}

/// Mixes a list.
pub fn shuffle<T>(all: &mut [T], numbers: &mut Numbers) {
    for last in (1..all.len()).rev() {
        all.swap(last, below(numbers, last as u64 + 1) as usize);
    }
}

fn below(numbers: &mut Numbers, n: u64) -> u64 {
    numbers.draw() % n.max(1)
}

fn one_in(numbers: &mut Numbers, n: u64) -> bool {
    below(numbers, n) == 0
}

/// One to six identifiers of a person.
fn identifiers(person: u64, numbers: &mut Numbers) -> Vec<Id> {
    let mut all: Vec<Id> = vec![
        ("email", format!("p{person}@example.org")),
        ("email", format!("p{person}.second@example.org")),
        ("phone", format!("+49170{person:07}")),
        ("crm_id", format!("c-{person}")),
    ];
    all.extend((0..3).map(|browser| ("anonymous_id", format!("a-{person}-{browser}"))));
    shuffle(&mut all, numbers);
    all.truncate(1 + below(numbers, 6) as usize);
    if !one_in(numbers, 5) {
        all[0] = ("user_id", format!("u{person}"));
    }
    all
}

fn event(crowd: Crowd, people: &[Vec<Id>], number: u64, numbers: &mut Numbers) -> Sent {
    let person = below(numbers, crowd.people);
    let mut ids = people[person as usize].clone();
    shuffle(&mut ids, numbers);
    ids.truncate(1 + below(numbers, 4) as usize);
    if one_in(numbers, 10) {
        ids.push(("anonymous_id", format!("kiosk-{}", below(numbers, 1 + crowd.people / 120))));
    }
    if one_in(numbers, 25) {
        ids.push(("phone", format!("+4930{:07}", person / 4)));
    }
    if one_in(numbers, 30) {
        let other = &people[below(numbers, crowd.people) as usize];
        ids.push(other[below(numbers, other.len() as u64) as usize].clone());
    }
    if one_in(numbers, 25) {
        // Somebody of whom there are more cards than a profile may have.
        ids.push(("email", "collector@example.org".to_owned()));
        ids.push(("crm_id", format!("card-{}", below(numbers, 40))));
    }
    let mut item = what_happened(number, numbers);
    if one_in(numbers, 40) {
        let user = ids.iter().position(|(namespace, _)| *namespace == "user_id");
        let previous = &people[below(numbers, crowd.people) as usize];
        if let (Some(user), Some((_, previous))) = (user, previous.iter().find(|id| id.0 == "user_id")) {
            item = json!({"type": "alias", "previousId": previous});
            ids = vec![ids[user].clone()];
        }
    }
    item["messageId"] = format!("m-{number}").into();
    item["timestamp"] = time(numbers).into();
    say_who(&mut item, &ids);
    let mut share = below(numbers, 10);
    let source = SOURCES.iter().find(|(_, _, of_ten)| {
        let found = share < *of_ten;
        share = share.saturating_sub(*of_ten);
        found
    });
    Sent { source: source.unwrap().0, json: item.to_string() }
}

fn what_happened(number: u64, numbers: &mut Numbers) -> Value {
    match below(numbers, 5) {
        0 => json!({"type": "identify", "traits": {
            "name": format!("Name {}", below(numbers, 50)),
            "plan": if one_in(numbers, 3) { Value::Null } else { "pro".into() },
        }}),
        1 => json!({"type": "page", "name": "Home"}),
        2 => json!({"type": "track", "event": "Seen", "properties": {"number": number}}),
        _ => {
            let revenue = format!("{}.{:02}", below(numbers, 500), below(numbers, 100));
            let mut properties = json!({"revenue": revenue});
            if let Some(currency) = ["USD", "EUR"].get(below(numbers, 3) as usize) {
                properties["currency"] = (*currency).into();
            }
            json!({"type": "track", "event": "Order Completed", "properties": properties})
        }
    }
}

/// Somewhen in a year; at times to the day, so that times tie, or from long ago.
fn time(numbers: &mut Numbers) -> String {
    let (day, second) = (below(numbers, 336), below(numbers, 86_400));
    let (year, second) = match below(numbers, 10) {
        0 => (1970 + below(numbers, 40), second),
        1 | 2 => (2025, 0),
        _ => (2025, second),
    };
    let (month, day) = (1 + day / 28, 1 + day % 28);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Puts identifiers where senders put them.
fn say_who(item: &mut Value, ids: &[Id]) {
    let identifies = item["type"] == "identify";
    let (mut traits, mut external) = (Map::new(), Vec::new());
    for (namespace, value) in ids {
        let field = match *namespace {
            "user_id" => "userId",
            "anonymous_id" => "anonymousId",
            other => other,
        };
        let is_trait = matches!(field, "email" | "phone");
        if is_trait && !traits.contains_key(field) {
            traits.insert(field.to_owned(), value.clone().into());
        } else if !is_trait && field != *namespace && item.get(field).is_none() {
            item[field] = value.clone().into();
        } else {
            external.push(json!({"type": namespace, "id": value, "collection": "users", "encoding": "none"}));
        }
    }
    if identifies {
        item["traits"].as_object_mut().unwrap().append(&mut traits);
    }
    let mut context = Map::new();
    if !traits.is_empty() {
        context.insert("traits".to_owned(), traits.into());
    }
    if !external.is_empty() {
        context.insert("externalIds".to_owned(), external.into());
    }
    if !context.is_empty() {
        item["context"] = context.into();
    }
}
