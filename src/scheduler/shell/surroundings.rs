//! What the scheduler depends on and does not decide: Docker, the disk, containers that nobody needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Scheduler;
use crate::base::log::Level;
use crate::base::text::cut;
use crate::base::worker;
use crate::docker::inspect::{self, Which};
use crate::run::daemon::Change;
use crate::run::leftovers;
use crate::scheduler::core::{Health, Input};
use crate::scheduler::outlet::{Message, RunReport};
use crate::scheduler::recover::remove_stray;
use crate::store::{self, containers, flags};

/// How often the removal of a container is tried again.
const REMOVE_EVERY: Duration = Duration::from_secs(60);
/// How often a commit is tried while nothing can be committed and nobody else tries.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Longest error in the status.
const ERROR_CHARS: usize = 200;

/// Containers of ended runs that could not be removed, and when to try again; the same for a disk that is full.
#[derive(Default)]
pub(super) struct Leftovers {
    containers: Vec<String>,
    next_removal: Option<Instant>,
    next_probe: Option<Instant>,
}

impl Leftovers {
    pub(super) fn next(&self) -> Option<Instant> {
        [self.next_removal, self.next_probe].into_iter().flatten().min()
    }
}

impl Scheduler {
    pub(super) fn on_report(&mut self, report: RunReport) {
        match report {
            RunReport::ToolError { agent, text } => self.status.tool_error(&agent, &text),
            RunReport::ItemEnded { item, end, class, error } => {
                self.note_item_end(&item, &end, class, error.as_deref());
            }
            RunReport::Leftover { container } => {
                self.leftovers.containers.push(container);
                self.leftovers.next_removal.get_or_insert_with(|| Instant::now() + REMOVE_EVERY);
            }
            RunReport::Warning(text) => self.say(Level::Warn, &text, &[] as &[(&str, Value)]),
        }
    }

    /// Tries again what could not be done before.
    pub(super) fn remove_leftovers(&mut self, now: Instant) {
        if self.leftovers.next_removal.is_some_and(|next| next <= now) {
            let containers = std::mem::take(&mut self.leftovers.containers);
            self.leftovers.next_removal = None;
            let (docker, outlet) = (self.host.docker.clone(), self.outlet.clone());
            let _ = worker::spawn("remove-leftovers", move || {
                for container in containers {
                    if inspect::remove(&docker, &container).is_err() {
                        outlet.send(Message::Leftover(container));
                    }
                }
            });
        }
        if self.leftovers.next_probe.is_some_and(|next| next <= now) {
            self.leftovers.next_probe = Some(now + PROBE_EVERY);
            self.host.store.submit(|tx| flags::set(tx, flags::UNCLEAN, "1"), |_| {});
        }
    }

    pub(super) fn still_there(&mut self, container: String) {
        self.leftovers.containers.push(container);
        self.leftovers.next_removal.get_or_insert_with(|| Instant::now() + REMOVE_EVERY);
    }

    pub(super) fn docker_changed(&mut self, change: Change) {
        match change {
            Change::Down(error) => {
                self.say(Level::Error, "Docker is not answering", &[("err", error.as_str().into())]);
                self.status.note("scheduler", "Docker is not answering");
                let shown = cut(&error, ERROR_CHARS).to_owned();
                self.status.scheduler(|info| info.docker_error = Some(shown));
                self.feed(Input::Docker(Health::Down));
            }
            Change::Up => {
                self.say(Level::Info, "Docker is answering again", &[]);
                self.check_docker();
            }
        }
    }

    /// Makes sure of the network and removes containers without a row, then everything may go on.
    fn check_docker(&self) {
        let (host, outlet, log) = (Arc::clone(&self.host), self.outlet.clone(), Arc::clone(&self.log));
        let markers = leftovers::marker_dir(&self.project.dir);
        let started = worker::spawn("docker-check", move || {
            let checked = worker::guarded(|| -> anyhow::Result<()> {
                host.network.restore()?;
                let rows = host.store.read(containers::instances)?;
                for stray in inspect::list(&host.docker, Which::OfProject(&host.project))? {
                    if !stray.once && !rows.contains(&stray.instance) {
                        remove_stray(&host.docker, &stray, &log);
                    }
                }
                // The container that asked for the gateway when Docker went away, for one.
                if leftovers::any(&markers) {
                    leftovers::remove(&host.docker, &markers, &host.project, &host.roots)?;
                }
                Ok(())
            });
            outlet.send(Message::DockerChecked(checked.flatten()));
        });
        if let Err(error) = started {
            self.outlet.send(Message::DockerChecked(Err(error)));
        }
    }

    /// Looks once more for containers that a killed scheduler may have had made after the comparison at the start.
    pub(super) fn look_for_strays(&self) {
        self.check_docker();
    }

    pub(super) fn docker_checked(&mut self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            self.say(Level::Warn, "Docker could not be looked at", &[("err", format!("{error:#}").into())]);
        }
        if self.queue.next().is_none() && self.images.are_done() {
            // The first time after everything was built.
            self.begin_upkeep();
            return self.get_ready();
        }
        self.status.scheduler(|info| info.docker_error = None);
        self.status.note("scheduler", "Docker is answering again");
        self.feed(Input::Docker(Health::Up));
    }

    pub(super) fn storage_changed(&mut self, health: store::Health) {
        match health {
            store::Health::Down(error) => {
                self.say(Level::Error, "database not writable", &[("err", error.into())]);
                self.status.note("scheduler", "database not writable");
                self.leftovers.next_probe = Some(Instant::now() + PROBE_EVERY);
                self.feed(Input::Storage(Health::Down));
            }
            store::Health::Up => {
                self.leftovers.next_probe = None;
                self.say(Level::Info, "database writable again", &[]);
                self.status.note("scheduler", "database writable again");
                self.feed(Input::Storage(Health::Up));
            }
        }
    }

    /// A slot has become free: what was changed for this agent while it ran may be looked at.
    pub(super) fn after_run(&mut self, agent: &str) {
        if self.agents.get(agent).is_none_or(|definition| !definition.config.is_enabled()) {
            // The item of the run may be in the queue again.
            self.bury_gone(Instant::now());
        }
        if !self.agents.contains_key(agent) && self.runs.instances(Some(agent)).is_empty() {
            self.status.remove_agent(agent);
        }
    }
}
