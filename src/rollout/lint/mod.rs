//! The lint of a version's allowed actions: are they real, and in the right box (contracts/offer-publish.md §3.6)?
//!
//! One wrong entry makes the refresh fail at every customer, and only after it was posted. So each entry is compared with the
//! operations that its provider has. What cannot be known, such as a provider that Azure does not name, is a warning and
//! rejects nothing; what no provider can have, such as a space inside a name, is rejected without asking. Pure: the
//! operations are an argument.

mod entry;
mod nearest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use entry::namespace;
use entry::{Reading, is_broad, read};
use nearest::{nearest_namespaces, nearest_operations};

use super::package::{action_covers, split_actions};

/// The two boxes of Partner Center that name actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActionBox {
    /// `allowedCustomerActions`.
    Control,
    /// `allowedDataActions`.
    Data,
}

impl fmt::Display for ActionBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "allowed control actions",
            Self::Data => "allowed data actions",
        })
    }
}

/// What the two boxes hold, entry by entry as it was typed; an entry may still hold several with `;` between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedActions {
    /// Control actions.
    pub control: Vec<String>,
    /// Data actions.
    pub data: Vec<String>,
}

impl AllowedActions {
    /// The entries of both boxes, split at `;`, without the space around them (contracts/offer-publish.md §2).
    fn entries(&self) -> impl Iterator<Item = (ActionBox, &str)> {
        let control = self.control.iter().flat_map(|raw| split_actions(raw)).map(|entry| (ActionBox::Control, entry));
        control.chain(self.data.iter().flat_map(|raw| split_actions(raw)).map(|entry| (ActionBox::Data, entry)))
    }

    /// Whether there is anything to look at.
    pub fn is_empty(&self) -> bool {
        self.entries().next().is_none()
    }
}

/// One operation of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name, as Azure spells it.
    pub name: String,
    /// Whether it is a data action.
    pub is_data: bool,
}

/// What is known of one provider's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// All of them.
    Known(Vec<Operation>),
    /// Azure has no provider of that name, or shows it to nobody like us.
    Unknown,
    /// They could not be read.
    Unread {
        /// Why.
        why: String,
    },
}

/// What is known of providers, by their lower-case namespaces.
pub type Providers = BTreeMap<String, Arc<Provider>>;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The refresh would fail, or give something else than was meant: nobody is to be called with it.
    Rejected,
    /// Worth a look.
    Warning,
}

impl Severity {
    /// Its word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Warning => "warning",
        }
    }
}

/// Which rule a finding is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// It holds what no action's name holds: a space, a quotation mark, something invisible.
    Damaged,
    /// It does not begin with a provider's namespace.
    NoNamespace,
    /// No operation of the provider is called so.
    NoSuchAction,
    /// It is a data action in the box of control actions, or the other way round.
    WrongBox,
    /// The provider is not known.
    UnknownProvider,
    /// The provider's operations could not be read.
    NotChecked,
    /// It allows everything there is.
    Everything,
    /// It is spelt in another case than Azure spells it.
    Case,
    /// It is there twice.
    Repeated,
}

/// What the lint has to say of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule found it.
    pub rule: Rule,
    /// Which box the entry stands in.
    #[serde(rename = "box")]
    pub of: ActionBox,
    /// The entry, as it was typed.
    pub entry: String,
    /// What is wrong with it.
    pub why: String,
    /// What may have been meant, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} among the {}: {}", self.entry, self.of, self.why)?;
        match self.suggestions.as_slice() {
            [] => Ok(()),
            suggestions => write!(f, "; did you mean {}?", suggestions.join(" or ")),
        }
    }
}

/// The providers whose operations have to be known for a lint, lower-case.
pub fn namespaces(actions: &AllowedActions) -> BTreeSet<String> {
    let meant = actions.entries().flat_map(|(_, entry)| read(entry).meant);
    meant.filter(|entry| !is_broad(entry)).filter_map(|entry| namespace(&entry)).collect()
}

