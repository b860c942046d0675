//! Runs the in-container commands: the built static program under its eleven names.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shims::wire::paths::COMMANDS;
use tempfile::TempDir;

use super::stub_gateway::StubGateway;

/// The secret in every test that has a gateway; it needs encoding in a query.
pub(crate) const SECRET: &str = "5f0e-s&cret";

/// A directory with the commands, and one for signal files.
pub(crate) struct Shims {
    dir: TempDir,
}

/// One command that is about to run. It sees no variable but those it is given.
pub(crate) struct Shim {
    command: Command,
    stdin: Vec<u8>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Shims {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        for name in COMMANDS.iter().chain(&["al-shim"]) {
            symlink(env!("AL_BIN_AL_SHIM"), dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// A command by its name, without a gateway.
    pub(crate) fn command(&self, name: &str) -> Shim {
        let mut command = Command::new(self.path().join(name));
        command.env_clear().env("AL_SIGNAL_DIR", self.signals()).env("SHUTDOWN_SECRET", SECRET);
        Shim { command, stdin: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the signal files are written.
    pub(crate) fn signals(&self) -> PathBuf {
        self.path().join("signals")
    }
}

impl Shim {
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn gateway(self, stub: &StubGateway) -> Self {
        self.env("GATEWAY_URL", stub.url())
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn run(mut self) -> Outcome {
        let started = Instant::now();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("start the command");
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        let writer = thread::spawn(move || {
            // A command that does not read its input is free to do so.
            let _ = pipe.write_all(&self.stdin);
        });
        let output = child.wait_with_output().expect("wait for the command");
        writer.join().unwrap();
        let status = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(1));
        let text = |bytes| String::from_utf8(bytes).expect("what a command prints is UTF-8");
        Outcome { status, stdout: text(output.stdout), stderr: text(output.stderr), took: started.elapsed() }
    }
}

impl Outcome {
    /// Fails unless status and standard output are these.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32, stdout: &str) {
        assert_eq!((self.status, self.stdout.as_str()), (status, stdout), "stderr: {}", self.stderr);
    }

    /// Standard output, which must be one line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(self.stdout.ends_with('\n') && self.stdout.lines().count() == 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
