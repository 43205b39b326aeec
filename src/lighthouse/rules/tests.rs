//! One violating and one passing case for each rule, and that nothing anybody writes makes the rules fall over.

use proptest::prelude::*;
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
fn l04_a_role_is_the_bare_guid_of_a_built_in_one() {
    let path = "$.authorizations[2].roleDefinitionId";
    let full = format!("/providers/Microsoft.Authorization/roleDefinitions/{READER}");
    for bad in [json!(full), json!("Reader"), json!(1), Value::Null] {
        let found = after(|value| {
            value["authorizations"][2]["roleDefinitionId"] = bad.clone();
            value["eligibleAuthorizations"] = json!([]);
        });
        assert_eq!(found, error("L04", path), "{bad}");
    }
    let unknown = |value: &mut Value| add(&mut value["authorizations"], entry(SUPPORT, CUSTOMER));
    assert_eq!(after(unknown), warning("L04", "$.authorizations[3].roleDefinitionId"));
    let listed = |kind: &str| {
        let role = |id: &str, kind: &str| json!({"name": id, "roleName": "r", "roleType": kind, "permissions": [{"actions": ["*/read", "Microsoft.Solutions/*"]}]});
        let roles = json!([
            role(APPLICATION_OPERATOR, "BuiltInRole"),
            role(REGISTRATION_DELETE, "BuiltInRole"),
            role(READER, "BuiltInRole"),
            role(CONTRIBUTOR, "BuiltInRole"),
            role(CUSTOMER, kind)
        ]);
        Context { roles: Roles::from_json(&roles.to_string()).unwrap(), ..context() }
    };
    assert_eq!(after_in(&listed("CustomRole"), unknown), error("L04", "$.authorizations[3].roleDefinitionId"));
    assert_eq!(after_in(&listed("BuiltInRole"), unknown), NOTHING);
    let missing = |value: &mut Value| add(&mut value["authorizations"], entry(SUPPORT, LEADS));
    assert_eq!(after_in(&listed("BuiltInRole"), missing), error("L04", "$.authorizations[3].roleDefinitionId"));
}

#[test]
fn l05_owner_is_refused_everywhere() {
    let found = after(|value| add(&mut value["authorizations"], entry(SUPPORT, OWNER)));
    assert_eq!(found, error("L05", "$.authorizations[3].roleDefinitionId"));
    let found = after(|value| value["eligibleAuthorizations"][0]["roleDefinitionId"] = OWNER.to_uppercase().into());
    assert_eq!(found, error("L05", "$.eligibleAuthorizations[0].roleDefinitionId"));
    assert_eq!(after(|value| add(&mut value["authorizations"], entry(SUPPORT, CONTRIBUTOR))), NOTHING);
}

#[test]
fn l06_a_role_with_actions_on_data_is_refused() {
    let found = after(|value| add(&mut value["authorizations"], entry(SUPPORT, BLOBS)));
    assert_eq!(found, error("L06", "$.authorizations[3].roleDefinitionId"));
    // Storage Account Contributor.
    assert_eq!(
        after(|value| add(&mut value["authorizations"], entry(SUPPORT, "17d1049b-9a84-46fb-8f53-869881c3d3ab"))),
        NOTHING
    );
}

#[test]
fn l07_a_role_that_changes_access_is_refused() {
    // Role Based Access Control Administrator.
    let found =
        after(|value| add(&mut value["authorizations"], entry(SUPPORT, "f58310d9-a9f6-439a-9e8d-f62e7b41a168")));
    assert_eq!(found, error("L07", "$.authorizations[3].roleDefinitionId"));
    // Resource Policy Contributor changes policies, which is not access.
    assert_eq!(
        after(|value| add(&mut value["authorizations"], entry(SUPPORT, "36243c78-bf99-498c-9df9-86d9f8d28608"))),
        NOTHING
    );
}

