//! What Partner Center shows raises a publish, once, whatever it answers and whoever dies.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::partner_center::simulator::{Call, OnCall, Publication, Reply};
use serde_json::{Value, json};

use super::scene::{FIVE_MINUTES, HOUR, RESTART, STOP, Scene};
use crate::faults::{Faults, FaultyQueue, FaultyStore, Moment};
use crate::world::{application, invoke_timer, publish};

#[tokio::test]
async fn the_first_sight_is_a_baseline_and_what_is_published_then_is_raised_as_a_post_would_be() {
    let scene = Scene::new().await;
    scene.fire().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["outcome"]["outcome"], "baseline");

    let submission = scene.partner.publish(&Publication::preview("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 preview running"]);
    let done = scene.settle_newest().await;
    assert_eq!((&done["audience"], &done["counts"]["total"]), (&json!("preview"), &json!(1)), "{done}");

    scene.partner.move_to(&submission, "Published", "InStore", "live");
    scene.look().await;
    let done = scene.settle_newest().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live completed", "1.5.0 preview completed"]);
    assert_eq!(
        (&done["audience"], &done["counts"]["succeeded"]),
        (&json!("all"), &json!(2)),
        "the preview has it: {done}"
    );

    for _ in 0..3 {
        scene.look().await;
    }
    let (status, again) = scene.world.post("/api/offer-publishes", &publish(json!({}))).await;
    assert_eq!((status, &again["duplicateOf"]), (StatusCode::OK, &done["id"]), "CI is late, and is told so: {again}");
    let named = json!({"submissionId": submission, "target": "preview"});
    assert_eq!(scene.world.post("/api/offer-publishes", &publish(named)).await.0, StatusCode::OK);
    assert_eq!(scene.rollouts().await.len(), 2);
    scene.world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn what_ci_has_posted_before_is_not_raised_again() {
    let scene = Scene::new().await;
    scene.fire().await;
    let id = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.settle(id, HOUR).await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live completed"]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["outcome"]["rolloutId"], json!(id));
}

#[tokio::test]
async fn the_first_sight_starts_rollouts_where_the_offer_says_so() {
    let scene = Scene::with(|watch| watch.rollout_on_first_sight = true).await;
    scene.fire().await;
    scene.fire().await;
    assert_eq!(scene.rollouts().await, ["1.4.0 live planning"]);
}

#[tokio::test]
async fn an_offer_is_asked_by_every_run_while_something_moves_and_hourly_otherwise() {
    let scene = Scene::new().await;
    let moving = scene.partner.publish(&Publication::preview("1.5.0", STOP).moving());
    for looks in 1..=3 {
        scene.fire().await;
        assert_eq!(scene.partner.calls(Call::Submissions), looks);
        scene.world.advance(FIVE_MINUTES);
    }
    assert_eq!(scene.rollouts().await, [""; 0], "not yet");
    scene.partner.move_to(&moving, "Published", "ReadyToPublish", "preview");
    scene.fire().await;
    assert_eq!(scene.rollouts().await.len(), 1, "found within five minutes");
    for _ in 0..11 {
        scene.world.advance(FIVE_MINUTES);
        scene.fire().await;
    }
    assert_eq!(scene.partner.calls(Call::Submissions), 4);
    scene.world.advance(FIVE_MINUTES);
    scene.fire().await;
    assert_eq!(scene.partner.calls(Call::Submissions), 5);
    assert_eq!(scene.partner.calls(Call::Package), 2, "each package is read once");
}

#[tokio::test]
async fn partner_center_may_be_down_for_hours_and_nothing_is_lost() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.partner.outage(Some(Reply::html(503)));
    scene.world.advance(HOUR);
    for _ in 0..60 {
        scene.fire().await;
        scene.world.advance(FIVE_MINUTES);
    }
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert_eq!(trouble["kind"], "unavailable");
    assert_eq!(trouble["since"], "2026-03-10T13:00:00Z");
    assert_eq!(scene.rollouts().await, [""; 0]);
    scene.partner.outage(None);
    scene.fire().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live planning"]);
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
}

