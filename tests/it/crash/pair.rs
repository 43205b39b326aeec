//! Two handlers over the same store and queue, each with its own connections as in two processes.

use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use permafresh::rollout::{RolloutId, RolloutState, Standing};
use serde_json::json;

use super::scene::{LIMIT, LOCK, Scene};
use crate::world::{invoke_message, invoke_timer};

/// How many refreshes may be on their way.
const MAX_IN_FLIGHT: u64 = 3;

/// What is done with a message that both handlers could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deal {
    /// One gets it, the other gets the next.
    InTurn,
    /// Both get it at once.
    ToBoth,
}

#[tokio::test]
async fn two_handlers_that_share_the_messages_reach_the_same_end_together() {
    run(Deal::InTurn).await;
}

#[tokio::test]
async fn two_handlers_that_get_every_message_both_reach_the_same_end_together() {
    run(Deal::ToBoth).await;
}

async fn run(deal: Deal) {
    let strategy =
        json!({"canaries": 1, "waves": ["30%", "100%"], "maxFailures": "100%", "maxInFlight": MAX_IN_FLIGHT});
    let expected = {
        let scene = Scene::of(14, strategy.clone()).await;
        let router = scene.sound_handler();
        let id = scene.post_publish(&router).await;
        scene.settle(&router, id).await;
        scene.ending(id).await
    };
    let scene = Scene::of(14, strategy).await;
    let pair = [scene.sound_handler(), scene.world.handler(scene.world.another_store(), scene.world.another_queue())];
    let (one, other) = tokio::join!(scene.post_publish(&pair[0]), scene.post_publish(&pair[1]));
    assert_eq!(one, other);
    let end = scene.world.now() + LIMIT;
    while !matches!(scene.state(one).await, RolloutState::Completed) {
        assert!(scene.world.now() < end, "it never ends");
        run_due(&scene, &pair, deal, one).await;
        scene.world.advance(Duration::from_secs(10));
    }
    assert_eq!(scene.ending(one).await, expected);
    assert_eq!(scene.rollouts().await, [one]);
    assert!(scene.operations().values().all(|count| *count == 1), "{:?}", scene.operations());
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.impatient_polls, stats.impatient_posts, stats.overlapping_operations), (0, 0, 0));
    scene.world.assert_no_dead_letters().await;
}

async fn run_due(scene: &Scene, pair: &[Router; 2], deal: Deal, id: RolloutId) {
    loop {
        let mut moved = 0;
        for (queue, function) in [("rollouts", "PlanRollout"), ("refreshes", "RefreshDeployment")] {
            let messages = scene.world.queue.receive(queue, 16, LOCK).await.unwrap();
            moved += messages.len();
            let runs = messages.into_iter().enumerate().map(|(at, message)| async move {
                let (own, other) = (&pair[at % 2], &pair[(at + 1) % 2]);
                let status = invoke_message(own, function, &message.body);
                let status = match deal {
                    Deal::InTurn => status.await,
                    Deal::ToBoth => tokio::join!(status, invoke_message(other, function, &message.body)).0,
                };
                assert!(status.is_success(), "{function}: {status}");
                scene.world.queue.complete(queue, &[message.lock]).await.unwrap();
            });
            // Both timers come while the messages are worked off.
            let ticks = join_all(pair.iter().map(|router| invoke_timer(router, "PollOperations", None)));
            let (_, ticks) = tokio::join!(join_all(runs), ticks);
            assert!(ticks.iter().all(axum::http::StatusCode::is_success), "{ticks:?}");
            let tally = scene.world.store.tally(id).await.unwrap();
            let in_flight = tally.count(Standing::is_in_flight);
            assert!(in_flight <= MAX_IN_FLIGHT, "{in_flight} on their way at once");
        }
        if moved == 0 {
            return;
        }
    }
}
