//! `permafresh deployments …`: the registry of deployments from a terminal.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{ApiClient, BodyFormat, ClientError, ServiceArgs};
use super::failure::{Exit, Failure};
use super::plain_text::{counted, plain, table};
use super::{output, standing};
use crate::functions::wire::api::DeploymentView;
use crate::rollout::sighting::Discovery;
use crate::rollout::{ApplicationId, DeploymentKey, Timestamp, Version};

const IMPORT_HELP: &str = "\
Columns: applicationId (required), publisher, offer, plan, version, preview, tenantId,
managedResourceGroupId and location; others are ignored. Rows that are wrong are rejected one by one; the others are taken.

Examples:
  permafresh deployments import deployments.csv
  az managedapp list --query '[].{applicationId: id}' |
      permafresh deployments import - --format json";

const EXPORT_HELP: &str = "\
What is gone is left out. In CSV a cell that a spreadsheet would run begins with an apostrophe, which an import takes away.

Examples:
  permafresh deployments export deployments.csv
  permafresh deployments export --format json | jq -r '.[].applicationId'";

const SYNC_HELP: &str = "\
The service looks through all that its identity can see: subscriptions, Azure Resource Graph, the applications of each
subscription, and who manages its resource groups. What is new is registered. What is missing is read once more, and only
Azure's answer that it is not there counts as gone. It does so daily by itself.

Examples:
  permafresh deployments sync --dry-run
  permafresh deployments sync --dry-run --json | jq '.differences[] | select(.difference == \"missing\")'";

/// How often a run is looked at while it goes on.
const SYNC_LOOK: Duration = Duration::from_secs(1);

/// What to do with deployments.
#[derive(Debug, Subcommand)]
pub enum DeploymentsCommand {
    /// List the deployments that are known
    #[command(after_help = "Examples:\n  permafresh deployments list --offer ledger --plan standard")]
    List {
        /// Only those of this publisher
        #[arg(long)]
        publisher: Option<String>,
        /// Only those of this offer
        #[arg(long)]
        offer: Option<String>,
        /// Only those of this plan
        #[arg(long)]
        plan: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Show one deployment: what it has and should have, what its refreshes came to, and who has to act
    #[command(
        after_help = "Examples:\n  permafresh deployments show APPLICATION-ID\n  permafresh deployments show APPLICATION-ID --json | jq -r '.latestRefresh.error.message'"
    )]
    Show {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Import deployments from CSV or JSON
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// File to read, or - for stdin
        file: PathBuf,
        /// Form of the file [default: by its extension]
        #[arg(long)]
        format: Option<FileFormat>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Export the deployments as CSV or JSON, in the form that an import takes
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// File to write, or - for stdout
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Form of the file [default: by its extension, else CSV]
        #[arg(long)]
        format: Option<FileFormat>,
        /// Only those of this publisher; with --offer and --plan
        #[arg(long, requires_all = ["offer", "plan"])]
        publisher: Option<String>,
        /// Only those of this offer
        #[arg(long, requires_all = ["publisher", "plan"])]
        offer: Option<String>,
        /// Only those of this plan
        #[arg(long, requires_all = ["publisher", "offer"])]
        plan: Option<String>,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Look for deployments in Azure, and for those that are gone
    #[command(after_help = SYNC_HELP)]
    Sync {
        /// Only say what differs; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Put a deployment on hold: rollouts skip it until it is released
    #[command(
        after_help = "Examples:\n  permafresh deployments hold APPLICATION-ID --why 'change freeze' --until 2026-04-01T00:00:00Z"
    )]
    Hold {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Why, for those who find the hold
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Until when, RFC 3339; without it until it is released
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// Print the deployment as JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Release a deployment from its hold
    #[command(after_help = "Examples:\n  permafresh deployments release APPLICATION-ID --why 'the freeze is over'")]
    Release {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Print the deployment as JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Record that the customer has run the command that was handed over
    ///
    /// Nothing tells us of that: only where Azure then shows another version is it seen without this. The result is told as
    /// somebody's word, and the audit list says whose.
    #[command(
        after_help = "Examples:\n  permafresh deployments refreshed APPLICATION-ID --version 1.5.0 --why 'ticket 4711'"
    )]
    Refreshed {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// The version [default: the one that was handed over last]
        #[arg(long)]
        version: Option<Version>,
        /// How that is known
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Print the deployment as JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Forget a deployment; a notification or a sync finds it again if it still exists
    #[command(after_help = "Examples:\n  permafresh deployments forget APPLICATION-ID")]
    Forget {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// The form of an import or an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// A head and one line per deployment
    Csv,
    /// An array of objects
    Json,
}

/// How a deployment is named on the command line.
#[derive(Clone, Debug)]
pub struct DeploymentRef(DeploymentKey);

impl DeploymentRef {
    /// Its key.
    pub fn key(&self) -> &DeploymentKey {
        &self.0
    }
}

impl FromStr for DeploymentRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(key) = text.parse() {
            return Ok(Self(key));
        }
        let id: ApplicationId =
            text.parse().map_err(|error| format!("neither a key of 64 hex digits, nor an id: {error}"))?;
        Ok(Self(id.key()))
    }
}

