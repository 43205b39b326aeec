//! `permafresh publish` and `rollout repair`: what is sent, and what a dry run shows.

use axum::http::Method;
use serde_json::{Value, json};

use super::service::{Answer, Service, ok};
use super::{APPLICATION, ROLLOUT, rollout};

#[test]
fn a_publish_is_sent_as_it_was_asked_for() {
    let service = Service::start(|_, before| {
        let mut answer = json!({"rolloutId": ROLLOUT, "idempotencyKey": "k"});
        if before > 0 {
            answer["duplicateOf"] = ROLLOUT.into();
        }
        (202, "application/json", answer.to_string())
    });
    let arguments = [
        "publish",
        "--publisher",
        "fabrikam",
        "--offer",
        "ledger",
        "--plan",
        "standard",
        "--version",
        "1.4.0",
        "--target",
        "preview",
        "--audience",
        "all",
        "--purpose",
        "rollOut",
        "--strategy",
        r#"{"canaries": 0, "maxInFlight": 5}"#,
        "--scope",
        APPLICATION,
        "--supersede",
        "--note",
        "a note",
        "--submission-id",
        "115",
    ];
    let first = service.run(&arguments);
    assert_eq!((first.code, first.out.as_str()), (0, &*format!("{ROLLOUT}\n")), "{}", first.err);
    assert!(first.err.contains("permafresh rollout watch"), "{}", first.err);
    let got = service.got().remove(0);
    assert_eq!((got.method, got.path.as_str()), (Method::POST, "/api/offer-publishes"));
    assert_eq!(
        serde_json::from_str::<Value>(&got.body).unwrap(),
        json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0", "target": "preview",
            "audience": "all", "purpose": "rollOut", "strategy": {"canaries": 0, "maxInFlight": 5},
            "scope": {"applicationIds": [APPLICATION]}, "supersede": true, "note": "a note", "submissionId": "115"})
    );
    let again = service.run(&arguments);
    assert!(again.err.contains("known already") && again.out == first.out, "{again:?}");
    let short = &arguments[..11];
    service.run(short);
    assert_eq!(
        serde_json::from_str::<Value>(&service.got().remove(2).body).unwrap(),
        json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0", "target": "preview"})
    );
}

fn last_good(version: Option<&str>) -> Answer {
    let mut found =
        json!({"badVersion": "1.4.0", "deployments": 40, "withBadVersion": 38, "withoutOther": 3, "versions": []});
    if let Some(version) = version {
        found["version"] = version.into();
        found["versions"] = json!([{"version": version, "deployments": 37, "lastSucceededAt": "2025-12-24T08:00:00Z"}]);
    }
    ok(found)
}

fn dry_run() -> Value {
    let call = |wave: u32, number: u32| {
        json!({"applicationId": format!("{APPLICATION}-{number}"), "wave": wave, "version": "1.3.2", "way": "publisher",
            "versionBefore": "1.4.0"})
    };
    let mut handed = call(2, 6);
    handed["way"] = "handOver".into();
    handed["command"] = "az rest --method post --url 'x'\u{1b}".into();
    json!({"version": "1.3.2", "called": [call(1, 0), call(2, 1), call(2, 2), call(2, 3), call(2, 4), handed],
        "skipped": [{"applicationId": APPLICATION, "why": "deleting: it is being deleted"}]})
}

/// A service whose rollout can be repaired.
fn repairable() -> Service {
    Service::start(|got, _| match (got.method.clone(), got.path.as_str()) {
        (Method::GET, path) if path.ends_with("/last-good") => last_good(Some("1.3.2")),
        (Method::POST, "/api/rollouts?dryRun=true") => ok(dry_run()),
        (Method::POST, "/api/rollouts?dryRun=true&format=csv") => {
            (200, "text/csv", "applicationId,plan\r\n".to_owned())
        }
        (_, path) if path.starts_with("/api/rollouts") => ok(rollout("paused", json!({}))),
        (_, other) => panic!("{other}"),
    })
}

#[test]
fn a_repair_says_what_it_would_do_and_starts_when_it_is_confirmed() {
    let service = repairable();
    let run = service.run(&["rollout", "repair", ROLLOUT, "--last-good", "--yes", "--note", "it broke the ledger"]);
    insta::assert_snapshot!("repair", run.shown());
    let got = service.got();
    let sent: Value = serde_json::from_str(&got[got.len() - 1].body).unwrap();
    let expected = json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.3.2",
        "target": "live", "audience": "all", "purpose": "repair", "note": "it broke the ledger"});
    assert_eq!((service.paths().last().unwrap().as_str(), sent), ("POST /api/rollouts", expected));
}

#[test]
fn a_repair_for_a_script_prints_what_it_would_do_and_what_it_started_as_json() {
    let service = repairable();
    let run = service.run(&["rollout", "repair", ROLLOUT, "--last-good", "--yes", "--watch", "--json"]);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((run.code, events), (3, vec!["dryRun", "started", "progress", "ended"]));
    assert_eq!(lines[0]["dryRun"]["called"].as_array().unwrap().len(), 6);
    let run = service.run(&["rollout", "repair", ROLLOUT, "--last-good", "--dry-run", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&run.out).unwrap()["event"], "dryRun");
}

#[test]
fn a_repair_that_nobody_confirms_starts_nothing() {
    let service = repairable();
    for (more, code) in [(&[][..], 2), (&["--dry-run"][..], 0), (&["--dry-run", "--yes"][..], 0)] {
        let run = service.run(&[&["rollout", "repair", ROLLOUT, "--last-good"][..], more].concat());
        assert_eq!(run.code, code, "{}", run.err);
        assert!(run.out.contains("Would be called: 6 deployments"), "{}", run.out);
    }
    assert!(service.paths().iter().all(|path| path != "POST /api/rollouts"));
    let none = Service::start(|got, _| match got.path.as_str() {
        path if path.ends_with("/last-good") => last_good(None),
        _ => ok(rollout("paused", json!({}))),
    });
    let run = none.run(&["rollout", "repair", ROLLOUT, "--last-good", "--yes"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("--version"), "{}", run.err);
    assert_eq!(none.run(&["rollout", "repair", ROLLOUT]).code, 2, "back to what?");
}

#[test]
fn a_retry_names_the_actor_and_a_dry_run_of_a_publish_starts_nothing() {
    let service = repairable();
    assert_eq!(service.run(&["rollout", "retry", ROLLOUT, "--actor", "customer"]).code, 0);
    let publish = [
        "publish",
        "--publisher",
        "f",
        "--offer",
        "l",
        "--plan",
        "s",
        "--version",
        "1.4.0",
        "--target",
        "live",
        "--dry-run",
    ];
    assert!(service.run(&publish).out.contains("wave 2: 5 deployments"));
    assert_eq!(service.run(&[&publish[..], &["--format", "csv"]].concat()).out, "applicationId,plan\r\n");
    let expected = [
        format!("POST /api/rollouts/{ROLLOUT}/retry?actor=customer"),
        "POST /api/rollouts?dryRun=true".to_owned(),
        "POST /api/rollouts?dryRun=true&format=csv".to_owned(),
    ];
    assert_eq!(service.paths(), expected);
}
