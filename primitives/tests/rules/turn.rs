//! What all that can be held have in common: who leaves, who enters, and what stands in the way.

use konductor_api::conditions::{STALLED, reason};
use konductor_api::ledger::{ENTRIES, Evidence, Mode, ParticipantKind};
use konductor_api::participation::Role;
use konductor_api::rwmutex::{RWMutex, RWMutexSpec};
use konductor_api::semaphore::{Semaphore, SemaphoreSpec};
use konductor_primitives::semaphore::step;
use rstest::rstest;

use super::support::{
    PodSketch, Says, at, commit, fresh, held_by, holder, holders, is_ready, job, message, mutex, of_job,
    of_pod, pod, queue, reason_of, snapshot, succeeded, time, told, uid, waits, works,
};

fn semaphore(permits: i64) -> Semaphore {
    fresh(Semaphore::new("x", SemaphoreSpec { permits, ttl: None }))
}

#[test]
fn everything_that_is_legal_together_happens_in_one_write() {
    let all = ["a", "b", "c", "d", "e"].into_iter().zip(0..).map(|(name, place)| waits(name, place));
    let mut snapshot = snapshot(semaphore(3), all.collect());
    let first = commit(&mut snapshot);
    assert_eq!(holders(&first.ledger), ["a", "b", "c"]);
    snapshot.participants = vec![succeeded("a"), works("b"), succeeded("c"), waits("d", 3), waits("e", 4)];
    let second = commit(&mut snapshot);
    assert_eq!(holders(&second.ledger), ["b", "d", "e"]);
    let history: Vec<_> = second.ledger.history.iter().map(|release| release.holder.as_str()).collect();
    assert_eq!(history, ["pod/c", "pod/a"]);
}

#[test]
fn tokens_of_one_write_follow_each_other() {
    let all = vec![waits("a", 0), waits("b", 1), waits("c", 2)];
    let ledger = commit(&mut snapshot(semaphore(3), all)).ledger;
    let tokens: Vec<u64> = ledger.holders.iter().map(|holder| holder.token.parse().unwrap()).collect();
    assert_eq!(tokens, [7 << 16, (7 << 16) + 1, (7 << 16) + 2]);
    assert_eq!(ledger.last_token, Some(tokens[2].to_string()));
}

#[test]
fn nobody_leaves_before_the_withdrawal_and_the_others_need_not_wait_for_it() {
    let mut semaphore = semaphore(3);
    let old = |name| holder(ParticipantKind::Pod, name, vec![told(name, 1, 1)]);
    let mut held = semaphore.status.take().unwrap_or_default();
    held.ledger = held_by(vec![old("slow"), old("over")]);
    semaphore.status = Some(held);
    let slow = of_pod(&pod("slow").done(0), 0);
    let step = step(&snapshot(semaphore, vec![slow, succeeded("over"), waits("next", 1)]));
    assert_eq!(holders(&step.status.ledger), ["slow", "next"]);
    assert_eq!(step.withdrawals.iter().map(|it| it.pod.as_str()).collect::<Vec<_>>(), ["slow"]);
}

#[rstest]
#[case::it_has_no_node(pod("first").without_node())]
#[case::its_waiter_has_not_started(pod("first"))]
#[case::its_node_is_silent(pod("first").waiter_running(2).on_a_silent_node())]
fn who_cannot_start_is_passed_over_and_keeps_its_place(#[case] stuck: PodSketch) {
    let mut snapshot = snapshot(semaphore(1), vec![of_pod(&stuck, 0), waits("b", 1), waits("c", 2)]);
    let now = commit(&mut snapshot);
    assert_eq!((holders(&now.ledger), queue(&now.common)), (vec!["b"], vec!["first", "c"]));
    snapshot.participants = vec![waits("first", 0), succeeded("b"), waits("c", 2)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["first"]);
}

#[test]
fn a_job_is_passed_over_until_one_of_its_pods_waits() {
    let mut snapshot = snapshot(semaphore(1), vec![of_job("j", &job("j"), &[], 0)]);
    assert_eq!(commit(&mut snapshot).common.waiting, 1);
    let pods = [pod("j-0").waiter_running(9), pod("j-1")];
    snapshot.participants = vec![of_job("j", &job("j"), &pods, 0)];
    let ledger = commit(&mut snapshot).ledger;
    assert_eq!((holders(&ledger), ledger.holders[0].pods.len()), (vec!["j"], 1));
}

#[test]
fn who_lacks_what_comes_before_takes_nothing() {
    let mut early = waits("early", 0);
    early.reached = false;
    let status = commit(&mut snapshot(semaphore(2), vec![early, waits("b", 1)]));
    assert_eq!((holders(&status.ledger), status.common.waiting), (vec!["b"], 0));
}

#[rstest]
#[case::just_before(49, vec!["first"])]
#[case::when_it_is_over(50, vec!["second"])]
fn whose_time_is_up_takes_nothing_any_more(#[case] seconds: i64, #[case] enters: Vec<&str>) {
    let patient = waits("second", 1);
    let mut snapshot = snapshot(mutex(vec![]), vec![waits("first", 0).timeout("50s"), patient]);
    snapshot.now = at(seconds);
    assert_eq!(holders(&commit(&mut snapshot).ledger), enters);
}

