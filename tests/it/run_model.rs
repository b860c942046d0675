//! `al run` with a model behind Anthropic's Messages API: the real program, a real container, a scripted server.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use self::bench::{Bench, KEY, MODEL};
use crate::support::llm::{Answer, Reply, Request, bash, text};

mod bench;
mod formats;
mod gemini;
mod openai;

const SOON: Duration = Duration::from_secs(30);

fn cache_marks(request: &Request) -> Vec<String> {
    let mut marks = Vec::new();
    let mut look = |place: String, block: &Value| {
        if let Some(mark) = block.get("cache_control") {
            assert_eq!(*mark, json!({"type": "ephemeral"}));
            marks.push(place);
        }
    };
    for (at, block) in request.body["system"].as_array().unwrap().iter().enumerate() {
        look(format!("system {at}"), block);
    }
    for (at, message) in request.messages().iter().enumerate() {
        for (index, block) in message["content"].as_array().unwrap().iter().enumerate() {
            look(format!("message {at} block {index}"), block);
        }
    }
    marks
}

/// A message without its cache mark, which moves.
fn unmarked(message: &Value) -> Value {
    let mut message = message.clone();
    for block in message["content"].as_array_mut().unwrap() {
        block.as_object_mut().unwrap().remove("cache_control");
    }
    message
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn tools_are_carried_out_and_results_sent_back() {
    let first = Reply::new()
        .thinking("Erst schreiben, dann lesen: \u{1f914} \"quoted\"\n\ttabs", "EqQB+/==\u{e9}")
        .redacted("b3BhcXVl")
        .text("Let me see.")
        .call("toolu_01", "write", &json!({"path": "/tmp/w/a.txt", "content": "one\ntwo \u{1f600}\nthree\n"}))
        .bash("toolu_02", "printf 'first\\nsecond'; echo ' to stderr' >&2")
        .bash("toolu_03", "pwd; exit 3")
        .usage(1000, 200, 0, 5000);
    let second = Reply::new()
        .thinking("", "c2lnbmF0dXJlIG9mIG5vdGhpbmc=")
        .call("toolu_04", "read", &json!({"path": "/tmp/w/a.txt", "offset": 2, "limit": 1}))
        .call("toolu_05", "edit", &json!({"path": "/tmp/w/a.txt", "oldText": "two", "newText": "2"}))
        .usage(10, 20, 6000, 300);
    let third = Reply::new()
        .call("toolu_06", "bash", &json!({"command": "cat /tmp/w/a.txt"}))
        .call("toolu_07", "edit", &json!({"path": "/tmp/w/a.txt", "oldText": "absent", "newText": ""}))
        .call("toolu_08", "fetch", &json!({}))
        .call("toolu_09", "read", &json!({"offset": "x"}))
        .usage(7, 30, 6300, 0);
    let last = text("All done.").usage(5, 6, 6400, 40);
    let script = [first.stream(), second.stream().in_pieces(7), third.stream().in_pieces(1), last.stream()];
    let bench = Bench::new();
    let (run, requests) = bench.run(0, script);

    let request = &requests[0];
    assert_eq!(request.line, "POST /v1/messages");
    for (name, value) in [
        ("x-api-key", Some(KEY)),
        ("authorization", None),
        ("anthropic-version", Some("2023-06-01")),
        ("anthropic-beta", Some("interleaved-thinking-2025-05-14")),
        ("content-type", Some("application/json")),
        ("accept", Some("text/event-stream")),
        ("accept-encoding", Some("identity")),
        ("user-agent", Some(concat!("action-llama/", env!("CARGO_PKG_VERSION")))),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    for request in &requests {
        let body = &request.body;
        let names: Vec<&Value> = body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "bash", "edit", "write"]);
        assert_eq!(body["model"], MODEL);
        assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(40192)));
        assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 8192}));
        assert_eq!(body["system"], requests[0].body["system"]);
        for absent in ["temperature", "tool_choice", "output_config"] {
            assert_eq!(body.get(absent), None);
        }
    }
    let system = request.body["system"][0]["text"].as_str().unwrap();
    assert!(system.contains("## /app/static/ACTIONS.md\n\nDo as you are told.\n"), "{system}");
    assert!(system.ends_with("Current working directory: /app/static"), "{system}");

    let said = [
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Erst schreiben, dann lesen: \u{1f914} \"quoted\"\n\ttabs", "signature": "EqQB+/==\u{e9}"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "toolu_01", "name": "write",
             "input": {"path": "/tmp/w/a.txt", "content": "one\ntwo \u{1f600}\nthree\n"}},
            {"type": "tool_use", "id": "toolu_02", "name": "bash",
             "input": {"command": "printf 'first\\nsecond'; echo ' to stderr' >&2"}},
            {"type": "tool_use", "id": "toolu_03", "name": "bash", "input": {"command": "pwd; exit 3"}}]}),
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "", "signature": "c2lnbmF0dXJlIG9mIG5vdGhpbmc="},
            {"type": "tool_use", "id": "toolu_04", "name": "read",
             "input": {"path": "/tmp/w/a.txt", "offset": 2, "limit": 1}},
            {"type": "tool_use", "id": "toolu_05", "name": "edit",
             "input": {"path": "/tmp/w/a.txt", "oldText": "two", "newText": "2"}}]}),
    ];
    let result = |id: &str, content: &str, is_error: bool| json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error});
    let answered = [
        json!({"role": "user", "content": [
            result("toolu_01", "Wrote 19 bytes to /tmp/w/a.txt", false),
            result("toolu_02", "first\nsecond to stderr\n", false),
            result("toolu_03", "/app/static\n\nCommand exited with code 3", true)]}),
        json!({"role": "user", "content": [
            result("toolu_04", "two \u{1f600}\n\n[2 more lines in file. Use offset=3 to continue.]", false),
            result("toolu_05", "Replaced text in /tmp/w/a.txt.", false)]}),
    ];
    let prompt = unmarked(&request.body["messages"][0]);
    let expected = [&prompt, &said[0], &answered[0], &said[1], &answered[1]];
    for (number, length) in [(1, 1), (2, 3), (3, 5)] {
        let sent = requests[number - 1].messages();
        assert_eq!(sent.len(), length, "request {number}");
        for (at, message) in sent.iter().enumerate() {
            assert_eq!(unmarked(message), *expected[at], "request {number}, message {at}");
        }
    }
    let results = requests[3].results();
    assert_eq!(results[0], ("one\n2 \u{1f600}\nthree\n", false));
    for (at, words) in [(1, "must match the file exactly"), (2, "read, bash, edit, write"), (3, "path")] {
        assert!(results[at].1 && results[at].0.contains(words), "{results:#?}");
    }
    // The mark is on the system text and on the last block of the newest user message, nowhere else.
    for (request, newest) in
        requests.iter().zip(["message 0 block 0", "message 2 block 2", "message 4 block 1", "message 6 block 3"])
    {
        assert_eq!(cache_marks(request), ["system 0", newest]);
    }

    let result = run.done.result();
    let usage = json!({"inputTokens": 1022, "outputTokens": 256, "cacheReadTokens": 18700, "cacheWriteTokens": 5340,
        "totalTokens": 25318, "cost": result["usage"]["cost"], "turnCount": 4});
    assert_eq!(result["usage"], usage);
    let cost = (1022.0 * 3.0 + 256.0 * 15.0 + 18700.0 * 0.3 + 5340.0 * 3.75) / 1e6;
    assert!((result["usage"]["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{result}");
    assert_eq!((&result["result"], &result["error"]), (&json!("completed"), &Value::Null));
    let texts: Vec<Value> = run.log("assistant").iter().map(|entry| entry["text"].clone()).collect();
    assert_eq!(texts, ["Let me see.", "All done."]);
    assert!(!run.shown().contains("Erst schreiben"), "thinking is the model's own business");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_subscription_token_is_sent_as_one() {
    let token = "sk-ant-oat01-0123456789abcdefghijklmnopqrstuvwxyz";
    let model = "provider = 'anthropic'\nmodel = 'claude-opus-5-5'\nauthType = 'oauth_token'\nthinkingLevel = 'high'\n";
    let bench = Bench::with_model("", model);
    bench.project.credential("anthropic_key", "token", token);
    let refused = Answer::error(401, "authentication_error", "OAuth authentication is currently not supported");
    let (run, requests) = bench.run_with(&[], 10, [bash("env").stream(), refused]);
    for request in &requests {
        assert_eq!(request.header("authorization"), Some(format!("Bearer {token}").as_str()));
        assert_eq!(request.header("x-api-key"), None);
        assert_eq!(request.header("anthropic-beta"), Some("claude-code-20250219,oauth-2025-04-20"));
        let system = request.body["system"].as_array().unwrap();
        assert_eq!(system.len(), 2);
        assert_eq!(system[0]["text"], "You are Claude Code, Anthropic's official CLI for Claude.");
        assert_eq!(request.body["thinking"], json!({"type": "adaptive"}));
        assert_eq!(request.body["output_config"], json!({"effort": "high"}));
        assert_eq!(request.body["max_tokens"], 32000);
    }
    assert_eq!(cache_marks(&requests[1]), ["system 0", "system 1", "message 2 block 0"]);
    assert!(!requests[1].results()[0].0.contains("sk-ant"), "{:?}", requests[1].results());
    for words in ["an API key", "harness = \"claude\""] {
        assert!(run.done.stdout.contains(words), "no {words:?}");
    }
    assert!(!run.shown().contains(token));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_server_of_ones_own_needs_no_key_and_gets_the_one_there_is() {
    let model = "provider = 'custom'\napi = 'anthropic'\nmodel = 'local/model:7b'\ncost = { input = 2, output = 4 }\n";
    let limits = "contextWindow = 30000\nmaxTokens = 500\n[model.headers]\nX-Team = 'blue'";
    let bench = Bench::with_model("", &format!("{model}{limits}"));
    let (run, requests) = bench.run(0, [text("Hello.").usage(20_000, 250_000, 0, 0).whole()]);
    assert_eq!(run.done.result()["usage"]["cost"], json!(1.04));
    let request = &requests[0];
    for (name, value) in [("x-api-key", None), ("authorization", None), ("x-team", Some("blue"))] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert_eq!(request.body["model"], "local/model:7b");
    assert_eq!(request.body["max_tokens"], 500);
    assert_eq!(request.body.get("thinking"), None);

    bench.project.credential("custom_key", "token", "key-of-my-own");
    let (_, requests) = bench.run(0, [text("Hello.").stream()]);
    assert_eq!(requests[0].header("x-api-key"), Some("key-of-my-own"));
}

/// A run in which the model cannot be had. It has no time for the slow phase of retries.
struct Failing(Bench);

impl Failing {
    fn new() -> Self {
        Self(Bench::with("timeout = 25", ""))
    }

    /// The run ends with this exit code and its meaning, a person sees these words, which model it was, and that it
    /// was no success; so does a program.
    #[track_caller]
    fn case(&self, script: impl IntoIterator<Item = Answer>, code: i32, kind: &str, words: &[&str]) -> Vec<Request> {
        let (run, requests) = self.0.run_with(&[], code, script);
        let logged = run.log("session error").pop().unwrap_or_default();
        assert_eq!((&logged["kind"], &logged["provider"]), (&json!(kind), &json!("anthropic")));
        let stdout = &run.done.stdout;
        let (_, end) = stdout.split_at(stdout.find("Tokens: ").expect("usage is reported"));
        let model = logged["model"].as_str().unwrap();
        for word in [&["anthropic", model, &format!("exited with code {code} (")], words].concat() {
            assert!(end.contains(word), "no {word:?} in the end of the output");
        }
        assert!(run.done.last_line().contains(" error ("));
        assert!(!stdout.contains("ompleted"));
        assert!(!run.shown().contains(KEY));
        requests
    }
}

/// Such an error is not sent again in the fast phase.
fn finally(status: u16, kind: &str, message: &str) -> Answer {
    Answer::error(status, kind, message).header("x-should-retry", "false")
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_key_that_is_refused() {
    let failing = Failing::new();
    let renew = "al creds add";
    let echoed = format!("invalid x-api-key {KEY}");
    failing.case([Answer::error(401, "authentication_error", &echoed)], 10, "auth", &["invalid x-api-key ***", renew]);
    let object = json!({"type": "error", "error": {"type": "authentication_error", "message": "no such key"}});
    failing.case([Answer::json(200, &object)], 10, "auth", &["no such key", renew]);
    let answer = Answer::error(403, "permission_error", "not for this workspace");
    failing.case([answer], 11, "permission", &["HTTP 403: not for this workspace", "Permission"]);
    let answer = Answer::error(400, "invalid_request_error", "Your credit balance is too low to access the API");
    failing.case([answer], 12, "quota", &["credit balance is too low", "billing"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_limit_that_does_not_go_away() {
    let failing = Failing::new();
    let limited = Answer::error(429, "rate_limit_error", "too much").header("retry-after", "1");
    let requests = failing.case(vec![limited; 3], 12, "rate_limit", &["HTTP 429: too much", "later"]);
    for pair in requests.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(10), "{pause:?}");
        assert_eq!(pair[0].body, pair[1].body);
    }
    let much_later = Answer::error(429, "rate_limit_error", "come back tomorrow").header("retry-after", "86400");
    failing.case([much_later], 12, "rate_limit", &["come back tomorrow"]);
    failing.case(
        [finally(529, "overloaded_error", "Overloaded")],
        12,
        "overloaded",
        &["HTTP 529: Overloaded", "later"],
    );
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_server_that_is_broken() {
    let failing = Failing::new();
    failing.case([finally(500, "api_error", "Internal")], 14, "server", &["HTTP 500: Internal", "again later"]);
    let failing = Failing(Bench::with("timeout = 9", ""));
    let html = Answer::raw(200, "text/html", "<html>Sign in to the network</html>").forever();
    failing.case([html], 14, "malformed", &["neither a stream nor JSON (text/html)", "<html>Sign in", "baseUrl"]);
    failing.0.llm.close();
    failing.case([], 14, "network", &["onnection refused", "baseUrl"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_request_that_is_refused() {
    let failing = Failing::new();
    let answer = Answer::error(404, "not_found_error", &format!("model: {MODEL}"));
    failing.case([answer], 13, "invalid_request", &["HTTP 404", "[model]"]);
    let answer = Answer::error(400, "invalid_request_error", "messages: too strange");
    failing.case([answer], 13, "invalid_request", &["messages: too strange"]);
    let elsewhere = Answer::raw(301, "text/plain", "moved").header("location", &failing.0.llm.url());
    failing.case([elsewhere], 13, "invalid_request", &["HTTP 301", "baseUrl"]);
    let answer = Answer::error(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum");
    failing.case([answer], 15, "context_overflow", &["prompt is too long"]);
    let refusal = text("I cannot").stop("refusal");
    failing.case([refusal.stream()], 15, "refusal", &["refused to answer"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_id_that_is_no_longer_served_is_answered_with_another() {
    let bench = Bench::with_model("", "provider = 'anthropic'\nmodel = 'claude-opus-4-20250514'");
    bench.project.credential("anthropic_key", "token", KEY);
    let failing = Failing(bench);
    let answer = Answer::error(404, "not_found_error", "model: claude-opus-4-20250514");
    failing.case([answer], 13, "invalid_request", &["claude-opus-5-5"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn passing_failures_are_retried_and_leave_no_trace() {
    let half = text("This half will be withdrawn.").usage(1000, 1000, 1000, 1000);
    let broken_json = Answer::raw(200, "text/event-stream", "event: message_start\ndata: {\"type\": \n\n");
    let script = [
        Answer::error(429, "rate_limit_error", "slow down").header("retry-after", "1"),
        Answer::error(500, "api_error", "Internal"),
        Answer::error_within(&half, "overloaded_error", "Overloaded").header("retry-after", "1"),
        half.stream().cut_behind("half"),
        broken_json,
        bash("true").text("Working.").usage(30, 20, 0, 0).stream(),
        Answer::error(529, "overloaded_error", "Overloaded").header("retry-after-ms", "50"),
        text("Done.").usage(40, 2, 0, 0).stream(),
    ];
    let bench = Bench::new();
    let (run, requests) = bench.run(0, script);
    for request in &requests[1..6] {
        assert_eq!(request.body, requests[0].body);
    }
    assert_eq!(requests[6].body, requests[7].body);
    assert_eq!(requests[7].messages().len(), 3);
    let pauses: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (at, least) in [(0, 1000), (1, 375), (2, 1000), (3, 750), (4, 1500), (6, 50)] {
        assert!(pauses[at] >= Duration::from_millis(least), "{pauses:?}");
    }
    let kinds: Vec<Value> = run.log("retrying request").iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["rate_limit", "server", "overloaded", "network", "malformed", "overloaded"]);
    let usage = &run.done.result()["usage"];
    assert_eq!(
        (&usage["inputTokens"], &usage["outputTokens"], &usage["turnCount"]),
        (&json!(70), &json!(22), &json!(2))
    );
    assert_eq!(run.only("run completed")["outputLength"], "Working.Done.".len());
    assert!(!run.shown().contains("withdrawn"));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_silent_server_is_given_up_and_asked_again() {
    let silent = || text("Wait for me.").stream();
    let script =
        [Answer::silence(), silent().silent_after_head(), silent().silent_behind("Wait"), text("Here.").stream()];
    let bench = Bench::with("", "idleTimeout = 1");
    let (run, requests) = bench.run(0, script);
    for pair in requests.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause > Duration::from_secs(1) && pause < Duration::from_secs(15), "{pause:?}");
    }
    let retries = run.log("retrying request");
    assert_eq!(retries.len(), 3);
    for retry in retries {
        assert_eq!(retry["kind"], "network");
        assert!(retry["error"].as_str().unwrap().contains("nothing received for 1 s"), "{retry}");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_server_that_stays_silent_ends_the_run_before_its_time() {
    let failing = Failing(Bench::with("timeout = 9", "idleTimeout = 1"));
    failing.case([Answer::silence().forever()], 14, "network", &["nothing received for 1 s"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_slow_stream_is_not_taken_for_a_silent_one() {
    let events = [
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "\u{e9}"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        json!({"type": "message_stop"}),
    ];
    let slow = Answer::events(&events).slowly(1, Duration::from_millis(20));
    let bench = Bench::with("", "idleTimeout = 1");
    let (run, _) = bench.run(0, [slow]);
    assert_eq!(run.only("assistant")["text"], "\u{e9}");
    assert!(run.done.result()["durationMs"].as_u64() > Some(3000));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_end_of_time_is_kept_while_the_server_is_silent() {
    let bench = Bench::with("timeout = 5", "");
    let silent = text("I will be silent").usage(5000, 5, 0, 0).stream().silent_behind("I will");
    let (run, _) = bench.run(124, [bash("true").usage(100, 10, 0, 0).stream(), silent]);
    let result = run.done.result();
    assert_eq!((&result["result"], &result["exitCode"]), (&json!("error"), &json!(124)));
    assert_eq!((&result["usage"]["inputTokens"], &result["usage"]["turnCount"]), (&json!(100), &json!(1)));
    assert!(result["error"].as_str().unwrap().contains("(timeout)"), "{result}");
    let took = result["durationMs"].as_u64().unwrap();
    assert!((5000..10_000).contains(&took), "{took} ms");
    bench.llm.wait_for_closed(2, SOON);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_interrupt_during_a_request_ends_everything() {
    let bench = Bench::new();
    let running = bench.start(&["--json"], [text("I will be silent").stream().silent_behind("I will")]);
    bench.llm.wait_for_request(1, SOON);
    running.signal(Signal::INT);
    let run = bench.end(running);
    run.done.expect(130);
    bench.llm.wait_for_closed(1, SOON);
    let result = run.done.result();
    assert_eq!(result["result"], "error");
    assert!(result["error"].as_str().unwrap().contains("killed"), "{result}");
    bench.project.assert_clean();
    bench.llm.finish();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_mebibyte_each_way() {
    let line = "\u{20ac} caf\u{e9} \u{1f600} \\ \"quoted\" \t\n";
    let long = line.repeat((1 << 20) / line.len() + 1);
    let bench = Bench::with_model("", "provider = 'anthropic'\nmodel = 'claude-opus-4-6'");
    bench.project.credential("anthropic_key", "token", KEY);
    let first = Reply::new()
        .text(&long)
        .call("call_1", "write", &json!({"path": "/tmp/long", "content": long}))
        .bash("call_2", "wc -c </tmp/long; sha256sum </tmp/long")
        .deltas_of(4096);
    let (run, requests) = bench.run(0, [first.stream().in_pieces(1021), text("Done.").stream()]);
    let content = &requests[1].body["messages"][1]["content"];
    assert!(content[0]["text"] == long.as_str(), "the text was changed");
    assert!(content[1]["input"]["content"] == long.as_str(), "the arguments were changed");
    let digest: String = ring::digest::digest(&ring::digest::SHA256, long.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(requests[1].results()[1].0, format!("{}\n{digest}  -\n", long.len()));
    assert_eq!(run.only("run completed")["outputLength"], long.chars().count() + "Done.".len());
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_answer_that_was_cut_off_is_continued() {
    let cut =
        Reply::new().text("I begin").cut_call("call_1", "write", "{\"path\": \"/tmp/half\", \"content\": \"half of");
    let script = [
        cut.stream(),
        bash("ls /tmp/half").stream(),
        text("one ").stop("max_tokens").stream(),
        text("two ").stop("max_tokens").stream(),
        text("three ").stop("max_tokens").stream(),
    ];
    let bench = Bench::new();
    let (run, requests) = bench.run(0, script);
    let (result, is_error) = requests[1].results()[0];
    assert!(is_error && result.contains("cut off"), "{result}");
    let (result, is_error) = requests[2].results()[0];
    assert!(is_error && result.contains("No such file"), "{result}");
    for (request, said) in [(&requests[3], "one "), (&requests[4], "two ")] {
        let messages = request.messages();
        let [.., assistant, user] = messages else { panic!("{messages:?}") };
        assert_eq!(assistant["content"], json!([{"type": "text", "text": said}]));
        assert_eq!(user["role"], "user");
        assert!(user["content"][0]["text"].as_str().unwrap().contains("cut off"), "{user}");
    }
    run.only("output limit reached");
    assert_eq!(run.only("run completed")["outputLength"], "I beginone two three ".len());
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_parameter_that_is_rejected_is_left_out() {
    let script = [
        Answer::error(400, "invalid_request_error", "thinking: Extra inputs are not permitted"),
        bash("true").stream(),
        text("Done.").stream(),
    ];
    let bench = Bench::new();
    let (run, requests) = bench.run(0, script);
    assert!(requests[0].body.get("thinking").is_some());
    for request in &requests[1..] {
        assert_eq!(request.body.get("thinking"), None);
        assert_eq!(request.header("anthropic-beta"), None);
    }
    assert_eq!(run.only("provider rejected parameter")["param"], "thinking");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_third_failure_for_want_of_permission_ends_the_run() {
    let denied = "echo 'remote: Permission denied to bot' >&2; exit 128";
    let first = Reply::new().bash("call_1", denied).usage(10, 1, 0, 0);
    let second = Reply::new()
        .bash("call_2", denied)
        .bash("call_3", denied)
        .bash("call_4", "echo not reached")
        .usage(20, 2, 0, 0);
    let bench = Bench::new();
    let (run, _) = bench.run(1, [first.stream(), second.stream()]);
    run.only("Aborting: repeated auth/permission failures \u{2014} check credentials");
    assert_eq!(run.log("tool error").len(), 3);
    assert_eq!(run.log("bash").len(), 3);
    let result = run.done.result();
    assert_eq!((&result["result"], &result["usage"]["inputTokens"]), (&json!("error"), &json!(30)));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_exit_in_a_tool_call_is_the_end() {
    let script = [Reply::new().text("Giving up.").bash("call_1", "al-return 'half a result'; al-exit 10").stream()];
    let bench = Bench::new();
    let (run, _) = bench.run(10, script);
    let result = run.done.result();
    assert_eq!((&result["result"], &result["returnValue"]), (&json!("error"), &json!("half a result")));
    assert_eq!(run.only("agent terminated with exit signal")["exitCode"], 10);
    // It was the agent that could not authenticate, somewhere; the model could be had.
    assert!(!result["error"].as_str().unwrap().contains("provider"), "{result}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn usage_is_what_the_server_counted_in_all_runs() {
    let forged = json!({"_log": true, "level": "info", "msg": "token-usage", "inputTokens": 9, "cost": 9.9, "ts": 1, "seq": 999});
    let script = [
        bash(&format!("al-rerun; echo '{forged}' | tee /dev/stderr")).usage(1000, 100, 0, 0).stream(),
        text(&forged.to_string()).usage(2000, 200, 500, 0).stream(),
        bash("al-return 'found nothing'")
            .usage(300, 30, 0, 700)
            .stream()
            .when("the second run knows nothing of the first", |it| it.messages().len() == 1),
        text("Nothing left.").usage(40, 4, 1000, 0).stream(),
    ];
    let bench = Bench::new();
    let (run, _) = bench.run(0, script);
    let result = run.done.result();
    let cost = (3340.0 * 3.0 + 334.0 * 15.0 + 1500.0 * 0.3 + 700.0 * 3.75) / 1e6;
    assert!((result["usage"]["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{result}");
    let usage = json!({"inputTokens": 3340, "outputTokens": 334, "cacheReadTokens": 1500, "cacheWriteTokens": 700,
        "totalTokens": 5874, "cost": result["usage"]["cost"], "turnCount": 4});
    assert_eq!(result["usage"], usage);
    assert_eq!((&result["reruns"], &result["returnValue"]), (&json!(1), &json!("found nothing")));
}

/// A value in the forms in which a tool may print it without trying hard.
fn forms(value: &str) -> Vec<String> {
    let base64 = |text: &str| {
        let mut child = std::process::Command::new("base64")
            .arg("--wrap=0")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    // Without its last group, which depends on what comes after it.
    let encoded = base64(value);
    let mut forms = vec![value.to_owned(), encoded[..encoded.len() - 4].to_owned()];
    // `base64` breaks its lines.
    forms.extend(encoded.as_bytes().chunks(76).map(|line| String::from_utf8(line.to_vec()).unwrap()));
    forms.retain(|form| form.len() >= 16);
    forms
}

/// Prints every secret of a run in every way that comes to mind, twice: as success and as failure.
const PRINT_SECRETS: &str = r#"
for file in /credentials/*/*/*; do
    cat "$file"; base64 "$file"; base64 -w0 "$file"; echo; tr -d '\n' <"$file" | base64; jq -sRr @uri "$file"
done
echo "$SHUTDOWN_SECRET"; printf %s "$SHUTDOWN_SECRET" | base64; echo "$SHUTDOWN_SECRET" | base64
cat /run/al/run.json
"#;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn no_secret_is_shown_whatever_the_model_prints() {
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz/+&=";
    let pem = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
               b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
               QyNTUxOQAAACBzb21ldGhpbmcgdGhhdCBsb29rcyBsaWtlIGEga2V5IGJ1dCBpcyBub25l\n\
               -----END OPENSSH PRIVATE KEY-----";
    let bench = Bench::with("credentials = ['github_token', 'git_ssh']", "");
    bench.project.credential("github_token", "token", token);
    for (field, value) in [("id_rsa", pem), ("username", "bot"), ("email", "bot@example.com")] {
        bench.project.credential("git_ssh", field, value);
    }
    let said = format!("The key is {KEY}, the token {token}.");
    let script = || {
        let first = Reply::new()
            .text(&said)
            .bash("call_1", PRINT_SECRETS)
            .bash("call_2", &format!("{PRINT_SECRETS} false"))
            .bash("call_3", "env; cat /proc/self/environ | tr '\\0' '\\n'")
            .bash("call_4", "al-status \"$GITHUB_TOKEN\"; al-return \"$GITHUB_TOKEN $SHUTDOWN_SECRET $(cat /credentials/anthropic_key/default/token)\"")
            .bash("call_5", &format!("echo {KEY}; echo {token} >&2; exit 1"))
            .call("call_6", "read", &json!({"path": format!("/tmp/{KEY}")}));
        let echoed = Answer::error(400, "invalid_request_error", &format!("{KEY} may not send {token}"));
        [first.stream(), echoed]
    };
    let summary = bench.project.outer().join("summary.md");
    for (args, in_ci) in [(&["--json"][..], false), (&[], false), (&[], true)] {
        bench.llm.play(script());
        let mut al = bench.project.al(&[&["run", &bench.agent], args].concat());
        if in_ci {
            al = al.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
        }
        let run = bench.end(al.start());
        run.done.expect(13);
        let requests = bench.llm.finish();
        assert_eq!(requests[0].header("x-api-key"), Some(KEY));
        let results = requests[1].results();
        // The tools really saw them, but the key of the model is in no environment.
        assert!(results[0].0.contains(token) && results[0].0.contains(KEY));
        assert!(results[2].0.contains(token) && !results[2].0.contains("sk-ant-"), "{}", results[2].0);
        let run_secret = results[2].0.lines().find_map(|line| line.strip_prefix("SHUTDOWN_SECRET=")).unwrap();
        let shown = run.shown() + &std::fs::read_to_string(&summary).unwrap_or_default();
        assert!(run.done.stdout.contains("***"));
        let lines = pem.lines().filter(|line| !line.starts_with("--"));
        for secret in [KEY, token, run_secret, pem].into_iter().chain(lines) {
            for form in forms(secret) {
                assert!(!shown.contains(&form), "{form:?}, a form of {secret:?}, is shown");
                let json = serde_json::to_string(&form).unwrap();
                assert!(!shown.contains(json.trim_matches('"')), "{json}, a form of {secret:?}, is shown");
            }
        }
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_returned_secret_is_masked_also_when_the_run_does_not_get_to_its_end() {
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let bench = Bench::with("credentials = ['github_token']\ntimeout = 5", "");
    bench.project.credential("github_token", "token", token);
    let call = Reply::new().bash("call_1", "al-return \"it is $GITHUB_TOKEN\"").bash("call_2", "sleep 60");
    let (run, _) = bench.run(124, [call.stream()]);
    assert_eq!(run.done.result()["returnValue"], "it is ***");
    assert!(!run.shown().contains(token));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_that_warns_of_a_secret_does_not_show_it() {
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let bench = Bench::with("credentials = ['github_token']", "");
    bench.project.credential("github_token", "token", token);
    let (run, _) = bench.run(137, [bash("al-shutdown \"$GITHUB_TOKEN is in issue 7\"").stream()]);
    assert!(run.done.result()["error"].as_str().unwrap().contains("shutdown requested: *** is in issue 7"));
    assert!(run.shown().contains("\"reason\":\"*** is in issue 7\""));
    assert!(!run.shown().contains(token));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_model_cannot_draw_on_the_terminal() {
    let bench = Bench::new();
    let (run, _) = bench.run_with(&[], 0, [text("\u{1b}]0;title\u{7}\u{1b}[2Jgone\u{9b}31m\r\u{202e}").stream()]);
    assert!(run.done.stdout.contains("gone"));
    for forbidden in ['\u{1b}', '\u{7}', '\u{9b}', '\r', '\u{202e}'] {
        assert!(!run.done.stdout.contains(forbidden), "{forbidden:?}");
    }
}
