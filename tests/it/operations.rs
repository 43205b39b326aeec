//! Operations: stop and go, holds, windows, the audit list, what a service that only observes does, on the whole loop.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::engine::Mode;
use permafresh::functions::wire::caller::IsVouched;
use serde_json::{Value, json};

use crate::faults::{Fault, Faults, FaultyQueue, FaultyStore, Moment};
use crate::world::{Options, World, application, invoke_message, one_wave, publish, send};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn posts(world: &World) -> u64 {
    world.simulator.stats().posts
}

async fn audit(world: &World) -> Vec<Value> {
    world.get("/api/audit").await["value"].as_array().unwrap().clone()
}

fn key_path(number: usize, command: &str) -> String {
    format!("/api/deployments/{}/{command}", application(number).key())
}

#[tokio::test]
async fn a_stop_holds_everything_in_every_instance_and_a_start_lets_it_go_on() {
    let world = World::new().await;
    world.deploy(3).await;
    let strategy = json!({"canaries": 1, "waves": ["100%"]});
    let id = world.publish(json!({"strategy": strategy})).await;
    world.run_due().await;
    assert_eq!(posts(&world), 1, "the canary");
    let other = world.handler(world.another_store(), world.another_queue());
    let request = Request::post("/api/stop").body(r#"{"why": "lost access"}"#.into()).unwrap();
    let (status, body) = send(&other, request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let rollout = world.settle(id, HOUR).await;
    assert_eq!(posts(&world), 1, "the canary's operation is followed to its end, and nothing else is posted");
    assert_eq!((&rollout["state"], &rollout["counts"]["succeeded"]), (&json!("running"), &json!(1)));
    let held_by = &rollout["heldBy"][0];
    assert_eq!((&held_by["by"], &held_by["why"]), (&json!("stop"), &json!("lost access")));
    let report = world.get(&format!("/api/rollouts/{id}/report")).await;
    assert_eq!(report["rollout"]["heldBy"], rollout["heldBy"]);
    let (_, dry_run) = world.post("/api/rollouts?dryRun=true", &publish(json!({"version": "1.6.0"}))).await;
    assert_eq!(dry_run["heldBy"], rollout["heldBy"]);
    let (_, again) = world.post("/api/stop", &json!({"why": "another"})).await;
    assert_eq!(again["heldBy"], rollout["heldBy"], "a stop that is in force stays as it is");

    let (status, going) = world.post("/api/start", &json!({})).await;
    assert_eq!((status, &going["heldBy"]), (StatusCode::OK, &json!([])));
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["state"], posts(&world)), (&json!("completed"), 3));
    assert_eq!(rollout["heldBy"], Value::Null);
}

/// The message of a refresh is on its way when somebody stops: read just before the POST, it posts nothing.
#[tokio::test]
async fn a_stop_just_before_the_post_keeps_it_from_being_sent() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let planning = world.queue.receive("rollouts", 1, HOUR).await.unwrap().remove(0);
    invoke_message(&world.handler(world.another_store(), world.another_queue()), "PlanRollout", &planning.body).await;
    let step = world.queue.receive("refreshes", 1, HOUR).await.unwrap().remove(0);
    world.post("/api/stop", &json!({})).await;
    let router = world.handler(world.another_store(), world.another_queue());
    assert!(invoke_message(&router, "RefreshDeployment", &step.body).await.is_success());
    assert_eq!(posts(&world), 0);
    assert_eq!(world.refreshes(id).await[0]["attempts"], 0, "nothing is spent");
    world.post("/api/start", &json!({})).await;
    assert_eq!(world.settle(id, HOUR).await["state"], "completed");
}

