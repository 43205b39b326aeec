//! `permafresh lighthouse template`: the ARM template that a customer deploys, and its parameters.
//!
//! Asks nobody and overwrites nothing unless told to. What it writes keeps every rule, or is not written.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::guid;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::plain;
use crate::lighthouse::template::{Options, Principal, Scope, Support, write};
use crate::lighthouse::{Batch, Context, Document, Finding, Severity, judge};
use crate::rollout::strategy::iso_duration;

const EXAMPLES: &str = "\
Who gets what:
  PRINCIPAL       at any time: Managed Application Operator Role (refresh), and the role to end
                  the delegation; with --jit also what just-in-time requests need
  SUPPORT GROUP   at any time: Reader; on request, for a limited time: Contributor

Examples:
  One resource group, which the customer names when deploying:
    permafresh lighthouse template --scope resource-group --tenant TENANT --principal PRINCIPAL \\
        --offer 'Fabrikam permission refresh'
  Two groups, and people who may do more for two hours if a lead approves:
    permafresh lighthouse template --scope resource-groups --resource-group a --resource-group b \\
        --tenant TENANT --principal PRINCIPAL --offer 'Fabrikam permission refresh' \\
        --support-group GROUP --approver LEADS='Support leads' --longest PT2H

PRINCIPAL is the object id of the service principal, not its client id:
  az ad sp show --id CLIENT_ID --query id

Exit codes:
  0  both files are written
  1  they could not be written
  2  the command line is wrong";

/// Write the ARM template that a customer deploys to delegate to you, and its parameters
///
/// The delegation lets the identity of the service refresh permissions, and nothing wider. A customer with the role Owner
/// deploys it, once for each subscription; deploying it again under the same offer name replaces it. The same command
/// writes the same bytes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TemplateArgs {
    /// What is delegated
    #[arg(long)]
    scope: ScopeKind,
    /// Resource group that holds applications (not a managed one); it has to exist
    #[arg(long = "resource-group", value_name = "NAME")]
    resource_groups: Vec<String>,
    /// Your own tenant
    #[arg(long, value_name = "TENANT", value_parser = guid)]
    tenant: String,
    /// Object id of the service principal that refreshes
    #[arg(long, value_name = "PRINCIPAL", value_parser = guid)]
    principal: String,
    /// What the customer reads about that principal
    #[arg(long, value_name = "NAME", default_value = "Permission refresh")]
    principal_name: String,
    /// Name of the offer; another delegation of the same subscription needs another one
    #[arg(long, value_name = "NAME")]
    offer: String,
    /// What the customer reads about the offer
    #[arg(long, value_name = "TEXT", default_value = "Re-applies the permissions of managed applications")]
    description: String,
    /// Let the principal file just-in-time requests too
    #[arg(long)]
    jit: bool,
    /// Security group of people who may look in, and do more on request
    #[arg(long, value_name = "GROUP", value_parser = guid)]
    support_group: Option<String>,
    /// What the customer reads about that group
    #[arg(long, value_name = "NAME", default_value = "Support")]
    support_name: String,
    /// User or group that has to approve such a request, up to ten times; without one nobody has to
    #[arg(long = "approver", value_name = "ID=NAME", value_parser = approver, requires = "support_group")]
    approvers: Vec<Principal>,
    /// How long such a request lasts at most, from PT30M to PT8H
    #[arg(long, value_name = "DURATION", default_value = "PT8H", value_parser = duration)]
    longest: Duration,
    /// Template to write; the parameters go beside it, as NAME.parameters.json
    #[arg(long, value_name = "FILE", default_value = "lighthouse.json")]
    out: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is delegated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScopeKind {
    /// A whole subscription
    Subscription,
    /// One resource group
    ResourceGroup,
    /// Several resource groups of one subscription
    ResourceGroups,
}

fn approver(text: &str) -> Result<Principal, String> {
    let (id, name) = text.split_once('=').ok_or("expected ID=NAME")?;
    let name = name.trim();
    if name.is_empty() {
        return Err("expected a name after =".to_owned());
    }
    Ok(Principal { id: guid(id)?, name: name.to_owned() })
}

