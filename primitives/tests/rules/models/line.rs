//! Somebody holds, and a line of others waits: what the references of all that can be held have in common, and the
//! shipped rules beside them.

use std::cmp::Reverse;

use konductor_api::ledger::{Held, Status as _};
use konductor_api::participation::Role;
use konductor_primitives::queue::QueueKey;
use konductor_primitives::snapshot::{Participant, Snapshot};
use proptest::prelude::*;

use super::super::support::{
    self, PodSketch, Primitive, Says, at, entrance, is_in, of_pod, pod, snapshot, uid,
};

/// What happens between two steps.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// Somebody comes, with that priority, at that second.
    Comes { priority: i32, second: i64, role: Role },
    /// The waiter of the so-manieth in line starts.
    IsReady(usize),
    /// The so-manieth in line goes before it was its turn.
    Leaves(usize),
    /// The last container of the so-manieth holder ends, with that code.
    Ends(usize, i32),
    /// Somebody changes a number of the spec.
    Changes(u32),
}

pub(super) fn happenings(
    role: impl Strategy<Value = Role> + 'static,
) -> impl Strategy<Value = Vec<Happening>> {
    let comes = (-2..3_i32, 0..5_i64, role).prop_map(|(priority, second, role)| Happening::Comes {
        priority,
        second,
        role,
    });
    let one = prop_oneof![
        6 => comes,
        6 => (0..8_usize).prop_map(Happening::IsReady),
        2 => (0..8_usize).prop_map(Happening::Leaves),
        5 => (0..4_usize, 0..2_i32).prop_map(|(which, code)| Happening::Ends(which, code)),
        1 => (1..6_u32).prop_map(Happening::Changes),
    ];
    prop::collection::vec(one, 0..50)
}

/// Somebody in line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting {
    priority: Reverse<i32>,
    second: i64,
    uid: String,
    ready: bool,
    role: Role,
}

/// What the reference answers to the next in line.
pub(super) enum Answer {
    Enters,
    IsPassedOver,
    StopsTheLine,
}

/// The reference: its rule is all that the kinds differ in.
pub(super) trait Reference {
    fn answer(&self, holders: &[Role], next: Role) -> Answer;
    /// Somebody has ended, with that code.
    fn ended(&mut self, _uid: &str, _code: i32) {}
    fn changes(&mut self, _number: u32) {}
}

/// The line.
#[derive(Debug, Default)]
struct Line {
    holders: Vec<(String, Role)>,
    queue: Vec<Waiting>,
}

impl Line {
    fn settle(&mut self, rule: &impl Reference) {
        self.queue.sort();
        let mut left = Vec::new();
        let mut stopped = false;
        for next in std::mem::take(&mut self.queue) {
            let roles: Vec<_> = self.holders.iter().map(|(_, role)| *role).collect();
            match rule.answer(&roles, next.role) {
                Answer::Enters if next.ready && !stopped => self.holders.push((next.uid, next.role)),
                Answer::StopsTheLine if next.ready => {
                    stopped = true;
                    left.push(next);
                }
                _ => left.push(next),
            }
        }
        self.queue = left;
    }
}

/// The shipped rules, and the reference.
pub(super) struct Both<P, R> {
    pub(super) reference: R,
    pub(super) snapshot: Snapshot<P>,
    line: Line,
    sketches: Vec<(PodSketch, QueueKey, Role)>,
    came: usize,
    highest_token: u64,
}

