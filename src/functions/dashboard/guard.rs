//! Who may come in, and what they may send: the login, its session, App Service authentication where it stands before us,
//! and the checks that every form passes. Everything below `/api/dashboard` goes through [`admit`]; what is open without
//! a login is named here and nowhere else.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::html::entry;
use super::session::{LIFE, Session, Sessions};
use super::{Access, HOME};
use crate::functions::App;
use crate::functions::wire::{Reason, principal};

/// The largest form.
const FORM_LIMIT: usize = 16 * 1024;
/// The longest path that a login leads back to.
const LONGEST_NEXT: usize = 1_000;
/// What is open to everybody: the login itself, and what the browser needs to show it.
const OPEN: [&str; 2] = ["/login", "/assets/"];

/// The scheme and host that the browser sees, and with them the names of our cookies.
struct Outside {
    is_https: bool,
    host: String,
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Who, for the page and for the audit list.
    pub who: String,
    /// What every form carries.
    pub token: String,
    /// The session, where it is ours.
    session: Option<Session>,
}

impl Visitor {
    /// Whether the session is ours, so that it can be ended here.
    pub fn can_leave(&self) -> bool {
        self.session.is_some()
    }
}

/// The fields of a form whose token was right.
#[derive(Clone, Debug)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// A field; the first where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn of(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }
}

impl Outside {
    /// As the host tells it; a custom handler behind the Functions host sees its own address in `Host`.
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or_default().to_ascii_lowercase();
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let is_loopback = matches!(name.map_or(host.as_str(), |(name, _)| name), "127.0.0.1" | "localhost" | "[::1]");
        let says_https = |name| text(name).is_some_and(|value| value.eq_ignore_ascii_case("https"));
        let is_https = says_https("x-forwarded-proto")
            || says_https("x-appservice-proto")
            || headers.contains_key("x-arr-ssl")
            || !is_loopback;
        Self { is_https, host }
    }

    /// A name that a browser ties to this host and to https, where there is https.
    fn cookie(&self, name: &str) -> String {
        if self.is_https { format!("__Host-permafresh-{name}") } else { format!("permafresh-{name}") }
    }

    fn set_cookie(&self, name: &str, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.is_https { "; Secure" } else { "" };
        let name = self.cookie(name);
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&text).expect("names and values of our cookies are letters, digits, '-', '_' and '.'")
    }

    /// Whether a browser sent this from a page of ours. What is no browser, or an old one, says neither; then the token
    /// alone decides.
    fn sent_by_us(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let is_our_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
        let is_our_origin = text("origin").is_none_or(|origin| {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            host.eq_ignore_ascii_case(&self.host)
        });
        // The address behind a chain of proxies may be another one than the browser's; the browser itself knows.
        is_our_site && (is_our_origin || text("sec-fetch-site") == Some("same-origin"))
    }
}

