//! Random writes against a store and a plain model of it: they must agree after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use permafresh::rollout::{DeploymentKey, Refresh, RolloutId, Standing, Tally, Timestamp};
use permafresh::store::{ETag, Saved, Store, Versioned};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::contracts::samples::{all_refreshes, at, page, refresh, rollout_id, standing};

/// How many sequences are tried; each has a rollout of its own, and all share one store.
const SEQUENCES: u32 = 24;

/// One write. Rollouts, deployments and standings are picked by number.
#[derive(Clone, Debug)]
enum Write {
    Insert { refreshes: Vec<(u32, u32)> },
    Save { number: u32, standing: Standing, wake: i64, guard: Guard },
}

#[derive(Clone, Copy, Debug)]
enum Guard {
    Current,
    Stale,
    New,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let insert = proptest::collection::vec((0u32..8, 1u32..4), 0..5);
    let insert = insert.prop_map(|refreshes| Write::Insert { refreshes });
    let of = (0..Standing::ALL.len()).prop_map(|at| Standing::ALL[at]);
    let guard = prop_oneof![6 => Just(Guard::Current), 1 => Just(Guard::Stale), 1 => Just(Guard::New)];
    let save = (0u32..8, of, 0i64..6, guard).prop_map(|(number, standing, wake, guard)| Write::Save {
        number,
        standing,
        wake,
        guard,
    });
    proptest::collection::vec(prop_oneof![1 => insert, 4 => save], 1..30)
}

/// What the store should hold: each refresh with its version and the one before.
#[derive(Default)]
struct Model(BTreeMap<(RolloutId, DeploymentKey), (Refresh, ETag, Option<ETag>)>);

impl Model {
    fn due(&self, now: Timestamp) -> Vec<Timestamp> {
        let mut due: Vec<_> = self.0.values().filter_map(|(refresh, ..)| refresh.wake_at()).collect();
        due.retain(|wake| *wake <= now);
        due.sort();
        due
    }
}

pub async fn whatever_is_written_tally_lists_and_due_times_agree_with_a_plain_model(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let mut model = Model::default();
    let mut runner = TestRunner::deterministic();
    for sequence in 0..SEQUENCES {
        let writes = writes().new_tree(&mut runner).unwrap().current();
        for (step, write) in writes.iter().enumerate() {
            apply(&*store, &mut model, rollout_id(sequence), write).await;
            let place = format!("step {step} of {writes:?}");
            assert_agreement(&*store, &model, rollout_id(sequence), &place).await;
        }
    }
}

async fn apply(store: &dyn Store, model: &mut Model, rollout: RolloutId, write: &Write) {
    match write {
        Write::Insert { refreshes } => {
            let planned: Vec<_> = refreshes
                .iter()
                .map(|(number, wave)| Refresh { rollout_id: rollout, wave: *wave, ..refresh(0, *number) })
                .collect();
            let added = store.insert_refreshes(&planned).await.unwrap();
            let before = model.0.len();
            for refresh in planned {
                let id = (rollout, refresh.key.clone());
                let stored = store.refresh(rollout, &refresh.key).await.unwrap().unwrap();
                model.0.entry(id).or_insert((refresh, stored.etag.unwrap(), None));
            }
            assert_eq!(added, model.0.len() - before);
        }
        Write::Save { number, standing: of, wake, guard } => {
            let changed =
                Refresh { rollout_id: rollout, polls: *number, state: standing(*of, at(*wake)), ..refresh(0, *number) };
            let id = (rollout, changed.key.clone());
            let known = model.0.get(&id);
            let etag = match (guard, known) {
                (Guard::New, _) | (_, None) => None,
                (Guard::Current, Some((_, current, _))) => Some(current.clone()),
                (Guard::Stale, Some((_, _, stale))) => stale.clone(),
            };
            let wins = etag.as_ref() == known.map(|(_, current, _)| current);
            let answers = store.save_refreshes(&[Versioned { value: changed.clone(), etag }]).await.unwrap();
            match &answers[..] {
                [Saved::Stored(etag)] if wins => {
                    let before = known.map(|(_, current, _)| current.clone());
                    model.0.insert(id, (changed, etag.clone(), before));
                }
                [Saved::Conflict] if !wins => {}
                other => panic!("the write should have {}: {other:?}", if wins { "won" } else { "lost" }),
            }
        }
    }
}

async fn assert_agreement(store: &dyn Store, model: &Model, rollout: RolloutId, place: &str) {
    let of_rollout = || model.0.iter().filter(|((id, _), _)| *id == rollout).map(|(_, stored)| stored);
    let mut tally = Tally::default();
    of_rollout().for_each(|(refresh, ..)| tally.add(refresh.wave, Standing::of(refresh), 1));
    assert_eq!(store.tally(rollout).await.unwrap(), tally, "{place}");

    let expected: Vec<_> =
        of_rollout().map(|(refresh, etag, _)| Versioned { value: refresh.clone(), etag: Some(etag.clone()) }).collect();
    assert_eq!(all_refreshes(store, rollout, None, 3).await, expected, "{place}");
    let running = [Standing::Running, Standing::Pending];
    let in_part = expected.into_iter().filter(|stored| running.contains(&Standing::of(&stored.value)));
    let listed = store.refreshes(rollout, Some(&running), &page(100, None)).await.unwrap();
    assert_eq!(listed.items, in_part.collect::<Vec<_>>(), "{place}");

    assert_eq!(store.next_wake().await.unwrap(), model.due(Timestamp::MAX_UTC).first().copied(), "{place}");
    for now in [1, 4] {
        let due = store.due_refreshes(at(now), 5).await.unwrap();
        let wakes: Vec<_> = due.iter().map(|due| due.value.wake_at().unwrap()).collect();
        let mut expected = model.due(at(now));
        expected.truncate(5);
        assert_eq!(wakes, expected, "{place}");
        for due in due {
            let (refresh, etag, _) = &model.0[&(due.value.rollout_id, due.value.key.clone())];
            assert_eq!((&due.value, due.etag.as_ref()), (refresh, Some(etag)), "{place}");
        }
    }
}
