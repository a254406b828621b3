//! Runs the binary `isthmus`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::process::{Command, Output, Stdio};

/// What a run of the binary gave.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Standard output as JSON, one object a line.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        let object = |line| serde_json::from_str::<serde_json::Value>(line);
        let objects: Result<Vec<_>, _> = self.stdout.lines().map(object).collect();
        let objects = objects.unwrap_or_else(|error| panic!("{error}: {}", self.stdout));
        assert!(objects.iter().all(serde_json::Value::is_object), "{}", self.stdout);
        objects
    }

    /// The only object printed.
    pub fn object(&self) -> serde_json::Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{}{}", self.stdout, self.stderr);
        objects.remove(0)
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let run = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("prints UTF-8"),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        run
    }
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command
        .args(args)
        .env_remove("ISTHMUS_ENDPOINT")
        .env_remove("ISTHMUS_WRITE_KEY")
        // No state is kept in people's own folders.
        .env_remove("XDG_STATE_HOME")
        .env_remove("HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn run(args: &[&str]) -> Run {
    command(args).output().expect("runs").into()
}
