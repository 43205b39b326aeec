//! Every row of the decision table for the POST (contracts/arm.md §2.4), over HTTP.

use std::borrow::Cow;
use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, MonitorForm, OnPost, Outcome, Reply, WaitForm};
use permafresh::rollout::{Monitor, PollAnswer, SubmitAnswer};
use serde::Deserialize;
use uuid::Uuid;

use crate::arm_fixture::{Fixture, application, application_of, operation_of};

#[tokio::test]
async fn a_refresh_is_accepted_followed_and_ends() {
    let world = Fixture::start().await;
    let posted = world.post(OnPost::Accept(Acceptance::default())).await;
    assert_eq!(posted.throttled_for, None);
    let SubmitAnswer::Accepted { ref operation, wait } = posted.answer else { panic!("{posted:?}") };
    assert_eq!((operation.monitor, operation.last_wait_seconds), (Monitor::AsyncOperation, Some(10)));
    assert_eq!(wait, Some(Duration::from_secs(10)));
    let operation = operation_of(posted);
    world.clock.advance(Duration::from_secs(15));
    let running = PollAnswer::Running { percent: Some(25.0), wait: Some(Duration::from_secs(10)), moved: None };
    assert_eq!(world.poll(&operation).await.answer, running);
    world.clock.advance(Duration::from_secs(45));
    assert_eq!(world.poll(&operation).await.answer, PollAnswer::Succeeded);
    assert_eq!(world.simulator.refreshed_to(&application()).as_deref(), Some("1.5.0"));
    let stats = world.simulator.stats();
    assert_eq!((stats.posts, stats.operations, stats.polls, stats.impatient_polls), (1, 1, 2, 0));
    assert_eq!((stats.tokens, stats.altered_urls), (1, 0));
}

#[derive(Deserialize)]
struct Recording {
    case: String,
    answer: RecordedAnswer,
    expect: Expected,
}

#[derive(Deserialize)]
struct RecordedAnswer {
    status: u16,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    answer: String,
    monitor: Option<Monitor>,
    fallback: Option<bool>,
    wait_seconds: Option<u64>,
    code: Option<String>,
}

impl Expected {
    fn error(answer: &str, code: &str, wait: Option<Duration>) -> Self {
        let wait_seconds = wait.map(|wait| wait.as_secs());
        Self { answer: answer.to_owned(), code: Some(code.to_owned()), wait_seconds, ..Self::default() }
    }
}

/// An answer in the words of the table.
fn meaning(answer: &SubmitAnswer) -> Expected {
    match answer {
        SubmitAnswer::Accepted { operation, wait } => {
            assert_eq!(operation.last_wait_seconds, wait.map(|wait| wait.as_secs()));
            Expected {
                answer: "accepted".to_owned(),
                monitor: Some(operation.monitor),
                fallback: Some(operation.fallback.is_some()),
                wait_seconds: wait.map(|wait| wait.as_secs()),
                code: None,
            }
        }
        SubmitAnswer::NoMonitor => Expected { answer: "noMonitor".to_owned(), ..Expected::default() },
        SubmitAnswer::Retry { error, wait } => Expected::error("retry", &error.code, *wait),
        SubmitAnswer::Refused { error } => Expected::error("refused", &error.code, None),
        SubmitAnswer::Gated { .. } | SubmitAnswer::Opening { .. } => panic!("ARM knows no gates: {answer:?}"),
        SubmitAnswer::NotFound { error } => Expected::error("notFound", &error.code, None),
        SubmitAnswer::Rejected { error } => Expected::error("rejected", &error.code, None),
    }
}

#[tokio::test]
async fn every_answer_of_the_contracts_examples_is_understood() {
    let recordings: Vec<Recording> = serde_json::from_str(include_str!("../data/arm/posts.json")).unwrap();
    assert_eq!(recordings.len(), 18);
    for Recording { case, answer, expect } in recordings {
        let world = Fixture::start().await;
        let headers = answer.headers.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect();
        let reply = Reply { status: answer.status, headers, body: answer.body };
        let posted = world.post(OnPost::Reply(reply)).await;
        assert_eq!(meaning(&posted.answer), expect, "{case}");
        let correlated = posted.correlation_id.as_deref() == Some("f0000000-0000-4000-8000-000000000001");
        assert!(correlated || case == "error.500.html-body", "{case}: {:?}", posted.correlation_id);
    }
}

