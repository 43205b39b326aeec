//! What holds for just-in-time access: who, how long, who approves (L09 to L19 as far as they are about it).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::entry::{Entry, Part, is_blank};
use super::{Judge, guid};
use crate::lighthouse::delegation::entries;
use crate::lighthouse::node::{List, Node, Text};
use crate::lighthouse::role::READER;
use crate::rollout::strategy::iso_duration;

/// What Azure takes where no duration is given.
const LONGEST: Duration = Duration::from_secs(8 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(30 * 60);
const MOST_APPROVERS: usize = 10;

/// The settings of an access policy, by value: PT8H is PT480M.
#[derive(PartialEq, Eq)]
struct Policy {
    provider: String,
    duration: Duration,
    approvers: BTreeSet<String>,
}

impl Judge<'_> {
    /// The eligible entries, as far as they are known.
    pub(super) fn eligible<'a>(&mut self, node: &Node<'a>, active: Option<&[Entry<'a>]>) -> Vec<Entry<'a>> {
        let listed = match node.list() {
            List::Absent => return Vec::new(),
            List::Computed => {
                self.unknown(node, "the list of eligible authorizations");
                return Vec::new();
            }
            List::Wrong => {
                self.error("L10", node, "eligibleAuthorizations are not a list", "give a list, or leave them out");
                return Vec::new();
            }
            List::Of(entries) => entries,
        };
        let entries: Vec<Entry<'a>> = listed.into_iter().map(Entry::new).collect();
        let permanent = active.map(Permanent::of);
        for entry in &entries {
            if entry.node.is_computed() {
                self.unknown(&entry.node, "this eligible authorization");
            } else if entry.node.object().is_none() {
                let fix = "give principalId, principalIdDisplayName, roleDefinitionId and justInTimeAccessPolicy";
                self.error("L10", &entry.node, "this eligible authorization is not an object", fix);
            } else {
                self.eligible_entry(entry, permanent.as_ref());
            }
        }
        self.same_policies(&entries);
        entries
    }

    fn eligible_entry(&mut self, entry: &Entry<'_>, permanent: Option<&Permanent>) {
        self.principal(&entry.principal, Part::Eligible);
        self.role(&entry.role, Part::Eligible);
        if is_blank(entry.name.text()) {
            self.error(
                "L19",
                &entry.name,
                "this eligible authorization has no principalIdDisplayName",
                "give a name that tells the customer who it is",
            );
        }
        if matches!(entry.delegated.list(), List::Wrong) || !entries(&entry.delegated).is_empty() {
            let fix = "leave them out: only an active User Access Administrator has them";
            self.error(
                "L11",
                &entry.delegated,
                "an eligible authorization cannot have delegatedRoleDefinitionIds",
                fix,
            );
        }
        self.duration(&entry.policy.member("maximumActivationDuration"));
        self.provider(entry);
        self.approvers(entry);
        if let Some(permanent) = permanent {
            self.permanent_reader(entry, permanent);
        }
    }

    fn duration(&mut self, node: &Node<'_>) {
        const FIX: &str = "give a duration of ISO 8601 from PT30M to PT8H, such as PT2H30M";
        match node.text() {
            Text::Absent | Text::Computed => {}
            Text::Wrong => self.error("L12", node, "maximumActivationDuration is not a text", FIX),
            Text::Is(text) => match iso_duration::parse(text) {
                None => self.error("L12", node, format!("maximumActivationDuration {text:?} cannot be read"), FIX),
                Some(duration) if !(SHORTEST..=LONGEST).contains(&duration) => {
                    let bound = if duration > LONGEST { "longer than 8 hours" } else { "shorter than 30 minutes" };
                    self.error("L12", node, format!("maximumActivationDuration {text:?} is {bound}"), FIX);
                }
                Some(duration) if duration.as_secs() % SHORTEST.as_secs() != 0 => {
                    let message = format!("maximumActivationDuration {text:?} is not a multiple of half an hour");
                    self.warn("L12", node, message, "the portal offers half hours: round it to one");
                }
                Some(_) => {}
            },
        }
    }

    fn provider(&mut self, entry: &Entry<'_>) {
        const FIX: &str = "set multiFactorAuthProvider to Azure, so that who elevates proves who they are";
        let node = if entry.policy.is_absent() {
            entry.policy.clone()
        } else {
            entry.policy.member("multiFactorAuthProvider")
        };
        match node.text() {
            Text::Computed => {}
            Text::Absent if entry.policy.is_absent() => {
                self.warn("L13", &node, "without justInTimeAccessPolicy nobody asks for a second factor", FIX);
            }
            Text::Absent => self.error("L13", &node, "multiFactorAuthProvider is missing", FIX),
            Text::Is(word) if word.eq_ignore_ascii_case("Azure") => {}
            Text::Is(word) if word.eq_ignore_ascii_case("None") => {
                self.warn("L13", &node, "nobody asks for a second factor when this role is activated", FIX);
            }
            Text::Is(word) => {
                self.error("L13", &node, format!("multiFactorAuthProvider {word:?} is neither Azure nor None"), FIX);
            }
            Text::Wrong => self.error("L13", &node, "multiFactorAuthProvider is not a text", FIX),
        }
    }

    fn approvers(&mut self, entry: &Entry<'_>) {
        let node = entry.approvers();
        let approvers = match node.list() {
            List::Absent | List::Computed => return,
            List::Wrong => {
                return self.error(
                    "L14",
                    &node,
                    "managedByTenantApprovers are not a list",
                    "give a list, or leave them out",
                );
            }
            List::Of(approvers) => approvers,
        };
        if approvers.is_empty() {
            let fix = "name at least one approver, or leave the list out: then nobody has to approve";
            self.error("L14", &node, "managedByTenantApprovers are empty", fix);
        }
        if approvers.len() > MOST_APPROVERS {
            let message = format!("{} approvers, and there may be {MOST_APPROVERS}", approvers.len());
            self.error("L14", &node, message, "name a group instead of its members");
        }
        for approver in approvers.iter().filter(|approver| !approver.is_computed()) {
            self.principal(&approver.member("principalId"), Part::Approver);
            let name = approver.member("principalIdDisplayName");
            if is_blank(name.text()) {
                self.error("L14", &name, "this approver has no principalIdDisplayName", "give a name");
            }
        }
        if let ([approver], Some(principal)) = (&approvers[..], entry.principal_id())
            && guid(approver.member("principalId").text()) == Some(principal)
        {
            self.warn(
                "L16",
                approver,
                "the only approver is who is eligible, and nobody may approve themselves",
                "name another approver, or a second one",
            );
        }
    }

    /// Entries of one role have one policy.
    fn same_policies(&mut self, entries: &[Entry<'_>]) {
        let mut first: BTreeMap<String, (usize, Policy)> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let (Some(role), Some(policy)) = (entry.role_id(), policy_of(entry)) else { continue };
            match first.get(&role) {
                None => {
                    first.insert(role, (at, policy));
                }
                Some((_, same)) if *same == policy => {}
                Some((before, _)) => self.error(
                    "L17",
                    if entry.policy.is_absent() { &entry.node } else { &entry.policy },
                    format!("the same role has another access policy at {}", entries[*before].node.path),
                    "give all entries of one role the same factor, duration and approvers",
                ),
            }
        }
    }

    /// Without permanent reading rights nobody can elevate in the portal.
    fn permanent_reader(&mut self, entry: &Entry<'_>, permanent: &Permanent) {
        let (Some(principal), Some(role)) = (entry.principal_id(), entry.role_id()) else { return };
        let mut unknown = permanent.some_unknown;
        for other in permanent.roles.get(&principal).into_iter().flatten().filter(|other| **other != role) {
            match self.context.roles.get(other) {
                Some(other) if other.traits.reads => return,
                Some(_) => {}
                None => unknown = true,
            }
        }
        let fix = format!("add an active authorization for {principal} with Reader, {READER}");
        if unknown {
            let message = "whether this principal may read permanently cannot be said: not all active roles are known";
            self.warn("L18", &entry.principal, message, fix);
        } else {
            let message =
                "this principal has no active authorization with a different role that may read: it could not elevate";
            self.error("L18", &entry.principal, message, fix);
        }
    }
}

/// Who has which roles at any time.
struct Permanent {
    roles: HashMap<String, BTreeSet<String>>,
    some_unknown: bool,
}

impl Permanent {
    fn of(active: &[Entry<'_>]) -> Self {
        let mut permanent = Self { roles: HashMap::new(), some_unknown: false };
        for entry in active {
            permanent.some_unknown |=
                [&entry.node, &entry.principal, &entry.role].iter().any(|node| node.is_computed());
            if let (Some(principal), Some(role)) = (entry.principal_id(), entry.role_id()) {
                permanent.roles.entry(principal).or_default().insert(role);
            }
        }
        permanent
    }
}

/// The policy, if all of it is known and can be read.
fn policy_of(entry: &Entry<'_>) -> Option<Policy> {
    let text = |node: Node<'_>, otherwise: &str| match node.text() {
        Text::Is(text) => Some(text.to_ascii_lowercase()),
        Text::Absent => Some(otherwise.to_owned()),
        Text::Computed | Text::Wrong => None,
    };
    if entry.node.is_computed() || entry.policy.is_computed() {
        return None;
    }
    let approvers = entry.approvers();
    let known = match approvers.list() {
        List::Absent => Vec::new(),
        List::Of(approvers) => approvers,
        List::Computed | List::Wrong => return None,
    };
    Some(Policy {
        provider: text(entry.policy.member("multiFactorAuthProvider"), "none")?,
        duration: iso_duration::parse(
            &text(entry.policy.member("maximumActivationDuration"), "pt8h")?.to_ascii_uppercase(),
        )?,
        approvers: known.iter().map(|approver| text(approver.member("principalId"), "")).collect::<Option<_>>()?,
    })
}
