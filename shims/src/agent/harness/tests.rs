//! Whole sessions with scripts in the place of the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::agent::prompt::Prompt;
use crate::agent::report::tests::Lines;
use crate::agent::setup::Paths;
use crate::agent::usage::UsageSoFar;
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::{ModelChoice, ToolGroups};

/// A directory with programs, and what a run is told.
struct Bed {
    dir: tempfile::TempDir,
    harness: Value,
    model: Option<Value>,
    key: Option<&'static str>,
    limits: Value,
}

/// What came of it.
struct Ran {
    ended: Result<Ended>,
    lines: Vec<String>,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new(harness: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "tmp", "static"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, harness, model: None, key: None, limits: json!({}) }
    }

    /// A harness that is this script.
    fn script(script: &str) -> Self {
        Self::new(json!({"type": "command", "command": ["tool"]})).program("tool", script)
    }

    /// A named harness whose program is this script.
    fn named(kind: &str, model: Value, script: &str) -> Self {
        let mut bed = Self::new(json!({"type": kind})).program(kind, script);
        bed.model = Some(model);
        bed
    }

    fn program(self, name: &str, script: &str) -> Self {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.harness[name] = value;
        self
    }

    fn key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    fn run(self) -> Ran {
        let (report, lines) = Lines::new();
        report.mask_secrets([("t", &Secret::new("hunter2-hunter2"))]);
        let place = |name: &str| self.dir.path().join(name).into_os_string();
        let mut environment: Environment =
            [("AL_TMP_DIR", place("tmp")), ("AL_STATIC_DIR", place("static"))].into_iter().collect();
        let paths = Paths::of(&environment);
        environment.set("PATH", format!("{}:/usr/bin:/bin", self.dir.path().join("bin").display()));
        let config = json!({"name": "dev", "harness": self.harness, "limits": self.limits});
        let agent = Agent {
            config: serde_json::from_value(config).unwrap(),
            instructions: "Do it well.".into(),
            timeout: Duration::from_secs(60),
        };
        let choice =
            |model| ModelChoice { config: serde_json::from_value(model).unwrap(), key: self.key.map(Secret::new) };
        let setting = Setting {
            paths: &paths,
            environment,
            models: self.model.clone().map(choice).into_iter().collect(),
            prompt: Prompt { skeleton: None, trigger: Some("the prompt".into()) },
            deadline: Instant::now() + Duration::from_secs(60),
            usage: UsageSoFar::default(),
            cancel: Cancel::new(),
            tool_groups: ToolGroups::default(),
        };
        let ended = hold(&agent, agent.config.external_harness().unwrap(), setting, &report);
        let lines = lines.brief().into_iter().filter(|line| !line.starts_with("debug")).collect();
        Ran { ended, lines, dir: self.dir }
    }
}

impl Ran {
    #[track_caller]
    fn expect_code(self, code: i32) -> Self {
        match self.ended {
            Ok(Ended::With(found)) if found == code => self,
            _ => panic!("{:#?}", self.lines),
        }
    }

    #[track_caller]
    fn expect_regular(self, length: usize) -> Self {
        match self.ended {
            Ok(Ended::Regularly { output_length }) if output_length == length => self,
            _ => panic!("{:#?}", self.lines),
        }
    }

    #[track_caller]
    fn error(&self) -> String {
        format!("{:#}", self.ended.as_ref().err().unwrap_or_else(|| panic!("{:#?}", self.lines)))
    }

    /// What a script has written into a file of its working directory.
    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("tmp").join(name)).unwrap_or_default()
    }

    /// The lines between the announcement and the end.
    fn middle(&self) -> &[String] {
        &self.lines[2..]
    }
}

fn anthropic() -> Value {
    json!({"provider": "anthropic", "model": "claude-sonnet-5-5", "thinkingLevel": "high"})
}

const USAGE_OF_NOTHING: &str = r#"info token-usage {"inputTokens":0,"outputTokens":0,"cacheReadTokens":0,"cacheWriteTokens":0,"totalTokens":0,"cost":0.0,"turnCount":0}"#;

