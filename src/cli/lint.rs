//! `permafresh lint`: are the actions of a plan real? For a pipeline, before it submits the offer to Partner Center.
//!
//! Asks Azure itself, as whoever the environment names; the service that runs the rollouts is asked for an offer's actions
//! only.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::{ApiClient, ServiceArgs};
use super::failure::{Exit, Failure};
use super::plain_text::plain;
use super::{output, wiring};
use crate::functions::wire::api::PublishRequest;
use crate::rollout::lint::{AllowedActions, Finding, Rule, Severity};
use crate::rollout::{Version, counted};
use crate::settings;

const HELP: &str = "\
A file holds JSON or text. JSON: a package configuration of Partner Center (allowedCustomerActions, allowedDataActions), a
role definition (actions, notActions, dataActions, notDataActions), or an array of control actions. Text: one control action
to a line; # begins a comment.

Who is asked: ARM_ENDPOINT, as the identity of AZURE_…, a managed identity, or whoever signed in with `az login`. It needs
Microsoft.Authorization/providerOperations/read. With --offer the service is asked, which looks as its own identity.

Exit codes: 0 nothing is rejected; 5 something is; with --strict also where there is a warning, such as a provider that could
not be read; 1 the file cannot be read; 2 the command line or a setting is wrong.

Examples:
  permafresh lint 'Microsoft.Web/sites/restart/action;Microsoft.Web/sites/stop/action'
  permafresh lint --file technical-configuration.json --strict --json
  permafresh lint --publisher fabrikam --offer ledger --plan standard --version 1.4.0
  permafresh lint --data-action Microsoft.KeyVault/vaults/secrets/getSecret/action";

/// Check the actions that a plan allows against what Azure's providers offer
///
/// One wrong name makes the refresh of every deployment fail, after it was posted. Each entry has to match an operation of
/// its provider, in the right box: control or data. Typing damage such as a space, a curly quote or an invisible character is
/// named, and so is what may have been meant.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct LintArgs {
    /// Control actions; ; may stand between them
    #[arg(required_unless_present_any = ["data_actions", "file", "offer"])]
    actions: Vec<String>,
    /// Data action; may be given several times
    #[arg(long = "data-action", value_name = "ACTION")]
    data_actions: Vec<String>,
    /// File with actions, or - for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A published version of this offer instead, as the service saw it in Partner Center; with the three below
    #[arg(long, requires_all = ["publisher", "plan", "version"], conflicts_with_all = ["actions", "data_actions", "file"])]
    offer: Option<String>,
    /// Its publisher
    #[arg(long, requires = "offer")]
    publisher: Option<String>,
    /// Its plan
    #[arg(long, requires = "offer")]
    plan: Option<String>,
    /// The version
    #[arg(long, requires = "offer")]
    version: Option<Version>,
    /// Count warnings too
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Which service, for --offer.
    #[command(flatten)]
    service: ServiceArgs,
}

/// Looks at the actions and says what is wrong with them.
pub async fn run(args: LintArgs) -> Result<Exit, Failure> {
    let findings = if args.offer.is_some() { published(&args).await? } else { typed(&args).await? };
    report(&findings, args.json)?;
    let counts = |finding: &Finding| finding.severity == Severity::Rejected || args.strict;
    Ok(if findings.iter().any(counts) { Exit::LintRejected } else { Exit::Success })
}

/// The service looks at a version that it saw.
async fn published(args: &LintArgs) -> Result<Vec<Finding>, Failure> {
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let request = PublishRequest {
        publisher: text(&args.publisher),
        offer: text(&args.offer),
        plan: text(&args.plan),
        version: args.version.map(|version| version.to_string().into()),
        ..PublishRequest::default()
    };
    Ok(ApiClient::new(&args.service)?.lint(&request).await?.findings)
}

/// Looks at what was typed, or stands in a file.
async fn typed(args: &LintArgs) -> Result<Vec<Finding>, Failure> {
    let mut actions = match &args.file {
        Some(file) => actions_in(file)?,
        None => AllowedActions::default(),
    };
    actions.control.extend(args.actions.iter().cloned());
    actions.data.extend(args.data_actions.iter().cloned());
    if actions.is_empty() {
        output::say("there are no actions to look at");
    }
    let settings = wiring::settings(&settings::environment())?;
    let linter = wiring::linter(&settings)
        .map_err(|error| Failure::new(error, "correct the setting that names it").exit(Exit::Usage))?;
    Ok(linter.lint(&actions).await)
}

