//! Claims: who holds by name, how that ends, and what they are told.

use jiff::SignedDuration;
use konductor_api::barrier::{Barrier, BarrierPhase, BarrierSpec};
use konductor_api::claim::{
    Claim, ClaimMode, ClaimOutcome, ClaimPhase, ClaimSpec, ClaimStatus, ClaimedPrimitive, ClaimingPod,
};
use konductor_api::conditions::{CLAIM_GRANTED, Claimed, reason, set};
use konductor_api::lease::{Lease, LeaseSpec};
use konductor_api::ledger::{Evidence, ParticipantKind};
use konductor_api::mutex::{Mutex, MutexSpec};
use konductor_api::once::{Once, OnceSpec};
use konductor_api::participation::Kind;
use konductor_api::waitgroup::{WaitGroup, WaitGroupPhase, WaitGroupSpec};
use konductor_primitives::claim::{ClaimTelling, Defaults, participant, telling};
use konductor_primitives::committed::Committed;
use konductor_primitives::facts::NodeState;
use konductor_primitives::snapshot::{Participant, Snapshot};
use konductor_primitives::step::{Expiry, Lookup};

use super::support::{
    PodSketch, Primitive, at, commit, fresh, name_of, pod, snapshot, time, uid, waits, works,
};

const TTL: i64 = 10;

fn claim_on(kind: Kind, name: &str, place: i64) -> Claim {
    let spec = ClaimSpec {
        primitive: ClaimedPrimitive { kind, name: "x".to_owned() },
        mode: None,
        permits: None,
        holder: format!("{name}@laptop"),
        ttl: None,
        renew_time: None,
        timeout: None,
        priority: None,
        outcome: None,
        binding: None,
        requester: Some("ann".to_owned()),
        pod: None,
    };
    let mut claim = Claim::new(name, spec);
    claim.metadata.uid = Some(uid(name));
    claim.metadata.creation_timestamp = Some(time(place));
    claim
}

fn claim(name: &str, place: i64) -> Claim {
    claim_on(Kind::Mutex, name, place)
}

trait Says {
    fn told(self, phase: ClaimPhase, reason: &str, token: Option<&str>) -> Self;
    fn granted(self) -> Self;
    fn ttl(self) -> Self;
    fn made_in(self, pod: &str) -> Self;
    fn outcome(self, outcome: ClaimOutcome) -> Self;
    fn deleting(self) -> Self;
    fn mode(self, mode: ClaimMode) -> Self;
    fn timeout(self, timeout: &str) -> Self;
    fn takes_part(&self) -> Participant;
    fn silent(&self, seconds: i64) -> Participant;
    fn with(&self, pod: &PodSketch) -> Participant;
}

impl Says for Claim {
    fn told(mut self, phase: ClaimPhase, reason: &str, token: Option<&str>) -> Self {
        let mut status =
            ClaimStatus { phase: Some(phase), token: token.map(str::to_owned), ..ClaimStatus::default() };
        let claimed = Claimed {
            type_: CLAIM_GRANTED,
            status: phase == ClaimPhase::Granted,
            reason,
            message: String::new(),
        };
        set(&mut status.conditions, claimed, Some(1), at(1));
        self.status = Some(status);
        self
    }
    fn granted(self) -> Self {
        self.told(ClaimPhase::Granted, reason::GRANTED, Some("5"))
    }
    fn ttl(mut self) -> Self {
        self.spec.ttl = Some(format!("{TTL}s").parse().unwrap());
        self
    }
    fn made_in(mut self, pod: &str) -> Self {
        self.spec.pod = Some(ClaimingPod { name: pod.to_owned(), uid: uid(pod) });
        self
    }
    fn outcome(mut self, outcome: ClaimOutcome) -> Self {
        self.spec.outcome = Some(outcome);
        self
    }
    fn deleting(mut self) -> Self {
        self.metadata.deletion_timestamp = Some(time(40));
        self
    }
    fn mode(mut self, mode: ClaimMode) -> Self {
        self.spec.mode = Some(mode);
        self
    }
    fn timeout(mut self, timeout: &str) -> Self {
        self.spec.timeout = Some(timeout.parse().unwrap());
        self
    }
    fn takes_part(&self) -> Participant {
        self.silent(0)
    }
    fn silent(&self, seconds: i64) -> Participant {
        participant(self, Defaults::default(), None, SignedDuration::from_secs(seconds)).unwrap()
    }
    fn with(&self, pod: &PodSketch) -> Participant {
        participant(self, Defaults::default(), Some(pod.facts()), SignedDuration::ZERO).unwrap()
    }
}

