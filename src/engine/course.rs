//! The course of each rollout, sampled while it is looked after and kept as a document: what a plot is drawn from. Costs
//! the same however many refreshes there are, and holds nothing up: a sample that cannot be stored is left out.

use tracing::debug;

use super::Engine;
use crate::rollout::{Course, RolloutId};
use crate::store::document::{self, Document};
use crate::store::{StoreError, Versioned};

/// Found by its rollout.
impl Document for Course {
    const COLLECTION: &'static str = "course";
    fn name(&self) -> String {
        self.rollout_id.to_string()
    }
}

impl Engine {
    /// The course of a rollout so far.
    pub async fn course(&self, id: RolloutId) -> Result<Course, StoreError> {
        Ok(document::get(&*self.store, &id.to_string()).await?.map_or_else(|| Course::new(id), |known| known.value))
    }

    /// Takes a sample of a rollout, if it is time for one.
    pub(super) async fn note_course(&self, id: RolloutId) {
        if let Err(error) = self.sample(id).await {
            debug!(rollout.id = %id, "The course of rollout {id} has a gap: {error}");
        }
    }

    async fn sample(&self, id: RolloutId) -> Result<(), StoreError> {
        let known = document::get(&*self.store, &id.to_string()).await?;
        let mut course = known.unwrap_or_else(|| Versioned::new(Course::new(id)));
        let counts = self.store.tally(id).await?.counts();
        if counts.total > 0 && course.value.note(self.now(), &counts) {
            // Whoever was quicker has taken the sample.
            document::save(&*self.store, &course).await?;
        }
        Ok(())
    }
}
