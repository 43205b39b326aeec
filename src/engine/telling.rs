//! Telling people: what happens to rollouts, and what needs a person, goes to the outgoing webhook.
//!
//! The note that there is something to tell is stored before what it tells of, and removed once the receiver has it. So a
//! process that dies at any point leaves a note that the timer finds, and a note of what never came to be is dropped. Each is
//! told at least once, always under the same id. A receiver that fails is tried again through the queue for about two days;
//! it holds up nothing, since nobody waits for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::audit::{AuditEntry, Outcome};
use super::{Engine, EngineError};
use crate::queue::{Message, Outgoing};
use crate::rollout::news::news_id;
use crate::rollout::{Rollout, RolloutId, Timestamp};
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Saved, Versioned};
use crate::webhook::Told;

/// How long after each try the next one is made; after the last of them nobody is told any more.
const WAITS: [Duration; 9] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(3 * 60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// The longest time for which a receiver is left alone because it wants to.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a note may be overdue before its message counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(2 * 60);
/// How old a note of something that is not stored has to be before it is dropped: longer than a write may take.
const NEVER_CAME: Duration = Duration::from_secs(10 * 60);
/// After how many lost notes one tick leaves the rest to the next.
const AT_ONCE: usize = 100;
/// How many notes are read at once.
const PAGE: usize = 100;

/// That there is something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// What the receiver knows it by.
    id: String,
    of: Subject,
    /// When it was made, or made again.
    made_at: Timestamp,
    /// When the next try is due.
    due: Timestamp,
    /// Tries so far.
    tries: usize,
    /// Grows with every message sent again.
    resend: u32,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Subject {
    /// The news of this number that the rollout has stored, if it has.
    News { rollout_id: RolloutId, number: u32 },
    /// This very event.
    Event { what: String, at: Timestamp, data: Value },
}

impl Document for Note {
    const COLLECTION: &'static str = "note";

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Note {
    fn new(id: String, of: Subject, now: Timestamp) -> Self {
        Self { id, of, made_at: now, due: now, tries: 0, resend: 0 }
    }

    fn message(&self, now: Timestamp) -> Outgoing {
        Outgoing {
            id: format!("tell:{}:{}:{}", self.id, self.tries, self.resend),
            body: Message::Tell { note: self.id.clone() }.to_body(),
            due: (self.due > now).then_some(self.due),
        }
    }
}

impl Engine {
    /// Writes a rollout, guarded, with what is new of it, and sees to it that people are told.
    pub(super) async fn save_rollout(&self, rollout: &mut Versioned<Rollout>) -> Result<Saved, EngineError> {
        let now = self.now();
        let news = rollout.value.note_news(now).filter(|_| self.webhook.is_some());
        let note = news.map(|number| {
            let rollout_id = rollout.value.id;
            Note::new(news_id(rollout_id, number), Subject::News { rollout_id, number }, now)
        });
        if let Some(note) = &note {
            self.store_note(note).await?;
        }
        let saved = self.store.save_rollout(rollout).await?;
        if let Some(note) = note.filter(|_| saved.is_stored()) {
            self.send_note(&note).await;
        }
        Ok(saved)
    }

    /// Tells people of something that is no news of a rollout; twice with the same id is once.
    pub(super) async fn tell(&self, id: String, what: &str, data: Value) -> Result<(), EngineError> {
        if self.webhook.is_some() {
            let now = self.now();
            let note = Note::new(id, Subject::Event { what: what.to_owned(), at: now, data }, now);
            if document::save(&*self.store, &Versioned::new(note.clone())).await?.is_stored() {
                self.send_note(&note).await;
            }
        }
        Ok(())
    }

    /// Stores a note; one that is there already is as if it were made now, so that nobody drops it.
    async fn store_note(&self, note: &Note) -> Result<(), EngineError> {
        for _ in 0..super::RACES {
            let known = match document::get::<Note>(&*self.store, &note.id).await? {
                Some(known) => known.with(Note { made_at: note.made_at, ..known.value.clone() }),
                None => Versioned::new(note.clone()),
            };
            if document::save(&*self.store, &known).await?.is_stored() {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the note {}", note.id) })
    }

    /// Sends the message of a note. A failure is borne: the timer finds the note, and nothing else is held up.
    async fn send_note(&self, note: &Note) {
        if let Err(error) = self.send_refresh_messages(&[note.message(self.now())]).await {
            warn!(note.id = %note.id, "The note {} is told later: {error}", note.id);
        }
    }

    /// One try to tell one note.
    pub async fn tell_note(&self, id: &str) -> Result<(), EngineError> {
        let Some(known) = document::get::<Note>(&*self.store, id).await? else { return Ok(()) };
        let (now, note) = (self.now(), &known.value);
        let Some(webhook) = &self.webhook else {
            // Nobody wants to hear of it any more.
            document::remove(&*self.store, &known).await?;
            return Ok(());
        };
        if note.due > now {
            return Ok(());
        }
        let Some(body) = self.body_of(&note.of).await? else {
            if note.made_at + NEVER_CAME <= now {
                document::remove(&*self.store, &known).await?;
            }
            return Ok(());
        };
        // The try is stored before it is made, so that two workers do not make it at once and no death forgets the next.
        let wait = WAITS.get(note.tries).copied();
        let tried = Note { tries: note.tries + 1, due: now + wait.unwrap_or(LONGEST_WAIT), resend: 0, ..note.clone() };
        let Saved::Stored(etag) = document::save(&*self.store, &known.with(tried.clone())).await? else {
            return Ok(());
        };
        let mut tried = Versioned { value: tried, etag: Some(etag) };
        match (webhook.tell(id, body, now).await, wait) {
            (Told::Taken, _) => {
                info!(note.id = id, "The note {id} is told");
                document::remove(&*self.store, &tried).await?;
            }
            (Told::NotTaken { why, wait: asked }, Some(wait)) => {
                warn!(note.id = id, "The note {id} is told later: {why}");
                if let Some(asked) = asked.filter(|asked| *asked > wait) {
                    tried.value.due = now + asked.min(LONGEST_WAIT);
                    document::save(&*self.store, &tried).await?;
                }
                self.send_note(&tried.value).await;
            }
            (Told::NotTaken { why, .. }, None) => {
                warn!(note.id = id, "The note {id} is never told: {why}");
                self.note_finding(AuditEntry {
                    id: Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()),
                    at: tried.value.made_at,
                    who: super::audit::OURSELVES.to_owned(),
                    what: "webhook.givenUp".to_owned(),
                    on: Some(id.to_owned()),
                    from: None,
                    to: None,
                    why: None,
                    outcome: Outcome::Refused,
                    problem: Some(why),
                })
                .await?;
                document::remove(&*self.store, &tried).await?;
            }
        }
        Ok(())
    }

    /// Sends again the messages of notes that are overdue.
    pub(super) async fn send_lost_notes(&self) -> Result<(), EngineError> {
        if self.webhook.is_none() {
            return Ok(());
        }
        let now = self.now();
        let mut request = PageRequest { continuation: None, top: PAGE };
        let mut sent = 0;
        loop {
            let notes = document::page::<Note>(&*self.store, "", &request).await?;
            for known in notes.items.into_iter().filter(|known| known.value.due + LOST_AFTER <= now) {
                let again = Note { due: now, resend: known.value.resend + 1, ..known.value.clone() };
                if document::save(&*self.store, &known.with(again.clone())).await?.is_stored() {
                    self.send_note(&again).await;
                    sent += 1;
                }
            }
            match notes.next {
                // Those that wait for their next try may be many, and stand before one that is lost.
                Some(next) if sent < AT_ONCE => request.continuation = Some(next),
                _ => return Ok(()),
            }
        }
    }

    /// The event as the receiver gets it; `None` where what it tells of is not stored.
    async fn body_of(&self, subject: &Subject) -> Result<Option<String>, EngineError> {
        let (what, at, data) = match subject {
            Subject::Event { what, at, data } => (what.clone(), *at, data.clone()),
            Subject::News { rollout_id, number } => {
                let Some(rollout) = self.store.rollout(*rollout_id).await? else { return Ok(None) };
                let rollout = rollout.value;
                let Some(news) = rollout.news.iter().find(|news| news.number == *number) else { return Ok(None) };
                let counts = self.store.tally(*rollout_id).await?.counts();
                let needs_person =
                    news.what.needs_a_person() || counts.failed + counts.timed_out + counts.handed_over > 0;
                let publish = &rollout.publish;
                let data = json!({
                    "rolloutId": rollout.id,
                    "publisher": publish.plan.publisher,
                    "offer": publish.plan.offer,
                    "plan": publish.plan.plan,
                    "version": publish.version,
                    "purpose": publish.purpose,
                    "why": news.why,
                    "needsPerson": needs_person,
                    "counts": counts,
                    "link": format!("/api/rollouts/{rollout_id}"),
                });
                (format!("rollout.{}", news.what.word()), news.at, data)
            }
        };
        let event =
            json!({"type": what, "timestamp": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), "data": data});
        Ok(Some(event.to_string()))
    }
}