#[test]
fn l08_user_access_administrator_says_what_it_may_give_and_nobody_else_does() {
    let administrator = |roles: Value| {
        move |value: &mut Value| {
            add(&mut value["authorizations"], entry(SUPPORT, USER_ACCESS_ADMINISTRATOR));
            value["authorizations"][3]["delegatedRoleDefinitionIds"] = roles;
        }
    };
    let path = "$.authorizations[3].delegatedRoleDefinitionIds";
    for bad in [Value::Null, json!([]), json!("x")] {
        assert_eq!(after(administrator(bad.clone())), error("L08", path), "{bad}");
    }
    assert_eq!(after(administrator(json!([USER_ACCESS_ADMINISTRATOR]))), error("L08", &format!("{path}[0]")));
    assert_eq!(after(administrator(json!(["x"]))), error("L04", &format!("{path}[0]")));
    assert_eq!(after(administrator(json!([OWNER]))), error("L05", &format!("{path}[0]")));
    assert_eq!(after(administrator(json!([CONTRIBUTOR, BLOBS]))), NOTHING);
    let found = after(|value| value["authorizations"][2]["delegatedRoleDefinitionIds"] = json!([CONTRIBUTOR]));
    assert_eq!(found, error("L08", "$.authorizations[2].delegatedRoleDefinitionIds"));
    assert_eq!(after(|value| value["authorizations"][2]["delegatedRoleDefinitionIds"] = json!([])), NOTHING);
}

#[test]
fn l09_user_access_administrator_is_never_eligible() {
    let found =
        after(|value| value["eligibleAuthorizations"][0]["roleDefinitionId"] = USER_ACCESS_ADMINISTRATOR.into());
    assert_eq!(found, error("L09", "$.eligibleAuthorizations[0].roleDefinitionId"));
    assert_eq!(
        after(|value| value["eligibleAuthorizations"][0]["roleDefinitionId"] = APPLICATION_OPERATOR.into()),
        NOTHING
    );
}

#[test]
fn l10_a_service_principal_is_never_eligible() {
    let service = |value: &mut Value| {
        value["eligibleAuthorizations"][0]["principalId"] = SERVICE.into();
    };
    let path = "$.eligibleAuthorizations[0].principalId";
    assert_eq!(after(service), error("L10", path));
    // Without Graph, --principal is known to be one.
    let found = after_in(&Context { principals: None, ..context() }, service);
    assert!(found.contains(&error("L10", path)[0]), "{found:?}");
    for bad in [json!("support@northlight.example"), Value::Null] {
        assert_eq!(
            after(|value| value["eligibleAuthorizations"][0]["principalId"] = bad.clone()),
            error("L10", path),
            "{bad}"
        );
    }
    assert_eq!(after(|value| value["eligibleAuthorizations"] = json!({})), error("L10", "$.eligibleAuthorizations"));
}

#[test]
fn l11_an_eligible_entry_gives_no_roles_away() {
    let found = after(|value| value["eligibleAuthorizations"][0]["delegatedRoleDefinitionIds"] = json!([READER]));
    assert_eq!(found, error("L11", "$.eligibleAuthorizations[0].delegatedRoleDefinitionIds"));
    assert_eq!(after(|value| value["eligibleAuthorizations"][0]["delegatedRoleDefinitionIds"] = json!([])), NOTHING);
}

#[test]
fn l12_an_activation_lasts_from_half_an_hour_to_eight_hours() {
    let path = "$.eligibleAuthorizations[0].justInTimeAccessPolicy.maximumActivationDuration";
    let with = |duration: Value| {
        after(|value| {
            value["eligibleAuthorizations"][0]["justInTimeAccessPolicy"]["maximumActivationDuration"] = duration;
        })
    };
    for bad in [
        json!("PT8H1M"),
        json!("PT29M59S"),
        json!("PT0S"),
        json!("P1D"),
        json!("8 hours"),
        json!("08:00:00"),
        json!(8),
        json!(""),
    ] {
        assert_eq!(with(bad.clone()), error("L12", path), "{bad}");
    }
    assert_eq!(with(json!("PT45M")), warning("L12", path));
    for good in [json!("PT30M"), json!("PT8H"), json!("PT480M"), json!("PT7H60M"), json!("PT28800S"), Value::Null] {
        assert_eq!(with(good.clone()), NOTHING, "{good}");
    }
}

