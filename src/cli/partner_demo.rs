//! `permafresh demo --watch`: a simulated Partner Center in which a version is published, and which the service watches.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::client::ApiClient;
use super::demo::{BAD_ACTION, DEPLOYED, DemoArgs, PUBLISHED};
use super::failure::Failure;
use super::{offers, output};
use crate::functions::wire::api::RolloutView;
use crate::functions::wire::offers_api::OfferView;
use crate::partner_center::simulator::{Publication, Simulator, SimulatorConfig};
use crate::rollout::RolloutId;

/// What customers may do with the version that every deployment has.
const BEFORE: &str = "Microsoft.Web/sites/restart/action";
/// What they may do with the one that is published.
const AFTER: &str = "Microsoft.Network/virtualNetworks/join/action";
/// How long the service may take to see something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Partner Center for the length of a demo.
pub struct SimulatedPartnerCenter {
    simulator: Simulator,
    /// The submission that is on its way.
    submission: String,
}

impl SimulatedPartnerCenter {
    /// One where a version is live and another on its way.
    pub async fn start(args: &DemoArgs) -> Result<Self, Failure> {
        let simulator = Simulator::start(SimulatorConfig::default())
            .await
            .context("cannot start the simulated Partner Center")
            .map_err(|error| Failure::new(error, "check that this machine lets a program listen on 127.0.0.1"))?;
        simulator.publish(&Publication::live(DEPLOYED, BEFORE));
        let action = if args.bad_permission { BAD_ACTION } else { AFTER };
        let submission = simulator.publish(&Publication::live(PUBLISHED, action).moving());
        Ok(Self { simulator, submission })
    }

    /// What leads the service here.
    pub fn settings(&self) -> impl Iterator<Item = (String, String)> {
        let endpoint = self.simulator.endpoint().as_str().trim_end_matches('/');
        let offers = json!([{"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard", "wantedVersion": DEPLOYED}]}]);
        let offers = offers.to_string();
        [
            ("OFFERS", offers.as_str()),
            ("PARTNER_CENTER_ENDPOINT", endpoint),
            // Entra is simulated there, too.
            ("AZURE_AUTHORITY_HOST", endpoint),
            ("PARTNER_CENTER_TENANT_ID", "5d0f7a10-0000-4000-8000-00000000f001"),
            ("PARTNER_CENTER_CLIENT_ID", "0b1ec700-0000-4000-8000-00000000aa01"),
            ("PARTNER_CENTER_CLIENT_SECRET", "simulated"),
            ("WATCH_OFFERS_SCHEDULE", "*/1 * * * * *"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
    }

    /// Publishes once the service has seen what was there before, and waits until it has found that.
    pub async fn publish_and_wait(&self, client: &ApiClient) -> Result<RolloutId, Failure> {
        output::say(&format!("  watched      Partner Center, simulated, at {}", self.simulator.endpoint()));
        wait("its first sight of the offer", async || {
            let known: Vec<OfferView> = client.list("list the offers", "/api/offers", 1).await?;
            Ok(known.into_iter().flat_map(|offer| offer.plans).find_map(|plan| plan.live))
        })
        .await?;
        self.simulator.move_to(&self.submission, "Published", "InStore", "live");
        output::say(&format!("  published    version {PUBLISHED}, in Partner Center only: nobody posts it"));
        let found = wait("the version in Partner Center", async || {
            let rollouts: Vec<RolloutView> = client.list("list the rollouts", "/api/rollouts", 1).await?;
            // What it changes is known as soon as it begins.
            Ok(rollouts.into_iter().next().filter(|rollout| rollout.wave > 0).map(|rollout| rollout.id))
        })
        .await?;
        output::say(&format!("  found        by watching, which starts rollout {found}"));
        let rollout: RolloutView = client.get("show the rollout", &format!("/api/rollouts/{found}")).await?;
        if let Some(changes) = &rollout.changes {
            output::say(offers::changes(changes).trim_end());
        }
        Ok(found)
    }
}

/// Asks again and again until there is an answer.
pub(super) async fn wait<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let asked = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let error = anyhow::anyhow!("the service did not find {what} within {} s", PATIENCE.as_secs());
        Err(Failure::new(error, "run it again with --verbose and look at the log"))
    })
}
