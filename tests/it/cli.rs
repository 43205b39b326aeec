//! The binary's whole output, against a service that answers what each test tells it to.

mod doctor;
mod lighthouse;
mod service;

use std::io::Write;
use std::process::{Command, Stdio};

use axum::http::Method;
use serde_json::{Value, json};

use service::{Answer, Service, ok, problem};

const ROLLOUT: &str = "01990000-0000-7000-8000-000000000001";
const APPLICATION: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
const KEY: &str = "a-function-key";

/// What a command printed and how it ended.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn shown(&self) -> String {
        format!("exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_permafresh"));
    // Nothing of the machine's own environment may reach a recording.
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn rollout(state: &str, counts: Value) -> Value {
    let mut all = json!({"queued": 0, "awaitingAccess": 0, "running": 0, "verifying": 0, "succeeded": 0, "failed": 0,
        "canceled": 0, "timedOut": 0, "skipped": 0, "handedOver": 0, "superseded": 0, "total": 0});
    all.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
    json!({"id": ROLLOUT, "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0",
        "target": "live", "audience": "all", "purpose": "rollOut", "state": state, "wave": 1, "waves": 3,
        "createdAt": "2026-01-02T03:00:00Z", "counts": all})
}

fn failed_refresh() -> Value {
    json!({"applicationId": APPLICATION, "state": "failed", "attempts": 1, "polls": 3,
        "error": {"actor": "customer", "code": "ScopeLocked", "message": "the scope is locked\u{1b}[2J"}})
}

fn empty_page() -> Answer {
    ok(json!({"value": []}))
}

