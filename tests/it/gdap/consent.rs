//! Consent: through Partner Center, by the customer's administrator, and what goes on once it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::access::gdap::GdapError;
use permafresh::access::gdap::link::{State, StateKey};
use permafresh::access::gdap::scopes::{ARM_APP, GRAPH_APP, Grant};
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::engine::consents::ConsentState;
use permafresh::rollout::RefreshState;
use permafresh::rollout::refresh::Gate;
use permafresh::store::{PageRequest, Versioned};
use serde_json::json;

use super::scene::{STATE_KEY, Scene, TENANT};
use crate::world::{World, one_wave};

const MINUTE: Duration = Duration::from_secs(60);

async fn want(scene: &Scene) {
    scene.engine().want_consent(TENANT, &[Grant::arm()]).await.unwrap();
}

#[tokio::test]
async fn a_missing_consent_is_asked_for_and_what_waited_goes_on() {
    let scene = Scene::new().await;
    let [application] = &scene.world.deploy(1).await[..] else { panic!() };
    let rollout = scene.world.publish(json!({"strategy": one_wave()})).await;
    // Parked, as the choice of ways does it.
    let plans = scene.world.queue.receive("rollouts", 1, MINUTE).await.unwrap();
    for plan in plans {
        scene.engine().plan_rollout(rollout).await.unwrap();
        scene.world.queue.complete("rollouts", &[plan.lock]).await.unwrap();
    }
    let page = PageRequest { continuation: None, top: 10 };
    let mut refresh = scene.world.store.refreshes(rollout, None, &page).await.unwrap().items.remove(0);
    let now = scene.world.now();
    refresh.value.state = RefreshState::AwaitingAccess {
        attempt: 1,
        gate: Gate::Consent { tenant_id: TENANT.to_ascii_uppercase() },
        next_look: now + 60 * MINUTE,
        deadline: now + 600 * MINUTE,
    };
    let parked = Versioned { value: refresh.value.clone(), etag: refresh.etag };
    assert!(scene.world.store.save_refreshes(&[parked]).await.unwrap()[0].is_stored());

    let error = scene.engine().gdap_token(TENANT).await.unwrap().unwrap_err();
    assert!(matches!(error, GdapError::NeedsConsent { .. }), "{error}");
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
    assert!(scene.engine().gdap_token(TENANT).await.unwrap().is_ok());
    let ended = scene.world.settle(rollout, 30 * MINUTE).await;
    assert_eq!(ended["counts"]["succeeded"], 1, "{ended}");
    assert_eq!(scene.world.refresh_of(rollout, application).await["state"], "succeeded");

    let request = &scene.simulator.requests(Call::Consent)[0];
    assert_eq!(request.line, format!("POST /v1/customers/{TENANT}/applicationconsents"));
    assert_eq!(request.headers["ms-contract-version"], "v1");
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let grants = json!([{"enterpriseApplicationId": ARM_APP, "scope": "user_impersonation"}]);
    assert_eq!(body["applicationGrants"], grants);
}

#[tokio::test]
async fn a_consent_that_exists_already_is_a_consent_and_a_repeat_keeps_its_request_id() {
    let scene = Scene::new().await;
    // Done, but the answer is lost; the token that proves it is refused until the second try.
    scene.simulator.on(Call::Consent, [OnCall::DoAndDrop]);
    want(&scene).await;
    scene.world.deliver().await;
    assert!(!scene.has_consented().await);
    scene.change_customer(|customer| customer.has_consented = false);
    scene.simulator.on(Call::Consent, [OnCall::Answer(Reply::text(409, ""))]);
    scene.world.advance(MINUTE);
    scene.world.deliver().await;
    let requests = scene.simulator.requests(Call::Consent);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].headers["ms-requestid"], requests[1].headers["ms-requestid"]);
    assert_eq!(requests[0].headers["ms-correlationid"], requests[1].headers["ms-correlationid"]);
    // 409 is believed, but proven all the same.
    assert!(!scene.has_consented().await);
    scene.change_customer(|customer| customer.has_consented = true);
    scene.world.advance(2 * MINUTE);
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
}

