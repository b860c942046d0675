//! The database on real file systems: full ones, read-only ones, and how fast it is.

#![allow(clippy::print_stdout, reason = "the tests under load print figures")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use action_llama::base::clock::UnixMs;
use action_llama::base::{Secret, ids};
use action_llama::model::names::{AgentName, InstanceId};
use action_llama::store::containers::Identity;
use action_llama::store::items::{self, Eligible, Filter, Kind, NewItem, State};
use action_llama::store::receipts::{self, Body, NewReceipt, NoWork, accept_delivery};
use action_llama::store::{Health, Store, activity, is_unavailable, retention};
use serde_json::json;

/// A small file system of its own; only root can make one.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        disk.mount("size=4m,mode=0700");
        disk
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(self.path()).status().unwrap().success());
    }

    fn set_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status().unwrap().success());
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [65_536, 4096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn item(agent: &str, text_bytes: usize) -> NewItem {
    NewItem {
        agent: agent.into(),
        kind: Kind::Webhook,
        source: "push".into(),
        context: json!({ "source": "github", "event": "push", "body": "x".repeat(text_bytes) }),
        receipt_id: None,
        call_id: None,
        depth: 0,
        chain: Vec::new(),
    }
}

fn insert(store: &Store, text_bytes: usize) -> anyhow::Result<i64> {
    let item = item("dev", text_bytes);
    store.write(move |tx| items::insert(tx, &item, UnixMs(1)))
}

fn identity(agent: &str) -> Identity {
    let instance = InstanceId::generate(&AgentName::parse(agent).unwrap());
    Identity { instance, secret: Secret::new(ids::uuid_v4()) }
}

fn queued(store: &Store) -> u64 {
    let filter = Filter { agent: None, states: &[State::Queued], limit: 1 };
    store.read(|db| items::list(db, &filter)).unwrap().total
}

#[test]
#[ignore = "slow: mounts a file system, which takes root"]
fn a_full_disk_refuses_changes_and_loses_none_that_was_answered() {
    let disk = SmallDisk::new();
    let dir = disk.path().join(".al");
    let store = Store::open(&dir).unwrap().store;
    let (told, tells) = mpsc::channel();
    store.on_health(move |health| told.send(health).unwrap());
    insert(&store, 100).unwrap();
    let filler = disk.fill();
    let mut answered = 1;
    let error = loop {
        match insert(&store, 20_000) {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(is_unavailable(&error), "{error:#}");
    for _ in 0..5 {
        assert!(is_unavailable(&insert(&store, 20_000).unwrap_err()));
    }
    assert!(matches!(tells.try_recv(), Ok(Health::Down(reason)) if reason.contains("the file system is full")));
    assert!(tells.try_recv().is_err(), "it is told once");
    assert_eq!((queued(&store), store.queued("dev")), (answered, answered));
    // What lies there now is what a crash would leave.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        fs::copy(dir.join(name), crashed.path().join(name)).unwrap();
    }
    assert_eq!(queued(&Store::open(crashed.path()).unwrap().store), answered);
    fs::remove_file(filler).unwrap();
    insert(&store, 20_000).unwrap();
    assert_eq!(tells.try_iter().collect::<Vec<_>>(), [Health::Up]);
    store.close().unwrap();
    let again = Store::open(&dir).unwrap();
    assert_eq!((queued(&again.store), again.set_aside), (answered + 1, None));
}

#[test]
#[ignore = "slow: mounts a file system, which takes root"]
fn a_disk_that_cannot_be_written_is_an_error_at_the_start_and_no_corruption() {
    let disk = SmallDisk::new();
    let dir = disk.path().join(".al");
    let store = Store::open(&dir).unwrap().store;
    insert(&store, 100).unwrap();
    store.close().unwrap();
    let before = fs::read(dir.join("state.db")).unwrap();
    let refused = |reason: &str| {
        let text = format!("{:#}", Store::open(&dir).err().unwrap());
        assert!(text.contains(dir.to_str().unwrap()) && text.contains(reason), "{text}");
        assert_eq!(fs::read(dir.join("state.db")).unwrap(), before);
    };
    let filler = disk.fill();
    refused("full");
    fs::remove_file(filler).unwrap();
    disk.set_read_only();
    refused("Read-only file system");
}

/// How often something is done in a second, by so many threads at once.
fn per_second(threads: usize, work: impl Fn() + Sync) -> f64 {
    const TIME: Duration = Duration::from_secs(3);
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    work();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(TIME);
        over.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

fn deliver(store: &Store, number: u64) {
    let now = UnixMs(1_800_000_000_000);
    let receipt = NewReceipt {
        id: receipts::new_id(now),
        provider: "github".into(),
        delivery_id: Some(format!("d{number}")),
        matched_source: Some("default".into()),
        event: Some("push".into()),
        action: None,
        client: Some("192.0.2.1".into()),
        headers: json!({ "x-github-event": "push" }).as_object().unwrap().clone(),
        body: Body::of(&[b'x'; 12_000]),
        replay_of: None,
    };
    store.write(move |tx| accept_delivery(tx, receipt, vec![item("dev", 1000)], 0, now)).unwrap();
}

#[test]
#[ignore = "slow: load, 20 s"]
fn changes_of_many_threads_share_the_waits_for_the_disk() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = std::sync::Mutex::new(File::create(dir.path().join("reference")).unwrap());
    let syncs = per_second(1, || {
        let mut file = file.lock().unwrap();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
    });
    println!("single waits for the disk: {syncs:.0}/s");
    let store = Store::open(dir.path()).unwrap().store;
    for threads in [1, 16, 64] {
        let commits = per_second(threads, || assert!(insert(&store, 1000).is_ok()));
        println!("items accepted by {threads} threads: {commits:.0}/s, {:.1} per wait", commits / syncs);
    }
    let number = AtomicU64::new(0);
    let deliveries = per_second(16, || deliver(&store, number.fetch_add(1, Ordering::Relaxed)));
    println!("deliveries of 12 KB accepted by 16 threads: {deliveries:.0}/s");
    let noted = per_second(16, || {
        let receipt = NewReceipt {
            id: receipts::new_id(UnixMs(1)),
            provider: "github".into(),
            delivery_id: None,
            matched_source: None,
            event: None,
            action: None,
            client: None,
            headers: serde_json::Map::new(),
            body: Body::of(b""),
            replay_of: None,
        };
        receipts::note(&store, receipt, NoWork::Rejected("validation_failed"), UnixMs(1)).unwrap();
    });
    println!("refused requests recorded by 16 threads: {noted:.0}/s");
    let log = fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
    println!("log afterwards: {:.1} MB", log as f64 / 1e6);
    assert_eq!(queued(&store), store.queued("dev"));
    store.close().unwrap();
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    println!("{what}: {:.2} ms", began.elapsed().as_secs_f64() * 1000.0);
    result
}

#[test]
#[ignore = "slow: load, 20 s"]
fn a_hundred_thousand_items_are_opened_and_claimed() {
    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(dir.path()).unwrap().store;
    for _ in 0..200 {
        let insert = |tx: &action_llama::store::Tx<'_>| {
            for _ in 0..500 {
                items::insert(tx, &item("dev", 2000), UnixMs(1))?;
            }
            Ok(())
        };
        store.write(insert).unwrap();
    }
    timed("close", || store.close().unwrap());
    let size = fs::metadata(dir.path().join("state.db")).unwrap().len();
    println!("file: {:.0} MB", size as f64 / 1e6);
    let store = timed("open", || Store::open(dir.path()).unwrap().store);
    assert_eq!(store.queued("dev"), 100_000);
    for which in [Eligible::Any, Eligible::CallsOfLiveCallers] {
        timed(&format!("next due, {which:?}"), || store.read(|db| items::next_due(db, "dev", NOW, which)).unwrap());
    }
    timed("earliest delay", || store.read(|db| items::next_not_before(db, NOW)).unwrap());
    for _ in 0..3 {
        let identity = identity("dev");
        timed("claim and commit", || {
            store.write(move |tx| items::claim_next(tx, "dev", &identity, NOW)).unwrap().unwrap()
        });
    }
    let filter = Filter { agent: Some("dev"), states: &[State::Queued, State::Failed, State::Dead], limit: 50 };
    timed("list of an agent", || store.read(|db| items::list(db, &filter)).unwrap());
    timed("list of all", || store.read(|db| items::list(db, &Filter { agent: None, ..filter.clone() })).unwrap());
    let stages = activity::Filter { agent: None, trigger: None, stages: &activity::Stage::ALL };
    timed("activity", || store.read(|db| activity::list(db, &stages, 50, 0)).unwrap());
    timed("push out one", || store.write(|tx| items::push_out(tx, "dev", 100, 1, NOW)).unwrap());
    let cleared = timed("clear", || store.write(|tx| items::clear(tx, None, items::Cleared::ByStop, NOW)).unwrap());
    let purged = timed("purge of dead letters", || retention::purge(&store, 14, NOW).unwrap());
    println!("{} cleared, {} dropped", cleared.len(), purged.dead_letters["dev"]);
}