#[tokio::test]
async fn a_service_that_only_observes_plans_lists_and_reports_and_posts_nothing() {
    let world = World::with(Options { mode: Mode::Observe, ..Options::default() }).await;
    world.deploy(5).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let rollout = world.settle(id, 2 * HOUR).await;
    assert_eq!((&rollout["counts"]["queued"], &rollout["heldBy"][0]["by"]), (&json!(5), &json!("observe")));
    let report = world.get(&format!("/api/rollouts/{id}/report")).await;
    assert_eq!(report["refreshes"].as_array().unwrap().len(), 5);
    let (_, dry_run) = world.post("/api/rollouts?dryRun=true", &publish(json!({}))).await;
    assert_eq!(dry_run["called"].as_array().unwrap().len(), 5);
    let (_, stopped) = world.post("/api/stop", &json!({})).await;
    assert_eq!(stopped["heldBy"].as_array().unwrap().len(), 2);
    assert_eq!(posts(&world), 0);
}

#[tokio::test]
async fn a_deployment_on_hold_is_skipped_and_joins_late_once_it_is_released() {
    let world = World::new().await;
    world.deploy(3).await;
    let (status, held) = world.post(&key_path(1, "hold"), &json!({"why": "change freeze"})).await;
    assert_eq!((status, &held["hold"]["why"]), (StatusCode::OK, &json!("change freeze")));
    let (_, again) = world.post(&key_path(1, "hold"), &json!({"why": "change freeze"})).await;
    assert_eq!(again["hold"], held["hold"]);
    let (_, dry_run) = world.post("/api/rollouts?dryRun=true", &publish(json!({}))).await;
    assert_eq!(dry_run["skipped"][0]["why"], "onHold: somebody put it on hold");

    let id = world.publish(json!({"strategy": one_wave()})).await;
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["skipped"]), (&json!("completed"), &json!(1)));
    let skipped = world.refresh_of(id, &application(1)).await;
    assert_eq!(skipped["why"], "onHold: somebody put it on hold");
    assert_eq!(posts(&world), 2);

    let (status, released) = world.post(&key_path(1, "release"), &json!({"why": "over"})).await;
    assert_eq!((status, &released["hold"]), (StatusCode::OK, &Value::Null));
    let rollout = world.settle(id, HOUR).await;
    world.run_due().await;
    assert_eq!((posts(&world), &rollout["counts"]["total"]), (3, &json!(3)), "it joins the rollout it has missed");
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 3);
}

#[tokio::test]
async fn a_hold_that_comes_after_planning_counts_too_and_one_with_an_end_ends() {
    let world = World::new().await;
    world.deploy(2).await;
    world.post("/api/stop", &json!({})).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    let until = world.now() + DAY;
    world.post(&key_path(0, "hold"), &json!({"why": "busy", "until": until})).await;
    world.post("/api/start", &json!({})).await;
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["counts"]["skipped"], &rollout["counts"]["succeeded"]), (&json!(1), &json!(1)));
    world.advance(DAY);
    for _ in 0..8 {
        world.run_due().await;
        world.advance(Duration::from_secs(30));
    }
    let deployment = world.get(&format!("/api/deployments/{}", application(0).key())).await;
    assert_eq!(deployment["hold"], Value::Null);
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 2, "it joined by itself when its hold was over");
    let id = world.publish(json!({"version": "1.6.0", "strategy": one_wave()})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 2);
}

