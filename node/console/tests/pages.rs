//! Pages as a whole: what they hold is escaped, what they refer to is there, and they look as agreed.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

mod sample;

use isthmus_console::{
    assets, customer, customers, failure, ingest, overview,
    quarantine::{self, Content, Sent},
    sql,
};
use isthmus_proto::v1::{QuarantineOutcome, QuarantineResult, value::Kind};
use sample::{NOW, id, shell};

/// What somebody might send to get into a page, in each of its places: elements, attributes, and the chart's data.
const HOSTILE: &str = r#"<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{7*7}}&lt;"#;

fn pages() -> Vec<(&'static str, String)> {
    let refused = failure::Failure { message: "no leader", reason: "NO_LEADER", status: 503, again: true };
    let nobody = customers::Found { tried: vec![id("email", "a@b.de")], ..customers::Found::default() };
    vec![
        ("overview", overview::page(&shell("/"), &sample::overview())),
        ("trouble", overview::page(&shell("/"), &sample::overview_in_trouble())),
        ("ingest", ingest::page(&shell("/ingest"), &sample::ingest())),
        ("silence", ingest::page(&shell("/ingest"), &ingest::Ingest::default())),
        ("customers", customers::listing(&shell("/customers"), &sample::customers())),
        ("nobody", customers::found(&shell("/customers"), &nobody)),
        ("customer", customer::page(&shell("/customers/0"), &sample::customer())),
        ("quarantine", quarantine::listing(&shell("/quarantine"), &sample::quarantine())),
        ("entry", quarantine::entry(&shell("/quarantine/0"), &sample::entry())),
        ("sql", sql::page(&shell("/sql"), &sample::sql_unasked())),
        ("sql-rows", sql::page(&shell("/sql"), &sample::sql_answered())),
        ("sql-refused", sql::page(&shell("/sql"), &sample::sql_refused())),
        ("failure", failure::page(&shell("/"), &refused)),
    ]
}

/// The inside of `main`.
fn main_of(page: &str) -> &str {
    let inside = page.split_once("<main").unwrap().1.split_once("</main>").unwrap().0;
    inside.split_once('>').unwrap().1
}

/// Golden files are in `tests/golden`. Look at the difference, and if it is meant, write them anew by running this test
/// with `GOLDEN_WRITE=1`.
#[test]
fn pages_are_as_agreed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, page) in pages() {
        // A line for each element, so that a difference can be read.
        let now = main_of(&page).replace("><", ">\n<") + "\n";
        let path = folder.join(format!("{name}.html"));
        if std::env::var_os("GOLDEN_WRITE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let agreed = std::fs::read_to_string(&path).unwrap();
        for (line, (agreed, now)) in agreed.lines().zip(now.lines()).enumerate() {
            assert_eq!(agreed, now, "{name}.html, line {}", line + 1);
        }
        assert_eq!(agreed.lines().count(), now.lines().count(), "{name}.html");
    }
}

#[test]
fn every_page_can_be_found_one_s_way_around_in() {
    for (name, page) in pages() {
        for has in [
            "<!DOCTYPE html><html lang=\"en\"",
            "href=\"#main\"",
            "<main id=\"main\"",
            "<nav ",
            "role=\"search\"",
            "<h1>",
        ] {
            assert_eq!(page.matches(has).count().min(1), 1, "{name} has no {has}");
        }
        assert_eq!(page.matches("<h1").count(), 1, "{name}");
        let mut ids: Vec<&str> =
            page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{name} has an id twice: {ids:?}");
        for wanted in page.split("aria-labelledby=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(ids.contains(&wanted), "{name}: nothing has the id {wanted}");
        }
    }
}

