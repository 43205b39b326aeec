//! The tables of the store.
//!
//! A record is one row: its JSON as `body`, and beside it only what is searched by. Times are nanoseconds since 1970,
//! keys of deployments the 32 bytes of their SHA-256, ids of rollouts the 16 bytes of their UUID.

use crate::sqlite::file::Schema;

/// The file of a store.
pub const SCHEMA: Schema = Schema {
    name: "store",
    // "PfSt"
    application_id: 0x5066_5374,
    page_size: 4096,
    migrations: &[FIRST, DOCUMENTS],
};

const FIRST: &str = "
CREATE TABLE claims (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE rollouts (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    is_ended INTEGER NOT NULL,
    etag INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX rollouts_by_age ON rollouts (created_at, id);
CREATE INDEX rollouts_not_ended ON rollouts (id) WHERE is_ended = 0;

CREATE TABLE refreshes (
    number INTEGER PRIMARY KEY,
    rollout BLOB NOT NULL,
    key BLOB NOT NULL,
    wave INTEGER NOT NULL,
    standing TEXT NOT NULL,
    wake_at INTEGER,
    etag INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX refreshes_by_key ON refreshes (rollout, key);
CREATE INDEX refreshes_by_standing ON refreshes (rollout, standing, key);
CREATE INDEX refreshes_by_wake ON refreshes (wake_at) WHERE wake_at IS NOT NULL;

-- Kept in the transaction that changes refreshes, so that counting costs the same however many there are.
CREATE TABLE tallies (
    rollout BLOB NOT NULL,
    wave INTEGER NOT NULL,
    standing TEXT NOT NULL,
    has_result INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (rollout, wave, standing)
) WITHOUT ROWID;
CREATE INDEX tallies_without_result ON tallies (rollout) WHERE has_result = 0 AND count > 0;

CREATE TABLE deployments (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    plan TEXT,
    check_due INTEGER,
    gone_since INTEGER,
    applied_at INTEGER,
    etag INTEGER NOT NULL,
    body TEXT NOT NULL
);
-- gone_since is there so that a plan is counted without reading its rows.
CREATE INDEX deployments_by_plan ON deployments (plan, key, gone_since);
CREATE INDEX deployments_by_check ON deployments (check_due) WHERE check_due IS NOT NULL;
CREATE INDEX deployments_gone ON deployments (gone_since) WHERE gone_since IS NOT NULL;

CREATE TABLE wanted_versions (
    plan TEXT PRIMARY KEY,
    etag INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE throttles (
    subscription TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;
";

// Wanted versions had a table of their own before there were documents.
const DOCUMENTS: &str = "
CREATE TABLE documents (
    number INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    etag INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX documents_by_name ON documents (collection, name);
INSERT INTO documents (collection, name, etag, body)
    SELECT 'wanted-version', replace(plan, '/', '=2f'), etag, body FROM wanted_versions;
DROP TABLE wanted_versions;
";
