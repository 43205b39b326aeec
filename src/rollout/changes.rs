//! What a rollout would change, against the versions that its deployments have: the widest difference counts.
//!
//! In doubt it changes something: a version without a snapshot, a deployment whose version nobody knows, or a member of a
//! package that we do not know, is a doubt, and a doubt is reason enough to refresh. Such a member counts even where it is the
//! same in both versions: it may name something that is kept elsewhere and has changed there, as most ids of Partner Center do.
//! A package that cannot be read at all has no version to bring, so nothing is raised for it until it can be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::difference::{Entries, SettingChange};
use super::watch::Snapshot;
use super::{Difference, RolloutId, Version};

/// What a rollout would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// The version that differs most, of those that deployments have.
    pub against: Option<Version>,
    /// What is different from it.
    pub difference: Difference,
    /// The other versions that it was compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_compared: Vec<Version>,
    /// Why it cannot be ruled out that more is different.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// A version that deployments have, and what is known of it; no version where nobody knows which one they have.
pub type Baselines = BTreeMap<Option<Version>, Option<Snapshot>>;

impl Changes {
    /// What `after` would change.
    pub fn of(rollout_id: RolloutId, after: &Snapshot, baselines: &Baselines) -> Self {
        let mut doubts = Vec::new();
        if after.is_restated {
            doubts.push(format!("version {} was published with two different sets of permissions", after.version));
        }
        if baselines.is_empty() {
            doubts.push("there is no deployment to compare with".to_owned());
        }
        let mut compared = Vec::new();
        let mut unknown: BTreeSet<&str> = after.package.unknown.keys().map(String::as_str).collect();
        for (version, snapshot) in baselines {
            match (version, snapshot) {
                (None, _) => doubts.push("of some deployments it is not known which version they have".to_owned()),
                (Some(version), None) => doubts.push(format!("the permissions of version {version} were not recorded")),
                (Some(version), Some(before)) => {
                    if before.is_restated {
                        doubts.push(format!("version {version} was published with two different sets of permissions"));
                    }
                    unknown.extend(before.package.unknown.keys().map(String::as_str));
                    compared.push((*version, Difference::between(&before.package, &after.package)));
                }
            }
        }
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.into_iter().collect();
            doubts.push(format!("what these members of the package mean is not known here: {}", names.join(", ")));
        }
        let widest = (0..compared.len()).max_by_key(|at| {
            let difference = &compared[*at].1;
            (difference.weight(), difference.impossible.len())
        });
        let (against, difference) = match widest {
            Some(at) => {
                let (version, difference) = compared.swap_remove(at);
                (Some(version), difference)
            }
            None => (None, Difference::default()),
        };
        let mut also_compared: Vec<_> = compared.into_iter().map(|(version, _)| version).collect();
        also_compared.sort_unstable();
        Self { rollout_id, against, difference, also_compared, doubts }
    }

    /// What is different, a line for each: `+` new, `-` gone, `~` another value, `?` a doubt.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let difference = &self.difference;
        if self.against.is_some() {
            entries(&mut lines, "control action", &difference.control_actions);
            entries(&mut lines, "data action", &difference.data_actions);
            entries(&mut lines, "authorization of", &difference.authorizations);
            for role in &difference.roles {
                let (before, after) = (role.before.join(", "), role.after.join(", "));
                lines.push(format!("~ {}: {before} is now {after}", role.principal));
            }
            let frozen = " (no refresh can bring it: that takes a new plan)";
            for (remark, settings) in [("", &difference.settings), (frozen, &difference.impossible)] {
                for SettingChange { name, before, after } in settings {
                    lines.push(format!("~ {name}: {before} is now {after}{remark}"));
                }
            }
            if lines.is_empty() {
                lines.push("nothing".to_owned());
            }
        }
        lines.extend(self.doubts.iter().map(|doubt| format!("? {doubt}")));
        lines
    }

    /// Why no refresh would bring anybody anything; `None` if one may.
    pub fn is_idle(&self) -> Option<String> {
        let against = self.against.filter(|_| self.doubts.is_empty() && !self.difference.can_be_carried())?;
        let versions: Vec<_> = self.also_compared.iter().chain([&against]).map(ToString::to_string).collect();
        let mut why = format!("nothing that a refresh can carry has changed since {}", versions.join(", "));
        if !self.difference.impossible.is_empty() {
            let names: Vec<_> = self.difference.impossible.iter().map(|change| change.name.as_str()).collect();
            why.push_str(&format!(
                "; {} changed, which no refresh can bring: that takes a new plan",
                names.join(" and ")
            ));
        }
        why.push_str("; resume to refresh all the same, or cancel");
        Some(why)
    }
}

