//! A place on the host in which the real `al-agent` runs: its paths are moved there, its environment has nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shims::wire::log::LogLine;

/// What `al-agent` finds around it.
pub(crate) struct Bed {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Bed {
    /// An agent with this configuration.
    pub(crate) fn new(config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bed = Self { dir, variables: Vec::new() };
        bed.write("static/agent-config.json", &config.to_string());
        bed.write("static/ACTIONS.md", "Do it.");
        for name in ["tmp", "credentials"] {
            fs::create_dir(bed.path(name)).unwrap();
        }
        bed
    }

    /// An agent without credentials that runs a script.
    pub(crate) fn with_script(script: &str) -> Self {
        let bed = Self::new(&json!({"name": "dev", "credentials": []}));
        bed.write("static/test-script.sh", script);
        bed
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Content of a file; empty while there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Sets a variable of `al-agent`.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The environment as a command sees it.
    pub(crate) fn dress(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        for (variable, name) in [
            ("AL_STATIC_DIR", "static"),
            ("AL_CREDENTIALS_PATH", "credentials"),
            ("AL_TMP_DIR", "tmp"),
            ("AL_BIN_DIR", "bin"),
        ] {
            command.env(variable, self.path(name));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("AL_BIN_AL_AGENT"));
        self.dress(&mut command);
        command
    }

    /// `al-agent` as PID 1 of a namespace of its own, as in a container. Needs root, or user namespaces.
    pub(crate) fn command_as_pid_1(&self) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", env!("AL_BIN_AL_AGENT")]);
        self.dress(&mut command);
        command
    }

    /// Makes everything readable for other users and `tmp` their own.
    pub(crate) fn open_for(&self, uid: u32) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(self.path("tmp"), Some(uid), Some(uid)).unwrap();
    }

    /// Runs `al-agent` to its end.
    pub(crate) fn run(&self) -> Ran {
        Ran::of(self.command())
    }
}

/// A run that has ended.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        let started = Instant::now();
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::from_output(output, started)
    }

    pub(crate) fn from_output(output: Output, started: Instant) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
        }
    }

    /// Exit status; a signal counts as 1000 + its number, which no exit status can be.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 1000 + self.status.signal().unwrap_or_default())
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The protocol lines.
    pub(crate) fn log(&self) -> Vec<LogLine> {
        self.stdout.lines().filter_map(LogLine::parse).collect()
    }

    /// The protocol lines as `level msg {fields}`, debug lines left out.
    pub(crate) fn brief(&self) -> Vec<String> {
        let lines = self.log().into_iter().filter(|line| line.level.as_str() != "debug");
        lines.map(|line| format!("{} {} {}", line.level.as_str(), line.msg, Value::Object(line.fields))).collect()
    }

    /// The one line with this message.
    #[track_caller]
    pub(crate) fn line(&self, msg: &str) -> LogLine {
        let mut lines: Vec<LogLine> =
            self.log().into_iter().filter(|line| line.msg == msg && line.level.as_str() != "debug").collect();
        assert_eq!(lines.len(), 1, "lines with {msg:?} in:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        lines.remove(0)
    }

    /// Lines that are neither protocol lines nor blank, which readers ignore.
    pub(crate) fn plain(&self) -> Vec<&str> {
        self.stdout.lines().filter(|line| !line.is_empty() && LogLine::parse(line).is_none()).collect()
    }
}

/// Waits for something that has no way of telling that it happened.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "waited 20 s in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a child.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Whether a process that wrote its number into a file still runs.
pub(crate) fn is_running(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
