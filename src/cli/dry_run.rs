//! A dry run in words: who would be called in which wave and by which way, who would be skipped and why.
//!
//! Pure: what the service answered in, text out. The full list is the business of JSON and CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plain_text::plain;
use crate::functions::wire::api::DryRun;
use crate::rollout::counted;

const SHOWN_DEPLOYMENTS: usize = 3;
const SHOWN_COMMANDS: usize = 3;

/// The summary of a dry run.
pub fn text(run: &DryRun) -> String {
    let mut text = format!("Dry run of {}: nobody was called\n", run.version);
    if let Some(refused) = &run.refused {
        let _ = writeln!(text, "  It would be refused: {}", plain(refused));
    }
    for held in &run.held_by {
        let why = held.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
        let _ = writeln!(text, "  Nothing is posted for now ({}){why}", plain(&held.by));
    }
    let _ = writeln!(text, "\nWould be called: {}", counted(run.called.len() as u64, "deployment"));
    let mut waves: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let ids: Vec<_> = run.called.iter().map(|call| call.application_id.to_string()).collect();
    for (call, id) in run.called.iter().zip(&ids) {
        waves.entry(call.wave).or_default().push(id);
    }
    for (wave, ids) in &waves {
        let _ = writeln!(text, "  wave {wave}: {}", counted(ids.len() as u64, "deployment"));
        for id in ids.iter().take(SHOWN_DEPLOYMENTS) {
            let _ = writeln!(text, "    {id}");
        }
        if ids.len() > SHOWN_DEPLOYMENTS {
            let _ = writeln!(text, "    and {} more", ids.len() - SHOWN_DEPLOYMENTS);
        }
    }
    let befores = counts(run.called.iter().map(|call| match call.version_before {
        Some(version) => format!("from {version}"),
        None => "from a version that is not known".to_owned(),
    }));
    for (from, count) in befores {
        let _ = writeln!(text, "  {from}: {}", counted(count, "deployment"));
    }
    let waiting = run.called.iter().filter(|call| call.opens_at.is_some()).count();
    if waiting > 0 {
        let _ = writeln!(text, "  after waiting for a maintenance window: {}", counted(waiting as u64, "deployment"));
    }
    let handed: Vec<_> = run.called.iter().filter_map(|call| Some((call, call.command.as_deref()?))).collect();
    if !handed.is_empty() {
        let count = counted(handed.len() as u64, "deployment");
        let _ = writeln!(text, "\nOf these {count}, whose customer would have to run the command");
        for (call, command) in handed.iter().take(SHOWN_COMMANDS) {
            let _ = writeln!(text, "  {}\n    {}", call.application_id, plain(command));
        }
    }
    if !run.skipped.is_empty() {
        let _ = writeln!(text, "\nWould be skipped: {}", counted(run.skipped.len() as u64, "deployment"));
        for (why, count) in counts(run.skipped.iter().map(|skip| skip.why.clone())) {
            let _ = writeln!(text, "  {}: {}", counted(count, "deployment"), plain(&why));
        }
    }
    text
}

fn counts(words: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 1;
        counts
    })
}