/// Does one of the commands.
pub async fn run(command: DeploymentsCommand) -> Result<Exit, Failure> {
    match command {
        DeploymentsCommand::List { publisher, offer, plan, json, service } => {
            let wanted = [("publisher", publisher), ("offer", offer), ("plan", plan)];
            list(&ApiClient::new(&service)?, &wanted, json).await
        }
        DeploymentsCommand::Show { deployment: DeploymentRef(key), json, service } => {
            let action = "show the deployment";
            let shown: Value = ApiClient::new(&service)?.get(action, &format!("/api/deployments/{key}")).await?;
            if json {
                output::print_json(&shown)?;
                return Ok(Exit::Success);
            }
            output::print(&standing::standing(&understood(shown, action)?))?;
            Ok(Exit::Success)
        }
        DeploymentsCommand::Import { file, format, json, service } => {
            let format = format.or_else(|| by_extension(&file)).ok_or_else(|| {
                Failure::new(
                    anyhow::anyhow!("cannot tell whether {} is CSV or JSON", file.display()),
                    "give --format csv or --format json",
                )
                .exit(Exit::Usage)
            })?;
            import(&ApiClient::new(&service)?, &file, format, json).await
        }
        DeploymentsCommand::Hold { deployment: DeploymentRef(key), why, until, json, service } => {
            let path = format!("/api/deployments/{key}/hold");
            let body = json!({"why": why, "until": until});
            let held: Value = ApiClient::new(&service)?.post("hold the deployment", &path, &body).await?;
            changed(held, "hold the deployment", json, standing::state)
        }
        DeploymentsCommand::Release { deployment: DeploymentRef(key), why, json, service } => {
            let path = format!("/api/deployments/{key}/release");
            let body = why.map_or_else(|| json!({}), |why| json!({"why": why}));
            let released: Value = ApiClient::new(&service)?.post("release the deployment", &path, &body).await?;
            changed(released, "release the deployment", json, |_| "released".to_owned())
        }
        DeploymentsCommand::Refreshed { deployment: DeploymentRef(key), version, why, json, service } => {
            let path = format!("/api/deployments/{key}/refreshed");
            let body = json!({"version": version, "why": why});
            let action = "record the customer's run";
            let refreshed: Value = ApiClient::new(&service)?.post(action, &path, &body).await?;
            changed(refreshed, action, json, |view| {
                let version = view.applied.as_ref().map(|applied| format!(" to {}", applied.version));
                format!("refreshed{} by the customer", version.unwrap_or_default())
            })
        }
        DeploymentsCommand::Export { file, format, publisher, offer, plan, service } => {
            let format = body_format(format.or_else(|| by_extension(&file)).unwrap_or(FileFormat::Csv));
            let wanted = [("publisher", publisher), ("offer", offer), ("plan", plan)];
            let query: String = wanted
                .iter()
                .filter_map(|(name, value)| {
                    Some(format!("&{name}={}", utf8_percent_encode(value.as_deref()?, NON_ALPHANUMERIC)))
                })
                .collect();
            export(&ApiClient::new(&service)?, &file, format, &query).await
        }
        DeploymentsCommand::Sync { dry_run, json, service } => sync(&ApiClient::new(&service)?, dry_run, json).await,
        DeploymentsCommand::Forget { deployment: DeploymentRef(key), json, service } => {
            ApiClient::new(&service)?.forget(key.as_str()).await?;
            if json {
                output::print_json(&json!({"key": key, "forgotten": true}))?;
            } else {
                output::say("forgotten");
            }
            Ok(Exit::Success)
        }
    }
}

