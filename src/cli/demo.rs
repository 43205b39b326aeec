//! `permafresh demo`: the whole loop on one machine, with Azure simulated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{ApiClient, ServiceArgs};
use super::failure::{Exit, Failure};
use super::gdap_demo::SimulatedGdap;
use super::jit_demo::Customers;
use super::local::{self, LocalService};
use super::partner_demo::SimulatedPartnerCenter;
use super::watch::Watcher;
use super::{output, summary, watch};
use crate::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome, Reply, Simulator, SimulatorConfig};
use crate::functions::wire::api::{DeploymentRow, PublishRequest, RolloutWord};
use crate::host::LineSink;
use crate::rollout::counted::{times, were};
use crate::rollout::{ApplicationId, counted};
use crate::settings;
use crate::telemetry::{self, Reader};

/// What to do when the demo does not go as it should.
const LOOK_CLOSER: &str = "run it again with --verbose and look at the log";
/// The version that every deployment has at first.
pub(super) const DEPLOYED: &str = "1.4.0";
/// The version that is published.
pub(super) const PUBLISHED: &str = "1.5.0";
/// An action that does not exist as a control action.
pub(super) const BAD_ACTION: &str = "Microsoft.KeyVault/vaults/secrets/getSecret/action";

const EXAMPLES: &str = "\
Examples:
  permafresh demo
  permafresh demo --bad-permission
  permafresh demo --watch
  permafresh demo --jit
  permafresh demo --gdap
  permafresh demo --deployments 1000 --throttle
  permafresh demo --keep        # and look at the dashboard for as long as you like";

/// See it work: publishes a version to some hundred simulated deployments
///
/// Needs nothing: Azure Resource Manager is simulated, everything else is the real service, on this machine and in a
/// temporary folder that is removed at the end. A few refreshes are throttled and a few fail, each in another way.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Publish a version whose permissions name an action that does not exist
    #[arg(long)]
    pub bad_permission: bool,
    /// Have Azure throttle much more often
    #[arg(long)]
    pub throttle: bool,
    /// Publish in a simulated Partner Center only, and let the service find it there
    #[arg(long)]
    pub watch: bool,
    /// Give some customers just-in-time access, so that refreshes wait for their approval
    #[arg(long, conflicts_with = "bad_permission")]
    pub jit: bool,
    /// Have one customer whose tenant has to consent first: its refresh waits for that, and goes on
    #[arg(long, conflicts_with_all = ["watch", "bad_permission", "jit"])]
    pub gdap: bool,
    /// How many deployments; with --gdap at least 2
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub deployments: u32,
    /// Port of the service; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Go on serving the dashboard after the rollout's end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Show the log of the service
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs the demo to its end. Failed refreshes are a part of it, so they do not make the command fail.
pub async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    telemetry::start(Reader::Command, None);
    let folder = tempfile::tempdir()
        .context("cannot make a temporary folder")
        .map_err(|error| Failure::new(error, "check the free space and the rights of the temporary folder"))?;
    // Listened for before anything is started, so that no moment is left in which a signal would leave something behind.
    let interrupted = interruption()?;
    let azure = SimulatedAzure::start(&args).await?;
    let service = service(&args, folder.path(), &azure)?;
    let sink = match args.verbose {
        true => LineSink::new(|line| output::say(line.text)),
        false => LineSink::new(|_| {}),
    };
    let host = local::start_host(&service, sink).await?;
    tokio::pin!(interrupted);
    let mut played = tokio::select! {
        played = play(&args, &service, host.local_addr().port(), &azure) => played,
        reason = host.stopped() => Err(Failure::new(anyhow::anyhow!("the host stopped: {reason}"), LOOK_CLOSER)),
        () = &mut interrupted => Err(Failure::new(anyhow::anyhow!("the demo was interrupted"), "nothing of it is left; run it again at any time")),
    };
    if played.is_ok() && args.keep {
        output::say("The dashboard stays until you press Ctrl-C. From another terminal:");
        let (port, key) = (host.local_addr().port(), service.keys.first().map_or("", |key| key.expose()));
        output::say(&format!("  export PERMAFRESH_URL=http://127.0.0.1:{port} PERMAFRESH_KEY={key}"));
        output::say("  permafresh rollout list");
        played = tokio::select! {
            reason = host.stopped() => Err(Failure::new(anyhow::anyhow!("the host stopped: {reason}"), LOOK_CLOSER)),
            () = &mut interrupted => Ok(()),
        };
    }
    host.shutdown(Duration::from_secs(2)).await;
    played.map(|()| Exit::Success)
}

/// Resolves at Ctrl-C, or when the process is asked to end.
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind)
            .context("cannot listen for the signal to end")
            .map_err(|error| Failure::new(error, "start it again"))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Imports, publishes, watches, sums up.
