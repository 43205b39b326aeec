//! The exchange: what is cached, what is asked, and what a refusal becomes.

use std::time::Duration;

use permafresh::access::certificate::ClientCertificate;
use permafresh::access::credential::TokenSource;
use permafresh::access::gdap::GdapError;
use permafresh::access::gdap::exchange::{AppProof, TokenEndpoint};
use permafresh::access::gdap::scopes::Grant;
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::access::gdap::vault::{KeyVault, Vault};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::scene::{Scene, TENANT, http};
use crate::arm_fixture::Issued;
use crate::partner_center::{PEM, signed_claims};

async fn consented() -> Scene {
    let scene = Scene::new().await;
    scene.change_customer(|customer| customer.has_consented = true);
    scene
}

fn kind(error: &GdapError) -> &'static str {
    match error {
        GdapError::Retry { .. } => "retry",
        GdapError::NeedsConsent { .. } => "consent",
        GdapError::NeedsAdministrator { .. } => "administrator",
        GdapError::ServicePrincipalMissing { .. } => "service principal",
        GdapError::ConsentLacks { .. } => "lacks",
        GdapError::CustomerPolicy { .. } => "policy",
        GdapError::NoRelationship { .. } => "relationship",
        GdapError::InTheWay { .. } => "in the way",
        GdapError::SignInAgain { .. } => "sign in",
        GdapError::Misconfigured { .. } => "misconfigured",
    }
}