#[test]
fn pages_hold_no_inline_scripts_and_styles_and_refer_to_what_is_there() {
    for (name, page) in pages() {
        assert!(!page.contains(" style=") && !page.contains("<style"), "{name}");
        for inline in [" onclick", " onload", " onerror", "javascript:"] {
            assert!(!page.contains(inline), "{name}: {inline}");
        }
        let scripts = page.split("<script").skip(1);
        assert!(
            scripts.clone().count() == 2 && scripts.clone().all(|rest| rest.starts_with(" src=\"/assets/")),
            "{name}"
        );
        for path in page.split('"').filter(|path| path.starts_with("/assets/")) {
            assert!(assets::find(path).is_some(), "{name}: {path}");
        }
        assert!(!page.contains("https:"), "{name}");
    }
}

#[test]
fn forms_that_change_something_hold_the_token() {
    for (name, page) in pages() {
        for form in page.split("<form").skip(1).map(|rest| rest.split("</form>").next().unwrap()) {
            let posts = form.contains("method=\"post\"");
            assert_eq!(form.contains("name=\"token\" value=\"token\""), posts, "{name}: {form}");
        }
    }
}

fn safe(name: &str, page: &str) {
    assert!(page.contains("&lt;script&gt;alert(1)"), "{name} doesn't show it at all");
    for raw in ["<script>alert", "<img src=x", "\"'><", "=x onerror=alert(1)>"] {
        assert!(!page.contains(raw), "{name} lets {raw} through");
    }
}

#[test]
fn what_customers_say_is_only_ever_text() {
    let mut told = sample::customer();
    told.profile.identifiers.push(id(HOSTILE, HOSTILE));
    told.profile.sources.push(HOSTILE.to_owned());
    told.profile.event_counts.insert(HOSTILE.to_owned(), 1);
    told.profile.traits.get_mut("firstName").unwrap().kind = Some(Kind::StringValue(HOSTILE.to_owned()));
    let json = serde_json::to_string(HOSTILE).unwrap();
    for (known, json) in
        told.traits.iter_mut().zip([json.clone(), format!("{{{json}:{json}}}"), HOSTILE.to_owned()])
    {
        (known.name, known.json, known.source) = (HOSTILE.to_owned(), json, HOSTILE.to_owned());
        known.message_id = HOSTILE.to_owned();
    }
    let event = &mut told.timeline.events[0];
    (event.name, event.source, event.message_id) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
    (event.properties_json, event.context_json) = (format!("{{{json}:1}}"), HOSTILE.into());
    event.notes = vec![HOSTILE.to_owned()];
    event.primary = Some(id(HOSTILE, HOSTILE));
    let why = told.why.as_mut().unwrap();
    let fact = why.facts[0].fact.as_mut().unwrap();
    (fact.a, fact.source, fact.message_id) = (Some(id("x", HOSTILE)), HOSTILE.into(), HOSTILE.into());
    (why.facts[1].verdict, why.facts[3].namespace) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    why.history[0].came.push(id(HOSTILE, HOSTILE));
    safe("customer", &customer::page(&shell("/"), &told));

    let mut listing = sample::customers();
    listing.profiles[0] = told.profile.clone();
    listing.next_cursor = HOSTILE.to_owned();
    safe("customers", &customers::listing(&shell("/"), &listing));
    let found =
        customers::Found { tried: vec![id(HOSTILE, HOSTILE)], problem: HOSTILE.to_owned(), profiles: vec![] };
    let searching = isthmus_console::Shell { query: HOSTILE, here: HOSTILE, ..shell("/") };
    safe("search", &customers::found(&searching, &found));
}

#[test]
fn what_sources_and_nodes_say_is_only_ever_text() {
    let mut told = sample::ingest();
    told.sources[0].name = HOSTILE.to_owned();
    told.sources[0].quarantined[0] = 1;
    safe("ingest", &ingest::page(&shell("/"), &told));
    let mut told = sample::overview_in_trouble();
    told.status.problems.push(HOSTILE.to_owned());
    told.nodes[0].grpc_address = HOSTILE.to_owned();
    told.nodes[1].http_address = HOSTILE.to_owned();
    told.replicas[0].slots = HOSTILE.to_owned();
    safe("overview", &overview::page(&shell("/"), &told));
    let refused = failure::Failure { message: HOSTILE, reason: HOSTILE, status: 500, again: false };
    safe("failure", &failure::page(&shell("/"), &refused));
}

