//! What went wrong between us and Partner Center, classified once at this edge.
//!
//! Carries no token and no URL. Repeats nothing: the timer comes again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A question to Partner Center that was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Partner Center was asked for {asked}: {kind}; {}{}", kind.remedy(), request(request_id))]
pub struct Trouble {
    /// What was asked for.
    pub asked: &'static str,
    /// What happened.
    pub kind: TroubleKind,
    /// The wait that Partner Center named.
    pub wait: Option<Duration>,
    /// The `Client-Request-ID` of the call, which Microsoft's support can look up.
    pub request_id: Option<Uuid>,
}

fn request(id: &Option<Uuid>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TroubleKind {
    /// There is no token for it.
    #[error("there is no token ({reason})")]
    NoToken {
        /// What the identity said.
        reason: String,
    },
    /// It did not answer, or not in time.
    #[error("there was no answer ({reason})")]
    NoAnswer {
        /// Why.
        reason: String,
    },
    /// 429.
    #[error("it is asked too often")]
    Throttled,
    /// 408, 5xx, or a body that says so.
    #[error("it answered {status}")]
    Unavailable {
        /// The status.
        status: u16,
    },
    /// 401, a new token included.
    #[error("it does not take our token (401)")]
    Unauthorized,
    /// 403.
    #[error("we may not ask (403)")]
    Forbidden,
    /// 404.
    #[error("there is no such thing (404)")]
    NotFound,
    /// Any other status than 200, redirects among them.
    #[error("it answered {status}: {message}")]
    Rejected {
        /// The status.
        status: u16,
        /// The beginning of its words.
        message: String,
    },
    /// 200 with something else than was asked for.
    #[error("the answer cannot be read ({why})")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// A list that names more pages than there can be, itself as the next page, or takes too long.
    #[error("the list does not end ({why})")]
    Endless {
        /// How that shows.
        why: String,
    },
    /// A next page that is not at the configured endpoint; it was not asked for.
    #[error("the next page is elsewhere and was not asked for: {why}")]
    LinkRefused {
        /// Why.
        why: String,
    },
}

impl TroubleKind {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => {
                "check PARTNER_CENTER_TENANT_ID, PARTNER_CENTER_CLIENT_ID and the secret or certificate beside them"
            }
            Self::Unauthorized => {
                "check that the application of PARTNER_CENTER_CLIENT_ID is added to the Partner Center account of this tenant"
            }
            Self::Forbidden => "give the application the Manager role in Partner Center",
            Self::NotFound => "check the offer and its plans in OFFERS",
            Self::NoAnswer { .. } | Self::Throttled | Self::Unavailable { .. } => "it is asked again by itself",
            Self::Rejected { .. } | Self::Unreadable { .. } | Self::Endless { .. } | Self::LinkRefused { .. } => {
                "it is asked again by itself; if it stays so, post the publish to /api/offer-publishes and report this"
            }
        }
    }

    /// Its word, for logs and pages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoToken { .. } => "noToken",
            Self::NoAnswer { .. } => "noAnswer",
            Self::Throttled => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "notFound",
            Self::Rejected { .. } => "rejected",
            Self::Unreadable { .. } => "unreadable",
            Self::Endless { .. } => "endless",
            Self::LinkRefused { .. } => "linkRefused",
        }
    }
}