/// Lets visitors in and sends everybody else to the login; refuses forms without their token, or from elsewhere.
pub async fn admit(Extension(app): Extension<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix(HOME).unwrap_or_default();
    let (outside, now) = (Outside::of(request.headers()), app.engine.now());
    if request.method() == Method::POST && !outside.sent_by_us(request.headers()) {
        return entry::refused("The request came from another site.").into_response();
    }
    if OPEN.iter().any(|open| path == *open || open.ends_with('/') && path.starts_with(open)) {
        return next.run(request).await;
    }
    let access = &app.dashboard.access;
    let session = match access {
        Access::Key { sessions, .. } | Access::EasyAuth { sessions: Some((_, sessions)), .. } => {
            let cookie = cookie(request.headers(), &outside.cookie("session"));
            match cookie.and_then(|cookie| sessions.known(cookie, now)) {
                Some(session) => match app.engine.is_signed_out(session.id(), session.ends_at).await {
                    Ok(false) => Some((sessions, session)),
                    Ok(true) => None,
                    Err(error) => return entry::failed(Reason(error.to_string())).into_response(),
                },
                None => None,
            }
        }
        _ => None,
    };
    let signed_in = principal::signed_in(request.headers());
    let mut fresh = None;
    let visitor = match (access, session) {
        (_, Some((sessions, session))) => {
            let token = sessions.form_token(&session);
            Visitor { who: "dashboard key".to_owned(), token, session: Some(session) }
        }
        (Access::EasyAuth { .. }, None) if signed_in.is_some() => {
            let who = signed_in.unwrap_or_default();
            let token = cookie(request.headers(), &outside.cookie("form")).filter(|token| is_token(token));
            let token = token.map_or_else(|| fresh.insert(Uuid::new_v4().simple().to_string()).clone(), str::to_owned);
            Visitor { who, token, session: None }
        }
        (Access::Off, None) => return entry::not_configured().into_response(),
        (Access::EasyAuth { sessions: None, .. }, None) => return entry::not_signed_in().into_response(),
        (Access::Key { .. } | Access::EasyAuth { .. }, None) => return to_login(request.uri(), request.method()),
    };
    let mut request = request;
    if request.method() == Method::POST {
        let (head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, FORM_LIMIT).await else {
            return entry::refused("The form is too large.").into_response();
        };
        let form = Form::of(&body);
        // One that was made just now was never on a page.
        let is_ours = fresh.is_none() && is_same(form.get("token").unwrap_or_default(), &visitor.token);
        if !is_ours {
            return entry::refused(
                "The form does not belong to this session. Go back, load the page again, and retry.",
            )
            .into_response();
        }
        request = Request::from_parts(head, Body::empty());
        request.extensions_mut().insert(form);
    }
    request.extensions_mut().insert(visitor);
    let mut response = next.run(request).await;
    if let Some(token) = fresh {
        response.headers_mut().append(header::SET_COOKIE, outside.set_cookie("form", &token, LIFE.as_secs()));
    }
    response
}

/// The query of the login.
#[derive(Deserialize)]
pub struct LoginQuery {
    #[serde(default)]
    next: String,
}

/// `GET /api/dashboard/login`.
pub async fn login_page(Extension(app): Extension<Arc<App>>, Query(query): Query<LoginQuery>) -> Response {
    match login_key(&app.dashboard.access) {
        Some(_) => entry::login(StatusCode::OK, &back_to(&query.next), None).into_response(),
        None if matches!(app.dashboard.access, Access::Off) => entry::not_configured().into_response(),
        None => entry::not_signed_in().into_response(),
    }
}

/// `POST /api/dashboard/login`: a right key begins a session.
pub async fn login(Extension(app): Extension<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((key, sessions)) = login_key(&app.dashboard.access) else {
        return entry::not_configured().into_response();
    };
    let form = Form::of(body.get(..FORM_LIMIT).unwrap_or(&body));
    let next = back_to(form.get("next").unwrap_or_default());
    let (now, address) = (app.engine.now(), address(&headers));
    let attempts = &app.dashboard.attempts;
    if let Err(seconds) = attempts.take(&address, now) {
        let why = format!("Too many wrong keys. Try again in {seconds} seconds.");
        let mut response = entry::login(StatusCode::TOO_MANY_REQUESTS, &next, Some(&why)).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return response;
    }
    if !is_same(form.get("key").unwrap_or_default().trim(), key) {
        return entry::login(StatusCode::FORBIDDEN, &next, Some("That is not the key.")).into_response();
    }
    attempts.give_back(&address);
    let cookie = Outside::of(&headers).set_cookie("session", &sessions.begin(now), LIFE.as_secs());
    ([(header::SET_COOKIE, cookie)], see_other(&next)).into_response()
}

/// `POST /api/dashboard/logout`: the session counts no more, whoever has its cookie, and the browser forgets it.
pub async fn logout(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Response {
    if let Some(session) = visitor.session
        && let Err(error) = app.engine.sign_out(session.id(), session.ends_at).await
    {
        // The browser keeps the cookie, so that it can be tried again.
        return entry::failed(Reason(error.to_string())).into_response();
    }
    let cookie = Outside::of(&headers).set_cookie("session", "", 0);
    ([(header::SET_COOKIE, cookie)], see_other(&format!("{HOME}/login"))).into_response()
}

/// 303 to a path of ours.
pub fn see_other(path: &str) -> (StatusCode, [(header::HeaderName, HeaderValue); 1]) {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static(HOME));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)])
}

fn login_key(access: &Access) -> Option<(&str, &Sessions)> {
    match access {
        Access::Key { key, sessions } => Some((key, sessions)),
        Access::EasyAuth { sessions } => sessions.as_ref().map(|(key, sessions)| (key.as_str(), sessions)),
        Access::Off => None,
    }
}

