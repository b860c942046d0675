//! The credentials of a run: where they come from and which of them the models need (containers.md §10.5,
//! agent-session.md §3.1).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::gateway::Gateway;
use super::report::Reporter;
use super::setup::Paths;
use crate::credential_types::split_ref;
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::ModelChoice;
use crate::wire::config::{AgentConfig, ModelConfig};
use crate::wire::secret_variable::{Decoded, SecretName};

/// Field of a model key credential that holds the key.
const KEY_FIELD: &str = "token";

/// Credential values by type, instance and field.
#[derive(Default)]
pub(super) struct Credentials(BTreeMap<String, BTreeMap<String, BTreeMap<String, Secret>>>);

impl Credentials {
    /// A field of a ref; `None` when it is missing or empty.
    pub(super) fn field(&self, reference: &str, field: &str) -> Option<&Secret> {
        let (kind, instance) = split_ref(reference);
        self.0.get(kind)?.get(instance)?.get(field).filter(|value| !value.is_empty())
    }

    /// All values.
    pub(super) fn values(&self) -> impl Iterator<Item = &Secret> {
        self.0.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
    }

    fn insert(&mut self, kind: &str, instance: &str, field: &str, value: &str) {
        let instances = self.0.entry(kind.to_owned()).or_default();
        instances.entry(instance.to_owned()).or_default().insert(field.to_owned(), Secret::new(value.trim()));
    }
}

/// Whether a run can do without any credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Some,
    None,
}

impl Need {
    /// What a run of this agent needs. `without_model`: it asks no model itself, and so needs no key.
    pub(super) fn of(config: &AgentConfig, without_model: bool) -> Self {
        let first = config.model_list().first().map(|model| KeyRef::of(model, &config.credentials));
        let no_key = without_model || matches!(first, Some(None | Some(KeyRef { demanded: false, .. })));
        if no_key && config.credentials.is_empty() { Self::None } else { Self::Some }
    }
}

/// Loads the credentials from the first source that applies: the mounted directory, `AL_SECRET_*` variables, the
/// gateway.
///
/// # Errors
/// The source fails, or there is none and the run needs credentials.
pub(super) fn load(
    paths: &Paths,
    secret_variables: &Environment,
    gateway: Option<&Gateway>,
    need: Need,
    report: &Reporter,
) -> Result<Credentials> {
    if is_mounted(&paths.credentials) {
        let credentials = load_directory(&paths.credentials)?;
        report.info("credentials loaded from volume", &[]);
        return Ok(credentials);
    }
    if let Some(credentials) = decode_variables(secret_variables, report) {
        report.info("credentials loaded from env vars", &[]);
        return Ok(credentials);
    }
    if let Some(gateway) = gateway.filter(|gateway| gateway.has_secret()) {
        report.info("fetching credentials from gateway", &[]);
        let credentials = parse_answer(&gateway.fetch_credentials()?)?;
        report.info("credentials loaded from gateway", &[]);
        return Ok(credentials);
    }
    match need {
        Need::None => Ok(Credentials::default()),
        Need::Some => bail!(
            "no credentials available: {} is not mounted, no AL_SECRET_ variable is set, and there is no gateway to ask",
            paths.credentials.display()
        ),
    }
}

/// Whether a directory has an entry or is a mount point: the mount alone says that this is the source, also for an
/// agent without credentials.
fn is_mounted(dir: &Path) -> bool {
    let has_entry = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    has_entry || (dir.is_dir() && is_mount_point(dir))
}

fn is_mount_point(dir: &Path) -> bool {
    let Ok(dir) = fs::canonicalize(dir) else { return false };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Blanks in mount points are octal escapes there; such a path is then not found, and its files decide.
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == dir))
}

fn load_directory(dir: &Path) -> Result<Credentials> {
    let mut credentials = Credentials::default();
    for (kind, kind_dir) in entries(dir, EntryKind::Directory)? {
        for (instance, instance_dir) in entries(&kind_dir, EntryKind::Directory)? {
            for (field, file) in entries(&instance_dir, EntryKind::File)? {
                let value = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
                let value = String::from_utf8(value).ok().with_context(|| format!("{}: not UTF-8", file.display()))?;
                credentials.insert(&kind, &instance, &field, &value);
            }
        }
    }
    Ok(credentials)
}

#[derive(PartialEq)]
enum EntryKind {
    Directory,
    File,
}

