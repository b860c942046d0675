//! `al-agent` holding a model session, played by the mock provider.

use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::agent_bed::{Bed, Ran, is_running, signal, wait_until};

/// An agent whose model plays this script; its prompt is `<a>\n</a>` and a dynamic part.
fn with_mock(script: &str) -> Bed {
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "default"}}));
    bed.write("static/mock.toml", &format!("version = 1\n{script}"));
    bed.write("static/prompt-static.txt", "<a>\n</a>");
    bed.variable("PROMPT", "You are running on a schedule.")
}

#[test]
fn a_session_leaves_the_documented_lines() {
    let bed = with_mock("");
    std::fs::remove_file(bed.path("static/mock.toml")).unwrap();
    let config = json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "echo"}});
    bed.write("static/agent-config.json", &config.to_string());
    let ran = bed.run().expect_code(0);
    let brief = ran.brief();
    let from = brief.iter().position(|line| line.contains("creating agent session")).unwrap();
    let usage = ran.line("token-usage").fields;
    assert_eq!(brief[from..], [
        r#"info creating agent session {"model":"echo","provider":"mock","effectiveThinking":"off","contextWindow":200000,"maxTokens":32000}"#.to_owned(),
        r#"info session created, sending prompt {"promptLength":40}"#.to_owned(),
        r#"info bash {"cmd":"echo mock agent run"}"#.to_owned(),
        r#"info assistant {"text":"done"}"#.to_owned(),
        r#"info prompt returned {"eventCount":16,"resultType":"undefined","resultKeys":[]}"#.to_owned(),
        format!("info token-usage {}", Value::Object(usage.clone())),
        r#"info run completed {"outputLength":4}"#.to_owned(),
    ]);
    assert_eq!(usage["turnCount"], 2);
    assert!(usage["totalTokens"].as_u64().is_some_and(|tokens| tokens > 0), "{usage:?}");
    let partial = ran.log().into_iter().filter(|line| line.msg == "token-usage" && line.fields.contains_key("partial"));
    assert_eq!(partial.count(), 2);
}

#[test]
fn the_model_gets_skeleton_and_dynamic_part_and_its_tools_the_environment() {
    let bed = with_mock(
        r##"
        [[turn]]
        expect = { prompt_contains = "<a>\n</a>\n\nYou are running on a schedule.", system_contains = "Do it." }
          [[turn.call]]
          tool = "bash"
          args = { command = "pwd; echo $HOME; env | grep -c sk-ant; echo $AL_SIGNAL_DIR" }
        [[turn]]
        text = "{{last_result}}"
        "##,
    );
    let ran = bed.run().expect_code(0);
    let (statics, tmp) = (bed.path("static"), bed.path("tmp"));
    let text = format!("{}\n{}\n0\n{}/signals", statics.display(), tmp.display(), tmp.display());
    assert!(ran.line("assistant").fields["text"].as_str().unwrap().starts_with(&text), "{}", ran.stdout);
}

#[test]
fn signal_commands_of_the_model_decide_the_end() {
    let bed = with_mock(
        r#"
        [[turn]]
          [[turn.call]]
          tool = "bash"
          args = { command = "printf 'two findings' > $AL_SIGNAL_DIR/return; echo 12 > $AL_SIGNAL_DIR/exit" }
        [[turn]]
        text = "never asked for"
        "#,
    );
    let ran = bed.run().expect_code(12);
    assert!(!ran.stdout.contains("never asked for"), "{}", ran.stdout);
    let brief = ran.brief();
    assert_eq!(
        brief[brief.len() - 3..],
        [
            r#"info signal-result {"type":"return","value":"two findings"}"#,
            r#"error agent terminated with exit signal {"exitCode":12,"reason":"Rate limit exceeded"}"#,
            r#"info signal-result {"type":"exit","exitCode":12,"reason":"Rate limit exceeded"}"#,
        ]
    );
    assert_eq!(ran.line("token-usage").fields["turnCount"], 1);
}

