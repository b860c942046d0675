//! Stored credentials as people see and change them (cli-config.md §6.3).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use shims::credential_types::{self, CredentialType, Group, Kind, TYPES};
use shims::env::Environment;

use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::text::{single_line, suggestion};
use crate::credentials::store::Fields;
use crate::credentials::verify::{Verdict, verify};
use crate::credentials::{Store, format};
use crate::model::names::CredentialRef;

/// A stored instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: String,
    pub instance: String,
    /// Sorted.
    pub fields: Vec<String>,
}

impl Entry {
    /// How it is written in configuration files.
    pub fn reference(&self) -> String {
        match self.instance.as_str() {
            CredentialRef::DEFAULT_INSTANCE => self.kind.clone(),
            instance => format!("{}:{instance}", self.kind),
        }
    }
}

/// What a type is called; types that nobody knows are called as they are.
pub fn label(kind: &str) -> &str {
    credential_types::find(kind).map_or(kind, |known| known.label)
}

/// Everything that is stored, by type and instance.
///
/// # Errors
/// A directory that cannot be read.
pub fn entries(store: &Store) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for (kind, instance, field) in store.list()? {
        match entries.last_mut() {
            Some(last) if last.kind == kind && last.instance == instance => last.fields.push(field),
            _ => entries.push(Entry { kind, instance, fields: vec![field] }),
        }
    }
    Ok(entries)
}

/// The listing for people.
pub fn listing(entries: &[Entry], store: &Store) -> String {
    if entries.is_empty() {
        return format!("No credentials found at {}\n", store.root().display());
    }
    let mut text = String::new();
    let mut kind = "";
    for entry in entries {
        if entry.kind != kind {
            kind = &entry.kind;
            text += &format!("\n  {} ({})\n", single_line(label(kind)), single_line(kind));
        }
        text += &format!("    {}  ({})\n", single_line(&entry.reference()), single_line(&entry.fields.join(", ")));
    }
    text + "\n"
}

/// The listing as JSON.
pub fn listing_json(entries: &[Entry]) -> Value {
    let credential = |entry: &Entry| {
        json!({"ref": entry.reference(), "type": entry.kind, "instance": entry.instance, "label": label(&entry.kind),
               "fields": entry.fields})
    };
    json!({"credentials": entries.iter().map(credential).collect::<Vec<_>>()})
}

/// Reads a reference and finds its type.
///
/// # Errors
/// What is no reference, and a type that nobody knows.
pub fn known(text: &str) -> Result<(CredentialRef, &'static CredentialType)> {
    let reference = CredentialRef::parse(text).map_err(CredentialError)?;
    match credential_types::find(reference.kind()) {
        Some(known) => Ok((reference, known)),
        None => {
            let all: Vec<&str> = TYPES.iter().map(|known| known.id).collect();
            let near = suggestion(reference.kind(), all.iter().copied());
            let near = near.map(|near| format!("\n(Did you mean {near}?)")).unwrap_or_default();
            Err(anyhow!("\"{}\" is not a credential type; known types: {}{near}", reference.kind(), all.join(", ")))
        }
    }
}

/// Whether people and scripts may store this type.
///
/// # Errors
/// When only provisioning writes it.
pub fn check_addable(known: &CredentialType) -> Result<()> {
    if known.id == "cloudflare_origin_cert" {
        bail!(CredentialError(format!("\"{}\" is written by provisioning only", known.id)));
    }
    Ok(())
}

/// Removes a stored instance.
///
/// # Errors
/// When it is not stored, or cannot be removed.
pub fn remove(store: &Store, text: &str) -> Result<CredentialRef> {
    let reference = CredentialRef::parse(text).map_err(CredentialError)?;
    if !store.remove(&reference)? {
        bail!("Credential \"{reference}\" not found.");
    }
    Ok(reference)
}

/// Where the values of a credential come from when nobody can be asked.
#[derive(Clone, Default)]
pub struct Inputs {
    /// `<field>=<variable>`.
    pub from_env: Vec<String>,
    /// `<field>=<path>`.
    pub from_file: Vec<String>,
    /// What came on standard input: the one field, or a JSON object of several.
    pub stdin: Option<Secret>,
}

