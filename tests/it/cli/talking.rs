//! How the command line talks to a service, and what it refuses.

use serde_json::json;

use super::service::{Service, ok, problem};
use super::{KEY, ROLLOUT, command, empty_page, run};

const PUBLISH: [&str; 11] =
    ["publish", "--publisher", "f", "--offer", "l", "--plan", "s", "--version", "1.4.0", "--target", "live"];

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
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(service.run(&["rollout", "list", "--key-file", file.to_str().unwrap()]).code, 0);
    let got = service.got();
    assert_eq!(got[0].key.as_deref(), Some(KEY));
    assert_eq!(got[1].key.as_deref(), Some("from-the-file"));
    assert!(got.iter().all(|got| !got.path.contains("key") && got.body.is_empty()));
    let run = service.run(&["rollout", "list", "--key-file", "/nonexistent"]);
    assert_eq!(run.code, 2);
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
fn a_publish_that_meets_another_rollout_is_told_how_to_replace_it() {
    let service =
        Service::start(|_, _| problem(409, json!({"type": "about:blank", "title": "Conflict", "status": 409})));
    let run = service.run(&PUBLISH);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("publish with --supersede"), "{}", run.err);
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
    let all: String = [&PUBLISH[..], &["rollout", "pause", ROLLOUT], &["deployments", "list"], &["rollout", "list"]]
        .map(|arguments| service.run(arguments).shown() + "\n")
        .concat();
    insta::assert_snapshot!("problems", all);
}
