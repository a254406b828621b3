//! `isthmus schema …`

use crate::{
    Client, json,
    proto::{self, SchemaCompatibility, SchemaPolicy},
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::cli::{
    document,
    failure::{Done, Failure},
    output::{Output, complain},
    rules::RulesVerb,
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus schema put order.json --name 'track:Order Completed' --policy reject
  isthmus schema put order.json --based-on 3
  isthmus schema check order.json --name 'track:Order Completed'
  isthmus schema get 'track:Order Completed' --output json > order.json
  isthmus schema rules get > rules.toml
  isthmus schema rules put rules.toml";

#[derive(Debug, Subcommand)]
pub enum SchemaVerb {
    /// Put a schema in force, unless it may refuse what the one in force accepts
    #[command(
        after_help = "Examples:\n  isthmus schema put order.json --name 'track:Order Completed' --policy reject\n  isthmus schema put order.json --based-on 3    refused when another version than 3 is in force"
    )]
    Put {
        #[command(flatten)]
        file: SchemaFile,
        /// What becomes of events that break it [default: as before; at first: quarantine]
        #[arg(long, value_enum)]
        policy: Option<Policy>,
        /// Only if this version is in force, so that nobody else's change is lost [default: whatever is in force]
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        based_on: Option<u64>,
    },
    /// Print a schema; with --output json as an object that `put` takes
    #[command(
        after_help = "Examples:\n  isthmus schema get 'track:Order Completed'\n  isthmus schema get 'track:Order Completed' --version 2 --output json > order.json"
    )]
    Get {
        /// Of which events: a type, and behind a colon their name
        name: String,
        /// A version that was in force earlier
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// List the schemas in force
    #[command(after_help = "Example:\n  isthmus schema list")]
    List,
    /// Tell whether a schema could be put, and if not, why; exits with 1 then
    #[command(after_help = "Example:\n  isthmus schema check order.json --name 'track:Order Completed'")]
    Check {
        #[command(flatten)]
        file: SchemaFile,
    },
    /// How traits are standardised, and what becomes of events without a schema
    #[command(
        after_help = "Examples:\n  isthmus schema rules get > rules.toml\n  isthmus schema rules put rules.toml"
    )]
    Rules {
        #[command(subcommand)]
        verb: RulesVerb,
    },
}

#[derive(Debug, Args)]
pub struct SchemaFile {
    /// A file with a JSON Schema, or with what `get --output json` prints; `-` is standard input
    file: String,
    /// Of which events: a type, and behind a colon their name, such as `track:Order Completed` [default: the name in the
    /// file, else the schema's title]
    #[arg(long)]
    name: Option<String>,
    /// What the new version owes to the one in force [default: as before; at first: backward]
    #[arg(long, value_enum)]
    compatibility: Option<Compatibility>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Policy {
    /// Refuse them, and keep nothing
    Reject,
    /// Keep them in quarantine
    Quarantine,
    /// Accept them with a note
    Flag,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Compatibility {
    /// It accepts all that the one in force accepts; new optional properties may have a type
    Backward,
    /// The one in force accepts all that it accepts
    Forward,
    /// Both
    Full,
    /// Nothing
    None,
}

impl From<Policy> for SchemaPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Reject => Self::Reject,
            Policy::Quarantine => Self::Quarantine,
            Policy::Flag => Self::Flag,
        }
    }
}

impl From<Compatibility> for SchemaCompatibility {
    fn from(compatibility: Compatibility) -> Self {
        match compatibility {
            Compatibility::Backward => Self::Backward,
            Compatibility::Forward => Self::Forward,
            Compatibility::Full => Self::Full,
            Compatibility::None => Self::None,
        }
    }
}

/// A schema as it stands in a file.
struct Read {
    name: String,
    schema_json: String,
    policy: Option<Policy>,
    compatibility: Option<Compatibility>,
}

