//! Wishes of people: pause, enable, kill, start a run, stop.

use anyhow::Result;
use serde_json::json;

use super::Scheduler;
use crate::base::clock::UnixMs;
use crate::base::crash;
use crate::base::log::Level;
use crate::run::outcome::OPERATOR;
use crate::scheduler::core::{Input, NotNow, Reruns, Token};
use crate::scheduler::handle::{Control, Done, Refusal};
use crate::scheduler::outlet::{ControlReply, Doom, Flag, Message};
use crate::store::items::{self, Kind, NewItem};
use crate::store::{self, containers, flags};

/// A run that somebody waits for.
pub(super) struct Wanted {
    reply: ControlReply,
    agent: String,
    prompt: Option<String>,
    /// It becomes an item when it cannot start now.
    queue: bool,
}

impl Wanted {
    pub(super) fn take_prompt(&mut self) -> Option<String> {
        self.prompt.take()
    }
}

impl Scheduler {
    pub(super) fn control(&mut self, control: Control, reply: ControlReply) {
        match control {
            Control::Pause => self.store_flag(Flag::Paused(true), reply),
            Control::Resume => self.store_flag(Flag::Paused(false), reply),
            Control::Disable { agent } => self.store_flag(Flag::Disabled { agent, is_disabled: true }, reply),
            Control::Enable { agent } => self.store_flag(Flag::Disabled { agent, is_disabled: false }, reply),
            Control::KillAgent { agent } => {
                if !self.agents.contains_key(&agent) {
                    return refuse(&reply, Refusal::UnknownAgent);
                }
                let instances = self.runs.instances(Some(&agent));
                self.doom(instances, OPERATOR, Some((reply, Doom::Agent)));
            }
            Control::KillInstance { instance } => {
                if !self.runs.is_running(&instance) {
                    return refuse(&reply, Refusal::UnknownInstance);
                }
                self.doom(vec![instance], OPERATOR, Some((reply, Doom::Instance)));
            }
            Control::Trigger { agent, prompt, queue } => {
                self.say_of(Level::Info, "manual trigger via control API", &agent, &[]);
                let token = Token(self.next_token);
                self.next_token += 1;
                self.wishes.insert(token.0, Wanted { reply, agent: agent.clone(), prompt, queue });
                let reruns = Reruns::UpTo(self.project.settings.max_reruns);
                self.feed(Input::Trigger { agent, token, reruns });
            }
            Control::Stop(wish) => {
                self.say(Level::Info, "Stop requested via control API", &[]);
                let _ = reply.send(Ok(Done::Yes));
                self.stop_soon(wish);
            }
        }
    }

