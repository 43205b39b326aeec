//! `permafresh lighthouse validate`: rules L01 to L26 on anybody's files.
//!
//! Reads what is named and nothing else; changes nothing and asks nobody.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::guid;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::plain;
use crate::lighthouse::document::LARGEST;
use crate::lighthouse::principal::Principals;
use crate::lighthouse::role::Roles;
use crate::lighthouse::{Batch, Cloud, Context, Document, Finding, Severity, judge};
use crate::rollout::counted;

const EXAMPLES: &str = "\
A parameter file belongs to the template of its own name (x.json, x.parameters.json), else to the
only template, else to the only one that declares its parameters. References to parameters and
variables are followed; what only Azure can compute is noted and left alone.

Examples:
  permafresh lighthouse validate lighthouse.json lighthouse.parameters.json
  With everything that can be known:
    az role definition list --output json > roles.json
    permafresh lighthouse validate rg.json rg.parameters.json --roles roles.json \\
        --principals principals.json --principal PRINCIPAL --customer-tenant TENANT --licensed

Rules: docs/access.md. Exit codes:
  0  no error
  1  there are errors (with --deny-warnings: or warnings)
  2  the command line is wrong, or a file cannot be opened";

/// How much of a list of roles or principals is read; all built-in roles are a few MiB.
const LARGEST_SIDE_FILE: usize = 64 * 1024 * 1024;

/// Check Lighthouse templates and parameters before a customer sees them
///
/// Takes ARM templates, their parameter files, or bare values, whoever wrote them, and names file, place, rule and what to
/// do for everything that Azure refuses or somebody will regret.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ValidateArgs {
    /// Templates and parameter files; - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Object id of the service principal that refreshes
    #[arg(long, value_name = "PRINCIPAL", value_parser = guid)]
    principal: Option<String>,
    /// The customer's tenant
    #[arg(long, value_name = "TENANT", value_parser = guid)]
    customer_tenant: Option<String>,
    /// What Microsoft Graph's directoryObjects/getByIds says of the principals
    #[arg(long, value_name = "FILE")]
    principals: Option<PathBuf>,
    /// What `az role definition list` prints [default: the built-in roles known to this program]
    #[arg(long, value_name = "FILE")]
    roles: Option<PathBuf>,
    /// Your cloud
    #[arg(long, default_value = "public")]
    cloud: CloudName,
    /// The customer's cloud [default: yours]
    #[arg(long)]
    customer_cloud: Option<CloudName>,
    /// Your tenant has licences of Microsoft Entra ID Governance or P2
    #[arg(long)]
    licensed: bool,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which of Azure's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CloudName {
    /// Azure
    Public,
    /// Azure Government
    UsGovernment,
    /// Azure operated by 21Vianet
    China,
}

impl From<CloudName> for Cloud {
    fn from(name: CloudName) -> Self {
        match name {
            CloudName::Public => Self::Public,
            CloudName::UsGovernment => Self::UsGovernment,
            CloudName::China => Self::China,
        }
    }
}

#[derive(Serialize)]
struct Judged<'a> {
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: &'a [Finding],
}

/// Judges the files.
pub fn run(args: &ValidateArgs) -> Result<Exit, Failure> {
    let context = Context {
        customer_tenant: args.customer_tenant.clone(),
        principal: args.principal.clone(),
        principals: side_file(args.principals.as_deref(), Principals::from_json)?,
        roles: side_file(args.roles.as_deref(), Roles::from_json)?.unwrap_or_default(),
        cloud: args.cloud.into(),
        customer_cloud: args.customer_cloud.map(Cloud::from),
        licensed: args.licensed,
    };
    let mut documents = Vec::new();
    let mut findings = Vec::new();
    for path in &args.files {
        match Document::read(&path.display().to_string(), &bytes(path, LARGEST)?) {
            Ok(document) => documents.push(document),
            Err(finding) => findings.push(finding),
        }
    }
    findings.extend(judge(&Batch::of(&documents), &context));
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    if args.json {
        print_json(&Judged { errors, warnings, notes, findings: &findings })?;
    } else {
        print(&in_words(&findings))?;
        let counts = [(errors, "error"), (warnings, "warning"), (notes, "note")];
        let counts = counts.map(|(count, noun)| counted(count as u64, noun)).join(", ");
        say(&format!("{counts} in {}", counted(args.files.len() as u64, "file")));
    }
    Ok(if errors > 0 || (args.deny_warnings && warnings > 0) { Exit::Failure } else { Exit::Success })
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { severity, rule, file, path, message, fix } in findings {
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let (file, path, message, fix) = (plain(file), plain(path), plain(message), plain(fix));
        writeln!(text, "{severity} {rule} {file} {path}\n  {message}\n  to do: {fix}")
            .expect("writing to a String cannot fail");
    }
    text
}

fn side_file<T, E>(path: Option<&Path>, read: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let Some(path) = path else { return Ok(None) };
    let text = bytes(path, LARGEST_SIDE_FILE)?;
    let text = String::from_utf8_lossy(&text);
    read(text.trim_start_matches('\u{feff}'))
        .map(Some)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| Failure::new(error, "give the JSON that the help names").exit(Exit::Usage))
}

/// The file, up to a byte more than it may have.
fn bytes(path: &Path, largest: usize) -> Result<Vec<u8>, Failure> {
    let limit = largest as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| Failure::new(error, "name files that are there").exit(Exit::Usage))?;
    Ok(bytes)
}
