//! What happens after a refresh was handed over: what the customer is told, what is recognised of their run, and what a
//! person has to record since nothing shows it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{ApplicationSpec, OnPost, PlanSpec, Reply};
use permafresh::rollout::RolloutId;
use serde_json::{Value, json};

use crate::world::{World, application, invoke_timer, one_wave, publish};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Two deployments, of which the first was handed over.
async fn handed_over() -> (World, RolloutId) {
    let world = World::new().await;
    let ids = world.deploy(2).await;
    // What Azure says of them, the version included.
    synced(&world).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::forbidden())]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["counts"]["handedOver"], &done["counts"]["succeeded"]), (&json!(1), &json!(1)), "{done}");
    (world, id)
}

/// From now on Azure shows this version of the application.
fn shows(world: &World, number: usize, version: &str) {
    let mut spec = ApplicationSpec::new(application(number));
    spec.plan = Some(PlanSpec { version: version.into(), ..spec.plan.unwrap() });
    world.simulator.add_application(spec);
}

async fn notified(world: &World) {
    world.advance(MINUTE);
    let body = json!({"eventType": "PATCH", "applicationId": application(0), "eventTime": world.now(),
        "provisioningState": "Succeeded"});
    assert_eq!(world.post("/api/notification/resource?sig=the-sig", &body).await.0, StatusCode::OK);
    world.run_due().await;
}

async fn synced(world: &World) {
    world.advance(MINUTE);
    assert_eq!(invoke_timer(&world.router(), "SyncDeployments", None).await, StatusCode::OK);
    world.run_due().await;
    assert_eq!(world.get("/api/deployments/sync").await["state"], "ended");
}

async fn deployment(world: &World, number: usize) -> Value {
    world.get(&format!("/api/deployments/{}", application(number).key())).await
}

async fn record(world: &World, number: usize, body: Value) -> (StatusCode, Value) {
    world.post(&format!("/api/deployments/{}/refreshed", application(number).key()), &body).await
}

