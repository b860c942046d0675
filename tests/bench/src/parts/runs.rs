//! What a run costs beyond Docker, and whether others are kept waiting by it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::daemon::{Daemon, Project, since_epoch};
use crate::figure::{Limit, median, ms, print};
use crate::load::{Measured, exchange, request};
use crate::reference::{bare_run, image_id};
use crate::webhook::Webhook;

const RUNS: usize = 15;

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    project.agent("noop", "issues", "exit 0")?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let quiet = healthy(daemon.port, || thread::sleep(Duration::from_secs(2)));
    let mut taken = Ok(Taken::default());
    let meanwhile = healthy(daemon.port, || taken = run(&mut daemon));
    let taken = taken?;
    let beyond = |ours: &[Duration], bare: &[Duration]| median(ours).saturating_sub(median(bare));
    let most = Duration::from_millis(20);
    let started = beyond(&taken.started, &taken.bare_started);
    let reference = format!("in all {}, docker alone {}", ms(median(&taken.started)), ms(median(&taken.bare_started)));
    print("trigger to container start beyond docker", &ms(started), &reference, &Limit::time(started, most));
    let freed = beyond(&taken.freed, &taken.bare_freed);
    let reference = format!("in all {}, docker alone {}", ms(median(&taken.freed)), ms(median(&taken.bare_freed)));
    print("exit to free slot beyond docker", &ms(freed), &reference, &Limit::time(freed, most));
    let p99 = meanwhile.percentile(99.0);
    let value = format!("p99 {}, worst {}", ms(p99), ms(meanwhile.percentile(100.0)));
    let reference = format!("idle: p99 {}, worst {}", ms(quiet.percentile(99.0)), ms(quiet.percentile(100.0)));
    print("/health while runs start and end", &value, &reference, &Limit::time(p99, Duration::from_millis(10)));
    daemon.stop()
}

/// How long things took, one by one.
#[derive(Default)]
struct Taken {
    /// From the webhook to the container that runs.
    started: Vec<Duration>,
    bare_started: Vec<Duration>,
    /// From the end of a container to the claim of the next item.
    freed: Vec<Duration>,
    bare_freed: Vec<Duration>,
}

fn run(daemon: &mut Daemon) -> Result<Taken> {
    let (watch, webhook) = (Watch::start("noop")?, Webhook::new("issues", 1000));
    let image = image_id("al-noop:latest")?;
    let mut taken = Taken::default();
    bare_run(&image)?;
    for number in 0..RUNS {
        let (started, freed) = bare_run(&image)?;
        taken.bare_started.push(started);
        taken.bare_freed.push(freed);
        let sent = since_epoch();
        exchange(daemon.port, &webhook.delivery(&format!("t{number}")))?;
        let done = daemon.wait_for_done(number + 1)?;
        let instance = done[0]["instanceId"].as_str().context("it ran")?;
        taken.started.push(watch.time_of("start", instance)?.saturating_sub(sent));
    }
    for number in 0..RUNS {
        exchange(daemon.port, &webhook.delivery(&format!("q{number}")))?;
    }
    let mut items = daemon.wait_for_done(2 * RUNS)?;
    items.truncate(RUNS);
    // Newest first.
    for pair in items.windows(2) {
        let claimed = instant(&pair[0]["startedAt"])?;
        let died = watch.time_of("die", pair[1]["instanceId"].as_str().context("it ran")?)?;
        taken.freed.push(claimed.saturating_sub(died));
    }
    Ok(taken)
}

/// Time since 1970 of an ISO instant of a UTC day.
pub(crate) fn instant(value: &Value) -> Result<Duration> {
    let text = value.as_str().context("it has an instant")?;
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u64>().ok());
    let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..23].map(number);
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second), Some(milli)] = parts else {
        bail!("{text} is no instant");
    };
    // Days before a date, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(Duration::from_millis((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli))
}

/// Asks for /health every few milliseconds while something else goes on.
fn healthy(port: u16, meanwhile: impl FnOnce()) -> Measured {
    let over = AtomicBool::new(false);
    let asked = request("GET", "/health", "", b"");
    let mut times = Vec::new();
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let begin = Instant::now();
                let is_well = exchange(port, &asked).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"));
                times.push(if is_well { begin.elapsed() } else { Duration::MAX / 1_000_000 });
                thread::sleep(Duration::from_millis(3));
            }
            times
        });
        meanwhile();
        over.store(true, Ordering::SeqCst);
        times = sampler.join().expect("it does not panic");
    });
    Measured::of(times)
}

/// Docker's own account of what happens to the containers of an agent.
pub(crate) struct Watch {
    client: Child,
    events: Arc<Mutex<Vec<(String, String, Duration)>>>,
}

impl Watch {
    pub(crate) fn start(agent: &str) -> Result<Self> {
        let filter = format!("label=al.agent={agent}");
        let mut client = Command::new("docker")
            .args(["events", "--filter", "type=container", "--filter", &filter, "--format", "{{json .}}"])
            .stdout(Stdio::piped())
            .spawn()
            .context("start docker events")?;
        let output = BufReader::new(client.stdout.take().context("its output is a pipe")?);
        let events = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&events);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let time = Duration::from_nanos(event["timeNano"].as_u64().unwrap_or_default());
                let what = (text(&event["Action"]), text(&event["Actor"]["Attributes"]["al.instance"]), time);
                noted.lock().expect("nobody panics").push(what);
            }
        });
        // It says nothing when it is ready.
        thread::sleep(Duration::from_millis(500));
        Ok(Self { client, events })
    }

    /// When this happened to the container of an instance.
    pub(crate) fn time_of(&self, action: &str, instance: &str) -> Result<Duration> {
        for _ in 0..500 {
            let events = self.events.lock().expect("nobody panics");
            if let Some((.., time)) = events.iter().find(|(what, whose, _)| what == action && whose == instance) {
                return Ok(*time);
            }
            drop(events);
            thread::sleep(Duration::from_millis(10));
        }
        bail!("docker tells of no {action} of {instance}")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let case = |text: &str, millis: u64| {
            assert_eq!(instant(&Value::from(text)).unwrap(), Duration::from_millis(millis), "{text}");
        };
        case("1970-01-01T00:00:00.000Z", 0);
        case("2026-01-02T03:04:05.678Z", 1_767_323_045_678);
        case("2024-02-29T23:59:59.999Z", 1_709_251_199_999);
        assert!(instant(&Value::Null).is_err());
    }
}
