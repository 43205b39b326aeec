//! SyncDeployments: what Azure shows against what the registry knows, and every way in which Azure can answer badly.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{ApplicationSpec, Area, OnRead, PlanSpec, Reply};
use permafresh::engine::OfferConfig;
use permafresh::rollout::{ApplicationId, Strategy, Way};
use serde_json::{Value, json};

use crate::azurite;
use crate::faults::{Faults, FaultyQueue, FaultyStore};
use crate::world::{Options, World, application, invoke_message, invoke_timer};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// In Azure, and unknown to us.
fn in_azure(world: &World, numbers: std::ops::Range<usize>) -> Vec<ApplicationId> {
    let ids: Vec<_> = numbers.map(application).collect();
    world.simulator.add_applications(ids.iter().cloned().map(ApplicationSpec::new));
    ids
}

async fn begin(world: &World) {
    assert_eq!(invoke_timer_ok(world).await, StatusCode::OK);
}

async fn invoke_timer_ok(world: &World) -> StatusCode {
    invoke_timer(&world.router(), "SyncDeployments", None).await
}

/// One run to its end, with all that it asks for.
async fn sync(world: &World) -> Value {
    world.advance(MINUTE);
    begin(world).await;
    finish(world).await
}

async fn finish(world: &World) -> Value {
    for _ in 0..200 {
        world.run_due().await;
        let run = world.get("/api/deployments/sync").await;
        if run["state"] == "ended" {
            return run;
        }
        world.advance(Duration::from_secs(15));
    }
    panic!("the sync does not end: {}", world.get("/api/deployments/sync").await);
}

async fn show(world: &World, number: usize) -> Option<Value> {
    let request = Request::get(format!("/api/deployments/{}", application(number).key()));
    let (status, body) = world.request(request.body(String::new().into()).unwrap()).await;
    (status == StatusCode::OK).then(|| serde_json::from_str(&body).unwrap())
}

async fn is_gone(world: &World, number: usize) -> bool {
    show(world, number).await.unwrap()["goneSince"].is_string()
}

/// Enough time for both looks of a check, with what they bring.
async fn look_twice(world: &World) {
    for _ in 0..6 {
        world.advance(15 * MINUTE);
        world.run_due().await;
    }
}

#[tokio::test]
async fn what_notifications_missed_is_found_and_read() {
    let world = World::new().await;
    in_azure(&world, 0..3);
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["new"], &run["counts"]["found"], &run["problems"]), (&json!(3), &json!(3), &json!([])));
    for number in 0..3 {
        let found = show(&world, number).await.expect("it is registered");
        assert_eq!(
            (&found["confirmed"], &found["plan"], &found["version"]),
            (&json!(true), &json!("standard"), &json!("1.4.0"))
        );
        assert_eq!(found["tenantId"], "5d0f7a10-0000-4000-8000-00000000c001");
        assert_eq!(found["provisioningState"], "Succeeded");
    }
    let again = sync(&world).await;
    assert_eq!((&again["counts"]["found"], &again["differences"]), (&json!(3), &json!([])), "nothing new");
    assert_eq!(again["counts"]["missing"], 0);
}

