//! Eligible entries: activation, approvers, policies.

use super::*;

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
fn l20_national_clouds_have_no_eligible_entries_and_clouds_do_not_mix() {
    let china = Context { cloud: Cloud::China, ..context() };
    assert_eq!(after_in(&china, |_| {}), error("L20", "$.eligibleAuthorizations"));
    assert_eq!(after_in(&china, |value| value["eligibleAuthorizations"] = json!([])), NOTHING);
    let across = Context { customer_cloud: Some(Cloud::UsGovernment), ..context() };
    assert_eq!(after_in(&across, |_| {}), error("L20", "$"));
    let same = Context { customer_cloud: Some(Cloud::Public), ..context() };
    assert_eq!(after_in(&same, |_| {}), NOTHING);
}

#[test]
fn l24_eligible_entries_need_licences() {
    let without = Context { licensed: false, ..context() };
    assert_eq!(after_in(&without, |_| {}), warning("L24", "$.eligibleAuthorizations"));
    assert_eq!(after_in(&without, |value| value["eligibleAuthorizations"] = Value::Null), NOTHING);
}
