//! What Jobs, their controller and the users of a primitive do.
//!
//! What must stay true: nothing here looks at a status.

use konductor_api::participation::Kind;

use super::kind::Rule;
use super::model::{Action, Locks};
use super::world::{Job, Lock, PODS, Pod, Stored, World};

impl<R: Rule> Locks<R> {
    pub(super) fn controller(world: &World, actions: &mut Vec<Action>) {
        let job = world.job;
        if job.held {
            return;
        }
        if job.suspended {
            actions.push(Action::Resume);
            return;
        }
        if job.complete || job.failed || R::KIND == Kind::Gate {
            return;
        }
        let said = |pod: &Pod| match pod.stored {
            Some(stored) => stored.status.over,
            None => pod.status.over,
        };
        let [first, second, _] = &world.pods;
        if first.unborn {
            actions.push(Action::First);
            return;
        }
        if [first, second].into_iter().any(|pod| said(pod) == Some(true)) {
            actions.push(Action::Complete);
        }
        // What has succeeded counts, whatever becomes of the object.
        let failed = |pod: &Pod| match pod.stored {
            None => pod.status.over != Some(true),
            Some(Stored { status, .. }) if status.over == Some(true) => false,
            Some(stored) => stored.deleting || stored.collected || stored.status.over == Some(false),
        };
        if second.unborn && failed(first) {
            actions.push(Action::Retry);
        }
        // It tries again once.
        if !second.unborn && failed(second) {
            actions.push(Action::Fail);
        }
    }

    fn pods_of_job(&self) -> Vec<usize> {
        (0..PODS).filter(|pod| self.fixed[*pod].job.is_some()).collect()
    }

    pub(super) fn administer(&self, world: &mut World, action: Action) {
        let lock = world.lock;
        match action {
            Action::RememberPod(pod) => world.old_pods[pod] = world.pods[pod].sight(),
            Action::RememberLock => world.old_lock = Some(lock),
            Action::RememberJob => world.old_job = Some(world.job),
            Action::ChangeSpec => self.replace(world, Lock { spec: lock.spec + 1, ..lock }),
            Action::Recreate => {
                self.replace(world, Lock { status: 0, incarnation: lock.incarnation + 1, ..lock });
            }
            Action::First | Action::Retry => {
                let fresh = Pod { stored: Some(Stored::default()), ..Pod::default() };
                world.pods[usize::from(action == Action::Retry)] = fresh;
            }
            Action::LetGo(_) | Action::Unsuspend => world.job.held = false,
            // What is left of a Job that is over is deleted.
            Action::Complete | Action::Fail => {
                world.job.complete = action == Action::Complete;
                world.job.failed = action == Action::Fail;
                world.ghost.complete |= u8::from(world.job.complete) << world.job.made;
                for pod in self.pods_of_job() {
                    if world.pods[pod].stored.is_some_and(|stored| stored.status.over.is_none()) {
                        self.make(world, pod, Action::Delete(pod));
                    }
                }
            }
            Action::MakeJob => world.job = Job { made: world.job.made + 1, ..Job::default() },
            Action::Resume => world.job.suspended = false,
            Action::Suspend => {
                world.job.suspended = true;
                for pod in self.pods_of_job() {
                    self.make(world, pod, Action::Delete(pod));
                }
            }
            // Its pods are deleted with it.
            Action::DeleteJob => {
                world.job.gone = true;
                for pod in self.pods_of_job() {
                    self.make(world, pod, Action::Delete(pod));
                }
            }
            _ => {}
        }
    }
}
