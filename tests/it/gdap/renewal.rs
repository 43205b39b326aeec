//! RenewTokens: one writer, the new version before the old one goes, and what a death in between leaves.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::engine::Engine;
use permafresh::engine::renewal::{LEASE, Renewal};
use serde_json::json;

use super::scene::Scene;
use crate::world::{World, invoke_timer};

const HOUR: Duration = Duration::from_secs(3_600);

fn enabled(scene: &Scene) -> Vec<bool> {
    scene.simulator.versions().iter().map(|version| version.enabled).collect()
}

#[tokio::test]
async fn the_new_token_is_stored_before_the_old_one_is_switched_off() {
    let scene = Scene::new().await;
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, true]);
    let newest = scene.simulator.versions().pop().unwrap();
    assert_ne!(newest.value, scene.token);
    let ends = (scene.world.now() + 90 * 24 * HOUR).timestamp();
    assert_eq!(newest.attributes["exp"], ends);
    assert_eq!(newest.tags["mintedAt"], "2026-03-10T12:00:00Z");
    assert_eq!(newest.tags["user"], "obo@fabrikam.example");
}

#[tokio::test]
async fn of_instances_at_once_one_writes() {
    let scene = Scene::new().await;
    let engines: Vec<_> = (0..8).map(|_| scene.engine()).collect();
    let outcomes = futures_util::future::join_all(engines.iter().map(Engine::renew_tokens)).await;
    let renewed = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Renewal::Renewed))).count();
    assert_eq!(renewed, 1, "{outcomes:?}");
    assert_eq!(enabled(&scene), [false, true]);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::NotNeeded, "it was just done");
    scene.world.advance(HOUR);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, false, true]);
}

#[tokio::test]
async fn dying_after_the_write_leaves_a_vault_that_works_and_is_tidied_the_next_time() {
    let scene = Scene::new().await;
    scene.simulator.on(Call::WriteSecret, [OnCall::DoAndDrop]);
    let outcome = scene.engine().renew_tokens().await.unwrap();
    assert!(matches!(outcome, Renewal::Failed(_)), "{outcome:?}");
    assert_eq!(enabled(&scene), [true, true]);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, false, true]);
}

#[tokio::test]
async fn what_could_not_be_switched_off_is_switched_off_later() {
    let scene = Scene::new().await;
    scene.simulator.on(Call::RetireSecret, [OnCall::Answer(Reply::text(503, ""))]);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [true, true]);
    scene.world.advance(24 * HOUR);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, false, true]);
    assert_eq!(scene.engine().token_renewal().await.unwrap().superseded, [""; 0]);
}

/// A renewal that dies just after its write, before it could note what it wrote.
async fn die_after_the_write(scene: &Scene) {
    scene.simulator.on(Call::WriteSecret, [OnCall::DoAndHang]);
    let engine = scene.engine();
    tokio::select! {
        outcome = engine.renew_tokens() => panic!("it lived: {outcome:?}"),
        () = async { while scene.simulator.hanging() == 0 { tokio::task::yield_now().await } } => {}
    }
    scene.world.advance(LEASE);
}

#[tokio::test]
async fn what_a_renewal_wrote_before_it_died_is_switched_off_even_if_a_sign_in_hides_it() {
    let scene = Scene::new().await;
    die_after_the_write(&scene).await;
    scene.simulator.put_secret(&scene.simulator.mint());
    assert_eq!(enabled(&scene), [true, true, true]);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, false, false, true]);
    let known = scene.engine().token_renewal().await.unwrap();
    assert_eq!((known.superseded, known.is_writing), (Vec::new(), false));
}

#[tokio::test]
async fn a_list_that_is_refused_or_leads_elsewhere_stops_no_renewal_and_is_asked_for_again() {
    let elsewhere = Scene::new().await;
    let foreign = json!({"value": [], "nextLink": format!("{}secrets/gdap-refresh-token/versions", elsewhere.simulator.endpoint())});
    for answer in [Reply::text(403, ""), Reply::text(200, "<html>"), Reply::json(200, &foreign)] {
        let scene = Scene::new().await;
        die_after_the_write(&scene).await;
        scene.simulator.put_secret(&scene.simulator.mint());
        scene.simulator.on(Call::ListSecret, [OnCall::Answer(answer)]);
        assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
        assert_eq!(enabled(&scene), [false, true, false, true]);
        scene.world.advance(24 * HOUR);
        assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
        assert_eq!(enabled(&scene), [false, false, false, false, true]);
    }
    assert_eq!(elsewhere.simulator.all_requests().len(), 0, "no token goes elsewhere");
}

