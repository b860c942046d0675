//! `al chat` without a terminal: one message, and everything that a chat is given.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use action_llama::scheduler::lock::ProjectLock;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::al::Al;
use crate::support::llm::{Answer, Llm, Reply, Request, bash, text};
use crate::support::project::{NEVER, Project};
use crate::support::stub_gateway::{Answer as GatewayAnswer, StubGateway};
use crate::support::wait;

const SOON: Duration = Duration::from_secs(30);
const KEY: &str = "sk-test-0123456789";

/// A server and the `[model]` table for it.
fn server() -> (Llm, String) {
    let llm = Llm::start(Ipv4Addr::LOCALHOST.into());
    let table = format!(
        "[model]\nprovider = \"custom\"\napi = \"anthropic\"\nmodel = \"m-1\"\nbaseUrl = \"{}\"\ncontextWindow = 100000\nmaxTokens = 8000\n",
        llm.url()
    );
    (llm, table)
}

/// A project whose model is behind this server, with a key for it.
fn project_of(table: &str) -> Project {
    let project = Project::without_docker("");
    project.write("config.toml", table);
    project.credential("custom_key", "token", KEY);
    project
}

fn system(request: &Request) -> String {
    request.body["system"].as_array().unwrap().iter().map(|block| block["text"].as_str().unwrap()).collect()
}

#[test]
fn one_message_prints_the_answer_and_nothing_else() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([
        Reply::new().text("Let me look.").bash("call_1", "pwd; echo $HOME").stream(),
        text("It is \u{1b}[31mgr\u{fc}n\u{202e}.\nBye").deltas_of(3).stream(),
    ]);
    let done = project.al(&["chat", "--yes", "-m", "Where are we?"]).run();
    assert_eq!(done.expect(0).stdout, "It is \u{fffd}[31mgr\u{fc}n\u{fffd}.\nBye\n");
    let root = fs::canonicalize(project.root()).unwrap();
    let expected = format!("Let me look.\n$ pwd; echo $HOME\n  {}\n  {}\n", root.display(), project.home().display());
    assert_eq!(done.stderr, expected);
    let requests = llm.finish();
    assert_eq!(requests[0].header("x-api-key"), Some(KEY));
    assert_eq!(requests[0].messages().len(), 1);
    assert_eq!(requests[0].messages()[0]["content"][0]["text"], "Where are we?");
    let tools = requests[0].body["tools"].as_array().unwrap();
    assert_eq!(tools.iter().map(|tool| &tool["name"]).collect::<Vec<_>>(), ["read", "bash", "edit", "write"]);
    assert!(project.remains().is_empty(), "{:?}", project.remains());
}

#[test]
fn variables_last_as_long_as_the_conversation_and_are_kept_from_others() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([
        Reply::new().bash("call_1", "setenv TOKEN abc").stream(),
        Reply::new()
            .bash("call_2", "echo $TOKEN; find \"$TMPDIR\"/*/env.sh -printf '%m\\n' && stat -c %a \"$TMPDIR\"/*")
            .stream(),
        text("Bye").stream(),
    ]);
    let done = project.al(&["chat", "--yes", "-m", "Go on."]).run();
    done.expect(0);
    assert!(
        done.stderr.contains("  set 1 variable(s)\n") && done.stderr.contains("\n  abc\n  600\n  700\n"),
        "{}",
        done.stderr
    );
    assert!(project.remains().is_empty(), "{:?}", project.remains());
}

#[test]
fn a_failed_request_is_an_error_with_status_1() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([Answer::error(401, "authentication_error", &format!("key {KEY} is not known"))]);
    let done = project.al(&["chat", "-m", "hello"]).run();
    assert_eq!(done.expect(1).stdout, "");
    assert!(done.stderr.starts_with("Error: custom:m-1: "), "{}", done.stderr);
    assert!(done.stderr.contains("key *** is not known"), "{}", done.stderr);
}

#[test]
fn without_a_terminal_there_is_no_conversation() {
    let project = Project::without_docker("");
    let done = project.al(&["chat"]).run();
    assert_eq!(done.expect(1).stdout, "");
    assert!(
        done.stderr.contains("needs a person at a terminal") && done.stderr.contains("--message"),
        "{}",
        done.stderr
    );
    let done = project.al(&["chat", "-m", " "]).run();
    assert!(done.expect(1).stderr.contains("'-m, --message <text>'"), "{}", done.stderr);
}

