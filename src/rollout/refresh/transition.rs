//! The one match over (state, event) of a refresh, and what each answer of ARM leads to. Decides; does nothing.

use std::time::Duration;

use super::{
    AFTER_DEATH, CLAIM, DEAD_LETTERS, Event, Evidence, GATE_GAP, Gate, IllegalEvent, LEASE, Next, OPERATION_DEADLINE,
    Policy, QUEUE_PATIENCE, Question, Refresh, RefreshState, SECOND_LOOK, SkipReason, UNREADABLE_LOOKS,
    VERIFY_DEADLINE,
};
use crate::rollout::failure::{DEAD_LETTERED, NO_TOKEN, NOT_POSTED};
use crate::rollout::jit_words::Trouble;
use crate::rollout::openness;
use crate::rollout::{
    Actor, Failure, Monitor, Operation, Phase, PollAnswer, ReadAnswer, RemoteError, RetryPolicy, SubmitAnswer,
    Timestamp, Way,
};

/// Why nobody was called, and who has to look into it.
struct Cause {
    actor: Actor,
    words: &'static str,
}

const THROTTLED: Cause = Cause {
    actor: Actor::Microsoft,
    words: "Azure wanted no calls for its subscription, or never said whether the application is still there; see whether something else calls for that subscription all the time, then retry",
};
const LOST: Cause = Cause {
    actor: Actor::Publisher,
    words: "its messages were lost, or whoever took it died before Azure had answered; the service's log says why",
};

