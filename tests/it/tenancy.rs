//! Whose a subscription is: asked without a token, remembered until it runs out, never guessed.

use std::sync::Arc;
use std::time::Duration;

use permafresh::arm::simulator::{ApplicationSpec, Reply};
use permafresh::engine::Engine;
use permafresh::engine::tenancy::{KNOWN_FOR, TenantAnswer, UNKNOWN_FOR};

use crate::world::{World, application};

const OTHER: &str = "a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01";
const USUAL: &str = "5d0f7a10-0000-4000-8000-00000000c001";

fn engine(world: &World) -> Engine {
    world.app(Arc::clone(&world.store), Arc::clone(&world.queue)).engine
}

fn known(tenant: &str) -> TenantAnswer {
    TenantAnswer::Known(tenant.to_owned())
}

async fn asked(world: &World, engine: &Engine) -> (TenantAnswer, u64) {
    let before = world.simulator.stats().refused_tokens;
    let answer = engine.tenant_of(&application(0).subscription().to_uppercase()).await.unwrap();
    (answer, world.simulator.stats().refused_tokens - before)
}

#[tokio::test]
async fn a_tenant_is_asked_once_and_again_when_it_runs_out() {
    let world = World::new().await;
    let mut spec = ApplicationSpec::new(application(0));
    spec.tenant_id = OTHER.into();
    world.simulator.add_application(spec.clone());
    assert_eq!(asked(&world, &engine(&world)).await, (known(OTHER), 1));
    assert_eq!(world.simulator.stats().tokens, 0, "no token goes along");
    world.advance(KNOWN_FOR - Duration::from_secs(1));
    assert_eq!(asked(&world, &engine(&world)).await, (known(OTHER), 0), "another process remembers it too");
    // The subscription moves.
    spec.tenant_id = USUAL.into();
    world.simulator.add_application(spec);
    assert_eq!(asked(&world, &engine(&world)).await, (known(OTHER), 0));
    world.advance(Duration::from_secs(1));
    assert_eq!(asked(&world, &engine(&world)).await, (known(USUAL), 1));
}

#[tokio::test]
async fn a_401_that_names_another_tenant_is_believed_at_once() {
    let world = World::new().await;
    let engine = engine(&world);
    assert_eq!(asked(&world, &engine).await, (known(USUAL), 1));
    engine.learn_tenant(application(0).subscription(), &OTHER.to_uppercase()).await.unwrap();
    assert_eq!(asked(&world, &engine).await, (known(OTHER), 0));
}

#[tokio::test]
async fn a_subscription_that_arm_does_not_know_is_asked_for_again_after_an_hour() {
    let world = World::new().await;
    let engine = engine(&world);
    world.simulator.on_challenge([Reply::subscription_not_found()]);
    assert_eq!(asked(&world, &engine).await, (TenantAnswer::NoSubscription, 1));
    assert_eq!(asked(&world, &engine).await, (TenantAnswer::NoSubscription, 0));
    world.advance(UNKNOWN_FOR);
    assert_eq!(asked(&world, &engine).await, (known(USUAL), 1));
}

#[tokio::test]
async fn what_could_not_be_asked_is_not_remembered() {
    let world = World::new().await;
    let engine = engine(&world);
    let challenge = |text: &str| Reply::error(401, "AuthenticationFailed", "no").with("www-authenticate", text);
    for (reply, wait) in [
        (Reply::throttled(17), Some(17)),
        (Reply::unavailable(3), Some(3)),
        (Reply::html(200), None),
        (Reply::html(502), None),
        (Reply::forbidden(), None),
        (challenge("Bearer authorization_uri=\"https://login.microsoftonline.com/common\""), None),
        (challenge("Bearer"), None),
        (Reply::redirect("https://evil.example/"), None),
    ] {
        let text = reply.body.clone();
        world.simulator.on_challenge([reply]);
        let (answer, calls) = asked(&world, &engine).await;
        let TenantAnswer::Unclear { wait: named, .. } = answer else { panic!("{text}: {answer:?}") };
        assert_eq!((named.map(|wait| wait.as_secs()), calls), (wait, 1), "{text}");
    }
    assert_eq!(asked(&world, &engine).await, (known(USUAL), 1));
    assert!(matches!(engine.tenant_of("../x").await.unwrap(), TenantAnswer::Unclear { .. }));
}
