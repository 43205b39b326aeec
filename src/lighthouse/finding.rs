//! What a rule found: where, why it is wrong, and what to do.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Azure refuses it, or it does not do what it is for.
    Error,
    /// It works, and somebody will regret it.
    Warning,
    /// It could not be looked at with what was given.
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// `L01` to `L26` of contracts/access.md §3.3; `L00` where a file cannot be read, or files do not fit together.
    pub rule: &'static str,
    /// The file, as it was named.
    pub file: String,
    /// Where in the file: a JSON path, `$` being the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}
