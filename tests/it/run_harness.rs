//! Runs whose session another program of the image holds; here scripts play these programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::project::Project;

/// An agent whose image has a program: `script` is what it does.
fn with_program(project: &Project, config: &str, name: &str, script: &str) -> String {
    let agent = project.name(name);
    project.configure(&agent, config);
    project.write(&format!("agents/{agent}/ACTIONS.md"), "Mend what is broken.\n");
    let program = format!("agents/{agent}/program");
    project.write(&program, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(project.root().join(program), fs::Permissions::from_mode(0o755)).unwrap();
    let file = format!("FROM al-agent:latest\nCOPY program /usr/local/bin/{name}\n");
    project.write(&format!("agents/{agent}/Dockerfile"), file);
    agent
}

fn only(project: &Project, agent: &str, msg: &str) -> Value {
    let mut entries = project.logged(agent, msg);
    entries.retain(|entry| entry["level"] != 20);
    assert_eq!(entries.len(), 1, "{msg}: {entries:?}");
    entries.remove(0)
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn any_command_holds_a_run() {
    let project = Project::new();
    let agent = project.name("any");
    let script = "cat > /tmp/prompt; grep -q Mend \"$1\" && echo instructions; grep -o 'Go and see' /tmp/prompt; \
                  { al-status working; al-return 'all well'; } >&2; pwd";
    let config =
        format!("[harness]\ntype = 'command'\ncommand = ['sh', '-c', '''{script}''', 'sh', '{{systemFile}}']\n");
    project.configure(&agent, &config);
    project.write(&format!("agents/{agent}/ACTIONS.md"), "Mend what is broken.\n");
    let done = project.run(&agent, &["--json", "Go and see"]);
    done.expect(0);
    assert_eq!(done.result()["returnValue"], "all well");
    assert_eq!(only(&project, &agent, "assistant")["text"], "instructions\nGo and see\n/tmp");
    assert_eq!(only(&project, &agent, "creating agent session")["harness"], "command");
    only(&project, &agent, "run completed");
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn claude_holds_a_run_with_its_key_and_its_usage_counts() {
    let key = "sk-ant-api03-a-key-that-is-long-enough-to-be-masked";
    let script = r#"cat > /dev/null
echo "key $ANTHROPIC_API_KEY" >&2
cat <<END
{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","id":"t","name":"Bash","input":{"command":"echo $ANTHROPIC_API_KEY"}}]}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"x","is_error":false}]}}
{"type":"assistant","message":{"id":"n","content":[{"type":"text","text":"Mended with $7."}]}}
{"type":"result","is_error":false,"num_turns":2,"total_cost_usd":0.5,"usage":{"input_tokens":7,"output_tokens":3}}
END"#;
    let project = Project::new();
    project.credential("anthropic_key", "token", key);
    let config = "[model]\nprovider = 'anthropic'\nmodel = 'claude-sonnet-5-5'\n[harness]\ntype = 'claude'\n";
    let agent = with_program(&project, config, "claude", script);
    let done = project.run(&agent, &["--json"]);
    done.expect(0);
    let usage = &done.result()["usage"];
    assert_eq!((&usage["inputTokens"], &usage["cost"], &usage["turnCount"]), (&json!(7), &json!(0.5), &json!(2)));
    assert_eq!(only(&project, &agent, "assistant")["text"], "Mended with claude-sonnet-5-5.");
    assert_eq!(only(&project, &agent, "bash")["cmd"], "echo ***");
    assert_eq!(only(&project, &agent, "harness stderr")["text"], "key ***");
    assert!(!project.all_logs().contains(key) && !done.stderr.contains(key));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_program_that_fails_hangs_or_is_missing_never_ends_as_success() {
    let project = Project::new();
    let model = "[model]\nprovider = 'mock'\nmodel = 'echo'\n[harness]\n";
    let failing =
        with_program(&project, &format!("{model}type = 'goose'\n"), "goose", "echo 'no provider' >&2; exit 10");
    let done = project.run(&failing, &["-H"]);
    done.expect(10);
    for said in ["WARN: harness stderr no provider", "\n  goose ended with status 10: no provider"] {
        assert!(done.stdout.contains(said) || done.stderr.contains(said), "{said}: {}{}", done.stdout, done.stderr);
    }
    let error = only(&project, &failing, "session error");
    assert_eq!((&error["kind"], &error["status"]), (&json!("harness"), &json!(10)));
    assert!(error["error"].as_str().unwrap().contains("no provider"), "{error}");

    let hanging = with_program(&project, &format!("timeout = 2\n{model}type = 'codex'\n"), "codex", "sleep 1000");
    project.run(&hanging, &["--json"]).expect(124);

    let missing = project.name("missing");
    project.configure(&missing, &format!("{model}type = 'pi'\n"));
    project.write(&format!("agents/{missing}/ACTIONS.md"), "Mend what is broken.\n");
    let done = project.run(&missing, &["--json"]);
    done.expect(1);
    let error = only(&project, &missing, "container entry error")["error"].as_str().unwrap().to_owned();
    let expected = format!("harness: cannot start pi; the image al-{missing} must contain it");
    assert!(error.starts_with(&expected), "{error}");
    project.assert_clean();
}
