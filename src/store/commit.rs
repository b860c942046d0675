//! The thread that owns the writing connection of a database file, and commits the changes of several callers together.
//!
//! One commit is one wait for the disk, however many changes it has. The thread takes what waits, runs each change in a
//! savepoint of one transaction, commits once, and only then answers all.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use super::health::{self, Monitor, Unavailable};
use super::tally::{Notes, Tally};
use super::{Tx, guard};
use crate::base::worker;

/// Most changes, and most bytes, of one group.
const GROUP: usize = 64;
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Changes that may wait for the thread. Whoever brings one more waits until there is room.
const WAITING: usize = 1024;
/// How long late changes wait for others to go with, how much of them is worth a group of its own, and how much there may
/// be: whoever brings more waits like everybody else.
const LATE: Duration = Duration::from_millis(800);
const LATE_ENOUGH: usize = 256 * 1024;
const LATE_BYTES: usize = 2 * 1024 * 1024;

/// A change with somebody who waits for its result.
pub(super) trait Job: Send {
    /// Makes the change.
    fn run(&mut self, tx: &Tx<'_>) -> Ran;
    /// Gives the result: the job's own, but an error when a change that was made could not be committed.
    fn answer(&mut self, lost: Option<&Unavailable>);
}

/// What a change came to.
pub(super) enum Ran {
    Done,
    /// It is to be undone, and says why itself.
    Refused,
    /// It is to be undone, because the database cannot take it.
    Unavailable(String),
}

/// A job that was not run, or not answered, when it is dropped answers that the database is closed.
struct Pending<T, C, A: FnOnce(Result<T>)> {
    change: Option<C>,
    result: Option<Result<T>>,
    then: Option<A>,
}

impl<T, C, A> Job for Pending<T, C, A>
where
    T: Send,
    C: FnOnce(&Tx<'_>) -> Result<T> + Send,
    A: FnOnce(Result<T>) + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> Ran {
        let Some(change) = self.change.take() else { return Ran::Refused };
        let result = worker::guarded(|| change(tx)).and_then(|result| result);
        let ran = match &result {
            Ok(_) => Ran::Done,
            Err(error) => health::reason(error).map_or(Ran::Refused, Ran::Unavailable),
        };
        self.result = Some(result);
        ran
    }

    fn answer(&mut self, lost: Option<&Unavailable>) {
        let Some(then) = self.then.take() else { return };
        then(match (self.result.take(), lost) {
            (Some(Err(error)), _) => Err(error),
            (_, Some(lost)) => Err(lost.clone().into()),
            (Some(done), None) => done,
            (None, None) => Err(Unavailable::closed().into()),
        });
    }
}

impl<T, C, A: FnOnce(Result<T>)> Drop for Pending<T, C, A> {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then(Err(Unavailable::closed().into()));
        }
    }
}

enum Message {
    Job(Box<dyn Job>),
    /// There is something in the buffer of late changes.
    Late,
    /// Finish what waits, and end.
    Close,
}

/// Changes that nobody waits for, until a group takes them along or their time has come.
#[derive(Default)]
struct Late {
    jobs: Vec<Box<dyn Job>>,
    job_bytes: usize,
    /// Also of those that a group has taken and not committed yet.
    bytes: usize,
    due: Option<Instant>,
}

/// The thread, as the others see it.
pub(super) struct Writer {
    /// Bounded: a full channel makes the sender wait.
    sender: Sender<Message>,
    late: Arc<Mutex<Late>>,
    thread: Mutex<Option<JoinHandle<Result<Result<()>>>>>,
}