#[tokio::test]
async fn a_token_is_kept_until_five_minutes_before_its_end() {
    let scene = consented().await;
    let gdap = scene.gdap();
    let first = gdap.arm_token(TENANT).await.unwrap();
    scene.world.advance(scene.simulator.token_lifetime() - Duration::from_secs(301));
    assert!(gdap.arm_token(&TENANT.to_ascii_uppercase()).await.unwrap() == first);
    scene.world.advance(Duration::from_secs(1));
    assert!(gdap.arm_token(TENANT).await.unwrap() != first);
    assert_eq!(scene.simulator.requests(Call::Token).len(), 2);
    let form = &scene.simulator.requests(Call::Token)[0];
    assert!(form.line.starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token")), "{}", form.line);
    assert!(form.body.contains("scope=https%3A%2F%2Fmanagement.azure.com%2F.default+offline_access"), "{}", form.body);
}

#[tokio::test]
async fn many_who_want_the_same_token_ask_once() {
    let scene = consented().await;
    let gdap = scene.gdap();
    let tokens = futures_util::future::join_all((0..20).map(|_| gdap.arm_token(TENANT))).await;
    assert!(tokens.iter().all(Result::is_ok));
    assert_eq!(scene.simulator.requests(Call::Token).len(), 1);
    assert_eq!(scene.simulator.versions().len(), 1, "an exchange writes nothing");
}

#[tokio::test]
async fn each_refusal_of_entra_says_who_has_to_act() {
    let scene = consented().await;
    for (reply, expected) in [
        (Reply::oauth(400, "invalid_grant", 65_001), "consent"),
        (Reply::oauth(400, "unauthorized_client", 700_016), "consent"),
        (Reply::oauth(400, "invalid_resource", 500_011), "service principal"),
        (Reply::oauth(400, "invalid_client", 650_052), "service principal"),
        (Reply::oauth(400, "invalid_grant", 53_003), "policy"),
        (Reply::oauth(400, "invalid_grant", 70_043), "policy"),
        (Reply::oauth(400, "invalid_grant", 50_020), "relationship"),
        (Reply::oauth(400, "invalid_request", 90_002), "relationship"),
        (Reply::oauth(401, "invalid_client", 7_000_222), "misconfigured"),
        (Reply::oauth(400, "invalid_client", 650_057), "misconfigured"),
        (Reply::oauth(400, "temporarily_unavailable", 90_006), "retry"),
        (Reply::text(429, "").with("retry-after", 7), "retry"),
        (Reply::text(503, "<html>down</html>"), "retry"),
        (Reply::text(200, "<html>a proxy</html>"), "retry"),
        (Reply::text(200, r#"{"access_token":"e"#), "retry"),
        (Reply::text(200, r#"{"access_token":"a\nb","expires_in":60}"#), "retry"),
        (Reply::text(200, r#"{"access_token":"","expires_in":60}"#), "retry"),
        (Reply::text(200, vec![b' '; 5 * 1024 * 1024]), "retry"),
    ] {
        scene.simulator.on(Call::Token, [OnCall::Answer(reply.clone())]);
        let error = scene.gdap().arm_token(TENANT).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{} {error}", reply.status);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("anna@") && !text.contains("s3cr3t") && !text.contains("html"), "{text}");
        if reply.status == 429 {
            assert!(matches!(error, GdapError::Retry { wait: Some(wait), .. } if wait == Duration::from_secs(7)));
        }
    }
    scene.simulator.on(Call::Token, [OnCall::Reset]);
    assert_eq!(kind(&scene.gdap().arm_token(TENANT).await.unwrap_err()), "retry");
}

#[tokio::test]
async fn a_redirect_of_entra_takes_the_refresh_token_nowhere() {
    let (scene, elsewhere) = (consented().await, Scene::new().await);
    let target = format!("{}t/oauth2/v2.0/token", elsewhere.simulator.endpoint());
    for status in [302, 307, 308] {
        scene.simulator.on(Call::Token, [OnCall::Answer(Reply::text(status, "").with("location", &target))]);
        assert_eq!(kind(&scene.gdap().arm_token(TENANT).await.unwrap_err()), "retry");
    }
    assert_eq!(elsewhere.simulator.requests(Call::Token).len(), 0);
}

#[tokio::test]
async fn a_token_that_is_dead_is_asked_about_once_and_a_new_sign_in_counts_at_once() {
    let scene = consented().await;
    let gdap = scene.gdap();
    scene.simulator.revoke(&scene.token);
    for _ in 0..3 {
        assert_eq!(kind(&gdap.arm_token(TENANT).await.unwrap_err()), "sign in");
    }
    let asked = scene.simulator.requests(Call::Token);
    assert_eq!(asked.len(), 2, "in the customer's tenant and in our own");
    let home = &scene.simulator.config().partner_tenant;
    assert!(asked[1].line.starts_with(&format!("POST /{home}/oauth2/v2.0/token")), "{}", asked[1].line);
    scene.simulator.put_secret(&scene.simulator.mint());
    gdap.arm_token(TENANT).await.unwrap();
}

#[tokio::test]
async fn a_customer_who_asks_for_a_second_factor_stops_nobody_else() {
    let scene = consented().await;
    let gdap = scene.gdap();
    let other = "c7d8e9f0-1122-4334-8556-778899aabbcc";
    scene.simulator.add_customer(other, scene.simulator.customer(TENANT).unwrap());
    for number in [50_076, 50_079, 700_082] {
        scene.simulator.on(Call::Token, [OnCall::Answer(Reply::oauth(400, "invalid_grant", number))]);
        let error = gdap.arm_token(TENANT).await.unwrap_err();
        assert_eq!(kind(&error), "policy", "{number}: {error}");
        gdap.arm_token(other).await.unwrap();
        gdap.broker().forget(other);
    }
    // Where our own tenant cannot be asked nothing is given up.
    let refused = OnCall::Answer(Reply::oauth(400, "invalid_grant", 50_076));
    scene.simulator.on(Call::Token, [refused.clone(), OnCall::Answer(Reply::text(503, ""))]);
    assert_eq!(kind(&gdap.arm_token(TENANT).await.unwrap_err()), "retry");
    // Our own tenant says the same: then somebody has to sign in.
    scene.simulator.on(Call::Token, [refused.clone(), refused]);
    assert_eq!(kind(&gdap.arm_token(TENANT).await.unwrap_err()), "sign in");
    assert_eq!(kind(&gdap.arm_token(other).await.unwrap_err()), "sign in");
}

#[tokio::test]
async fn a_token_that_somebody_rotated_meanwhile_is_read_again() {
    let scene = consented().await;
    let newer = scene.simulator.mint();
    // The first reading still shows the former version.
    let former =
        json!({"value": scene.token, "id": format!("{}secrets/gdap-refresh-token/0", scene.simulator.endpoint())});
    scene.simulator.put_secret(&newer);
    scene.simulator.revoke(&scene.token);
    scene.simulator.on(Call::ReadSecret, [OnCall::AsUsual, OnCall::Answer(Reply::json(200, &former))]);
    scene.gdap().arm_token(TENANT).await.unwrap();
}

#[tokio::test]
async fn what_the_vault_says_instead_is_told_without_its_words() {
    let scene = consented().await;
    for (reply, expected) in [
        (Reply::json(403, &json!({"error": {"code": "Forbidden", "message": "s3cr3t of anna@"}})), "misconfigured"),
        (Reply::json(404, &json!({"error": {"code": "SecretNotFound"}})), "sign in"),
        (Reply::text(429, "slow").with("retry-after", 3), "retry"),
        (Reply::text(503, "<html>down</html>"), "retry"),
        (Reply::text(200, "<html>s3cr3t</html>"), "retry"),
        (Reply::text(200, r#"{"value":"s3cr3t"#), "retry"),
        (Reply::text(200, r#"{"value":"s3cr3t"}"#), "retry"),
    ] {
        // The first answer is the challenge.
        scene.simulator.on(Call::ReadSecret, [OnCall::AsUsual, OnCall::Answer(reply.clone())]);
        let error = scene.gdap().arm_token(TENANT).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{} {error}", reply.status);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cr3t") && !text.contains("anna@"), "{text}");
    }
    assert_eq!(scene.simulator.requests(Call::Token).len(), 0);
}

#[tokio::test]
async fn an_answer_of_the_vault_without_end_is_not_read_to_its_end() {
    const WHOLE: usize = 64 * 1024 * 1024;
    let endless = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", endless.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = endless.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4_096]).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {WHOLE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut written = 0;
        while written < WHOLE && stream.write_all(&[b' '; 64 * 1024]).await.is_ok() {
            written += 64 * 1024;
        }
        written
    });
    let scene = Scene::new().await;
    let clock = std::sync::Arc::new(scene.world.clock.clone());
    let tokens = TokenSource::from_credential(std::sync::Arc::new(Issued::new(&scene.world.simulator)), clock.clone());
    let vault = KeyVault::new(&url, "a-secret", &http(), std::sync::Arc::new(tokens), clock).unwrap();
    assert!(Vault::KeyVault(vault).read().await.is_err());
    assert!(serving.await.unwrap() < WHOLE, "all of it was read");
}

#[tokio::test]
async fn the_older_endpoint_is_asked_for_a_resource_and_does_for_everything() {
    let mut scene = Scene::new().await;
    scene.endpoint = TokenEndpoint::V1;
    scene.serve();
    scene.change_customer(|customer| customer.takes_more = true);
    let engine = scene.engine();
    engine.want_consent(TENANT, &[Grant::arm()]).await.unwrap();
    scene.world.deliver().await;
    engine.want_consent(TENANT, &[Grant::arm(), Grant::graph()]).await.unwrap();
    scene.world.deliver().await;
    assert!(scene.has_consented().await, "{:?}", scene.consent().await);
    assert!(matches!(engine.renew_tokens().await, Ok(permafresh::engine::renewal::Renewal::Renewed)));
    let gdap = scene.gdap();
    let first = gdap.arm_token(TENANT).await.unwrap();
    scene.world.advance(scene.simulator.token_lifetime() - Duration::from_secs(301));
    assert!(gdap.arm_token(TENANT).await.unwrap() == first, "its number of seconds is a text");

    let requests = scene.simulator.requests(Call::Token);
    assert!(requests.iter().all(|form| form.line.contains("/oauth2/token ") || form.line.ends_with("/oauth2/token")));
    assert!(requests.iter().all(|form| !form.body.contains("scope=")), "{}", requests[0].body);
    for resource in ["management.azure.com", "graph.microsoft.com", "api.partnercenter.microsoft.com"] {
        let wanted = format!("resource=https%3A%2F%2F{resource}");
        assert!(requests.iter().any(|form| form.body.split('&').any(|pair| pair == wanted)), "{resource}");
    }
}

#[tokio::test]
async fn a_certificate_signs_for_the_very_endpoint_that_is_asked() {
    for (endpoint, path) in [(TokenEndpoint::V2, "oauth2/v2.0/token"), (TokenEndpoint::V1, "oauth2/token")] {
        let mut scene = consented().await;
        scene.proof = Some(AppProof::Certificate(ClientCertificate::from_pem(PEM).unwrap()));
        scene.endpoint = endpoint;
        scene.gdap().arm_token(TENANT).await.unwrap();
        let claims = signed_claims(&scene.simulator.requests(Call::Token)[0].body);
        assert_eq!(claims["aud"], format!("{}{TENANT}/{path}", scene.simulator.endpoint()));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!(scene.simulator.config().client_id), &claims["iss"]));
        assert_eq!(claims["iat"], scene.world.now().timestamp());
        let shown = format!("{:?}", scene.gdap().broker().endpoint().proof);
        assert_eq!(shown, "Certificate(redacted)");
    }
}