async fn list(client: &ApiClient, wanted: &[(&str, Option<String>)], json: bool) -> Result<Exit, Failure> {
    let action = "list the deployments";
    // The service looks for whole plans only; what names less is chosen here.
    let query: Option<Vec<_>> = wanted
        .iter()
        .map(|(name, value)| Some(format!("{name}={}", utf8_percent_encode(value.as_deref()?, NON_ALPHANUMERIC))))
        .collect();
    let values = match query {
        Some(query) => client.list(action, &format!("/api/deployments?{}", query.join("&")), usize::MAX).await?,
        None => {
            let mut values: Vec<Value> = client.list(action, "/api/deployments", usize::MAX).await?;
            values.retain(|value| {
                let is = |name: &str, wanted: &str| {
                    value[name].as_str().is_some_and(|word| word.eq_ignore_ascii_case(wanted))
                };
                wanted.iter().all(|(name, wanted)| wanted.as_deref().is_none_or(|wanted| is(name, wanted)))
            });
            values
        }
    };
    if json {
        output::print_json(&values)?;
        return Ok(Exit::Success);
    }
    if values.is_empty() {
        output::say("no such deployment is known; import some with `permafresh deployments import`");
        return Ok(Exit::Success);
    }
    let deployments: Vec<DeploymentView> = understood(Value::Array(values), action)?;
    let rows: Vec<_> = deployments.iter().map(row).collect();
    output::print(&table(["APPLICATION", "PLAN", "REFRESHED TO", "STATE"], &rows))?;
    Ok(Exit::Success)
}

fn row(deployment: &DeploymentView) -> [String; 4] {
    let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
    let preview = if deployment.preview { " (preview)" } else { "" };
    [
        deployment.application_id.to_string(),
        format!("{}/{}/{}{preview}", part(&deployment.publisher), part(&deployment.offer), part(&deployment.plan)),
        deployment.applied.as_ref().map_or_else(|| "-".to_owned(), |applied| applied.version.to_string()),
        standing::state(deployment),
    ]
}

/// A deployment that was changed: whole for a program, in a line for a person.
fn changed(
    deployment: Value,
    action: &'static str,
    json: bool,
    says: impl Fn(&DeploymentView) -> String,
) -> Result<Exit, Failure> {
    if json {
        output::print_json(&deployment)?;
        return Ok(Exit::Success);
    }
    let view: DeploymentView = understood(deployment, action)?;
    output::print(&format!("{}: {}\n", view.application_id, says(&view)))?;
    Ok(Exit::Success)
}

/// An answer of the service as what it is of.
fn understood<T: DeserializeOwned>(answer: Value, action: &'static str) -> Result<T, ClientError> {
    serde_json::from_value(answer).map_err(|error| ClientError::Unreadable { action, reason: error.to_string() })
}

async fn import(client: &ApiClient, file: &Path, format: FileFormat, json: bool) -> Result<Exit, Failure> {
    let bytes = super::publish::read_input(file)?;
    let result = client.import(bytes, body_format(format)).await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { error: failure.error.context(format!("cannot import {}", file.display())), ..failure }
    })?;
    let rejected = result.rejected.len() as u64;
    if json {
        output::print_json(&result)?;
    } else {
        output::print(&format!("imported {}, updated {}, rejected {rejected}\n", result.imported, result.updated))?;
    }
    if rejected == 0 {
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = result.rejected.into_iter().map(|row| [row.line.to_string(), row.why]).collect();
    if !json {
        output::print(&table(["LINE", "WHY"], &rows))?;
    }
    let error = anyhow::anyhow!(
        "{} rejected",
        if rejected == 1 { "1 row was".to_owned() } else { format!("{} were", counted(rejected, "row")) }
    );
    Err(Failure::new(
        error,
        "correct these lines and import again; what was taken stays, and taking it twice changes nothing",
    ))
}

