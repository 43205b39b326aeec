//! Reading applications, one by one and in pages.

use permafresh::arm::listing::MOST_PAGES;
use permafresh::arm::simulator::{ApplicationSpec, OnRead, Reply};
use permafresh::arm::{ListEnd, Looked};
use permafresh::rollout::ReadAnswer;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arm_fixture::{Fixture, SUBSCRIPTION, application, application_of};

#[derive(Deserialize)]
struct Recording<'a> {
    case: String,
    #[serde(borrow)]
    body: &'a RawValue,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    answer: String,
    marketplace: bool,
    jit: bool,
    authorizations: usize,
    publisher: Option<String>,
    product: Option<String>,
    plan: Option<String>,
    version: Option<String>,
}

fn meaning(answer: &ReadAnswer) -> (&'static str, Option<&str>) {
    match answer {
        ReadAnswer::Ready => ("ready", None),
        ReadAnswer::Busy { provisioning_state } => ("busy", Some(provisioning_state)),
        ReadAnswer::Broken { provisioning_state } => ("broken", Some(provisioning_state)),
        ReadAnswer::Deleting => ("deleting", None),
        ReadAnswer::NotFound => ("notFound", None),
        ReadAnswer::Unreadable { error, .. } => ("unreadable", Some(&error.code)),
    }
}

#[tokio::test]
async fn every_application_of_the_contracts_examples_is_read() {
    let recordings: Vec<Recording<'_>> = serde_json::from_str(include_str!("../data/arm/applications.json")).unwrap();
    assert_eq!(recordings.len(), 6);
    let world = Fixture::start().await;
    for Recording { case, body, expect } in recordings {
        world.simulator.on_read(&application(), [OnRead::Reply(Reply::json(200, body.get()))]);
        let outcome = world.arm.read_application(&application()).await;
        assert_eq!(meaning(&outcome.answer).0, expect.answer, "{case}");
        let read = outcome.application.unwrap();
        let id = read.application_id().unwrap();
        assert_eq!((id.subscription(), id.resource_group()), (SUBSCRIPTION, "rg-apps"), "{case}");
        assert_eq!(read.is_marketplace(), expect.marketplace, "{case}");
        assert_eq!(read.properties.authorizations.len(), expect.authorizations, "{case}");
        let jit = read.properties.jit_access_policy.unwrap_or_default();
        assert_eq!(jit.jit_access_enabled, expect.jit, "{case}");
        assert_eq!(jit.maximum_jit_access_duration.as_deref(), expect.jit.then_some("PT8H"), "{case}");
        assert!(read.properties.managed_resource_group_id.unwrap().contains("/resourceGroups/mrg-ledger-"), "{case}");
        assert_eq!(read.properties.management_mode.as_deref(), Some("Managed"));
        let expected = expect.publisher.zip(expect.product).zip(expect.plan).zip(expect.version);
        let plan = read.plan.map(|plan| (((plan.publisher, plan.product), plan.name), plan.version.unwrap()));
        assert_eq!(plan, expected, "{case}");
    }
}

