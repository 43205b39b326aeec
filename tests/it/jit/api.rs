//! Just-in-time access by API and command line.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::Reply;
use serde_json::json;

use super::{MANUAL, MINUTE, Scene, options};
use crate::world::{Options, application};

#[tokio::test]
async fn what_was_asked_is_listed_and_shown() {
    let scene = Scene::new(MANUAL).await;
    assert_eq!(scene.world.get("/api/deployments/jit").await["value"], json!([]));
    let nothing = scene.show().await;
    assert_eq!((&nothing["requests"], nothing.get("listed")), (&json!([]), None));
    scene.publish().await;
    let list = scene.world.get("/api/deployments/jit?top=1").await;
    let [listed] = &list["value"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(listed["applicationId"], json!(scene.id));
    let request = &listed["requests"][0];
    assert_eq!((&request["state"], &request["azureState"]), (&json!("pending"), &json!("Pending")));
    assert!(request["why"].as_str().unwrap().contains("Cloud duty officer"), "{request}");
    let path = format!("/api/deployments/{}/jit?azure=true", scene.id.key());
    let shown = scene.world.get(&path).await;
    assert_eq!(shown["listed"], json!([{"name": request["name"], "state": "Pending"}]));
    scene.world.simulator.on_list([Reply::forbidden()]);
    let (status, problem) = scene.world.request(Request::get(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{problem}");
}

#[tokio::test]
async fn asking_by_hand_says_what_is_wrong() {
    let scene = Scene::new(MANUAL).await;
    let path = format!("/api/deployments/{}/jit", scene.id.key());
    for (path, status) in [
        (format!("/api/deployments/{}/jit", application(9).key()), StatusCode::NOT_FOUND),
        ("/api/deployments/x/jit".to_owned(), StatusCode::BAD_REQUEST),
        (path.clone(), StatusCode::ACCEPTED),
        (path.clone(), StatusCode::ACCEPTED),
    ] {
        assert_eq!(scene.world.post(&path, &json!({})).await.0, status, "{path}");
    }
    assert_eq!(scene.requests().len(), 1, "the same again is the same");
    assert_eq!(scene.world.post(&path, &json!({"until": 1})).await.0, StatusCode::BAD_REQUEST);
    let audit = scene.world.get("/api/audit").await;
    let entries = audit["value"].as_array().unwrap().iter().filter(|entry| entry["what"] == "deployment.jit");
    assert!(entries.clone().all(|entry| entry["on"] == json!(scene.id)), "{audit}");
    assert_eq!(entries.filter(|entry| entry["outcome"] == "done").count(), 2, "{audit}");
    let bad = format!("{path}?azure=perhaps");
    assert_eq!(scene.world.request(Request::get(bad).body(Body::empty()).unwrap()).await.0, StatusCode::BAD_REQUEST);

    let off = Scene::with(options(), |_| {}).await;
    let path = format!("/api/deployments/{}/jit", off.id.key());
    let (status, problem) = off.world.post(&path, &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("not enabled"), "{problem}");

    let without = Scene::with(Options { jit: None, ..options() }, |_| {}).await;
    let path = format!("/api/deployments/{}/jit", without.id.key());
    assert_eq!(without.world.post(&path, &json!({})).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_request_by_hand_is_looked_at_when_somebody_wants_it() {
    let scene = Scene::new(MANUAL).await;
    let path = format!("/api/deployments/{}/jit", scene.id.key());
    scene.world.post(&path, &json!({})).await;
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.pass(MINUTE).await;
    assert_eq!(scene.show().await["requests"][0]["state"], "pending", "nobody has looked");
    scene.world.post(&path, &json!({})).await;
    assert_eq!(scene.show().await["requests"][0]["state"], "open");
}
