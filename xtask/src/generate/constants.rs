//! Tables of the constants that are part of the API: annotations, condition types and reasons.
//!
//! Pure: the text of a source file in, Markdown out. A constant's documentation is not there at run time, so the
//! source is read line by line; rustfmt gives it one shape. What must stay true: a constant that this cannot read is
//! an error and not a missing row.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};

use super::cell;

/// A documented text constant.
struct Constant {
    value: String,
    words: String,
    /// Does it stand in a module inside the file?
    inner: bool,
}

/// The table of everything that is written on other people's objects.
pub(super) fn annotations(source: &str) -> Result<String> {
    let constants = read(source)?;
    let ours: Vec<_> = constants.iter().filter(|constant| constant.value.contains('/')).collect();
    ensure!(ours.len() > 3, "no annotations were found in their source");
    let mut text = "| key | what it says |\n|---|---|\n".to_owned();
    for constant in ours {
        if constant.value == "konductor.io/" {
            continue;
        }
        // A prefix is followed by a number.
        let number = if constant.value.ends_with('-') { "N" } else { "" };
        writeln!(text, "| `{}{number}` | {} |", constant.value, cell(&constant.words))?;
    }
    Ok(text)
}

/// The tables of condition types and of their reasons.
pub(super) fn conditions(source: &str) -> Result<String> {
    let constants = read(source)?;
    let (reasons, types): (Vec<_>, Vec<_>) = constants.iter().partition(|constant| constant.inner);
    ensure!(types.len() > 3 && reasons.len() > 3, "no conditions were found in their source");
    let mut text = "| type | what it says |\n|---|---|\n".to_owned();
    for constant in types {
        writeln!(text, "| `{}` | {} |", constant.value, cell(&constant.words))?;
    }
    text.push_str("\n| reason | where, and what it says |\n|---|---|\n");
    for constant in reasons {
        writeln!(text, "| `{}` | {} |", constant.value, cell(&constant.words))?;
    }
    Ok(text)
}

fn read(source: &str) -> Result<Vec<Constant>> {
    let mut constants = Vec::new();
    let mut words = Vec::new();
    for line in source.lines() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("///") {
            words.push(comment.trim());
        } else if let Some((name, value)) =
            trimmed.strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str ="))
        {
            let value = value.trim().trim_end_matches(';').trim_matches('"');
            ensure!(!value.is_empty(), "the value of {name} does not stand on its line");
            ensure!(!words.is_empty(), "{name} has no documentation");
            let inner = line.starts_with(' ');
            constants.push(Constant { value: value.to_owned(), words: words.join(" "), inner });
            words.clear();
        } else {
            words.clear();
        }
    }
    constants.first().context("the source holds no constants")?;
    Ok(constants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_several_lines_become_one_row_and_numbers_are_no_texts() {
        let source = "/// One\n/// two.\npub const A: &str = \"x/a\";\n/// Three.\npub const N: usize = 3;\n\
                      mod m {\n    /// Four.\n    pub const B: &str = \"b\";\n}\n";
        let constants = read(source).unwrap();
        assert_eq!(constants.len(), 2);
        assert_eq!((constants[0].words.as_str(), constants[0].inner), ("One two.", false));
        assert_eq!((constants[1].value.as_str(), constants[1].inner), ("b", true));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(read("/// One.\npub const A: &str =\n    \"x\";\n").is_err());
        assert!(read("pub const A: &str = \"x\";\n").is_err());
        assert!(annotations("/// One.\npub const A: &str = \"x/a\";\n").is_err());
    }
}
