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

/// The program of a kind prints its own form of a session in which it has read its prompt, run two commands, of which
/// one fails, and said what it has done.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn codex_and_pi_hold_a_run_and_their_usage_counts() {
    let key = "sk-proj-a-key-that-is-long-enough-to-be-masked";
    let project = Project::new();
    project.credential("openai_key", "token", key);
    let codex = r#"prompt=$(cat); case "$prompt" in *Mend*"Go and see"*) ;; *) exit 3;; esac
[ "$CODEX_API_KEY" = "$OPENAI_API_KEY" ] || exit 4
cat <<END
{"type":"thread.started","thread_id":"t"}
{"type":"item.started","item":{"id":"i1","type":"command_execution","command":"echo $OPENAI_API_KEY"}}
{"type":"item.completed","item":{"id":"i1","type":"command_execution","command":"echo $OPENAI_API_KEY","aggregated_output":"x","exit_code":0}}
{"type":"item.completed","item":{"id":"i2","type":"command_execution","command":"false","aggregated_output":"no such file","exit_code":1}}
{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":40,"output_tokens":5}}
{"type":"item.completed","item":{"id":"i3","type":"agent_message","text":"Mended with $6 in $(pwd)."}}
{"type":"turn.completed","usage":{"input_tokens":200,"cached_input_tokens":60,"output_tokens":7}}
END"#;
    let pi = r#"for prompt; do :; done; case "$prompt" in *Mend*"Go and see"*) ;; *) exit 3;; esac
[ -n "$OPENAI_API_KEY" ] || exit 4
cat <<END
{"type":"session","id":"s"}
{"type":"tool_execution_start","toolCallId":"t1","toolName":"bash","args":{"command":"echo $OPENAI_API_KEY"}}
{"type":"tool_execution_end","toolCallId":"t1","toolName":"bash","result":{"content":[{"type":"text","text":"x"}]},"isError":false}
{"type":"tool_execution_start","toolCallId":"t2","toolName":"bash","args":{"command":"false"}}
{"type":"tool_execution_end","toolCallId":"t2","toolName":"bash","result":{"content":[{"type":"text","text":"no such file"}]},"isError":true}
{"type":"message_end","message":{"role":"assistant","content":[],"usage":{"input":60,"output":5,"cacheRead":40,"cacheWrite":0,"cost":{"total":0.25}}}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"Mended with $8 in $(pwd)."}],"usage":{"input":140,"output":7,"cacheRead":60,"cacheWrite":0,"cost":{"total":0.5}}}}
END"#;
    for (kind, script, cost) in [("codex", codex, 0.0), ("pi", pi, 0.75)] {
        let config = format!("[model]\nprovider = 'openai'\nmodel = 'gpt-6-sol'\n[harness]\ntype = '{kind}'\n");
        let agent = with_program(&project, &config, kind, script);
        let done = project.run(&agent, &["--json", "Go and see"]);
        done.expect(0);
        let usage = json!({"inputTokens": 200, "outputTokens": 12, "cacheReadTokens": 100, "cacheWriteTokens": 0,
            "totalTokens": 312, "cost": cost, "turnCount": 2});
        assert_eq!((&done.result()["result"], &done.result()["usage"]), (&json!("completed"), &usage), "{kind}");
        assert_eq!(only(&project, &agent, "creating agent session")["harness"], kind);
        assert_eq!(only(&project, &agent, "assistant")["text"], "Mended with gpt-6-sol in /tmp.", "{kind}");
        let commands: Vec<Value> = project.logged(&agent, "bash").iter().map(|entry| entry["cmd"].clone()).collect();
        assert_eq!(commands, ["echo ***", "false"], "{kind}");
        let error = only(&project, &agent, "tool error");
        assert_eq!((&error["cmd"], &error["result"]), (&json!("false"), &json!("no such file")), "{kind}");
        assert_eq!(only(&project, &agent, "run completed")["outputLength"], "Mended with gpt-6-sol in /tmp.".len());
        assert!(!project.all_logs().contains(key) && !done.stderr.contains(key), "{kind}");
    }
    project.assert_clean();
}

/// Such a program says nothing of tokens.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_program_that_prints_text_holds_a_run() {
    let key = "AIzaSyD-a-key-that-is-long-enough-to-be-masked";
    let project = Project::new();
    project.credential("google_key", "token", key);
    let script = r#"prompt=$(cat); case "$prompt" in *Mend*"Go and see"*) ;; *) exit 3;; esac
echo "Mended by $GOOSE_PROVIDER with $GOOSE_MODEL"; echo "and $GEMINI_API_KEY$GOOGLE_API_KEY"; al-return 'all well' >&2"#;
    let config = "[model]\nprovider = 'google'\nmodel = 'gemini-3.8-flash'\n[harness]\ntype = 'goose'\n";
    let agent = with_program(&project, config, "goose", script);
    let done = project.run(&agent, &["--json", "Go and see"]);
    done.expect(0);
    assert_eq!(done.result()["returnValue"], "all well");
    let usage = json!({"inputTokens": 0, "outputTokens": 0, "cacheReadTokens": 0, "cacheWriteTokens": 0,
        "totalTokens": 0, "cost": 0.0, "turnCount": 0});
    assert_eq!(done.result()["usage"], usage, "{}", done.result());
    let said = only(&project, &agent, "assistant")["text"].as_str().unwrap().to_owned();
    assert!(said.starts_with("Mended by google with gemini-3.8-flash\nand ***"), "{said}");
    only(&project, &agent, "run completed");
    assert!(!project.all_logs().contains(key) && !done.stderr.contains(key));
    project.assert_clean();
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
