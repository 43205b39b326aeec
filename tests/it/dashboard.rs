//! The dashboard through the real router: who is let in, what a form has to carry, what hostile text becomes, and how much
//! a page of ten thousand reads. What a browser makes of it is in [`crate::browser`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome, Reply};
use permafresh::functions::wire::caller::IsVouched;
use permafresh::functions::{Handle, router};
use permafresh::rollout::{Deployment, Plan, RolloutId};
use permafresh::store::Versioned;
use serde_json::json;
use tower::ServiceExt;

use crate::dead_letters::let_die;
use crate::faults::{Faults, FaultyStore};
use crate::world::{DASHBOARD_KEY, Options, World, application, one_wave};

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
async fn the_last_wave_is_approved_by_a_button_of_its_own() {
    let world = World::new().await;
    world.deploy(3).await;
    let strategy = json!({"canaries": 0, "waves": ["100%"], "approveLastWave": true});
    let id = world.publish(json!({"strategy": strategy})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let visit = Visit::signed_in(&world).await;
    let page = visit.page(&format!("/rollouts/{id}")).await;
    assert!(page.contains(r#"value="approve""#) && !page.contains(r#"value="resume""#), "{page}");
    let confirm = visit.get(&format!("/rollouts/{id}/confirm?command=approve")).await;
    assert!(confirm.body.contains("Approve the last wave?"), "{}", confirm.body);
    assert!(confirm.body.contains("remaining 3 of 3"), "{}", confirm.body);
    let command = format!("/rollouts/{id}/command");
    let resume = format!("command=resume&token={}", confirm.token());
    assert_eq!(visit.post(&command, &resume).await.status, StatusCode::CONFLICT);
    assert_eq!(world.rollout(id).await["state"], "paused");
    let approve = format!("command=approve&token={}", confirm.token());
    let answer = visit.post(&command, &approve).await;
    assert_eq!(answer.header("location"), format!("{HOME}/rollouts/{id}?done=approve"));
    let page = visit.page(&format!("/rollouts/{id}?done=approve")).await;
    assert!(page.contains("The last wave is approved."), "{page}");
    assert_eq!(world.settle(id, Duration::from_secs(600)).await["state"], "completed");
}

#[tokio::test]
async fn buttons_stop_everything_let_it_go_on_and_refuse_what_the_state_does_not_allow() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    let visit = Visit::signed_in(&world).await;
    let token = visit.get("").await.token();
    assert_eq!(visit.post("/switch", &format!("to=stop&why=an+odd+mail&token={token}")).await.status.as_u16(), 303);
    let page = visit.page("").await;
    assert!(page.contains("Everything is stopped.") && page.contains("an odd mail"), "{page}");
    world.run_due().await;
    assert_eq!(world.simulator.stats().posts, 0);
    assert_eq!(visit.post("/switch", &format!("to=start&token={token}")).await.status.as_u16(), 303);
    world.settle(id, Duration::from_secs(600)).await;
    let page = visit.page("").await;
    assert!(page.contains("2 of 2 deployments with 1.5.0") && page.contains("100 %"), "{page}");
    let answer = visit.post(&format!("/rollouts/{id}/command"), &format!("command=pause&token={token}")).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let page = visit.page("/audit").await;
    assert!(page.contains("rollout.pause") && page.contains("refused"), "{page}");
}

#[tokio::test]
async fn a_deployment_is_held_and_released_from_its_page_by_whoever_confirms_it() {
    let world = World::new().await;
    world.deploy(1).await;
    let key = application(0).key();
    let path = format!("/deployments/{key}");
    let held = async || world.get(&format!("/api/deployments/{key}")).await["hold"].clone();
    let visit = Visit::signed_in(&world).await;
    let page = visit.page(&path).await;
    assert!(page.contains(r#"value="hold""#) && !page.contains(r#"value="release""#), "{page}");
    let confirm = visit.get(&format!("{path}/confirm?command=hold")).await;
    assert!(confirm.body.contains("Put this deployment on hold?") && confirm.body.contains("ledger-00000"));
    let (command, token) = (format!("{path}/command"), confirm.token());
    for (form, expected) in [
        ("command=hold&why=audit&token=x".to_owned(), StatusCode::FORBIDDEN),
        (format!("command=hold&why=+&token={token}"), StatusCode::BAD_REQUEST),
        (format!("command=hold&why=audit&until=2020-01-01T00:00&token={token}"), StatusCode::BAD_REQUEST),
        (format!("command=hold&why=audit&until=tomorrow&token={token}"), StatusCode::BAD_REQUEST),
        (format!("command=forget&why=audit&token={token}"), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(visit.post(&command, &form).await.status, expected, "{form}");
    }
    let elsewhere = format!("/deployments/{}/command", application(7).key());
    let hold = format!("command=hold&why=their+%3Cb%3Eaudit&until=2030-01-01T00%3A00&token={token}");
    assert_eq!(visit.post(&elsewhere, &hold).await.status, StatusCode::NOT_FOUND);
    assert_eq!(held().await, json!(null));

    let answer = visit.post(&command, &hold).await;
    assert_eq!(answer.header("location"), format!("{HOME}{path}?done=hold"), "{}", answer.body);
    let hold = held().await;
    assert_eq!((&hold["why"], &hold["until"]), (&json!("their <b>audit"), &json!("2030-01-01T00:00:00Z")));
    let page = visit.page(&format!("{path}?done=hold")).await;
    for shown in ["until 2030-01-01 00:00 UTC", "their &lt;b&gt;audit", "It is on hold", r#"value="release""#] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    world.advance(Duration::from_secs(1));
    let answer = visit.post(&command, &format!("command=release&token={token}")).await;
    assert_eq!(answer.header("location"), format!("{HOME}{path}?done=release"), "{}", answer.body);
    assert_eq!(held().await, json!(null));
    let audit = world.get("/api/audit").await;
    let entries: Vec<_> =
        audit["value"].as_array().unwrap().iter().filter(|entry| entry["who"] == "dashboard key").collect();
    let said: Vec<_> =
        entries.iter().map(|entry| (entry["what"].as_str().unwrap(), entry["to"].as_str().unwrap())).collect();
    assert_eq!(said.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["deployment.release", "deployment.hold"]);
    assert_eq!(said[0].1, "not on hold");
}

#[tokio::test]
async fn messages_that_nobody_could_work_off_are_on_the_overview_and_in_a_list_of_their_own() {
    let world = World::new().await;
    world.deploy(1).await;
    let id = world.publish(json!({})).await;
    let visit = Visit::signed_in(&world).await;
    assert!(!visit.page("").await.contains("could not be worked off"));
    let_die(&world, "rollouts").await;
    world.advance(Duration::from_secs(60));
    world.tick().await;
    let page = visit.page("").await;
    assert!(page.contains("1 message could not be worked off") && page.contains("/audit?state=dead"), "{page}");
    let dead = visit.page("/audit?state=dead").await;
    assert!(dead.contains("message.dead") && dead.contains(&format!("{HOME}/rollouts/{id}")), "{dead}");
    assert!(!dead.contains("<b>publish</b>"), "{dead}");
    let commands = visit.page("/audit?state=commands").await;
    assert!(commands.contains("<b>publish</b>") && !commands.contains("message.dead"), "{commands}");
    let found = visit.page("/audit?find=Ledger").await;
    assert!(found.contains("<b>publish</b>") && !found.contains("message.dead"), "{found}");
    world.advance(Duration::from_secs(25 * 60 * 60));
    let visit = visit.sign_in().await;
    assert!(!visit.page("").await.contains("could not be worked off"));
}

#[tokio::test]
async fn what_comes_from_outside_is_shown_as_text_on_every_page() {
    let world = World::new().await;
    let ids = world.deploy(3).await;
    let hostile = r#""><script>hacked()</script><img src=x onerror=hacked()>'"#;
    let row = json!([{"applicationId": ids[0], "publisher": "fabrikam", "offer": "ledger", "plan": "standard",
        "location": hostile, "version": hostile}]);
    let request = Request::put("/api/deployments").header("content-type", "application/json");
    world.request(request.body(row.to_string().into()).unwrap()).await;
    world.simulator.on_post(&ids[0], [OnPost::Reply(Reply::error(400, hostile, hostile))]);
    let id = world.publish(json!({"note": hostile, "strategy": one_wave()})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let visit = Visit::signed_in(&world).await;
    let mut seen = 0;
    let query = format!("/rollouts/{id}?find={}", "%22%3E%3Cscript%3Ehacked()%3C/script%3E");
    for address in addresses(id).into_iter().chain([query]).filter(|address| !address.ends_with(".csv")) {
        let page = visit.page(&address).await;
        assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{address}: {page}");
        seen += usize::from(page.contains("&lt;script&gt;hacked()"));
    }
    assert!(seen >= 5, "the hostile text is on {seen} pages");
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

#[tokio::test]
async fn pages_over_ten_thousand_deployments_read_as_little_as_over_ten() {
    let world = World::new().await;
    let (plan, _) = Plan::parse("fabrikam", "ledger", "standard").unwrap();
    let deployments: Vec<_> = (0..10_000)
        .map(|number| {
            let mut deployment = Deployment::new(application(number), world.now());
            deployment.plan = Some(plan.clone());
            deployment.confirmed = true;
            Versioned::new(deployment)
        })
        .collect();
    world.store.save_deployments(&deployments).await.unwrap();
    let id = world.publish(json!({"strategy": {"canaries": 0, "waves": ["100%"], "maxInFlight": 1}})).await;
    world.deliver().await;
    let faults = Faults::none();
    let store = FaultyStore::over(&world.store, &faults);
    let visit =
        Visit { router: router(Handle::ready(world.app(store, Arc::clone(&world.queue)))), cookie: String::new() };
    let visit = visit.sign_in().await;
    for (address, most, shown) in [
        ("/deployments".to_owned(), 6, 100..=100),
        (format!("/rollouts/{id}"), 8, 100..=100),
        (format!("/rollouts/{id}?state=queued"), 8, 100..=100),
        // It looks at half of them, and asks whether to search on.
        (format!("/rollouts/{id}?find=ledger-09999"), 14, 0..=1),
    ] {
        let before = faults.calls();
        let page = visit.page(&address).await;
        let calls = faults.calls() - before;
        assert!(calls <= most, "{address} read {calls} times");
        let rows = page.matches(r#"<tr><th scope="row"><a class="name""#).count();
        assert!(shown.contains(&rows), "{address} shows {rows} rows");
    }
    // By whole pages to the end, and each row once.
    let (mut next, mut rows) = (Some("/deployments".to_owned()), 0);
    while let Some(address) = next {
        let page = visit.page(&address).await;
        rows += page.matches(r#"<tr><th scope="row"><a class="name""#).count();
        next = page
            .split_once(r#"rel="next" href=""#)
            .map(|(_, rest)| rest.split('"').next().unwrap().strip_prefix(HOME).unwrap().replace("&amp;", "&"));
    }
    assert_eq!(rows, 10_000);
    // By its whole name it is found at once, whichever it is.
    let by_name = format!("/deployments?find={}", application(9_999).to_string().replace('/', "%2F"));
    let before = faults.calls();
    let page = visit.page(&by_name).await;
    assert!(page.contains("ledger-09999") && faults.calls() - before <= 6, "{page}");
}

#[tokio::test]
async fn the_page_of_a_deployment_says_who_has_to_act_once_its_rollout_has_ended() {
    let world = World::new().await;
    let ids = world.deploy(2).await;
    let locked = OnPost::Accept(Acceptance::ending(Outcome::failed("ScopeLocked", "locked by <them>")));
    world.simulator.on_post(&ids[0], [locked]);
    let id = world.publish(json!({"strategy": one_wave()})).await;
    assert_eq!(world.settle(id, Duration::from_secs(3_600)).await["state"], "completed");
    let visit = Visit::signed_in(&world).await;
    let failed = visit.page(&format!("/deployments/{}", ids[0].key())).await;
    for said in
        ["Latest refresh", "locked by &lt;them&gt;", "What to do", "The customer: ask the customer to remove the lock"]
    {
        assert!(failed.contains(said), "{said} is not in\n{failed}");
    }
    assert!(!failed.contains("data-refresh"), "nothing changes by itself");
    let well = visit.page(&format!("/deployments/{}", ids[1].key())).await;
    assert!(!well.contains("Latest refresh") && !well.contains("What to do"), "{well}");
}

#[tokio::test]
async fn the_report_is_downloaded_as_a_file() {
    let world = World::new().await;
    world.deploy(2).await;
    let id = world.publish(json!({"strategy": one_wave()})).await;
    world.settle(id, Duration::from_secs(600)).await;
    let answer = Visit::signed_in(&world).await.get(&format!("/rollouts/{id}/report.csv")).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"rollout-{id}.csv\""));
    assert_eq!(answer.body.lines().count(), 3);
}

#[tokio::test]
async fn the_course_of_a_rollout_outlives_the_process_and_is_drawn() {
    let mut world = World::new().await;
    world.deploy(20).await;
    let id = world.publish(json!({})).await;
    world.settle(id, Duration::from_secs(3_600)).await;
    let another = world.handler(world.another_store(), world.another_queue());
    world.replace_handler(another);
    let page = Visit::signed_in(&world).await.page(&format!("/rollouts/{id}")).await;
    for drawn in [r#"<path class="done""#, r#"<path class="running""#, "at the end 20 done, 0 failed"] {
        assert!(page.contains(drawn), "{drawn} is not in {page}");
    }
    let waves: Vec<_> = ["Canaries", "Wave 2", "Wave 3"].map(|wave| page.find(wave).unwrap_or_default()).into();
    assert!(waves.is_sorted() && waves[0] > 0, "{page}");
}
