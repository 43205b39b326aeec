//! Whom a rollout reaches, and in which order: scopes, previews, canaries and their stand-ins, observing.

use permafresh::engine::OfferConfig;
use permafresh::rollout::Strategy;
use permafresh::rollout::strategy::Canaries;

use super::*;

#[tokio::test]
async fn whoever_is_named_twice_counts_once() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let twice = [ids[0].to_string(), ids[0].to_string().to_uppercase()];
    let id = world.publish(json!({"scope": {"applicationIds": twice}})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["waves"], &done["counts"]["total"]), (&json!(1), &json!(1)), "{done}");
    let strategy = json!({"canaries": twice, "waves": ["100%"]});
    let id = world.publish(json!({"version": "1.6.0", "strategy": strategy})).await;
    let done = world.settle(id, HOUR).await;
    let first = world.refreshes(id).await.iter().filter(|refresh| refresh["wave"] == 1).count();
    assert_eq!((&done["counts"]["succeeded"], first), (&json!(3), 1), "nobody stands in for the second");
}

#[tokio::test]
async fn a_scope_leaves_everybody_else_alone() {
    let world = World::new().await;
    let ids = world.deploy(30).await;
    let scope = [ids[4].to_string().to_uppercase(), ids[20].to_string(), application(99).to_string()];
    let id = world.publish(json!({"scope": {"applicationIds": scope}})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["total"]), (&json!("completed"), &json!(2)), "{done}");
    assert_eq!(world.simulator.stats().posts, 2);
    assert_eq!(world.simulator.posts_of(&ids[4]) + world.simulator.posts_of(&ids[20]), 2);
}

#[tokio::test]
async fn an_offer_that_is_only_to_be_handed_over_is_never_posted() {
    let offer = OfferConfig {
        ways: vec![permafresh::rollout::Way::HandOver],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![],
        strategy: Strategy { canaries: Canaries::Count(0), ..Strategy::default() },
        preview_applications: vec![],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    world.deploy(3).await;
    let id = world.publish(json!({})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["handedOver"]), (&json!("completed"), &json!(3)), "{done}");
    assert_eq!(world.simulator.stats().posts, 0);
}

#[tokio::test]
async fn a_preview_reaches_preview_purchases_listed_applications_and_named_canaries_only() {
    let offer = OfferConfig {
        ways: vec![permafresh::rollout::Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), None)],
        strategy: Strategy { canaries: Canaries::Count(0), ..Strategy::default() },
        preview_applications: vec![application(1).to_string().to_uppercase().parse().unwrap()],
    };
    let world = World::with(Options { offers: vec![offer], ..Options::default() }).await;
    let ids = world.deploy(6).await;
    let rows =
        json!([{"applicationId": ids[0], "publisher": "fabrikam", "offer": "ledger-preview", "plan": "standard"}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(rows.to_string().into()).unwrap()).await;
    let id = world.publish(json!({"target": "preview"})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["audience"], &done["counts"]["succeeded"]), (&json!("preview"), &json!(2)), "{done}");
    let posts = || ids.iter().map(|id| world.simulator.posts_of(id)).collect::<Vec<_>>();
    assert_eq!(posts(), [1, 1, 0, 0, 0, 0]);
    let strategy = json!({"canaries": [ids[2]]});
    let id = world.publish(json!({"target": "preview", "version": "1.6.0", "strategy": strategy})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    assert_eq!(posts(), [2, 2, 1, 0, 0, 0]);
    let id = world.publish(json!({"target": "preview", "audience": "all", "version": "1.7.0"})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 6);
}

#[tokio::test]
async fn named_canaries_go_first_and_alone() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let named = [ids[7].to_string().to_uppercase(), ids[13].to_string()];
    let id = world.publish(json!({"strategy": {"canaries": named, "waves": ["100%"]}})).await;
    world.run_due().await;
    let canaries: BTreeSet<_> =
        world.refreshes(id).await.iter().map(|refresh| refresh["applicationId"].to_string()).collect();
    let expected: BTreeSet<_> = [&ids[7], &ids[13]].map(|id| json!(id).to_string()).into();
    assert_eq!(canaries, expected);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(20)), "{done}");
    assert!(ids.iter().all(|id| world.simulator.operations_of(id) == 1));
}

