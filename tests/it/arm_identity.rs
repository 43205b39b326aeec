//! Tokens: one request at a time, renewed in time, once more after a 401, and from a managed identity.

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::time::OffsetDateTime;
use futures_util::FutureExt;
use futures_util::future::join_all;
use permafresh::access::credential::{IdentityConfig, IdentityKind, TokenSource, scope_of};
use permafresh::arm::simulator::{Acceptance, OnPost, OnRead, Reply};
use permafresh::arm::{ArmClient, ArmConfig};
use permafresh::clock::SystemClock;
use permafresh::rollout::{PollAnswer, ReadAnswer, SubmitAnswer};
use tokio::sync::Semaphore;

use crate::arm_fixture::{Fixture, application, operation_of};
use crate::manual_clock::ManualClock;

const SCOPE: &str = "https://management.azure.com/.default";

/// A credential whose requests wait to be let through, and can be made to fail.
struct Gated {
    clock: ManualClock,
    life: Duration,
    gate: Semaphore,
    asked: AtomicU32,
    failures: AtomicU32,
}

impl Gated {
    fn new(clock: &ManualClock, life: Duration) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            life,
            gate: Semaphore::new(1_000),
            asked: AtomicU32::new(0),
            failures: AtomicU32::new(0),
        })
    }

    fn close(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn fail_next(&self) {
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gated")
    }
}

#[async_trait]
impl TokenCredential for Gated {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, [SCOPE]);
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.gate.acquire().await.unwrap().forget();
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::with_message(ErrorKind::Credential, "the identity is\n out to lunch"));
        }
        let expires_on = OffsetDateTime::from_unix_timestamp((self.clock.now() + self.life).timestamp()).unwrap();
        Ok(AccessToken::new(Secret::new(format!("token-{number}")), expires_on))
    }
}

fn source(life: Duration) -> (ManualClock, Arc<Gated>, TokenSource) {
    let clock = ManualClock::new();
    let credential = Gated::new(&clock, life);
    let tokens = TokenSource::from_credential(credential.clone(), Arc::new(clock.clone()));
    (clock, credential, tokens)
}

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn many_who_need_a_token_at_once_cause_one_request() {
    let (_, credential, tokens) = source(HOUR);
    credential.close();
    let waiting = join_all((0..50).map(|_| tokens.token(SCOPE)));
    let (given, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        credential.gate.add_permits(1);
    });
    assert!(given.iter().all(|token| token.as_ref().unwrap().secret() == "token-1"));
    assert_eq!(credential.asked(), 1);
}

