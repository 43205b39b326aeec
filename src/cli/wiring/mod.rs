//! What the services of this command line share before they start: settings read, and the engine put together from them.

mod azure;
mod backends;
pub(super) mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::failure::{Exit, Failure};
use crate::arm::{ArmClient, ArmConfig, Proxy};
use crate::clock::{Clock, SystemClock};
use crate::engine::lint::Linter;
use crate::engine::watch::Watch;
use crate::engine::{Engine, EngineConfig, Mode, OfferConfig, step};
use crate::functions::App;
use crate::functions::dashboard::Dashboard;
use crate::functions::wire::caller::IsVouched;
use crate::ncrontab::Schedule;
use crate::partner_center::{PartnerCenter, PartnerCenterConfig};
use crate::queue::Queue;
use crate::rollout::jit::JitSetup;
use crate::rollout::watch::FirstSight;
use crate::rollout::{Policy, Way};
use crate::settings::{self, DEFAULT_ORDER, JitResourceGroup, JitSettings, Settings, SettingsError};
use crate::telemetry::export::{Export, ExportConfig};
use crate::webhook::Webhook;

use azure::Azure;
pub(super) use backends::{OpenStore, beside_store, queue_file};

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(error, "correct what is named above; every setting is in local.settings.sample.json")
            .exit(Exit::Usage)
    }
}

/// The settings in `values`.
pub(super) fn settings(values: &BTreeMap<String, String>) -> Result<Settings, Failure> {
    Ok(Settings::from_map(values)?)
}

/// Logs what is odd about the settings, once logging has started.
pub(super) fn log_remarks(settings: &Settings) {
    for remark in &settings.remarks {
        tracing::warn!(setting.name = %remark.name, "{remark}");
    }
}

/// Everything the functions work with, over the parts that the settings name; and its store.
pub(super) fn app(settings: &Settings) -> anyhow::Result<(App, OpenStore)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let azure = Azure::new(settings, Arc::clone(&clock));
    let store = OpenStore::open(settings, &azure)?;
    let queue = backends::queue(settings, &azure, Arc::clone(&clock))?;
    let arm = arm(settings, &azure, Arc::clone(&clock))?;
    let poll_schedule = Schedule::parse(&settings.schedules.poll).context("POLL_SCHEDULE cannot be read")?;
    let mut engine = Engine::new(store.store(), queue, arm, Arc::clone(&clock), engine_config(settings))
        .with_watch(watch(settings, &azure, clock)?);
    if let (Some(url), Some(secret)) = (&settings.notify.url, &settings.notify.secret) {
        let webhook = Webhook::new(url.expose(), secret.expose(), azure::webhook_client(url.expose()));
        engine = engine.with_webhook(webhook.context("NOTIFY_URL or NOTIFY_SECRET cannot be used")?);
    }
    if let Some(gdap) = azure.gdap().context("GDAP cannot be used")? {
        engine = engine.with_gdap(gdap);
    }
    if let Some(setup) = jit(&settings.jit) {
        engine = engine.with_jit(setup);
    }
    if let Some(guests) = azure.guests() {
        engine = engine.with_guests(guests);
    }
    let is_vouched = match settings.dashboard.auth {
        settings::DashboardAuth::EasyAuth => IsVouched::Yes,
        settings::DashboardAuth::Key => IsVouched::No,
    };
    let dashboard_key = settings.dashboard.key.as_ref().map(|key| key.expose().to_owned());
    let app = App {
        engine,
        notification_sigs: settings.notifications.sigs.iter().map(|sig| sig.expose().to_owned()).collect(),
        principals: is_vouched,
        dashboard: Dashboard::new(dashboard_key, is_vouched),
        poll_schedule,
    };
    Ok((app, store))
}