#[test]
fn any_command_gets_the_prompt_and_its_output_is_what_the_model_says() {
    let ran = Bed::script("cat > got; pwd > dir; echo 'fixed hunter2-hunter2'; echo oops >&2").run().expect_regular(10);
    assert_eq!(ran.file("got"), "the prompt");
    assert_eq!(ran.file("dir").trim(), ran.dir.path().join("tmp").to_string_lossy());
    let mut lines = ran.lines.clone();
    lines.sort();
    assert_eq!(
        lines,
        [
            r#"info assistant {"text":"fixed ***"}"#,
            r#"info creating agent session {"harness":"command"}"#,
            r#"info prompt returned {"eventCount":1,"resultType":"undefined","resultKeys":[]}"#,
            r#"info session created, sending prompt {"promptLength":10}"#,
            USAGE_OF_NOTHING,
            r#"warn harness stderr {"text":"oops"}"#,
        ]
    );
}

#[test]
fn placeholders_are_filled_in_and_nothing_goes_through_a_shell() {
    let command = json!([
        "tool",
        "{provider}/{model}",
        "-t{thinking}",
        "{systemFile}",
        "{promptFile}",
        "{x}",
        "$(id); *",
        "{{model}"
    ]);
    let mut bed = Bed::script("printf '%s\\n' \"$@\"; cat \"$3\" > system; cat \"$4\" > prompt; stat -c %a \"$3\"")
        .with("command", command)
        .with("prompt", json!("file"))
        .with("env", json!({"EXTRA": "1"}));
    bed.model = Some(anthropic());
    let ran = bed.run();
    let tmp = ran.dir.path().join("tmp");
    let (system, prompt) = (tmp.join("al-system.md"), tmp.join("al-prompt.md"));
    let said = format!(
        "anthropic/claude-sonnet-5-5\n-thigh\n{}\n{}\n{{x}}\n$(id); *\n{{claude-sonnet-5-5\n600",
        system.display(),
        prompt.display()
    );
    assert_eq!(ran.middle()[0], format!("info assistant {}", json!({"text": said})));
    assert_eq!(ran.file("prompt"), "the prompt");
    let system = ran.file("system");
    assert!(system.contains("Do it well.") && !system.contains("- bash:"), "{system}");
}

#[test]
fn keys_and_variables_reach_the_program() {
    #[track_caller]
    fn case(kind: &str, model: Value, key: &'static str, expected: &str) {
        let script = "env | grep -E '_KEY=|_TOKEN=|GOOSE|EXTRA' | sort > seen; cat > /dev/null; exit 3";
        let bed = Bed::named(kind, model, script).key(key).with("env", json!({"EXTRA": "x"}));
        let ran = bed.run().expect_code(15);
        assert_eq!(ran.file("seen").lines().collect::<Vec<_>>().join(" "), expected, "{kind}");
    }
    case("claude", anthropic(), "sk-ant-api03-k", "ANTHROPIC_API_KEY=sk-ant-api03-k EXTRA=x");
    case("claude", anthropic(), "sk-ant-oat01-k", "CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-k EXTRA=x");
    let openai = || json!({"provider": "openai", "model": "gpt-6-sol"});
    case("codex", openai(), "k", "CODEX_API_KEY=k EXTRA=x OPENAI_API_KEY=k");
    case("pi", json!({"provider": "google", "model": "m"}), "k", "EXTRA=x GEMINI_API_KEY=k");
    case("goose", openai(), "k", "EXTRA=x GOOSE_MODEL=gpt-6-sol GOOSE_PROVIDER=openai OPENAI_API_KEY=k");
    // A key is given to nobody whom it does not concern.
    case("claude", openai(), "k", "EXTRA=x");
}

#[test]
fn claude_is_called_as_it_wants_and_its_lines_are_understood() {
    let script = r#"printf '%s\n' "$@" > args; cat > stdin
cat <<'END'
{"type":"system","subtype":"init"}
{"type":"assistant","message":{"id":"m1","content":[{"type":"text","text":"I look."}],"usage":{"input_tokens":5,"output_tokens":2}}}
{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls"}}],"usage":{"input_tokens":5,"output_tokens":2}}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"no such file","is_error":true}]}}
{"type":"assistant","message":{"id":"m2","content":[{"type":"tool_use","id":"t2","name":"Read","input":{}},{"type":"text","text":"Done."}]}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"x"}]}]}}
not json
{"type":"result","subtype":"success","is_error":false,"num_turns":2,"total_cost_usd":0.25,"usage":{"input_tokens":10,"output_tokens":4,"cache_read_input_tokens":3,"cache_creation_input_tokens":2}}
END"#;
    let ran = Bed::named("claude", anthropic(), script).run().expect_regular(12);
    let args = ran.file("args");
    let start = "-p\n--output-format\nstream-json\n--verbose\n--dangerously-skip-permissions\n--model\nclaude-sonnet-5-5\n\
                 --append-system-prompt\nYou are an autonomous agent";
    assert!(args.starts_with(start) && args.contains("Do it well."), "{args}");
    assert_eq!(ran.file("stdin"), "the prompt");
    assert_eq!(
        ran.middle(),
        [
            r#"info assistant {"text":"I look."}"#,
            r#"info bash {"cmd":"ls"}"#,
            r#"error tool error {"tool":"Bash","cmd":"ls","result":"no such file"}"#,
            r#"info assistant {"text":"Done."}"#,
            r#"info prompt returned {"eventCount":7,"resultType":"undefined","resultKeys":[]}"#,
            r#"info token-usage {"inputTokens":10,"outputTokens":4,"cacheReadTokens":3,"cacheWriteTokens":2,"totalTokens":19,"cost":0.25,"turnCount":2}"#,
        ]
    );
}

