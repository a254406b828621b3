//! Guessed mappings read the files that they were guessed from.

use proptest::prelude::*;

use super::*;
use crate::{
    files::{Rows, Shape},
    proto::{Event, EventType, ingest_item::Body, value::Kind},
};

/// The events that a guessed mapping makes of the file, none of them unreadable.
fn events(text: &str, shape: fn(Mapping) -> Shape, toml: &str) -> Vec<Event> {
    let mapping = Mapping::parse(toml).unwrap_or_else(|error| panic!("{error}:\n{toml}"));
    let mut rows = Rows::open(text.as_bytes(), &shape(mapping), "f", "f")
        .unwrap_or_else(|error| panic!("{error}:\n{toml}"));
    let mut events = Vec::new();
    while let Some(row) = rows.next_row().unwrap() {
        match row.item.body {
            Some(Body::Event(event)) => events.push(event),
            other => panic!("line {}: {other:?}\n{toml}", row.line),
        }
    }
    events
}

fn of_csv(text: &str) -> (String, Vec<Event>) {
    let toml = csv(text.as_bytes(), "data/orders.csv").unwrap().toml;
    let events = events(text, Shape::Csv, &toml);
    (toml, events)
}

#[test]
fn orders_are_told_by_their_columns() {
    let (toml, events) = of_csv(
        "order_id;Customer ID;E-Mail;ordered at;Total;Currency;gift;plz;note\n\
         o1;17;a@b.de;24.12.2023 10:00;19.99;EUR;true;01067;\n\
         o2;18;;31.12.2023 12:30;5.00;EUR;false;10115;\"a; b\"\n\
         o3;17;a@b.de;01.01.2024 00:15;0.50;CHF;false;01067;\n",
    );
    let first = &events[0];
    assert_eq!((first.r#type(), first.name.as_str()), (EventType::Track, "Order Completed"), "{toml}");
    assert_eq!((first.user_id.as_str(), first.identifiers[0].value.as_str()), ("17", "a@b.de"));
    assert_eq!(first.timestamp.map(|time| time.seconds), Some(1_703_412_000));
    let property = |name: &str| first.properties.get(name).and_then(|value| value.kind.clone());
    assert_eq!(property("revenue"), Some(Kind::StringValue("19.99".into())), "{toml}");
    assert_eq!(property("currency"), Some(Kind::StringValue("EUR".into())));
    assert_eq!(property("gift"), Some(Kind::BoolValue(true)));
    assert_eq!(property("plz"), Some(Kind::StringValue("01067".into())), "zeros in front are kept");
    assert_eq!(property("order_id"), Some(Kind::StringValue("o1".into())));
    assert!(toml.contains("all 2 values are e-mail addresses"), "{toml}");
}

#[test]
fn people_are_told_by_having_one_row_each() {
    let (toml, events) = of_csv(
        "user_id,email,phone,first name,age,date_of_birth,empty\n1,a@b.de,+49 171 1234567,Ann,41,19800229,\n2,,,Bob,,,\n",
    );
    assert_eq!(events[0].r#type(), EventType::Identify, "{toml}");
    assert!(events[0].timestamp.is_none(), "a birthday isn't when it happened: {toml}");
    let names: Vec<&str> = events[0].identifiers.iter().map(|id| id.namespace.as_str()).collect();
    assert_eq!(names, ["email", "phone"]);
    let keys: Vec<&str> = events[0].traits.keys().map(String::as_str).collect();
    assert_eq!(keys, ["age", "date_of_birth", "email", "first name", "phone"]);
    assert_eq!(events[0].traits["age"].kind, Some(Kind::IntValue(41)));
    assert!(toml.contains("`empty` is empty"), "{toml}");
}

#[test]
fn columns_of_what_happened_are_taken_as_such() {
    let header = "message_id,type,event,anonymous_id,timestamp,page\n";
    let rows: String = (0..20)
        .map(|n| format!("m{n},track,{},c{n},2024-01-01T00:00:{n:02}Z,/{n}\n", ["Seen", "Clicked"][n % 2]))
        .collect();
    let (toml, events) = of_csv(&format!("{header}{rows}"));
    assert_eq!((events[3].message_id.as_str(), events[3].name.as_str()), ("m3", "Clicked"), "{toml}");
    assert_eq!((events[3].anonymous_id.as_str(), events[3].r#type()), ("c3", EventType::Track));
    assert!(toml.contains("type = { column = \"type\" }"), "{toml}");
    // The same id twice, and it is none.
    let (toml, _) = of_csv(&format!("{header}{rows}m1,track,Seen,c1,2024-01-01T00:00:00Z,/\n"));
    assert!(toml.contains("`message_id` is no message id"), "{toml}");
}

#[test]
fn what_is_summed_is_not_in_the_way_of_a_column_that_is_called_so() {
    let (toml, events) = of_csv("user_id,revenue,total\n1,5 EUR,1.50\n1,6 EUR,2.50\n");
    assert_eq!(events[0].properties["revenue"].kind, Some(Kind::StringValue("1.50".into())), "{toml}");
    assert_eq!(events[0].properties["revenue_"].kind, Some(Kind::StringValue("5 EUR".into())), "{toml}");
}

#[test]
fn objects_are_looked_into() {
    let lines = "{\"user\":{\"id\":7,\"email\":\"a@b.de\"},\"when\":1,\"amount\":12.50,\"tags\":[1],\"created_at\":\"2024-01-01T00:00:00Z\",\"order_id\":9}\n\
                 {\"user\":{\"id\":7,\"email\":\"a@b.de\"},\"amount\":1.5,\"created_at\":\"2024-01-02T00:00:00Z\",\"order_id\":10}\n";
    let toml = json_lines(lines.as_bytes(), "hooks.jsonl").unwrap().toml;
    let events = events(lines, Shape::Objects, &toml);
    assert_eq!(events[0].identifiers[0].value, "a@b.de", "{toml}");
    assert_eq!(events[0].properties["revenue"].kind, Some(Kind::StringValue("12.50".into())), "{toml}");
    assert!(matches!(events[0].properties["tags"].kind, Some(Kind::ListValue(_))), "{toml}");
    let lines = "{\"customer\":{\"id\":1},\"order\":{\"total\":2.50,\"at\":\"2024-01-01\"}}\n".repeat(2);
    let toml = json_lines(lines.as_bytes(), "hooks.jsonl").unwrap().toml;
    let events = self::events(&lines, Shape::Objects, &toml);
    assert_eq!((events[0].user_id.as_str(), events[0].timestamp.is_some()), ("1", true), "{toml}");
    assert_eq!(events[0].properties["revenue"].kind, Some(Kind::StringValue("2.50".into())), "{toml}");
    let segment = "{\"type\":\"track\",\"event\":\"e\",\"userId\":\"1\"}\n";
    assert!(matches!(json_lines(segment.as_bytes(), "f"), Err(InferError::Events)));
}

#[test]
fn files_without_rows_are_told() {
    for text in ["", "\n\n", "a,b,c\n"] {
        assert!(matches!(csv(text.as_bytes(), "f"), Err(InferError::Empty(_))), "{text}");
    }
    assert!(matches!(json_lines(&b"[1]\nx\n"[..], "f"), Err(InferError::Empty(_))));
}

#[test]
fn odd_headers_delimiters_and_rows_are_met() {
    let (toml, events) = of_csv("id|id||a.b \"x\"\n1|2|3|4\n5|6|7|8\n");
    assert!(toml.contains("columns = [\"id\", \"id_2\", \"column_3\", \"a.b \\\"x\\\"\"]"), "{toml}");
    assert_eq!(events.len(), 2);
    let (toml, events) = of_csv("id,text\n1,\"a\nb\"\n2,c\n");
    assert!(toml.contains("quoted_newlines = true") && events.len() == 2, "{toml}");
    let toml = csv(&b"id,a\n1,2\n3\n4,5\n"[..], "f").unwrap().toml;
    assert!(toml.contains("1 further rows"), "{toml}");
}

proptest! {
    #[test]
    fn what_is_guessed_from_any_table_is_a_sound_mapping(
        rows in prop::collection::vec(prop::collection::vec("[a-zA-Z0-9@.,;:+\"'_ /é-]{0,12}|[0-9]{1,9}|[a-z]{1,3}@[a-z]{1,3}\\.de|2024-0[1-9]-1[0-9]", 3), 1..8),
    ) {
        let quote = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |row: &Vec<String>| row.iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
        let text: String = rows.iter().map(line).collect();
        match csv(text.as_bytes(), "any name.csv") {
            Ok(inferred) => {
                let mapping = Mapping::parse(&inferred.toml).unwrap();
                prop_assert!(Rows::open(text.as_bytes(), &Shape::Csv(mapping), "f", "f").is_ok(), "{}", inferred.toml);
            }
            Err(InferError::Empty(_)) => {}
            Err(error) => prop_assert!(false, "{error}: {text}"),
        }
    }

    #[test]
    fn any_text_is_survived(text in "(\\{\"[a-z]{1,2}(\\.[a-z])?\":(1|\"x\"|null|\\{\"a\":2\\}|\\[\\])\\}|[\"{},\n;0-9a-z]{0,6}|\n){0,12}") {
        let _ = csv(text.as_bytes(), "f");
        if let Ok(inferred) = json_lines(text.as_bytes(), "f") {
            let mapping = Mapping::parse(&inferred.toml).unwrap();
            prop_assert!(Rows::open(text.as_bytes(), &Shape::Objects(mapping), "f", "f").is_ok());
        }
    }
}
