//! Webhook sources of a project and triggers of its agents (cli-config.md §3.7; gateway.md §17, §21).

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Table, Value};

use super::check::{problems, quoted, wrong_type};
use super::finding::{Finding, Rule, Severity};
use super::keys::{self, Document};
use super::layers::{Merged, dotted};
use crate::base::text::nearest;
use crate::model::names::CredentialRef;

/// A kind of sender, as far as configuration goes.
#[derive(Debug)]
pub struct Provider {
    pub name: &'static str,
    /// Type of the credential that holds the secret of its signatures; `None` when it never signs.
    pub secret: Option<&'static str>,
    /// Filters that its triggers may have.
    pub filters: &'static [&'static str],
    /// Accepted, but without effect as yet.
    later: bool,
}

/// All providers.
pub static PROVIDERS: [Provider; 8] = [
    Provider {
        name: "github",
        secret: Some("github_webhook_secret"),
        filters: &[
            "events",
            "actions",
            "repos",
            "org",
            "orgs",
            "labels",
            "assignee",
            "author",
            "branches",
            "conclusions",
        ],
        later: false,
    },
    Provider { name: "sentry", secret: Some("sentry_client_secret"), filters: &["resources"], later: false },
    Provider {
        name: "linear",
        secret: Some("linear_webhook_secret"),
        filters: &["events", "actions", "organizations", "labels", "assignee", "author"],
        later: false,
    },
    Provider {
        name: "mintlify",
        secret: Some("mintlify_webhook_secret"),
        filters: &["events", "actions", "repos", "projects", "branches"],
        later: false,
    },
    Provider { name: "test", secret: None, filters: &["events", "actions", "repos"], later: false },
    Provider {
        name: "slack",
        secret: Some("slack_signing_secret"),
        filters: &["events", "channels", "team_ids", "ignoreBots"],
        later: true,
    },
    Provider {
        name: "discord",
        secret: Some("discord_bot"),
        filters: &["events", "guilds", "channels", "commands"],
        later: true,
    },
    Provider { name: "twitter", secret: Some("x_twitter_api"), filters: &["events", "users"], later: true },
];

impl Provider {
    /// Whether requests of it are understood.
    pub fn is_built(&self) -> bool {
        !self.later
    }

    /// The provider with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.name == name)
    }
}

/// A `[webhooks.<name>]` table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    #[serde(skip)]
    pub name: String,
    #[serde(rename = "type", serialize_with = "provider_name")]
    pub provider: &'static Provider,
    /// Instance of the provider's secret type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unsigned: Option<bool>,
}

fn provider_name<S: serde::Serializer>(provider: &&'static Provider, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(provider.name)
}

impl Source {
    /// Its place in the configuration, dotted.
    pub fn key(&self) -> String {
        dotted("webhooks", &self.name)
    }

    /// The credential with the secret that this source names.
    pub fn secret(&self) -> Option<CredentialRef> {
        // The providers whose programs are not built have no credential types yet.
        let kind = self.provider.secret.filter(|_| !self.provider.later)?;
        CredentialRef::parse(&format!("{kind}:{}", self.credential.as_deref()?)).ok()
    }

    /// Whether requests must be signed because the source names a secret.
    fn is_signed(&self) -> bool {
        self.credential.is_some() && self.provider.secret.is_some()
    }

    /// Whether a request without signature is accepted for this source, as long as no secret of its type is stored.
    pub fn accepts_unsigned(&self) -> bool {
        !self.is_signed() && self.allow_unsigned != Some(false)
    }

    /// Whether a gateway that can be reached from outside must refuse to start with this source.
    pub fn is_refused_when_exposed(&self) -> bool {
        !self.is_signed() && self.allow_unsigned != Some(true)
    }
}

/// The sources of a project by name: those that are valid, and `None` for those that are not.
pub(super) type Sources = BTreeMap<String, Option<Source>>;

/// Reads the sources of a checked project configuration; `raw` is the configuration before the check.
pub(super) fn sources(checked: &Table, raw: &Table, origin: &Merged, findings: &mut Vec<Finding>) -> Sources {
    let tables = checked.get("webhooks").and_then(Value::as_table).into_iter().flatten();
    let mut sources = Sources::new();
    for (name, value) in tables {
        let Value::Table(table) = value else { continue };
        let shown = dotted("webhooks", name);
        if name.is_empty() || name.chars().count() > 128 {
            let message = "the name of a source must have 1-128 characters";
            findings.push(Finding::at(Severity::Error, origin.file_of(&shown), &shown, message).of(Rule::Webhook));
        }
        let was_typed = raw.get("webhooks").and_then(|all| all.get(name)?.get("type")).is_some();
        let provider = provider_of(name, table, was_typed, &shown, origin, findings);
        let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
        let source = provider.map(|provider| Source {
            name: name.clone(),
            provider,
            credential: text("credential").map(|instance| instance.trim().to_owned()),
            allow_unsigned: table.get("allowUnsigned").and_then(Value::as_bool),
        });
        sources.insert(name.clone(), source);
    }
    sources
}

