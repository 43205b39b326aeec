//! What an operator sees of the service from outside: lines that say what they are about, spans and metrics at a collector,
//! and nowhere a secret.

mod collector;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::telemetry::{Format, handler_lines};
use serde_json::{Value, json};

use self::collector::{Collector, Span};
use crate::local::service::{Azure, Local, local};
use crate::log::{Log, on_this_thread};
use crate::processes::{Home, signal, until};
use crate::world::{World, one_wave};

/// The lines of a log, which are JSON.
fn lines(log: &Log) -> Vec<BTreeMap<String, Value>> {
    log.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A rollout of four with everything in it: a success, a failure, a throttled subscription, a refusal, and a pause; and an
/// invocation that fails.
async fn eventful(world: &World) -> Value {
    let ids = world.deploy(4).await;
    let failed = Acceptance::ending(Outcome::failed("ScopeLocked", "it is locked"));
    world.simulator.on_post(&ids[0], [OnPost::Accept(failed)]);
    world.simulator.on_post(&ids[1], [OnPost::Reply(Reply::throttled(30))]);
    let strategy = json!({"canaries": 0, "waves": ["100%"], "maxFailures": 0});
    let id = world.publish(json!({"strategy": strategy})).await;
    let rollout = world.settle(id, Duration::from_secs(3_600)).await;
    // What Azure has accepted is followed to its end all the same.
    for _ in 0..20 {
        world.advance(Duration::from_secs(15));
        world.run_due().await;
    }
    let (status, _) = world.post("/RefreshDeployment", &json!({"Data": {"message": "e30="}})).await;
    assert_eq!(status, 500);
    rollout
}

fn text<'a>(line: &'a BTreeMap<String, Value>, field: &str) -> &'a str {
    line.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn every_line_says_what_it_is_about_and_what_followed_from_a_publish_bears_one_trace() {
    let log = Log::default();
    let _logged = on_this_thread(handler_lines(Format::Json, log.clone(), log.clone()));
    let world = World::new().await;
    let rollout = eventful(&world).await;

    let lines = lines(&log);
    assert!(lines.len() > 10, "{lines:?}");
    let of_refreshes: Vec<_> = lines.iter().filter(|line| line.contains_key("refresh.state")).collect();
    assert!(of_refreshes.len() >= 8, "{lines:?}");
    for line in &of_refreshes {
        for field in ["rollout.id", "deployment.key", "application.id", "invocation.id", "http.route", "trace.id"] {
            assert!(!text(line, field).is_empty(), "{field}: {line:?}");
        }
        assert_eq!(line["rollout.id"], rollout["id"]);
        assert!(line["refresh.attempt"].is_u64(), "{line:?}");
    }
    // The publish, the planning and each POST; the looks are the timer's.
    let publish = lines.iter().find(|line| text(line, "message").ends_with("is stored")).unwrap();
    for route in ["/PlanRollout", "/RefreshDeployment"] {
        let mut of_route =
            lines.iter().filter(|line| line["http.route"] == route && line.contains_key("rollout.id")).peekable();
        assert!(of_route.peek().is_some(), "{route}: {lines:?}");
        for line in of_route {
            // What a throttled message sent again comes from the refresh before it, and so on.
            assert_eq!(line["trace.id"], publish["trace.id"], "{line:?}");
        }
    }
    let failed = lines.iter().find(|line| text(line, "message").contains("/RefreshDeployment failed")).unwrap();
    assert_eq!(failed["level"], "ERROR");
}

