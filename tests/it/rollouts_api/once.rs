//! The same publish and the same command, given again: idempotency keys, content keys, second tries.

use super::*;

/// Posts a publish with an `Idempotency-Key`; the status and the rollout it is answered with.
async fn keyed(world: &World, path: &str, key: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::post(path).header("idempotency-key", key).body(body.to_string().into()).unwrap();
    let (status, answer) = world.request(request).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["rolloutId"].as_str().or(answer["id"].as_str());
    (status, id.map_or_else(|| answer.to_string(), str::to_owned))
}

#[tokio::test]
async fn an_idempotency_key_holds_for_a_day() {
    let world = World::new().await;
    world.deploy(1).await;
    let repair = publish(json!({"purpose": "repair"}));
    for (path, body) in [("/api/offer-publishes", &repair), ("/api/rollouts", &publish(json!({})))] {
        let (status, first) = keyed(&world, path, "key-1", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{first}");
        world.settle(first.parse().unwrap(), HOUR).await;
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, first.clone()));
        let (status, other) = keyed(&world, path, "key-2", body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_ne!(other, first);
        let other = other.parse().unwrap();
        let age = world.now() - created(&world, &first).await;
        world.advance(24 * HOUR - age.to_std().unwrap());
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, first.clone()), "at the edge");
        world.settle(other, HOUR).await;
        world.advance(SECOND);
        let (status, later) = keyed(&world, path, "key-1", body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_ne!(later, first);
        assert_eq!(keyed(&world, path, "key-1", body).await, (StatusCode::OK, later.clone()));
        world.settle(later.parse().unwrap(), HOUR).await;
        world.advance(48 * HOUR);
    }
    for bad in [String::new(), "k".repeat(201)] {
        let (status, answer) = keyed(&world, "/api/rollouts", &bad, &repair).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains("Idempotency-Key"), "{answer}");
    }
}

async fn created(world: &World, id: &str) -> permafresh::rollout::Timestamp {
    let rollout = world.get(&format!("/api/rollouts/{id}")).await;
    rollout["createdAt"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn without_a_key_every_rollout_by_hand_is_a_new_one() {
    let world = World::new().await;
    world.deploy(1).await;
    for path in ["/api/rollouts", "/api/offer-publishes"] {
        let body = publish(json!({"purpose": "repair"}));
        let (first, second) = (world.post(path, &body).await, world.post(path, &body).await);
        assert_eq!((first.0, second.0), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
        assert_ne!(first.1, second.1);
    }
}

#[tokio::test]
async fn the_same_key_a_hundred_times_at_once_is_one_rollout() {
    let world = World::new().await;
    world.deploy(1).await;
    let body = publish(json!({"purpose": "repair"}));
    let answers = (0..100).map(|_| keyed(&world, "/api/rollouts", "key", &body));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count(), 1);
    assert_eq!(answers.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_restore_is_written_down_and_refreshes_nobody_unless_asked() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let id = world.publish(json!({"purpose": "restore", "note": "the old permissions are back"})).await;
    world.run_due().await;
    let restored = world.rollout(id).await;
    assert_eq!((&restored["state"], &restored["purpose"]), (&json!("completed"), &json!("restore")));
    assert_eq!((&restored["counts"]["total"], world.simulator.stats().posts), (&json!(0), 0));
    let asked = world.publish(json!({"purpose": "restore", "scope": {"applicationIds": [ids[1]]}})).await;
    assert_eq!(world.settle(asked, HOUR).await["counts"]["total"], 1);
    assert_eq!(ids.iter().map(|id| world.simulator.posts_of(id)).collect::<Vec<_>>(), [0, 1, 0]);
}

#[tokio::test]
async fn a_publish_that_was_cut_off_and_the_same_with_its_submission_are_one_rollout() {
    let world = World::new().await;
    world.deploy(1).await;
    let faults = Faults::new(crate::faults::Fault::OutageOf { name: "save_rollout", after: 0 });
    let broken = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    let request = Request::post("/api/offer-publishes").body(publish(json!({})).to_string().into()).unwrap();
    assert_eq!(send(&broken, request).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let (_, watched) = world.post("/api/offer-publishes", &publish(json!({"submissionId": "115"}))).await;
    let (_, again) = world.post("/api/offer-publishes", &publish(json!({}))).await;
    assert_eq!(watched["rolloutId"], again["rolloutId"]);
    assert_eq!(world.get("/api/rollouts").await["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_publish_that_supersedes_and_could_not_send_is_completed_by_the_callers_second_try() {
    let mut world = World::new().await;
    world.deploy(5).await;
    let slow = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 1});
    let first = world.publish(json!({"strategy": slow})).await;
    world.run_due().await;
    world.advance(SECOND);
    let faults = Faults::none();
    let queue = FaultyQueue::over(&world.queue, &faults);
    world.replace_handler(world.handler(world.store.clone(), queue.clone()));
    faults.set(Fault::Panic);
    let body = publish(json!({"version": "1.6.0", "supersede": true, "strategy": one_wave()}));
    assert_eq!(world.post("/api/offer-publishes", &body).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    faults.set(Fault::None);
    let (status, answer) = world.post("/api/offer-publishes", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    world.run_due().await;
    let superseded = world.rollout(first).await;
    assert_eq!(superseded["state"], "canceled");
    assert!(superseded["why"].as_str().unwrap().contains(answer["rolloutId"].as_str().unwrap()), "{superseded}");
    let second = answer["rolloutId"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.settle(second, HOUR).await["counts"]["succeeded"], 5);
}
