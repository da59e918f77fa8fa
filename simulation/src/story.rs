//! The story: what a seed has in it. Primitives, workloads, claims, and when each comes.
//!
//! Pure. What must stay true: a story can end well: whatever waits could get what it waits for, once people help a little.

use std::time::Duration;

use konductor_api::annotations;
use konductor_api::participation::{Kind, PrimitiveRef};
use serde_json::{Value, json};

use crate::node::HABITS;
use crate::random::Random;

/// See the module.
pub(crate) struct Story {
    pub(crate) primitives: Vec<Primitive>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) claims: Vec<ClaimStory>,
    pub(crate) machines: usize,
    /// When what goes wrong stops.
    pub(crate) calm: Duration,
}

pub(crate) struct Primitive {
    pub(crate) is: PrimitiveRef,
    pub(crate) spec: Value,
    pub(crate) comes: Duration,
}

/// A pod or a Job before admission.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) object: Value,
    pub(crate) is_job: bool,
    pub(crate) comes: Duration,
}

/// A client and its claim.
#[derive(Clone)]
pub(crate) struct ClaimStory {
    pub(crate) name: String,
    pub(crate) spec: Value,
    pub(crate) comes: Duration,
    /// How long it works once it has it.
    pub(crate) works: Duration,
    pub(crate) renews: Option<Duration>,
    /// It vanishes silently after so long.
    pub(crate) dies: Option<Duration>,
    pub(crate) succeeds: bool,
}

/// What the sets of pods and Jobs are drawn from, more of what is hard.
const KINDS: [Kind; 14] = [
    Kind::Mutex,
    Kind::Mutex,
    Kind::Mutex,
    Kind::RWMutex,
    Kind::RWMutex,
    Kind::Semaphore,
    Kind::Semaphore,
    Kind::Lease,
    Kind::Once,
    Kind::Once,
    Kind::Gate,
    Kind::Barrier,
    Kind::WaitGroup,
    Kind::WaitGroup,
];

impl Story {
    pub(crate) fn new(random: &mut Random) -> Self {
        let calm = random.millis(40_000, 240_000);
        let within = |random: &mut Random, part: u64| {
            random.millis(0, u64::try_from(calm.as_millis()).unwrap_or(0) / part)
        };
        let mut primitives: Vec<Primitive> = Vec::new();
        for number in 0..random.between(1, 4) {
            let kind = random.pick(&KINDS).copied().unwrap_or(Kind::Mutex);
            let comes = if random.chance(200) { within(random, 2) } else { Duration::ZERO };
            let is = PrimitiveRef { kind, name: format!("{}-{number}", kind.lower()) };
            primitives.push(Primitive { is, spec: json!({}), comes });
        }
        let mut workloads = Vec::new();
        for number in 0..random.between(2, 6) {
            let comes = if random.chance(500) { within(random, 20) } else { within(random, 2) };
            workloads.push(workload(random, number, comes, &primitives));
        }
        let mut claims = Vec::new();
        for number in 0..random.below(3) {
            let comes = within(random, 2);
            claims.extend(claim(random, number, comes, &primitives));
        }
        let specs: Vec<_> =
            primitives.iter().map(|primitive| spec(random, &primitive.is, &workloads)).collect();
        for (primitive, spec) in primitives.iter_mut().zip(specs) {
            primitive.spec = spec;
        }
        let machines = random.below(2) + 2;
        Self { primitives, workloads, claims, machines, calm }
    }
}

fn spec(random: &mut Random, is: &PrimitiveRef, workloads: &[Workload]) -> Value {
    match is.kind {
        Kind::Semaphore => json!({"permits": random.between(1, 3)}),
        Kind::RWMutex => {
            let policies = ["Fair", "PhaseFair", "PreferReaders", "PreferWriters"];
            json!({"policy": random.pick(&policies)})
        }
        Kind::Barrier => {
            let meet = |workload: &&Workload| {
                let text = workload.object.to_string();
                text.contains(&format!("\"{}\":\"{}\"", annotations::BARRIER, is.name))
            };
            json!({"expected": workloads.iter().filter(meet).count().max(1)})
        }
        Kind::WaitGroup => {
            if random.chance(500) {
                json!({"expectAtLeast": random.between(1, 2)})
            } else {
                json!({})
            }
        }
        Kind::Gate => {
            let jobs: Vec<_> = workloads.iter().filter(|workload| workload.is_job).collect();
            match random.pick(&jobs) {
                Some(job) if random.chance(700) => {
                    let state = if random.chance(800) { "Complete" } else { "Failed" };
                    json!({"conditions": [{"type": "Job", "name": job.name, "state": state}]})
                }
                _ => json!({}),
            }
        }
        Kind::Mutex | Kind::Lease | Kind::Once => json!({}),
    }
}

