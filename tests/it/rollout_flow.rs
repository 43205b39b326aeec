//! An offer publish, end to end: HTTP in, ARM behind, the report out.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Acceptance, OnPoll, OnPost, Outcome, Reply};
use permafresh::rollout::RolloutId;
use permafresh::store::Versioned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, application, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_publish_refreshes_every_deployment_wave_by_wave() {
    let world = World::new().await;
    let ids = world.deploy(30).await;
    let id = world.publish(json!({})).await;
    world.run_due().await;
    let canary = world.rollout(id).await;
    assert_eq!((&canary["state"], &canary["wave"], &canary["waves"]), (&json!("running"), &json!(1), &json!(3)));
    assert_eq!(canary["counts"]["total"], 1, "only the canary is planned: {canary}");
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["state"], "completed", "{done}");
    assert_eq!(done["counts"]["succeeded"], 30);
    for id in &ids {
        assert_eq!(world.simulator.refreshed_to(id).as_deref(), Some("1.5.0"));
        assert_eq!(world.simulator.operations_of(id), 1);
    }
    let stats = world.simulator.stats();
    assert_eq!((stats.impatient_polls, stats.altered_urls, stats.overlapping_operations), (0, 0, 0));
    world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn a_refresh_shows_how_it_went() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    let id = world.publish(json!({})).await;
    world.settle(id, HOUR).await;
    let refresh = world.refresh_of(id, &ids[0]).await;
    assert_eq!(refresh["state"], "succeeded");
    assert_eq!(refresh["way"], "publisher");
    assert_eq!(refresh["attempts"], 1);
    assert_eq!(refresh["verified"], true);
    assert_eq!(refresh["percentComplete"], 100.0);
    for field in ["correlationId", "submittedAt", "endedAt"] {
        assert!(refresh[field].is_string(), "{field}: {refresh}");
    }
    let deployment = world.get(&format!("/api/deployments/{}", ids[0].key())).await;
    assert_eq!(deployment["applied"]["version"], "1.5.0");
    assert_eq!(deployment["applied"]["rolloutId"], json!(id));
}

#[tokio::test]
async fn the_same_publish_posted_a_hundred_times_at_once_is_one_rollout() {
    let world = World::new().await;
    world.deploy(3).await;
    let body = publish(json!({}));
    let answers = futures_util::future::join_all((0..100).map(|_| world.post("/api/offer-publishes", &body))).await;
    let first = &answers[0].1["rolloutId"];
    assert!(answers.iter().all(|(_, answer)| answer["rolloutId"] == *first));
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count(), 1);
    let known: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::OK).collect();
    assert_eq!(known.len(), 99);
    assert!(known.iter().all(|(_, answer)| answer["duplicateOf"] == *first));
    let id = first.as_str().unwrap().parse().unwrap();
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    assert_eq!(world.get("/api/rollouts").await["value"].as_array().unwrap().len(), 1);
    assert_eq!(world.simulator.stats().posts, 3);
    let (status, late) = world.post("/api/offer-publishes", &body).await;
    assert_eq!((status, &late["duplicateOf"]), (StatusCode::OK, first), "after its end as well");
}

