//! Every row of the decision table for the POST (contracts/arm.md §2.4), over HTTP.

use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, OnPost};
use permafresh::rollout::{Monitor, PollAnswer, SubmitAnswer};

use crate::arm_fixture::{Fixture, application, operation_of};

#[tokio::test]
async fn a_refresh_is_accepted_followed_and_ends() {
    let world = Fixture::start().await;
    let posted = world.post(OnPost::Accept(Acceptance::default())).await;
    assert_eq!(posted.throttled_for, None);
    assert!(posted.correlation_id.is_some());
    let SubmitAnswer::Accepted { ref operation, wait } = posted.answer else { panic!("{posted:?}") };
    assert_eq!((operation.monitor, operation.last_wait_seconds), (Monitor::AsyncOperation, Some(10)));
    assert_eq!(wait, Some(Duration::from_secs(10)));
    let operation = operation_of(posted);
    world.clock.advance(Duration::from_secs(15));
    let running = PollAnswer::Running { percent: Some(25.0), wait: Some(Duration::from_secs(10)), moved: None };
    assert_eq!(world.poll(&operation).await.answer, running);
    world.clock.advance(Duration::from_secs(45));
    assert_eq!(world.poll(&operation).await.answer, PollAnswer::Succeeded);
    assert_eq!(world.simulator.refreshed_to(&application()).as_deref(), Some("1.5.0"));
    let stats = world.simulator.stats();
    assert_eq!((stats.posts, stats.operations, stats.polls, stats.impatient_polls), (1, 1, 2, 0));
    assert_eq!((stats.tokens, stats.altered_urls), (1, 0));
}
