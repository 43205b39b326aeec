//! Watching a rollout until it ends or stops: a bar at a terminal, plain lines elsewhere, the summary at the end.
//!
//! Progress is no data, so it goes to stderr. Watching changes nothing: whoever stops it leaves the rollout going on.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::client::{ApiClient, ClientError};
use super::failure::{Exit, Failure};
use super::plain_text::plain;
use super::{output, summary};
use crate::functions::wire::api::{RefreshView, RolloutView, RolloutWord};
use crate::rollout::RolloutId;

/// How many answers in a row may fail before watching is given up; a service that restarts is back sooner.
const PATIENCE: u32 = 20;

/// Watches a rollout until it ends or stops, prints the summary, and says by the exit code how it ended.
pub async fn to_the_end(client: &ApiClient, rollout: RolloutId, interval: Duration) -> Result<Exit, Failure> {
    let ended = until_it_rests(client, rollout, interval).await?;
    let refreshes = needing_attention(client, rollout).await?;
    output::print(&summary::summary(&ended, &refreshes))?;
    Ok(verdict(&ended))
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
) -> Result<RolloutView, Failure> {
    let mut progress = Progress::to_stderr();
    let mut misses = 0;
    loop {
        match client.get::<RolloutView>("show the rollout", &format!("/api/rollouts/{rollout}")).await {
            Ok(view) => {
                misses = 0;
                progress.show(&view);
                if rests(&view) {
                    progress.end();
                    return Ok(view);
                }
            }
            Err(error) if is_passing(&error) && misses < PATIENCE => {
                if misses == 0 {
                    progress.line(&format!("{error}; asking again"));
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
    /// At a terminal; a line stays for each wave that is done.
    Bar {
        /// The bar.
        bar: ProgressBar,
        /// The wave that is shown.
        wave: u32,
    },
    /// Elsewhere: a line when something has changed.
    Lines {
        /// The line before.
        last: String,
    },
}

impl Progress {
    fn to_stderr() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: String::new() };
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30.green} {pos}/{len}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar { bar, wave: 0 }
    }

    fn show(&mut self, rollout: &RolloutView) {
        let wave = match rollout.wave {
            0 => String::new(),
            wave => format!(", wave {wave} of {}", rollout.waves.max(wave)),
        };
        let state = summary::state_text(rollout.state);
        let why = rollout.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
        match self {
            Self::Bar { bar, wave: shown } => {
                if rollout.wave > *shown {
                    if *shown > 0 {
                        bar.println(format!("  wave {shown} of {} done", rollout.waves.max(rollout.wave)));
                    }
                    *shown = rollout.wave;
                }
                bar.set_length(rollout.counts.total);
                bar.set_position(summary::ended(&rollout.counts));
                bar.set_message(format!("{state}{wave}; {}{why}", attention(rollout)));
                bar.tick();
            }
            Self::Lines { .. } => {
                self.line(&format!("{state}{wave}: {}{why}", summary::counts(&rollout.counts)));
            }
        }
    }

    fn line(&mut self, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.println(plain(text)),
            Self::Lines { last } if last != text => {
                output::say(&plain(text));
                text.clone_into(last);
            }
            Self::Lines { .. } => {}
        }
    }

    fn end(&mut self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
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
    fn only_a_completed_rollout_without_failures_is_clean() {
        assert_eq!(verdict(&rollout("completed", 0, 0)), Exit::Success);
        for (state, failed) in [("completed", 1), ("paused", 0), ("halted", 0), ("canceled", 0)] {
            assert_eq!(verdict(&rollout(state, 0, failed)), Exit::RolloutNotClean, "{state}");
        }
    }
}
