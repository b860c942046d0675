//! Stopping: nothing new starts, listeners close, containers go on for the next process, or are killed when asked for
//! (scheduler.md §2.4).

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use signal_hook::consts::SIGHUP;

use super::{Phase, Scheduler, Stopped};
use crate::base::clock::UnixMs;
use crate::base::log::Level;
use crate::scheduler::core::Input;
use crate::scheduler::handle::StopWish;
use crate::store::flags;
use crate::store::items::{self, Cleared};

/// Reason of a kill that came with the stop.
pub(super) const STOPPED: &str = "scheduler stopped";
/// Reason of a kill by a second signal.
const INTERRUPTED: &str = "interrupted by user";
/// So that the answer to the wish arrives.
const STOP_DELAY: Duration = Duration::from_millis(100);
/// How long a person has to give a second signal.
const SECOND_SIGNAL_TIME: Duration = Duration::from_secs(3);
/// How long launches under way may take.
const LAUNCH_TIME: Duration = Duration::from_secs(30);
/// How often it is looked whether launches and kills are done.
const POLL: Duration = Duration::from_millis(50);
/// How long killed runs may take.
const KILL_TIME: Duration = Duration::from_secs(12);

/// How far stopping has come.
#[derive(Default)]
pub(super) struct Stopping {
    /// Asked for over the API.
    asked: Option<Asked>,
    begun: Option<Begun>,
}

struct Asked {
    at: Instant,
    wish: StopWish,
}

struct Begun {
    wish: StopWish,
    gateway_closed: bool,
    queue_cleared: bool,
    /// Not over before.
    linger_until: Instant,
    /// Launches under way are not waited for beyond this.
    launch_until: Instant,
    /// Runs that were being killed before are not waited for beyond this.
    dying_until: Instant,
    /// Not waited for runs that the stop kills beyond this.
    kill_until: Option<Instant>,
    second_signal: Option<i32>,
}

impl Stopping {
    pub(super) fn gateway_closed(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.gateway_closed = true;
        }
    }

    /// When there is something to do by time alone: nothing as long as the listeners are not closed, which is told.
    pub(super) fn next(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|asked| asked.at);
        let begun = self.begun.as_ref().filter(|begun| begun.gateway_closed);
        let begun = begun.map(|begun| begun.kill_until.unwrap_or(begun.linger_until));
        [asked, begun].into_iter().flatten().min()
    }

    /// Why everything is being killed, if it is.
    pub(super) fn doom(&self) -> Option<&'static str> {
        let begun = self.begun.as_ref()?;
        match begun.second_signal {
            Some(_) => Some(INTERRUPTED),
            None => begun.wish.kill.then_some(STOPPED),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }
}

impl Scheduler {
    pub(super) fn stop_soon(&mut self, wish: StopWish) {
        self.stopping.asked.get_or_insert(Asked { at: Instant::now() + STOP_DELAY, wish });
    }

    pub(super) fn signalled(&mut self, signal: i32) {
        match &mut self.stopping.begun {
            None => self.begin_stop(StopWish::default()),
            // A terminal that is closed hangs up more than once; nobody wishes anything dead by that.
            Some(_) if signal == SIGHUP => {}
            Some(begun) => {
                begun.second_signal.get_or_insert(signal);
                begun.kill_until.get_or_insert(Instant::now() + KILL_TIME);
                let instances = self.runs.instances(None);
                self.doom(instances, INTERRUPTED, None);
            }
        }
    }

    fn begin_stop(&mut self, wish: StopWish) {
        self.stopping.asked = None;
        if self.stopping.begun.is_some() {
            return;
        }
        self.reloads.stop();
        self.feed(Input::Stop { kill: false });
        let instances = self.runs.instances(None);
        let left = if wish.kill { 0 } else { instances.len() - self.runs.dying() };
        let now = Instant::now();
        if wish.kill && !instances.is_empty() {
            self.doom(instances, STOPPED, None);
        }
        let is_watched = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let linger = if left > 0 && is_watched { SECOND_SIGNAL_TIME } else { Duration::ZERO };
        self.stopping.begun = Some(Begun {
            wish,
            gateway_closed: false,
            queue_cleared: false,
            linger_until: now + linger,
            launch_until: now + LAUNCH_TIME,
            dying_until: now + KILL_TIME,
            kill_until: wish.kill.then(|| now + KILL_TIME),
            second_signal: None,
        });
        self.say(Level::Info, "scheduler stopping", &[("runs", Value::from(left))]);
        if self.phases.send(Phase::Closing { left }).is_err() {
            self.stopping.gateway_closed();
        }
    }

    pub(super) fn go_on_stopping(&mut self, now: Instant) {
        if let Some(asked) = self.stopping.asked.take_if(|asked| asked.at <= now) {
            self.begin_stop(asked.wish);
        }
    }

    /// Whether the end has come, and which.
    pub(super) fn is_over(&mut self) -> Result<Option<Stopped>> {
        let Some(begun) = &mut self.stopping.begun else { return Ok(None) };
        if !begun.gateway_closed {
            return Ok(None);
        }
        if begun.wish.clear_queue && !begun.queue_cleared {
            begun.queue_cleared = true;
            // What was accepted until the listeners closed is meant, too. Nothing else is going on: waiting is fine.
            self.clear_queue();
        }
        let Some(begun) = &mut self.stopping.begun else { return Ok(None) };
        let now = Instant::now();
        let killing = begun.wish.kill || begun.second_signal.is_some();
        // What is being committed as a run becomes one, which is launched, or killed.
        let is_starting = self.core.is_claiming() || self.registering > 0;
        let all_gone = !is_starting && self.runs.instances(None).is_empty();
        let over = if killing {
            all_gone || begun.kill_until.is_none_or(|until| now >= until)
        } else {
            let is_launching = now < begun.launch_until && (is_starting || !self.runs.are_launched());
            // What was killed is cleaned up now: there is nothing that the next process could go on with.
            let is_dying = now < begun.dying_until && self.runs.dying() > 0;
            // Until then a second signal still counts.
            if is_launching || is_dying {
                begun.linger_until = begun.linger_until.max(now + POLL);
            }
            all_gone || now >= begun.linger_until
        };
        if !over {
            return Ok(None);
        }
        let stopped = begun.second_signal.map_or(Stopped::Cleanly, |signal| Stopped::ByForce { signal });
        self.leave();
        Ok(Some(stopped))
    }

    fn clear_queue(&mut self) {
        let cleared = self.host.store.write(|tx| items::clear(tx, None, Cleared::ByStop, UnixMs::now()));
        match cleared {
            Ok(items) => self.note_buried(&items),
            Err(error) => {
                self.say(Level::Error, "queue could not be cleared", &[("err", format!("{error:#}").into())]);
            }
        }
    }

    /// Leaves the rest to the next process.
    pub(super) fn leave(&mut self) {
        // Whoever still wants to tell us something must not wait for us while we wait for them.
        let (_, messages) = crossbeam_channel::bounded(0);
        let (_, reports) = crossbeam_channel::bounded(0);
        let (_, events) = crossbeam_channel::bounded(0);
        self.inlet = crate::scheduler::outlet::Inlet { messages, reports };
        self.events = events;
        self.builds.end();
        self.images.end_check();
        self.runs.leave();
        let cleared = self.host.store.write(|tx| flags::clear(tx, flags::UNCLEAN));
        if let Err(error) = cleared {
            self.say(Level::Warn, "clean end could not be noted", &[("err", format!("{error:#}").into())]);
        }
        self.say(Level::Info, "scheduler stopped", &[]);
    }
}