#[test]
fn l13_a_second_factor_is_asked_for() {
    let path = "$.eligibleAuthorizations[0].justInTimeAccessPolicy";
    let with = |word: Value| {
        after(|value| value["eligibleAuthorizations"][0]["justInTimeAccessPolicy"]["multiFactorAuthProvider"] = word)
    };
    let member = format!("{path}.multiFactorAuthProvider");
    for bad in [json!("Duo"), json!(true), Value::Null] {
        assert_eq!(with(bad.clone()), error("L13", &member), "{bad}");
    }
    assert_eq!(with(json!("None")), warning("L13", &member));
    assert_eq!(with(json!("azure")), NOTHING);
    let found = after(|value| value["eligibleAuthorizations"][0]["justInTimeAccessPolicy"] = Value::Null);
    assert_eq!(found, warning("L13", path));
}

fn with_approvers(approvers: Value) -> Vec<(Severity, &'static str, String)> {
    after_in(&Context { principals: None, ..context() }, |value| {
        value["eligibleAuthorizations"][0]["justInTimeAccessPolicy"]["managedByTenantApprovers"] = approvers;
    })
    .into_iter()
    .filter(|(severity, ..)| *severity != Severity::Note)
    .collect()
}

fn approver(last: usize) -> Value {
    json!({"principalId": format!("10000000-0000-4000-8000-{last:012}"), "principalIdDisplayName": "a"})
}

#[test]
fn l14_there_are_one_to_ten_approvers_each_with_id_and_name() {
    let path = "$.eligibleAuthorizations[0].justInTimeAccessPolicy.managedByTenantApprovers";
    assert_eq!(with_approvers((0..11).map(approver).collect()), error("L14", path));
    assert_eq!(with_approvers(json!([])), error("L14", path));
    assert_eq!(with_approvers(json!({})), error("L14", path));
    assert_eq!(
        with_approvers(json!([{"principalId": LEADS}])),
        error("L14", &format!("{path}[0].principalIdDisplayName"))
    );
    assert_eq!(
        with_approvers(json!([{"principalIdDisplayName": "x"}])),
        error("L14", &format!("{path}[0].principalId"))
    );
    assert_eq!(with_approvers((0..10).map(approver).collect()), NOTHING);
    assert_eq!(with_approvers(Value::Null), NOTHING);
}

#[test]
fn l15_a_service_principal_never_approves() {
    let path = "$.eligibleAuthorizations[0].justInTimeAccessPolicy.managedByTenantApprovers[1].principalId";
    let service = json!({"principalId": SERVICE, "principalIdDisplayName": "robot"});
    assert_eq!(with_approvers(json!([approver(1), service])), error("L15", path));
    assert_eq!(with_approvers(json!([approver(1), approver(2)])), NOTHING);
}

#[test]
fn l16_the_only_approver_is_somebody_else() {
    let path = "$.eligibleAuthorizations[0].justInTimeAccessPolicy.managedByTenantApprovers[0]";
    let same = json!({"principalId": SUPPORT.to_uppercase(), "principalIdDisplayName": "Support"});
    assert_eq!(with_approvers(json!([same])), warning("L16", path));
    assert_eq!(with_approvers(json!([same, approver(1)])), NOTHING);
}