#[tokio::test]
async fn each_refusal_of_partner_center_waits_for_the_right_one() {
    for (reply, words) in [
        (Some(Reply::json(403, &json!({"code": "20002"}))), "no GDAP relationship"),
        (Some(Reply::json(403, &json!({"code": 2032}))), "permafresh gdap link"),
        (Some(Reply::json(404, &json!({"code": "60003"}))), "no GDAP relationship"),
        (Some(Reply::json(400, &json!({"code": "2000"}))), "permafresh gdap link"),
    ] {
        let scene = Scene::new().await;
        scene.simulator.on(Call::Consent, reply.map(OnCall::Answer));
        want(&scene).await;
        scene.world.deliver().await;
        let why = scene.parked().await.expect("it waits for somebody");
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn a_missing_service_principal_is_named() {
    let scene = Scene::new().await;
    // Consent for Graph is there, so that it can be asked; for ARM it is not.
    scene.change_customer(|customer| {
        customer.has_consented = true;
        customer.beyond = BTreeMap::from([(GRAPH_APP.to_owned(), BTreeSet::new())]);
        customer.missing = BTreeSet::from([ARM_APP.to_owned()]);
    });
    scene.simulator.on(Call::Token, [OnCall::Answer(Reply::oauth(400, "invalid_resource", 500_011))]);
    want(&scene).await;
    scene.world.deliver().await;
    let why = scene.parked().await.expect("it waits for somebody");
    assert!(why.contains("lacks a service principal") && why.contains(ARM_APP), "{why}");
}

#[tokio::test]
async fn without_a_second_factor_somebody_has_to_sign_in_again() {
    let scene = Scene::with(|config| config.amr = vec!["pwd".into()]).await;
    let refused = Reply::text(401, "").with("www-authenticate", "Bearer error=\"invalid_token\"");
    scene.simulator.on(Call::Consent, [OnCall::Answer(refused.clone()), OnCall::Answer(refused)]);
    want(&scene).await;
    scene.world.deliver().await;
    let why = scene.parked().await.unwrap();
    assert!(why.contains("gdap sign-in") && why.contains("no second factor"), "{why}");
}

#[tokio::test]
async fn trouble_that_passes_is_tried_again_and_in_the_end_given_to_a_person() {
    let scene = Scene::new().await;
    let trouble = [
        Reply::text(500, ""),
        Reply::text(429, "").with("retry-after", 30),
        Reply::text(302, "").with("location", "https://evil.example/"),
    ];
    scene.simulator.on(Call::Consent, (0..12).map(|n| OnCall::Answer(trouble[n % 3].clone())));
    want(&scene).await;
    for _ in 0..12 {
        scene.world.deliver().await;
        scene.world.advance(60 * MINUTE);
    }
    assert_eq!(scene.simulator.requests(Call::Consent).len(), 12);
    assert!(scene.parked().await.is_some());
}

#[tokio::test]
async fn a_lost_message_is_found_by_the_renewal() {
    let scene = Scene::new().await;
    want(&scene).await;
    for lost in scene.world.queue.receive("refreshes", 10, MINUTE).await.unwrap() {
        scene.world.queue.complete("refreshes", &[lost.lock]).await.unwrap();
    }
    scene.world.advance(61 * MINUTE);
    scene.engine().renew_tokens().await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
}

#[tokio::test]
async fn what_was_asked_for_once_stays_asked_for() {
    let scene = Scene::new().await;
    let graph = Grant::graph();
    scene.simulator.on(Call::Consent, [OnCall::Answer(Reply::text(503, "")), OnCall::Answer(Reply::text(403, ""))]);
    want(&scene).await;
    scene.world.deliver().await;
    // While the first request is under way, somebody asks for more.
    scene.engine().want_consent(TENANT, &[Grant::arm(), graph]).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.parked().await.is_some());
    // A call-back, an event and a refusal of Entra ask for what a refresh needs alone.
    want(&scene).await;
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
    let requests = scene.simulator.requests(Call::Consent);
    let asked: Vec<bool> = requests.iter().map(|request| request.body.contains(GRAPH_APP)).collect();
    assert_eq!(asked, [false, true, true]);
    assert_ne!(requests[0].headers["ms-requestid"], requests[1].headers["ms-requestid"], "it is another request");
}

fn callback(state: &str, more: &str) -> Request<Body> {
    let state: String = url::form_urlencoded::byte_serialize(state.as_bytes()).collect();
    Request::get(format!("/api/consent/callback?state={state}{more}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_administrator_who_comes_back_is_not_believed_but_looked_after() {
    let scene = Scene::new().await;
    scene.change_customer(|customer| customer.has_relationship = false);
    let link = scene.gdap().admin_link(TENANT, scene.world.now());
    let state = link.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let good = format!("&admin_consent=True&tenant={TENANT}");

    let (status, page) = scene.world.request(callback(&state, &good)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Thank you"), "{page}");
    scene.world.deliver().await;
    assert!(!scene.has_consented().await, "nobody has consented in truth");
    assert!(scene.parked().await.is_some());

    scene.change_customer(|customer| customer.has_consented = true);
    assert_eq!(scene.world.request(callback(&state, &good)).await.0, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
}

#[tokio::test]
async fn a_call_back_that_is_not_ours_changes_nothing() {
    let scene = Scene::new().await;
    let now = scene.world.now();
    let state = |expires: i64| State { tenant_id: TENANT.into(), expires, nonce: "n".into() };
    let ours = StateKey::new(STATE_KEY).sign(&state(now.timestamp()));
    let expired = StateKey::new(STATE_KEY).sign(&state(now.timestamp() - 1));
    let forged = StateKey::new("somebody-elses-key-of-32-characters-or-so").sign(&state(now.timestamp() + 60));
    let good = format!("&admin_consent=True&tenant={TENANT}");
    for (state, more, expected) in [
        (&*expired, &*good, StatusCode::BAD_REQUEST),
        (&forged, &good, StatusCode::BAD_REQUEST),
        ("", &good, StatusCode::BAD_REQUEST),
        ("<script>", &good, StatusCode::BAD_REQUEST),
        (&ours, "&admin_consent=True&tenant=ffffffff-77aa-4b31-9f2e-5c6d7e8f9a01", StatusCode::BAD_REQUEST),
        (&ours, "&admin_consent=True", StatusCode::BAD_REQUEST),
        (&ours, "&error=access_denied&error_description=%3Cscript%3E", StatusCode::OK),
        (&ours, "&admin_consent=False", StatusCode::OK),
    ] {
        let (status, page) = scene.world.request(callback(state, more)).await;
        assert_eq!(status, expected, "{more}: {page}");
        assert!(!page.contains("script"), "{page}");
    }
    assert_eq!(scene.consent().await, None);
    let bare = World::new().await;
    assert_eq!(bare.request(callback(&ours, &good)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let elsewhere = Request::get("/api/consent/other").body(Body::empty()).unwrap();
    assert_eq!(scene.world.request(elsewhere).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_waited_for_the_publisher_goes_on_once_somebody_has_signed_in() {
    let scene = Scene::new().await;
    scene.simulator.revoke(&scene.token);
    want(&scene).await;
    scene.world.deliver().await;
    assert!(matches!(scene.consent().await.unwrap().state, ConsentState::Parked { .. }));
    scene.simulator.put_secret(&scene.simulator.mint());
    scene.engine().renew_tokens().await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
}
