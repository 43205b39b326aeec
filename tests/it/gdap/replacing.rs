//! More, or less, than a customer has consented to: added beside it where Partner Center takes that, else withdrawn and asked
//! for anew, if somebody allows it; and what a death between the two halves leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use permafresh::access::gdap::scopes::{ARM_APP, GRAPH_APP, Grant};
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::engine::Engine;
use permafresh::engine::consents::ConsentState;
use permafresh::engine::consents::asking::LEASE;
use serde_json::Value;

use super::scene::{Scene, TENANT};
use crate::faults::{Faults, FaultyQueue, FaultyStore, Moment};

const MINUTE: Duration = Duration::from_secs(60);

fn both() -> Vec<Grant> {
    vec![Grant::arm(), Grant::graph()]
}

/// The customer has consented to Azure, as the service knows.
async fn consented() -> Scene {
    let scene = Scene::new().await;
    scene.engine().want_consent(TENANT, &[Grant::arm()]).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
    scene
}

/// What was asked of Partner Center: W for a withdrawal, else what a consent was for.
fn asked(scene: &Scene) -> Vec<String> {
    let all = scene.simulator.all_requests();
    let ours = all.iter().filter(|request| matches!(request.call, Call::Consent | Call::Withdraw));
    ours.map(|request| word(&request.body)).collect()
}

fn word(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(grants) = body["applicationGrants"].as_array() else { return "W".to_owned() };
    let name = |grant: &Value| match grant["enterpriseApplicationId"].as_str() {
        Some(ARM_APP) => "arm",
        Some(GRAPH_APP) => "graph",
        _ => "?",
    };
    grants.iter().map(name).collect::<Vec<_>>().join("+")
}

fn has_both(scene: &Scene) -> bool {
    let customer = scene.simulator.customer(TENANT).unwrap();
    customer.has_consented && customer.beyond.contains_key(GRAPH_APP)
}

/// Azure's permission alone, for what was to be both.
async fn lacking() -> Scene {
    let scene = consented().await;
    scene.engine().want_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    scene
}

#[tokio::test]
async fn another_resource_is_added_beside_what_is_there_where_partner_center_takes_that() {
    let scene = consented().await;
    scene.change_customer(|customer| customer.takes_more = true);
    scene.engine().want_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await && has_both(&scene));
    assert_eq!(asked(&scene), ["arm", "graph"]);
    let requests = scene.simulator.requests(Call::Consent);
    assert_ne!(requests[0].headers["ms-requestid"], requests[1].headers["ms-requestid"]);
}

#[tokio::test]
async fn what_cannot_be_added_takes_nothing_away_and_says_what_would() {
    let scene = lacking().await;
    let why = scene.parked().await.expect("a person has to allow it");
    assert!(why.contains("Application.Read.All of Microsoft Graph") && why.contains("--replace"), "{why}");
    assert_eq!(asked(&scene), ["arm", "graph"]);
    assert!(scene.engine().gdap_token(TENANT).await.unwrap().is_ok(), "a refresh needs nothing else");
    // Nobody asks again by himself.
    scene.world.advance(24 * 60 * MINUTE);
    scene.engine().renew_tokens().await.unwrap();
    scene.world.deliver().await;
    assert_eq!(asked(&scene).len(), 2);
}

#[tokio::test]
async fn a_permission_more_of_the_same_resource_is_missed_too() {
    let scene = consented().await;
    scene.change_customer(|customer| {
        customer.takes_more = true;
        customer.beyond = BTreeMap::from([(GRAPH_APP.to_owned(), BTreeSet::from(["User.Read".to_owned()]))]);
    });
    scene.engine().want_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.parked().await.unwrap().contains("Application.Read.All"));
    scene.engine().replace_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
    assert_eq!(asked(&scene), ["arm", "graph", "graph", "W", "arm+graph"]);
}

#[tokio::test]
async fn with_leave_the_consent_is_withdrawn_and_asked_for_anew_by_ids_of_their_own() {
    let scene = lacking().await;
    scene.engine().replace_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await && has_both(&scene));
    assert_eq!(asked(&scene), ["arm", "graph", "graph", "W", "arm+graph"]);
    let all = scene.simulator.all_requests();
    let ids = all.iter().filter(|request| matches!(request.call, Call::Consent | Call::Withdraw));
    let ids: BTreeSet<_> = ids.map(|request| request.headers["ms-requestid"].to_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 5, "each is another request");
    // The same once more changes nothing.
    scene.engine().replace_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
    assert_eq!(asked(&scene).len(), 5);
}

#[tokio::test]
async fn less_than_there_is_takes_a_withdrawal() {
    let scene = Scene::new().await;
    scene.engine().want_consent(TENANT, &both()).await.unwrap();
    scene.world.deliver().await;
    assert!(has_both(&scene));
    scene.engine().replace_consent(TENANT, &[Grant::arm()]).await.unwrap();
    scene.world.deliver().await;
    let consent = scene.consent().await.unwrap();
    assert_eq!((consent.state, consent.grants), (ConsentState::Granted, vec![Grant::arm()]));
    assert_eq!(asked(&scene), ["arm+graph", "W", "arm"]);
    assert_eq!(scene.simulator.customer(TENANT).unwrap().beyond, BTreeMap::new());
}

