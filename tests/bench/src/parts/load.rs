//! Deliveries as fast as they are answered, what they leave in memory, and a queue that has become very long.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::daemon::{Daemon, Project};
use crate::figure::{Limit, mb, ms, print, rate};
use crate::load::{Measured, drive};
use crate::parts::runs::Watch;
use crate::reference::{bare_server, fsyncs_per_second, wait_for_container};
use crate::webhook::Webhook;

const CLIENTS: usize = 16;
const COUNT: usize = 100_000;
/// Of the short measurements.
const SAMPLE: usize = 20_000;
/// Threads that wait for work end within this time.
const SETTLE: Duration = Duration::from_secs(10);
/// Runs that are ended to see how soon the next one is claimed. Docker's share of that varies by more than ours takes, so
/// the quickest count.
const ENDS: usize = 21;

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    project.agent("busy", "issues", "exec sleep 3600")?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let (unmatched, matched) = (Webhook::new("push", 10_000), Webhook::new("issues", 10_000));
    let warm = drive(daemon.port, CLIENTS, 500, |number| unmatched.delivery(&format!("w{number}")));
    ensure!(warm.failed == 0, "{} of the first requests failed", warm.failed);

    let bare = bare_server(CLIENTS, SAMPLE, &unmatched.delivery("x"))?;
    let before = daemon.cpu()?;
    let got = drive(daemon.port, CLIENTS, COUNT, |number| unmatched.delivery(&format!("u{number}")));
    let reference = format!("bare tiny_http {}; {} of CPU each", rate(&bare), micros(daemon.cpu()? - before));
    let limit = Limit::rate(&got, 5000.0, Duration::from_millis(15));
    print("webhooks that nothing matches", &rate(&got), &reference, &limit);

    // A first one, so that all others wait behind it.
    drive(daemon.port, 1, 3 * ENDS, |number| matched.delivery(&format!("f{number}")));
    let short = claims(&mut daemon)?;
    let fsyncs = fsyncs_per_second(dir)?;
    let before = daemon.cpu()?;
    let got = drive(daemon.port, CLIENTS, COUNT, |number| matched.delivery(&format!("m{number}")));
    let reference = format!("disk {fsyncs:.0} fsyncs/s; {} of CPU each", micros(daemon.cpu()? - before));
    let limit = Limit::rate(&got, 2500f64.min(10.0 * fsyncs), Duration::from_millis(25));
    print("webhooks queued behind a busy agent", &rate(&got), &reference, &limit);

    let busy = daemon.memory()?;
    thread::sleep(SETTLE);
    let memory = daemon.memory()?;
    let reference = format!("at once {}", mb(busy));
    print("memory (PSS) after 100,000 of each", &mb(memory), &reference, &Limit::bytes(memory, 15_000_000));

    daemon.crash()?;
    let start = Instant::now();
    let (mut daemon, served) = project.start()?;
    daemon.ready()?;
    let took = start.elapsed();
    let reference = format!("serving after {}", ms(served));
    print("start with 100,000 queued items", &ms(took), &reference, &Limit::time(took, Duration::from_secs(1)));
    let long = claims(&mut daemon)?;
    let more = long.saturating_sub(short);
    let reference = format!("end of a run to the next claim: {}, with a short queue {}", ms(long), ms(short));
    print("dequeue from 100,000 items", &ms(more), &reference, &Limit::time(more, Duration::from_millis(5)));
    daemon.post("/control/pause", &json!({}))?;
    daemon.stop()
}

fn micros(all: Duration) -> String {
    format!("{:.0} µs", all.as_secs_f64() * 1e6 / COUNT as f64)
}

/// Ends the run of the busy agent again and again; how long it takes until the next one is claimed.
fn claims(daemon: &mut Daemon) -> Result<Duration> {
    let watch = Watch::start("busy")?;
    let mut taken = Vec::new();
    for _ in 0..ENDS {
        let running = daemon.running_since("busy")?;
        // One that has not started yet would never die.
        wait_for_container(&running.0)?;
        daemon.post("/control/agents/busy/kill", &json!({}))?;
        let next = daemon.next_running("busy", &running.0)?;
        let died = watch.time_of("die", &running.0)?;
        taken.push(next.1.saturating_sub(died));
    }
    Ok(Measured::of(taken).percentile(10.0))
}
