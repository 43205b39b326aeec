//! What must hold while everything goes wrong: the ledger sees each write of the store and each call that ARM heard, in
//! their order, and says what should not have been. It knows the rules from the design, not from the engine.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use permafresh::arm::simulator::{Asked, Question, Simulator};
use permafresh::rollout::{
    DeploymentKey, Refresh, RefreshState, Rollout, RolloutId, RolloutState, Standing, Timestamp,
};
use permafresh::store::{ETag, Saved, Versioned};
use serde_json::{Value, json};

use super::store::Witness;
use super::weather::SECRET;

/// How long a worker may be held up with what it has taken before somebody else may take it.
const TAKEN: Duration = Duration::from_secs(180);

/// What ARM has answered and nobody has stored yet.
#[derive(Debug)]
struct Answer {
    to: Question,
    heard_by: usize,
    /// Whether a fault explains that it is never stored.
    is_lost: bool,
}

/// What an answer of ARM is about: the POST, or one operation. Rollouts may follow one each for the same deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Post,
    Operation(u32),
}

impl Subject {
    fn of(question: Question) -> Self {
        match question {
            Question::Post { .. } => Self::Post,
            Question::Poll { operation } => Self::Operation(operation),
        }
    }

    /// What somebody asks who has taken it.
    fn of_taken(refresh: &Refresh) -> Option<Self> {
        match &refresh.state {
            RefreshState::Submitting { .. } => Some(Self::Post),
            RefreshState::Running { operation, .. } => {
                let name = operation.url.expose().split("/operationStatuses/").nth(1);
                let name = name.or_else(|| operation.url.expose().split("/operationResults/").nth(1))?;
                Some(Self::Operation(u32::from_str_radix(name.get(..8)?, 16).ok()?))
            }
            _ => None,
        }
    }
}

#[derive(Default)]
struct Book {
    rollouts: HashMap<RolloutId, Rollout>,
    refreshes: BTreeMap<(RolloutId, DeploymentKey), Refresh>,
    answers: HashMap<(DeploymentKey, Subject), Answer>,
    /// Versions of refreshes that others have written over.
    written_over: HashSet<(RolloutId, DeploymentKey, String)>,
    /// Who heard ARM last, by subscription, and the subscriptions whose wait went down with whoever heard it.
    heard_last: HashMap<String, usize>,
    untold: HashSet<String>,
    /// Deployments that were planned as any other: there from the beginning, and never gone.
    settled: HashSet<DeploymentKey>,
    /// Rollouts that a person has told to go on in spite of what happened.
    waved_through: HashSet<RolloutId>,
    /// Rollouts that did go on after they had stood still: whatever had failed by then is forgiven.
    resumed: HashSet<RolloutId>,
    now_at_work: usize,
    has_rested: HashSet<usize>,
    held_up: Duration,
    /// How far the clocks of handlers may be apart.
    skew: Duration,
    /// No rule of time holds while a clock is plainly wrong.
    clock_is_wrong: bool,
    asked: Vec<Asked>,
    problems: Vec<String>,
}

pub struct Ledger {
    simulator: Arc<Simulator>,
    book: Mutex<Book>,
}

impl Ledger {
    pub fn new(simulator: Arc<Simulator>, skew: Duration) -> Arc<Self> {
        Arc::new(Self { simulator, book: Mutex::new(Book { skew, ..Book::default() }) })
    }

    /// From here on this invocation is at work, which has rested or not, and was held up for so long so far.
    pub fn at_work(&self, invocation: usize, has_rested: bool, held_up: Duration) {
        let mut book = self.up_to_date();
        if has_rested {
            book.has_rested.insert(invocation);
        }
        (book.now_at_work, book.held_up) = (invocation, held_up);
    }

    /// From here on no rule of time holds.
    pub fn clock_is_wrong(&self) {
        self.up_to_date().clock_is_wrong = true;
    }

    /// These deployments are there from the beginning.
    pub fn settled(&self, keys: impl IntoIterator<Item = DeploymentKey>) {
        self.up_to_date().settled.extend(keys);
    }

    /// This one may come and go.
    pub fn unsettled(&self, key: &DeploymentKey) {
        self.up_to_date().settled.remove(key);
    }

    /// A person is about to tell a rollout to go on.
    pub fn waved_through(&self, id: RolloutId) {
        self.up_to_date().waved_through.insert(id);
    }

    /// An invocation has come to its end, or has died.
    pub fn ended(&self, invocation: usize, has_died: bool) {
        let mut book = self.up_to_date();
        let Book { answers, problems, heard_last, untold, .. } = &mut *book;
        if has_died {
            let heard = heard_last.iter().filter(|(_, heard_by)| **heard_by == invocation);
            untold.extend(heard.map(|(subscription, _)| subscription.clone()));
        }
        for answer in answers.values_mut().filter(|answer| answer.heard_by == invocation && !answer.is_lost) {
            if !has_died {
                problems.push(format!("the answer to {:?} was not stored, and nothing went wrong", answer.to));
            }
            answer.is_lost = true;
        }
    }

