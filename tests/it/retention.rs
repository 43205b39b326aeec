//! What is older than `RETENTION_DAYS` goes, and what has to stay stays.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::rollout::changes::Baselines;
use permafresh::rollout::watch::Snapshot;
use permafresh::rollout::{Changes, Course, Package, Plan, RolloutId};
use permafresh::store::{Versioned, document};
use serde_json::{Value, json};

use crate::world::{Options, World, application, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn world() -> World {
    World::with(Options { retention: 30 * DAY, ..Options::default() }).await
}

/// Ticks for some hours, so that what is done an hour at a time is done.
async fn pass(world: &World, hours: u32) {
    for _ in 0..hours {
        world.advance(HOUR);
        world.run_due().await;
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        plan: Plan::parse("fabrikam", "ledger", "standard").unwrap().0,
        version: "1.5.0".parse().unwrap(),
        package: Package::default(),
        instance_id: "instance".into(),
        read_at: permafresh::rollout::Timestamp::UNIX_EPOCH,
        is_restated: false,
    }
}

/// Whether the course and the changes of a rollout are there.
async fn kept_with(world: &World, id: RolloutId) -> (bool, bool) {
    let name = id.to_string();
    let course = document::get::<Course>(&*world.store, &name).await.unwrap();
    let changes = document::get::<Changes>(&*world.store, &name).await.unwrap();
    (course.is_some(), changes.is_some())
}

#[tokio::test]
async fn an_old_rollout_goes_with_its_refreshes_and_the_last_success_stays() {
    let world = world().await;
    world.deploy(3).await;
    world.run_due().await;
    let old = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(old, HOUR).await["state"], "completed");
    let changes = Changes::of(old, &snapshot(), &Baselines::new());
    document::save(&*world.store, &Versioned::new(changes)).await.unwrap();
    assert_eq!(kept_with(&world, old).await, (true, true));
    world.advance(20 * DAY);
    let young = world.publish(json!({"version": "1.6.0", "strategy": one_wave()})).await;
    world.settle(young, HOUR).await;
    world.advance(9 * DAY);
    pass(&world, 3).await;
    assert_eq!(world.rollout(old).await["state"], "completed", "29 days are not 30");
    world.advance(2 * DAY);
    pass(&world, 3).await;
    let gone = Request::get(format!("/api/rollouts/{old}")).body(Body::empty()).unwrap();
    assert_eq!(world.request(gone).await.0, StatusCode::NOT_FOUND);
    let listed = world.get("/api/rollouts").await;
    let listed: Vec<_> = listed["value"].as_array().unwrap().iter().map(|rollout| rollout["id"].clone()).collect();
    assert_eq!(listed, [json!(young)]);
    assert_eq!(world.store.tally(old).await.unwrap().count(|_| true), 0);
    assert_eq!(kept_with(&world, old).await, (false, false), "nothing that only its id leads to stays");
    world.advance(20 * DAY);
    pass(&world, 3).await;
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]));
    let deployment = world.get(&format!("/api/deployments/{}", application(0).key())).await;
    assert_eq!(deployment["applied"]["version"], "1.6.0", "what was last applied is known for ever");
    world.advance(DAY);
    pass(&world, 1).await;
    // Its claim is gone too: the same publish is another one now, and finds that there is nothing to do.
    let again = world.publish(json!({"version": "1.6.0", "strategy": one_wave()})).await;
    assert_eq!(world.settle(again, HOUR).await["counts"]["skipped"], 3);
}

#[tokio::test]
async fn a_rollout_that_has_not_ended_stays_however_old_it_is() {
    let world = world().await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    world.post(&format!("/api/rollouts/{id}/pause"), &json!({})).await;
    world.advance(100 * DAY);
    pass(&world, 3).await;
    assert_eq!(world.rollout(id).await["state"], "paused");
    let (status, known) = world.post("/api/offer-publishes", &publish(json!({"strategy": one_wave()}))).await;
    assert_eq!((status, &known["duplicateOf"]), (StatusCode::OK, &json!(id)), "its claim stays with it");
}

#[tokio::test]
async fn the_audit_list_is_kept_for_as_long_and_no_longer() {
    let world = world().await;
    world.run_due().await;
    world.post("/api/stop", &json!({"why": "old"})).await;
    world.advance(29 * DAY);
    world.post("/api/stop", &json!({"why": "young"})).await;
    pass(&world, 2).await;
    let whys = |audit: Value| audit["value"].as_array().unwrap().iter().map(|e| e["why"].clone()).collect::<Vec<_>>();
    assert_eq!(whys(world.get("/api/audit").await), ["young", "old"]);
    world.advance(2 * DAY);
    pass(&world, 2).await;
    assert_eq!(whys(world.get("/api/audit").await), ["young"]);
}

#[tokio::test]
async fn a_large_rollout_goes_piece_by_piece_and_no_tick_does_it_all() {
    let world = world().await;
    let refreshes: Vec<_> = {
        let id = world.publish(json!({"purpose": "restore"})).await;
        let version = "1.5.0".parse().unwrap();
        let canceled = |number| {
            let mut refresh = permafresh::rollout::Refresh::planned(id, application(number), version, 1);
            refresh.state = permafresh::rollout::RefreshState::Canceled;
            refresh
        };
        (0..4_000).map(canceled).collect()
    };
    let id = refreshes[0].rollout_id;
    world.store.insert_refreshes(&refreshes).await.unwrap();
    world.run_due().await;
    world.advance(31 * DAY);
    let mut left = vec![4_000];
    while left.last() != Some(&0) {
        world.tick().await;
        left.push(world.store.tally(id).await.unwrap().count(|_| true));
        assert!(left.len() < 10, "each tick takes up where the last one ended: {left:?}");
    }
    assert_eq!(left, [4_000, 1_500, 0]);
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]));
}
