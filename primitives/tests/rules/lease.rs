//! Who leads, who stands by, and what people read.

use konductor_api::conditions::{HELD, READY, STALLED, reason};
use konductor_api::lease::{Lease, LeasePhase, LeaseSpec};
use konductor_api::ledger::Evidence;
use konductor_primitives::entrance::Entrance;
use konductor_primitives::lease::check;
use konductor_primitives::snapshot::{Participant, Snapshot};

use super::support::{
    Says, commit, entrance, fresh, holders, is_in, message, of_pod, pod, queue, reason_of, snapshot,
    succeeded, waits, works,
};

fn of(participants: Vec<Participant>) -> Snapshot<Lease> {
    snapshot(fresh(Lease::new("x", LeaseSpec::default())), participants)
}

#[test]
fn one_leads_and_the_others_stand_by() {
    let status = commit(&mut of(vec![waits("b", 1), waits("a", 0), waits("c", 2)]));
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["a"], vec!["b", "c"]));
    assert_eq!((status.phase, status.holder.as_deref()), (Some(LeasePhase::Held), Some("pod/a")));
    assert_eq!(message(&status.common, HELD), ("True".to_owned(), "held by pod/a".to_owned()));
}

#[test]
fn priority_gives_order_and_puts_nobody_out() {
    let mut snapshot = of(vec![waits("a", 0), waits("b", 1).priority(1)]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["b"]);
    snapshot.participants = vec![waits("a", 0), works("b"), waits("c", 2).priority(9)];
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), queue(&status.common)), (vec!["b"], vec!["c", "a"]));
}

#[test]
fn a_leader_that_is_proven_dead_is_replaced_in_the_same_write_with_a_higher_token() {
    let mut snapshot = of(vec![waits("a", 0), waits("b", 1)]);
    let first = commit(&mut snapshot).ledger.holders[0].token.parse::<u64>().unwrap();
    snapshot.participants = vec![succeeded("a"), waits("b", 1)];
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.ledger.history[0].evidence), (vec!["b"], Evidence::P1));
    assert!(status.ledger.holders[0].token.parse::<u64>().unwrap() > first);
}

#[test]
fn a_silent_leader_keeps_the_lease_whatever_the_ttl_and_a_person_is_asked() {
    let mut snapshot = of(vec![waits("a", 0), waits("b", 1)]);
    snapshot.primitive.spec.ttl = Some("15s".parse().unwrap());
    commit(&mut snapshot);
    let silent = pod("a").told_go(1, 2).waiter_passed(2, 3).runs("main", "m", 4).on_a_silent_node();
    snapshot.participants = vec![of_pod(&silent, 0), waits("b", 1)];
    let status = commit(&mut snapshot);
    assert_eq!(holders(&status.ledger), ["a"]);
    assert_eq!(reason_of(&status.common, STALLED), reason::HOLDER_SUSPECT);
    assert!(message(&status.common, READY).1.contains("not renewed for 15s"));
}

#[test]
fn who_stands_by_reads_who_leads() {
    let mut snapshot = of(vec![waits("a", 0), waits("b", 1)]);
    commit(&mut snapshot);
    assert!(is_in(&entrance(&snapshot, &waits("a", 0))));
    let Entrance::Closed { message, busy, .. } = entrance(&snapshot, &waits("b", 1)) else {
        panic!("it should stand by")
    };
    assert!(busy && message.starts_with("waits for lease/x: held by pod/a since "), "{message}");
}

#[test]
fn two_leaders_are_never_written() {
    let mut snapshot = of(vec![waits("a", 0)]);
    let one = commit(&mut snapshot);
    let mut two = one;
    let mut second = two.ledger.holders[0].clone();
    (second.uid, second.token) = ("b".to_owned(), (9_u64 << 16).to_string());
    two.ledger.last_token = Some(second.token.clone());
    two.ledger.holders.push(second);
    assert_eq!(check(&snapshot.primitive, &two).unwrap_err().invariant, "LedgerExclusion");
}

#[test]
fn a_free_lease_is_available() {
    let status = commit(&mut of(vec![]));
    assert_eq!((status.phase, status.holder), (Some(LeasePhase::Available), None));
    assert_eq!(message(&status.common, HELD).0, "False");
}
