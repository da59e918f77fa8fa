//! Silence: when may a hold be lost because nothing is heard of whoever holds?
//!
//! Pure. How long a pod has been silent is for whoever looks to measure, on a clock of its own. What must stay true: nobody is
//! lost without a `ttl`, nor before a whole one has passed without a sign of life (`TtlFloor`); a pod whose sidecar has never
//! renewed this run is given [`FLOOR`] at least, because all that is heard of it comes from its node, every ten seconds.

use jiff::{SignedDuration, Timestamp};
use konductor_api::duration::GoDuration;
use konductor_api::ledger::ToldPod;

use crate::facts::PodFacts;

/// A kubelet renews its lease every 10 s and is given 40 s by everybody.
pub const FLOOR: SignedDuration = SignedDuration::from_secs(60);
/// A clock that stands still is not looked at more often than that.
pub(crate) const LOOK: SignedDuration = SignedDuration::from_millis(250);

/// The last renewal of a pod's hold, as the operator that accepted it wrote it: `RUN COUNT TTL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The run of the waiter by which the pod holds.
    pub run: u64,
    /// How many there were.
    pub count: u64,
    /// How long after it nothing is lost, as the sidecar was told: a `ttl` that is made shorter counts from the next renewal.
    pub promised: GoDuration,
}

impl std::str::FromStr for Renewal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(());
        let (run, count, promised) = (next()?, next()?, next()?);
        Ok(Self {
            run: run.parse().map_err(drop)?,
            count: count.parse().map_err(drop)?,
            promised: promised.parse().map_err(drop)?,
        })
    }
}

impl std::fmt::Display for Renewal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {}", self.run, self.count, self.promised)
    }
}

/// How long nothing may be heard of that pod.
pub fn allowed(pod: &PodFacts, told: &ToldPod, ttl: GoDuration) -> SignedDuration {
    let length = |ttl: GoDuration| SignedDuration::from_nanos(ttl.as_nanoseconds());
    let renewal = pod.renewal.filter(|renewal| i64::try_from(renewal.run) == Ok(told.run));
    length(ttl).max(renewal.map_or(FLOOR, |renewal| length(renewal.promised)))
}

/// Has nothing been heard of it for longer than its `ttl` allows?
pub fn is_lost(pod: &PodFacts, told: &ToldPod, ttl: Option<GoDuration>) -> bool {
    ttl.is_some_and(|ttl| pod.silent_for >= allowed(pod, told, ttl))
}

/// When it will be lost if nothing is heard of it until then.
pub(crate) fn lost_at(
    pod: &PodFacts,
    told: &ToldPod,
    ttl: Option<GoDuration>,
    now: Timestamp,
) -> Option<Timestamp> {
    let rest = allowed(pod, told, ttl?).saturating_sub(pod.silent_for);
    now.checked_add(rest.max(LOOK)).ok()
}
