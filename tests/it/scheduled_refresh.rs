//! The wanted version of a plan, and the scheduled refresh that brings every deployment back to it (design §4).

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome};
use permafresh::engine::OfferConfig;
use permafresh::rollout::{ApplicationId, Plan, RolloutId, RolloutState, Strategy, WantedVersion};
use permafresh::store::document;
use serde_json::{Value, json};

use crate::world::{Options, World, application, invoke_timer, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);

/// `OFFERS` with the one plan, its first wanted version if any, and everything in one wave.
fn offers(wanted: Option<&str>) -> Vec<OfferConfig> {
    let strategy: Strategy = serde_json::from_value(one_wave()).unwrap();
    vec![OfferConfig {
        ways: vec![permafresh::rollout::Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), wanted.map(|version| version.parse().unwrap()))],
        strategy,
        preview_applications: Vec::new(),
    }]
}

async fn world(wanted: Option<&str>) -> World {
    World::with(Options { offers: offers(wanted), ..Options::default() }).await
}

impl World {
    async fn scheduled(&self) {
        self.scheduled_at(self.now()).await;
    }

    async fn scheduled_at(&self, due: permafresh::rollout::Timestamp) {
        let router = self.handler(self.store.clone(), self.queue.clone());
        assert_eq!(invoke_timer(&router, "ScheduledRefresh", Some(due)).await, StatusCode::OK);
    }

    /// The rollouts, the newest first.
    async fn rollouts(&self) -> Vec<Value> {
        self.get("/api/rollouts").await["value"].as_array().unwrap().clone()
    }

    async fn newest(&self) -> RolloutId {
        self.rollouts().await[0]["id"].as_str().unwrap().parse().unwrap()
    }

    async fn wanted(&self) -> Option<String> {
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let wanted = document::get::<WantedVersion>(&*self.store, &plan.to_string()).await.unwrap()?;
        wanted.value.version.map(|version| version.to_string())
    }
}

fn failing(id: &ApplicationId, world: &World) {
    let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
    world.simulator.on_post(id, [OnPost::Accept(failed)]);
}

#[tokio::test]
async fn the_first_wanted_version_is_that_of_the_settings() {
    let world = world(Some("1.4.0")).await;
    let ids = world.deploy(3).await;
    world.scheduled().await;
    let id = world.newest().await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["version"], &done["purpose"]), (&json!("1.4.0"), &json!("scheduled")));
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{done}");
    assert_eq!(world.simulator.refreshed_to(&ids[0]).as_deref(), Some("1.4.0"));
}

#[tokio::test]
async fn without_a_wanted_version_nothing_is_scheduled() {
    let world = world(None).await;
    world.deploy(3).await;
    world.scheduled().await;
    world.run_due().await;
    assert_eq!(world.rollouts().await, Vec::<Value>::new());
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn a_scheduled_refresh_brings_the_version_last_raised_even_to_those_that_have_it() {
    let world = world(Some("1.4.0")).await;
    let ids = world.deploy(3).await;
    let first = world.publish(json!({})).await;
    world.settle(first, HOUR).await;
    assert_eq!(world.wanted().await.as_deref(), Some("1.5.0"));
    world.advance(24 * HOUR);
    world.scheduled().await;
    let id = world.newest().await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["version"], &done["counts"]["succeeded"]), (&json!("1.5.0"), &json!(3)), "{done}");
    for id in &ids {
        assert_eq!(world.simulator.posts_of(id), 2, "drift is repaired even where we brought the version ourselves");
    }
}

#[tokio::test]
async fn a_scheduled_refresh_is_gentle() {
    let world = world(Some("1.4.0")).await;
    world.deploy(70).await;
    world.scheduled().await;
    world.run_due().await;
    let counts = world.rollout(world.newest().await).await["counts"].clone();
    assert_eq!((&counts["running"], &counts["queued"]), (&json!(50), &json!(20)), "{counts}");
    let done = world.settle(world.newest().await, HOUR).await;
    assert_eq!(done["counts"]["succeeded"], 70);
}

#[tokio::test]
async fn the_same_due_time_twice_is_one_rollout_even_after_its_end() {
    let world = world(Some("1.4.0")).await;
    world.deploy(2).await;
    let due = world.now();
    world.scheduled_at(due).await;
    world.scheduled_at(due).await;
    world.settle(world.newest().await, HOUR).await;
    world.scheduled_at(due).await;
    world.run_due().await;
    assert_eq!(world.rollouts().await.len(), 1);
    assert_eq!(world.simulator.stats().posts, 2);
    world.scheduled_at(due + 168 * HOUR).await;
    assert_eq!(world.rollouts().await.len(), 2, "the next week is another run");
}

#[tokio::test]
async fn a_scheduled_refresh_is_left_out_while_a_rollout_of_the_plan_is_open() {
    let world = world(Some("1.4.0")).await;
    world.deploy(2).await;
    let id = world.publish(json!({})).await;
    world.scheduled().await;
    world.run_due().await;
    world.advance(Duration::from_secs(1));
    world.scheduled().await;
    world.post(&format!("/api/rollouts/{id}/pause"), &Value::Null).await;
    world.advance(HOUR);
    world.scheduled().await;
    assert_eq!(world.rollouts().await.len(), 1, "neither while it plans, nor while it runs, nor while it is paused");
    world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    world.settle(id, HOUR).await;
    world.scheduled().await;
    assert_eq!(world.rollouts().await.len(), 2);
}

