//! Just-in-time requests that the simulator knows: who decided what, and whether a window is open.
//!
//! Where an application's policy is on, `refreshPermissions` and looks at its operations are refused outside an approved
//! window. Azure documents neither (contracts/access.md §4.2); it is what the service has to cope with.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::scripts::{OnJit, Reply};
use super::world::ApplicationSpec;
use crate::rollout::Timestamp;

/// A request as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenJit {
    /// Its name.
    pub name: String,
    /// The resource group it was filed in.
    pub group: String,
    /// `jitRequestState` by now.
    pub word: String,
    /// When its window begins.
    pub starts: Timestamp,
    /// How long its window is.
    pub duration: Duration,
    /// How often it was filed.
    pub filings: u32,
}

/// What one application has of it.
#[derive(Debug, Default)]
pub(super) struct Jit {
    pub on_filing: VecDeque<OnJit>,
    pub on_look: VecDeque<Reply>,
    pub requests: Vec<Request>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub name: String,
    pub group: String,
    pub body: Value,
    pub starts: Timestamp,
    pub duration: Duration,
    pub filings: u32,
    /// What it will be, from when on, and with which error.
    pub decision: Option<(Timestamp, Cow<'static, str>, Option<Cow<'static, str>>)>,
}

impl Request {
    pub fn word(&self, now: Timestamp) -> &str {
        match &self.decision {
            Some((at, word, _)) if *at <= now => word,
            _ => "Pending",
        }
    }

    /// As ARM shows it (contracts/arm.md §1.4).
    pub fn show(&self, subscription: &str, now: Timestamp) -> Value {
        let Self { name, group, .. } = self;
        let word = self.word(now);
        let mut shown = self.body.clone();
        shown["id"] = format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Solutions/jitRequests/{name}"
        )
        .into();
        shown["name"] = name.clone().into();
        shown["type"] = "Microsoft.Solutions/jitRequests".into();
        shown["properties"]["jitRequestState"] = word.into();
        shown["properties"]["provisioningState"] = match word {
            "Pending" => "Accepted",
            "Failed" | "Timeout" => "Failed",
            _ => "Succeeded",
        }
        .into();
        if let Some((at, _, Some(error))) = &self.decision
            && *at <= now
        {
            shown["properties"]["error"] = serde_json::from_str(error).unwrap_or_else(|_| json!({"message": error}));
        }
        shown
    }
}

impl Jit {
    /// Whether the customer has turned it on.
    pub fn is_on(&self, spec: &ApplicationSpec) -> bool {
        policy(spec)["jitAccessEnabled"] == true
    }

    /// Whether there is a window.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let open = |request: &Request| {
            request.word(now).eq_ignore_ascii_case("Approved")
                && request.starts <= now
                && now < request.starts + request.duration
        };
        self.requests.iter().any(open)
    }

    pub fn decide(&mut self, word: &'static str, now: Timestamp) -> usize {
        let pending = self.requests.iter_mut().filter(|request| request.word(now) == "Pending");
        pending.map(|request| request.decision = Some((now, Cow::Borrowed(word), None))).count()
    }

    pub fn seen(&self, now: Timestamp) -> Vec<SeenJit> {
        let seen = |request: &Request| SeenJit {
            name: request.name.clone(),
            group: request.group.clone(),
            word: request.word(now).to_owned(),
            starts: request.starts,
            duration: request.duration,
            filings: request.filings,
        };
        self.requests.iter().map(seen).collect()
    }
}

/// `jitAccessPolicy`, or nothing.
pub(super) fn policy(spec: &ApplicationSpec) -> Value {
    spec.jit_access_policy.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
