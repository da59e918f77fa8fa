//! Events: what happened, on the primitive and on the workload that it happened to.
//!
//! Beside the path of a hand-over: announcements go through a bounded channel to one task, and are dropped where it
//! cannot follow; the truth is in the objects.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use konductor_api::gate::{ConditionOutcome, Gate, GatePhase};
use konductor_api::ledger::Holder;
use konductor_api::mutex::Mutex;
use konductor_primitives::verdict::Committed;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::rules::Rule;

/// More than this many at once are not worth telling one by one.
const CAPACITY: usize = 1024;
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
        while let Some(happening) = self.0.recv().await {
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

fn cut(note: &str) -> String {
    note.char_indices()
        .take_while(|(at, letter)| at + letter.len_utf8() <= NOTE_BYTES)
        .map(|(_, c)| c)
        .collect()
}

impl Happening {
    /// What the change of a ledger means to those who read Events.
    pub(crate) fn of<P: Rule>(before: &P, after: &P) -> Vec<Self> {
        match (before.committed(), after.committed()) {
            (Committed::Gate(before), Committed::Gate(after)) => of_gate(before, after),
            (Committed::Mutex(before), Committed::Mutex(after)) => of_mutex(before, after),
            _ => Vec::new(),
        }
    }

    /// Something that happened to a pod.
    pub(crate) fn to_pod(pod: &Pod, warning: bool, reason: &'static str, note: String) -> Self {
        Self { about: pod.object_ref(&()), related: None, warning, reason, note }
    }

    /// The same, with whoever is in the way.
    pub(crate) fn behind(self, holder: Option<&Holder>) -> Self {
        let related = holder.map(|holder| participant_reference(holder, &self.about));
        Self { related, ..self }
    }
}

fn of_gate(before: &Gate, after: &Gate) -> Vec<Happening> {
    let phase = |gate: &Gate| gate.status.as_ref().and_then(|status| status.phase);
    let about = after.object_ref(&());
    let says = |outcome| {
        let statuses = after.status.iter().flat_map(|status| &status.condition_statuses);
        let told: Vec<_> =
            statuses.filter(|known| known.outcome == outcome).map(|known| known.message.as_str()).collect();
        told.join("; ")
    };
    if phase(before) == phase(after) {
        return Vec::new();
    }
    let (warning, reason, note) = match phase(after) {
        Some(GatePhase::Open) => (false, "Opened", format!("open: {}", says(ConditionOutcome::Met))),
        Some(GatePhase::Failed) => {
            (true, "Failed", format!("it can never open: {}", says(ConditionOutcome::Impossible)))
        }
        Some(GatePhase::Waiting) | None => return Vec::new(),
    };
    vec![Happening { about, related: None, warning, reason, note }]
}

fn of_mutex(before: &Mutex, after: &Mutex) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let about = after.object_ref(&());
    let mut tell = |holder: &Holder, warning, reason, note: String| {
        let workload = participant_reference(holder, &about);
        let about = about.clone();
        let name = format!("mutex/{}", about.name.clone().unwrap_or_default());
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
    for release in after.status.iter().flat_map(|status| &status.history) {
        let left = before.holders().iter().find(|holder| {
            holder.token == release.token && after.holders().iter().all(|other| other.token != holder.token)
        });
        if let Some(holder) = left {
            let note = format!("released, because {} ({})", release.evidence.sentence(), release.evidence);
            tell(holder, false, "Released", note);
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
    use konductor_api::ledger::ParticipantKind::{Job, Pod};
    let (api_version, kind) = match holder.kind {
        Job => ("batch/v1", "Job"),
        Pod => ("v1", "Pod"),
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
