//! Faults of every kind in any mixture, by seed: 200 runs each time, and as many as wanted with `PERMAFRESH_FAULT_SEEDS`
//! (`FROM..TO`, or a count). `docs/faults.md` says what is done, what must hold, and what was found.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::simulation::{self, Report};
use crate::log::{Log, on_this_thread};

/// How many runs there are where nobody says otherwise.
const USUAL: u64 = 200;
/// Runs at once; most of what they do is waiting for each other's parts.
const AT_ONCE: usize = 3;

#[test]
fn whatever_goes_wrong_every_deployment_has_one_result_and_nothing_is_asked_that_should_not_be() {
    let wanted = std::env::var("PERMAFRESH_FAULT_SEEDS").ok();
    let seeds =
        wanted.as_deref().map_or(0..USUAL, |text| parse(text).expect("PERMAFRESH_FAULT_SEEDS is FROM..TO or a count"));
    let reports = run_all(seeds.clone());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports.values() {
        for (what, count) in &report.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{} runs: {counts:?}", reports.len());
    let failed: Vec<_> = reports.iter().filter(|(_, report)| !report.problems.is_empty()).collect();
    for (seed, report) in &failed {
        println!(
            "seed {seed}, again with PERMAFRESH_FAULT_SEEDS={seed}..{} cargo test --test it faults::seeds:",
            **seed + 1
        );
        report.problems.iter().take(8).for_each(|problem| println!("  {problem}"));
    }
    assert!(
        failed.is_empty(),
        "{} of {} runs ended badly: {:?}",
        failed.len(),
        reports.len(),
        failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>()
    );
    if seeds.end - seeds.start >= USUAL {
        for what in ["deaths", "rests", "outages", "failed invocations", "wrong clocks", "completed rollouts"] {
            assert!(counts.get(what).is_some_and(|count| *count >= 20), "{what}: {counts:?}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut compared = 0;
    for seed in 0..20 {
        let first = run(seed);
        if !first.is_repeatable {
            continue;
        }
        assert_eq!(first.asked, run(seed).asked, "seed {seed}");
        compared += 1;
        if compared == 4 {
            return;
        }
    }
    panic!("{compared} of 20 runs are repeatable");
}

fn parse(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..text.parse().ok()?),
    }
}

fn run_all(seeds: Range<u64>) -> BTreeMap<u64, Report> {
    let next = AtomicU64::new(seeds.start);
    let reports = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
                        let why =
                            panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "without a word".to_owned());
                        Report { problems: vec![format!("the run panicked: {why}")], ..Report::default() }
                    });
                    reports.lock().unwrap().insert(seed, report);
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

fn run(seed: u64) -> Report {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(log.clone()).finish();
    let _guard = on_this_thread(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(simulation::run(seed, move || log.text()))
}
