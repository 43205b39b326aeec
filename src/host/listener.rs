//! Delivers the messages of one queue to one function: so many at once, completed, abandoned and renewed as the real
//! host does (contracts/custom-handler.md §9). It does not know what is in them, and retries nothing: redelivery and dead
//! letters are the queue's.
//!
//! Completions that become known while the queue is still busy with earlier ones are handed over in one call, so that a
//! durable queue pays for one commit instead of many.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use uuid::Uuid;

use super::{
    config::ServiceBusOptions,
    envelope::{self, Sys},
    invoke::{Invoker, Target},
    metadata::ServiceBusTrigger,
    stopping::Stopping,
};
use crate::queue::{Delivery, LockToken, Queue};
use crate::rollout::counted;
use crate::rollout::counted::were;

/// The most that are asked for in one go.
const MOST_RECEIVED: usize = 256;
const SHORTEST_GAP: Duration = Duration::from_millis(5);
const LONGEST_GAP: Duration = Duration::from_millis(100);
/// After a failed look at the queue.
const GAP_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Listens to one queue.
pub struct Listener {
    /// The function.
    pub target: Arc<Target>,
    /// Its trigger.
    pub trigger: ServiceBusTrigger,
    /// How many at once, and for how long locks are renewed.
    pub options: ServiceBusOptions,
    /// For how long a message is locked at a time.
    pub lock: Duration,
    /// Where the messages come from.
    pub queue: Arc<dyn Queue>,
    /// Calls the function.
    pub invoker: Arc<Invoker>,
    /// When to stop.
    pub stopping: Stopping,
}

/// A message that was worked on. It keeps its place until the queue knows.
struct Finished {
    lock: LockToken,
    outcome: Outcome,
    place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
}

impl Listener {
    /// Listens until the host stops, and returns when all that was taken has been settled.
    pub async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.options.max_concurrent_calls));
        let (finished, settling) = mpsc::unbounded_channel();
        let settling = tokio::spawn(settle(Arc::clone(&self.queue), self.trigger.queue.clone(), settling));
        let work = self.work();
        let mut stopping = self.stopping.clone();
        let mut gap = SHORTEST_GAP;
        let mut failing = false;
        while !self.stopping.now() {
            let free = tokio::select! {
                free = take_places(&places) => free,
                () = stopping.wait() => break,
            };
            let Some(mut free) = free else { break };
            let asked = free.num_permits();
            // Made before the queue is looked at, so that no answer in between is missed.
            let answered = self.invoker.answered.notified();
            let wait = match self.queue.receive(&self.trigger.queue, asked, self.lock).await {
                Ok(deliveries) => {
                    if failing {
                        tracing::info!("queue {} can be read again", self.trigger.queue);
                        failing = false;
                    }
                    gap = next_gap(gap, deliveries.len());
                    let drained = deliveries.len() < asked;
                    for delivery in deliveries {
                        if let Some(place) = free.split(1) {
                            begin(Arc::clone(&work), delivery, place, finished.clone());
                        }
                    }
                    if drained { gap } else { Duration::ZERO }
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "queue {} cannot be read: {error}", self.trigger.queue);
                        failing = true;
                    }
                    GAP_AFTER_FAILURE
                }
            };
            drop(free);
            if !wait.is_zero() {
                // Messages are sent by the handler while it answers, so an answer is a reason to look again.
                let sent_perhaps = async {
                    tokio::time::sleep(SHORTEST_GAP).await;
                    answered.await;
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = sent_perhaps, if !failing => {}
                    () = self.stopping.wait() => {}
                }
            }
        }
        drop(finished);
        if settling.await.is_err() {
            tracing::error!("what queue {} was told about finished messages is unknown", self.trigger.queue);
        }
    }

    fn work(&self) -> Arc<Work> {
        Arc::new(Work {
            target: Arc::clone(&self.target),
            invoker: Arc::clone(&self.invoker),
            queue: Arc::clone(&self.queue),
            trigger: self.trigger.clone(),
            lock: self.lock,
            renewed_for: self.options.max_auto_lock_renewal,
        })
    }
}

fn begin(work: Arc<Work>, delivery: Delivery, place: OwnedSemaphorePermit, finished: mpsc::UnboundedSender<Finished>) {
    tokio::spawn(async move {
        let outcome = work.deliver(&delivery).await;
        // Without the settling side the lock runs out by itself and the message comes again.
        let _nobody = finished.send(Finished { lock: delivery.lock, outcome, place });
    });
}

