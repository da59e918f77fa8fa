//! Events: what happened, on the primitive and on the workload that it happened to.
//!
//! Beside the path of a hand-over: announcements go through a bounded channel to one task, and are dropped where it
//! cannot follow; the truth is in the objects.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::conditions::{DONE, OPEN, STALLED};
use konductor_api::ledger::{Evidence, Holder, Status};
use konductor_primitives::record::PodRecord;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::claims::broken_by;
use crate::rules::Rule;

/// More than this many at once are not worth telling one by one.
const CAPACITY: usize = 1024;
/// So many about one object at once, as client-go has it…
const BURST: u32 = 25;
/// …and one more after each such time.
const REFILL: Duration = Duration::from_secs(5);
/// Events take at most 1 kB of text.
const NOTE_BYTES: usize = 1000;

/// Something to tell, about one object.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub(crate) about: ObjectReference,
    /// The other object that is concerned.
    pub(crate) related: Option<ObjectReference>,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) note: String,
}

/// The sending end.
#[derive(Clone)]
pub(crate) struct Announcer(mpsc::Sender<Happening>);

/// The receiving end.
pub(crate) struct Announcements(mpsc::Receiver<Happening>);

impl Announcer {
    pub(crate) fn new() -> (Self, Announcements) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), Announcements(receiver))
    }

    pub(crate) fn announce(&self, happening: Happening) {
        if let Err(error) = self.0.try_send(happening) {
            tracing::debug!(%error, "an Event was dropped");
        }
    }
}

impl Announcements {
    /// Writes Events until the process ends.
    pub(crate) async fn publish(mut self, client: kube::Client, instance: Option<String>) {
        let reporter = Reporter { controller: "konductor.io/operator".to_owned(), instance };
        let recorder = Recorder::new(client, reporter);
        let mut allowance = Allowance::default();
        while let Some(happening) = self.0.recv().await {
            if !allowance.take(happening.about.uid.as_deref().unwrap_or_default(), Instant::now()) {
                continue;
            }
            let event = Event {
                type_: if happening.warning { EventType::Warning } else { EventType::Normal },
                reason: happening.reason.to_owned(),
                note: Some(cut(&happening.note)),
                action: happening.reason.to_owned(),
                secondary: happening.related,
            };
            if let Err(error) = crate::client::call(recorder.publish(&event, &happening.about)).await {
                tracing::debug!(%error, reason = happening.reason, "an Event could not be written");
            }
        }
    }
}

/// Of a lock that changes hands many times a second nobody reads each one, and the API server would have to keep them.
#[derive(Default)]
struct Allowance(HashMap<String, (u32, Instant)>);

impl Allowance {
    /// May there be one about that object now?
    fn take(&mut self, uid: &str, now: Instant) -> bool {
        if self.0.len() > CAPACITY {
            self.0.retain(|_, (_, since)| now.duration_since(*since) < REFILL * BURST);
        }
        let (spent, since) = self.0.entry(uid.to_owned()).or_insert((0, now));
        while *spent > 0 && now.duration_since(*since) >= REFILL {
            (*spent, *since) = (*spent - 1, *since + REFILL);
        }
        if *spent == 0 {
            *since = now;
        }
        let allowed = *spent < BURST;
        *spent += u32::from(allowed);
        allowed
    }
}

fn cut(note: &str) -> String {
    note.char_indices()
        .take_while(|(at, letter)| at + letter.len_utf8() <= NOTE_BYTES)
        .map(|(_, c)| c)
        .collect()
}

impl Happening {
    /// What the change of a status means to those who read Events.
    pub(crate) fn of<P: Rule>(before: &P, after: &P) -> Vec<Self> {
        let mut happenings = of_conditions(before, after);
        happenings.extend(of_ledger(before, after));
        happenings
    }

    /// Something that happened to a pod.
    pub(crate) fn to_pod(pod: &PodRecord, warning: bool, reason: &'static str, note: String) -> Self {
        Self { about: pod.object_ref(&()), related: None, warning, reason, note }
    }

    /// The same, with whoever is in the way.
    pub(crate) fn behind(self, holder: Option<&Holder>) -> Self {
        let related = holder.map(|holder| participant_reference(holder, &self.about));
        Self { related, ..self }
    }
}