async fn play(args: &DemoArgs, service: &LocalService, port: u16, azure: &SimulatedAzure) -> Result<(), Failure> {
    let client = ApiClient::new(&ServiceArgs {
        url: format!("http://127.0.0.1:{port}"),
        key: service.keys.first().cloned(),
        key_file: None,
    })?;
    output::say("A version was published, and the deployments that customers run do not have its permissions yet.\n");
    output::say(&format!("  Azure        simulated, at {}", azure.simulator.endpoint()));
    output::say(&format!("  the service  the real one, at {}", client.url()));
    local::say_dashboard(&service.settings, port);
    if let Some(key) = &service.settings.dashboard.key {
        output::say(&format!("  its key      {}", key.expose()));
    }
    let imported = client.import_rows(&azure.rows()).await?.imported;
    output::say(&format!("  registered   {}, every one with version {DEPLOYED}", counted(imported, "deployment")));
    let rollout_id = match &azure.partner_center {
        Some(partner_center) => partner_center.publish_and_wait(&client).await?,
        None => {
            let rollout_id = client.publish(&publish()).await?.rollout_id;
            output::say(&format!("  published    version {PUBLISHED}, which starts rollout {rollout_id}"));
            rollout_id
        }
    };
    let again = client.publish(&publish()).await?;
    if again.duplicate_of == Some(rollout_id) {
        output::say("  once more    the same publish: known already, so nothing starts twice");
    }
    output::say("");
    let watching = watch::until_it_rests(&client, rollout_id, Duration::from_millis(250), Watcher::Person);
    let resting = async {
        match &azure.gdap {
            Some(gdap) => Ok(tokio::try_join!(watching, gdap.consent(&client, rollout_id))?.0),
            None => watching.await,
        }
    };
    let ended = tokio::select! {
        ended = resting => ended?,
        never = azure.customers.decide(&azure.simulator) => match never {},
    };
    output::say("");
    let refreshes = watch::needing_attention(&client, rollout_id).await?;
    output::print(&summary::summary(&ended, &refreshes))?;
    output::print(&azure.seen())?;
    let ended_as_planned = match args.bad_permission {
        true => ended.state == RolloutWord::Halted,
        false => ended.state == RolloutWord::Completed,
    };
    if ended_as_planned {
        return Ok(());
    }
    let error = anyhow::anyhow!("the rollout ended {}, which the demo does not expect", ended.state.in_words());
    Err(Failure::new(error, LOOK_CLOSER))
}

fn publish() -> PublishRequest {
    let text = |text: &str| Some(text.into());
    PublishRequest {
        publisher: text("fabrikam"),
        offer: text("ledger"),
        plan: text("standard"),
        version: text(PUBLISHED),
        target: text("live"),
        note: text("lets customers join their own network"),
        ..PublishRequest::default()
    }
}

/// The service as `permafresh local` would run it, with settings that name nothing outside this machine.
fn service(args: &DemoArgs, folder: &Path, azure: &SimulatedAzure) -> Result<LocalService, Failure> {
    let key = uuid::Uuid::new_v4().simple().to_string();
    let endpoint = azure.simulator.endpoint().as_str().trim_end_matches('/');
    let store = format!("sqlite:{}", folder.join("permafresh.db").display());
    let own = [
        ("STATE_STORE", store.as_str()),
        ("ARM_ENDPOINT", endpoint),
        ("ARM_AUDIENCE", "https://management.azure.com"),
        ("IDENTITY_ENDPOINT", &azure.simulator.identity_endpoint()),
        ("IDENTITY_HEADER", azure.simulator.identity_header()),
        ("POLL_SCHEDULE", "*/1 * * * * *"),
        ("LOCAL_FUNCTION_KEYS", &key),
        ("DASHBOARD_KEY", &uuid::Uuid::new_v4().simple().to_string()),
        ("MODE", "act"),
    ];
    // Whoever runs the demo may have settings of their own, an identity among them; those are not for a simulator.
    let absent = settings::ALL.iter().map(|setting| setting.name).chain(["WEBSITE_INSTANCE_ID"]);
    let mut values: BTreeMap<String, String> = absent.map(|name| (name.to_owned(), String::new())).collect();
    values.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(partner_center) = &azure.partner_center {
        values.extend(partner_center.settings());
    }
    values.extend(azure.customers.settings());
    if let Some(gdap) = &azure.gdap {
        values.extend(gdap.settings());
    }
    local::built_in(values, args.port)
}

/// Azure for the length of a demo.
struct SimulatedAzure {
    simulator: Arc<Simulator>,
    applications: Vec<ApplicationId>,
    partner_center: Option<SimulatedPartnerCenter>,
    customers: Customers,
    gdap: Option<SimulatedGdap>,
}