#[tokio::test]
async fn a_dry_run_says_what_differs_and_changes_nothing() {
    let world = World::new().await;
    in_azure(&world, 0..2);
    world.deploy_these(&[application(5), application(6)]).await;
    world.simulator.delete_application(&application(6));
    let before = world.get("/api/deployments").await;
    world.advance(MINUTE);
    let (status, begun) = world.post("/api/deployments/sync?dryRun=true", &json!({})).await;
    assert_eq!((status, &begun["dryRun"]), (StatusCode::ACCEPTED, &json!(true)));
    let (status, refused) = world.post("/api/deployments/sync", &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert_eq!(world.post("/api/deployments/sync?dryRun=true", &json!({})).await.1["id"], begun["id"], "the same one");
    let run = finish(&world).await;
    let mut said: Vec<_> = run["differences"].as_array().unwrap().iter().map(|of| of["difference"].clone()).collect();
    said.sort_by_key(Value::to_string);
    assert_eq!(said, [json!("changed"), json!("missing"), json!("new"), json!("new")], "{run}");
    assert_eq!((&run["counts"]["missing"], &run["counts"]["asked"]), (&json!(1), &json!(0)));
    assert_eq!(world.get("/api/deployments").await, before);
    assert_eq!(world.simulator.stats().reads, 0, "nobody was asked");
    for bad in ["maybe", ""] {
        let (status, _) = world.post(&format!("/api/deployments/sync?dryRun={bad}"), &json!({})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn what_is_missing_is_gone_only_when_a_reading_says_so_twice() {
    let world = World::new().await;
    world.deploy(3).await;
    world.simulator.delete_application(&application(1));
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["missing"], &run["counts"]["asked"]), (&json!(1), &json!(1)), "{run}");
    assert!(!is_gone(&world, 1).await, "not found in lists and once not found is not enough");
    look_twice(&world).await;
    assert!(is_gone(&world, 1).await && !is_gone(&world, 0).await);
    in_azure(&world, 1..2);
    world.advance(HOUR);
    assert_eq!(sync(&world).await["counts"]["back"], 1);
    assert!(!is_gone(&world, 1).await);
}

#[tokio::test]
async fn one_that_the_lists_leave_out_but_arm_still_shows_stays() {
    let world = World::new().await;
    world.deploy(2).await;
    world.simulator.hide_subscription(application(1).subscription());
    assert_eq!(sync(&world).await["counts"]["missing"], 1);
    look_twice(&world).await;
    assert!(!is_gone(&world, 1).await);
}

#[tokio::test]
async fn who_sees_no_application_in_the_graph_finds_them_by_subscription() {
    let world = World::new().await;
    world.simulator.blind_graph();
    in_azure(&world, 0..3);
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["new"], &run["problems"]), (&json!(3), &json!([])), "{run}");
    assert_eq!(show(&world, 2).await.unwrap()["confirmed"], true);
}

#[tokio::test]
async fn a_managed_group_is_enough_to_find_its_application() {
    let world = World::new().await;
    in_azure(&world, 0..1);
    world.simulator.on_area(Area::Graph, [Reply::forbidden(), Reply::forbidden()]);
    world.simulator.on_list([Reply::forbidden()]);
    let run = sync(&world).await;
    assert_eq!(run["counts"]["new"], 1, "{run}");
    assert_eq!((&run["counts"]["unreadSubscriptions"], run["problems"].as_array().unwrap().len()), (&json!(0), 2));
    let found = show(&world, 0).await.unwrap();
    assert_eq!((&found["plan"], &found["confirmed"]), (&json!("standard"), &json!(true)), "it was read");
}

