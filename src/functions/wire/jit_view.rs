//! Just-in-time access in the shape of the API: what the customer has set, what was asked, who has to act where.

use serde::{Deserialize, Serialize};

use crate::arm::jit::ListedRequest;
use crate::rollout::jit::{RequestState, Usable};
use crate::rollout::{ApplicationId, Deployment, DeploymentKey, JitAccess, JitRequest, JitTerms, Timestamp};

/// `GET /api/deployments/{key}/jit`, and an item of `GET /api/deployments/jit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitView {
    /// The deployment's key.
    pub key: DeploymentKey,
    /// Its ARM id.
    pub application_id: ApplicationId,
    /// What the customer has set, where Azure has shown it; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<JitTerms>,
    /// What was asked, the latest first.
    pub requests: Vec<JitRequestView>,
    /// What Azure itself lists for the application, whoever asked; with `?azure=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Vec<ListedRequest>>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitRequestView {
    /// Its name in Azure.
    pub name: String,
    /// The resource group it is filed in.
    pub resource_group: String,
    /// Where it stands.
    pub state: JitWord,
    /// `jitRequestState` as Azure spelt it last, while it is undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_state: Option<String>,
    /// When its window begins.
    pub starts_at: Timestamp,
    /// When its window ends.
    pub ends_at: Timestamp,
    /// When it is given up, while it is undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When it is looked at next, while it is undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_look: Option<Timestamp>,
    /// The principal that it is for.
    pub principal_id: String,
    /// The role that it asks for.
    pub role_id: String,
    /// Who has to do what where, while it is undecided; why nothing came of it, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The code of that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JitWord {
    /// It is being filed.
    Wanted,
    /// It waits for its approver.
    Pending,
    /// Its window is there for a refresh.
    Open,
    /// It was approved; its window is over, or as good as.
    Over,
    /// Nothing came of it.
    Refused,
}

impl JitView {
    /// What is known of one application.
    pub fn new(access: &JitAccess, deployment: Option<&Deployment>, now: Timestamp) -> Self {
        Self {
            key: access.application_id.key(),
            application_id: access.application_id.clone(),
            terms: deployment.and_then(|deployment| deployment.jit.clone()),
            requests: access.requests.iter().rev().map(|request| view(request, now)).collect(),
            listed: None,
        }
    }
}

/// One request as it stands at `now`.
pub fn view(request: &JitRequest, now: Timestamp) -> JitRequestView {
    let trouble = request.trouble(now);
    let (state, azure_state, next_look) = match &request.state {
        _ if trouble.is_some() => (JitWord::Refused, None, None),
        RequestState::Wanted { lease_until, .. } => (JitWord::Wanted, None, Some(*lease_until)),
        RequestState::Pending { word, next_look, .. } => (JitWord::Pending, Some(word.clone()), Some(*next_look)),
        _ if request.usable(now) == Usable::Now => (JitWord::Open, None, None),
        _ => (JitWord::Over, None, None),
    };
    let is_open = matches!(state, JitWord::Wanted | JitWord::Pending);
    let waits = || match &request.state {
        RequestState::Wanted { last: Some(last), .. } => format!("could not be filed yet: {last}"),
        _ => request.approval.who_and_where(),
    };
    JitRequestView {
        name: request.name.clone(),
        resource_group: request.resource_group.clone(),
        state,
        azure_state,
        starts_at: request.starts,
        ends_at: request.ends(),
        deadline: is_open.then(|| request.deadline()),
        next_look,
        principal_id: request.principal_id.clone(),
        role_id: request.role_id.clone(),
        why: match &trouble {
            Some(trouble) => Some(trouble.sentence(Some(&request.name))),
            None => is_open.then(waits),
        },
        code: trouble.map(|trouble| trouble.code().to_owned()),
    }
}
