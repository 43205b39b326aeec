//! Partner Center's webhook: only Microsoft is believed, and even then Graph decides.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use permafresh::access::gdap::GdapError;
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::access::gdap::webhook::{NotBelieved, Verifier};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;

use tokio::net::TcpListener;

use super::scene::{Scene, TENANT, http};

const KEY: &str = include_str!("../../data/gdap/webhook-test-only.key.pem");
const RELATIONSHIP: &str = "4e5f6071-8293-4a4b-9c5d-6e7f80910213";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "A root of a test");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate of the test's RSA key.
    fn certificate(&self, organisation: &str, until: i32) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.distinguished_name.push(DnType::CommonName, "notifications");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::from_pem(KEY).unwrap();
        params.signed_by(&key, &self.0).unwrap().der().to_vec()
    }
}

fn signature(body: &str) -> String {
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), body.as_bytes(), &mut signature).unwrap();
    STANDARD.encode(signature)
}

fn event(name: &str) -> String {
    json!({"EventName": name, "ResourceUri": format!("https://partner.microsoft.com/granularAdminRelationships/{RELATIONSHIP}"),
        "ResourceName": "granularAdminRelationship", "AuditUri": null, "ResourceChangeUtcDate": "2026-03-08T10:00:00.0000000+00:00"})
    .to_string()
}

async fn scene() -> (Scene, Authority) {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.roots = vec![authority.root()];
    scene.serve();
    scene.simulator.serve_certificate(authority.certificate("Microsoft Corporation", 2030));
    (scene, authority)
}

fn post(scene: &Scene, body: &str) -> axum::http::request::Builder {
    Request::post("/api/consent/webhook")
        .header("authorization", format!("Signature {}", signature(body)))
        .header("x-ms-certificate-url", format!("{}certificate.cer", scene.simulator.endpoint()))
        .header("x-ms-signature-algorithm", "rsa-sha256")
}

async fn send(scene: &Scene, body: &str) -> StatusCode {
    scene.world.request(post(scene, body).body(Body::from(body.to_owned())).unwrap()).await.0
}

#[tokio::test]
async fn an_active_relationship_brings_consent_and_an_ended_one_parks_the_customer() {
    let (scene, _) = scene().await;
    scene.simulator.add_relationship(RELATIONSHIP, TENANT, "active");
    assert_eq!(send(&scene, &event("granular-admin-relationship-activated")).await, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.has_consented().await);

    scene.simulator.move_relationship(RELATIONSHIP, "terminated");
    assert_eq!(send(&scene, &event("granular-admin-relationship-terminated")).await, StatusCode::OK);
    scene.world.deliver().await;
    let error = scene.engine().gdap_token(TENANT).await.unwrap().unwrap_err();
    assert!(matches!(error, GdapError::NoRelationship { .. }), "{error}");

    scene.simulator.move_relationship(RELATIONSHIP, "active");
    scene.world.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(send(&scene, &event("granular-admin-relationship-approved")).await, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.has_consented().await);
}

#[tokio::test]
async fn a_new_relationship_whose_event_was_lost_is_found_within_a_day() {
    let (scene, _) = scene().await;
    scene.simulator.add_relationship(RELATIONSHIP, TENANT, "terminated");
    assert_eq!(send(&scene, &event("granular-admin-relationship-terminated")).await, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.parked().await.is_some());
    let day = std::time::Duration::from_secs(86_400);
    for (status, is_back) in [(None, false), (Some("approvalPending"), false), (Some("active"), true)] {
        if let Some(status) = status {
            scene.simulator.add_relationship("another", TENANT, status);
        }
        scene.world.advance(day);
        scene.engine().renew_tokens().await.unwrap();
        scene.world.deliver().await;
        assert_eq!(scene.has_consented().await, is_back, "{status:?}");
    }
}

#[tokio::test]
async fn a_signature_is_taken_from_the_other_header_too_with_its_scheme_or_without() {
    let (scene, _) = scene().await;
    let body = event("test-created");
    for value in [signature(&body), format!("Signature {}", signature(&body))] {
        let mut request = post(&scene, &body).body(Body::from(body.clone())).unwrap();
        request.headers_mut().remove("authorization");
        request.headers_mut().insert("x-ms-signature", value.parse().unwrap());
        assert_eq!(scene.world.request(request).await.0, StatusCode::OK, "{value:.20}");
    }
}

#[tokio::test]
async fn graph_decides_and_not_the_event() {
    let (scene, _) = scene().await;
    scene.simulator.add_relationship(RELATIONSHIP, TENANT, "active");
    assert_eq!(send(&scene, &event("granular-admin-relationship-terminated")).await, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.has_consented().await, "it is active, whatever the event says");
    scene.simulator.move_relationship(RELATIONSHIP, "expired");
    scene.simulator.add_relationship("another", TENANT, "active");
    assert_eq!(send(&scene, &event("granular-admin-relationship-expired")).await, StatusCode::OK);
    scene.world.deliver().await;
    assert!(scene.has_consented().await, "another relationship is in force");
}

