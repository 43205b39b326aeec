//! Microsoft Graph's part of the simulator: relationships, their assignments, and what apps ask for.
//!
//! Moves no relationship by itself: customers accept and end them where a test says so.

use http::Method;
use serde_json::{Value, json};

use super::super::super::scopes::{ARM_APP, ARM_SCOPE, GRAPH_APP};
use super::{ARM_SCOPE_ID, Asked, GRAPH_SCOPE_ID, Reply};

const RELATIONSHIPS: &[&str] = &["v1.0", "tenantRelationships", "delegatedAdminRelationships"];

impl Asked<'_> {
    pub(super) fn graph(&self) -> Reply {
        let mut state = self.shared.state();
        let error = |status, code: &str| Reply::json(status, &json!({"error": {"code": code, "message": "simulated"}}));
        let Some((tenant, audience)) = self.caller(&state) else { return error(401, "InvalidAuthenticationToken") };
        if audience != "https://graph.microsoft.com" {
            return error(401, "InvalidAuthenticationToken");
        }
        let list = |values: Vec<Value>| Reply::json(200, &json!({"value": values}));
        let app = || self.query.get("$filter").and_then(|filter| filter.split('\'').nth(1)).unwrap_or_default();
        match (&self.method, &self.segments[1..]) {
            (&Method::GET, ["applications"]) => list(vec![json!({"requiredResourceAccess": [
                {"resourceAppId": ARM_APP, "resourceAccess": [{"id": ARM_SCOPE_ID, "type": "Scope"}]},
                {"resourceAppId": GRAPH_APP, "resourceAccess": [{"id": GRAPH_SCOPE_ID, "type": "Scope"}]}]})]),
            (&Method::GET, ["servicePrincipals"]) => {
                let is_missing = state.customers.get(&tenant).is_some_and(|customer| customer.missing.contains(app()));
                let offer = match app() {
                    ARM_APP => json!({"id": ARM_SCOPE_ID, "value": ARM_SCOPE, "isEnabled": true}),
                    _ => json!({"id": GRAPH_SCOPE_ID, "value": "User.Read", "isEnabled": true}),
                };
                list(if is_missing {
                    vec![]
                } else {
                    vec![json!({"id": "1", "appId": app(), "oauth2PermissionScopes": [offer]})]
                })
            }
            (method, path) if path.starts_with(&RELATIONSHIPS[1..]) => {
                let body: Value = serde_json::from_str(self.body).unwrap_or_default();
                let number = state.next();
                match (method, &path[2..]) {
                    (&Method::GET, []) => list(state.relationships.values().cloned().collect()),
                    // Names are unique among the partner's.
                    (&Method::POST, [])
                        if state.relationships.values().any(|of| of["displayName"] == body["displayName"]) =>
                    {
                        error(409, "Conflict")
                    }
                    (&Method::POST, []) => {
                        let mut made = body;
                        let id = format!("{number:08x}-8293-4a4b-9c5d-6e7f80910213");
                        made["id"] = id.clone().into();
                        made["status"] = "created".into();
                        state.relationships.insert(id, made.clone());
                        Reply::json(201, &made)
                    }
                    (_, [id, rest @ ..]) => {
                        let Some(known) = state.relationships.get_mut(*id) else { return error(404, "NotFound") };
                        match (method, rest) {
                            (&Method::GET, []) => Reply::json(200, known),
                            // What has been locked, or has ended, takes no such request.
                            (&Method::POST, ["requests"]) if !takes(known, &body["action"]) => error(409, "Conflict"),
                            (&Method::POST, ["requests"]) => {
                                known["status"] = match body["action"].as_str() {
                                    Some("lockForApproval") => "approvalPending".into(),
                                    _ => "terminationRequested".into(),
                                };
                                Reply::json(201, &json!({"id": "r", "status": "created"}))
                            }
                            (&Method::POST, ["accessAssignments"])
                                if known["status"] != "active"
                                    || state.assignments.get(*id).is_some_and(|all| {
                                        all.iter().any(|of| of["accessContainer"] == body["accessContainer"])
                                    }) =>
                            {
                                error(409, "Conflict")
                            }
                            (&Method::POST, ["accessAssignments"]) => {
                                let mut made = body;
                                (made["id"], made["status"]) = (format!("a{number}").into(), "pending".into());
                                state.assignments.entry((*id).to_owned()).or_default().push(made.clone());
                                Reply::json(201, &made)
                            }
                            (&Method::GET, ["accessAssignments"]) => {
                                list(state.assignments.get(*id).cloned().unwrap_or_default())
                            }
                            _ => error(405, "MethodNotAllowed"),
                        }
                    }
                    _ => error(405, "MethodNotAllowed"),
                }
            }
            _ => error(404, "NotFound"),
        }
    }
}

/// Whether a relationship stands where this can be asked of it.
fn takes(relationship: &Value, action: &Value) -> bool {
    match (action.as_str(), relationship["status"].as_str()) {
        (Some("lockForApproval"), status) => status == Some("created"),
        (_, status) => matches!(status, Some("active" | "expiring" | "approvalPending")),
    }
}
