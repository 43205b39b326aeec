//! `OFFERS`: the offers and plans we look after, as JSON.
//!
//! Every mistake in it is found at once. An unknown member is a mistake: a misspelt `strategy` must not silently mean the
//! default one.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reader::Reader;
use crate::rollout::watch::FirstSight;
use crate::rollout::{ApplicationId, Plan, Strategy, Version, Way};

const NAME: &str = "OFFERS";

/// The ways tried where an offer names none (design §5).
pub const DEFAULT_ORDER: [Way; 4] = [Way::Publisher, Way::Gdap, Way::Jit, Way::HandOver];

/// The offers we look after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OfferSettings {
    /// In the order of the setting.
    pub offers: Vec<Offer>,
}

/// One offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Partner Center's publisher id, lower-case.
    pub publisher: String,
    /// Partner Center's offer id, lower-case, without `-preview`.
    pub offer: String,
    /// Its plans.
    pub plans: Vec<OfferPlan>,
    /// How its versions are brought out where a publish says nothing.
    pub strategy: Strategy,
    /// The ways to try, in order.
    pub access_order: Vec<Way>,
    /// Deployments that count as preview purchases besides those that are.
    pub preview_applications: Vec<ApplicationId>,
    /// What the first version that WatchOffers sees does.
    pub first_sight: FirstSight,
}

/// One plan of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferPlan {
    /// The plan, with its publisher and offer.
    pub plan: Plan,
    /// The first value of the wanted version.
    pub wanted_version: Option<Version>,
}