/// Answers of the whole area that must end in nothing being taken for gone.
fn bad_answers() -> Vec<(&'static str, Reply)> {
    let loops = r#"{"value": [], "nextLink": "/subscriptions?api-version=2022-12-01"}"#;
    vec![
        ("html", Reply::html(200)),
        ("half", Reply::json(200, r#"{"value": [{"subscriptionId": "a10"#)),
        ("array", Reply::json(200, "[]")),
        ("401", Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001")),
        ("403", Reply::forbidden()),
        ("404", Reply::error(404, "SubscriptionNotFound", "no")),
        ("500", Reply::html(500)),
        ("502", Reply::status(502)),
        (
            "elsewhere",
            Reply::json(200, r#"{"value": [], "nextLink": "https://evil.example/subscriptions?api-version=1"}"#),
        ),
        ("http", Reply::json(200, r#"{"value": [], "nextLink": "ftp://127.0.0.1/subscriptions?api-version=1"}"#)),
        ("loops", Reply::json(200, loops)),
        ("redirect", Reply::redirect("https://evil.example/")),
    ]
}

#[tokio::test]
async fn a_list_of_subscriptions_that_fails_makes_nothing_missing() {
    for (name, reply) in bad_answers() {
        let world = World::new().await;
        world.deploy(2).await;
        world.simulator.on_area(Area::Subscriptions, std::iter::repeat_n(reply, 20));
        let run = sync(&world).await;
        assert_eq!((&run["counts"]["missing"], &run["counts"]["found"]), (&json!(0), &json!(0)), "{name}: {run}");
        assert_eq!(run["problems"].as_array().unwrap().len(), 1, "{name}: {run}");
        assert_eq!(world.simulator.stats().reads, 0, "{name}");
    }
}

#[tokio::test]
async fn pages_without_end_are_given_up() {
    let world = World::new().await;
    world.deploy(1).await;
    let page = |number: usize| {
        let next = format!("/subscriptions?api-version=2022-12-01&$skiptoken={number}");
        Reply::json(200, json!({"value": [], "nextLink": next}).to_string())
    };
    world.simulator.on_area(Area::Subscriptions, (0..1_100).map(page));
    let run = sync(&world).await;
    assert!(run["problems"][0].as_str().unwrap().contains("too many pages"), "{run}");
    assert_eq!(run["counts"]["missing"], 0);
}

#[tokio::test]
async fn where_no_source_can_be_read_nothing_is_missing() {
    // A page that leads to a good one is none of these.
    for (name, reply) in bad_answers().into_iter().filter(|(name, _)| *name != "loops") {
        let world = World::new().await;
        world.deploy(2).await;
        for area in [Area::Graph, Area::Groups] {
            world.simulator.on_area(area, std::iter::repeat_n(reply.clone(), 60));
        }
        world.simulator.on_list(std::iter::repeat_n(reply, 60));
        let run = sync(&world).await;
        assert_eq!(
            (&run["counts"]["missing"], &run["counts"]["unreadSubscriptions"]),
            (&json!(0), &json!(2)),
            "{name}: {run}"
        );
        assert!(!run["problems"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_answer_of_the_graph_that_left_something_out_is_not_taken_for_whole() {
    let page = |changes: Value| {
        let mut body = json!({"totalRecords": 0, "count": 0, "data": [], "resultTruncated": "false"});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Reply::json(200, body.to_string())
    };
    for (name, reply) in [
        ("truncated", page(json!({"resultTruncated": "true"}))),
        ("fewer rows than records", page(json!({"totalRecords": 7}))),
        ("a token that comes back", page(json!({"$skipToken": "same"}))),
        ("too many subscriptions", page(json!({})).with("x-ms-tenant-subscription-limit-hit", "true")),
    ] {
        let world = World::new().await;
        world.deploy(2).await;
        world.simulator.on_area(Area::Graph, std::iter::repeat_n(reply, 40));
        let run = sync(&world).await;
        // ARM's own lists are asked instead.
        assert_eq!((&run["counts"]["found"], &run["counts"]["missing"]), (&json!(2), &json!(0)), "{name}: {run}");
        assert!(run["problems"][0].as_str().unwrap().contains("Resource Graph"), "{name}: {run}");
    }
}

#[tokio::test]
async fn throttles_are_obeyed_and_the_run_goes_on_where_it_was() {
    let world = World::new().await;
    in_azure(&world, 0..3);
    world.simulator.on_area(Area::Subscriptions, [Reply::throttled(40)]);
    world.simulator.on_area(Area::Graph, [Reply::throttled(90), Reply::unavailable(30)]);
    world.advance(MINUTE);
    begin(&world).await;
    let began = world.now();
    world.run_due().await;
    let run = world.get("/api/deployments/sync").await;
    assert_eq!(run["state"], "listing");
    let due = json!(world.now() + Duration::from_secs(40));
    let (until, why) = (&run["waits"]["until"], run["waits"]["why"].as_str().unwrap());
    assert!(*until == due && why.starts_with("SubscriptionRequestsThrottled: "), "it says what it waits for: {run}");
    let asked = world.simulator.stats().inventory;
    world.advance(Duration::from_secs(39));
    world.run_due().await;
    assert_eq!(world.simulator.stats().inventory, asked, "not a second too soon");
    let run = finish(&world).await;
    assert_eq!((&run["counts"]["new"], &run["problems"]), (&json!(3), &json!([])), "{run}");
    assert_eq!(run["waits"], Value::Null, "{run}");
    assert!(world.now() >= began + Duration::from_secs(160), "it waited as long as it was told");
}

#[tokio::test]
async fn a_used_up_quota_of_the_graph_is_waited_for() {
    let world = World::new().await;
    in_azure(&world, 0..1);
    let used_up = Reply::json(200, r#"{"totalRecords": 0, "count": 0, "data": [], "resultTruncated": "false"}"#)
        .with("x-ms-user-quota-remaining", "0")
        .with("x-ms-user-quota-resets-after", "00:02:00");
    world.simulator.on_area(Area::Graph, [used_up]);
    world.advance(MINUTE);
    begin(&world).await;
    let began = world.now();
    let run = finish(&world).await;
    assert!(world.now() >= began + 2 * MINUTE, "{run}");
    assert_eq!(run["problems"], json!([]));
}

#[tokio::test]
async fn newer_knowledge_is_kept() {
    let world = World::new().await;
    world.deploy(1).await;
    let other = |version: &str| {
        let mut spec = ApplicationSpec::new(application(0));
        spec.plan = Some(PlanSpec { version: version.into(), ..spec.plan.unwrap() });
        spec
    };
    world.simulator.add_application(other("1.4.9"));
    sync(&world).await;
    assert_eq!(show(&world, 0).await.unwrap()["version"], "1.4.9", "older knowledge gives way");
    // A notification comes while the lists are being read: the clock has not moved since.
    world.simulator.add_application(other("1.5.0"));
    begin(&world).await;
    let body = json!({"eventType": "DELETE", "applicationId": application(0), "eventTime": world.now(),
        "provisioningState": "Deleting"});
    world.simulator.on_read(&application(0), std::iter::repeat_n(OnRead::State("Deleting".into()), 20));
    assert_eq!(world.post("/api/notification/resource?sig=the-sig", &body).await.0, StatusCode::OK);
    finish(&world).await;
    assert_eq!(show(&world, 0).await.unwrap()["provisioningState"], "Deleting");
}

#[tokio::test]
async fn so_much_missing_is_rather_a_view_that_is_lost() {
    let world = World::new().await;
    world.deploy(12).await;
    world.simulator.add_subscription("a2000000-0000-4000-8000-000000000001");
    for number in 0..12 {
        world.simulator.hide_subscription(application(number).subscription());
    }
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["missing"], &run["counts"]["asked"]), (&json!(12), &json!(0)), "{run}");
    assert!(run["problems"][0].as_str().unwrap().contains("lost its view"), "{run}");
    assert_eq!(world.simulator.stats().reads, 0);
}

#[tokio::test]
async fn applications_of_other_publishers_are_passed_over() {
    let offer = OfferConfig {
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: Vec::new(),
        strategy: Strategy::default(),
        ways: vec![Way::Publisher],
        preview_applications: Vec::new(),
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    in_azure(&world, 0..1);
    let mut foreign = ApplicationSpec::new(application(1));
    foreign.plan = Some(PlanSpec { publisher: "contoso".into(), ..foreign.plan.unwrap() });
    let mut catalog = ApplicationSpec::new(application(2));
    catalog.plan = None;
    world.simulator.add_applications([foreign, catalog]);
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["new"], &run["counts"]["foreign"]), (&json!(1), &json!(2)), "{run}");
    assert!(show(&world, 1).await.is_none() && show(&world, 2).await.is_none());
}

#[tokio::test]
async fn a_run_that_lost_its_message_or_its_handler_is_taken_up_again() {
    let world = World::new().await;
    in_azure(&world, 0..2);
    world.advance(MINUTE);
    begin(&world).await;
    // The message is taken and never seen again.
    let taken = world.queue.receive("refreshes", 10, MINUTE).await.unwrap();
    assert_eq!(taken.len(), 1);
    let body = taken[0].body.clone();
    world.queue.complete("refreshes", &[taken[0].lock.clone()]).await.unwrap();
    world.advance(5 * MINUTE);
    world.run_due().await;
    assert_eq!(world.get("/api/deployments/sync").await["state"], "listing", "it may still be under way");
    world.advance(2 * MINUTE);
    let run = finish(&world).await;
    assert_eq!(run["counts"]["new"], 2, "{run}");
    for message in [&body[..], br#"{"kind": "syncDeployments", "run": "another"}"#] {
        assert_eq!(invoke_message(&world.router(), "RefreshDeployment", message).await, StatusCode::OK, "too late");
    }
    assert_eq!(world.get("/api/deployments/sync").await, run);
}

#[tokio::test]
async fn the_same_message_twice_at_once_counts_once() {
    let world = World::new().await;
    in_azure(&world, 0..20);
    world.advance(MINUTE);
    begin(&world).await;
    let taken = world.queue.receive("refreshes", 10, MINUTE).await.unwrap();
    let router = world.router();
    let both = (0..8).map(|_| invoke_message(&router, "RefreshDeployment", &taken[0].body));
    assert!(futures_util::future::join_all(both).await.iter().all(StatusCode::is_success));
    world.queue.complete("refreshes", &[taken[0].lock.clone()]).await.unwrap();
    let run = finish(&world).await;
    assert_eq!((&run["counts"]["new"], &run["counts"]["found"]), (&json!(20), &json!(20)), "{run}");
}

#[tokio::test]
async fn many_pages_and_shares_are_read_in_full_and_nothing_is_left_behind() {
    let world = World::new().await;
    in_azure(&world, 0..900);
    world.deploy_these(&[application(1_000)]).await;
    world.simulator.delete_application(&application(1_000));
    let run = sync(&world).await;
    assert_eq!((&run["counts"]["subscriptions"], &run["counts"]["new"]), (&json!(900), &json!(900)));
    assert_eq!((&run["counts"]["missing"], run["differences"].as_array().unwrap().len()), (&json!(1), 500));
    for collection in ["sync-share", "sync-found"] {
        let page = permafresh::store::PageRequest { continuation: None, top: 10 };
        assert_eq!(world.store.documents(collection, "", &page).await.unwrap().items, []);
    }
}

#[tokio::test]
async fn what_was_found_is_read_once_however_many_pages_of_the_registry_are_held_against_it() {
    let mut calls = Vec::new();
    for known in [1_001, 3_001] {
        let mut world = World::new().await;
        in_azure(&world, 0..2);
        let plan = |number| json!({"applicationId": application(number), "publisher": "fabrikam", "offer": "ledger", "plan": "standard"});
        let rows: Vec<_> = (10..10 + known).map(plan).collect();
        let request = Request::put("/api/deployments").header("content-type", "application/json");
        let (status, body) = world.request(request.body(json!(rows).to_string().into()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let faults = Faults::none();
        let handler = world.handler(FaultyStore::over(&world.store, &faults), FaultyQueue::over(&world.queue, &faults));
        world.replace_handler(handler);
        world.advance(MINUTE);
        begin(&world).await;
        let message = world.queue.receive("refreshes", 1, MINUTE).await.unwrap().remove(0);
        let before = faults.calls();
        assert!(invoke_message(&world.router(), "RefreshDeployment", &message.body).await.is_success());
        calls.push(faults.calls() - before);
        let run = world.get("/api/deployments/sync").await;
        assert_eq!((&run["state"], &run["counts"]["known"]), (&json!("ended"), &json!(known + 2)), "{run}");
    }
    assert_eq!(calls[1] - calls[0], 2 * 2, "a page is read, and the run is written: {calls:?}");
}

#[tokio::test]
async fn table_storage_keeps_a_run_and_its_registry_too() {
    let mut world = World::new().await;
    let tables = azurite::open(&azurite::new_tables(), &world.clock);
    tables.create_tables().await.unwrap();
    world.store = Arc::new(tables);
    world.replace_handler(world.handler(Arc::clone(&world.store), Arc::clone(&world.queue)));
    world.deploy(2).await;
    world.simulator.delete_application(&application(1));
    in_azure(&world, 2..14);
    let run = sync(&world).await;
    assert_eq!(
        (&run["counts"]["new"], &run["counts"]["missing"], &run["problems"]),
        (&json!(12), &json!(1), &json!([])),
        "{run}"
    );
    look_twice(&world).await;
    assert!(is_gone(&world, 1).await && !is_gone(&world, 13).await);
    let again = sync(&world).await;
    assert_eq!((&again["counts"]["found"], &again["differences"]), (&json!(13), &json!([])), "{again}");
    for collection in ["sync-share", "sync-found"] {
        let page = permafresh::store::PageRequest { continuation: None, top: 10 };
        assert_eq!(world.store.documents(collection, "", &page).await.unwrap().items, []);
    }
}

#[tokio::test]
async fn nobody_has_looked_yet() {
    let world = World::new().await;
    let (status, _) = world.request(Request::get("/api/deployments/sync").body(String::new().into()).unwrap()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
