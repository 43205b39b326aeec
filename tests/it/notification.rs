//! Notification: what ARM says of managed applications, and what ARM says when it is asked (contracts/arm.md §3.1).

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{ApplicationSpec, OnRead, PlanSpec, Reply};
use permafresh::rollout::{ApplicationId, Deployment};
use serde_json::{Value, json};

use crate::faults::{Fault, Faults, FaultyQueue};
use crate::world::{Options, World, application, invoke_message, one_wave};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const PATH: &str = "/api/notification/resource?sig=the-sig";

async fn notify(world: &World, body: &Value) {
    let (status, answer) = world.post(PATH, body).await;
    assert_eq!(status, StatusCode::OK, "{answer} to {body}");
}

/// A Marketplace notification about the first application, as old as `age`, with changes; `null` removes a member.
fn event(world: &World, event_type: &str, state: &str, age: Duration, changes: Value) -> Value {
    let mut body = json!({
        "eventType": event_type,
        "applicationId": application(0),
        "eventTime": world.now() - age,
        "provisioningState": state,
        "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"},
        "billingDetails": {"resourceUsageId": "b1111111-0000-4000-8000-00000000000b"}
    });
    let members = body.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    body
}

async fn stored(world: &World, id: &ApplicationId) -> Option<Deployment> {
    let found = world.store.deployments_by_key(&[id.key()]).await.unwrap().pop().unwrap();
    found.map(|found| found.value)
}

async fn known(world: &World) -> Deployment {
    stored(world, &application(0)).await.expect("the deployment is registered")
}

async fn registered(world: &World) -> usize {
    world.get("/api/deployments").await["value"].as_array().unwrap().len()
}

/// ARM has the first application in this state.
fn in_arm(world: &World, state: &str) {
    let mut spec = ApplicationSpec::new(application(0));
    spec.provisioning_state = state.into();
    world.simulator.add_application(spec);
}

fn not_found() -> OnRead {
    OnRead::Reply(Reply::resource_not_found())
}

#[tokio::test]
async fn each_event_of_each_kind_is_a_claim_until_arm_was_read_and_then_arm_decides() {
    for (kind, cases) in [
        ("MarketPlace", include_str!("../data/notifications/marketplace.json")),
        ("ServiceCatalog", include_str!("../data/notifications/service-catalog.json")),
    ] {
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let world = World::new().await;
            let (body, arm) = (&case["body"], case["arm"].as_str());
            let words = (kind, &body["eventType"], &body["provisioningState"]);
            if let Some(state) = arm {
                let mut spec = ApplicationSpec::new(application(0));
                spec.provisioning_state = state.into();
                spec.plan = spec.plan.filter(|_| kind == "MarketPlace");
                world.simulator.add_application(spec);
            }
            notify(&world, body).await;
            let claim = known(&world).await;
            assert!(!claim.confirmed, "{words:?}");
            assert_eq!(claim.kind.as_deref(), Some(kind), "{words:?}");
            assert_eq!(claim.plan.is_some(), kind == "MarketPlace", "{words:?}");
            assert_eq!(claim.event_error.is_some(), body["error"].is_object(), "{words:?}");
            world.run_due().await;
            let read = known(&world).await;
            assert_eq!(read.confirmed, arm.is_some(), "{words:?}");
            assert_eq!(read.gone_since, arm.is_none().then(|| world.now()), "{words:?}");
            assert_eq!(read.provisioning_state.as_deref(), Some(arm.unwrap_or("Deleted")), "{words:?}");
            assert_eq!(read.plan.is_some(), kind == "MarketPlace", "{words:?}");
            let is_looked_at_again = matches!(arm, Some("Accepted" | "Deleting"));
            assert_eq!(read.check.is_some(), is_looked_at_again, "{words:?}");
            assert_eq!(registered(&world).await, 1, "{words:?}");
        }
    }
}

