//! Errors in a stream and in its place, and servers that do not stream.

use super::*;

#[test]
fn errors_inside_a_stream() {
    #[track_caller]
    fn case(stream: &str, kind: Kind, words: &str) -> ModelError {
        let begun = format!("{}{stream}", &TOOL_TURN[..event_ends(TOOL_TURN)[1]]);
        let error = read_from("openrouter", &begun).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        error
    }
    let router = json!({"id": "gen-2", "object": "chat.completion.chunk", "created": 1773929731, "model": "anthropic/claude-sonnet-4.5", "error": {"code": 502, "message": "Provider returned error", "metadata": {"provider_name": "Anthropic", "raw": "upstream closed"}}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    case(&sse(&[router]), Kind::Server, "Provider returned error: upstream closed");
    let of_code =
        |code: Value| sse(&[json!({"error": {"code": code, "message": "no", "metadata": {}}, "choices": []})]);
    case(&of_code(json!(429)), Kind::RateLimit, "no");
    case(&of_code(json!(402)), Kind::Quota, "no");
    case(&of_code(json!(401)), Kind::Auth, "no");
    case(&of_code(json!(503)), Kind::Overloaded, "no");
    case(&of_code(json!("rate_limit_exceeded")), Kind::RateLimit, "no");
    case(&of_code(json!("tool_use_failed")), Kind::Malformed, "no");
    case(&of_code(json!("brand_new")), Kind::Server, "no");
    let raw = json!({"error": {"code": 400, "message": "Provider returned error",
        "metadata": {"raw": "{\"message\":\"prompt is too long: 9 > 8\"}"}}});
    case(&sse(&[raw]), Kind::ContextOverflow, "prompt is too long");
    case("event: error\ndata: {\"message\":\"late\",\"code\":\"server_error\"}\n\n", Kind::Server, "late");
    let old = json!({"object": "error", "message": "Try again in 2s", "type": "rate_limit_error", "code": null});
    assert_eq!(case(&sse(&[old]), Kind::RateLimit, "Try").wait, Some(Duration::from_secs(2)));
    let in_choice = json!({"choices": [{"error": {"message": "inner", "code": 503}, "finish_reason": "error"}]});
    case(&sse(&[in_choice]), Kind::Overloaded, "inner");
    case("data: {\"choices\":\n\n", Kind::Malformed, "JSON");
    case("data: [1]\n\n", Kind::Malformed, "JSON");
    case("data: pong\n\n", Kind::Malformed, "JSON");
}

#[test]
fn errors_of_answers() {
    #[track_caller]
    fn case(provider: &str, given: Given, kind: Kind, words: &str) -> ModelError {
        let server = Fake::start(vec![given.header("x-request-id", "req_1")]);
        let model = if provider == "openrouter" { "x-ai/grok-4" } else { "mistral-small-latest" };
        let mut table = table(provider, model);
        table["idleTimeout"] = json!(1);
        let error = ask(&mut *self::provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        assert_eq!(error.request_id.as_deref(), Some("req_1"));
        error
    }
    let limited = r#"{"error": {"message": "Rate limit reached for model `llama-3.3-70b-versatile`. Please try again in 7.66s.", "type": "tokens", "code": "rate_limit_exceeded"}}"#;
    let error = case("groq", Given::json(429, limited), Kind::RateLimit, "Rate limit reached");
    assert_eq!(error.wait, Some(Duration::from_millis(7660)));
    let error = case("groq", Given::json(429, limited).header("retry-after", "12"), Kind::RateLimit, "");
    assert_eq!(error.wait, Some(Duration::from_secs(12)));
    let unusable = r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<x>"}}"#;
    case("groq", Given::json(400, unusable), Kind::Malformed, "Failed to call");
    let key = r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: k. You can obtain one"}"#;
    case("xai", Given::json(400, key), Kind::Auth, "Incorrect API key");
    case(
        "xai",
        Given::json(404, r#"{"code":"x","error":"The model does not exist"}"#),
        Kind::InvalidRequest,
        "does not exist",
    );
    case("mistral", Given::json(401, r#"{"message":"Unauthorized","request_id":"a"}"#), Kind::Auth, "Unauthorized");
    let detail = r#"{"detail":[{"type":"extra_forbidden","loc":["body","reasoning_effort"],"msg":"Extra inputs are not permitted"}]}"#;
    let error = case("mistral", Given::json(422, detail), Kind::InvalidRequest, "extra_forbidden");
    assert_eq!(error.rejected.as_deref(), Some("reasoning_effort"));
    let capacity = r#"{"object":"error","message":"Service tier capacity exceeded","type":"service_tier_capacity_exceeded","code":"3505"}"#;
    case("mistral", Given::json(429, capacity), Kind::RateLimit, "capacity");
    let raw = r#"{"error":{"code":400,"message":"Provider returned error","metadata":{"raw":"maximum context length is 8192 tokens"}}}"#;
    case("openrouter", Given::json(400, raw), Kind::ContextOverflow, "Provider returned error: maximum context");
    case(
        "openrouter",
        Given::json(402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#),
        Kind::Quota,
        "credits",
    );
    let limit = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#;
    assert_eq!(
        case("custom", Given::json(400, limit), Kind::InvalidRequest, "").rejected.as_deref(),
        Some("max_tokens")
    );
    let options = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options"}}"#;
    assert_eq!(
        case("custom", Given::json(400, options), Kind::InvalidRequest, "").rejected.as_deref(),
        Some("stream_options")
    );
    let full = r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#;
    case("custom", Given::json(400, full), Kind::ContextOverflow, "available context size");
    case("custom", Given::json(500, "boom"), Kind::Server, "HTTP 500: boom");
    case("custom", Given::json(200, "pong"), Kind::Malformed, "neither");
    case("custom", Given::json(200, "{}"), Kind::Malformed, "neither");
    case("custom", Given::json(200, r#"{"error":{"message":"busy","type":"server_error"}}"#), Kind::Server, "busy");
    let early = event_ends(TOOL_TURN)[3];
    case("custom", Given::stream(&TOOL_TURN[..early]), Kind::Network, "stream ended early");
    case("custom", Given::stream(&TOOL_TURN[..early]).hang(), Kind::Network, "nothing received for 1 s");
}

#[test]
fn a_server_that_says_nothing_after_the_finish_has_said_everything() {
    let finished = event_ends(TOOL_TURN)[6];
    for given in [Given::stream(&TOOL_TURN[..finished]).cut(), Given::stream(&TOOL_TURN[..finished]).hang()] {
        let server = Fake::start(vec![given]);
        let table = json!({"provider": "custom", "model": "m", "idleTimeout": 1});
        let answer = ask(&mut *provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap();
        assert_eq!((answer.calls().count(), answer.usage), (2, Usage::default()));
    }
}

#[test]
fn a_server_that_does_not_stream() {
    let calls =
        json!([{"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{\"command\":\"x\"}"}}]);
    let message = json!({"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "tool_calls": calls});
    let answer = json!({"object": "chat.completion", "error": null,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let server = Fake::start(vec![Given::json(200, &answer.to_string())]);
    let (deltas, answer) = ask(&mut *provider(&server.url, &table("custom", "m"), "k"), &[prompt()], &[]);
    let answer = answer.unwrap();
    assert_eq!(deltas, ["thinking Hm.", "text Hi"]);
    assert_eq!((answer.stop, answer.usage.output_tokens), (Stop::ToolUse, 4));
    assert_eq!(answer.calls().next().unwrap().args["command"], "x");
}
