//! The simulator's HTTP side: which call belongs to which path, and who may call; Entra and the vault themselves.

mod graph;
mod partner;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::super::scopes::{ARM_SCOPE, GRAPH_APP};
use super::{Call, OnCall, Recorded, Reply, Shared, State, Version};
use crate::loopback::{self, Answer, Dropped, HeaderCase};

/// `user_impersonation` of ARM, and `User.Read` of Graph, by id.
const ARM_SCOPE_ID: &str = "41094075-9dad-400e-a0bd-54e686782033";
const GRAPH_SCOPE_ID: &str = "e1fe6dd8-ba31-4d61-89e7-88639da4683d";

/// Serves until it is aborted, and its connections with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let answer = move |request| answer(Arc::clone(&shared), request);
    match loopback::serve(listener, HeaderCase::Lower, || {}, answer).await {}
}

struct Asked<'a> {
    shared: &'a Shared,
    method: Method,
    segments: Vec<&'a str>,
    query: HashMap<String, String>,
    headers: &'a HeaderMap,
    body: &'a str,
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let pairs = |text: &str| url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let asked = Asked {
        shared: &shared,
        method: head.method.clone(),
        segments: head.uri.path().split('/').filter(|part| !part.is_empty()).collect(),
        query: pairs(head.uri.query().unwrap_or_default()),
        headers: &head.headers,
        body: &body,
    };
    let call = match (&head.method, &asked.segments[..]) {
        (&Method::POST, [_, "oauth2", "v2.0", "token"] | [_, "oauth2", "token"]) => Call::Token,
        (&Method::GET, [_, "oauth2", "v2.0", "authorize"]) => Call::SignIn,
        (&Method::GET, ["secrets", _, "versions"]) => Call::ListSecret,
        (&Method::GET, ["secrets", ..]) => Call::ReadSecret,
        (&Method::PUT, ["secrets", _]) => Call::WriteSecret,
        (&Method::PATCH, ["secrets", _, _]) => Call::RetireSecret,
        (&Method::POST, ["v1", "customers", _, "applicationconsents"]) => Call::Consent,
        (&Method::DELETE, ["v1", "customers", _, "applicationconsents", _]) => Call::Withdraw,
        (_, ["webhooks", "v1", "registration"]) => Call::Registration,
        (_, ["webhooks", "v1", "registration", "validationEvents", ..]) => Call::Trial,
        (_, ["v1.0", ..]) => Call::Graph,
        (&Method::GET, ["certificate.cer"]) => Call::Certificate,
        _ => return Ok(response(Reply::text(404, "there is nothing here"))),
    };
    let script = {
        let mut state = shared.state();
        let line = format!("{} {}", head.method, head.uri);
        state.requests.push(Recorded { call, line, headers: head.headers.clone(), body: body.clone() });
        state.scripts.get_mut(&call).and_then(std::collections::VecDeque::pop_front)
    };
    match script.unwrap_or(OnCall::AsUsual) {
        OnCall::AsUsual => Ok(response(asked.act(call))),
        OnCall::Answer(reply) => Ok(response(reply)),
        OnCall::DoAndDrop => {
            asked.act(call);
            Err(Dropped)
        }
        OnCall::DoAndHang => {
            asked.act(call);
            shared.state().hanging += 1;
            std::future::pending().await
        }
        OnCall::Reset => Err(Dropped),
    }
}

