//! What comes from outside may be anything: it is taken, or refused with the name of what is wrong, and never a panic, a
//! 500 or a call to another host. Properties of the pure parts are beside those; these go through the router.
//!
//! `cargo fuzz` needs a nightly compiler, which this project does not ask of anybody: these run in each test run, and for as
//! long as wanted with `PROPTEST_CASES`. What once failed is kept in `proptest-regressions/` and tried first.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::arm::host_rule::ArmHost;
use permafresh::arm::retry_after::retry_after;
use permafresh::functions::wire::envelope;
use permafresh::ncrontab::Schedule;
use permafresh::queue::Message;
use permafresh::rollout::{DeploymentKey, RolloutId, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::time::Duration;
use tokio::runtime::Runtime;

use crate::world::{SIG, World, application, send};

/// Cases of a property that goes through the router.
const CASES: u32 = 128;

/// Tries a property of a whole service: one world, many requests.
fn through_the_router<T: Debug, S: Strategy<Value = T>>(
    inputs: S,
    property: impl Fn(&Runtime, &World, T) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    runtime.block_on(world.deploy(2));
    let mut config = Config::with_source_file(file!());
    config.cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    // Shrinking asks the same service again, which has changed by then: it is worth little, and is kept short.
    config.max_shrink_iters = 200;
    TestRunner::new(config).run(&inputs, |input| property(&runtime, &world, input)).unwrap();
}

fn call(runtime: &Runtime, world: &World, request: Request<Body>) -> (StatusCode, Value) {
    let (status, body) = runtime.block_on(send(&world.router(), request));
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

/// A refusal names what is wrong, and says so of something that the caller can find.
fn names_a_field(answer: &Value) -> Result<(), TestCaseError> {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    prop_assert!(!errors.is_empty(), "a refusal without a field: {}", answer);
    for error in errors {
        prop_assert!(error["field"].as_str().is_some_and(|field| !field.is_empty()), "{}", error);
        prop_assert!(error["why"].as_str().is_some_and(|why| !why.is_empty()), "{}", error);
    }
    Ok(())
}

/// Times at the ends of what can be said, and in the middle.
fn any_time() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            json!("0000-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59.999999999Z"),
            json!("+262142-12-31T23:59:59Z"),
            json!("-262143-01-01T00:00:00Z"),
            json!("2026-02-30T00:00:00Z"),
            json!("2026-03-10T12:00:60Z"),
            json!("2026-03-10"),
            json!(1_773_144_000),
            json!(null),
        ]),
        (-100_000_i64..100_000).prop_map(|minutes| {
            let noon: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
            json!(noon + chrono::TimeDelta::minutes(minutes))
        }),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        any_time(),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-zA-Z]{1,8}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object in which each member is as it should be, something else, or not there.
fn spoilt(sound: Value) -> impl Strategy<Value = Value> {
    let members: Vec<_> = sound.as_object().unwrap().clone().into_iter().collect();
    members
        .into_iter()
        .map(|(name, value)| {
            prop_oneof![4 => Just(Some(value)), 1 => any_json().prop_map(Some), 1 => any_time().prop_map(Some), 1 => Just(None)]
                .prop_map(move |value| value.map(|value| (name.clone(), value)))
        })
        .collect::<Vec<_>>()
        .prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>()))
}

#[test]
fn a_notification_of_any_kind_is_taken_or_refused_by_name() {
    let sound = json!({
        "eventType": "PUT", "applicationId": application(1), "eventTime": "2026-03-10T12:00:00Z",
        "provisioningState": "Succeeded", "error": {"code": "Conflict", "message": "busy"},
        "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"},
    });
    let bodies = prop_oneof![4 => spoilt(sound).prop_map(|body| body.to_string()), 1 => ".{0,80}", 1 => any_json().prop_map(|body| body.to_string())];
    let sigs = select(vec![SIG.to_owned(), "%00".to_owned(), String::new()]);
    through_the_router((bodies, sigs), |runtime, world, (body, sig)| {
        let (status, answer) = call(runtime, world, post(&format!("/api/notification/resource?sig={sig}"), body));
        match status {
            StatusCode::OK => prop_assert_eq!(&sig, SIG),
            StatusCode::BAD_REQUEST => names_a_field(&answer)?,
            StatusCode::UNAUTHORIZED => prop_assert_ne!(&sig, SIG),
            _ => prop_assert!(false, "{}: {}", status, answer),
        }
        // What it leads to ends as well.
        runtime.block_on(world.run_due());
        Ok(())
    });
}

