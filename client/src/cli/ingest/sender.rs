//! As whom events are sent.

use std::{env, fs::File, io::Read as _, path::Path};

use super::IngestCommand;
use crate::cli::failure::Failure;

/// Holds a write key, where the command line names nobody.
const ENVIRONMENT: &str = "ISTHMUS_WRITE_KEY";
/// Files larger than this hold something else.
const KEY_BYTES_MAX: u64 = 4 << 10;

/// As whom events are sent.
#[derive(PartialEq, Eq)]
pub enum Sender {
    /// The hub's built-in source.
    Default,
    /// A source by its name.
    Source(String),
    /// Whoever the write key belongs to.
    Key(String),
}

impl Sender {
    /// Whom a command names, else whose write key stands in the environment.
    ///
    /// # Errors
    /// [`Failure::Usage`] when a file holds no write key, or what is said of one isn't text.
    pub fn of(command: &IngestCommand) -> Result<Self, Failure> {
        if let Some(source) = &command.source {
            return Ok(Self::Source(source.clone()));
        }
        if let Some(key) = &command.write_key {
            return Ok(Self::Key(key.clone()));
        }
        if let Some(file) = &command.write_key_file {
            return Ok(Self::Key(in_file(file)?));
        }
        match env::var(ENVIRONMENT) {
            Ok(key) if !key.trim().is_empty() => Ok(Self::Key(key.trim().to_owned())),
            Ok(_) | Err(env::VarError::NotPresent) => Ok(Self::Default),
            Err(env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!(
                "the environment's {ENVIRONMENT} holds no write key: it isn't text"
            ))),
        }
    }
}

/// The write key in a file, without the space around it. Errors name the file, and nothing of what it holds.
fn in_file(file: &Path) -> Result<String, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Failure::Usage(format!("--write-key-file {}: {problem}", file.display()))
    };
    let mut text = String::new();
    let mut content = File::open(file).map_err(|error| wrong(&error))?.take(KEY_BYTES_MAX + 1);
    let bytes = content.read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if bytes as u64 > KEY_BYTES_MAX {
        return Err(wrong(&"holds no write key: it is too large"));
    }
    let key = text.trim();
    match key.is_empty() || key.contains(char::is_whitespace) {
        true => Err(wrong(&"has to hold a write key and nothing else")),
        false => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_key_and_nothing_else_and_errors_keep_it_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = |content: &str| {
            let path = folder.path().join("key");
            std::fs::write(&path, content).unwrap();
            path
        };
        assert_eq!(in_file(&file(" iswk_1\n")).unwrap(), "iswk_1");
        for wrong in ["", " \n", "iswk_1 iswk_2", "iswk_1\niswk_2", &"k".repeat(5_000)] {
            let error = in_file(&file(wrong)).unwrap_err().to_string();
            assert!(error.contains("key: h") && !error.contains("iswk"), "{error}");
        }
        assert!(in_file(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