fn report(findings: &[Finding], json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(&findings);
    }
    let mut text = String::new();
    for finding in findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}", finding.severity.word(), plain(&finding.to_string()));
    }
    output::print(&text)?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let warnings = counted(count(Severity::Warning), "warning");
    output::say(&format!("rejected: {}; {warnings}", count(Severity::Rejected)));
    if findings.iter().any(|finding| finding.rule == Rule::NotChecked) {
        output::say("hint: sign in with `az login`, or set AZURE_…, so that every provider can be read");
    }
    Ok(())
}

/// The actions in a file.
pub(super) fn actions_in(file: &Path) -> Result<AllowedActions, Failure> {
    let bytes = super::publish::read_input(file)?;
    parse(&bytes).map_err(|why| {
        let error = anyhow::anyhow!("{} holds no actions: {why}", file.display());
        Failure::new(error, "see `permafresh lint --help` for what a file may hold").exit(Exit::Usage)
    })
}

/// The members that name actions, in the forms that there are of them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Members {
    allowed_customer_actions: Vec<String>,
    allowed_control_actions: Vec<String>,
    actions: Vec<String>,
    not_actions: Vec<String>,
    allowed_data_actions: Vec<String>,
    data_actions: Vec<String>,
    not_data_actions: Vec<String>,
}

fn parse(bytes: &[u8]) -> Result<AllowedActions, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
    if !text.trim_start().starts_with(['{', '[']) {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let control = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
        return Ok(AllowedActions { control, data: Vec::new() });
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut found = AllowedActions::default();
    collect(value, &mut found)?;
    if found.is_empty() { Err("no member of it names any".to_owned()) } else { Ok(found) }
}

/// Takes the actions out of an object, and out of what it wraps.
fn collect(value: Value, found: &mut AllowedActions) -> Result<(), String> {
    match value {
        Value::String(action) => found.control.push(action),
        Value::Array(items) => items.into_iter().try_for_each(|item| collect(item, found))?,
        Value::Object(mut object) => {
            for wrapper in ["value", "properties", "permissions"] {
                match object.remove(wrapper) {
                    Some(inner @ (Value::Object(_) | Value::Array(_))) => collect(inner, found)?,
                    _ => continue,
                }
            }
            let members: Members = serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
            found.control.extend(members.allowed_customer_actions);
            found.control.extend(members.allowed_control_actions);
            found.control.extend(members.actions);
            found.control.extend(members.not_actions);
            found.data.extend(members.allowed_data_actions);
            found.data.extend(members.data_actions);
            found.data.extend(members.not_data_actions);
        }
        _ => return Err("an action is a string".to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(control: &[&str], data: &[&str]) -> AllowedActions {
        let owned = |of: &[&str]| of.iter().map(|action| (*action).to_owned()).collect();
        AllowedActions { control: owned(control), data: owned(data) }
    }

    #[test]
    fn a_file_is_read_in_each_of_its_forms() {
        for (text, expected) in [
            ("a.b/read\n# no\n\n c.d/read # why\r\n", actions(&["a.b/read", "c.d/read"], &[])),
            (r#"["a.b/read;c.d/read"]"#, actions(&["a.b/read;c.d/read"], &[])),
            (
                r#"{"value": [{"version": "1.0.0", "allowedCustomerActions": ["a"], "allowedDataActions": ["b"]}]}"#,
                actions(&["a"], &["b"]),
            ),
            (
                r#"{"properties": {"permissions": [{"actions": ["*/read"], "notActions": ["a"], "dataActions": ["b"], "notDataActions": ["c"]}]}}"#,
                actions(&["*/read", "a"], &["b", "c"]),
            ),
            ("\u{feff}{\"actions\": [\"a\"]}", actions(&["a"], &[])),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for bad in ["{", "[7]", "{}", r#"{"actions": "a"}"#, "[]", "\u{feff}[null]"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\xff").is_err());
    }
}