fn provider_of(
    source: &str,
    table: &Table,
    was_typed: bool,
    shown: &str,
    origin: &Merged,
    findings: &mut Vec<Finding>,
) -> Option<&'static Provider> {
    let key = format!("{shown}.type");
    let mut say = |severity, message: String| {
        findings.push(Finding::at(severity, origin.file_of(&key), &key, message).of(Rule::Webhook));
    };
    let known: Vec<&str> = PROVIDERS.iter().filter(|provider| !provider.later).map(|provider| provider.name).collect();
    let known = known.join(", ");
    let Some(name) = table.get("type").and_then(Value::as_str) else {
        if !was_typed {
            say(Severity::Error, format!("source \"{source}\" does not say its type; write one of {known}"));
        }
        return None;
    };
    let provider = Provider::find(name);
    match provider {
        None => say(Severity::Error, format!("source \"{source}\": type {} is not one of {known}", quoted(name))),
        Some(provider) if provider.later => {
            let file = origin.file_of(&key).to_owned();
            let note = format!("{file}: {key} = \"{name}\" has no effect yet");
            findings.push(Finding::whole(Severity::Note, &file, note).about(&key));
        }
        Some(_) => {}
    }
    provider
}

/// Whether the gateway that is checked for can be reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    Loopback,
    Exposed,
}

/// Who may send without a signature (gateway.md §17): a warning per source that accepts it, one error for all that an
/// exposed gateway would have to refuse.
pub fn check_signatures<'a>(
    sources: impl Iterator<Item = &'a Source>,
    origin: &Merged,
    exposure: Exposure,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refused = Vec::new();
    for source in sources {
        let shown = source.key();
        let mut warn = |key: &str, message: &str| {
            let key = format!("{shown}{key}");
            findings.push(Finding::at(Severity::Warning, origin.file_of(&key), &key, message));
        };
        if source.credential.is_some() && source.provider.secret.is_none() {
            warn(".credential", "is ignored: requests of this provider are never signed");
        }
        if source.is_signed() && source.allow_unsigned == Some(true) {
            warn(".allowUnsigned", "has no effect, because the source names a credential");
        }
        if exposure == Exposure::Exposed && source.is_refused_when_exposed() {
            refused.push(source);
        } else if source.accepts_unsigned() {
            warn("", "accepts requests that nobody signed; name a \"credential\" to accept only signed ones");
        }
    }
    if let Some(first) = refused.first() {
        let names: Vec<String> = refused
            .iter()
            .map(|source| source.key())
            .map(|shown| format!("{}: {shown}", origin.file_of(&shown)))
            .collect();
        let never_signed = refused.iter().filter(|source| source.provider.secret.is_none());
        let never_signed: Vec<String> = never_signed.map(|source| quoted(&source.name)).collect();
        let but = match never_signed.as_slice() {
            [] => String::new(),
            names => format!(" ({}: never signed, so only the latter, or removing it)", names.join(", ")),
        };
        let message = format!(
            "{}: the gateway can be reached from outside and would accept requests that nobody signed; name a \
             \"credential\" with the secret of the sender, or write allowUnsigned = true{but}",
            names.join(", ")
        );
        let shown = first.key();
        let finding = Finding::whole(Severity::Error, origin.file_of(&shown), message);
        findings.push(finding.about(&shown).of(Rule::Webhook));
    }
    findings
}

/// A `[[webhooks]]` entry of an agent.
#[derive(Clone, Debug)]
pub struct Trigger {
    pub source: String,
    pub provider: &'static Provider,
    pub filter: Filter,
}

/// What an event has to be like. An empty list and `None` are no constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repos: Vec<String>,
    /// Of mintlify, `repos` included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Of github, `org` included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orgs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conclusions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

impl Filter {
    fn of(provider: &Provider, table: &Table) -> Self {
        let list = |key: &str| match table.get(key) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
        let (repos, projects) = match provider.name {
            "mintlify" => (Vec::new(), [list("projects"), list("repos")].concat()),
            _ => (list("repos"), list("projects")),
        };
        Self {
            events: list("events"),
            actions: list("actions"),
            repos,
            projects,
            orgs: text("org").into_iter().chain(list("orgs")).collect(),
            organizations: list("organizations"),
            labels: list("labels"),
            branches: list("branches"),
            conclusions: list("conclusions"),
            resources: list("resources"),
            assignee: text("assignee"),
            author: text("author"),
        }
    }
}

