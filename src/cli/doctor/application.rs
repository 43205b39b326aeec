//! One deployment: whether a refresh of it would be let in, as far as that shows without posting one.

use std::collections::BTreeMap;

use super::Patient;
use super::check::{Check, Finding, Outcome, Verdict};
use super::parts::{arm, said};
use crate::access::claims::Claims;
use crate::arm::{ArmClient, Looked};
use crate::lighthouse::Scope;
use crate::lighthouse::coverage::{Caller, Coverage, judge, roles_of};
use crate::lighthouse::role::{REFRESH, Role};
use crate::rollout::{ApplicationId, ReadAnswer, counted};

const APPLICATION: &str = "the application";
const ROLES: &str = "roles on the application";
const DELEGATION: &str = "Lighthouse delegation";
const DENIED: &str = "deny assignments";
/// How many are named.
const SHOWN: usize = 3;

/// The checks of one deployment.
pub fn checks<'a>(patient: &'a Patient, id: &'a ApplicationId) -> Vec<Check<'a>> {
    vec![
        Check::new("tenant", format!("whose subscription {} is", id.subscription()), tenant(patient, id)),
        Check::new(APPLICATION, format!("reading {id}"), read(patient, id)),
        Check::new(ROLES, format!("whether one of them covers {REFRESH}"), roles(patient, id)),
        Check::new(DELEGATION, "whether its subscription or group is delegated to us", delegation(patient, id)),
        Check::new(DENIED, format!("whether one of them denies {REFRESH}"), denied(patient, id)),
    ]
}

/// What the checks of a deployment say together.
pub fn verdict(findings: &[Finding]) -> Finding {
    let of = |name: &str| findings.iter().find(|finding| finding.name == name);
    let failed = |name: &str| of(name).is_some_and(|finding| finding.outcome == Outcome::Failed);
    let ways = [ROLES, DELEGATION].map(|name| of(name).and_then(|finding| finding.lets_in));
    let verdict = if failed(APPLICATION) {
        Verdict::failed("not as things are: see the application, above", "do what it says there first")
    } else if failed(DENIED) {
        Verdict::failed("Azure would refuse it: a deny assignment wins over every role", "do what it says there first")
    } else if ways.contains(&Some(true)) {
        Verdict::ok("it would be let in, as far as shows without posting it")
    } else if ways == [Some(false), Some(false)] {
        Verdict::failed(
            "nothing shows that we may: it would most likely be refused, and the next way tried",
            "have the customer delegate (permafresh lighthouse template), or leave it to them: the rollout hands them the command",
        )
    } else {
        Verdict::note("it cannot be told without posting it", "try it: a rollout whose scope is this application")
    };
    verdict.of("refresh of the application", "what the five checks above say together; nothing was posted")
}

/// Our principals: as told, else as the token says.
async fn ours(patient: &Patient, arm: &ArmClient) -> Claims {
    let claims = arm.caller().await.unwrap_or_default();
    match &patient.principal {
        // Groups of whoever asks are those of nobody else.
        Some(principal) => Claims { object_id: Some(principal.clone()), groups: Vec::new(), ..claims },
        None => claims,
    }
}

fn principals(claims: &Claims) -> Vec<String> {
    claims.object_id.iter().chain(&claims.groups).cloned().collect()
}

const WHO: &str = "give --principal with the object id of the service's principal";

async fn tenant(patient: &Patient, id: &ApplicationId) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    match arm.tenant_of(id.subscription(), None).await {
        Looked::Seen(tenant) => Verdict::ok(format!("it is in tenant {tenant}")),
        Looked::Refused { error } => {
            Verdict::failed(said(&error), "look at the subscription's id; it may have been deleted")
        }
        Looked::Unclear { error, .. } => Verdict::warning(said(&error), "run this again later"),
    }
}

async fn read(patient: &Patient, id: &ApplicationId) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let outcome = arm.read_application(id).await;
    let (mut about, mut is_unmanaged) = (String::new(), false);
    if let Some(application) = &outcome.application {
        let properties = &application.properties;
        is_unmanaged = properties.management_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("Unmanaged"));
        if let Some(version) = application.plan.as_ref().and_then(|plan| plan.version.as_deref()) {
            about += &format!("; it was deployed with version {version}");
        }
        if properties.jit_access_policy.as_ref().is_some_and(|policy| policy.jit_access_enabled) {
            about += "; access is just in time, so a refresh may have to wait for an approval";
        }
    }
    match outcome.answer {
        ReadAnswer::Ready if is_unmanaged => Verdict::warning(
            format!("it is there and ready, and its publisher has no access by the plan (Unmanaged){about}"),
            "reach it by a delegation or by GDAP, or leave it to the customer",
        ),
        ReadAnswer::Ready => Verdict::ok(format!("it is there and ready{about}")),
        ReadAnswer::Busy { provisioning_state } => {
            Verdict::warning(format!("it is {provisioning_state}{about}"), "wait until it is done")
        }
        ReadAnswer::Broken { provisioning_state } => Verdict::warning(
            format!("its state is {provisioning_state}{about}"),
            "have the customer look at its deployment",
        ),
        ReadAnswer::Deleting => Verdict::failed("it is being deleted", "nothing: rollouts skip it"),
        ReadAnswer::NotFound => Verdict::failed(
            "Azure does not find it, or does not let us see it",
            "look at the id; else it is gone, or the identity has no access",
        ),
        ReadAnswer::Unreadable { error, .. } => match error.status {
            Some(401 | 403) => Verdict::warning(
                format!("we may not read it: {}", said(&error)),
                "a refresh may work all the same; its result could not be verified",
            ),
            _ => Verdict::failed(said(&error), "run this again later"),
        },
    }
}

