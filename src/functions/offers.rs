//! Offers: what is known of the offers of the settings, and which published versions are wider than the wanted one.

use std::sync::Arc;

use axum::{Extension, Json};

use super::App;
use super::wire::api::{Page, Problem};
use super::wire::offers_api::{OfferView, PlanView, WiderView};
use crate::engine::offers::KnownPlan;

/// `GET /api/offers`, in the order of the settings.
pub async fn list(Extension(app): Extension<Arc<App>>) -> Result<Json<Page<OfferView>>, Problem> {
    let known = app.engine.known_offers().await?.into_iter();
    let value = known.map(|offer| OfferView {
        publisher: offer.publisher,
        offer: offer.offer,
        watch: offer.watch,
        plans: offer.plans.into_iter().map(plan).collect(),
    });
    Ok(Json(Page { value: value.collect(), next_link: None }))
}

fn plan(known: KnownPlan) -> PlanView {
    let (preview, live) = known.watch.map(|watch| (watch.preview, watch.live)).unwrap_or_default();
    let wider = |(version, allows)| WiderView { version, allows };
    PlanView {
        plan: known.plan.plan,
        wanted_version: known.wanted,
        preview,
        live,
        versions: known.versions,
        wider: known.wider.map(|versions| versions.into_iter().map(wider).collect()),
        unreadable: known.unreadable,
    }
}
