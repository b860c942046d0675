//! `al run` with models behind OpenAI's Responses API and behind Chat Completions.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{Bench, Run};
use crate::support::llm::{Answer, Reply, Request, bash, text};

/// As long as real ones are.
const KEY: &str = "sk-proj-Zm9vYmFyLXRoaXMtaXMtbm90LWEta2V5_but-it-has-the-length-of-one-0123456789-ABCDEFGHIJ";
/// The smallest of all pictures.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// An agent with a model of this provider and its key.
fn bench(agent: &str, provider: &str, model: &str) -> Bench {
    let bench = Bench::with_model(agent, &format!("provider = '{provider}'\n{model}"));
    bench.project.credential(&format!("{provider}_key"), "token", KEY);
    bench
}

#[track_caller]
fn assert_headers(request: &Request, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(request.header(name), *value, "{name}");
    }
}

fn make_picture() -> String {
    format!("echo {PNG} | base64 -d >/tmp/a.png")
}

/// Tokens and cost of a run, in the order input, output, read, written.
#[track_caller]
fn assert_usage(run: &Run<'_>, tokens: [u64; 4], cost: f64) {
    let usage = run.done.result()["usage"].clone();
    let seen = ["inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens"].map(|name| usage[name].as_u64());
    assert_eq!(seen, tokens.map(Some));
    assert!((usage["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{usage} instead of {cost}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn tools_behind_the_responses_api() {
    let first = Reply::new()
        .thinking("Nobody else should see this.", "gAAAAAB/==\u{e9}")
        .text("Let me see.")
        .bash("call_1", "printf 'first\\nsecond'; echo ' to stderr' >&2")
        .bash("call_2", &format!("{}; exit 3", make_picture()))
        .usage(1000, 200, 0, 0);
    let second = Reply::new().call("call_3", "read", &json!({"path": "/tmp/a.png"})).usage(300, 20, 1000, 0);
    let last = text("All done. \u{1f600}").usage(10, 6, 1500, 0);
    let script = [first.responses(), second.responses().in_pieces(7), last.responses().in_pieces(1)];
    let bench = bench("", "openai", "model = 'gpt-5'");
    let (run, requests) = bench.run(0, script);

    let session = requests[0].body["prompt_cache_key"].as_str().unwrap();
    for request in &requests {
        assert_eq!(request.line, "POST /responses");
        let bearer = format!("Bearer {KEY}");
        assert_headers(
            request,
            &[("authorization", Some(&bearer)), ("x-api-key", None), ("accept-encoding", Some("identity"))],
        );
        let body = &request.body;
        let names: Vec<&Value> = body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "bash", "edit", "write"]);
        assert_eq!((&body["reasoning"], &body["store"]), (&json!({"effort": "medium"}), &json!(false)));
        assert_eq!((&body["max_output_tokens"], &body["prompt_cache_key"]), (&json!(32000), &json!(session)));
        assert_eq!(body["input"][0]["role"], "developer");
    }
    let input = |number: usize| requests[number - 1].body["input"].as_array().unwrap();
    assert_eq!(
        (input(1).len(), input(2)[..2].to_vec(), input(3)[..8].to_vec()),
        (2, input(1).clone(), input(2).clone())
    );
    let output = |id: &str, text: &str| json!({"type": "function_call_output", "call_id": id, "output": text});
    let call = |item: &str, id: &str, command: &str| {
        let arguments = json!({"command": command}).to_string();
        json!({"type": "function_call", "id": item, "call_id": id, "name": "bash", "arguments": arguments})
    };
    let expected = [
        json!({"id": "rs_0", "type": "reasoning", "encrypted_content": "gAAAAAB/==\u{e9}",
            "summary": [{"type": "summary_text", "text": "Nobody else should see this."}]}),
        json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]}),
        call("fc_2", "call_1", "printf 'first\\nsecond'; echo ' to stderr' >&2"),
        call("fc_3", "call_2", &format!("{}; exit 3", make_picture())),
        output("call_1", "first\nsecond to stderr\n"),
        output("call_2", "(no output)\n\nCommand exited with code 3"),
    ];
    assert_eq!(input(2)[2..], expected);
    let picture = json!({"type": "input_image", "detail": "auto", "image_url": format!("data:image/png;base64,{PNG}")});
    let words = json!({"type": "input_text", "text": "Read image file [image/png]"});
    assert_eq!(input(3)[9], json!({"type": "function_call_output", "call_id": "call_3", "output": [words, picture]}));

    assert_usage(&run, [1310, 226, 2500, 0], (1310.0 * 1.25 + 226.0 * 10.0 + 2500.0 * 0.125) / 1e6);
    assert_eq!(run.done.result()["result"], "completed");
    let texts: Vec<Value> = run.log("assistant").iter().map(|entry| entry["text"].clone()).collect();
    assert_eq!(texts, ["Let me see.", "All done. \u{1f600}"]);
    assert!(!run.shown().contains("Nobody else") && !run.shown().contains(KEY));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn tools_behind_chat_completions() {
    let first = Reply::new()
        .thinking("Nobody else should see this.", "")
        .text("Let me see.")
        .bash("call_1", &make_picture())
        .call("call_2", "fetch", &json!({}))
        .usage(1000, 200, 0, 0);
    let second = Reply::new().call("call_3", "read", &json!({"path": "/tmp/a.png"})).usage(300, 20, 1000, 0);
    let last = text("All done. \u{1f600}").usage(10, 6, 1500, 0);
    let script = [first.chat(), second.chat().in_pieces(7), last.chat().in_pieces(1)];
    let bench = bench("", "groq", "model = 'openai/gpt-oss-120b'\nimages = true\nthinkingLevel = 'high'");
    let (run, requests) = bench.run(0, script);

    for request in &requests {
        assert_eq!(request.line, "POST /chat/completions");
        let body = &request.body;
        assert_eq!((&body["reasoning_effort"], &body["max_completion_tokens"]), (&json!("high"), &json!(32000)));
        assert_eq!(body["stream_options"], json!({"include_usage": true}));
        assert_eq!(body["tools"].as_array().unwrap().len(), 4);
    }
    assert_headers(&requests[0], &[("authorization", Some(&format!("Bearer {KEY}")))]);
    let messages = requests[2].messages();
    assert_eq!((messages[0]["role"].as_str(), messages[1]["role"].as_str()), (Some("system"), Some("user")));
    let call = |id: &str, name: &str, arguments: Value| {
        let function = json!({"name": name, "arguments": arguments.to_string()});
        json!({"id": id, "type": "function", "function": function})
    };
    let calls = [call("call_1", "bash", json!({"command": make_picture()})), call("call_2", "fetch", json!({}))];
    let said = json!({"role": "assistant", "content": "Let me see.", "tool_calls": calls,
        "reasoning_content": "Nobody else should see this."});
    assert_eq!(messages[2], said);
    assert_eq!(messages[3], json!({"role": "tool", "tool_call_id": "call_1", "content": "(no output)"}));
    assert!(messages[4]["content"].as_str().unwrap().contains("read, bash, edit, write"), "{}", messages[4]);
    let silent = [call("call_3", "read", json!({"path": "/tmp/a.png"}))];
    assert_eq!(messages[5], json!({"role": "assistant", "content": null, "tool_calls": silent}));
    let words = "Read image file [image/png]";
    assert_eq!(messages[6], json!({"role": "tool", "tool_call_id": "call_3", "content": words}));
    let attached = json!({"type": "text", "text": "Attached image(s) from tool result:"});
    let picture = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PNG}")}});
    assert_eq!(messages[7..], [json!({"role": "user", "content": [attached, picture]})]);

    assert_usage(&run, [1310, 226, 2500, 0], (1310.0 * 0.15 + 226.0 * 0.6) / 1e6);
    assert!(!run.shown().contains("Nobody else") && !run.shown().contains(KEY));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn mistral_wants_short_ids_and_names() {
    let first = Reply::new().bash("call-with-a-long-id", "echo one").bash("D681PevKs", "echo two");
    let bench = bench("", "mistral", "model = 'magistral-medium-latest'");
    let (_, requests) = bench.run(0, [first.chat(), text("Done.").chat()]);
    assert_eq!(requests[0].header("x-affinity").map(str::len), Some(36));
    assert_eq!(requests[0].header("x-affinity"), requests[1].header("x-affinity"));
    let body = &requests[1].body;
    assert_eq!((&body["prompt_mode"], &body["max_tokens"]), (&json!("reasoning"), &json!(16384)));
    assert_eq!(body.get("stream_options"), None);
    let [_, _, said, first, second] = requests[1].messages() else { panic!("{body:#}") };
    let ids = [&said["tool_calls"][0]["id"], &said["tool_calls"][1]["id"]];
    assert_eq!((ids[0].as_str().map(str::len), ids[1]), (Some(9), &json!("D681PevKs")));
    assert_eq!(*first, json!({"role": "tool", "tool_call_id": ids[0], "name": "bash", "content": "one\n"}));
    assert_eq!(*second, json!({"role": "tool", "tool_call_id": ids[1], "name": "bash", "content": "two\n"}));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn openrouter_says_what_it_charges_and_when_a_server_behind_it_fails() {
    let error = json!({"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream closed"}});
    let failing = Answer::chunks(&[
        json!({"choices": [{"index": 0, "delta": {"content": "This will be withdrawn."}}]}),
        json!({"error": error, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
    ]);
    let choice = json!({"index": 0, "delta": {"content": "Done."}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 10, "cost": 0.25});
    let charged = Answer::chunks(&[json!({"choices": [choice]}), json!({"choices": [], "usage": usage})]);
    let bench = bench("", "openrouter", "model = 'anthropic/claude-sonnet-4.5'");
    let (run, requests) = bench.run(0, [failing, charged]);
    let request = &requests[0];
    let title = ("x-title", Some("Action Llama"));
    assert_headers(request, &[title, ("http-referer", Some("https://github.com/Action-Llama/action-llama"))]);
    assert_eq!((&request.body["usage"], request.body["reasoning"].is_object()), (&json!({"include": true}), true));
    let system = &request.messages()[0]["content"][0];
    assert_eq!(system["cache_control"], json!({"type": "ephemeral"}));
    assert_usage(&run, [1000, 10, 0, 0], 0.25);
    let retry = run.only("retrying request");
    let seen = (retry["kind"].as_str(), retry["error"].as_str());
    assert_eq!(seen, (Some("server"), Some("Provider returned error: upstream closed")));
    assert!(!run.shown().contains("withdrawn"));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_server_of_ones_own_that_knows_less() {
    let model = "provider = 'custom'\nmodel = 'local:7b'\ncontextWindow = 30000\nmaxTokens = 500\n";
    let bench = Bench::with_model("", model);
    let refusal = Answer::refusal(400, "unknown", "Unrecognized request argument supplied: stream_options");
    let (run, requests) = bench.run(0, [refusal, text("Hello.").usage(20, 4, 0, 0).whole_chat()]);
    assert_headers(&requests[0], &[("authorization", None)]);
    let options: Vec<bool> = requests.iter().map(|request| request.body.get("stream_options").is_some()).collect();
    assert_eq!((options, &requests[1].body["max_tokens"]), (vec![true, false], &json!(500)));
    assert_eq!(run.only("provider rejected parameter")["param"], "stream_options");
    assert_usage(&run, [20, 4, 0, 0], 0.0);
    assert_eq!(run.only("assistant")["text"], "Hello.");

    bench.project.credential("custom_key", "token", "key-of-my-own");
    let more = format!("{model}authHeader = 'X-Key'\n[model.compat]\nmaxTokensField = 'max_completion_tokens'");
    let url = bench.llm.url();
    bench.project.configure(&bench.agent, &format!("[model]\nbaseUrl = '{url}'\n{more}"));
    let (_, requests) = bench.run(0, [text("Hello.").chat()]);
    assert_headers(&requests[0], &[("authorization", None), ("x-key", Some("key-of-my-own"))]);
    assert_eq!(requests[0].body["max_completion_tokens"], 500);
}

/// A format, and how a model and its responses look in it.
type Format = (&'static str, &'static str, fn(&Reply) -> Answer);

const FORMATS: [Format; 2] =
    [("openai", "model = 'gpt-6-luna'", Reply::responses), ("xai", "model = 'grok-4.7'", Reply::chat)];

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn passing_failures_are_retried_in_every_format() {
    for (provider, model, format) in FORMATS {
        let cut = format(&text("This half will be withdrawn.")).cut_behind("half");
        let script = [
            Answer::refusal(429, "rate_limit_exceeded", "slow down").header("retry-after", "1"),
            Answer::refusal(429, "rate_limit_exceeded", "Please try again in 1.2s."),
            Answer::refusal(500, "server_error", "Internal"),
            cut,
            format(&bash("true").usage(30, 20, 0, 0)),
            format(&text("Done.").usage(40, 2, 0, 0)),
        ];
        let bench = bench("", provider, model);
        let (run, requests) = bench.run(0, script);
        for request in &requests[1..5] {
            assert_eq!(request.body, requests[0].body);
        }
        let pauses: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        for (at, least) in [(0, 1000), (1, 1200), (2, 375), (3, 750)] {
            assert!(pauses[at] >= Duration::from_millis(least), "{pauses:?}");
        }
        let retries = run.log("retrying request");
        let kinds: Vec<&Value> = retries.iter().map(|entry| &entry["kind"]).collect();
        assert_eq!(kinds, ["rate_limit", "rate_limit", "server", "network"]);
        assert_eq!((&retries[0]["status"], &retries[0]["delayMs"]), (&json!(429), &json!(1000)));
        let result = run.done.result();
        assert_eq!((&result["usage"]["inputTokens"], &result["usage"]["turnCount"]), (&json!(70), &json!(2)));
        assert!(!run.shown().contains("withdrawn"));
    }
}

/// An answer with which a run is over, its exit code, its kind, and words that a person sees.
type Failure = (Answer, i32, &'static str, &'static [&'static str]);

/// Runs end with the exit code of their failure and say what it was.
#[track_caller]
fn assert_failures(provider: &str, id: &str, failures: impl IntoIterator<Item = Failure>) {
    // There is no time for the slow phase of retries.
    let bench = bench("timeout = 25", provider, &format!("model = '{id}'"));
    for (answer, code, kind, words) in failures {
        let (run, _) = bench.run_with(&[], code, [answer]);
        let logged = run.log("session error").pop().unwrap_or_default();
        let seen = (&logged["kind"], &logged["provider"], &logged["model"]);
        assert_eq!(seen, (&json!(kind), &json!(provider), &json!(id)));
        for words in words {
            assert!(run.done.stdout.contains(words), "no {words:?} in the output");
        }
        assert!(run.done.last_line().contains(" error ("), "{}", run.done.last_line());
        assert!(!run.shown().contains(KEY));
    }
}

fn broken() -> Failure {
    let answer = Answer::refusal(500, "server_error", "Internal").header("x-should-retry", "false");
    (answer, 14, "server", &["HTTP 500: Internal", "again later"])
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn final_failures_behind_the_responses_api() {
    let bad_key = Answer::refusal(401, "invalid_api_key", &format!("Incorrect API key provided: {KEY}"));
    let spent = Answer::refusal(429, "insufficient_quota", "You exceeded your current quota");
    let unknown = Answer::refusal(404, "model_not_found", "The model `gpt-6-luna` does not exist");
    let long = Answer::refusal(400, "context_length_exceeded", "Your input exceeds the context window");
    let failed = json!({"status": "failed", "error": {"code": "image_too_small", "message": "Too small"}});
    let failed = Answer::events(&[json!({"type": "response.failed", "response": failed})]);
    let failures: [Failure; 7] = [
        (bad_key, 10, "auth", &["Incorrect API key provided: ***", "al creds add"]),
        (spent, 12, "quota", &["exceeded your current quota", "billing"]),
        (unknown, 13, "invalid_request", &["does not exist", "[model]"]),
        (failed, 13, "invalid_request", &["Too small"]),
        broken(),
        (long, 15, "context_overflow", &["exceeds the context window"]),
        (text("I cannot").stop("refusal").responses(), 15, "refusal", &["refused to answer"]),
    ];
    assert_failures("openai", "gpt-6-luna", failures);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn final_failures_behind_chat_completions() {
    let bad_key = json!({"code": "invalid", "error": format!("Incorrect API key provided: {KEY}")});
    let denied = Answer::refusal(403, "denied", "not for you");
    let gone = Answer::json(404, &json!({"code": "x", "error": "The model grok-beta does not exist"}));
    let failures: [Failure; 5] = [
        (Answer::json(400, &bad_key), 10, "auth", &["Incorrect API key provided: ***", "al creds add"]),
        (denied, 11, "permission", &["HTTP 403: not for you"]),
        (gone, 13, "invalid_request", &["does not exist", "consider grok-4.7"]),
        broken(),
        (text("I cannot").stop("refusal").chat(), 15, "refusal", &["refused to answer"]),
    ];
    assert_failures("xai", "grok-beta", failures);
}
