//! Opening the database file: modes, settings, versions, and a corrupt file set aside (scheduler.md §1.3).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::health::{self, Unavailable};
use super::legacy::TakenOver;
use super::schema;
use super::tally::Tally;
use crate::base::clock::UnixMs;
use crate::base::files;
use crate::base::text::single_line;

pub(super) const FILE: &str = "state.db";
/// What SQLite puts beside the file. Foreign to a new file of that name.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Statements kept prepared; more than there are.
const STATEMENTS: usize = 128;
const BUSY_TIMEOUT: Duration = Duration::from_millis(5000);
/// The log is cut to this size after a burst made it larger.
const KEPT_LOG_BYTES: i64 = 16 * 1024 * 1024;
/// Pages that the connections keep in memory, in KiB. The system keeps the file in memory as well.
const WRITER_CACHE_KIB: i64 = 1024;
const READER_CACHE_KIB: i64 = 256;

/// The two connections to an open file, and what it holds.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) tally: Tally,
    pub(super) set_aside: Option<PathBuf>,
    pub(super) taken_over: Option<TakenOver>,
}

/// What becomes of a file that is corrupt, or no database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Damaged {
    /// It is renamed, and a new one made.
    SetAside,
    /// It stays where it is, and opening it fails.
    Refused,
}

/// Opens or makes `<dir>/state.db`.
///
/// # Errors
/// With path and reason when the file is refused, or belongs to a later release, or the system refuses; the file is then
/// as it was.
pub(super) fn open(dir: &Path, damaged: Damaged) -> Result<Opened> {
    files::ensure_private_dir(dir)?;
    let path = dir.join(FILE);
    let opened = match open_file(&path) {
        Err(error) if damaged == Damaged::SetAside && is_corrupt(&error) => {
            set_aside(&path).and_then(|aside| Ok(Opened { set_aside: Some(aside), ..open_file(&path)? }))
        }
        opened => opened,
    };
    opened.map_err(|error| explained(error, dir)).with_context(|| format!("open {}", path.display()))
}

/// A damaged file and a failure of the disk in words that help; any other error as it is.
pub(super) fn explained(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    match health::reason(&error) {
        Some(reason) if is_corrupt(&error) => {
            let reason = single_line(&reason);
            Unavailable::new(format!("it is corrupt ({reason}); the next `al start` sets it aside and makes a new one"))
                .into()
        }
        Some(reason) => Unavailable::new(health::explain(&reason, dir)).into(),
        None => error,
    }
}

fn open_file(path: &Path) -> Result<Opened> {
    create_private(path)?;
    look_at(path)?;
    let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        bail!("the file system does not let SQLite keep a write-ahead log (journal mode {mode})");
    }
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "journal_size_limit", KEPT_LOG_BYTES)?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    let taken_over = schema::migrate(&mut writer)?;
    // For every row SQLite would make a table of the words that are allowed. Ours come from enumerations; the tests, with
    // databases in memory, let SQLite check them. A wrong one would make the file a corrupt one when it is opened again.
    writer.pragma_update(None, "ignore_check_constraints", true)?;
    let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    reader.pragma_update(None, "query_only", true)?;
    reader.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    make_private(path)?;
    sync_directories(path)?;
    let tally = Tally::load(&reader)?;
    Ok(Opened { writer, reader, tally, set_aside: None, taken_over })
}

/// A connection that cannot write.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    keep_statements(&connection)?;
    Ok(connection)
}

/// Lets statements be prepared once. SQLite would look at the values that they are given for a better plan, and forget a
/// statement that could have one as soon as its values are cleared, which the cache does after every use.
pub(super) fn keep_statements(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// An empty file is an empty database. SQLite gives its logs the mode of the file.
fn create_private(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

/// Refuses a file that must not be touched, and one that is damaged, before anything is written.
fn look_at(path: &Path) -> Result<()> {
    let look = || -> Result<i64> {
        let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let version = schema::version(&db)?;
        if schema::is_known(version) {
            check(&db)?;
        }
        Ok(version)
    };
    match look() {
        Ok(version) if !schema::is_known(version) => {
            bail!("it has schema number {version}; this release knows numbers up to {}", schema::VERSION)
        }
        Err(error) if is_corrupt(&error) => Err(error),
        // Whatever else keeps it from being read without writing: opening it for writing finds the reason.
        _ => Ok(()),
    }
}

/// Finds damage to the structure, which would otherwise show later as commits that fail for ever.
fn check(db: &Connection) -> Result<()> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found)).into())
}

fn is_corrupt(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<rusqlite::Error>())
        .any(|error| matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)))
}