#[test]
fn without_anybody_to_ask_calls_that_change_something_are_declined() {
    let project = Project::without_docker("");
    project.write("seen.txt", "inside\n");
    fs::write(project.outer().join("secret.txt"), "outside\n").unwrap();
    std::os::unix::fs::symlink(project.outer().join("secret.txt"), project.root().join("link.txt")).unwrap();
    project.write(
        "mock.toml",
        r#"
        version = 1
        [[turn]]
        call = [
            { tool = "bash", args = { command = "touch made" } },
            { tool = "write", args = { path = "written", content = "x" } },
            { tool = "edit", args = { path = "seen.txt", oldText = "in", newText = "out" } },
            { tool = "read", args = { path = "../secret.txt" } },
            { tool = "read", args = { path = "link.txt" } },
            { tool = "read", args = { path = "seen.txt" } },
        ]
        [[turn]]
        text = "{{last_result}}"
        expect = { results = 6, is_error = false }
        "#,
    );
    let done = project.al(&["chat", "-m", "hello"]).run();
    assert_eq!(done.expect(0).stdout, "inside\n");
    assert_eq!(done.stderr.matches("declined").count(), 5, "{}", done.stderr);
    assert!(!done.stderr.contains("outside"), "{}", done.stderr);
    assert!(!project.root().join("made").exists() && !project.root().join("written").exists());
    assert_eq!(fs::read_to_string(project.root().join("seen.txt")).unwrap(), "inside\n");
    let done = project.al(&["chat", "-m", "hello", "--yes"]).run();
    assert_eq!(done.expect(0).stdout, "outside\n");
    assert!(project.root().join("made").exists() && project.root().join("written").exists());
}

