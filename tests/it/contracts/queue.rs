//! The rules of `Queue`. A backend is opened with the duplicate window of 10 minutes and 10 deliveries at most.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use permafresh::clock::Clock;
use permafresh::queue::{Delivery, LockToken, Outgoing, Queue, QueueError};
use permafresh::rollout::{Event, Next, Policy, Refresh, Timestamp, Way};

use crate::contracts::samples::{at, refresh};
use crate::manual_clock::ManualClock;

const LOCK: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(10 * 60);
const MOMENT: Duration = Duration::from_millis(1);
const MAX_DELIVERIES: u32 = 10;

/// One handle, and the clock that it goes by.
fn one(open: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) -> (Arc<dyn Queue>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (open(clock.clone()), clock)
}

fn message(id: &str) -> Outgoing {
    Outgoing { id: id.to_owned(), body: format!("body of {id}"), due: None }
}

fn scheduled(id: &str, due: Timestamp) -> Outgoing {
    Outgoing { due: Some(due), ..message(id) }
}

async fn receive(queue: &dyn Queue) -> Vec<Delivery> {
    queue.receive("q", 100, LOCK).await.unwrap()
}

async fn receive_one(queue: &dyn Queue) -> Delivery {
    let mut received = receive(queue).await;
    assert_eq!(received.len(), 1, "{received:?}");
    received.remove(0)
}

fn ids(received: &[Delivery]) -> Vec<&str> {
    received.iter().map(|delivery| delivery.id.as_str()).collect()
}

pub async fn a_message_is_delivered_until_it_is_completed(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    assert_eq!(receive(&*queue).await, []);
    assert_eq!(queue.complete("q", &[]).await.unwrap(), Vec::<bool>::new());
    queue.send("q", &[]).await.unwrap();
    let body = "{\"a\": \"\u{1f680} \\u0000 'x'\"}\r\n ".to_owned();
    queue.send("q", &[Outgoing { id: "a".to_owned(), body: body.clone(), due: None }]).await.unwrap();
    let delivery = receive_one(&*queue).await;
    assert_eq!((delivery.id.as_str(), &delivery.body[..], delivery.delivery_count), ("a", body.as_bytes(), 1));
    assert_eq!((delivery.enqueued_at, delivery.locked_until), (clock.now(), clock.now() + LOCK));
    assert_eq!(receive(&*queue).await, [], "it is locked");
    assert_eq!(queue.complete("q", &[delivery.lock]).await.unwrap(), [true]);
    clock.advance(2 * LOCK);
    assert_eq!(receive(&*queue).await, []);
}

pub async fn messages_come_in_the_order_in_which_they_became_due(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    let start = clock.now();
    queue.send("q", &[scheduled("late", start + 2 * LOCK), message("a"), message("b")]).await.unwrap();
    queue.send("q", &[scheduled("soon", start + LOCK), message("c"), scheduled("past", start - LOCK)]).await.unwrap();
    clock.advance(3 * LOCK);
    queue.send("q", &[message("d")]).await.unwrap();
    let first = queue.receive("q", 2, LOCK).await.unwrap();
    assert_eq!(ids(&first), ["a", "b"]);
    let rest = receive(&*queue).await;
    assert_eq!(ids(&rest), ["c", "past", "soon", "late", "d"], "what is past due is due when it is sent");
    assert_eq!([rest[2].enqueued_at, rest[3].enqueued_at], [start + LOCK, start + 2 * LOCK]);
    assert!(first[0].sequence_number < first[1].sequence_number && rest[0].sequence_number < rest[4].sequence_number);
}

pub async fn an_id_is_a_duplicate_within_the_window_and_not_after_it(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a"), message("a"), message("A")]).await.unwrap();
    assert_eq!(ids(&receive(&*queue).await), ["a", "A"]);
    clock.advance(WINDOW - MOMENT);
    queue.send("q", &[message("a"), message("b")]).await.unwrap();
    assert_eq!(ids(&receive(&*queue).await), ["a", "A", "b"], "the first two since their locks ran out");
    clock.advance(MOMENT);
    queue.send("q", &[message("a")]).await.unwrap();
    assert_eq!(receive_one(&*queue).await.delivery_count, 1, "a duplicate does not prolong the window");
    clock.advance(WINDOW - MOMENT);
    queue.send("q", &[message("a")]).await.unwrap();
    let mut received = receive(&*queue).await;
    received.retain(|delivery| delivery.delivery_count == 1);
    assert_eq!(received, [], "the window begins anew with the message that was taken");
}

