//! A managed application as ARM shows it (contracts/arm.md §1.3), read leniently.
//!
//! Unknown members are passed over, missing and odd ones are as if they were not there: only what is no JSON object at all
//! is refused. `parameters` and `outputs`, which may hold a customer's data, are never read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::rollout::jit::{JitApplication, JitTerms};
use crate::rollout::{ApplicationId, resource_id};

/// Why a text is no application.
#[derive(Debug, thiserror::Error)]
pub enum NoApplication {
    /// It is no JSON object.
    #[error("it is not a JSON object")]
    NoObject,
    /// It has no id.
    #[error("it has no id")]
    NoId,
    /// It is no JSON.
    #[error("it is not JSON: {0}")]
    NoJson(#[from] serde_json::Error),
}

/// One managed application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Application {
    /// Its ARM id, as ARM spells it.
    #[serde(deserialize_with = "lenient")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "lenient")]
    pub name: String,
    /// Its region.
    #[serde(deserialize_with = "lenient")]
    pub location: Option<String>,
    /// `MarketPlace` or `ServiceCatalog`, as ARM spells it; see [`Application::is_marketplace`].
    #[serde(deserialize_with = "lenient")]
    pub kind: Option<String>,
    /// What was bought; none for a service-catalog application.
    #[serde(deserialize_with = "lenient")]
    pub plan: Option<ApplicationPlan>,
    /// Everything else.
    #[serde(deserialize_with = "lenient")]
    pub properties: Properties,
}

/// The plan of a Marketplace application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApplicationPlan {
    /// Partner Center's publisher id.
    pub publisher: String,
    /// The offer id; ends in `-preview` for a preview purchase.
    pub product: String,
    /// The plan id.
    pub name: String,
    /// The version it was deployed with.
    #[serde(default, deserialize_with = "lenient")]
    pub version: Option<String>,
}

/// The `properties` of an application, as far as anybody here asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Properties {
    /// The id of the managed resource group.
    #[serde(deserialize_with = "lenient")]
    pub managed_resource_group_id: Option<String>,
    /// The definition of a service-catalog application.
    #[serde(deserialize_with = "lenient")]
    pub application_definition_id: Option<String>,
    /// An open list of words; none counts as Succeeded.
    #[serde(deserialize_with = "lenient")]
    pub provisioning_state: Option<String>,
    /// The publisher's tenant.
    #[serde(deserialize_with = "lenient")]
    pub publisher_tenant_id: Option<String>,
    /// `Managed`, or `Unmanaged`: the publisher has no access.
    #[serde(deserialize_with = "lenient")]
    pub management_mode: Option<String>,
    /// Who of the publisher may do what.
    #[serde(deserialize_with = "lenient")]
    pub authorizations: Vec<Authorization>,
    /// Whether access is just in time.
    #[serde(deserialize_with = "lenient")]
    pub jit_access_policy: Option<JitAccessPolicy>,
}

/// One principal of the publisher and its role in the managed resource group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The principal's object id.
    pub principal_id: String,
    /// The role, seen as a bare GUID.
    pub role_definition_id: String,
}

/// Just-in-time access of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JitAccessPolicy {
    /// Whether it is on.
    #[serde(deserialize_with = "lenient")]
    pub jit_access_enabled: bool,
    /// `AutoApprove`, `ManualApprove` or another word.
    #[serde(deserialize_with = "lenient")]
    pub jit_approval_mode: Option<String>,
    /// The longest window, an ISO 8601 duration.
    #[serde(deserialize_with = "lenient")]
    pub maximum_jit_access_duration: Option<String>,
    /// Who approves.
    #[serde(deserialize_with = "lenient")]
    pub jit_approvers: Vec<JitApprover>,
}

/// Somebody who approves access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JitApprover {
    /// The object id of a user or a group.
    #[serde(deserialize_with = "lenient")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "lenient")]
    pub display_name: Option<String>,
}

impl Application {
    /// Reads one from JSON. Serde takes an array for a struct, and every member here may be missing, so what is no object
    /// with an id is refused first.
    pub fn from_json(text: &[u8]) -> Result<Self, NoApplication> {
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(NoApplication::NoObject);
        }
        let application: Self = serde_json::from_slice(text)?;
        if application.id.is_empty() { Err(NoApplication::NoId) } else { Ok(application) }
    }

    /// Its id, parsed; `None` if it is not one of a managed application.
    pub fn application_id(&self) -> Option<ApplicationId> {
        self.id.parse().ok()
    }

    /// What the customer has set for just-in-time access, if ARM shows anything.
    pub fn jit_terms(&self) -> Option<JitTerms> {
        let policy = self.properties.jit_access_policy.as_ref()?;
        let name = |approver: &JitApprover| approver.display_name.clone().unwrap_or_else(|| approver.id.clone());
        Some(JitTerms {
            enabled: policy.jit_access_enabled,
            approval_mode: policy.jit_approval_mode.clone(),
            approvers: policy.jit_approvers.iter().map(name).filter(|name| !name.trim().is_empty()).collect(),
            maximum_duration: policy.maximum_jit_access_duration.clone(),
        })
    }

    /// What a just-in-time request has to know of it.
    pub fn for_jit(&self) -> JitApplication {
        let group = self.properties.managed_resource_group_id.as_deref().and_then(resource_id::resource_group);
        let authorizations = &self.properties.authorizations;
        let pair = |granted: &Authorization| (granted.principal_id.clone(), granted.role_definition_id.clone());
        JitApplication {
            terms: self.jit_terms(),
            is_unmanaged: self.is_unmanaged(),
            authorizations: authorizations.iter().map(pair).collect(),
            location: self.location.clone(),
            managed_group: group.map(str::to_owned),
        }
    }

    /// Whether the plan gives its publisher no access (`managementMode`).
    pub fn is_unmanaged(&self) -> bool {
        self.properties.management_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("Unmanaged"))
    }

    /// Whether it is one of a service catalog, which nobody bought.
    pub fn is_service_catalog(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("ServiceCatalog"))
    }

    /// Whether it was bought on the Marketplace; ARM spells it `MarketPlace`, so case does not count.
    pub fn is_marketplace(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("MarketPlace"))
    }
}

/// A member that is as if it were not there when it is null or of another type.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_members_do_not_hide_the_others() {
        let application = Application::from_json(
            br#"{"id": "elsewhere", "name": 7, "kind": "marketplace", "plan": {"publisher": "p"}, "new": {"x": [1]},
                "properties": {"provisioningState": "Succeeded", "authorizations": null, "jitAccessPolicy": "none",
                               "parameters": "{\"a\": 1}", "managementMode": ["x"]}}"#,
        )
        .unwrap();
        assert_eq!(application.name, "");
        assert!(application.is_marketplace());
        assert_eq!((application.plan.as_ref(), application.application_id()), (None, None));
        assert_eq!(application.properties.provisioning_state.as_deref(), Some("Succeeded"));
        assert!(application.properties.authorizations.is_empty());
    }

    #[test]
    fn whatever_is_no_object_is_no_application() {
        for body in ["", "null", "[]", "[\"id\"]", "\"text\"", "<html></html>", "{\"id\":", "{}", r#"{"id":7}"#] {
            assert!(Application::from_json(body.as_bytes()).is_err(), "{body}");
        }
    }
}
