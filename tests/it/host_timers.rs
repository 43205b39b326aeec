//! Timer functions: when they run, that they never run twice at once, how a failed run is tried again.

use std::{sync::Arc, time::Duration};

use permafresh::host::RunningHost;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::host_stub::{Ground, Stub, done, eventually, post, reply_with, timer_function};

fn status_of(ground: &Ground, function: &str) -> Value {
    let file = ground.folder.path().join("state/timers").join(format!("{function}.json"));
    std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn with_status(ground: &Ground, function: &str, status: &Value) {
    let folder = ground.folder.path().join("state/timers");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    std::fs::write(folder.join(format!("{function}.json")), status.to_string()).expect("the folder is ours");
}

async fn next_is(ground: &Ground, function: &str, next: &str) {
    eventually(&format!("the next time {next}"), || status_of(ground, function)["Next"] == next).await;
}

async fn ready(host: &RunningHost, stub: &Stub) {
    eventually("the probe", || !stub.probes().is_empty()).await;
    assert!(host.functions_in_error().is_empty());
}

#[tokio::test]
async fn e5_a_missed_run_is_made_up_for_once_at_start_and_says_that_it_is_late() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", timer_function("0 0 * * * *"))]);
    let missed = json!({"Last": null, "Next": "2026-01-16T02:00:00Z", "LastUpdated": "2026-01-16T01:12:44.5520118Z"});
    with_status(&ground, "Sweep", &missed);
    let _host = ground.start().await;
    let call = stub.wait_for_calls(1).await.remove(0).json();
    assert_eq!(
        call["Data"]["tick"],
        json!({
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {
                "Last": "0001-01-01T00:00:00+00:00",
                "Next": "2026-01-16T02:00:00+00:00",
                "LastUpdated": "2026-01-16T01:12:44.5520118+00:00"
            },
            "IsPastDue": true
        })
    );
    next_is(&ground, "Sweep", "2026-01-16T09:00:00Z").await;
    assert_eq!(stub.calls().len(), 1);
}

#[tokio::test]
async fn e5_a_changed_schedule_resets_and_does_not_fire() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", timer_function("0 0 * * * *"))]);
    let other = json!({"Last": null, "Next": "2026-01-16T02:30:00Z", "LastUpdated": "2026-01-16T02:12:44Z"});
    with_status(&ground, "Sweep", &other);
    let host = ground.start().await;
    ready(&host, &stub).await;
    next_is(&ground, "Sweep", "2026-01-16T09:00:00Z").await;
    assert_eq!(stub.calls().len(), 0);
}

#[tokio::test]
async fn e5_a_timer_that_runs_often_has_no_status_and_no_file() {
    let stub = Stub::answering(|_| done()).await;
    let mut unmonitored = timer_function("0 0 * * * *");
    unmonitored["bindings"][0]["useMonitor"] = json!(false);
    let functions = [
        ("Cron", timer_function("*/10 * * * * *")),
        ("Span", timer_function("00:00:10")),
        ("Unmonitored", unmonitored),
    ];
    let ground = Ground::new(&stub, &json!({}), &functions);
    let host = ground.start().await;
    ready(&host, &stub).await;
    // Each has to have looked at the clock before it moves, which nothing shows from outside but a run by hand.
    for name in ["Cron", "Span", "Unmonitored"] {
        assert_eq!(post(&host, &format!("/admin/functions/{name}"), "{}").await.status, 202);
    }
    stub.wait_for_calls(3).await;
    ground.clock.set("2026-01-16T09:00:00Z");
    let calls = stub.wait_for_calls(6).await;
    let mut seen: Vec<_> = calls.iter().map(|call| (call.path.clone(), call.json()["Data"]["tick"].clone())).collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, tick) in seen {
        let adjusts = path != "/Span";
        assert_eq!(
            tick,
            json!({"Schedule": {"AdjustForDST": adjusts}, "ScheduleStatus": null, "IsPastDue": false}),
            "{path}"
        );
    }
    assert!(!ground.folder.path().join("state/timers").exists());
}

#[tokio::test]
async fn a_run_on_startup_happens_unless_a_late_one_does() {
    for (stored, late) in [
        (None, false),
        (Some(json!({"Last": null, "Next": "2026-01-16T02:00:00Z", "LastUpdated": "2026-01-16T01:12:44Z"})), true),
    ] {
        let stub = Stub::answering(|_| done()).await;
        let mut function = timer_function("0 0 * * * *");
        function["bindings"][0]["runOnStartup"] = json!(true);
        let ground = Ground::new(&stub, &json!({}), &[("Sweep", function)]);
        if let Some(stored) = &stored {
            with_status(&ground, "Sweep", stored);
        }
        let _host = ground.start().await;
        stub.wait_for_calls(1).await;
        eventually("the run's end", || status_of(&ground, "Sweep")["Last"] == "2026-01-16T08:30:11.756269100Z").await;
        let calls = stub.calls();
        assert_eq!((calls.len(), &calls[0].json()["Data"]["tick"]["IsPastDue"]), (1, &json!(late)));
    }
}

