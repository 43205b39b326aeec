//! Keeps one handler process running: starts it, waits until it answers, watches it end, restarts it by the host's
//! rules (contracts/custom-handler.md §1–3). It sends no invocations.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpSocket,
    process::Child,
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    client::{ClientError, HandlerClient},
    crashes::{AfterCrash, Crashes, ExitMeaning},
    launch::Launch,
    output_lines::{LastErrors, LineSink, Stream, pass_on},
    stopping::StopSignal,
};
use crate::clock::Clock;

/// Between two looks whether the handler answers; their sum is the start budget.
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// Between an invocation's timeout and the end of the handler.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// How long what a dead process has printed may take to arrive; somebody else may still hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Where the handler stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being started.
    Starting,
    /// It has answered.
    Ready(Running),
    /// It will not be started again.
    Stopped,
}

/// A handler that has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Where it listens.
    pub port: u16,
    /// Which start it is, from 1.
    pub generation: u64,
}

/// Why no handler will be started any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("the host was shut down")]
    Shutdown,
    /// The handler ended, or did not start, three times.
    #[error("the handler failed three times; the last time it {failure}{}", quoted(.last_errors))]
    HandlerFailed {
        /// What it did the last time.
        failure: String,
        /// The last lines it printed to standard error.
        last_errors: Vec<String>,
    },
    /// Invocations waited in vain.
    #[error("an invocation waited {waited_ms} ms for a handler that did not become ready")]
    HandlerNeverReady {
        /// How long.
        waited_ms: u128,
    },
}

fn quoted(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" | ")) }
}

/// What the supervisor is told.
#[derive(Debug)]
enum Order {
    /// An invocation of that generation ran out of time.
    TimedOut(u64),
    /// Stop for good.
    Stop(StopReason),
}

/// What others see of the process.
#[derive(Clone, Debug)]
pub struct HandlerProcess {
    phase: watch::Receiver<Phase>,
    orders: mpsc::UnboundedSender<Order>,
}

impl HandlerProcess {
    /// Where it stands now.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// The handler once it is ready, or `None` once it will never be again.
    pub async fn ready(&self) -> Option<Running> {
        if let Phase::Ready(running) = *self.phase.borrow() {
            return Some(running);
        }
        let mut phase = self.phase.clone();
        let settled = phase.wait_for(|phase| *phase != Phase::Starting).await;
        match settled.as_deref() {
            Ok(Phase::Ready(running)) => Some(*running),
            _ => None,
        }
    }

    /// Whether that handler is known to be gone before the time is up.
    pub async fn ends_within(&self, running: Running, limit: Duration) -> bool {
        let mut phase = self.phase.clone();
        let gone = phase.wait_for(|phase| *phase != Phase::Ready(running));
        tokio::time::timeout(limit, gone).await.is_ok()
    }

    /// An invocation ran out of time: the handler is killed after a grace and started again, uncounted.
    pub fn timed_out(&self, generation: u64) {
        // A supervisor that is gone has killed the handler already.
        let _gone = self.orders.send(Order::TimedOut(generation));
    }

    /// Kills the handler and starts it no more.
    pub fn stop(&self, reason: StopReason) {
        let _gone = self.orders.send(Order::Stop(reason));
    }
}

/// Runs the process. Dropping its future kills the handler.
pub struct Supervisor {
    /// How it is started.
    pub launch: Launch,
    /// A port of the user's choice.
    pub fixed_port: Option<u16>,
    /// How long a start may take.
    pub initialization_timeout: Duration,
    /// How long the handler may take to answer a probe whose connection it took.
    pub probe_timeout: Option<Duration>,
    /// Asks whether it answers.
    pub client: HandlerClient,
    /// Gets what it prints.
    pub sink: LineSink,
    /// Tells crashes of today from those of yesterday.
    pub clock: Arc<dyn Clock>,
    /// Tells the rest of the host when there will be no handler any more.
    pub stop: StopSignal,
}

enum Ended {
    Exited(ExitStatus),
    NotStarted(std::io::Error),
    StartTimedOut,
    InvocationTimedOut,
    Stopped(StopReason),
}

enum Probe {
    Ready,
    OutOfBudget,
}

impl Supervisor {
    /// The two ends: what others hold, and the future that has to be run and ends with the reason why it did.
    pub fn start(self) -> (HandlerProcess, impl Future<Output = StopReason> + Send + 'static) {
        let (phase, seen) = watch::channel(Phase::Starting);
        let (orders, received) = mpsc::unbounded_channel();
        (HandlerProcess { phase: seen, orders }, self.run(phase, received))
    }