#[test]
fn a_publish_of_any_kind_is_taken_or_refused_by_name_and_never_half_done() {
    let strategy = json!({
        "canaries": 1, "waves": ["10%", 500, "100%"], "maxFailures": "5%", "maxInFlight": 2_000,
        "pauseBetweenWaves": "PT10M", "approveLastWave": true,
    });
    let sound = json!({
        "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.5.0", "target": "live",
        "audience": "all", "purpose": "rollOut", "submissionId": "1", "publishedAt": "2026-03-10T12:00:00Z",
        "supersede": true, "note": "of the spring", "scope": [application(1)],
    });
    let bodies =
        (spoilt(sound), prop_oneof![2 => spoilt(strategy), 1 => any_json()]).prop_map(|(mut body, strategy)| {
            body["strategy"] = strategy;
            body.to_string()
        });
    let bodies = prop_oneof![5 => bodies, 1 => any_json().prop_map(|body| body.to_string()), 1 => ".{0,80}"];
    through_the_router(bodies, |runtime, world, body| {
        let before = runtime.block_on(world.get("/api/rollouts?top=1000"))["value"].as_array().unwrap().len();
        let (status, answer) = call(runtime, world, post("/api/offer-publishes", body));
        let after = runtime.block_on(world.get("/api/rollouts?top=1000"))["value"].as_array().unwrap().len();
        match status {
            StatusCode::ACCEPTED => prop_assert_eq!(after, before + 1),
            StatusCode::OK | StatusCode::CONFLICT => prop_assert_eq!(after, before),
            StatusCode::BAD_REQUEST => {
                prop_assert_eq!(after, before);
                names_a_field(&answer)?;
            }
            _ => prop_assert!(false, "{}: {}", status, answer),
        }
        Ok(())
    });
}

#[test]
fn an_import_of_any_kind_says_of_every_row_what_became_of_it() {
    let cell = prop_oneof![
        select(vec![
            String::new(),
            application(1).to_string(),
            application(7).to_string(),
            "fabrikam".into(),
            "true".into()
        ]),
        "[ -~]{0,24}",
        any::<String>(),
    ];
    let columns =
        ["applicationId", "publisher", "offer", "plan", "version", "preview", "tenantId", "maintenanceWindows"];
    let rows = proptest::collection::vec(proptest::collection::vec(cell, columns.len()), 0..6);
    through_the_router((rows, any::<bool>(), ".{0,60}"), move |runtime, world, (rows, is_crlf, rubbish)| {
        let mut writer = csv::WriterBuilder::new()
            .terminator(if is_crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
            .from_writer(Vec::new());
        writer.write_record(columns).unwrap();
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        let put = |body: Vec<u8>| {
            Request::put("/api/deployments").header("content-type", "text/csv").body(Body::from(body)).unwrap()
        };
        let (status, answer) = call(runtime, world, put(writer.into_inner().unwrap()));
        prop_assert_eq!(status, StatusCode::OK, "{}", answer);
        let rejected = answer["rejected"].as_array().unwrap();
        let taken = answer["imported"].as_u64().unwrap() + answer["updated"].as_u64().unwrap();
        prop_assert_eq!(taken + rejected.len() as u64, rows.len() as u64, "{}", answer);
        for row in rejected {
            prop_assert!(row["line"].as_u64().is_some_and(|line| line >= 2), "{}", row);
            prop_assert!(row["why"].as_str().is_some_and(|why| !why.is_empty()), "{}", row);
        }
        let (status, answer) = call(runtime, world, put(rubbish.into_bytes()));
        match status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => names_a_field(&answer)?,
            _ => prop_assert!(false, "{}: {}", status, answer),
        }
        Ok(())
    });
}

