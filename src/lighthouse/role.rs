//! Azure's roles: what one allows, by its own permissions or by what was known of the built-in ones at build time.
//!
//! A role is identified by its GUID alone: Azure renames roles now and then (contracts/access.md §3.4).

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Owner.
pub const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
/// Contributor.
pub const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
/// Reader.
pub const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
/// User Access Administrator.
pub const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";
/// Managed Application Operator Role: all that a refresh needs (contracts/access.md §3.4).
pub const APPLICATION_OPERATOR: &str = "c7393b34-138c-406f-901b-d8cf2b17e6ae";
/// Managed Applications Reader, now Managed Application Publisher Operator: what just-in-time requests need.
pub const APPLICATIONS_READER: &str = "b9331d33-8a36-4f8c-b097-4f54124fdb44";
/// Managed Services Registration Assignment Delete Role: to end a delegation from the publisher's side.
pub const REGISTRATION_DELETE: &str = "91c1777a-f3dc-4fae-b103-61d183457e46";

/// The refresh itself.
pub const REFRESH: &str = "Microsoft.Solutions/applications/refreshPermissions/action";
/// Reading the application.
pub const READ_APPLICATION: &str = "Microsoft.Solutions/applications/read";
/// Reading how the operation of a refresh goes, which is an action on the subscription.
pub const READ_STATUS: &str = "Microsoft.Solutions/locations/operationStatuses/read";

/// When the list of built-in roles was taken (`scripts/builtin-roles.py`).
pub const LIST_OF: &str = "22 August 2026";
const BUILT_IN: &str = include_str!("builtin-roles.txt");
/// What the list says of each id: marks and name.
static BY_ID: LazyLock<HashMap<&str, (&str, &str)>> = LazyLock::new(|| {
    let parts = |line: &'static str| {
        let (id, rest) = line.split_once(' ')?;
        Some((id, rest.split_once(' ')?))
    };
    BUILT_IN.lines().filter_map(parts).collect()
});

/// What follows from a role's permissions, as far as a delegation is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// It has actions on data, which Lighthouse refuses.
    pub data: bool,
    /// It may give or take access, or lock, which Lighthouse refuses.
    pub grants_access: bool,
    /// It may read everything, as Reader may.
    pub reads: bool,
    /// It may refresh permissions, and read the application.
    pub refreshes: bool,
    /// It may read the status of operations.
    pub polls: bool,
}

/// A role as somebody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether Azure made it; a customer's own roles cannot be delegated.
    pub built_in: bool,
    /// What it allows.
    pub traits: Traits,
}

impl Role {
    /// The built-in role of this id, in any case, as it was when the list was taken.
    pub fn built_in(id: &str) -> Option<Self> {
        let (marks, name) = BY_ID.get(id.to_ascii_lowercase().as_str())?;
        let has = |mark| marks.contains(mark);
        let traits =
            Traits { data: has('d'), grants_access: has('g'), reads: has('r'), refreshes: has('f'), polls: has('s') };
        Some(Self { name: (*name).to_owned(), built_in: true, traits })
    }
}

/// A role definition, as `az role definition list` and ARM's `roleDefinitions` show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleDefinition {
    /// The GUID.
    pub name: String,
    /// What both forms hold; ARM's own under `properties`.
    #[serde(flatten)]
    flat: Details,
    #[serde(default)]
    properties: Option<Details>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    role_name: Option<String>,
    role_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    permissions: Vec<Permission>,
}

/// One part of a role's permissions, or of what is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
    data_actions: Vec<String>,
}

impl Permission {
    /// Whether it covers an operation of the control plane: by its actions, and not by its exceptions.
    pub fn covers(&self, operation: &str) -> bool {
        let listed = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, operation));
        listed(&self.actions) && !listed(&self.not_actions)
    }
}

impl RoleDefinition {
    /// Whether it allows an operation of the control plane: by one part's actions, and not by its exceptions.
    pub fn allows(&self, operation: &str) -> bool {
        self.details().permissions.iter().any(|part| part.covers(operation))
    }

    /// What follows from it.
    pub fn role(&self) -> Role {
        const GUARDED: [&str; 5] =
            ["roleAssignments", "roleDefinitions", "classicAdministrators", "locks", "denyAssignments"];
        let details = self.details();
        let grants = |verb: &str| {
            GUARDED.iter().any(|what| self.allows(&["Microsoft.Authorization/", what, "/", verb].concat()))
        };
        Role {
            name: details.role_name.clone().unwrap_or_else(|| self.name.clone()),
            built_in: [&details.role_type, &details.kind]
                .into_iter()
                .any(|kind| kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("BuiltInRole"))),
            traits: Traits {
                data: details.permissions.iter().any(|part| !part.data_actions.is_empty()),
                grants_access: grants("write") || grants("delete"),
                // Whose operation it is does not matter: only a wildcard allows one of nobody's.
                reads: self.allows("Any.Provider/things/read"),
                refreshes: self.allows(REFRESH) && self.allows(READ_APPLICATION),
                polls: self.allows(READ_STATUS),
            },
        }
    }

    fn details(&self) -> &Details {
        self.properties.as_ref().unwrap_or(&self.flat)
    }
}

/// The roles that somebody listed, by lower-cased GUID; they win over what was known at build time.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    listed: Option<HashMap<String, Role>>,
}