/// Reads the triggers of an agent, and says what is wrong with them.
pub(super) fn triggers(value: &Value, sources: &Sources, file: &str, findings: &mut Vec<Finding>) -> Vec<Trigger> {
    let mut say = |severity, key: &str, message: String| {
        findings.push(Finding::at(severity, file, key, message).of(Rule::Webhook));
    };
    let Value::Array(items) = value else {
        say(Severity::Error, "webhooks", wrong_type("an array of tables", value));
        return Vec::new();
    };
    let mut triggers = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let shown = format!("webhooks[{index}]");
        match item {
            Value::Table(table) => triggers.extend(trigger(table, &shown, sources, &mut say)),
            other => say(Severity::Error, &shown, wrong_type("a table", other)),
        }
    }
    triggers
}

fn trigger(
    table: &Table,
    shown: &str,
    sources: &Sources,
    say: &mut dyn FnMut(Severity, &str, String),
) -> Option<Trigger> {
    let name = source_name(table, shown, sources, say);
    let declared = name.and_then(|name| sources.get(name));
    let provider = declared.map(|source| source.as_ref().map(|source| source.provider));
    let mut is_valid = true;
    for (field, value) in table.iter().filter(|(field, _)| *field != "source") {
        let at = dotted(shown, field);
        let known = keys::find(Document::Agent, &format!("webhooks[].{field}"));
        let allowed = match provider {
            Some(Some(provider)) if !provider.filters.contains(&field.as_str()) => Some(format!(
                "field \"{field}\" is no filter of the {} provider{}",
                provider.name,
                hint(field, provider)
            )),
            Some(None) => Some(format!("field \"{field}\" cannot be used: the type of the source is not known")),
            _ => None,
        };
        if let Some(message) = allowed {
            say(Severity::Error, &at, message);
            is_valid = false;
        } else if let Some(key) = known {
            for (at, message) in problems(&key.shape, value, &at) {
                say(Severity::Error, &at, message);
                is_valid = false;
            }
            unusual(field, value).into_iter().for_each(|message| say(Severity::Warning, &at, message));
        }
    }
    let provider = provider.flatten().filter(|_| is_valid)?;
    Some(Trigger { source: name?.to_owned(), provider, filter: Filter::of(provider, table) })
}

fn source_name<'t>(
    table: &'t Table,
    shown: &str,
    sources: &Sources,
    say: &mut dyn FnMut(Severity, &str, String),
) -> Option<&'t str> {
    let names: Vec<&str> = sources.keys().map(String::as_str).collect();
    let defined = if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
    let at = format!("{shown}.source");
    match table.get("source") {
        Some(Value::String(name)) => {
            if !sources.contains_key(name) {
                // Most sources are called like their provider.
                let kind = Provider::find(name).map_or("…", |provider| provider.name);
                let message = format!(
                    "source {} does not exist; sources in [webhooks]: {defined}; write one of them, or add [{}] with \
                     type = \"{kind}\" to config.toml",
                    quoted(name),
                    dotted("webhooks", name)
                );
                say(Severity::Error, &at, message);
            }
            Some(name)
        }
        Some(other) => {
            say(Severity::Error, &at, wrong_type("a string", other));
            None
        }
        None => {
            say(Severity::Error, &at, format!("is missing; write the name of a source: {defined}"));
            None
        }
    }
}

/// `. Did you mean "repos"?`, when there is a likely name that the provider has.
fn hint(field: &str, provider: &Provider) -> String {
    let usual = match field {
        "repository" | "repo" => Some("repos"),
        "event" => Some("events"),
        "action" => Some("actions"),
        "label" => Some("labels"),
        "branch" => Some("branches"),
        "organization" | "organizations" if provider.name == "github" => Some("orgs"),
        "organization" | "org" | "orgs" if provider.name == "linear" => Some("organizations"),
        "project" => Some("projects"),
        "resource" => Some("resources"),
        "conclusion" => Some("conclusions"),
        "assignees" => Some("assignee"),
        "authors" => Some("author"),
        _ => None,
    };
    let likely = usual.or_else(|| nearest(field, provider.filters.iter().copied(), 2));
    match likely.filter(|name| provider.filters.contains(name)) {
        Some(name) => format!(". Did you mean \"{name}\"?"),
        None => format!("; it has {}", provider.filters.join(", ")),
    }
}