/// It opened, it is done, it has failed.
fn of_conditions<P: Rule>(before: &P, after: &P) -> Vec<Happening> {
    let find = |object: &P, type_: &str| -> Option<Condition> {
        let conditions = &object.status()?.common().conditions;
        conditions.iter().find(|condition| condition.type_ == type_).cloned()
    };
    let turned = |type_: &str| {
        let is =
            |condition: &Option<Condition>| condition.as_ref().is_some_and(|known| known.status == "True");
        let now = find(after, type_);
        now.clone().filter(|_| is(&now) && !is(&find(before, type_)))
    };
    let happening = |warning, reason, note: String| Happening {
        about: after.object_ref(&()),
        related: None,
        warning,
        reason,
        note,
    };
    let says = |type_: &str| find(after, type_).map(|condition| condition.message).unwrap_or_default();
    let mut happenings = Vec::new();
    if let Some(open) = turned(OPEN) {
        happenings.push(happening(false, "Opened", format!("open: {}", open.message)));
    }
    if let Some(done) = turned(DONE) {
        happenings.push(happening(false, "Done", done.message));
    }
    if let Some(stalled) = turned(STALLED)
        && after.holders().iter().all(|holder| holder.suspect.is_none())
    {
        // The condition of the kind says why, the other one what can be done.
        let why = [OPEN, DONE].into_iter().map(says).find(|message| !message.is_empty()).unwrap_or_default();
        let colon = if why.is_empty() { "" } else { ": " };
        happenings.push(happening(true, "Failed", format!("{why}{colon}{}", stalled.message)));
    }
    happenings
}

fn of_ledger<P: Rule>(before: &P, after: &P) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let about = after.object_ref(&());
    let mut tell = |holder: &Holder, warning, reason, note: String| {
        let workload = participant_reference(holder, &about);
        let about = about.clone();
        let name = format!("{}/{}", P::KIND.lower(), about.name.clone().unwrap_or_default());
        happenings.push(Happening {
            about: workload.clone(),
            related: Some(about.clone()),
            warning,
            reason,
            note: format!("{name}: {note}"),
        });
        happenings.push(Happening {
            about,
            related: Some(workload),
            warning,
            reason,
            note: format!("{}: {note}", holder.display()),
        });
    };
    for release in after.history() {
        let left = before.holders().iter().find(|holder| {
            holder.token == release.token && after.holders().iter().all(|other| other.token != holder.token)
        });
        if let Some(holder) = left {
            let broken = release.evidence == Evidence::A3;
            let why = if broken { broken_by(after) } else { release.evidence.sentence().to_owned() };
            tell(holder, broken, "Released", format!("released, because {why} ({})", release.evidence));
        }
    }
    for holder in after.holders() {
        let known = before.holders().iter().find(|other| other.token == holder.token);
        if known.is_none() {
            tell(holder, false, "Granted", format!("granted with token {}", holder.token));
        }
        if let (Some(suspect), true) = (&holder.suspect, known.is_none_or(|known| known.suspect.is_none())) {
            tell(holder, true, "HolderSuspect", suspect.clone());
        }
    }
    happenings
}

/// A reference to whoever holds, as `kubectl describe` looks for it.
fn participant_reference(holder: &Holder, neighbour: &ObjectReference) -> ObjectReference {
    use konductor_api::ledger::ParticipantKind::{Claim, Job, Pod};
    let (api_version, kind) = match holder.kind {
        Job => ("batch/v1", "Job"),
        Pod => ("v1", "Pod"),
        Claim => ("konductor.io/v1", "Claim"),
    };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(holder.name.clone()),
        namespace: neighbour.namespace.clone(),
        uid: Some(holder.uid.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_has_so_many_events_at_once_and_more_with_time() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let mut taken = |uid: &str, at: Duration, tries: u32| {
            (0..tries).filter(|_| allowance.take(uid, start + at)).count()
        };
        assert_eq!(taken("a", Duration::ZERO, 100), 25);
        assert_eq!(taken("b", Duration::ZERO, 3), 3, "others have their own");
        assert_eq!(taken("a", REFILL * 2, 100), 2);
        assert_eq!(taken("a", REFILL * 1000, 100), 25);
    }
}
