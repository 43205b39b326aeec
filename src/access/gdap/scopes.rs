//! From the permissions of our app registration to the names that a consent asks for, with what is wrong with them
//! (contracts/access.md §2.6).
//!
//! Pure. Only delegated permissions are asked for: GDAP consents to no application permissions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Azure Resource Manager's app id.
pub const ARM_APP: &str = "797f4846-ba00-4fd7-ba43-dac1f8f63013";
/// Microsoft Graph's app id.
pub const GRAPH_APP: &str = "00000003-0000-0000-c000-000000000000";
/// The one permission that a refresh needs (contracts/access.md §2.10).
pub const ARM_SCOPE: &str = "user_impersonation";

/// `requiredResourceAccess` of an app registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Required {
    /// One for each resource.
    #[serde(default)]
    pub required_resource_access: Vec<ResourceAccess>,
}

/// The permissions for one resource.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAccess {
    /// The resource's app id.
    pub resource_app_id: String,
    /// The permissions.
    #[serde(default)]
    pub resource_access: Vec<Access>,
}

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Access {
    /// The permission's id.
    pub id: String,
    /// `Scope` (delegated) or `Role` (of the application).
    #[serde(rename = "type")]
    pub kind: String,
}

/// A delegated permission that a resource offers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// Its id.
    pub id: String,
    /// Its name.
    pub value: Option<String>,
    /// Whether it may be asked for.
    #[serde(default = "yes")]
    pub is_enabled: bool,
}

fn yes() -> bool {
    true
}

/// The permission that reads service principals (contracts/access.md §2.6).
const GRAPH_SCOPE: &str = "Application.Read.All";

/// What a consent grants for one resource: `applicationGrants` of contracts/access.md §2.5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The resource's app id.
    pub enterprise_application_id: String,
    /// Names of permissions, with commas between.
    pub scope: String,
}

impl Grant {
    /// What every refresh needs, and nothing else.
    pub fn arm() -> Self {
        Self { enterprise_application_id: ARM_APP.to_owned(), scope: ARM_SCOPE.to_owned() }
    }

    /// What every look at a customer's service principals needs besides.
    pub fn graph() -> Self {
        Self { enterprise_application_id: GRAPH_APP.to_owned(), scope: GRAPH_SCOPE.to_owned() }
    }

    /// The resource in words, where it is one that we know.
    pub fn resource(&self) -> &str {
        match self.enterprise_application_id.as_str() {
            ARM_APP => "Azure Resource Manager",
            GRAPH_APP => "Microsoft Graph",
            other => other,
        }
    }

    /// Whether `others` hold all that it asks for.
    pub fn is_within(&self, others: &[Self]) -> bool {
        let names = |grant: &Self| -> BTreeSet<String> {
            grant
                .scope
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase())
                .filter(|name| !name.is_empty())
                .collect()
        };
        let held: BTreeSet<String> = others.iter().filter(|other| other.is_for_same_as(self)).flat_map(names).collect();
        names(self).is_subset(&held)
    }

    /// Whether both are for one resource.
    pub fn is_for_same_as(&self, other: &Self) -> bool {
        self.enterprise_application_id.eq_ignore_ascii_case(&other.enterprise_application_id)
    }
}

/// What is to be said about the permissions of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Whether consent cannot work with it.
    pub is_error: bool,
    /// What, and what to do.
    pub what: String,
}

