//! `permafresh lighthouse check`: what a customer has delegated, as Azure shows it.
//!
//! Reads, as the identity of the settings, and changes nothing. What cannot be read for a passing reason is told apart from
//! what is not delegated.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::guid;
use crate::arm::{ArmClient, Looked};
use crate::cli::failure::{Exit, Failure};
use crate::cli::local::local_settings;
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::plain;
use crate::cli::wiring;
use crate::clock::SystemClock;
use crate::lighthouse::Scope;
use crate::lighthouse::coverage::{Assignment, Caller, Coverage, Report, judge, roles_of};
use crate::lighthouse::role::{LIST_OF, Role};
use crate::rollout::{RemoteError, counted};
use crate::settings::{self, Settings};

const EXAMPLES: &str = "\
Settings come from the environment, then from local.settings.json in the current folder: who asks
(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, or a managed identity, or `az login`) and
where (ARM_ENDPOINT). A new delegation may take a quarter of an hour to show.

Examples:
  permafresh lighthouse check /subscriptions/SUBSCRIPTION/resourceGroups/rg-apps
  As a developer, about the service's identity:
    permafresh lighthouse check SUBSCRIPTION --tenant TENANT --principal PRINCIPAL

Exit codes:
  0  the delegation covers the refresh, and reading how it goes
  1  it does not cover the refresh, or nothing is delegated
  2  the command line or a setting is wrong
  3  it covers the refresh; reading the status of its operation may be refused
  4  Azure could not be asked, or gave no answer that can be used";

/// See whether a customer's delegation lets the service refresh
///
/// Reads the registration assignments of the subscription and of the resource group, with the roles that they give to the
/// service's principal as Azure defines them now, and says in words what they are worth: the refresh is an action on the
/// application, and the status of its operation is read at the subscription.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Subscription, resource group or managed application, as an id of Azure
    scope: Scope,
    /// Object id of the service principal that refreshes [default: who asks]
    #[arg(long, value_name = "PRINCIPAL", value_parser = guid)]
    principal: Option<String>,
    /// Group that this principal is in; may be given more than once
    #[arg(long = "group", value_name = "GROUP", value_parser = guid)]
    groups: Vec<String>,
    /// Your own tenant [default: AZURE_TENANT_ID, or that of who asks]
    #[arg(long, value_name = "TENANT", value_parser = guid)]
    tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    scope: String,
    #[serde(flatten)]
    report: &'a Report,
    /// What was not clear, and did not decide.
    remarks: &'a [String],
}

/// Looks, and says what it found.
pub async fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let mut values = local_settings(Path::new("."))?;
    values.extend(settings::environment());
    let settings = wiring::settings(&values)?;
    let arm = wiring::arm_client(&settings, Arc::new(SystemClock))
        .map_err(|error| Failure::new(error, "correct the setting that it names").exit(Exit::Usage))?;
    let caller = caller(&args, &settings, &arm).await?;
    let mut remarks = Vec::new();
    let assignments = assignments(&arm, &args.scope, &mut remarks).await?;
    let roles = roles(&arm, &args.scope, &assignments, &caller, &mut remarks).await;
    let report = judge(&args.scope, &assignments, &caller, &roles);
    if args.json {
        print_json(&Checked { scope: args.scope.to_string(), report: &report, remarks: &remarks })?;
    } else {
        print(&in_words(&args.scope, &report, &remarks))?;
    }
    for step in what_to_do(&report) {
        say(step);
    }
    Ok(match report.coverage {
        Coverage::All => Exit::Success,
        Coverage::RefreshOnly => Exit::RolloutNotClean,
        Coverage::Nothing => Exit::Failure,
    })
}

/// Whose access is looked for: as told, else as the token says.
async fn caller(args: &CheckArgs, settings: &Settings, arm: &ArmClient) -> Result<Caller, Failure> {
    let tenant = args.tenant.clone().or_else(|| settings.identity.tenant_id.clone());
    let (tenant, principal, groups) = match (tenant, args.principal.clone()) {
        (Some(tenant), Some(principal)) => (Some(tenant), Some(principal), Vec::new()),
        (tenant, principal) => {
            let claims = arm.caller().await.map_err(|error| {
                Failure::new(error, "sign in, or set the identity that the README names").exit(Exit::Unreachable)
            })?;
            // Groups of whoever asks are those of nobody else.
            let groups = if principal.is_none() { claims.groups } else { Vec::new() };
            (tenant.or(claims.tenant_id), principal.or(claims.object_id), groups)
        }
    };
    let missing = |what: &str, option: &str| {
        let error = anyhow::anyhow!("the token does not say {what}");
        Failure::new(error, format!("give {option}")).exit(Exit::Usage)
    };
    let tenant = tenant.ok_or_else(|| missing("whose tenant it is of", "--tenant"))?;
    let principal = principal.ok_or_else(|| missing("whose it is", "--principal"))?;
    let principals = std::iter::once(principal).chain(args.groups.iter().cloned()).chain(groups);
    Ok(Caller { tenant, principals: principals.collect() })
}

