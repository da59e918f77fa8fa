//! The story: what changed, for people, with the time since the beginning.
//!
//! Pure, over statuses as JSON.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::told::{list, name, plain};

/// Lines, as they come.
pub(super) struct Story {
    start: Timestamp,
    lines: Vec<String>,
}

impl Story {
    pub(super) const fn begin(start: Timestamp) -> Self {
        Self { start, lines: Vec::new() }
    }

    pub(super) fn say(&mut self, now: Timestamp, who: &str, what: &str) {
        self.lines.push(format!("{}  {who:<24} {what}", clock(now.duration_since(self.start))));
    }

    /// What the change of a primitive's status means.
    pub(super) fn changed(&mut self, now: Timestamp, who: &str, before: &Value, after: &Value) {
        let held = |status: &Value, token: &str| {
            list(status, "/holders").any(|holder| plain(holder, "token") == token)
        };
        for holder in list(before, "/holders").filter(|holder| !held(after, plain(*holder, "token"))) {
            let token = plain(holder, "token");
            let release = list(after, "/history").find(|release| plain(*release, "token") == token);
            let why = release
                .map(|release| format!(" on evidence {}", plain(release, "evidence")))
                .unwrap_or_default();
            self.say(now, who, &format!("released by {}{why}", name(holder)));
        }
        for holder in list(after, "/holders").filter(|holder| !held(before, plain(*holder, "token"))) {
            self.say(now, who, &format!("granted to {}, token {}", name(holder), plain(holder, "token")));
        }
        let (was, is) =
            (before["phase"].as_str().unwrap_or_default(), after["phase"].as_str().unwrap_or_default());
        let arrived = |status: &Value| status["arrived"].as_i64().unwrap_or(0);
        if arrived(before) != arrived(after) {
            self.say(now, who, &format!("{} have arrived", after["arrivedOf"].as_str().unwrap_or_default()));
        }
        let told = matches!(is, "Open" | "Failed" | "Done" | "Executed" | "OverCommitted");
        if was != is && told {
            let types = ["Open", "Done", "Available"];
            let condition =
                list(after, "/conditions").find(|condition| types.contains(&plain(*condition, "type")));
            let message = condition.map(|condition| plain(condition, "message")).unwrap_or_default();
            let colon = if message.is_empty() { "" } else { ": " };
            self.say(now, who, &format!("{}{colon}{message}", is.to_lowercase()));
        }
    }

    pub(super) fn end(self) -> String {
        self.lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
    }
}

/// `00:01:05`.
fn clock(since: SignedDuration) -> String {
    let seconds = since.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
