//! Where a world comes to rest: nothing goes on by itself any more, and somebody may wait in vain.
//!
//! What must stay true: what is stuck is judged by what is stored and by what runs, never by what an operator thinks.

use konductor_api::ledger::{Holder, ParticipantKind};
use stateright::Model;

use super::kind::Rule;
use super::model::{Action, Locks};
use super::reserved::is_reservation;
use super::world::{Node, PODS, Place, Pod, Waiter, World};
use crate::invariants::Rests;
use crate::objects::{index, uid};

impl<R: Rule> Rests for Locks<R> {
    fn waits_in_vain(&self, world: &World) -> bool {
        if world.decisions != [None; 2] {
            return false;
        }
        let mut actions = Vec::new();
        self.benign(world, &mut actions);
        // Whoever has said that a machine is off waits for nobody to start it.
        actions.retain(|action| {
            !matches!(action, Action::Reboot(_) | Action::RebootBehind(_) | Action::Mend(_))
        });
        if actions.into_iter().any(|action| self.next_state(world, action).is_some()) {
            return false;
        }
        let cache = self.cache();
        let status = cache.status(world.lock.status);
        let status_of_all = status;
        let holders = R::holders(status);
        let in_doubt = |pod: usize| world.pods[pod].node == Node::Silent;
        let of_holder = |holder: &Holder, pod: usize| match holder.kind {
            ParticipantKind::Job => self.fixed[pod].job.is_some(),
            ParticipantKind::Pod => holder.uid == uid(pod),
            ParticipantKind::Claim => false,
        };
        // A Job waits until somebody deletes its pod on a machine that is off.
        let in_vain_for = |pod: usize| in_doubt(pod) || self.fixed[pod].job.is_some() && world.pods[pod].off;
        let doubtful =
            holders.iter().any(|holder| (0..PODS).any(|pod| of_holder(holder, pod) && in_vain_for(pod)));
        if doubtful {
            return false;
        }
        let waits = |pod: usize| {
            let status_of_primitive = status;
            let Pod { stored: Some(stored), node: Node::Alive, off: false, status, .. } = world.pods[pod]
            else {
                return false;
            };
            !stored.deleting
                && (status.waiter == Waiter::Running || stored.place == Place::Gated)
                && !self.rule.may_wait(world, pod, status_of_primitive)
        };
        let stuck = |pod: usize| {
            let Pod { stored: Some(stored), status, .. } = world.pods[pod] else { return false };
            let needed = self.rule.needs(status_of_all, pod);
            stored.finalizer && status.over.is_some() && !in_doubt(pod) && !needed
        };
        let over = |told: &str| world.pods[index(told)].status.over.is_some();
        let job = world.job;
        // Who finds no node keeps what nobody else could take.
        let lingers = holders.iter().any(|holder| {
            if is_reservation(holder) && holder.kind == ParticipantKind::Job {
                job.gone || job.complete || job.failed || job.suspended
            } else if is_reservation(holder) {
                over(&holder.uid)
            } else {
                holder.pods.iter().all(|told| over(&told.uid))
            }
        });
        let held_back = job.held && !job.gone && !self.rule.may_wait(world, 0, status_of_all);
        (0..PODS).any(|pod| waits(pod) || stuck(pod)) || lingers || held_back
    }
}
