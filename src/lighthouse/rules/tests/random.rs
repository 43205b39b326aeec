//! Nothing anybody writes makes the rules fall over.

use proptest::prelude::*;

use super::*;

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
