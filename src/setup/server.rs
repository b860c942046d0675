//! The server of an environment, and commands that run there over SSH (deploy.md §2).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value as Json;
use shims::env::Environment;
use shims::text::ssh_path;

use super::environments::read;
use crate::base::error::ConfigError;
use crate::base::files::{create_new, in_temporary_dir};
use crate::base::process::{Cmd, Limit};
use crate::base::text::tail;
use crate::config::project::Server;
use crate::config::{self, Finding, Home, Selection};
use crate::run::private_dir::PrivateDir;

/// How long the server may take to answer.
const SSH_LIMIT: Limit = Limit::Within(Duration::from_secs(30));
/// What directories for the pinned key of a host are called.
const PINNED_DIR: &str = "al-ssh";
/// Exit status of the client when the connection itself failed.
const NO_CONNECTION: i32 = 255;
/// Most of a foreign text that is shown.
const SHOWN_BYTES: usize = 500;

/// A server that can be asked.
pub struct Target {
    /// The environment's.
    pub name: String,
    server: Server,
    gateway_url: Option<String>,
}

/// What a command on the server came to.
pub struct Said {
    /// Exit status; 1 when a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Target {
    /// The server of an environment.
    ///
    /// # Errors
    /// When there is no such environment, it has no server, or its file is wrong.
    pub fn of(home: &Home, name: &str) -> Result<Self> {
        read(home, name)?;
        let selection = Selection::of(Some(name), &Environment::default());
        // There is no project at that place: what is read is the environment alone.
        let loaded = config::load(&home.environments(), home, &selection)?;
        // What else is in the file may be one half of something whose other half is in a project.
        let is_of_server = |key: &str| ["server", "gateway"].contains(&key.split('.').next().unwrap_or_default());
        let matters = |found: &&Finding| found.is_error() && found.key.as_deref().is_some_and(is_of_server);
        let errors: Vec<String> =
            loaded.findings.iter().filter(matters).map(|found| format!("\n  - {found}")).collect();
        if !errors.is_empty() {
            bail!(ConfigError(format!("environment \"{name}\" has {} problem(s){}", errors.len(), errors.concat())));
        }
        let gateway_url = loaded.project.settings.gateway.url.clone();
        match loaded.project.environment.and_then(|environment| environment.server) {
            Some(server) => Ok(Self { name: name.to_owned(), server, gateway_url }),
            None => bail!(ConfigError(format!("environment \"{name}\" has no [server]"))),
        }
    }

    /// Its address.
    pub fn host(&self) -> &str {
        &self.server.host
    }

    /// Where its gateway can be asked, when its environment says so.
    pub fn gateway_url(&self) -> Option<&str> {
        self.gateway_url.as_deref()
    }

    /// A key of `[server]` that is a text; empty when it is not there.
    pub fn text(&self, key: &str) -> &str {
        self.server.other.get(key).and_then(Json::as_str).unwrap_or_default()
    }

