//! How a command ends, and the exit code for it.

use std::{io, process::ExitCode};

use crate::Error;

/// A command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// All is well: 0.
    Well,
    /// It did what it was asked, and the answer is "no" (an unhealthy cluster): 1.
    NotWell,
    /// Some items were quarantined or rejected: 3.
    WithRejects,
    /// Somebody pressed Ctrl-C: 130, as a shell would say.
    Interrupted,
}

/// A command that did not.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Asked for wrongly: 2.
    #[error("{0}")]
    Usage(String),
    /// The hub could not or would not: 1; 2 when the client could not even ask.
    #[error(transparent)]
    Client(#[from] Error),
    /// Output could not be written: 1; 0 when nobody reads it any more.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
    /// Anything else: 1.
    #[error("{0}")]
    Failed(String),
}

impl Done {
    pub fn code(self) -> ExitCode {
        match self {
            Self::Well => ExitCode::SUCCESS,
            Self::NotWell => ExitCode::from(1),
            Self::WithRejects => ExitCode::from(3),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl Failure {
    /// Says what went wrong and what to do about it, and gives the exit code.
    pub fn report(self) -> ExitCode {
        if let Self::Output(error) = &self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        super::output::complain(&format!("error: {self}"));
        if let Self::Client(error) = &self {
            if let Error::Refused(refusal) = error {
                for (field, problem) in &refusal.fields {
                    super::output::complain(&format!("  {field}: {problem}"));
                }
            }
            if let Some(advice) = error.advice() {
                super::output::complain(&format!("  {advice}"));
            }
        }
        match self {
            Self::Usage(_) | Self::Client(Error::Usage(_)) => {
                super::output::complain("  `--help` says what is possible");
                ExitCode::from(2)
            }
            _ => ExitCode::from(1),
        }
    }
}
