//! One run by seed: two or three handlers over one store and one queue, and everything goes wrong that may. Then calm, in
//! which every rollout has to come to its end; then the questions to what is left.
//!
//! One invocation runs at a time, the others rest at a call of the store or the queue, die there, or go on: the seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use permafresh::arm::simulator::ApplicationSpec;
use permafresh::queue::{Delivery, Queue};
use permafresh::rollout::{ApplicationId, DeploymentKey, RolloutId, RolloutState, Standing, Tally};
use serde_json::{Value, json};

use super::ledger::Ledger;
use super::weather::{self, Chance, SECRET};
use super::{Decision, Fate, Faults, FaultyQueue, FaultyStore, Kind, Moment};
use crate::manual_clock::ManualClock;
use crate::world::{Options, SIG, World, application, invoke_message, invoke_timer, publish, send};

const LOCK: Duration = Duration::from_secs(60);
const VERSIONS: [&str; 4] = ["1.5.0", "1.6.0", "1.7.0", "2.0.0"];
/// So many steps go wrong before it is calm.
const STEPS: usize = 160;
/// Who needs more rounds of calm has lost something: three weeks of them.
const ROUNDS: usize = 4_000;

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub problems: Vec<String>,
    /// What was asked of ARM, in its order.
    pub asked: Vec<String>,
    pub counts: BTreeMap<&'static str, usize>,
    /// Whether the seed alone decides: no two calls of one invocation are under way at once, and no call ends by real time.
    pub is_repeatable: bool,
}

/// What is down for everybody.
#[derive(Default)]
struct Outage {
    store: AtomicBool,
    queue: AtomicBool,
}

