//! Queue functions: concurrency, settling, locks, redelivery.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    host_queue_fake::MOST_DELIVERIES,
    host_stub::{Ground, Stub, done, eventually, post, queue_function, reply_with},
};

#[tokio::test]
async fn messages_are_delivered_and_completed() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    ground.queue.put("orders", b"one");
    ground.queue.put("others", b"not for us");
    let _host = ground.start().await;
    stub.wait_for_calls(1).await;
    ground.queue.put("orders", b"two");
    let calls = stub.wait_for_calls(2).await;
    let bodies: Vec<_> = calls.iter().map(|call| call.json()["Data"]["order"].clone()).collect();
    assert_eq!(bodies, ["b25l", "dHdv"]);
    eventually("the completions", || ground.queue.record().completes.iter().sum::<usize>() == 2).await;
    assert_eq!(ground.queue.waiting(), 1);
}

#[tokio::test]
async fn e9_a_failed_message_comes_again_at_once_and_is_dead_at_the_limit() {
    let stub = Stub::answering(|_| reply_with(500, None, "")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    ground.queue.put("orders", b"poison");
    let _host = ground.start().await;
    eventually("the dead letter", || !ground.queue.dead().is_empty()).await;
    let calls = stub.calls();
    let counts: Vec<_> = calls.iter().map(|call| call.json()["Metadata"]["DeliveryCount"].clone()).collect();
    assert_eq!(counts, ["1", "2", "3"]);
    assert_eq!(ground.queue.dead()[0].delivery_count, MOST_DELIVERIES);
    // A redelivery is another event.
    let mut ids: Vec<_> = calls.iter().map(|call| call.header("x-azure-functions-invocationid").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn e9_messages_in_flight_when_the_handler_dies_cost_one_delivery_and_come_again_once_it_is_back() {
    let stub = Stub::awaiting(|call| {
        Box::pin(async move {
            match call.json()["Metadata"]["DeliveryCount"].as_str() {
                Some("1") => std::future::pending().await,
                _ => done(),
            }
        })
    })
    .await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    for _ in 0..10 {
        ground.queue.put("orders", b"x");
    }
    let _host = ground.start().await;
    stub.wait_for_calls(10).await;
    stub.tell(1, "exit 1").await;
    eventually("an empty queue", || ground.queue.is_empty()).await;
    assert_eq!((stub.calls().len(), ground.queue.dead().len()), (20, 0));
    let last = stub.calls().into_iter().skip(10);
    assert!(last.into_iter().all(|call| call.json()["Metadata"]["DeliveryCount"] == "2"));
}

#[tokio::test]
async fn as_many_run_at_once_as_host_json_says_and_no_more() {
    let gate = Arc::new(Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stub = Stub::awaiting({
        let (gate, running, most) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
        move |_| {
            let (gate, running, most) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
            Box::pin(async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.expect("the gate is never closed").forget();
                running.fetch_sub(1, Ordering::SeqCst);
                done()
            })
        }
    })
    .await;
    let changes = json!({"extensions": {"serviceBus": {"maxConcurrentCalls": 4}}});
    let ground = Ground::new(&stub, &changes, &[("F", queue_function("binary"))]);
    for _ in 0..20 {
        ground.queue.put("orders", b"x");
    }
    let _host = ground.start().await;
    stub.wait_for_calls(4).await;
    assert_eq!(ground.queue.waiting(), 16);
    gate.add_permits(20);
    eventually("an empty queue", || ground.queue.is_empty()).await;
    assert_eq!((stub.calls().len(), most.load(Ordering::SeqCst)), (20, 4));
}

#[tokio::test]
async fn what_finishes_together_is_completed_together() {
    let stub = Stub::answering(|_| done()).await;
    let changes = json!({"extensions": {"serviceBus": {"maxConcurrentCalls": 64}}});
    let ground = Ground::new(&stub, &changes, &[("F", queue_function("binary"))]);
    for _ in 0..64 {
        ground.queue.put("orders", b"x");
    }
    ground.queue.hold_completions(true);
    let _host = ground.start().await;
    stub.wait_for_calls(64).await;
    // A place is taken until the queue knows: nothing more is asked for meanwhile.
    ground.queue.put("orders", b"later");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ground.queue.waiting(), 1);
    ground.queue.hold_completions(false);
    eventually("an empty queue", || ground.queue.is_empty()).await;
    let record = ground.queue.record();
    assert_eq!(record.receives[0], (64, 64));
    assert_eq!(record.completes.iter().sum::<usize>(), 65);
    assert!(record.completes.len() <= 5, "{:?}", record.completes);
}

#[tokio::test]
async fn the_lock_is_renewed_while_the_function_runs_but_not_for_ever() {
    let gate = Arc::new(Semaphore::new(0));
    let stub = Stub::awaiting({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.expect("the gate is never closed").forget();
                done()
            })
        }
    })
    .await;
    let changes = json!({"extensions": {"serviceBus": {"maxAutoLockRenewalDuration": "00:00:00.5"}}});
    let mut ground = Ground::new(&stub, &changes, &[("F", queue_function("binary"))]);
    ground.config.lock = Duration::from_millis(200);
    ground.queue.put("orders", b"x");
    let _host = ground.start().await;
    eventually("renewals", || ground.queue.record().renewals >= 3).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let renewals = ground.queue.record().renewals;
    assert!((3..=4).contains(&renewals), "{renewals} renewals");
    gate.add_permits(1);
    eventually("an empty queue", || ground.queue.is_empty()).await;
}

