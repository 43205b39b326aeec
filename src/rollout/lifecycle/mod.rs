//! One rollout: a version on its way to a set of deployments, wave by wave, to its end.
//!
//! Pure: [`Rollout::review`] says what a tally means, [`Rollout::command`] what a person's command does. Planning is
//! a walk over the deployments in the order of their keys; the cursor is kept here, so a page done twice changes nothing.

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

use super::lint::Finding;
use super::{Actor, DeploymentKey, News, OfferPublish, Purpose, Refresh, RolloutId, Standing, Tally, Timestamp};

/// How many dead planning messages pause a rollout: an hour of them, since an outage of the store is no failure.
pub const DEAD_PLANS: u32 = 30;

/// How many more candidates may stand in for canaries that proved nothing (design §4).
pub const STAND_INS: u64 = 5;

/// A rollout with everything that is true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What it brings, to whom, how.
    pub publish: OfferPublish,
    /// Where it stands.
    pub state: RolloutState,
    /// The wave under way, 1-based; 0 while planning.
    pub wave: u32,
    /// Where the walk over the deployments stands.
    pub walk: Walk,
    /// How many stand-ins for canaries were asked for.
    pub stand_ins: u64,
    /// Whether a person has resumed it although its canaries proved nothing.
    #[serde(default)]
    pub canaries_waived: bool,
    /// What the lint said of the version's actions, once it has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<LintNote>,
    /// Failures that a person has looked at: those before the last `resume` or `retry`.
    pub forgiven: Forgiven,
    /// Whether the last wave has to be approved, is waiting for that, or was (`approveLastWave`).
    #[serde(default)]
    pub approval: Approval,
    /// Whether its version is still to be looked at before anything is planned.
    #[serde(default)]
    pub vetting: Vetting,
    /// When the next wave may start, once one has ended and `pauseBetweenWaves` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wave_at: Option<Timestamp>,
    /// What there was to tell of it, the last of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub news: Vec<News>,
    /// How many deployments had another version before; counted once a scheduled rollout completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Whether it has completed before: then its version is no news any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_completed: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

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

/// How many failures count no more, for each count that they are held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgiven {
    /// Of all waves.
    pub all: u64,
    /// Of the wave under way.
    pub in_wave: u64,
    /// Those that the offer itself is to blame for; a person has seen them only if the rollout had halted.
    pub by_offer: u64,
}

impl Forgiven {
    /// No more than what still stands as a failure.
    fn at_most(self, tally: &Tally, wave: u32) -> Self {
        Self {
            all: self.all.min(tally.count(Standing::is_failure)),
            in_wave: self.in_wave.min(tally.count_in(wave, Standing::is_failure)),
            by_offer: self.by_offer.min(tally.count(|s| s == Standing::FailedByOffer)),
        }
    }
}

/// How it stands with the approval of the last wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Approval {
    /// Nobody was asked yet.
    #[default]
    Pending,
    /// The rollout is paused for it: resuming is approving.
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

/// Where the walk over the deployments of the plan stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Walk {
    /// How many deployments there were when the walk began.
    pub whole: u64,
    /// The last deployment looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<DeploymentKey>,
    /// How many were looked at.
    pub walked: u64,
    /// Whether the current wave has all its members.
    pub wave_is_planned: bool,
    /// Whether there is nobody left to plan.
    pub is_over: bool,
    /// Grows with every planning message, lost ones included: part of its id.
    pub message: u32,
    /// When the walk last moved or was asked to; a walk that stands still is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// How many planning messages nobody could work off since the wave began or a person resumed.
    #[serde(default)]
    pub dead_letters: u32,
}

/// The states of design §4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RolloutState {
    /// It starts when another rollout of the plan has ended.
    Waiting {
        /// Which.
        on: RolloutId,
    },
    /// Its deployments are being counted.
    Planning,
    /// A wave is under way.
    Running,
    /// It waits for a person.
    Paused {
        /// Why, in words.
        why: String,
        /// The rollout that it waited for when it was paused, and waits for again when it is resumed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<RolloutId>,
    },
    /// It would fail everywhere.
    Halted {
        /// Why, in words, with the offending action.
        why: String,
    },
    /// Every refresh has its result.
    Completed,
    /// It was called off.
    Canceled {
        /// The rollout that took its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        superseded_by: Option<RolloutId>,
    },
}