fn entries(lines: &mut Vec<String>, what: &str, entries: &Entries) {
    for (sign, list) in [('+', &entries.added), ('-', &entries.removed)] {
        lines.extend(list.iter().map(|entry| format!("{sign} {what} {entry}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Package, Plan};
    use uuid::Uuid;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn snapshot(text: &str, actions: &[&str]) -> Snapshot {
        Snapshot {
            plan: Plan::parse("fabrikam", "ledger", "standard").unwrap().0,
            version: version(text),
            package: Package {
                allowed_control_actions: actions.iter().map(|&action| action.to_owned()).collect(),
                ..Package::default()
            },
            instance_id: "1".into(),
            read_at: "2026-03-10T12:00:00Z".parse().unwrap(),
            is_restated: false,
        }
    }

    fn changes(baselines: impl IntoIterator<Item = (Option<&'static str>, Option<Snapshot>)>) -> Changes {
        let baselines = baselines.into_iter().map(|(text, snapshot)| (text.map(version), snapshot)).collect();
        Changes::of(RolloutId(Uuid::nil()), &snapshot("1.5.0", &["a", "b"]), &baselines)
    }

    #[test]
    fn the_widest_difference_counts() {
        let same = (Some("1.4.0"), Some(snapshot("1.4.0", &["b", "A"])));
        assert!(changes([same.clone()]).is_idle().unwrap().contains("since 1.4.0"));
        let wide = (Some("1.2.0"), Some(snapshot("1.2.0", &["c"])));
        let narrow = (Some("1.3.0"), Some(snapshot("1.3.0", &["a"])));
        let changes = changes([same, wide, narrow]);
        assert_eq!(changes.is_idle(), None);
        assert_eq!((changes.against, changes.difference.weight()), (Some(version("1.2.0")), 3));
        assert_eq!(changes.also_compared, [version("1.3.0"), version("1.4.0")]);
    }

    #[test]
    fn every_doubt_counts_as_a_change() {
        let same = (Some("1.4.0"), Some(snapshot("1.4.0", &["a", "b"])));
        for doubtful in [
            changes([]),
            changes([same.clone(), (None, None)]),
            changes([same.clone(), (Some("1.3.0"), None)]),
            changes([(Some("1.4.0"), same.1.clone().map(|snapshot| Snapshot { is_restated: true, ..snapshot }))]),
        ] {
            assert_eq!(doubtful.is_idle(), None);
            assert_eq!(doubtful.doubts.len(), 1, "{doubtful:?}");
        }
    }

    #[test]
    fn a_member_that_is_not_known_counts_as_a_change_even_where_it_is_the_same() {
        let strange = |mut snapshot: Snapshot| {
            snapshot.package.unknown.insert("someReferences".into(), serde_json::json!([7]));
            snapshot
        };
        let (before, after) = (snapshot("1.4.0", &["a", "b"]), snapshot("1.5.0", &["a", "b"]));
        for (before, after) in [
            (strange(before.clone()), strange(after.clone())),
            (before.clone(), strange(after.clone())),
            (strange(before.clone()), after.clone()),
        ] {
            let baselines = Baselines::from([(Some(before.version), Some(before))]);
            let changes = Changes::of(RolloutId(Uuid::nil()), &after, &baselines);
            assert_eq!(changes.is_idle(), None);
            assert!(changes.doubts.len() == 1 && changes.doubts[0].contains("someReferences"), "{changes:?}");
        }
    }

    #[test]
    fn a_frozen_setting_alone_is_no_reason_and_is_named() {
        let mut before = snapshot("1.4.0", &["a", "b"]);
        before.package.publisher_management = Some("Managed".into());
        let why = changes([(Some("1.4.0"), Some(before))]).is_idle().unwrap();
        assert!(why.contains("publisherManagementMode changed, which no refresh can bring"), "{why}");
    }
}
