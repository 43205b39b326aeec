//! `permafresh local` as its users run it: a process of its own, its real handler, a managed identity, a simulated Azure.

pub mod service;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use permafresh::arm::simulator::{OnPost, Reply};
use permafresh::partner_center::simulator::Publication;
use serde_json::{Value, json};

use crate::azurite;
use crate::processes::{Ended, Home, run, signal, until};
use service::{Azure, Local, application, local};

const QUICK: Duration = Duration::from_millis(500);

/// Nothing in a log may be of use to whoever reads it.
fn assert_no_secret(ended: &Ended, key: &str) {
    for text in [&ended.out, &ended.err] {
        for secret in [key, "simulated.1.", "0123456789abcdef0123456789abcdef", "&s=", "&c=MII", "the-new-sig-of-today"]
        {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
    }
}

fn counted(counts: &Value, state: &str) -> u64 {
    counts[state].as_u64().unwrap()
}

#[test]
fn a_publish_from_a_terminal_is_followed_to_its_end() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    // As the sample settings have it; a person reads this log all the same.
    let own = json!({"IsEncrypted": false, "Values": {"FUNCTIONS_WORKER_RUNTIME": "custom"}});
    std::fs::create_dir(home.path("root")).unwrap();
    permafresh::cli::script_root::write_to(&home.path("root")).unwrap();
    std::fs::write(home.path("root/local.settings.json"), own.to_string()).unwrap();
    let applications = azure.applications(12);
    azure.simulator.on_post(&applications[3], [OnPost::Reply(Reply::forbidden())]);
    let mut command = local(&home, &azure);
    command.args(["--root", "root"]).env("RUST_LOG", "debug");
    let service = Local::of(command, &home, &azure);
    let key = service.key();

    service.import(&applications);
    let listed = service.run(&["deployments", "list", "--offer", "ledger"], 0);
    assert!(applications.iter().all(|id| listed.out.contains(&id.to_string())), "{}", listed.out);
    let gone = applications[11].to_string();
    service.run(&["deployments", "forget", &gone], 0);
    assert!(!service.run(&["deployments", "list"], 0).out.contains(&gone));

    let publish = [
        "publish",
        "--publisher",
        "fabrikam",
        "--offer",
        "ledger",
        "--plan",
        "standard",
        "--version",
        "1.5.0",
        "--target",
        "live",
    ];
    let watched = service.run(&[&publish[..], &["--watch"]].concat(), 0);
    for said in ["completed after", "10 succeeded, 1 handed over, 11 in all", "az rest --method post"] {
        assert!(watched.out.contains(said), "{said} is not in\n{}", watched.out);
    }
    assert!(watched.err.contains("wave 3 of 3"), "{}", watched.err);
    let again = service.run(&publish, 0);
    assert!(again.err.contains("known already"), "{}", again.err);
    let rollout = again.out.trim().to_owned();

    assert!(service.run(&["rollout", "list"], 0).out.contains(&rollout));
    assert!(service.run(&["rollout", "show", "latest", "--state", "handedOver"], 0).out.contains("ledger-004"));
    service.run(&["rollout", "watch", &rollout], 0);
    let csv = service.run(&["rollout", "report", "latest", "--format", "csv"], 0).out;
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let heads = csv.headers().unwrap().clone();
    let at =
        |name: &str| heads.iter().position(|head| head == name).unwrap_or_else(|| panic!("{name} is not in {heads:?}"));
    let (state, bash, powershell) = (at("state"), at("command"), at("commandPowerShell"));
    let rows: Vec<_> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 11);
    for row in &rows {
        let handed = &row[state] == "handedOver";
        assert_eq!(
            (row[bash].starts_with("az rest"), row[powershell].starts_with("az rest")),
            (handed, handed),
            "{row:?}"
        );
    }
    for id in &applications[..11] {
        assert_eq!(azure.simulator.posts_of(id), 1, "{id}");
    }
    let stats = azure.simulator.stats();
    assert_eq!((stats.operations, stats.impatient_polls, stats.altered_urls, stats.tokens), (10, 0, 0, 1));

    let ended = service.stop("TERM");
    assert_eq!(ended.out.lines().count(), 1, "{}", ended.out);
    assert!(ended.err.contains("DEBUG") && ended.err.contains("INFO The functions are ready"), "{}", ended.err);
    assert!(!ended.err.contains("\"level\":"), "{}", ended.err);
    assert_no_secret(&ended, &key);
    assert_eq!(home.files_with("simulated.1."), [""; 0].map(std::path::PathBuf::from), "a token is kept in a file");
}

