//! The plan of a Job: what its pods must know of it, as the marker [`crate::annotations::JOB_PLAN`] carries it.
//!
//! Pure. The marker is written by the webhook and read by the webhook and the operator, so that a pod needs no look at its
//! Job. What must stay true: a marker that an earlier version wrote is read as it was meant; there is one text for each
//! plan, so that what was written by hand is told apart.

use std::fmt;
use std::str::FromStr;

use crate::options::{Hold, Sidecar};
use crate::participation::{PlanError, PrimitiveSet};
use crate::section::Section;
use crate::values::one_of;

/// `v1 gate=a,b mutex=c containers=main hold=scheduling-gate sidecar=always`; each of the last three words may be missing:
/// then all their app containers are the critical section, its pods wait in their init container, and get a sidecar where
/// it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPlan {
    /// What the Job takes, once, for all its pods.
    pub set: PrimitiveSet,
    /// What it is held for.
    pub section: Section,
    /// Where its pods wait.
    pub hold: Hold,
    /// Who gives signs of life for what it holds.
    pub sidecar: Sidecar,
}

/// What stands before section, mode and sidecar. An earlier version knows no such word and so lets no such pod through.
const CONTAINERS: &str = " containers=";
const HOLD: &str = " hold=";
const SIDECAR: &str = " sidecar=";

impl fmt::Display for JobPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.set)?;
        if !self.section.is_everything() {
            write!(formatter, "{CONTAINERS}{}", self.section)?;
        }
        match self.hold {
            // Suspended is the Job: when it has pods it is not any more, and they wait as pods do by default.
            Hold::InitContainer | Hold::Suspend => {}
            Hold::SchedulingGate => write!(formatter, "{HOLD}{}", self.hold.word())?,
        }
        match self.sidecar {
            Sidecar::Auto => Ok(()),
            Sidecar::Always | Sidecar::Never => write!(formatter, "{SIDECAR}{}", self.sidecar.word()),
        }
    }
}

impl FromStr for JobPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let unreadable = || PlanError(text.chars().take(64).collect());
        let (rest, sidecar) = match text.rsplit_once(SIDECAR) {
            None => (text, Sidecar::Auto),
            Some((rest, word)) => (rest, one_of(word, &Sidecar::WORDS).map_err(|_| unreadable())?),
        };
        let (rest, hold) = match rest.rsplit_once(HOLD) {
            None => (rest, Hold::InitContainer),
            Some((rest, word)) if word == Hold::SchedulingGate.word() => (rest, Hold::SchedulingGate),
            Some(_) => return Err(unreadable()),
        };
        let (set, section) = match rest.rsplit_once(CONTAINERS) {
            None => (rest, Section::default()),
            Some((set, names)) => (set, names.parse().map_err(|_| unreadable())?),
        };
        let plan = Self { set: set.parse().map_err(|_: PlanError| unreadable())?, section, hold, sidecar };
        // What is not written as we write it was not written by us.
        if plan.to_string() == text { Ok(plan) } else { Err(unreadable()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "v1 mutex=db",
            "v1 gate=a semaphore=b=3 hold=scheduling-gate",
            "v1 mutex=db containers=load,main",
            "v1 mutex=db containers=main hold=scheduling-gate",
            "v1 lease=l sidecar=never",
            "v1 mutex=db containers=main hold=scheduling-gate sidecar=always",
        ] {
            assert_eq!(text.parse::<JobPlan>().unwrap().to_string(), text);
        }
        assert_eq!("v1 mutex=db".parse::<JobPlan>().unwrap().hold, Hold::InitContainer);
        assert_eq!("v1 mutex=db".parse::<JobPlan>().unwrap().sidecar, Sidecar::Auto);
        assert_eq!("v1 mutex=db hold=scheduling-gate".parse::<JobPlan>().unwrap().hold, Hold::SchedulingGate);
    }

    #[test]
    fn what_is_not_as_we_write_it_is_refused() {
        for text in [
            "v1 mutex=db hold=",
            "v1 mutex=db hold=suspend",
            "v1 mutex=db hold=init-container",
            "v1 mutex=db hold=scheduling-gate hold=scheduling-gate",
            "v1 hold=scheduling-gate mutex=db",
            "v1 mutex=db  hold=scheduling-gate",
            "hold=scheduling-gate",
            "v1 mutex=db containers=",
            "v1 mutex=db containers=b,a",
            "v1 mutex=db containers=a, b",
            "v1 mutex=db hold=scheduling-gate containers=a",
            "v1 mutex=db sidecar=",
            "v1 mutex=db sidecar=auto",
            "v1 mutex=db sidecar=sometimes",
            "v1 mutex=db sidecar=always sidecar=always",
            "v1 mutex=db sidecar=always hold=scheduling-gate",
        ] {
            assert!(text.parse::<JobPlan>().is_err(), "{text:?}");
        }
    }
}
