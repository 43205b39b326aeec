//! Just-in-time access: what is asked of a customer, what their answer leads to, when to look, and what a window is good for
//! (contracts/access.md §4).
//!
//! One request serves every refresh of its application; [`JitAccess`] is the record that they share. Decides only: what it
//! says is filed, looked at and stored by the engine. What to tell people is in [`super::jit_words`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::jit_words::Trouble;
use super::resource_id::hex;
use super::strategy::iso_duration;
use super::{ApplicationId, RemoteError, Timestamp};

/// How long a name may be in the preview of the next API version (contracts/arm.md §1.4).
const LONGEST_NAME: usize = 10;
/// How long a request waits for its approver, from its start.
pub const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a refresh takes at most as a rule (contracts/arm.md §1.2): as much of a window has to be left for one.
pub const WORK: Duration = Duration::from_secs(15 * 60);
/// How much of a window is never counted on.
pub const MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long after an approval a refusal may only mean that Azure does not know of it everywhere yet.
pub const SETTLING: Duration = Duration::from_secs(10 * 60);
/// How soon a call is tried again meanwhile.
pub const SETTLING_GAP: Duration = Duration::from_secs(2 * 60);
/// How long a worker has the filing of a request for itself.
pub const FILING: Duration = Duration::from_secs(3 * 60);
/// How old the start of a request may be that has not been filed yet.
pub const STALE: Duration = Duration::from_secs(60);
/// The longest window that is asked for where somebody has to approve it, and Azure's own limit where a customer names none.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(8 * 60 * 60);
/// The longest that is asked for where approval is automatic: nobody's lunch has to fit into it.
pub const AUTOMATIC_WINDOW: Duration = Duration::from_secs(60 * 60);
/// How many requests an application gets in 24 hours, unless a person asks for more.
pub const MOST_A_DAY: usize = 6;
/// How many requests are remembered.
pub const REMEMBERED: usize = 10;
const FIRST_GAP: Duration = Duration::from_secs(30);
const LONGEST_GAP: Duration = Duration::from_secs(15 * 60);

/// What we ask with: `JIT_PRINCIPAL_ID`, `JIT_ROLE_ID`, `JIT_RESOURCE_GROUP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitSetup {
    /// Our principal's object id.
    pub principal_id: String,
    /// The role; the one that the application lists for the principal if `None`.
    pub role_id: Option<String>,
    /// The resource group that requests are filed in; the managed one if `None`.
    pub resource_group: Option<String>,
}

/// What a customer has set for just-in-time access, as ARM shows it; it can be turned on at deployment only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitTerms {
    /// Whether it is on.
    pub enabled: bool,
    /// `AutoApprove`, `ManualApprove` or another word, as Azure spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_mode: Option<String>,
    /// Who approves, by name where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The longest window, as Azure spells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_duration: Option<String>,
}

impl JitTerms {
    /// Whether requests are approved without anybody's doing.
    pub fn is_automatic(&self) -> bool {
        self.approval_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("AutoApprove"))
    }

    /// The window to ask for: durations compare by value, and one that cannot be read counts as a short one.
    fn window(&self) -> Result<Duration, Trouble> {
        let wish = if self.is_automatic() { AUTOMATIC_WINDOW } else { LONGEST_WINDOW };
        let most = match &self.maximum_duration {
            None => LONGEST_WINDOW,
            Some(text) => iso_duration::parse(text).unwrap_or(AUTOMATIC_WINDOW),
        };
        let window = wish.min(most);
        if window < WORK + MARGIN {
            return Err(Trouble::WindowTooShort { maximum: self.maximum_duration.clone().unwrap_or_default() });
        }
        Ok(window)
    }
}

/// What a request needs to know of its application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JitApplication {
    /// What the customer has set; `None` where ARM shows nothing.
    pub terms: Option<JitTerms>,
    /// Whether the plan gives the publisher no access at all (`managementMode`).
    pub is_unmanaged: bool,
    /// The principals of the publisher with their roles, as the plan authorizes them; empty where ARM shows none.
    pub authorizations: Vec<(String, String)>,
    /// Its region.
    pub location: Option<String>,
    /// The name of its managed resource group.
    pub managed_group: Option<String>,
}

