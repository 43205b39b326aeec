//! What Partner Center's answers say, read leniently: what we do not know is kept, what we need and cannot read is an error.
//!
//! Shapes of contracts/offer-publish.md §3. Decides nothing about them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::rollout::package::split_actions;
use crate::rollout::{Authorization, CloudAccess, Package, Submission, Timestamp, Version};

/// A plan of an offer, as Partner Center keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its id within the product.
    pub id: String,
    /// The plan's id, lower-case.
    pub plan: String,
}

/// What a package instance holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The package version.
    pub version: Version,
    /// Its permissions.
    pub package: Package,
}

/// Members of a package configuration that say nothing about permissions: what it is called, and the files a new deployment
/// is made of, which a refresh does not touch.
const NO_PERMISSION: &[&str] = &["resourceType", "version", "id", "packageReferences", "friendlyName"];

type Object = Map<String, Value>;

/// The id of an item, or why there is none.
pub(super) fn id(item: &Object) -> Result<String, String> {
    match text(item, "id") {
        Some(id) if is_id(&id) => Ok(id),
        Some(_) => Err("an id holds characters that no id has".to_owned()),
        None => Err("an item has no id".to_owned()),
    }
}

/// Whether a text can be an id in a URL of ours.
pub(super) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether an item is a product of the kind that has managed applications.
pub(super) fn is_azure_application(item: &Object) -> bool {
    is(item, "resourceType", "AzureApplication")
}

/// Whether a product is the one of an offer id. What does not say whose it is was found by the filter.
pub(super) fn is_of_offer(item: &Object, offer: &str) -> bool {
    let Some(ids) = item.get("externalIDs").and_then(Value::as_array) else { return true };
    let mut ids = ids.iter().filter_map(Value::as_object);
    ids.any(|id| is(id, "type", "AzureOfferId") && is(id, "value", offer))
}

/// A managed-application plan; `None` for any other kind.
pub(super) fn variant(item: &Object) -> Option<Result<Variant, String>> {
    if !is(item, "resourceType", "AzureSkuVariant") || !is(item, "subType", "managed-application") {
        return None;
    }
    let Some(plan) = text(item, "externalID") else { return Some(Err("a plan has no externalID".to_owned())) };
    Some(id(item).map(|id| Variant { id, plan: plan.to_ascii_lowercase() }))
}

/// A submission.
pub(super) fn submission(item: &Object) -> Result<Submission, String> {
    let objects =
        |name: &str| item.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let package = |resources: Option<&Value>| {
        let resources = resources.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        let mut packages = resources.filter(|resource| is(resource, "type", "Package"));
        packages.find_map(|resource| text(resource, "value").filter(|value| is_id(value)))
    };
    let mut packages = BTreeMap::new();
    for variant in objects("variantResources") {
        if let (Some(id), Some(package)) = (text(variant, "variantID"), package(variant.get("resources"))) {
            packages.insert(id, package);
        }
    }
    let scopes = objects("targets").filter(|target| is(target, "type", "Scope"));
    Ok(Submission {
        id: id(item)?,
        state: text(item, "state").ok_or("a submission has no state")?,
        substate: text(item, "substate").unwrap_or_default(),
        scopes: scopes.filter_map(|target| text(target, "value")).collect(),
        release_number: item.get("releaseNumber").and_then(Value::as_i64),
        published_at: text(item, "publishedTimeInUtc").and_then(|time| time.parse::<Timestamp>().ok()),
        packages,
        package_of_all: package(item.get("resources")),
    })
}

/// A managed application's package configuration; `None` for any other kind.
pub(super) fn published(item: &Object) -> Option<Result<Published, String>> {
    if !is(item, "resourceType", "AzureManagedApplicationPackageConfiguration") {
        return None;
    }
    let version = text(item, "version").ok_or("a package has no version".to_owned());
    let version = version.and_then(|text| text.parse().map_err(|error| format!("a package's version: {error}")));
    Some(version.map(|version| Published { version, package: package(item) }))
}

