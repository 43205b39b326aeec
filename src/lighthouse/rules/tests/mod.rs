//! One violating and one passing case for each rule; here those of whole delegations and of several, and what the other
//! files share.

mod eligible;
mod entry;
mod random;

use serde_json::{Value, json};

use super::*;
use crate::lighthouse::Document;
use crate::lighthouse::principal::Principals;
use crate::lighthouse::role::{
    APPLICATION_OPERATOR, CONTRIBUTOR, OWNER, READER, REGISTRATION_DELETE, Roles, USER_ACCESS_ADMINISTRATOR,
};

const SERVICE: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";
const SUPPORT: &str = "5d7a4f7e-2f86-4b7a-a7f9-3c5f4f0c9d55";
const LEADS: &str = "6e8b5f8f-3097-4c8b-b8fa-4d6051d0ae66";
const TENANT: &str = "6a1b3c5d-0e2f-4a6b-8c7d-9e0f1a2b3c44";
const CUSTOMER: &str = "a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01";
/// Storage Blob Data Reader.
const BLOBS: &str = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1";

fn entry(principal: &str, role: &str) -> Value {
    json!({"principalId": principal, "principalIdDisplayName": "somebody", "roleDefinitionId": role})
}

/// A delegation that keeps every rule.
fn good() -> Value {
    json!({
        "mspOfferName": "Northlight permission refresh",
        "managedByTenantId": TENANT,
        "authorizations": [entry(SERVICE, APPLICATION_OPERATOR), entry(SERVICE, REGISTRATION_DELETE), entry(SUPPORT, READER)],
        "eligibleAuthorizations": [{"principalId": SUPPORT, "principalIdDisplayName": "Support", "roleDefinitionId": CONTRIBUTOR,
            "justInTimeAccessPolicy": {"multiFactorAuthProvider": "Azure", "maximumActivationDuration": "PT2H30M",
                "managedByTenantApprovers": [{"principalId": LEADS, "principalIdDisplayName": "Leads"}]}}],
    })
}

fn add(list: &mut Value, entry: Value) {
    list.as_array_mut().unwrap().push(entry);
}

/// Everything beside the files that the good one is judged with.
fn context() -> Context {
    let object = |kind: &str, id: &str| json!({"@odata.type": format!("#microsoft.graph.{kind}"), "id": id});
    let graph =
        json!({"value": [object("servicePrincipal", SERVICE), object("group", SUPPORT), object("user", LEADS)]});
    Context {
        customer_tenant: Some(CUSTOMER.to_owned()),
        principal: Some(SERVICE.to_uppercase()),
        principals: Some(Principals::from_json(&graph.to_string()).unwrap()),
        licensed: true,
        ..Context::default()
    }
}

fn judged(values: &[&Value], context: &Context) -> Vec<Finding> {
    let read =
        |(at, value): (usize, &&Value)| Document::read(&format!("{at}.json"), value.to_string().as_bytes()).unwrap();
    let documents: Vec<_> = values.iter().enumerate().map(read).collect();
    judge(&Batch::of(&documents), context)
}

/// What the good one has against it after a change: severity, rule and place.
fn after(change: impl FnOnce(&mut Value)) -> Vec<(Severity, &'static str, String)> {
    after_in(&context(), change)
}

fn after_in(context: &Context, change: impl FnOnce(&mut Value)) -> Vec<(Severity, &'static str, String)> {
    let mut value = good();
    change(&mut value);
    let findings = judged(&[&value], context);
    assert!(findings.iter().all(|finding| !finding.message.is_empty() && !finding.fix.is_empty()));
    findings.into_iter().map(|finding| (finding.severity, finding.rule, finding.path)).collect()
}

fn error(rule: &'static str, path: &str) -> Vec<(Severity, &'static str, String)> {
    vec![(Severity::Error, rule, path.to_owned())]
}

fn warning(rule: &'static str, path: &str) -> Vec<(Severity, &'static str, String)> {
    vec![(Severity::Warning, rule, path.to_owned())]
}

const NOTHING: [(Severity, &str, String); 0] = [];

#[test]
fn a_delegation_that_keeps_every_rule_has_no_findings() {
    assert_eq!(judged(&[&good()], &context()), []);
}

#[test]
fn l01_the_managing_tenant_is_a_guid_and_not_the_customers() {
    let path = "$.managedByTenantId";
    for bad in [
        json!("<insert it>"),
        json!(7),
        json!(CUSTOMER.to_uppercase()),
        Value::Null,
        json!("00000000-0000-0000-0000-000000000000"),
    ] {
        assert_eq!(after(|value| value["managedByTenantId"] = bad.clone()), error("L01", path), "{bad}");
    }
    assert_eq!(after(|value| value["managedByTenantId"] = TENANT.to_uppercase().into()), NOTHING);
}

