//! What changed from one version's permissions to another's, and whether a refresh can carry any of it.
//!
//! In doubt something changed: a member that we do not know, or that could not be read, is reason enough for a refresh, since a
//! needless one is harmless and a missing one is what this service is there to prevent. Only names what is different; that
//! such a member is a doubt even where it is not is said in [`super::changes`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::package::{CONTRIBUTOR, CloudAccess, OWNER, Package, action_covers, role_name};

/// What is different.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Difference {
    /// Control actions of customers.
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub control_actions: Entries,
    /// Data actions of customers.
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub data_actions: Entries,
    /// Principals of the publisher, each with its roles.
    #[serde(skip_serializing_if = "Entries::is_empty")]
    pub authorizations: Entries,
    /// Principals that are there before and after, with other roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleChange>,
    /// Everything else that a refresh can carry, or that we cannot rule out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<SettingChange>,
    /// Settings that are frozen once the plan is live: no refresh brings them (contracts/offer-publish.md §2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub impossible: Vec<SettingChange>,
}

/// Entries of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entries {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// One principal whose roles changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleChange {
    /// The principal, with the cloud in front where it is not the public one.
    pub principal: String,
    /// Its roles before.
    pub before: Vec<String>,
    /// Its roles now.
    pub after: Vec<String>,
}

/// One setting that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// Its name, in Partner Center's API.
    pub name: String,
    /// Its value before; null where there was none.
    pub before: Value,
    /// Its value now.
    pub after: Value,
}

impl Entries {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    /// Entries of one list and the other, compared without regard to case and shown as they were typed.
    fn of(before: &[String], after: &[String]) -> Self {
        let only_in = |these: &[String], those: &[String]| {
            let known: BTreeSet<_> = those.iter().map(|entry| entry.to_ascii_lowercase()).collect();
            let mut found = BTreeMap::new();
            for entry in these.iter().filter(|entry| !known.contains(&entry.to_ascii_lowercase())) {
                found.entry(entry.to_ascii_lowercase()).or_insert_with(|| entry.clone());
            }
            found.into_values().collect()
        };
        Self { added: only_in(after, before), removed: only_in(before, after) }
    }
}

impl Difference {
    /// What is different in `after`.
    pub fn between(before: &Package, after: &Package) -> Self {
        let mut difference = Self {
            control_actions: Entries::of(&before.allowed_control_actions, &after.allowed_control_actions),
            data_actions: Entries::of(&before.allowed_data_actions, &after.allowed_data_actions),
            ..Self::default()
        };
        difference.compare_clouds("", &before.public_azure, &after.public_azure);
        difference.compare_clouds("government:", &before.government_azure, &after.government_azure);
        let settings = &mut difference.settings;
        changed(settings, "canEnableCustomerActions", before.customer_actions_enabled, after.customer_actions_enabled);
        changed(settings, "allowJitAccess", before.jit_offered, after.jit_offered);
        changed(settings, "policies", before.policies.clone(), after.policies.clone());
        let names: BTreeSet<_> = before.unknown.keys().chain(after.unknown.keys()).collect();
        for name in names {
            changed(settings, name, before.unknown.get(name), after.unknown.get(name));
        }
        let frozen = &mut difference.impossible;
        changed(
            frozen,
            "publisherManagementMode",
            word(&before.publisher_management),
            word(&after.publisher_management),
        );
        changed(frozen, "customerAccessEnableState", word(&before.customer_access), word(&after.customer_access));
        difference
    }

