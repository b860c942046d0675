//! `al run` with a scheduler: the run is triggered there and, with `--wait`, followed to its end (scheduler.md §15.2).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{bounded, select};
use serde_json::{Value, json};

use super::chain::{Chain, Record, Step};
use crate::base::clock::UnixMs;
use crate::base::error::Trouble;
use crate::base::log_files::{Day, Object, Position};
use crate::base::text::{percent_encode, printable};
use crate::base::{Cancel, worker};
use crate::cli::gateway_client::{Contact, GatewayClient, ask_if_running, trouble};
use crate::cli::site::Site;
use crate::model::event::Trigger;
use crate::run::observer::Observer;
use crate::scheduler::once::Finished;

/// Longest task in bytes that a gateway takes.
const LONGEST_TASK: usize = 64 * 1024;
/// How often is looked.
const POLL: Duration = Duration::from_secs(1);
/// How long a scheduler may be away while its run is waited for: time enough to start it anew.
const PATIENCE: Duration = Duration::from_secs(120);
/// Entries of one page.
const PAGE: usize = 1000;

/// What is wanted of the scheduler.
pub(super) struct Wish {
    pub(super) agent: String,
    /// The task, when there is one.
    prompt: Option<String>,
    pub(super) wait: bool,
}

/// What came of it.
pub(super) enum Scheduled {
    /// It starts; this is what the gateway says about it.
    Triggered { message: String, instance: Option<String> },
    /// It was waited for.
    Ended(Box<Finished>),
}

impl Wish {
    /// A wish for this trigger.
    pub(super) fn of(agent: &str, trigger: &Trigger, wait: bool) -> Self {
        let prompt = match trigger {
            Trigger::Manual { prompt } => prompt.clone().filter(|prompt| !prompt.trim().is_empty()),
            _ => None,
        };
        Self { agent: agent.to_owned(), prompt, wait }
    }

    /// What a scheduler cannot do although a run without one could.
    ///
    /// # Errors
    /// When this is such a thing.
    fn check(&self, trigger: &Trigger) -> Result<()> {
        if matches!(trigger, Trigger::Webhook { .. }) {
            bail!(
                "--webhook works only without a scheduler, in the one-shot mode\n  stop the scheduler (al stop), or send \
                 the webhook to its gateway"
            );
        }
        let bytes = self.prompt.as_ref().map_or(0, String::len);
        if bytes > LONGEST_TASK {
            bail!(
                "the task has {bytes} bytes; a scheduler takes at most {LONGEST_TASK} (64 KiB)\n  put the rest into a file \
                 that the agent can read"
            );
        }
        Ok(())
    }
}

/// Has the scheduler carry it out. `None`: no scheduler of this project runs on this machine. `told` is called with what
/// the gateway says before anything is waited for.
///
/// # Errors
/// When the scheduler refuses or cannot be asked, or the token is used meanwhile; a run that was started goes on.
pub(super) fn run(
    site: &Arc<Site>,
    wish: Wish,
    trigger: &Trigger,
    observer: Arc<dyn Observer>,
    told: impl Fn(&str) + Send + 'static,
    cancel: &Cancel,
) -> Result<Option<Scheduled>> {
    let (sender, ended) = bounded(1);
    let (site, trigger) = (Arc::clone(site), trigger.clone());
    // On a thread of its own: a request that is under way cannot be interrupted, the process can.
    worker::spawn("scheduled", move || {
        let work = || carry_out(&site, &wish, &trigger, observer, told);
        let _ = sender.send(worker::guarded(std::panic::AssertUnwindSafe(work)).flatten());
    })?;
    select! {
        recv(ended) -> result => result.context("the run could not be followed")?,
        recv(cancel.done()) -> _ => bail!("interrupted; what the scheduler has started goes on"),
    }
}

