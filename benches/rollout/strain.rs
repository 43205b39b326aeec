//! What the service withstands: many notifications, slow and broken clients beside them, and an Azure that never answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::azure::{Azure, Simulator};
use crate::notifications::{self, Sent, Told};
use crate::process::{cpu, forget_peak, peak_mib};
use crate::rude::Rude;
use crate::service::{Handler, KEY, Local};
use crate::{Row, thousands, words};

/// `rate` notifications a second for `seconds`, then beside bad clients, then what became of all of it.
pub async fn load(rate: usize, seconds: usize) -> anyhow::Result<Vec<Row>> {
    let (calm, calm_rows) = notified(rate, seconds, None).await?;
    let (_, rude_rows) = notified(rate, (seconds / 3).max(2), Some(&calm)).await?;
    Ok(calm_rows.into_iter().chain(rude_rows).collect())
}

/// Without bad clients, or with them beside what it was `without`.
async fn notified(rate: usize, seconds: usize, without: Option<&Sent>) -> anyhow::Result<(Sent, Vec<Row>)> {
    let told = Told::by(rate * seconds);
    let settings = Azure { applications: told.staying, latency: Duration::from_millis(1), ..Azure::default() };
    let azure = Simulator::start(&settings)?;
    let folder = tempfile::tempdir()?;
    let (handler, _) = Handler::start(folder.path(), &azure)?;
    handler.wait_until_initialised().await?;
    let rude = without.map(|_| Rude::begin(handler.address()));
    if rude.is_some() {
        // Until all of them are there.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    forget_peak(handler.id())?;
    let before = cpu(handler.id())?;
    let sent = notifications::send(handler.address(), &settings, told, rate).await?;
    let rude = rude.map(|rude| rude.words());
    let used = cpu(handler.id())?.saturating_sub(before);
    let peak = peak_mib(handler.id())?;
    let base = format!("http://{}", handler.address());
    let (known, records) = notifications::registry(&base, KEY).await?;
    let all = rate * seconds / 6 * 6;
    let measured = format!(
        "{:.0}/s; half within {}, 99 % within {}, all within {}; {} not answered with 200; CPU {:.0} µs each; most memory {peak:.1} MiB",
        sent.per_second(),
        words(sent.within(0.5)),
        words(sent.within(0.99)),
        words(sent.within(1.0)),
        sent.errors,
        used.as_secs_f64() * 1e6 / all as f64,
    );
    let registered = format!("{} records of {} deployments", records, known.len());
    let figures = json!({"perSecond": sent.per_second(), "errors": sent.errors, "peakMib": peak, "records": records,
        "deployments": known.len(), "medianMicroseconds": sent.within(0.5).as_micros(), "p99Microseconds": sent.within(0.99).as_micros()});
    let name = format!("{} notifications in {seconds} s", thousands(all));
    let mut rows = vec![
        match (&rude, without) {
            (Some(rude), Some(without)) => Row::new(
                format!("{name}, beside slow and broken clients"),
                format!("without them 99 % within {}", words(without.within(0.99))),
                format!("{measured}; {rude}"),
            ),
            _ => Row::new(name.clone(), format!("{rate}/s"), measured),
        }
        .with(figures),
    ];
    let expected = format!("{} deployments, each once", told.deployments());
    rows.push(Row::new(format!("{name}: the registry after the last answer"), expected, registered));
    drop(handler);

    // Azure is asked for each only now, by the messages that were queued.
    let local = Local::start(folder.path(), &azure)?;
    let begin = Instant::now();
    let deployments = loop {
        let (known, _) = notifications::registry(local.url(), KEY).await?;
        let settled = |number: usize| {
            let record = known.get(&settings.application_id(number).to_ascii_lowercase());
            record.is_some_and(|record| match number < told.staying {
                true => record["confirmed"] == true && record["provisioningState"] == "Succeeded",
                false => record["goneSince"].is_string(),
            })
        };
        let right = (0..told.deployments()).filter(|number| settled(*number)).count();
        if right == told.deployments() || begin.elapsed() > Duration::from_secs(300) {
            break (right, known.len());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    local.end()?;
    let (right, known) = deployments;
    rows.push(Row::new(
        format!("{name}: the registry once Azure was asked for each"),
        format!("{} confirmed, {} gone", told.staying, told.deleted),
        format!("{right} as they should be of {known}, after {}", words(begin.elapsed())),
    ));
    Ok((sent, rows))
}

/// A rollout to `count` deployments while Azure takes every call and answers none.
pub async fn stuck(count: usize, seconds: usize) -> anyhow::Result<Vec<Row>> {
    let azure = Simulator::start(&Azure::default())?;
    let silence = Silence::begin().await?;
    let folder = tempfile::tempdir()?;
    let local = Local::start_against(folder.path(), &azure, &silence.endpoint())?;
    local.import(&Azure::default(), 0..count).await?;
    let (host, handler) = (local.host(), local.handler()?);
    forget_peak(host)?;
    forget_peak(handler)?;
    let before = cpu(handler)? + cpu(host)?;
    let id = local.publish().await?;
    let begin = Instant::now();
    let mut answers = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds as u64) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let from = Instant::now();
        let rollout = local.rollout(&id).await?;
        answers.push(from.elapsed());
        if rollout["state"] != "running" && rollout["state"] != "planning" {
            bail!("the rollout is {rollout}");
        }
    }
    answers.sort_unstable();
    let used = (cpu(handler)? + cpu(host)?).saturating_sub(before);
    let (host, handler) = (peak_mib(host)?, peak_mib(handler)?);
    local.end()?;
    let slowest = answers.last().copied().unwrap_or_default();
    let (open, opened) = (silence.most_open(), silence.opened());
    Ok(vec![
        Row::new(
            format!("{} refreshes queued, Azure takes calls and never answers, after {seconds} s", thousands(count)),
            "64 calls at once; 150 MiB",
            format!(
                "at most {open} open connections to Azure ({opened} in all); most memory handler {handler:.1} MiB, host {host:.1} MiB; \
                 CPU {}; the API answered within {}",
                words(used),
                words(slowest)
            ),
        )
        .with(json!({"open": open, "opened": opened, "handlerMib": handler, "hostMib": host})),
    ])
}

/// An Azure that takes every connection and never says a word.
struct Silence {
    address: SocketAddr,
    open: Arc<Open>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Silence {
    async fn begin() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, open) = (listener.local_addr()?, Arc::<Open>::default());
        let counts = Arc::clone(&open);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counts = Arc::clone(&counts);
                tokio::spawn(async move {
                    counts.all.fetch_add(1, Ordering::Relaxed);
                    let now = counts.now.fetch_add(1, Ordering::Relaxed) + 1;
                    counts.most.fetch_max(now, Ordering::Relaxed);
                    let mut buffer = [0; 1024];
                    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
                    counts.now.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, open, serving })
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn most_open(&self) -> usize {
        self.open.most.load(Ordering::Relaxed)
    }

    fn opened(&self) -> usize {
        self.open.all.load(Ordering::Relaxed)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
