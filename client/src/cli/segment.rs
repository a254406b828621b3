//! `isthmus segment …`, and `isthmus profile segments`.

mod put;

use std::time::Duration;

use clap::Subcommand;
use serde_json::json as object;

use crate::{Client, json, key::ProfileKey, proto};

use self::put::{Wait, text_of};
use crate::cli::{
    document,
    failure::{Done, Failure},
    output::{Output, complain},
    place,
    profile::{limit_of, nothing_known, tell_of_more},
    watch::{self, WatchOptions},
};

/// How long working out all events anew may take.
const WORKING: Duration = Duration::from_secs(600);

pub const EXAMPLES: &str = "\
Examples:
  isthmus segment preview \"plan = 'pro' AND events('Order Completed', '30 days') >= 3\"
  isthmus segment put loyal \"plan = 'pro' AND events('Order Completed', '30 days') >= 3\"
  isthmus segment trait orders.toml
  isthmus segment count \"loyal and not refunded\"
  isthmus segment members loyal --output json
  isthmus segment watch loyal
  isthmus segment verify loyal";

#[derive(Debug, Subcommand)]
pub enum SegmentVerb {
    /// Put a segment in force: who it holds is worked out at once, and from then on as events come
    #[command(
        after_help = "Examples:\n  isthmus segment put dormant \"last_seen < now() - INTERVAL '90 days'\"\n  isthmus segment put loyal \"events('Order Completed', '30 days') >= 3\" --description 'Three orders in a month' --wait"
    )]
    Put {
        /// Its name: a letter, then letters, digits, _ and -
        name: String,
        /// Who is in it: SQL's boolean expression
        expression: String,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Put a computed trait in force
    #[command(after_help = "Example:\n  isthmus segment trait orders.toml --wait")]
    Trait {
        /// What it is: TOML or JSON with name, aggregate, of, type, events, event_type, filter, window, limit, bound; `-` is
        /// standard input
        file: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show one segment or computed trait
    #[command(after_help = "Example:\n  isthmus segment get loyal --output json")]
    Get {
        /// Its name
        name: String,
    },
    /// Show all segments and computed traits
    #[command(after_help = "Example:\n  isthmus segment list --output json")]
    List,
    /// Delete a segment or a computed trait
    #[command(after_help = "Example:\n  isthmus segment delete loyal")]
    Delete {
        /// Its name
        name: String,
    },
    /// Tell how many and who there would be in a segment
    #[command(after_help = "Example:\n  isthmus segment preview \"revenue >= 1000\" --limit 20")]
    Preview {
        /// Who would be in it: SQL's boolean expression
        expression: String,
        /// Show at most so many customers, 1 to 100
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        limit: u32,
    },
    /// Count customers in a set of segments
    #[command(after_help = "Example:\n  isthmus segment count \"loyal and dormant not refunded\"")]
    Count {
        /// Names of segments with and, or, not and parentheses
        expression: String,
    },
    /// Show customers in a set of segments
    #[command(
        after_help = "Example:\n  isthmus segment members \"loyal not dormant\" --output json > loyal.jsonl"
    )]
    Members {
        /// Names of segments with and, or, not and parentheses
        expression: String,
        /// At most so many customers [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
    },
    /// Follow who enters segments and leaves them
    #[command(after_help = "Example:\n  isthmus segment watch loyal --output json >> loyal.jsonl")]
    Watch {
        /// The segments
        #[arg(required = true, value_name = "SEGMENT")]
        names: Vec<String>,
        #[command(flatten)]
        options: WatchOptions,
    },
    /// Work a segment out anew from all events, and compare that with what is live
    #[command(after_help = "Example:\n  isthmus segment verify loyal")]
    Verify {
        /// The segment
        name: String,
    },
}

