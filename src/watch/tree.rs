//! Which directories are watched for which agent.
//!
//! Each directory is watched by itself and under its real path. The crate could watch whole trees, but gives up at the
//! first directory that cannot be read or has just gone, does not follow links that appear later, and mixes up agents that
//! are links to the same directory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use notify::{Config, ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How often everything is gone through when not everything can be watched.
const RETRY: Duration = Duration::from_secs(10);
/// A look is at one of so many parts of the directories that are no links.
const PARTS: usize = 60;

type Handler = Box<dyn FnMut(notify::Result<Event>) + Send>;

/// What is watched.
pub(super) struct Tree {
    agents_dir: PathBuf,
    new_handler: Box<dyn Fn() -> Handler + Send>,
    watcher: RecommendedWatcher,
    /// What was behind the path of `agents/`; `None` when it did not exist.
    root: Option<Root>,
    agents: BTreeMap<String, Known>,
    /// Who has to be told of events in a directory.
    interested: HashMap<PathBuf, BTreeSet<String>>,
    /// Agents whose directories have to be looked through.
    stale: BTreeSet<String>,
    /// Paths below which the watcher has stopped watching.
    lost: HashSet<PathBuf>,
    /// Why not everything is watched that should be.
    gap: Option<notify::Error>,
    scanned_at: Instant,
    /// Counts looks.
    looks: usize,
}

struct Root {
    identity: Identity,
    real: PathBuf,
}

/// A directory in `agents/`, or a link.
struct Known {
    /// `None` when the link leads to no directory; it may do so later.
    identity: Option<Identity>,
    is_link: bool,
    /// Watched directories.
    dirs: HashSet<PathBuf>,
}

/// Device and inode: which directory it is, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    /// Of the directory behind a path, links followed; `None` when there is none.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some(Self(metadata.dev(), metadata.ino()))
    }
}

