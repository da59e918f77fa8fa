//! Reservations, and what operators do that are wrong about them.
//!
//! What must stay true: nothing that is shipped is changed; an operator is shown another ledger than there is.

use konductor_api::ledger::{Holder, ParticipantKind};

use super::cache::{Cache, Seen};
use super::kind::Rule;
use super::world::Place;
use crate::mutants::Mutant;
use crate::objects::{self, index};

/// Is it the entry of somebody of whom no pod was told anything?
pub(crate) fn is_reservation(holder: &Holder) -> bool {
    holder.pods.is_empty() && (holder.kind == ParticipantKind::Pod || holder.reserved)
}

impl<R: Rule> Cache<R> {
    /// What an operator believes that is wrong about reservations.
    pub(super) fn falsified(&self, seen: &Seen, before: &R::Status) -> Option<R::Status> {
        let mut status = before.clone();
        let holders = &mut R::ledger_mut(&mut status)?.holders;
        let unplaced =
            |uid: &str| seen.pods[index(uid)].is_some_and(|(stored, _)| stored.place == Place::Unschedulable);
        match self.mutant {
            Mutant::ReservationIsDeath => holders.retain(|holder| !is_reservation(holder)),
            Mutant::TakesBackTold => {
                let of_pods = holders.iter_mut().filter(|holder| holder.kind == ParticipantKind::Pod);
                of_pods.filter(|holder| unplaced(&holder.uid)).for_each(|holder| holder.pods.clear());
            }
            Mutant::NeverTakesBack => {
                for holder in holders.iter_mut() {
                    holder.granted_at = objects::time(1000);
                }
            }
            _ => return None,
        }
        Some(status)
    }

    /// Of such an operator only what it ends counts.
    pub(super) fn restore(&self, before: &R::Status, after: &mut R::Status) {
        if !matches!(self.mutant, Mutant::TakesBackTold | Mutant::NeverTakesBack) {
            return;
        }
        let stays = R::ledger_mut(after).into_iter().flat_map(|ledger| &mut ledger.holders);
        for stays in stays {
            let Some(known) = R::holders(before).iter().find(|known| known.token == stays.token) else {
                continue;
            };
            stays.granted_at = known.granted_at.clone();
            if stays.pods.is_empty() {
                stays.pods.clone_from(&known.pods);
            }
        }
    }
}
