//! Hands a run's credentials to its tools.

use std::path::Path;

use anyhow::Result;

use super::credentials::Credentials;
use super::report::Reporter;
use crate::env::Environment;
use crate::tool_environment::{set_credential_variables, set_up_https, set_up_ssh};

/// Sets the variables of the agent's refs, and what `git` and `ssh` need to use them. The key file is below `tmp`.
///
/// # Errors
/// A value cannot be a variable, or a file cannot be written.
pub(super) fn set_up(
    refs: &[String],
    credentials: &Credentials,
    tmp: &Path,
    environment: &mut Environment,
    report: &Reporter,
) -> Result<()> {
    let lookup = |reference: &str, field: &str| credentials.field(reference, field);
    set_credential_variables(refs, &lookup, environment)?;
    if set_up_https(environment) {
        report.info("git HTTPS credential helper configured", &[]);
    }
    if set_up_ssh(refs, &lookup, &tmp.join(".ssh"), environment)? {
        report.info("SSH key configured for git", &[]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::credentials::tests::from_variables;
    use super::super::report::tests::Lines;
    use super::*;

    #[test]
    fn what_was_configured_is_logged() {
        let dir = tempfile::tempdir().unwrap();
        let variables = [("AL_SECRET_github_token__default__token", "t"), ("AL_SECRET_git_ssh__default__id_rsa", "k")];
        let credentials = from_variables(&variables.into_iter().collect());
        let set_up = |refs: &[&str]| {
            let refs: Vec<String> = refs.iter().map(|&text| text.to_owned()).collect();
            let (report, lines) = Lines::new();
            let mut environment = Environment::default();
            super::set_up(&refs, &credentials, dir.path(), &mut environment, &report).unwrap();
            (lines.brief(), environment.iter().count())
        };
        assert_eq!(set_up(&[]), (Vec::new(), 0));
        let (lines, _) = set_up(&["github_token", "git_ssh"]);
        assert_eq!(lines, ["info git HTTPS credential helper configured {}", "info SSH key configured for git {}"]);
        assert!(dir.path().join(".ssh/id_rsa").is_file());
    }
}