impl Tree {
    /// Watches everything that is there. `new_handler` makes what is called for every event, on a thread of the watcher,
    /// which must not wait for the caller of this.
    pub(super) fn new<H: FnMut(notify::Result<Event>) + Send + 'static>(
        agents_dir: &Path,
        new_handler: impl Fn() -> H + Send + 'static,
    ) -> Result<Self> {
        let new_handler = Box::new(move || -> Handler { Box::new(new_handler()) });
        let mut tree = Self {
            agents_dir: agents_dir.to_owned(),
            watcher: watcher(new_handler()).with_context(|| format!("watch {}", agents_dir.display()))?,
            new_handler,
            root: None,
            agents: BTreeMap::new(),
            interested: HashMap::new(),
            stale: BTreeSet::new(),
            lost: HashSet::new(),
            gap: None,
            scanned_at: Instant::now(),
            looks: 0,
        };
        tree.watch_all();
        match tree.gap.take() {
            Some(error) => Err(explained(error)).with_context(|| format!("watch {}", agents_dir.display())),
            None => Ok(tree),
        }
    }

    /// Agents to which a path belongs.
    pub(super) fn agents_at(&self, path: &Path) -> BTreeSet<String> {
        let places = path.parent().into_iter().chain([path]);
        places.filter_map(|place| self.interested.get(place)).flatten().cloned().collect()
    }

    /// Takes note that an entry of a directory came, went or became another. Gives the agents to which it belongs.
    pub(super) fn restructured(&mut self, path: &Path, is_gone: bool) -> BTreeSet<String> {
        let agents = self.agents_at(path);
        self.stale.extend(agents.iter().cloned());
        if self.root.as_ref().is_some_and(|root| path.parent() == Some(&root.real)) {
            self.stale.extend(path.file_name().and_then(|name| agent_name(name.to_str()?)));
        }
        if is_gone {
            self.lost.insert(path.to_owned());
        }
        agents
    }

    /// Looks through the directories of agents of which something came or went, and watches what is new. Gives the
    /// agents that are new, gone or have other directories than before.
    pub(super) fn survey(&mut self) -> BTreeSet<String> {
        if !self.lost.is_empty() {
            let lost = self.interested.iter().filter(|(dir, _)| is_below(dir, &self.lost));
            self.stale.extend(lost.flat_map(|(_, agents)| agents).cloned());
        }
        let stale = std::mem::take(&mut self.stale);
        let touched = stale.into_iter().filter(|agent| self.survey_one(agent)).collect();
        self.lost.clear();
        touched
    }

    /// Looks whether other directories are behind the paths than before. Gives the agents concerned.
    ///
    /// The system does not report that `agents/` was exchanged or that a link above was pointed elsewhere, so these are
    /// looked up each time. A directory in `agents/` cannot be exchanged unreported, because `agents/` is watched; only
    /// for what is mounted over it, and for file systems that others change, it is looked up now and then. With a thousand
    /// agents looking up each every second would be most of what an idle program does.
    pub(super) fn look(&mut self) -> BTreeSet<String> {
        let is_due = self.gap.is_some() && self.scanned_at.elapsed() >= RETRY;
        if is_due || Identity::of(&self.agents_dir) != self.root.as_ref().map(|root| root.identity) {
            return self.rescan();
        }
        self.looks += 1;
        let turn = self.looks % PARTS;
        let has_turn = |index: usize, known: &Known| known.is_link || index % PARTS == turn;
        for (_, (agent, known)) in self.agents.iter().enumerate().filter(|(index, (_, known))| has_turn(*index, known))
        {
            if Identity::of(&self.agents_dir.join(agent)) != known.identity {
                self.stale.insert(agent.clone());
            }
        }
        if self.stale.is_empty() { BTreeSet::new() } else { self.survey() }
    }

    /// Begins anew, because anything may have happened. Gives all agents that there were or are.
    pub(super) fn rescan(&mut self) -> BTreeSet<String> {
        let before = std::mem::take(&mut self.agents);
        self.gap = match watcher((self.new_handler)()) {
            Ok(watcher) => {
                self.watcher = watcher;
                None
            }
            Err(error) => Some(error),
        };
        self.interested.clear();
        self.stale.clear();
        self.lost.clear();
        self.scanned_at = Instant::now();
        self.watch_all();
        let all = before.iter().chain(&self.agents);
        all.filter(|(_, known)| known.identity.is_some()).map(|(agent, _)| agent.clone()).collect()
    }

    fn watch_all(&mut self) {
        // Looked up before anything is watched: if it is exchanged meanwhile, that is seen later.
        let identity = Identity::of(&self.agents_dir);
        let found =
            identity.and_then(|identity| Some(Root { identity, real: fs::canonicalize(&self.agents_dir).ok()? }));
        let Some(root) = found else {
            self.root = None;
            return;
        };
        if let Err(error) = self.watcher.watch(&root.real, RecursiveMode::NonRecursive) {
            self.gap.get_or_insert(error);
        }
        let entries = fs::read_dir(&root.real).into_iter().flatten().flatten();
        let agents: Vec<String> = entries.filter_map(|entry| agent_name(entry.file_name().to_str()?)).collect();
        self.root = Some(root);
        for agent in agents {
            self.survey_one(&agent);
        }
    }

    /// Brings what is watched for an agent up to date. Whether anything was not.
    fn survey_one(&mut self, agent: &str) -> bool {
        let path = self.agents_dir.join(agent);
        let identity = Identity::of(&path);
        let before = self.agents.remove(agent);
        let is_exchanged = before.as_ref().and_then(|known| known.identity) != identity;
        let mut is_other = is_exchanged;
        let old = before.map(|known| known.dirs).unwrap_or_default();
        let mut dirs = if identity.is_some() { directories(&path) } else { HashSet::new() };
        dirs.retain(|dir| {
            let is_known = old.contains(dir);
            if is_known && !is_exchanged && !is_below(dir, &self.lost) {
                return true;
            }
            is_other = true;
            if is_known {
                // What had this path before may still be watched under it.
                let _ = self.watcher.unwatch(dir);
            }
            let is_watched = self.watch(dir);
            if is_watched {
                self.interested.entry(dir.clone()).or_default().insert(agent.to_owned());
            }
            is_watched
        });
        for dir in old.difference(&dirs) {
            is_other = true;
            self.forget(dir, agent);
        }
        let is_link = path.is_symlink();
        if identity.is_some() || is_link {
            self.agents.insert(agent.to_owned(), Known { identity, is_link, dirs });
        }
        is_other
    }

    fn watch(&mut self, dir: &Path) -> bool {
        match self.watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                // Others are about a directory that is gone again, or that nobody can read.
                if matches!(error.kind, ErrorKind::MaxFilesWatch) {
                    self.gap.get_or_insert(error);
                }
                false
            }
        }
    }

    fn forget(&mut self, dir: &Path, agent: &str) {
        let Some(agents) = self.interested.get_mut(dir) else { return };
        agents.remove(agent);
        if agents.is_empty() {
            self.interested.remove(dir);
            // An agent may have a link to `agents/` itself, which goes on being watched.
            if self.root.as_ref().is_none_or(|root| root.real != *dir) {
                // It fails for what has gone.
                let _ = self.watcher.unwatch(dir);
            }
        }
    }
}

fn explained(error: notify::Error) -> anyhow::Error {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            anyhow!("there are more directories than may be watched; raise fs.inotify.max_user_watches")
        }
        _ => error.into(),
    }
}

fn watcher(handler: Handler) -> notify::Result<RecommendedWatcher> {
    RecommendedWatcher::new(handler, Config::default())
}

/// Whether one of the paths is this one or above it.
fn is_below(path: &Path, paths: &HashSet<PathBuf>) -> bool {
    !paths.is_empty() && path.ancestors().any(|above| paths.contains(above))
}

/// The name of an entry of `agents/`, if it can be an agent.
fn agent_name(name: &str) -> Option<String> {
    (!name.starts_with('.') && name != "node_modules").then(|| name.to_owned())
}

/// Real paths of all directories of an agent. Those behind links are taken by themselves: what is below them may be the
/// whole machine.
fn directories(root: &Path) -> HashSet<PathBuf> {
    let mut found = HashSet::new();
    let mut waiting: Vec<PathBuf> = fs::canonicalize(root).into_iter().collect();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_symlink() && entry.path().is_dir() {
                found.extend(fs::canonicalize(entry.path()));
            }
        }
        found.insert(dir);
    }
    found
}
