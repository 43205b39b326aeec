//! The publisher's app registration: with a secret, or with a managed identity that stands for it; in its own tenant, and as
//! a guest in a customer's. Against the simulated Entra of GDAP.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::{IdentityConfig, IdentityKind, TokenSource};
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use permafresh::access::guests::{AllowedTenants, Guests};
use permafresh::arm::simulator::ApplicationSpec;
use permafresh::functions::{App, Handle, router};
use serde_json::{Value, json};

use crate::gdap::scene::{Scene, TENANT, http};
use crate::manual_clock::ManualClock;
use crate::world::{application, one_wave};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A managed identity, which notes what its tokens are asked for.
#[derive(Debug)]
struct Identity(ManualClock);

#[async_trait]
impl TokenCredential for Identity {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["api://AzureADTokenExchange/.default"]);
        let expires = OffsetDateTime::from_unix_timestamp(self.0.now().timestamp() + 3_600).unwrap();
        Ok(AccessToken::new(Secret::new("identity.stands.for-it"), expires))
    }
}

fn app(scene: &Scene, kind: IdentityKind) -> IdentityConfig {
    let config = scene.simulator.config();
    let app = IdentityConfig {
        tenant_id: Some(config.partner_tenant.clone()),
        client_id: Some(config.client_id.clone()),
        authority_host: Some(scene.simulator.endpoint().as_str().to_owned()),
        ..IdentityConfig::default()
    };
    let app = match kind {
        IdentityKind::ClientSecret => {
            IdentityConfig { client_secret: Some(config.client_secret.clone().into()), ..app }
        }
        _ => {
            let clock = scene.world.clock.clone();
            let identity = TokenSource::from_credential(Arc::new(Identity(clock.clone())), Arc::new(clock));
            IdentityConfig { federated_by: Some(Arc::new(identity)), ..app }
        }
    };
    assert_eq!(app.kind(), kind);
    app
}

/// A service whose app may enter every tenant, and one deployment that refuses it in its own tenant's name.
async fn scene(kind: IdentityKind, allowed: AllowedTenants) -> Scene {
    let mut scene = Scene::new().await;
    scene.world.deploy(1).await;
    let spec = ApplicationSpec { tenant_id: TENANT.into(), ..ApplicationSpec::new(application(0)) };
    scene.world.simulator.add_application(spec);
    scene.world.simulator.close_to_publisher(application(0).subscription());
    let guests = Guests::new(app(&scene, kind), allowed, || Ok(http()), Arc::new(scene.world.clock.clone()));
    let served = scene.world.app(Arc::clone(&scene.world.store), Arc::clone(&scene.world.queue));
    let served = App { engine: served.engine.with_guests(guests), ..served };
    scene.world.replace_handler(router(Handle::ready(served)));
    scene
}

async fn roll_out(scene: &Scene, version: &str) -> Value {
    let id = scene.world.publish(json!({"version": version, "strategy": one_wave()})).await;
    scene.world.settle(id, HOUR).await;
    scene.world.refresh_of(id, &application(0)).await
}

#[tokio::test]
async fn a_customer_who_let_the_app_in_is_called_with_a_token_of_its_own_tenant() {
    for kind in [IdentityKind::ClientSecret, IdentityKind::FederatedIdentity] {
        let scene = scene(kind, AllowedTenants::All).await;
        scene.change_customer(|customer| customer.has_consented = true);
        let refresh = roll_out(&scene, "1.5.0").await;
        assert_eq!((&refresh["state"], &refresh["way"]), (&json!("succeeded"), &json!("publisher")));
        assert_eq!((&refresh["verified"], &refresh["refusals"]), (&json!(true), &Value::Null));
        let requests = scene.simulator.requests(Call::Token);
        assert_eq!(requests.len(), 1, "one token serves every call");
        assert!(requests[0].line.starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token")), "{}", requests[0].line);
        let body = &requests[0].body;
        assert!(body.contains("grant_type=client_credentials") && body.contains("management.azure.com"), "{body}");
        let proof = match kind {
            IdentityKind::ClientSecret => "client_secret=",
            _ => "client_assertion=identity.stands.for-it",
        };
        assert!(body.contains(proof), "{body}");
        assert_eq!(scene.world.simulator.stats().foreign_tokens, 0);
    }
}

#[tokio::test]
async fn who_has_not_let_the_app_in_or_is_not_listed_refuses_as_before() {
    for (allowed, asked) in [(AllowedTenants::All, true), (AllowedTenants::None, false)] {
        let scene = scene(IdentityKind::ClientSecret, allowed).await;
        let refresh = roll_out(&scene, "1.5.0").await;
        assert_eq!(
            (&refresh["state"], &refresh["error"]["code"]),
            (&json!("handedOver"), &json!("AuthorizationFailed"))
        );
        assert_eq!(!scene.simulator.requests(Call::Token).is_empty(), asked);
    }
}

#[tokio::test]
async fn a_customer_who_takes_the_app_out_again_while_it_runs_keeps_its_operation() {
    let scene = scene(IdentityKind::ClientSecret, AllowedTenants::These([TENANT.to_owned()].into())).await;
    scene.change_customer(|customer| customer.has_consented = true);
    let id = scene.world.publish(json!({"strategy": one_wave()})).await;
    scene.world.run_due().await;
    // From the next token on; and the one in hand ends.
    scene.simulator.on(Call::Token, vec![OnCall::Answer(Reply::oauth(400, "unauthorized_client", 700_016)); 3]);
    scene.world.simulator.revoke_tokens();
    scene.world.settle(id, HOUR).await;
    assert_eq!(scene.world.refresh_of(id, &application(0)).await["state"], "succeeded");
    assert_eq!(scene.world.simulator.operations_of(&application(0)), 1);
}

#[tokio::test]
async fn the_apps_own_tenant_knows_it_by_a_secret_or_by_the_identity_that_stands_for_it() {
    let scene = Scene::new().await;
    for kind in [IdentityKind::ClientSecret, IdentityKind::FederatedIdentity] {
        let clock = Arc::new(scene.world.clock.clone());
        let tokens = TokenSource::new(app(&scene, kind), || Ok(http()), clock);
        tokens.token("https://management.azure.com/.default").await.unwrap();
    }
    let home = format!("POST /{}/oauth2/v2.0/token", scene.simulator.config().partner_tenant);
    assert!(scene.simulator.requests(Call::Token).iter().all(|request| request.line.starts_with(&home)));
}

#[tokio::test]
async fn an_app_that_does_not_trust_the_identity_says_where_to_look_and_shows_no_token() {
    let scene = Scene::new().await;
    scene.simulator.on(Call::Token, [OnCall::Answer(Reply::oauth(401, "invalid_client", 700_213))]);
    let config = app(&scene, IdentityKind::FederatedIdentity);
    let tokens = TokenSource::new(config, || Ok(http()), Arc::new(scene.world.clock.clone()));
    let error = tokens.token("https://management.azure.com/.default").await.unwrap_err();
    let text = format!("{error} {error:?} {tokens:?}");
    assert!(text.contains("federated credential") && text.contains("AZURE_MANAGED_IDENTITY_CLIENT_ID"), "{text}");
    assert!(!text.contains("identity.stands"), "{text}");
}