enum Work {
    Message { queue: &'static str, delivery: Delivery },
    Timer,
    Request,
}

struct Invocation {
    number: usize,
    work: Work,
    run: Pin<Box<dyn Future<Output = (StatusCode, String)>>>,
    has_rested: bool,
    held_up: Duration,
}

struct Instance {
    router: Router,
    faults: Arc<Faults>,
    clock: ManualClock,
    busy: Option<Invocation>,
}

struct Simulation {
    chance: Chance,
    world: World,
    clock: ManualClock,
    instances: Vec<Instance>,
    office: Arc<FaultyQueue>,
    inbox: Vec<(&'static str, Delivery)>,
    outage: Arc<Outage>,
    ledger: Arc<Ledger>,
    ids: Vec<ApplicationId>,
    /// Those that were there before the first rollout and were never said to go.
    stayed: Vec<ApplicationId>,
    /// Those of which ARM was told to say once that they are not there.
    said_gone: BTreeSet<DeploymentKey>,
    elsewhere: String,
    hangs: bool,
    is_repeatable: bool,
    is_calm: bool,
    invocations: usize,
    counts: BTreeMap<&'static str, usize>,
}

/// One run; `log` is what was logged on the way.
pub async fn run(seed: u64, log: impl Fn() -> String) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("http://{}", listener.local_addr().unwrap());
    let mut simulation = Simulation::new(seed, elsewhere).await;
    simulation.begin().await;
    for _ in 0..STEPS {
        simulation.step().await;
    }
    let mut problems = simulation.calm().await;
    problems.extend(simulation.results().await);
    problems.extend(simulation.ledger.problems());
    listener.set_nonblocking(true).unwrap();
    if listener.accept().is_ok() {
        problems.push("a host was called that is not ARM".to_owned());
    }
    let stats = simulation.world.simulator.stats();
    if stats.altered_urls > 0 {
        problems.push(format!("{} polling URLs were altered", stats.altered_urls));
    }
    let log = log();
    for secret in ["0123456789abcdef0123456789abcdef", SIG, SECRET, "MII", "panicked"] {
        if let Some(line) = log.lines().find(|line| line.contains(secret)) {
            problems.push(format!("logged: {line}"));
        }
    }
    if std::env::var_os("PERMAFRESH_FAULT_LOG").is_some() {
        println!("{log}");
    }
    let mut counts = simulation.counts.clone();
    counts.insert("operations", usize::try_from(stats.operations).unwrap());
    counts.insert("looks", usize::try_from(stats.polls).unwrap());
    counts.insert("lines of log", log.lines().count());
    Report { problems, asked: simulation.ledger.asked(), counts, is_repeatable: simulation.is_repeatable }
}

impl Simulation {
    async fn new(seed: u64, elsewhere: String) -> Self {
        let mut chance = Chance::new(seed);
        let hangs = chance.one_in(6);
        let options = Options {
            verify: chance.one_in(2),
            operation: Duration::from_secs(chance.pick(&[1, 20, 45, 120])),
            retry_after: chance.pick(&[Some(15), Some(5), Some(60), None]).map(Duration::from_secs),
            looks_at_once: chance.pick(&[1, 1, 1, 4]),
            calls_at_once: chance.pick(&[64, 64, 1]),
            posts_prepared: chance.pick(&[64, 64, 2, 1]),
            call_timeout: if hangs { Duration::from_millis(300) } else { Duration::from_secs(10) },
            keeps_journal: true,
            ..Options::default()
        };
        let is_repeatable = options.looks_at_once == 1 && !hangs;
        let world = World::with(options).await;
        let skew = if chance.one_in(4) { chance.between(1, 20) } else { 0 };
        let ledger = Ledger::new(Arc::clone(&world.simulator), Duration::from_secs(2 * skew));
        let count = chance.between(3, 10);
        let ids = world.deploy(usize::try_from(count).unwrap()).await;
        ledger.settled(ids.iter().map(ApplicationId::key));
        let mut fates = chance.branch();
        let is_bad = chance.between(4, 12);
        let plan = move || match fates.below(is_bad * 4) {
            0 => Fate::Never,
            1 => Fate::Copies(2),
            2 => Fate::Late(3),
            3 => Fate::Late(25),
            _ => Fate::AsItShould,
        };
        let office = FaultyQueue::delivering(&world.queue, plan);
        let clock = world.clock.clone();
        let mut simulation = Self {
            world,
            clock,
            instances: Vec::new(),
            office,
            inbox: Vec::new(),
            outage: Arc::default(),
            ledger,
            stayed: ids.clone(),
            ids,
            said_gone: BTreeSet::new(),
            elsewhere,
            hangs,
            is_repeatable,
            is_calm: false,
            invocations: 0,
            counts: BTreeMap::new(),
            chance,
        };
        for _ in 0..simulation.chance.between(2, 3) {
            let clock = ManualClock::new();
            let wrong = Duration::from_secs(simulation.chance.between(0, skew));
            if simulation.chance.one_in(2) {
                clock.advance(wrong);
            } else {
                clock.set_back(wrong);
            }
            simulation.start(clock);
        }
        simulation
    }