#[test]
fn a_failure_that_the_program_reports_is_none_of_its_successes() {
    #[track_caller]
    fn case(kind: &str, line: &str, said: &str) {
        let bed = Bed::named(kind, anthropic(), &format!("echo '{line}'"));
        let ran = bed.run().expect_code(15);
        let last = ran.lines.last().unwrap();
        let expected = format!("error session error {{\"error\":\"{said}\",\"kind\":\"harness\",\"status\":0,");
        assert!(last.starts_with(&expected), "{last}");
        assert!(ran.lines.iter().any(|line| line.contains("token-usage")));
        assert!(!ran.lines.iter().any(|line| line.contains("prompt returned")));
    }
    case("claude", r#"{"type":"result","is_error":true,"subtype":"error_max_turns"}"#, "error_max_turns");
    case("claude", r#"{"type":"result","is_error":true,"subtype":"success","result":"no credit"}"#, "no credit");
    case("codex", r#"{"type":"turn.failed","error":{"message":"usage limit"}}"#, "usage limit");
    case("codex", r#"{"type":"error","message":"stream lost"}"#, "stream lost");
    let end = r#"{"type":"message_end","message":{"role":"assistant","stopReason":"error","errorMessage":"401"}}"#;
    case("pi", end, "401");
}

#[test]
fn codex_and_pi_are_understood() {
    let codex = r#"cat > stdin; cat <<'END'
{"type":"thread.started","thread_id":"x"}
{"type":"error","message":"Reconnecting... 1/5"}
{"type":"item.started","item":{"id":"i0","type":"command_execution","command":"bash -lc ls","status":"in_progress"}}
{"type":"item.completed","item":{"id":"i0","type":"command_execution","command":"bash -lc ls","aggregated_output":"a\n","exit_code":0}}
{"type":"item.completed","item":{"id":"i1","type":"command_execution","command":"false","aggregated_output":"bad","exit_code":1}}
{"type":"item.completed","item":{"id":"i2","type":"agent_message","text":"Done."}}
{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":60,"output_tokens":7}}
END"#;
    let ran = Bed::named("codex", json!({"provider": "openai", "model": "m"}), codex).run().expect_regular(5);
    let stdin = ran.file("stdin");
    assert!(stdin.starts_with("You are") && stdin.ends_with("\n\nthe prompt"), "{stdin}");
    assert_eq!(
        ran.middle(),
        [
            r#"info bash {"cmd":"bash -lc ls"}"#,
            r#"info bash {"cmd":"false"}"#,
            r#"error tool error {"tool":"bash","cmd":"false","result":"bad"}"#,
            r#"info assistant {"text":"Done."}"#,
            r#"info prompt returned {"eventCount":7,"resultType":"undefined","resultKeys":[]}"#,
            r#"info token-usage {"inputTokens":40,"outputTokens":7,"cacheReadTokens":60,"cacheWriteTokens":0,"totalTokens":107,"cost":0.0,"turnCount":1}"#,
        ]
    );
    let pi = r#"printf '%s\n' "$@" > args; cat <<'END'
{"type":"tool_execution_start","toolCallId":"t","toolName":"bash","args":{"command":"ls"}}
{"type":"tool_execution_end","toolCallId":"t","toolName":"bash","result":{"content":[{"type":"text","text":"bad"}]},"isError":true}
{"type":"message_end","message":{"role":"user","content":"x"}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"Done."}],"usage":{"input":9,"output":3,"cacheRead":2,"cacheWrite":1,"cost":{"total":0.5}},"stopReason":"stop"}}
END"#;
    let ran = Bed::named("pi", anthropic(), pi).run().expect_regular(5);
    let args = ran.file("args");
    let start =
        "-p\n--mode\njson\n--no-session\n--provider\nanthropic\n--model\nclaude-sonnet-5-5\n--thinking\nhigh\nYou are";
    assert!(args.starts_with(start) && args.ends_with("\n\nthe prompt\n"), "{args}");
    assert_eq!(
        ran.middle(),
        [
            r#"info bash {"cmd":"ls"}"#,
            r#"error tool error {"tool":"bash","cmd":"ls","result":"bad"}"#,
            r#"info assistant {"text":"Done."}"#,
            r#"info prompt returned {"eventCount":3,"resultType":"undefined","resultKeys":[]}"#,
            r#"info token-usage {"inputTokens":9,"outputTokens":3,"cacheReadTokens":2,"cacheWriteTokens":1,"totalTokens":15,"cost":0.5,"turnCount":1}"#,
        ]
    );
}

#[test]
fn exit_statuses_with_a_meaning_are_kept_and_others_become_15() {
    for (script, code, status) in
        [("exit 10", 10, 10), ("exit 16", 16, 16), ("exit 17", 15, 17), ("exit 1", 15, 1), ("kill -9 $$", 15, 137)]
    {
        let ran = Bed::script(&format!("echo working; echo 'no key' >&2; {script}")).run().expect_code(code);
        let last = ran.lines.last().unwrap();
        assert!(last.starts_with("error session error ") && last.contains(": no key\""), "{last}");
        assert!(last.contains(&format!("\"kind\":\"harness\",\"status\":{status}}}")), "{last}");
        assert!(!ran.lines.iter().any(|line| line.contains("prompt returned")));
    }
}

#[test]
fn three_missing_permissions_end_the_program() {
    let result = |id: u32| {
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"{id}","content":"remote: Permission denied","is_error":true}}]}}}}"#
        )
    };
    let lines = (0..3).map(|id| format!("echo '{}'", result(id))).collect::<Vec<_>>().join("\n");
    let ran = Bed::named("claude", anthropic(), &format!("{lines}\nsleep 100 & sleep 100; touch survived")).run();
    let ran = ran.expect_code(1);
    assert!(ran.file("survived").is_empty());
    let aborting = "error Aborting: repeated auth/permission failures — check credentials {}";
    assert_eq!(ran.lines.iter().filter(|line| *line == aborting).count(), 1);
}

