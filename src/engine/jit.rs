//! Just-in-time access: files requests, looks at them, and says what they are good for (contracts/access.md §4).
//!
//! One record for each application, which its refreshes share. It is saved before anything is filed or looked at, under its
//! ETag: of two workers at once one does it, and the other waits for what comes of it. Only a step of a refresh, or a person,
//! files; the timer looks. What any of it means is decided in [`crate::rollout::jit`].

use std::time::Duration;

use tracing::{info, warn};

use super::access::Access as Gained;
use super::{Engine, EngineError, RACES};
use crate::arm::admission::Permit;
use crate::arm::jit::ListedRequest;
use crate::rollout::jit::{JitApplication, JitSetup, RequestState, SETTLING_GAP, Usable};
use crate::rollout::jit_words::Trouble;
use crate::rollout::refresh::Gate;
use crate::rollout::{
    ApplicationId, DeploymentKey, JitAccess, JitAnswer, JitRequest, ReadAnswer, Refresh, RemoteError, RetryPolicy,
    RolloutState, SubmitAnswer, Timestamp, Way,
};
use crate::store::document::{self, Document};
use crate::store::{Page, PageRequest, Saved, Versioned};

/// Found by its application.
impl Document for JitAccess {
    const COLLECTION: &'static str = "jit-access";
    fn name(&self) -> String {
        self.application_id.key().to_string()
    }
}

/// What just-in-time access makes possible now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A window is ours, and long enough.
    Open(JitRequest),
    /// A request waits, to be looked at again then.
    Waits(JitRequest, Timestamp),
    /// Nothing comes of it.
    Refused {
        /// The request, where there was one.
        request: Option<String>,
        /// Why.
        trouble: Trouble,
    },
    /// Azure could not be asked just now.
    Unclear {
        /// Why.
        error: RemoteError,
        /// The wait that Azure named.
        wait: Option<Duration>,
    },
}

/// What a look at a request showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gaze {
    /// There is a window, or something new is to be asked for: the next step finds out.
    Open,
    /// It waits as before, to be looked at again then.
    Closed(Timestamp),
    /// Nothing comes of it.
    Refused(Trouble),
}

/// Who wants a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A refresh: it gets so many a day.
    Refresh,
    /// A person, who may have as many as they like.
    Person,
}

/// Why a person gets no request.
#[derive(Debug, thiserror::Error)]
pub enum JitRefused {
    /// A part of ours failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The settings name no principal.
    #[error("just-in-time access is not set up: set JIT_PRINCIPAL_ID")]
    NotSetUp,
    /// Nothing is sent to Azure now.
    #[error("nothing is asked of Azure while everything is stopped, or MODE is observe")]
    Held,
    /// It would come to nothing, or has.
    #[error("{0}")]
    Pointless(String),
    /// Azure could not be asked.
    #[error("Azure could not be asked: {code}: {message}")]
    Azure {
        /// The code.
        code: String,
        /// The message.
        message: String,
    },
}

impl Engine {
    /// The same engine, which asks for just-in-time access.
    #[must_use]
    pub fn with_jit(self, setup: JitSetup) -> Self {
        Self { jit: Some(setup), ..self }
    }

    /// What was asked for one application, and what became of it.
    pub async fn jit_of(&self, key: &DeploymentKey) -> Result<Option<JitAccess>, EngineError> {
        Ok(document::get::<JitAccess>(&*self.store, key.as_str()).await?.map(|known| known.value))
    }

    /// The same of all applications for which anything was asked.
    pub async fn jit_accesses(&self, page: &PageRequest) -> Result<Page<JitAccess>, EngineError> {
        let page = document::page::<JitAccess>(&*self.store, "", page).await?;
        Ok(Page { items: page.items.into_iter().map(|known| known.value).collect(), next: page.next })
    }

    /// The requests for an application that Azure itself lists, whoever filed them; `None` where ours were never filed.
    pub async fn jit_listed(&self, access: &JitAccess) -> Option<Result<Vec<ListedRequest>, RemoteError>> {
        let group = &access.latest()?.resource_group;
        Some(self.arm.list_jit_requests(&access.application_id, group).await)
    }

    /// Whether there is a window in which the status of an operation may be asked for.
    pub(super) async fn is_inside_window(&self, key: &DeploymentKey) -> Result<bool, EngineError> {
        let now = self.now();
        Ok(self.jit_of(key).await?.is_some_and(|access| access.latest().is_some_and(|latest| latest.covers(now))))
    }

