//! What the handler is sent: the envelope of each trigger, to the letter.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::host_stub::{
    Call, Ground, Stub, ask, done, eventually, http_function, queue_function, reply, timer_function,
};

fn sample(text: &str) -> Value {
    serde_json::from_str(text).expect("the samples are JSON")
}

/// The body with what differs from event to event put aside, and checked for its form.
fn settled(call: &Call) -> Value {
    let mut body = call.json();
    let sys = &mut body["Metadata"]["sys"];
    let guid = sys["RandGuid"].as_str().expect("there is one").to_owned();
    assert!(uuid::Uuid::try_parse(&guid).is_ok());
    sys["RandGuid"] = json!("…");
    body
}

#[tokio::test]
async fn e2_an_event_is_a_post_to_the_functions_name_with_the_hosts_headers_and_an_id_of_its_own() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("Handle-Order_1", queue_function("binary"))]);
    ground.queue.put("orders", b"1");
    ground.queue.put("orders", b"2");
    let _host = ground.start().await;
    let calls = stub.wait_for_calls(2).await;
    for call in &calls {
        assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/Handle-Order_1"));
        assert_eq!(call.header("content-type"), "application/json; charset=utf-8");
        assert!(call.header("user-agent").starts_with("Azure-Functions-Host/4."));
        assert!(call.header("x-azure-functions-hostversion").starts_with("4."));
        assert!(uuid::Uuid::try_parse(call.header("x-azure-functions-invocationid")).is_ok());
        let body = call.json();
        assert_eq!(body.as_object().expect("it is an object").keys().collect::<Vec<_>>(), ["Data", "Metadata"]);
        assert!(!call.body.contains(&b'\n'));
    }
    let id = |call: &Call| call.header("x-azure-functions-invocationid").to_owned();
    assert_ne!(id(&calls[0]), id(&calls[1]));
}

#[tokio::test]
async fn e3_a_binary_message_is_base64_and_nothing_of_it_gets_into_the_metadata() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("HandleOrder", queue_function("binary"))]);
    ground.queue.put("orders", br#"{"MessageId":"spoofed","quantity":2}"#);
    let _host = ground.start().await;
    let call = stub.wait_for_calls(1).await.remove(0);
    assert_eq!(settled(&call), sample(include_str!("../data/host/message-binary.json")));
}

#[tokio::test]
async fn e4_members_of_a_text_message_are_merged_into_the_metadata_and_can_forge_it() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("HandleOrder", queue_function("string"))]);
    let body = r#"{"orderId":"A-7","quantity":2,"price":2.50,"paid":true,"customer":{"id":"c-9"},"lines":[1,2],"note":null,
        "messageid":"spoofed","DeliveryCount":99,"at":"2026-01-16T10:30:00+02:00","myTrigger":"dropped"}"#;
    ground.queue.put("orders", body.as_bytes());
    let _host = ground.start().await;
    let call = stub.wait_for_calls(1).await.remove(0);
    let mut expected = sample(include_str!("../data/host/message-text.json"));
    expected["Data"]["order"] = json!(serde_json::to_string(body).expect("text serialises"));
    assert_eq!(settled(&call), expected);
}