#[tokio::test]
async fn who_is_not_microsoft_is_not_believed() {
    let (scene, authority) = scene().await;
    let good = event("granular-admin-relationship-terminated");
    scene.simulator.add_relationship(RELATIONSHIP, TENANT, "terminated");
    let changed = good.replace("terminated", "activated");
    let unauthorized = |request: Request<Body>| async {
        let (status, body) = scene.world.request(request).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    };
    unauthorized(post(&scene, &good).body(Body::from(changed)).unwrap()).await;
    let bare = |header: &str| {
        let mut request = post(&scene, &good).body(Body::from(good.clone())).unwrap();
        request.headers_mut().remove(header);
        request
    };
    for header in ["authorization", "x-ms-certificate-url", "x-ms-signature-algorithm"] {
        unauthorized(bare(header)).await;
    }
    for (header, value) in [
        ("authorization", "Signature !!"),
        ("authorization", "Bearer x"),
        ("x-ms-signature-algorithm", "none"),
        ("x-ms-certificate-url", "https://evil.example/c.cer"),
        ("x-ms-certificate-url", "http://169.254.169.254/c.cer"),
        ("x-ms-certificate-url", "c.cer"),
    ] {
        let mut request = bare(header);
        request.headers_mut().insert(header, value.parse().unwrap());
        unauthorized(request).await;
    }
    assert_eq!(scene.simulator.requests(Call::Certificate).len(), 1);

    for certificate in [
        authority.certificate("Mikrosoft Corporation", 2030),
        authority.certificate("Microsoft Corporation", 2026),
        Authority::new().certificate("Microsoft Corporation", 2030),
        b"<html>no certificate</html>".to_vec(),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
        Vec::new(),
        vec![0x30; 100_000],
    ] {
        let mut scene = Scene::new().await;
        scene.roots = vec![authority.root()];
        scene.serve();
        scene.simulator.serve_certificate(certificate);
        assert_eq!(send(&scene, &good).await, StatusCode::UNAUTHORIZED);
        scene.world.deliver().await;
        assert_eq!(scene.consent().await, None);
    }
    scene.world.deliver().await;
    assert_eq!(scene.consent().await, None);
}

#[tokio::test]
async fn a_certificate_is_fetched_once_and_forgotten_when_it_has_run_out() {
    let (scene, authority) = scene().await;
    scene.simulator.serve_certificate(authority.certificate("Microsoft Corporation", 2027));
    for _ in 0..3 {
        assert_eq!(send(&scene, &event("test-created")).await, StatusCode::OK);
    }
    assert_eq!(scene.simulator.requests(Call::Certificate).len(), 1);
    scene.world.advance(std::time::Duration::from_secs(365 * 86_400));
    assert_eq!(send(&scene, &event("test-created")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn somebody_elses_certificate_is_not_kept_in_the_place_of_microsofts() {
    let (scene, authority) = scene().await;
    scene.simulator.serve_certificate(authority.certificate("Mikrosoft Corporation", 2030));
    for _ in 0..2 {
        assert_eq!(send(&scene, &event("test-created")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(scene.simulator.requests(Call::Certificate).len(), 2);
    scene.simulator.serve_certificate(authority.certificate("Microsoft Corporation", 2030));
    assert_eq!(send(&scene, &event("test-created")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_had_now_is_asked_for_again_and_a_body_that_is_none_is_refused() {
    let (scene, _) = scene().await;
    let reply = Reply::text(302, "").with("location", "https://evil.example/c.cer");
    scene.simulator.on(Call::Certificate, [OnCall::Answer(Reply::text(503, "")), OnCall::Answer(reply), OnCall::Reset]);
    for _ in 0..3 {
        assert_eq!(send(&scene, &event("test-created")).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(send(&scene, "{}").await, StatusCode::BAD_REQUEST);
    assert_eq!(send(&scene, &event("test-created")).await, StatusCode::OK);
}

#[tokio::test]
async fn hosts_of_certificates_that_never_answer_keep_only_a_few_posts_waiting() {
    // Accepts, and says nothing.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", slow.local_addr().unwrap());
    let verifier = std::sync::Arc::new(Verifier::new(http(), origin.parse().unwrap(), Vec::new()));
    let body = event("test-created");
    let scene = Scene::new().await;
    let mut headers = post(&scene, &body).body(()).unwrap().into_parts().0.headers;
    headers.insert("x-ms-certificate-url", format!("{origin}/c.cer").parse().unwrap());
    let now = chrono::DateTime::from_timestamp(1_773_144_000, 0).unwrap();
    let verify = {
        let body = body.clone();
        move || {
            let (verifier, headers, body) = (std::sync::Arc::clone(&verifier), headers.clone(), body.clone());
            async move { verifier.verify(&headers, body.as_bytes(), now).await }
        }
    };
    let waiting: Vec<_> = (0..4).map(|_| tokio::spawn(verify())).collect();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(slow.accept().await.unwrap());
    }
    assert_eq!(verify().await, Err(NotBelieved::CertificateUnavailable));
    assert!(waiting.iter().all(|post| !post.is_finished()), "those who came first are still waiting");
    // One that broke off makes room for another.
    drop(held);
    for post in waiting {
        assert_eq!(post.await.unwrap(), Err(NotBelieved::CertificateUnavailable));
    }
    let next = tokio::spawn(verify());
    slow.accept().await.unwrap();
    next.abort();
}
