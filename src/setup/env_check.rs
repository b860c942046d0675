//! Whether the server of an environment is as a deployment needs it (deploy.md §11). Nothing is changed there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value as Json, json};
use shims::env::Environment;

use super::environments::read;
use crate::base::error::ConfigError;
use crate::base::files::{create_new, ensure_private_dir};
use crate::base::ids::hex32;
use crate::base::process::{Cmd, Limit};
use crate::base::text::{shell_quote, single_line, tail};
use crate::base::web::{Address, Limits, Request, Web};
use crate::config::project::Server;
use crate::config::{self, Home, Selection};

/// How long the server may take to answer.
const SSH_LIMIT: Limit = Limit::Within(Duration::from_secs(30));
const HEALTH_LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(10), answer_bytes: 64 << 10 };
/// Exit status of the client when the connection itself failed.
const NO_CONNECTION: i32 = 255;
/// Most of a foreign text that is shown.
const SHOWN_BYTES: usize = 500;
/// Free KiB below which there is a warning, and below which nothing works.
const LITTLE_SPACE: (u64, u64) = (2 << 20, 512 << 10);
/// What is checked by asking providers, and the key of `[server]` that makes it matter.
const OF_PROVIDERS: [(&str, &str); 6] = [
    ("Vultr firewall", "vultrInstanceId"),
    ("Hetzner firewall", "hetznerServerId"),
    ("DNS", "cloudflareHostname"),
    ("Origin certificate", "cloudflareHostname"),
    ("nginx", "cloudflareHostname"),
    ("Cloudflare SSL", "cloudflareZoneId"),
];

/// Says on a line of its own each what there is; `$1` is where releases are, `$2` the service.
const PROBE: &str = r#"LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; export PATH
say() { printf 'al-check %s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')"; }
sudo=
if [ "$(id -u)" = 0 ]; then say privileges root
elif out=$(sudo -n true 2>&1); then say privileges sudo; sudo='sudo -n'
else say no-privileges "$out"; fi
if ! command -v docker >/dev/null; then say no-docker 'not installed'
elif out=$($sudo docker version --format '{{.Server.Version}}' 2>&1); then say docker "$out"
else say no-docker "not running: $out"; fi
if [ -d /run/systemd/system ] || [ "$(ps -p 1 -o comm= 2>/dev/null)" = systemd ]; then say systemd "$(systemctl --version 2>/dev/null | head -n 1)"
else say no-systemd "$(ps -p 1 -o comm= 2>/dev/null)"; fi
place=$1; while [ ! -d "$place" ]; do place=$(dirname "$place"); done
say disk "$(df -Pk "$place" | awk 'NR == 2 { print $4 }')"
say service "$(systemctl show --property=LoadState,ActiveState "$2" 2>/dev/null)"
"#;

/// A server that can be asked.
pub struct Target {
    name: String,
    server: Server,
    gateway_url: Option<String>,
}

impl Target {
    /// The server of an environment.
    ///
    /// # Errors
    /// When there is no such environment, it has no server, or its file is wrong.
    pub fn of(home: &Home, name: &str) -> Result<Self> {
        read(home, name)?;
        let selection = Selection { flag: Some(name.to_owned()), variable: None };
        // There is no project at that place: what is read is the environment alone.
        let loaded = config::load(&home.environments(), home, &selection)?;
        let errors: Vec<String> =
            loaded.findings.iter().filter(|found| found.is_error()).map(|found| format!("\n  - {found}")).collect();
        if !errors.is_empty() {
            bail!(ConfigError(format!("environment \"{name}\" has {} problem(s){}", errors.len(), errors.concat())));
        }
        let gateway_url = loaded.project.settings.gateway.url.clone();
        match loaded.project.environment.and_then(|environment| environment.server) {
            Some(server) => Ok(Self { name: name.to_owned(), server, gateway_url }),
            None => bail!(ConfigError(format!("environment \"{name}\" has no [server]"))),
        }
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.server.other.get(key).and_then(Json::as_str).unwrap_or(default).to_owned()
    }

    fn port(&self) -> u64 {
        self.server.other.get("port").and_then(Json::as_u64).unwrap_or(22)
    }