#[test]
fn l02_an_offer_has_a_name_of_its_own() {
    for bad in [json!(""), json!("  "), json!(7), Value::Null] {
        assert_eq!(after(|value| value["mspOfferName"] = bad.clone()), error("L02", "$.mspOfferName"), "{bad}");
    }
    let definition = |name: &str| {
        json!({"type": "Microsoft.ManagedServices/registrationDefinitions", "properties": {
        "registrationDefinitionName": name, "managedByTenantId": TENANT, "authorizations": good()["authorizations"]}})
    };
    let twice = json!({"resources": [definition("a"), definition("a")]});
    let findings = judged(&[&twice], &context());
    assert_eq!((findings.len(), findings[0].rule, findings[0].severity), (1, "L02", Severity::Error));
    let mut other = good();
    other["authorizations"].as_array_mut().unwrap().pop();
    other["eligibleAuthorizations"] = json!([]);
    let findings = judged(&[&good(), &other], &context());
    assert_eq!((findings.len(), findings[0].rule, findings[0].severity), (1, "L02", Severity::Warning));
    // The same delegation for another customer.
    assert_eq!(judged(&[&good(), &good()], &context()), []);
}

#[test]
fn l03_authorizations_are_there_and_not_empty() {
    for bad in [Value::Null, json!([]), json!({}), json!("x")] {
        let found = after(|value| {
            value["authorizations"] = bad.clone();
            value["eligibleAuthorizations"] = json!([]);
        });
        assert_eq!(found, error("L03", "$.authorizations"), "{bad}");
    }
    assert_eq!(after(|value| add(&mut value["authorizations"], json!("x")))[0], error("L03", "$.authorizations[3]")[0]);
    assert_eq!(after(|value| value["eligibleAuthorizations"] = Value::Null), NOTHING);
}

#[test]
fn l23_somebody_may_end_the_delegation() {
    let found = after(|value| {
        value["authorizations"].as_array_mut().unwrap().remove(1);
    });
    assert_eq!(found, warning("L23", "$.authorizations"));
    assert_eq!(after(|value| value["authorizations"][1]["principalId"] = SUPPORT.into()), NOTHING);
}

#[test]
fn l25_the_functions_principal_may_refresh() {
    let narrow = |value: &mut Value| value["authorizations"][0]["roleDefinitionId"] = READER.into();
    assert_eq!(after(narrow), error("L25", "$.authorizations"));
    let somebody = |value: &mut Value| value["authorizations"][0]["principalId"] = SUPPORT.into();
    assert_eq!(after(somebody), error("L25", "$.authorizations"), "somebody else may");
    let anybody = Context { principal: None, ..context() };
    assert_eq!(after_in(&anybody, somebody), NOTHING);
    assert_eq!(after_in(&anybody, narrow), warning("L25", "$.authorizations"));
    assert_eq!(after(|value| value["authorizations"][0]["roleDefinitionId"] = CONTRIBUTOR.into()), NOTHING);
    // Who it is may be said at deployment only.
    let template = |role: &str| {
        json!({"parameters": {"service": {"type": "string"}}, "resources": [{
            "type": "Microsoft.ManagedServices/registrationDefinitions", "properties": {
                "registrationDefinitionName": "x", "managedByTenantId": TENANT,
                "authorizations": [entry("[parameters('service')]", role), entry(SUPPORT, REGISTRATION_DELETE)]}}]})
    };
    let rules = |role| -> Vec<_> {
        judged(&[&template(role)], &context()).iter().map(|finding| (finding.severity, finding.rule)).collect()
    };
    assert_eq!(rules(APPLICATION_OPERATOR), [(Severity::Note, "L00")]);
    assert_eq!(rules(READER), [(Severity::Error, "L25")]);
}

#[test]
fn l26_no_two_offers_give_a_principal_the_same_role() {
    let mut other = good();
    other["mspOfferName"] = "Another offer".into();
    let findings = judged(&[&good(), &other], &context());
    let found: Vec<_> =
        findings.iter().map(|finding| (finding.severity, finding.rule, finding.file.as_str())).collect();
    assert_eq!(found, [(Severity::Warning, "L26", "1.json")]);
    other["authorizations"] = json!([entry(SERVICE, CONTRIBUTOR), entry(LEADS, REGISTRATION_DELETE)]);
    other["eligibleAuthorizations"] = json!([]);
    assert_eq!(judged(&[&good(), &other], &context()), []);
}

#[test]
fn what_azure_computes_is_noted_and_left_alone() {
    let template = json!({"parameters": {"tenant": {"type": "string"}}, "variables": {"role": "[toLower('X')]"}, "resources": [{
        "type": "Microsoft.ManagedServices/registrationDefinitions", "properties": {
            "registrationDefinitionName": "[concat('a', 'b')]", "managedByTenantId": "[parameters('tenant')]",
            "authorizations": [{"principalId": "[parameters('tenant')]", "principalIdDisplayName": "[x()]", "roleDefinitionId": "[variables('role')]"}],
            "eligibleAuthorizations": "[if(true(), createArray(), json('null'))]"}}]});
    let findings = judged(&[&template], &context());
    assert!(
        findings.iter().all(|finding| (finding.severity, finding.rule) == (Severity::Note, "L00")),
        "{findings:#?}"
    );
    assert_eq!(findings.len(), 4);
}

#[test]
fn the_contracts_broken_example_breaks_what_it_says() {
    let text = include_str!("../../../../tests/data/lighthouse/parameters.invalid.json");
    let value: Value = serde_json::from_str(text).unwrap();
    let context = Context { principal: Some(SERVICE.to_owned()), ..Context::default() };
    let findings = judged(&[&value], &context);
    let mut broken: Vec<_> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.rule).collect();
    broken.sort_unstable();
    let expected: Vec<_> = value["_expect"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    assert_eq!(broken, expected, "{findings:#?}");
}