pub async fn an_id_stays_a_duplicate_after_its_message_was_completed(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a")]).await.unwrap();
    let lock = receive_one(&*queue).await.lock;
    assert_eq!(queue.complete("q", &[lock]).await.unwrap(), [true]);
    clock.advance(WINDOW - MOMENT);
    queue.send("q", &[message("a")]).await.unwrap();
    assert_eq!(receive(&*queue).await, []);
    clock.advance(MOMENT);
    queue.send("q", &[message("a")]).await.unwrap();
    assert_eq!(receive_one(&*queue).await.id, "a");
}

pub async fn a_scheduled_message_takes_part_in_duplicate_detection(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    let due = clock.now() + 3 * WINDOW;
    queue.send("q", &[scheduled("a", due)]).await.unwrap();
    queue.send("q", &[message("a"), scheduled("a", due - WINDOW)]).await.unwrap();
    assert_eq!(receive(&*queue).await, [], "one that is due at once is a duplicate of one that is not yet");
    clock.advance(WINDOW);
    queue.send("q", &[message("a")]).await.unwrap();
    assert_eq!(receive_one(&*queue).await.enqueued_at, clock.now(), "the window runs from the sending");
    clock.advance(2 * WINDOW);
    let received = receive(&*queue).await;
    assert_eq!(received.iter().filter(|delivery| delivery.enqueued_at == due).count(), 1);
}

pub async fn every_message_that_must_arrive_has_an_id_of_its_own(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    let policy = Policy {
        ways: vec![Way::Publisher],
        verify_after_success: false,
        arm_endpoint: "https://management.azure.com".to_owned(),
        arm_api_version: "2019-07-01".to_owned(),
    };
    let step = |refresh: &Refresh, event| refresh.apply(event, clock.now(), &policy).unwrap();
    let mut sent = Vec::new();
    // Released, sent again since its message was lost, put back and released again, called off and retried.
    let (released, next) = step(&refresh(1, 1), Event::Release);
    assert_eq!(next, Next::Send { at: None });
    sent.push(released.message_id());
    clock.advance((released.wake_at().unwrap() - clock.now()).to_std().unwrap());
    let (again, next) = step(&released, Event::Overdue);
    assert_eq!(next, Next::Send { at: None });
    sent.push(again.message_id());
    let (later, next) = step(&again, Event::Delay { until: clock.now() + LOCK });
    assert_eq!(next, Next::Send { at: Some(clock.now() + LOCK) });
    sent.push(later.message_id());
    let (back, _) = step(&later, Event::PutBack);
    let (released_again, _) = step(&back, Event::Release);
    sent.push(released_again.message_id());
    let (canceled, _) = step(&released_again, Event::Cancel);
    let (retried, _) = step(&canceled, Event::Retry);
    let (released_once_more, _) = step(&retried, Event::Release);
    sent.push(released_once_more.message_id());
    for id in &sent {
        queue.send("q", &[message(id)]).await.unwrap();
        queue.send("q", &[message(id)]).await.unwrap();
    }
    assert_eq!(ids(&receive(&*queue).await), sent);
}

pub async fn a_scheduled_message_is_not_delivered_before_it_is_due(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[scheduled("a", clock.now() + LOCK)]).await.unwrap();
    clock.advance(LOCK - MOMENT);
    assert_eq!(receive(&*queue).await, []);
    clock.advance(MOMENT);
    let delivery = receive_one(&*queue).await;
    assert_eq!((delivery.enqueued_at, delivery.delivery_count), (clock.now(), 1));
}

pub async fn a_lock_holds_for_its_time_and_then_the_message_is_delivered_again(
    open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>,
) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a")]).await.unwrap();
    let first = receive_one(&*queue).await;
    clock.advance(LOCK - MOMENT);
    assert_eq!(receive(&*queue).await, []);
    clock.advance(MOMENT);
    let second = receive_one(&*queue).await;
    assert_eq!((second.delivery_count, &second.body, second.sequence_number), (2, &first.body, first.sequence_number));
    assert_ne!(second.lock, first.lock);
    assert_eq!(second.enqueued_at, first.enqueued_at);
}