#[tokio::test]
async fn the_wanted_version_is_raised_when_the_canaries_have_passed_and_settled_at_the_end() {
    let world = world(Some("1.4.0")).await;
    world.deploy(10).await;
    let strategy = json!({"canaries": 1, "waves": ["50%"], "pauseBetweenWaves": "PT30M"});
    let id = world.publish(json!({"strategy": strategy})).await;
    world.run_due().await;
    assert_eq!(world.wanted().await, None, "nothing is stored beside the settings yet");
    for _ in 0..20 {
        world.advance(Duration::from_secs(60));
        world.run_due().await;
    }
    assert_eq!((world.wanted().await, &world.rollout(id).await["wave"]), (None, &json!(1)));
    for _ in 0..20 {
        world.advance(Duration::from_secs(60));
        world.run_due().await;
    }
    assert_eq!((world.wanted().await.as_deref(), &world.rollout(id).await["wave"]), (Some("1.5.0"), &json!(2)));
    assert_eq!(world.settle(id, 5 * HOUR).await["state"], "completed");
    let (status, _) = world.post(&format!("/api/rollouts/{id}/cancel"), &Value::Null).await;
    assert_eq!((status, world.wanted().await.as_deref()), (StatusCode::CONFLICT, Some("1.5.0")));
}

#[tokio::test]
async fn canceling_takes_the_wanted_version_back() {
    let world = world(Some("1.4.0")).await;
    world.deploy(10).await;
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 2}})).await;
    world.run_due().await;
    assert_eq!(world.wanted().await.as_deref(), Some("1.5.0"), "there are no canaries to wait for");
    for _ in 0..2 {
        world.post(&format!("/api/rollouts/{id}/cancel"), &Value::Null).await;
        assert_eq!(world.wanted().await.as_deref(), Some("1.4.0"));
    }
}

#[tokio::test]
async fn halting_takes_the_wanted_version_back() {
    let world = world(Some("1.4.0")).await;
    let ids = world.deploy(10).await;
    for id in &ids {
        let blamed = Acceptance::ending(Outcome::bad_action("Microsoft.Foo/bars/secret/action"));
        world.simulator.on_post(id, [OnPost::Accept(blamed)]);
    }
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 1}})).await;
    world.run_due().await;
    assert_eq!(world.wanted().await.as_deref(), Some("1.5.0"));
    assert_eq!(world.settle(id, HOUR).await["state"], "halted");
    assert_eq!(world.wanted().await.as_deref(), Some("1.4.0"));
    let (_, refused) = world.post("/api/offer-publishes", &crate::world::publish(json!({"version": "1.3.0"}))).await;
    assert!(refused["detail"].as_str().unwrap().contains("lower than the wanted version 1.4.0"), "{refused}");
}

#[tokio::test]
async fn a_halt_that_died_before_it_took_the_wanted_version_back_does_so_later() {
    let world = world(Some("1.4.0")).await;
    world.deploy(10).await;
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 1}})).await;
    world.run_due().await;
    let mut rollout = world.store.rollout(id).await.unwrap().unwrap();
    rollout.value.state = RolloutState::Halted { why: "a reason".into() };
    assert!(world.store.save_rollout(&rollout).await.unwrap().is_stored());
    assert_eq!(world.wanted().await.as_deref(), Some("1.5.0"));
    world.tick().await;
    assert_eq!(world.wanted().await.as_deref(), Some("1.4.0"));
}

#[tokio::test]
async fn a_failed_canary_raises_nothing_and_one_deployment_is_enough_to_raise() {
    let world = world(Some("1.4.0")).await;
    let ids = world.deploy(1).await;
    failing(&ids[0], &world);
    let first = world.publish(json!({"strategy": Strategy::default()})).await;
    assert_eq!(world.settle(first, HOUR).await["state"], "paused");
    assert_eq!(world.wanted().await, None);
    world.post(&format!("/api/rollouts/{first}/cancel"), &Value::Null).await;
    let second = world.publish(json!({"version": "1.6.0", "strategy": Strategy::default()})).await;
    assert_eq!(world.settle(second, HOUR).await["state"], "completed");
    assert_eq!(world.wanted().await.as_deref(), Some("1.6.0"), "there was no second wave to begin");
}

#[tokio::test]
async fn previews_parts_and_restores_do_not_touch_the_wanted_version() {
    let world = world(Some("1.4.0")).await;
    let ids = world.deploy(3).await;
    let rows = json!([{"applicationId": application(9), "publisher": "fabrikam", "offer": "ledger-preview", "plan": "standard"}]);
    world.deploy_these(&[application(9)]).await;
    let request = axum::http::Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(rows.to_string().into()).unwrap()).await;
    let preview = world.publish(json!({"version": "1.7.0", "target": "preview"})).await;
    let done = world.settle(preview, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(1)), "{done}");
    let scoped = world.publish(json!({"version": "1.6.0", "scope": {"applicationIds": [ids[0]]}})).await;
    assert_eq!(world.settle(scoped, HOUR).await["counts"]["succeeded"], 1);
    let restored = json!({"version": "1.8.0", "purpose": "restore", "scope": {"applicationIds": [ids[1]]}});
    let restored = world.publish(restored).await;
    assert_eq!(world.settle(restored, HOUR).await["counts"]["succeeded"], 1);
    assert_eq!(world.wanted().await, None);
    let repaired = world.publish(json!({"version": "1.3.0", "purpose": "repair"})).await;
    assert_eq!(world.settle(repaired, HOUR).await["counts"]["succeeded"], 4);
    assert_eq!(world.wanted().await.as_deref(), Some("1.3.0"), "a repair of everything is what is wanted now");
}
