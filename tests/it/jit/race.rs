//! Several refreshes, several workers, answers that are lost: one request, and nothing twice.

use std::time::Duration;

use permafresh::arm::simulator::{OnJit, Reply};
use permafresh::engine::jit::{Access, Asker};
use serde_json::json;

use super::{AUTOMATIC, HOUR, MANUAL, MINUTE, Scene, another_instance};
use crate::faults::{Faults, FaultyQueue, FaultyStore, Moment};
use crate::world::{one_wave, publish};

#[tokio::test]
async fn refreshes_of_one_application_share_one_request() {
    let scene = Scene::new(MANUAL).await;
    let first = scene.publish().await;
    let (status, second) = scene.world.post("/api/rollouts", &publish(json!({"strategy": one_wave()}))).await;
    assert_eq!(status, 202, "{second}");
    let second = second["id"].as_str().unwrap().parse().unwrap();
    scene.world.run_due().await;
    scene.until(second, "awaitingAccess", MINUTE / 4, HOUR).await;
    for _ in 0..30 {
        scene.pass(MINUTE).await;
    }
    let stats = scene.world.simulator.stats();
    assert_eq!(stats.jit_filings, 1);
    assert!(stats.jit_looks <= 8, "one look for both: {}", stats.jit_looks);
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(first, "succeeded", MINUTE, HOUR).await;
    scene.until(second, "succeeded", MINUTE, HOUR).await;
    assert_eq!(scene.world.simulator.stats().jit_filings, 1);
}

#[tokio::test]
async fn a_denial_is_heard_by_everybody_who_waits() {
    let scene = Scene::new(MANUAL).await;
    let first = scene.publish().await;
    let (_, second) = scene.world.post("/api/rollouts", &publish(json!({"strategy": one_wave()}))).await;
    let second = second["id"].as_str().unwrap().parse().unwrap();
    scene.world.run_due().await;
    scene.until(second, "awaitingAccess", MINUTE / 4, HOUR).await;
    scene.world.simulator.decide_jit(&scene.id, "Denied");
    for rollout in [first, second] {
        let ended = scene.until(rollout, "handedOver", MINUTE, HOUR).await;
        let refusals = ended["refusals"].as_array().unwrap();
        assert!(refusals.iter().any(|refusal| refusal["code"] == "JitDenied"), "{ended}");
    }
    assert_eq!(scene.requests().len(), 1);
}

#[tokio::test]
async fn two_workers_at_once_file_one_request() {
    for policy in [MANUAL, AUTOMATIC] {
        let scene = Scene::new(policy).await;
        let (one, other) = (another_instance(&scene), another_instance(&scene));
        let (first, second) = tokio::join!(
            one.engine.seek_jit(&scene.id, Asker::Refresh, None),
            other.engine.seek_jit(&scene.id, Asker::Refresh, None)
        );
        let name = |access: Access| match access {
            Access::Open(request) | Access::Waits(request, _) => request.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name(first.unwrap()), name(second.unwrap()));
        assert_eq!(scene.world.simulator.stats().jit_filings, 1, "{policy}");
    }
}

#[tokio::test]
async fn a_filing_whose_answer_was_lost_is_found_again() {
    let scene = Scene::new(MANUAL).await;
    scene.world.simulator.on_jit(&scene.id, [OnJit::LoseAnswer]);
    let rollout = scene.publish().await;
    let parked = scene.until(rollout, "awaitingAccess", Duration::from_secs(15), HOUR).await;
    assert_eq!(scene.requests().len(), 1, "{parked}");
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    assert_eq!(scene.requests().len(), 1);
}

#[tokio::test]
async fn a_filing_that_azure_could_not_take_is_tried_again_with_a_start_of_its_own() {
    let scene = Scene::new(MANUAL).await;
    let busy = || OnJit::Reply(Reply::unavailable(300));
    scene.world.simulator.on_jit(&scene.id, [busy(), busy()]);
    let rollout = scene.publish().await;
    scene.until(rollout, "awaitingAccess", MINUTE, HOUR).await;
    let [request] = &scene.requests()[..] else { panic!("{:?}", scene.requests()) };
    assert!(request.starts + 2 * MINUTE > scene.world.now(), "{request:?}");
    assert_eq!(scene.show().await["requests"].as_array().unwrap().len(), 1, "what was never filed is no request");
}

#[tokio::test]
async fn an_azure_that_never_takes_it_fails_the_refresh_in_the_end() {
    let scene = Scene::new(MANUAL).await;
    scene.world.simulator.on_jit(&scene.id, (0..50).map(|_| OnJit::Reply(Reply::html(502))));
    let rollout = scene.publish().await;
    let failed = scene.until(rollout, "failed", 5 * MINUTE, 12 * HOUR).await;
    assert_eq!(failed["error"]["actor"], "microsoft", "{failed}");
}

#[tokio::test]
async fn whoever_dies_while_asking_leaves_one_request_to_go_on_with() {
    let mut deaths = 0;
    for moment in [Moment::Before, Moment::After] {
        for effect in 1.. {
            let scene = Scene::new(MANUAL).await;
            let faults = Faults::death_at(effect, moment);
            let store = FaultyStore::over(&scene.world.store, &faults);
            let dying = scene.world.app(store, FaultyQueue::over(&scene.world.queue, &faults));
            let lived = faults.until_death(dying.engine.seek_jit(&scene.id, Asker::Refresh, None)).await.is_some();
            // Longer than whoever died had it for itself.
            scene.world.advance(4 * MINUTE);
            let access = another_instance(&scene).engine.seek_jit(&scene.id, Asker::Refresh, None).await.unwrap();
            let Access::Waits(request, _) = access else { panic!("{access:?}") };
            let names: Vec<_> = scene.requests().into_iter().map(|request| request.name).collect();
            assert_eq!(names, [request.name], "died {moment:?} effect {effect}");
            if lived {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths >= 6, "{deaths}");
}