impl Refresh {
    /// The next state and what to do, or why the event makes no sense. `self` is never half-changed.
    pub fn apply(&self, event: Event, now: Timestamp, policy: &Policy) -> Result<(Self, Next), IllegalEvent> {
        use RefreshState as S;
        let mut next = self.clone();
        let action = match (&self.state, event) {
            (S::Queued { attempt, due: None }, Event::Release) => next.queue(*attempt, now, None),
            (S::Queued { due: Some(_), .. }, Event::Release) => Next::Nothing,
            (S::Queued { attempt, due: Some(_) }, Event::PutBack) => {
                next.queue_deadline = None;
                next.state = S::Queued { attempt: *attempt, due: None };
                Next::Nothing
            }
            (S::Queued { due: None, .. }, Event::PutBack) => Next::Nothing,
            (S::Queued { attempt, due: Some(due) }, Event::Delay { until }) if until > *due => {
                next.put_off(*attempt, now, Some(until), &THROTTLED)
            }
            (S::Queued { .. }, Event::Delay { .. }) => Next::Nothing,
            (S::Queued { attempt, due: Some(_) }, Event::AwaitWindow { opens_at }) => {
                next.await_window(*attempt, opens_at, now)
            }
            (S::Queued { due: None, .. }, Event::AwaitWindow { .. }) => Next::Nothing,
            (S::Queued { attempt, due: Some(_) }, Event::DeadLettered { reason }) => next.buried(*attempt, reason, now),
            // The step that it was for is done, or another message is on its way.
            (_, Event::DeadLettered { .. }) => Next::Nothing,
            // ARM wants no calls for the subscription: the look waits, and counts for nothing.
            (S::Running { next_poll: at, .. } | S::Verifying { next_look: at, .. }, Event::Delay { until }) => {
                if until > *at {
                    next.put_off_look(until);
                }
                Next::Nothing
            }
            (S::Queued { attempt, due: Some(due) }, Event::Submit) if *due <= now => {
                next.state = S::Submitting { attempt: *attempt, lease_until: now + LEASE };
                next.attempts += 1;
                next.way = Some(self.choose_way(policy));
                if next.way == Some(Way::HandOver) { next.hand_over(now, policy) } else { Next::Post }
            }
            // A message that comes before its time, after its place was given back: the stored state decides.
            (S::Queued { .. }, Event::Submit) => Next::Nothing,
            (S::Queued { attempt, due: Some(due) }, Event::Overdue) if *due + self.patience() <= now => {
                next.put_off(*attempt, now, None, &LOST)
            }
            (S::Queued { .. }, Event::Overdue) => Next::Nothing,
            (S::Queued { .. }, Event::Skip { why }) => next.end(S::Skipped { why }, now),

            (S::Submitting { attempt, .. }, Event::Answered { answer, correlation_id }) => {
                next.correlation_id = correlation_id.or(next.correlation_id);
                next.answered(*attempt, answer, now, policy)
            }
            (S::Submitting { attempt, .. }, Event::Withdraw) => {
                next.attempts = self.attempts.saturating_sub(1);
                next.queue_deadline = None;
                next.state = S::Queued { attempt: *attempt, due: None };
                Next::Nothing
            }
            (S::Submitting { attempt, lease_until }, Event::Overdue) if *lease_until <= now => {
                next.put_off(*attempt, now, None, &LOST)
            }
            (S::Submitting { .. }, Event::Overdue) => Next::Nothing,

            (S::AwaitingAccess { gate: Gate::Window, deadline, .. }, Event::Overdue) if *deadline <= now => {
                next.end(S::Skipped { why: SkipReason::MissedWindow }, now)
            }
            // It takes a place like any other, so that a window that many share does not let all through at once.
            (S::AwaitingAccess { attempt, gate: Gate::Window, next_look, .. }, Event::Overdue) if *next_look <= now => {
                next.state = S::Queued { attempt: *attempt, due: None };
                Next::Nothing
            }
            (S::AwaitingAccess { attempt, gate: gate @ Gate::Jit { request, .. }, deadline, .. }, Event::Overdue)
                if *deadline <= now =>
            {
                let error = Trouble::Unanswered.error(Some(request));
                next.gate_closed(gate, *attempt, error, now, policy)
            }
            (S::AwaitingAccess { deadline, .. }, Event::Overdue) if *deadline <= now => next.hand_over(now, policy),
            (S::AwaitingAccess { next_look, .. }, Event::Overdue) if *next_look <= now => {
                if let S::AwaitingAccess { next_look, .. } = &mut next.state {
                    *next_look = now + GATE_GAP;
                }
                Next::AskGate
            }
            (S::AwaitingAccess { .. }, Event::Overdue) => Next::Nothing,
            // Its gate was looked at, and says when to look again.
            (S::AwaitingAccess { .. }, Event::Delay { until }) => {
                if let S::AwaitingAccess { next_look, .. } = &mut next.state {
                    *next_look = until;
                }
                Next::Nothing
            }
            (S::AwaitingAccess { attempt, gate, .. }, Event::Release) => next.gate_opened(gate, *attempt, now),
            (S::AwaitingAccess { attempt, gate, .. }, Event::GateClosed { error }) if gate.way().is_some() => {
                next.gate_closed(gate, *attempt, error, now, policy)
            }

            (S::Running { next_poll, claimed_until, .. }, Event::Claim) if is_due(*next_poll, *claimed_until, now) => {
                if let S::Running { claimed_until, .. } = &mut next.state {
                    *claimed_until = Some(now + CLAIM);
                }
                Next::Poll
            }
            (S::Running { attempt, operation, claimed_until: Some(_), deadline, .. }, Event::Polled(answer)) => {
                next.polls += 1;
                next.polled(*attempt, operation.clone(), *deadline, answer, now, policy)
            }
            (S::Verifying { next_look, claimed_until, .. }, Event::Claim)
                if is_due(*next_look, *claimed_until, now) =>
            {
                if let S::Verifying { claimed_until, .. } = &mut next.state {
                    *claimed_until = Some(now + CLAIM);
                }
                Next::Read
            }
            (S::Verifying { attempt, question, claimed_until: Some(_), deadline, .. }, Event::Read(answer)) => {
                next.read(*attempt, question.clone(), *deadline, answer, now)
            }
            (S::Running { .. } | S::Verifying { .. }, Event::Claim | Event::Overdue) => Next::Nothing,

            (S::Queued { .. } | S::AwaitingAccess { .. }, Event::Cancel) => next.end(S::Canceled, now),
            (S::Queued { .. } | S::AwaitingAccess { .. }, Event::Supersede { by }) => {
                next.end(S::Superseded { by }, now)
            }
            // What ARM may have accepted is followed to its end (design §3.5).
            (
                S::Submitting { .. } | S::Running { .. } | S::Verifying { .. },
                Event::Cancel | Event::Supersede { .. } | Event::PutBack,
            ) => Next::Nothing,

            (S::Failed { .. } | S::TimedOut { .. } | S::Canceled | S::HandedOver { .. }, Event::Retry) => {
                next.start_over()
            }
            (S::HandedOver { .. }, Event::CustomerRan { evidence }) => next.succeed(evidence, now),
            (state, Event::Rejoin) if state.is_terminal() => next.start_over(),
            (_, Event::Rejoin) => Next::Nothing,
            (state, event) => return Err(IllegalEvent { state: state.name(), event: event.name() }),
        };
        Ok((next, action))
    }

