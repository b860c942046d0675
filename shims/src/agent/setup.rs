//! Before anything can be logged about the run: directories, the run file, and the environment that comes from both
//! (containers.md §10.2 steps 1–3).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::report::Reporter;
use super::supervisor::CHILD_VARIABLE;
use crate::env::Environment;
use crate::wire::paths;
use crate::wire::run_file::RunFile;
use crate::wire::secret_variable;

/// Search path of an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where things are. Variables move them, so that everything can be tried outside a container.
pub(super) struct Paths {
    /// Baked files of the agent (`AL_STATIC_DIR`).
    pub statics: PathBuf,
    /// Staged credentials (`AL_CREDENTIALS_PATH`).
    pub credentials: PathBuf,
    /// The one writable place (`AL_TMP_DIR`).
    pub tmp: PathBuf,
    /// Working directory of the model's tools (`AL_TOOL_DIR`).
    pub tools: PathBuf,
    /// In-container programs (`AL_BIN_DIR`).
    pub bin: PathBuf,
}

impl Paths {
    /// The usual places, unless the environment names others.
    pub(super) fn of(environment: &Environment) -> Self {
        // The working directory is about to change.
        let absolute = |path: &str| std::path::absolute(path).unwrap_or_else(|_| path.into());
        let place = |variable, usual| absolute(environment.get_non_empty(variable).unwrap_or(usual));
        let statics = place("AL_STATIC_DIR", paths::STATIC_DIR);
        Self {
            tools: environment.get_non_empty("AL_TOOL_DIR").map_or_else(|| statics.clone(), absolute),
            credentials: place("AL_CREDENTIALS_PATH", paths::CREDENTIALS_DIR),
            tmp: place("AL_TMP_DIR", paths::TMP_DIR),
            bin: place("AL_BIN_DIR", paths::BIN_DIR),
            statics,
        }
    }

    /// Directory of the signal files.
    pub(super) fn signals(&self) -> PathBuf {
        self.tmp.join("signals")
    }
}

/// Takes out of the environment what was meant for this process alone, and gives the `AL_SECRET_*` variables among it.
pub(super) fn take_private_variables(environment: &mut Environment) -> Environment {
    environment.remove(CHILD_VARIABLE);
    let is_secret = |name: &str| name.starts_with(secret_variable::PREFIX);
    let names = environment.iter().filter_map(|(name, _)| name.to_str()).filter(|name| is_secret(name));
    let names: Vec<String> = names.map(str::to_owned).collect();
    names.into_iter().filter_map(|name| environment.remove(&name).map(|value| (name, value))).collect()
}

/// Makes the work area and points the environment to it.
///
/// # Errors
/// A directory cannot be made, or a file of an earlier run cannot be removed.
pub(super) fn prepare_directories(paths: &Paths, environment: &mut Environment) -> Result<()> {
    let signals = paths.signals();
    for dir in [&signals, &paths.tmp.join("workspace")] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    for name in ["rerun", "status", "return", "exit"] {
        remove_if_there(&signals.join(name))?;
    }
    std::env::set_current_dir(&paths.tmp).with_context(|| format!("change to {}", paths.tmp.display()))?;
    let search_path = environment.get_non_empty("PATH").unwrap_or(DEFAULT_PATH);
    environment.set("PATH", format!("{}:{search_path}", paths.bin.display()));
    environment.set("HOME", &paths.tmp);
    environment.set("AL_SIGNAL_DIR", signals);
    Ok(())
}

/// Removes a file; one that is not there is fine.
pub(super) fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Reads the run file when there is one.
///
/// # Errors
/// It cannot be read or understood.
pub(super) fn load_run_file(environment: &Environment) -> Result<Option<RunFile>> {
    let path = Path::new(environment.get_non_empty("AL_RUN_FILE").unwrap_or(paths::RUN_FILE));
    let Some(text) = read_if_there(path)? else { return Ok(None) };
    let file: RunFile = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
    ensure!(file.v == 1, "{}: version {} of the run file, expected 1", path.display(), file.v);
    Ok(Some(file))
}

