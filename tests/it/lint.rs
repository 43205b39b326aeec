//! The lint before the first customer: through the API, and from the command line.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{Area, Reply};
use permafresh::rollout::watch::Snapshot;
use permafresh::rollout::{Package, Plan};
use permafresh::store::{Versioned, document};
use serde_json::{Value, json};

use crate::world::{World, application, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);

async fn world() -> World {
    let world = World::new().await;
    world.simulator.add_provider(
        "Microsoft.KeyVault",
        &[("Microsoft.KeyVault/vaults/read", false), ("Microsoft.KeyVault/vaults/secrets/getSecret/action", true)],
    );
    world.simulator.add_provider("Microsoft.Web", &[("Microsoft.Web/sites/restart/Action", false)]);
    world.deploy(2).await;
    world
}

fn with_actions(control: &[&str], data: &[&str]) -> Value {
    json!({"strategy": one_wave(), "expected": {"allowedCustomerActions": control, "allowedDataActions": data}})
}

#[tokio::test]
async fn a_version_with_real_actions_goes_to_everybody() {
    let world = world().await;
    let actions = ["Microsoft.Web/sites/restart/Action; Microsoft.KeyVault/*"];
    let id = world.publish(with_actions(&actions, &["Microsoft.KeyVault/vaults/secrets/getSecret/action"])).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["counts"]["succeeded"], done.get("lint")), (&json!(2), None), "{done}");
}

