//! What an agent's credentials do to the environment of its tools: variables, and `git` and `ssh` that know how to use them
//! (containers.md §10.6). The same in a container and in a chat on the host.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::credential_types::{self, Group, split_ref};
use crate::env::Environment;
use crate::secret::Secret;
use crate::text::{shell_quote, ssh_path};

/// Prints the token for git when it asks; the token itself stays in the environment, out of every command line.
const HELPER: &str = r#"!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f"#;
/// Longest value of a variable that the system accepts with every name used here.
const LONGEST_VALUE: usize = 131_000;

/// Where values are looked up: by ref and field; `None` when there is none or it is empty.
pub type Lookup<'a> = &'a dyn Fn(&str, &str) -> Option<&'a Secret>;

/// Sets the variables of all refs of the agent, in their order.
///
/// # Errors
/// A value cannot be a variable.
pub fn set_credential_variables(refs: &[String], lookup: Lookup<'_>, environment: &mut Environment) -> Result<()> {
    for reference in refs {
        let Some(kind) = credential_types::find(split_ref(reference).0) else { continue };
        if kind.group != Group::Agent {
            continue;
        }
        for field in kind.fields {
            let (Some(variable), Some(value)) = (field.variable, lookup(reference, field.name)) else {
                continue;
            };
            let value = value.expose();
            ensure!(!value.contains('\0'), "{reference}: field {} contains a NUL byte", field.name);
            ensure!(value.len() <= LONGEST_VALUE, "{reference}: field {} is too long for a variable", field.name);
            environment.set(variable, value);
            if variable == "GITHUB_TOKEN" {
                environment.set("GH_TOKEN", value);
            }
        }
    }
    Ok(())
}

/// Makes `git` use `GITHUB_TOKEN` for github.com and for the enterprise host that `GH_HOST` names, and for no other host.
/// What else is configured to give a login for these hosts, or to store it, is not asked. Returns whether there is a token.
pub fn set_up_https(environment: &mut Environment) -> bool {
    if environment.get_non_empty("GITHUB_TOKEN").is_none() {
        return false;
    }
    let enterprise = environment.get_non_empty("GH_HOST").filter(|host| *host != "github.com").map(str::to_owned);
    environment.set("GIT_TERMINAL_PROMPT", "0");
    for host in [Some("github.com".to_owned()), enterprise].into_iter().flatten() {
        let key = format!("credential.https://{host}.helper");
        // The empty value empties the list of helpers: a store of the user's would keep the token for good.
        append_git_config(environment, &key, "");
        append_git_config(environment, &key, HELPER);
    }
    true
}

fn append_git_config(environment: &mut Environment, key: &str, value: &str) {
    let count: u32 = environment.get("GIT_CONFIG_COUNT").and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    environment.set(format!("GIT_CONFIG_KEY_{count}"), key);
    environment.set(format!("GIT_CONFIG_VALUE_{count}"), value);
    environment.set("GIT_CONFIG_COUNT", (count + 1).to_string());
}

/// Writes the key of the agent's first `git_ssh` ref into `dir`, which becomes private, makes `git` use it, and sets author
/// and committer. Returns whether there is a key.
///
/// # Errors
/// A file cannot be written.
pub fn set_up_ssh(refs: &[String], lookup: Lookup<'_>, dir: &Path, environment: &mut Environment) -> Result<bool> {
    let Some(reference) = refs.iter().find(|reference| split_ref(reference).0 == "git_ssh") else { return Ok(false) };
    let field = |name| lookup(reference, name).map(|value| value.expose());
    let key = field("id_rsa");
    if let Some(key) = key {
        let command = install_key(key, field("known_hosts"), dir)?;
        environment.set("GIT_SSH_COMMAND", command);
    }
    for (name, variables) in [
        ("username", ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"]),
        ("email", ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]),
    ] {
        if let Some(value) = field(name) {
            variables.into_iter().for_each(|variable| environment.set(variable, value));
        }
    }
    Ok(key.is_some())
}

/// Writes key and known hosts; gives the command for `GIT_SSH_COMMAND`.
fn install_key(key: &str, known_hosts: Option<&str>, dir: &Path) -> Result<String> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| format!("create {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(|| format!("chmod {}", dir.display()))?;
    let key_file = dir.join("id_rsa");
    let hosts_file = dir.join("known_hosts");
    write_private(&key_file, key)?;
    let checking = match known_hosts {
        Some(hosts) => {
            write_private(&hosts_file, hosts)?;
            "yes"
        }
        None => "accept-new",
    };
    Ok(format!(
        "ssh {} -o StrictHostKeyChecking={checking} -o IdentitiesOnly=yes -o {}",
        key_option(&key_file.to_string_lossy()),
        known_hosts_option(&hosts_file.to_string_lossy())
    ))
}