impl Inputs {
    /// Whether nothing was given at all.
    pub fn is_empty(&self) -> bool {
        self.from_env.is_empty() && self.from_file.is_empty() && self.stdin.is_none()
    }
}

/// Whether a provider is asked before a credential is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    Asked,
    Skipped,
}

/// The values of a credential from what was given, complete and checked.
///
/// # Errors
/// Everything that is missing or wrong, in one error; a provider that refuses, or that cannot be asked.
pub fn gather(
    known: &'static CredentialType,
    inputs: &Inputs,
    verification: Verification,
    environment: &Environment,
) -> Result<Fields> {
    let mut fields = Fields::new();
    let mut problems = Vec::new();
    // What was given, but in vain: it has its problem already, and is not missing besides.
    let mut in_vain = Vec::new();
    for (option, pairs) in [("--from-env", &inputs.from_env), ("--from-file", &inputs.from_file)] {
        for pair in pairs {
            match value(known, option, pair, environment) {
                Ok((field, value)) => drop(fields.insert(field, value)),
                Err(problem) => {
                    problems.push(problem);
                    in_vain.extend(pair.split_once('=').map(|(field, _)| field));
                }
            }
        }
    }
    if let Some(text) = &inputs.stdin {
        match from_stdin(known, text) {
            Ok(more) => fields.extend(more),
            Err(problem) => {
                problems.push(problem);
                in_vain.extend(known.fields.iter().map(|field| field.name));
            }
        }
    }
    for field in known.fields {
        match fields.get(field.name).map(|value| value.expose().trim()) {
            None | Some("") if in_vain.contains(&field.name) => {}
            None | Some("") if field.is_mandatory() => problems.push(format!("{}: is missing", field.name)),
            None | Some("") => {}
            Some(value) => {
                let wrong = format::check(known.id, field.name, value).err();
                problems.extend(wrong.map(|problem| format!("{}: {problem}", field.name)));
            }
        }
    }
    if !problems.is_empty() {
        let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
        bail!(CredentialError(format!("\"{}\" has the fields {}:{list}", known.id, field_names(known))));
    }
    if verification == Verification::Asked {
        match verify(known.id, &fields, environment) {
            Verdict::Valid(_) => {}
            Verdict::Invalid(why) => bail!(CredentialError(why)),
            Verdict::Unknown(why) => {
                bail!(CredentialError(format!("{why}\n  store it all the same with --no-verify")))
            }
        }
    }
    Ok(fields)
}

/// What to say when a credential cannot be asked for.
pub fn needs_input(known: &CredentialType) -> CredentialError {
    let shown = known.fields.iter().filter(|field| field.is_mandatory() || format::has_lines(field.name));
    let example: String = shown
        .map(|field| match field.name {
            name if format::has_lines(name) => format!(" --from-file {name}=my_{name}"),
            name => format!(" --from-env {name}=MY_{}", name.to_uppercase()),
        })
        .collect();
    CredentialError(format!(
        "\"{}\" cannot be asked for without a terminal; give its fields ({}) with --from-env <field>=<VAR>, --from-file \
         <field>=<path> or --stdin\n  for example: al creds add {}{example}",
        known.id,
        field_names(known),
        known.id
    ))
}

