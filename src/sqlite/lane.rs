//! A thread that owns one connection and runs whatever waits for it in one transaction (group commit).
//!
//! It knows nothing of what it runs. Answers go out after the commit, so whoever has one may rely on it. If the transaction
//! fails, nothing of it was written; then, unless the file itself is the reason, each piece of work is run alone, so that
//! one that cannot succeed takes no other down with it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::Failed;
use super::file::Access;

/// How many pieces of work share a transaction at most; the first of them waits for the last.
const BATCH: usize = 512;

/// A connection with its thread. Dropping it waits until what was asked is done and closes the connection.
#[derive(Debug)]
pub struct Lane {
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the machine gives no thread.
    pub fn start(connection: Connection, access: Access, name: &str) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let thread = Builder::new().name(name.to_owned()).spawn(move || serve(&connection, access, &waiting))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` in a transaction, with whatever else waits, and returns once that is committed. `work` may be run again if
    /// its first transaction failed. A caller that goes away does not stop it.
    ///
    /// # Errors
    /// If it failed or could not be committed; then nothing of it was written, unless the disk failed at the very end.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Failed>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let ended = || Failed("its thread has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Box::new(Asked { work, done: None, reply })).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the thread itself, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}

trait Job: Send {
    fn work(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, ended: Result<(), &Failed>);
}

struct Asked<T, W> {
    work: W,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Failed>>,
}

impl<T: Send, W: FnMut(&Connection) -> rusqlite::Result<T> + Send> Job for Asked<T, W> {
    fn work(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.done = Some((self.work)(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, ended: Result<(), &Failed>) {
        let Self { done, reply, .. } = *self;
        let unrun = || Failed("it was not run".to_owned());
        // Nobody listens if the caller has gone away.
        let _ = reply.send(ended.map_err(Failed::clone).and_then(|()| done.ok_or_else(unrun)));
    }
}

fn serve(connection: &Connection, access: Access, waiting: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(BATCH - 1));
        match transact(connection, access, &mut batch) {
            Ok(()) => batch.into_iter().for_each(|job| job.answer(Ok(()))),
            Err(error) if is_of_the_file(&error) || batch.len() == 1 => {
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
                    // They have waited all along, and would wait as long again for the same answer.
                    batch.extend(waiting.try_iter());
                }
                let failed = Failed::from(error);
                batch.into_iter().for_each(|job| job.answer(Err(&failed)));
            }
            Err(_) => batch.into_iter().for_each(|job| alone(connection, access, job)),
        }
    }
}

fn alone(connection: &Connection, access: Access, job: Box<dyn Job>) {
    let mut batch = [job];
    let ended = transact(connection, access, &mut batch).map_err(Failed::from);
    let [job] = batch;
    job.answer(ended.as_ref().copied());
}

fn transact(connection: &Connection, access: Access, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let begin = match access {
        Access::Write => "BEGIN IMMEDIATE",
        Access::Read => "BEGIN DEFERRED",
    };
    let execute = |sql| connection.prepare_cached(sql)?.execute([]).map(|_| ());
    execute(begin)?;
    let ended = batch.iter_mut().try_for_each(|job| job.work(connection)).and_then(|()| execute("COMMIT"));
    if ended.is_err() && !connection.is_autocommit() {
        // If even this fails, the next BEGIN does too, and says so.
        let _ = execute("ROLLBACK");
    }
    ended
}

/// Whether the error is about the file or the machine, so that no work can succeed now.
fn is_of_the_file(error: &rusqlite::Error) -> bool {
    use ErrorCode as E;
    matches!(
        error.sqlite_error_code(),
        Some(
            E::DatabaseBusy
                | E::DatabaseLocked
                | E::DiskFull
                | E::SystemIoFailure
                | E::CannotOpen
                | E::OutOfMemory
                | E::ReadOnly
                | E::DatabaseCorrupt
                | E::NotADatabase
                | E::PermissionDenied
        )
    )
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::super::file::{Schema, open};
    use super::*;

    const SCHEMA: Schema = Schema {
        name: "list",
        application_id: 9,
        page_size: 4096,
        migrations: &["CREATE TABLE numbers (number INTEGER PRIMARY KEY)"],
    };

    fn lane(folder: &tempfile::TempDir) -> Lane {
        let connection = open(&folder.path().join("list.db"), &SCHEMA, Access::Write).unwrap();
        Lane::start(connection, Access::Write, "list").unwrap()
    }

    async fn insert(lane: &Lane, numbers: Vec<i64>) -> Result<usize, Failed> {
        lane.run(move |connection| {
            for number in &numbers {
                connection.prepare_cached("INSERT INTO numbers VALUES (?1)")?.execute([number])?;
            }
            Ok(numbers.len())
        })
        .await
    }

    async fn all(lane: &Lane) -> Vec<i64> {
        let read = |connection: &Connection| {
            connection.prepare("SELECT number FROM numbers ORDER BY number")?.query_map([], |row| row.get(0))?.collect()
        };
        lane.run(read).await.unwrap()
    }

    #[tokio::test]
    async fn work_that_fails_is_undone_whole_and_takes_no_other_down() {
        let folder = tempfile::tempdir().unwrap();
        let lane = lane(&folder);
        let work = [vec![1, 2], vec![3, 1], vec![4], vec![5, 6, 5], vec![7]];
        let ended = join_all(work.map(|numbers| insert(&lane, numbers))).await;
        assert_eq!(ended.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false, true]);
        assert_eq!(all(&lane).await, [1, 2, 4, 7]);
    }

    #[tokio::test]
    async fn what_was_asked_is_done_before_the_lane_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = lane(&folder);
        let _may_be_done_already = insert(&first, vec![1]).now_or_never();
        drop(first);
        assert_eq!(all(&lane(&folder)).await, [1]);
        assert!(!folder.path().join("list.db-wal").exists(), "the connection was not closed");
    }
}