#[test]
fn what_an_export_says_is_imported_as_it_was() {
    let words = "[ -~]{1,30}";
    through_the_router((words, words, 0_usize..50), |runtime, world, (location, version, number)| {
        let row = json!([{"applicationId": application(number), "location": location, "version": version}]);
        let request = Request::put("/api/deployments").header("content-type", "application/json");
        let (status, answer) = call(runtime, world, request.body(row.to_string().into()).unwrap());
        prop_assert_eq!((status, &answer["rejected"]), (StatusCode::OK, &json!([])));
        let key = application(number).key();
        let shown = || runtime.block_on(world.get(&format!("/api/deployments/{key}")));
        let before = shown();
        let export = Request::get("/api/deployments?format=csv").body(Body::empty()).unwrap();
        let (status, csv) = runtime.block_on(send(&world.router(), export));
        prop_assert_eq!(status, StatusCode::OK);
        let request = Request::put("/api/deployments").header("content-type", "text/csv");
        let (status, answer) = call(runtime, world, request.body(csv.into()).unwrap());
        prop_assert_eq!((status, &answer["rejected"]), (StatusCode::OK, &json!([])), "{}", answer);
        let after = shown();
        for member in ["location", "version", "plan", "confirmed"] {
            prop_assert_eq!(&after[member], &before[member], "{}", member);
        }
        Ok(())
    });
}

fn any_message() -> impl Strategy<Value = Message> {
    let rollout = any::<u128>().prop_map(|id| RolloutId(uuid::Uuid::from_u128(id)));
    let key = (0_usize..1_000).prop_map(|number| -> DeploymentKey { application(number).key() });
    prop_oneof![
        rollout.clone().prop_map(|rollout_id| Message::PlanRollout { rollout_id }),
        (rollout, key.clone()).prop_map(|(rollout_id, key)| Message::Refresh { rollout_id, key }),
        key.prop_map(|key| Message::CheckDeployment { key }),
        ".*".prop_map(|run| Message::SyncDeployments { run }),
        ".*".prop_map(|tenant_id| Message::ConsentOfTenant { tenant_id }),
        ".*".prop_map(|relationship_id| Message::LookAtRelationship { relationship_id }),
        (0_usize..10).prop_map(|at_most| Message::PollShare { at_most }),
        ".*".prop_map(|note| Message::Tell { note }),
    ]
}

fn in_envelope(body: &[u8]) -> Value {
    json!({"Data": {"message": STANDARD.encode(body)}, "Metadata": {"DeliveryCount": "1", "sys": {"MethodName": "x"}}})
}

#[test]
fn a_message_of_any_kind_goes_through_its_envelope_unchanged_and_through_its_function() {
    let extra = proptest::collection::vec(("new[a-z]{0,5}", any_json()), 0..3);
    through_the_router((any_message(), extra), |runtime, world, (message, extra)| {
        let mut body: Map<String, Value> = serde_json::from_str(&message.to_body()).unwrap();
        body.extend(extra);
        let sent = in_envelope(Value::Object(body).to_string().as_bytes()).to_string();
        let read = envelope::message(&sent.clone().into());
        prop_assert_eq!(read.unwrap().0, message.clone(), "a newer version may say more");
        let function =
            if matches!(message, Message::PlanRollout { .. }) { "/PlanRollout" } else { "/RefreshDeployment" };
        let (status, answer) = call(runtime, world, post(function, sent));
        prop_assert_eq!(status, StatusCode::OK, "{}: {}", message.to_body(), answer);
        Ok(())
    });
}

#[test]
fn an_envelope_of_any_kind_is_worked_off_or_given_back_and_its_answer_is_never_empty() {
    let status = spoilt(json!({"Last": "2026-03-10T12:00:00Z", "Next": "2026-03-10T12:00:15Z", "LastUpdated": "x"}));
    let timer = (status, any::<bool>()).prop_map(|(status, is_late)| {
        json!({"Data": {"tick": {"Schedule": {}, "ScheduleStatus": status, "IsPastDue": is_late}}, "Metadata": {}})
    });
    let bytes = proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| in_envelope(&bytes));
    let envelopes = prop_oneof![2 => timer, 1 => bytes, 1 => any_json()];
    let functions =
        select(vec!["/PlanRollout", "/RefreshDeployment", "/PollOperations", "/ScheduledRefresh", "/SyncDeployments"]);
    through_the_router((envelopes, functions), |runtime, world, (envelope, function)| {
        let (status, body) = runtime.block_on(send(&world.router(), post(function, envelope.to_string())));
        prop_assert!(matches!(status, StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR), "{}: {}", status, body);
        prop_assert!(!body.is_empty());
        prop_assert!(!body.contains("error of the program"), "{} panicked over {}", function, envelope);
        Ok(())
    });
}

