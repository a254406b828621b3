//! The admin CLI as a process.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// The program and its leading arguments.
#[derive(Clone, Debug)]
pub struct Cli(pub Vec<String>);

/// What a run of the CLI ended with.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// The JSON objects on standard output, one a line.
    ///
    /// # Panics
    /// When a line is none.
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The last object on standard output.
    ///
    /// # Panics
    /// When there is none.
    pub fn last(&self) -> Value {
        self.objects().pop().unwrap_or_else(|| panic!("nothing was printed; {}", self.err))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Cli {
    fn command(&self, endpoints: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).args(arguments).env("ISTHMUS_ENDPOINT", endpoints).stdin(Stdio::null());
        // No state is kept in people's own folders.
        command.env_remove("XDG_STATE_HOME").env_remove("HOME").env_remove("ISTHMUS_WRITE_KEY");
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run(&self, endpoints: &str, arguments: &[&str]) -> Ended {
        self.command(endpoints, arguments).output().unwrap().into()
    }

    /// The same with `--output json`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn json(&self, endpoints: &str, arguments: &[&str]) -> Ended {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        self.run(endpoints, &arguments)
    }

    /// Starts `ingest` of a file and lets it run.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_ingest(&self, endpoints: &str, file: &Path) -> Child {
        self.command(
            endpoints,
            &["ingest", &file.display().to_string(), "--output", "json", "--retry-for", "5m"],
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
    }
}
