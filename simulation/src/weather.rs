//! Weather: what becomes of the requests and watches of one operator on their way.
//!
//! Draws from a source of its own. What must stay true: a request that its sender gave up may still arrive; nothing is
//! invented: what is delivered was said.

use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// See the module.
#[derive(Debug)]
pub(crate) struct Weather {
    random: Random,
    frozen_until: Instant,
    down_until: Instant,
    conflicts_until: Instant,
    slow_until: Instant,
    lossy_until: Instant,
}

/// Something that can be wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing goes out and nothing comes in; afterwards all of it does, in its order.
    Frozen,
    /// The API server says that it cannot.
    Down,
    /// Every other write meets a conflict.
    Conflicts,
    /// Seconds, and now and then longer than anybody waits.
    Slow,
    /// Requests and answers get lost, watches break.
    Lossy,
}

pub(crate) const TROUBLES: [Trouble; 5] =
    [Trouble::Frozen, Trouble::Down, Trouble::Conflicts, Trouble::Slow, Trouble::Lossy];

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) before: Duration,
    pub(crate) after: Duration,
    pub(crate) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Down,
    Conflict,
    /// It never arrives.
    Lost {
        told: bool,
    },
    /// It is done, and nobody hears of it.
    AnswerLost {
        told: bool,
    },
}

/// What becomes of one event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Once,
    Twice,
    /// The watch breaks before it.
    Broken,
    /// The watch ends before it, without a word.
    Ended,
}

impl Weather {
    pub(crate) fn new(random: Random) -> Self {
        let now = Instant::now();
        Self {
            random,
            frozen_until: now,
            down_until: now,
            conflicts_until: now,
            slow_until: now,
            lossy_until: now,
        }
    }

    pub(crate) fn make(&mut self, trouble: Trouble, lasting: Duration) {
        let until = match trouble {
            Trouble::Frozen => &mut self.frozen_until,
            Trouble::Down => &mut self.down_until,
            Trouble::Conflicts => &mut self.conflicts_until,
            Trouble::Slow => &mut self.slow_until,
            Trouble::Lossy => &mut self.lossy_until,
        };
        *until = (*until).max(Instant::now() + lasting);
    }

    /// All is well from here on.
    pub(crate) fn clear(&mut self) {
        let now = Instant::now();
        for until in [
            &mut self.frozen_until,
            &mut self.down_until,
            &mut self.conflicts_until,
            &mut self.slow_until,
            &mut self.lossy_until,
        ] {
            *until = (*until).min(now);
        }
    }

    /// Until when nothing moves, if so.
    pub(crate) fn frozen(&self) -> Option<Instant> {
        (self.frozen_until > Instant::now()).then_some(self.frozen_until)
    }

    pub(crate) fn way(&mut self, writes: bool) -> Way {
        let now = Instant::now();
        let (before, after) = (self.delay(now), self.delay(now));
        let told = self.random.chance(700);
        let fate = if self.down_until > now {
            Fate::Down
        } else if writes && self.conflicts_until > now && self.random.chance(500) {
            Fate::Conflict
        } else if self.lossy_until > now && self.random.chance(120) {
            Fate::Lost { told }
        } else if self.lossy_until > now && self.random.chance(200) {
            Fate::AnswerLost { told }
        } else {
            Fate::Answered
        };
        Way { before, after, fate }
    }

    fn delay(&mut self, now: Instant) -> Duration {
        if self.slow_until > now {
            return match self.random.below(10) {
                0 => self.random.millis(8_000, 90_000),
                1..=4 => self.random.millis(300, 9_000),
                _ => self.random.millis(1, 300),
            };
        }
        match self.random.below(100) {
            0 => self.random.millis(50, 1_500),
            _ => self.random.millis(1, 8),
        }
    }

    pub(crate) fn event_delay(&mut self) -> Duration {
        if self.slow_until > Instant::now() && self.random.chance(300) {
            return self.random.millis(100, 25_000);
        }
        if self.random.chance(20) { self.random.millis(50, 2_000) } else { self.random.millis(1, 10) }
    }

    pub(crate) fn delivery(&mut self) -> Delivery {
        if self.down_until > Instant::now() {
            return Delivery::Broken;
        }
        if self.lossy_until > Instant::now() {
            return match self.random.below(100) {
                0..=7 => Delivery::Twice,
                8..=11 => Delivery::Broken,
                12..=15 => Delivery::Ended,
                _ => Delivery::Once,
            };
        }
        match self.random.below(1000) {
            0 => Delivery::Ended,
            1..=3 => Delivery::Twice,
            _ => Delivery::Once,
        }
    }
}