pub async fn an_abandoned_message_is_deliverable_at_once(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a"), message("b")]).await.unwrap();
    let first = queue.receive("q", 1, LOCK).await.unwrap().remove(0);
    clock.advance(MOMENT);
    assert!(queue.abandon("q", &first.lock).await.unwrap());
    let again = receive(&*queue).await;
    assert_eq!(ids(&again), ["a", "b"], "it keeps its place");
    assert_eq!([again[0].delivery_count, again[1].delivery_count], [2, 1]);
}

pub async fn the_last_abandoned_delivery_makes_a_dead_letter(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a")]).await.unwrap();
    for delivery in 1..=MAX_DELIVERIES {
        assert_eq!(queue.dead_letters("q", 10).await.unwrap(), []);
        let received = receive_one(&*queue).await;
        assert_eq!(received.delivery_count, delivery);
        assert!(queue.abandon("q", &received.lock).await.unwrap());
    }
    assert_eq!(receive(&*queue).await, []);
    let dead = queue.dead_letters("q", 10).await.unwrap();
    let [dead_letter] = &dead[..] else { panic!("one must be dead, not {dead:?}") };
    assert_eq!((dead_letter.id.as_str(), &dead_letter.body[..]), ("a", &b"body of a"[..]));
    assert_eq!((dead_letter.delivery_count, dead_letter.at), (MAX_DELIVERIES, clock.now()));
    assert!(dead_letter.reason.contains("10 times"), "{}", dead_letter.reason);
    assert_eq!(queue.dead_letters("q", 10).await.unwrap(), dead, "they stay where they are");
    assert_eq!(queue.dead_letters("other", 10).await.unwrap(), []);
    clock.advance(2 * WINDOW);
    assert_eq!(receive(&*queue).await, []);
}

pub async fn a_dead_letter_is_given_until_it_is_removed(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a"), message("b")]).await.unwrap();
    for _ in 1..=MAX_DELIVERIES {
        for delivery in receive(&*queue).await {
            queue.abandon("q", &delivery.lock).await.unwrap();
        }
    }
    let looked = queue.dead_letters("q", 10).await.unwrap();
    let taken = queue.take_dead_letters("q", 1).await.unwrap();
    assert_eq!(taken.iter().map(|(letter, _)| letter).collect::<Vec<_>>(), [&looked[0]], "the oldest first");
    // Nobody removed it: it comes again, when its lock has run out where there is one.
    clock.advance(5 * LOCK);
    let mut again = queue.take_dead_letters("q", 10).await.unwrap();
    // One whose lock ran out may come behind the others.
    again.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    assert_eq!(again.iter().map(|(letter, _)| letter).collect::<Vec<_>>(), looked.iter().collect::<Vec<_>>());
    let tokens: Vec<_> = again.into_iter().map(|(_, token)| token).collect();
    assert_eq!(queue.remove_dead_letters("other", &tokens[..1]).await.unwrap(), [false], "of another queue");
    assert_eq!(queue.remove_dead_letters("q", &tokens[..1]).await.unwrap(), [true]);
    assert_eq!(queue.remove_dead_letters("q", &tokens).await.unwrap(), [false, true], "gone is gone");
    let strange = [LockToken("strange".to_owned())];
    assert_eq!(queue.remove_dead_letters("q", &strange).await.unwrap(), [false]);
    clock.advance(5 * LOCK);
    assert_eq!(queue.take_dead_letters("q", 10).await.unwrap(), []);
    queue.send("q", &[message("c")]).await.unwrap();
    assert_eq!(receive_one(&*queue).await.id, "c", "the living are as they were");
}

