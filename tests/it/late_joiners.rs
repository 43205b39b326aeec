//! Deployments that appear, come back or become ready during a rollout or after it get the wanted version (design §4).

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome};
use permafresh::rollout::{ApplicationId, RolloutId};
use permafresh::store::document;
use serde_json::{Value, json};

use crate::faults::{Faults, FaultyStore};
use crate::world::{SIG, World, application, invoke_timer, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// ARM says that something happened to an application of the plan.
    async fn notified(&self, id: &ApplicationId, event_type: &str, state: &str) {
        let plan = json!({"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"});
        let body = json!({"eventType": event_type, "applicationId": id, "eventTime": self.now(),
            "provisioningState": state, "plan": plan});
        let (status, answer) = self.post(&format!("/api/notification/resource?sig={SIG}"), &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// A customer has made a deployment.
    async fn appears(&self, id: &ApplicationId) {
        self.simulator.add_application(ApplicationSpec::new(id.clone()));
        self.notified(id, "PUT", "Succeeded").await;
    }

    fn in_arm(&self, id: &ApplicationId, state: &str) {
        let spec = ApplicationSpec { provisioning_state: state.into(), ..ApplicationSpec::new(id.clone()) };
        self.simulator.add_application(spec);
    }

    async fn pass(&self, time: Duration) {
        let end = self.now() + time;
        // A day in which nothing is to happen needs no look every moment.
        let step = if time > 4 * HOUR { HOUR / 6 } else { 15 * SECOND };
        while self.now() < end {
            self.run_due().await;
            self.advance(step);
        }
        self.run_due().await;
    }

    async fn steer(&self, id: RolloutId, word: &str) {
        let (status, answer) = self.post(&format!("/api/rollouts/{id}/{word}"), &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    async fn completed(&self, deployments: usize) -> (RolloutId, Vec<ApplicationId>) {
        let ids = self.deploy(deployments).await;
        let id = self.publish(json!({})).await;
        assert_eq!(self.settle(id, 2 * HOUR).await["state"], "completed");
        (id, ids)
    }

    /// No late joiner is waited for any more.
    async fn nobody_is_expected(&self) {
        let left = document::all::<permafresh::rollout::joining::Joiner>(&*self.store, "").await.unwrap();
        assert_eq!(left, []);
    }
}

#[tokio::test]
async fn a_deployment_that_appears_after_the_rollout_gets_the_wanted_version() {
    let world = World::new().await;
    let (id, _) = world.completed(3).await;
    world.advance(24 * HOUR);
    world.appears(&application(7)).await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.refreshed_to(&application(7)).as_deref(), Some("1.5.0"));
    let rollout = world.rollout(id).await;
    let counts = &rollout["counts"];
    assert_eq!(
        (&rollout["state"], &counts["succeeded"], &counts["total"]),
        (&json!("completed"), &json!(4), &json!(4))
    );
    assert_eq!(
        world.get("/api/rollouts").await["value"].as_array().unwrap().len(),
        1,
        "it is one more of that rollout"
    );
    world.nobody_is_expected().await;
}

#[tokio::test]
async fn a_notification_that_comes_twice_and_at_once_makes_one_refresh() {
    let world = World::new().await;
    world.completed(3).await;
    world.simulator.add_application(ApplicationSpec::new(application(7)));
    let (joiner, at) = (application(7), world.now());
    let twice = (0..10).map(|_| world.notified(&joiner, "PUT", "Succeeded"));
    futures_util::future::join_all(twice).await;
    world.pass(HOUR).await;
    assert_eq!((world.simulator.posts_of(&joiner), world.now() > at), (1, true));
    world.notified(&joiner, "PUT", "Succeeded").await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.posts_of(&joiner), 1, "a later one finds that it has the version");
    world.nobody_is_expected().await;
}

#[tokio::test]
async fn a_deployment_that_is_imported_after_the_rollout_gets_the_wanted_version() {
    let world = World::new().await;
    world.completed(3).await;
    let late: Vec<_> = (10..15).map(application).collect();
    world.deploy_these(&late).await;
    world.deploy_these(&late).await;
    world.pass(HOUR).await;
    assert!(late.iter().all(|id| world.simulator.posts_of(id) == 1));
    assert!(late.iter().all(|id| world.simulator.refreshed_to(id).as_deref() == Some("1.5.0")));
}

#[tokio::test]
async fn a_deployment_that_appears_during_any_wave_gets_the_version_once_the_canaries_have_passed() {
    let world = World::new().await;
    world.deploy(20).await;
    let strategy = json!({"canaries": 1, "waves": ["50%", "100%"], "pauseBetweenWaves": "PT10M"});
    let id = world.publish(json!({"strategy": strategy})).await;
    for (number, wave) in (30..90).zip([1, 2, 3].into_iter().flat_map(|wave| [wave; 20])) {
        // Twenty in each wave, so that they sort before and behind the walk.
        while world.rollout(id).await["wave"].as_u64().unwrap() < wave {
            world.advance(15 * SECOND);
            world.run_due().await;
        }
        world.appears(&application(number)).await;
        world.deliver().await;
        if wave == 1 {
            assert_eq!(world.simulator.posts_of(&application(number)), 0, "nobody before the canary");
        }
    }
    world.settle(id, 4 * HOUR).await;
    world.pass(HOUR).await;
    let rollout = world.rollout(id).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["succeeded"]), (&json!("completed"), &json!(80)), "{rollout}");
    assert!((30..90).all(|number| world.simulator.posts_of(&application(number)) == 1));
    world.nobody_is_expected().await;
}

