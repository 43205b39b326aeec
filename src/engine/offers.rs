//! What is known of the offers of the settings: for whoever asks, and for the warning about versions that are too wide.
//!
//! Reads only.

use super::watch::plans;
use super::{Engine, EngineError};
use crate::rollout::difference::wider;
use crate::rollout::watch::{OfferWatch, PlanWatch};
use crate::rollout::{Plan, Version};
use crate::store::{document, published};

/// What is known of one offer.
#[derive(Clone, Debug)]
pub struct KnownOffer {
    /// Partner Center's publisher id.
    pub publisher: String,
    /// Partner Center's offer id.
    pub offer: String,
    /// How it stands with watching it; `None` until it was looked at.
    pub watch: Option<OfferWatch>,
    /// Its plans.
    pub plans: Vec<KnownPlan>,
}

/// What is known of one plan.
#[derive(Clone, Debug)]
pub struct KnownPlan {
    /// The plan.
    pub plan: Plan,
    /// The wanted version.
    pub wanted: Option<Version>,
    /// What was seen of it in Partner Center.
    pub watch: Option<PlanWatch>,
    /// The published versions whose permissions are recorded.
    pub versions: Vec<Version>,
    /// Those that let somebody do more than the wanted one, each with what: any customer may set itself to any of them.
    /// `None` where that cannot be told, since the permissions of the wanted version are not recorded.
    pub wider: Option<Vec<(Version, Vec<String>)>>,
    /// The names of records that cannot be read back: whether those versions are wider cannot be told.
    pub unreadable: Vec<String>,
}

impl Engine {
    /// What is known of the offers of the settings.
    pub async fn known_offers(&self) -> Result<Vec<KnownOffer>, EngineError> {
        let mut offers = Vec::with_capacity(self.config.offers.len());
        for offer in &self.config.offers {
            let name = published::offer_name(&offer.publisher, &offer.offer);
            let watch = document::get::<OfferWatch>(self.store(), &name).await?.map(|known| known.value);
            let mut known = Vec::new();
            for plan in plans(offer) {
                known.push(self.known_plan(&plan).await?);
            }
            let (publisher, name) = (offer.publisher.clone(), offer.offer.clone());
            offers.push(KnownOffer { publisher, offer: name, watch, plans: known });
        }
        Ok(offers)
    }

    pub(super) async fn known_plan(&self, plan: &Plan) -> Result<KnownPlan, EngineError> {
        let watch = document::get::<PlanWatch>(self.store(), &plan.to_string()).await?.map(|known| known.value);
        let wanted = self.wanted(plan).await?.value.version;
        let (snapshots, unreadable) = published::snapshots(self.store(), plan).await?;
        let of_wanted = snapshots.iter().find(|snapshot| Some(snapshot.value.version) == wanted);
        let more = of_wanted.map(|of_wanted| {
            let compared = snapshots.iter().map(|other| {
                let other = &other.value;
                (other.version, wider(&other.package, &of_wanted.value.package))
            });
            compared.filter(|(_, more)| !more.is_empty()).collect()
        });
        let versions = snapshots.iter().map(|snapshot| snapshot.value.version).collect();
        let unreadable = unreadable.iter().map(ToString::to_string).collect();
        Ok(KnownPlan { plan: plan.clone(), wanted, watch, versions, wider: more, unreadable })
    }
}