fn lock() -> Mutex {
    fresh(Mutex::new("x", MutexSpec::default()))
}

/// That claim holds the mutex, as it was when it was granted it.
fn held_by(claim: &Claim, pod: Option<&PodSketch>) -> Snapshot<Mutex> {
    let comes = pod.map_or_else(|| claim.takes_part(), |pod| claim.with(pod));
    let mut held = snapshot(lock(), vec![comes]);
    let status = commit(&mut held);
    assert_eq!(status.holder, Some(format!("claim/{}", claim.metadata.name.clone().unwrap())));
    held
}

/// And then this is seen of it.
fn then(mut held: Snapshot<Mutex>, seen: Vec<Participant>) -> Snapshot<Mutex> {
    held.participants = seen;
    held
}

/// What the last hold ended on.
fn evidence(held: &mut Snapshot<Mutex>) -> Option<Evidence> {
    let status = commit(held);
    status.ledger.history.first().map(|release| release.evidence)
}

/// A pod that runs, and whose object we keep.
fn host() -> PodSketch {
    pod("host").without_waiter().runs("main", "main-1", 4).with_finalizer()
}

fn tells<P: Primitive>(claim: &Claim, primitive: &P) -> Option<ClaimTelling> {
    let name = name_of(claim.spec.primitive.kind, "x");
    telling(claim, &name, claim.spec.role().unwrap(), primitive.committed(), None, at(50))
}

fn is(told: Option<ClaimTelling>) -> (ClaimPhase, &'static str) {
    let told = told.unwrap();
    (told.phase, told.reason)
}

// ------------------------------------------------------------------------------------------------------ coming

#[test]
fn claims_pods_and_jobs_stand_in_one_queue() {
    let mut all = snapshot(lock(), vec![waits("late", 9), claim("c", 1).takes_part(), waits("second", 2)]);
    let status = commit(&mut all);
    let holder = &status.ledger.holders[0];
    assert_eq!((holder.kind, holder.display().as_str()), (ParticipantKind::Claim, "claim/c"));
    assert_eq!(holder.holder.as_deref(), Some("c@laptop"));
    assert_eq!(
        status.common.queue.iter().map(|waiter| waiter.name.as_str()).collect::<Vec<_>>(),
        ["second", "late"]
    );
    let mut behind = snapshot(lock(), vec![works("p"), waits("first", 1), claim("c", 2).takes_part()]);
    assert_eq!(commit(&mut behind).common.queue[0].holder.as_deref(), Some("c@laptop"));
}

#[test]
fn one_that_was_made_in_a_pod_waits_until_the_object_of_the_pod_is_kept() {
    let bound = claim("c", 1).made_in("host");
    let unkept = pod("host").without_waiter().runs("main", "main-1", 4);
    for comes in [bound.takes_part(), bound.with(&unkept), bound.with(&host().deleting())] {
        let mut waits = snapshot(lock(), vec![comes]);
        let status = commit(&mut waits);
        assert!(status.ledger.holders.is_empty());
        assert!(status.common.queue[0].not_yet.as_ref().unwrap().contains("pod"));
    }
    let held = held_by(&bound, Some(&host()));
    let pod = held.primitive.status.unwrap().ledger.holders[0].pod.clone();
    assert_eq!(pod, Some(ClaimingPod { name: "host".to_owned(), uid: uid("host") }));
}