/// A person's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Post nothing more until resumed.
    Pause,
    /// Go on.
    Resume,
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
        match self {
            Self::Failed => &[Standing::Failed, Standing::FailedByOffer, Standing::TimedOut],
            Self::Of(Actor::Offer) => &[Standing::FailedByOffer],
            Self::Of(Actor::Publisher) => &[Standing::Failed],
            Self::Of(Actor::Customer) => &[Standing::Failed, Standing::HandedOver],
            Self::Of(Actor::Microsoft) => &[Standing::Failed, Standing::TimedOut],
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
#[error("a rollout that is {state} cannot take the command {command}")]
pub struct IllegalCommand {
    /// The state's name.
    pub state: &'static str,
    /// The command's name.
    pub command: &'static str,
}

/// What a tally means for a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// Nothing to do until something ends.
    Wait,
    /// Wait until this time, then start the next wave.
    WaitUntil(Timestamp),
    /// Plan the next wave.
    NextWave,
    /// Plan so many more canaries: those so far proved nothing.
    MoreCanaries(u64),
    /// Stop and ask a person.
    Pause {
        /// Why.
        why: String,
    },
    /// Stop and ask a person whether the last wave may begin.
    AskApproval,
    /// Stop: it would fail everywhere.
    Halt,
    /// Every refresh has its result.
    Complete,
}

impl Rollout {
    /// A rollout that is to be planned.
    pub fn new(id: RolloutId, publish: OfferPublish, now: Timestamp) -> Self {
        Self {
            id,
            publish,
            state: RolloutState::Planning,
            wave: 0,
            walk: Walk { moved_at: Some(now), ..Walk::default() },
            stand_ins: 0,
            canaries_waived: false,
            lint: None,
            forgiven: Forgiven::default(),
            approval: Approval::default(),
            vetting: Vetting::default(),
            next_wave_at: None,
            news: Vec::new(),
            changed: None,
            has_completed: false,
            created_at: now,
            ended_at: None,
        }
    }

    /// What `tally` means. Pure: [`Rollout::accept`] carries the meaning into the state.
    pub fn review(&self, tally: &Tally, now: Timestamp) -> Review {
        let is_running = self.state == RolloutState::Running;
        let is_blamed = tally.count(|s| s == Standing::FailedByOffer) > self.forgiven.by_offer;
        // What was posted before a pause may still show that nobody should resume.
        if is_blamed && (is_running || matches!(self.state, RolloutState::Paused { .. })) {
            return Review::Halt;
        }
        if !is_running {
            return Review::Wait;
        }
        if let Some(why) = self.over_budget(tally) {
            return Review::Pause { why };
        }
        let in_wave = |of: fn(Standing) -> bool| tally.count_in(self.wave, of);
        if !self.walk.wave_is_planned || in_wave(|s| !s.is_out_of_the_wave()) > 0 {
            return Review::Wait;
        }
        let missing = self.missing_proofs(tally);
        if missing > 0 && !self.walk.is_over {
            return match STAND_INS.saturating_sub(self.stand_ins) {
                0 => {
                    let wanted = self.publish.strategy.canaries.count();
                    let proven = wanted - missing;
                    let why = format!(
                        "{proven} of {wanted} canaries proved the version, and {STAND_INS} stand-ins did not change that: look at them, then resume"
                    );
                    Review::Pause { why }
                }
                left => Review::MoreCanaries(missing.min(left)),
            };
        }
        if self.walk.is_over {
            let unfinished = tally.count(|s| !s.has_result());
            return if unfinished == 0 { Review::Complete } else { Review::Wait };
        }
        match self.next_wave_at {
            None if !self.publish.strategy.pause_between_waves.is_zero() => {
                Review::WaitUntil(now + self.publish.strategy.pause_between_waves)
            }
            // Asked while the pause between waves runs, so that both are waited for at once.
            _ if self.needs_approval(self.wave + 1) => Review::AskApproval,
            Some(at) if at > now => Review::WaitUntil(at),
            _ => Review::NextWave,
        }
    }

