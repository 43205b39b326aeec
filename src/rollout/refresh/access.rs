//! Which way a refresh takes, what a refusal of it leads to, and what a gate that opens or closes changes: each way once,
//! then the gates, then the customer (design §3.3, §5).

use super::{GATE_FIRST_LOOK, GATE_PATIENCE, Gate, Next, Policy, Refresh, RefreshState};
use crate::rollout::hand_over::HandOver;
use crate::rollout::ways::Refusal;
use crate::rollout::{RemoteError, Timestamp, Way};

impl Gate {
    /// The way that it opens.
    pub fn way(&self) -> Option<Way> {
        match self {
            Self::Jit { .. } => Some(Way::Jit),
            Self::Consent { .. } | Self::SignIn => Some(Way::Gdap),
            Self::Window => None,
        }
    }
}

impl Refresh {
    /// The way to go by now: the one in use, else the first that was not refused yet.
    pub(super) fn choose_way(&self, policy: &Policy) -> Way {
        self.way
            .filter(|way| policy.ways.contains(way) && self.is_untried(*way))
            .unwrap_or_else(|| self.first_untried(policy))
    }

    fn first_untried(&self, policy: &Policy) -> Way {
        policy.ways.iter().copied().find(|way| self.is_untried(*way)).unwrap_or(Way::HandOver)
    }

    fn is_untried(&self, way: Way) -> bool {
        self.refusals.iter().all(|refusal| refusal.way != way)
    }

    /// The way in use is closed, until `gate` opens if there is one: the next way takes the attempt over.
    pub(super) fn refused(
        &mut self,
        attempt: u32,
        error: RemoteError,
        gate: Option<Gate>,
        now: Timestamp,
        policy: &Policy,
    ) -> Next {
        let way = self.way.unwrap_or(Way::Publisher);
        self.last_error = Some(error.clone());
        self.refusals.retain(|refusal| refusal.way != way);
        self.refusals.push(Refusal { way, error, at: now, gate });
        match self.first_untried(policy) {
            Way::HandOver => self.wait_at_gate(attempt, now, policy),
            way => {
                self.way = Some(way);
                self.queue(attempt, now, None)
            }
        }
    }

    /// No way is left: waits where somebody may open one, until that has taken too long.
    fn wait_at_gate(&mut self, attempt: u32, now: Timestamp, policy: &Policy) -> Next {
        let gated = self.refusals.iter().find_map(|refusal| Some((refusal.error.clone(), refusal.gate.clone()?)));
        let Some((error, gate)) = gated else { return self.hand_over(now, policy) };
        let deadline = *self.gate_deadline.get_or_insert(now + GATE_PATIENCE);
        if deadline <= now {
            return self.hand_over(now, policy);
        }
        self.way = gate.way();
        self.last_error = Some(error);
        let next_look = (now + GATE_FIRST_LOOK).min(deadline);
        self.state = RefreshState::AwaitingAccess { attempt, gate, next_look, deadline };
        Next::Nothing
    }

    /// The gate is open: its way is tried again.
    pub(super) fn gate_opened(&mut self, gate: &Gate, attempt: u32, now: Timestamp) -> Next {
        if let Some(way) = gate.way() {
            self.refusals.retain(|refusal| refusal.way != way);
            self.way = Some(way);
        }
        self.queue(attempt, now, None)
    }

    /// The gate will not open: its way was refused.
    pub(super) fn gate_closed(
        &mut self,
        gate: &Gate,
        attempt: u32,
        error: RemoteError,
        now: Timestamp,
        policy: &Policy,
    ) -> Next {
        self.way = gate.way();
        self.refused(attempt, error, None, now, policy)
    }

    pub(super) fn hand_over(&mut self, now: Timestamp, policy: &Policy) -> Next {
        let error = if self.refusals.is_empty() { None } else { self.last_error.clone() };
        let hand_over = HandOver::new(&self.application_id, self.version, error, policy);
        self.way = Some(Way::HandOver);
        self.end(RefreshState::HandedOver { hand_over }, now)
    }
}