#[test]
fn what_the_program_leaves_behind_ends_with_it() {
    let begin = Instant::now();
    let ran = Bed::script("sleep 300 & echo $! > pid; echo done").run().expect_regular(5);
    assert!(begin.elapsed() < Duration::from_secs(100));
    let pid = ran.file("pid");
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']))
    };
    while !gone() {
        assert!(begin.elapsed() < Duration::from_secs(100), "{pid}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn long_output_is_logged_in_pieces_and_no_secret_in_halves() {
    let script = "head -c 4090 /dev/zero | tr '\\0' x; printf hunter2-hunter2; head -c 200000 /dev/zero | tr '\\0' y";
    let ran = Bed::script(script).run();
    let pieces: Vec<&String> = ran.lines.iter().filter(|line| line.starts_with("info assistant")).collect();
    assert!(pieces.len() > 40, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.len() < 4200 && !piece.contains("hunt") && !piece.contains("er2")));
    let ran = Bed::script("for i in $(seq 2000); do echo \"line $i\"; done").run();
    let pieces: Vec<&String> = ran.lines.iter().filter(|line| line.starts_with("info assistant")).collect();
    assert_eq!(pieces.len(), 5, "{pieces:?}");
    assert!(pieces.iter().all(|piece| piece.contains("{\"text\":\"line ")), "{pieces:?}");
}

/// What is kept of a text is cut, and half a secret would not be found any more.
#[test]
fn last_words_and_reported_failures_are_masked_before_they_are_cut() {
    let long = format!("{}hunter2-hunter2", "x".repeat(2000 - 5));
    let model = || json!({"provider": "openai", "model": "gpt-6-sol"});
    let print = |event: Value| format!("cat > /dev/null; cat <<'END'\n{event}\nEND");
    for (kind, script) in [
        ("goose", format!("echo {long} >&2; exit 3")),
        ("codex", print(json!({"type": "turn.failed", "error": {"message": long}}))),
        ("codex", print(json!({"type": "error", "message": long}))),
        (
            "pi",
            print(json!({"type": "message_end",
            "message": {"role": "assistant", "stopReason": "error", "errorMessage": long}})),
        ),
        ("claude", print(json!({"type": "result", "is_error": true, "result": long}))),
    ] {
        let ran = Bed::named(kind, model(), &script).run().expect_code(15);
        let error = ran.lines.last().unwrap();
        assert!(error.starts_with("error session error") && !error.contains("xhunt"), "{kind}: {error}");
    }
}