#[tokio::test]
async fn runs_never_overlap_and_the_next_time_is_worked_out_from_the_end() {
    let gate = Arc::new(Semaphore::new(0));
    let stub = Stub::awaiting({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.expect("the gate is never closed").forget();
                done()
            })
        }
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", timer_function("0 */5 * * * *"))]);
    let host = ground.start().await;
    next_is(&ground, "Sweep", "2026-01-16T08:35:00Z").await;
    ground.clock.set("2026-01-16T08:35:00Z");
    stub.wait_for_calls(1).await;
    // Three more times pass, and somebody fires it by hand, while it runs.
    ground.clock.set("2026-01-16T08:52:00Z");
    assert_eq!(post(&host, "/admin/functions/Sweep", "{}").await.status, 202);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stub.calls().len(), 1);
    gate.add_permits(1);
    next_is(&ground, "Sweep", "2026-01-16T08:55:00Z").await;
    assert_eq!(status_of(&ground, "Sweep")["Last"], "2026-01-16T08:35:00Z");
    // Then comes the one by hand, and nothing else.
    stub.wait_for_calls(2).await;
    gate.add_permits(10);
    ground.clock.set("2026-01-16T08:55:00Z");
    stub.wait_for_calls(3).await;
    next_is(&ground, "Sweep", "2026-01-16T09:00:00Z").await;
    assert_eq!(stub.calls().len(), 3);
}

#[tokio::test]
async fn e11_a_failed_run_is_tried_again_by_its_policy_under_the_same_id() {
    let stub = Stub::answering(|call| match &call.json()["Metadata"]["RetryContext"]["RetryCount"] {
        Value::Number(count) if count.as_u64() == Some(2) => done(),
        _ => reply_with(500, None, ""),
    })
    .await;
    let mut function = timer_function("0 */5 * * * *");
    function["retry"] = json!({"strategy": "fixedDelay", "maxRetryCount": 4, "delayInterval": "00:00:00.01"});
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", function)]);
    let _host = ground.start().await;
    next_is(&ground, "Sweep", "2026-01-16T08:35:00Z").await;
    ground.clock.set("2026-01-16T08:35:00Z");
    next_is(&ground, "Sweep", "2026-01-16T08:40:00Z").await;
    let calls = stub.calls();
    let contexts: Vec<_> = calls.iter().map(|call| call.json()["Metadata"]["RetryContext"].clone()).collect();
    let failed = json!({
        "ClassName": "Microsoft.Azure.WebJobs.Host.FunctionInvocationException",
        "Message": "Exception while executing function: Functions.Sweep"
    });
    let context = |count: u32, exception: &Value| json!({"RetryCount": count, "MaxRetryCount": 4, "Exception": exception, "Instance": null, "State": {}});
    assert_eq!(contexts, [context(0, &Value::Null), context(1, &failed), context(2, &failed)]);
    let first = calls[0].header("x-azure-functions-invocationid");
    assert!(calls.iter().all(|call| call.header("x-azure-functions-invocationid") == first));
}

#[tokio::test]
async fn e11_a_policy_ends_and_the_next_run_is_on_schedule() {
    let stub = Stub::answering(|_| reply_with(500, None, "")).await;
    let policy = json!({"retry": {"strategy": "exponentialBackoff", "maxRetryCount": 2,
        "minimumInterval": "00:00:00.001", "maximumInterval": "00:00:00.005"}});
    let ground = Ground::new(&stub, &policy, &[("Sweep", timer_function("0 */5 * * * *"))]);
    let _host = ground.start().await;
    next_is(&ground, "Sweep", "2026-01-16T08:35:00Z").await;
    ground.clock.set("2026-01-16T08:35:00Z");
    next_is(&ground, "Sweep", "2026-01-16T08:40:00Z").await;
    assert_eq!(stub.calls().len(), 3);
    ground.clock.set("2026-01-16T08:40:00Z");
    next_is(&ground, "Sweep", "2026-01-16T08:45:00Z").await;
    assert_eq!(stub.calls().len(), 6);
}

#[tokio::test]
async fn without_a_policy_there_is_no_retry_and_no_context() {
    let stub = Stub::answering(|_| reply_with(500, None, "")).await;
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", timer_function("0 */5 * * * *"))]);
    let _host = ground.start().await;
    next_is(&ground, "Sweep", "2026-01-16T08:35:00Z").await;
    ground.clock.set("2026-01-16T08:35:00Z");
    next_is(&ground, "Sweep", "2026-01-16T08:40:00Z").await;
    let calls = stub.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].json()["Metadata"].get("RetryContext").is_none());
}

#[tokio::test]
async fn a_run_that_was_cut_off_by_a_crash_of_the_host_is_made_up_for() {
    let stub = Stub::awaiting(|_| Box::pin(std::future::pending())).await;
    let ground = Ground::new(&stub, &json!({}), &[("Sweep", timer_function("0 */5 * * * *"))]);
    let host = ground.start().await;
    next_is(&ground, "Sweep", "2026-01-16T08:35:00Z").await;
    ground.clock.set("2026-01-16T08:35:00.5Z");
    stub.wait_for_calls(1).await;
    drop(host);
    let _host = ground.start().await;
    let calls = stub.wait_for_calls(2).await;
    assert_eq!(calls[1].json()["Data"]["tick"]["IsPastDue"], true);
}