#[tokio::test]
async fn bad_holds_are_refused_by_name() {
    let world = World::new().await;
    world.deploy(1).await;
    let (status, problem) = world.post(&key_path(0, "hold"), &json!({"until": "2020-01-01T00:00:00Z", "x": 1})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["why", "until", "x"]);
    assert_eq!(world.post(&key_path(7, "hold"), &json!({"why": "x"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.post(&key_path(7, "release"), &json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.post("/api/deployments/nokey/hold", &json!({"why": "x"})).await.0, StatusCode::BAD_REQUEST);
}

/// Gives an application windows, by the import.
async fn set_windows(world: &World, number: usize, windows: Value) -> Value {
    let rows = json!([{"applicationId": application(number), "maintenanceWindows": windows}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    let (status, body) = world.request(request.body(rows.to_string().into()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_refresh_waits_for_its_window_outside_its_wave_and_spends_nothing() {
    let world = World::new().await;
    world.deploy(4).await;
    let opens = world.now() + Duration::from_secs(3 * 24 * 3_600);
    let day = opens.format("%a").to_string().to_lowercase();
    let start = opens.format("%H:%M").to_string();
    let opens: chrono::DateTime<chrono::Utc> = {
        let text = format!("{}T{start}:00Z", opens.format("%Y-%m-%d"));
        text.parse().unwrap()
    };
    let windows = json!([{"days": [day], "start": start, "duration": "PT2H"}]);
    assert_eq!(set_windows(&world, 0, windows.clone()).await["updated"], 1);
    let deployment = world.get(&format!("/api/deployments/{}", application(0).key())).await;
    assert_eq!(deployment["maintenanceWindows"][0]["start"], start);
    let (_, dry_run) = world.post("/api/rollouts?dryRun=true", &publish(json!({}))).await;
    let waiting: Vec<_> =
        dry_run["called"].as_array().unwrap().iter().filter(|call| call["opensAt"] != Value::Null).collect();
    assert_eq!(waiting.len(), 1, "{dry_run}");

    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["50%", "100%"], "maxFailures": "0%"}})).await;
    world.settle(id, HOUR).await;
    let rollout = world.rollout(id).await;
    assert_eq!((&rollout["counts"]["succeeded"], &rollout["counts"]["awaitingAccess"]), (&json!(3), &json!(1)));
    let parked = world.refresh_of(id, &application(0)).await;
    assert!(parked["why"].as_str().unwrap().starts_with("waits for its maintenance window"), "{parked}");
    assert_eq!((&parked["attempts"], posts(&world)), (&json!(0), 3));

    world.advance((opens - world.now()).to_std().unwrap() - Duration::from_secs(60));
    world.run_due().await;
    assert_eq!(posts(&world), 3, "not a minute early");
    world.advance(Duration::from_secs(60));
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["succeeded"]), (&json!("completed"), &json!(4)));
}

/// The cells of an answer in CSV: by application and by the name of the column.
async fn cells(world: &World, request: Request<Body>) -> impl Fn(usize, &str) -> String {
    let (status, csv) = world.request(request).await;
    assert_eq!(status, StatusCode::OK, "{csv}");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    move |number, name| {
        let at = heads.iter().position(|head| head == name).unwrap_or_else(|| panic!("{name} is not in {heads:?}"));
        rows.iter().find(|row| row[0] == application(number).to_string()).expect("each is there")[at].to_owned()
    }
}

#[tokio::test]
async fn dry_run_and_report_say_as_csv_what_holds_everything_and_when_windows_open() {
    let world = World::new().await;
    world.deploy(2).await;
    let day = (world.now() + 3 * DAY).format("%a").to_string().to_lowercase();
    set_windows(&world, 0, json!([{"days": [day], "start": "03:00", "duration": "PT2H"}])).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, HOUR).await;
    world.post("/api/stop", &json!({"why": "lost access"})).await;

    let repair = publish(json!({"purpose": "repair", "supersede": true}));
    let (_, run) = world.post("/api/rollouts?dryRun=true", &repair).await;
    let opens_at = run["called"].as_array().unwrap().iter().find_map(|call| call["opensAt"].as_str()).unwrap();
    let request = Request::post("/api/rollouts?dryRun=true&format=csv").body(repair.to_string().into()).unwrap();
    let cell = cells(&world, request).await;
    let of = |number| ["plan", "opensAt", "heldBy", "refused"].map(|name| cell(number, name));
    assert_eq!(of(0), ["call", opens_at, "stop: lost access", ""]);
    assert_eq!(of(1), ["call", "", "stop: lost access", ""]);

    let refresh = world.refresh_of(id, &application(0)).await;
    assert_eq!(refresh["opensAt"], opens_at);
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let cell = cells(&world, request).await;
    let of = |number| ["state", "opensAt", "nextLook", "heldBy", "rolloutState"].map(|name| cell(number, name));
    assert_eq!(of(0), ["awaitingAccess", opens_at, opens_at, "stop: lost access", "running"]);
    assert_eq!(of(1), ["succeeded", "", "", "stop: lost access", "running"]);
}

#[tokio::test]
async fn a_refresh_that_can_use_no_window_is_skipped_in_the_end() {
    let world = World::new().await;
    world.deploy(1).await;
    let opens = world.now() + DAY;
    let day = opens.format("%a").to_string().to_lowercase();
    set_windows(&world, 0, json!([{"days": [day], "start": "03:00", "duration": "PT10M"}])).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    // Nobody is there while it is open, twice.
    for _ in 0..16 {
        world.advance(DAY);
        world.tick().await;
    }
    let rollout = world.settle(id, HOUR).await;
    assert_eq!((&rollout["state"], &rollout["counts"]["skipped"]), (&json!("completed"), &json!(1)));
    assert!(world.refreshes(id).await[0]["why"].as_str().unwrap().starts_with("missedWindow"));
    assert_eq!(posts(&world), 0);
}

#[tokio::test]
async fn bad_windows_are_refused_with_their_line_and_an_empty_list_lifts_them() {
    let world = World::new().await;
    world.deploy(1).await;
    let refused = set_windows(&world, 0, json!([{"days": ["sat"], "start": "25:00", "duration": "PT1H"}])).await;
    assert!(refused["rejected"][0]["why"].as_str().unwrap().contains("start"), "{refused}");
    let good = r#"[{"days": ["sat"], "start": "22:00", "duration": "PT1H"}]"#;
    let csv = format!("applicationId,maintenanceWindows\n{},\"{}\"\n", application(0), good.replace('"', "\"\""));
    let request = Request::put("/api/deployments").header("content-type", "text/csv").body(csv.into()).unwrap();
    let (_, body) = world.request(request).await;
    assert!(body.contains(r#""updated":1"#), "{body}");
    let path = format!("/api/deployments/{}", application(0).key());
    assert_eq!(world.get(&path).await["maintenanceWindows"].as_array().map(Vec::len), Some(1));
    set_windows(&world, 0, json!([])).await;
    assert_eq!(world.get(&path).await["maintenanceWindows"], Value::Null);
}

#[tokio::test]
async fn an_import_says_in_the_audit_list_whose_maintenance_windows_it_has_changed() {
    let world = World::new().await;
    world.deploy(3).await;
    // Entries of the same moment have no order among them.
    world.advance(Duration::from_secs(1));
    let windows = json!([{"days": ["sat"], "start": "22:00", "duration": "PT1H"}]);
    let rows = |windows: [&Value; 3]| {
        let row = |(number, windows): (usize, &Value)| json!({"applicationId": application(number), "maintenanceWindows": windows});
        windows.into_iter().enumerate().map(row).collect::<Value>()
    };
    for round in
        [[&windows, &windows, &json!([])], [&windows, &json!([]), &json!([])], [&windows, &json!([]), &json!([])]]
    {
        let request = Request::put("/api/deployments").header("content-type", "application/json");
        assert_eq!(world.request(request.body(rows(round).to_string().into()).unwrap()).await.0, StatusCode::OK);
        world.advance(Duration::from_secs(1));
    }
    let told: Vec<_> = audit(&world).await.iter().map(|entry| entry["to"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "0 imported, 3 updated, 0 rejected",
        "0 imported, 3 updated, 0 rejected, maintenance windows of 1 lifted",
        "0 imported, 3 updated, 0 rejected, maintenance windows of 2 set",
    ];
    assert_eq!(told[..3], expected);
}

#[tokio::test]
async fn every_command_is_in_the_audit_list_with_who_what_from_and_to() {
    let world = World::with(Options { principals: IsVouched::Yes, ..Options::default() }).await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": one_wave(), "note": "fix for 12"})).await;
    world.run_due().await;
    let principal =
        STANDARD.encode(r#"{"auth_typ":"aad","name_typ":"n","claims":[{"typ":"n","val":"alice@contoso.example"}]}"#);
    let pause = Request::post(format!("/api/rollouts/{id}/pause"))
        .header("x-functions-key", "a-secret-key")
        .header("x-ms-client-principal", principal)
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.request(pause).await.0, StatusCode::OK);
    for command in ["resume", "cancel", "resume"] {
        world
            .request(
                Request::post(format!("/api/rollouts/{id}/{command}?code=a-secret-key")).body(Body::empty()).unwrap(),
            )
            .await;
    }
    world.post(&key_path(0, "hold"), &json!({"why": "freeze"})).await;
    world.post(&key_path(0, "release"), &json!({})).await;
    world
        .request(Request::delete(format!("/api/deployments/{}", application(1).key())).body(Body::empty()).unwrap())
        .await;
    world.post("/api/stop", &json!({"why": "enough"})).await;
    world.post("/api/start", &json!({})).await;
    world.post("/api/rollouts", &publish(json!({"version": "0.0.1", "purpose": "repair"}))).await;

    let mut entries = audit(&world).await;
    entries.reverse();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            [text("what"), text("from"), text("to"), text("outcome")].join(" | ").replace(&id.to_string(), "ID")
        })
        .collect();
    let expected = [
        "deployments.import | - | 2 imported, 0 updated, 0 rejected | done",
        "publish | - | rollout ID | done",
        "rollout.pause | running | paused | done",
        "rollout.resume | paused | running | done",
        "rollout.cancel | running | canceled | done",
        "rollout.resume | canceled | - | refused",
        "deployment.hold | not on hold | on hold | done",
        "deployment.release | on hold | not on hold | done",
        "deployment.forget | not on hold | forgotten | done",
        "stop | going | stopped | done",
        "start | stopped | going | done",
    ];
    // Those of one moment are in no order, and all are of one moment here.
    let (mut told_sorted, mut expected_sorted) = (told.clone(), expected.map(str::to_owned).to_vec());
    told_sorted.retain(|line| !line.starts_with("rollout.start"));
    told_sorted.sort();
    expected_sorted.sort();
    assert_eq!(told_sorted, expected_sorted);
    let of = |what: &str| entries.iter().find(|entry| entry["what"] == what).unwrap();
    let who = of("rollout.pause")["who"].as_str().unwrap();
    assert!(who.starts_with("alice@contoso.example (key "), "{who}");
    assert!(who.contains(of("rollout.cancel")["who"].as_str().unwrap()), "the same key is known again");
    assert!(!json!(entries).to_string().contains("a-secret-key"));
    assert_eq!(of("publish")["why"], "fix for 12");
    assert_eq!(of("stop")["why"], "enough");
}

#[tokio::test]
async fn the_audit_list_is_paged_the_newest_first() {
    let world = World::new().await;
    for why in ["one", "two", "three"] {
        world.post("/api/stop", &json!({"why": why})).await;
        world.advance(Duration::from_secs(1));
    }
    let first = world.get("/api/audit?top=2").await;
    let whys = |page: &Value| page["value"].as_array().unwrap().iter().map(|e| e["why"].clone()).collect::<Vec<_>>();
    assert_eq!(whys(&first), ["three", "two"]);
    let rest = world.get(first["nextLink"].as_str().unwrap()).await;
    assert_eq!((whys(&rest), &rest["nextLink"]), (vec![json!("one")], &Value::Null));
}

/// Dies before and after each effect of a stop: either nothing happened, or there is an entry of it.
#[tokio::test]
async fn no_command_takes_effect_without_its_entry_wherever_the_process_dies() {
    for moment in [Moment::Before, Moment::After] {
        for effect in 1..=3 {
            let world = World::new().await;
            let faults = Faults::new(Fault::Death { effect, moment });
            let store = FaultyStore::over(&world.store, &faults);
            let queue = FaultyQueue::over(&world.queue, &faults);
            let router = world.handler(store, queue);
            let request = Request::post("/api/stop").body(Body::empty()).unwrap();
            assert!(faults.until_death(send(&router, request)).await.is_none(), "it has three effects: {effect}");
            let is_stopped = !world.post("/api/start", &json!({})).await.1.is_null()
                && audit(&world).await.iter().any(|entry| entry["what"] == "start" && entry["from"] == "stopped");
            let stops: Vec<_> = audit(&world).await.into_iter().filter(|entry| entry["what"] == "stop").collect();
            assert!(!is_stopped || stops.len() == 1, "{effect} {moment:?}: {stops:?}");
            if (effect, moment) == (3, Moment::Before) {
                assert_eq!((is_stopped, &stops[0]["outcome"]), (true, &json!("begun")));
            }
        }
    }
}
