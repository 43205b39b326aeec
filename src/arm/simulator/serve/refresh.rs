//! `refreshPermissions` and its operations, as the simulator answers them.

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_LENGTH;

use super::super::Shared;
use super::super::journal::Question;
use super::super::scripts::{Acceptance, MonitorForm, OnPoll, OnPost, Reply, WaitForm};
use super::super::signed_url::{Record, UrlSigner};
use super::super::world::{Operation, World};
use super::{Act, query_value, without_api_version};
use crate::rollout::{Timestamp, Version};

/// How much earlier than it was allowed a call may come before it counts as impatient: stored times are cut to
/// milliseconds.
const TOLERANCE: Duration = Duration::from_millis(2);

pub(super) fn post(shared: &Shared, head: &http::request::Parts, path: &str, now: Timestamp) -> Act {
    if head.headers.get(CONTENT_LENGTH).is_none() {
        return Reply::html(411).into();
    }
    let version = query_value(head, "targetVersion").filter(|version| version.parse::<Version>().is_ok());
    let mut world = shared.world();
    let world = &mut *world;
    world.stats.posts += 1;
    let Some(&index) = world.by_id.get(application_key(path).as_ref()) else {
        return Reply::resource_not_found().into();
    };
    let application = &mut world.applications[index as usize];
    application.posts += 1;
    let early_by = earliness(application.not_before.take(), now);
    world.stats.impatient_posts += u64::from(!early_by.is_zero());
    let started_before = world.stats.operations;
    let act = start(shared, head, world, index, version, now);
    if shared.config.keeps_journal {
        let operation = (world.stats.operations > started_before).then(|| world.newest_operation()).flatten();
        world.note(index, Question::Post { operation }, now, early_by, matches!(act, Act::Answer(_)));
    }
    act
}

fn start(
    shared: &Shared,
    head: &http::request::Parts,
    world: &mut World,
    index: u32,
    version: Option<&str>,
    now: Timestamp,
) -> Act {
    if let Some(reply) = without_api_version(head) {
        return reply.into();
    }
    let Some(version) = version else {
        return Reply::error(400, "InvalidTargetVersion", "The targetVersion query parameter is not a version.").into();
    };
    let application = &mut world.applications[index as usize];
    if application.jit.is_on(&application.spec) && !application.jit.is_open(now) {
        world.stats.outside_windows += 1;
        return Reply::forbidden().into();
    }
    match application.on_post.pop_front() {
        None => accept(shared, world, index, version, Acceptance::default(), now),
        Some(OnPost::Accept(acceptance)) => accept(shared, world, index, version, acceptance, now),
        Some(OnPost::Reply(reply)) => {
            application.not_before = seconds_of(&reply).map(|wait| now + wait);
            reply.into()
        }
        Some(OnPost::Reset) => Act::Reset,
        Some(OnPost::LoseAnswer(acceptance)) => {
            world.start(index, version, &acceptance, shared.config.operation, now);
            Act::Reset
        }
        Some(OnPost::Hang) => Act::Hang,
    }
}

fn accept(
    shared: &Shared,
    world: &mut World,
    application: u32,
    version: &str,
    acceptance: Acceptance,
    now: Timestamp,
) -> Act {
    let number = world.start(application, version, &acceptance, shared.config.operation, now);
    let subscription = world.applications[application as usize].spec.id.subscription();
    let mut reply = Reply::status(acceptance.status);
    let url = |record| format!("{}{}", shared.origin, shared.signer.target(record, subscription, number));
    let (asynchronous, location) = match acceptance.monitor {
        MonitorForm::Both => (Some(url(Record::Status)), Some(url(Record::Result))),
        MonitorForm::AsyncOperation => (Some(url(Record::Status)), None),
        MonitorForm::Location => (None, Some(url(Record::Result))),
        MonitorForm::None => (None, None),
        MonitorForm::Elsewhere(url) => (Some(url), None),
    };
    reply.headers.extend(asynchronous.map(|url| (Cow::Borrowed("azure-asyncoperation"), url)));
    reply.headers.extend(location.map(|url| (Cow::Borrowed("location"), url)));
    let wait = match acceptance.retry_after {
        WaitForm::Usual => usual(shared, &mut reply),
        WaitForm::None => None,
        WaitForm::Text(text) => {
            reply = reply.with("retry-after", text);
            seconds_of(&reply)
        }
        WaitForm::Date(wait) => {
            reply = reply.with("date", httpdate::fmt_http_date(now.into()));
            reply = reply.with("retry-after", httpdate::fmt_http_date((now + wait).into()));
            Some(wait)
        }
    };
    world.operations[number as usize].not_before = wait.map(|wait| now + wait);
    reply.into()
}