#[tokio::test]
async fn an_application_that_is_being_provisioned_is_ready_when_arm_says_so() {
    let world = World::new().await;
    in_arm(&world, "Accepted");
    notify(&world, &event(&world, "PUT", "Accepted", SECOND, json!({}))).await;
    world.run_due().await;
    let first = world.publish(json!({})).await;
    let done = world.settle(first, MINUTE).await;
    let refresh = world.refresh_of(first, &application(0)).await;
    assert!(refresh["why"].as_str().unwrap().starts_with("notReady"), "{done} {refresh}");
    in_arm(&world, "Succeeded");
    world.advance(10 * MINUTE);
    world.run_due().await;
    assert_eq!(known(&world).await.provisioning_state.as_deref(), Some("Succeeded"));
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 1, "late, and still");
    let second = world.publish(json!({"version": "1.6.0"})).await;
    assert_eq!(world.settle(second, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn odd_payloads_are_understood() {
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    let id = application(0).to_string();
    let plan = |product: &str| json!({"publisher": "Fabrikam", "product": product, "name": "Standard"});
    let oddities = [
        json!({"applicationId": id.trim_start_matches('/')}),
        json!({"applicationId": id.replace("Microsoft.Solutions", "microsoft.solutions")}),
        json!({"applicationId": id.to_uppercase()}),
        json!({"billingDetails": null}),
        json!({"eventTime": null}),
        json!({"eventTime": "yesterday"}),
        json!({"eventTime": 1_773_144_000}),
        json!({"plan": "standard", "error": "it broke"}),
        json!({"plan": {"publisher": "fabrikam", "product": 7, "name": []}}),
        json!({"eventTime": "2026-03-10T11:59:59.1234567Z"}),
        json!({"plan": plan("Ledger")}),
        json!({"plan": {"publisher": "fabrikam", "name": "standard"}}),
        json!({"plan": {"publisher": null, "product": "a/b", "name": ""}}),
        json!({"plan": null}),
        json!({"error": {}}),
        json!({"error": {"code": "X", "details": [{"code": "Y"}]}}),
        json!({"eventType": "MOVE"}),
        json!({"eventType": "put", "provisioningState": "succeeded"}),
        json!({"provisioningState": "Teleporting"}),
        json!({"colour": {"of": ["money"]}, "applicationDefinitionId": 7}),
    ];
    for oddity in oddities {
        world.advance(MINUTE);
        notify(&world, &event(&world, "PUT", "Succeeded", Duration::ZERO, oddity.clone())).await;
        world.run_due().await;
        let read = known(&world).await;
        assert!(read.confirmed && read.gone_since.is_none(), "{oddity}");
        assert_eq!(read.provisioning_state.as_deref(), Some("Succeeded"), "{oddity}");
        assert_eq!(read.plan.unwrap().to_string(), "fabrikam/ledger/standard", "{oddity}");
    }
    assert_eq!(registered(&world).await, 1, "it is the same deployment however its id is spelt");
    world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn a_preview_purchase_belongs_to_the_offer_and_is_marked() {
    let world = World::new().await;
    let plan = json!({"publisher": "fabrikam", "product": "ledger-preview", "name": "standard", "version": "1.4.0"});
    let mut spec = ApplicationSpec::new(application(0));
    spec.plan = spec.plan.map(|plan| PlanSpec { product: "ledger-preview".into(), ..plan });
    world.simulator.add_application(spec);
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({"plan": plan, "billingDetails": null}))).await;
    let claim = known(&world).await;
    assert!(claim.preview);
    world.run_due().await;
    let read = known(&world).await;
    assert!(read.preview && read.confirmed);
    assert_eq!(read.plan.unwrap().offer, "ledger");
}

#[tokio::test]
async fn a_wrong_guard_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let body = event(&world, "PUT", "Succeeded", SECOND, json!({}));
    for path in ["", "?sig=", "?sig=the-si", "?sig=the-sig2", "?SIG=the-sig", "?code=the-sig", "?sig=THE-SIG"] {
        let (status, problem) = world.post(&format!("/api/notification/resource{path}"), &body).await;
        assert_eq!((status, &problem["status"]), (StatusCode::UNAUTHORIZED, &json!(401)), "{path}");
    }
    let (status, problem) = world.post(&format!("{PATH}&sig=other"), &body).await;
    assert_eq!((status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)), "which of the two?");
    assert_eq!(registered(&world).await, 0);
    let (status, _) = world.post("/api/notification/resource?x=1&sig=the-next-sig", &body).await;
    assert_eq!(status, StatusCode::OK, "the other of the two values that are accepted");
    assert_eq!(registered(&world).await, 1);
}

