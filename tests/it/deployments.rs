//! Deployments: import, list, show, forget (design §8).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome, Reply};
use serde_json::{Value, json};

use crate::world::{World, application, one_wave};

const HOUR: Duration = Duration::from_secs(3_600);

async fn put(world: &World, content_type: &str, body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
    let request = Request::put("/api/deployments").header("content-type", content_type);
    let (status, body) = world.request(request.body(body.into().into()).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn import_csv(world: &World, csv: impl Into<Vec<u8>>) -> Value {
    let (status, result) = put(world, "text/csv", csv).await;
    assert_eq!(status, StatusCode::OK, "{result}");
    result
}

async fn show(world: &World, number: usize) -> Value {
    world.get(&format!("/api/deployments/{}", application(number).key())).await
}

async fn get(world: &World, path: &str) -> (StatusCode, Value) {
    let (status, body) = world.request(Request::get(path).body(String::new().into()).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

fn field(problem: &Value) -> &str {
    problem["errors"][0]["field"].as_str().unwrap_or_else(|| panic!("no field is named: {problem}"))
}

/// Lines of a CSV of deployments `from..to` of the usual plan, without their head.
fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.fold(String::new(), |mut csv, number| {
        writeln!(csv, "{},fabrikam,ledger,standard", application(number)).unwrap();
        csv
    })
}

#[tokio::test]
async fn json_rows_are_imported_and_shown_as_they_were_given() {
    let world = World::new().await;
    let tenant = "5d0f7a10-0000-4000-8000-00000000c001";
    let rows = json!([
        {"applicationId": application(0), "publisher": "Fabrikam", "offer": "Ledger-Preview", "plan": "Standard",
         "version": "1.4.0", "tenantId": tenant, "managedResourceGroupId": "/subscriptions/x/resourceGroups/mrg",
         "location": "westeurope", "colour": "red"},
        {"applicationId": application(1), "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "preview": true},
        {"applicationId": application(2), "publisher": "fabrikam", "offer": "ledger-preview", "plan": "standard", "preview": false},
    ]);
    let (status, result) = put(&world, "application/json; charset=utf-8", rows.to_string()).await;
    assert_eq!((status, &result), (StatusCode::OK, &json!({"imported": 3, "updated": 0, "rejected": []})));
    let first = show(&world, 0).await;
    let now = json!(world.now());
    let expected = json!({
        "key": application(0).key(), "applicationId": application(0), "publisher": "fabrikam", "offer": "ledger",
        "plan": "standard", "preview": true, "version": "1.4.0", "tenantId": tenant,
        "managedResourceGroupId": "/subscriptions/x/resourceGroups/mrg", "location": "westeurope", "confirmed": true,
        "createdAt": now, "updatedAt": now
    });
    assert_eq!(first, expected);
    assert_eq!((&show(&world, 1).await["preview"], &show(&world, 2).await["preview"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn what_cannot_be_read_in_a_row_is_named_by_its_member() {
    let world = World::new().await;
    let rows = json!([
        {"applicationId": 7}, {"applicationId": application(0), "tenantId": 5, "offer": []},
        {"applicationId": application(1), "preview": "perhaps"}, {"applicationId": application(2), "plan": null},
    ]);
    let (_, result) = put(&world, "application/json", rows.to_string()).await;
    let why = |at: usize| result["rejected"][at]["why"].as_str().unwrap_or_default().to_owned();
    assert_eq!(why(0), "applicationId: invalid type: integer `7`, expected a string");
    assert!(why(1).contains("tenantId: invalid type") && why(1).contains("offer: invalid type"), "{result}");
    assert_eq!(why(2), "preview: neither true nor false");
    assert_eq!((&result["imported"], why(3)), (&json!(1), String::new()), "{result}");
}

#[tokio::test]
async fn a_csv_may_come_from_any_spreadsheet_and_what_is_none_is_named() {
    let world = World::new().await;
    for (number, delimiter) in [';', '\t'].into_iter().enumerate() {
        let csv = format!("\u{feff}applicationId,publisher,offer,plan\r\n\"{}\",a,b,\"c\"\r\n", application(number));
        let result = import_csv(&world, csv.replace(',', &delimiter.to_string())).await;
        assert_eq!((&result["imported"], &result["rejected"]), (&json!(1), &json!([])), "{delimiter:?}: {result}");
        assert_eq!(show(&world, number).await["offer"], "b", "{delimiter:?}");
    }
    let utf16: Vec<u8> = "\u{feff}applicationId\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (body, words) in [
        (Vec::new(), "it is empty"),
        (b" \r\n".to_vec(), "it is empty"),
        (utf16, "it is UTF-16: save it as UTF-8"),
        (b"application\xffId\nx".to_vec(), "the first line of the CSV: it is not UTF-8"),
        (b"id;plan\nx;y".to_vec(), "no column applicationId"),
    ] {
        let (status, problem) = put(&world, "text/csv", body).await;
        assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, "body"), "{problem}");
        assert!(problem["errors"][0]["why"].as_str().unwrap().contains(words), "{words}: {problem}");
    }
    let (status, problem) = put(&world, "application/json", "").await;
    assert_eq!((status, &problem["errors"][0]["why"]), (StatusCode::BAD_REQUEST, &json!("it is empty")), "{problem}");
}

#[tokio::test]
async fn one_deployment_is_shown_with_the_wanted_version_and_what_becomes_of_its_latest_refresh() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let locked = OnPost::Accept(Acceptance::ending(Outcome::failed("ScopeLocked", "a lock")));
    world.simulator.on_post(&ids[0], [locked]);
    world.simulator.on_post(&ids[1], [OnPost::Reply(Reply::forbidden())]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let version = world.rollout(id).await["version"].clone();
    assert_eq!(show(&world, 2).await.get("latestRefresh"), None, "nothing is written of it yet");
    world.settle(id, HOUR).await;
    let [failed, handed_over, well] = [show(&world, 0).await, show(&world, 1).await, show(&world, 2).await];
    for shown in [&failed, &handed_over, &well] {
        let latest = &shown["latestRefresh"];
        assert_eq!((&shown["wantedVersion"], &latest["version"]), (&version, &version), "{shown}");
        assert_eq!((&latest["rolloutId"], &latest["rolloutState"]), (&json!(id), &json!("completed")), "{shown}");
    }
    let error = &failed["latestRefresh"]["error"];
    assert_eq!(
        (&error["actor"], &error["code"], &error["message"]),
        (&json!("customer"), &json!("ScopeLocked"), &json!("a lock"))
    );
    let by_hand = failed["byHand"]["command"].as_str().unwrap();
    assert!(by_hand.contains(&ids[0].name().to_string()) && by_hand.contains("targetVersion="), "{by_hand}");
    assert!(handed_over["latestRefresh"]["command"].is_string() && handed_over.get("byHand").is_none());
    assert_eq!((&well["latestRefresh"]["state"], well.get("byHand")), (&json!("succeeded"), None));
    let list = world.get("/api/deployments").await;
    assert!(list["value"].as_array().unwrap().iter().all(|one| one.get("latestRefresh").is_none()), "a list is quick");
}

#[tokio::test]
async fn csv_is_read_as_spreadsheets_write_it() {
    let world = World::new().await;
    let csv = format!(
        "\u{feff}colour,applicationId,publisher,offer,plan,location,preview\r\n\
         red,\"{}\",fabrikam,ledger,standard,\"West Europe, \"\"the\"\" first\",TRUE\r\n\
         \"many\r\ncolours\",  {}  ,fabrikam,ledger,standard,,\r\n",
        application(0),
        application(1).to_string().to_uppercase()
    );
    assert_eq!(import_csv(&world, csv).await, json!({"imported": 2, "updated": 0, "rejected": []}));
    let first = show(&world, 0).await;
    assert_eq!((&first["location"], &first["preview"]), (&json!("West Europe, \"the\" first"), &json!(true)));
    let second = show(&world, 1).await;
    assert_eq!((second.get("location"), &second["preview"]), (None, &json!(false)));
}

#[tokio::test]
async fn broken_rows_are_named_with_their_line_and_the_others_are_taken() {
    let world = World::new().await;
    for ends in ["\n", "\r\n"] {
        let csv = [
            "applicationId,publisher,offer,plan,preview,tenantId,location".to_owned(),
            format!("{},fabrikam,ledger,standard,,,", application(0)),
            "/subscriptions/7/nonsense,fabrikam,ledger,standard,,,".to_owned(),
            format!("{},fabrikam,,standard,,,", application(1)),
            format!("{},fabrikam,a/b,standard,,,", application(1)),
            format!("{},fabrikam,ledger,standard,maybe,,", application(1)),
            format!("{},fabrikam,ledger,standard,,not-a-guid,", application(1)),
            format!("{},fabrikam", application(1)),
            ",fabrikam,ledger,standard,,,".to_owned(),
            format!("{},fabrikam,ledger,standard,,,{}", application(1), "x".repeat(501)),
            format!("{},fabrikam,ledger,standard,,,", application(2)),
        ];
        let result = import_csv(&world, csv.join(ends)).await;
        let rejected: Vec<_> = result["rejected"].as_array().unwrap().iter().collect();
        let lines: Vec<_> = rejected.iter().map(|row| row["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10], "{ends:?} {result}");
        let words =
            ["applicationId", "belong", "offer", "preview", "tenantId", "2 fields", "applicationId", "location"];
        for (row, word) in rejected.iter().zip(words) {
            assert!(row["why"].as_str().unwrap().contains(word), "{word}: {row}");
        }
    }
    assert_eq!(world.get("/api/deployments").await["value"].as_array().unwrap().len(), 2);
    let rows = json!([{"applicationId": application(3)}, 7, {"applicationId": 7}, {"plan": "x"}, null]);
    let (_, result) = put(&world, "application/json", rows.to_string()).await;
    let lines: Vec<_> = result["rejected"].as_array().unwrap().iter().map(|row| &row["line"]).collect();
    assert_eq!((&result["imported"], lines), (&json!(1), vec![&json!(2), &json!(3), &json!(4), &json!(5)]), "{result}");
}

#[tokio::test]
async fn a_line_is_counted_as_an_editor_counts_it() {
    let world = World::new().await;
    let csv = "applicationId,location\r\n\r\nx,\"two\r\nlines\"\r\n\r\ny,\r\nz";
    for csv in [csv.to_owned(), csv.replace('\r', ""), format!("\u{feff}{csv}")] {
        let result = import_csv(&world, csv).await;
        let lines: Vec<_> = result["rejected"].as_array().unwrap().iter().map(|row| row["line"].clone()).collect();
        assert_eq!(lines, [json!(3), json!(6), json!(7)], "{result}");
    }
}

#[tokio::test]
async fn a_line_that_is_no_text_is_named_and_the_others_are_taken() {
    let world = World::new().await;
    let mut csv = format!("applicationId,location\n{},a\n{},", application(0), application(1)).into_bytes();
    csv.extend(b"\xff\xfe\n");
    csv.extend(format!("{},c\n", application(2)).bytes());
    let result = import_csv(&world, csv).await;
    assert_eq!((&result["imported"], &result["rejected"][0]["line"]), (&json!(2), &json!(3)), "{result}");
}

#[tokio::test]
async fn what_is_no_import_is_refused_by_name() {
    let world = World::new().await;
    let row = json!([{"applicationId": application(0)}]).to_string();
    for content_type in ["text/plain", "", "application/xml", "text/csvx", "multipart/form-data"] {
        let (status, problem) = put(&world, content_type, row.clone()).await;
        assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, "Content-Type"), "{content_type}");
    }
    for body in ["", "{", "{}", "null", "7", "[1,"] {
        let (status, problem) = put(&world, "application/json", body).await;
        assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, "body"), "{body}");
    }
    for csv in ["applicationid,plan\nx,y\n", "publisher,offer\n"] {
        let (status, problem) = put(&world, "text/csv", csv).await;
        assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, "body"), "{csv}");
        assert!(problem["errors"][0]["why"].as_str().unwrap().contains("applicationId"), "{problem}");
    }
    assert_eq!(world.get("/api/deployments").await["value"], json!([]));
    let nothing = json!({"imported": 0, "updated": 0, "rejected": []});
    assert_eq!(put(&world, "application/json", "[]").await, (StatusCode::OK, nothing.clone()));
    assert_eq!(import_csv(&world, "applicationId\n").await, nothing);
}

#[tokio::test]
async fn an_import_twice_changes_nothing_and_a_later_one_changes_only_what_it_says() {
    let world = World::new().await;
    let csv =
        format!("applicationId,publisher,offer,plan,location\n{},fabrikam,ledger,standard,north\n", application(0));
    import_csv(&world, csv.clone()).await;
    let before = show(&world, 0).await;
    world.advance(HOUR);
    assert_eq!(import_csv(&world, csv).await, json!({"imported": 0, "updated": 1, "rejected": []}));
    assert_eq!(show(&world, 0).await, before, "even updatedAt");
    let csv = format!("applicationId,version\n{},1.4.0\n", application(0));
    assert_eq!(import_csv(&world, csv).await["updated"], 1);
    let after = show(&world, 0).await;
    assert_eq!(
        (&after["location"], &after["plan"], &after["version"]),
        (&json!("north"), &json!("standard"), &json!("1.4.0"))
    );
    assert_eq!((&after["createdAt"], &after["updatedAt"]), (&before["createdAt"], &json!(world.now())));
}

#[tokio::test]
async fn rows_of_the_same_deployment_in_one_file_are_one_deployment_and_the_last_wins() {
    let world = World::new().await;
    let mut csv = "applicationId,publisher,offer,plan,location\n".to_owned();
    for number in 0..60 {
        let id = application(0).to_string();
        let id = if number % 2 == 0 { id } else { id.to_uppercase() };
        writeln!(csv, "{id},fabrikam,ledger,standard,place-{number}").unwrap();
    }
    assert_eq!(import_csv(&world, csv).await, json!({"imported": 1, "updated": 59, "rejected": []}));
    assert_eq!(world.get("/api/deployments").await["value"].as_array().unwrap().len(), 1);
    assert_eq!(show(&world, 0).await["location"], "place-59");
}

#[tokio::test]
async fn ten_thousand_rows_are_one_import_and_all_of_them_are_listed_page_by_page() {
    let world = World::new().await;
    let csv = format!("applicationId,publisher,offer,plan\n{}", lines(0..10_000));
    assert_eq!(import_csv(&world, csv.clone()).await, json!({"imported": 10_000, "updated": 0, "rejected": []}));
    assert_eq!(import_csv(&world, csv).await, json!({"imported": 0, "updated": 10_000, "rejected": []}));
    let mut keys = BTreeSet::new();
    let mut next = Some("/api/deployments?top=1000".to_owned());
    let mut pages = 0;
    while let Some(link) = next {
        let page = world.get(&link).await;
        for deployment in page["value"].as_array().unwrap() {
            assert!(keys.insert(deployment["key"].as_str().unwrap().to_owned()), "listed twice");
        }
        pages += 1;
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(keys.len(), 10_000);
    assert!((10..=11).contains(&pages), "{pages}");
}

#[tokio::test]
async fn the_same_rows_a_hundred_times_at_once_are_imported_once() {
    let world = World::new().await;
    let csv = format!("applicationId,publisher,offer,plan\n{}", lines(0..20));
    let answers = futures_util::future::join_all((0..100).map(|_| import_csv(&world, csv.clone()))).await;
    let sum = |member: &str| answers.iter().map(|answer| answer[member].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("imported"), sum("updated")), (20, 1_980));
    assert_eq!(world.get("/api/deployments").await["value"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_list_is_filtered_by_plan_and_its_links_keep_the_filter() {
    let world = World::new().await;
    let other = (10..13).map(|number| format!("{},fabrikam,ledger,premium\n", application(number))).collect::<String>();
    import_csv(&world, format!("applicationId,publisher,offer,plan\n{}{other}", lines(0..5))).await;
    let all = world.get("/api/deployments").await;
    assert_eq!((all["value"].as_array().unwrap().len(), all.get("nextLink")), (8, None));
    let mut next = Some("/api/deployments?publisher=Fabrikam&offer=ledger-preview&plan=standard&top=2".to_owned());
    let mut found = Vec::new();
    while let Some(link) = next {
        let page = world.get(&link).await;
        assert!(page["value"].as_array().unwrap().len() <= 2);
        found.extend(page["value"].as_array().unwrap().iter().map(|deployment| deployment["plan"].clone()));
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(found, vec![json!("standard"); 5]);
    let none = world.get("/api/deployments?publisher=fabrikam&offer=ledger&plan=none").await;
    assert_eq!(none, json!({"value": []}));
}

#[tokio::test]
async fn what_a_list_cannot_be_asked_is_refused_by_name() {
    let world = World::new().await;
    world.deploy(3).await;
    let page = world.get("/api/deployments?top=1").await;
    let link = page["nextLink"].as_str().unwrap();
    let continuation = link.split("continuation=").nth(1).unwrap();
    for (query, named) in [
        ("top=0", "top"),
        ("top=1001", "top"),
        ("top=many", "top"),
        ("top=", "top"),
        ("continuation=x", "continuation"),
        ("continuation=", "continuation"),
        ("plan=standard", "plan"),
        ("publisher=fabrikam&offer=ledger", "plan"),
        ("publisher=fabrikam&offer=a%2Fb&plan=standard", "offer"),
    ] {
        let (status, problem) = get(&world, &format!("/api/deployments?{query}")).await;
        assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, named), "{query}");
    }
    let (status, problem) = get(&world, &format!("/api/rollouts?continuation={continuation}")).await;
    assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, "continuation"), "one of another list");
    let (status, problem) = get(&world, "/api/deployments?top=1&top=2").await;
    assert_eq!((status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)), "which of the two?");
}

