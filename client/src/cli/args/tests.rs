//! The grammar, its help and its examples.
//!
//! `golden/help.txt` holds the whole help as people see it: a change of it is to be seen in a review. With
//! `ISTHMUS_UPDATE_GOLDEN=1` in the environment it is written anew.

use std::{env, fs};

use clap::{Command, CommandFactory as _};

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/help.txt");

/// All commands with their names from the first on, those without verbs marked.
fn commands() -> Vec<(Vec<String>, Command)> {
    fn walk(path: &[String], command: &Command, found: &mut Vec<(Vec<String>, Command)>) {
        found.push((path.to_vec(), command.clone()));
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            walk(&[path, &[verb.get_name().to_owned()]].concat(), verb, found);
        }
    }
    let mut all = Args::command();
    all.build();
    let mut found = Vec::new();
    walk(&["isthmus".to_owned()], &all, &mut found);
    found
}

/// The lines of examples in a command's help.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    help.lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with("isthmus "))
        .map(str::to_owned)
        .collect()
}

/// The commands of an example, as a shell would run them: without redirections, and without what is said about them.
fn as_run(example: &str) -> Vec<Vec<String>> {
    let said = example.split("    ").next().unwrap_or_default();
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let (mut quote, mut skip) = (None, false);
    for c in said.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => {
                let done = std::mem::take(&mut word);
                match done.as_str() {
                    "&&" => commands.push(std::mem::take(&mut words)),
                    ">" | ">>" | "<" => skip = true,
                    _ if std::mem::take(&mut skip) => {}
                    _ => words.push(done),
                }
            }
            (_, c) => word.push(c),
        }
    }
    commands.push(words);
    commands
}

#[test]
fn the_grammar_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_an_example_of_itself_and_each_example_is_understood() {
    let mut checked = 0;
    for (path, command) in commands() {
        let name = path.join(" ");
        let examples = examples(&command);
        assert!(examples.iter().any(|example| example.starts_with(&name)), "`{name} --help` has no example");
        for example in examples {
            for run in as_run(&example) {
                if let Err(error) = Args::try_parse_from(&run) {
                    panic!("`{name} --help` shows `{example}`: {error}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked} examples are too few to be all");
}

#[test]
fn exit_codes_are_in_the_help() {
    for (path, command) in commands() {
        if path.len() == 1 || path[1..] == ["ingest"] {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for code in ["0 done", "1 refused or failed", "2 usage", "3 done with quarantined", "130 stopped"]
            {
                assert!(help.contains(code), "{path:?}: {code}");
            }
        }
    }
}

#[test]
fn the_help_is_as_it_was_reviewed() {
    let mut text = String::new();
    for (path, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        text.push_str(&format!("$ {} --help\n{}\n\n", path.join(" "), lines.join("\n").trim_end()));
    }
    if env::var_os("ISTHMUS_UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, &text).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    let differ = golden.lines().zip(text.lines()).position(|(old, new)| old != new);
    let line = differ.unwrap_or_else(|| golden.lines().count().min(text.lines().count()));
    assert!(
        golden == text,
        "the help differs from {GOLDEN} from line {} on: {:?} is now {:?}. If that is meant, write it anew with \
         ISTHMUS_UPDATE_GOLDEN=1 and look at the difference",
        line + 1,
        golden.lines().nth(line),
        text.lines().nth(line)
    );
}

#[test]
fn every_shell_gets_its_completions() {
    use clap::ValueEnum as _;
    for shell in Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Args::command(), "isthmus", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["quarantine", "--resume-file", "timeline"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
}
