//! What the messages say: a versioned, tagged JSON object that carries ids, never ARM's answers.
//!
//! Every variant that was ever sent stays readable. What is stored decides; a message only says where to look.

use serde::{Deserialize, Serialize};

use crate::rollout::{DeploymentKey, RolloutId};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Message {
    /// Rollout queue: go on with planning.
    PlanRollout {
        /// The rollout.
        rollout_id: RolloutId,
    },
    /// Refresh queue: the next step of one refresh.
    Refresh {
        /// The rollout.
        rollout_id: RolloutId,
        /// The deployment.
        key: DeploymentKey,
    },
    /// Refresh queue: read one application and bring the registry up to date.
    CheckDeployment {
        /// The deployment.
        key: DeploymentKey,
    },
    /// Refresh queue: go on with looking for deployments.
    SyncDeployments {
        /// The run.
        run: String,
    },
    /// Refresh queue: ask for, or prove, the consent of a customer's tenant.
    ConsentOfTenant {
        /// The tenant.
        tenant_id: String,
    },
    /// Refresh queue: read a GDAP relationship.
    LookAtRelationship {
        /// Its id.
        relationship_id: String,
    },
    /// Refresh queue: poll a share of what is due, since there is much of it.
    PollShare {
        /// At most so many operations.
        at_most: usize,
    },
    /// Refresh queue: tell the outgoing webhook what is noted under this id.
    Tell {
        /// The id of the note.
        note: String,
    },
}

impl Message {
    /// The body that is sent.
    pub fn to_body(&self) -> String {
        serde_json::to_string(self).expect("a message has only strings and numbers, which always serialise")
    }

    /// Reads a body.
    ///
    /// # Errors
    /// If it is not a message of any version; it will never become one.
    pub fn from_body(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}
