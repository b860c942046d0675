//! `al-bench <al>`: what a running `al start` costs, one line per figure, each with a reference that was measured in the
//! same run on the same machine, and with the limit that it is to keep.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::daemon::Project;
use crate::load::{Measured, drive};
use crate::webhook::Webhook;

mod daemon;
mod load;
mod reference;
mod webhook;

const CLIENTS: usize = 16;

fn main() -> Result<()> {
    let mut args = env::args_os().skip(1);
    let al = PathBuf::from(args.next().context("usage: al-bench <al>")?).canonicalize().context("find al")?;
    let dir = al.parent().context("it is in a directory")?.join("bench-start");
    throughput(&al, &dir, 20_000)
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn figure(what: &str, value: &str, reference: &str, limit: &str) {
    println!("{what:<44} {value:>28}   {reference} (limit: {limit})");
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn rate(measured: &Measured) -> String {
    let failed = if measured.failed > 0 { format!(", {} FAILED", measured.failed) } else { String::new() };
    format!("{:.0}/s, p99 {}{failed}", measured.per_second(), ms(measured.percentile(99.0)))
}

fn throughput(al: &std::path::Path, dir: &std::path::Path, count: usize) -> Result<()> {
    let project = Project::new(al, dir)?;
    project.agent("busy", "issues", "sleep 3600")?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let (unmatched, matched) = (Webhook::new("push", 10_000), Webhook::new("issues", 10_000));
    let run = std::process::id();
    let warm = drive(daemon.port, CLIENTS, 200, |number| unmatched.delivery(&format!("{run}-w{number}")));
    anyhow::ensure!(warm.failed == 0, "{} warm-up requests failed", warm.failed);
    let bare = reference::bare_server(CLIENTS, count, &unmatched.delivery("x"))?;
    let before = daemon.cpu()?;
    let got = drive(daemon.port, CLIENTS, count, |number| unmatched.delivery(&format!("{run}-u{number}")));
    figure(
        "webhook that nothing matches",
        &rate(&got),
        &format!("bare tiny_http {}", rate(&bare)),
        "5000/s, p99 15 ms",
    );
    let each = (daemon.cpu()? - before) / count as u32;
    figure("processor time of one of these", &format!("{} us", each.as_micros()), "-", "none");
    let fsyncs = reference::fsyncs_per_second(dir)?;
    let got = drive(daemon.port, CLIENTS, count, |number| matched.delivery(&format!("{run}-m{number}")));
    let limit = format!("{:.0}/s, p99 25 ms", (10.0 * fsyncs).min(2500.0));
    figure("webhook queued behind a busy agent", &rate(&got), &format!("disk {fsyncs:.0} fsyncs/s"), &limit);
    figure("memory (PSS) after that", &format!("{:.1} MB", daemon.memory()? as f64 / 1e6), "-", "15 MB");
    daemon.stop()
}
