//! Whether the server of an environment is as a deployment needs it (deploy.md §11). Nothing is changed there.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value as Json, json};
use shims::env::Environment;

use super::providers::Providers;
use super::server::{Target, excerpt};
use crate::base::clock::UnixMs;
use crate::base::text::{shell_quote, single_line};
use crate::base::web::{Address, Limits, Request, Web};
use crate::config::Home;
use crate::credentials::Store;

const HEALTH_LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(10), answer_bytes: 64 << 10 };
/// Free KiB below which there is a warning, and below which nothing works.
const LITTLE_SPACE: (u64, u64) = (2 << 20, 512 << 10);
/// Days that a certificate has to be good for.
const FEW_DAYS: i64 = 30;

/// Says on a line of its own each what there is; `$1` is where releases are, `$2` the service, `$3` the host name that
/// nginx serves, if any.
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
if [ -n "$3" ]; then
  file=/etc/ssl/cloudflare/origin.pem
  if ! $sudo test -e "$file"; then say no-certificate "$file is missing"
  elif out=$($sudo openssl x509 -enddate -noout -in "$file" 2>&1) && out=$(date -u -d "${out#notAfter=}" +%s 2>&1); then say certificate "$out"
  else say unknown-certificate "$out"; fi
  say nginx "$(systemctl is-active nginx 2>&1)"
fi
say service "$(systemctl show --property=LoadState,ActiveState "$2" 2>/dev/null)"
"#;

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
    pub(super) fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
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
            let detail = format!("cannot reach {}: {why}", target.place());
            add(Check::new("SSH connectivity", Verdict::Fail, detail))?;
            return Ok(checks);
        }
    };
    add(Check::new("SSH connectivity", Verdict::Pass, target.place()))?;
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
    let providers = Providers { server: target, store: &Store::at(home.credentials()), environment };
    providers.firewalls().into_iter().try_for_each(&mut add)?;
    providers.dns().into_iter().try_for_each(&mut add)?;
    if !target.cloudflare_hostname().is_empty() {
        add(certificate(&said))?;
        add(nginx(said.get("nginx").map_or("", String::as_str)))?;
    }
    providers.ssl_mode().into_iter().try_for_each(&mut add)?;
    let service = service(said.get("service").map_or("", String::as_str));
    let is_deployed = service.verdict != Verdict::Skip;
    add(service)?;
    if let Some(url) = target.gateway_url() {
        add(if is_deployed {
            gateway(url, environment)
        } else {
            Check::new("Gateway", Verdict::Skip, "nothing is deployed")
        })?;
    }
    Ok(checks)
}

/// What the server says of itself; the reason when it cannot be asked.
fn ask(server: &Target, home: &Home, environment: &Environment) -> Result<BTreeMap<String, String>, String> {
    let words = [server.base_path(), server.service(), server.cloudflare_hostname()]
        .map(|word| shell_quote(&word).into_owned());
    let said = server.ssh(&format!("sh -s -- {}", words.join(" ")), Some(PROBE), home, environment)?;
    let lines = said.stdout;
    let line = |line: &str| {
        let (key, value) = line.strip_prefix("al-check ")?.split_once(' ')?;
        Some((key.to_owned(), value.trim().to_owned()))
    };
    let found: BTreeMap<String, String> = lines.lines().filter_map(line).collect();
    if found.is_empty() { Err(format!("it gave no answer: {}", excerpt(&said.stderr))) } else { Ok(found) }
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

fn certificate(said: &BTreeMap<String, String>) -> Check {
    let check = |verdict, detail: &str| Check::new("Origin certificate", verdict, detail);
    if let Some(missing) = said.get("no-certificate") {
        return check(Verdict::Fail, missing);
    }
    let end = said.get("certificate").and_then(|end| end.parse::<i64>().ok());
    let Some(end) = end else {
        return check(Verdict::Warn, said.get("unknown-certificate").map_or("the server did not say", String::as_str));
    };
    let days = (end - UnixMs::now().0 / 1000).div_euclid(86_400);
    match days {
        ..0 => check(Verdict::Fail, &format!("expired {} days ago", -days)),
        0..FEW_DAYS => check(Verdict::Warn, &format!("{days} days left")),
        _ => check(Verdict::Pass, &format!("{days} days left")),
    }
}

fn nginx(state: &str) -> Check {
    match state {
        "active" => Check::new("nginx", Verdict::Pass, "running"),
        "" => Check::new("nginx", Verdict::Warn, "the server did not say"),
        other => Check::new("nginx", Verdict::Fail, other),
    }
}

fn service(shown: &str) -> Check {
    let state = |key: &str| shown.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or_default();
    match (state("LoadState="), state("ActiveState=")) {
        ("loaded", "active") => Check::new("Service", Verdict::Pass, "active"),
        ("loaded", other) => Check::new("Service", Verdict::Fail, format!("is {other}")),
        _ => Check::new("Service", Verdict::Skip, "not set up yet; 'al docs server' says how"),
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
