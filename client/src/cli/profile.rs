//! `isthmus profile …`

use std::time::Duration;

use crate::{Client, Error, json, key::ProfileKey, proto};
use clap::{Args, Subcommand};

use crate::cli::{
    failure::{Done, Failure},
    group::groups_of,
    output::{Output, complain},
    segment::segments_of,
    split::{Split, explain, split},
    watch::{Wanted, WatchOptions, watch},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus profile get user_id:42 --output json
  isthmus profile get 00112233445566778899aabbccddeeff
  isthmus profile timeline email:a@b.de --limit 20
  isthmus profile explain user_id:42 email:a@b.de
  isthmus profile groups user_id:42
  isthmus profile watch user_id:42 --from beginning
  isthmus profile split user_id:42 anonymous_id:kiosk-7 --never --preview
  isthmus profile list --output json > profiles.jsonl";

/// All fields of a profile: segments come only where they are named.
const FIELDS: [&str; 13] = [
    "profile_id",
    "identifiers",
    "traits",
    "event_counts",
    "revenue",
    "revenue_by_currency",
    "first_seen",
    "last_seen",
    "sources",
    "version",
    "type_counts",
    "rules_version",
    "segments",
];
/// How many rows a table has unless a limit is given.
const TABLE_ROWS: u64 = 50;
/// A table is laid out in memory, so it has a bound.
const TABLE_ROWS_MAX: u64 = 10_000;

#[derive(Debug, Subcommand)]
pub enum ProfileVerb {
    /// Show one profile
    #[command(
        after_help = "Examples:\n  isthmus profile get user_id:42 --output json\n  isthmus profile get 00112233445566778899aabbccddeeff --max-staleness 1s"
    )]
    Get {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
        /// With the segments that the customer is in, and its computed traits
        #[arg(long)]
        segments: bool,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Show a customer's events, newest first
    #[command(after_help = "Example:\n  isthmus profile timeline email:a@b.de --limit 20")]
    Timeline {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
        /// At most so many events [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Show why a customer's identifiers are one customer, or why two are not
    #[command(
        after_help = "Examples:\n  isthmus profile explain user_id:42\n  isthmus profile explain user_id:42 email:a@b.de"
    )]
    Explain {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
        /// Another identifier
        #[arg(value_name = "OTHER", value_parser = profile_key)]
        other: Option<ProfileKey>,
    },
    /// Follow a customer's changes, as they come about or from a cursor on
    #[command(after_help = "Example:\n  isthmus profile watch user_id:42 --from beginning")]
    Watch {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        options: WatchOptions,
    },
    /// Take links back: what they joined comes apart, and nothing that was said is lost
    #[command(
        after_help = "Examples:\n  isthmus profile split email:a@b.de --preview\n  isthmus profile split user_id:42 anonymous_id:kiosk-7 --never --reason 'a kiosk'\n  isthmus profile split --source old-crm --until 2024-01-01T00:00:00Z"
    )]
    Split(Split),
    /// Show the groups that a customer belongs to
    #[command(after_help = "Example:\n  isthmus profile groups user_id:42")]
    Groups {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
        /// At most so many groups [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Show the segments that a customer is in, and its computed traits
    #[command(after_help = "Example:\n  isthmus profile segments user_id:42")]
    Segments {
        /// Any identifier, as NAMESPACE:VALUE, or the profile's id
        #[arg(value_name = "PROFILE", value_parser = profile_key)]
        key: ProfileKey,
    },
    /// Show all profiles, in the order of their ids
    #[command(after_help = "Example:\n  isthmus profile list --output json > profiles.jsonl")]
    List {
        /// At most so many profiles [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        #[command(flatten)]
        freshness: Freshness,
    },
}

/// How fresh an answer has to be.
#[derive(Debug, Args)]
pub struct Freshness {
    /// See at least what this version token covers; any replica may answer [default: see every acknowledged write]
    #[arg(long, value_name = "VERSION", conflicts_with = "max_staleness")]
    min_version: Option<String>,
    /// May miss writes younger than this, up to an hour; any replica may answer
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_staleness: Option<Duration>,
}

fn profile_key(text: &str) -> Result<ProfileKey, Error> {
    text.parse()
}