    pub(super) fn end(&mut self, state: RefreshState, now: Timestamp) -> Next {
        self.state = state;
        self.ended_at = Some(now);
        Next::Nothing
    }

    /// Parks it until the window opens, unless none could be used for long.
    fn await_window(&mut self, attempt: u32, opens_at: Timestamp, now: Timestamp) -> Next {
        self.queue_deadline = None;
        let deadline = *self.window_deadline.get_or_insert(now + openness::PATIENCE);
        if deadline <= now {
            return self.end(RefreshState::Skipped { why: SkipReason::MissedWindow }, now);
        }
        self.state = RefreshState::AwaitingAccess { attempt, gate: Gate::Window, next_look: opens_at, deadline };
        Next::Nothing
    }

    /// Its message is dead: sends another one later, until that has happened too often.
    fn buried(&mut self, attempt: u32, reason: String, now: Timestamp) -> Next {
        self.dead_letters += 1;
        let message = format!("nobody could work off its message: {reason}; the service's log says why");
        if self.dead_letters >= DEAD_LETTERS {
            let failure = Failure { actor: Actor::Publisher, code: DEAD_LETTERED.to_owned(), message };
            return self.end(RefreshState::Failed { failure, has_operation_ended: false }, now);
        }
        self.last_error = Some(RemoteError { status: None, code: DEAD_LETTERED.to_owned(), message });
        let wait = AFTER_DEATH * 2u32.pow((self.dead_letters - 1).min(3));
        self.queue(attempt, now, Some(now + wait))
    }

    /// Waits for a free place again, as a new generation.
    fn start_over(&mut self) -> Next {
        self.generation += 1;
        self.way = None;
        self.refusals.clear();
        self.gate_deadline = None;
        self.reposted = false;
        self.missing = 0;
        self.unreadable = 0;
        self.ended_at = None;
        self.resend = 0;
        self.window_deadline = None;
        self.dead_letters = 0;
        self.queue_deadline = None;
        self.state = RefreshState::Queued { attempt: 1, due: None };
        Next::Nothing
    }

    /// Queues the attempt once more although nobody was called, until that has gone on for too long.
    fn put_off(&mut self, attempt: u32, now: Timestamp, at: Option<Timestamp>, cause: &Cause) -> Next {
        let deadline = *self.queue_deadline.get_or_insert(now + QUEUE_PATIENCE);
        if deadline > now {
            return self.queue(attempt, now, at);
        }
        let days = QUEUE_PATIENCE.as_secs() / (24 * 60 * 60);
        let message = format!("it could not be posted for {days} days: {}", cause.words);
        let failure = Failure { actor: cause.actor, code: NOT_POSTED.to_owned(), message };
        self.end(RefreshState::TimedOut { failure: Some(failure) }, now)
    }

    /// Queues the attempt and sends its message, which needs an id of its own if one was sent before.
    pub(super) fn queue(&mut self, attempt: u32, now: Timestamp, at: Option<Timestamp>) -> Next {
        self.resend = if self.attempt() == attempt { self.resend + 1 } else { 0 };
        self.state = RefreshState::Queued { attempt, due: Some(at.unwrap_or(now)) };
        Next::Send { at }
    }