    /// Whether a refusal may only mean that an approval is not known everywhere yet.
    pub(super) async fn is_settling(&self, key: &DeploymentKey) -> Result<bool, EngineError> {
        let now = self.now();
        Ok(self.jit_of(key).await?.is_some_and(|access| access.latest().is_some_and(|latest| latest.is_settling(now))))
    }

    /// Whether a refresh may be posted by what is known already; asks nobody.
    pub(super) async fn has_window(&self, key: &DeploymentKey) -> Result<bool, EngineError> {
        let now = self.now();
        Ok(self.jit_of(key).await?.is_some_and(|access| access.usable(now) == Usable::Now))
    }

    /// Brings access to an application about, as far as that can be done now: what is there is used, what waits is waited
    /// for, and otherwise a request is filed.
    pub async fn seek_jit(
        &self,
        id: &ApplicationId,
        asker: Asker,
        place: Option<&Permit>,
    ) -> Result<Access, EngineError> {
        let Some(setup) = &self.jit else { return Ok(Access::refused(None, Trouble::NotSetUp)) };
        for _ in 0..RACES {
            let now = self.now();
            let known = self.jit_record(id).await?;
            let mut changed = known.value.clone();
            match (known.value.usable(now), known.value.latest()) {
                (Usable::Now, Some(latest)) => return Ok(Access::Open(latest.clone())),
                (Usable::Waits { next_look }, Some(latest)) => return Ok(Access::Waits(latest.clone(), next_look)),
                (Usable::ToLook, Some(_)) => {
                    self.look_at_latest(known, place).await?;
                    continue;
                }
                (Usable::ToFile, Some(latest)) if !latest.is_stale(now) => {
                    if let Some(request) = changed.latest_mut() {
                        request.take_filing(now);
                    }
                }
                (Usable::ToFile, Some(latest)) => {
                    // It may have been taken although nobody heard so; else it would begin in the past.
                    match self.arm.read_jit_request(id, latest, place).await {
                        JitAnswer::Missing => {
                            if let Some(access) = self.wish(setup, &mut changed, place).await? {
                                return Ok(access);
                            }
                        }
                        answer => {
                            self.store_answer(known, answer).await?;
                            continue;
                        }
                    }
                }
                _ if asker == Asker::Refresh && known.value.is_worn_out(now) => {
                    return Ok(Access::refused(None, Trouble::TooMany));
                }
                _ => {
                    if let Some(access) = self.wish(setup, &mut changed, place).await? {
                        return Ok(access);
                    }
                }
            }
            // The wish first, so that whoever comes now, or after our death, finds it.
            if let Saved::Stored(etag) = document::save(&*self.store, &known.with(changed.clone())).await? {
                return self.file_latest(Versioned { value: changed, etag: Some(etag) }, place).await;
            }
        }
        Err(EngineError::Contended { what: format!("the just-in-time requests of {id}") })
    }

    /// The same for a person; what is under way, or open, is answered with.
    ///
    /// # Errors
    /// [`JitRefused`] says why there is no request.
    pub async fn request_jit(&self, id: &ApplicationId) -> Result<JitRequest, JitRefused> {
        if self.jit.is_none() {
            return Err(JitRefused::NotSetUp);
        }
        if self.is_held().await.map_err(EngineError::from)? {
            return Err(JitRefused::Held);
        }
        match self.seek_jit(id, Asker::Person, None).await? {
            Access::Open(request) | Access::Waits(request, _) => Ok(request),
            Access::Refused { request, trouble } => Err(JitRefused::Pointless(trouble.sentence(request.as_deref()))),
            Access::Unclear { error, .. } => Err(JitRefused::Azure { code: error.code, message: error.message }),
        }
    }

    /// Looks at the request `name`, which a refresh waits for, if it is time to; files nothing.
    pub(super) async fn look_at_jit(&self, id: &ApplicationId, name: &str) -> Result<Gaze, EngineError> {
        if self.jit.is_none() {
            return Ok(Gaze::Refused(Trouble::NotSetUp));
        }
        for _ in 0..RACES {
            let now = self.now();
            let known = self.jit_record(id).await?;
            if let Some(trouble) = known.value.trouble_with(name, now) {
                return Ok(Gaze::Refused(trouble));
            }
            match known.value.usable(now) {
                Usable::Now | Usable::ToFile | Usable::Spent => return Ok(Gaze::Open),
                Usable::Waits { next_look } => return Ok(Gaze::Closed(next_look)),
                Usable::ToLook => self.look_at_latest(known, None).await?,
            }
        }
        Err(EngineError::Contended { what: format!("the just-in-time requests of {id}") })
    }

