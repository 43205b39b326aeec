//! What only the tables backend can suffer, and what it costs: lost answers, throttling, pages without rows, an index that
//! is not true, other processes; and how many requests each operation takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use futures_util::future::join_all;
use permafresh::access::credential::TokenSource;
use permafresh::clock::Clock;
use permafresh::rollout::{Deployment, Refresh, Standing, Timestamp};
use permafresh::store::tables::{TablesConfig, TablesCredential, TablesStore};
use permafresh::store::{Claim, Saved, Store, StoreError, Versioned};

use crate::azurite;
use crate::contracts::samples::{
    assert_tally_is_a_recount, deployment, page, plan, refresh, rollout, rollout_id, standing, stored, succeeded,
};
use crate::manual_clock::ManualClock;
use crate::tables_proxy::{Fault, Proxy};

const MINUTE: Duration = Duration::from_secs(60);

struct Tables {
    proxy: Proxy,
    store: TablesStore,
    clock: ManualClock,
}

impl Tables {
    async fn behind_a_proxy() -> Self {
        let (proxy, clock) = (Proxy::start().await, ManualClock::default());
        let store = azurite::open(&proxy.tables(), &clock);
        store.create_tables().await.unwrap();
        proxy.seen();
        Self { proxy, store, clock }
    }

    /// A stored refresh, as it was read.
    async fn running(&self, number: u32, wake: Timestamp) -> Versioned<Refresh> {
        let planned = refresh(1, number);
        self.store.insert_refreshes(std::slice::from_ref(&planned)).await.unwrap();
        let read = stored(&self.store, &planned).await;
        let running = read.with(Refresh { state: standing(Standing::Running, wake), ..read.value.clone() });
        self.store.save_refreshes(&[running]).await.unwrap();
        stored(&self.store, &planned).await
    }

    async fn due(&self, now: Timestamp) -> Vec<Versioned<Refresh>> {
        self.store.due_refreshes(now, 10).await.unwrap()
    }

    /// How many requests a piece of work takes.
    async fn requests<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> u64 {
        let before = self.store.requests();
        work.await.unwrap();
        self.store.requests() - before
    }
}

