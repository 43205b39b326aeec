//! Every row of the decision table for the poll (contracts/arm.md §2.4), over HTTP.

use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, MonitorForm, OnPoll, Outcome, Reply};
use permafresh::rollout::{Monitor, Operation, PollAnswer, PollingUrl};
use serde::Deserialize;

use crate::arm_fixture::{Fixture, application};

#[derive(Deserialize)]
struct Recording {
    case: String,
    body: String,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    answer: String,
    percent: Option<f64>,
    code: Option<String>,
    says: Option<String>,
}

/// An answer in one word, with the code of its error.
fn meaning(answer: &PollAnswer) -> (&'static str, Option<&str>) {
    match answer {
        PollAnswer::Succeeded => ("succeeded", None),
        PollAnswer::Failed { error } => ("failed", Some(&error.code)),
        PollAnswer::Canceled => ("canceled", None),
        PollAnswer::Running { .. } => ("running", None),
        PollAnswer::Unreadable { error, .. } => ("unreadable", Some(&error.code)),
        PollAnswer::Gone => ("gone", None),
        PollAnswer::AccessLost { error } => ("accessLost", Some(&error.code)),
    }
}

async fn by(monitor: MonitorForm) -> (Fixture, Operation) {
    let world = Fixture::start().await;
    let operation = world.operation(Acceptance::monitored_by(monitor)).await;
    (world, operation)
}