/// Requests of one application, and what became of them: the record that its refreshes share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitAccess {
    /// The application.
    pub application_id: ApplicationId,
    /// What was asked, the oldest first; at most [`REMEMBERED`].
    pub requests: Vec<JitRequest>,
}

/// One request for a window of access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitRequest {
    /// Its name in Azure.
    pub name: String,
    /// The resource group that it is filed in.
    pub resource_group: String,
    /// The region that it names.
    pub location: String,
    /// For whom.
    pub principal_id: String,
    /// The role that it asks for.
    pub role_id: String,
    /// When its window begins.
    pub starts: Timestamp,
    /// How long its window is.
    #[serde(with = "iso_duration")]
    pub duration: Duration,
    /// Who approves it, and how.
    pub approval: Approval,
    /// Where it stands.
    pub state: RequestState,
}

/// Who approves a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Nobody has to.
    #[serde(default)]
    pub automatic: bool,
    /// By name, where the customer has named anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RequestState {
    /// It is to be filed, or was and nobody knows.
    Wanted {
        /// Until when somebody has that for itself, or Azure wants no call.
        lease_until: Timestamp,
        /// What was met last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
    },
    /// It is filed and not decided; or Azure says a word that we do not know.
    Pending {
        /// Azure's word.
        word: String,
        /// How often we looked.
        looks: u32,
        /// When to look next.
        next_look: Timestamp,
    },
    /// Its window is ours.
    Approved {
        /// Since when we know.
        since: Timestamp,
    },
    /// Nothing comes of it.
    Ended {
        /// Why.
        trouble: Trouble,
        /// Since when we know.
        at: Timestamp,
    },
}

/// What ARM says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JitAnswer {
    /// It is there.
    Stands {
        /// `jitRequestState`, as it is spelt.
        word: Option<String>,
        /// What Azure says about it besides.
        error: Option<RemoteError>,
    },
    /// It is not there.
    Missing,
    /// Azure does not take it, or does not let us look; again and again the same.
    Refused {
        /// Azure's words.
        error: RemoteError,
    },
    /// Nothing can be said: throttled, out of order, no answer.
    Unclear {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
}

/// What the latest request of an application is good for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// A refresh may be posted.
    Now,
    /// It waits, to be looked at again then.
    Waits {
        /// When.
        next_look: Timestamp,
    },
    /// It is to be filed now.
    ToFile,
    /// It is to be looked at now.
    ToLook,
    /// Nothing: it was used up, refused, or never answered. A new one is needed.
    Spent,
}

impl JitAccess {
    /// An application that nothing was asked for yet.
    pub fn new(application_id: ApplicationId) -> Self {
        Self { application_id, requests: Vec::new() }
    }

    /// The latest request.
    pub fn latest(&self) -> Option<&JitRequest> {
        self.requests.last()
    }

    /// The latest request, to be changed.
    pub fn latest_mut(&mut self) -> Option<&mut JitRequest> {
        self.requests.last_mut()
    }

    /// What the latest request is good for.
    pub fn usable(&self, now: Timestamp) -> Usable {
        self.latest().map_or(Usable::Spent, |request| request.usable(now))
    }

    /// Whether there have been as many requests lately as an application gets.
    pub fn is_worn_out(&self, now: Timestamp) -> bool {
        self.requests.iter().filter(|request| request.starts + PATIENCE > now).count() >= MOST_A_DAY
    }

    /// Adds a request that begins now. One that was never filed gives its place to it.
    pub fn ask(&mut self, request: JitRequest) {
        self.requests.pop_if(|last| matches!(last.state, RequestState::Wanted { .. }));
        self.requests.push(request);
        let too_many = self.requests.len().saturating_sub(REMEMBERED);
        self.requests.drain(..too_many);
    }

    /// Why a request of this name came to nothing, if it did: for whoever waits for it.
    pub fn trouble_with(&self, name: &str, now: Timestamp) -> Option<Trouble> {
        self.requests.iter().find(|request| request.name == name)?.trouble(now)
    }
}

