//! An offer in Partner Center, its watcher, and three deployments of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::TokenSource;
use permafresh::clock::Clock;
use permafresh::engine::OfferConfig;
use permafresh::engine::watch::Watch;
use permafresh::partner_center::simulator::{Publication, Simulator, SimulatorConfig};
use permafresh::partner_center::{PartnerCenter, PartnerCenterConfig};
use permafresh::rollout::submission::States;
use permafresh::rollout::{Plan, RolloutId, Strategy, Way};
use permafresh::store::Versioned;
use permafresh::store::document::DocumentName;
use permafresh::store::published::snapshot_name;
use serde_json::{Value, json};

use crate::world::{Options, WatchOptions, World, application, invoke_timer, one_wave};

pub const HOUR: Duration = Duration::from_secs(3_600);
pub const FIVE_MINUTES: Duration = Duration::from_secs(300);
pub const RESTART: &str = "Microsoft.Web/sites/restart/action";
pub const STOP: &str = "Microsoft.Web/sites/stop/action";

/// What the engine of a test watches with.
pub fn watch(options: &WatchOptions, clock: Arc<dyn Clock>) -> Watch {
    let tokens = TokenSource::from_credential(Arc::new(Issued(Arc::clone(&options.partner))), clock.clone());
    let mut config = PartnerCenterConfig::for_endpoint(options.partner.endpoint().clone());
    config.call_timeout = Duration::from_secs(2);
    let mut watch = Watch::new(Some(PartnerCenter::new(config, tokens, clock).unwrap()), options.states.clone());
    if options.rollout_on_first_sight {
        watch.rollout_on_first_sight.push(("fabrikam".into(), "ledger".into()));
    }
    watch
}

struct Issued(Arc<Simulator>);

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

#[async_trait]
impl TokenCredential for Issued {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let (token, expires) = self.0.issue_token();
        Ok(AccessToken::new(Secret::new(token), OffsetDateTime::from_unix_timestamp(expires.timestamp()).unwrap()))
    }
}

pub struct Scene {
    pub world: World,
    pub partner: Arc<Simulator>,
}

pub fn offers(wanted: Option<&str>) -> Vec<OfferConfig> {
    let strategy: Strategy = serde_json::from_value(one_wave()).unwrap();
    vec![OfferConfig {
        ways: vec![Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), wanted.map(|version| version.parse().unwrap()))],
        strategy,
        preview_applications: vec![application(0)],
    }]
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// An offer whose version 1.4.0 is live, and three deployments of it, the first of them a preview purchase.
    pub async fn with(change: impl FnOnce(&mut WatchOptions)) -> Self {
        let year = Duration::from_secs(365 * 86_400);
        let config = SimulatorConfig { token_lifetime: year, ..SimulatorConfig::default() };
        let partner = Arc::new(Simulator::start(config).await.unwrap());
        let mut watch =
            WatchOptions { partner: partner.clone(), states: States::default(), rollout_on_first_sight: false };
        change(&mut watch);
        let world =
            World::with(Options { offers: offers(Some("1.4.0")), watch: Some(watch), ..Options::default() }).await;
        partner.publish(&Publication::live("1.4.0", RESTART));
        world.deploy(3).await;
        Self { world, partner }
    }

    /// The same after the baseline, with every deployment brought to 1.4.0.
    pub async fn settled() -> Self {
        let scene = Self::new().await;
        scene.fire().await;
        let id = scene.world.publish(json!({"version": "1.4.0"})).await;
        assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 3);
        scene
    }

    pub fn handler(&self) -> Router {
        self.world.handler(self.world.store.clone(), self.world.queue.clone())
    }

    pub async fn fire(&self) {
        assert_eq!(invoke_timer(&self.handler(), "WatchOffers", None).await, StatusCode::OK);
    }

    /// The timer's next run that looks, an hour later, and what follows from it.
    pub async fn look(&self) {
        self.world.advance(HOUR);
        self.fire().await;
        self.world.run_due().await;
    }

    /// Version, target and state of every rollout, the newest first.
    pub async fn rollouts(&self) -> Vec<String> {
        let all = self.world.get("/api/rollouts").await["value"].as_array().unwrap().clone();
        let text = |rollout: &Value, name: &str| rollout[name].as_str().unwrap().to_owned();
        all.iter().map(|r| format!("{} {} {}", text(r, "version"), text(r, "target"), text(r, "state"))).collect()
    }

    pub async fn newest(&self) -> RolloutId {
        self.world.get("/api/rollouts").await["value"][0]["id"].as_str().unwrap().parse().unwrap()
    }

    pub async fn offer(&self) -> Value {
        self.world.get("/api/offers").await["value"][0].clone()
    }

    /// Moves time until no rollout is on its way; at most five hours.
    pub async fn settle_all(&self) {
        for _ in 0..1_200 {
            self.world.run_due().await;
            let rollouts = self.rollouts().await;
            if !rollouts.iter().any(|r| ["waiting", "planning", "running"].iter().any(|state| r.ends_with(state))) {
                return;
            }
            self.world.advance(Duration::from_secs(15));
        }
        panic!("{:?} do not end", self.rollouts().await);
    }

    /// Leaves of a snapshot what nobody can read.
    pub async fn spoil_snapshot(&self, version: &str) {
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let name = DocumentName::of(&snapshot_name(&plan, version.parse().unwrap()));
        let store = &self.world.store;
        let etag = store.document("snapshot", &name).await.unwrap().expect("it is stored").etag;
        let spoiled = Versioned { value: json!({"plan": 7}), etag };
        assert!(store.save_document("snapshot", &name, &spoiled).await.unwrap().is_stored());
    }

    pub async fn settle_newest(&self) -> Value {
        self.world.settle(self.newest().await, HOUR).await
    }
}