#[tokio::test]
async fn a_deployment_that_is_restored_gets_the_wanted_version_again() {
    let world = World::new().await;
    let (_, ids) = world.completed(3).await;
    world.in_arm(&ids[1], "Deleted");
    world.notified(&ids[1], "DELETE", "Deleted").await;
    world.simulator.on_read(
        &ids[1],
        [permafresh::arm::simulator::OnRead::Reply(permafresh::arm::simulator::Reply::resource_not_found())],
    );
    world.pass(HOUR).await;
    let gone = world.get(&format!("/api/deployments/{}", ids[1].key())).await;
    assert!(gone["goneSince"].is_string(), "{gone}");
    world.in_arm(&ids[1], "Succeeded");
    world.notified(&ids[1], "PUT", "Succeeded").await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.posts_of(&ids[1]), 2, "what the one before it had says nothing");
    let back = world.get(&format!("/api/deployments/{}", ids[1].key())).await;
    assert_eq!(
        (&back["applied"]["version"], back["history"].as_array().unwrap().len()),
        (&json!("1.5.0"), 2),
        "{back}"
    );
}

#[tokio::test]
async fn a_deployment_that_becomes_ready_during_or_after_the_rollout_gets_the_version() {
    let world = World::new().await;
    let ids = world.deploy(4).await;
    for id in &ids[..2] {
        world.in_arm(id, "Failed");
        world.notified(id, "PATCH", "Failed").await;
    }
    world.pass(30 * SECOND).await;
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"]}})).await;
    world.run_due().await;
    assert_eq!(world.rollout(id).await["counts"]["skipped"], 2);
    world.in_arm(&ids[0], "Succeeded");
    world.notified(&ids[0], "PUT", "Succeeded").await;
    let during = world.settle(id, HOUR).await;
    assert_eq!((&during["counts"]["succeeded"], &during["counts"]["skipped"]), (&json!(3), &json!(1)), "{during}");
    world.advance(HOUR);
    world.in_arm(&ids[1], "Succeeded");
    world.notified(&ids[1], "PUT", "Succeeded").await;
    world.pass(HOUR).await;
    let after = world.rollout(id).await;
    assert_eq!((&after["state"], &after["counts"]["succeeded"]), (&json!("completed"), &json!(4)), "{after}");
    assert!(ids.iter().all(|id| world.simulator.posts_of(id) == 1));
    world.nobody_is_expected().await;
}

#[tokio::test]
async fn late_joiners_wait_while_the_rollout_is_paused() {
    let world = World::new().await;
    world.deploy(10).await;
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 10}})).await;
    world.run_due().await;
    world.steer(id, "pause").await;
    world.appears(&application(50)).await;
    world.pass(24 * HOUR).await;
    assert_eq!(world.simulator.posts_of(&application(50)), 0);
    world.steer(id, "resume").await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.posts_of(&application(50)), 1);
    assert_eq!(world.rollout(id).await["state"], "completed");
}

#[tokio::test]
async fn late_joiners_wait_while_a_rollout_is_halted_and_then_get_what_is_wanted() {
    let world = World::new().await;
    world.completed(5).await;
    world.simulator.bad_version("1.6.0", "Microsoft.Foo/bars/secret/action");
    let bad = world.publish(json!({"version": "1.6.0"})).await;
    assert_eq!(world.settle(bad, HOUR).await["state"], "halted");
    world.appears(&application(50)).await;
    world.pass(24 * HOUR).await;
    assert_eq!(world.simulator.posts_of(&application(50)), 0);
    world.steer(bad, "cancel").await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.refreshed_to(&application(50)).as_deref(), Some("1.5.0"));
}

