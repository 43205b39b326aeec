//! No token and no secret in any log, whatever goes wrong.

use permafresh::access::gdap::scopes::Grant;
use permafresh::access::gdap::simulator::{Call, OnCall, Reply};

use super::scene::{STATE_KEY, Scene, TENANT};
use crate::log::{Log, on_this_thread};

#[tokio::test]
async fn no_secret_reaches_a_log_however_much_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = on_this_thread(subscriber);

    let scene = Scene::new().await;
    let engine = scene.engine();
    engine.want_consent(TENANT, &[Grant::arm()]).await.unwrap();
    scene.world.deliver().await;
    engine.renew_tokens().await.unwrap();
    for reply in
        [Reply::oauth(400, "invalid_grant", 50_173), Reply::text(200, format!("{{\"access_token\":\"{}", scene.token))]
    {
        scene.simulator.on(Call::Token, [OnCall::Answer(reply)]);
        let _ = format!("{:?}", scene.gdap().arm_token(TENANT).await);
    }
    let leaky = Reply::text(500, scene.token.clone());
    scene.simulator.on(Call::WriteSecret, [OnCall::Answer(leaky)]);
    scene.world.advance(std::time::Duration::from_secs(7_200));
    let outcome = engine.renew_tokens().await.unwrap();
    tracing::info!("{outcome:?} {:?} {:?}", scene.gdap(), scene.gdap().broker());

    let text = log.text();
    // Logged from here alone, since tests beside this one may have switched other lines off for the whole process.
    assert!(text.contains("Failed(Retry"), "it was logged:\n{text}");
    assert_eq!(scene.simulator.versions().len(), 2, "it was renewed once");
    let token = scene.gdap().arm_token(TENANT).await.unwrap();
    let mut secrets =
        vec![scene.token.clone(), token.secret().to_owned(), STATE_KEY.into(), "s3cr3t".into(), "anna@".into()];
    secrets.push(scene.simulator.config().client_secret.clone());
    secrets.extend(scene.simulator.versions().into_iter().map(|version| version.value));
    for secret in secrets {
        assert!(!text.contains(&secret), "a secret was logged");
    }
    assert!(!text.contains("eyJ"), "a token was logged");
}
