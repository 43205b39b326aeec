//! The choice of ways in a rollout, through the whole loop: the order, what a refusal leads to, what is remembered of it,
//! gates, and that every call has the token of its own way and tenant.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::access::gdap::simulator::{Call, Customer, OnCall, Reply, SimulatorConfig};
use permafresh::arm::simulator::{ApplicationSpec, OnPost, Reply as ArmReply};
use permafresh::engine::consents::{ConsentState, CustomerConsent};
use permafresh::rollout::{ApplicationId, RolloutId, Way};
use permafresh::store::{Versioned, document};
use serde_json::{Value, json};

use super::scene::{Scene, TENANT};
use crate::world::{Options, application, one_wave};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const OTHER: &str = "c4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a03";

async fn scene(ways: &[Way]) -> Scene {
    scene_with(ways, |_| {}).await
}

/// One deployment in a tenant that has a relationship with us and has not consented; its subscription refuses the publisher.
async fn scene_with(ways: &[Way], change: impl FnOnce(&mut SimulatorConfig)) -> Scene {
    let scene = Scene::over(Options { ways: ways.to_vec(), ..Options::default() }, change).await;
    deploy(&scene, &application(0), TENANT).await;
    scene
}

async fn deploy(scene: &Scene, id: &ApplicationId, tenant: &str) {
    scene.world.deploy_these(std::slice::from_ref(id)).await;
    scene
        .world
        .simulator
        .add_application(ApplicationSpec { tenant_id: tenant.into(), ..ApplicationSpec::new(id.clone()) });
    scene.world.simulator.close_to_publisher(id.subscription());
}

fn consent(scene: &Scene) {
    scene.change_customer(|customer| customer.has_consented = true);
}

async fn publish(scene: &Scene, version: &str) -> RolloutId {
    scene.world.publish(json!({"version": version, "strategy": one_wave()})).await
}

/// One rollout to its end, and its refresh of the first deployment.
async fn roll_out(scene: &Scene, version: &str) -> Value {
    let id = publish(scene, version).await;
    scene.world.settle(id, 2 * HOUR).await;
    refresh(scene, id).await
}

async fn refresh(scene: &Scene, id: RolloutId) -> Value {
    scene.world.refresh_of(id, &application(0)).await
}

/// `way: code` of each refusal.
fn refusals(refresh: &Value) -> Vec<String> {
    let all = refresh["refusals"].as_array().cloned().unwrap_or_default();
    let word = |refusal: &Value, name: &str| refusal[name].as_str().unwrap().to_owned();
    all.iter().map(|refusal| format!("{}: {}", word(refusal, "way"), word(refusal, "code"))).collect()
}

async fn known_ways(scene: &Scene) -> Value {
    scene.world.get(&format!("/api/deployments/{}", application(0).key())).await["ways"].clone()
}

const ALL: [Way; 4] = [Way::Publisher, Way::Gdap, Way::Jit, Way::HandOver];