#[tokio::test]
async fn the_ready_queries_ask_for_fields_that_lines_carry() {
    let log = Log::default();
    let _logged = on_this_thread(handler_lines(Format::Json, log.clone(), log.clone()));
    let world = World::new().await;
    eventful(&world).await;
    let lines = lines(&log);
    let carried: BTreeSet<&str> = lines.iter().flat_map(|line| line.keys().map(String::as_str)).collect();

    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/queries.kql");
    let queries = std::fs::read_to_string(path).unwrap();
    let asked: BTreeSet<&str> =
        queries.split("line[\"").skip(1).map(|rest| rest.split_once("\"]").unwrap().0).collect();
    assert!(asked.len() > 10, "{asked:?}");
    assert_eq!(asked.difference(&carried).collect::<Vec<_>>(), [&""; 0], "no line carries them");
    // The values that queries compare with are values that lines have.
    let states: BTreeSet<&str> = lines.iter().map(|line| text(line, "refresh.state")).collect();
    for state in ["succeeded", "queued", "running"] {
        assert!(queries.contains(&format!("\"{state}\"")) && states.contains(state), "{state}: {states:?}");
    }
    let throttled = lines.iter().find(|line| line.contains_key("delay_ms")).unwrap();
    assert_eq!((text(throttled, "level"), throttled["http.response.status_code"].as_u64()), ("INFO", Some(429)));
    let told = lines.iter().find(|line| line.contains_key("error.actor")).unwrap();
    assert_eq!((text(told, "error.actor"), text(told, "error.code")), ("customer", "ScopeLocked"));
    assert!(lines.iter().any(|line| text(line, "rollout.state") == "paused" && text(line, "message").contains(": ")));
}

/// The settings that point a service to a collector.
fn exporting(endpoint: &str) -> [(&'static str, String); 5] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=the-key-of-the-collector".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
    ]
}

fn parent<'a>(spans: &'a [Span], child: &Span) -> Option<&'a Span> {
    spans.iter().find(|span| span.id == child.parent && span.trace == child.trace)
}

#[test]
fn spans_and_metrics_reach_a_collector_and_a_publish_is_the_parent_of_what_follows_from_it() {
    let (home, azure) = (Home::new(), Azure::start(Duration::from_millis(200)));
    let collector = Collector::start(&azure);
    let mut command = local(&home, &azure);
    command.envs(exporting(&collector.endpoint));
    let service = Local::of(command, &home, &azure);
    service.import(&azure.applications(3));
    azure.simulator.on_post(&crate::local::service::application(2), [OnPost::Reply(Reply::throttled(1))]);
    let id = service.publish_by(&one_wave());
    service.until_rollout(&id, "completed");

    let spans = until("the spans of a whole refresh", || {
        let spans = collector.spans();
        let looked = spans.iter().filter(|span| span.name == "poll" && parent(&spans, span).is_some()).count();
        let posted =
            spans.iter().filter(|span| span.name == "refreshPermissions" && parent(&spans, span).is_some()).count();
        (looked >= 3 && posted >= 4).then_some(spans)
    });
    let publish = spans.iter().find(|span| span.name == "POST /api/offer-publishes").unwrap();
    assert_eq!(publish.attributes["http.response.status_code"], "202");
    let planned = spans.iter().find(|span| span.name == "PlanRollout" && span.trace == publish.trace).unwrap();
    assert_eq!((planned.parent, planned.attributes["rollout.id"].as_str()), (publish.id, id.as_str()));
    let posts: Vec<_> = spans.iter().filter(|span| span.name == "refreshPermissions").collect();
    for post in &posts {
        let step = parent(&spans, post).unwrap();
        assert_eq!((step.name.as_str(), step.trace), ("RefreshDeployment", publish.trace));
        assert!(
            step.attributes["refresh.attempt"].parse::<u32>().unwrap() >= 1
                && step.attributes.contains_key("deployment.key")
        );
    }
    let statuses: BTreeSet<_> =
        posts.iter().map(|post| post.attributes["http.response.status_code"].as_str()).collect();
    assert_eq!(statuses, BTreeSet::from(["202", "429"]));
    // What was throttled came back by a message that it sent itself.
    let again = spans.iter().filter(|span| span.name == "RefreshDeployment" && span.trace == publish.trace);
    assert!(again.clone().any(|span| parent(&spans, span).is_some_and(|before| before.name == "RefreshDeployment")));
    assert!(
        spans
            .iter()
            .filter(|span| span.name == "poll")
            .all(|poll| parent(&spans, poll).is_none_or(|look| look.name == "look"))
    );
    // Azure is told whose call it is.
    let header = |name: &str| -> BTreeSet<String> {
        let requests = azure.simulator.requests();
        requests.iter().filter_map(|request| Some(request.headers.get(name)?.to_str().unwrap().to_owned())).collect()
    };
    let told = header("traceparent");
    assert!(posts.iter().all(|post| told.iter().any(|trace| trace.contains(&format!("{:016x}", post.id)))), "{told:?}");

    let wanted = [
        "permafresh.arm.call.duration",
        "permafresh.arm.throttles",
        "permafresh.poll.lag",
        "permafresh.queue.age",
        "permafresh.refreshes.ended",
    ];
    until("the metrics", || wanted.iter().all(|name| collector.metrics().contains(*name)).then_some(()));
    // The gauge shows what is open, and only that: of a repair two are done, and Azure takes its time with the third.
    let long = Acceptance { duration: Some(Duration::from_secs(3_600)), ..Acceptance::default() };
    azure.simulator.on_post(&crate::local::service::application(1), [OnPost::Accept(long)]);
    let body = json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0", "target": "live",
        "purpose": "repair", "strategy": one_wave()});
    let (status, repair) = service.call("POST", "/api/rollouts", Some(&body));
    assert_eq!(status, 202, "{repair}");
    let shows = |shown: &[(BTreeMap<String, String>, i64)]| -> BTreeMap<String, i64> {
        let of_repair = shown.iter().filter(|(of, _)| repair["id"] == of["rollout.id"].as_str());
        of_repair.filter(|(_, count)| *count > 0).map(|(of, count)| (of["refresh.state"].clone(), *count)).collect()
    };
    let expected = BTreeMap::from([("running".to_owned(), 1), ("succeeded".to_owned(), 2)]);
    let last =
        until("the gauge", || collector.gauge("permafresh.refreshes").pop().filter(|last| shows(last) == expected));
    assert!(last.iter().all(|(of, _)| of["rollout.id"] != id), "{last:?}");

    let resource = collector.resource();
    assert_eq!(
        (resource["service.name"].as_str(), resource["deployment.environment.name"].as_str()),
        ("permafresh", "test")
    );
    let key = service.key();
    service.stop("INT");

    assert!(collector.headers().iter().all(|headers| headers["api-key"] == "the-key-of-the-collector"));
    let tokens = header("authorization");
    assert!(!tokens.is_empty());
    let mut secrets: Vec<String> = tokens.iter().map(|token| token.trim_start_matches("Bearer ").to_owned()).collect();
    secrets.extend(["the-old-sig-of-before", "the-new-sig-of-today", "the-key-of-the-collector"].map(str::to_owned));
    secrets.extend([key, azure.simulator.identity_header().to_owned()]);
    // The certificate and the signature of a polling URL.
    secrets.extend(["MIIA", "&s=", "&c=", "?t=", "operationStatuses", "operationResults"].map(str::to_owned));
    for secret in secrets {
        assert!(!secret.is_empty() && !collector.holds(&secret), "{secret} was exported");
    }
}

