//! The body of a publish, checked member by member: one answer names every bad field.

use std::collections::HashSet;

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{FieldError, Problem, PublishRequest};
use super::problem;
use crate::engine::Engine;
use crate::rollout::lint::AllowedActions;
use crate::rollout::publish::{InvalidPlan, Supersede};
use crate::rollout::strategy::Canaries;
use crate::rollout::{ApplicationId, Audience, OfferPublish, Plan, Purpose, Strategy, Target, Timestamp, Version};

/// The largest body that is read.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The most that one box of actions holds: the rollout keeps them.
const ACTIONS_LIMIT: usize = 50_000;
/// How many bytes the ids of a scope take at most, and those of named canaries: some two thousand, and two hundred. The
/// rollout keeps them, and every step reads it.
const SCOPE_LIMIT: usize = 300_000;
const CANARIES_LIMIT: usize = 30_000;
/// The most waves.
const MOST_WAVES: usize = 100;
/// The longest note.
const NOTE_LIMIT: usize = 2_000;

/// Reads a publish. What its strategy does not name is taken from the offer's.
pub fn parse(body: &Bytes, engine: &Engine) -> Result<OfferPublish, Problem> {
    check(read(body)?, engine).map_err(problem::invalid)
}

/// Reads a publish that only its actions are asked of, so that how far it has come does not matter.
pub fn parse_for_lint(body: &Bytes, engine: &Engine) -> Result<OfferPublish, Problem> {
    let mut request = read(body)?;
    request.target.get_or_insert_with(|| "live".into());
    check(request, engine).map_err(problem::invalid)
}

fn read(body: &Bytes) -> Result<PublishRequest, Problem> {
    if body.len() > BODY_LIMIT {
        return Err(problem::invalid_field("body", "larger than 16 MiB"));
    }
    serde_json::from_slice(body).map_err(|error| problem::invalid_field("body", error.to_string()))
}

fn check(request: PublishRequest, engine: &Engine) -> Result<OfferPublish, Vec<FieldError>> {
    let mut fields = Fields::default();
    for name in request.unknown.keys() {
        fields.refuse(name, "there is no such member");
    }
    let publisher = fields.required::<String>("publisher", request.publisher);
    let offer = fields.required::<String>("offer", request.offer);
    let plan = fields.required::<String>("plan", request.plan);
    let plan = match (publisher, offer, plan) {
        (Some(publisher), Some(offer), Some(plan)) => match Plan::parse(&publisher, &offer, &plan) {
            Ok((plan, _)) => Some(plan),
            Err(error @ InvalidPlan { field }) => {
                fields.refuse(field, error.to_string());
                None
            }
        },
        _ => None,
    };
    let version = fields.required::<Version>("version", request.version);
    let target = fields.required_word::<Target>("target", request.target, "expected \"preview\" or \"live\"");
    let audience = fields.word::<Audience>("audience", request.audience, "expected \"preview\" or \"all\"");
    let purpose = fields
        .word::<Purpose>("purpose", request.purpose, "expected \"rollOut\", \"repair\" or \"restore\"")
        .unwrap_or_default();
    if purpose == Purpose::Scheduled {
        fields.refuse("purpose", "expected \"rollOut\", \"repair\" or \"restore\"");
    }
    let supersede = match fields.optional::<bool>("supersede", request.supersede) {
        Some(true) => Supersede::Replace,
        _ => Supersede::Refuse,
    };
    let submission_id = fields.optional::<String>("submissionId", request.submission_id);
    if submission_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 200) {
        fields.refuse("submissionId", "expected 1 to 200 characters");
    }
    let note = fields.optional::<String>("note", request.note);
    if note.as_ref().is_some_and(|note| note.chars().count() > NOTE_LIMIT) {
        fields.refuse("note", "expected at most 2,000 characters");
    }
    let published_at = fields.optional::<Timestamp>("publishedAt", request.published_at);
    let offers = plan.as_ref().map(|plan| engine.default_strategy(plan)).unwrap_or_default();
    let strategy = fields.strategy(request.strategy, offers);
    let scope = fields.scope(request.scope);
    let actions = fields.expected(request.expected);
    let (Some(plan), Some(version), Some(target), true) = (plan, version, target, fields.0.is_empty()) else {
        return Err(fields.0);
    };
    let default_audience = match target {
        Target::Preview => Audience::Preview,
        Target::Live => Audience::All,
    };
    Ok(OfferPublish {
        plan,
        version,
        target,
        audience: audience.unwrap_or(default_audience),
        purpose,
        submission_id,
        published_at,
        scope,
        strategy,
        supersede,
        note,
        actions,
    })
}

/// The wrong fields found so far.
#[derive(Default)]
struct Fields(Vec<FieldError>);

