//! Who holds a mutex next, and what people read.

use konductor_api::conditions::{HELD, READY, STALLED};
use konductor_api::ledger::{Evidence, ParticipantKind};
use konductor_api::mutex::{Mutex, MutexPhase};
use konductor_primitives::describe::differ_in_queue_only;
use konductor_primitives::entrance::Entrance;
use konductor_primitives::mutex::step;
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};

use super::support::{
    at, commit_as as commit, entrance, holder, is_ready, job, line, message, mutex, of_job, of_pod, pod,
    snapshot, time, told, uid, waits,
};

#[test]
fn the_first_of_the_queue_becomes_the_holder() {
    let all = vec![waits("late", 9), waits("first", 1), waits("second", 2)];
    let snapshot = snapshot(mutex(vec![]), all);
    let step = step(&snapshot);
    let holder = &step.status.ledger.holders[0];
    assert_eq!((holder.display().as_str(), holder.kind), ("pod/first", ParticipantKind::Pod));
    assert_eq!((holder.token.clone(), &holder.granted_at), ((7_u64 << 16).to_string(), &time(50)));
    assert_eq!(holder.pods, [told("first", 1, 2)]);
    assert_eq!(line(&snapshot, &step), ["second", "late"].map(uid));
    assert_eq!((step.lookups, step.withdrawals, step.wake_at), (vec![], vec![], None));
}

#[test]
fn priority_goes_before_time_and_the_uid_breaks_ties() {
    let mut urgent = waits("urgent", 30);
    urgent.key = QueueKey::new(1, at(30), None, &urgent.uid);
    let all = vec![waits("b", 1), waits("a", 1), waits("holder", 0), urgent];
    let mut snapshot = snapshot(mutex(vec![]), all);
    assert_eq!(commit(&mut snapshot, 8).ledger.holders[0].name, "urgent");
    assert_eq!(line(&snapshot, &step(&snapshot)), ["holder", "a", "b"].map(uid));
    let mut later = waits("later", 40);
    later.key = QueueKey::new(-7, at(40), None, &later.uid);
    snapshot.participants.push(later);
    let shown: Vec<_> = step(&snapshot).status.common.queue.iter().map(|waiter| waiter.priority).collect();
    assert_eq!(shown, [None, None, None, Some(-7)]);
}

#[test]
fn who_cannot_start_keeps_its_place_but_blocks_nobody() {
    let all = vec![of_pod(&pod("unscheduled").without_node(), 0), waits("ready", 1)];
    let snapshot = snapshot(mutex(vec![]), all);
    let step = step(&snapshot);
    assert_eq!(step.status.ledger.holders[0].name, "ready");
    assert_eq!(line(&snapshot, &step), [uid("unscheduled")]);
    assert!(step.status.common.queue[0].not_yet.is_some());
}

#[test]
fn who_asks_is_told_how_it_stands() {
    let said = |snapshot: &Snapshot<Mutex>, who: &Participant| match entrance(snapshot, who) {
        Entrance::Closed { message, .. } | Entrance::Next { message } => message,
        other => panic!("it should wait: {other:?}"),
    };
    let mut snapshot = snapshot(mutex(vec![]), vec![waits("a", 0), waits("b", 1)]);
    let (a, b) = (snapshot.participants[0].clone(), snapshot.participants[1].clone());
    assert_eq!(said(&snapshot, &a), "waits for mutex/x: nobody holds it");
    commit(&mut snapshot, 8);
    assert_eq!(said(&snapshot, &b), "waits for mutex/x: held by pod/a since 2030-06-01T12:00:50Z");
    let again = of_pod(&pod("a").waiter_running(30), 0);
    assert_eq!(said(&snapshot, &again), "waits for mutex/x: it is this one's turn");
}