#[test]
fn l17_entries_of_one_role_have_the_same_policy_by_value() {
    let second = |policy: Value| {
        after(|value| {
            let policies = &mut value["eligibleAuthorizations"];
            let first = policies[0].clone();
            add(policies, first);
            policies[1]["principalId"] = LEADS.into();
            policies[1]["justInTimeAccessPolicy"]["managedByTenantApprovers"] = json!([{"principalId": LEADS.to_uppercase(), "principalIdDisplayName": "another name"}, {"principalId": SUPPORT, "principalIdDisplayName": "s"}]);
            policies[0]["justInTimeAccessPolicy"]["managedByTenantApprovers"] = json!([{"principalId": SUPPORT, "principalIdDisplayName": "s"}, {"principalId": LEADS, "principalIdDisplayName": "l"}]);
            for (member, is) in policy.as_object().unwrap() {
                policies[1]["justInTimeAccessPolicy"][member] = is.clone();
            }
            add(&mut value["authorizations"], entry(LEADS, READER));
        })
    };
    let path = "$.eligibleAuthorizations[1].justInTimeAccessPolicy";
    for same in [json!({}), json!({"maximumActivationDuration": "PT150M"}), json!({"multiFactorAuthProvider": "azure"})]
    {
        assert_eq!(second(same.clone()), NOTHING, "{same}");
    }
    for other in [json!({"maximumActivationDuration": "PT3H"}), json!({"managedByTenantApprovers": null})] {
        assert_eq!(second(other.clone()), error("L17", path), "{other}");
    }
    // Eight hours are what no duration means.
    let eight = after(|value| {
        let policies = &mut value["eligibleAuthorizations"];
        policies[0]["justInTimeAccessPolicy"]["maximumActivationDuration"] = "PT480M".into();
        let first = policies[0].clone();
        add(policies, first);
        policies[1]["justInTimeAccessPolicy"]["maximumActivationDuration"] = Value::Null;
    });
    assert_eq!(eight, NOTHING);
}

#[test]
fn l18_who_is_eligible_may_read_permanently_with_another_role() {
    let path = "$.eligibleAuthorizations[0].principalId";
    let with = |role: &str| after(|value| value["authorizations"][2]["roleDefinitionId"] = role.into());
    assert_eq!(with(CONTRIBUTOR), error("L18", path), "the same role");
    assert_eq!(with(REGISTRATION_DELETE), error("L18", path), "a role that does not read");
    assert_eq!(with(APPLICATION_OPERATOR), NOTHING, "a role that reads everything");
    assert!(with(CUSTOMER).contains(&warning("L18", path)[0]), "a role that nobody knows");
    let found = after(|value| value["authorizations"][2]["principalId"] = LEADS.into());
    assert_eq!(found, error("L18", path), "somebody else's");
}

#[test]
fn l19_everybody_has_a_name_that_the_customer_can_read() {
    let found = after(|value| value["eligibleAuthorizations"][0]["principalIdDisplayName"] = " ".into());
    assert_eq!(found, error("L19", "$.eligibleAuthorizations[0].principalIdDisplayName"));
    let found = after(|value| value["authorizations"][0]["principalIdDisplayName"] = Value::Null);
    assert_eq!(found, warning("L19", "$.authorizations[0].principalIdDisplayName"));
    assert_eq!(after(|value| value["authorizations"][0]["principalIdDisplayName"] = "x".into()), NOTHING);
}

#[test]
fn l20_national_clouds_have_no_eligible_entries_and_clouds_do_not_mix() {
    let china = Context { cloud: Cloud::China, ..context() };
    assert_eq!(after_in(&china, |_| {}), error("L20", "$.eligibleAuthorizations"));
    assert_eq!(after_in(&china, |value| value["eligibleAuthorizations"] = json!([])), NOTHING);
    let across = Context { customer_cloud: Some(Cloud::UsGovernment), ..context() };
    assert_eq!(after_in(&across, |_| {}), error("L20", "$"));
    let same = Context { customer_cloud: Some(Cloud::Public), ..context() };
    assert_eq!(after_in(&same, |_| {}), NOTHING);
}

fn graph(objects: &Value) -> Context {
    Context { principals: Some(Principals::from_json(&objects.to_string()).unwrap()), principal: None, ..context() }
}

#[test]
fn l21_groups_are_security_groups_and_without_graph_that_is_only_noted() {
    let group = |enabled: bool| {
        graph(&json!([
            {"@odata.type": "#microsoft.graph.group", "id": SUPPORT, "securityEnabled": enabled},
            {"@odata.type": "#microsoft.graph.user", "id": LEADS},
            {"@odata.type": "#microsoft.graph.servicePrincipal", "id": SERVICE}
        ]))
    };
    let found = after_in(&group(false), |_| {});
    assert_eq!(found[0], error("L21", "$.authorizations[2].principalId")[0]);
    assert_eq!(after_in(&group(true), |_| {}), NOTHING);
    let unasked = judged(&[&good()], &Context { principals: None, ..context() });
    assert_eq!((unasked.len(), unasked[0].severity, unasked[0].rule), (1, Severity::Note, "L21"));
    assert!(unasked[0].fix.contains("getByIds") && unasked[0].fix.contains(LEADS), "{}", unasked[0].fix);
}

