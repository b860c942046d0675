//! The watcher on real directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use notify::event::{CreateKind, Event, EventKind, Flag};
use tempfile::TempDir;

use super::notice::{self, Notice};
use super::tree::Tree;
use super::{NORMAL, Outbox, Pace, Watcher};

const LIMIT: Duration = Duration::from_secs(20);
/// Faster than real life.
const FAST: Pace =
    Pace { quiet: Duration::from_millis(120), look: Duration::from_millis(150), survey: Duration::from_millis(20) };

/// A watched project.
struct Case {
    dir: TempDir,
    told: Receiver<(String, Instant)>,
    watcher: Watcher,
}

impl Case {
    /// A project with these files, watched from now on.
    fn new(files: &[&str]) -> Self {
        Self::at(FAST, files)
    }

    fn at(pace: Pace, files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            write(&dir.path().join(file), "before");
        }
        let (sender, told) = unbounded();
        let on_change = move |agent: &str| drop(sender.send((agent.to_owned(), Instant::now())));
        let watcher = Watcher::start_at(pace, &dir.path().join("agents"), on_change).unwrap();
        Self { dir, told, watcher }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        write(&self.path(path), content);
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn link(&self, target: &str, link: &str) {
        symlink(target, self.path(link)).unwrap();
    }

    /// Points a link elsewhere without a moment at which there is none.
    fn point(&self, link: &str, target: &str) {
        self.link(target, "new-link");
        self.rename("new-link", link);
    }

    /// The next agent that is told.
    #[track_caller]
    fn next(&self) -> String {
        self.told.recv_timeout(LIMIT).expect("an agent is told").0
    }

    /// Waits until these agents have been told, and makes sure that nobody else is: what happens to `marker` now, if there
    /// is such an agent, is told after everything that happened before.
    #[track_caller]
    fn tells(&self, agents: &[&str]) {
        let mut expected: BTreeSet<String> = agents.iter().map(|agent| (*agent).to_owned()).collect();
        if self.path("agents/marker").is_dir() {
            self.write("agents/marker/file", "something");
            expected.insert("marker".to_owned());
        }
        let mut told = BTreeSet::new();
        while !told.is_superset(&expected) {
            told.insert(self.next());
        }
        assert_eq!(told, expected);
    }

