//! `isthmus source …`

use crate::{Client, json, proto};
use clap::Subcommand;
use serde_json::json;

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus source create shop --output json    prints {\"name\":…,\"write_key\":…}
  isthmus source rotate shop
  isthmus source disable shop";

#[derive(Debug, Subcommand)]
pub enum SourceVerb {
    /// Make a source and print its write key, which is shown this once
    #[command(
        after_help = "Examples:\n  isthmus source create web-shop --output json\n  isthmus source create till --primary-order card_id,user_id --currency EUR"
    )]
    Create {
        /// Its name: lower-case letters, digits, `-`, `_` and `.`
        name: String,
        /// Which identifier an event is filed under, most preferred first; fixed for good
        #[arg(long, value_name = "NAMESPACE,…", value_delimiter = ',')]
        primary_order: Vec<String>,
        /// The currency of revenue that names none [default: USD]
        #[arg(long, value_name = "ISO-4217")]
        currency: Option<String>,
    },
    /// List the sources
    #[command(after_help = "Example:\n  isthmus source list")]
    List,
    /// Refuse a source's keys from now on; what it sent stays
    #[command(after_help = "Example:\n  isthmus source disable web-shop")]
    Disable {
        /// The source
        name: String,
    },
    /// Give a source a new write key; the old ones are refused from now on
    #[command(after_help = "Example:\n  isthmus source rotate web-shop")]
    Rotate {
        /// The source
        name: String,
    },
}

pub async fn run(verb: SourceVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        SourceVerb::Create { name, primary_order, currency } => {
            let default_currency = currency.unwrap_or_default();
            let request = proto::CreateRequest { name, primary_order, default_currency };
            let (source, key) = client.create_source(request).await?;
            show_key(&source, &key, output)?;
        }
        SourceVerb::Rotate { name } => {
            let (source, key) = client.rotate_source(&name).await?;
            show_key(&source, &key, output)?;
        }
        SourceVerb::Disable { name } => {
            let source = client.disable_source(&name).await?;
            match output.is_json() {
                true => output.json(&json::Source::from(&source))?,
                false => output.line(&format!("source {} is disabled", source.name))?,
            }
        }
        SourceVerb::List => {
            let sources = client.sources().await?;
            if output.is_json() {
                for source in &sources {
                    output.json(&json::Source::from(source))?;
                }
                return Ok(Done::Well);
            }
            let rows = sources.iter().map(|source| {
                vec![
                    source.name.clone(),
                    if source.disabled { "disabled" } else { "enabled" }.to_owned(),
                    source.key_prefix.clone(),
                    json::time(source.created_at.as_ref()).unwrap_or_default(),
                    source.default_currency.clone(),
                    source.primary_order.join(", "),
                ]
            });
            output.table(&["SOURCE", "STATE", "KEY", "CREATED", "CURRENCY", "PRIMARY ORDER"], rows)?;
        }
    }
    Ok(Done::Well)
}

fn show_key(source: &proto::Source, key: &str, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&json!({ "name": source.name, "write_key": key }))?;
        return Ok(());
    }
    output.facts(&[("source", source.name.clone()), ("write key", key.to_owned())])?;
    complain("keep the write key: it isn't shown again");
    Ok(())
}