    /// Stores a flag; it counts from the commit on.
    fn store_flag(&mut self, flag: Flag, reply: ControlReply) {
        let key = match &flag {
            Flag::Paused(_) => flags::PAUSED.to_owned(),
            Flag::Disabled { agent, .. } if !self.agents.contains_key(agent) => {
                return refuse(&reply, Refusal::UnknownAgent);
            }
            Flag::Disabled { agent, .. } => flags::disabled(agent),
        };
        let is_set = matches!(&flag, Flag::Paused(true) | Flag::Disabled { is_disabled: true, .. });
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| if is_set { flags::set(tx, &key, "1") } else { flags::clear(tx, &key).map(drop) },
            move |result| outlet.send(Message::Flag { flag, result, reply }),
        );
    }

    pub(super) fn flag_stored(&mut self, flag: Flag, result: Result<()>, reply: &ControlReply) {
        if let Err(error) = result {
            return refuse(reply, refusal(&error));
        }
        match flag {
            Flag::Paused(paused) => {
                let msg = if paused { "Scheduler paused" } else { "Scheduler resumed" };
                self.say(Level::Info, &format!("{msg} via control API"), &[]);
                self.status.scheduler(|info| info.paused = paused);
                self.status.note("scheduler", if paused { "paused" } else { "resumed" });
                self.feed(Input::Paused(paused));
            }
            Flag::Disabled { agent, is_disabled } => {
                // Removed meanwhile, and its flag with it.
                if self.agents.contains_key(&agent) {
                    let msg = if is_disabled { "agent paused" } else { "agent resumed" };
                    self.say_of(Level::Info, msg, &agent, &[]);
                    self.status.set_paused(&agent, is_disabled);
                    self.status.note(&agent, if is_disabled { "paused" } else { "resumed" });
                    self.feed(Input::Enabled { agent, is_enabled: !is_disabled });
                    self.show_counts();
                }
            }
        }
        self.publish();
        let _ = reply.send(Ok(Done::Yes));
    }

    /// Has it committed why runs are to be killed; they are from the commit on.
    pub(super) fn doom(&mut self, instances: Vec<String>, reason: &str, answer: Option<(ControlReply, Doom)>) {
        let (outlet, reason) = (self.outlet.clone(), reason.to_owned());
        let (doomed, why) = (instances.clone(), reason.clone());
        self.host.store.submit(
            move |tx| doomed.iter().try_for_each(|instance| containers::set_kill_reason(tx, instance, &why).map(drop)),
            move |result| outlet.send(Message::Doomed { instances, reason, result, answer }),
        );
    }

    pub(super) fn doomed(
        &mut self,
        instances: &[String],
        reason: &str,
        result: Result<()>,
        answer: Option<(ControlReply, Doom)>,
    ) {
        if let Err(error) = result {
            self.say(Level::Error, "kill could not be committed", &[("err", format!("{error:#}").into())]);
            if let Some((reply, _)) = answer {
                refuse(&reply, refusal(&error));
            }
            return;
        }
        crash::point("doomed");
        let killed = instances.iter().filter(|instance| self.runs.kill(instance, reason, None)).count();
        for instance in instances {
            let fields = [("instance", instance.as_str().into()), ("reason", reason.into())];
            self.say(Level::Info, "killing instance", &fields);
        }
        let Some((reply, doom)) = answer else { return };
        let _ = reply.send(match doom {
            Doom::Agent => Ok(Done::Killed(killed)),
            Doom::Instance if killed == 0 => Err(Refusal::UnknownInstance),
            Doom::Instance => Ok(Done::Yes),
        });
    }

    /// The run that somebody waits for starts.
    pub(super) fn started_for(&mut self, token: Token, instance: String) {
        if let Some(wanted) = self.wishes.remove(&token.0) {
            self.publish();
            let _ = wanted.reply.send(Ok(Done::Started { instance }));
        }
    }

    /// The run that somebody waits for could not be registered.
    pub(super) fn failed_for(&mut self, token: Token, error: &anyhow::Error) {
        if let Some(wanted) = self.wishes.remove(&token.0) {
            refuse(&wanted.reply, refusal(error));
        }
    }

    /// The run that somebody waits for cannot start now.
    pub(super) fn refused(&mut self, token: Token, why: NotNow) {
        let Some(wanted) = self.wishes.remove(&token.0) else { return };
        if wanted.queue && matches!(why, NotNow::NoFreeSlot | NotNow::ProjectLimit(_)) {
            return self.enqueue(wanted);
        }
        refuse(
            &wanted.reply,
            match why {
                NotNow::UnknownAgent => Refusal::UnknownAgent,
                NotNow::Disabled => Refusal::Disabled,
                NotNow::NotAvailable => Refusal::NotAvailable,
                NotNow::NoImage => Refusal::NoImage,
                NotNow::NoFreeSlot => Refusal::NoFreeRunner,
                NotNow::ProjectLimit(limit) => Refusal::ProjectLimit(limit),
                NotNow::NoStorage => Refusal::StorageUnavailable,
            },
        );
    }

    fn enqueue(&mut self, wanted: Wanted) {
        let Wanted { reply, agent, prompt, .. } = wanted;
        let item = NewItem {
            agent,
            kind: Kind::Manual,
            source: String::new(),
            context: prompt.map_or_else(|| json!({}), |prompt| json!({ "prompt": prompt })),
            receipt_id: None,
            call_id: None,
            depth: 0,
            chain: Vec::new(),
        };
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| items::insert(tx, &item, UnixMs::now()).map(drop),
            move |result| outlet.send(Message::Enqueued { result, reply }),
        );
    }

    pub(super) fn enqueued(&mut self, result: Result<()>, reply: &ControlReply) {
        match result {
            Ok(()) => {
                self.queue_changed();
                let _ = reply.send(Ok(Done::Queued));
            }
            Err(error) => refuse(reply, refusal(&error)),
        }
    }
}

fn refuse(reply: &ControlReply, refusal: Refusal) {
    let _ = reply.send(Err(refusal));
}

fn refusal(error: &anyhow::Error) -> Refusal {
    if store::is_unavailable(error) { Refusal::StorageUnavailable } else { Refusal::Failed(format!("{error:#}")) }
}