#[test]
fn what_is_over_does_not_come() {
    for over in [
        claim("c", 1).deleting(),
        claim("c", 1).told(ClaimPhase::Denied, reason::BUSY, None),
        claim("c", 1).told(ClaimPhase::Expired, reason::NOT_RENEWED, None),
        claim("c", 1).told(ClaimPhase::Released, reason::RELEASED, None),
        claim("c", 1).granted(),
    ] {
        let mut all = snapshot(lock(), vec![over.takes_part()]);
        assert!(commit(&mut all).ledger.holders.is_empty(), "{over:?}");
    }
}

// ----------------------------------------------------------------------------------------------------- the end

#[test]
fn it_is_given_back_by_deleting_it_or_by_its_outcome() {
    let it = claim("c", 1);
    for ended in [it.clone().granted().deleting(), it.clone().granted().outcome(ClaimOutcome::Failed)] {
        let mut held = then(held_by(&it, None), vec![ended.takes_part(), waits("next", 2)]);
        assert_eq!(evidence(&mut held), Some(Evidence::Released));
        assert_eq!(held.primitive.status.unwrap().holder.as_deref(), Some("pod/next"));
    }
}

#[test]
fn an_outcome_before_the_grant_was_told_ends_nothing() {
    let it = claim("c", 1);
    let mut held = then(held_by(&it, None), vec![it.outcome(ClaimOutcome::Succeeded).takes_part()]);
    assert_eq!(evidence(&mut held), None);
}

#[test]
fn that_it_cannot_be_seen_ends_nothing_before_the_api_server_says_that_it_is_gone() {
    let it = claim("c", 1);
    let mut held = then(held_by(&it, None), vec![]);
    let step = Mutex::step(&held);
    let lookup = Lookup { kind: ParticipantKind::Claim, name: "c".to_owned(), uid: uid("c") };
    assert_eq!((step.status.ledger.holders.len(), step.lookups), (1, vec![lookup]));
    held.absent.insert(uid("c"));
    assert_eq!(evidence(&mut held), Some(Evidence::Released));
}

#[test]
fn silence_ends_it_after_the_whole_ttl_and_after_it_was_told() {
    let it = claim("c", 1).ttl();
    let told = it.clone().granted();
    let held = then(held_by(&it, None), vec![told.silent(TTL - 1), waits("next", 2)]);
    let step = Mutex::step(&held);
    assert_eq!((step.expiries.len(), step.wake_at), (0, Some(at(51))));
    let mut held = then(held, vec![told.silent(TTL), waits("next", 2)]);
    let step = Mutex::step(&held);
    let expiry = Expiry { name: "c".to_owned(), uid: uid("c"), evidence: Evidence::T };
    assert_eq!((step.expiries, step.status.ledger.holders.len()), (vec![expiry], 1));
    assert_eq!(step.status.holder.as_deref(), Some("claim/c"), "the claim is told first");
    let told = it.told(ClaimPhase::Expired, reason::NOT_RENEWED, Some("5"));
    held.participants[0] = told.takes_part();
    assert_eq!(evidence(&mut held), Some(Evidence::T));
    assert_eq!(held.primitive.status.unwrap().holder.as_deref(), Some("pod/next"));
}

#[test]
fn nobody_is_silent_who_was_told_nothing_or_has_no_ttl_or_was_made_in_a_pod() {
    let it = claim("c", 1).ttl();
    let endless = claim("c", 1).granted();
    for seen in [
        it.silent(99),
        it.clone().told(ClaimPhase::Waiting, reason::WAITING, None).silent(99),
        endless.silent(99),
    ] {
        let held = then(held_by(&claim("c", 1), None), vec![seen]);
        let step = Mutex::step(&held);
        assert_eq!((step.expiries, step.wake_at), (vec![], None));
    }
    let bound = it.made_in("host");
    let mut seen = bound.clone().granted().with(&host());
    seen.claim.as_mut().unwrap().silent_for = SignedDuration::from_secs(99);
    let held = then(held_by(&bound, Some(&host())), vec![seen]);
    assert!(Mutex::step(&held).expiries.is_empty());
}