#[test]
fn the_model_comes_from_the_environment_and_is_anthropics_when_there_is_none() {
    let project = Project::without_docker("");
    let environments = project.home().join(".action-llama/environments");
    fs::create_dir_all(&environments).unwrap();
    fs::write(environments.join("stage.toml"), "[model]\nprovider = \"mock\"\nmodel = \"fail\"\n").unwrap();
    let done = project.al(&["chat", "-E", "stage", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.contains("mock:fail: mock: invalid key"), "{}", done.stderr);
    project.write("config.toml", "");
    let done = project.al(&["chat", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.starts_with("Credential error: anthropic_key is missing"), "{}", done.stderr);
    assert!(done.stderr.contains("claude-sonnet-4-20250514") && done.stderr.contains("al creds add anthropic_key"));
    project.write("config.toml", "[model]\nprovider = \"nobody\"\nmodel = \"m\"\n");
    let done = project.al(&["chat", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: config.toml: model.provider: "), "{}", done.stderr);
}

#[test]
fn keys_can_be_those_of_pi() {
    let (llm, table) = server();
    let project = project_of(&format!("{table}authType = \"pi_auth\"\n"));
    llm.play([text("hello").stream()]);
    project.write("../home/.pi/agent/auth.json", r#"{"custom": {"type": "api_key", "key": "MY_KEY"}}"#);
    project.al(&["chat", "-m", "hello"]).env("MY_KEY", "sk-of-pi-12345").run().expect(0);
    assert_eq!(llm.finish()[0].header("x-api-key"), Some("sk-of-pi-12345"));
    fs::remove_file(project.home().join(".pi/agent/auth.json")).unwrap();
    let done = project.al(&["chat", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.contains(".pi/agent/auth.json"), "{}", done.stderr);
}

#[test]
fn the_project_is_the_context() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([text("1").stream(), text("2").stream()]);
    project.al(&["chat", "-m", "hello"]).run().expect(0);
    project.write("AGENTS.md", "# Ours\n\nBe brief.\n");
    project.write("agents/dev/agent-config.toml", "schedule = \"0 9 * * 1-5\"\n");
    project.al(&["chat", "-m", "hello"]).run().expect(0);
    let [first, second] = &llm.finish()[..] else { panic!("two requests") };
    let (first, second) = (system(first), system(second));
    let heading = format!("## {}\n", project.root().join("AGENTS.md").display());
    for part in [&heading[..], "Action Llama Project", "### reddit-moderator", "FROM al-agent:latest", "al doctor"] {
        assert!(first.contains(part), "{part}");
    }
    assert!(second.contains(&format!("{heading}\n# Ours\n\nBe brief.\n")), "{second}");
    assert!(second.contains("- dev: schedule=0 9 * * 1-5\n") && !second.contains("reddit-moderator"), "{second}");
    assert!(second.ends_with(&format!("Current working directory: {}", project.root().display())), "{second}");
}

/// An agent that lists credentials. Gives its directory.
fn agent_with_credentials(project: &Project) -> PathBuf {
    let config =
        format!("{NEVER}credentials = [\"github_token\", \"git_ssh\", \"linear_token\"]\n[params]\norg = \"acme\"\n");
    project.write("agents/dev/agent-config.toml", config);
    project.write("agents/dev/ACTIONS.md", "# Dev\n\nFind issues.\n");
    project.credential("github_token", "token", "ghp_0123456789abcdef");
    for (field, value) in [
        ("id_rsa", "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\n-----END KEY-----"),
        ("username", "Bot"),
        ("email", "bot@example.com"),
    ] {
        project.credential("git_ssh", field, value);
    }
    project.root().join("agents/dev")
}

/// A directory in memory for what is private, of this test alone: others hold chats at the same time, and each chat removes
/// what dead ones have left in its place.
fn runtime_dir() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

/// `al` with this place for what is private.
fn al_in<'p>(runtime: &TempDir, project: &'p Project, args: &[&str]) -> Al<'p> {
    project.al(args).env("XDG_RUNTIME_DIR", runtime.path())
}

/// Directories of chats that live now.
fn private_directories(runtime: &TempDir, project: &Project) -> Vec<PathBuf> {
    let places = [runtime.path().join("action-llama"), project.temp()];
    let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().contains("al-chat.")).collect()
}

#[test]
fn an_agents_credentials_are_in_the_environment_of_its_tools_alone() {
    let (llm, table) = server();
    let (runtime, project) = (runtime_dir(), project_of(&table));
    let dir = agent_with_credentials(&project);
    let look = "echo $GITHUB_TOKEN $GH_TOKEN $GIT_AUTHOR_NAME; echo $GIT_SSH_COMMAND; pwd; env | grep -c sk-test; \
                cat $(echo \"$GIT_SSH_COMMAND\" | cut -d'\"' -f2); stat -c %a \"$(dirname \"$(echo \"$GIT_SSH_COMMAND\" | cut -d'\"' -f2)\")\"; \
                tr '\\0' '\\n' </proc/$PPID/environ | grep -c ghp_";
    llm.play([bash(look).stream(), text("My token is ghp_0123456789abcdef!").deltas_of(4).stream()]);
    let done = al_in(&runtime, &project, &["chat", "dev", "--yes", "-m", "Look"]).run();
    assert_eq!(done.expect(0).stdout, "My token is ***!\n");
    assert!(!done.stderr.contains("ghp_0123456789abcdef") && !done.stderr.contains("AAAABBBB"), "{}", done.stderr);
    let requests = llm.finish();
    let results = requests[1].results();
    let lines: Vec<&str> = results[0].0.lines().collect();
    assert_eq!(lines[0], "ghp_0123456789abcdef ghp_0123456789abcdef Bot");
    let real = fs::canonicalize(&dir).unwrap().display().to_string();
    assert_eq!((lines[2], lines[3]), (real.as_str(), "0"), "{lines:?}");
    assert_eq!(lines[4..8], ["-----BEGIN KEY-----", "AAAABBBBCCCCDDDDEEEE", "-----END KEY-----", "700"]);
    assert_eq!(lines[8], "0", "the program itself does not have them");
    let key = lines[1].split('"').nth(1).unwrap();
    assert!(!Path::new(key).exists(), "{key}");
    assert!(private_directories(&runtime, &project).is_empty() && project.remains().is_empty());
    let context = system(&requests[0]);
    for part in ["\"dev\"", "GITHUB_TOKEN", "GIT_SSH_COMMAND", "\"org\": \"acme\"", "# Dev\n\nFind issues."] {
        assert!(context.contains(part), "{part}: {context}");
    }
    assert!(context.contains(&format!("## {}\n", dir.join("ACTIONS.md").display())), "{context}");
    assert!(
        !context.contains("LINEAR") && done.stderr.contains("Warning: linear_token is not stored"),
        "{}",
        done.stderr
    );
}

#[test]
fn whether_the_model_sees_a_secret_in_output_is_told_as_it_is() {
    for (redacts, told, seen) in
        [(false, "the model sees it", "ghp_0123456789abcdef"), (true, "the model does not see it", "***")]
    {
        let (llm, table) = server();
        let project = project_of(&format!("[limits]\nredactToolResults = {redacts}\n{table}"));
        agent_with_credentials(&project);
        llm.play([bash("echo $GITHUB_TOKEN").stream(), text("I see.").stream()]);
        let done = project.al(&["chat", "dev", "--yes", "-m", "Look"]).run();
        let notice = format!("[what bash gave back contains a secret of github_token; {told}]\n");
        assert!(done.expect(0).stderr.contains(&notice), "{}", done.stderr);
        assert_eq!(llm.finish()[1].results()[0].0.trim_end(), seen);
    }
}

#[test]
fn secrets_of_several_credentials_in_output_are_all_named() {
    let (llm, table) = server();
    let project = project_of(&table);
    agent_with_credentials(&project);
    llm.play([bash("echo $GITHUB_TOKEN; cat $KEY").stream(), text("I see.").stream()]);
    let key = project.outer().join("key");
    fs::write(&key, KEY).unwrap();
    let done = project.al(&["chat", "dev", "--yes", "-m", "Look"]).env("KEY", key).run();
    let stderr = &done.expect(0).stderr;
    let notice = "[what bash gave back contains secrets of custom and github_token; the model sees them]\n";
    assert!(stderr.contains(notice), "{stderr}");
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let (llm, table) = server();
    let (runtime, project) = (runtime_dir(), project_of(&table));
    agent_with_credentials(&project);
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        llm.play([bash("echo $$ >../../pid; exec sleep 300").stream()]);
        let running = al_in(&runtime, &project, &["chat", "dev", "--yes", "-m", "Wait"]).start();
        let pid_file = project.root().join("pid");
        let pid =
            wait::until("the command", || fs::read_to_string(&pid_file).unwrap_or_default(), |pid| pid.ends_with('\n'));
        assert_eq!(private_directories(&runtime, &project).len(), 2);
        running.signal(signal);
        running.finish().expect(status);
        assert!(private_directories(&runtime, &project).is_empty(), "{:?}", private_directories(&runtime, &project));
        let process = Path::new("/proc").join(pid.trim());
        wait::until("end of the command", || process.exists(), |exists| !exists);
        fs::remove_file(pid_file).unwrap();
    }
}

#[test]
fn what_commands_have_put_into_sessions_of_their_own_goes_with_the_chat() {
    let (llm, table) = server();
    let project = project_of(&table);
    let pids = ["outer", "inner"].map(|name| project.root().join(name));
    // A process in a session of its own, with a child in yet another one; neither has a parent that waits.
    let inner = "setsid sh -c 'echo $$ >inner; exec sleep 300' >/dev/null 2>&1 &";
    let script = format!("#!/bin/sh\n{inner}\necho $$ >outer\nexec sleep 300\n");
    project.write("leave", script);
    let command = "setsid sh leave >/dev/null 2>&1 & until [ -s outer ] && [ -s inner ]; do sleep 0.01; done";
    for signal in [None, Some(Signal::TERM), Some(Signal::QUIT)] {
        let last = if signal.is_some() { bash("echo ready >here; sleep 300").stream() } else { text("done").stream() };
        llm.play([bash(command).stream(), last]);
        let running = project.al(&["chat", "--yes", "-m", "Go"]).start();
        if let Some(signal) = signal {
            wait::until("the last command", || project.root().join("here").exists(), |exists| *exists);
            running.signal(signal);
        }
        let done = running.finish();
        assert_eq!(
            done.status,
            match signal {
                None => 0,
                Some(Signal::TERM) => 143,
                Some(signal) => -signal.as_raw(),
            }
        );
        for file in &pids {
            let pid = fs::read_to_string(file).unwrap();
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "{} {signal:?}", file.display());
            fs::remove_file(file).unwrap();
        }
        let _ = fs::remove_file(project.root().join("here"));
    }
}