    fn compare_clouds(&mut self, prefix: &str, before: &CloudAccess, after: &CloudAccess) {
        let name = match prefix {
            "" => "publicAzureTenantID",
            _ => "azureGovernmentTenantID",
        };
        changed(&mut self.settings, name, word(&before.tenant_id), word(&after.tenant_id));
        let (before, after) = (roles(before), roles(after));
        let shown = |principal: &str, roles: &BTreeSet<&str>| {
            let roles: Vec<_> = roles.iter().map(|role| role_name(role)).collect();
            format!("{prefix}{principal} {}", roles.join(", "))
        };
        for (principal, now) in &after {
            match before.get(principal) {
                None => self.authorizations.added.push(shown(principal, now)),
                Some(then) if then != now => self.roles.push(RoleChange {
                    principal: format!("{prefix}{principal}"),
                    before: then.iter().map(|role| role_name(role).to_owned()).collect(),
                    after: now.iter().map(|role| role_name(role).to_owned()).collect(),
                }),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|(principal, _)| !after.contains_key(*principal));
        self.authorizations.removed.extend(gone.map(|(principal, then)| shown(principal, then)));
    }

    /// Whether a refresh would bring a deployment anything.
    pub fn can_be_carried(&self) -> bool {
        self.weight() > 0
    }

    /// How much a refresh would bring: the widest difference has the most.
    pub fn weight(&self) -> usize {
        self.control_actions.len()
            + self.data_actions.len()
            + self.authorizations.len()
            + self.roles.len()
            + self.settings.len()
    }
}

/// What `package` lets anybody do that `wanted` does not, in words; empty if nothing.
pub fn wider(package: &Package, wanted: &Package) -> Vec<String> {
    let mut more = Vec::new();
    let wanted_enabled = wanted.customer_actions_enabled != Some(false);
    if package.customer_actions_enabled != Some(false) {
        for (what, these, those) in [
            ("control action", &package.allowed_control_actions, &wanted.allowed_control_actions),
            ("data action", &package.allowed_data_actions, &wanted.allowed_data_actions),
        ] {
            let uncovered = these
                .iter()
                .filter(|action| !wanted_enabled || !those.iter().any(|entry| action_covers(entry, action)));
            more.extend(uncovered.map(|action| format!("{what} {action}")));
        }
    }
    for (cloud, these, those) in [
        ("", &package.public_azure, &wanted.public_azure),
        ("government:", &package.government_azure, &wanted.government_azure),
    ] {
        let known = roles(those);
        for (principal, has) in roles(these) {
            let known = known.get(&principal).cloned().unwrap_or_default();
            // An Owner may do what a Contributor may.
            let beyond =
                has.iter().filter(|role| !(known.contains(**role) || **role == CONTRIBUTOR && known.contains(OWNER)));
            more.extend(beyond.map(|role| format!("{} for {cloud}{principal}", role_name(role))));
        }
    }
    if package.jit_offered == Some(true) && wanted.jit_offered != Some(true) {
        more.push("just-in-time access".to_owned());
    }
    for (name, value) in &package.unknown {
        if wanted.unknown.get(name) != Some(value) {
            more.push(format!("perhaps {name}, which is not known here"));
        }
    }
    more
}

fn roles(access: &CloudAccess) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut roles: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for authorization in &access.authorizations {
        roles.entry(&authorization.principal_id).or_default().insert(&authorization.role_definition_id);
    }
    roles
}

fn word(text: &Option<String>) -> Option<String> {
    text.as_ref().map(|text| text.to_ascii_lowercase())
}