#[tokio::test]
async fn a_post_from_ci_and_the_same_publish_with_its_submission_are_one_rollout_within_a_day() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let with_submission = publish(json!({"submissionId": "1152921505690112299"}));
    let (status, answer) = world.post("/api/offer-publishes", &with_submission).await;
    assert_eq!((status, &answer["duplicateOf"]), (StatusCode::OK, &json!(id)));
    world.settle(id, HOUR).await;
    world.advance(25 * HOUR);
    let (status, _) = world.post("/api/offer-publishes", &with_submission).await;
    assert_eq!(status, StatusCode::OK, "it was joined for good");
    let (status, answer) = world.post("/api/offer-publishes", &publish(json!({"submissionId": "116"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "another submission after a day is another publish: {answer}");
}

#[tokio::test]
async fn a_wrong_action_name_halts_the_rollout_after_the_canary() {
    let world = World::new().await;
    world.deploy(40).await;
    world.simulator.bad_version("1.5.0", "Microsoft.KeyVault/vaults/secrets/getSecret/action");
    let id = world.publish(json!({})).await;
    let halted = world.settle(id, HOUR).await;
    assert_eq!(halted["state"], "halted", "{halted}");
    let why = halted["why"].as_str().unwrap();
    assert!(why.contains("Microsoft.KeyVault/vaults/secrets/getSecret/action"), "{why}");
    assert_eq!(world.simulator.stats().posts, 1);
    let failed = &world.get(&format!("/api/rollouts/{id}/refreshes?state=failed")).await["value"][0];
    assert_eq!(failed["error"]["actor"], "offer");
    world.advance(24 * HOUR);
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 1, "nothing goes on by itself");
}

#[tokio::test]
async fn more_failures_than_the_budget_pause_the_rollout_and_resume_goes_on() {
    let world = World::new().await;
    let ids = world.deploy(10).await;
    for id in &ids {
        let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
        world.simulator.on_post(id, [OnPost::Accept(failed)]);
    }
    let strategy = json!({"canaries": 0, "waves": [5, "100%"], "maxFailures": 2});
    let id = world.publish(json!({"strategy": strategy})).await;
    let paused = world.settle(id, HOUR).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    assert!(paused["why"].as_str().unwrap().contains("more than the 2 allowed"), "{paused}");
    assert_eq!(world.simulator.stats().posts, 5);
    let (status, _) = world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let again = world.settle(id, HOUR).await;
    assert_eq!(again["state"], "paused", "the next wave is over its budget as well");
    assert_eq!(world.simulator.stats().posts, 10);
}

#[tokio::test]
async fn throttling_is_obeyed_and_holds_back_nobody_else() {
    let world = World::new().await;
    let ids = world.deploy(4).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::throttled(120))]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.run_due().await;
    let counts = world.rollout(id).await["counts"].clone();
    assert_eq!((&counts["running"], &counts["queued"]), (&json!(3), &json!(1)), "{counts}");
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 4);
    let stats = world.simulator.stats();
    assert_eq!((stats.impatient_posts, stats.impatient_polls), (0, 0));
    assert_eq!(world.refresh_of(id, &ids[0]).await["attempts"], 2);
}

#[tokio::test]
async fn each_kind_of_failure_ends_in_its_own_result_with_the_one_who_has_to_act() {
    let world = World::new().await;
    let ids = world.deploy(7).await;
    let gone = Reply::resource_not_found();
    for (at, scripts) in [
        vec![OnPost::Reply(Reply::forbidden())],
        vec![OnPost::Reply(Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001"))],
        vec![OnPost::Reply(gone.clone()), OnPost::Reply(gone)],
        vec![OnPost::Accept(Acceptance::ending(Outcome::failed("RequestDisallowedByPolicy", "a policy says no")))],
        vec![OnPost::Accept(Acceptance::ending(Outcome::word("Cancelled")))],
        vec![OnPost::Reply(Reply::error(400, "BadRequest", "no such version"))],
        vec![OnPost::Reply(Reply::unavailable(30)), OnPost::Reset, OnPost::Reply(Reply::html(500))],
    ]
    .into_iter()
    .enumerate()
    {
        world.simulator.on_post(&ids[at], scripts);
    }
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, 3 * HOUR).await;
    assert_eq!(done["state"], "completed", "{done}");
    let mut found = Vec::new();
    for application in &ids {
        let refresh = world.refresh_of(id, application).await;
        found.push((
            refresh["state"].as_str().unwrap().to_owned(),
            refresh["error"]["actor"].as_str().map(str::to_owned),
        ));
    }
    let expected = [
        ("handedOver", Some("customer")),
        ("handedOver", Some("customer")),
        ("skipped", None),
        ("failed", Some("customer")),
        ("failed", Some("customer")),
        ("failed", Some("publisher")),
        ("succeeded", None),
    ];
    assert_eq!(found, expected.map(|(state, actor)| (state.to_owned(), actor.map(str::to_owned))));
    let handed_over = world.refresh_of(id, &ids[0]).await;
    let command = handed_over["command"].as_str().unwrap();
    assert!(command.starts_with("az rest --method post") && command.contains("targetVersion=1.5.0"), "{command}");
}

#[tokio::test]
async fn pausing_works_at_once_and_what_was_posted_is_followed_to_its_end() {
    let world = World::new().await;
    world.deploy(20).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 5});
    let id = world.publish(json!({"strategy": strategy})).await;
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 5, "maxInFlight");
    let (status, paused) = world.post(&format!("/api/rollouts/{id}/pause"), &Value::Null).await;
    assert_eq!((status, &paused["state"]), (StatusCode::OK, &json!("paused")));
    let (status, _) = world.post(&format!("/api/rollouts/{id}/pause"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK, "the same again");
    world.advance(HOUR);
    world.run_due().await;
    let counts = world.rollout(id).await["counts"].clone();
    assert_eq!((&counts["succeeded"], &counts["queued"]), (&json!(5), &json!(15)), "{counts}");
    world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 20);
}