    pub fn rollouts(&self) -> Vec<Rollout> {
        let mut all: Vec<_> = self.up_to_date().rollouts.values().cloned().collect();
        all.sort_unstable_by_key(|rollout| (rollout.created_at, rollout.id.to_string()));
        all
    }

    pub fn refreshes_of(&self, id: RolloutId) -> Vec<Refresh> {
        let book = self.up_to_date();
        book.refreshes.iter().filter(|((of, _), _)| *of == id).map(|(_, refresh)| refresh.clone()).collect()
    }

    /// Everything that should not have been.
    pub fn problems(&self) -> Vec<String> {
        self.up_to_date().problems.clone()
    }

    /// Everything that was asked of ARM, as words that say the same for the same run.
    pub fn asked(&self) -> Vec<String> {
        let book = self.up_to_date();
        book.asked.iter().map(|asked| format!("{} {:?} {}", asked.at, asked.what, asked.application.name())).collect()
    }

    fn up_to_date(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap();
        for asked in self.simulator.take_journal() {
            book.heard(asked);
        }
        book
    }
}

/// Until when whoever has taken it has it.
fn taken_until(refresh: &Refresh) -> Option<Timestamp> {
    match refresh.state {
        RefreshState::Submitting { lease_until, .. } => Some(lease_until),
        RefreshState::Running { claimed_until, .. } => claimed_until,
        _ => None,
    }
}

impl Book {
    fn heard(&mut self, asked: Asked) {
        tracing::info!(
            "ARM heard {:?} of {} for {}, early by {:?}, answered: {}",
            asked.what,
            asked.application.name(),
            self.now_at_work,
            asked.early_by,
            asked.is_answered
        );
        let key = asked.application.key();
        let at = (key.clone(), Subject::of(asked.what));
        // Asked again at once with a new token, where ARM blamed the old one.
        let heard_by = self.now_at_work;
        let before = self.answers.remove(&at).filter(|answer| answer.heard_by != heard_by);
        let was_lost = before.as_ref().is_some_and(|answer| answer.is_lost);
        let of = format!("{:?} of {} at {}", asked.what, asked.application.name(), asked.at);
        // ARM does not say for which rollout it was posted, and two may at once.
        let is_submitting = |refresh: &&Refresh| matches!(refresh.state, RefreshState::Submitting { .. });
        let rollouts = self.refreshes.values().filter(|refresh| refresh.key == key).filter(is_submitting).count();
        if let Some(before) = before.filter(|_| !was_lost && rollouts < 2) {
            self.problems.push(format!("{of} although the answer to {:?} was not stored", before.to));
        }
        let subscription = asked.application.subscription().to_owned();
        let is_untold = self.untold.remove(&subscription);
        self.heard_last.insert(subscription, heard_by);
        if asked.early_by > self.skew && !was_lost && !is_untold && !self.clock_is_wrong {
            self.problems.push(format!("{of} came {:?} too early", asked.early_by));
        }
        if let Some(problem) = self.without_right(&asked, &key) {
            self.problems.push(format!("{of}: {problem}"));
        }
        if asked.is_answered {
            let answer = Answer { to: asked.what, heard_by: self.now_at_work, is_lost: false };
            self.answers.insert(at, answer);
        }
        self.asked.push(asked);
    }

    /// Save before sending: whoever asks has to have it for himself, by what is stored.
    fn without_right(&self, asked: &Asked, key: &DeploymentKey) -> Option<String> {
        let of_it = || self.refreshes.values().filter(|refresh| refresh.key == *key);
        let still = |until: Timestamp| self.clock_is_wrong || asked.at < until + self.skew;
        let post = matches!(asked.what, Question::Post { .. });
        let is_claimed = |refresh: &&Refresh| {
            !matches!(refresh.state, RefreshState::Running { claimed_until: None, .. })
                && Subject::of_taken(refresh) == Some(Subject::of(asked.what))
        };
        // Of another rollout there may be one that whoever had it has died with.
        let taken = of_it().filter(is_claimed).max_by_key(|refresh| taken_until(refresh));
        let Some(taken) = taken else {
            // Who is hours ahead takes every lease for over: leases need clocks that agree to within their length.
            return (!self.clock_is_wrong).then(|| "nobody had taken it, by what is stored".to_owned());
        };
        let until = taken_until(taken)?;
        if !still(until) {
            return Some(format!("who asked had it until {until} only"));
        }
        let rollout = self.rollouts.get(&taken.rollout_id);
        let runs = rollout.is_some_and(|rollout| rollout.state == RolloutState::Running);
        (post && !runs).then(|| format!("its rollout is {:?}", rollout.map(|rollout| rollout.state.name())))
    }

