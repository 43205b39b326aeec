//! Every way in which nothing comes of a request: each ends handed over, with the sentence that a customer needs.

use std::time::Duration;

use permafresh::arm::simulator::{ApplicationSpec, OnJit, OnPost, OnRead, Reply};
use permafresh::rollout::Way;
use serde_json::{Value, json};

use super::{HOUR, MANUAL, MINUTE, Scene, options, setup};
use crate::world::Options;

/// What the report says of a refresh that was handed over.
fn reason(refresh: &Value) -> (String, String) {
    assert_eq!(refresh["state"], "handedOver", "{refresh}");
    assert!(refresh["command"].as_str().unwrap().contains("refreshPermissions"), "{refresh}");
    let text = |member: &str| refresh["error"][member].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

#[tokio::test]
async fn every_refusal_is_handed_over_with_its_own_sentence() {
    for (word, code, said) in [
        ("Denied", "JitDenied", "an approver of the customer denied"),
        ("Failed", "JitFailed", "Entra ID P2"),
        ("Canceled", "JitCanceled", "was canceled, or deleted"),
        ("Expired", "JitExpired", "passed before anybody approved it"),
        ("Timeout", "JitTimeout", "in the time that Azure gives"),
    ] {
        let scene = Scene::new(MANUAL).await;
        scene.world.simulator.on_jit(&scene.id, [OnJit::after(20 * MINUTE, word)]);
        let rollout = scene.publish().await;
        let name = scene.requests()[0].name.clone();
        let ended = scene.until(rollout, "handedOver", MINUTE, HOUR).await;
        let (found, message) = reason(&ended);
        assert_eq!(found, code);
        assert!(message.contains(said) && message.contains(&name), "{word}: {message}");
        scene.pass(MINUTE).await;
        assert_eq!(scene.world.rollout(rollout).await["state"], "completed");
        assert_eq!((scene.world.simulator.stats().posts, scene.requests().len()), (1, 1), "{word}");
        assert_eq!(scene.show().await["requests"][0]["code"], code);
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_given_up_after_a_day_and_not_before() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    for _ in 0..(24 * 4 - 1) {
        scene.pass(15 * MINUTE).await;
    }
    assert_eq!(scene.refresh(rollout).await["state"], "awaitingAccess", "a quarter of an hour before");
    scene.pass(15 * MINUTE).await;
    let (code, message) = reason(&scene.refresh(rollout).await);
    assert_eq!(code, "JitUnanswered");
    assert!(message.contains("24 hours") && message.contains("JIT Access > Approve Requests"), "{message}");
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.jit_filings, stats.posts), (1, 1));
    assert!(stats.jit_looks < 110, "{}", stats.jit_looks);
}

#[tokio::test]
async fn a_tenant_without_the_licence_is_an_outcome_of_its_own() {
    let refused = Reply::error(400, "AadPremiumLicenseRequired", "The tenant needs an AAD Premium 2 license.");
    for script in [OnJit::without_p2(), OnJit::Reply(refused)] {
        let scene = Scene::new(MANUAL).await;
        scene.world.simulator.on_jit(&scene.id, [script]);
        let rollout = scene.publish().await;
        let (code, message) = reason(&scene.until(rollout, "handedOver", MINUTE, HOUR).await);
        assert_eq!(code, "JitNeedsEntraP2");
        for said in ["assign a licence", "then retry", "JIT Access > Approve Requests", "Azure managed applications"] {
            assert!(message.contains(said), "{said} is not in {message}");
        }
    }
}

#[tokio::test]
async fn what_would_come_to_nothing_is_not_filed() {
    let too_short = MANUAL.replace("PT8H", "PT15M");
    type Change<'a> = &'a dyn Fn(&mut Options, &mut ApplicationSpec);
    let cases: [(&str, Change<'_>); 3] = [
        ("JitUnmanaged", &|_, spec| spec.management_mode = "Unmanaged".into()),
        ("JitWindowTooShort", &|_, spec| spec.jit_access_policy = Some(too_short.as_str().into())),
        ("JitPrincipalNotAuthorized", &|options, _| {
            let mut other = setup();
            other.principal_id = "00000000-0000-4000-8000-00000000aa02".into();
            options.jit = Some(other);
        }),
    ];
    for (code, change) in cases {
        let mut options = options();
        let mut spec = ApplicationSpec::new(crate::world::application(1));
        spec.jit_access_policy = Some(MANUAL.into());
        change(&mut options, &mut spec);
        let scene = Scene::with(options, |known| *known = spec).await;
        let rollout = scene.publish().await;
        assert_eq!(reason(&scene.refresh(rollout).await).0, code);
        assert_eq!(scene.world.simulator.stats().jit_filings, 0, "{code}");
    }
}

#[tokio::test]
async fn where_there_is_no_just_in_time_access_the_first_refusal_is_the_reason() {
    let off = r#"{"jitAccessEnabled":false}"#;
    for (policy, jit) in [(None, Some(setup())), (Some(off), Some(setup())), (Some(off), None)] {
        let options = Options { jit, ..options() };
        let scene = Scene::with(options, |spec| spec.jit_access_policy = policy.map(Into::into)).await;
        scene.world.simulator.on_post(&scene.id, [OnPost::Reply(Reply::forbidden())]);
        let rollout = scene.publish().await;
        assert_eq!(reason(&scene.refresh(rollout).await).0, "AuthorizationFailed");
        let stats = scene.world.simulator.stats();
        assert_eq!((stats.jit_filings, stats.posts), (0, 1));
    }
}

#[tokio::test]
async fn we_may_not_file_is_told_apart_from_a_request_that_is_not_taken() {
    for (reply, code) in [
        (Reply::error(403, "AuthorizationFailed", "no jitRequests/write"), "JitNotPermitted"),
        (Reply::error(400, "InvalidJitSchedulingPolicy", "the duration is odd"), "JitNotTaken"),
        (Reply::group_not_found(), "JitNotTaken"),
    ] {
        let scene = Scene::new(MANUAL).await;
        scene.world.simulator.on_jit(&scene.id, [OnJit::Reply(reply)]);
        let rollout = scene.publish().await;
        assert_eq!(reason(&scene.refresh(rollout).await).0, code);
        assert_eq!(scene.requests(), []);
    }
}

#[tokio::test]
async fn a_request_that_somebody_deletes_counts_as_canceled() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    scene.pass(MINUTE).await;
    scene.world.simulator.delete_jit_requests(&scene.id);
    assert_eq!(reason(&scene.until(rollout, "handedOver", MINUTE, HOUR).await).0, "JitCanceled");
}

