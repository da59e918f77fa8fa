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
    for sub in command.get_subcommands_mut() {
        let help = sub.render_long_help().to_string();
        let (about, usage) = help.split_once("\n\n").unwrap();
        let lines: Vec<_> = usage.lines().map(str::trim_end).collect();
        write!(text, "\n## koncli {}\n\n{about}.\n\n```text\n{}\n```\n", sub.get_name(), lines.join("\n"))
            .unwrap();
    }
    text
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