/// Name and path of all entries of one kind; names starting with a dot are left out.
fn entries(dir: &Path, kind: EntryKind) -> Result<Vec<(String, std::path::PathBuf)>> {
    let context = || format!("read {}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path();
        let is_kind = if kind == EntryKind::Directory { path.is_dir() } else { path.is_file() };
        if let Some(name) = entry.file_name().to_str().filter(|name| is_kind && !name.starts_with('.')) {
            found.push((name.to_owned(), path));
        }
    }
    Ok(found)
}

/// Credentials in variables; `None` when there is no such variable.
fn decode_variables(variables: &Environment, report: &Reporter) -> Option<Credentials> {
    let mut credentials = Credentials::default();
    let mut any = false;
    for (variable, value) in variables.iter() {
        let (Some(variable), Some(value)) = (variable.to_str(), value.to_str()) else { continue };
        match SecretName::decode(variable) {
            Decoded::Name(name) if !value.is_empty() => {
                credentials.insert(&name.kind, &name.instance, &name.field, value);
                any = true;
            }
            Decoded::Undecodable => {
                report.warn("credential variable ignored, its name cannot be decoded", &[("variable", variable.into())])
            }
            Decoded::Name(_) | Decoded::Other => {}
        }
    }
    any.then_some(credentials)
}

/// Reads the gateway's answer: objects of types, instances, fields.
fn parse_answer(body: &[u8]) -> Result<Credentials> {
    // The error must not quote the body, so serde's own text stays out of it.
    let answer: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> =
        serde_json::from_slice(body).ok().context("the gateway's credentials are not the expected JSON object")?;
    let mut credentials = Credentials::default();
    for (kind, instances) in &answer {
        for (instance, fields) in instances {
            for (field, value) in fields {
                credentials.insert(kind, instance, field, value);
            }
        }
    }
    Ok(credentials)
}

/// The credential that holds the key of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyRef {
    pub reference: String,
    /// Words that an error about it must contain.
    missing: String,
    /// Whether the model cannot be used without.
    pub demanded: bool,
}

impl KeyRef {
    /// Finds the ref among the agent's refs; `None` when the provider needs no key.
    pub(super) fn of(model: &ModelConfig, refs: &[String]) -> Option<Self> {
        if model.provider == "mock" {
            return None;
        }
        if let Some(reference) = &model.credential {
            return Some(Self {
                reference: reference.clone(),
                missing: format!("missing {reference} credential"),
                demanded: true,
            });
        }
        let kind = format!("{}_key", model.provider);
        let missing = format!("missing {kind} credential");
        match refs.iter().find(|reference| split_ref(reference).0 == kind) {
            Some(listed) => Some(Self { reference: listed.clone(), missing, demanded: true }),
            None => Some(Self { reference: kind, missing, demanded: model.provider != "custom" }),
        }
    }

    /// The key, `None` when it is not there and not demanded.
    fn find(&self, credentials: &Credentials) -> Result<Option<Secret>> {
        match credentials.field(&self.reference, KEY_FIELD) {
            Some(key) => Ok(Some(key.clone())),
            None if !self.demanded => Ok(None),
            None => bail!("{}: {} has no {KEY_FIELD}; run al doctor", self.missing, self.reference),
        }
    }
}

/// The models of the agent with their keys. Fallback models whose key is missing are left out with a warning.
///
/// # Errors
/// No model is configured, or the first one cannot be used in a container.
pub(super) fn choose_models(
    config: &AgentConfig,
    credentials: &Credentials,
    report: &Reporter,
) -> Result<Vec<ModelChoice>> {
    let models = config.model_list();
    if models.is_empty() {
        bail!(
            "agent {:?}: no model configured; add a [model] table to its agent-config.toml or to config.toml",
            config.name
        );
    }
    let mut choices = Vec::with_capacity(models.len());
    for (index, model) in models.into_iter().enumerate() {
        match choose_model(config, model, credentials) {
            Ok(choice) => choices.push(choice),
            Err(error) if index == 0 => return Err(error),
            Err(error) => report.warn(
                "fallback model skipped",
                &[
                    ("provider", model.provider.as_str().into()),
                    ("model", model.model.as_str().into()),
                    ("error", format!("{error:#}").as_str().into()),
                ],
            ),
        }
    }
    Ok(choices)
}

/// The first model of the agent, for a program that may do without.
pub(super) fn models_at_hand(config: &AgentConfig, credentials: &Credentials) -> Vec<ModelChoice> {
    let first = config.model_list().first().map(|model| {
        let key = choose_model(config, model, credentials).ok().and_then(|choice| choice.key);
        ModelChoice { config: (*model).clone(), key }
    });
    first.into_iter().collect()
}

