//! Values: what may stand behind a key, and what is said about what may not.
//!
//! Pure. Each function reads one value, or says in a sentence why it cannot; [`crate::grammar`] adds where and an example.
//! What must stay true: nobody's text is repeated at length.

use crate::annotations::ON_BUSY;
use crate::duration::GoDuration;
use crate::options::Hold;
use crate::participation::{Part, PrimitiveRef, Role, Way};

/// Names in one annotation.
pub const MAX_NAMES: usize = 32;
/// Bytes of one annotation's value: 32 names of 253 bytes would be more than anybody means.
pub const MAX_VALUE_BYTES: usize = 4096;
/// Permits that one participant may ask for.
pub const MAX_PERMITS: u32 = 1_000_000;
/// Priorities go from minus this to this.
pub const MAX_PRIORITY: i32 = 1_000_000;
const MAX_NAME_BYTES: usize = 253;

/// The parts that the value of one annotation names.
pub(crate) fn parts(way: &Way, value: &str) -> Result<Vec<Part>, String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("the value has {} bytes and may have {MAX_VALUE_BYTES}", value.len()));
    }
    let values: Vec<_> = value.split(',').map(str::trim).collect();
    if values.len() > MAX_NAMES {
        return Err(format!("{} names, and at most {MAX_NAMES} are allowed", values.len()));
    }
    if values.len() > 1 && !way.several {
        return Err(format!("{} names, and it takes one", values.len()));
    }
    let mut parts: Vec<Part> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if value.is_empty() {
            return Err(if values.len() == 1 {
                "the name is empty".to_owned()
            } else {
                format!("name {} of {} is empty", index + 1, values.len())
            });
        }
        let part = part(way, value)?;
        if parts.contains(&part) {
            return Err(format!("{} stands there twice", shown(value)));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// One name, for a semaphore perhaps with `=permits`.
pub(crate) fn part(way: &Way, value: &str) -> Result<Part, String> {
    let (name, role) = match (way.role, value.split_once('=')) {
        (Role::Take(_), Some((name, permits))) => {
            (name.trim_end(), Role::Take(self::permits(permits.trim_start())?))
        }
        (_, Some(_)) => return Err(format!("{}: only a semaphore takes a number", shown(value))),
        (role, None) => (value, role),
    };
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("{} has {} bytes; a name has at most {MAX_NAME_BYTES}", shown(name), name.len()));
    }
    if !is_name(name) {
        return Err(format!(
            "{} is no name of an object: lower-case letters, digits, '-' and '.', a letter or digit at both ends; \
             several names are separated by commas",
            shown(name)
        ));
    }
    Ok(Part { primitive: PrimitiveRef { kind: way.kind, name: name.to_owned() }, role })
}

pub(crate) fn permits(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|permits| (1..=MAX_PERMITS).contains(permits) && !text.starts_with('+'))
        .ok_or_else(|| {
            format!("{} is no number of permits: a whole number from 1 to {MAX_PERMITS}", shown(text))
        })
}

pub(crate) fn priority(text: &str) -> Result<i32, String> {
    text.trim().parse().ok().filter(|priority| (-MAX_PRIORITY..=MAX_PRIORITY).contains(priority)).ok_or_else(
        || {
            format!(
                "{} is no priority: a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, higher goes first",
                shown(text)
            )
        },
    )
}

pub(crate) fn hold(text: &str) -> Result<Hold, String> {
    one_of(text, &Hold::WORDS)
}

pub(crate) fn timeout(text: &str) -> Result<GoDuration, String> {
    let timeout: GoDuration = text.trim().parse().map_err(|error| format!("{error}"))?;
    if timeout.as_nanoseconds() == 0 {
        return Err(format!(
            "no time at all: who does not want to wait says so with {ON_BUSY}: skip, or fail"
        ));
    }
    Ok(timeout)
}

pub(crate) fn one_of<T: Copy>(value: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{} is none of {}", shown(value), known.join(", "))
    })
}

/// A DNS subdomain, as object names are.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// At most 64 characters of somebody's text, quoted.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= 64 {
        return format!("{text:?}");
    }
    format!("{:?}…", text.chars().take(64).collect::<String>())
}