#[tokio::test]
async fn a_throttled_watcher_waits_as_long_as_it_is_told() {
    let scene = Scene::new().await;
    scene.partner.on(Call::Submissions, [OnCall::Answer(Reply::throttled(1_800))]);
    scene.fire().await;
    for (after, looks) in [(FIVE_MINUTES, 1), (Duration::from_secs(1_499), 1), (Duration::from_secs(1), 2)] {
        scene.world.advance(after);
        scene.fire().await;
        assert_eq!(scene.partner.calls(Call::Submissions), looks);
    }
}

#[tokio::test]
async fn bad_answers_are_shown_start_nothing_and_end_by_themselves() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.world.advance(HOUR);
    let loops = json!({"value": [], "nextLink": "https://evil.example/"}).to_string();
    for (call, script, kind) in [
        (Call::Submissions, OnCall::Answer(Reply::html(200)), "unreadable"),
        (Call::Product, OnCall::Answer(Reply::json(200, "{\"value\": [{\"id\"")), "unreadable"),
        (Call::Variants, OnCall::Answer(Reply::json(403, "")), "forbidden"),
        (Call::Submissions, OnCall::Answer(Reply::json(500, "")), "unavailable"),
        (Call::Submissions, OnCall::Answer(Reply::json(200, loops)), "linkRefused"),
        (Call::Package, OnCall::Reset, "noAnswer"),
        (Call::Package, OnCall::Answer(Reply::html(200)), "incomplete"),
    ] {
        scene.partner.on(call, [script]);
        scene.fire().await;
        let trouble = scene.offer().await["watch"]["trouble"].clone();
        assert_eq!(trouble["kind"], kind, "{trouble}");
        assert_eq!(scene.rollouts().await, [""; 0], "{kind}");
    }
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1);
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
}

#[tokio::test]
async fn submissions_that_vanish_or_go_backwards_raise_nothing() {
    let scene = Scene::new().await;
    let second = scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.fire().await;
    scene.partner.remove(&second);
    scene.look().await;
    scene.partner.publish(&Publication::live("1.3.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["version"], "1.5.0");

    let third = scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    for (state, substate) in
        [("InProgress", "Publishing"), ("Published", "InStore"), ("InProgress", "Failed"), ("Published", "InStore")]
    {
        scene.partner.move_to(&third, state, substate, "live");
        scene.look().await;
    }
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1, "the same version in another submission is nothing new");
}

#[tokio::test]
async fn a_failed_publish_is_shown_and_raises_nothing() {
    let scene = Scene::new().await;
    scene.fire().await;
    let failed =
        Publication { substate: "FailedInCertification".into(), ..Publication::preview("1.5.0", STOP).moving() };
    scene.partner.publish(&failed);
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    let shown = scene.offer().await["watch"]["submissions"][0].clone();
    assert_eq!((&shown["substate"], &shown["standing"]), (&json!("FailedInCertification"), &json!("failed")));
}

#[tokio::test]
async fn a_substate_that_nobody_knows_is_judged_by_its_target_and_shown_as_it_is() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication { substate: "Ready".into(), ..Publication::preview("1.5.0", STOP) });
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 preview running"]);
    let nowhere =
        Publication { substate: "Beyond".into(), scope: "moon".into(), ..Publication::preview("1.6.0", STOP) };
    scene.partner.publish(&nowhere);
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1);
    let shown = scene.offer().await["watch"]["submissions"][0].clone();
    assert_eq!(
        (&shown["substate"], &shown["targets"], &shown["standing"]),
        (&json!("Beyond"), &json!(["moon"]), &json!("unclear"))
    );
}

#[tokio::test]
async fn the_meaning_of_a_state_can_be_configured() {
    let states = r#"{"Published/InStore": "moving", "Published/Ready": "live"}"#.parse().unwrap();
    let scene = Scene::with(|watch| watch.states = states).await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    scene.partner.publish(&Publication { substate: "Ready".into(), ..Publication::preview("1.6.0", STOP) });
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.6.0 live running"]);
}