/// The assignments of the subscription, then of the group. Being refused is an answer; no answer is a failure.
async fn assignments(arm: &ArmClient, scope: &Scope, remarks: &mut Vec<String>) -> Result<Vec<Assignment>, Failure> {
    let mut found = Vec::new();
    let scopes = [Some(scope.of_subscription()), scope.is_group().then(|| scope.clone())];
    for scope in scopes.into_iter().flatten() {
        match arm.registration_assignments(&scope).await {
            Looked::Seen(seen) => {
                if seen.unreadable > 0 {
                    remarks.push(format!(
                        "{} of {scope} could not be read",
                        counted(seen.unreadable as u64, "assignment")
                    ));
                }
                found.extend(seen.assignments);
            }
            Looked::Refused { error } => {
                remarks.push(format!("Azure shows no delegations of {scope}: {}", said(&error)));
            }
            Looked::Unclear { error, wait } => {
                let hint = match wait {
                    Some(wait) => format!("ask again in {} s", wait.as_secs().max(1)),
                    None => "ask again; if it stays so, look at ARM_ENDPOINT and at the identity".to_owned(),
                };
                let error = anyhow::anyhow!("cannot read the delegations of {scope}: {}", said(&error));
                return Err(Failure::new(error, hint).exit(Exit::Unreachable));
            }
        }
    }
    Ok(found)
}

/// Our roles as Azure defines them; as they were known where it does not say.
async fn roles(
    arm: &ArmClient,
    scope: &Scope,
    assignments: &[Assignment],
    caller: &Caller,
    remarks: &mut Vec<String>,
) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for id in roles_of(assignments, caller) {
        let role = match arm.role_definition(scope, &id).await {
            Looked::Seen(role) => Some(role),
            Looked::Refused { error } | Looked::Unclear { error, .. } => {
                let known = Role::built_in(&id);
                let taken = match &known {
                    Some(role) => format!("{} is taken as it was on {LIST_OF}", role.name),
                    None => "nothing is known about it".to_owned(),
                };
                remarks.push(format!("the definition of role {id} could not be read ({}): {taken}", said(&error)));
                known
            }
        };
        roles.extend(role.map(|role| (id, role)));
    }
    roles
}

fn said(error: &RemoteError) -> String {
    format!("{}: {}", error.code, error.message)
}

fn in_words(scope: &Scope, report: &Report, remarks: &[String]) -> String {
    let verdict = match report.coverage {
        Coverage::All => "covered: the service may refresh, and read how it goes",
        Coverage::RefreshOnly => {
            "covered in part: the service may refresh; reading the status of the operation may be refused"
        }
        Coverage::Nothing if report.assignments.is_empty() => "not delegated",
        Coverage::Nothing => "not covered: no delegation lets the service refresh",
    };
    let mut text = format!("{scope}\n  {verdict}\n");
    for worth in &report.assignments {
        let mark = match worth.coverage {
            Coverage::All => "yes",
            Coverage::RefreshOnly => "in part",
            Coverage::Nothing => "no",
        };
        text += &format!("- {mark}: {:?}\n  {}\n  {}\n", worth.offer, worth.assignment, worth.why);
    }
    for remark in remarks {
        text += &format!("note: {remark}\n");
    }
    text.lines().map(|line| plain(line) + "\n").collect()
}

fn what_to_do(report: &Report) -> &'static [&'static str] {
    match report.coverage {
        Coverage::All => &[],
        Coverage::RefreshOnly => &[
            "Where Azure refuses the status with 403, a refresh is judged by reading the application instead.",
            "A delegation of the whole subscription (lighthouse template --scope subscription) covers both.",
        ],
        Coverage::Nothing => &[
            "Have an Owner of the customer's subscription deploy what `permafresh lighthouse template` writes.",
            "If that was done just now, ask again in a quarter of an hour.",
        ],
    }
}
