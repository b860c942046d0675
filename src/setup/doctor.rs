//! The check of a project's files and credentials (cli-config.md §6.2). It never asks and never writes.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use shims::credential_types;

use super::creds::label;
use crate::base::error::{ConfigError, CredentialError};
use crate::config::needs::{Need, Needs};
use crate::config::webhook::{Exposure, check_signatures};
use crate::config::{Finding, Loaded, Rule, Severity};
use crate::credentials::{Status, Store};
use crate::model::names::CredentialRef;

/// What to look at, and how strictly.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub scope: Scope<'a>,
    pub strictness: Strictness,
    /// Besides what the environment says.
    pub exposure: Exposure,
}

/// What is going to be done with the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Everything in it.
    Project,
    /// One run of this agent, without a scheduler: the project's own files and the agent count. It may be disabled,
    /// needs neither schedule nor trigger, and no model key when it runs a script.
    Run(&'a str),
}

/// Whether warnings count as errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Normal,
    Strict,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// As `al doctor` does.
    Full,
    /// Only what is wrong, on stderr: for commands that check before they do something else.
    Silent,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub notes: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub errors: Vec<Finding>,
    /// Whether there is any agent.
    pub has_agents: bool,
    /// Needed credentials in order.
    pub credentials: Vec<Checked>,
    /// Credentials that only disabled agents need.
    pub skipped: Vec<Need>,
}

/// A needed credential.
#[derive(Debug)]
pub struct Checked {
    pub need: Need,
    pub status: Status,
}

/// Checks a project.
///
/// # Errors
/// A stored credential that cannot be read.
pub fn check(loaded: &Loaded, store: &Store, options: &Options<'_>) -> Result<Report> {
    let mut findings: Vec<Finding> =
        loaded.findings.iter().filter_map(|finding| seen(finding, options.scope)).collect();
    let needs = match options.scope {
        Scope::Project => {
            if !loaded.discovered.is_empty() {
                findings.extend(signatures(loaded, options.exposure));
            }
            loaded.needs()
        }
        Scope::Run(agent) => loaded.agent(agent).map(|agent| loaded.needs_of_run(agent)).unwrap_or_default(),
    };
    findings.extend(check_fallback(&needs, store)?);
    if options.scope == Scope::Project {
        findings.extend(check_unused_sources(loaded, &needs, store)?);
        findings.extend(check_modes(store));
    }
    let status = |need: Need| Ok(Checked { status: store.status(&need.reference)?, need });
    let credentials = needs.required.into_iter().map(status).collect::<Result<_>>()?;
    let mut report = Report {
        notes: Vec::new(),
        warnings: Vec::new(),
        errors: Vec::new(),
        has_agents: !loaded.discovered.is_empty(),
        credentials,
        skipped: needs.skipped,
    };
    for finding in findings {
        match finding.severity {
            Severity::Note => report.notes.push(finding),
            Severity::Warning if options.strictness == Strictness::Normal => report.warnings.push(finding),
            Severity::Warning | Severity::Error => report.errors.push(finding),
        }
    }
    Ok(report)
}

/// A finding as it counts in a scope; `None` when it does not.
fn seen(finding: &Finding, scope: Scope<'_>) -> Option<Finding> {
    let Scope::Run(agent) = scope else { return Some(finding.clone()) };
    let mut finding = finding.clone();
    if finding.agent.as_deref().is_some_and(|other| other != agent)
        || matches!(finding.rule, Rule::NoTrigger | Rule::Scale)
    {
        return None;
    }
    if finding.demoted {
        finding.severity = Severity::Error;
    }
    Some(finding)
}

fn signatures(loaded: &Loaded, exposure: Exposure) -> Vec<Finding> {
    let project = &loaded.project;
    let exposure = if exposure == Exposure::Exposed { exposure } else { project.exposure() };
    check_signatures(project.settings.webhooks.values(), &project.merged, exposure)
}