#[test]
fn a_failed_model_call_ends_with_the_code_of_its_kind() {
    let bed = with_mock("[[turn]]\nerror = { kind = \"auth\", status = 401, message = \"bad key\" }\n");
    let ran = bed.run().expect_code(10);
    let error = ran.line("session error").fields;
    assert_eq!((&error["kind"], &error["status"], &error["provider"]), (&json!("auth"), &json!(401), &json!("mock")));
    ran.line("token-usage");
    assert!(!ran.stdout.contains("prompt returned") && !ran.stdout.contains("run completed"), "{}", ran.stdout);
}

/// Every kind of failure has its exit code, and none looks like a success, whatever the agent has signalled before.
#[test]
fn no_failure_of_a_model_ends_as_success() {
    #[track_caller]
    fn case(kind: &str, code: i32) {
        let bed = with_mock(&format!(
            r#"
            [[turn]]
            usage = {{ input = 100, output = 10 }}
              [[turn.call]]
              tool = "bash"
              args = {{ command = "echo fine > $AL_SIGNAL_DIR/return; touch $AL_SIGNAL_DIR/rerun" }}
            [[turn]]
            error = {{ kind = "{kind}", message = "it did not work", times = 50 }}
            "#
        ));
        let ran = bed.variable("AL_MOCK_TIME_SCALE", "100000").run().expect_code(code);
        let error = ran.line("session error").fields;
        assert_eq!((&error["kind"], &error["model"]), (&json!(kind), &json!("default")));
        assert!(error["error"].as_str().unwrap().contains("it did not work"), "{error:?}");
        assert_eq!(ran.line("token-usage").fields["totalTokens"], 110);
        for success in ["prompt returned", "run completed", "signal-result"] {
            assert!(!ran.stdout.contains(success), "{kind}: {}", ran.stdout);
        }
    }
    case("auth", 10);
    case("permission", 11);
    case("quota", 12);
    case("rate_limit", 12);
    case("overloaded", 12);
    case("invalid_request", 13);
    case("server", 14);
    case("network", 14);
    case("malformed", 14);
    case("context_overflow", 15);
    case("refusal", 15);
    case("limit", 15);
}

/// An agent with two models, played by `a.toml` and `b.toml`.
fn with_two_models(first: &str, second: &str) -> Bed {
    let model = |name: &str| json!({"provider": "mock", "model": name});
    let bed =
        Bed::new(&json!({"name": "dev", "credentials": [], "model": model("a"), "models": [model("a"), model("b")]}));
    bed.write("static/mock/a.toml", &format!("version = 1\n{first}"));
    bed.write("static/mock/b.toml", &format!("version = 1\n{second}"));
    bed.variable("PROMPT", "Go.").variable("AL_MOCK_TIME_SCALE", "100000")
}

#[test]
fn a_fallback_model_goes_on_where_the_first_stopped() {
    let first = r#"
        [[turn]]
        usage = { input = 100, output = 10 }
          [[turn.call]]
          tool = "bash"
          args = { command = "echo made by a" }
        [[turn]]
        error = { kind = "rate_limit", times = 3 }
        "#;
    let second = r#"
        price = { input = 10.0 }
        [[turn]]
        usage = { input = 100000, output = 20 }
        expect = { prompt_contains = "Go.", last_result_contains = "made by a" }
        text = "done by b"
        "#;
    let ran = with_two_models(first, second).run().expect_code(0);
    assert_eq!(ran.line("assistant").fields["text"], "done by b");
    let switched = ran.line("rate limited, trying next model").fields;
    assert_eq!((&switched["provider"], &switched["model"]), (&json!("mock"), &json!("a")));
    let usage = ran.line("token-usage").fields;
    assert_eq!((&usage["totalTokens"], &usage["cost"], &usage["turnCount"]), (&json!(100_130), &json!(1.0), &json!(2)));
}