#[tokio::test]
async fn a_data_action_in_the_wrong_box_parks_the_rollout_before_anybody_is_called() {
    let world = world().await;
    let wrong = "Microsoft.KeyVault/vaults/secrets/getSecret/action";
    let id = world.publish(with_actions(&["Microsoft.KeyVault/vaults/read", wrong], &[])).await;
    let parked = world.settle(id, HOUR).await;
    assert_eq!(parked["state"], "paused");
    assert!(parked["why"].as_str().unwrap().contains(wrong), "{parked}");
    assert_eq!((&parked["lint"][0]["rule"], &parked["lint"][0]["box"]), (&json!("wrongBox"), &json!("control")));
    assert_eq!(world.simulator.stats().posts, 0);
    world.advance(HOUR);
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 0, "time changes nothing");

    let (status, _) = world.post(&format!("/api/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 2, "a person may know better");
}

#[tokio::test]
async fn a_parked_version_gives_way_to_the_corrected_one() {
    let world = world().await;
    let id = world.publish(with_actions(&["Microsoft.Web/sites/ restart/Action"], &[])).await;
    let parked = world.settle(id, HOUR).await;
    assert_eq!(parked["lint"][0]["suggestions"], json!(["Microsoft.Web/sites/restart/Action"]), "{parked}");
    let mut corrected = with_actions(&["Microsoft.Web/sites/restart/Action"], &[]);
    corrected["version"] = json!("1.5.1");
    let next = world.publish(corrected).await;
    assert_eq!(world.settle(next, HOUR).await["counts"]["succeeded"], 2);
    assert_eq!(world.rollout(id).await["state"], "canceled");
}

#[tokio::test]
async fn what_cannot_be_known_warns_and_goes_on() {
    for reply in [
        Reply::html(200),
        Reply::json(200, r#"{"resourceTypes": [{"oper"#),
        Reply::json(200, r#"{"operations": []}"#),
        Reply::forbidden(),
        Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001"),
        Reply::throttled(60),
        Reply::html(500),
        Reply::redirect("https://evil.example/"),
        Reply::error(404, "ProviderOperationsNotFound", "no"),
    ] {
        let world = world().await;
        world.simulator.on_area(Area::Operations, [reply.clone()]);
        let id = world.publish(with_actions(&["Microsoft.Web/sites/no/such/action"], &[])).await;
        let done = world.settle(id, HOUR).await;
        assert_eq!(done["counts"]["succeeded"], 2, "{reply:?}: {done}");
        assert_eq!(done["lint"][0]["severity"], "warning", "{reply:?}: {done}");
    }
}

#[tokio::test]
async fn operations_are_read_once_a_day() {
    let world = world().await;
    for (version, lists) in [("1.5.1", 1), ("1.5.2", 1)] {
        let mut body = with_actions(&["Microsoft.Web/sites/restart/Action"], &[]);
        body["version"] = json!(version);
        let id = world.publish(body).await;
        world.settle(id, HOUR).await;
        assert_eq!(world.simulator.stats().operation_lists, lists, "{version}");
    }
    world.advance(24 * HOUR);
    let mut body = with_actions(&["Microsoft.Web/sites/restart/Action"], &[]);
    body["version"] = json!("1.5.3");
    let id = world.publish(body).await;
    world.settle(id, HOUR).await;
    assert_eq!(world.simulator.stats().operation_lists, 2);
}

#[tokio::test]
async fn a_dry_run_lints_too_and_a_restore_is_not_held_up() {
    let world = world().await;
    let body = publish(with_actions(&["Microsoft.Web/sites/restrat/Action"], &[]));
    let (status, run) = world.post("/api/rollouts?dryRun=true", &body).await;
    assert_eq!((status, &run["lint"][0]["rule"]), (StatusCode::OK, &json!("noSuchAction")), "{run}");
    let mut restore = body.clone();
    restore["purpose"] = json!("restore");
    restore["scope"] = json!({"applicationIds": [application(0)]});
    let (_, started) = world.post("/api/offer-publishes", &restore).await;
    let id = started["rolloutId"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn what_is_no_list_of_actions_is_refused_by_name() {
    let world = World::new().await;
    for (expected, field) in [
        (json!([]), "expected"),
        (json!({"allowedCustomerActions": "x"}), "expected.allowedCustomerActions"),
        (json!({"allowedDataActions": [7]}), "expected.allowedDataActions"),
        (json!({"authorizations": []}), "expected.authorizations"),
        (json!({"allowedDataActions": ["x".repeat(50_000)]}), "expected.allowedDataActions"),
    ] {
        let (status, problem) = world.post("/api/offer-publishes", &publish(json!({ "expected": expected }))).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
}

#[tokio::test]
async fn the_api_lints_a_version_that_it_is_told_of_or_has_seen_and_says_so_where_it_has_not() {
    let world = world().await;
    let body = |changes: Value| {
        let mut body = publish(changes);
        body.as_object_mut().unwrap().remove("target");
        body
    };
    let expected = json!({"expected": {"allowedCustomerActions": ["Microsoft.Web/sites/restrat/action"]}});
    let (status, result) = world.post("/api/offer-publishes/lint", &body(expected)).await;
    assert_eq!(
        (status, &result["rejected"], &result["findings"][0]["rule"]),
        (StatusCode::OK, &json!(true), &json!("noSuchAction"))
    );
    assert_eq!(world.get("/api/rollouts").await["value"], json!([]), "nothing was begun");
    assert_eq!(world.post("/api/offer-publishes/lint", &body(json!({}))).await.0, StatusCode::NOT_FOUND);

    let (plan, _) = Plan::parse("fabrikam", "ledger", "standard").unwrap();
    let snapshot = Snapshot {
        plan,
        version: "1.5.0".parse().unwrap(),
        package: Package {
            allowed_control_actions: vec!["Microsoft.KeyVault/vaults/secrets/getSecret/action".to_owned()],
            ..Package::default()
        },
        instance_id: "1".to_owned(),
        read_at: world.now(),
        is_restated: false,
    };
    document::save(&*world.store, &Versioned::new(snapshot)).await.unwrap();
    let (_, result) = world.post("/api/offer-publishes/lint", &body(json!({}))).await;
    assert_eq!(result["findings"][0]["rule"], "wrongBox", "{result}");
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let parked = world.settle(id, HOUR).await;
    assert_eq!((&parked["state"], &parked["lint"][0]["rule"]), (&json!("paused"), &json!("wrongBox")), "{parked}");
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn a_pipeline_learns_from_the_exit_code() {
    let world = world().await;
    let environment = [
        ("ARM_ENDPOINT", world.simulator.endpoint().as_str().to_owned()),
        ("IDENTITY_ENDPOINT", world.simulator.identity_endpoint()),
        ("IDENTITY_HEADER", world.simulator.identity_header().to_owned()),
    ];
    let run = |arguments: &'static [&'static str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_permafresh"));
        command.env_clear().envs(environment.clone()).arg("lint").args(arguments).kill_on_drop(true);
        async move {
            let output = command.output().await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        }
    };
    let (code, out, err) = run(&["Microsoft.Web/sites/restart/Action;Microsoft.KeyVault/*"]).await;
    assert_eq!((code, out.as_str(), err.trim()), (Some(0), "", "rejected: 0; 0 warnings"));
    let (code, out, _) = run(&["Microsoft.Web/sites/restrat/action"]).await;
    assert_eq!(code, Some(5), "{out}");
    assert!(out.starts_with("rejected: ") && out.contains("did you mean Microsoft.Web/sites/restart/Action?"), "{out}");
    let (code, out, _) = run(&["--json", "--data-action", "Microsoft.KeyVault/vaults/read"]).await;
    let findings: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &findings[0]["rule"], &findings[0]["box"]), (Some(5), &json!("wrongBox"), &json!("data")));
    let (code, out, _) = run(&["Contoso.Nothing/x/read"]).await;
    assert_eq!((code, out.starts_with("warning: ")), (Some(0), true), "{out}");
    assert_eq!(run(&["--strict", "Contoso.Nothing/x/read"]).await.0, Some(5));
    assert_eq!(run(&[]).await.0, Some(2));
    assert_eq!(run(&["--offer", "ledger"]).await.0, Some(2));
    assert_eq!(run(&["--file", "no/such/file"]).await.0, Some(1));
}
