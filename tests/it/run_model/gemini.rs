//! The same with a model behind Google's API.

use serde_json::{Value, json};

use super::bench::Bench;
use crate::support::llm::{Answer, Reply, text};

const KEY: &str = "AIzaSyD-this_is_not_a_key-0123456789-abcdef";

fn bench(agent: &str) -> Bench {
    let bench = Bench::with_model(agent, "provider = 'google'\nmodel = 'gemini-3.8-flash'\n");
    bench.project.credential("google_key", "token", KEY);
    bench
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn tools_are_carried_out_and_signatures_sent_back() {
    let signature = "CiQBVKhc7kEXAMPLE0a1b2c3d4e5f6g7hw==";
    let first = Reply::new()
        .thinking("Ask the machine.", "")
        .text("Let me see.")
        .signed_bash("printf 'one\\ntwo'", signature)
        .call("call-b", "bash", &json!({"command": "env | grep -c AIza; exit 3"}))
        .usage(1000, 200, 0, 0);
    let last = text("All done.").usage(50, 6, 1100, 0);
    let bench = bench("");
    let (run, requests) = bench.run(0, [first.gemini().in_pieces(7), last.gemini()]);

    for request in &requests {
        assert_eq!(request.line, "POST /models/gemini-3.8-flash:streamGenerateContent?alt=sse");
        assert_eq!((request.header("x-goog-api-key"), request.header("authorization")), (Some(KEY), None));
        let body = &request.body;
        assert_eq!(body["systemInstruction"], requests[0].body["systemInstruction"]);
        let names: Vec<&Value> =
            body["tools"][0]["functionDeclarations"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "bash", "edit", "write"]);
        let config = json!({"maxOutputTokens": 32000, "thinkingConfig": {"thinkingLevel": "MEDIUM"}});
        assert_eq!(body["generationConfig"], config);
    }
    let contents = requests[1].body["contents"].as_array().unwrap();
    assert_eq!(contents[0], requests[0].body["contents"][0]);
    let said = json!({"role": "model", "parts": [
        {"text": "Let me see."},
        {"functionCall": {"name": "bash", "args": {"command": "printf 'one\\ntwo'"}}, "thoughtSignature": signature},
        {"functionCall": {"id": "call-b", "name": "bash", "args": {"command": "env | grep -c AIza; exit 3"}}}]});
    let results = json!({"role": "user", "parts": [
        {"functionResponse": {"name": "bash", "response": {"output": "one\ntwo"}}},
        {"functionResponse": {"id": "call-b", "name": "bash",
            "response": {"error": "0\n\nCommand exited with code 3"}}}]});
    assert_eq!(contents[1..], [said, results]);

    let result = run.done.result();
    let cost = (1050.0 * 0.75 + 206.0 * 3.75 + 1100.0 * 0.075) / 1e6;
    assert!((result["usage"]["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{result}");
    assert_eq!((&result["usage"]["cacheReadTokens"], &result["usage"]["turnCount"]), (&json!(1100), &json!(2)));
    assert_eq!(run.only("run completed")["outputLength"], "Let me see.All done.".len());
    assert!(!run.shown().contains(KEY) && !run.shown().contains("Ask the machine"));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn errors_end_the_run_with_what_google_said() {
    let bench = bench("");
    let info = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]);
    let limited = Answer::gemini_error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", info);
    let info = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let refused = Answer::gemini_error(400, "INVALID_ARGUMENT", &format!("API key not valid: {KEY}"), info);
    let unreadable = Reply::new().text("I call").stop("MALFORMED_FUNCTION_CALL");
    let (run, requests) = bench.run_with(&[], 10, [limited, unreadable.gemini(), refused]);
    assert!(requests[1].at - requests[0].at >= std::time::Duration::from_secs(1));
    assert_eq!(requests[0].body, requests[2].body);
    let retries: Vec<Value> = run.log("retrying request").iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(retries, ["rate_limit", "malformed"]);
    let error = run.only("session error");
    assert_eq!((&error["kind"], &error["provider"]), (&json!("auth"), &json!("google")));
    for words in ["API key not valid: ***", "exited with code 10 (", "al creds add"] {
        assert!(run.done.stdout.contains(words), "no {words:?}");
    }
    assert!(!run.done.stdout.contains("ompleted") && !run.shown().contains(KEY));
}
