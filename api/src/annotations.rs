//! The annotations: every key, and who writes it.
//!
//! Constants only; [`crate::grammar`] reads what users write there. What must stay true: a key that is out in the world
//! keeps its meaning.

/// All our keys begin with this.
pub const PREFIX: &str = "konductor.io/";

/// Names of gates to wait for.
pub const GATE: &str = "konductor.io/gate";
/// Names of wait groups to be a member of.
pub const WAITGROUP: &str = "konductor.io/waitgroup";
/// Names of wait groups to wait for.
pub const WAITGROUP_WAIT: &str = "konductor.io/waitgroup-wait";
/// Name of the barrier to meet at.
pub const BARRIER: &str = "konductor.io/barrier";
/// Names of barriers to wait for without counting.
pub const BARRIER_WAIT: &str = "konductor.io/barrier-wait";
/// Names of barriers to arrive at by succeeding.
pub const BARRIER_ARRIVE: &str = "konductor.io/barrier-arrive";
/// Name of the semaphore to take permits of: `name` or `name=permits`.
pub const SEMAPHORE: &str = "konductor.io/semaphore";
/// Names of RWMutexes to hold as a reader.
pub const RWMUTEX_READ: &str = "konductor.io/rwmutex-read";
/// Names of RWMutexes to hold as a writer.
pub const RWMUTEX_WRITE: &str = "konductor.io/rwmutex-write";
/// Names of mutexes to hold.
pub const MUTEX: &str = "konductor.io/mutex";
/// Name of the lease to hold.
pub const LEASE: &str = "konductor.io/lease";
/// Name of the once to run under.
pub const ONCE: &str = "konductor.io/once";
/// How long to wait at most.
pub const TIMEOUT: &str = "konductor.io/timeout";
/// What happens then: fail, skip or proceed.
pub const ON_TIMEOUT: &str = "konductor.io/on-timeout";
/// What happens if it would have to wait: wait, skip or fail.
pub const ON_BUSY: &str = "konductor.io/on-busy";
/// Higher goes first.
pub const PRIORITY: &str = "konductor.io/priority";
/// Where it waits: init-container, scheduling-gate, or, for Jobs, suspend.
pub const HOLD: &str = "konductor.io/hold";
/// Names of the containers that are the critical section; left out: all app containers.
pub const CONTAINERS: &str = "konductor.io/containers";
/// Whether a sidecar gives signs of life for what is held: auto, always or never.
pub const SIDECAR: &str = "konductor.io/sidecar";
/// `"false"`: inject nothing.
pub const INJECT: &str = "konductor.io/inject";
/// Since when it waits: set by the webhook, RFC 3339 with microseconds.
pub const QUEUED: &str = "konductor.io/queued";
/// On a Job's pod template, by the webhook: what the Job takes part in.
pub const JOB_PLAN: &str = "konductor.io/job-plan";
/// On a Job, by the webhook, while it is suspended because it waits; the operator takes it off as it resumes the Job. A Job
/// that is suspended without it was suspended by somebody else.
pub const SUSPENDED: &str = "konductor.io/suspended";
/// Its value.
pub const SUSPENDED_VALUE: &str = "waits-for-its-turn";
/// On pods, by the operator: the verdict. Its text is defined in `konductor-waiter`.
pub const GRANT: &str = "konductor.io/grant";
/// On pods, by the operator: fencing tokens, followed by the place of the entry.
pub const TOKEN_PREFIX: &str = "konductor.io/token-";
/// On pods, by the operator: when it changed the pod once more, because its kubelet had not shown the verdict to the waiter.
pub const NUDGED: &str = "konductor.io/nudged";
/// On pods, by the operator: the last renewal of a hold by the pod's sidecar, as `RUN COUNT TTL`.
pub const RENEWED: &str = "konductor.io/renewed";
/// On a namespace: names of the namespaces whose gates may look at its objects, separated by commas; `*` for all.
pub const ALLOW_GATES_FROM: &str = "konductor.io/allow-gates-from";
/// On a primitive: the token of a hold that is over, says whoever has the right to break holds of it.
pub const BREAK: &str = "konductor.io/break";
/// Beside it: who says so.
pub const BREAK_BY: &str = "konductor.io/break-by";
/// Beside it: why.
pub const BREAK_REASON: &str = "konductor.io/break-reason";
/// The finalizer of pods whose end must be known.
pub const FINALIZER: &str = "konductor.io/hold";
/// The scheduling gate of pods that wait without a node.
pub const SCHEDULING_GATE: &str = "konductor.io/hold";
/// The label by which the operator finds Jobs and pods.
pub const PARTICIPANT_LABEL: &str = "konductor.io/participant";
/// Its value.
pub const PARTICIPANT_VALUE: &str = "true";
/// The init container that waits.
pub const WAITER_CONTAINER: &str = "konductor-wait";
/// The sidecar that gives signs of life for what a pod holds.
pub const HOLD_CONTAINER: &str = "konductor-hold";
/// For whom its token is made out: good for Konductor's operator, and nowhere else.
pub const AUDIENCE: &str = "konductor.io";

/// The key of the token at that place of a pod's plan.
pub fn token(place: usize) -> String {
    format!("{TOKEN_PREFIX}{place}")
}

/// May only the operator write it?
pub fn is_operators(key: &str) -> bool {
    key == GRANT || key == NUDGED || key == RENEWED || key.starts_with(TOKEN_PREFIX)
}