impl Fields {
    fn refuse(&mut self, field: &str, why: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), why: why.into() });
    }

    fn optional<T: DeserializeOwned>(&mut self, field: &str, value: Option<Value>) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        serde_json::from_value(value).map_err(|error| self.refuse(field, error.to_string())).ok()
    }

    fn required<T: DeserializeOwned>(&mut self, field: &str, value: Option<Value>) -> Option<T> {
        if value.as_ref().is_none_or(Value::is_null) {
            self.refuse(field, "required");
        }
        self.optional(field, value)
    }

    fn word<T: DeserializeOwned>(&mut self, field: &str, value: Option<Value>, expected: &str) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        serde_json::from_value(value).map_err(|_| self.refuse(field, expected)).ok()
    }

    fn required_word<T: DeserializeOwned>(&mut self, field: &str, value: Option<Value>, expected: &str) -> Option<T> {
        if value.as_ref().is_none_or(Value::is_null) {
            self.refuse(field, format!("required: {expected}"));
        }
        self.word(field, value, expected)
    }

    /// `{"allowedCustomerActions": [], "allowedDataActions": []}` (contracts/offer-publish.md §7).
    fn expected(&mut self, value: Option<Value>) -> Option<AllowedActions> {
        let value = value.filter(|value| !value.is_null())?;
        let Value::Object(mut expected) = value else {
            self.refuse("expected", "expected {\"allowedCustomerActions\": [], \"allowedDataActions\": []}");
            return None;
        };
        let mut entries = |fields: &mut Self, name: &str| {
            let field = format!("expected.{name}");
            let entries = fields.optional::<Vec<String>>(&field, expected.remove(name)).unwrap_or_default();
            if entries.iter().map(|entry| entry.len() + 1).sum::<usize>() > ACTIONS_LIMIT {
                fields.refuse(&field, format!("expected at most {ACTIONS_LIMIT} bytes"));
            }
            entries
        };
        let control = entries(self, "allowedCustomerActions");
        let data = entries(self, "allowedDataActions");
        for name in expected.keys() {
            self.refuse(&format!("expected.{name}"), "there is no such member");
        }
        Some(AllowedActions { control, data })
    }

    /// The members of a strategy in the place of those of `offers`; each that is wrong is named.
    fn strategy(&mut self, value: Option<Value>, offers: Strategy) -> Strategy {
        let mut strategy = offers;
        let Some(value) = value.filter(|value| !value.is_null()) else { return strategy };
        let Value::Object(mut members) = value else {
            self.refuse("strategy", "expected an object such as {\"canaries\": 1, \"waves\": [\"10%\", \"100%\"]}");
            return strategy;
        };
        members.retain(|_, value| !value.is_null());
        for name in members.keys() {
            // Each alone, so that one answer names every wrong one.
            let mut alone = members.clone();
            alone.retain(|other, _| other == name);
            match serde_json::from_value::<Strategy>(Value::Object(alone)) {
                Err(error) => self.refuse(&format!("strategy.{name}"), error.to_string()),
                Ok(said) => match name.as_str() {
                    "canaries" => strategy.canaries = self.canaries(said.canaries),
                    "waves" if said.waves.len() > MOST_WAVES => {
                        self.refuse("strategy.waves", format!("expected at most {MOST_WAVES}"));
                    }
                    "waves" => strategy.waves = said.waves,
                    "maxFailures" => strategy.max_failures = said.max_failures,
                    "maxInFlight" => strategy.max_in_flight = said.max_in_flight,
                    "pauseBetweenWaves" => strategy.pause_between_waves = said.pause_between_waves,
                    "approveLastWave" => strategy.approve_last_wave = said.approve_last_wave,
                    _ => self.refuse(&format!("strategy.{name}"), "there is no such member"),
                },
            }
        }
        strategy
    }

    /// The canaries, each named once.
    fn canaries(&mut self, canaries: Canaries) -> Canaries {
        let Canaries::Named(ids) = canaries else { return canaries };
        if ids.iter().map(|id| id.to_string().len()).sum::<usize>() > CANARIES_LIMIT {
            self.refuse("strategy.canaries", format!("expected ids of at most {CANARIES_LIMIT} bytes in all"));
        }
        Canaries::Named(each_once(ids))
    }

    /// `{"applicationIds": []}`; each id that is wrong is named by its place.
    fn scope(&mut self, value: Option<Value>) -> Vec<ApplicationId> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Vec::new() };
        let Value::Object(mut scope) = value else {
            self.refuse("scope", "expected {\"applicationIds\": []}");
            return Vec::new();
        };
        let ids = scope.remove("applicationIds");
        for name in scope.keys() {
            self.refuse(&format!("scope.{name}"), "there is no such member");
        }
        let texts = self.optional::<Vec<String>>("scope.applicationIds", ids).unwrap_or_default();
        if texts.iter().map(String::len).sum::<usize>() > SCOPE_LIMIT {
            let why =
                format!("expected ids of at most {SCOPE_LIMIT} bytes in all: start a rollout for each part of them");
            self.refuse("scope.applicationIds", why);
            return Vec::new();
        }
        let mut ids = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(id) => ids.push(id),
                Err(error) => self.refuse(&format!("scope.applicationIds[{at}]"), format!("{error}")),
            }
        }
        each_once(ids)
    }
}

/// The ids without those that name an application again, in whatever case.
fn each_once(mut ids: Vec<ApplicationId>) -> Vec<ApplicationId> {
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.key()));
    ids
}
