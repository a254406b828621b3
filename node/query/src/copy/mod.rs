//! `COPY (…) TO 'file or URL'`.
//!
//! Files are written by the node that got the statement, below the folder that its operator named, or below the URLs
//! that were named; and nothing elsewhere. A path that ends in `/` becomes a folder of parts that are written side by
//! side, a URL that does, one of parts that every node writes of the rows that it has ([`parts`]); any other is one file. What
//! is written to a folder has another name until it is complete, so nobody reads half of it; nothing is written over. The files
//! of one statement have a bound in bytes, as the disk may be the one that the node lives on; what goes to URLs has none.

mod encode;
mod exports;
mod parts;
mod upload;
mod write;

use std::{
    hash::{BuildHasher, RandomState},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::CopyToStatement;
pub(crate) use exports::Exports;
pub use exports::check_export_url;
pub(crate) use parts::{Parts, WriteExec, WriteParts};
use serde::{Deserialize, Serialize};
use url::Url;
pub(crate) use write::{copy, to_object};

use crate::error::QueryError;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Format {
    Parquet,
    Csv,
    Json,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// Where rows go, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As it was said.
    path: String,
    /// Where it is one.
    url: Option<Url>,
    format: Format,
    in_parts: bool,
}

/// A number that no other has.
fn number_of(what: &str) -> u64 {
    RandomState::new().hash_one(what)
}

/// What a `COPY` answers.
pub(crate) fn answer_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("rows", DataType::Int64, false),
        Field::new("files", DataType::Int64, false),
    ]))
}

impl Target {
    /// Of a statement.
    ///
    /// # Errors
    /// It wants what isn't there.
    pub(crate) fn of(copy: &CopyToStatement) -> Result<Self, QueryError> {
        if !copy.partitioned_by.is_empty() || !copy.options.is_empty() {
            return Err(QueryError::invalid("COPY takes STORED AS PARQUET, CSV or JSON, and no options"));
        }
        let path = copy.target.clone();
        let bad = |error: url::ParseError| QueryError::invalid(format!("{path} is no URL: {error}"));
        let url = path.contains("://").then(|| Url::parse(&path).map_err(bad)).transpose()?;
        let by_name =
            Path::new(&path).extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let said = copy.stored_as.as_ref().map(|said| said.to_lowercase()).or(by_name);
        let format = match said.as_deref() {
            Some("parquet") => Format::Parquet,
            Some("csv") => Format::Csv,
            Some("json" | "ndjson" | "jsonl") => Format::Json,
            _ => return Err(QueryError::invalid("say how to write it: STORED AS PARQUET, CSV or JSON")),
        };
        Ok(Self { in_parts: path.ends_with('/'), url, path, format })
    }

    /// The URL, if it is one that every node writes below.
    pub(crate) fn parts(&self) -> Option<(&Url, Format)> {
        self.url.as_ref().filter(|_| self.in_parts).map(|url| (url, self.format))
    }

    /// The URL, if it is that of one object.
    pub(crate) fn object(&self) -> Option<(&Url, Format)> {
        self.url.as_ref().filter(|_| !self.in_parts).map(|url| (url, self.format))
    }

    /// The path below `export_dir`, whose folder exists.
    fn place(&self, export_dir: Option<&Path>) -> Result<PathBuf, QueryError> {
        let Some(root) = export_dir else {
            return Err(QueryError::invalid(
                "COPY is switched off on this node: set query.export_dir to a folder",
            ));
        };
        let outside = || QueryError::invalid("COPY writes below the node's query.export_dir only");
        let internal =
            |what: &str, error: std::io::Error| QueryError::Internal(format!("COPY can't {what}: {error}"));
        let root = root.canonicalize().map_err(|error| internal("use query.export_dir", error))?;
        let said = Path::new(&self.path);
        let below = if said.is_absolute() { said.strip_prefix(&root).map_err(|_| outside())? } else { said };
        if below.as_os_str().is_empty()
            || !below.components().all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(outside());
        }
        let place = root.join(below);
        let folder = place.parent().ok_or_else(outside)?;
        // A link inside could lead out again: what is there is looked at before anything is made.
        let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(&root);
        if !there.canonicalize().map_err(|error| internal("use the folder", error))?.starts_with(&root) {
            return Err(outside());
        }
        std::fs::create_dir_all(folder).map_err(|error| internal("make the folder", error))?;
        if !folder.canonicalize().map_err(|error| internal("use the folder", error))?.starts_with(&root) {
            return Err(outside());
        }
        if place.symlink_metadata().is_ok() {
            return Err(QueryError::invalid(format!("{} is there already", self.path)));
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        Target { path: path.to_owned(), url: None, format: Format::Csv, in_parts: false }
    }

    #[test]
    fn nothing_is_written_outside_the_export_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.join("out")).unwrap();
        std::fs::write(root.join("old.csv"), "x").unwrap();
        for bad in
            ["out/new/x.csv", "../x.csv", "/etc/x.csv", "a/../../x.csv", "out/x.csv", "", "old.csv", "."]
        {
            assert!(matches!(target(bad).place(Some(root)), Err(QueryError::Invalid { .. })), "{bad}");
        }
        assert!(!elsewhere.path().join("new").exists(), "nothing is made outside");
        assert!(matches!(target("x.csv").place(None), Err(QueryError::Invalid { .. })));
        let place = target("a/b/x.csv").place(Some(root)).unwrap();
        assert!(place.ends_with("a/b/x.csv") && place.parent().unwrap().is_dir());
        let absolute = root.canonicalize().unwrap().join("y.csv");
        assert_eq!(target(absolute.to_str().unwrap()).place(Some(root)).unwrap(), absolute);
    }
}
