//! `al doctor`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use shims::env::Environment;

use crate::base::error::ConfigError;
use crate::base::files::{absolute_lexically, current_dir};
use crate::base::term::stdout;
use crate::base::text::printable_json;
use crate::cli::args::Doctor;
use crate::cli::interaction::Interaction;
use crate::config::webhook::Exposure;
use crate::config::{self, Finding, Home, Loaded, Selection, Severity};
use crate::credentials::Store;
use crate::setup::doctor::{Options, Report, Scope, Strictness, Verbosity, check};
use crate::setup::repair::{self, Repair};
use crate::setup::{host, online, unreferenced};
use crate::ui::dialogs::Terminal;

/// Exit status of a report in JSON that has something wrong in it.
const FAILED: u8 = 1;

/// Checks a project.
pub(crate) fn run(args: Doctor) -> Result<u8> {
    let environment = Environment::of_process();
    let project = absolute_lexically(Path::new(&args.project), &current_dir()?);
    if let Some(problem) = config::directory_problem(&project, "al doctor") {
        bail!(ConfigError(problem));
    }
    let home = Home::of(&environment)?;
    let loaded = config::load(&project, &home, &Selection::of(args.env.as_deref(), &environment))?;
    let options = Options {
        scope: Scope::Project,
        strictness: if args.strict { Strictness::Strict } else { Strictness::Normal },
        exposure: if args.expose { Exposure::Exposed } else { Exposure::Loopback },
    };
    let store = Store::at(home.credentials());
    let report = check(&loaded, &store, &options)?;
    let look = Look { args: &args, loaded: &loaded, store: &store, environment: &environment };
    if args.json {
        return look.json(report);
    }
    match Interaction::of(args.headless, &environment) {
        Interaction::Person => look.with_person(&report)?,
        Interaction::Nobody => look.alone(&report)?,
    }
    Ok(0)
}

/// What is looked at.
struct Look<'a> {
    args: &'a Doctor,
    loaded: &'a Loaded,
    store: &'a Store,
    environment: &'a Environment,
}

impl Look<'_> {
    /// Nobody is asked, nothing is written.
    fn alone(&self, report: &Report) -> Result<()> {
        let (mut out, mut err) = (stdout(), std::io::stderr());
        report.print_findings(Verbosity::Full, &mut out, &mut err)?;
        if !self.args.skip_creds {
            report.list_credentials(&mut out)?;
        }
        self.more()?;
        if self.args.skip_creds { Ok(()) } else { report.conclude_credentials() }
    }

    /// Asks for what is missing and repairs what can be.
    fn with_person(&self, report: &Report) -> Result<()> {
        report.print_findings(Verbosity::Full, &mut stdout(), &mut std::io::stderr())?;
        let mut terminal = Terminal::new();
        let mut repair = Repair { store: self.store, environment: self.environment, prompter: &mut terminal };
        let missing = if self.args.skip_creds { Vec::new() } else { repair.credentials(report)? };
        repair.gateway_key()?;
        repair.modes()?;
        self.more()?;
        repair.project_docs(&self.loaded.project.dir)?;
        repair::conclude(&missing)
    }

    /// What this machine makes of the project, and what is stored on it.
    fn of_host(&self) -> Result<Vec<Finding>> {
        let mut found = if self.args.skip_host { Vec::new() } else { host::check(self.loaded, self.environment) };
        if self.args.verbose && !self.args.skip_creds {
            found.extend(unreferenced::check(self.loaded, self.store)?);
        }
        Ok(found)
    }

    /// What goes beyond the project's own files.
    fn more(&self) -> Result<()> {
        for finding in self.of_host()? {
            match finding.severity {
                Severity::Note => writeln!(stdout(), "  [note] {finding}")?,
                _ => writeln!(std::io::stderr(), "  [warn] {finding}")?,
            }
        }
        if !self.args.online {
            return Ok(());
        }
        let answers = online::check(self.loaded, self.store, self.environment)?;
        for note in &answers.notes {
            writeln!(stdout(), "  [note] {note}")?;
        }
        for warning in &answers.warnings {
            writeln!(std::io::stderr(), "  [warn] {warning}")?;
        }
        answers.conclude()
    }

    /// One document with everything; nobody is asked.
    fn json(&self, mut report: Report) -> Result<u8> {
        if report.errors.is_empty() {
            let found = self.of_host()?;
            let (notes, warnings): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|finding| finding.severity == Severity::Note);
            report.notes.extend(notes);
            report.warnings.extend(warnings);
        }
        if self.args.skip_creds {
            report.credentials.clear();
        }
        if self.args.online {
            let answers = online::check(self.loaded, self.store, self.environment)?;
            let finding = |severity, text: &String| Finding::whole(severity, "", text.clone());
            report.notes.extend(answers.notes.iter().map(|text| finding(Severity::Note, text)));
            report.warnings.extend(answers.warnings.iter().map(|text| finding(Severity::Warning, text)));
            report.errors.extend(answers.refused.iter().map(|text| finding(Severity::Error, text)));
        }
        let document = report.to_json(&self.loaded.discovered);
        writeln!(stdout(), "{}", printable_json(&document.to_string()))?;
        Ok(if document["ok"] == true { 0 } else { FAILED })
    }
}