/// All the places that are free, at least one. `None` if there will be none.
async fn take_places(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let mut free = Arc::clone(places).acquire_owned().await.ok()?;
    let more = places.available_permits().min(MOST_RECEIVED - 1);
    if let Ok(more) = Arc::clone(places).try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
        free.merge(more);
    }
    Some(free)
}

/// Short while messages come, doubling while they do not.
fn next_gap(gap: Duration, received: usize) -> Duration {
    if received > 0 { SHORTEST_GAP } else { (gap * 2).min(LONGEST_GAP) }
}

struct Work {
    target: Arc<Target>,
    invoker: Arc<Invoker>,
    queue: Arc<dyn Queue>,
    trigger: ServiceBusTrigger,
    lock: Duration,
    renewed_for: Duration,
}

impl Work {
    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        let function = &self.target.function;
        let sys = Sys::new(&function.name, self.invoker.clock.now());
        let body = envelope::message(&function.trigger_name, delivery, self.trigger.body, sys);
        let invocation = Uuid::new_v4();
        let result = {
            let call = self.invoker.invoke(&self.target, invocation, body);
            let renewal = self.keep_lock(delivery);
            tokio::pin!(call, renewal);
            tokio::select! {
                result = &mut call => result,
                () = &mut renewal => call.await,
            }
        };
        match result {
            Ok(_) => Outcome::Succeeded,
            Err(error) => {
                tracing::warn!(
                    %invocation,
                    delivery_count = delivery.delivery_count,
                    "{} failed on message {} of queue {}: {error}",
                    function.name,
                    delivery.id,
                    self.trigger.queue,
                );
                Outcome::Failed
            }
        }
    }

    /// Renews at half time until the lock is lost or has been renewed for as long as host.json allows.
    async fn keep_lock(&self, delivery: &Delivery) {
        let begun = Instant::now();
        while begun.elapsed() + self.lock / 2 < self.renewed_for {
            tokio::time::sleep(self.lock / 2).await;
            match self.queue.renew(&self.trigger.queue, &delivery.lock, self.lock).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("the lock on message {} of queue {} was lost", delivery.id, self.trigger.queue);
                    return;
                }
                Err(error) => tracing::warn!(%error, "a lock of queue {} was not renewed: {error}", self.trigger.queue),
            }
        }
    }
}

/// Tells the queue what became of the messages, as many at once as have come together.
async fn settle(queue: Arc<dyn Queue>, name: String, mut finished: mpsc::UnboundedReceiver<Finished>) {
    let mut batch = Vec::new();
    while finished.recv_many(&mut batch, MOST_RECEIVED).await > 0 {
        let mut done = Vec::with_capacity(batch.len());
        let mut places: Option<OwnedSemaphorePermit> = None;
        let mut failed = Vec::new();
        for finished in batch.drain(..) {
            match finished.outcome {
                Outcome::Succeeded => done.push(finished.lock),
                Outcome::Failed => failed.push(finished.lock),
            }
            match &mut places {
                Some(places) => places.merge(finished.place),
                None => places = Some(finished.place),
            }
        }
        if !done.is_empty() {
            match queue.complete(&name, &done).await {
                Ok(held) => {
                    let lost = held.iter().filter(|held| !**held).count();
                    if lost > 0 {
                        tracing::warn!(
                            lost,
                            "{} of queue {name} {} completed too late: what was lost comes again",
                            counted(lost as u64, "message"),
                            were(lost as u64)
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "What was not completed comes again, {}: {error}", counted(done.len() as u64, "message"));
                }
            }
        }
        for lock in failed {
            if let Err(error) = queue.abandon(&name, &lock).await {
                tracing::warn!(%error, "a failed message comes again only when its lock runs out: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_queue_is_looked_at_ever_less_often_and_a_busy_one_at_once() {
        let mut gaps = vec![];
        let mut gap = SHORTEST_GAP;
        for received in [0, 0, 0, 0, 0, 0, 1, 0] {
            gap = next_gap(gap, received);
            gaps.push(gap.as_millis());
        }
        assert_eq!(gaps, [10, 20, 40, 80, 100, 100, 5, 10]);
    }
}
