//! `isthmus profile explain` and `isthmus profile split`.

use clap::Args;
use jiff::Timestamp;

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, harmless},
};
use crate::key::ProfileKey;
use crate::proto::split_scope::Scope;
use crate::{Client, json, proto};

/// Which link facts to take back.
#[derive(Debug, Args)]
pub struct Split {
    /// An identifier whose links are taken back; or two: what was said about both
    #[arg(value_name = "IDENTIFIER", num_args = 0..=2)]
    identifiers: Vec<String>,
    /// What this source said; with two identifiers and --message-id: what that one message said about them
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The message of a single fact
    #[arg(long, value_name = "ID", requires = "source")]
    message_id: Option<String>,
    /// Facts with a timestamp up to this time [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "never")]
    until: Option<Timestamp>,
    /// All facts, those to come included: they never belong together
    #[arg(long)]
    never: bool,
    /// Why, kept with the retraction
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who, kept with the retraction [default: the user of this system]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Only show what would happen
    #[arg(long)]
    preview: bool,
    /// Names the retraction: the same one again changes nothing [default: made]
    #[arg(long, value_name = "ID", default_value = "")]
    id: String,
}

fn identifier(text: &str) -> Result<proto::Identifier, Failure> {
    match text.split_once(':') {
        Some((namespace, value)) if !namespace.is_empty() && !value.is_empty() => {
            Ok(proto::Identifier { namespace: namespace.to_owned(), value: value.to_owned() })
        }
        _ => Err(Failure::Usage("an identifier is written NAMESPACE:VALUE, such as user_id:42".into())),
    }
}

impl Split {
    fn scope(&self) -> Result<Scope, Failure> {
        let named = self.identifiers.iter().map(|text| identifier(text)).collect::<Result<Vec<_>, _>>()?;
        match (named.as_slice(), &self.source, &self.message_id) {
            ([a, b], Some(source), Some(message_id)) => Ok(Scope::Fact(proto::SplitFact {
                a: Some(a.clone()),
                b: Some(b.clone()),
                source: source.clone(),
                message_id: message_id.clone(),
            })),
            ([a, b], None, None) => {
                Ok(Scope::Pair(proto::SplitPair { a: Some(a.clone()), b: Some(b.clone()) }))
            }
            ([one], None, None) => Ok(Scope::Identifier(one.clone())),
            ([], Some(source), None) => Ok(Scope::Source(source.clone())),
            _ => Err(Failure::Usage(
                "name one identifier, two, two with --source and --message-id, or --source alone".into(),
            )),
        }
    }
}

/// Takes links back.
pub async fn split(split: Split, client: &Client, output: &mut Output) -> Result<Done, Failure> {
    let scope = split.scope()?;
    let until = split
        .until
        .map(|time| prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() });
    let request = proto::SplitRequest {
        scope: Some(proto::SplitScope { scope: Some(scope) }),
        until,
        never: split.never,
        reason: split.reason,
        by: split.by.or_else(|| std::env::var("USER").ok()).unwrap_or_default(),
        preview: split.preview,
        id: split.id,
    };
    let answer = client.split(request).await?;
    if output.is_json() {
        output.json(&json::Split::of(&answer, split.preview))?;
    } else if split.preview {
        for (title, groups) in [("now", &answer.before), ("then", &answer.after)] {
            for group in groups {
                output.facts(&[(title, names(&group.identifiers))])?;
            }
        }
        if answer.before.is_empty() {
            output.line("nobody would come apart")?;
        }
    } else {
        output.facts(&[("retraction", answer.id)])?;
    }
    Ok(Done::Well)
}

/// Shows why identifiers are one customer.
pub async fn explain(
    key: ProfileKey,
    other: Option<ProfileKey>,
    client: &Client,
    output: &mut Output,
) -> Result<Done, Failure> {
    let request = proto::ExplainRequest { key: Some(key.into()), other: other.map(Into::into) };
    let asked_for_two = request.other.is_some();
    let answer = client.explain(request).await?;
    if output.is_json() {
        output.json(&json::Explanation::from(&answer))?;
        return Ok(Done::Well);
    }
    if asked_for_two {
        output.line(if answer.together { "one customer" } else { "not one customer" })?;
    }
    let fact = |judged: &proto::JudgedFact| {
        let fact = judged.fact.clone().unwrap_or_default();
        let verdict = match judged.namespace.is_empty() {
            true => judged.verdict.clone(),
            false => format!("{} ({})", judged.verdict, judged.namespace),
        };
        vec![
            json::time(fact.timestamp.as_ref()).unwrap_or_default(),
            names(fact.a.as_slice()),
            names(fact.b.as_slice()),
            fact.source,
            fact.message_id,
            verdict,
        ]
    };
    const HEAD: [&str; 6] = ["TIME", "IDENTIFIER", "OTHER", "SOURCE", "MESSAGE", "VERDICT"];
    if !answer.chain.is_empty() {
        output.line("what joins them")?;
        output.table(&HEAD, answer.chain.iter().map(fact).collect::<Vec<_>>())?;
    }
    output.line("facts in the order in which they count")?;
    output.table(&HEAD, answer.facts.iter().map(fact).collect::<Vec<_>>())?;
    if !answer.history.is_empty() {
        output.line("how the profile came to be")?;
        let rows = answer.history.iter().map(|change| {
            let at = json::time(change.at.as_ref()).unwrap_or_default();
            vec![at, names(&change.came), names(&change.left), change.rules_version.to_string()]
        });
        output.table(&["TIME", "CAME", "LEFT", "RULES"], rows.collect::<Vec<_>>())?;
    }
    if !answer.retractions.is_empty() {
        output.line("what was taken back")?;
        let rows = answer.retractions.iter().map(|retraction| {
            let given = json::time(retraction.given_at.as_ref()).unwrap_or_default();
            let until = json::time(retraction.until.as_ref()).unwrap_or_else(|| "for ever".to_owned());
            let (by, reason) = (harmless(&retraction.by), harmless(&retraction.reason));
            vec![given, retraction.id.clone(), until, by.to_string(), reason.to_string()]
        });
        output.table(&["GIVEN", "ID", "UNTIL", "BY", "REASON"], rows.collect::<Vec<_>>())?;
    }
    Ok(Done::Well)
}

fn names(identifiers: &[proto::Identifier]) -> String {
    let names = identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value));
    names.collect::<Vec<_>>().join(", ")
}
