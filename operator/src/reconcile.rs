//! Reconcile: snapshot, pure step, one compare-and-swap, notify; for one primitive at a time.
//!
//! Level-triggered: whatever it is called for, it looks at everything and does what is missing, so a crash between any
//! two writes loses nothing. What must stay true: verdicts are derived from what the API server returned, never from
//! what we meant to write; a conflict means a new read and a new step, never the old result again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use konductor_api::ledger::Holder;
use konductor_api::participation::PrimitiveRef;
use konductor_primitives::describe::differ_in_queue_only;
use konductor_primitives::invariants::Violation;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::Step;
use kube::{Api, Client, Resource};

use crate::advice::{self, ADVISED, Advisor};
use crate::caches::Caches;
use crate::claims;
use crate::client::{CallError, call};
use crate::clock::Clock;
use crate::commit::{self, Commit, CommitError};
use crate::events::{Announcer, Happening};
use crate::finalizers::{self, Reads};
use crate::index::{Key, ObjectKey};
use crate::line::Line;
use crate::notify;
use crate::observe::{self, Known};
use crate::queue::Queue;
use crate::rules::{Read, Rule, of_kind};
use crate::sight;
use crate::telemetry::{Telemetry, Write};

/// Reads, withdrawals and conflicts in one go; more than that waits for its turn again.
const ROUNDS: usize = 16;
/// How often a queue that merely looks different is written.
const QUEUE_WRITE_PERIOD: Duration = Duration::from_secs(1);
/// What is due is looked at just after its moment, never just before.
const WAKE_LATE: Duration = Duration::from_millis(5);
/// After a failed call.
const RETRY: Duration = Duration::from_secs(1);

/// What every reconcile shares.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) caches: Arc<Caches>,
    pub(crate) queue: Arc<Queue<Key>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) announcer: Announcer,
    pub(crate) advisor: Advisor,
    pub(crate) reads: Reads,
    /// May a pod be lost to silence? Only where this process has the right to delete it.
    pub(crate) loses_pods: bool,
}

/// Why a reconcile did not get through. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it did not settle in {ROUNDS} rounds")]
    Unsettled,
}

impl ReconcileError {
    /// The same word in log and metric.
    const fn category(&self) -> &'static str {
        match self {
            Self::Commit(CommitError::Invariant(_)) => "Invariant",
            Self::Commit(CommitError::Call(CallError::Timeout)) | Self::Call(CallError::Timeout) => "Timeout",
            Self::Commit(CommitError::Call(_)) | Self::Call(_) => "Api",
            Self::Unsettled => "Unsettled",
        }
    }
}

/// A reconcile at the point where everything that had to be written is written.
struct Settled<P: Rule> {
    object: Option<Arc<P>>,
    participants: Vec<Participant>,
    step: Option<Step<P::Status>>,
    known: Known,
}

// ---------------------------------------------------------------------------------------------------- working

/// Works on keys until the process ends.
pub(crate) async fn work(context: Arc<Context>) {
    loop {
        let key = context.queue.next().await;
        let started = tokio::time::Instant::now();
        let outcome = match &key {
            Key::Primitive(namespace, primitive) => {
                of_kind!(primitive.kind, P => primitive_of::<P>(&context, namespace, primitive).await)
            }
            Key::Pod(pod) => finalizers::lift(&context, pod).await.map_err(ReconcileError::from),
        };
        context.telemetry.reconciled(&key, started.elapsed());
        if let Err(error) = outcome {
            if let ReconcileError::Commit(CommitError::Invariant(violation)) = &error {
                context.telemetry.violated(violation);
                complain(&context, &key, violation);
            }
            context.telemetry.failed(&key, error.category());
            tracing::warn!(?key, category = error.category(), "not through yet: {error}");
            context.queue.add_after(key.clone(), RETRY);
        }
        context.queue.done(&key);
    }
}

