//! How long commands take that only look at files: what a person or a shell's prompt waits for.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::daemon::Project;
use crate::figure::{Limit, median, ms, print};

const AGENTS: usize = 20;
/// Calls of each command.
const CALLS: usize = 40;
const LOG_BYTES: u64 = 1_000_000_000;

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    (0..AGENTS).try_for_each(|number| project.agent(&format!("bench-{number}"), "push", "exit 0"))?;
    let quick = Duration::from_millis(15);
    measure_one(&project, &["stat"], "al stat, 20 agents", quick)?;
    measure_one(&project, &["creds", "ls"], "al creds ls", quick)?;
    measure_one(&project, &["doctor", "-H", "--skip-host"], "al doctor -H --skip-host, 20 agents", quick)?;
    let logs = dir.join("project/.al/logs");
    write_log(&logs)?;
    measure_one(&project, &["logs", "bench-0", "-n", "50"], "al logs -n 50 of 1 GB", Duration::from_millis(30))?;
    fs::remove_dir_all(&logs).context("remove the log")
}

fn measure_one(project: &Project, args: &[&str], what: &str, most: Duration) -> Result<()> {
    let (mut times, mut references) = (Vec::new(), Vec::new());
    // Alternately, so that both see the same machine.
    for _ in 0..CALLS {
        let mut nothing = Command::new("/bin/true");
        references.push(time(&mut nothing)?);
        let mut command = project.command()?;
        times.push(time(command.args(args))?);
    }
    let (value, reference) = (median(&times), median(&references));
    print(what, &ms(value), &format!("/bin/true {}", ms(reference)), &Limit::time(value, most));
    Ok(())
}

fn time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    let took = begin.elapsed();
    if status.success() { Ok(took) } else { bail!("{command:?} ends with {status}") }
}

/// A log of one day with entries as runs write them, of which the conversation hides half.
fn write_log(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context("make the directory of logs")?;
    let mut file = BufWriter::new(File::create(dir.join("bench-0-2026-01-02.log")).context("make the log")?);
    let (mut written, mut number) = (0, 0_u64);
    while written < LOG_BYTES {
        let (level, msg) = if number.is_multiple_of(2) { (20, "event") } else { (30, "bash") };
        let line = format!(
            "{{\"level\":{level},\"time\":{},\"pid\":7,\"hostname\":\"h\",\"name\":\"bench-0\",\"instance\":\"bench-0-0000000{}\",\
             \"cmd\":\"git log --oneline -n {number}\",\"msg\":\"{msg}\"}}\n",
            1_767_312_000_000 + number,
            number % 8
        );
        file.write_all(line.as_bytes()).context("write the log")?;
        written += line.len() as u64;
        number += 1;
    }
    file.flush().context("write the log")
}
