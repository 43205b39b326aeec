//! The custom handler as the Functions host meets it (contracts/custom-handler.md §12).

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::functions::{Handle, router};
use permafresh::queue::Message;
use permafresh::rollout::RolloutId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, application, invoke_message, invoke_timer, send};

const DONE: &str = r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#;
const FUNCTIONS: [&str; 5] =
    ["PlanRollout", "RefreshDeployment", "PollOperations", "ScheduledRefresh", "SyncDeployments"];

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

#[tokio::test]
async fn the_root_answers_before_the_app_is_there_and_everything_else_waits_for_it() {
    let world = World::new().await;
    let (ready, handle) = Handle::later();
    let router = router(handle);
    let root = || Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(send(&router, root()).await.0, StatusCode::OK);
    let list = send(&router, Request::get("/api/rollouts").body(Body::empty()).unwrap());
    let mut list = std::pin::pin!(list);
    assert!(futures_util::poll!(&mut list).is_pending());
    assert_eq!(send(&router, root()).await.0, StatusCode::OK);
    let app = world.app(world.store.clone(), world.queue.clone());
    ready.send(Some(app.into())).unwrap();
    let (status, body) = tokio::time::timeout(Duration::from_secs(10), list).await.unwrap();
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"value":[]}"#));
}

#[tokio::test]
async fn where_the_app_never_comes_every_function_says_so() {
    let (never, handle) = Handle::later();
    drop(never);
    let router = router(handle);
    for path in ["/PollOperations", "/api/offer-publishes"] {
        let (status, body) = send(&router, post(path, "{}")).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(body.contains("could not start"), "{body}");
    }
    assert_eq!(send(&router, Request::get("/").body(Body::empty()).unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_function_is_not_found() {
    let world = World::new().await;
    for path in ["/Nowhere", "/pollOperations", "/PollOperations/", "/api", "/api/PollOperations", "//"] {
        let (status, body) = world.request(post(path, "{}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(!body.is_empty(), "{path}");
    }
    for function in FUNCTIONS {
        let request = Request::builder().method(Method::GET).uri(format!("/{function}")).body(Body::empty()).unwrap();
        assert_eq!(world.request(request).await.0, StatusCode::METHOD_NOT_ALLOWED, "{function}");
    }
}

#[tokio::test]
async fn an_invocation_that_did_its_work_is_answered_with_a_whole_envelope() {
    let world = World::new().await;
    let tick = json!({"Data": {"tick": {"ScheduleStatus": null, "IsPastDue": false}}, "Metadata": {}}).to_string();
    for function in ["PollOperations", "ScheduledRefresh"] {
        assert_eq!(world.request(post(&format!("/{function}"), tick.clone())).await, (StatusCode::OK, DONE.to_owned()));
        assert_eq!(invoke_timer(&world.handler(world.store.clone(), world.queue.clone()), function, None).await, 200);
    }
    let rollout_id = RolloutId(Uuid::from_u128(1));
    let key = application(0).key();
    for (function, message) in [
        ("PlanRollout", Message::PlanRollout { rollout_id }),
        ("RefreshDeployment", Message::Refresh { rollout_id, key: key.clone() }),
        ("RefreshDeployment", Message::CheckDeployment { key }),
        ("RefreshDeployment", Message::PollShare { at_most: 1 }),
        ("RefreshDeployment", Message::SyncDeployments { run: "none".to_owned() }),
    ] {
        let body = json!({"Data": {"message": STANDARD.encode(message.to_body())}, "Metadata": {"message": "forged"}});
        let answer = world.request(post(&format!("/{function}"), body.to_string())).await;
        assert_eq!(answer, (StatusCode::OK, DONE.to_owned()), "{message:?} names nothing that is stored: it is done");
    }
}

#[tokio::test]
async fn an_envelope_that_cannot_be_read_is_a_500_that_says_why() {
    let world = World::new().await;
    let with = |message: &str| json!({"Data": {"message": message}, "Metadata": {}}).to_string();
    let newer = STANDARD.encode(r#"{"kind":"ofANewerVersion"}"#);
    for function in FUNCTIONS {
        for body in
            ["", "{", "{}", "[]", "7", r#"{"Data":null}"#, r#"{"Data":{}}"#, r#"{"Data":{"message":7,"tick":7}}"#]
        {
            let (status, said) = world.request(post(&format!("/{function}"), body.to_owned())).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{function} {body}");
            assert!(!said.is_empty(), "{function} {body}");
        }
    }
    for message in ["%", "e30=", &newer, &STANDARD.encode("\u{fffd}"), &STANDARD.encode([0xff, 0xfe])] {
        for function in &FUNCTIONS[..2] {
            let (status, said) = world.request(post(&format!("/{function}"), with(message))).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{function} {message}");
            assert!(said.contains("message"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_message_on_the_wrong_queue_is_refused_and_becomes_a_dead_letter() {
    let world = World::new().await;
    let router = world.handler(world.store.clone(), world.queue.clone());
    let plan = Message::PlanRollout { rollout_id: RolloutId(Uuid::from_u128(1)) }.to_body();
    let check = Message::CheckDeployment { key: application(0).key() }.to_body();
    assert_eq!(invoke_message(&router, "RefreshDeployment", plan.as_bytes()).await, 500);
    assert_eq!(invoke_message(&router, "PlanRollout", check.as_bytes()).await, 500);
}

#[tokio::test]
async fn a_message_of_three_mebibytes_is_accepted() {
    let world = World::new().await;
    let message = json!({
        "kind": "checkDeployment", "key": application(0).key(), "ofANewerVersion": "x".repeat(3 * 1024 * 1024)
    });
    let body = json!({"Data": {"message": STANDARD.encode(message.to_string())}, "Metadata": {}}).to_string();
    assert!(body.len() > 4 * 1024 * 1024);
    assert_eq!(world.request(post("/RefreshDeployment", body)).await, (StatusCode::OK, DONE.to_owned()));
}

#[tokio::test]
async fn an_error_of_a_queue_function_is_never_a_problem_of_the_api() {
    let world = World::new().await;
    let (_, body) = world.request(post("/PollOperations", "{}")).await;
    assert!(serde_json::from_str::<Value>(&body).is_err(), "{body}");
}
