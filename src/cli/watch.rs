//! Watching a rollout until it ends or stops: a bar at a terminal, plain lines elsewhere, JSON lines for a program; failures as
//! they come, pace and time left, the summary at the end.
//!
//! For people progress is no data, so it goes to stderr; what a program reads goes to stdout. Watching changes nothing: whoever
//! stops it leaves the rollout going on.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Duration;

use chrono::TimeDelta;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{ApiClient, ClientError};
use super::failure::{Exit, Failure};
use super::pace::{self, Pace};
use super::plain_text::{plain, shortened};
use super::{output, summary};
use crate::clock::{Clock as _, SystemClock};
use crate::functions::wire::api::{RefreshView, RefreshWord, RolloutView, RolloutWord};
use crate::rollout::{RolloutId, Timestamp, advice};

/// How many answers in a row may fail before watching is given up; a service that restarts is back sooner.
const PATIENCE: u32 = 20;
/// How many failures are told one by one at a time; the summary and the report have all.
const TOLD: usize = 20;
/// How many refreshes of one state are looked through for those that are new.
const LOOKED_THROUGH: usize = 10_000;
/// How much of a message is shown.
const MESSAGE_LENGTH: usize = 160;
/// Where only counts have changed, a line is not written more often than this: logs of pipelines are read by people too.
const LINE_GAP: TimeDelta = TimeDelta::seconds(5);

/// What somebody wants to be told of while it goes on.
const TELLING: [RefreshWord; 3] = [RefreshWord::Failed, RefreshWord::TimedOut, RefreshWord::HandedOver];

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// A person.
    Person,
    /// A program, which wants one JSON object a line on stdout.
    Program,
}

/// Watches a rollout until it ends or stops, prints the summary, and says by the exit code how it ended.
pub async fn to_the_end(
    client: &ApiClient,
    rollout: RolloutId,
    interval: Duration,
    watcher: Watcher,
) -> Result<Exit, Failure> {
    let ended = until_it_rests(client, rollout, interval, watcher).await?;
    let exit = verdict(&ended);
    if watcher == Watcher::Program {
        let line = json!({"event": "ended", "at": SystemClock.now(), "rollout": ended, "exitCode": exit as u8});
        output::print_json_line(&line)?;
        return Ok(exit);
    }
    let refreshes = needing_attention(client, rollout).await?;
    output::print(&summary::summary(&ended, &refreshes))?;
    Ok(exit)
}

/// The exit code that says how a rollout stands: clean only if it is completed and nothing failed.
pub fn verdict(rollout: &RolloutView) -> Exit {
    let clean = rollout.state == RolloutWord::Completed && rollout.counts.failed + rollout.counts.timed_out == 0;
    if clean { Exit::Success } else { Exit::RolloutNotClean }
}

/// The refreshes that a summary speaks of.
pub async fn needing_attention(client: &ApiClient, rollout: RolloutId) -> Result<Vec<RefreshView>, ClientError> {
    let mut refreshes = Vec::new();
    for state in summary::STATES {
        refreshes.extend(client.refreshes(&rollout.to_string(), Some(state), summary::ENOUGH).await?);
    }
    Ok(refreshes)
}

/// Shows progress until nothing more happens to the rollout by itself, and returns how it stands then.
pub async fn until_it_rests(
    client: &ApiClient,
    rollout: RolloutId,
    interval: Duration,
    watcher: Watcher,
) -> Result<RolloutView, Failure> {
    let mut progress = Progress::of(watcher);
    let (mut pace, mut failures) = (Pace::default(), Failures::default());
    let mut misses = 0;
    loop {
        match look(client, rollout, &mut failures).await {
            Ok((view, news)) => {
                misses = 0;
                let at = SystemClock.now();
                pace.note(at, view.counts.ended());
                progress.failures(&news, at)?;
                progress.show(&view, &pace, at)?;
                if rests(&view) {
                    progress.end();
                    return Ok(view);
                }
            }
            Err(error) if is_passing(&error) && misses < PATIENCE => {
                if misses == 0 {
                    progress.trouble(&format!("{error}; asking again"))?;
                }
                misses += 1;
            }
            Err(error) => {
                progress.end();
                return Err(error.into());
            }
        }
        tokio::time::sleep(interval).await;
    }
}

async fn look(
    client: &ApiClient,
    rollout: RolloutId,
    failures: &mut Failures,
) -> Result<(RolloutView, Vec<RefreshView>), ClientError> {
    let view: RolloutView = client.get("show the rollout", &format!("/api/rollouts/{rollout}")).await?;
    let news = failures.new_ones(client, &view).await?;
    Ok((view, news))
}

