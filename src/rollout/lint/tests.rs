//! The rules of the lint, each by cases.

use super::entry::read;
use super::*;

fn operation(name: &str, is_data: bool) -> Operation {
    Operation { name: name.to_owned(), is_data }
}

fn providers() -> Providers {
    let vault = vec![
        operation("Microsoft.KeyVault/register/action", false),
        operation("Microsoft.KeyVault/vaults/read", false),
        operation("Microsoft.KeyVault/vaults/write", false),
        operation("Microsoft.KeyVault/vaults/secrets/read", false),
        operation("Microsoft.KeyVault/vaults/secrets/getSecret/action", true),
    ];
    let web = vec![
        operation("Microsoft.Web/sites/Read", false),
        operation("Microsoft.Web/sites/restart/Action", false),
        operation("Microsoft.Web/sites/slots/restart/Action", false),
        operation("microsoft.web/odd names/{kind}/read", false),
    ];
    let known = |operations| Arc::new(Provider::Known(operations));
    [
        ("microsoft.keyvault", known(vault)),
        ("microsoft.web", known(web)),
        ("microsoft.gone", Arc::new(Provider::Unknown)),
        ("microsoft.closed", Arc::new(Provider::Unread { why: "403".to_owned() })),
    ]
    .map(|(name, provider)| (name.to_owned(), provider))
    .into()
}

fn control(entry: &str) -> Vec<Finding> {
    lint(&AllowedActions { control: vec![entry.to_owned()], data: Vec::new() }, &providers())
}

fn data(entry: &str) -> Vec<Finding> {
    lint(&AllowedActions { control: Vec::new(), data: vec![entry.to_owned()] }, &providers())
}

/// The one finding, as its rule and what it suggests.
fn one(findings: Vec<Finding>) -> (Severity, Rule, Vec<String>) {
    let [finding] = <[Finding; 1]>::try_from(findings).unwrap();
    (finding.severity, finding.rule, finding.suggestions)
}

#[test]
fn real_actions_in_their_box_are_passed_over() {
    for entry in [
        "Microsoft.KeyVault/vaults/read",
        " Microsoft.KeyVault/vaults/read ; Microsoft.Web/sites/Read;",
        "Microsoft.KeyVault/*",
        "Microsoft.KeyVault/*/read",
        "Microsoft.Web/*/restart/*",
        "microsoft.web/odd names/{kind}/read",
        "*/read",
        "*/ACTION",
        "",
        ";;",
    ] {
        assert_eq!(control(entry), [], "{entry}");
    }
    assert_eq!(data("Microsoft.KeyVault/vaults/secrets/getSecret/action"), []);
    assert_eq!(data("Microsoft.KeyVault/vaults/secrets/*"), [], "it covers a data action too");
}

#[test]
fn an_action_in_the_wrong_box_is_rejected_and_told_where_it_belongs() {
    let findings = control("Microsoft.KeyVault/vaults/secrets/getSecret/action");
    assert!(findings[0].why.contains("data action"), "{findings:?}");
    assert_eq!(one(findings), (Severity::Rejected, Rule::WrongBox, vec![]));
    assert_eq!(one(data("Microsoft.KeyVault/vaults/secrets/read")).1, Rule::WrongBox);
    assert_eq!(one(data("Microsoft.Web/*")).1, Rule::WrongBox, "no data action is among them");
}

#[test]
fn an_action_that_is_nobody_s_is_rejected_with_the_nearest_names() {
    for (entry, meant) in [
        ("Microsoft.Web/sites/restrat/action", "Microsoft.Web/sites/restart/Action"),
        ("Microsoft.Web/sites/restart/actions", "Microsoft.Web/sites/restart/Action"),
        ("Microsoft.KeyVauIt/vaults/read", ""),
        ("Microsoft.KeyVault/vauIts/read", "Microsoft.KeyVault/vaults/read"),
        ("Microsoft.KeyVault.vaults.read", "Microsoft.KeyVault/vaults/read"),
        ("Microsoft.KeyVault/vault/*", "Microsoft.KeyVault/vaults/*"),
        ("Microsoft.KeyVault/vaults/secrets", "Microsoft.KeyVault/vaults/secrets/read"),
    ] {
        let findings = control(entry);
        if meant.is_empty() {
            assert_eq!(findings[0].rule, Rule::NotChecked, "its provider was not looked at: {findings:?}");
            continue;
        }
        let (severity, rule, suggestions) = one(findings);
        assert_eq!((severity, rule), (Severity::Rejected, Rule::NoSuchAction), "{entry}");
        assert_eq!(suggestions.first().map(String::as_str), Some(meant), "{entry}: {suggestions:?}");
    }
    assert_eq!(one(control("Microsoft.Web/nothing/like/this/at/all")).2, [""; 0]);
}

