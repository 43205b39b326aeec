//! What a button does, once it is confirmed.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::{HOME, Visit};
use crate::world::{World, application, one_wave};

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
