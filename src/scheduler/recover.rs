//! After a crash or a stop: what the store knows of runs is compared with the containers that Docker has
//! (scheduler.md §8.2).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use shims::wire::run_file::TriggerKind;

use super::core::Reruns;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::base::{Secret, ids};
use crate::docker::Docker;
use crate::docker::inspect::{self, Listed, Removal};
use crate::model::event::Trigger;
use crate::model::names::{InstanceId, ProjectHash};
use crate::model::outcome::Outcome;
use crate::run::life::{Agent, HOST_GRACE, Inherited, Order};
use crate::run::outcome::{Ending, Observed, judge};
use crate::run::staging::{self, Roots};
use crate::store::containers::{self, Identity, LiveRow, LiveState};
use crate::store::runs::{self, ItemEnd, RetryPolicy};
use crate::store::{Store, calls, items, locks};

/// A run that this process goes on with.
pub struct Adoption {
    /// Name of its agent.
    pub agent: String,
    row: LiveRow,
    /// Its container has ended already.
    is_collected: bool,
    /// Why it is to be killed, when that was committed before the last process ended.
    kill_reason: Option<String>,
    stage: Option<PathBuf>,
    trigger: Trigger,
}

/// What the comparison gave.
#[derive(Default)]
pub struct Recovered {
    pub adoptions: Vec<Adoption>,
    pub counts: Counts,
}

/// For the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub adopted: usize,
    pub collected: usize,
    pub requeued: usize,
    pub dead: usize,
    pub killed: usize,
}

/// What a recovery works with.
pub struct Recovery<'a> {
    pub docker: &'a Docker,
    pub store: &'a Arc<Store>,
    pub project: &'a ProjectHash,
    pub roots: &'a Roots,
    pub policy: RetryPolicy,
    pub log: &'a Log,
    /// Names of all agents.
    pub agents: &'a [String],
    /// Limit of a run of an agent; `None`: there is no such agent, or it has no slots.
    pub timeout_of: &'a dyn Fn(&str) -> Option<Duration>,
}

/// What is to be done with a run.
enum Fate {
    Adopt,
    Collect,
    /// It never ran.
    NotStarted,
    Lost,
}

