//! A finding: its code, how bad it is, and its words.
//!
//! Pure. What must stay true: a code keeps its meaning.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::manifests::Manifest;

/// What kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Code {
    /// It would be refused.
    Kon01,
    /// It would be admitted with a warning.
    Kon02,
    /// It names what none of these manifests defines.
    Kon03,
    /// Gates and Jobs that wait for each other.
    Kon04,
    /// A barrier that expects more than come.
    Kon05,
    /// Claims of two holders that take the same locks in opposite orders.
    Kon06,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may be meant so.
    Warning,
    /// It cannot be meant so.
    Error,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where it stands.
    pub place: String,
    /// Which object.
    pub object: String,
    /// What kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// A sentence, with the way out.
    pub message: String,
}

impl Code {
    const ALL: [(Self, &'static str, Severity); 6] = [
        (Self::Kon01, "KON01", Severity::Error),
        (Self::Kon02, "KON02", Severity::Warning),
        (Self::Kon03, "KON03", Severity::Warning),
        (Self::Kon04, "KON04", Severity::Error),
        (Self::Kon05, "KON05", Severity::Error),
        (Self::Kon06, "KON06", Severity::Error),
    ];

    fn severity(self) -> Severity {
        Self::ALL.iter().find(|(code, ..)| *code == self).map_or(Severity::Error, |(.., severity)| *severity)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(code, ..)| code == self).map_or("", |(_, name, _)| name);
        formatter.write_str(name)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, object, code, severity, message } = self;
        let severity = if *severity == Severity::Error { "error" } else { "warning" };
        write!(formatter, "{place} {object}: {severity} {code}: {message}")
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(code, ..)| *code).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
            format!("there is no such code; there are {}", names.join(", "))
        })
    }
}

impl Manifest {
    /// Said of this manifest.
    pub(super) fn finding(&self, code: Code, message: String) -> Finding {
        Finding {
            place: self.origin.to_string(),
            object: self.display(),
            code,
            severity: code.severity(),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_they_are_written() {
        for (code, name, _) in Code::ALL {
            assert_eq!((name.parse(), name.to_lowercase().parse()), (Ok(code), Ok(code)));
        }
        assert!("KON99".parse::<Code>().unwrap_err().contains("KON01, KON02"));
    }
}