fn check_fallback(needs: &Needs, store: &Store) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for need in
        needs.fallback.iter().filter(|need| needs.required.iter().all(|other| other.reference != need.reference))
    {
        if store.status(&need.reference)? != Status::Complete {
            let message = format!(
                "credential {} of a fallback model is not stored; that model will be left out (agents: {})",
                need.reference,
                need.agents.join(", ")
            );
            findings.push(Finding::whole(Severity::Warning, "", message));
        }
    }
    Ok(findings)
}

/// Secrets of sources that no enabled agent uses are not demanded, but without them the sources answer 401.
fn check_unused_sources(loaded: &Loaded, needs: &Needs, store: &Store) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for source in loaded.project.settings.webhooks.values() {
        let Some(secret) = source.secret().filter(|secret| !is_needed(needs, secret)) else { continue };
        if store.status(&secret)? != Status::Complete {
            let key = format!("{}.credential", source.key());
            let message = format!("{secret} is not stored, so requests to this source are refused");
            findings.push(Finding::at(Severity::Warning, loaded.project.merged.file_of(&key), &key, message));
        }
    }
    Ok(findings)
}

fn is_needed(needs: &Needs, reference: &CredentialRef) -> bool {
    needs.required.iter().any(|need| need.reference == *reference)
}

fn check_modes(store: &Store) -> Option<Finding> {
    let loose = store.loose();
    let first = loose.first()?;
    let more = if loose.len() > 1 { format!(" and {} more below it", loose.len() - 1) } else { String::new() };
    let root = store.root().display().to_string();
    let message = format!(
        "others can look into {}{more}; close it with `chmod -R go= {}`",
        first.display(),
        crate::base::text::shell_quote(&root)
    );
    Some(Finding::whole(Severity::Warning, &root, message))
}

impl Report {
    /// Credentials that are missing or incomplete.
    pub fn missing(&self) -> impl Iterator<Item = &Checked> {
        self.credentials.iter().filter(|checked| checked.status != Status::Complete)
    }

    /// Prints the report and turns it into the result of the command.
    ///
    /// # Errors
    /// All problems with configuration in one error, else all missing credentials in one; or a stream that cannot be
    /// written.
    pub fn conclude(&self, verbosity: Verbosity, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        self.print_findings(verbosity, out, err)?;
        match verbosity {
            Verbosity::Full => self.list_credentials(out)?,
            Verbosity::Silent => {
                for checked in self.missing() {
                    writeln!(err, "{}", line(checked))?;
                }
            }
        }
        self.conclude_credentials()
    }