impl Recovery<'_> {
    /// Compares, ends what is over, and gives what goes on. `containers`: all that Docker has, of every project.
    ///
    /// # Errors
    /// When Docker or the store fails.
    pub fn run(&self, containers: Vec<Listed>) -> Result<Recovered> {
        let rows = self.store.read(containers::all)?;
        // Those of known runs also when the project was started under another path.
        let project = self.project.to_string();
        let is_known = |found: &Listed| rows.iter().any(|row| row.container_name == found.name);
        self.warn_of_legacy(&containers);
        let listed: Vec<Listed> =
            containers.into_iter().filter(|found| found.project == project || is_known(found)).collect();
        let mut recovered = Recovered::default();
        for row in rows {
            let found = listed.iter().find(|found| found.name == row.container_name);
            self.one(row, found, &mut recovered)?;
        }
        self.remove_strays(&listed, &recovered.adoptions, &mut recovered.counts);
        self.tidy(&recovered.adoptions)?;
        self.summarise(recovered.counts);
        Ok(recovered)
    }

    /// Containers of earlier versions are never touched.
    fn warn_of_legacy(&self, containers: &[Listed]) {
        let is_legacy = |found: &&Listed| self.agents.iter().any(|agent| found.is_legacy_of(agent));
        let names: Vec<&str> = containers.iter().filter(is_legacy).map(|found| found.name.as_str()).collect();
        if !names.is_empty() {
            let entry = Entry::new(Level::Warn, "containers of an earlier version are left alone");
            self.log.write(&entry.field("containers", names.join(", ")));
        }
    }

    fn one(&self, row: LiveRow, found: Option<&Listed>, recovered: &mut Recovered) -> Result<()> {
        let fate = match (found, row.state) {
            (Some(found), _) if found.is_running() => Fate::Adopt,
            (Some(found), _) if found.status == "created" => {
                match inspect::remove_unless_running(self.docker, &found.name)? {
                    Removal::Removed => Fate::NotStarted,
                    // A start of the killed process was under way.
                    Removal::Runs => Fate::Adopt,
                }
            }
            (Some(_), _) => Fate::Collect,
            (None, LiveState::Starting) => Fate::NotStarted,
            (None, LiveState::Running) => Fate::Lost,
        };
        let counts = &mut recovered.counts;
        match fate {
            Fate::Adopt | Fate::Collect if (self.timeout_of)(&row.agent).is_none() => {
                self.end_homeless(&row, counts)?
            }
            Fate::Adopt | Fate::Collect => {
                let is_collected = matches!(fate, Fate::Collect);
                match is_collected {
                    true => counts.collected += 1,
                    false if row.kill_reason.is_some() => counts.killed += 1,
                    false => counts.adopted += 1,
                }
                let (stage, trigger) = (self.stage_of(&row), self.trigger_of(&row)?);
                let (agent, kill_reason) = (row.agent.clone(), row.kill_reason.clone());
                recovered.adoptions.push(Adoption { agent, row, is_collected, kill_reason, stage, trigger });
            }
            Fate::NotStarted => {
                let cause = "the scheduler ended before the container was started".to_owned();
                self.end(&row, &Ending::NotStarted(cause), row.kill_reason.as_deref(), counts)?;
            }
            Fate::Lost => self.end(&row, &Ending::Lost, row.kill_reason.as_deref(), counts)?,
        }
        Ok(())
    }

    /// Ends a run whose agent is not there any more, or has no slots.
    fn end_homeless(&self, row: &LiveRow, counts: &mut Counts) -> Result<()> {
        const GONE: &str = "agent removed";
        let was_running = inspect::state(self.docker, &row.container_name)?.is_some_and(|state| state.is_running());
        let mut reason = row.kill_reason.clone();
        if was_running {
            counts.killed += 1;
            let instance = row.instance.clone();
            self.store.write(move |tx| containers::set_kill_reason(tx, &instance, GONE))?;
            reason.get_or_insert_with(|| GONE.to_owned());
            inspect::kill(self.docker, &row.container_name, inspect::Stop::Kill)?;
        } else {
            counts.collected += 1;
        }
        let ending = match inspect::state(self.docker, &row.container_name)? {
            Some(state) if state.has_ended() => Ending::Exited { code: state.exit_code, oom_killed: state.oom_killed },
            _ => Ending::Lost,
        };
        self.end(row, &ending, reason.as_deref(), counts)?;
        if let Err(error) = inspect::remove(self.docker, &row.container_name) {
            let entry = Entry::new(Level::Warn, "container could not be removed");
            self.log.write(&entry.field("container", row.container_name.as_str()).field("err", error.to_string()));
        }
        Ok(())
    }

    /// Records the end of a run that nobody goes on with.
    fn end(&self, row: &LiveRow, ending: &Ending, kill_reason: Option<&str>, counts: &mut Counts) -> Result<()> {
        let now = UnixMs::now();
        let verdict = judge(&Observed {
            ending: if kill_reason.is_some() && matches!(ending, Ending::NotStarted(_)) {
                Ending::Lost
            } else {
                ending.clone()
            },
            kill_reason,
            host_limit: None,
            container_name: &row.container_name,
            exit_signal: false,
            is_collected: true,
        });
        let class = verdict.class;
        let outcome = Outcome {
            class,
            result: verdict.result,
            exit_code: if let Ending::Exited { code, .. } = ending { Some(*code) } else { None },
            exit_reason: None,
            error: verdict.error,
            return_value: row.return_value.clone(),
            usage: row.usage,
            model_failure: None,
            started_at: row.started_at.unwrap_or(row.created_at),
            finished_at: now,
        };
        let (instance, policy) = (row.instance.clone(), self.policy);
        let ended = self.store.write(move |tx| runs::finish_run(tx, &instance, &outcome, &policy, now))?;
        match ended.and_then(|ended| ended.item) {
            Some((_, ItemEnd::Queued { .. })) => counts.requeued += 1,
            Some((_, ItemEnd::Dead)) => counts.dead += 1,
            _ => {}
        }
        self.log.write(
            &Entry::new(Level::Warn, "run of an earlier process has ended")
                .field("agent", row.agent.as_str())
                .field("instance", row.instance.as_str())
                .field("class", class.as_str()),
        );
        Ok(())
    }

    /// Kills and removes containers of this project that no run goes on in. Failures are logged: they are tried again.
    fn remove_strays(&self, listed: &[Listed], adoptions: &[Adoption], counts: &mut Counts) {
        let mine = |found: &&Listed| found.project == self.project.to_string() && !found.once;
        let known = |found: &&Listed| adoptions.iter().any(|adoption| adoption.row.container_name == found.name);
        for stray in listed.iter().filter(mine).filter(|found| !known(found)) {
            counts.killed += usize::from(stray.is_running());
            remove_stray(self.docker, stray, self.log);
        }
    }

    /// Locks and staging directories of runs that are over, calls that nobody works on.
    fn tidy(&self, adoptions: &[Adoption]) -> Result<()> {
        let now = UnixMs::now();
        self.store.write(move |tx| {
            locks::sweep(tx, now)?;
            calls::fail_orphans(tx, now)
        })?;
        let kept: BTreeSet<PathBuf> = adoptions.iter().filter_map(|adoption| adoption.stage.clone()).collect();
        for dir in self.stages().filter(|dir| !kept.contains(dir)) {
            if let Err(error) = staging::remove(&dir) {
                let entry = Entry::new(Level::Warn, "staging directory could not be removed");
                self.log.write(&entry.field("dir", dir.display().to_string()).field("err", format!("{error:#}")));
            }
        }
        Ok(())
    }

    /// Private directories of this project. Whoever recovers holds the project's lock: no one-shot run has one.
    fn stages(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let prefix = format!("{}.", self.project);
        let entries = self.roots.existing().flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten());
        entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|entry| entry.path())
    }

    fn stage_of(&self, row: &LiveRow) -> Option<PathBuf> {
        let recorded = row.stage_dir.as_deref().map(Path::new).filter(|dir| dir.is_dir()).map(Path::to_owned);
        let name = staging::dir_name(self.project, &row.instance);
        recorded.or_else(|| self.roots.existing().map(|root| root.join(&name)).find(|dir| dir.is_dir()))
    }

    fn trigger_of(&self, row: &LiveRow) -> Result<Trigger> {
        let item = match row.work_id {
            Some(id) => self.store.read(|db| items::show(db, id))?,
            None => None,
        };
        let context = item.map(|(_, context)| context).unwrap_or_default();
        let text = |name: &str| context.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        Ok(match row.origin.trigger {
            TriggerKind::Schedule => Trigger::Schedule,
            TriggerKind::Manual => Trigger::Manual { prompt: text("prompt").or_else(|| self.staged_task(row)) },
            TriggerKind::Webhook => Trigger::Webhook { context: context.as_object().cloned().unwrap_or_default() },
            TriggerKind::Agent => Trigger::Agent {
                caller: row.origin.source.clone().unwrap_or_default(),
                context: text("context").unwrap_or_default(),
            },
        })
    }

    /// The task that a person gave a run: only its staging directory has it.
    fn staged_task(&self, row: &LiveRow) -> Option<String> {
        let text = std::fs::read_to_string(self.stage_of(row)?.join("run/prompt.txt")).ok()?;
        crate::run::prompt::task_of(&text)
    }

    fn summarise(&self, counts: Counts) {
        if counts == Counts::default() {
            return;
        }
        self.log.write(
            &Entry::new(Level::Info, "recovery complete")
                .field("adopted", counts.adopted)
                .field("collected", counts.collected)
                .field("requeued", counts.requeued)
                .field("dead", counts.dead)
                .field("killed", counts.killed),
        );
    }
}