#[tokio::test]
async fn each_status_has_its_row() {
    for (status, answer) in [
        (200, "noMonitor"),
        (201, "noMonitor"),
        (202, "noMonitor"),
        (204, "noMonitor"),
        (301, "rejected"),
        (307, "rejected"),
        (400, "rejected"),
        (401, "refused"),
        (403, "refused"),
        (404, "notFound"),
        (405, "rejected"),
        (408, "retry"),
        (409, "retry"),
        (410, "rejected"),
        (411, "rejected"),
        (412, "rejected"),
        (422, "rejected"),
        (429, "retry"),
        (500, "retry"),
        (501, "retry"),
        (502, "retry"),
        (503, "retry"),
        (504, "retry"),
        (599, "retry"),
    ] {
        let world = Fixture::start().await;
        for reply in [Reply::status(status), Reply::html(status)] {
            let posted = world.post(OnPost::Reply(reply)).await;
            let meant = meaning(&posted.answer);
            assert_eq!(meant.answer, answer, "{status}");
            assert_eq!(meant.code.as_deref(), (status >= 300).then_some("Unknown"), "{status}");
            world.clock.advance(Duration::from_secs(3_600));
        }
    }
}

#[tokio::test]
async fn a_201_or_202_is_followed_by_whichever_header_it_has() {
    for title_case_headers in [false, true] {
        let world = Fixture::with(|simulator| simulator.title_case_headers = title_case_headers, |_| {}).await;
        for status in [201, 202] {
            for (form, monitor, fallback) in [
                (MonitorForm::Both, Monitor::AsyncOperation, true),
                (MonitorForm::AsyncOperation, Monitor::AsyncOperation, false),
                (MonitorForm::Location, Monitor::Location, false),
            ] {
                let acceptance = Acceptance { status, monitor: form, ..Acceptance::default() };
                let operation = world.operation(acceptance).await;
                assert_eq!((operation.monitor, operation.fallback.is_some()), (monitor, fallback));
                let running = world.poll(&operation).await.answer;
                assert!(matches!(running, PollAnswer::Running { .. }), "{running:?}");
                if let Some(url) = operation.fallback.clone() {
                    let by_location = permafresh::rollout::Operation { url, monitor: Monitor::Location, ..operation };
                    let running = world.poll(&by_location).await.answer;
                    assert!(matches!(running, PollAnswer::Running { .. }), "{running:?}");
                }
            }
            let posted = world.post(OnPost::Accept(Acceptance::monitored_by(MonitorForm::None))).await;
            assert_eq!(posted.answer, SubmitAnswer::NoMonitor);
        }
    }
}

