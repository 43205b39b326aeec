//! The handler dies at each effect of a rollout in turn, and another one goes on over the same store and queue.

use std::cell::Cell;
use std::collections::BTreeMap;

use permafresh::rollout::RolloutId;

use super::scene::{Ending, Scene};
use crate::faults::{Fault, Faults, Moment};

/// More effects than the small rollout has.
const MANY: usize = 500;

#[tokio::test]
async fn a_handler_that_dies_just_before_any_effect_leaves_the_same_end() {
    sweep(Moment::Before).await;
}

#[tokio::test]
async fn a_handler_that_dies_just_after_any_effect_leaves_the_same_end() {
    sweep(Moment::After).await;
}

async fn sweep(moment: Moment) {
    let (expected, effects) = without_faults().await;
    let mut lost_answers = 0;
    for effect in 1..MANY {
        let scene = Scene::small().await;
        let faults = Faults::death_at(effect, moment);
        let known = Cell::new(None);
        let lived = faults.until_death(scene.run(&scene.handler(&faults), &known)).await;
        let rollouts = scene.rollouts().await;
        let operations = scene.operations_to_come(rollouts.first().copied()).await;
        if lived.is_none() {
            scene.run(&scene.sound_handler(), &known).await;
        }
        let context = format!("died {moment:?} effect {effect}");
        check(&scene, known.get().unwrap(), &expected, &operations, &context).await;
        lost_answers += operations.values().filter(|count| **count > 1).count();
        if lived.is_some() {
            assert!(effect > effects, "the sweep ended at {effect} of {effects} effects");
            // Each POST that was accepted is followed by one effect before which its answer can be lost.
            assert_eq!(lost_answers, if moment == Moment::Before { scene.ids.len() } else { 0 });
            return;
        }
    }
    panic!("the handler died {MANY} times");
}

/// The end of the small rollout and how many effects it has.
async fn without_faults() -> (Ending, usize) {
    let scene = Scene::small().await;
    let faults = Faults::new(Fault::None);
    let id = scene.run(&scene.handler(&faults), &Cell::new(None)).await;
    let ending = scene.ending(id).await;
    assert_eq!((ending.state, ending.counts.succeeded, ending.counts.failed), ("completed", 3, 1));
    assert_eq!(ending.wanted, Some(("1.5.0".to_owned(), false)));
    (ending, faults.effects())
}

async fn check(scene: &Scene, id: RolloutId, expected: &Ending, operations: &BTreeMap<String, u32>, context: &str) {
    assert_eq!(scene.ending(id).await, *expected, "{context}");
    assert_eq!(scene.operations(), *operations, "{context}");
    assert!(operations.values().filter(|count| **count > 1).count() <= 1, "{context}: {operations:?}");
    assert!(operations.values().all(|count| *count <= 2), "{context}: {operations:?}");
    assert_eq!(scene.rollouts().await, [id], "{context}");
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.impatient_polls, stats.impatient_posts, stats.throttled), (0, 0, 0), "{context}");
    assert_eq!(stats.overlapping_operations, 0, "{context}");
    scene.world.assert_no_dead_letters().await;
}
