//! The course of a rollout: how many of its refreshes stood where, over time.
//!
//! A few samples, however long it takes and however many refreshes there are: when there are too many, every other one is
//! dropped and the next ones are taken half as often. Decides nothing about the rollout.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Counts, RolloutId, Timestamp};

/// The most samples that are kept.
pub const SAMPLES: usize = 160;
/// The gap between two samples at first.
const FIRST_GAP: Duration = Duration::from_secs(1);

/// The course of one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// How far apart samples are at least, in milliseconds.
    pub gap_ms: u64,
    /// The samples, the oldest first.
    pub samples: Vec<Sample>,
}

/// How many refreshes stood where at one moment. Short names, since there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    #[serde(rename = "t", with = "chrono::serde::ts_milliseconds")]
    pub at: Timestamp,
    /// Queued, or parked until somebody lets us in.
    #[serde(rename = "q")]
    pub queued: u64,
    /// Posted and followed, or being verified.
    #[serde(rename = "r")]
    pub running: u64,
    /// With a result that is no failure.
    #[serde(rename = "d")]
    pub done: u64,
    /// Failed or timed out.
    #[serde(rename = "f")]
    pub failed: u64,
}

impl Sample {
    /// What `counts` say at this moment.
    pub fn of(at: Timestamp, counts: &Counts) -> Self {
        let failed = counts.failed.saturating_add(counts.timed_out);
        Self {
            at,
            queued: counts.queued.saturating_add(counts.awaiting_access),
            running: counts.running.saturating_add(counts.verifying),
            done: counts.ended().saturating_sub(failed),
            failed,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        [self.queued, self.running, self.done, self.failed].into_iter().fold(0, u64::saturating_add)
    }

    fn is_like(&self, other: &Self) -> bool {
        Self { at: other.at, ..*self } == *other
    }
}

impl Course {
    /// A course of which nothing is known yet.
    pub fn new(rollout_id: RolloutId) -> Self {
        let gap_ms = u64::try_from(FIRST_GAP.as_millis()).unwrap_or(u64::MAX);
        Self { rollout_id, gap_ms, samples: Vec::new() }
    }

    /// Takes a sample, unless it is too soon or tells nothing new; whether it was taken. One with which everything has its
    /// result is never too soon.
    pub fn note(&mut self, at: Timestamp, counts: &Counts) -> bool {
        let sample = Sample::of(at, counts);
        let gap = Duration::from_millis(self.gap_ms);
        if let Some(last) = self.samples.last().copied() {
            let is_over = sample.queued + sample.running == 0;
            if at <= last.at || sample.is_like(&last) || (at < last.at + gap && !is_over) {
                return false;
            }
            // Nothing had changed until now: a line must not slope through the time in between.
            if last.at + gap * 2 < at {
                self.samples.push(Sample { at: at - gap, ..last });
            }
        }
        self.samples.push(sample);
        while self.samples.len() > SAMPLES {
            let last = self.samples.len() - 1;
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                (at - 1) % 2 == 0 || at - 1 == last
            });
            self.gap_ms = self.gap_ms.saturating_mul(2);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_000_000 + seconds, 0).unwrap()
    }

    fn counts(queued: u64, succeeded: u64) -> Counts {
        Counts { queued, succeeded, total: queued + succeeded, ..Counts::default() }
    }

    #[test]
    fn a_long_course_keeps_few_samples_and_both_its_ends() {
        let mut course = Course::new(RolloutId(Uuid::nil()));
        for second in 0..100_000 {
            course.note(at(second), &counts(100_000 - second.unsigned_abs(), second.unsigned_abs()));
        }
        assert!(course.note(at(100_000), &counts(0, 100_000)), "the end is never too soon");
        assert!(course.samples.len() <= SAMPLES && course.samples.len() > SAMPLES / 3, "{}", course.samples.len());
        assert_eq!((course.samples[0].at, course.samples[0].queued), (at(0), 100_000));
        let last = course.samples.last().unwrap();
        assert_eq!((last.at, last.queued, last.done), (at(100_000), 0, 100_000));
        assert!(course.samples.is_sorted_by_key(|sample| sample.at));
    }

    #[test]
    fn what_is_too_soon_or_nothing_new_is_not_taken() {
        let mut course = Course::new(RolloutId(Uuid::nil()));
        assert!(course.note(at(0), &counts(2, 0)));
        assert!(!course.note(at(0), &counts(1, 1)), "the same moment");
        assert!(!course.note(at(5), &counts(2, 0)), "nothing new");
        assert!(course.note(at(60), &counts(1, 1)));
        assert_eq!(course.samples.len(), 3, "the pause before it is level");
        assert_eq!((course.samples[1].at, course.samples[1].queued), (at(59), 2));
        assert!(!course.note(at(59), &counts(0, 2)), "late");
    }

    #[test]
    fn a_course_is_stored_small_and_read_back() {
        let mut course = Course::new(RolloutId(Uuid::nil()));
        for second in 0..500 {
            course.note(at(second), &counts(500 - second.unsigned_abs(), 99_999));
        }
        let stored = serde_json::to_string(&course).unwrap();
        assert!(stored.len() < 16_000, "{}", stored.len());
        assert_eq!(serde_json::from_str::<Course>(&stored).unwrap(), course);
    }
}
