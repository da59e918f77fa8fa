//! The corpus: the reviews of `tests/reviews`, each named after what it shows.
//!
//! `pod-…` and `job-…` are creations as the API server sends them, `other-…` is what our configuration does not send,
//! and `broken-…` nothing that can be understood.

use std::path::Path;

use konductor_webhook::admit::admit;
use konductor_webhook::review::{Answer, Verdict};
use serde_json::Value;

use super::{Existing, now, settings};

/// A review.
pub(crate) struct Review {
    pub(crate) name: String,
    /// As it comes over the wire.
    pub(crate) body: Vec<u8>,
    /// Null if it is no JSON.
    pub(crate) json: Value,
}

/// All reviews, by name.
pub(crate) fn reviews() -> Vec<Review> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reviews");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let body = std::fs::read(&path).unwrap();
            let json = serde_json::from_slice(&body).unwrap_or_default();
            Review { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), body, json }
        })
        .collect()
}

impl Review {
    /// Our answer, in a namespace with a gate and two mutexes, one of them with a ttl.
    pub(crate) fn answer(&self) -> Answer {
        answer(&self.body)
    }

    /// The object inside.
    pub(crate) fn object(&self) -> &Value {
        &self.json["request"]["object"]
    }

    /// The review with another object in it, answered.
    pub(crate) fn answer_about(&self, object: &Value) -> Answer {
        let mut review = self.json.clone();
        review["request"]["object"] = object.clone();
        answer(review.to_string().as_bytes())
    }
}

/// Those whose object takes part, with the patch that makes it so.
pub(crate) fn injected() -> impl Iterator<Item = (Review, json_patch::Patch)> {
    reviews().into_iter().filter_map(|review| match review.answer().verdict {
        Verdict::Injected(patch) => Some((review, patch)),
        _ => None,
    })
}

fn answer(body: &[u8]) -> Answer {
    admit(body, &settings(), &Existing(&["gate/validation-gate", "mutex/disk", "mutex/timed"]), now()).answer
}
