//! The functions: one file per `function.json`. Envelope in, one engine call, envelope out.
//!
//! [`router`] is the custom handler of contracts/custom-handler.md §12: HTTP functions get the original request at its
//! original path, every other function gets `POST /<Name>` with an envelope. `GET /` is answered at once, before the engine
//! is there; everything else waits for it. A panic is a 500 and a logged error, not a dead process.

pub mod consent;
pub mod dashboard;
pub mod deployments;
pub mod invocation;
pub mod notification;
pub mod offer_publishes;
pub mod offers;
pub mod operations;
pub mod plan_rollout;
pub mod poll_operations;
pub mod refresh_deployment;
pub mod renew_tokens;
pub mod rollouts;
pub mod scheduled_refresh;
pub mod sync_deployments;
pub mod watch_offers;
pub mod wire;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;

use self::dashboard::Dashboard;
use self::invocation::{Invocation, note_answer};
use self::wire::caller::IsVouched;
use self::wire::{Reason, problem};
use crate::engine::Engine;
use crate::ncrontab::Schedule;

/// How long an invocation may take: below the function timeout of `host.json` (5 minutes) and below the lock renewal.
pub const INVOCATION_DEADLINE: Duration = Duration::from_secs(4 * 60);
/// The largest body: what the platform lets through (contracts/custom-handler.md §12.3).
pub const BODY_LIMIT: usize = 100 * 1024 * 1024;

/// What the functions work with.
pub struct App {
    /// The engine.
    pub engine: Engine,
    /// The accepted values of `sig` (`NOTIFICATION_SIG`); none means that notifications are refused.
    pub notification_sigs: Vec<String>,
    /// The page for people.
    pub dashboard: Dashboard,
    /// Whether `X-MS-CLIENT-PRINCIPAL` says who is calling (`DASHBOARD_AUTH`).
    pub principals: IsVouched,
    /// When PollOperations comes next (`POLL_SCHEDULE`).
    pub poll_schedule: Schedule,
}

/// The app once it is there.
#[derive(Clone)]
pub struct Handle(watch::Receiver<Option<Arc<App>>>);

impl Handle {
    /// A handle whose app comes later, and what brings it.
    pub fn later() -> (watch::Sender<Option<Arc<App>>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// A handle whose app is there.
    pub fn ready(app: App) -> Self {
        Self(watch::channel(Some(Arc::new(app))).1)
    }

    /// The app, as soon as it is there; `None` if it will never be.
    async fn app(&self) -> Option<Arc<App>> {
        let mut receiver = self.0.clone();
        receiver.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The custom handler.
pub fn router(handle: Handle) -> Router {
    let functions = Router::new()
        .route(
            "/api/notification/resource",
            // Anybody can reach it, so what is too large is not even read.
            post(notification::post).layer(DefaultBodyLimit::max(notification::BODY_LIMIT)),
        )
        .route("/api/offer-publishes", post(offer_publishes::post))
        .route("/api/offers", get(offers::list))
        .route("/api/offer-publishes/lint", post(offer_publishes::lint))
        .route("/api/rollouts", get(rollouts::list).post(rollouts::start))
        .route("/api/rollouts/{id}", get(rollouts::show))
        .route("/api/rollouts/{id}/refreshes", get(rollouts::refreshes))
        .route("/api/rollouts/{id}/report", get(rollouts::report))
        .route("/api/rollouts/{id}/last-good", get(rollouts::last_good))
        .route("/api/rollouts/{id}/{command}", post(rollouts::command))
        .route("/api/deployments", get(deployments::list).put(deployments::import))
        .route("/api/deployments/sync", get(deployments::sync).post(deployments::start_sync))
        .route("/api/deployments/jit", get(deployments::list_jit))
        .route("/api/deployments/{key}/jit", get(deployments::show_jit).post(deployments::request_jit))
        .route("/api/deployments/{key}", get(deployments::show).delete(deployments::forget))
        .merge(dashboard::routes())
        .route("/api/deployments/{key}/hold", post(deployments::hold))
        .route("/api/deployments/{key}/release", post(deployments::release))
        .route("/api/deployments/{key}/refreshed", post(deployments::refreshed))
        .route("/api/stop", post(operations::stop))
        .route("/api/start", post(operations::start))
        .route("/api/audit", get(operations::audit))
        .route(
            "/api/consent/{what}",
            // As open to anybody as notifications are.
            get(consent::come_back).post(consent::hear).layer(DefaultBodyLimit::max(consent::BODY_LIMIT)),
        )
        .route("/PlanRollout", post(plan_rollout::invoke))
        .route("/RefreshDeployment", post(refresh_deployment::invoke))
        .route("/PollOperations", post(poll_operations::invoke))
        .route("/RenewTokens", post(renew_tokens::invoke))
        .route("/ScheduledRefresh", post(scheduled_refresh::invoke))
        .route("/SyncDeployments", post(sync_deployments::invoke))
        .route("/WatchOffers", post(watch_offers::invoke))
        .fallback(any(problem::not_found))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(middleware::from_fn_with_state(handle, with_app));
    Router::new().route("/", get(StatusCode::OK)).merge(functions).layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Waits for the app, gives it to the function, and ends what takes too long.
async fn with_app(State(handle): State<Handle>, mut request: Request, next: Next) -> Response<Body> {
    let Some(app) = handle.app().await else {
        return problem::internal("the service could not start; its log says why").into_response();
    };
    let invocation = Invocation::of(&request);
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(app);
    request.extensions_mut().insert(invocation.clone());
    let work = async {
        let response = next.run(request).await;
        note_answer(response.status());
        response
    };
    let answered = if invocation.brings_message() {
        tokio::time::timeout(INVOCATION_DEADLINE, work).await
    } else {
        tokio::time::timeout(INVOCATION_DEADLINE, invocation.run(work)).await
    };
    let Invocation { id, .. } = &invocation;
    match answered {
        Ok(response) => {
            if response.status().is_server_error() {
                let status = response.status();
                let reason = response.extensions().get::<Reason>().map_or(status.as_str(), |reason| &reason.0);
                error!(invocation.id = id, http.route = invocation.route, "Invocation {id} of {path} failed: {reason}");
            }
            if path.starts_with("/api/") { problem::of_rejection(response).await } else { response }
        }
        Err(_) => {
            error!(
                invocation.id = id,
                http.route = invocation.route,
                "Invocation {id} of {path} took too long and was ended"
            );
            problem::internal("the invocation took too long and was ended; it is taken up again").into_response()
        }
    }
}

/// A panic in a function: answered, with what it said for the log alone.
fn after_panic(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let mut response = problem::internal("an error of the program; its log says more").into_response();
    response.extensions_mut().insert(Reason(format!("it panicked: {}", said.unwrap_or("without a word"))));
    response
}
