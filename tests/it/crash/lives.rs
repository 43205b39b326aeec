//! Handlers that die again and again, and calls of ARM that are under way when they do.

use std::cell::Cell;
use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, OnPoll, OnPost};
use permafresh::rollout::{RefreshState, RolloutState};
use serde_json::{Value, json};

use super::scene::{Scene, post};
use crate::faults::{Faults, Moment};

#[tokio::test]
async fn handlers_that_each_die_after_a_few_effects_get_there_together() {
    let expected = {
        let scene = Scene::small().await;
        let id = scene.run(&scene.sound_handler(), &Cell::new(None)).await;
        scene.ending(id).await
    };
    // Fewer are not enough to take a publish, its audit entry included.
    for (effects, moment) in [(7, Moment::Before), (7, Moment::After), (8, Moment::After), (9, Moment::Before)] {
        let scene = Scene::small().await;
        let known = Cell::new(None);
        let mut lives = 0;
        loop {
            lives += 1;
            assert!(lives < 1_000, "{effects} effects {moment:?}: it never ends");
            let faults = Faults::death_at(effects, moment);
            if faults.until_death(scene.run(&scene.handler(&faults), &known)).await.is_some() {
                break;
            }
            // The host needs a moment to start another one.
            scene.world.advance(Duration::from_secs(15));
        }
        let context = format!("{lives} lives of {effects} effects {moment:?}");
        let id = scene.rollouts().await[0];
        assert_eq!(scene.ending(id).await, expected, "{context}");
        assert_eq!(scene.rollouts().await, [id], "{context}");
        assert!(lives > 4, "{context}");
        assert_eq!(scene.world.simulator.stats().overlapping_operations, 0, "{context}");
        assert_eq!(scene.world.simulator.stats().impatient_polls, 0, "{context}");
    }
}

/// A single deployment whose POST is treated so.
async fn one(script: OnPost) -> Scene {
    let scene = Scene::of(1, json!({"canaries": 0, "waves": ["100%"], "maxFailures": "100%"})).await;
    scene.world.simulator.on_post(&scene.ids[0], [script]);
    scene
}