impl<P: Primitive, R: Reference> Both<P, R>
where
    P::Status: Held,
{
    pub(super) fn new(primitive: P, reference: R) -> Self {
        Self {
            reference,
            snapshot: snapshot(primitive, Vec::new()),
            line: Line::default(),
            sketches: Vec::new(),
            came: 0,
            highest_token: 0,
        }
    }

    /// Something happens, and both settle.
    pub(super) fn happens(
        &mut self,
        happening: &Happening,
        change: impl FnOnce(&mut P, u32),
    ) -> Result<P::Status, TestCaseError> {
        match *happening {
            Happening::Comes { priority, second, role } => {
                let name = format!("p{}", self.came);
                self.came += 1;
                self.sketches.push((
                    pod(&name),
                    QueueKey::new(priority, at(second), None, &uid(&name)),
                    role,
                ));
                let (priority, uid) = (Reverse(priority), uid(&name));
                self.line.queue.push(Waiting { priority, second, uid, ready: false, role });
            }
            Happening::IsReady(which) => {
                if let Some(waiting) = self.line.queue.get_mut(which) {
                    waiting.ready = true;
                    let uid = waiting.uid.clone();
                    self.change(&uid, |sketch| sketch.waiter_running(6));
                }
            }
            Happening::Leaves(which) => {
                if which < self.line.queue.len() {
                    let uid = self.line.queue.remove(which).uid;
                    self.sketches.retain(|(sketch, ..)| sketch.object().metadata.uid.as_ref() != Some(&uid));
                }
            }
            Happening::Ends(which, code) => {
                if which < self.line.holders.len() {
                    let (uid, _) = self.line.holders.remove(which);
                    self.reference.ended(&uid, code);
                    let phase = if code == 0 { "Succeeded" } else { "Failed" };
                    self.change(&uid, |sketch| sketch.told_go(1, 6).done(code).over(phase));
                }
            }
            Happening::Changes(number) => {
                self.reference.changes(number);
                change(&mut self.snapshot.primitive, number);
            }
        }
        self.line.settle(&self.reference);
        let participants = self.sketches.iter().map(|(sketch, key, role)| {
            let key = key.clone();
            Participant { key, ..of_pod(sketch, 0) }.role(*role)
        });
        self.snapshot.participants = participants.collect();
        let status = self.step()?;
        prop_assert_eq!(self.step()?, status.clone(), "nothing has happened since");
        Ok(status)
    }

    fn change(&mut self, uid: &str, change: impl FnOnce(PodSketch) -> PodSketch) {
        let is_it = |sketch: &PodSketch| sketch.object().metadata.uid.as_deref() == Some(uid);
        let sketch = self.sketches.iter_mut().find(|(sketch, ..)| is_it(sketch));
        let (sketch, ..) = sketch.unwrap();
        *sketch = change(sketch.clone());
    }

    fn step(&mut self) -> Result<P::Status, TestCaseError> {
        let step = P::step(&self.snapshot);
        prop_assert_eq!(self.snapshot.primitive.check(&step.status), Ok(()));
        prop_assert!(step.lookups.is_empty() && step.withdrawals.is_empty());
        let queue: Vec<_> = self.line.queue.iter().map(|waiting| waiting.uid.clone()).collect();
        prop_assert_eq!(&support::line(&self.snapshot, &step), &queue);
        prop_assert_eq!(step.status.common().waiting, i64::try_from(queue.len()).unwrap());
        let holders = &step.status.ledger().holders;
        let uids: Vec<_> = holders.iter().map(|holder| &holder.uid).collect();
        prop_assert_eq!(uids, self.line.holders.iter().map(|(uid, _)| uid).collect::<Vec<_>>());
        let (metadata, before) = self.snapshot.primitive.parts();
        let known: Vec<_> =
            before.iter().flat_map(|before| &before.ledger().holders).map(|holder| &holder.token).collect();
        for fresh in holders.iter().filter(|holder| !known.contains(&&holder.token)) {
            let token: u64 = fresh.token.parse().unwrap();
            prop_assert!(token > self.highest_token);
            self.highest_token = token;
        }
        let revision: u64 = metadata.resource_version.as_ref().unwrap().parse().unwrap();
        metadata.resource_version = Some((revision + 1).to_string());
        *before = Some(step.status.clone());
        for who in self.snapshot.participants.iter().filter(|who| who.can_start()) {
            let holds = self.line.holders.iter().any(|(uid, _)| *uid == who.uid);
            prop_assert_eq!(is_in(&entrance(&self.snapshot, who)), holds, "{}", who.name);
        }
        Ok(step.status)
    }
}