#[tokio::test]
async fn a_late_joiner_follows_the_version_that_is_wanted_when_its_turn_comes() {
    let world = World::new().await;
    world.completed(5).await;
    let next = world.publish(json!({"version": "1.6.0", "strategy": {"pauseBetweenWaves": "PT1H"}})).await;
    world.run_due().await;
    world.appears(&application(50)).await;
    world.pass(30 * SECOND).await;
    assert_eq!(world.simulator.posts_of(&application(50)), 0, "which of the two it is to have is not decided");
    world.settle(next, 4 * HOUR).await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.refreshed_to(&application(50)).as_deref(), Some("1.6.0"));
    assert_eq!(world.simulator.posts_of(&application(50)), 1);
}

#[tokio::test]
async fn a_late_joiner_that_fails_is_not_tried_for_ever_and_is_in_the_report() {
    let world = World::new().await;
    let (id, _) = world.completed(3).await;
    let failed = || OnPost::Accept(Acceptance::ending(Outcome::failed("ScopeLocked", "locked")));
    world.simulator.on_post(&application(50), (0..9).map(|_| failed()));
    world.appears(&application(50)).await;
    world.pass(3 * HOUR).await;
    assert_eq!(world.simulator.posts_of(&application(50)), 1);
    let refresh = world.refresh_of(id, &application(50)).await;
    assert_eq!((&refresh["state"], &refresh["error"]["actor"]), (&json!("failed"), &json!("customer")));
}

#[tokio::test]
async fn those_that_are_on_hold_for_long_cost_no_reads_at_each_tick() {
    let world = World::new().await;
    let (_, ids) = world.completed(9).await;
    let faults = Faults::none();
    let router = world.handler(FaultyStore::over(&world.store, &faults), world.queue.clone());
    let calls_of_a_tick = async || {
        world.advance(15 * SECOND);
        let before = faults.calls();
        assert_eq!(invoke_timer(&router, "PollOperations", None).await, StatusCode::OK);
        faults.calls() - before
    };
    let hold = async |ids: &[ApplicationId]| {
        for id in ids {
            let body = json!({"why": "freeze", "until": world.now() + 30 * 24 * HOUR});
            let (status, answer) = world.post(&format!("/api/deployments/{}/hold", id.key()), &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
    };
    hold(&ids[..1]).await;
    calls_of_a_tick().await;
    let with_one = calls_of_a_tick().await;
    hold(&ids[1..]).await;
    assert_eq!(calls_of_a_tick().await, with_one);
}

#[tokio::test]
async fn where_no_rollout_has_brought_a_version_nobody_is_called() {
    let world = World::new().await;
    world.appears(&application(1)).await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.stats().posts, 0);
    world.nobody_is_expected().await;
}

#[tokio::test]
async fn an_older_rollout_that_is_retried_brings_nobody_back_to_its_version() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let failed = OnPost::Accept(Acceptance::ending(Outcome::failed("InternalServerError", "it broke")));
    world.simulator.on_post(&ids[0], [failed]);
    let old = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(old, HOUR).await;
    let new = world.publish(json!({"version": "1.6.0", "strategy": one_wave()})).await;
    assert_eq!(world.settle(new, HOUR).await["counts"]["succeeded"], 3);
    world.steer(old, "retry").await;
    let done = world.settle(old, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["skipped"]), (&json!("completed"), &json!(1)), "{done}");
    assert_eq!(world.simulator.refreshed_to(&ids[0]).as_deref(), Some("1.6.0"));
    world.appears(&application(50)).await;
    world.pass(HOUR).await;
    assert_eq!(world.simulator.refreshed_to(&application(50)).as_deref(), Some("1.6.0"), "1.6.0 is what is wanted");
}

#[tokio::test]
async fn late_joiners_of_a_rollout_that_found_nobody_are_its_canaries() {
    let world = World::new().await;
    let id = world.publish(json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["total"], 0);
    world.simulator.bad_version("1.5.0", "Microsoft.Foo/bars/secret/action");
    world.deploy(100).await;
    world.pass(HOUR).await;
    let halted = world.rollout(id).await;
    assert_eq!((&halted["state"], world.simulator.stats().posts), (&json!("halted"), 1), "{halted}");
}