pub async fn run(verb: SegmentVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        SegmentVerb::Put { name, expression, description, wait } => {
            let segment = proto::Segment { name, expression: expression.clone(), description, version: 0 };
            let put = client.put_segment(segment).await.map_err(|error| place::marked(error, &expression))?;
            wait.until_live(&client, put.version).await?;
            told(output, put.version, put.changed)?;
        }
        SegmentVerb::Trait { file, wait } => {
            let text = document::json(&file)?;
            let read: json::ComputedTrait = serde_json::from_str(&text)
                .map_err(|error| Failure::Failed(format!("{file} is no computed trait: {error}")))?;
            let it = proto::ComputedTrait::from(read);
            let put = client.put_computed_trait(it.clone()).await.map_err(|error| {
                let text = text_of(&error, &it);
                place::marked(error, text)
            })?;
            wait.until_live(&client, put.version).await?;
            told(output, put.version, put.changed)?;
        }
        SegmentVerb::Get { name } => {
            let all = client.definitions(0).await?;
            let segment = all.segments.iter().find(|it| it.name == name);
            let computed = all.computed_traits.iter().find(|it| it.name == name);
            match (segment, computed) {
                (Some(segment), _) if output.is_json() => output.json(&json::Segment::from(segment))?,
                (Some(segment), _) => output.facts(&[
                    ("segment", segment.name.clone()),
                    ("expression", segment.expression.clone()),
                    ("description", segment.description.clone()),
                    ("version", segment.version.to_string()),
                ])?,
                (None, Some(it)) if output.is_json() => output.json(&json::ComputedTrait::from(it))?,
                (None, Some(it)) => {
                    output.facts(&[("computed trait", it.name.clone()), ("is", summary(it))])?;
                }
                (None, None) => {
                    return Err(Failure::Failed(format!("there is no segment and no computed trait {name}")));
                }
            }
        }
        SegmentVerb::List => list(&client, output).await?,
        SegmentVerb::Delete { name } => {
            let version = client.delete_definition(&name).await?;
            told(output, version, true)?;
        }
        SegmentVerb::Preview { expression, limit } => {
            let patient = client.with_deadline(WORKING).with_long_tries();
            let request = proto::PreviewRequest { expression: expression.clone(), limit };
            let answer = patient.preview_segment(request).await;
            let answer = answer.map_err(|error| place::marked(error, &expression))?;
            if output.is_json() {
                let members: Vec<_> = answer.members.iter().map(json::SegmentMember::from).collect();
                output.json(&object!({
                    "count": answer.count, "overflows": answer.overflows, "profiles": answer.profiles,
                    "members": members, "version": answer.version,
                }))?;
            } else {
                output.line(&format!("{} of {} customers", answer.count, answer.profiles))?;
                overflowing(answer.overflows);
                output.table(&HEADINGS, answer.members.iter().map(row))?;
            }
        }
        SegmentVerb::Count { expression } => {
            let answer = client.count_segment(&expression).await;
            let answer = answer.map_err(|error| place::marked(error, &expression))?;
            if output.is_json() {
                output.json(&object!({
                    "count": answer.count, "overflows": answer.overflows, "profiles": answer.profiles,
                    "definitions_version": answer.definitions_version, "version": answer.version,
                }))?;
            } else {
                output.line(&answer.count.to_string())?;
                overflowing(answer.overflows);
            }
        }
        SegmentVerb::Members { expression, limit } => members(&client, expression, limit, output).await?,
        SegmentVerb::Watch { names, options } => {
            return watch::watch_segments(names, options, client, output).await;
        }
        SegmentVerb::Verify { name } => return verify(&client, &name, output).await,
    }
    Ok(Done::Well)
}

fn told(output: &mut Output, version: u64, changed: bool) -> Result<(), Failure> {
    match output.is_json() {
        true => output.json(&object!({"version": version, "changed": changed}))?,
        false if changed => output.line(&format!("definitions version {version}"))?,
        false => output.line(&format!("nothing has changed: definitions version {version}"))?,
    }
    Ok(())
}

fn overflowing(overflows: u64) {
    if overflows > 0 {
        complain(&format!(
            "of {overflows} more it can't be said, since they pass a bound: they are not counted"
        ));
    }
}