/// The grants that the registration amounts to, and what is wrong with it. `offered` has what each resource offers, by its
/// app id; a resource that is missing there has no service principal in the partner's tenant.
pub fn grants(required: &Required, offered: &BTreeMap<String, Vec<Offered>>) -> (Vec<Grant>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut say = |is_error, what: String| findings.push(Finding { is_error, what });
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for resource in &required.required_resource_access {
        let app = resource.resource_app_id.to_ascii_lowercase();
        let Some(known) = offered.get(&app) else {
            say(
                true,
                format!(
                    "resource {app} has no service principal in the partner's tenant: remove it from the registration, or create the principal"
                ),
            );
            continue;
        };
        for access in &resource.resource_access {
            match access.kind.as_str() {
                "Scope" => {}
                "Role" => {
                    say(
                        false,
                        format!(
                            "application permission {} of {app} is left out: GDAP consents to delegated ones only",
                            access.id
                        ),
                    );
                    continue;
                }
                other => {
                    say(
                        false,
                        format!("permission {} of {app} is of the unknown kind {other} and is left out", access.id),
                    );
                    continue;
                }
            }
            let found = known.iter().find(|offer| offer.id.eq_ignore_ascii_case(&access.id));
            match found.map(|offer| (offer.is_enabled, offer.value.as_deref().unwrap_or_default())) {
                None => say(
                    true,
                    format!(
                        "permission {} is none that {app} offers: the resource changed, or this is the wrong tenant",
                        access.id
                    ),
                ),
                Some((_, "")) => say(true, format!("permission {} of {app} has no name", access.id)),
                Some((false, name)) => say(
                    true,
                    format!("permission {name} of {app} is switched off by its owner: remove it from the registration"),
                ),
                Some((true, name)) => {
                    named.entry(app.clone()).or_default().insert(name.to_owned());
                }
            }
        }
    }
    if !named.get(ARM_APP).is_some_and(|scopes| scopes.contains(ARM_SCOPE)) {
        say(
            true,
            format!(
                "the registration lacks {ARM_SCOPE} of Azure Resource Manager ({ARM_APP}), without which nothing can be refreshed"
            ),
        );
    }
    for (app, scopes) in &named {
        if let Some(wide) = scopes.iter().find(|scope| app != ARM_APP && scope.contains("Write")) {
            say(
                false,
                format!("{wide} of {app} lets us change things in the customer's tenant: a refresh does not need it"),
            );
        }
    }
    let grants = named.into_iter().map(|(app, scopes)| Grant {
        enterprise_application_id: app,
        scope: scopes.into_iter().collect::<Vec<_>>().join(","),
    });
    (grants.collect(), findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM_ID: &str = "41094075-9dad-400e-a0bd-54e686782033";
    const READ_ID: &str = "e1fe6dd8-ba31-4d61-89e7-88639da4683d";

    fn offered() -> BTreeMap<String, Vec<Offered>> {
        let offer =
            |id: &str, value: &str, is_enabled| Offered { id: id.into(), value: Some(value.into()), is_enabled };
        BTreeMap::from([
            (ARM_APP.to_owned(), vec![offer(ARM_ID, ARM_SCOPE, true)]),
            (
                GRAPH_APP.to_owned(),
                vec![
                    offer(READ_ID, "User.Read", true),
                    offer("99", "Legacy.Read", false),
                    offer("98", "Directory.ReadWrite.All", true),
                ],
            ),
        ])
    }

    fn required(text: &str) -> Required {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_contracts_example_asks_for_what_it_names() {
        let required = required(include_str!("../../../tests/data/gdap/requiredResourceAccess.json"));
        let (grants, findings) = grants(&required, &offered());
        let graph = Grant { enterprise_application_id: GRAPH_APP.into(), scope: "User.Read".into() };
        assert_eq!(grants, [graph, Grant::arm()]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(!findings[0].is_error && findings[0].what.contains("application permission"));
    }

    #[test]
    fn what_cannot_be_consented_to_is_named() {
        let of = |app: &str, id: &str, kind: &str| {
            required(&format!(
                r#"{{"requiredResourceAccess":[{{"resourceAppId":"{app}","resourceAccess":[{{"id":"{id}","type":"{kind}"}}]}}]}}"#
            ))
        };
        for (required, words, is_error) in [
            (of(GRAPH_APP, "12345", "Scope"), "none that", true),
            (of(GRAPH_APP, "99", "Scope"), "switched off", true),
            (of(GRAPH_APP, "98", "Scope"), "lets us change things", false),
            (of(GRAPH_APP, "1", "Thing"), "unknown kind Thing", false),
            (of("11111111-0000-0000-0000-000000000000", "1", "Scope"), "no service principal", true),
            (Required::default(), "lacks user_impersonation", true),
        ] {
            let (_, findings) = grants(&required, &offered());
            assert!(
                findings.iter().any(|finding| finding.what.contains(words) && finding.is_error == is_error),
                "{words}: {findings:?}"
            );
        }
        let (_, none) = grants(&of(&ARM_APP.to_ascii_uppercase(), &ARM_ID.to_ascii_uppercase(), "Scope"), &offered());
        assert_eq!(none, [], "ids compare without case");
    }
}