pub async fn the_last_lock_that_runs_out_makes_a_dead_letter(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("b"), message("a")]).await.unwrap();
    for _ in 1..=MAX_DELIVERIES {
        assert_eq!(receive(&*queue).await.len(), 2);
        assert_eq!(queue.dead_letters("q", 10).await.unwrap(), [], "the last delivery may still be completed");
        clock.advance(LOCK);
    }
    assert_eq!(queue.dead_letters("q", 1).await.unwrap().len(), 1);
    let dead = queue.dead_letters("q", 10).await.unwrap();
    assert_eq!(dead.iter().map(|dead| dead.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(dead[0].delivery_count, MAX_DELIVERIES);
    assert_eq!(receive(&*queue).await, []);
}

pub async fn the_dead_do_not_hold_up_the_living(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    let spent: Vec<_> = (0..5).map(|number| message(&format!("spent {number}"))).collect();
    queue.send("q", &spent).await.unwrap();
    for _ in 1..=MAX_DELIVERIES {
        assert_eq!(receive(&*queue).await.len(), 5);
        clock.advance(LOCK);
    }
    queue.send("q", &[message("a"), message("b"), message("c")]).await.unwrap();
    assert_eq!(ids(&queue.receive("q", 2, LOCK).await.unwrap()), ["a", "b"], "a call is not answered short for them");
    assert_eq!(queue.dead_letters("q", 10).await.unwrap().len(), 5);
}

pub async fn a_renewed_lock_holds_from_then_on(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a")]).await.unwrap();
    let delivery = receive_one(&*queue).await;
    clock.advance(LOCK - MOMENT);
    assert!(queue.renew("q", &delivery.lock, LOCK).await.unwrap());
    clock.advance(LOCK - MOMENT);
    assert_eq!(receive(&*queue).await, []);
    assert!(queue.renew("q", &delivery.lock, LOCK).await.unwrap());
    clock.advance(LOCK);
    assert!(!queue.renew("q", &delivery.lock, LOCK).await.unwrap(), "it is too late");
    assert_eq!(receive_one(&*queue).await.delivery_count, 2);
}

pub async fn a_lost_lock_settles_nothing(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("a"), message("b"), message("c")]).await.unwrap();
    let mut first = receive(&*queue).await;
    let (c, b, a) = (first.remove(2), first.remove(1), first.remove(0));
    let holds = async |lock: &LockToken| {
        let held = [
            queue.complete("q", std::slice::from_ref(lock)).await.unwrap()[0],
            queue.abandon("q", lock).await.unwrap(),
            queue.renew("q", lock, LOCK).await.unwrap(),
        ];
        assert!(held.iter().all(|each| *each == held[0]));
        held[0]
    };
    assert_eq!(queue.complete("q", std::slice::from_ref(&b.lock)).await.unwrap(), [true]);
    assert!(!holds(&b.lock).await, "it was completed");
    assert!(queue.abandon("q", &c.lock).await.unwrap());
    assert!(!holds(&c.lock).await, "it was given back");
    clock.advance(LOCK);
    assert!(!holds(&a.lock).await, "it ran out, though nobody else has the message yet");
    let again = receive(&*queue).await;
    assert_eq!(ids(&again), ["c", "a"], "a is due since its lock ran out");
    assert!(!holds(&a.lock).await, "somebody else has it");
    for strange in ["", "1", "x.y", "-1.1", "999999.1", "99999999999999999999.1"] {
        assert!(!holds(&LockToken(strange.to_owned())).await, "{strange}");
    }
    let locks: Vec<_> = [&again[0].lock, &a.lock, &again[1].lock, &again[1].lock].map(LockToken::clone).to_vec();
    assert_eq!(queue.complete("q", &locks).await.unwrap(), [true, false, true, false]);
}

pub async fn queues_do_not_mix(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, _clock) = one(&open);
    queue.send("q", &[message("a")]).await.unwrap();
    queue.send("other", &[message("a"), message("b")]).await.unwrap();
    let ours = receive_one(&*queue).await;
    let theirs = queue.receive("other", 10, LOCK).await.unwrap();
    assert_eq!(ids(&theirs), ["a", "b"], "an id is no duplicate of one in another queue");
    assert_eq!(queue.receive("third", 10, LOCK).await.unwrap(), []);
    assert_eq!(queue.complete("other", std::slice::from_ref(&ours.lock)).await.unwrap(), [false]);
    assert!(!queue.abandon("other", &ours.lock).await.unwrap());
    assert!(!queue.renew("other", &ours.lock, LOCK).await.unwrap());
    assert_eq!(queue.complete("q", &[ours.lock]).await.unwrap(), [true]);
}