#[test]
fn nobody_enters_while_somebody_holds_and_asking_again_changes_nothing() {
    let mut snapshot = snapshot(mutex(vec![]), vec![waits("a", 0), waits("b", 1)]);
    let first = commit(&mut snapshot, 8);
    assert_eq!(commit(&mut snapshot, 9), first);
    assert_eq!(first.ledger.holders.len(), 1);
}

#[test]
fn the_old_holder_leaves_and_the_next_enters_in_one_step() {
    let held = mutex(vec![holder(ParticipantKind::Pod, "old", vec![told("old", 1, 1)])]);
    let over = of_pod(&pod("old").done(0).over("Succeeded"), 0);
    let status = commit(&mut snapshot(held, vec![over, waits("next", 1)]), 8);
    assert_eq!(status.ledger.holders[0].name, "next");
    assert_eq!(status.holder.as_deref(), Some("pod/next"));
    let release = &status.ledger.history[0];
    assert_eq!((release.holder.as_str(), release.token.as_str()), ("pod/old", "5"));
    assert_eq!((release.evidence, &release.at), (Evidence::P1, &time(50)));
}

#[test]
fn nobody_enters_before_the_verdict_of_the_old_holder_is_withdrawn() {
    let held = mutex(vec![holder(ParticipantKind::Pod, "old", vec![told("old", 1, 1)])]);
    let snapshot = snapshot(held.clone(), vec![of_pod(&pod("old").done(0), 0), waits("next", 1)]);
    let step = step(&snapshot);
    assert_eq!(step.status.ledger.holders, held.status.unwrap().ledger.holders);
    assert_eq!((step.withdrawals.len(), step.withdrawals[0].uid.clone()), (1, uid("old")));
    assert_eq!(line(&snapshot, &step), [uid("next")]);
}

#[test]
fn who_has_just_left_does_not_enter_in_the_same_step() {
    // Its Job is suspended and has come back to life in the meantime: it queues again, behind nobody here.
    let held = mutex(vec![holder(ParticipantKind::Job, "j", vec![told("a", 1, 1)])]);
    let suspended = of_job("j", &job("j").suspended(), &[pod("a").done(143).over("Failed")], 0);
    let mut snapshot = snapshot(held, vec![suspended]);
    assert_eq!(commit(&mut snapshot, 8).ledger.holders, []);
    let pods = [pod("a").done(143).over("Failed"), pod("b").waiter_running(60)];
    snapshot.participants = vec![of_job("j", &job("j"), &pods, 0), waits("other", 1)];
    let again = commit(&mut snapshot, 9);
    assert_eq!(
        (again.ledger.holders[0].display().as_str(), again.ledger.holders[0].pods[0].name.as_str()),
        ("job/j", "b")
    );
}

#[test]
fn tokens_rise_and_the_last_one_is_remembered() {
    let mut snapshot = snapshot(mutex(vec![]), vec![waits("a", 0)]);
    let first = commit(&mut snapshot, 7);
    assert_eq!(first.ledger.last_token.as_ref(), Some(&first.ledger.holders[0].token));
    snapshot.participants = vec![of_pod(&pod("a").done(0).over("Succeeded"), 0)];
    let free = commit(&mut snapshot, 7);
    assert_eq!((free.ledger.holders.len(), &free.ledger.last_token), (0, &first.ledger.last_token));
    // The same revision again: the token rises all the same.
    snapshot.participants = vec![waits("b", 1)];
    let second = commit(&mut snapshot, 9);
    assert_eq!(second.ledger.holders[0].token, ((7_u64 << 16) + 1).to_string());
}

#[test]
fn a_store_that_went_back_in_time_grants_nothing_and_says_so() {
    let mut restored = mutex(vec![]);
    restored.status.as_mut().unwrap().ledger.last_token = Some((9_u64 << 16).to_string());
    let status = step(&snapshot(restored, vec![waits("a", 0)])).status;
    assert_eq!((status.ledger.holders.len(), status.common.waiting), (0, 1));
    let (stalled, why) = message(&status.common, STALLED);
    assert!(stalled == "True" && why.contains("restored from a backup"), "{why}");
}