#[tokio::test]
async fn a_watcher_that_dies_at_any_point_raises_the_publish_once() {
    for moment in [Moment::Before, Moment::After] {
        for effect in 1.. {
            let scene = Scene::new().await;
            scene.fire().await;
            scene.partner.publish(&Publication::live("1.5.0", STOP));
            scene.world.advance(HOUR);
            let faults = Faults::death_at(effect, moment);
            let (store, queue) =
                (FaultyStore::over(&scene.world.store, &faults), FaultyQueue::over(&scene.world.queue, &faults));
            let mortal = scene.world.handler(store, queue);
            let survived = faults.until_death(invoke_timer(&mortal, "WatchOffers", None)).await.is_some();
            scene.world.advance(FIVE_MINUTES);
            scene.fire().await;
            scene.world.run_due().await;
            let context = format!("effect {effect} {moment:?}");
            assert_eq!(scene.rollouts().await, ["1.5.0 live running"], "{context}");
            let done = scene.settle_newest().await;
            assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{context}");
            let doubts = json!(["of some deployments it is not known which version they have"]);
            assert_eq!(done["changes"]["doubts"], doubts, "{context}");
            if survived {
                assert!(effect > 5, "the snapshot, what was seen, the rollout, that it was raised, the look: {effect}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_watchers_at_once_raise_a_publish_once() {
    let scene = Scene::new().await;
    scene.fire().await;
    for version in ["1.5.0", "1.6.0", "1.7.0"] {
        let action = format!("Microsoft.Web/sites/{version}/action");
        scene.partner.publish(&Publication::preview(version, &action));
        scene.partner.publish(&Publication::live(version, &action));
        scene.world.advance(HOUR);
        let handlers: Vec<_> =
            (0..4).map(|_| scene.world.handler(scene.world.another_store(), scene.world.another_queue())).collect();
        let runs = handlers.iter().map(|handler| invoke_timer(handler, "WatchOffers", None));
        for status in futures_util::future::join_all(runs).await {
            assert_eq!(status, StatusCode::OK);
        }
        scene.settle_all().await;
    }
    let mut rollouts = scene.rollouts().await;
    rollouts.sort();
    let once = ["1.5.0", "1.6.0", "1.7.0"]
        .into_iter()
        .flat_map(|v| [format!("{v} live completed"), format!("{v} preview completed")]);
    assert_eq!(rollouts, once.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_found_while_another_version_is_on_its_way_waits_and_the_newest_wins() {
    let scene = Scene::settled().await;
    let running = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.run_due().await;
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    // The look takes an hour, so the operations have ended; another one takes their place.
    scene.world.settle(running, HOUR).await;
    scene.settle_newest().await;
    assert_eq!(scene.rollouts().await[..2], ["1.6.0 live completed", "1.5.0 live completed"]);

    let strategy = json!({"canaries": 1, "waves": ["100%"], "pauseBetweenWaves": "PT100H"});
    let slow = scene.world.publish(json!({"version": "1.7.0", "strategy": strategy})).await;
    scene.world.run_due().await;
    for version in ["1.8.0", "1.9.0"] {
        scene.partner.publish(&Publication::live(version, RESTART));
        scene.look().await;
    }
    assert_eq!(scene.rollouts().await[..3], ["1.9.0 live waiting", "1.8.0 live canceled", "1.7.0 live running"]);
    scene.partner.publish(&Publication::preview("2.0.0", STOP));
    scene.look().await;
    assert_eq!(
        scene.rollouts().await[..2],
        ["2.0.0 preview waiting", "1.9.0 live waiting"],
        "a preview takes no place from a version that is for all"
    );
    scene.world.post(&format!("/api/rollouts/{slow}/cancel"), &Value::Null).await;
    scene.settle_all().await;
    assert_eq!(scene.rollouts().await[..2], ["2.0.0 preview completed", "1.9.0 live completed"]);
    assert_eq!(scene.world.simulator.refreshed_to(&application(2)).as_deref(), Some("1.9.0"));
}

#[tokio::test]
async fn a_version_below_the_wanted_one_starts_nothing_and_says_so() {
    let scene = Scene::settled().await;
    let id = scene.world.publish(json!({"version": "2.0.0"})).await;
    scene.world.settle(id, HOUR).await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 2);
    let outcome = scene.offer().await["plans"][0]["live"]["outcome"].clone();
    assert_eq!(outcome["outcome"], "refused");
    assert!(outcome["why"].as_str().unwrap().contains("lower than the wanted version 2.0.0"), "{outcome}");
}