    fn answered(&mut self, attempt: u32, answer: SubmitAnswer, now: Timestamp, policy: &Policy) -> Next {
        if !matches!(answer, SubmitAnswer::NotFound { .. }) {
            self.missing = 0;
        }
        if !matches!(&answer, SubmitAnswer::Retry { error, .. } if error.is_held_back()) {
            self.queue_deadline = None;
        }
        if matches!(answer, SubmitAnswer::Accepted { .. } | SubmitAnswer::NoMonitor) {
            self.gate_deadline = None;
        }
        match answer {
            SubmitAnswer::Accepted { mut operation, wait } => {
                operation.last_wait_seconds = wait.map(whole_seconds);
                self.submitted_at = Some(now);
                self.unreadable = 0;
                self.percent_complete = None;
                self.state = RefreshState::Running {
                    attempt,
                    operation,
                    next_poll: now + RetryPolicy::POLL.wait(1, wait, &self.seed()),
                    claimed_until: None,
                    deadline: now + OPERATION_DEADLINE,
                };
                Next::Nothing
            }
            SubmitAnswer::NoMonitor => {
                self.submitted_at = Some(now);
                self.verify(attempt, Question::NoMonitor, now)
            }
            // Nobody was called, so nothing is spent.
            SubmitAnswer::Retry { error, wait } if error.is_held_back() => {
                let at = now + RetryPolicy::POST.wait(1, wait, &self.seed());
                self.put_off(attempt, now, Some(at), &THROTTLED)
            }
            SubmitAnswer::Retry { error, wait } => {
                self.last_error = Some(error.clone());
                if RetryPolicy::POST.allows_another(attempt) {
                    let at = now + RetryPolicy::POST.wait(attempt, wait, &self.seed());
                    self.queue(attempt + 1, now, Some(at))
                } else {
                    let actor = match error.status {
                        Some(409) => Actor::Customer,
                        None if error.code == NO_TOKEN => Actor::Publisher,
                        _ => Actor::Microsoft,
                    };
                    let failure = Failure { actor, code: error.code, message: error.message };
                    self.end(RefreshState::Failed { failure, has_operation_ended: false }, now)
                }
            }
            SubmitAnswer::Refused { error } => self.refused(attempt + 1, error, None, now, policy),
            // Nobody was called by it, so nothing is spent.
            SubmitAnswer::Gated { error, gate } => self.refused(attempt, error, Some(gate), now, policy),
            SubmitAnswer::Opening { gate, next_look, deadline } => {
                self.leave_way_for(&gate, now);
                self.state = RefreshState::AwaitingAccess { attempt, gate, next_look, deadline };
                Next::Nothing
            }
            SubmitAnswer::NotFound { error } => {
                self.last_error = Some(error);
                self.missing += 1;
                if self.missing > 1 {
                    self.end(RefreshState::Skipped { why: SkipReason::Gone }, now)
                } else {
                    self.queue(attempt + 1, now, Some(now + SECOND_LOOK))
                }
            }
            SubmitAnswer::Rejected { error } => {
                self.last_error = Some(error.clone());
                self.end(RefreshState::Failed { failure: error.blame(Phase::Post), has_operation_ended: false }, now)
            }
        }
    }

