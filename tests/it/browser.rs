//! The dashboard in a real browser, driven by `tests/browser/drive.js`: Chromium as it is installed on this machine, else the one
//! that an npm package carries; and playwright-core and axe-core from npm. Without them these tests fail; none is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use permafresh::arm::simulator::{OnPost, Reply};
use serde_json::json;
use tokio::net::TcpListener;

use crate::npm;
use crate::processes::{Home, Running};
use crate::world::{DASHBOARD_KEY, World};

/// A run of the script over the dashboard of `port`.
fn drive(what: &str, port: u16, key: &str) -> Command {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let mut command = Command::new("node");
    command
        .arg(sources.join("drive.js"))
        .arg(npm::installed(&sources))
        .arg(browser())
        .arg(format!("http://127.0.0.1:{port}/api/dashboard"))
        .arg(what)
        // Not among the arguments, which everybody on the machine can read.
        .env("DASHBOARD_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn browser() -> PathBuf {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let found = names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    named.into_iter().chain(found).find(|file| file.is_file()).unwrap_or_else(carried)
}

/// The browser from npm, unpacked on first use.
fn carried() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/carried-browser");
    let unpacked = Command::new("node").arg(sources.join("unpack.js")).arg(npm::installed(&sources)).output();
    let unpacked = unpacked.expect("Node.js is needed to unpack a browser");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(unpacked.status.success(), "no browser was found: {}", said(&unpacked.stderr));
    said(&unpacked.stdout).into()
}

#[test]
fn the_demo_is_watched_to_its_end_in_light_and_dark_on_a_phone_and_without_a_script() {
    let home = Home::new();
    let mut demo = Running::start(home.command(&["demo", "--keep", "--deployments", "90"]));
    let (port, key) = demo.until("the dashboard's address and key", |_, err| {
        let after = |what: &str| err.split_once(what)?.1.split_whitespace().next().map(str::to_owned);
        let address = after("  dashboard    ")?;
        let port = address.strip_prefix("http://127.0.0.1:")?.strip_suffix("/api/dashboard")?.parse().ok()?;
        Some((port, after("  its key      ")?))
    });
    // It ends by itself, whatever happens.
    let driven = drive("demo", port, &key).output().expect("Node.js is needed to drive a browser");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(driven.status.success(), "{}\n{}", said(&driven.stdout), said(&driven.stderr));
    demo.until("the end of the rollout", |_, err| err.contains("until you press Ctrl-C").then_some(()));
    demo.signal("INT");
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    home.assert_left();
    let log = ended.out + &ended.err;
    assert_eq!(log.matches(&key).count(), 1, "the key is told once, and by nobody else:\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_rollout_is_resumed_by_a_click_and_hostile_text_stays_text() {
    let world = World::new().await;
    let ids = world.deploy(30).await;
    let hostile = r#""><img src=x onerror="document.body.dataset.hacked=1">"#;
    let row = json!([{"applicationId": ids[3], "location": hostile, "version": hostile}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(row.to_string().into()).unwrap()).await;
    world.simulator.on_post(&ids[3], [OnPost::Reply(Reply::error(400, hostile, hostile))]);
    let id = world.publish(json!({"note": hostile})).await;
    world.run_due().await;
    world.post(&format!("/api/rollouts/{id}/pause"), &json!(null)).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = world.handler(Arc::clone(&world.store), Arc::clone(&world.queue));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let (clicked, click) = tokio::sync::oneshot::channel();
    let driving = tokio::task::spawn_blocking(move || {
        let mut driver = Running::start(drive("paused", port, DASHBOARD_KEY));
        driver.until("the click", |out, _| out.contains("resumed").then_some(()));
        clicked.send(()).unwrap();
        driver.end()
    });
    click.await.expect("somebody clicks");
    let rollout = world.settle(id, Duration::from_secs(3_600)).await;
    let driven = driving.await.unwrap();
    serving.abort();
    assert_eq!(driven.code, Some(0), "{}\n{}", driven.out, driven.err);
    assert_eq!(rollout["state"], "completed", "{rollout}");
}
