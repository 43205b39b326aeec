//! Notifications as they come from Azure when much happens: so many a second whatever the answers take, twice, late and out of
//! order. What the registry has to hold afterwards is known beforehand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::azure::{Azure, OFFER, PLAN, PUBLISHER};
use crate::load::{Connection, request};
use crate::service::SIG;

/// How many notifications come for each deployment.
const EACH: usize = 6;
/// One of so many deployments is deleted.
const DELETED: usize = 5;
/// How far a notification may be from its place, in notifications.
const DISORDER: usize = 600;
/// How many are on their way at once, at most.
const CONNECTIONS: usize = 64;

/// What is told of how many deployments.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Deployments that stay: those with the first numbers, which Azure has.
    pub staying: usize,
    /// Deployments that are deleted: those behind them, which Azure no longer has.
    pub deleted: usize,
}

impl Told {
    /// As many deployments as `notifications` are enough for.
    pub fn by(notifications: usize) -> Self {
        let deployments = notifications / EACH;
        Self { staying: deployments - deployments / DELETED, deleted: deployments / DELETED }
    }

    /// All deployments.
    pub fn deployments(self) -> usize {
        self.staying + self.deleted
    }

    /// The notifications in the order in which they come: each deployment's own in disorder, some of them twice.
    fn requests(self, azure: &Azure) -> Vec<Vec<u8>> {
        let mut requests = Vec::with_capacity(self.deployments() * EACH);
        let mut chance = 0x5eed_u64;
        for turn in 0..self.deployments() {
            // Those that are deleted come in between the others.
            let number = turn * 7_919 % self.deployments();
            for (step, (event, state, minute)) in self.course(number).into_iter().enumerate() {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = turn * EACH + step + (chance >> 33) as usize % DISORDER;
                let body = json!({
                    "eventType": event, "applicationId": azure.application_id(number), "provisioningState": state,
                    "eventTime": format!("2026-01-16T08:{minute:02}:00.0000000Z"),
                    "plan": {"publisher": PUBLISHER, "product": OFFER, "name": PLAN, "version": "1.4.0"},
                });
                let path = format!("/api/notification/resource?sig={SIG}");
                requests.push((place, request("POST", &path, &body.to_string())));
            }
        }
        requests.sort_by_key(|(place, _)| *place);
        requests.into_iter().map(|(_, request)| request).collect()
    }

    fn course(self, number: usize) -> [(&'static str, &'static str, u32); EACH] {
        let put = [("PUT", "Accepted", 1), ("PUT", "Succeeded", 2), ("PUT", "Succeeded", 2)];
        let rest = match number < self.staying {
            true => [("PATCH", "Accepted", 3), ("PATCH", "Succeeded", 4), ("PATCH", "Succeeded", 4)],
            false => [("DELETE", "Deleting", 3), ("DELETE", "Deleted", 4), ("DELETE", "Deleted", 4)],
        };
        [put[0], put[1], put[2], rest[0], rest[1], rest[2]]
    }
}

/// What came of sending them.
#[derive(Debug, Default)]
pub struct Sent {
    /// How long the answers took, the quickest first.
    answers: Vec<Duration>,
    /// How many were not answered with a 200.
    pub errors: usize,
    /// From the first to the last answer.
    pub took: Duration,
}

impl Sent {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.answers.len() as f64 / self.took.as_secs_f64()
    }

    /// What that share of the answers stayed within.
    pub fn within(&self, share: f64) -> Duration {
        let last = self.answers.len().saturating_sub(1);
        self.answers.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// Sends them, `rate` a second. Where the answers are too slow for that, the wait for a turn counts as well.
pub async fn send(to: SocketAddr, azure: &Azure, told: Told, rate: usize) -> anyhow::Result<Sent> {
    let requests = Arc::new(told.requests(azure));
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..CONNECTIONS {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tasks.spawn(async move {
            let mut sent = Sent::default();
            let mut connection = Connection::open(to).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(number) else { return anyhow::Ok(sent) };
                let due = begin + Duration::from_secs_f64(number as f64 / rate as f64);
                let from = if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                    Instant::now()
                } else {
                    due
                };
                match connection.ask(request).await {
                    Ok(200) => sent.answers.push(from.elapsed()),
                    Ok(_) => sent.errors += 1,
                    Err(_) => {
                        sent.errors += 1;
                        connection = Connection::open(to).await?;
                    }
                }
            }
        });
    }
    let mut all = Sent::default();
    while let Some(sent) = tasks.join_next().await {
        let sent = sent??;
        all.answers.extend(sent.answers);
        all.errors += sent.errors;
    }
    all.took = begin.elapsed();
    all.answers.sort_unstable();
    Ok(all)
}

/// What the registry holds: each deployment's record, by its id in lower case; and how many records there are.
pub async fn registry(of: &str, key: &str) -> anyhow::Result<(BTreeMap<String, Value>, usize)> {
    let client = reqwest::Client::new();
    let (mut deployments, mut records) = (BTreeMap::new(), 0);
    let mut path = "/api/deployments?top=1000".to_owned();
    loop {
        let answer = client.get(format!("{of}{path}")).header("x-functions-key", key).send().await?;
        let page = answer.error_for_status()?.json::<Value>().await?;
        for deployment in page["value"].as_array().context("a page without a list")? {
            let id = deployment["applicationId"].as_str().context("a deployment without an id")?;
            deployments.insert(id.to_ascii_lowercase(), deployment.clone());
            records += 1;
        }
        match page["nextLink"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => return Ok((deployments, records)),
        }
    }
}