    /// A key of `[server]` that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.server.other.get(key).and_then(Json::as_u64)
    }

    fn text_or(&self, key: &str, default: &str) -> String {
        if self.text(key).is_empty() { default.to_owned() } else { self.text(key).to_owned() }
    }

    /// Where releases are.
    pub fn base_path(&self) -> String {
        self.text_or("basePath", "/opt/action-llama")
    }

    /// The unit of systemd.
    pub fn service(&self) -> String {
        self.text_or("service", "action-llama")
    }

    /// The host name that nginx serves; empty when it does not.
    pub fn cloudflare_hostname(&self) -> String {
        self.server.cloudflare_hostname().unwrap_or_default().to_owned()
    }

    /// Port of its SSH server.
    pub fn port(&self) -> u64 {
        self.number("port").unwrap_or(22)
    }

    /// Whether logins are those of the system's administrator.
    pub fn is_root(&self) -> bool {
        self.text_or("user", "root") == "root"
    }

    fn login(&self) -> String {
        format!("{}@{}", self.text_or("user", "root"), self.server.host)
    }

    /// Who logs in where: `root@192.0.2.7:22`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.login(), self.port())
    }

    /// Runs a command there, 30 seconds at most. It is a constant, or made of words that were quoted one by one; `input`
    /// is what it reads.
    ///
    /// # Errors
    /// The reason when there is no connection, or no answer in time.
    pub fn ssh(
        &self,
        command: &str,
        input: Option<&str>,
        home: &Home,
        environment: &Environment,
    ) -> Result<Said, String> {
        let program = environment.get_non_empty("AL_SSH").unwrap_or("ssh");
        let mut ssh =
            Cmd::new(program).args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"]);
        let pinned = Pinned::of(self)?;
        ssh = ssh.args(known_hosts(self, pinned.as_ref(), home, environment)).args(["-p", &self.port().to_string()]);
        if !self.text("keyPath").is_empty() {
            let key = self.text("keyPath");
            let home = environment.get_non_empty("HOME").unwrap_or_default();
            let key = key.strip_prefix("~/").map_or_else(|| key.to_owned(), |rest| format!("{home}/{rest}"));
            // `-i` looks for the file before it replaces what follows a `%`, so that no spelling is right for it.
            ssh = match key.contains('%') {
                true => ssh.args(["-o", &format!("IdentityFile={}", ssh_path(&key))]),
                false => ssh.args(["-i", &key]),
            };
            ssh = ssh.args(["-o", "IdentitiesOnly=yes"]);
        }
        ssh = ssh.args(["--", &self.login(), command]);
        if let Some(input) = input {
            ssh = ssh.input(input.as_bytes().to_vec());
        }
        let output = ssh.run_any_status(SSH_LIMIT).map_err(|error| error.to_string())?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code().unwrap_or(1) {
            NO_CONNECTION => Err(class(&stderr)),
            status => Ok(Said { status, stdout: output.text(), stderr }),
        }
    }
}

/// The end of a foreign text, short enough to be shown.
pub(super) fn excerpt(text: &str) -> &str {
    tail(text.trim(), SHOWN_BYTES)
}

/// A private directory with a file of the one key that is accepted; gone in the end.
struct Pinned(PrivateDir);

impl Pinned {
    /// `None` when no key is configured.
    fn of(target: &Target) -> Result<Option<Self>, String> {
        let key = target.text("hostKey");
        if key.is_empty() {
            return Ok(None);
        }
        let host = match target.port() {
            22 => target.server.host.clone(),
            port => format!("[{}]:{port}", target.server.host),
        };
        let text = format!("{host} {key}\n");
        let pinned = in_temporary_dir(|temp| {
            PrivateDir::remove_dead(temp, PINNED_DIR);
            let pinned = Self(PrivateDir::create(temp, PINNED_DIR)?);
            create_new(&pinned.file(), text.as_bytes(), 0o600)?;
            Ok(pinned)
        });
        pinned.map(Some).map_err(|error| format!("{error:#}"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("known_hosts")
    }
}

/// Options about the key of the host: the configured one and no other, or those that were seen before.
fn known_hosts(target: &Target, pinned: Option<&Pinned>, home: &Home, environment: &Environment) -> Vec<String> {
    let own = home.environments().join(format!("{}.known_hosts", target.name));
    let is_strict = target.server.other.get("strictHostKey").and_then(Json::as_bool) == Some(true);
    if let Some(pinned) = pinned {
        let file = format!("UserKnownHostsFile={}", ssh_path(&pinned.file().to_string_lossy()));
        return ["-o", "StrictHostKeyChecking=yes", "-o", &file].map(str::to_owned).to_vec();
    }
    let user = PathBuf::from(environment.get_non_empty("HOME").unwrap_or("/")).join(".ssh/known_hosts");
    let files =
        format!("UserKnownHostsFile={} {}", ssh_path(&own.to_string_lossy()), ssh_path(&user.to_string_lossy()));
    let checking = format!("StrictHostKeyChecking={}", if is_strict { "yes" } else { "accept-new" });
    vec!["-o".to_owned(), checking, "-o".to_owned(), files]
}

/// Why there is no connection (deploy.md §2.2).
fn class(stderr: &str) -> String {
    let has = |parts: &[&str]| parts.iter().any(|part| stderr.contains(part));
    let kind = if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed", "host key is known"])
    {
        "host key"
    } else if has(&["Permission denied", "Too many authentication failures"]) {
        "authentication"
    } else if has(&["Connection refused", "timed out", "No route", "Could not resolve", "Network is unreachable"]) {
        "unreachable"
    } else {
        "ssh"
    };
    format!("{kind}: {}", excerpt(stderr))
}
