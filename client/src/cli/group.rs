//! `isthmus group …`, and `isthmus profile groups`.

use crate::{Client, Error, json, key::ProfileKey, proto};
use clap::Subcommand;

use crate::cli::{
    failure::{Done, Failure},
    output::Output,
    profile::{Freshness, limit_of, nothing_known, tell_of_more},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus group get acme --output json
  isthmus group members acme
  isthmus group list --output json > groups.jsonl
  isthmus profile groups user_id:42";

#[derive(Debug, Subcommand)]
pub enum GroupVerb {
    /// Show one group
    #[command(after_help = "Example:\n  isthmus group get acme --output json")]
    Get {
        /// The group, as events name it in groupId
        group: String,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Show the customers who belong to a group, each once
    #[command(after_help = "Example:\n  isthmus group members acme --limit 20")]
    Members {
        /// The group, as events name it in groupId
        group: String,
        /// At most so many customers [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Show all groups
    #[command(after_help = "Example:\n  isthmus group list --output json > groups.jsonl")]
    List {
        /// At most so many groups [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        #[command(flatten)]
        freshness: Freshness,
    },
}

pub async fn run(verb: GroupVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        GroupVerb::Get { group, freshness } => {
            let consistency = freshness.consistency()?;
            let request = proto::GroupServiceGetRequest { group_id: group, consistency };
            let group = client.group(request).await.map_err(no_such_group)?;
            match output.is_json() {
                true => output.json(&json::Group::from(&group))?,
                false => show(&group, output)?,
            }
        }
        GroupVerb::Members { group, limit, freshness } => {
            let consistency = freshness.consistency()?;
            let request = proto::ListMembersRequest { group_id: group, consistency, ..Default::default() };
            members(&client, request, limit, output).await?;
        }
        GroupVerb::List { limit, freshness } => {
            let consistency = freshness.consistency()?;
            let request = proto::GroupServiceListRequest { consistency, ..Default::default() };
            list(&client, request, limit, output).await?;
        }
    }
    Ok(Done::Well)
}

fn no_such_group(error: Error) -> Failure {
    if error.is_not_found() {
        return Failure::Failed(format!("{error}\n  is the name spelled as in groupId?"));
    }
    error.into()
}

fn show(group: &proto::Group, output: &mut Output) -> Result<(), Failure> {
    let facts = [
        ("group", group.group_id.clone()),
        ("identifiers of members", group.member_identifiers.to_string()),
        ("events", group.events.to_string()),
        ("first seen", json::time(group.first_seen.as_ref()).unwrap_or_default()),
        ("last seen", json::time(group.last_seen.as_ref()).unwrap_or_default()),
        ("sources", group.sources.join(", ")),
        ("version", group.version.clone()),
    ];
    output.facts(&facts)?;
    output.traits(&group.traits)
}

async fn members(
    client: &Client,
    request: proto::ListMembersRequest,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut pages = client.member_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(members) = pages.next().await.map_err(no_such_group)? {
        for member in &members {
            if output.is_json() {
                output.json(&json::GroupMember::from(member))?;
                continue;
            }
            let identifiers = member.identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value));
            rows.push(vec![
                member.profile_id.clone(),
                identifiers.collect::<Vec<_>>().join(", "),
                member.events.to_string(),
                json::time(member.last_seen.as_ref()).unwrap_or_default(),
            ]);
        }
    }
    if !output.is_json() {
        output.table(&["PROFILE", "IDENTIFIERS", "EVENTS", "LAST SEEN"], rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}

async fn list(
    client: &Client,
    request: proto::GroupServiceListRequest,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut pages = client.group_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(groups) = pages.next().await? {
        for group in &groups {
            if output.is_json() {
                output.json(&json::Group::from(group))?;
                continue;
            }
            rows.push(vec![
                group.group_id.clone(),
                group.member_identifiers.to_string(),
                group.events.to_string(),
                json::time(group.last_seen.as_ref()).unwrap_or_default(),
            ]);
        }
    }
    if !output.is_json() {
        output.table(&["GROUP", "IDENTIFIERS", "EVENTS", "LAST SEEN"], rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}

/// `isthmus profile groups`.
pub async fn groups_of(
    key: ProfileKey,
    limit: Option<u64>,
    freshness: Freshness,
    client: &Client,
    output: &mut Output,
) -> Result<(), Failure> {
    let consistency = freshness.consistency()?;
    let request = proto::ListMembershipsRequest { key: Some(key.into()), consistency, ..Default::default() };
    let mut pages = client.membership_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(memberships) = pages.next().await.map_err(nothing_known)? {
        for membership in &memberships {
            if output.is_json() {
                output.json(&json::Membership::from(membership))?;
                continue;
            }
            rows.push(vec![
                membership.group_id.clone(),
                membership.events.to_string(),
                json::time(membership.first_seen.as_ref()).unwrap_or_default(),
                json::time(membership.last_seen.as_ref()).unwrap_or_default(),
            ]);
        }
    }
    if !output.is_json() {
        output.table(&["GROUP", "EVENTS", "FIRST SEEN", "LAST SEEN"], rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}