impl Writer {
    /// `dir`: where the file is.
    pub(super) fn start(
        connection: Connection,
        dir: PathBuf,
        tally: Arc<Tally>,
        monitor: Arc<Monitor>,
    ) -> Result<Self> {
        let (sender, receiver) = bounded(WAITING);
        let late = Arc::default();
        let shared = Arc::clone(&late);
        let committer = Committer {
            connection,
            dir,
            receiver,
            waiting: VecDeque::new(),
            late: shared,
            tally,
            monitor,
            is_closing: false,
        };
        let thread = worker::spawn("store", move || committer.run())?;
        Ok(Self { sender, late, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a change; `then` is called with its result, once, also when the database is closed.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
        then: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let job = Pending { change: Some(change), result: None, then: Some(then) };
        // A closed channel gives the job back, and dropping it answers.
        drop(self.sender.send(Message::Job(Box::new(job))));
    }

    /// Keeps a change of that size for the next group; gives it back when too much is kept already.
    pub(super) fn submit_late<C>(&self, bytes: usize, change: C) -> std::result::Result<(), C>
    where
        C: FnOnce(&Tx<'_>) -> Result<()> + Send + 'static,
    {
        let mut late = guard(&self.late);
        if late.bytes + bytes > LATE_BYTES {
            return Err(change);
        }
        late.bytes += bytes;
        late.job_bytes += bytes;
        late.jobs.push(Box::new(Pending { change: Some(change), result: None, then: Some(drop) }));
        let is_enough_now = late.job_bytes >= LATE_ENOUGH && late.job_bytes - bytes < LATE_ENOUGH;
        if is_enough_now || late.due.is_none() {
            late.due = Some(Instant::now() + if is_enough_now { Duration::ZERO } else { LATE });
            drop(late);
            // A full channel wakes the thread as well.
            let _ = self.sender.try_send(Message::Late);
        }
        Ok(())
    }

    /// Commits what waits, copies the log into the file, and ends the thread.
    pub(super) fn close(&self) -> Result<()> {
        let Some(thread) = guard(&self.thread).take() else { return Ok(()) };
        if thread.thread().id() == std::thread::current().id() {
            // The last owner was an answer: the thread ends by itself when it finds nobody at the other end.
            return Ok(());
        }
        drop(self.sender.send(Message::Close));
        worker::join(thread)?
    }
}

struct Committer {
    connection: Connection,
    dir: PathBuf,
    receiver: Receiver<Message>,
    waiting: VecDeque<Box<dyn Job>>,
    late: Arc<Mutex<Late>>,
    tally: Arc<Tally>,
    monitor: Arc<Monitor>,
    is_closing: bool,
}

/// A group that was run: who has to be answered, and what came of it.
#[derive(Default)]
struct Group {
    jobs: Vec<Box<dyn Job>>,
    notes: Notes,
    /// Whether it gave the disk something to do.
    has_changed: bool,
    /// Why nothing of it was committed.
    lost: Option<Unavailable>,
    /// Why one of its changes could not be made.
    failure: Option<String>,
}

impl Committer {
    fn run(mut self) -> Result<()> {
        while !self.is_closing {
            self.wait();
            self.commit_group();
        }
        while !self.waiting.is_empty() {
            self.commit_group();
        }
        self.finish()
    }

    /// Waits until there is something to do, and takes what is there.
    fn wait(&mut self) {
        if self.waiting.is_empty() {
            self.wait_for_first();
        }
        // Whoever closes expects that what was sent before is done.
        while self.is_closing || self.waiting.len() < GROUP {
            match self.receiver.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    fn wait_for_first(&mut self) {
        loop {
            let due = guard(&self.late).due;
            let received = match due {
                Some(due) => self.receiver.recv_deadline(due),
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(Message::Late) => {}
                Ok(message) => return self.take(message),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => return self.take(Message::Close),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.waiting.push_back(job),
            Message::Late => {}
            Message::Close => self.is_closing = true,
        }
    }

    fn commit_group(&mut self) {
        let (late, late_bytes) = self.take_late();
        let mut group = self.run_group(late);
        if group.lost.is_none()
            && let Err(error) = execute(&self.connection, "COMMIT")
        {
            group.lost = Some(Unavailable::new(error));
        }
        if group.lost.is_none() {
            self.tally.apply(std::mem::take(&mut group.notes));
        } else if !self.connection.is_autocommit() {
            // If not even this can be done, the next group fails at its beginning.
            let _ = execute(&self.connection, "ROLLBACK");
        }
        guard(&self.late).bytes -= late_bytes;
        self.judge(&group);
        for mut job in group.jobs {
            // Whoever waits for an answer that panics is not helped any more; the others are.
            let _ = worker::guarded(|| job.answer(group.lost.as_ref()));
        }
    }

    /// The late changes and their size. They do not count among those of a group, so that they never make others wait
    /// for one more commit.
    fn take_late(&self) -> (Vec<Box<dyn Job>>, usize) {
        let mut late = guard(&self.late);
        late.due = None;
        late.job_bytes = 0;
        (std::mem::take(&mut late.jobs), late.bytes)
    }

    fn run_group(&mut self, late: Vec<Box<dyn Job>>) -> Group {
        let mut group = Group::default();
        if let Err(error) = execute(&self.connection, "BEGIN IMMEDIATE") {
            group.lost = Some(Unavailable::new(error));
            group.jobs = late.into_iter().chain(self.waiting.drain(..)).collect();
            return group;
        }
        let most = late.len() + GROUP;
        let mut late = late.into_iter();
        while group.jobs.len() < most && group.notes.bytes < GROUP_BYTES && group.lost.is_none() {
            let Some(mut job) = late.next().or_else(|| self.waiting.pop_front()) else { break };
            if let Err(error) = self.run_job(&mut *job, &mut group) {
                group.lost = Some(Unavailable::new(error));
            }
            group.jobs.push(job);
        }
        group
    }

    /// Runs one job in its savepoint. An error means that the whole transaction is lost.
    fn run_job(&self, job: &mut dyn Job, group: &mut Group) -> Result<()> {
        let changes = self.connection.total_changes();
        execute(&self.connection, "SAVEPOINT job")?;
        let tx = Tx::new(&self.connection, &self.tally, &group.notes);
        let ran = job.run(&tx);
        let notes = tx.into_notes();
        match ran {
            Ran::Done => {
                group.has_changed |= self.connection.total_changes() > changes;
                group.notes.append(notes);
                return execute(&self.connection, "RELEASE job");
            }
            Ran::Refused => {}
            Ran::Unavailable(reason) => drop(group.failure.get_or_insert(reason)),
        }
        // Some failures make SQLite undo the whole transaction, not only the statement.
        if self.connection.is_autocommit() {
            bail!("{}", group.failure.as_deref().unwrap_or("the transaction was undone"));
        }
        execute(&self.connection, "ROLLBACK TO job")?;
        execute(&self.connection, "RELEASE job")
    }

    /// Tells the health; a group that changed nothing says nothing about the disk.
    fn judge(&self, group: &Group) {
        let lost = group.lost.as_ref().map(ToString::to_string);
        match lost.or_else(|| group.failure.clone()) {
            Some(reason) => self.monitor.failed(&health::explain(&reason, &self.dir)),
            None if group.has_changed => self.monitor.succeeded(),
            None => {}
        }
    }

    fn finish(self) -> Result<()> {
        let checkpoint = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        self.connection.close().map_err(|(_, error)| error).context("close the database")?;
        checkpoint.context("copy the log into the database file")
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::base::clock::UnixMs;
    use crate::store::items;
    use crate::store::testing::{dir, insert, new_item};
    use crate::store::{Backend, Health, Store, is_unavailable};

    fn file() -> (tempfile::TempDir, Store) {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        (dir, store)
    }

    fn count(store: &Store) -> i64 {
        store.read(|db| Ok(db.query_row("SELECT COUNT(*) FROM work_items", [], |row| row.get(0))?)).unwrap()
    }

    fn add(tx: &Tx<'_>) -> Result<i64> {
        items::insert(tx, &new_item("dev"), UnixMs(1))
    }

    /// Keeps the thread busy, so that what comes next waits for one group; the sender lets it go on.
    fn hold(store: &Store) -> mpsc::Sender<()> {
        let (go, wait) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        store.submit(
            move |_| {
                begun.send(()).unwrap();
                wait.recv().unwrap();
                Ok(())
            },
            |_| (),
        );
        begins.recv().unwrap();
        go
    }

    #[test]
    fn changes_of_one_group_are_answered_after_their_common_commit() {
        let (_dir, store) = file();
        let store = Arc::new(store);
        let go = hold(&store);
        let (seen, sees) = mpsc::channel();
        for _ in 0..10 {
            let (seen, other) = (seen.clone(), Arc::clone(&store));
            store.submit(add, move |id| seen.send((id.unwrap(), count(&other), other.queued("dev"))).unwrap());
        }
        go.send(()).unwrap();
        let all: Vec<_> = sees.iter().take(10).collect();
        assert_eq!(all, (1..=10).map(|id| (id, 10, 10)).collect::<Vec<_>>());
    }

    #[test]
    fn a_change_that_fails_or_panics_fails_alone() {
        let (_dir, store) = file();
        let go = hold(&store);
        let (told, tells) = mpsc::channel();
        let tell = |name: &'static str| {
            let told = told.clone();
            move |result: Result<i64>| told.send((name, result.map_err(|error| error.to_string()).err())).unwrap()
        };
        store.submit(add, tell("first"));
        store.submit(|tx| add(tx).and_then(|_| anyhow::bail!("no")), tell("refused"));
        store.submit(|tx| add(tx).map(|_| panic!("boom")), tell("panicked"));
        store.submit(|_| Ok(0), |_| panic!("in the answer"));
        store.submit(add, tell("last"));
        go.send(()).unwrap();
        let all: Vec<_> = tells.iter().take(4).collect();
        let expected = [
            ("first", None),
            ("refused", Some("no".to_owned())),
            ("panicked", Some("internal error: boom".to_owned())),
            ("last", None),
        ];
        assert_eq!(all, expected);
        assert_eq!((count(&store), store.queued("dev"), store.take_accepted().len()), (2, 2, 2));
        assert!(store.write(add).is_ok());
    }

    #[test]
    fn a_failing_commit_fails_all_of_its_group() {
        let (_dir, store) = file();
        store
            .write(|tx| {
                Ok(tx.execute_batch("CREATE TABLE a (x REFERENCES a(y) DEFERRABLE INITIALLY DEFERRED, y UNIQUE)")?)
            })
            .unwrap();
        let (told, tells) = mpsc::channel();
        store.on_health(move |health| told.send(health).unwrap());
        let go = hold(&store);
        let (answer, answers) = mpsc::channel();
        let others = answer.clone();
        store.submit(add, move |result| answer.send(result.map(drop)).unwrap());
        // Found by the commit only: what it points to is not there.
        store.submit(
            |tx| Ok(tx.execute_batch("INSERT INTO a VALUES (1, 2)")?),
            move |result| others.send(result).unwrap(),
        );
        go.send(()).unwrap();
        for error in answers.iter().take(2).map(Result::unwrap_err) {
            assert!(is_unavailable(&error), "{error:#}");
        }
        assert_eq!((count(&store), store.queued("dev"), store.take_accepted()), (0, 0, vec![]));
        assert!(matches!(tells.try_recv(), Ok(Health::Down(reason)) if reason.contains("FOREIGN KEY")));
        store.write(|_| Ok(())).unwrap();
        assert!(tells.try_recv().is_err(), "a commit without a change says nothing about the disk");
        store.write(add).unwrap();
        assert_eq!(tells.try_recv(), Ok(Health::Up));
    }

    #[test]
    fn a_full_database_refuses_changes_until_there_is_room() {
        let (_dir, store) = file();
        let (told, tells) = mpsc::channel();
        store.on_health(move |health| told.send(health).unwrap());
        let limit = |pages: i64| {
            let set = move |tx: &Tx<'_>| Ok(tx.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?);
            store.write(set).unwrap();
        };
        limit(1);
        let add_large = || {
            let mut item = new_item("dev");
            item.context["text"] = "x".repeat(100_000).into();
            store.write(move |tx| items::insert(tx, &item, UnixMs(1)))
        };
        for _ in 0..2 {
            let error = add_large().unwrap_err();
            assert!(is_unavailable(&error), "{error:#}");
            assert_eq!(store.queued("dev"), 0);
        }
        limit(1_000_000);
        add_large().unwrap();
        assert_eq!(tells.try_iter().collect::<Vec<_>>(), [Health::Down("database or disk is full".into()), Health::Up]);
        assert!(store.write(|_| -> Result<()> { anyhow::bail!("no") }).is_err());
        assert!(tells.try_recv().is_err(), "a refusal is no failure of the disk");
    }

    #[test]
    fn queries_see_one_state_with_all_that_was_answered() {
        let (_dir, store) = file();
        insert(&store, "dev", 1);
        store
            .read(|db| {
                let count =
                    || -> Result<i64> { Ok(db.query_row("SELECT COUNT(*) FROM work_items", [], |r| r.get(0))?) };
                assert_eq!(count()?, 1);
                insert(&store, "dev", 1);
                assert_eq!(count()?, 1);
                Ok(())
            })
            .unwrap();
        assert_eq!(count(&store), 2);
        assert!(store.read(|db| Ok(db.execute("DELETE FROM work_items", [])?)).is_err(), "queries change nothing");
    }

    #[test]
    fn closing_finishes_what_was_submitted_and_refuses_the_rest() {
        let (dir, store) = file();
        let go = hold(&store);
        let (told, tells) = mpsc::channel();
        for _ in 0..200 {
            let told = told.clone();
            store.submit(add, move |result| told.send(result.is_ok()).unwrap());
        }
        store.submit_late(10, |tx| add(tx).map(drop)).unwrap();
        go.send(()).unwrap();
        store.close().unwrap();
        store.close().unwrap();
        assert_eq!(tells.try_iter().filter(|ok| *ok).count(), 200);
        assert!(is_unavailable(&store.write(add).unwrap_err()));
        assert!(is_unavailable(&store.read(|_| Ok(())).unwrap_err()));
        let (told, tells) = mpsc::channel();
        store.submit(add, move |result| told.send(is_unavailable(&result.unwrap_err())).unwrap());
        assert!(tells.recv().unwrap());
        assert_eq!(count(&Store::open(dir.path()).unwrap().store), 201);
    }

    #[test]
    fn the_last_owner_may_be_an_answer() {
        let (dir, store) = file();
        let store = Arc::new(store);
        let go = hold(&store);
        let (told, tells) = mpsc::channel();
        let owner = Arc::clone(&store);
        store.submit(add, move |result| {
            drop(owner);
            told.send(result).unwrap();
        });
        drop(store);
        go.send(()).unwrap();
        tells.recv().unwrap().unwrap();
        assert_eq!(count(&Store::open(dir.path()).unwrap().store), 1);
    }

    #[test]
    fn late_changes_go_with_the_next_commit_or_by_themselves() {
        let (_dir, store) = file();
        let go = hold(&store);
        store.submit_late(10, |tx| add(tx).map(drop)).unwrap();
        assert_eq!(count(&store), 0);
        go.send(()).unwrap();
        store.write(|_| Ok(())).unwrap();
        assert_eq!(count(&store), 1);
        let begin = Instant::now();
        store.submit_late(10, |tx| add(tx).map(drop)).unwrap();
        while count(&store) < 2 {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }

    #[test]
    fn only_so_many_late_changes_wait() {
        let (_dir, store) = file();
        let Backend::File { writer, .. } = &store.backend else { panic!("it is in memory") };
        let is_kept = |bytes| writer.submit_late(bytes, |tx| add(tx).map(drop)).is_ok();
        let go = hold(&store);
        assert!((0..4).all(|_| is_kept(LATE_BYTES / 4)));
        assert!(!is_kept(1));
        go.send(()).unwrap();
        store.write(|_| Ok(())).unwrap();
        assert_eq!(count(&store), 4);
        store.submit_late(LATE_BYTES + 1, |tx| add(tx).map(drop)).unwrap();
        assert_eq!(count(&store), 5, "too much to wait");
        assert!(is_kept(LATE_BYTES));
    }
}