#[test]
fn a_list_of_models_that_cannot_be_had_is_gone_through_four_times() {
    let busy = "[[turn]]\nerror = { kind = \"overloaded\", times = 99 }";
    let broken = "[[turn]]\nerror = { kind = \"network\", times = 99 }";
    let given_up = "all models exhausted across all retry passes — every model was rate-limited or overloaded";
    let ran = with_two_models(broken, busy).run().expect_code(12);
    ran.line(given_up);
    assert_eq!(ran.line("session error").fields["kind"], "overloaded");
    let passes = ran.log().into_iter().filter(|line| line.msg == "all models exhausted, backing off");
    let passes: Vec<String> = passes.map(|line| Value::Object(line.fields).to_string()).collect();
    assert_eq!(
        passes,
        [r#"{"pass":0,"delayMs":30000}"#, r#"{"pass":1,"delayMs":60000}"#, r#"{"pass":2,"delayMs":120000}"#]
    );
    assert!(ran.stdout.contains("provider unavailable, trying next model"), "{}", ran.stdout);

    let ran = with_two_models(broken, broken).run().expect_code(14);
    assert!(!ran.stdout.contains(given_up), "{}", ran.stdout);
    assert_eq!(ran.line("session error").fields["kind"], "network");
}

#[test]
fn a_budget_ends_the_run() {
    #[track_caller]
    fn case(limits: &Value, limit: &str, value: &Value, turns: u64) {
        let config = json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "default"},
            "limits": limits});
        let bed = Bed::new(&config).variable("PROMPT", "Go.");
        bed.write(
            "static/mock.toml",
            "version = 1\nprice = { output = 1.0 }\n[[turn]]\nrepeat = 9\nusage = { input = 90, output = 10 }\n\
             [[turn.call]]\ntool = \"bash\"\nargs = { command = \"true\" }\n",
        );
        let ran = bed.run().expect_code(15);
        let error = ran.line("session error").fields;
        assert_eq!((&error["kind"], &error["limit"], &error["value"]), (&json!("limit"), &json!(limit), value));
        assert!(error["error"].as_str().unwrap().contains(limit), "{error:?}");
        assert_eq!(ran.line("token-usage").fields["turnCount"], turns);
    }
    case(&json!({"maxTurns": 3}), "maxTurns", &json!(3), 3);
    case(&json!({"maxTokens": 150, "maxTurns": 8}), "maxTokens", &json!(150), 2);
    case(&json!({"maxCost": 0.000_035}), "maxCost", &json!(0.000_035), 4);
    case(&json!({"maxToolCalls": 5}), "maxToolCalls", &json!(5), 5);
}

#[test]
fn the_same_call_again_and_again_ends_the_run() {
    #[track_caller]
    fn run(limits: &Value, repeats: u64, command: &str) -> Ran {
        let config = json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "default"},
            "limits": limits});
        let bed = Bed::new(&config).variable("PROMPT", "Go.");
        bed.write(
            "static/mock.toml",
            &format!(
                "version = 1\n[[turn]]\nrepeat = {repeats}\n[[turn.call]]\ntool = \"bash\"\n\
                 args = {{ command = \"{command}\" }}\n[[turn]]\ntext = \"done\"\n"
            ),
        );
        bed.run()
    }
    let ran = run(&json!({}), 30, "echo still the same").expect_code(15);
    let error = ran.line("session error").fields;
    assert_eq!(
        (&error["kind"], &error["limit"], &error["value"]),
        (&json!("limit"), &json!("repeatLimit"), &json!(10))
    );
    assert_eq!(ran.line("token-usage").fields["turnCount"], 10);
    let told = ran.log().into_iter().filter(|line| line.fields.get("role") == Some(&json!("user")));
    let told: Vec<String> = told.map(|line| Value::Object(line.fields).to_string()).collect();
    assert!(told.iter().any(|line| line.contains("the last 8 tool calls were the same")), "{told:?}");

    run(&json!({"repeatLimit": 3}), 30, "echo still the same").expect_code(15);
    run(&json!({"repeatLimit": 0}), 30, "echo still the same").expect_code(0);
    run(&json!({}), 30, "echo {{turn}}").expect_code(0);
    run(&json!({}), 30, "date +%N").expect_code(0);
}