fn read(file: &SchemaFile) -> Result<Read, Failure> {
    let text = document::text(&file.file)?;
    // What can't be read is the hub's to judge, which says where; a name has to come from elsewhere then.
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let of_object = |key: &str| value.get(key).and_then(Value::as_str);
    // What `get` prints has the schema inside. No keyword of JSON Schema is called so.
    let inner = value.get("schema").filter(|_| of_object("name").is_some());
    let named = file.name.as_deref().or_else(|| of_object(if inner.is_some() { "name" } else { "title" }));
    let Some(name) = named else {
        let what = "of which events is it? Say --name, such as --name 'track:Order Completed'";
        return Err(Failure::Usage(what.to_owned()));
    };
    let word = |key: &str| inner.and_then(|_| of_object(key));
    let policy = match word("policy") {
        None => None,
        Some(word) => Some(Policy::from_str(word, true).map_err(|what| bad(file, "policy", &what))?),
    };
    let compatibility = match word("compatibility") {
        None => None,
        Some(word) => {
            Some(Compatibility::from_str(word, true).map_err(|what| bad(file, "compatibility", &what))?)
        }
    };
    Ok(Read {
        name: name.to_owned(),
        schema_json: inner.map_or_else(|| text.clone(), ToString::to_string),
        policy,
        compatibility: file.compatibility.or(compatibility),
    })
}

fn bad(file: &SchemaFile, key: &str, what: &str) -> Failure {
    Failure::Failed(format!("{}: {key}: {what}", file.file))
}

pub async fn run(verb: SchemaVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        SchemaVerb::Put { file, policy, based_on } => {
            let read = read(&file)?;
            let (schema, changed) = client
                .put_schema(proto::PutSchemaRequest {
                    name: read.name,
                    schema_json: read.schema_json,
                    policy: policy.or(read.policy).map_or(SchemaPolicy::Unspecified, Into::into).into(),
                    compatibility: compatibility(read.compatibility),
                    based_on_version: based_on.unwrap_or_default(),
                })
                .await?;
            match output.is_json() {
                true => output.json(&json::Schema::from(&schema))?,
                false => output.line(&format!("{}: version {} is in force", schema.name, schema.version))?,
            }
            if !changed {
                complain("nothing has changed: this was in force before");
            }
        }
        SchemaVerb::Get { name, version } => {
            let schema = client.schema(&name, version).await?;
            let unreadable = |error| Failure::Failed(format!("the schema can't be shown: {error}"));
            if output.is_json() {
                output.json(&json::SchemaText::of(&schema).map_err(unreadable)?)?;
            } else {
                let value: Value = serde_json::from_str(&schema.schema_json).map_err(unreadable)?;
                output.line(&serde_json::to_string_pretty(&value).map_err(unreadable)?)?;
            }
        }
        SchemaVerb::List => {
            let schemas = client.schemas().await?;
            let shown = schemas.iter().map(json::Schema::from);
            if output.is_json() {
                for schema in shown {
                    output.json(&schema)?;
                }
            } else {
                let rows = shown.map(|schema| schema.row());
                output.table(&["SCHEMA", "VERSION", "POLICY", "COMPATIBILITY", "CREATED"], rows)?;
            }
        }
        SchemaVerb::Check { file } => return check(&file, &client, output).await,
        SchemaVerb::Rules { verb: RulesVerb::Get { version } } => {
            return document::show(&client.trait_rules(version).await?, output);
        }
        SchemaVerb::Rules { verb: RulesVerb::Put { file } } => {
            let (rules, changed) = client.put_trait_rules(document::json(&file)?).await?;
            return document::put(&rules, changed, output);
        }
    }
    Ok(Done::Well)
}

fn compatibility(given: Option<Compatibility>) -> i32 {
    given.map_or(SchemaCompatibility::Unspecified, Into::into).into()
}

async fn check(file: &SchemaFile, client: &Client, output: &mut Output) -> Result<Done, Failure> {
    let read = read(file)?;
    let request = proto::CheckSchemaRequest {
        name: read.name.clone(),
        schema_json: read.schema_json,
        compatibility: compatibility(read.compatibility),
    };
    let check = client.check_schema(request).await?;
    if output.is_json() {
        output.json(&json::SchemaCheck::of(&read.name, &check))?;
    } else {
        for problem in &check.problems {
            let at = if problem.at.is_empty() { "/" } else { &problem.at };
            output.line(&format!("{at}: {}", problem.what))?;
        }
        output.line(&match (check.valid, check.compatible, check.version) {
            (false, ..) => "it is no schema that can be taken".to_owned(),
            (true, true, 0) => "it can be put: there is none of that name yet".to_owned(),
            (true, true, version) => format!("it can be put: it is compatible with version {version}"),
            (true, false, version) => {
                format!("it is not compatible with version {version}, which is in force")
            }
        })?;
    }
    Ok(if check.valid && check.compatible { Done::Well } else { Done::NotWell })
}