impl Freshness {
    pub(super) fn consistency(self) -> Result<Option<proto::Consistency>, Failure> {
        use proto::consistency::Level;
        let level = match (self.min_version, self.max_staleness) {
            (Some(version), _) => Level::MinVersion(version),
            (None, Some(age)) => match u32::try_from(age.as_millis()) {
                Ok(millis @ 1..=3_600_000) => Level::MaxStalenessMs(millis),
                _ => return Err(Failure::Usage("--max-staleness has to lie between 1ms and 1h".into())),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(proto::Consistency { level: Some(level) }))
    }
}

pub async fn run(verb: ProfileVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        ProfileVerb::Get { key, segments, freshness } => {
            let consistency = freshness.consistency()?;
            let paths = FIELDS.iter().map(|field| (*field).to_owned()).collect();
            let fields = segments.then_some(prost_types::FieldMask { paths });
            let request = proto::GetRequest { key: Some(key.into()), consistency, fields };
            let profile = client.profile_at(request).await.map_err(nothing_known)?;
            match output.is_json() {
                true => output.json(&json::Profile::with_segments(&profile)?)?,
                false => show(&profile, output)?,
            }
        }
        ProfileVerb::Timeline { key, limit, freshness } => {
            let consistency = freshness.consistency()?;
            let request = proto::TimelineRequest { key: Some(key.into()), consistency, ..Default::default() };
            timeline(&client, request, limit, output).await?;
        }
        ProfileVerb::Groups { key, limit, freshness } => {
            groups_of(key, limit, freshness, &client, output).await?;
        }
        ProfileVerb::Segments { key } => segments_of(key, &client, output).await?,
        ProfileVerb::Explain { key, other } => return explain(key, other, &client, output).await,
        ProfileVerb::Watch { key, wanted, options } => {
            return watch(vec![key], wanted, options, client, output).await;
        }
        ProfileVerb::Split(what) => return split(what, &client, output).await,
        ProfileVerb::List { limit, freshness } => {
            let request = proto::ProfileServiceListRequest {
                consistency: freshness.consistency()?,
                ..Default::default()
            };
            list(&client, request, limit, output).await?;
        }
    }
    Ok(Done::Well)
}

/// Says it plainly when there is no such profile; doesn't repeat the identifier, which may be personal.
pub(super) fn nothing_known(error: Error) -> Failure {
    if error.is_not_found() {
        return Failure::Failed(format!(
            "{error}\n  nothing is known of such a customer; is the identifier complete?"
        ));
    }
    error.into()
}

/// The limit in force: in tables one, in JSON none, unless given.
pub(super) fn limit_of(given: Option<u64>, output: &Output) -> Option<u64> {
    if output.is_json() { given } else { Some(given.unwrap_or(TABLE_ROWS).min(TABLE_ROWS_MAX)) }
}

fn show(profile: &proto::Profile, output: &mut Output) -> Result<(), Failure> {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let identifiers: Vec<String> =
        profile.identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value)).collect();
    let currencies: Vec<String> =
        profile.revenue_by_currency.iter().map(|(currency, sum)| format!("{sum} {currency}")).collect();
    let mut facts = vec![
        ("profile", profile.profile_id.clone()),
        ("identifiers", identifiers.join(", ")),
        ("events", counts(&profile.event_counts)),
        ("other", counts(&profile.type_counts)),
        ("revenue", profile.revenue.clone()),
        ("by currency", currencies.join(", ")),
        ("first seen", json::time(profile.first_seen.as_ref()).unwrap_or_default()),
        ("last seen", json::time(profile.last_seen.as_ref()).unwrap_or_default()),
        ("sources", profile.sources.join(", ")),
        ("version", profile.version.clone()),
    ];
    if let Some(known) = &profile.segments {
        facts.push(("segments", known.segments.join(", ")));
        facts.push(("can't be said", known.overflows.join(", ")));
        let computed = known.computed_traits_json.iter().map(|(name, json)| format!("{name} {json}"));
        facts.push(("computed", computed.collect::<Vec<_>>().join(", ")));
    }
    // A profile need not have each of them; what it lacks has no row.
    facts.retain(|(_, value)| !value.is_empty());
    output.facts(&facts)?;
    output.traits(&profile.traits)
}

async fn timeline(
    client: &Client,
    request: proto::TimelineRequest,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut pages = client.timeline_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(events) = pages.next().await.map_err(nothing_known)? {
        for event in &events {
            if output.is_json() {
                output.json(&json::TimelineEvent::try_from(event)?)?;
                continue;
            }
            rows.push(vec![
                json::time(event.timestamp.as_ref()).unwrap_or_default(),
                json::type_name(event.r#type()).to_owned(),
                event.name.clone(),
                event.source.clone(),
                event.properties_json.clone(),
            ]);
        }
    }
    if !output.is_json() {
        output.table(&["TIME", "TYPE", "EVENT", "SOURCE", "PROPERTIES"], rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}

async fn list(
    client: &Client,
    request: proto::ProfileServiceListRequest,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut pages = client.profile_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(profiles) = pages.next().await? {
        for profile in &profiles {
            if output.is_json() {
                output.json(&json::Profile::from(profile))?;
                continue;
            }
            let first = profile.identifiers.first().map(|id| format!("{}:{}", id.namespace, id.value));
            rows.push(vec![
                profile.profile_id.clone(),
                first.unwrap_or_default(),
                profile.event_counts.values().chain(profile.type_counts.values()).sum::<u64>().to_string(),
                profile.revenue.clone(),
                json::time(profile.last_seen.as_ref()).unwrap_or_default(),
            ]);
        }
    }
    if !output.is_json() {
        output.table(&["PROFILE", "IDENTIFIER", "EVENTS", "REVENUE", "LAST SEEN"], rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}

pub(super) fn tell_of_more(more: bool) {
    if more {
        complain("there are more: --limit says how many to show, --output json shows all");
    }
}
