//! What can be wrong around a scheduler, at its start and while it runs: one clear line each, and the rest goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::al::Done;
use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::{containers, docker, inspect, try_docker};
use crate::support::http::get;
use crate::support::project::{GATE, HOOK, Project};
use crate::support::wait;
use crate::support::webhook::{Delivery, SECRET};

/// The one line that says why a start failed.
#[track_caller]
fn refused<'d>(done: &'d Done, class: &str) -> &'d str {
    assert!(done.status == 1 || done.status == 78, "exit status {}", done.status);
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with(class)).collect();
    assert_eq!(lines.len(), 1, "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    lines[0]
}

fn start_in_vain(project: &Project) -> Done {
    Daemon::launch(project, free_port(), &[], &[]).finish()
}

/// A project that has been started once: its images and its database are there.
fn used_project() -> (Project, String, PathBuf) {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("first", "exit 0");
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
    let database = project.root().join(".al/state.db");
    (project, agent, database)
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_corrupt_database_is_set_aside_and_everything_else_works() {
    let (project, _, database) = used_project();
    let garbage = b"this was a database once".repeat(500);
    fs::write(&database, &garbage).unwrap();
    let daemon = Daemon::start(&project);
    let aside: Vec<PathBuf> = fs::read_dir(project.root().join(".al"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("state.db.corrupt-"))
        .collect();
    assert_eq!(fs::read(&aside[0]).unwrap(), garbage);
    let said = project.logged("scheduler", "database was corrupt and has been set aside");
    assert_eq!((said.len(), said[0]["level"].as_i64()), (1, Some(50)));
    let recent = daemon.status();
    daemon.wait_for("scheduler: database was corrupt and has been set aside: ");
    assert_eq!(recent["running"], 0);
    daemon.work("again", "exit 0");
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_database_of_a_later_release_is_left_as_it_is() {
    let (project, _, database) = used_project();
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&database).unwrap();
    let done = start_in_vain(&project);
    let line = refused(&done, "Error: ");
    assert!(line.contains("state.db") && done.stderr.contains("99"), "{}", done.stderr);
    assert_eq!(fs::read(&database).unwrap(), before);
}

/// A file that nobody can change, whoever they are; only root can make one.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(path: &Path) -> Self {
        let mount = |args: &[&str]| {
            let status = Command::new("mount").args(args).arg(path).status().unwrap();
            assert!(status.success(), "mount {args:?}");
        };
        mount(&["--bind", path.to_str().unwrap()]);
        let made = Self(path.to_owned());
        mount(&["-o", "remount,bind,ro"]);
        made
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "slow: mounts a file system, which takes root"]
fn a_database_that_cannot_be_written_is_an_error_at_the_start() {
    let (project, _, database) = used_project();
    let before = fs::read(&database).unwrap();
    let read_only = ReadOnly::make(&database);
    let done = start_in_vain(&project);
    let line = refused(&done, "Error: ");
    assert!(line.contains("state.db") && done.stderr.contains("readonly database"), "{}", done.stderr);
    drop(read_only);
    assert_eq!(fs::read(&database).unwrap(), before);
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.items("done").len(), 1);
    daemon.stop().expect(0);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_start_without_docker_touches_nothing() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("stays", &format!("echo up; {GATE}; exit 0"));
    daemon.work("waits", "exit 0");
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let path = project.docker_that(
        "*) echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
    );
    let done = Daemon::launch(&project, daemon.port, &[], &[("PATH", &path)]).finish();
    assert!(refused(&done, "Agent error: ").contains("Docker"), "{}", done.stderr);
    assert_eq!(containers(&format!("al.agent={agent}")), [format!("al-{instance}")]);
    let daemon = daemon.again();
    project.open_gate(&instance);
    let items = daemon.wait_for_items("done", 2);
    assert!(items.iter().all(|item| item["attempts"] == 1), "{items:?}");
    daemon.wait_until_idle();
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn keys_and_secrets_that_cannot_be_read_are_told_at_the_start() {
    let project = Project::with_settings("[webhooks.hub]\ntype = \"github\"\ncredential = \"default\"\n");
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, "[[webhooks]]\nsource = \"hub\"\n");
    project.credential("github_webhook_secret", "secret", SECRET);
    Daemon::start(&project).stop().expect(0);
    let credentials = project.home().join(".action-llama/credentials");
    for name in ["github_webhook_secret/default/secret", "gateway_api_key/default/key"] {
        let (file, kept) = (credentials.join(name), project.outer().join("kept"));
        fs::rename(&file, &kept).unwrap();
        // Root reads every file, but no directory.
        fs::create_dir(&file).unwrap();
        let done = start_in_vain(&project);
        let named = name.split('/').next().unwrap();
        let about: Vec<&str> = done.stderr.lines().filter(|line| line.contains(named)).collect();
        assert!(done.status != 0 && !about.is_empty(), "status {}: {}", done.status, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        fs::remove_dir(&file).unwrap();
        fs::rename(&kept, &file).unwrap();
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_webhook_secret_that_becomes_unreadable_still_counts() {
    let project = Project::with_settings("[webhooks.hub]\ntype = \"github\"\ncredential = \"default\"\n");
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, "[[webhooks]]\nsource = \"hub\"\n");
    project.credential("github_webhook_secret", "secret", SECRET);
    let daemon = Daemon::start(&project);
    Delivery::issue("one", "one").send(daemon.address()).expect("it is signed");
    let file = project.home().join(".action-llama/credentials/github_webhook_secret/default/secret");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let mut number = 0;
    wait::until(
        "it to be noticed",
        || {
            number += 1;
            Delivery::issue(&format!("more{number}"), "more").send(daemon.address()).expect("it is signed");
            project.logged("gateway", "webhook secret not readable").len()
        },
        |count| *count > 0,
    );
    Delivery::issue("last", "last").send(daemon.address()).expect("it is signed");
    assert_eq!(project.logged("gateway", "webhook secret not readable").len(), 1, "said once");
    let unsigned = "POST /webhooks/github HTTP/1.1\r\nX-GitHub-Event: issues\r\nContent-Length: 2\r\n\r\n{}";
    let answer = crate::support::http::exchange(daemon.address(), unsigned.as_bytes()).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));
    daemon.post("/control/stop", &json!({"kill": true, "clearQueue": true}));
    daemon.finish().expect(0);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_credential_that_becomes_unreadable_fails_its_runs_and_no_others() {
    let project = Project::with_settings(&format!("workMaxAttempts = 2\nworkRetryDelay = 0\n{HOOK}"));
    project.credential("github_token", "token", "ghp_0123456789abcdefghijklmnopqrstuvwxyz");
    let needy = project.on_hook("needy", "credentials = [\"github_token\"]\n");
    let other = project.on_hook("other", "");
    let daemon = Daemon::start(&project);
    let file = project.home().join(".action-llama/credentials/github_token/default/token");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    daemon.work("e", "exit 0");
    let dead = daemon.wait_for_items("dead", 1);
    assert_eq!((&dead[0]["agent"], &dead[0]["reason"]), (&json!(needy), &json!("attempts_exhausted")));
    assert!(dead[0]["lastError"].as_str().unwrap().contains("github_token"), "{dead:?}");
    let done = daemon.wait_for_items("done", 1);
    assert_eq!(done[0]["agent"], other.as_str());
    let failed = project.logged(&needy, &format!("{needy} container run failed"));
    assert_eq!(failed.len(), 2, "one line for each attempt: {failed:?}");
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_project_file_that_is_broken_meanwhile_counts_at_the_next_start() {
    let (project, _, _) = used_project();
    let daemon = Daemon::start(&project);
    let good = fs::read_to_string(project.root().join("config.toml")).unwrap();
    project.write("config.toml", "scale = [what\n");
    daemon.work("second", "exit 0");
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
    let done = start_in_vain(&project);
    assert!(refused(&done, "Configuration error: ").contains("config.toml"), "{}", done.stderr);
    project.write("config.toml", good);
    Daemon::start(&project).stop().expect(0);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn logs_that_cannot_be_written_stop_no_run() {
    let (project, _, _) = used_project();
    let logs = project.root().join(".al/logs");
    fs::remove_dir_all(&logs).unwrap();
    fs::write(&logs, "no directory").unwrap();
    let daemon = Daemon::start(&project);
    daemon.work("second", "exit 0");
    daemon.wait_for_items("done", 2);
    let done = daemon.stop();
    done.expect(0);
    let complaints: Vec<&str> = done.stderr.lines().filter(|line| line.contains("logs")).collect();
    assert!((1..=4).contains(&complaints.len()), "once for each log: {complaints:?}");
}

/// Regression: `docker system prune` removes a network that nothing uses just now.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_network_that_was_removed_is_made_again_and_the_listener_follows_it() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    // The real one is not touched: others use it. Once the flag is there, it has another address.
    let dir = project.outer().display().to_string();
    let network = r#"{"Name":"al-net","Id":"0123456789abcdef","IPAM":{"Config":[{"Subnet":"127.0.0.0/8","Gateway":"127.0.0.9"}]},"Options":{"com.docker.network.bridge.enable_icc":"false"}}"#;
    let path = project.docker_that(&format!(
        "network) if [ -e {dir}/gone ]; then echo '{network}'; exit 0; fi;; \
         create) if [ -e {dir}/gone ] && mkdir {dir}/failed 2>/dev/null; then \
         for arg; do shift; case $arg in *al-net) arg=${{arg}}-is-gone;; esac; set -- \"$@\" \"$arg\"; done; fi"
    ));
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    wait::until(
        "the container that asks for the gateway to be gone",
        || containers(&project.label()),
        |all| all.is_empty(),
    );
    fs::write(project.outer().join("gone"), "").unwrap();
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let moved = project.logged("scheduler", "container listener moved");
    assert_eq!(
        moved.iter().map(|entry| &entry["address"]).collect::<Vec<_>>(),
        [&json!(format!("127.0.0.9:{}", daemon.port))]
    );
    assert_eq!(inspect(&format!("al-{instance}"))["HostConfig"]["ExtraHosts"], json!(["gateway:127.0.0.9"]));
    assert_eq!(get(([127, 0, 0, 9], daemon.port).into(), "/health").status, 200);
    project.open_gate(&instance);
    let items = daemon.wait_for_items("done", 1);
    assert_eq!((&items[0]["attempts"], &items[0]["lastError"]), (&json!(1), &Value::Null));
    daemon.wait_until_idle();
    daemon.stop().expect(0);
    project.assert_clean();
}

/// A network of the test's own, which `docker` shows to `al` under the name of the real one.
struct OwnNetwork(String);

impl OwnNetwork {
    fn create(project: &Project, third: u8) -> Self {
        let network = Self(project.name("net"));
        network.make(third);
        network
    }

    fn make(&self, third: u8) {
        docker(&["network", "create", "--subnet", &format!("10.213.{third}.0/28"), &self.0]);
    }

    /// Takes the place of the name in both directions.
    fn arm(&self) -> String {
        let name = &self.0;
        format!(
            "network|create) for arg; do shift; case $arg in al-net) arg={name};; esac; set -- \"$@\" \"$arg\"; done; \
             if [ $1 = network ]; then PATH=${{PATH#*:}} docker \"$@\" | sed s/{name}/al-net/g; exit; fi"
        )
    }
}

impl Drop for OwnNetwork {
    fn drop(&mut self) {
        try_docker(&["network", "rm", &self.0]);
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_network_that_somebody_made_anew_is_followed_before_the_next_run() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let third = u8::try_from(std::process::id() % 200).unwrap();
    let network = OwnNetwork::create(&project, third);
    let path = project.docker_that(&network.arm());
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    wait::until("the container that asks for the gateway to be gone", || containers(&project.label()), Vec::is_empty);
    docker(&["network", "rm", &network.0]);
    network.make(third + 1);
    daemon.work("e", "rlock key || exit 3; echo locked; exit 0");
    let items = daemon.wait_for_items("done", 1);
    assert_eq!((&items[0]["attempts"], &items[0]["lastError"]), (&json!(1), &Value::Null));
    project.wait_said(&agent, "locked");
    daemon.wait_until_idle();
    daemon.stop().expect(0);
}