#[test]
fn a_rollout_is_steered_from_a_terminal() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let applications = azure.applications(6);
    // In the order in which a rollout takes them.
    let mut ordered = applications.clone();
    ordered.sort_by_key(permafresh::rollout::ApplicationId::key);
    azure
        .simulator
        .on_post(&ordered[0], [OnPost::Reply(Reply::throttled(2)), OnPost::Reply(Reply::error(400, "Bad", "no"))]);
    let service = Local::start(&home, &azure);
    service.import(&applications);
    let id = service.publish_by(&json!({"canaries": 0, "waves": [1, "100%"], "maxFailures": 0}));
    until("the first POST", || (azure.simulator.posts_of(&ordered[0]) > 0).then_some(()));
    assert!(service.run(&["rollout", "pause", &id], 0).out.contains("paused"));
    // It rests, so watching ends, and says by its code that this is not the end.
    service.run(&["rollout", "watch", &id], 3);
    assert_eq!(azure.simulator.stats().operations, 0);
    service.run(&["rollout", "resume", "latest"], 0);
    let watched = service.run(&["rollout", "watch", &id, "--interval-ms", "100"], 3);
    assert!(watched.out.contains("paused") && watched.out.contains("Bad (1 deployment)"), "{}", watched.out);
    service.run(&["rollout", "resume", &id], 0);
    let counts = service.until_rollout(&id, "completed");
    assert_eq!((counted(&counts, "succeeded"), counted(&counts, "failed")), (5, 1), "{counts}");
    service.run(&["rollout", "retry", &id], 0);
    service.run(&["rollout", "watch", &id, "--interval-ms", "100"], 0);
    let refused = service.run(&["rollout", "cancel", &id], 1);
    assert!(refused.err.contains("409") && refused.err.contains("\nhint: "), "{}", refused.err);
    assert_eq!(azure.simulator.stats().operations, 6);
    service.stop("INT");
}

#[test]
fn only_who_has_a_key_is_served_and_azure_needs_its_sig() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let applications = azure.applications(1);
    let service = Local::start(&home, &azure);
    let file = home.path("state.db.keys");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(service.process.err().contains("state.db.keys") && !service.process.err().contains(&service.key()));
    let status = |path: &str, key: Option<&str>, body: Option<&Value>| {
        let method = if body.is_some() { "POST" } else { "GET" };
        azure.call(method, &format!("{}{path}", service.url), key, body).unwrap().0
    };
    let key = service.key();
    assert_eq!(status("/api/rollouts", Some(&key), None), 200);
    assert_eq!(status(&format!("/api/rollouts?code={key}"), None, None), 200);
    for (path, wrong) in [
        ("/api/rollouts", None),
        ("/api/rollouts", Some("")),
        ("/api/rollouts", Some(&key[1..])),
        ("/api/deployments?code=wrong", None),
        ("/api/rollouts/01990000-0000-7000-8000-000000000001", None),
    ] {
        assert_eq!(status(path, wrong, None), 401, "{path} {wrong:?}");
    }
    // The functions of the host and the handler's own routes are nobody's.
    for path in ["/RefreshDeployment", "/api/RefreshDeployment", "/api/nothing"] {
        assert!([404, 401].contains(&status(path, Some(&key), Some(&json!({})))), "{path}");
    }
    let id = applications[0].to_string();
    let body = json!({"eventType": "PUT", "applicationId": id, "eventTime": "2026-01-02T03:04:05Z",
        "provisioningState": "Succeeded",
        "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"}});
    for (query, expected) in
        [("", 401), ("?sig=wrong", 401), ("?sig=the-new-sig-of-today", 200), ("?sig=the-old-sig-of-before", 200)]
    {
        assert_eq!(status(&format!("/api/notification/resource{query}"), None, Some(&body)), expected, "{query}");
    }
    until("what Azure tells of the application", || {
        let (_, listed) = service.call("GET", "/api/deployments", None);
        (listed["value"][0]["confirmed"] == true && listed["value"][0]["applicationId"] == id.as_str()).then_some(())
    });
    // The same key after the next start.
    service.stop("INT");
    let service = Local::start(&home, &azure);
    assert_eq!(service.key(), key);
    let ended = service.stop("TERM");
    assert_no_secret(&ended, &key);
}