    fn polled(
        &mut self,
        attempt: u32,
        mut operation: Operation,
        deadline: Timestamp,
        answer: PollAnswer,
        now: Timestamp,
        policy: &Policy,
    ) -> Next {
        match answer {
            PollAnswer::Succeeded => {
                self.percent_complete = Some(100.0);
                if policy.verify_after_success {
                    self.verify(attempt, Question::AfterSuccess, now)
                } else {
                    self.end(RefreshState::Succeeded { evidence: Evidence::Status }, now)
                }
            }
            PollAnswer::Failed { error } => {
                self.last_error = Some(error.clone());
                self.end(
                    RefreshState::Failed { failure: error.blame(Phase::Operation), has_operation_ended: true },
                    now,
                )
            }
            PollAnswer::Canceled => {
                let message = "the operation was canceled on Azure's side before it was done".to_owned();
                let failure = Failure { actor: Actor::Customer, code: "OperationCanceled".to_owned(), message };
                self.end(RefreshState::Failed { failure, has_operation_ended: true }, now)
            }
            PollAnswer::Running { percent, wait, moved } => {
                self.unreadable = 0;
                self.percent_complete = percent.or(self.percent_complete);
                let wait = wait.or(operation.last_wait_seconds.map(Duration::from_secs));
                operation.last_wait_seconds = wait.map(whole_seconds);
                operation.url = moved.unwrap_or(operation.url);
                self.poll_again(attempt, operation, deadline, wait, now)
            }
            // Busy or out of reach: it says nothing of the monitor and spends nothing (contracts/arm.md §2.4).
            PollAnswer::Unreadable { error, wait } if error.is_passing() => {
                self.last_error = Some(error);
                self.poll_again(attempt, operation, deadline, wait, now)
            }
            PollAnswer::Unreadable { error, wait } => {
                self.unreadable_look(attempt, operation, deadline, error, wait, now)
            }
            PollAnswer::AccessLost { error } => self.unreadable_look(attempt, operation, deadline, error, None, now),
            PollAnswer::Gone => match operation.fallback.take() {
                Some(fallback) => {
                    operation.url = fallback;
                    operation.monitor = Monitor::Location;
                    let wait = operation.last_wait_seconds.map(Duration::from_secs);
                    self.poll_again(attempt, operation, deadline, wait, now)
                }
                None => self.verify(attempt, Question::MonitorGone, now),
            },
        }
    }

    fn poll_again(
        &mut self,
        attempt: u32,
        operation: Operation,
        deadline: Timestamp,
        wait: Option<Duration>,
        now: Timestamp,
    ) -> Next {
        if deadline <= now {
            return self.verify(attempt, Question::Overdue, now);
        }
        let mut pause = RetryPolicy::POLL.wait(self.unreadable.max(1), wait, &self.seed());
        if let (None, Some(last)) = (wait, operation.last_wait_seconds) {
            // An answer that could not be read takes nothing back.
            pause = pause.max(RetryPolicy::POLL.wait(1, Some(Duration::from_secs(last)), ""));
        }
        let next_poll = now + pause;
        self.state = RefreshState::Running { attempt, operation, next_poll, claimed_until: None, deadline };
        Next::Nothing
    }

    fn unreadable_look(
        &mut self,
        attempt: u32,
        operation: Operation,
        deadline: Timestamp,
        error: RemoteError,
        wait: Option<Duration>,
        now: Timestamp,
    ) -> Next {
        self.last_error = Some(error);
        self.unreadable += 1;
        if self.unreadable >= UNREADABLE_LOOKS && deadline > now {
            self.unreadable = 0;
            self.verify(attempt, Question::MonitorUnreadable { operation, operation_deadline: deadline }, now)
        } else {
            self.poll_again(attempt, operation, deadline, wait, now)
        }
    }

    fn verify(&mut self, attempt: u32, question: Question, now: Timestamp) -> Next {
        self.state = RefreshState::Verifying {
            attempt,
            question,
            next_look: now,
            claimed_until: None,
            deadline: now + VERIFY_DEADLINE,
        };
        Next::Nothing
    }

