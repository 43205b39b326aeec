//! What goes over the wire for just-in-time requests, and what odd answers mean.

use std::time::Duration;

use permafresh::arm::simulator::{ApplicationSpec, OnJit, Reply};
use permafresh::rollout::jit::{JitApplication, JitSetup};
use permafresh::rollout::{JitAnswer, JitRequest, JitTerms};
use serde_json::{Value, json};

use super::{MANUAL, setup};
use crate::arm_fixture::{Fixture, application};

async fn fixture() -> (Fixture, JitRequest) {
    let world = Fixture::start().await;
    let mut spec = ApplicationSpec::new(application());
    spec.jit_access_policy = Some(MANUAL.into());
    world.simulator.add_application(spec);
    let read = world.arm.read_application(&application()).await.application.unwrap();
    let request = JitRequest::wish(&setup(), "key", &read.for_jit(), world.clock.now()).unwrap();
    (world, request)
}

#[tokio::test]
async fn a_request_goes_out_as_the_contract_has_it() {
    let (world, mut request) = fixture().await;
    request.duration = Duration::from_secs(90 * 60);
    let answer = world.arm.file_jit_request(&application(), &request, None).await;
    assert_eq!(answer, JitAnswer::Stands { word: Some("Pending".into()), error: None });
    let sent = world.simulator.requests().pop().unwrap();
    let group = format!("/subscriptions/{}/resourceGroups/mrg-ledger-prod", application().subscription());
    let target = format!("{group}/providers/Microsoft.Solutions/jitRequests/{}?api-version=2019-07-01", request.name);
    assert_eq!((sent.method.as_str(), sent.target), ("PUT", target));
    assert_eq!(sent.headers["content-type"], "application/json");
    let listed = world.arm.list_jit_requests(&application(), "mrg-ledger-prod").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, "Pending");
    let [seen] = &world.simulator.jit_requests(&application())[..] else { panic!() };
    assert_eq!((seen.starts, seen.duration), (request.starts, request.duration));
    let again = world.arm.file_jit_request(&application(), &request, None).await;
    assert_eq!(again, answer, "the same again changes nothing");
    assert_eq!(world.simulator.jit_requests(&application())[0].filings, 2);
}

#[tokio::test]
async fn every_odd_answer_is_classified() {
    let (world, request) = fixture().await;
    let kind = |answer: &JitAnswer| match answer {
        JitAnswer::Stands { .. } => "stands",
        JitAnswer::Missing => "missing",
        JitAnswer::Refused { .. } => "refused",
        JitAnswer::Unclear { .. } => "unclear",
    };
    for (reply, expected) in [
        (Reply::error(409, "Conflict", "it is there"), "stands"),
        (Reply::status(202), "stands"),
        (Reply::json(200, "not JSON"), "stands"),
        (Reply::forbidden(), "refused"),
        (Reply::resource_not_found(), "refused"),
        (Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001"), "refused"),
        (Reply::redirect("https://example.com/"), "refused"),
        (Reply::html(502), "unclear"),
        (Reply::status(408), "unclear"),
    ] {
        world.simulator.on_jit(&application(), [OnJit::Reply(reply.clone())]);
        let answer = world.arm.file_jit_request(&application(), &request, None).await;
        assert_eq!(kind(&answer), expected, "filing: {reply:?}");
    }
    assert_eq!(
        kind(&world.arm.read_jit_request(&application(), &request, None).await),
        "missing",
        "it was never taken"
    );
    world.arm.file_jit_request(&application(), &request, None).await;
    for (reply, expected) in [
        (Reply::json(200, r#"{"properties": {"jitRequestState": 7}}"#), "stands"),
        (Reply::error(409, "Conflict", "busy"), "refused"),
        (Reply::resource_not_found(), "missing"),
        (Reply::unavailable(60), "unclear"),
    ] {
        world.simulator.on_jit_look(&application(), [reply.clone()]);
        let answer = world.arm.read_jit_request(&application(), &request, None).await;
        assert_eq!(kind(&answer), expected, "look: {reply:?}");
    }
    let held_back = world.arm.read_jit_request(&application(), &request, None).await;
    let JitAnswer::Unclear { error, wait: Some(wait) } = held_back else { panic!("{held_back:?}") };
    assert!(error.is_held_back() && wait <= Duration::from_secs(60), "{error:?}");
}

#[tokio::test]
async fn names_from_azure_are_escaped_or_refused_before_they_are_part_of_a_url() {
    let (world, request) = fixture().await;
    for group in ["mrg/../other", "m?x=1", "m#x", "https://example.com"] {
        let odd = JitRequest { resource_group: group.into(), ..request.clone() };
        world.arm.file_jit_request(&application(), &odd, None).await;
        let target = world.simulator.requests().pop().unwrap().target;
        assert!(
            target.starts_with(&format!("/subscriptions/{}/resourceGroups/", application().subscription())),
            "{target}"
        );
        assert!(target.ends_with(&format!("/jitRequests/{}?api-version=2019-07-01", request.name)), "{target}");
        assert_eq!(target.matches('/').count(), 8, "{target}");
    }
}

#[tokio::test]
async fn what_the_application_shows_is_read_leniently() {
    let world = Fixture::start().await;
    let body = |policy: Value, group: &str| {
        json!({
            "id": application(), "location": "westeurope",
            "properties": {"jitAccessPolicy": policy, "managedResourceGroupId": group, "managementMode": "unmanaged"},
        })
        .to_string()
    };
    let read = async |text: String| {
        world.simulator.on_read(&application(), [permafresh::arm::simulator::OnRead::Reply(Reply::json(200, text))]);
        world.arm.read_application(&application()).await.application.unwrap().for_jit()
    };
    let subscription = application().subscription().to_owned();
    let group = format!("/subscriptions/{subscription}/resourcegroups/MRG");
    let approvers = json!([{"id": "a", "displayName": "Ada"}, {"id": "b", "displayName": 7}, {}]);
    let shown =
        read(body(json!({"jitAccessEnabled": true, "jitApprovalMode": 1, "jitApprovers": approvers}), &group)).await;
    let terms = JitTerms { enabled: true, approvers: vec!["Ada".into(), "b".into()], ..JitTerms::default() };
    assert_eq!(shown.terms, Some(terms));
    assert_eq!((shown.managed_group.as_deref(), shown.is_unmanaged), (Some("MRG"), true));
    for odd in ["mrg", "/subscriptions/x/resourceGroups/mrg", &format!("{group}/providers/x")] {
        let JitApplication { managed_group, terms, .. } = read(body(json!("none"), odd)).await;
        assert_eq!((managed_group, terms), (None, None), "{odd}");
    }
    let _: JitSetup = setup();
}
