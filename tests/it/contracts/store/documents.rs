//! Rules about documents.

use std::sync::Arc;

use futures_util::future::join_all;
use permafresh::rollout::{Plan, WantedVersion};
use permafresh::store::document::{self, Document, all, get, remove, save};
use permafresh::store::{ETag, Saved, Store, StoreError, Versioned};
use serde::{Deserialize, Serialize};

use crate::contracts::samples::{page, plan, rollout_id, version};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    name: String,
    text: String,
}

impl Document for Note {
    const COLLECTION: &'static str = "note";
    fn name(&self) -> String {
        self.name.clone()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Other(String);

impl Document for Other {
    const COLLECTION: &'static str = "other";
    fn name(&self) -> String {
        self.0.clone()
    }
}

fn note(name: &str, text: &str) -> Note {
    Note { name: name.to_owned(), text: text.to_owned() }
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    all::<Note>(store, prefix).await.unwrap().into_iter().map(|note| note.value.name).collect()
}

pub async fn a_document_is_written_under_its_guard(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    assert_eq!(get::<Note>(&*store, "a").await.unwrap(), None);
    let first = Versioned::new(note("a", "one"));
    assert!(save(&*store, &first).await.unwrap().is_stored());
    assert_eq!(save(&*store, &first).await.unwrap(), Saved::Conflict, "it exists");
    let read = get::<Note>(&*store, "a").await.unwrap().unwrap();
    assert_eq!(read.value, first.value);
    let Saved::Stored(etag) = save(&*store, &read.with(note("a", "two"))).await.unwrap() else {
        panic!("the version was right");
    };
    assert_eq!(save(&*store, &read.with(note("a", "stale"))).await.unwrap(), Saved::Conflict);
    let foreign = Versioned { value: note("a", "foreign"), etag: Some(ETag("*".to_owned())) };
    assert_eq!(save(&*store, &foreign).await.unwrap(), Saved::Conflict);
    assert_eq!(remove(&*store, &read).await.unwrap(), Saved::Conflict, "it has changed since");
    let last = Versioned { value: note("a", "two"), etag: Some(etag) };
    assert_eq!(get::<Note>(&*store, "a").await.unwrap().as_ref(), Some(&last));
    assert!(remove(&*store, &last).await.unwrap().is_stored());
    assert_eq!(remove(&*store, &last).await.unwrap(), Saved::Conflict, "it is gone");
    assert_eq!(save(&*store, &last).await.unwrap(), Saved::Conflict, "a version, but no such document");
    assert_eq!(get::<Note>(&*open(), "a").await.unwrap(), None);
}

pub async fn of_many_writers_of_a_document_one_wins(open: impl Fn() -> Arc<dyn Store>) {
    let stores = [open(), open()];
    let writes = (0..20usize).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move { save(&*store, &Versioned::new(note("a", &number.to_string()))).await.unwrap() })
    });
    let saved = join_all(writes).await.into_iter().filter(|saved| saved.as_ref().unwrap().is_stored());
    assert_eq!(saved.count(), 1);
}

pub async fn documents_are_listed_by_name_page_by_page_within_their_collection(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    for name in ["b/2", "a", "b/1", "b", "c", "b/10", "B"] {
        save(&*store, &Versioned::new(note(name, "x"))).await.unwrap();
    }
    save(&*store, &Versioned::new(Other("b/3".to_owned()))).await.unwrap();
    assert_eq!(names(&*store, "").await, ["B", "a", "b", "b/1", "b/10", "b/2", "c"]);
    assert_eq!(names(&*store, "b/").await, ["b/1", "b/10", "b/2"]);
    assert_eq!(names(&*store, "d").await, [""; 0]);

    let first = document::page::<Note>(&*store, "b", &page(2, None)).await.unwrap();
    save(&*store, &Versioned::new(note("b/0", "in between"))).await.unwrap();
    let second = document::page::<Note>(&*store, "b", &page(2, first.next.clone())).await.unwrap();
    let seen = [first.items, second.items].concat().into_iter().map(|note| note.value.name);
    assert_eq!(seen.collect::<Vec<_>>(), ["b", "b/1", "b/10", "b/2"]);
    assert_eq!(second.next, None, "a last page that is full knows that it is the last");

    let of_rollouts = Some("o.1.x".to_owned());
    let refused = document::page::<Note>(&*store, "", &page(1, of_rollouts)).await;
    assert!(matches!(refused, Err(StoreError::InvalidContinuation)), "{refused:?}");
}

pub async fn names_and_texts_of_documents_may_be_anything(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let long = "/subscriptions/".repeat(60);
    let odd = ["", "/", "a\\b?c#d%e'f", "\u{1f680}\0\n\t", "~", "x=2f", "x/", &long];
    for name in odd {
        let text = format!("{name}{}", "'\"\u{e9}".repeat(20_000));
        assert!(save(&*store, &Versioned::new(note(name, &text))).await.unwrap().is_stored(), "{name:?}");
        assert_eq!(get::<Note>(&*store, name).await.unwrap().unwrap().value, note(name, &text));
    }
    assert_eq!(names(&*store, "").await.len(), odd.len());
}

pub async fn a_document_of_another_shape_is_named_and_not_taken(open: impl Fn() -> Arc<dyn Store>) {
    #[derive(Debug, Serialize, Deserialize)]
    struct Strange(u8);
    impl Document for Strange {
        const COLLECTION: &'static str = "note";
        fn name(&self) -> String {
            "a".to_owned()
        }
    }
    let store = open();
    save(&*store, &Versioned::new(Strange(7))).await.unwrap();
    let refused = get::<Note>(&*store, "a").await;
    assert!(matches!(&refused, Err(StoreError::Corrupt { what: "note", .. })), "{refused:?}");
}

pub async fn wanted_versions_are_found_by_their_plan(open: impl Fn() -> Arc<dyn Store>) {
    let store = open();
    let plans = [("a", "x", "p"), ("a-b", "x", "p")];
    let plans = plans.map(|(publisher, offer, plan)| Plan::parse(publisher, offer, plan).unwrap().0);
    for plan in &plans {
        let mut wanted = WantedVersion::new(plan.clone(), None);
        wanted.raise(rollout_id(1), version("1.4.0"));
        assert!(save(&*store, &Versioned::new(wanted)).await.unwrap().is_stored());
    }
    let read = get::<WantedVersion>(&*store, &plans[1].to_string()).await.unwrap().unwrap().value;
    assert_eq!((read.plan, read.version), (plans[1].clone(), Some(version("1.4.0"))));
    assert_eq!(get::<WantedVersion>(&*store, &plan("none").to_string()).await.unwrap(), None);
}