#[tokio::test]
async fn canaries_that_prove_nothing_are_stood_in_for() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    world.simulator.on_post(&ids[7], [OnPost::Reply(Reply::forbidden())]);
    let named = [ids[7].to_string(), application(99).to_string()];
    let id = world.publish(json!({"strategy": {"canaries": named, "waves": ["100%"]}})).await;
    world.run_due().await;
    world.run_due().await;
    let canaries = world.rollout(id).await;
    assert_eq!(canaries["wave"], 1, "{canaries}");
    let counts = &canaries["counts"];
    assert_eq!((&counts["handedOver"], &counts["running"]), (&json!(1), &json!(2)), "{canaries}");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(19)), "{done}");
}

#[tokio::test]
async fn after_five_stand_ins_the_rollout_pauses_and_goes_on_when_a_person_says_so() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    for id in &ids {
        world.simulator.on_post(id, [OnPost::Reply(Reply::forbidden())]);
    }
    let id = world.publish(json!({})).await;
    let paused = world.settle(id, HOUR).await;
    assert_eq!((&paused["state"], &paused["wave"]), (&json!("paused"), &json!(1)), "{paused}");
    assert_eq!(paused["counts"]["handedOver"], 6, "{paused}");
    assert!(paused["why"].as_str().unwrap().contains("0 of 1 canary proved"), "{paused}");
    let (_, resumed) = command(&world, id, "resume").await;
    assert_eq!(resumed["state"], "running", "{resumed}");
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["handedOver"]), (&json!("completed"), &json!(20)), "{done}");
}

#[tokio::test]
async fn a_canary_that_turns_out_to_be_gone_is_replaced_by_one_other() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let mut in_order = ids.clone();
    in_order.sort_by_key(ApplicationId::key);
    world.simulator.on_post(
        &in_order[0],
        [OnPost::Reply(Reply::resource_not_found()), OnPost::Reply(Reply::resource_not_found())],
    );
    let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"], "pauseBetweenWaves": "PT30M"}})).await;
    let mut counts = Value::Null;
    for _ in 0..60 {
        world.run_due().await;
        counts = world.rollout(id).await["counts"].clone();
        if counts["skipped"] == 1 && counts["running"] == 1 {
            break;
        }
        world.advance(15 * SECOND);
    }
    assert_eq!((&counts["total"], &counts["skipped"]), (&json!(2), &json!(1)), "{counts}");
    assert_eq!(world.settle(id, 3 * HOUR).await["counts"]["succeeded"], 19);
}

#[tokio::test]
async fn a_failure_by_the_offer_after_a_pause_halts() {
    let world = World::new().await;
    world.deploy(5).await;
    world.simulator.bad_version("1.5.0", "Microsoft.Foo/bars/secret/action");
    let id = world.publish(json!({})).await;
    world.run_due().await;
    command(&world, id, "pause").await;
    world.advance(HOUR);
    world.run_due().await;
    let halted = world.rollout(id).await;
    assert_eq!(halted["state"], "halted", "{halted}");
    assert!(halted["why"].as_str().unwrap().contains("Microsoft.Foo/bars/secret/action"));
}

#[tokio::test]
async fn observing_plans_and_posts_nothing_and_acting_again_goes_on() {
    let mut world = World::with(Options { mode: Mode::Observe, ..Options::default() }).await;
    world.deploy(5).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let observed = world.settle(id, HOUR).await;
    assert_eq!((&observed["state"], &observed["counts"]["queued"]), (&json!("running"), &json!(5)), "{observed}");
    assert_eq!(world.simulator.stats().posts, 0);
    world.set_mode(Mode::Act);
    let done = world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(5)), "{done}");
}

#[tokio::test]
async fn observing_begun_half_way_posts_nothing_more() {
    let mut world = World::new().await;
    world.deploy(5).await;
    let id = world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"]}})).await;
    world.run_due().await;
    world.set_mode(Mode::Observe);
    let observed = world.settle(id, HOUR).await;
    assert_eq!((&observed["counts"]["succeeded"], &observed["counts"]["queued"]), (&json!(1), &json!(4)), "{observed}");
    assert_eq!(world.simulator.stats().posts, 1);
    world.set_mode(Mode::Act);
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 5);
}

#[tokio::test]
async fn another_plan_goes_its_own_way() {
    let world = World::new().await;
    world.deploy(2).await;
    let first = world.publish(json!({})).await;
    let other = world.publish(json!({"plan": "premium", "version": "1.0.0"})).await;
    assert_eq!(world.settle(other, HOUR).await["counts"]["total"], 0);
    assert_eq!(world.settle(first, HOUR).await["counts"]["succeeded"], 2);
}
