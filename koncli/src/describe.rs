//! Describe and events: what happened, besides how it stands.
//!
//! May touch: one cluster, reading. What must stay true: Events come in the order of time, the last one at the end, where a
//! terminal shows it.

use std::fmt::Write;

use k8s_openapi::api::events::v1::Event;
use konductor_api::participation::Kind;
use kube::Api;
use kube::api::ListParams;

use crate::args::{Connection, Events};
use crate::cluster::{Cluster, connect};
use crate::exit::Exit;
use crate::live::{LiveError, Told, get, refused};
use crate::told::told;

/// How many Events are shown beside a status.
const SHOWN: usize = 15;

/// One primitive: its spec, how it stands, what happened.
pub async fn describe(to: &Connection, kind: Kind, called: &str) -> Told {
    let cluster = connect(to).await?;
    let object = get(&cluster, kind, called).await?;
    let mut text = told(kind, &object);
    let spec = serde_saphyr::to_string(&object["spec"]).unwrap_or_default();
    let spec: String = spec.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    if !spec.trim().is_empty() && spec.trim() != "{}" {
        let _ = write!(text, "Spec:\n{spec}");
    }
    // Whoever may not read Events still gets the rest.
    if let Ok(events) = read(&cluster, Some((kind.api_kind(), called))).await
        && !events.is_empty()
    {
        text.push_str("Events:\n");
        for event in events.iter().skip(events.len().saturating_sub(SHOWN)) {
            let _ = writeln!(text, "  {}", line(event, false));
        }
    }
    Ok((text, Exit::Done))
}

/// Events of Konductor: of one object, or of all in the namespace.
pub async fn events(to: &Connection, flags: &Events) -> Told {
    let cluster = connect(to).await?;
    let about = match flags.about.as_deref().map(|about| about.split_once('/').ok_or(about)) {
        None => None,
        Some(Ok((kind, called))) => Some((kind, called)),
        Some(Err(about)) => {
            return Err(LiveError::Other(
                format!("{about:?}: write KIND/NAME, e.g. mutex/db, job/train"),
                Exit::Usage,
            ));
        }
    };
    let events = read(&cluster, about).await?;
    if events.is_empty() {
        return Ok((String::new(), Exit::Done));
    }
    Ok((events.iter().map(|event| line(event, true) + "\n").collect(), Exit::Done))
}

async fn read(cluster: &Cluster, about: Option<(&str, &str)>) -> Result<Vec<Event>, LiveError> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = api.list(&ListParams::default()).await.map_err(|error| refused("events", &error))?;
    let ours = |event: &Event| {
        event.reporting_controller.as_deref().is_some_and(|who| who.starts_with("konductor.io/"))
    };
    let meant = |event: &Event| {
        about.is_none_or(|(kind, called)| {
            event.regarding.as_ref().is_some_and(|object| {
                object.kind.as_deref().is_some_and(|is| is.eq_ignore_ascii_case(kind))
                    && object.name.as_deref() == Some(called)
            })
        })
    };
    let mut events: Vec<_> = found.items.into_iter().filter(|event| ours(event) && meant(event)).collect();
    events.sort_by_key(time);
    Ok(events)
}

/// When it was seen last.
fn time(event: &Event) -> Option<jiff::Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    series
        .or_else(|| event.event_time.as_ref().map(|at| at.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|at| at.0))
}

fn line(event: &Event, about: bool) -> String {
    let at = time(event).map(|at| format!("{at:.0}")).unwrap_or_default();
    let of = event.regarding.as_ref().filter(|_| about).map_or_else(String::new, |object| {
        let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
        format!(" {kind}/{}", object.name.as_deref().unwrap_or_default())
    });
    let warning = if event.type_.as_deref() == Some("Warning") { " !" } else { "" };
    let times = event.series.as_ref().map(|series| format!(" (x{})", series.count)).unwrap_or_default();
    format!(
        "{at}{of}{warning} {}: {}{times}",
        event.reason.as_deref().unwrap_or_default(),
        event.note.as_deref().unwrap_or_default()
    )
}
