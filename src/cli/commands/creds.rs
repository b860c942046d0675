//! `al creds`: stored credentials (cli-config.md §6.3).

use std::io::Write as _;

use anyhow::{Result, bail};
use shims::credential_types::{CredentialType, TYPES};
use shims::env::Environment;

use crate::base::prompt::{Preset, Prompter as _};
use crate::base::term::stdout;
use crate::base::text::printable_json;
use crate::cli::args::{CredsAdd, CredsCheck, CredsRemove, OnlyJson};
use crate::cli::interaction::Interaction;
use crate::config::Home;
use crate::credentials::flow::{Answer, Flow};
use crate::credentials::{Status, Store};
use crate::model::names::CredentialRef;
use crate::setup::creds::{self, Inputs, Verification};
use crate::setup::creds_check::{self, State};
use crate::ui::dialogs::Terminal;

/// Lists what is stored, never a value.
pub(crate) fn list(args: OnlyJson) -> Result<u8> {
    let store = store(&Environment::of_process())?;
    let entries = creds::entries(&store)?;
    if args.json {
        return print(&format!("{}\n", printable_json(&creds::listing_json(&entries).to_string())));
    }
    print(&creds::listing(&entries, &store))
}

/// Stores a credential, new or in the place of another.
pub(crate) fn add(args: CredsAdd) -> Result<u8> {
    let environment = Environment::of_process();
    let (reference, known) = creds::known(&args.reference)?;
    creds::check_addable(known)?;
    let store = store(&environment)?;
    let stdin = if args.stdin { Some(creds::read_stdin()?) } else { None };
    let inputs = Inputs { from_env: args.from_env, from_file: args.from_file, stdin };
    if !inputs.is_empty() {
        let verification = if args.no_verify { Verification::Skipped } else { Verification::Asked };
        let fields = creds::gather(known, &inputs, verification, &environment)?;
        store.write(&reference, &fields)?;
        return print(&format!("Credential \"{reference}\" saved.\n"));
    }
    match Interaction::of(false, &environment) {
        Interaction::Person => ask(&store, known, &reference, &environment),
        Interaction::Nobody => bail!(creds::needs_input(known)),
    }
}

fn ask(
    store: &Store,
    known: &'static CredentialType,
    reference: &CredentialRef,
    environment: &Environment,
) -> Result<u8> {
    if store.status(reference)? != Status::Missing {
        print(&format!("Credential \"{reference}\" already exists. Re-running setup to update it.\n"))?;
    }
    let mut terminal = Terminal::new();
    let answer = Flow { store, prompter: &mut terminal, environment }.ask(known, reference)?;
    match answer {
        Answer::Given(fields) => {
            store.write(reference, &fields)?;
            print(&format!("Credential \"{reference}\" saved.\n"))
        }
        Answer::Kept => print(&format!("Credential \"{reference}\" left as it is.\n")),
        Answer::Declined => print("Aborted.\n"),
    }
}

/// Removes a stored credential.
pub(crate) fn remove(args: CredsRemove) -> Result<u8> {
    let reference = creds::remove(&store(&Environment::of_process())?, &args.reference)?;
    print(&format!("Credential \"{reference}\" removed.\n"))
}

/// Asks providers whether they still accept what is stored.
pub(crate) fn check(args: CredsCheck) -> Result<u8> {
    let environment = Environment::of_process();
    let store = store(&environment)?;
    let mut checked = Vec::new();
    for reference in creds_check::wanted(&store, &args.references)? {
        let one = creds_check::check(&store, &reference, &environment)?;
        if !args.json {
            print(&one.line())?;
        }
        checked.push(one);
    }
    if args.json {
        print(&format!("{}\n", printable_json(&creds_check::to_json(&checked).to_string())))?;
    } else if checked.is_empty() {
        print(&creds::listing(&[], &store))?;
    }
    let unknown = checked.iter().filter(|checked| checked.state == State::Unknown).count();
    if unknown > 0 {
        let text = format!("{unknown} of {} credential(s) could not be checked", checked.len());
        writeln!(std::io::stderr(), "Warning: {text}: nothing is known about whether they are accepted.")?;
    }
    Ok(u8::from(!creds_check::is_ok(&checked)))
}

/// Shows the known types.
pub(crate) fn types(args: OnlyJson) -> Result<u8> {
    let environment = Environment::of_process();
    if args.json {
        return print(&format!("{}\n", creds::types_json()));
    }
    if Interaction::of(false, &environment) == Interaction::Nobody {
        return print(&creds::table());
    }
    let mut terminal = Terminal::new();
    let lines: Vec<String> = TYPES.iter().map(creds::search_line).collect();
    let known = &TYPES[terminal.search("Credential type:", &lines)?];
    print(&creds::describe(known))?;
    if !terminal.confirm("Add it now?", Preset::No)? {
        return Ok(0);
    }
    ask(&store(&environment)?, known, &CredentialRef::default_of(known.id), &environment)
}

fn store(environment: &Environment) -> Result<Store> {
    Ok(Store::at(Home::of(environment)?.credentials()))
}

fn print(text: &str) -> Result<u8> {
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}