    /// Another handler, with nothing in its memory.
    fn start(&mut self, clock: ManualClock) {
        let faults = Faults::none();
        let right = std::mem::replace(&mut self.world.clock, clock.clone());
        let store = FaultyStore::witnessed(&self.world.store, &faults, Arc::clone(&self.ledger) as Arc<_>);
        let router = self.world.handler(store, FaultyQueue::over(&self.world.queue, &faults));
        self.world.clock = right;
        self.instances.push(Instance { router, faults, clock, busy: None });
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn begin(&mut self) {
        for _ in 0..self.chance.between(0, 3) {
            self.arm_changes();
        }
        self.publish().await;
    }

    async fn step(&mut self) {
        let what = self.chance.below(100);
        tracing::info!("at {}: step {what}", self.clock.now());
        match what {
            0..=41 => self.deliver().await,
            42..=56 => self.tick().await,
            57..=68 => self.go_on().await,
            69..=71 => self.die(),
            72..=81 => self.pass_time(),
            82..=83 => self.change_outage(),
            84..=87 => self.arm_changes(),
            88..=93 => self.command().await,
            94 => self.publish().await,
            95 => self.clock_jumps(),
            _ => self.world_changes().await,
        }
    }

    fn idle(&mut self) -> Option<usize> {
        let idle: Vec<_> = (0..self.instances.len()).filter(|at| self.instances[*at].busy.is_none()).collect();
        (!idle.is_empty()).then(|| self.chance.pick(&idle))
    }

    fn resting(&mut self) -> Option<usize> {
        let busy: Vec<_> = (0..self.instances.len()).filter(|at| self.instances[*at].busy.is_some()).collect();
        (!busy.is_empty()).then(|| self.chance.pick(&busy))
    }

    async fn deliver(&mut self) {
        let Some(at) = self.idle() else { return self.go_on().await };
        if self.inbox.is_empty() || self.chance.one_in(4) {
            let queue = self.chance.pick(&["rollouts", "refreshes", "refreshes"]);
            let received = self.office.receive(queue, 3, LOCK).await.unwrap();
            self.inbox.extend(received.into_iter().map(|delivery| (queue, delivery)));
        }
        if self.inbox.is_empty() {
            return self.pass_time();
        }
        // Out of their order.
        let next = self.chance.index(self.inbox.len());
        let (queue, delivery) = self.inbox.swap_remove(next);
        let function = if queue == "rollouts" { "PlanRollout" } else { "RefreshDeployment" };
        let (router, body) = (self.instances[at].router.clone(), delivery.body.clone());
        let run = async move { (invoke_message(&router, function, &body).await, String::new()) };
        self.invoke(at, Work::Message { queue, delivery }, run).await;
    }

    async fn tick(&mut self) {
        let Some(at) = self.idle() else { return self.go_on().await };
        let router = self.instances[at].router.clone();
        let run = async move { (invoke_timer(&router, "PollOperations", None).await, String::new()) };
        self.invoke(at, Work::Timer, run).await;
    }

    async fn request(&mut self, method: Method, path: String, body: Value) -> Option<(StatusCode, String)> {
        let Some(at) = self.idle() else {
            self.go_on().await;
            return None;
        };
        let router = self.instances[at].router.clone();
        let run = async move {
            let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
            send(&router, request.body(Body::from(body.to_string())).unwrap()).await
        };
        self.invoke(at, Work::Request, run).await
    }

    async fn invoke(
        &mut self,
        at: usize,
        work: Work,
        run: impl Future<Output = (StatusCode, String)> + 'static,
    ) -> Option<(StatusCode, String)> {
        self.invocations += 1;
        self.count("invocations");
        let what = match &work {
            Work::Message { delivery, .. } => String::from_utf8_lossy(&delivery.body).into_owned(),
            Work::Timer => "timer".to_owned(),
            Work::Request => "request".to_owned(),
        };
        tracing::info!("invocation {} by handler {at}: {what}", self.invocations);
        let script = self.fate();
        let instance = &mut self.instances[at];
        instance.faults.follow(script);
        let invocation = Invocation {
            number: self.invocations,
            work,
            run: Box::pin(run),
            has_rested: false,
            held_up: Duration::ZERO,
        };
        instance.busy = Some(invocation);
        self.drive(at).await
    }

    /// What becomes of the calls of one invocation.
    fn fate(&mut self) -> impl FnMut(Kind, &'static str) -> Option<Decision> + Send + 'static {
        let outage = Arc::clone(&self.outage);
        let mut chance = self.chance.branch();
        let is_calm = self.is_calm;
        let rests: BTreeSet<u64> = match chance.below(10) {
            0..=1 => [chance.between(1, 14)].into(),
            2 => [chance.between(1, 6), chance.between(4, 20)].into(),
            _ => [].into(),
        };
        let death = chance
            .one_in(14)
            .then(|| (chance.between(1, 14), if chance.one_in(2) { Moment::Before } else { Moment::After }));
        let (fails, unclear, loses) = match chance.below(20) {
            0 => (5, 0, 0),
            1 => (0, 4, 0),
            2 => (0, 0, 2),
            3 => (12, 12, 6),
            _ => (0, 0, 0),
        };
        let mut calls = 0;
        move |kind, name| {
            if is_calm {
                return Some(Decision::Do);
            }
            calls += 1;
            if rests.contains(&calls) {
                return None;
            }
            let down = if name == "send" { &outage.queue } else { &outage.store };
            let hit = |chance: &mut Chance, one_in: u64| one_in > 0 && chance.one_in(one_in);
            Some(match death {
                Some((call, moment)) if call == calls => Decision::Die(moment),
                _ if down.load(Ordering::SeqCst) || hit(&mut chance, fails) => Decision::Fail,
                _ if kind == Kind::Effect && hit(&mut chance, unclear) => Decision::DoAndFail,
                _ if name == "send" && hit(&mut chance, loses) => Decision::Lose,
                _ => Decision::Do,
            })
        }
    }

    /// Lets an invocation run until it rests, has ended or is dead.
    async fn drive(&mut self, at: usize) -> Option<(StatusCode, String)> {
        let instance = &mut self.instances[at];
        let invocation = instance.busy.as_mut()?;
        let number = invocation.number;
        self.ledger.at_work(number, invocation.has_rested, invocation.held_up);
        let faults = Arc::clone(&instance.faults);
        let done = tokio::select! {
            biased;
            () = faults.died() => None,
            () = faults.parked() => {
                invocation.has_rested = true;
                self.count("rests");
                tracing::info!("invocation {number} rests");
                return None;
            }
            done = &mut invocation.run => Some(done),
        };
        let invocation = instance.busy.take()?;
        let Invocation { work, run, .. } = invocation;
        drop(run);
        self.ledger.ended(number, done.is_none());
        let Some((status, body)) = done else {
            tracing::info!("invocation {number} died");
            self.bury(at);
            return None;
        };
        if status.is_server_error() {
            self.count("failed invocations");
        }
        if let Work::Message { queue, delivery } = work {
            match status.is_success() {
                // The host may have died before it could say so.
                true if !self.is_calm && self.chance.one_in(25) => {}
                true => drop(self.office.complete(queue, &[delivery.lock]).await.unwrap()),
                false => drop(self.office.abandon(queue, &delivery.lock).await.unwrap()),
            }
        }
        Some((status, body))
    }

    async fn go_on(&mut self) {
        let Some(at) = self.resting() else { return self.pass_time() };
        tracing::info!("handler {at} goes on");
        self.instances[at].faults.let_go();
        self.drive(at).await;
    }

    fn die(&mut self) {
        let at = self.chance.index(self.instances.len());
        if let Some(invocation) = self.instances[at].busy.take() {
            self.ledger.at_work(invocation.number, invocation.has_rested, invocation.held_up);
            drop(invocation.run);
            self.ledger.ended(invocation.number, true);
        }
        self.bury(at);
    }

    /// Puts a new handler in the place of a dead one.
    fn bury(&mut self, at: usize) {
        self.count("deaths");
        let dead = self.instances.swap_remove(at);
        dead.faults.kill();
        self.start(dead.clock);
    }

    fn pass_time(&mut self) {
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

    fn clock_jumps(&mut self) {
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

    fn change_outage(&mut self) {
        self.count("outages");
        let down = [self.chance.one_in(3), self.chance.one_in(3)];
        self.outage.store.store(down[0], Ordering::SeqCst);
        self.outage.queue.store(down[1], Ordering::SeqCst);
    }

    /// ARM does something else than usual, for one application.
    fn arm_changes(&mut self) {
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

    async fn publish(&mut self) {
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

    async fn command(&mut self) {
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
    async fn world_changes(&mut self) {
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

    /// Nothing goes wrong any more, and people see to what waits for them. Who does not come to an end by that is a problem.
    async fn calm(&mut self) -> Vec<String> {
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

    fn is_done(&self, rollout: &permafresh::rollout::Rollout) -> bool {
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
    async fn results(&mut self) -> Vec<String> {
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

async fn stored_refreshes(world: &World, id: RolloutId) -> Vec<permafresh::rollout::Refresh> {
    let page = permafresh::store::PageRequest { continuation: None, top: 1_000 };
    let page = world.store.refreshes(id, None, &page).await.unwrap();
    page.items.into_iter().map(|refresh| refresh.value).collect()
}
