//! What the pages say, what hostile text becomes on them, and how much one of ten thousand deployments reads.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::engine::coverage::Coverage;
use permafresh::functions::{Handle, router};
use permafresh::rollout::{Changes, Deployment, Plan};
use permafresh::store::{Versioned, document};
use serde_json::json;

use super::{HOME, Visit, addresses};
use crate::dead_letters::let_die;
use crate::faults::{Fault, Faults, FaultyStore};
use crate::world::{World, add_rollouts, application, one_wave};

#[tokio::test]
async fn messages_that_nobody_could_work_off_are_on_the_overview_and_in_a_list_of_their_own() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let visit = Visit::signed_in(&world).await;
    assert!(!visit.page("").await.contains("could not be worked off"));
    let_die(&world, "rollouts").await;
    world.advance(Duration::from_secs(60));
    world.tick().await;
    let page = visit.page("").await;
    assert!(page.contains("1 message could not be worked off") && page.contains("/audit?state=dead"), "{page}");
    let dead = visit.page("/audit?state=dead").await;
    assert!(dead.contains("message.dead") && dead.contains(&format!("{HOME}/rollouts/{id}")), "{dead}");
    assert!(!dead.contains("<b>publish</b>"), "{dead}");
    let commands = visit.page("/audit?state=commands").await;
    assert!(commands.contains("<b>publish</b>") && !commands.contains("message.dead"), "{commands}");
    let found = visit.page("/audit?find=Ledger").await;
    assert!(found.contains("<b>publish</b>") && !found.contains("message.dead"), "{found}");
    world.advance(Duration::from_secs(25 * 60 * 60));
    let visit = visit.sign_in().await;
    assert!(!visit.page("").await.contains("could not be worked off"));
}

#[tokio::test]
async fn what_comes_from_outside_is_shown_as_text_on_every_page() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let hostile = r#""><script>hacked()</script><img src=x onerror=hacked()>'"#;
    let row = json!([{"applicationId": ids[0], "publisher": "fabrikam", "offer": "ledger", "plan": "standard",
        "location": hostile, "version": hostile}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(row.to_string().into()).unwrap()).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::error(400, hostile, hostile))]);
    let id = world.publish(json!({"note": hostile, "strategy": one_wave()})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let visit = Visit::signed_in(&world).await;
    let mut seen = 0;
    let query = format!("/rollouts/{id}?find={}", "%22%3E%3Cscript%3Ehacked()%3C/script%3E");
    for address in addresses(id).into_iter().chain([query]).filter(|address| !address.ends_with(".csv")) {
        let page = visit.page(&address).await;
        assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{address}: {page}");
        seen += usize::from(page.contains("&lt;script&gt;hacked()"));
    }
    assert!(seen >= 5, "the hostile text is on {seen} pages");
}

