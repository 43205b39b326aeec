//! The handler's process: how it is started, when it counts as ready, what its end means.

use std::time::Duration;

use permafresh::host::{Severity, StopReason};
use serde_json::json;

use crate::host_stub::{DEADLINE, Ground, Stub, done, eventually, get, http_function, reply_with};

#[tokio::test]
async fn e1_the_handler_is_started_with_its_variables_its_folder_and_its_arguments() {
    let stub = Stub::answering(|_| done()).await;
    let arguments = json!([
        "host_stub::the_stub_passes_connections_on_and_ends_as_it_is_told",
        "--exact",
        "--nocapture",
        "--skip",
        "two words",
        "--skip",
        "port-%FUNCTIONS_CUSTOMHANDLER_PORT%",
        "--skip",
        "x%ABSENT%"
    ]);
    let changes = json!({"customHandler": {"description": {"arguments": arguments, "workingDirectory": "work"}}});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]).setting("A_SETTING", "its value");
    std::fs::create_dir(ground.folder.path().join("work")).expect("the folder is ours");
    let _host = ground.start().await;

    let start = stub.wait_for_starts(1).await.remove(0);
    let variable = |name: &str| start.variables.get(name).map_or("", String::as_str);
    let port = variable("FUNCTIONS_CUSTOMHANDLER_PORT");
    assert_ne!(port.parse::<u16>().expect("the port is a number"), 0);
    assert_eq!(variable("FUNCTIONS_HTTPWORKER_PORT"), port);
    assert_eq!(variable("FUNCTIONS_HTTPWORKER_ID"), variable("FUNCTIONS_CUSTOMHANDLER_WORKER_ID"));
    assert!(!variable("FUNCTIONS_HTTPWORKER_ID").is_empty());
    assert_eq!(variable("FUNCTIONS_APP_ROOT_PATH"), ground.folder.path().to_string_lossy());
    assert_eq!((variable("A_SETTING"), variable("PATH")), ("its value", &*std::env::var("PATH").unwrap_or_default()));
    let folder = ground.folder.path().join("work").canonicalize().expect("it is there");
    assert_eq!(start.folder, folder.to_string_lossy());
    // Nothing is quoted, so two words are two arguments.
    let last: Vec<&str> = start.arguments.iter().skip(3).map(String::as_str).collect();
    assert_eq!(last, ["--skip", "two", "words", "--skip", &format!("port-{port}"), "--skip", "x"]);
}

#[tokio::test]
async fn e1_any_answer_means_ready_and_until_then_invocations_wait() {
    let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]).setting("STUB_IS_SLOW", "1");
    let host = ground.start().await;
    stub.wait_for_starts(1).await;
    // The host itself answers although the handler does not.
    assert_eq!(get(&host, "/").await.status, 200);

    let early = get(&host, "/api/f");
    tokio::pin!(early);
    let waited = tokio::time::timeout(Duration::from_millis(150), &mut early).await;
    assert!(waited.is_err(), "an invocation went ahead of the handler");
    stub.tell(1, "listen").await;
    assert_eq!(early.await.body, "served");
    // It was asked until it answered, with a 404, and then left alone.
    assert_eq!(stub.probes().len(), 1);
}

#[tokio::test]
async fn e1_a_handler_that_does_not_answer_within_the_budget_is_a_crash() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"customHandler": {"initializationTimeout": "00:00:00.2"}});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]).setting("STUB_IS_SLOW", "1");
    let host = ground.start().await;
    let reason = tokio::time::timeout(DEADLINE, host.stopped()).await.expect("the host gives up");
    let StopReason::HandlerFailed { failure, .. } = reason else { panic!("stopped for another reason: {reason}") };
    assert_eq!(failure, "did not answer within 200 ms");
    assert_eq!(stub.starts().len(), 3);
}

#[tokio::test]
async fn e1_an_executable_that_does_not_exist_stops_the_host_and_is_named() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"customHandler": {"description": {"defaultExecutablePath": "no-such-handler"}}});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]);
    let host = ground.start().await;
    let reason = tokio::time::timeout(DEADLINE, host.stopped()).await.expect("the host gives up").to_string();
    assert!(reason.contains("could not be started"), "{reason}");
}

#[tokio::test]
async fn an_invocation_that_waits_in_vain_for_a_handler_that_only_restarts_stops_the_host() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"customHandler": {"initializationTimeout": "00:00:00.2"}});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]).setting("STUB_IS_SLOW", "1");
    let host = ground.start().await;
    let restarts = async {
        for start in 1.. {
            stub.tell(start, "exit 200").await;
        }
    };
    let got = tokio::select! {
        got = get(&host, "/api/f") => got,
        () = restarts => unreachable!("it goes on for ever"),
    };
    assert_eq!((got.status, got.body.as_str()), (500, ""));
    assert_eq!(host.stopped().await, StopReason::HandlerNeverReady { waited_ms: 800 });
}