/// What there is to say of `actions`, the rejected ones first, else in their order.
pub fn lint(actions: &AllowedActions, providers: &Providers) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for (of, entry) in actions.entries() {
        let found = if seen.insert((of, entry.to_lowercase())) {
            look(of, entry, providers)
        } else {
            Some(Found::warning(Rule::Repeated, "it is there twice"))
        };
        findings.extend(found.map(|found| found.of(of, entry)));
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Why a version must not be brought to anybody, naming the first entry that is wrong; `None` if nothing was rejected.
pub fn rejection(findings: &[Finding]) -> Option<String> {
    let rejected = findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    let more = match rejected.clone().count() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let first = rejected.clone().next()?;
    Some(format!(
        "the lint rejects the published version: {first}{more}; publish a corrected version, or resume to bring it out as it is"
    ))
}

/// A finding before it is said of an entry.
struct Found {
    severity: Severity,
    rule: Rule,
    why: String,
    suggestions: Vec<String>,
}

impl Found {
    fn rejected(rule: Rule, why: impl Into<String>, suggestions: Vec<String>) -> Self {
        Self { severity: Severity::Rejected, rule, why: why.into(), suggestions }
    }

    fn warning(rule: Rule, why: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule, why: why.into(), suggestions: Vec::new() }
    }

    fn of(self, of: ActionBox, entry: &str) -> Finding {
        let Self { severity, rule, why, suggestions } = self;
        Finding { severity, rule, of, entry: entry.to_owned(), why, suggestions }
    }
}

fn look(of: ActionBox, entry: &str, providers: &Providers) -> Option<Found> {
    let Reading { meant, damage } = read(entry);
    if damage.is_empty() {
        return compare(of, entry, providers);
    }
    // Some names in Azure are odd; what is one of them is not damaged.
    let is_real = namespace(entry).and_then(|namespace| providers.get(&namespace)).is_some_and(
        |provider| matches!(&**provider, Provider::Known(operations) if operations.iter().any(|o| action_covers(entry, &o.name))),
    );
    if is_real {
        return compare(of, entry, providers);
    }
    let suggestions = meant.iter().flat_map(|entry| match compare(of, entry, providers) {
        Some(found) if found.severity == Severity::Rejected && !found.suggestions.is_empty() => found.suggestions,
        _ => vec![entry.clone()],
    });
    let several = meant.len() > 1;
    let why = if several { "it holds several actions: put ; between them".to_owned() } else { damage.join("; ") };
    let suggestions: Vec<String> = suggestions.collect();
    let suggestions = if several { vec![suggestions.join(";")] } else { suggestions };
    Some(Found::rejected(Rule::Damaged, why, suggestions))
}

/// Compares an undamaged entry with what its provider has.
fn compare(of: ActionBox, entry: &str, providers: &Providers) -> Option<Found> {
    if is_broad(entry) {
        let everything = entry == "*";
        return everything.then(|| Found::warning(Rule::Everything, "it allows the customer everything there is"));
    }
    if entry.split('/').next().is_some_and(|first| first.contains('*')) {
        return Some(Found::warning(Rule::NotChecked, "it names no single provider, so it was compared with nothing"));
    }
    let Some(namespace) = namespace(entry) else {
        let why = "it does not begin with a provider's namespace, such as Microsoft.Compute/";
        return Some(Found::rejected(Rule::NoNamespace, why, Vec::new()));
    };
    let operations = match providers.get(&namespace).map(|provider| &**provider) {
        Some(Provider::Known(operations)) => operations,
        Some(Provider::Unknown) => {
            let why = format!("Azure shows no provider {namespace}, so it was compared with nothing");
            let suggestions = nearest_namespaces(&namespace);
            return Some(Found { suggestions, ..Found::warning(Rule::UnknownProvider, why) });
        }
        Some(Provider::Unread { why }) => {
            let why = format!("the operations of {namespace} could not be read: {why}");
            return Some(Found::warning(Rule::NotChecked, why));
        }
        None => {
            return Some(Found::warning(Rule::NotChecked, format!("the operations of {namespace} were not looked at")));
        }
    };
    let is_here = |operation: &&Operation| operation.is_data == (of == ActionBox::Data);
    let mut covered = operations.iter().filter(|operation| action_covers(entry, &operation.name)).peekable();
    if covered.peek().is_none() {
        let suggestions = nearest_operations(entry, operations, of == ActionBox::Data);
        let why = "it matches no operation of its provider";
        return Some(Found::rejected(Rule::NoSuchAction, why, suggestions));
    }
    let Some(here) = covered.find(is_here) else {
        let why = match of {
            ActionBox::Control => "it is a data action: it belongs among the allowed data actions",
            ActionBox::Data => "it is a control action: it belongs among the allowed control actions",
        };
        return Some(Found::rejected(Rule::WrongBox, why, Vec::new()));
    };
    let differs = !entry.contains('*') && here.name != entry;
    differs.then(|| {
        let why = "Azure spells it in another case, which makes no difference";
        Found { suggestions: vec![here.name.clone()], ..Found::warning(Rule::Case, why) }
    })
}
