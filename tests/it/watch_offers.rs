//! WatchOffers through the whole loop: the timer fires, Partner Center answers, rollouts follow; each publish once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::TokenSource;
use permafresh::arm::simulator::{Acceptance, OnPost, Outcome};
use permafresh::clock::Clock;
use permafresh::engine::OfferConfig;
use permafresh::engine::watch::Watch;
use permafresh::partner_center::simulator::{Call, OnCall, Publication, Reply, Simulator, SimulatorConfig};
use permafresh::partner_center::{PartnerCenter, PartnerCenterConfig};
use permafresh::queue::Message;
use permafresh::rollout::submission::States;
use permafresh::rollout::watch::PlanWatch;
use permafresh::rollout::{Plan, RolloutId, Strategy, Way};
use permafresh::store::Versioned;
use permafresh::store::document::{self, DocumentName};
use permafresh::store::published::snapshot_name;
use serde_json::{Value, json};

use crate::faults::{Faults, FaultyQueue, FaultyStore, Moment};
use crate::world::{Options, WatchOptions, World, application, invoke_message, invoke_timer, one_wave, publish};

const HOUR: Duration = Duration::from_secs(3_600);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const RESTART: &str = "Microsoft.Web/sites/restart/action";
const STOP: &str = "Microsoft.Web/sites/stop/action";

/// What the engine of a test watches with.
pub fn watch(options: &WatchOptions, clock: Arc<dyn Clock>) -> Watch {
    let tokens = TokenSource::from_credential(Arc::new(Issued(Arc::clone(&options.partner))), clock.clone());
    let mut config = PartnerCenterConfig::for_endpoint(options.partner.endpoint().clone());
    config.call_timeout = Duration::from_secs(2);
    let mut watch = Watch::new(Some(PartnerCenter::new(config, tokens, clock).unwrap()), options.states.clone());
    if options.rollout_on_first_sight {
        watch.rollout_on_first_sight.push(("fabrikam".into(), "ledger".into()));
    }
    watch
}

struct Issued(Arc<Simulator>);

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

#[async_trait]
impl TokenCredential for Issued {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let (token, expires) = self.0.issue_token();
        Ok(AccessToken::new(Secret::new(token), OffsetDateTime::from_unix_timestamp(expires.timestamp()).unwrap()))
    }
}

struct Scene {
    world: World,
    partner: Arc<Simulator>,
}