pub(super) fn poll(
    shared: &Shared,
    head: &http::request::Parts,
    subscription: &str,
    record: Record,
    name: &str,
    now: Timestamp,
) -> Act {
    let mut world = shared.world();
    let world = &mut *world;
    world.stats.polls += 1;
    let number = UrlSigner::number(name).filter(|number| (*number as usize) < world.operations.len());
    let sent = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let Some(number) =
        number.filter(|number| sent == Some(shared.signer.target(record, subscription, *number).as_str()))
    else {
        world.stats.altered_urls += 1;
        return Reply::error(403, "InvalidOperationSignature", "The signature does not fit the URL.").into();
    };
    let operation = &mut world.operations[number as usize];
    let application = operation.application;
    let asked = &world.applications[application as usize];
    if asked.jit.is_on(&asked.spec) && !asked.jit.is_open(now) {
        world.stats.outside_windows += 1;
        return Reply::forbidden().into();
    }
    let early_by = earliness(operation.not_before.take(), now);
    world.stats.impatient_polls += u64::from(!early_by.is_zero());
    let act = match world.applications[application as usize].on_poll.pop_front() {
        None | Some(OnPoll::AsItStands) => {
            let mut reply = standing(shared, subscription, operation, record, number, now);
            if now < operation.ends {
                operation.not_before = usual(shared, &mut reply).map(|wait| now + wait);
            }
            reply.into()
        }
        Some(OnPoll::Reply(reply)) => {
            operation.not_before = seconds_of(&reply).map(|wait| now + wait);
            reply.into()
        }
        Some(OnPoll::Reset) => Act::Reset,
        Some(OnPoll::Hang) => Act::Hang,
    };
    if shared.config.keeps_journal {
        world.note(application, Question::Poll { operation: number }, now, early_by, matches!(act, Act::Answer(_)));
    }
    act
}

fn standing(
    shared: &Shared,
    subscription: &str,
    operation: &Operation,
    record: Record,
    number: u32,
    now: Timestamp,
) -> Reply {
    let ended = now >= operation.ends;
    match record {
        Record::Result if !ended => {
            let target = shared.signer.target(record, subscription, number);
            return Reply::status(202).with("location", format!("{}{target}", shared.origin));
        }
        Record::Result if operation.outcome.is_success() => return Reply::status(204),
        _ => {}
    }
    let name = UrlSigner::name(number);
    let started = operation.started.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let id = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Solutions/locations/WESTEUROPE/operationStatuses/{name}"
    );
    let body = if ended {
        let error = operation.outcome.error.as_deref().map(|error| format!(r#","error":{error}"#)).unwrap_or_default();
        let ends = operation.ends.format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let word = &operation.outcome.word;
        format!(
            r#"{{"id":"{id}","name":"{name}","status":"{word}","startTime":"{started}","endTime":"{ends}"{error}}}"#
        )
    } else {
        let whole = (operation.ends - operation.started).num_milliseconds().max(1);
        let percent = (now - operation.started).num_milliseconds() * 100 / whole;
        format!(
            r#"{{"id":"{id}","name":"{name}","status":"Running","startTime":"{started}","percentComplete":{percent}.0}}"#
        )
    };
    Reply::json(200, body)
}

/// Adds the usual Retry-After and says how long it is.
fn usual(shared: &Shared, reply: &mut Reply) -> Option<Duration> {
    let wait = Duration::from_secs(shared.config.retry_after?.as_secs());
    reply.headers.push((Cow::Borrowed("retry-after"), wait.as_secs().to_string()));
    Some(wait)
}

/// The wait that a canned reply names in seconds.
fn seconds_of(reply: &Reply) -> Option<Duration> {
    let (_, value) = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    value.parse().ok().map(Duration::from_secs)
}

/// How much too early a call comes; nothing within the tolerance.
fn earliness(not_before: Option<Timestamp>, now: Timestamp) -> Duration {
    let rest = not_before.and_then(|not_before| (not_before - now).to_std().ok()).unwrap_or_default();
    if rest > TOLERANCE { rest } else { Duration::ZERO }
}

/// The key of the application at a path: decoded, in lower case.
pub(super) fn application_key(path: &str) -> Cow<'_, str> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    Cow::Owned(decoded.to_lowercase())
}