    /// Access for the POST of a refresh just in time: our own client inside a window. Nothing is filed for a rollout that does
    /// not go on; whoever calls finds that out once more.
    pub(super) async fn gain_jit(&self, refresh: &Refresh, place: &Permit) -> Result<Gained, EngineError> {
        let goes_on = !self.is_held().await?
            && self
                .store
                .rollout(refresh.rollout_id)
                .await?
                .is_some_and(|rollout| rollout.value.state == RolloutState::Running);
        if !goes_on && !self.has_window(&refresh.key).await? {
            let message = "nothing is asked of a customer while the rollout does not go on".to_owned();
            let error = RemoteError { status: None, code: "JitHeld".to_owned(), message };
            return Ok(Gained::Shut(SubmitAnswer::Retry { error, wait: None }));
        }
        let answer = match self.seek_jit(&refresh.application_id, Asker::Refresh, Some(place)).await? {
            Access::Open(_) => return Ok(Gained::Open(self.arm.clone())),
            Access::Waits(request, next_look) => SubmitAnswer::Opening {
                deadline: request.deadline(),
                gate: Gate::Jit { request: request.name, approval: request.approval },
                next_look,
            },
            Access::Refused { request, trouble } => SubmitAnswer::Refused { error: trouble.error(request.as_deref()) },
            Access::Unclear { error, wait } => SubmitAnswer::Retry { error, wait },
        };
        Ok(Gained::Shut(answer))
    }

    /// Takes a refusal within a window that was only just approved for what it most likely is: too early.
    pub(super) async fn bear_with(&self, refresh: &Refresh, answer: SubmitAnswer) -> Result<SubmitAnswer, EngineError> {
        match answer {
            SubmitAnswer::Refused { error }
                if refresh.way == Some(Way::Jit)
                    && error.status == Some(403)
                    // The last attempt is for what comes after it.
                    && RetryPolicy::POST.allows_another(refresh.attempt() + 1)
                    && self.is_settling(&refresh.key).await? =>
            {
                Ok(SubmitAnswer::Retry { error, wait: Some(SETTLING_GAP) })
            }
            answer => Ok(answer),
        }
    }

    async fn jit_record(&self, id: &ApplicationId) -> Result<Versioned<JitAccess>, EngineError> {
        let known = document::get::<JitAccess>(&*self.store, id.key().as_str()).await?;
        Ok(known.unwrap_or_else(|| Versioned::new(JitAccess::new(id.clone()))))
    }

    /// Adds a new request to the record, by what the application says now; or says why there is none to add.
    async fn wish(
        &self,
        setup: &JitSetup,
        access: &mut JitAccess,
        place: Option<&Permit>,
    ) -> Result<Option<Access>, EngineError> {
        let application = match self.read_for_jit(&access.application_id, place).await {
            Ok(application) => application,
            Err(access) => return Ok(Some(access)),
        };
        let key = access.application_id.key();
        self.note_terms(&key, &application).await?;
        match JitRequest::wish(setup, key.as_str(), &application, self.now()) {
            Ok(request) => {
                access.ask(request);
                Ok(None)
            }
            Err(trouble) => Ok(Some(Access::refused(None, trouble))),
        }
    }