#[test]
fn who_was_let_through_takes_what_comes_next_whatever_the_time() {
    // A Job between two attempts: its patience was about its start.
    let pods = [pod("j-0").done(1).over("Failed"), pod("j-1").waiter_running(30)];
    let retry = of_job("j", &job("j"), &pods, 0).timeout("10s");
    assert_eq!(holders(&commit(&mut snapshot(mutex(vec![]), vec![retry])).ledger), ["j"]);
}

#[test]
fn readers_behind_a_writer_whose_time_is_up_enter_in_the_same_write() {
    let lock = fresh(RWMutex::new("x", RWMutexSpec::default()));
    let mut snapshot = snapshot(lock, vec![waits("r1", 0).role(Role::Read)]);
    commit(&mut snapshot);
    let writer = waits("w", 1).role(Role::Write).timeout("30s");
    snapshot.participants = vec![works("r1").role(Role::Read), writer, waits("r2", 2).role(Role::Read)];
    snapshot.now = at(30);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1"]);
    snapshot.now = at(31);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["r1", "r2"]);
}

#[test]
fn a_full_ledger_takes_nobody_and_says_so_until_somebody_ends() {
    let name = |number: usize| format!("p{number:04}");
    let all = (0..ENTRIES + 2).map(|number| waits(&name(number), i64::try_from(number).unwrap()));
    let mut snapshot = snapshot(semaphore(1_000_000), all.collect());
    let full = commit(&mut snapshot);
    assert_eq!((full.ledger.holders.len(), full.common.waiting), (ENTRIES, 2));
    assert_eq!(reason_of(&full.common, STALLED), reason::LEDGER_FULL);
    assert!(message(&full.common, STALLED).1.contains("4000 entries"));
    snapshot.participants[7] = succeeded(&name(7));
    snapshot.participants[8] = succeeded(&name(8));
    let after = commit(&mut snapshot);
    assert_eq!((after.ledger.holders.len(), after.common.waiting), (ENTRIES, 0));
    assert!(is_ready(&after.common));
}

#[test]
fn the_history_names_all_that_ended_at_once_and_later_five() {
    let names: Vec<_> = (0..9).map(|number| format!("p{number}")).collect();
    let mut snapshot =
        snapshot(semaphore(9), names.iter().zip(0..).map(|(name, at)| waits(name, at)).collect());
    commit(&mut snapshot);
    snapshot.participants = names[..8].iter().map(|name| succeeded(name)).chain([works("p8")]).collect();
    assert_eq!(commit(&mut snapshot).ledger.history.len(), 8);
    snapshot.participants = vec![succeeded("p8")];
    let history = commit(&mut snapshot).ledger.history;
    assert_eq!((history.len(), history[0].holder.as_str()), (5, "pod/p8"));
    assert_eq!((history[0].evidence, &history[0].at), (Evidence::P1, &time(50)));
}

#[test]
fn many_suspects_are_told_of_in_one_sentence() {
    let names = ["a", "b", "c"];
    let mut snapshot =
        snapshot(semaphore(3), names.into_iter().zip(0..).map(|(name, at)| waits(name, at)).collect());
    commit(&mut snapshot);
    let silent = |name: &str| {
        of_pod(&pod(name).told_go(1, 2).waiter_passed(2, 3).runs("main", "m", 4).on_a_silent_node(), 0)
    };
    snapshot.participants = names.map(silent).to_vec();
    let status = commit(&mut snapshot);
    assert_eq!(reason_of(&status.common, STALLED), reason::HOLDER_SUSPECT);
    assert!(message(&status.common, STALLED).1.ends_with("(2 more holders are in doubt)"));
    assert_eq!(holders(&status.ledger), names);
}

#[test]
fn an_entry_says_what_was_asked_for() {
    let all = vec![waits("one", 0).role(Role::Take(1)), waits("three", 1).role(Role::Take(3))];
    let ledger = commit(&mut snapshot(semaphore(9), all)).ledger;
    let permits: Vec<_> = ledger.holders.iter().map(|holder| (holder.permits, holder.mode)).collect();
    assert_eq!(permits, [(None, None), (Some(3), None)]);
    let lock = fresh(RWMutex::new("x", RWMutexSpec::default()));
    let status = commit(&mut snapshot(
        lock,
        vec![waits("r", 0).role(Role::Read), waits("w", 1).role(Role::Write).priority(-1)],
    ));
    assert_eq!(status.ledger.holders[0].mode, Some(Mode::Read));
    assert_eq!((status.common.queue[0].mode, status.common.queue[0].priority), (Some(Mode::Write), Some(-1)));
}

#[test]
fn who_is_asked_about_twice_holds_once() {
    let mut snapshot = snapshot(semaphore(5), vec![waits("a", 0)]);
    let first = commit(&mut snapshot);
    snapshot.now = at(90);
    let again = commit(&mut snapshot);
    assert_eq!(first.ledger, again.ledger);
    assert_eq!(first.ledger.holders[0].uid, uid("a"));
}