#[tokio::test]
async fn e3_a_text_that_is_no_object_is_quoted_twice_and_merges_nothing() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("HandleOrder", queue_function("string"))]);
    for (at, (body, data)) in [
        (&b"hello"[..], r#""hello""#),
        (b"[1]", "\"[1]\""),
        (b"{not json}", r#""{not json}""#),
        (b"say \"x\"\n", r#""say \"x\"\n""#),
        (b"", "\"\""),
        (b"\xff", "\"\u{fffd}\""),
    ]
    .into_iter()
    .enumerate()
    {
        ground.queue.put("orders", body);
        let host = ground.start().await;
        let call = stub.wait_for_calls(at + 1).await.pop().expect("it was called");
        let json = call.json();
        assert_eq!(json["Data"]["order"], data);
        // Exactly what every message has.
        let known = sample(include_str!("../data/host/message-binary.json"));
        let names = |body: &Value| body["Metadata"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&json), names(&known));
        eventually("the completion", || ground.queue.is_empty()).await;
        host.shutdown(std::time::Duration::ZERO).await;
    }
}

#[tokio::test]
async fn e3_an_http_request_is_an_object_and_its_parts_are_metadata_too() {
    let stub = Stub::answering(|_| reply(200, &json!({"Outputs": {"res": {"body": "x"}}}))).await;
    let envelope = json!({"customHandler": {"enableProxyingHttpRequest": false}});
    let ground = Ground::new(&stub, &envelope, &[("CreateOrder", http_function("orders/{id}"))]);
    let host = ground.start().await;
    let request = Request::post("/api/orders/7?name=Atlas&name=Rex&code=key")
        .header("host", "localhost:7071")
        .header("user-agent", "curl/8.5.0")
        .header("accept", "*/*")
        .header("content-type", "application/json")
        .header("content-length", "17")
        .body(Body::from(r#"{"color":"black"}"#));
    assert_eq!(ask(&host, request.expect("this is valid")).await.status, 200);
    assert_eq!(settled(&stub.calls()[0]), sample(include_str!("../data/host/http.json")));
}

#[tokio::test]
async fn e3_the_body_of_an_http_request_depends_on_its_length_and_type() {
    let stub = Stub::answering(|_| done()).await;
    let envelope = json!({"customHandler": {"enableProxyingHttpRequest": false}});
    let ground = Ground::new(&stub, &envelope, &[("F", http_function("f"))]);
    let host = ground.start().await;
    for (content_type, body, expected) in [
        ("application/octet-stream", Body::from("hi"), json!("aGk=")),
        ("multipart/form-data; boundary=x", Body::from("hi"), json!("aGk=")),
        ("text/plain", Body::from("hi"), json!("hi")),
        ("text/plain", Body::empty(), Value::Null),
        // Without a length the real host sees no body.
        ("text/plain", Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("hi")])), Value::Null),
    ] {
        let request = Request::put("/api/f").header("content-type", content_type).body(body).expect("this is valid");
        ask(&host, request).await;
        let call = stub.calls().pop().expect("it was called").json();
        assert_eq!(call["Data"]["req"]["Body"], expected, "{content_type}");
    }
}

#[tokio::test]
async fn a_function_with_another_output_is_not_proxied() {
    let stub = Stub::answering(|_| {
        reply(200, &json!({"Outputs": {"res": {"statusCode": 202, "body": "x"}, "outbox": ["{\"id\":7}"]}}))
    })
    .await;
    let mut function = http_function("f");
    let output = json!({"name": "outbox", "type": "serviceBus", "direction": "out", "queueName": "outbox",
        "connection": "ServiceBusConnection"});
    function["bindings"].as_array_mut().expect("it is an array").push(output);
    let ground = Ground::new(&stub, &json!({}), &[("F", function)]);
    let host = ground.start().await;
    let got = crate::host_stub::get(&host, "/api/f").await;
    assert_eq!((got.status, got.body.as_str(), stub.calls()[0].path.as_str()), (202, "x", "/F"));
    assert_eq!(ground.queue.sent(), [("outbox".to_owned(), "{\"id\":7}".to_owned())]);
}

#[tokio::test]
async fn e5_a_timer_is_told_its_times_as_an_object() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("NightlySweep", timer_function("0 0 2 * * *"))]);
    let host = ground.start().await;
    let file = ground.folder.path().join("state/timers/NightlySweep.json");
    eventually("the status", || file.exists()).await;
    ground.clock.set("2026-01-17T02:00:00.0041207Z");
    stub.wait_for_calls(1).await;
    eventually("the status", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("2026-01-18T02:00:00Z")))
        .await;
    ground.clock.set("2026-01-18T02:00:00Z");
    let calls = stub.wait_for_calls(2).await;
    assert_eq!(settled(&calls[0]), sample(include_str!("../data/host/timer-first.json")));
    assert_eq!(settled(&calls[1]), sample(include_str!("../data/host/timer-second.json")));
    drop(host);
}