#[tokio::test]
async fn the_first_wait_is_the_one_that_arm_names() {
    let world = Fixture::start().await;
    for (form, seconds, kept) in [
        (WaitForm::Usual, Some(10.0), Some(10)),
        (WaitForm::None, None, None),
        (WaitForm::Text("0".into()), None, None),
        (WaitForm::Text("17".into()), Some(17.0), Some(17)),
        (WaitForm::Text("2.5".into()), Some(2.5), Some(3)),
        (WaitForm::Text("soon".into()), None, None),
        (WaitForm::Date(Duration::from_secs(75)), Some(75.0), Some(75)),
    ] {
        let posted = world.post(OnPost::Accept(Acceptance::waiting(form.clone()))).await;
        let SubmitAnswer::Accepted { operation, wait } = posted.answer else { panic!("{form:?}") };
        assert_eq!(wait, seconds.map(Duration::from_secs_f64), "{form:?}");
        assert_eq!(operation.last_wait_seconds, kept, "{form:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_retried_and_the_repeat_is_harmless() {
    let world = Fixture::start().await;
    let posted = world.post(OnPost::Reset).await;
    assert_eq!(meaning(&posted.answer), Expected::error("retry", "ConnectionBroken", None));
    assert_eq!((world.simulator.posts_of(&application()), world.simulator.operations_of(&application())), (1, 0));
    let posted = world.post(OnPost::LoseAnswer(Acceptance::default())).await;
    assert_eq!(meaning(&posted.answer), Expected::error("retry", "ConnectionBroken", None));
    assert_eq!(world.simulator.posts_of(&application()), 2, "the client repeats nothing by itself");
    assert_eq!(world.simulator.operations_of(&application()), 1, "it was accepted all the same");
    let operation = operation_of(world.post_again().await);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.poll(&operation).await.answer, PollAnswer::Succeeded);
    assert_eq!(world.simulator.stats().overlapping_operations, 1);
}

#[tokio::test]
async fn no_answer_in_time_is_retried() {
    let world = Fixture::with(|_| {}, |client| client.call_timeout = Duration::from_millis(50)).await;
    let posted = world.post(OnPost::Hang).await;
    assert_eq!(meaning(&posted.answer), Expected::error("retry", "Timeout", None));
}

#[tokio::test]
async fn an_arm_that_is_not_there_is_retried() {
    // Bound but not listening: nobody else can take the port, and connections are refused.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = nobody.local_addr().unwrap().port();
    let world = Fixture::with(|_| {}, |client| client.endpoint.set_port(Some(port)).unwrap()).await;
    let posted = world.post_again().await;
    assert_eq!(meaning(&posted.answer), Expected::error("retry", "ConnectionFailed", None));
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn an_unknown_application_is_not_found() {
    let world = Fixture::start().await;
    let posted = world.post_again().await;
    assert_eq!(meaning(&posted.answer), Expected::error("notFound", "ResourceNotFound", None));
}

#[tokio::test]
async fn a_refusal_names_the_customers_tenant() {
    let world = Fixture::start().await;
    let tenant = "5d0f7a10-0000-4000-8000-00000000c0de";
    let posted = world.post(OnPost::Reply(Reply::wrong_tenant(tenant))).await;
    assert_eq!(meaning(&posted.answer).answer, "refused");
    assert_eq!(posted.tenant_id.as_deref(), Some(tenant));
    assert_eq!(world.simulator.stats().tokens, 1, "another token of the same tenant would not help");
}

#[tokio::test]
async fn every_operation_of_a_bad_version_fails_with_the_action_in_its_message() {
    let world = Fixture::start().await;
    world.simulator.bad_version("1.5.0", "Microsoft.KeyVauIt/vauIts/read");
    let other = application_of("a1000000-0000-4000-8000-000000000002", "ledger-two");
    world.simulator.on_post(&other, [OnPost::Accept(Acceptance::ending(Outcome::succeeded()))]);
    let first = world.operation(Acceptance::default()).await;
    let version = |text: &str| text.parse().unwrap();
    let second = operation_of(
        world.arm.refresh_permissions(world.arm.admit_post().await, &other, version("1.5.0"), Uuid::new_v4()).await,
    );
    let good = operation_of(
        world.arm.refresh_permissions(world.arm.admit_post().await, &other, version("1.4.0"), Uuid::new_v4()).await,
    );
    world.clock.advance(Duration::from_secs(60));
    for operation in [first, second] {
        let PollAnswer::Failed { error } = world.poll(&operation).await.answer else { panic!("it did not fail") };
        let action = permafresh::rollout::failure::unsupported_action(&error.message);
        assert_eq!(action.as_deref(), Some("Microsoft.KeyVauIt/vauIts/read"));
    }
    assert_eq!(world.poll(&good).await.answer, PollAnswer::Succeeded);
}

#[tokio::test]
async fn of_two_polling_urls_the_one_that_may_be_called_is_followed() {
    let world = Fixture::start().await;
    let own = |path: &str| format!("{}subscriptions/x/{path}", world.simulator.endpoint());
    let (good, other) = (own("operationStatuses/1?s=a*b"), own("operationresults/1"));
    for (asynchronous, location, monitor, url, fallback) in [
        (&*good, &*other, Monitor::AsyncOperation, &*good, Some(&*other)),
        ("https://evil.example/status", &other, Monitor::Location, &other, None),
        ("http://management.azure.com/status", "/operationresults/1", Monitor::Location, "/operationresults/1", None),
        (&good, "https://evil.example/result", Monitor::AsyncOperation, &good, None),
        // Neither: its refusal says what is wrong.
        (
            "https://evil.example/1",
            "https://evil.example/2",
            Monitor::AsyncOperation,
            "https://evil.example/1",
            Some("https://evil.example/2"),
        ),
    ] {
        let headers =
            vec![("Azure-AsyncOperation".into(), asynchronous.to_owned()), ("Location".into(), location.to_owned())];
        let posted = world.post(OnPost::Reply(Reply { status: 202, headers, body: String::new() })).await;
        let SubmitAnswer::Accepted { operation, .. } = posted.answer else { panic!("{posted:?}") };
        let chosen = (
            operation.monitor,
            operation.url.expose(),
            operation.fallback.as_ref().map(permafresh::rollout::PollingUrl::expose),
        );
        assert_eq!(chosen, (monitor, url, fallback), "{asynchronous} {location}");
    }
}