fn ended(read: &Versioned<Refresh>) -> Versioned<Refresh> {
    read.with(Refresh { state: standing(Standing::Succeeded, Timestamp::MIN_UTC), ..read.value.clone() })
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_to_have_happened() {
    let tables = Tables::behind_a_proxy().await;
    for fault in [Fault::LoseAnswer, Fault::AnswerAfter(500)] {
        let number = if fault == Fault::LoseAnswer { 1 } else { 2 };
        let read = tables.running(number, tables.clock.now()).await;
        tables.proxy.next("succeeded", fault);
        let saved = tables.store.save_refreshes(&[ended(&read)]).await.unwrap();
        let now = stored(&tables.store, &read.value).await;
        assert!(tables.proxy.is_done());
        assert_eq!(
            (Standing::of(&now.value), Some(&saved[0])),
            (Standing::Succeeded, now.etag.map(Saved::Stored).as_ref())
        );
    }
    let claim = Claim { rollout_id: rollout_id(1), at: tables.clock.now() };
    tables.proxy.next("Facts", Fault::LoseAnswer);
    assert_eq!(tables.store.claim_key("k", &claim).await.unwrap(), None, "it is ours, though nobody told us");
    assert_tally_is_a_recount(&tables.store, rollout_id(1)).await;
}

#[tokio::test]
async fn a_write_that_did_not_happen_is_told_and_can_be_done_again() {
    let tables = Tables::behind_a_proxy().await;
    let read = tables.running(1, tables.clock.now()).await;
    for fault in [Fault::LoseRequest, Fault::Answer(500), Fault::Answer(503), Fault::Answer(429), Fault::Answer(403)] {
        tables.proxy.next("succeeded", fault);
        let told = tables.store.save_refreshes(&[ended(&read)]).await;
        assert!(matches!(told, Err(StoreError::Unavailable { .. })), "{fault:?}: {told:?}");
        assert_eq!(stored(&tables.store, &read.value).await, read, "{fault:?}");
    }
    assert!(tables.store.save_refreshes(&[ended(&read)]).await.unwrap()[0].is_stored());
    assert_tally_is_a_recount(&tables.store, rollout_id(1)).await;
}

#[tokio::test]
async fn a_throttled_store_is_asked_once_and_says_so() {
    let tables = Tables::behind_a_proxy().await;
    tables.proxy.next("Rollouts", Fault::Answer(503));
    let told = tables.store.rollout(rollout_id(1)).await.unwrap_err().to_string();
    assert!(told.contains("503"), "{told}");
    assert_eq!(tables.proxy.seen().len(), 1, "a queue repeats what failed, nobody else");
}

#[tokio::test]
async fn a_refused_transaction_is_tried_again_with_what_can_still_win() {
    let tables = Tables::behind_a_proxy().await;
    let reads = join_all((1..=20).map(|number| tables.running(number, tables.clock.now()))).await;
    let mut stale = reads.clone();
    stale[4] = reads[4].with(Refresh { polls: 7, ..reads[4].value.clone() });
    tables.store.save_refreshes(&[stale[4].clone()]).await.unwrap();
    tables.proxy.next("succeeded", Fault::Answer(412));
    let saved = tables.store.save_refreshes(&reads.iter().map(ended).collect::<Vec<_>>()).await.unwrap();
    let lost: Vec<_> = (0..20).filter(|at| saved[*at] == Saved::Conflict).collect();
    assert_eq!((lost, tables.proxy.is_done()), (vec![4], true));
    assert_tally_is_a_recount(&tables.store, rollout_id(1)).await;
}

#[tokio::test]
async fn an_empty_page_is_not_the_end_and_no_row_key_is_made_up() {
    let tables = Tables::behind_a_proxy().await;
    tables.store.insert_refreshes(&[refresh(1, 1), refresh(1, 2)]).await.unwrap();
    for empty_row_key in [false, true] {
        tables.proxy.next("Refreshes()", Fault::EmptyPage { empty_row_key });
        tables.proxy.seen();
        let listed = tables.store.refreshes(rollout_id(1), None, &page(10, None)).await.unwrap();
        assert_eq!((listed.items.len(), listed.next), (2, None));
        let seen = tables.proxy.seen();
        let (first, second) = (&seen[0], &seen[1]);
        assert!(second.contains("NextPartitionKey=") && !second.contains("NextRowKey"), "{second}");
        assert!(second.starts_with(first.as_str()), "all options are sent again: {second}");
    }
}

#[tokio::test]
async fn an_index_row_whose_record_never_came_is_dropped_but_not_too_soon() {
    let tables = Tables::behind_a_proxy().await;
    let now = tables.clock.now();
    let read = tables.running(1, now + MINUTE * 60).await;
    // The process ends between the index and the record.
    let sooner = read.with(Refresh { state: standing(Standing::Running, now), ..read.value.clone() });
    tables.proxy.next("Refreshes", Fault::Answer(503));
    tables.store.save_refreshes(&[sooner]).await.unwrap_err();

    let idle = async || tables.requests(tables.store.due_refreshes(now, 10)).await;
    assert_eq!((idle().await, tables.due(now).await), (2, vec![]), "the record is looked at, and says otherwise");
    tables.clock.advance(MINUTE * 4);
    assert_eq!(idle().await, 2, "its writer may still be on the way");
    tables.clock.advance(MINUTE * 2);
    assert_eq!(idle().await, 3, "now it is dropped");
    assert_eq!(idle().await, 1);
    assert_eq!(tables.store.next_wake().await.unwrap(), Some(now + MINUTE * 60));
}

#[tokio::test]
async fn a_refresh_that_no_index_knows_is_found_within_the_hour() {
    let tables = Tables::behind_a_proxy().await;
    let now = tables.clock.now();
    tables.store.save_rollout(&Versioned::new(rollout(1))).await.unwrap();
    let known = tables.running(1, now + MINUTE * 90).await;
    tables.proxy.next("Wakes", Fault::PretendDone);
    let unknown = tables.running(2, now + MINUTE).await;
    let mut asked = deployment(3);
    asked.ask_check(now);
    tables.proxy.next("Checks", Fault::PretendDone);
    tables.store.save_deployments(&[Versioned::new(asked)]).await.unwrap();
    assert!(tables.proxy.is_done());
    assert_eq!(tables.store.next_wake().await.unwrap(), known.value.wake_at(), "nobody knows of the other");

    assert_eq!(tables.store.wake_forgotten(tables.clock.now()).await.unwrap(), 0, "it is not due yet");
    tables.clock.advance(MINUTE * 30);
    assert_eq!(tables.requests(tables.store.wake_forgotten(tables.clock.now())).await, 0, "once an hour is enough");
    tables.clock.advance(MINUTE * 31);
    assert_eq!(tables.store.wake_forgotten(tables.clock.now()).await.unwrap(), 2);
    assert_eq!(tables.due(tables.clock.now()).await, [unknown]);
    assert_eq!(tables.store.due_checks(tables.clock.now(), 10).await.unwrap().len(), 1);
    let other = azurite::open(&tables.proxy.tables(), &tables.clock);
    assert_eq!(other.wake_forgotten(tables.clock.now()).await.unwrap(), 0, "somebody did it this hour");
}

#[tokio::test]
async fn a_refresh_that_is_retried_opens_its_ended_rollout_again() {
    let tables = Tables::behind_a_proxy().await;
    let read = tables.running(1, tables.clock.now()).await;
    tables.store.save_rollout(&Versioned::new(rollout(1))).await.unwrap();
    tables.store.save_refreshes(&[ended(&read)]).await.unwrap();
    let mut over = tables.store.rollout(rollout_id(1)).await.unwrap().unwrap();
    over.value.cancel(None, tables.clock.now());
    tables.store.save_rollout(&over).await.unwrap();
    let open = async || tables.store.open_rollouts().await.unwrap().len();
    assert_eq!(open().await, 0);
    tables.clock.advance(MINUTE * 10);
    assert_eq!(open().await, 0);
    assert_eq!(tables.requests(tables.store.open_rollouts()).await, 1, "it is not even a candidate any more");
    let read = stored(&tables.store, &read.value).await;
    let again = read.with(Refresh { state: standing(Standing::Pending, tables.clock.now()), ..read.value.clone() });
    tables.store.save_refreshes(&[again]).await.unwrap();
    assert_eq!(open().await, 1);
}

#[tokio::test]
async fn processes_that_write_at_once_leave_the_counts_right() {
    let (config, clock) = (azurite::new_tables(), ManualClock::default());
    let stores: Vec<_> = (0..3).map(|_| Arc::new(azurite::open(&config, &clock))).collect();
    let planned: Vec<_> = (0..60).map(|number| refresh(1, number)).collect();
    let added = join_all(stores.iter().map(|store| store.insert_refreshes(&planned))).await;
    assert_eq!(added.into_iter().map(Result::unwrap).sum::<usize>(), 60, "each was added by one");
    let work = planned.iter().enumerate().map(|(number, planned)| {
        let (store, planned, clock) = (Arc::clone(&stores[number % 3]), planned.clone(), clock.clone());
        tokio::spawn(async move {
            for of in [Standing::Submitting, Standing::Running, Standing::Succeeded] {
                let read = stored(&*store, &planned).await;
                let next = read.with(Refresh { state: standing(of, clock.now()), ..read.value.clone() });
                assert!(store.save_refreshes(&[next]).await.unwrap()[0].is_stored());
            }
        })
    });
    join_all(work).await.into_iter().for_each(Result::unwrap);
    assert_tally_is_a_recount(&*stores[0], rollout_id(1)).await;
    assert_eq!(stores[1].tally(rollout_id(1)).await.unwrap().count(|s| s == Standing::Succeeded), 60);
    assert_eq!(stores[2].next_wake().await.unwrap(), None);
}

#[tokio::test]
async fn no_operation_takes_more_requests_than_is_said() {
    let tables = Tables::behind_a_proxy().await;
    let (store, now) = (&tables.store, tables.clock.now());
    let all: Vec<_> = (0..400).map(|number| refresh(1, number)).collect();
    assert_eq!(tables.requests(store.insert_refreshes(&all)).await, 1 + 16 + 16, "a mark, counts, transactions");
    assert_eq!(tables.requests(store.tally(rollout_id(1))).await, 16);
    assert_eq!(tables.requests(store.refreshes(rollout_id(1), None, &page(500, None))).await, 1);
    let few = tables.requests(store.refreshes(rollout_id(1), Some(&[Standing::Failed]), &page(100, None))).await;
    assert_eq!(few, 16, "there is none, and the counts say so");
    let many = tables.requests(store.refreshes(rollout_id(1), Some(&[Standing::Pending]), &page(1_000, None))).await;
    assert_eq!(many, 16 + 16);

    assert_eq!(tables.requests(store.due_refreshes(now, 1_000)).await, 1);
    assert_eq!(tables.requests(store.next_wake()).await, 1);
    let read = store.refreshes(rollout_id(1), None, &page(500, None)).await.unwrap().items;
    let to = |of: Standing, wake: Timestamp, read: &[Versioned<Refresh>]| -> Vec<_> {
        let with = |read: &Versioned<Refresh>| read.with(Refresh { state: standing(of, wake), ..read.value.clone() });
        read.iter().map(with).collect()
    };
    let running = to(Standing::Running, now, &read);
    assert_eq!(tables.requests(store.save_refreshes(&running)).await, 16 + 16, "times, transactions");
    assert_eq!(tables.requests(store.due_refreshes(now, 1_000)).await, 1 + 16);
    let due = store.due_refreshes(now, 1_000).await.unwrap();
    assert_eq!(due.len(), 400);
    let later = to(Standing::Running, now + MINUTE, &due);
    assert_eq!(tables.requests(store.save_refreshes(&later)).await, 3 * 16, "new times, transactions, old times");
    assert_eq!(tables.requests(store.next_wake()).await, 1 + 16 + 1, "a minute of which 400 are due");

    let one = store.refresh(rollout_id(1), &all[0].key).await.unwrap().unwrap();
    let polled = one.with(Refresh { polls: 1, ..one.value.clone() });
    assert_eq!(tables.requests(store.save_refreshes(&[polled])).await, 1, "same standing, same time");
    let one = store.refresh(rollout_id(1), &all[0].key).await.unwrap().unwrap();
    assert_eq!(tables.requests(store.save_refreshes(&to(Standing::Running, now + MINUTE * 2, &[one]))).await, 3);
    assert_eq!(tables.requests(store.save_rollout(&Versioned::new(rollout(1)))).await, 1);
    assert_eq!(tables.requests(store.open_rollouts()).await, 2);

    let new: Vec<_> = (0..100).map(|number| Versioned::new(deployment(number))).collect();
    assert_eq!(tables.requests(store.save_deployments(&new)).await, 16 + 16);
    assert_eq!(tables.requests(store.count_deployments(&plan("standard"))).await, 16);
    assert_eq!(tables.requests(store.deployments_after(&plan("standard"), None, 1_000)).await, 16 + 16);
    assert_eq!(tables.requests(store.deployments_after(&plan("none"), None, 1_000)).await, 16);
    let key = deployment(1).key;
    assert_eq!(tables.requests(store.deployments_by_key(std::slice::from_ref(&key))).await, 1);
    assert_eq!(tables.requests(store.record_past(&key, &succeeded(1, "1.4.0", 1))).await, 2);
    assert_eq!(tables.requests(store.forget_gone(now)).await, 1);
    assert_eq!(tables.requests(store.due_checks(now, 1_000)).await, 1);
    assert_eq!(tables.requests(store.throttle("s", now)).await, 2);
    assert_eq!(tables.requests(store.wake_forgotten(now)).await, 34 + 16);
}

#[tokio::test]
async fn a_record_that_no_row_holds_is_refused_and_the_store_goes_on() {
    let tables = Tables::behind_a_proxy().await;
    let large = |units: usize| Deployment { event_error: Some("ü".repeat(units)), ..deployment(1) };
    let told = tables.store.save_deployments(&[Versioned::new(large(600_000))]).await.unwrap_err().to_string();
    assert!(told.contains("480000"), "{told}");
    let fits = large(400_000);
    assert!(tables.store.save_deployments(&[Versioned::new(fits.clone())]).await.unwrap()[0].is_stored());
    let read = tables.store.deployments_by_key(std::slice::from_ref(&fits.key)).await.unwrap().remove(0);
    assert_eq!(read.unwrap().value, fits);
}

/// Issues a new token each time it is asked.
#[derive(Debug, Default)]
struct Counting(Mutex<u32>);

#[async_trait]
impl TokenCredential for Counting {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://storage.azure.com/.default"]);
        let mut issued = self.0.lock().unwrap();
        *issued += 1;
        let expires = azure_core::time::OffsetDateTime::now_utc() + Duration::from_secs(3_600);
        Ok(AccessToken::new(format!("token-{issued}"), expires))
    }
}

#[tokio::test]
async fn an_identity_asks_for_a_new_token_once_when_the_old_one_is_refused() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let answer = async |State(heard): State<Arc<Mutex<Vec<String>>>>, request: Request| {
        let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
        let status = match (&*authorization, request.uri().path()) {
            ("Bearer token-1", _) => StatusCode::UNAUTHORIZED,
            (_, "/Tables") => StatusCode::CONFLICT,
            _ => StatusCode::NOT_FOUND,
        };
        heard.lock().unwrap().push(authorization);
        status
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let app = axum::Router::new().fallback(answer).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(permafresh::clock::SystemClock);
    let tokens = TokenSource::from_credential(Arc::new(Counting::default()), clock.clone());
    let config = TablesConfig::new(endpoint, TablesCredential::Identity);
    let store = TablesStore::connect(&config, http, Arc::new(tokens), clock).unwrap();
    assert_eq!(store.rollout(rollout_id(1)).await.unwrap(), None);
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|token| ["Bearer token-1", "Bearer token-2"].contains(&token.as_str())), "{heard:?}");
    assert_eq!(heard.last().unwrap(), "Bearer token-2");
}