impl SimulatedAzure {
    async fn start(args: &DemoArgs) -> Result<Self, Failure> {
        let config = SimulatorConfig {
            latency: Duration::from_millis(20),
            operation: Duration::from_millis(2_500),
            retry_after: Some(Duration::from_secs(1)),
            ..SimulatorConfig::default()
        };
        let simulator = Simulator::start(config)
            .await
            .context("cannot start the simulated Azure")
            .map_err(|error| Failure::new(error, "check that this machine lets a program listen on 127.0.0.1"))?;
        let simulator = Arc::new(simulator);
        let count = if args.gdap { args.deployments.max(2) } else { args.deployments };
        // The order in which a rollout takes them.
        let mut applications: Vec<ApplicationId> = (0..count).map(application).collect();
        applications.sort_by_key(ApplicationId::key);
        simulator.add_applications(applications.iter().cloned().map(ApplicationSpec::new));
        let partner_center = match args.watch {
            true => Some(SimulatedPartnerCenter::start(args).await?),
            false => None,
        };
        let customers = if args.jit { Customers::of(&applications) } else { Customers::default() };
        // Not the canary, which has to prove something.
        let gdap = match applications.get(1) {
            Some(second) if args.gdap => Some(SimulatedGdap::start(&simulator, second).await?),
            _ => None,
        };
        let azure = Self { simulator, applications, partner_center, customers, gdap };
        azure.prepare(args);
        azure.customers.move_in(&azure.simulator);
        Ok(azure)
    }

    /// Gives some applications their own ways to answer: behind the first two waves, so that these show how it should be.
    fn prepare(&self, args: &DemoArgs) {
        if args.bad_permission {
            self.simulator.bad_version(PUBLISHED, BAD_ACTION);
        }
        let ending = |outcome| vec![OnPost::Accept(Acceptance::ending(outcome))];
        let harmless = [
            vec![OnPost::Reply(Reply::throttled(3))],
            vec![OnPost::Reply(Reply::forbidden())],
            vec![OnPost::Reply(Reply::throttled(3)), OnPost::Reply(Reply::unavailable(1))],
            vec![OnPost::Reply(Reply::wrong_tenant("5d0f7a10-0000-4000-8000-00000000c001"))],
            vec![OnPost::Reply(Reply::busy().with("Retry-After", 2))],
        ];
        let failing = [
            ending(Outcome::failed(
                "RequestDisallowedByPolicy",
                "The policy 'Only approved role assignments' of this tenant disallows the change.",
            )),
            ending(Outcome::failed(
                "InternalServerError",
                "The server encountered an error. Please retry after some time.",
            )),
            vec![OnPost::Reply(Reply::error(400, "InvalidTargetVersion", "The plan has no such package."))],
            ending(Outcome::canceled()),
        ];
        let behind = self.applications.len().div_ceil(10);
        // No more than the failure budget allows, or the rollout would pause.
        let odd = harmless.into_iter().chain(failing.into_iter().take((self.applications.len() - behind) / 20));
        let behind_the_second_wave = self.applications.iter().skip(behind + 5);
        for (application, scripts) in behind_the_second_wave.clone().step_by(7).zip(odd) {
            self.simulator.on_post(application, scripts);
        }
        if args.throttle {
            for application in behind_the_second_wave.skip(3).step_by(3) {
                self.simulator.on_post(application, [OnPost::Reply(Reply::throttled(3))]);
            }
        }
    }

    /// What Azure saw of the service.
    fn seen(&self) -> String {
        let stats = self.simulator.stats();
        let mut text = String::from("\n");
        let untouched =
            self.applications.iter().filter(|application| self.simulator.posts_of(application) == 0).count();
        if untouched > 0 {
            let _ =
                writeln!(text, "{} {} not touched.", counted(untouched as u64, "deployment"), were(untouched as u64));
        }
        let _ = writeln!(
            text,
            "Azure was asked {} to refresh, {} how it goes, and {} for an application; {} Azure said to wait, {}.",
            times(stats.posts),
            times(stats.polls),
            times(stats.reads),
            times(stats.waits),
            match stats.impatient_posts + stats.impatient_polls {
                0 => "and was never asked before its time".to_owned(),
                early => format!("but {} it was asked before its time", times(early)),
            }
        );
        text
    }

    fn rows(&self) -> Vec<DeploymentRow> {
        let text = |text: &str| Some(text.to_owned());
        let row = |id: &ApplicationId| DeploymentRow {
            application_id: Some(id.to_string()),
            publisher: text("fabrikam"),
            offer: text("ledger"),
            plan: text("standard"),
            version: text(DEPLOYED),
            location: text("westeurope"),
            ..DeploymentRow::default()
        };
        self.applications.iter().map(row).collect()
    }
}

/// One application in a subscription of its own.
fn application(number: u32) -> ApplicationId {
    let subscription = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, &number.to_be_bytes());
    format!("/subscriptions/{subscription}/resourceGroups/rg-apps/providers/Microsoft.Solutions/applications/ledger-{number:05}")
        .parse()
        .expect("the id is put together as the parser wants it")
}
