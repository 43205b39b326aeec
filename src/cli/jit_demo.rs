//! `permafresh demo --jit`: customers who have just-in-time access, and what they do about requests.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use super::output;
use crate::arm::simulator::{ApplicationSpec, OnJit, PRINCIPAL, Simulator};
use crate::rollout::ApplicationId;

/// How long a customer takes to decide.
const THINKING: Duration = Duration::from_secs(4);
/// How often we look what they do.
const LOOK: Duration = Duration::from_millis(250);
const AUTOMATIC: &str =
    r#"{"jitAccessEnabled":true,"jitApprovalMode":"AutoApprove","maximumJitAccessDuration":"PT8H","jitApprovers":[]}"#;
const MANUAL: &str = r#"{"jitAccessEnabled":true,"jitApprovalMode":"ManualApprove","maximumJitAccessDuration":"PT8H","jitApprovers":[{"id":"c0ffee00-0000-4000-8000-000000000009","type":"user","displayName":"Cloud duty officer"}]}"#;

/// What a customer has set, and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Automatic,
    Approves,
    Denies,
    WithoutLicence,
}

/// One of each, in the order of their refreshes.
const HABITS: [Habit; 6] =
    [Habit::Approves, Habit::Automatic, Habit::Denies, Habit::Approves, Habit::WithoutLicence, Habit::Automatic];

/// The customers who have just-in-time access.
#[derive(Default)]
pub(super) struct Customers {
    of: Vec<(ApplicationId, Habit)>,
}

impl Customers {
    /// Those right behind the canary, so that they wait while the others go on.
    pub(super) fn of(applications: &[ApplicationId]) -> Self {
        Self { of: applications.iter().skip(1).cloned().zip(HABITS).collect() }
    }

    /// Tells the simulator what they have set.
    pub(super) fn move_in(&self, simulator: &Simulator) {
        for (id, habit) in &self.of {
            let policy = if *habit == Habit::Automatic { AUTOMATIC } else { MANUAL };
            simulator.add_application(ApplicationSpec {
                jit_access_policy: Some(policy.into()),
                ..ApplicationSpec::new(id.clone())
            });
            if *habit == Habit::WithoutLicence {
                simulator.on_jit(id, [OnJit::without_p2()]);
            }
        }
    }

    /// The settings that the service needs for it.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        if self.of.is_empty() {
            return Vec::new();
        }
        vec![("JIT_PRINCIPAL_ID".to_owned(), PRINCIPAL.to_owned())]
    }

    /// Lives their lives: each is asked, thinks, and decides; told as it happens.
    pub(super) async fn decide(&self, simulator: &Simulator) -> Infallible {
        let mut asked = BTreeSet::new();
        let mut thinking = Vec::new();
        loop {
            for (id, habit) in &self.of {
                let Some(request) = simulator.jit_requests(id).pop() else { continue };
                if !asked.insert(request.name.clone()) {
                    continue;
                }
                let name = id.name();
                match habit {
                    Habit::Automatic => {
                        output::say(&format!(
                            "  asked        {name} for access, request {}: approved automatically",
                            request.name
                        ));
                    }
                    Habit::WithoutLicence => {
                        output::say(&format!(
                            "  asked        {name} for access, request {}: its tenant has no Entra ID P2",
                            request.name
                        ));
                    }
                    Habit::Approves | Habit::Denies => {
                        output::say(&format!(
                            "  asked        {name} for access, request {}: it waits for the customer",
                            request.name
                        ));
                        thinking.push((tokio::time::Instant::now() + THINKING, id, *habit, request.name));
                    }
                }
            }
            let now = tokio::time::Instant::now();
            thinking.retain(|(at, id, habit, request)| {
                if now < *at {
                    return true;
                }
                let (word, does) =
                    if *habit == Habit::Denies { ("Denied", "denies") } else { ("Approved", "approves") };
                simulator.decide_jit(id, word);
                output::say(&format!("  the customer {does} request {request} of {}", id.name()));
                false
            });
            tokio::time::sleep(LOOK).await;
        }
    }
}
