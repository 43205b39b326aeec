//! `permafresh rollout`: list, show, steer, report.

use serde_json::{Value, json};

use super::service::{Service, ok};
use super::{ROLLOUT, empty_page, failed_refresh, rollout};

#[test]
fn rollouts_are_listed_page_by_page() {
    let service = Service::start(|got, _| match got.path.as_str() {
        "/api/rollouts?top=20" => ok(
            json!({"value": [rollout("running", json!({"succeeded": 2, "failed": 1, "running": 4, "queued": 2, "total": 9}))],
            "nextLink": "/api/rollouts?top=20&continuation=c%2F1"}),
        ),
        "/api/rollouts?top=20&continuation=c%2F1" => ok(json!({"value": [rollout("hibernating", json!({}))]})),
        other => panic!("{other}"),
    });
    insta::assert_snapshot!("rollout_list", service.run(&["rollout", "list"]).shown());
    let json: Value = serde_json::from_str(&service.run(&["rollout", "list", "--json"]).out).unwrap();
    assert_eq!(json[1]["state"], "hibernating");
}

#[test]
fn one_rollout_is_shown_with_its_refreshes_and_steered() {
    let service = Service::start(|got, _| match got.path.as_str() {
        path if path.ends_with("/refreshes?state=failed&top=100") => ok(json!({"value": [failed_refresh()]})),
        path if path.ends_with("/pause") => ok(rollout("paused", json!({}))),
        _ => ok(rollout("running", json!({"failed": 1, "queued": 1, "total": 2}))),
    });
    insta::assert_snapshot!("rollout_show", service.run(&["rollout", "show", ROLLOUT, "--state", "failed"]).shown());
    let json: Value =
        serde_json::from_str(&service.run(&["rollout", "show", ROLLOUT, "--state", "failed", "--json"]).out).unwrap();
    assert_eq!(json["refreshes"][0]["error"]["code"], "ScopeLocked");
    for command in ["pause", "resume", "approve", "cancel", "retry"] {
        assert_eq!(service.run(&["rollout", command, ROLLOUT]).code, 0);
        assert_eq!(service.paths().last().unwrap(), &format!("POST /api/rollouts/{ROLLOUT}/{command}"));
        let run = service.run(&["rollout", command, ROLLOUT, "--json"]);
        let view: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!((view["id"].as_str(), run.err.as_str()), (Some(ROLLOUT), ""), "{command}");
    }
}

#[test]
fn the_service_without_a_rollout_has_no_latest_one() {
    let service = Service::start(|_, _| empty_page());
    let run = service.run(&["rollout", "show", "latest"]);
    assert_eq!(run.code, 1);
    assert!(run.err.ends_with("hint: start one with `permafresh publish`\n"), "{}", run.err);
}

#[test]
fn reports_come_as_the_service_wrote_them_and_in_words() {
    let csv = "applicationId,state\r\n/subscriptions/x,\"fail\u{1b}ed\"\r\n";
    let service = Service::start(move |got, _| match got.path.as_str() {
        path if path.ends_with("/report?format=csv") => (200, "text/csv", csv.to_owned()),
        path if path.ends_with("/report?format=json") => (200, "application/json", "{ \"a\" :1}".to_owned()),
        path if path.contains("state=failed") => ok(json!({"value": [failed_refresh()]})),
        path if path.contains("/refreshes") => empty_page(),
        _ => ok(rollout("paused", json!({"failed": 1, "total": 1}))),
    });
    assert_eq!(service.run(&["rollout", "report", ROLLOUT, "--format", "csv"]).out, csv);
    assert_eq!(service.run(&["rollout", "report", ROLLOUT, "--format", "json"]).out, "{ \"a\" :1}");
    let run = service.run(&["rollout", "report", ROLLOUT]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("The customer\n") && run.out.contains("\\u{1b}[2J"), "{}", run.out);
    assert!(!run.out.contains('\u{1b}'));
}
