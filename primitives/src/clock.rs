//! The clock that a gate looks at: is it time, and when will it be otherwise?
//!
//! Pure: the time is handed in, and the time zones come with the program. What must stay true: what is said holds until
//! the moment that is named, so that somebody who looks again then misses nothing.

use jiff::civil::{Time, Weekday as Day};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use konductor_api::gate::{GateCondition, TimeWindow, Weekday};

/// Is it time?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Yes or no.
    pub(crate) is_time: bool,
    /// When that may change.
    pub(crate) until: Option<Timestamp>,
    /// In a sentence.
    pub(crate) message: String,
}

/// What the clock says to that condition; a sentence if its window makes no sense.
pub(crate) fn look(condition: &GateCondition, now: Timestamp) -> Result<Clock, String> {
    if let Some(begin) = condition.not_before.as_ref().filter(|begin| begin.0 > now) {
        let message = format!("not before {}", begin.0);
        return Ok(Clock { is_time: false, until: Some(begin.0), message });
    }
    match &condition.window {
        None => Ok(Clock { is_time: true, until: None, message: "it is time".to_owned() }),
        Some(window) => look_at_window(window, now),
    }
}

fn look_at_window(window: &TimeWindow, now: Timestamp) -> Result<Clock, String> {
    let zone = match window.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("{name} is no time zone that is known here; as Europe/Berlin"))?,
    };
    let (from, to) = (time_of_day(&window.from)?, time_of_day(&window.to)?);
    let here = now.to_zoned(zone);
    // Yesterday's may reach into today; and the next one begins within a week.
    let spans: Vec<_> = (-1..=8).filter_map(|day| span(window, &here, day, from, to)).collect();
    let place = format!("{}-{} {}", window.from, window.to, window.time_zone.as_deref().unwrap_or("UTC"));
    if let Some((_, end)) = spans.iter().find(|(begin, end)| *begin <= now && now < *end) {
        return Ok(Clock { is_time: true, until: Some(*end), message: format!("it is within {place}") });
    }
    let next = spans.iter().map(|(begin, _)| *begin).filter(|begin| *begin > now).min();
    let message = next.map_or_else(
        || format!("it is not within {place}"),
        |next| format!("it is not within {place}, which begins at {next}"),
    );
    Ok(Clock { is_time: false, until: next, message })
}

/// The window that begins on the day that is so many days from here; `None` if none does.
fn span(window: &TimeWindow, here: &Zoned, day: i64, from: Time, to: Time) -> Option<(Timestamp, Timestamp)> {
    let date = here.date().checked_add(SignedDuration::from_hours(24 * day)).ok()?;
    if !window.days.is_empty() && !window.days.iter().any(|wanted| is_day(*wanted, date.weekday())) {
        return None;
    }
    let last = if to > from { date } else { date.tomorrow().ok()? };
    let at = |date: jiff::civil::Date, time: Time| {
        date.to_datetime(time).to_zoned(here.time_zone().clone()).ok().map(|zoned| zoned.timestamp())
    };
    Some((at(date, from)?, at(last, to)?))
}

fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("{text} is no time of day; as 22:00");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Time::new(number(hours)?, number(minutes)?, 0, 0).map_err(|_| wrong())
}

const fn is_day(wanted: Weekday, day: Day) -> bool {
    matches!(
        (wanted, day),
        (Weekday::Mon, Day::Monday)
            | (Weekday::Tue, Day::Tuesday)
            | (Weekday::Wed, Day::Wednesday)
            | (Weekday::Thu, Day::Thursday)
            | (Weekday::Fri, Day::Friday)
            | (Weekday::Sat, Day::Saturday)
            | (Weekday::Sun, Day::Sunday)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str, days: &[Weekday], zone: Option<&str>) -> GateCondition {
        GateCondition {
            window: Some(TimeWindow {
                from: from.to_owned(),
                to: to.to_owned(),
                days: days.to_vec(),
                time_zone: zone.map(str::to_owned),
            }),
            ..GateCondition::default()
        }
    }

    fn says(condition: &GateCondition, now: &str) -> (bool, Option<String>) {
        let clock = look(condition, now.parse().unwrap()).unwrap();
        (clock.is_time, clock.until.map(|until| until.to_string()))
    }

    #[test]
    fn a_window_may_reach_over_midnight() {
        let night = window("22:00", "06:00", &[], None);
        assert_eq!(says(&night, "2030-06-05T21:59:59Z"), (false, Some("2030-06-05T22:00:00Z".to_owned())));
        assert_eq!(says(&night, "2030-06-05T22:00:00Z"), (true, Some("2030-06-06T06:00:00Z".to_owned())));
        assert_eq!(says(&night, "2030-06-06T05:59:59Z"), (true, Some("2030-06-06T06:00:00Z".to_owned())));
        assert_eq!(says(&night, "2030-06-06T06:00:00Z"), (false, Some("2030-06-06T22:00:00Z".to_owned())));
    }

    #[test]
    fn days_are_those_on_which_it_begins() {
        // 2030-06-08 is a Saturday.
        let saturday = window("22:00", "06:00", &[Weekday::Sat], None);
        assert_eq!(says(&saturday, "2030-06-08T05:00:00Z"), (false, Some("2030-06-08T22:00:00Z".to_owned())));
        assert_eq!(says(&saturday, "2030-06-09T05:00:00Z"), (true, Some("2030-06-09T06:00:00Z".to_owned())));
        assert_eq!(says(&saturday, "2030-06-09T22:00:00Z"), (false, Some("2030-06-15T22:00:00Z".to_owned())));
    }

    #[test]
    fn a_window_is_in_its_time_zone_and_follows_its_summer_time() {
        let berlin = window("09:00", "17:00", &[], Some("Europe/Berlin"));
        assert_eq!(says(&berlin, "2030-06-05T07:00:00Z"), (true, Some("2030-06-05T15:00:00Z".to_owned())));
        assert_eq!(says(&berlin, "2030-01-05T07:00:00Z"), (false, Some("2030-01-05T08:00:00Z".to_owned())));
        assert!(look(&window("09:00", "17:00", &[], Some("Mars/Olympus")), Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn before_its_moment_no_window_counts() {
        let mut condition = window("00:00", "23:59", &[], None);
        condition.not_before =
            Some(serde_json::from_value(serde_json::json!("2030-06-05T12:00:00Z")).unwrap());
        assert_eq!(
            says(&condition, "2030-06-05T11:00:00Z"),
            (false, Some("2030-06-05T12:00:00Z".to_owned()))
        );
        assert_eq!(says(&condition, "2030-06-05T12:00:00Z"), (true, Some("2030-06-05T23:59:00Z".to_owned())));
    }
}
