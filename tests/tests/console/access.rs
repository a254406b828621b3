//! Who may look and act: requests as browsers and others would send them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use isthmus_tests::{ask, cluster::PATIENCE};

use crate::world::World;

/// An answer: status, headers as they came, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_default()
    }
}

fn ask(world: &World, method: &str, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
    let to = world.cluster.nodes[0].http;
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {to}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if method == "POST" {
        let length = form.len();
        request +=
            &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n");
    }
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{request}\r\n{form}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(world, "GET", path, headers, "")
}

/// The token of this node's forms.
fn token(world: &World) -> String {
    let page = get(world, "/", &[]).body;
    let token = page.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap();
    assert_eq!(token.len(), 32);
    token.to_owned()
}

pub fn pages_are_for_this_machine_alone(world: &World) {
    for path in ["/", "/ingest", "/customers", "/customers?q=user_id:42", "/quarantine"] {
        let page = get(world, path, &[]);
        assert!(matches!(page.status, 200 | 303), "{path}: {}", page.body);
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!((page.header("x-frame-options"), page.header("cache-control")), ("DENY", "no-store"));
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert!(page.header("access-control-allow-origin").is_empty());
        let elsewhere: [&[(&str, &str)]; 3] =
            [&[("Host", "rebound.example")], &[("Origin", "http://evil.example")], &[("Origin", "null")]];
        for headers in elsewhere {
            let refused = get(world, path, headers);
            assert_eq!(refused.status, 403, "{path} {headers:?}");
            assert!(refused.body.contains("<h1>Not from here</h1>") && refused.body.contains("NOT_LOCAL"));
            assert!(refused.body.contains("name=\"token\" value=\"\""), "no token is given away");
        }
    }
}

pub async fn forms_are_taken_from_pages_of_this_node_alone(world: &World) {
    let bad = r#"{"type":"track","userId":"7","messageId":"bad-1"}"#;
    ask::send(&world.cluster.channel(0), vec![ask::json(bad)]).await.unwrap();
    let entries = ask::quarantined(&world.cluster.channel(0), Default::default()).await;
    let path = format!("/quarantine/{}/mend", entries[0].id);
    let form = |token: &str| format!("token={token}&patch=%7B%22event%22%3A%22Seen%22%7D&by=ann");
    let (token, here) = (token(world), format!("http://{}", world.cluster.nodes[0].http));
    let made_up = "0".repeat(32);
    for (origin, token) in [
        (None, token.as_str()),
        (Some("http://evil.example"), &token),
        (Some("null"), &token),
        (Some(&*here), ""),
        (Some(&*here), &made_up),
    ] {
        let headers: Vec<(&str, &str)> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let refused = ask(world, "POST", &path, &headers, &form(token));
        assert_eq!(refused.status, 403, "{origin:?} {token}: {}", refused.body);
    }
    assert_eq!(ask::quarantined(&world.cluster.channel(0), Default::default()).await.len(), 1);
    let taken = ask(world, "POST", &path, &[("Origin", &here)], &form(&token));
    assert!(taken.status == 200 && taken.body.contains("It went in."), "{}", taken.body);
    assert!(ask::quarantined(&world.cluster.channel(0), Default::default()).await.is_empty());
    let theme = format!("token={token}&theme=dark&back=%2F%2Fevil.example");
    let set = ask(world, "POST", "/theme", &[("Origin", &here)], &theme);
    assert_eq!((set.status, set.header("location")), (303, "/"));
    assert!(set.header("set-cookie").starts_with("isthmus_theme=dark;"));
    let dark = get(world, "/", &[("Cookie", "isthmus_theme=dark")]);
    assert!(dark.body.contains("data-theme=\"dark\""));
}

pub fn files_are_kept_by_browsers(world: &World) {
    let page = get(world, "/", &[]).body;
    let paths: Vec<&str> = page.split('"').filter(|path| path.starts_with("/assets/")).collect();
    assert_eq!(paths.len(), 5, "{paths:?}");
    for path in paths {
        let file = get(world, path, &[]);
        assert_eq!(file.status, 200, "{path}");
        assert!(file.header("cache-control").contains("immutable") && !file.body.is_empty());
        let again = get(world, path, &[("If-None-Match", file.header("etag"))]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
    assert_eq!(get(world, "/assets/0000000000000000/console.js", &[]).status, 404);
}

pub fn what_is_not_there_is_a_page(world: &World) {
    let nobody = get(world, &format!("/customers/{}", "0".repeat(32)), &[]);
    assert!(nobody.status == 404 && nobody.body.contains("<h1>Nothing there</h1>"), "{}", nobody.body);
    let wrong = get(world, "/customers/42", &[]);
    assert!(wrong.status == 400 && wrong.body.contains("32 hexadecimal digits"), "{}", wrong.body);
    assert_eq!(get(world, &format!("/quarantine/{}", "0".repeat(32)), &[]).status, 404);
    let none = get(world, "/customers?q=nobody%40example.org", &[]);
    assert!(none.status == 200 && none.body.contains("Nobody was found."), "{}", none.body);
    assert!(none.body.contains("value=\"nobody@example.org\""), "what was searched for stays in the field");
    assert_eq!(ask(world, "PUT", "/ingest", &[], "").status, 405);
}