#[tokio::test]
async fn canceling_calls_off_what_was_not_posted() {
    let world = World::new().await;
    world.deploy(20).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 5});
    let id = world.publish(json!({"strategy": strategy})).await;
    world.run_due().await;
    let (status, canceled) = world.post(&format!("/api/rollouts/{id}/cancel"), &Value::Null).await;
    assert_eq!((status, &canceled["state"]), (StatusCode::OK, &json!("canceled")));
    world.run_due().await;
    world.advance(HOUR);
    world.run_due().await;
    let counts = world.rollout(id).await["counts"].clone();
    assert_eq!((&counts["succeeded"], &counts["canceled"]), (&json!(5), &json!(15)), "{counts}");
    let (status, again) = world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT, "{again}");
}

#[tokio::test]
async fn retry_brings_back_what_failed_and_nothing_else() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
    world.simulator.on_post(&ids[1], [OnPost::Accept(failed)]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["failed"]), (&json!("completed"), &json!(1)));
    let (status, running) = world.post(&format!("/api/rollouts/{id}/retry"), &Value::Null).await;
    assert_eq!((status, &running["state"]), (StatusCode::OK, &json!("running")), "{running}");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)));
    assert_eq!(ids.iter().map(|id| world.simulator.posts_of(id)).collect::<Vec<_>>(), [1, 2, 1]);
}

#[tokio::test]
async fn another_version_waits_its_turn_or_takes_its_place_on_demand() {
    let world = World::new().await;
    world.deploy(10).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 2});
    let first = world.publish(json!({"strategy": strategy})).await;
    world.run_due().await;
    let (status, refused) = world.post("/api/offer-publishes", &publish(json!({"version": "1.6.0"}))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains(&first.to_string()), "{refused}");
    let second = world.publish(json!({"version": "1.6.0", "supersede": true})).await;
    world.run_due().await;
    let superseded = world.rollout(first).await;
    assert_eq!(superseded["state"], "canceled");
    assert!(superseded["why"].as_str().unwrap().contains(&second.to_string()));
    let done = world.settle(second, 2 * HOUR).await;
    assert_eq!(done["counts"]["succeeded"], 10, "{done}");
    let counts = world.rollout(first).await["counts"].clone();
    assert_eq!((&counts["succeeded"], &counts["superseded"]), (&json!(2), &json!(8)), "{counts}");
}