#[test]
fn a_callers_trace_goes_on_and_what_is_left_is_sent_when_a_handler_is_told_to_end() {
    let (home, azure) = (Home::new(), Azure::start(Duration::from_millis(200)));
    let collector = Collector::start(&azure);
    let mut command = local(&home, &azure);
    command.envs(exporting(&collector.endpoint)).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let service = Local::of(command, &home, &azure);
    let handler = home.another_handler(&[]);
    let (trace, span) = (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128, 0x00f0_67aa_0ba9_02b7_u64);
    // Not sampled, as the Functions host says it where nobody else draws spans.
    let traceparent = format!("00-{trace:032x}-{span:016x}-00");
    let answer =
        azure.get_with(&format!("{}/api/rollouts", service.url), &service.key(), ("traceparent", &traceparent));
    assert_eq!(answer, 200);
    signal(handler.id, "TERM");
    let drawn = until("the span", || collector.spans().into_iter().find(|span| span.name == "GET /api/rollouts"));
    assert_eq!((drawn.trace, drawn.parent), (trace, span));
    service.stop("TERM");
}

#[test]
fn a_collector_that_is_gone_holds_up_nothing_and_is_told_once() {
    let (home, azure) = (Home::new(), Azure::start(Duration::from_millis(200)));
    let mut command = local(&home, &azure);
    command.envs(exporting("http://127.0.0.1:1"));
    let service = Local::of(command, &home, &azure);
    service.import(&azure.applications(2));
    let id = service.publish();
    let counts = service.until_rollout(&id, "completed");
    assert_eq!(counts["succeeded"], 2);
    until("the news", || service.process.err().contains("collector takes nothing").then_some(()));
    let ended = service.stop("INT");
    assert_eq!(ended.err.matches("collector takes nothing").count(), 1, "{}", ended.err);
}
