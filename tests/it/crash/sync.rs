//! The handler dies at each effect of a sync in turn, and another one goes on over the same store and queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use permafresh::arm::simulator::ApplicationSpec;
use permafresh::store::PageRequest;
use serde_json::Value;

use super::scene::{LOCK, Scene};
use crate::faults::{Fault, Faults, Moment};
use crate::world::{Options, application, invoke_timer, one_wave};

/// More effects than the small sync has.
const MANY: usize = 200;
const MINUTE: Duration = Duration::from_secs(60);

/// What the registry holds of each deployment, without the times.
type Registry = BTreeMap<String, Vec<Value>>;

#[tokio::test]
async fn a_sync_that_dies_just_before_any_effect_leaves_the_same_registry() {
    sweep(Moment::Before).await;
}

#[tokio::test]
async fn a_sync_that_dies_just_after_any_effect_leaves_the_same_registry() {
    sweep(Moment::After).await;
}

async fn sweep(moment: Moment) {
    let (expected, effects) = {
        let scene = scene().await;
        let faults = Faults::new(Fault::None);
        run(&scene, &scene.handler(&faults)).await;
        (registry(&scene).await, faults.effects())
    };
    let gone: Vec<_> = expected.iter().filter(|(_, known)| known[0] == true).map(|(id, _)| id.as_str()).collect();
    assert_eq!((expected.len(), gone), (4, vec![application(1).to_string().as_str()]));
    assert!(effects > 10, "{effects}");
    for effect in 1..MANY {
        let scene = scene().await;
        let faults = Faults::death_at(effect, moment);
        let lived = faults.until_death(run(&scene, &scene.handler(&faults))).await.is_some();
        let context = format!("died {moment:?} effect {effect}");
        if !lived {
            // What it had taken is given to another one when its lock has run out.
            scene.world.advance(LOCK);
            run(&scene, &scene.sound_handler()).await;
        }
        assert_eq!(registry(&scene).await, expected, "{context}");
        let known = scene.world.get("/api/deployments/sync").await;
        assert_eq!((&known["counts"]["found"], &known["problems"]), (&3.into(), &Value::Array(vec![])), "{context}");
        assert_eq!(known["counts"]["missing"], 1, "{context}: {known}");
        scene.world.assert_no_dead_letters().await;
        // The next run leaves nothing of this one behind, nor of itself.
        scene.world.advance(MINUTE);
        run_once_more(&scene).await;
        for collection in ["sync-share", "sync-found"] {
            let page = PageRequest { continuation: None, top: 10 };
            let left = scene.world.store.documents(collection, "", &page).await.unwrap().items;
            assert_eq!(left, [], "{context}");
        }
        if lived {
            assert!(effect > effects, "the sweep ended at {effect} of {effects} effects");
            return;
        }
    }
    panic!("the handler died {MANY} times");
}

/// Two deployments that are there, one that is gone, and one that nobody has told us of.
async fn scene() -> Scene {
    let scene = Scene::with_all_sound(Options::default(), 3, one_wave()).await;
    scene.world.simulator.delete_application(&application(1));
    scene.world.simulator.add_application(ApplicationSpec::new(application(7)));
    scene.world.advance(MINUTE);
    scene
}

/// One run to its end, unless one has ended already, and the questions that follow from it.
async fn run(scene: &Scene, router: &Router) {
    if !matches!(state(scene).await.as_deref(), Some("ended")) {
        assert!(invoke_timer(router, "SyncDeployments", None).await.is_success());
        until_ended(scene, router).await;
    }
    // Long enough for both looks at what is missing.
    for _ in 0..8 {
        scene.world.advance(15 * MINUTE);
        scene.run_due(router).await;
    }
}

async fn run_once_more(scene: &Scene) {
    let router = scene.sound_handler();
    assert!(invoke_timer(&router, "SyncDeployments", None).await.is_success());
    until_ended(scene, &router).await;
}

async fn until_ended(scene: &Scene, router: &Router) {
    for _ in 0..60 {
        scene.run_due(router).await;
        if state(scene).await.as_deref() == Some("ended") {
            return;
        }
        scene.world.advance(MINUTE);
    }
    panic!("the sync is still {:?}", state(scene).await);
}

/// Where the last run stands, seen from a handler that does not die.
async fn state(scene: &Scene) -> Option<String> {
    let app = scene.world.app(Arc::clone(&scene.world.store), Arc::clone(&scene.world.queue));
    let run = app.engine.sync().await.unwrap()?;
    Some(if run.ended_at.is_some() { "ended".to_owned() } else { format!("{:?}", run.stage) })
}

async fn registry(scene: &Scene) -> Registry {
    let listed = scene.world.get("/api/deployments").await;
    let entry = |known: &Value| {
        let members = ["confirmed", "plan", "version", "tenantId", "provisioningState"];
        let gone = Value::from(known["goneSince"].is_string());
        let values = [gone].into_iter().chain(members.iter().map(|name| known[*name].clone())).collect();
        (known["applicationId"].as_str().unwrap().to_owned(), values)
    };
    listed["value"].as_array().unwrap().iter().map(entry).collect()
}
