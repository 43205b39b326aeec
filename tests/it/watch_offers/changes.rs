//! What a version changes for those who have another one, and what becomes of one that changes nothing.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome};
use permafresh::partner_center::simulator::Publication;
use permafresh::queue::Message;
use serde_json::{Value, json};

use super::scene::{HOUR, RESTART, STOP, Scene};
use crate::world::{application, invoke_message, invoke_timer, publish};

#[tokio::test]
async fn a_version_that_changes_nothing_is_stored_shown_and_started_by_one_command() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", RESTART));
    scene.look().await;
    let id = scene.newest().await;
    let parked = scene.world.rollout(id).await;
    assert_eq!(
        (&parked["state"], &parked["counts"]["total"], &parked["wave"]),
        (&json!("paused"), &json!(0), &json!(0))
    );
    assert!(
        parked["why"].as_str().unwrap().contains("nothing that a refresh can carry has changed since 1.4.0"),
        "{parked}"
    );
    assert_eq!(parked["changes"]["against"], "1.4.0");
    let posts = scene.world.simulator.stats().posts;
    scene.world.advance(Duration::from_secs(1));
    let due = scene.world.now() + 24 * HOUR;
    assert_eq!(invoke_timer(&scene.handler(), "ScheduledRefresh", Some(due)).await, StatusCode::OK);
    let scheduled = scene.newest().await;
    assert_ne!(scheduled, id, "drift is repaired all the same");
    scene.world.settle(scheduled, HOUR).await;
    assert_eq!(scene.world.simulator.stats().posts, posts + 3);

    let (status, _) = scene.world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let done = scene.world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{done}");
}

