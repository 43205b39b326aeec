//! How fast and how small Permafresh is: runs the real binary against a simulated Azure Resource Manager and prints a
//! Markdown table beside the budgets. Judges nothing: whoever reads the table does.
//!
//! `cargo bench --bench rollout` measures everything, which takes some ten minutes; `-- --only start --only 1000` only what
//! is named, `-- --quick` all of it with small numbers, `-- --json FILE` writes every figure to a file. Linux only, since
//! CPU and memory are read from `/proc`. The simulator, the empty handler and the others that Permafresh is compared with
//! are processes of their own, so that what they need is not counted.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for a terminal that measures real time; its numbers are small"
)]

mod azure;
mod load;
mod measures;
mod notifications;
mod peers;
mod process;
mod rude;
mod service;
mod strain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};

use azure::Azure;

/// How fast and how small Permafresh is
#[derive(Debug, Parser)]
struct Options {
    /// Small numbers: whether it all works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only this; may be given several times
    #[arg(long, value_name = "NAME", value_parser = MEASURES)]
    only: Vec<String>,
    /// Write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured, in this order.
const MEASURES: [&str; 14] = [
    "start",
    "size",
    "idle",
    "no-op",
    "peers",
    "1000",
    "10000",
    "100000",
    "tick",
    "load",
    "stuck",
    "sync-1000",
    "sync-10000",
    "sync-100000",
];

/// One line of the table.
pub struct Row {
    what: String,
    beside: String,
    measured: String,
    figures: Value,
}

impl Row {
    /// A line of the table: what, the bound or the peer of the same run, what was measured.
    pub fn new(what: impl Into<String>, beside: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), beside: beside.into(), measured: measured.into(), figures: Value::Null }
    }

    /// With the figures themselves, for programs.
    #[must_use]
    pub fn with(self, figures: Value) -> Self {
        Self { figures, ..self }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider was there already")?;
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.first().map(String::as_str) {
        Some("--serve-azure") => runtime.block_on(azure::serve(Azure::from_arguments(&arguments[1..])?)),
        Some("--bare-loop") => runtime.block_on(azure::bare_loop(&arguments[1..])),
        Some("--one-by-one") => runtime.block_on(peers::run_one_by_one(&arguments[1..])),
        _ => runtime.block_on(measure(&Options::parse())),
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let is_wanted = |name: &str| match options.only.is_empty() {
        // The large ones only in full.
        true => !(options.quick && ["10000", "100000", "sync-10000", "sync-100000"].contains(&name)),
        false => options.only.iter().any(|given| given == name),
    };
    let less = |full: usize, quick: usize| if options.quick { quick } else { full };
    println!("Machine: {}\n", process::machine());
    println!("| what | bound, or peer of the same run | measured | load |\n|---|---|---|---|");
    let mut written = Vec::new();
    for name in MEASURES.into_iter().filter(|name| is_wanted(name)) {
        eprintln!("{name} …");
        let rows = match name {
            "start" => measures::start(less(30, 3)).await,
            "size" => measures::size(),
            "idle" => measures::idle(less(100_000, 1_000)).await,
            "no-op" => measures::no_op(less(3, 1)).await,
            "peers" => measures::peers(less(1_000, 50), less(8, 1)).await,
            "tick" => measures::tick(less(100_000, 1_000)).await,
            "load" => strain::load(less(2_000, 200), less(60, 3)).await,
            "stuck" => strain::stuck(less(10_000, 500), less(60, 5)).await,
            name => match name.strip_prefix("sync-") {
                Some(count) => measures::sync(count.parse()?).await,
                None => measures::rollout(name.parse()?).await,
            },
        };
        let load = process::load();
        // Each line is shown as soon as it is known, and one that cannot be had does not take the others with it.
        let rows = rows.unwrap_or_else(|error| vec![Row::new(name, "", format!("could not be measured: {error:#}"))]);
        for Row { what, beside, measured, figures } in rows {
            println!("| {what} | {beside} | {measured} | {load} |");
            written
                .push(json!({"what": what, "beside": beside, "measured": measured, "load": load, "figures": figures}));
        }
    }
    if let Some(file) = &options.json {
        let all = json!({"machine": process::machine(), "quick": options.quick, "rows": written});
        std::fs::write(file, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Where cargo builds: this program is in `release/deps` of it.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?;
    match program.ancestors().nth(3) {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!("{} is not where cargo builds", Path::new(&program).display()),
    }
}

/// A duration as a person reads it.
pub fn words(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// A number as a person reads it.
pub fn thousands(count: usize) -> String {
    if count < 1_000 { count.to_string() } else { format!("{},{:03}", count / 1_000, count % 1_000) }
}

/// The middle one.
pub fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}