#[tokio::test]
async fn a_refusal_goes_on_by_gdap_whose_token_every_later_call_has() {
    let scene = scene(&ALL).await;
    consent(&scene);
    let id = publish(&scene, "1.5.0").await;
    scene.world.settle(id, 2 * HOUR).await;
    let refresh = refresh(&scene, id).await;
    assert_eq!(
        (&refresh["state"], &refresh["way"], &refresh["verified"]),
        (&json!("succeeded"), &json!("gdap"), &json!(true))
    );
    assert_eq!(refusals(&refresh), ["publisher: AuthorizationFailed"]);
    assert_eq!(scene.world.simulator.stats().foreign_tokens, 0);
    assert!(scene.world.simulator.stats().polls > 1, "a poll by the publisher would have been refused");
    assert_eq!(scene.world.simulator.posts_of(&application(0)), 1);

    let (_, csv) = scene.world.request(get(&format!("/api/rollouts/{id}/report?format=csv"))).await;
    assert!(csv.lines().next().unwrap().contains(",refusals,"), "{csv}");
    assert!(csv.contains("publisher: AuthorizationFailed: The client has no authorization"), "{csv}");
    let (_, report) = scene.world.request(get(&format!("/api/rollouts/{id}/report?format=json"))).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(refusals(&report["refreshes"][0]), ["publisher: AuthorizationFailed"]);
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn what_worked_is_tried_first_for_a_day_and_the_dry_run_says_so() {
    let scene = scene(&ALL).await;
    consent(&scene);
    roll_out(&scene, "1.5.0").await;
    let known = known_ways(&scene).await;
    assert_eq!((&known["worked"], &known["refused"][0]["code"]), (&json!("gdap"), &json!("AuthorizationFailed")));
    let first_way = || async {
        let body = crate::world::publish(json!({"version": "9.9.9"}));
        scene.world.post("/api/rollouts?dryRun=true", &body).await.1["called"][0]["way"].clone()
    };
    assert_eq!(first_way().await, "gdap");
    assert_eq!(refusals(&roll_out(&scene, "1.6.0").await), [""; 0], "the publisher was not asked");
    scene.world.advance(DAY);
    assert_eq!(first_way().await, "publisher");
    let refresh = roll_out(&scene, "1.7.0").await;
    assert_eq!(refusals(&refresh), ["publisher: AuthorizationFailed"]);
    assert_eq!(refresh["state"], "succeeded");
}

#[tokio::test]
async fn a_remembered_refusal_puts_a_way_last_for_an_hour_and_locks_nobody_out() {
    let scene = scene(&[Way::Publisher, Way::Gdap, Way::HandOver]).await;
    scene.simulator.on(Call::Token, [OnCall::Answer(Reply::oauth(400, "invalid_grant", 50_020))]);
    let refresh = roll_out(&scene, "1.5.0").await;
    assert_eq!(refusals(&refresh), ["publisher: AuthorizationFailed", "gdap: NoRelationship"]);
    assert_eq!((&refresh["state"], &refresh["way"]), (&json!("handedOver"), &json!("handOver")));
    assert_eq!(refresh["error"]["code"], "NoRelationship");
    assert_eq!(known_ways(&scene).await["refused"].as_array().unwrap().len(), 2);
    // Both were refused, so both come last, in the configured order; and the relationship is there now.
    consent(&scene);
    let refresh = roll_out(&scene, "1.6.0").await;
    assert_eq!((&refresh["state"], &refresh["way"]), (&json!("succeeded"), &json!("gdap")));
    scene.world.advance(2 * DAY);
    assert_eq!(known_ways(&scene).await, Value::Null, "what has run out is not shown");
}

#[tokio::test]
async fn a_persons_retry_forgets_what_was_refused() {
    let scene = scene(&[Way::Gdap, Way::Publisher, Way::HandOver]).await;
    scene.simulator.on(Call::Token, [OnCall::Answer(Reply::oauth(400, "invalid_grant", 53_003))]);
    let id = publish(&scene, "1.5.0").await;
    scene.world.settle(id, HOUR).await;
    let before = refresh(&scene, id).await;
    assert_eq!(refusals(&before), ["gdap: CustomerPolicy", "publisher: AuthorizationFailed"]);
    assert_eq!(before["error"]["actor"], "customer");
    consent(&scene);
    let (status, _) = scene.world.post(&format!("/api/rollouts/{id}/retry?actor=customer"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(known_ways(&scene).await, Value::Null);
    scene.world.settle(id, HOUR).await;
    let after = refresh(&scene, id).await;
    assert_eq!((&after["state"], &after["way"], refusals(&after).len()), (&json!("succeeded"), &json!("gdap"), 0));
}

#[tokio::test]
async fn a_wrong_tenant_and_an_unknown_subscription_go_on_by_the_next_way_and_another_404_does_not() {
    let ways = [Way::Publisher, Way::Gdap, Way::HandOver];
    for (reply, expected) in [
        (ArmReply::wrong_tenant(TENANT), Some("publisher: InvalidAuthenticationTokenTenant")),
        (ArmReply::denied(), Some("publisher: DenyAssignmentAuthorizationFailed")),
        (ArmReply::subscription_not_found(), Some("publisher: SubscriptionNotFound")),
        (ArmReply::resource_not_found(), None),
    ] {
        let scene = Scene::over(Options { ways: ways.to_vec(), ..Options::default() }, |_| {}).await;
        consent(&scene);
        scene.world.deploy_these(&[application(0)]).await;
        let spec = ApplicationSpec { tenant_id: TENANT.into(), ..ApplicationSpec::new(application(0)) };
        scene.world.simulator.add_application(spec);
        scene.world.simulator.on_post(&application(0), [OnPost::Reply(reply)]);
        let refresh = roll_out(&scene, "1.5.0").await;
        assert_eq!(refusals(&refresh).first().map(String::as_str), expected);
        assert_eq!(refresh["state"], "succeeded");
        assert_eq!(refresh["way"], if expected.is_some() { "gdap" } else { "publisher" });
    }
}

#[tokio::test]
async fn just_in_time_without_its_part_is_a_refusal_with_its_reason() {
    let scene = scene(&[Way::Publisher, Way::Jit, Way::HandOver]).await;
    let refresh = roll_out(&scene, "1.5.0").await;
    assert_eq!(refusals(&refresh), ["publisher: AuthorizationFailed", "jit: JitNotSetUp"]);
    assert_eq!(refresh["state"], "handedOver");
}

#[tokio::test]
async fn a_missing_consent_parks_after_every_other_way_and_what_partner_center_gives_lets_it_go_on() {
    let scene = scene(&[Way::Gdap, Way::Publisher, Way::HandOver]).await;
    // Partner Center does not answer at first.
    scene.simulator.on(Call::Consent, [OnCall::Reset]);
    let id = publish(&scene, "1.5.0").await;
    scene.world.run_due().await;
    let parked = refresh(&scene, id).await;
    assert_eq!((&parked["state"], &parked["way"]), (&json!("awaitingAccess"), &json!("gdap")));
    assert_eq!(refusals(&parked), ["gdap: ConsentMissing", "publisher: AuthorizationFailed"]);
    assert_eq!((&parked["error"]["code"], &parked["error"]["actor"]), (&json!("ConsentMissing"), &json!("customer")));
    assert_eq!(parked["why"], format!("waits for the consent of tenant {TENANT}"));
    let ended = scene.world.settle(id, HOUR).await;
    assert_eq!((&ended["state"], &ended["counts"]["succeeded"]), (&json!("completed"), &json!(1)));
    let done = refresh(&scene, id).await;
    assert_eq!((&done["way"], refusals(&done)), (&json!("gdap"), vec!["publisher: AuthorizationFailed".to_owned()]));
    scene.world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn an_administrators_consent_lets_it_go_on_and_without_one_the_customer_gets_the_command() {
    for consents in [true, false] {
        let scene = scene(&ALL).await;
        scene.simulator.on(Call::Consent, [OnCall::Answer(Reply::json(403, &json!({"code": 2032})))]);
        let id = publish(&scene, "1.5.0").await;
        scene.world.run_due().await;
        assert!(scene.parked().await.unwrap().contains("permafresh gdap link"));
        assert_eq!(refresh(&scene, id).await["state"], "awaitingAccess");
        if consents {
            consent(&scene);
            let link = scene.gdap().admin_link(TENANT, scene.world.now());
            let state = link.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
            let callback = format!("/api/consent/callback?state={state}&admin_consent=True&tenant={TENANT}");
            assert_eq!(scene.world.request(get(&callback)).await.0, StatusCode::OK);
            let ended = scene.world.settle(id, HOUR).await;
            assert_eq!(ended["counts"]["succeeded"], 1, "{ended}");
        } else {
            scene.world.advance(14 * DAY - MINUTE);
            scene.world.run_due().await;
            assert_eq!(refresh(&scene, id).await["state"], "awaitingAccess");
            scene.world.advance(MINUTE);
            scene.world.run_due().await;
            let refresh = refresh(&scene, id).await;
            assert_eq!(refresh["state"], "handedOver");
            assert!(refresh["command"].as_str().unwrap().starts_with("az rest"));
            assert_eq!(scene.world.rollout(id).await["state"], "completed");
        }
    }
}

#[tokio::test]
async fn a_consent_that_came_while_it_was_being_parked_is_found_at_the_first_look() {
    let scene = scene(&[Way::Gdap, Way::HandOver]).await;
    scene.simulator.on(Call::Consent, [OnCall::Answer(Reply::json(403, &json!({"code": 2032})))]);
    let id = publish(&scene, "1.5.0").await;
    scene.world.run_due().await;
    consent(&scene);
    // Granted, and nobody opened the gate.
    let known = document::get::<CustomerConsent>(&*scene.world.store, TENANT).await.unwrap().unwrap();
    let granted = CustomerConsent { state: ConsentState::Granted, ..known.value.clone() };
    let granted = Versioned { value: granted, etag: known.etag };
    assert!(document::save(&*scene.world.store, &granted).await.unwrap().is_stored());
    scene.world.advance(MINUTE);
    scene.world.run_due().await;
    assert_eq!(refresh(&scene, id).await["state"], "running");
}

#[tokio::test]
async fn each_refusal_of_entra_leads_on() {
    for (reply, state, code) in [
        (Reply::oauth(400, "invalid_resource", 500_011), "handedOver", "ServicePrincipalMissing"),
        (Reply::oauth(400, "invalid_grant", 53_003), "handedOver", "CustomerPolicy"),
        (Reply::oauth(400, "invalid_grant", 50_076), "handedOver", "CustomerPolicy"),
        (Reply::oauth(400, "invalid_request", 90_002), "handedOver", "NoRelationship"),
        (Reply::oauth(401, "invalid_client", 7_000_222), "awaitingAccess", "GdapMisconfigured"),
        (Reply::oauth(400, "invalid_grant", 700_082), "awaitingAccess", "SignInNeeded"),
        (Reply::text(429, "").with("retry-after", 90), "queued", "GdapUnavailable"),
    ] {
        let scene = scene(&[Way::Gdap, Way::HandOver]).await;
        consent(&scene);
        // Of a sign-in our own tenant says the same, or it would be this customer's affair alone.
        let times = if code == "SignInNeeded" { 2 } else { 1 };
        scene.simulator.on(Call::Token, vec![OnCall::Answer(reply); times]);
        let id = publish(&scene, "1.5.0").await;
        scene.world.run_due().await;
        let refresh = refresh(&scene, id).await;
        assert_eq!((refresh["state"].as_str().unwrap(), refresh["error"]["code"].as_str().unwrap()), (state, code));
        if state == "queued" {
            assert_eq!(refresh["nextLook"], json!(scene.world.now() + Duration::from_secs(90)), "the wait Entra named");
            assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 1);
        } else {
            let message = refresh["error"]["message"].as_str().unwrap();
            assert!(message.contains("AADSTS"), "{message}");
        }
    }
}

#[tokio::test]
async fn without_a_sign_in_the_other_ways_go_on_gdap_waits_and_nothing_fails() {
    let scene = scene(&[Way::Gdap, Way::Publisher, Way::HandOver]).await;
    consent(&scene);
    // One deployment that the publisher may call, and more that wait.
    scene.world.deploy_these(&[application(1)]).await;
    deploy(&scene, &application(2), TENANT).await;
    scene.simulator.revoke(&scene.token);
    let id = publish(&scene, "1.5.0").await;
    scene.world.settle(id, HOUR).await;
    let rollout = scene.world.rollout(id).await;
    assert_eq!((&rollout["counts"]["succeeded"], &rollout["counts"]["awaitingAccess"]), (&json!(1), &json!(2)));
    let other = scene.world.refresh_of(id, &application(1)).await;
    assert_eq!((&other["way"], refusals(&other)), (&json!("publisher"), vec!["gdap: SignInNeeded".to_owned()]));
    let parked = refresh(&scene, id).await;
    assert!(parked["why"].as_str().unwrap().contains("permafresh gdap sign-in"), "{parked}");
    assert_eq!(parked["error"]["actor"], "publisher");
    let asked = scene.simulator.requests(Call::Token).len();
    // Two tenants at once, and our own for each of them.
    assert!(asked <= 4, "Entra is not asked for each deployment, and not at every look: {asked}");
    // Somebody signs in elsewhere.
    scene.simulator.put_secret(&scene.simulator.mint());
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    assert_eq!(scene.world.simulator.stats().foreign_tokens, 0);
}

#[tokio::test]
async fn a_standstill_that_lasts_ends_with_the_customers_command() {
    let scene = scene(&[Way::Gdap, Way::HandOver]).await;
    scene.simulator.revoke(&scene.token);
    let id = publish(&scene, "1.5.0").await;
    scene.world.run_due().await;
    scene.world.advance(14 * DAY);
    scene.world.run_due().await;
    let refresh = refresh(&scene, id).await;
    assert_eq!((&refresh["state"], &refresh["error"]["code"]), (&json!("handedOver"), &json!("SignInNeeded")));
}

#[tokio::test]
async fn a_token_that_ends_while_the_operation_runs_is_replaced() {
    let scene = scene_with(&[Way::Gdap, Way::HandOver], |config| config.token_seconds = 20).await;
    consent(&scene);
    let refresh = roll_out(&scene, "1.5.0").await;
    assert_eq!((&refresh["state"], &refresh["verified"]), (&json!("succeeded"), &json!(true)));
    assert!(scene.simulator.requests(Call::Token).len() > 2);
    assert_eq!(scene.world.simulator.operations_of(&application(0)), 1);
}

#[tokio::test]
async fn losing_the_customer_while_the_operation_runs_keeps_the_operation() {
    let scene = scene_with(&[Way::Gdap, Way::HandOver], |config| config.token_seconds = 20).await;
    consent(&scene);
    let id = publish(&scene, "1.5.0").await;
    scene.world.run_due().await;
    scene.change_customer(|customer| customer.has_consented = false);
    scene.world.settle(id, 10 * MINUTE).await;
    let kept = refresh(&scene, id).await;
    assert_eq!((&kept["state"], &kept["way"]), (&json!("running"), &json!("gdap")));
    consent(&scene);
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 1);
    assert_eq!(scene.world.simulator.operations_of(&application(0)), 1, "it was not posted again");
}

#[tokio::test]
async fn each_tenant_gets_its_own_token_and_no_other() {
    let scene = scene(&[Way::Gdap, Way::HandOver]).await;
    consent(&scene);
    let customer = Customer { has_consented: true, has_relationship: true, ..Customer::default() };
    scene.simulator.add_customer(OTHER, customer);
    for number in 1..6 {
        deploy(&scene, &application(number), if number % 2 == 0 { TENANT } else { OTHER }).await;
    }
    let id = publish(&scene, "1.5.0").await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 6);
    assert_eq!(scene.world.simulator.stats().foreign_tokens, 0);
    assert_eq!(scene.simulator.requests(Call::Token).len(), 2, "one exchange for each tenant");
}

#[tokio::test]
async fn a_subscription_that_moved_to_another_tenant_is_called_with_that_ones_token() {
    let scene = scene(&[Way::Gdap, Way::HandOver]).await;
    consent(&scene);
    let customer = Customer { has_consented: true, has_relationship: true, ..Customer::default() };
    scene.simulator.add_customer(OTHER, customer);
    roll_out(&scene, "1.5.0").await;
    let spec = ApplicationSpec { tenant_id: OTHER.into(), ..ApplicationSpec::new(application(0)) };
    scene.world.simulator.add_application(spec);
    let refresh = roll_out(&scene, "1.6.0").await;
    assert_eq!((&refresh["state"], refusals(&refresh).len()), (&json!("succeeded"), 0));
    assert_eq!(scene.world.simulator.stats().foreign_tokens, 1, "nobody could know before that call");
}

#[tokio::test]
async fn a_gate_that_opens_posts_nothing_while_the_rollout_is_paused() {
    let scene = scene(&[Way::Gdap, Way::HandOver]).await;
    scene.simulator.on(Call::Consent, [OnCall::Answer(Reply::json(403, &json!({"code": 2032})))]);
    let id = publish(&scene, "1.5.0").await;
    scene.world.run_due().await;
    scene.world.post(&format!("/api/rollouts/{id}/pause"), &json!({})).await;
    consent(&scene);
    scene.engine().open_consent_gate(TENANT).await.unwrap();
    scene.world.advance(MINUTE);
    scene.world.run_due().await;
    assert_eq!(scene.world.simulator.posts_of(&application(0)), 0);
    scene.world.post(&format!("/api/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn a_check_reads_by_the_way_that_worked() {
    let scene = scene(&[Way::Publisher, Way::Gdap, Way::HandOver]).await;
    consent(&scene);
    roll_out(&scene, "1.5.0").await;
    let reads = scene.world.simulator.stats().reads;
    let note = json!({"eventType": "PATCH", "applicationId": application(0), "eventTime": scene.world.now(),
        "provisioningState": "Succeeded"});
    let path = format!("/api/notification/resource?sig={}", crate::world::SIG);
    assert_eq!(scene.world.post(&path, &note).await.0, StatusCode::OK);
    scene.world.run_due().await;
    assert_eq!(scene.world.simulator.stats().reads, reads + 1, "the publisher's token would not have got so far");
}
