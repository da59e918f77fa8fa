//! Tests of the project's papers: a link that leads nowhere is a bug.
//!
//! Reads the Markdown files of the tree. What must stay true: every relative link and every include leads to a file,
//! every page of the book is in its table of contents, and commands that are told exist.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::images::root;

/// Folders with papers; the top's own files come beside them.
const FOLDERS: [&str; 2] = ["docs/src", "examples"];

fn markdown(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            markdown(&path, deep, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

fn papers() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    markdown(root(), false, &mut found);
    for folder in FOLDERS {
        markdown(&root().join(folder), true, &mut found);
    }
    assert!(found.len() > 15, "{found:?}");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What stands between each pair of these.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| rest.split(close).next()).collect()
}

#[test]
fn every_relative_link_and_every_include_leads_to_a_file() {
    for (paper, text) in papers() {
        let folder = paper.parent().unwrap();
        let links = between(&text, "](", ')').into_iter().filter(|link| !link.contains("://"));
        let links = links.map(|link| link.split('#').next().unwrap());
        let includes =
            between(&text, "{{#include ", '}').into_iter().map(|path| path.split(':').next().unwrap());
        for target in links.chain(includes).filter(|target| !target.is_empty()) {
            assert!(folder.join(target).exists(), "{}: {target} leads nowhere", paper.display());
        }
    }
}

#[test]
fn every_link_to_a_heading_finds_it() {
    for (paper, text) in papers() {
        for link in between(&text, "](", ')').into_iter().filter(|link| !link.contains("://")) {
            let Some((file, wanted)) = link.split_once('#') else { continue };
            let target = if file.is_empty() { paper.clone() } else { paper.parent().unwrap().join(file) };
            let headings = fs::read_to_string(&target).unwrap();
            let there =
                headings.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == wanted);
            assert!(there, "{}: {link}: there is no such heading", paper.display());
        }
    }
}

/// As mdBook and the usual forges make it of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ => character.is_alphanumeric().then_some(character),
        })
        .collect()
}

#[test]
fn every_page_of_the_book_is_in_its_table_of_contents() {
    let book = root().join("docs/src");
    let contents = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    let mut pages = Vec::new();
    markdown(&book, true, &mut pages);
    for page in pages {
        let name = page.strip_prefix(&book).unwrap().display().to_string();
        // Tables are included into pages.
        if name == "SUMMARY.md" || name.starts_with("reference/generated/") {
            continue;
        }
        assert!(contents.contains(&format!("]({name})")), "{name} is not in SUMMARY.md");
    }
}

#[test]
fn every_command_that_is_told_exists() {
    let command = crate::Arguments::command();
    let mut told = 0;
    for (paper, text) in papers() {
        for rest in text.split("cargo xtask ").skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            if word.is_empty() {
                continue;
            }
            told += 1;
            assert!(
                command.find_subcommand(&word).is_some(),
                "{}: there is no cargo xtask {word}",
                paper.display()
            );
        }
    }
    assert!(told > 10, "{told}");
}
