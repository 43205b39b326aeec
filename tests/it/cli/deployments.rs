//! `permafresh deployments`, `stop`, `start` and `audit`.

use std::io::Write;
use std::process::Stdio;

use axum::http::Method;
use serde_json::{Value, json};

use super::service::{Service, ok, problem};
use super::{APPLICATION, ROLLOUT};

#[test]
fn an_import_says_what_was_taken_and_which_lines_were_not() {
    let service = Service::start(|got, _| {
        let rejected = if got.body.contains("bad") { json!([{"line": 3, "why": "not an id"}]) } else { json!([]) };
        ok(json!({"imported": 1, "updated": 2, "rejected": rejected}))
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = service.run(&["deployments", "import", &file("a.CSV", "applicationId\nx\n")]);
    assert_eq!((good.code, good.out.as_str()), (0, "imported 1, updated 2, rejected 0\n"), "{}", good.err);
    insta::assert_snapshot!(
        "import_rejected",
        service.run(&["deployments", "import", &file("a.csv", "applicationId\nx\nbad\n")]).shown()
    );
    let json = service.run(&["deployments", "import", &file("b.csv", "applicationId\nx\nbad\n"), "--json"]);
    let said: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &said["rejected"][0]["line"]), (1, &json!(3)));
    let mut child = service
        .command(&["deployments", "import", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"[{}]").unwrap();
    assert!(child.wait().unwrap().success());
    let got: Vec<_> = service.got().into_iter().map(|got| (got.method, got.media.unwrap(), got.body)).collect();
    assert_eq!(got[0], (Method::PUT, "text/csv".into(), "applicationId\nx\n".into()));
    assert_eq!(got[3], (Method::PUT, "application/json".into(), "[{}]".into()));
    assert_eq!(service.run(&["deployments", "import", "-"]).code, 2);
    assert_eq!(service.run(&["deployments", "import", "/nonexistent.csv"]).code, 1);
    assert_eq!(service.got().len(), 4);
}

#[test]
fn what_cannot_be_imported_is_named_by_its_file() {
    let service = Service::start(|got, _| match got.body.len() {
        0 => problem(413, json!({"title": "Payload Too Large", "status": 413})),
        _ => problem(
            400,
            json!({"title": "Bad Request", "status": 400, "errors": [{"field": "body", "why": "it is no list"}]}),
        ),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.json");
    std::fs::write(&file, "{}").unwrap();
    let refused = service.run(&["deployments", "import", file.to_str().unwrap()]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("customers.json") && refused.err.contains("it is no list"), "{}", refused.err);
    std::fs::write(&file, "").unwrap();
    let too_large = service.run(&["deployments", "import", file.to_str().unwrap()]);
    assert!(too_large.err.contains("hint: send it in parts"), "{}", too_large.err);
    // A file without an end is not read to its end.
    let endless = service.run(&["deployments", "import", "/dev/zero", "--format", "csv"]);
    assert_eq!(endless.code, 1);
    assert!(endless.err.contains("/dev/zero has more than 100 MiB"), "{}", endless.err);
    assert_eq!(service.got().len(), 2);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let service = Service::start(|_, _| ok(json!({"value": []})));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "hunter2\n").unwrap();
    for (mode, code) in [(0o644, 2), (0o640, 2), (0o600, 0), (0o400, 0)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let run = service.run(&["deployments", "list", "--key-file", file.to_str().unwrap()]);
        assert_eq!(run.code, code, "{mode:o}: {}", run.err);
        assert_eq!(run.err.contains("others can read"), code == 2, "{mode:o}: {}", run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
    assert_eq!(service.got().len(), 2);
}

#[test]
fn an_export_is_written_whole_or_not_at_all() {
    let service = Service::start(|got, _| match got.path.contains("none") {
        false => (200, "text/csv", "applicationId\r\nx\r\n".to_owned()),
        true => problem(500, json!({"title": "Internal Server Error", "status": 500, "detail": "the store failed"})),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.json");
    let name = file.to_str().unwrap();
    assert_eq!(service.run(&["deployments", "export", name]).code, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "applicationId\r\nx\r\n");
    let out = service.run(&["deployments", "export", "--publisher", "f", "--offer", "l", "--plan", "s/1"]);
    assert_eq!((out.code, out.out.as_str()), (0, "applicationId\r\nx\r\n"), "{}", out.err);
    let failed = service.run(&["deployments", "export", name, "--publisher", "none", "--offer", "l", "--plan", "s"]);
    assert_eq!((failed.code, failed.err.contains("the store failed")), (1, true), "{}", failed.err);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "applicationId\r\nx\r\n", "the file before it stays");
    assert_eq!(
        service.paths()[..2],
        ["GET /api/deployments?format=json", "GET /api/deployments?format=csv&publisher=f&offer=l&plan=s%2F1"]
    );
}

#[test]
fn deployments_are_listed_by_offer_and_plan() {
    let deployment = |plan: &str| {
        json!({"key": "0".repeat(64), "applicationId": APPLICATION, "publisher": "fabrikam", "offer": "ledger",
            "plan": plan, "preview": false, "confirmed": true, "provisioningState": "Succeeded",
            "applied": {"version": "1.3.0", "rolloutId": ROLLOUT, "at": "2026-01-02T03:00:00Z"},
            "createdAt": "2026-01-02T03:00:00Z", "updatedAt": "2026-01-02T03:00:00Z"})
    };
    let service = Service::start(move |_, _| ok(json!({"value": [deployment("standard"), deployment("pro")]})));
    insta::assert_snapshot!(
        "deployments_list",
        service.run(&["deployments", "list", "--offer", "Ledger", "--plan", "pro"]).shown()
    );
    assert_eq!(service.paths(), ["GET /api/deployments?top=1000"]);
    service.run(&["deployments", "list", "--publisher", "fabrikam", "--offer", "ledger", "--plan", "pro"]);
    assert_eq!(service.paths()[1], "GET /api/deployments?publisher=fabrikam&offer=ledger&plan=pro&top=1000");
    let json: Value = serde_json::from_str(&service.run(&["deployments", "list", "--json"]).out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
}

#[test]
fn one_deployment_is_shown_with_who_has_to_act_and_the_next_command() {
    let shown = json!({"key": "ab".repeat(32), "applicationId": APPLICATION, "publisher": "fabrikam", "offer": "ledger",
        "plan": "standard", "preview": false, "confirmed": true, "provisioningState": "Succeeded", "version": "1.3.0",
        "location": "westeurope", "wantedVersion": "1.5.0",
        "applied": {"version": "1.4.0", "rolloutId": ROLLOUT, "at": "2026-01-02T03:00:00Z"},
        "maintenanceWindows": [{"days": ["sat"], "start": "22:00", "duration": "PT4H", "utcOffset": "+02:00"}],
        "ways": {"worked": "publisher", "refused": [
            {"way": "gdap", "code": "AADSTS650051", "message": "no consent", "at": "2026-01-02T03:00:00Z"}]},
        "history": [
            {"version": "1.4.0", "rolloutId": ROLLOUT, "at": "2026-01-02T03:00:00Z", "result": "succeeded", "verified": true},
            {"version": "1.5.0", "rolloutId": ROLLOUT, "at": "2026-02-02T03:00:00Z", "result": "failed", "code": "ScopeLocked"}],
        "latestRefresh": {"rolloutId": ROLLOUT, "rolloutState": "completed", "applicationId": APPLICATION,
            "state": "failed", "version": "1.5.0", "way": "publisher", "attempts": 3, "polls": 2, "correlationId": "c-1",
            "error": {"actor": "customer", "code": "ScopeLocked", "message": "a lock\u{1b}[2J"}},
        "byHand": {"command": "az rest --url 'x'", "commandPowerShell": "az rest --url x"},
        "createdAt": "2026-01-02T03:00:00Z", "updatedAt": "2026-01-02T03:00:00Z"});
    let service = Service::start(move |_, _| ok(shown.clone()));
    insta::assert_snapshot!("deployments_show", service.run(&["deployments", "show", APPLICATION]).shown());
    let json = service.run(&["deployments", "show", APPLICATION, "--json"]);
    let said: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &said["byHand"]["commandPowerShell"]), (0, &json!("az rest --url x")));
    let id: permafresh::rollout::ApplicationId = APPLICATION.parse().unwrap();
    assert_eq!(service.paths()[0], format!("GET /api/deployments/{}", id.key()));
}

#[test]
fn a_deployment_is_forgotten_by_its_key_or_its_id() {
    let service = Service::start(|_, _| (204, "application/json", String::new()));
    let id: permafresh::rollout::ApplicationId = APPLICATION.parse().unwrap();
    let key = id.key().to_string();
    for name in [APPLICATION, &APPLICATION.to_uppercase(), &key] {
        assert_eq!(service.run(&["deployments", "forget", name]).code, 0);
    }
    let json: Value = serde_json::from_str(&service.run(&["deployments", "forget", &key, "--json"]).out).unwrap();
    assert_eq!(json, json!({"key": key, "forgotten": true}));
    let path = format!("DELETE /api/deployments/{key}");
    assert_eq!(service.paths(), [path.clone(), path.clone(), path.clone(), path]);
}

#[test]
fn everything_is_stopped_and_started_and_a_deployment_held_from_the_terminal() {
    let service = Service::start(|got, _| match got.path.as_str() {
        "/api/stop" => ok(json!({"heldBy": [{
            "by": "stop", "since": "2026-03-10T12:00:00Z", "who": "key 1a2b3c4d", "why": "lost\u{001b} access"
        }]})),
        "/api/start" => ok(json!({"heldBy": []})),
        path if path.starts_with("/api/audit") => ok(json!({"value": [
            {"at": "2026-03-10T12:00:05Z", "who": "alice@contoso.example", "what": "rollout.pause", "on": "r1",
             "from": "running", "to": "paused", "outcome": "done"},
            {"at": "2026-03-10T12:00:00Z", "who": "key 1a2b3c4d", "what": "stop", "from": "going", "why": "lost access",
             "outcome": "begun"},
        ]})),
        _ => ok(json!({
            "key": "ab".repeat(32), "applicationId": APPLICATION, "preview": false, "confirmed": true,
            "hold": {"why": "freeze", "until": "2026-04-01T00:00:00Z", "since": "2026-03-10T12:00:00Z"},
            "createdAt": "2026-03-10T12:00:00Z", "updatedAt": "2026-03-10T12:00:00Z"
        })),
    });
    let mut all = String::new();
    for arguments in [
        &["stop", "--why", "lost access"][..],
        &["start"],
        &["audit"],
        &["deployments", "hold", APPLICATION, "--why", "freeze", "--until", "2026-04-01T00:00:00Z"],
        &["deployments", "release", APPLICATION],
        &["deployments", "refreshed", APPLICATION, "--version", "1.5.0", "--why", "ticket 4711"],
    ] {
        let run = service.run(arguments);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?}");
        all.push_str(&format!("$ permafresh {}\n{}\n", arguments.join(" "), run.out));
    }
    insta::assert_snapshot!("operations", all);
    for (arguments, member) in [
        (&["stop", "--json"][..], "heldBy"),
        (&["start", "--json"], "heldBy"),
        (&["deployments", "hold", APPLICATION, "--why", "freeze", "--json"], "applicationId"),
        (&["deployments", "release", APPLICATION, "--json"], "applicationId"),
        (&["deployments", "refreshed", APPLICATION, "--json"], "applicationId"),
    ] {
        let run = service.run(arguments);
        let json: Value = serde_json::from_str(&run.out).unwrap();
        assert!(json.get(member).is_some() && run.err.is_empty(), "{arguments:?}: {}", run.out);
    }
    let got: Vec<_> = service.got().into_iter().map(|got| (got.path, got.body)).collect();
    assert_eq!(got[0], ("/api/stop".to_owned(), r#"{"why":"lost access"}"#.to_owned()));
    assert!(got[3].0.ends_with("/hold") && got[3].1.contains("2026-04-01T00:00:00Z"), "{got:?}");
    let recorded = r#"{"version":"1.5.0","why":"ticket 4711"}"#;
    assert!(got[5].0.ends_with("/refreshed") && got[5].1 == recorded, "{got:?}");
}