#[test]
fn a_host_and_handler_that_are_killed_go_on_where_they_were() {
    // Every one was accepted and none is asked just then: what the kill cuts off would come back only after its lease.
    let wait = Duration::from_secs(3);
    let (home, azure) = (Home::new(), Azure::asked_every(wait, wait));
    let applications = azure.applications(20);
    let service = Local::start(&home, &azure);
    service.import(&applications);
    let id = service.publish_by(&json!({"canaries": 0, "waves": [10, "100%"]}));
    service.until_accepted(&id, 10);
    let handler = home.another_handler(&[]);
    service.process.signal("KILL");
    signal(handler.id, "KILL");
    assert_eq!(service.process.end().signal, Some(9));

    let service = Local::start(&home, &azure);
    let counts = service.until_rollout(&id, "completed");
    assert_eq!(counted(&counts, "succeeded"), 20, "{counts}");
    for id in &applications {
        assert_eq!(azure.simulator.posts_of(id), 1, "{id}");
    }
    assert_eq!(azure.simulator.stats().operations, 20);
    assert_eq!(azure.simulator.stats().impatient_polls, 0);
    service.process.signal("TERM");
    assert_eq!(service.process.end().code, Some(0));
    until("the end of every process", || home.processes().is_empty().then_some(()));
    // What was killed could not clean up; what was not has.
    assert_eq!(home.temporary().len(), 1);
}

#[test]
fn a_service_that_was_stopped_goes_on_at_the_next_start_and_posts_nothing_twice() {
    let (home, azure) = (Home::new(), Azure::start(Duration::from_secs(2)));
    let applications = azure.applications(20);
    let service = Local::start(&home, &azure);
    service.import(&applications);
    let id = service.publish_by(&json!({"canaries": 1, "waves": [10, "100%"]}));
    until("the second wave", || (azure.simulator.stats().operations >= 5).then_some(()));
    service.stop("TERM");
    let service = Local::start(&home, &azure);
    service.until_rollout(&id, "completed");
    for id in &applications {
        assert_eq!(azure.simulator.posts_of(id), 1, "{id}");
    }
    service.stop("TERM");
}

#[test]
fn a_handler_that_is_killed_is_started_again_and_the_rollout_ends() {
    let wait = Duration::from_secs(3);
    let (home, azure) = (Home::new(), Azure::asked_every(wait, wait));
    let applications = azure.applications(20);
    let service = Local::start(&home, &azure);
    service.import(&applications);
    let id = service.publish_by(&json!({"canaries": 0, "waves": [10, "100%"]}));
    service.until_accepted(&id, 10);
    let first = home.another_handler(&[]);
    signal(first.id, "KILL");
    let second = home.another_handler(&[first.id]);
    assert_ne!(first.variable("FUNCTIONS_CUSTOMHANDLER_PORT"), None);
    let counts = service.until_rollout(&id, "completed");
    assert_eq!(counted(&counts, "succeeded"), 20, "{counts}");
    assert_eq!(azure.simulator.stats().operations, 20);
    assert_eq!(home.handlers().iter().map(|handler| handler.id).collect::<Vec<_>>(), [second.id]);
    let ended = service.stop("TERM");
    assert!(ended.err.contains("the handler ended with signal: 9"), "{}", ended.err);
}

