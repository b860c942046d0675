//! Hot reload: what changes in `agents/` is checked, built, and then switched to in one step (scheduler.md §9). What is
//! broken is reported and leaves the old version in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::Value;

use super::Scheduler;
use super::images::ERROR_CHARS;
use crate::base::error::one_line;
use crate::base::log::{Entry, Level};
use crate::base::text::cut;
use crate::base::worker;
use crate::config::{self, Project};
use crate::run::fingerprint::{Fingerprint, fingerprint};
use crate::run::images::AgentImage as ImageContent;
use crate::run::life::AgentImage;
use crate::scheduler::core::Input;
use crate::scheduler::outlet::{Message, Outlet};
use crate::store::flags;
use crate::watch::Watcher;

/// Reason of a kill when the agent is gone.
pub(super) const REMOVED: &str = "agent removed";

/// Loads and checks one agent of a project as a start would; the text says all that is wrong.
pub type Check = Box<dyn Fn(&Project, &str) -> Result<config::Agent, String> + Send + Sync>;

/// What was found in the directory of an agent.
pub(in crate::scheduler) struct Prepared {
    agent: String,
    found: Found,
}

enum Found {
    /// No agent's directory any more.
    Gone,
    /// As it was.
    Unchanged,
    Invalid(String),
    Changed {
        config: Box<config::Agent>,
        fingerprint: Fingerprint,
    },
}

/// Reloads under way.
pub(super) struct Reloads {
    /// Agents to look at, with what their image was built from.
    looks: Option<Sender<(String, Option<Fingerprint>)>>,
    thread: Option<JoinHandle<Result<()>>>,
    watcher: Option<Watcher>,
    outlet: Outlet,
    /// Being looked at or built.
    busy: BTreeSet<String>,
    /// Changed again meanwhile.
    again: BTreeSet<String>,
    /// What is being built.
    building: BTreeMap<String, Building>,
    /// What is shown of agents whose files are broken.
    broken: BTreeMap<String, String>,
}

struct Building {
    config: config::Agent,
    fingerprint: Fingerprint,
}

impl Reloads {
    /// Starts the thread that looks at directories.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn start(project: Arc<Project>, check: Check, outlet: Outlet) -> Result<Self> {
        // Unbounded, but an agent is in it once.
        let (looks, asked) = unbounded();
        let told = outlet.clone();
        let thread = worker::spawn("reload", move || look(&project, &check, &asked, &told))?;
        Ok(Self {
            looks: Some(looks),
            thread: Some(thread),
            watcher: None,
            outlet,
            busy: BTreeSet::new(),
            again: BTreeSet::new(),
            building: BTreeMap::new(),
            broken: BTreeMap::new(),
        })
    }

    /// From now on changes are noticed.
    pub(super) fn watch(&mut self, project: &Path) {
        let told = self.outlet.clone();
        let started = Watcher::start(&project.join("agents"), move |agent| {
            told.send(Message::Changed(agent.to_owned()));
        });
        match started {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                let entry = Entry::new(Level::Warn, "agents/ cannot be watched: changes count after a restart");
                self.outlet.send(Message::Log(Box::new(entry.field("err", format!("{error:#}")))));
            }
        }
    }

    /// Notices nothing any more.
    pub(super) fn stop(&mut self) {
        if let Some(Err(error)) = self.watcher.take().map(Watcher::stop) {
            let entry = Entry::new(Level::Warn, "watcher did not end as it should");
            self.outlet.send(Message::Log(Box::new(entry.field("err", format!("{error:#}")))));
        }
        self.looks = None;
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = worker::join(thread);
        }
    }

    /// Whether the image that is being built is that of a reload.
    pub(super) fn is_pending(&self, agent: &str) -> bool {
        self.building.contains_key(agent)
    }
}

fn look(project: &Project, check: &Check, asked: &Receiver<(String, Option<Fingerprint>)>, outlet: &Outlet) {
    for (agent, known) in asked {
        let found = worker::guarded(|| compare(project, check, &agent, known.as_ref()));
        let found = found.unwrap_or_else(|error| Found::Invalid(one_line(&error)));
        outlet.send(Message::Prepared(Box::new(Prepared { agent, found })));
    }
}

fn compare(project: &Project, check: &Check, agent: &str, known: Option<&Fingerprint>) -> Found {
    let dir = project.dir.join("agents").join(agent);
    if !dir.join("agent-config.toml").exists() {
        return Found::Gone;
    }
    match fingerprint(&dir) {
        Ok(now) if Some(&now) == known => Found::Unchanged,
        Ok(fingerprint) => match check(project, agent) {
            Ok(config) => Found::Changed { config: Box::new(config), fingerprint },
            Err(problem) => Found::Invalid(problem),
        },
        Err(error) => Found::Invalid(one_line(&error)),
    }
}

impl Scheduler {
    /// Something in the directory of an agent may have changed.
    pub(super) fn look_at(&mut self, agent: &str) {
        if self.stopping.has_begun() {
            return;
        }
        if !self.reloads.busy.insert(agent.to_owned()) {
            self.reloads.again.insert(agent.to_owned());
            return;
        }
        let known = self.agents.get(agent).and_then(|definition| definition.fingerprint);
        if let Some(looks) = &self.reloads.looks {
            let _ = looks.send((agent.to_owned(), known));
        }
    }

