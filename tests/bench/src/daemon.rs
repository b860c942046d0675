//! A project in a directory of its own, and `al start` in it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::load::{exchange, request};
use crate::parts::runs::instant;
use crate::terminal::Terminal;
use crate::webhook::SECRET;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(600);

/// Now, as time since 1970.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970")
}

/// Time on a processor that the living threads of a process have had.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    cpu_of_threads(pid, |_| true)
}

/// The same for those whose name is wanted.
fn cpu_of_threads(pid: u32, is_wanted: impl Fn(&str) -> bool) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !is_wanted(fs::read_to_string(task.join("comm"))?.trim()) {
            continue;
        }
        let text = fs::read_to_string(task.join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat has numbers")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// A project of agents that run scripts.
pub(crate) struct Project {
    al: PathBuf,
    /// Holds the project, a home directory, and what `al` has printed.
    pub(crate) dir: PathBuf,
}

impl Project {
    /// An empty project whose deliveries are not limited.
    pub(crate) fn new(al: &Path, dir: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(dir);
        let project = Self { al: al.to_owned(), dir: dir.to_owned() };
        for part in ["project/agents", "home/.action-llama", "tmp"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("make {part}"))?;
        }
        project.write(
            "project/config.toml",
            "workQueueSize = 1000000\n[gateway]\nwebhookRateLimit = 0\n[webhooks.hub]\ntype = \"github\"\n\
             credential = \"default\"\n[local]\nbase = \"debian:bookworm-slim\"\n[model]\nprovider = \"mock\"\n\
             model = \"echo\"\n",
        )?;
        let secret = "home/.action-llama/credentials/github_webhook_secret/default/secret";
        project.write(secret, SECRET)?;
        for part in Path::new(secret).ancestors().filter(|part| part.starts_with("home/.action-llama")) {
            let mode = if part == Path::new(secret) { 0o600 } else { 0o700 };
            fs::set_permissions(dir.join(part), fs::Permissions::from_mode(mode)).context("protect the secret")?;
        }
        Ok(project)
    }

    /// Adds an agent that takes an event of GitHub and runs this script.
    pub(crate) fn agent(&self, name: &str, event: &str, script: &str) -> Result<()> {
        let config = format!("timeout = 3600\n[[webhooks]]\nsource = \"hub\"\nevents = [\"{event}\"]\n");
        self.write(&format!("project/agents/{name}/agent-config.toml"), &config)?;
        self.write(&format!("project/agents/{name}/ACTIONS.md"), "Measures.\n")?;
        self.write(&format!("project/agents/{name}/test-script.sh"), script)
    }

    /// Adds an agent that asks the model of this table.
    pub(crate) fn model_agent(&self, name: &str, table: &str) -> Result<()> {
        self.write(&format!("project/agents/{name}/agent-config.toml"), table)?;
        self.write(&format!("project/agents/{name}/ACTIONS.md"), "Go on as long as you are told.\n")
    }

    /// `al` in the project.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.al);
        command.current_dir(self.dir.join("project"));
        let path = std::env::var("PATH").context("PATH is set")?;
        // A docker of the project's own comes first.
        command.env("PATH", format!("{}:{path}", self.dir.join("bin").display()));
        command.env("HOME", self.dir.join("home")).env("TMPDIR", self.dir.join("tmp"));
        command.env_remove("ACTION_LLAMA_HOME");
        // What a developer has set and a service has not: with it every error looks at the whole program.
        command.env_remove("RUST_BACKTRACE");
        Ok(command)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("it is below the directory"))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Starts `al` in it and waits until it serves; gives how long that took, too.
    pub(crate) fn start(&self) -> Result<(Daemon, Duration)> {
        let output = File::create(self.output_file()).context("make a file for its output")?;
        let errors = output.try_clone()?;
        self.start_with(&["-H"], "scheduler started", |command| {
            command.stdin(Stdio::null()).stdout(output).stderr(errors);
        })
    }

    /// The same on a terminal with its terminal UI.
    pub(crate) fn start_on_terminal(&self) -> Result<Daemon> {
        let terminal = Terminal::open(50, 160, self.output_file())?;
        let (daemon, _) = self.start_with(&[], "Select agent", |command| {
            command.env("TERM", "xterm").env_remove("NO_COLOR");
            command.stdin(terminal.end()).stdout(terminal.end()).stderr(terminal.end());
        })?;
        Ok(daemon)
    }

    fn output_file(&self) -> PathBuf {
        self.dir.join("al.out")
    }

    fn start_with(
        &self,
        args: &[&str],
        ready: &'static str,
        set_up: impl FnOnce(&mut Command),
    ) -> Result<(Daemon, Duration)> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = self.command()?;
        command.args(["start", "--port", &port.to_string()]).args(args);
        set_up(&mut command);
        let begin = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", self.al.display()))?;
        let mut daemon = Daemon { child, port, dir: self.dir.clone(), key: String::new(), ready };
        let health = request("GET", "/health", "", b"");
        daemon.wait("it serves", Duration::from_millis(1), |_| exchange(port, &health).is_ok())?;
        let took = begin.elapsed();
        let key = self.dir.join("home/.action-llama/credentials/gateway_api_key/default/key");
        daemon.key = fs::read_to_string(key).context("read the API key")?.trim().to_owned();
        Ok((daemon, took))
    }
}

