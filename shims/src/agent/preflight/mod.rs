//! Steps that prepare a run before the script or the model begins (containers.md §12).

mod command;
mod git_clone;
mod http;
mod interpolate;
mod output;
mod shell;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use super::report::{Field, Reporter};
use crate::env::Environment;
use crate::user_info::hide_user_info;
use crate::wire::config::PreflightStep;

/// Characters of commands and URLs in log lines.
const LOG_LIMIT: usize = 200;

/// Runs the steps in order.
///
/// # Errors
/// A required step failed; further ones did not run.
pub(super) fn run(steps: &[PreflightStep], tmp: &Path, environment: &Environment, report: &Reporter) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    report.info("preflight starting", &[("stepCount", (steps.len() as u64).into())]);
    for (index, step) in steps.iter().enumerate() {
        let name = format!("preflight step [{}/{}] {}", index + 1, steps.len(), step.provider);
        let Err(error) = run_step(step, tmp, environment, report) else {
            report.info(&format!("{name} done"), &[]);
            continue;
        };
        // What a command said may name a URL, too.
        let text = format!("{error:#}");
        let text = hide_user_info(&text);
        let fields = [("error", Field::Text(&text))];
        if step.required {
            report.error(&format!("{name} failed (required)"), &fields);
            bail!("preflight step \"{}\" failed: {text}", step.provider);
        }
        report.warn(&format!("{name} failed (optional, continuing)"), &fields);
    }
    report.info("preflight complete", &[]);
    Ok(())
}

fn run_step(step: &PreflightStep, tmp: &Path, environment: &Environment, report: &Reporter) -> Result<()> {
    let step = Step {
        params: &step.params,
        limit: step.timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        provider: &step.provider,
        tmp,
        environment,
        report,
    };
    match step.provider {
        "shell" => shell::run(&step),
        "http" => http::run(&step),
        "git-clone" => git_clone::run(&step),
        other => bail!("unknown preflight provider \"{other}\", known are shell, http, git-clone"),
    }
}

/// What a provider works with.
struct Step<'a> {
    provider: &'a str,
    params: &'a Map<String, Value>,
    /// Limit of this step besides that of the run.
    limit: Option<Duration>,
    /// Working directory.
    tmp: &'a Path,
    environment: &'a Environment,
    report: &'a Reporter,
}

impl<'a> Step<'a> {
    /// A parameter as configured; `None` when it is missing, empty or not a text.
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.params.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter as configured.
    ///
    /// # Errors
    /// It is missing, empty or not a text.
    fn raw_mandatory(&self, name: &str) -> Result<&'a str> {
        self.raw(name).with_context(|| self.requires(name))
    }

    /// A parameter with its variables replaced.
    ///
    /// # Errors
    /// It is missing, not a text, or empty before or after that.
    fn mandatory(&self, name: &str) -> Result<String> {
        let text = interpolate::text(self.raw_mandatory(name)?, self.environment);
        if text.is_empty() {
            bail!("{}; its variables are not set", self.requires(name));
        }
        Ok(text)
    }

    /// An optional parameter with its variables replaced.
    fn optional(&self, name: &str) -> Option<String> {
        let text = self.params.get(name)?.as_str()?;
        Some(interpolate::text(text, self.environment))
    }

    fn requires(&self, name: &str) -> String {
        let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        format!("{} requires {article} '{name}' param", self.provider)
    }

    /// A path, relative ones below the work area.
    fn path(&self, path: &str) -> PathBuf {
        self.tmp.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::Lines;
    use super::*;

    /// Runs steps given as JSON; gives error and log lines.
    pub(super) fn run_steps(steps: Value, tmp: &Path, variables: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
        let steps: Vec<PreflightStep> = serde_json::from_value(steps).unwrap();
        let (report, lines) = Lines::new();
        let mut environment = Environment::of_process();
        variables.iter().for_each(|(name, value)| environment.set(name, value));
        let error = run(&steps, tmp, &environment, &report).err().map(|error| format!("{error:#}"));
        (error, lines.brief())
    }

    #[test]
    fn no_steps_leave_no_trace() {
        assert_eq!(run_steps(serde_json::json!([]), Path::new("/tmp"), &[]), (None, vec![]));
    }

    #[test]
    fn a_required_failure_ends_it_and_an_optional_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (error, lines) = run_steps(
            serde_json::json!([
                {"provider": "shell", "required": false},
                {"provider": "ftp", "params": {}},
                {"provider": "shell", "params": {"command": "touch reached"}},
            ]),
            dir.path(),
            &[],
        );
        let error = error.unwrap();
        assert!(error.contains("\"ftp\"") && error.contains("shell, http, git-clone"), "{error}");
        assert!(!dir.path().join("reached").exists());
        assert_eq!(
            lines,
            [
                "info preflight starting {\"stepCount\":3}",
                "warn preflight step [1/3] shell failed (optional, continuing) {\"error\":\"shell requires a 'command' param\"}",
                "error preflight step [2/3] ftp failed (required) {\"error\":\"unknown preflight provider \\\"ftp\\\", known are shell, http, git-clone\"}",
            ]
        );
    }

    #[test]
    fn missing_params_are_named() {
        #[track_caller]
        fn case(provider: &str, params: Value, expected: &str) {
            let steps = serde_json::json!([{"provider": provider, "params": params}]);
            let (error, _) = run_steps(steps, Path::new("/tmp"), &[("AL_EMPTY", "")]);
            let error = error.unwrap();
            assert!(error.contains(expected) && error.contains(&format!("\"{provider}\"")), "{error}");
        }
        case("shell", serde_json::json!({"command": ""}), "requires a 'command' param");
        case("shell", serde_json::json!({"command": 7}), "requires a 'command' param");
        case("http", serde_json::json!({"output": "o"}), "requires a 'url' param");
        case("http", serde_json::json!({"url": "http://x"}), "requires an 'output' param");
        case("http", serde_json::json!({"url": "${AL_EMPTY}", "output": "o"}), "requires a 'url' param");
        case("git-clone", serde_json::json!({"dest": "d"}), "requires a 'repo' param");
        case("git-clone", serde_json::json!({"repo": "a/b"}), "requires a 'dest' param");
    }
}
