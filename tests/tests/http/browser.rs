//! Pages in a headless Chromium, served from another origin than the node's.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use isthmus_tests::{ask, cluster::PATIENCE};
use serde_json::{Value, json};

use crate::{Hub, sdks};

/// Where a Chromium may be.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser, if there is one.
pub fn installed() -> Option<String> {
    let given = std::env::var("CHROMIUM_UNDER_TEST").ok();
    let runs = |program: &String| {
        let asked =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = given.into_iter().chain(PROGRAMS.map(str::to_owned)).find(runs);
    if found.is_none() {
        sdks::skipped("Chromium");
    }
    found
}

/// A site: serves a page and files beside it, and hands on what the page reports.
struct Site {
    address: SocketAddr,
    reports: Receiver<Value>,
}

impl Site {
    fn start(page: String, files: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, files, sender) = (page.clone(), files.clone(), sender.clone());
                std::thread::spawn(move || serve(stream, &page, files.as_deref(), &sender));
            }
        });
        Self { address, reports }
    }
}

fn serve(mut stream: TcpStream, page: &str, files: Option<&Path>, reports: &Sender<Value>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).ok()? <= 2 {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let path = line.split(' ').nth(1)?;
    let (kind, body) = match path {
        "/report" => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            reports.send(serde_json::from_slice(&body).ok()?).ok()?;
            ("text/plain", Vec::new())
        }
        "/" => ("text/html; charset=utf-8", page.as_bytes().to_vec()),
        _ => ("text/javascript", std::fs::read(files?.join(path.strip_prefix("/umd/")?)).ok()?),
    };
    let mut answer = String::new();
    write!(
        answer,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .ok()?;
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

/// A browser that shows a page. Dropping it kills it.
struct Browser {
    child: Child,
    log: PathBuf,
}

impl Browser {
    fn show(chromium: &str, site: &Site, folder: &Path, name: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let child = Command::new(chromium)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--enable-logging=stderr", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", folder.join(name).display()))
            .arg(format!("http://{}/", site.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What the page reports, and that its console holds no error.
    fn report(&mut self, site: &Site) -> Value {
        let report = site.reports.recv_timeout(PATIENCE);
        let log = std::fs::read_to_string(&self.log).unwrap();
        let report = report.unwrap_or_else(|_| panic!("the page reports nothing:\n{log}"));
        let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "the page's console: {console:#?}");
        report
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until a user has so many events of a name.
async fn arrived(hub: &Hub, user: &str, event: &str, count: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let profile = ask::profile(&hub.cluster.channel(0), "user_id", user).await;
        let found = profile.ok().and_then(|profile| profile.event_counts.get(event).copied());
        if found == Some(count) {
            return;
        }
        assert!(Instant::now() < until, "{user} has {found:?} of {event}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What pages do by hand: `fetch` as JSON (with a preflight) and as text (without), and `sendBeacon`.
pub async fn fetch_and_beacon_arrive(hub: &Hub, chromium: &str, folder: &Path) {
    let (node, key) = (hub.http(), &hub.key);
    let page = r#"<!doctype html><title>shop</title><script>
        const node = "http://NODE", key = "KEY";
        const event = (name, id) => ({type: "track", event: name, userId: "browser", messageId: id, writeKey: key});
        const post = async (path, headers, body, more) => {
            const answer = await fetch(node + path, {method: "POST", headers, body: JSON.stringify(body), ...more});
            return {status: answer.status, id: answer.headers.get("x-request-id"), body: await answer.json()};
        };
        const run = async () => ({
            json: await post("/v1/track", {"Content-Type": "application/json", "Authorization": "Basic " + btoa(key + ":")},
                event("Fetched", "f-1")),
            text: await post("/v1/t", {"Content-Type": "text/plain"}, event("Fetched", "f-2")),
            included: await post("/v1/t", {"Content-Type": "text/plain"}, event("Fetched", "f-3"), {credentials: "include"}),
            batch: await post("/v1/b", {"Content-Type": "text/plain"}, {writeKey: key, batch: [event("Fetched", "f-4")]}),
            beacon: navigator.sendBeacon(node + "/v1/t", JSON.stringify(event("Beaconed", "b-1"))),
            blob: navigator.sendBeacon(node + "/v1/b", new Blob([JSON.stringify({writeKey: key, batch: [event("Beaconed", "b-2")]})],
                {type: "text/plain"})),
        });
        const told = (report) => fetch("/report", {method: "POST", body: JSON.stringify(report)});
        run().then(told, (error) => told({error: String(error)}));
        </script>"#;
    let page = page.replace("NODE", &node.to_string()).replace("KEY", key);
    let site = Site::start(page, None);
    let mut browser = Browser::show(chromium, &site, folder, "plain");
    let report = browser.report(&site);
    for sent in ["json", "text", "included", "batch"] {
        assert_eq!(
            (&report[sent]["status"], &report[sent]["body"]["accepted"]),
            (&200.into(), &1.into()),
            "{report}"
        );
        assert!(report[sent]["id"].is_string(), "the page can't see the request's id: {report}");
    }
    assert_eq!((&report["beacon"], &report["blob"]), (&true.into(), &true.into()), "{report}");
    arrived(hub, "browser", "Fetched", 4).await;
    arrived(hub, "browser", "Beaconed", 2).await;
}

/// `@segment/analytics-next` as it is published, told nothing but the key and where the hub is: it asks for its
/// settings, and sends where they say.
pub async fn analytics_js_sends_by_itself(hub: &Hub, chromium: &str, folder: &Path) {
    let umd = sdks::folder().join("node_modules/@segment/analytics-next/dist/umd");
    if !umd.exists() {
        return sdks::skipped("@segment/analytics-next");
    }
    let page = r#"<!doctype html><title>shop</title><script src="/umd/index.js"></script><script>
        const told = (report) => fetch("/report", {method: "POST", body: JSON.stringify(report)});
        const run = async () => {
            const [analytics] = await AnalyticsNext.AnalyticsBrowser.load(
                {writeKey: "KEY", cdnURL: "http://NODE"}, {initialPageview: true});
            await analytics.identify("analytics-js", {email: "js@example.com", plan: "free"});
            await analytics.track("Bought", {revenue: 1.5});
            await analytics.group("g-1", {name: "Group"});
            await analytics.alias("analytics-js", "analytics-js-old");
            return {anonymous: analytics.user().anonymousId()};
        };
        run().then(told, (error) => told({error: String(error)}));
        </script>"#;
    let page = page.replace("NODE", &hub.http().to_string()).replace("KEY", &hub.key);
    let site = Site::start(page, Some(umd));
    let mut browser = Browser::show(chromium, &site, folder, "analytics");
    let report = browser.report(&site);
    let anonymous = report["anonymous"].as_str().unwrap_or_else(|| panic!("{report}"));
    arrived(hub, "analytics-js", "Bought", 1).await;
    let until = Instant::now() + PATIENCE;
    let profile = loop {
        let profile = ask::profile(&hub.cluster.channel(0), "anonymous_id", anonymous).await.unwrap();
        let count = |kind: &str| profile.type_counts.get(kind).copied().unwrap_or_default();
        let counts = ["page", "identify", "group", "alias"].map(count);
        let named = profile.identifiers.iter().any(|id| id.value == "js@example.com");
        if counts == [1; 4] && named {
            assert_eq!(profile.sources, ["web"]);
            break profile;
        }
        assert!(Instant::now() < until, "{counts:?} {profile:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(sdks::text(&profile.traits, "plan"), Some("free"), "{profile:?}");
    let channel = hub.cluster.channel(0);
    assert_eq!(sdks::properties(&channel, "analytics-js", "Bought").await, [json!({"revenue": 1.5})]);
    sdks::group_is_there(&channel, "g-1", "Group", &[profile.profile_id].into()).await;
}