#[tokio::test]
async fn every_monitor_of_the_contracts_examples_is_understood() {
    let recordings: Vec<Recording> = serde_json::from_str(include_str!("../data/arm/monitors.json")).unwrap();
    assert_eq!(recordings.len(), 11);
    for form in [MonitorForm::AsyncOperation, MonitorForm::Location] {
        let (world, operation) = by(form).await;
        for Recording { case, body, expect } in &recordings {
            let answer = world.poll_answered(&operation, Reply::json(200, body)).await;
            assert_eq!(meaning(&answer), (expect.answer.as_str(), expect.code.as_deref()), "{case}");
            match answer {
                PollAnswer::Running { percent, .. } => assert_eq!(percent, expect.percent, "{case}"),
                PollAnswer::Failed { error } => {
                    assert!(error.message.contains(expect.says.as_deref().unwrap()), "{case}: {}", error.message);
                    assert_eq!(error.status, None, "{case}: the answer was a 200");
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn words_are_compared_without_case_and_unknown_ones_mean_running() {
    let (world, operation) = by(MonitorForm::AsyncOperation).await;
    for (word, meant) in [
        ("Succeeded", "succeeded"),
        ("SUCCEEDED", "succeeded"),
        ("failed", "failed"),
        ("Canceled", "canceled"),
        ("Cancelled", "canceled"),
        ("CANCELLED", "canceled"),
        ("Accepted", "running"),
        ("Updating", "running"),
        ("Deleted", "running"),
        ("Completed", "running"),
        ("Läuft", "running"),
        ("", "running"),
    ] {
        for status in [200, 201, 202] {
            let body = serde_json::json!({"status": word}).to_string();
            let answer = world.poll_answered(&operation, Reply::json(status, body)).await;
            assert_eq!(meaning(&answer).0, meant, "{status} {word}");
        }
    }
}

#[tokio::test]
async fn each_status_has_its_row_for_azure_async_operation() {
    let (world, operation) = by(MonitorForm::AsyncOperation).await;
    for (reply, meant) in [
        (Reply::status(200), ("unreadable", Some("NoStatus"))),
        (Reply::html(200), ("unreadable", Some("NoStatus"))),
        (Reply::json(200, "{}"), ("unreadable", Some("NoStatus"))),
        (Reply::json(200, "[\"Succeeded\"]"), ("unreadable", Some("NoStatus"))),
        (Reply::json(200, r#"{"status":7}"#), ("unreadable", Some("NoStatus"))),
        (Reply::json(200, r#"{"status":"Succee"#), ("unreadable", Some("NoStatus"))),
        (Reply::json(200, r#"{"properties":{"status":"Succeeded"}}"#), ("unreadable", Some("NoStatus"))),
        (Reply::status(202), ("running", None)),
        (Reply::html(202), ("running", None)),
        (Reply::status(204), ("unreadable", Some("NoStatus"))),
        (Reply::redirect("https://evil.example/"), ("unreadable", Some("Unknown"))),
        (Reply::status(400), ("unreadable", Some("Unknown"))),
        (
            Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001"),
            ("accessLost", Some("InvalidAuthenticationTokenTenant")),
        ),
        (Reply::forbidden(), ("accessLost", Some("AuthorizationFailed"))),
        (Reply::resource_not_found(), ("gone", None)),
        (Reply::subscription_not_found(), ("gone", None)),
        (Reply::status(404), ("gone", None)),
        (Reply::status(410), ("gone", None)),
        (Reply::status(408), ("unreadable", Some("Unknown"))),
        (Reply::busy(), ("unreadable", Some("Conflict"))),
        (Reply::throttled(5), ("unreadable", Some("SubscriptionRequestsThrottled"))),
        (Reply::html(500), ("unreadable", Some("Unknown"))),
        (Reply::unavailable(5), ("unreadable", Some("ServiceUnavailable"))),
        (Reply::gateway_timeout(), ("unreadable", Some("GatewayTimeout"))),
    ] {
        let answer = world.poll_answered(&operation, reply.clone()).await;
        assert_eq!(meaning(&answer), meant, "{reply:?}");
        world.clock.advance(Duration::from_secs(10));
    }
}

#[tokio::test]
async fn each_status_has_its_row_for_location() {
    let (world, operation) = by(MonitorForm::Location).await;
    assert_eq!(operation.monitor, Monitor::Location);
    for (reply, meant) in [
        (Reply::status(202), ("running", None)),
        (Reply::json(202, r#"{"status":"Succeeded"}"#), ("running", None)),
        (Reply::status(200), ("succeeded", None)),
        (Reply::status(204), ("succeeded", None)),
        (Reply::json(200, r#"{"id":"x","properties":{}}"#), ("succeeded", None)),
        (Reply::json(200, r#"{"status":"Running"}"#), ("running", None)),
        (Reply::json(200, r#"{"status":"Failed","error":{"code":"X"}}"#), ("failed", Some("X"))),
        (Reply::html(200), ("unreadable", Some("NoStatus"))),
        (Reply::redirect("https://evil.example/"), ("unreadable", Some("Unknown"))),
        (Reply::error(400, "BadRequest", "text"), ("failed", Some("BadRequest"))),
        (Reply::busy(), ("failed", Some("Conflict"))),
        (Reply::forbidden(), ("accessLost", Some("AuthorizationFailed"))),
        (Reply::status(404), ("gone", None)),
        (Reply::status(410), ("gone", None)),
        (Reply::status(408), ("unreadable", Some("Unknown"))),
        (Reply::throttled(5), ("unreadable", Some("SubscriptionRequestsThrottled"))),
        (Reply::html(500), ("unreadable", Some("Unknown"))),
    ] {
        let answer = world.poll_answered(&operation, reply.clone()).await;
        assert_eq!(meaning(&answer), meant, "{reply:?}");
        world.clock.advance(Duration::from_secs(10));
    }
}

#[tokio::test]
async fn an_operation_followed_by_location_ends_as_it_ends() {
    for (outcome, meant) in
        [(Outcome::succeeded(), "succeeded"), (Outcome::failed_nested(), "failed"), (Outcome::canceled(), "canceled")]
    {
        let world = Fixture::start().await;
        let acceptance = Acceptance { monitor: MonitorForm::Location, outcome, ..Acceptance::default() };
        let operation = world.operation(acceptance).await;
        assert_eq!(meaning(&world.poll(&operation).await.answer).0, "running");
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(meaning(&world.poll(&operation).await.answer).0, meant);
    }
}

#[tokio::test]
async fn a_moved_location_is_passed_on_only_if_it_may_be_called() {
    let (world, operation) = by(MonitorForm::Location).await;
    let ours = format!("{}subscriptions/x?a=%2D*", world.simulator.endpoint());
    for (location, moved) in [
        (ours.as_str(), Some(ours.as_str())),
        ("/subscriptions/x?b=_", Some("/subscriptions/x?b=_")),
        ("https://evil.example/x", None),
        ("//evil.example/x", None),
    ] {
        let answer = world.poll_answered(&operation, Reply::status(202).with("location", location)).await;
        let PollAnswer::Running { moved: found, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(found, moved.map(PollingUrl::new), "{location}");
    }
    let (world, operation) = by(MonitorForm::AsyncOperation).await;
    let reply = Reply::json(200, r#"{"status":"Running"}"#).with("location", "/subscriptions/x");
    let answer = world.poll_answered(&operation, reply).await;
    assert!(matches!(answer, PollAnswer::Running { moved: None, .. }), "the other header decides: {answer:?}");
}

#[tokio::test]
async fn progress_is_read_as_a_number_or_as_text() {
    let (world, operation) = by(MonitorForm::AsyncOperation).await;
    for (json, percent) in [
        ("40", Some(40.0)),
        ("40.5", Some(40.5)),
        ("\"40\"", Some(40.0)),
        ("\"40.5 %\"", Some(40.5)),
        ("-3", Some(0.0)),
        ("1e9", Some(100.0)),
        ("null", None),
        ("\"half\"", None),
        ("\"NaN\"", None),
        ("{}", None),
    ] {
        let body = format!(r#"{{"percentComplete":{json},"status":"Running"}}"#);
        let answer = world.poll_answered(&operation, Reply::json(200, body)).await;
        let PollAnswer::Running { percent: found, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(found, percent, "{json}");
    }
}

#[tokio::test]
async fn the_wait_is_that_of_this_very_answer() {
    let (world, operation) = by(MonitorForm::AsyncOperation).await;
    for (reply, wait) in [
        (Reply::json(200, r#"{"status":"Running"}"#).with("retry-after", "7"), Some(7)),
        (Reply::json(200, r#"{"status":"Running"}"#), None),
        (Reply::status(202).with("Retry-After", "9"), Some(9)),
    ] {
        let answer = world.poll_answered(&operation, reply).await;
        let PollAnswer::Running { wait: found, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(found, wait.map(Duration::from_secs));
    }
    let answer = world.poll_answered(&operation, Reply::html(500).with("retry-after", "11")).await;
    let PollAnswer::Unreadable { wait, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(wait, Some(Duration::from_secs(11)));
}

#[tokio::test]
async fn a_look_that_is_not_answered_tells_nothing() {
    let world = Fixture::with(|_| {}, |client| client.call_timeout = Duration::from_millis(50)).await;
    let operation = world.operation(Acceptance::default()).await;
    world.simulator.on_poll(&application(), [OnPoll::Reset, OnPoll::Hang]);
    assert_eq!(meaning(&world.poll(&operation).await.answer), ("unreadable", Some("ConnectionBroken")));
    assert_eq!(meaning(&world.poll(&operation).await.answer), ("unreadable", Some("Timeout")));
    assert_eq!(meaning(&world.poll(&operation).await.answer), ("running", None));
}

#[tokio::test]
async fn looking_before_the_time_is_noticed_by_the_simulator() {
    let world = Fixture::start().await;
    let operation = world.operation(Acceptance::default()).await;
    world.clock.advance(Duration::from_secs(9));
    world.poll(&operation).await;
    assert_eq!(world.simulator.stats().impatient_polls, 1);
    world.clock.advance(Duration::from_secs(10));
    world.poll(&operation).await;
    assert_eq!(world.simulator.stats().impatient_polls, 1);
}
