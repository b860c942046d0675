//! What the terminal UI costs with many agents, when a lot happens and when nothing does.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::idle::{agents, pretend_to_build};
use crate::daemon::{Daemon, Project};
use crate::figure::{Limit, ms, percent, print};

const AGENTS: usize = 200;
const EVENTS_PER_SECOND: u32 = 100;
const LOAD: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(30);
/// What the start or the load has begun is over then, and threads that wait for more have ended.
const SETTLE: Duration = Duration::from_secs(10);
/// Each event is a commit that the next one of its sender waits for.
const SENDERS: u32 = 4;

/// Time on a processor.
struct Cost {
    /// In percent of a core: of what shows the state, and of the whole process.
    view: f64,
    all: f64,
}

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    agents(&project, AGENTS)?;
    pretend_to_build(&project)?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let lines = under_load(&daemon)?;
    daemon.stop()?;

    let mut daemon = project.start_on_terminal()?;
    daemon.ready()?;
    let frames = under_load(&daemon)?;
    let reference = format!(
        "as lines {}; all of the process {:.1} %, as lines {:.1} %",
        percent(lines.view),
        frames.all,
        lines.all
    );
    let what = format!("terminal UI, {AGENTS} agents, {EVENTS_PER_SECOND} events/s");
    print(&what, &percent(frames.view), &reference, &Limit::percent(frames.view, 2.0));

    thread::sleep(SETTLE);
    let before = (daemon.cpu_of_view()?, daemon.cpu()?);
    thread::sleep(IDLE);
    let view = daemon.cpu_of_view()? - before.0;
    // What ended meanwhile is no longer counted.
    let all = daemon.cpu()?.saturating_sub(before.1);
    let reference = format!("all of the process {}", ms(all));
    print(
        "terminal UI, nothing happens for 30 s",
        &ms(view),
        &reference,
        &Limit::time(view, Duration::from_millis(30)),
    );
    daemon.stop()
}

/// Has agents paused and resumed, each of which changes a row and adds a line of recent activity.
fn under_load(daemon: &Daemon) -> Result<Cost> {
    thread::sleep(SETTLE);
    let before = (daemon.cpu_of_view()?, daemon.cpu()?);
    let start = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(move || send(daemon, sender, start))).collect();
        senders.into_iter().try_for_each(|sender| sender.join().expect("nothing in it panics"))
    })?;
    let took = start.elapsed();
    let share = |cpu: Duration| cpu.as_secs_f64() / took.as_secs_f64() * 100.0;
    let cost =
        Cost { view: share(daemon.cpu_of_view()? - before.0), all: share(daemon.cpu()?.saturating_sub(before.1)) };
    ensure!(took < LOAD.mul_f64(1.1), "so many events took {took:?} instead of {LOAD:?}");
    Ok(cost)
}

/// Sends one sender's share of the events, evenly.
fn send(daemon: &Daemon, sender: u32, start: Instant) -> Result<()> {
    let pause = Duration::from_secs(1) * SENDERS / EVENTS_PER_SECOND;
    let count = u32::try_from(LOAD.as_nanos() / pause.as_nanos())?;
    for number in 0..count {
        let due = pause * number + pause * sender / SENDERS;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let all = usize::try_from(number * SENDERS + sender)?;
        let verb = if (all / AGENTS).is_multiple_of(2) { "pause" } else { "resume" };
        daemon.post(&format!("/control/agents/bench-{}/{verb}", all % AGENTS), &json!({}))?;
    }
    Ok(())
}
