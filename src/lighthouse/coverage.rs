//! Whether the delegations that Azure shows let us refresh (contracts/access.md §3.5).
//!
//! A refresh is an action on the application; how it goes is read at its subscription. So a delegation of a resource group
//! alone may leave us without the end of an operation, and that is said. What ARM refuses to show is not here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::role::Role;
use super::scope::Scope;
use crate::rollout::resource_id::is_guid;

/// A registration assignment as ARM shows it. Unknown members are passed over, missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    id: String,
    properties: AssignmentProperties,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AssignmentProperties {
    provisioning_state: String,
    registration_definition: Option<Definition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Definition {
    properties: DefinitionProperties,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DefinitionProperties {
    registration_definition_name: Option<String>,
    managed_by_tenant_id: String,
    provisioning_state: String,
    authorizations: Vec<Authorization>,
    eligible_authorizations: Option<Vec<Authorization>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authorization {
    principal_id: String,
    role_definition_id: String,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Our tenant.
    pub tenant: String,
    /// Our object id, and those of groups that we are known to be in.
    pub principals: Vec<String>,
}

impl Caller {
    fn is(&self, principal: &str) -> bool {
        self.principals.iter().any(|own| own.eq_ignore_ascii_case(principal))
    }
}

/// What the delegations let us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Coverage {
    /// Refresh, and read how it goes.
    All,
    /// Refresh; how it goes may be refused.
    RefreshOnly,
    /// Not refresh.
    Nothing,
}

/// What one assignment is worth to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worth {
    /// Its id.
    pub assignment: String,
    /// The offer's name.
    pub offer: String,
    /// What it lets us do.
    pub coverage: Coverage,
    /// Why, in words.
    pub why: String,
}

/// What all of them are worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What they let us do together.
    pub coverage: Coverage,
    /// One by one.
    pub assignments: Vec<Worth>,
}

/// The roles that we have by these assignments, by GUID in lower case: those whose definitions are worth reading.
pub fn roles_of(assignments: &[Assignment], caller: &Caller) -> BTreeSet<String> {
    let definitions =
        assignments.iter().filter_map(|assignment| assignment.properties.registration_definition.as_ref());
    let ours = definitions
        .filter(|definition| definition.properties.managed_by_tenant_id.eq_ignore_ascii_case(&caller.tenant))
        .flat_map(|definition| &definition.properties.authorizations)
        .filter(|authorization| caller.is(&authorization.principal_id));
    ours.map(|authorization| bare(&authorization.role_definition_id)).filter(|role| is_guid(role)).collect()
}

/// What the assignments are worth for a refresh in `scope`, with the definitions of our roles.
pub fn judge(scope: &Scope, assignments: &[Assignment], caller: &Caller, roles: &BTreeMap<String, Role>) -> Report {
    let mut worths: Vec<Worth> = Vec::new();
    let mut together = Allowed::default();
    for assignment in assignments {
        // The same one may be listed for the group and for its subscription.
        if worths.iter().any(|worth| worth.assignment.eq_ignore_ascii_case(&assignment.id)) {
            continue;
        }
        let definition =
            assignment.properties.registration_definition.as_ref().map(|definition| &definition.properties);
        let (allowed, why) = allowed(scope, assignment, definition, caller, roles);
        together.refresh |= allowed.refresh;
        together.status |= allowed.status;
        worths.push(Worth {
            assignment: assignment.id.clone(),
            offer: definition
                .and_then(|definition| definition.registration_definition_name.clone())
                .unwrap_or_default(),
            coverage: allowed.coverage(),
            why,
        });
    }
    Report { coverage: together.coverage(), assignments: worths }
}

#[derive(Clone, Copy, Default)]
struct Allowed {
    refresh: bool,
    status: bool,
}

impl Allowed {
    fn coverage(self) -> Coverage {
        match (self.refresh, self.status) {
            (true, true) => Coverage::All,
            (true, false) => Coverage::RefreshOnly,
            (false, _) => Coverage::Nothing,
        }
    }
}

