//! `permafresh rollout …`: rollouts from a terminal.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::client::{ApiClient, BodyFormat, ServiceArgs};
use super::failure::{Exit, Failure};
use super::plain_text::{plain, shortened, table};
use super::repair::{self, RepairArgs};
use super::watch::Watcher;
use super::{offers, output, summary, watch};
use crate::functions::wire::api::{RefreshView, RefreshWord, RefusalView, RolloutView};
use crate::rollout::RolloutId;

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// List rollouts, the newest first
    #[command(after_help = "Examples:\n  permafresh rollout list\n  permafresh rollout list --limit 5 --json")]
    List {
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Show one rollout, and its refreshes in one state if asked
    #[command(
        after_help = "Examples:\n  permafresh rollout show latest\n  permafresh rollout show latest --state failed"
    )]
    Show {
        /// Which rollout.
        #[command(flatten)]
        one: One,
        /// Also list the refreshes in this state, such as failed, running or handedOver
        #[arg(long, value_parser = refresh_word)]
        state: Option<RefreshWord>,
        /// At most so many refreshes
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a rollout until it ends or stops, then say who has to act on what
    ///
    /// Shows waves, pace, time left, and failures as they come. Stopping to watch (Ctrl-C) leaves the rollout going on.
    /// Without a terminal it writes a line when something has changed. With --json it writes one object a line to stdout, each
    /// with `event`: progress, failure, trouble, and ended with the exit code.
    #[command(
        after_help = "Examples:\n  permafresh rollout watch latest\n  permafresh rollout watch latest --json | jq -c 'select(.event == \"failure\").refresh'"
    )]
    Watch {
        /// Which rollout.
        #[command(flatten)]
        one: One,
        /// How often to look, in milliseconds
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..), value_name = "MS")]
        interval_ms: u64,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Post nothing more until resumed; what Azure has accepted is followed to its end
    #[command(after_help = "Examples:\n  permafresh rollout pause latest")]
    Pause(Steered),
    /// Go on after a pause or a halt
    #[command(after_help = "Examples:\n  permafresh rollout resume latest")]
    Resume(Steered),
    /// Let the last wave begin, where the rollout waits for approval
    #[command(after_help = "Examples:\n  permafresh rollout approve latest")]
    Approve(Steered),
    /// Call off what was not posted yet
    #[command(after_help = "Examples:\n  permafresh rollout cancel latest --json")]
    Cancel(Steered),
    /// Try again what failed, or what waits for one actor
    #[command(
        after_help = "Examples:\n  permafresh rollout retry latest\n  permafresh rollout retry latest --actor customer"
    )]
    Retry {
        /// Which rollout, and how the answer is printed.
        #[command(flatten)]
        steered: Steered,
        /// Only what this actor had to act on; what was handed over had the customer
        #[arg(long)]
        actor: Option<ActorWord>,
    },
    /// Go back to an older version: the last good one, or a named one
    ///
    /// Shows what it would do and asks. The last good version is the one that most deployments last succeeded with,
    /// besides the version of the rollout that is named. The repair is a rollout of its own, with canaries and waves,
    /// and its version is the wanted one then.
    #[command(
        after_help = "Examples:\n  permafresh rollout repair latest --last-good --dry-run\n  permafresh rollout repair latest --last-good --yes --watch\n  permafresh rollout repair latest --version 1.3.2 --scope APPLICATION-ID"
    )]
    Repair(RepairArgs),
    /// Say who has to act on what, or write every refresh as JSON or CSV
    #[command(
        after_help = "Examples:\n  permafresh rollout report latest\n  permafresh rollout report latest --format csv > refreshes.csv"
    )]
    Report {
        /// Which rollout.
        #[command(flatten)]
        one: One,
        /// Form of the report; JSON and CSV are the service's own
        #[arg(long, default_value = "text")]
        format: ReportFormat,
    },
}

/// One rollout of a service.
#[derive(Debug, Args)]
pub struct One {
    /// Id of the rollout, or `latest`
    #[arg(value_name = "ROLLOUT")]
    rollout: RolloutRef,
    /// Which service.
    #[command(flatten)]
    service: ServiceArgs,
}

