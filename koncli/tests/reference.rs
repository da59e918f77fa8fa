//! The reference of the command line, written from the definition of each flag.
//!
//! `KONCLI_REFERENCE=write cargo test -p koncli --test reference` writes it anew.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;
use koncli::args::Args;

fn reference() -> String {
    let mut text = "<!-- Written from koncli/src/args.rs; KONCLI_REFERENCE=write cargo test -p koncli --test reference -->\n".to_owned();
    let mut command = Args::command().term_width(100);
    command.build();
    let everywhere = command.clone().mut_subcommands(|sub| sub.hide(true)).render_long_help().to_string();
    let (_, options) = everywhere.split_once("Options:").unwrap();
    let lines: Vec<_> = options.trim_end().lines().map(str::trim_end).collect();
    write!(text, "\nWith every command:\n\n```text\nOptions:{}\n```\n", lines.join("\n")).unwrap();
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        section(&mut text, sub, "koncli", 2);
    }
    text
}

/// A command, and what stands below it.
fn section(text: &mut String, command: &mut clap::Command, above: &str, level: usize) {
    let name = format!("{above} {}", command.get_name());
    // Where a command is, is said once, at the top.
    let mut shown = command.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    let help = shown.render_long_help().to_string();
    let (about, usage) = help.split_once("\n\n").unwrap();
    let lines: Vec<_> = usage.lines().map(str::trim_end).collect();
    write!(text, "\n{} {name}\n\n{about}.\n\n```text\n{}\n```\n", "#".repeat(level), lines.join("\n"))
        .unwrap();
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        section(text, sub, &name, level + 1);
    }
}

#[test]
fn the_reference_is_what_the_definition_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/koncli-commands.inc");
    if std::env::var_os("KONCLI_REFERENCE").is_some() {
        std::fs::write(&file, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        written,
        reference(),
        "KONCLI_REFERENCE=write cargo test -p koncli --test reference writes it anew"
    );
}
