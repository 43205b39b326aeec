//! Runs one timer function: at its times, never twice at once, with its retry policy. When that is, `timer_status`
//! decides.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    envelope::{self, Punctuality, RetryContext, Sys, TimerInfo, TimerTimes},
    invoke::{InvocationError, Invoker, Target},
    metadata::{Monitor, TimerTrigger},
    stopping::Stopping,
    timer_status::{First, StatusFile, after_run, at_start},
};
use crate::rollout::Timestamp;

/// How long it sleeps at most before it looks at the clock again: the clock may be set, or the machine be suspended.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// One timer.
pub struct Timer {
    target: Arc<Target>,
    trigger: TimerTrigger,
    invoker: Arc<Invoker>,
    file: StatusFile,
    stopping: Stopping,
    /// What is known of it. Whoever runs it holds this, so that nobody else does.
    times: Mutex<Option<TimerTimes>>,
}

impl Timer {
    /// A timer that does not run yet.
    pub fn new(
        target: Arc<Target>,
        trigger: TimerTrigger,
        invoker: Arc<Invoker>,
        file: StatusFile,
        stopping: Stopping,
    ) -> Self {
        Self { target, trigger, invoker, file, stopping, times: Mutex::new(None) }
    }

    /// Runs it at its times until the host stops.
    pub async fn run(&self) {
        let name = &self.target.function.name;
        let stored = match self.trigger.monitor {
            Monitor::On => self.file.load(),
            Monitor::Off => None,
        };
        let now = self.invoker.clock.now();
        let Some(start) = at_start(&self.trigger.schedule, stored, now, self.trigger.on_startup) else {
            return tracing::error!("timer {name} has no next time");
        };
        *self.times.lock().await = Some(start.times);
        self.store(start.times).await;
        let mut times = start.times;
        let mut first = Some(start.first);
        loop {
            let punctuality = match first.take() {
                Some(First::Run(punctuality)) => punctuality,
                Some(First::Wait) | None => {
                    if self.sleep_until(times.next).await.is_break() {
                        return;
                    }
                    Punctuality::OnTime
                }
            };
            let mut current = self.times.lock().await;
            if self.stopping.now() {
                return;
            }
            let began = self.invoker.clock.now();
            self.attempts(Some(times), punctuality).await;
            let Some(after) = after_run(&self.trigger.schedule, began, self.invoker.clock.now()) else {
                return tracing::error!("timer {name} has no next time");
            };
            times = after;
            *current = Some(after);
            drop(current);
            self.store(after).await;
        }
    }

    /// Runs it once, now, unless it is running: then afterwards. Its schedule goes on as before.
    pub async fn run_by_hand(&self) {
        // Held, so that no run by schedule overlaps; without times, since no run of the schedule is meant.
        let _times = self.times.lock().await;
        self.attempts(None, Punctuality::OnTime).await;
    }

    async fn attempts(&self, times: Option<TimerTimes>, punctuality: Punctuality) {
        let function = &self.target.function;
        let times = times.filter(|_| self.trigger.monitor == Monitor::On);
        let info = TimerInfo::new(&self.trigger.schedule, times, punctuality);
        // All attempts of one event have one id.
        let invocation = Uuid::new_v4();
        let mut retries = 0;
        while let Err(error) = self.attempt(&info, invocation, retries).await {
            let chance = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
            let delay = function.retry.and_then(|policy| policy.next_delay(retries, chance));
            let Some(delay) = delay else {
                tracing::error!(%invocation, "timer {} failed: {error}", function.name);
                return;
            };
            tracing::warn!(
                %invocation,
                delay_ms = delay.as_millis(),
                "timer {} failed and is tried again: {error}",
                function.name
            );
            retries += 1;
            let mut stopping = self.stopping.clone();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stopping.wait() => return,
            }
        }
    }

    async fn attempt(&self, info: &TimerInfo, invocation: Uuid, retries: u32) -> Result<(), InvocationError> {
        let function = &self.target.function;
        let retry = function.retry.map(|policy| RetryContext::new(&function.name, retries, policy.max_retries));
        let sys = Sys::new(&function.name, self.invoker.clock.now());
        let body = envelope::timer(&function.trigger_name, info, sys, retry);
        self.invoker.invoke(&self.target, invocation, body).await.map(drop)
    }

    async fn sleep_until(&self, due: Timestamp) -> std::ops::ControlFlow<()> {
        let mut stopping = self.stopping.clone();
        loop {
            let left = (due - self.invoker.clock.now()).to_std().unwrap_or_default();
            if left.is_zero() {
                return std::ops::ControlFlow::Continue(());
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => {}
                () = stopping.wait() => return std::ops::ControlFlow::Break(()),
            }
        }
    }

    async fn store(&self, times: TimerTimes) {
        if self.trigger.monitor == Monitor::Off {
            return;
        }
        let file = self.file.clone();
        let saved = tokio::task::spawn_blocking(move || file.save(times)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "the status of timer {} was not stored: {error}", self.target.function.name);
        }
    }
}