#[test]
fn a_program_that_does_not_read_its_prompt_is_fine() {
    Bed::script("exec 0<&-; echo ok").run().expect_regular(3);
}

#[test]
fn what_cannot_be_started_is_named() {
    let bed = Bed::new(json!({"type": "goose"}));
    let error = bed.run().error();
    let expected =
        "harness: cannot start goose; the image al-dev must contain it: install it in agents/dev/Dockerfile: ";
    assert!(error.starts_with(expected), "{error}");
    assert!(Bed::new(json!({"type": "command"})).run().error().contains("harness.command is missing"));
    let error = Bed::new(json!({"type": "claude"})).run().error();
    assert!(error.contains("{model}") && error.contains("there is no model"), "{error}");
    let error = Bed::script("true").with("prompt", json!("file")).run().error();
    assert!(error.contains("needs {promptFile}"), "{error}");
}

/// Limits bind a program as far as it tells what it uses, at the moments at which the loop of our own would check them.
#[test]
fn a_program_that_has_used_up_its_budget_is_stopped() {
    #[track_caller]
    fn case(kind: &str, limits: Value, output: &str, reached: Option<(&str, &str)>) {
        let after = "touch ended";
        let script = format!("cat <<'END'\n{output}\nEND\nsleep 0.1\n{after}");
        // What goes on for ever ends only when it is stopped.
        let script = if reached.is_some() { script.replace(after, "sleep 60") } else { script };
        let mut bed = Bed::named(kind, anthropic(), &script).key("k");
        bed.limits = limits;
        let ran = bed.run();
        let Some((limit, value)) = reached else {
            assert!(matches!(ran.ended, Ok(Ended::Regularly { .. })), "{:#?}", ran.lines);
            return;
        };
        let ran = ran.expect_code(15);
        let error = ran.lines.iter().find(|line| line.starts_with("error session error")).unwrap();
        assert!(error.contains(r#""kind":"limit""#), "{error}");
        assert!(error.contains(&format!(r#""limit":"{limit}","value":{value}"#)), "{error}");
        assert!(ran.lines.iter().any(|line| line.contains("token-usage")), "{:#?}", ran.lines);
    }
    let claude = r#"{"type":"assistant","message":{"id":"1","content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"x"}},{"type":"tool_use","id":"b","name":"Bash","input":{"command":"y"}}],"usage":{"input_tokens":90,"output_tokens":10}}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"b","content":"ok"}]}}"#;
    case("claude", json!({"maxTurns": 1}), claude, Some(("maxTurns", "1")));
    case("claude", json!({"maxTokens": 100}), claude, Some(("maxTokens", "100")));
    case("claude", json!({"maxToolCalls": 2}), claude, Some(("maxToolCalls", "2")));
    case("claude", json!({"maxTurns": 2, "maxTokens": 101, "maxToolCalls": 3}), claude, None);
    // An answer that is the last one may be the last that is allowed.
    let said = r#"{"type":"assistant","message":{"id":"1","content":[{"type":"text","text":"done"}],"usage":{"input_tokens":90}}}
{"type":"result","is_error":false,"num_turns":1,"total_cost_usd":9.5}"#;
    case("claude", json!({"maxTurns": 1, "maxTokens": 10, "maxCost": 1.0}), said, None);

    let pi = r#"{"type":"message_end","message":{"role":"assistant","content":[],"usage":{"input":90,"output":10,"cost":{"total":0.5}}}}
{"type":"tool_execution_start","toolCallId":"a","toolName":"bash","args":{"command":"x"}}
{"type":"tool_execution_end","toolCallId":"a","result":"ok","isError":false}"#;
    case("pi", json!({"maxCost": 0.5}), pi, Some(("maxCost", "0.5")));
    case("pi", json!({"maxCost": 0.6}), pi, None);

    let codex = r#"{"type":"item.completed","item":{"id":"a","type":"command_execution","command":"x","aggregated_output":"ok","exit_code":0}}"#;
    case("codex", json!({"maxToolCalls": 1}), codex, Some(("maxToolCalls", "1")));
    case("codex", json!({"maxToolCalls": 2}), codex, None);
}