impl Roles {
    /// Reads what `az role definition list` printed, or a `value` of such.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of role definitions")]
        enum List {
            Bare(Vec<RoleDefinition>),
            Page { value: Vec<RoleDefinition> },
        }
        let (List::Bare(definitions) | List::Page { value: definitions }) = serde_json::from_str(text)?;
        let listed = definitions.iter().map(|definition| (definition.name.to_ascii_lowercase(), definition.role()));
        Ok(Self { listed: Some(listed.collect()) })
    }

    /// The role of this id, in any case.
    pub fn get(&self, id: &str) -> Option<Role> {
        match &self.listed {
            Some(listed) => listed.get(&id.to_ascii_lowercase()).cloned(),
            None => Role::built_in(id),
        }
    }

    /// Whether a role that is not here does not exist, rather than being newer than this program.
    pub fn is_complete(&self) -> bool {
        self.listed.is_some()
    }
}

/// Whether a pattern of Azure's, in which `*` stands for anything, covers an operation. Case does not count.
fn matches(pattern: &str, operation: &str) -> bool {
    let (pattern, operation) = (pattern.to_ascii_lowercase(), operation.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| operation.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollout::resource_id::is_guid;

    #[test]
    fn patterns_match_as_azure_means_them() {
        for (pattern, operation, expected) in [
            ("*", REFRESH, true),
            ("*/read", READ_STATUS, true),
            ("*/read", REFRESH, false),
            ("microsoft.solutions/*/ACTION", REFRESH, true),
            ("Microsoft.Solutions/applications/*", REFRESH, true),
            ("Microsoft.Solutions/applications/*", READ_STATUS, false),
            (REFRESH, REFRESH, true),
            ("Microsoft.Solutions/applications", READ_APPLICATION, false),
            ("Microsoft.Solutions/*/a*n", REFRESH, true),
            ("*action*action*", REFRESH, false),
            ("", REFRESH, false),
            ("read*read", "read", false),
        ] {
            assert_eq!(matches(pattern, operation), expected, "{pattern} and {operation}");
        }
    }

    #[test]
    fn every_line_of_the_list_is_a_role_and_the_ones_we_name_are_there() {
        let mut ids = Vec::new();
        for line in BUILT_IN.lines() {
            let id = &line[..36];
            assert!(is_guid(id) && id == id.to_ascii_lowercase() && line.len() > 43, "{line}");
            assert!(line[37..42].chars().zip("dgrfs".chars()).all(|(is, may)| is == may || is == '-'), "{line}");
            ids.push(id);
        }
        assert!(ids.is_sorted() && ids.len() > 900);
        let covering = Traits { reads: true, refreshes: true, polls: true, ..Traits::default() };
        for (id, traits) in [
            (APPLICATION_OPERATOR, covering),
            (CONTRIBUTOR, covering),
            (OWNER, Traits { grants_access: true, ..covering }),
            (READER, Traits { refreshes: false, ..covering }),
            (APPLICATIONS_READER, Traits { refreshes: false, ..covering }),
            (USER_ACCESS_ADMINISTRATOR, Traits { refreshes: false, grants_access: true, ..covering }),
            (REGISTRATION_DELETE, Traits::default()),
        ] {
            assert_eq!(Role::built_in(&id.to_uppercase()).unwrap().traits, traits, "{id}");
        }
        assert_eq!(Role::built_in("acdd72a7"), None);
    }

    #[test]
    fn a_definition_is_read_in_both_forms_and_its_exceptions_count() {
        let flat = r#"[{"name": "A", "roleName": "Mine", "roleType": "CustomRole", "unknown": [1], "type": "Microsoft.Authorization/roleDefinitions",
            "permissions": [{"actions": ["*"], "notActions": ["Microsoft.Solutions/*/action", "Microsoft.Authorization/*/write", "microsoft.authorization/*/delete"]}]}]"#;
        let role = Roles::from_json(flat).unwrap().get("a").unwrap();
        assert_eq!((role.name.as_str(), role.built_in), ("Mine", false));
        assert_eq!(role.traits, Traits { reads: true, polls: true, ..Traits::default() });
        let arm = r#"{"value": [{"name": "b", "type": "Microsoft.Authorization/roleDefinitions", "properties": {"roleName": "Blobs",
            "type": "BuiltInRole", "permissions": [{"actions": ["Microsoft.Authorization/locks/*"], "dataActions": ["x/read"]}]}}]}"#;
        let role = Roles::from_json(arm).unwrap().get("B").unwrap();
        assert_eq!((role.name.as_str(), role.built_in), ("Blobs", true));
        assert_eq!(role.traits, Traits { data: true, grants_access: true, ..Traits::default() });
        for bad in ["", "{}", "[1]", r#"[{"roleName": "x"}]"#, r#"{"value": 7}"#] {
            assert!(Roles::from_json(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_of_the_operation_with_a_part_left_out_matches_it(
            operation in "[a-z.]{1,6}/[a-z]{1,6}/[a-z]{1,6}", from in 0usize..6, to in 0usize..6
        ) {
            let (from, to) = (from.min(to).min(operation.len()), from.max(to).min(operation.len()));
            let pattern = format!("{}*{}", &operation[..from], &operation[to..]);
            prop_assert!(matches(&pattern, &operation));
            prop_assert!(!matches(&operation, &pattern));
        }
    }
}
