//! Pages for whoever is not let in, and for what went wrong.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::header};
use maud::{Markup, html};

use super::document;
use crate::functions::dashboard::HOME;
use crate::functions::wire::Reason;

/// A page with one thing to say.
pub struct Message {
    status: StatusCode,
    page: Markup,
    reason: Option<Reason>,
}

impl IntoResponse for Message {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
        let mut response = (self.status, kind, self.page.into_string()).into_response();
        if let Some(reason) = self.reason {
            response = (Extension(reason), response).into_response();
        }
        response
    }
}

/// The login form.
pub fn login(status: StatusCode, next: &str, problem: Option<&str>) -> Message {
    let page = html! {
        main.entry #main {
            h1 { img src=(format!("{HOME}/assets/icon.svg")) alt="" width="32" height="32"; "Permafresh" }
            form method="post" action=(format!("{HOME}/login")) {
                @if let Some(problem) = problem {
                    p.problem #problem role="alert" { (problem) }
                }
                input type="hidden" name="next" value=(next);
                label for="key" { "Key of the dashboard" }
                input #key type="password" name="key" required autocomplete="current-password" autofocus
                    aria-invalid=[problem.map(|_| "true")] aria-describedby=(if problem.is_some() { "problem hint" } else { "hint" });
                p.hint #hint { "It is the setting " code { "DASHBOARD_KEY" } " of the service." }
                button type="submit" { "Sign in" }
            }
        }
    };
    Message { status, page: document("Sign in", &page), reason: None }
}

/// 503: there is no key.
pub fn not_configured() -> Message {
    message(
        StatusCode::SERVICE_UNAVAILABLE,
        "The dashboard is switched off",
        "Set DASHBOARD_KEY to a long random value, or DASHBOARD_AUTH to easyauth behind App Service authentication, and start the service again.",
        None,
    )
}

/// 401: App Service authentication has to say who it is, and has not.
pub fn not_signed_in() -> Message {
    message(
        StatusCode::UNAUTHORIZED,
        "Nobody is signed in",
        "This dashboard is for people whom App Service authentication has signed in. Its setting has to ask everybody to sign in.",
        None,
    )
}

/// 403: a form that is not ours.
pub fn refused(why: &str) -> Message {
    message(StatusCode::FORBIDDEN, "Refused", why, None)
}

/// 400: a field of a form is not what it should be.
pub fn invalid(why: &str) -> Message {
    message(StatusCode::BAD_REQUEST, "Not understood", why, None)
}

/// 404.
pub fn missing(why: &str) -> Message {
    message(StatusCode::NOT_FOUND, "Not found", why, None)
}

/// 409: the state does not allow it any more.
pub fn conflict(why: &str) -> Message {
    message(StatusCode::CONFLICT, "That is not possible now", why, None)
}

/// 500: a part of ours failed; why is for the log.
pub fn failed(reason: Reason) -> Message {
    message(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something failed",
        "A part of the service could not be reached. Nothing is half-done; try again. Its log says more.",
        Some(reason),
    )
}

fn message(status: StatusCode, title: &str, why: &str, reason: Option<Reason>) -> Message {
    let page = html! {
        main.entry #main {
            h1 { (title) }
            p { (why) }
            p { a href=(HOME) { "To the overview" } }
        }
    };
    Message { status, page: document(title, &page), reason }
}
