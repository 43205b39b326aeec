//! What must hold whatever runs in between: each test stops one call at every one of its steps in turn (each call of the
//! store and each sending of a message), lets another run to its end meanwhile, and then lets the first go on.
//!
//! Nothing here is left to chance: a sweep goes through all places, and ends with the first that is behind the last step.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome};
use permafresh::rollout::{Plan, RolloutId, WantedVersion};
use permafresh::store::document;
use serde_json::{Value, json};

use crate::crash::scene::{Scene, post};
use crate::faults::{Fault, Faults};
use crate::processes::PATIENCE;
use crate::world::{Options, SIG, World, application, invoke_message, invoke_timer, publish};

const HOUR: Duration = Duration::from_secs(3_600);
const LOCK: Duration = Duration::from_secs(300);
/// No call that is looked at here has so many steps.
const MANY: usize = 200;

/// A world with some deployments, all sound, in which `prepare` has done what comes before.
async fn scene(deployments: usize) -> Scene {
    let options = Options { operation: Duration::from_secs(20), ..Options::default() };
    Scene::with_all_sound(options, deployments, json!({"canaries": 0, "waves": ["100%"]})).await
}

/// Stops `first` at its step `at`, runs `second` meanwhile, and lets `first` go on. `None` if it has no such step.
pub async fn between<A, B>(
    faults: &Faults,
    at: usize,
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Option<(A, B)> {
    faults.park_at(at);
    tokio::pin!(first);
    tokio::select! {
        biased;
        () = faults.parked() => {}
        _ = &mut first => return None,
    }
    let second = second.await;
    faults.let_go();
    Some((first.await, second))
}

/// Goes through every step of the first call of `run`, which says whether there was such a step.
pub async fn sweep<F: Future<Output = bool>>(run: impl Fn(usize) -> F) {
    for at in 1..MANY {
        if !run(at).await {
            assert!(at > 3, "the call has {} steps only: nothing was looked at", at - 1);
            return;
        }
    }
    panic!("a call of more than {MANY} steps");
}

/// One message of a queue, taken and not given back.
async fn take(world: &World, queue: &str) -> Vec<u8> {
    world.queue.receive(queue, 1, LOCK).await.unwrap().remove(0).body
}

async fn steer(router: &Router, id: RolloutId, word: &str) -> (StatusCode, Value) {
    post(router, &format!("/api/rollouts/{id}/{word}"), &Value::Null).await
}

async fn wanted(world: &World) -> Option<String> {
    let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
    let wanted = document::get::<WantedVersion>(&*world.store, &plan.to_string()).await.unwrap()?;
    wanted.value.version.map(|version| version.to_string())
}

fn id_of(answer: &Value) -> RolloutId {
    answer["rolloutId"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

#[tokio::test]
async fn the_same_publish_while_it_is_being_taken_is_one_rollout() {
    sweep(|at| async move {
        let scene = scene(2).await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let body = &scene.publish;
        let ask = |router| post(router, "/api/offer-publishes", body);
        let Some(((_, first), (_, second))) = between(&faults, at, ask(&slow), ask(&other)).await else { return false };
        assert_eq!(id_of(&first), id_of(&second), "at step {at}");
        let done = scene.world.settle(id_of(&first), HOUR).await;
        assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(2)), "at step {at}");
        assert_eq!(scene.world.simulator.stats().posts, 2, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn two_versions_published_at_once_never_run_beside_each_other() {
    sweep(|at| async move {
        let scene = scene(3).await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let newer = publish(json!({"version": "1.6.0", "strategy": {"canaries": 0, "waves": ["100%"]}}));
        let first = post(&slow, "/api/offer-publishes", &scene.publish);
        let second = post(&other, "/api/offer-publishes", &newer);
        let Some(answers) = between(&faults, at, first, second).await else { return false };
        let taken: Vec<_> =
            [answers.0, answers.1].into_iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).collect();
        assert!(!taken.is_empty(), "at step {at}: one of them is first");
        for (_, answer) in &taken {
            let done = scene.world.settle(id_of(answer), HOUR).await;
            assert_eq!(
                (&done["state"], &done["counts"]["total"]),
                (&json!("completed"), &json!(3)),
                "at step {at}: {done}"
            );
        }
        assert_eq!(scene.world.simulator.stats().overlapping_operations, 0, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_was_answered_before_the_post_was_due_is_obeyed() {
    let of = |word| move |id: RolloutId| format!("/api/rollouts/{id}/{word}");
    assert_eq!(posts_after_the_answer(of("pause"), of("resume")).await, 0);
}

/// The rollout is read behind the switch, so at one step, and at no other, the switch was read already.
#[tokio::test]
async fn a_stop_that_was_answered_before_the_last_look_at_the_rollout_is_obeyed() {
    assert_eq!(posts_after_the_answer(|_| "/api/stop".to_owned(), |_| "/api/start".to_owned()).await, 1);
}

/// At how many steps of a refresh it is still posted although it was held before; each time it ends well once it goes on.
async fn posts_after_the_answer(
    hold: impl Fn(RolloutId) -> String + Copy,
    go_on: impl Fn(RolloutId) -> String + Copy,
) -> u64 {
    let late = Cell::new(0);
    let late_ones = &late;
    sweep(|at| async move {
        let scene = scene(1).await;
        let world = &scene.world;
        let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"]}})).await;
        assert_eq!(invoke_message(&scene.sound_handler(), "PlanRollout", &take(world, "rollouts").await).await, 200);
        let message = take(world, "refreshes").await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let step = invoke_message(&slow, "RefreshDeployment", &message);
        let held = async {
            let posted = world.simulator.stats().posts;
            (posted, post(&other, &hold(id), &json!({})).await)
        };
        let Some((_, (posted, (status, answer)))) = between(&faults, at, step, held).await else { return false };
        assert_eq!(status, StatusCode::OK, "at step {at}: {answer}");
        let posted_in_the_end = world.simulator.stats().posts;
        late_ones.set(late_ones.get() + posted_in_the_end - posted);
        world.advance(HOUR);
        world.run_due().await;
        assert_eq!(world.simulator.stats().posts, posted_in_the_end, "at step {at}: held");
        post(&other, &go_on(id), &json!({})).await;
        let done = world.settle(id, HOUR).await;
        assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(1)), "at step {at}");
        assert_eq!(world.simulator.operations_of(&application(0)), 1, "at step {at}: posted once");
        true
    })
    .await;
    late.get()
}

/// A completed rollout of three, one of which failed and will be well the next time.
async fn with_a_failure() -> (Scene, RolloutId) {
    let scene = scene(3).await;
    let failed = OnPost::Accept(Acceptance::ending(Outcome::failed("InternalServerError", "it broke")));
    scene.world.simulator.on_post(&scene.ids[0], [failed]);
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"});
    let id = scene.world.publish(json!({"strategy": strategy})).await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["failed"], 1);
    (scene, id)
}

#[tokio::test]
async fn a_retry_during_a_retry_tries_each_failure_once() {
    sweep(|at| async move {
        let (scene, id) = with_a_failure().await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let both = between(&faults, at, steer(&slow, id, "retry"), steer(&other, id, "retry")).await;
        let Some(((first, _), (second, _))) = both else { return false };
        assert_eq!((first, second), (StatusCode::OK, StatusCode::OK), "at step {at}");
        let done = scene.world.settle(id, HOUR).await;
        assert_eq!(
            (&done["state"], &done["counts"]["succeeded"]),
            (&json!("completed"), &json!(3)),
            "at step {at}: {done}"
        );
        assert_eq!(scene.world.simulator.stats().posts, 4, "at step {at}");
        true
    })
    .await;
}

/// Paused over its budget after the first of three; the last wave needs an approval.
async fn over_budget_before_approval() -> (Scene, RolloutId) {
    let scene = scene(3).await;
    for id in &scene.ids {
        let failed = OnPost::Accept(Acceptance::ending(Outcome::failed("InternalServerError", "it broke")));
        scene.world.simulator.on_post(id, [failed]);
    }
    let strategy = json!({"canaries": 0, "waves": [1, "100%"], "maxFailures": 0, "approveLastWave": true});
    let id = scene.world.publish(json!({"strategy": strategy})).await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["failed"], 1);
    (scene, id)
}

#[tokio::test]
async fn a_resume_that_is_given_twice_never_approves_the_last_wave() {
    sweep(|at| async move {
        let (scene, id) = over_budget_before_approval().await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let second = async {
            let answer = steer(&other, id, "resume").await;
            (answer, scene.world.settle(id, HOUR).await)
        };
        let both = between(&faults, at, steer(&slow, id, "resume"), second).await;
        let Some(((late, answer), _)) = both else { return false };
        assert!(matches!(late, StatusCode::OK | StatusCode::CONFLICT), "at step {at}: {answer}");
        scene.world.advance(HOUR);
        let rested = scene.world.settle(id, HOUR).await;
        let why = rested["why"].as_str().unwrap_or_default();
        assert!(why.contains("waits for approval"), "at step {at}: {rested}");
        assert_eq!(scene.world.simulator.stats().posts, 1, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn an_approval_during_an_approval_is_one() {
    sweep(|at| async move {
        let (scene, id) = over_budget_before_approval().await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        steer(&other, id, "resume").await;
        scene.world.settle(id, HOUR).await;
        let slow = scene.handler(&faults);
        let both = between(&faults, at, steer(&slow, id, "approve"), steer(&other, id, "approve")).await;
        let Some(((first, _), (second, _))) = both else { return false };
        assert_eq!((first, second), (StatusCode::OK, StatusCode::OK), "at step {at}");
        let rested = scene.world.settle(id, HOUR).await;
        assert_eq!((&rested["counts"]["failed"], &rested["wave"]), (&json!(3), &json!(2)), "at step {at}: {rested}");
        assert_eq!(scene.world.simulator.stats().posts, 3, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn a_cancel_during_a_resume_and_a_resume_during_a_cancel_end_canceled() {
    for (first, second) in [("resume", "cancel"), ("cancel", "resume")] {
        sweep(|at| async move {
            let scene = scene(4).await;
            let world = &scene.world;
            let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 1}})).await;
            world.run_due().await;
            steer(&scene.sound_handler(), id, "pause").await;
            let (faults, other) = (Faults::none(), scene.sound_handler());
            let slow = scene.handler(&faults);
            let answers = between(&faults, at, steer(&slow, id, first), steer(&other, id, second)).await;
            let Some(((slow_status, _), (other_status, _))) = answers else { return false };
            let of = |word| if first == word { slow_status } else { other_status };
            assert_eq!(of("cancel"), StatusCode::OK, "at step {at} of {first}");
            assert!(matches!(of("resume"), StatusCode::OK | StatusCode::CONFLICT), "at step {at} of {first}");
            world.run_due().await;
            world.advance(HOUR);
            world.run_due().await;
            let ended = world.rollout(id).await;
            assert_eq!(ended["state"], "canceled", "at step {at} of {first}: {ended}");
            let counts = &ended["counts"];
            let sum = counts["succeeded"].as_u64().unwrap() + counts["canceled"].as_u64().unwrap();
            assert_eq!(sum, 4, "at step {at} of {first}: {ended}");
            assert_eq!(wanted(world).await, None, "at step {at} of {first}: a canceled rollout raises nothing");
            true
        })
        .await;
    }
}

#[tokio::test]
async fn the_planner_twice_at_once_plans_each_deployment_once_and_calls_no_more_than_may_be() {
    sweep(|at| async move {
        let scene = scene(8).await;
        let world = &scene.world;
        let id = world.publish(json!({"strategy": {"canaries": 2, "waves": ["50%"], "maxInFlight": 2}})).await;
        let message = take(world, "rollouts").await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let first = invoke_message(&slow, "PlanRollout", &message);
        let second = invoke_message(&other, "PlanRollout", &message);
        if between(&faults, at, first, second).await.is_none() {
            return false;
        }
        world.deliver().await;
        assert!(world.simulator.stats().posts <= 2, "at step {at}: {} canaries", world.simulator.stats().posts);
        let done = world.settle(id, 2 * HOUR).await;
        assert_eq!(
            (&done["state"], &done["counts"]["succeeded"]),
            (&json!("completed"), &json!(8)),
            "at step {at}: {done}"
        );
        assert_eq!(world.simulator.stats().posts, 8, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn a_cancel_while_the_planner_begins_leaves_nothing_wanted_and_nobody_called() {
    sweep(|at| async move {
        let scene = scene(3).await;
        let world = &scene.world;
        let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"]}})).await;
        let message = take(world, "rollouts").await;
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let planned = invoke_message(&slow, "PlanRollout", &message);
        if between(&faults, at, planned, steer(&other, id, "cancel")).await.is_none() {
            return false;
        }
        world.run_due().await;
        world.advance(HOUR);
        world.run_due().await;
        let ended = world.rollout(id).await;
        assert_eq!((&ended["state"], world.simulator.stats().posts), (&json!("canceled"), 0), "at step {at}: {ended}");
        assert_eq!(wanted(world).await, None, "at step {at}");
        assert_eq!(ended["counts"]["queued"], 0, "at step {at}: {ended}");
        true
    })
    .await;
}

#[tokio::test]
async fn a_halt_while_the_next_wave_starts_stops_that_wave() {
    sweep(|at| async move {
        // The first two of the wave are posted; one ends well and starts nothing yet, the other will blame the offer.
        let scene = scene(8).await;
        let world = &scene.world;
        let mut ids = scene.ids.clone();
        ids.sort_by_key(permafresh::rollout::ApplicationId::key);
        let late = Acceptance {
            outcome: Outcome::bad_action("Microsoft.Foo/bars/secret/action"),
            duration: Some(Duration::from_secs(40)),
            ..Acceptance::default()
        };
        world.simulator.on_post(&ids[0], [OnPost::Accept(late)]);
        let strategy = json!({"canaries": 0, "waves": [2, "100%"], "maxFailures": "100%", "maxInFlight": 1});
        let id = world.publish(json!({"strategy": strategy})).await;
        world.run_due().await;
        for _ in 0..2 {
            world.advance(Duration::from_secs(15));
            world.run_due().await;
        }
        world.advance(Duration::from_secs(15));
        // The tick of one handler learns of the failure, while another is anywhere in its own.
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let first = invoke_timer(&slow, "PollOperations", None);
        let second = async {
            invoke_timer(&other, "PollOperations", None).await;
            scene.deliver(&other).await;
        };
        if between(&faults, at, first, second).await.is_none() {
            return false;
        }
        world.run_due().await;
        world.advance(HOUR);
        world.run_due().await;
        let halted = world.rollout(id).await;
        assert_eq!(halted["state"], "halted", "at step {at}: {halted}");
        assert!(world.simulator.stats().posts <= 2, "at step {at}: {} were posted", world.simulator.stats().posts);
        assert_eq!(wanted(world).await, None, "at step {at}: what was halted is not wanted");
        true
    })
    .await;
}

#[tokio::test]
async fn a_late_joiner_that_comes_while_the_rollout_ends_is_refreshed_once() {
    sweep(|at| async move {
        let scene = scene(2).await;
        let world = &scene.world;
        let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"]}})).await;
        // Until the last operation is about to end.
        while world.rollout(id).await["wave"] != 2 || world.rollout(id).await["counts"]["running"] == 0 {
            world.run_due().await;
            world.advance(Duration::from_secs(1));
        }
        world.advance(Duration::from_secs(30));
        let (faults, other) = (Faults::none(), scene.sound_handler());
        let slow = scene.handler(&faults);
        let first = invoke_timer(&slow, "PollOperations", None);
        let second = async {
            world.simulator.add_application(ApplicationSpec::new(application(50)));
            let plan = json!({"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"});
            let body = json!({"eventType": "PUT", "applicationId": application(50), "eventTime": world.now(),
                "provisioningState": "Succeeded", "plan": plan});
            let (status, _) = post(&other, &format!("/api/notification/resource?sig={SIG}"), &body).await;
            assert_eq!(status, StatusCode::OK);
            scene.deliver(&other).await;
            invoke_timer(&other, "PollOperations", None).await
        };
        if between(&faults, at, first, second).await.is_none() {
            return false;
        }
        for _ in 0..20 {
            world.run_due().await;
            world.advance(Duration::from_secs(15));
        }
        let done = world.rollout(id).await;
        assert_eq!(
            (&done["state"], &done["counts"]["succeeded"]),
            (&json!("completed"), &json!(3)),
            "at step {at}: {done}"
        );
        assert_eq!(world.simulator.posts_of(&application(50)), 1, "at step {at}");
        true
    })
    .await;
}

#[tokio::test]
async fn looks_go_on_while_more_are_claimed_since_the_claim_may_wait_for_one_of_them() {
    // So many that the second claim follows the first at once, with the looks of the first under way.
    let scene = scene(130).await;
    let world = &scene.world;
    let id = scene.post_publish(&scene.sound_handler()).await;
    world.run_due().await;
    world.advance(Duration::from_secs(15));
    let faults = Faults::new(Fault::SecondAfterThird { name: "save_refreshes" });
    let waiting = scene.handler(&faults);
    let tick = invoke_timer(&waiting, "PollOperations", None);
    let ticked = tokio::time::timeout(PATIENCE, tick).await;
    assert_eq!(ticked.ok(), Some(StatusCode::OK), "the second claim waits for ever for a look that nobody drives");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(130)));
    assert_eq!(world.simulator.stats().posts, 130);
}

#[tokio::test]
async fn a_stopped_call_holds_up_nobody_and_goes_on_where_it_was() {
    let scene = scene(1).await;
    let (faults, other) = (Faults::none(), scene.sound_handler());
    let slow = scene.handler(&faults);
    let body = &scene.publish;
    let ask = |router: &Router| {
        let router = router.clone();
        async move { post(&router, "/api/offer-publishes", body).await.0 }
    };
    let both = between(&faults, 1, ask(&slow), ask(&other)).await;
    assert_eq!(both, Some((StatusCode::OK, StatusCode::ACCEPTED)), "the second came first");
    assert!(between(&faults, MANY, ask(&slow), ask(&other)).await.is_none(), "there are not so many steps");
}
