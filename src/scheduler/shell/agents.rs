//! Agents: taking them in, sharing the project's slots out among them, what wakes them.

use std::sync::Arc;

use super::{Definition, Flags, Scheduler, images};
use crate::base::log::Level;
use crate::config;
use crate::run::fingerprint::Fingerprint;
use crate::scheduler::allocation::allocate;
use crate::scheduler::core::{Input, NextFiring, Reruns, Scheduled, Setup};
use crate::webhooks::Bindings;

impl Scheduler {
    /// Takes an agent in, or what it is now.
    pub(super) fn define(&mut self, config: config::Agent, fingerprint: Option<Fingerprint>) {
        let name = config.name.to_string();
        let agent = Arc::new(crate::run::assemble::agent(&self.project, &config, images::missing()));
        self.agents.insert(name, Definition { config, agent, has_image: false, fingerprint });
    }

    /// Shares the project's slots out and tells everybody what each agent is.
    pub(super) fn allocate(&mut self) {
        let wanted = self.agents.iter().map(|(name, definition)| (name.clone(), wanted(&definition.config))).collect();
        let limit = self.project.settings.scale.map(|scale| u32::try_from(scale).unwrap_or(u32::MAX));
        let (granted, reduced) = allocate(&wanted, limit);
        for less in reduced {
            let fields = [
                ("requested", less.requested.into()),
                ("reduced", less.granted.into()),
                ("projectLimit", limit.into()),
            ];
            self.say_of(Level::Warn, "Agent scale reduced due to project scale limit", &less.agent, &fields);
        }
        for (name, slots) in granted {
            let Some(definition) = self.agents.get(&name) else { continue };
            self.status.set_agent(&name, wanted[&name], slots, definition.config.timeout);
            if slots != self.core.granted(&name) {
                self.say_of(Level::Info, "Created runner pool", &name, &[("scale", slots.into())]);
            }
            let setup = Setup {
                granted: slots,
                schedule: self.schedule_of(&definition.config),
                has_image: definition.has_image,
                reruns: Reruns::UpTo(self.project.settings.max_reruns),
            };
            self.feed(Input::Agent { name, setup });
        }
    }

    fn schedule_of(&self, config: &config::Agent) -> Option<Scheduled> {
        let schedule = config.schedule.clone()?;
        let zone = self.zone.clone();
        let text = schedule.text().to_owned();
        let next = NextFiring::new(move |from| schedule.next(&zone, from));
        Some(Scheduled { text, next })
    }

    /// Publishes which deliveries are for whom.
    pub(super) fn bind(&mut self) {
        let agents = self.agents.values().filter(|definition| definition.config.is_enabled());
        let triggers = agents.map(|definition| (&definition.config.name, definition.config.triggers.as_slice()));
        let bindings = Bindings::new(self.project.settings.webhooks.values(), triggers);
        self.handle.set_bindings(bindings);
    }

    pub(super) fn apply_flags(&mut self, flags: &Flags) {
        if flags.paused {
            self.say(Level::Warn, "scheduler is paused", &[]);
            self.status.scheduler(|info| info.paused = true);
            self.status.note("scheduler", "paused since before this start; resume with `al resume`");
            self.feed(Input::Paused(true));
        }
        for agent in flags.disabled.iter().filter(|agent| self.agents.contains_key(*agent)).cloned().collect::<Vec<_>>()
        {
            self.say_of(Level::Warn, "agent is paused", &agent, &[]);
            self.status.set_paused(&agent, true);
            self.status.note(&agent, format!("paused since before this start; resume with `al resume {agent}`"));
            self.feed(Input::Enabled { agent, is_enabled: false });
        }
    }
}

/// Slots that an agent asks for.
fn wanted(config: &config::Agent) -> u32 {
    u32::try_from(config.scale).unwrap_or(u32::MAX)
}
