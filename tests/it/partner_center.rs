//! Partner Center asked over HTTP: lists with either name of the next page, every bad answer, and where tokens go.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use permafresh::access::certificate::{ClientCertificate, InvalidCertificate};
use permafresh::access::credential::{IdentityConfig, TokenSource};
use permafresh::partner_center::client::MOST_PAGES;
use permafresh::partner_center::simulator::{Call, NextLink, OnCall, Publication, Reply, Simulator, SimulatorConfig};
use permafresh::partner_center::{PartnerCenter, PartnerCenterConfig, Trouble, TroubleKind};
use permafresh::rollout::Target;
use permafresh::rollout::package::role_name;
use permafresh::rollout::submission::{Standing, States};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::manual_clock::ManualClock;

pub const PEM: &str = include_str!("../data/certificates/client.pem");
const ACTION: &str = "Microsoft.Web/sites/restart/action";

struct Scene {
    simulator: Simulator,
    client: PartnerCenter,
}

fn http() -> reqwest::Client {
    // Another test may have been first; either way there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn identity(simulator: &Simulator) -> IdentityConfig {
    IdentityConfig {
        tenant_id: Some("5d0f7a10-0000-4000-8000-00000000f001".into()),
        client_id: Some("0b1ec700-0000-4000-8000-00000000aa01".into()),
        client_secret: Some("simulated".into()),
        authority_host: Some(simulator.endpoint().to_string()),
        ..IdentityConfig::default()
    }
}

impl Scene {
    async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    async fn with(change: impl FnOnce(&mut SimulatorConfig), who: impl FnOnce(&mut IdentityConfig)) -> Self {
        let clock = Arc::new(ManualClock::new());
        let mut config = SimulatorConfig { keep_requests: 1_000, clock: clock.clone(), ..SimulatorConfig::default() };
        change(&mut config);
        let simulator = Simulator::start(config).await.unwrap();
        let mut identity = identity(&simulator);
        who(&mut identity);
        let tokens = TokenSource::new(identity, || Ok(http()), clock.clone());
        let mut config = PartnerCenterConfig::for_endpoint(simulator.endpoint().clone());
        (config.call_timeout, config.list_timeout) = (Duration::from_millis(500), Duration::from_secs(20));
        let client = PartnerCenter::new(config, tokens, clock).unwrap();
        Self { simulator, client }
    }

    async fn product(&self) -> String {
        self.client.product("ledger").await.unwrap().expect("the offer is there")
    }

    /// What became of one reading of the submissions, answered so.
    async fn submissions_answered(&self, script: OnCall) -> Trouble {
        let product = self.product().await;
        self.simulator.on(Call::Submissions, [script]);
        self.client.submissions(&product).await.unwrap_err()
    }
}

fn answered(status: u16, body: &str) -> OnCall {
    OnCall::Answer(Reply::json(status, body))
}

