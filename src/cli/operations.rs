//! `permafresh stop`, `start` and `audit`: stop and go for everything, and who did what.

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ServiceArgs};
use super::failure::{Exit, Failure};
use super::plain_text::{plain, shortened, table};
use super::{output, summary};
use crate::functions::wire::api::{AuditView, SwitchView};

/// How much of a long text is shown in a table.
const SHOWN: usize = 100;

/// Stop everything: nothing is posted to Azure until `start`
///
/// What Azure has accepted is followed to its end.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  permafresh stop --why 'customers report lost access'")]
pub struct StopArgs {
    #[command(flatten)]
    turn: TurnArgs,
}

/// Let everything go on after a `stop`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  permafresh start --why 'the permissions are mended'")]
pub struct StartArgs {
    #[command(flatten)]
    turn: TurnArgs,
}

#[derive(Debug, Args)]
struct TurnArgs {
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Which service.
    #[command(flatten)]
    service: ServiceArgs,
}

/// Show who did what, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  permafresh audit\n  permafresh audit --limit 1000 --json")]
pub struct AuditArgs {
    /// At most so many entries
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Which service.
    #[command(flatten)]
    service: ServiceArgs,
}

/// Stops everything.
pub async fn stop(StopArgs { turn }: StopArgs) -> Result<Exit, Failure> {
    turn_switch("stop everything", "/api/stop", turn).await
}

/// Lets everything go on.
pub async fn start(StartArgs { turn }: StartArgs) -> Result<Exit, Failure> {
    turn_switch("let everything go on", "/api/start", turn).await
}

async fn turn_switch(
    action: &'static str,
    path: &str,
    TurnArgs { why, json, service }: TurnArgs,
) -> Result<Exit, Failure> {
    let body = why.map_or_else(|| json!({}), |why| json!({"why": why}));
    if json {
        let state: Value = ApiClient::new(&service)?.post(action, path, &body).await?;
        output::print_json(&state)?;
        return Ok(Exit::Success);
    }
    let state: SwitchView = ApiClient::new(&service)?.post(action, path, &body).await?;
    if state.held_by.is_empty() {
        output::print("everything goes on\n")?;
    }
    for held_by in &state.held_by {
        output::print(&format!("{}\n", summary::held_by(held_by)))?;
    }
    Ok(Exit::Success)
}

/// Shows the audit list.
pub async fn audit(args: AuditArgs) -> Result<Exit, Failure> {
    let client = ApiClient::new(&args.service)?;
    let (action, limit) = ("list the audit entries", usize::try_from(args.limit).unwrap_or(usize::MAX));
    if args.json {
        let entries: Vec<Value> = client.list(action, "/api/audit", limit).await?;
        output::print_json(&entries)?;
        return Ok(Exit::Success);
    }
    let entries: Vec<AuditView> = client.list(action, "/api/audit", limit).await?;
    if entries.is_empty() {
        output::say("nobody has done anything yet");
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = entries.iter().map(row).collect();
    output::print(&table(["WHEN", "WHO", "WHAT", "ON", "OUTCOME", "NOTES"], &rows))?;
    Ok(Exit::Success)
}

fn row(entry: &AuditView) -> [String; 6] {
    let text = |text: &Option<String>| text.as_deref().map(plain).unwrap_or_default();
    let change = match (&entry.from, &entry.to) {
        (Some(from), Some(to)) => format!("{} -> {}", plain(from), plain(to)),
        (None, Some(to)) => plain(to),
        (_, None) => String::new(),
    };
    let notes = [change, text(&entry.why), text(&entry.problem)];
    let notes: Vec<_> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    [
        entry.at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        plain(&entry.who),
        plain(&entry.what),
        text(&entry.on),
        plain(&entry.outcome),
        shortened(&notes.join("; "), SHOWN),
    ]
}
