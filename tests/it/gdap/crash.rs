//! A refresh by way of GDAP, with the renewal of the refresh token and the consent it waits for, while handlers die at every
//! effect of the store and the queue and in every call to Entra, the vault and Partner Center; and while two work at once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use permafresh::access::gdap::simulator::{Call, OnCall};
use permafresh::arm::simulator::ApplicationSpec;
use permafresh::engine::renewal::LEASE;
use permafresh::functions::{App, Handle, router};
use permafresh::rollout::{RolloutId, Way};
use serde_json::{Value, json};

use super::scene::{Scene, TENANT};
use crate::crash::scene::{deliver_from, post, run_due};
use crate::faults::{Faults, FaultyQueue, FaultyStore, Moment};
use crate::interleaving::{between, sweep};
use crate::world::{Options, application, invoke_message, invoke_timer, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);
const STEP: Duration = Duration::from_secs(20);
/// More effects, and more calls of a kind, than there are.
const MANY: usize = 200;

/// One deployment in a tenant that has a relationship with us and has not consented; its subscription refuses the publisher.
async fn scene() -> Scene {
    let options = Options { ways: vec![Way::Gdap, Way::HandOver], operation: STEP, ..Options::default() };
    let scene = Scene::over(options, |_| {}).await;
    scene.world.deploy_these(&[application(0)]).await;
    let spec = ApplicationSpec { tenant_id: TENANT.into(), ..ApplicationSpec::new(application(0)) };
    scene.world.simulator.add_application(spec);
    scene.world.simulator.close_to_publisher(application(0).subscription());
    scene
}

fn handler(scene: &Scene, faults: &Arc<Faults>) -> Router {
    let (store, queue) = (&scene.world.store, &scene.world.queue);
    let app = scene.world.app(FaultyStore::over(store, faults), FaultyQueue::over(queue, faults));
    router(Handle::ready(App { engine: app.engine.with_gdap(scene.gdap()), ..app }))
}

fn sound(scene: &Scene) -> Router {
    handler(scene, &Faults::none())
}

/// A publish and a renewal to their ends.
async fn run(scene: &Scene, router: &Router, known: &Cell<Option<RolloutId>>) {
    let id = match known.get() {
        Some(id) => id,
        None => {
            let body = publish(json!({"strategy": one_wave()}));
            let (status, answer) = post(router, "/api/offer-publishes", &body).await;
            assert!(status.is_success(), "{answer}");
            answer["rolloutId"].as_str().unwrap().parse().unwrap()
        }
    };
    known.set(Some(id));
    let end = scene.world.now() + 24 * HOUR;
    let mut is_first = true;
    loop {
        run_due(&scene.world, router).await;
        if std::mem::take(&mut is_first) {
            // While the refresh waits for its consent, or for its operation.
            assert_eq!(invoke_timer(router, "RenewTokens", None).await, StatusCode::OK);
        }
        let rollout = scene.world.store.rollout(id).await.unwrap().unwrap().value;
        if rollout.state.is_ended() {
            return;
        }
        assert!(scene.world.now() < end, "the rollout is still {}", rollout.state.name());
        scene.world.advance(STEP);
    }
}

