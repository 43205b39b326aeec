//! Decides when a timer runs next, from its schedule and what is stored of it. Pure but for the file it is stored in.
//!
//! The rules are those of contracts/custom-handler.md §10: past due is checked once, at start; however many runs were
//! missed, one follows; a changed schedule resets instead of firing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    envelope::{Punctuality, TimerTimes},
    metadata::OnStartup,
};
use crate::ncrontab::Schedule;
use crate::rollout::Timestamp;

/// What to do when the host starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// What is known of the timer from now on.
    pub times: TimerTimes,
    /// Whether to run at once.
    pub first: First,
}

/// Whether to run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// At once.
    Run(Punctuality),
    /// At the next time.
    Wait,
}

/// Decides what a start does. `None` if the schedule has no next time.
pub fn at_start(
    schedule: &Schedule,
    stored: Option<TimerTimes>,
    now: Timestamp,
    on_startup: OnStartup,
) -> Option<Start> {
    let fresh = TimerTimes { last: None, next: schedule.next_after(now)?, last_updated: now };
    let unchanged = |times: &TimerTimes| schedule.next_after(times.last_updated) == Some(times.next);
    let times = match stored {
        Some(times) if unchanged(&times) => times,
        Some(_) | None => fresh,
    };
    let first = match on_startup {
        _ if times.next < now => First::Run(Punctuality::PastDue),
        OnStartup::Run => First::Run(Punctuality::OnTime),
        OnStartup::Wait => First::Wait,
    };
    Some(Start { times, first })
}

/// What is known after a run. The next time is worked out from its end, so that runs never overlap or pile up.
pub fn after_run(schedule: &Schedule, began: Timestamp, ended: Timestamp) -> Option<TimerTimes> {
    Some(TimerTimes { last: Some(began), next: schedule.next_after(ended)?, last_updated: ended })
}

/// The file a timer's times are kept in.
#[derive(Clone, Debug)]
pub struct StatusFile(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    last: Option<Timestamp>,
    next: Timestamp,
    last_updated: Timestamp,
}

impl StatusFile {
    /// `<state>/timers/<Function>.json`.
    pub fn new(state: &Path, function: &str) -> Self {
        Self(state.join("timers").join(format!("{function}.json")))
    }

    /// What was stored. A file that cannot be read counts as none, and is told of.
    pub fn load(&self) -> Option<TimerTimes> {
        let text = match std::fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "the timer status {} cannot be read: {error}", self.0.display());
                return None;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(Stored { last, next, last_updated }) => Some(TimerTimes { last, next, last_updated }),
            Err(error) => {
                tracing::warn!(%error, "the timer status {} is not valid: {error}", self.0.display());
                None
            }
        }
    }

    /// Stores the times durably, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, times: TimerTimes) -> Result<(), std::io::Error> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let stored = Stored { last: times.last, next: times.next, last_updated: times.last_updated };
        serde_json::to_writer(&mut file, &stored)?;
        file.as_file().sync_all()?;
        file.persist(&self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("the tests have valid times")
    }

    fn nightly() -> Schedule {
        Schedule::parse("0 0 2 * * *").expect("this is valid")
    }

    fn stored(last: Option<&str>, next: &str, last_updated: &str) -> Option<TimerTimes> {
        Some(TimerTimes { last: last.map(at), next: at(next), last_updated: at(last_updated) })
    }

    #[test]
    fn a_new_timer_waits_for_its_first_time() {
        let now = at("2026-01-16T08:30:00Z");
        let start = at_start(&nightly(), None, now, OnStartup::Wait).expect("there is a next time");
        let times = TimerTimes { last: None, next: at("2026-01-17T02:00:00Z"), last_updated: now };
        assert_eq!(start, Start { times, first: First::Wait });
    }

    #[test]
    fn a_missed_run_is_made_up_for_once_at_start_however_many_were_missed() {
        let old = stored(Some("2026-01-10T02:00:00.5Z"), "2026-01-11T02:00:00Z", "2026-01-10T02:00:03Z");
        let start =
            at_start(&nightly(), old, at("2026-01-16T08:30:00Z"), OnStartup::Run).expect("there is a next time");
        assert_eq!(start.first, First::Run(Punctuality::PastDue));
        assert_eq!(Some(start.times), old);
        let after = after_run(&nightly(), at("2026-01-16T08:30:00Z"), at("2026-01-16T08:31:00Z"));
        assert_eq!(after, stored(Some("2026-01-16T08:30:00Z"), "2026-01-17T02:00:00Z", "2026-01-16T08:31:00Z"));
    }

    #[test]
    fn a_timer_that_is_not_yet_due_keeps_its_times() {
        let old = stored(Some("2026-01-16T02:00:00Z"), "2026-01-17T02:00:00Z", "2026-01-16T02:00:03Z");
        let start =
            at_start(&nightly(), old, at("2026-01-17T02:00:00Z"), OnStartup::Wait).expect("there is a next time");
        assert_eq!((Some(start.times), start.first), (old, First::Wait));
    }

    #[test]
    fn a_changed_schedule_resets_instead_of_firing() {
        let old = stored(Some("2026-01-10T05:00:00Z"), "2026-01-11T05:00:00Z", "2026-01-10T05:00:03Z");
        let now = at("2026-01-16T08:30:00Z");
        let start = at_start(&nightly(), old, now, OnStartup::Wait).expect("there is a next time");
        let times = TimerTimes { last: None, next: at("2026-01-17T02:00:00Z"), last_updated: now };
        assert_eq!(start, Start { times, first: First::Wait });
    }

    #[test]
    fn a_start_can_be_asked_to_run() {
        let start =
            at_start(&nightly(), None, at("2026-01-16T08:30:00Z"), OnStartup::Run).expect("there is a next time");
        assert_eq!(start.first, First::Run(Punctuality::OnTime));
    }

    #[test]
    fn a_time_span_survives_being_stored() {
        let schedule = Schedule::parse("00:10:00").expect("this is valid");
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let file = StatusFile::new(folder.path(), "F");
        let ended = at("2026-01-16T08:30:00.123456789Z");
        let times = after_run(&schedule, ended, ended).expect("there is a next time");
        file.save(times).expect("the folder is ours");
        let start = at_start(&schedule, file.load(), at("2026-01-16T08:35:00Z"), OnStartup::Wait);
        assert_eq!(start, Some(Start { times, first: First::Wait }));
    }

    #[test]
    fn a_broken_status_file_counts_as_none() {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let file = StatusFile::new(folder.path(), "F");
        assert_eq!(file.load(), None);
        std::fs::create_dir(folder.path().join("timers")).expect("the folder is ours");
        std::fs::write(folder.path().join("timers/F.json"), "{\"Next\":").expect("the folder is ours");
        assert_eq!(file.load(), None);
    }
}