/// The failures that were told already.
#[derive(Default)]
struct Failures {
    told: HashSet<(String, RefreshWord)>,
    counted: u64,
}

impl Failures {
    /// Those that are new; nothing is asked while their number stays the same.
    async fn new_ones(&mut self, client: &ApiClient, rollout: &RolloutView) -> Result<Vec<RefreshView>, ClientError> {
        let counts = &rollout.counts;
        let counted = counts.failed + counts.timed_out + counts.handed_over;
        let mut new = Vec::new();
        if counted != self.counted {
            for state in TELLING {
                let all: Vec<RefreshView> =
                    client.refreshes(&rollout.id.to_string(), Some(state), LOOKED_THROUGH).await?;
                new.extend(
                    all.into_iter().filter(|one| !self.told.contains(&(one.application_id.to_string(), one.state))),
                );
            }
            self.told.extend(new.iter().map(|one| (one.application_id.to_string(), one.state)));
            self.counted = counted;
        }
        Ok(new)
    }
}

/// Whether nothing more happens by itself: ended, or stopped with every accepted operation followed to its end.
fn rests(rollout: &RolloutView) -> bool {
    let counts = &rollout.counts;
    rollout.state.is_ended() && counts.running + counts.verifying == 0
        || rollout.state == RolloutWord::Completed
        || rollout.state.is_stopped() && counts.running + counts.verifying == 0
}

fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { status, .. } => status.is_server_error() || status.as_u16() == 429,
        _ => false,
    }
}

/// What is shown while a rollout goes on.
enum Progress {
    /// At a terminal; a line stays for each wave that is done, and for each failure.
    Bar {
        /// The bar.
        bar: ProgressBar,
        /// The wave that is shown.
        wave: u32,
    },
    /// Elsewhere: a line when something has changed.
    Lines {
        /// State, wave and why of the line before.
        head: String,
        /// Its counts.
        counts: String,
        /// When it was written.
        at: Option<Timestamp>,
    },
    /// For a program: an object a line, when something has changed.
    Objects {
        /// The rollout as it was shown before.
        last: Value,
    },
}

impl Progress {
    fn of(watcher: Watcher) -> Self {
        if watcher == Watcher::Program {
            return Self::Objects { last: Value::Null };
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { head: String::new(), counts: String::new(), at: None };
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30.green} {pos}/{len}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar { bar, wave: 0 }
    }

    fn show(&mut self, rollout: &RolloutView, pace: &Pace, now: Timestamp) -> Result<(), Failure> {
        let wave = match rollout.wave {
            0 => String::new(),
            wave => format!(", wave {wave} of {}", rollout.waves.max(wave)),
        };
        let state = rollout.state.in_words();
        let why = rollout.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
        // What is stopped or ended goes nowhere, however fast it went.
        let goes = matches!(rollout.state, RolloutWord::Running | RolloutWord::Planning);
        let per_minute = pace.per_minute().filter(|_| goes);
        let left = per_minute.and_then(|_| pace.left(pace::remaining(&rollout.counts)));
        let speed = match pace::text(per_minute, left) {
            text if text.is_empty() => text,
            text => format!("; {text}"),
        };
        match self {
            Self::Bar { bar, wave: shown } => {
                if rollout.wave > *shown {
                    if *shown > 0 {
                        let of = rollout.waves.max(rollout.wave);
                        bar.println(format!("  wave {shown} of {of} done: {}", summary::counts(&rollout.counts)));
                    }
                    *shown = rollout.wave;
                }
                bar.set_length(rollout.counts.total);
                bar.set_position(rollout.counts.ended());
                bar.set_message(format!("{state}{wave}; {}{speed}{why}", attention(rollout)));
                bar.tick();
            }
            Self::Lines { head, counts, at } => {
                let (new_head, new_counts) = (format!("{state}{wave}{why}"), summary::counts(&rollout.counts));
                let is_time = at.is_none_or(|at| now - at >= LINE_GAP);
                if *head != new_head || is_time && *counts != new_counts {
                    output::say(&plain(&format!("{state}{wave}: {new_counts}{speed}{why}")));
                    (*head, *counts, *at) = (new_head, new_counts, Some(now));
                }
            }
            Self::Objects { last } => {
                let view = json!(rollout);
                if *last != view {
                    let seconds_left = left.map(|left| left.num_seconds());
                    output::print_json_line(&json!({
                        "event": "progress", "at": now, "rollout": view, "perMinute": per_minute, "secondsLeft": seconds_left,
                    }))?;
                    *last = view;
                }
            }
        }
        Ok(())
    }

