//! Opens a SQLite file: its settings, who may read it, and its schema. Refuses a file that is not ours or is too new.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::Failed;

/// How many short naps a connection takes before it gives up on a file that somebody else has locked: about two seconds.
const NAPS: i32 = 2_000;
/// One nap. Our own transactions take less, so a process that waits for another one loses no more than this.
const NAP: Duration = Duration::from_millis(1);
/// What a connection may keep in memory, in KiB.
const CACHE_KIB: i32 = 2 * 1024;
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;
/// The log is moved into the file once it has so many pages, 64 MiB. Each time costs a wait for the disk, and a page that
/// was written often meanwhile is moved once.
const CHECKPOINT_PAGES: i32 = 16_000;
/// A log that has grown beyond this many bytes is cut back to it: more than what is moved at a time.
const LOG_BYTES: i32 = 80 * 1024 * 1024;

/// What a file holds.
#[derive(Debug)]
pub struct Schema {
    /// What it is called in errors.
    pub name: &'static str,
    /// Marks the file as ours and of this kind (`PRAGMA application_id`).
    pub application_id: i32,
    /// In bytes; settled when the file is made.
    pub page_size: i32,
    /// The steps from an empty file to the present schema; the number of those taken is `PRAGMA user_version`. Only ever
    /// added to.
    pub migrations: &'static [&'static str],
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing; makes the file and brings it up to date.
    Write,
    /// Reading only.
    Read,
}

/// Opens `path`.
///
/// # Errors
/// If the folder does not exist, the file cannot be opened, is locked for longer than about two seconds, is no SQLite file,
/// is of another kind, or was written by a newer version.
pub fn open(path: &Path, schema: &Schema, access: Access) -> Result<Connection, Failed> {
    // An absolute path cannot be one of the names that mean something else to SQLite, such as `:memory:`.
    let path = std::path::absolute(path).map_err(|error| Failed(format!("{}: {error}", path.display())))?;
    if access == Access::Write {
        create(&path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let told = |error: rusqlite::Error| Failed(format!("{}: {error}", path.display()));
    let mut connection = Connection::open_with_flags(&path, flags).map_err(told)?;
    connection.busy_handler(Some(nap)).map_err(told)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(told)?;
    if access == Access::Read {
        connection.pragma_update(None, "query_only", true).map_err(told)?;
        return Ok(connection);
    }
    connection.pragma_update(None, "page_size", schema.page_size).map_err(told)?;
    write_ahead(&connection).map_err(told)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(told)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(told)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(())).map_err(told)?;
    migrate(&mut connection, schema, &path)?;
    Ok(connection)
}

/// Makes the file if it is not there, readable by nobody else, since it holds signed URLs. SQLite gives its log the
/// same rights.
fn create(path: &PathBuf) -> Result<(), Failed> {
    if let Some(folder) = path.parent()
        && !folder.is_dir()
    {
        return Err(Failed(format!("the folder {} does not exist", folder.display())));
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Failed(format!("{}: {error}", path.display())))?;
    Ok(())
}

/// Switches to the write-ahead log. SQLite asks no busy handler when two processes do this at once, so it is asked here.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mut naps = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && nap(naps) => naps += 1,
            switched => return switched,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file is opened on a thread that may block, and never by a worker")]
fn nap(naps: i32) -> bool {
    if naps < NAPS {
        sleep(NAP);
    }
    naps < NAPS
}

fn migrate(connection: &mut Connection, schema: &Schema, path: &Path) -> Result<(), Failed> {
    let told = |error: rusqlite::Error| Failed(format!("{}: {error}", path.display()));
    let number =
        |connection: &Connection, pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    if usize::try_from(number(connection, "user_version").map_err(told)?) == Ok(schema.migrations.len())
        && number(connection, "application_id").map_err(told)? == schema.application_id
    {
        return Ok(());
    }
    // Another process may be doing the same: what counts is what is read under the lock.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
    let kind = number(&transaction, "application_id").map_err(told)?;
    let version = number(&transaction, "user_version").map_err(told)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(told)?;
    if kind != schema.application_id && (kind != 0 || version != 0 || tables != 0) {
        return Err(Failed(format!("{} is a SQLite file, but not one of a {}", path.display(), schema.name)));
    }
    let known = schema.migrations.len();
    let Some(missing) = usize::try_from(version).ok().and_then(|version| schema.migrations.get(version..)) else {
        return Err(Failed(format!(
            "{} was written by a newer version of permafresh (its schema is {version}, the newest known here is {known}): use that version, or another file",
            path.display()
        )));
    };
    for migration in missing {
        transaction.execute_batch(migration).map_err(told)?;
    }
    transaction.pragma_update(None, "user_version", known as i64).map_err(told)?;
    transaction.pragma_update(None, "application_id", schema.application_id).map_err(told)?;
    transaction.commit().map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Schema = Schema {
        name: "shelf",
        application_id: 7,
        page_size: 4096,
        migrations: &["CREATE TABLE books (title TEXT NOT NULL)"],
    };
    const SECOND: Schema = Schema {
        migrations: &[FIRST.migrations[0], "ALTER TABLE books ADD COLUMN pages INTEGER NOT NULL DEFAULT 1"],
        ..FIRST
    };

    fn refusal(path: &Path, schema: &Schema) -> String {
        open(path, schema, Access::Write).unwrap_err().to_string()
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shelf.db");
        open(&path, &FIRST, Access::Write).unwrap().execute("INSERT INTO books VALUES ('Emma')", []).unwrap();
        let newer = open(&path, &SECOND, Access::Write).unwrap();
        assert_eq!(newer.query_row("SELECT pages FROM books", [], |row| row.get(0)), Ok(1));
        drop(newer);
        let told = refusal(&path, &FIRST);
        assert!(told.contains("newer version of permafresh (its schema is 2, the newest known here is 1)"), "{told}");
        open(&path, &SECOND, Access::Write).unwrap();
    }

    #[test]
    fn a_file_of_another_kind_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs, text) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        open(&ours, &Schema { application_id: 8, ..FIRST }, Access::Write).unwrap();
        assert!(refusal(&ours, &FIRST).ends_with("is a SQLite file, but not one of a shelf"));
        Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(refusal(&theirs, &FIRST).ends_with("is a SQLite file, but not one of a shelf"));
        std::fs::write(&text, "no database at all, but long enough to be asked for its header".repeat(20)).unwrap();
        assert!(refusal(&text, &FIRST).contains("not a database"));
        assert!(std::fs::read_to_string(&text).unwrap().starts_with("no database"));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let told = refusal(&folder.path().join("none/shelf.db"), &FIRST);
        assert_eq!(told, format!("the folder {} does not exist", folder.path().join("none").display()));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_file_or_its_log() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shelf.db");
        let connection = open(&path, &FIRST, Access::Write).unwrap();
        connection.execute("INSERT INTO books VALUES ('Emma')", []).unwrap();
        for name in ["shelf.db", "shelf.db-wal"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shelf.db");
        let _writer = open(&path, &FIRST, Access::Write).unwrap();
        let reader = open(&path, &FIRST, Access::Read).unwrap();
        assert!(reader.execute("INSERT INTO books VALUES ('Emma')", []).is_err());
    }

    #[test]
    fn many_may_open_the_same_new_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shelf.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| open(&path, &SECOND, Access::Write).unwrap());
            }
        });
    }
}