#[tokio::test]
async fn e1_code_0_before_the_first_answer_runs_the_start_budget_out() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"customHandler": {"initializationTimeout": "00:00:00.2"}});
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]).setting("STUB_IS_SLOW", "1");
    let _host = ground.start().await;
    stub.tell(1, "exit 0").await;
    stub.wait_for_starts(2).await;
}

#[tokio::test]
async fn e1_settings_override_what_host_json_says_of_the_handler() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"customHandler": {"description": {"defaultExecutablePath": "no-such-handler"}}});
    let executable = std::env::current_exe().expect("tests know their binary");
    let ground = Ground::new(&stub, &changes, &[("F", http_function("f"))]).setting(
        "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath",
        &executable.to_string_lossy(),
    );
    let _host = ground.start().await;
    assert_eq!(stub.wait_for_starts(1).await.len(), 1);
}

#[tokio::test]
async fn what_the_handler_prints_is_passed_on_with_the_hosts_severities() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let _host = ground.start().await;
    for order in ["out hello", "out LanguageWorkerConsoleLog x", "err a Warning", "err broken"] {
        stub.tell(1, order).await;
    }
    for (severity, text) in [
        (Severity::Information, "hello"),
        (Severity::System, "LanguageWorkerConsoleLog x"),
        (Severity::Warning, "a Warning"),
        (Severity::Error, "broken"),
    ] {
        eventually(text, || ground.line_was_passed_on(severity, text)).await;
    }
}

#[tokio::test]
async fn e10_code_0_is_not_a_crash_and_leaves_the_host_without_a_handler() {
    let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    assert_eq!(get(&host, "/api/f").await.status, 200);
    stub.tell(1, "exit 0").await;
    // The host believes the handler to be there; calls fail to connect.
    let mut status = 200;
    let gone = tokio::time::timeout(DEADLINE, async {
        while status == 200 {
            status = get(&host, "/api/f").await.status;
        }
    });
    gone.await.expect("the handler is gone in the end");
    assert_eq!(status, 500);
    let restarted = tokio::time::timeout(Duration::from_millis(200), stub.wait_for_starts(2)).await;
    assert!(restarted.is_err(), "the handler was restarted");
}

#[tokio::test]
async fn e10_code_200_is_a_restart_that_is_never_counted() {
    let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    for start in 1..=4 {
        stub.tell(start, "exit 200").await;
    }
    stub.wait_for_starts(5).await;
    assert_eq!(get(&host, "/api/f").await.body, "served");
}

#[tokio::test]
async fn e10_the_third_crash_stops_the_host_whatever_its_form() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    stub.tell(1, "exit 1").await;
    stub.tell(2, "abort").await;
    for words in ["err one", "err two", "err three", "err four"] {
        stub.tell(3, words).await;
    }
    stub.tell(3, "exit 7").await;
    let reason = tokio::time::timeout(DEADLINE, host.stopped()).await.expect("the host gives up");
    let StopReason::HandlerFailed { failure, last_errors } = reason else { panic!("another reason: {reason}") };
    assert_eq!(failure, "ended with exit status: 7");
    assert_eq!(last_errors, ["two", "three", "four"]);
    assert_eq!(stub.starts().len(), 3);
    host.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn e10_crashes_more_than_half_an_hour_apart_are_forgiven() {
    let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    stub.tell(1, "exit 1").await;
    stub.tell(2, "exit 1").await;
    stub.wait_for_starts(3).await;
    ground.clock.set("2026-01-16T09:00:12Z");
    stub.tell(3, "exit 1").await;
    stub.wait_for_starts(4).await;
    assert_eq!(get(&host, "/api/f").await.body, "served");
}

#[tokio::test]
async fn e10_what_is_in_flight_when_the_handler_dies_fails_and_what_comes_then_waits() {
    let stub = Stub::awaiting(|call| {
        Box::pin(async move {
            match call.path.as_str() {
                "/api/f/hangs" => std::future::pending().await,
                _ => reply_with(200, None, "served"),
            }
        })
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f/{*path}"))]);
    let host = ground.start().await;
    let (hanging, ()) = tokio::join!(get(&host, "/api/f/hangs"), async {
        stub.wait_for_calls(1).await;
        stub.tell(1, "exit 1").await;
    });
    assert_eq!((hanging.status, hanging.body.as_str()), (500, ""));
    // The connection breaks before the host knows that the process has ended.
    stub.wait_for_starts(2).await;
    assert_eq!(get(&host, "/api/f/next").await.body, "served");
    assert_eq!(stub.starts().len(), 2);
}

#[tokio::test]
async fn a_shutdown_kills_the_handler_and_a_dropped_host_does_too() {
    for dropped in [false, true] {
        let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
        let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
        let host = ground.start().await;
        assert_eq!(get(&host, "/api/f").await.status, 200);
        let port = stub.starts()[0].variables["FUNCTIONS_CUSTOMHANDLER_PORT"].clone();
        if dropped {
            drop(host);
        } else {
            assert_eq!(host.shutdown(Duration::from_secs(5)).await, StopReason::Shutdown);
        }
        let address = format!("127.0.0.1:{port}");
        eventually("the handler's end", || std::net::TcpStream::connect(&address).is_err()).await;
    }
}
