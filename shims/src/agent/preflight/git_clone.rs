//! `git-clone`: a repository for the run (containers.md §12.2).

use std::borrow::Cow;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::{Step, command};
use crate::agent::report::Field;
use crate::user_info::hide_user_info;

/// Clones `repo` to `dest`.
///
/// # Errors
/// A parameter is missing, or git fails.
pub(super) fn run(step: &Step<'_>) -> Result<()> {
    let (repo, dest) = (step.mandatory("repo")?, step.mandatory("dest")?);
    let raw = |name| step.raw(name).unwrap_or_default();
    let shown = hide_user_info(raw("repo"));
    step.report.info("preflight git-clone", &[("repo", Field::Text(&shown)), ("dest", raw("dest").into())]);
    let mut git = Command::new("git");
    git.arg("clone");
    if let Some(branch) = step.optional("branch").filter(|branch| !branch.is_empty()) {
        git.arg("--branch").arg(branch);
    }
    if let Some(depth) = step.params.get("depth").and_then(positive_integer) {
        git.arg("--depth").arg(depth.to_string());
    }
    git.arg("--").arg(&*url(&repo)).arg(step.path(&dest));
    command::run(git, None, step)?;
    step.report.info("preflight git-clone done", &[("dest", raw("dest").into())]);
    Ok(())
}

/// The URL of a repository; a bare `owner/repo` is one at GitHub, over SSH.
fn url(repo: &str) -> Cow<'_, str> {
    if repo.contains("://") || repo.starts_with("git@") {
        repo.into()
    } else {
        format!("git@github.com:{repo}.git").into()
    }
}

fn positive_integer(value: &Value) -> Option<u64> {
    let number =
        value.as_u64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as u64));
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::super::tests::run_steps;
    use super::*;

    #[test]
    fn short_names_are_repositories_at_github() {
        assert_eq!(url("acme/app"), "git@github.com:acme/app.git");
        assert_eq!(url("git@example.com:acme/app.git"), "git@example.com:acme/app.git");
        assert_eq!(url("https://example.com/a"), "https://example.com/a");
    }

    #[test]
    fn only_whole_positive_numbers_are_depths() {
        assert_eq!(positive_integer(&json!(2)), Some(2));
        assert_eq!(positive_integer(&json!(2.0)), Some(2));
        for value in [json!(0), json!(-1), json!(1.5), json!("3"), json!(null)] {
            assert_eq!(positive_integer(&value), None, "{value}");
        }
    }

    fn git(dir: &Path, args: &[&str]) {
        let mut git = Command::new("git");
        git.current_dir(dir).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(args);
        assert!(git.output().unwrap().status.success(), "{args:?}");
    }

    /// A repository with two commits on the branch `side` and one on `main`.
    fn repository(dir: &Path) -> String {
        let repo = dir.join("a repo");
        fs::create_dir(&repo).unwrap();
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["commit", "-q", "--allow-empty", "-m", "one"]);
        git(&repo, &["checkout", "-q", "-b", "side"]);
        git(&repo, &["commit", "-q", "--allow-empty", "-m", "two"]);
        git(&repo, &["checkout", "-q", "main"]);
        format!("file://{}", repo.display())
    }

    #[test]
    fn clones_a_branch_to_a_depth_into_a_name_with_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let params = json!({"repo": "${REPO}", "dest": "work/my ${NAME}; touch pwned", "branch": "side", "depth": 1});
        let steps = json!([{"provider": "git-clone", "params": params}]);
        let (error, lines) = run_steps(steps, dir.path(), &[("REPO", &repo), ("NAME", "clone")]);
        assert_eq!(error, None);
        let clone = dir.path().join("work/my clone; touch pwned");
        let log = Command::new("git").current_dir(clone).args(["log", "--format=%s"]).output().unwrap();
        assert_eq!(String::from_utf8(log.stdout).unwrap(), "two\n");
        assert_eq!(
            lines[1..3],
            [
                r#"info preflight git-clone {"repo":"${REPO}","dest":"work/my ${NAME}; touch pwned"}"#,
                r#"info preflight git-clone done {"dest":"work/my ${NAME}; touch pwned"}"#,
            ]
        );
    }

    #[test]
    fn name_and_password_in_the_url_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let params = json!({"repo": "http://ann:hunter2@127.0.0.1:1/x", "dest": "y"});
        let (error, lines) = run_steps(json!([{"provider": "git-clone", "params": params}]), dir.path(), &[]);
        assert!(lines.iter().any(|line| line.contains(r#""repo":"http://***@127.0.0.1:1/x""#)), "{lines:?}");
        let said = format!("{} {}", error.unwrap(), lines.join(" "));
        assert!(!said.contains("ann") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_repository_that_is_an_option_stays_an_argument() {
        let dir = tempfile::tempdir().unwrap();
        let steps =
            json!([{"provider": "git-clone", "params": {"repo": "--upload-pack=touch pwned;://", "dest": "d"}}]);
        let (error, _) = run_steps(steps, dir.path(), &[]);
        assert!(error.unwrap().contains("status 128"));
        assert!(!dir.path().join("pwned").exists());
    }
}
