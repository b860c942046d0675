//! What `al run` says when something about the project or the machine is not as it should be (cli-config.md §2).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;

use crate::support::al::Done;
use crate::support::project::Project;

/// Checks a failure before anything was started: one block on standard error, with a prefix and these parts.
#[track_caller]
fn refused(done: &Done, prefix: &str, parts: &[&str]) {
    done.expect(1);
    assert_eq!(done.stdout, "");
    let errors = done.stderr.lines().filter(|line| line.contains("rror: ")).count();
    assert_eq!(errors, 1, "one message: {}", done.stderr);
    assert!(done.stderr.lines().any(|line| line.starts_with(prefix)), "{prefix} in {}", done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} is not in {}", done.stderr);
    }
}

#[test]
fn what_is_wrong_with_a_project_is_said_before_docker_is_asked() {
    let project = Project::without_docker("");
    let agent = project.worker("dev");
    let other = project.worker("other");
    let run = |agent: &str| project.al(&["run", agent]).env("DOCKER_HOST", "unix:///nonexistent").run();
    refused(&run("ghost"), "Error: Agent \"ghost\" not found.", &[&format!("Available agents: {agent}, {other}")]);
    refused(&run("../dev"), "Error: ", &["../dev"]);
    refused(&project.al(&["run", &agent, "-p", "agents"]).run(), "", &["agents"]);

    project.configure(&agent, "credentials = [\"github_token\", \"git_ssh:bot\", \"aws\"]\n");
    let done = run(&agent);
    refused(&done, "Credential error: 3 credential(s) missing", &["github_token", "git_ssh:bot", "aws", "al doctor"]);
    project.configure(&agent, "timeout = 5\nbroken [\n");
    refused(&run(&agent), "Configuration error: ", &[&agent, "agent-config.toml", "2"]);
    project.configure(&agent, "timeout = -3\nscale = \"two\"\n");
    refused(&run(&agent), "Configuration error: 2 problems", &["timeout", "scale"]);
    // Another agent's problems are not this one's.
    refused(&run(&other), "Error: Docker is not running", &["systemctl start docker"]);
    fs::remove_file(project.root().join(format!("agents/{agent}/ACTIONS.md"))).unwrap();
    project.configure(&agent, "");
    let done = run(&agent);
    assert!(done.stderr.contains("ACTIONS.md") || done.stderr.contains("Docker is not running"), "{}", done.stderr);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn unknown_keys_are_warnings_and_the_run_goes_on() {
    let project = Project::with_settings("unknownKey = 1");
    let agent = project.worker("dev");
    project.configure(&agent, "timeoutt = 5\n");
    let done = project.run(&agent, &["exit 4", "--json"]);
    done.expect(4);
    done.result();
    for part in ["unknownKey", "timeoutt", "timeout", "[warn]"] {
        assert!(done.stderr.contains(part), "{part:?} is not in {}", done.stderr);
    }
}

#[test]
fn without_docker_it_says_what_to_do() {
    let project = Project::without_docker("");
    let agent = project.worker("dev");
    let al = || project.al(&["run", &agent]);
    refused(
        &al().env("PATH", "/nonexistent").run(),
        "Error: program `docker` not found in PATH",
        &["install Docker 20.10"],
    );
    refused(
        &al().env("DOCKER_HOST", "unix:///nonexistent").run(),
        "Error: Docker is not running",
        &["systemctl start docker", "DOCKER_HOST=unix:///nonexistent"],
    );
    refused(&al().env("DOCKER_HOST", "tcp://127.0.0.1:1").run(), "Error: Docker is not running", &[]);
    refused(
        &al().env("DOCKER_HOST", "ssh://me@server").run(),
        "Error: DOCKER_HOST",
        &["ssh://me@server", "another machine"],
    );
    assert_eq!(project.staging(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_socket_that_one_may_not_use_is_named() {
    let project = Project::without_docker("");
    let agent = project.worker("dev");
    let socket = project.outer().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let mut al = project.al(&["run", &agent]);
    if rustix::process::geteuid().is_root() {
        // For root every socket is usable: somebody else has to try.
        let program = project.outer().join("al");
        fs::copy(env!("CARGO_BIN_EXE_al"), &program).unwrap();
        fs::set_permissions(project.outer(), fs::Permissions::from_mode(0o755)).unwrap();
        give_to(&project.root(), 65534);
        give_to(&project.temp(), 65534);
        give_to(&project.home(), 65534);
        al = al.through("setpriv", &["--reuid", "65534", "--regid", "65534", "--clear-groups"], program.as_os_str());
    } else {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let done = al.env("DOCKER_HOST", format!("unix://{}", socket.display())).run();
    let socket = socket.display().to_string();
    refused(&done, "Error: Docker refuses access to its socket", &[&socket, "usermod -aG docker"]);
    assert!(project.staging().is_empty());
}

fn give_to(dir: &std::path::Path, uid: u32) {
    chown(dir, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { give_to(&path, uid) } else { chown(&path, Some(uid), Some(uid)).unwrap() }
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_credential_that_vanishes_or_is_added_counts_at_the_next_run() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.configure(&agent, "credentials = [\"github_token\"]\n");
    refused(&project.run(&agent, &["exit 0"]), "Credential error: ", &["github_token"]);
    project.credential("github_token", "token", "ghp_0123456789abcdef");
    let done = project.run(&agent, &["[ ${#GITHUB_TOKEN} = 20 ]", "--json"]);
    done.expect(0);
    fs::remove_dir_all(project.home().join(".action-llama/credentials/github_token")).unwrap();
    refused(&project.run(&agent, &["exit 0"]), "Credential error: ", &["github_token"]);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_project_may_have_any_path_and_be_called_from_anywhere() {
    let project = Project::new();
    let agent = project.worker("dev");
    let odd = project.outer().join("od d, 'näme': \"x\" $(y)");
    std::os::unix::fs::symlink(project.root(), &odd).unwrap();
    let done = project.al(&["run", &agent, "-p", odd.to_str().unwrap(), "echo hello; exit 4"]).run();
    done.expect(4);
    assert!(project.root().join(".al/logs").is_dir() && done.stdout.contains("] hello\n"));
    // Another path is another project for Docker, with the same files.
    let done = project.al(&["run", &agent, "-p", "../project/./agents/..", "exit 5"]).run();
    done.expect(5);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_log_that_cannot_be_written_is_said_once_and_stops_nothing() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.write(".al/logs", "in the way");
    let done = project.run(&agent, &["echo one; echo two; al-return v; exit 4"]);
    done.expect(4);
    assert!(done.stdout.contains("] two\n") && done.stdout.contains("returned: v\n"));
    let warnings: Vec<&str> = done
        .stderr
        .lines()
        .filter(|line| line.contains(&format!("{agent}-")))
        .filter(|line| line.starts_with("Warning: "))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", done.stderr);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn several_programs_at_once_build_an_image_for_all() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.write(
        &format!("agents/{agent}/Dockerfile"),
        "FROM al-agent:latest\nUSER root\nRUN sleep 1; echo made > /made\n",
    );
    let running: Vec<_> =
        (0..4).map(|number| project.al(&["run", &agent, &format!("cat /made; exit {number}0")]).start()).collect();
    for (number, running) in running.into_iter().enumerate() {
        let done = running.finish();
        done.expect(i32::try_from(number * 10).unwrap());
        assert!(done.stdout.contains("] made\n"));
    }
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn agents_of_the_same_name_in_two_projects_do_not_meet() {
    let (one, two) = (Project::new(), Project::new());
    let agent = one.agent("dev", "echo one; sleep 1");
    for (path, content) in
        [("ACTIONS.md", "Do it.\n"), ("agent-config.toml", ""), ("test-script.sh", "echo two; sleep 1")]
    {
        two.write(&format!("agents/{agent}/{path}"), content);
    }
    for _ in 0..3 {
        let running = [&one, &two, &one, &two].map(|project| project.al(&["run", &agent, "--json"]).start());
        let said = running.map(|running| running.finish().said());
        assert_eq!(said, [["one"], ["two"], ["one"], ["two"]]);
    }
    one.assert_clean();
    two.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_second_program_of_the_project_shares_it() {
    let project = Project::new();
    let agent = project.worker("dev");
    let first = project.al(&["run", &agent, "echo started; sleep 3; echo still here"]).start();
    first.wait_for("] started");
    let second = project.run(&agent, &["exit 6"]);
    second.expect(6);
    let first = first.finish();
    first.expect(0);
    assert!(first.stdout.contains("] still here"), "the second one's cleaning left it alone");
    project.assert_clean();
}