fn to_login(uri: &Uri, method: &Method) -> Response {
    let asked = uri.path_and_query().map_or(HOME, |asked| asked.as_str());
    // What was to be sent is lost with the session; only a page can be shown afterwards.
    let next = if method == Method::GET { back_to(asked) } else { HOME.to_owned() };
    let path = if next == HOME {
        format!("{HOME}/login")
    } else {
        format!(
            "{HOME}/login?next={}",
            percent_encoding::utf8_percent_encode(&next, percent_encoding::NON_ALPHANUMERIC)
        )
    };
    see_other(&path).into_response()
}

/// A page of ours, whatever was asked for.
fn back_to(asked: &str) -> String {
    let rest = asked.strip_prefix(HOME);
    let is_ours = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && asked.len() <= LONGEST_NEXT
        && !asked.contains("//")
        && !asked.contains("..")
        && asked.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { asked.to_owned() } else { HOME.to_owned() }
}

/// Where a request comes from: what the front end of App Service has added last, since the rest is the caller's word.
fn address(headers: &HeaderMap) -> String {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()).unwrap_or_default().trim();
    let without_port = last.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let host = without_port.map_or(last, |(host, _)| host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<Ipv6Addr>().map(|address| address.to_canonical()) {
        // Whoever has one address of a network has all 2^64 of it.
        Ok(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => host.chars().take(64).collect(),
    }
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Digests are compared, since they have one length whatever is presented.
fn is_same(presented: &str, wanted: &str) -> bool {
    Sha256::digest(presented).as_slice().ct_eq(Sha256::digest(wanted).as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn cookies_are_secure_unless_the_browser_speaks_plain_http_to_this_machine() {
        for (pairs, is_https) in [
            (&[("host", "127.0.0.1:7071")][..], false),
            (&[("host", "127.0.0.1:9"), ("x-forwarded-host", "localhost:7071"), ("x-forwarded-proto", "http")], false),
            (&[("host", "[::1]:7071")], false),
            (&[("host", "127.0.0.1:9"), ("x-forwarded-host", "x.azurewebsites.net")], true),
            (&[("host", "127.0.0.1:9"), ("x-forwarded-proto", "https")], true),
            (&[("host", "127.0.0.1:9"), ("x-arr-ssl", "2048|256")], true),
            (&[("host", "localhost.example.org")], true),
            (&[], true),
        ] {
            assert_eq!(Outside::of(&headers(pairs)).is_https, is_https, "{pairs:?}");
        }
    }

    #[test]
    fn what_another_site_sends_is_told_apart() {
        let host = ("x-forwarded-host", "localhost:7071");
        for (pairs, ours) in [
            (&[host][..], true),
            (&[host, ("origin", "http://localhost:7071")], true),
            (&[host, ("origin", "http://localhost:7072")], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "same-origin"), ("origin", "http://proxied.example")], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://localhost:7071")], false),
        ] {
            let headers = headers(pairs);
            assert_eq!(Outside::of(&headers).sent_by_us(&headers), ours, "{pairs:?}");
        }
    }

    #[test]
    fn a_login_leads_back_to_a_page_of_ours_only() {
        for ours in [HOME.to_owned(), format!("{HOME}/rollouts/x?state=failed"), format!("{HOME}?a=1")] {
            assert_eq!(back_to(&ours), ours);
        }
        for others in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/api/dashboardx",
            "/api/dashboard//evil",
            "/api/dashboard/../x",
            "/api/dashboard/\\x",
            "/api/dashboard/\r\nx",
        ] {
            assert_eq!(back_to(others), HOME, "{others:?}");
        }
    }

    #[test]
    fn attempts_are_counted_by_the_address_that_the_front_end_saw() {
        for (forwarded, expected) in [
            ("6.6.6.6, 10.0.0.1:4711", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:db8:0:7:8::1]:4711", "2001:db8:0:7::"),
            ("2001:db8:0:7::1", "2001:db8:0:7::"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
            ("somebody", "somebody"),
        ] {
            assert_eq!(address(&headers(&[("x-forwarded-for", forwarded)])), expected);
        }
        assert_eq!(address(&HeaderMap::new()), "");
    }
}