/// A ledger that was not written because it would have broken a rule: a bug of ours, and somebody waits because of it.
fn complain(context: &Context, key: &Key, violation: &Violation) {
    let Key::Primitive(namespace, primitive) = key else { return };
    let about = of_kind!(primitive.kind, P => {
        P::shelf(&context.caches).get(namespace, &primitive.name).map(|object| object.object_ref(&()))
    });
    if let Some(about) = about {
        context.announcer.announce(Happening {
            about,
            related: None,
            warning: true,
            reason: "InvariantViolated",
            note: format!("not written, because it would break {violation}; please report it"),
        });
    }
}

async fn primitive_of<P: Rule>(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
) -> Result<(), ReconcileError> {
    let settled = settle::<P>(context, namespace, primitive).await?;
    settled.wake_again(context, namespace, primitive);
    let committed = settled.object.clone().map_or(Read::Missing, P::read);
    let told = settled.told(&committed);
    match notify::tell(context, namespace, primitive, &told, &settled.known).await? {
        Some(waits) => advice::advise(context, namespace, primitive, &told, waits).await,
        None => context.queue.add(Key::Primitive(namespace.to_owned(), primitive.clone())),
    }
    Ok(())
}

/// Reads and writes until the ledger is what the step says.
async fn settle<P: Rule>(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
) -> Result<Settled<P>, ReconcileError> {
    let api: Api<P> = Api::namespaced(context.client.clone(), namespace);
    let mut known = Known::default();
    let mut object = P::shelf(&context.caches).get(namespace, &primitive.name);
    for _ in 0..ROUNDS {
        let defaults = object.as_ref().map(|object| object.defaults()).unwrap_or_default();
        known.counted =
            object.as_ref().map(|object| may_be_lost(context, object.as_ref())).unwrap_or_default();
        let participants = observe::participants(context, namespace, primitive, &known, defaults);
        let Some(present) = object.clone() else {
            sight::forget(&context.caches, namespace, primitive);
            return Ok(Settled { object: None, participants, step: None, known });
        };
        let snapshot = Snapshot {
            objects: sight::look(&context.caches, namespace, primitive, &present.targets()),
            primitive: (*present).clone(),
            participants,
            strays: known.pods.values().map(|pod| known.facts(&context.caches, pod)).collect(),
            fresh: known.pods.keys().cloned().collect(),
            owners: known.owners.clone(),
            outlived: known.outlived.clone(),
            absent: known.absent.clone(),
            now: context.clock.now(),
        };
        let step = P::step(&snapshot);
        let participants = snapshot.participants;
        if !step.lookups.is_empty() {
            observe::look(context, namespace, &step.lookups, &mut known).await?;
            continue;
        }
        if !step.withdrawals.is_empty() {
            notify::withdraw(context, namespace, &step.withdrawals, &mut known).await?;
            continue;
        }
        if !step.expiries.is_empty() {
            claims::expire(context, namespace, present.as_ref(), &step.expiries, &mut known).await?;
            continue;
        }
        let before = present.status().cloned().unwrap_or_default();
        if before == step.status {
            return Ok(Settled { object, participants, step: Some(step), known });
        }
        let queue_only = present.status().is_some() && differ_in_queue_only(&before, &step.status);
        if queue_only && let Some(wait) = context.advisor.too_soon(present.meta(), QUEUE_WRITE_PERIOD) {
            context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), wait);
            return Ok(Settled { object, participants, step: Some(step), known });
        }
        let write = if queue_only { Write::Queue } else { Write::Ledger };
        match commit::status(context, present.as_ref(), &step.status, write).await? {
            Commit::Written(committed) => {
                context.advisor.wrote(committed.meta());
                follow_up(context, namespace, primitive, present.as_ref(), committed.as_ref(), &participants);
                return Ok(Settled { object: Some(committed), participants, step: Some(step), known });
            }
            Commit::Conflict | Commit::Gone => {
                known.forget_what_may_change();
                object = call(api.get_opt(&primitive.name)).await?.map(Arc::new);
                match &object {
                    Some(fresh) => P::shelf(&context.caches).put(fresh),
                    None => P::shelf(&context.caches)
                        .forget(&ObjectKey { namespace: namespace.to_owned(), name: primitive.name.clone() }),
                }
            }
        }
    }
    Err(ReconcileError::Unsettled)
}

