//! A run of SyncDeployments, begun from a terminal and followed to its end.

use std::time::Duration;

use crate::cli::client::ApiClient;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::plain_text::{plain, table};
use crate::rollout::counted;
use crate::rollout::sighting::Discovery;

/// How often a run is looked at while it goes on.
const SYNC_LOOK: Duration = Duration::from_secs(1);

/// Begins a run and waits for its end.
pub async fn sync(client: &ApiClient, dry_run: bool, json: bool) -> Result<Exit, Failure> {
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