/// Removes a container of this project that belongs to no run.
pub(super) fn remove_stray(docker: &Docker, stray: &Listed, log: &Log) {
    let entry = Entry::new(Level::Warn, "found orphan container");
    log.write(&entry.field("agent", stray.agent.as_str()).field("task", stray.name.as_str()));
    if let Err(error) = inspect::remove(docker, &stray.name) {
        let entry = Entry::new(Level::Warn, "orphan container could not be removed");
        log.write(&entry.field("task", stray.name.as_str()).field("err", error.to_string()));
    }
}

impl Adoption {
    /// What to carry on with. `agent`: as it is now.
    pub(super) fn order(self, agent: Arc<Agent>, max_reruns: u32) -> (Order, Inherited, Reruns) {
        let row = self.row;
        let reruns = match row.origin.trigger {
            // What was found to be over is not followed by another run: the initial run comes anyway.
            TriggerKind::Schedule | TriggerKind::Manual if !self.is_collected => Reruns::UpTo(max_reruns),
            _ => Reruns::Never,
        };
        let started_at = row.started_at.unwrap_or(row.created_at);
        let limit = agent.timeout + HOST_GRACE;
        let inherited = Inherited {
            started_at,
            deadline_at: row.deadline_at.unwrap_or(started_at.plus(limit)),
            last_seq: row.last_seq.unwrap_or(0),
            return_value: row.return_value,
            usage: row.usage,
            stage: self.stage,
            is_collected: self.is_collected,
        };
        let identity = Identity {
            instance: InstanceId::known(&agent.name, &row.instance),
            // The real one is known as a digest only, and in the staging directory, from where it is masked.
            secret: Secret::new(ids::uuid_v4()),
        };
        let order = Order { identity, origin: row.origin, agent, trigger: self.trigger, max_reruns, attempt: None };
        (order, inherited, reruns)
    }

    /// Instance id.
    pub fn instance(&self) -> &str {
        &self.row.instance
    }

    /// The secrets of its container, which may speak before anybody follows its output again.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>> {
        self.stage.as_deref().map_or_else(|| Ok(Vec::new()), staging::secrets_in)
    }

    /// The gateway address that its container was given.
    pub fn gateway_url(&self) -> Option<&str> {
        self.row.gateway_url.as_deref()
    }

    /// Why it is to be killed at once, if it is.
    pub(super) fn kill_reason(&self) -> Option<String> {
        self.kill_reason.clone()
    }
}
