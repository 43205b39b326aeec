//! What happens to a simulated run: time passes, people publish and command, deployments come and go, and ARM and the
//! machines around it change their ways.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::Method;
use permafresh::arm::simulator::ApplicationSpec;
use serde_json::{Value, json};

use super::super::weather;
use super::Simulation;
use crate::world::{SIG, application, publish};

const VERSIONS: [&str; 4] = ["1.5.0", "1.6.0", "1.7.0", "2.0.0"];

impl Simulation {
    pub(super) fn pass_time(&mut self) {
        let seconds = match self.chance.below(12) {
            0 => self.chance.between(60, 400),
            1 => self.chance.between(400, 4_000),
            _ => self.chance.between(1, 20),
        };
        self.pass(Duration::from_secs(seconds));
    }

    fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        for instance in &mut self.instances {
            instance.clock.advance(by);
            if let Some(invocation) = &mut instance.busy {
                invocation.held_up += by;
            }
        }
    }

    pub(super) fn clock_jumps(&mut self) {
        if !self.chance.one_in(6) {
            // Everybody's: the machine slept.
            return self.pass(Duration::from_secs(self.chance.clone().between(3_600, 100_000)));
        }
        self.count("wrong clocks");
        self.ledger.clock_is_wrong();
        let at = self.chance.index(self.instances.len());
        let by = Duration::from_secs(self.chance.between(600, 30_000));
        let clock = &self.instances[at].clock;
        if self.chance.one_in(2) { clock.advance(by) } else { clock.set_back(by) }
    }

    pub(super) fn change_outage(&mut self) {
        self.count("outages");
        let down = [self.chance.one_in(3), self.chance.one_in(3)];
        self.outage.store.store(down[0], Ordering::SeqCst);
        self.outage.queue.store(down[1], Ordering::SeqCst);
    }

    /// ARM does something else than usual, for one application.
    pub(super) fn arm_changes(&mut self) {
        let id = self.chance.pick(&self.ids);
        let (chance, simulator) = (&mut self.chance, &self.world.simulator);
        for _ in 0..chance.between(1, 3) {
            match chance.below(5) {
                0..=1 => simulator.on_post(&id, [weather::on_post(chance, &self.elsewhere, self.hangs)]),
                2..=3 => simulator.on_poll(&id, [weather::on_poll(chance, &self.elsewhere, self.hangs)]),
                _ => {
                    let on_read = weather::on_read(chance, self.hangs);
                    // Said twice in a row it is believed.
                    if weather::says_gone(&on_read) && !self.said_gone.insert(id.key()) {
                        self.stayed.retain(|stayed| *stayed != id);
                    }
                    simulator.on_read(&id, [on_read]);
                }
            }
        }
        match chance.below(20) {
            0 => simulator.throttle(id.subscription(), Duration::from_secs(chance.between(10, 500))),
            1 => simulator.revoke_tokens(),
            _ => {}
        }
    }

    pub(super) async fn publish(&mut self) {
        let chance = &mut self.chance;
        let strategy = json!({
            "canaries": chance.pick(&[0, 1, 1, 2]),
            "waves": chance.pick(&[json!([]), json!(["40%"]), json!([2, "60%"]), json!(["100%"])]),
            "maxFailures": chance.pick(&["0%", "20%", "50%", "100%"]),
            "maxInFlight": chance.pick(&[1, 2, 4, 2_000]),
            "pauseBetweenWaves": chance.pick(&["PT0S", "PT0S", "PT2M"]),
            "approveLastWave": chance.one_in(8),
        });
        let mut body = json!({"version": chance.pick(&VERSIONS), "strategy": strategy});
        if chance.one_in(3) {
            body["supersede"] = json!(true);
        }
        if chance.one_in(8) {
            body["purpose"] = json!("repair");
        }
        self.request(Method::POST, "/api/offer-publishes".into(), publish(body)).await;
    }

    pub(super) async fn command(&mut self) {
        let rollouts = self.ledger.rollouts();
        if rollouts.is_empty() {
            return self.publish().await;
        }
        let id = self.chance.pick(&rollouts).id;
        let (path, body) = match self.chance.below(24) {
            0..=3 => (format!("/api/rollouts/{id}/pause"), Value::Null),
            4..=10 => (format!("/api/rollouts/{id}/resume"), Value::Null),
            11..=12 => (format!("/api/rollouts/{id}/approve"), Value::Null),
            13 if self.chance.one_in(2) => (format!("/api/rollouts/{id}/cancel"), Value::Null),
            14..=16 => (format!("/api/rollouts/{id}/retry"), Value::Null),
            17 => ("/api/stop".to_owned(), json!({"why": "to see"})),
            18..=20 => ("/api/start".to_owned(), json!({})),
            21 => {
                let key = self.chance.pick(&self.ids).key();
                (format!("/api/deployments/{key}/hold"), json!({"why": "not now"}))
            }
            _ => (format!("/api/deployments/{}/release", self.chance.pick(&self.ids).key()), Value::Null),
        };
        if ["/resume", "/approve", "/retry"].iter().any(|word| path.ends_with(word)) {
            self.ledger.waved_through(id);
        }
        self.request(Method::POST, path, body).await;
    }

    /// Deployments come and go.
    pub(super) async fn world_changes(&mut self) {
        let (id, event, state) = match self.chance.below(6) {
            0..=1 if self.ids.len() < 16 => {
                let id = application(self.ids.len());
                self.world.simulator.add_application(ApplicationSpec::new(id.clone()));
                self.ids.push(id.clone());
                (id, "PUT", "Succeeded")
            }
            2 => {
                let id = self.chance.pick(&self.ids);
                self.world.simulator.delete_application(&id);
                (id, "DELETE", "Deleted")
            }
            3 => {
                let id = self.chance.pick(&self.ids);
                self.world.simulator.add_application(ApplicationSpec::new(id.clone()));
                (id, "PUT", "Succeeded")
            }
            4 => (self.chance.pick(&self.ids), "DELETE", "Deleting"),
            _ => (self.chance.pick(&self.ids), "PUT", "Accepted"),
        };
        if event == "DELETE" {
            self.stayed.retain(|stayed| *stayed != id);
            self.ledger.unsettled(&id.key());
        }
        let body = json!({
            "eventType": event, "applicationId": id, "provisioningState": state, "eventTime": self.clock.now(),
            "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"},
        });
        self.request(Method::POST, format!("/api/notification/resource?sig={SIG}"), body).await;
    }
}