fn body_format(format: FileFormat) -> BodyFormat {
    match format {
        FileFormat::Csv => BodyFormat::Csv,
        FileFormat::Json => BodyFormat::Json,
    }
}

/// A file gets its name only once it is whole.
async fn export(client: &ApiClient, file: &Path, format: BodyFormat, query: &str) -> Result<Exit, Failure> {
    if file == Path::new("-") {
        let mut seen = Vec::new();
        let is_seen = output::is_seen();
        client
            .export(format, query, |piece| {
                if is_seen {
                    seen.extend_from_slice(piece);
                    return Ok(());
                }
                output::print_piece(piece)
            })
            .await?;
        if is_seen {
            output::print_document(&String::from_utf8_lossy(&seen))?;
        }
        return Ok(Exit::Success);
    }
    let unwritten = |error: std::io::Error| {
        let error = anyhow::Error::from(error).context(format!("cannot write {}", file.display()));
        Failure::new(error, "check that the folder exists and may be written to")
    };
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = async {
        let mut out = std::io::BufWriter::new(std::fs::File::create(&unfinished).map_err(unwritten)?);
        client.export(format, query, |piece| out.write_all(piece).map_err(unwritten)).await?;
        out.into_inner().map_err(|error| unwritten(error.into_error()))?.sync_all().map_err(unwritten)?;
        std::fs::rename(&unfinished, file).map_err(unwritten)
    };
    let written = written.await;
    if written.is_err() {
        // What is left of it is of no use; that it cannot be removed either says nothing new.
        let _ = std::fs::remove_file(&unfinished);
    }
    written?;
    output::say(&format!("written to {}", file.display()));
    Ok(Exit::Success)
}

/// Begins a run and waits for its end.
async fn sync(client: &ApiClient, dry_run: bool, json: bool) -> Result<Exit, Failure> {
    let mut run = client.start_sync(dry_run).await?;
    let id = run.id.clone();
    let (mut state, mut waits) = (String::new(), None);
    while run.ended_at.is_none() {
        if run.state != state {
            output::say(&format!("{}: {} found so far", run.state, counted(run.counts.found, "deployment")));
            state.clone_from(&run.state);
        }
        if run.waits != waits {
            if let Some(waits) = &run.waits {
                output::say(&format!("it tries again at {}: {}", waits.until.format("%H:%M:%SZ"), plain(&waits.why)));
            }
            waits.clone_from(&run.waits);
        }
        tokio::time::sleep(SYNC_LOOK).await;
        run = client.get("look at the sync", "/api/deployments/sync").await?;
        if run.id != id {
            let error = anyhow::anyhow!("another sync has begun meanwhile");
            return Err(Failure::new(error, "look at that one with GET /api/deployments/sync"));
        }
    }
    for problem in &run.problems {
        output::say(&format!("warning: {}", plain(problem)));
    }
    if json {
        output::print_json(&run)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = run.differences.iter().map(|of| [of.application_id.to_string(), what(&of.discovery)]).collect();
    if !rows.is_empty() {
        output::print(&table(["APPLICATION", "DIFFERENCE"], &rows))?;
    }
    let counts = run.counts;
    output::print(&format!(
        "{} found in {}: {} new, {} back, {} changed, {} missing\n",
        counted(counts.found, "deployment"),
        counted(counts.subscriptions, "subscription"),
        counts.new,
        counts.back,
        counts.changed,
        counts.missing
    ))?;
    Ok(Exit::Success)
}

fn what(discovery: &Discovery) -> String {
    match discovery {
        Discovery::New => "new".to_owned(),
        Discovery::Back => "back: it was taken for gone".to_owned(),
        Discovery::Changed { members } => format!("changed: {}", members.join(", ")),
        Discovery::Missing => "missing: in none of Azure's lists".to_owned(),
    }
}

fn by_extension(file: &Path) -> Option<FileFormat> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some(FileFormat::Csv),
        "json" => Some(FileFormat::Json),
        _ => None,
    }
}