proptest! {
    #[test]
    fn a_url_that_is_admitted_goes_to_the_endpoint_byte_for_byte(
        scheme in select(vec!["https", "http", "HTTPS", "ftp", ""]),
        user in select(vec!["", "management.azure.com@", "a:b@"]),
        host in prop_oneof![
            3 => Just("management.azure.com".to_owned()),
            1 => Just("MANAGEMENT.azure.com".to_owned()),
            1 => Just("management.azure.com.evil.example".to_owned()),
            1 => "[a-z.@:%\\\\/#?-]{0,20}",
        ],
        port in select(vec!["", ":443", ":8443", ":", ":0443"]),
        rest in "[!-~]{0,40}",
    ) {
        let rule = ArmHost::new(&"https://management.azure.com".parse().unwrap()).unwrap();
        for url in [format!("{scheme}://{user}{host}{port}/{rest}"), format!("{user}{host}{port}{rest}"), format!("/{rest}")] {
            if let Ok(uri) = rule.admit(&url) {
                prop_assert_eq!(uri.scheme_str(), Some("https"));
                prop_assert_eq!(uri.authority().unwrap().as_str(), "management.azure.com");
                let sent = uri.path_and_query().unwrap().as_str();
                prop_assert!(url.contains(sent.trim_start_matches('/')), "{} became {}", url, sent);
            }
        }
    }

    #[test]
    fn a_wait_in_seconds_is_read_as_it_is_said_and_a_date_as_the_time_until_then(seconds in 0_u32.., date in 0_u32..10_000_000, text in "[ -~]{0,20}") {
        let at: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(text).unwrap());
            retry_after(&headers, at)
        };
        // No wait is longer than a year.
        let said = Duration::from_secs(u64::from(seconds).min(366 * 86_400));
        prop_assert_eq!(wait(&seconds.to_string()), Some(said));
        let then = at + Duration::from_secs(date.into());
        prop_assert_eq!(wait(&httpdate::fmt_http_date(then.into())), Some(Duration::from_secs(date.into())));
        if let Some(wait) = wait(&text) {
            prop_assert!(text.chars().any(|char| char.is_ascii_digit()), "{:?} is no wait of {:?}", text, wait);
        }
    }

    #[test]
    fn a_schedule_that_is_read_always_goes_forward_and_its_text_reads_the_same(
        text in prop_oneof![
            "[0-9*/,-]{1,4} [0-9*/,-]{1,4} [0-9*/,-]{1,4} [0-9*/,-]{1,4} [0-9*/,-]{1,4} ([0-6*]|mon|FRI-mon)",
            "(\\*|[0-9]|[1-5][0-9]|\\*/[0-9]{1,2}) (\\*|[0-9]|[1-5][0-9]) (\\*|[0-9]|1[0-9]) \\* \\* (\\*|[0-6]|Mon-Fri)",
            "[0-9]{1,2}:[0-9]{2}:[0-9]{2}",
            ".{0,30}",
        ],
        minutes in 0_i64..10_000_000,
    ) {
        if let Ok(schedule) = Schedule::parse(&text) {
            let from = "2020-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + chrono::TimeDelta::minutes(minutes);
            let mut at = from;
            for _ in 0..3 {
                let Some(next) = schedule.next_after(at) else { break };
                prop_assert!(next > at, "{:?} goes from {} to {}", text, at, next);
                // Nothing lies between that was passed over.
                let just_before = next - chrono::TimeDelta::milliseconds(1);
                if just_before > at && !text.contains(':') {
                    prop_assert_eq!(schedule.next_after(just_before), Some(next));
                }
                at = next;
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_messages_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Message::from_body(&bytes);
        let _ = envelope::message(&bytes.clone().into());
        let _ = envelope::timer_due(&bytes.into());
    }
}
