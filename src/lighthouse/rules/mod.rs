//! Rules L01 to L26 of contracts/access.md §3.3, for delegations that anybody wrote.
//!
//! A rule speaks only of what is known: what Azure computes at deployment is noted once and left alone. `delegation` has the
//! rules about a delegation as a whole, `entry` those about one authorization, `eligible` those about just-in-time
//! access, `batch` those about several delegations.

mod batch;
mod delegation;
mod eligible;
mod entry;
#[cfg(test)]
mod tests;

use super::delegation::Batch;
use super::finding::{Finding, Severity};
use super::node::{Node, Text};
use super::principal::Principals;
use super::role::Roles;
use crate::rollout::resource_id::is_guid;

/// Which of Azure's clouds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The public one.
    #[default]
    Public,
    /// For governments of the United States.
    UsGovernment,
    /// In China.
    China,
}

/// What is known beside the files.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The customer's tenant.
    pub customer_tenant: Option<String>,
    /// The object id of the service principal that refreshes.
    pub principal: Option<String>,
    /// What Graph says of the principals.
    pub principals: Option<Principals>,
    /// What the roles allow.
    pub roles: Roles,
    /// The publisher's cloud.
    pub cloud: Cloud,
    /// The customer's cloud, if it is another one.
    pub customer_cloud: Option<Cloud>,
    /// Whether the publisher's tenant has licences for eligible authorizations.
    pub licensed: bool,
}

/// Applies every rule to a batch; what it found about the files comes first.
pub fn judge(batch: &Batch<'_>, context: &Context) -> Vec<Finding> {
    let mut judge = Judge { context, findings: batch.findings.clone() };
    for delegation in &batch.delegations {
        judge.delegation(delegation);
    }
    judge.several(&batch.delegations);
    let mut findings = judge.findings;
    // Several parameter files may lead to the same place of one template.
    let mut seen = std::collections::HashSet::new();
    findings.retain(|finding| {
        seen.insert((finding.rule, finding.file.clone(), finding.path.clone(), finding.message.clone()))
    });
    findings
}

struct Judge<'c> {
    context: &'c Context,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn error(&mut self, rule: &'static str, at: &Node<'_>, message: impl Into<String>, fix: impl Into<String>) {
        self.find(Severity::Error, rule, at, message.into(), fix.into());
    }

    fn warn(&mut self, rule: &'static str, at: &Node<'_>, message: impl Into<String>, fix: impl Into<String>) {
        self.find(Severity::Warning, rule, at, message.into(), fix.into());
    }

    fn note(&mut self, rule: &'static str, at: &Node<'_>, message: impl Into<String>, fix: impl Into<String>) {
        self.find(Severity::Note, rule, at, message.into(), fix.into());
    }

    fn find(&mut self, severity: Severity, rule: &'static str, at: &Node<'_>, message: String, fix: String) {
        let (file, path) = (at.file.to_string(), at.path.clone());
        self.findings.push(Finding { severity, rule, file, path, message, fix });
    }

    /// Says once that something is known only at deployment.
    fn unknown(&mut self, at: &Node<'_>, what: &str) {
        self.note(
            "L00",
            at,
            format!("{what} is known only at deployment, so no rule was applied to it"),
            "give the parameter file too, or write the value itself",
        );
    }
}

/// A text that is a GUID of somebody, in lower case.
fn guid(text: Text<'_>) -> Option<String> {
    match text {
        Text::Is(text) if is_guid(text) && !is_placeholder(text) => Some(text.to_ascii_lowercase()),
        Text::Is(_) | Text::Absent | Text::Computed | Text::Wrong => None,
    }
}

/// Samples have this where a real id belongs.
fn is_placeholder(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

/// Why a text is not an id, in words; `None` if it is one, or cannot be known.
fn no_guid(text: Text<'_>) -> Option<String> {
    match text {
        Text::Computed => None,
        Text::Absent => Some("is missing".to_owned()),
        Text::Wrong => Some("is not a text".to_owned()),
        Text::Is(text) if !is_guid(text) => Some(format!("is {text:?}, which is not a GUID")),
        Text::Is(text) if is_placeholder(text) => Some("is the placeholder of a sample".to_owned()),
        Text::Is(_) => None,
    }
}