impl<P: Rule> Settled<P> {
    fn told<'a>(&'a self, committed: &'a Read) -> notify::Told<'a> {
        notify::Told {
            committed,
            holders: self.object.as_ref().map(|object| object.holders()).unwrap_or_default(),
            participants: &self.participants,
            line: self
                .step
                .as_ref()
                .map(|step| Line::new(&self.participants, &step.order, ADVISED))
                .unwrap_or_default(),
        }
    }

    /// Time alone changes things, too: of the primitive, and of those whose patience ends.
    fn wake_again(&self, context: &Context, namespace: &str, primitive: &PrimitiveRef) {
        let now = context.clock.now();
        let waiting = self.participants.iter().filter(|participant| participant.waits());
        let deadlines = waiting.filter_map(Participant::deadline).filter(|deadline| *deadline > now);
        let by_step = self.step.as_ref().and_then(|step| step.wake_at);
        if let Some(at) = deadlines.chain(by_step).min() {
            let delay = Duration::try_from(at.duration_since(now)).unwrap_or_default() + WAKE_LATE;
            context.queue.add_after(Key::Primitive(namespace.to_owned(), primitive.clone()), delay);
        }
    }
}

/// The pods that are lost if nothing is heard of them for long, by UID.
fn may_be_lost<P: Rule>(context: &Context, primitive: &P) -> BTreeSet<String> {
    let holders = if primitive.ttl().is_some() && context.loses_pods { primitive.holders() } else { &[] };
    holders.iter().flat_map(|holder| &holder.pods).map(|pod| pod.uid.clone()).collect()
}

/// What a committed change sets going beside the pods' verdicts: Events, metrics, finalizers of those who left, and
/// the primitives that come next in the plans of those who take part.
fn follow_up<P: Rule>(
    context: &Context,
    namespace: &str,
    primitive: &PrimitiveRef,
    before: &P,
    after: &P,
    participants: &[Participant],
) {
    let (held, holds) = (by_token(before.holders()), by_token(after.holders()));
    for holder in before.holders() {
        let still = holds.get(holder.token.as_str());
        let left = holder.pods.iter().filter(|pod| still.is_none_or(|still| still.told(&pod.uid).is_none()));
        for pod in left {
            let key = ObjectKey { namespace: namespace.to_owned(), name: pod.name.clone() };
            context.queue.add(Key::Pod(key));
        }
        if still.is_none() {
            context.telemetry.released(primitive.kind, holder);
        }
    }
    // What their end had to be counted for may be written down now.
    let over = participants.iter().flat_map(|who| &who.pods).filter(|pod| pod.finalizer && pod.is_dead());
    for pod in over {
        let key = ObjectKey { namespace: namespace.to_owned(), name: pod.name.clone() };
        context.queue.add(Key::Pod(key));
    }
    let granted: HashSet<_> =
        holds.iter().filter(|(token, _)| !held.contains_key(*token)).map(|(_, holder)| &holder.uid).collect();
    for participant in participants.iter().filter(|participant| granted.contains(&participant.uid)) {
        context.telemetry.acquired(primitive.kind, participant.key.since());
    }
    for happening in Happening::of(before, after) {
        context.announcer.announce(happening);
    }
    for key in context.caches.index.beside(namespace, primitive) {
        context.queue.add(key);
    }
}

fn by_token(holders: &[Holder]) -> HashMap<&str, &Holder> {
    holders.iter().map(|holder| (holder.token.as_str(), holder)).collect()
}