/// Warnings about values that the provider does not send as far as we know.
fn unusual(field: &str, value: &Value) -> Vec<String> {
    let known: &[&str] = match field {
        "conclusions" => &[
            "success",
            "failure",
            "cancelled",
            "skipped",
            "timed_out",
            "action_required",
            "neutral",
            "stale",
            "startup_failure",
        ],
        "resources" => &["event_alert", "metric_alert", "issue", "error", "comment"],
        _ => return Vec::new(),
    };
    let given: Vec<&str> = match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let strange = given.into_iter().filter(|text| !known.contains(text));
    strange.map(|text| format!("{} is not one of the known {field}: {}", quoted(text), known.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::parse;

    fn source(text: &str) -> Source {
        let table = parse(&format!("[webhooks.s]\n{text}"), "").unwrap();
        sources(&table, &table, &Merged::default(), &mut Vec::new()).remove("s").unwrap().unwrap()
    }

    #[track_caller]
    fn signed(text: &str, accepts_unsigned: bool, refused: bool) {
        let source = source(text);
        assert_eq!(
            (source.accepts_unsigned(), source.is_refused_when_exposed()),
            (accepts_unsigned, refused),
            "{text}"
        );
    }

    #[test]
    fn who_may_send_without_signature() {
        signed("type = 'github'\ncredential = 'X'", false, false);
        signed("type = 'github'\ncredential = 'X'\nallowUnsigned = true", false, false);
        signed("type = 'github'\nallowUnsigned = true", true, false);
        signed("type = 'github'", true, true);
        signed("type = 'github'\nallowUnsigned = false", false, true);
        signed("type = 'test'\nallowUnsigned = true", true, false);
        signed("type = 'test'\ncredential = 'X'", true, true);
        signed("type = 'test'\nallowUnsigned = false", false, true);
    }

    #[test]
    fn the_secret_depends_on_the_provider() {
        let secret = |text: &str| source(text).secret().map(|reference| reference.to_string());
        assert_eq!(secret("type = 'sentry'\ncredential = 'default'").as_deref(), Some("sentry_client_secret"));
        assert_eq!(secret("type = 'linear'\ncredential = 'A.1'").as_deref(), Some("linear_webhook_secret:A.1"));
        assert_eq!(secret("type = 'test'\ncredential = 'A'"), None);
        assert_eq!(secret("type = 'github'"), None);
    }

    #[track_caller]
    fn case(provider: &str, fields: &str, expected: &[&str]) {
        let all = Sources::from([("s".to_owned(), Some(source(&format!("type = '{provider}'"))))]);
        let table = parse(&format!("[[webhooks]]\n{fields}"), "").unwrap();
        let mut findings = Vec::new();
        triggers(&table["webhooks"], &all, "f", &mut findings);
        let shown: Vec<_> = findings.iter().map(|finding| format!("{:?} {finding}", finding.severity)).collect();
        assert_eq!(shown.len(), expected.len(), "{shown:?}");
        for (finding, part) in shown.iter().zip(expected) {
            assert!(finding.contains(part), "{finding:?} lacks {part:?}");
        }
    }

    #[test]
    fn filters_belong_to_providers() {
        case("github", "source = 's'\nevents = 'push'\nconclusions = ['failure']", &[]);
        case("mintlify", "source = 's'\nprojects = ['a']", &[]);
        case("github", "source = 's'\nrepository = 'x'", &["Did you mean \"repos\"?"]);
        case("github", "source = 's'\norganizations = 'x'", &["Did you mean \"orgs\"?"]);
        case("linear", "source = 's'\norgs = 'x'", &["Did you mean \"organizations\"?"]);
        case("github", "source = 's'\nlabelz = 'x'", &["Did you mean \"labels\"?"]);
        case("sentry", "source = 's'\nevent = 'x'", &["field \"event\" is no filter of the sentry provider; it has"]);
        case(
            "github",
            "source = 's'\nrepos = 5",
            &["webhooks[0].repos: expected an array of strings or a string, found an integer"],
        );
        case("github", "source = 's'\nlabels = ['a', 5]", &["webhooks[0].labels[1]: expected a string"]);
        case("github", "source = 's'\nassignee = ['a']", &["webhooks[0].assignee: expected a string, found an array"]);
        case("github", "source = 's'\nconclusions = ['odd']", &["Warning f: webhooks[0].conclusions: \"odd\""]);
        case("github", "events = ['x']", &["webhooks[0].source: is missing"]);
        case("github", "source = 'no'", &["source \"no\" does not exist; sources in [webhooks]: s"]);
    }
}