#[test]
fn tables_serve_a_service_on_one_machine_too_with_service_bus_and_without() {
    for account in ["localwithbus", "localwithout"] {
        let (home, azure) = (Home::new(), Azure::start(QUICK));
        let applications = azure.applications(3);
        let bus = azure.service_bus();
        let key = "a-key-of-a-service-with-tables";
        std::fs::write(home.path("state.db.keys"), key).unwrap();
        std::fs::set_permissions(home.path("state.db.keys"), PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = local(&home, &azure);
        command.env("STATE_STORE", "tables").env("AzureWebJobsStorage", azurite::connection_string(account));
        command.env("LOCAL_FUNCTION_KEYS", key);
        if account == "localwithbus" {
            command.env("ServiceBusConnection", bus.connection_string());
        }
        let service = Local::of(command, &home, &azure);
        service.import(&applications);
        let id = service.publish();
        let counts = service.until_rollout(&id, "completed");
        assert_eq!(counted(&counts, "succeeded"), 3, "{counts}");
        // One message to plan and three to refresh, by the one queue or by the other; and no file that nobody asked for.
        let sent = bus.stats("rollouts").taken + bus.stats("refreshes").taken;
        assert_eq!(sent >= 4, account == "localwithbus", "{sent}");
        assert_eq!(home.path("permafresh.db.queue").exists(), account == "localwithout");
        assert!(!home.path("permafresh.db").exists());
        let ended = service.stop("TERM");
        assert_no_secret(&ended, key);
    }
}

#[test]
fn deployments_are_looked_for_from_a_terminal() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let applications = azure.applications(3);
    let service = Local::start(&home, &azure);
    let dry = service.run(&["deployments", "sync", "--dry-run"], 0);
    assert!(
        dry.out.ends_with("3 deployments found in 3 subscriptions: 3 new, 0 back, 0 changed, 0 missing\n"),
        "{}",
        dry.out
    );
    for id in &applications {
        assert!(dry.out.lines().any(|line| line.starts_with(&id.to_string()) && line.ends_with(" new")), "{}", dry.out);
    }
    assert!(dry.err.contains("found so far"), "{}", dry.err);
    assert_eq!(service.run(&["deployments", "list", "--json"], 0).out.trim(), "[]", "a dry run changes nothing");

    let run: Value = serde_json::from_str(&service.run(&["deployments", "sync", "--json"], 0).out).unwrap();
    assert_eq!(
        (&run["dryRun"], &run["counts"]["new"], &run["state"]),
        (&json!(false), &json!(3), &json!("ended")),
        "{run}"
    );
    until("all three to be confirmed", || {
        let listed = service.call("GET", "/api/deployments", None).1["value"].as_array().unwrap().clone();
        (listed.len() == 3 && listed.iter().all(|known| known["confirmed"] == true)).then_some(())
    });
    azure.simulator.delete_application(&applications[1]);
    let run: Value =
        serde_json::from_str(&service.run(&["deployments", "sync", "--dry-run", "--json"], 0).out).unwrap();
    let differences = run["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{run}");
    assert_eq!(
        (&differences[0]["applicationId"], &differences[0]["difference"]),
        (&json!(applications[1]), &json!("missing"))
    );
    service.stop("TERM");
}

#[test]
fn a_version_that_was_seen_in_partner_center_is_linted_from_a_terminal() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    azure.simulator.add_provider("Microsoft.Web", &[("Microsoft.Web/sites/restart/Action", false)]);
    let partner = azure.partner_center();
    partner.publish(&Publication::live("1.4.0", "Microsoft.Web/sites/restart/Action"));
    partner.publish(&Publication::preview("1.5.0", "Microsoft.Web/sites/restrat/Action"));
    let endpoint = partner.endpoint().as_str().trim_end_matches('/').to_owned();
    let offers = json!([{"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard", "wantedVersion": "1.4.0"}]}]);
    let mut command = local(&home, &azure);
    command.env("OFFERS", offers.to_string()).env("WATCH_OFFERS_SCHEDULE", "*/1 * * * * *");
    command.env("PARTNER_CENTER_ENDPOINT", &endpoint).env("AZURE_AUTHORITY_HOST", &endpoint);
    command.env("PARTNER_CENTER_TENANT_ID", "5d0f7a10-0000-4000-8000-00000000f001");
    command.env("PARTNER_CENTER_CLIENT_ID", "0b1ec700-0000-4000-8000-00000000aa01");
    command.env("PARTNER_CENTER_CLIENT_SECRET", "simulated");
    let service = Local::of(command, &home, &azure);
    until("both versions to be seen", || {
        let (_, offers) = service.call("GET", "/api/offers", None);
        (offers["value"][0]["plans"][0]["versions"] == json!(["1.4.0", "1.5.0"])).then_some(())
    });
    let lint = |version: &str, more: &[&str], code: i32| {
        let named =
            ["lint", "--publisher", "fabrikam", "--offer", "ledger", "--plan", "standard", "--version", version];
        service.run(&[&named[..], more].concat(), code)
    };
    let good = lint("1.4.0", &["--strict"], 0);
    assert_eq!((good.out.as_str(), good.err.trim()), ("", "rejected: 0; 0 warnings"));
    let bad = lint("1.5.0", &[], 5);
    assert!(bad.out.contains("did you mean Microsoft.Web/sites/restart/Action?"), "{}", bad.out);
    assert!(bad.err.contains("rejected: 1; 0 warnings"), "{}", bad.err);
    let findings: Value = serde_json::from_str(&lint("1.5.0", &["--json"], 5).out).unwrap();
    assert_eq!(findings[0]["rule"], "noSuchAction");
    let unseen = lint("9.9.9", &[], 1);
    assert!(unseen.err.contains("404") && unseen.err.contains("\nhint: "), "{}", unseen.err);
    let key = service.key();
    assert_no_secret(&service.stop("TERM"), &key);
}

