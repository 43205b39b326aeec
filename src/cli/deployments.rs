//! `permafresh deployments …`: the registry of deployments from a terminal.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::{ApiClient, BodyFormat, ServiceArgs};
use super::failure::{Exit, Failure};
use super::output;
use super::plain_text::{counted, plain, table};
use crate::functions::wire::api::DeploymentView;
use crate::rollout::{ApplicationId, DeploymentKey, Hold, Timestamp};

const IMPORT_HELP: &str = "\
Columns: applicationId (required), publisher, offer, plan, version, preview, tenantId,
managedResourceGroupId and location; others are ignored. Rows that are wrong are rejected one by one; the others are taken.

Examples:
  permafresh deployments import deployments.csv
  az managedapp list --query '[].{applicationId: id}' |
      permafresh deployments import - --format json";

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
    /// Import deployments from CSV or JSON
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// File to read, or - for stdin
        file: PathBuf,
        /// Form of the file [default: by its extension]
        #[arg(long)]
        format: Option<ImportFormat>,
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
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Release a deployment from its hold
    Release {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Forget a deployment; a notification or a sync finds it again if it still exists
    Forget {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// The form of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A head and one line per deployment
    Csv,
    /// An array of objects
    Json,
}

/// How a deployment is named on the command line.
#[derive(Clone, Debug)]
pub struct DeploymentRef(DeploymentKey);

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
        DeploymentsCommand::Import { file, format, service } => {
            let format = format.or_else(|| by_extension(&file)).ok_or_else(|| {
                Failure::new(
                    anyhow::anyhow!("cannot tell whether {} is CSV or JSON", file.display()),
                    "give --format csv or --format json",
                )
                .exit(Exit::Usage)
            })?;
            import(&ApiClient::new(&service)?, &file, format).await
        }
        DeploymentsCommand::Hold { deployment: DeploymentRef(key), why, until, service } => {
            let path = format!("/api/deployments/{key}/hold");
            let body = serde_json::json!({"why": why, "until": until});
            let held: DeploymentView = ApiClient::new(&service)?.post("hold the deployment", &path, &body).await?;
            output::print(&format!("{}: {}\n", held.application_id, state(&held)))?;
            Ok(Exit::Success)
        }
        DeploymentsCommand::Release { deployment: DeploymentRef(key), why, service } => {
            let path = format!("/api/deployments/{key}/release");
            let body = why.map_or_else(|| serde_json::json!({}), |why| serde_json::json!({"why": why}));
            let released: DeploymentView =
                ApiClient::new(&service)?.post("release the deployment", &path, &body).await?;
            output::print(&format!("{}: released\n", released.application_id))?;
            Ok(Exit::Success)
        }
        DeploymentsCommand::Forget { deployment: DeploymentRef(key), service } => {
            ApiClient::new(&service)?.forget(key.as_str()).await?;
            output::say("forgotten");
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
    let deployments: Vec<DeploymentView> = serde_json::from_value(Value::Array(values))
        .map_err(|error| super::client::ClientError::Unreadable { action, reason: error.to_string() })?;
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
        state(deployment),
    ]
}

fn state(deployment: &DeploymentView) -> String {
    let state = match &deployment.provisioning_state {
        _ if deployment.gone_since.is_some() => "gone".to_owned(),
        _ if !deployment.confirmed => "unconfirmed".to_owned(),
        Some(state) => state.clone(),
        None => "known".to_owned(),
    };
    match &deployment.hold {
        Some(Hold { until: Some(until), why, .. }) => {
            format!("on hold until {}: {}", until.format("%Y-%m-%d %H:%M:%SZ"), plain(why))
        }
        Some(Hold { until: None, why, .. }) => format!("on hold: {}", plain(why)),
        None => state,
    }
}

async fn import(client: &ApiClient, file: &Path, format: ImportFormat) -> Result<Exit, Failure> {
    let bytes = super::publish::read_input(file)?;
    let format = match format {
        ImportFormat::Csv => BodyFormat::Csv,
        ImportFormat::Json => BodyFormat::Json,
    };
    let result = client.import(bytes, format).await?;
    let rejected = result.rejected.len() as u64;
    output::print(&format!("imported {}, updated {}, rejected {rejected}\n", result.imported, result.updated))?;
    if rejected == 0 {
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = result.rejected.into_iter().map(|row| [row.line.to_string(), row.why]).collect();
    output::print(&table(["LINE", "WHY"], &rows))?;
    let error = anyhow::anyhow!(
        "{} rejected",
        if rejected == 1 { "1 row was".to_owned() } else { format!("{} were", counted(rejected, "row")) }
    );
    Err(Failure::new(
        error,
        "correct these lines and import again; what was taken stays, and taking it twice changes nothing",
    ))
}

fn by_extension(file: &Path) -> Option<ImportFormat> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some(ImportFormat::Csv),
        "json" => Some(ImportFormat::Json),
        _ => None,
    }
}