/// A model with its key.
///
/// # Errors
/// Its key is missing, or it takes its key from a place that containers do not have.
pub(super) fn choose_model(
    config: &AgentConfig,
    model: &ModelConfig,
    credentials: &Credentials,
) -> Result<ModelChoice> {
    if model.auth_type.as_deref() == Some("pi_auth") && model.provider != "mock" {
        bail!(
            "agent {:?} uses pi_auth which is not supported in container mode; switch to api_key or oauth_token",
            config.name
        );
    }
    let key = match KeyRef::of(model, &config.credentials) {
        Some(key_ref) => key_ref.find(credentials)?,
        None => None,
    };
    Ok(ModelChoice { config: model.clone(), key })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::report::tests::Lines;
    use super::*;

    /// Credentials from variables.
    pub(in crate::agent) fn from_variables(variables: &Environment) -> Credentials {
        decode_variables(variables, &Lines::new().0).unwrap_or_default()
    }

    fn paths(dir: &Path) -> Paths {
        Paths::of(&[("AL_CREDENTIALS_PATH", dir.as_os_str())].into_iter().collect())
    }

    fn write(dir: &Path, file: &str, content: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn exposed<'c>(credentials: &'c Credentials, reference: &str, field: &str) -> Option<&'c str> {
        credentials.field(reference, field).map(Secret::expose)
    }

    #[test]
    fn files_two_levels_deep_are_loaded_and_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "github_token/default/token", "ghp_x\n");
        write(dir.path(), "git_ssh/my-bot/id_rsa", "-----BEGIN\nkey\n-----END\n");
        write(dir.path(), "git_ssh/my-bot/.hidden", "x");
        write(dir.path(), "git_ssh/my-bot/sub/deep", "x");
        write(dir.path(), "README", "x");
        write(dir.path(), "git_ssh/stray", "x");
        let (report, lines) = Lines::new();
        let loaded = load(&paths(dir.path()), &Environment::default(), None, Need::Some, &report).unwrap();
        assert_eq!(exposed(&loaded, "github_token", "token"), Some("ghp_x"));
        assert_eq!(exposed(&loaded, "git_ssh:my-bot", "id_rsa"), Some("-----BEGIN\nkey\n-----END"));
        assert_eq!(loaded.values().count(), 2);
        assert_eq!(lines.brief(), ["info credentials loaded from volume {}"]);
    }

    #[test]
    fn a_value_that_is_not_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/default/f", "x");
        fs::write(dir.path().join("a/default/f"), b"\xff").unwrap();
        let error = load_directory(dir.path()).err().unwrap().to_string();
        assert!(error.ends_with("a/default/f: not UTF-8"), "{error}");
    }

    #[test]
    fn variables_are_the_second_source() {
        let dir = tempfile::tempdir().unwrap();
        let variables: Environment = [
            ("AL_SECRET_git_ssh__my_x2dbot__id_rsa", " key\n"),
            ("AL_SECRET_a__b", "two parts"),
            ("AL_SECRET_a__b__c__d", "four parts"),
            ("AL_SECRET_empty__default__token", ""),
            ("AL_SECRET_a__b_xff__c", "bad bytes"),
        ]
        .into_iter()
        .collect();
        let (report, lines) = Lines::new();
        let loaded = load(&paths(dir.path()), &variables, None, Need::Some, &report).unwrap();
        assert_eq!(exposed(&loaded, "git_ssh:my-bot", "id_rsa"), Some("key"));
        assert_eq!(loaded.values().count(), 1);
        let lines = lines.brief();
        assert!(lines[0].starts_with("warn ") && lines[0].contains("AL_SECRET_a__b_xff__c"), "{lines:?}");
        assert_eq!(lines[1..], ["info credentials loaded from env vars {}"]);
    }

    #[test]
    fn an_empty_directory_that_is_no_mount_is_no_source() {
        let dir = tempfile::tempdir().unwrap();
        let (report, _) = Lines::new();
        let error = load(&paths(dir.path()), &Environment::default(), None, Need::Some, &report).err().unwrap();
        assert!(error.to_string().contains("no credentials available"), "{error}");
        assert!(load(&paths(dir.path()), &Environment::default(), None, Need::None, &report).is_ok());
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(dir.path()));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let loaded = parse_answer(br#"{"git_ssh":{"default":{"id_rsa":"k","username":"bot"}}}"#).unwrap();
        assert_eq!(exposed(&loaded, "git_ssh:default", "username"), Some("bot"));
        let error = format!("{:#}", parse_answer(br#"{"a":{"b":"hunter2hunter2"}}"#).err().unwrap());
        assert!(!error.contains("hunter2"), "{error}");
    }

    fn model(provider: &str) -> ModelConfig {
        ModelConfig { provider: provider.into(), model: "m".into(), ..ModelConfig::default() }
    }

    #[test]
    fn the_key_of_a_model_is_the_first_of_three() {
        #[track_caller]
        fn case(model: ModelConfig, refs: &[&str], expected: Option<(&str, bool)>) {
            let refs: Vec<String> = refs.iter().map(|&text| text.to_owned()).collect();
            let found = KeyRef::of(&model, &refs);
            assert_eq!(found.as_ref().map(|key| (key.reference.as_str(), key.demanded)), expected);
        }
        let named = ModelConfig { credential: Some("shared:ai".into()), ..model("anthropic") };
        case(named, &["anthropic_key:team"], Some(("shared:ai", true)));
        case(model("anthropic"), &["github_token", "anthropic_key:team"], Some(("anthropic_key:team", true)));
        case(model("anthropic"), &["openai_key"], Some(("anthropic_key", true)));
        case(model("custom"), &[], Some(("custom_key", false)));
        case(model("custom"), &["custom_key:a"], Some(("custom_key:a", true)));
        case(model("mock"), &["mock_key"], None);
    }

    fn credentials(values: &[(&str, &str)]) -> Credentials {
        let mut credentials = Credentials::default();
        for (reference, token) in values {
            let (kind, instance) = split_ref(reference);
            credentials.insert(kind, instance, "token", token);
        }
        credentials
    }

    #[test]
    fn a_missing_first_key_is_an_error_and_a_missing_further_one_a_warning() {
        let (report, lines) = Lines::new();
        let mut config = AgentConfig {
            name: "dev".into(),
            models: vec![model("anthropic"), model("openai")],
            ..AgentConfig::default()
        };
        let error = choose_models(&config, &credentials(&[("openai_key", "k")]), &report).err().unwrap().to_string();
        assert!(error.contains("missing anthropic_key credential") && error.contains("al doctor"), "{error}");
        let choices = choose_models(&config, &credentials(&[("anthropic_key", " k \n")]), &report).unwrap();
        assert_eq!(choices.len(), 1);
        assert_eq!(choices[0].key.as_ref().map(Secret::expose), Some("k"));
        assert!(
            lines.brief()[0].starts_with("warn fallback model skipped {\"provider\":\"openai\""),
            "{:?}",
            lines.brief()
        );
        config.credentials = vec!["anthropic_key:team".into()];
        let error = choose_models(&config, &credentials(&[("anthropic_key", "k")]), &report).err().unwrap().to_string();
        assert!(error.contains("missing anthropic_key credential") && error.contains("anthropic_key:team"), "{error}");
    }

    #[test]
    fn models_that_cannot_work_in_a_container_are_refused() {
        let (report, _) = Lines::new();
        let config = AgentConfig { name: "dev".into(), ..AgentConfig::default() };
        let error = choose_models(&config, &Credentials::default(), &report).err().unwrap().to_string();
        assert!(error.contains("no model configured"), "{error}");
        let pi = ModelConfig { auth_type: Some("pi_auth".into()), ..model("anthropic") };
        let config = AgentConfig { name: "dev".into(), model: Some(pi), ..AgentConfig::default() };
        let error = choose_models(&config, &credentials(&[("anthropic_key", "k")]), &report).err().unwrap().to_string();
        assert!(error.contains("uses pi_auth which is not supported in container mode"), "{error}");
    }

    #[test]
    fn only_some_runs_need_no_credentials() {
        #[track_caller]
        fn case(model: Option<ModelConfig>, refs: &[&str], has_script: bool, expected: Need) {
            let credentials = refs.iter().map(|&text| text.to_owned()).collect();
            let config = AgentConfig { model, credentials, ..AgentConfig::default() };
            assert_eq!(Need::of(&config, has_script), expected);
        }
        case(Some(model("anthropic")), &[], false, Need::Some);
        case(Some(model("anthropic")), &[], true, Need::None);
        case(Some(model("anthropic")), &["github_token"], true, Need::Some);
        case(Some(model("mock")), &[], false, Need::None);
        case(Some(model("custom")), &[], false, Need::None);
        case(Some(model("custom")), &["custom_key"], false, Need::Some);
        case(None, &[], true, Need::None);
        case(None, &[], false, Need::Some);
    }
}
