//! The delegations that we write: as recorded, always valid, and equal to the contract's example.

use std::time::Duration;

use permafresh::lighthouse::template::{Options, Principal, Scope, Support, Written, write};
use permafresh::lighthouse::{Batch, Context, Document, Finding, Severity, judge};
use proptest::prelude::*;
use serde_json::{Value, json};

const TENANT: &str = "6a1b3c5d-0e2f-4a6b-8c7d-9e0f1a2b3c44";
const SERVICE: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";
const SUPPORT: &str = "5d7a4f7e-2f86-4b7a-a7f9-3c5f4f0c9d55";
const LEADS: &str = "6e8b5f8f-3097-4c8b-b8fa-4d6051d0ae66";

fn principal(id: &str, name: &str) -> Principal {
    Principal { id: id.to_owned(), name: name.to_owned() }
}

fn options(scope: Scope, support: Option<Support>) -> Options {
    Options {
        scope,
        offer: "Northlight permission refresh".to_owned(),
        description: "Lets Northlight re-apply permissions of its managed application".to_owned(),
        tenant: TENANT.to_owned(),
        service: principal(SERVICE, "Refresh service"),
        jit: true,
        support,
    }
}

fn support(approvers: Vec<Principal>) -> Option<Support> {
    Some(Support { group: principal(SUPPORT, "Support engineers"), longest: Duration::from_secs(9_000), approvers })
}

fn findings(written: &Written) -> Vec<Finding> {
    let read = |file: &str, text: &str| Document::read(file, text.as_bytes()).unwrap();
    let documents = [read("t.json", &written.template), read("t.parameters.json", &written.parameters)];
    let context = Context {
        customer_tenant: Some("a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01".to_owned()),
        principal: Some(SERVICE.to_owned()),
        licensed: true,
        ..Context::default()
    };
    let findings = judge(&Batch::of(&documents), &context);
    // What principals are is in no template.
    findings.into_iter().filter(|finding| finding.severity != Severity::Note).collect()
}

#[test]
fn every_kind_of_template_is_as_recorded_and_keeps_every_rule() {
    let kinds = [
        ("subscription", Scope::Subscription),
        ("resource_group", Scope::ResourceGroup(Some("rg-northlight".to_owned()))),
        ("resource_groups", Scope::ResourceGroups(vec!["rg-a".to_owned(), "rg-b".to_owned()])),
    ];
    let people = [
        ("active_only", None),
        ("eligible", support(Vec::new())),
        ("approvers", support(vec![principal(LEADS, "Support leads")])),
    ];
    for (kind, scope) in &kinds {
        for (who, support) in &people {
            let written = write(&options(scope.clone(), support.clone()));
            assert_eq!(findings(&written), [], "{kind} {who}");
            let recorded = format!("{}--- parameters\n{}", written.template, written.parameters);
            insta::assert_snapshot!(format!("{kind}_{who}"), recorded);
        }
    }
}

#[test]
fn the_contracts_example_is_what_we_write() {
    let example: Value = serde_json::from_str(include_str!("../data/lighthouse/rg.template.json")).unwrap();
    let ours = write(&options(Scope::ResourceGroup(None), support(vec![principal(LEADS, "Support leads")])));
    assert_eq!(serde_json::from_str::<Value>(&ours.template).unwrap(), example);
}

#[test]
fn an_assignment_is_named_from_offer_and_group_and_a_definition_from_the_offer_alone() {
    let written = write(&options(Scope::ResourceGroups(vec!["rg-a".to_owned()]), None));
    let template: Value = serde_json::from_str(&written.template).unwrap();
    assert_eq!(template["variables"]["definitionName"], "[guid(parameters('offerName'))]");
    assert_eq!(template["resources"].as_array().unwrap().len(), 2, "one definition for all groups");
    let nested = &template["resources"][1];
    let name = "[guid(parameters('offerName'), parameters('resourceGroups')[copyIndex()].rgName)]";
    assert_eq!(nested["properties"]["parameters"]["assignmentName"]["value"], name);
    assert_eq!(nested["properties"]["expressionEvaluationOptions"]["scope"], "inner");
}

#[test]
fn no_name_becomes_an_expression() {
    let mut options = options(Scope::Subscription, support(vec![principal(LEADS, "[deployment()]")]));
    options.offer = "[resourceGroup().id]".to_owned();
    options.service.name = "[subscription()]".to_owned();
    let template: Value = serde_json::from_str(&write(&options).template).unwrap();
    assert_eq!(template["parameters"]["offerName"]["defaultValue"], "[[resourceGroup().id]");
    assert_eq!(template["variables"]["active"][0]["principalIdDisplayName"], "[[subscription()]");
    let approver = &template["variables"]["eligible"][0]["justInTimeAccessPolicy"]["managedByTenantApprovers"][0];
    assert_eq!(approver["principalIdDisplayName"], "[[deployment()]");
    let parameters: Value = serde_json::from_str(&write(&options).parameters).unwrap();
    assert_eq!(parameters["parameters"]["offerName"]["value"], "[resourceGroup().id]");
}

