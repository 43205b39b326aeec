//! The measurements themselves, one function for each of design §10's figures.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::azure::{Azure, Simulator, bare_loop_time};
use crate::load::{self, Connection};
use crate::process::{Process, cpu, resident_mib};
use crate::service::{Handler, Local};
use crate::{Row, median, words};

/// Calls at once, as `ARM_MAX_CONCURRENCY` says.
const AT_ONCE: usize = 64;

/// From nothing to the first answered request.
pub async fn start(times: usize) -> anyhow::Result<Vec<Row>> {
    let azure = Simulator::start(&Azure::default())?;
    let mut took = Vec::new();
    for _ in 0..times {
        let folder = tempfile::tempdir()?;
        let (_handler, time) = Handler::start(folder.path(), &azure).await?;
        took.push(time);
    }
    let slowest = took.iter().max().copied().unwrap_or_default();
    let median = median(took).context("nothing was measured")?;
    let what = format!("start of `handler` to first answered request, median of {times}");
    Ok(vec![Row::new(what, "5 ms", format!("{} (slowest {})", words(median), words(slowest)))])
}

/// Memory of a handler that has nothing to do, without and with 100,000 deployments.
pub async fn idle() -> anyhow::Result<Vec<Row>> {
    let settings = Azure::default();
    let azure = Simulator::start(&settings)?;
    let folder = tempfile::tempdir()?;
    let (handler, _) = Handler::start(folder.path(), &azure).await?;
    handler.wait_until_initialised().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let empty = resident_mib(handler.id())?;
    drop(handler);

    let local = Local::start(folder.path(), &azure)?;
    let begin = Instant::now();
    local.import(&settings, 0..100_000).await?;
    let imported = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let full = resident_mib(local.handler()?)?;
    let host = resident_mib(local.host())?;
    local.end()?;
    Ok(vec![
        Row::new("memory when idle", "12 MiB", format!("{empty:.1} MiB")),
        Row::new(
            "memory with 100,000 deployments registered",
            "40 MiB",
            format!("{full:.1} MiB; embedded host {host:.1} MiB; the import took {}", words(imported)),
        ),
    ])
}

/// Invocations that have nothing to do, against an axum handler that does nothing.
pub async fn no_op() -> anyhow::Result<Vec<Row>> {
    let azure = Simulator::start(&Azure::default())?;
    let folder = tempfile::tempdir()?;
    let (handler, _) = Handler::start(folder.path(), &azure).await?;
    handler.wait_until_initialised().await?;
    let mut nothing = Process::this_program("the empty handler", &["--serve-nothing".to_owned()])?;
    let nothing_address = nothing.first_line("")?.parse()?;

    // An empty share of polls has nothing to look up; a refresh of an unknown rollout costs a look into the store.
    let nothing_to_do = invocation(&json!({"kind": "pollShare", "atMost": 0}));
    let unknown = json!({"kind": "refresh", "rolloutId": uuid::Uuid::nil(), "key": "0".repeat(64)});
    let mut rows = Vec::new();
    for (what, budget, request) in [
        ("no-op invocations, 64 at once, share of an empty axum handler's", "0.80", nothing_to_do),
        ("the same with one look into the store", "", invocation(&unknown)),
    ] {
        let (mut ours, mut empty) = (Vec::new(), Vec::new());
        let (mut our_cpu, mut empty_cpu) = (Vec::new(), Vec::new());
        // In turns, so that whatever else the machine does hits both.
        for _ in 0..3 {
            for (address, process, rates, costs) in [
                (nothing_address, nothing.id(), &mut empty, &mut empty_cpu),
                (handler.address(), handler.id(), &mut ours, &mut our_cpu),
            ] {
                let (time, before) = (Duration::from_secs(3), cpu(process)?);
                let rate = load::per_second(address, request.clone(), AT_ONCE, time).await?;
                costs.push((cpu(process)?.saturating_sub(before)).as_secs_f64() / (rate * time.as_secs_f64()));
                rates.push(rate);
            }
        }
        let middle = |values: Vec<f64>| median(values).context("nothing was measured");
        let (ours, empty) = (middle(ours)?, middle(empty)?);
        let measured = format!(
            "{:.2} ({ours:.0}/s of {empty:.0}/s; CPU {:.1} µs of {:.1} µs each)",
            ours / empty,
            middle(our_cpu)? * 1e6,
            middle(empty_cpu)? * 1e6
        );
        rows.push(Row::new(what, budget, measured));
    }
    Ok(rows)
}