    /// Keeps with the deployment what its customer has set, for those who look; nothing is decided by it.
    async fn note_terms(&self, key: &DeploymentKey, application: &JitApplication) -> Result<(), EngineError> {
        for _ in 0..RACES {
            let Some(mut known) = self.deployment(key).await? else { return Ok(()) };
            if known.value.jit == application.terms {
                return Ok(());
            }
            known.value.jit.clone_from(&application.terms);
            if self.store.save_deployments(std::slice::from_ref(&known)).await?[0].is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }

    async fn read_for_jit(&self, id: &ApplicationId, place: Option<&Permit>) -> Result<JitApplication, Access> {
        let read = self.arm.read_application_from(id, place).await;
        if let Some(application) = read.application {
            return Ok(application.for_jit());
        }
        let wait = read.throttled_for;
        Err(match read.answer {
            ReadAnswer::Unreadable { error, wait: named } if error.is_passing() => {
                Access::Unclear { error, wait: named.or(wait) }
            }
            ReadAnswer::Unreadable { error, .. } => {
                Access::refused(None, Trouble::Unreadable { code: error.code, message: error.message })
            }
            _ => Access::refused(None, Trouble::NotEnabled),
        })
    }

    /// Files the latest request, which this worker has for itself.
    async fn file_latest(&self, known: Versioned<JitAccess>, place: Option<&Permit>) -> Result<Access, EngineError> {
        let id = known.value.application_id.clone();
        let Some(request) = known.value.latest() else { return Ok(Access::refused(None, Trouble::NotEnabled)) };
        let name = request.name.clone();
        let answer = self.arm.file_jit_request(&id, request, place).await;
        let unclear = match &answer {
            JitAnswer::Unclear { error, wait } => Some(Access::Unclear { error: error.clone(), wait: *wait }),
            _ => None,
        };
        let stored = self.store_answer(known, answer).await?;
        let now = self.now();
        if let Some(unclear) = unclear {
            return Ok(unclear);
        }
        // Who was too slow finds what somebody else has made of it at the next step.
        let Some(access) = stored else { return Ok(Access::later()) };
        let Some(request) = access.latest() else { return Ok(Access::later()) };
        Ok(match (access.trouble_with(&name, now), access.usable(now)) {
            (Some(trouble), _) => {
                warn!(deployment.key = %id.key(), "Just-in-time request {name} for {id} came to nothing: {}", trouble.code());
                Access::refused(Some(name), trouble)
            }
            (None, Usable::Now) => Access::Open(request.clone()),
            (None, Usable::Waits { next_look }) => Access::Waits(request.clone(), next_look),
            (None, _) => Access::later(),
        })
    }

    /// Looks at the latest request and stores what Azure says, unless somebody else does.
    async fn look_at_latest(&self, known: Versioned<JitAccess>, place: Option<&Permit>) -> Result<(), EngineError> {
        let mut taken = known.value.clone();
        if let Some(request) = taken.latest_mut() {
            request.take_look(self.now());
        }
        if let Saved::Stored(etag) = document::save(&*self.store, &known.with(taken.clone())).await?
            && let Some(request) = taken.latest()
        {
            let answer = self.arm.read_jit_request(&taken.application_id, request, place).await;
            self.store_answer(Versioned { value: taken, etag: Some(etag) }, answer).await?;
        }
        Ok(())
    }

    /// Stores what Azure said of the latest request; `None` if somebody else has changed the record meanwhile.
    async fn store_answer(
        &self,
        known: Versioned<JitAccess>,
        answer: JitAnswer,
    ) -> Result<Option<JitAccess>, EngineError> {
        let now = self.now();
        let mut changed = known.value.clone();
        let Some(request) = changed.latest_mut() else { return Ok(Some(changed)) };
        let before = request.state.clone();
        request.heard(answer, now);
        if request.state == before {
            return Ok(Some(changed));
        }
        let told = (request.name.clone(), state_word(&request.state));
        let is_news = std::mem::discriminant(&before) != std::mem::discriminant(&request.state);
        if !document::save(&*self.store, &known.with(changed.clone())).await?.is_stored() {
            return Ok(None);
        }
        if is_news {
            let id = &changed.application_id;
            info!(deployment.key = %id.key(), "Just-in-time request {} for {id} is {}", told.0, told.1);
        }
        Ok(Some(changed))
    }
}

impl Access {
    fn refused(request: Option<String>, trouble: Trouble) -> Self {
        Self::Refused { request, trouble }
    }

    /// Somebody else is at it.
    fn later() -> Self {
        let message = "somebody else asks for just-in-time access at the same time".to_owned();
        let error = RemoteError { status: None, code: "JitContended".to_owned(), message };
        Self::Unclear { error, wait: None }
    }
}

fn state_word(state: &RequestState) -> &'static str {
    match state {
        RequestState::Wanted { .. } => "wanted",
        RequestState::Pending { .. } => "pending",
        RequestState::Approved { .. } => "approved",
        RequestState::Ended { trouble, .. } => trouble.code(),
    }
}
