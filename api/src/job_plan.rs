//! The plan of a Job: what its pods must know of it, as the marker [`crate::annotations::JOB_PLAN`] carries it.
//!
//! Pure. The marker is written by the webhook and read by the webhook and the operator, so that a pod needs no look at its
//! Job. What must stay true: a marker that an earlier version wrote is read as it was meant; there is one text for each
//! plan, so that what was written by hand is told apart.

use std::fmt;
use std::str::FromStr;

use crate::options::Hold;
use crate::participation::{PlanError, PrimitiveSet};

/// `v1 gate=a,b mutex=c hold=scheduling-gate`; without the last word its pods wait in their init container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPlan {
    /// What the Job takes, once, for all its pods.
    pub set: PrimitiveSet,
    /// Where its pods wait.
    pub hold: Hold,
}

/// What stands before the mode. An earlier version knows no such word and so lets no such pod through.
const HOLD: &str = " hold=";

impl fmt::Display for JobPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.set)?;
        match self.hold {
            Hold::InitContainer => Ok(()),
            Hold::SchedulingGate => write!(formatter, "{HOLD}{}", self.hold.word()),
        }
    }
}

impl FromStr for JobPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let unreadable = || PlanError(text.chars().take(64).collect());
        let (set, hold) = match text.rsplit_once(HOLD) {
            None => (text, Hold::InitContainer),
            Some((set, word)) if word == Hold::SchedulingGate.word() => (set, Hold::SchedulingGate),
            Some(_) => return Err(unreadable()),
        };
        Ok(Self { set: set.parse().map_err(|_: PlanError| unreadable())?, hold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["v1 mutex=db", "v1 gate=a semaphore=b=3 hold=scheduling-gate"] {
            assert_eq!(text.parse::<JobPlan>().unwrap().to_string(), text);
        }
        assert_eq!("v1 mutex=db".parse::<JobPlan>().unwrap().hold, Hold::InitContainer);
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
        ] {
            assert!(text.parse::<JobPlan>().is_err(), "{text:?}");
        }
    }
}
