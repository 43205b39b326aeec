//! What goes over the wire to ARM, to the byte, and what never does.

use std::sync::Arc;
use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, MonitorForm, OnPost, Recorded, Reply};
use permafresh::arm::{ArmClient, ArmConfig, Proxy};
use permafresh::rollout::{Monitor, Operation, PollAnswer, PollingUrl, SubmitAnswer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::arm_fixture::{Fixture, SUBSCRIPTION, application, tokens};

fn last(world: &Fixture) -> Recorded {
    world.simulator.requests().pop().expect("nothing was asked")
}

#[tokio::test]
async fn the_post_names_version_attempt_and_an_empty_body() {
    let world = Fixture::start().await;
    let attempt = Uuid::new_v4();
    for _ in 0..2 {
        world
            .arm
            .refresh_permissions(world.arm.admit_post().await, &application(), "1.5.0".parse().unwrap(), attempt)
            .await;
        let Recorded { method, target, headers } = last(&world);
        assert_eq!(method, "POST");
        let path = application().url_path();
        assert_eq!(target, format!("{path}/refreshPermissions?api-version=2019-07-01&targetVersion=1.5.0"));
        assert_eq!(headers["content-length"], "0");
        assert_eq!(headers["x-ms-client-request-id"], attempt.to_string());
        assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer simulated."));
    }
}

/// Answers one connection with `answer` and returns what came.
async fn one_raw_exchange(answer: &'static str, call: impl AsyncFnOnce(ArmClient, u16)) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        while !came.windows(4).any(|window| window == b"\r\n\r\n") {
            let mut chunk = [0; 16_384];
            let length = stream.read(&mut chunk).await.unwrap();
            assert_ne!(length, 0, "the client hung up");
            came.extend_from_slice(&chunk[..length]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(came).unwrap()
    });
    let world = Fixture::start().await;
    let config = ArmConfig::for_endpoint(format!("http://127.0.0.1:{port}").parse().unwrap());
    let arm = ArmClient::new(config, tokens(&world), Arc::new(world.clock.clone())).unwrap();
    call(arm, port).await;
    served.await.unwrap()
}

const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn content_length_zero_is_really_sent() {
    let came = one_raw_exchange(DONE, async |arm, _| {
        let posted = arm
            .refresh_permissions(arm.admit_post().await, &application(), "1.5.0".parse().unwrap(), Uuid::new_v4())
            .await;
        assert_eq!(posted.answer, SubmitAnswer::NoMonitor);
    })
    .await;
    assert!(came.starts_with("POST /subscriptions/"), "{came}");
    assert!(came.to_lowercase().contains("\r\ncontent-length: 0\r\n"), "{came}");
    assert!(came.ends_with("\r\n\r\n"), "nothing follows the head: {came}");
}

#[tokio::test]
async fn a_polling_url_is_sent_byte_for_byte() {
    // Each of these is changed by some URL library: an escape that is none, an apostrophe, dots, braces, an empty value.
    let target =
        "/subscriptions/a/./b/../c//d/operationStatuses/6f1d*3F9A?t=1&c=MII_-x%2D%2d&s=~!$'()+,;:@{}|&h=%zz&e=&&?#";
    let came = one_raw_exchange(DONE, async |arm, port| {
        let url = PollingUrl::new(format!("http://127.0.0.1:{port}{target}"));
        let operation = Operation { url, monitor: Monitor::Location, fallback: None, last_wait_seconds: None };
        assert_eq!(arm.poll(&operation, Uuid::new_v4()).await.answer, PollAnswer::Succeeded);
    })
    .await;
    let sent = target.strip_suffix('#').unwrap();
    assert!(came.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{came}");
}

#[tokio::test]
async fn a_signed_url_arrives_as_it_was_given_and_any_other_form_of_it_is_refused() {
    let world = Fixture::start().await;
    let operation = world.operation(Acceptance::default()).await;
    let given = operation.url.expose().to_owned();
    world.poll(&operation).await;
    assert_eq!(format!("{}{}", world.simulator.endpoint().as_str().trim_end_matches('/'), last(&world).target), given);
    assert!(given.len() > 2_048 && given.contains('*') && given.contains("%2D") && given.contains('\''));
    for altered in
        [given.replace("%2D", "-"), given.replace('*', "%2A"), given.replace('\'', "%27"), format!("{given}&x=1")]
    {
        assert_ne!(altered, given);
        let altered = Operation { url: PollingUrl::new(altered), ..operation.clone() };
        let answer = world.poll(&altered).await.answer;
        assert!(matches!(answer, PollAnswer::AccessLost { .. }), "{answer:?}");
    }
    assert_eq!(world.simulator.stats().altered_urls, 4);
}

#[tokio::test]
async fn a_polling_url_of_another_host_is_refused_without_a_call() {
    let world = Fixture::start().await;
    let elsewhere = Fixture::start().await;
    let port = world.simulator.endpoint().port().unwrap();
    for url in [
        format!("{}subscriptions/x?s=secret", elsewhere.simulator.endpoint()),
        format!("https://127.0.0.1:{port}/subscriptions/x?s=secret"),
        format!("http://user:word@127.0.0.1:{port}/subscriptions/x?s=secret"),
        "not a url?s=secret".to_owned(),
    ] {
        let operation = world.operation(Acceptance::monitored_by(MonitorForm::Elsewhere(url.clone()))).await;
        assert_eq!(operation.url.expose(), url);
        let asked = world.simulator.requests().len();
        let answer = world.poll(&operation).await.answer;
        let PollAnswer::Unreadable { error, wait: None } = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, "PollingUrlRefused");
        assert!(!error.message.contains("secret") && !error.message.contains("word"), "{}", error.message);
        assert_eq!(world.simulator.requests().len(), asked);
    }
    assert!(elsewhere.simulator.requests().is_empty());
}

