//! What ARM shows of delegations: registration assignments of a scope, and the definitions of roles (contracts/access.md §3.5).
//!
//! Reads only. What a delegation is worth is for [`crate::lighthouse::coverage`] to say.

use std::time::Duration;

use http::StatusCode;

use super::admission::Permit;
use super::call::{Call, Outcome};
use super::client::{ArmClient, refused};
use super::listing::ListEnd;
use crate::lighthouse::coverage::Assignment;
use crate::lighthouse::role::{Role, RoleDefinition};
use crate::lighthouse::{API_VERSION, Scope};
use crate::rollout::RemoteError;

const ROLES_API_VERSION: &str = "2022-04-01";

/// What came of a look at something that we may not be allowed to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked<T> {
    /// It is there.
    Seen(T),
    /// We are not let in, or there is nothing: no access, another tenant, not found.
    Refused {
        /// ARM's words.
        error: RemoteError,
    },
    /// Nothing can be said: throttled, out of order, or not to be understood.
    Unclear {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
}

impl<T> Looked<T> {
    pub(super) fn otherwise(error: RemoteError, wait: Option<Duration>) -> Self {
        // A 401 that blames the token is our own trouble; any other one comes from a tenant that does not know us.
        let no_access = match error.status {
            Some(401) => !super::operation::blames_token(&error),
            Some(403 | 404) => true,
            _ => false,
        };
        if no_access { Self::Refused { error } } else { Self::Unclear { error, wait } }
    }
}

/// Delegations of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Those that can be read.
    pub assignments: Vec<Assignment>,
    /// How many cannot.
    pub unreadable: usize,
}

impl ArmClient {
    /// The registration assignments of a scope, with their definitions.
    pub async fn registration_assignments(&self, scope: &Scope) -> Looked<Assignments> {
        let first = format!(
            "{}/providers/Microsoft.ManagedServices/registrationAssignments\
             ?$expandRegistrationDefinition=true&api-version={API_VERSION}",
            scope.url_path()
        );
        let mut found = Assignments::default();
        let (end, _) = self
            .read_pages(scope.subscription(), first, |item| match serde_json::from_str(item.get()) {
                Ok(assignment) => found.assignments.push(assignment),
                Err(_) => found.unreadable += 1,
            })
            .await;
        match end {
            ListEnd::Complete => Looked::Seen(found),
            ListEnd::Stopped { error, wait } => Looked::otherwise(error, wait),
        }
    }

    /// Whether any delegation of a scope shows, asked from a place for calls; `None` where Azure does not say.
    pub async fn has_delegation(&self, scope: &Scope, place: &Permit) -> Option<bool> {
        let target = format!(
            "{}/providers/Microsoft.ManagedServices/registrationAssignments?api-version={API_VERSION}",
            scope.url_path()
        );
        let uri = self.shared.host.at(&target).ok()?;
        let Outcome::Answered { received, .. } =
            self.call_from(Call::look(uri, scope.subscription()), Some(place)).await
        else {
            return None;
        };
        if received.status == StatusCode::OK {
            let page = serde_json::from_slice::<serde_json::Value>(&received.body).ok()?;
            return page["value"].as_array().map(|assignments| !assignments.is_empty());
        }
        let refused = Looked::<()>::otherwise(self.answer(&received).error(), None);
        matches!(refused, Looked::Refused { .. }).then_some(false)
    }

    /// A role as it is defined now, by its bare GUID.
    pub async fn role_definition(&self, scope: &Scope, role: &str) -> Looked<Role> {
        let target = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}?api-version={ROLES_API_VERSION}",
            scope.subscription()
        );
        let uri = match self.shared.host.at(&target) {
            Ok(uri) => uri,
            Err(why) => return Looked::Unclear { error: refused("UrlRefused", &target, why), wait: None },
        };
        match self.call(Call::look(uri, scope.subscription()), None).await {
            Outcome::Answered { received, .. } => {
                let answer = self.answer(&received);
                if received.status != StatusCode::OK {
                    return Looked::otherwise(answer.error(), answer.wait());
                }
                match serde_json::from_slice::<RoleDefinition>(&received.body) {
                    Ok(definition) => Looked::Seen(definition.role()),
                    Err(_) => Looked::Unclear { error: answer.error(), wait: None },
                }
            }
            Outcome::Unanswered { error, wait, .. } => Looked::Unclear { error, wait },
        }
    }
}