#[test]
fn l22_a_principal_is_given_by_its_object_id() {
    let path = "$.authorizations[0].principalId";
    let service = |objects: Value| {
        let mut all = json!([{"@odata.type": "#microsoft.graph.group", "id": SUPPORT}, {"@odata.type": "#microsoft.graph.user", "id": LEADS}]);
        all.as_array_mut().unwrap().extend(objects.as_array().unwrap().clone());
        after_in(&graph(&all), |value| {
            value["authorizations"].as_array_mut().unwrap().remove(1);
        })
        .into_iter()
        .filter(|(_, rule, _)| *rule != "L23")
        .collect::<Vec<_>>()
    };
    let registration = json!([{"@odata.type": "#microsoft.graph.application", "id": SERVICE, "appId": LEADS}]);
    assert_eq!(service(registration), error("L22", path));
    let client = json!([{"@odata.type": "#microsoft.graph.servicePrincipal", "id": CUSTOMER, "appId": SERVICE}]);
    assert_eq!(service(client), error("L22", path));
    assert_eq!(service(json!([])), warning("L22", path));
    assert_eq!(service(json!([{"id": SERVICE}])), warning("L22", path));
    assert_eq!(service(json!([{"@odata.type": "#microsoft.graph.servicePrincipal", "id": SERVICE}])), NOTHING);
    assert_eq!(
        after(|value| value["authorizations"][1]["principalId"] = "x".into()),
        error("L22", "$.authorizations[1].principalId")
    );
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
fn l24_eligible_entries_need_licences() {
    let without = Context { licensed: false, ..context() };
    assert_eq!(after_in(&without, |_| {}), warning("L24", "$.eligibleAuthorizations"));
    assert_eq!(after_in(&without, |value| value["eligibleAuthorizations"] = Value::Null), NOTHING);
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
    let text = include_str!("../../../tests/data/lighthouse/parameters.invalid.json");
    let value: Value = serde_json::from_str(text).unwrap();
    let context = Context { principal: Some(SERVICE.to_owned()), ..Context::default() };
    let findings = judged(&[&value], &context);
    let mut broken: Vec<_> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.rule).collect();
    broken.sort_unstable();
    let expected: Vec<_> = value["_expect"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    assert_eq!(broken, expected, "{findings:#?}");
}

/// JSON of any shape, with the names and words that rules look for.
fn anything() -> impl Strategy<Value = Value> {
    let names = [
        "authorizations",
        "eligibleAuthorizations",
        "principalId",
        "roleDefinitionId",
        "justInTimeAccessPolicy",
        "managedByTenantApprovers",
        "maximumActivationDuration",
        "multiFactorAuthProvider",
        "parameters",
        "variables",
        "value",
        "resources",
        "type",
        "properties",
        "defaultValue",
        "copy",
        "name",
        "template",
        "delegatedRoleDefinitionIds",
    ];
    let words = [
        SERVICE,
        OWNER,
        USER_ACCESS_ADMINISTRATOR,
        "PT8H",
        "PT480M",
        "[variables('name')]",
        "[parameters('value')]",
        "",
        "Azure",
        "Microsoft.ManagedServices/registrationDefinitions",
        "Microsoft.Resources/deployments",
        "[",
        "[[x]",
        "\u{202e}",
    ];
    let leaf = prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        let member = (proptest::sample::select(names.to_vec()).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(Value::from),
            proptest::collection::vec(member, 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_anybody_writes_makes_the_rules_panic(one in anything(), two in anything()) {
        let files = [("a.json", one), ("a.parameters.json", two)];
        let documents: Vec<_> =
            files.iter().filter_map(|(file, value)| Document::read(file, value.to_string().as_bytes()).ok()).collect();
        let findings = judge(&Batch::of(&documents), &context());
        prop_assert!(findings.iter().all(|finding| finding.path.starts_with('$')));
    }
}