/// Two commands that wait for each other end only when they run at the same time.
#[test]
fn tool_calls_run_in_parallel_when_that_is_configured() {
    #[track_caller]
    fn case(limits: &Value, expected: &str) -> Ran {
        let config = json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "default"},
            "limits": limits});
        let bed = Bed::new(&config).variable("PROMPT", "Go.");
        let call = |made: &str, awaited: &str| {
            format!(
                "[[turn.call]]\ntool = \"bash\"\nargs = {{ command = \"cd $HOME; touch {made}; \
                 for i in $(seq 120); do [ -e {awaited} ] && echo met {awaited} && exit; sleep 0.02; done; exit 1\" }}\n"
            )
        };
        bed.write(
            "static/mock.toml",
            &format!(
                "version = 1\n[[turn]]\n{}{}[[turn]]\nexpect = {{ results = 2 }}\ntext = \"{{{{last_result}}}}\"\n",
                call("a", "b"),
                call("b", "a")
            ),
        );
        let ran = bed.run().expect_code(0);
        assert_eq!(ran.line("assistant").fields["text"], expected, "{}", ran.stdout);
        ran
    }
    let ran = case(&json!({"parallelTools": 2}), "met a");
    let ids = ran.log().into_iter().filter(|line| line.msg == "bash").map(|line| line.fields["callId"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), ["mock_1_1", "mock_1_2"]);
    assert!(!ran.stdout.contains("tool error"), "{}", ran.stdout);

    // One after another, the first has given up when the second finds its file.
    let ran = case(&json!({}), "met a");
    assert!(ran.stdout.contains("tool error") && !ran.stdout.contains("callId"), "{}", ran.stdout);
}

#[test]
fn the_time_limit_kills_all_tools_that_run_at_the_same_time() {
    let config = json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "default"},
        "limits": {"parallelTools": 2}});
    let bed = Bed::new(&config).variable("PROMPT", "Go.");
    let call = |file: &str| {
        format!(
            "[[turn.call]]\ntool = \"bash\"\n\
             args = {{ command = \"trap '' TERM; echo $$ > $HOME/{file}; while :; do sleep 0.1; done\" }}\n"
        )
    };
    bed.write("static/mock.toml", &format!("version = 1\n[[turn]]\n{}{}", call("one"), call("two")));
    bed.write("static/timeout", "2");
    bed.run().expect_code(124).line("container timeout reached, self-terminating");
    for file in ["tmp/one", "tmp/two"] {
        assert!(!bed.read(file).is_empty(), "{file} never ran");
        wait_until("the tools are gone", || !is_running(&bed.path(file)));
    }
}

#[test]
fn a_conversation_that_became_too_long_is_summarised() {
    let bed = with_mock(
        r#"
        context_window = 12000
        price = { input = 1.0 }
        [[turn]]
        repeat = 6
        expect = { messages_max = 9 }
          [[turn.call]]
          tool = "bash"
          args = { command = "yes a-line-of-thirty-two-characters | head -c 8000" }
        [[turn]]
        expect = { prompt_contains = "mock summary" }
        text = "done"
        "#,
    );
    let ran = bed.run().expect_code(0);
    let compacted: Vec<_> = ran.log().into_iter().filter(|line| line.msg == "context compacted").collect();
    assert!(!compacted.is_empty(), "{}", ran.stdout);
    for line in &compacted {
        let number = |name: &str| line.fields[name].as_u64().unwrap();
        assert_eq!((line.fields["reason"].as_str(), number("summaryLength")), (Some("threshold"), 22));
        assert!(number("tokensAfter") < number("tokensBefore"), "{:?}", line.fields);
    }
    let events =
        |kind: &str| ran.log().into_iter().filter(|line| line.fields.get("type") == Some(&json!(kind))).count();
    assert_eq!((events("auto_compaction_start"), events("auto_compaction_end")), (compacted.len(), compacted.len()));
    assert_eq!(ran.line("token-usage").fields["turnCount"], 7);
}