#[tokio::test]
async fn a_failure_is_shared_by_all_who_waited_for_it_and_by_nobody_after() {
    let (_, credential, tokens) = source(HOUR);
    credential.close();
    credential.fail_next();
    let waiting = join_all((0..50).map(|_| tokens.token(SCOPE)));
    let (given, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        credential.gate.add_permits(1);
    });
    for failure in given.into_iter().map(Result::unwrap_err) {
        assert!(failure.reason.contains("the identity is out to lunch"), "{failure}");
    }
    assert_eq!(credential.asked(), 1);
    credential.gate.add_permits(1);
    assert_eq!(tokens.token(SCOPE).await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_token_is_renewed_five_minutes_before_it_expires_or_at_half_its_life() {
    for (life, renewed_after) in [(HOUR, 55 * MINUTE), (8 * MINUTE, 4 * MINUTE), (10 * MINUTE, 5 * MINUTE)] {
        let (clock, credential, tokens) = source(life);
        let mut last = String::new();
        for round in 1..=3 {
            let token = tokens.token(SCOPE).await.unwrap();
            assert_ne!(token.secret(), last);
            last = token.secret().to_owned();
            clock.advance(renewed_after - Duration::from_secs(1));
            assert_eq!(tokens.token(SCOPE).await.unwrap().secret(), last);
            assert_eq!(credential.asked(), round);
            clock.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn while_a_token_is_renewed_the_old_one_serves_everybody_else() {
    let (clock, credential, tokens) = source(HOUR);
    tokens.token(SCOPE).await.unwrap();
    clock.advance(56 * MINUTE);
    credential.close();
    let mut renewing = Box::pin(tokens.token(SCOPE));
    assert!(renewing.as_mut().now_or_never().is_none());
    let other = tokens.token(SCOPE).now_or_never().expect("nobody waits").unwrap();
    assert_eq!(other.secret(), "token-1");
    credential.gate.add_permits(1);
    assert_eq!(renewing.await.unwrap().secret(), "token-2");
    assert_eq!(credential.asked(), 2);
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_later_while_the_old_token_lasts() {
    let (clock, credential, tokens) = source(HOUR);
    tokens.token(SCOPE).await.unwrap();
    clock.advance(55 * MINUTE);
    credential.fail_next();
    for _ in 0..3 {
        assert_eq!(tokens.token(SCOPE).await.unwrap().secret(), "token-1");
    }
    assert_eq!(credential.asked(), 2);
    clock.advance(Duration::from_secs(30));
    assert_eq!(tokens.token(SCOPE).await.unwrap().secret(), "token-3");
    clock.advance(2 * HOUR);
    credential.fail_next();
    assert!(tokens.token(SCOPE).await.is_err(), "nothing is left to go on with");
}

#[tokio::test]
async fn a_clock_that_is_wrong_does_not_make_every_call_ask_for_a_token() {
    let (clock, credential, tokens) = source(Duration::ZERO);
    for _ in 0..5 {
        tokens.token(SCOPE).await.unwrap();
        clock.advance(Duration::from_secs(2));
    }
    assert_eq!(credential.asked(), 1);
}

#[tokio::test]
async fn many_whose_token_was_refused_cause_one_new_one() {
    let (_, credential, tokens) = source(HOUR);
    let refused = tokens.token(SCOPE).await.unwrap();
    credential.close();
    let waiting = join_all((0..50).map(|_| tokens.fresh(SCOPE, &refused)));
    let (given, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        credential.gate.add_permits(1);
    });
    assert!(given.iter().all(|token| token.as_ref().unwrap().secret() == "token-2"));
    assert_eq!(credential.asked(), 2);
}

#[tokio::test]
async fn a_401_that_blames_the_token_is_repeated_once_with_a_new_one() {
    for code in ["ExpiredAuthenticationToken", "InvalidAuthenticationToken", "authenticationfailed"] {
        let world = Fixture::start().await;
        let reply = Reply::error(401, code, "text");
        operation_of(world.post(OnPost::Reply(reply.clone())).await);
        let operation = world.operation(Acceptance::default()).await;
        let answer = world.poll_answered(&operation, reply.clone()).await;
        assert!(matches!(answer, PollAnswer::Running { .. }), "{answer:?}");
        world.simulator.on_read(&application(), [OnRead::Reply(reply)]);
        assert_eq!(world.arm.read_application(&application()).await.answer, ReadAnswer::Ready);
        let stats = world.simulator.stats();
        assert_eq!((stats.posts, stats.polls, stats.reads, stats.tokens), (3, 2, 2, 4), "{code}");
    }
}

#[tokio::test]
async fn a_token_that_arm_forgot_or_that_has_expired_is_replaced() {
    let world = Fixture::start().await;
    world.operation(Acceptance::default()).await;
    world.simulator.revoke_tokens();
    operation_of(world.post_again().await);
    assert_eq!(world.simulator.stats().refused_tokens, 1);
    world.clock.advance(48 * HOUR);
    operation_of(world.post_again().await);
    assert_eq!(world.simulator.stats().refused_tokens, 1, "the client knew");
}

#[tokio::test]
async fn a_401_that_stays_is_our_own_trouble_and_is_retried_later() {
    let world = Fixture::start().await;
    world.simulator.on_post(&application(), vec![OnPost::Reply(Reply::expired_token()); 3]);
    let SubmitAnswer::Retry { error, .. } = world.post_again().await.answer else { panic!("it was not retried") };
    assert_eq!(error.code, "ExpiredAuthenticationToken");
    assert_eq!((world.simulator.stats().posts, world.simulator.stats().tokens), (2, 2));
}

#[tokio::test]
async fn without_a_token_nothing_is_called_and_the_answer_says_what_to_do() {
    let world = Fixture::start().await;
    let credential = Gated::new(&world.clock, HOUR);
    (0..3).for_each(|_| credential.fail_next());
    let mut config = ArmConfig::for_endpoint(world.simulator.endpoint().clone());
    config.audience = "https://management.azure.com/".to_owned();
    let tokens = TokenSource::from_credential(credential, Arc::new(world.clock.clone()));
    let arm = ArmClient::new(config, Arc::new(tokens), Arc::new(world.clock.clone())).unwrap();
    let operation = world.operation(Acceptance::default()).await;
    let asked = world.simulator.requests().len();
    let id = uuid::Uuid::new_v4();
    let posted = arm.refresh_permissions(arm.admit_post().await, &application(), "1.5.0".parse().unwrap(), id).await;
    let SubmitAnswer::Retry { error, .. } = posted.answer else { panic!("{:?}", posted.answer) };
    assert_eq!(error.code, "NoToken");
    assert!(
        error.message.contains("out to lunch") && error.message.contains("look at the identity"),
        "{}",
        error.message
    );
    let PollAnswer::Unreadable { error, .. } = arm.poll(&operation, id).await.answer else { panic!("it was read") };
    assert_eq!(error.code, "NoToken");
    let read = arm.read_application(&application()).await.answer;
    assert!(matches!(&read, ReadAnswer::Unreadable { error, .. } if error.code == "NoToken"), "{read:?}");
    assert_eq!(world.simulator.requests().len(), asked);
}

#[test]
fn the_settings_decide_which_identity_it_is() {
    let set = |value: &str| Some(value.to_owned());
    let secret = IdentityConfig {
        tenant_id: set("t"),
        client_id: set("c"),
        client_secret: Some("hush".into()),
        identity_endpoint: set("http://127.0.0.1/msi/token"),
        ..IdentityConfig::default()
    };
    assert_eq!(secret.kind(), IdentityKind::ClientSecret);
    assert!(!format!("{secret:?}").contains("hush"));
    for incomplete in [
        IdentityConfig { tenant_id: None, ..secret.clone() },
        IdentityConfig { client_id: set(""), ..secret.clone() },
        IdentityConfig { client_secret: None, ..secret.clone() },
    ] {
        assert_eq!(incomplete.kind(), IdentityKind::ManagedIdentity);
        assert_eq!(IdentityConfig { identity_endpoint: None, ..incomplete }.kind(), IdentityKind::DeveloperTools);
    }
    assert_eq!(scope_of("https://management.azure.com"), SCOPE);
    assert_eq!(scope_of("https://management.azure.com/"), SCOPE);
}

fn http() -> reqwest::Client {
    // Another test may have been first; either way there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

#[tokio::test]
async fn a_secret_that_cannot_be_exchanged_is_not_shown_and_the_error_names_the_settings() {
    // Bound but not listening: connections are refused.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let config = IdentityConfig {
        tenant_id: Some("5d0f7a10-0000-4000-8000-00000000f001".to_owned()),
        client_id: Some("0b1ec700-0000-4000-8000-00000000aa01".to_owned()),
        client_secret: Some("hush".into()),
        authority_host: Some(format!("https://{}", nobody.local_addr().unwrap())),
        ..IdentityConfig::default()
    };
    let tokens = TokenSource::new(config, || Ok(http()), Arc::new(SystemClock));
    let failure = tokens.token(SCOPE).await.unwrap_err().to_string();
    assert!(failure.contains("AZURE_CLIENT_SECRET") && !failure.contains("hush"), "{failure}");
    assert!(!format!("{tokens:?}").contains("hush"));
}

/// Runs itself once more as a process with the two variables that the SDK reads, since a process cannot change its own
/// safely.
#[tokio::test]
async fn a_managed_identity_gets_its_tokens_from_the_identity_endpoint() {
    if let Ok(endpoint) = std::env::var("IDENTITY_ENDPOINT") {
        return use_managed_identity(endpoint).await;
    }
    let world = Fixture::with(|simulator| simulator.clock = Arc::new(SystemClock), |_| {}).await;
    world.simulator.on_read(&application(), []);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "arm_identity::a_managed_identity_gets_its_tokens_from_the_identity_endpoint", "--nocapture"])
        .env("IDENTITY_ENDPOINT", world.simulator.identity_endpoint())
        .env("IDENTITY_HEADER", world.simulator.identity_header());
    let ran = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let asked: Vec<String> = world.simulator.requests().into_iter().map(|request| request.target).collect();
    let tokens: Vec<&String> = asked.iter().filter(|target| target.starts_with("/msi/token?")).collect();
    assert_eq!(tokens.len(), 2, "one, and one more after it was refused: {asked:#?}");
    for token in tokens {
        assert!(token.contains("api-version=2019-08-01") && token.contains("&client_id=0b1ec700-"), "{token}");
        assert!(token.contains("resource=https%3A%2F%2Fmanagement.azure.com&"), "{token}");
    }
    assert_eq!((world.simulator.stats().reads, world.simulator.stats().refused_tokens), (3, 0));
}

async fn use_managed_identity(endpoint: String) {
    let config = IdentityConfig {
        client_id: Some("0b1ec700-0000-4000-8000-00000000aa01".to_owned()),
        identity_endpoint: Some(endpoint.clone()),
        ..IdentityConfig::default()
    };
    assert_eq!(config.kind(), IdentityKind::ManagedIdentity);
    let tokens = Arc::new(TokenSource::new(config, || Ok(http()), Arc::new(SystemClock)));
    let mut config = ArmConfig::for_endpoint(endpoint.strip_suffix("/msi/token").unwrap().parse().unwrap());
    config.audience = "https://management.azure.com".to_owned();
    let arm = ArmClient::new(config, Arc::clone(&tokens), Arc::new(SystemClock)).unwrap();
    for _ in 0..3 {
        assert_eq!(arm.read_application(&application()).await.answer, ReadAnswer::Ready);
    }
    let first = tokens.token(SCOPE).await.unwrap();
    let second = tokens.fresh(SCOPE, &first).await.unwrap();
    assert_ne!(first.secret(), second.secret(), "the SDK's own cache must not answer for a token that was refused");
}
