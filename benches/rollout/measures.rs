//! The measurements themselves, one function for each of design §10's figures.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::azure::{Azure, Seen, Simulator};
use crate::load::{self, Connection};
use crate::peers::{self, Took};
use crate::process::{cpu, forget_peak, peak_mib, resident_mib};
use crate::service::{Empty, Handler, Local};
use crate::{Row, median, thousands, words};

/// Calls at once, as `ARM_MAX_CONCURRENCY` says.
const AT_ONCE: usize = 64;

/// From nothing to the first answered request, and to the first function that was run; in turns with the empty handler.
pub async fn start(times: usize) -> anyhow::Result<Vec<Row>> {
    Empty::build()?;
    let azure = Simulator::start(&Azure::default())?;
    let folder = tempfile::tempdir()?;
    let nothing_to_do = nothing_to_do();
    let (mut ours, mut functions, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    // The first one of each makes files and warms the page cache.
    for round in 0..=times {
        let (_empty, empty_time) = Empty::start()?;
        let begin = Instant::now();
        let (handler, time) = Handler::start(folder.path(), &azure)?;
        let answer = Connection::open(handler.address()).await?.ask(&nothing_to_do).await?;
        let function_time = begin.elapsed();
        if answer != 200 {
            bail!("the first invocation was answered with {answer}");
        }
        if round > 0 {
            empty.push(empty_time);
            ours.push(time);
            functions.push(function_time);
        }
    }
    let figure = |times: &[Duration]| -> anyhow::Result<(Duration, Duration, Duration)> {
        let middle = median(times.to_vec()).context("nothing was measured")?;
        let (least, most) = (times.iter().min().copied(), times.iter().max().copied());
        Ok((middle, least.unwrap_or_default(), most.unwrap_or_default()))
    };
    let text = |(middle, least, most)| format!("{} ({} to {})", words(middle), words(least), words(most));
    let (ours, functions, empty) = (figure(&ours)?, figure(&functions)?, figure(&empty)?);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let figures = json!({"milliseconds": milliseconds(ours.0), "emptyMilliseconds": milliseconds(empty.0)});
    Ok(vec![
        Row::new(
            format!("start of `handler` to first answered request, median of {times}"),
            format!("5 ms; empty axum handler {}", text(empty)),
            text(ours),
        )
        .with(figures),
        Row::new("the same to the first function that was run, store and queue open", "", text(functions))
            .with(json!({"milliseconds": milliseconds(functions.0)})),
    ])
}

/// The size of the binary.
pub fn size() -> anyhow::Result<Vec<Row>> {
    Empty::build()?;
    let mib = |path: &std::path::Path| anyhow::Ok(std::fs::metadata(path)?.len() as f64 / (1024.0 * 1024.0));
    let ours = mib(env!("CARGO_BIN_EXE_permafresh").as_ref())?;
    let empty = mib(&crate::target_folder()?.join("release/examples/empty-handler"))?;
    let figures = json!({"mib": ours, "emptyMib": empty});
    Ok(vec![
        Row::new("size of the binary", format!("empty axum handler {empty:.1} MiB"), format!("{ours:.1} MiB"))
            .with(figures),
    ])
}

/// Memory of a handler that has nothing to do, without and with `count` deployments.
pub async fn idle(count: usize) -> anyhow::Result<Vec<Row>> {
    Empty::build()?;
    let (nothing, _) = Empty::start()?;
    let azure = Simulator::start(&Azure::default())?;
    let folder = tempfile::tempdir()?;
    let (handler, _) = Handler::start(folder.path(), &azure)?;
    handler.wait_until_initialised().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (empty, nothing) = (resident_mib(handler.id())?, resident_mib(nothing.id())?);
    drop(handler);

    let local = Local::start(folder.path(), &azure)?;
    let begin = Instant::now();
    local.import(&Azure::default(), 0..count).await?;
    let imported = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let full = resident_mib(local.handler()?)?;
    let host = resident_mib(local.host())?;
    local.end()?;
    Ok(vec![
        Row::new("memory when idle", format!("12 MiB; empty axum handler {nothing:.1} MiB"), format!("{empty:.1} MiB"))
            .with(json!({"mib": empty, "emptyMib": nothing})),
        Row::new(
            format!("memory with {} deployments registered", thousands(count)),
            "40 MiB",
            format!("{full:.1} MiB; embedded host {host:.1} MiB; the import took {}", words(imported)),
        )
        .with(json!({"mib": full, "hostMib": host, "importSeconds": imported.as_secs_f64()})),
    ])
}

/// Invocations that have nothing to do, against an axum handler that does nothing.
pub async fn no_op(rounds: usize) -> anyhow::Result<Vec<Row>> {
    let azure = Simulator::start(&Azure::default())?;
    let folder = tempfile::tempdir()?;
    let (handler, _) = Handler::start(folder.path(), &azure)?;
    handler.wait_until_initialised().await?;
    Empty::build()?;
    let (nothing, _) = Empty::start()?;

    // A refresh of an unknown rollout costs a look into the store.
    let unknown = json!({"kind": "refresh", "rolloutId": uuid::Uuid::nil(), "key": "0".repeat(64)});
    let mut rows = Vec::new();
    for (what, budget, request) in [
        ("no-op invocations, 64 at once, share of an empty axum handler's", "0.80", nothing_to_do()),
        ("the same with one look into the store", "", invocation(&unknown)),
    ] {
        let (mut ours, mut empty) = (Vec::new(), Vec::new());
        let (mut our_cpu, mut empty_cpu) = (Vec::new(), Vec::new());
        // In turns, so that whatever else the machine does hits both.
        for _ in 0..rounds {
            for (address, process, rates, costs) in [
                (nothing.address(), nothing.id(), &mut empty, &mut empty_cpu),
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
        rows.push(Row::new(what, budget, measured).with(json!({"perSecond": ours, "emptyPerSecond": empty})));
    }
    Ok(rows)
}

/// What a rollout by Permafresh took.
struct Rolled {
    all: Took,
    host: Took,
    handler: Took,
    seen: Seen,
}

/// A rollout to all deployments of `azure` at once, over HTTP, from the publish to the end that the API shows.
async fn roll(azure: &Azure) -> anyhow::Result<Rolled> {
    let simulator = Simulator::start(azure)?;
    let folder = tempfile::tempdir()?;
    let local = Local::start(folder.path(), &simulator)?;
    let count = azure.applications;
    local.import(azure, 0..count).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (host, handler) = (local.host(), local.handler()?);
    forget_peak(host)?;
    forget_peak(handler)?;
    let before = (cpu(host)?, cpu(handler)?);
    // Often enough not to count, and not so often that the question costs more than what is asked about.
    let look = Duration::from_millis((count as u64 / 100).clamp(40, 200));
    let begin = Instant::now();
    let id = local.publish().await?;
    let counts = loop {
        tokio::time::sleep(look).await;
        let rollout = local.rollout(&id).await?;
        match rollout["state"].as_str() {
            Some("completed") => break rollout["counts"].clone(),
            Some("planning" | "running") if begin.elapsed() < Duration::from_secs(900) => {}
            state => bail!("the rollout is {state:?} after {}: {rollout}", words(begin.elapsed())),
        }
    };
    let wall = begin.elapsed().as_secs_f64();
    if counts["succeeded"].as_u64() != Some(count as u64) {
        bail!("not every deployment was refreshed: {counts}");
    }
    let took = |process, before: Duration| {
        let cpu = cpu(process)?.saturating_sub(before).as_secs_f64();
        anyhow::Ok(Took { wall, cpu, peak_mib: peak_mib(process)? })
    };
    let (host, handler) = (took(host, before.0)?, took(handler, before.1)?);
    let all = Took { wall, cpu: host.cpu + handler.cpu, peak_mib: host.peak_mib + handler.peak_mib };
    let seen = simulator.stats().await?;
    local.end()?;
    Ok(Rolled { all, host, handler, seen })
}

fn azure(count: usize) -> Azure {
    Azure { applications: count, ..Azure::default() }
}

/// The same rollout by everybody, `few` deployments for who does one after the other.
pub async fn peers(count: usize, few: usize) -> anyhow::Result<Vec<Row>> {
    let settings = azure(count);
    let rolled = roll(&settings).await?;
    let (bare, python) = (peers::bare_loop(&settings, AT_ONCE).await?, peers::python(&settings).await?);
    let (mut one, mut one_seen) = peers::one_by_one(&azure(few)).await?;
    let times = count as f64 / few as f64;
    one.wall *= times;
    one.cpu *= times;
    let scaled = |seen: u64| (seen as f64 * times).round() as u64;
    one_seen.posts = scaled(one_seen.posts);
    one_seen.polls = scaled(one_seen.polls);
    one_seen.impatient_polls = scaled(one_seen.impatient_polls);
    let row = |who: String, took: Took, seen: Seen| {
        let Took { wall, cpu, peak_mib } = took;
        let measured = format!(
            "{}; CPU {:.2} ms each; {peak_mib:.1} MiB; {:.2} requests each, {} of {} polls too early",
            words(Duration::from_secs_f64(wall)),
            cpu * 1e3 / count as f64,
            seen.per_deployment(count),
            seen.impatient_polls,
            seen.polls
        );
        let beside = format!("bound {}; no poll too early", words(settings.bound(AT_ONCE)));
        Row::new(format!("{} deployments by {who}", thousands(count)), beside, measured)
            .with(json!({"deployments": count, "took": took, "seen": seen}))
    };
    Ok(vec![
        row("Permafresh, embedded host included".to_owned(), rolled.all, rolled.seen),
        row("the bare loop, 64 at once, no state".to_owned(), bare.0, bare.1),
        row("the Azure SDK for Python, 64 threads".to_owned(), python.0, python.1),
        row(format!("one call after the other (extrapolated from {few})"), one, one_seen),
    ])
}

/// A rollout to `count` deployments, all at once, beside the bare loop.
pub async fn rollout(count: usize) -> anyhow::Result<Vec<Row>> {
    let settings = azure(count);
    let (bare, bare_seen) = peers::bare_loop(&settings, AT_ONCE).await?;
    let Rolled { all, host, handler, seen } = roll(&settings).await?;
    let bound = settings.bound(AT_ONCE);
    let name = format!("{} deployments", thousands(count));
    let each = |took: Took| took.cpu * 1e3 / count as f64;
    let seconds = |wall: f64| words(Duration::from_secs_f64(wall));
    let figures = json!({"deployments": count, "all": all, "host": host, "handler": handler, "seen": seen,
                         "bare": bare, "bareSeen": bare_seen, "boundSeconds": bound.as_secs_f64()});
    Ok(vec![
        Row::new(
            format!("{name}, wall time"),
            format!("bare loop + 10 %; bare loop {}; bound {}", seconds(bare.wall), words(bound)),
            format!(
                "{} ({:+.0} % on the bare loop; {:.2} ms each)",
                seconds(all.wall),
                (all.wall / bare.wall - 1.0) * 100.0,
                all.wall * 1e3 / count as f64
            ),
        )
        .with(figures),
        Row::new(
            format!("{name}, CPU per refresh, handler and host together"),
            format!("0.8 ms; bare loop {:.2} ms", each(bare)),
            format!("{:.2} ms ({:.2} and {:.2})", each(all), each(handler), each(host)),
        ),
        Row::new(
            format!("{name}, most memory while rolling"),
            format!("150 MiB; bare loop {:.1} MiB", bare.peak_mib),
            format!("handler {:.1} MiB, host {:.1} MiB", handler.peak_mib, host.peak_mib),
        ),
        Row::new(
            format!("{name}, requests to ARM for each, polls sooner than `Retry-After` allowed"),
            format!("bare loop {:.2}; none too early", bare_seen.per_deployment(count)),
            format!("{:.2}, {} of {}", seen.per_deployment(count), seen.impatient_polls, seen.polls),
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

    let (handler, _) = Handler::start(folder.path(), &azure)?;
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
    let measured = format!("{} (the first {})", words(median), words(first));
    Ok(vec![Row::new(what, "5 ms", measured).with(json!({"milliseconds": median.as_secs_f64() * 1e3}))])
}

/// An invocation that looks nothing up: an empty share of polls.
fn nothing_to_do() -> Vec<u8> {
    invocation(&json!({"kind": "pollShare", "atMost": 0}))
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
