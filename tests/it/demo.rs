//! `permafresh demo` as a new user runs it.

use crate::processes::{Ended, Home, Running, run, until};

/// Nothing in the output of a command may be of use to whoever reads its log.
fn assert_no_secret(ended: &Ended, key: &str) {
    for text in [&ended.out, &ended.err] {
        for secret in [key, "simulated.1.", "0123456789abcdef0123456789abcdef", "&s=", "&c=MII", "&h="] {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
    }
}

/// The lines of a log that a person has to worry about.
fn errors(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect()
}

#[test]
fn the_demo_shows_a_publish_to_its_end_and_says_who_has_to_act() {
    let home = Home::new();
    let mut command = home.command(&["demo", "--deployments", "90", "--verbose"]);
    // Whoever runs the demo has settings of their own, and bad ones.
    command.envs([
        ("RUST_LOG", "debug"),
        ("MODE", "observe"),
        ("NOTIFY_URL", "http://example.com"),
        ("AZURE_AUTHORITY_HOST", "nowhere"),
        ("ARM_MAX_CONCURRENCY", "none"),
        ("VERIFY_AFTER_SUCCESS", "perhaps"),
    ]);
    let running = Running::start(command);
    let key = until("the handler's key", || home.handlers().first()?.variable("LOCAL_FUNCTION_KEYS"));
    assert!(key.len() >= 32, "{key}");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    home.assert_left();
    assert_no_secret(&ended, &key);
    assert_eq!(errors(&ended.err), [""; 0]);
    for said in [
        "90 deployments",
        "every one with version 1.4.0",
        "known already",
        "wave 1 of 3",
        "wave 3 of 3",
        // The log of the handler, since it was asked for.
        "DEBUG",
    ] {
        assert!(ended.err.contains(said), "{said} is not in\n{}", ended.err);
    }
    assert!(!ended.out.contains("DEBUG") && !ended.out.contains("wave 1"), "{}", ended.out);
    let places: Vec<_> = [
        "fabrikam/ledger/standard 1.5.0 (live, all deployments): completed after",
        "84 succeeded, 4 failed, 2 handed over, 90 in all\n",
        "Who has to act\n",
        "  The publisher\n",
        "InvalidTargetVersion (1 deployment)",
        "  The customer\n",
        "OperationCanceled (1 deployment)",
        "RequestDisallowedByPolicy (1 deployment)",
        "  Microsoft\n",
        "InternalServerError (1 deployment)",
        "Handed over: 2 deployments",
        "az rest --method post",
        "refreshPermissions?api-version=2019-07-01&targetVersion=1.5.0",
        "4 times Azure said to wait",
        "never asked before its time",
    ]
    .map(|wanted| ended.out.find(wanted).unwrap_or_else(|| panic!("{wanted:?} is not in\n{}", ended.out)))
    .into();
    assert!(places.is_sorted(), "{}", ended.out);
}

#[test]
fn a_bad_permission_is_shown_to_stop_at_the_canary() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--bad-permission", "--deployments", "60"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    home.assert_left();
    assert_no_secret(&ended, "x-functions-key");
    for said in [
        "fabrikam/ledger/standard 1.5.0 (live, all deployments): halted",
        "Microsoft.KeyVault/vaults/secrets/getSecret/action",
        "The publisher, on the offer itself",
        "1 failed, 1 in all",
        "59 deployments were not touched",
        "asked once to refresh",
    ] {
        assert!(ended.out.contains(said), "{said} is not in\n{}", ended.out);
    }
}

#[test]
fn throttling_delays_the_demo_and_fails_nobody() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--throttle", "--deployments", "90"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    home.assert_left();
    assert!(ended.out.contains("84 succeeded, 4 failed, 2 handed over, 90 in all"), "{}", ended.out);
    let (before, _) = ended.out.split_once(" times Azure said to wait").unwrap_or_else(|| panic!("{}", ended.out));
    let waits: u32 = before.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(waits > 15, "{waits}");
    assert!(ended.out.contains("never asked before its time"), "{}", ended.out);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    for signal in ["INT", "TERM"] {
        let home = Home::new();
        let mut demo = Running::start(home.command(&["demo", "--deployments", "60"]));
        demo.until("the first wave", |_, err| err.contains("wave 1 of 3").then_some(()));
        demo.signal(signal);
        let ended = demo.end();
        home.assert_left();
        assert_eq!((ended.code, ended.signal), (Some(1), None), "{}", ended.err);
        assert!(ended.err.contains("interrupted") && ended.out.is_empty(), "{}\n{}", ended.out, ended.err);
    }
}

#[test]
fn one_deployment_is_enough_for_a_demo() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--deployments", "1"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    assert!(ended.out.contains("1 succeeded, 1 in all") && ended.out.contains("Nobody has to act."), "{}", ended.out);
    home.assert_left();
}

#[test]
fn a_deployment_that_waits_for_consent_is_shown_to_park_and_to_go_on() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--gdap", "--deployments", "20"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    let places: Vec<_> = [
        "  parked       ledger-",
        "refused by the way publisher: AuthorizationFailed",
        "refused by the way gdap: ConsentMissing",
        "waits for the consent of tenant c0117050-0000-4000-8000-00000000c002",
        "  consented    by the tenant's administrator",
        "succeeded by the way gdap",
    ]
    .map(|wanted| ended.err.find(wanted).unwrap_or_else(|| panic!("{wanted:?} is not in\n{}", ended.err)))
    .into();
    assert!(places.is_sorted(), "{}", ended.err);
    assert!(ended.out.contains("completed after"), "{}", ended.out);
    assert_no_secret(&ended, "s3cr3t");
    home.assert_left();
}

#[test]
fn the_demo_finds_by_watching_what_nobody_posts() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--watch", "--deployments", "20"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    for said in
        ["nobody posts it", "found        by watching", "Changed since 1.4.0", "+ control action", "known already"]
    {
        assert!(ended.err.contains(said), "{said} is not in\n{}", ended.err);
    }
    home.assert_left();
}

#[test]
fn refreshes_are_shown_to_wait_for_an_approval_and_to_go_on_or_be_handed_over() {
    let home = Home::new();
    let ended = run(home.command(&["demo", "--jit", "--deployments", "30"]));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    home.assert_left();
    assert_no_secret(&ended, "x-functions-key");
    let places: Vec<_> = ["it waits for the customer", "the customer denies request", "the customer approves request"]
        .map(|said| ended.err.find(said).unwrap_or_else(|| panic!("{said} is not in\n{}", ended.err)))
        .into();
    assert!(places[0] < places[1] && places[0] < places[2], "{}", ended.err);
    for said in ["awaiting access", "approved automatically", "its tenant has no Entra ID P2"] {
        assert!(ended.err.contains(said), "{said} is not in\n{}", ended.err);
    }
    for said in ["completed after", "JitDenied", "JitNeedsEntraP2", "assign a licence", "az rest"] {
        assert!(ended.out.contains(said), "{said} is not in\n{}", ended.out);
    }
}
