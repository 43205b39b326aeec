//! A handler that is held up at any of its steps, for longer than it has what it took: the store or the queue is slow, or the
//! machine slept. Another one goes on in its place, and the first comes back too late.

use std::time::Duration;

use permafresh::arm::simulator::{OnPoll, Reply};
use permafresh::rollout::RolloutState;
use permafresh::rollout::refresh::{CLAIM, LEASE};
use serde_json::json;

use super::scene::{LOCK, Scene};
use crate::faults::{Decision, Fault, Faults};
use crate::world::{Options, invoke_message, invoke_timer};

async fn one() -> Scene {
    let options = Options { operation: Duration::from_secs(600), ..Options::default() };
    Scene::with_all_sound(options, 1, json!({"canaries": 0, "waves": ["100%"]})).await
}

#[tokio::test]
async fn a_handler_that_was_held_up_until_another_has_posted_posts_nothing() {
    let mut posted_too_late = 0;
    for at in 1.. {
        let scene = one().await;
        let faults = Faults::none();
        let (slow, other) = (scene.handler(&faults), scene.sound_handler());
        let id = scene.post_publish(&other).await;
        scene.deliver_from(&other, "rollouts", "PlanRollout").await;
        let message = scene.world.queue.receive("refreshes", 1, LOCK).await.unwrap().remove(0);
        faults.park_at(at);
        let first = invoke_message(&slow, "RefreshDeployment", &message.body);
        tokio::pin!(first);
        tokio::select! {
            biased;
            () = faults.parked() => {}
            _ = &mut first => {
                assert!(at > 6 && posted_too_late > 0, "the step has {} calls: nothing was looked at", at - 1);
                return;
            }
        }
        let posts_before = scene.world.simulator.stats().posts;
        scene.world.advance(LEASE);
        scene.run_due(&other).await;
        faults.let_go();
        assert!(first.await.is_success(), "at step {at}");
        assert_eq!(scene.settle(&other, id).await, RolloutState::Completed, "at step {at}");
        // Whoever was held up behind the POST had ARM's answer, which nobody knows.
        let stats = scene.world.simulator.stats();
        assert_eq!((stats.operations, stats.overlapping_operations), (1 + posts_before, posts_before), "at step {at}");
        posted_too_late += posts_before;
    }
}

#[tokio::test]
async fn a_wait_that_arm_named_is_kept_although_it_cannot_be_noted_for_the_subscription() {
    let scene = one().await;
    let faults = Faults::none();
    let router = scene.handler(&faults);
    let id = scene.post_publish(&router).await;
    scene.run_due(&router).await;
    scene.world.simulator.on_poll(&scene.ids[0], [OnPoll::Reply(Reply::throttled(500))]);
    scene.world.advance(Duration::from_secs(15));
    faults.set(Fault::OutageOf { name: "throttle", after: 0 });
    invoke_timer(&router, "PollOperations", None).await;
    assert_eq!((scene.world.simulator.stats().polls, faults.failures()), (1, 1));
    // Another handler, which has nothing of it in its memory.
    let other = scene.sound_handler();
    assert_eq!(scene.settle(&other, id).await, RolloutState::Completed);
    assert_eq!(scene.world.simulator.stats().impatient_polls, 0);
}

#[tokio::test]
async fn a_handler_that_was_held_up_while_it_claimed_asks_for_nothing() {
    let scene = one().await;
    let faults = Faults::none();
    let (slow, other) = (scene.handler(&faults), scene.sound_handler());
    let id = scene.post_publish(&other).await;
    scene.run_due(&other).await;
    scene.world.advance(Duration::from_secs(15));
    let mut claims = 0;
    faults.follow(move |_, name| {
        claims += u32::from(name == "save_refreshes");
        (name != "save_refreshes" || claims != 1).then_some(Decision::Do)
    });
    let first = invoke_timer(&slow, "PollOperations", None);
    tokio::pin!(first);
    tokio::select! {
        biased;
        () = faults.parked() => {}
        _ = &mut first => panic!("nothing was claimed"),
    }
    // So long that the claim is over before it is stored. The store takes it, since nobody else came meanwhile.
    scene.world.advance(CLAIM);
    faults.let_go();
    assert!(first.await.is_success());
    assert_eq!(scene.world.simulator.stats().polls, 0);
    assert_eq!(scene.settle(&other, id).await, RolloutState::Completed);
}