#[test]
fn a_handler_whose_host_is_killed_does_not_stay() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let service = Local::start(&home, &azure);
    home.another_handler(&[]);
    service.call("GET", "/api/rollouts", None);
    service.process.signal("KILL");
    service.process.end();
    until("the handler's end", || home.processes().is_empty().then_some(()));
}

#[test]
fn what_stops_the_start_is_said_with_a_hint() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    std::fs::write(home.path("file"), "").unwrap();
    let root = home.path("root");
    for (path, text) in permafresh::cli::script_root::FILES {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("%REFRESH_QUEUE%", "%NOBODY_SETS_IT%")).unwrap();
    }
    let start = |arguments: &[&str], store: &str| {
        let mut command = home.command(arguments);
        command.envs(azure.settings()).env("STATE_STORE", format!("sqlite:{store}"));
        let ended = run(command);
        assert_eq!(ended.out, "", "{}", ended.err);
        assert!(ended.err.lines().last().unwrap().starts_with("hint: "), "{}", ended.err);
        home.assert_left();
        (ended.code.unwrap(), ended.err)
    };
    for (arguments, store, code, said) in [
        (&["local", "--port", &port][..], "state.db", 1, format!("could not listen on 127.0.0.1:{port}")),
        (&["local", "--port", "0"], "nowhere/state.db", 1, "nowhere".to_owned()),
        (&["local", "--port", "0"], "file/state.db", 1, "file/state.db.keys".to_owned()),
        (&["local", "--port", "0"], "/proc/state.db", 1, "/proc/state.db.keys".to_owned()),
        (
            &["local", "--port", "0", "--root", "root"],
            "state.db",
            2,
            "%NOBODY_SETS_IT% is not among the app settings".to_owned(),
        ),
    ] {
        let (ended, err) = start(arguments, store);
        assert_eq!(ended, code, "{err}");
        assert!(err.contains(&said), "{said} is not in\n{err}");
    }
}

#[test]
fn every_bad_setting_is_named_before_anything_is_made() {
    let home = Home::new();
    let mut command = home.command(&["local", "--port", "0"]);
    command.envs([
        ("MODE", "maybe"),
        ("POLL_SCHEDULE", "every now and then"),
        ("ARM_ENDPOINT", "http://management.azure.com"),
        ("ARM_MAX_CONCURRENCY", "0"),
        ("OFFERS", "[{}]"),
        ("LOCAL_FUNCTION_KEYS", "a-key-that-nobody-may-see"),
        ("RETENTION_DAYS", "ever"),
    ]);
    let ended = run(command);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.err);
    for name in ["MODE", "POLL_SCHEDULE", "ARM_ENDPOINT", "ARM_MAX_CONCURRENCY", "OFFERS", "RETENTION_DAYS"] {
        assert!(ended.err.contains(name), "{name} is not in\n{}", ended.err);
    }
    assert!(!ended.err.contains("a-key-that"), "{}", ended.err);
    assert_eq!(std::fs::read_dir(home.path("")).unwrap().count(), 0);
    home.assert_left();
}

