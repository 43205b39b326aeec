//! What is known of published versions: shown, bounded, and named where it cannot be read.

use axum::http::StatusCode;
use permafresh::partner_center::simulator::{Call, OnCall, Publication, Reply};
use permafresh::rollout::Plan;
use permafresh::rollout::watch::PlanWatch;
use permafresh::store::document;
use serde_json::{Value, json};

use super::scene::{RESTART, STOP, Scene};
use crate::world::{World, invoke_timer};

#[tokio::test]
async fn a_published_version_that_is_wider_than_the_wanted_one_is_reported() {
    let scene = Scene::new().await;
    let mut wide = Publication::live("1.3.0", "Microsoft.Web/*");
    wide.package["allowJitAccess"] = true.into();
    scene.partner.publish(&wide);
    scene.partner.publish(&Publication::live("1.4.0", RESTART));
    scene.fire().await;
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!(plan["wantedVersion"], "1.4.0");
    assert_eq!(plan["versions"], json!(["1.3.0", "1.4.0"]));
    let wider = json!([{"version": "1.3.0", "allows": ["control action Microsoft.Web/*", "just-in-time access"]}]);
    assert_eq!(plan["wider"], wider);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_back_is_named_and_hides_no_other() {
    let scene = Scene::new().await;
    for (version, action) in [("1.2.0", STOP), ("1.3.0", "Microsoft.Web/*"), ("1.4.0", RESTART)] {
        scene.partner.publish(&Publication::live(version, action));
    }
    scene.fire().await;
    scene.spoil_snapshot("1.2.0").await;
    scene.partner.publish(&Publication::live("1.4.1", RESTART));
    scene.look().await;
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!(plan["versions"], json!(["1.3.0", "1.4.0", "1.4.1"]), "{plan}");
    assert_eq!(plan["wider"][0]["version"], "1.3.0");
    assert_eq!(plan["unreadable"].as_array().unwrap().len(), 1, "{plan}");
    assert!(plan["unreadable"][0].as_str().unwrap().contains("0000000002"), "{plan}");
    // Once Partner Center shows that version again, its record is written anew.
    scene.partner.publish(&Publication::live("1.2.0", STOP));
    scene.look().await;
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!((&plan["versions"][0], plan.get("unreadable")), (&json!("1.2.0"), None), "{plan}");
}

#[tokio::test]
async fn what_is_remembered_of_packages_is_as_long_as_partner_centers_list() {
    let scene = Scene::new().await;
    let instances = async || {
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let known = document::get::<PlanWatch>(&*scene.world.store, &plan.to_string()).await.unwrap().unwrap();
        known.value.instances.len()
    };
    let mut published: Vec<_> =
        ["1.4.1", "1.4.2"].map(|version| scene.partner.publish(&Publication::live(version, RESTART))).into();
    scene.fire().await;
    assert_eq!(instances().await, 3);
    scene.partner.remove(&published.remove(0));
    scene.look().await;
    assert_eq!(instances().await, 2);
}

#[tokio::test]
async fn an_offer_or_a_plan_that_partner_center_does_not_have_is_named() {
    let scene = Scene::new().await;
    scene.partner.on(Call::Product, [OnCall::Answer(Reply::json(200, r#"{"value": []}"#))]);
    scene.fire().await;
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert!(trouble["what"].as_str().unwrap().contains("offer id ledger"), "{trouble}");
    scene.partner.on(Call::Variants, [OnCall::Answer(Reply::json(200, r#"{"value": []}"#))]);
    scene.look().await;
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert!(trouble["what"].as_str().unwrap().contains("plan standard"), "{trouble}");
}

#[tokio::test]
async fn without_settings_for_it_nothing_is_watched() {
    let world = World::new().await;
    let router = world.handler(world.store.clone(), world.queue.clone());
    assert_eq!(invoke_timer(&router, "WatchOffers", None).await, StatusCode::OK);
    assert_eq!(world.get("/api/offers").await["value"], json!([]));
}