#[tokio::test]
async fn a_guard_with_plus_signs_is_known_however_it_was_pasted_into_the_url() {
    let world = World::with(Options { sigs: vec!["ab+c/d==".into()], ..Options::default() }).await;
    let body = event(&world, "PUT", "Succeeded", SECOND, json!({}));
    for (sig, status) in [
        ("ab+c/d==", StatusCode::OK),
        ("ab%2Bc/d==", StatusCode::OK),
        ("ab%2bc%2Fd%3D%3D", StatusCode::OK),
        ("ab%20c/d==", StatusCode::UNAUTHORIZED),
        ("ab+c/d=", StatusCode::UNAUTHORIZED),
        ("%", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(world.post(&format!("/api/notification/resource?sig={sig}"), &body).await.0, status, "{sig}");
    }
}

#[tokio::test]
async fn without_a_guard_in_the_settings_every_notification_is_refused() {
    let world = World::with(Options { sigs: vec![], ..Options::default() }).await;
    let body = event(&world, "PUT", "Succeeded", SECOND, json!({}));
    for path in [PATH, "/api/notification/resource", "/api/notification/resource?sig="] {
        let (status, problem) = world.post(path, &body).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(problem["detail"].as_str().unwrap().contains("NOTIFICATION_SIG"), "{problem}");
    }
    assert_eq!(registered(&world).await, 0);
}

#[tokio::test]
async fn what_is_no_notification_is_refused_by_name_and_nothing_is_stored() {
    let world = World::new().await;
    for method in ["GET", "PUT", "DELETE"] {
        let request = Request::builder().method(method).uri(PATH).body(String::new().into()).unwrap();
        assert_eq!(world.request(request).await.0, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    for body in ["", "PUT", "{", "7", "\"text\"", "[]", "\u{feff}{}"] {
        let request = Request::post(PATH).body(body.to_owned().into()).unwrap();
        let (status, answer) = world.request(request).await;
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!("body")), "{body:?}");
    }
    let vault = "/subscriptions/a1000000-0000-4000-8000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/safe";
    for (changes, fields) in [
        (json!({"applicationId": vault}), vec!["applicationId"]),
        (json!({"applicationId": format!("{}/refreshPermissions", application(0))}), vec!["applicationId"]),
        (json!({"applicationId": "https://example.org/x"}), vec!["applicationId"]),
        (json!({"applicationId": ""}), vec!["applicationId"]),
        (json!({"applicationId": null, "eventType": null}), vec!["eventType", "applicationId"]),
        (json!({"provisioningState": ""}), vec!["provisioningState"]),
    ] {
        let (status, problem) = world.post(PATH, &event(&world, "PUT", "Succeeded", SECOND, changes)).await;
        let named: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((status, named), (StatusCode::BAD_REQUEST, fields), "{problem}");
    }
    assert_eq!(registered(&world).await, 0);
}

#[tokio::test]
async fn a_notification_of_a_mebibyte_is_read_and_a_larger_one_is_not() {
    let world = World::new().await;
    let mut body = event(&world, "PUT", "Succeeded", SECOND, json!({"padding": ""}));
    body["padding"] = "x".repeat(1024 * 1024 - body.to_string().len()).into();
    assert_eq!(body.to_string().len(), 1024 * 1024);
    notify(&world, &body).await;
    body["padding"] = (body["padding"].as_str().unwrap().to_owned() + "x").into();
    let (status, problem) = world.post(PATH, &body).await;
    assert_eq!((status, &problem["status"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(413)));
}

#[tokio::test]
async fn a_late_event_changes_nothing() {
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    notify(&world, &event(&world, "PATCH", "Succeeded", MINUTE, json!({}))).await;
    world.run_due().await;
    let before = known(&world).await;
    let reads = world.simulator.stats().reads;
    for (kind, state) in [("DELETE", "Deleted"), ("DELETE", "Deleting"), ("PUT", "Failed")] {
        world.advance(SECOND);
        notify(&world, &event(&world, kind, state, HOUR, json!({}))).await;
        world.run_due().await;
        assert_eq!(known(&world).await, before, "{kind} {state}");
    }
    assert_eq!(world.simulator.stats().reads, reads);
}

#[tokio::test]
async fn the_same_event_many_times_at_once_is_one_record_and_one_look() {
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    let body = event(&world, "PUT", "Succeeded", SECOND, json!({}));
    let answers = futures_util::future::join_all((0..50).map(|_| world.post(PATH, &body))).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK));
    world.run_due().await;
    assert_eq!((registered(&world).await, world.simulator.stats().reads), (1, 1));
    world.advance(HOUR);
    notify(&world, &body).await;
    world.run_due().await;
    assert_eq!(registered(&world).await, 1);
    assert_eq!(world.simulator.stats().reads, 2, "it may be another one of the same moment, so ARM is asked");
    world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn an_event_from_the_far_future_does_not_outdate_those_that_follow() {
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    let forged = json!({"eventTime": "9999-12-31T23:59:59Z"});
    notify(&world, &event(&world, "PUT", "Succeeded", Duration::ZERO, forged)).await;
    world.run_due().await;
    world.advance(SECOND);
    world.simulator.on_read(&application(0), [not_found()]);
    notify(&world, &event(&world, "DELETE", "Deleted", Duration::ZERO, json!({}))).await;
    world.run_due().await;
    assert_eq!(known(&world).await.gone_since, Some(world.now()));
}

#[tokio::test]
async fn an_unconfirmed_deployment_is_skipped_and_joins_once_arm_was_read() {
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
    let first = world.publish(json!({"strategy": one_wave()})).await;
    let planning = world.queue.receive("rollouts", 1, SECOND).await.unwrap().remove(0);
    let router = world.handler(world.store.clone(), world.queue.clone());
    assert_eq!(invoke_message(&router, "PlanRollout", &planning.body).await, StatusCode::OK);
    let refresh = world.refresh_of(first, &application(0)).await;
    assert_eq!(refresh["state"], "skipped");
    assert!(refresh["why"].as_str().unwrap().starts_with("unconfirmed"), "{refresh}");
    assert_eq!(world.simulator.stats().posts, 0);
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 1);
    let second = world.publish(json!({"version": "1.6.0"})).await;
    assert_eq!(world.settle(second, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn a_deletion_that_arm_does_not_confirm_removes_nothing_and_is_looked_at_again() {
    let world = World::new().await;
    world.deploy(1).await;
    for state in ["Deleted", "Deleting"] {
        world.advance(HOUR);
        let reads = world.simulator.stats().reads;
        notify(&world, &event(&world, "DELETE", state, Duration::ZERO, json!({}))).await;
        world.run_due().await;
        let read = known(&world).await;
        assert_eq!((read.gone_since, read.provisioning_state.as_deref()), (None, Some("Succeeded")), "{state}");
        assert_eq!(read.check.map(|check| check.due), Some(world.now() + 10 * MINUTE), "{state}");
        world.advance(10 * MINUTE);
        world.run_due().await;
        assert_eq!(known(&world).await.check, None, "{state}");
        assert_eq!(world.simulator.stats().reads, reads + 2, "{state}");
    }
    world.advance(HOUR);
    notify(&world, &event(&world, "DELETE", "Deleted", Duration::ZERO, json!({}))).await;
    world.run_due().await;
    world.simulator.on_read(&application(0), [not_found()]);
    world.advance(10 * MINUTE);
    world.run_due().await;
    assert_eq!(known(&world).await.gone_since, Some(world.now()), "ARM was a little behind");
}

#[tokio::test]
async fn an_application_that_arm_does_not_find_is_looked_for_twice_unless_its_deletion_was_announced() {
    let world = World::new().await;
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
    world.run_due().await;
    assert_eq!(known(&world).await.gone_since, None);
    world.advance(10 * MINUTE);
    world.run_due().await;
    assert_eq!(known(&world).await.gone_since, Some(world.now()));
    assert_eq!(world.simulator.stats().reads, 2);
}

#[tokio::test]
async fn one_look_that_finds_nothing_is_not_enough_whatever_the_others_said() {
    let unclear = || OnRead::Reply(Reply::html(500));
    for looks in [vec![unclear(), not_found()], vec![not_found(), unclear(), not_found()]] {
        let world = World::new().await;
        in_arm(&world, "Succeeded");
        let count = looks.len() as u64;
        world.simulator.on_read(&application(0), looks);
        notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
        for _ in 0..10 {
            world.run_due().await;
            world.advance(10 * MINUTE);
        }
        let read = known(&world).await;
        assert_eq!((read.gone_since, read.check), (None, None));
        assert_eq!(world.simulator.stats().reads, count + 1);
    }
}

#[tokio::test]
async fn a_tombstone_is_kept_for_ninety_days_and_then_forgotten() {
    let world = World::new().await;
    world.deploy(2).await;
    world.simulator.on_read(&application(0), [not_found()]);
    notify(&world, &event(&world, "DELETE", "Deleted", SECOND, json!({}))).await;
    world.run_due().await;
    assert_eq!(known(&world).await.gone_since, Some(world.now()));
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["counts"]["total"], 1, "it belongs to no rollout any more: {done}");
    let gone_since = known(&world).await.gone_since.unwrap();
    let left = (gone_since + 90 * DAY - world.now()).to_std().unwrap();
    world.advance(left - SECOND);
    world.tick().await;
    assert!(stored(&world, &application(0)).await.is_some());
    world.advance(2 * SECOND);
    world.tick().await;
    assert!(stored(&world, &application(0)).await.is_none());
    assert!(stored(&world, &application(1)).await.is_some());
}

#[tokio::test]
async fn a_later_put_brings_a_deleted_deployment_back() {
    let world = World::new().await;
    world.deploy(1).await;
    world.simulator.on_read(&application(0), [not_found()]);
    notify(&world, &event(&world, "DELETE", "Deleted", SECOND, json!({}))).await;
    world.run_due().await;
    world.advance(DAY);
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
    world.run_due().await;
    let back = known(&world).await;
    assert_eq!((back.gone_since, back.provisioning_state.as_deref()), (None, Some("Succeeded")));
    let id = world.publish(json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn a_forged_deletion_delays_a_refresh_and_costs_it_nothing() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    let id = world.publish(json!({})).await;
    // The refresh is planned and its message waits; then somebody who knows `sig` claims a deletion.
    for message in world.queue.receive("rollouts", 10, HOUR).await.unwrap() {
        invoke_message(&world.handler(world.store.clone(), world.queue.clone()), "PlanRollout", &message.body).await;
        world.queue.complete("rollouts", &[message.lock]).await.unwrap();
    }
    notify(&world, &forged_deletion(&ids[0])).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(1)), "{done}");
}

#[tokio::test]
async fn a_claimed_deletion_that_nobody_can_check_excludes_nobody() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    world.simulator.on_read(&ids[0], std::iter::repeat_n(OnRead::Reply(Reply::forbidden()), 5));
    notify(&world, &forged_deletion(&ids[0])).await;
    for _ in 0..8 {
        world.run_due().await;
        world.advance(HOUR);
    }
    let id = world.publish(json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1, "ARM itself has the last word at the POST");
}