#[test]
fn the_ttl_of_the_primitive_counts_for_who_names_none() {
    let ttl = Some("20s".parse().unwrap());
    let seen = |claim: &Claim| {
        participant(claim, Defaults { priority: 0, ttl }, None, SignedDuration::from_secs(15)).unwrap()
    };
    for (claim, lost) in [(claim("c", 1).granted(), 0), (claim("c", 1).ttl().granted(), 1)] {
        let held = then(held_by(&super::claim::claim("c", 1), None), vec![seen(&claim)]);
        assert_eq!(Mutex::step(&held).expiries.len(), lost);
    }
}

#[test]
fn with_the_proven_end_of_its_pod_it_ends_and_not_before() {
    let it = claim("c", 1).made_in("host");
    let told = it.clone().granted();
    let held = || held_by(&it, Some(&host()));
    let mut going = then(held(), vec![told.with(&host().deleting())]);
    assert_eq!(evidence(&mut going), None, "that it is being deleted proves nothing");
    let ended = host().done(1).over("Failed");
    assert_eq!(evidence(&mut then(held(), vec![told.with(&ended)])), Some(Evidence::P1));
    let mut unseen = then(held(), vec![told.takes_part()]);
    let lookup = Lookup { kind: ParticipantKind::Pod, name: "host".to_owned(), uid: uid("host") };
    assert_eq!(Mutex::step(&unseen).lookups, [lookup]);
    unseen.absent.insert(uid("host"));
    assert_eq!(evidence(&mut unseen), Some(Evidence::P1), "our finalizer went after its end only");
}

#[test]
fn a_claim_that_went_while_its_pod_is_going_waits_for_the_end_of_the_pod() {
    let it = claim("c", 1).made_in("host");
    let mut held = held_by(&it, Some(&host()));
    held.participants.clear();
    held.absent.insert(uid("c"));
    held.strays = vec![host().deleting().facts()];
    assert_eq!(evidence(&mut held), None, "who deletes a pod in the foreground deletes its claims first");
    held.strays = vec![host().deleting().done(0).over("Succeeded").facts()];
    assert_eq!(evidence(&mut held), Some(Evidence::P1));
    let mut held = held_by(&it, Some(&host()));
    held.participants = vec![it.granted().deleting().with(&host().deleting())];
    assert_eq!(evidence(&mut held), None);
    held.participants[0].pods = vec![host().facts()];
    assert_eq!(evidence(&mut held), Some(Evidence::Released), "who lives has given it back");
}

#[test]
fn a_machine_that_is_off_ends_it_only_if_the_pod_is_being_deleted() {
    let it = claim("c", 1).made_in("host");
    let off = |sketch: PodSketch| {
        let facts = konductor_primitives::facts::PodFacts::of(sketch.object(), NodeState::OutOfService);
        let told = it.clone().granted();
        participant(&told, Defaults::default(), Some(facts), SignedDuration::ZERO).unwrap()
    };
    let mut held = then(held_by(&it, Some(&host())), vec![off(host())]);
    held.fresh.insert(uid("host"));
    assert_eq!(evidence(&mut held), None);
    held.participants = vec![off(host().deleting())];
    held.fresh.clear();
    assert_eq!(Mutex::step(&held).lookups.len(), 1, "a cache may be behind the machine's return");
    held.fresh.insert(uid("host"));
    assert_eq!(evidence(&mut held), Some(Evidence::A1));
}