    /// Carries a review into the state; whether anything changed.
    pub fn accept(&mut self, review: &Review, offending: Option<&str>, now: Timestamp) -> bool {
        let before = self.clone();
        match review {
            Review::Wait => {}
            Review::WaitUntil(at) => self.next_wave_at = Some(*at),
            Review::NextWave => self.start_wave(self.wave + 1, now),
            Review::MoreCanaries(count) => {
                self.stand_ins += count;
                self.walk.wave_is_planned = false;
                self.ask_planner(now);
            }
            Review::Pause { why } => self.state = RolloutState::Paused { why: why.clone(), on: None },
            Review::AskApproval => self.ask_approval(),
            Review::Halt => {
                let why = match offending {
                    Some(action) => format!(
                        "the published version names the action {action}, which no Azure provider offers: it would fail at every customer; publish a corrected version"
                    ),
                    None => "a refresh failed because of the published version itself: it would fail at every customer; look at the failed refresh".to_owned(),
                };
                self.state = RolloutState::Halted { why };
            }
            Review::Complete => {
                self.state = RolloutState::Completed;
                self.has_completed = true;
                self.ended_at = Some(now);
            }
        }
        *self != before
    }

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

    /// Begins with the first wave, once the deployments were counted; asks first where that is the last one and has to be
    /// approved.
    pub fn begin(&mut self, whole: u64, now: Timestamp) {
        self.walk.whole = whole;
        self.vetting = Vetting::Done;
        if whole > 0 && self.needs_approval(1) {
            return self.ask_approval();
        }
        self.state = RolloutState::Running;
        self.start_wave(1, now);
    }

    /// Whether `wave` is the last one and waits for a person's approval.
    fn needs_approval(&self, wave: u32) -> bool {
        self.publish.strategy.approve_last_wave && self.approval != Approval::Given && wave >= self.waves()
    }

    fn ask_approval(&mut self) {
        let (version, whole) = (self.publish.version, self.walk.whole);
        let ends = self.publish.strategy.wave_ends(whole);
        let done = ends.iter().rev().nth(1).copied().unwrap_or(0);
        let why = format!(
            "waits for approval: the last wave would bring {version} to the remaining {} of {whole} deployments; resume to approve it, or cancel",
            whole - done
        );
        self.state = RolloutState::Paused { why, on: None };
        self.approval = Approval::Asked;
    }

    fn start_wave(&mut self, wave: u32, now: Timestamp) {
        self.wave = wave;
        self.forgiven.in_wave = 0;
        self.next_wave_at = None;
        self.walk.wave_is_planned = false;
        self.walk.dead_letters = 0;
        self.ask_planner(now);
    }

    /// A planning message is dead: after some of them a person has to look; till then the timer asks again. Whether it matters.
    pub fn planner_died(&mut self, reason: &str) -> bool {
        let plans =
            self.state == RolloutState::Planning || self.state == RolloutState::Running && !self.walk.wave_is_planned;
        if plans {
            self.walk.dead_letters += 1;
            // The next message, which the timer sends, has an id of its own.
            self.walk.message += 1;
            if self.walk.dead_letters >= DEAD_PLANS {
                let why =
                    format!("its deployments cannot be planned: {reason}; look at the service's log, then resume");
                self.state = RolloutState::Paused { why, on: None };
            }
        }
        plans
    }

    /// Another planning message is to be sent: it gets an id of its own.
    pub fn ask_planner(&mut self, now: Timestamp) {
        self.walk.message += 1;
        self.walk.moved_at = Some(now);
    }

    /// The id of the planning message that is to be sent.
    pub fn planning_message_id(&self) -> String {
        format!("{}:plan:{}", self.id, self.walk.message)
    }

    /// Whether `wave` is the one of the canaries.
    pub fn is_canary_wave(&self) -> bool {
        self.wave == 1 && self.publish.strategy.has_canaries()
    }

    /// How many canaries have yet to prove something; 0 in any other wave, and where a person does without.
    fn missing_proofs(&self, tally: &Tally) -> u64 {
        if !self.is_canary_wave() || self.canaries_waived {
            return 0;
        }
        self.publish.strategy.canaries.count().saturating_sub(tally.count_in(1, Standing::is_proof))
    }

    /// How many members the current wave still needs, of those that were not skipped for the canaries, else of all.
    pub fn wanted_members(&self, tally: &Tally) -> u64 {
        if self.is_canary_wave() {
            let canaries = self.publish.strategy.canaries.count() + self.stand_ins;
            let hopes = tally.count_in(1, |s| !s.is_out_of_the_wave());
            // One that was skipped after it was planned is replaced once, not as skipped and as unproven.
            return canaries
                .saturating_sub(tally.count_in(1, |s| s != Standing::Skipped))
                .min(self.missing_proofs(tally).saturating_sub(hopes));
        }
        let end = self.wave_end();
        end.saturating_sub(tally.count(|_| true))
    }

