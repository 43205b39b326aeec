//! What another version wrote is read by this one, and brought to the same end: state and messages of the version before,
//! and of the next one, whose records and messages say more. `docs/upgrade.md` has the rule.
//!
//! The samples in `tests/data/upgrade/` were written by the version that they are named after and are never changed.
//! `PERMAFRESH_WRITE_SAMPLES=1` writes those of this version, once for each release.

mod rows;
mod scene;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use permafresh::functions::wire::envelope;
use permafresh::queue::{Message, Outgoing};
use permafresh::store::Store;
use permafresh::store::sqlite::SqliteStore;
use serde_json::{Value, json};

use crate::azurite;
use crate::world::{World, invoke_message};
use scene::Sample;

/// The versions that there are samples of.
const VERSIONS: [&str; 1] = ["0.1.0"];

fn folder(version: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/upgrade", version].iter().collect()
}

fn sample(version: &str, name: &str) -> String {
    std::fs::read_to_string(folder(version).join(name)).unwrap()
}

#[tokio::test]
async fn a_sqlite_file_of_an_older_version_is_brought_to_the_same_end() {
    if std::env::var_os("PERMAFRESH_WRITE_SAMPLES").is_some() {
        write_sqlite().await;
    }
    for version in VERSIONS {
        let told: Sample = serde_json::from_str(&sample(version, "sqlite.json")).unwrap();
        let world = from_sqlite(version, &told, |body| body).await;
        assert_eq!(scene::finish(&world).await, told.ending, "{version}");
        scene::everything_is_shown(&world).await;
    }
}

#[tokio::test]
async fn a_sqlite_file_whose_records_say_more_is_brought_to_the_same_end() {
    for version in VERSIONS {
        let told: Sample = serde_json::from_str(&sample(version, "sqlite.json")).unwrap();
        let world = from_sqlite(version, &told, with_news).await;
        assert_eq!(scene::finish(&world).await, told.ending, "{version}");
        scene::everything_is_shown(&world).await;
    }
}

#[tokio::test]
async fn tables_of_an_older_version_are_brought_to_the_same_end() {
    if std::env::var_os("PERMAFRESH_WRITE_SAMPLES").is_some() {
        write_tables().await;
    }
    for version in VERSIONS {
        let told: Sample = serde_json::from_str(&sample(version, "tables.json")).unwrap();
        let world = from_tables(version, &told).await;
        assert_eq!(scene::finish(&world).await, told.ending, "{version}");
        scene::everything_is_shown(&world).await;
    }
}

#[tokio::test]
async fn messages_of_every_kind_of_an_older_version_are_read_and_worked_off() {
    let world = World::new().await;
    for version in VERSIONS {
        let bodies: Vec<Value> = serde_json::from_str(&sample(version, "messages.json")).unwrap();
        for body in bodies {
            for sent in [body.clone(), serde_json::from_str(&with_news(body.to_string())).unwrap()] {
                let read = Message::from_body(sent.to_string().as_bytes()).unwrap();
                assert_eq!(json!(read), body, "{version}");
                let function = if body["kind"] == "planRollout" { "PlanRollout" } else { "RefreshDeployment" };
                let status = invoke_message(&world.router(), function, sent.to_string().as_bytes()).await;
                assert_eq!(status, StatusCode::OK, "{version}: {body}");
            }
        }
    }
    let known: Vec<_> = scene::every_message().iter().map(|message| json!(message)["kind"].clone()).collect();
    let kept: Vec<Value> = serde_json::from_str(&sample(VERSIONS[VERSIONS.len() - 1], "messages.json")).unwrap();
    assert_eq!(kept.iter().map(|body| body["kind"].clone()).collect::<Vec<_>>(), known, "each kind has its sample");
}