#[tokio::test]
async fn pages_over_ten_thousand_deployments_read_as_little_as_over_ten() {
    let world = World::new().await;
    let (plan, _) = Plan::parse("fabrikam", "ledger", "standard").unwrap();
    let deployments: Vec<_> = (0..10_000)
        .map(|number| {
            let mut deployment = Deployment::new(application(number), world.now());
            deployment.plan = Some(plan.clone());
            deployment.confirmed = true;
            Versioned::new(deployment)
        })
        .collect();
    world.store.save_deployments(&deployments).await.unwrap();
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 1}})).await;
    world.deliver().await;
    let faults = Faults::none();
    let store = FaultyStore::over(&world.store, &faults);
    let visit =
        Visit { router: router(Handle::ready(world.app(store, Arc::clone(&world.queue)))), cookie: String::new() };
    let visit = visit.sign_in().await;
    for (address, most, shown) in [
        ("/deployments".to_owned(), 7, 100..=100),
        (format!("/rollouts/{id}"), 11, 100..=100),
        (format!("/rollouts/{id}?state=queued"), 11, 100..=100),
        // It looks at half of them, and asks whether to search on.
        (format!("/rollouts/{id}?find=ledger-09999"), 17, 0..=1),
    ] {
        let before = faults.calls();
        let page = visit.page(&address).await;
        let calls = faults.calls() - before;
        assert!(calls <= most, "{address} read {calls} times");
        let rows = page.matches(r#"<tr><th scope="row"><a class="name""#).count();
        assert!(shown.contains(&rows), "{address} shows {rows} rows");
    }
    // By whole pages to the end, and each row once.
    let (mut next, mut rows) = (Some("/deployments".to_owned()), 0);
    while let Some(address) = next {
        let page = visit.page(&address).await;
        rows += page.matches(r#"<tr><th scope="row"><a class="name""#).count();
        next = page
            .split_once(r#"rel="next" href=""#)
            .map(|(_, rest)| rest.split('"').next().unwrap().strip_prefix(HOME).unwrap().replace("&amp;", "&"));
    }
    assert_eq!(rows, 10_000);
    // By its whole name it is found at once, whichever it is.
    let by_name = format!("/deployments?find={}", application(9_999).to_string().replace('/', "%2F"));
    let before = faults.calls();
    let page = visit.page(&by_name).await;
    assert!(page.contains("ledger-09999") && faults.calls() - before <= 7, "{page}");
}

#[tokio::test]
async fn a_count_is_shared_by_all_instances_and_shown_with_its_age() {
    let world = World::new().await;
    world.deploy(4).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let (plan, _) = Plan::parse("fabrikam", "ledger", "standard").unwrap();
    let page = Visit::signed_in(&world).await.page("").await;
    assert!(page.contains("4 of 4 deployments with 1.5.0") && !page.contains("counted <time"), "{page}");

    // As if counting had taken ten seconds: it is good for some minutes.
    let counted = document::get::<Coverage>(&*world.store, &plan.to_string()).await.unwrap().unwrap();
    let good_until = world.now() + Duration::from_secs(500);
    let slow = Coverage { have: 3, good_until, ..counted.value.clone() };
    assert!(document::save(&*world.store, &counted.with(slow)).await.unwrap().is_stored());
    let faults = Faults::none();
    let store = FaultyStore::over(&world.store, &faults);
    let visit =
        Visit { router: router(Handle::ready(world.app(store, Arc::clone(&world.queue)))), cookie: String::new() };
    let visit = visit.sign_in().await;
    world.advance(Duration::from_secs(400));
    faults.set(Fault::OutageOf { name: "deployments_after", after: 0 });
    let page = visit.page("").await;
    assert!(page.contains("3 of 4 deployments with 1.5.0"), "nobody counts again: {page}");
    assert!(page.contains("counted <time") && page.contains(">6 min ago</time>"), "{page}");
    world.advance(Duration::from_secs(101));
    assert_eq!(visit.get("").await.status, StatusCode::INTERNAL_SERVER_ERROR, "somebody has to count");
    faults.set(Fault::None);
    let page = visit.page("").await;
    assert!(page.contains("4 of 4 deployments with 1.5.0") && !page.contains("counted <time"), "{page}");
}

#[tokio::test]
async fn a_rollout_says_what_holds_it_what_it_changes_and_what_the_lint_found() {
    let world = World::new().await;
    world.deploy(2).await;
    let id =
        world.publish(json!({"expected": {"allowedCustomerActions": ["Microsoft.Web/sites/<b>restrat/action"]}})).await;
    let difference = json!({"controlActions": {"added": ["Microsoft.Web/<i>/read"], "removed": []}});
    let changes = json!({"rolloutId": id, "against": "1.4.0", "difference": difference, "doubts": ["nobody knows"]});
    let changes: Changes = serde_json::from_value(changes).unwrap();
    document::save(&*world.store, &Versioned::new(changes)).await.unwrap();
    world.post("/api/stop", &json!({"why": "an odd mail"})).await;
    world.run_due().await;
    let view = world.rollout(id).await;
    assert!(!view["lint"].as_array().unwrap().is_empty(), "{view}");
    let page = Visit::signed_in(&world).await.page(&format!("/rollouts/{id}")).await;
    for said in [
        "Everything is stopped.",
        "an odd mail",
        "What it changes since 1.4.0",
        "+ control action Microsoft.Web/&lt;i&gt;/read",
        "? nobody knows",
        "What the lint says",
        "&lt;b&gt;restrat/action",
    ] {
        assert!(page.contains(said), "{said} is not in\n{page}");
    }
}

#[tokio::test]
async fn the_page_of_a_deployment_says_who_has_to_act_once_its_rollout_has_ended() {
    let world = World::new().await;
    let ids = world.deploy(2).await;
    let locked = OnPost::Accept(Acceptance::ending(Outcome::failed("ScopeLocked", "locked by <them>")));
    world.simulator.on_post(&ids[0], [locked]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(id, Duration::from_secs(3_600)).await["state"], "completed");
    let visit = Visit::signed_in(&world).await;
    let failed = visit.page(&format!("/deployments/{}", ids[0].key())).await;
    for said in [
        "Latest refresh",
        "locked by &lt;them&gt;",
        "What to do",
        "The customer: ask the customer to remove the lock",
        "The same by hand",
        "targetVersion=1.5.0",
        r#"Should have</dt><dd><b>1.5.0</b> <span class="state waiting">behind"#,
    ] {
        assert!(failed.contains(said), "{said} is not in\n{failed}");
    }
    assert!(!failed.contains("data-refresh"), "nothing changes by itself");
    add_rollouts(&world, id, 250, |rollout| rollout.publish.plan.plan = "another".into()).await;
    let later = visit.page(&format!("/deployments/{}", ids[0].key())).await;
    assert!(later.contains("Latest refresh") && later.contains("locked by"), "other plans have had rollouts: {later}");
    let shown = world.get(&format!("/api/deployments/{}", ids[0].key())).await;
    assert_eq!(shown["latestRefresh"]["rolloutId"], json!(id), "{shown}");
    let well = visit.page(&format!("/deployments/{}", ids[1].key())).await;
    assert!(!well.contains("Latest refresh") && !well.contains("What to do") && !well.contains("behind"), "{well}");
}

#[tokio::test]
async fn the_report_is_downloaded_as_a_file() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let answer = Visit::signed_in(&world).await.get(&format!("/rollouts/{id}/report.csv")).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"rollout-{id}.csv\""));
    assert_eq!(answer.body.lines().count(), 3);
}

#[tokio::test]
async fn the_course_of_a_rollout_outlives_the_process_and_is_drawn() {
    let mut world = World::new().await;
    world.deploy(20).await;
    let id = world.publish(json!({})).await;
    world.settle(id, Duration::from_secs(3_600)).await;
    let another = world.handler(world.another_store(), world.another_queue());
    world.replace_handler(another);
    let page = Visit::signed_in(&world).await.page(&format!("/rollouts/{id}")).await;
    for drawn in [r#"<path class="done""#, r#"<path class="running""#, "at the end 20 done, 0 failed"] {
        assert!(page.contains(drawn), "{drawn} is not in {page}");
    }
    let waves: Vec<_> = ["Canaries", "Wave 2", "Wave 3"].map(|wave| page.find(wave).unwrap_or_default()).into();
    assert!(waves.is_sorted() && waves[0] > 0, "{page}");
}
