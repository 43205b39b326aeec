//! Clocks that jump: everybody's, and the handler's alone.

use std::time::Duration;

use permafresh::rollout::RolloutState;

use super::scene::{Ending, LIMIT, Scene};
use crate::manual_clock::ManualClock;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

async fn without_jumps() -> Ending {
    let scene = Scene::small().await;
    let router = scene.sound_handler();
    let id = scene.post_publish(&router).await;
    scene.settle(&router, id).await;
    scene.ending(id).await
}

/// Runs the small rollout for `steps` steps of ten seconds, lets the clock jump, and goes on to the end.
async fn run(steps: u32, expected: &Ending, jump: impl Fn(&ManualClock)) -> Scene {
    let scene = Scene::small().await;
    let router = scene.sound_handler();
    let id = scene.post_publish(&router).await;
    for _ in 0..steps {
        scene.run_due(&router).await;
        scene.world.advance(Duration::from_secs(10));
    }
    jump(&scene.world.clock);
    assert_eq!(scene.settle(&router, id).await, RolloutState::Completed, "after {steps} steps");
    assert_eq!(scene.ending(id).await, *expected, "after {steps} steps");
    assert!(scene.operations().values().all(|count| *count == 1), "after {steps} steps: {:?}", scene.operations());
    let stats = scene.world.simulator.stats();
    let broken = (stats.impatient_polls, stats.impatient_posts, stats.overlapping_operations);
    assert_eq!(broken, (0, 0, 0), "after {steps} steps");
    scene
}

#[tokio::test]
async fn a_jump_forward_by_a_day_loses_nothing_and_asks_nothing_too_early() {
    let expected = without_jumps().await;
    for steps in 0..8 {
        run(steps, &expected, |clock| clock.advance(DAY)).await;
    }
}

#[tokio::test]
async fn a_jump_back_by_an_hour_loses_nothing_and_asks_nothing_too_early() {
    let expected = without_jumps().await;
    for steps in [0, 1, 2, 3, 5, 7] {
        let scene = run(steps, &expected, |clock| clock.set_back(HOUR)).await;
        let end: permafresh::rollout::Timestamp = "2026-03-10T13:00:00Z".parse().unwrap();
        assert!(scene.world.now() < end, "after {steps} steps it takes an hour longer at most");
    }
}

#[tokio::test]
async fn a_handler_whose_clock_alone_is_wrong_for_a_while_goes_on_when_it_is_right_again() {
    let expected = without_jumps().await;
    for steps in 0..8 {
        let mut scene = Scene::small().await;
        let right = scene.world.clock.clone();
        // The queue and ARM keep the right time.
        scene.world.clock = ManualClock::new();
        let router = scene.sound_handler();
        let id = scene.post_publish(&router).await;
        let pass = |by: Duration| {
            right.advance(by);
            scene.world.clock.advance(by);
        };
        for _ in 0..steps {
            scene.run_due(&router).await;
            pass(Duration::from_secs(10));
        }
        scene.world.clock.advance(DAY);
        scene.run_due(&router).await;
        scene.world.clock.set_back(DAY);
        let while_wrong = scene.world.simulator.stats();
        let end = right.now() + LIMIT + LIMIT;
        while scene.state(id).await != RolloutState::Completed {
            assert!(right.now() < end, "after {steps} steps it never ends");
            scene.run_due(&router).await;
            pass(Duration::from_secs(600));
        }
        assert_eq!(scene.ending(id).await, expected, "after {steps} steps");
        let stats = scene.world.simulator.stats();
        assert_eq!(stats.impatient_polls, while_wrong.impatient_polls, "after {steps} steps");
        assert_eq!(stats.impatient_posts, while_wrong.impatient_posts, "after {steps} steps");
        assert_eq!(stats.overlapping_operations, while_wrong.overlapping_operations, "after {steps} steps");
        // To the wrong clock an operation of seconds looks as if it had never ended; it is posted again once.
        assert!(scene.operations().values().all(|count| *count <= 2), "after {steps} steps");
    }
}
