//! The shell: statements over several lines, a history that is kept, commands that begin with a backslash.
//!
//! Lines are read on a thread of their own, since reading one waits for people. The history is a file of the user's alone.

use std::{env, fs, path::PathBuf};

use rustyline::{Config, DefaultEditor, error::ReadlineError};
use tokio::task::spawn_blocking;

use super::{
    Session, is_said,
    meta::{self, Meta},
    statements,
};
use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain},
};

/// Statements that are remembered.
const HISTORY_MAX: usize = 10_000;
const PROMPT: &str = "isthmus=> ";
const PROMPT_GOES_ON: &str = "isthmus-> ";

/// What was typed.
enum Typed {
    Line(String),
    /// Ctrl-C.
    TakenBack,
    /// Ctrl-D.
    End,
}

/// The editor, which goes to the thread that reads and comes back.
struct Lines {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Lines {
    fn open() -> Result<Self, Failure> {
        let failed = |error: ReadlineError| Failure::Failed(format!("the terminal can't be used: {error}"));
        let config =
            Config::builder().auto_add_history(false).max_history_size(HISTORY_MAX).map_err(failed)?;
        let mut editor = DefaultEditor::with_config(config.build()).map_err(failed)?;
        let history = history_file();
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    async fn read(mut self, prompt: &'static str) -> Result<(Self, Typed), Failure> {
        let read = spawn_blocking(move || {
            let line = self.editor.readline(prompt);
            (self, line)
        });
        let (lines, line) =
            read.await.map_err(|error| Failure::Failed(format!("the shell broke: {error}")))?;
        let typed = match line {
            Ok(line) => Typed::Line(line),
            Err(ReadlineError::Interrupted) => Typed::TakenBack,
            Err(ReadlineError::Eof) => Typed::End,
            Err(error) => return Err(Failure::Failed(format!("can't read: {error}"))),
        };
        Ok((lines, typed))
    }

    /// Remembers what was carried out. A history that can't be kept is none; the shell goes on without.
    fn remember(&mut self, text: &str) {
        let _ = self.editor.add_history_entry(text.trim());
        if let Some(file) = &self.history {
            let _ = self.editor.save_history(file);
        }
    }
}

/// `$XDG_STATE_HOME/isthmus/sql_history`, or below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("isthmus");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// Reads and carries out until the end.
pub async fn run(mut session: Session, output: &mut Output) -> Result<Done, Failure> {
    let mut lines = Lines::open()?;
    complain("isthmus sql: a statement ends with ; and \\? is help");
    let mut text = String::new();
    loop {
        let prompt = if statements::is_blank(&text) { PROMPT } else { PROMPT_GOES_ON };
        let (back, typed) = lines.read(prompt).await?;
        lines = back;
        let line = match typed {
            Typed::Line(line) => line,
            Typed::TakenBack => {
                text.clear();
                continue;
            }
            Typed::End => return Ok(Done::Well),
        };
        if statements::is_blank(&text)
            && let Some(command) = meta::read(&line)
        {
            text.clear();
            lines.remember(&line);
            if command == Meta::Quit {
                return Ok(Done::Well);
            }
            said(command_of(command, &mut session, output).await)?;
            output.flush()?;
            continue;
        }
        text.push_str(&line);
        text.push('\n');
        let (statements, rest) = statements::split(&text);
        if !statements.is_empty() {
            lines.remember(text.strip_suffix(rest).unwrap_or(&text));
        }
        for statement in statements {
            match session.carry_out(statement, output).await {
                Ok(Done::Interrupted) => complain("stopped"),
                Ok(_) => {}
                Err(failure) => {
                    said(Err(failure))?;
                    break;
                }
            }
        }
        text = rest.to_owned();
    }
}

async fn command_of(command: Meta<'_>, session: &mut Session, output: &mut Output) -> Result<(), Failure> {
    match command {
        Meta::Tables => session.describe(None, output).await?,
        Meta::Columns(table) => session.describe(Some(table), output).await?,
        Meta::Timing(on) => {
            session.timing = on.unwrap_or(!session.timing);
            complain(if session.timing { "timing is on" } else { "timing is off" });
        }
        Meta::Help => output.line(meta::HELP)?,
        Meta::Unknown(text) => {
            let text = crate::cli::output::harmless(text);
            complain(&format!("{text} is no command: \\? says what is possible"));
        }
        Meta::Quit => {}
    }
    Ok(())
}

/// Says what failed and goes on, unless nothing can be said any more.
fn said(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if is_said(&failure) => {
            let _code = failure.report();
            Ok(())
        }
        other => other,
    }
}
