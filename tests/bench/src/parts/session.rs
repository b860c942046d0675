//! What a model session costs beside its model and its tools.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::daemon::{Project, cpu_of};
use crate::figure::{Limit, mb, median, ms, print};
use crate::model::{self, Model};
use crate::reference::docker;

const STARTS: usize = 40;
const TURNS: usize = 500;
/// Bytes of a stream whose reading is measured.
const STREAM: usize = 64 << 20;

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    project.agent("probe", "push", "exit 0")?;
    run(&project, "probe")?;
    let agent = Agent::take(&project, "al-probe:latest")?;
    start(&agent)?;
    turns(&agent)?;
    parsing(&agent)?;
    memory(&project)
}

/// Holds a whole run.
fn run(project: &Project, agent: &str) -> Result<()> {
    let log = project.dir.join(format!("{agent}.log"));
    let output = File::create(&log).context("make a log")?;
    let mut command = project.command()?;
    let status = command
        .args(["run", agent, "-H"])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("start al run")?;
    ensure!(status.success(), "al run {agent} ended with {status}; see {}", log.display());
    Ok(())
}

/// The program out of an image, and a place in which it runs without a container.
struct Agent {
    program: PathBuf,
    dir: PathBuf,
}

impl Agent {
    fn take(project: &Project, image: &str) -> Result<Self> {
        let agent = Self { program: project.dir.join("al-agent"), dir: project.dir.join("agent") };
        let container = docker(&["create", "--entrypoint", "/bin/true", image])?;
        let copied = docker(&["cp", &format!("{container}:/app/bin/al-agent"), &agent.program.to_string_lossy()]);
        docker(&["rm", &container])?;
        copied?;
        for part in ["static", "tmp", "credentials/custom_key/default"] {
            fs::create_dir_all(agent.dir.join(part)).with_context(|| format!("make {part}"))?;
        }
        agent.write("static/ACTIONS.md", &"Do what is to be done, and do it well.\n".repeat(100))?;
        agent.write("static/prompt-static.txt", "<agent-config>\n{}\n</agent-config>")?;
        agent.write("credentials/custom_key/default/token", "a-key-of-some-length")?;
        Ok(agent)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.dir.join(name), text).with_context(|| format!("write {name}"))
    }

    /// Starts it with a model at this URL.
    fn start(&self, url: &str) -> Result<Running> {
        let config = json!({"name": "bench", "credentials": [], "model": {"provider": "custom", "api": "anthropic",
            "model": "m", "baseUrl": url, "contextWindow": 1_000_000, "maxTokens": 8000},
            "limits": {"repeatLimit": 0}});
        self.write("static/agent-config.json", &config.to_string())?;
        let place = |name: &str| self.dir.join(name);
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").context("PATH is set")?).env("PROMPT", "Go on.");
        command.env("AL_STATIC_DIR", place("static")).env("AL_CREDENTIALS_PATH", place("credentials"));
        command.env("AL_TMP_DIR", place("tmp")).env("AL_BIN_DIR", place("bin"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Running(command.spawn().context("start al-agent")?))
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// From the start of the process to the first byte of the first request, which over TLS is that of its greeting.
fn start(agent: &Agent) -> Result<()> {
    let model = Model::start(LOCAL, |_, _| Some(model::says("Done.")))?;
    let (mut plain, mut tls, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    // Alternately, so that all see the same machine.
    for _ in 0..STARTS {
        for (scheme, times) in [("http", &mut plain), ("https", &mut tls)] {
            let begin = Instant::now();
            let running = agent.start(&format!("{scheme}://127.0.0.1:{}", model.port))?;
            times.push(model.next()?.first_byte - begin);
            drop(running);
        }
        let begin = Instant::now();
        Command::new("/bin/true").status().context("start /bin/true")?;
        nothing.push(begin.elapsed());
    }
    let (plain, tls) = (median(&plain), median(&tls));
    let reference = format!("without TLS {}, /bin/true {}", ms(plain), ms(median(&nothing)));
    print("start of al-agent to its first request", &ms(tls), &reference, &Limit::time(tls, Duration::from_millis(15)));
    Ok(())
}

/// What a turn takes beside the model's time and the tool's time.
fn turns(agent: &Agent) -> Result<()> {
    const COMMAND: &str = "true";
    let model = Model::start(LOCAL, |number, _| (number <= TURNS).then(|| model::bash(number, COMMAND)))?;
    let _running = agent.start(&format!("http://127.0.0.1:{}", model.port))?;
    let (mut gaps, mut bare) = (Vec::new(), Vec::new());
    let mut before = model.next()?.answered;
    for _ in 0..TURNS {
        let asked = model.next()?;
        gaps.push(asked.complete.saturating_duration_since(before));
        before = asked.answered;
    }
    for _ in 0..100 {
        let begin = Instant::now();
        Command::new("/bin/bash").args(["-c", COMMAND]).stdin(Stdio::null()).status().context("start bash")?;
        bare.push(begin.elapsed());
    }
    let (gap, tool) = (median(&gaps), median(&bare));
    let (last, beyond) = (median(&gaps[TURNS - 50..]), gap.saturating_sub(tool));
    let reference = format!("bash -c {COMMAND} {}, of 500 turns the last {}", ms(tool), ms(last));
    print("turn beyond model and tool", &ms(beyond), &reference, &Limit::time(beyond, Duration::from_millis(5)));
    Ok(())
}

/// How fast a stream is read, in bytes for each second on a processor.
fn parsing(agent: &Agent) -> Result<()> {
    let delta =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " and so on"}});
    let start = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ];
    let start: String = start.iter().map(model::event).collect();
    let delta = model::event(&delta);
    let listener = std::net::TcpListener::bind((LOCAL, 0)).context("listen")?;
    let running = agent.start(&format!("http://127.0.0.1:{}", listener.local_addr()?.port()))?;
    let (mut sock, _) = listener.accept().context("wait for the request")?;
    sock.write_all(model::HEAD.as_bytes())?;
    sock.write_all(start.as_bytes())?;
    let pid = running.0.id();
    let before = settled(pid)?;
    let block = delta.repeat(1000);
    let begin = Instant::now();
    for _ in 0..STREAM / block.len() {
        sock.write_all(block.as_bytes()).context("send the stream")?;
    }
    let took = begin.elapsed();
    let cpu = settled(pid)? - before;
    let rate = STREAM as f64 / cpu.as_secs_f64();
    let reference = format!("64 MiB in {}, by the clock {}", ms(cpu), ms(took));
    print("reading a stream of events", &format!("{:.0} MB/s", rate / 1e6), &reference, &Limit::at_least(rate, 50e6));
    Ok(())
}

