//! Following a container: its output, its limits, its end.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::{after, at, never, select};

use super::dropped::Dropped;
use super::heard::Heard;
use super::{AgentImage, GatewayAddress, HOST_GRACE, Life};
use crate::base::clock::UnixMs;
use crate::base::crash;
use crate::base::error::one_line;
use crate::base::log::{Entry, Level};
use crate::base::process::Pipe;
use crate::base::worker;
use crate::docker::attach::{self, Batch, Extent};
use crate::docker::inspect::{self, State, Stop};
use crate::docker::launch::Lifetime;
use crate::docker::{Failure, failure};
use crate::run::observer::Report;
use crate::run::outcome::Ending;
use crate::store::containers::{self, Progress};

/// Time between SIGTERM and SIGKILL at the host's limit.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// A container that has not started by then never will.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often killing is repeated until the container has ended.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// A killed container that has not ended by then is given up.
const KILL_LIMIT: Duration = Duration::from_secs(60);
/// How late what a run said is committed for the next process.
const SAVE_AFTER: Duration = Duration::from_secs(1);

impl Life<'_> {
    /// Starts the container and follows it to its end; `None` when it was left.
    pub(super) fn run_container(
        &mut self,
        stage: &Path,
        image: &AgentImage,
        gateway: &GatewayAddress,
    ) -> Result<Option<Ending>> {
        crash::point("created");
        self.started = Instant::now();
        let limit = self.order.agent.timeout + HOST_GRACE;
        let output = attach::start(&self.host.docker, &self.info.container)?;
        crash::point("started");
        self.note_launch(stage, image, gateway, UnixMs::now().plus(limit));
        self.kill.set_launched();
        self.log(Entry::new(Level::Info, "container launched").field("container", self.info.container.as_str()));
        self.follow_to_end(Some(output), self.started + limit, false)
    }

    /// Says what was dropped, if it is to be said now.
    fn tell_dropped(&mut self, take: fn(&mut Dropped, Instant) -> Option<Entry>) {
        if let Some(entry) = take(&mut self.dropped, Instant::now()) {
            self.log(entry.of_instance(&self.info.instance));
        }
    }

    /// Follows a container that was started by an earlier process; `None` when it was left.
    pub(super) fn follow_again(&mut self, deadline: Instant) -> Result<Option<Ending>> {
        self.kill.set_launched();
        let output = self.listen_again(Extent::FollowedSince);
        self.follow_to_end(output, deadline, true)
    }

    /// What the daemon kept of the output from where it was taken last; `None` when that cannot be told.
    fn listen_again(&mut self, extent: fn(UnixMs) -> Extent) -> Option<attach::Output> {
        let heard = Heard::in_log(&self.order.agent.log, &self.info.instance).ok()?;
        let output = attach::logs(&self.host.docker, &self.info.container, extent(heard.since)).ok()?;
        self.heard = Some(heard);
        Some(output)
    }

    /// Lets the next process know where to carry on. Nobody waits for the commit: without it the container is found by
    /// its label.
    fn note_launch(&self, stage: &Path, image: &AgentImage, gateway: &GatewayAddress, deadline_at: UnixMs) {
        if self.host.lifetime == Lifetime::Once {
            return;
        }
        let instance = self.info.instance.clone();
        let (stage, url, image) = (stage.display().to_string(), gateway.url.clone(), image.id.clone());
        let started_at = UnixMs::now();
        self.host.store.submit(
            move |tx| {
                containers::set_stage(tx, &instance, &stage, Some(&url))?;
                containers::set_running(tx, &instance, started_at, deadline_at, Some(&image))
            },
            |_| {},
        );
    }

    /// As [`Life::follow_through`], and in the end nothing that was dropped is untold.
    fn follow_to_end(
        &mut self,
        output: Option<attach::Output>,
        deadline: Instant,
        recovered: bool,
    ) -> Result<Option<Ending>> {
        let ending = self.follow_through(output, deadline, recovered);
        self.tell_dropped(Dropped::take);
        ending
    }

    /// `output`: an attached client, when there is one. `recovered`: lines may have been missed.
    fn follow_through(
        &mut self,
        mut output: Option<attach::Output>,
        deadline: Instant,
        mut recovered: bool,
    ) -> Result<Option<Ending>> {
        let mut stopping = Stopping::default();
        loop {
            if let Some(output) = output.take() {
                match self.follow(&output, deadline, &mut stopping) {
                    Followed::ToItsEnd => drop(output.finish()),
                    // Dropping the output ends the client.
                    Followed::NotStarted => bail!("the container did not start within {} s", START_LIMIT.as_secs()),
                    Followed::GivenUp => {
                        let entry = Entry::new(Level::Error, "container does not end");
                        self.log(entry.field("container", self.info.container.as_str()));
                        return Ok(Some(Ending::Lost));
                    }
                    Followed::Left => return Ok(None),
                }
            }
            match self.state_at_end(deadline) {
                Ended::Left => return Ok(None),
                Ended::Unknown => return Ok(Some(Ending::Lost)),
                Ended::State(state) if state.is_running() => {
                    // The client died, not the container.
                    match self.reattach(deadline) {
                        Ok(again) => output = Some(again),
                        Err(error) => {
                            self.warn("container could not be followed again", &format!("{error:#}"));
                            return Ok(Some(Ending::Lost));
                        }
                    }
                    recovered = true;
                }
                Ended::State(state) if state.started_at.is_none() => {
                    let failure = state.start_failure();
                    let reason =
                        if state.error.is_empty() { "the container did not start".to_owned() } else { state.error };
                    return Err(StartFailed { failure, reason }.into());
                }
                Ended::State(state) => {
                    if recovered {
                        self.read_missed_lines();
                    }
                    self.ended_at = state.finished_at;
                    return Ok(Some(Ending::Exited { code: state.exit_code, oom_killed: state.oom_killed }));
                }
            }
        }
    }

    /// Takes lines until the client closes its pipes; stops the container when it is time or wished.
    fn follow(&mut self, output: &attach::Output, deadline: Instant, stopping: &mut Stopping) -> Followed {
        let mut start_check = Some(self.started + START_LIMIT);
        let mut save_at = None;
        let nobody = never();
        loop {
            let wish = if stopping.wish_done { &nobody } else { self.kill.token().done() };
            let untold = self.dropped.due(Instant::now());
            let next = [stopping.next(deadline), start_check, save_at, untold].into_iter().flatten().min();
            let timer = next.map_or_else(never, at);
            select! {
                recv(output.batches()) -> batch => match batch {
                    Ok(batch) => {
                        start_check = None;
                        self.take(batch);
                        if self.host.lifetime == Lifetime::Scheduled && self.has_news() {
                            save_at.get_or_insert_with(|| Instant::now() + SAVE_AFTER);
                        }
                    }
                    Err(_) => return Followed::ToItsEnd,
                },
                recv(wish) -> _ => {
                    stopping.wish_done = true;
                    self.log(Entry::new(Level::Info, "Container agent runner abort requested"));
                    let killed = inspect::kill(&self.host.docker, &self.info.container, Stop::Kill);
                    self.kill.answer(killed.map_err(|error| error.to_string()));
                    stopping.give_up_at = Some(Instant::now() + KILL_LIMIT);
                    stopping.kill_at = Some(Instant::now() + KILL_AGAIN);
                }
                recv(self.kill.left().done()) -> _ => {
                    self.save_progress();
                    return Followed::Left;
                }
                recv(timer) -> _ => {
                    let now = Instant::now();
                    self.tell_dropped(Dropped::take_due);
                    if save_at.is_some_and(|save| now >= save) {
                        save_at = None;
                        self.save_progress();
                    }
                    if start_check.is_some_and(|check| now >= check) {
                        start_check = None;
                        if !self.has_started() {
                            return Followed::NotStarted;
                        }
                    }
                    if stopping.give_up_at.is_some_and(|limit| now >= limit) {
                        return Followed::GivenUp;
                    }
                    self.advance(stopping, deadline, now);
                }
            }
        }
    }

    /// The next step of ending a container that is over its time.
    fn advance(&mut self, stopping: &mut Stopping, deadline: Instant, now: Instant) {
        if stopping.kill_at.is_some_and(|limit| now >= limit) {
            // Again and again: a container that is just being started does not count as running yet.
            stopping.kill_at = Some(now + KILL_AGAIN);
            stopping.give_up_at.get_or_insert(now + KILL_LIMIT);
            self.send(Stop::Kill);
        } else if !stopping.term_sent && stopping.give_up_at.is_none() && now >= deadline {
            stopping.term_sent = true;
            stopping.kill_at = Some(now + TERM_GRACE);
            self.host_limit = Some(self.order.agent.timeout);
            self.send(Stop::Terminate);
        }
    }

    fn send(&self, stop: Stop) {
        if let Err(error) = inspect::kill(&self.host.docker, &self.info.container, stop) {
            self.warn("container could not be stopped", &error.to_string());
        }
    }

    fn has_started(&self) -> bool {
        !matches!(inspect::state(&self.host.docker, &self.info.container), Ok(Some(state)) if state.started_at.is_none())
    }

    /// Asks for the state already although the client is still attached: the daemon answers when it has dealt with the
    /// end of the container, so this client starts beside that and not after it.
    fn ask_early(&mut self) {
        let (docker, container) = (self.host.docker.clone(), self.info.container.clone());
        self.asked_early = worker::spawn("state", move || inspect::state(&docker, &container)).ok();
    }

    /// The answer to [`Life::ask_early`], unless it came too early.
    fn early_state(&mut self) -> Option<State> {
        let asked = self.asked_early.take()?;
        worker::join(asked).flatten().ok().flatten().filter(State::has_ended)
    }

    /// State after the client ended; asked again while the daemon does not answer, until the deadline.
    fn state_at_end(&mut self, deadline: Instant) -> Ended {
        if let Some(state) = self.early_state() {
            return Ended::State(state);
        }
        let mut attempt = 0;
        loop {
            match inspect::state(&self.host.docker, &self.info.container) {
                Ok(Some(state)) => return Ended::State(state),
                Ok(None) => return Ended::Unknown,
                // A wish to end is not kept waiting for a daemon; what is left of this run is found later.
                Err(error)
                    if failure(&error) == Failure::DaemonDown
                        && self.kill.reason().is_none()
                        && Instant::now() < deadline =>
                {
                    if let Some(daemon) = &self.host.daemon {
                        daemon.report(&one_line(&error));
                    }
                    if self.kill.left().is_cancelled() {
                        return Ended::Left;
                    }
                    self.pause(attempt);
                    attempt += 1;
                }
                Err(error) => {
                    self.warn("container status unreadable", &format!("{error:#}"));
                    return Ended::Unknown;
                }
            }
        }
    }

    /// Follows a container whose client died. A log that ended before its container is of no use: then lines may be lost
    /// that are written before the new client is there.
    fn reattach(&mut self, deadline: Instant) -> Result<attach::Output> {
        let mut attempt = 0;
        while self.kill.reason().is_none() && Instant::now() < deadline && !self.host.docker.daemon_answers() {
            self.pause(attempt);
            attempt += 1;
        }
        let by_log = if self.heard.take().is_none() { self.listen_again(Extent::FollowedSince) } else { None };
        by_log.map_or_else(|| attach::reattach(&self.host.docker, &self.info.container), Ok)
    }

    /// Waits before asking the daemon again; a wish shortens it.
    fn pause(&self, attempt: u32) {
        let timer = after(inspect::pause_before_retry(attempt));
        select! {
            recv(timer) -> _ => {}
            recv(self.kill.token().done()) -> _ => {}
            recv(self.kill.left().done()) -> _ => {}
        }
    }

    /// Lines that were written while no client was there: what came after the last one that was taken, and protocol
    /// lines of any time.
    fn read_missed_lines(&mut self) {
        if let Some(output) = self.listen_again(Extent::Since) {
            output.batches().iter().for_each(|batch| self.log_lines(batch));
            output.finish();
        }
        let Ok(output) = attach::logs(&self.host.docker, &self.info.container, Extent::Everything) else { return };
        for batch in output.batches() {
            for line in batch.lines.iter().filter(|line| line.pipe == Pipe::Stdout && !line.is_cut) {
                if let Some(entry) = self.translator.again(&line.text) {
                    self.log(entry);
                }
            }
        }
        output.finish();
    }

    fn take(&mut self, batch: Batch) {
        let was_done = self.translator.learned.is_done;
        self.log_lines(batch);
        if self.translator.learned.is_done && !was_done {
            self.ask_early();
        }
    }

    fn log_lines(&mut self, batch: Batch) {
        self.dropped.add(batch.dropped);
        self.tell_dropped(Dropped::take_due);
        for line in batch.lines {
            let is_behind = self.heard.as_ref().is_some_and(|heard| heard.is_behind(line.pipe));
            let entry = match line.pipe {
                Pipe::Stderr => self.translator.stderr(&line.text),
                Pipe::Stdout if line.is_cut => self.translator.plain(&line.text),
                Pipe::Stdout if is_behind && self.translator.has_seen(&line.text) => continue,
                Pipe::Stdout => self.translator.stdout(&line.text),
            };
            let mut has = |entry: &Entry| self.heard.as_mut().is_some_and(|heard| heard.has(line.pipe, entry));
            if let Some(entry) = entry.filter(|entry| !is_behind || !has(entry)) {
                self.log(entry);
            }
            if let Some(text) = self.translator.learned.last_tool_error.take() {
                self.host.observer.report(&Report::ToolError { run: self.info, text: &text });
            }
        }
    }

    /// Whether the run said something that the next process would have to know.
    fn has_news(&self) -> bool {
        let (now, saved) = (&self.translator.learned, &self.saved);
        now.last_seq != saved.last_seq || now.return_value != saved.return_value || now.usage != saved.usage
    }

    fn save_progress(&mut self) {
        if !self.has_news() {
            return;
        }
        self.saved = self.translator.learned.clone();
        let instance = self.info.instance.clone();
        let progress = Progress {
            last_seq: Some(self.saved.last_seq),
            return_value: self.saved.return_value.clone(),
            usage: self.saved.usage,
        };
        self.host.store.submit(move |tx| containers::save_progress(tx, &instance, &progress), |_| {});
    }
}

/// The daemon could not start the container.
#[derive(Debug)]
pub(super) struct StartFailed {
    pub(super) failure: Failure,
    reason: String,
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker start failed: {}", self.reason)
    }
}

impl std::error::Error for StartFailed {}

/// How far ending a container has come.
#[derive(Default)]
struct Stopping {
    wish_done: bool,
    term_sent: bool,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
}

impl Stopping {
    /// When to look again.
    fn next(&self, deadline: Instant) -> Option<Instant> {
        let deadline = (!self.term_sent && self.give_up_at.is_none()).then_some(deadline);
        [deadline, self.kill_at, self.give_up_at].into_iter().flatten().min()
    }
}

/// Why following a container's output ended.
enum Followed {
    /// The client closed its pipes.
    ToItsEnd,
    NotStarted,
    /// It goes on although it was killed.
    GivenUp,
    /// This process ends.
    Left,
}

/// What is known of a container that nobody is attached to.
enum Ended {
    State(State),
    /// It is gone, or cannot be asked for.
    Unknown,
    /// This process ends.
    Left,
}