impl Asked<'_> {
    fn act(&self, call: Call) -> Reply {
        match call {
            Call::Token => self.token(),
            Call::SignIn => self.sign_in(),
            Call::ReadSecret | Call::WriteSecret | Call::RetireSecret | Call::ListSecret => self.secret(call),
            Call::Consent | Call::Withdraw => self.consent(call),
            Call::Registration => self.registration(),
            Call::Trial => self.trial(),
            Call::Graph => self.graph(),
            Call::Certificate => Reply::text(200, self.shared.state().certificate.clone()),
        }
    }

    fn token(&self) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect();
        let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let config = &self.shared.config;
        let mut state = self.shared.state();
        let tenant = self.segments[0].to_owned();
        let proven =
            value("client_secret") == config.client_secret || value("client_assertion").split('.').count() == 3;
        if value("client_id") != config.client_id {
            return Reply::oauth(400, "unauthorized_client", 700_016);
        }
        if !proven {
            return Reply::oauth(401, "invalid_client", 7_000_215);
        }
        let mut nonce = None;
        match value("grant_type") {
            "refresh_token" if state.refresh_tokens.get(value("refresh_token")) != Some(&true) => {
                return Reply::oauth(400, "invalid_grant", 700_082);
            }
            // Our own identity's, for the vault; customers give it nothing.
            "refresh_token" | "client_credentials" => {}
            "authorization_code" => {
                let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(value("code_verifier")));
                match state.codes.remove(value("code")) {
                    Some((expected, its)) if expected == challenge => nonce = Some(its),
                    _ => return Reply::oauth(400, "invalid_grant", 70_000),
                }
            }
            _ => return Reply::oauth(400, "unsupported_grant_type", 70_003),
        }
        // The older endpoint knows resources, and numbers as text.
        let is_older = self.segments.len() == 3;
        let (name, other) = if is_older { ("resource", "scope") } else { ("scope", "resource") };
        let audience = value(name).split(' ').next().unwrap_or_default().trim_end_matches("/.default").to_owned();
        if is_older && (audience.is_empty() || form.contains_key(other)) {
            return Reply::oauth(400, "invalid_request", 900_144);
        }
        let mut scope = None;
        if tenant != config.partner_tenant {
            let Some(customer) = state.customers.get(&tenant) else {
                return Reply::oauth(400, "invalid_request", 90_002);
            };
            let names = match app_of(&audience) {
                None => customer.has_consented.then(|| ARM_SCOPE.to_owned()),
                Some(app) => customer.beyond.get(app).map(|names| names.iter().cloned().collect::<Vec<_>>().join(" ")),
            };
            let Some(names) = names else { return Reply::oauth(400, "invalid_grant", 65_001) };
            let prefix = if is_older { String::new() } else { format!("{audience}/") };
            scope = Some(names.split(' ').map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join(" "));
        }
        let number = state.next();
        let access =
            jwt(&json!({"tid": tenant, "aud": audience, "appid": config.client_id, "amr": config.amr, "n": number}));
        let until = config.clock.now() + Duration::from_secs(config.token_seconds);
        if let Some(on_token) = &config.on_token {
            on_token(&access, &tenant, &audience, until);
        }
        state.access_tokens.insert(access.clone(), (tenant.clone(), audience, until));
        let mut body = json!({"token_type": "Bearer", "expires_in": config.token_seconds, "access_token": access, "refresh_token": state.mint()});
        if is_older {
            body["expires_in"] = config.token_seconds.to_string().into();
        }
        if let Some(scope) = scope {
            body["scope"] = scope.into();
        }
        if let Some(nonce) = nonce {
            body["id_token"] =
                jwt(&json!({"tid": tenant, "nonce": nonce, "preferred_username": "obo@fabrikam.example"})).into();
        }
        Reply::json(200, &body)
    }

    /// Whoever comes is signed in, and sent back at once.
    fn sign_in(&self) -> Reply {
        let value = |name: &str| self.query.get(name).cloned().unwrap_or_default();
        let mut state = self.shared.state();
        let code = format!("code-{}", state.next());
        state.codes.insert(code.clone(), (value("code_challenge"), value("nonce")));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &value("state"))
            .finish();
        Reply::text(302, "").with("location", format!("{}?{query}", value("redirect_uri")))
    }

    /// Which tenant and audience the caller's token is of.
    fn caller(&self, state: &State) -> Option<(String, String)> {
        let token = self.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let (tenant, audience, until) = state.access_tokens.get(token)?;
        (self.shared.config.clock.now() < *until).then(|| (tenant.clone(), audience.clone()))
    }

    /// The vault takes whatever the credential of the test is: any bearer token, asked for by its challenge first.
    fn secret(&self, call: Call) -> Reply {
        if !self.headers.contains_key(AUTHORIZATION) {
            let challenge =
                "Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"https://vault.azure.net\"";
            return Reply::json(401, &json!({"error": {"code": "Unauthorized"}})).with("www-authenticate", challenge);
        }
        let mut state = self.shared.state();
        let name = self.segments[1];
        let id = |version: &str| format!("{}/secrets/{name}/{version}", self.shared.origin);
        let error = |status, code: &str| Reply::json(status, &json!({"error": {"code": code, "message": "simulated"}}));
        let body: Value = serde_json::from_str(self.body).unwrap_or_default();
        match call {
            Call::WriteSecret => {
                let version = Version {
                    name: format!("{:032x}", state.next()),
                    value: body["value"].as_str().unwrap_or_default().to_owned(),
                    enabled: true,
                    attributes: body["attributes"].clone(),
                    tags: body["tags"].clone(),
                };
                let answer = Reply::json(200, &json!({"id": id(&version.name), "attributes": {"enabled": true}}));
                state.versions.push(version);
                answer
            }
            Call::RetireSecret => match state.versions.iter_mut().find(|version| version.name == self.segments[2]) {
                Some(version) => {
                    version.enabled = body["attributes"]["enabled"].as_bool().unwrap_or(version.enabled);
                    Reply::json(200, &json!({"id": id(&version.name)}))
                }
                None => error(404, "SecretNotFound"),
            },
            Call::ListSecret => {
                let item = |of: &Version| json!({"id": id(&of.name), "attributes": {"enabled": of.enabled}});
                Reply::json(
                    200,
                    &json!({"value": state.versions.iter().map(item).collect::<Vec<_>>(), "nextLink": null}),
                )
            }
            _ => match state.versions.last() {
                None => error(404, "SecretNotFound"),
                Some(version) if !version.enabled => error(403, "Forbidden"),
                Some(version) => Reply::json(
                    200,
                    &json!({"value": version.value, "id": id(&version.name), "tags": version.tags, "attributes": {"enabled": true}}),
                ),
            },
        }
    }
}

/// The app id behind an audience, but for Azure Resource Manager's and the vault's.
fn app_of(audience: &str) -> Option<&str> {
    match audience {
        "https://graph.microsoft.com" => Some(GRAPH_APP),
        app if uuid::Uuid::try_parse(app).is_ok() => Some(app),
        _ => None,
    }
}

/// A token that nobody signed.
fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "none"})), part(claims))
}

fn response(reply: Reply) -> Answer {
    loopback::response(reply.status, reply.headers, reply.body)
}
