//! Who may do what on one application, as ARM shows it: role assignments and deny assignments; and what any answer tells of
//! ARM itself, its time and the first subscriptions. For `doctor`; nothing else decides by it, since only the POST can tell.
//!
//! Reads only. Lighthouse's assignments are not among those of roles (contracts/access.md §3.5): see [`super::delegations`].

use std::time::Duration;

use http::StatusCode;
use http::header::DATE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::call::{Call, Outcome};
use super::client::{ArmClient, SUBSCRIPTIONS_API_VERSION, refused};
use super::delegations::Looked;
use super::listing::ListEnd;
use crate::lighthouse::role::Permission;
use crate::rollout::{ApplicationId, RemoteError, Timestamp};

const API_VERSION: &str = "2022-04-01";
/// What stands for everybody among the principals of a deny assignment.
const EVERYBODY: &str = "00000000-0000-0000-0000-000000000000";

/// A role that somebody has on the application, or above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleAssignment {
    /// Whose it is: an object id.
    pub principal_id: String,
    /// The id of the role's definition.
    pub role_definition_id: String,
    /// Where it was given.
    pub scope: String,
}

/// Something that is denied on the application, or above it, whatever roles allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DenyAssignment {
    /// Its name.
    pub deny_assignment_name: String,
    /// Where it was made.
    pub scope: String,
    /// Whether it stops at that very scope.
    pub do_not_apply_to_child_scopes: bool,
    permissions: Vec<Permission>,
    principals: Vec<Principal>,
    exclude_principals: Vec<Principal>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Principal {
    id: String,
}

impl DenyAssignment {
    /// Whether it keeps one of these principals from an operation on the application.
    pub fn denies(&self, operation: &str, principals: &[String], id: &ApplicationId) -> bool {
        let names = |all: &[Principal]| {
            all.iter().any(|of| principals.iter().any(|principal| principal.eq_ignore_ascii_case(&of.id)))
        };
        let is_here = self.scope.is_empty() || self.scope.eq_ignore_ascii_case(&id.to_string());
        let is_everybody = self.principals.iter().any(|of| of.id == EVERYBODY);
        (is_here || !self.do_not_apply_to_child_scopes)
            && (is_everybody || names(&self.principals))
            && !names(&self.exclude_principals)
            && self.permissions.iter().any(|part| part.covers(operation))
    }
}

/// What ARM says when it is asked for subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// How far its clock is ahead of ours, in seconds; `None` where the answer bears no date.
    pub ahead_seconds: Option<i64>,
    /// The subscriptions of the first page.
    pub subscriptions: Vec<String>,
    /// Whether there are more.
    pub has_more: bool,
}

impl ArmClient {
    /// The roles that `principal` has on the application and above it, its groups' included; everybody's without one.
    pub async fn role_assignments(&self, id: &ApplicationId, principal: Option<&str>) -> Looked<Vec<RoleAssignment>> {
        let filter = principal
            .map(|principal| format!("&$filter=assignedTo('{}')", utf8_percent_encode(principal, NON_ALPHANUMERIC)));
        self.assignments(id, "roleAssignments", &filter.unwrap_or_default()).await
    }

    /// What is denied on the application and above it.
    pub async fn deny_assignments(&self, id: &ApplicationId) -> Looked<Vec<DenyAssignment>> {
        self.assignments(id, "denyAssignments", "").await
    }