    /// Makes sure that there is nothing to tell.
    #[track_caller]
    fn tells_nothing(&self) {
        self.tells(&[]);
    }
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn edits_in_place_replacements_and_removals_are_told() {
    let case = Case::new(&["agents/dev/ACTIONS.md", "agents/ops/ACTIONS.md", "agents/marker/file"]);
    case.write("agents/dev/ACTIONS.md", "after");
    case.tells(&["dev"]);
    case.write("agents/dev/.ACTIONS.md.swp", "an editor's");
    case.rename("agents/dev/.ACTIONS.md.swp", "agents/dev/ACTIONS.md");
    case.write("agents/ops/test-script.sh", "new");
    case.tells(&["dev", "ops"]);
    fs::remove_file(case.path("agents/dev/ACTIONS.md")).unwrap();
    case.tells(&["dev"]);
    fs::set_permissions(case.path("agents/ops/test-script.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    case.tells(&["ops"]);
}

#[test]
fn many_events_are_told_once_when_it_has_been_quiet() {
    let case = Case::at(NORMAL, &["agents/dev/ACTIONS.md", "agents/marker/file"]);
    let mut file = File::options().append(true).open(case.path("agents/dev/ACTIONS.md")).unwrap();
    let mut writes = Vec::new();
    for _ in 0..12 {
        writes.push(Instant::now());
        file.write_all(b"line\n").unwrap();
        // Longer in all than the half second of silence that is waited for.
        std::thread::sleep(Duration::from_millis(75));
    }
    let quiet = Duration::from_millis(500);
    let pauses = writes.windows(2).filter(|pair| pair[1] - pair[0] > quiet / 2).count();
    let mut told = Vec::new();
    while told.last().is_none_or(|told| writes.last() > Some(told)) {
        let (agent, at) = case.told.recv_timeout(LIMIT).unwrap();
        assert_eq!(agent, "dev");
        let last = writes.iter().rfind(|write| **write < at).unwrap();
        assert!(at - *last >= quiet, "told {:?} after a write", at - *last);
        told.push(at);
    }
    assert!(told.len() <= 1 + pauses, "told {} times with {pauses} pauses", told.len());
    drop(file);
    case.tells(&["dev"]);
}

#[test]
fn reading_is_no_change() {
    let case = Case::new(&["agents/dev/ACTIONS.md", "agents/marker/file"]);
    fs::read(case.path("agents/dev/ACTIONS.md")).unwrap();
    fs::read_dir(case.path("agents/dev")).unwrap().for_each(drop);
    fs::read_dir(case.path("agents")).unwrap().for_each(drop);
    case.tells_nothing();
}

#[test]
fn entries_that_are_no_agents_are_ignored() {
    let case = Case::new(&["agents/.git/config", "agents/node_modules/x/y.js", "agents/marker/file", "other/file"]);
    case.write("agents/.git/config", "after");
    case.write("agents/node_modules/x/y.js", "after");
    case.write("agents/.new/file", "after");
    case.write("agents/README.md", "after");
    case.write("agents/README.md", "again");
    case.write("other/file", "after");
    case.rename("other", "agents/.other");
    fs::remove_dir_all(case.path("agents/.git")).unwrap();
    case.tells_nothing();
}

#[test]
fn below_an_agent_every_name_is_content() {
    let case = Case::new(&["agents/dev/node_modules/x/y.js", "agents/dev/.config/z", "agents/marker/file"]);
    case.write("agents/dev/node_modules/x/y.js", "after");
    case.tells(&["dev"]);
    case.write("agents/dev/.config/z", "after");
    case.tells(&["dev"]);
}

#[test]
fn directories_that_appear_later_are_watched_to_the_bottom() {
    let case = Case::new(&["agents/marker/file"]);
    case.write("agents/dev/a/b/c", "new");
    case.tells(&["dev"]);
    case.write("agents/dev/a/b/c", "after");
    case.tells(&["dev"]);
    fs::remove_dir_all(case.path("agents/dev/a")).unwrap();
    case.write("agents/dev/a/b/c", "again");
    case.tells(&["dev"]);
    case.write("agents/dev/a/b/c", "and again");
    case.tells(&["dev"]);
}

#[test]
fn agents_that_come_go_and_change_their_names_are_told() {
    let case = Case::new(&["agents/dev/ACTIONS.md", "elsewhere/ACTIONS.md", "agents/marker/file"]);
    case.rename("agents/dev", "agents/ops");
    case.tells(&["dev", "ops"]);
    case.write("agents/ops/ACTIONS.md", "after");
    case.tells(&["ops"]);
    case.rename("elsewhere", "agents/dev");
    case.tells(&["dev"]);
    fs::remove_dir_all(case.path("agents/ops")).unwrap();
    case.tells(&["ops"]);
    fs::create_dir(case.path("agents/ops")).unwrap();
    case.tells(&["ops"]);
    case.write("agents/ops/ACTIONS.md", "after");
    case.tells(&["ops"]);
}

#[test]
fn a_directory_exchanged_by_two_renames_is_told_and_watched() {
    let case = Case::new(&["agents/dev/mock/a.toml", "agents/.new/mock/a.toml", "agents/marker/file"]);
    case.rename("agents/dev", "agents/.old");
    case.rename("agents/.new", "agents/dev");
    case.tells(&["dev"]);
    case.write("agents/dev/mock/a.toml", "after");
    case.tells(&["dev"]);
    case.write("agents/.old/mock/a.toml", "after");
    case.tells_nothing();
}

#[test]
fn agents_behind_links_are_watched_wherever_the_links_lead() {
    let case = Case::new(&["one/dev/ACTIONS.md", "two/dev/ACTIONS.md", "agents/marker/file"]);
    case.link("../one/dev", "agents/dev");
    case.tells(&["dev"]);
    case.write("one/dev/ACTIONS.md", "after");
    case.tells(&["dev"]);
    case.point("agents/dev", "../two/dev");
    case.tells(&["dev"]);
    case.write("two/dev/ACTIONS.md", "after");
    case.tells(&["dev"]);
    case.write("one/dev/ACTIONS.md", "nobody's");
    case.tells_nothing();
    fs::remove_dir_all(case.path("two")).unwrap();
    case.tells(&["dev"]);
    case.rename("one", "two");
    case.tells(&["dev"]);
    case.write("two/dev/ACTIONS.md", "back");
    case.tells(&["dev"]);
}

#[test]
fn a_link_above_that_is_pointed_elsewhere_is_told_to_those_behind_it() {
    let files = ["r1/dev/mock/a.toml", "r2/dev/mock/a.toml", "agents/ops/ACTIONS.md", "agents/marker/file"];
    let case = Case::at(NORMAL, &files);
    case.link("r1", "current");
    case.link("../current/dev", "agents/dev");
    case.tells(&["dev"]);
    case.point("current", "r2");
    case.tells(&["dev"]);
    case.write("r2/dev/mock/a.toml", "after");
    case.tells(&["dev"]);
    case.write("r1/dev/mock/a.toml", "nobody's");
    case.tells_nothing();
}

#[test]
fn a_directory_behind_a_link_that_is_exchanged_is_told() {
    let case = Case::new(&["one/dev/mock/a.toml", "one/next/mock/a.toml", "agents/marker/file"]);
    case.link("../one/dev", "agents/dev");
    case.tells(&["dev"]);
    case.rename("one/dev", "one/old");
    case.rename("one/next", "one/dev");
    case.tells(&["dev"]);
    case.write("one/dev/mock/a.toml", "after");
    case.tells(&["dev"]);
    case.write("one/old/mock/a.toml", "nobody's");
    case.tells_nothing();
}

#[test]
fn two_agents_that_are_one_directory_are_both_told() {
    let case = Case::new(&["shared/ACTIONS.md", "agents/marker/file"]);
    case.link("../shared", "agents/a");
    case.link("../shared", "agents/b");
    case.tells(&["a", "b"]);
    case.write("shared/ACTIONS.md", "after");
    case.tells(&["a", "b"]);
    fs::remove_file(case.path("agents/a")).unwrap();
    case.tells(&["a"]);
    case.write("shared/ACTIONS.md", "again");
    case.tells(&["b"]);
}

#[test]
fn a_linked_directory_of_an_agent_is_watched() {
    let case = Case::new(&["shared/a.toml", "agents/dev/ACTIONS.md", "agents/marker/file"]);
    case.link("../../shared", "agents/dev/mock");
    case.link("/", "agents/dev/everything");
    case.link("..", "agents/dev/all");
    case.tells(&["dev"]);
    fs::remove_file(case.path("agents/dev/all")).unwrap();
    case.tells(&["dev"]);
    case.write("shared/a.toml", "after");
    case.tells(&["dev"]);
}

#[test]
fn agents_may_be_missing_vanish_and_come_back() {
    let case = Case::new(&[]);
    case.write("agents/dev/ACTIONS.md", "new");
    case.tells(&["dev"]);
    case.write("agents/dev/ACTIONS.md", "after");
    case.tells(&["dev"]);
    case.rename("agents", "away");
    case.tells(&["dev"]);
    case.write("away/dev/ACTIONS.md", "nobody's");
    case.write("agents/marker/file", "new");
    case.tells(&["marker"]);
    fs::remove_dir_all(case.path("agents")).unwrap();
    case.tells(&["marker"]);
    case.rename("away", "agents");
    case.tells(&["dev"]);
    case.write("agents/dev/ACTIONS.md", "back");
    case.tells(&["dev"]);
}

#[test]
fn agents_exchanged_as_a_whole_are_all_told() {
    let case =
        Case::new(&["agents/dev/ACTIONS.md", "agents/ops/ACTIONS.md", "next/dev/ACTIONS.md", "next/marker/file"]);
    case.rename("agents", "previous");
    case.rename("next", "agents");
    case.tells(&["dev", "marker", "ops"]);
    case.write("agents/dev/ACTIONS.md", "after");
    case.tells(&["dev"]);
    case.write("previous/dev/ACTIONS.md", "nobody's");
    case.tells_nothing();
}

#[test]
fn what_does_not_fit_is_not_forgotten() {
    let (sender, notices) = bounded(1);
    let outbox = Outbox { sender, is_full: Arc::default() };
    let event = || Ok(Event::new(EventKind::Create(CreateKind::Any)).add_path("/x".into()));
    outbox.send(event());
    assert!(!outbox.is_full.load(Ordering::SeqCst));
    outbox.send(event());
    assert!(outbox.is_full.load(Ordering::SeqCst));
    assert_eq!(notices.len(), 1);
    assert_eq!(notice::of(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))), [Notice::Missed]);
}

#[test]
fn after_a_loss_every_agent_is_told_and_still_watched() {
    let case = Case::new(&["agents/dev/mock/a.toml", "agents/ops/ACTIONS.md", "agents/.git/config"]);
    case.link("nowhere", "agents/dangling");
    let (sender, events) = unbounded();
    let handler = move || {
        let sender = sender.clone();
        move |event: notify::Result<Event>| drop(sender.send(event.unwrap().paths))
    };
    let mut tree = Tree::new(&case.path("agents"), handler).unwrap();
    assert_eq!(tree.rescan(), ["dev", "ops"].map(str::to_owned).into());
    let file = fs::canonicalize(case.path("agents/dev/mock/a.toml")).unwrap();
    fs::write(&file, "after").unwrap();
    while events.recv_timeout(LIMIT).expect("an event") != [file.clone()] {}
    assert_eq!(tree.agents_at(&file), ["dev".to_owned()].into());
}

#[test]
fn nothing_is_told_after_the_end() {
    let case = Case::new(&["agents/dev/ACTIONS.md"]);
    case.write("agents/dev/ACTIONS.md", "after");
    let Case { watcher, told, dir } = case;
    watcher.stop().unwrap();
    write(&dir.path().join("agents/dev/ACTIONS.md"), "too late");
    // The thread that could send is gone, and with it the sender.
    assert!(told.recv_timeout(LIMIT).is_err_and(|error| error.is_disconnected()));
}
