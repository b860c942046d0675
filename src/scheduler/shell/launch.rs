//! Runs: from the claim, or the decision to start one, to its thread, and to its end.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::{Scheduler, control, reload};
use crate::base::clock::UnixMs;
use crate::base::log::Level;
use crate::model::event::Trigger;
use crate::model::outcome::Outcome;
use crate::run::life::Order;
use crate::scheduler::claim::{self, Taken};
use crate::scheduler::core::{Cause, Claimed, Input, RunKey, Wish};
use crate::scheduler::outlet::Message;
use crate::scheduler::recover::Adoption;
use crate::scheduler::runs::{Runs, free_order, item_order};
use crate::scheduler::status::RunShown;
use crate::store;
use crate::store::containers::{self, Identity};

impl Scheduler {
    /// Asks the store for work; answers at once when there is certainly none.
    pub(super) fn claim(&mut self, wish: Wish) -> Option<Input> {
        self.handle.queue_seen();
        let order = self.queue.order(wish, &self.host.store, &self.project.settings);
        let Some(order) = order else {
            let accepted = std::mem::take(&mut self.queue.accepted);
            accepted.iter().for_each(|item| self.note_queued(item));
            return Some(Input::Claimed(Claimed::default()));
        };
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| claim::take(tx, &order, UnixMs::now()),
            move |taken| outlet.send(Message::Taken(taken.map(Box::new))),
        );
        None
    }

    pub(super) fn taken(&mut self, taken: Result<Box<Taken>>) {
        match taken {
            Ok(taken) => {
                let Taken { claimed, items, pushed_out } = *taken;
                self.note_claimed(&items);
                self.claimed.extend(items);
                self.note_buried(&pushed_out);
                self.feed(Input::Claimed(claimed));
            }
            Err(error) => {
                self.say(Level::Error, "claim failed", &[("err", format!("{error:#}").into())]);
                // Nothing is claimed while nothing can be committed; then everything is looked at again.
                self.feed(Input::Claimed(Claimed::default()));
            }
        }
        self.push_out();
    }

    pub(super) fn start_item(&mut self, key: RunKey, item: i64) {
        let Some((identity, item)) = self.claimed.remove(&item) else { return };
        let Some(definition) = self.agents.get(&item.agent) else {
            // Removed while the claim was committed: the item waits for it to come back.
            return self.unclaim(key, &identity, &item.agent);
        };
        let most = self.host.retries.max_attempts;
        let order = item_order(Arc::clone(&definition.agent), identity, item, most);
        self.launch(key, order);
    }

    /// Registers a run that works on no item; it starts when that is committed.
    pub(super) fn start(&mut self, key: RunKey, agent: &str, cause: Cause, rerun: u32) -> Option<Input> {
        let Some(definition) = self.agents.get(agent) else { return Some(Input::NotStarted { run: key }) };
        let runner = Arc::clone(&definition.agent);
        let max = self.project.settings.max_reruns;
        let trigger = match cause {
            Cause::Tick => {
                let scale = self.core.granted(agent);
                let running = self.runs.instances(Some(agent)).len();
                let fields = [("running", running.into()), ("scale", scale.into())];
                self.say_of(Level::Info, "triggering scheduled run", agent, &fields);
                Trigger::Schedule
            }
            Cause::Initial => {
                self.say_of(Level::Info, &format!("Initial run for {agent}"), agent, &[]);
                Trigger::Schedule
            }
            Cause::Manual(token) => {
                self.pending.insert(key, token);
                Trigger::Manual { prompt: self.wishes.get_mut(&token.0).and_then(control::Wanted::take_prompt) }
            }
            Cause::RerunOf(before) => {
                let fields = [("rerun", rerun.into()), ("maxReruns", max.into())];
                self.say_of(Level::Info, &format!("{agent} requested rerun"), agent, &fields);
                self.runs.chain(before).unwrap_or(Trigger::Schedule)
            }
            Cause::Root => return Some(Input::NotStarted { run: key }),
        };
        let order = Box::new(free_order(runner, trigger, rerun, max));
        let (identity, origin) = (order.identity.clone(), order.origin.clone());
        let outlet = self.outlet.clone();
        self.registering += 1;
        self.host.store.submit(
            move |tx| containers::register(tx, &identity, &origin, None, UnixMs::now()),
            move |result| outlet.send(Message::Registered { key, order, result }),
        );
        None
    }

    pub(super) fn registered(&mut self, key: RunKey, order: Order, result: Result<()>) {
        self.registering -= 1;
        let token = self.pending.remove(&key);
        let instance = order.identity.instance.to_string();
        match result {
            Ok(()) => {
                self.launch(key, order);
                if let Some(token) = token {
                    self.started_for(token, instance);
                }
            }
            Err(error) => {
                self.say(Level::Error, "run could not be registered", &[("err", format!("{error:#}").into())]);
                if let Some(token) = token {
                    self.failed_for(token, &error);
                }
                self.runs.remember(key, order.trigger);
                self.feed(Input::NotStarted { run: key });
                if !self.core.is_held(key) {
                    self.runs.forget(key);
                }
            }
        }
    }

    /// Starts the thread of a registered run.
    fn launch(&mut self, key: RunKey, order: Order) {
        let shown = shown(&order, UnixMs::now());
        self.status.run_started(&shown);
        if let Err(error) = self.runs.start(key, order, None) {
            let outcome = Outcome::not_started(&error);
            self.say_of(
                Level::Error,
                "run could not be started",
                &shown.agent,
                &[("err", format!("{error:#}").into())],
            );
            self.abandon(key, &shown, outcome);
        } else if let Some(reason) = self.doom_of(&shown.agent) {
            self.doom(vec![shown.instance], reason, None);
        }
    }

    /// Why a run is killed that was registered while its agent was removed, or everything was being killed.
    fn doom_of(&self, agent: &str) -> Option<&'static str> {
        self.stopping.doom().or_else(|| (!self.agents.contains_key(agent)).then_some(reload::REMOVED))
    }

    /// Gives a claimed item back whose agent is gone.
    fn unclaim(&mut self, key: RunKey, identity: &Identity, agent: &str) {
        let outcome = Outcome::not_started(&anyhow!("agent {agent} was removed"));
        let (instance, policy, result) = (identity.instance.to_string(), self.host.retries, outcome.result);
        self.host
            .store
            .submit(move |tx| store::runs::finish_run(tx, &instance, &outcome, &policy, UnixMs::now()), |_| {});
        self.feed(Input::Ended { run: key, result });
    }

    /// Ends a registered run that never got a thread.
    fn abandon(&mut self, key: RunKey, shown: &RunShown, outcome: Outcome) {
        let (instance, policy) = (shown.instance.clone(), self.host.retries);
        let recorded = outcome.clone();
        self.host
            .store
            .submit(move |tx| store::runs::finish_run(tx, &instance, &recorded, &policy, UnixMs::now()), |_| {});
        self.status.run_ended(&shown.agent, &shown.instance, &outcome);
        self.feed(Input::Ended { run: key, result: outcome.result });
    }

    pub(super) fn ended(&mut self, instance: &str, outcome: &Outcome) {
        let Some(running) = self.runs.ended(instance, outcome.result) else { return };
        let (key, agent) = (running.key, running.info.agent.clone());
        Runs::join(running);
        self.status.run_ended(&agent, instance, outcome);
        self.feed(Input::Ended { run: key, result: outcome.result });
        if !self.core.is_held(key) {
            self.runs.forget(key);
        }
        self.after_run(&agent);
        // The image that it ran in may have been replaced meanwhile.
        self.tidy_images();
    }

    pub(super) fn adopt(&mut self, adoption: Adoption) -> Result<()> {
        let agent = adoption.agent.clone();
        let Some(definition) = self.agents.get(&agent) else { return Ok(()) };
        let max = self.project.settings.max_reruns;
        let kill_reason = adoption.kill_reason();
        let (order, inherited, reruns) = adoption.order(Arc::clone(&definition.agent), max);
        let fields = [
            ("instance", Value::from(order.identity.instance.as_str())),
            ("container", order.identity.instance.container_name().into()),
        ];
        self.say_of(Level::Info, "re-adopting container", &agent, &fields);
        let shown = shown(&order, inherited.started_at);
        self.status.run_adopted(&shown);
        self.feed(Input::Adopted { agent, rerun: order.origin.rerun, reruns });
        let Some(key) = self.resumed.take() else { return Ok(()) };
        let instance = order.identity.instance.to_string();
        self.runs.start(key, order, Some(inherited))?;
        if let Some(reason) = kill_reason {
            self.runs.kill(&instance, &reason, None);
        }
        Ok(())
    }
}

/// What is shown of a run that starts.
fn shown(order: &Order, started_at: UnixMs) -> RunShown {
    let reason = match &order.trigger {
        Trigger::Webhook { context } => {
            format!("webhook ({})", context.get("event").and_then(Value::as_str).unwrap_or_default())
        }
        Trigger::Agent { caller, .. } => format!("triggered by {caller}"),
        Trigger::Schedule | Trigger::Manual { .. } => order.details(),
    };
    let trigger = match (&order.trigger, order.trigger.source()) {
        (Trigger::Webhook { .. }, Some(provider)) => format!("webhook:{provider}"),
        (Trigger::Agent { .. }, Some(caller)) => format!("agent:{caller}"),
        (trigger, _) => trigger.kind().as_str().to_owned(),
    };
    RunShown {
        instance: order.identity.instance.to_string(),
        agent: order.agent.name.to_string(),
        trigger,
        reason,
        details: order.details(),
        depth: order.origin.depth,
        started_at,
    }
}
