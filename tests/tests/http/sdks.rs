//! Segment's SDKs for Python and Node, unchanged but for the host. `tests/sdks/install` installs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use isthmus_proto::v1::{
    GroupServiceGetRequest, ListMembersRequest, TimelineRequest, group_service_client::GroupServiceClient,
    profile_service_client::ProfileServiceClient, value::Kind,
};
pub use isthmus_tests::tools::{folder, skipped};
use isthmus_tests::{ask, program};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    Hub,
    relay::{Failing, Relay},
};

/// Users that a run of an SDK sends events of: seven each, so several batches of 100.
const USERS: usize = 60;
const EVENTS_A_USER: usize = 7;

/// Where the SDKs are.
pub struct Sdks {
    python: String,
    scripts: PathBuf,
    modules: PathBuf,
}

/// The SDKs, if they are installed.
pub fn installed() -> Option<Sdks> {
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sdks");
    let (python, modules) = (folder().join("python/bin/python"), folder().join("node_modules"));
    if !python.exists() {
        skipped("segment-analytics-python");
        return None;
    }
    if !modules.join("@segment/analytics-node").exists() {
        skipped("@segment/analytics-node");
        return None;
    }
    Some(Sdks { python: python.display().to_string(), scripts, modules })
}

impl Sdks {
    /// Runs an SDK to its end; users' names begin with `prefix`.
    async fn run(&self, which: Which, to: SocketAddr, key: &str, prefix: &str) {
        let (host, users) = (format!("http://{to}"), USERS.to_string());
        let script = |name: &str| self.scripts.join(name).display().to_string();
        let (program, script, mode) = match which {
            Which::Python { gzip } => {
                (self.python.clone(), script("send.py"), if gzip { "gzip" } else { "plain" })
            }
            Which::Node => ("node".to_owned(), script("send.cjs"), "plain"),
        };
        let modules = self.modules.display().to_string();
        let arguments = [script, host, key.to_owned(), prefix.to_owned(), users, mode.to_owned()];
        let ended = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            program::run(&program, &arguments, &[("NODE_PATH", &modules)])
        });
        let ended = ended.await.unwrap();
        assert_eq!(ended.code, 0, "{which:?} reports: {}{}", ended.out, ended.err);
        let told: Value = ended.last();
        assert_eq!(told["sent"], USERS * EVENTS_A_USER, "{told}");
        assert_eq!(told["failed"], 0, "{told}");
    }
}

/// An SDK and how it sends.
#[derive(Clone, Copy, Debug)]
enum Which {
    Python { gzip: bool },
    Node,
}

const ALL: [(Which, &str); 3] =
    [(Which::Python { gzip: false }, "py"), (Which::Python { gzip: true }, "pygz"), (Which::Node, "node")];

pub async fn they_send_everything(hub: &Hub, sdks: &Sdks) {
    for (which, prefix) in ALL {
        let relay = Relay::start(hub.http(), &[]);
        sdks.run(which, relay.address, &hub.key, prefix).await;
        let (failed, passed, packed) = relay.counts();
        let batches = (USERS * EVENTS_A_USER).div_ceil(100);
        assert!(failed == 0 && passed >= batches, "{which:?}: {passed} requests");
        let gzip = matches!(which, Which::Python { gzip: true });
        assert_eq!(packed, if gzip { passed } else { 0 }, "{which:?}");
        everything_is_there_once(hub, prefix).await;
    }
}

pub async fn they_get_over_a_server_that_fails(hub: &Hub, sdks: &Sdks) {
    let failing = [
        Failing::Refuses,
        Failing::LosesTheAnswer,
        Failing::HangsUp,
        Failing::IsBusy,
        Failing::LosesTheAnswer,
        Failing::Refuses,
    ];
    for (which, prefix) in ALL {
        let prefix = format!("{prefix}-again");
        let relay = Relay::start(hub.http(), &failing);
        sdks.run(which, relay.address, &hub.key, &prefix).await;
        assert_eq!(relay.counts().0, failing.len(), "not all failures were met");
        everything_is_there_once(hub, &prefix).await;
    }
}

async fn everything_is_there_once(hub: &Hub, prefix: &str) {
    let channel = hub.cluster.channel(0);
    let mut owners = BTreeSet::new();
    for n in 0..USERS {
        let user = format!("{prefix}-{n}");
        let profile = ask::profile(&channel, "user_id", &user).await.unwrap();
        let count = |kind: &str| profile.type_counts.get(kind).copied().unwrap_or_default();
        let counts = ["identify", "page", "group", "alias"].map(count);
        assert_eq!(counts, [1; 4], "{user}");
        assert_eq!(profile.event_counts["Bought"], 3, "{user}");
        assert_eq!(profile.revenue, "4.50", "{user}");
        let named: Vec<String> =
            profile.identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value)).collect();
        for identifier in [format!("user_id:{user}-old"), format!("email:{user}@example.com")] {
            assert!(named.contains(&identifier), "{identifier} in {named:?}");
        }
        assert_eq!(text(&profile.traits, "plan"), Some("free"), "{user}: {:?}", profile.traits);
        assert_eq!(properties(&channel, &user, "Bought").await, vec![json!({"revenue": 1.5}); 3], "{user}");
        owners.insert(profile.profile_id);
    }
    group_is_there(&channel, &format!("{prefix}-group"), "Group", &owners).await;
}

/// A trait that is text.
pub fn text<'a>(traits: &'a BTreeMap<String, isthmus_proto::v1::Value>, name: &str) -> Option<&'a str> {
    match traits.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The properties of a customer's events of a name, as the timeline has them.
pub async fn properties(channel: &Channel, user: &str, event: &str) -> Vec<Value> {
    let request = TimelineRequest { key: ask::key("user_id", user), ..TimelineRequest::default() };
    let mut profiles = ProfileServiceClient::new(channel.clone());
    let events = profiles.timeline(request).await.unwrap().into_inner().events;
    let named = events.iter().filter(|found| found.name == event);
    named.map(|found| serde_json::from_str(&found.properties_json).unwrap()).collect()
}

/// A group has its name and is linked to these customers, and to nobody else.
pub async fn group_is_there(channel: &Channel, id: &str, name: &str, members: &BTreeSet<String>) {
    let mut groups = GroupServiceClient::new(channel.clone());
    let request = GroupServiceGetRequest { group_id: id.to_owned(), ..GroupServiceGetRequest::default() };
    let group = groups.get(request).await.unwrap().into_inner().group.unwrap();
    assert_eq!(text(&group.traits, "name"), Some(name), "{group:?}");
    let request =
        ListMembersRequest { group_id: id.to_owned(), limit: 1_000, ..ListMembersRequest::default() };
    let found = groups.list_members(request).await.unwrap().into_inner();
    let found: BTreeSet<String> = found.members.into_iter().map(|member| member.profile_id).collect();
    assert_eq!(&found, members, "who belongs to {id}");
}