async fn roles(patient: &Patient, id: &ApplicationId) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let claims = ours(patient, &arm).await;
    let Some(principal) = &claims.object_id else {
        return Verdict::note("cannot be told, since the token does not say whose it is", WHO);
    };
    let assigned = match arm.role_assignments(id, Some(principal)).await {
        Looked::Seen(assigned) => assigned,
        Looked::Refused { error } | Looked::Unclear { error, .. } => {
            let to_do = "nothing, if there is a delegation: those who are let in by one see no role assignments";
            return Verdict::note(format!("they cannot be read: {}", said(&error)), to_do);
        }
    };
    let scope = scope(id);
    let mut names = Vec::new();
    for assignment in &assigned {
        let role = assignment.role_definition_id.rsplit('/').next().unwrap_or_default();
        let defined = match arm.role_definition(&scope, role).await {
            Looked::Seen(role) => Some(role),
            Looked::Refused { .. } | Looked::Unclear { .. } => Role::built_in(role),
        };
        match defined {
            Some(role) if role.traits.refreshes => {
                return Verdict::ok(format!("{} on {} does", role.name, assignment.scope)).letting_in(true);
            }
            Some(role) => names.push(role.name),
            None => names.push(role.to_owned()),
        }
    }
    names.truncate(SHOWN);
    let have = if names.is_empty() { "we have none".to_owned() } else { format!("none does: {}", names.join(", ")) };
    let to_do =
        "nothing, if there is a delegation; else name the identity in the plan's authorizations, or have it delegated";
    Verdict::note(have, to_do).letting_in(false)
}

async fn delegation(patient: &Patient, id: &ApplicationId) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let claims = ours(patient, &arm).await;
    let tenant = patient.settings.identity.tenant_id.clone().or_else(|| claims.tenant_id.clone());
    let (Some(tenant), Some(_)) = (tenant, &claims.object_id) else {
        return Verdict::note(
            "cannot be told, since the token does not say whose it is",
            format!("{WHO}, and set AZURE_TENANT_ID"),
        );
    };
    let caller = Caller { tenant, principals: principals(&claims) };
    let scope = scope(id);
    let mut found = Vec::new();
    for scope in [scope.of_subscription(), scope.clone()] {
        match arm.registration_assignments(&scope).await {
            Looked::Seen(seen) => found.extend(seen.assignments),
            // Nobody shows delegations to those who have none.
            Looked::Refused { .. } => {}
            Looked::Unclear { error, .. } => return Verdict::warning(said(&error), "run this again later"),
        }
    }
    let mut roles = BTreeMap::new();
    for role in roles_of(&found, &caller) {
        let defined = match arm.role_definition(&scope, &role).await {
            Looked::Seen(role) => Some(role),
            Looked::Refused { .. } | Looked::Unclear { .. } => Role::built_in(&role),
        };
        roles.extend(defined.map(|defined| (role, defined)));
    }
    let check = format!("permafresh lighthouse check {scope} says more");
    match judge(&scope, &found, &caller, &roles).coverage {
        Coverage::All => Verdict::ok("it is, and that covers the refresh and reading how it goes").letting_in(true),
        Coverage::RefreshOnly => {
            Verdict::ok("it is, and that covers the refresh; reading how it goes may be refused").letting_in(true)
        }
        Coverage::Nothing if found.is_empty() => Verdict::note("it is not", check).letting_in(false),
        Coverage::Nothing => Verdict::warning("it is, and that does not cover the refresh", check).letting_in(false),
    }
}

async fn denied(patient: &Patient, id: &ApplicationId) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let claims = ours(patient, &arm).await;
    if claims.object_id.is_none() {
        return Verdict::note("cannot be told, since the token does not say whose it is", WHO);
    }
    let all = match arm.deny_assignments(id).await {
        Looked::Seen(all) => all,
        Looked::Refused { error } | Looked::Unclear { error, .. } => {
            return Verdict::note(
                format!("they cannot be read: {}", said(&error)),
                "nothing: most are on the managed group, where they do not matter here",
            );
        }
    };
    let principals = principals(&claims);
    let against: Vec<_> = all.iter().filter(|deny| deny.denies(REFRESH, &principals, id)).collect();
    match against.first() {
        None => Verdict::ok(format!("none does, of {}", counted(all.len() as u64, "deny assignment"))),
        Some(deny) => {
            let where_made = if deny.scope.is_empty() { "the application" } else { &deny.scope };
            Verdict::failed(
                format!("{} on {where_made} does", deny.deny_assignment_name),
                "ask the customer to except our principal from it",
            )
        }
    }
}

fn scope(id: &ApplicationId) -> Scope {
    id.to_string().parse().expect("the id of an application is a scope")
}
