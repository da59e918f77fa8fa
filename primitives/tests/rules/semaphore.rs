//! How many may hold at one time, who blocks whom, and what becomes of it when the number changes.

use konductor_api::conditions::{AVAILABLE, reason};
use konductor_api::ledger::{Evidence, Holder};
use konductor_api::participation::Role;
use konductor_api::semaphore::{Semaphore, SemaphorePhase, SemaphoreSpec};
use konductor_primitives::entrance::Entrance;
use konductor_primitives::semaphore::check;
use konductor_primitives::snapshot::{Participant, Snapshot};
use rstest::rstest;

use super::support::{
    Primitive, Says, commit, edit, entrance, fresh, holders, is_closed, is_in, is_never, message, of_pod,
    pod, queue, reason_of, snapshot, succeeded, waits, works,
};

fn of(permits: i64, participants: Vec<Participant>) -> Snapshot<Semaphore> {
    snapshot(fresh(Semaphore::new("x", SemaphoreSpec { permits, ttl: None })), participants)
}

fn asks(name: &str, permits: u32, place: i64) -> Participant {
    waits(name, place).role(Role::Take(permits))
}

fn holds(name: &str, permits: u32) -> Participant {
    works(name).role(Role::Take(permits))
}

#[rstest]
#[case::all_fit(10, vec!["a2", "b3", "c1"], vec![])]
#[case::just_so(6, vec!["a2", "b3", "c1"], vec![])]
#[case::the_last_does_not(5, vec!["a2", "b3"], vec!["c1"])]
#[case::the_second_does_not_and_stops_the_third(4, vec!["a2"], vec!["b3", "c1"])]
#[case::one_at_a_time(3, vec!["a2"], vec!["b3", "c1"])]
#[case::the_second_asks_for_more_than_there_are_and_stops_nobody(2, vec!["a2"], vec!["b3", "c1"])]
#[case::so_the_third_enters_beside_it(1, vec!["c1"], vec!["a2", "b3"])]
fn permits_are_given_in_the_order_of_the_queue(
    #[case] permits: i64,
    #[case] enter: Vec<&str>,
    #[case] wait: Vec<&str>,
) {
    let all = vec![asks("a2", 2, 0), asks("b3", 3, 1), asks("c1", 1, 2)];
    let status = commit(&mut of(permits, all));
    assert_eq!((holders(&status.ledger), queue(&status.common)), (enter, wait));
}

#[test]
fn who_asks_for_many_is_not_starved_by_those_who_ask_for_one() {
    let mut snapshot = of(3, vec![asks("a", 1, 0), asks("b", 1, 1), asks("big", 3, 2), asks("c", 1, 3)]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["a", "b"]);
    snapshot.participants = vec![succeeded("a"), holds("b", 1), asks("big", 3, 2), asks("c", 1, 3)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["b"], "there is room for c, and it is not its turn");
    snapshot.participants = vec![succeeded("b"), asks("big", 3, 2), asks("c", 1, 3)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["big"]);
    snapshot.participants = vec![succeeded("big").role(Role::Take(3)), asks("c", 1, 3)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["c"]);
}

#[test]
fn who_asks_for_more_than_there_are_is_told_so_and_stands_in_nobodys_way() {
    let greedy = asks("greedy", 4, 0);
    let mut snapshot = of(3, vec![greedy.clone(), asks("b", 3, 1)]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["b"]);
    let Entrance::Never { message } = entrance(&snapshot, &greedy) else { panic!("it should be refused") };
    assert!(message.contains("4 permits") && message.contains("there are 3"), "{message}");
    assert!(is_in(&entrance(&snapshot, &asks("b", 3, 1))));
    assert!(is_closed(&entrance(&snapshot, &asks("c", 3, 2))));
}

#[test]
fn more_permits_let_the_next_ones_in_at_once() {
    let mut snapshot = of(1, vec![asks("a", 1, 0), asks("b", 1, 1), asks("c", 1, 2), asks("d", 1, 3)]);
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["a"]);
    edit(&mut snapshot, |semaphore| semaphore.spec.permits = 3);
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.in_use, status.available), (vec!["a", "b", "c"], 3, 0));
}

#[test]
fn fewer_permits_put_nobody_out_and_let_nobody_in_until_enough_have_ended() {
    let mut snapshot = of(3, vec![asks("a", 1, 0), asks("b", 1, 1), asks("c", 1, 2), asks("d", 1, 3)]);
    commit(&mut snapshot);
    edit(&mut snapshot, |semaphore| semaphore.spec.permits = 1);
    let shrunk = commit(&mut snapshot);
    assert_eq!(holders(&shrunk.ledger), ["a", "b", "c"]);
    assert_eq!((shrunk.phase, shrunk.used.as_deref()), (Some(SemaphorePhase::OverCommitted), Some("3/1")));
    assert_eq!((shrunk.in_use, shrunk.available), (3, 0));
    assert_eq!(reason_of(&shrunk.common, AVAILABLE), reason::OVER_COMMITTED);
    snapshot.participants = vec![succeeded("a"), holds("b", 1), holds("c", 1), asks("d", 1, 3)];
    assert_eq!(commit(&mut snapshot).phase, Some(SemaphorePhase::OverCommitted));
    snapshot.participants = vec![succeeded("b"), holds("c", 1), asks("d", 1, 3)];
    let full = commit(&mut snapshot);
    assert_eq!((full.phase, holders(&full.ledger)), (Some(SemaphorePhase::Full), vec!["c"]));
    snapshot.participants = vec![succeeded("c"), asks("d", 1, 3)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["d"]);
}