impl JitRequest {
    /// A request to be filed now, by whoever saves it first; or why none would be of use. `key` names the application: the
    /// same one and the same start give the same name.
    pub fn wish(setup: &JitSetup, key: &str, application: &JitApplication, now: Timestamp) -> Result<Self, Trouble> {
        if application.is_unmanaged {
            return Err(Trouble::Unmanaged);
        }
        let terms = application.terms.as_ref().filter(|terms| terms.enabled).ok_or(Trouble::NotEnabled)?;
        let role_id = role(setup, &application.authorizations)?;
        let resource_group = setup.resource_group.clone().or_else(|| application.managed_group.clone());
        // Whole seconds, since the name is made of it and Azure may spell it with fewer digits.
        let starts = Timestamp::from_timestamp(now.timestamp(), 0).unwrap_or(now);
        Ok(Self {
            name: name(key, starts),
            resource_group: resource_group.ok_or(Trouble::NoGroup)?,
            location: application.location.clone().ok_or(Trouble::NoLocation)?,
            principal_id: setup.principal_id.clone(),
            role_id,
            starts,
            duration: terms.window()?,
            approval: Approval { automatic: terms.is_automatic(), approvers: terms.approvers.clone() },
            state: RequestState::Wanted { lease_until: now + FILING, last: None },
        })
    }

    /// When its window ends.
    pub fn ends(&self) -> Timestamp {
        self.starts + self.duration
    }

    /// When nobody waits for it any more.
    pub fn deadline(&self) -> Timestamp {
        self.starts + PATIENCE
    }

    /// Whether a status may be asked for within its window.
    pub fn covers(&self, now: Timestamp) -> bool {
        matches!(self.state, RequestState::Approved { .. }) && now + MARGIN <= self.ends()
    }

    /// Whether a refusal may only mean that the approval has not reached every part of Azure.
    pub fn is_settling(&self, now: Timestamp) -> bool {
        matches!(self.state, RequestState::Approved { since } if now < since + SETTLING)
    }

    /// Whether its start is too long ago to be filed as it is.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.starts + STALE < now
    }

    /// What it is good for.
    pub fn usable(&self, now: Timestamp) -> Usable {
        match &self.state {
            RequestState::Wanted { lease_until, .. } if *lease_until > now => Usable::Waits { next_look: *lease_until },
            RequestState::Wanted { .. } => Usable::ToFile,
            RequestState::Pending { .. } if self.deadline() <= now => Usable::Spent,
            RequestState::Pending { next_look, .. } if *next_look > now => Usable::Waits { next_look: *next_look },
            RequestState::Pending { .. } => Usable::ToLook,
            // What was approved too late, or is used up, is no access: the next request may be.
            RequestState::Approved { .. } if now + WORK + MARGIN <= self.ends() => Usable::Now,
            RequestState::Approved { .. } | RequestState::Ended { .. } => Usable::Spent,
        }
    }

    /// Why nothing comes of it, if so.
    pub fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        match &self.state {
            RequestState::Ended { trouble, .. } => Some(trouble.clone()),
            RequestState::Pending { .. } if self.deadline() <= now => Some(Trouble::Unanswered),
            _ => None,
        }
    }

    /// Takes the next look for this worker: whoever comes at the same time finds it taken.
    pub fn take_look(&mut self, now: Timestamp) {
        if let RequestState::Pending { looks, next_look, .. } = &mut self.state {
            *looks += 1;
            *next_look = now + gap(*looks);
        }
    }

    /// Takes the filing for this worker.
    pub fn take_filing(&mut self, now: Timestamp) {
        if let RequestState::Wanted { lease_until, .. } = &mut self.state {
            *lease_until = now + FILING;
        }
    }

    /// What ARM said, to the filing or to a look.
    pub fn heard(&mut self, answer: JitAnswer, now: Timestamp) {
        match answer {
            JitAnswer::Stands { word, error } => self.stands(word.unwrap_or_default(), error, now),
            // A look may come before what was filed can be seen everywhere.
            JitAnswer::Missing => match self.state {
                RequestState::Pending { looks: 0..=1, .. } => {}
                _ => self.end(Trouble::Withdrawn, now),
            },
            JitAnswer::Refused { error } => match self.state {
                // It may be decided while we may not look: only its own time ends it.
                RequestState::Pending { .. } if !is_missing_p2(&error) => {}
                _ => self.end(Trouble::not_taken(error), now),
            },
            JitAnswer::Unclear { error, wait } => {
                let until = now + wait.unwrap_or(FIRST_GAP).clamp(FIRST_GAP, LONGEST_GAP);
                match &mut self.state {
                    RequestState::Wanted { lease_until, last } => {
                        *lease_until = until;
                        *last = Some(format!("{}: {}", error.code, error.message));
                    }
                    RequestState::Pending { next_look, .. } => *next_look = until.max(*next_look),
                    _ => {}
                }
            }
        }
    }

    fn stands(&mut self, word: String, error: Option<RemoteError>, now: Timestamp) {
        let lacks_p2 = error.as_ref().is_some_and(is_missing_p2);
        match word.to_ascii_lowercase().as_str() {
            "approved" => {
                if !matches!(self.state, RequestState::Approved { .. }) {
                    self.state = RequestState::Approved { since: now };
                }
            }
            "denied" => self.end(Trouble::Denied, now),
            "failed" if lacks_p2 => self.end(Trouble::NoP2, now),
            "failed" => self.end(Trouble::Failed { message: error.map(|error| error.message) }, now),
            "canceled" | "cancelled" => self.end(Trouble::Withdrawn, now),
            "expired" => self.end(Trouble::Expired, now),
            "timeout" | "timedout" => self.end(Trouble::TimedOut, now),
            _ => match &mut self.state {
                RequestState::Pending { word: known, .. } => *known = word,
                _ => self.state = RequestState::Pending { word, looks: 0, next_look: now + gap(0) },
            },
        }
    }

    fn end(&mut self, trouble: Trouble, now: Timestamp) {
        self.state = RequestState::Ended { trouble, at: now };
    }
}