#[tokio::test]
async fn a_withdrawal_that_fails_is_repeated_and_one_that_we_may_not_make_leaves_what_is_there() {
    for (reply, is_done) in [
        (OnCall::Answer(Reply::text(503, "")), true),
        (OnCall::Answer(Reply::text(429, "").with("retry-after", 20)), true),
        (OnCall::Answer(Reply::text(409, "")), true),
        (OnCall::DoAndDrop, true),
        (OnCall::Answer(Reply::json(403, &serde_json::json!({"code": 2032}))), false),
        (OnCall::Answer(Reply::json(404, &serde_json::json!({"code": "60003"}))), false),
    ] {
        let scene = lacking().await;
        scene.simulator.on(Call::Withdraw, [reply.clone()]);
        scene.engine().replace_consent(TENANT, &both()).await.unwrap();
        scene.world.deliver().await;
        scene.world.advance(5 * MINUTE);
        scene.world.deliver().await;
        assert_eq!(scene.has_consented().await, is_done, "{reply:?} {:?}", scene.consent().await);
        assert_eq!(has_both(&scene), is_done, "{reply:?}");
        assert!(scene.simulator.customer(TENANT).unwrap().has_consented, "{reply:?}");
        let ids = scene.simulator.requests(Call::Withdraw);
        let ids: BTreeSet<_> = ids.iter().map(|request| request.headers["ms-requestid"].to_str().unwrap()).collect();
        assert_eq!(ids.len(), 1, "a repeat keeps its id");
    }
}

#[tokio::test]
async fn a_consent_to_less_that_came_in_between_is_withdrawn_once_more() {
    let scene = lacking().await;
    let there_is_one = OnCall::Answer(Reply::text(409, ""));
    scene.simulator.on(Call::Consent, [OnCall::AsUsual].into_iter().chain(std::iter::repeat_n(there_is_one, 3)));
    scene.engine().replace_consent(TENANT, &both()).await.unwrap();
    for _ in 0..6 {
        scene.world.deliver().await;
        scene.world.advance(60 * MINUTE);
    }
    assert!(scene.has_consented().await && has_both(&scene), "{:?}", scene.consent().await);
    let anew = "arm+graph";
    assert_eq!(asked(&scene), ["arm", "graph", "graph", "W", anew, anew, anew, "W", anew]);
}

fn engine(scene: &Scene, faults: &Arc<Faults>) -> Engine {
    let (store, queue) = (&scene.world.store, &scene.world.queue);
    let app = scene.world.app(FaultyStore::over(store, faults), FaultyQueue::over(queue, faults));
    app.engine.with_gdap(scene.gdap())
}

/// A person allows it, on an engine that may die.
async fn replace(engine: &Engine) {
    engine.replace_consent(TENANT, &both()).await.unwrap();
    engine.consent_step(TENANT).await.unwrap();
}

/// What a death left goes on: by the messages alone if the consent is gone, else when the person repeats it.
async fn go_on(scene: &Scene, context: &str) {
    let is_gone = !scene.simulator.customer(TENANT).unwrap().has_consented;
    for _ in 0..3 {
        scene.world.advance(LEASE);
        scene.world.deliver().await;
    }
    if is_gone {
        assert!(scene.has_consented().await, "{context}: nobody found it: {:?}", scene.consent().await);
    }
    replace(&scene.engine()).await;
    scene.world.advance(LEASE);
    scene.world.deliver().await;
    assert!(scene.has_consented().await && has_both(scene), "{context}: {:?}", scene.consent().await);
    assert!(scene.engine().gdap_token(TENANT).await.unwrap().is_ok(), "{context}");
    let withdrawals = scene.simulator.requests(Call::Withdraw).len();
    assert!((1..=2).contains(&withdrawals), "{context}: {withdrawals}");
}

#[tokio::test]
async fn a_death_at_any_effect_of_a_replacement_is_found_and_mended() {
    let mut deaths = 0;
    for moment in [Moment::Before, Moment::After] {
        for effect in 1.. {
            assert!(effect < 50, "it never lives");
            let scene = lacking().await;
            let faults = Faults::death_at(effect, moment);
            let lived = faults.until_death(replace(&engine(&scene, &faults))).await.is_some();
            go_on(&scene, &format!("died {moment:?} effect {effect}")).await;
            if lived {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths >= 10, "{deaths}");
}

#[tokio::test]
async fn a_death_while_partner_center_answers_is_found_and_mended() {
    for (call, before) in [(Call::Consent, 0), (Call::Withdraw, 0), (Call::Consent, 1)] {
        let scene = lacking().await;
        scene.simulator.on(call, (0..before).map(|_| OnCall::AsUsual).chain([OnCall::DoAndHang]));
        let dying = engine(&scene, &Faults::none());
        tokio::select! {
            () = replace(&dying) => panic!("a call that hangs is not answered"),
            () = async { while scene.simulator.hanging() == 0 { tokio::task::yield_now().await } } => {}
        }
        drop(dying);
        go_on(&scene, &format!("{call:?} {before}")).await;
    }
}

#[tokio::test]
async fn many_at_once_withdraw_once() {
    let scene = lacking().await;
    let engines: Vec<_> = (0..6).map(|_| scene.engine()).collect();
    futures_util::future::join_all(engines.iter().map(replace)).await;
    scene.world.deliver().await;
    assert!(scene.has_consented().await && has_both(&scene));
    assert_eq!(scene.simulator.requests(Call::Withdraw).len(), 1);
}