/// A rollout to `count` deployments, all at once.
pub async fn rollout(count: usize) -> anyhow::Result<Vec<Row>> {
    let azure_settings = Azure { applications: count, ..Azure::default() };
    let bare = bare_loop_time(&azure_settings, AT_ONCE)?;
    let azure = Simulator::start(&azure_settings)?;
    let folder = tempfile::tempdir()?;
    let local = Local::start(folder.path(), &azure)?;
    local.import(&azure_settings, 0..count).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (host, handler) = (local.host(), local.handler()?);
    let cpu_before = (cpu(host)?, cpu(handler)?);
    let (mut host_peak, mut handler_peak) = (0.0f64, 0.0f64);
    let begin = Instant::now();
    let id = local.publish().await?;
    let counts = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host_peak = host_peak.max(resident_mib(host)?);
        handler_peak = handler_peak.max(resident_mib(handler)?);
        let rollout = local.rollout(&id).await?;
        match rollout["state"].as_str() {
            Some("completed") => break rollout["counts"].clone(),
            Some("planning" | "running") if begin.elapsed() < Duration::from_secs(900) => {}
            state => bail!("the rollout is {state:?} after {}: {rollout}", words(begin.elapsed())),
        }
    };
    let wall = begin.elapsed();
    if counts["succeeded"].as_u64() != Some(count as u64) {
        bail!("not every deployment was refreshed: {counts}");
    }
    let (host_cpu, handler_cpu) = (cpu(host)?.saturating_sub(cpu_before.0), cpu(handler)?.saturating_sub(cpu_before.1));
    let each = |time: Duration| time.as_secs_f64() * 1e3 / count as f64;
    let seen = azure.stats().await?;
    local.end()?;

    let bound = azure_settings.bound(AT_ONCE);
    let name = format!("{} deployments", thousands(count));
    Ok(vec![
        Row::new(
            format!("{name}, wall time (bound {}; bare loop {})", words(bound), words(bare)),
            "bare loop + 10 %",
            format!(
                "{} ({:+.0} % on the bare loop)",
                words(wall),
                (wall.as_secs_f64() / bare.as_secs_f64() - 1.0) * 100.0
            ),
        ),
        Row::new(
            format!("{name}, CPU per refresh, handler and host together"),
            "0.8 ms",
            format!("{:.2} ms ({:.2} and {:.2})", each(host_cpu + handler_cpu), each(handler_cpu), each(host_cpu)),
        ),
        Row::new(
            format!("{name}, most memory while rolling"),
            "150 MiB",
            format!("handler {handler_peak:.1} MiB, host {host_peak:.1} MiB"),
        ),
        Row::new(
            format!("{name}, polls sooner than `Retry-After` allowed"),
            "0",
            format!(
                "{} of {} ({} refreshes posted, {} operations)",
                seen.impatient_polls, seen.polls, seen.posts, seen.operations
            ),
        ),
    ])
}