#[test]
fn the_help_of_every_command_is_as_recorded() {
    let mut all = String::new();
    for words in [
        "",
        "demo",
        "local",
        "handler",
        "package",
        "lint",
        "doctor",
        "publish",
        "rollout",
        "rollout list",
        "rollout show",
        "rollout watch",
        "rollout pause",
        "rollout resume",
        "rollout approve",
        "rollout cancel",
        "rollout retry",
        "rollout repair",
        "rollout report",
        "deployments",
        "deployments list",
        "deployments import",
        "deployments export",
        "deployments sync",
        "deployments hold",
        "deployments release",
        "deployments refreshed",
        "deployments forget",
        "gdap",
        "gdap sign-in",
        "gdap consent",
        "gdap link",
        "gdap status",
        "gdap scopes",
        "gdap relationship",
        "gdap relationship create",
        "gdap relationship assign",
        "jit",
        "jit list",
        "jit request",
        "jit show",
        "lighthouse",
        "lighthouse template",
        "lighthouse validate",
        "lighthouse check",
        "stop",
        "start",
        "audit",
    ] {
        let mut arguments: Vec<_> = words.split_whitespace().collect();
        arguments.push("--help");
        let run = run(command(&arguments));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{words}");
        all.push_str(&format!("$ permafresh {}\n{}\n", arguments.join(" "), run.out));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn a_wrong_command_line_ends_with_a_hint_and_sends_nothing() {
    let service = Service::start(|_, _| empty_page());
    for arguments in [
        &["rollouts"][..],
        &["rollout", "show"],
        &["rollout", "show", "7"],
        &["rollout", "show", "latest", "--state", "unhappy"],
        &["rollout", "list", "--limit", "0"],
        &["deployments", "forget", "x"],
        &["deployments", "import", "rows.txt"],
        &["demo", "--deployments", "0"],
        &["local", "--port", "65536"],
        &["local", "--root", "/nonexistent"],
        &["publish", "--publisher", "fabrikam"],
        &["publish", "--publisher", "f", "--offer", "l", "--plan", "s", "--version", "1.4", "--target", "live"],
        &[
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
            "--strategy",
            r#"{"canary": 1}"#,
        ],
    ] {
        let run = service.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.starts_with("error: "), "{}", run.err);
        assert!(run.err.lines().last().unwrap().starts_with("hint: "), "{}", run.err);
    }
    assert_eq!(service.got(), []);
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
    let got: Vec<_> = service.got().into_iter().map(|got| (got.path, got.body)).collect();
    assert_eq!(got[0], ("/api/stop".to_owned(), r#"{"why":"lost access"}"#.to_owned()));
    assert!(got[3].0.ends_with("/hold") && got[3].1.contains("2026-04-01T00:00:00Z"), "{got:?}");
    let recorded = r#"{"version":"1.5.0","why":"ticket 4711"}"#;
    assert!(got[5].0.ends_with("/refreshed") && got[5].1 == recorded, "{got:?}");
}

#[test]
fn bad_settings_stop_the_start_with_every_problem_named() {
    let folder = tempfile::tempdir().unwrap();
    for start in ["handler", "local"] {
        let mut command = command(&[start]);
        command
            .current_dir(folder.path())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", "1")
            .env("MODE", "maybe")
            .env("ARM_ENDPOINT", "http://management.azure.com")
            .env("AZURE_CLIENT_SECRET", "hunter2")
            .env("OFFERS", r#"[{"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard", "verison": "1.4.0"}]}]"#);
        let run = run(command);
        insta::allow_duplicates! { insta::assert_snapshot!("bad_settings", run.shown()) }
    }
}

#[test]
fn a_service_that_cannot_be_reached_is_said_so() {
    // Port 1 is nobody's on loopback.
    let run = run(command(&["rollout", "list", "--url", "http://127.0.0.1:1"]));
    insta::assert_snapshot!("unreachable", run.shown());
}

#[test]
fn the_key_travels_in_a_header_and_nowhere_else() {
    let service = Service::start(|_, _| empty_page());
    assert_eq!(service.run(&["rollout", "list"]).code, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "from-the-file\n").unwrap();
    assert_eq!(service.run(&["rollout", "list", "--key-file", file.to_str().unwrap()]).code, 0);
    let got = service.got();
    assert_eq!(got[0].key.as_deref(), Some(KEY));
    assert_eq!(got[1].key.as_deref(), Some("from-the-file"));
    assert!(got.iter().all(|got| !got.path.contains("key") && got.body.is_empty()));
    let run = service.run(&["rollout", "list", "--key-file", "/nonexistent"]);
    assert_eq!(run.code, 2);
}

#[test]
fn rollouts_are_listed_page_by_page() {
    let service = Service::start(|got, _| match got.path.as_str() {
        "/api/rollouts?top=20" => ok(
            json!({"value": [rollout("running", json!({"succeeded": 2, "failed": 1, "running": 4, "queued": 2, "total": 9}))],
            "nextLink": "/api/rollouts?top=20&continuation=c%2F1"}),
        ),
        "/api/rollouts?top=20&continuation=c%2F1" => ok(json!({"value": [rollout("hibernating", json!({}))]})),
        other => panic!("{other}"),
    });
    insta::assert_snapshot!("rollout_list", service.run(&["rollout", "list"]).shown());
    let json: Value = serde_json::from_str(&service.run(&["rollout", "list", "--json"]).out).unwrap();
    assert_eq!(json[1]["state"], "hibernating");
}

#[test]
fn a_next_page_on_another_host_is_refused() {
    let other = Service::start(|_, _| empty_page());
    let link = format!("{}/api/rollouts", other.url);
    let service = Service::start(move |_, _| ok(json!({"value": [], "nextLink": link})));
    let run = service.run(&["rollout", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("another host"), "{}", run.err);
    assert_eq!(other.got(), []);
}

#[test]
fn a_list_that_goes_round_in_circles_is_given_up() {
    let service = Service::start(|_, _| ok(json!({"value": [], "nextLink": "/api/rollouts?top=20"})));
    assert_eq!(service.run(&["rollout", "list"]).code, 1);
    assert_eq!(service.got().len(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Service::start(|_, _| empty_page());
    let location: &'static str = Box::leak(other.url.clone().into_boxed_str());
    let service = Service::start(move |_, _| (307, location, String::new()));
    let run = service.run(&["rollout", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("redirect"), "{}", run.err);
    assert_eq!(other.got(), []);
}

#[test]
fn problems_of_the_service_become_readable_errors_with_hints() {
    let service = Service::start(|got, _| match got.path.as_str() {
        "/api/offer-publishes" => problem(
            400,
            json!({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "the publish is not valid",
                "errors": [{"field": "offer", "why": "no \u{1b}[31mred"}, {"field": "plan", "why": "too long"}]}),
        ),
        path if path.starts_with("/api/rollouts/") => {
            problem(409, json!({"type": "about:blank", "title": "Conflict", "status": 409}))
        }
        "/api/deployments?top=1000" => (401, "text/plain", "no".into()),
        _ => (200, "text/html", "<html>".into()),
    });
    let publish =
        ["publish", "--publisher", "f", "--offer", "l", "--plan", "s", "--version", "1.4.0", "--target", "live"];
    let all: String = [&publish[..], &["rollout", "pause", ROLLOUT], &["deployments", "list"], &["rollout", "list"]]
        .map(|arguments| service.run(arguments).shown() + "\n")
        .concat();
    insta::assert_snapshot!("problems", all);
}

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

#[test]
fn watching_shows_progress_survives_a_restart_and_ends_with_who_has_to_act() {
    let service = Service::start(|got, before| {
        if got.path.contains("/refreshes?state=failed") {
            return ok(json!({"value": [failed_refresh()]}));
        }
        if got.path.contains("/refreshes?") {
            return empty_page();
        }
        match before {
            0 => ok(rollout("planning", json!({}))),
            1 | 3 => ok(rollout("running", json!({"running": 2, "total": 2}))),
            2 => problem(503, json!({"title": "starting", "status": 503})),
            _ => ok(rollout("completed", json!({"succeeded": 1, "failed": 1, "total": 2}))),
        }
    });
    let run = service.run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50"]);
    insta::assert_snapshot!("watch", run.shown());
}

#[test]
fn the_exit_code_of_watching_says_how_the_rollout_ended() {
    for (state, counts, expected) in [
        ("completed", json!({"succeeded": 3, "skipped": 1, "total": 4}), 0),
        ("completed", json!({"timedOut": 1, "total": 1}), 3),
        ("halted", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("paused", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("canceled", json!({"canceled": 1, "total": 1}), 3),
    ] {
        let view = rollout(state, counts);
        let service = Service::start(move |got, _| match got.path.as_str() {
            "/api/rollouts?top=1" => ok(json!({"value": [view]})),
            path if path.contains("/refreshes") => empty_page(),
            _ => ok(view.clone()),
        });
        assert_eq!(service.run(&["rollout", "watch", "latest"]).code, expected, "{state}");
    }
}

#[test]
fn one_rollout_is_shown_with_its_refreshes_and_steered() {
    let service = Service::start(|got, _| match got.path.as_str() {
        path if path.ends_with("/refreshes?state=failed&top=100") => ok(json!({"value": [failed_refresh()]})),
        path if path.ends_with("/pause") => ok(rollout("paused", json!({}))),
        _ => ok(rollout("running", json!({"failed": 1, "queued": 1, "total": 2}))),
    });
    insta::assert_snapshot!("rollout_show", service.run(&["rollout", "show", ROLLOUT, "--state", "failed"]).shown());
    let json: Value =
        serde_json::from_str(&service.run(&["rollout", "show", ROLLOUT, "--state", "failed", "--json"]).out).unwrap();
    assert_eq!(json["refreshes"][0]["error"]["code"], "ScopeLocked");
    for command in ["pause", "resume", "approve", "cancel", "retry"] {
        assert_eq!(service.run(&["rollout", command, ROLLOUT]).code, 0);
        assert_eq!(service.paths().last().unwrap(), &format!("POST /api/rollouts/{ROLLOUT}/{command}"));
    }
}

#[test]
fn the_service_without_a_rollout_has_no_latest_one() {
    let service = Service::start(|_, _| empty_page());
    let run = service.run(&["rollout", "show", "latest"]);
    assert_eq!(run.code, 1);
    assert!(run.err.ends_with("hint: start one with `permafresh publish`\n"), "{}", run.err);
}

#[test]
fn reports_come_as_the_service_wrote_them_and_in_words() {
    let csv = "applicationId,state\r\n/subscriptions/x,\"fail\u{1b}ed\"\r\n";
    let service = Service::start(move |got, _| match got.path.as_str() {
        path if path.ends_with("/report?format=csv") => (200, "text/csv", csv.to_owned()),
        path if path.ends_with("/report?format=json") => (200, "application/json", "{ \"a\" :1}".to_owned()),
        path if path.contains("state=failed") => ok(json!({"value": [failed_refresh()]})),
        path if path.contains("/refreshes") => empty_page(),
        _ => ok(rollout("paused", json!({"failed": 1, "total": 1}))),
    });
    assert_eq!(service.run(&["rollout", "report", ROLLOUT, "--format", "csv"]).out, csv);
    assert_eq!(service.run(&["rollout", "report", ROLLOUT, "--format", "json"]).out, "{ \"a\" :1}");
    let run = service.run(&["rollout", "report", ROLLOUT]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("The customer\n") && run.out.contains("\\u{1b}[2J"), "{}", run.out);
    assert!(!run.out.contains('\u{1b}'));
}

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
    assert_eq!(got[2], (Method::PUT, "application/json".into(), "[{}]".into()));
    assert_eq!(service.run(&["deployments", "import", "-"]).code, 2);
    assert_eq!(service.run(&["deployments", "import", "/nonexistent.csv"]).code, 1);
    assert_eq!(service.got().len(), 3);
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
fn a_deployment_is_forgotten_by_its_key_or_its_id() {
    let service = Service::start(|_, _| (204, "application/json", String::new()));
    let id: permafresh::rollout::ApplicationId = APPLICATION.parse().unwrap();
    let key = id.key().to_string();
    for name in [APPLICATION, &APPLICATION.to_uppercase(), &key] {
        assert_eq!(service.run(&["deployments", "forget", name]).code, 0);
    }
    let path = format!("DELETE /api/deployments/{key}");
    assert_eq!(service.paths(), [path.clone(), path.clone(), path]);
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