impl OfferSettings {
    /// The offer that `plan` belongs to, listed plan or not.
    pub fn offer_of(&self, plan: &Plan) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.publisher == plan.publisher && offer.offer == plan.offer)
    }

    /// The strategy for `plan`: its offer's, or the default one for an offer that is not listed.
    pub fn strategy_for(&self, plan: &Plan) -> Strategy {
        self.offer_of(plan).map(|offer| offer.strategy.clone()).unwrap_or_default()
    }

    /// The ways for `plan`, in order.
    pub fn ways_for(&self, plan: &Plan) -> Vec<Way> {
        self.offer_of(plan).map_or_else(|| DEFAULT_ORDER.to_vec(), |offer| offer.access_order.clone())
    }

    /// Every plan that is listed.
    pub fn plans(&self) -> impl Iterator<Item = &OfferPlan> {
        self.offers.iter().flat_map(|offer| &offer.plans)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Access {
    order: Vec<Way>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> OfferSettings {
    let Some(text) = reader.text(NAME) else { return OfferSettings::default() };
    let fix = "give a JSON array such as [{\"publisher\": \"fabrikam\", \"offer\": \"ledger\", \"plans\": [{\"plan\": \"standard\"}]}]";
    let array: Vec<Value> = match serde_json::from_str(text) {
        Ok(array) => array,
        Err(error) => {
            reader.wrong(NAME, format!("it is not a JSON array: {error}"), fix);
            return OfferSettings::default();
        }
    };
    let mut offers = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, value) in array.into_iter().enumerate() {
        let path = format!("{NAME}[{index}]");
        let Some(offer) = read_offer(reader, &path, value) else { continue };
        if !seen.insert((offer.publisher.clone(), offer.offer.clone())) {
            reader.wrong(&path, "the same offer is listed before", "list each offer once, with all its plans");
        }
        offers.push(offer);
    }
    OfferSettings { offers }
}

fn read_offer(reader: &mut Reader<'_>, path: &str, value: Value) -> Option<Offer> {
    let mut members = Members::open(reader, path, value)?;
    let publisher = members.required::<String>(reader, "publisher");
    let offer = members.required::<String>(reader, "offer");
    let plans = members.required::<Vec<Value>>(reader, "plans");
    let strategy = members.optional(reader, "strategy");
    let access: Option<Access> = members.optional(reader, "access");
    let preview_applications = members.optional(reader, "previewApplications").unwrap_or_default();
    let first_sight = match members.optional(reader, "rolloutOnFirstSight") {
        Some(true) => FirstSight::Rollout,
        _ => FirstSight::Baseline,
    };
    members.close(reader);

    let access_order = access.map_or_else(|| DEFAULT_ORDER.to_vec(), |access| access.order);
    if access_order.is_empty() || access_order.iter().enumerate().any(|(at, way)| access_order[..at].contains(way)) {
        reader.wrong(
            format!("{path}.access.order"),
            "it is empty or names a way twice",
            "list each way once: publisher, gdap, jit, handOver",
        );
    }
    let (publisher, offer, plans) = (publisher?, offer?, plans?);
    if plans.is_empty() {
        reader.wrong(format!("{path}.plans"), "it is empty", "list the plans to look after");
    }
    let mut read: Vec<OfferPlan> = Vec::new();
    for (index, value) in plans.into_iter().enumerate() {
        let path = format!("{path}.plans[{index}]");
        let Some(plan) = read_plan(reader, &path, &publisher, &offer, value) else { continue };
        if read.iter().any(|known| known.plan == plan.plan) {
            reader.wrong(&path, "the same plan is listed before", "list each plan once");
        }
        read.push(plan);
    }
    let (publisher, offer) = match Plan::parse(&publisher, &offer, "any") {
        Ok((plan, false)) => (plan.publisher, plan.offer),
        Ok((_, true)) => {
            let why = "it carries the suffix -preview, which Azure adds to preview purchases";
            reader.wrong(format!("{path}.offer"), why, "give the offer's id without it");
            return None;
        }
        Err(error) => {
            reader.wrong(format!("{path}.{}", error.field), error, "copy the id from Partner Center");
            return None;
        }
    };
    let strategy = strategy.unwrap_or_default();
    Some(Offer { publisher, offer, plans: read, strategy, access_order, preview_applications, first_sight })
}

fn read_plan(reader: &mut Reader<'_>, path: &str, publisher: &str, offer: &str, value: Value) -> Option<OfferPlan> {
    let mut members = Members::open(reader, path, value)?;
    let plan = members.required::<String>(reader, "plan");
    let wanted_version = members.optional(reader, "wantedVersion");
    members.close(reader);
    match Plan::parse(publisher, offer, &plan?) {
        Ok((plan, _)) => Some(OfferPlan { plan, wanted_version }),
        Err(error) => {
            // The ids of publisher and offer are judged once, by the offer.
            if error.field == "plan" {
                reader.wrong(format!("{path}.plan"), error, "copy the id from Partner Center");
            }
            None
        }
    }
}

/// The members of one JSON object, taken one by one; what is left over at the end is unknown.
struct Members<'p> {
    path: &'p str,
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'p> Members<'p> {
    fn open(reader: &mut Reader<'_>, path: &'p str, value: Value) -> Option<Self> {
        match value {
            Value::Object(left) => Some(Self { path, left, known: Vec::new() }),
            _ => {
                reader.wrong(path, "it is not a JSON object", "give an object such as {\"plan\": \"standard\"}");
                None
            }
        }
    }

    fn optional<T: DeserializeOwned>(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.left.remove(name).filter(|value| !value.is_null())?;
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                reader.wrong(format!("{}.{name}", self.path), error, "see the settings in the README");
                None
            }
        }
    }

    fn required<T: DeserializeOwned>(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Option<T> {
        if self.left.get(name).is_none_or(Value::is_null) {
            self.known.push(name);
            self.left.remove(name);
            reader.wrong(format!("{}.{name}", self.path), "it is missing", "every entry needs it");
            return None;
        }
        self.optional(reader, name)
    }

    fn close(self, reader: &mut Reader<'_>) {
        for name in self.left.keys() {
            let name = name.escape_debug();
            let fix = format!("remove it or correct its name; known are {}", self.known.join(", "));
            reader.wrong(format!("{}.{name}", self.path), "it is not a member that is known here", fix);
        }
    }
}