    fn failures(&mut self, new: &[RefreshView], now: Timestamp) -> Result<(), Failure> {
        if let Self::Objects { .. } = self {
            for refresh in new {
                output::print_json_line(&json!({"event": "failure", "at": now, "refresh": refresh}))?;
            }
            return Ok(());
        }
        for refresh in new.iter().take(TOLD) {
            self.line(&failure_text(refresh));
        }
        if new.len() > TOLD {
            self.line(&format!("  and {} more", new.len() - TOLD));
        }
        Ok(())
    }

    fn trouble(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Objects { .. } => {
                let line = json!({"event": "trouble", "at": SystemClock.now(), "message": text});
                output::print_json_line(&line)
            }
            Self::Lines { head, .. } => {
                output::say(&plain(text));
                // So that it is said again how it stands once the service answers.
                head.clear();
                Ok(())
            }
            Self::Bar { .. } => {
                self.line(text);
                Ok(())
            }
        }
    }

    fn line(&self, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.println(plain(text)),
            Self::Lines { .. } | Self::Objects { .. } => output::say(&plain(text)),
        }
    }

    fn end(&mut self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

/// One failure in a line: what, where, why, and who has to act.
fn failure_text(refresh: &RefreshView) -> String {
    let mut text = format!("{}: {}", refresh.state.in_words(), refresh.application_id);
    if let Some(error) = &refresh.error {
        let message = shortened(&plain(&error.message), MESSAGE_LENGTH);
        text.push_str(&format!(": {}: {message} ({})", error.code, advice::who(error.actor)));
    }
    text
}

/// The counts that a person looks for while the bar shows the rest.
fn attention(rollout: &RolloutView) -> String {
    let counts = &rollout.counts;
    let mut text =
        format!("{} running, {} failed", counts.running + counts.verifying, counts.failed + counts.timed_out);
    for (count, what) in [(counts.handed_over, "handed over"), (counts.awaiting_access, "awaiting access")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(state: &str, running: u64, failed: u64) -> RolloutView {
        let mut counts = serde_json::to_value(crate::rollout::Counts::default()).unwrap();
        counts["running"] = running.into();
        counts["failed"] = failed.into();
        serde_json::from_value(serde_json::json!({
            "id": "01990000-0000-7000-8000-000000000001", "publisher": "fabrikam", "offer": "ledger", "plan": "standard",
            "version": "1.4.0", "target": "live", "audience": "all", "purpose": "rollOut", "state": state,
            "wave": 1, "waves": 3, "createdAt": "2026-01-02T03:00:00Z", "counts": counts
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_rests_when_nothing_more_happens_by_itself() {
        for (state, running, expected) in [
            ("waiting", 0, false),
            ("planning", 0, false),
            ("running", 0, false),
            ("paused", 1, false),
            ("paused", 0, true),
            ("halted", 1, false),
            ("halted", 0, true),
            ("canceled", 1, false),
            ("canceled", 0, true),
            ("completed", 0, true),
            ("hibernating", 0, false),
        ] {
            assert_eq!(rests(&rollout(state, running, 0)), expected, "{state} {running}");
        }
    }

    #[test]
    fn a_failure_is_told_in_one_harmless_line() {
        let refresh = |state: &str, error: serde_json::Value| -> RefreshView {
            let id = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
            serde_json::from_value(
                json!({"applicationId": id, "state": state, "attempts": 1, "polls": 0, "error": error}),
            )
            .unwrap()
        };
        let error = json!({"actor": "customer", "code": "ScopeLocked", "message": "locked\nby \u{1b}[2J us"});
        let text = failure_text(&refresh("failed", error));
        assert!(text.starts_with("failed: /subscriptions/") && text.ends_with("(The customer)"), "{text}");
        assert!(text.contains(": ScopeLocked: locked by ") && !text.contains(['\n', '\u{1b}']), "{text}");
        assert!(failure_text(&refresh("timedOut", serde_json::Value::Null)).starts_with("timed out: "));
    }

    #[test]
    fn only_a_completed_rollout_without_failures_is_clean() {
        assert_eq!(verdict(&rollout("completed", 0, 0)), Exit::Success);
        for (state, failed) in [("completed", 1), ("paused", 0), ("halted", 0), ("canceled", 0)] {
            assert_eq!(verdict(&rollout(state, 0, failed)), Exit::RolloutNotClean, "{state}");
        }
    }
}