#[tokio::test]
async fn an_offer_is_read_from_its_id_to_the_permissions_it_published() {
    for next_link in [NextLink::OData, NextLink::Bare] {
        let scene = Scene::with(|config| (config.page_size, config.next_link) = (1, next_link), |_| {}).await;
        for version in ["1.3.0", "1.4.0", "1.5.0"] {
            scene.simulator.publish(&Publication::live(version, ACTION));
        }
        scene.simulator.add_plan("ledger", "premium");
        let product = scene.product().await;
        let variants = scene.client.variants(&product).await.unwrap();
        assert_eq!(variants.iter().map(|variant| variant.plan.as_str()).collect::<Vec<_>>(), ["standard", "premium"]);
        let submissions = scene.client.submissions(&product).await.unwrap();
        assert_eq!(submissions.len(), 3, "three pages with one each");
        let instance = submissions[2].package(&variants[0].id).unwrap();
        let published = scene.client.package(&product, instance).await.unwrap();
        assert_eq!(published.version.to_string(), "1.5.0");
        assert_eq!(published.package.allowed_control_actions, [ACTION]);
        assert_eq!(scene.client.product("somebody-else").await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_offer_is_not_taken_for_another_where_the_filter_is_passed_over() {
    let scene = Scene::start().await;
    let product = |id: &str, offer: &str| {
        json!({"resourceType": "AzureApplication", "id": id,
            "externalIDs": [{"type": "AzureOfferId", "value": offer}]})
    };
    let all = json!({"value": [product("1", "vault"), product("2", "Ledger")]}).to_string();
    scene.simulator.on(Call::Product, [answered(200, &all)]);
    assert_eq!(scene.product().await, "2");
    let others = json!({"value": [product("1", "vault")]}).to_string();
    scene.simulator.on(Call::Product, [answered(200, &others)]);
    assert_eq!(scene.client.product("ledger").await.unwrap(), None);
}

/// A recorded list, its items on a page each; the next page is named so.
fn recorded(body: &str, path: &str, next_link: &str) -> Vec<OnCall> {
    let body: Value = serde_json::from_str(body).unwrap();
    let items = body["value"].as_array().unwrap();
    let page = |(at, item): (usize, &Value)| {
        let mut page = json!({"value": [item]});
        if at + 1 < items.len() {
            page[next_link] = format!("{path}?page={}", at + 1).into();
        }
        answered(200, &page.to_string())
    };
    items.iter().enumerate().map(page).collect()
}

/// The shapes of contracts/offer-publish.md §3.2 to §3.4, answer by answer.
#[tokio::test]
async fn answers_in_the_recorded_shapes_are_understood() {
    let (live, preview) = (Standing::Reached(Target::Live), Standing::Reached(Target::Preview));
    for next_link in ["@odata.nextLink", "nextLink"] {
        let scene = Scene::start().await;
        let replay = |call: Call, body: &str, path: &str| {
            // A whole URL, as the specification has it, or a path without its slash, as scripts meet it.
            let origin = if next_link == "nextLink" { "" } else { scene.simulator.endpoint().as_str() };
            scene.simulator.on(call, recorded(body, &format!("{origin}v1.0/ingestion/{path}"), next_link));
        };
        replay(Call::Product, include_str!("../data/partner-center/products.json"), "products");
        let product = scene.product().await;
        assert_eq!(product, "3f0f7c1e-52a1-4d0b-9d6c-000000000011");

        let path = format!("products/{product}");
        replay(Call::Variants, include_str!("../data/partner-center/variants.json"), &format!("{path}/variants"));
        let variants = scene.client.variants(&product).await.unwrap();
        assert_eq!(variants.len(), 1, "the template is no managed application: {variants:?}");
        assert_eq!(variants[0].plan, "standard");

        let list = format!("{path}/submissions");
        replay(Call::Submissions, include_str!("../data/partner-center/submissions.json"), &list);
        let submissions = scene.client.submissions(&product).await.unwrap();
        let said: Vec<_> = submissions
            .iter()
            .map(|submission| {
                let package = submission.package(&variants[0].id).unwrap();
                (submission.release_number, &package[16..], States::default().standing(submission))
            })
            .collect();
        let expected = [
            (Some(7), "201", live),
            (Some(8), "202", preview),
            (Some(9), "203", Standing::Moving),
            (Some(10), "204", preview),
        ];
        assert_eq!(said, expected);
        assert_eq!(submissions[0].published_at.unwrap().to_rfc3339(), "2026-02-03T08:15:00+00:00");

        replay(Call::Package, include_str!("../data/partner-center/package-configuration.json"), "none");
        let published = scene.client.package(&product, "1152921505690000202").await.unwrap();
        assert_eq!(published.version.to_string(), "1.4.2");
        let package = published.package;
        let actions = [
            "Microsoft.Network/virtualNetworks/join/action",
            "Microsoft.Network/virtualNetworks/subnets/join/action",
            "Microsoft.Web/sites/restart/action",
        ];
        assert_eq!(package.allowed_control_actions, actions);
        assert_eq!(package.allowed_data_actions, ["Microsoft.KeyVault/vaults/secrets/getSecret/action"]);
        assert_eq!((package.jit_offered, package.customer_actions_enabled), (Some(true), Some(true)));
        let roles: Vec<_> =
            package.public_azure.authorizations.iter().map(|of| role_name(&of.role_definition_id)).collect();
        assert_eq!(roles, ["Contributor", "Owner"]);
        assert!(package.unknown.is_empty(), "{:?}", package.unknown);

        let asked: Vec<_> =
            scene.simulator.requests().into_iter().filter(|r| r.method == "GET").map(|r| r.target).collect();
        let filter = "$filter=externalIDs/Any(i:i/type%20eq%20'AzureOfferId'%20and%20i/value%20eq%20'ledger')";
        assert_eq!(asked[0], format!("/v1.0/ingestion/products?{filter}"));
        assert_eq!(asked[2], format!("/v1.0/ingestion/{path}/variants?page=1"));
        assert_eq!(asked[6], format!("/v1.0/ingestion/{list}?page=3"));
        let package = format!("{path}/packageConfigurations/getByInstanceID(instanceID=1152921505690000202)");
        assert_eq!(asked[7..], [format!("/v1.0/ingestion/{package}")]);
    }
}

#[tokio::test]
async fn every_bad_answer_is_a_trouble_of_its_own_kind_and_says_what_to_do() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let cut_off = &json!({"value": [{"id": "1"}]}).to_string()[..18];
    for (script, word) in [
        (OnCall::Answer(Reply::html(200)), "unreadable"),
        (OnCall::Answer(Reply::html(502)), "unavailable"),
        (answered(200, cut_off), "unreadable"),
        (answered(200, ""), "unreadable"),
        (answered(200, "[]"), "unreadable"),
        (answered(200, "{}"), "unreadable"),
        (answered(200, r#"{"value": {"id": "1"}}"#), "unreadable"),
        (answered(200, r#"{"value": [1]}"#), "unreadable"),
        (answered(200, r#"{"value": [{"state": "Published"}]}"#), "unreadable"),
        (answered(200, r#"{"value": [{"id": "../x", "state": "Published"}]}"#), "unreadable"),
        (answered(200, r#"{"statusCode": 500, "message": "x"}"#), "unavailable"),
        (answered(403, r#""no""#), "forbidden"),
        (answered(404, ""), "notFound"),
        (answered(400, r#""The filter is wrong""#), "rejected"),
        (answered(409, ""), "rejected"),
        (OnCall::Answer(Reply::redirect("https://evil.example/")), "rejected"),
        (answered(408, ""), "unavailable"),
        (answered(500, ""), "unavailable"),
        (answered(503, ""), "unavailable"),
        (OnCall::Reset, "noAnswer"),
        (OnCall::Hang, "noAnswer"),
    ] {
        let trouble = scene.submissions_answered(script.clone()).await;
        assert_eq!(trouble.kind.word(), word, "{script:?}: {trouble}");
        assert!(trouble.to_string().contains("the submissions of an offer"), "{trouble}");
    }
    let rejected = scene.submissions_answered(answered(400, "\"The\u{7} filter\n is wrong\"")).await.to_string();
    assert!(rejected.contains("it answered 400: \"The filter is wrong\""), "{rejected}");
    let forbidden = scene.submissions_answered(answered(403, "")).await.to_string();
    assert!(forbidden.contains("Manager role"), "{forbidden}");
}

#[tokio::test]
async fn a_throttled_answer_names_its_wait() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let trouble = scene.submissions_answered(OnCall::Answer(Reply::throttled(1800))).await;
    assert_eq!((trouble.kind, trouble.wait), (TroubleKind::Throttled, Some(Duration::from_secs(1800))));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    scene.product().await;
    scene.simulator.revoke_tokens();
    scene.product().await;
    assert_eq!(scene.simulator.calls(Call::Token), 2);
    scene.simulator.on(Call::Product, [answered(401, ""), answered(401, "")]);
    let trouble = scene.client.product("ledger").await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unauthorized);
    assert_eq!(scene.simulator.calls(Call::Token), 3, "a new token once, and no more");
}

#[tokio::test]
async fn a_wrong_secret_names_the_settings_and_shows_nothing() {
    let scene = Scene::with(|_| {}, |who| who.client_secret = Some("hush".into())).await;
    let trouble = scene.client.product("ledger").await.unwrap_err();
    assert_eq!(trouble.kind.word(), "noToken");
    let text = format!("{trouble} {trouble:?}");
    assert!(text.contains("PARTNER_CENTER_CLIENT_ID") && !text.contains("hush"), "{text}");
    assert_eq!(scene.simulator.calls(Call::Product), 0);
}

#[tokio::test]
async fn a_certificate_signs_for_the_application() {
    let certificate = ClientCertificate::from_pem(PEM).unwrap();
    let scene =
        Scene::with(|_| {}, |who| (who.client_secret, who.client_certificate) = (None, Some(certificate))).await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    scene.product().await;
    let claims = signed_claims(&scene.simulator.requests()[0].body);
    assert_eq!(claims["iss"], claims["sub"]);
    assert!(claims["aud"].as_str().unwrap().ends_with("/5d0f7a10-0000-4000-8000-00000000f001/oauth2/v2.0/token"));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
}

/// The claims of the assertion in a form, which the test's certificate has signed.
pub fn signed_claims(body: &str) -> Value {
    let value = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap();
    assert!(value("client_assertion_type").ends_with("jwt-bearer"), "{body}");
    assert!(!body.contains("client_secret"), "{body}");
    let assertion = value("client_assertion");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let part = |at: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').nth(at).unwrap()).unwrap()).unwrap()
    };
    assert_eq!((&part(0)["alg"], part(0)["x5t#S256"].as_str().unwrap().len()), (&json!("PS256"), 43));
    let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(PEM.as_bytes()).unwrap() else { panic!("PKCS #8") };
    let key = ring::signature::RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public =
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, ring::signature::KeyPair::public_key(&key).as_ref().to_vec());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    part(1)
}

#[test]
fn a_text_that_is_no_certificate_is_refused_and_a_single_line_is_not() {
    let one_line = PEM.replace('\n', "\\n");
    assert!(ClientCertificate::from_pem(&one_line).is_ok());
    assert_eq!(format!("{:?}", ClientCertificate::from_pem(PEM).unwrap()), "ClientCertificate(redacted)");
    let (certificate, key) = PEM.split_at(PEM.find("-----BEGIN PRIVATE").unwrap());
    assert_eq!(ClientCertificate::from_pem(certificate).unwrap_err(), InvalidCertificate::NoKey);
    assert_eq!(ClientCertificate::from_pem(key).unwrap_err(), InvalidCertificate::NoCertificate);
    let other = format!("{certificate}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert_eq!(ClientCertificate::from_pem(&other).unwrap_err(), InvalidCertificate::NotRsa);
    assert!(ClientCertificate::from_pem("").is_err());
}

#[tokio::test]
async fn a_list_that_does_not_end_is_given_up() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let product = scene.product().await;
    let next = |to: String| answered(200, &json!({"value": [], "nextLink": to}).to_string());
    let own = format!("/v1.0/ingestion/products/{product}/submissions");
    let trouble = scene.submissions_answered(next(own.clone())).await;
    assert!(trouble.to_string().contains("names itself"), "{trouble}");
    scene.simulator.on(Call::Submissions, (0..=MOST_PAGES).map(|page| next(format!("{own}?page={page}"))));
    let before = scene.simulator.calls(Call::Submissions);
    let trouble = scene.client.submissions(&product).await.unwrap_err();
    assert!(trouble.to_string().contains("more than 50 pages"), "{trouble}");
    assert_eq!(scene.simulator.calls(Call::Submissions) - before, MOST_PAGES as u64);
}

#[tokio::test]
async fn a_list_of_exactly_as_many_pages_as_are_read_is_whole() {
    let scene = Scene::with(|config| config.page_size = 1, |_| {}).await;
    for patch in 0..MOST_PAGES {
        scene.simulator.publish(&Publication::live(&format!("1.0.{patch}"), ACTION));
    }
    let product = scene.product().await;
    assert_eq!(scene.client.submissions(&product).await.unwrap().len(), MOST_PAGES);
}

#[tokio::test]
async fn a_list_that_takes_too_long_is_given_up() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let product = scene.product().await;
    let clock = Arc::new(ManualClock::new());
    let tokens = TokenSource::new(identity(&scene.simulator), || Ok(http()), clock.clone());
    let mut config = PartnerCenterConfig::for_endpoint(scene.simulator.endpoint().clone());
    config.list_timeout = Duration::from_millis(50);
    let client = PartnerCenter::new(config, tokens, clock).unwrap();
    scene.simulator.on(Call::Submissions, [OnCall::Hang]);
    let trouble = client.submissions(&product).await.unwrap_err();
    assert_eq!(trouble.kind.word(), "endless", "{trouble}");
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_asked_for_and_gets_no_token() {
    let elsewhere = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = elsewhere.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = elsewhere.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"value\":[]}").await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let own = scene.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
    for link in [
        format!("http://{address}/v1.0/ingestion/x"),
        "https://evil.example/x".to_owned(),
        format!("{own}@evil.example/x"),
        "//evil.example/x".to_owned(),
        "evil.example/x".to_owned(),
        own.replace("http://", "https://"),
    ] {
        for name in ["nextLink", "@odata.nextLink"] {
            let trouble =
                scene.submissions_answered(answered(200, &json!({"value": [], name: link}).to_string())).await;
            assert_eq!(trouble.kind.word(), "linkRefused", "{link}: {trouble}");
        }
    }
    assert!(!asked.is_finished(), "nobody called there");
    asked.abort();
}

#[tokio::test]
async fn a_link_with_spaces_and_without_its_slash_is_followed() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let product = scene.product().await;
    let link = format!("v1.0/ingestion/products/{product}/submissions?$filter=state eq 'Published'");
    scene.simulator.on(Call::Submissions, [answered(200, &json!({"value": [], "nextLink": link}).to_string())]);
    assert_eq!(scene.client.submissions(&product).await.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_ever_posted_there_but_for_tokens() {
    let scene = Scene::start().await;
    scene.simulator.publish(&Publication::live("1.5.0", ACTION));
    let product = scene.product().await;
    scene.client.submissions(&product).await.unwrap();
    let posts: Vec<_> =
        scene.simulator.requests().into_iter().filter(|request| request.method != "GET").map(|r| r.target).collect();
    assert_eq!(posts, ["/5d0f7a10-0000-4000-8000-00000000f001/oauth2/v2.0/token"]);
}