#[test]
fn a_hold_that_is_broken_is_told_first_and_only_the_one_that_was_named() {
    let it = claim("c", 1);
    let mut held = then(held_by(&it, None), vec![it.clone().granted().takes_part()]);
    let token = held.primitive.status.as_ref().unwrap().ledger.holders[0].token.clone();
    let breaks = |held: &mut Snapshot<Mutex>, token: &str| {
        let annotation = ("konductor.io/break".to_owned(), token.to_owned());
        held.primitive.metadata.annotations = Some([annotation].into_iter().collect());
    };
    breaks(&mut held, "4");
    assert!(Mutex::step(&held).expiries.is_empty(), "another hold was broken");
    breaks(&mut held, &token);
    assert_eq!(Mutex::step(&held).expiries[0].evidence, Evidence::A3);
    held.participants = vec![it.told(ClaimPhase::Expired, reason::BROKEN, None).takes_part()];
    assert_eq!(evidence(&mut held), Some(Evidence::A3));
}

#[test]
fn who_was_denied_holds_nothing_whatever_was_decided_meanwhile() {
    let it = claim("c", 1);
    let denied = it.clone().told(ClaimPhase::Denied, reason::TIMED_OUT, None);
    assert_eq!(evidence(&mut then(held_by(&it, None), vec![denied.takes_part()])), Some(Evidence::P0));
}

// ------------------------------------------------------------------------------------------------ what it is told

#[test]
fn it_is_told_its_token_once() {
    let it = claim("c", 1);
    let held = held_by(&it, None);
    let token = held.primitive.status.as_ref().unwrap().ledger.holders[0].token.clone();
    let told = tells(&it, &held.primitive).unwrap();
    assert_eq!((told.phase, told.token), (ClaimPhase::Granted, Some(token)));
    assert_eq!(tells(&it.granted(), &held.primitive), None);
}

#[test]
fn it_waits_until_its_time_is_up_and_not_at_all_if_it_has_none() {
    let mut held = snapshot(lock(), vec![works("p"), waits("p2", 0)]);
    commit(&mut held);
    let of = |claim: Claim| is(tells(&claim, &held.primitive));
    assert_eq!(of(claim("c", 1)), (ClaimPhase::Waiting, reason::WAITING));
    assert_eq!(of(claim("c", 1).timeout("30s")), (ClaimPhase::Denied, reason::TIMED_OUT));
    assert_eq!(of(claim("c", 21).timeout("30s")), (ClaimPhase::Waiting, reason::WAITING));
    assert_eq!(of(claim("c", 1).timeout("0s")), (ClaimPhase::Denied, reason::BUSY));
    let free = snapshot(lock(), vec![]).primitive;
    let now = claim("c", 1).timeout("0s");
    assert_eq!(is(tells(&now, &free)).0, ClaimPhase::Waiting, "nobody holds it: it has not been looked at");
    let name = name_of(Kind::Mutex, "x");
    let missing = telling(&now, &name, now.spec.role().unwrap(), Committed::Missing, None, at(50));
    assert_eq!(is(missing), (ClaimPhase::Denied, reason::BUSY));
}

#[test]
fn who_was_told_is_told_what_became_of_it() {
    let it = claim("c", 1);
    let told = it.clone().granted();
    let mut held = then(held_by(&it, None), vec![told.clone().outcome(ClaimOutcome::Succeeded).takes_part()]);
    assert_eq!(tells(&told, &held.primitive), None);
    commit(&mut held);
    let back = told.clone().outcome(ClaimOutcome::Succeeded);
    assert_eq!(is(tells(&back, &held.primitive)), (ClaimPhase::Released, reason::RELEASED));
    assert_eq!(is(tells(&told, &held.primitive)), (ClaimPhase::Expired, reason::LOST));
    let over = it.told(ClaimPhase::Expired, reason::NOT_RENEWED, None);
    assert_eq!(tells(&over, &held.primitive), None, "that is final");
}

