//! Just-in-time access through the whole loop: asked for, approved, refused in every way, used within its window only.

mod api;
mod race;
mod refusals;
mod windows;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use permafresh::arm::simulator::{ApplicationSpec, PRINCIPAL, SeenJit};
use permafresh::rollout::jit::JitSetup;
use permafresh::rollout::{ApplicationId, RolloutId, Way};
use serde_json::{Value, json};

use crate::world::{Options, World, application, one_wave};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const MANUAL: &str = r#"{"jitAccessEnabled":true,"jitApprovalMode":"ManualApprove","maximumJitAccessDuration":"PT8H","jitApprovers":[{"id":"c0ffee00-0000-4000-8000-000000000009","type":"user","displayName":"Cloud duty officer"}]}"#;
pub const AUTOMATIC: &str =
    r#"{"jitAccessEnabled":true,"jitApprovalMode":"AutoApprove","maximumJitAccessDuration":"PT8H"}"#;

pub fn setup() -> JitSetup {
    JitSetup { principal_id: PRINCIPAL.into(), role_id: None, resource_group: None }
}

pub fn options() -> Options {
    Options { jit: Some(setup()), ways: vec![Way::Publisher, Way::Jit, Way::HandOver], ..Options::default() }
}

/// One application whose customer has set `policy`.
pub struct Scene {
    pub world: World,
    pub id: ApplicationId,
}

impl Scene {
    pub async fn new(policy: &str) -> Self {
        Self::with(options(), |spec| spec.jit_access_policy = Some(policy.into())).await
    }

    pub async fn with(options: Options, change: impl FnOnce(&mut ApplicationSpec)) -> Self {
        let world = World::with(options).await;
        let id = application(1);
        world.deploy_these(std::slice::from_ref(&id)).await;
        let mut spec = ApplicationSpec::new(id.clone());
        change(&mut spec);
        world.simulator.add_application(spec);
        Self { world, id }
    }

    /// Publishes, and does what can be done at once.
    pub async fn publish(&self) -> RolloutId {
        let rollout = self.world.publish(json!({"strategy": one_wave()})).await;
        self.world.run_due().await;
        rollout
    }

    pub async fn refresh(&self, rollout: RolloutId) -> Value {
        self.world.refresh_of(rollout, &self.id).await
    }

    /// Lets time pass in steps of `step` until the refresh stands in `state`.
    pub async fn until(&self, rollout: RolloutId, state: &str, step: Duration, limit: Duration) -> Value {
        let end = self.world.now() + limit;
        loop {
            let refresh = self.refresh(rollout).await;
            if refresh["state"] == state {
                return refresh;
            }
            assert!(self.world.now() < end, "not {state} in time: {refresh}");
            self.pass(step).await;
        }
    }

    pub async fn pass(&self, time: Duration) {
        self.world.advance(time);
        self.world.run_due().await;
    }

    pub fn requests(&self) -> Vec<SeenJit> {
        self.world.simulator.jit_requests(&self.id)
    }

    pub async fn show(&self) -> Value {
        self.world.get(&format!("/api/deployments/{}/jit", self.id.key())).await
    }
}

#[tokio::test]
async fn a_refused_refresh_asks_and_goes_on_at_once_where_approval_is_automatic() {
    let scene = Scene::new(AUTOMATIC).await;
    let rollout = scene.publish().await;
    let [request] = &scene.requests()[..] else { panic!("{:?}", scene.requests()) };
    assert_eq!((request.name.len(), request.group.as_str()), (10, "mrg-ledger-00001"));
    assert_eq!(request.duration, HOUR, "no longer than needed, since nobody has to find the time");
    let done = scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    assert_eq!((&done["way"], &done["verified"]), (&json!("jit"), &json!(true)), "{done}");
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.jit_filings, stats.jit_looks), (1, 0));
    assert_eq!((stats.posts, stats.outside_windows), (2, 1), "the publisher's own try, and the one in the window");
}

#[tokio::test]
async fn a_manual_approval_is_waited_for_at_growing_gaps_and_then_used() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    let parked = scene.refresh(rollout).await;
    assert_eq!(parked["state"], "awaitingAccess", "{parked}");
    let why = parked["why"].as_str().unwrap();
    for said in ["Cloud duty officer", "JIT Access > Approve Requests", "Privileged Identity Management"] {
        assert!(why.contains(said), "{said} is not in {why}");
    }
    for _ in 0..(4 * 60) {
        scene.pass(MINUTE / 4).await;
    }
    let looks = scene.world.simulator.stats().jit_looks;
    assert!((6..=8).contains(&looks), "{looks} looks in an hour");
    assert_eq!(scene.world.simulator.decide_jit(&scene.id, "Approved"), 1);
    let done = scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    assert_eq!((&done["way"], &done["attempts"]), (&json!("jit"), &done["attempts"]), "{done}");
    let stats = scene.world.simulator.stats();
    assert_eq!((stats.jit_filings, stats.outside_windows), (1, 1));
    assert_eq!(scene.requests()[0].duration, 8 * HOUR);
    assert_eq!(scene.show().await["requests"][0]["state"], "open");
}