/// Renames a file with its logs. The logs go first: whatever happens in between, they never meet a new file.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let aside = beside(path, &format!(".corrupt-{}", UnixMs::now().0));
    for suffix in LOGS.iter().chain([&""]) {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound || suffix.is_empty() => {
                return Err(error).context("set the corrupt file aside");
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn make_private(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = beside(path, suffix);
        if fs::metadata(&file).is_ok_and(|found| found.mode() & 0o777 != 0o600) {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).context("set its mode to 0600")?;
        }
    }
    Ok(())
}

/// The names of new files have to survive, too.
fn sync_directories(path: &Path) -> Result<()> {
    for dir in path.ancestors().skip(1).take(2) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::base::clock::UnixMs;
    use crate::store::items::{self, Eligible, Kind};
    use crate::store::testing::{dir, insert};
    use crate::store::{Store, TakenOver};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn count(store: &Store) -> i64 {
        store.read(|db| Ok(db.query_row("SELECT COUNT(*) FROM work_items", [], |row| row.get(0))?)).unwrap()
    }

    /// A closed database with items in it.
    fn filled(dir: &Path, items: usize) -> PathBuf {
        let store = Store::open(dir).unwrap().store;
        for _ in 0..items {
            insert(&store, "dev", 1);
        }
        store.close().unwrap();
        dir.join(FILE)
    }

    fn set_aside_in(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.contains(".corrupt-")).collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_owner_can_read_a_new_database() {
        let dir = dir();
        let al = dir.path().join(".al");
        let opened = Store::open(&al).unwrap();
        insert(&opened.store, "dev", 1);
        assert_eq!(mode(&al), 0o700);
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            assert_eq!(mode(&al.join(name)), 0o600, "{name}");
        }
        assert!(opened.set_aside.is_none() && opened.taken_over.is_none());
    }

    #[test]
    fn modes_of_an_old_file_are_corrected() {
        let dir = dir();
        let path = filled(dir.path(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let store = Store::open(dir.path()).unwrap().store;
        insert(&store, "dev", 1);
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn commits_reach_the_disk_before_they_are_answered() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        let settings: (String, i64, i64, i64) = store
            .write(|tx| {
                let number = |name: &str| tx.pragma_query_value(None, name, |row| row.get(0));
                let journal = tx.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
                Ok((journal, number("synchronous")?, number("busy_timeout")?, number("user_version")?))
            })
            .unwrap();
        assert_eq!(settings, ("wal".into(), 2, 5000, schema::VERSION));
    }

    #[test]
    fn statements_are_prepared_once() {
        const SQL: &str = "SELECT item.id FROM webhook_receipts AS receipt JOIN work_items AS item
            ON item.receipt_id = receipt.id WHERE receipt.provider = ? AND receipt.delivery_id = ?";
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        let reprepared = |db: &Connection| -> Result<i32> {
            for delivery in 0..3 {
                db.prepare_cached(SQL)?.exists(("github", delivery))?;
            }
            Ok(db.prepare_cached(SQL)?.get_status(StatementStatus::RePrepare))
        };
        assert_eq!(store.write(move |tx| reprepared(tx)).unwrap(), 0);
        assert_eq!(store.read(reprepared).unwrap(), 0);
        assert_eq!(Store::open_in_memory().unwrap().read(reprepared).unwrap(), 0);
    }

    #[test]
    fn sqlite_is_built_as_the_configuration_of_cargo_says() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        let text: String = store
            .write(|tx| {
                let all = "SELECT group_concat(compile_options, ' ') FROM pragma_compile_options";
                Ok(tx.query_row(all, [], |row| row.get(0))?)
            })
            .unwrap();
        for absent in ["FTS", "RTREE", "STAT", "ENABLE_LOAD_EXTENSION", "COLUMN_METADATA"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        for present in ["OMIT_LOAD_EXTENSION", "OMIT_DEPRECATED", "THREADSAFE=1", "DEFAULT_PCACHE_INITSZ=0"] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }

    #[test]
    fn what_was_committed_is_there_after_a_crash() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        insert(&store, "dev", 1);
        // What a crash leaves: the file and its log, not copied together.
        let crashed = crate::store::testing::dir();
        for name in ["state.db", "state.db-wal"] {
            fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
        }
        let again = Store::open(crashed.path()).unwrap();
        assert_eq!((count(&again.store), again.set_aside), (1, None));
        assert_eq!(again.store.queued("dev"), 1);
    }

    #[test]
    fn a_closed_database_is_one_file() {
        let dir = dir();
        filled(dir.path(), 3);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["state.db"]);
        assert_eq!(count(&Store::open(dir.path()).unwrap().store), 3);
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside_with_its_logs() {
        let dir = dir();
        for (name, content) in
            [("state.db", "not a database, but long enough".repeat(9)), ("state.db-wal", "log".into())]
        {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let opened = Store::open(dir.path()).unwrap();
        let aside = opened.set_aside.unwrap();
        assert!(fs::read_to_string(&aside).unwrap().starts_with("not a database"));
        assert_eq!(fs::read_to_string(beside(&aside, "-wal")).unwrap(), "log");
        insert(&opened.store, "dev", 1);
        assert_eq!(count(&opened.store), 1);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes.truncate(bytes.len() / 2),
            |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle - 4096..middle + 4096].fill(0xa5);
            },
            |bytes| bytes[16] = 7,
        ];
        for damage in damages {
            let dir = dir();
            let path = filled(dir.path(), 200);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let refused = format!("{:#}", Store::open_undamaged(dir.path()).err().unwrap());
            assert!(refused.contains("state.db: it is corrupt (") && refused.contains("`al start` sets it aside"));
            assert_eq!((fs::read(&path).unwrap(), set_aside_in(dir.path()).len()), (bytes.clone(), 0), "{refused}");
            let opened = Store::open(dir.path()).unwrap();
            assert_eq!(fs::read(opened.set_aside.unwrap()).unwrap(), bytes);
            assert_eq!((count(&opened.store), opened.store.queued("dev")), (0, 0));
        }
    }

    #[test]
    fn a_file_of_a_later_release_is_refused_untouched() {
        let dir = dir();
        let path = filled(dir.path(), 1);
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let before = fs::read(&path).unwrap();
        let error = Store::open(dir.path()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains(path.to_str().unwrap()) && text.contains("schema number 7"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(set_aside_in(dir.path()), [""; 0]);
    }

    #[test]
    fn an_obstacle_is_named_and_left_alone() {
        let dir = dir();
        let path = dir.path().join(FILE);
        fs::create_dir(&path).unwrap();
        let text = format!("{:#}", Store::open(dir.path()).err().unwrap());
        assert!(text.starts_with(&format!("open {}: unable to open", path.display())), "{text}");
        assert!(path.is_dir());
    }

    #[test]
    fn a_file_that_someone_else_writes_is_refused() {
        let dir = dir();
        let path = filled(dir.path(), 1);
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        let error = schema::migrate(&mut writer).unwrap_err();
        assert!(format!("{error:#}").contains("locked"), "{error:#}");
    }

    #[test]
    fn queues_of_the_old_release_become_items() {
        let dir = dir();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        old.execute_batch(
            r#"CREATE TABLE state (ns TEXT, key TEXT, value TEXT, expires_at INTEGER, PRIMARY KEY (ns, key));
            INSERT INTO state VALUES
            ('queues', 'dev', '[
              {"context":{"type":"webhook","context":{"source":"github","event":"issues","action":"opened"}},
               "receivedAt":"2026-01-02T03:04:05.000Z"},
              {"context":{"type":"agent-trigger","sourceAgent":"lead","context":"look","depth":0,"callId":"c1"},
               "receivedAt":"2026-01-02T03:04:04.000Z"},
              {"context":{"type":"unheard of"},"receivedAt":"2026-01-02T03:04:06.000Z"}]', 1),
            ('queues', 'odd', 'no list', NULL),
            ('locks', 'k', '{}', 99999999999), ('containers', 's', '{}', NULL), ('calls', 'c1', '{}', NULL);"#,
        )
        .unwrap();
        drop(old);
        let opened = Store::open(dir.path()).unwrap();
        assert_eq!(opened.taken_over, Some(TakenOver { items: 2, unreadable: 2 }));
        assert_eq!(opened.store.queued("dev"), 2);
        let claim = || {
            let identity = crate::store::runs::testing::identity("dev");
            let now = UnixMs(1_800_000_000_000);
            opened.store.write(move |tx| items::claim_next(tx, "dev", &identity, now)).unwrap().unwrap()
        };
        let (first, second) = (claim(), claim());
        assert_eq!((first.kind, first.source.as_str(), first.depth), (Kind::Webhook, "issues", 0));
        assert_eq!(first.context["action"], "opened");
        assert_eq!(first.enqueued_at.to_iso(), "2026-01-02T03:04:05.000Z");
        assert_eq!((second.kind, second.source.as_str(), second.depth), (Kind::Trigger, "lead", 1));
        assert_eq!((second.context["context"].as_str(), second.call_id), (Some("look"), None));
        assert_eq!(second.chain, ["lead"]);
        let tables: i64 = opened
            .store
            .read(|db| Ok(db.query_row("SELECT COUNT(*) FROM sqlite_master WHERE name = 'state'", [], |r| r.get(0))?))
            .unwrap();
        assert_eq!(tables, 0);
        drop(opened);
        let again = Store::open(dir.path()).unwrap();
        assert_eq!((again.taken_over, again.store.queued("dev")), (None, 0));
        let due = again.store.read(|db| items::next_due(db, "dev", UnixMs(i64::MAX), Eligible::Any)).unwrap();
        assert_eq!(due, None);
    }
}
