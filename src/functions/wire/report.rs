//! The report of a rollout: every refresh with version, way, result, actor, error, times and command; as JSON or CSV,
//! written page by page so that a hundred thousand refreshes need no memory.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::stream::{self, Stream};

use super::api::{DryRun, HeldByView, RefreshView, RefusalView, RolloutView};
use super::cell::harmless;
use super::views;
use crate::functions::App;
use crate::rollout::lint::Finding;
use crate::rollout::{Changes, RolloutId};
use crate::store::{PageRequest, StoreError};

/// How many refreshes are written at once.
const PAGE: usize = 1_000;
/// How much of what a version changes stands in each line of a CSV report, in characters; JSON has all of it.
const LONGEST_CHANGES: usize = 1_000;

/// Where the writing stands.
enum Place {
    Head,
    Page { continuation: Option<String>, is_first: bool },
    Foot,
    Done,
}

/// `{"rollout": …, "refreshes": […]}`.
pub fn json(app: Arc<App>, rollout: RolloutView) -> impl Stream<Item = Result<Bytes, StoreError>> {
    let id = rollout.id;
    let head = serde_json::to_string(&rollout).unwrap_or_else(|_| "null".to_owned());
    pages(app, id, format!(r#"{{"rollout":{head},"refreshes":["#), "]}\n", |refreshes, is_first| {
        let mut text = String::new();
        for (at, refresh) in refreshes.iter().enumerate() {
            if at > 0 || !is_first {
                text.push(',');
            }
            text.push('\n');
            text.push_str(&serde_json::to_string(refresh).unwrap_or_else(|_| "null".to_owned()));
        }
        text
    })
}

/// One line for each refresh under a line of names. What is true of the whole rollout is on each line, at its end.
pub fn csv(app: Arc<App>, rollout: &RolloutView) -> impl Stream<Item = Result<Bytes, StoreError>> + use<> {
    let names = "applicationId,state,why,way,version,versionBefore,wave,attempts,polls,verified,actor,code,message,correlationId,submittedAt,endedAt,command,commandPowerShell,percentComplete,nextLook,opensAt,refusals,heldBy,rolloutState,rolloutWhy,changes,changed,lint\r\n";
    let of_all = [
        held_by(&rollout.held_by),
        text(&Some(rollout.state)),
        text(&rollout.why),
        rollout.changes.as_deref().map(changes).unwrap_or_default(),
        text(&rollout.changed),
        lint(&rollout.lint),
    ]
    .map(harmless);
    pages(app, rollout.id, names.to_owned(), "", move |refreshes, _| {
        let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
        for refresh in refreshes {
            // Writing to memory cannot fail, and every record has as many fields as the first.
            let _ = writer.write_record(record(refresh).iter().chain(&of_all));
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    })
}

/// A dry run: one line for each deployment, those that would be called first.
pub fn dry_run_csv(run: &DryRun) -> String {
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    // As above, writing to memory cannot fail.
    let _ = writer.write_record([
        "applicationId",
        "plan",
        "why",
        "way",
        "version",
        "versionBefore",
        "wave",
        "command",
        "commandPowerShell",
        "opensAt",
        "heldBy",
        "refused",
        "lint",
    ]);
    let of_all = [held_by(&run.held_by), text(&run.refused), lint(&run.lint)].map(harmless);
    for call in &run.called {
        let id = call.application_id.to_string();
        let cells = [id, "call".to_owned(), String::new(), text(&call.way), run.version.to_string()];
        let more = [
            text(&call.version_before),
            call.wave.to_string(),
            text(&call.command),
            text(&call.command_powershell),
            text(&call.opens_at),
        ];
        let _ = writer.write_record(cells.into_iter().chain(more).map(harmless).chain(of_all.clone()));
    }
    for skip in &run.skipped {
        let id = skip.application_id.to_string();
        let cells = [id, "skip".to_owned(), skip.why.clone(), String::new(), String::new(), text(&skip.version_before)];
        let cells = cells.into_iter().chain([const { String::new() }; 4]).map(harmless);
        let _ = writer.write_record(cells.chain(of_all.clone()));
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// What keeps every rollout from posting: `stop: a reason`, `observe`.
fn held_by(held_by: &[HeldByView]) -> String {
    let word = |held: &HeldByView| match &held.why {
        Some(why) => format!("{}: {why}", held.by),
        None => held.by.clone(),
    };
    held_by.iter().map(word).collect::<Vec<_>>().join("; ")
}

fn lint(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// `publisher: AuthorizationFailed: the words; gdap: …`.
fn refusals(refusals: &[RefusalView]) -> String {
    let one = |refusal: &RefusalView| format!("{}: {}: {}", refusal.way.word(), refusal.code, refusal.message);
    refusals.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn text<T: serde::Serialize>(value: &Option<T>) -> String {
    match value.as_ref().map(serde_json::to_value) {
        Some(Ok(serde_json::Value::String(text))) => text,
        Some(Ok(other)) => other.to_string(),
        _ => String::new(),
    }
}

fn changes(changes: &Changes) -> String {
    let lines = changes.lines().join("; ");
    let mut text = match changes.against {
        Some(against) => format!("since {against}: {lines}"),
        None => lines,
    };
    if let Some((end, _)) = text.char_indices().nth(LONGEST_CHANGES) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn record(refresh: &RefreshView) -> Vec<String> {
    let error = refresh.error.as_ref();
    [
        refresh.application_id.to_string(),
        refresh.state.word().to_owned(),
        text(&refresh.why),
        text(&refresh.way),
        text(&refresh.version),
        text(&refresh.version_before),
        text(&refresh.wave),
        refresh.attempts.to_string(),
        refresh.polls.to_string(),
        text(&refresh.verified),
        text(&error.map(|error| error.actor)),
        text(&error.map(|error| &error.code)),
        text(&error.map(|error| &error.message)),
        text(&refresh.correlation_id),
        text(&refresh.submitted_at),
        text(&refresh.ended_at),
        text(&refresh.command),
        text(&refresh.command_powershell),
        text(&refresh.percent_complete),
        text(&refresh.next_look),
        text(&refresh.opens_at),
        refusals(&refresh.refusals),
    ]
    .into_iter()
    .map(harmless)
    .collect()
}

fn pages(
    app: Arc<App>,
    id: RolloutId,
    head: String,
    foot: &'static str,
    write: impl Fn(&[RefreshView], bool) -> String + Send + 'static,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    let start = (Place::Head, app, head, write);
    stream::try_unfold(start, move |(place, app, head, write)| async move {
        match place {
            Place::Head => {
                let text = Bytes::from(head);
                let place = Place::Page { continuation: None, is_first: true };
                Ok(Some((text, (place, app, String::new(), write))))
            }
            Place::Page { continuation, is_first } => {
                let request = PageRequest { continuation, top: PAGE };
                let page = app.engine.store().refreshes(id, None, &request).await?;
                let refreshes: Vec<_> = page.items.iter().map(|refresh| views::refresh(&refresh.value)).collect();
                let text = write(&refreshes, is_first);
                let place = match page.next {
                    Some(next) => Place::Page { continuation: Some(next), is_first: is_first && refreshes.is_empty() },
                    None => Place::Foot,
                };
                Ok(Some((Bytes::from(text), (place, app, head, write))))
            }
            Place::Foot => Ok(Some((Bytes::from_static(foot.as_bytes()), (Place::Done, app, head, write)))),
            Place::Done => Ok(None),
        }
    })
}