/// Whether an error says that the tenant has no licence for it. Azure's code for that is documented for Privileged Identity
/// Management, not for managed applications; so a message that names the licence counts too.
pub fn is_missing_p2(error: &RemoteError) -> bool {
    let (code, message) = (error.code.to_ascii_lowercase(), error.message.to_ascii_lowercase());
    let names_it = message.contains("p2") || message.contains("premium") || message.contains("entra id governance");
    code.contains("premiumlicense") || (names_it && (message.contains("licens") || message.contains("licenc")))
}

/// The gap after so many looks: 30 seconds, doubled each time, up to a quarter of an hour.
fn gap(looks: u32) -> Duration {
    FIRST_GAP.saturating_mul(1u32.checked_shl(looks).unwrap_or(u32::MAX)).min(LONGEST_GAP)
}

/// The name of a request: the first characters of a hash of what it is for and when.
fn name(key: &str, starts: Timestamp) -> String {
    let mut name = hex(&Sha256::digest(format!("{key}:{}", starts.timestamp())));
    name.truncate(LONGEST_NAME);
    name
}

/// The role to ask for: the principal itself has to be listed, since membership in a listed group is not enough.
fn role(setup: &JitSetup, authorizations: &[(String, String)]) -> Result<String, Trouble> {
    let bare = |role: &str| role.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let ours: Vec<_> = authorizations
        .iter()
        .filter(|(principal, _)| principal.eq_ignore_ascii_case(&setup.principal_id))
        .map(|(_, role)| bare(role))
        .collect();
    match (&setup.role_id, ours.first()) {
        // What is not shown may be there: Azure has the last word.
        (Some(wanted), _) if authorizations.is_empty() => Ok(wanted.clone()),
        (Some(wanted), Some(_)) if ours.contains(&wanted.to_ascii_lowercase()) => Ok(wanted.clone()),
        (Some(wanted), Some(_)) => Err(Trouble::RoleNotAuthorized { role_id: wanted.clone() }),
        (None, Some(listed)) => Ok(listed.clone()),
        (_, None) => Err(Trouble::PrincipalNotAuthorized { principal_id: setup.principal_id.clone() }),
    }
}

#[cfg(test)]
mod tests;
