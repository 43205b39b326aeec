//! Which functions load, which are in error, and that the ones do not stop the others.

use std::time::Duration;

use permafresh::host::HostError;
use serde_json::{Value, json};

use crate::host_stub::{
    Ground, Stub, done, get, http_function, put_function, queue_function, reply_with, timer_function,
};

fn changed(mut function: Value, property: &str, value: Value) -> Value {
    function["bindings"][0][property] = value;
    function
}

#[tokio::test]
async fn e12_a_bad_function_is_in_error_and_says_why_and_the_others_run() {
    let stub = Stub::answering(|_| reply_with(200, None, "served")).await;
    let ground = Ground::new(&stub, &json!({}), &[("Good", http_function("good"))]).setting("THE_QUEUE", "orders");
    let queue = queue_function("binary");
    let cases = [
        ("1st", http_function("a").to_string(),
            "the name has to start with a letter, have at most 128 letters, digits, _ or -, and not be host"),
        ("Host", http_function("a").to_string(),
            "the name has to start with a letter, have at most 128 letters, digits, _ or -, and not be host"),
        ("NoJson", "{".to_owned(), "function.json is not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("NoBindings", json!({"Bindings": []}).to_string(), "bindings has to be an array of objects"),
        ("NoTrigger", json!({"bindings": []}).to_string(), "exactly one trigger binding is needed, found 0"),
        ("TwoTriggers", json!({"bindings": [
            {"name": "a", "type": "timerTrigger", "schedule": "0 0 0 * * *"}, {"name": "b", "type": "httpTrigger"}
        ]}).to_string(), "exactly one trigger binding is needed, found 2"),
        ("Underscore", changed(queue.clone(), "name", json!("the_order")).to_string(),
            "binding name \"the_order\" has to be letters and digits, start with a letter and be unique"),
        ("SameName", json!({"bindings": [
            {"name": "req", "type": "httpTrigger"}, {"name": "REQ", "type": "http", "direction": "out"}
        ]}).to_string(), "binding name \"REQ\" has to be letters and digits, start with a letter and be unique"),
        ("Unknown", json!({"bindings": [{"name": "a", "type": "queueTrigger"}]}).to_string(),
            "binding a has a type the embedded host does not know: queueTrigger"),
        ("UnknownOutput", json!({"bindings": [{"name": "a", "type": "httpTrigger"}, {"name": "b", "type": "table"}]}).to_string(),
            "binding b has a type the embedded host does not know: table"),
        ("Missing", changed(queue.clone(), "queueName", json!("%ABSENT%")).to_string(),
            "binding order: queueName: %ABSENT% is not among the app settings"),
        ("MissingSchedule", timer_function("%ABSENT%").to_string(),
            "binding tick: schedule: %ABSENT% is not among the app settings"),
        ("NoConnection", changed(queue.clone(), "connection", Value::Null).to_string(),
            "binding order: connection is missing or empty"),
        ("Batch", changed(queue.clone(), "cardinality", json!("many")).to_string(),
            "binding order: cardinality has to be one: the embedded host delivers no batches"),
        ("Topic", changed(queue.clone(), "topicName", json!("t")).to_string(),
            "binding order: topicName is not served by the embedded host: use queueName"),
        ("Sessions", changed(queue.clone(), "isSessionsEnabled", json!(true)).to_string(),
            "binding order: isSessionsEnabled is not served by the embedded host"),
        ("Stream", changed(queue.clone(), "dataType", json!("stream")).to_string(),
            "binding order: dataType has to be string or binary"),
        ("Daily", timer_function("@daily").to_string(),
            "schedule \"@daily\" is neither NCRONTAB of six (or five) fields nor hh:mm:ss"),
        ("Level", changed(http_function("a"), "authLevel", json!("nobody")).to_string(),
            "binding req: authLevel has to be anonymous, function or admin"),
        ("Reserved", http_function("runtime/x").to_string(), "route \"runtime/x\" is reserved for the host"),
        ("Retry", json!({"bindings": timer_function("0 0 0 * * *")["bindings"], "retry": {"strategy": "x", "maxRetryCount": 1}}).to_string(),
            "retry: strategy has to be fixedDelay or exponentialBackoff"),
    ];
    for (name, text, _) in &cases {
        put_function(ground.folder.path(), name, text);
    }
    let host = ground.start().await;
    let errors: Vec<String> = host.functions_in_error().iter().map(ToString::to_string).collect();
    for (name, _, problem) in &cases {
        let told = format!("function {name}: {problem}");
        assert!(errors.contains(&told), "{told:?} is not among {errors:#?}");
    }
    assert_eq!(errors.len(), cases.len());
    assert_eq!(get(&host, "/api/good").await.body, "served");
}

#[tokio::test]
async fn e12_only_direct_child_folders_with_a_function_json_are_functions() {
    let stub = Stub::answering(|call| reply_with(200, None, &call.path)).await;
    let ground = Ground::new(&stub, &json!({}), &[("Direct", http_function("direct"))]);
    put_function(ground.folder.path(), "Group/Nested", &http_function("nested").to_string());
    std::fs::create_dir(ground.folder.path().join("functions/Empty")).expect("the folder is ours");
    std::fs::write(ground.folder.path().join("functions/README.md"), "").expect("the folder is ours");
    let host = ground.start().await;
    assert!(host.functions_in_error().is_empty());
    assert_eq!((get(&host, "/api/direct").await.status, get(&host, "/api/nested").await.status), (200, 404));
}

#[tokio::test]
async fn e12_names_between_percent_signs_come_from_the_settings() {
    let stub = Stub::answering(|_| done()).await;
    let function = changed(queue_function("binary"), "queueName", json!("%STAGE%-orders"));
    let ground = Ground::new(&stub, &json!({}), &[("F", function)]).setting("stage", "test");
    ground.queue.put("test-orders", b"x");
    let _host = ground.start().await;
    assert_eq!(stub.wait_for_calls(1).await[0].json()["Data"]["order"], "eA==");
}

#[tokio::test]
async fn e12_host_json_can_limit_which_functions_load() {
    let stub = Stub::answering(|_| reply_with(200, None, "")).await;
    let functions = [("One", http_function("one")), ("Two", http_function("two"))];
    let ground = Ground::new(&stub, &json!({"functions": ["two"]}), &functions);
    let host = ground.start().await;
    assert_eq!((get(&host, "/api/one").await.status, get(&host, "/api/two").await.status), (404, 200));
}

#[tokio::test]
async fn a_host_without_any_function_does_not_start_and_says_what_is_wrong_with_each() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", timer_function("never"))]);
    let error = ground.try_start().await.expect_err("there is nothing to run");
    assert!(matches!(error, HostError::NoFunctions { .. }));
    assert!(
        error
            .to_string()
            .ends_with("; function F: schedule \"never\" is neither NCRONTAB of six (or five) fields nor hh:mm:ss")
    );
    assert!(stub.starts().is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let stub = Stub::answering(|_| done()).await;
    let mut ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    ground.config.port = host.local_addr().port();
    let error = ground.try_start().await.expect_err("the port is taken").to_string();
    assert_eq!(error, format!("could not listen on 127.0.0.1:{}", host.local_addr().port()));
    assert!(host.local_addr().ip().is_loopback());
    host.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_functions_of_this_repository_load_with_their_settings() {
    let stub = Stub::answering(|_| done()).await;
    let mut ground = Ground::new(&stub, &json!({}), &[]);
    ground.config.functions = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    for (name, value) in [
        ("ROLLOUT_QUEUE", "rollouts"),
        ("REFRESH_QUEUE", "refreshes"),
        ("POLL_SCHEDULE", "*/15 * * * * *"),
        ("BULK_REFRESH_SCHEDULE", "0 0 3 * * SUN"),
        ("WATCH_OFFERS_SCHEDULE", "0 */5 * * * *"),
        ("SYNC_SCHEDULE", "0 30 2 * * *"),
        ("RENEW_TOKENS_SCHEDULE", "0 0 4 * * *"),
    ] {
        ground = ground.setting(name, value);
    }
    let host = ground.start().await;
    assert!(host.functions_in_error().is_empty(), "{:?}", host.functions_in_error());
    assert_eq!(get(&host, "/api/rollouts").await.status, 401);
    host.shutdown(Duration::ZERO).await;
}