    fn stored(&mut self, refresh: &Refresh) {
        tracing::info!("stored {} {} {:?}", refresh.rollout_id, refresh.application_id.name(), refresh.state);
        let at = (refresh.rollout_id, refresh.key.clone());
        let subject = self.refreshes.get(&at).and_then(Subject::of_taken);
        if let Some(before) = self.refreshes.get(&at)
            && before.state.is_terminal()
            && before.state != refresh.state
            && before.generation == refresh.generation
        {
            let (was, is) = (before.state.name(), refresh.state.name());
            self.problems.push(format!("{} had ended {was} and is {is}", refresh.application_id.name()));
        }
        // What is lost stays lost until it is asked for again, whatever is written meanwhile.
        let told = subject.map(|subject| (refresh.key.clone(), subject));
        if let Some(told) = told.filter(|told| self.answers.get(told).is_some_and(|answer| !answer.is_lost))
            && let Some(answer) = self.answers.remove(&told)
            && let (Question::Post { operation: Some(number) }, RefreshState::Running { operation, .. }) =
                (answer.to, &refresh.state)
            && !operation.url.expose().contains(&format!("/{number:08x}-"))
            && !operation.url.expose().contains(SECRET)
        {
            self.problems.push(format!("{} follows another operation than {number}", refresh.application_id.name()));
        }
        let was_in_flight = self.refreshes.get(&at).is_some_and(|before| Standing::of(before).is_in_flight());
        self.refreshes.insert(at, refresh.clone());
        if Standing::of(refresh).is_in_flight() && !was_in_flight {
            self.check_places(refresh.rollout_id);
        }
    }

    fn check_places(&mut self, id: RolloutId) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let most = rollout.publish.strategy.max_in_flight.get();
        let members = self.refreshes.values().filter(|refresh| refresh.rollout_id == id);
        let in_flight = members.filter(|refresh| Standing::of(refresh).is_in_flight()).count() as u64;
        // Who rests between counting and releasing has counted too few: design §4 bounds them, it does not lock them.
        if in_flight > most && !self.has_rested.contains(&self.now_at_work) {
            self.problems.push(format!("{in_flight} refreshes are on their way at once, and {most} may be"));
        }
    }

    /// The blast radius: who may have been planned by now.
    fn check_sizes(&mut self, id: RolloutId) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let strategy = json!(rollout.publish.strategy);
        let ends = wave_ends(&strategy, rollout.walk.whole);
        let wave = usize::try_from(rollout.wave).unwrap();
        if wave >= ends.len() || wave == 0 {
            return;
        }
        let stand_ins = if strategy["canaries"] == 0 { 0 } else { 5 };
        // Who joins late is one more than the strategy says.
        let members = self.refreshes.values().filter(|refresh| refresh.rollout_id == id);
        let members = members.filter(|refresh| refresh.wave <= rollout.wave && self.settled.contains(&refresh.key));
        let posted = members.filter(|refresh| !matches!(refresh.state, RefreshState::Skipped { .. })).count() as u64;
        if posted > ends[wave - 1] + stand_ins {
            let (is, may) = (posted, ends[wave - 1]);
            self.problems.push(format!("{is} refreshes are planned in wave {wave} of {ends:?}, which ends at {may}"));
        }
    }

    /// A wave begins: what was before it has to be done, within its budget, and proven by its canaries.
    fn check_next_wave(&mut self, before: &Rollout, after: &Rollout) {
        if after.wave <= before.wave || before.wave == 0 || self.resumed.contains(&after.id) {
            return;
        }
        let members: Vec<_> = self.refreshes.values().filter(|refresh| refresh.rollout_id == after.id).collect();
        let going = members.iter().filter(|refresh| !Standing::of(refresh).is_out_of_the_wave()).count();
        if going > 0 && members.iter().all(|refresh| refresh.generation == 0) {
            self.problems.push(format!("wave {} begins while {going} refreshes go on", after.wave));
        }
        let strategy = json!(after.publish.strategy);
        let failed = members.iter().filter(|refresh| Standing::of(refresh).is_failure()).count() as u64;
        let allowed = share(&strategy["maxFailures"], members.len() as u64, Rounded::Down);
        if failed > allowed {
            self.problems.push(format!("wave {} begins with {failed} failures of {allowed} allowed", after.wave));
        }
        let canaries = strategy["canaries"].as_u64().unwrap_or(0);
        // One that failed proves something too; whether it may go on then is a question of the budget.
        let proofs = [Standing::Succeeded, Standing::Failed, Standing::FailedByOffer];
        let is_proof = |refresh: &&&Refresh| refresh.wave == 1 && proofs.contains(&Standing::of(refresh));
        let proofs = members.iter().filter(is_proof).count() as u64;
        if before.wave == 1 && proofs < canaries {
            self.problems.push(format!("wave 2 begins although {proofs} of {canaries} canaries proved the version"));
        }
    }
}