fn changed<T: PartialEq + Serialize>(into: &mut Vec<SettingChange>, name: &str, before: T, after: T) {
    if before != after {
        let value = |value: &T| serde_json::to_value(value).unwrap_or_default();
        into.push(SettingChange { name: name.to_owned(), before: value(&before), after: value(&after) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Authorization;
    use serde_json::json;

    fn package() -> Package {
        Package {
            allowed_control_actions: vec![
                "Microsoft.Web/sites/restart/action".into(),
                "Microsoft.Web/sites/read".into(),
            ],
            allowed_data_actions: vec!["Microsoft.KeyVault/vaults/secrets/getSecret/action".into()],
            customer_actions_enabled: Some(true),
            jit_offered: Some(true),
            public_azure: CloudAccess {
                tenant_id: Some("t".into()),
                authorizations: vec![Authorization::new("p1", CONTRIBUTOR), Authorization::new("p2", OWNER)],
            },
            ..Package::default()
        }
    }

    #[test]
    fn the_same_in_another_order_and_another_case_is_no_difference() {
        let mut other = package();
        other.allowed_control_actions.reverse();
        other.allowed_control_actions[0] = other.allowed_control_actions[0].to_uppercase();
        other.allowed_control_actions.push("microsoft.web/sites/READ".into());
        other.public_azure.authorizations.reverse();
        other.public_azure.tenant_id = Some("T".into());
        let difference = Difference::between(&package(), &other);
        assert_eq!(difference, Difference::default());
        assert!(!difference.can_be_carried());
    }

    #[test]
    fn actions_authorizations_and_roles_are_named_each_for_itself() {
        let mut other = package();
        other.allowed_control_actions =
            vec!["Microsoft.Web/sites/read".into(), "Microsoft.Web/sites/stop/action".into()];
        other.allowed_data_actions.clear();
        other.public_azure.authorizations =
            vec![Authorization::new("P2", CONTRIBUTOR), Authorization::new("p3", OWNER)];
        let difference = Difference::between(&package(), &other);
        assert_eq!(difference.control_actions.added, ["Microsoft.Web/sites/stop/action"]);
        assert_eq!(difference.control_actions.removed, ["Microsoft.Web/sites/restart/action"]);
        assert_eq!(difference.data_actions.removed.len(), 1);
        assert_eq!(difference.authorizations.added, ["p3 Owner"]);
        assert_eq!(difference.authorizations.removed, ["p1 Contributor"]);
        let role =
            RoleChange { principal: "p2".into(), before: vec!["Owner".into()], after: vec!["Contributor".into()] };
        assert_eq!(difference.roles, [role]);
        assert_eq!(difference.weight(), 6);
    }

    #[test]
    fn a_setting_and_a_member_that_is_not_known_count_as_changed_if_they_differ() {
        for change in [
            |package: &mut Package| package.jit_offered = None,
            |package: &mut Package| package.customer_actions_enabled = Some(false),
            |package: &mut Package| package.policies = vec![json!({"policyName": "x"})],
            |package: &mut Package| package.public_azure.tenant_id = None,
            |package: &mut Package| package.government_azure.tenant_id = Some("g".into()),
            |package: &mut Package| _ = package.unknown.insert("somethingNew".into(), json!(1)),
        ] {
            let mut other = package();
            change(&mut other);
            for (before, after) in [(package(), other.clone()), (other.clone(), package())] {
                let difference = Difference::between(&before, &after);
                assert_eq!(difference.settings.len(), 1, "{difference:?}");
                assert!(difference.can_be_carried());
            }
            assert!(!Difference::between(&other, &other).can_be_carried());
        }
    }

    #[test]
    fn what_is_frozen_is_named_and_carried_by_nothing() {
        let other = Package {
            publisher_management: Some("Unmanaged".into()),
            customer_access: Some("Enabled".into()),
            ..package()
        };
        let difference = Difference::between(&package(), &other);
        let names: Vec<_> = difference.impossible.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["publisherManagementMode", "customerAccessEnableState"]);
        assert!(!difference.can_be_carried());
    }

    #[test]
    fn wider_is_what_no_entry_of_the_wanted_version_covers() {
        let mut narrow = package();
        narrow.allowed_control_actions = vec!["Microsoft.Web/*".into()];
        assert_eq!(wider(&package(), &narrow), [""; 0], "the wildcard covers all of it");
        assert_eq!(wider(&narrow, &package()), ["control action Microsoft.Web/*"]);
        narrow.public_azure.authorizations = vec![Authorization::new("p1", OWNER)];
        assert_eq!(wider(&package(), &narrow), ["Owner for p2"], "an owner is a contributor, too");
        narrow.jit_offered = Some(false);
        assert_eq!(wider(&package(), &narrow), ["Owner for p2", "just-in-time access"]);
        let off = Package { customer_actions_enabled: Some(false), ..package() };
        assert_eq!(wider(&package(), &off).len(), 3);
        assert_eq!(wider(&off, &package()), [""; 0]);
    }
}
