//! `permafresh doctor`: what the settings amount to, and whether what they name answers and lets us in.
//!
//! Each check says what it tried, what that means, and what to do. It posts no refresh, and changes nothing but a record of
//! its own in the store, which it takes away again (a table that is missing for it is made). `settled` looks at the settings
//! alone, `parts` asks each part of the service, `application` looks at one deployment.

mod application;
mod check;
mod parts;
mod settled;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::check::{Check, Finding, Outcome};
use super::failure::{Exit, Failure};
use super::local::local_settings;
use super::output::{print, print_json};
use super::plain_text::plain;
use super::wiring;
use crate::clock::{Clock, SystemClock};
use crate::rollout::resource_id::is_guid;
use crate::rollout::{ApplicationId, counted};
use crate::settings::{self, Settings};

const HELP: &str = "\
Settings come from the environment, then from local.settings.json in the current folder. So run
it where the service runs, with its settings and as its identity. No secret is printed.

Exit codes:
  0  nothing failed; there may be warnings
  1  a check failed
  2  the command line or a setting is wrong

Examples:
  permafresh doctor
  permafresh doctor --json | jq '.checks[] | select(.outcome == \"failed\")'
  permafresh doctor --application /subscriptions/…/applications/ledger";

/// See whether the service is set up rightly
///
/// Asks everything that the settings name: Microsoft Entra for a token, Azure Resource Manager and its clock, the store, the
/// queues, the key vault, Partner Center; says which functions do nothing for want of a setting, and when each timer fires
/// next. Every check has its own time limit, and none hides another.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DoctorArgs {
    /// Look at this deployment too: whether a refresh would be let in. Nothing is posted
    #[arg(long, value_name = "APPLICATION-ID")]
    application: Option<ApplicationId>,
    /// Object id of the service's principal [default: as its token says]
    #[arg(long, value_name = "PRINCIPAL", value_parser = guid)]
    principal: Option<String>,
    /// How long one check may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=300))]
    timeout: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn guid(text: &str) -> Result<String, String> {
    if is_guid(text) { Ok(text.to_ascii_lowercase()) } else { Err("expected a GUID".to_owned()) }
}

/// What the checks work with.
struct Patient {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// Whose access is looked at, where that was said.
    principal: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    checks: &'a [Finding],
    counts: Counts,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Counts {
    ok: usize,
    notes: usize,
    warnings: usize,
    failed: usize,
}

/// Runs the checks and says what they found.
pub async fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    let mut values = local_settings(Path::new("."))?;
    values.extend(settings::environment());
    let settings = wiring::settings(&values)?;
    let patient = Patient { settings, clock: Arc::new(SystemClock), principal: args.principal };
    let now = patient.clock.now();
    let mut findings = settled::remarks(&patient.settings);
    findings.extend(settled::functions(&patient.settings));
    findings.extend(settled::schedules(&patient.settings, now));
    let mut checks = parts::checks(&patient);
    if let Some(id) = &args.application {
        checks.extend(application::checks(&patient, id));
    }
    let limit = Duration::from_secs(u64::from(args.timeout));
    findings.extend(futures_util::future::join_all(checks.into_iter().map(|check: Check<'_>| check.run(limit))).await);
    if args.application.is_some() {
        findings.push(application::verdict(&findings));
    }
    let counts = findings.iter().fold(Counts::default(), |mut counts, finding| {
        match finding.outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::Note => counts.notes += 1,
            Outcome::Warning => counts.warnings += 1,
            Outcome::Failed => counts.failed += 1,
        }
        counts
    });
    if args.json {
        print_json(&Report { checks: &findings, counts })?;
    } else {
        print(&in_words(&findings, counts))?;
    }
    Ok(if counts.failed > 0 { Exit::Failure } else { Exit::Success })
}

fn in_words(findings: &[Finding], counts: Counts) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{:8} {}\n", finding.outcome.word(), plain(&finding.name));
        text += &format!("         tried: {}\n", plain(&finding.tried));
        text += &format!("         means: {}\n", plain(&finding.means));
        if let Some(to_do) = &finding.to_do {
            text += &format!("         to do: {}\n", plain(to_do));
        }
    }
    let Counts { ok, notes, warnings, failed } = counts;
    let said = |count: usize, noun: &str| counted(count as u64, noun);
    text + &format!("\n{ok} ok, {}, {}, {failed} failed\n", said(notes, "note"), said(warnings, "warning"))
}
