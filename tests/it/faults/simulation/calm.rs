//! The end of a simulated run: nothing goes wrong any more, every rollout has to come to its end, and what is stored then
//! has to be what was written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::Method;
use permafresh::rollout::{Refresh, Rollout, RolloutId, RolloutState, Standing, Tally};
use permafresh::store::PageRequest;
use serde_json::{Value, json};

use super::super::weather::SECRET;
use super::{LOCK, Simulation, Work};
use crate::world::{SIG, World, invoke_message};

/// Who needs more rounds of calm has lost something: three weeks of them.
const ROUNDS: usize = 4_000;

impl Simulation {
    /// Nothing goes wrong any more, and people see to what waits for them. Who does not come to an end by that is a problem.
    pub(super) async fn calm(&mut self) -> Vec<String> {
        self.is_calm = true;
        self.outage.store.store(false, Ordering::SeqCst);
        self.outage.queue.store(false, Ordering::SeqCst);
        while let Some(at) = self.resting() {
            if self.chance.one_in(2) {
                self.instances.swap(at, 0);
                self.die_first();
            } else {
                self.instances[at].faults.let_go();
                self.drive(at).await;
            }
        }
        for dead in std::mem::take(&mut self.instances) {
            dead.faults.kill();
            self.start(self.clock.clone());
        }
        // Whoever says so sees whether it was heard, and says it again.
        for _ in 0..5 {
            let answer = self.request(Method::POST, "/api/start".into(), json!({})).await;
            tracing::info!("start was answered {answer:?}");
            if answer.is_some_and(|(status, _)| status.is_success()) {
                break;
            }
        }
        for round in 0..ROUNDS {
            self.run_due().await;
            let open: Vec<_> = self.ledger.rollouts().into_iter().filter(|rollout| !self.is_done(rollout)).collect();
            if open.is_empty() && round > 0 {
                return Vec::new();
            }
            for rollout in open {
                let word = match (&rollout.state, round) {
                    (RolloutState::Paused { .. }, _) if rollout.waits_for_approval() && round < 400 => "approve",
                    (RolloutState::Paused { .. }, 0..400) => "resume",
                    (RolloutState::Paused { .. } | RolloutState::Halted { .. }, _) => "cancel",
                    _ => continue,
                };
                self.ledger.waved_through(rollout.id);
                self.request(Method::POST, format!("/api/rollouts/{}/{word}", rollout.id), Value::Null).await;
            }
            let seconds = if round < 40 { 20 } else { 450 };
            self.clock.advance(Duration::from_secs(seconds));
        }
        let open = self.ledger.rollouts().into_iter().filter(|rollout| !self.is_done(rollout));
        open.map(|rollout| format!("rollout {} is {} for ever", rollout.id, rollout.state.name())).collect()
    }

    fn die_first(&mut self) {
        if let Some(invocation) = self.instances[0].busy.take() {
            drop(invocation.run);
            self.ledger.ended(invocation.number, true);
        }
        self.bury(0);
    }

    fn is_done(&self, rollout: &Rollout) -> bool {
        let refreshes = self.ledger.refreshes_of(rollout.id);
        rollout.state.is_ended() && refreshes.iter().all(|refresh| refresh.state.is_terminal())
    }

    async fn run_due(&mut self) {
        self.tick().await;
        loop {
            let mut inbox = std::mem::take(&mut self.inbox);
            for queue in ["rollouts", "refreshes"] {
                let received = self.world.queue.receive(queue, 16, LOCK).await.unwrap();
                inbox.extend(received.into_iter().map(|delivery| (queue, delivery)));
            }
            if inbox.is_empty() {
                return;
            }
            for (queue, delivery) in inbox {
                self.inbox = vec![(queue, delivery)];
                self.deliver_calmly().await;
            }
            self.tick().await;
        }
    }

    async fn deliver_calmly(&mut self) {
        while let Some((queue, delivery)) = self.inbox.pop() {
            let function = if queue == "rollouts" { "PlanRollout" } else { "RefreshDeployment" };
            let (router, body) = (self.instances[0].router.clone(), delivery.body.clone());
            let run = async move { (invoke_message(&router, function, &body).await, String::new()) };
            self.invoke(0, Work::Message { queue, delivery }, run).await;
        }
    }

    /// The questions to what is stored in the end.
    pub(super) async fn results(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let rollouts = self.ledger.rollouts();
        if rollouts.is_empty() {
            self.count("runs without a rollout");
        }
        for rollout in rollouts {
            let id = rollout.id;
            let stored = stored_refreshes(&self.world, id).await;
            let mut tally = Tally::default();
            for refresh in &stored {
                tally.add(refresh.wave, Standing::of(refresh), 1);
                if !refresh.state.is_terminal() {
                    problems.push(format!("{} is {}", refresh.application_id.name(), refresh.state.name()));
                }
                self.count(refresh.state.name());
            }
            if self.world.store.tally(id).await.unwrap() != tally {
                problems.push(format!("the tally of rollout {id} is not what its refreshes say"));
            }
            if stored != self.ledger.refreshes_of(id) {
                problems.push(format!("rollout {id} is stored otherwise than it was written"));
            }
            if rollout.state == RolloutState::Completed {
                for id in &self.stayed {
                    if !stored.iter().any(|refresh| refresh.application_id == *id) {
                        problems.push(format!("rollout {} is completed without {}", rollout.id, id.name()));
                    }
                }
                self.count("completed rollouts");
            } else {
                self.count("canceled rollouts");
            }
            let report = self.world.get(&format!("/api/rollouts/{id}/report")).await.to_string();
            for secret in [SECRET, "MII", SIG] {
                if report.contains(secret) {
                    problems.push(format!("the report of rollout {id} tells {secret}"));
                }
            }
        }
        for queue in ["rollouts", "refreshes"] {
            let dead = self.world.queue.dead_letters(queue, 100).await.unwrap().len();
            *self.counts.entry("dead letters left").or_default() += dead;
        }
        problems
    }
}

async fn stored_refreshes(world: &World, id: RolloutId) -> Vec<Refresh> {
    let page = PageRequest { continuation: None, top: 1_000 };
    let page = world.store.refreshes(id, None, &page).await.unwrap();
    page.items.into_iter().map(|refresh| refresh.value).collect()
}
