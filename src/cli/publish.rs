//! `permafresh publish`: announces an offer publish, as a pipeline would after Partner Center has published.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{ApiClient, BodyFormat, ServiceArgs};
use super::failure::{Exit, Failure};
use super::rollout::ReportFormat;
use super::watch::Watcher;
use super::{dry_run, output, watch};
use crate::functions::BODY_LIMIT;
use crate::functions::wire::api::PublishRequest;
use crate::rollout::lint::AllowedActions;
use crate::rollout::{ApplicationId, Strategy, Version};

const EXAMPLES: &str = "\
Examples:
  permafresh publish --publisher fabrikam --offer ledger --plan standard \\
      --version 1.4.0 --target live --watch
  permafresh publish --publisher fabrikam --offer ledger --plan standard \\
      --version 1.4.0 --target live \\
      --strategy '{\"canaries\": 2, \"waves\": [\"10%\", \"100%\"], \"maxFailures\": \"2%\"}'
  permafresh publish --publisher fabrikam --offer ledger --plan standard \\
      --version 1.4.0 --target live --dry-run
  permafresh publish --publisher fabrikam --offer ledger --plan standard \\
      --version 1.3.2 --target live --purpose repair --note 'back to the last good version'";

/// Announce that a version was published: starts a rollout, once
///
/// Prints the id of the rollout. The same publish announced again starts nothing and prints the id of the first rollout.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    /// Publisher id, as in Partner Center
    #[arg(long)]
    publisher: String,
    /// Offer id
    #[arg(long)]
    offer: String,
    /// Plan id
    #[arg(long)]
    plan: String,
    /// Package version, such as 1.4.0
    #[arg(long)]
    version: Version,
    /// How far the version has come in Partner Center
    #[arg(long)]
    target: TargetWord,
    /// Who is to have it [default: preview for the target preview, all for live]
    #[arg(long)]
    audience: Option<AudienceWord>,
    /// Why it is brought out [default: rollOut]
    #[arg(long)]
    purpose: Option<PurposeWord>,
    /// How it is brought out, as JSON [default: the strategy of the offer]
    #[arg(long, value_name = "JSON", value_parser = strategy)]
    strategy: Option<Value>,
    /// Only this deployment; may be given several times
    #[arg(long, value_name = "APPLICATION-ID")]
    scope: Vec<ApplicationId>,
    /// Take the place of a rollout of another version that is on its way
    #[arg(long)]
    supersede: bool,
    /// Why, in your words
    #[arg(long)]
    note: Option<String>,
    /// File with the actions that the version allows, for the lint: see `permafresh lint --help`
    #[arg(long, value_name = "FILE")]
    actions: Option<PathBuf>,
    /// Partner Center's id of the submission
    #[arg(long, value_name = "ID")]
    submission_id: Option<String>,
    /// Say who would be called, with which version, and who would be skipped and why; start nothing
    #[arg(long, conflicts_with_all = ["watch", "json"])]
    dry_run: bool,
    /// Form of the dry run; JSON and CSV are the service's own
    #[arg(long, requires = "dry_run", default_value = "text")]
    format: ReportFormat,
    /// Watch the rollout until it ends or stops
    #[arg(long)]
    watch: bool,
    /// Print the answer of the service as JSON; with --watch one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetWord {
    /// Publisher sign-off
    Preview,
    /// In the Marketplace
    Live,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AudienceWord {
    /// Preview purchases and the canaries
    Preview,
    /// Every deployment of the plan
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "camelCase")]
enum PurposeWord {
    /// A new version
    RollOut,
    /// An older, known-good version on purpose
    Repair,
    /// The permissions were published back: recorded, refreshes nobody unless asked
    Restore,
}

/// Checked here, so that a mistake is shown before anything is sent; sent as it was written.
pub(super) fn strategy(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Strategy>(text)?;
    serde_json::from_str(text)
}

fn word(value: impl ValueEnum) -> Option<Value> {
    Some(Value::from(value.to_possible_value()?.get_name()))
}

impl PublishArgs {
    fn request(&self, expected: Option<Value>) -> PublishRequest {
        let text = |text: &String| Some(Value::from(text.as_str()));
        PublishRequest {
            publisher: text(&self.publisher),
            offer: text(&self.offer),
            plan: text(&self.plan),
            version: Some(self.version.to_string().into()),
            target: word(self.target),
            audience: self.audience.and_then(word),
            submission_id: self.submission_id.as_ref().and_then(text),
            published_at: None,
            purpose: self.purpose.and_then(word),
            supersede: self.supersede.then_some(Value::Bool(true)),
            strategy: self.strategy.clone(),
            scope: (!self.scope.is_empty()).then(|| json!({ "applicationIds": self.scope })),
            note: self.note.as_ref().and_then(text),
            expected,
            unknown: Default::default(),
        }
    }
}

/// Announces the publish; with `--watch`, until the rollout ends or stops.
pub async fn run(args: PublishArgs) -> Result<Exit, Failure> {
    let client = ApiClient::new(&args.service)?;
    let expected = args.actions.as_deref().map(super::lint::actions_in).transpose()?;
    let expected = expected
        .map(|AllowedActions { control, data }| json!({"allowedCustomerActions": control, "allowedDataActions": data}));
    if args.dry_run {
        return dry_run(&client, &args, expected).await;
    }
    let accepted = client.publish(&args.request(expected)).await?;
    if let Some(first) = accepted.duplicate_of {
        output::say(&format!("this publish is known already: rollout {first} brings it out"));
    }
    let watcher = if args.json { Watcher::Program } else { Watcher::Person };
    if args.json && args.watch {
        output::print_json_line(&json!({"event": "accepted", "accepted": accepted}))?;
    } else if args.json {
        output::print_json(&accepted)?;
    } else {
        output::print(&format!("{}\n", accepted.rollout_id))?;
    }
    if args.watch {
        return watch::to_the_end(&client, accepted.rollout_id, Duration::from_secs(1), watcher).await.map_err(
            |failure| Failure { error: failure.error.context("the rollout was started, but not watched"), ..failure },
        );
    }
    output::say(&format!("watch it with: permafresh rollout watch {}", accepted.rollout_id));
    Ok(Exit::Success)
}

async fn dry_run(client: &ApiClient, args: &PublishArgs, expected: Option<Value>) -> Result<Exit, Failure> {
    let request = args.request(expected);
    let format = match args.format {
        ReportFormat::Text => {
            output::print(&dry_run::text(&client.dry_run(&request).await?))?;
            return Ok(Exit::Success);
        }
        ReportFormat::Json => BodyFormat::Json,
        ReportFormat::Csv => BodyFormat::Csv,
    };
    output::print_document(&client.dry_run_document(&request, format).await?)?;
    Ok(Exit::Success)
}

/// Reads a whole file, or stdin for `-`.
pub(super) fn read_input(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let is_stdin = path.as_os_str() == "-";
    let mut bytes = Vec::new();
    let most = BODY_LIMIT as u64 + 1;
    let read = match is_stdin {
        true => std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("cannot read stdin"),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", path.display())),
    };
    read.map_err(|error| Failure::new(error, "check the path and its rights"))?;
    if bytes.len() > BODY_LIMIT {
        let error = anyhow::anyhow!("{} has more than {} MiB", path.display(), BODY_LIMIT / 1024 / 1024);
        return Err(Failure::new(error, "send it in parts"));
    }
    Ok(bytes)
}