/// Content of a file; `None` when there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Puts what the run file says into the environment; without a run file the environment stays as it is.
pub(super) fn apply_run_file(file: &RunFile, environment: &mut Environment) {
    let secret = file.shutdown_secret.as_ref().map(|secret| secret.expose());
    for (name, value) in [
        ("GATEWAY_URL", file.gateway_url.as_deref()),
        ("SHUTDOWN_SECRET", secret),
        ("OTEL_TRACE_PARENT", file.trace_parent.as_deref()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", file.otlp_endpoint.as_deref()),
        ("AL_AGENT_NAME", Some(file.agent_name.as_str())),
        ("AL_INSTANCE_ID", Some(file.instance_id.as_str())),
        ("AL_TRIGGER_TYPE", Some(file.trigger.kind.as_str())),
    ] {
        match value {
            Some(value) => environment.set(name, value),
            None => drop(environment.remove(name)),
        }
    }
}

/// Checks the telemetry context that the host passed on. The run's span is the host's; what runs in here may make
/// spans below it, so a context that nobody could use is worth a warning.
pub(super) fn check_telemetry(environment: &Environment, report: &Reporter) {
    let parent = environment.get_non_empty("OTEL_TRACE_PARENT");
    let endpoint = environment.get_non_empty("OTEL_EXPORTER_OTLP_ENDPOINT");
    if parent.is_none() && endpoint.is_none() {
        return;
    }
    let problem = if parent.is_some_and(|parent| !is_trace_parent(parent)) {
        Some("OTEL_TRACE_PARENT is not of the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")
    } else if endpoint.is_some_and(|endpoint| !endpoint.starts_with("http://") && !endpoint.starts_with("https://")) {
        Some("OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https URL")
    } else {
        None
    };
    match problem {
        Some(problem) => report.warn("failed to initialize container telemetry", &[("error", problem.into())]),
        None => report.info("telemetry initialized in container", &[]),
    }
}

fn is_trace_parent(text: &str) -> bool {
    let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], [version, trace, span, flags]
        if is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::Lines;
    use super::*;

    #[test]
    fn private_variables_do_not_reach_children() {
        let mut environment: Environment =
            [("PATH", "/bin"), ("AL_AGENT_CHILD", "1"), ("AL_SECRET_a__b__c", "v"), ("AL_SECRETS", "x")]
                .into_iter()
                .collect();
        let secrets = take_private_variables(&mut environment);
        assert_eq!(secrets.get("AL_SECRET_a__b__c"), Some("v"));
        let names: Vec<_> = environment.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["AL_SECRETS", "PATH"]);
    }

    #[test]
    fn a_run_file_replaces_variables_and_its_nulls_remove_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        fs::write(
            &path,
            r#"{"v":1,"agentName":"dev","instanceId":"dev-1a2b3c4d","gatewayUrl":null,"shutdownSecret":"s",
                "timeoutSeconds":5,"trigger":{"type":"webhook","source":"github"},"callDepth":0}"#,
        )
        .unwrap();
        let mut environment: Environment =
            [("AL_RUN_FILE", path.to_str().unwrap()), ("GATEWAY_URL", "http://old"), ("OTEL_TRACE_PARENT", "old")]
                .into_iter()
                .collect();
        let file = load_run_file(&environment).unwrap().unwrap();
        apply_run_file(&file, &mut environment);
        assert_eq!(environment.get("GATEWAY_URL"), None);
        assert_eq!(environment.get("OTEL_TRACE_PARENT"), None);
        assert_eq!(environment.get("SHUTDOWN_SECRET"), Some("s"));
        assert_eq!(environment.get("AL_TRIGGER_TYPE"), Some("webhook"));
        assert_eq!(environment.get("AL_INSTANCE_ID"), Some("dev-1a2b3c4d"));
    }

    #[test]
    fn a_run_file_that_cannot_be_understood_is_an_error_and_a_missing_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let environment: Environment = [("AL_RUN_FILE", path.as_os_str())].into_iter().collect();
        assert!(load_run_file(&environment).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        let error = load_run_file(&environment).err().unwrap();
        assert!(error.to_string().contains("run.json"), "{error}");
    }

    #[test]
    fn telemetry_context_is_checked() {
        #[track_caller]
        fn case(variables: &[(&str, &str)], expected: &[&str]) {
            let (report, lines) = Lines::new();
            check_telemetry(&variables.iter().copied().collect(), &report);
            let lines = lines.brief();
            assert_eq!(lines.len(), expected.len(), "{lines:?}");
            assert!(lines.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{lines:?}");
        }
        let parent = format!("00-{}-{}-01", "a".repeat(32), "b".repeat(16));
        case(&[], &[]);
        case(&[("OTEL_TRACE_PARENT", &parent)], &["info telemetry initialized in container"]);
        case(&[("OTEL_TRACE_PARENT", "x")], &["warn failed to initialize container telemetry"]);
        case(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")], &["warn failed to initialize container telemetry"]);
    }
}