#[tokio::test]
async fn other_deployments_do_not_wait_for_an_approver() {
    let scene = Scene::new(MANUAL).await;
    let others: Vec<_> = (2..6).map(application).collect();
    scene.world.deploy_these(&others).await;
    let rollout = scene.world.publish(json!({"strategy": {"canaries": 1, "waves": ["100%"]}})).await;
    for _ in 0..40 {
        scene.pass(MINUTE / 4).await;
    }
    let counts = scene.world.rollout(rollout).await["counts"].clone();
    assert_eq!((&counts["succeeded"], &counts["awaitingAccess"]), (&json!(4), &json!(1)), "{counts}");
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    scene.pass(MINUTE).await;
    assert_eq!(scene.world.rollout(rollout).await["state"], "completed");
}

#[tokio::test]
async fn an_open_window_asked_for_by_hand_is_used_by_the_next_rollout() {
    let scene = Scene::new(MANUAL).await;
    let path = format!("/api/deployments/{}/jit", scene.id.key());
    let (status, asked) = scene.world.post(&path, &json!({"why": "rollout tonight"})).await;
    assert_eq!((status, &asked["requests"][0]["state"]), (StatusCode::ACCEPTED, &json!("pending")), "{asked}");
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.pass(MINUTE).await;
    let rollout = scene.publish().await;
    let done = scene.until(rollout, "succeeded", MINUTE / 4, HOUR).await;
    assert_eq!(done["way"], "publisher", "the window is open for every call of ours: {done}");
    assert_eq!(scene.world.simulator.stats().jit_filings, 1);
}

#[tokio::test]
async fn settings_that_a_patch_changed_are_read_again() {
    let scene = Scene::new(MANUAL).await;
    let notify = async |minute: u32| {
        let body = json!({
            "eventType": "PATCH", "applicationId": scene.id, "eventTime": format!("2026-03-10T13:{minute:02}:00Z"),
            "provisioningState": "Succeeded",
            "plan": {"publisher": "fabrikam", "product": "ledger", "name": "standard", "version": "1.4.0"},
        });
        let path = format!("/api/notification/resource?sig={}", crate::world::SIG);
        let (status, answer) = scene.world.post(&path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        scene.pass(MINUTE).await;
        scene.world.get(&format!("/api/deployments/{}", scene.id.key())).await["jit"].clone()
    };
    let before = notify(1).await;
    assert_eq!(
        (&before["approvalMode"], &before["approvers"]),
        (&json!("ManualApprove"), &json!(["Cloud duty officer"]))
    );
    scene.world.simulator.set_jit_policy(&scene.id, AUTOMATIC);
    let after = notify(2).await;
    assert_eq!((&after["approvalMode"], after.get("approvers")), (&json!("AutoApprove"), None), "{after}");
}

#[tokio::test]
async fn a_handler_that_was_started_anew_goes_on_with_the_request() {
    let mut scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    let (store, queue) = (scene.world.another_store(), scene.world.another_queue());
    let fresh = scene.world.handler(store, queue);
    scene.world.replace_handler(fresh);
    scene.pass(5 * MINUTE).await;
    scene.world.simulator.decide_jit(&scene.id, "Approved");
    scene.until(rollout, "succeeded", MINUTE, HOUR).await;
    assert_eq!(scene.world.simulator.stats().jit_filings, 1);
}

#[tokio::test]
async fn the_dashboard_says_what_a_parked_refresh_waits_for_and_where_to_approve() {
    let scene = Scene::new(MANUAL).await;
    let rollout = scene.publish().await;
    let page = crate::dashboard::page(&scene.world, &format!("/rollouts/{rollout}")).await;
    for said in ["just-in-time request", "Cloud duty officer", "Approve requests"] {
        assert!(page.contains(said), "{said} is not in\n{page}");
    }
    let page = crate::dashboard::page(&scene.world, &format!("/deployments/{}", scene.id.key())).await;
    for said in ["Just-in-time access", "ManualApprove", "Cloud duty officer"] {
        assert!(page.contains(said), "{said} is not in\n{page}");
    }
}

/// The same parts once more: another instance of the service.
pub fn another_instance(scene: &Scene) -> Arc<permafresh::functions::App> {
    Arc::new(scene.world.app(scene.world.another_store(), scene.world.another_queue()))
}