fn forged_deletion(id: &ApplicationId) -> Value {
    json!({"eventType": "DELETE", "provisioningState": "Deleting", "applicationId": id, "eventTime": "2026-03-10T12:00:00Z"})
}

#[tokio::test]
async fn a_deletion_under_way_stops_a_refresh_that_is_queued() {
    let world = World::new().await;
    let ids = world.deploy(2).await;
    world.simulator.throttle(ids[0].subscription(), 5 * MINUTE);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    assert_eq!(world.refresh_of(id, &ids[0]).await["state"], "queued");
    let posts = world.simulator.posts_of(&ids[0]);
    in_arm(&world, "Deleting");
    notify(&world, &event(&world, "DELETE", "Deleting", Duration::ZERO, json!({}))).await;
    let done = world.settle(id, 2 * HOUR).await;
    let refresh = world.refresh_of(id, &ids[0]).await;
    assert_eq!((&done["state"], &refresh["state"]), (&json!("completed"), &json!("skipped")), "{refresh}");
    assert!(refresh["why"].as_str().unwrap().starts_with("deleting"), "{refresh}");
    assert_eq!(world.simulator.posts_of(&ids[0]), posts);
    assert_eq!(world.simulator.operations_of(&ids[0]), 0);
}

#[tokio::test]
async fn a_forged_plan_does_not_stand_against_arm() {
    let forged = json!({"plan": {"publisher": "mallory", "product": "trap", "name": "door", "version": "9.9.9"}});
    let world = World::new().await;
    in_arm(&world, "Succeeded");
    notify(&world, &event(&world, "PUT", "Succeeded", MINUTE, forged.clone())).await;
    world.run_due().await;
    let read = known(&world).await;
    assert_eq!(read.plan.as_ref().unwrap().to_string(), "fabrikam/ledger/standard");
    assert_eq!(read.version.as_deref(), Some("1.4.0"));
    notify(&world, &event(&world, "PATCH", "Succeeded", SECOND, forged)).await;
    let claim = known(&world).await;
    assert_eq!((claim.plan, claim.version), (read.plan, read.version), "not even until ARM is read");
}