pub async fn sender_and_receiver_may_have_a_handle_each(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let clock = Arc::new(ManualClock::default());
    let (sender, receiver) = (open(clock.clone()), open(clock.clone()));
    let sending = async {
        for number in 0..200 {
            sender.send("q", &[message(&format!("{number}"))]).await.unwrap();
        }
    };
    let receiving = async {
        let mut received = Vec::new();
        while received.len() < 200 {
            let batch = receiver.receive("q", 16, LOCK).await.unwrap();
            let locks: Vec<_> = batch.iter().map(|delivery| delivery.lock.clone()).collect();
            assert!(receiver.complete("q", &locks).await.unwrap().iter().all(|held| *held));
            received.extend(batch.into_iter().map(|delivery| delivery.id));
        }
        received
    };
    let ((), received) = futures_util::future::join(sending, receiving).await;
    assert_eq!(received, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    sender.send("q", &[message("0")]).await.unwrap();
    receiver.send("q", &[message("1")]).await.unwrap();
    assert_eq!(receive(&*receiver).await, [], "both know which ids were sent");
}

pub async fn receivers_at_once_never_get_the_same_message(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let clock = Arc::new(ManualClock::default());
    let queues = [open(clock.clone()), open(clock.clone())];
    let messages: Vec<_> = (0..100).map(|number| message(&format!("{number}"))).collect();
    queues[0].send("q", &messages).await.unwrap();
    let receivers = (0..40).map(|number| {
        let queue = queues[number % 2].clone();
        tokio::spawn(async move { queue.receive("q", 3, LOCK).await.unwrap() })
    });
    let received: Vec<_> = join_all(receivers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(received.len(), 100);
    assert_eq!(received.iter().map(|delivery| &delivery.id).collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(received.iter().map(|delivery| &delivery.lock.0).collect::<BTreeSet<_>>().len(), 100);
}

pub async fn messages_locks_and_ids_are_there_after_opening_again(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>) {
    let (queue, clock) = one(&open);
    queue.send("q", &[message("done"), message("held")]).await.unwrap();
    let before = receive(&*queue).await;
    assert_eq!(queue.complete("q", std::slice::from_ref(&before[0].lock)).await.unwrap(), [true]);
    queue.send("q", &[message("waiting"), scheduled("later", clock.now() + 2 * LOCK)]).await.unwrap();
    drop(queue);

    let queue = open(clock.clone());
    queue.send("q", &["done", "held", "waiting", "later"].map(message)).await.unwrap();
    assert_eq!(ids(&receive(&*queue).await), ["waiting"]);
    assert!(queue.renew("q", &before[1].lock, LOCK).await.unwrap());
    clock.advance(LOCK);
    assert_eq!(ids(&receive(&*queue).await), ["held", "waiting"]);
    clock.advance(LOCK);
    let last = receive(&*queue).await;
    assert_eq!(last.iter().map(|last| (last.id.as_str(), last.delivery_count)).max(), Some(("waiting", 3)));
    assert!(ids(&last).contains(&"later"));
}

pub async fn a_thousand_messages_are_sent_received_and_completed_at_once(
    open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>,
) {
    let (queue, _clock) = one(&open);
    let messages: Vec<_> = (0..1_000).map(|number| message(&format!("{number}"))).collect();
    queue.send("q", &messages).await.unwrap();
    assert_eq!(queue.receive("q", 0, LOCK).await.unwrap(), []);
    let received = queue.receive("q", 2_000, LOCK).await.unwrap();
    assert_eq!(ids(&received), messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>());
    assert!(received.windows(2).all(|pair| pair[0].sequence_number < pair[1].sequence_number));
    let locks: Vec<_> = received.into_iter().map(|delivery| delivery.lock).collect();
    assert_eq!(queue.complete("q", &locks).await.unwrap(), vec![true; 1_000]);
    queue.send("q", &messages).await.unwrap();
    assert_eq!(receive(&*queue).await, []);
}

pub async fn an_id_that_is_empty_or_too_long_is_refused_and_nothing_is_sent(
    open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Queue>,
) {
    let (queue, _clock) = one(&open);
    let longest = "ü".repeat(128);
    for bad in [String::new(), "ü".repeat(129)] {
        let told = queue.send("q", &[message("a"), message(&bad), message("b")]).await.unwrap_err();
        assert!(matches!(&told, QueueError::Refused { queue, .. } if queue == "q"), "{told}");
        assert!(told.to_string().contains("1 to 128 characters"), "{told}");
    }
    assert_eq!(receive(&*queue).await, []);
    queue.send("q", &[message(&longest), scheduled("a", at(0))]).await.unwrap();
    assert_eq!(ids(&receive(&*queue).await), [longest.as_str(), "a"]);
}
