//! `permafresh gdap webhook …` as a process: registered once, however often it is asked for, and nobody else's taken unasked.

use permafresh::access::gdap::simulator::{Call, OnCall, Reply};
use serde_json::{Value, json};

use super::scene::Scene;
use super::sign_in::command;
use crate::processes::{self, Home};

const URL: &str = "https://permafresh.example/api/consent/webhook";

struct Desk {
    scene: Scene,
    home: Home,
}

impl Desk {
    async fn new() -> Self {
        Self { scene: Scene::new().await, home: Home::new() }
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let arguments = [&["gdap", "webhook"], arguments].concat();
        let ended = tokio::task::block_in_place(|| processes::run(command(&self.home, &self.scene, &arguments)));
        (ended.code.unwrap(), ended.out, ended.err)
    }

    /// How often something was written.
    fn writes(&self) -> usize {
        let all = self.scene.simulator.requests(Call::Registration);
        all.iter().filter(|request| !request.line.starts_with("GET")).count()
    }

    fn registered(&self) -> Value {
        self.scene.simulator.registration().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_is_registered_once_shown_and_tried() {
    let desk = Desk::new().await;
    let (code, out, err) = desk.run(&["show"]);
    assert!(code == 1 && out.is_empty() && err.contains("webhook register"), "{out}{err}");
    let (code, out, err) = desk.run(&["register"]);
    assert_eq!((code, out.trim()), (0, URL), "{err}");
    let registered = desk.registered();
    assert_eq!(registered["WebhookUrl"], URL);
    let events: Vec<_> = registered["WebhookEvents"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for part in ["relationship-approved", "relationship-activated", "relationship-expired", "relationship-terminated"] {
        assert!(events.contains(&format!("granular-admin-{part}").as_str()), "{events:?}");
    }
    assert!(events.iter().filter(|event| event.starts_with("granular-admin-access-assignment-")).count() == 4);
    assert_eq!((desk.run(&["register"]).0, desk.writes()), (0, 1), "the same again changes nothing");
    let (code, out, _) = desk.run(&["show", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["url"], &shown["isComplete"]), (0, &json!(URL), &json!(true)));
    let (code, _, err) = desk.run(&["test"]);
    assert!(code == 0 && err.contains("got through"), "{err}");

    let refused = json!({"status": "completed", "results": [{"responseCode": "Unauthorized", "systemError": false}]});
    desk.scene.simulator.on(Call::Trial, [OnCall::AsUsual, OnCall::Answer(Reply::json(200, &refused))]);
    let (code, _, err) = desk.run(&["test"]);
    assert!(code == 1 && err.contains("1 try, the last one answered Unauthorized") && err.contains("hint: "), "{err}");
    let pending = json!({"status": "inProgress", "results": []});
    desk.scene.simulator.on(Call::Trial, [OnCall::AsUsual, OnCall::Answer(Reply::json(200, &pending))]);
    assert_eq!(desk.run(&["test", "--timeout", "0"]).0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_registered_is_added_to_or_left_alone() {
    let desk = Desk::new().await;
    let other = json!({"WebhookUrl": "https://other.example/hook", "WebhookEvents": ["subscription-updated"]});
    desk.scene.simulator.register(other.clone());
    let (code, _, err) = desk.run(&["register"]);
    assert!(code == 1 && err.contains("https://other.example/hook") && err.contains("--replace"), "{err}");
    assert_eq!((desk.registered(), desk.writes()), (other, 0));
    assert_eq!(desk.run(&["show"]).0, 1);
    assert_eq!(desk.run(&["register", "--replace"]).0, 0);
    assert_eq!(desk.registered()["WebhookUrl"], URL);

    desk.scene.simulator.register(json!({"WebhookUrl": URL, "WebhookEvents": ["subscription-updated"],
        "SignatureTokenToMsSignatureHeader": true}));
    assert_eq!(desk.run(&["register"]).0, 0);
    let registered = desk.registered();
    assert_eq!(registered["WebhookEvents"].as_array().unwrap().len(), 10, "{registered}");
    assert_eq!(registered["SignatureTokenToMsSignatureHeader"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_a_race_and_a_missing_address_are_told_apart() {
    let desk = Desk::new().await;
    desk.scene.simulator.on(Call::Registration, [OnCall::AsUsual, OnCall::DoAndDrop]);
    assert_eq!(desk.run(&["register"]).0, 4);
    assert_eq!((desk.run(&["register"]).0, desk.writes()), (0, 1), "it was there");
    // Somebody registers the same between the look and the write.
    desk.scene.simulator.on(Call::Registration, [OnCall::Answer(Reply::text(404, ""))]);
    assert_eq!((desk.run(&["register"]).0, desk.writes()), (0, 2));
    desk.scene.simulator.on(Call::Registration, [OnCall::Answer(Reply::text(403, ""))]);
    let (code, _, err) = desk.run(&["register"]);
    assert!(code == 1 && err.contains("AdminAgents"), "{err}");
    let mut bare = command(&desk.home, &desk.scene, &["gdap", "webhook", "register"]);
    bare.env_remove("PUBLIC_URL");
    let ended = tokio::task::block_in_place(|| processes::run(bare));
    assert!(ended.code == Some(2) && ended.err.contains("PUBLIC_URL is absent"), "{}", ended.err);
}