#[test]
fn a_store_that_is_not_ours_stops_the_start_and_is_left_alone() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let text = "no database at all, but long enough to be asked for its header\n".repeat(20);
    std::fs::write(home.path("text.db"), &text).unwrap();
    // A good one, and then one of a version to come.
    let mut command = local(&home, &azure);
    command.env("STATE_STORE", "sqlite:newer.db").env("LOCAL_FUNCTION_KEYS", "some-key-of-ours");
    let service = Local::of(command, &home, &azure);
    service.stop("TERM");
    let newer = rusqlite::Connection::open(home.path("newer.db")).unwrap();
    newer.pragma_update(None, "user_version", 999).unwrap();
    drop(newer);
    for (store, said) in [("text.db", "not a database"), ("newer.db", "written by a newer version of permafresh")] {
        let mut command = local(&home, &azure);
        command.env("STATE_STORE", format!("sqlite:{store}"));
        let ended = run(command);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.contains(said) && ended.err.contains(store), "{}", ended.err);
        assert!(ended.err.lines().last().unwrap().starts_with("hint: "), "{}", ended.err);
        home.assert_left();
    }
    assert_eq!(std::fs::read_to_string(home.path("text.db")).unwrap(), text);
}

#[test]
fn without_tokens_refreshes_wait_and_succeed_later() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let applications = azure.applications(3);
    let (asked, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (token, expires) = azure.simulator.issue_token();
    let good = json!({"access_token": token, "expires_on": expires.timestamp().to_string(),
        "resource": "https://management.azure.com", "token_type": "Bearer"});
    let bad =
        [(500, "broken".to_owned()), (200, "<html>no token".to_owned()), (200, r#"{"access_token": 7}"#.to_owned())];
    let (turn, repaired) = (Arc::clone(&asked), Arc::clone(&works));
    let identity = azure.serve(move || {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        if repaired.load(Ordering::SeqCst) { (200, good.to_string()) } else { bad[turn % bad.len()].clone() }
    });
    let mut command = local(&home, &azure);
    command.env("IDENTITY_ENDPOINT", format!("{identity}/msi/token"));
    let service = Local::of(command, &home, &azure);
    service.import(&applications);
    let id = service.publish();
    until("a failure of each", || {
        let refreshes = service.refreshes(&id);
        let failed = refreshes.iter().filter(|refresh| refresh["error"]["code"] == "NoToken").count();
        (failed == applications.len()).then_some(())
    });
    works.store(true, Ordering::SeqCst);
    let counts = service.until_rollout(&id, "completed");
    assert_eq!((counted(&counts, "succeeded"), counted(&counts, "total")), (3, 3), "{counts}");
    assert!(asked.load(Ordering::SeqCst) > 1);
    assert_eq!(azure.simulator.stats().refused_tokens, 0);
    let key = service.key();
    assert_no_secret(&service.stop("TERM"), &key);
}

#[test]
fn an_azure_that_cannot_be_reached_fails_and_hands_over_nobody() {
    let (home, azure) = (Home::new(), Azure::start(QUICK));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = local(&home, &azure);
    command.env("ARM_ENDPOINT", format!("http://{nobody}"));
    let service = Local::of(command, &home, &azure);
    service.import(&[application(1), application(2)]);
    let id = service.publish();
    let refreshes = until("the first failures", || {
        let refreshes = service.refreshes(&id);
        let met = refreshes.len() == 2 && refreshes.iter().all(|refresh| refresh["error"]["code"].is_string());
        met.then_some(refreshes)
    });
    for refresh in refreshes {
        assert_eq!(refresh["state"], "queued", "{refresh}");
        assert!(refresh["nextLook"].is_string() && refresh["command"].is_null(), "{refresh}");
    }
    let rollout = service.rollout(&id);
    assert_eq!((&rollout["state"], counted(&rollout["counts"], "queued")), (&json!("running"), 2), "{rollout}");
    // It stops at once, whatever is still to be done.
    service.stop("INT");
}