/// What must be so in the end, whoever died.
async fn check(scene: &Scene, id: RolloutId, most_operations: u32, context: &str) {
    let world = &scene.world;
    let refresh = world.refresh_of(id, &application(0)).await;
    assert_eq!((&refresh["state"], &refresh["way"]), (&json!("succeeded"), &json!("gdap")), "{context}: {refresh}");
    assert!(scene.has_consented().await, "{context}");
    let operations = world.simulator.operations_of(&application(0));
    assert!((1..=most_operations).contains(&operations), "{context}: {operations} operations");
    assert_eq!(world.simulator.stats().overlapping_operations, 0, "{context}");
    assert_eq!(world.simulator.stats().foreign_tokens, 0, "{context}");
    world.assert_no_dead_letters().await;
    // Whatever was exchanged had been in the vault before: a replacement is kept before it is used.
    let kept: BTreeSet<String> = scene.simulator.versions().into_iter().map(|version| version.value).collect();
    for used in used_tokens(scene) {
        assert!(kept.contains(&used), "{context}: a token was used that the vault never had");
    }
    // One request of Partner Center, however often it was sent.
    let consents = scene.simulator.requests(Call::Consent);
    let ids: BTreeSet<_> = consents.iter().map(|request| request.headers["ms-requestid"].to_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{context}");
    // The next day there is one token left, and it works.
    world.advance(24 * HOUR);
    assert_eq!(invoke_timer(&sound(scene), "RenewTokens", None).await, StatusCode::OK, "{context}");
    let versions = scene.simulator.versions();
    let enabled: Vec<_> = versions.iter().map(|version| version.enabled).collect();
    assert!(enabled.ends_with(&[true]) && enabled.iter().filter(|is| **is).count() == 1, "{context}: {enabled:?}");
    assert!(scene.gdap().try_at_home().await.is_ok(), "{context}");
}

/// The refresh tokens that Entra was shown.
fn used_tokens(scene: &Scene) -> Vec<String> {
    let requests = scene.simulator.requests(Call::Token);
    let of = |form: &str| {
        url::form_urlencoded::parse(form.as_bytes())
            .find(|(name, _)| name == "refresh_token")
            .map(|(_, value)| value.into_owned())
    };
    requests.iter().filter_map(|request| of(&request.body)).collect()
}

#[tokio::test]
async fn a_handler_that_dies_just_before_any_effect_leaves_the_same_end() {
    deaths(Moment::Before).await;
}

#[tokio::test]
async fn a_handler_that_dies_just_after_any_effect_leaves_the_same_end() {
    deaths(Moment::After).await;
}

async fn deaths(moment: Moment) {
    for effect in 1..MANY {
        let scene = scene().await;
        let faults = Faults::death_at(effect, moment);
        let known = Cell::new(None);
        let lived = faults.until_death(run(&scene, &handler(&scene, &faults), &known)).await.is_some();
        if !lived {
            scene.world.advance(LEASE);
            run(&scene, &sound(&scene), &known).await;
        }
        check(&scene, known.get().unwrap(), 2, &format!("died {moment:?} effect {effect}")).await;
        if lived {
            assert!(effect > 20, "there were {effect} effects only");
            return;
        }
    }
    panic!("the handler died {MANY} times");
}

#[tokio::test]
async fn a_handler_that_dies_in_any_call_to_entra_the_vault_or_partner_center_leaves_the_same_end() {
    let mut deaths = 0;
    for call in [Call::Token, Call::ReadSecret, Call::WriteSecret, Call::RetireSecret, Call::Consent] {
        for at in 0..MANY {
            let scene = scene().await;
            scene.simulator.on(call, std::iter::repeat_n(OnCall::AsUsual, at).chain([OnCall::DoAndHang]));
            let known = Cell::new(None);
            let dying = sound(&scene);
            let lived = tokio::select! {
                () = run(&scene, &dying, &known) => true,
                () = async { while scene.simulator.hanging() == 0 { tokio::task::yield_now().await } } => false,
            };
            drop(dying);
            if lived {
                break;
            }
            deaths += 1;
            scene.world.advance(LEASE);
            run(&scene, &sound(&scene), &known).await;
            check(&scene, known.get().unwrap(), 1, &format!("died in {call:?} {at}")).await;
        }
    }
    assert!(deaths >= 12, "{deaths}");
}

/// A message that leads to the first step of a refresh whose tenant has consented.
async fn first_message(scene: &Scene) -> (RolloutId, Vec<u8>) {
    scene.change_customer(|customer| customer.has_consented = true);
    let body: Value = publish(json!({"strategy": one_wave()}));
    let router = sound(scene);
    let (_, answer) = post(&router, "/api/offer-publishes", &body).await;
    deliver_from(&scene.world, &router, "rollouts", "PlanRollout").await;
    let message = scene.world.queue.receive("refreshes", 1, Duration::from_secs(300)).await.unwrap().remove(0);
    (answer["rolloutId"].as_str().unwrap().parse().unwrap(), message.body)
}

async fn ends_once(scene: &Scene, id: RolloutId, at: usize) {
    let ended = scene.world.settle(id, 24 * HOUR).await;
    assert_eq!(ended["counts"]["succeeded"], 1, "step {at}: {ended}");
    assert_eq!(scene.world.simulator.operations_of(&application(0)), 1, "step {at}");
    let kept: BTreeSet<String> = scene.simulator.versions().into_iter().map(|version| version.value).collect();
    assert!(used_tokens(scene).iter().all(|used| kept.contains(used)), "step {at}");
}

#[tokio::test]
async fn two_handlers_with_the_same_refresh_post_it_once_wherever_one_is_stopped() {
    sweep(|at| async move {
        let scene = scene().await;
        let (id, message) = first_message(&scene).await;
        let (faults, other) = (Faults::none(), sound(&scene));
        let slow = handler(&scene, &faults);
        let step = |router| invoke_message(router, "RefreshDeployment", &message);
        let Some((first, second)) = between(&faults, at, step(&slow), step(&other)).await else { return false };
        assert!(first.is_success() && second.is_success(), "step {at}: {first} {second}");
        ends_once(&scene, id, at).await;
        true
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_and_revoked_in_the_middle_of_a_step_is_read_anew() {
    sweep(|at| async move {
        let scene = scene().await;
        let (id, message) = first_message(&scene).await;
        let (faults, other) = (Faults::none(), sound(&scene));
        let slow = handler(&scene, &faults);
        let replace = async {
            assert_eq!(invoke_timer(&other, "RenewTokens", None).await, StatusCode::OK);
            scene.simulator.revoke(&scene.token);
        };
        let step = invoke_message(&slow, "RefreshDeployment", &message);
        let Some((first, ())) = between(&faults, at, step, replace).await else { return false };
        assert!(first.is_success(), "step {at}: {first}");
        ends_once(&scene, id, at).await;
        true
    })
    .await;
}

#[tokio::test]
async fn of_two_renewals_the_one_that_lost_its_lease_hides_no_newer_token() {
    sweep(|at| async move {
        let scene = scene().await;
        let (faults, other) = (Faults::none(), sound(&scene));
        let slow = handler(&scene, &faults);
        let late = async {
            scene.world.advance(LEASE);
            invoke_timer(&other, "RenewTokens", None).await
        };
        let first = invoke_timer(&slow, "RenewTokens", None);
        let Some((first, second)) = between(&faults, at, first, late).await else { return false };
        assert!(first.is_success() && second.is_success(), "step {at}");
        let versions = scene.simulator.versions();
        let newest = versions.last().unwrap();
        assert!(newest.enabled, "step {at}: {versions:?}");
        assert!(scene.gdap().try_at_home().await.is_ok(), "step {at}");
        assert_eq!(used_tokens(&scene).last(), Some(&newest.value), "step {at}: the newest one wins");
        true
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_at_any_moment_of_a_renewal_keeps_its_token_and_leaves_no_other_one_enabled() {
    sweep(|at| async move {
        let scene = scene().await;
        let faults = Faults::none();
        let slow = handler(&scene, &faults);
        let theirs = scene.simulator.mint();
        let gdap = scene.gdap();
        let sign_in = async {
            let stored = gdap.broker().vault().replace(&theirs.as_str().into(), None, scene.world.now()).await;
            assert!(matches!(stored, Ok(Ok(()))), "step {at}: {stored:?}");
        };
        let first = invoke_timer(&slow, "RenewTokens", None);
        let Some((first, ())) = between(&faults, at, first, sign_in).await else { return false };
        assert!(first.is_success(), "step {at}");
        scene.world.advance(24 * HOUR);
        assert_eq!(invoke_timer(&sound(&scene), "RenewTokens", None).await, StatusCode::OK, "step {at}");
        assert!(used_tokens(&scene).contains(&theirs), "step {at}: the person's token was hidden");
        let enabled: Vec<_> = scene.simulator.versions().into_iter().map(|version| version.enabled).collect();
        assert!(enabled.ends_with(&[true]) && enabled.iter().filter(|is| **is).count() == 1, "step {at}: {enabled:?}");
        true
    })
    .await;
}
