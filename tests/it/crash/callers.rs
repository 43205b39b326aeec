//! The handler dies while somebody waits for its answer: a publish, a command, a notification. Who got no answer asks
//! again, and it is as if nothing had happened.

use std::cell::Cell;

use axum::Router;
use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome};
use permafresh::rollout::{Plan, RolloutId, RolloutState, WantedVersion};
use permafresh::store::document;
use serde_json::{Value, json};

use super::scene::{LOCK, Scene, post};
use crate::faults::{Faults, Moment};
use crate::world::{SIG, application, publish};

const MANY: usize = 100;
const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// Does `ask` with a handler that dies at each effect in turn, and then once more with a sound one. `scene` makes the world
/// before, `check` looks at what came of it. Returns how often a handler died.
async fn sweep<S, A, C>(scene: S, ask: A, check: C) -> usize
where
    S: AsyncFn() -> Scene,
    A: AsyncFn(&Scene, &Router),
    C: AsyncFn(&Scene, &str),
{
    let mut deaths = 0;
    for moment in MOMENTS {
        for effect in 1.. {
            assert!(effect < MANY, "the handler never lives");
            let scene = scene().await;
            let faults = Faults::death_at(effect, moment);
            let lived = faults.until_death(ask(&scene, &scene.handler(&faults))).await.is_some();
            if !lived {
                ask(&scene, &scene.sound_handler()).await;
            }
            check(&scene, &format!("died {moment:?} effect {effect}")).await;
            if lived {
                break;
            }
            deaths += 1;
        }
    }
    deaths
}

/// Rollouts of which at most two refreshes are on their way.
fn two_at_once() -> Value {
    json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 2, "maxFailures": "100%"})
}

async fn wanted(scene: &Scene) -> Option<String> {
    let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
    document::get::<WantedVersion>(&*scene.world.store, &plan.to_string())
        .await
        .unwrap()?
        .value
        .version
        .map(|version| version.to_string())
}

async fn only_rollout(scene: &Scene) -> RolloutId {
    let rollouts = scene.rollouts().await;
    assert_eq!(rollouts.len(), 1);
    rollouts[0]
}

#[tokio::test]
async fn a_publish_that_was_not_answered_is_one_rollout_when_it_is_posted_again() {
    let deaths = sweep(
        async || {
            let mut scene = Scene::of(1, two_at_once()).await;
            // As Partner Center knows it: by its submission.
            scene.publish["submissionId"] = json!("1152921505690112299");
            scene
        },
        async |scene, router| _ = scene.post_publish(router).await,
        async |scene, context| {
            let id = only_rollout(scene).await;
            // The same publish once more, as CI knows it.
            let again = publish(json!({}));
            let (status, answer) = post(&scene.sound_handler(), "/api/offer-publishes", &again).await;
            assert_eq!((status, &answer["duplicateOf"]), (StatusCode::OK, &json!(id)), "{context}: {answer}");
            assert_eq!(scene.settle(&scene.sound_handler(), id).await, RolloutState::Completed, "{context}");
            assert_eq!(scene.world.simulator.stats().posts, 1, "{context}");
        },
    )
    .await;
    assert!(deaths >= 8, "claim, joining claim, rollout, message: {deaths}");
}

#[tokio::test]
async fn a_publish_that_supersedes_does_so_although_the_handler_dies() {
    let first = Cell::new(None);
    let deaths = sweep(
        async || {
            let mut scene = Scene::of(4, two_at_once()).await;
            let router = scene.sound_handler();
            first.set(Some(scene.post_publish(&router).await));
            scene.run_due(&router).await;
            assert_eq!(wanted(&scene).await.as_deref(), Some("1.5.0"));
            scene.world.advance(std::time::Duration::from_secs(1));
            scene.publish = publish(json!({"version": "1.6.0", "supersede": true, "strategy": two_at_once()}));
            scene
        },
        async |scene, router| _ = scene.post_publish(router).await,
        async |scene, context| {
            let rollouts = scene.rollouts().await;
            let (first, second) = (first.get().unwrap(), rollouts[0]);
            assert_eq!(rollouts, [second, first], "{context}");
            let router = scene.sound_handler();
            // What the death cut off is done at the latest before the second one begins.
            scene.run_due(&router).await;
            let superseded = RolloutState::Canceled { superseded_by: Some(second) };
            assert_eq!(scene.state(first).await, superseded, "{context}");
            assert_eq!(wanted(scene).await.as_deref(), Some("1.6.0"), "{context}: raised by the second one alone");
            assert_eq!(scene.settle(&router, second).await, RolloutState::Completed, "{context}");
            assert_eq!(scene.ending(second).await.counts.total, 4, "{context}");
            assert_eq!(scene.ending(first).await.counts.total, 4, "{context}");
            assert_eq!(wanted(scene).await.as_deref(), Some("1.6.0"), "{context}");
        },
    )
    .await;
    assert!(deaths >= 12, "{deaths}");
}

