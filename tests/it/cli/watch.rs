//! `permafresh rollout watch`: for people and for programs.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::service::{Service, ok, problem};
use super::{ROLLOUT, empty_page, failed_refresh, rollout};

#[test]
fn watching_shows_progress_survives_a_restart_and_ends_with_who_has_to_act() {
    let service = Service::start(|got, before| {
        if got.path.contains("/refreshes?state=failed") {
            return ok(json!({"value": [failed_refresh()]}));
        }
        if got.path.contains("/refreshes?") {
            return empty_page();
        }
        match before {
            0 => ok(rollout("planning", json!({}))),
            1 | 3 => ok(rollout("running", json!({"running": 2, "total": 2}))),
            2 => problem(503, json!({"title": "starting", "status": 503})),
            _ => ok(rollout("completed", json!({"succeeded": 1, "failed": 1, "total": 2}))),
        }
    });
    let run = service.run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50"]);
    insta::assert_snapshot!("watch", run.shown());
}

#[test]
fn the_exit_code_of_watching_says_how_the_rollout_ended() {
    for (state, counts, expected) in [
        ("completed", json!({"succeeded": 3, "skipped": 1, "total": 4}), 0),
        ("completed", json!({"timedOut": 1, "total": 1}), 3),
        ("halted", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("paused", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("canceled", json!({"canceled": 1, "total": 1}), 3),
    ] {
        let view = rollout(state, counts);
        let service = Service::start(move |got, _| match got.path.as_str() {
            "/api/rollouts?top=1" => ok(json!({"value": [view]})),
            path if path.contains("/refreshes") => empty_page(),
            _ => ok(view.clone()),
        });
        assert_eq!(service.run(&["rollout", "watch", "latest"]).code, expected, "{state}");
    }
}

/// A rollout whose looks show one stand after the other, with the same refresh failed in the second and after.
fn course() -> Service {
    let looks = AtomicUsize::new(0);
    Service::start(move |got, _| {
        if got.path.contains("/refreshes?state=failed") {
            return ok(json!({"value": [failed_refresh()]}));
        }
        if got.path.contains("/refreshes?") {
            return empty_page();
        }
        match looks.fetch_add(1, Ordering::SeqCst) {
            0 => ok(rollout("running", json!({"running": 3, "total": 3}))),
            1 | 2 => ok(rollout("running", json!({"running": 2, "failed": 1, "total": 3}))),
            3 => {
                let mut second = rollout("running", json!({"running": 1, "failed": 1, "succeeded": 1, "total": 3}));
                second["wave"] = 2.into();
                ok(second)
            }
            _ => ok(rollout("completed", json!({"failed": 1, "succeeded": 2, "total": 3}))),
        }
    })
}

#[test]
fn a_program_gets_one_object_a_line_and_each_failure_once() {
    let run = course().run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50", "--json"]);
    assert_eq!((run.code, run.err.as_str()), (3, ""));
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["progress", "failure", "progress", "progress", "progress", "ended"], "{}", run.out);
    assert_eq!(lines[1]["refresh"]["error"]["code"], "ScopeLocked");
    assert_eq!((&lines[3]["rollout"]["wave"], &lines[4]["rollout"]["state"]), (&json!(2), &json!("completed")));
    assert!(lines[0]["perMinute"].is_null() && lines[0]["at"].is_string());
    assert_eq!((&lines[5]["exitCode"], &lines[5]["rollout"]["counts"]["succeeded"]), (&json!(3), &json!(2)));
}

#[test]
fn without_a_terminal_failures_and_waves_come_as_plain_lines() {
    let run = course().run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50"]);
    insta::assert_snapshot!("watch_lines", run.shown());
}