#[test]
fn what_was_quarantined_is_only_ever_text() {
    let hostile = || HOSTILE.to_owned();
    let mut told = sample::quarantine();
    (told.counts[0].source, told.counts[0].reason) = (hostile(), hostile());
    (told.source, told.reason, told.cursor, told.next_cursor) = (hostile(), hostile(), hostile(), hostile());
    let entry = &mut told.entries[0];
    (entry.reason, entry.message, entry.origin, entry.field) = (hostile(), hostile(), hostile(), hostile());
    let result = QuarantineResult {
        reason: hostile(),
        message: hostile(),
        field: hostile(),
        outcome: QuarantineOutcome::StillQuarantined.into(),
        ..QuarantineResult::default()
    };
    told.replayed = Some(vec![result.clone()]);
    safe("quarantine", &quarantine::listing(&shell("/"), &told));
    for content in [Content::Json(hostile()), Content::Text(hostile()), Content::Bytes(1, hostile())] {
        for result in [Ok(result.clone()), Err(hostile())] {
            let mut told = sample::entry();
            (told.entry.source, told.entry.content_type) = (hostile(), hostile());
            told.content = content.clone();
            told.sent = Some(Sent { patch: hostile(), by: hostile(), result });
            safe("entry", &quarantine::entry(&shell("/"), &told));
        }
    }
}

#[test]
fn what_a_statement_says_and_brings_is_only_ever_text() {
    let mut told = sample::sql_answered();
    told.statement = HOSTILE;
    if let Some(sql::Outcome::Rows(rows)) = &mut told.outcome {
        rows.version = HOSTILE.to_owned();
        for column in &mut rows.columns {
            column.name = HOSTILE.to_owned();
        }
        rows.rows[0] = vec![Some(HOSTILE.to_owned()); 3];
    }
    safe("rows", &sql::page(&shell("/sql"), &told));
    let mut told = sample::sql_refused();
    told.statement = HOSTILE;
    for place in [None, Some((1, 2)), Some((1, 20))] {
        let (message, reason) = (HOSTILE.to_owned(), HOSTILE.to_owned());
        told.outcome = Some(sql::Outcome::Refused(sql::Refused { message, reason, place }));
        safe("refused", &sql::page(&shell("/sql"), &told));
    }
    let mut told = sample::sql_unasked();
    told.tables[0] =
        sql::Table { name: HOSTILE.to_owned(), columns: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())] };
    safe("tables", &sql::page(&shell("/sql"), &told));
}

#[test]
fn a_patch_that_did_not_fit_stays_in_its_field() {
    let mut told = sample::entry();
    told.sent =
        Some(Sent { patch: "{\"a\":".into(), by: "ann".into(), result: Err("patch: no JSON".into()) });
    let page = quarantine::entry(&shell("/"), &told);
    assert!(page.contains("{&quot;a&quot;:</textarea>") && page.contains("value=\"ann\""));
    assert!(page.contains("Patch: no JSON.") && page.contains("Nothing was done."));
}

#[test]
fn a_resolved_entry_has_no_forms_and_says_what_became_of_it() {
    let mut told = sample::entry();
    told.entry.resolution = Some(isthmus_proto::v1::QuarantineResolution {
        kind: isthmus_proto::v1::QuarantineResolutionKind::Dropped.into(),
        by: "ann".to_owned(),
        note: "a test".to_owned(),
        ..Default::default()
    });
    let page = quarantine::entry(&shell("/"), &told);
    assert!(!main_of(&page).contains("<form") && page.contains("dropped") && page.contains("a test"));
}

#[test]
fn a_moment_long_gone_is_a_day() {
    let mut told = sample::customer();
    told.profile.first_seen =
        Some(prost_types::Timestamp { seconds: NOW / 1_000_000 - 86_400 * 400, nanos: 0 });
    assert!(customer::page(&shell("/"), &told).contains("27 Nov 2024"));
}
