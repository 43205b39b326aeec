//! One throttled subscription holds back itself, and nobody else.

use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, OnRead, Reply};
use permafresh::rollout::{PollAnswer, ReadAnswer, SubmitAnswer};
use uuid::Uuid;

use crate::arm_fixture::{Fixture, SUBSCRIPTION, application, application_of, operation_of};

const OTHER: &str = "a1000000-0000-4000-8000-000000000002";

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_throttled_subscription_is_left_alone_until_its_time_and_no_other_is() {
    let world = Fixture::start().await;
    let neighbour = application_of(SUBSCRIPTION, "ledger-test");
    let other = application_of(OTHER, "ledger-far");
    world.simulator.add_applications([&neighbour, &other].map(|id| ApplicationSpec::new(id.clone())));
    let version = "1.5.0".parse().unwrap();
    let operation = world.operation(Acceptance::default()).await;

    let posted = world.post(OnPost::Reply(Reply::throttled(30))).await;
    assert_eq!(posted.throttled_for, seconds(30));
    assert_eq!(world.arm.throttled_for(SUBSCRIPTION), seconds(30));
    world.clock.advance(Duration::from_secs(10));
    let asked = world.simulator.requests().len();

    let posted = world.arm.refresh_permissions(world.arm.admit_post().await, &neighbour, version, Uuid::new_v4()).await;
    let SubmitAnswer::Retry { error, wait } = posted.answer else { panic!("{:?}", posted.answer) };
    assert_eq!((error.code.as_str(), wait, posted.throttled_for), ("HeldBack", seconds(20), seconds(20)));
    let polled = world.poll(&operation).await;
    let PollAnswer::Unreadable { wait, .. } = polled.answer else { panic!("{:?}", polled.answer) };
    assert_eq!((wait, polled.throttled_for), (seconds(20), seconds(20)));
    let read = world.arm.read_application(&neighbour).await;
    let ReadAnswer::Unreadable { wait, .. } = read.answer else { panic!("{:?}", read.answer) };
    assert_eq!((wait, read.throttled_for), (seconds(20), seconds(20)));
    assert_eq!(world.simulator.requests().len(), asked, "ARM was left alone");

    operation_of(world.arm.refresh_permissions(world.arm.admit_post().await, &other, version, Uuid::new_v4()).await);
    world.clock.advance(Duration::from_secs(20));
    operation_of(
        world.arm.refresh_permissions(world.arm.admit_post().await, &neighbour, version, Uuid::new_v4()).await,
    );
    assert_eq!(world.arm.throttled_for(SUBSCRIPTION), None);
}

#[tokio::test]
async fn the_subscription_is_known_in_any_spelling_of_a_polling_url() {
    let world = Fixture::start().await;
    let mut operation = world.operation(Acceptance::default()).await;
    let shouted = operation.url.expose().replace(SUBSCRIPTION, &SUBSCRIPTION.to_uppercase());
    operation.url = permafresh::rollout::PollingUrl::new(shouted);
    let answer = world.poll_answered(&operation, Reply::json(200, r#"{"status":"Running"}"#)).await;
    assert!(!matches!(answer, PollAnswer::Running { .. }), "the simulator insists on every byte");
    world.arm.hold_back(SUBSCRIPTION, Duration::from_secs(5));
    assert_eq!(world.poll(&operation).await.throttled_for, seconds(5));
}

#[tokio::test]
async fn only_429_and_a_503_that_names_a_wait_hold_a_subscription_back() {
    for (reply, held) in [
        (Reply::throttled(30), seconds(30)),
        (Reply::status(429), seconds(10)),
        (Reply::throttled(30_000_000), seconds(3_600)),
        (Reply::unavailable(30), seconds(30)),
        (Reply::status(503), None),
        (Reply::busy().with("retry-after", "30"), None),
        (Reply::html(500).with("retry-after", "30"), None),
        (Reply::error(429, "RetryableErrorDueToAnotherOperation", "busy").with("retry-after", "30"), None),
    ] {
        let world = Fixture::start().await;
        world.simulator.on_read(&application(), [OnRead::Reply(reply.clone())]);
        let read = world.arm.read_application(&application()).await;
        assert_eq!(read.throttled_for, held, "{reply:?}");
        assert_eq!(world.arm.throttled_for(SUBSCRIPTION), held, "{reply:?}");
    }
}

#[tokio::test]
async fn a_call_that_waited_for_its_turn_learns_of_a_throttling_meanwhile() {
    let world =
        Fixture::with(|simulator| simulator.latency = Duration::from_millis(20), |client| client.max_concurrency = 1)
            .await;
    world.simulator.add_application(ApplicationSpec::new(application()));
    world.simulator.on_post(&application(), [OnPost::Reply(Reply::throttled(30))]);
    let (first, second) = tokio::join!(world.post_again(), world.post_again());
    let code = |answer| match answer {
        SubmitAnswer::Retry { error, .. } => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(first.answer), "SubscriptionRequestsThrottled");
    assert_eq!(code(second.answer), "HeldBack");
    assert_eq!(world.simulator.stats().posts, 1);
}

#[tokio::test]
async fn the_simulator_throttles_a_whole_subscription_for_a_time() {
    let world = Fixture::start().await;
    world.simulator.add_application(ApplicationSpec::new(application()));
    world.simulator.throttle(SUBSCRIPTION, Duration::from_secs(25));
    assert_eq!(world.post_again().await.throttled_for, seconds(25));
    assert_eq!(world.simulator.stats().throttled, 1);
    world.clock.advance(Duration::from_secs(25));
    operation_of(world.post_again().await);
}