    fn login(&self) -> String {
        format!("{}@{}", self.text("user", "root"), self.server.host)
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Warn,
    Skip,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name, verdict, detail: single_line(&detail.into()) }
    }

    /// The line for people.
    pub fn line(&self) -> String {
        let mark = match self.verdict {
            Verdict::Pass => "✓",
            Verdict::Fail => "✗",
            Verdict::Warn => "!",
            Verdict::Skip => "-",
        };
        format!("  {mark} {} ({})\n", self.name, self.detail)
    }
}

/// Number of failed checks.
pub fn failures(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.verdict == Verdict::Fail).count()
}

/// The checks as JSON.
pub fn to_json(name: &str, checks: &[Check]) -> Json {
    let check = |check: &Check| {
        let status = match check.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Warn => "warn",
            Verdict::Skip => "skip",
        };
        let is_fixable = !["SSH connectivity", "Privileges", "systemd", "Gateway"].contains(&check.name);
        json!({"name": check.name, "status": status, "detail": check.detail, "fixable": is_fixable})
    };
    json!({"environment": name, "ok": failures(checks) == 0, "checks": checks.iter().map(check).collect::<Vec<_>>()})
}

/// Makes all checks in their order; `done` hears of each.
///
/// # Errors
/// Only what `done` says.
pub fn run(
    target: &Target,
    home: &Home,
    environment: &Environment,
    done: &mut dyn FnMut(&Check) -> Result<()>,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut add = |check: Check| -> Result<()> {
        done(&check)?;
        checks.push(check);
        Ok(())
    };
    let said = match ask(target, home, environment) {
        Ok(said) => said,
        Err(why) => {
            let place = format!("{}:{}", target.login(), target.port());
            add(Check::new("SSH connectivity", Verdict::Fail, format!("cannot reach {place}: {why}")))?;
            return Ok(checks);
        }
    };
    add(Check::new("SSH connectivity", Verdict::Pass, format!("{}:{}", target.login(), target.port())))?;
    for (name, good, bad) in [
        ("Privileges", "privileges", "no-privileges"),
        ("Docker", "docker", "no-docker"),
        ("systemd", "systemd", "no-systemd"),
    ] {
        add(match (said.get(good), said.get(bad)) {
            (Some(detail), _) => Check::new(name, Verdict::Pass, detail),
            (None, Some(detail)) => Check::new(name, Verdict::Fail, detail),
            (None, None) => Check::new(name, Verdict::Warn, "the server did not say"),
        })?;
    }
    add(disk(said.get("disk").map_or("", String::as_str)))?;
    for (name, key) in OF_PROVIDERS {
        if target.server.other.contains_key(key) || !target.text(key, "").is_empty() {
            add(Check::new(name, Verdict::Warn, "this version cannot ask"))?;
        }
    }
    let service = service(said.get("service").map_or("", String::as_str));
    let is_deployed = service.verdict != Verdict::Skip;
    add(service)?;
    if let Some(url) = &target.gateway_url {
        add(if is_deployed {
            gateway(url, environment)
        } else {
            Check::new("Gateway", Verdict::Skip, "nothing is deployed")
        })?;
    }
    Ok(checks)
}

