//! Schemas as JSON.

use serde::Serialize;
use serde_json::value::RawValue;

use super::time;
use crate::proto::{self, SchemaCompatibility, SchemaPolicy};

/// A schema without its text.
#[derive(Debug, Clone, Serialize)]
pub struct Schema<'a> {
    name: &'a str,
    version: u64,
    policy: &'static str,
    compatibility: &'static str,
    created_at: Option<String>,
}

/// The name of a policy.
fn policy_name(policy: SchemaPolicy) -> &'static str {
    match policy {
        SchemaPolicy::Unspecified => "unknown",
        SchemaPolicy::Reject => "reject",
        SchemaPolicy::Quarantine => "quarantine",
        SchemaPolicy::Flag => "flag",
    }
}

/// The name of a compatibility.
fn compatibility_name(compatibility: SchemaCompatibility) -> &'static str {
    match compatibility {
        SchemaCompatibility::Unspecified => "unknown",
        SchemaCompatibility::Backward => "backward",
        SchemaCompatibility::Forward => "forward",
        SchemaCompatibility::Full => "full",
        SchemaCompatibility::None => "none",
    }
}

impl Schema<'_> {
    /// Its parts, for a table.
    pub fn row(&self) -> Vec<String> {
        let created = self.created_at.clone().unwrap_or_default();
        let (policy, compatibility) = (self.policy.to_owned(), self.compatibility.to_owned());
        vec![self.name.to_owned(), self.version.to_string(), policy, compatibility, created]
    }
}

impl<'a> From<&'a proto::Schema> for Schema<'a> {
    fn from(schema: &'a proto::Schema) -> Self {
        Self {
            name: &schema.name,
            version: schema.version,
            policy: policy_name(schema.policy()),
            compatibility: compatibility_name(schema.compatibility()),
            created_at: time(schema.created_at.as_ref()),
        }
    }
}

/// A schema with its text; `isthmus schema put` takes it as it is printed.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaText<'a> {
    #[serde(flatten)]
    about: Schema<'a>,
    schema: &'a RawValue,
}

impl<'a> SchemaText<'a> {
    /// Of a schema whose text was asked for.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub fn of(schema: &'a proto::Schema) -> Result<Self, serde_json::Error> {
        Ok(Self { about: schema.into(), schema: serde_json::from_str(&schema.schema_json)? })
    }
}

/// Whether a schema could be put.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaCheck<'a> {
    name: &'a str,
    valid: bool,
    compatible: bool,
    compatibility: &'static str,
    version: Option<u64>,
    problems: Vec<Problem<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct Problem<'a> {
    at: &'a str,
    what: &'a str,
}

impl<'a> SchemaCheck<'a> {
    /// Of an answer about the schema of a name.
    pub fn of(name: &'a str, check: &'a proto::CheckSchemaResponse) -> Self {
        let problems = check.problems.iter().map(|problem| Problem { at: &problem.at, what: &problem.what });
        Self {
            name,
            valid: check.valid,
            compatible: check.compatible,
            compatibility: compatibility_name(check.compatibility()),
            version: Some(check.version).filter(|&version| version != 0),
            problems: problems.collect(),
        }
    }
}
