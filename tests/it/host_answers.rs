//! What the host makes of the handler's answers: acceptance, outputs, the answer for an HTTP caller.

use std::time::Duration;

use axum::body::Body;
use http::Response;
use permafresh::host::Severity;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    host_queue_fake::MOST_DELIVERIES,
    host_stub::{Ground, Stub, done, eventually, get, http_function, post, queue_function, reply, reply_with},
};

#[derive(Clone, Deserialize)]
struct Accepted {
    name: String,
    status: u16,
    r#type: Option<String>,
    body: String,
    means: Means,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Means {
    Success,
    Failure,
    Hangs,
}

fn acceptance() -> Vec<Accepted> {
    serde_json::from_str(include_str!("../data/host/acceptance.json")).expect("the table is valid")
}

/// Answers call by call with the table, which the message's body points into.
async fn stub_with_the_table() -> Stub {
    let cases = acceptance();
    Stub::answering(move |call| {
        let at: usize =
            call.json()["Data"]["order"].as_str().and_then(|at| at.trim_matches('"').parse().ok()).expect("a place");
        let case = &cases[at];
        reply_with(case.status, case.r#type.as_deref(), &case.body)
    })
    .await
}

#[tokio::test]
async fn e7_a_kinder_host_fails_at_once_what_is_no_envelope_and_completes_what_is() {
    let stub = stub_with_the_table().await;
    for (at, case) in acceptance().iter().enumerate() {
        let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("string"))]);
        ground.queue.put("orders", at.to_string().as_bytes());
        let _host = ground.start().await;
        eventually(&case.name, || ground.queue.is_empty()).await;
        let succeeded = ground.queue.record().completes == [1];
        assert_eq!(succeeded, case.means == Means::Success, "{}", case.name);
        assert_eq!(ground.queue.dead().len(), usize::from(!succeeded), "{}", case.name);
    }
    assert!(acceptance().iter().any(|case| case.means == Means::Hangs), "E13: what hangs on the real host fails here");
}

