//! The registry as a file, and the same registry from that file.

use std::fmt::Write;

use axum::http::{Request, StatusCode};
use permafresh::arm::simulator::ApplicationSpec;
use serde_json::{Value, json};

use crate::world::{World, application};

async fn text(world: &World, path: &str) -> String {
    let (status, body) = world.request(Request::get(path).body(String::new().into()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

async fn put(world: &World, content_type: &str, body: String) -> Value {
    let request = Request::put("/api/deployments").header("content-type", content_type).body(body.into());
    let (status, body) = world.request(request.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A registry with what is awkward in files.
async fn awkward() -> World {
    let world = World::new().await;
    let tenant = "5d0f7a10-0000-4000-8000-00000000c001";
    let rows = json!([
        {"applicationId": application(0), "publisher": "fabrikam", "offer": "-ledger", "plan": "standard", "preview": true},
        {"applicationId": application(1), "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "tenantId": tenant,
         "version": "=HYPERLINK(\"https://evil.example\")", "location": "two\r\nlines, \"quoted\"",
         "managedResourceGroupId": "@SUM(1)"},
        {"applicationId": application(2), "publisher": "fabrikam", "offer": "ledger", "plan": "premium", "location": "'+1",
         "maintenanceWindows": [{"days": ["sat", "sun"], "start": "22:00", "duration": "PT4H", "utcOffset": "+02:00"}]},
    ]);
    assert_eq!(put(&world, "application/json", rows.to_string()).await["imported"], 3);
    world
}

/// What an import can say of a deployment.
fn said(deployment: &Value) -> Value {
    let mut said = deployment.clone();
    for own in ["createdAt", "updatedAt", "provisioningState", "kind"] {
        said.as_object_mut().unwrap().remove(own);
    }
    said
}

async fn all(world: &World) -> Vec<Value> {
    let page = world.get("/api/deployments?top=1000").await;
    page["value"].as_array().unwrap().iter().map(said).collect()
}

#[tokio::test]
async fn what_is_exported_can_be_imported_and_is_the_same_then() {
    let world = awkward().await;
    for (format, content_type) in [("json", "application/json"), ("csv", "text/csv")] {
        let file = text(&world, &format!("/api/deployments?format={format}")).await;
        let other = World::new().await;
        let result = put(&other, content_type, file).await;
        assert_eq!(result, json!({"imported": 3, "updated": 0, "rejected": []}), "{format}");
        assert_eq!(all(&other).await, all(&world).await, "{format}");
    }
}

#[tokio::test]
async fn no_cell_of_an_export_is_a_formula() {
    let world = awkward().await;
    let file = text(&world, "/api/deployments?format=csv").await;
    assert!(file.starts_with("applicationId,publisher,offer,plan,version,preview,confirmed,"), "{file}");
    let mut cells = 0;
    for record in csv::Reader::from_reader(file.as_bytes()).records() {
        for cell in record.unwrap().iter() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
            cells += usize::from(cell.starts_with('\''));
        }
    }
    assert_eq!(cells, 4, "the offer, the version, the managed group and the location: {file}");
}

#[tokio::test]
async fn an_export_is_of_one_plan_where_one_is_named_and_has_no_pages() {
    let world = awkward().await;
    let path = "/api/deployments?format=json&publisher=fabrikam&offer=ledger&plan=premium";
    let exported: Vec<Value> = serde_json::from_str(&text(&world, path).await).unwrap();
    assert_eq!(exported.iter().map(said).collect::<Vec<_>>(), [all_of(&world, 2).await]);
    for query in ["format=xml", "format=", "format=csv&top=5", "format=csv&continuation=x"] {
        let request = Request::get(format!("/api/deployments?{query}")).body(String::new().into());
        let (status, body) = world.request(request.unwrap()).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::BAD_REQUEST, &json!("format")), "{query}");
    }
    let empty = World::new().await;
    assert_eq!(serde_json::from_str::<Value>(&text(&empty, "/api/deployments?format=json").await).unwrap(), json!([]));
    assert_eq!(text(&empty, "/api/deployments?format=csv").await.lines().count(), 1);
}

async fn all_of(world: &World, number: usize) -> Value {
    said(&world.get(&format!("/api/deployments/{}", application(number).key())).await)
}

#[tokio::test]
async fn what_is_gone_is_not_exported() {
    let world = World::new().await;
    world.deploy(2).await;
    let csv = format!("applicationId\n{}\n", application(7));
    put(&world, "text/csv", csv).await;
    world.run_due().await;
    world.advance(std::time::Duration::from_secs(3_600));
    world.run_due().await;
    assert!(world.get(&format!("/api/deployments/{}", application(7).key())).await["goneSince"].is_string());
    let file = text(&world, "/api/deployments?format=csv").await;
    assert_eq!(file.lines().count(), 3, "{file}");
}

#[tokio::test]
async fn what_only_a_notification_has_named_is_not_vouched_for_by_an_import_of_the_export() {
    let world = World::new().await;
    let body = json!({"eventType": "PUT", "applicationId": application(0), "eventTime": world.now(),
        "provisioningState": "Succeeded",
        "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"}});
    assert_eq!(world.post("/api/notification/resource?sig=the-sig", &body).await.0, StatusCode::OK);
    let file = text(&world, "/api/deployments?format=csv").await;
    let other = World::new().await;
    put(&other, "text/csv", file).await;
    assert_eq!(all_of(&other, 0).await["confirmed"], false);
    other.simulator.add_application(ApplicationSpec::new(application(0)));
    other.run_due().await;
    assert_eq!(all_of(&other, 0).await["confirmed"], true, "ARM was asked");
}

#[tokio::test]
async fn an_export_of_many_pages_is_one_file() {
    let world = World::new().await;
    let mut csv = "applicationId,publisher,offer,plan\n".to_owned();
    for number in 0..2_500 {
        writeln!(csv, "{},fabrikam,ledger,standard", application(number)).unwrap();
    }
    put(&world, "text/csv", csv).await;
    let exported: Vec<Value> = serde_json::from_str(&text(&world, "/api/deployments?format=json").await).unwrap();
    assert_eq!(exported.len(), 2_500);
    assert_eq!(text(&world, "/api/deployments?format=csv").await.lines().count(), 2_501);
}

#[tokio::test]
async fn more_rows_than_can_be_told_apart_in_one_answer_are_refused_before_any_is_taken() {
    let world = World::new().await;
    let rows = format!("[{}0]", "0,".repeat(500_000));
    let csv = format!("applicationId\n{}\n{}", application(0), "x\n".repeat(500_001));
    let old = csv.replace('\n', "\r");
    for (content_type, body) in [("application/json", rows), ("text/csv", csv), ("text/csv", old)] {
        let request = Request::put("/api/deployments").header("content-type", content_type).body(body.into());
        let (status, body) = world.request(request.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body.contains("in parts"), "{body}");
    }
    assert_eq!(world.get("/api/deployments").await["value"], json!([]));
}
