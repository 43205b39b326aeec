//! What only the SQLite backends can suffer: a locked file, a process that dies, a file that is not theirs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use permafresh::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use permafresh::queue::{Outgoing, Queue, QueueError};
use permafresh::rollout::Standing;
use permafresh::store::sqlite::SqliteStore;
use permafresh::store::{Claim, Store, StoreError, Versioned};
use rusqlite::Connection;

use crate::contracts::samples::{
    assert_tally_is_a_recount, at, deployment, put, refresh, rollout, rollout_id, standing, stored,
};
use crate::manual_clock::ManualClock;

/// Longer than a locked file may hold up a call.
const BOUND: Duration = Duration::from_secs(10);
const LOCK: Duration = Duration::from_secs(60);

fn queue(path: &Path) -> EmbeddedQueue {
    EmbeddedQueue::open(path, EmbeddedQueueConfig::default(), Arc::new(ManualClock::default())).unwrap()
}

fn message(id: u32) -> Outgoing {
    Outgoing { id: id.to_string(), body: "{}".to_owned(), due: None }
}

/// A connection that has the file for itself until it is dropped.
fn lock(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    other
}

/// Copies a file that is open, with its log: what a process that dies now leaves behind.
fn remains(path: &Path, folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("remains.db");
    std::fs::copy(path, &copy).unwrap();
    std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
    copy
}

#[tokio::test]
async fn a_locked_store_fails_in_bounded_time_leaves_nothing_half_done_and_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    store.insert_refreshes(&[refresh(1, 1)]).await.unwrap();
    let before = stored(&store, &refresh(1, 1)).await;

    let other = lock(&path);
    let started = Instant::now();
    let claim = Claim { rollout_id: rollout_id(1), at: at(0) };
    let many: Vec<_> = (0..100).map(|number| refresh(1, number)).collect();
    let (locked_rollout, locked_deployments) = (Versioned::new(rollout(1)), [Versioned::new(deployment(1))]);
    let writes: Vec<_> = vec![
        Box::pin(async { store.claim_key("k", &claim).await.map(|_| ()) }) as futures_util::future::BoxFuture<_>,
        Box::pin(async { store.save_rollout(&locked_rollout).await.map(|_| ()) }),
        Box::pin(async { store.insert_refreshes(&many).await.map(|_| ()) }),
        Box::pin(async { store.save_refreshes(std::slice::from_ref(&before)).await.map(|_| ()) }),
        Box::pin(async { store.save_deployments(&locked_deployments).await.map(|_| ()) }),
        Box::pin(async { store.throttle("s", at(1)).await }),
    ];
    let read = async { stored(&store, &refresh(1, 1)).await };
    let (answers, read) = join(join_all(writes), read).await;
    for answer in answers {
        let told = answer.unwrap_err();
        assert!(matches!(told, StoreError::Unavailable { .. }) && told.to_string().contains("locked"), "{told}");
    }
    assert!(started.elapsed() < BOUND);
    assert_eq!(read, before, "reading goes on");
    drop(other);

    assert_eq!(store.key_holder("k").await.unwrap(), None);
    assert_eq!(store.rollout(rollout_id(1)).await.unwrap(), None);
    assert_eq!(store.tally(rollout_id(1)).await.unwrap().count(|_| true), 1);
    assert_eq!(store.throttled_until("s").await.unwrap(), None);
    assert_eq!(store.claim_key("k", &claim).await.unwrap(), None);
    assert_eq!(store.insert_refreshes(&many).await.unwrap(), 99);
    assert!(store.save_refreshes(&[before]).await.unwrap()[0].is_stored());
    assert_tally_is_a_recount(&store, rollout_id(1)).await;
}

#[tokio::test]
async fn a_locked_queue_is_unclear_in_bounded_time_and_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = queue(&path);
    queue.send("q", &[message(1)]).await.unwrap();
    let other = lock(&path);
    let started = Instant::now();
    let messages = [message(2), message(3)];
    let (sent, received) = join(queue.send("q", &messages), queue.receive("q", 10, LOCK)).await;
    assert!(matches!(sent.unwrap_err(), QueueError::Unclear { queue, .. } if queue == "q"));
    assert!(matches!(received.unwrap_err(), QueueError::Unclear { .. }));
    assert!(started.elapsed() < BOUND);
    drop(other);
    queue.send("q", &[message(2)]).await.unwrap();
    let received = queue.receive("q", 10, LOCK).await.unwrap();
    let seen: Vec<_> = received.iter().map(|delivery| (delivery.id.as_str(), delivery.delivery_count)).collect();
    assert_eq!(seen, [("1", 1), ("2", 1)]);
}

#[tokio::test]
async fn a_file_that_is_locked_for_a_moment_only_delays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let other = lock(&path);
    let planned = [refresh(1, 1)];
    let write = store.insert_refreshes(&planned);
    let release = async {
        tokio::task::yield_now().await;
        drop(other);
    };
    assert_eq!(join(write, release).await.0.unwrap(), 1);
}

#[tokio::test]
async fn what_was_answered_survives_the_death_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (store_path, queue_path) = (folder.path().join("store.db"), folder.path().join("queue.db"));
    let (store, queue_before) = (SqliteStore::open(&store_path).unwrap(), queue(&queue_path));
    let planned: Vec<_> = (0..50).map(|number| refresh(1, number)).collect();
    store.insert_refreshes(&planned).await.unwrap();
    put(&store, &planned[0], standing(Standing::Running, at(1))).await;
    queue_before.send("q", &[message(1), message(2)]).await.unwrap();
    let lock = queue_before.receive("q", 1, LOCK).await.unwrap().remove(0).lock;
    queue_before.complete("q", &[lock]).await.unwrap();

    let copies = tempfile::tempdir().unwrap();
    let after = SqliteStore::open(&remains(&store_path, copies.path())).unwrap();
    assert_eq!(stored(&after, &planned[0]).await, stored(&store, &planned[0]).await);
    assert_eq!(after.tally(rollout_id(1)).await.unwrap(), store.tally(rollout_id(1)).await.unwrap());
    let copies = tempfile::tempdir().unwrap();
    let queue_after = queue(&remains(&queue_path, copies.path()));
    queue_after.send("q", &[message(1)]).await.unwrap();
    let left = queue_after.receive("q", 10, LOCK).await.unwrap();
    assert_eq!(left.iter().map(|left| left.id.as_str()).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_back_is_called_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    store.insert_refreshes(&[refresh(1, 1)]).await.unwrap();
    Connection::open(&path).unwrap().execute_batch("UPDATE refreshes SET body = '{\"key\": 1}'").unwrap();
    let told = store.refresh(rollout_id(1), &refresh(1, 1).key).await.unwrap_err();
    assert!(matches!(told, StoreError::Corrupt { what: "refresh", .. }), "{told}");
}

#[tokio::test]
async fn store_and_queue_refuse_files_that_are_not_theirs_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let (path, missing) = (folder.path().join("store.db"), folder.path().join("none/store.db"));
    let refusal = |path: &Path| SqliteStore::open(path).map(drop).unwrap_err().to_string();
    drop(SqliteStore::open(&path).unwrap());
    let clock = Arc::new(ManualClock::default());
    let told = EmbeddedQueue::open(&path, EmbeddedQueueConfig::default(), clock).map(drop).unwrap_err().to_string();
    assert!(told.ends_with("store.db is a SQLite file, but not one of a queue"), "{told}");
    assert!(refusal(&missing).contains("none does not exist"), "{}", refusal(&missing));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let told = refusal(&path);
    assert!(told.contains("newer version of permafresh (its schema is 99"), "{told}");
}