#[tokio::test]
async fn e6_an_exact_host_hangs_on_an_empty_success_until_the_timeout_and_then_kills_the_handler() {
    let stub = stub_with_the_table().await;
    let hanging: Vec<_> =
        acceptance().iter().enumerate().filter(|(_, case)| case.means == Means::Hangs).map(|(at, _)| at).collect();
    let ground =
        Ground::new(&stub, &json!({"functionTimeout": "00:00:01"}), &[("F", queue_function("string"))]).exact();
    for at in &hanging {
        ground.queue.put("orders", at.to_string().as_bytes());
    }
    let host = ground.start().await;
    stub.wait_for_calls(hanging.len()).await;
    assert_eq!(ground.queue.record().abandons, 0);
    eventually("the timeouts", || ground.queue.record().abandons >= hanging.len()).await;
    // Only then does the grace begin that ends with the handler.
    assert_eq!(stub.starts().len(), 1);
    stub.wait_for_starts(2).await;
    // However often, that is no crash.
    eventually("the dead letters", || ground.queue.dead().len() == hanging.len()).await;
    assert_eq!(stub.calls().len(), hanging.len() * MOST_DELIVERIES as usize);
    host.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn redirects_are_followed_before_an_answer_is_judged() {
    let stub = Stub::answering(|call| match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/F") => moved(307, "/again"),
        ("POST", "/again") => moved(302, "/then?x=1"),
        ("GET", "/then?x=1") => done(),
        other => panic!("not asked for: {other:?}"),
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    ground.queue.put("orders", b"x");
    let _host = ground.start().await;
    eventually("the completion", || ground.queue.record().completes == [1]).await;
    let calls = stub.calls();
    assert_eq!((calls.len(), &calls[0].body, calls[2].body.len()), (3, &calls[1].body, 0));
}

fn moved(status: u16, to: &str) -> Response<Body> {
    Response::builder().status(status).header("location", to).body(Body::empty()).expect("this is valid")
}

#[tokio::test]
async fn logs_of_a_success_are_passed_on_and_those_of_a_failure_are_not() {
    let stub = Stub::answering(|call| {
        let failed = call.json()["Data"]["order"] == "eA==";
        reply(if failed { 500 } else { 200 }, &json!({"Logs": [if failed { "lost" } else { "kept" }, 7]}))
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    ground.queue.put("orders", b"x");
    ground.queue.put("orders", b"y");
    let _host = ground.start().await;
    eventually("the log line", || ground.line_was_passed_on(Severity::Information, "kept")).await;
    eventually("the dead letter", || !ground.queue.dead().is_empty()).await;
    assert!(ground.line_was_passed_on(Severity::Information, "7"));
    assert!(!ground.line_was_passed_on(Severity::Information, "lost"));
}

#[derive(Deserialize)]
struct QueueOutput {
    name: String,
    binding: String,
    /// As written: a tree would forget the order of members.
    value: Box<RawValue>,
    sends: Option<Vec<String>>,
}

#[tokio::test]
async fn e8_queue_outputs_become_the_messages_the_real_host_sends() {
    let cases: Vec<QueueOutput> =
        serde_json::from_str(include_str!("../data/host/queue-output.json")).expect("the table is valid");
    let answers: Vec<String> = cases.iter().map(|case| case.value.get().to_owned()).collect();
    let stub = Stub::answering(move |call| {
        let at: usize =
            call.json()["Data"]["order"].as_str().and_then(|at| at.trim_matches('"').parse().ok()).expect("a place");
        reply_with(
            200,
            Some("application/json"),
            &format!("{{\"Outputs\":{{\"outbox\":{},\"Outbox\":\"no\"}}}}", answers[at]),
        )
    })
    .await;
    let function = |data_type: &str| {
        let mut function = queue_function("string");
        let output = json!({"name": "outbox", "type": "serviceBus", "direction": "out", "queueName": "%OUTBOX%",
            "connection": "ServiceBusConnection", "dataType": data_type});
        function["bindings"].as_array_mut().expect("it is an array").push(output);
        function
    };
    for (at, case) in cases.iter().enumerate() {
        let data_type = if case.binding == "binary" { "binary" } else { "string" };
        let ground = Ground::new(&stub, &json!({}), &[("F", function(data_type))]).setting("OUTBOX", "outbox");
        ground.queue.put("orders", at.to_string().as_bytes());
        let _host = ground.start().await;
        eventually(&case.name, || ground.queue.is_empty()).await;
        let sent: Vec<_> = ground
            .queue
            .sent()
            .into_iter()
            .map(|(queue, body)| {
                assert_eq!(queue, "outbox");
                body
            })
            .collect();
        assert_eq!(ground.queue.dead().is_empty(), case.sends.is_some(), "{}", case.name);
        assert_eq!(sent, case.sends.clone().unwrap_or_default(), "{} {}", case.name, case.value);
    }
}

#[tokio::test]
async fn e8_the_return_value_goes_to_its_binding_or_acts_as_outputs() {
    let with_outputs = |names: &[&str]| {
        let mut function = queue_function("string");
        for name in names {
            let output = json!({"name": name, "type": "serviceBus", "direction": "out", "queueName": name,
                "connection": "ServiceBusConnection"});
            function["bindings"].as_array_mut().expect("it is an array").push(output);
        }
        function
    };
    for (names, answer, sent) in [
        // With a $return binding it goes there, through the same steps, even if it is null.
        (&["$return"][..], json!({"ReturnValue": ["a"], "Outputs": {"$return": ["b"]}}), vec![("$return", "a")]),
        (&["$return"], json!({"ReturnValue": null, "Outputs": {"$return": ["b"]}}), vec![]),
        (&["$return"], json!({"ReturnValue": "done"}), vec![("$return", "System.Byte[]")]),
        // Without one its members act as outputs, win over them, and are not looked at for base64.
        (
            &["x", "y"],
            json!({"ReturnValue": {"x": "done"}, "Outputs": {"x": ["no"], "y": ["b"]}}),
            vec![("x", "done"), ("y", "b")],
        ),
        (&["x"], json!({"ReturnValue": "text", "Outputs": {"x": ["a"], "unknown": ["b"]}}), vec![("x", "a")]),
    ] {
        let case = answer.to_string();
        let stub = Stub::answering(move |_| reply(200, &answer)).await;
        let ground = Ground::new(&stub, &json!({}), &[("F", with_outputs(names))]);
        ground.queue.put("orders", b"x");
        let _host = ground.start().await;
        eventually(&case, || ground.queue.is_empty()).await;
        let expected: Vec<_> = sent.into_iter().map(|(queue, body)| (queue.to_owned(), body.to_owned())).collect();
        assert_eq!(ground.queue.sent(), expected, "{case}");
    }
}

#[derive(Clone, Deserialize)]
struct HttpOutput {
    name: String,
    res: Value,
    caller: Option<Caller>,
}

#[derive(Clone, Deserialize)]
struct Caller {
    status: u16,
    r#type: Option<String>,
    body: String,
}

#[tokio::test]
async fn e8_an_http_output_becomes_the_callers_answer() {
    let cases: Vec<HttpOutput> =
        serde_json::from_str(include_str!("../data/host/http-output.json")).expect("the table is valid");
    let answers = cases.clone();
    let stub = Stub::answering(move |call| {
        assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/F"));
        let at: usize =
            call.json()["Data"]["req"]["Params"]["at"].as_str().and_then(|at| at.parse().ok()).expect("a place");
        reply(200, &json!({"Outputs": {"res": answers[at].res}}))
    })
    .await;
    let envelope = json!({"customHandler": {"enableProxyingHttpRequest": false}});
    let ground = Ground::new(&stub, &envelope, &[("F", http_function("f/{at}"))]);
    let host = ground.start().await;
    for (at, case) in cases.iter().enumerate() {
        let got = get(&host, &format!("/api/f/{at}")).await;
        let expected = case.caller.clone().unwrap_or(Caller { status: 500, r#type: None, body: String::new() });
        assert_eq!((got.status, got.body), (expected.status, expected.body), "{}", case.name);
        let content_type = got.headers.get("content-type").map(|value| value.to_str().expect("it is text"));
        assert_eq!(content_type, expected.r#type.as_deref(), "{}", case.name);
    }
}

#[tokio::test]
async fn e8_without_an_http_output_the_caller_gets_what_the_host_makes_up() {
    for (answer, status, body) in [
        (reply(200, &json!({"Outputs": {}})), 200, "{}"),
        (reply(200, &json!({"Outputs": null})), 200, ""),
        (reply(200, &json!({"Outputs": {"res": {"body": "x", "headers": {"Location": "/y", "x-n": 3}}}})), 200, "x"),
        (reply(500, &json!({"Outputs": {"res": {"body": "x"}}})), 500, ""),
        (reply_with(200, Some("text/plain"), "secret"), 500, ""),
    ] {
        let (head, answer) = answer.into_parts();
        let answer = axum::body::to_bytes(answer, usize::MAX).await.expect("it is in memory");
        let stub = Stub::answering(move |_| Response::from_parts(head.clone(), Body::from(answer.clone()))).await;
        let envelope = json!({"customHandler": {"enableProxyingHttpRequest": false}});
        let ground = Ground::new(&stub, &envelope, &[("F", http_function("f"))]);
        let host = ground.start().await;
        let got = post(&host, "/api/f", "{}").await;
        assert_eq!((got.status, got.body.as_str()), (status, body));
        if body == "x" {
            assert_eq!(
                (&got.headers["location"], &got.headers["x-n"]),
                (&"/y".parse().expect("valid"), &"3".parse().expect("valid"))
            );
        }
    }
}
