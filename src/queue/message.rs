//! What the messages say: a versioned, tagged JSON object that carries ids, never ARM's answers.
//!
//! Every variant that was ever sent stays readable. What is stored decides; a message only says where to look. Beside that it
//! carries a [`Postmark`], which decides nothing.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::rollout::{DeploymentKey, RolloutId, Timestamp};
use crate::trace::TraceContext;

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
    /// The kind's word in bodies, labels and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PlanRollout { .. } => "planRollout",
            Self::Refresh { .. } => "refresh",
            Self::CheckDeployment { .. } => "checkDeployment",
            Self::SyncDeployments { .. } => "syncDeployments",
            Self::ConsentOfTenant { .. } => "consentOfTenant",
            Self::LookAtRelationship { .. } => "lookAtRelationship",
            Self::PollShare { .. } => "pollShare",
            Self::Tell { .. } => "tell",
        }
    }
}

/// What a body says of its own way: which trace sent it, and since when it could be delivered. Both are members beside the
/// message's own; an older version of this program passes over them, and its messages have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postmark {
    /// The trace of what sent it.
    pub trace: Option<TraceContext>,
    /// When it was due.
    pub due: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Marked<'a> {
    #[serde(borrow, default)]
    trace: Option<Cow<'a, str>>,
    #[serde(default)]
    due: Option<Timestamp>,
}

impl Postmark {
    /// The body with this mark; one that is no object stays as it is.
    pub fn on(self, body: &str) -> String {
        let Some(open) = body.strip_suffix('}') else { return body.to_owned() };
        let trace = self.trace.map(|trace| format!(",\"trace\":\"{trace}\"")).unwrap_or_default();
        let due = self.due.map(|due| format!(",\"due\":\"{}\"", due.to_rfc3339())).unwrap_or_default();
        format!("{open}{trace}{due}}}")
    }

    /// The mark of a body; empty where there is none that can be read.
    pub fn of(body: &[u8]) -> Self {
        let Ok(marked) = serde_json::from_slice::<Marked>(body) else { return Self::default() };
        Self { trace: marked.trace.and_then(|trace| TraceContext::parse(&trace)), due: marked.due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_changes_no_message() {
        let message = Message::PollShare { at_most: 7 };
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let mark = Postmark { trace, due: Some("2026-03-09T15:00:00.25Z".parse().unwrap()) };
        let body = mark.on(&message.to_body());
        assert_eq!((Message::from_body(body.as_bytes()).unwrap(), Postmark::of(body.as_bytes())), (message, mark));
    }

    #[test]
    fn what_was_sent_before_there_were_marks_is_read_and_a_bad_mark_is_none() {
        for (body, due) in [
            (r#"{"kind":"pollShare","atMost":7}"#, false),
            (r#"{"kind":"pollShare","atMost":7,"trace":"x","due":"2026-03-09T15:00:00Z"}"#, true),
            (r#"{"kind":"pollShare","atMost":7,"trace":7,"due":"then"}"#, false),
        ] {
            assert_eq!(Message::from_body(body.as_bytes()).unwrap(), Message::PollShare { at_most: 7 }, "{body}");
            let mark = Postmark::of(body.as_bytes());
            assert_eq!((mark.trace, mark.due.is_some()), (None, due), "{body}");
        }
        assert_eq!(Postmark::default().on("no object"), "no object");
    }
}
