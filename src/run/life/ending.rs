//! The end of a run: what it ended with, its record, and what is left of it.

use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{after, select};
use shims::wire::exit;

use super::{End, Life};
use crate::base::clock::{UnixMs, seconds};
use crate::base::crash;
use crate::base::error::one_line;
use crate::base::log::{Entry, Level};
use crate::base::text::cut;
use crate::base::worker;
use crate::docker::inspect;
use crate::docker::launch::Lifetime;
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::run::observer::Report;
use crate::run::outcome::{Ending, Observed, Verdict, judge};
use crate::run::staging::Staging;
use crate::store::containers;
use crate::store::runs::{self, Ended};

impl Life<'_> {
    /// Records how the run ended and removes what is left of it; nothing of it when it was left to another process.
    pub(super) fn conclude(
        mut self,
        ending: Result<Option<Ending>>,
        staging: Option<Staging>,
        started_at: UnixMs,
    ) -> End {
        let ending = match ending {
            Ok(Some(ending)) => ending,
            Ok(None) => {
                staging.into_iter().for_each(Staging::keep);
                return End::Left;
            }
            Err(error) => {
                if self.kill.reason().is_none() {
                    let err = serde_json::json!({"type": "Error", "message": format!("{error:#}")});
                    let msg = format!("{} container run failed", self.order.agent.name);
                    self.log(Entry::new(Level::Error, msg).field("err", err));
                }
                Ending::NotStarted(one_line(&error))
            }
        };
        let outcome = self.outcome(ending, started_at);
        self.log_end(&outcome);
        crash::point("ended");
        if !self.record(&outcome) {
            staging.into_iter().for_each(Staging::keep);
            return End::Left;
        }
        crash::point("recorded");
        // Only now: removing the files earlier would take them away inside.
        drop(staging);
        self.remove_container();
        self.host.secrets.forget(&self.info.instance);
        // Whoever wished it dead while it ended by itself got what they wanted.
        self.kill.answer(Ok(()));
        self.host.observer.report(&Report::Ended { run: self.info, outcome: &outcome });
        End::Ended(Box::new(outcome))
    }

    fn outcome(&self, ending: Ending, started_at: UnixMs) -> Outcome {
        let learned = &self.translator.learned;
        let reason = self.kill.reason();
        let exit_code = match ending {
            Ending::Exited { code, .. } => Some(code),
            _ => None,
        };
        let ending = if reason.is_some() && exit_code.is_none() { Ending::Lost } else { ending };
        let Verdict { class, result, error } = judge(&Observed {
            ending,
            kill_reason: reason.as_deref(),
            host_limit: self.host_limit,
            container_name: &self.info.container,
            exit_signal: learned.exit_signal.is_some(),
            is_collected: self.is_collected,
        });
        let posted = || self.host.store.read(|db| containers::return_value(db, &self.info.instance)).ok().flatten();
        Outcome {
            class,
            result,
            exit_code,
            exit_reason: learned.exit_signal.as_ref().map(|(_, reason)| reason.clone()),
            error,
            return_value: learned.return_value.clone().or_else(posted),
            usage: learned.usage,
            model_failure: learned.model_failure.clone(),
            started_at,
            // What is collected ended before this process was there to see it.
            finished_at: self.ended_at.filter(|_| self.is_collected).unwrap_or_else(UnixMs::now),
        }
    }

    /// The last entry about the container is always one of ours, whatever it printed itself: whoever reads the log goes
    /// by it.
    fn log_end(&self, outcome: &Outcome) {
        let Some(code) = outcome.exit_code else {
            // What failed before there was a container is in the log already.
            if let (Class::Killed, Some(reason)) = (outcome.class, self.kill.reason()) {
                let msg = format!("{} container run killed before its end was seen", self.info.agent);
                self.log(Entry::new(Level::Info, msg).field("reason", reason));
            } else if outcome.class != Class::LaunchFailure {
                let err = serde_json::json!({"type": "Error", "message": outcome.error});
                let msg = format!("{} container run failed", self.info.agent);
                self.log(Entry::new(Level::Error, msg).field("err", err));
            }
            return;
        };
        let elapsed = match self.is_collected {
            true => outcome.finished_at.since(outcome.started_at),
            false => self.started.elapsed(),
        };
        let (level, msg) = match (outcome.class, outcome.result) {
            (Class::Killed, _) => (Level::Info, "container killed (abort requested)"),
            (_, RunResult::Completed) => (Level::Info, "container finished"),
            (_, RunResult::Rerun) => (Level::Info, "container finished (rerun requested)"),
            _ => (Level::Error, "container exited with error"),
        };
        let mut entry = Entry::new(level, msg).field("exitCode", code).field("elapsed", seconds(elapsed));
        let reason = match outcome.class {
            Class::Killed => self.kill.reason(),
            _ if (10..=16).contains(&code) => Some(exit::reason(code)),
            _ => None,
        };
        if let Some(reason) = reason {
            entry = entry.field("reason", cut(&reason, 200));
        }
        if outcome.class == Class::Oom {
            entry = entry.field("oomKilled", true);
        }
        self.log(entry);
    }

    /// Ends the run in the store: record, item, call, locks, registration. A scheduler tries until it is committed; the
    /// slot and the container stay so long, so that a crash loses nothing. False when the process ends before.
    fn record(&self, outcome: &Outcome) -> bool {
        let mut attempt = 0;
        loop {
            match self.finish(outcome) {
                Ok(ended) => {
                    if let Some(ended) = ended {
                        self.log_record(&ended);
                        self.host.observer.report(&Report::Recorded { run: self.info, ended: &ended, outcome });
                    }
                    return true;
                }
                Err(error) if attempt == 0 => {
                    self.warn("the run's record could not be written", &format!("{error:#}"));
                }
                Err(_) => {}
            }
            if self.host.lifetime == Lifetime::Once {
                return true;
            }
            let timer: Duration = inspect::pause_before_retry(attempt);
            select! {
                recv(after(timer)) -> _ => attempt += 1,
                recv(self.kill.left().done()) -> _ => return false,
            }
        }
    }

    fn finish(&self, outcome: &Outcome) -> Result<Option<Ended>> {
        let (instance, outcome, policy) = (self.info.instance.clone(), outcome.clone(), self.host.retries);
        let now = UnixMs::now();
        self.host.store.write(move |tx| runs::finish_run(tx, &instance, &outcome, &policy, now))
    }

    fn log_record(&self, ended: &Ended) {
        if ended.locks_released > 0 {
            self.log(Entry::new(Level::Info, "locks released").field("count", ended.locks_released));
        }
    }

    fn remove_container(&mut self) {
        // When its end was not seen, nobody has waited for the answer.
        drop(self.asked_early.take().map(worker::join));
        if !self.may_have_container {
            return;
        }
        match inspect::remove(&self.host.docker, &self.info.container) {
            Ok(()) => {
                if let Some(Err(error)) = self.marker.take().map(super::Marker::take_away) {
                    self.warn("marker could not be removed", &format!("{error:#}"));
                }
            }
            // The marker stays, so the next run of the project tries again; a scheduler does so itself.
            Err(error) => {
                self.warn("container could not be removed", &error.to_string());
                self.host.observer.report(&Report::Leftover { container: &self.info.container });
            }
        }
    }
}