fn duration(text: &str) -> Result<Duration, String> {
    iso_duration::parse(text).ok_or_else(|| "expected a duration of ISO 8601, such as PT2H30M".to_owned())
}

/// Writes both files.
pub fn run(args: TemplateArgs) -> Result<Exit, Failure> {
    let usage = |text: &str, hint: &str| Failure::new(anyhow::anyhow!("{text}"), hint).exit(Exit::Usage);
    if args.out.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("json")) {
        return Err(usage("--out does not end in .json", "give a name such as lighthouse.json"));
    }
    let mut groups = args.resource_groups;
    let scope = match (args.scope, groups.len()) {
        (ScopeKind::Subscription, 0) => Scope::Subscription,
        (ScopeKind::Subscription, _) => {
            return Err(usage(
                "a whole subscription has no --resource-group",
                "give --scope resource-groups, or no group",
            ));
        }
        (ScopeKind::ResourceGroup, 0 | 1) => Scope::ResourceGroup(groups.pop()),
        (ScopeKind::ResourceGroup, _) => {
            return Err(usage("more than one --resource-group", "give --scope resource-groups"));
        }
        (ScopeKind::ResourceGroups, 0) => {
            return Err(usage("no --resource-group", "name each group with --resource-group"));
        }
        (ScopeKind::ResourceGroups, _) => Scope::ResourceGroups(groups),
    };
    let options = Options {
        scope,
        offer: args.offer,
        description: args.description,
        tenant: args.tenant,
        service: Principal { id: args.principal.clone(), name: args.principal_name },
        jit: args.jit,
        support: args.support_group.map(|id| Support {
            group: Principal { id, name: args.support_name },
            longest: args.longest,
            approvers: args.approvers,
        }),
    };
    let parameters = args.out.with_extension("parameters.json");
    let written = write(&options);
    let findings = judged(&args.out, &written.template, &parameters, &written.parameters, args.principal);
    if let Some(worst) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        let error = anyhow::anyhow!("this delegation would not keep rule {}: {}", worst.rule, worst.message);
        return Err(Failure::new(error, worst.fix.clone()).exit(Exit::Usage));
    }
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        say(&format!("warning: {} ({}): {}", plain(&finding.message), finding.rule, plain(&finding.fix)));
    }
    if !args.force
        && let Some(there) = [&args.out, &parameters].into_iter().find(|path| path.exists())
    {
        let error = anyhow::anyhow!("{} is there already", there.display());
        return Err(Failure::new(error, "give another --out, or --force to replace it"));
    }
    put(&args.out, &written.template)?;
    put(&parameters, &written.parameters)?;
    say("An Owner of the customer's subscription deploys it there:");
    say(&format!(
        "  az deployment sub create --location REGION --template-file {} --parameters @{}",
        args.out.display(),
        parameters.display()
    ));
    if options.scope == Scope::ResourceGroup(None) {
        say("and is asked for the resource group (or adds: --parameters resourceGroup=NAME).");
    }
    say("Then look: permafresh lighthouse check SUBSCRIPTION_OR_APPLICATION_ID");
    if args.json {
        print_json(&json!({"template": args.out, "parameters": parameters}))?;
        return Ok(Exit::Success);
    }
    print(&format!("{}\n{}\n", args.out.display(), parameters.display()))?;
    Ok(Exit::Success)
}

/// What the rules say of our own; licences and kinds of principals are the caller's affair.
fn judged(template: &Path, text: &str, parameters: &Path, values: &str, principal: String) -> Vec<Finding> {
    let read = |path: &Path, text: &str| Document::read(&path.display().to_string(), text.as_bytes());
    match (read(template, text), read(parameters, values)) {
        (Ok(template), Ok(parameters)) => {
            let context = Context { principal: Some(principal), licensed: true, ..Context::default() };
            judge(&Batch::of(&[template, parameters]), &context)
        }
        (Err(finding), _) | (_, Err(finding)) => vec![finding],
    }
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(|error| Failure::new(error, "give another --out"))
}