#[test]
fn a_request_that_never_ends_is_ended_by_a_signal() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([Answer::silence()]);
    let running = project.al(&["chat", "-m", "hello"]).start();
    llm.wait_for_request(1, SOON);
    running.signal(Signal::INT);
    let done = running.finish();
    assert_eq!((done.expect(130).stdout.as_str(), done.stderr.as_str()), ("", "\n"));
    llm.wait_for_closed(1, SOON);
}

#[test]
fn without_a_gateway_an_agents_chat_warns() {
    let project = Project::without_docker("[gateway]\nport = 8123\n");
    project.write("agents/dev/agent-config.toml", NEVER);
    let args = ["chat", "dev", "--yes", "-m", "hello"];
    let done = project.al(&args).run();
    assert!(
        done.expect(0).stderr.starts_with("Warning: the gateway cannot be reached at http://localhost:8123"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("al start"), "{}", done.stderr);
    let lock = ProjectLock::for_scheduler(&project.root()).unwrap();
    let gateway =
        StubGateway::listen("127.0.0.1:0".parse().unwrap(), |_| GatewayAnswer::json(200, r#"{"status":"ok"}"#));
    lock.set_port(gateway.port()).unwrap();
    project.credential("gateway_api_key", "key", "key-0123456789abcdef");
    let done = project.al(&args).run();
    assert_eq!(done.expect(0).stderr, "$ echo mock agent run\n  mock agent run\n");
    let request = gateway.request();
    assert_eq!((request.target.as_str(), request.header("authorization")), ("/health", None));
    drop((gateway, lock));
    assert_eq!(
        project.al(&["chat", "--yes", "-m", "hello"]).run().expect(0).stderr,
        "$ echo mock agent run\n  mock agent run\n"
    );
}

#[test]
fn an_agent_that_is_not_there_is_named_with_those_that_are() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", NEVER);
    let done = project.al(&["chat", "dve", "-m", "hello"]).run();
    assert!(
        done.expect(1).stderr.starts_with("Error: Agent \"dve\" not found.\nAvailable agents: dev"),
        "{}",
        done.stderr
    );
    project.write("agents/dev/agent-config.toml", "schedule = [");
    let done = project.al(&["chat", "dev", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: agents/dev/agent-config.toml"), "{}", done.stderr);
}

#[test]
fn a_limit_of_the_project_holds_for_a_chat() {
    let project = Project::without_docker("");
    project.write("config.toml", "[limits]\nmaxTurns = 1\n[model]\nprovider = \"mock\"\nmodel = \"echo\"\n");
    let done = project.al(&["chat", "--yes", "-m", "hello"]).run();
    assert!(done.expect(1).stderr.contains("limits.maxTurns = 1 is reached"), "{}", done.stderr);
}

#[test]
fn what_a_command_prints_can_be_seen_as_it_comes() {
    let project = Project::without_docker("");
    project.write("config.toml", "[limits]\nstreamTools = true\n[model]\nprovider = \"mock\"\nmodel = \"m\"\n");
    let turn =
        |command: &str| format!("[[turn]]\ncall = [{{ tool = \"bash\", args = {{ command = \"{command}\" }} }}]\n");
    let wait = turn("seq 12; until [ -e go ]; do sleep 0.01; done");
    project.write("mock.toml", format!("version = 1\n{wait}{}[[turn]]\ntext = \"done\"\n", turn("echo no; false")));
    let running = project.al(&["chat", "--yes", "-m", "count"]).start();
    running.wait_for("  12\n");
    project.write("go", "");
    let done = running.finish();
    assert_eq!(done.expect(0).stdout, "done\n");
    let counted: String = (1..=12).map(|number| format!("  {number}\n")).collect();
    assert!(done.stderr.contains(&format!("done\n{counted}$ echo no; false\n  no\n")), "{}", done.stderr);
    assert!(done.stderr.contains("Command exited with code 1"), "{}", done.stderr);
}

#[test]
fn a_killed_chat_leaves_nothing_to_the_next_one() {
    let (llm, table) = server();
    let (runtime, project) = (runtime_dir(), project_of(&table));
    agent_with_credentials(&project);
    llm.play([bash("echo $$ >../../pid; exec sleep 300").stream(), text("done").stream()]);
    let running = al_in(&runtime, &project, &["chat", "dev", "--yes", "-m", "Wait"]).start();
    let pid_file = project.root().join("pid");
    let pid = || fs::read_to_string(&pid_file).unwrap_or_default();
    let pid = wait::until("the command", pid, |pid| pid.ends_with('\n'));
    let left = private_directories(&runtime, &project);
    running.signal(Signal::KILL);
    running.finish().expect(-9);
    assert!(left.len() == 2 && left.iter().all(|dir| dir.exists()), "{left:?}");
    al_in(&runtime, &project, &["chat", "dev", "-m", "hello"]).run().expect(0);
    assert!(left.iter().all(|dir| !dir.exists()), "{left:?}");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn long_output_is_kept_for_the_model_and_gone_with_the_chat() {
    let (llm, table) = server();
    let project = project_of(&table);
    llm.play([bash("seq 3000").stream(), text("done").stream()]);
    project.al(&["chat", "--yes", "-m", "count"]).run().expect(0);
    let requests = llm.finish();
    let file = requests[1].results()[0].0.split("Full output: ").nth(1).unwrap().trim_end_matches(']').to_owned();
    assert!(file.starts_with(&project.temp().display().to_string()) && !Path::new(&file).exists(), "{file}");
}
