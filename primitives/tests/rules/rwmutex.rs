//! Who of readers and writers comes next, under each policy.

use konductor_api::conditions::HELD;
use konductor_api::participation::Role;
use konductor_api::rwmutex::RWMutexPolicy::{Fair, PhaseFair, PreferReaders, PreferWriters};
use konductor_api::rwmutex::{RWMutex, RWMutexPhase, RWMutexPolicy, RWMutexSpec, RWMutexStatus};
use konductor_primitives::entrance::Entrance;
use konductor_primitives::rwmutex::check;
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;

use super::support::{
    Says, commit, edit, entrance, fresh, holders, is_in, message, of_pod, pod, snapshot, succeeded, waits,
    works,
};

/// `r…` reads and `w…` writes; it waits in that place.
fn comes(name: &str, place: i64) -> Participant {
    waits(name, place).role(role(name))
}

fn role(name: &str) -> Role {
    if name.starts_with('w') { Role::Write } else { Role::Read }
}

/// A lock before which these have come, one after the other.
fn lock(policy: RWMutexPolicy, names: &[&str]) -> Snapshot<RWMutex> {
    let lock = fresh(RWMutex::new("x", RWMutexSpec { policy, ttl: None }));
    snapshot(lock, names.iter().zip(0..).map(|(name, place)| comes(name, place)).collect())
}

/// The same, a step later: these have ended, those hold, these wait.
fn later(snapshot: &mut Snapshot<RWMutex>, ended: &[&str], hold: &[&str], wait: &[&str]) -> Vec<String> {
    let ended = ended.iter().map(|name| succeeded(name).role(role(name)));
    let hold = hold.iter().map(|name| works(name).role(role(name)));
    let wait = wait.iter().zip(0..).map(|(name, place)| comes(name, place));
    snapshot.participants = ended.chain(hold).chain(wait).collect();
    holders(&commit(snapshot).ledger).into_iter().map(str::to_owned).collect()
}

#[rstest]
#[case::fair_readers_together(Fair, &["r1", "r2", "w3", "r4"], &["r1", "r2"])]
#[case::fair_a_writer_alone(Fair, &["w1", "r2", "w3"], &["w1"])]
#[case::phase_fair_is_fair_at_first(PhaseFair, &["r1", "r2", "w3", "r4"], &["r1", "r2"])]
#[case::phase_fair_a_writer_alone(PhaseFair, &["w1", "r2", "r3"], &["w1"])]
#[case::readers_past_the_writers(PreferReaders, &["w1", "r2", "w3", "r4"], &["r2", "r4"])]
#[case::writers_among_themselves(PreferReaders, &["w1", "w2"], &["w1"])]
#[case::a_writer_past_the_readers(PreferWriters, &["r1", "w2", "r3", "w4"], &["w2"])]
#[case::readers_when_no_writer_waits(PreferWriters, &["r1", "r2"], &["r1", "r2"])]
fn a_free_lock_takes(#[case] policy: RWMutexPolicy, #[case] come: &[&str], #[case] enter: &[&str]) {
    assert_eq!(holders(&commit(&mut lock(policy, come)).ledger), enter);
}

#[rstest]
#[case::fair(Fair, &["r1"])]
#[case::phase_fair(PhaseFair, &["r1"])]
#[case::prefer_readers(PreferReaders, &["r1", "r3"])]
#[case::prefer_writers(PreferWriters, &["r1"])]
fn a_reader_that_comes_while_a_writer_waits_for_readers(
    #[case] policy: RWMutexPolicy,
    #[case] hold: &[&str],
) {
    let mut snapshot = lock(policy, &["r1"]);
    commit(&mut snapshot);
    assert_eq!(later(&mut snapshot, &[], &["r1"], &["w2", "r3"]), hold);
}

#[rstest]
#[case::fair_in_turn(Fair, &["r2"])]
#[case::phase_fair_all_readers(PhaseFair, &["r2", "r4", "r6"])]
#[case::prefer_readers_all_readers(PreferReaders, &["r2", "r4", "r6"])]
#[case::prefer_writers_the_next_writer(PreferWriters, &["w3"])]
fn when_a_writer_leaves(#[case] policy: RWMutexPolicy, #[case] enter: &[&str]) {
    let mut snapshot = lock(policy, &["w1"]);
    commit(&mut snapshot);
    let waiting = ["r2", "w3", "r4", "w5", "r6"];
    assert_eq!(later(&mut snapshot, &["w1"], &[], &waiting), enter);
}

#[rstest]
fn when_the_last_reader_leaves_the_writer_enters(
    #[values(Fair, PhaseFair, PreferReaders, PreferWriters)] policy: RWMutexPolicy,
) {
    let mut snapshot = lock(policy, &["r1", "r2"]);
    commit(&mut snapshot);
    assert_eq!(later(&mut snapshot, &["r1"], &["r2"], &["w3"]), ["r2"]);
    assert_eq!(later(&mut snapshot, &["r2"], &[], &["w3", "w4"]), ["w3"]);
}

#[test]
fn a_stream_of_readers_does_not_overtake_a_writer() {
    let mut snapshot = lock(Fair, &["r0"]);
    commit(&mut snapshot);
    for late in ["r2", "r3", "r4"] {
        assert_eq!(later(&mut snapshot, &[], &["r0"], &["w1", late]), ["r0"]);
    }
    assert_eq!(later(&mut snapshot, &["r0"], &[], &["w1", "r2", "r3"]), ["w1"]);
    assert_eq!(later(&mut snapshot, &["w1"], &[], &["r2", "r3"]), ["r2", "r3"]);
}

