//! What the services of this command line share before they start: settings read, and the engine put together from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::failure::{Exit, Failure};
use crate::access::credential::{IdentityConfig, TokenSource};
use crate::arm::{ArmClient, ArmConfig, Proxy};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, EngineConfig, Mode, OfferConfig};
use crate::functions::App;
use crate::functions::wire::caller::IsVouched;
use crate::ncrontab::Schedule;
use crate::queue::Queue;
use crate::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use crate::rollout::{Policy, Way};
use crate::settings::{self, Credential, Settings, SettingsError, StateStore};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::webhook::Webhook;

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(error, "correct what is named above; every setting is in local.settings.sample.json")
            .exit(Exit::Usage)
    }
}

/// The settings in `values`, if this build has the backends that they ask for.
pub(super) fn settings(values: &BTreeMap<String, String>) -> Result<Settings, Failure> {
    let settings = Settings::from_map(values)?;
    let missing = if settings.store.state_store == StateStore::Tables {
        Some(("STATE_STORE=tables", "set STATE_STORE to sqlite:PATH"))
    } else if settings.queues.service_bus.is_some() {
        Some(("ServiceBusConnection", "leave it out to use the embedded queue"))
    } else {
        None
    };
    match missing {
        Some((what, hint)) => {
            Err(Failure::new(anyhow::anyhow!("{what} asks for a backend that this build does not have yet"), hint)
                .exit(Exit::Usage))
        }
        None => Ok(settings),
    }
}

/// Logs what is odd about the settings, once logging has started.
pub(super) fn log_remarks(settings: &Settings) {
    for remark in &settings.remarks {
        tracing::warn!(setting.name = %remark.name, "{remark}");
    }
}

/// Everything the functions work with, over the parts that the settings name.
pub(super) fn app(settings: &Settings) -> anyhow::Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let path = store_path(settings)?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path).context("cannot open the store")?);
    let queue = queue(settings, Arc::clone(&clock))?;
    let tokens = TokenSource::new(identity(settings), token_client(settings), Arc::clone(&clock));
    let mut arm = ArmConfig::for_endpoint(settings.arm.endpoint.url().clone());
    arm.audience.clone_from(&settings.arm.audience);
    arm.api_version.clone_from(&settings.arm.api_version);
    arm.max_concurrency = settings.arm.max_concurrency;
    arm.proxy = Proxy::from_environment(settings.arm.endpoint.url());
    let arm =
        ArmClient::new(arm, Arc::new(tokens), Arc::clone(&clock)).context("cannot call Azure Resource Manager")?;
    let poll_schedule = Schedule::parse(&settings.schedules.poll).context("POLL_SCHEDULE cannot be read")?;
    let engine = Engine::new(store, queue, arm, clock, engine_config(settings));
    let engine = match (&settings.notify.url, &settings.notify.secret) {
        (Some(url), Some(secret)) => {
            let http = webhook_client(url.expose()).context("cannot tell the webhook")?;
            engine.with_webhook(Webhook::new(url.expose(), secret.expose(), http).context("NOTIFY_URL, NOTIFY_SECRET")?)
        }
        _ => engine,
    };
    Ok(App {
        engine,
        notification_sigs: settings.notifications.sigs.iter().map(|sig| sig.expose().to_owned()).collect(),
        principals: match settings.dashboard.auth {
            settings::DashboardAuth::EasyAuth => IsVouched::Yes,
            settings::DashboardAuth::Key => IsVouched::No,
        },
        poll_schedule,
    })
}

/// The embedded queue, in a file beside the store: the handler sends to it, the host takes from it.
pub(super) fn queue(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Queue>> {
    let path = beside(store_path(settings)?, ".queue");
    Ok(Arc::new(EmbeddedQueue::open(&path, EmbeddedQueueConfig::default(), clock).context("cannot open the queue")?))
}

/// Where the store is.
pub(super) fn store_path(settings: &Settings) -> anyhow::Result<&Path> {
    match &settings.store.state_store {
        StateStore::Sqlite { path } => Ok(path),
        StateStore::Tables => anyhow::bail!("STATE_STORE=tables asks for a backend that this build does not have yet"),
    }
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, behind: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(behind);
    name.into()
}

#[expect(clippy::disallowed_methods, reason = "wiring is where clients are made")]
fn token_client(settings: &Settings) -> impl FnOnce() -> Result<reqwest::Client, String> + Send + 'static {
    // A managed identity's endpoint is on this very machine, and speaks plain HTTP that no proxy should see.
    let is_local = matches!(settings.identity.credential, Credential::ManagedIdentity { .. });
    move || {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let builder = if is_local { builder.no_proxy() } else { builder };
        builder.build().map_err(|error| format!("cannot make an HTTP client: {error}"))
    }
}

#[expect(clippy::disallowed_methods, reason = "wiring is where clients are made")]
fn webhook_client(url: &str) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("permafresh/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none());
    let is_local = url::Url::parse(url).is_ok_and(|url| settings::is_loopback(&url));
    let builder = if is_local { builder.no_proxy() } else { builder };
    Ok(builder.build()?)
}

fn identity(settings: &Settings) -> IdentityConfig {
    let identity = &settings.identity;
    let mut config = IdentityConfig {
        tenant_id: identity.tenant_id.clone(),
        authority_host: Some(identity.authority_host.as_str().to_owned()),
        ..IdentityConfig::default()
    };
    match &identity.credential {
        Credential::ClientSecret { tenant_id, client_id, secret } => {
            config.tenant_id = Some(tenant_id.clone());
            config.client_id = Some(client_id.clone());
            config.client_secret = Some(secret.expose().to_owned());
        }
        Credential::ManagedIdentity { endpoint, client_id, .. } => {
            config.identity_endpoint = Some(endpoint.as_str().to_owned());
            config.client_id.clone_from(client_id);
        }
        Credential::DeveloperTools => {}
    }
    config
}

fn engine_config(settings: &Settings) -> EngineConfig {
    let offers = settings.offers.offers.iter().map(|offer| OfferConfig {
        publisher: offer.publisher.clone(),
        offer: offer.offer.clone(),
        plans: offer.plans.iter().map(|plan| (plan.plan.plan.clone(), plan.wanted_version)).collect(),
        strategy: offer.strategy.clone(),
        // The other ways come with the parts that open them.
        ways: offer.access_order.iter().copied().filter(|way| matches!(way, Way::Publisher | Way::HandOver)).collect(),
        preview_applications: offer.preview_applications.clone(),
    });
    EngineConfig {
        policy: Policy {
            ways: vec![Way::Publisher, Way::HandOver],
            verify_after_success: settings.arm.verify_after_success,
            arm_endpoint: settings.arm.endpoint.as_str().to_owned(),
            arm_api_version: settings.arm.api_version.clone(),
        },
        rollout_queue: settings.queues.rollout_queue.clone(),
        refresh_queue: settings.queues.refresh_queue.clone(),
        offers: offers.collect(),
        retention: Duration::from_secs(u64::from(settings.retention_days) * 24 * 60 * 60),
        mode: match settings.mode {
            settings::Mode::Observe => Mode::Observe,
            settings::Mode::Act => Mode::Act,
        },
        // So many more than places for calls that these stay filled, and so few that no claim runs out while it waits.
        looks_at_once: settings.arm.max_concurrency + 64,
    }
}
