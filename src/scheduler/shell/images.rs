//! Images: those of the start, which everything waits for, and those of reloads.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, bail};

use super::{Phase, Scheduler};
use crate::base::clock::UnixMs;
use crate::base::error::{AgentError, first_line};
use crate::base::log::{Entry, Level};
use crate::base::text::cut;
use crate::base::{Cancel, worker};
use crate::docker::image::Images;
use crate::model::names::AgentName;
use crate::run::images::AgentImage as ImageContent;
use crate::run::life::{AgentImage, ImageSource};
use crate::run::reachability::{self, Place};
use crate::run::{assemble, leftovers};
use crate::scheduler::builds::Built;
use crate::scheduler::core::Input;
use crate::scheduler::outlet::Message;

/// Longest error text of a build or reload.
pub(super) const ERROR_CHARS: usize = 200;

/// Builds that are handed out at a time: enough that no building thread waits, and few enough that not every agent's
/// files are in memory at once.
const AHEAD: usize = 4;

/// The builds of the start.
#[derive(Default)]
pub(super) struct FirstBuilds {
    /// Agents whose image is not ready yet.
    waiting: BTreeSet<String>,
    /// Those of them whose build has not been handed out.
    to_do: VecDeque<String>,
    /// What Docker had of their images.
    known: Option<Arc<Images>>,
    failed: usize,
    done: bool,
    /// The container that asks for the gateway: what ends it, and the thread that removes it.
    check: Option<(Cancel, JoinHandle<Result<()>>)>,
}

impl FirstBuilds {
    pub(super) fn are_done(&self) -> bool {
        self.done
    }

    /// Leaves no container behind that asks for the gateway.
    pub(super) fn end_check(&mut self) {
        if let Some((cancel, thread)) = self.check.take() {
            cancel.cancel();
            let _ = worker::join(thread);
        }
    }
}

/// The image of an agent that has none.
pub(super) fn missing() -> ImageSource {
    Box::new(|_| bail!("the agent has no image"))
}

/// An image that is there.
fn fixed(image: AgentImage) -> ImageSource {
    Box::new(move |_| Ok(image.clone()))
}

impl Scheduler {
    /// Builds what is not current: what all agents stand on, then the agents that can run.
    pub(super) fn start_builds(&mut self) {
        let active = || self.agents.values().filter(|definition| definition.config.is_enabled());
        let names: Vec<AgentName> = active().map(|definition| definition.config.name.clone()).collect();
        let asked = self.known.take().map_or_else(|| self.maker.known(&names), Ok);
        let known = match asked {
            Ok(known) => Arc::new(known),
            Err(error) => {
                let failed = Built::Base(Err(error));
                return self.outlet.send(Message::Built(failed));
            }
        };
        let image = self.builds.base_name();
        self.say(Level::Info, "Checking base image", &[("image", image.into())]);
        self.builds.base(Arc::clone(&known));
        for name in names {
            let name = name.to_string();
            self.status.building(&name, "Building agent image");
            self.images.waiting.insert(name.clone());
            self.images.to_do.push_back(name);
        }
        self.images.known = Some(known);
        for _ in 0..AHEAD {
            self.build_next();
        }
    }

    /// Hands out one more build of the start.
    fn build_next(&mut self) {
        while let Some(name) = self.images.to_do.pop_front() {
            // Meanwhile a reload may have built it, or the agent may be gone.
            if !self.agents.contains_key(&name) {
                self.images.waiting.remove(&name);
            }
            if !self.images.waiting.contains(&name) {
                continue;
            }
            match self.content_of(&name) {
                Ok(content) => return self.builds.agent(Arc::new(content), self.images.known.clone()),
                Err(error) => {
                    self.images.waiting.remove(&name);
                    self.image_failed(&name, &error);
                }
            }
        }
        self.images.known = None;
    }

    /// What is baked into an agent's image as it is defined now.
    fn content_of(&self, name: &str) -> Result<ImageContent> {
        let Some(definition) = self.agents.get(name) else { bail!("agent {name} is gone") };
        self.content(&definition.config)
    }

    /// What is baked into the image of an agent like this.
    pub(super) fn content(&self, config: &crate::config::Agent) -> Result<ImageContent> {
        let enabled = self.agents.values().filter(|other| other.config.is_enabled());
        let others: Vec<&str> =
            enabled.map(|other| other.config.name.as_str()).filter(|other| *other != config.name.as_str()).collect();
        assemble::image_content(&self.project, config, &others, self.tmp_bytes)
    }

    /// # Errors
    /// When nothing can run without what could not be built.
    pub(super) fn built(&mut self, built: Built) -> Result<()> {
        match built {
            Built::BaseProgress { text } => self.status.set_base_image(Some(text)),
            Built::Base(Ok(image)) => {
                self.status.set_base_image(None);
                if !self.images.done {
                    self.check_reachability(image);
                }
                // Of a project without active agents: nothing else would say so.
                self.check_first_builds()?;
            }
            Built::Base(Err(error)) if self.images.done => {
                self.say(Level::Error, "base image failed", &[("err", format!("{error:#}").into())]);
            }
            Built::Base(Err(error)) => return Err(error),
            Built::Progress { agent, text } => self.status.building(&agent, &text),
            Built::Agent { agent, image } => {
                if self.reloads.is_pending(&agent) {
                    self.reload_built(&agent, image);
                } else {
                    match image {
                        Ok(image) => self.image_ready(&agent, image),
                        Err(error) => self.image_failed(&agent, &error),
                    }
                }
                self.images.waiting.remove(&agent);
                self.build_next();
                self.check_first_builds()?;
            }
        }
        Ok(())
    }