/// A run of the poll timer while `count` operations are outstanding and none is due.
pub async fn tick(count: usize) -> anyhow::Result<Vec<Row>> {
    let hour = Duration::from_secs(3_600);
    let latency = Duration::from_millis(1);
    let settings = Azure { applications: count, latency, operation: hour, retry_after: hour / 6, ..Azure::default() };
    let azure = Simulator::start(&settings)?;
    let folder = tempfile::tempdir()?;
    let local = Local::start(folder.path(), &azure)?;
    local.import(&settings, 0..count).await?;
    let id = local.publish().await?;
    let begin = Instant::now();
    while azure.stats().await?.operations < count as u64 || local.rollout(&id).await?["counts"]["running"] != count {
        if begin.elapsed() > Duration::from_secs(600) {
            bail!("not all operations were accepted within 10 minutes: {}", local.rollout(&id).await?);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    local.end()?;

    let (handler, _) = Handler::start(folder.path(), &azure).await?;
    handler.wait_until_initialised().await?;
    let mut connection = Connection::open(handler.address()).await?;
    let mut took = Vec::new();
    for _ in 0..20 {
        let request = load::request("POST", "/PollOperations", &timer_payload());
        let begin = Instant::now();
        let status = connection.ask(&request).await?;
        took.push(begin.elapsed());
        if status != 200 {
            bail!("the timer was answered with {status}");
        }
    }
    let first = took.first().copied().unwrap_or_default();
    let median = median(took).context("nothing was measured")?;
    let what = format!("a poll tick, {} outstanding and none due, median of 20", thousands(count));
    Ok(vec![Row::new(what, "5 ms", format!("{} (the first {})", words(median), words(first)))])
}

/// A look for deployments among `count`, each in a subscription of its own. One in a hundred is not known yet, and as many
/// are known that are gone.
pub async fn sync(count: usize) -> anyhow::Result<Vec<Row>> {
    let settings = Azure { applications: count, a_subscription: 1, ..Azure::default() };
    let azure = Simulator::start(&settings)?;
    let folder = tempfile::tempdir()?;
    let local = Local::start(folder.path(), &azure)?;
    let strange = count / 100;
    local.import(&settings, strange..count + strange).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (host, handler) = (local.host(), local.handler()?);
    let (before, asked_before) = (cpu(handler)?, azure.stats().await?.inventory);
    let (mut host_peak, mut handler_peak) = (0.0f64, 0.0f64);
    let mut stages: Vec<(String, Duration)> = Vec::new();
    let begin = Instant::now();
    local.start_sync().await?;
    let counts = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        host_peak = host_peak.max(resident_mib(host)?);
        handler_peak = handler_peak.max(resident_mib(handler)?);
        let run = local.sync().await?;
        let state = run["state"].as_str().context("a run without a state")?;
        if stages.last().is_none_or(|(last, _)| last != state) {
            stages.push((state.to_owned(), begin.elapsed()));
        }
        if state == "ended" {
            break run["counts"].clone();
        }
        if begin.elapsed() > Duration::from_secs(1_800) {
            bail!("the sync has not ended after {}: {run}", words(begin.elapsed()));
        }
    };
    let wall = begin.elapsed();
    let used = cpu(handler)?.saturating_sub(before);
    let asked = azure.stats().await?.inventory - asked_before;
    local.end()?;
    let is = |name: &str, number: usize| counts[name].as_u64() == Some(number as u64);
    if !(is("found", count) && is("new", strange) && is("missing", strange)) {
        bail!("the sync did not find what there is: {counts}");
    }
    let stages = stages.iter().map(|(stage, at)| format!("{stage} from {}", words(*at))).collect::<Vec<_>>();
    let name = format!("sync of {}", thousands(count));
    let waiting = settings.latency * u32::try_from(asked)?;
    Ok(vec![
        Row::new(
            format!("{name}, wall time ({asked} questions one after the other wait for {})", words(waiting)),
            "",
            format!("{} ({})", words(wall), stages.join(", ")),
        ),
        Row::new(format!("{name}, CPU of the handler"), "", words(used)),
        Row::new(
            format!("{name}, most memory"),
            "150 MiB",
            format!("handler {handler_peak:.1} MiB, host {host_peak:.1} MiB"),
        ),
    ])
}

/// A queue message as the host hands it over (contracts/custom-handler.md §5).
fn invocation(message: &serde_json::Value) -> Vec<u8> {
    let body = json!({
        "Data": {"message": STANDARD.encode(message.to_string())},
        "Metadata": {
            "DeliveryCount": "1", "SequenceNumber": "1", "MessageId": "\"measured\"",
            "sys": {"MethodName": "RefreshDeployment", "UtcNow": "2026-01-16T08:30:11Z"},
        },
    });
    load::request("POST", "/RefreshDeployment", &body.to_string())
}

/// A timer's payload whose next run is so near that the function has no time to wait for what falls due later.
fn timer_payload() -> String {
    let now = chrono::Utc::now();
    let next = now + chrono::Duration::milliseconds(1);
    json!({
        "Data": {"tick": {
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {"Last": now.to_rfc3339(), "Next": next.to_rfc3339(), "LastUpdated": now.to_rfc3339()},
            "IsPastDue": false,
        }},
        "Metadata": {"sys": {"MethodName": "PollOperations", "UtcNow": now.to_rfc3339()}},
    })
    .to_string()
}

fn thousands(count: usize) -> String {
    if count < 1_000 { count.to_string() } else { format!("{},{:03}", count / 1_000, count % 1_000) }
}