#[tokio::test]
async fn what_was_written_last_is_switched_off_when_a_sign_in_that_died_has_hidden_it() {
    let scene = Scene::new().await;
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    scene.simulator.put_secret(&scene.simulator.mint());
    assert_eq!(enabled(&scene), [false, true, true]);
    scene.world.advance(24 * HOUR);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(enabled(&scene), [false, false, false, true]);
}

#[tokio::test]
async fn a_sign_in_that_is_overtaken_by_a_renewal_writes_its_token_anew() {
    let scene = Scene::new().await;
    let theirs = scene.simulator.mint();
    let overtaking = json!({"value": "1.refresh-renewed", "id": format!("{}secrets/gdap-refresh-token/{:032x}", scene.simulator.endpoint(), 7)});
    // The first one is the SDK's question for the audience.
    let first_reads = [OnCall::AsUsual, OnCall::AsUsual, OnCall::Answer(Reply::json(200, &overtaking))];
    scene.simulator.on(Call::ReadSecret, first_reads);
    let gdap = scene.gdap();
    gdap.broker().vault().replace(&theirs.as_str().into(), None, scene.world.now()).await.unwrap().unwrap();
    assert_eq!(enabled(&scene), [false, false, true]);
    assert_eq!(scene.simulator.versions().pop().unwrap().value, theirs);
}

#[tokio::test]
async fn a_failed_write_keeps_the_old_token_in_use() {
    let scene = Scene::new().await;
    scene.simulator.on(Call::WriteSecret, [OnCall::Answer(Reply::text(503, ""))]);
    assert!(matches!(scene.engine().renew_tokens().await.unwrap(), Renewal::Failed(_)));
    assert_eq!(enabled(&scene), [true]);
    let engine = scene.engine();
    assert!(engine.token_renewal().await.unwrap().failure.is_some());
    assert_eq!(engine.renew_tokens().await.unwrap(), Renewal::Renewed);
    assert_eq!(engine.token_renewal().await.unwrap().failure, None);
}

#[tokio::test]
async fn a_sign_in_during_the_renewal_is_not_hidden_by_it() {
    let scene = Scene::new().await;
    let before = scene.simulator.versions()[0].clone();
    let theirs = scene.simulator.mint();
    scene.simulator.put_secret(&theirs);
    let old = json!({"value": before.value, "id": format!("{}secrets/gdap-refresh-token/{}", scene.simulator.endpoint(), before.name)});
    scene.simulator.on(Call::ReadSecret, [OnCall::AsUsual, OnCall::Answer(Reply::json(200, &old))]);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::NotNeeded);
    assert_eq!(scene.simulator.versions().pop().unwrap().value, theirs);
}

#[tokio::test]
async fn a_clock_that_jumps_back_holds_a_lease_no_longer_than_it_lasts() {
    let scene = Scene::new().await;
    scene.world.clock.set_back(HOUR);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
    scene.world.advance(25 * HOUR);
    assert_eq!(scene.engine().renew_tokens().await.unwrap(), Renewal::Renewed);
}

#[tokio::test]
async fn the_timer_renews_and_does_nothing_where_gdap_is_not_set_up() {
    let mut scene = Scene::new().await;
    scene.serve();
    let app = scene.world.app(scene.world.another_store(), scene.world.another_queue());
    let engine = app.engine.with_gdap(scene.gdap());
    let router = permafresh::functions::router(permafresh::functions::Handle::ready(permafresh::functions::App {
        engine,
        ..scene.world.app(scene.world.another_store(), scene.world.another_queue())
    }));
    assert_eq!(invoke_timer(&router, "RenewTokens", None).await, StatusCode::OK);
    assert_eq!(enabled(&scene), [false, true]);
    let bare = World::new().await;
    let router = bare.handler(bare.another_store(), bare.another_queue());
    assert_eq!(invoke_timer(&router, "RenewTokens", None).await, StatusCode::OK);
}