fn package(item: &Object) -> Package {
    let mut left: BTreeMap<String, Value> = item
        .iter()
        .filter(|(name, value)| {
            !value.is_null() && !name.starts_with("@odata.") && !NO_PERMISSION.contains(&name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut cloud = |tenant: &str, authorizations: &str| CloudAccess {
        tenant_id: taken(&mut left, tenant, string).filter(|tenant| !tenant.is_empty()),
        authorizations: taken(&mut left, authorizations, principals).unwrap_or_default(),
    };
    let public_azure = cloud("publicAzureTenantID", "publicAzureAuthorizations");
    let government_azure = cloud("azureGovernmentTenantID", "azureGovernmentAuthorizations");
    Package {
        allowed_control_actions: taken(&mut left, "allowedCustomerActions", actions).unwrap_or_default(),
        allowed_data_actions: taken(&mut left, "allowedDataActions", actions).unwrap_or_default(),
        customer_actions_enabled: taken(&mut left, "canEnableCustomerActions", Value::as_bool),
        jit_offered: taken(&mut left, "allowJitAccess", Value::as_bool),
        public_azure,
        government_azure,
        policies: taken(&mut left, "policies", |value| value.as_array().cloned()).unwrap_or_default(),
        publisher_management: taken(&mut left, "publisherManagementMode", string),
        customer_access: taken(&mut left, "customerAccessEnableState", string),
        unknown: left,
    }
}

/// Takes a member out if it is of its type; else it stays among what is not known.
fn taken<T>(left: &mut BTreeMap<String, Value>, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let value = read(left.get(name)?)?;
    left.remove(name);
    Some(value)
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.trim().to_owned())
}

fn actions(value: &Value) -> Option<Vec<String>> {
    let boxes: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
    Some(boxes?.into_iter().flat_map(split_actions).map(str::to_owned).collect())
}

/// Authorizations, unless one of them says more than we know.
fn principals(value: &Value) -> Option<Vec<Authorization>> {
    let read = |value: &Value| {
        let item = value.as_object()?;
        let known =
            item.iter().all(|(name, value)| value.is_null() || name == "principalID" || name == "roleDefinitionID");
        let authorization = Authorization::new(&text(item, "principalID")?, &text(item, "roleDefinitionID")?);
        known.then_some(authorization)
    };
    value.as_array()?.iter().map(read).collect()
}

fn text(item: &Object, name: &str) -> Option<String> {
    item.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn is(item: &Object, name: &str, expected: &str) -> bool {
    item.get(name).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn configuration(changes: Value) -> Package {
        let mut item = object(json!({
            "resourceType": "AzureManagedApplicationPackageConfiguration", "version": "1.4.2", "id": "1", "@odata.etag": "x",
            "packageReferences": [{"type": "AzureApplicationPackage", "value": "5"}],
        }));
        item.extend(object(changes));
        published(&item).unwrap().unwrap().package
    }

    #[test]
    fn boxes_are_split_and_known_members_leave_nothing_behind() {
        let package = configuration(json!({
            "allowedCustomerActions": ["a/b/action;c/d/action; e/f/read", "g/h/read"], "allowedDataActions": null,
            "allowJitAccess": true, "canEnableCustomerActions": false, "publicAzureTenantID": "T",
            "publicAzureAuthorizations": [{"principalID": "P", "roleDefinitionID": "/x/roleDefinitions/R"}],
            "azureGovernmentAuthorizations": [], "policies": [], "publisherManagementMode": "Managed",
        }));
        assert_eq!(package.allowed_control_actions, ["a/b/action", "c/d/action", "e/f/read", "g/h/read"]);
        assert_eq!(package.public_azure.authorizations, [Authorization::new("p", "r")]);
        assert_eq!((package.jit_offered, package.customer_actions_enabled), (Some(true), Some(false)));
        assert_eq!(package.unknown, BTreeMap::new());
    }

    #[test]
    fn what_is_not_known_or_not_of_its_type_is_kept_as_it_came() {
        let odd = json!({
            "allowedCustomerActions": "a/b/action", "allowJitAccess": "yes", "deploymentMode": "Complete",
            "publicAzureAuthorizations": [{"principalID": "P", "roleDefinitionID": "R", "delegated": ["x"]}],
        });
        let package = configuration(odd.clone());
        assert_eq!(json!(package.unknown), odd);
        assert_eq!(package.public_azure.authorizations, []);
    }

    #[test]
    fn a_package_without_a_version_is_an_error_and_another_kind_is_none() {
        for version in [json!(null), json!(""), json!("1.4"), json!(1)] {
            let item =
                object(json!({"resourceType": "AzureManagedApplicationPackageConfiguration", "version": version}));
            assert!(published(&item).unwrap().is_err());
        }
        assert!(published(&object(json!({"resourceType": "AzureSolutionTemplatePackageConfiguration"}))).is_none());
    }

    #[test]
    fn an_id_that_could_leave_its_place_in_a_url_is_refused() {
        for bad in ["a/b", "a?b", "a)b", "", "a b", "%2e"] {
            assert!(id(&object(json!({"id": bad}))).is_err(), "{bad:?}");
        }
        let sneaky = json!({"id": "1", "state": "Published", "resources": [{"type": "Package", "value": "1)/../x"}]});
        assert_eq!(submission(&object(sneaky)).unwrap().package("v"), None);
    }
}