#[tokio::test]
async fn a_parked_rollout_that_is_resumed_waits_for_what_began_meanwhile() {
    // Before the scheduled one has counted its deployments, and while it posts.
    for is_running in [false, true] {
        let scene = Scene::settled().await;
        scene.partner.publish(&Publication::live("1.5.0", RESTART));
        scene.look().await;
        let parked = scene.newest().await;
        assert_eq!(scene.rollouts().await[0], "1.5.0 live paused");
        scene.world.advance(Duration::from_secs(1));
        let due = Some(scene.world.now());
        assert_eq!(invoke_timer(&scene.handler(), "ScheduledRefresh", due).await, StatusCode::OK);
        let scheduled = scene.newest().await;
        if is_running {
            scene.world.run_due().await;
        }
        let (status, _) = scene.world.post(&format!("/api/rollouts/{parked}/resume"), &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let body = Message::PlanRollout { rollout_id: parked }.to_body();
        assert!(invoke_message(&scene.handler(), "PlanRollout", body.as_bytes()).await.is_success());
        scene.world.run_due().await;
        assert_eq!(scene.rollouts().await[..2], ["1.4.0 live running", "1.5.0 live waiting"], "{is_running}");
        let waiting = scene.world.rollout(parked).await;
        assert!(waiting["why"].as_str().unwrap().contains(&scheduled.to_string()), "{waiting}");
        scene.settle_all().await;
        assert_eq!(scene.rollouts().await[..2], ["1.4.0 live completed", "1.5.0 live completed"], "{is_running}");
        assert_eq!(scene.world.rollout(parked).await["counts"]["succeeded"], 3);
        assert_eq!(scene.world.simulator.stats().overlapping_operations, 0);
        assert_eq!(scene.world.simulator.refreshed_to(&application(2)).as_deref(), Some("1.5.0"));
    }
}

#[tokio::test]
async fn a_post_from_ci_of_a_version_that_changes_nothing_is_parked_too_and_one_by_hand_is_not() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::preview("1.5.0", RESTART));
    scene.look().await;
    let ci = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.run_due().await;
    assert_eq!(scene.world.rollout(ci).await["state"], "paused");
    scene.world.advance(Duration::from_secs(1));
    let (status, by_hand) = scene.world.post("/api/rollouts", &publish(json!({"version": "1.5.0"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{by_hand}");
    let done = scene.settle_newest().await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{done}");
}

#[tokio::test]
async fn the_widest_difference_from_what_was_applied_with_success_counts() {
    let scene = Scene::settled().await;
    let ids = [application(0), application(1), application(2)];
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
    scene.world.simulator.on_post(&ids[2], [OnPost::Accept(failed)]);
    scene.look().await;
    assert_eq!(scene.settle_newest().await["counts"]["failed"], 1);
    // The same permissions as 1.5.0, which one deployment has not got.
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "running", "{rollout}");
    let changes = &rollout["changes"];
    assert_eq!((&changes["against"], &changes["alsoCompared"]), (&json!("1.4.0"), &json!(["1.5.0"])), "{changes}");
    assert_eq!(changes["difference"]["controlActions"], json!({"added": [STOP], "removed": [RESTART]}));
    scene.settle_newest().await;
    scene.partner.publish(&Publication::live("1.7.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await[0], "1.7.0 live paused", "now everybody has them");
}

#[tokio::test]
async fn in_doubt_something_has_changed() {
    for doubt in ["no snapshot", "unreadable snapshot", "unknown member", "unreadable member", "restated"] {
        let scene = Scene::settled().await;
        let next = scene.partner.publish(&Publication::live("1.5.0", RESTART).moving());
        match doubt {
            "no snapshot" => {
                let by_hand = json!({"version": "1.4.9", "purpose": "repair"});
                let id = scene.world.publish(by_hand).await;
                scene.world.settle(id, HOUR).await;
            }
            "unreadable snapshot" => scene.spoil_snapshot("1.4.0").await,
            "unknown member" => scene.partner.edit_package(&next, |package| package["somethingNew"] = json!({"x": 1})),
            "unreadable member" => {
                scene.partner.edit_package(&next, |package| package["allowedDataActions"] = json!(7));
            }
            _ => {
                scene.partner.publish(&Publication::live("1.4.0", STOP));
                scene.look().await;
            }
        }
        scene.partner.move_to(&next, "Published", "InStore", "live");
        scene.partner.edit(&next, |item| item["releaseNumber"] = json!(99));
        scene.look().await;
        assert_eq!(scene.rollouts().await[0], "1.5.0 live running", "{doubt}");
    }
}

#[tokio::test]
async fn a_member_that_nobody_knows_counts_as_changed_although_both_versions_have_it_alike() {
    let scene = Scene::new().await;
    let strange = |version: &str| {
        let mut publication = Publication::live(version, RESTART);
        publication.package["someReferences"] = json!([{"type": "Something", "value": "115"}]);
        publication
    };
    scene.partner.publish(&strange("1.4.1"));
    scene.fire().await;
    let id = scene.world.publish(json!({"version": "1.4.1"})).await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    scene.partner.publish(&strange("1.5.0"));
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "running", "{rollout}");
    let doubts = json!(["what these members of the package mean is not known here: someReferences"]);
    assert_eq!((&rollout["changes"]["against"], &rollout["changes"]["doubts"]), (&json!("1.4.1"), &doubts));
}

#[tokio::test]
async fn reports_show_what_changed_between_the_versions() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    let id = scene.newest().await;
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (status, text) = scene.world.request(request).await;
    assert_eq!(status, StatusCode::OK);
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let at = csv.headers().unwrap().iter().position(|head| head == "changes").unwrap();
    let told: Vec<_> = csv.records().map(|row| row.unwrap()[at].to_owned()).collect();
    assert_eq!(told, vec![format!("since 1.4.0: + control action {STOP}; - control action {RESTART}"); 3]);
}

#[tokio::test]
async fn a_frozen_setting_that_changed_is_named_as_impossible() {
    let scene = Scene::settled().await;
    let mut publication = Publication::live("1.5.0", RESTART);
    publication.package["publisherManagementMode"] = "Unmanaged".into();
    scene.partner.publish(&publication);
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "paused");
    assert!(
        rollout["why"].as_str().unwrap().contains("publisherManagementMode changed, which no refresh can bring"),
        "{rollout}"
    );
    assert_eq!(rollout["changes"]["difference"]["impossible"][0]["after"], "unmanaged");
    let report =
        scene.world.get(&format!("/api/rollouts/{}/report?format=json", rollout["id"].as_str().unwrap())).await;
    assert_eq!(report["rollout"]["changes"], rollout["changes"]);
}

#[tokio::test]
async fn the_csv_report_says_in_words_what_the_version_changes() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    let id = scene.newest().await;
    scene.world.settle(id, HOUR).await;
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (_, csv) = scene.world.request(request).await;
    assert!(csv.contains(&format!("since 1.4.0: + control action {STOP}; - control action {RESTART}")), "{csv}");
}
