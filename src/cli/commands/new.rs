//! `al new`: a project, and the credential of its model (cli-config.md §6.1).

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use shims::credential_types;
use shims::env::Environment;
use shims::session::registry::Thinking;

use crate::base::Secret;
use crate::base::error::{CredentialError, UsageError};
use crate::base::files::current_dir;
use crate::base::prompt::{Preset, Prompter};
use crate::base::term::stdout;
use crate::cli::args::New;
use crate::cli::interaction::Interaction;
use crate::cli::option;
use crate::config::Home;
use crate::config::keys::MODEL_PROVIDERS;
use crate::credentials::flow::{Answer, Flow};
use crate::credentials::format::AnthropicKey;
use crate::credentials::store::Fields;
use crate::credentials::{Status, Store};
use crate::model::names::CredentialRef;
use crate::setup::models::{self, Model};
use crate::setup::scaffold::{self, Target};
use crate::ui::dialogs::Terminal;

/// What there is to do about the credential of the model.
enum Credential {
    Store(Fields),
    Unchanged,
    /// Nobody gave one.
    Skipped,
    /// The model needs none, or nobody could be asked.
    NotAsked,
}

/// Makes a project.
pub(crate) fn run(args: New) -> Result<u8> {
    let environment = Environment::of_process();
    check_flags(&args)?;
    let target = Target::parse(&args.name, &current_dir()?)?;
    let store = Store::at(Home::of(&environment)?.credentials());
    let (model, credential) = match Interaction::of(args.headless, &environment) {
        Interaction::Person => {
            let mut terminal = Terminal::new();
            terminal.say(&format!("New project {}\n", target.name))?;
            let model = asked(&args, &mut terminal)?;
            let credential = ask_credential(&model, &store, &mut terminal, &environment)?;
            (model, credential)
        }
        Interaction::Nobody => (given(&args)?, Credential::NotAsked),
    };
    write(&args.name, &target, &model, credential, &store)
}

fn check_flags(args: &New) -> Result<()> {
    if let Some(provider) = args.provider.as_deref().filter(|provider| !MODEL_PROVIDERS.contains(provider)) {
        let reason = format!("It must be one of {}.", MODEL_PROVIDERS.join(", "));
        bail!(option::invalid("--provider <p>", provider, &reason));
    }
    if let Some(level) = args.thinking.as_deref().filter(|level| Thinking::from_word(level).is_none()) {
        let reason = format!("It must be one of {}.", Thinking::ALL.map(Thinking::as_str).join(", "));
        bail!(option::invalid("--thinking <level>", level, &reason));
    }
    Ok(())
}

/// The model that the flags name.
fn given(args: &New) -> Result<Model> {
    let flags = [("--provider <p>", args.provider.is_none()), ("--model <m>", args.model.is_none())];
    let missing: Vec<&str> = flags.iter().filter(|(_, is_missing)| *is_missing).map(|(flag, _)| *flag).collect();
    if !args.headless && !missing.is_empty() {
        bail!(UsageError(format!(
            "error: nobody can be asked without a terminal; missing: {}\n  or take the usual model with --headless",
            missing.join(", ")
        )));
    }
    let provider = args.provider.clone().unwrap_or_else(|| models::OFFERED[0].to_owned());
    let model = args.model.clone().unwrap_or_else(|| Model::first_of(&provider));
    let thinking = args.thinking.clone().or_else(|| models::usual_thinking(&provider));
    Ok(Model { provider, model, thinking, base_url: None })
}

/// The model that a person chooses, as far as the flags leave something to choose.
fn asked(args: &New, prompter: &mut dyn Prompter) -> Result<Model> {
    if args.provider.is_some() && args.model.is_some() {
        return given(args);
    }
    let wanted = args.provider.as_ref().map(|provider| Model {
        provider: provider.clone(),
        model: Model::first_of(provider),
        thinking: None,
        base_url: None,
    });
    let mut model = models::ask(prompter, wanted.as_ref())?;
    model.thinking = args.thinking.clone().or(model.thinking);
    model.model = args.model.clone().unwrap_or(model.model);
    Ok(model)
}

fn ask_credential(
    model: &Model,
    store: &Store,
    prompter: &mut dyn Prompter,
    environment: &Environment,
) -> Result<Credential> {
    let kind = format!("{}_key", model.provider);
    let Some(known) = credential_types::find(&kind) else { return Ok(Credential::NotAsked) };
    if model.provider == "custom" && !prompter.confirm("Does the server want a key?", Preset::Yes)? {
        return Ok(Credential::NotAsked);
    }
    let reference = CredentialRef::default_of(&kind);
    let answer = Flow { store, prompter, environment }.ask(known, &reference);
    Ok(match answer {
        Ok(Answer::Kept) => Credential::Unchanged,
        Ok(Answer::Declined) => Credential::Skipped,
        Ok(Answer::Given(fields)) if store.read_all(&reference)?.as_ref() == Some(&fields) => Credential::Unchanged,
        Ok(Answer::Given(fields)) => Credential::Store(fields),
        Err(error) if error.is::<CredentialError>() => {
            prompter.say(&format!("  {error}"))?;
            Credential::Skipped
        }
        Err(error) => return Err(error),
    })
}

/// Stores the credential and writes the files; everything has been answered.
fn write(typed: &str, target: &Target, model: &Model, credential: Credential, store: &Store) -> Result<u8> {
    let mut out = stdout();
    let kind = format!("{}_key", model.provider);
    let reference = CredentialRef::default_of(&kind);
    match &credential {
        Credential::Store(fields) => {
            store.write(&reference, fields)?;
            writeln!(out, "  Wrote {}/{kind}/default/", store.root().display())?;
        }
        Credential::Unchanged => writeln!(out, "  {kind} is stored already, unchanged")?,
        Credential::Skipped => writeln!(out, "  {kind} is not stored; `al doctor` asks for it again")?,
        // A server of one's own may want none.
        Credential::NotAsked if model.provider == "custom" || credential_types::find(&kind).is_none() => {}
        Credential::NotAsked if store.status(&reference)? == Status::Complete => {}
        Credential::NotAsked => writeln!(out, "  {kind} is not stored; add it with `al creds add {kind}`")?,
    }
    let auth_type = match (model.provider.as_str(), store.read(&reference, "token")?) {
        ("anthropic", Some(token)) => AnthropicKey::of(Secret::expose(&token)).auth_type(),
        _ => AnthropicKey::ApiKey.auth_type(),
    };
    scaffold::write(target, model, auth_type, &mut |path: &Path| {
        writeln!(stdout(), "  Wrote {}", path.display()).map_err(Into::into)
    })?;
    if model.provider == "custom" && model.base_url.is_none() {
        writeln!(out, "  Write the address of the server into config.toml: baseUrl = \"http://…\", below [model]")?;
    }
    writeln!(
        out,
        "\n  Provider:    {}\n  Model:       {}\n  Credentials: {}/\n  Project:     {}/\n\nNext steps:\n  cd {}\n  al chat\n  al \
         agent new\n  al start",
        model.provider,
        model.model,
        store.root().display(),
        target.dir.display(),
        crate::base::text::shell_quote(typed)
    )?;
    Ok(0)
}