/// Time on a processor once it does not grow any more.
fn settled(pid: u32) -> Result<Duration> {
    let mut last = cpu_of(pid)?;
    for _ in 0..200 {
        thread::sleep(Duration::from_millis(50));
        let now = cpu_of(pid)?;
        if now - last < Duration::from_micros(100) {
            return Ok(now);
        }
        last = now;
    }
    bail!("al-agent does not come to rest")
}

/// Most memory that a long session in a container has taken.
fn memory(project: &Project) -> Result<()> {
    let gateway = docker(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "al-net"])?;
    let gateway: IpAddr = gateway.parse().with_context(|| format!("{gateway:?} is no address"))?;
    let mut turn = 0;
    let model = Model::start(gateway, move |_, body| {
        if model::is_summary(body) {
            return Some(model::says("## Goal\nGo on."));
        }
        turn += 1;
        let print = format!("rm -f /tmp/al-bash-*; yes 'a line of turn {turn}' | head -c 200000");
        Some(match turn {
            ..=TURNS => model::bash(turn, &print),
            // The supervisor and the process that holds the session.
            501 => model::bash(turn, "cat /proc/1/status /proc/$PPID/status | sed -n 's/^VmHWM:[^0-9]*//p'"),
            _ => model::says("Done."),
        })
    })?;
    let table = format!(
        "[model]\nprovider = \"custom\"\napi = \"anthropic\"\nmodel = \"m\"\nbaseUrl = \"http://{gateway}:{}\"\n\
         contextWindow = 32000\nmaxTokens = 4000\n",
        model.port
    );
    project.model_agent("long", &table)?;
    run(project, "long")?;
    let (mut requests, mut peak, mut largest) = (0, 0, 0);
    while let Some(asked) = model.next_now() {
        requests += 1;
        largest = largest.max(asked.body.to_string().len());
        if let Some(text) = model::last_result(&asked.body).filter(|text| text.trim_end().ends_with(" kB")) {
            peak = text.lines().filter_map(|line| line.trim_end_matches(" kB").trim().parse::<u64>().ok()).sum();
        }
    }
    ensure!(requests > TURNS && peak > 0, "the session had {requests} requests and told of {peak} KiB");
    let reference = format!("{requests} requests, the largest {}", mb(largest as u64));
    let peak = peak * 1024;
    print("memory of al-agent after 500 turns of 200 KB", &mb(peak), &reference, &Limit::bytes(peak, 40_000_000));
    Ok(())
}