#[tokio::test]
async fn of_two_versions_posted_at_the_same_instant_the_second_waits_for_the_first() {
    let world = World::new().await;
    world.deploy(4).await;
    let slow = json!({"canaries": 0, "waves": ["100%"], "maxInFlight": 1});
    let first = world.publish(json!({"strategy": slow})).await;
    // Both were let in before either was stored: the second one as its own post would have stored it.
    let mut second = world.store.rollout(first).await.unwrap().unwrap().value;
    second.id = RolloutId(Uuid::from_u128(first.0.as_u128() + 1));
    second.publish.version = "1.6.0".parse().unwrap();
    assert!(world.store.save_rollout(&Versioned::new(second.clone())).await.unwrap().is_stored());
    world.run_due().await;
    world.advance(Duration::from_secs(121));
    world.run_due().await;
    let waiting = world.rollout(second.id).await;
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert!(waiting["why"].as_str().unwrap().contains(&first.to_string()));
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 4);
    let done = world.settle(second.id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(4)), "{done}");
    assert_eq!(world.simulator.stats().overlapping_operations, 0);
}

#[tokio::test]
async fn a_lower_version_is_refused_unless_it_is_a_repair() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = world.publish(json!({})).await;
    world.settle(id, HOUR).await;
    let (status, refused) = world.post("/api/offer-publishes", &publish(json!({"version": "1.4.9"}))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("repair"), "{refused}");
    let id = world.publish(json!({"version": "1.4.9", "purpose": "repair"})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 2);
}

#[tokio::test]
async fn a_bad_publish_names_every_bad_field_and_starts_nothing() {
    let world = World::new().await;
    let body = json!({
        "publisher": "a/b", "plan": "standard", "offer": "ledger", "version": "1.x", "target": "beta", "audience": 7,
        "strategy": {"canary": 1}, "scope": {"applicationIds": ["nonsense"], "tenants": []}, "typo": true
    });
    let (status, problem) = world.post("/api/offer-publishes", &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut fields: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let expected = [
        "audience",
        "publisher",
        "scope.applicationIds[0]",
        "scope.tenants",
        "strategy.canary",
        "target",
        "typo",
        "version",
    ];
    assert_eq!(fields, expected, "{problem}");
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]));
}

#[tokio::test]
async fn the_report_lists_every_refresh_as_json_and_as_csv() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::forbidden())]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, HOUR).await;
    let report = world.get(&format!("/api/rollouts/{id}/report")).await;
    assert_eq!(report["rollout"]["id"], json!(id));
    assert_eq!(report["refreshes"].as_array().unwrap().len(), 3);
    let request = axum::http::Request::get(format!("/api/rollouts/{id}/report?format=csv"));
    let (status, csv) = world.request(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert!(lines[0].starts_with("applicationId,state,why,way"), "{csv}");
    assert!(csv.contains("handedOver") && csv.contains("AuthorizationFailed") && csv.contains("az rest"), "{csv}");
}

#[tokio::test]
async fn a_dry_run_says_who_would_be_called_and_calls_nobody() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let id = world.publish(json!({"scope": {"applicationIds": [ids[3]]}})).await;
    world.settle(id, HOUR).await;
    let posts = world.simulator.stats().posts;
    let (status, run) = world.post("/api/rollouts?dryRun=true", &publish(json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(run["called"].as_array().unwrap().len(), 19);
    assert_eq!(run["called"][0]["wave"], 1);
    assert_eq!(run["called"][18]["wave"], 3);
    assert_eq!(run["skipped"][0]["applicationId"], json!(ids[3]));
    assert!(run["skipped"][0]["why"].as_str().unwrap().starts_with("alreadyApplied"));
    assert_eq!(world.simulator.stats().posts, posts);
}

#[tokio::test]
async fn an_operation_that_cannot_be_read_for_a_while_still_ends_well() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    let unreadable = || OnPoll::Reply(Reply::html(502));
    world.simulator.on_poll(&ids[0], [unreadable(), unreadable(), OnPoll::Reply(Reply::forbidden()), OnPoll::Reset]);
    let id = world.publish(json!({})).await;
    let done = world.settle(id, 2 * HOUR).await;
    assert_eq!(done["counts"]["succeeded"], 1, "{done}");
    assert_eq!(world.simulator.operations_of(&application(0)), 1, "it was not posted again");
}