/// Annotations that take one or two of them, in roles that do not wait for each other.
fn taking(random: &mut Random, primitives: &[Primitive]) -> Value {
    let mut all = json!({});
    let mut kinds = Vec::new();
    for _ in 0..random.between(1, 2) {
        let Some(primitive) = random.pick(primitives) else { continue };
        let kind = primitive.is.kind;
        if kinds.contains(&kind) {
            continue;
        }
        kinds.push(kind);
        let name = primitive.is.name.as_str();
        let (key, value) = match kind {
            Kind::Mutex => (annotations::MUTEX, name.to_owned()),
            Kind::Lease => (annotations::LEASE, name.to_owned()),
            Kind::Once => (annotations::ONCE, name.to_owned()),
            Kind::Gate => (annotations::GATE, name.to_owned()),
            Kind::Semaphore if random.chance(200) => (annotations::SEMAPHORE, format!("{name}=2")),
            Kind::Semaphore => (annotations::SEMAPHORE, name.to_owned()),
            Kind::RWMutex if random.chance(500) => (annotations::RWMUTEX_READ, name.to_owned()),
            Kind::RWMutex => (annotations::RWMUTEX_WRITE, name.to_owned()),
            Kind::Barrier if random.chance(700) => (annotations::BARRIER, name.to_owned()),
            Kind::Barrier => (annotations::BARRIER_WAIT, name.to_owned()),
            Kind::WaitGroup if random.chance(600) => (annotations::WAITGROUP, name.to_owned()),
            Kind::WaitGroup => (annotations::WAITGROUP_WAIT, name.to_owned()),
        };
        all[key] = json!(value);
    }
    if random.chance(150) {
        all[annotations::PRIORITY] = json!(random.between(0, 2).to_string());
    }
    if random.chance(80) {
        all[annotations::TIMEOUT] = json!("70s");
    }
    all
}

fn workload(random: &mut Random, number: u64, comes: Duration, primitives: &[Primitive]) -> Workload {
    let mut takes = taking(random, primitives);
    let is_job = random.chance(400);
    let most = *random.pick(&[4, 12, 30, 100]).unwrap_or(&4);
    let failures = *random.pick(&[0, 0, 200]).unwrap_or(&0);
    let habits = format!("1,{most},{failures}");
    let mut spec = json!({"containers": [{"name": "main", "image": "app", "command": ["work"]}]});
    let once = !takes[annotations::ONCE].is_null();
    let mut policy = if random.chance(500) { "Never" } else { "OnFailure" };
    if random.chance(150) && !once {
        takes[annotations::CONTAINERS] = json!("main");
        spec["containers"] = json!([{"name": "main", "image": "app"}, {"name": "helper", "image": "app"}]);
    } else if random.chance(150) && !is_job && !once {
        takes[annotations::CONTAINERS] = json!("migrate");
        spec["initContainers"] = json!([{"name": "migrate", "image": "app"}]);
        policy = "Always";
    }
    spec["restartPolicy"] = json!(policy);
    if random.chance(150) {
        takes[annotations::HOLD] = json!("scheduling-gate");
    }
    let name = format!("{}-{number}", if is_job { "job" } else { "pod" });
    if !is_job {
        takes[HABITS] = json!(habits);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": takes}, "spec": spec,
        });
        return Workload { name, object, is_job, comes };
    }
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "completions": random.between(1, 2), "parallelism": random.between(1, 2),
            "backoffLimit": random.between(0, 3),
            "template": {"metadata": {"annotations": {HABITS: habits}}, "spec": spec},
        },
    });
    if random.chance(600) {
        if random.chance(200) {
            takes[annotations::HOLD] = json!("suspend");
        }
        object["metadata"]["annotations"] = takes;
    } else if let (Some(template), Some(own)) =
        (object["spec"]["template"]["metadata"]["annotations"].as_object_mut(), takes.as_object())
    {
        template.extend(own.clone());
    }
    Workload { name, object, is_job, comes }
}

fn claim(
    random: &mut Random,
    number: usize,
    comes: Duration,
    primitives: &[Primitive],
) -> Option<ClaimStory> {
    let primitive = random.pick(primitives)?;
    let kind = primitive.is.kind;
    let mut spec = json!({
        "primitive": {"kind": kind.api_kind(), "name": primitive.is.name}, "holder": format!("client-{number}"),
    });
    if kind == Kind::RWMutex {
        spec["mode"] = json!(if random.chance(500) { "Read" } else { "Write" });
    }
    let takes_time = matches!(kind, Kind::Mutex | Kind::RWMutex | Kind::Semaphore | Kind::Lease);
    let by_time = takes_time && random.chance(600);
    let ttl = random.between(4, 20);
    if by_time {
        spec["ttl"] = json!(format!("{ttl}s"));
    }
    let by_time = by_time || kind == Kind::Lease;
    let ttl = if spec["ttl"].is_null() { 15 } else { ttl };
    Some(ClaimStory {
        name: format!("claim-{number}"),
        spec,
        comes,
        works: random.millis(500, 40_000),
        renews: by_time.then(|| Duration::from_secs(ttl) / 3),
        dies: (by_time && random.chance(300)).then(|| random.millis(0, 30_000)),
        succeeds: random.chance(700),
    })
}
