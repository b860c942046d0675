//! What a request says besides the conversation: parameters, headers, marks for the cache.

use super::*;

#[test]
fn parameters_by_provider() {
    #[track_caller]
    fn case(provider: &str, model: &str, extra: Value) {
        let mut seen = body(&table(provider, model), &[prompt()], &[]);
        let members = seen.as_object_mut().unwrap();
        for everywhere in ["model", "messages", "tools"] {
            assert!(members.remove(everywhere).is_some());
        }
        assert_eq!(seen, extra, "{provider} {model}");
    }
    let usage = json!({"include_usage": true});
    let openai = json!({"provider": "openai", "model": "gpt-5", "api": "chat"});
    let mut seen = body(&openai, &[prompt()], &[]);
    assert_eq!(seen["messages"][0]["role"], "developer");
    assert_eq!(seen["prompt_cache_key"].as_str().map(str::len), Some(36));
    for name in ["model", "messages", "tools", "prompt_cache_key"] {
        seen.as_object_mut().unwrap().remove(name);
    }
    let expected = json!({"stream": true, "stream_options": usage, "max_completion_tokens": 32_000,
        "reasoning_effort": "medium", "store": false});
    assert_eq!(seen, expected);
    let plain = json!({"stream": true, "stream_options": usage, "max_completion_tokens": 32_000});
    let with = |name: &str, value: Value, limit: u64| {
        let mut all = plain.clone();
        all[name] = value;
        all["max_completion_tokens"] = json!(limit);
        all
    };
    case("groq", "llama-3.3-70b-versatile", plain.clone());
    case("groq", "openai/gpt-oss-120b", with("reasoning_effort", json!("medium"), 32_000));
    case("xai", "grok-4.7", plain.clone());
    case("xai", "grok-3-mini", with("reasoning_effort", json!("high"), 8192));
    case(
        "mistral",
        "magistral-medium-latest",
        json!({"stream": true, "max_tokens": 16_384, "prompt_mode": "reasoning"}),
    );
    case("mistral", "mistral-large-4", json!({"stream": true, "max_tokens": 32_000, "reasoning_effort": "high"}));
    let include = json!({"include": true});
    let mut router = with("reasoning", json!({"effort": "medium"}), 16_384);
    router["usage"] = include;
    case("openrouter", "x-ai/grok-4", router);
    case("custom", "m", json!({"stream": true, "stream_options": usage, "max_tokens": 16_384}));
    let developer = json!({"provider": "openai", "model": "gpt-4o", "api": "chat"});
    assert_eq!(body(&developer, &[prompt()], &[])["messages"][0]["role"], "system");
}

#[test]
fn headers_by_provider() {
    let of = |provider: &str, extra: Value| {
        let mut table = table(provider, "m");
        table.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        received(&table, &[prompt()], &[], DONE)
    };
    let router = of("openrouter", json!({}));
    assert_eq!(router.header("http-referer"), Some("https://github.com/action-llama/action-llama"));
    assert_eq!((router.header("x-title"), router.header("authorization")), (Some("action llama"), Some("bearer k")));
    assert_eq!(of("groq", json!({})).header("x-title"), None);
    assert_eq!(of("mistral", json!({"cacheRetention": "none"})).header("x-affinity"), None);
    let custom = of("custom", json!({"authHeader": "X-Key", "headers": {"accept": "*/*"}}));
    assert_eq!((custom.header("x-key"), custom.header("authorization")), (Some("k"), None));
    assert_eq!(custom.header("accept"), Some("*/*"));
    let server = Fake::start(vec![Given::stream(DONE)]);
    ask(&mut *provider(&server.url, &table("custom", "m"), " "), &[prompt()], &[]).1.unwrap();
    assert_eq!(server.received()[0].header("authorization"), None);
}