const HEADINGS: [&str; 2] = ["PROFILE", "IDENTIFIER"];

fn row(member: &proto::SegmentMember) -> Vec<String> {
    let identifier = member.identifier.as_ref();
    vec![
        member.profile_id.clone(),
        identifier.map(|id| format!("{}:{}", id.namespace, id.value)).unwrap_or_default(),
    ]
}

/// A computed trait in a line.
fn summary(it: &proto::ComputedTrait) -> String {
    let part =
        |word: &str, text: &str| if text.is_empty() { String::new() } else { format!(" {word} {text}") };
    let parts = [
        part("of", &it.of),
        part("as", &it.r#type),
        part("over", &it.events.join(", ")),
        part("where", &it.filter),
        part("within", &it.window),
    ];
    format!("{}{}", it.aggregate, parts.concat())
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let all = client.definitions(0).await?;
    if output.is_json() {
        for it in &all.computed_traits {
            output.json(&object!({"computed_trait": json::ComputedTrait::from(it)}))?;
        }
        for it in &all.segments {
            output.json(&object!({"segment": json::Segment::from(it)}))?;
        }
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = all
        .computed_traits
        .iter()
        .map(|it| vec![it.name.clone(), "computed trait".to_owned(), summary(it)])
        .collect();
    rows.extend(
        all.segments.iter().map(|it| vec![it.name.clone(), "segment".to_owned(), it.expression.clone()]),
    );
    output.table(&["NAME", "IS", "DEFINITION"], rows)?;
    if all.live_version < all.version {
        complain(&format!(
            "version {} is being worked out; {} answers until then",
            all.version, all.live_version
        ));
    }
    Ok(())
}

async fn members(
    client: &Client,
    expression: String,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let request =
        proto::SegmentServiceListMembersRequest { expression: expression.clone(), ..Default::default() };
    let mut pages = client.segment_pages(request, limit_of(limit, output));
    let mut rows = Vec::new();
    while let Some(members) = pages.next().await.map_err(|error| place::marked(error, &expression))? {
        for member in &members {
            match output.is_json() {
                true => output.json(&json::SegmentMember::from(member))?,
                false => rows.push(row(member)),
            }
        }
    }
    if !output.is_json() {
        output.table(&HEADINGS, rows)?;
        tell_of_more(pages.has_more());
    }
    Ok(())
}

async fn verify(client: &Client, name: &str, output: &mut Output) -> Result<Done, Failure> {
    let patient = client.with_deadline(WORKING).with_long_tries();
    let answer = patient.verify_segment(name).await?;
    let is_same = answer.differing.is_empty() && answer.live == answer.recounted;
    if output.is_json() {
        let differing: Vec<_> = answer.differing.iter().map(json::SegmentMember::from).collect();
        output.json(&object!({
            "same": is_same, "live": answer.live, "recounted": answer.recounted, "differing": differing,
            "version": answer.version,
        }))?;
    } else if is_same {
        output.line(&format!("the same: {} customers", answer.live))?;
    } else {
        output.line(&format!("not the same: {} live, {} recounted", answer.live, answer.recounted))?;
        output.table(&HEADINGS, answer.differing.iter().map(row))?;
    }
    Ok(if is_same { Done::Well } else { Done::NotWell })
}

/// `isthmus profile segments`.
pub async fn segments_of(key: ProfileKey, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let answer = client.memberships(key).await.map_err(nothing_known)?;
    if output.is_json() {
        output.json(&json::Memberships::new(&answer)?)?;
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> =
        answer.segments.iter().map(|name| vec![name.clone(), "in".to_owned()]).collect();
    rows.extend(answer.overflows.iter().map(|name| vec![name.clone(), "overflow".to_owned()]));
    rows.extend(answer.computed_traits_json.iter().map(|(name, json)| vec![name.clone(), json.clone()]));
    output.table(&["SEGMENT OR TRAIT", "VALUE"], rows)?;
    Ok(())
}
