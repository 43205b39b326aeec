//! `permafresh rollout repair`: back to an older version, the last good one or a named one, after showing what it would do.
//!
//! It does nothing that `POST /api/rollouts` with the purpose `repair` would not do; what it adds is the look at
//! `last-good`, and the question.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::ApiClient;
use super::failure::{Exit, Failure};
use super::rollout::One;
use super::watch::Watcher;
use super::{dry_run, output, watch};
use crate::functions::wire::api::{LastGoodView, PublishRequest, RolloutView};
use crate::rollout::{ApplicationId, RolloutId, Version, counted};

/// What to repair, and how.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Which rollout to get away from.
    #[command(flatten)]
    one: One,
    /// Go back to the version that most deployments last succeeded with, besides the rollout's own
    #[arg(long, required_unless_present = "version", conflicts_with = "version")]
    last_good: bool,
    /// Go back to this version
    #[arg(long)]
    version: Option<Version>,
    /// Only this deployment; may be given several times. The wanted version stays as it is then
    #[arg(long, value_name = "APPLICATION-ID")]
    scope: Vec<ApplicationId>,
    /// How it is brought out, as JSON [default: the strategy of the offer]
    #[arg(long, value_name = "JSON", value_parser = super::publish::strategy)]
    strategy: Option<Value>,
    /// Why, in your words
    #[arg(long)]
    note: Option<String>,
    /// Say what it would do, and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Watch the repair until it ends or stops
    #[arg(long)]
    watch: bool,
    /// Print JSON: what it would do, then the rollout; with --watch one object a line
    #[arg(long)]
    json: bool,
}

/// Shows what the repair would do, asks, starts it, and prints its id.
pub async fn run(args: RepairArgs) -> Result<Exit, Failure> {
    let (client, id) = args.one.open().await?;
    let rollout: RolloutView = client.get("show the rollout", &format!("/api/rollouts/{id}")).await?;
    let version = match args.version {
        Some(version) => version,
        None => last_good(&client, id).await?,
    };
    let request = args.request(&rollout, version);
    if args.json {
        // Of what is printed each is a document of its own; with --watch each is a line.
        let would: Value = client.dry_run(&request).await?;
        print(&json!({"event": "dryRun", "dryRun": would}), args.watch)?;
    } else {
        output::print(&dry_run::text(&client.dry_run(&request).await?))?;
    }
    if args.dry_run {
        return Ok(Exit::Success);
    }
    if !args.yes && !is_confirmed(&format!("Bring {version} to these deployments? [y/N] "))? {
        output::say("nothing was started");
        return Ok(Exit::Failure);
    }
    let started: RolloutView = client.start(&request).await?;
    if args.json {
        print(&json!({"event": "started", "rollout": started}), args.watch)?;
    } else {
        output::print(&format!("{}\n", started.id))?;
    }
    if args.watch {
        let watcher = if args.json { Watcher::Program } else { Watcher::Person };
        return watch::to_the_end(&client, started.id, Duration::from_secs(1), watcher).await;
    }
    output::say(&format!("watch it with: permafresh rollout watch {}", started.id));
    Ok(Exit::Success)
}

fn print(value: &Value, as_line: bool) -> Result<(), Failure> {
    if as_line { output::print_json_line(value) } else { output::print_json(value) }
}

async fn last_good(client: &ApiClient, id: RolloutId) -> Result<Version, Failure> {
    let found: LastGoodView =
        client.get("look for the last good version", &format!("/api/rollouts/{id}/last-good")).await?;
    let Some(version) = found.version else {
        let error =
            anyhow::anyhow!("no deployment is known to have succeeded with another version than {}", found.bad_version);
        return Err(Failure::new(error, "name a version with --version"));
    };
    output::say(&said(&found));
    Ok(version)
}

/// What is known of the versions to go back to.
fn said(found: &LastGoodView) -> String {
    let mut text = format!(
        "{} of {} last succeeded with {}",
        found.with_bad_version,
        counted(found.deployments, "deployment"),
        found.bad_version
    );
    for good in &found.versions {
        let when = good.last_succeeded_at.format("%Y-%m-%d %H:%M:%SZ");
        let _ = write!(
            text,
            "\n  {} succeeded on {}, lastly {when}",
            good.version,
            counted(good.deployments, "deployment")
        );
    }
    if found.without_other > 0 {
        let _ = write!(text, "\n  {} are not known to have had another version", found.without_other);
    }
    text
}

impl RepairArgs {
    fn request(&self, rollout: &RolloutView, version: Version) -> PublishRequest {
        let text = |text: &str| Some(Value::from(text));
        let note = self.note.clone().unwrap_or_else(|| format!("repair of rollout {}", rollout.id));
        PublishRequest {
            publisher: text(&rollout.publisher),
            offer: text(&rollout.offer),
            plan: text(&rollout.plan),
            version: Some(version.to_string().into()),
            target: Some(json!(rollout.target)),
            audience: Some(json!(rollout.audience)),
            purpose: text("repair"),
            strategy: self.strategy.clone(),
            scope: (!self.scope.is_empty()).then(|| json!({ "applicationIds": self.scope })),
            note: text(&note),
            ..PublishRequest::default()
        }
    }
}

fn is_confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let error = anyhow::anyhow!("a repair calls customers' deployments, and nobody is there to be asked");
        return Err(Failure::new(error, "look at what it would do with --dry-run, then give --yes").exit(Exit::Usage));
    }
    let read = || -> std::io::Result<String> {
        let mut answer = String::new();
        write!(std::io::stderr(), "{question}")?;
        std::io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = read().map_err(|error| Failure::new(error, "give --yes"))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
