//! What the pages of lists and of the dashboard cost on Table Storage, in requests: as much over many rows as over few.
//!
//! `PERMAFRESH_PAGES_ROWS=10000 cargo test --test it tables_pages -- --nocapture` prints the figures of the documentation.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use axum::response::Response;
use permafresh::rollout::{Deployment, Plan, Refresh, Standing};
use permafresh::store::{Saved, Store, Versioned};
use tower::ServiceExt;

use crate::azurite;
use crate::contracts::samples::{rollout, rollout_id, standing};
use crate::tables_proxy::Proxy;
use crate::world::{DASHBOARD_KEY, World, application};

const FEW: usize = 300;
/// More than the service gives at once, which are 1,000.
const MANY: usize = 2_500;

/// How many requests each page takes where the plan has so many deployments, and the rollout so many refreshes.
async fn requests(rows: usize) -> BTreeMap<String, usize> {
    let (world, proxy) = (World::new().await, Proxy::start().await);
    let store = azurite::open(&proxy.tables(), &world.clock);
    store.create_tables().await.unwrap();
    let mut rolled_out = rollout(1);
    rolled_out.publish.plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
    store.save_rollout(&Versioned::new(rolled_out.clone())).await.unwrap();
    let deployments: Vec<_> = (0..rows)
        .map(|number| {
            let mut deployment = Deployment::new(application(number), world.now());
            (deployment.plan, deployment.confirmed) = (Some(rolled_out.publish.plan.clone()), true);
            Versioned::new(deployment)
        })
        .collect();
    let refreshes: Vec<_> = (0..rows)
        .map(|number| {
            let mut refresh = Refresh::planned(rollout_id(1), application(number), rolled_out.publish.version, 1);
            let is = if number % 10 == 0 { Standing::Failed } else { Standing::Succeeded };
            refresh.state = standing(is, world.now());
            refresh
        })
        .collect();
    for (deployments, refreshes) in deployments.chunks(1_000).zip(refreshes.chunks(1_000)) {
        assert!(store.save_deployments(deployments).await.unwrap().iter().all(Saved::is_stored));
        assert_eq!(store.insert_refreshes(refreshes).await.unwrap(), refreshes.len());
    }

    let router = world.handler(Arc::new(store), Arc::clone(&world.queue));
    let ask = async |request: Request<Body>| -> Response { router.clone().oneshot(request).await.unwrap() };
    let sign_in = Request::post("/api/dashboard/login")
        .header("host", "127.0.0.1:7071")
        .header("sec-fetch-site", "same-origin")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("key={DASHBOARD_KEY}").into());
    let signed_in = ask(sign_in.unwrap()).await;
    let cookie = signed_in.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (id, key) = (rollout_id(1), application(7).key());
    let mut costs = BTreeMap::new();
    for path in [
        "/api/deployments".to_owned(),
        "/api/deployments?publisher=fabrikam&offer=ledger&plan=standard".to_owned(),
        format!("/api/deployments/{key}"),
        "/api/rollouts".to_owned(),
        format!("/api/rollouts/{id}"),
        format!("/api/rollouts/{id}/refreshes"),
        format!("/api/rollouts/{id}/refreshes?state=failed"),
        "/api/dashboard".to_owned(),
        "/api/dashboard/deployments".to_owned(),
        "/api/dashboard/deployments?plan=fabrikam%2Fledger%2Fstandard".to_owned(),
        format!("/api/dashboard/deployments/{key}"),
        "/api/dashboard/rollouts".to_owned(),
        format!("/api/dashboard/rollouts/{id}"),
        format!("/api/dashboard/rollouts/{id}?state=failed"),
        "/api/dashboard/audit".to_owned(),
    ] {
        proxy.seen();
        let request = Request::get(&path).header("host", "127.0.0.1:7071").header("cookie", &cookie);
        let answer = ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), 200, "{path}");
        let path = path.replace(&id.to_string(), "ID").replace(key.as_str(), "KEY");
        costs.insert(path, proxy.seen().len());
    }
    costs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_over_many_rows_takes_as_many_requests_as_one_over_few() {
    let many = std::env::var("PERMAFRESH_PAGES_ROWS").map_or(MANY, |rows| rows.parse().unwrap());
    let (of_few, of_many) = tokio::join!(requests(FEW), requests(many));
    for (path, few) in &of_few {
        println!("{few:>6} {:>6}  {path}", of_many[path]);
    }
    // What stands in few rows may lie in fewer of the sixteen parts than what stands in many.
    let grown = of_few.iter().filter(|(path, few)| of_many[*path] > **few + 2);
    let grown: Vec<_> =
        grown.map(|(path, few)| format!("{path}: {few} over {FEW}, {} over {many}", of_many[path])).collect();
    assert!(grown.is_empty(), "{grown:#?}");
}
