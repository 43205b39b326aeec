//! Partner Center's part of the simulator: consents, and the registration of its webhook.
//!
//! Answers our app's user only, and posts no event: who wants one has a test do it.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};

use super::super::super::scopes::ARM_APP;
use super::{Asked, Call, Reply, State};

impl Asked<'_> {
    /// Whether the caller's token is one of ours for Partner Center.
    fn is_partner(&self, state: &State) -> bool {
        let at_home = (self.shared.config.partner_tenant.clone(), "https://api.partnercenter.microsoft.com".to_owned());
        self.caller(state) == Some(at_home)
    }

    pub(super) fn registration(&self) -> Reply {
        let mut state = self.shared.state();
        if !self.is_partner(&state) {
            return Reply::text(401, "");
        }
        let body: Value = serde_json::from_str(self.body).unwrap_or_default();
        match (&self.method, state.registration.clone()) {
            (&Method::GET, Some(known)) => Reply::json(200, &known),
            (&Method::GET | &Method::PUT, None) => Reply::text(404, ""),
            (&Method::POST, Some(_)) => Reply::text(409, ""),
            (&Method::POST | &Method::PUT, _) if body["WebhookUrl"].is_string() && body["WebhookEvents"].is_array() => {
                state.registration = Some(body.clone());
                Reply::json(200, &body)
            }
            _ => Reply::text(400, ""),
        }
    }

    /// A trial that always gets through, unless a script says otherwise.
    pub(super) fn trial(&self) -> Reply {
        let state = self.shared.state();
        if !self.is_partner(&state) {
            return Reply::text(401, "");
        }
        let id = "04af2aea-d413-42db-824e-f328001484d1";
        match (&self.method, &state.registration) {
            (&Method::POST, Some(known))
                if known["WebhookEvents"].as_array().is_some_and(|all| all.contains(&json!("test-created"))) =>
            {
                Reply::json(200, &json!({"correlationId": id}))
            }
            (&Method::GET, _) if self.segments[4..] == [id] => Reply::json(
                200,
                &json!({"correlationId": id, "status": "completed", "results": [{"responseCode": "OK", "responseMessage": "", "systemError": false}]}),
            ),
            _ => Reply::text(404, ""),
        }
    }

    pub(super) fn consent(&self, call: Call) -> Reply {
        let mut state = self.shared.state();
        let error = |status, code: u32| {
            Reply::json(
                status,
                &json!({"code": code.to_string(), "description": "simulated", "data": [], "source": "PartnerFD"}),
            )
        };
        if !self.is_partner(&state) {
            return error(401, 900_420);
        }
        let body: Value = serde_json::from_str(self.body).unwrap_or_default();
        let app = match call {
            Call::Withdraw => self.segments[4],
            _ => body["applicationId"].as_str().unwrap_or_default(),
        };
        if app != self.shared.config.client_id || !self.headers.contains_key("ms-requestid") {
            return error(400, 2_000);
        }
        let Some(customer) = state.customers.get_mut(self.segments[2]) else { return error(404, 60_003) };
        if !customer.has_relationship {
            return error(403, 20_002);
        }
        let has_any = customer.has_consented || !customer.beyond.is_empty();
        if call == Call::Withdraw {
            (customer.has_consented, customer.beyond) = (false, BTreeMap::new());
            return if has_any { Reply::text(204, "") } else { error(404, 2_002) };
        }
        if !customer.missing.is_empty() {
            return error(400, 2_000);
        }
        let grants = body["applicationGrants"].as_array().cloned().unwrap_or_default();
        let asked: BTreeMap<String, BTreeSet<String>> = grants
            .iter()
            .map(|grant| {
                let names = grant["scope"].as_str().unwrap_or_default().split(',').map(str::to_owned).collect();
                (grant["enterpriseApplicationId"].as_str().unwrap_or_default().to_owned(), names)
            })
            .collect();
        let is_there =
            |app: &String| if app == ARM_APP { customer.has_consented } else { customer.beyond.contains_key(app) };
        if has_any && (!customer.takes_more || asked.keys().any(is_there)) {
            return error(409, 2_001);
        }
        for (app, names) in asked {
            match app == ARM_APP {
                true => customer.has_consented = true,
                false => _ = customer.beyond.insert(app, names),
            }
        }
        Reply::json(201, &json!({"applicationId": body["applicationId"]}))
    }
}