/// One rollout that is to be steered.
#[derive(Debug, Args)]
pub struct Steered {
    #[command(flatten)]
    one: One,
    /// Print the rollout as JSON
    #[arg(long)]
    json: bool,
}

/// Who has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActorWord {
    /// The publisher's own people
    Publisher,
    /// The customer
    Customer,
    /// Microsoft
    Microsoft,
    /// The published version itself
    Offer,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A summary for people
    Text,
    /// Every refresh, JSON
    Json,
    /// Every refresh, CSV
    Csv,
}

/// How a rollout is named on the command line.
#[derive(Clone, Copy, Debug)]
enum RolloutRef {
    Id(RolloutId),
    Latest,
}

impl FromStr for RolloutRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("latest") {
            return Ok(Self::Latest);
        }
        text.parse().map(Self::Id).map_err(|_| "expected the id of a rollout (a UUID) or latest")
    }
}

fn refresh_word(text: &str) -> Result<RefreshWord, String> {
    RefreshWord::from_word(text)
        .ok_or_else(|| format!("expected one of {}", RefreshWord::ALL.map(RefreshWord::word).join(", ")))
}

/// Does one of the commands.
pub async fn run(command: RolloutCommand) -> Result<Exit, Failure> {
    match command {
        RolloutCommand::List { limit, json, service } => list(&ApiClient::new(&service)?, limit, json).await,
        RolloutCommand::Show { one, state, limit, json } => {
            let (client, id) = one.open().await?;
            show(&client, id, state, limit, json).await
        }
        RolloutCommand::Watch { one, interval_ms, json } => {
            let (client, id) = one.open().await?;
            let watcher = if json { Watcher::Program } else { Watcher::Person };
            watch::to_the_end(&client, id, Duration::from_millis(interval_ms), watcher).await
        }
        RolloutCommand::Pause(one) => steer(one, "pause the rollout", "pause").await,
        RolloutCommand::Resume(one) => steer(one, "resume the rollout", "resume").await,
        RolloutCommand::Approve(one) => steer(one, "approve the last wave", "approve").await,
        RolloutCommand::Cancel(one) => steer(one, "cancel the rollout", "cancel").await,
        RolloutCommand::Retry { steered, actor } => {
            let word = actor.and_then(|actor| Some(actor.to_possible_value()?.get_name().to_owned()));
            let command = word.map_or_else(|| "retry".to_owned(), |word| format!("retry?actor={word}"));
            steer(steered, "retry the failed refreshes", &command).await
        }
        RolloutCommand::Repair(args) => repair::run(args).await,
        RolloutCommand::Report { one, format } => {
            let (client, id) = one.open().await?;
            report(&client, id, format).await
        }
    }
}

impl One {
    pub(super) async fn open(&self) -> Result<(ApiClient, RolloutId), Failure> {
        let client = ApiClient::new(&self.service)?;
        let id = match self.rollout {
            RolloutRef::Id(id) => id,
            RolloutRef::Latest => {
                let newest: Vec<RolloutView> = client.list("list the rollouts", "/api/rollouts", 1).await?;
                let Some(newest) = newest.first() else {
                    let hint = "start one with `permafresh publish`";
                    return Err(Failure::new(anyhow::anyhow!("the service has no rollout yet"), hint));
                };
                newest.id
            }
        };
        Ok((client, id))
    }
}

async fn list(client: &ApiClient, limit: u32, json: bool) -> Result<Exit, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if json {
        let rollouts: Vec<Value> = client.list("list the rollouts", "/api/rollouts", limit).await?;
        output::print_json(&rollouts)?;
        return Ok(Exit::Success);
    }
    let rollouts: Vec<RolloutView> = client.list("list the rollouts", "/api/rollouts", limit).await?;
    if rollouts.is_empty() {
        output::say("there is no rollout yet; start one with `permafresh publish`");
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = rollouts
        .iter()
        .map(|rollout| {
            [
                rollout.id.to_string(),
                format!("{}/{}/{}", rollout.publisher, rollout.offer, rollout.plan),
                rollout.version.to_string(),
                rollout.state.in_words().to_owned(),
                format!("{}/{}", rollout.wave, rollout.waves),
                format!("{}/{}", rollout.counts.ended(), rollout.counts.total),
                (rollout.counts.failed + rollout.counts.timed_out).to_string(),
                rollout.created_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            ]
        })
        .collect();
    output::print(&table(["ID", "PLAN", "VERSION", "STATE", "WAVE", "DONE", "FAILED", "CREATED"], &rows))?;
    Ok(Exit::Success)
}