/// The option for the key, as words of a shell. `-i` looks for the file before it replaces what follows a `%`, so that no
/// spelling of such a path is right for it.
fn key_option(path: &str) -> String {
    if path.contains('%') {
        return format!("-o {}", shell_quote(&format!("IdentityFile={}", ssh_path(path))));
    }
    match shell_quote(path) {
        // In quotes even if it needs none.
        Cow::Borrowed(plain) => format!("-i \"{plain}\""),
        quoted => format!("-i {quoted}"),
    }
}

/// The option for known hosts, as a word of a shell.
fn known_hosts_option(path: &str) -> String {
    let is_plain = !path.contains('%') && matches!(shell_quote(path), Cow::Borrowed(_));
    let value = if is_plain { path.to_owned() } else { ssh_path(path) };
    shell_quote(&format!("UserKnownHostsFile={value}")).into_owned()
}

fn write_private(file: &Path, content: &str) -> Result<()> {
    if let Err(error) = fs::remove_file(file)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("remove {}", file.display()));
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| writeln!(open, "{content}"))
        .with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Values by ref and field.
    struct Values(Vec<(&'static str, &'static str, Secret)>);

    impl Values {
        fn new(values: &[(&'static str, &'static str, &str)]) -> Self {
            Self(values.iter().map(|&(reference, field, value)| (reference, field, Secret::new(value))).collect())
        }

        fn find(&self, reference: &str, field: &str) -> Option<&Secret> {
            let found = self.0.iter().find(|(known, name, value)| {
                split_ref(known) == split_ref(reference) && *name == field && !value.is_empty()
            });
            found.map(|(_, _, value)| value)
        }
    }

    fn refs(refs: &[&str]) -> Vec<String> {
        refs.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn variables_follow_the_order_of_refs() {
        let values = Values::new(&[
            ("github_token", "token", "one"),
            ("github_token:bot", "token", "two"),
            ("aws", "access_key_id", "AKIA"),
            ("aws", "default_region", ""),
            ("anthropic_key", "token", "sk-ant"),
            ("sentry_token", "token", "not listed"),
        ]);
        let mut environment = Environment::default();
        let refs = refs(&["github_token", "anthropic_key", "aws", "unknown", "github_token:bot"]);
        set_credential_variables(&refs, &|reference, field| values.find(reference, field), &mut environment).unwrap();
        let variables: Vec<_> =
            environment.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(variables, [("AWS_ACCESS_KEY_ID", "AKIA"), ("GH_TOKEN", "two"), ("GITHUB_TOKEN", "two")]);
    }

    #[test]
    fn a_value_that_cannot_be_a_variable_is_named_but_not_shown() {
        let values = Values::new(&[("github_token", "token", &"x".repeat(140_000))]);
        let lookup = |reference: &str, field: &str| values.find(reference, field);
        let error = set_credential_variables(&refs(&["github_token"]), &lookup, &mut Environment::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("github_token") && !error.contains("xxxx"), "{error}");
    }

    #[test]
    fn the_helper_is_appended_to_what_is_configured() {
        let mut environment: Environment = [
            ("GITHUB_TOKEN", "t"),
            ("GH_HOST", "ghe.example.com"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.pager"),
        ]
        .into_iter()
        .collect();
        assert!(set_up_https(&mut environment));
        assert_eq!(environment.get("GIT_CONFIG_COUNT"), Some("5"));
        assert_eq!(environment.get("GIT_CONFIG_KEY_0"), Some("core.pager"));
        for (host, first) in [("github.com", 1), ("ghe.example.com", 3)] {
            for (number, expected) in [(first, ""), (first + 1, HELPER)] {
                let key = format!("credential.https://{host}.helper");
                assert_eq!(environment.get(&format!("GIT_CONFIG_KEY_{number}")), Some(key.as_str()));
                assert_eq!(environment.get(&format!("GIT_CONFIG_VALUE_{number}")), Some(expected));
            }
        }
        assert_eq!(environment.get("GIT_TERMINAL_PROMPT"), Some("0"));
    }

    /// Has `git credential` do something about github.com in this environment; what it prints.
    fn git_credential(action: &str, more: &str, environment: &Environment) -> String {
        let mut git = Command::new("git");
        git.args(["credential", action]).env_clear().envs(environment.iter()).stdin(Stdio::piped());
        let mut running = git.stdout(Stdio::piped()).spawn().unwrap();
        write!(running.stdin.take().unwrap(), "protocol=https\nhost=github.com\n{more}\n").unwrap();
        String::from_utf8(running.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn git_takes_the_token_before_any_stored_login_and_stores_it_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let stored = home.path().join(".git-credentials");
        let more = "[credential \"https://github.com\"]\n\thelper = store\n";
        fs::write(home.path().join(".gitconfig"), format!("[credential]\n\thelper = store\n{more}")).unwrap();
        fs::write(&stored, "https://me:mine@github.com\nhttps://me:other@gitlab.com\n").unwrap();
        let before = fs::read_to_string(&stored).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut environment: Environment =
            [("HOME", home.path().to_str().unwrap()), ("PATH", &path)].into_iter().collect();
        assert!(git_credential("fill", "", &environment).contains("password=mine\n"), "the store works");
        environment.set("GITHUB_TOKEN", "ghp_agent");
        assert!(set_up_https(&mut environment));
        let login = git_credential("fill", "", &environment);
        assert!(login.contains("username=x-access-token\n") && login.contains("password=ghp_agent\n"), "{login}");
        git_credential("approve", "username=x-access-token\npassword=ghp_agent\n", &environment);
        assert_eq!(fs::read_to_string(&stored).unwrap(), before);
        git_credential("reject", "username=me\npassword=mine\n", &environment);
        assert_eq!(fs::read_to_string(&stored).unwrap(), before);
    }

    #[test]
    fn without_a_token_git_is_left_alone() {
        let mut environment: Environment = [("GITHUB_TOKEN", "")].into_iter().collect();
        assert!(!set_up_https(&mut environment));
        assert_eq!(environment.iter().count(), 1);
    }

    #[test]
    fn the_first_ssh_ref_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join(".ssh");
        let values = Values::new(&[
            ("git_ssh:a", "id_rsa", "-----BEGIN\nk\n-----END"),
            ("git_ssh:a", "username", "Bot"),
            ("git_ssh:a", "email", "bot@example.com"),
            ("git_ssh:b", "username", "Other"),
        ]);
        let mut environment = Environment::default();
        let lookup = |reference: &str, field: &str| values.find(reference, field);
        assert!(set_up_ssh(&refs(&["git_ssh:a", "git_ssh:b"]), &lookup, &ssh, &mut environment).unwrap());
        let key = ssh.join("id_rsa");
        assert_eq!(fs::read_to_string(&key).unwrap(), "-----BEGIN\nk\n-----END\n");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&ssh).unwrap().permissions().mode() & 0o777, 0o700);
        let tmp = dir.path().display();
        let expected = format!(
            "ssh -i \"{tmp}/.ssh/id_rsa\" -o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes \
             -o UserKnownHostsFile={tmp}/.ssh/known_hosts"
        );
        assert_eq!(environment.get("GIT_SSH_COMMAND"), Some(expected.as_str()));
        assert_eq!(environment.get("GIT_AUTHOR_NAME"), Some("Bot"));
        assert_eq!(environment.get("GIT_COMMITTER_EMAIL"), Some("bot@example.com"));
    }

    #[test]
    fn a_path_with_blanks_and_quotes_is_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join("it's my $HOME");
        let values = Values::new(&[("git_ssh", "id_rsa", "k")]);
        let mut environment = Environment::default();
        let lookup = |reference: &str, field: &str| values.find(reference, field);
        set_up_ssh(&refs(&["git_ssh"]), &lookup, &ssh, &mut environment).unwrap();
        let command = environment.get("GIT_SSH_COMMAND").unwrap();
        let script = format!("ssh() {{ printf '%s\\n' \"$@\"; }}; {command} host");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = words.lines().collect();
        assert_eq!(words[..2], ["-i", ssh.join("id_rsa").to_str().unwrap()]);
        // ssh takes the option apart at blanks once more.
        let hosts = format!("UserKnownHostsFile=\"{}\"", ssh.join("known_hosts").display());
        assert_eq!(words[6..], ["-o", &hosts, "host"]);
    }

    #[test]
    fn a_path_with_a_percent_sign_is_the_same_to_ssh() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join("100%h");
        let values = Values::new(&[("git_ssh", "id_rsa", "k")]);
        let mut environment = Environment::default();
        let lookup = |reference: &str, field: &str| values.find(reference, field);
        set_up_ssh(&refs(&["git_ssh"]), &lookup, &ssh, &mut environment).unwrap();
        let command = environment.get("GIT_SSH_COMMAND").unwrap();
        let shown = dir.path().display();
        assert!(command.starts_with(&format!("ssh -o 'IdentityFile=\"{shown}/100%%h/id_rsa\"' ")), "{command}");
        let output = Command::new("sh").args(["-c", &format!("{command} -F none -G example.com")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("userknownhostsfile {shown}/100%h/known_hosts\n")), "{text}");
    }

    #[test]
    fn given_host_keys_are_the_only_ones_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let values = Values::new(&[("git_ssh", "id_rsa", "k"), ("git_ssh", "known_hosts", "h ssh-ed25519 AAAA")]);
        let lookup = |reference: &str, field: &str| values.find(reference, field);
        let mut environment = Environment::default();
        set_up_ssh(&refs(&["git_ssh"]), &lookup, dir.path(), &mut environment).unwrap();
        assert!(environment.get("GIT_SSH_COMMAND").unwrap().contains("StrictHostKeyChecking=yes"));
        let hosts = fs::read_to_string(dir.path().join("known_hosts")).unwrap();
        assert_eq!(hosts, "h ssh-ed25519 AAAA\n");
    }
}