#[test]
fn a_once_is_executed_by_the_outcome_of_whoever_held_it_and_by_nothing_else() {
    let it = claim_on(Kind::Once, "c", 1);
    let comes = || {
        let mut once = snapshot(fresh(Once::new("x", OnceSpec::default())), vec![it.takes_part()]);
        commit(&mut once);
        once
    };
    for (ended, executed, attempts) in [
        (it.clone().granted().outcome(ClaimOutcome::Succeeded), true, 0),
        (it.clone().granted().outcome(ClaimOutcome::Failed), false, 1),
        (it.clone().granted().deleting(), false, 1),
        (it.clone().deleting(), false, 0),
    ] {
        let mut once = comes();
        once.participants = vec![ended.takes_part()];
        let status = commit(&mut once);
        assert_eq!((status.executed, status.attempts), (executed, attempts), "{ended:?}");
        if executed {
            let late = claim_on(Kind::Once, "late", 2);
            assert_eq!(is(tells(&late, &once.primitive)), (ClaimPhase::Granted, reason::SKIPPED));
            let skipped = late.told(ClaimPhase::Granted, reason::SKIPPED, None);
            assert_eq!(tells(&skipped, &once.primitive), None);
        }
    }
}

#[test]
fn a_lease_goes_from_one_claim_to_the_next() {
    let (first, second) = (claim_on(Kind::Lease, "a", 1), claim_on(Kind::Lease, "b", 2));
    let mut lease =
        snapshot(fresh(Lease::new("x", LeaseSpec::default())), vec![first.takes_part(), second.takes_part()]);
    commit(&mut lease);
    lease.participants[0] = first.granted().deleting().takes_part();
    assert_eq!(commit(&mut lease).holder.as_deref(), Some("claim/b"));
}

#[test]
fn at_a_barrier_it_counts_while_it_is_there_and_who_only_arrives_is_told_so_at_once() {
    let spec: BarrierSpec = serde_json::from_value(serde_json::json!({"expected": 2})).unwrap();
    let arrives = claim_on(Kind::Barrier, "a", 1).mode(ClaimMode::Arrive);
    let meets = claim_on(Kind::Barrier, "b", 2);
    let mut barrier = snapshot(fresh(Barrier::new("x", spec)), vec![arrives.takes_part()]);
    assert_eq!(commit(&mut barrier).arrived, 1);
    assert_eq!(is(tells(&arrives, &barrier.primitive)), (ClaimPhase::Granted, reason::GRANTED));
    let arrives = arrives.told(ClaimPhase::Granted, reason::GRANTED, None);
    barrier.participants = vec![arrives.clone().deleting().takes_part()];
    assert_eq!(commit(&mut barrier).arrived, 0, "who goes before it opens counts no more");
    barrier.participants = vec![meets.takes_part()];
    assert_eq!(commit(&mut barrier).arrived, 1);
    assert_eq!(is(tells(&meets, &barrier.primitive)).0, ClaimPhase::Waiting);
    barrier.participants = vec![meets.takes_part(), claim_on(Kind::Barrier, "c", 3).takes_part()];
    assert_eq!(commit(&mut barrier).phase, Some(BarrierPhase::Open));
    assert_eq!(is(tells(&meets, &barrier.primitive)).0, ClaimPhase::Granted);
}

#[test]
fn in_a_wait_group_it_is_a_member_until_it_says_so_or_is_gone() {
    let (a, b) = (claim_on(Kind::WaitGroup, "a", 1), claim_on(Kind::WaitGroup, "b", 2));
    let awaits = claim_on(Kind::WaitGroup, "w", 3).mode(ClaimMode::Wait);
    let all = vec![a.takes_part(), b.takes_part(), awaits.takes_part()];
    let mut group = snapshot(fresh(WaitGroup::new("x", WaitGroupSpec::default())), all);
    assert_eq!(commit(&mut group).counter, 2);
    assert_eq!(is(tells(&a, &group.primitive)).0, ClaimPhase::Granted);
    assert_eq!(is(tells(&awaits, &group.primitive)).0, ClaimPhase::Waiting);
    let done = a.told(ClaimPhase::Granted, reason::GRANTED, None).outcome(ClaimOutcome::Succeeded);
    group.participants = vec![done.takes_part()];
    group.absent.insert(uid("b"));
    assert_eq!(commit(&mut group).phase, Some(WaitGroupPhase::Done));
    assert_eq!(is(tells(&awaits, &group.primitive)).0, ClaimPhase::Granted);
}
