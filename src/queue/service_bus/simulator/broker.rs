//! What the simulator's queues do: duplicates, schedules, locks, delivery counts, dead letters. By the clock it is told.
//!
//! No HTTP here. Messages come in the order in which they became due, as the embedded queue's do; Service Bus promises none.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::rollout::Timestamp;

/// How every queue behaves.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For how long after a message was sent its id is a duplicate.
    pub duplicate_window: Duration,
    /// For how long a message is locked.
    pub lock: Duration,
    /// After so many deliveries a message is a dead letter.
    pub max_delivery_count: u32,
}

/// A message that comes in.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub id: String,
    pub body: Bytes,
    pub content_type: Option<String>,
    pub due: Option<Timestamp>,
}

/// A message that is there.
#[derive(Clone, Debug)]
pub struct Stored {
    pub id: String,
    pub body: Bytes,
    pub content_type: Option<String>,
    pub sequence: i64,
    pub due: Timestamp,
    pub deliveries: u32,
    pub lock: Option<Uuid>,
    /// When it is deliverable: its due time, or the end of its lock.
    pub available_at: Timestamp,
    /// In the queue of dead letters: reason and description.
    pub died_of: Option<(&'static str, String)>,
}

/// One queue with its dead letters.
#[derive(Debug, Default)]
pub struct BrokerQueue {
    living: Shelf,
    dead: Shelf,
    sent: HashSet<String>,
    /// The same, the oldest first.
    sent_at: VecDeque<(Timestamp, String)>,
    last_sequence: i64,
    taken: u64,
    duplicates: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    messages: BTreeMap<i64, Stored>,
    order: BTreeSet<(Timestamp, i64)>,
}

impl Shelf {
    fn put(&mut self, message: Stored) {
        self.order.insert((message.available_at, message.sequence));
        self.messages.insert(message.sequence, message);
    }

    fn take(&mut self, sequence: i64) -> Option<Stored> {
        let message = self.messages.remove(&sequence)?;
        self.order.remove(&(message.available_at, sequence));
        Some(message)
    }

    /// Takes a message whose lock holds.
    fn take_locked(&mut self, sequence: i64, lock: Uuid, now: Timestamp) -> Option<Stored> {
        let message = self.messages.get(&sequence)?;
        (message.lock == Some(lock) && now < message.available_at).then(|| self.take(sequence))?
    }

    fn deliverable(&self, now: Timestamp) -> Option<i64> {
        self.order.first().filter(|(at, _)| *at <= now).map(|(_, sequence)| *sequence)
    }
}

impl BrokerQueue {
    /// Takes messages, but duplicates.
    pub fn send(&mut self, messages: Vec<Incoming>, now: Timestamp, rules: Rules) {
        while self.sent_at.front().is_some_and(|(at, _)| *at + rules.duplicate_window <= now) {
            if let Some((_, id)) = self.sent_at.pop_front() {
                self.sent.remove(&id);
            }
        }
        for Incoming { id, body, content_type, due } in messages {
            if !self.sent.insert(id.clone()) {
                self.duplicates += 1;
                continue;
            }
            self.sent_at.push_back((now, id.clone()));
            self.taken += 1;
            self.last_sequence += 1;
            let (sequence, due) = (self.last_sequence, due.map_or(now, |due| due.max(now)));
            let (deliveries, lock, available_at, died_of) = (0, None, due, None);
            self.living.put(Stored { id, body, content_type, sequence, due, deliveries, lock, available_at, died_of });
        }
    }

    /// Locks the next message.
    pub fn receive(&mut self, dead: bool, now: Timestamp, rules: Rules) -> Option<Stored> {
        if dead {
            self.bury_the_spent(now, rules);
        }
        loop {
            let shelf = self.shelf(dead);
            let mut message = shelf.take(shelf.deliverable(now)?)?;
            if !dead && message.deliveries >= rules.max_delivery_count {
                self.bury(message);
                continue;
            }
            message.deliveries += 1;
            message.lock = Some(Uuid::new_v4());
            message.available_at = now + rules.lock;
            shelf.put(message.clone());
            return Some(message);
        }
    }

    /// Removes a locked message; whether its lock held.
    pub fn complete(&mut self, dead: bool, sequence: i64, lock: Uuid, now: Timestamp) -> bool {
        self.shelf(dead).take_locked(sequence, lock, now).is_some()
    }

    /// Gives a locked message back; whether its lock held.
    pub fn abandon(&mut self, dead: bool, sequence: i64, lock: Uuid, now: Timestamp, rules: Rules) -> bool {
        let Some(mut message) = self.shelf(dead).take_locked(sequence, lock, now) else { return false };
        message.lock = None;
        message.available_at = message.due;
        if !dead && message.deliveries >= rules.max_delivery_count {
            self.bury(message);
        } else {
            self.shelf(dead).put(message);
        }
        true
    }

    /// Prolongs a lock; whether it held.
    pub fn renew(&mut self, dead: bool, sequence: i64, lock: Uuid, now: Timestamp, rules: Rules) -> bool {
        let Some(mut message) = self.shelf(dead).take_locked(sequence, lock, now) else { return false };
        message.available_at = now + rules.lock;
        self.shelf(dead).put(message);
        true
    }

    /// How many messages were taken, and how many thrown away as duplicates.
    pub fn counts(&self) -> (u64, u64) {
        (self.taken, self.duplicates)
    }

    /// How many messages are waiting or locked, and how many are dead.
    pub fn lengths(&self) -> (usize, usize) {
        (self.living.messages.len(), self.dead.messages.len())
    }

    /// The ids that are waiting, scheduled or locked, in the order in which they become deliverable.
    pub fn ids(&self) -> Vec<String> {
        let messages = &self.living.messages;
        self.living.order.iter().filter_map(|(_, sequence)| messages.get(sequence)).map(|m| m.id.clone()).collect()
    }

    fn shelf(&mut self, dead: bool) -> &mut Shelf {
        if dead { &mut self.dead } else { &mut self.living }
    }

    fn bury_the_spent(&mut self, now: Timestamp, rules: Rules) {
        let due = self.living.order.iter().take_while(|(at, _)| *at <= now);
        let messages = &self.living.messages;
        let spent: Vec<i64> = due
            .filter(|(_, sequence)| messages.get(sequence).is_some_and(|m| m.deliveries >= rules.max_delivery_count))
            .map(|(_, sequence)| *sequence)
            .collect();
        for sequence in spent {
            if let Some(message) = self.living.take(sequence) {
                self.bury(message);
            }
        }
    }

    fn bury(&mut self, mut message: Stored) {
        let text = format!("Message could not be consumed after {} delivery attempts.", message.deliveries);
        message.died_of = Some(("MaxDeliveryCountExceeded", text));
        message.lock = None;
        self.dead.put(message);
    }
}