/// A template as the documentation has it, with everything in parameters: our own words, the documented names.
fn documented(kind: &str) -> Value {
    let text = || json!({"type": "string"});
    let mut parameters = json!({"mspOfferName": text(), "mspOfferDescription": text(), "managedByTenantId": text(),
        "authorizations": {"type": "array"}, "eligibleAuthorizations": {"type": "array", "defaultValue": []}});
    let definition_id = "[resourceId('Microsoft.ManagedServices/registrationDefinitions/', variables('name'))]";
    let assignment = json!({"type": "Microsoft.ManagedServices/registrationAssignments", "apiVersion": "2022-10-01",
        "name": "[variables('name')]", "properties": {"registrationDefinitionId": definition_id}});
    let mut definition = json!({"type": "Microsoft.ManagedServices/registrationDefinitions", "apiVersion": "2020-02-01-preview",
        "name": "[variables('name')]", "properties": {
            "registrationDefinitionName": "[parameters('mspOfferName')]", "description": "[parameters('mspOfferDescription')]",
            "managedByTenantId": "[parameters('managedByTenantId')]", "authorizations": "[parameters('authorizations')]",
            "eligibleAuthorizations": "[parameters('eligibleAuthorizations')]"}});
    let nested = |group: &str| {
        json!({"type": "Microsoft.Resources/deployments", "apiVersion": "2021-04-01", "name": "n",
        "resourceGroup": group, "properties": {"mode": "Incremental", "template": {"resources": [assignment]}}})
    };
    let assigned = match kind {
        "resource group" => {
            parameters["rgName"] = text();
            nested("[parameters('rgName')]")
        }
        "several resource groups" => {
            parameters["resourceGroups"] = json!({"type": "array"});
            let mut nested = nested("[parameters('resourceGroups')[copyIndex()].rgName]");
            nested["copy"] = json!({"name": "c", "count": "[length(parameters('resourceGroups'))]"});
            nested
        }
        "marketplace" => {
            definition["plan"] = "[if(equals('Yes', 'Yes'), variables('plan'), json('null'))]".into();
            assignment.clone()
        }
        _ => assignment.clone(),
    };
    json!({"$schema": "https://schema.management.azure.com/schemas/2019-08-01/subscriptionDeploymentTemplate.json#",
        "parameters": parameters, "variables": {"name": "[guid(parameters('mspOfferName'))]", "plan": {}},
        "resources": [definition, assigned]})
}

#[test]
fn the_four_documented_kinds_are_read_with_their_parameters_with_and_without_approvers() {
    let entry =
        |id: &str, role: &str| json!({"principalId": id, "principalIdDisplayName": "n", "roleDefinitionId": role});
    for kind in ["subscription", "resource group", "several resource groups", "marketplace"] {
        for approvers in [Value::Null, json!([{"principalId": LEADS, "principalIdDisplayName": "Leads"}])] {
            let mut eligible = entry(SUPPORT, "b24988ac-6180-42a0-ab88-20f7382dd24c");
            eligible["justInTimeAccessPolicy"] = json!({"multiFactorAuthProvider": "Azure", "maximumActivationDuration": "PT8H",
                "managedByTenantApprovers": approvers});
            let active = json!([
                entry(SERVICE, "c7393b34-138c-406f-901b-d8cf2b17e6ae"),
                entry(SERVICE, "91c1777a-f3dc-4fae-b103-61d183457e46"),
                entry(SUPPORT, "acdd72a7-3385-48ef-bd42-f606fba81ae7")
            ]);
            let mut values = json!({"mspOfferName": {"value": "o"}, "mspOfferDescription": {"value": "d"},
                "managedByTenantId": {"value": TENANT}, "authorizations": {"value": active},
                "eligibleAuthorizations": {"value": [eligible]}});
            match kind {
                "resource group" => values["rgName"] = json!({"value": "rg"}),
                "several resource groups" => values["resourceGroups"] = json!({"value": [{"rgName": "rg"}]}),
                _ => {}
            }
            let judged = |values: &Value| {
                findings(&Written {
                    template: documented(kind).to_string(),
                    parameters: json!({"parameters": values}).to_string(),
                })
            };
            assert_eq!(judged(&values), [], "{kind}");
            values["eligibleAuthorizations"]["value"][0]["justInTimeAccessPolicy"]["maximumActivationDuration"] =
                "PT481M".into();
            let found = judged(&values);
            let path = "$.parameters.eligibleAuthorizations.value[0].justInTimeAccessPolicy.maximumActivationDuration";
            let [finding] = &found[..] else { panic!("{kind}: {found:#?}") };
            assert_eq!(
                (finding.rule, finding.file.as_str(), finding.path.as_str()),
                ("L12", "t.parameters.json", path)
            );
        }
    }
}

fn any_principal() -> impl Strategy<Value = Principal> {
    ("[1-9a-f][0-9a-f]{7}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", "[^ ].{0,30}")
        .prop_map(|(id, name)| Principal { id, name })
        .prop_filter("a name that can be read", |principal| !principal.name.trim().is_empty())
}

fn any_options() -> impl Strategy<Value = Options> {
    let scope = prop_oneof![
        Just(Scope::Subscription),
        proptest::option::of("[a-z()._-]{1,20}[a-z]").prop_map(Scope::ResourceGroup),
        proptest::collection::vec("[a-z()._-]{1,20}[a-z]", 1..5).prop_map(Scope::ResourceGroups),
    ];
    let support = (any_principal(), 1u64..=16, proptest::collection::vec(any_principal(), 0..=10)).prop_map(
        |(group, halves, approvers)| Support { group, longest: Duration::from_secs(halves * 1_800), approvers },
    );
    (scope, "[^ ].{0,40}", ".{0,40}", any::<bool>(), proptest::option::of(support), "[^ ].{0,30}").prop_map(
        |(scope, offer, description, jit, support, name)| Options {
            scope,
            offer: format!("o{offer}"),
            description,
            tenant: TENANT.to_owned(),
            service: Principal { id: SERVICE.to_owned(), name: format!("n{name}") },
            jit,
            support,
        },
    )
}

proptest! {
    #[test]
    fn whatever_we_write_keeps_every_rule_and_is_the_same_each_time(options in any_options()) {
        let written = write(&options);
        prop_assert_eq!(findings(&written), []);
        prop_assert_eq!(write(&options), written);
    }
}
