//! `jitRequests`, as the simulator answers them: filed, read, deleted, listed.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::super::Shared;
use super::super::jit::{Request, policy};
use super::super::scripts::{OnJit, Reply};
use super::super::world::{Application, PRINCIPAL, World};
use super::refresh::application_key;
use super::{Act, without_api_version};
use crate::rollout::Timestamp;
use crate::rollout::strategy::iso_duration;

/// How far back a window may begin.
const LATE: Duration = Duration::from_secs(5 * 60);

pub(super) fn one(
    shared: &Shared,
    head: &http::request::Parts,
    subscription: &str,
    group: &str,
    name: &str,
    body: &Bytes,
    now: Timestamp,
) -> Act {
    if let Some(reply) = without_api_version(head) {
        return reply.into();
    }
    let group = application_key(group);
    let mut world = shared.world();
    match head.method {
        Method::PUT => file(&mut world, subscription, &group, name, body, now),
        Method::GET => look(&mut world, subscription, &group, name, now).into(),
        Method::DELETE => {
            let found = find(&mut world, &group, name).map(|(application, at)| application.jit.requests.remove(at));
            Reply::status(if found.is_some() { 200 } else { 204 }).into()
        }
        _ => Reply::error(405, "MethodNotAllowed", "This is not done to a just-in-time request.").into(),
    }
}

pub(super) fn list(shared: &Shared, head: &http::request::Parts, subscription: &str, group: &str) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let (group, now) = (application_key(group), shared.config.clock.now());
    let mut world = shared.world();
    world.stats.pages += 1;
    if let Some(reply) = world.on_list.pop_front() {
        return reply;
    }
    let none = Vec::new();
    let indexes = world.by_subscription.get(subscription).unwrap_or(&none);
    let requests = indexes.iter().flat_map(|index| &world.applications[*index as usize].jit.requests);
    let shown = requests.filter(|request| request.group == group).map(|request| request.show(subscription, now));
    Reply::json(200, json!({"value": shown.collect::<Vec<Value>>()}).to_string())
}

fn find<'a>(world: &'a mut World, group: &str, name: &str) -> Option<(&'a mut Application, usize)> {
    world.applications.iter_mut().find_map(|application| {
        let at = application.jit.requests.iter().position(|request| request.group == group && request.name == name)?;
        Some((application, at))
    })
}

fn look(world: &mut World, subscription: &str, group: &str, name: &str, now: Timestamp) -> Reply {
    world.stats.jit_looks += 1;
    match find(world, group, name) {
        Some((application, at)) => match application.jit.on_look.pop_front() {
            Some(reply) => reply,
            None => Reply::json(200, application.jit.requests[at].show(subscription, now).to_string()),
        },
        None => Reply::resource_not_found(),
    }
}

fn file(world: &mut World, subscription: &str, group: &str, name: &str, body: &Bytes, now: Timestamp) -> Act {
    world.stats.jit_filings += 1;
    let invalid = |why: &str| Act::from(Reply::error(400, "InvalidJitRequest", why));
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if !(2..=10).contains(&name.len()) {
        return invalid("The name of a just-in-time request has 2 to 10 characters.");
    }
    let starts = text("/properties/jitSchedulingPolicy/startTime").parse::<Timestamp>();
    let duration = iso_duration::parse(text("/properties/jitSchedulingPolicy/duration"));
    let (Ok(starts), Some(duration)) = (starts, duration) else {
        return invalid("The scheduling policy has no startTime or no duration.");
    };
    let application = world.by_id.get(application_key(text("/properties/applicationResourceId")).as_ref()).copied();
    let Some(index) = application else { return Reply::resource_not_found().into() };
    let application = &mut world.applications[index as usize];
    if let Some(known) = application.jit.requests.iter_mut().find(|known| known.group == group && known.name == name) {
        known.filings += 1;
        return Reply::json(200, known.show(subscription, now).to_string()).into();
    }
    match application.jit.on_filing.front() {
        Some(OnJit::Reply(reply)) => {
            let reply = reply.clone();
            application.jit.on_filing.pop_front();
            return reply.into();
        }
        _ if text("/location").is_empty() => return invalid("The request has no location."),
        _ => {}
    }
    let policy = policy(&application.spec);
    let longest = policy["maximumJitAccessDuration"].as_str().and_then(iso_duration::parse);
    if policy["jitAccessEnabled"] != true {
        return invalid("Just-in-time access is not enabled for this application.");
    }
    if longest.is_some_and(|longest| duration > longest) {
        return invalid("The duration is longer than the application's maximum.");
    }
    if starts + LATE < now {
        return invalid("The window would begin in the past.");
    }
    if !text("/properties/jitAuthorizationPolicies/0/principalId").eq_ignore_ascii_case(PRINCIPAL) {
        return Reply::error(403, "PrincipalNotAuthorized", "The principal is not among the plan's authorizations.")
            .into();
    }
    let approves = policy["jitApprovalMode"] == "AutoApprove";
    let (decision, answers) = match application.jit.on_filing.pop_front() {
        None if approves => (Some((now, Cow::Borrowed("Approved"), None)), true),
        Some(OnJit::Decide { after, word, error }) => (Some((now + after, word, error)), true),
        Some(OnJit::LoseAnswer) => (approves.then_some((now, Cow::Borrowed("Approved"), None)), false),
        None | Some(OnJit::Wait | OnJit::Reply(_)) => (None, true),
    };
    let (name, group) = (name.to_owned(), group.to_owned());
    let request = Request { name, group, body: body.clone(), starts, duration, filings: 1, decision };
    let shown = request.show(subscription, now).to_string();
    application.jit.requests.push(request);
    if answers { Reply::json(201, shown).into() } else { Act::Reset }
}