#[tokio::test]
async fn only_known_good_words_mean_at_rest_and_unknown_ones_mean_busy() {
    let world = Fixture::start().await;
    for (state, answer) in [
        ("Succeeded", ("ready", None)),
        ("succeeded", ("ready", None)),
        ("Ready", ("ready", None)),
        ("Created", ("ready", None)),
        ("", ("ready", None)),
        ("NotSpecified", ("busy", Some("NotSpecified"))),
        ("Accepted", ("busy", Some("Accepted"))),
        ("Running", ("busy", Some("Running"))),
        ("Creating", ("busy", Some("Creating"))),
        ("Updating", ("busy", Some("Updating"))),
        ("Migrating", ("busy", Some("Migrating"))),
        ("Failed", ("broken", Some("Failed"))),
        ("Canceled", ("broken", Some("Canceled"))),
        ("cancelled", ("broken", Some("cancelled"))),
        ("Deleting", ("deleting", None)),
        ("Deleted", ("deleting", None)),
    ] {
        world.simulator.on_read(&application(), [OnRead::State(state.into())]);
        let outcome = world.arm.read_application(&application()).await;
        assert_eq!(meaning(&outcome.answer), answer, "{state}");
        assert_eq!(outcome.application.unwrap().properties.provisioning_state.as_deref(), Some(state));
    }
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let tenant = "5d0f7a10-0000-4000-8000-00000000c0de";
    for (script, answer) in [
        (OnRead::Reply(Reply::resource_not_found()), ("notFound", None)),
        (OnRead::Reply(Reply::status(404)), ("notFound", None)),
        (OnRead::Reply(Reply::wrong_tenant(tenant)), ("unreadable", Some("InvalidAuthenticationTokenTenant"))),
        (OnRead::Reply(Reply::forbidden()), ("unreadable", Some("AuthorizationFailed"))),
        (OnRead::Reply(Reply::throttled(3)), ("unreadable", Some("SubscriptionRequestsThrottled"))),
        (OnRead::Reply(Reply::html(500)), ("unreadable", Some("Unknown"))),
        (OnRead::Reply(Reply::html(200)), ("unreadable", Some("UnreadableBody"))),
        (OnRead::Reply(Reply::json(200, "{}")), ("unreadable", Some("UnreadableBody"))),
        (OnRead::Reply(Reply::json(200, "[]")), ("unreadable", Some("UnreadableBody"))),
        (OnRead::Reset, ("unreadable", Some("ConnectionBroken"))),
    ] {
        let world = Fixture::start().await;
        world.simulator.on_read(&application(), [script]);
        let outcome = world.arm.read_application(&application()).await;
        assert_eq!(meaning(&outcome.answer), answer);
        assert_eq!(outcome.application, None);
        let wrong_tenant = answer.1 == Some("InvalidAuthenticationTokenTenant");
        assert_eq!(outcome.tenant_id.as_deref(), wrong_tenant.then_some(tenant));
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page_to_its_end() {
    let world = Fixture::with(|simulator| simulator.page_size = 7, |_| {}).await;
    let ids: Vec<_> = (0..20).map(|number| application_of(SUBSCRIPTION, &format!("ledger-{number:02}"))).collect();
    world.simulator.add_applications(ids.iter().cloned().map(ApplicationSpec::new));
    world
        .simulator
        .add_application(ApplicationSpec::new(application_of("a1000000-0000-4000-8000-000000000002", "other")));
    let listing = world.arm.list_applications(SUBSCRIPTION).await;
    assert_eq!((listing.end, listing.unreadable), (ListEnd::Complete, 0));
    let listed: Vec<_> = listing.applications.iter().map(|read| read.application_id().unwrap()).collect();
    assert_eq!(listed, ids);
    assert_eq!(world.simulator.stats().pages, 3);
    let group = world.arm.list_applications_in_group(SUBSCRIPTION, "RG-apps").await;
    assert_eq!((group.end, group.applications.len()), (ListEnd::Complete, 20));
    let empty = world.arm.list_applications_in_group(SUBSCRIPTION, "rg-none").await;
    assert_eq!((empty.end, empty.applications.len()), (ListEnd::Complete, 0));
}

fn page(next_link: &str) -> Reply {
    let first = format!(r#"{{"id":"{}"}}"#, application());
    Reply::json(200, format!(r#"{{"value":[{first},7,null],"nextLink":{}}}"#, serde_json::json!(next_link)))
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_says_so() {
    let world = Fixture::start().await;
    let elsewhere = Fixture::start().await;
    let next = |rest: &str| format!("{}subscriptions/{SUBSCRIPTION}/{rest}", world.simulator.endpoint());
    let first =
        format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Solutions/applications?api-version=2019-07-01");
    for (pages, code) in [
        (vec![page(&format!("{}x", elsewhere.simulator.endpoint()))], "NextLinkRefused"),
        (vec![page("ftp://evil.example/?secret")], "NextLinkRefused"),
        (vec![page(&first)], "ListLoops"),
        (vec![page(&next("a?x=1")), page(&next("b?x=1")), page(&next("a?x=1"))], "ListLoops"),
        (vec![page(&next("a?x=1")), Reply::forbidden()], "AuthorizationFailed"),
        (vec![page(&next("a?x=1")), Reply::html(500)], "Unknown"),
        (vec![page(&next("a?x=1")), Reply::html(200)], "UnreadableBody"),
        (vec![page(&next("a?x=1")), Reply::json(200, r#"{"value":{}}"#)], "UnreadableBody"),
        (vec![page(&next("a?x=1")), Reply::json(200, "[[],null]")], "UnreadableBody"),
    ] {
        let good = pages.iter().filter(|page| page.body.contains("nextLink")).count();
        world.simulator.on_list(pages);
        let listing = world.arm.list_applications(SUBSCRIPTION).await;
        let ListEnd::Stopped { error, .. } = listing.end else { panic!("{code}") };
        assert_eq!(error.code, code);
        assert!(!error.message.contains("secret"), "{}", error.message);
        assert_eq!((listing.applications.len(), listing.unreadable), (good, 2 * good), "{code}");
    }
    assert!(elsewhere.simulator.requests().is_empty());
    assert!(matches!(world.arm.list_applications("../x").await.end, ListEnd::Stopped { .. }));
}

#[tokio::test]
async fn an_empty_next_link_is_the_end() {
    let world = Fixture::start().await;
    world.simulator.on_list([page("")]);
    assert_eq!(world.arm.list_applications(SUBSCRIPTION).await.end, ListEnd::Complete);
}

#[tokio::test]
async fn the_tenant_behind_a_subscription_is_asked_without_a_token() {
    let world = Fixture::start().await;
    let tenant = world.arm.tenant_of(SUBSCRIPTION, None).await;
    assert_eq!(tenant, Looked::Seen("5d0f7a10-0000-4000-8000-00000000c001".to_owned()));
    let asked = world.simulator.requests().pop().unwrap();
    assert_eq!(asked.target, format!("/subscriptions/{SUBSCRIPTION}?api-version=2022-12-01"));
    assert!(!asked.headers.contains_key("authorization"));
    assert_eq!(world.simulator.stats().tokens, 0);
}

#[tokio::test]
async fn a_list_without_end_is_left_at_a_thousand_pages() {
    let world = Fixture::with(|simulator| simulator.keep_requests = 0, |_| {}).await;
    let link = |number| format!("{}subscriptions/{SUBSCRIPTION}/p?page={number}", world.simulator.endpoint());
    world.simulator.on_list((0..=MOST_PAGES).map(|number| page(&link(number))));
    let listing = world.arm.list_applications(SUBSCRIPTION).await;
    let ListEnd::Stopped { error, .. } = listing.end else { panic!("it ended") };
    assert_eq!((error.code.as_str(), listing.applications.len()), ("ListTooLong", MOST_PAGES));
}
