//! How many customers a bad permission reaches: at most the canaries, however many deployments there are.

use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{OnPost, Reply};
use serde_json::{Value, json};

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3_600);
const BAD: &str = "Microsoft.KeyVault/vaults/secrets/getSecret/action";

#[tokio::test]
async fn of_ten_thousand_deployments_a_bad_permission_reaches_the_canaries_and_nobody_else() {
    let world = World::new().await;
    let ids = world.deploy(10_000).await;
    for version in ["1.5.0", "1.6.0"] {
        world.simulator.bad_version(version, BAD);
    }
    for (version, strategy, canaries) in
        [("1.5.0", Value::Null, 1), ("1.6.0", json!({"canaries": 3, "waves": ["50%"], "maxFailures": "100%"}), 3)]
    {
        let before = world.simulator.stats().posts;
        let id = world.publish(json!({"version": version, "strategy": strategy})).await;
        let halted = world.settle(id, HOUR).await;
        assert_eq!(halted["state"], "halted", "{halted}");
        assert!(halted["why"].as_str().unwrap().contains(BAD), "{halted}");
        for _ in 0..48 {
            world.advance(HOUR / 2);
            world.run_due().await;
        }
        let sent = world.simulator.stats().posts - before;
        assert!((1..=canaries).contains(&sent), "{sent} of {canaries} canaries were posted");
        assert_eq!(world.rollout(id).await["state"], "halted", "nothing goes on by itself");
    }
    let reached = ids.iter().filter(|id| world.simulator.posts_of(id) > 0).count();
    assert!(reached <= 3, "{reached} deployments were reached");
    assert_eq!(ids.iter().filter(|id| world.simulator.refreshed_to(id).is_some()).count(), 0);
}

#[tokio::test]
async fn a_canary_that_arm_refused_is_followed_by_another_canary_once_somebody_resumes() {
    let world = World::new().await;
    let ids = world.deploy(20).await;
    let refusal = Reply::error(400, "BadRequest", "no");
    world.simulator.on_post(&ids[7], [OnPost::Reply(refusal)]);
    let id = world.publish(json!({"version": "1.5.0", "strategy": {"canaries": [ids[7].to_string()]}})).await;
    let paused = world.settle(id, HOUR).await;
    assert_eq!((paused["state"].as_str(), world.simulator.stats().posts), (Some("paused"), 1), "{paused}");
    let (status, _) = world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["state"], "completed", "{done}");
    assert_eq!((&done["counts"]["failed"], &done["counts"]["succeeded"]), (&json!(1), &json!(19)), "{done}");
    let first_wave = world.refreshes(id).await.into_iter().filter(|refresh| refresh["wave"] == 1).count();
    assert_eq!(first_wave, 2, "one that proves the version came before all others");
}