#[test]
fn what_typing_did_to_an_entry_is_named_and_undone() {
    let secret = "Microsoft.KeyVault/vaults/read";
    for (entry, word) in [
        ("Microsoft. KeyVault/vaults/read", "blank"),
        ("Microsoft.KeyVault/vaults\u{a0}/read", "U+00A0"),
        ("Microsoft.KeyVault/\u{200b}vaults/read", "U+200B"),
        ("\u{feff}Microsoft.KeyVault/vaults/read", "U+FEFF"),
        ("“Microsoft.KeyVault/vaults/read”", "quotation"),
        ("'Microsoft.KeyVault/vaults/read'", "quotation"),
        ("Microsoft.KeyVault/vaults/read.", "ends with"),
        ("Microsoft.KeyVault/vaults/read/", "ends with"),
        ("Microsoft.KeyVault/vaults/read,", "ends with"),
        ("/Microsoft.KeyVault/vaults/read", "begins with"),
        ("Microsoft.KeyVault//vaults/read", "empty"),
        ("Microsoft.KeyVault\\vaults\\read", "'/'"),
        ("Microsoft.KeyVault\u{ff0f}vaults/read", "U+FF0F"),
        ("Micrоsoft.KeyVault/vaults/read", "U+043E"),
        ("Microsoft.KeyVault/vaults/re\u{ad}ad", "invisible"),
    ] {
        let findings = control(entry);
        assert!(findings[0].why.contains(word), "{entry:?}: {findings:?}");
        assert_eq!(one(findings), (Severity::Rejected, Rule::Damaged, vec![secret.to_owned()]), "{entry:?}");
    }
    let findings =
        control("Microsoft.KeyVault/vaults/read, Microsoft.Web/sites/Read\nMicrosoft.Web/sites/restart/Action");
    let joined = "Microsoft.KeyVault/vaults/read;Microsoft.Web/sites/Read;Microsoft.Web/sites/restart/Action";
    assert_eq!(one(findings), (Severity::Rejected, Rule::Damaged, vec![joined.to_owned()]));
    let both = control("Microsoft.Web/sites/rest\u{200b}rat/action");
    assert_eq!(one(both).2, ["Microsoft.Web/sites/restart/Action"], "damaged and misspelt");
    assert_eq!(one(control(&"x".repeat(501))).1, Rule::Damaged);
    assert_eq!(one(control("\u{200b}")).1, Rule::Damaged);
}

#[test]
fn what_cannot_be_known_is_a_warning_and_rejects_nothing() {
    for (entry, rule) in [
        ("Microsoft.Gone/things/read", Rule::UnknownProvider),
        ("Microsoft.Closed/things/read", Rule::NotChecked),
        ("Microsoft.Unasked/things/read", Rule::NotChecked),
        ("Microsoft.*/read", Rule::NotChecked),
        ("*/vaults/read", Rule::NotChecked),
        ("*", Rule::Everything),
        ("MICROSOFT.KeyVault/vaults/read", Rule::Case),
        ("Microsoft.Web/sites/Read; microsoft.web/sites/read", Rule::Repeated),
    ] {
        let findings = control(entry);
        assert_eq!(rejection(&findings), None, "{entry}");
        assert_eq!((findings[0].severity, findings[0].rule), (Severity::Warning, rule), "{entry}");
    }
    for entry in ["vaults/read", "Microsoft/vaults/read", "read", "Microsoft.Key-Vault/read", "..", "Microsoft."] {
        assert_eq!(control(entry)[0].severity, Severity::Rejected, "{entry}");
    }
}

#[test]
fn an_unknown_provider_is_met_with_the_nearest_common_one() {
    let mut providers = providers();
    providers.insert("microsoft.storge".to_owned(), Arc::new(Provider::Unknown));
    let actions = AllowedActions { control: vec!["Microsoft.Storge/x/read".to_owned()], data: Vec::new() };
    let findings = lint(&actions, &providers);
    assert_eq!(findings[0].suggestions[0], "Microsoft.Storage", "{findings:?}");
}

#[test]
fn the_reason_names_the_first_rejected_entry_and_counts_the_others() {
    let control = ["Microsoft.Closed/x/read", "Microsoft.Web/sites/red", "Microsoft.Web/sites/ restart/action"];
    let actions = AllowedActions { control: control.map(str::to_owned).into(), data: Vec::new() };
    let why = rejection(&lint(&actions, &providers())).unwrap();
    assert!(why.contains("\"Microsoft.Web/sites/red\" among the allowed control actions"), "{why}");
    assert!(why.contains("did you mean Microsoft.Web/sites/Read") && why.contains("(and 1 more)"), "{why}");
}

#[test]
fn only_providers_that_are_named_are_asked_for() {
    let actions = AllowedActions {
        control: vec![
            "*/read;Microsoft. Web/x/read".to_owned(),
            "*".to_owned(),
            "evil/../x".to_owned(),
            "a b".to_owned(),
        ],
        data: vec!["Microsoft.KeyVault/*".to_owned(), "Microsoft.*/read".to_owned()],
    };
    assert_eq!(namespaces(&actions).into_iter().collect::<Vec<_>>(), ["microsoft.keyvault", "microsoft.web"]);
    assert_eq!(namespace("Microsoft.Web%2f..\u{0}/x"), None);
    assert_eq!(namespace(&format!("{}.x/read", "a".repeat(100))), None);
}

#[test]
fn no_text_at_all_stops_the_lint() {
    for entry in ["\u{0}", "////", "****", ";", "é", "🙂/🙂", "a.b", "a.b/", &"/".repeat(400), "Microsoft.Web/\u{202e}"]
    {
        for findings in [control(entry), data(entry)] {
            assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
        }
        let _ = read(entry);
    }
}
