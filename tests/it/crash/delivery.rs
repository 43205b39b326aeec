//! Messages that come twice and at once, late, in another order, or never. The timer finds what never came.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::ApplicationSpec;
use permafresh::queue::Queue;
use permafresh::rollout::RolloutState;
use serde_json::json;

use super::scene::{LOCK, Scene, post};
use crate::faults::{Fate, FaultyQueue, mixed};
use crate::world::{SIG, application};

/// Runs a rollout of eight with a post office that does as `plan` says, and expects the end of one that did not. Returns
/// the post office.
async fn run(context: &str, plan: impl FnMut() -> Fate + Send + 'static) -> Arc<FaultyQueue> {
    let strategy = json!({"canaries": 1, "waves": ["50%", "100%"], "maxFailures": "100%", "maxInFlight": 3});
    let expected = {
        let scene = Scene::of(8, strategy.clone()).await;
        let router = scene.sound_handler();
        let id = scene.post_publish(&router).await;
        scene.settle(&router, id).await;
        scene.ending(id).await
    };
    let mut scene = Scene::of(8, strategy).await;
    let id = scene.post_publish(&scene.sound_handler()).await;
    let office = FaultyQueue::delivering(&scene.world.queue, plan);
    scene.world.queue = Arc::clone(&office) as Arc<dyn Queue>;
    scene.world.settle(id, Duration::from_secs(48 * 3_600)).await;
    assert_eq!(scene.ending(id).await, expected, "{context}");
    assert!(scene.operations().values().all(|count| *count == 1), "{context}: {:?}", scene.operations());
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.impatient_polls, stats.impatient_posts, stats.overlapping_operations), (0, 0, 0), "{context}");
    scene.world.assert_no_dead_letters().await;
    office
}

#[tokio::test]
async fn every_message_may_come_three_times_at_once() {
    let office = run("in copies", || Fate::Copies(3)).await;
    assert!(office.count(|fate| *fate == Fate::Copies(3)) >= 10);
}

#[tokio::test]
async fn every_message_may_come_late_and_once_more_in_its_place() {
    // 40 askings take longer than the lock, so that the message itself comes first.
    for askings in [1, 7, 40] {
        let mut number = 0;
        let office = run(&format!("{askings} askings late"), move || {
            number += 1;
            if number % 2 == 0 { Fate::Late(askings) } else { Fate::Copies(2) }
        })
        .await;
        assert!(office.count(|fate| *fate == Fate::Late(askings)) >= 5);
    }
}

#[tokio::test]
async fn messages_may_come_often_late_or_never_in_any_mixture() {
    for seed in 0..8 {
        let mut turn = 0;
        let plan = move || {
            turn += 1;
            match mixed(seed, turn) % 8 {
                0 | 1 => Fate::Never,
                2 => Fate::Copies(2),
                3 => Fate::Late(2),
                4 => Fate::Late(30),
                _ => Fate::AsItShould,
            }
        };
        let office = run(&format!("seed {seed}"), plan).await;
        assert!(office.count(|fate| *fate == Fate::Never) > 0, "seed {seed} loses nothing");
    }
}

#[tokio::test]
async fn the_first_copy_of_every_message_may_never_come() {
    // Every message is lost but those that the timer sent in the place of a lost one.
    let mut lose = false;
    let office = run("every other one lost", move || {
        lose = !lose;
        if lose { Fate::Never } else { Fate::AsItShould }
    })
    .await;
    assert!(office.count(|fate| *fate == Fate::Never) >= 8);
}

#[tokio::test]
async fn a_planning_message_that_never_comes_is_sent_again_by_the_timer_after_its_patience() {
    let mut scene = Scene::small().await;
    let router = scene.sound_handler();
    let office = FaultyQueue::delivering(&scene.world.queue, || Fate::Never);
    let sound = std::mem::replace(&mut scene.world.queue, office);
    let id = scene.post_publish(&router).await;
    scene.deliver(&router).await;
    scene.world.queue = sound;
    scene.world.advance(Duration::from_secs(119));
    scene.run_due(&router).await;
    assert_eq!(scene.state(id).await, RolloutState::Planning, "it is not lost yet");
    scene.world.advance(Duration::from_secs(1));
    scene.run_due(&router).await;
    assert_eq!((scene.state(id).await, scene.world.simulator.stats().posts), (RolloutState::Running, 1));
}

#[tokio::test]
async fn a_refresh_message_that_never_comes_is_sent_again_by_the_timer_after_its_patience() {
    let mut scene = Scene::small().await;
    let router = scene.sound_handler();
    let id = scene.post_publish(&router).await;
    let planning = scene.world.queue.receive("rollouts", 1, LOCK).await.unwrap();
    crate::world::invoke_message(&router, "PlanRollout", &planning[0].body).await;
    scene.world.queue.complete("rollouts", &[planning[0].lock.clone()]).await.unwrap();
    let office = FaultyQueue::delivering(&scene.world.queue, || Fate::Never);
    let sound = std::mem::replace(&mut scene.world.queue, office);
    assert_eq!(scene.deliver(&router).await, 0);
    scene.world.queue = sound;
    let patience = permafresh::rollout::refresh::LOST_AFTER;
    // A first message has its id's resend at 1 already, which doubles its patience.
    scene.world.advance(2 * patience - Duration::from_secs(1));
    scene.run_due(&router).await;
    assert_eq!(scene.world.simulator.stats().posts, 0, "it is not lost yet");
    scene.world.advance(Duration::from_secs(1));
    scene.run_due(&router).await;
    assert_eq!(scene.world.simulator.stats().posts, 1);
    scene.settle(&router, id).await;
    assert_eq!(scene.ending(id).await.counts.succeeded, 3);
}

#[tokio::test]
async fn a_check_that_never_comes_is_sent_again_by_the_timer_after_its_patience() {
    let mut scene = Scene::small().await;
    let router = scene.sound_handler();
    scene.world.simulator.add_application(ApplicationSpec::new(application(9)));
    let office = FaultyQueue::delivering(&scene.world.queue, || Fate::Never);
    let sound = std::mem::replace(&mut scene.world.queue, Arc::clone(&office) as Arc<dyn Queue>);
    let body = json!({"eventType": "PUT", "applicationId": application(9), "provisioningState": "Succeeded"});
    let (status, _) = post(&router, &format!("/api/notification/resource?sig={SIG}"), &body).await;
    assert_eq!((status, scene.deliver(&router).await), (StatusCode::OK, 0));
    assert_eq!(office.count(|_| true), 1);
    scene.world.queue = sound;
    scene.world.advance(permafresh::rollout::refresh::LOST_AFTER - Duration::from_secs(1));
    scene.run_due(&router).await;
    assert_eq!(scene.world.simulator.stats().reads, 0, "it is not lost yet");
    scene.world.advance(Duration::from_secs(1));
    scene.run_due(&router).await;
    assert_eq!(scene.world.simulator.stats().reads, 1);
    let known = scene.world.store.deployments_by_key(&[application(9).key()]).await.unwrap();
    assert!(known[0].as_ref().unwrap().value.confirmed);
}
