//! What a person's commands do to a rollout: each is exact, and given again it changes nothing.

use super::{Approval, Forgiven, Rollout, RolloutState, Vetting};
use crate::rollout::{Actor, Refresh, RolloutId, Standing, Tally, Timestamp};

/// A person's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Post nothing more until resumed.
    Pause,
    /// Go on.
    Resume,
    /// Let the last wave begin, where that waits for a person.
    Approve,
    /// Call off what was not posted.
    Cancel,
    /// Try again what ended badly.
    Retry(Retried),
}

/// What a retry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retried {
    /// Everything that failed.
    #[default]
    Failed,
    /// What waits for this actor, and nothing else. What was handed over waits for the customer.
    Of(Actor),
}

impl Retried {
    /// The standings among which what is to be tried again is found.
    pub fn standings(self) -> &'static [Standing] {
        use Standing as S;
        match self {
            Self::Failed => &[S::Failed, S::FailedUnproven, S::FailedByOffer, S::TimedOut],
            Self::Of(Actor::Offer) => &[S::FailedByOffer],
            Self::Of(Actor::Publisher) => &[S::Failed, S::FailedUnproven, S::TimedOut],
            Self::Of(Actor::Customer) => &[S::Failed, S::FailedUnproven, S::HandedOver],
            Self::Of(Actor::Microsoft) => &[S::Failed, S::FailedUnproven, S::TimedOut],
        }
    }

    /// Whether `refresh` is to be tried again.
    pub fn includes(self, refresh: &Refresh) -> bool {
        self.standings().contains(&Standing::of(refresh))
            && match self {
                Self::Failed => true,
                Self::Of(actor) => refresh.waits_for() == Some(actor),
            }
    }
}

/// A command that the rollout's state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalCommand {
    /// The state takes no such command.
    #[error("a rollout that is {state} cannot take the command {command}")]
    State {
        /// The state's name.
        state: &'static str,
        /// The command's name.
        command: &'static str,
    },
    /// To go on is to approve, and who says *resume* may mean an earlier pause.
    #[error(
        "the rollout waits for the approval of its last wave, which resume does not give: use approve, or cancel it"
    )]
    WaitsForApproval,
    /// Nobody asked for an approval.
    #[error("there is nothing to approve: the rollout is {state}")]
    NothingToApprove {
        /// The state's name.
        state: &'static str,
    },
}

impl Rollout {
    /// What a person's command does: the changed rollout, or `None` where it is so already.
    pub fn command(&self, command: Command, tally: &Tally, now: Timestamp) -> Result<Option<Self>, IllegalCommand> {
        use RolloutState as S;
        let mut next = self.clone();
        match (&self.state, command) {
            (S::Waiting { .. } | S::Planning | S::Running, Command::Pause) => {
                let on = if let S::Waiting { on } = self.state { Some(on) } else { None };
                next.state = S::Paused { why: "paused by a command".to_owned(), on };
            }
            (S::Paused { .. } | S::Halted { .. }, Command::Pause) => return Ok(None),
            (S::Paused { .. }, Command::Resume) if self.waits_for_approval() => {
                return Err(IllegalCommand::WaitsForApproval);
            }
            (S::Paused { .. } | S::Halted { .. }, Command::Resume) => {
                next.go_on(tally, now);
            }
            (S::Paused { .. }, Command::Approve) if self.waits_for_approval() => next.approve(now),
            (state, Command::Approve) if self.approval == Approval::Given && !state.is_ended() => return Ok(None),
            (state, Command::Approve) => return Err(IllegalCommand::NothingToApprove { state: state.name() }),
            (S::Waiting { .. } | S::Planning | S::Running, Command::Resume) => return Ok(None),
            (S::Canceled { .. }, Command::Cancel) => return Ok(None),
            (S::Completed, Command::Cancel | Command::Pause | Command::Resume)
            | (S::Canceled { .. }, Command::Pause | Command::Resume) => {
                return Err(IllegalCommand::State { state: self.state.name(), command: command.name() });
            }
            (_, Command::Cancel) => next.cancel(None, now),
            (S::Completed, Command::Retry(_)) if tally.count(|s| !s.has_result()) == 0 => return Ok(None),
            (S::Canceled { .. }, Command::Retry(_)) => {
                return Err(IllegalCommand::State { state: self.state.name(), command: command.name() });
            }
            // All that had failed is queued again, so whatever fails from now on counts.
            (state, Command::Retry(retried)) => {
                // A canary may be among them, and prove something yet.
                next.is_proof_missing = false;
                if state.is_ended() {
                    next.reopen(tally, now);
                }
                next.forgiven = match retried {
                    Retried::Failed => Forgiven::default(),
                    // The others were looked at before and still are.
                    Retried::Of(_) => next.forgiven.at_most(tally, self.wave),
                };
            }
        }
        Ok(Some(next))
    }

    /// Ends it: by a person, or because `superseded_by` takes its place.
    pub fn cancel(&mut self, superseded_by: Option<RolloutId>, now: Timestamp) {
        self.state = RolloutState::Canceled { superseded_by };
        self.ended_at = Some(now);
    }

    /// Goes on after its end, since refreshes of it are tried again.
    pub fn reopen(&mut self, tally: &Tally, now: Timestamp) {
        self.go_on(tally, now);
    }

    fn go_on(&mut self, tally: &Tally, now: Timestamp) {
        let was_paused = matches!(self.state, RolloutState::Paused { .. });
        if self.approval == Approval::Asked {
            // It halted while it waited for that, so the question comes again.
            self.approval = Approval::Pending;
        }
        if self.vetting == Vetting::Parked {
            self.vetting = Vetting::Done;
        }
        self.forgiven = Forgiven {
            all: tally.count(Standing::is_failure),
            in_wave: tally.count_in(self.wave, Standing::is_failure),
            // Of a paused one nobody has said yet that the offer is to blame: it halts instead.
            by_offer: if was_paused { self.forgiven.by_offer } else { tally.count(|s| s == Standing::FailedByOffer) },
        };
        self.canaries_waived |= std::mem::take(&mut self.is_proof_missing);
        if let Some(lint) = self.lint.as_mut().filter(|lint| lint.has_rejected && was_paused && self.wave == 0) {
            lint.is_waived = true;
        }
        self.state = match self.state {
            RolloutState::Paused { on: Some(on), .. } => RolloutState::Waiting { on },
            _ if self.wave == 0 => RolloutState::Planning,
            _ => RolloutState::Running,
        };
        self.ended_at = None;
        self.walk.dead_letters = 0;
        if !self.walk.wave_is_planned && !matches!(self.state, RolloutState::Waiting { .. }) {
            self.ask_planner(now);
        }
    }
}

impl Command {
    /// The command's word in routes and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Cancel => "cancel",
            Self::Retry(_) => "retry",
        }
    }

    /// The command that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Pause, Self::Resume, Self::Approve, Self::Cancel, Self::Retry(Retried::Failed)]
            .into_iter()
            .find(|c| c.name() == word)
    }
}