#[tokio::test]
async fn a_service_catalog_application_cannot_be_talked_into_a_plan() {
    let world = World::new().await;
    world.simulator.add_application(ApplicationSpec { plan: None, ..ApplicationSpec::new(application(0)) });
    for _ in 0..2 {
        world.advance(SECOND);
        notify(&world, &event(&world, "PUT", "Succeeded", Duration::ZERO, json!({}))).await;
        world.run_due().await;
        let read = known(&world).await;
        assert_eq!((read.confirmed, read.plan, read.kind.as_deref()), (true, None, Some("ServiceCatalog")));
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_read_is_tried_again_and_then_left() {
    let world = World::new().await;
    let unreadable = [Reply::forbidden(), Reply::html(502), Reply::unavailable(60), Reply::throttled(30)];
    world.simulator.on_read(&application(0), unreadable.clone().map(OnRead::Reply));
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
    for _ in 0..20 {
        world.run_due().await;
        assert_eq!(known(&world).await.confirmed, world.simulator.stats().reads > 4);
        world.advance(10 * MINUTE);
    }
    assert_eq!((known(&world).await.confirmed, world.simulator.stats().reads), (true, 5));
    world.simulator.on_read(&application(0), [(); 9].map(|()| OnRead::Reply(Reply::forbidden())));
    notify(&world, &event(&world, "PATCH", "Succeeded", SECOND, json!({}))).await;
    for _ in 0..20 {
        world.run_due().await;
        world.advance(10 * MINUTE);
    }
    let left = known(&world).await;
    assert_eq!(world.simulator.stats().reads, 10, "five looks, and no more");
    assert_eq!((left.confirmed, left.gone_since, left.check), (true, None, None), "it stays as it is");
}

#[tokio::test]
async fn a_check_whose_message_was_lost_is_found_by_the_timer() {
    let mut world = World::new().await;
    in_arm(&world, "Succeeded");
    let faults = Faults::none();
    let queue = FaultyQueue::over(&world.queue, &faults);
    world.replace_handler(world.handler(Arc::clone(&world.store), queue.clone()));
    faults.set(Fault::Lost);
    notify(&world, &event(&world, "PUT", "Succeeded", SECOND, json!({}))).await;
    faults.set(Fault::None);
    world.advance(5 * MINUTE - SECOND);
    world.run_due().await;
    assert!(!known(&world).await.confirmed, "it may still be on its way");
    world.advance(SECOND);
    world.run_due().await;
    assert!(known(&world).await.confirmed);
}

#[tokio::test]
async fn an_event_that_could_not_be_stored_or_sent_is_not_taken() {
    let mut world = World::new().await;
    let faults = Faults::none();
    let queue = FaultyQueue::over(&world.queue, &faults);
    world.replace_handler(world.handler(Arc::clone(&world.store), queue.clone()));
    faults.set(Fault::Panic);
    let body = event(&world, "PUT", "Succeeded", SECOND, json!({}));
    let (status, _) = world.post(PATH, &body).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "so that ARM sends it again");
    faults.set(Fault::None);
    in_arm(&world, "Succeeded");
    notify(&world, &body).await;
    world.run_due().await;
    assert!(known(&world).await.confirmed);
}