    pub(in crate::scheduler) fn prepared(&mut self, prepared: Prepared) {
        let Prepared { agent, found } = prepared;
        match found {
            Found::Unchanged => {
                // What was broken is again what is in force.
                if let Some(error) = self.reloads.broken.remove(&agent) {
                    self.status.withdraw_error(&agent, &error);
                }
                self.reloaded(&agent);
            }
            Found::Gone => {
                self.remove_agent(&agent);
                self.reloaded(&agent);
            }
            Found::Invalid(problem) => {
                let fields = [("err", Value::from(problem.as_str()))];
                self.say_of(Level::Error, "hot reload: invalid agent config", &agent, &fields);
                self.reload_failed(&agent, &format!("Invalid config: {}", cut(&problem, ERROR_CHARS)));
                self.reloaded(&agent);
            }
            Found::Changed { config, fingerprint } => self.rebuild(*config, fingerprint),
        }
    }

    /// This reload is over; another one follows when something changed meanwhile.
    fn reloaded(&mut self, agent: &str) {
        self.reloads.busy.remove(agent);
        if self.reloads.again.remove(agent) {
            self.look_at(agent);
        }
    }

    /// Builds what an agent is now; until that is done everything old is in force.
    fn rebuild(&mut self, config: config::Agent, fingerprint: Fingerprint) {
        let name = config.name.to_string();
        let is_new = !self.agents.contains_key(&name);
        let msg = if is_new { "hot reload: new agent detected" } else { "hot reload: agent changed" };
        self.say_of(Level::Info, msg, &name, &[]);
        if !config.is_enabled() {
            self.switch(config, fingerprint, None);
            return self.reloaded(&name);
        }
        let content: ImageContent = match self.content(&config) {
            Ok(content) => content,
            Err(error) => {
                self.build_failed(&name, &error);
                return self.reloaded(&name);
            }
        };
        if is_new {
            self.status.set_agent(&name, 0, 0, config.timeout);
        }
        let text = if is_new { "Building (new agent)" } else { "Rebuilding (config changed)" };
        self.status.building(&name, text);
        self.reloads.building.insert(name, Building { config, fingerprint });
        self.builds.agent(Arc::new(content), None);
    }

    /// Has images removed that others took the place of, unless there is something to build.
    pub(super) fn tidy_images(&self) {
        if self.reloads.building.is_empty() && self.images.are_done() {
            self.builds.tidy();
        }
    }

    /// The image of a reload is there, or could not be built.
    pub(super) fn reload_built(&mut self, name: &str, image: Result<AgentImage>) {
        let Some(Building { config, fingerprint }) = self.reloads.building.remove(name) else { return };
        match image {
            Ok(image) => {
                self.switch(config, fingerprint, Some(image));
                self.tidy_images();
            }
            Err(error) => self.build_failed(name, &error),
        }
        self.reloaded(name);
    }

    fn build_failed(&mut self, name: &str, error: &anyhow::Error) {
        self.say_of(Level::Error, "hot reload failed", name, &[("err", format!("{error:#}").into())]);
        self.reload_failed(name, &format!("Hot reload error: {}", cut(&one_line(error), ERROR_CHARS)));
    }

    fn reload_failed(&mut self, name: &str, text: &str) {
        if !self.agents.contains_key(name) {
            // Shown, and still unknown to everything else.
            self.status.set_agent(name, 0, 0, 0);
        }
        self.status.built(name, Some(text.to_owned()));
        self.status.note(name, text);
        self.reloads.broken.insert(name.to_owned(), text.to_owned());
    }

    /// From now on an agent is like this: configuration, image, slots, schedule and bindings change together.
    fn switch(&mut self, config: config::Agent, fingerprint: Fingerprint, image: Option<AgentImage>) {
        let name = config.name.to_string();
        let is_new = !self.agents.contains_key(&name);
        let enabled = config.is_enabled();
        let before = self.agents.get(&name).and_then(|definition| armed(&definition.config));
        let is_rearmed = before != armed(&config);
        self.define(config, Some(fingerprint));
        if let Some(image) = image {
            self.image_ready(&name, image);
        }
        self.allocate();
        self.bind();
        if let Some(definition) = self.agents.get(&name).filter(|_| is_rearmed) {
            self.say_schedule(definition);
        }
        self.reloads.broken.remove(&name);
        self.status.clear_error(&name);
        self.status.built(&name, None);
        self.show_counts();
        match (is_new, enabled) {
            (true, false) => self.say_of(Level::Info, "hot reload: agent registered (scale=0, disabled)", &name, &[]),
            (true, true) => {
                self.say_of(Level::Info, "hot reload: new agent ready", &name, &[]);
                self.status.note(&name, "hot-reloaded (new)");
            }
            (false, _) => {
                self.say_of(Level::Info, "hot reload: agent updated", &name, &[]);
                self.status.note(&name, "hot-reloaded");
            }
        }
        self.queue_changed();
    }

    fn remove_agent(&mut self, name: &str) {
        self.reloads.broken.remove(name);
        if self.agents.remove(name).is_none() {
            // It may have been shown because it was broken.
            return self.status.remove_agent(name);
        }
        self.say_of(Level::Info, "hot reload: agent removed", name, &[]);
        self.feed(Input::AgentGone { agent: name.to_owned() });
        self.allocate();
        self.bind();
        let instances = self.runs.instances(Some(name));
        if instances.is_empty() {
            self.status.remove_agent(name);
        } else {
            // It is shown until they have ended, and may be back by then.
            self.status.set_paused(name, false);
            self.doom(instances, REMOVED, None);
        }
        let key = flags::disabled(name);
        self.host.store.submit(move |tx| flags::clear(tx, &key), |_| {});
        self.bury_gone(std::time::Instant::now());
        self.show_counts();
        self.status.note("scheduler", format!("{name} removed (hot reload)"));
        self.say_of(Level::Info, "hot reload: agent teardown complete", name, &[]);
    }
}

/// The text of the schedule by which an agent fires.
fn armed(config: &config::Agent) -> Option<String> {
    config.schedule.as_ref().filter(|_| config.is_enabled()).map(|schedule| schedule.text().to_owned())
}