#[test]
fn under_phase_fair_a_reader_waits_for_one_writer_only() {
    let mut snapshot = lock(PhaseFair, &["w1"]);
    commit(&mut snapshot);
    assert_eq!(later(&mut snapshot, &["w1"], &[], &["w2", "r3", "w4", "r5"]), ["r3", "r5"]);
    // The phase of the readers is under way: who comes now waits for the next writer, and for no other.
    assert_eq!(later(&mut snapshot, &[], &["r3", "r5"], &["w2", "w4", "r6"]), ["r3", "r5"]);
    assert_eq!(later(&mut snapshot, &["r3", "r5"], &[], &["w2", "w4", "r6"]), ["w2"]);
    assert_eq!(later(&mut snapshot, &["w2"], &[], &["w4", "r6", "r7"]), ["r6", "r7"]);
    assert_eq!(later(&mut snapshot, &["r6", "r7"], &[], &["w4"]), ["w4"]);
}

#[rstest]
fn readers_behind_a_writer_that_leaves_the_queue_enter(
    #[values(Fair, PhaseFair, PreferWriters)] policy: RWMutexPolicy,
) {
    let mut snapshot = lock(policy, &["r1"]);
    commit(&mut snapshot);
    assert_eq!(later(&mut snapshot, &[], &["r1"], &["w2", "r3", "r4"]), ["r1"]);
    assert_eq!(later(&mut snapshot, &[], &["r1"], &["r3", "r4"]), ["r1", "r3", "r4"]);
}

#[rstest]
fn a_writer_that_cannot_start_stops_nobody(#[values(Fair, PhaseFair, PreferWriters)] policy: RWMutexPolicy) {
    let mut snapshot = lock(policy, &["w1", "r2"]);
    snapshot.participants[0] = of_pod(&pod("w1"), 0).role(Role::Write);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r2"]);
}

#[test]
fn readers_of_a_higher_priority_go_before_a_writer_between_them() {
    let mut snapshot = lock(Fair, &["r1", "w2", "r3"]);
    snapshot.participants =
        vec![comes("r1", 0).priority(5), comes("w2", 1), comes("r3", 2).priority(5), comes("r4", 3)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1", "r3"]);
}

#[test]
fn a_writer_of_a_higher_priority_goes_before_readers_that_came_first() {
    let mut snapshot = lock(Fair, &["r1", "r2"]);
    snapshot.participants.push(comes("w3", 9).priority(1));
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["w3"]);
}

#[test]
fn a_new_policy_counts_from_the_next_grant_and_puts_nobody_out() {
    let mut snapshot = lock(Fair, &["r1", "w2", "r3"]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1"]);
    edit(&mut snapshot, |lock| lock.spec.policy = PreferReaders);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1", "r3"]);
    edit(&mut snapshot, |lock| lock.spec.policy = PreferWriters);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1", "r3"]);
}

#[test]
fn a_reader_leaves_for_itself_and_two_of_one_name_are_two() {
    let mut snapshot = lock(Fair, &["r1", "r2"]);
    commit(&mut snapshot);
    assert_eq!(later(&mut snapshot, &["r1"], &["r2"], &[]), ["r2"]);
    let again = pod("r2").made_again().waiter_running(2);
    snapshot.participants = vec![works("r2").role(Role::Read), of_pod(&again, 5).role(Role::Read)];
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.readers), (vec!["r2", "r2"], 2));
    assert_ne!(status.ledger.holders[0].uid, status.ledger.holders[1].uid);
}

#[test]
fn people_read_who_holds_and_how() {
    let mut snapshot = lock(Fair, &[]);
    let free = commit(&mut snapshot);
    assert_eq!((free.phase, message(&free.common, HELD).0.as_str()), (Some(RWMutexPhase::Unlocked), "False"));
    snapshot.participants = vec![comes("r1", 0), comes("r2", 1), comes("w3", 2)];
    let read = commit(&mut snapshot);
    assert_eq!((read.phase, read.readers), (Some(RWMutexPhase::ReadLocked), 2));
    assert_eq!(message(&read.common, HELD).1, "held to read by pod/r1 and pod/r2");
    let Entrance::Closed { busy, .. } = entrance(&snapshot, &comes("w9", 9)) else {
        panic!("it should wait")
    };
    assert!(busy);
    later(&mut snapshot, &["r1", "r2"], &[], &["w3"]);
    let written = snapshot.primitive.status.clone().unwrap();
    assert_eq!((written.phase, written.readers), (Some(RWMutexPhase::WriteLocked), 0));
    assert_eq!(written.write_holder.as_deref(), Some("pod/w3"));
    assert!(is_in(&entrance(&snapshot, &comes("w3", 2))));
}

#[rstest]
#[case::two_writers(&["w1", "w2"], true)]
#[case::a_writer_beside_a_reader(&["r1", "w2"], true)]
#[case::two_readers(&["r1", "r2"], false)]
#[case::one_writer(&["w1"], false)]
fn no_write_lets_a_writer_in_beside_others(#[case] names: &[&str], #[case] refused: bool) {
    let mut after = RWMutexStatus::default();
    for name in names {
        let mut alone = commit(&mut lock(Fair, &[*name])).ledger;
        let mut holder = alone.holders.remove(0);
        holder.token = ((7_u64 << 16) + u64::try_from(after.ledger.holders.len()).unwrap()).to_string();
        after.ledger.last_token = Some(holder.token.clone());
        after.ledger.holders.push(holder);
    }
    let answer = check(&lock(Fair, &[]).primitive, &after);
    assert_eq!(
        answer.map_err(|violation| violation.invariant),
        if refused { Err("LedgerExclusion") } else { Ok(()) }
    );
}
