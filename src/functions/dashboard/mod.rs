//! Dashboard: one page for people, and the few behind it (design §2, §8).
//!
//! `guard` lets people in, `load` and `lists` read what a page shows, `html` makes it of that, `pages` puts the two together,
//! `commands` does what a button asks for. A page is whole without JavaScript. With it, the script fetches the same
//! address every few seconds and puts in the parts that have changed: no stream, since the Functions host ends an
//! invocation at its timeout together with the handler that serves it, and counts every second of it.

mod assets;
mod attempts;
mod commands;
mod guard;
mod html;
mod lists;
mod load;
mod pages;
mod session;

use std::collections::HashSet;
use std::sync::Mutex;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get, post};

use self::attempts::Attempts;
use self::session::Sessions;
use crate::functions::wire::caller::IsVouched;
use crate::rollout::Plan;

/// Where it is.
pub const HOME: &str = "/api/dashboard";

/// What the dashboard keeps in this process: nothing that another instance would have to know.
pub struct Dashboard {
    access: Access,
    attempts: Attempts,
    /// The plans whose deployments are being counted.
    counting: Mutex<HashSet<Plan>>,
}

/// Who is let in.
enum Access {
    /// Nobody: neither setting is there.
    Off,
    /// Whoever has the key.
    Key {
        /// `DASHBOARD_KEY`.
        key: String,
        /// The sessions it begins.
        sessions: Sessions,
    },
    /// Whoever App Service authentication names, and whoever has the key, if there is one.
    EasyAuth {
        /// `DASHBOARD_KEY` and the sessions it begins.
        sessions: Option<(String, Sessions)>,
    },
}

impl Dashboard {
    /// A dashboard for whoever has `key`, or whom App Service authentication names.
    pub fn new(key: Option<String>, is_vouched: IsVouched) -> Self {
        let sessions = key.filter(|key| !key.is_empty()).map(|key| {
            let sessions = Sessions::new(&key);
            (key, sessions)
        });
        let access = match (is_vouched, sessions) {
            (IsVouched::Yes, sessions) => Access::EasyAuth { sessions },
            (IsVouched::No, Some((key, sessions))) => Access::Key { key, sessions },
            (IsVouched::No, None) => Access::Off,
        };
        Self { access, attempts: Attempts::default(), counting: Mutex::default() }
    }
}

/// Everything below [`HOME`].
pub fn routes() -> Router {
    let at = |path: &str| format!("{HOME}{path}");
    Router::new()
        .route(HOME, get(pages::overview))
        .route(&at("/login"), get(guard::login_page).post(guard::login))
        .route(&at("/logout"), post(guard::logout))
        .route(&at("/assets/{name}"), get(assets::serve))
        .route(&at("/rollouts"), get(pages::rollouts))
        .route(&at("/rollouts/{id}"), get(pages::rollout))
        .route(&at("/rollouts/{id}/report.csv"), get(pages::report))
        .route(&at("/rollouts/{id}/confirm"), get(commands::confirm))
        .route(&at("/rollouts/{id}/command"), post(commands::carry_out))
        .route(&at("/switch"), get(commands::confirm_switch).post(commands::switch))
        .route(&at("/audit"), get(pages::audit))
        .route(&at("/deployments"), get(pages::deployments))
        .route(&at("/deployments/{key}"), get(pages::deployment))
        .route(&at("/deployments/{key}/confirm"), get(commands::confirm_hold))
        .route(&at("/deployments/{key}/command"), post(commands::change_hold))
        .route(&at("/{*other}"), any(pages::not_found))
        .method_not_allowed_fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::from_fn(guard::admit))
        .layer(middleware::map_response(with_headers))
}

/// What no answer of ours goes without: nothing but our own files runs, nobody frames it, nothing of it is kept.
async fn with_headers(mut response: Response) -> Response {
    const HEADERS: [(&str, &str); 8] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // No more than this: `no-referrer` would take the origin from our own forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ("cache-control", "no-store"),
    ];
    for (name, value) in HEADERS {
        // The files of the page say themselves how long they may be kept.
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response
}