#[test]
fn who_waited_for_what_is_no_longer_there_is_refused_and_who_holds_it_keeps_it() {
    let holder = asks("holder", 2, 0);
    let waiting = asks("waiting", 2, 1);
    let mut snapshot = of(2, vec![holder.clone(), waiting.clone(), asks("small", 1, 2)]);
    commit(&mut snapshot);
    edit(&mut snapshot, |semaphore| semaphore.spec.permits = 1);
    commit(&mut snapshot);
    assert!(is_in(&entrance(&snapshot, &holder)));
    assert!(is_never(&entrance(&snapshot, &waiting)));
    snapshot.participants = vec![succeeded("holder").role(Role::Take(2)), waiting, asks("small", 1, 2)];
    assert_eq!(holders(&commit(&mut snapshot).ledger), ["small"]);
}

#[test]
fn who_dies_gives_back_all_that_it_held() {
    let mut snapshot = of(5, vec![asks("a", 4, 0), asks("b", 3, 1), asks("c", 2, 2)]);
    assert_eq!(commit(&mut snapshot).in_use, 4);
    snapshot.participants = vec![succeeded("a").role(Role::Take(4)), asks("b", 3, 1), asks("c", 2, 2)];
    let status = commit(&mut snapshot);
    assert_eq!((holders(&status.ledger), status.in_use), (vec!["b", "c"], 5));
}

#[test]
fn the_death_of_one_node_releases_a_thousand_in_one_write() {
    let name = |number: i64| format!("p{number:04}");
    let mut snapshot = of(1000, (0..2000).map(|number| asks(&name(number), 1, number)).collect());
    assert_eq!(commit(&mut snapshot).in_use, 1000);
    for number in 0..1000 {
        let lost = pod(&name(number)).withdrawn(1, 2).waiter_passed(2, 3).runs("main", "m", 4);
        snapshot.participants[usize::try_from(number).unwrap()] =
            of_pod(&lost.on_a_node_that_is_gone(), number).role(Role::Take(1));
    }
    let status = commit(&mut snapshot);
    assert_eq!((status.in_use, status.common.waiting), (1000, 0));
    assert_eq!(status.ledger.holders[0].name, name(1000));
    assert_eq!(status.ledger.history.len(), 1000);
    assert!(status.ledger.history.iter().all(|release| release.evidence == Evidence::A2));
}

#[test]
fn no_write_that_adds_somebody_goes_beyond_the_permits() {
    let mut snapshot = of(3, vec![asks("a", 2, 0), asks("b", 1, 1)]);
    let two = commit(&mut snapshot);
    let mut three = two.clone();
    let mut third = three.ledger.holders[0].clone();
    (third.uid, third.token) = ("another".to_owned(), (9_u64 << 16).to_string());
    three.ledger.last_token = Some(third.token.clone());
    three.ledger.holders.push(third);
    assert_eq!(check(&snapshot.primitive, &three).unwrap_err().invariant, "SemaphoreBound");
    // Who was there before may stay beyond them.
    snapshot.primitive.spec.permits = 1;
    assert_eq!(snapshot.primitive.check(&two), Ok(()));
}

#[test]
fn who_is_replaced_by_somebody_of_the_same_token_or_uid_has_not_stayed() {
    let mut snapshot = of(1, vec![asks("a", 1, 0)]);
    let one = commit(&mut snapshot);
    snapshot.primitive.spec.permits = 0;
    for change in [
        |holder: &mut Holder| holder.uid = "another".to_owned(),
        |holder: &mut Holder| {
            holder.token = (9_u64 << 16).to_string();
        },
    ] {
        let mut other = one.clone();
        change(&mut other.ledger.holders[0]);
        assert_eq!(check(&snapshot.primitive, &other).unwrap_err().invariant, "SemaphoreBound");
    }
}

#[test]
fn who_takes_the_last_permit_waits_for_nobody() {
    let mut snapshot = of(3, vec![asks("a", 2, 0)]);
    commit(&mut snapshot);
    for (permits, expected) in [(1, false), (2, true)] {
        let Entrance::Closed { busy, .. } = entrance(&snapshot, &asks("b", permits, 1)) else {
            panic!("it should wait")
        };
        assert_eq!(busy, expected, "{permits} permits");
    }
}

#[test]
fn people_read_how_many_are_free() {
    let mut snapshot = of(3, vec![asks("a", 2, 0)]);
    let free = commit(&mut snapshot);
    assert_eq!((free.phase, free.used.as_deref()), (Some(SemaphorePhase::Ready), Some("2/3")));
    assert_eq!(message(&free.common, AVAILABLE), ("True".to_owned(), "1 of 3 permits are free".to_owned()));
    snapshot.participants.push(asks("b", 1, 1));
    let full = commit(&mut snapshot);
    assert_eq!(full.phase, Some(SemaphorePhase::Full));
    assert_eq!(message(&full.common, AVAILABLE).0, "False");
    let Entrance::Closed { busy, message, .. } = entrance(&snapshot, &asks("c", 1, 2)) else {
        panic!("it should wait")
    };
    assert!(busy && message.contains("held by pod/a and pod/b"), "{message}");
}