fn offers(wanted: Option<&str>) -> Vec<OfferConfig> {
    let strategy: Strategy = serde_json::from_value(one_wave()).unwrap();
    vec![OfferConfig {
        ways: vec![Way::Publisher],
        publisher: "fabrikam".into(),
        offer: "ledger".into(),
        plans: vec![("standard".into(), wanted.map(|version| version.parse().unwrap()))],
        strategy,
        preview_applications: vec![application(0)],
    }]
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// An offer whose version 1.4.0 is live, and three deployments of it, the first of them a preview purchase.
    async fn with(change: impl FnOnce(&mut WatchOptions)) -> Self {
        let year = Duration::from_secs(365 * 86_400);
        let config = SimulatorConfig { token_lifetime: year, ..SimulatorConfig::default() };
        let partner = Arc::new(Simulator::start(config).await.unwrap());
        let mut watch =
            WatchOptions { partner: partner.clone(), states: States::default(), rollout_on_first_sight: false };
        change(&mut watch);
        let world =
            World::with(Options { offers: offers(Some("1.4.0")), watch: Some(watch), ..Options::default() }).await;
        partner.publish(&Publication::live("1.4.0", RESTART));
        world.deploy(3).await;
        Self { world, partner }
    }

    /// The same after the baseline, with every deployment brought to 1.4.0.
    async fn settled() -> Self {
        let scene = Self::new().await;
        scene.fire().await;
        let id = scene.world.publish(json!({"version": "1.4.0"})).await;
        assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 3);
        scene
    }

    fn handler(&self) -> Router {
        self.world.handler(self.world.store.clone(), self.world.queue.clone())
    }

    async fn fire(&self) {
        assert_eq!(invoke_timer(&self.handler(), "WatchOffers", None).await, StatusCode::OK);
    }

    /// The timer's next run that looks, an hour later, and what follows from it.
    async fn look(&self) {
        self.world.advance(HOUR);
        self.fire().await;
        self.world.run_due().await;
    }

    /// Version, target and state of every rollout, the newest first.
    async fn rollouts(&self) -> Vec<String> {
        let all = self.world.get("/api/rollouts").await["value"].as_array().unwrap().clone();
        let text = |rollout: &Value, name: &str| rollout[name].as_str().unwrap().to_owned();
        all.iter().map(|r| format!("{} {} {}", text(r, "version"), text(r, "target"), text(r, "state"))).collect()
    }

    async fn newest(&self) -> RolloutId {
        self.world.get("/api/rollouts").await["value"][0]["id"].as_str().unwrap().parse().unwrap()
    }

    async fn offer(&self) -> Value {
        self.world.get("/api/offers").await["value"][0].clone()
    }

    /// Moves time until no rollout is on its way; at most five hours.
    async fn settle_all(&self) {
        for _ in 0..1_200 {
            self.world.run_due().await;
            let rollouts = self.rollouts().await;
            if !rollouts.iter().any(|r| ["waiting", "planning", "running"].iter().any(|state| r.ends_with(state))) {
                return;
            }
            self.world.advance(Duration::from_secs(15));
        }
        panic!("{:?} do not end", self.rollouts().await);
    }

    /// Leaves of a snapshot what nobody can read.
    async fn spoil_snapshot(&self, version: &str) {
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let name = DocumentName::of(&snapshot_name(&plan, version.parse().unwrap()));
        let store = &self.world.store;
        let etag = store.document("snapshot", &name).await.unwrap().expect("it is stored").etag;
        let spoiled = Versioned { value: json!({"plan": 7}), etag };
        assert!(store.save_document("snapshot", &name, &spoiled).await.unwrap().is_stored());
    }

    async fn settle_newest(&self) -> Value {
        self.world.settle(self.newest().await, HOUR).await
    }
}

#[tokio::test]
async fn the_first_sight_is_a_baseline_and_what_is_published_then_is_raised_as_a_post_would_be() {
    let scene = Scene::new().await;
    scene.fire().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["outcome"]["outcome"], "baseline");

    let submission = scene.partner.publish(&Publication::preview("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 preview running"]);
    let done = scene.settle_newest().await;
    assert_eq!((&done["audience"], &done["counts"]["total"]), (&json!("preview"), &json!(1)), "{done}");

    scene.partner.move_to(&submission, "Published", "InStore", "live");
    scene.look().await;
    let done = scene.settle_newest().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live completed", "1.5.0 preview completed"]);
    assert_eq!(
        (&done["audience"], &done["counts"]["succeeded"]),
        (&json!("all"), &json!(2)),
        "the preview has it: {done}"
    );

    for _ in 0..3 {
        scene.look().await;
    }
    let (status, again) = scene.world.post("/api/offer-publishes", &publish(json!({}))).await;
    assert_eq!((status, &again["duplicateOf"]), (StatusCode::OK, &done["id"]), "CI is late, and is told so: {again}");
    let named = json!({"submissionId": submission, "target": "preview"});
    assert_eq!(scene.world.post("/api/offer-publishes", &publish(named)).await.0, StatusCode::OK);
    assert_eq!(scene.rollouts().await.len(), 2);
    scene.world.assert_no_dead_letters().await;
}

#[tokio::test]
async fn what_ci_has_posted_before_is_not_raised_again() {
    let scene = Scene::new().await;
    scene.fire().await;
    let id = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.settle(id, HOUR).await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live completed"]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["outcome"]["rolloutId"], json!(id));
}