#[test]
fn a_trigger_too_long_for_the_model_loses_its_middle_and_its_file_has_all_of_it() {
    let bed = with_mock(
        r#"
        context_window = 12000
        [[turn]]
        expect = { prompt_contains = "characters are left out here because they do not fit" }
          [[turn.call]]
          tool = "bash"
          args = { command = "cat $AL_PROMPT_FILE | wc -c; grep -c '^<webhook-trigger>' $AL_PROMPT_FILE" }
        [[turn]]
        text = "{{last_result}}"
        "#,
    );
    let payload = "x".repeat(60_000);
    let trigger = format!("<webhook-trigger>\n{payload}\n</webhook-trigger>\nDo what it says.");
    let ran = bed.variable("PROMPT", trigger.as_str()).run().expect_code(0);
    assert_eq!(ran.line("assistant").fields["text"], format!("{}\n1", trigger.len()));
    let cut = ran.line("trigger shortened to fit the context window");
    assert!(cut.level.as_str() == "warn" && cut.fields["charactersLeftOut"].as_u64() > Some(30_000), "{cut:?}");
    let sent = ran.line("session created, sending prompt").fields["promptLength"].as_u64().unwrap();
    assert!((10_000..30_000).contains(&sent), "{sent}");
}

#[test]
fn instructions_too_long_for_the_model_end_a_run_before_it_begins() {
    let bed = with_mock("context_window = 12000\n[[turn]]\ntext = \"never\"\n");
    bed.write("static/ACTIONS.md", &"Do this. ".repeat(4000));
    let ran = bed.run().expect_code(1);
    let error = ran.line("container entry error").fields["error"].as_str().unwrap().to_owned();
    for part in ["mock:default", "about 9000 tokens of ACTIONS.md", "of the skeleton", "of the trigger", "at most 6000"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert!(!ran.stdout.contains("creating agent session"), "{}", ran.stdout);
}

#[test]
fn repeated_permission_errors_end_with_1() {
    let call = "[[turn.call]]\ntool = \"bash\"\nargs = { command = \"echo permission denied; exit 1\" }\n";
    let ran = with_mock(&format!("[[turn]]\n{call}{call}{call}")).run().expect_code(1);
    ran.line("Aborting: repeated auth/permission failures — check credentials");
    ran.line("token-usage");
    assert!(!ran.stdout.contains("run completed"), "{}", ran.stdout);
}

#[test]
fn a_wrong_mock_script_is_a_start_up_error() {
    let ran = with_mock("turns = 3").run().expect_code(1);
    let error = ran.line("container entry error").fields["error"].as_str().unwrap().to_owned();
    assert!(error.contains("mock.toml") && error.contains("turns"), "{error}");
}

#[test]
fn secrets_in_what_a_tool_prints_stay_out_of_the_log() {
    let bed = Bed::new(&json!({
        "name": "dev", "credentials": ["github_token"], "model": {"provider": "mock", "model": "default"},
    }));
    bed.write("credentials/github_token/default/token", "ghp_0123456789abcdef");
    bed.write("static/prompt-static.txt", "p");
    bed.write(
        "static/mock.toml",
        r#"version = 1
        [[turn]]
          [[turn.call]]
          tool = "bash"
          args = { command = "echo $GITHUB_TOKEN; echo $GITHUB_TOKEN | base64; exit 1" }
        [[turn]]
        expect = { last_result_contains = "ghp_0123456789abcdef" }
        text = "{{last_result}}"
        "#,
    );
    let ran = bed.run().expect_code(0);
    assert!(!ran.stdout.contains("ghp_0123456789abcdef") && !ran.stdout.contains("Z2hwXzAxMjM"), "{}", ran.stdout);
    assert!(ran.line("assistant").fields["text"].as_str().unwrap().starts_with("***"), "{}", ran.stdout);
}

#[test]
fn secrets_in_what_a_tool_prints_are_counted_and_kept_from_the_model_when_it_must_not_see_them() {
    let bed = Bed::new(&json!({
        "name": "dev", "credentials": ["github_token"], "model": {"provider": "mock", "model": "default"},
        "limits": {"redactToolResults": true, "streamTools": true},
    }));
    bed.write("credentials/github_token/default/token", "ghp_0123456789abcdef");
    bed.write("static/prompt-static.txt", "p");
    bed.write(
        "static/mock.toml",
        r#"version = 1
        [[turn]]
          [[turn.call]]
          tool = "bash"
          args = { command = "echo one $GITHUB_TOKEN; echo two $GITHUB_TOKEN" }
        [[turn]]
        expect = { last_result_not_contains = "ghp_0123456789abcdef", last_result_contains = "one ***" }
        text = "fine"
        "#,
    );
    let ran = bed.run().expect_code(0);
    let found = ran.line("secret in tool output");
    let fields = Value::Object(found.fields.clone());
    assert_eq!((found.level.as_str(), fields), ("warn", json!({"type": "github_token", "tool": "bash"})));
    assert_eq!(ran.line("secrets in tool output").fields["count"], 2);
    let printed: Vec<Value> = ran
        .log()
        .into_iter()
        .filter(|line| line.msg == "bash output")
        .map(|line| line.fields["text"].clone())
        .collect();
    assert_eq!(printed, ["one ***", "two ***"]);
    assert!(!ran.stdout.contains("ghp_0123456789abcdef"), "{}", ran.stdout);
}

/// A run becomes a test that needs no model.
#[test]
fn a_recorded_session_is_played_again_to_the_same_end() {
    let script = r#"
        price = { input = 3.0, output = 15.0 }
        [[turn]]
        error = { kind = "overloaded", status = 529, message = "busy", times = 2 }
        [[turn]]
        text = "Looking."
        usage = { input = 1200, output = 40 }
          [[turn.call]]
          tool = "bash"
          args = { command = "echo $GITHUB_TOKEN | wc -c; echo '{{turn}}'" }
          [[turn.call]]
          tool = "write"
          raw_args = '{"path": "/tmp/x", "content": "cut o'
        [[turn]]
        usage = { input = 1300, output = 10 }
          [[turn.call]]
          tool = "bash"
          args = { command = "echo ghp_0123456789abcdef > $HOME/out; printf found > $AL_SIGNAL_DIR/return" }
        [[turn]]
        usage = { input = 1400, output = 5 }
        text = "Done."
        "#;
    let bed = |script: &str| {
        let bed = Bed::new(&json!({
            "name": "dev", "credentials": ["github_token"], "model": {"provider": "mock", "model": "default"},
        }));
        bed.write("credentials/github_token/default/token", "ghp_0123456789abcdef");
        bed.write("static/mock.toml", script);
        bed.variable("PROMPT", "Go.").variable("AL_MOCK_TIME_SCALE", "1000")
    };
    let first = bed(&format!("version = 1\n{script}"));
    let record = first.path("tmp/record.toml");
    let first = first.variable("AL_RECORD", record.display().to_string());
    let recorded = first.run().expect_code(0);
    let script = first.read("tmp/record.toml");
    assert!(!script.contains("ghp_") && script.contains("echo *** > $HOME/out"), "{script}");

    let played = bed(&script).run().expect_code(0);
    let lines = |ran: &Ran| -> Vec<String> {
        let brief = ran.brief().into_iter().filter(|line| !line.contains("retrying request"));
        brief.collect()
    };
    assert_eq!(lines(&played), lines(&recorded));
    let retries = |ran: &Ran| ran.log().iter().filter(|line| line.msg == "retrying request").count();
    assert_eq!((retries(&played), retries(&recorded)), (2, 2));
}

/// A model whose second turn runs a command that goes on for ever and ignores SIGTERM if told so.
fn with_long_tool(trap: &str) -> Bed {
    with_mock(&format!(
        r#"
        [[turn]]
        usage = {{ input = 100, output = 10 }}
          [[turn.call]]
          tool = "bash"
          args = {{ command = "true" }}
        [[turn]]
        usage = {{ input = 200, output = 20 }}
          [[turn.call]]
          tool = "bash"
          args = {{ command = "trap {trap} TERM; echo $$ > $HOME/pid; while :; do sleep 0.1; done" }}
        "#
    ))
}

#[track_caller]
fn expect_usage_of_two_turns(ran: &Ran) {
    let usage = ran.line("token-usage").fields;
    let seen = ["inputTokens", "outputTokens", "totalTokens", "turnCount"].map(|name| usage[name].as_u64());
    assert_eq!(seen, [Some(300), Some(30), Some(330), Some(2)]);
    assert_eq!(ran.log().last().unwrap().msg, "token-usage");
}

#[test]
fn the_time_limit_kills_the_tool_and_reports_the_usage() {
    let bed = with_long_tool("''");
    bed.write("static/timeout", "2");
    let ran = bed.run().expect_code(124);
    assert!(ran.took.as_secs() < 5, "{:?}", ran.took);
    ran.line("container timeout reached, self-terminating");
    expect_usage_of_two_turns(&ran);
    wait_until("the tool is gone", || !is_running(&bed.path("tmp/pid")));
}

#[test]
fn sigterm_ends_the_tool_and_reports_the_usage() {
    #[track_caller]
    fn case(trap: &str, cleaned: &str) {
        let bed = with_long_tool(trap);
        let child = bed.command().spawn().unwrap();
        wait_until("the tool runs", || !bed.read("tmp/pid").is_empty());
        let started = Instant::now();
        signal(&child, Signal::TERM);
        let ran = Ran::from_output(child.wait_with_output().unwrap(), started).expect_code(143);
        assert!(ran.took.as_secs() < 5, "{:?}", ran.took);
        assert_eq!(bed.read("tmp/cleaned"), cleaned);
        expect_usage_of_two_turns(&ran);
        wait_until("the tool is gone", || !is_running(&bed.path("tmp/pid")));
    }
    case("'echo yes > $HOME/cleaned; exit'", "yes\n");
    case("''", "");
}

#[test]
fn processes_that_tools_leave_behind_end_with_the_run() {
    let bed = with_mock(
        r#"
        [[turn]]
          [[turn.call]]
          tool = "bash"
          args = { command = "sleep 60 > /dev/null 2>&1 & echo $! > $HOME/pid" }
        [[turn]]
        text = "done"
        "#,
    );
    bed.run().expect_code(0);
    wait_until("the process is gone", || !is_running(&bed.path("tmp/pid")));
}

#[test]
fn tools_can_neither_read_nor_impersonate_the_agent() {
    let bed = with_mock(
        r#"
        [[turn]]
          [[turn.call]]
          tool = "bash"
          args = { command = "cat /proc/$PPID/environ || echo environ-closed; echo forged > /proc/$PPID/fd/1 || echo stdout-closed" }
        [[turn]]
        text = "{{last_result}}"
        "#,
    );
    let program = bed.path("al-agent");
    std::fs::copy(env!("AL_BIN_AL_AGENT"), &program).unwrap();
    let mut command = Command::new(program);
    bed.dress(&mut command);
    if rustix::process::geteuid().is_root() {
        bed.open_for(1000);
        std::os::unix::process::CommandExt::uid(&mut command, 1000);
    }
    let ran = Ran::of(command).expect_code(0);
    let text = ran.line("assistant").fields["text"].as_str().unwrap().to_owned();
    assert!(text.contains("environ-closed") && text.contains("stdout-closed"), "{text}");
    assert_eq!(ran.plain(), Vec::<&str>::new());
}

#[test]
fn a_run_without_any_prompt_does_not_start() {
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": {"provider": "mock", "model": "noop"}}));
    let ran = bed.run().expect_code(1);
    assert!(ran.line("container entry error").fields["error"].as_str().unwrap().contains("PROMPT"));
}