/// What the server says of itself; the reason when it cannot be asked.
fn ask(target: &Target, home: &Home, environment: &Environment) -> Result<BTreeMap<String, String>, String> {
    let words = [target.text("basePath", "/opt/action-llama"), target.text("service", "action-llama")];
    let command = format!("sh -s -- {} {}", shell_quote(&words[0]), shell_quote(&words[1]));
    let program = environment.get_non_empty("AL_SSH").unwrap_or("ssh");
    let mut ssh =
        Cmd::new(program).args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"]);
    let pinned = Pinned::of(target)?;
    ssh = ssh.args(known_hosts(target, pinned.as_ref(), home, environment)).args(["-p", &target.port().to_string()]);
    if let Some(key) = target.server.other.get("keyPath").and_then(Json::as_str) {
        let home = environment.get_non_empty("HOME").unwrap_or_default();
        let key = key.strip_prefix("~/").map_or_else(|| key.to_owned(), |rest| format!("{home}/{rest}"));
        ssh = ssh.args(["-i", &key, "-o", "IdentitiesOnly=yes"]);
    }
    let ssh = ssh.args(["--", &target.login(), &command]).input(PROBE.as_bytes().to_vec());
    let output = ssh.run_any_status(SSH_LIMIT).map_err(|error| error.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(NO_CONNECTION) {
        return Err(class(&stderr));
    }
    let lines = output.text();
    let line = |line: &str| {
        let (key, value) = line.strip_prefix("al-check ")?.split_once(' ')?;
        Some((key.to_owned(), value.trim().to_owned()))
    };
    let said: BTreeMap<String, String> = lines.lines().filter_map(line).collect();
    if said.is_empty() { Err(format!("it gave no answer: {}", tail(stderr.trim(), SHOWN_BYTES))) } else { Ok(said) }
}

/// A private directory with a file of the one key that is accepted; gone in the end.
struct Pinned(PathBuf);

impl Pinned {
    /// `None` when no key is configured.
    fn of(target: &Target) -> Result<Option<Self>, String> {
        let key = target.text("hostKey", "");
        if key.is_empty() {
            return Ok(None);
        }
        let pinned = Self(std::env::temp_dir().join(format!("al-ssh-{}", hex32())));
        let host = match target.port() {
            22 => target.server.host.clone(),
            port => format!("[{}]:{port}", target.server.host),
        };
        let text = format!("{host} {key}\n");
        let made = ensure_private_dir(&pinned.0).and_then(|()| create_new(&pinned.file(), text.as_bytes(), 0o600));
        made.map(|()| Some(pinned)).map_err(|error| format!("{error:#}"))
    }

    fn file(&self) -> PathBuf {
        self.0.join("known_hosts")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Options about the key of the host: the configured one and no other, or those that were seen before.
fn known_hosts(target: &Target, pinned: Option<&Pinned>, home: &Home, environment: &Environment) -> Vec<String> {
    let own = home.environments().join(format!("{}.known_hosts", target.name));
    let is_strict = target.server.other.get("strictHostKey").and_then(Json::as_bool) == Some(true);
    if let Some(pinned) = pinned {
        let file = format!("UserKnownHostsFile={}", quoted(&pinned.file()));
        return ["-o", "StrictHostKeyChecking=yes", "-o", &file].map(str::to_owned).to_vec();
    }
    let user = PathBuf::from(environment.get_non_empty("HOME").unwrap_or("/")).join(".ssh/known_hosts");
    let files = format!("UserKnownHostsFile={} {}", quoted(&own), quoted(&user));
    let checking = format!("StrictHostKeyChecking={}", if is_strict { "yes" } else { "accept-new" });
    vec!["-o".to_owned(), checking, "-o".to_owned(), files]
}

/// A path as the client's options take it.
fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display())
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
    format!("{kind}: {}", tail(stderr.trim(), SHOWN_BYTES))
}

fn disk(kib: &str) -> Check {
    let Ok(free) = kib.parse::<u64>() else {
        return Check::new("Disk", Verdict::Warn, "the server did not say");
    };
    let (little, none) = LITTLE_SPACE;
    let verdict = if free < none {
        Verdict::Fail
    } else if free < little {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    Check::new("Disk", verdict, format!("{} MiB free", free >> 10))
}

fn service(shown: &str) -> Check {
    let state = |key: &str| shown.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or_default();
    match (state("LoadState="), state("ActiveState=")) {
        ("loaded", "active") => Check::new("Service", Verdict::Pass, "active"),
        ("loaded", other) => Check::new("Service", Verdict::Fail, format!("is {other}")),
        _ => Check::new("Service", Verdict::Skip, "run 'al push' to deploy"),
    }
}

fn gateway(url: &str, environment: &Environment) -> Check {
    let Some(address) = Address::parse(url) else {
        return Check::new("Gateway", Verdict::Warn, "gateway.url is no URL");
    };
    let web = match Web::to(&address, environment) {
        Ok(web) => web,
        Err(why) => return Check::new("Gateway", Verdict::Warn, why),
    };
    match web.send(Request { path: "/health", ..Request::default() }, HEALTH_LIMITS) {
        Ok(answer) if (200..300).contains(&answer.status) => Check::new("Gateway", Verdict::Pass, "healthy"),
        Ok(answer) => Check::new("Gateway", Verdict::Fail, format!("HTTP {}", answer.status)),
        Err(failure) => Check::new("Gateway", Verdict::Fail, failure.reason),
    }
}