/// What one assignment allows us, and why in words.
fn allowed(
    scope: &Scope,
    assignment: &Assignment,
    definition: Option<&DefinitionProperties>,
    caller: &Caller,
    roles: &BTreeMap<String, Role>,
) -> (Allowed, String) {
    let nothing = |why: String| (Allowed::default(), why);
    let Some(definition) = definition else { return nothing("Azure shows it without its definition".to_owned()) };
    if !definition.managed_by_tenant_id.eq_ignore_ascii_case(&caller.tenant) {
        return nothing(format!("it delegates to another tenant, {}", definition.managed_by_tenant_id));
    }
    for state in [&assignment.properties.provisioning_state, &definition.provisioning_state] {
        if !state.eq_ignore_ascii_case("Succeeded") {
            return nothing(format!("it is not in force yet, or failed: its state is {state:?}"));
        }
    }
    let group = group_of(&assignment.id);
    if let Some(group) = group
        && !scope.is_in_group(group)
    {
        return nothing(format!("it delegates the resource group {group} only"));
    }
    let own = |authorization: &&Authorization| caller.is(&authorization.principal_id);
    let ids: Vec<_> = definition.authorizations.iter().filter(own).map(|own| &own.role_definition_id).collect();
    if ids.is_empty() {
        return nothing(if definition.eligible_authorizations.iter().flatten().any(|other| own(&other)) {
            "our principal is only eligible, and a service principal cannot elevate itself".to_owned()
        } else {
            "none of its active authorizations names our principal".to_owned()
        });
    }
    let known: Vec<_> = ids.iter().map(|id| roles.get(&bare(id))).collect();
    let names = ids.iter().zip(&known).map(|(id, role)| role.map_or(id.as_str(), |role| &role.name));
    let names = names.collect::<Vec<_>>().join(", ");
    let has = |allows: fn(&Role) -> bool| known.iter().flatten().any(|role| allows(role));
    let allowed = Allowed {
        refresh: has(|role| role.traits.refreshes),
        status: has(|role| role.traits.polls) && group.is_none(),
    };
    let why = match (allowed.refresh, allowed.status) {
        (false, _) => format!("our roles ({names}) do not cover refreshPermissions"),
        (true, true) => format!("our roles ({names}) cover the refresh and reading how it goes"),
        (true, false) if group.is_some() => format!(
            "our roles ({names}) cover the refresh; the status of its operation is read at the subscription, which this \
             delegation of a resource group does not reach"
        ),
        (true, false) => format!("our roles ({names}) cover the refresh, but not reading operationStatuses"),
    };
    (allowed, why)
}

