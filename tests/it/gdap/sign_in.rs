//! `permafresh gdap …` as a process, against the simulators.

use std::process::Command;

use permafresh::access::gdap::simulator::Call;

use super::scene::{STATE_KEY, Scene, TENANT, http};
use crate::processes::{self, Home, Running};

pub fn command(home: &Home, scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    let (config, endpoint) = (scene.simulator.config(), scene.simulator.endpoint().as_str());
    command.envs([
        ("AZURE_TENANT_ID", config.partner_tenant.as_str()),
        ("AZURE_CLIENT_ID", &config.client_id),
        ("AZURE_CLIENT_SECRET", &config.client_secret),
        ("GDAP_CLIENT_ID", &config.client_id),
        ("AZURE_AUTHORITY_HOST", endpoint),
        ("PARTNER_API_ENDPOINT", endpoint),
        ("GRAPH_ENDPOINT", endpoint),
        ("KEY_VAULT_URL", endpoint),
        ("CONSENT_STATE_KEY", STATE_KEY),
        ("PUBLIC_URL", "https://permafresh.example"),
    ]);
    command
}

fn output(ended: &processes::Ended) -> String {
    format!("{}\n{}", ended.out, ended.err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_goes_straight_into_the_vault_and_is_never_shown() {
    let (scene, home) = (Scene::new().await, Home::new());
    let mut running = Running::start(command(&home, &scene, &["gdap", "sign-in", "--json"]));
    let url = running.until("the address", |_, err| {
        let line = err.lines().find(|line| line.trim().starts_with("http"))?;
        Some(line.trim().to_owned())
    });
    let redirect =
        url::Url::parse(&url).unwrap().query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert!(redirect.starts_with("http://localhost:"), "{redirect}");
    let here = redirect.replace("localhost", "127.0.0.1");
    // Somebody else's answer is neither taken nor the end of it.
    let other = http().get(format!("{here}/?code=evil&state=guessed")).send().await.unwrap();
    assert_eq!(other.status(), 400);
    let back = http().get(&url).send().await.unwrap().headers()["location"]
        .to_str()
        .unwrap()
        .replace("localhost", "127.0.0.1");
    let page = http().get(back).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", output(&ended));

    let said: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(said, serde_json::json!({"user": "obo@fabrikam.example", "resumedCustomers": 0}));
    let versions = scene.simulator.versions();
    assert_eq!(versions.iter().map(|version| version.enabled).collect::<Vec<_>>(), [false, true]);
    assert_eq!(versions[1].tags["user"], "obo@fabrikam.example");
    for version in &versions {
        assert!(!output(&ended).contains(&version.value), "the token was shown");
    }
    assert!(!output(&ended).contains("s3cr3t") && !output(&ended).contains("eyJ"), "{}", output(&ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_without_a_second_factor_is_not_kept() {
    let (scene, home) = (Scene::with(|config| config.amr = vec!["pwd".into()]).await, Home::new());
    let mut running = Running::start(command(&home, &scene, &["gdap", "sign-in"]));
    let url = running.until("the address", |_, err| {
        Some(err.lines().find(|line| line.trim().starts_with("http"))?.trim().to_owned())
    });
    let back = http().get(&url).send().await.unwrap().headers()["location"]
        .to_str()
        .unwrap()
        .replace("localhost", "127.0.0.1");
    http().get(back).send().await.unwrap();
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{}", output(&ended));
    assert!(ended.err.contains("no second factor") && ended.err.contains("hint: "), "{}", ended.err);
    assert_eq!(scene.simulator.versions().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_consent_relationships_live_and_the_one_day_one_ends() {
    let (scene, home) = (Scene::new().await, Home::new());
    let run = |arguments: &[&str]| {
        let ended = tokio::task::block_in_place(|| processes::run(command(&home, &scene, arguments)));
        (ended.code.unwrap(), ended.out, ended.err)
    };
    let create =
        ["gdap", "relationship", "create", "--one-day", "--name", "Consent, Fabrikam", "--tenant", TENANT, "--offer"];
    let (code, id, err) = run(&create);
    assert_eq!(code, 0, "{err}");
    let id = id.trim();
    assert!(err.contains(&format!("granularAdminRelationships/{id}")), "{err}");
    // Again, since the answer was lost: it is there already, and goes on to the same end.
    let (code, again, err) = run(&create);
    assert_eq!((code, again.trim()), (0, id), "{err}");
    assert!(err.contains(&format!("granularAdminRelationships/{id}")), "{err}");
    let elsewhere = "ffffffff-77aa-4b31-9f2e-5c6d7e8f9a01";
    for (options, words) in [
        (["--tenant", elsewhere, "--one-day"], "for another customer"),
        (["--tenant", TENANT, "--extend"], "with other roles"),
    ] {
        let name = ["gdap", "relationship", "create", "--name", "Consent, Fabrikam"];
        let (code, out, err) = run(&[&name[..], &options].concat());
        assert!(code == 1 && out.is_empty() && err.contains(words) && err.contains("another name"), "{err}");
        assert!(err.contains(id) && !err.contains("not set up"), "{err}");
    }
    let made = scene.simulator.relationship(id).unwrap();
    assert_eq!((made["duration"].as_str(), made["status"].as_str()), (Some("P1D"), Some("approvalPending")));
    // Offered again, since the answer was lost: the invitation is the same.
    let (code, out, err) = run(&["gdap", "relationship", "offer", id]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("granularAdminRelationships/{id}")), "{out}");
    let assign = ["gdap", "relationship", "assign", id, "--group", "7a7b7c7d-1111-4222-9333-0a0b0c0d0e0f"];
    assert_eq!(run(&assign).0, 1, "it is not active yet");

    scene.simulator.move_relationship(id, "active");
    let (code, assigned, err) = run(&assign);
    assert_eq!(code, 0, "{err}");
    assert_eq!(run(&assign), (0, assigned, String::new()), "the group has them already");
    let (code, out, err) = run(&["gdap", "relationship", "offer", id]);
    assert!(code == 0 && out.is_empty() && err.contains("accepted it already: it is active"), "{out}{err}");
    let (code, out, err) = run(&["gdap", "consent", "--tenant", TENANT, "--then-end", id]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("consented"), "{out}");
    assert_eq!(scene.simulator.relationship(id).unwrap()["status"], "terminationRequested");
    assert_eq!(run(&["gdap", "relationship", "end", id, "--yes"]).0, 0, "it is being ended already");
    let (code, _, err) = run(&["gdap", "relationship", "offer", id]);
    assert!(code == 1 && err.contains("is terminating, and cannot be offered"), "{err}");
    assert!(!err.contains("not set up"), "{err}");

    scene.simulator.add_relationship("for-all", "ffffffff-77aa-4b31-9f2e-5c6d7e8f9a01", "active");
    scene.simulator.add_relationship("mine", TENANT, "active");
    let before = scene.simulator.requests(Call::Consent).len();
    let (code, out, err) = run(&["gdap", "consent", "--all", "--json"]);
    assert_eq!(code, 3, "{err}");
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2, "{out}");
    assert!(err.contains("1 customer consented before"), "{err}");
    assert_eq!(scene.simulator.requests(Call::Consent).len(), before, "the other tenant does not even exist");

    let (code, out, _) = run(&["gdap", "link", "--tenant", TENANT]);
    assert_eq!(code, 0);
    assert!(out.contains("/v2.0/adminconsent?") && out.contains("state="), "{out}");
    assert_eq!(run(&["gdap", "scopes"]).0, 0);
    let (code, out, _) = run(&["gdap", "status", "--json"]);
    assert_eq!(code, 0);
    assert!(!out.contains("s3cr3t"), "{out}");
    assert_eq!(run(&["gdap", "relationship", "end", "mine"]).0, 2);

    let json = |arguments: &[&str]| -> serde_json::Value {
        let (code, out, err) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap()
    };
    let group = "7a7b7c7d-1111-4222-9333-0a0b0c0d0e0f";
    let assigned = json(&["gdap", "relationship", "assign", "mine", "--group", group, "--json"]);
    assert_eq!((&assigned["relationshipId"], &assigned["group"]), (&"mine".into(), &group.into()), "{assigned}");
    let ended = json(&["gdap", "relationship", "end", "mine", "--yes", "--json"]);
    assert_eq!(ended, serde_json::json!({"id": "mine", "ending": true}));
    let made = json(&["gdap", "relationship", "create", "--name", "Later", "--tenant", TENANT, "--json"]);
    let id = made["id"].as_str().unwrap();
    let offered = json(&["gdap", "relationship", "offer", id, "--json"]);
    assert!(offered["invitation"].as_str().unwrap().ends_with(id), "{offered}");
    let bad = ["gdap", "relationship", "create", "--name", "x", "--duration", "P9Y"];
    let (code, _, err) = run(&bad);
    assert!(code == 2 && err.contains("duration"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_app_the_commands_say_what_to_set() {
    let (scene, home) = (Scene::new().await, Home::new());
    let mut command = command(&home, &scene, &["gdap", "status"]);
    command.env_remove("GDAP_CLIENT_ID");
    let ended = tokio::task::block_in_place(|| processes::run(command));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("GDAP_CLIENT_ID is absent"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_and_the_older_endpoint_do_for_the_commands_too() {
    let (scene, home) = (Scene::new().await, Home::new());
    let mut command = command(&home, &scene, &["gdap", "consent", "--tenant", TENANT]);
    command.envs([("GDAP_CLIENT_CERTIFICATE", crate::partner_center::PEM), ("GDAP_TOKEN_ENDPOINT", "v1")]);
    let ended = tokio::task::block_in_place(|| processes::run(command));
    assert_eq!(ended.code, Some(0), "{}", output(&ended));
    let requests = scene.simulator.requests(Call::Token);
    let ours: Vec<_> = requests.iter().filter(|form| form.body.contains("grant_type=refresh_token")).collect();
    assert!(ours.len() >= 3, "the customer's tenant, our own, and the customer's again");
    for form in ours {
        let tenant = form.line.trim_start_matches("POST /").split('/').next().unwrap();
        let claims = crate::partner_center::signed_claims(&form.body);
        assert_eq!(claims["aud"], format!("{}{tenant}/oauth2/token", scene.simulator.endpoint()));
    }
}