#[tokio::test]
async fn a_claim_whose_rollout_was_never_stored_gives_no_right_to_start_beside_another() {
    let scene = Scene::of(2, two_at_once()).await;
    let faults = Faults::death_at(1, Moment::After);
    let lived = faults.until_death(scene.post_publish(&scene.handler(&faults))).await;
    assert_eq!((lived, scene.rollouts().await), (None, Vec::new()));
    let router = scene.sound_handler();
    let (status, other) = post(&router, "/api/offer-publishes", &publish(json!({"version": "1.6.0"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, refused) = post(&router, "/api/offer-publishes", &scene.publish).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains(other["rolloutId"].as_str().unwrap()), "{refused}");
}

#[tokio::test]
async fn a_halt_takes_the_wanted_version_back_although_the_handler_dies() {
    let deaths = sweep(
        async || {
            let scene = Scene::of(3, json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"})).await;
            let blamed = || OnPost::Accept(Acceptance::ending(Outcome::bad_action("Contoso.Void/nothing/action")));
            scene.world.simulator.on_post(&scene.ids[0], [blamed(), blamed()]);
            let router = scene.sound_handler();
            let id = scene.post_publish(&router).await;
            scene.run_due(&router).await;
            assert_eq!(
                (scene.state(id).await, wanted(&scene).await.as_deref()),
                (RolloutState::Running, Some("1.5.0"))
            );
            scene
        },
        async |scene, router| _ = scene.settle(router, only_rollout(scene).await).await,
        async |scene, context| {
            let state = scene.state(only_rollout(scene).await).await;
            assert!(
                matches!(&state, RolloutState::Halted { why } if why.contains("Contoso.Void")),
                "{context}: {state:?}"
            );
            assert_eq!(wanted(scene).await, None, "{context}");
        },
    )
    .await;
    assert!(deaths >= 6, "{deaths}");
}

/// A rollout with two of six refreshes on their way.
async fn under_way() -> Scene {
    let scene = Scene::of(6, two_at_once()).await;
    let router = scene.sound_handler();
    scene.post_publish(&router).await;
    scene.run_due(&router).await;
    scene
}

async fn command(scene: &Scene, router: &Router, command: &str) {
    let path = format!("/api/rollouts/{}/{command}", only_rollout(scene).await);
    let (status, answer) = post(router, &path, &Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn a_pause_that_was_not_answered_pauses_when_it_is_given_again() {
    let deaths = sweep(
        async || under_way().await,
        async |scene, router| command(scene, router, "pause").await,
        async |scene, context| {
            let id = only_rollout(scene).await;
            let router = scene.sound_handler();
            assert!(matches!(scene.state(id).await, RolloutState::Paused { .. }), "{context}");
            let posts = scene.world.simulator.stats().posts;
            run_hours(scene, &router, 2).await;
            assert_eq!(scene.world.simulator.stats().posts, posts, "{context}");
            command(scene, &router, "resume").await;
            assert_eq!(scene.settle(&router, id).await, RolloutState::Completed, "{context}");
            assert_eq!(scene.ending(id).await.counts.succeeded, 5, "{context}");
        },
    )
    .await;
    assert_eq!(deaths, 6, "a pause is one effect, between the two of its audit entry");
}

#[tokio::test]
async fn a_resume_that_was_not_answered_goes_on_when_it_is_given_again() {
    let deaths = sweep(
        async || {
            let scene = under_way().await;
            command(&scene, &scene.sound_handler(), "pause").await;
            // Those on their way end, so that resuming releases others.
            run_hours(&scene, &scene.sound_handler(), 1).await;
            scene
        },
        async |scene, router| command(scene, router, "resume").await,
        async |scene, context| {
            let id = only_rollout(scene).await;
            assert_eq!(scene.settle(&scene.sound_handler(), id).await, RolloutState::Completed, "{context}");
            assert_eq!(scene.ending(id).await.counts.succeeded, 5, "{context}");
            assert_eq!(scene.world.simulator.stats().operations, 6, "{context}");
        },
    )
    .await;
    assert!(deaths >= 6, "rollout, released refreshes, their messages: {deaths}");
}

#[tokio::test]
async fn a_cancel_that_was_not_answered_cancels_when_it_is_given_again() {
    let deaths = sweep(
        async || under_way().await,
        async |scene, router| command(scene, router, "cancel").await,
        async |scene, context| {
            let id = only_rollout(scene).await;
            assert_eq!(scene.state(id).await, RolloutState::Canceled { superseded_by: None }, "{context}");
            assert_eq!(wanted(scene).await, None, "{context}");
            run_hours(scene, &scene.sound_handler(), 1).await;
            let counts = scene.ending(id).await.counts;
            assert_eq!((counts.canceled, counts.total), (4, 6), "{context}");
            assert_eq!(scene.world.simulator.stats().operations, 2, "{context}");
        },
    )
    .await;
    assert!(deaths >= 4, "{deaths}");
}

#[tokio::test]
async fn a_cancel_that_nobody_repeats_still_takes_the_wanted_version_back() {
    for moment in MOMENTS {
        for effect in 1..4 {
            let scene = under_way().await;
            let faults = Faults::death_at(effect, moment);
            faults.until_death(command(&scene, &scene.handler(&faults), "cancel")).await;
            if matches!(scene.state(only_rollout(&scene).await).await, RolloutState::Canceled { .. }) {
                assert_eq!(wanted(&scene).await, None, "died {moment:?} effect {effect}");
            }
        }
    }
}

#[tokio::test]
async fn a_retry_that_was_not_answered_tries_again_once_when_it_is_given_again() {
    let deaths = sweep(
        async || {
            let scene = Scene::of(3, json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"})).await;
            let failed = || OnPost::Accept(Acceptance::ending(Outcome::failed("InternalServerError", "it broke")));
            scene.world.simulator.on_post(&scene.ids[0], [failed()]);
            let router = scene.sound_handler();
            let id = scene.post_publish(&router).await;
            scene.settle(&router, id).await;
            assert_eq!(scene.ending(id).await.counts.failed, 2);
            scene
        },
        async |scene, router| command(scene, router, "retry").await,
        async |scene, context| {
            let id = only_rollout(scene).await;
            assert_eq!(scene.settle(&scene.sound_handler(), id).await, RolloutState::Completed, "{context}");
            let counts = scene.ending(id).await.counts;
            assert_eq!((counts.succeeded, counts.failed), (2, 1), "{context}");
            let operations: Vec<u32> = scene.operations().into_values().collect();
            assert_eq!(operations, [2, 1, 2], "{context}: a retry that is given twice is one");
        },
    )
    .await;
    assert!(deaths >= 6, "{deaths}");
}

#[tokio::test]
async fn a_retry_that_nobody_repeats_leaves_no_rollout_ended_with_work_to_do() {
    // The first effect is its audit entry, after which nothing has happened yet.
    for effect in 2..7 {
        let scene = Scene::of(3, json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"})).await;
        let router = scene.sound_handler();
        let id = scene.post_publish(&router).await;
        scene.settle(&router, id).await;
        let faults = Faults::death_at(effect, Moment::After);
        faults.until_death(command(&scene, &scene.handler(&faults), "retry")).await;
        run_hours(&scene, &router, 1).await;
        assert_eq!(scene.state(id).await, RolloutState::Completed, "died after effect {effect}");
        assert_eq!(scene.operations().into_values().collect::<Vec<_>>(), [1, 1, 2], "died after effect {effect}");
        scene.ending(id).await;
    }
}

/// What ARM posts when the application of number 9 was made.
async fn notify(router: &Router) -> StatusCode {
    let body = json!({
        "eventType": "PUT", "applicationId": application(9), "eventTime": "2026-03-10T11:59:00Z",
        "provisioningState": "Succeeded",
        "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"}
    });
    post(router, &format!("/api/notification/resource?sig={SIG}"), &body).await.0
}

#[tokio::test]
async fn a_notification_that_was_not_answered_comes_again_and_the_deployment_is_checked() {
    let deaths = sweep(
        async || {
            let scene = Scene::of(1, two_at_once()).await;
            scene.world.simulator.add_application(ApplicationSpec::new(application(9)));
            scene
        },
        async |scene, router| {
            assert_eq!(notify(router).await, StatusCode::OK);
            scene.run_due(router).await;
        },
        async |scene, context| {
            run_hours(scene, &scene.sound_handler(), 1).await;
            let known = scene.world.store.deployments_by_key(&[application(9).key()]).await.unwrap();
            let known = known[0].as_ref().expect(context).value.clone();
            assert_eq!((known.confirmed, known.check), (true, None), "{context}");
            assert_eq!(known.provisioning_state.as_deref(), Some("Succeeded"), "{context}");
            scene.world.assert_no_dead_letters().await;
        },
    )
    .await;
    assert!(deaths >= 6, "deployment, message, checked deployment: {deaths}");
}

#[tokio::test]
async fn a_notification_that_never_comes_again_is_checked_once_it_was_stored() {
    let scene = Scene::of(1, two_at_once()).await;
    scene.world.simulator.add_application(ApplicationSpec::new(application(9)));
    let faults = Faults::death_at(1, Moment::After);
    assert_eq!(faults.until_death(notify(&scene.handler(&faults))).await, None);
    assert_eq!(scene.world.queue.receive("refreshes", 1, LOCK).await.unwrap(), []);
    run_hours(&scene, &scene.sound_handler(), 1).await;
    let known = scene.world.store.deployments_by_key(&[application(9).key()]).await.unwrap();
    assert!(known[0].as_ref().unwrap().value.confirmed);
}

/// Lets time pass.
async fn run_hours(scene: &Scene, router: &Router, hours: u32) {
    for _ in 0..hours * 20 {
        scene.run_due(router).await;
        scene.world.advance(std::time::Duration::from_secs(180));
    }
    scene.run_due(router).await;
}
