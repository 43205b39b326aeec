//! `permafresh jit …`: windows of access that customers are asked for, from a terminal.

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{ApiClient, ServiceArgs};
use super::deployments::DeploymentRef;
use super::failure::{Exit, Failure};
use super::output;
use super::plain_text::{plain, table};
use crate::functions::wire::jit_view::{JitRequestView, JitView, JitWord};
use crate::rollout::Timestamp;

const LIST_HELP: &str = "\
Examples:
  permafresh jit list
  permafresh jit list --waiting
  permafresh jit list --json | jq '.[].requests[0] | select(.state == \"pending\")'

Exit codes:
  0  listed, also where there is none
  1  the service refused it
  4  the service cannot be reached";

const SHOW_HELP: &str = "\
Examples:
  permafresh jit show /subscriptions/SUBSCRIPTION/resourceGroups/rg-apps/providers/Microsoft.Solutions/applications/APPLICATION
  permafresh jit show KEY --azure       # also what Azure lists, whoever asked

Exit codes:
  0  a window is open, long enough for a refresh
  1  it is not: nothing was asked, nothing came of it, or the window is over; or the service refused
  3  a request waits for its approver
  4  the service cannot be reached";

const REQUEST_HELP: &str = "\
The service asks by itself where a refresh needs it. Ask by hand to have a window open before a rollout, or after one was
refused. What is under way, or open, is shown instead of asking twice.

Examples:
  permafresh jit request KEY --why 'rollout on Monday'

Exit codes:
  0  asked, or it was so already
  1  a request would come to nothing, and the message says why; or the service refused
  4  the service cannot be reached";