#[tokio::test]
async fn the_first_sight_starts_rollouts_where_the_offer_says_so() {
    let scene = Scene::with(|watch| watch.rollout_on_first_sight = true).await;
    scene.fire().await;
    scene.fire().await;
    assert_eq!(scene.rollouts().await, ["1.4.0 live planning"]);
}

#[tokio::test]
async fn an_offer_is_asked_by_every_run_while_something_moves_and_hourly_otherwise() {
    let scene = Scene::new().await;
    let moving = scene.partner.publish(&Publication::preview("1.5.0", STOP).moving());
    for looks in 1..=3 {
        scene.fire().await;
        assert_eq!(scene.partner.calls(Call::Submissions), looks);
        scene.world.advance(FIVE_MINUTES);
    }
    assert_eq!(scene.rollouts().await, [""; 0], "not yet");
    scene.partner.move_to(&moving, "Published", "ReadyToPublish", "preview");
    scene.fire().await;
    assert_eq!(scene.rollouts().await.len(), 1, "found within five minutes");
    for _ in 0..11 {
        scene.world.advance(FIVE_MINUTES);
        scene.fire().await;
    }
    assert_eq!(scene.partner.calls(Call::Submissions), 4);
    scene.world.advance(FIVE_MINUTES);
    scene.fire().await;
    assert_eq!(scene.partner.calls(Call::Submissions), 5);
    assert_eq!(scene.partner.calls(Call::Package), 2, "each package is read once");
}

#[tokio::test]
async fn partner_center_may_be_down_for_hours_and_nothing_is_lost() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.partner.outage(Some(Reply::html(503)));
    scene.world.advance(HOUR);
    for _ in 0..60 {
        scene.fire().await;
        scene.world.advance(FIVE_MINUTES);
    }
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert_eq!(trouble["kind"], "unavailable");
    assert_eq!(trouble["since"], "2026-03-10T13:00:00Z");
    assert_eq!(scene.rollouts().await, [""; 0]);
    scene.partner.outage(None);
    scene.fire().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 live planning"]);
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
}

#[tokio::test]
async fn a_throttled_watcher_waits_as_long_as_it_is_told() {
    let scene = Scene::new().await;
    scene.partner.on(Call::Submissions, [OnCall::Answer(Reply::throttled(1_800))]);
    scene.fire().await;
    for (after, looks) in [(FIVE_MINUTES, 1), (Duration::from_secs(1_499), 1), (Duration::from_secs(1), 2)] {
        scene.world.advance(after);
        scene.fire().await;
        assert_eq!(scene.partner.calls(Call::Submissions), looks);
    }
}

#[tokio::test]
async fn bad_answers_are_shown_start_nothing_and_end_by_themselves() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.world.advance(HOUR);
    let loops = json!({"value": [], "nextLink": "https://evil.example/"}).to_string();
    for (call, script, kind) in [
        (Call::Submissions, OnCall::Answer(Reply::html(200)), "unreadable"),
        (Call::Product, OnCall::Answer(Reply::json(200, "{\"value\": [{\"id\"")), "unreadable"),
        (Call::Variants, OnCall::Answer(Reply::json(403, "")), "forbidden"),
        (Call::Submissions, OnCall::Answer(Reply::json(500, "")), "unavailable"),
        (Call::Submissions, OnCall::Answer(Reply::json(200, loops)), "linkRefused"),
        (Call::Package, OnCall::Reset, "noAnswer"),
        (Call::Package, OnCall::Answer(Reply::html(200)), "incomplete"),
    ] {
        scene.partner.on(call, [script]);
        scene.fire().await;
        let trouble = scene.offer().await["watch"]["trouble"].clone();
        assert_eq!(trouble["kind"], kind, "{trouble}");
        assert_eq!(scene.rollouts().await, [""; 0], "{kind}");
    }
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1);
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
}