    /// Prints what was found in the files.
    ///
    /// # Errors
    /// All problems with configuration in one error; or a stream that cannot be written.
    pub fn print_findings(&self, verbosity: Verbosity, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        for warning in &self.warnings {
            writeln!(err, "  [warn] {warning}")?;
        }
        if verbosity == Verbosity::Full {
            for note in &self.notes {
                writeln!(out, "  [note] {note}")?;
            }
            if !self.has_agents {
                writeln!(out, "No agents found. Create agents first, then re-run doctor.")?;
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(ConfigError(self.errors_text()).into()) }
    }

    /// The result as far as credentials go.
    ///
    /// # Errors
    /// All missing credentials in one error.
    pub fn conclude_credentials(&self) -> Result<()> {
        let missing: Vec<String> = self.missing().map(|checked| checked.need.reference.to_string()).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing_error(&missing).into()) }
    }

    /// The report as JSON (cli-config.md §14.4); `agents` are the names of all that were found.
    pub fn to_json(&self, agents: &[String]) -> Value {
        let finding = |finding: &Finding| json!({"file": finding.file, "key": finding.key, "agent": finding.agent, "message": finding.to_string()});
        let all = |findings: &[Finding]| findings.iter().map(finding).collect::<Vec<_>>();
        let credential = |checked: &Checked| {
            let (status, fields) = match &checked.status {
                Status::Complete => ("ok", Vec::new()),
                Status::Missing => ("missing", mandatory(checked.need.reference.kind())),
                Status::Incomplete(fields) => ("incomplete", fields.clone()),
            };
            let reference = &checked.need.reference;
            json!({"ref": reference.to_string(), "label": label(reference.kind()), "status": status, "fields": fields,
                   "neededBy": checked.need.agents})
        };
        let ok = self.errors.is_empty() && self.missing().next().is_none();
        json!({"ok": ok, "agents": agents, "errors": all(&self.errors), "warnings": all(&self.warnings),
               "notes": all(&self.notes), "credentials": self.credentials.iter().map(credential).collect::<Vec<_>>()})
    }

    /// Lists what is needed and whether it is stored.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn list_credentials(&self, out: &mut dyn Write) -> Result<()> {
        if self.credentials.is_empty() {
            writeln!(out, "No credentials required by any agent.")?;
        } else {
            writeln!(out, "Checking {} credential(s)...", self.credentials.len())?;
            for checked in &self.credentials {
                writeln!(out, "{}", line(checked))?;
            }
        }
        for skipped in &self.skipped {
            for agent in &skipped.agents {
                writeln!(out, "  [skip] {} (agent \"{agent}\" is disabled)", skipped.reference)?;
            }
        }
        if !self.credentials.is_empty() && self.missing().next().is_none() {
            writeln!(out, "{} credential(s) verified.", self.credentials.len())?;
        }
        Ok(())
    }

    fn errors_text(&self) -> String {
        let count = self.errors.len();
        let mut text = format!("{count} problem{} found", if count == 1 { "" } else { "s" });
        let groups = [(Rule::Scale, "scale violations"), (Rule::Webhook, "Invalid webhook configuration")];
        let is_grouped = |finding: &&Finding| groups.iter().any(|(rule, _)| finding.rule == *rule);
        for finding in self.errors.iter().filter(|finding| !is_grouped(finding)) {
            text.push_str(&format!("\n  - {finding}"));
        }
        for (rule, heading) in groups {
            let members: Vec<&Finding> = self.errors.iter().filter(|finding| finding.rule == rule).collect();
            if !members.is_empty() {
                text.push_str(&format!("\n{heading}:"));
                members.iter().for_each(|finding| text.push_str(&format!("\n  - {finding}")));
            }
        }
        text
    }
}

/// What is said when credentials are missing.
pub(super) fn missing_error(missing: &[String]) -> CredentialError {
    CredentialError(format!(
        "{} credential(s) missing: {}\n  store them with `al creds add <ref>`, or run `al doctor` in a terminal to be asked \
         for them",
        missing.len(),
        missing.join(", ")
    ))
}

/// Fields that an instance of a type must have.
fn mandatory(kind: &str) -> Vec<&'static str> {
    let fields = credential_types::find(kind).map_or(&[][..], |known| known.fields);
    fields.iter().filter(|field| field.is_mandatory()).map(|field| field.name).collect()
}