#[tokio::test]
async fn a_queue_that_fails_for_a_while_is_read_again_afterwards() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    ground.queue.set_failing(true);
    ground.queue.put("orders", b"x");
    let _host = ground.start().await;
    stub.wait_for_starts(1).await;
    ground.queue.set_failing(false);
    eventually("an empty queue", || ground.queue.is_empty()).await;
    assert_eq!(stub.calls().len(), 1);
}

#[tokio::test]
async fn a_shutdown_lets_messages_end_within_the_grace_and_gives_the_others_back() {
    for (grace, left) in [(Duration::from_secs(20), 0), (Duration::ZERO, 1)] {
        let gate = Arc::new(Semaphore::new(0));
        let stub = Stub::awaiting({
            let gate = Arc::clone(&gate);
            move |_| {
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    gate.acquire().await.expect("the gate is never closed").forget();
                    done()
                })
            }
        })
        .await;
        let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
        ground.queue.put("orders", b"x");
        let host = ground.start().await;
        stub.wait_for_calls(1).await;
        let shutdown = tokio::spawn(host.shutdown(grace));
        if left == 0 {
            gate.add_permits(1);
        }
        shutdown.await.expect("the host shuts down");
        assert_eq!((ground.queue.waiting(), ground.queue.record().abandons), (left, left));
        // Nothing is taken afterwards.
        ground.queue.put("orders", b"late");
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(ground.queue.waiting(), left + 1);
    }
}

#[tokio::test]
async fn a_host_that_gave_up_takes_no_more_messages() {
    let stub = Stub::answering(|_| reply_with(500, None, "")).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]).setting("STUB_IS_SLOW", "1");
    ground.queue.put("orders", b"x");
    let host = ground.start().await;
    for start in 1..=3 {
        stub.tell(start, "exit 1").await;
    }
    host.stopped().await;
    eventually("the message to be given back", || ground.queue.waiting() == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    // It waited for the handler in vain once, and no more than that.
    assert_eq!(ground.queue.record().abandons, 1);
}

#[tokio::test]
async fn e14_a_function_can_be_fired_by_hand_with_a_key() {
    let stub = Stub::answering(|_| done()).await;
    let ground = Ground::new(&stub, &json!({}), &[("Orders", queue_function("string"))]);
    let host = ground.start().await;
    for (path, body, status) in [
        ("/admin/functions/Orders", "{\"input\":\"hello\"}", 202),
        ("/admin/functions/orders", "{}", 202),
        ("/admin/functions/Orders", "{\"input\":{\"a\":1}}", 202),
        ("/admin/functions/Orders", "not json", 400),
        ("/admin/functions/Nobody", "{\"input\":\"\"}", 404),
    ] {
        assert_eq!(post(&host, path, body).await.status, status, "{path} {body}");
    }
    let calls = stub.wait_for_calls(3).await;
    let mut inputs: Vec<_> =
        calls.iter().map(|call| call.json()["Data"]["order"].as_str().map(str::to_owned)).collect();
    inputs.sort();
    assert_eq!(inputs.into_iter().flatten().collect::<Vec<_>>(), [r#""""#, r#""hello""#, r#""{\"a\":1}""#]);
    let without_key = http::Request::post("/admin/functions/Orders").body(axum::body::Body::from("{}"));
    assert_eq!(crate::host_stub::ask(&host, without_key.expect("this is valid")).await.status, 401);
}