/// The GUID at the end of a role's id, in lower case.
fn bare(role: &str) -> String {
    role.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// The group that an assignment is in, if it is in one.
fn group_of(id: &str) -> Option<&str> {
    let mut segments = id.split('/');
    segments.by_ref().find(|segment| segment.eq_ignore_ascii_case("resourceGroups"))?;
    segments.next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::lighthouse::role::{APPLICATION_OPERATOR, READER, REGISTRATION_DELETE};

    const SUBSCRIPTION: &str = "7c0d9b8a-1111-4222-8333-444455556666";
    const TENANT: &str = "6a1b3c5d-0e2f-4a6b-8c7d-9e0f1a2b3c44";
    const PRINCIPAL: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    fn example() -> Value {
        serde_json::from_str(include_str!("../../tests/data/lighthouse/assignments.json")).unwrap()
    }

    fn report(scope: &str, change: impl FnOnce(&mut Value)) -> Report {
        let mut value = example();
        change(&mut value["value"][0]);
        let assignments: Vec<Assignment> = serde_json::from_value(value["value"].clone()).unwrap();
        let caller = Caller { tenant: TENANT.to_uppercase(), principals: vec![PRINCIPAL.to_uppercase()] };
        let roles = roles_of(&assignments, &caller).into_iter();
        let roles = roles.filter_map(|role| Role::built_in(&role).map(|known| (role, known))).collect();
        judge(&scope.parse().unwrap(), &assignments, &caller, &roles)
    }

    fn definition(value: &mut Value) -> &mut Value {
        &mut value["properties"]["registrationDefinition"]["properties"]
    }

    #[test]
    fn what_a_delegation_lacks_is_said() {
        let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Northlight");
        let whole = |value: &mut Value| {
            value["id"] =
                format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ManagedServices/registrationAssignments/a")
                    .into();
        };
        type Change = Box<dyn FnOnce(&mut Value)>;
        let cases: Vec<(&str, Change, Coverage, &str)> = vec![
            (&group, Box::new(|_| {}), Coverage::RefreshOnly, "does not reach"),
            (&group, Box::new(whole), Coverage::All, "Managed Application Operator Role"),
            (SUBSCRIPTION, Box::new(whole), Coverage::All, "cover the refresh"),
            (SUBSCRIPTION, Box::new(|_| {}), Coverage::Nothing, "rg-northlight only"),
            (
                &group,
                Box::new(|value| value["properties"]["provisioningState"] = "Creating".into()),
                Coverage::Nothing,
                "Creating",
            ),
            (
                &group,
                Box::new(|value| definition(value)["provisioningState"] = "Failed".into()),
                Coverage::Nothing,
                "Failed",
            ),
            (
                &group,
                Box::new(|value| definition(value)["managedByTenantId"] = PRINCIPAL.into()),
                Coverage::Nothing,
                "another tenant",
            ),
            (
                &group,
                Box::new(|value| value["properties"]["registrationDefinition"] = Value::Null),
                Coverage::Nothing,
                "without its definition",
            ),
            (
                &group,
                Box::new(|value| definition(value)["authorizations"][0]["principalId"] = TENANT.into()),
                Coverage::Nothing,
                "names our principal",
            ),
            (
                &group,
                Box::new(|value| {
                    let active = definition(value)["authorizations"].take();
                    definition(value)["authorizations"] = json!([]);
                    definition(value)["eligibleAuthorizations"] = active;
                }),
                Coverage::Nothing,
                "only eligible",
            ),
            (
                &group,
                Box::new(|value| definition(value)["authorizations"][0]["roleDefinitionId"] = READER.into()),
                Coverage::Nothing,
                "(Reader)",
            ),
            (
                &group,
                Box::new(|value| definition(value)["authorizations"][0]["roleDefinitionId"] = "x".into()),
                Coverage::Nothing,
                "(x)",
            ),
            (
                &group,
                Box::new(move |value| {
                    whole(value);
                    definition(value)["authorizations"][0]["roleDefinitionId"] = format!(
                        "/providers/Microsoft.Authorization/roleDefinitions/{}",
                        APPLICATION_OPERATOR.to_uppercase()
                    )
                    .into();
                }),
                Coverage::All,
                "cover the refresh",
            ),
        ];
        for (scope, change, coverage, said) in cases {
            let report = report(scope, change);
            assert_eq!(report.coverage, coverage, "{said}");
            assert!(report.assignments[0].why.contains(said), "{}", report.assignments[0].why);
        }
    }

    #[test]
    fn a_role_that_refreshes_but_does_not_poll_covers_a_part() {
        let assignments: Vec<Assignment> = serde_json::from_value(example()["value"].clone()).unwrap();
        let caller = Caller { tenant: TENANT.to_owned(), principals: vec![PRINCIPAL.to_owned()] };
        let mut narrow = Role::built_in(APPLICATION_OPERATOR).unwrap();
        narrow.traits.polls = false;
        let roles = [(APPLICATION_OPERATOR.to_owned(), narrow)].into();
        let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-northlight").parse().unwrap();
        assert_eq!(judge(&scope, &assignments, &caller, &roles).coverage, Coverage::RefreshOnly);
        assert_eq!(judge(&scope, &[], &caller, &roles).coverage, Coverage::Nothing);
    }

    #[test]
    fn one_delegation_may_cover_the_refresh_and_another_one_the_reading() {
        let mut value = example();
        let mut reader = value["value"][0].clone();
        reader["id"] =
            format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ManagedServices/registrationAssignments/b")
                .into();
        definition(&mut reader)["authorizations"][0]["roleDefinitionId"] = READER.into();
        value["value"].as_array_mut().unwrap().push(reader);
        let all: Vec<Assignment> = serde_json::from_value(value["value"].clone()).unwrap();
        let caller = Caller { tenant: TENANT.to_owned(), principals: vec![PRINCIPAL.to_owned()] };
        let roles = roles_of(&all, &caller).into_iter();
        let roles = roles.filter_map(|role| Role::built_in(&role).map(|known| (role, known))).collect();
        let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-northlight").parse().unwrap();
        let report = judge(&scope, &all, &caller, &roles);
        let each: Vec<_> = report.assignments.iter().map(|worth| worth.coverage).collect();
        assert_eq!((report.coverage, &each[..]), (Coverage::All, &[Coverage::RefreshOnly, Coverage::Nothing][..]));
    }

    #[test]
    fn the_same_assignment_seen_twice_counts_once_and_the_best_one_decides() {
        let mut all: Vec<Assignment> = serde_json::from_value(example()["value"].clone()).unwrap();
        all.push(all[0].clone());
        let caller = Caller { tenant: TENANT.to_owned(), principals: vec![PRINCIPAL.to_owned()] };
        let scope: Scope = SUBSCRIPTION.parse().unwrap();
        assert_eq!(judge(&scope, &all, &caller, &BTreeMap::new()).assignments.len(), 1);
        assert_eq!(roles_of(&all, &caller).into_iter().collect::<Vec<_>>(), [APPLICATION_OPERATOR]);
        assert!(!roles_of(&all, &caller).contains(REGISTRATION_DELETE));
    }
}
