//! The tables of the embedded queue. Times are nanoseconds since 1970.

use crate::sqlite::file::Schema;

/// The file of the embedded queue.
pub const SCHEMA: Schema = Schema {
    name: "queue",
    // "PfQu"
    application_id: 0x5066_5175,
    page_size: 4096,
    migrations: &[FIRST],
};

const FIRST: &str = "
-- available_at is when a message may be delivered: its due time, or the end of its lock while it is locked.
CREATE TABLE messages (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    due INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    is_locked INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX messages_by_availability ON messages (queue, available_at);

-- The ids sent within the duplicate detection window, as hashes, the oldest first.
CREATE TABLE sent (
    number INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    id BLOB NOT NULL,
    sent_at INTEGER NOT NULL,
    UNIQUE (queue, id)
);

CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX dead_letters_by_queue ON dead_letters (queue, number);
";
