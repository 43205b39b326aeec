//! The dashboard through the real router: who is let in, what its buttons do, what its pages say. Here is the visitor that all
//! of these share. What a browser makes of it is in [`crate::browser`].

mod access;
mod commands;
mod pages;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use permafresh::rollout::RolloutId;
use tower::ServiceExt;

use crate::world::{DASHBOARD_KEY, World, application};

const HOME: &str = "/api/dashboard";
const HOST: &str = "127.0.0.1:7071";

/// An answer of the dashboard.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The cookie it sets, as a browser sends it back.
    fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// The token of its forms.
    fn token(&self) -> String {
        let (_, rest) = self.body.split_once(r#"name="token" value=""#).expect("the page has a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

/// A browser without a screen: it keeps one cookie.
struct Visit {
    router: Router,
    cookie: String,
}

impl Visit {
    fn to(world: &World) -> Self {
        Self { router: world.handler(Arc::clone(&world.store), Arc::clone(&world.queue)), cookie: String::new() }
    }

    async fn signed_in(world: &World) -> Self {
        Self::to(world).sign_in().await
    }

    async fn sign_in(mut self) -> Self {
        let answer = self.post("/login", &format!("key={DASHBOARD_KEY}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        self.cookie = answer.cookie();
        self
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(format!("{HOME}{path}")).header("host", HOST).header("cookie", &self.cookie);
        send(&self.router, request.body(Body::empty()).unwrap()).await
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        self.post_from(path, form, &[("sec-fetch-site", "same-origin")]).await
    }

    async fn post_from(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(format!("{HOME}{path}"))
            .header("host", HOST)
            .header("cookie", &self.cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.router, request.body(form.to_owned().into()).unwrap()).await
    }
}

/// A page as somebody sees it who is signed in.
pub async fn page(world: &World, path: &str) -> String {
    Visit::signed_in(world).await.page(path).await
}

/// Who paused a rollout, says the audit list.
async fn paused_by(world: &World) -> Option<String> {
    let audit = world.get("/api/audit").await;
    let entry = audit["value"].as_array().unwrap().iter().find(|entry| entry["what"] == "rollout.pause")?;
    Some(entry["who"].as_str().unwrap().to_owned())
}

/// Every address there is, with a rollout and a deployment of the world.
fn addresses(id: RolloutId) -> Vec<String> {
    let key = application(0).key();
    vec![
        String::new(),
        "/rollouts".into(),
        format!("/rollouts/{id}"),
        format!("/rollouts/{id}/report.csv"),
        format!("/rollouts/{id}/confirm?command=pause"),
        "/deployments".into(),
        format!("/deployments/{key}"),
        format!("/deployments/{key}/confirm?command=hold"),
        "/audit".into(),
        "/switch?to=stop".into(),
    ]
}
