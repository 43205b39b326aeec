//! Every entry: its principal and its role.

use super::*;

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
fn l19_everybody_has_a_name_that_the_customer_can_read() {
    let found = after(|value| value["eligibleAuthorizations"][0]["principalIdDisplayName"] = " ".into());
    assert_eq!(found, error("L19", "$.eligibleAuthorizations[0].principalIdDisplayName"));
    let found = after(|value| value["authorizations"][0]["principalIdDisplayName"] = Value::Null);
    assert_eq!(found, warning("L19", "$.authorizations[0].principalIdDisplayName"));
    assert_eq!(after(|value| value["authorizations"][0]["principalIdDisplayName"] = "x".into()), NOTHING);
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
