//! The critical section: which containers of a pod what it holds is for.
//!
//! Pure, and names only; whether a pod has such containers is for the webhook to check and for evidence to look up. What
//! must stay true: one name list has one text, in annotations and in the marker of a Job alike.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::annotations::{CONTAINERS, JOB_PLAN};
use crate::job_plan::JobPlan;

/// Names in one list.
pub const MAX_CONTAINERS: usize = 32;
const MAX_NAME_BYTES: usize = 63;

/// Names of containers, sorted, each once. Without any it is all app containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(Vec<String>);

/// A list that cannot be accepted: why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SectionError(String);

impl Section {
    /// Is it all app containers?
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Is a container of that name named?
    pub fn names_it(&self, container: &str) -> bool {
        self.0.iter().any(|name| name == container)
    }

    /// What the annotations of a stored pod say: the marker of its Job, if that takes part, else its own. Admission has
    /// checked that the two agree where both take part; `None` if it cannot be read.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        match (annotations.get(JOB_PLAN), annotations.get(CONTAINERS)) {
            (Some(marker), _) => marker.parse::<JobPlan>().ok().map(|plan| plan.section),
            (None, Some(text)) => text.parse().ok(),
            (None, None) => Some(Self::default()),
        }
    }
}

impl FromStr for Section {
    type Err = SectionError;

    fn from_str(text: &str) -> Result<Self, SectionError> {
        let mut names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.len() > MAX_CONTAINERS {
            return Err(SectionError(format!(
                "{} names, and at most {MAX_CONTAINERS} are allowed",
                names.len()
            )));
        }
        if let Some(wrong) = names.iter().find(|name| !is_container_name(name)) {
            let shown: String = wrong.chars().take(64).collect();
            return Err(SectionError(format!(
                "{shown:?} is no name of a container: lower-case letters, digits and '-', at most {MAX_NAME_BYTES}, a \
                 letter or digit at both ends; several names are separated by commas"
            )));
        }
        names.sort();
        let twice = names.iter().zip(names.iter().skip(1)).find(|(one, other)| one == other);
        if let Some((twice, _)) = twice {
            return Err(SectionError(format!("{twice:?} stands there twice")));
        }
        Ok(Self(names))
    }
}

/// `load,migrate`.
impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join(","))
    }
}

/// A DNS label.
fn is_container_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_list_is_sorted_and_read_as_it_is_written() {
        let section: Section = " migrate, load ".parse().unwrap();
        assert_eq!(section.to_string(), "load,migrate");
        assert_eq!("load,migrate".parse(), Ok(section.clone()));
        assert!(section.names_it("load") && !section.names_it("main") && !section.is_everything());
    }

    #[rstest]
    #[case("", "is no name of a container")]
    #[case("a,", "is no name of a container")]
    #[case("Main", "is no name of a container")]
    #[case("a.b", "is no name of a container")]
    #[case("-a", "is no name of a container")]
    #[case("a,b,a", "stands there twice")]
    fn what_is_wrong_is_said(#[case] text: &str, #[case] reason: &str) {
        let error = text.parse::<Section>().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn long_lists_and_names_are_refused_without_being_repeated() {
        let many = (0..500).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
        assert!(many.parse::<Section>().unwrap_err().to_string().contains("500 names"));
        assert!("a".repeat(64).parse::<Section>().unwrap_err().to_string().len() < 300);
        assert!("a".repeat(63).parse::<Section>().is_ok());
    }

    #[test]
    fn the_marker_of_a_job_goes_before_the_pods_own() {
        let annotations = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let of = |pairs: &[(&str, &str)]| Section::of(&annotations(pairs)).map(|section| section.to_string());
        assert_eq!(of(&[]), Some(String::new()));
        assert_eq!(of(&[(CONTAINERS, "main")]), Some("main".to_owned()));
        assert_eq!(of(&[(JOB_PLAN, "v1 mutex=db containers=load")]), Some("load".to_owned()));
        assert_eq!(of(&[(JOB_PLAN, "v1 mutex=db"), (CONTAINERS, "main")]), Some(String::new()));
        assert_eq!(of(&[(JOB_PLAN, "v9 x")]), None);
        assert_eq!(of(&[(CONTAINERS, "A")]), None);
    }
}