#[tokio::test]
async fn a_handler_that_dies_while_its_post_is_under_way_leaves_a_lease_that_runs_out() {
    let scene = one(OnPost::Hang).await;
    let known = Cell::new(None);
    let router = scene.sound_handler();
    let under_way = async {
        while scene.world.simulator.stats().posts == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = scene.run(&router, &known) => panic!("a POST that hangs is not answered"),
        () = under_way => {}
    }
    let id = known.get().unwrap();
    assert!(matches!(scene.refreshes(id).await[0].state, RefreshState::Submitting { .. }));
    let another = scene.sound_handler();
    scene.world.advance(permafresh::rollout::refresh::LEASE - Duration::from_secs(1));
    scene.run_due(&another).await;
    assert_eq!(scene.world.simulator.stats().posts, 1, "the lease holds");
    scene.world.advance(Duration::from_secs(1));
    scene.run_due(&another).await;
    assert_eq!(scene.world.simulator.stats().posts, 2);
    assert_eq!(scene.settle(&another, id).await, RolloutState::Completed);
    assert_eq!(scene.operations().into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_lost_answer_costs_a_second_operation_and_no_third() {
    for script in [OnPost::LoseAnswer(Acceptance::default()), OnPost::Reset, OnPost::Hang] {
        let lost = matches!(script, OnPost::LoseAnswer(_));
        let scene = one(script.clone()).await;
        let router = scene.sound_handler();
        let id = scene.post_publish(&router).await;
        assert_eq!(scene.settle(&router, id).await, RolloutState::Completed, "{script:?}");
        assert_eq!(scene.ending(id).await.counts.succeeded, 1, "{script:?}");
        assert_eq!(scene.operations().into_values().collect::<Vec<_>>(), [if lost { 2 } else { 1 }], "{script:?}");
    }
}

#[tokio::test]
async fn a_handler_that_dies_while_it_looks_leaves_a_claim_that_runs_out() {
    let scene = one(OnPost::Accept(Acceptance::default())).await;
    scene.world.simulator.on_poll(&scene.ids[0], [OnPoll::Hang]);
    let known = Cell::new(None);
    let router = scene.sound_handler();
    let under_way = async {
        while scene.world.simulator.stats().polls == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = scene.run(&router, &known) => panic!("a look that hangs is not answered"),
        () = under_way => {}
    }
    let id = known.get().unwrap();
    let another = scene.sound_handler();
    scene.world.advance(permafresh::rollout::refresh::CLAIM - Duration::from_secs(1));
    scene.run_due(&another).await;
    assert_eq!(scene.world.simulator.stats().polls, 1, "the claim holds");
    scene.world.advance(Duration::from_secs(1));
    scene.run_due(&another).await;
    assert!(scene.world.simulator.stats().polls >= 2);
    assert_eq!(scene.settle(&another, id).await, RolloutState::Completed);
    assert_eq!(scene.operations().into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn the_same_publish_a_hundred_times_at_once_is_one_rollout_although_a_handler_dies() {
    for effect in [1, 2, 3, 4, 5, 30, 70, 100] {
        let scene = Scene::small().await;
        let faults = Faults::death_at(effect, Moment::After);
        let (dying, sound) = (scene.handler(&faults), scene.sound_handler());
        let by_the_dying = futures_util::future::join_all(
            (0..50).map(|_| async { faults.until_death(post(&dying, "/api/offer-publishes", &scene.publish)).await }),
        );
        let by_the_sound = futures_util::future::join_all(
            (0..50).map(|_| async { Some(post(&sound, "/api/offer-publishes", &scene.publish).await) }),
        );
        let (some, others) = tokio::join!(by_the_dying, by_the_sound);
        assert!(faults.is_dead(), "effect {effect}");
        let unanswered = some.iter().filter(|answer| answer.is_none()).count();
        assert!(unanswered > 0, "effect {effect}");
        // Who got no answer asks again.
        let mut answers: Vec<(StatusCode, Value)> = some.into_iter().chain(others).flatten().collect();
        for _ in 0..unanswered {
            answers.push(post(&sound, "/api/offer-publishes", &scene.publish).await);
        }
        assert_eq!(answers.len(), 100);
        let id = scene.rollouts().await[0];
        assert_eq!(scene.rollouts().await, [id], "effect {effect}");
        assert!(answers.iter().all(|(status, answer)| status.is_success() && answer["rolloutId"] == json!(id)));
        assert!(answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count() <= 1);
        scene.settle(&sound, id).await;
        assert!(scene.operations().values().all(|count| *count == 1), "effect {effect}");
        assert_eq!(scene.ending(id).await.counts.succeeded, 3, "effect {effect}");
    }
}

#[tokio::test]
async fn a_walk_over_thousands_of_deployments_goes_on_where_handlers_died() {
    let options = crate::world::Options { verify: false, operation: Duration::ZERO, ..Default::default() };
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 2_000});
    let scene = Scene::with_all_sound(options, 2_500, strategy).await;
    let known = Cell::new(None);
    let mut deaths = 0;
    // Dies at another effect of the planning each time: stored begin, stored refreshes, their messages, stored page, next
    // page's message.
    for life in 0.. {
        let faults = Faults::death_at(2 + life % 4, if life % 2 == 0 { Moment::After } else { Moment::Before });
        let router = scene.handler(&faults);
        let planned = faults.until_death(async {
            if known.get().is_none() {
                known.set(Some(scene.post_publish(&scene.sound_handler()).await));
            }
            scene.deliver_from(&router, "rollouts", "PlanRollout").await
        });
        let is_planned = planned.await.is_some()
            && scene.world.store.rollout(known.get().unwrap()).await.unwrap().unwrap().value.walk.is_over;
        if is_planned {
            break;
        }
        deaths += usize::from(faults.is_dead());
        assert!(deaths < 60, "the walk never ends");
        scene.world.advance(super::scene::LOCK);
    }
    assert!(deaths >= 5, "{deaths}");
    let id = known.get().unwrap();
    let rollout = scene.world.store.rollout(id).await.unwrap().unwrap().value;
    assert_eq!((rollout.walk.whole, rollout.walk.walked), (2_500, 2_500));
    assert_eq!(scene.world.settle(id, super::scene::LIMIT).await["state"], "completed");
    assert_eq!(scene.ending(id).await.counts.succeeded, 2_500);
    assert!(scene.operations().values().all(|count| *count == 1));
}