/// Azure Resource Manager alone, called as the identity that the settings name.
pub(super) fn arm_client(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<ArmClient> {
    arm(settings, &Azure::new(settings, Arc::clone(&clock)), clock)
}

fn arm(settings: &Settings, azure: &Azure, clock: Arc<dyn Clock>) -> anyhow::Result<ArmClient> {
    let mut arm = ArmConfig::for_endpoint(settings.arm.endpoint.url().clone());
    arm.audience.clone_from(&settings.arm.audience);
    arm.api_version.clone_from(&settings.arm.api_version);
    arm.max_concurrency = settings.arm.max_concurrency;
    arm.proxy = Proxy::from_environment(settings.arm.endpoint.url());
    ArmClient::new(arm, azure.tokens(), clock).context("cannot call Azure Resource Manager")
}

/// The way to the collector, if the settings name one.
pub(super) fn export(settings: &Settings) -> anyhow::Result<Option<Export>> {
    let Some(otlp) = &settings.otlp else { return Ok(None) };
    let config = ExportConfig {
        endpoint: otlp.endpoint.as_str().to_owned(),
        headers: otlp.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
        service_name: otlp.service_name.clone(),
        attributes: otlp.attributes.clone(),
        names_sampler: otlp.names_sampler,
        names_delay: otlp.names_delay,
    };
    let client = azure::collector_client(otlp.endpoint.url());
    Ok(Some(Export::start(&config, client, Arc::new(SystemClock)).context("spans and metrics cannot be exported")?))
}

/// The lint, which needs nothing else of a service.
pub(super) fn linter(settings: &Settings) -> anyhow::Result<Linter> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let arm = arm(settings, &Azure::new(settings, Arc::clone(&clock)), Arc::clone(&clock))?;
    Ok(Linter::new(arm, clock))
}

/// The queue that the handler sends to, for the host that takes from it, and the store, for a look whether it can be had.
pub(super) fn host_parts(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<(Arc<dyn Queue>, OpenStore)> {
    let azure = Azure::new(settings, Arc::clone(&clock));
    let store = OpenStore::open(settings, &azure)?;
    Ok((backends::queue(settings, &azure, clock)?, store))
}

/// What watching Partner Center takes; it says itself where the settings name no application for it.
fn watch(settings: &Settings, azure: &Azure<'_>, clock: Arc<dyn Clock>) -> anyhow::Result<Watch> {
    let partner_center = partner_center(settings, azure, clock)?;
    let mut watch = Watch::new(partner_center, settings.partner_center.states.clone());
    let offers = settings.offers.offers.iter().filter(|offer| offer.first_sight == FirstSight::Rollout);
    watch.rollout_on_first_sight = offers.map(|offer| (offer.publisher.clone(), offer.offer.clone())).collect();
    Ok(watch)
}

fn partner_center(
    settings: &Settings,
    azure: &Azure<'_>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Option<PartnerCenter>> {
    let Some(tokens) = azure.partner_center_tokens() else { return Ok(None) };
    let endpoint = settings.partner_center.endpoint.url();
    let mut config = PartnerCenterConfig::for_endpoint(endpoint.clone());
    config.proxy = Proxy::from_environment(endpoint);
    Ok(Some(PartnerCenter::new(config, tokens, clock).context("cannot call Partner Center")?))
}

/// What just-in-time requests are made with; `None` where they are not set up.
fn jit(settings: &JitSettings) -> Option<JitSetup> {
    Some(JitSetup {
        principal_id: settings.principal_id.clone()?,
        role_id: settings.role_id.clone(),
        resource_group: match &settings.resource_group {
            JitResourceGroup::Managed => None,
            JitResourceGroup::Named(name) => Some(name.clone()),
        },
    })
}

/// Those of some ways that the settings make passable.
fn there(settings: &Settings, ways: &[Way]) -> Vec<Way> {
    let is_there = |way: &Way| match way {
        Way::Publisher | Way::HandOver => true,
        Way::Gdap => settings.gdap.client_id.is_some(),
        Way::Jit => settings.jit.principal_id.is_some(),
    };
    ways.iter().copied().filter(is_there).collect()
}

fn engine_config(settings: &Settings) -> EngineConfig {
    let offers = settings.offers.offers.iter().map(|offer| OfferConfig {
        publisher: offer.publisher.clone(),
        offer: offer.offer.clone(),
        plans: offer.plans.iter().map(|plan| (plan.plan.plan.clone(), plan.wanted_version)).collect(),
        strategy: offer.strategy.clone(),
        ways: there(settings, &offer.access_order),
        preview_applications: offer.preview_applications.clone(),
    });
    EngineConfig {
        policy: Policy {
            ways: there(settings, &DEFAULT_ORDER),
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
        // As many as have a place for the call: where the store takes no longer than Azure, these stay filled.
        posts_prepared: settings.arm.max_concurrency,
        place_patience: step::PLACE,
        // So many more than places for calls that these stay filled while the store works.
        looks_at_once: settings.arm.max_concurrency + 128,
    }
}