#[tokio::test]
async fn a_polling_url_that_falls_back_to_plain_http_is_refused() {
    let world = Fixture::start().await;
    let config = ArmConfig::for_endpoint("https://management.azure.com".parse().unwrap());
    let arm = ArmClient::new(config, tokens(&world), Arc::new(world.clock.clone())).unwrap();
    for url in ["http://management.azure.com/x", "http://management.azure.com:443/x"] {
        let url = PollingUrl::new(url);
        let operation = Operation { url, monitor: Monitor::AsyncOperation, fallback: None, last_wait_seconds: None };
        let answer = arm.poll(&operation, Uuid::new_v4()).await.answer;
        let PollAnswer::Unreadable { error, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, "PollingUrlRefused");
    }
    assert_eq!(world.simulator.stats().tokens, 0, "not even a token was asked for");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let world = Fixture::start().await;
    let elsewhere = Fixture::start().await;
    let there = elsewhere.simulator.endpoint().join(&application().url_path()).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let redirect = Reply { status, ..Reply::redirect(there.as_str()) };
        let posted = world.post(OnPost::Reply(redirect.clone())).await;
        assert!(matches!(posted.answer, SubmitAnswer::Rejected { .. }), "{:?}", posted.answer);
        let operation = world.operation(Acceptance::default()).await;
        let answer = world.poll_answered(&operation, redirect).await;
        assert!(matches!(answer, PollAnswer::Unreadable { .. }), "{answer:?}");
    }
    assert!(elsewhere.simulator.requests().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
    let world = Fixture::start().await;
    let operation = world.operation(Acceptance::default()).await;
    let largest = 8 * 1024 * 1024;
    let running = r#"{"status":"Running","x":""#;
    for (length, readable) in [(largest, true), (largest + 1, false)] {
        let body = format!("{running}{}\"}}", "x".repeat(length - running.len() - 2));
        assert_eq!(body.len(), length);
        match world.poll_answered(&operation, Reply::json(200, body)).await {
            PollAnswer::Running { .. } => assert!(readable),
            PollAnswer::Unreadable { error, .. } => {
                assert!(!readable);
                assert_eq!(error.code, "AnswerTooLarge");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_allowed_and_connections_are_kept() {
    let world =
        Fixture::with(|simulator| simulator.latency = Duration::from_millis(5), |client| client.max_concurrency = 3)
            .await;
    let operation = world.operation(Acceptance::default()).await;
    let looks = (0..30).map(|_| world.poll(&operation));
    futures_util::future::join_all(looks).await;
    let stats = world.simulator.stats();
    assert_eq!((stats.polls, stats.most_at_once), (30, 3));
    assert!(stats.connections <= 3, "{} connections", stats.connections);
}

#[tokio::test]
async fn a_proxy_sees_the_host_and_nothing_else() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 4_096];
        let length = stream.read(&mut seen).await.unwrap();
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap();
        String::from_utf8(seen[..length].to_vec()).unwrap()
    });
    let world = Fixture::start().await;
    let mut config = ArmConfig::for_endpoint("https://management.azure.com".parse().unwrap());
    config.proxy = Some(Proxy::at(proxy.parse().unwrap()));
    let arm = ArmClient::new(config, tokens(&world), Arc::new(world.clock.clone())).unwrap();
    let posted =
        arm.refresh_permissions(arm.admit_post().await, &application(), "1.5.0".parse().unwrap(), Uuid::new_v4()).await;
    let SubmitAnswer::Retry { error, .. } = posted.answer else { panic!("{:?}", posted.answer) };
    assert_eq!(error.code, "ConnectionFailed", "{}", error.message);
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("CONNECT management.azure.com:443 HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.contains("Bearer") && !seen.contains("subscriptions"), "{seen}");
}

#[tokio::test]
async fn an_endpoint_or_api_version_that_cannot_be_called_is_refused_at_the_start() {
    let world = Fixture::start().await;
    let client = |endpoint: &str, api_version: &str| {
        let mut config = ArmConfig::for_endpoint(endpoint.parse().unwrap());
        config.api_version = api_version.to_owned();
        ArmClient::new(config, tokens(&world), Arc::new(world.clock.clone()))
    };
    assert!(client("https://management.azure.com", "2023-12-01-preview").is_ok());
    for (endpoint, api_version) in [
        ("http://management.azure.com", "2019-07-01"),
        ("https://management.azure.com/x", "2019-07-01"),
        ("https://management.azure.com", ""),
        ("https://management.azure.com", "2019-07-01&x=1"),
    ] {
        assert!(client(endpoint, api_version).is_err(), "{endpoint} {api_version}");
    }
}

#[tokio::test]
async fn signed_urls_and_tokens_are_not_shown() {
    let world = Fixture::start().await;
    let operation = world.operation(Acceptance::monitored_by(MonitorForm::Both)).await;
    let shown = format!("{operation:?}");
    assert!(shown.contains(SUBSCRIPTION) && !shown.contains("&s="), "{shown}");
}