#[tokio::test]
async fn one_is_shown_and_forgotten_by_its_key() {
    let world = World::new().await;
    world.deploy(1).await;
    let path = format!("/api/deployments/{}", application(0).key());
    let delete = |path: &str| Request::delete(path).body(String::new().into()).unwrap();
    assert_eq!(show(&world, 0).await["applicationId"], json!(application(0)));
    assert_eq!(world.request(delete(&path)).await, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(get(&world, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.request(delete(&path)).await.0, StatusCode::NOT_FOUND);
    let upper = application(0).key().as_str().to_uppercase();
    for bad in ["x", &upper, &upper[1..], "%FF", "%2e%2e"] {
        for method in ["GET", "DELETE"] {
            let request = Request::builder().method(method).uri(format!("/api/deployments/{bad}"));
            let (status, problem) = world.request(request.body(String::new().into()).unwrap()).await;
            let problem: Value = serde_json::from_str(&problem).unwrap();
            assert_eq!((status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)), "{method} {bad}");
        }
    }
    world.deploy(1).await;
    assert_eq!(show(&world, 0).await["confirmed"], true, "an import brings it back");
}

#[tokio::test]
async fn where_a_row_names_no_plan_arm_is_asked_for_it() {
    let world = World::new().await;
    world.simulator.add_application(ApplicationSpec::new(application(0)));
    let csv = format!("applicationId\n{}\n{}\n", application(0), application(1));
    assert_eq!(import_csv(&world, csv).await["imported"], 2);
    world.run_due().await;
    let known = show(&world, 0).await;
    assert_eq!((&known["offer"], &known["plan"]), (&json!("ledger"), &json!("standard")));
    world.advance(HOUR);
    world.run_due().await;
    assert_eq!(show(&world, 1).await["goneSince"], json!(world.now()), "there is no such application");
    let id = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(id, HOUR).await["counts"]["succeeded"], 1);
}

#[tokio::test]
async fn an_import_brings_back_what_was_gone_ready_to_be_refreshed() {
    let world = World::new().await;
    let csv = format!("applicationId\n{}\n", application(0));
    import_csv(&world, csv).await;
    world.run_due().await;
    world.advance(HOUR);
    world.run_due().await;
    assert!(show(&world, 0).await["goneSince"].is_string());
    world.deploy(1).await;
    assert_eq!(show(&world, 0).await.get("goneSince"), None);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let done = world.settle(id, HOUR).await;
    assert_eq!(done["counts"]["succeeded"], 1, "{done}");
}
