//! Admission: pods and Jobs as the webhook leaves them, by the webhook's own code.
//!
//! Pure. What must stay true: nothing of the webhook is told again here.

use jiff::Timestamp;
use konductor_webhook::names::{Around, Unknown};
use konductor_webhook::patch::patch;
use konductor_webhook::plan::{self, Becomes};
use konductor_webhook::waiter::Settings;
use serde_json::Value;

/// That pod or Job, admitted; what is wrong with it, if it is refused.
pub(crate) fn admit(mut object: Value, is_job: bool, now: Timestamp) -> Result<Value, String> {
    let settings = Settings::of_chart("konductor-waiter");
    let around = Around { settings: &settings, names: &Unknown, namespace: "ns", now };
    let planned = if is_job { plan::job(&object, &around) } else { plan::pod(&object, &around) };
    let plan = planned.map_err(|problems| format!("{problems:?}"))?;
    if matches!(plan.becomes, Becomes::Unchanged | Becomes::OptedOut) {
        return Ok(object);
    }
    let changes = patch(&object, &plan.becomes).map_err(|error| error.to_string())?;
    json_patch::patch(&mut object, &changes).map_err(|error| error.to_string())?;
    Ok(object)
}