impl Witness for Ledger {
    fn saved_rollout(&self, rollout: &Versioned<Rollout>, saved: Option<&Saved>) {
        let mut book = self.up_to_date();
        if !saved.is_some_and(Saved::is_stored) {
            return;
        }
        let rollout = &rollout.value;
        tracing::info!("stored rollout {} wave {} {:?} {:?}", rollout.id, rollout.wave, rollout.state, rollout.walk);
        if let Some(before) = book.rollouts.get(&rollout.id).cloned() {
            if matches!(before.state, RolloutState::Paused { .. } | RolloutState::Halted { .. })
                && rollout.state == RolloutState::Running
            {
                book.resumed.insert(rollout.id);
            }
            book.check_next_wave(&before, rollout);
            if before.state.is_ended() && !rollout.state.is_ended() && !book.waved_through.contains(&rollout.id) {
                let why = rollout.state.name();
                // A late joiner opens a completed one again.
                if !matches!(before.state, RolloutState::Completed) {
                    book.problems.push(format!("rollout {} had ended and is {why}", rollout.id));
                }
            }
        }
        book.rollouts.insert(rollout.id, rollout.clone());
    }

    fn inserted(&self, refreshes: &[Refresh], inserted: Option<&usize>) {
        let mut book = self.up_to_date();
        if inserted.is_none() {
            return;
        }
        for refresh in refreshes {
            let at = (refresh.rollout_id, refresh.key.clone());
            if let Entry::Vacant(place) = book.refreshes.entry(at) {
                place.insert(refresh.clone());
                if Standing::of(refresh).is_in_flight() {
                    book.check_places(refresh.rollout_id);
                }
                book.check_sizes(refresh.rollout_id);
            }
        }
    }

    fn saved_refreshes(&self, refreshes: &[Versioned<Refresh>], saved: Option<&Vec<Saved>>) {
        let mut book = self.up_to_date();
        for (at, refresh) in refreshes.iter().enumerate() {
            let saved = saved.map(|saved| &saved[at]);
            let is = saved.map(Saved::is_stored);
            tracing::info!("write of {}: {is:?}", refresh.value.application_id.name());
            match is {
                Some(true) => {
                    if book.is_news(refresh, saved) {
                        book.stored(&refresh.value);
                    } else {
                        // What it told is stored, or written over.
                        book.lost(&refresh.value.key);
                    }
                }
                Some(false) => {
                    // Whoever was held up for longer than he had it may find that another one has it now.
                    let late = book.held_up + book.skew >= TAKEN || book.clock_is_wrong;
                    if late {
                        book.lost(&refresh.value.key);
                    }
                }
                None => book.lost(&refresh.value.key),
            }
        }
    }

    fn not_noted(&self, key: &DeploymentKey) {
        self.up_to_date().lost(key);
    }

    fn not_told(&self, subscription: &str) {
        self.up_to_date().untold.insert(subscription.to_owned());
    }
}

impl Book {
    /// Whether nobody has written over what was saved: who rests while the store works for him hears of it late.
    fn is_news(&mut self, refresh: &Versioned<Refresh>, saved: Option<&Saved>) -> bool {
        let version = |etag: &ETag| (refresh.value.rollout_id, refresh.value.key.clone(), etag.0.clone());
        self.written_over.extend(refresh.etag.as_ref().map(version));
        !matches!(saved, Some(Saved::Stored(etag)) if self.written_over.contains(&version(etag)))
    }

    fn lost(&mut self, key: &DeploymentKey) {
        for (_, answer) in self.answers.iter_mut().filter(|((of, _), _)| of == key) {
            answer.is_lost = true;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounded {
    Up,
    Down,
}

fn share(of: &Value, whole: u64, rounded: Rounded) -> u64 {
    match of.as_str().and_then(|text| text.strip_suffix('%')) {
        Some(percent) => {
            let hundredths = whole * percent.parse::<u64>().unwrap();
            if rounded == Rounded::Up { hundredths.div_ceil(100) } else { hundredths / 100 }
        }
        None => of.as_u64().unwrap(),
    }
}

/// Where each wave ends, by the words of the design.
fn wave_ends(strategy: &Value, whole: u64) -> Vec<u64> {
    let canaries = strategy["canaries"].as_u64().filter(|count| *count > 0);
    let waves = strategy["waves"].as_array().unwrap().iter().map(|wave| share(wave, whole, Rounded::Up));
    let mut ends = Vec::new();
    for end in canaries.into_iter().chain(waves).chain([whole]) {
        let before = ends.last().copied().unwrap_or(0);
        if before < whole {
            ends.push(end.clamp(before + 1, whole));
        }
    }
    ends
}