#[tokio::test]
async fn a_message_of_a_kind_that_only_a_newer_version_knows_goes_back_and_holds_up_nobody() {
    let world = World::new().await;
    world.deploy(2).await;
    let body = r#"{"kind":"reconsider","of":{"what":1}}"#.to_owned();
    assert!(envelope::message(&br#"{"Data":{"message":"e30="}}"#.to_vec().into()).is_err());
    world.queue.send("refreshes", &[Outgoing { id: "of-a-newer-one".into(), body, due: None }]).await.unwrap();
    let id = world.publish(json!({"strategy": crate::world::one_wave()})).await;
    let done = world.settle(id, std::time::Duration::from_secs(3_600)).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(2)));
    let given_back = world.queue.dead_letters("refreshes", 10).await.unwrap();
    assert!(given_back.len() <= 1, "it is kept for whoever knows it, or noted by the timer: {given_back:?}");
}

/// A record, or a message, as a newer version may write it: each object says more.
fn with_news(body: String) -> String {
    fn add(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(add);
                members.insert("addedLater".to_owned(), json!({"by": ["a newer version", 1, null]}));
            }
            Value::Array(items) => items.iter_mut().for_each(add),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str::<Value>(&body) else { return body };
    add(&mut value);
    value.to_string()
}

async fn write_sqlite() {
    let world = scene::prepare(World::with(scene::options()).await).await;
    let [state, queue] = ["state.db", "queue.db"].map(|file| rows::dump(&world.path(file)));
    let origin = world.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
    let save = |name: &str, text: String| {
        std::fs::create_dir_all(folder(env!("CARGO_PKG_VERSION"))).unwrap();
        let text = text.replace(&origin, scene::ORIGIN);
        std::fs::write(folder(env!("CARGO_PKG_VERSION")).join(name), text).unwrap();
    };
    save("state.sql", state);
    save("queue.sql", queue);
    save("messages.json", serde_json::to_string_pretty(&scene::every_message()).unwrap() + "\n");
    let told = Sample::of(&world);
    let told = Sample { ending: scene::finish(&world).await, ..told };
    save("sqlite.json", serde_json::to_string_pretty(&told).unwrap() + "\n");
}

async fn from_sqlite(version: &str, told: &Sample, change: impl Fn(String) -> String) -> World {
    let world = World::with(scene::options()).await;
    told.arrange(&world).await;
    let origin = world.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
    let folder = tempfile::tempdir().unwrap();
    for name in ["state", "queue"] {
        let sql = sample(version, &format!("{name}.sql")).replace(scene::ORIGIN, &origin);
        rows::restore(&folder.path().join(format!("{name}.db")), &sql, &change);
    }
    world.over(folder, |path| Arc::new(SqliteStore::open(&path.join("state.db")).unwrap()) as Arc<dyn Store>)
}

async fn tables_world(world: World) -> (World, String) {
    let config = azurite::new_tables();
    let store = azurite::open(&config, &world.clock);
    store.create_tables().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    (world.over(folder, |_| Arc::new(store) as Arc<dyn Store>), config.table_prefix)
}

async fn write_tables() {
    let (world, prefix) = tables_world(World::with(scene::options()).await).await;
    let world = scene::prepare(world).await;
    let all: BTreeMap<String, Value> = rows::all(&prefix).await;
    let queue = rows::dump(&world.path("queue.db"));
    let told = Sample::of(&world);
    let told = Sample { ending: scene::finish(&world).await, ..told };
    let origin = world.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
    for (name, text) in [
        ("tables.rows.json", serde_json::to_string_pretty(&all).unwrap() + "\n"),
        ("tables.queue.sql", queue),
        ("tables.json", serde_json::to_string_pretty(&told).unwrap() + "\n"),
    ] {
        std::fs::write(folder(env!("CARGO_PKG_VERSION")).join(name), text.replace(&origin, scene::ORIGIN)).unwrap();
    }
}

async fn from_tables(version: &str, told: &Sample) -> World {
    let world = World::with(scene::options()).await;
    told.arrange(&world).await;
    let origin = world.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
    let config = azurite::new_tables();
    let store = azurite::open(&config, &world.clock);
    store.create_tables().await.unwrap();
    let all = sample(version, "tables.rows.json").replace(scene::ORIGIN, &origin);
    rows::put_all(&config.table_prefix, &serde_json::from_str(&all).unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let queue = sample(version, "tables.queue.sql").replace(scene::ORIGIN, &origin);
    rows::restore(&folder.path().join("queue.db"), &queue, &|body| body);
    world.over(folder, |_| Arc::new(store) as Arc<dyn Store>)
}
