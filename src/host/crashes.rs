//! Counts the handler's crashes and says when they are too many. It restarts nothing.

use chrono::TimeDelta;

use crate::rollout::Timestamp;

/// The third error stops the host (contracts/custom-handler.md §3).
const TOO_MANY: u32 = 3;
/// An error that comes later than this after the previous one is counted as the first.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::minutes(30);

/// The crashes so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crashes {
    count: u32,
    last: Option<Timestamp>,
}

/// What to do after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCrash {
    /// Start the handler again.
    Restart,
    /// Stop the host.
    GiveUp,
}

/// What a process's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitMeaning {
    /// Code 0: it is not restarted, and nobody is told that it is gone.
    Ignored,
    /// Code 200: it is restarted and not counted.
    RestartWanted,
    /// Any other code, or a signal: it is counted.
    Crash,
}

impl Crashes {
    /// Counts one.
    pub fn note(&mut self, now: Timestamp) -> AfterCrash {
        if self.last.is_some_and(|last| now - last > FORGOTTEN_AFTER) {
            self.count = 0;
        }
        self.count += 1;
        self.last = Some(now);
        if self.count >= TOO_MANY { AfterCrash::GiveUp } else { AfterCrash::Restart }
    }
}

impl ExitMeaning {
    /// Of an exit code; `None` is a signal.
    pub fn of(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Ignored,
            Some(200) => Self::RestartWanted,
            _ => Self::Crash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(minutes: &[i64]) -> Vec<AfterCrash> {
        let mut crashes = Crashes::default();
        let start: Timestamp = chrono::DateTime::UNIX_EPOCH;
        minutes.iter().map(|minute| crashes.note(start + TimeDelta::minutes(*minute))).collect()
    }

    #[test]
    fn the_third_crash_stops_the_host_unless_half_an_hour_went_by_since_the_last() {
        use AfterCrash::{GiveUp, Restart};
        for (minutes, expected) in [
            (&[0, 1, 2][..], &[Restart, Restart, GiveUp][..]),
            (&[0, 30, 60], &[Restart, Restart, GiveUp]),
            (&[0, 1, 32, 33], &[Restart, Restart, Restart, Restart]),
            (&[0, 31, 62, 93], &[Restart, Restart, Restart, Restart]),
            (&[0, 1, 32, 33, 34], &[Restart, Restart, Restart, Restart, GiveUp]),
        ] {
            assert_eq!(verdicts(minutes), expected, "{minutes:?}");
        }
    }

    #[test]
    fn every_exit_but_0_and_200_is_a_crash() {
        for (code, meaning) in [
            (Some(0), ExitMeaning::Ignored),
            (Some(200), ExitMeaning::RestartWanted),
            (Some(1), ExitMeaning::Crash),
            (Some(-1), ExitMeaning::Crash),
            (Some(201), ExitMeaning::Crash),
            (None, ExitMeaning::Crash),
        ] {
            assert_eq!(ExitMeaning::of(code), meaning, "{code:?}");
        }
    }
}
