//! The shapes of an offer publish: what is asked, and what is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rollout::RolloutId;
use crate::rollout::lint::Finding;

/// The body of `POST /api/offer-publishes` and `POST /api/rollouts`, as it came.
///
/// Any JSON object parses: values are kept raw and unknown members are kept in [`PublishRequest::unknown`], so that one
/// answer can name every bad member instead of the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PublishRequest {
    /// Partner Center's publisher id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Value>,
    /// Partner Center's offer id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Value>,
    /// Partner Center's plan id; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// The package version, `a.b.c`; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Value>,
    /// `preview` or `live`; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Value>,
    /// `preview` or `all`; by default `preview` for the target preview and `all` for live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Value>,
    /// Partner Center's submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission_id: Option<Value>,
    /// When Partner Center published it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Value>,
    /// `rollOut` (default), `repair` or `restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Value>,
    /// Whether it may end a rollout of another version that is on its way; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supersede: Option<Value>,
    /// A [`crate::rollout::Strategy`]; by default the offer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Value>,
    /// `{"applicationIds": []}`: only these deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Value>,
    /// A person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Value>,
    /// What the version allows, for the lint: `{"allowedCustomerActions": [], "allowedDataActions": []}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// Members that the API does not have: each of them is an error.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// The answer to `POST /api/offer-publishes/lint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LintResult {
    /// Whether a rollout of this version would be parked.
    pub rejected: bool,
    /// What the lint says, the rejected entries first.
    pub findings: Vec<Finding>,
}

/// The answer to `POST /api/offer-publishes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishAccepted {
    /// The rollout that brings it out.
    pub rollout_id: RolloutId,
    /// The key by which the same publish is known again.
    pub idempotency_key: String,
    /// The rollout of the first arrival, where this was not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<RolloutId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_is_a_publish_request_and_its_unknown_members_are_kept() {
        let request: PublishRequest =
            serde_json::from_str(r#"{"publisher": 7, "version": null, "vesion": "1.4.0", "scope": []}"#).unwrap();
        assert_eq!(request.publisher, Some(Value::from(7)));
        assert_eq!(request.version, None);
        assert_eq!(request.scope, Some(Value::from(Vec::<Value>::new())));
        assert_eq!(request.unknown.keys().collect::<Vec<_>>(), ["vesion"]);
        assert!(serde_json::from_str::<PublishRequest>("[]").is_err());
        assert_eq!(serde_json::to_string(&PublishRequest::default()).unwrap(), "{}");
    }
}