#[test]
fn switches_of_a_server_of_ones_own() {
    let custom = |compat: Value| json!({"provider": "custom", "model": "m", "reasoning": true, "images": true, "compat": compat});
    let content = vec![call("call-number-one", "read", &json!({}))];
    let said = said("custom", "m", content);
    let messages = [prompt(), said, text_result("call-number-one", "read", "x"), user("And?")];
    let all = json!({"maxTokensField": "max_completion_tokens", "usageInStream": false, "reasoningParam": "reasoning",
        "developerRole": true, "assistantAfterTool": true, "toolResultName": true, "shortToolIds": true,
        "cacheControl": true});
    let body = body(&custom(all), &messages, &[]);
    assert_eq!((body.get("stream_options"), body.get("max_tokens")), (None, None));
    assert_eq!((&body["max_completion_tokens"], &body["reasoning"]), (&json!(16_384), &json!({"effort": "medium"})));
    let [system, _, said, result, between, last] = body["messages"].as_array().unwrap().as_slice() else {
        panic!("{body:#}")
    };
    let mark = json!({"type": "ephemeral"});
    assert_eq!((&system["role"], &system["content"][0]["cache_control"]), (&json!("developer"), &mark));
    let id = said["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!((id.len(), &result["tool_call_id"], &result["name"]), (9, &json!(id), &json!("read")));
    assert_eq!(*between, json!({"role": "assistant", "content": "Continuing."}));
    assert_eq!(*last, json!({"role": "user", "content": [{"type": "text", "text": "And?", "cache_control": mark}]}));

    let plain = self::body(&custom(json!({})), &messages, &[]);
    assert_eq!((&plain["reasoning_effort"], &plain["messages"][0]["role"]), (&json!("medium"), &json!("system")));
    let ids = [&plain["messages"][2]["tool_calls"][0]["id"], &plain["messages"][3]["tool_call_id"]];
    assert_eq!(ids, ["call-number-one", "call-number-one"]);
    assert_eq!(plain["messages"][4], json!({"role": "user", "content": "And?"}));
}

#[test]
fn cache_marks_for_anthropic_behind_openrouter() {
    let table = table("openrouter", "anthropic/claude-sonnet-4.5");
    let mark = json!({"type": "ephemeral"});
    let one = |text: &str| json!([{"type": "text", "text": text, "cache_control": mark}]);
    let router = |content| said("openrouter", "anthropic/claude-sonnet-4.5", content);
    let calls = || call("a", "bash", &json!({}));
    let result = text_result("a", "bash", "x");
    let first = body(&table, &[prompt()], &[]);
    assert_eq!(first["messages"][0]["content"][0]["cache_control"], mark);
    assert_eq!(first["messages"][1]["content"], one("You have been triggered manually."));
    // The last text that is not a result, even if a result is newer.
    let spoken = body(&table, &[prompt(), router(vec![text("Now."), calls()]), result.clone()], &[]);
    assert_eq!(spoken["messages"][2]["content"], one("Now."));
    assert_eq!(spoken["messages"][1]["content"], "You have been triggered manually.");
    let silent = body(&table, &[prompt(), router(vec![calls()]), result], &[]);
    assert_eq!(silent["messages"][1]["content"], one("You have been triggered manually."));
    assert_eq!(silent.to_string().matches("cache_control").count(), 2);

    let mut none = table.clone();
    none["cacheRetention"] = json!("none");
    assert!(!body(&none, &[prompt()], &[]).to_string().contains("cache_control"));
    assert!(!body(&table, &[prompt()], &["cache_control"]).to_string().contains("cache_control"));
    assert!(!body(&self::table("openrouter", "x-ai/grok-4"), &[prompt()], &[]).to_string().contains("cache_control"));
}

#[test]
fn what_was_refused_is_left_out() {
    let openai = json!({"provider": "openai", "model": "gpt-5", "api": "chat"});
    for (table, name) in [
        (&openai, "stream_options"),
        (&openai, "reasoning_effort"),
        (&openai, "store"),
        (&openai, "prompt_cache_key"),
        (&table("openrouter", "x-ai/grok-4"), "usage"),
        (&table("openrouter", "x-ai/grok-4"), "reasoning"),
        (&table("mistral", "magistral-small"), "prompt_mode"),
    ] {
        assert!(body(table, &[prompt()], &[]).get(name).is_some(), "{name}");
        assert!(body(table, &[prompt()], &[name]).get(name).is_none(), "{name}");
    }
    let limits = |table: &Value, refused: &[&str]| {
        let body = body(table, &[prompt()], refused);
        ["max_completion_tokens", "max_tokens"].map(|name| body.get(name).is_some())
    };
    assert_eq!(limits(&openai, &[]), [true, false]);
    assert_eq!(limits(&openai, &["max_completion_tokens"]), [false, true]);
    assert_eq!(limits(&openai, &["max_tokens"]), [true, false]);
    assert_eq!(limits(&table("custom", "m"), &["max_tokens"]), [true, false]);
    assert_eq!(limits(&openai, &["max_completion_tokens", "max_tokens"]), [false, false]);
}

#[test]
fn a_request_without_tools_has_them_only_for_the_calls_in_it() {
    let without = |messages: &[Message]| {
        let server = Fake::start(vec![Given::stream(DONE)]);
        let table = json!({"provider": "groq", "model": "openai/gpt-oss-120b", "thinkingLevel": "high"});
        send(&mut *provider(&server.url, &table, "k"), messages, &[], false).1.unwrap();
        server.received().remove(0).body
    };
    let body = without(&[prompt()]);
    assert_eq!((body.get("tools"), &body["reasoning_effort"]), (None, &json!("low")));
    let content = vec![call("a", "bash", &json!({}))];
    let body = without(&[prompt(), said("groq", "openai/gpt-oss-120b", content), text_result("a", "bash", "x")]);
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(4));
}
