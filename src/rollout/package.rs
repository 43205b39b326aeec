//! What one published version of a plan lets whom do: the permissions that a refresh brings to a deployment.
//!
//! Keeps what Partner Center said as it said it, split into entries, since a lint has to see the damage too. Compares
//! nothing and judges nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The built-in role Owner (contracts/offer-publish.md §3.4).
pub const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
/// The built-in role Contributor (contracts/offer-publish.md §3.4).
pub const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";

/// The permissions of one published version (contracts/offer-publish.md §2, §3.4). `None` where Partner Center did not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Package {
    /// Control actions that the customer may do beyond `*/read`, one entry each, as they were typed.
    pub allowed_control_actions: Vec<String>,
    /// Data actions that the customer may do, likewise.
    pub allowed_data_actions: Vec<String>,
    /// Whether the two lists count (`canEnableCustomerActions`).
    pub customer_actions_enabled: Option<bool>,
    /// Whether the customer is offered just-in-time access (`allowJitAccess`).
    pub jit_offered: Option<bool>,
    /// Whom the publisher lets in, in public Azure.
    pub public_azure: CloudAccess,
    /// The same in Azure Government.
    pub government_azure: CloudAccess,
    /// Policies on the managed resource group, as they came.
    pub policies: Vec<Value>,
    /// Publisher management on or off (`publisherManagementMode`); frozen once the plan is live.
    pub publisher_management: Option<String>,
    /// Customer access full or restricted (`customerAccessEnableState`); frozen once the plan is live.
    pub customer_access: Option<String>,
    /// Members that we do not know, and known ones that were not of their type, by their names in Partner Center.
    pub unknown: BTreeMap<String, Value>,
}

/// Whom the publisher lets in, in one cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudAccess {
    /// The publisher's tenant.
    pub tenant_id: Option<String>,
    /// Up to a hundred principals with their roles.
    pub authorizations: Vec<Authorization>,
}

/// One principal of the publisher and its role on the managed resource group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The principal's object id, lower-case.
    pub principal_id: String,
    /// The role definition's id, lower-case and without the path before it.
    pub role_definition_id: String,
}

impl Authorization {
    /// An authorization from ids in any case; the role's may be a full path.
    pub fn new(principal_id: &str, role_definition_id: &str) -> Self {
        let role = role_definition_id.trim().trim_end_matches('/');
        let role = role.rsplit('/').next().unwrap_or(role);
        Self { principal_id: principal_id.trim().to_ascii_lowercase(), role_definition_id: role.to_ascii_lowercase() }
    }
}

/// The entries of an action box: Partner Center takes them with semicolons between, and tools send the whole box as one
/// (contracts/offer-publish.md §2). Space around an entry is no part of it; anything inside is kept.
pub fn split_actions(boxed: &str) -> impl Iterator<Item = &str> {
    boxed.split(';').map(str::trim).filter(|entry| !entry.is_empty())
}

/// What a role definition's id is called, or the id.
pub fn role_name(role_definition_id: &str) -> &str {
    match role_definition_id {
        OWNER => "Owner",
        CONTRIBUTOR => "Contributor",
        other => other,
    }
}

/// Whether an entry of an action box takes in `action`: without regard to case, `*` for anything
/// (contracts/offer-publish.md §3.6).
pub fn action_covers(entry: &str, action: &str) -> bool {
    let (entry, action) = (entry.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = entry.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = action.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_split_at_semicolons_and_what_is_inside_an_entry_is_kept() {
        let boxed = "Microsoft.Web/sites/restart/action; Microsoft. KeyVault/vaults/read;;\n a/b ;";
        assert_eq!(
            split_actions(boxed).collect::<Vec<_>>(),
            ["Microsoft.Web/sites/restart/action", "Microsoft. KeyVault/vaults/read", "a/b"]
        );
        assert_eq!(split_actions(" ; ").count(), 0);
    }

    #[test]
    fn an_entry_covers_actions_without_regard_to_case_and_with_wildcards() {
        for (entry, action, covers) in [
            ("Microsoft.Web/sites/read", "microsoft.web/SITES/read", true),
            ("Microsoft.Web/sites/read", "Microsoft.Web/sites/readers", false),
            ("*", "anything/at/all", true),
            ("*/read", "Microsoft.Web/sites/read", true),
            ("*/read", "Microsoft.Web/sites/readers", false),
            ("Microsoft.Web/*/action", "Microsoft.Web/sites/restart/action", true),
            ("Microsoft.Web/*/action", "Microsoft.Web/action", false),
            ("Microsoft.*/sites/*", "Microsoft.Web/sites/", true),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
            ("Microsoft.Web/*", "Microsoft.Web/*", true),
            ("Microsoft.Web/sites/*", "Microsoft.Web/*", false),
        ] {
            assert_eq!(action_covers(entry, action), covers, "{entry} and {action}");
        }
    }

    #[test]
    fn a_role_is_known_by_its_last_segment() {
        let path =
            format!("/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/{}", OWNER.to_uppercase());
        assert_eq!(Authorization::new("ABC", &path), Authorization::new("abc", OWNER));
        assert_eq!(role_name(OWNER), "Owner");
    }
}
