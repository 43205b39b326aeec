//! How fast and how small Permafresh is: runs the real binary against a simulated Azure Resource Manager and prints a
//! Markdown table beside the budgets. Judges nothing: whoever reads the table does.
//!
//! `cargo bench --bench rollout` measures everything, which takes some minutes; `cargo bench --bench rollout -- start
//! no-op 1000` only what is named. Linux only, since CPU and memory are read from `/proc`. The simulator, the empty
//! handler it is compared with, and the bare loop are processes of their own (this program again), so that what they
//! need is not counted.
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
mod process;
mod service;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use azure::Azure;

/// One line of the table.
pub struct Row {
    what: String,
    budget: String,
    measured: String,
}

impl Row {
    /// A line of the table.
    pub fn new(what: impl Into<String>, budget: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), budget: budget.into(), measured: measured.into() }
    }
}

/// What can be measured, in this order.
const MEASURES: [&str; 10] =
    ["start", "idle", "no-op", "1000", "10000", "100000", "tick", "sync-1000", "sync-10000", "sync-100000"];

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
    // Cargo adds `--bench`.
    let arguments = env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.first().map(String::as_str) {
        Some("--serve-azure") => runtime.block_on(azure::serve(Azure::from_arguments(&arguments[1..])?)),
        Some("--serve-nothing") => runtime.block_on(load::serve_nothing()),
        Some("--bare-loop") => runtime.block_on(azure::bare_loop(&arguments[1..])),
        _ => runtime.block_on(measure(&arguments)),
    }
}

async fn measure(wanted: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| !MEASURES.contains(&name.as_str())) {
        bail!("{unknown} is none of {}", MEASURES.join(", "));
    }
    println!("Machine: {}\n\n| what | budget | measured |\n|---|---|---|", process::machine());
    for name in MEASURES.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|given| given == name)) {
        eprintln!("{name} …");
        let rows = match name {
            "start" => measures::start(20).await,
            "idle" => measures::idle().await,
            "no-op" => measures::no_op().await,
            "tick" => measures::tick(100_000).await,
            name => match name.strip_prefix("sync-") {
                Some(count) => measures::sync(count.parse()?).await,
                None => measures::rollout(name.parse()?).await,
            },
        };
        // Each line is shown as soon as it is known, and one that cannot be had does not take the others with it.
        match rows {
            Ok(rows) => rows.iter().for_each(|row| println!("| {} | {} | {} |", row.what, row.budget, row.measured)),
            Err(error) => println!("| {name} | | could not be measured: {error:#} |"),
        }
    }
    Ok(())
}

/// A duration as a person reads it.
pub fn words(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// The middle one.
pub fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}