async fn assert_recognised(world: &World, id: RolloutId) {
    let refresh = world.refresh_of(id, &application(0)).await;
    assert_eq!((&refresh["state"], &refresh["verified"]), (&json!("succeeded"), &json!(false)), "{refresh}");
    assert!(refresh["why"].as_str().unwrap().contains("since the hand-over Azure shows this version"), "{refresh}");
    let known = deployment(world, 0).await;
    assert_eq!((&known["applied"]["version"], &known["version"]), (&json!("1.5.0"), &json!("1.5.0")), "{known}");
    let counts = world.rollout(id).await["counts"].clone();
    assert_eq!((&counts["handedOver"], &counts["succeeded"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn api_and_reports_hold_both_commands_how_to_read_the_result_and_how_long_it_takes() {
    let (world, id) = handed_over().await;
    let refresh = world.refresh_of(id, &application(0)).await;
    let path = application(0).to_string();
    let url = format!("https://management.azure.com{path}/refreshPermissions");
    let bash = format!("az rest --method post --verbose --url '{url}?api-version=2019-07-01&targetVersion=1.5.0'");
    let powershell = format!(
        "az rest --method post --verbose --url {url} --uri-parameters api-version=2019-07-01 targetVersion=1.5.0"
    );
    assert_eq!((&refresh["command"], &refresh["commandPowerShell"]), (&json!(bash), &json!(powershell)));
    let result = &refresh["result"];
    assert_eq!(
        (&result["command"], &result["expectedMinutes"]),
        (&json!("az rest --method get --url 'URL'"), &json!(15))
    );
    assert!(result["how"].as_str().unwrap().contains("Azure-AsyncOperation"), "{result}");
    let report = world.get(&format!("/api/rollouts/{id}/report")).await;
    assert!(report["refreshes"].as_array().unwrap().contains(&refresh), "{report}");
    let other = world.refresh_of(id, &application(1)).await;
    assert!(other.get("result").is_none() && other.get("command").is_none(), "{other}");

    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (_, csv) = world.request(request).await;
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let names = rows.headers().unwrap().clone();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    let cell = |row: &csv::StringRecord, name: &str| row[names.iter().position(|n| n == name).unwrap()].to_owned();
    let row = rows.iter().find(|row| row[0] == path).unwrap();
    for (name, wanted) in [
        ("command", &json!(bash)),
        ("commandPowerShell", &json!(powershell)),
        ("resultCommand", &result["command"]),
        ("resultCommandPowerShell", &result["commandPowerShell"]),
        ("expectedMinutes", &json!("15")),
    ] {
        assert_eq!(json!(cell(row, name)), *wanted, "{name}");
    }
    let row = rows.iter().find(|row| row[0] != path).unwrap();
    assert_eq!((cell(row, "resultCommand"), cell(row, "expectedMinutes")), (String::new(), String::new()));
}

/// What a program of the name `az` gets, found by its name, from a shell that was given `command` as a customer pastes it.
fn az_gets(shell: &str, command: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let az = folder.path().join("az");
    std::fs::write(&az, "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\"\n").unwrap();
    std::fs::set_permissions(&az, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let ended = std::process::Command::new(shell).args(["-c", command]).env("PATH", path).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_dashboard_shows_the_command_and_the_one_that_reads_the_result() {
    let (world, id) = handed_over().await;
    let page = crate::dashboard::page(&world, &format!("/rollouts/{id}")).await;
    for part in [
        "az rest --method post --verbose --url 'https://management.azure.com",
        "az rest --method get --url 'URL'",
        "aria-label=\"Result for PowerShell\"",
        "Azure-AsyncOperation",
        "up to 15 minutes",
        "AuthorizationFailed</code> <span class=\"times\">1 deployment, handed over</span>",
        "send the customer the command",
    ] {
        assert!(page.contains(part), "it lacks {part}");
    }
}

#[tokio::test]
async fn a_shell_hands_each_command_whole_to_az() {
    let (world, id) = handed_over().await;
    let refresh = world.refresh_of(id, &application(0)).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let url = format!("https://management.azure.com{}/refreshPermissions", application(0));
    let whole = format!("{url}?api-version=2019-07-01&targetVersion=1.5.0");
    let signed = "https://management.azure.com/x/operationStatuses/a*b?api-version=2019-07-01&t=638&c=MII-_&s=$HOME`id`$(id)&h=z==";
    for shell in ["bash", "sh"] {
        let got = az_gets(shell, &text(&refresh["command"]));
        assert_eq!(got, ["6", "rest", "--method", "post", "--verbose", "--url", &whole], "{shell}");
        let got = az_gets(shell, &text(&refresh["result"]["command"]).replace("URL", signed));
        assert_eq!(got, ["5", "rest", "--method", "get", "--url", signed], "{shell}");
        // The one for PowerShell has no quote at all, so that it is the same everywhere.
        let got = az_gets(shell, &text(&refresh["commandPowerShell"]));
        let wanted = ["rest", "--method", "post", "--verbose", "--url", &url, "--uri-parameters"];
        assert_eq!(got[1..8], wanted, "{shell}");
        assert_eq!(got[8..], ["api-version=2019-07-01", "targetVersion=1.5.0"], "{shell}");
    }
}

#[tokio::test]
async fn a_customers_own_run_is_recognised_where_azure_shows_the_version_after_a_notification() {
    let (world, id) = handed_over().await;
    shows(&world, 0, "1.5.0");
    notified(&world).await;
    assert_recognised(&world, id).await;
    notified(&world).await;
    assert_recognised(&world, id).await;
}

#[tokio::test]
async fn a_customers_own_run_is_recognised_where_a_sync_finds_the_version() {
    let (world, id) = handed_over().await;
    shows(&world, 0, "1.5.0");
    synced(&world).await;
    assert_recognised(&world, id).await;
    let (status, known) = record(&world, 0, json!({})).await;
    assert_eq!((status, &known["applied"]["version"]), (StatusCode::OK, &json!("1.5.0")), "it is so already");
    assert_recognised(&world, id).await;
}

#[tokio::test]
async fn nothing_is_assumed_where_azure_shows_nothing_new_or_something_else() {
    for shown in ["1.4.0", "1.6.0", "2.0.0", "latest"] {
        let (world, id) = handed_over().await;
        shows(&world, 0, shown);
        notified(&world).await;
        synced(&world).await;
        world.advance(24 * HOUR);
        world.run_due().await;
        let refresh = world.refresh_of(id, &application(0)).await;
        assert_eq!(refresh["state"], "handedOver", "{shown}: {refresh}");
        assert_eq!(deployment(&world, 0).await.get("applied"), None, "{shown}");
    }
}

#[tokio::test]
async fn a_version_that_azure_showed_before_the_hand_over_proves_nothing() {
    let world = World::new().await;
    let ids = world.deploy(1).await;
    shows(&world, 0, "1.5.0");
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::forbidden())]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, HOUR).await;
    // What Azure showed before is not known here, since nobody had looked.
    notified(&world).await;
    assert_eq!(deployment(&world, 0).await["version"], "1.5.0");
    assert_eq!(world.refresh_of(id, &ids[0]).await["state"], "handedOver");
}

#[tokio::test]
async fn what_nothing_shows_is_recorded_by_a_person_and_audited() {
    let (world, id) = handed_over().await;
    let (status, known) = record(&world, 0, json!({"version": "1.5.0", "why": "ticket 4711"})).await;
    assert_eq!((status, &known["applied"]["version"]), (StatusCode::OK, &json!("1.5.0")), "{known}");
    assert_eq!(known["history"][0]["result"], "succeeded", "{known}");
    let refresh = world.refresh_of(id, &application(0)).await;
    assert_eq!((&refresh["state"], &refresh["verified"]), (&json!("succeeded"), &json!(false)));
    let why = refresh["why"].as_str().unwrap();
    assert!(why.contains("has recorded; nothing was seen of it"), "{why}");
    let entry = world.get("/api/audit").await["value"][0].clone();
    assert_eq!(
        (&entry["what"], &entry["on"], &entry["why"], &entry["outcome"]),
        (&json!("deployment.refreshed"), &json!(application(0)), &json!("ticket 4711"), &json!("done")),
        "{entry}"
    );
    assert_eq!(entry["to"], "refreshed to 1.5.0 by the customer");
    assert!(why.contains(entry["who"].as_str().unwrap()), "{why}");

    world.advance(MINUTE);
    let (status, again) = record(&world, 0, json!({})).await;
    assert_eq!((status, &again["applied"]), (StatusCode::OK, &known["applied"]), "the same again changes nothing");
    assert_eq!(world.simulator.stats().posts, 2, "and a new rollout skips it");
    let (status, next) = world.post("/api/rollouts", &publish(json!({"strategy": one_wave()}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{next}");
    let next = next["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.settle(next, HOUR).await["counts"]["skipped"], 2);
}

#[tokio::test]
async fn what_was_not_handed_over_cannot_be_recorded() {
    let (world, id) = handed_over().await;
    for (number, body, status) in [
        (1, json!({}), StatusCode::CONFLICT),
        (0, json!({"version": "1.6.0"}), StatusCode::CONFLICT),
        (0, json!({"version": "new"}), StatusCode::BAD_REQUEST),
        (0, json!({"versoin": "1.5.0"}), StatusCode::BAD_REQUEST),
        (7, json!({}), StatusCode::NOT_FOUND),
    ] {
        let (got, answer) = record(&world, number, body.clone()).await;
        assert_eq!(got, status, "{number} {body}: {answer}");
    }
    let (_, refused) = record(&world, 0, json!({"version": "1.6.0"})).await;
    assert!(refused["detail"].as_str().unwrap().contains("for version 1.6.0"), "{refused}");
    assert_eq!(world.refresh_of(id, &application(0)).await["state"], "handedOver");
    assert_eq!(world.get("/api/audit").await["value"][0]["outcome"], "refused");
}

#[tokio::test]
async fn a_retry_that_was_quicker_than_the_record_is_not_ended_by_it() {
    let (world, id) = handed_over().await;
    let (status, _) = world.post(&format!("/api/rollouts/{id}/retry?actor=customer"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, refused) = record(&world, 0, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["counts"]["succeeded"], 2, "{done}");
}
