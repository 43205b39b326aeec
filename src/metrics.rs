//! What is counted and measured, under the names that a collector sees. Where none is configured every call here is one
//! look at an empty place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::clock::Clock;
use crate::rollout::Timestamp;

/// How long a snapshot of the refreshes counts: after that another instance has taken over the timer.
const STALE: TimeDelta = TimeDelta::seconds(150);
/// Bounds of calls, in seconds: a call ends after 100 s at the latest.
const CALLS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of what waits, in seconds: from a busy timer to a backlog of an hour.
const WAITS: [f64; 11] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0];

static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

struct Instruments {
    arm_calls: Histogram<f64>,
    arm_throttles: Counter<u64>,
    poll_lag: Histogram<f64>,
    queue_age: Histogram<f64>,
    refreshes_ended: Counter<u64>,
    refreshes: Arc<Mutex<Snapshot>>,
}

/// How many refreshes of the open rollouts are in which state, and when that was looked at.
#[derive(Default)]
struct Snapshot {
    at: Option<Timestamp>,
    counts: Counts,
}

/// Refreshes by rollout and state.
pub type Counts = BTreeMap<(String, &'static str), u64>;

/// From now on what is measured goes to `meter`. Only the first call counts.
pub fn start(meter: &Meter, clock: Arc<dyn Clock>) {
    let seconds = |name: &'static str, what: &'static str, bounds: &[f64]| {
        meter.f64_histogram(name).with_unit("s").with_description(what).with_boundaries(bounds.to_vec()).build()
    };
    let refreshes = Arc::new(Mutex::new(Snapshot::default()));
    let seen = Arc::clone(&refreshes);
    // The callback lives as long as the meter's provider; the handle itself does nothing.
    let _gauge = meter
        .u64_observable_gauge("permafresh.refreshes")
        .with_unit("{refresh}")
        .with_description("Refreshes of open rollouts by state, as the last tick saw them")
        .with_callback(move |observer| {
            let snapshot = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if snapshot.at.is_some_and(|at| clock.now() - at <= STALE) {
                for ((rollout, state), count) in &snapshot.counts {
                    let attributes =
                        [KeyValue::new("rollout.id", rollout.clone()), KeyValue::new("refresh.state", *state)];
                    observer.observe(*count, &attributes);
                }
            }
        })
        .build();
    let instruments = Instruments {
        arm_calls: seconds("permafresh.arm.call.duration", "Calls to Azure Resource Manager", &CALLS),
        arm_throttles: meter
            .u64_counter("permafresh.arm.throttles")
            .with_unit("{answer}")
            .with_description("Answers of Azure Resource Manager that want a subscription left alone")
            .build(),
        poll_lag: seconds("permafresh.poll.lag", "How late a look at an operation begins", &WAITS),
        queue_age: seconds("permafresh.queue.age", "How late a message is worked off", &WAITS),
        refreshes_ended: meter
            .u64_counter("permafresh.refreshes.ended")
            .with_unit("{refresh}")
            .with_description("Refreshes that got their result")
            .build(),
        refreshes,
    };
    let _first = INSTRUMENTS.set(instruments);
}

/// A call to Azure Resource Manager: its HTTP status, or why there is none.
pub fn arm_call(call: &'static str, took: Duration, answer: Result<u16, &'static str>) {
    let Some(instruments) = INSTRUMENTS.get() else { return };
    let answer = match answer {
        Ok(status) => KeyValue::new("http.response.status_code", i64::from(status)),
        Err(why) => KeyValue::new("error.type", why),
    };
    instruments.arm_calls.record(took.as_secs_f64(), &[KeyValue::new("arm.call", call), answer]);
}

/// Azure Resource Manager wants a subscription left alone.
pub fn arm_throttle() {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.arm_throttles.add(1, &[]);
    }
}

/// A look that was due at `due` begins at `now`.
pub fn poll_lag(due: Timestamp, now: Timestamp) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.poll_lag.record(seconds_between(due, now), &[]);
    }
}

/// A message that was due at `due` is worked off from `now` on.
pub fn queue_age(kind: &'static str, due: Timestamp, now: Timestamp) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.queue_age.record(seconds_between(due, now), &[KeyValue::new("message.kind", kind)]);
    }
}

/// A refresh has its result.
pub fn refresh_ended(state: &'static str) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.refreshes_ended.add(1, &[KeyValue::new("refresh.state", state)]);
    }
}

/// Whether anybody measures: worth asking where counting takes work.
pub fn is_measured() -> bool {
    INSTRUMENTS.get().is_some()
}

/// The refreshes of all open rollouts, as seen at `now`.
pub fn refreshes(counts: Counts, now: Timestamp) {
    if let Some(instruments) = INSTRUMENTS.get() {
        let mut snapshot = instruments.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
        *snapshot = Snapshot { at: Some(now), counts };
    }
}

/// Clocks of two machines may differ, so that something may seem to come before it was due.
fn seconds_between(due: Timestamp, now: Timestamp) -> f64 {
    (now - due).to_std().unwrap_or_default().as_secs_f64()
}
