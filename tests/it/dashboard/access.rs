//! Who is let in and what a form has to carry: the login, its session and its end, App Service authentication, headers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::functions::wire::caller::IsVouched;
use permafresh::functions::{Handle, router};
use permafresh::store::PageRequest;
use serde_json::json;

use super::{HOME, HOST, Visit, addresses, paused_by, send};
use crate::faults::{Fault, Faults, FaultyStore};
use crate::world::{DASHBOARD_KEY, Options, World};

#[tokio::test]
async fn without_a_session_every_address_leads_to_the_login() {
    let world = World::new().await;
    world.deploy(3).await;
    let id = world.publish(json!({})).await;
    let visit = Visit::to(&world);
    for address in addresses(id).into_iter().chain(["/nothing".into(), "/rollouts/x/y/z".into()]) {
        let answer = visit.get(&address).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{address}");
        assert!(answer.header("location").starts_with("/api/dashboard/login"), "{address}");
        assert!(answer.body.is_empty() && !answer.header("cache-control").is_empty(), "{address}");
    }
    for address in [format!("/rollouts/{id}/command"), "/switch".into(), "/logout".into()] {
        let answer = visit.post(&address, "command=pause&to=stop&token=x").await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/api/dashboard/login"));
    }
    assert_eq!(world.rollout(id).await["state"], "planning");
    assert_eq!(paused_by(&world).await, None);
    let visit = visit.sign_in().await;
    for address in addresses(id) {
        visit.page(&address).await;
    }
    assert_eq!(visit.get("/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_right_key_begins_a_session_that_ends_by_itself_and_leads_back() {
    let world = World::new().await;
    let visit = Visit::to(&world);
    let login = visit.get("/rollouts?state=failed").await;
    assert_eq!(login.header("location"), "/api/dashboard/login?next=%2Fapi%2Fdashboard%2Frollouts%3Fstate%3Dfailed");
    let page = visit.page("/login?next=%2Fapi%2Fdashboard%2Frollouts%3Fstate%3Dfailed").await;
    assert!(page.contains(r#"name="next" value="/api/dashboard/rollouts?state=failed""#), "{page}");
    let answer = visit.post("/login", &format!("key={DASHBOARD_KEY}&next=/api/dashboard/rollouts")).await;
    assert_eq!(answer.header("location"), "/api/dashboard/rollouts");
    let cookie = answer.header("set-cookie");
    for part in ["permafresh-session=1.", "; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=28800"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    assert!(!cookie.contains(DASHBOARD_KEY) && !answer.header("location").contains("key"));
    let evil = visit.post("/login", &format!("key={DASHBOARD_KEY}&next=https://evil.example/")).await;
    assert_eq!(evil.header("location"), HOME);

    let visit = visit.sign_in().await;
    visit.page("").await;
    world.advance(Duration::from_secs(8 * 60 * 60));
    assert_eq!(visit.get("").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_https_and_this_host_only() {
    let world = World::new().await;
    let visit = Visit::to(&world);
    let front = [("x-forwarded-host", "x.azurewebsites.net"), ("x-forwarded-proto", "https")];
    let answer = visit.post_from("/login", &format!("key={DASHBOARD_KEY}"), &front).await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-permafresh-session=") && cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test]
async fn wrong_keys_are_counted_and_the_right_one_is_never_shown() {
    let world = World::new().await;
    let visit = Visit::to(&world);
    for _ in 0..10 {
        let answer = visit.post("/login", "key=wrong").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.body.contains("That is not the key.") && answer.header("set-cookie").is_empty());
    }
    let answer = visit.post("/login", &format!("key={DASHBOARD_KEY}")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    assert!(!answer.body.contains(DASHBOARD_KEY));
    world.advance(Duration::from_secs(60));
    visit.sign_in().await;
}

#[tokio::test]
async fn wrong_keys_from_everywhere_keep_nobody_out_who_has_sent_none() {
    let world = World::new().await;
    let visit = Visit::to(&world);
    let try_from = async |address: &str, key: &str| {
        let from = [("x-forwarded-for", address), ("sec-fetch-site", "same-origin")];
        visit.post_from("/login", &format!("key={key}"), &from).await.status
    };
    for number in 0..100 {
        assert_eq!(try_from(&format!("192.0.2.{}:4711", number / 5), "wrong").await, StatusCode::FORBIDDEN);
    }
    assert_eq!(try_from("192.0.2.7", "wrong").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(try_from("192.0.2.7", DASHBOARD_KEY).await, StatusCode::TOO_MANY_REQUESTS, "or it could go on guessing");
    assert_eq!(try_from("198.51.100.1", DASHBOARD_KEY).await, StatusCode::SEE_OTHER);
    assert_eq!(try_from("198.51.100.1", DASHBOARD_KEY).await, StatusCode::SEE_OTHER, "as often as they like");
    assert_eq!(try_from("2001:db8::1", "wrong").await, StatusCode::FORBIDDEN);
    assert_eq!(try_from("2001:db8::2", "wrong").await, StatusCode::TOO_MANY_REQUESTS, "of the same network");
}

#[tokio::test]
async fn a_session_that_was_signed_out_is_none_for_whoever_has_its_cookie() {
    let world = World::new().await;
    let visit = Visit::signed_in(&world).await;
    let others = Visit::signed_in(&world).await;
    let another_handler = world.handler(world.another_store(), world.another_queue());
    let stolen = Visit { router: another_handler, cookie: visit.cookie.clone() };
    let token = visit.get("").await.token();
    stolen.page("").await;

    assert_eq!(visit.post("/logout", "token=x").await.status, StatusCode::FORBIDDEN, "nobody else ends it");
    stolen.page("").await;
    let answer = visit.post("/logout", &format!("token={token}")).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/api/dashboard/login"));
    assert!(answer.header("set-cookie").contains("Max-Age=0"), "{}", answer.header("set-cookie"));
    for old in [&visit, &stolen] {
        let answer = old.get("/rollouts").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert!(answer.header("location").starts_with("/api/dashboard/login"));
        assert_eq!(old.post("/switch", &format!("to=stop&token={token}")).await.status, StatusCode::SEE_OTHER);
    }
    assert_eq!(world.get("/api/audit").await["value"], json!([]), "the old cookie has stopped nothing");
    others.page("").await;

    // It is remembered for as long as the cookie would have been worth something.
    let noted = async || world.store.documents("signed-out", "", &PageRequest { continuation: None, top: 9 }).await;
    world.advance(Duration::from_secs(7 * 60 * 60));
    world.tick().await;
    assert_eq!(noted().await.unwrap().items.len(), 1);
    world.advance(Duration::from_secs(2 * 60 * 60));
    world.tick().await;
    assert!(noted().await.unwrap().items.is_empty());
}

#[tokio::test]
async fn who_cannot_be_signed_out_is_told_so_and_may_try_again() {
    let world = World::new().await;
    let faults = Faults::none();
    let store = FaultyStore::over(&world.store, &faults);
    let router = router(Handle::ready(world.app(store, Arc::clone(&world.queue))));
    let visit = Visit { router, cookie: String::new() }.sign_in().await;
    let leave = format!("token={}", visit.get("").await.token());
    faults.set(Fault::OutageOf { name: "document", after: 0 });
    assert_eq!(visit.get("").await.status, StatusCode::INTERNAL_SERVER_ERROR, "a session that may have ended is none");
    faults.set(Fault::OutageOf { name: "save_document", after: 0 });
    let answer = visit.post("/logout", &leave).await;
    faults.set(Fault::None);
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.header("set-cookie").is_empty(), "the browser keeps what is needed to try again");
    assert_eq!(visit.post("/logout", &leave).await.status, StatusCode::SEE_OTHER);
    assert_eq!(visit.get("").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn without_a_key_the_dashboard_is_off_and_says_so() {
    let world = World::with(Options { dashboard_key: None, ..Options::default() }).await;
    let visit = Visit::to(&world);
    for address in ["", "/login", "/rollouts"] {
        let answer = visit.get(address).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{address}");
        assert!(answer.body.contains("DASHBOARD_KEY") && answer.body.contains("<h1>"), "{}", answer.body);
    }
    assert_eq!(visit.post("/login", "key=").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// `X-MS-CLIENT-PRINCIPAL` as App Service writes it.
fn principal() -> String {
    STANDARD.encode(r#"{"auth_typ":"aad","claims":[{"typ":"name","val":"Kim <b>Bold</b>"}]}"#)
}

#[tokio::test]
async fn a_principal_counts_only_where_a_setting_says_so_and_its_forms_are_guarded_too() {
    let get = |address: &str, cookie: &str| {
        let request = Request::get(format!("{HOME}{address}")).header("host", HOST).header("cookie", cookie);
        request.header("x-ms-client-principal", principal()).body(Body::empty()).unwrap()
    };
    let world = World::new().await;
    assert_eq!(send(&Visit::to(&world).router, get("", "")).await.status, StatusCode::SEE_OTHER);

    let options = Options { dashboard_key: None, principals: IsVouched::Yes, ..Options::default() };
    let world = World::with(options).await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let visit = Visit::to(&world);
    assert_eq!(visit.get("").await.status, StatusCode::UNAUTHORIZED, "nobody is signed in");
    let page = send(&visit.router, get("/switch?to=stop", "")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Kim &lt;b&gt;Bold&lt;/b&gt;") && !page.body.contains("<b>Bold"), "{}", page.body);
    let (token, cookie) = (page.token(), page.cookie());
    assert!(page.header("set-cookie").contains("SameSite=Strict"));
    let pause = async |token: &str, cookie: &str| {
        let request = Request::post(format!("{HOME}/rollouts/{id}/command"))
            .header("host", HOST)
            .header("cookie", cookie)
            .header("x-ms-client-principal", principal());
        send(&visit.router, request.body(format!("command=pause&token={token}").into()).unwrap()).await.status
    };
    assert_eq!(pause(&token, "").await, StatusCode::FORBIDDEN);
    assert_eq!(pause("", &cookie).await, StatusCode::FORBIDDEN);
    assert_eq!(pause(&token, &cookie).await, StatusCode::SEE_OTHER);
    assert_eq!(paused_by(&world).await.as_deref(), Some("Kim <b>Bold</b>"));
}

#[tokio::test]
async fn a_form_that_is_forged_or_comes_from_elsewhere_does_nothing() {
    let world = World::new().await;
    world.deploy(3).await;
    let id = world.publish(json!({})).await;
    let visit = Visit::signed_in(&world).await;
    let token = visit.get(&format!("/rollouts/{id}/confirm?command=pause")).await.token();
    let others = Visit::signed_in(&world).await.get("").await.token();
    let command = format!("/rollouts/{id}/command");
    for forged in [String::new(), "x".into(), others] {
        let answer = visit.post(&command, &format!("command=pause&token={forged}")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{forged}");
    }
    let form = format!("command=pause&token={token}");
    for elsewhere in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        assert_eq!(visit.post_from(&command, &form, elsewhere).await.status, StatusCode::FORBIDDEN, "{elsewhere:?}");
    }
    assert_eq!(world.rollout(id).await["state"], "planning");

    let answer = visit.post(&command, &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(answer.header("location"), format!("{HOME}/rollouts/{id}?done=pause"));
    assert_eq!(world.rollout(id).await["state"], "paused");
    assert_eq!(paused_by(&world).await.as_deref(), Some("dashboard key"));
}

#[tokio::test]
async fn every_answer_keeps_others_out_and_nothing_back() {
    let world = World::new().await;
    let visit = Visit::signed_in(&world).await;
    let out = Visit::to(&world);
    for answer in [visit.get("").await, visit.get("/nothing").await, out.get("").await, out.get("/login").await] {
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{part} is not in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store");
        // What the policy would not let run is not there in the first place.
        for inline in [" style=", "<style", " onclick=", "javascript:", "://"] {
            let body = answer.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!body.contains(inline), "{inline} is in {body}");
        }
    }
    for name in ["style.css", "script.js", "icon.svg"] {
        let answer = out.get(&format!("/assets/{name}")).await;
        assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-cache"));
        let request = Request::get(format!("{HOME}/assets/{name}")).header("if-none-match", answer.header("etag"));
        let again = send(&out.router, request.body(Body::empty()).unwrap()).await;
        assert!(again.status == StatusCode::NOT_MODIFIED && again.body.is_empty(), "{name}");
    }
    assert_eq!(out.get("/assets/..%2fmod.rs").await.status, StatusCode::NOT_FOUND);
}
