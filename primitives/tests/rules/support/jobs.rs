//! A Job, as the API server would show it.

use k8s_openapi::api::batch::v1::{Job, JobCondition, SuccessPolicy};
use konductor_api::annotations::SUSPENDED;
use konductor_primitives::facts::JobFacts;

use super::{time, uid};

/// A Job in the making.
#[derive(Clone, Debug)]
pub(crate) struct JobSketch(Job);

/// A Job of one completion that has not ended.
pub(crate) fn job(name: &str) -> JobSketch {
    let mut job = Job::default();
    job.metadata.name = Some(name.to_owned());
    job.metadata.uid = Some(uid(name));
    job.metadata.creation_timestamp = Some(time(0));
    job.spec.get_or_insert_default().completions = Some(1);
    JobSketch(job)
}

impl JobSketch {
    /// Another object of the same name.
    pub(crate) fn made_again(mut self) -> Self {
        self.0.metadata.uid = self.0.metadata.uid.map(|uid| format!("{uid}-again"));
        self
    }

    pub(crate) fn completions(mut self, completions: Option<i32>) -> Self {
        self.0.spec.as_mut().unwrap().completions = completions;
        self
    }

    pub(crate) fn indexed(mut self) -> Self {
        self.0.spec.as_mut().unwrap().completion_mode = Some("Indexed".to_owned());
        self
    }

    pub(crate) fn with_success_policy(mut self) -> Self {
        self.0.spec.as_mut().unwrap().success_policy = Some(SuccessPolicy::default());
        self
    }

    pub(crate) fn suspended(mut self) -> Self {
        self.0.spec.as_mut().unwrap().suspend = Some(true);
        self
    }

    /// Until it is its turn.
    pub(crate) fn suspended_by_us(mut self) -> Self {
        self.0.metadata.annotations.get_or_insert_default().insert(SUSPENDED.to_owned(), String::new());
        self.suspended()
    }

    /// Its controller started it then.
    pub(crate) fn started(mut self, second: i64) -> Self {
        self.0.status.get_or_insert_default().start_time = Some(time(second));
        self
    }

    /// Pods of it run.
    pub(crate) fn running(mut self) -> Self {
        self.0.status.get_or_insert_default().active = Some(1);
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(time(100));
        self
    }

    pub(crate) fn condition(mut self, type_: &str, message: &str) -> Self {
        self.0.status.get_or_insert_default().conditions.get_or_insert_default().push(JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            message: Some(message.to_owned()),
            ..JobCondition::default()
        });
        self
    }

    pub(crate) fn complete(self) -> Self {
        self.condition("Complete", "")
    }

    pub(crate) fn failed(self) -> Self {
        self.condition("Failed", "it has reached its backoff limit")
    }

    pub(crate) fn facts(&self) -> JobFacts {
        JobFacts::of(&self.0)
    }
}
