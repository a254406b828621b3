//! The layers above the defaults, and where each key stands in them.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use figment::{
    error::Kind,
    value::{Dict, Value},
};
use toml::de::{DeTable, DeValue};

use crate::{Error, Result, args::ServeArgs};

/// What all of our variables begin with.
const PREFIX: &str = "ISTHMUS_";
/// Variables that belong to others: the log, the client, builds, `--config` itself.
const NOT_SETTINGS: [&str; 4] = ["LOG", "ENDPOINT", "COMMIT", "CONFIG"];
/// How deep settings are nested, with room for more: all of them lie in parts of the node.
const NESTED_MAX: usize = 4;
/// What begins like this is for tests.
const FOR_TESTS: &str = "TEST_";

/// The layers above the defaults.
#[derive(Debug, Default)]
pub(super) struct Sources {
    path: PathBuf,
    /// The file's content.
    pub(super) file: toml::Table,
    /// What the environment says.
    pub(super) env: Dict,
    /// Line of each key in the file, by its dotted path.
    lines: BTreeMap<String, usize>,
    /// Variable of each key, by its dotted path.
    variables: BTreeMap<String, String>,
    /// Keys that the command line gives.
    options: Vec<String>,
}

impl Sources {
    pub(super) fn read(args: &ServeArgs, env: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut sources = Self { options: given(args), ..Self::default() };
        if let Some(path) = &args.config {
            sources.path.clone_from(path);
            sources.read_file()?;
        }
        for (name, value) in env {
            let Some(key) = name.strip_prefix(PREFIX).filter(|key| is_setting(key)) else { continue };
            let key = key.to_lowercase().replace("__", ".");
            put(&mut sources.env, &key, &value, NESTED_MAX);
            sources.variables.insert(key, name);
        }
        Ok(sources)
    }

    fn read_file(&mut self) -> Result<()> {
        let located = |line: Option<usize>, problem: String| Error::Located {
            place: match line {
                Some(line) => format!("{}:{line}", self.path.display()),
                None => self.path.display().to_string(),
            },
            key: "config".to_owned(),
            problem,
        };
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| located(None, format!("the file can't be read: {error}")))?;
        let malformed = |error: toml::de::Error| {
            let line = error.span().map(|span| line_of(&text, &span));
            located(line, error.message().to_owned())
        };
        let spans = DeTable::parse(&text).map_err(malformed)?;
        let mut lines = BTreeMap::new();
        collect(&text, "", spans.get_ref(), &mut lines);
        self.file = toml::from_str(&text).map_err(malformed)?;
        self.lines = lines;
        Ok(())
    }

    /// Where a key was set; the layer that counts comes first.
    fn place(&self, key: &str) -> Option<String> {
        if self.options.iter().any(|option| option == key) {
            return Some(format!("--{}", key.replace('_', "-")));
        }
        if let Some(variable) = self.variables.get(key) {
            return Some(variable.clone());
        }
        self.lines.get(key).map(|line| format!("{}:{line}", self.path.display()))
    }

    /// See [`super::Loaded::locate`].
    pub(super) fn locate(&self, error: Error) -> Error {
        match error {
            Error::Setting { key, problem } => match self.place(&key) {
                Some(place) => Error::Located { place, key, problem },
                None => Error::Located { place: "by default".to_owned(), key, problem },
            },
            other => other,
        }
    }

    /// What figment says, in our words.
    pub(super) fn refused(&self, error: figment::Error) -> Error {
        let mut path = error.path.clone();
        let problem = match &error.kind {
            Kind::UnknownField(name, known) => {
                if path.last() != Some(name) {
                    path.push(name.clone());
                }
                format!("there is no such key; known are {}", known.join(", "))
            }
            kind => kind.to_string(),
        };
        self.locate(Error::Setting { key: path.join("."), problem })
    }
}

/// The keys that the command line gives.
fn given(args: &ServeArgs) -> Vec<String> {
    match Value::serialize(args) {
        Ok(Value::Dict(_, dict)) => dict.into_keys().collect(),
        _ => Vec::new(),
    }
}

/// Whether a variable, its prefix cut, is meant as a setting. Kubernetes gives every container variables about every
/// service (`ISTHMUS_SERVICE_HOST`, `ISTHMUS_PORT_7400_TCP_ADDR`); those aren't.
fn is_setting(key: &str) -> bool {
    let of_service = key.contains("SERVICE_HOST") || key.contains("SERVICE_PORT");
    let of_link =
        key == "PORT" || key.starts_with("PORT_") || key.contains("_PORT_") || key.ends_with("_PORT");
    !(of_service || of_link || NOT_SETTINGS.contains(&key) || key.starts_with(FOR_TESTS))
}

/// Sets a dotted key. Values are read as figment reads them: numbers, booleans, lists, else text. What is nested deeper than
/// any setting stays one name, which nobody knows.
fn put(dict: &mut Dict, key: &str, text: &str, deeper: usize) {
    let value = text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
    match key.split_once('.').filter(|_| deeper > 0) {
        None => {
            dict.insert(key.to_owned(), value);
        }
        Some((part, rest)) => {
            let inner = dict.entry(part.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                put(inner, rest, text, deeper - 1);
            }
        }
    }
}

fn collect(text: &str, prefix: &str, table: &DeTable<'_>, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        lines.entry(path.clone()).or_insert_with(|| line_of(text, &key.span()));
        if let DeValue::Table(inner) = value.get_ref() {
            collect(text, &path, inner, lines);
        }
    }
}

/// The line that a span begins at, from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
}