    /// The cumulative number of deployments at which the current wave ends.
    fn wave_end(&self) -> u64 {
        let ends = self.publish.strategy.wave_ends(self.walk.whole);
        let at = usize::try_from(self.wave).unwrap_or(usize::MAX).saturating_sub(1);
        // The last wave takes whoever came while the rollout ran.
        if at + 1 >= ends.len() { u64::MAX } else { ends[at] }
    }

    /// How many waves there are, canaries included; 0 while the deployments are being counted.
    pub fn waves(&self) -> u32 {
        let waves = self.publish.strategy.wave_ends(self.walk.whole).len();
        u32::try_from(waves).unwrap_or(u32::MAX).max(self.wave)
    }

    /// How many refreshes may be released now.
    pub fn free_places(&self, tally: &Tally) -> u64 {
        if self.state == RolloutState::Running {
            self.publish.strategy.max_in_flight.get().saturating_sub(tally.count(Standing::is_in_flight))
        } else {
            0
        }
    }

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
            (S::Paused { .. } | S::Halted { .. }, Command::Resume) => {
                next.go_on(tally, now);
            }
            (S::Waiting { .. } | S::Planning | S::Running, Command::Resume) => return Ok(None),
            (S::Canceled { .. }, Command::Cancel) => return Ok(None),
            (S::Completed, Command::Cancel | Command::Pause | Command::Resume)
            | (S::Canceled { .. }, Command::Pause | Command::Resume) => {
                return Err(IllegalCommand { state: self.state.name(), command: command.name() });
            }
            (_, Command::Cancel) => next.cancel(None, now),
            (S::Completed, Command::Retry(_)) if tally.count(|s| !s.has_result()) == 0 => return Ok(None),
            (S::Canceled { .. }, Command::Retry(_)) => {
                return Err(IllegalCommand { state: self.state.name(), command: command.name() });
            }
            // All that had failed is queued again, so whatever fails from now on counts.
            (state, Command::Retry(retried)) => {
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
            // Of a halted one nobody was asked that.
            self.approval = if was_paused { Approval::Given } else { Approval::Pending };
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
        let wave_is_done = self.walk.wave_is_planned && tally.count_in(self.wave, |s| !s.is_out_of_the_wave()) == 0;
        if self.missing_proofs(tally) > 0 && self.stand_ins >= STAND_INS && wave_is_done {
            self.canaries_waived = true;
        }
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

    fn over_budget(&self, tally: &Tally) -> Option<String> {
        let budget = self.publish.strategy.max_failures;
        let check = |what: &str, members: u64, failed: u64, forgiven: u64| {
            let allowed = budget.rounded_down(members);
            let failed = failed.saturating_sub(forgiven);
            (failed > allowed).then(|| {
                format!("{failed} of {members} refreshes {what} failed, which is more than the {allowed} allowed: look at them, then resume or cancel")
            })
        };
        let wave_members = tally.count_in(self.wave, |_| true).max(self.planned_size());
        let all = tally.count(|_| true);
        let in_wave = tally.count_in(self.wave, Standing::is_failure);
        check("of this wave", wave_members, in_wave, self.forgiven.in_wave)
            .or_else(|| check("started so far", all, tally.count(Standing::is_failure), self.forgiven.all))
    }

    /// How many members the current wave is to have by its strategy.
    fn planned_size(&self) -> u64 {
        let ends = self.publish.strategy.wave_ends(self.walk.whole);
        let at = usize::try_from(self.wave).unwrap_or(usize::MAX);
        let end = |at: usize| at.checked_sub(1).and_then(|at| ends.get(at)).copied().unwrap_or(0);
        end(at).saturating_sub(end(at.saturating_sub(1)))
    }
}

impl RolloutState {
    /// Whether nothing more is posted, ever.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Completed | Self::Canceled { .. })
    }

    /// The state's word in API and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Completed => "completed",
            Self::Canceled { .. } => "canceled",
        }
    }

    /// Why it stands there, where there is something to say.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Waiting { on } => Some(format!("waits for rollout {on} to end")),
            Self::Paused { why, .. } | Self::Halted { why } => Some(why.clone()),
            Self::Canceled { superseded_by: Some(by) } => Some(format!("superseded by rollout {by}")),
            _ => None,
        }
    }
}

impl Command {
    /// The command's word in routes and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Retry(_) => "retry",
        }
    }

    /// The command that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Pause, Self::Resume, Self::Cancel, Self::Retry(Retried::Failed)].into_iter().find(|c| c.name() == word)
    }
}