fn field_names(known: &CredentialType) -> String {
    let name = |field: &credential_types::Field| {
        if field.is_mandatory() { field.name.to_owned() } else { format!("{} (optional)", field.name) }
    };
    known.fields.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Whether a field may be stored: those of the type, and the file of known hosts beside an SSH key.
fn is_field(known: &CredentialType, name: &str) -> bool {
    known.fields.iter().any(|field| field.name == name) || (known.id == "git_ssh" && name == "known_hosts")
}

fn value(
    known: &CredentialType,
    option: &str,
    pair: &str,
    environment: &Environment,
) -> Result<(String, Secret), String> {
    let (field, source) = pair.split_once('=').ok_or_else(|| format!("{option} {pair}: has no \"=\""))?;
    if !is_field(known, field) {
        return Err(format!("{option} {field}: there is no such field"));
    }
    let value = if option == "--from-env" {
        let found = environment.get_non_empty(source);
        found.map(str::to_owned).ok_or_else(|| format!("{field}: the variable {source} is not set"))?
    } else {
        fs::read_to_string(Path::new(source)).map_err(|error| format!("{field}: {source}: {error}"))?
    };
    Ok((field.to_owned(), Secret::new(value.trim())))
}

fn from_stdin(known: &CredentialType, text: &Secret) -> Result<Fields, String> {
    if let [only] = known.fields {
        return Ok(Fields::from([(only.name.to_owned(), Secret::new(text.expose().trim()))]));
    }
    // The error must not quote what is secret, so serde's own text stays out of it.
    let object: std::collections::BTreeMap<String, String> = serde_json::from_str(text.expose())
        .map_err(|_| "--stdin: is not a JSON object of the fields as strings".to_owned())?;
    match object.keys().find(|name| !is_field(known, name)) {
        Some(name) => Err(format!("--stdin: there is no field {}", single_line(name))),
        None => Ok(object.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()),
    }
}

/// Reads all of standard input.
///
/// # Errors
/// When it cannot be read or is not UTF-8.
pub fn read_stdin() -> Result<Secret> {
    std::io::read_to_string(std::io::stdin()).map(Secret::new).context("read standard input")
}

/// What a search for a type goes over.
pub fn search_line(known: &CredentialType) -> String {
    format!("{} — {}", known.label, known.about)
}

/// Everything about a type, for people; lines without content are left out.
pub fn describe(known: &CredentialType) -> String {
    let names: Vec<&str> = known.fields.iter().map(|field| field.name).collect();
    let mut text = format!("\n  {} ({})\n  {}\n", known.label, known.id, known.about);
    if let Some(url) = known.help_url {
        text += &format!("  Help: {url}\n");
    }
    text += &format!("  Fields: {}\n", names.join(", "));
    let variables = variables(known);
    if !variables.is_empty() {
        text += &format!("  Env vars: {}\n", variables.join(", "));
    }
    if let Some(context) = context(known) {
        text += &format!("  Agent context: {context}\n");
    }
    text + "\n"
}

/// `<field> → <variable>` of every field that has one.
fn variables(known: &CredentialType) -> Vec<String> {
    let pairs = known.fields.iter().filter_map(|field| Some(format!("{} → {}", field.name, field.variable?)));
    let mut pairs: Vec<String> = pairs.collect();
    if known.id == "github_token" {
        pairs.push("token → GH_TOKEN".to_owned());
    }
    pairs
}

/// What an agent with such a credential is told.
fn context(known: &CredentialType) -> Option<String> {
    let line = (known.group == Group::Agent).then(|| crate::run::prompt::context_line(known.id)).flatten()?;
    Some(line.trim_start_matches("- ").to_owned())
}

/// All types as a table.
pub fn table() -> String {
    let mut rows = vec![["TYPE", "LABEL", "FIELDS", "ENV VARS"].map(str::to_owned)];
    for known in &TYPES {
        let names: Vec<&str> = known.fields.iter().map(|field| field.name).collect();
        let variables: Vec<&str> = known.fields.iter().filter_map(|field| field.variable).collect();
        rows.push([known.id.to_owned(), known.label.to_owned(), names.join(", "), variables.join(", ")]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let [id, label, fields, variables] = row;
        let [first, second, third] = widths;
        format!("{id:first$}  {label:second$}  {fields:third$}  {variables}").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// All types as JSON.
pub fn types_json() -> Value {
    let types: Vec<Value> = TYPES.iter().map(type_json).collect();
    json!({"types": types})
}

fn type_json(known: &CredentialType) -> Value {
    let group = match known.group {
        Group::Agent => "agent",
        Group::ModelKey => "model",
        Group::Gateway => "gateway",
    };
    let fields: Vec<Value> = known
        .fields
        .iter()
        .map(|field| {
            let is_secret = matches!(field.kind, Kind::Secret | Kind::OptionalSecret);
            json!({"name": field.name, "label": field.label, "secret": is_secret, "optional": !field.is_mandatory(),
                   "variable": field.variable})
        })
        .collect();
    json!({"type": known.id, "group": group, "label": known.label, "description": known.about, "help": known.help_url,
           "fields": fields, "context": context(known)})
}