    /// Asks from inside a container whether the gateway can be reached; nothing waits for the answer.
    fn check_reachability(&mut self, image: String) {
        let (host, outlet) = (Arc::clone(&self.host), self.outlet.clone());
        let markers = leftovers::marker_dir(&self.project.dir);
        let cancel = Cancel::new();
        let token = cancel.clone();
        let started = worker::spawn("reachability", move || {
            let entry = match worker::guarded(|| reachability::check(&Place::of(&host), &image, &markers, &token))
                .flatten()
            {
                Ok(true) => Entry::new(Level::Info, "gateway can be reached from containers"),
                Ok(false) => Entry::new(Level::Warn, "gateway cannot be reached from containers").field(
                    "hint",
                    format!("let a firewall of this host accept connections from the bridge to {}", host.gateway().url),
                ),
                Err(error) => {
                    let entry = Entry::new(Level::Warn, "gateway could not be asked from a container");
                    entry.field("err", format!("{error:#}"))
                }
            };
            outlet.send(Message::Log(Box::new(entry)));
        });
        match started {
            Ok(thread) => self.images.check = Some((cancel, thread)),
            Err(error) => {
                self.say(Level::Warn, "gateway is not asked from a container", &[("err", format!("{error:#}").into())]);
            }
        }
    }

    /// An agent can run from now on, from this image.
    pub(super) fn image_ready(&mut self, name: &str, image: AgentImage) {
        let Some(definition) = self.agents.get_mut(name) else { return };
        let agent = assemble::agent(&self.project, &definition.config, fixed(image));
        definition.agent = Arc::new(agent);
        definition.has_image = true;
        let tag = self.builds.image_name(&definition.config.name);
        self.say_of(Level::Info, "Built agent image", name, &[("image", tag.into())]);
        self.status.built(name, None);
        self.feed(Input::ImageReady { agent: name.to_owned() });
    }

    fn image_failed(&mut self, name: &str, error: &anyhow::Error) {
        self.images.failed += 1;
        let text = format!("Image build failed: {}", cut(&first_line(error), ERROR_CHARS));
        self.say_of(Level::Error, "agent image failed", name, &[("err", format!("{error:#}").into())]);
        self.status.note(name, text.clone());
        self.status.built(name, Some(text));
    }

    fn check_first_builds(&mut self) -> Result<()> {
        if self.images.done || !self.images.waiting.is_empty() {
            return Ok(());
        }
        let active = self.agents.values().filter(|definition| definition.config.is_enabled()).count();
        if active > 0 && self.images.failed >= active {
            let last = self.agents.values().find_map(|definition| {
                let shown = self.handle.snapshot();
                shown.agents.get(definition.config.name.as_str()).and_then(|agent| agent.last_error.clone())
            });
            bail!(AgentError(format!("no agent's image could be built: {}", last.unwrap_or_default())));
        }
        self.images.done = true;
        self.say(Level::Info, "Docker infrastructure ready", &[]);
        self.builds.tidy();
        self.look_for_strays();
        Ok(())
    }

    /// Everything is there: what waits may start.
    pub(super) fn get_ready(&mut self) {
        self.agents.values().for_each(|definition| self.say_schedule(definition));
        self.feed(Input::Ready);
        let initial = self.initial_agents();
        self.feed(Input::InitialRuns { agents: initial });
        self.show_ready();
        self.reloads.watch(&self.project.dir);
        for agent in self.agents.keys().cloned().collect::<Vec<_>>() {
            self.look_at(&agent);
        }
        let _ = self.phases.send(Phase::Ready);
    }

    /// Says what the schedule of an agent is from now on, and whether it is valid and yet never fires.
    pub(super) fn say_schedule(&self, definition: &super::Definition) {
        let config = &definition.config;
        if let Some(schedule) = config.schedule.as_ref().filter(|_| config.is_enabled()) {
            let name = config.name.as_str();
            let msg = format!("Scheduled {name}: \"{}\" ({})", schedule.text(), self.zone.name());
            self.say_of(Level::Info, &msg, name, &[]);
        }
        if let Some(schedule) = config.schedule.as_ref().filter(|schedule| schedule.never_fires(UnixMs::now())) {
            self.say_of(
                Level::Warn,
                "schedule never fires",
                config.name.as_str(),
                &[("schedule", schedule.text().into())],
            );
        }
    }

    fn show_ready(&mut self) {
        let port = self.shown.port;
        let dashboard = self.shown.dashboard.then(|| format!("http://localhost:{port}/dashboard"));
        self.status.scheduler(|info| {
            info.initializing = false;
            info.gateway_port = Some(port);
            info.dashboard_url = dashboard;
        });
        self.show_counts();
        for url in self.webhook_urls() {
            self.say(Level::Info, "Webhook endpoint registered", &[("url", url.into())]);
        }
    }

    /// What depends on the agents.
    pub(super) fn show_counts(&mut self) {
        let (armed, urls) = (self.core.armed(), self.webhook_urls());
        self.status.scheduler(|info| {
            // Shown when the start is complete.
            if info.initializing {
                return;
            }
            info.cron_job_count = armed;
            info.webhooks_active = !urls.is_empty();
            info.webhook_urls = urls;
        });
    }

    /// Of each provider that an active agent has a trigger of, in the order of their first use.
    fn webhook_urls(&self) -> Vec<String> {
        let mut urls = Vec::new();
        let active = self.agents.values().filter(|definition| definition.config.is_enabled());
        for trigger in active.flat_map(|definition| &definition.config.triggers) {
            let url = format!("http://localhost:{}/webhooks/{}", self.shown.port, trigger.provider.name);
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }
}