/// A running `al start`; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) port: u16,
    dir: PathBuf,
    key: String,
    /// What it prints when it is ready.
    ready: &'static str,
}

impl Daemon {
    /// Waits until it starts what waits.
    pub(crate) fn ready(&mut self) -> Result<()> {
        self.wait("it is ready", Duration::from_millis(5), |daemon| daemon.output().contains(daemon.ready))
    }

    /// Looks again and again.
    pub(crate) fn wait(&mut self, what: &str, pause: Duration, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !is_so(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("waiting until {what}: al start ended with {status}: {}", self.output());
            }
            if begin.elapsed() > PATIENCE {
                bail!("waited too long until {what}: {}", self.output());
            }
            thread::sleep(pause);
        }
        Ok(())
    }

    fn output(&self) -> String {
        let bytes = fs::read(self.dir.join("al.out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks with the API key.
    pub(crate) fn get(&self, target: &str) -> Result<Value> {
        self.ask("GET", target, b"")
    }

    /// Posts with the API key.
    pub(crate) fn post(&self, target: &str, body: &Value) -> Result<Value> {
        self.ask("POST", target, body.to_string().as_bytes())
    }

    /// The instance of an agent's only run, and when it was claimed.
    pub(crate) fn running_since(&mut self, agent: &str) -> Result<(String, Duration)> {
        self.next_running(agent, "")
    }

    /// The same once it is another run than this one.
    pub(crate) fn next_running(&mut self, agent: &str, last: &str) -> Result<(String, Duration)> {
        let target = format!("/control/queue?agent={agent}&state=running&limit=1");
        let begin = Instant::now();
        loop {
            let answer = self.get(&target)?;
            let item = &answer["items"][0];
            if let Some(instance) = item["instanceId"].as_str().filter(|instance| *instance != last) {
                return Ok((instance.to_owned(), instant(&item["startedAt"])?));
            }
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("no run of {agent} after {last}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Items that are done, newest first, once there are so many.
    pub(crate) fn wait_for_done(&mut self, count: usize) -> Result<Vec<Value>> {
        let begin = Instant::now();
        loop {
            let answer = self.get("/control/queue?state=done&limit=1000")?;
            let items = answer["items"].as_array().cloned().unwrap_or_default();
            if items.len() >= count {
                return Ok(items);
            }
            if begin.elapsed() > Duration::from_secs(120) {
                bail!("{} items are done, not {count}", items.len());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> Result<Value> {
        let fields = format!("Authorization: Bearer {}\r\n", self.key);
        let answer = exchange(self.port, &request(method, target, &fields, body)).with_context(|| target.to_owned())?;
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").context("an answer has a head")?.1;
        serde_json::from_str(body).with_context(|| format!("{target}: {text}"))
    }

    /// Proportional share of memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("there is a line Pss")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("it is a number")?;
        Ok(kib * 1024)
    }

    /// Time on a processor so far, all threads together.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }

    /// The same for what shows people its state.
    pub(crate) fn cpu_of_view(&self) -> Result<Duration> {
        cpu_of_threads(self.child.id(), |name| name == "view" || name.starts_with("ui-"))
    }

    /// Ends it and what it runs.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.post("/control/stop", &serde_json::json!({"kill": true}))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("al start ended with {status}: {}", self.output());
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