    fn read(
        &mut self,
        attempt: u32,
        question: Question,
        deadline: Timestamp,
        answer: ReadAnswer,
        now: Timestamp,
    ) -> Next {
        if !matches!(answer, ReadAnswer::NotFound) {
            self.missing = 0;
        }
        match (question, answer) {
            (_, ReadAnswer::NotFound) => {
                self.missing += 1;
                if self.missing > 1 {
                    self.end(RefreshState::Skipped { why: SkipReason::Gone }, now)
                } else {
                    self.missing_look(now, deadline.max(now + SECOND_LOOK))
                }
            }
            (_, ReadAnswer::Deleting) => self.end(RefreshState::Skipped { why: SkipReason::Deleting }, now),
            (Question::AfterSuccess, ReadAnswer::Ready) => self.succeed(Evidence::StatusAndApplication, now),
            (Question::AfterSuccess, ReadAnswer::Broken { provisioning_state }) => {
                let unproven = format!("the application's provisioningState is {provisioning_state}");
                self.succeed(Evidence::StatusOnly { unproven }, now)
            }
            (Question::AfterSuccess, ReadAnswer::Busy { provisioning_state }) if deadline <= now => {
                let unproven = format!("the application's provisioningState stayed {provisioning_state}");
                self.succeed(Evidence::StatusOnly { unproven }, now)
            }
            (Question::AfterSuccess, ReadAnswer::Unreadable { error, .. }) if deadline <= now => {
                let unproven = format!("the application could not be read: {}", error.code);
                self.succeed(Evidence::StatusOnly { unproven }, now)
            }
            (Question::NoMonitor | Question::MonitorGone | Question::MonitorUnreadable { .. }, ReadAnswer::Ready) => {
                self.succeed(Evidence::ApplicationOnly, now)
            }
            // Our right to look may have come back, so the operation is asked again.
            (Question::MonitorUnreadable { operation, operation_deadline }, _) => {
                self.unreadable = 1;
                self.poll_again(attempt, operation, operation_deadline, None, now)
            }
            (Question::Overdue, ReadAnswer::Ready | ReadAnswer::Broken { .. }) => self.repost(attempt, now),
            (_, ReadAnswer::Broken { .. }) => self.repost(attempt, now),
            (_, ReadAnswer::Busy { .. } | ReadAnswer::Unreadable { .. }) if deadline <= now => {
                self.repost(attempt, now)
            }
            (_, ReadAnswer::Busy { .. }) => self.look_again(None, now),
            (_, ReadAnswer::Unreadable { error, wait }) => {
                self.last_error = Some(error);
                self.look_again(wait, now)
            }
        }
    }

    fn put_off_look(&mut self, until: Timestamp) {
        if let RefreshState::Running { next_poll: at, claimed_until, .. }
        | RefreshState::Verifying { next_look: at, claimed_until, .. } = &mut self.state
        {
            *at = until;
            *claimed_until = None;
        }
    }

    fn missing_look(&mut self, now: Timestamp, until: Timestamp) -> Next {
        if let RefreshState::Verifying { next_look, claimed_until, deadline, .. } = &mut self.state {
            *next_look = now + SECOND_LOOK;
            *claimed_until = None;
            *deadline = until;
        }
        Next::Nothing
    }

    fn look_again(&mut self, wait: Option<Duration>, now: Timestamp) -> Next {
        let wait = RetryPolicy::POLL.wait(1, wait, &self.seed());
        if let RefreshState::Verifying { next_look, claimed_until, .. } = &mut self.state {
            *next_look = now + wait;
            *claimed_until = None;
        }
        Next::Nothing
    }

    /// Posts again, at most once (contracts/arm.md §2.4).
    fn repost(&mut self, attempt: u32, now: Timestamp) -> Next {
        if self.reposted {
            return self.end(RefreshState::TimedOut { failure: None }, now);
        }
        self.reposted = true;
        self.queue(attempt + 1, now, None)
    }

    fn succeed(&mut self, evidence: Evidence, now: Timestamp) -> Next {
        self.percent_complete = Some(100.0);
        self.end(RefreshState::Succeeded { evidence }, now)
    }

    fn seed(&self) -> String {
        format!("{}:{}:{}", self.key, self.generation, self.polls)
    }
}

/// Rounded up, or the next look would be an impatient one.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn is_due(at: Timestamp, claimed_until: Option<Timestamp>, now: Timestamp) -> bool {
    at <= now && claimed_until.is_none_or(|until| until <= now)
}