#[test]
fn a_mutex_that_is_being_deleted_releases_but_does_not_grant() {
    let mut dying = mutex(vec![holder(ParticipantKind::Pod, "old", vec![told("old", 1, 1)])]);
    dying.metadata.deletion_timestamp = Some(time(40));
    let over = of_pod(&pod("old").done(0).over("Succeeded"), 0);
    let status = step(&snapshot(dying, vec![over, waits("next", 1)])).status;
    assert_eq!((status.ledger.holders.len(), status.ledger.history.len(), status.common.waiting), (0, 1, 1));
}

#[test]
fn the_last_five_releases_are_kept_the_latest_first() {
    let mut snapshot = snapshot(mutex(vec![]), vec![]);
    for round in 0..8 {
        let name = format!("p{round}");
        snapshot.participants = vec![waits(&name, round)];
        commit(&mut snapshot, 10 + u64::try_from(round).unwrap());
        snapshot.participants = vec![of_pod(&pod(&name).done(0).over("Succeeded"), round)];
        commit(&mut snapshot, 20 + u64::try_from(round).unwrap());
    }
    let history = snapshot.primitive.status.unwrap().ledger.history;
    let holders: Vec<_> = history.iter().map(|release| release.holder.as_str()).collect();
    assert_eq!(holders, ["pod/p7", "pod/p6", "pod/p5", "pod/p4", "pod/p3"]);
}

#[test]
fn people_read_who_holds_and_who_waits() {
    let all = (0..13).map(|place| waits(&format!("p{place:02}"), place)).collect();
    let status = step(&snapshot(mutex(vec![]), all)).status;
    assert_eq!(status.phase, Some(MutexPhase::Locked));
    assert_eq!((status.common.waiting, status.common.queue.len()), (12, 10));
    assert_eq!(
        (status.common.queue[0].display().as_str(), &status.common.queue[0].since),
        ("pod/p01", &time(1))
    );
    assert_eq!(message(&status.common, HELD), ("True".to_owned(), "held by pod/p00".to_owned()));
    assert_eq!(message(&status.common, READY).0, "True");
    assert!(is_ready(&status.common));
    let free = step(&snapshot(mutex(vec![]), vec![])).status;
    assert_eq!((free.phase, message(&free.common, HELD).0.as_str()), (Some(MutexPhase::Unlocked), "False"));
}

#[test]
fn a_suspect_holder_is_a_case_for_a_person() {
    let held = mutex(vec![holder(ParticipantKind::Pod, "old", vec![told("old", 1, 1)])]);
    let silent = of_pod(&pod("old").at_work().on_a_silent_node(), 0);
    let status = step(&snapshot(held, vec![silent, waits("next", 1)])).status;
    assert_eq!(message(&status.common, STALLED).0, "True");
    assert_eq!(status.ledger.holders[0].name, "old");
}

#[test]
fn a_ttl_is_named_as_not_acted_on() {
    let mut with_ttl = mutex(vec![]);
    with_ttl.spec.ttl = Some("30m".parse().unwrap());
    let status = step(&snapshot(with_ttl, vec![])).status;
    assert!(message(&status.common, READY).1.contains("not renewed for 30m0s"));
}

#[test]
fn a_queue_alone_is_no_change_of_the_ledger() {
    let mut snapshot = snapshot(mutex(vec![]), vec![waits("a", 0)]);
    let before = commit(&mut snapshot, 8);
    snapshot.participants.push(waits("b", 1));
    let after = commit(&mut snapshot, 9);
    assert!(before != after && differ_in_queue_only(&before, &after));
    snapshot.participants[0] = of_pod(&pod("a").done(0).over("Succeeded"), 0);
    assert!(!differ_in_queue_only(&after, &step(&snapshot).status));
}