async fn show(
    client: &ApiClient,
    id: RolloutId,
    state: Option<RefreshWord>,
    limit: u32,
    json: bool,
) -> Result<Exit, Failure> {
    let path = format!("/api/rollouts/{id}");
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if json {
        let mut rollout: Value = client.get("show the rollout", &path).await?;
        if let (Some(state), Some(members)) = (state, rollout.as_object_mut()) {
            let refreshes: Vec<Value> = client.refreshes(&id.to_string(), Some(state), limit).await?;
            members.insert("refreshes".to_owned(), refreshes.into());
        }
        output::print_json(&rollout)?;
        return Ok(Exit::Success);
    }
    let rollout: RolloutView = client.get("show the rollout", &path).await?;
    let mut text = summary::heading(&rollout);
    text.push_str(&format!(
        "  wave {} of {}, created {}\n\n{}\n",
        rollout.wave,
        rollout.waves,
        rollout.created_at.format("%Y-%m-%d %H:%M:%SZ"),
        summary::counts(&rollout.counts)
    ));
    if let Some(changes) = &rollout.changes {
        text.push_str(&offers::changes(changes));
    }
    if !rollout.lint.is_empty() {
        text.push_str("\nWhat the lint says\n");
    }
    for finding in &rollout.lint {
        text.push_str(&format!("  {}: {}\n", finding.severity.word(), plain(&finding.to_string())));
    }
    if let Some(state) = state {
        let refreshes: Vec<RefreshView> = client.refreshes(&id.to_string(), Some(state), limit).await?;
        let rows: Vec<_> = refreshes.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(["APPLICATION", "STATE", "ATTEMPTS", "POLLS", "WHY"], &rows));
    }
    output::print(&text)?;
    Ok(Exit::Success)
}

fn row(refresh: &RefreshView) -> [String; 5] {
    let why = match (&refresh.error, &refresh.why) {
        _ if refresh.refusals.len() > 1 => {
            let one = |refusal: &RefusalView| format!("{}: {}", refusal.way.word(), plain(&refusal.code));
            refresh.refusals.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        (Some(error), _) => format!("{}: {}", error.code, shortened(&plain(&error.message), 100)),
        (None, Some(why)) => why.clone(),
        (None, None) => String::new(),
    };
    [
        refresh.application_id.to_string(),
        refresh.state.word().to_owned(),
        refresh.attempts.to_string(),
        refresh.polls.to_string(),
        why,
    ]
}

async fn steer(Steered { one, json }: Steered, action: &'static str, command: &str) -> Result<Exit, Failure> {
    let (client, id) = one.open().await?;
    if json {
        let rollout: Value = client.command(action, &id.to_string(), command).await?;
        output::print_json(&rollout)?;
        return Ok(Exit::Success);
    }
    let rollout: RolloutView = client.command(action, &id.to_string(), command).await?;
    output::print(&summary::heading(&rollout))?;
    Ok(Exit::Success)
}

async fn report(client: &ApiClient, id: RolloutId, format: ReportFormat) -> Result<Exit, Failure> {
    let format = match format {
        ReportFormat::Text => {
            let rollout: RolloutView = client.get("show the rollout", &format!("/api/rollouts/{id}")).await?;
            let refreshes = watch::needing_attention(client, id).await?;
            let mut text = summary::summary(&rollout, &refreshes);
            if let Some(changes) = &rollout.changes {
                text.push_str(&offers::changes(changes));
            }
            output::print(&text)?;
            return Ok(Exit::Success);
        }
        ReportFormat::Json => BodyFormat::Json,
        ReportFormat::Csv => BodyFormat::Csv,
    };
    let text = client.report(&id.to_string(), format).await?;
    output::print_document(&text)?;
    Ok(Exit::Success)
}