fn carry_out(
    site: &Site,
    wish: &Wish,
    trigger: &Trigger,
    observer: Arc<dyn Observer>,
    told: impl Fn(&str),
) -> Result<Option<Scheduled>> {
    let path = format!("/control/trigger/{}", percent_encode(&wish.agent));
    let body = wish.prompt.as_ref().map(|prompt| json!({"prompt": prompt}));
    let answer = ask_if_running(site, |client| {
        wish.check(trigger)?;
        let cursor = if wish.wait { end_of_log(client, &wish.agent)? } else { String::new() };
        let answer = client.post(&path, body.as_ref())?;
        match answer["message"].as_str() {
            Some(message) => Ok((cursor, printable(message).into_owned(), answer)),
            None => Err(client.malformed(&answer, "has no message").into()),
        }
    })?;
    let Some((cursor, message, answer)) = answer else { return Ok(None) };
    let instance = answer["instanceId"].as_str().map(str::to_owned);
    if !wish.wait {
        return Ok(Some(Scheduled::Triggered { message, instance }));
    }
    told(&message);
    let instance =
        instance.context("the gateway does not say which instance it started, so it cannot be waited for")?;
    let chain = Chain::new(&wish.agent, &instance, observer);
    follow(site, chain, &wish.agent, cursor).map(|finished| Some(Scheduled::Ended(finished)))
}

/// Where the log of an agent ends now; everything about a run that starts later comes after it.
fn end_of_log(client: &GatewayClient, agent: &str) -> Result<String> {
    let page = client.get(&format!("/api/logs/agents/{}?lines=1", percent_encode(agent)))?;
    let yesterday = || Day::of(UnixMs(UnixMs::now().0 - 86_400_000));
    Ok(match page["cursor"].as_str() {
        Some(cursor) => cursor.to_owned(),
        // There is no log yet. Its clock may be a little behind ours.
        None => Position::start_of(yesterday()).to_string(),
    })
}

fn follow(site: &Site, mut chain: Chain, agent: &str, mut cursor: String) -> Result<Box<Finished>> {
    let contact = Contact::to(site)?;
    let mut last_contact = Instant::now();
    loop {
        match contact.ask(site, |client| look(client, &mut chain, agent, &mut cursor)) {
            Ok(Some(Step::Done(finished))) => return Ok(finished),
            Ok(Some(Step::ReadFrom(earlier))) => {
                cursor = earlier;
                continue;
            }
            Ok(Some(Step::Wait)) => last_contact = Instant::now(),
            Err(error) if !may_pass(&error) => return Err(error),
            lost if last_contact.elapsed() >= PATIENCE => {
                let reason = match lost {
                    Err(error) => format!("{error:#}"),
                    Ok(_) => "the scheduler does not run any more".to_owned(),
                };
                let instance = chain.instance();
                bail!(
                    "{reason}\n  {instance} may still be going on; see al logs {instance} when the scheduler runs again"
                );
            }
            _ => {}
        }
        // Nobody says when there is something new.
        thread::sleep(POLL);
    }
}

/// Whether it can be that the gateway answers later.
fn may_pass(error: &anyhow::Error) -> bool {
    matches!(
        trouble(error),
        Some(Trouble::Refused | Trouble::Unreachable | Trouble::Foreign(_) | Trouble::Status(500..))
    )
}

/// Asks which runs go on, then reads the log to its end: what was not listed before has its last word in it.
fn look(client: &GatewayClient, chain: &mut Chain, agent: &str, cursor: &mut String) -> Result<Step> {
    let instances = client.poll("/control/instances")?;
    let is_listed = chain.take_instances(&instances);
    loop {
        let path = format!("/api/logs/agents/{}?lines={PAGE}&cursor={}", percent_encode(agent), percent_encode(cursor));
        let page = client.poll(&path)?;
        let Some(entries) = page["entries"].as_array() else {
            return Err(client.malformed(&page, "has no entries").into());
        };
        let entries: Vec<Object> = entries.iter().filter_map(Value::as_object).cloned().collect();
        chain.take(cursor, &entries);
        if let Some(next) = page["cursor"].as_str() {
            next.clone_into(cursor);
        }
        if page["hasMore"] != true {
            break;
        }
    }
    Ok(chain.step(is_listed, |instance| record(client, agent, instance)))
}

/// The record of an ended run, where the gateway keeps some.
fn record(client: &GatewayClient, agent: &str, instance: &str) -> Option<Record> {
    let (agent, instance) = (percent_encode(agent), percent_encode(instance));
    let answer = client.poll(&format!("/api/stats/agents/{agent}/runs/{instance}")).ok()?;
    Record::of(&answer["run"])
}
