//! Which files are meant: files as named, folders with all that is in them, patterns for shells that don't expand them.
//!
//! A file in a folder is named by its path from there: it is part of made message ids, which then don't depend on where
//! the folder lies. In folders, and behind patterns, only files of a known kind are taken; the others are named. What
//! begins with `.` or `_` is not looked at: such files are other programs' own.

use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{FileFormat, files::format_of_name};
use crate::cli::failure::Failure;

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is; standard input when absent.
    pub path: Option<PathBuf>,
    /// Its name, from the folder or the fixed part of the pattern that it was found by.
    pub name: String,
}

/// Files in the order in which they are sent, and those left out.
#[derive(Debug, Default)]
pub struct Finds {
    pub files: Vec<Found>,
    pub left_out: Vec<PathBuf>,
}

/// Finds the files that arguments mean. With a `format` given, patterns take every file.
pub fn find(arguments: &[PathBuf], format: Option<FileFormat>) -> Result<Finds, Failure> {
    let mut finds = Finds::default();
    for argument in arguments {
        let before = finds.files.len();
        if argument.as_os_str() == "-" {
            finds.files.push(Found { path: None, name: "stdin".to_owned() });
        } else if argument.is_dir() {
            folder(argument, argument, &mut finds)?;
        } else if let Some(pattern) = pattern(argument) {
            matching(pattern, format, &mut finds)?;
        } else {
            let name = argument.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| wrong(argument, "not the name of a file"))?.to_owned();
            finds.files.push(Found { path: Some(argument.clone()), name });
        }
        if finds.files.len() == before {
            let what =
                "holds no file of JSON lines, CSV or Parquet (.jsonl, .csv, .parquet, …, also .gz and .zst)";
            return Err(wrong(argument, what));
        }
    }
    Ok(finds)
}

fn wrong(path: &Path, what: &str) -> Failure {
    Failure::Usage(format!("{}: {what}", path.display()))
}

/// All files of a folder, by name, those of folders in it too.
fn folder(folder: &Path, from: &Path, finds: &mut Finds) -> Result<(), Failure> {
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_own(entry)) {
        let entry = entry.map_err(|error| Failure::Usage(error.to_string()))?;
        if entry.file_type().is_file() {
            take(entry.path(), from, None, finds)?;
        }
    }
    Ok(())
}

/// Whether other programs keep a file or folder for themselves.
fn is_own(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().first().is_some_and(|first| matches!(first, b'.' | b'_'))
}

fn take(path: &Path, from: &Path, format: Option<FileFormat>, finds: &mut Finds) -> Result<(), Failure> {
    let inner = path.strip_prefix(from).unwrap_or(path);
    let name = inner.to_str().ok_or_else(|| wrong(path, "its name isn't UTF-8: rename it"))?;
    if format.or(format_of_name(name)).is_none() {
        finds.left_out.push(path.to_owned());
    } else {
        finds.files.push(Found { path: Some(path.to_owned()), name: name.to_owned() });
    }
    Ok(())
}

/// The argument as a pattern, unless it is none or a file is called so.
fn pattern(argument: &Path) -> Option<&str> {
    argument.to_str().filter(|text| text.contains(['*', '?', '[']) && !argument.exists())
}

fn matching(pattern: &str, format: Option<FileFormat>, finds: &mut Finds) -> Result<(), Failure> {
    let bad = |what: String| Failure::Usage(format!("{pattern}: {what}"));
    let paths = glob::glob(pattern).map_err(|error| bad(format!("isn't a pattern: {error}")))?;
    let is_fixed = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let from: PathBuf = Path::new(pattern).components().take_while(is_fixed).collect();
    for path in paths {
        let path = path.map_err(|error| bad(error.to_string()))?;
        match path.is_dir() {
            true => folder(&path, &from, finds)?,
            false => take(&path, &from, format, finds)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_and_patterns_give_known_files_by_name_and_tell_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let files = [
            "b.jsonl",
            "a.csv.gz",
            "2024/x.parquet",
            "2024/.hidden.csv",
            "_SUCCESS",
            "read.me",
            "2023/x.ndjson",
            ".git/c.csv",
        ];
        for file in files {
            fs::create_dir_all(at.join(file).parent().unwrap()).unwrap();
            fs::write(at.join(file), "").unwrap();
        }
        let names = |finds: Finds| finds.files.into_iter().map(|found| found.name).collect::<Vec<_>>();
        let finds = find(&[at.to_owned()], None).unwrap();
        assert_eq!(finds.left_out, [at.join("read.me")]);
        assert_eq!(names(finds), ["2023/x.ndjson", "2024/x.parquet", "a.csv.gz", "b.jsonl"]);
        assert_eq!(names(find(&[at.join("*.jsonl")], None).unwrap()), ["b.jsonl"]);
        assert_eq!(names(find(&[at.join("20*/x.*")], None).unwrap()), ["2023/x.ndjson", "2024/x.parquet"]);
        assert_eq!(names(find(&[at.join("**/x.*")], None).unwrap()), ["2023/x.ndjson", "2024/x.parquet"]);
        assert_eq!(names(find(&[at.join("20*")], None).unwrap()), ["2023/x.ndjson", "2024/x.parquet"]);
        assert_eq!(names(find(&[at.join("*.me")], Some(FileFormat::Csv)).unwrap()), ["read.me"]);
        for nothing in ["*.tsv", "*.me", ".git/*.x"] {
            assert!(find(&[at.join(nothing)], None).is_err(), "{nothing}");
        }
        assert!(matches!(find(&[at.join("[a.csv")], None), Err(Failure::Usage(_))));
        // A file that is called like a pattern is that file.
        fs::write(at.join("a[1].csv"), "").unwrap();
        assert_eq!(names(find(&[at.join("a[1].csv")], None).unwrap()), ["a[1].csv"]);
    }
}