/// What to do about just-in-time access.
#[derive(Debug, Subcommand)]
pub enum JitCommand {
    /// List the applications for which just-in-time access was asked
    #[command(after_help = LIST_HELP)]
    List {
        /// Only those that wait for their approver
        #[arg(long)]
        waiting: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Ask the customer of a deployment for just-in-time access now
    #[command(after_help = REQUEST_HELP)]
    Request {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Why, for the audit list
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Show what was asked for one deployment, what became of it, and who has to approve where
    #[command(after_help = SHOW_HELP)]
    Show {
        /// The deployment's key, or its application's resource id
        #[arg(value_name = "KEY|APPLICATION-ID")]
        deployment: DeploymentRef,
        /// Also what Azure itself lists
        #[arg(long)]
        azure: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Which service.
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// Does one of the commands.
pub async fn run(command: JitCommand) -> Result<Exit, Failure> {
    match command {
        JitCommand::List { waiting, json, service } => list(&ApiClient::new(&service)?, waiting, json).await,
        JitCommand::Request { deployment, why, json, service } => {
            let path = format!("/api/deployments/{}/jit", deployment.key());
            let body = why.map_or_else(|| json!({}), |why| json!({"why": why}));
            let asked: JitView = ApiClient::new(&service)?.post("ask for just-in-time access", &path, &body).await?;
            print(&asked, json)?;
            Ok(Exit::Success)
        }
        JitCommand::Show { deployment, azure, json, service } => {
            let path = format!("/api/deployments/{}/jit{}", deployment.key(), if azure { "?azure=true" } else { "" });
            let shown: JitView = ApiClient::new(&service)?.get("show just-in-time access", &path).await?;
            print(&shown, json)?;
            Ok(match shown.requests.first().map(|latest| latest.state) {
                Some(JitWord::Open) => Exit::Success,
                Some(JitWord::Wanted | JitWord::Pending) => Exit::RolloutNotClean,
                _ => Exit::Failure,
            })
        }
    }
}

async fn list(client: &ApiClient, waiting: bool, json: bool) -> Result<Exit, Failure> {
    const ACTION: &str = "list just-in-time access";
    let mut values: Vec<Value> = client.list(ACTION, "/api/deployments/jit", usize::MAX).await?;
    if waiting {
        values.retain(|value| matches!(value["requests"][0]["state"].as_str(), Some("pending" | "wanted")));
    }
    if json {
        output::print_json(&values)?;
        return Ok(Exit::Success);
    }
    if values.is_empty() {
        output::say(if waiting { "nothing waits for an approver" } else { "no just-in-time access was asked for yet" });
        return Ok(Exit::Success);
    }
    let views: Vec<JitView> = serde_json::from_value(Value::Array(values))
        .map_err(|error| super::client::ClientError::Unreadable { action: ACTION, reason: error.to_string() })?;
    let rows: Vec<_> = views.iter().filter_map(|view| Some(row(view, view.requests.first()?))).collect();
    output::print(&table(["APPLICATION", "REQUEST", "STATE", "WINDOW"], &rows))?;
    Ok(Exit::Success)
}

fn row(view: &JitView, latest: &JitRequestView) -> [String; 4] {
    [view.application_id.to_string(), plain(&latest.name), state(latest), window(latest)]
}

fn state(request: &JitRequestView) -> String {
    match (request.state, &request.code) {
        (JitWord::Wanted, _) => "being filed".to_owned(),
        (JitWord::Pending, _) => "waits for its approver".to_owned(),
        (JitWord::Open, _) => "open".to_owned(),
        (JitWord::Over, _) => "over".to_owned(),
        (JitWord::Refused, Some(code)) => plain(code),
        (JitWord::Refused, None) => "refused".to_owned(),
    }
}

fn window(request: &JitRequestView) -> String {
    format!("{} to {}", moment(request.starts_at), moment(request.ends_at))
}

fn moment(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn print(view: &JitView, json: bool) -> Result<(), Failure> {
    if json { output::print_json(view) } else { output::print(&in_words(view)) }
}

fn in_words(view: &JitView) -> String {
    let mut text = format!("{}\n", view.application_id);
    match &view.terms {
        Some(terms) if terms.enabled => {
            let by = match terms.approvers.as_slice() {
                [] => String::new(),
                names => format!("; approvers: {}", plain(&names.join(", "))),
            };
            let mode = terms.approval_mode.as_deref().unwrap_or("not known");
            let longest = terms.maximum_duration.as_deref().unwrap_or("not known");
            let _ =
                writeln!(text, "  set by the customer: on, approval {}, at most {}{by}", plain(mode), plain(longest));
        }
        Some(_) => text.push_str("  set by the customer: off\n"),
        None => text.push_str("  set by the customer: not known, or not offered\n"),
    }
    if view.requests.is_empty() {
        text.push_str("  nothing was asked\n");
    }
    for request in &view.requests {
        let _ = writeln!(text, "  {}  {}, {}", plain(&request.name), window(request), state(request));
        if let Some(why) = &request.why {
            let _ = writeln!(text, "    {}", plain(why));
        }
        if let Some(deadline) = request.deadline {
            let _ = writeln!(text, "    given up at {}", moment(deadline));
        }
    }
    for listed in view.listed.iter().flatten() {
        let _ = writeln!(text, "  Azure lists {}: {}", plain(&listed.name), plain(&listed.state));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_with_its_window_and_who_has_to_approve_where() {
        let view: JitView = serde_json::from_value(json!({
            "key": "0".repeat(64),
            "applicationId": "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger",
            "terms": {"enabled": true, "approvalMode": "ManualApprove", "approvers": ["Ada\u{1b}"], "maximumDuration": "PT8H"},
            "requests": [
                {"name": "ab12", "resourceGroup": "mrg", "state": "pending", "startsAt": "2026-03-10T12:00:00Z",
                 "endsAt": "2026-03-10T20:00:00Z", "deadline": "2026-03-11T12:00:00Z", "principalId": "p", "roleId": "r",
                 "why": "is to be approved by Ada, in the Azure portal"},
                {"name": "cd34", "resourceGroup": "mrg", "state": "refused", "startsAt": "2026-03-09T12:00:00Z",
                 "endsAt": "2026-03-09T20:00:00Z", "principalId": "p", "roleId": "r", "code": "JitDenied", "why": "denied"},
            ],
            "listed": [{"name": "ab12", "state": "Pending"}],
        }))
        .unwrap();
        let text = in_words(&view);
        for said in [
            "approval ManualApprove, at most PT8H; approvers: Ada\\u{1b}",
            "ab12  2026-03-10 12:00:00Z to 2026-03-10 20:00:00Z, waits for its approver",
            "    is to be approved by Ada",
            "given up at 2026-03-11 12:00:00Z",
            "JitDenied",
            "Azure lists ab12: Pending",
        ] {
            assert!(text.contains(said), "{said} is not in\n{text}");
        }
    }
}