    async fn assignments<T: DeserializeOwned>(&self, id: &ApplicationId, kind: &str, filter: &str) -> Looked<Vec<T>> {
        #[derive(Deserialize)]
        struct Item<T> {
            properties: T,
        }
        let path = id.url_path();
        let first = format!("{path}/providers/Microsoft.Authorization/{kind}?api-version={API_VERSION}{filter}");
        let (mut found, mut unreadable) = (Vec::new(), false);
        let take = |item: &RawValue| match serde_json::from_str::<Item<T>>(item.get()) {
            Ok(item) => found.push(item.properties),
            Err(_) => unreadable = true,
        };
        match self.read_pages(id.subscription(), first, take).await.0 {
            ListEnd::Complete if unreadable => {
                let message = "an item of the list cannot be read".to_owned();
                let error = RemoteError { status: None, code: "UnreadableBody".to_owned(), message };
                Looked::Unclear { error, wait: None }
            }
            ListEnd::Complete => Looked::Seen(found),
            ListEnd::Stopped { error, wait } => Looked::otherwise(error, wait),
        }
    }

    /// Asks for the first subscriptions, and compares clocks by the way.
    ///
    /// # Errors
    /// What ARM says instead, or why it says nothing.
    pub async fn surroundings(&self) -> Result<Surroundings, RemoteError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            value: Vec<Item>,
            #[serde(default)]
            next_link: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Item {
            subscription_id: String,
        }
        let target = format!("/subscriptions?api-version={SUBSCRIPTIONS_API_VERSION}");
        let uri = self.shared.host.at(&target).map_err(|why| refused("UrlRefused", &target, why))?;
        let (received, at) = match self.call(Call::look(uri, ""), None).await {
            Outcome::Answered { received, .. } => {
                let at = self.answer(&received).at;
                (received, at)
            }
            Outcome::Unanswered { error, .. } => return Err(error),
        };
        let answer = self.answer(&received);
        if received.status != StatusCode::OK {
            return Err(answer.error());
        }
        let page: Page = serde_json::from_slice(&received.body).map_err(|_| answer.error())?;
        let date = received.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let ahead_seconds = date.map(|date| (Timestamp::from(date) - at).num_seconds());
        let subscriptions = page.value.into_iter().map(|item| item.subscription_id).collect();
        let has_more = page.next_link.is_some_and(|link| !link.is_empty());
        Ok(Surroundings { ahead_seconds, subscriptions, has_more })
    }
}

/// How far clocks may be apart without anything to say: a date has whole seconds, and an answer takes a while.
pub const NEAR: Duration = Duration::from_secs(30);
/// How far they may be apart before tokens and signatures are refused: Microsoft Entra and Service Bus bear five minutes.
pub const FAR: Duration = Duration::from_secs(4 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
    const REFRESH: &str = "Microsoft.Solutions/applications/refreshPermissions/action";

    fn denies(changes: &str) -> bool {
        let base = r#"{"denyAssignmentName": "d", "scope": "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg",
            "permissions": [{"actions": ["*"], "notActions": ["*/read"]}], "principals": [{"id": "P", "type": "ServicePrincipal"}]}"#;
        let mut value: serde_json::Value = serde_json::from_str(base).unwrap();
        let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
        value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let deny: DenyAssignment = serde_json::from_value(value).unwrap();
        deny.denies(REFRESH, &["p".to_owned(), "g".to_owned()], &ID.parse().unwrap())
    }

    #[test]
    fn a_deny_assignment_counts_for_whom_and_where_and_for_what_it_was_made() {
        assert!(denies("{}"), "case does not count");
        assert!(denies(r#"{"principals": [{"id": "00000000-0000-0000-0000-000000000000", "type": "SystemDefined"}]}"#));
        assert!(!denies(r#"{"principals": [{"id": "other"}]}"#));
        assert!(!denies(r#"{"excludePrincipals": [{"id": "G"}]}"#));
        assert!(!denies(r#"{"permissions": [{"actions": ["Microsoft.Compute/*"]}]}"#));
        assert!(!denies(r#"{"permissions": [{"actions": ["*"], "notActions": ["Microsoft.Solutions/*/action"]}]}"#));
        assert!(!denies(r#"{"doNotApplyToChildScopes": true}"#));
        assert!(denies(&format!(r#"{{"doNotApplyToChildScopes": true, "scope": "{}"}}"#, ID.to_uppercase())));
    }
}