#[tokio::test]
async fn submissions_that_vanish_or_go_backwards_raise_nothing() {
    let scene = Scene::new().await;
    let second = scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.fire().await;
    scene.partner.remove(&second);
    scene.look().await;
    scene.partner.publish(&Publication::live("1.3.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    assert_eq!(scene.offer().await["plans"][0]["live"]["version"], "1.5.0");

    let third = scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    for (state, substate) in
        [("InProgress", "Publishing"), ("Published", "InStore"), ("InProgress", "Failed"), ("Published", "InStore")]
    {
        scene.partner.move_to(&third, state, substate, "live");
        scene.look().await;
    }
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1, "the same version in another submission is nothing new");
}

#[tokio::test]
async fn a_failed_publish_is_shown_and_raises_nothing() {
    let scene = Scene::new().await;
    scene.fire().await;
    let failed =
        Publication { substate: "FailedInCertification".into(), ..Publication::preview("1.5.0", STOP).moving() };
    scene.partner.publish(&failed);
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    let shown = scene.offer().await["watch"]["submissions"][0].clone();
    assert_eq!((&shown["substate"], &shown["standing"]), (&json!("FailedInCertification"), &json!("failed")));
}

#[tokio::test]
async fn a_substate_that_nobody_knows_is_judged_by_its_target_and_shown_as_it_is() {
    let scene = Scene::new().await;
    scene.fire().await;
    scene.partner.publish(&Publication { substate: "Ready".into(), ..Publication::preview("1.5.0", STOP) });
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.5.0 preview running"]);
    let nowhere =
        Publication { substate: "Beyond".into(), scope: "moon".into(), ..Publication::preview("1.6.0", STOP) };
    scene.partner.publish(&nowhere);
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 1);
    let shown = scene.offer().await["watch"]["submissions"][0].clone();
    assert_eq!(
        (&shown["substate"], &shown["targets"], &shown["standing"]),
        (&json!("Beyond"), &json!(["moon"]), &json!("unclear"))
    );
}

#[tokio::test]
async fn the_meaning_of_a_state_can_be_configured() {
    let states = r#"{"Published/InStore": "moving", "Published/Ready": "live"}"#.parse().unwrap();
    let scene = Scene::with(|watch| watch.states = states).await;
    scene.fire().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await, [""; 0]);
    scene.partner.publish(&Publication { substate: "Ready".into(), ..Publication::preview("1.6.0", STOP) });
    scene.look().await;
    assert_eq!(scene.rollouts().await, ["1.6.0 live running"]);
}

