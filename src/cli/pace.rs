//! How fast a rollout goes, and how long it has still to go, by what was seen of it so far.
//!
//! Pure: moments and counts in, figures out. It knows nothing of pauses between waves, so what it says is "about".

use std::collections::VecDeque;

use chrono::TimeDelta;

use super::summary;
use crate::rollout::{Counts, Timestamp};

/// How far back is looked: long enough for slow operations, short enough to notice that Azure has become slower.
const WINDOW: TimeDelta = TimeDelta::minutes(5);
/// Over less than this a figure would say nothing.
const LEAST: TimeDelta = TimeDelta::seconds(2);
/// Longer than that nobody believes it.
const LONGEST: TimeDelta = TimeDelta::days(30);

/// What was seen, the oldest first.
#[derive(Debug, Default)]
pub struct Pace {
    seen: VecDeque<(Timestamp, u64)>,
}

impl Pace {
    /// Notes how many refreshes had their result at a moment.
    pub fn note(&mut self, at: Timestamp, ended: u64) {
        // After a retry fewer have their result than before: what was seen says nothing any more.
        if self.seen.back().is_some_and(|(last, count)| *count > ended || *last > at) {
            self.seen.clear();
        }
        self.seen.push_back((at, ended));
        // One from before the window stays, so that a slow rollout has something to be compared with.
        while self.seen.get(1).is_some_and(|(second, _)| *second <= at - WINDOW) {
            self.seen.pop_front();
        }
    }

    /// Refreshes that got their result, per minute; `None` while there is too little to say.
    pub fn per_minute(&self) -> Option<f64> {
        let ((first, before), (last, now)) = (self.seen.front()?, self.seen.back()?);
        let span = *last - *first;
        let seconds = span.to_std().ok()?.as_secs_f64();
        (span >= LEAST && now > before)
            .then(|| f64::from(u32::try_from(now - before).unwrap_or(u32::MAX)) * 60.0 / seconds)
    }

    /// How long `remaining` take at this pace; `None` where that cannot be said.
    pub fn left(&self, remaining: u64) -> Option<TimeDelta> {
        let seconds = f64::from(u32::try_from(remaining).unwrap_or(u32::MAX)) * 60.0 / self.per_minute()?;
        let left = TimeDelta::from_std(std::time::Duration::try_from_secs_f64(seconds.ceil()).ok()?).ok()?;
        (left <= LONGEST).then_some(left)
    }
}

/// How many are still on their way by themselves. What waits for access waits for people, who have no pace.
pub fn remaining(counts: &Counts) -> u64 {
    [counts.queued, counts.running, counts.verifying].into_iter().fold(0, u64::saturating_add)
}

/// Pace and time left in words, such as `12/min, about 3 min 0 s left`; empty while there is nothing to say.
pub fn text(per_minute: Option<f64>, left: Option<TimeDelta>) -> String {
    let rate = per_minute.map(|rate| match rate {
        rate if rate >= 300.0 => format!("{:.0}/s", rate / 60.0),
        rate if rate >= 10.0 => format!("{rate:.0}/min"),
        rate if rate >= 1.0 => format!("{rate:.1}/min"),
        rate => format!("{:.1}/h", rate * 60.0),
    });
    let left = left.map(|left| format!("about {} left", summary::duration(left)));
    [rate, left].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        "2026-03-10T12:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::seconds(seconds)
    }

    fn pace(seen: &[(i64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (seconds, ended) in seen {
            pace.note(at(*seconds), *ended);
        }
        pace
    }

    fn told(seen: &[(i64, u64)], remaining: u64) -> String {
        let pace = pace(seen);
        text(pace.per_minute(), pace.left(remaining))
    }

    #[test]
    fn a_pace_is_what_ended_in_the_time_that_was_seen() {
        for (seen, remaining, expected) in [
            (&[][..], 5, ""),
            (&[(0, 10)], 5, ""),
            (&[(0, 10), (1, 90)], 5, ""),
            (&[(0, 10), (60, 10)], 5, ""),
            (&[(0, 10), (60, 22)], 36, "12/min, about 3 min 0 s left"),
            (&[(0, 0), (10, 1_000)], 9_000, "100/s, about 1 min 30 s left"),
            (&[(0, 0), (60, 2)], 1, "2.0/min, about 30 s left"),
            (&[(0, 0), (600, 1)], 3, "6.0/h, about 30 min 0 s left"),
            (&[(0, 0), (60, 1)], 0, "1.0/min, about 0 s left"),
            (&[(0, 0), (600, 1)], u64::MAX, "6.0/h"),
        ] {
            assert_eq!(told(seen, remaining), expected, "{seen:?}");
        }
    }

    #[test]
    fn only_the_last_minutes_count_and_a_retry_begins_anew() {
        assert_eq!(told(&[(0, 0), (10, 600), (600, 600), (900, 605)], 5), "1.0/min, about 5 min 0 s left");
        assert_eq!(told(&[(0, 0), (60, 60), (61, 3)], 5), "", "fewer than before");
        assert_eq!(told(&[(0, 0), (60, 60), (61, 3), (71, 5)], 12), "12/min, about 1 min 0 s left");
        assert_eq!(told(&[(60, 60), (0, 61)], 5), "", "a clock that was put back");
    }

    #[test]
    fn who_waits_for_access_is_not_counted_as_on_the_way() {
        let counts =
            Counts { queued: 3, running: 2, verifying: 1, awaiting_access: 7, succeeded: 9, ..Counts::default() };
        assert_eq!(remaining(&counts), 6);
        assert_eq!(remaining(&Counts { queued: u64::MAX, running: 1, ..Counts::default() }), u64::MAX);
    }
}
