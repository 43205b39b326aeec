//! A client, a simulator, and the clock they share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::TokenSource;
use permafresh::arm::simulator::{Acceptance, OnPoll, OnPost, Reply, Simulator, SimulatorConfig};
use permafresh::arm::{ArmClient, ArmConfig, Polled, Posted};
use permafresh::rollout::{ApplicationId, Operation, PollAnswer, SubmitAnswer};
use uuid::Uuid;

use crate::manual_clock::ManualClock;

/// The subscription of [`application`].
pub const SUBSCRIPTION: &str = "a1000000-0000-4000-8000-000000000001";

/// A client that talks to a simulator, with tokens that it takes.
pub struct Fixture {
    pub clock: ManualClock,
    pub simulator: Arc<Simulator>,
    pub arm: ArmClient,
}

impl Fixture {
    /// With every request kept, and operations of a minute.
    pub async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    /// The same, with changes to the simulator's settings and to the client's.
    pub async fn with(simulator: impl FnOnce(&mut SimulatorConfig), client: impl FnOnce(&mut ArmConfig)) -> Self {
        let clock = ManualClock::new();
        let mut config = SimulatorConfig {
            operation: Duration::from_secs(60),
            keep_requests: 1_000,
            clock: Arc::new(clock.clone()),
            ..SimulatorConfig::default()
        };
        simulator(&mut config);
        let simulator = Arc::new(Simulator::start(config).await.unwrap());
        let tokens = tokens_of(&simulator, &clock);
        let mut config = ArmConfig::for_endpoint(simulator.endpoint().clone());
        config.call_timeout = Duration::from_secs(20);
        client(&mut config);
        let arm = ArmClient::new(config, tokens, Arc::new(clock.clone())).unwrap();
        Self { clock, simulator, arm }
    }

    /// Posts version 1.5.0 to [`application`], which the simulator treats as told.
    pub async fn post(&self, script: OnPost) -> Posted {
        self.simulator.on_post(&application(), [script]);
        self.post_again().await
    }

    /// Posts version 1.5.0 to [`application`].
    pub async fn post_again(&self) -> Posted {
        self.arm
            .refresh_permissions(self.arm.admit_post().await, &application(), "1.5.0".parse().unwrap(), Uuid::new_v4())
            .await
    }

    /// The operation that a POST starts, as accepted.
    pub async fn operation(&self, acceptance: Acceptance) -> Operation {
        operation_of(self.post(OnPost::Accept(acceptance)).await)
    }

    /// Looks at an operation, which the simulator answers so.
    pub async fn poll_answered(&self, operation: &Operation, reply: Reply) -> PollAnswer {
        self.simulator.on_poll(&application(), [OnPoll::Reply(reply)]);
        self.poll(operation).await.answer
    }

    /// Looks at an operation.
    pub async fn poll(&self, operation: &Operation) -> Polled {
        self.arm.poll(operation, Uuid::new_v4()).await
    }
}

/// Tokens that the simulator takes, without asking over HTTP.
pub fn tokens(world: &Fixture) -> Arc<TokenSource> {
    tokens_of(&world.simulator, &world.clock)
}

fn tokens_of(simulator: &Arc<Simulator>, clock: &ManualClock) -> Arc<TokenSource> {
    let credential = Arc::new(Issued(Arc::clone(simulator)));
    Arc::new(TokenSource::from_credential(credential, Arc::new(clock.clone())))
}

/// The operation in an answer that accepted one.
pub fn operation_of(posted: Posted) -> Operation {
    match posted.answer {
        SubmitAnswer::Accepted { operation, .. } => operation,
        other => panic!("not accepted: {other:?}"),
    }
}

/// The application of most tests.
pub fn application() -> ApplicationId {
    application_of(SUBSCRIPTION, "ledger-prod")
}

/// An application by subscription and name.
pub fn application_of(subscription: &str, name: &str) -> ApplicationId {
    format!("/subscriptions/{subscription}/resourceGroups/rg-apps/providers/Microsoft.Solutions/applications/{name}")
        .parse()
        .unwrap()
}

/// Gets its tokens from the simulator without asking over HTTP.
#[derive(Clone)]
pub struct Issued(Arc<Simulator>);

impl Issued {
    pub fn new(simulator: &Arc<Simulator>) -> Self {
        Self(Arc::clone(simulator))
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

#[async_trait]
impl TokenCredential for Issued {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let (token, expires) = self.0.issue_token();
        let expires_on = OffsetDateTime::from_unix_timestamp(expires.timestamp()).unwrap();
        Ok(AccessToken::new(Secret::new(token), expires_on))
    }
}