#[tokio::test]
async fn a_watcher_that_dies_at_any_point_raises_the_publish_once() {
    for moment in [Moment::Before, Moment::After] {
        for effect in 1.. {
            let scene = Scene::new().await;
            scene.fire().await;
            scene.partner.publish(&Publication::live("1.5.0", STOP));
            scene.world.advance(HOUR);
            let faults = Faults::death_at(effect, moment);
            let (store, queue) =
                (FaultyStore::over(&scene.world.store, &faults), FaultyQueue::over(&scene.world.queue, &faults));
            let mortal = scene.world.handler(store, queue);
            let survived = faults.until_death(invoke_timer(&mortal, "WatchOffers", None)).await.is_some();
            scene.world.advance(FIVE_MINUTES);
            scene.fire().await;
            scene.world.run_due().await;
            let context = format!("effect {effect} {moment:?}");
            assert_eq!(scene.rollouts().await, ["1.5.0 live running"], "{context}");
            let done = scene.settle_newest().await;
            assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{context}");
            let doubts = json!(["of some deployments it is not known which version they have"]);
            assert_eq!(done["changes"]["doubts"], doubts, "{context}");
            if survived {
                assert!(effect > 5, "the snapshot, what was seen, the rollout, that it was raised, the look: {effect}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_watchers_at_once_raise_a_publish_once() {
    let scene = Scene::new().await;
    scene.fire().await;
    for version in ["1.5.0", "1.6.0", "1.7.0"] {
        let action = format!("Microsoft.Web/sites/{version}/action");
        scene.partner.publish(&Publication::preview(version, &action));
        scene.partner.publish(&Publication::live(version, &action));
        scene.world.advance(HOUR);
        let handlers: Vec<_> =
            (0..4).map(|_| scene.world.handler(scene.world.another_store(), scene.world.another_queue())).collect();
        let runs = handlers.iter().map(|handler| invoke_timer(handler, "WatchOffers", None));
        for status in futures_util::future::join_all(runs).await {
            assert_eq!(status, StatusCode::OK);
        }
        scene.settle_all().await;
    }
    let mut rollouts = scene.rollouts().await;
    rollouts.sort();
    let once = ["1.5.0", "1.6.0", "1.7.0"]
        .into_iter()
        .flat_map(|v| [format!("{v} live completed"), format!("{v} preview completed")]);
    assert_eq!(rollouts, once.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_found_while_another_version_is_on_its_way_waits_and_the_newest_wins() {
    let scene = Scene::settled().await;
    let running = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.run_due().await;
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    // The look takes an hour, so the operations have ended; another one takes their place.
    scene.world.settle(running, HOUR).await;
    scene.settle_newest().await;
    assert_eq!(scene.rollouts().await[..2], ["1.6.0 live completed", "1.5.0 live completed"]);

    let strategy = json!({"canaries": 1, "waves": ["100%"], "pauseBetweenWaves": "PT100H"});
    let slow = scene.world.publish(json!({"version": "1.7.0", "strategy": strategy})).await;
    scene.world.run_due().await;
    for version in ["1.8.0", "1.9.0"] {
        scene.partner.publish(&Publication::live(version, RESTART));
        scene.look().await;
    }
    assert_eq!(scene.rollouts().await[..3], ["1.9.0 live waiting", "1.8.0 live canceled", "1.7.0 live running"]);
    scene.partner.publish(&Publication::preview("2.0.0", STOP));
    scene.look().await;
    assert_eq!(
        scene.rollouts().await[..2],
        ["2.0.0 preview waiting", "1.9.0 live waiting"],
        "a preview takes no place from a version that is for all"
    );
    scene.world.post(&format!("/api/rollouts/{slow}/cancel"), &Value::Null).await;
    scene.settle_all().await;
    assert_eq!(scene.rollouts().await[..2], ["2.0.0 preview completed", "1.9.0 live completed"]);
    assert_eq!(scene.world.simulator.refreshed_to(&application(2)).as_deref(), Some("1.9.0"));
}

#[tokio::test]
async fn a_version_below_the_wanted_one_starts_nothing_and_says_so() {
    let scene = Scene::settled().await;
    let id = scene.world.publish(json!({"version": "2.0.0"})).await;
    scene.world.settle(id, HOUR).await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await.len(), 2);
    let outcome = scene.offer().await["plans"][0]["live"]["outcome"].clone();
    assert_eq!(outcome["outcome"], "refused");
    assert!(outcome["why"].as_str().unwrap().contains("lower than the wanted version 2.0.0"), "{outcome}");
}

#[tokio::test]
async fn a_version_that_changes_nothing_is_stored_shown_and_started_by_one_command() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", RESTART));
    scene.look().await;
    let id = scene.newest().await;
    let parked = scene.world.rollout(id).await;
    assert_eq!(
        (&parked["state"], &parked["counts"]["total"], &parked["wave"]),
        (&json!("paused"), &json!(0), &json!(0))
    );
    assert!(
        parked["why"].as_str().unwrap().contains("nothing that a refresh can carry has changed since 1.4.0"),
        "{parked}"
    );
    assert_eq!(parked["changes"]["against"], "1.4.0");
    let posts = scene.world.simulator.stats().posts;
    scene.world.advance(Duration::from_secs(1));
    let due = scene.world.now() + 24 * HOUR;
    assert_eq!(invoke_timer(&scene.handler(), "ScheduledRefresh", Some(due)).await, StatusCode::OK);
    let scheduled = scene.newest().await;
    assert_ne!(scheduled, id, "drift is repaired all the same");
    scene.world.settle(scheduled, HOUR).await;
    assert_eq!(scene.world.simulator.stats().posts, posts + 3);

    let (status, _) = scene.world.post(&format!("/api/rollouts/{id}/resume"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let done = scene.world.settle(id, HOUR).await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{done}");
}

#[tokio::test]
async fn a_parked_rollout_that_is_resumed_waits_for_what_began_meanwhile() {
    // Before the scheduled one has counted its deployments, and while it posts.
    for is_running in [false, true] {
        let scene = Scene::settled().await;
        scene.partner.publish(&Publication::live("1.5.0", RESTART));
        scene.look().await;
        let parked = scene.newest().await;
        assert_eq!(scene.rollouts().await[0], "1.5.0 live paused");
        scene.world.advance(Duration::from_secs(1));
        let due = Some(scene.world.now());
        assert_eq!(invoke_timer(&scene.handler(), "ScheduledRefresh", due).await, StatusCode::OK);
        let scheduled = scene.newest().await;
        if is_running {
            scene.world.run_due().await;
        }
        let (status, _) = scene.world.post(&format!("/api/rollouts/{parked}/resume"), &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let body = Message::PlanRollout { rollout_id: parked }.to_body();
        assert!(invoke_message(&scene.handler(), "PlanRollout", body.as_bytes()).await.is_success());
        scene.world.run_due().await;
        assert_eq!(scene.rollouts().await[..2], ["1.4.0 live running", "1.5.0 live waiting"], "{is_running}");
        let waiting = scene.world.rollout(parked).await;
        assert!(waiting["why"].as_str().unwrap().contains(&scheduled.to_string()), "{waiting}");
        scene.settle_all().await;
        assert_eq!(scene.rollouts().await[..2], ["1.4.0 live completed", "1.5.0 live completed"], "{is_running}");
        assert_eq!(scene.world.rollout(parked).await["counts"]["succeeded"], 3);
        assert_eq!(scene.world.simulator.stats().overlapping_operations, 0);
        assert_eq!(scene.world.simulator.refreshed_to(&application(2)).as_deref(), Some("1.5.0"));
    }
}

#[tokio::test]
async fn a_post_from_ci_of_a_version_that_changes_nothing_is_parked_too_and_one_by_hand_is_not() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::preview("1.5.0", RESTART));
    scene.look().await;
    let ci = scene.world.publish(json!({"version": "1.5.0"})).await;
    scene.world.run_due().await;
    assert_eq!(scene.world.rollout(ci).await["state"], "paused");
    scene.world.advance(Duration::from_secs(1));
    let (status, by_hand) = scene.world.post("/api/rollouts", &publish(json!({"version": "1.5.0"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{by_hand}");
    let done = scene.settle_newest().await;
    assert_eq!((&done["state"], &done["counts"]["succeeded"]), (&json!("completed"), &json!(3)), "{done}");
}

#[tokio::test]
async fn the_widest_difference_from_what_was_applied_with_success_counts() {
    let scene = Scene::settled().await;
    let ids = [application(0), application(1), application(2)];
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    let failed = Acceptance::ending(Outcome::failed("InternalServerError", "something broke"));
    scene.world.simulator.on_post(&ids[2], [OnPost::Accept(failed)]);
    scene.look().await;
    assert_eq!(scene.settle_newest().await["counts"]["failed"], 1);
    // The same permissions as 1.5.0, which one deployment has not got.
    scene.partner.publish(&Publication::live("1.6.0", STOP));
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "running", "{rollout}");
    let changes = &rollout["changes"];
    assert_eq!((&changes["against"], &changes["alsoCompared"]), (&json!("1.4.0"), &json!(["1.5.0"])), "{changes}");
    assert_eq!(changes["difference"]["controlActions"], json!({"added": [STOP], "removed": [RESTART]}));
    scene.settle_newest().await;
    scene.partner.publish(&Publication::live("1.7.0", STOP));
    scene.look().await;
    assert_eq!(scene.rollouts().await[0], "1.7.0 live paused", "now everybody has them");
}

#[tokio::test]
async fn in_doubt_something_has_changed() {
    for doubt in ["no snapshot", "unreadable snapshot", "unknown member", "unreadable member", "restated"] {
        let scene = Scene::settled().await;
        let next = scene.partner.publish(&Publication::live("1.5.0", RESTART).moving());
        match doubt {
            "no snapshot" => {
                let by_hand = json!({"version": "1.4.9", "purpose": "repair"});
                let id = scene.world.publish(by_hand).await;
                scene.world.settle(id, HOUR).await;
            }
            "unreadable snapshot" => scene.spoil_snapshot("1.4.0").await,
            "unknown member" => scene.partner.edit_package(&next, |package| package["somethingNew"] = json!({"x": 1})),
            "unreadable member" => {
                scene.partner.edit_package(&next, |package| package["allowedDataActions"] = json!(7));
            }
            _ => {
                scene.partner.publish(&Publication::live("1.4.0", STOP));
                scene.look().await;
            }
        }
        scene.partner.move_to(&next, "Published", "InStore", "live");
        scene.partner.edit(&next, |item| item["releaseNumber"] = json!(99));
        scene.look().await;
        assert_eq!(scene.rollouts().await[0], "1.5.0 live running", "{doubt}");
    }
}

#[tokio::test]
async fn a_member_that_nobody_knows_counts_as_changed_although_both_versions_have_it_alike() {
    let scene = Scene::new().await;
    let strange = |version: &str| {
        let mut publication = Publication::live(version, RESTART);
        publication.package["someReferences"] = json!([{"type": "Something", "value": "115"}]);
        publication
    };
    scene.partner.publish(&strange("1.4.1"));
    scene.fire().await;
    let id = scene.world.publish(json!({"version": "1.4.1"})).await;
    assert_eq!(scene.world.settle(id, HOUR).await["counts"]["succeeded"], 3);
    scene.partner.publish(&strange("1.5.0"));
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "running", "{rollout}");
    let doubts = json!(["what these members of the package mean is not known here: someReferences"]);
    assert_eq!((&rollout["changes"]["against"], &rollout["changes"]["doubts"]), (&json!("1.4.1"), &doubts));
}

#[tokio::test]
async fn reports_show_what_changed_between_the_versions() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    let id = scene.newest().await;
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (status, text) = scene.world.request(request).await;
    assert_eq!(status, StatusCode::OK);
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let at = csv.headers().unwrap().iter().position(|head| head == "changes").unwrap();
    let told: Vec<_> = csv.records().map(|row| row.unwrap()[at].to_owned()).collect();
    assert_eq!(told, vec![format!("since 1.4.0: + control action {STOP}; - control action {RESTART}"); 3]);
}

#[tokio::test]
async fn a_frozen_setting_that_changed_is_named_as_impossible() {
    let scene = Scene::settled().await;
    let mut publication = Publication::live("1.5.0", RESTART);
    publication.package["publisherManagementMode"] = "Unmanaged".into();
    scene.partner.publish(&publication);
    scene.look().await;
    let rollout = scene.world.rollout(scene.newest().await).await;
    assert_eq!(rollout["state"], "paused");
    assert!(
        rollout["why"].as_str().unwrap().contains("publisherManagementMode changed, which no refresh can bring"),
        "{rollout}"
    );
    assert_eq!(rollout["changes"]["difference"]["impossible"][0]["after"], "unmanaged");
    let report =
        scene.world.get(&format!("/api/rollouts/{}/report?format=json", rollout["id"].as_str().unwrap())).await;
    assert_eq!(report["rollout"]["changes"], rollout["changes"]);
}

#[tokio::test]
async fn the_csv_report_says_in_words_what_the_version_changes() {
    let scene = Scene::settled().await;
    scene.partner.publish(&Publication::live("1.5.0", STOP));
    scene.look().await;
    let id = scene.newest().await;
    scene.world.settle(id, HOUR).await;
    let request = Request::get(format!("/api/rollouts/{id}/report?format=csv")).body(Body::empty()).unwrap();
    let (_, csv) = scene.world.request(request).await;
    assert!(csv.contains(&format!("since 1.4.0: + control action {STOP}; - control action {RESTART}")), "{csv}");
}

#[tokio::test]
async fn a_published_version_that_is_wider_than_the_wanted_one_is_reported() {
    let scene = Scene::new().await;
    let mut wide = Publication::live("1.3.0", "Microsoft.Web/*");
    wide.package["allowJitAccess"] = true.into();
    scene.partner.publish(&wide);
    scene.partner.publish(&Publication::live("1.4.0", RESTART));
    scene.fire().await;
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!(plan["wantedVersion"], "1.4.0");
    assert_eq!(plan["versions"], json!(["1.3.0", "1.4.0"]));
    let wider = json!([{"version": "1.3.0", "allows": ["control action Microsoft.Web/*", "just-in-time access"]}]);
    assert_eq!(plan["wider"], wider);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_back_is_named_and_hides_no_other() {
    let scene = Scene::new().await;
    for (version, action) in [("1.2.0", STOP), ("1.3.0", "Microsoft.Web/*"), ("1.4.0", RESTART)] {
        scene.partner.publish(&Publication::live(version, action));
    }
    scene.fire().await;
    scene.spoil_snapshot("1.2.0").await;
    scene.partner.publish(&Publication::live("1.4.1", RESTART));
    scene.look().await;
    assert_eq!(scene.offer().await["watch"]["trouble"], Value::Null);
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!(plan["versions"], json!(["1.3.0", "1.4.0", "1.4.1"]), "{plan}");
    assert_eq!(plan["wider"][0]["version"], "1.3.0");
    assert_eq!(plan["unreadable"].as_array().unwrap().len(), 1, "{plan}");
    assert!(plan["unreadable"][0].as_str().unwrap().contains("0000000002"), "{plan}");
    // Once Partner Center shows that version again, its record is written anew.
    scene.partner.publish(&Publication::live("1.2.0", STOP));
    scene.look().await;
    let plan = scene.offer().await["plans"][0].clone();
    assert_eq!((&plan["versions"][0], plan.get("unreadable")), (&json!("1.2.0"), None), "{plan}");
}

#[tokio::test]
async fn what_is_remembered_of_packages_is_as_long_as_partner_centers_list() {
    let scene = Scene::new().await;
    let instances = async || {
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let known = document::get::<PlanWatch>(&*scene.world.store, &plan.to_string()).await.unwrap().unwrap();
        known.value.instances.len()
    };
    let mut published: Vec<_> =
        ["1.4.1", "1.4.2"].map(|version| scene.partner.publish(&Publication::live(version, RESTART))).into();
    scene.fire().await;
    assert_eq!(instances().await, 3);
    scene.partner.remove(&published.remove(0));
    scene.look().await;
    assert_eq!(instances().await, 2);
}

#[tokio::test]
async fn an_offer_or_a_plan_that_partner_center_does_not_have_is_named() {
    let scene = Scene::new().await;
    scene.partner.on(Call::Product, [OnCall::Answer(Reply::json(200, r#"{"value": []}"#))]);
    scene.fire().await;
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert!(trouble["what"].as_str().unwrap().contains("offer id ledger"), "{trouble}");
    scene.partner.on(Call::Variants, [OnCall::Answer(Reply::json(200, r#"{"value": []}"#))]);
    scene.look().await;
    let trouble = scene.offer().await["watch"]["trouble"].clone();
    assert!(trouble["what"].as_str().unwrap().contains("plan standard"), "{trouble}");
}

#[tokio::test]
async fn without_settings_for_it_nothing_is_watched() {
    let world = World::new().await;
    let router = world.handler(world.store.clone(), world.queue.clone());
    assert_eq!(invoke_timer(&router, "WatchOffers", None).await, StatusCode::OK);
    assert_eq!(world.get("/api/offers").await["value"], json!([]));
}
