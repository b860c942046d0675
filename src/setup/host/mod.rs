//! What this machine makes of a project (cli-config.md §14.5): Docker, disk, ports, time zone. Nothing found here keeps a
//! project from being right, so all of it is warnings and notes; a check that cannot be made is a warning, too.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shims::env::Environment;
use shims::session::registry::Registry;

use crate::base::process::{Cmd, Limit};
use crate::config::schedule::Zone;
use crate::config::{Finding, Loaded, Project, Severity};
use crate::docker::network::{self, AL_NET};
use crate::docker::{Docker, image, probe};
use crate::run::assemble;
use crate::run::image_maker::ImageMaker;
use crate::run::observer::{Observer, Report};
use crate::scheduler::lock::ProjectLock;

mod reach;

/// How long a program beside Docker may take.
const LIMIT: Limit = Limit::Within(Duration::from_secs(10));
/// Free space below which somebody should know.
const LITTLE_SPACE: u64 = 2 << 30;

/// Looks at everything; findings in the order in which they are shown.
pub fn check(loaded: &Loaded, environment: &Environment) -> Vec<Finding> {
    let project = &loaded.project;
    let mut findings = Findings(Vec::new());
    docker(project, &mut findings);
    findings.note(&zone(environment));
    unknown_models(loaded, &mut findings);
    disk(&project.dir, &mut findings);
    port(project, &mut findings);
    ignored_by_git(&project.dir, &mut findings);
    unused_sources(loaded, &mut findings);
    findings.0
}

/// Nothing is built here.
struct Silent;

impl Observer for Silent {
    fn report(&self, _: &Report<'_>) {}
}

struct Findings(Vec<Finding>);

impl Findings {
    fn warn(&mut self, text: &str) {
        self.0.push(Finding::whole(Severity::Warning, "", text));
    }

    fn note(&mut self, text: &str) {
        self.0.push(Finding::whole(Severity::Note, "", text));
    }
}

fn docker(project: &Project, findings: &mut Findings) {
    let docker = Docker::default();
    let probe = match probe::probe(&docker) {
        Ok(probe) => probe,
        Err(unusable) => return findings.warn(&unusable.to_string()),
    };
    probe.warnings.iter().for_each(|warning| findings.warn(warning));
    let limits = assemble::limits(project);
    if let Some(warning) = limits.warning(&probe.facts) {
        findings.warn(&warning);
    }
    if limits.memory_bytes > probe.facts.memory_bytes {
        let wanted = &project.settings.local.memory;
        let there = probe.facts.memory_bytes >> 20;
        findings.warn(&format!("local.memory is {wanted}, but this host has only {there} MiB"));
    }
    let maker = ImageMaker::new(project, docker.clone(), Arc::new(Silent));
    let base = match image::inspect_one(&docker, &maker.base_name()) {
        Ok(Some(image)) => image,
        Ok(None) => {
            return findings
                .note(&format!("base image {} is not there yet; the first run builds it", maker.base_name()));
        }
        Err(error) => return findings.warn(&format!("the base image cannot be looked at: {error:#}")),
    };
    match network::inspect(&docker, AL_NET) {
        Ok(None) => findings.note(&format!("Docker network {AL_NET} is not there yet; the first run makes it")),
        Ok(Some(network)) => {
            if let Some(warning) = network.warning() {
                findings.warn(&warning);
            }
            if let Some(problem) = reach::problem(project, &docker, &probe.facts, &network, &base.id) {
                findings.warn(&problem);
            }
        }
        Err(error) => findings.warn(&format!("Docker network {AL_NET} cannot be looked at: {error:#}")),
    }
}

fn zone(environment: &Environment) -> String {
    let system = Zone::system(environment);
    let source = match environment.get_os("TZ") {
        Some(_) if system.warning.is_none() => "from TZ",
        Some(_) => "because TZ names no zone",
        None => "from this machine",
    };
    format!("schedules are read in time zone {} ({source})", system.zone.name())
}

/// Models of which nothing is known: what they cost and how much they take has to be assumed.
fn unknown_models(loaded: &Loaded, findings: &mut Findings) {
    let registry = Registry::builtin();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for model in loaded.enabled().flat_map(|agent| &agent.models) {
        let id = (model.provider.as_str(), model.model.as_str());
        let is_ours = !["custom", "mock", ""].contains(&id.0);
        if is_ours && !seen.contains(&id) && registry.resolve(model).assumed {
            seen.push(id);
            findings.note(&format!("{}:{} is not in the model registry; usual limits are assumed", id.0, id.1));
        }
    }
}

fn disk(dir: &Path, findings: &mut Findings) {
    match rustix::fs::statvfs(dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < LITTLE_SPACE {
                findings.warn(&format!("only {} MiB are free at {}", free >> 20, dir.display()));
            }
        }
        Err(error) if dir.exists() => findings.warn(&format!("free space at {} is not known: {error}", dir.display())),
        Err(_) => {}
    }
}

/// The port of the gateway is free, or this project's own scheduler has it.
fn port(project: &Project, findings: &mut Findings) {
    let port = project.settings.gateway.port;
    if matches!(ProjectLock::holder(&project.dir), Ok(Some(_))) {
        return;
    }
    if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
        findings.warn(&format!("port {port} cannot be used by the gateway: {error}; choose another gateway.port"));
    }
}

/// `.env.toml` belongs to one machine; it is looked for in git's rules only where it and a repository are.
fn ignored_by_git(dir: &Path, findings: &mut Findings) {
    if !dir.join(".env.toml").exists() || !dir.ancestors().any(|dir| dir.join(".git").exists()) {
        return;
    }
    let git = Cmd::new("git").args(["-C"]).arg(dir).args(["check-ignore", "--quiet", ".env.toml"]);
    match git.run_any_status(LIMIT).map(|output| output.status.code()) {
        Ok(Some(1)) => findings.warn(".env.toml is not ignored by git; add a line `.env.toml` to .gitignore"),
        Ok(_) => {}
        Err(error) => findings.warn(&format!("whether git ignores .env.toml is not known: {error}")),
    }
}

fn unused_sources(loaded: &Loaded, findings: &mut Findings) {
    let is_used =
        |name: &str| loaded.enabled().any(|agent| agent.triggers.iter().any(|trigger| trigger.source == name));
    for source in loaded.project.settings.webhooks.values().filter(|source| !is_used(&source.name)) {
        findings.warn(&format!("[{}] is used by no agent", source.key()));
    }
}