#[tokio::test]
async fn a_retry_after_a_refusal_asks_anew() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    scene.world.simulator.decide_jit(&scene.id, "Denied");
    scene.until(rollout, "handedOver", MINUTE, HOUR).await;
    scene.world.post(&format!("/api/rollouts/{rollout}/retry?actor=customer"), &Value::Null).await;
    scene.until(rollout, "awaitingAccess", MINUTE, HOUR).await;
    assert_eq!(scene.requests().len(), 2);
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
}

#[tokio::test]
async fn looks_that_azure_does_not_answer_end_nothing() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    let odd = [
        Reply::unavailable(60),
        Reply::forbidden(),
        Reply::html(502),
        Reply::json(200, "[]"),
        Reply::resource_not_found(),
    ];
    scene.world.simulator.on_jit_look(&scene.id, odd);
    for _ in 0..60 {
        scene.pass(MINUTE).await;
    }
    let known = scene.show().await;
    assert_eq!(known["requests"][0]["code"], "JitCanceled", "not there at a later look: {known}");
    let scene = Scene::new(MANUAL).await;
    let odd = [
        Reply::resource_not_found(),
        Reply::unavailable(60),
        Reply::forbidden(),
        Reply::html(502),
        Reply::json(200, "[]"),
    ];
    scene.world.simulator.on_jit_look(&scene.id, odd);
    let second = scene.publish().await;
    for _ in 0..60 {
        scene.pass(MINUTE).await;
    }
    assert_eq!(scene.refresh(second).await["state"], "awaitingAccess");
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(second, "succeeded", MINUTE, HOUR).await;
    assert_ne!(rollout, second);
}

#[tokio::test]
async fn what_the_order_of_ways_leaves_out_is_not_asked() {
    let options = Options { ways: vec![Way::Publisher, Way::HandOver], ..options() };
    let scene = Scene::with(options, |spec| spec.jit_access_policy = Some(MANUAL.into())).await;
    let rollout = scene.publish().await;
    assert_eq!(reason(&scene.refresh(rollout).await).0, "AuthorizationFailed");
    assert_eq!(scene.requests(), []);
}

#[tokio::test]
async fn an_application_that_cannot_be_read_is_asked_for_later_or_handed_over() {
    let scene = Scene::new(MANUAL).await;
    scene.world.simulator.on_read(&scene.id, [OnRead::Reply(Reply::unavailable(30))]);
    let rollout = scene.publish().await;
    scene.until(rollout, "awaitingAccess", Duration::from_secs(15), HOUR).await;
    assert_eq!(scene.requests().len(), 1);
    let scene = Scene::new(MANUAL).await;
    scene.world.simulator.on_read(&scene.id, [OnRead::Reply(Reply::forbidden())]);
    let rollout = scene.publish().await;
    assert_eq!(reason(&scene.refresh(rollout).await).0, "JitUnreadable");
    assert_eq!(json!(scene.requests().len()), 0);
}

/// Has the application read, as a notification does.
async fn check(scene: &Scene) {
    let body = json!({
        "eventType": "PATCH", "applicationId": scene.id, "eventTime": "2026-03-10T13:00:00Z", "provisioningState": "Succeeded",
    });
    scene.world.post(&format!("/api/notification/resource?sig={}", crate::world::SIG), &body).await;
    scene.pass(MINUTE).await;
    assert_eq!(scene.world.get(&format!("/api/deployments/{}", scene.id.key())).await["managementMode"], "Unmanaged");
}

#[tokio::test]
async fn an_unmanaged_deployment_is_not_tried_by_our_own_right_but_by_a_delegation() {
    let scene = Scene::with(options(), |spec| spec.management_mode = "Unmanaged".into()).await;
    check(&scene).await;
    let rollout = scene.publish().await;
    let ended = scene.refresh(rollout).await;
    let codes: Vec<_> = ended["refusals"].as_array().unwrap().iter().map(|refusal| &refusal["code"]).collect();
    assert_eq!(codes, [&json!("Unmanaged"), &json!("JitUnmanaged")], "{ended}");
    assert!(ended["refusals"][0]["message"].as_str().unwrap().contains("Azure Lighthouse"), "{ended}");
    assert_eq!(scene.world.simulator.stats().posts, 0);

    for odd in [None, Some(Reply::html(502))] {
        let scene = Scene::with(options(), |spec| spec.management_mode = "Unmanaged".into()).await;
        check(&scene).await;
        match odd {
            None => scene.world.simulator.add_registration_assignment(
                &format!("/subscriptions/{}/resourceGroups/rg-apps", scene.id.subscription()),
                json!({"id": "a", "properties": {}}),
            ),
            Some(reply) => scene.world.simulator.on_list([reply]),
        }
        let rollout = scene.publish().await;
        let done = scene.until(rollout, "succeeded", MINUTE, HOUR).await;
        assert_eq!(done["way"], "publisher", "{done}");
    }
}
