//! What a rollout waits for before its first and its last wave: a look at its version, the lint, a person's approval.
//!
//! Looks at nothing itself; what a person's command does besides is in [`super::command`].

use serde::{Deserialize, Serialize};

use super::{Rollout, RolloutState};
use crate::rollout::lint::Finding;
use crate::rollout::{Purpose, Timestamp, counted};

/// What the lint said, and what a person made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LintNote {
    /// The findings, the rejected ones first.
    pub findings: Vec<Finding>,
    /// Whether the rollout was paused for them.
    pub has_rejected: bool,
    /// Whether a person has resumed it all the same.
    #[serde(default)]
    pub is_waived: bool,
}

/// How it stands with the approval of the last wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Approval {
    /// Nobody was asked yet.
    #[default]
    Pending,
    /// The rollout is paused for it, or was when it halted.
    Asked,
    /// A person has given it.
    Given,
}

/// How it stands with the look at its version: whether that is worth a rollout, and fit for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Vetting {
    /// Nothing stands against it, or a person has decided.
    #[default]
    Done,
    /// It is to be looked at before anything is planned.
    Due,
    /// It was looked at and is paused for a person: resuming is deciding.
    Parked,
}

impl Rollout {
    /// Whether the lint has to look at its version before it begins: it brings one, and no person has waived the lint.
    pub fn wants_lint(&self) -> bool {
        let is_waived = self.lint.as_ref().is_some_and(|lint| lint.is_waived);
        matches!(self.publish.purpose, Purpose::RollOut | Purpose::Repair) && !is_waived
    }

    /// Notes what the lint said, and does not begin for `rejection`.
    pub fn note_lint(&mut self, findings: Vec<Finding>, rejection: Option<String>) {
        self.lint = Some(LintNote { findings, has_rejected: rejection.is_some(), is_waived: false });
        if let Some(why) = rejection {
            self.park(why);
        }
    }

    /// Does not begin, for a reason that a person has to look at.
    pub fn park(&mut self, why: String) {
        self.state = RolloutState::Paused { why, on: None };
        self.vetting = Vetting::Parked;
    }

    /// Whether it has not begun and waits for a person to decide whether it should: nothing has to wait for it.
    pub fn is_parked(&self) -> bool {
        self.vetting == Vetting::Parked && matches!(self.state, RolloutState::Paused { .. })
    }

    /// Whether `wave` is the last one and waits for a person's approval.
    pub(super) fn needs_approval(&self, wave: u32) -> bool {
        self.publish.strategy.approve_last_wave && self.approval != Approval::Given && wave >= self.waves()
    }

    /// Whether it is paused until a person approves its last wave.
    pub fn waits_for_approval(&self) -> bool {
        self.approval == Approval::Asked && matches!(self.state, RolloutState::Paused { .. })
    }

    pub(super) fn ask_approval(&mut self) {
        let (version, whole) = (self.publish.version, self.walk.whole);
        let ends = self.publish.strategy.wave_ends(whole);
        let done = ends.iter().rev().nth(1).copied().unwrap_or(0);
        let why = format!(
            "waits for approval: the last wave would bring {version} to the remaining {} of {}; approve it, or cancel",
            whole - done,
            counted(whole, "deployment")
        );
        self.state = RolloutState::Paused { why, on: None };
        self.approval = Approval::Asked;
    }

    /// Lets the last wave begin. Forgives no failure: nobody was asked that.
    pub(super) fn approve(&mut self, now: Timestamp) {
        self.approval = Approval::Given;
        self.state = if self.wave == 0 { RolloutState::Planning } else { RolloutState::Running };
        if !self.walk.wave_is_planned {
            self.ask_planner(now);
        }
    }
}
