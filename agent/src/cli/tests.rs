//! The help fits a terminal, and lyncwall accepts the commands in the documents.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, help};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_in_one_group_with_a_short_summary() {
    let listed: Vec<&str> = help::GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert_eq!(listed.iter().filter(|listed| **listed == name).count(), 1, "{name}");
        let summary = command.get_about().expect("a summary").to_string();
        assert!((1..=help::WIDTH).contains(&summary.chars().count()), "{name}: {summary}");
    }
    assert_eq!(listed.len(), Cli::command().get_subcommands().count(), "a name that is no command");
}

#[test]
fn the_overview_lists_every_global_option() {
    let overview = shown(&["lyncwall", "--help"]);
    for option in Cli::command().get_arguments().filter(|argument| argument.is_global_set()) {
        let name = option.get_long().expect("a long name");
        assert!(overview.contains(&format!("--{name}")), "--{name}");
        for default in option.get_default_values().iter().filter_map(|value| value.to_str()) {
            assert!(option.get_action().takes_values() == overview.contains(default), "--{name}: {default}");
        }
    }
}

#[test]
fn each_help_fits_a_terminal_and_has_one_example_that_parses() {
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut helps = vec![("lyncwall".to_owned(), shown(&["lyncwall", "--help"]))];
    for name in &names {
        for flag in ["--help", "-h"] {
            helps.push((name.clone(), shown(&["lyncwall", name, flag])));
        }
    }
    for (name, help) in helps {
        assert!(help.trim_end().lines().count() <= 24, "{name}: more than 24 lines:\n{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: wider than 80 columns: {line}");
        }
        let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("Example:")).collect();
        let [example] = examples[..] else { panic!("{name}: not one example:\n{help}") };
        let words = words(example);
        assert!(name == "lyncwall" || words.contains(&name), "{name}: {example}");
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{name}: {example}: {error}");
        }
    }
}

/// What a terminal of 80 columns shows for these arguments.
fn shown(arguments: &[&str]) -> String {
    let shown = Cli::command().term_width(80).try_get_matches_from(arguments).expect_err("help");
    assert_eq!(shown.kind(), clap::error::ErrorKind::DisplayHelp, "{arguments:?}: {shown}");
    shown.to_string()
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut seen = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document that can be read");
        for (line, words) in commands(&text) {
            if let Err(error) = Cli::try_parse_from(&words) {
                // Help and version end parsing with what they print.
                assert!(!error.use_stderr(), "{}:{line}: {words:?}: {error}", document.display());
            }
            seen.push(words);
        }
    }
    for wanted in Cli::command().get_subcommands() {
        let name = wanted.get_name();
        assert!(
            seen.iter().any(|words| words.iter().any(|word| word == name)),
            "no document shows `lyncwall {name}`"
        );
    }
}

#[test]
fn commands_are_found_behind_prompts_and_privileges() {
    let text = "lyncwall a\n```sh\n$ lyncwall roles  # all\nsudo lyncwall show a 'b c' | head\n\
                sh -c 'sleep 1; lyncwall detach' &\nls /usr/lib/lyncwall x\n```\nlyncwall b\n\
                1. c\n\n   ```sh\n   lyncwall status\n   ```\n";
    let found: Vec<_> = commands(text).into_iter().map(|(line, words)| (line, words.join("/"))).collect();
    let expected =
        [(3, "lyncwall/roles"), (4, "lyncwall/show/a/b c"), (5, "lyncwall/detach"), (12, "lyncwall/status")];
    assert_eq!(found, expected.map(|(line, words)| (line, words.to_owned())));
}

/// All Markdown documents of the repository.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the agent is in the repository");
    let mut found = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of documents") {
            let path = entry.expect("a folder that can be read").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found
}

/// The `lyncwall …` commands of the ```` ```sh ```` blocks as words, with their lines.
fn commands(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut shell = false;
    for (number, line) in (1..).zip(text.lines()) {
        // Blocks in lists are indented.
        let line = line.trim_start();
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell {
            let words = words(line);
            for (position, word) in words.iter().enumerate() {
                let begins = position == 0
                    || ["$", "#", "sudo", ";", "|", "&", "--"].contains(&words[position - 1].as_str());
                if word == "lyncwall" && begins {
                    let end =
                        words[position..].iter().position(|word| [";", "|", "&", "#"].contains(&&**word));
                    found.push((
                        number,
                        words[position..end.map_or(words.len(), |end| position + end)].to_vec(),
                    ));
                } else if word.contains("; lyncwall ") {
                    // The argument of `sh -c`.
                    let inner = format!("```sh\n{}\n```", word.replace("; ", "\n"));
                    found.extend(commands(&inner).into_iter().map(|(_, words)| (number, words)));
                }
            }
        }
    }
    found
}

/// Splits a shell's line into words, with the syntax that the documents use: quotes, and `;`, `|`, `&` as
/// words.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, ' ') => words.push(String::new()),
            (None, ';' | '|' | '&') => words.extend([character.to_string(), String::new()]),
            _ => words.last_mut().expect("never empty").push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