fn line(checked: &Checked) -> String {
    let reference = &checked.need.reference;
    let label = label(reference.kind());
    match &checked.status {
        Status::Complete => format!("  [ok] {label} ({reference})"),
        Status::Missing => format!("  [MISSING] {label} ({reference})"),
        Status::Incomplete(fields) => format!("  [INCOMPLETE] {label} ({reference}): {}", fields.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Secret;
    use crate::config::{self, Home, Selection};

    const MODEL: &str = "[model]\nprovider = 'anthropic'\nmodel = 'm'\n";

    struct Case {
        dir: tempfile::TempDir,
        strictness: Strictness,
    }

    impl Case {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (path, content) in files {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            Self { dir, strictness: Strictness::Normal }
        }

        fn store(&self) -> Store {
            Store::at(self.dir.path().join("credentials"))
        }

        /// Everything printed, errors last.
        fn look(&self, scope: Scope<'_>, verbosity: Verbosity) -> String {
            let loaded = config::load(self.dir.path(), &Home::at(self.dir.path()), &Selection::default()).unwrap();
            let options = Options { scope, strictness: self.strictness, exposure: Exposure::Loopback };
            let report = check(&loaded, &self.store(), &options).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let result = report.conclude(verbosity, &mut out, &mut err);
            let error = result.err().map(|error| crate::base::error::render(&error)).unwrap_or_default();
            format!("{}{}{error}", String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        }
    }

    #[track_caller]
    fn has(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{text}\nlacks {part:?}");
        }
    }

    #[test]
    fn one_run_needs_no_trigger_and_sees_only_its_agent() {
        let case = Case::new(&[
            ("config.toml", MODEL),
            ("agents/a/agent-config.toml", ""),
            ("agents/a/ACTIONS.md", "x"),
            ("agents/b/agent-config.toml", "credentials = ['no_type']"),
        ]);
        has(&case.look(Scope::Project, Verbosity::Full), &["3 problems", "(agent \"a\")", "(agent \"b\")"]);
        let run = case.look(Scope::Run("a"), Verbosity::Silent);
        assert_eq!(
            run.lines().take(2).collect::<Vec<_>>(),
            [
                "  [MISSING] Anthropic API Credential (anthropic_key)",
                "Credential error: 1 credential(s) missing: anthropic_key"
            ]
        );
        has(&case.look(Scope::Run("b"), Verbosity::Silent), &["1 problem", "no_type"]);
    }

    #[test]
    fn a_script_needs_no_model_key_for_one_run() {
        let case = Case::new(&[
            ("config.toml", MODEL),
            ("agents/a/agent-config.toml", "schedule = '@daily'"),
            ("agents/a/ACTIONS.md", "x"),
            ("agents/a/test-script.sh", "true"),
        ]);
        has(&case.look(Scope::Project, Verbosity::Full), &["[MISSING] Anthropic API Credential (anthropic_key)"]);
        assert_eq!(case.look(Scope::Run("a"), Verbosity::Silent), "");
    }

    #[test]
    fn what_is_wrong_with_a_disabled_agent_matters_only_when_it_is_run() {
        let case = Case::new(&[
            ("config.toml", MODEL),
            ("agents/a/agent-config.toml", "scale = 0\ntimeout = 0"),
            ("agents/a/ACTIONS.md", "x"),
        ]);
        let project = case.look(Scope::Project, Verbosity::Full);
        has(
            &project,
            &["  [warn] agents/a/agent-config.toml: timeout: 0", "[skip] anthropic_key (agent \"a\" is disabled)"],
        );
        assert!(!project.contains("error"), "{project}");
        has(&case.look(Scope::Run("a"), Verbosity::Silent), &["Configuration error: 1 problem", "timeout"]);
    }

    #[test]
    fn a_missing_key_of_a_fallback_model_is_a_warning() {
        let config = format!("{MODEL}[[model.fallback]]\nprovider = 'groq'\nmodel = 'n'\n");
        let mut case = Case::new(&[
            ("config.toml", &config),
            ("agents/a/agent-config.toml", "schedule = '@daily'"),
            ("agents/a/ACTIONS.md", "x"),
        ]);
        let fields = [("token".to_owned(), Secret::new("sk-x"))].into_iter().collect();
        case.store().write(&CredentialRef::default_of("anthropic_key"), &fields).unwrap();
        let project = case.look(Scope::Project, Verbosity::Full);
        has(&project, &["1 credential(s) verified.", "[warn] credential groq_key of a fallback model is not stored"]);
        case.strictness = Strictness::Strict;
        has(&case.look(Scope::Project, Verbosity::Full), &["Configuration error", "groq_key"]);
    }

    #[test]
    fn instructions_that_every_request_pays_much_for_are_a_warning() {
        for (characters, warns) in [(79_996, false), (80_000, true)] {
            let instructions = "x".repeat(characters);
            let case = Case::new(&[
                ("config.toml", MODEL),
                ("agents/a/agent-config.toml", "schedule = '@daily'"),
                ("agents/a/ACTIONS.md", &instructions),
            ]);
            let text = case.look(Scope::Project, Verbosity::Full);
            let warning = "[warn] agents/a/ACTIONS.md: has about 20000 tokens, which every request of a run pays for";
            assert_eq!(text.contains(warning), warns, "{text}");
        }
    }

    #[test]
    fn escape_codes_in_files_do_not_reach_the_terminal() {
        let case = Case::new(&[("config.toml", "\"\\u001b[2J\" = 1\nscale = \"\\u001b[31m\"")]);
        let text = case.look(Scope::Project, Verbosity::Full);
        has(&text, &["unknown key", "scale: expected an integer"]);
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
