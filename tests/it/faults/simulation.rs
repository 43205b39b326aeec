//! One run by seed: two or three handlers over one store and one queue, and everything goes wrong that may. Then calm, in
//! which every rollout has to come to its end; then the questions to what is left.
//!
//! One invocation runs at a time, the others rest at a call of the store or the queue, die there, or go on: the seed decides.

mod calm;
mod happenings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use permafresh::queue::{Delivery, Queue};
use permafresh::rollout::{ApplicationId, DeploymentKey};
use serde_json::Value;

use super::ledger::Ledger;
use super::weather::{Chance, SECRET};
use super::{Decision, Fate, Faults, FaultyQueue, FaultyStore, Kind, Moment};
use crate::manual_clock::ManualClock;
use crate::world::{Options, SIG, World, invoke_message, invoke_timer, send};

const LOCK: Duration = Duration::from_secs(60);
/// So many steps go wrong before it is calm.
const STEPS: usize = 160;

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
}