    async fn run(self, phase: watch::Sender<Phase>, mut orders: mpsc::UnboundedReceiver<Order>) -> StopReason {
        let mut crashes = Crashes::default();
        let mut generation = 0;
        let reason = loop {
            generation += 1;
            let errors = LastErrors::default();
            let failure = match self.live(generation, &phase, &mut orders, &errors).await {
                Ended::Stopped(reason) => break reason,
                Ended::InvocationTimedOut => {
                    tracing::warn!(generation, "the handler was killed because an invocation ran out of time");
                    None
                }
                Ended::Exited(status) if ExitMeaning::of(status.code()) == ExitMeaning::RestartWanted => {
                    tracing::info!(generation, "the handler asked to be restarted");
                    None
                }
                Ended::Exited(status) => Some(format!("ended with {status}")),
                Ended::NotStarted(error) => Some(format!("could not be started: {error}")),
                Ended::StartTimedOut => {
                    Some(format!("did not answer within {} ms", self.initialization_timeout.as_millis()))
                }
            };
            if let Some(failure) = failure {
                let last_errors = errors.lines();
                tracing::error!(generation, "the handler {failure}{}", quoted(&last_errors));
                if crashes.note(self.clock.now()) == AfterCrash::GiveUp {
                    break StopReason::HandlerFailed { failure, last_errors };
                }
            }
        };
        // First no new work, then no hope for what waits: otherwise messages would fail one after another.
        self.stop.send();
        phase.send_replace(Phase::Stopped);
        reason
    }

    async fn live(
        &self,
        generation: u64,
        phase: &watch::Sender<Phase>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        errors: &LastErrors,
    ) -> Ended {
        let (port, _reserved) = match self.port() {
            Ok(port) => port,
            Err(error) => return Ended::NotStarted(error),
        };
        let mut child = match self.launch.command(port).spawn() {
            Ok(child) => child,
            Err(error) => return Ended::NotStarted(error),
        };
        let mut readers = self.readers(&mut child, errors);
        let mut gone = None;
        let mut ready = false;
        let mut kill_at = None;
        let mut probe = std::pin::pin!(self.probe(port));
        let ended = loop {
            let grace_over = tokio::time::sleep_until(kill_at.unwrap_or_else(Instant::now));
            tokio::select! {
                status = child.wait(), if gone.is_none() => match status {
                    // Nobody is told: invocations go on failing to connect, as they do on the real host.
                    Ok(status) if ExitMeaning::of(status.code()) == ExitMeaning::Ignored => {
                        tracing::warn!(generation, "the handler ended with code 0 and is not restarted");
                        gone = Some(status);
                    }
                    Ok(status) => break Ended::Exited(status),
                    Err(error) => break Ended::NotStarted(error),
                },
                answer = &mut probe, if !ready => match answer {
                    Probe::Ready => {
                        ready = true;
                        phase.send_replace(Phase::Ready(Running { port, generation }));
                    }
                    Probe::OutOfBudget => break Ended::StartTimedOut,
                },
                order = orders.recv() => match order {
                    None => break Ended::Stopped(StopReason::Shutdown),
                    Some(Order::Stop(reason)) => break Ended::Stopped(reason),
                    Some(Order::TimedOut(which)) if which == generation && kill_at.is_none() => {
                        kill_at = Some(Instant::now() + TIMEOUT_GRACE);
                    }
                    Some(Order::TimedOut(_)) => {}
                },
                () = grace_over, if kill_at.is_some() => break Ended::InvocationTimedOut,
            }
        };
        // From here on invocations wait; otherwise messages would use up their deliveries on a handler that is gone.
        phase.send_replace(Phase::Starting);
        // What is in flight has to fail before the next start, so the process goes first.
        let _gone = child.start_kill();
        let _late = tokio::time::timeout(KILL_WAIT, child.wait()).await;
        let _cut_off = tokio::time::timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
        ended
    }

    fn readers(&self, child: &mut Child, errors: &LastErrors) -> JoinSet<()> {
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(pass_on(out, Stream::Out, self.sink.clone(), errors.clone()));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(pass_on(err, Stream::Err, self.sink.clone(), errors.clone()));
        }
        readers
    }

    /// A free port, and the socket that keeps others from being given it. On Linux a bound socket that does not listen
    /// does not stand in the handler's way; elsewhere it would, so it is let go.
    fn port(&self) -> Result<(u16, Option<TcpSocket>), std::io::Error> {
        if let Some(port) = self.fixed_port {
            return Ok((port, None));
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let port = socket.local_addr()?.port();
        Ok((port, cfg!(target_os = "linux").then_some(socket)))
    }

    /// Only a refused connection means "not yet": any answer, and any other failure, counts as ready.
    async fn probe(&self, port: u16) -> Probe {
        let mut waited = Duration::ZERO;
        loop {
            let answer = self.client.probe(port);
            let answer = match self.probe_timeout {
                Some(limit) => tokio::time::timeout(limit, answer).await,
                None => Ok(answer.await),
            };
            if !matches!(answer, Ok(Err(ClientError::Unreachable { .. }))) {
                return Probe::Ready;
            }
            if waited >= self.initialization_timeout {
                return Probe::OutOfBudget;
            }
            tokio::time::sleep(PROBE_EVERY).await;
            waited += PROBE_EVERY;
        }
    }
}
